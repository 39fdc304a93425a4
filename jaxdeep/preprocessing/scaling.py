"""Scalers: statistics of features, in one go or batch by batch, and the shift and scale by them."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
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
      inverse_transform: ``(state, y) -> x``.
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
      m2: ``Σ w (x − mean)²``.

    >>> moments = Moments(jnp.array([2.0]), jnp.array([4.0]), jnp.array([2.0]))
    >>> moments.variance.tolist(), moments.scale.tolist()
    ([1.0], [1.0])
    """

    n: Statistic
    mean: Statistic
    m2: Statistic

    @property
    def variance(self) -> Statistic:
        """The biased variance (ddof 0); 0 where nothing was seen."""
        return self.m2 / jnp.where(self.n > 0, self.n, 1)

    @property
    def constant(self) -> Shaped[Array, "*features"]:
        """Whether the standard deviation is no larger than the rounding of the mean."""
        rounding = jnp.finfo(self.mean.dtype).eps * jnp.abs(self.mean)
        return jnp.sqrt(self.variance) <= rounding

    @property
    def scale(self) -> Statistic:
        """The standard deviation, 1 for features that are constant."""
        constant = self.constant
        return jnp.where(constant, 1, jnp.sqrt(jnp.where(constant, 1, self.variance)))


class Range(NamedTuple):
    """Least and largest value of each feature, in at least float32: ∞ and −∞ where nothing was seen.

    >>> Range(jnp.array([1.0]), jnp.array([4.0])).scale.tolist()
    [3.0]
    """

    low: Statistic
    high: Statistic

    @property
    def scale(self) -> Statistic:
        """``high − low``, 1 for features that are constant."""
        return jnp.where(self.high == self.low, 1, self.high - self.low)


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
    so that a small variance on a large mean is not lost.

    Args:
      axis: the axis, or axes, statistics are taken over, as in `jnp.mean`: 0 makes every column of
        ``(n, features)`` a feature, ``(0, 1, 2)`` every channel of NHWC images, None the whole array.
      with_mean, with_std: False leaves the shift or the scale out.
      ignore_nan: leave NaN out of the statistics; `transform` keeps them. False: the feature is NaN.

    Raises:
      ValueError: an `axis` that `x` lacks; when transforming, an `x` of other features than the state's.
      TypeError: arguments of another kind; an `x` that is not of real numbers.

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
    nothing = (Moments, (0.0, 0.0, 0.0))
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

    nothing, bounds = (Range, (np.inf, -np.inf)), (float(a), float(b))
    return _scaler(
        nothing, _extremes, _merge_ranges, _low_and_width, axis, ignore_nan, bounds, clip=clip
    )


