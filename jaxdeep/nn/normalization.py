"""Batch normalisation."""

import operator
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep.nn.model import Model, chosen, float_dtype, need
from jaxdeep.tree import shapes


def batch_norm(
    *,
    momentum: float = 0.99,
    epsilon: float = 1e-5,
    axis: int | tuple[int, ...] = -1,
    use_scale: bool = True,
    use_bias: bool = True,
) -> Model:
    """Batch normalisation: ``y = scale · (x − mean) / √(var + epsilon) + bias``.

    With ``train=True`` mean and (biased) variance are those of the batch, over every axis but
    `axis`, and the running statistics move: ``running ← momentum · running + (1 − momentum) · batch``.
    Otherwise the running statistics are used and nothing moves, whether or not a key is given.

    Parameters: `scale` (ones), `bias` (zeros). State: `mean` (zeros), `var` (ones). All have the
    shape of the kept axes. Statistics are computed and kept in at least float32; the result has the
    input's dtype. The variance is computed in two passes, which does not lose small variances on
    large means (flax' default does).

    Args:
      momentum: share of the old running statistics that is kept, in [0, 1). As in flax and Keras;
        PyTorch's ``momentum`` is one minus this.
      epsilon: added to the variance, ≥ 0; flax' and PyTorch's 1e-5 (Keras: 1e-3).
      axis: the axis, or axes, kept: features in the last axis by default; ``(1, 2)`` normalises
        each pixel of an NHWC image on its own.
      use_scale, use_bias: False leaves the parameter out.

    Raises:
      ValueError: a momentum or epsilon out of range; an `axis` the input lacks or named twice; with
        ``train=True``, a batch without any rows.

    Source: Ioffe & Szegedy, "Batch Normalization" (arXiv:1502.03167).

    >>> import jax, jax.numpy as jnp
    >>> layer = batch_norm(momentum=0.9)
    >>> x = jnp.array([[1.0], [3.0]])
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> y, state = layer.apply(params, state, x, train=True)
    >>> y.round(3).tolist(), state["mean"].round(3).tolist()
    ([[-1.0], [1.0]], [0.20000000298023224])
    """
    _checks.check_scalar("momentum", momentum, "[0, 1)")
    _checks.check_scalar("epsilon", epsilon, "[0, inf)")
    try:
        kept = tuple(operator.index(a) for a in (axis if isinstance(axis, (tuple, list)) else (axis,)))
    except TypeError:
        raise TypeError(f"axis must be a whole number or a tuple of them, got {axis!r}") from None

    def axes(ndim: int) -> tuple[list[int], tuple[int, ...]]:
        if not all(-ndim <= a < ndim for a in kept) or len({a % ndim for a in kept}) < len(kept):
            raise ValueError(f"axis must name different axes of the input, which has {ndim}; got {axis}")
        keep = sorted(a % ndim for a in kept)
        return keep, tuple(a for a in range(ndim) if a not in keep)

    def init(key: jax.Array, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        x = shapes(x)
        keep, _ = axes(len(x.shape))
        shape = tuple(x.shape[a] for a in keep)
        dtype = float_dtype(x.dtype)
        params = {}
        if use_scale:
            params["scale"] = jnp.ones(shape, dtype)
        if use_bias:
            params["bias"] = jnp.zeros(shape, dtype)
        wide = jnp.promote_types(dtype, jnp.float32)
        return params, {"mean": jnp.zeros(shape, wide), "var": jnp.ones(shape, wide)}

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None
    ) -> tuple[Any, Any]:
        x = jnp.asarray(x)
        keep, reduced = axes(x.ndim)
        mean, var = need(state, "mean"), need(state, "var")
        if mean.shape != tuple(x.shape[a] for a in keep):
            raise ValueError(
                f"batch_norm was initialised for axes of {mean.shape}, got an input of shape "
                f"{x.shape} (axis={axis})"
            )
        dtype = float_dtype(x.dtype)
        wide = x.astype(jnp.promote_types(dtype, jnp.float32))
        if train:
            if x.size == 0:
                raise ValueError(
                    f"batch_norm has no rows to take statistics of: an input of shape {x.shape}"
                )
            mean = jnp.mean(wide, reduced)
            var = jnp.mean(jnp.square(wide - jnp.expand_dims(mean, reduced)), reduced)
            state = {
                name: (momentum * state[name] + (1 - momentum) * batch).astype(state[name].dtype)
                for name, batch in (("mean", mean), ("var", var))
            }
        factor = jax.lax.rsqrt(var + epsilon)
        if use_scale:
            factor = factor * need(params, "scale")
        y = (wide - jnp.expand_dims(mean, reduced)) * jnp.expand_dims(factor, reduced)
        if use_bias:
            y = y + jnp.expand_dims(need(params, "bias"), reduced)
        return y.astype(dtype), state

    config = chosen(
        momentum=(momentum, 0.99),
        epsilon=(epsilon, 1e-5),
        axis=(axis, -1),
        use_scale=(use_scale, True),
        use_bias=(use_bias, True),
    )
    return Model(init, apply, "batch_norm", config, stochastic=False)
