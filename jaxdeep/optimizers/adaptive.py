"""Optimizers that scale each parameter's step by what its gradients have been.

Each is the rule of a ``scale_by_…`` of `jaxdeep.optimizers.moments`, followed by the learning rate.
"""

from jax.typing import DTypeLike

from jaxdeep import _checks
from jaxdeep._calls import remembered
from jaxdeep.optimizers.decay import decay_rule
from jaxdeep.optimizers.descent import descend, scale_by_momentum
from jaxdeep.optimizers.moments import (
    scale_by_adagrad,
    scale_by_adam,
    scale_by_adamax,
    scale_by_nadam,
    scale_by_rms,
)
from jaxdeep.optimizers.scalars import Numeric
from jaxdeep.optimizers.transform import Rule, Transform, transform
from jaxdeep.tree import Where


@remembered
def adagrad(
    learning_rate: Numeric,
    *,
    initial_accumulator_value: float = 0.1,
    eps: Numeric = 1e-7,
    eps_in_sqrt: bool = True,
) -> Transform:
    """AdaGrad: each parameter's rate falls with the sum of its squared gradients.

    ::

        s ← s + g²;    θ ← θ − η g / √(s + ε)        (or / (√s + ε))

    Equation and defaults are those of `optax.adagrad` and Keras (η 1e-3 there). The textbook's is
    ``initial_accumulator_value=0, eps=1e-10``, PyTorch's that with ``eps_in_sqrt=False``.

    Args:
      learning_rate: η ≥ 0; a number, a schedule or a scalar array. No default.
      initial_accumulator_value: s at the start, ≥ 0.
      eps: ε ≥ 0, likewise a number, a schedule or an array.
      eps_in_sqrt: whether ε is inside the root.

    Raises:
      ValueError: a value out of range.

    Source: Duchi, Hazan & Singer (JMLR 2011); semantics of optax 0.2.

    >>> import jax.numpy as jnp
    >>> tx = adagrad(0.1, initial_accumulator_value=0.0)
    >>> updates, _ = tx.update(jnp.array([1.0, -8.0]), tx.init(jnp.zeros(2)))
    >>> [round(float(u), 4) for u in updates]
    [-0.1, 0.1]
    """
    scaled = scale_by_adagrad.rule(
        initial_accumulator_value=initial_accumulator_value, eps=eps, eps_in_sqrt=eps_in_sqrt
    )
    return transform(scaled, descend(learning_rate))


@remembered
def rmsprop(
    learning_rate: Numeric,
    *,
    decay: Numeric = 0.9,
    eps: Numeric = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Numeric | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
    lr_in_trace: bool = True,
) -> Transform:
    """RMSProp: the gradient over the root of the moving average of its squares.

    ::

        s ← ρ s + (1 − ρ) g²;    u = g / √(s + ε)     (or / (√s + ε); centred: s − ḡ² for s)
        θ ← θ − η u
        with momentum            b ← β b + η u;    θ ← θ − b
        … and not lr_in_trace    b ← β b + u;      θ ← θ − η b

    Equation and defaults are those of `optax.rmsprop`; Keras' has ε 1e-7, PyTorch's is
    ``decay=0.99, eps_in_sqrt=False, lr_in_trace=False``. Note that the rate is inside the trace here
    and outside in `sgd`, as in optax.

    Args:
      learning_rate: η ≥ 0; a number, a schedule or a scalar array. No default.
      decay: ρ in [0, 1), likewise.
      eps: ε ≥ 0, likewise.
      initial_scale: s at the start, ≥ 0.
      eps_in_sqrt: whether ε is inside the root.
      centered: divide by the root of the variance s − ḡ² instead, ḡ the moving average of the gradients.
        The state's `nu` is then this variance, not s, which loses no digits where gradients hardly vary.
      momentum: β in [0, 1), likewise; None keeps no trace.
      nesterov: use the reformulated look-ahead; needs `momentum`.
      bias_correction: divide the averages by 1 − ρᵗ. Centred, with a schedule for ρ, gradient t enters
        with (1 − ρₜ) / (1 − ρₜᵗ), so that all weights sum to 1; those of optax do not.
      lr_in_trace: whether the trace accumulates η u or u.

    Raises:
      ValueError: a value out of range, `nesterov` without momentum.

    Source: Tieleman & Hinton (2012), lecture 6.5; Graves (arXiv:1308.0850) for the centred form;
    semantics of optax 0.2.

    >>> import jax.numpy as jnp
    >>> tx = rmsprop(0.1, decay=0.75)
    >>> updates, _ = tx.update(jnp.array([1.0, -8.0]), tx.init(jnp.zeros(2)))
    >>> [round(float(u), 4) for u in updates]  # g / √(g² / 4) = ±2
    [-0.2, 0.2]
    """
    _checks.check_flags(nesterov=nesterov, lr_in_trace=lr_in_trace)
    if momentum is None and nesterov:
        raise ValueError("nesterov needs a momentum, got momentum=None")
    scaled = scale_by_rms.rule(
        decay=decay,
        eps=eps,
        initial_scale=initial_scale,
        eps_in_sqrt=eps_in_sqrt,
        centered=centered,
        bias_correction=bias_correction,
    )
    step = descend(learning_rate)
    if momentum is None:
        return transform(scaled, step)
    velocity = scale_by_momentum.rule(momentum, nesterov=nesterov)
    return transform(scaled, step, velocity) if lr_in_trace else transform(scaled, velocity, step)


