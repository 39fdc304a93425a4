"""Scalers: statistics of features, in one go or batch by batch, and the shift and scale by them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks


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

    fit: Callable[..., Any]
    transform: Callable[[Any, Any], jax.Array]
    inverse_transform: Callable[[Any, Any], jax.Array]
    init: Callable[[Any], Any]
    update: Callable[..., Any]
    merge: Callable[[Any, Any], Any]


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

    n: jax.Array
    mean: jax.Array
    m2: jax.Array

    @property
    def variance(self) -> jax.Array:
        """The biased variance (ddof 0); 0 where nothing was seen."""
        return self.m2 / jnp.where(self.n > 0, self.n, 1)

    @property
    def constant(self) -> jax.Array:
        """Whether the standard deviation is no larger than the rounding of the mean."""
        rounding = jnp.finfo(self.mean.dtype).eps * jnp.abs(self.mean)
        return jnp.sqrt(self.variance) <= rounding

    @property
    def scale(self) -> jax.Array:
        """The standard deviation, 1 for features that are constant."""
        constant = self.constant
        return jnp.where(constant, 1, jnp.sqrt(jnp.where(constant, 1, self.variance)))


class Range(NamedTuple):
    """Least and largest value of each feature, in at least float32: ∞ and −∞ where nothing was seen.

    >>> Range(jnp.array([1.0]), jnp.array([4.0])).scale.tolist()
    [3.0]
    """

    low: jax.Array
    high: jax.Array

    @property
    def scale(self) -> jax.Array:
        """``high − low``, 1 for features that are constant."""
        return jnp.where(self.high == self.low, 1, self.high - self.low)


def standard_scaler(
    *,
    axis: int | tuple[int, ...] | None = 0,
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
    check_axis(axis)
    for name, flag in (("with_mean", with_mean), ("with_std", with_std), ("ignore_nan", ignore_nan)):
        _checks.check_flag(name, flag)

    def init(x: Any) -> Moments:
        zeros = jnp.zeros(*_state_spec(x, axis))
        return Moments(zeros, zeros, zeros)

    def update(state: Moments, x: Any, weights: Any = None) -> Moments:
        x = _batch(x, state.mean, axis)
        batch = moments(x, _weights(weights, x), reduced_axes(axis, x.ndim), ignore_nan)
        return _cast(_merge_moments(state, batch), state)

    def transform(state: Moments, x: Any) -> jax.Array:
        wide, dtype = _prepare(x, state.mean)
        shift, scale = _shift_and_scale(state, with_mean, with_std)
        return _forward(wide, shift, scale).astype(dtype)

    def inverse_transform(state: Moments, y: Any) -> jax.Array:
        wide, dtype = _prepare(y, state.mean)
        shift, scale = _shift_and_scale(state, with_mean, with_std)
        return _backward(wide, shift, scale).astype(dtype)

    return _scaler(init, update, _merge_moments, transform, inverse_transform)


def min_max_scaler(
    feature_range: tuple[float, float] = (0.0, 1.0),
    *,
    axis: int | tuple[int, ...] | None = 0,
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
    check_axis(axis)
    _checks.check_flag("clip", clip)
    _checks.check_flag("ignore_nan", ignore_nan)
    if not isinstance(feature_range, (tuple, list)) or len(feature_range) != 2:
        raise TypeError(f"feature_range must be a pair (a, b), got {feature_range!r}")
    a, b = feature_range
    _checks.check_number("feature_range[0]", a, "(-inf, inf)")
    _checks.check_number("feature_range[1]", b, "(-inf, inf)")
    if not a < b:
        raise ValueError(f"feature_range must be a pair (a, b) with a < b, got {feature_range!r}")

    def init(x: Any) -> Range:
        shape, dtype = _state_spec(x, axis)
        return Range(jnp.full(shape, jnp.inf, dtype), jnp.full(shape, -jnp.inf, dtype))

    def update(state: Range, x: Any, weights: Any = None) -> Range:
        x = _batch(x, state.low, axis)
        batch = _extremes(x, _weights(weights, x), reduced_axes(axis, x.ndim), ignore_nan)
        return _cast(merge(state, batch), state)

    def merge(one: Range, other: Range) -> Range:
        return Range(jnp.minimum(one.low, other.low), jnp.maximum(one.high, other.high))

    def transform(state: Range, x: Any) -> jax.Array:
        wide, dtype = _prepare(x, state.low)
        y = _into_range(wide, state, a, b)
        return (jnp.clip(y, a, b) if clip else y).astype(dtype)

    def inverse_transform(state: Range, y: Any) -> jax.Array:
        wide, dtype = _prepare(y, state.low)
        return _out_of_range(wide, state, a, b).astype(dtype)

    return _scaler(init, update, merge, transform, inverse_transform)


@partial(jax.jit, static_argnums=(2, 3))
def moments(x: Any, weights: Any, axes: tuple[int, ...], ignore_nan: bool) -> Moments:
    """`Moments` of an array: the mean is estimated and then corrected, so equal values have m2 = 0."""
    counted = weights > 0
    weights = jnp.broadcast_to(weights, x.shape).astype(x.dtype)
    if ignore_nan:
        counted &= ~jnp.isnan(x)
    counted = jnp.broadcast_to(counted, x.shape)
    weights = jnp.where(counted, weights, 0)

    def add(values: Any) -> Any:
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


@partial(jax.jit, static_argnums=(2, 3))
def _extremes(x: Any, weights: Any, axes: tuple[int, ...], ignore_nan: bool) -> Range:
    counted = jnp.broadcast_to(weights > 0, x.shape)
    if ignore_nan:
        counted &= ~jnp.isnan(x)
    low = jnp.min(x, axis=axes, where=counted, initial=jnp.inf)
    high = jnp.max(x, axis=axes, where=counted, initial=-jnp.inf)
    shape = kept_shape(x.shape, axes)
    return Range(low.reshape(shape), high.reshape(shape))


@jax.jit
def _merge_moments(one: Moments, other: Moments) -> Moments:
    n = one.n + other.n
    share = other.n / jnp.where(n > 0, n, 1)
    apart = other.mean - one.mean
    between = (apart * (share * one.n)) * apart  # in this order 0 · ∞ does not occur
    return Moments(n, one.mean + apart * share, one.m2 + other.m2 + between)


@partial(jax.jit, static_argnums=(1, 2))
def _shift_and_scale(state: Moments, with_mean: bool, with_std: bool) -> tuple[Any, Any]:
    zeros = jnp.zeros_like(state.mean)
    return state.mean if with_mean else zeros, state.scale if with_std else zeros + 1


@jax.jit
def _forward(x: Any, shift: Any, scale: Any) -> Any:
    return (x - shift) / scale


@jax.jit
def _backward(y: Any, shift: Any, scale: Any) -> Any:
    return y * scale + shift


@jax.jit
def _into_range(x: Any, state: Range, a: Any, b: Any) -> Any:
    return a + (b - a) * _forward(x, *_start_and_width(state))


@jax.jit
def _out_of_range(y: Any, state: Range, a: Any, b: Any) -> Any:
    return _backward((y - a) / (b - a), *_start_and_width(state))


def _start_and_width(state: Range) -> tuple[Any, Any]:
    seen = ~(state.low > state.high)  # otherwise as if [0, 1] had been
    return jnp.where(seen, state.low, 0), jnp.where(seen, state.scale, 1)


def _scaler(init: Any, update: Any, merge: Any, transform: Any, inverse_transform: Any) -> Scaler:
    def fit(x: Any, weights: Any = None) -> Any:
        return update(init(x), x, weights)

    return Scaler(fit, transform, inverse_transform, init, update, merge)


def check_axis(axis: Any) -> None:
    """Refuse what cannot name axes."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    if axis is not None and not all(
        isinstance(a, (int, np.integer)) and not isinstance(a, bool) for a in axes
    ):
        raise TypeError(f"axis must be a whole number, a tuple of them or None, got {axis!r}")


