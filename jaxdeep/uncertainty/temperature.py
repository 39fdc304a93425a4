"""Temperature scaling of logits."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import on_device
from jaxdeep._shapes import Array, ArrayLike, Float, Integer, Num
from jaxdeep.uncertainty.calibration import Labels, flat, one_hot

_LOW, _HIGH = 1e-4, 1e4  # of 1/T
_STEPS = 50


def fit_temperature(logits: Num[ArrayLike, "..."], labels: Labels) -> Float[Array, ""]:
    """The temperature that calibrates logits best: ``argmin_T −Σ log softmax(logits / T)_label``.

    T is one number between 10⁻⁴ and 10⁴, to be fitted on validation data. T > 1 makes predictions less
    confident, while the class that is predicted does not change. The negative log-likelihood is convex
    in 1/T and is minimised by Newton's method, kept inside a bracket. On these data it is never above
    that of T = 1.

    Args:
      logits: ``(…, classes)``; or ``(N,)`` or ``(N, 1)``, the logit of class 1 of two.
      labels: classes as integers, or probabilities of the shape of the logits.

    Raises:
      ValueError: shapes that do not fit, labels that are no class, no examples, known numbers that are
        probabilities (all rows in [0, 1] with a sum of 1, or all of a single output in [0, 1] and not
        only 0 and 1), of which the logarithms are logits; known logits that are NaN or +∞.

    Traced logits that are NaN, and traced labels that are no class, give NaN.

    Source: Guo et al., "On Calibration of Modern Neural Networks" (arXiv:1706.04599), section 4.2.

    >>> logits = jnp.array([[4.0, 0.0]] * 4)  # 98 % sure and right three times of four
    >>> temperature = fit_temperature(logits, jnp.array([0, 0, 0, 1]))
    >>> jax.nn.softmax(temperature_scale(logits, temperature))[0].round(2).tolist()
    [0.75, 0.25]
    """
    z, y, classes = flat(
        "logits", logits, labels, lambda z: jnp.concatenate([jnp.zeros_like(z), z], axis=-1)
    )
    _check_logits(z)
    single = np.ndim(logits) < 2 or np.shape(logits)[-1] == 1
    if single and _checks.is_known(z) and _are_inside(np.asarray(z)[:, 1]):
        raise ValueError(
            "logits of a single output are in [0, 1], all of them, as probabilities are; take their "
            "logits, jnp.log(p / (1 - p)), or what the model gives before its sigmoid. If they are "
            "logits, say so with those of both classes: jnp.stack([jnp.zeros_like(z), z], axis=-1)"
        )
    _check_no_probabilities(z)
    y = one_hot(y, classes, z.dtype) if y.ndim == 1 else y.astype(z.dtype)
    return _fit(z, y)


def temperature_scale(
    logits: Num[ArrayLike, "*shape"], temperature: Num[ArrayLike, ""]
) -> Float[Array, "*shape"]:
    """Logits at a temperature: ``logits / T``, of the dtype of the logits.

    Args:
      logits: of any shape.
      temperature: T > 0, as `fit_temperature` returns it.

    Raises:
      ValueError: a temperature that is not positive; known numbers that are probabilities, all rows in
        [0, 1] with a sum of 1.

    Source: Guo et al. (arXiv:1706.04599).

    >>> temperature_scale(jnp.array([2.0, 4.0]), 2.0).tolist()
    [1.0, 2.0]
    """
    _checks.check_scalar("temperature", temperature, "(0, inf)")
    logits = on_device("logits", logits)
    if logits.ndim > 1 and logits.shape[-1] > 1 and logits.size:
        _check_no_probabilities(logits)
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    scaled = logits.astype(dtype) / jnp.asarray(temperature, dtype)
    return scaled.astype(logits.dtype) if jnp.issubdtype(logits.dtype, jnp.floating) else scaled


def _check_no_probabilities(z: Num[Array, "..."]) -> None:
    """Refuse known numbers that can hardly be logits; zeros and ones alone may be either."""
    if not _checks.is_known(z):
        return
    known = np.asarray(z)
    if _are_inside(known) and not _checks.wrong_sums(known).size:
        raise ValueError(
            "logits are probabilities: every row is in [0, 1] and sums to 1; take their logarithm, "
            "jnp.log(probabilities), or what the model gives before its softmax"
        )


def _are_inside(known: np.ndarray) -> bool:
    """Whether all are in [0, 1], and not only on its ends."""
    return bool(known.min() >= 0 and known.max() <= 1 and ((known > 0) & (known < 1)).any())


def _check_logits(z: Float[Array, "rows classes"]) -> None:
    """Refuse known logits without a temperature: NaN and +∞. −∞ is a class that cannot be."""
    if _checks.is_known(z):
        known = np.asarray(z)
        wrong = known[np.isnan(known) | np.isposinf(known)]
        if wrong.size:
            raise ValueError(f"logits must be numbers below infinity, got {wrong[0]}")


@jax.jit
def _fit(z: Float[Array, "rows classes"], y: Float[Array, "rows classes"]) -> Float[Array, ""]:
    z = jnp.maximum(
        z - jax.lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True)), -1e30
    )  # −∞ · 0 is not 0

    def loss(beta: Float[Array, ""]) -> Float[Array, ""]:
        return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(beta * z), axis=-1))

    def step(_: Integer[Array, ""], bracket: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, beta, high = bracket
        p = jax.nn.softmax(beta * z) * jnp.sum(y, axis=-1, keepdims=True)
        mean = jnp.sum(p * z, axis=-1, keepdims=True)
        slope = jnp.mean(mean[..., 0] - jnp.sum(y * z, axis=-1))
        curvature = jnp.mean(jnp.sum(p * (z - mean) * (z - mean), axis=-1))
        low, high = jnp.where(slope < 0, beta, low), jnp.where(slope < 0, high, beta)
        newton = beta - slope / curvature
        within = (newton > low) & (newton < high)
        return low, jnp.where(within, newton, jnp.sqrt(low * high)), high

    bounds = (jnp.asarray(b, z.dtype) for b in (_LOW, 1, _HIGH))
    _, beta, _ = jax.lax.fori_loop(0, _STEPS, step, tuple(bounds))
    at_one = loss(jnp.ones_like(beta))
    return jnp.where(loss(beta) < at_one, 1 / beta, jnp.where(jnp.isnan(at_one), jnp.nan, 1))
