"""Focal losses: cross-entropies in which what is predicted well counts little."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._arrays import as_array, broadcasting
from jaxdeep._shapes import Array, ArrayLike, Float
from jaxdeep.losses.inputs import bits, classified, log_both, log_softmax, scores_of


def sigmoid_focal(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: ArrayLike = 2.0,
    alpha: ArrayLike | None = None,
    from_logits: bool = True,
    ignore_class: int | None = None,
) -> Float[Array, "*shape"]:
    """``−α_t (1 − p_t)^γ log p_t``, elementwise, with p_t the probability of the label.

    p_t is σ(x) for the label 1 and 1 − σ(x) for 0; a label between has its share of both losses. With
    γ = 0 and without α it is `sigmoid_cross_entropy`. As there, a wrong logit of ±∞ costs ∞,
    with the slope of its limit, ±α_t.

    Args:
      logits: of any shape; probabilities with ``from_logits=False``.
      labels: of the same shape, but for a last axis of 1: 0 and 1 (integers, booleans) or probabilities.
      gamma: γ ≥ 0; the larger it is, the less what is predicted well counts.
      alpha: α in [0, 1], the weight of the label 1, beside 1 − α of the label 0. By default both have
        weight 1.
      from_logits, ignore_class: as for `sigmoid_cross_entropy`.

    Returns:
      One loss per element, computed in at least float32, in the dtype of the logits.

    Raises:
      ValueError: labels of another shape, γ < 0, α outside [0, 1]; as far as values are known (not
        traced), labels or probabilities outside [0, 1].
      TypeError: an `ignore_class` that is no whole number.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (arXiv:1708.02002), who take α = 0.25;
    `optax.losses.sigmoid_focal_loss`; Keras' `BinaryFocalCrossentropy`, whose α is off by default, too.

    >>> sigmoid_focal(jnp.array([0.0, 4.0]), jnp.array([1, 1])).round(5).tolist()
    [0.17328999936580658, 9.999999747378752e-06]
    """
    _checks.check_scalar("gamma", gamma, "[0, inf)")
    if alpha is not None:
        _checks.check_scalar("alpha", alpha, "[0, 1]")
    scores, y, counted = bits(scores_of(logits, from_logits), labels, ignore_class)
    wide = jnp.promote_types(scores.dtype, jnp.float32)
    x, y = scores.astype(wide), jnp.asarray(y).astype(wide)
    # on the way in, as a derivative of infinity times 0 is NaN
    even = 0 if from_logits else 0.5
    of_yes, of_no = jnp.where(y == 0, even, x), jnp.where(y == 1, even, x)
    yes, no = log_both(of_yes, from_logits)[0], log_both(of_no, from_logits)[1]
    p, q = (jax.nn.sigmoid(of_no), jax.nn.sigmoid(-of_yes)) if from_logits else (of_no, 1 - of_yes)
    of_one, of_none = _focused(q, gamma, yes), _focused(p, gamma, no)
    # what cannot be has no part, even if its logarithm is −∞
    of_one, of_none = y * jnp.where(y == 0, 0, of_one), (1 - y) * jnp.where(y == 1, 0, of_none)
    if alpha is not None:
        alpha = jnp.asarray(alpha, wide)
        of_one, of_none = _times(alpha, of_one), _times(1 - alpha, of_none)
    loss = (of_one + of_none).astype(scores.dtype)
    return loss if counted is None else jnp.where(counted, loss, 0)


def softmax_focal(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: ArrayLike = 2.0,
    alpha: ArrayLike | None = None,
    from_logits: bool = True,
    ignore_class: int | None = None,
) -> Float[Array, "*batch"]:
    """``−Σ_c α_c y_c (1 − p_c)^γ log p_c`` with p = softmax(logits).

    With γ = 0 and without α it is `softmax_cross_entropy`, whose slope it has wherever it is infinite.

    Args:
      logits: ``(…, classes)``; probabilities with ``from_logits=False``, which are divided by their sum.
      labels: classes as integers, of shape ``(…)`` or ``(…, 1)``, or probabilities, ``(…, classes)``.
      gamma: γ ≥ 0; the larger it is, the less what is predicted well counts.
      alpha: a weight of at least 0 for each class, or one for all; by default 1.
      from_logits, ignore_class: as for `softmax_cross_entropy`.

    Returns:
      One loss per example, of shape ``(…)``, computed in at least float32, in the dtype of the logits.

    Raises:
      ValueError, TypeError: as `softmax_cross_entropy`; γ < 0; another number of α than of classes, and
        known ones below 0.

    Source: Lin et al. (arXiv:1708.02002) over several classes; Keras' `CategoricalFocalCrossentropy`,
    which multiplies by α = 0.25 by default.

    >>> softmax_focal(jnp.zeros((1, 2)), jnp.array([0])).round(5).tolist()  # ¼ log 2
    [0.17328999936580658]
    """
    _checks.check_scalar("gamma", gamma, "[0, inf)")
    batch = classified(scores_of(logits, from_logits, exclusive=True), labels, ignore_class)
    wide = jnp.promote_types(batch.scores.dtype, jnp.float32)
    weights = _weights(alpha, batch.scores.shape[-1], wide)
    x, log_sum = log_softmax(batch.scores.astype(wide), from_logits)
    log_p = x - log_sum[..., None]
    # what cannot be has no part, neither in the loss nor in its gradient
    if batch.soft:
        y = batch.labels.astype(wide)
        log_p = jnp.where(y == 0, 0, log_p)
        loss = jnp.sum(_times(weights, y * _focused(-jnp.expm1(log_p), gamma, log_p)), axis=-1)
    else:
        log_p = batch.of_label(log_p)
        weights = (
            batch.of_label(jnp.broadcast_to(weights, batch.scores.shape)) if weights.ndim else weights
        )
        loss = _times(weights, _focused(-jnp.expm1(log_p), gamma, log_p))
    return batch.of_counted(loss.astype(batch.scores.dtype))


@broadcasting
def _times(weight: jax.Array, loss: jax.Array) -> jax.Array:
    """The weighted loss; of weight 0 it is 0, also where it is infinite, and has no gradient."""
    return weight * jnp.where(weight == 0, 0, loss)


def _focused(base: jax.Array, gamma: ArrayLike, log_p: jax.Array) -> jax.Array:
    """``−base^γ log p`` with ``base = 1 − p``, which is 1 and flat where log p is −∞."""
    never = jnp.isinf(log_p)
    return jnp.where(never, -log_p, -_power(base, gamma) * jnp.where(never, 0, log_p))


def _power(base: jax.Array, gamma: ArrayLike) -> jax.Array:
    """``base^γ`` for a base from 0 on; at 0, where the slope may have no end, of slope 0."""
    exponent: Any = jnp.asarray(gamma, base.dtype)
    some = base > 0
    power = jnp.where(some, base, 1) ** exponent
    return jnp.where(some | jnp.isnan(base), jnp.where(jnp.isnan(base), base, power), exponent == 0)


def _weights(alpha: ArrayLike | None, classes: int, dtype: jnp.dtype) -> jax.Array:
    """A weight for each class, or one."""
    if alpha is None:
        return jnp.ones((), dtype)
    array = as_array("alpha", alpha)
    if array.shape not in ((), (classes,)):
        raise ValueError(
            f"alpha must be a number or one for each of the {classes} classes, got shape {array.shape}"
        )
    if not array.shape:
        _checks.check_scalar("alpha", alpha, "[0, inf)")
    _checks.check_known("alpha", array, 0, float(jnp.finfo(dtype).max))
    _checks.check_numbers("alpha", array)
    return jnp.asarray(array, dtype)
