"""A scaler by quantiles, which a few extreme values do not move."""

from statistics import NormalDist
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, of_data
from jaxdeep._shapes import Array, ArrayLike, Float
from jaxdeep.preprocessing.features import Axis, check_axis
from jaxdeep.preprocessing.order import Base, ordered, prepared, with_base
from jaxdeep.preprocessing.scaling import check_state
from jaxdeep.preprocessing.smooth import inverse_smooth_clip, smooth_clip
from jaxdeep.preprocessing.statistics import share_of
from jaxdeep.preprocessing.transform import Transform, fits


class RobustState(NamedTuple):
    """What `robust_scaler` learns.

    Attributes:
      base: one of the values of each feature, in parts.
      center: the median, less the base.
      scale: what is divided by; 0 for features that become 0.
    """

    base: Base
    center: Float[Array, "*features"]
    scale: Float[Array, "*features"]


@fits(RobustState)
def robust_scaler(
    *,
    quantile_range: tuple[float, float] = (25.0, 75.0),
    with_centering: bool = True,
    with_scaling: bool = True,
    unit_variance: bool = False,
    flat: Literal["unit", "range"] = "unit",
    clip: float | None = None,
    axis: Axis = 0,
) -> Transform:
    """Median 0 and interquartile range 1 for each feature: ``y = (x − median) / (P75 − P25)``.

    The state is `RobustState`, of all rows; NaN are left out when fitting and kept when transforming.
    NumPy data is taken in float64, and whole numbers exactly, until the median is off. A feature without
    values is left as it is.

    RealMLP's scaling of inputs is ``robust_scaler(flat="range", clip=3.0)``.

    Args:
      quantile_range: the percentages of the two quantiles, ascending, in [0, 100].
      with_centering, with_scaling: False leaves the median or the scale out.
      unit_variance: so that normal features get variance 1: the scale is divided by the distance of the
        two quantiles of the normal distribution, 1.349 for quartiles.
      flat: what takes the place of the distance of quantiles that are the same: ``"unit"``, 1; or
        ``"range"``, half the distance of least and largest value, and if those are the same too the
        feature becomes 0, whatever comes later.
      clip: a limit for `smooth_clip` of the result.
      axis: the axis, or axes, of the examples, as for `standard_scaler`.

    Raises:
      ValueError: arguments out of range; when fitting, no or infinite numbers, and those that are so far
        apart that their distances are beyond the default float; when transforming, other features than
        the state's.
      TypeError: arguments of another kind.

    Source: scikit-learn's `RobustScaler`, which takes any scale below 2e-15 for 0, however small the
    values are; here it is one within the rounding of the values.

    >>> scaler = robust_scaler()
    >>> state = scaler.fit(jnp.array([[0.0], [1.0], [2.0], [3.0], [1000.0]]))
    >>> scaler.transform(state, jnp.array([[2.0], [4.0]])).tolist()
    [[0.0], [1.0]]
    """
    low, high = _quantile_range(quantile_range)
    _checks.check_flags(
        with_centering=with_centering, with_scaling=with_scaling, unit_variance=unit_variance
    )
    _checks.check_choice("flat", flat, ("unit", "range"))
    if clip is not None:
        _checks.check_scalar("clip", clip, "(0, inf)")
    check_axis(axis)
    divided = _normal_range(low / 100, high / 100) if unit_variance else 1.0

    @of_data
    def fit(x: ArrayLike) -> RobustState:
        values = ordered(x, axis)
        xp = values.numpy
        below, median, above = values.quantiles(np.array([low / 100, 0.5, high / 100]))
        scale = above - below
        same = values.is_constant(above - below)
        if flat == "range":
            least, most = (
                values.at(xp.zeros_like(values.count)[None])[0],
                values.at(values.count[None])[0],
            )
            wide = values.is_constant(most - least)
            scale = xp.where(same, xp.where(wide, 0, most / 2 - least / 2), scale)
        else:
            scale = xp.where(same, 1, scale)
        scale = xp.where(values.count > 0, scale, 1) / divided
        largest = jnp.finfo(values.base.high.dtype).max
        if with_scaling and _checks.is_known(scale) and not (np.asarray(scale) <= largest).all():
            raise ValueError(
                f"x has a distance of quantiles beyond {largest:.2g}, which is the largest of "
                f"{values.base.high.dtype}: divide it by a unit"
            )
        center = median if with_centering else xp.zeros_like(median)
        base = values.base
        if not with_centering:
            base = jax.tree.map(jnp.zeros_like, base)
        return RobustState(
            base, values.state(center), values.state(scale if with_scaling else xp.ones_like(scale))
        )

    @of_data
    def transform(state: RobustState, x: ArrayLike) -> Array:
        check_state(state, RobustState)
        off, dtype = prepared(state.base, x, axis, "x")
        y = _forward(off, state.center, state.scale)
        return (y if clip is None else smooth_clip(y, clip)).astype(dtype)

    @of_data
    def inverse_transform(state: RobustState, y: ArrayLike) -> Array:
        check_state(state, RobustState)
        zero = jax.tree.map(jnp.zeros_like, state.base)
        wide, dtype = prepared(zero, as_array("y", y), axis, "y")
        if clip is not None:
            wide = inverse_smooth_clip(wide, clip)
        return _backward(wide, state).astype(dtype)

    return Transform(fit, transform, inverse_transform)


@jax.jit
def _forward(off: Array, center: Array, scale: Array) -> Array:
    # compiled code may multiply by 1 / scale, which is 0 to it for the largest scales
    share = share_of(jnp.maximum(jnp.abs(center), scale))
    y = (off * share - center * share) / jnp.where(scale == 0, 1, scale * share)
    return jnp.where((scale == 0) & ~jnp.isnan(off), 0, y)


@jax.jit
def _backward(y: Array, state: RobustState) -> Array:
    off = jnp.where((state.scale == 0) & ~jnp.isnan(y), 0, y * state.scale)
    return with_base(off + state.center, state.base)


def _quantile_range(percentages: object) -> tuple[float, float]:
    if not isinstance(percentages, (tuple, list)) or len(percentages) != 2:
        raise TypeError(f"quantile_range must be a pair of percentages, got {percentages!r}")
    for place, share in enumerate(percentages):
        _checks.check_number(f"quantile_range[{place}]", share, "[0, 100]")
    low, high = map(float, percentages)
    if not low < high:
        raise ValueError(f"quantile_range must be a pair of ascending percentages, got {percentages!r}")
    return low, high


def _normal_range(low: float, high: float) -> float:
    """The distance of two quantiles of the normal distribution."""
    if low == 0 or high == 1:
        raise ValueError(
            "quantile_range must be inside 0 and 100 for unit_variance, got "
            f"({100 * low:g}, {100 * high:g})"
        )
    normal = NormalDist()
    return normal.inv_cdf(high) - normal.inv_cdf(low)
