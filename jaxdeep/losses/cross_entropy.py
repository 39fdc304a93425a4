"""Cross-entropies of classes that exclude each other, and of those that do not."""

import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import Array, ArrayLike, Float
from jaxdeep.losses.inputs import bits, classified, log_both, log_softmax, scores_of


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: ArrayLike = 0.0,
    from_logits: bool = True,
    ignore_class: int | None = None,
) -> Float[Array, "*batch"]:
    """Cross-entropy of softmax(logits) against labels: ``−Σ_c p_c log softmax(logits)_c``.

    One logit of ∞ is a certain prediction: its loss is 0 if it is right and ∞ if it is wrong, as in
    `sigmoid_cross_entropy`. Of two logits of ∞, and of −∞ everywhere, it is NaN.

    Args:
      logits: ``(…, classes)``; probabilities with ``from_logits=False``.
      labels: classes as integers, of shape ``(…)`` or ``(…, 1)``, or probabilities (one-hot, smoothed)
        of shape ``(…, classes)``.
      label_smoothing: α in [0, 1]: p becomes ``(1 − α) p + α / classes``.
      from_logits: whether the model ends without a softmax. With False ``logits`` are the probabilities
        q behind it and the loss is ``−Σ_c p_c log (q_c / Σ q)``. A softmax loses what is below the
        smallest float, so logits are the better choice.
      ignore_class: an integer label that is left out, such as −1 or 255, whether or not it is a class.
        Its loss is 0 and has no gradient, as that of an example of weight 0, also in the mean over all
        examples. A metric of this loss is the mean over the others.

    Returns:
      One loss per example, of shape ``(…)``, computed in at least float32, in the dtype of the logits.

    Raises:
      ValueError: shapes that do not fit; a smoothing outside [0, 1]; as far as values are known (not
        traced), integer labels outside ``[0, classes)``, probabilities that are negative or do not sum
        to one.
      TypeError: labels of shape ``(…)`` that are not integers, complex numbers; an `ignore_class` that
        is no whole number.

    Source: `optax.losses`, with the labels checked and the limit for a logit of ∞, where optax and
    PyTorch have NaN; smoothing of Szegedy et al. (arXiv:1512.00567); ``from_logits`` and
    ``ignore_class`` of Keras, whose mean is over the examples that are not ignored.

    >>> import jax.numpy as jnp
    >>> softmax_cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])).round(3).tolist()  # log 4
    [1.3860000371932983, 1.3860000371932983]
    >>> p = jnp.array([[0.25, 0.75]])
    >>> softmax_cross_entropy(p, jnp.array([0]), from_logits=False).round(3).tolist()
    [1.3860000371932983]
    """
    _checks.check_scalar("label_smoothing", label_smoothing, "[0, 1]")
    batch = classified(scores_of(logits, from_logits, exclusive=True), labels, ignore_class)
    dtype = batch.scores.dtype
    wide = jnp.promote_types(dtype, jnp.float32)  # a sum of exponentials in half of it loses the small
    x, log_sum = log_softmax(batch.scores.astype(wide), from_logits)
    if batch.soft:
        p = batch.labels.astype(wide)
        # a class that cannot be has no part, even with a logit of −∞
        loss = jnp.sum(p * jnp.where(p == 0, 0, log_sum[..., None] - x), axis=-1)
    else:
        loss = log_sum - batch.of_label(x)
    if not (isinstance(label_smoothing, (int, float)) and label_smoothing == 0):
        alpha = jnp.asarray(label_smoothing, x.dtype)
        uniform = log_sum - jnp.mean(x, axis=-1)
        loss = jnp.where(alpha == 0, loss, (1 - alpha) * loss + alpha * uniform)
    return batch.of_counted(loss.astype(dtype))


def sigmoid_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: ArrayLike = 0.0,
    from_logits: bool = True,
    ignore_class: int | None = None,
) -> Float[Array, "*shape"]:
    """Binary cross-entropy of σ(logits): ``−y log σ(x) − (1 − y) log(1 − σ(x))``, elementwise.

    A logit of ±∞ is a certain prediction: its loss is 0 if it is right and ∞ if it is wrong.

    Args:
      logits: of any shape; probabilities with ``from_logits=False``.
      labels: of the same shape, but for a last axis of 1: 0 and 1 (integers, booleans) or probabilities.
      label_smoothing: α in [0, 1]: y becomes ``(1 − α) y + α / 2``.
      from_logits: whether the model ends without a sigmoid. With False ``logits`` are the probabilities
        behind it, p, and the loss is ``−y log p − (1 − y) log(1 − p)``.
      ignore_class: a label that is left out, such as −1, as for `softmax_cross_entropy`.

    Returns:
      One loss per element, in the dtype of the logits.

    Raises:
      ValueError: labels of another shape, a smoothing outside [0, 1]; as far as values are known (not
        traced), labels or probabilities outside [0, 1].
      TypeError: complex numbers; an `ignore_class` that is no whole number.

    Source: `optax.losses.sigmoid_binary_cross_entropy`; Keras' `BinaryCrossentropy`.

    >>> sigmoid_cross_entropy(jnp.zeros(2), jnp.array([0, 1])).round(3).tolist()  # log 2
    [0.6930000185966492, 0.6930000185966492]
    >>> sigmoid_cross_entropy(jnp.array([jnp.inf, -jnp.inf]), jnp.array([1, 0])).tolist()
    [0.0, 0.0]
    """
    _checks.check_scalar("label_smoothing", label_smoothing, "[0, 1]")
    x, labels, counted = bits(scores_of(logits, from_logits), labels, ignore_class)
    alpha = jnp.asarray(label_smoothing, x.dtype)
    y = (1 - alpha) * jnp.asarray(labels, x.dtype) + alpha / 2
    yes, no = log_both(x, from_logits)
    # what cannot be has no part, even if its logarithm is −∞
    loss = -y * jnp.where(y == 0, 0, yes) - (1 - y) * jnp.where(y == 1, 0, no)
    return loss if counted is None else jnp.where(counted, loss, 0)
