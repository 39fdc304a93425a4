"""Power transforms of single values: Box-Cox, Yeo-Johnson and their inverses, right at every λ.

Both are one function of a logarithm, ``power(l, λ) = (e^(λ l) − 1) / λ``, which is l at λ = 0: Box-Cox
is ``power(log x, λ)``, and Yeo-Johnson ``±power(log(1 + |x|), λ or 2 − λ)`` by the sign of x.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, of_data
from jaxdeep._precision import check_above_zero
from jaxdeep._shapes import Array, ArrayLike, Bool, Float
from jaxdeep.preprocessing.features import (
    Axis,
    broadcasts,
    check_axis,
    check_finite,
    kept_shape,
    reduced_axes,
    widened,
)

Values = Float[Array, "*values"]
Lambda = Float[Array, "..."]  # λ, which broadcasts against the values

# (e^t − 1) / t = Σ t^k / (k + 1)! below |t| = 1/2, and log(1 + s) / s = Σ (−s)^k / (k + 1) below
# |s| = 1/10: to float64's precision, so that derivatives of any order are right too, at 0 and near it.
_EXPM1 = [1 / math.factorial(k + 1) for k in range(16)]
_LOG1P = [(-1) ** k / (k + 1) for k in range(18)]


@of_data
def box_cox(
    x: ArrayLike, lmbda: ArrayLike, geometric_mean: ArrayLike = False, *, axis: Axis = 0
) -> Float[Array, "..."]:
    """Box-Cox: ``y = (x^λ − 1) / λ``, and ``log x`` for λ = 0.

    Computed as ``expm1(λ log x) / λ``, with a series near λ = 0: value and derivatives by x and λ are
    right there too. With `geometric_mean` g, ``y = (x^λ − 1) / (λ g^(λ−1))``: results of all λ are then
    on the scale of x, and the best λ has the smallest variance.

    Args:
      x: positive, or NaN; traced ones that are not give NaN.
      lmbda: λ, a number or an array that broadcasts against `x` (one for each column).
      geometric_mean: True for that of `x` over `axis` (of the positive ones); or its value, which
        new data needs.
      axis: the axis, or axes, of the geometric mean; None for all of `x`.

    Returns:
      An array like `x`, computed in at least float32.

    Raises:
      ValueError: values ≤ 0; shapes that do not broadcast to that of `x`; a geometric mean that is not
        positive; a λ that is not finite, or that the default float cannot hold; NumPy values above 0
        that it would make 0.
      TypeError: an `x` that is not of real numbers.

    Source: Box & Cox, "An Analysis of Transformations" (1964); `scipy.stats.boxcox`.

    >>> box_cox(jnp.array([1.0, 4.0, 9.0]), 0.5).tolist()
    [0.0, 2.0, 4.0]
    >>> round(float(box_cox(5.0, 1e-7)), 4), round(math.log(5), 4)
    (1.6094, 1.6094)
    """
    check_axis(axis)
    check_above_zero("x", as_array("x", x))  # of which there is a logarithm
    check_positive(as_array("x", x))
    wide, dtype = widened(x)
    lmbda = _beside("lmbda", lmbda, wide)
    if isinstance(geometric_mean, (bool, np.bool_)) and not geometric_mean:
        return _box_cox(wide, lmbda).astype(dtype)
    return _scaled_box_cox(wide, lmbda, _log_mean(wide, geometric_mean, axis)).astype(dtype)


@of_data
def inverse_box_cox(y: ArrayLike, lmbda: ArrayLike) -> Float[Array, "..."]:
    """The x of which `box_cox` makes `y`: ``x = (1 + λ y)^(1/λ)``, and ``e^y`` for λ = 0.

    Args:
      y: with λ y ≥ −1; others give NaN.
      lmbda: as for `box_cox`.

    Raises:
      ValueError, TypeError: as `box_cox`.

    Source: `scipy.special.inv_boxcox`.

    >>> inverse_box_cox(jnp.array([0.0, 2.0, 4.0]), 0.5).round(4).tolist()
    [1.0, 4.0, 9.0]
    """
    wide, dtype = widened(y, "y")
    return _inverse_box_cox(wide, _beside("lmbda", lmbda, wide)).astype(dtype)


@of_data
def yeo_johnson(x: ArrayLike, lmbda: ArrayLike) -> Float[Array, "..."]:
    """Yeo-Johnson: Box-Cox of 1 + x, and mirrored, with 2 − λ, below 0.

    ``((1 + x)^λ − 1) / λ`` for x ≥ 0, ``log(1 + x)`` if λ = 0; for x < 0
    ``−((1 − x)^(2−λ) − 1) / (2 − λ)``, ``−log(1 − x)`` if λ = 2. λ = 1 changes nothing. Right at
    and near λ = 0 and λ = 2, as `box_cox` is.

    Args:
      x: real numbers.
      lmbda: λ, a number or an array that broadcasts against `x`.

    Returns:
      An array like `x`, computed in at least float32.

    Raises:
      ValueError, TypeError: as `box_cox`.

    Source: Yeo & Johnson, "A New Family of Power Transformations" (2000); `scipy.stats.yeojohnson`.

    >>> yeo_johnson(jnp.array([-3.0, 0.0, 3.0]), 1.0).tolist()
    [-3.0, 0.0, 3.0]
    """
    wide, dtype = widened(x)
    return _yeo_johnson(wide, _beside("lmbda", lmbda, wide)).astype(dtype)


@of_data
def inverse_yeo_johnson(y: ArrayLike, lmbda: ArrayLike) -> Float[Array, "..."]:
    """The x of which `yeo_johnson` makes `y`.

    Args:
      y: a value `yeo_johnson` takes: λ y > −1 for y ≥ 0 and (2 − λ) y < 1 below; others give NaN.
      lmbda: as for `yeo_johnson`.

    Raises:
      ValueError, TypeError: as `box_cox`.

    Source: Yeo & Johnson (2000).

    >>> x = jnp.array([-3.0, 0.0, 3.0])
    >>> bool(jnp.allclose(inverse_yeo_johnson(yeo_johnson(x, 0.5), 0.5), x))
    True
    """
    wide, dtype = widened(y, "y")
    return _inverse_yeo_johnson(wide, _beside("lmbda", lmbda, wide)).astype(dtype)


@jax.jit
def _box_cox(x: Values, lmbda: Lambda) -> Values:
    good = x > 0  # others stay out of the derivative by λ
    return jnp.where(good, power(jnp.log(jnp.where(good, x, 1)), lmbda), jnp.nan)


@jax.jit
def _scaled_box_cox(x: Values, lmbda: Lambda, log_mean: Lambda) -> Values:
    return _box_cox(x, lmbda) * jnp.exp((1 - lmbda) * log_mean)


@jax.jit
def _inverse_box_cox(y: Values, lmbda: Lambda) -> Values:
    return jnp.exp(inverse_power(y, lmbda))


@jax.jit
def _yeo_johnson(x: Values, lmbda: Lambda) -> Values:
    missing, negative = jnp.isnan(x), x < 0
    log = jnp.log1p(mirrored(jnp.where(missing, 0, x), negative))
    return jnp.where(missing, jnp.nan, mirrored(power(log, exponent(lmbda, negative)), negative))


@jax.jit
def _inverse_yeo_johnson(y: Values, lmbda: Lambda) -> Values:
    negative = y < 0
    log = inverse_power(mirrored(y, negative), exponent(lmbda, negative))
    return mirrored(jnp.expm1(log), negative)


def check_positive(x: np.ndarray | jax.Array) -> None:
    """Refuse known values of which there is no Box-Cox transform."""
    if _checks.is_known(x) and (np.asarray(x) <= 0).any():
        raise ValueError("x must be positive for Box-Cox, got values ≤ 0 (use Yeo-Johnson)")


def power(log: Values, lmbda: Lambda) -> Values:
    """``(e^(λ log) − 1) / λ``."""
    t = lmbda * log
    small = jnp.abs(t) < 0.5
    near = log * _horner(_EXPM1, jnp.where(small, t, 0))
    return jnp.where(small, near, jnp.expm1(jnp.where(small, 1, t)) / jnp.where(small, 1, lmbda))


def powers(log: Values, lmbda: Lambda, shift: Lambda, unit: Lambda) -> tuple[Values, Values, Values]:
    """`power` and two derivatives by λ, divided by ``unit e^shift``, so that squares are in range."""
    t = lmbda * log
    small = jnp.abs(t) < 0.5
    t, root = jnp.where(small, t, 0), jnp.exp(-shift)
    near, coefficients = [], _EXPM1
    for order in range(3):
        near.append(root * ((log / unit) * log**order) * _horner(coefficients, t))
        coefficients = [k * c for k, c in enumerate(coefficients)][1:]
    log, lmbda = jnp.where(small, 1, log), jnp.where(small, 1, lmbda)
    grown = jnp.exp(lmbda * log - shift)
    far = [(grown - root) / (lmbda * unit)]
    far.append(((log / unit) * grown - far[0]) / lmbda)
    far.append((log * (log / unit) * grown - 2 * far[1]) / lmbda)
    y, first, second = (jnp.where(small, a, b) for a, b in zip(near, far))
    return y, first, second


def inverse_power(y: Values, lmbda: Lambda) -> Values:
    """``log(1 + λ y) / λ``."""
    s = lmbda * y
    small = jnp.abs(s) < 0.1
    near = y * _horner(_LOG1P, jnp.where(small, s, 0))
    return jnp.where(small, near, jnp.log1p(jnp.where(small, 1, s)) / jnp.where(small, 1, lmbda))


def _horner(coefficients: list[float], t: Values) -> Values:
    """``Σ c_k t^k``, as far as the dtype can tell."""
    kept = coefficients if t.dtype == jnp.float64 else coefficients[:9]
    total = jnp.full_like(t, kept[-1])
    for coefficient in reversed(kept[:-1]):
        total = total * t + coefficient
    return total


def mirrored(values: Values, negative: Bool[Array, "..."]) -> Values:
    """Negated where `negative`; unlike `jnp.abs`, with derivative 1 at 0."""
    return jnp.where(negative, -values, values)


def exponent(lmbda: Lambda, negative: Bool[Array, "..."]) -> Lambda:
    """2 − λ where `negative`, else λ."""
    return jnp.where(negative, 2 - lmbda, lmbda)


def _log_mean(x: Values, geometric_mean: ArrayLike, axis: Axis) -> Lambda:
    if isinstance(geometric_mean, (bool, np.bool_)):
        axes, good = reduced_axes(axis, x.ndim), x > 0
        mean = jnp.mean(jnp.log(jnp.where(good, x, 1)), axis=axes, where=good)
        return mean.reshape(kept_shape(x.shape, axes))
    check_above_zero("geometric_mean", as_array("geometric_mean", geometric_mean))
    if jnp.ndim(geometric_mean) == 0:
        _checks.check_scalar("geometric_mean", geometric_mean, "(0, inf)")
    return jnp.log(_beside("geometric_mean", geometric_mean, x))


def _beside(name: str, value: ArrayLike, x: Values) -> Lambda:
    """An argument in the dtype of `x`, refused unless it broadcasts against it."""
    check_finite(name, value)
    array = jnp.asarray(as_array(name, value)).astype(x.dtype)
    if not broadcasts(array.shape, x.shape):
        raise ValueError(f"{name} must broadcast to the shape {x.shape} of x, got shape {array.shape}")
    return array
