"""Folds: which rows of the data a run of a cross-validation is trained on, and which it is judged by."""

import reprlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

import jax
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._partitions import Rows, codes_of, k_folds
from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.search.resampling.subset import Subset
from jaxdeep.train.data import count_rows

Pair = tuple[ArrayLike, ArrayLike]  # indices of the rows for training and for validation


@runtime_checkable
class Splitter(Protocol):
    """What scikit-learn's splitters are, such as `sklearn.model_selection.RepeatedKFold`."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterable[Pair]:
        """Pairs of indices for training and for validation."""


Folds: TypeAlias = int | Iterable[Pair] | Splitter


def bootstrap_samples(n: int, samples: int, *, seed: int = 0) -> list[tuple[Rows, Rows]]:
    """Folds of the bootstrap: `n` rows drawn with replacement, and the rows that were not drawn.

    About 63 % of the rows are drawn, some of them several times; the others, which are out of the bag,
    are for validation: ``cross_validate(…, folds=bootstrap_samples(len(x), 20))``. Every sample has as
    many of these as the sample with the fewest, the others being left out at random, so that one program
    serves all samples.

    Args:
      n: rows of the data, ≥ 2.
      samples: how many, ≥ 1. More samples begin with those of fewer, but for rows left out.
      seed: of the draws, ≥ 0.

    Raises:
      ValueError, TypeError: an argument that is out of range.

    Source: Efron & Tibshirani, "Improvements on Cross-Validation: The .632+ Bootstrap Method" (1997).

    >>> (train, validate), *others = bootstrap_samples(100, 3)
    >>> len(train), len(validate) == len(others[0][1]), len({*train} & {*validate})
    (100, True, 0)
    """
    n = _checks.check_count("n", n, low=2)
    samples = _checks.check_count("samples", samples)
    seed = _checks.check_count("seed", seed, low=0)
    drawn, left = [], []
    for sample in range(samples):
        rng = np.random.default_rng([seed, sample])
        out = np.zeros(0, int)
        while not len(out):  # of a few rows all may be drawn
            rows = np.sort(rng.integers(0, n, n))
            out = rng.permutation(np.setdiff1d(np.arange(n), rows))
        drawn.append(rows)
        left.append(out)
    fewest = min(map(len, left))
    return [(rows, np.sort(out[:fewest])) for rows, out in zip(drawn, left)]


def subsets_of(
    folds: Folds,
    data: PyTree,
    *,
    stratify: bool | ArrayLike | Sequence[Any] | None,
    groups: ArrayLike | Sequence[Any] | None,
    shuffle: bool,
    key: jax.Array | None,
) -> list[Subset]:
    """The folds of `jaxdeep.search.cross_validate`, each a subset with its number and sizes."""
    _checks.check_flag("shuffle_folds", shuffle)
    rows = count_rows(data)
    labels = labels_of(stratify, data, rows)
    is_asked = stratify is not None and labels is not None
    grouped = None if groups is None else codes_of("groups", groups, rows)
    pairs: list[Any]
    if _checks.is_whole(folds):
        number = _checks.check_count("folds", folds, low=2)
        pairs = _drawn(number, rows, labels, grouped, key, is_asked=is_asked, shuffle=shuffle)
    elif isinstance(folds, Splitter) and not isinstance(folds, (type, str, bytes)):
        if grouped is None and "Group" in type(folds).__name__:
            raise ValueError(f"{type(folds).__name__} needs groups=, the group of each row; got None")
        if labels is None and "Stratified" in type(folds).__name__:
            raise ValueError(
                f"{type(folds).__name__} needs stratify=, the class of each row, since the data have no "
                "y of one whole number a row; got None"
            )
        pairs = list(folds.split(np.zeros((rows, 1)), labels, grouped))
    elif _is_list(folds):
        for name, is_given in (("stratify", is_asked), ("groups", groups is not None)):
            if is_given:
                raise ValueError(f"{name} is for a number of folds; these folds say which rows: drop it")
        pairs = list(cast(Iterable[Any], folds))
    else:
        raise TypeError(
            "folds must be a whole number, a list of pairs (training rows, validation rows) or a "
            f"splitter of scikit-learn, got {folds!r}"
        )
    if not pairs:
        raise ValueError("folds must be one pair of rows at least, got none")
    return [_subset(i, pair, rows) for i, pair in enumerate(pairs)]


def labels_of(stratify: Any, data: PyTree, rows: int) -> np.ndarray | None:
    """The labels whose classes have equal shares in each part of the data, as numbers from 0.

    With None these are the y of data ``(x, y)`` if it is one whole number a row; with True it must be.

    >>> labels_of(None, (np.zeros((3, 1)), np.array([7, 5, 7])), 3).tolist()
    [1, 0, 1]
    """
    is_flag = isinstance(stratify, (bool, np.bool_))
    if is_flag and not stratify:
        return None
    if stratify is not None and not is_flag:
        return codes_of("stratify", stratify, rows)
    y = data[1] if isinstance(data, (tuple, list)) and len(data) > 1 else None
    if isinstance(y, (jax.Array, np.ndarray)) and y.shape in ((rows,), (rows, 1)):
        known = np.asarray(y)
        if known.dtype.kind in "iub" or bool(np.all(np.floor(known.astype(float)) == known)):
            return codes_of("stratify", known, rows)
    if stratify:
        raise ValueError(
            "stratify=True needs data (x, y) whose y is one class a row; give labels, one a row, instead"
        )
    return None


def _is_list(folds: object) -> bool:
    """Whether there may be pairs in it; an array of no axes cannot be iterated over."""
    several = isinstance(folds, Iterable) and not isinstance(folds, (str, bytes, dict, type))
    return several and getattr(folds, "ndim", 1) > 0


def key_words(key: jax.Array | None) -> list[int]:
    """Numbers that say what a key is, for NumPy's generators; 0 without a key."""
    return [0] if key is None else np.asarray(jax.random.key_data(key)).reshape(-1).tolist()


