"""Constraints on the parameters after an update, and multipliers of the update, by `where`."""

import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import Array, Arrays
from jaxdeep.optimizers.clipping import root
from jaxdeep.optimizers.scalars import NOT_NEGATIVE, POSITIVE, Numeric, within
from jaxdeep.optimizers.transform import Rule, transformation
from jaxdeep.tree import Where


@transformation
def max_norm(
    max_norm: Numeric = 1.0,
    *,
    axis: int | tuple[int, ...] | None = 0,
    where: Where | None = None,
    eps: float = 0.0,
) -> Rule:
    """Keep the norm of incoming weights within a ball after the update: ``w ← w · min(1, r / ‖w‖)``.

    It projects the updated parameters ``θ + u``, so it belongs at the end of the chain; the new update
    is the projected parameters minus θ. Norms are over `axis`, one for each of the remaining
    indices: 0 is one norm a unit for a dense ``(in, out)`` kernel, ``(0, 1, 2)`` one a filter for a
    convolution ``(height, width, in, out)``, None one for the whole leaf.

    Keras' `MaxNorm` is ``eps=1e-7``, ``w · min(‖w‖, r) / (‖w‖ + ε)``, which shrinks a little inside the
    ball; `torch.renorm` is this. In bfloat16 the sum θ + u is rounded once more, so that a norm may be a
    few parts in a hundred above r.

    Args:
      max_norm: r > 0; a number, a schedule or a scalar array.
      axis: the axis or axes of the norm; None for all.
      where: the leaves it applies to, ``"hidden*/kernel"`` for example; all by default.
      eps: ε ≥ 0; a number or a scalar array.

    Raises:
      ValueError: r ≤ 0; at the update, parameters not passed, an `axis` that a leaf lacks, or a
        `where` that matches no leaf.

    Source: Srivastava et al., "Dropout" (JMLR 2014), section 5.1.

    >>> tx = max_norm(1.0)
    >>> kernel = jnp.array([[3.0, 0.1], [4.0, 0.2]])
    >>> updates, _ = tx.update(jnp.zeros((2, 2)), tx.init(kernel), kernel)
    >>> [[round(float(w), 4) for w in row] for row in kernel + updates]
    [[0.6, 0.1], [0.8, 0.2]]
    """
    _checks.check_hyperparameter("eps", eps, NOT_NEGATIVE)
    norm_axes = _check_axis(axis)

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        w = p + g
        axes = None if w.ndim == 0 else norm_axes  # a scalar is its own norm
        for a in axes or ():
            if not -w.ndim <= a < w.ndim:
                raise ValueError(f"max_norm: axis={norm_axes} is not one of a leaf of shape {w.shape}")
        size = root(jnp.sum(w * w, axis=axes, keepdims=True))
        untouched = (size <= s["max_norm"]) & (eps == 0)
        scale = jnp.minimum(size, s["max_norm"]) / jnp.where(untouched, 1, size + eps)
        return jnp.where(untouched, g, w * scale - p), {}

    hyperparams = within(POSITIVE, max_norm=max_norm)
    return Rule(hyperparams, update, where=where, needs_params="max_norm")


def _check_axis(axis: int | tuple[int, ...] | None) -> tuple[int, ...] | None:
    if axis is None:
        return None
    numbers = axis if isinstance(axis, (tuple, list)) else (axis,)
    if not all(map(_checks.is_whole, numbers)):
        raise TypeError(
            f"axis must be a whole number, a tuple of them or None, got {axis!r} (under "
            "optax.inject_hyperparams it is a static argument: static_args='axis')"
        )
    axes = tuple(int(a) for a in numbers)
    if not axes or len(set(axes)) < len(axes):
        raise ValueError(f"axis must name at least one axis, each once, got {axis!r}")
    return axes


@transformation
def multiply(factor: Numeric, *, where: Where | None = None) -> Rule:
    """Multiply the updates of some leaves: ``u ← factor · u``; others pass unchanged.

    At the end of a chain it is a learning-rate multiplier: 0.1 on pretrained layers, 0 to stop them.

    Args:
      factor: ≥ 0; a number, a schedule or a scalar array.
      where: the leaves, ``"block1/*"`` for example (`jaxdeep.tree.mask`); all by default.

    Raises:
      ValueError: a negative factor; at the update, a `where` that matches no leaf.

    Source: learning rates by layer, Howard & Ruder (arXiv:1801.06146), section 3.2; `optax.scale`.

    >>> import optax, jaxdeep as jd
    >>> tx = optax.chain(jd.optimizers.sgd(1.0), multiply(0.1, where="body"))
    >>> params = {"body": jnp.array(0.0), "head": jnp.array(0.0)}
    >>> updates, _ = tx.update({"body": 1.0, "head": 1.0}, tx.init(params), params)
    >>> round(float(updates["body"]), 6), float(updates["head"])
    (-0.1, -1.0)
    """

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        return g * s["factor"], {}

    return Rule(within(NOT_NEGATIVE, factor=factor), update, where=where)