@remembered
def adam(
    learning_rate: Numeric,
    *,
    b1: Numeric = 0.9,
    b2: Numeric = 0.999,
    eps: Numeric = 1e-8,
    eps_root: Numeric = 0.0,
    eps_mode: str = "corrected",
    mu_dtype: DTypeLike | None = None,
) -> Transform:
    """Adam: momentum divided by RMSProp's root, each corrected for its start at zero.

    ::

        m ← β₁ m + (1 − β₁) g;    m̂ = m / (1 − β₁ᵗ)
        v ← β₂ v + (1 − β₂) g²;   v̂ = v / (1 − β₂ᵗ)
        θ ← θ − η m̂ / (√(v̂ + ε_root) + ε)

    The equation and defaults are those of `optax.adam`; PyTorch's Adam is the same with
    ε_root = 0. ``eps_mode="uncorrected"`` adds ε to √v instead of √v̂, as Keras does (default 1e-7
    there), and ``eps=0, eps_root=ε`` puts ε inside the root. In float32 the corrections are computed
    from 1 − β rather than β and are about a hundred times closer to exact arithmetic than optax'.

    Args:
      learning_rate: η ≥ 0; a number, a schedule or a scalar array. No default.
      b1, b2: β₁ and β₂ in [0, 1), likewise.
      eps, eps_root: ε, ε_root ≥ 0, likewise.
      eps_mode: "corrected" or "uncorrected".
      mu_dtype: dtype of m; at least float32 by default, as v always is.

    Raises:
      ValueError: a value out of range, an unknown `eps_mode`.

    Source: Kingma & Ba, "Adam" (arXiv:1412.6980), algorithm 1; semantics of optax 0.2.

    >>> import jax, jax.numpy as jnp, optax
    >>> optimizer = adam(0.1)
    >>> x = jnp.array([1.0, -2.0]); state = optimizer.init(x)
    >>> for _ in range(300):
    ...     updates, state = optimizer.update(jax.grad(lambda x: (x**2).sum())(x), state, x)
    ...     x = optax.apply_updates(x, updates)
    >>> bool(abs(x).max() < 1e-3)
    True
    """
    rule = scale_by_adam.rule(
        b1=b1, b2=b2, eps=eps, eps_root=eps_root, eps_mode=eps_mode, mu_dtype=mu_dtype
    )
    return transform(rule, descend(learning_rate))