def _scaler(
    nothing: tuple[type[State], tuple[float, ...]],
    seen: Callable[[Batch, Weights, Axes, bool], State],
    merge: Callable[[State, State], State],
    shift_and_scale: Callable[[State], tuple[Statistic, Statistic]],
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
        like = x if isinstance(x, jax.ShapeDtypeStruct) else _array(x)
        dtype = jnp.promote_types(float_of(like), jnp.float32)
        shape = kept_shape(tuple(like.shape), reduced_axes(axis, len(like.shape)))
        kind, values = nothing
        return kind(*(jnp.full(shape, value, dtype) for value in values))

    def update(state: State, x: ArrayLike, weights: ArrayLike | None = None) -> State:
        wide, _ = widened(x)
        axes = reduced_axes(axis, wide.ndim)
        shape = kept_shape(wide.shape, axes)
        if shape != state[0].shape:
            raise ValueError(
                f"the state is of features {state[0].shape}, got a batch of shape {wide.shape} whose "
                f"features are {shape} (axis={axis})"
            )
        new = merge(state, seen(wide, _weights(weights, wide), axes, ignore_nan))
        return jax.tree.map(lambda new, old: new.astype(old.dtype), new, state)

    def fit(x: ArrayLike, weights: ArrayLike | None = None) -> State:
        return update(init(x), x, weights)

    def prepared(state: State, x: ArrayLike) -> tuple[Array, jnp.dtype]:
        wide, dtype = widened(x)
        if not broadcasts(state[0].shape, wide.shape):
            raise ValueError(
                f"the state is of features {state[0].shape}, got an array of shape {wide.shape}"
            )
        return wide, dtype

    def transform(state: State, x: ArrayLike) -> Array:
        wide, dtype = prepared(state, x)
        y = _forward(wide, *shift_and_scale(state), *bounds)
        return (jnp.clip(y, *bounds) if clip else y).astype(dtype)

    def inverse_transform(state: State, y: ArrayLike) -> Array:
        wide, dtype = prepared(state, y)
        return _backward(wide, *shift_and_scale(state), *bounds).astype(dtype)

    return Scaler(fit, transform, inverse_transform, init, update, merge)


@jax.jit
def _forward(x: Array, shift: Statistic, scale: Statistic, a: Bound, b: Bound) -> Array:
    return a + (b - a) * ((x - shift) / scale)


@jax.jit
def _backward(y: Array, shift: Statistic, scale: Statistic, a: Bound, b: Bound) -> Array:
    return (y - a) / (b - a) * scale + shift


# --- the statistics -----------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=(2, 3))
def moments(x: Batch, weights: Weights, axes: Axes, ignore_nan: bool) -> Moments:
    """`Moments` of an array: the mean is estimated and then corrected, so equal values have m2 = 0."""
    counted = weights > 0
    weights = jnp.broadcast_to(weights, x.shape).astype(x.dtype)
    if ignore_nan:
        counted &= ~jnp.isnan(x)
    counted = jnp.broadcast_to(counted, x.shape)
    weights = jnp.where(counted, weights, 0)

    def add(values: Batch) -> Array:
        return jnp.sum(values, axis=axes, keepdims=True)

    n = add(weights)
    positive = jnp.where(n > 0, n, 1)
    some = jnp.max(x, axis=axes, keepdims=True, where=counted, initial=-jnp.inf)
    some = jnp.where(n > 0, some, 0)
    mean = some + add(weights * jnp.where(counted, x - some, 0)) / positive
    off = jnp.where(counted, x - mean, 0)
    correction = add(weights * off) / positive
    m2 = add(weights * off * off) - n * correction * correction
    m2 = jnp.where(m2 < 0, 0, m2)  # by rounding; a NaN stays
    shape = kept_shape(x.shape, axes)
    return Moments(n.reshape(shape), (mean + correction).reshape(shape), m2.reshape(shape))


@jax.jit
def _merge_moments(one: Moments, other: Moments) -> Moments:
    n = one.n + other.n
    share = other.n / jnp.where(n > 0, n, 1)
    apart = other.mean - one.mean
    between = (apart * (share * one.n)) * apart  # in this order 0 · ∞ does not occur
    return Moments(n, one.mean + apart * share, one.m2 + other.m2 + between)


@partial(jax.jit, static_argnames=("with_mean", "with_std"))
def _mean_and_deviation(
    state: Moments, *, with_mean: bool, with_std: bool
) -> tuple[Statistic, Statistic]:
    zeros = jnp.zeros_like(state.mean)
    return state.mean if with_mean else zeros, state.scale if with_std else zeros + 1


@partial(jax.jit, static_argnums=(2, 3))
def _extremes(x: Batch, weights: Weights, axes: Axes, ignore_nan: bool) -> Range:
    counted = jnp.broadcast_to(weights > 0, x.shape)
    if ignore_nan:
        counted &= ~jnp.isnan(x)
    low = jnp.min(x, axis=axes, where=counted, initial=jnp.inf)
    high = jnp.max(x, axis=axes, where=counted, initial=-jnp.inf)
    shape = kept_shape(x.shape, axes)
    return Range(low.reshape(shape), high.reshape(shape))


def _merge_ranges(one: Range, other: Range) -> Range:
    return Range(jnp.minimum(one.low, other.low), jnp.maximum(one.high, other.high))


@jax.jit
def _low_and_width(state: Range) -> tuple[Statistic, Statistic]:
    seen = ~(state.low > state.high)  # otherwise as if [0, 1] had been
    return jnp.where(seen, state.low, 0), jnp.where(seen, state.scale, 1)


# --- axes, shapes and dtypes --------------------------------------------------------------------------


def check_axis(axis: object) -> None:
    """Refuse what cannot name axes."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    if axis is not None and not all(
        isinstance(a, (int, np.integer)) and not isinstance(a, bool) for a in axes
    ):
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


def widened(x: ArrayLike) -> tuple[Float[Array, "..."], jnp.dtype]:
    """`x` in at least float32, and the dtype that results shall have."""
    array = _array(x)
    dtype = float_of(array)
    return jnp.asarray(array).astype(jnp.promote_types(dtype, jnp.float32)), dtype


def _array(x: ArrayLike) -> Array | np.ndarray:
    return x if isinstance(x, (jax.Array, np.ndarray)) else np.asarray(x)


def _weights(weights: ArrayLike | None, x: Batch) -> Weights:
    if weights is None:
        return jnp.ones((1,) * x.ndim, x.dtype)
    weights = jnp.asarray(weights).astype(x.dtype)
    if weights.shape != x.shape[: weights.ndim]:
        raise ValueError(f"weights must have the leading axes of {x.shape}, got shape {weights.shape}")
    return weights.reshape(weights.shape + (1,) * (x.ndim - weights.ndim))
