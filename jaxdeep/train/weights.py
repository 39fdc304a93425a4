"""Weights of examples and of classes."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import HostOrDevice, as_array
from jaxdeep._compilation import is_traced
from jaxdeep._shapes import Array, ArrayLike, Float, Num, PyTree


def table_of(class_weight: Mapping[int, float] | ArrayLike) -> np.ndarray:
    """The weights as an array, indexed by class."""
    if isinstance(class_weight, Mapping):
        for label in class_weight:
            _checks.check_count("the classes of class_weight", label, low=0)
        weights = np.ones(max(class_weight, default=-1) + 1)
        for label, weight in class_weight.items():
            given = as_array(f"class_weight[{label}]", weight)
            if given.shape:
                raise ValueError(f"class_weight[{label}] must be a number, got {weight!r}")
            weights[label] = given
    else:
        if isinstance(class_weight, np.ma.MaskedArray):
            as_array("class_weight", class_weight)  # refuses masked values
        weights = np.asarray(class_weight)
    if weights.ndim != 1 or not weights.size or weights.dtype.kind not in "iuf":
        raise TypeError(f"class_weight must be a dict or an array of numbers, got {class_weight!r}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"class_weight must hold weights of at least 0, got {class_weight!r}")
    return weights


def of_labels(
    table: np.ndarray, losses: Num[ArrayLike, "*batch"], y: Num[ArrayLike, "..."]
) -> Float[Array, "*batch"]:
    """The weight of each label, which has the shape of the losses or one axis more (one-hot, soft)."""
    if not hasattr(y, "shape"):
        raise TypeError(f"class_weight is for one output, got targets of several: a {type(y).__name__}")
    weights = jnp.asarray(table, jnp.promote_types(jnp.result_type(losses), jnp.float32))
    labels = jnp.asarray(y)
    if labels.ndim == jnp.ndim(losses) + 1:
        if labels.shape[-1] > 1:
            absent = (0, max(labels.shape[-1] - len(table), 0))
            of_classes = jnp.pad(weights, absent, constant_values=1)[: labels.shape[-1]]
            return jnp.sum(labels.astype(weights.dtype) * of_classes, axis=-1)
        labels = labels[..., 0]
    if labels.shape != jnp.shape(losses):
        raise ValueError(
            f"class_weight needs a label for each loss, got y of shape {jnp.shape(y)} for losses of "
            f"shape {jnp.shape(losses)}"
        )
    return weights.at[labels.astype(jnp.int32)].get(mode="fill", fill_value=1)


def counts(weights: ArrayLike) -> HostOrDevice:
    """Which examples count, those whose weight is not 0.

    Refuses weights of the host that are not finite or negative. Those on a device are not looked at,
    since each step would wait for it.

    >>> counts([1.0, 0.0])
    array([ True, False])
    """
    given = as_array("weights", weights)
    if isinstance(given, jax.Array):
        return given != 0
    values = given
    if not np.isfinite(values).all():
        raise ValueError(f"weights must be finite, got {values[~np.isfinite(values)].flat[0]}")
    if (values < 0).any():
        raise ValueError(f"weights must be at least 0, got {values[values < 0].flat[0]}")
    return values != 0


def without_uncounted(counted: HostOrDevice, x: PyTree, y: PyTree) -> tuple[PyTree, PyTree]:
    """Inputs and targets in which a counted example stands for those of weight 0.

    It replaces their targets, and of their inputs those that are not finite, since a derivative of NaN
    times a weight of 0 is NaN. What is known stays known, so that its values can be checked.
    """
    known = isinstance(counted, np.ndarray) and not is_traced(y)

    def replaced(leaf: Any, where: Any, xp: Any) -> Any:
        leaf = xp.asarray(leaf)
        flat = leaf.reshape(-1, *leaf.shape[counted.ndim :])
        first = xp.where(counted.any(), flat[xp.argmax(counted.ravel())], 0).astype(leaf.dtype)
        return xp.where(where.reshape(where.shape + (1,) * (leaf.ndim - where.ndim)), leaf, first)

    def target(leaf: Any) -> Any:
        if np.shape(leaf)[: counted.ndim] != counted.shape:
            return leaf
        new = replaced(leaf, counted, np if known else jnp)
        _checks.stands_for(new, leaf)
        return new

    def an_input(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        if leaf.shape[: counted.ndim] != counted.shape or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        axes = tuple(range(counted.ndim, leaf.ndim))
        return replaced(leaf, counted | jnp.isfinite(leaf).all(axis=axes), jnp)

    return jax.tree.map(an_input, x), jax.tree.map(target, y)


def times(values: ArrayLike, weights: ArrayLike) -> Array:
    """Weighted values; one of weight 0 is 0, even if it is infinite."""
    return jnp.where(jnp.asarray(weights) == 0, 0, jnp.asarray(values) * weights)
