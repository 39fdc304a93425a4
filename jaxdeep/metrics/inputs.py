"""Outputs, labels and weights as the metrics take them, checked to fit each other."""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, on_device, weights_of_rows
from jaxdeep._ignored import at_once
from jaxdeep._precision import HostOrDevice
from jaxdeep._shapes import Array, ArrayLike, Bool, Integer, PyTree


def class_labels(outputs: ArrayLike, labels: ArrayLike) -> Integer[Array, "*batch"]:
    """Labels as integers; checks that they fit the outputs. One that is NaN (traced) is −1, no class."""
    if jnp.ndim(outputs) < 1 or jnp.shape(outputs)[-1] < 2:
        raise ValueError(f"outputs need an axis of at least 2 classes, got shape {jnp.shape(outputs)}")
    known = as_array("labels", labels)
    if known.shape == jnp.shape(outputs):
        _checks.check_distributions("labels", known)
        _checks.check_numbers("labels", known)
        classes = jnp.argmax(jnp.asarray(known), axis=-1)
        return jnp.where(jnp.isnan(known).any(axis=-1), -1, classes) if may_be_nan(known) else classes
    return _checks.classes_of(outputs, known)


def in_order(name: str, outputs: ArrayLike, axis: int | None = -1) -> Array:
    """Scores of which only the order counts, so that float64 and int64 on the host lose none of it.

    Where JAX' default types would round them, their places in the order along the axis (None: of all)
    come instead; equal ones have the same place, and NaN stays.
    """
    scores = as_array(name, outputs)
    if isinstance(scores, jax.Array) or jnp.result_type(scores).itemsize >= scores.dtype.itemsize:
        return on_device(name, scores)
    if axis is None:
        places = np.unique(scores, return_inverse=True)[1].reshape(scores.shape)
    else:
        order = np.argsort(scores, axis=axis, kind="stable")
        rising = np.diff(np.take_along_axis(scores, order, axis), axis=axis) > 0
        first = np.zeros_like(np.take(order, [0], axis))
        dense = np.concatenate([first, np.cumsum(rising, axis=axis)], axis)
        places = np.empty_like(order)
        np.put_along_axis(places, order, dense, axis)
    if np.isnan(scores).any():
        return jnp.asarray(np.where(np.isnan(scores), np.nan, places), jnp.result_type(float))
    return jnp.asarray(places.astype(np.int32))


def flat(
    outputs: ArrayLike, y: ArrayLike, weights: ArrayLike | None
) -> tuple[Array, Bool[Array, "n"], Array | None, Array | None]:
    """Scores, whether they belong to positives, and weights, in one axis each; whether one is NaN."""
    scores, labels = on_device("outputs", outputs), as_array("labels", y)
    sizes, label_sizes = ([n for n in array.shape if n != 1] for array in (scores, labels))
    if sizes != label_sizes:  # (n, 1) and (n,) are the same here
        raise ValueError(
            f"a binary metric needs one output for each label, got outputs of shape {scores.shape} and "
            f"labels of {labels.shape}"
        )
    _checks.check_known("labels", labels, 0, 1)
    _checks.check_numbers("labels", labels)
    return (
        jnp.ravel(scores),
        jnp.ravel(jnp.asarray(labels)) > 0.5,
        ravelled(spread(weights, scores.shape)),
        any_nan(scores, labels),
    )


def may_be_nan(values: HostOrDevice) -> bool:
    """Whether values are of a dtype that has NaN, and not known to be numbers."""
    return jnp.issubdtype(values.dtype, jnp.floating) and isinstance(values, jax.core.Tracer)


def any_nan(scores: Array, labels: HostOrDevice) -> Array | None:
    """Whether there is a NaN among scores and labels; None where there can be none."""
    floats = [scores] if jnp.issubdtype(scores.dtype, jnp.floating) else []
    floats += [jnp.asarray(labels)] if may_be_nan(labels) else []
    nans = [jnp.isnan(values).any() for values in floats]
    return nans[0] | nans[-1] if nans else None


def where(which: Bool[Array, "n"], weights: Array | None) -> Array:
    """The weights of those rows, 0 elsewhere; booleans if there are none."""
    return which if weights is None else jnp.where(which, weights, jnp.zeros_like(weights))


def without_uncounted(
    outputs: PyTree, y: PyTree, weights: ArrayLike, *, ignored: int | None = None
) -> tuple[PyTree, PyTree, HostOrDevice]:
    """Outputs and targets in which a counted example stands for those of weight 0, and the weights.

    So rows of weight 0 make no difference, whatever they hold. What is known stays known, so that its
    values can be checked. Known weights that are negative or not finite are refused. `ignored` is the
    label of some of the rows of weight 0.
    """
    w = as_array("weights", weights)
    _checks.check_weights(w)
    shape = weights_of_rows(w).shape
    with at_once(w):
        counted = (w != 0).reshape(shape)
    if isinstance(counted, np.ndarray) and counted.all():
        return outputs, y, w

    def replaced(leaf: Any) -> Any:
        if not (_is_list_of_numbers(leaf) or hasattr(leaf, "shape")):
            return leaf
        if tuple(getattr(leaf, "shape", np.shape(leaf)))[: counted.ndim] != shape:
            return leaf
        array = leaf if isinstance(leaf, jax.Array) else as_array("outputs and labels", leaf)
        known = isinstance(array, np.ndarray) and not isinstance(counted, jax.core.Tracer)
        with at_once(array, counted):
            new = (
                _stood_for(array, np.asarray(counted), np) if known else _stood_for(array, counted, jnp)
            )
        _checks.stands_for(new, leaf, ignored=ignored)
        return new

    outputs, y = (jax.tree.map(replaced, tree, is_leaf=_is_list_of_numbers) for tree in (outputs, y))
    return outputs, y, w


