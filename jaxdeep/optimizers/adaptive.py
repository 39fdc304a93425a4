"""Optimizers that scale each parameter's step by what its gradients have been."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax

from jaxdeep.optimizers.transform import (
    DECAY,
    Hyper,
    Numeric,
    Rule,
    Scalar,
    descend,
    slot,
    transform,
)


def moving_average(old: Any, new: Any, complement: Any) -> Any:
    """``β · old + (1 − β) · new``, from 1 − β alone, which float32 keeps precisely."""
    return old + complement * (new - old)


def bias_correction(decay: Scalar, t: Any) -> Any:
    """``1 − βᵗ``, the share of the gradients seen so far in a moving average that began at zero."""
    return -jnp.expm1(t * jnp.log1p(-decay.complement))


def adam_rule(
    b1: Numeric, b2: Numeric, eps: Numeric, eps_root: Numeric, eps_mode: str, mu_dtype: Any
) -> Rule:
    """Momentum (mu) over the root of RMSProp's average (nu), both corrected for their start."""
    if eps_mode not in ("corrected", "uncorrected"):
        raise ValueError(f"eps_mode must be 'corrected' or 'uncorrected', got {eps_mode!r}")

    def scalars(h: Mapping[str, Scalar], t: Any) -> dict[str, Any]:
        mu_correction = bias_correction(h["b1"], t)
        nu_correction = bias_correction(h["b2"], t)
        eps = h["eps"].value
        if eps_mode == "uncorrected":  # eps beside √nu instead of √(nu / correction)
            eps = eps / jnp.sqrt(nu_correction)
        return {
            "1-b1": h["b1"].complement,
            "1-b2": h["b2"].complement,
            "mu_scale": 1 / mu_correction,
            "nu_scale": 1 / nu_correction,
            "eps": eps,
            "eps_root": h["eps_root"].value,
        }

    def update(g: Any, slots: dict[str, Any], s: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        mu = moving_average(slots["mu"], g, s["1-b1"])
        nu = moving_average(slots["nu"], g * g, s["1-b2"])
        root = jnp.sqrt(nu * s["nu_scale"] + s["eps_root"])
        return mu * s["mu_scale"] / (root + s["eps"]), {"mu": mu, "nu": nu}

    hyperparams = {
        "b1": Hyper(b1, DECAY),
        "b2": Hyper(b2, DECAY),
        "eps": Hyper(eps, "[0, inf)"),
        "eps_root": Hyper(eps_root, "[0, inf)"),
    }
    return Rule(hyperparams, update, {"mu": slot(dtype=mu_dtype), "nu": slot()}, scalars)


def adam(
    learning_rate: Numeric,
    *,
    b1: Numeric = 0.9,
    b2: Numeric = 0.999,
    eps: Numeric = 1e-8,
    eps_root: Numeric = 0.0,
    eps_mode: str = "corrected",
    mu_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
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
      mu_dtype: dtype of m; that of the parameters by default, as is v's.

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
    return transform(adam_rule(b1, b2, eps, eps_root, eps_mode, mu_dtype), descend(learning_rate))
