"""Metrics that are one value of each example, averaged over all of them."""

import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks, _ignored
from jaxdeep._arrays import as_array, on_device
from jaxdeep._shapes import Array, ArrayLike, Bool, Float, Integer
from jaxdeep.metrics.inputs import class_labels, in_order, is_called

Values = Float[Array, "*batch"]  # one of each example


def accuracy(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool | None = None,
    ignore_class: int | None = None,
) -> Values:
    """1 where the largest output is the label's, 0 elsewhere; a single one has to be on its side.

    Args:
      outputs: logits or probabilities, ``(…, classes)``, or ``(…, 1)`` for the second of two classes.
      labels: classes as integers, ``(…)`` or ``(…, 1)``, or one-hot, ``(…, classes)``.
      from_logits: of a single output only, as for `binary_accuracy`.
      ignore_class: an integer label that is left out, such as −1 or 255, whether or not it is a class.
        Its value is NaN, for there is none: `jax.numpy.nanmean` is the mean over the others, and so are
        `mean` of the function with this argument (``functools.partial(accuracy, ignore_class=255)``)
        and the metric of a run.

    Returns:
      float32 (float64 with x64 on) of shape ``(…)``.

    Raises:
      ValueError, TypeError: labels that do not fit, as for `losses.softmax_cross_entropy`; a single
        output of which is not known what it is; an `ignore_class` that is no whole number.

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
        single = binary_accuracy(outputs, labels, from_logits=from_logits, ignore_class=ignore_class)
        return single[..., 0]
    outputs = in_order("outputs", outputs)
    labels, counted = _classes(outputs, labels, ignore_class)
    right = jnp.argmax(outputs, axis=-1) == labels
    return _ones(right & ~jnp.isnan(outputs).any(axis=-1), counted)


def binary_accuracy(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    threshold: ArrayLike = 0.5,
    from_logits: bool | None = None,
    ignore_class: int | None = None,
) -> Values:
    """1 where an output is on the side of the threshold that its label is on, 0 elsewhere; elementwise.

    For models of one output, or of several labels that do not exclude each other: of these the mean is
    the share of labels that are right, and that of `subset_accuracy` the share of rows.

    Args:
      outputs: of any shape.
      labels: of the same shape, but for a last axis of 1: 0 and 1.
      threshold: a probability above it is called 1.
      from_logits: whether the outputs are logits, of which σ is taken, or probabilities. `supervised`
        knows it from the model and the loss; elsewhere it must be said.
      ignore_class: a label that is left out, as for `accuracy`.

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
    right, counted = _on_their_side(outputs, labels, threshold, from_logits, ignore_class)
    return _ones(right, counted)


def subset_accuracy(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    threshold: ArrayLike = 0.5,
    from_logits: bool | None = None,
) -> Values:
    """1 where all labels of an example are on the side that their outputs are on, 0 elsewhere.

    For several labels that do not exclude each other. `binary_accuracy` is of each label alone.

    Args:
      outputs: ``(…, labels)``.
      labels: of the same shape: 0 and 1.
      threshold, from_logits: as for `binary_accuracy`.

    Returns:
      float32 (float64 with x64 on) of shape ``(…)``.

    Raises:
      ValueError, TypeError: as `binary_accuracy`; outputs without an axis of labels.

    Source: `sklearn.metrics.accuracy_score` of several labels.

    >>> outputs, labels = jnp.array([[0.1, 0.8], [0.6, 0.4]]), jnp.array([[1, 1], [1, 0]])
    >>> subset_accuracy(outputs, labels, from_logits=False).tolist()
    [0.0, 1.0]
    """
    if not np.ndim(as_array("outputs", outputs)):
        raise ValueError("outputs must have a last axis of labels, got a scalar")
    right, _ = _on_their_side(outputs, labels, threshold, from_logits, None)
    return _ones(right.all(axis=-1))


