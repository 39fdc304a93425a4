"""Losses of numbers: of the errors of outputs, elementwise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._limits import absolute
from jaxdeep._shapes import Array, ArrayLike, Float
from jaxdeep.losses.inputs import elementwise, relative


def mse(outputs: ArrayLike, targets: ArrayLike) -> Float[Array, "*shape"]:
    """Squared error: ``(outputs − targets)²``, elementwise; its mean is the mean squared error.

    Args:
      outputs, targets: of the same shape, but for a last axis of 1: ``(n,)`` is taken for ``(n, 1)``.

    Returns:
      One loss per element, computed in at least float32, in the dtype of the outputs.

    The difference of two NumPy arrays is taken in float64 (exactly, of whole numbers), and NumPy targets
    of 64 bits beside an array of JAX keep the digits that float32 would lose (at 1.7e9 it has steps of
    128).

    Raises:
      ValueError: targets of another shape; nothing is broadcast. Known targets that JAX' default types
        or the dtype of the outputs cannot hold: whole numbers beyond 32 bits, others beyond float32.
        Differences of NumPy arrays that are beyond float32.

    Source: `optax.losses.squared_error`; no ½.

    >>> mse(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])).tolist()
    [1.0, 4.0]
    """
    return elementwise(optax.losses.squared_error, outputs, targets)


def mae(outputs: ArrayLike, targets: ArrayLike) -> Float[Array, "*shape"]:
    """Absolute error: ``|outputs − targets|``, elementwise; its mean is the mean absolute error.

    Its slope is the sign of the error, 0 where there is none.

    Args:
      outputs, targets: as for `mse`.

    Raises:
      ValueError: targets of another shape, or that cannot be held.

    Source: `torch.nn.L1Loss` without its mean.

    >>> mae(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])).tolist()
    [1.0, 2.0]
    """
    return elementwise(absolute, outputs, targets)


def mape(outputs: ArrayLike, targets: ArrayLike) -> Float[Array, "*shape"]:
    """Absolute error as a fraction of the target: ``|outputs − targets| / |targets|``, elementwise.

    Its mean is the mean absolute percentage error, as a fraction: 0.1 is 10 %. Targets nearer to 0 than
    2.2e-16 are taken for that, so that the fraction is huge and finite. Outputs of float16 have no such
    numbers: there it is 6.1e-5, and a fraction beyond 65504 is infinite. Without error the slope is 0.

    Args:
      outputs, targets: as for `mse`.

    Raises:
      ValueError: targets of another shape, or that cannot be held.

    Source: `sklearn.metrics.mean_absolute_percentage_error`. Keras' is 100 times this and takes targets
    nearer to 0 than 1e-7 for that.

    >>> mape(jnp.array([90.0, 3.0]), jnp.array([100.0, 2.0])).round(3).tolist()
    [0.10000000149011612, 0.5]
    """
    is_half = as_array("outputs", outputs).dtype == jnp.float16
    least = float(jnp.finfo(jnp.float16).tiny if is_half else jnp.finfo(jnp.float64).eps)

    def equation(errors: jax.Array, y: jax.Array) -> jax.Array:
        return absolute(errors) / jnp.maximum(jnp.abs(y), least)

    return relative(equation, outputs, targets)


def msle(outputs: ArrayLike, targets: ArrayLike) -> Float[Array, "*shape"]:
    """Squared error of logarithms: ``(log(1 + outputs) − log(1 + targets))²``, elementwise.

    For targets that are at least 0 and of several orders of magnitude. A model whose outputs are above
    −1 (`jax.nn.softplus`) keeps it finite.

    Args:
      outputs, targets: as for `mse`, above −1.

    Raises:
      ValueError: targets of another shape, or that cannot be held; known outputs or targets of at most
        −1. Traced ones give NaN.

    Of close numbers the difference is taken before the logarithm, so that it keeps its digits.

    Source: `sklearn.metrics.mean_squared_log_error`. Keras takes numbers below 1e-7 for that.

    >>> msle(jnp.array([0.0, 3.0]), jnp.array([0.0, 1.0])).round(3).tolist()  # (log 2)²
    [0.0, 0.48000001907348633]
    """
    for name, values in (("outputs", outputs), ("targets", targets)):
        known = as_array(name, values)
        if _checks.is_known(known) and (wrong := np.asarray(known)[np.asarray(known) <= -1]).size:
            raise ValueError(f"{name} must be above -1, got {wrong.flat[0]}")

    def equation(errors: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.square(jnp.log1p(errors / (1 + y)))

    return relative(equation, outputs, targets)


def huber(outputs: ArrayLike, targets: ArrayLike, *, delta: ArrayLike = 1.0) -> Float[Array, "*shape"]:
    """``½ e²`` where ``|e| ≤ δ``, ``δ (|e| − ½ δ)`` beyond, with e the error; elementwise.

    Args:
      outputs, targets: as for `mse`.
      delta: δ > 0, where the parabola becomes a line.

    Raises:
      ValueError: targets of another shape, or that cannot be held; δ ≤ 0.

    Source: Huber (1964); `optax.losses.huber_loss`, Keras' `Huber`.

    >>> huber(jnp.array([0.5, 3.0]), jnp.zeros(2)).tolist()
    [0.125, 2.5]
    """
    _checks.check_scalar("delta", delta, "(0, inf)")

    def equation(errors: jax.Array) -> jax.Array:
        return optax.losses.huber_loss(errors, delta=jnp.asarray(delta, errors.dtype))

    return elementwise(equation, outputs, targets)


def log_cosh(outputs: ArrayLike, targets: ArrayLike) -> Float[Array, "*shape"]:
    """``log cosh e`` with e the error, elementwise: ½ e² near 0, ``|e| − log 2`` far from it.

    Args:
      outputs, targets: as for `mse`.

    Raises:
      ValueError: targets of another shape, or that cannot be held.

    Correct to a few roundings at any size of the error, and its derivative is ``tanh e``.

    Source: Keras' `LogCosh`; `optax.losses.log_cosh`, which loses the digits of errors below 1.

    >>> log_cosh(jnp.array([0.0, 100.0]), jnp.zeros(2)).round().tolist()
    [0.0, 99.0]
    >>> f"{float(log_cosh(jnp.array(1e-3), jnp.array(0.0))):.3g}"  # e² / 2
    '5e-07'
    """
    return elementwise(_log_cosh, outputs, targets)


@jax.custom_jvp
def _log_cosh(error: jax.Array) -> jax.Array:
    """``log cosh e``, which near 0 is of ``cosh e − 1 = (e^|e| − 1)² / 2 e^|e|``."""
    size = jnp.abs(error)
    near = size < 1
    grown = jnp.expm1(jnp.where(near, size, 0))
    far = optax.losses.log_cosh(jnp.where(near, 1, error))
    return jnp.where(near, jnp.log1p(grown * (grown / (2 * (1 + grown)))), far)


@_log_cosh.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (error,), (tangent,) = primals, tangents
    return _log_cosh(error), jnp.tanh(error) * tangent
