"""What all schedules share: the dtype of their values, and checks of what they are made from."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdeep import _checks

Schedule: TypeAlias = Callable[[Any], Any]


def step_of(step: ArrayLike) -> Any:
    """The step as an array: a float where the default whole numbers of JAX cannot hold it.

    >>> step_of(3), float(step_of(10**10))
    (Array(3, dtype=int32, weak_type=True), 10000000000.0)
    """
    if isinstance(step, jax.Array):
        return step
    array = np.asarray(step)
    if array.dtype.kind in "iu" and array.size:
        info = np.iinfo(jax.dtypes.canonicalize_dtype(array.dtype))
        if array.min() < info.min or array.max() > info.max:
            return jnp.asarray(array.astype(float))
    return jnp.asarray(step)


def since(step: Any, begin: int, dtype: Any) -> Any:
    """Steps since `begin`, 0 before it, as floats; JAX' whole numbers need not reach `begin`."""
    if jnp.issubdtype(step.dtype, jnp.integer) and begin > jnp.iinfo(step.dtype).max:
        return jnp.zeros(step.shape, dtype)
    return jnp.maximum(step - _number(step, begin), 0).astype(dtype)


def _number(step: Any, number: int) -> Any:
    return float(number) if jnp.issubdtype(step.dtype, jnp.floating) else number


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
