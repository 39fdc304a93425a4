"""Checks of arguments: errors for people, raised before anything is traced."""

import contextlib
import contextvars
import inspect
import math
import numbers
import operator
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._arrays import as_array, whole
from jaxdeep._precision import overflows
from jaxdeep._quoted import quoted

_INTERVAL = re.compile(r"([\[(])\s*(\S+)\s*,\s*(\S+)\s*([\])])")


def known_value(value: Any) -> float | None:
    """The number behind a Python, NumPy or concrete JAX scalar; None if only known at run time."""
    if isinstance(value, jax.core.Tracer) or callable(value):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number beyond any float
        return math.inf if value > 0 else -math.inf


def check_scalar(name: str, value: Any, interval: str, *, schedule: bool = False) -> None:
    """Refuse `value` unless it is a scalar inside `interval`, written as in "[0, 1)".

    A number that JAX' default float cannot hold is refused too: it would become infinite, or be rounded
    to a bound that the interval leaves out, as to 0.

    >>> check_scalar("learning_rate", 1e40, "[0, inf)")
    Traceback (most recent call last):
    ValueError: learning_rate is 1e+40, which float32 cannot hold (at most 3.4e+38); ...
    """
    kinds = "a number, a scalar array" + (" or a schedule (step -> value)" if schedule else "")
    if callable(value):
        if schedule:
            check_takes(name, value, "step")
            return
        raise TypeError(f"{name} must be {kinds}, got {value!r}")
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (numbers.Real, np.ndarray, jax.Array)
    ):
        raise TypeError(f"{name} must be {kinds}, got {value!r}")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError(f"{name} must be {kinds}, got a masked array with masked values")
    shape, dtype = getattr(value, "shape", ()), getattr(value, "dtype", None)
    if shape != ():
        raise ValueError(f"{name} must be {kinds}, got an array of shape {shape}")
    if dtype is not None and not (
        jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    ):
        raise TypeError(f"{name} must be {kinds}, got an array of {dtype}")
    number = known_value(value)
    if number is None:
        return
    match = _INTERVAL.fullmatch(interval)
    assert match is not None, interval
    low, high = float(match[2]), float(match[3])
    # rounding may have carried a good value onto a bound: 0.999 is 1 in bfloat16
    closed = isinstance(value, jax.Array) and value.dtype.itemsize < 4
    above = number >= low if match[1] == "[" or closed else number > low
    below = number <= high if match[4] == "]" or closed else number < high
    endless = math.isinf(number) and match[4 if number > 0 else 1] in "()"
    if math.isnan(number) or endless or not (above and below):
        raise ValueError(f"{name} must be in {interval}, got {value!r}")
    default = jnp.finfo(jnp.result_type(float))
    if not isinstance(value, jax.Array) and overflows(number, default.dtype):
        raise ValueError(
            f"{name} is {value!r}, which {default.dtype} cannot hold (at most {default.max:.2g}); use a "
            "smaller number or turn on jax_enable_x64"
        )
    if isinstance(value, jax.Array):
        return
    if match[1] == "(" and low == 0 and number < default.tiny:
        raise ValueError(
            f"{name} must be in {interval}, got {value!r}, which {default.dtype} rounds to 0 (at least "
            f"{default.tiny:.2g})"
        )
    rounded = default.dtype.type(number)
    if (match[4] == ")" and rounded >= high) or (match[1] == "(" and rounded <= low):
        nearest = np.nextafter(rounded, default.dtype.type(-math.inf if rounded >= high else math.inf))
        raise ValueError(
            f"{name} must be in {interval}, got {value!r}, which {default.dtype} rounds to {rounded}; "
            f"the nearest that it tells from that is {nearest}"
        )


def check_hyperparameter(name: str, value: Any, interval: str, *, schedule: bool = False) -> None:
    """`check_scalar`, and refuse a number other than 0 that JAX' default float makes 0.

    >>> check_hyperparameter("eps", 1e-50, "[0, inf)")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: eps must be in [0, inf), got 1e-50, which float32 rounds to 0: it must be 0 or at ...
    """
    check_scalar(name, value, interval, schedule=schedule)
    number = None if isinstance(value, jax.Array) else known_value(value)
    default = jnp.finfo(jnp.result_type(float))
    if number is not None and 0 < abs(number) < default.tiny:
        raise ValueError(
            f"{name} must be in {interval}, got {value!r}, which {default.dtype} rounds to 0: it must "
            f"be 0 or at least {default.tiny:.2g}"
        )


def check_scalars(interval: str, **values: Any) -> None:
    """Refuse each of the values that is not a scalar inside `interval`."""
    for name, value in values.items():
        check_scalar(name, value, interval)


def check_number(name: str, value: Any, interval: str) -> None:
    """Refuse `value` unless it is a plain number inside `interval`, not an array."""
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    check_scalar(name, value, interval)


