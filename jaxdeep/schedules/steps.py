"""What all schedules share: the dtype of their values, and checks of what they are made from."""

import itertools
import numbers
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._shapes import Array, ArrayLike, Float

Schedule: TypeAlias = Callable[[Any], ArrayLike]  # of a step: a whole number, or an array of them


def step_of(step: ArrayLike) -> Array:
    """The step as an array: a float where the default whole numbers of JAX cannot hold it.

    Raises:
      TypeError: what is no number, nor an array of them. ValueError: a NaN, as far as values are known.

    >>> step_of(3), float(step_of(10**10))
    (Array(3, dtype=int32, weak_type=True), 10000000000.0)
    """
    array = as_array("step", step)
    if array.dtype == np.bool_:
        raise TypeError(f"step must be a number, got {step!r}")
    if isinstance(array, jax.Array):
        return array
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"step must be a number, got {step!r}")
    if array.dtype.kind in "iu" and array.size:
        info = np.iinfo(jax.dtypes.canonicalize_dtype(array.dtype))
        if array.min() < info.min or array.max() > info.max:
            return jnp.asarray(array.astype(float))
    return jnp.asarray(step if isinstance(step, (int, float)) else array)


def floats(step: ArrayLike, *values: ArrayLike) -> list[Float[Array, "..."]]:
    """The step and other values in the dtype that the schedule's values have.

    It is float32, or float64 with x64 on; a float step (an interpolated one) keeps its own type.
    """
    step = step_of(step)
    dtype = jnp.promote_types(jnp.result_type(float), step.dtype)
    return [jnp.asarray(value, dtype) for value in (step, *values)]


def since(step: ArrayLike, begin: int) -> Array:
    """Steps that have passed since `begin`, 0 before it, counted in whole numbers if the step is one.

    JAX' whole numbers need not reach `begin`.
    """
    step = step_of(step)
    if jnp.issubdtype(step.dtype, jnp.integer) and begin > jnp.iinfo(step.dtype).max:
        return jnp.zeros_like(step)
    start = float(begin) if jnp.issubdtype(step.dtype, jnp.floating) else begin
    return jnp.maximum(step, start) - start  # the difference of unsigned numbers would wrap


def between(begin: Array, end: Array, share: Array) -> Array:
    """``begin + (end − begin) · share``, exact at both ends.

    The difference is not taken, as it would round a small end beside a large one away.

    >>> float(between(jnp.float32(1e-6), jnp.float32(1e6), jnp.float32(0)))
    9.999999974752427e-07
    """
    return begin * (1 - share) + end * share


def check_boundaries(boundaries: Sequence[int]) -> list[int]:
    """The boundaries; refuses anything but a list of increasing steps that int32 holds."""
    _checks.check_sequence("boundaries", boundaries)
    steps = [_checks.check_count("boundaries", boundary, low=0) for boundary in boundaries]
    for step in steps:
        if step >= 2**31:
            raise ValueError(f"boundaries must be steps below 2**31, got {step}")
    if any(b <= a for a, b in itertools.pairwise(steps)):
        raise ValueError(f"boundaries must increase, got {steps}")
    return steps


def value_of(name: str, schedule: Schedule, step: Array) -> ArrayLike:
    """The value of a schedule, which is called `name`, at a step that may be traced.

    Raises:
      TypeError: one that decides in Python what is known only at run time, or returns no number.
    """
    try:
        value = schedule(step)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerIntegerConversionError) as error:
        raise TypeError(
            f"{name}, {schedule!r}, needs the number of its step in Python (an `if`, an "
            "index, float()), which a compiled run knows only as an array; write it with jnp.where or "
            "jaxdeep.schedules.piecewise_constant or join, or, as a function of the epoch, make it a "
            "table: jaxdeep.schedules.per_epoch(schedule, steps_per_epoch, epochs=...)"
        ) from error
    except jax.errors.TracerArrayConversionError as error:
        raise TypeError(
            f"{name}, {schedule!r}, calls NumPy with its step, which a compiled run "
            "knows only as an array of JAX: use jax.numpy"
        ) from error
    if not isinstance(value, (numbers.Real, np.ndarray, jax.Array)):
        raise TypeError(f"{name}, {schedule!r}, must return a number, got {value!r}")
    return value


def check_schedule(name: str, schedule: Schedule) -> None:
    """Refuse what is not callable."""
    if not callable(schedule):
        raise TypeError(f"{name} must be a function step -> value, got {schedule!r}")
