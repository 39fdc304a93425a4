"""What all schedules share: the dtype of their values, and checks of what they are made from."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import Array, ArrayLike, Float

Schedule: TypeAlias = Callable[[Any], ArrayLike]  # of a step: a whole number, or an array of them


def floats(step: ArrayLike, *values: ArrayLike) -> list[Float[Array, "..."]]:
    """The step and other values in the dtype that the schedule's values have.

    It is float32, or float64 with x64 on; a float step (an interpolated one) keeps its own type.
    """
    dtype = jnp.promote_types(jnp.result_type(float), jnp.result_type(step))
    return [jnp.asarray(value, dtype) for value in (step, *values)]


def since(step: ArrayLike, begin: int) -> Array:
    """Steps that have passed since `begin`, 0 before it, counted in whole numbers."""
    return jnp.maximum(jnp.asarray(step) - begin, 0)


def check_boundaries(boundaries: Sequence[int]) -> None:
    """Refuse anything but a list of increasing steps that int32 holds."""
    _checks.check_sequence("boundaries", boundaries)
    for boundary in boundaries:
        _checks.check_count("boundaries", boundary, low=0)
        if boundary >= 2**31:
            raise ValueError(f"boundaries must be steps below 2**31, got {boundary}")
    if any(b <= a for a, b in itertools.pairwise(boundaries)):
        raise ValueError(f"boundaries must increase, got {list(boundaries)}")


def check_schedule(name: str, schedule: Schedule) -> None:
    """Refuse what is not callable."""
    if not callable(schedule):
        raise TypeError(f"{name} must be a function step -> value, got {schedule!r}")
