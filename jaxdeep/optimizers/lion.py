"""Lion: steps of one size, in the direction of the sign of the momentum."""

import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxdeep import _checks
from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, Arrays
from jaxdeep.optimizers.decay import decay_rule
from jaxdeep.optimizers.descent import descend
from jaxdeep.optimizers.moments import moving_average
from jaxdeep.optimizers.scalars import DECAY, Numeric, within
from jaxdeep.optimizers.transform import Rule, Transform, slot, transform, transformation
from jaxdeep.tree import Where


@remembered
def lion(
    learning_rate: Numeric,
    *,
    b1: Numeric = 0.9,
    b2: Numeric = 0.99,
    mu_dtype: DTypeLike | None = None,
    weight_decay: Numeric = 1e-3,
    where: Where | None = None,
) -> Transform:
    """Lion: the sign of a momentum, with decoupled weight decay.

    ::

        u = sign(β₁ m + (1 − β₁) g);    m ← β₂ m + (1 − β₂) g;    θ ← θ − η (u + λ θ)

    Equation and defaults are those of `optax.lion`. Every element moves by η at each step, which is
    more than Adam moves most of them: the paper takes a learning rate 3 to 10 times smaller than AdamW's
    and a weight decay as many times larger. Lion keeps one accumulator where Adam keeps two.

    Args:
      learning_rate: η ≥ 0; a number, a schedule or a scalar array. No default.
      b1: β₁ in [0, 1), the share of the momentum in a step, likewise.
      b2: β₂ in [0, 1), the decay rate of the momentum, likewise.
      mu_dtype: dtype of m; at least float32 by default.
      weight_decay: λ ≥ 0; a number, a schedule or a scalar array.
      where: the leaves to decay, ``"*/kernel"`` for example (`jaxdeep.tree.mask`); all by default.

    Raises:
      ValueError: a value out of range; at the update, parameters not passed or a `where` that matches no
        leaf.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms" (arXiv:2302.06675), algorithm 2;
    semantics of optax 0.2.

    >>> tx = lion(0.1, weight_decay=0.0)
    >>> updates, _ = tx.update(jnp.array([1e-3, -8.0]), tx.init(jnp.zeros(2)), jnp.zeros(2))
    >>> [round(float(u), 4) for u in updates]
    [-0.1, 0.1]
    """
    direction = scale_by_lion.rule(b1=b1, b2=b2, mu_dtype=mu_dtype)
    return transform(direction, decay_rule(weight_decay, where), descend(learning_rate))


@transformation
def scale_by_lion(*, b1: Numeric = 0.9, b2: Numeric = 0.99, mu_dtype: DTypeLike | None = None) -> Rule:
    """`lion` without its learning rate and decay: ``u = sign(β₁ m + (1 − β₁) g)``.

    Args:
      b1, b2, mu_dtype: as for `lion`.

    Raises:
      ValueError: a value out of range.

    Source: as `lion`; `optax.scale_by_lion`.

    >>> tx = scale_by_lion()
    >>> float(tx.update(jnp.array(-4.0), tx.init(jnp.array(0.0)))[0])
    -1.0
    """
    _checks.check_float_dtype("mu_dtype", mu_dtype)

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        direction = jnp.sign(moving_average(slots["mu"], g, s["1-b1"]))
        return direction, {"mu": moving_average(slots["mu"], g, s["1-b2"])}

    return Rule(within(DECAY, b1=b1, b2=b2), update, {"mu": slot(dtype=mu_dtype)})
