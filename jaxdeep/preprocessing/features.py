"""Arrays of features: the axes of their statistics, and their values in floats or pairs of floats."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._precision import check_holds, check_told_apart, vanishing
from jaxdeep._shapes import Array, ArrayLike, Float, Shaped

Axis = int | tuple[int, ...] | None
Axes = tuple[int, ...]  # all of them from 0 on, ascending
Batch = Float[Array, "*batch"]
Statistic = Float[Array, "*features"]


class Halves(NamedTuple):
    """Numbers as the sum of floats: a rounded one, what rounding took off it, and what off that."""

    high: Batch
    low: Batch | None
    last: Batch | None = None


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


def check_features(state: tuple[int, ...], shape: tuple[int, ...], axis: Axis, name: str) -> None:
    """Refuse an array of other features than a state: statistics of one feature are of no other.

    The array is a batch, or one of its examples; it may have more axes in front of those of the state.

    Args:
      state: the shape of the statistics.
      shape: of the array.
      axis: the axes that statistics were taken over.
      name: of the array, for the error.

    >>> check_features((1,), (5, 3), 0, "x")
    Traceback (most recent call last):
    ValueError: the state is of features (1,), got an array x of shape (5, 3)
    """
    if axis is None:
        return
    axes = axis if isinstance(axis, tuple) else (axis,)
    least = max(a + 1 if a >= 0 else -a for a in axes) if axes else 0
    fits = False
    for ndim in range(max(least, len(state)), len(state) + least + len(axes) + 1):
        over = {a % ndim for a in axes} if ndim else set()
        first = next((i for i in range(ndim) if i not in over), ndim)
        if len(over) < len(axes) or ndim - first != len(state):  # so many axes were not fitted
            continue
        free = {i - first for i in over}
        trailing = shape[max(len(shape) - len(state), 0) :]
        fits = len(trailing) == len(state) and all(
            s == n or (s == 1 and i in free) for i, (s, n) in enumerate(zip(state, trailing))
        )
        # nothing is left to compare for a state of a single number: more axes would be more features
        if fits and not state and len(shape) > ndim:
            more = {a % len(shape) for a in axes}
            fits = math.prod(n for i, n in enumerate(shape) if i not in more) == 1
        if fits:
            return
    raise ValueError(f"the state is of features {state}, got an array {name} of shape {shape}")


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
    # on the host where it is there, as JAX would cut whole numbers of 64 bits first
    return jnp.asarray(array.astype(jnp.promote_types(dtype, jnp.float32))), dtype


def in_halves(x: ArrayLike, name: str = "x") -> tuple[Halves, jnp.dtype]:
    """As `widened`, with what the rounding to it takes off."""
    array = as_array(name, x)
    dtype = float_of(array)
    wide = jnp.promote_types(dtype, jnp.float32)
    exact = array.dtype.itemsize < 4 or array.dtype in (wide, np.float32)
    long = array.dtype.kind in "iu" and array.dtype.itemsize == 8
    if long and (isinstance(array, jax.Array) or _is_large(array, wide)):
        return _whole_parts(array, wide), dtype
    if isinstance(array, jax.Array):
        if exact or wide != jnp.float32:
            return Halves(array.astype(wide), None), dtype
        coarse = (array >> 12) << 12  # of whole numbers, both parts have fewer bits than float32
        return Halves(*two_sum(coarse.astype(wide), (array - coarse).astype(wide))), dtype
    if array.dtype.kind == "f":
        check_holds(name, array)
    if exact or wide != jnp.float32:
        return Halves(jnp.asarray(array.astype(wide)), None), dtype
    high = array.astype(np.float32)
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        low = array.astype(np.float64) - high
    low = np.where(np.isfinite(low), low, 0).astype(np.float32)
    return Halves(jnp.asarray(high), jnp.asarray(low)), dtype


def _is_large(array: np.ndarray, wide: jnp.dtype) -> bool:
    """Whether the parts that are made of other numbers would not hold these whole ones."""
    bits = 53 if wide == jnp.float64 else 48
    return bool(array.size) and max(abs(int(array.min())), abs(int(array.max()))) > 2**bits


def _whole_parts(array: jax.Array | np.ndarray, wide: jnp.dtype) -> Halves:
    """Whole numbers of 64 bits as two float64, or three float32, which hold them exactly."""
    coarse = (array >> 40) << 40
    rest = array - coarse
    fine = (rest >> 16) << 16
    parts = [part.astype(wide) for part in (coarse, fine, rest - fine)]
    if wide != jnp.float32:
        return Halves(*map(jnp.asarray, _two_sum(parts[0], parts[1] + parts[2])))
    fine, last = _two_sum(parts[1], parts[2])
    high, low = _two_sum(parts[0], fine)
    low, last = _two_sum(low, last)
    return Halves(*map(jnp.asarray, (high, low, last)))


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """`two_sum` of finite numbers, on the host where they are."""
    total = a + b
    taken = total - a
    return total, (a - (total - taken)) + (b - taken)


def check_finite(name: str, value: ArrayLike) -> None:
    """Refuse numbers of the host that are not finite, or that JAX would make infinite."""
    array = as_array(name, value)
    if isinstance(array, jax.Array) or not array.size:
        return
    check_holds(name, array if array.dtype.kind == "f" else np.zeros(0))
    wrong = array[~np.isfinite(array)]
    if wrong.size:
        raise ValueError(f"{name} must be finite, got {wrong.flat[0]}")


def check_varies(name: str, value: jax.Array | np.ndarray, axes: Axes) -> None:
    """Refuse known float32 features that vary by so little that compiled code takes them for 0.

    >>> check_varies("x", jnp.array([[1e-40], [2e-40]]), (0,))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: x holds 9.99995e-41, and features that vary by less than 1.2e-35 are 0 in ...
    """
    if not _checks.is_known(value) or value.dtype != np.float32:
        return
    known = np.asarray(value)
    tiny = float(np.finfo(np.float32).tiny)
    lost = vanishing(known, tiny, axes)
    if lost.any():
        raise ValueError(
            f"{name} holds {known[lost][0]:.6g}, and features that vary by less than {1024 * tiny:.2g} "
            "are 0 in compiled code; use larger units"
        )


def two_sum(a: Statistic, b: Statistic) -> tuple[Statistic, Statistic]:
    """``a + b`` rounded, and what rounding took off (Knuth); 0 where the sum is not finite."""
    total = a + b
    taken = total - a
    rest = (a - (total - taken)) + (b - taken)
    return total, jnp.where(jnp.isfinite(total), rest, 0)


def as_known(name: str, value: ArrayLike) -> jax.Array | np.ndarray:
    """`as_array`, with whole numbers that JAX' float rounds on the host, from a device too."""
    array = as_array(name, value)
    if not isinstance(array, jax.Array) or not _checks.is_known(array):
        return array
    rounded = jnp.issubdtype(array.dtype, jnp.integer) and array.dtype.itemsize >= 4
    return np.asarray(array) if rounded and array.is_fully_addressable else array


def check_kept_apart(name: str, values: Any, axes: Axes, instead: str, dtype: Any = None) -> None:
    """Refuse results of the host that differ, but by so little that a float dtype loses it.

    Args:
      name: of the argument, or of what becomes of it.
      values: what a transform makes of the data that it is fitted on.
      axes: those of the examples.
      instead: what keeps the differences.
      dtype: JAX' default float, if no other is named.
    """
    if not isinstance(values, np.ndarray):
        return
    rows = np.moveaxis(values, axes, range(len(axes)))
    rows = rows.reshape(-1, *rows.shape[len(axes) :])
    try:
        check_told_apart(name, rows, axis=0, dtype=dtype)
    except ValueError as error:
        raise ValueError(f"{str(error).partition(':')[0]}: {instead}") from None
