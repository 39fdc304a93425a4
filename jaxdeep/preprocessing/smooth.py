"""A smooth bound on values: nearly the identity in the middle, and never beyond a limit."""

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._arrays import of_data
from jaxdeep._shapes import Array, ArrayLike
from jaxdeep.preprocessing.features import widened


@of_data
def smooth_clip(x: ArrayLike, limit: ArrayLike = 3.0) -> Array:
    """``y = x / √(1 + (x / limit)²)``: close to x in the middle, and between −limit and limit.

    Infinite values become the limit, NaN stay.

    Args:
      x: real numbers of any shape.
      limit: above 0, a number or a scalar array.

    Returns:
      An array like `x`, computed in at least float32.

    Raises:
      ValueError: a limit that is not above 0.
      TypeError: an `x` that is not of real numbers; a limit of another kind.

    Source: Holzmüller, Grinsztajn & Steinwart, "Better by default" (2024), RealMLP; skrub's
    `SquashingScaler`.

    >>> [round(y, 3) for y in smooth_clip(jnp.array([0.0, 4.0, jnp.inf])).tolist()]
    [0.0, 2.4, 3.0]
    """
    _checks.check_scalar("limit", limit, "(0, inf)")
    wide, dtype = widened(x)
    return _smooth_clip(wide, jnp.asarray(limit, wide.dtype)).astype(dtype)


@of_data
def inverse_smooth_clip(y: ArrayLike, limit: ArrayLike = 3.0) -> Array:
    """The x of which `smooth_clip` makes `y`: ``x = y / √(1 − (y / limit)²)``.

    Few digits are left of what is near the limit; the limit is infinite, and what is beyond it NaN.

    Args:
      y: real numbers of any shape.
      limit: as for `smooth_clip`.

    Raises:
      ValueError, TypeError: as `smooth_clip`.

    >>> inverse_smooth_clip(smooth_clip(jnp.array([0.0, 4.0]))).round(3).tolist()
    [0.0, 4.0]
    """
    _checks.check_scalar("limit", limit, "(0, inf)")
    wide, dtype = widened(y, "y")
    return _inverse_smooth_clip(wide, jnp.asarray(limit, wide.dtype)).astype(dtype)


@jax.jit
def _smooth_clip(x: Array, limit: Array) -> Array:
    t = x / limit
    far = jnp.abs(t) > 1  # where the square of t could leave the range
    near = x / jnp.sqrt(1 + jnp.square(jnp.where(far, 0, t)))
    beyond = jnp.sign(t) * limit / jnp.sqrt(1 + jnp.square(1 / jnp.where(far, t, 1)))
    return jnp.clip(jnp.where(far, beyond, near), -limit, limit)  # not by rounding beyond it


@jax.jit
def _inverse_smooth_clip(y: Array, limit: Array) -> Array:
    t = y / limit
    return y / jnp.sqrt((1 - t) * (1 + t))
