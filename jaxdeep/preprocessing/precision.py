"""What is computed in float64 on the host though JAX' default float is float32."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._compat import enable_x64
from jaxdeep._shapes import ArrayLike
from jaxdeep.preprocessing.statistics import Moments


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
