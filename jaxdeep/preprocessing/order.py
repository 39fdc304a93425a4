"""Order statistics of features about one of their values, exact where float32 is not.

What is computed of a feature is computed of its distances from a base, a value near its middle, which is
held in parts. So quantiles of seconds since 1970 are as precise as those of seconds since yesterday.
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._precision import check_above_zero, check_holds, differences, overflows
from jaxdeep._shapes import Array, ArrayLike, Float
from jaxdeep.preprocessing.features import (
    Axis,
    Halves,
    Statistic,
    check_features,
    check_varies,
    float_of,
    in_halves,
    kept_shape,
    reduced_axes,
)

Statistics = Any  # an array of NumPy in float64, or one of JAX, before it is part of a state


class Base(NamedTuple):
    """One of the values of each feature, as the sum of three floats."""

    high: Statistic
    low: Statistic
    last: Statistic


class Ordered(NamedTuple):
    """The values of features in order.

    Attributes:
      base: of each feature the value in the middle, 0 where there is none.
      values: ``(n, features)``, ascending distances from the base, NaN last; float64 of NumPy where the
        values are on the host.
      count: of each feature, how many of them are numbers.
      rounding: the relative rounding of the values.
    """

    base: Base
    values: Statistics
    count: Statistics
    rounding: float

    @property
    def shape(self) -> tuple[int, ...]:
        """That of statistics, which broadcasts against batches."""
        return tuple(self.base.high.shape)

    @property
    def numpy(self) -> ModuleType:
        """What computes with the values."""
        return np if isinstance(self.values, np.ndarray) else jnp

    def at(self, places: Statistics) -> Statistics:
        """The values at these places, ``(k, features)``, 0 where there are none."""
        xp = self.numpy
        places = xp.clip(places, 0, xp.maximum(self.count - 1, 0))
        values = xp.take_along_axis(self.values, places, axis=0)
        return xp.where(self.count > 0, values, 0)

    def quantiles(self, shares: np.ndarray) -> Statistics:
        """The quantiles, interpolated: ``(k, features)``."""
        places = self.numpy.asarray(shares)[:, None] * self.numpy.maximum(self.count - 1, 0)
        below = self.numpy.floor(places).astype(int)
        return self._between(below, places - below)

    def even_quantiles(self, k: int) -> Statistics:
        """The quantiles at k shares from 0 to 1, in whole numbers, so that none is off by a rounding."""
        products = self.numpy.arange(k)[:, None] * self.numpy.maximum(self.count - 1, 0)
        steps = max(k - 1, 1)
        return self._between(products // steps, products % steps / steps)

    def _between(self, below: Statistics, part: Statistics) -> Statistics:
        low, high = self.at(below), self.at(below + 1)
        # from the nearer end, so that a place between equal values is that value
        near = self.numpy.where(part < 0.5, low + (high - low) * part, high - (high - low) * (1 - part))
        near = self.numpy.where(self.numpy.isinf(high - low), low * (1 - part) + high * part, near)
        return self.numpy.where(low == high, low, near)

    def state(self, statistics: Statistics) -> Array:
        """Statistics ``(…, features)`` in the dtype and the shape that a state has."""
        array = jnp.asarray(statistics).astype(self.base.high.dtype)
        return array.reshape(*array.shape[:-1], *self.shape)

    def is_constant(self, spread: Statistics) -> Statistics:
        """Whether a spread is within the rounding of the values, one unit in the last place."""
        size: Any = total(self.base) if self.numpy is np else self.base.high
        mantissa, exponent = self.numpy.frexp(size.reshape(-1))
        unit = self.numpy.ldexp(self.numpy.full_like(mantissa, self.rounding), exponent - 1)
        return spread <= self.numpy.where(mantissa == 0, 0, unit)


def ordered(x: ArrayLike, axis: Axis) -> Ordered:
    """The values of the features of `x` in order, all rows of them.

    Raises:
      ValueError: no rows, infinite values, float features that vary by less than compiled code can tell,
        or by more than its floats hold.
    """
    array = as_array("x", x)
    axes = reduced_axes(axis, array.ndim)
    if not array.size:
        raise ValueError(f"x is empty, got shape {array.shape}: there is nothing to fit")
    check_above_zero("x", array, axis=axes)
    check_varies("x", array, axes)
    if _checks.is_known(array) and array.dtype.kind not in "iub" and np.isinf(np.asarray(array)).any():
        raise ValueError("x holds infinite numbers, of which there are no statistics")
    shape, dtype = kept_shape(tuple(array.shape), axes), float_of(array)
    rounding = 0.0 if array.dtype.kind in "iub" else float(jnp.finfo(array.dtype).eps)
    on_host = isinstance(array, np.ndarray)
    if on_host:
        check_holds("x", array if array.dtype.kind == "f" else np.zeros(0))
        rows = _rows(array if array.dtype.kind in "iu" else array.astype(np.float64), axes)
        xp: ModuleType = np
    else:
        halves, _ = in_halves(array)
        rows, xp = _rows(halves.high, axes), jnp
    count = (
        xp.sum(~xp.isnan(rows), axis=0)
        if rows.dtype.kind not in "iu"
        else xp.full(rows.shape[1], len(rows))
    )
    middle = xp.take_along_axis(xp.sort(rows, axis=0), (xp.maximum(count - 1, 0) // 2)[None], axis=0)[0]
    middle = xp.where(count > 0, middle, 0).reshape(shape)
    if on_host:
        base = _filled(in_halves(middle)[0], jnp.promote_types(dtype, jnp.float32))
        off = _rows(off_base(array, base, exact=True), axes)
    else:
        base = _filled(Halves(middle, None), middle.dtype)
        off = _rows(off_base(array, base), axes)
    _check_range(off, base.high.dtype)
    return Ordered(base, xp.sort(off, axis=0), count, rounding)


def _check_range(off: Statistics, dtype: Any) -> None:
    """Refuse distances from the base that the dtype of the state does not hold."""
    if _checks.is_known(off) and (np.isinf(off) | overflows(np.asarray(off), dtype)).any():
        raise ValueError(
            f"x holds numbers whose distances from the median are beyond {dtype} (at most "
            f"{jnp.finfo(dtype).max:.2g}): divide them by a unit"
        )


def off_base(x: ArrayLike, base: Base, name: str = "x", *, exact: bool = False) -> Statistics:
    """The distances of `x` from a base, in at least float32.

    Args:
      x: numbers, rounded only once those of the host have been subtracted.
      base: of each feature.
      name: of `x`, for errors.
      exact: in float64 on the host.
    """
    array = as_array(name, x)
    if isinstance(array, np.ndarray) and not any(isinstance(part, jax.core.Tracer) for part in base):
        check_holds(name, array if array.dtype.kind == "f" else np.zeros(0))
        apart = _distances(array, base)
        return apart if exact else jnp.asarray(apart.astype(base.high.dtype))
    halves, _ = in_halves(array, name)
    off = halves.high - base.high
    for part, less in zip(halves[1:], base[1:]):
        off = off + ((0 if part is None else part) - less)
    return off


def prepared(state_base: Base, x: ArrayLike, axis: Axis, name: str) -> tuple[Array, Any]:
    """The distances of `x` from the base of a state, and the dtype that results shall have."""
    array = as_array(name, x)
    check_features(tuple(state_base.high.shape), tuple(array.shape), axis, name)
    return off_base(array, state_base, name), float_of(array)


def with_base(off: Array, base: Base) -> Array:
    """The numbers at these distances from a base: small parts are added up first."""
    return ((off + base.last) + base.low) + base.high


def by_feature(
    function: Callable[..., Array], values: Array, statistics: Float[Array, "k *features"]
) -> Array:
    """What a function of the values of a feature and its k statistics gives, shaped as `values`."""
    shape = statistics.shape[1:]
    axes = [values.ndim - len(shape) + i for i, size in enumerate(shape) if size > 1]
    last = list(range(-len(axes), 0))
    features_last = jnp.moveaxis(values, axes, last)
    rows = features_last.reshape(-1, math.prod(shape))
    results = jax.vmap(function, in_axes=(1, 1), out_axes=1)(
        rows, statistics.reshape(len(statistics), -1)
    )
    return jnp.moveaxis(results.reshape(features_last.shape), last, axes)


def total(base: Base) -> np.ndarray:
    """A base that is known, in float64."""
    high, low, last = (np.asarray(part, np.float64) for part in base)
    return (last + low) + high


def _distances(array: np.ndarray, base: Base) -> np.ndarray:
    parts = [np.asarray(part, np.float64) for part in base]
    if array.dtype.kind in "iu" and all((part == np.floor(part)).all() for part in parts):
        whole = np.zeros(parts[0].shape, np.uint64)
        with np.errstate(over="ignore"):
            for part in parts:  # modulo 2⁶⁴, as negative ones are
                large = part >= 2.0**63
                held = np.where(large, 0, part).astype(np.int64).astype(np.uint64)
                whole = whole + np.where(large, np.where(large, part, 0).astype(np.uint64), held)
        wide = np.uint64 if array.dtype.kind == "u" else np.int64
        one, other = np.broadcast_arrays(array.astype(wide), whole.astype(wide))
        return differences(one, other)
    return array.astype(np.float64) - total(base)


def _filled(halves: Halves, dtype: Any) -> Base:
    zeros = jnp.zeros(halves.high.shape, dtype)
    return Base(*(zeros if part is None else part.astype(dtype) for part in halves))


def _rows(array: Any, axes: tuple[int, ...]) -> Any:
    """The array as ``(n, features)``."""
    xp = np if isinstance(array, np.ndarray) else jnp
    rows_first = xp.moveaxis(array, axes, range(len(axes)))
    count = math.prod(array.shape[axis] for axis in axes)
    return rows_first.reshape(count, -1)