def check_count(name: str, value: Any, low: float = 1, *, array: bool = False) -> Any:
    """Refuse `value` unless it is a whole number of at least `low`, or a scalar array of one.

    Returns it as Python's: in sums with NumPy's int8 others wrap.
    """
    if array and isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.integer):
        check_scalar(name, value, f"[{low}, inf)")
        return value
    if not is_whole(value):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    return int(value)


def is_whole(value: Any) -> bool:
    """Whether this is a whole number; True and False are none, which Python takes for 1 and 0.

    >>> is_whole(1), is_whole(np.int8(1)), is_whole(True), is_whole(np.timedelta64(1, "D"))
    (True, True, False, False)
    """
    # NumPy counts spans of time among the whole numbers
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))


def index(value: Any) -> int:
    """A whole number, or a scalar array of one, as Python's; a TypeError for anything else, and True."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{value} is no whole number")
    return operator.index(value)


def whole_numbers(name: str, value: Any) -> tuple[int, ...]:
    """The one whole number, or the list or tuple of them, that names axes, as a tuple.

    >>> whole_numbers("axis", 1), whole_numbers("axis", [0, np.int32(-1)])
    ((1,), (0, -1))
    >>> whole_numbers("axis", True)
    Traceback (most recent call last):
    TypeError: axis must be a whole number or a tuple of them, got True
    """
    several = value if isinstance(value, (tuple, list)) else (value,)
    try:
        return tuple(map(index, several))
    except TypeError:
        raise TypeError(f"{name} must be a whole number or a tuple of them, got {value!r}") from None


def check_functions(*, optional: bool = True, **functions: Any) -> None:
    """Refuse what is not callable, but for None if they are optional."""
    for name, function in functions.items():
        if not (callable(function) or (optional and function is None)):
            raise TypeError(f"{name} must be a function, got {function!r}")


def takes(function: Callable[..., Any], arguments: int, *names: str) -> bool:
    """Whether a function can be called with so many arguments, and these by name, as far as it says.

    >>> takes(lambda a, b=1: a, 1), takes(lambda a, b=1: a, 3), takes(np.add, 2), takes(print, 9)
    (True, False, True, True)
    >>> takes(lambda a, *, step: a, 1, "step")
    True
    """
    if isinstance(inputs := getattr(function, "nin", None), int):  # of a ufunc
        return inputs == arguments
    try:
        inspect.signature(function).bind(*[None] * arguments, **dict.fromkeys(names))
    except ValueError:  # without a signature
        return True
    except TypeError:
        return False
    return True


def check_takes(name: str, function: Any, *arguments: str) -> None:
    """Refuse what is no function of these arguments, such as the maker of one, by their names."""
    if not callable(function) or not takes(function, len(arguments)):
        form = f"({', '.join(arguments)})" if len(arguments) != 1 else arguments[0]
        ours = str(getattr(function, "__module__", "")).startswith("jaxdeep.")
        hint = ""
        if callable(function):
            count = "one argument" if len(arguments) == 1 else f"{len(arguments)} arguments"
            hint = "; call it" if ours else f"; it is called with {count}"
        raise TypeError(f"{name} must be a function {form} -> values, got {function!r}{hint}")


def check_flag(name: str, value: Any) -> None:
    """Refuse anything but True and False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_flags(**flags: Any) -> None:
    """Refuse each of the flags that is neither True nor False."""
    for name, value in flags.items():
        check_flag(name, value)


def check_choice(name: str, value: Any, choices: Sequence[str | None]) -> None:
    """Refuse what is none of the choices."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        *others, last = map(repr, choices)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, got {quoted(value, 200)}")


def check_float_dtype(name: str, dtype: Any, *, optional: bool = True) -> None:
    """Refuse anything but a floating-point dtype, and None if it is optional."""
    if optional and dtype is None:
        return
    try:
        known = dtype is not None and not isinstance(dtype, (jax.Array, np.ndarray))
        floating = known and jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except (TypeError, ValueError):
        floating = False
    if not floating:
        kinds = "a floating-point dtype" + (" or None" if optional else "")
        raise TypeError(f"{name} must be {kinds}, got {dtype!r}")


def check_local_path(name: str, path: Any) -> None:
    """Refuse what is no path, and the address of a remote place, which would become a folder "gs:"."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise TypeError(f"{name} must be a path, got {path!r}")
    is_drive = os.name != "nt" and re.match(r"[A-Za-z]:[\\/]", str(path))
    if is_drive or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise ValueError(
            f"{name} must be a path on this machine, got {str(path)!r}; write to a folder here (or one "
            "where that place is mounted) and copy it from there"
        )


