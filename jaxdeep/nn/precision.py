"""Computing in a lower precision than parameters and statistics are kept in."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves, leaves_of
from jaxdeep._shapes import Array, PyTree
from jaxdeep.nn.layer import Layer, layer
from jaxdeep.nn.model import Model, Pair, Switches
from jaxdeep.nn.traits import Traits
from jaxdeep.tree import as_arrays_or_shapes


@layer
def mixed_precision(model: Model, compute_dtype: DTypeLike = jnp.bfloat16) -> Layer:
    """The same model computing in a lower precision: parameters and statistics stay in float32.

    Floating-point parameters and inputs are rounded to `compute_dtype` on the way in, the outputs are
    cast back to the dtype of the inputs; gradients arrive in the parameters' dtype. Batch-norm
    statistics are taken and kept in float32. Parameters and state have the structure of `model`'s, and
    begin in float32 if the inputs are narrower, whose dtype they take without it; float64 stays.

    Args:
      model: any `Model`.
      compute_dtype: a floating-point dtype. In bfloat16 nothing else is needed. In float16 gradients
        that are below 6e-8 where they are computed become 0, and nothing scales the loss on its own:
        train with the loss times 1024, say, and ``optax.scale(1 / 1024)`` first in the optimizer's
        chain. Numbers above 65504 are not finite: gradients of `jax.nn.gelu` become NaN above 148;
        those of `jaxdeep.nn.activations.gelu` do not.

    Raises:
      TypeError: not a `Model`, not a floating-point dtype.

    Source: Micikevicius et al., "Mixed Precision Training" (arXiv:1710.03740), with bfloat16.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = mixed_precision(jd.nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> params["kernel"].dtype, model.apply(params, state, jnp.ones((1, 3)))[0].dtype
    (dtype('float32'), dtype('float32'))
    """
    _checks.check_float_dtype("compute_dtype", compute_dtype, optional=False)
    compute_dtype = jnp.dtype(compute_dtype)

    def apply(params: PyTree, state: PyTree, x: PyTree, switches: Switches) -> Pair:
        params, x = leaves_of("params", params), as_arrays_or_shapes(x, "x")
        for argument, tree in (("params", params), ("x", x)):
            check_leaves(argument, tree, real=False)
        dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(x)]
        back = next((d for d in dtypes if jnp.issubdtype(d, jnp.floating)), jnp.result_type(float))
        low_params, low_x = _cast(params, compute_dtype), _cast(x, compute_dtype)
        y, state = model.apply(low_params, state, low_x, **switches)
        return _cast(y, back), state

    def init(key: Array, x: PyTree) -> Pair:
        return model.init(key, _wide(x))

    return Layer(
        apply,
        init,
        traits=Traits(joins="chain", compute_dtype=compute_dtype),
        layers={"": model},
        arguments={"compute_dtype": compute_dtype.name},
    )


def _wide(x: PyTree) -> PyTree:
    """Inputs, or their shapes, in float32 where they are narrower, as parameters take their dtype."""

    def wide(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.floating) or jnp.finfo(leaf.dtype).bits >= 32:
            return leaf
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(leaf.shape, jnp.float32)
        return leaf.astype(jnp.float32)

    return jax.tree.map(wide, as_arrays_or_shapes(x, "x"))


def _cast(tree: PyTree, dtype: DTypeLike) -> PyTree:
    def cast(leaf: Array) -> Array:
        fits = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jnp.asarray(leaf).astype(dtype) if fits else leaf

    return jax.tree.map(cast, tree)
