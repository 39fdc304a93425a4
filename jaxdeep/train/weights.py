"""Weights of examples and of classes."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, on_device, weights_of_rows
from jaxdeep._compilation import check_untraced, inside, is_traced
from jaxdeep._precision import HostOrDevice, check_holds
from jaxdeep._shapes import Array, ArrayLike, Bool, Float, Num, PyTree
from jaxdeep.losses.meaning import OF_BITS, OF_CLASSES
from jaxdeep.train.state import PerExample

Table = np.ndarray | jax.Array  # of the weights of classes; of JAX where some of them are traced

BALANCED = "balanced"
_MOST_CLASSES = 2**24


def balanced_class_weight(y: ArrayLike, *, weights: ArrayLike | None = None) -> np.ndarray:
    """The weights with which each class counts as much as any other: ``w_k = n / (K n_k)``.

    K is the number of classes that occur, n_k the number of rows of class k (or the sum of their
    weights) and n that of all rows. The mean over the rows is 1, so that the loss keeps its size. It is
    what ``jd.fit(…, class_weight="balanced")`` takes, for `jaxdeep.train.supervised` and `make_run`.

    Args:
      y: classes, numbered from 0, ``(n,)`` or ``(n, 1)``; or their shares, one-hot or soft,
        ``(n, classes)``.
      weights: of the rows, ``(n,)``; those of weight 0 are not looked at.

    Returns:
      ``(classes,)``, float64, up to the largest class; 1 for a class that does not occur.

    Raises:
      ValueError: labels that are no classes, several a row, or none.
      TypeError: labels of another kind, traced values.

    Source: King & Zeng, "Logistic Regression in Rare Events Data" (2001); scikit-learn's
    `compute_class_weight`.

    >>> balanced_class_weight([0, 0, 0, 2]).round(3).tolist()
    [0.667, 1.0, 2.0]
    """
    check_untraced(
        *("balanced_class_weight", y, weights),
        does="counts labels on the host",
        instead="a class_weight of numbers",
    )
    raw_labels: Any = y
    if isinstance(raw_labels, Mapping):
        check_one_output("class_weight='balanced' is", raw_labels)
    if not (hasattr(raw_labels, "shape") or isinstance(raw_labels, (list, tuple))):
        raise TypeError(f"class_weight='balanced' is for labels y of one output, got {raw_labels!r}")
    labels = np.asarray(as_array("y", raw_labels))
    rows = np.ones(labels.shape[:1]) if weights is None else np.asarray(weights_of_rows(weights))
    _checks.check_weights(rows)
    if not labels.ndim or rows.shape != labels.shape[:1]:
        raise ValueError(
            f"weights must be one a row of y, got shape {rows.shape} for y of shape {labels.shape}"
        )
    labels, rows = labels[rows > 0], rows[rows > 0].astype(float)
    if not len(labels):
        raise ValueError("y must have rows that count to balance their classes, got none")
    if labels.ndim == 2 and labels.shape[1] > 1:
        _checks.check_distributions("labels to balance", labels.astype(float))
        held = rows @ labels.astype(float)
    else:
        if labels.ndim > 2 or labels.shape[1:] not in ((), (1,)):
            raise ValueError(
                f"class_weight='balanced' needs one class a row, got y of shape {labels.shape}"
            )
        held = np.bincount(_whole_classes(labels.reshape(-1)), rows)
    occurs = held > 0
    table = np.ones(len(held))
    table[occurs] = held.sum() / (occurs.sum() * held[occurs])
    return table


def _whole_classes(labels: np.ndarray) -> np.ndarray:
    """Labels as whole numbers; refuses those that number no class."""
    values = labels.astype(float)
    wrong = ~((values >= 0) & (values < _MOST_CLASSES) & (values == np.floor(values)))
    if wrong.any():
        raise ValueError(
            "class_weight='balanced' needs labels that are classes, numbered from 0, got "
            f"{labels[wrong][0]}"
        )
    return values.astype(int)


def check_one_output(who: str, y: Any) -> None:
    """Refuse targets of several outputs.

    >>> check_one_output("class_weight is", {"a": np.zeros(3)})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: class_weight is for labels y of one output, got targets of several: a dict; weigh each ...
    """
    if not hasattr(y, "shape"):
        raise TypeError(
            f"{who} for labels y of one output, got targets of several: a {type(y).__name__}; weigh "
            "each loss, or pass weights of the rows, data=(x, y, weights)"
        )


def is_balanced(class_weight: Any) -> bool:
    """Whether the weights of classes are to be found from the labels."""
    return isinstance(class_weight, str) and class_weight == BALANCED


def by_class(table: Table) -> dict[int, Any]:
    """A table of weights as they are given for some classes, of which others have weight 1."""
    return {label: table[label] for label in range(len(table))}


def balanced_by(data: PyTree) -> np.ndarray:
    """The balanced weights of the classes in data ``(x, y)`` or ``(x, y, weights)``."""
    _, y, *weights = data
    if isinstance(y, (list, tuple)) and any(np.ndim(one) for one in y):
        check_one_output("class_weight='balanced' is", y)
    return balanced_class_weight(y, weights=weights[0] if weights else None)


def table_of(class_weight: Mapping[int, ArrayLike] | Sequence[ArrayLike] | ArrayLike) -> Table:
    """The weights as an array, indexed by class."""
    several: Any
    if is_balanced(class_weight):
        raise TypeError(
            "class_weight='balanced' is for jaxdeep.fit and searches, which know all labels; here give "
            "jaxdeep.train.balanced_class_weight(y)"
        )
    if isinstance(class_weight, Mapping):
        name = "the classes of class_weight"
        by_class = {_checks.check_count(name, label, low=0): w for label, w in class_weight.items()}
        several = [1.0] * (max(by_class, default=-1) + 1)
        for label, weight in by_class.items():
            if type(weight) is int:  # of any size
                _checks.check_number(f"class_weight[{label}]", weight, "(-inf, inf)")
            number = as_array(f"class_weight[{label}]", weight)
            if number.shape or number.dtype == bool:
                raise ValueError(f"class_weight[{label}] must be a number, got {weight!r}")
            several[label] = number if is_traced(number) else np.asarray(number, float)
    else:
        if isinstance(class_weight, np.ma.MaskedArray):
            as_array("class_weight", class_weight)  # refuses masked values
        several = class_weight
    traced = is_traced(several)
    weights: Table = jnp.asarray(several) if traced else np.asarray(several)
    known = [one for one in jax.tree.leaves(several) if not is_traced(one)] if traced else [weights]
    if weights.ndim != 1 or not weights.size or weights.dtype.kind not in "iuf":
        raise TypeError(
            "class_weight must be a dict or an array of numbers, or 'balanced' in jaxdeep.fit and "
            f"searches, got {class_weight!r}"
        )
    if not all(np.isfinite(one).all() and (np.asarray(one) >= 0).all() for one in known):
        raise ValueError(f"class_weight must hold weights of at least 0, got {class_weight!r}")
    check_holds("class_weight", weights)
    return weights


def classes_of(loss: PerExample, outputs: PyTree, y: PyTree, losses: Any) -> int | None:
    """How many classes there are, as outputs, targets and a known loss say; None if they do not."""
    if np.ndim(y) == len(losses.shape) + 1 and np.shape(y)[-1] > 1:
        return int(np.shape(y)[-1])
    one = inside(loss)
    if one in OF_BITS:
        return 2
    return int(np.shape(outputs)[-1]) if one in OF_CLASSES else None


def of_labels(
    table: Table,
    losses: Any,
    y: Num[ArrayLike, "..."],
    classes: int | None = None,
    *,
    whole: bool = False,
) -> Float[Array, "*batch"]:
    """The weight of each label, in the shape of the losses.

    Labels have that shape, but for a last axis of 1, or one axis more (one-hot, soft). Of `losses` only
    shape and dtype are used, and `classes` is their number, where it is known. Classes that the table
    lacks have weight 1, or are refused if it must be `whole`.
    """
    if classes is not None and len(table) > classes:
        several = losses.shape[-1] if len(losses.shape) > 1 else 1
        raise ValueError(
            f"class_weight has a weight for class {len(table) - 1}, and there are {classes} classes, "
            "numbered from 0"
            + (f", the 0 and 1 of each of {several} labels; weigh these in the loss" * (several > 1))
        )
    if whole and classes is not None and len(table) < classes:
        raise ValueError(
            f"class_weight must have a weight for each of {classes} classes, got {len(table)}; a dict "
            "{class: weight} leaves the others at 1"
        )
    weights = jnp.asarray(table, jnp.promote_types(losses.dtype, jnp.float32))
    labels = jnp.asarray(y)
    if labels.ndim == len(losses.shape) + 1:
        if labels.shape[-1] > 1:
            absent = (0, max(labels.shape[-1] - len(table), 0))
            of_classes = jnp.pad(weights, absent, constant_values=1)[: labels.shape[-1]]
            return jnp.sum(labels.astype(weights.dtype) * of_classes, axis=-1)
        labels = labels[..., 0]
    if not _checks.same_but_for_one(labels.shape, losses.shape):
        raise ValueError(
            f"class_weight needs a label for each loss, got y of shape {jnp.shape(y)} for losses of "
            f"shape {losses.shape}"
        )
    labels = labels.reshape(losses.shape)
    _checks.check_known("labels that class_weight weighs", y, 0, math.inf)
    if not jnp.issubdtype(labels.dtype, jnp.floating):
        return _of_whole(weights, labels.astype(jnp.int32))
    labels = labels.astype(weights.dtype)
    if classes == 2:  # the share of class 1
        of_none, of_one = _of_whole(weights, jnp.arange(2))
        return (1 - labels) * of_none + labels * of_one
    if _checks.is_known(y) and (np.asarray(y) != np.floor(y)).any():
        raise ValueError(
            "class_weight needs labels that are classes, numbered from 0, got fractions in y"
        )
    return jnp.where(labels == jnp.floor(labels), _of_whole(weights, labels.astype(jnp.int32)), jnp.nan)


def _of_whole(weights: Float[Array, "classes"], labels: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The weight of each label; 1 where there is none, and below 0, where JAX counts from the end."""
    return jnp.where(labels < 0, 1, weights.at[labels].get(mode="fill", fill_value=1))