def _drawn(
    folds: int,
    rows: int,
    labels: np.ndarray | None,
    groups: np.ndarray | None,
    key: jax.Array | None,
    *,
    is_asked: bool,
    shuffle: bool,
) -> list[Pair]:
    """A partition of the rows into so many folds."""
    if folds > rows:
        raise ValueError(f"folds must be at most the number of rows, {rows}, got {folds}")
    if is_asked and labels is not None and (least := np.bincount(labels).min()) < folds:
        raise ValueError(
            f"stratify must have a row of each class for each of {folds} folds, got a class of {least}"
        )
    if groups is not None and (several := groups.max() + 1) < folds:
        raise ValueError(f"folds must be at most the number of groups, {several}, got {folds}")
    if groups is not None and not is_asked:
        labels = None
    # the generator of scikit-learn, so that these are the folds of KFold(shuffle=True, random_state=0)
    state = np.random.RandomState(0 if key is None else key_words(key)) if shuffle else None
    held_out = k_folds(folds, rows, state, labels=labels, groups=groups)
    return [(np.setdiff1d(np.arange(rows), part), part) for part in held_out]


def _subset(number: int, pair: Any, rows: int) -> Subset:
    name = f"folds[{number}]"
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(
            f"{name} must be a pair (training rows, validation rows), got {reprlib.repr(pair)}"
        )
    train, validate = (_indices(f"{name}[{i}]", chosen, rows) for i, chosen in enumerate(pair))
    if len(both := np.intersect1d(train, validate)):
        raise ValueError(
            f"{name} has {len(both)} rows both for training and for validation, such as row {both[0]}"
        )
    sizes = {"n_train": len(np.unique(train)), "n_validate": len(np.unique(validate))}
    return Subset({"fold": number, **sizes}, train, validate)


_FEW = 10  # rows, of which a bootstrap sample may hold the first two alone


def _indices(name: str, chosen: Any, rows: int) -> Rows:
    """Indices of rows, or a mask of them, as indices."""
    array = np.asarray(as_array(name, chosen))
    if array.dtype == bool and array.shape != (rows,):
        raise ValueError(f"{name} must be a mask of {rows} rows, got one of shape {array.shape}")
    if array.dtype == bool:
        array = np.flatnonzero(array)
    if array.ndim != 1:
        raise ValueError(f"{name} must be a list of rows, got an array of shape {array.shape}")
    if not len(array):
        raise ValueError(f"{name} must hold rows, got none")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be whole numbers or a mask of booleans, got {array.dtype}")
    if array.shape == (rows,) and rows >= _FEW and not np.any((array != 0) & (array != 1)):
        raise ValueError(
            f"{name} must be numbers of rows, or a mask of booleans; these are {rows} zeros and ones, "
            "as many as there are rows: make the mask boolean, mask.astype(bool)"
        )
    outside = array[(array < 0) | (array >= rows)]
    if len(outside):
        raise ValueError(f"{name} must be rows in [0, {rows}), got {outside[0]}")
    return array.astype(np.int32)
