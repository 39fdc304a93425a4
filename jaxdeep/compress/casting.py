"""Half precision for inference, and what parameters weigh."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves
from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.nn.fits import check_fit
from jaxdeep.nn.model import Model, check_models
from jaxdeep.nn.precision import mixed_precision
from jaxdeep.tree import leaf_paths


def cast(
    model: Model, params: PyTree, state: PyTree, dtype: DTypeLike = jnp.bfloat16
) -> tuple[Model, PyTree, PyTree]:
    """The model with parameters kept, and computing, in another floating-point dtype.

    The model is `jaxdeep.nn.mixed_precision` of the given one, so inputs are rounded to `dtype` on the
    way in and outputs come back in the inputs' dtype; batch-norm statistics stay in float32, and what is
    not floating-point (int8 weights) stays too. To train in half precision keep the parameters in
    float32 and use `mixed_precision` alone.

    Args:
      model, params, state: any `Model` with its parameters and state.
      dtype: bfloat16 (the range of float32, 3 decimal digits), float16 (4 digits, up to 65504), or
        another floating-point dtype.

    Returns:
      The model, parameters and state.

    Raises:
      ValueError: finite parameters that are not in `dtype`, naming the leaf; ones that are not
        of the model.
      TypeError: not a `Model`, not a floating-point dtype.

    Source: `torch.nn.Module.to`, for inference; NVIDIA's mixed precision (arXiv:1710.03740).

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = jd.nn.dense(2)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> half, hparams, hstate = cast(model, params, state, jnp.bfloat16)
    >>> hparams["kernel"].dtype, half.apply(hparams, hstate, jnp.ones((1, 3)))[0].dtype
    (dtype(bfloat16), dtype('float32'))
    """
    check_models("cast", {"model": model})
    _checks.check_float_dtype("dtype", dtype, optional=False)
    check_fit(model, params, state)
    dtype = jnp.dtype(dtype)

    def low(leaf: ArrayLike) -> jax.Array:
        array = jnp.asarray(leaf)
        return array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array

    new = jax.tree.map(low, params)
    for path, before, after in zip(leaf_paths(params), jax.tree.leaves(params), jax.tree.leaves(new)):
        known = not isinstance(before, jax.core.Tracer) and not isinstance(after, jax.core.Tracer)
        if known and bool(np.any(np.isinf(after) & ~np.isinf(before))):
            largest = float(np.max(np.abs(np.asarray(before, np.float64))))
            raise ValueError(
                f"{path} has values up to {largest:.3g}, and {dtype.name} ends at "
                f"{float(jnp.finfo(dtype).max):.3g}; bfloat16 has the range of float32"
            )
    inside = model if model.traits.compute_dtype is None else model.layers[""]
    return mixed_precision(inside, dtype), new, state


def size_bytes(*trees: PyTree) -> int:
    """Bytes that the arrays of parameters and state take.

    Args:
      trees: pytrees of arrays, or of their `jax.ShapeDtypeStruct`.

    Source: the sum of ``nbytes`` of `jax.Array`.

    >>> size_bytes({"kernel": jnp.ones((3, 2))}, {})
    24
    """
    for i, tree in enumerate(trees):
        check_leaves(f"trees[{i}]", tree, real=False)
    leaves = jax.tree.leaves(trees)
    return sum(int(np.prod(np.shape(leaf))) * jnp.result_type(leaf).itemsize for leaf in leaves)
