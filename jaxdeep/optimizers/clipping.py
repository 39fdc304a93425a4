"""Clipping of gradients, in front of the optimizer."""

import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import Array, Arrays
from jaxdeep.optimizers.scalars import NOT_NEGATIVE, POSITIVE, Numeric, within
from jaxdeep.optimizers.transform import Rule, transformation


@transformation
def clip_by_value(max_delta: Numeric) -> Rule:
    """Clip every element: ``g ← clip(g, −v, v)``. It may turn the gradient's direction.

    Keras' ``clipvalue``, `optax.clip`, PyTorch's `clip_grad_value_`. A NaN passes through.

    Args:
      max_delta: v > 0; a number, a schedule or a scalar array.

    Raises:
      ValueError: v ≤ 0.

    Source: `optax.clip`.

    >>> tx = clip_by_value(1.0)
    >>> updates, _ = tx.update(jnp.array([0.9, 100.0]), tx.init(jnp.zeros(2)))
    >>> [round(float(u), 4) for u in updates]
    [0.9, 1.0]
    """

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        return jnp.clip(g, -s["max_delta"], s["max_delta"]), {}

    return Rule(within(POSITIVE, max_delta=max_delta), update)


@transformation
def clip_by_norm(max_norm: Numeric) -> Rule:
    """Clip the norm of every leaf on its own: ``g ← g · c / max(‖g‖, c)``, which keeps its direction.

    Keras' ``clipnorm``; PyTorch's `clip_grad_norm_` called for each tensor; not in optax. A NaN or an
    infinity spreads over its leaf; a norm whose square overflows (1.8e19 in float32) counts as
    infinite, and the update is 0.

    Args:
      max_norm: c > 0; a number, a schedule or a scalar array.

    Raises:
      ValueError: c ≤ 0.

    Source: Pascanu, Mikolov & Bengio (arXiv:1211.5063), for one leaf; semantics of Keras.

    >>> tx = clip_by_norm(1.0)
    >>> updates, _ = tx.update(jnp.array([0.9, 100.0]), tx.init(jnp.zeros(2)))
    >>> [round(float(u), 7) for u in updates]
    [0.0089996, 0.9999595]
    """

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        return g * _factor(root(jnp.sum(g * g)), s["max_norm"]), {}

    return Rule(within(POSITIVE, max_norm=max_norm), update)


@transformation
def clip_by_global_norm(max_norm: Numeric, *, eps: float = 0.0) -> Rule:
    """Clip the norm of all leaves together: ``g ← g · min(1, c / (G + ε))``, G their norm.

    Keras' ``global_clipnorm``, `optax.clip_by_global_norm`; PyTorch's `clip_grad_norm_` is
    ``eps=1e-6``. The norm is summed in at least float32; one whose square overflows counts as infinite,
    and the updates are 0, as in optax. A NaN spreads over the whole tree; see `skip_nonfinite`.

    Args:
      max_norm: c > 0; a number, a schedule or a scalar array.
      eps: ε ≥ 0; a number or a scalar array.

    Raises:
      ValueError: c ≤ 0 or ε < 0.

    Source: Pascanu, Mikolov & Bengio (arXiv:1211.5063).

    >>> tx = clip_by_global_norm(1.0)
    >>> updates, _ = tx.update({"a": jnp.array(3.0), "b": jnp.array(4.0)}, tx.init({"a": 0.0, "b": 0.0}))
    >>> round(float(updates["a"]), 6), round(float(updates["b"]), 6)
    (0.6, 0.8)
    """
    _checks.check_hyperparameter("eps", eps, NOT_NEGATIVE)

    def reduce(leaves: list[Array], s: Arrays) -> Arrays:
        wide = (leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in leaves)
        squares = [jnp.sum(leaf * leaf) for leaf in wide]
        norm = root(jnp.sum(jnp.stack(squares)) if squares else jnp.zeros(()))
        return {"clip": _factor(norm + eps, s["max_norm"])}

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        return g * s["clip"], {}

    return Rule(within(POSITIVE, max_norm=max_norm), update, reduce=reduce)


def _factor(norm: Array, limit: Array) -> Array:
    """``min(1, limit / norm)``, exactly 1 up to the limit.

    Its last operation is a division, which XLA does not repeat for every leaf that uses it.
    """
    return limit / jnp.maximum(norm, limit)


def root(x: Array) -> Array:
    """The square root, with a finite derivative at 0."""
    return jnp.sqrt(jnp.maximum(x, jnp.finfo(jnp.result_type(x)).tiny))
