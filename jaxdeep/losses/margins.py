"""Hinge losses, of scores that are on their side of a margin or are not."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import broadcasting, check_rows_told_apart, floating, from_top
from jaxdeep._limits import largest
from jaxdeep._shapes import Array, ArrayLike, Float
from jaxdeep.losses.inputs import bits, classified


def hinge(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    squared: bool = False,
    ignore_class: int | None = None,
) -> Float[Array, "*shape"]:
    """``max(1 − y s, 0)`` of a score s and y = ±1, elementwise; its square with `squared`.

    Args:
      outputs: scores of any shape, of a model that ends without a sigmoid; class 1 is predicted above 0.
      labels: of the same shape, but for a last axis of 1: 0 and 1 or −1 and 1, booleans too.
      squared: whether to take the square, whose gradient has no jump.
      ignore_class: a label that is left out, as for `sigmoid_cross_entropy`.

    Returns:
      One loss per element, in the dtype of the outputs.

    Raises:
      ValueError: labels of another shape; known labels that are none of −1, 0 and 1.
      TypeError: an `ignore_class` that is no whole number.

    Source: `sklearn.metrics.hinge_loss`; Keras' `Hinge` and `SquaredHinge`.

    >>> hinge(jnp.array([0.5, -0.5, 2.0]), jnp.array([1, 1, 0])).tolist()
    [0.5, 1.5, 3.0]
    """
    _checks.check_flag("squared", squared)
    x, y, counted = bits(floating("outputs", outputs), labels, ignore_class, low=-1)
    if _checks.is_known(y) and y.dtype.kind not in "iub":
        known = np.asarray(y)
        if (wrong := known[~np.isin(known, (-1, 0, 1))]).size:
            raise ValueError(f"labels must be -1 or 0, and 1, got {wrong.flat[0]}")
    labels = jnp.asarray(y)
    sign = jnp.where(labels > 0, 1, -1).astype(x.dtype)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        sign = jnp.where(jnp.isnan(labels), jnp.nan, sign)
    loss = jnp.maximum(1 - sign * x, 0)
    loss = jnp.square(loss) if squared else loss
    return loss if counted is None else jnp.where(counted, loss, 0)


def categorical_hinge(
    outputs: ArrayLike, labels: ArrayLike, *, ignore_class: int | None = None
) -> Float[Array, "*batch"]:
    """``max(1 + max_c (1 − y_c) s_c − Σ_c y_c s_c, 0)`` of scores s, Keras' hinge of several classes.

    The inner maximum includes a 0 for the class of the label, so that it is larger than
    `multiclass_hinge` where all other scores are below 0, and the scores have a zero of their own.

    Args:
      outputs: scores ``(…, classes)``, of a model that ends without a softmax.
      labels: classes as integers, of shape ``(…)`` or ``(…, 1)``, or one-hot, ``(…, classes)``.
      ignore_class: as for `softmax_cross_entropy`.

    Returns:
      One loss per example, of shape ``(…)``, in the dtype of the outputs.

    Raises:
      ValueError, TypeError: labels that do not fit, as for `softmax_cross_entropy`.

    Source: Keras' `CategoricalHinge`.

    >>> categorical_hinge(jnp.array([[0.5, -1.0], [0.5, 0.0]]), jnp.array([0, 1])).tolist()
    [0.5, 1.5]
    """
    check_rows_told_apart("outputs", outputs)
    batch = classified(floating("outputs", outputs), labels, ignore_class, "outputs", "hinge")
    scores = batch.scores
    y = (
        batch.labels
        if batch.soft
        else jax.nn.one_hot(batch.labels, scores.shape[-1], dtype=scores.dtype)
    )
    # what has no part has none even if its score is infinite
    label_scores = (
        jnp.sum(y * jnp.where(y == 0, 0, scores), axis=-1) if batch.soft else batch.of_label(scores)
    )
    others = largest((1 - y) * jnp.where(y == 1, 0, scores), -1)
    return batch.of_counted(jnp.maximum(1 + others - label_scores, 0))


@broadcasting
def multiclass_hinge(
    outputs: ArrayLike, labels: ArrayLike, *, ignore_class: int | None = None
) -> Float[Array, "*batch"]:
    """``max(1 + max_{c ≠ y} s_c − s_y, 0)`` of scores s, the hinge of Crammer and Singer.

    Args:
      outputs: scores ``(…, classes)``, of a model that ends without a softmax.
      labels: classes as integers, of shape ``(…)`` or ``(…, 1)``, or one-hot, ``(…, classes)``.
      ignore_class: as for `softmax_cross_entropy`.

    Returns:
      One loss per example, of shape ``(…)``, in the dtype of the outputs.

    Raises:
      ValueError, TypeError: labels that do not fit, as for `softmax_cross_entropy`; known ones of the
        shape of the outputs that are not one-hot.

    Source: Crammer & Singer (2001); `sklearn.metrics.hinge_loss` of several classes,
    `optax.losses.multiclass_hinge_loss`. Keras' is `categorical_hinge`.

    >>> multiclass_hinge(jnp.array([[0.5, -1.0], [0.5, 0.0]]), jnp.array([0, 1])).tolist()
    [0.0, 1.5]
    """
    batch = classified(
        floating("outputs", from_top("outputs", outputs)), labels, ignore_class, "outputs", "hinge"
    )
    if batch.soft:
        if _checks.is_known(batch.labels) and not np.isin(np.asarray(batch.labels), (0, 1)).all():
            raise ValueError("labels of the shape of the outputs must be one-hot, 0 and 1")
        broken = jnp.isnan(batch.labels).any(axis=-1)
        classes = jnp.where(broken, batch.scores.shape[-1], jnp.argmax(batch.labels, axis=-1))
        batch = batch._replace(labels=classes)
    is_label = jnp.arange(batch.scores.shape[-1]) == batch.labels[..., None]
    others = largest(jnp.where(is_label, -jnp.inf, batch.scores), -1)
    return batch.of_counted(jnp.maximum(1 + others - batch.of_label(batch.scores), 0))
