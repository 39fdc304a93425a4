"""What all schedules share: the dtype of their values, and checks of what they are made from."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdeep import _checks

Schedule: TypeAlias = Callable[[Any], Any]


def float_type(step: ArrayLike) -> Any:
    """float32, or float64 with x64 on; a float step (an interpolated one) keeps its own type."""
    return jnp.promote_types(jnp.result_type(float), jnp.result_type(step))


def check_boundaries(boundaries: Any) -> None:
    """Refuse anything but a list of steps that int32 holds."""
    _checks.check_sequence("boundaries", boundaries)
    for boundary in boundaries:
        _checks.check_count("boundaries", boundary, low=0)
        if boundary >= 2**31:
            raise ValueError(f"boundaries must be steps below 2**31, got {boundary}")


def check_schedule(name: str, schedule: Any) -> None:
    """Refuse what is not callable."""
    if not callable(schedule):
        raise TypeError(f"{name} must be a function step -> value, got {schedule!r}")