@remembered
def adamw(
    learning_rate: Numeric,
    *,
    b1: Numeric = 0.9,
    b2: Numeric = 0.999,
    eps: Numeric = 1e-8,
    eps_root: Numeric = 0.0,
    eps_mode: str = "corrected",
    mu_dtype: DTypeLike | None = None,
    weight_decay: Numeric = 1e-4,
    where: Where | None = None,
    couple_lr: bool = True,
) -> Transform:
    """Adam with decoupled weight decay.

    ::

        θ ← θ − η (m̂ / (√(v̂ + ε_root) + ε) + λ θ)
        not couple_lr    θ ← (1 − λ) θ − η m̂ / (√(v̂ + ε_root) + ε)

    The equation and defaults are those of `optax.adamw`; PyTorch's default λ is 1e-2, Keras' 4e-3.
    Coupled, the decay follows the learning rate and its schedule; uncoupled it is the textbook's
    "multiply the weights by a factor such as 0.99".

    Args:
      learning_rate, b1, b2, eps, eps_root, eps_mode, mu_dtype: as for `adam`.
      weight_decay: λ ≥ 0; a number, a schedule or a scalar array.
      where: the leaves to decay, ``"*/kernel"`` for example (`jaxdeep.tree.mask`); all by default.
      couple_lr: whether the decay is multiplied by η.

    Raises:
      ValueError: a value out of range; at the update, parameters not passed or a `where` that
        matches no leaf.

    Source: Loshchilov & Hutter (arXiv:1711.05101), algorithm 2; semantics of optax 0.2.

    >>> import jax.numpy as jnp
    >>> tx = adamw(0.1, weight_decay=0.5)
    >>> x = jnp.array(2.0)
    >>> round(float(tx.update(jnp.array(0.0), tx.init(x), x)[0]), 4)  # −0.1 · 0.5 · 2
    -0.1
    """
    rule = scale_by_adam.rule(
        b1=b1, b2=b2, eps=eps, eps_root=eps_root, eps_mode=eps_mode, mu_dtype=mu_dtype
    )
    return _decayed(rule, learning_rate, weight_decay, where, couple_lr)


@remembered
def adamax(
    learning_rate: Numeric,
    *,
    b1: Numeric = 0.9,
    b2: Numeric = 0.999,
    eps: Numeric = 1e-8,
    eps_mode: str = "max",
    mu_dtype: DTypeLike | None = None,
) -> Transform:
    """AdaMax: Adam with the largest of the decayed gradients in place of the root.

    ::

        m ← β₁ m + (1 − β₁) g;    u ← max(β₂ u, |g| + ε);    θ ← θ − η / (1 − β₁ᵗ) · m / u
        eps_mode="denominator"    u ← max(β₂ u, |g|);        θ ← θ − η / (1 − β₁ᵗ) · m / (u + ε)

    The first is `optax.adamax` and PyTorch's (η 2e-3 there), the second Keras' (ε 1e-7). With ε = 0,
    the paper's, a parameter whose gradient has always been 0 stays where it is.

    Args:
      learning_rate: η ≥ 0; a number, a schedule or a scalar array. No default.
      b1, b2: β₁ and β₂ in [0, 1), likewise.
      eps: ε ≥ 0, likewise.
      eps_mode: "max" or "denominator".
      mu_dtype: dtype of m; at least float32 by default.

    Raises:
      ValueError: a value out of range, an unknown `eps_mode`.

    Source: Kingma & Ba, "Adam" (arXiv:1412.6980), algorithm 2; semantics of optax 0.2.

    >>> import jax.numpy as jnp
    >>> tx = adamax(0.1)
    >>> updates, _ = tx.update(jnp.array([1.0, -8.0]), tx.init(jnp.zeros(2)))
    >>> [round(float(u), 4) for u in updates]
    [-0.1, 0.1]
    """
    rule = scale_by_adamax.rule(b1=b1, b2=b2, eps=eps, eps_mode=eps_mode, mu_dtype=mu_dtype)
    return transform(rule, descend(learning_rate))


