"""Outputs and targets of one shape, and their differences with all the digits that they have."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, floating
from jaxdeep._precision import HostOrDevice, check_holds, differences, in_two, is_cut
from jaxdeep._shapes import ArrayLike


def errors_of(uncut: HostOrDevice, outputs: jax.Array, targets: HostOrDevice) -> jax.Array:
    """``outputs − targets`` in at least float32, of the outputs as they were given."""
    wide = jnp.promote_types(outputs.dtype, jnp.float32)
    uncut = uncut.reshape(outputs.shape)
    if isinstance(uncut, np.ndarray) and isinstance(targets, np.ndarray):
        cut = is_cut(uncut, wide) or is_cut(targets, wide)
        if cut:
            apart = differences(uncut, targets)
            check_holds("outputs - targets", apart)
            return jnp.asarray(apart.astype(wide))
    on_device = isinstance(uncut, jax.Array) and isinstance(targets, jax.Array)
    if on_device and jnp.issubdtype(uncut.dtype, jnp.floating):
        return outputs.astype(wide) - targets.astype(wide)
    (high, low), (of_target, low_of_target) = in_two(uncut, wide), in_two(targets, wide)
    errors = high - of_target
    if low is not None:
        errors = errors + low if low_of_target is None else errors + (low - low_of_target)
    elif low_of_target is not None:
        errors = errors - low_of_target
    return errors


def pair(name: str, outputs: ArrayLike, targets: ArrayLike) -> tuple[jax.Array, HostOrDevice]:
    """Outputs and what they are compared with, of one shape."""
    outputs, targets = floating("outputs", outputs), as_array(name, targets)
    check_holds(name, targets)
    if targets.shape != outputs.shape:
        if not _checks.same_but_for_one(targets.shape, outputs.shape):
            raise ValueError(
                f"{name} must have the shape of the outputs, {outputs.shape}, got {targets.shape}"
            )
        targets = targets.reshape(outputs.shape)
    return outputs, targets
