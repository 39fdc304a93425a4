"""The parts of the data: what is trained on, what points are chosen by, and what judges them."""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._shapes import PyTree
from jaxdeep.datasets import Dataset, split
from jaxdeep.fitting.holdout import is_share
from jaxdeep.train.data import as_arrays, count_examples

SHARE = 0.2  # of the rows for validation and for the test, where nothing is said


class Parts(NamedTuple):
    """The data of a comparison.

    Attributes:
      train: rows that networks are trained on.
      validation: rows by which each candidate's point is chosen.
      test: rows that judge the chosen points, once.
    """

    train: PyTree
    validation: PyTree
    test: PyTree


def parts_of(data: Any, validation: Any, test: Any, *, seed: int) -> Parts:
    """The parts that were given; what is missing is drawn from the training rows.

    Classes, if the targets are whole numbers of one column, have equal shares in all parts. What is
    drawn depends on the seed and the number of rows alone.

    Args:
      data: the pair ``(x, y)`` or triple ``(x, y, weights)``, or a `jaxdeep.datasets.Dataset`.
      validation, test: data of the same form, or shares of all rows in (0, 1).
      seed: of the draw.

    Raises:
      ValueError, TypeError: shares that leave no rows, a share where the part was given.

    >>> x, y = np.arange(10.0)[:, None], np.arange(10) % 2
    >>> [len(part[1]) for part in parts_of((x, y), 0.2, 0.2, seed=0)]
    [6, 2, 2]
    """
    drawn, shares = _drawn(data, validation, test), shares_of(data, validation, test)
    data = as_arrays(data.train if isinstance(data, Dataset) else data)
    for name, share in shares.items():
        _checks.check_number(name, share, "(0, 1)")
    if not shares:
        return Parts(data, *(_given(part, name) for name, part in drawn.items()))
    if sum(shares.values()) >= 1:
        raise ValueError(
            "validation and test must leave rows to train on, got shares of "
            + " and ".join(f"{share:g}" for share in shares.values())
        )
    rows = count_examples(data)
    if rows < len(shares) + 1:
        raise ValueError(f"data must have a row for each part at least, {len(shares) + 1}, got {rows}")
    train, *others = split(
        data, (None, *shares.values()), stratify=_labels(data, len(shares) + 1), seed=seed
    )
    taken = dict(zip(shares, others))
    parts = {name: taken[name] if name in taken else _given(part, name) for name, part in drawn.items()}
    return Parts(train, parts["validation"], parts["test"])


def shares_of(data: Any, validation: Any, test: Any) -> dict[str, Any]:
    """The share of the rows that each part is drawn as, of those parts that were not given.

    >>> x = np.arange(10.0)
    >>> shares_of((x, x), None, (x, x)), shares_of((x, x), 0.1, 0.3)
    ({'validation': 0.2}, {'validation': 0.1, 'test': 0.3})
    """
    drawn = _drawn(data, validation, test)
    return {name: part for name, part in drawn.items() if is_share(part)}


def _drawn(data: Any, validation: Any, test: Any) -> dict[str, Any]:
    """Both parts by name: what was given, or the share of the rows."""
    parts: dict[str, Any] = {"validation": validation, "test": test}
    if isinstance(data, Dataset):
        for name, in_data in (("validation", data.validation), ("test", data.test)):
            if in_data is not None and parts[name] is not None:
                raise ValueError(f"{name} must be left out: the data set has rows for it")
            parts[name] = in_data if in_data is not None else parts[name]
    return {name: SHARE if part is None else part for name, part in parts.items()}


def _given(part: Any, name: str) -> PyTree:
    part = as_arrays(part, name)
    count_examples(part, name)
    return part


def not_finite(part: PyTree) -> tuple[np.ndarray, np.ndarray]:
    """Which rows have an input that is no finite number, and which a target; of those that count.

    >>> x, y = np.array([[1.0], [np.nan], [2.0]]), np.array([0.0, 1.0, np.inf])
    >>> not_finite((x, y)), not_finite((x, y, np.array([1.0, 0.0, 0.0])))[1].any()
    ((array([False,  True, False]), array([False, False,  True])), np.False_)
    """
    counts = np.asarray(part[2]) != 0 if len(part) > 2 else np.ones(count_examples(part), bool)

    def odd(side: PyTree) -> np.ndarray:
        is_odd = np.zeros(len(counts), bool)
        for leaf in map(np.asarray, jax.tree.leaves(side)):
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                wide = leaf.astype(jnp.promote_types(leaf.dtype, np.float32), copy=False)
                is_odd |= ~np.isfinite(wide).reshape(len(leaf), -1).all(axis=1)
        return is_odd & counts

    return odd(part[0]), odd(part[1])


def shares_seen(part: PyTree, *others: PyTree) -> tuple[float, ...]:
    """The share of the rows of a part that stand in each of others, too.

    >>> x = np.arange(6.0)[:, None]
    >>> shares_seen((x[2:], x[2:]), (x[:4], x[:4]), (x, x))
    (0.5, 1.0)
    """
    rows = [*_rows(part)]
    return tuple(sum(map(set(_rows(other)).__contains__, rows)) / max(len(rows), 1) for other in others)


def _rows(part: PyTree) -> Iterator[bytes]:
    """The bytes of each row."""
    arrays = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(part)]
    for row in zip(*arrays):
        yield hashlib.blake2b(b"".join(one.tobytes() for one in row), digest_size=16).digest()


def _labels(data: PyTree, least: int) -> Any:
    """The classes of the rows, if each has a row for every part."""
    if not isinstance(data, (tuple, list)) or len(data) < 2:
        return None
    labels = np.asarray(data[1])
    if labels.dtype.kind not in "iub" or labels.size != len(labels):
        return None
    labels = labels.reshape(-1)
    return labels if np.unique(labels, return_counts=True)[1].min() >= least else None
