"""What an optimizer's state takes."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._arrays import check_leaves
from jaxdeep._shapes import PyTree


def bytes_per_param(opt_state: PyTree, params: PyTree) -> float:
    """Bytes of the optimizer's state and of the parameters together, a parameter.

    Args:
      opt_state: the state of any optax optimizer, or its `jax.ShapeDtypeStruct` from
        ``jax.eval_shape(tx.init, params)``, which takes no memory.
      params: the parameters, or theirs.

    Raises:
      ValueError: no parameters.
      TypeError: a leaf that is no array.

    >>> import jaxdeep as jd
    >>> params = jax.ShapeDtypeStruct((1000, 1000), "float32")
    >>> round(bytes_per_param(jax.eval_shape(jd.optimizers.adamw(1e-3).init, params), params), 2)
    12.0
    """
    if opt_state is None:
        raise TypeError("opt_state must be what an optimizer's init returned, got None")
    check_leaves("opt_state", opt_state, real=False)
    check_leaves("params", params)
    count = sum(_size(leaf) for leaf in jax.tree.leaves(params))
    if not count:
        raise ValueError("params must have elements, got none")
    return sum(map(_bytes, jax.tree.leaves((opt_state, params)))) / count


def _size(leaf: Any) -> int:
    return math.prod(np.shape(leaf))


def _bytes(leaf: Any) -> int:
    if jax.dtypes.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return _size(leaf) * jnp.result_type(leaf).itemsize