def may_be_zero(table: Table) -> bool:
    """Whether some class has no weight, as far as it is known."""
    return is_traced(table) or bool((np.asarray(table) == 0).any())


def counts(weights: ArrayLike) -> HostOrDevice:
    """Which examples count, those whose weight is not 0.

    Refuses weights of the host that are not finite or negative. Those on a device are not looked at,
    since each step would wait for it.

    >>> counts([1.0, 0.0])
    array([ True, False])
    """
    array = as_array("weights", weights)
    if isinstance(array, jax.Array):
        return array != 0
    _checks.check_weights(array)
    return array != 0


def of_rows(counted: HostOrDevice) -> HostOrDevice:
    """Which examples count, of those of whose parts it is known which count."""
    xp: Any = np if isinstance(counted, np.ndarray) else jnp
    return xp.asarray(counted).any(axis=tuple(range(1, counted.ndim)))


def without_uncounted(counted: HostOrDevice, x: PyTree, y: PyTree) -> tuple[PyTree, PyTree]:
    """Inputs and targets in which a counted example stands for those of weight 0.

    A derivative of NaN times a weight of 0 is NaN, so it does so on the way in. What is known stays
    known, so that its values can be checked.
    """
    known = isinstance(counted, np.ndarray) and not is_traced(y)

    def target(leaf: Any) -> Any:
        if np.shape(leaf)[: counted.ndim] != counted.shape:
            return leaf
        new = _replaced(leaf, counted, counted, np if known else jnp)
        _checks.stands_for(new, leaf)
        return new

    def an_input(leaf: Any) -> Any:
        leaf = leaf if isinstance(leaf, jax.Array) else as_array("x", leaf)
        if leaf.shape[: counted.ndim] != counted.shape or jnp.issubdtype(
            leaf.dtype, jax.dtypes.extended
        ):
            return leaf
        if isinstance(leaf, np.ndarray) and isinstance(counted, np.ndarray):
            return _replaced(leaf, counted, counted, np)
        return _replaced(on_device("x", leaf), counted, counted, jnp)

    return jax.tree.map(an_input, x), jax.tree.map(target, y)


