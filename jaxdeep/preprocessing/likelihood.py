"""The λ of power transforms by maximum likelihood, for all columns in one compiled search."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, of_data
from jaxdeep._precision import check_above_zero
from jaxdeep._shapes import Array, ArrayLike, Bool, Float
from jaxdeep.preprocessing.features import (
    Axes,
    Axis,
    check_axis,
    check_finite,
    kept_shape,
    reduced_axes,
    widened,
)
from jaxdeep.preprocessing.power import check_positive, exponent, mirrored, powers
from jaxdeep.preprocessing.precision import precisely
from jaxdeep.preprocessing.statistics import summed, unit_of

Data = Float[Array, "*data"]
Kept = Float[Array, "*kept"]  # one value for each feature, with the axes of the examples as 1
PerFeature = Float[Array, "*features"]
Method = Literal["box-cox", "yeo-johnson"]


def box_cox_llf(x: ArrayLike, lmbda: ArrayLike, *, axis: Axis = 0) -> PerFeature:
    """Log-likelihood of λ: ``(λ − 1) Σ log x − n/2 · log var(box_cox(x, λ))``, without constants.

    The variance is the biased one, and NaN are left out. Computed about the geometric mean of x, so that
    powers neither overflow nor drown small differences.

    Args:
      x: positive, or NaN; traced ones that are not give NaN.
      lmbda: λ, a number or one for each feature.
      axis: the axis, or axes, of the examples.

    Returns:
      One value for each feature, in at least float32.

    Raises:
      ValueError, TypeError: as `box_cox`.

    Source: Box & Cox (1964), section 3; `scipy.stats.boxcox_llf`.

    >>> x = jnp.array([0.5, 1.0, 2.0, 4.0])
    >>> bool(box_cox_llf(x, 0.0) > box_cox_llf(x, 1.0))
    True
    """
    return _llf_of(x, lmbda, axis, "box-cox")


def yeo_johnson_llf(x: ArrayLike, lmbda: ArrayLike, *, axis: Axis = 0) -> PerFeature:
    """Log-likelihood of λ: ``(λ − 1) Σ sign(x) log(1 + |x|) − n/2 · log var(yeo_johnson(x, λ))``.

    Args:
      x: real numbers; NaN are left out.
      lmbda, axis: as for `box_cox_llf`.

    Raises:
      ValueError, TypeError: as `box_cox_llf`.

    Source: Yeo & Johnson (2000); `scipy.stats.yeojohnson_llf`.

    >>> x = jnp.array([-1.0, 0.0, 1.0])
    >>> bool(yeo_johnson_llf(x, 1.0) > yeo_johnson_llf(x, 2.0))
    True
    """
    return _llf_of(x, lmbda, axis, "yeo-johnson")


def box_cox_mle(x: ArrayLike, *, axis: Axis = 0) -> PerFeature:
    """The λ of each feature that maximises `box_cox_llf`.

    The likelihood is concave: its slope has one zero, found by Newton's method, kept between bounds, to
    the precision of the dtype. λ is bounded where results would come near the ends of the range of the
    dtype or keep less than a quarter of their digits (all but equal, as for strong negative powers of
    large values). Differentiable by `x`.

    Args:
      x: positive; NaN are left out.
      axis: the axis, or axes, of the examples.

    Raises:
      ValueError: values ≤ 0 or infinite, features that are constant or without values. (Under `jax.jit`
        λ is NaN for them.)
      TypeError: an `x` that is not of real numbers.

    Source: `scipy.stats.boxcox_normmax` with ``method="mle"``; concavity: Kouider & Chen (1995).

    >>> abs(float(box_cox_mle(jnp.exp(jnp.linspace(-1.0, 1.0, 5))))) < 1e-4
    True
    """
    return _mle_of(x, axis, "box-cox")


def yeo_johnson_mle(x: ArrayLike, *, axis: Axis = 0) -> PerFeature:
    """The λ of each feature that maximises `yeo_johnson_llf`; 1 for constant features.

    Args:
      x, axis: as for `box_cox_mle`, of any sign.

    Raises:
      ValueError: infinite values.
      TypeError: an `x` that is not of real numbers.

    Source: `scipy.stats.yeojohnson_normmax`.

    >>> float(yeo_johnson_mle(jnp.linspace(-1.0, 1.0, 5)).round(4))
    1.0
    """
    return _mle_of(x, axis, "yeo-johnson")


def box_cox_interval(
    x: ArrayLike, lmbda: ArrayLike | None = None, *, level: float | Array = 0.95, axis: Axis = 0
) -> tuple[PerFeature, PerFeature]:
    """Confidence interval of λ: where ``llf(λ) ≥ llf(λ̂) − χ²₁(level) / 2``.

    Args:
      x: as for `box_cox_mle`.
      lmbda: λ̂ of each feature, if `box_cox_mle` has been run.
      level: of confidence, in (0, 1).
      axis: the axis, or axes, of the examples.

    Returns:
      The bounds ``(low, high)``, one for each feature.

    Raises:
      ValueError: a level out of range; otherwise as `box_cox_mle`.

    Source: Box & Cox (1964), section 3; `scipy.stats.boxcox` with ``alpha=1 - level``.

    >>> low, high = box_cox_interval(jnp.exp(jnp.linspace(-1.0, 1.0, 5)))
    >>> bool(low < 0 < high)
    True
    """
    return _interval_of(x, lmbda, level, axis, "box-cox")


def yeo_johnson_interval(
    x: ArrayLike, lmbda: ArrayLike | None = None, *, level: float | Array = 0.95, axis: Axis = 0
) -> tuple[PerFeature, PerFeature]:
    """As `box_cox_interval`, of `yeo_johnson_llf`; NaN for constant features.

    Args:
      x, lmbda, level, axis: as for `box_cox_interval`.

    Raises:
      ValueError: a level out of range; otherwise as `yeo_johnson_mle`.

    Source: Yeo & Johnson (2000).

    >>> low, high = yeo_johnson_interval(jnp.linspace(-1.0, 1.0, 5))
    >>> bool(low < 1 < high)
    True
    """
    return _interval_of(x, lmbda, level, axis, "yeo-johnson")


class _Logs(NamedTuple):
    """What the likelihood needs to know of the data."""

    log: Data  # of x (Box-Cox) or 1 + |x|, less `center`; 0 where not valid
    negative: Bool[Array, "*data"] | None  # where x < 0 and the exponent is 2 − λ; None for Box-Cox
    valid: Bool[Array, "*data"]
    n: Kept
    center: Kept
    one_sided: Bool[Array, "*kept"]  # powers of `center` factor out: it may be any


def _logs(x: Data, axes: Axes, method: Method) -> _Logs:
    valid = ~jnp.isnan(x)
    x = jnp.where(valid, x, 1)
    n = jnp.sum(valid, axis=axes, keepdims=True).astype(x.dtype)
    if method == "yeo-johnson":
        negative = x < 0
        size = mirrored(x, negative)
        log, exp = jnp.log1p(size), jnp.expm1
        side = jnp.sum(negative, axis=axes, keepdims=True)
        one_sided = (side == 0) | (side == n)
    else:
        negative = None
        size = jnp.where(x > 0, x, jnp.nan)
        log, exp = jnp.log(size), jnp.exp
        one_sided = jnp.ones_like(n, bool)
    mean = summed(jnp.where(valid, log, 0), axes) / jnp.maximum(n, 1)
    center = jax.lax.stop_gradient(jnp.where(one_sided, mean, 0))
    off = (size - exp(center)) / jnp.exp(center)  # differences of logarithms would lose digits
    near = jnp.abs(off) < 0.5
    log = jnp.where(near, jnp.log1p(jnp.where(near, off, 0)), log - center)
    return _Logs(jnp.where(valid, log, 0), negative, valid, n, center, one_sided)


def _powers(logs: _Logs, lmbda: Kept, axes: Axes) -> tuple[Data, Data, Data, Kept]:
    """Transformed values divided by e^shift, their two derivatives by λ, and the shift.

    In units of the values, whose squares may leave the range of the dtype.
    """
    sided = lmbda if logs.negative is None else exponent(lmbda, logs.negative)
    shift = jax.lax.stop_gradient(jnp.max(sided * logs.log, axis=axes, keepdims=True, initial=0))
    unit = unit_of(jnp.max(jnp.abs(logs.log), axis=axes, keepdims=True, initial=0))
    y, first, second = powers(logs.log, sided, shift, unit)
    if logs.negative is not None:
        y, second = mirrored(y, logs.negative), mirrored(second, logs.negative)
    return y, first, second, shift + jnp.log(unit)


def _slope_of_jacobian(logs: _Logs, axes: Axes) -> Kept:
    log = logs.log if logs.negative is None else mirrored(logs.log, logs.negative)
    return summed(log, axes) / logs.n


def _llf(logs: _Logs, lmbda: Kept, axes: Axes) -> Kept:
    """The likelihood of one example, with the axes of the examples kept."""
    mean = partial(_mean, logs, axes)
    y, *_, shift = _powers(logs, lmbda, axes)
    off = y - mean(y)
    spread = shift + jnp.log(mean(off * off)) / 2
    return (lmbda - 1) * _slope_of_jacobian(logs, axes) - logs.center - spread


def _slopes(logs: _Logs, lmbda: Kept, axes: Axes) -> tuple[Kept, Kept]:
    """First and second derivative by λ of `_llf`."""
    mean = partial(_mean, logs, axes)
    y, first, second, _ = _powers(logs, lmbda, axes)
    off, off_first = y - mean(y), first - mean(first)
    variance = mean(off * off)
    slope = mean(off * first) / variance
    curvature = (mean(off_first * off_first) + mean(off * second)) / variance - 2 * slope * slope
    return _slope_of_jacobian(logs, axes) - slope, -curvature


def _mean(logs: _Logs, axes: Axes, values: Data) -> Kept:
    return summed(jnp.where(logs.valid, values, 0), axes) / logs.n


@partial(jax.jit, static_argnums=(1, 2))
def _mle(x: Data, axes: Axes, method: Method) -> PerFeature:
    constant = _constant(x, axes)
    logs = _logs(jnp.where(constant, jnp.nan, x), axes, method)  # clear of log 0
    lmbda = _zero_of_slope(logs, axes)
    low, high = _bounds(jax.lax.stop_gradient(logs), axes)
    lmbda = jnp.where(jnp.isnan(lmbda), lmbda, jnp.clip(lmbda, low, high))
    lmbda = jnp.where(constant, 1 if method == "yeo-johnson" else jnp.nan, lmbda)
    return lmbda.reshape(kept_shape(x.shape, axes))


def _constant(x: Data, axes: Axes) -> Bool[Array, "*kept"]:
    """Whether all values are one, up to rounding, or there are none."""
    valid = ~jnp.isnan(x)
    low = jnp.min(x, axis=axes, keepdims=True, initial=jnp.inf, where=valid)
    high = jnp.max(x, axis=axes, keepdims=True, initial=-jnp.inf, where=valid)
    return (high - low <= 2 * jnp.finfo(x.dtype).eps * jnp.abs(high)) & (high < jnp.inf)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _zero_of_slope(logs: _Logs, axes: Axes) -> Kept:
    return _search(lambda at: _slopes(logs, at, axes), jnp.ones_like(logs.n))


@_zero_of_slope.defjvp
def _derivative_of_zero(axes: Axes, primals: tuple[_Logs], tangents: tuple[_Logs]) -> tuple[Kept, Kept]:
    """The implicit function theorem: the slope stays 0."""
    lmbda = _zero_of_slope(primals[0], axes)
    (_, curvature), (change, _) = jax.jvp(lambda logs: _slopes(logs, lmbda, axes), primals, tangents)
    return lmbda, -change / curvature


def _search(slopes: Callable[[Kept], tuple[Kept, Kept]], start: Kept) -> Kept:
    """The zeros of decreasing functions, by Newton's steps or, where better, halving."""
    precision = 4 * jnp.finfo(start.dtype).eps

    def body(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        at, low, high, last, done, count = carry
        slope, curvature = slopes(at)
        low, high = jnp.where(slope > 0, at, low), jnp.where(slope < 0, at, high)
        limit = 2 + 2 * jnp.abs(at)
        step = jnp.where(curvature < 0, -slope / curvature, jnp.sign(slope) * limit)
        step = jnp.clip(step, -limit, limit)
        target = at + step
        bracketed = jnp.isfinite(high - low)
        astray = (target <= low) | (target >= high) | (jnp.abs(step) > last / 2)
        step = jnp.where(bracketed & astray, low + (high - low) / 2 - at, step)
        at_zero = (slope == 0) | jnp.isnan(slope)
        step = jnp.where(done | at_zero, jnp.where(jnp.isnan(slope), slope, 0), step)
        done |= at_zero | (jnp.abs(step) <= precision * (1 + jnp.abs(at)))
        return at + step, low, high, jnp.abs(step), done, count + 1

    infinite = jnp.full_like(start, jnp.inf)
    never, count = jnp.zeros(start.shape, bool), jnp.zeros((), jnp.int32)
    carry: tuple[Array, ...] = (start, -infinite, infinite, infinite, never, count)
    return jax.lax.while_loop(lambda c: ~jnp.all(c[4]) & (c[5] < 100), body, carry)[0]


def _bounds(logs: _Logs, axes: Axes) -> tuple[Kept, Kept]:
    """The λ between which results stay within the range of exponents, and can be told apart."""
    info = jnp.finfo(logs.log.dtype)
    eps = float(np.log(info.eps))
    most = float(np.log(info.max)) + eps / 2
    log = logs.log + logs.center

    def over(side: Bool[Array, "..."]) -> tuple[Kept, Kept]:
        """Bounds of the exponent of the values on a side."""
        where = side & logs.valid
        high = jnp.max(log, axis=axes, keepdims=True, initial=-jnp.inf, where=where)
        low = jnp.min(log, axis=axes, keepdims=True, initial=jnp.inf, where=where)
        alone = logs.one_sided & (low <= high)

        def apart(nearest: Kept) -> Kept:  # the values are 1 − e^t, and the nearest t is this times λ
            width = (high - low) / jnp.where(nearest > 0, nearest, 1)
            digits = 0.75 * -eps + jnp.log(-jnp.expm1(0.75 * eps * jnp.where(alone, width, 1)))
            return jnp.where(alone, _ratio(jnp.maximum(digits, 0), nearest), jnp.inf)

        up = jnp.minimum(_ratio(most, high), apart(-high))
        down = jnp.minimum(_ratio(most, -low), apart(low))
        return -down, up

    if logs.negative is None:
        return over(jnp.array(True))
    low, high = over(~logs.negative)
    mirrored_low, mirrored_high = over(logs.negative)
    return jnp.maximum(low, 2 - mirrored_high), jnp.minimum(high, 2 - mirrored_low)


def _ratio(most: float | Kept, size: Kept) -> Kept:
    """``most / size``, ∞ for a size that is not positive and finite."""
    good = (size > 0) & jnp.isfinite(size)
    return jnp.where(good, most / jnp.where(good, size, 1), jnp.inf)


@partial(jax.jit, static_argnums=(3, 4))
def _interval(
    x: Data, lmbda: Array, drop: Array, axes: Axes, method: Method
) -> tuple[PerFeature, PerFeature]:
    logs = _logs(x, axes, method)
    shape = kept_shape(x.shape, axes)
    best = jnp.broadcast_to(lmbda, shape).reshape(logs.n.shape)
    drop = drop / logs.n
    target = _llf(logs, best, axes) - drop
    width = jnp.sqrt(-2 * drop / _slopes(logs, best, axes)[1])

    def newton(_: Array, at: Kept) -> Kept:  # the second step, and all after it, come from outside
        return at - (_llf(logs, at, axes) - target) / _slopes(logs, at, axes)[0]

    low, high = (jax.lax.fori_loop(0, 12, newton, best + side * width) for side in (-1, 1))
    return low.reshape(shape), high.reshape(shape)


@partial(jax.jit, static_argnums=(2, 3))
def _llf_jit(x: Data, lmbda: Array, axes: Axes, method: Method) -> PerFeature:
    logs = _logs(x, axes, method)
    shape = kept_shape(x.shape, axes)
    lmbda = jnp.broadcast_to(lmbda, shape).reshape(logs.n.shape)
    return (logs.n * _llf(logs, lmbda, axes)).reshape(shape)


@of_data
@precisely
def _llf_of(x: ArrayLike, lmbda: ArrayLike, axis: Axis, method: Method) -> PerFeature:
    wide, axes = _data(x, axis, method)
    if method == "box-cox":
        check_positive(as_array("x", x))
    return _llf_jit(wide, _lmbdas(lmbda, wide, axes), axes, method)


@of_data
@precisely
def _mle_of(x: ArrayLike, axis: Axis, method: Method) -> PerFeature:
    wide, axes = _data(x, axis, method)
    _check_data(wide, axes, method)
    return _mle(wide, axes, method)


@of_data
@precisely
def _interval_of(
    x: ArrayLike, lmbda: ArrayLike | None, level: float | Array, axis: Axis, method: Method
) -> tuple[PerFeature, PerFeature]:
    _checks.check_scalar("level", level, "(0, 1)")
    wide, axes = _data(x, axis, method)
    lmbda = _mle_of(wide, axis, method) if lmbda is None else lmbda
    level = jnp.asarray(level).astype(wide.dtype)
    drop = jax.scipy.stats.norm.ppf((1 + level) / 2) ** 2 / 2
    return _interval(wide, _lmbdas(lmbda, wide, axes), drop, axes, method)


def _data(x: ArrayLike, axis: Axis, method: Method) -> tuple[Data, Axes]:
    check_axis(axis)
    wide, _ = widened(x)
    axes = reduced_axes(axis, wide.ndim)
    # Box-Cox takes the logarithm of each, Yeo-Johnson of a number near 1
    check_above_zero("x", as_array("x", x), axis=None if method == "box-cox" else axes)
    return wide, axes


def _lmbdas(lmbda: ArrayLike, x: Data, axes: Axes) -> Float[Array, "..."]:
    """λ as a number or one for each feature, in the dtype of `x`."""
    check_finite("lmbda", lmbda)
    array, shape = jnp.asarray(as_array("lmbda", lmbda)).astype(x.dtype), kept_shape(x.shape, axes)
    if array.shape not in ((), shape):
        raise ValueError(
            f"lmbda must be a number or have the shape {shape} of features (of x without its axis), got "
            f"{array.shape}"
        )
    return array


@partial(jax.jit, static_argnums=1)
def _faults(x: Data, axes: Axes) -> tuple[Array, Array, Array]:
    return jnp.isinf(x).any(axis=axes), (x <= 0).any(axis=axes), _constant(x, axes)


def _check_data(x: Data, axes: Axes, method: Method) -> None:
    if isinstance(x, jax.core.Tracer):
        return
    with jax.ensure_compile_time_eval():
        infinite, negative, constant = (np.ravel(fault) for fault in _faults(x, axes))
    faults = [(infinite, "infinite values")]
    if method == "box-cox":
        faults += [(negative, "values ≤ 0 (use Yeo-Johnson)"), (constant, "a single value, or none")]
    for fault, description in faults:
        if fault.any():
            where = f" in features {np.flatnonzero(fault)[:8].tolist()}" if fault.size > 1 else ""
            raise ValueError(f"{method} cannot be fitted to {description}; got them{where}")
