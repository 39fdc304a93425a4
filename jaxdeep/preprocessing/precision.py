"""What is computed in float64 on the host though JAX' default float is float32."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._compat import enable_x64
from jaxdeep._precision import lie_apart
from jaxdeep._shapes import ArrayLike
from jaxdeep.preprocessing.features import Axes, as_known, check_axis, check_kept_apart, reduced_axes
from jaxdeep.preprocessing.statistics import Moments

COMMON = "subtract what they have in common first"

P = ParamSpec("P")
T = TypeVar("T")


def is_precise(moments: Moments) -> bool:
    """Whether they are of numbers of more digits than the dtype has."""
    if moments.eps is None or isinstance(moments.eps, jax.core.Tracer):
        return False
    return bool((np.asarray(moments.eps) < jnp.finfo(moments.mean.dtype).eps).any())


def is_computing() -> bool:
    """Whether values are computed now, and not traced."""
    return not isinstance(jnp.zeros(()) + 0, jax.core.Tracer)


def unscaled(scaler: Any, moments: Moments, y: ArrayLike) -> np.ndarray | None:
    """What a standard scaler made `y` of, in float64; None where that is of no use or cannot be."""
    narrow = jnp.result_type(float) != jnp.float64
    if not (narrow and is_precise(moments) and _checks.is_known(y) and is_computing()):
        return None
    with enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), moments)
        wide = wide._replace(mean=wide.mean + wide.rest, rest=None)
        return np.asarray(scaler.inverse_transform(wide, np.asarray(y, np.float64)))


def precise_of(x: ArrayLike) -> np.ndarray | None:
    """Known numbers in float64, if JAX would cut them to float32 and nothing is being traced."""
    array = as_known("x", x)
    if isinstance(array, jax.Array):
        return None
    cut = array.dtype.itemsize >= 4 and array.dtype != np.float32
    if not cut or not is_computing() or jnp.result_type(float) == jnp.float64:
        return None
    return array.astype(np.float64)


def check_whole(x: ArrayLike, axes: Axes) -> None:
    """Refuse whole numbers that differ by so little that float64 loses it: 2⁶⁰ and its neighbours."""
    check_kept_apart("x", as_known("x", x), axes, COMMON, np.float64)


def check_results(x: ArrayLike, values: Any, axes: Axes) -> None:
    """Refuse known numbers that differ of which a transform in float64 makes fewer than 64 steps.

    Numbers that are equal but for the rounding of their own width are fine, as for `check_told_apart`.
    """
    check_whole(x, axes)
    known = as_known("x", x)
    if not isinstance(known, np.ndarray) or not isinstance(values, np.ndarray) or not values.size:
        return
    finite = np.isfinite(values)
    (low, high), (least, most) = (
        [
            np.asarray(extreme(of, axis=axes, initial=beyond, where=finite))
            for extreme, beyond in ((np.min, np.inf), (np.max, -np.inf))
        ]
        for of in (known.astype(np.float64), values)
    )
    differ = high - low > 16 * np.finfo(np.float64).eps * np.maximum(np.abs(low), np.abs(high))
    if (differ & ~lie_apart(least, most, np.float64)).any():
        lost = float(low[differ & ~lie_apart(least, most, np.float64)].flat[0])
        raise ValueError(
            f"x holds numbers near {lost:.6g} that differ by so little that float64 cannot tell what "
            f"becomes of them: {COMMON}"
        )


def is_narrow(x: np.ndarray, axes: Axes) -> bool:
    """Whether a feature varies by so little that float32 would keep few digits of it or its powers."""
    least = np.fmin.reduce(x, axis=axes, initial=np.inf)
    most = np.fmax.reduce(x, axis=axes, initial=-np.inf)
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        spread = most - least
    size = np.maximum(abs(least), abs(most))
    return bool(((spread > 0) & ((spread < 2**-12 * size) | (size < 1e-30))).any())


def has_small(x: np.ndarray) -> bool:
    """Whether float32 would make a number 0 that is none."""
    return bool(((abs(x) < np.finfo(np.float32).tiny) & (x != 0)).any())


def precisely(function: Callable[P, T]) -> Callable[P, T]:
    """A function of data, …, axis and method, in float64 on the host where float32 is too little.

    What it returns is in float32 then.
    """

    @functools.wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> T:
        x, *others = args
        axis: Any = others[-2]
        check_axis(axis)
        known = as_known("x", x)  # type: ignore[arg-type]
        check_whole(known, reduced_axes(axis, known.ndim))
        precise = precise_of(known)
        if precise is None or not precise.size:
            return function(*args, **kwargs)
        if has_small(precise) or not is_narrow(precise, reduced_axes(axis, precise.ndim)):
            return function(*args, **kwargs)
        with enable_x64(True):
            wide = jax.tree.map(np.asarray, function(precise, *others, **kwargs))  # type: ignore[arg-type]
        narrow: T = jax.tree.map(lambda leaf: jnp.asarray(leaf.astype(np.float32)), wide)
        return narrow

    return computed
