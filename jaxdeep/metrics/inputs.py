"""Outputs, labels and weights as the metrics take them, checked to fit each other."""

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._arrays import as_array, on_device
from jaxdeep._shapes import Array, ArrayLike, Bool, Integer


def class_labels(outputs: ArrayLike, labels: ArrayLike) -> Integer[Array, "*batch"]:
    """Labels as integers; checks that they fit the outputs."""
    if jnp.ndim(outputs) < 1 or jnp.shape(outputs)[-1] < 2:
        raise ValueError(f"outputs need an axis of at least 2 classes, got shape {jnp.shape(outputs)}")
    known = as_array("labels", labels)
    if known.shape == jnp.shape(outputs):
        _checks.check_distributions("labels", known)
        return jnp.argmax(jnp.asarray(known), axis=-1)
    return _checks.classes_of(outputs, known)


def flat(
    outputs: ArrayLike, y: ArrayLike, weights: ArrayLike | None
) -> tuple[Array, Bool[Array, "n"], Array | None]:
    """Scores, whether they belong to positives, and weights, in one axis each."""
    scores, labels = on_device("outputs", outputs), as_array("labels", y)
    sizes, label_sizes = ([n for n in array.shape if n != 1] for array in (scores, labels))
    if sizes != label_sizes:  # (n, 1) and (n,) are the same here
        raise ValueError(
            f"a binary metric needs one output for each label, got outputs of shape {scores.shape} and "
            f"labels of {labels.shape}"
        )
    _checks.check_known("labels", labels, 0, 1)
    return (
        jnp.ravel(scores),
        jnp.ravel(jnp.asarray(labels)) > 0.5,
        ravelled(spread(weights, scores.shape)),
    )


def spread(weights: ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    """Weights of examples, one for every value; None if there are none."""
    if weights is None:
        return None
    weights = on_device("weights", weights).astype(jnp.result_type(float))
    if weights.shape != shape[: weights.ndim]:
        raise ValueError(
            f"weights must have the leading axes of the outputs, {shape}, got {weights.shape}"
        )
    return jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)


def ravelled(weights: Array | None) -> Array | None:
    """Weights in one axis, None if there are none."""
    return None if weights is None else jnp.ravel(weights)


def probabilities(scores: Array, from_logits: bool) -> Array:
    """Outputs as probabilities; known ones that are none are refused."""
    if from_logits:
        return sigmoid(scores)
    _checks.check_known("outputs (which are probabilities with from_logits=False)", scores, 0, 1)
    return scores


def check_probabilities(scores: Array) -> None:
    """Refuse known outputs that are no probabilities."""
    _checks.check_known("outputs (which are probabilities unless from_logits=True)", scores, 0, 1)


def sigmoid(logits: Array) -> Array:
    """In at least float32: in bfloat16, σ of a small logit is 0.5."""
    return jax.nn.sigmoid(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