def reduced_axes(axis: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """The axes that statistics are taken over, ascending."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    if not all(-ndim <= a < ndim for a in axes) or len({a % ndim for a in axes}) < len(axes):
        raise ValueError(f"axis must name different axes of x, which has {ndim}; got {axis}")
    return tuple(sorted(int(a) % ndim for a in axes))


def kept_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of statistics: 1 for axes taken over, without those that lead.

    So statistics broadcast against a batch, and against one of its examples.
    """
    first = next((i for i in range(len(shape)) if i not in axes), len(shape))
    return tuple(1 if i in axes else shape[i] for i in range(first, len(shape)))


def float_of(x: Any) -> Any:
    """The dtype of what is computed from `x`: its own, or the default float for integers."""
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    if jnp.issubdtype(dtype, jnp.floating):
        return dtype
    if jnp.issubdtype(dtype, jnp.integer) or dtype == jnp.bool_:
        return jnp.result_type(float)
    raise TypeError(f"x must be an array of real numbers, got one of {dtype}")


def widened(x: Any) -> tuple[Any, Any]:
    """`x` in at least float32, and the dtype that results shall have."""
    x = x if isinstance(x, (jax.Array, np.ndarray)) else np.asarray(x)
    dtype = float_of(x)
    return jnp.asarray(x).astype(jnp.promote_types(dtype, jnp.float32)), dtype


def _state_spec(x: Any, axis: Any) -> tuple[tuple[int, ...], Any]:
    x = x if hasattr(x, "dtype") and hasattr(x, "shape") else np.asarray(x)
    dtype = jnp.promote_types(float_of(x), jnp.float32)
    return kept_shape(tuple(x.shape), reduced_axes(axis, len(x.shape))), dtype


def _batch(x: Any, statistic: Any, axis: Any) -> Any:
    x, _ = widened(x)
    shape = kept_shape(x.shape, reduced_axes(axis, x.ndim))
    if shape != statistic.shape:
        raise ValueError(
            f"the state is of features {statistic.shape}, got a batch of shape {x.shape} whose features "
            f"are {shape} (axis={axis})"
        )
    return x


def _weights(weights: Any, x: Any) -> Any:
    if weights is None:
        return jnp.ones((1,) * x.ndim, x.dtype)
    weights = jnp.asarray(weights).astype(x.dtype)
    if weights.shape != x.shape[: weights.ndim]:
        raise ValueError(f"weights must have the leading axes of {x.shape}, got shape {weights.shape}")
    return weights.reshape(weights.shape + (1,) * (x.ndim - weights.ndim))


def _prepare(x: Any, statistic: Any) -> tuple[Any, Any]:
    wide, dtype = widened(x)
    check_features(wide.shape, statistic.shape)
    return wide, dtype


def check_features(shape: tuple[int, ...], features: tuple[int, ...]) -> None:
    """Refuse an array that statistics of these features would make larger."""
    trailing = shape[len(shape) - len(features) :] if len(features) <= len(shape) else None
    if trailing is None or any(f not in (1, n) for f, n in zip(features, trailing)):
        raise ValueError(f"the state is of features {features}, got an array of shape {shape}")


def _cast(state: Any, like: Any) -> Any:
    return jax.tree.map(lambda new, old: new.astype(old.dtype), state, like)