def _on_their_side(
    outputs: ArrayLike,
    labels: ArrayLike,
    threshold: ArrayLike,
    from_logits: bool | None,
    ignore_class: int | None,
) -> tuple[Bool[Array, "*shape"], Bool[Array, "*shape"] | None]:
    """Which outputs are on the side of the threshold that their labels are on, and which count."""
    if from_logits is None:
        raise ValueError(
            "the accuracy of a single output depends on what it is: say from_logits=True (σ is taken of "
            "it) or from_logits=False (it is a probability)"
        )
    _checks.check_flag("from_logits", from_logits)
    _checks.check_scalar("threshold", threshold, "[0, 1]")
    ignore_class = _ignored.check(ignore_class)
    scores, y = on_device("outputs", outputs), as_array("labels", labels)
    if not _checks.same_but_for_one(y.shape, scores.shape):
        raise ValueError(f"labels must have the shape of the outputs, {scores.shape}, got {y.shape}")
    counted = None
    if ignore_class is not None:
        y, kept = _ignored.without(y, ignore_class)
        counted = jnp.asarray(kept).reshape(scores.shape)
    _checks.check_known("labels", y, 0, 1)
    _checks.check_numbers("labels", y)
    if not from_logits:
        _checks.check_known("outputs (which are probabilities with from_logits=False)", scores, 0, 1)
    called = is_called(outputs, scores, threshold, from_logits)
    y = jnp.asarray(y, jnp.result_type(float)).reshape(scores.shape)
    return (called == (y > 0.5)) & ~jnp.isnan(scores) & ~jnp.isnan(y), counted


def top_k_accuracy(
    outputs: ArrayLike, labels: ArrayLike, *, k: int = 5, ignore_class: int | None = None
) -> Values:
    """1 where the label is among the k largest outputs, 0 elsewhere.

    Ties go to the label: it counts if fewer than k outputs are larger than its own.

    Args:
      outputs, labels: as for `accuracy`.
      k: at least 1.
      ignore_class: as for `accuracy`.

    Raises:
      ValueError, TypeError: as `accuracy`; k below 1.

    Source: `jax.lax.top_k` without the sort; Keras' `TopKCategoricalAccuracy`.

    >>> top_k_accuracy(jnp.array([[0.5, 0.3, 0.2]]), jnp.array([1]), k=2).tolist()
    [1.0]
    """
    k = _checks.check_count("k", k)
    outputs = in_order("outputs", outputs)
    labels, counted = _classes(outputs, labels, ignore_class)
    labels_output = jnp.take_along_axis(outputs, labels[..., None], axis=-1, mode="clip")
    within = jnp.sum(~(outputs <= labels_output), axis=-1) < k
    is_class = (labels >= 0) & (labels < outputs.shape[-1])
    known = ~jnp.isnan(labels_output[..., 0]) & is_class  # a NaN is never within
    return _ones(within & known, counted)


def _classes(
    outputs: ArrayLike, labels: ArrayLike, ignore_class: int | None
) -> tuple[Integer[Array, "*batch"], Bool[Array, "*batch"] | None]:
    """Labels as integers, and which of them count; None for all."""
    ignore_class = _ignored.check(ignore_class)
    if ignore_class is None:
        return class_labels(outputs, labels), None
    array = as_array("labels", labels)
    if array.shape == np.shape(outputs):
        raise ValueError(
            f"ignore_class is for labels that are integers, got one-hot labels of shape {array.shape}; "
            "leave rows out by weights of 0"
        )
    replaced, kept = _ignored.without(array, ignore_class)
    classes = class_labels(outputs, replaced)
    return classes, jnp.asarray(kept).reshape(classes.shape)


def _ones(right: Bool[Array, "*shape"], counted: Bool[Array, "*shape"] | None = None) -> Values:
    values = right.astype(jnp.result_type(float))
    return values if counted is None else jnp.where(counted, values, jnp.nan)
