"""Scalers: the shift and scale of features by their statistics, in one go or batch by batch."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, of_data, weights_of_rows
from jaxdeep._precision import check_above_zero, extremes
from jaxdeep._shapes import Array, ArrayLike, Float, PyTree
from jaxdeep.preprocessing.features import (
    Axes,
    Axis,
    Batch,
    Halves,
    Statistic,
    check_axis,
    check_features,
    check_varies,
    float_of,
    in_halves,
    kept_shape,
    reduced_axes,
)
from jaxdeep.preprocessing.statistics import (
    Moments,
    Range,
    Weights,
    extremes_of,
    filled,
    merge_moments,
    merge_ranges,
    moments,
    or_else,
    share_of,
)
from jaxdeep.preprocessing.transform import described, fits

Bound = float | Float[Array, ""]
State = TypeVar("State", "Moments", "Range")


@described
class Scaler(NamedTuple):
    """A scaler: pure functions over a state that is a pytree of arrays.

    Attributes:
      fit: ``(x, weights=None) -> state``, of all the data at once: ``update(init(x), x, weights)``.
      transform: ``(state, x) -> y``, with the dtype of `x` (integers give floats).
      inverse_transform: ``(state, y) -> x``, in the dtype of `y`, rounded once. float32 has steps of 128
        at 1.7e9 (seconds since 1970): turn on x64 and give float64 where that matters.
      init: ``(x) -> state`` of no data; `x` is a batch or a `jax.ShapeDtypeStruct`, of which only shape
        and dtype are used.
      update: ``(state, x, weights=None) -> state`` with a batch added. Weights are finite, ≥ 0 and have
        leading axes of `x`; a row of weight 0 does not count (padding). In float32 the largest of them
        is between 3.6e-15 and 2.8e14.
      merge: ``(state, state) -> state``, as of both sets of data; joins devices and runs, in any order.
        States of other features are a ValueError.

    >>> scaler = standard_scaler()
    >>> state = scaler.init(jax.ShapeDtypeStruct((2, 1), jnp.float32))
    >>> for batch in (jnp.array([[1.0], [3.0]]), jnp.array([[5.0], [7.0]])):
    ...     state = scaler.update(state, batch)
    >>> state.mean.tolist(), state.variance.tolist()
    ([4.0], [5.0])
    """

    fit: Callable[..., PyTree]
    transform: Callable[[PyTree, ArrayLike], Array]
    inverse_transform: Callable[[PyTree, ArrayLike], Array]
    init: Callable[[ArrayLike | jax.ShapeDtypeStruct], PyTree]
    update: Callable[..., PyTree]
    merge: Callable[[PyTree, PyTree], PyTree]


@fits(Moments)
def standard_scaler(
    *,
    axis: Axis = 0,
    with_mean: bool = True,
    with_std: bool = True,
    ignore_nan: bool = True,
) -> Scaler:
    """Zero mean and unit variance for each feature: ``y = (x − mean) / √var``.

    The variance is the biased one (ddof 0). Features that are constant (standard deviation within the
    rounding of the mean) have scale 1. The state is `Moments`; whatever the batches, it is that of all
    data at once, up to rounding: batches are joined by Chan's formula, each taken about its own mean,
    so that a small variance on a large mean is not lost. Where the default float is float32, float64 and
    whole numbers are taken as two float32 each, so that seconds since 1970 keep their differences; and
    whole numbers beyond 2⁴⁸ as three, so that nanoseconds do.

    Args:
      axis: the axis, or axes, statistics are taken over, as in `jnp.mean`: 0 makes every column of
        ``(n, features)`` a feature, ``(0, 1, 2)`` every channel of NHWC images, None the whole array.
      with_mean, with_std: False leaves the shift or the scale out.
      ignore_nan: leave NaN out of the statistics; `transform` keeps them. False: the feature is NaN.

    Raises:
      ValueError: an `axis` that `x` lacks; weights below 0 or out of range; when transforming, an
        `x` of other features than the state's; finite numbers that the default float cannot hold;
        when fitting, no numbers, infinite ones (of weight 0 they may be), features that vary by so
        little that it makes them 0 (below 1e-38).
      TypeError: arguments of another kind; an `x` that is not of real numbers, or masked in places.

    Source: Chan, Golub & LeVeque, "Algorithms for Computing the Sample Variance" (1983); scikit-learn's
    `StandardScaler`.

    >>> x = jnp.array([[1.0, 5.0], [3.0, 5.0]])
    >>> scaler = standard_scaler()
    >>> state = scaler.fit(x)
    >>> scaler.transform(state, x).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    >>> scaler.inverse_transform(state, jnp.array([2.0, 1.0])).tolist()
    [4.0, 6.0]
    """
    for name, flag in (("with_mean", with_mean), ("with_std", with_std)):
        _checks.check_flag(name, flag)
    shift_and_scale = partial(_mean_and_deviation, with_mean=with_mean, with_std=with_std)
    nothing = (Moments, (0.0, 0.0, 0.0, 0.0, 1.0, *[0.0] * 5))
    return _scaler(nothing, moments, merge_moments, shift_and_scale, axis, ignore_nan)


@fits(Range)
def min_max_scaler(
    feature_range: tuple[float, float] = (0.0, 1.0),
    *,
    axis: Axis = 0,
    clip: bool = False,
    ignore_nan: bool = True,
) -> Scaler:
    """Each feature moved into ``[a, b]``: ``y = a + (b − a) (x − min) / (max − min)``.

    The state is `Range`. A constant feature becomes a, with scale 1.

    Args:
      feature_range: ``(a, b)``, with a < b.
      axis, ignore_nan: as for `standard_scaler`.
      clip: keep what `transform` gives in [a, b], also for values beyond those seen.

    Raises:
      ValueError: a feature range that is not increasing; otherwise as `standard_scaler`.

    Source: scikit-learn's `MinMaxScaler`.

    >>> scaler = min_max_scaler((-1, 1))
    >>> state = scaler.fit(jnp.array([[0.0], [10.0]]))
    >>> scaler.transform(state, jnp.array([[5.0], [20.0]])).tolist()
    [[0.0], [3.0]]
    """
    _checks.check_flag("clip", clip)
    if not isinstance(feature_range, (tuple, list)) or len(feature_range) != 2:
        raise TypeError(f"feature_range must be a pair (a, b), got {feature_range!r}")
    a, b = feature_range
    _checks.check_number("feature_range[0]", a, "(-inf, inf)")
    _checks.check_number("feature_range[1]", b, "(-inf, inf)")
    if not a < b:
        raise ValueError(f"feature_range must be a pair (a, b) with a < b, got {feature_range!r}")

    nothing, bounds = (Range, (jnp.inf, -jnp.inf, *[0.0] * 4)), (float(a), float(b))
    return _scaler(
        nothing, extremes_of, merge_ranges, _low_and_width, axis, ignore_nan, bounds, clip=clip
    )


def _scaler(
    nothing: tuple[type[State], tuple[float, ...]],
    seen: Callable[[Halves, Weights, Axes, bool], State],
    merge: Callable[[State, State], State],
    shift_and_scale: Callable[[State], "_Shift"],
    axis: Axis,
    ignore_nan: bool,
    bounds: tuple[float, float] = (0.0, 1.0),
    *,
    clip: bool = False,
) -> Scaler:
    """The scaler ``y = a + (b − a) (x − shift) / scale`` with bounds (a, b), for a kind of statistics.

    Args:
      nothing: the kind of the state, and what its statistics are without data.
      seen: ``(x, weights, axes, ignore_nan) -> state`` of one batch.
      merge: ``(state, state) -> state``.
      shift_and_scale: of a state.
    """
    check_axis(axis)
    _checks.check_flag("ignore_nan", ignore_nan)

    def init(x: ArrayLike | jax.ShapeDtypeStruct) -> State:
        like = x if isinstance(x, jax.ShapeDtypeStruct) else as_array("x", x)
        dtype = jnp.promote_types(float_of(like), jnp.float32)
        shape = kept_shape(tuple(like.shape), reduced_axes(axis, len(like.shape)))
        kind, values = nothing
        return kind(*(jnp.full(shape, value, dtype) for value in values))

    @of_data
    def update(state: State, x: ArrayLike, weights: ArrayLike | None = None) -> State:
        check_state(state, nothing[0])
        halves, _ = in_halves(x)
        wide = halves.high
        axes = reduced_axes(axis, wide.ndim)
        check_above_zero("x", as_array("x", x), axis=tuple(range(wide.ndim)))  # a feature may be 0 here
        shape = kept_shape(wide.shape, axes)
        if shape != state[0].shape:
            raise ValueError(
                f"the state is of features {state[0].shape}, got an x of shape {wide.shape} whose "
                f"features are {shape} (axis={axis})"
            )
        new = merge(state, seen(halves, _weights(weights, wide), axes, ignore_nan))
        return jax.tree.map(lambda leaf: leaf.astype(state[0].dtype), new)

    def fit(x: ArrayLike, weights: ArrayLike | None = None) -> State:
        array = as_array("x", x)
        check_above_zero("x", array, axis=reduced_axes(axis, array.ndim))
        if not array.size:
            raise ValueError(f"x is empty, got shape {array.shape}: there is nothing to fit")
        if weights is None and _checks.is_known(array) and np.isinf(np.asarray(array)).any():
            raise ValueError("x holds infinite numbers, of which there are no statistics")
        check_varies("x", array, reduced_axes(axis, array.ndim))
        return update(init(x), x, weights)

    def joined(state: State, other: State) -> State:
        check_state(state, nothing[0])
        check_state(other, nothing[0])
        if jnp.shape(state[0]) != jnp.shape(other[0]):
            raise ValueError(
                f"the states must be of the same features, got those of {jnp.shape(state[0])} and of "
                f"{jnp.shape(other[0])}"
            )
        return merge(state, other)

    def prepared(state: State, x: ArrayLike, name: str) -> tuple[Halves, jnp.dtype]:
        check_state(state, nothing[0])
        halves, dtype = in_halves(x, name)
        check_features(state[0].shape, halves.high.shape, axis, name)
        return halves, dtype

    @of_data
    def transform(state: State, x: ArrayLike) -> Array:
        halves, dtype = prepared(state, x, "x")
        y = _forward(halves, shift_and_scale(state), *bounds)
        return (jnp.clip(y, *bounds) if clip else y).astype(dtype)

    @of_data
    def inverse_transform(state: State, y: ArrayLike) -> Array:
        halves, dtype = prepared(state, y, "y")
        return _backward(halves.high, shift_and_scale(state), *bounds).astype(dtype)

    return Scaler(fit, transform, inverse_transform, init, update, joined)


def check_state(state: object, kind: type) -> None:
    """Refuse what is not the state that `fit` or `init` makes."""
    if not isinstance(state, kind):
        raise TypeError(f"state must be what fit returned, a {kind.__name__}, got {state!r}")


class _Shift(NamedTuple):
    """What is taken off, in parts, and divided by; all but `rest` and `last` times `share`.

    The share is 1, less for features whose range is beyond the largest number of the dtype.
    """

    shift: Statistic
    rest: Statistic
    scale: Statistic
    share: Statistic
    last: Statistic


@jax.jit
def _forward(x: Halves, by: _Shift, a: Bound, b: Bound) -> Array:
    low = 0 if x.low is None else x.low * by.share
    off = (x.high * by.share - by.shift) + (low - by.rest * by.share)
    off = off + ((0 if x.last is None else x.last * by.share) - by.last * by.share)
    return a + (b - a) * (off / by.scale)


@jax.jit
def _backward(y: Array, by: _Shift, a: Bound, b: Bound) -> Array:
    rest = by.rest * by.share + by.last * by.share
    return (((y - a) / (b - a) * by.scale + rest) + by.shift) / by.share


@partial(jax.jit, static_argnames=("with_mean", "with_std"))
def _mean_and_deviation(state: Moments, *, with_mean: bool, with_std: bool) -> _Shift:
    state = filled(state)
    zeros = jnp.zeros_like(state.mean)
    share = share_of(jnp.maximum(jnp.abs(state.mean), jnp.sqrt(state.spread) * state.unit))
    shift, rest, last = (state.mean * share, state.rest, state.last) if with_mean else [zeros] * 3
    return _Shift(shift, rest, state.scale * share if with_std else share, share, last)


@jax.jit
def _low_and_width(state: Range) -> _Shift:
    seen = ~(state.low > state.high)  # otherwise as if [0, 1] had been
    low, high = jnp.where(seen, state.low, 0), jnp.where(seen, state.high, 1)
    share = share_of(jnp.maximum(jnp.abs(low), jnp.abs(high)))
    rests = (jnp.where(seen, or_else(rest, 0), 0) for rest in state[2:])
    scaled = Range(low * share, high * share, *(rest * share for rest in rests))
    rest, last = scaled.low_rest / share, scaled.low_last / share
    return _Shift(scaled.low, rest, jnp.where(scaled.constant, share, scaled.scale), share, last)


def _weights(weights: ArrayLike | None, x: Batch) -> Weights:
    if weights is None:
        return jnp.ones((1,) * x.ndim, x.dtype)
    array = as_array("weights", weights)
    array = array if array.shape == x.shape[: array.ndim] else weights_of_rows(array)
    if array.shape != x.shape[: array.ndim]:
        raise ValueError(f"weights must have the leading axes of {x.shape}, got shape {array.shape}")
    if not isinstance(array, jax.core.Tracer) and array.size and not extremes(array)[0] >= 0:
        raise ValueError(f"weights must be ≥ 0, got some of {extremes(array)[0]}")
    if not isinstance(array, jax.core.Tracer) and array.size:
        largest, most = extremes(array)[1], float(jnp.finfo(x.dtype).max) ** 0.375
        if not largest <= most or 0 < largest < 1 / most:
            raise ValueError(
                f"the largest of the weights must be at most {most:.2g}, and at least {1 / most:.2g} "
                f"unless all are 0, for sums of squares in the range of {x.dtype}; got {largest}"
            )
    return jnp.asarray(array).astype(x.dtype).reshape(array.shape + (1,) * (x.ndim - array.ndim))
