"""What JAX' numbers hold of the host's, and which of them they tell apart.

Refusals of what would be cut, wrap, vanish or become equal, before it does, and numbers in two parts.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

HostOrDevice = jax.Array | np.ndarray


def extremes(value: HostOrDevice) -> tuple[float, float]:
    """The least and the largest value of an array of one or more that is known, also inside `jax.jit`.

    >>> extremes(np.array([3, 2**40]))
    (3, 1099511627776)
    """
    if not isinstance(value, jax.Array):
        return value.min().item(), value.max().item()
    with jax.ensure_compile_time_eval():
        return value.min().item(), value.max().item()


def check_holds(name: str, value: HostOrDevice) -> None:
    """Refuse numbers of the host that JAX would cut: beyond 32 bits or float32, with x64 off.

    A whole number would wrap, and a finite one become infinite.

    >>> check_holds("ids", np.array([2**32 + 1]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ids holds 4294967297, which needs more than 32 bits; use smaller numbers or turn on ...
    """
    if isinstance(value, jax.Array) or not value.size:
        return
    if value.dtype.kind == "f":
        _check_floats(name, value)
    if value.dtype.kind not in "iu":
        return
    held = jax.dtypes.canonicalize_dtype(value.dtype)
    if held == value.dtype:
        return
    info = np.iinfo(held)
    for extreme in (value.min(), value.max()):
        if not info.min <= extreme <= info.max:
            raise ValueError(
                f"{name} holds {extreme}, which needs more than {info.bits} bits; use smaller numbers "
                "or turn on jax_enable_x64"
            )


def is_cut(value: np.ndarray, dtype: Any) -> bool:
    """Whether a float dtype cannot hold each of these numbers of the host.

    >>> is_cut(np.array([2**24 + 1]), np.float32), is_cut(np.array([0.5]), np.float32)
    (True, False)
    """
    if value.dtype.itemsize < 4 or value.dtype.kind == "b" or value.dtype in (np.float32, dtype):
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        exact = value if value.dtype.kind == "f" else value.astype(np.longdouble)
        return bool((value.astype(dtype) != exact)[np.isfinite(value)].any())


def numbers_in(kind: Any) -> int:
    """How many whole numbers from 0 on a dtype tells apart.

    >>> numbers_in(jnp.bfloat16), numbers_in(np.int8)
    (257, 128)
    """
    held = jax.dtypes.canonicalize_dtype(kind)
    if jnp.issubdtype(held, jnp.integer):
        return int(jnp.iinfo(held).max) + 1
    return int(2 ** (jnp.finfo(held).nmant + 1) + 1)


def differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``one − other`` of numbers of the host in float64, rounded once also for whole ones of 64 bits.

    >>> differences(np.array([2**62 + 1, 0]), np.array([2**62, 1]))
    array([ 1., -1.])
    """
    if any(array.dtype.kind not in "iu" for array in (one, other)):
        with np.errstate(invalid="ignore"):  # ∞ − ∞
            return one.astype(np.float64) - other.astype(np.float64)
    above = one >= other
    # modulo 2⁶⁴, in which the size of the difference is
    a, b = one.astype(np.uint64), other.astype(np.uint64)
    return np.where(above, a - b, b - a).astype(np.float64) * np.where(above, 1, -1)


def in_two(value: HostOrDevice, dtype: Any) -> tuple[jax.Array, jax.Array | None]:
    """Numbers as the sum of two arrays of a float dtype; the second is None if it would be 0.

    float32 alone has steps of 128 at 1.7e9.

    >>> high, low = in_two(np.array([2**24 + 1]), np.float32)
    >>> float(high[0]), float(low[0])
    (16777216.0, 1.0)
    """
    if isinstance(value, jax.Array):
        if (
            value.dtype.itemsize < 4
            or not jnp.issubdtype(value.dtype, jnp.integer)
            or dtype != jnp.float32
        ):
            return value.astype(dtype), None
        coarse = (value >> 12) << 12  # both parts have fewer bits than float32
        return coarse.astype(dtype), (value - coarse).astype(dtype)
    if not is_cut(value, dtype):
        return jnp.asarray(value.astype(dtype)), None
    high = value.astype(dtype)
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        low = value.astype(np.float64) - high
    return jnp.asarray(high), jnp.asarray(np.where(np.isfinite(low), low, 0).astype(dtype))


def check_told_apart(
    name: str, value: HostOrDevice, *, axis: int | None = None, dtype: Any = None
) -> None:
    """Refuse numbers of the host that differ, but by so little that a float dtype takes few steps.

    Fewer than 64 of its steps are between the least and the largest. What it holds exactly is fine, and
    so are equal numbers but for the rounding of their own width. With ``axis=0`` each column is looked
    at by itself. The dtype is JAX' default float, if no other is named.

    >>> check_told_apart("outputs", np.array([1e6, 1e6 + 1e-3]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: outputs holds numbers from 1000000.0 to 1000000.001, whose differences float32 ...
    >>> check_told_apart("ids", 2**60 + np.arange(3), dtype=np.float64)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ids holds numbers from 1152921504606846976 to 1152921504606846978, whose differences ...
    """
    if isinstance(value, jax.Array):
        return
    dtype = np.dtype(jnp.result_type(float) if dtype is None else dtype)
    if not value.size or value.dtype.itemsize < 4:
        return
    if value.dtype.kind not in "iu" and value.dtype.itemsize <= max(4, dtype.itemsize):
        return
    if np.isfinite(value).all():
        least, most = value.min(axis=axis), value.max(axis=axis)
    else:
        known = np.isfinite(value)
        least = np.min(value, axis=axis, initial=np.inf, where=known)
        most = np.max(value, axis=axis, initial=-np.inf, where=known)
    low, high = np.asarray(least, np.float64), np.asarray(most, np.float64)
    close = lie_close(low, high, dtype)
    if value.dtype.kind in "iu":  # whose differences are exact
        whole = differences(np.asarray(most), np.asarray(least))
        close = (whole > 0) & ~lie_apart(low, low + np.maximum(whole, high - low), dtype)
    for place in np.argwhere(close):
        column = value[(slice(None), *place)] if axis == 0 else value
        if is_cut(column, dtype):
            at = f" in column {', '.join(map(str, place))}" if axis == 0 and place.size else ""
            first, last = (np.asarray(end)[tuple(place)].item() for end in (least, most))
            raise ValueError(f"{name} {not_told(first, last, at, dtype)}")


def lie_close(low: np.ndarray, high: np.ndarray, dtype: Any = None) -> np.ndarray:
    """Where numbers between these two differ by more than by rounding, but by few steps of a float.

    >>> lie_close(np.array([0.0, 1.7e9, 5.0]), np.array([1.0, 1.7e9 + 60, 5.0]))
    array([False,  True, False])
    """
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.maximum(np.abs(low), np.abs(high))
        return ~lie_apart(low, high, dtype) & (high - low > 16 * np.finfo(np.float64).eps * size)


def lie_apart(low: np.ndarray, high: np.ndarray, dtype: Any = None) -> np.ndarray:
    """Where numbers between these two are 64 steps of a float dtype apart, by default of JAX' float.

    Where they are, they still are among more numbers.

    >>> lie_apart(np.array([0.0, 1.7e9, 5.0]), np.array([1.0, 1.7e9 + 60, 5.0]))
    array([ True, False, False])
    """
    eps = float(jnp.finfo(jnp.result_type(float) if dtype is None else dtype).eps)
    with np.errstate(invalid="ignore", over="ignore"):
        return high - low >= 64 * eps * np.maximum(np.abs(low), np.abs(high))


def not_told(low: float, high: float, at: str, dtype: Any = None) -> str:
    """What is said of numbers that `lie_close` and are rounded, and where they are."""
    dtype = np.dtype(jnp.result_type(float) if dtype is None else dtype)
    wider = ", or turn on jax_enable_x64" if dtype.itemsize < 8 else ""
    return (
        f"holds numbers from {low!r} to {high!r}{at}, whose differences {dtype} cannot tell: subtract "
        f"what they have in common first{wider}"
    )


def check_leaves_hold(name: str, tree: Any) -> None:
    """Refuse a pytree with numbers of the host that JAX would cut, by their path.

    >>> check_leaves_hold("updates", {"a": np.array([1e300])})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: updates: a holds 1e+300, which float32 cannot hold (at most 3.4e+38); use smaller ...
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        known = not isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct))
        if known and getattr(leaf, "dtype", None) != jax.dtypes.float0:
            place = jax.tree_util.keystr(path, simple=True, separator="/")
            check_holds(f"{name}: {place}" if place else name, np.asarray(leaf))


def vanishing(value: np.ndarray, least: float, axis: tuple[int, ...] | None = None) -> np.ndarray:
    """Which numbers are below the least that counts; with axes, of features that vary by as little.

    >>> vanishing(np.array([1.0, 1e-50, 0.0]), 1e-38).tolist()
    [False, True, False]
    >>> vanishing(np.array([1.0, 1e-50, 0.0]), 1e-38, (0,)).any()
    np.False_
    """
    lost = (abs(value) < least) & (value != 0)
    if lost.any() and axis is not None:
        high = np.fmax.reduce(value, axis=axis, keepdims=True)
        with np.errstate(invalid="ignore"):  # ∞ − ∞
            spread = high - np.fmin.reduce(value, axis=axis, keepdims=True)
        lost &= (spread > 0) & (spread < 1024 * least)
    return lost


def check_above_zero(name: str, value: HostOrDevice, *, axis: tuple[int, ...] | None = None) -> None:
    """Refuse numbers of the host that JAX' default float would make 0, and lose by that.

    With the axes of the examples, a feature is lost if it varies by less than a thousand times the least
    normal float: among larger numbers 1e-50 is as good as 0. Without, each number counts.

    >>> check_above_zero("x", np.array([1.0, 1e-50]), axis=(0,))
    >>> check_above_zero("x", np.array([1e-50, 2e-50]), axis=(0,))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: x holds 1e-50, which float32 makes 0 (from 1.2e-38 on it keeps its ...
    """
    dtype = jnp.result_type(float)
    if (
        isinstance(value, jax.Array)
        or value.dtype != np.float64
        or dtype == value.dtype
        or not value.size
    ):
        return
    least = float(jnp.finfo(dtype).tiny)
    lost = vanishing(value, least, axis)
    if lost.any():
        raise ValueError(
            f"{name} holds {value[lost][0]}, which {dtype} makes 0 (from {least:.2g} on it keeps its "
            "digits); use larger units or turn on jax_enable_x64"
        )


def overflows(value: float | np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Where a finite number becomes infinite in this dtype.

    What rounds to the greatest number is held, though it lies above it.

    >>> [bool(overflows(value, np.float32)) for value in (3.402823466385289e38, 1e39, np.inf)]
    [False, True, False]
    """
    with np.errstate(over="ignore"):
        rounded = np.asarray(value).astype(dtype)
    return np.isfinite(value) & np.isinf(rounded)


def _check_floats(name: str, value: np.ndarray) -> None:
    dtype = jax.dtypes.canonicalize_dtype(value.dtype)
    if dtype.itemsize >= value.dtype.itemsize:
        return
    most = jnp.finfo(dtype).max
    extremes = np.fmin.reduce(value, axis=None), np.fmax.reduce(value, axis=None)
    if all(abs(extreme) <= most for extreme in extremes) or np.isnan(extremes[0]):
        return
    beyond = value[overflows(value, dtype)]
    if beyond.size:
        raise ValueError(
            f"{name} holds {beyond[0]}, which {dtype} cannot hold (at most {most:.2g}); use smaller "
            "numbers or turn on jax_enable_x64"
        )
