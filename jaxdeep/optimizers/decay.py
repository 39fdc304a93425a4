"""Decay of weights, and penalties on them in the gradient."""

from collections.abc import Callable

import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, Arrays
from jaxdeep.optimizers.scalars import NOT_NEGATIVE, Numeric, within
from jaxdeep.optimizers.transform import Rule, Transform, rule_factory, transform, transformation
from jaxdeep.tree import Where


@rule_factory
def decay_rule(weight_decay: Numeric, where: Where | None, sign: int = 1) -> Rule:
    """``u ← u ± weight_decay · θ`` on the selected leaves."""
    return _penalty("weight_decay", weight_decay, where, "weight decay", lambda p: sign * p)


@remembered
def add_decayed_weights(weight_decay: Numeric, *, where: Where | None = None) -> Transform:
    """Decoupled weight decay: ``u ← u + λ θ``, in front of the learning rate.

    After it, a step by ``−η u`` shrinks θ by the factor 1 − ηλ. `optax.add_decayed_weights`, with the
    leaves chosen by `where`.

    Args:
      weight_decay: λ ≥ 0; a number, a schedule or a scalar array.
      where: the leaves to decay, ``"*/kernel"`` for example (`jaxdeep.tree.mask`); all by default.

    Raises:
      ValueError: λ < 0; at the update, parameters not passed or a `where` that matches no leaf.

    Source: Loshchilov & Hutter (arXiv:1711.05101).

    >>> tx = add_decayed_weights(0.1, where="kernel")
    >>> params = {"kernel": jnp.array(2.0), "bias": jnp.array(2.0)}
    >>> updates, _ = tx.update({"kernel": 1.0, "bias": 1.0}, tx.init(params), params)
    >>> round(float(updates["kernel"]), 6), float(updates["bias"])
    (1.2, 1.0)
    """
    return transform(decay_rule(weight_decay, where))


@transformation
def add_l2_penalty(l2: Numeric, *, where: Where | None = None, half: bool = False) -> Rule:
    """The gradient of ``l2 · Σ θ²``: ``g ← g + 2 · l2 · θ`` (without the 2 if `half`).

    In front of an optimizer it has the effect of a penalty in the loss. Keras' regulariser has no ½
    either, and the ``weight_decay`` of PyTorch's SGD and Adam is this with ``half=True``. The loss that
    is reported does not include the penalty; `jaxdeep.regularizers.l2` adds it to the loss, with the
    same gradient.

    Args:
      l2: the factor, ≥ 0; a number, a schedule or a scalar array.
      where: the leaves it applies to; all by default.
      half: for ``½ · l2 · Σ θ²``.

    Raises:
      ValueError: as `add_decayed_weights`.

    Source: Krogh & Hertz (NIPS 1991); ridge regression.

    >>> tx = add_l2_penalty(0.1)
    >>> round(float(tx.update(jnp.array(1.0), tx.init(jnp.array(2.0)), jnp.array(2.0))[0]), 6)
    1.4
    """
    _checks.check_flag("half", half)
    factor = 1.0 if half else 2.0
    return _penalty("l2", l2, where, "an l2 penalty", lambda p: factor * p)


@transformation
def add_l1_penalty(l1: Numeric, *, where: Where | None = None) -> Rule:
    """The gradient of ``l1 · Σ |θ|``: ``g ← g + l1 · sign(θ)``.

    Args:
      l1: the factor, ≥ 0; a number, a schedule or a scalar array.
      where: the leaves it applies to; all by default.

    Raises:
      ValueError: as `add_decayed_weights`.

    Source: Tibshirani, the lasso (1996); sign(0) is 0, as in PyTorch.

    >>> tx = add_l1_penalty(0.5)
    >>> float(tx.update(jnp.array(1.0), tx.init(jnp.array(-2.0)), jnp.array(-2.0))[0])
    0.5
    """
    return _penalty("l1", l1, where, "an l1 penalty", jnp.sign)


def _penalty(
    name: str, value: Numeric, where: Where | None, label: str, gradient: Callable[[Array], Array]
) -> Rule:
    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        return g + s[name] * gradient(p), {}

    return Rule(within(NOT_NEGATIVE, **{name: value}), update, where=where, needs_params=label)