def local_path(name: str, path: Any) -> pathlib.Path:
    """The path of a file on this machine, as of `check_local_path`, with the home directory for "~"."""
    check_local_path(name, path)
    return pathlib.Path(path).expanduser()


def check_sequence(name: str, value: Any) -> None:
    """Refuse anything but a list, a tuple or an array of one axis."""
    if not isinstance(value, (list, tuple)) and getattr(value, "ndim", 0) != 1:
        raise TypeError(f"{name} must be a list, got {value!r}")


def check_key(key: Any, *, optional: bool = False) -> None:
    """Refuse anything but a random key: one from `jax.random.key`, or a legacy uint32 key."""
    if optional and key is None:
        return
    dtype = getattr(key, "dtype", None)
    if dtype is not None:
        if jnp.issubdtype(dtype, jax.dtypes.prng_key):
            if np.shape(key) == ():
                return
            raise ValueError(
                f"key must be a single random key, got {np.shape(key)} of them; "
                "use jax.vmap to run once for each"
            )
        if dtype == jnp.uint32 and np.shape(key) in ((2,), (4,)):
            return
    got = repr(key) if dtype is None else f"an array of dtype {dtype} and shape {np.shape(key)}"
    raise TypeError(f"key must be a random key such as jax.random.key(0), got {got}")


def as_key(key: Any) -> jax.Array:
    """A random key, or that of a seed: a whole number n stands for ``jax.random.key(n)``.

    >>> as_key(7) == jax.random.key(7)
    Array(True, dtype=bool)
    >>> as_key(-1)
    Traceback (most recent call last):
    ValueError: key must be a random key such as jax.random.key(0), or a seed in [0, 2**32), got -1
    """
    if is_whole(key):
        if not 0 <= key < 2**32:  # which jax.random.key takes for another
            raise ValueError(
                "key must be a random key such as jax.random.key(0), or a seed in [0, 2**32), got "
                f"{key!r}"
            )
        return jax.random.key(int(key))
    check_key(key)
    return key


def is_known(value: Any) -> bool:
    """Whether an array has values, and they can be looked at: it is not traced."""
    return not isinstance(value, jax.core.Tracer) and np.size(value) > 0


class Bound(NamedTuple):
    """What the values of one array were found to be checked for.

    Attributes:
      place: which of the arrays that are watched.
      low, high: the values that are allowed, both included.
      sums: whether the last axis must sum to 1.
      ignored: another value that is allowed.
    """

    place: int
    low: float
    high: float
    sums: bool = False
    ignored: int | None = None

    def check(self, name: str, value: np.ndarray) -> None:
        """Refuse values beyond the bound."""
        if self.ignored is not None:
            value = value[value != self.ignored]
        if self.sums:
            check_distributions(name, value)
        check_known(name, value, self.low, self.high)


