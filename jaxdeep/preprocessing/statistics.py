"""Statistics of features: moments and ranges of a batch, of both of two, exact where float32 is not."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdeep._shapes import Array, Float, Shaped
from jaxdeep.preprocessing.features import Axes, Batch, Halves, Statistic, kept_shape, two_sum

Weights = Float[Array, "*batch_or_1"]  # with as many axes as the batch


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
      last: what rounding took off `rest`, of whole numbers of 64 bits that two float32 do not hold:
        nanoseconds since 1970. None is 0.

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
    last: Any = None

    @property
    def variance(self) -> Statistic:
        """The biased variance (ddof 0); 0 where nothing was seen."""
        unit = or_else(self.unit, 1)
        return self.spread * unit * unit

    @property
    def spread(self) -> Statistic:
        """The variance in squares of `unit`, which is in the range of the dtype."""
        return self.m2 / jnp.where(self.n > 0, self.n, 1)

    @property
    def constant(self) -> Shaped[Array, "*features"]:
        """Whether the standard deviation is no larger than the rounding of the mean."""
        eps = or_else(self.eps, jnp.finfo(self.mean.dtype).eps)
        return jnp.sqrt(self.spread) * or_else(self.unit, 1) <= eps * jnp.abs(self.mean)

    @property
    def scale(self) -> Statistic:
        """The standard deviation, 1 for features that are constant."""
        constant = self.constant
        deviation = jnp.sqrt(jnp.where(constant, 1, self.spread)) * or_else(self.unit, 1)
        return jnp.where(constant, 1, deviation)


class Range(NamedTuple):
    """Least and largest value of each feature, in at least float32: ∞ and −∞ where nothing was seen.

    Attributes:
      low, high: the two values.
      low_rest, high_rest: what rounding took off them, as `Moments.rest`. None is 0.
      low_last, high_last: what rounding took off those, as `Moments.last`. None is 0.

    >>> Range(jnp.array([1.0]), jnp.array([4.0])).scale.tolist()
    [3.0]
    """

    low: Statistic
    high: Statistic
    low_rest: Any = None
    high_rest: Any = None
    low_last: Any = None
    high_last: Any = None

    @property
    def constant(self) -> Shaped[Array, "*features"]:
        """Whether there was one value only."""
        rests = or_else(self.high_rest, 0) == or_else(self.low_rest, 0)
        lasts = or_else(self.high_last, 0) == or_else(self.low_last, 0)
        return (self.high == self.low) & rests & lasts

    @property
    def scale(self) -> Statistic:
        """``high − low``, 1 for features that are constant."""
        rest = or_else(self.high_rest, 0) - or_else(self.low_rest, 0)
        last = or_else(self.high_last, 0) - or_else(self.low_last, 0)
        return jnp.where(self.constant, 1, (self.high - self.low) + rest + last)


@partial(jax.jit, static_argnums=(2, 3))
def moments(x: Halves, weights: Weights, axes: Axes, ignore_nan: bool) -> Moments:
    """`Moments` of an array: the mean is estimated and then corrected, so equal values have m2 = 0."""
    high, low, last = x
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
    share = share_of(jnp.maximum(jnp.abs(some), jnp.abs(jnp.where(n > 0, least, 0))))
    some = some * share

    def about(center: Array, rest: Array | float = 0.0, end: Array | float = 0.0) -> Batch:
        off = high * share - center
        off = off if low is None else off + (low * share - rest)
        return jnp.where(counted, off if last is None else off + (last * share - end), 0)

    off = about(some)
    unit = unit_of(jnp.max(jnp.abs(off), axis=axes, keepdims=True, initial=0))
    mean, rest = two_sum(some, unit * (add(weights * (off / unit)) / positive))
    off = about(mean, rest) / unit
    correction = add(weights * off) / positive
    end = jnp.zeros_like(rest)
    if last is not None:  # once more, as the first estimate had the precision of the middle part
        mean, rest, end = three_sum(mean, rest, unit * correction)
        off = about(mean, rest, end) / unit
        correction = add(weights * off) / positive
    m2 = add(weights * off * off) - n * correction * correction
    m2 = jnp.where(m2 < 0, 0, m2)  # by rounding; a NaN stays
    if last is None:
        mean, rest = two_sum(mean, unit * correction + (0 if low is None else rest))
        rest = jnp.zeros_like(rest) if low is None else rest
    else:
        end = end + unit * correction
    rounding = float(jnp.finfo(high.dtype).eps)
    relative = rounding if low is None else 2 * rounding**2 if last is None else 4 * rounding**3
    eps = jnp.where(n > 0, jnp.full_like(n, relative), 0)
    shape = kept_shape(high.shape, axes)
    estimates = Moments(n, mean / share, m2, rest / share, unit / share, eps, last=end / share)
    return jax.tree.map(lambda leaf: leaf.reshape(shape), estimates)


@jax.jit
def merge_moments(one: Moments, other: Moments) -> Moments:
    """`Moments` of both of two sets of data."""
    one, other = filled(one), filled(other)
    n, n_rest = two_sum(one.n, other.n)
    n, n_rest = two_sum(n, n_rest + (one.n_rest + other.n_rest))
    share = other.n / jnp.where(n > 0, n, 1)
    # of no data the mean is that of the other, so that its two halves are never added up
    left = jnp.where(one.n > 0, one.mean, other.mean)
    right = jnp.where(other.n > 0, other.mean, one.mean)
    # For each element, `rest` or `mean_rest` is 0: only one of the two fields is in use, as `eps` says.
    rests = [seen.rest + seen.mean_rest for seen in (one, other)]
    left_rest = jnp.where(one.n > 0, rests[0], rests[1])
    right_rest = jnp.where(other.n > 0, rests[1], rests[0])
    part = share_of(jnp.maximum(jnp.abs(left), jnp.abs(right)))
    left_last = jnp.where(one.n > 0, one.last, other.last)
    right_last = jnp.where(other.n > 0, other.last, one.last)
    apart = (right * part - left * part) + (right_rest * part - left_rest * part)
    apart = apart + (right_last * part - left_last * part)
    deviations = [jnp.sqrt(seen.spread) * (seen.unit * part) for seen in (one, other)]
    unit = unit_of(jnp.maximum(jnp.abs(apart), jnp.maximum(*deviations)))
    squares, lost = (
        [_rescaled(of_square, seen.unit * part / unit) for seen, of_square in pairs]
        for pairs in (
            ((one, one.m2), (other, other.m2)),
            ((one, one.spread_rest * one.n), (other, other.spread_rest * other.n)),
        )
    )
    apart = apart / unit
    between = (apart * (share * one.n)) * apart  # in this order 0 · ∞ does not occur
    three = three_sum(left * part, left_rest * part, unit * (apart * share), left_last * part)
    mean, rest = two_sum(left * part, unit * (apart * share) + left_rest * part)
    within, within_rest = two_sum(squares[0], squares[1])
    m2, m2_rest = two_sum(within, between + (within_rest + (lost[0] + lost[1])))
    eps = jnp.maximum(one.eps, other.eps)
    kept = eps < jnp.finfo(mean.dtype).eps  # of values that are in two halves
    rest, mean_rest = jnp.where(kept, rest / part, 0), jnp.where(kept, 0, rest / part)
    spread_rest = m2_rest / jnp.where(n > 0, n, 1)
    in_three = eps < jnp.finfo(mean.dtype).eps ** 2
    mean, rest, last = (
        jnp.where(in_three, a / part, b)
        for a, b in zip(three, (mean / part, rest, jnp.zeros_like(rest)))
    )
    return Moments(n, mean, m2, rest, unit / part, eps, n_rest, mean_rest, spread_rest, last)


def filled(state: Moments) -> Moments:
    """The moments, with values for what was not given."""
    zeros = jnp.zeros_like(state.mean)
    eps = jnp.finfo(state.mean.dtype).eps
    otherwise = {"rest": 0, "unit": 1, "eps": eps, "n_rest": 0, "mean_rest": 0}
    otherwise |= {"spread_rest": 0, "last": 0}
    return state._replace(
        **{name: zeros + or_else(getattr(state, name), value) for name, value in otherwise.items()}
    )


def three_sum(
    high: Statistic, low: Statistic, more: Statistic, last: Statistic | float = 0.0
) -> tuple[Statistic, Statistic, Statistic]:
    """``high + low + last + more`` in three parts, the first two and the fourth of one number."""
    low, lost = two_sum(low, more)
    high, low = two_sum(high, low)
    return high, *two_sum(low, lost + last)


def _rescaled(m2: Statistic, factor: Statistic) -> Statistic:
    return jnp.where(m2 == 0, 0, m2 * factor * factor)


def unit_of(size: Statistic) -> Statistic:
    """1, or a power of two near `size` where squares of such numbers leave the range of the dtype."""
    size = jax.lax.stop_gradient(size)
    info = jnp.finfo(size.dtype)
    fine = float(info.max) ** 0.25
    strange = ((size > fine) | (size < 1 / fine)) & (size > 0) & jnp.isfinite(size)
    exponent = jnp.frexp(jnp.where(strange, size, 1))[1] - 10
    exponent = jnp.clip(exponent, info.minexp + 24, None)  # clear of both ends, with `share_of` too
    return jnp.where(strange, jnp.ldexp(jnp.ones_like(size), exponent), 1)


def share_of(size: Statistic) -> Statistic:
    """1, or so much less that differences of numbers up to `size` are in the range of the dtype."""
    return jnp.where(jnp.isfinite(size) & (size > jnp.finfo(size.dtype).max / 8), 0.125, 1).astype(
        size.dtype
    )


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


@partial(jax.jit, static_argnums=(2, 3))
def extremes_of(x: Halves, weights: Weights, axes: Axes, ignore_nan: bool) -> Range:
    """`Range` of an array."""
    high, *rests = x
    counted = jnp.broadcast_to(weights > 0, high.shape)
    if ignore_nan:
        counted &= ~jnp.isnan(high)
    shape = kept_shape(high.shape, axes)
    bounds = []
    for extreme, beyond in ((jnp.min, jnp.inf), (jnp.max, -jnp.inf)):
        value = extreme(high, axis=axes, keepdims=True, where=counted, initial=beyond)
        there, values = counted & (high == value), [value]
        for part in rests:
            rest = jnp.zeros_like(value)
            if part is not None:
                rest = extreme(part, axis=axes, keepdims=True, where=there, initial=beyond)
                there &= part == rest
                rest = jnp.where(jnp.isfinite(rest), rest, 0)
            values.append(rest)
        bounds.append([leaf.reshape(shape) for leaf in values])
    return _range_of(*bounds)


@jax.jit
def merge_ranges(one: Range, other: Range) -> Range:
    """`Range` of both of two sets of data."""
    merged = []
    for extreme, name in ((jnp.minimum, "low"), (jnp.maximum, "high")):
        ours, theirs = (
            [getattr(state, name), *(or_else(getattr(state, f"{name}_{part}"), 0) for part in _PARTS)]
            for state in (one, other)
        )
        better, tie = jnp.zeros(jnp.shape(ours[0]), bool), jnp.ones(jnp.shape(ours[0]), bool)
        for a, b in zip(ours, theirs):  # the first part that differs decides
            better |= tie & (extreme(a, b) == a) & (a != b)
            tie &= a == b
        parts = [jnp.where(better | tie, a, b) for a, b in zip(ours, theirs)]
        merged.append([extreme(ours[0], theirs[0]), *parts[1:]])  # which hands on a NaN
    return _range_of(*merged)


_PARTS = ("rest", "last")


def _range_of(low: list[Statistic], high: list[Statistic]) -> Range:
    return Range(low[0], high[0], low[1], high[1], low[2], high[2])


def or_else(value: Any, otherwise: Any) -> Any:
    """The value if there is one."""
    return otherwise if value is None else value