def _stood_for(array: Any, counted: Any, xp: Any) -> Any:
    """The array with its first counted row in place of those that are not; one-hot if none counts."""
    array = xp.asarray(array)
    rows = array.reshape(-1, *array.shape[counted.ndim :])
    several = rows.ndim > 1 and rows.shape[-1] > 1
    none = (xp.arange(rows.shape[-1]) == 0) if several else xp.zeros((), bool)  # a distribution, too
    if not len(rows):
        return array
    first = xp.where(counted.any(), rows[xp.argmax(counted.ravel())], none.astype(array.dtype))
    return xp.where(counted.reshape(counted.shape + (1,) * (array.ndim - counted.ndim)), array, first)


def _is_list_of_numbers(node: Any) -> bool:
    """Whether this is a list or tuple, nested or not, of plain numbers, which means one array."""
    if not isinstance(node, (list, tuple)) or hasattr(node, "_fields"):
        return False
    leaves = jax.tree.leaves(node)
    return bool(leaves) and all(isinstance(leaf, (numbers.Real, np.bool_)) for leaf in leaves)


def spread(weights: ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    """Weights of examples, one for every value; None if there are none. Whole numbers stay whole."""
    if weights is None:
        return None
    weights = on_device("weights", weights_of_rows(weights))
    if jnp.issubdtype(weights.dtype, jnp.floating):
        weights = weights.astype(jnp.result_type(float))
    if weights.shape != shape[: weights.ndim]:
        raise ValueError(
            f"weights must have the leading axes of the outputs, {shape}, got {weights.shape}"
        )
    return jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)


def ravelled(weights: Array | None) -> Array | None:
    """Weights in one axis, None if there are none."""
    return None if weights is None else jnp.ravel(weights)


def is_called(
    outputs: ArrayLike, scores: Array, threshold: ArrayLike, from_logits: bool
) -> Bool[Array, "*shape"]:
    """Where outputs are above a threshold, σ of them for logits; `scores` are what JAX has of them.

    Numbers of the host are compared in their own precision.
    """
    array, value = as_array("outputs", outputs), _checks.known_value(threshold)
    wider = array.dtype.itemsize > jnp.result_type(float).itemsize
    if isinstance(array, np.ndarray) and wider and value is not None and not from_logits:
        return jnp.asarray(array > value).reshape(scores.shape)
    return above(sigmoid(scores) if from_logits else scores, threshold)


def check_probabilities(scores: Array, *, exclusive: bool = False) -> None:
    """Refuse known outputs that are no probabilities, and `exclusive` ones that do not sum to 1."""
    name = "outputs (which are probabilities unless from_logits=True)"
    _checks.check_known(name, scores, 0, 1)
    if exclusive and _checks.is_known(scores):
        wrong = _checks.wrong_sums(np.asarray(scores))
        if wrong.size:
            raise ValueError(
                f"{name} must sum to 1 over the classes (the last axis), got a sum of "
                f"{wrong.flat[0]:.6g}"
            )


def above(scores: Array, threshold: ArrayLike) -> Bool[Array, "*shape"]:
    """Where scores are above a threshold, as real numbers: neither is rounded to the other's dtype."""
    if jnp.issubdtype(scores.dtype, jnp.floating):
        return scores.astype(jnp.promote_types(scores.dtype, jnp.float32)) > _number(threshold)
    if scores.dtype.itemsize < 4:
        scores = scores.astype(jnp.int32)
    info, value = jnp.iinfo(scores.dtype), _checks.known_value(threshold)
    if value is not None:
        least = math.floor(value)  # above 2.5 is above 2
        inside = jnp.asarray(min(max(least, info.min), info.max), scores.dtype)
        return jnp.full(scores.shape, True) if least < info.min else scores > inside
    threshold = jnp.asarray(threshold)
    if jnp.issubdtype(threshold.dtype, jnp.floating):
        threshold = jnp.floor(threshold.astype(jnp.promote_types(threshold.dtype, jnp.float32)))
        low, high = -float(-info.min), 2.0 ** (info.bits - (info.min < 0))  # powers of 2
        inside = jnp.where((threshold >= low) & (threshold < high), threshold, 0).astype(scores.dtype)
        return (threshold < low) | ((threshold < high) & (scores > inside))
    return scores > threshold


def _number(threshold: ArrayLike) -> ArrayLike:
    """A whole number of Python, which may need more than 32 bits, as a float."""
    return float(threshold) if isinstance(threshold, int) else threshold


def sigmoid(logits: Array) -> Array:
    """In at least float32: in bfloat16, σ of a small logit is 0.5."""
    return jax.nn.sigmoid(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