def without_broken(counted: Bool[Array, "n"], x: PyTree) -> tuple[PyTree, Bool[Array, "n"]]:
    """Inputs in which a counted example stands for those that do not count and are not finite.

    Also which examples these are.
    """
    rows = counted.shape
    leaves = [leaf for leaf in jax.tree.leaves(x) if np.shape(leaf)[:1] == rows]
    finite = [
        jnp.isfinite(leaf).all(axis=tuple(range(1, jnp.ndim(leaf))))
        for leaf in map(jnp.asarray, leaves)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    broken = functools.reduce(
        jnp.logical_or, (~whole & ~counted for whole in finite), jnp.zeros(rows, bool)
    )

    def an_input(leaf: Any) -> Any:
        if np.shape(leaf)[:1] != rows or not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            return leaf
        return _replaced(on_device("x", leaf), ~broken, counted, jnp)

    return jax.tree.map(an_input, x), broken


def _replaced(leaf: Any, stays: Any, counted: Any, xp: Any) -> Any:
    """An array, or where it does not stay the first row that counts, or 0 if none does."""
    leaf = xp.asarray(leaf)
    if not leaf.size:  # inputs without columns
        return leaf
    flat = leaf.reshape(-1, *leaf.shape[counted.ndim :])
    first = xp.where(counted.any(), flat[xp.argmax(counted.ravel())], 0).astype(leaf.dtype)
    return xp.where(stays.reshape(stays.shape + (1,) * (leaf.ndim - stays.ndim)), leaf, first)


def times(values: ArrayLike, weights: ArrayLike) -> Array:
    """Weighted values; one of weight 0 is 0, even if it is infinite."""
    return jnp.where(jnp.asarray(weights) == 0, 0, jnp.asarray(values) * weights)
