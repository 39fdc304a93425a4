"""What adaptive optimizers are made of: moments of the gradient, and rules that combine them.

There are three parts, each a transformation of its own: `first_moment` (momentum as a moving
average), `second_moment` (the average of squares, RMSProp's) and `bias_correction` (for averages that
begin at zero). RMSProp divides the gradient by the root of the second moment; Adam is the corrected
first moment over the root of the corrected second.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep.optimizers.scalars import DECAY, NOT_NEGATIVE, Hyper, Numeric, Scalar
from jaxdeep.optimizers.transform import Rule, Transform, rule_factory, slot, transform


def moving_average(old: Any, new: Any, complement: Any) -> Any:
    """``β · old + (1 − β) · new``, from 1 − β alone, which float32 keeps precisely.

    β itself is rounded, and what it lost is added apart. An average that is infinite stays so, and β = 0
    forgets the old.

    >>> float(moving_average(1.0, 2.0, 0.25)), float(moving_average(1e8, 2.0, 1.0))
    (1.25, 2.0)
    """
    beta = 1 - complement
    lost = (1 - beta) - complement
    largest = jnp.finfo(jnp.result_type(old)).max
    return beta * old + (complement * new + lost * jnp.clip(old, -largest, largest))


def correction(decay: Scalar, t: Any) -> Any:
    """``1 − βᵗ``, the share of the gradients seen so far in a moving average that began at zero.

    Computed as ``−expm1(t · log1p(−(1 − β)))``: in float32 about a hundred times closer to exact
    arithmetic than ``1 − β**t``, which is used where it is exact, for β ≤ ½ (and has a slope at β = 0).
    """
    slow = decay.complement < 0.5
    log = jnp.log1p(-jnp.where(slow, decay.complement, 0))
    return jnp.where(slow, -jnp.expm1(t * log), 1 - (1 - decay.complement) ** t)


def over_root(numerator: Any, nu: Any, eps: Any, eps_in_sqrt: bool) -> Any:
    """``numerator / √(nu + ε)``, or ``/ (√nu + ε)``; 0 where the denominator is 0. A NaN stays."""
    return ratio(numerator, jnp.sqrt(nu + eps) if eps_in_sqrt else jnp.sqrt(nu) + eps)


def ratio(numerator: Any, denominator: Any) -> Any:
    """The quotient, 0 where the denominator is 0."""
    nothing = denominator == 0
    return jnp.where(nothing, 0, numerator / jnp.where(nothing, 1, denominator))


# --- the parts ------------------------------------------------------------------------------------


def first_moment(decay: Numeric = 0.9, *, accumulator_dtype: Any = None) -> Transform:
    """The moving average of the gradients, passed on in their place: ``m ← β m + (1 − β) g``.

    Args:
      decay: β in [0, 1); a number, a schedule or a scalar array.
      accumulator_dtype: dtype of m; at least float32 by default.

    Raises:
      ValueError: β outside [0, 1).

    Source: the first moment of Adam (arXiv:1412.6980); `optax.ema` without its correction.

    >>> tx = first_moment(0.9)
    >>> updates, state = tx.update(jnp.array(1.0), tx.init(jnp.array(0.0)))
    >>> round(float(updates), 6)
    0.1
    """
    return transform(first_moment_rule(decay, accumulator_dtype))


def second_moment(decay: Numeric = 0.999) -> Transform:
    """The moving average of the squared gradients, passed on in their place: ``v ← β v + (1 − β) g²``.

    Args:
      decay: β in [0, 1); a number, a schedule or a scalar array.

    v is kept in at least float32, in which 0.001 of a new square still counts.

    Raises:
      ValueError: β outside [0, 1).

    Source: the second moment of RMSProp and Adam.

    >>> tx = second_moment(0.9)
    >>> updates, state = tx.update(jnp.array(2.0), tx.init(jnp.array(0.0)))
    >>> round(float(updates), 6)
    0.4
    """
    return transform(second_moment_rule(decay))


def bias_correction(decay: Numeric) -> Transform:
    """Undo the start at zero of a moving average: ``u ← u / (1 − βᵗ)`` at update t = 1, 2, …

    After `first_moment` or `second_moment` with the same β.

    Args:
      decay: β in [0, 1); a number, a schedule or a scalar array.

    Raises:
      ValueError: β outside [0, 1).

    Source: Kingma & Ba (arXiv:1412.6980), section 3.

    >>> import optax
    >>> tx = optax.chain(first_moment(0.9), bias_correction(0.9))
    >>> updates, state = tx.update(jnp.array(3.0), tx.init(jnp.array(0.0)))
    >>> round(float(updates), 5)
    3.0
    """
    return transform(bias_correction_rule(decay))


# --- the rules ------------------------------------------------------------------------------------


@rule_factory
def first_moment_rule(decay: Numeric, accumulator_dtype: Any) -> Rule:
    """The moving average of the gradients."""
    _checks.check_float_dtype("accumulator_dtype", accumulator_dtype)

    def update(g: Any, slots: dict[str, Any], s: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        mu = moving_average(slots["mu"], g, s["1-decay"])
        return mu, {"mu": mu}

    return Rule(
        {"decay": Hyper(decay, DECAY)}, update, {"mu": slot(dtype=accumulator_dtype)}, _complement
    )


@rule_factory
def second_moment_rule(decay: Numeric) -> Rule:
    """The moving average of the squared gradients."""

    def update(g: Any, slots: dict[str, Any], s: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        nu = moving_average(slots["nu"], g * g, s["1-decay"])
        return nu, {"nu": nu}

    return Rule({"decay": Hyper(decay, DECAY)}, update, {"nu": slot()}, _complement)


def _complement(h: Mapping[str, Scalar], t: Any) -> dict[str, Any]:
    return {"1-decay": h["decay"].complement}


@rule_factory
def bias_correction_rule(decay: Numeric) -> Rule:
    """Division by the share of the gradients that a moving average has seen."""

    def update(g: Any, slots: dict[str, Any], s: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        return g * s["scale"], {}

    def scalars(h: Mapping[str, Scalar], t: Any) -> dict[str, Any]:
        return {"scale": 1 / correction(h["decay"], t)}

    return Rule({"decay": Hyper(decay, DECAY)}, update, scalars=scalars)


@rule_factory
def adagrad_rule(initial_accumulator_value: float, eps: Numeric, eps_in_sqrt: bool) -> Rule:
    """The gradient over the root of the sum of all squares."""
    _checks.check_scalar("initial_accumulator_value", initial_accumulator_value, NOT_NEGATIVE)
    _checks.check_flag("eps_in_sqrt", eps_in_sqrt)

    def update(g: Any, slots: dict[str, Any], s: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        total = slots["sum_of_squares"] + g * g
        return over_root(g, total, s["eps"], eps_in_sqrt), {"sum_of_squares": total}

    return Rule(
        {"eps": Hyper(eps, NOT_NEGATIVE)},
        update,
        {"sum_of_squares": slot(initial_accumulator_value)},
    )


@rule_factory
def rms_rule(
    decay: Numeric,
    eps: Numeric,
    *,
    initial_scale: float,
    eps_in_sqrt: bool,
    centered: bool,
    bias_correction: bool,
) -> Rule:
    """The gradient over the root of the average square, or of the variance."""
    _checks.check_scalar("initial_scale", initial_scale, NOT_NEGATIVE)
    flags = {"eps_in_sqrt": eps_in_sqrt, "centered": centered, "bias_correction": bias_correction}
    for name, flag in flags.items():
        _checks.check_flag(name, flag)

    def scalars(h: Mapping[str, Scalar], t: Any) -> dict[str, Any]:
        share = correction(h["decay"], t) if bias_correction else 1.0
        values = {"1-decay": h["decay"].complement, "eps": h["eps"].value, "scale": 1 / share}
        if centered:
            new = h["decay"].complement / share
            values["new"] = jnp.where(t > 1, new, 1.0) if bias_correction else new
            # what is left of where the average of squares began
            values["initial"] = initial_scale * (1 / share - 1)
        return values

    def update(g: Any, slots: dict[str, Any], s: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        if centered:
            new, off = s["new"], g - slots["mu"]
            mu = slots["mu"] + new * off
            # the variance itself: as a difference of averages of squares it would be all rounding where
            # gradients hardly vary (Welford, Technometrics 4, 1962)
            nu = jnp.maximum(slots["nu"] + new * ((1 - new) * (off * off) - slots["nu"]), 0)
            return over_root(g, nu + s["initial"], s["eps"], eps_in_sqrt), {"nu": nu, "mu": mu}
        nu = moving_average(slots["nu"], g * g, s["1-decay"])
        return over_root(g, nu * s["scale"], s["eps"], eps_in_sqrt), {"nu": nu}

    slots = {"nu": slot(initial_scale), **({"mu": slot()} if centered else {})}
    hyperparams = {"decay": Hyper(decay, DECAY), "eps": Hyper(eps, NOT_NEGATIVE)}
    return Rule(hyperparams, update, slots, scalars)


@rule_factory
def adam_rule(
    b1: Numeric, b2: Numeric, eps: Numeric, eps_root: Numeric, *, eps_mode: str, mu_dtype: Any
) -> Rule:
    """The corrected first moment over the root of the corrected second."""
    _check_choice("eps_mode", eps_mode, ("corrected", "uncorrected"))

    def scalars(h: Mapping[str, Scalar], t: Any) -> dict[str, Any]:
        nu_correction = correction(h["b2"], t)
        eps = h["eps"].value
        if eps_mode == "uncorrected":  # eps beside √nu instead of √(nu / correction)
            eps = eps / jnp.sqrt(nu_correction)
        return {
            "1-b1": h["b1"].complement,
            "1-b2": h["b2"].complement,
            "mu_scale": 1 / correction(h["b1"], t),
            "nu_scale": 1 / nu_correction,
            "eps": eps,
            "eps_root": h["eps_root"].value,
        }

    def update(g: Any, slots: dict[str, Any], s: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        mu = moving_average(slots["mu"], g, s["1-b1"])
        nu = moving_average(slots["nu"], g * g, s["1-b2"])
        root = jnp.sqrt(nu * s["nu_scale"] + s["eps_root"]) + s["eps"]
        return mu * s["mu_scale"] / root, {"mu": mu, "nu": nu}

    return Rule(_moments(b1, b2, eps, eps_root), update, _two_slots(mu_dtype), scalars)


@rule_factory
def nadam_rule(
    b1: Numeric,
    b2: Numeric,
    eps: Numeric,
    eps_root: Numeric,
    *,
    momentum_decay: Numeric | None,
    mu_dtype: Any,
) -> Rule:
    """Adam with the first moment of the step to come: the gradient counts once more."""

    def scalars(h: Mapping[str, Scalar], t: Any) -> dict[str, Any]:
        values = {
            "1-b1": h["b1"].complement,
            "1-b2": h["b2"].complement,
            "nu_scale": 1 / correction(h["b2"], t),
            "eps": h["eps"].value,
            "eps_root": h["eps_root"].value,
        }
        if momentum_decay is None:
            values["g_scale"] = h["b1"].complement / correction(h["b1"], t)
            values["mu_scale"] = h["b1"].value / correction(h["b1"], t + 1)
            return values
        psi, beta = h["momentum_decay"].value, h["b1"].value
        now, after = (beta * (1 - 0.5 * 0.96 ** (psi * step)) for step in (t, t + 1))
        product = h["mu_product"].value * now
        values["g_scale"] = (1 - now) / (1 - product)
        values["mu_scale"] = after / (1 - product * after)
        values["mu_product"] = product
        return values

    def update(g: Any, slots: dict[str, Any], s: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        mu = moving_average(slots["mu"], g, s["1-b1"])
        nu = moving_average(slots["nu"], g * g, s["1-b2"])
        root = jnp.sqrt(nu * s["nu_scale"] + s["eps_root"]) + s["eps"]
        return (mu * s["mu_scale"] + g * s["g_scale"]) / root, {"mu": mu, "nu": nu}

    hyperparams, carry = _moments(b1, b2, eps, eps_root), {}
    if momentum_decay is not None:
        hyperparams["momentum_decay"] = Hyper(momentum_decay, NOT_NEGATIVE)
        carry["mu_product"] = 1.0
    return Rule(hyperparams, update, _two_slots(mu_dtype), scalars, carry)


@rule_factory
def adamax_rule(b1: Numeric, b2: Numeric, eps: Numeric, *, eps_mode: str, mu_dtype: Any) -> Rule:
    """The corrected first moment over the largest of the decayed gradients."""
    _check_choice("eps_mode", eps_mode, ("max", "denominator"))

    def scalars(h: Mapping[str, Scalar], t: Any) -> dict[str, Any]:
        return {
            "1-b1": h["b1"].complement,
            "b2": h["b2"].value,
            "mu_scale": 1 / correction(h["b1"], t),
            "eps": h["eps"].value,
        }

    def update(g: Any, slots: dict[str, Any], s: dict[str, Any], p: Any) -> tuple[Any, dict[str, Any]]:
        mu = moving_average(slots["mu"], g, s["1-b1"])
        size = jnp.abs(g) + (s["eps"] if eps_mode == "max" else 0)
        nu = jnp.maximum(s["b2"] * slots["nu"], size)
        return ratio(mu * s["mu_scale"], nu + (s["eps"] if eps_mode == "denominator" else 0)), {
            "mu": mu,
            "nu": nu,
        }

    hyperparams = {
        "b1": Hyper(b1, DECAY),
        "b2": Hyper(b2, DECAY),
        "eps": Hyper(eps, NOT_NEGATIVE),
    }
    return Rule(hyperparams, update, _two_slots(mu_dtype), scalars)


def _moments(b1: Numeric, b2: Numeric, eps: Numeric, eps_root: Numeric) -> dict[str, Hyper]:
    return {
        "b1": Hyper(b1, DECAY),
        "b2": Hyper(b2, DECAY),
        "eps": Hyper(eps, NOT_NEGATIVE),
        "eps_root": Hyper(eps_root, NOT_NEGATIVE),
    }


def _two_slots(mu_dtype: Any) -> dict[str, Any]:
    _checks.check_float_dtype("mu_dtype", mu_dtype)
    return {"mu": slot(dtype=mu_dtype), "nu": slot()}


def _check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        choices = " or ".join(repr(choice) for choice in allowed)
        raise ValueError(f"{name} must be {choices}, got {value!r}")
