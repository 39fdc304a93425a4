"""Scalers: statistics of features, in one go or batch by batch, and the shift and scale by them."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, broadcasting, check_holds, extremes
from jaxdeep._shapes import Array, ArrayLike, Float, PyTree, Shaped

Axis = int | tuple[int, ...] | None
Axes = tuple[int, ...]  # all of them from 0 on, ascending
Batch = Float[Array, "*batch"]
Weights = Float[Array, "*batch_or_1"]  # with as many axes as the batch
Statistic = Float[Array, "*features"]
Bound = float | Float[Array, ""]
State = TypeVar("State", "Moments", "Range")


class Scaler(NamedTuple):
    """A scaler: pure functions over a state that is a pytree of arrays.

    Attributes:
      fit: ``(x, weights=None) -> state``, of all the data at once: ``update(init(x), x, weights)``.
      transform: ``(state, x) -> y``, with the dtype of `x` (integers give floats).
      inverse_transform: ``(state, y) -> x``, in the dtype of `y`. float32 holds seconds since 1970 to 64
        seconds, and no sum of two floats that it is computed by changes that: turn on x64 and give
        float64 where it matters.
      init: ``(x) -> state`` of no data; `x` is a batch or a `jax.ShapeDtypeStruct`, of which only shape
        and dtype are used.
      update: ``(state, x, weights=None) -> state`` with a batch added. Weights are ≥ 0 and have leading
        axes of `x`; a row of weight 0 does not count (padding).
      merge: ``(state, state) -> state``, as of both sets of data; joins devices and runs, in any order.

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


class Moments(NamedTuple):
    """Number, mean and sum of squared deviations of each feature, in at least float32.

    Attributes:
      n: sum of the weights of what was seen, NaN left out.
      mean: 0 where nothing was seen.
      m2: ``Σ w (x − mean)² / unit²``.
      rest: what rounding took off the mean of values that the dtype cannot hold, so that the mean is
        ``mean + rest``: seconds of this century keep their fractions in two float32. None is 0.
      unit: a power of two, 1 but for features so large or small that squares leave the range of the
        dtype. None is 1.
      eps: the relative rounding of the values seen. None is that of the dtype.
      n_rest, mean_rest, spread_rest: what rounding took off `n`, `mean` and ``m2 / n``, so that one row
        is still counted when there are more than 2²⁴ in float32. None is 0.

    >>> moments = Moments(jnp.array([2.0]), jnp.array([4.0]), jnp.array([2.0]))
    >>> moments.variance.tolist(), moments.scale.tolist()
    ([1.0], [1.0])
    """

    n: Statistic
    mean: Statistic
    m2: Statistic
    rest: Any = None
    unit: Any = None
    eps: Any = None
    n_rest: Any = None
    mean_rest: Any = None
    spread_rest: Any = None

    @property
    def variance(self) -> Statistic:
        """The biased variance (ddof 0); 0 where nothing was seen."""
        unit = _or(self.unit, 1)
        return self.spread * unit * unit

    @property
    def spread(self) -> Statistic:
        """The variance in squares of `unit`, which is in the range of the dtype."""
        return self.m2 / jnp.where(self.n > 0, self.n, 1)

    @property
    def constant(self) -> Shaped[Array, "*features"]:
        """Whether the standard deviation is no larger than the rounding of the mean."""
        eps = _or(self.eps, jnp.finfo(self.mean.dtype).eps)
        return jnp.sqrt(self.spread) * _or(self.unit, 1) <= eps * jnp.abs(self.mean)

    @property
    def scale(self) -> Statistic:
        """The standard deviation, 1 for features that are constant."""
        constant = self.constant
        deviation = jnp.sqrt(jnp.where(constant, 1, self.spread)) * _or(self.unit, 1)
        return jnp.where(constant, 1, deviation)


class Range(NamedTuple):
    """Least and largest value of each feature, in at least float32: ∞ and −∞ where nothing was seen.

    Attributes:
      low, high: the two values.
      low_rest, high_rest: what rounding took off them, as `Moments.rest`. None is 0.

    >>> Range(jnp.array([1.0]), jnp.array([4.0])).scale.tolist()
    [3.0]
    """

    low: Statistic
    high: Statistic
    low_rest: Any = None
    high_rest: Any = None

    @property
    def constant(self) -> Shaped[Array, "*features"]:
        """Whether there was one value only."""
        return (self.high == self.low) & (_or(self.high_rest, 0) == _or(self.low_rest, 0))

    @property
    def scale(self) -> Statistic:
        """``high − low``, 1 for features that are constant."""
        rest = _or(self.high_rest, 0) - _or(self.low_rest, 0)
        return jnp.where(self.constant, 1, (self.high - self.low) + rest)