class _Watched:
    """Arrays whose checks are noted. One is known again by its memory, also as a view."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.places = {_memory(array): place for place, array in enumerate(arrays)}
        self.alive, self.bounds = list(arrays), set[Bound]()
        self.ignored: dict[Any, int] = {}  # by memory


_watched: contextvars.ContextVar[_Watched | None] = contextvars.ContextVar("watched", default=None)


@contextlib.contextmanager
def bounds_of(arrays: Sequence[Any]) -> Iterator[set[Bound]]:
    """The checks that are made of the values of these arrays inside the context.

    So they can be made of further arrays in place of these, on the host and without another trace.

    >>> y = np.array([0, 2])
    >>> with bounds_of([y]) as bounds:
    ...     check_classes(np.zeros((2, 3)), y)
    >>> bounds
    {Bound(place=0, low=0, high=2, sums=False, ignored=None)}
    """
    token = _watched.set(watched := _Watched(arrays))
    try:
        yield watched.bounds
    finally:
        _watched.reset(token)


def stands_for(new: Any, old: Any, *, ignored: int | None = None) -> None:
    """Note checks of the array `new` as those of `old`, which it was made from.

    Where `old` holds `ignored`, `new` holds another value: the checks are not of it.
    """
    watched = _watched.get()
    if watched is not None and (place := watched.places.get(_memory(old))) is not None:
        memory = _memory(new)
        watched.places[memory] = place
        watched.alive.append(new)
        ignored = watched.ignored.get(_memory(old)) if ignored is None else ignored
        if ignored is not None:
            watched.ignored[memory] = ignored


def _note(value: Any, low: float, high: float, *, sums: bool = False) -> None:
    watched = _watched.get()
    if watched is not None and (place := watched.places.get(_memory(value))) is not None:
        watched.bounds.add(Bound(place, low, high, sums, watched.ignored.get(_memory(value))))


def _memory(array: Any) -> tuple[Any, ...]:
    if isinstance(array, np.ndarray):
        return array.__array_interface__["data"][0], array.size, array.dtype.str
    return (id(array),)


def check_known(name: str, value: Any, low: float, high: float) -> None:
    """Refuse an array with known values outside ``[low, high]``; NaN is none of them."""
    _note(value, low, high)
    if is_known(value):
        known = np.asarray(value)
        outside = known[(known < low) | (known > high)]
        if outside.size:
            raise ValueError(f"{name} must be in [{low}, {high}], got {outside.flat[0]}")


def check_distributions(name: str, value: Any) -> None:
    """Refuse an array of known probabilities of classes, of shape ``(…, classes)``, that are none."""
    check_known(name, value, 0, math.inf)
    _note(value, 0, math.inf, sums=True)
    if is_known(value):
        wrong = wrong_sums(np.asarray(value))
        if wrong.size:
            raise ValueError(
                f"{name} of the shape of the outputs are probabilities, which must sum to 1 over the "
                f"classes (the last axis), got a sum of {wrong.flat[0]:.6g}"
            )


def check_numbers(name: str, value: Any) -> None:
    """Refuse an array of known floats with a NaN among them."""
    if (
        is_known(value)
        and jnp.issubdtype(value.dtype, jnp.floating)
        and np.isnan(np.asarray(value)).any()
    ):
        raise ValueError(f"{name} must be numbers, got nan")


def check_weights(value: Any) -> None:
    """Refuse an array of known weights that are negative, not finite, or of no size to compute with."""
    if not is_known(value) or value.dtype == bool:
        return
    known = np.asarray(value)
    for wrong, demand in wrong_weights(known):
        if wrong.any():
            raise ValueError(f"weights must be {demand}, got {known[wrong].flat[0]}")


def wrong_weights(known: np.ndarray) -> list[tuple[np.ndarray, str]]:
    """Which weights are wrong, and what they must be.

    They are multiplied by losses and added up over rows, for which the square root of the largest float
    leaves room. All of them may be 0, but not become 0 where they are not.

    >>> [what for wrong, what in wrong_weights(np.array([1e-46, 0.0])) if wrong.any()]
    ['at least 1.2e-38 somewhere, as float32 takes smaller ones for 0']
    """
    default = jnp.finfo(jnp.result_type(float))
    most, least = float(default.max) ** 0.5, float(default.tiny)
    wide = known.astype(np.float64)  # a narrow dtype holds neither
    return [
        (~np.isfinite(wide), "finite"),
        (wide < 0, "at least 0"),
        (wide > most, f"at most {most:.2g}, for sums in the range of {default.dtype}"),
        (
            (wide != 0) & bool((wide < least).all()),
            f"at least {least:.2g} somewhere, as {default.dtype} takes smaller ones for 0",
        ),
    ]


def wrong_sums(known: np.ndarray) -> np.ndarray:
    """The sums over the last axis that are not 1 but for the rounding of the dtype."""
    floating = jnp.issubdtype(known.dtype, jnp.floating)
    near = max(1e-3, 8 * float(jnp.finfo(known.dtype).eps)) if floating else 0
    sums = np.atleast_1d(known.sum(axis=-1, dtype=np.float64))
    return sums[np.abs(sums - 1) > near]


def same_but_for_one(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes are the same but for a last axis of length 1.

    >>> same_but_for_one((8,), (8, 1)), same_but_for_one((8,), (8, 8))
    (True, False)
    """
    return other in (shape, (*shape, 1)) or shape == (*other, 1)


def classes_of(outputs: Any, labels: Any) -> jax.Array:
    """Classes as integers of at least 32 bits, of shape ``(…)`` for outputs ``(…, classes)``."""
    labels = as_array("labels", labels)
    if labels.ndim == jnp.ndim(outputs) and labels.shape[-1:] == (1,):
        labels = labels[..., 0]
    check_classes(outputs, labels)
    return whole("labels", labels)


def check_classes(outputs: Any, labels: Any) -> None:
    """Refuse integer labels that do not fit outputs of shape ``(…, classes)``."""
    shape, classes = jnp.shape(outputs)[:-1], jnp.shape(outputs)[-1]
    if jnp.shape(labels) != shape:
        raise ValueError(
            f"labels must have shape {shape} (classes as integers) or {(*shape, classes)} "
            f"(probabilities) for outputs of shape {jnp.shape(outputs)}, got {jnp.shape(labels)}"
        )
    is_bool = jnp.result_type(labels) == jnp.bool_ and classes == 2
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer) and not is_bool:
        dtype = getattr(labels, "dtype", jnp.result_type(labels))
        raise TypeError(f"labels of shape {shape} must be integers, got {dtype}")
    _note(labels, 0, classes - 1)
    if not is_known(labels):
        return
    known = np.asarray(labels)
    low, high = int(known.min()), int(known.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"labels must be in [0, {classes}) for outputs of {classes} classes, got labels from "
            f"{low} to {high}"
        )
