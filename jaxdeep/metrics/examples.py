"""Metrics that are one value of each example, averaged over all of them."""

import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, on_device
from jaxdeep._shapes import Array, ArrayLike, Bool, Float
from jaxdeep.metrics.inputs import above, class_labels, in_order, probabilities

Values = Float[Array, "*batch"]  # one of each example


def accuracy(outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool | None = None) -> Values:
    """1 where the largest output is the label's, 0 elsewhere; a single one has to be on its side.

    Args:
      outputs: logits or probabilities, ``(…, classes)``, or ``(…, 1)`` for the second of two classes.
      labels: classes as integers, ``(…)`` or ``(…, 1)``, or one-hot, ``(…, classes)``.
      from_logits: of a single output only, as for `binary_accuracy`.

    Returns:
      float32 (float64 with x64 on) of shape ``(…)``.

    Raises:
      ValueError, TypeError: labels that do not fit, as for `losses.softmax_cross_entropy`; a single
        output of which is not known what it is.

    A NaN among the outputs of an example counts as wrong, and so does a traced label that is NaN or no
    class; known ones are refused.

    Source: `sklearn.metrics.accuracy_score`, example by example.

    >>> import jax.numpy as jnp
    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])).tolist()
    [1.0, 0.0]
    >>> accuracy(jnp.array([[0.1], [-2.0]]), jnp.array([1, 1]), from_logits=True).tolist()
    [1.0, 0.0]
    """
    if np.shape(as_array("outputs", outputs))[-1:] == (1,):
        return binary_accuracy(outputs, labels, from_logits=from_logits)[..., 0]
    outputs = in_order("outputs", outputs)
    labels = class_labels(outputs, labels)
    right = jnp.argmax(outputs, axis=-1) == labels
    return _ones(right & ~jnp.isnan(outputs).any(axis=-1))


def binary_accuracy(
    outputs: ArrayLike, labels: ArrayLike, *, threshold: ArrayLike = 0.5, from_logits: bool | None = None
) -> Values:
    """1 where an output is on the side of the threshold that its label is on, 0 elsewhere; elementwise.

    For models of one output, or of several labels that do not exclude each other.

    Args:
      outputs: of any shape.
      labels: of the same shape, but for a last axis of 1: 0 and 1.
      threshold: a probability above it is called 1.
      from_logits: whether the outputs are logits, of which σ is taken, or probabilities. `supervised`
        knows it from the model and the loss; elsewhere it must be said.

    Returns:
      float32 (float64 with x64 on) of the shape of the outputs. A NaN among them, or a traced one among
      the labels, counts as wrong. Outputs of few bits are compared with the threshold in float32.

    Raises:
      ValueError: labels of another shape; known labels, or probabilities, outside [0, 1], known labels
        that are NaN; a threshold outside [0, 1]; outputs of which is not known what they are.

    Source: Keras' `BinaryAccuracy`.

    >>> binary_accuracy(jnp.array([0.1, 0.8]), jnp.array([1, 1]), from_logits=False).tolist()
    [0.0, 1.0]
    """
    if from_logits is None:
        raise ValueError(
            "the accuracy of a single output depends on what it is: say from_logits=True (σ is taken of "
            "it) or from_logits=False (it is a probability)"
        )
    _checks.check_flag("from_logits", from_logits)
    _checks.check_scalar("threshold", threshold, "[0, 1]")
    scores, y = on_device("outputs", outputs), as_array("labels", labels)
    if not _checks.same_but_for_one(y.shape, scores.shape):
        raise ValueError(f"labels must have the shape of the outputs, {scores.shape}, got {y.shape}")
    _checks.check_known("labels", y, 0, 1)
    _checks.check_numbers("labels", y)
    scores = probabilities(scores, from_logits)
    y = jnp.asarray(y, jnp.result_type(float)).reshape(scores.shape)
    return _ones((above(scores, threshold) == (y > 0.5)) & ~jnp.isnan(scores) & ~jnp.isnan(y))


def top_k_accuracy(outputs: ArrayLike, labels: ArrayLike, *, k: int = 5) -> Values:
    """1 where the label is among the k largest outputs, 0 elsewhere.

    Ties go to the label: it counts if fewer than k outputs are larger than its own.

    Args:
      outputs, labels: as for `accuracy`.
      k: at least 1.

    Raises:
      ValueError, TypeError: as `accuracy`; k below 1.

    Source: `jax.lax.top_k` without the sort; Keras' `TopKCategoricalAccuracy`.

    >>> top_k_accuracy(jnp.array([[0.5, 0.3, 0.2]]), jnp.array([1]), k=2).tolist()
    [1.0]
    """
    k = _checks.check_count("k", k)
    outputs = in_order("outputs", outputs)
    labels = class_labels(outputs, labels)
    labels_output = jnp.take_along_axis(outputs, labels[..., None], axis=-1, mode="clip")
    within = jnp.sum(~(outputs <= labels_output), axis=-1) < k
    is_class = (labels >= 0) & (labels < outputs.shape[-1])
    known = ~jnp.isnan(labels_output[..., 0]) & is_class  # a NaN is never within
    return _ones(within & known)


def _ones(right: Bool[Array, "*shape"]) -> Values:
    return right.astype(jnp.result_type(float))
