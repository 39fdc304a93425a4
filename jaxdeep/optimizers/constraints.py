"""Constraints on the parameters after an update, and multipliers of the update, by `where`."""

from collections.abc import Callable

import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import Array, Arrays
from jaxdeep.optimizers.clipping import root
from jaxdeep.optimizers.scalars import NOT_NEGATIVE, POSITIVE, SHARE, Numeric, within
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
      ValueError: r ≤ 0; at the update, parameters not passed, an `axis` that a leaf lacks or
        that is named twice, or a `where` that matches no leaf.

    Source: Srivastava et al., "Dropout" (JMLR 2014), section 5.1.

    >>> tx = max_norm(1.0)
    >>> kernel = jnp.array([[3.0, 0.1], [4.0, 0.2]])
    >>> updates, _ = tx.update(jnp.zeros((2, 2)), tx.init(kernel), kernel)
    >>> [[round(float(w), 4) for w in row] for row in kernel + updates]
    [[0.6, 0.1], [0.8, 0.2]]
    """
    project = _norms("max_norm", axis, eps, lambda size, s: jnp.minimum(size, s["max_norm"]))
    hyperparams = within(POSITIVE, max_norm=max_norm)
    return Rule(hyperparams, project, where=where, needs_params="max_norm")


@transformation
def unit_norm(
    *, axis: int | tuple[int, ...] | None = 0, where: Where | None = None, eps: float = 0.0
) -> Rule:
    """Give incoming weights the norm 1 after the update: ``w ← w / ‖w‖``. Weights of norm 0 stay 0.

    It belongs at the end of the chain, as `max_norm`, whose axes it has. Keras' `UnitNorm` is
    ``eps=1e-7``, ``w / (‖w‖ + ε)``.

    Args:
      axis: the axis or axes of the norm; None for all.
      where: the leaves it applies to, ``"hidden*/kernel"`` for example; all by default.
      eps: ε ≥ 0; a number or a scalar array.

    Raises:
      ValueError: a negative ε; at the update, parameters not passed, an `axis` that a leaf lacks or
        that is named twice, or a `where` that matches no leaf.

    Source: Keras' `UnitNorm`; the sphere of Salimans & Kingma (arXiv:1602.07868) without its scale.

    >>> tx = unit_norm()
    >>> kernel = jnp.array([[3.0, 0.3], [4.0, 0.4]])
    >>> updates, _ = tx.update(jnp.zeros((2, 2)), tx.init(kernel), kernel)
    >>> [[round(float(w), 4) for w in row] for row in kernel + updates]
    [[0.6, 0.6], [0.8, 0.8]]
    """
    project = _norms("unit_norm", axis, eps, lambda size, s: jnp.ones_like(size))
    return Rule({}, project, where=where, needs_params="unit_norm")


@transformation
def min_max_norm(
    min_norm: Numeric = 0.0,
    max_norm: Numeric = 1.0,
    *,
    rate: Numeric = 1.0,
    axis: int | tuple[int, ...] | None = 0,
    where: Where | None = None,
    eps: float = 0.0,
) -> Rule:
    """Move the norm of incoming weights into an interval: ``w ← w (1 − ρ + ρ clip(‖w‖, a, b) / ‖w‖)``.

    It belongs at the end of the chain, as `max_norm`, whose axes it has. Weights of norm 0 stay 0, as
    they point nowhere. Keras' `MinMaxNorm` is ``eps=1e-7``, which divides by ``‖w‖ + ε``.

    Args:
      min_norm: a ≥ 0; a number, a schedule or a scalar array.
      max_norm: b > 0, at least a; a number, a schedule or a scalar array.
      rate: ρ in [0, 1]: 1 puts the norm into the interval at every step, less draws it there.
      axis: the axis or axes of the norm; None for all.
      where: the leaves it applies to, ``"hidden*/kernel"`` for example; all by default.
      eps: ε ≥ 0; a number or a scalar array.

    Raises:
      ValueError: a number outside its interval, a > b; at the update, parameters not passed, an `axis`
        that a leaf lacks or that is named twice, or a `where` that matches no leaf.

    Source: Keras' `MinMaxNorm`.

    >>> tx = min_max_norm(1.0, 2.0)
    >>> kernel = jnp.array([[3.0, 0.3], [4.0, 0.4]])
    >>> updates, _ = tx.update(jnp.zeros((2, 2)), tx.init(kernel), kernel)
    >>> [[round(float(w), 4) for w in row] for row in kernel + updates]
    [[1.2, 0.6], [1.6, 0.8]]
    """
    _checks.check_hyperparameter("min_norm", min_norm, NOT_NEGATIVE, schedule=True)
    _checks.check_hyperparameter("max_norm", max_norm, POSITIVE, schedule=True)
    hyperparams = {
        **within(NOT_NEGATIVE, min_norm=min_norm),
        **within(POSITIVE, max_norm=max_norm),
        **within(SHARE, rate=rate),
    }
    low, high = map(_checks.known_value, (min_norm, max_norm))
    if low is not None and high is not None and low > high:
        raise ValueError(f"min_norm must be at most max_norm, {max_norm}, got {min_norm}")

    def wanted(size: Array, s: Arrays) -> Array:
        inside = jnp.clip(size, s["min_norm"], s["max_norm"])
        return jnp.where(inside == size, size, s["rate"] * inside + (1 - s["rate"]) * size)

    project = _norms("min_max_norm", axis, eps, wanted)
    return Rule(hyperparams, project, where=where, needs_params="min_max_norm")


@transformation
def non_negative(*, where: Where | None = None) -> Rule:
    """Keep parameters at or above 0 after the update: ``w ← max(w, 0)``.

    It belongs at the end of the chain, and projects the updated parameters ``θ + u``.

    Args:
      where: the leaves it applies to, ``"outputs/kernel"`` for example; all by default.

    Raises:
      ValueError: at the update, parameters not passed, or a `where` that matches no leaf.

    Source: Keras' `NonNeg`; `optax.keep_params_nonnegative`.

    >>> tx = non_negative()
    >>> updates, _ = tx.update(jnp.array([-3.0, 1.0]), tx.init(jnp.ones(2)), jnp.ones(2))
    >>> (jnp.ones(2) + updates).tolist()
    [0.0, 2.0]
    """

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        return jnp.where(p + g < 0, -p, g), {}

    return Rule({}, update, where=where, needs_params="non_negative")


def _norms(
    name: str,
    axis: int | tuple[int, ...] | None,
    eps: float,
    wanted: Callable[[Array, Arrays], Array],
) -> Callable[[Array, Arrays, Arrays, Array], tuple[Array, Arrays]]:
    """The update after which weights have the norms that `wanted` makes of theirs."""
    _checks.check_hyperparameter("eps", eps, NOT_NEGATIVE)
    norm_axes = _check_axis(axis)

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        w = p + g
        axes = None if w.ndim == 0 else norm_axes  # a scalar is its own norm
        for a in axes or ():
            if not -w.ndim <= a < w.ndim:
                raise ValueError(f"{name}: axis={norm_axes} is not one of a leaf of shape {w.shape}")
        if len({a % w.ndim for a in axes or ()}) < len(axes or ()):
            raise ValueError(
                f"{name}: axis={norm_axes} names an axis of a leaf of shape {w.shape} twice"
            )
        size = root(jnp.sum(w * w, axis=axes, keepdims=True))
        target, divisor = wanted(size, s), size + eps
        untouched = (target == size) & (eps == 0)
        scale = target / jnp.where(untouched | (divisor == 0), 1, divisor)
        return jnp.where(untouched, g, w * scale - p), {}

    return update


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