@remembered
def nadam(
    learning_rate: Numeric,
    *,
    b1: Numeric = 0.9,
    b2: Numeric = 0.999,
    eps: Numeric = 1e-8,
    eps_root: Numeric = 0.0,
    momentum_decay: Numeric | None = None,
    mu_dtype: DTypeLike | None = None,
) -> Transform:
    """Nadam: Adam with Nesterov's look-ahead in the first moment.

    ::

        m̂ = β₁ m / (1 − β₁ᵗ⁺¹) + (1 − β₁) g / (1 − β₁ᵗ);    θ ← θ − η m̂ / (√(v̂ + ε_root) + ε)
        with momentum_decay ψ    μₜ = β₁ (1 − ½ · 0.96^(ψ t)),    P = μ₁ μ₂ … μₜ
                                 m̂ = μₜ₊₁ m / (1 − P μₜ₊₁) + (1 − μₜ) g / (1 − P)

    The first is `optax.nadam`; ψ = 0.004 is PyTorch's (η 2e-3 there), ψ = 1 Keras' (ε 1e-7).

    Args:
      learning_rate: η ≥ 0; a number, a schedule or a scalar array. No default.
      b1, b2: β₁ and β₂ in [0, 1), likewise.
      eps, eps_root: ε, ε_root ≥ 0, likewise.
      momentum_decay: ψ ≥ 0, likewise; None for a constant β₁.
      mu_dtype: dtype of m; at least float32 by default.

    Raises:
      ValueError: a value out of range.

    Source: Dozat, "Incorporating Nesterov momentum into Adam" (2016); semantics of optax 0.2.

    >>> import jax.numpy as jnp
    >>> tx = nadam(0.1)
    >>> round(float(tx.update(jnp.array(1.0), tx.init(jnp.array(0.0)))[0]), 4)  # −0.1 (0.09 / 0.19 + 1)
    -0.1474
    """
    rule = scale_by_nadam.rule(
        b1=b1, b2=b2, eps=eps, eps_root=eps_root, momentum_decay=momentum_decay, mu_dtype=mu_dtype
    )
    return transform(rule, descend(learning_rate))


@remembered
def nadamw(
    learning_rate: Numeric,
    *,
    b1: Numeric = 0.9,
    b2: Numeric = 0.999,
    eps: Numeric = 1e-8,
    eps_root: Numeric = 0.0,
    momentum_decay: Numeric | None = None,
    mu_dtype: DTypeLike | None = None,
    weight_decay: Numeric = 1e-4,
    where: Where | None = None,
    couple_lr: bool = True,
) -> Transform:
    """Nadam with decoupled weight decay.

    ::

        θ ← θ − η (m̂ / (√(v̂ + ε_root) + ε) + λ θ)      with the m̂ of `nadam`
        not couple_lr    θ ← (1 − λ) θ − η m̂ / (√(v̂ + ε_root) + ε)

    The equation and defaults are those of `optax.nadamw`; PyTorch's `NAdam` with
    ``decoupled_weight_decay=True`` is this with ``momentum_decay=0.004``.

    Args:
      learning_rate, b1, b2, eps, eps_root, momentum_decay, mu_dtype: as for `nadam`.
      weight_decay, where, couple_lr: as for `adamw`.

    Raises:
      ValueError: a value out of range; at the update, parameters not passed or a `where` that
        matches no leaf.

    Source: Dozat, "Incorporating Nesterov momentum into Adam" (2016); Loshchilov & Hutter
    (arXiv:1711.05101); semantics of optax 0.2.

    >>> import jax.numpy as jnp
    >>> tx = nadamw(0.1, weight_decay=0.5)
    >>> x = jnp.array(2.0)
    >>> round(float(tx.update(jnp.array(0.0), tx.init(x), x)[0]), 4)  # −0.1 · 0.5 · 2
    -0.1
    """
    rule = scale_by_nadam.rule(
        b1=b1, b2=b2, eps=eps, eps_root=eps_root, momentum_decay=momentum_decay, mu_dtype=mu_dtype
    )
    return _decayed(rule, learning_rate, weight_decay, where, couple_lr)


def _decayed(
    rule: Rule, learning_rate: Numeric, weight_decay: Numeric, where: Where | None, couple_lr: bool
) -> Transform:
    """A rule with decoupled weight decay, multiplied by the learning rate or not."""
    _checks.check_flag("couple_lr", couple_lr)
    if couple_lr:
        return transform(rule, decay_rule(weight_decay, where), descend(learning_rate))
    return transform(rule, descend(learning_rate), decay_rule(weight_decay, where, sign=-1))