class Halves(NamedTuple):
    """Numbers as the sum of two floats: a rounded one, and what rounding took off it, if it took any."""

    high: Batch
    low: Batch | None


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
    whole numbers are taken as two float32 each, so that seconds since 1970 keep their differences.

    Args:
      axis: the axis, or axes, statistics are taken over, as in `jnp.mean`: 0 makes every column of
        ``(n, features)`` a feature, ``(0, 1, 2)`` every channel of NHWC images, None the whole array.
      with_mean, with_std: False leaves the shift or the scale out.
      ignore_nan: leave NaN out of the statistics; `transform` keeps them. False: the feature is NaN.

    Raises:
      ValueError: an `axis` that `x` lacks; weights below 0; when transforming, an `x` of other features
        than the state's; finite numbers that the default float cannot hold.
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
    nothing = (Moments, (0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0))
    return _scaler(nothing, moments, _merge_moments, shift_and_scale, axis, ignore_nan)


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

    nothing, bounds = (Range, (np.inf, -np.inf, 0.0, 0.0)), (float(a), float(b))
    return _scaler(
        nothing, _extremes, _merge_ranges, _low_and_width, axis, ignore_nan, bounds, clip=clip
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

    @broadcasting
    def update(state: State, x: ArrayLike, weights: ArrayLike | None = None) -> State:
        check_state(state, nothing[0])
        halves, _ = in_halves(x)
        wide = halves.high
        axes = reduced_axes(axis, wide.ndim)
        shape = kept_shape(wide.shape, axes)
        if shape != state[0].shape:
            raise ValueError(
                f"the state is of features {state[0].shape}, got an x of shape {wide.shape} whose "
                f"features are {shape} (axis={axis})"
            )
        new = merge(state, seen(halves, _weights(weights, wide), axes, ignore_nan))
        return jax.tree.map(lambda leaf: leaf.astype(state[0].dtype), new)

    def fit(x: ArrayLike, weights: ArrayLike | None = None) -> State:
        return update(init(x), x, weights)

    def joined(state: State, other: State) -> State:
        check_state(state, nothing[0])
        check_state(other, nothing[0])
        return merge(state, other)

    def prepared(state: State, x: ArrayLike, name: str) -> tuple[Halves, jnp.dtype]:
        check_state(state, nothing[0])
        halves, dtype = in_halves(x, name)
        if not broadcasts(state[0].shape, halves.high.shape):
            raise ValueError(
                f"the state is of features {state[0].shape}, got an array {name} of shape "
                f"{halves.high.shape}"
            )
        return halves, dtype

    @broadcasting
    def transform(state: State, x: ArrayLike) -> Array:
        halves, dtype = prepared(state, x, "x")
        y = _forward(halves, shift_and_scale(state), *bounds)
        return (jnp.clip(y, *bounds) if clip else y).astype(dtype)

    @broadcasting
    def inverse_transform(state: State, y: ArrayLike) -> Array:
        halves, dtype = prepared(state, y, "y")
        return _backward(halves.high, shift_and_scale(state), *bounds).astype(dtype)

    return Scaler(fit, transform, inverse_transform, init, update, joined)


def check_state(state: object, kind: type) -> None:
    """Refuse what is not the state that `fit` or `init` makes."""
    if not isinstance(state, kind):
        raise TypeError(f"state must be what fit returned, a {kind.__name__}, got {state!r}")


class _Shift(NamedTuple):
    """What is taken off, in two halves, and divided by; all but `rest` times `share`.

    The share is 1, less for features whose range is beyond the largest number of the dtype.
    """

    shift: Statistic
    rest: Statistic
    scale: Statistic
    share: Statistic


@jax.jit
def _forward(x: Halves, by: _Shift, a: Bound, b: Bound) -> Array:
    low = 0 if x.low is None else x.low * by.share
    off = (x.high * by.share - by.shift) + (low - by.rest * by.share)
    return a + (b - a) * (off / by.scale)


@jax.jit
def _backward(y: Array, by: _Shift, a: Bound, b: Bound) -> Array:
    return (((y - a) / (b - a) * by.scale + by.rest * by.share) + by.shift) / by.share


# --- the statistics -----------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=(2, 3))
def moments(x: Halves, weights: Weights, axes: Axes, ignore_nan: bool) -> Moments:
    """`Moments` of an array: the mean is estimated and then corrected, so equal values have m2 = 0."""
    high, low = x
    counted = weights > 0
    weights = jnp.broadcast_to(weights, high.shape).astype(high.dtype)
    if ignore_nan:
        counted &= ~jnp.isnan(high)
    counted = jnp.broadcast_to(counted, high.shape)
    weights = jnp.where(counted, weights, 0)

    def add(values: Batch) -> Array:
        return summed(values, axes)

    n = add(weights)
    positive = jnp.where(n > 0, n, 1)
    some = jnp.max(high, axis=axes, keepdims=True, where=counted, initial=-jnp.inf)
    some = jnp.where(n > 0, some, 0)
    least = jnp.min(high, axis=axes, keepdims=True, where=counted, initial=jnp.inf)
    share = _share(jnp.maximum(jnp.abs(some), jnp.abs(jnp.where(n > 0, least, 0))))
    some = some * share

    def about(center: Array, rest: Array | float = 0.0) -> Batch:
        off = high * share - center
        return jnp.where(counted, off if low is None else off + (low * share - rest), 0)

    off = about(some)
    unit = _unit(jnp.max(jnp.abs(off), axis=axes, keepdims=True, initial=0))
    mean, rest = _two_sum(some, unit * (add(weights * (off / unit)) / positive))
    off = about(mean, rest) / unit
    correction = add(weights * off) / positive
    m2 = add(weights * off * off) - n * correction * correction
    m2 = jnp.where(m2 < 0, 0, m2)  # by rounding; a NaN stays
    mean, rest = _two_sum(mean, unit * correction + (0 if low is None else rest))
    rest = jnp.zeros_like(rest) if low is None else rest
    rounding = float(jnp.finfo(high.dtype).eps)
    eps = jnp.where(n > 0, jnp.full_like(n, rounding if low is None else 2 * rounding**2), 0)
    shape = kept_shape(high.shape, axes)
    found = Moments(n, mean / share, m2, rest / share, unit / share, eps)
    return jax.tree.map(lambda leaf: leaf.reshape(shape), found)


@jax.jit
def _merge_moments(one: Moments, other: Moments) -> Moments:
    one, other = _filled(one), _filled(other)
    n, n_rest = _two_sum(one.n, other.n)
    n, n_rest = _two_sum(n, n_rest + (one.n_rest + other.n_rest))
    share = other.n / jnp.where(n > 0, n, 1)
    # of no data the mean is that of the other, so that its two halves are never added up
    left = jnp.where(one.n > 0, one.mean, other.mean)
    right = jnp.where(other.n > 0, other.mean, one.mean)
    rests = [seen.rest + seen.mean_rest for seen in (one, other)]  # one of them is 0
    left_rest = jnp.where(one.n > 0, rests[0], rests[1])
    right_rest = jnp.where(other.n > 0, rests[1], rests[0])
    part = _share(jnp.maximum(jnp.abs(left), jnp.abs(right)))
    apart = (right * part - left * part) + (right_rest * part - left_rest * part)
    deviations = [jnp.sqrt(seen.spread) * (seen.unit * part) for seen in (one, other)]
    unit = _unit(jnp.maximum(jnp.abs(apart), jnp.maximum(*deviations)))
    squares, lost = (
        [_rescaled(of_square, seen.unit * part / unit) for seen, of_square in pairs]
        for pairs in (
            ((one, one.m2), (other, other.m2)),
            ((one, one.spread_rest * one.n), (other, other.spread_rest * other.n)),
        )
    )
    apart = apart / unit
    between = (apart * (share * one.n)) * apart  # in this order 0 · ∞ does not occur
    mean, rest = _two_sum(left * part, unit * (apart * share) + left_rest * part)
    within, within_rest = _two_sum(squares[0], squares[1])
    m2, m2_rest = _two_sum(within, between + (within_rest + (lost[0] + lost[1])))
    eps = jnp.maximum(one.eps, other.eps)
    kept = eps < jnp.finfo(mean.dtype).eps  # of values that are in two halves
    rest, mean_rest = jnp.where(kept, rest / part, 0), jnp.where(kept, 0, rest / part)
    spread_rest = m2_rest / jnp.where(n > 0, n, 1)
    return Moments(n, mean / part, m2, rest, unit / part, eps, n_rest, mean_rest, spread_rest)


def _filled(state: Moments) -> Moments:
    """With values for what was not given."""
    zeros = jnp.zeros_like(state.mean)
    eps = jnp.finfo(state.mean.dtype).eps
    otherwise = {"rest": 0, "unit": 1, "eps": eps, "n_rest": 0, "mean_rest": 0, "spread_rest": 0}
    return state._replace(
        **{name: zeros + _or(getattr(state, name), value) for name, value in otherwise.items()}
    )


def _rescaled(m2: Statistic, factor: Statistic) -> Statistic:
    return jnp.where(m2 == 0, 0, m2 * factor * factor)


def _unit(size: Statistic) -> Statistic:
    """1, or a power of two near `size` where squares of such numbers leave the range of the dtype."""
    size = jax.lax.stop_gradient(size)
    info = jnp.finfo(size.dtype)
    fine = float(info.max) ** 0.25
    strange = ((size > fine) | (size < 1 / fine)) & (size > 0) & jnp.isfinite(size)
    exponent = jnp.frexp(jnp.where(strange, size, 1))[1] - 10
    exponent = jnp.clip(exponent, info.minexp + 24, None)  # clear of both ends, with `_share` too
    return jnp.where(strange, jnp.ldexp(jnp.ones_like(size), exponent), 1)


def _share(size: Statistic) -> Statistic:
    """1, or so much less that differences of numbers up to `size` are in the range of the dtype."""
    return jnp.where(jnp.isfinite(size) & (size > jnp.finfo(size.dtype).max / 8), 0.125, 1).astype(
        size.dtype
    )


def _two_sum(a: Statistic, b: Statistic) -> tuple[Statistic, Statistic]:
    """``a + b`` rounded, and what rounding took off (Knuth); 0 where the sum is not finite."""
    total = a + b
    taken = total - a
    rest = (a - (total - taken)) + (b - taken)
    return total, jnp.where(jnp.isfinite(total), rest, 0)


def summed(values: Batch, axes: Axes) -> Array:
    """The sum over `axes`, which are kept; where there are many values, of sums of few.

    One sum of millions in float32 stops growing where a value is below the rounding of the sum.
    """
    count = math.prod(values.shape[a] for a in axes)
    if count <= 2**16:
        return jnp.sum(values, axis=axes, keepdims=True)
    kept = tuple(1 if a in axes else size for a, size in enumerate(values.shape))
    rows = jnp.moveaxis(values, axes, range(len(axes))).reshape(count, -1)
    few = 256
    while len(rows) > 1:
        rows = jnp.pad(rows, ((0, -len(rows) % few), (0, 0)))
        rows = jnp.sum(rows.reshape(-1, few, rows.shape[1]), axis=1)
    return rows.reshape(kept)


@partial(jax.jit, static_argnames=("with_mean", "with_std"))
def _mean_and_deviation(state: Moments, *, with_mean: bool, with_std: bool) -> _Shift:
    state = _filled(state)
    zeros = jnp.zeros_like(state.mean)
    share = _share(jnp.maximum(jnp.abs(state.mean), jnp.sqrt(state.spread) * state.unit))
    shift, rest = (state.mean * share, state.rest) if with_mean else (zeros, zeros)
    return _Shift(shift, rest, state.scale * share if with_std else share, share)


@partial(jax.jit, static_argnums=(2, 3))
def _extremes(x: Halves, weights: Weights, axes: Axes, ignore_nan: bool) -> Range:
    high, low = x
    counted = jnp.broadcast_to(weights > 0, high.shape)
    if ignore_nan:
        counted &= ~jnp.isnan(high)
    shape = kept_shape(high.shape, axes)
    found = []
    for extreme, beyond in ((jnp.min, jnp.inf), (jnp.max, -jnp.inf)):
        value = extreme(high, axis=axes, keepdims=True, where=counted, initial=beyond)
        rest = jnp.zeros_like(value)
        if low is not None:
            there = counted & (high == value)
            rest = extreme(low, axis=axes, keepdims=True, where=there, initial=beyond)
            rest = jnp.where(jnp.isfinite(rest), rest, 0)
        found.append((value.reshape(shape), rest.reshape(shape)))
    (least, least_rest), (most, most_rest) = found
    return Range(least, most, least_rest, most_rest)


@jax.jit
def _merge_ranges(one: Range, other: Range) -> Range:
    merged = []
    for extreme, name in ((jnp.minimum, "low"), (jnp.maximum, "high")):
        a, b = getattr(one, name), getattr(other, name)
        x, y = (_or(getattr(state, f"{name}_rest"), 0) for state in (one, other))
        rest = jnp.where(a == b, extreme(x, y), jnp.where(extreme(a, b) == a, x, y))
        merged.append((extreme(a, b), rest))
    (low, low_rest), (high, high_rest) = merged
    return Range(low, high, low_rest, high_rest)


@jax.jit
def _low_and_width(state: Range) -> _Shift:
    seen = ~(state.low > state.high)  # otherwise as if [0, 1] had been
    low, high = jnp.where(seen, state.low, 0), jnp.where(seen, state.high, 1)
    share = _share(jnp.maximum(jnp.abs(low), jnp.abs(high)))
    rests = (jnp.where(seen, _or(rest, 0), 0) for rest in (state.low_rest, state.high_rest))
    scaled = Range(low * share, high * share, *(rest * share for rest in rests))
    return _Shift(
        scaled.low, scaled.low_rest / share, jnp.where(scaled.constant, share, scaled.scale), share
    )


# --- axes, shapes and dtypes --------------------------------------------------------------------------


def check_axis(axis: object) -> None:
    """Refuse what cannot name axes."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    if axis is not None and not all(map(_checks.is_whole, axes)):
        raise TypeError(f"axis must be a whole number, a tuple of them or None, got {axis!r}")


def reduced_axes(axis: Axis, ndim: int) -> Axes:
    """The axes that statistics are taken over, ascending."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    if not all(-ndim <= a < ndim for a in axes) or len({a % ndim for a in axes}) < len(axes):
        raise ValueError(f"axis must name different axes of x, which has {ndim}; got {axis}")
    return tuple(sorted(int(a) % ndim for a in axes))


def kept_shape(shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
    """The shape of statistics: 1 for axes taken over, without those that lead.

    So statistics broadcast against a batch, and against one of its examples.
    """
    first = next((i for i in range(len(shape)) if i not in axes), len(shape))
    return tuple(1 if i in axes else shape[i] for i in range(first, len(shape)))


def broadcasts(shape: tuple[int, ...], larger: tuple[int, ...]) -> bool:
    """Whether an array of a shape can be combined with a larger one without making it still larger.

    >>> broadcasts((3,), (2, 3)), broadcasts((2, 3), (3,)), broadcasts((2,), (2, 3))
    (True, False, False)
    """
    trailing = larger[max(len(larger) - len(shape), 0) :]
    return len(shape) <= len(larger) and all(s in (1, n) for s, n in zip(shape, trailing))


def float_of(x: Shaped[Array, "..."] | np.ndarray | jax.ShapeDtypeStruct) -> jnp.dtype:
    """The dtype of what is computed from `x`: its own, or the default float for integers."""
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    if jnp.issubdtype(dtype, jnp.floating):
        return dtype
    if jnp.issubdtype(dtype, jnp.integer) or dtype == jnp.bool_:
        return jnp.result_type(float)
    raise TypeError(f"x must be an array of real numbers, got one of {dtype}")


def widened(x: ArrayLike, name: str = "x") -> tuple[Float[Array, "..."], jnp.dtype]:
    """`x` in at least float32, and the dtype that results shall have."""
    array = as_array(name, x)
    check_holds(name, array if array.dtype.kind == "f" else np.zeros(0))
    dtype = float_of(array)
    return jnp.asarray(array).astype(jnp.promote_types(dtype, jnp.float32)), dtype


def in_halves(x: ArrayLike, name: str = "x") -> tuple[Halves, jnp.dtype]:
    """As `widened`, with what the rounding to it takes off."""
    array = as_array(name, x)
    dtype = float_of(array)
    wide = jnp.promote_types(dtype, jnp.float32)
    exact = array.dtype.itemsize < 4 or array.dtype in (wide, np.float32)
    if isinstance(array, jax.Array):
        if exact or wide != jnp.float32:
            return Halves(array.astype(wide), None), dtype
        coarse = (array >> 12) << 12  # of whole numbers, both parts have fewer bits than float32
        return Halves(*_two_sum(coarse.astype(wide), (array - coarse).astype(wide))), dtype
    if array.dtype.kind == "f":
        check_holds(name, array)
    if exact or wide != jnp.float32:
        return Halves(jnp.asarray(array.astype(wide)), None), dtype
    high = array.astype(np.float32)
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        low = array.astype(np.float64) - high
    low = np.where(np.isfinite(low), low, 0).astype(np.float32)
    return Halves(jnp.asarray(high), jnp.asarray(low)), dtype


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _weights(weights: ArrayLike | None, x: Batch) -> Weights:
    if weights is None:
        return jnp.ones((1,) * x.ndim, x.dtype)
    given = as_array("weights", weights)
    if given.shape != x.shape[: given.ndim]:
        raise ValueError(f"weights must have the leading axes of {x.shape}, got shape {given.shape}")
    if not isinstance(given, jax.core.Tracer) and given.size and not extremes(given)[0] >= 0:
        raise ValueError(f"weights must be ≥ 0, got some of {extremes(given)[0]}")
    return jnp.asarray(given).astype(x.dtype).reshape(given.shape + (1,) * (x.ndim - given.ndim))
