"""Features as their place among the values seen: even or normal, whatever their distribution was."""

from statistics import NormalDist
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri

from jaxdeep import _checks
from jaxdeep._arrays import as_array, of_data
from jaxdeep._shapes import Array, ArrayLike, Float
from jaxdeep.preprocessing.features import Axis, check_axis
from jaxdeep.preprocessing.order import Base, by_feature, ordered, prepared, with_base
from jaxdeep.preprocessing.scaling import check_state
from jaxdeep.preprocessing.transform import Transform, fits

_END = -NormalDist().inv_cdf(1e-7 - np.spacing(1))  # what the ends become, as in scikit-learn: 5.1993


class QuantileState(NamedTuple):
    """What `quantile_transform` learns.

    Attributes:
      base: one of the values of each feature, in parts.
      quantiles: ``(quantiles, *features)``, ascending, less the base; NaN for features without values.
    """

    base: Base
    quantiles: Float[Array, "quantiles *features"]


@fits(QuantileState)
def quantile_transform(
    n_quantiles: int = 1000,
    *,
    output: Literal["uniform", "normal"] = "uniform",
    axis: Axis = 0,
) -> Transform:
    """Each value becomes the share of values below it, in [0, 1], or the normal quantile of that share.

    Between two quantiles of what was seen the share is interpolated; values that are there several times
    get the middle of their range; the ends and what is beyond them become 0 and 1, which are −5.1993
    and 5.1993 for a normal output. NaN are left out when fitting and kept when transforming. The state
    is `QuantileState`, of all rows.

    Args:
      n_quantiles: at how many shares quantiles are taken; at most as many as there are rows are.
      output: ``"uniform"`` or ``"normal"``.
      axis: the axis, or axes, of the examples, as for `standard_scaler`.

    Raises:
      ValueError: arguments out of range; when fitting, no or infinite numbers; when transforming, other
        features than the state's.
      TypeError: arguments of another kind.

    Source: scikit-learn's `QuantileTransformer`, from which it differs in three ways: all rows are used
    and not 10,000 of them; a constant feature, and
    one without values, becomes 0 in a normal output, there −5.2 and NaN; the ends
    are the ends, there also what is less than 1e-7 from them.

    >>> transform = quantile_transform()
    >>> state = transform.fit(jnp.array([[1.0], [2.0], [2.0], [10.0], [100.0]]))
    >>> y = transform.transform(state, jnp.array([[0.0], [2.0], [55.0], [100.0]]))
    >>> y.tolist()
    [[0.0], [0.375], [0.875], [1.0]]
    >>> transform.inverse_transform(state, y).tolist()
    [[1.0], [2.0], [55.0], [100.0]]
    """
    n_quantiles = _checks.check_count("n_quantiles", n_quantiles)
    _checks.check_choice("output", output, ("uniform", "normal"))
    check_axis(axis)
    normal = output == "normal"

    @of_data
    def fit(x: ArrayLike) -> QuantileState:
        values = ordered(x, axis)
        xp = values.numpy
        quantiles = values.even_quantiles(max(1, min(n_quantiles, len(values.values))))
        # by rounding they may go down
        quantiles = (np.maximum.accumulate if xp is np else jax.lax.cummax)(quantiles)
        quantiles = xp.where(values.count > 0, quantiles, xp.nan)
        return QuantileState(values.base, values.state(quantiles))

    @of_data
    def transform(state: QuantileState, x: ArrayLike) -> Array:
        check_state(state, QuantileState)
        off, dtype = prepared(state.base, x, axis, "x")
        place = _normal_place if normal else _even_place
        return _by_feature(place, off, state.quantiles).astype(dtype)

    @of_data
    def inverse_transform(state: QuantileState, y: ArrayLike) -> Array:
        check_state(state, QuantileState)
        zero = jax.tree.map(jnp.zeros_like, state.base)
        wide, dtype = prepared(zero, as_array("y", y), axis, "y")
        off = _by_feature(_value_of_normal if normal else _value_of_even, wide, state.quantiles)
        return with_base(off, state.base).astype(dtype)

    return Transform(fit, transform, inverse_transform)


_by_feature = jax.jit(by_feature, static_argnums=0)


def _shares(x: Array, quantiles: Array) -> tuple[Array, Array]:
    """The share of values below x, and of those above."""
    last = len(quantiles) - 1
    upper = jnp.clip(jnp.searchsorted(quantiles, x, side="right") - 1, 0, last)
    lower = jnp.clip(jnp.searchsorted(quantiles, x, side="left"), 0, last)
    step = quantiles[jnp.minimum(upper + 1, last)] - quantiles[upper]
    part = jnp.where(step > 0, (x - quantiles[upper]) / jnp.where(step > 0, step, 1), 0)
    between = upper + jnp.clip(part, 0, 1)
    first = jnp.where(quantiles[lower] == x, lower, between)  # the first of those that are equal
    count = max(last, 1)
    below, above = 0.5 * (between + first) / count, 0.5 * ((last - between) + (last - first)) / count
    low, high = x <= quantiles[0], x >= quantiles[last]
    below = jnp.where(low, 0, jnp.where(high, 1, below))
    return below, jnp.where(low, 1, jnp.where(high, 0, above))


def _even_place(x: Array, quantiles: Array) -> Array:
    below, _ = _shares(x, quantiles)
    return jnp.where(jnp.isnan(x), jnp.nan, below)


def _normal_place(x: Array, quantiles: Array) -> Array:
    below, above = _shares(x, quantiles)
    least = float(jnp.finfo(x.dtype).tiny)
    # from the nearer end, at which float32 is fine
    y = jnp.where(below < above, 1, -1) * ndtri(jnp.maximum(jnp.minimum(below, above), least))
    y = jnp.clip(y, -_END, _END)
    spread = quantiles[0] < quantiles[-1]  # not that of a constant, nor of a feature without values
    return jnp.where(jnp.isnan(x), jnp.nan, jnp.where(spread, y, 0))


def _value_of_even(y: Array, quantiles: Array) -> Array:
    last = len(quantiles) - 1
    place = jnp.clip(y, 0, 1) * last
    below = jnp.clip(jnp.nan_to_num(jnp.floor(place)), 0, max(last - 1, 0)).astype(int)
    low, high = quantiles[below], quantiles[jnp.minimum(below + 1, last)]
    value = jnp.where(place - below >= 1, high, low + (place - below) * (high - low))
    return jnp.where(jnp.isnan(y), jnp.nan, value)


def _value_of_normal(y: Array, quantiles: Array) -> Array:
    share = jnp.where(y <= -5.1993, 0, jnp.where(y >= 5.1993, 1, ndtr(y)))
    return _value_of_even(jnp.where(jnp.isnan(y), jnp.nan, share), quantiles)
