"""What adaptive optimizers are made of: moments of the gradient, and rules that combine them.

There are three parts, each a transformation of its own: `first_moment` (momentum as a moving
average), `second_moment` (the average of squares, RMSProp's) and `bias_correction` (for averages that
begin at zero). RMSProp divides the gradient by the root of the second moment; Adam is the corrected
first moment over the root of the corrected second.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxdeep import _checks
from jaxdeep._shapes import Array, Arrays
from jaxdeep.optimizers.scalars import DECAY, NOT_NEGATIVE, Numeric, Scalar, within
from jaxdeep.optimizers.transform import Rule, slot, transformation


def moving_average(old: Array, new: Array, complement: Array) -> Array:
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


def correction(decay: Scalar, t: Array) -> Array:
    """``1 − βᵗ``, the share of the gradients seen so far in a moving average that began at zero.

    Computed as ``−expm1(t · log1p(−(1 − β)))``: in float32 about a hundred times closer to exact
    arithmetic than ``1 − β**t``, which is used where it is exact, for β ≤ ½ (and has a slope at β = 0).
    """
    slow = decay.complement < 0.5
    log = jnp.log1p(-jnp.where(slow, decay.complement, 0))
    return jnp.where(slow, -jnp.expm1(t * log), 1 - (1 - decay.complement) ** t)


def over_root(numerator: Array, nu: Array, eps: Array, eps_in_sqrt: bool) -> Array:
    """``numerator / √(nu + ε)``, or ``/ (√nu + ε)``; 0 where the denominator is 0. A NaN stays."""
    return ratio(numerator, jnp.sqrt(nu + eps) if eps_in_sqrt else jnp.sqrt(nu) + eps)


def ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient, 0 where the denominator is 0."""
    nothing = denominator == 0
    return jnp.where(nothing, 0, numerator / jnp.where(nothing, 1, denominator))


# --- the parts ------------------------------------------------------------------------------------


@transformation
def first_moment(decay: Numeric = 0.9, *, accumulator_dtype: DTypeLike | None = None) -> Rule:
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
    _checks.check_float_dtype("accumulator_dtype", accumulator_dtype)

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        mu = moving_average(slots["mu"], g, s["1-decay"])
        return mu, {"mu": mu}

    return Rule(within(DECAY, decay=decay), update, {"mu": slot(dtype=accumulator_dtype)})


@transformation
def second_moment(decay: Numeric = 0.999) -> Rule:
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

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        nu = moving_average(slots["nu"], g * g, s["1-decay"])
        return nu, {"nu": nu}

    return Rule(within(DECAY, decay=decay), update, {"nu": slot()})


@transformation
def bias_correction(decay: Numeric) -> Rule:
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

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        return g * s["scale"], {}

    def scalars(h: Mapping[str, Scalar], t: Array) -> Arrays:
        return {"scale": 1 / correction(h["decay"], t)}

    return Rule(within(DECAY, decay=decay), update, scalars=scalars)


# --- what optimizers do before the learning rate ------------------------------------------------------


@transformation
def scale_by_adagrad(
    *, initial_accumulator_value: float = 0.1, eps: Numeric = 1e-7, eps_in_sqrt: bool = True
) -> Rule:
    """`adagrad` without its learning rate: ``u = g / √(s + ε)``.

    Args:
      initial_accumulator_value, eps, eps_in_sqrt: as for `adagrad`.

    Raises:
      ValueError: a value out of range.

    Source: as `adagrad`; `optax.scale_by_rss`.

    >>> import jax.numpy as jnp
    >>> tx = scale_by_adagrad(initial_accumulator_value=0.0)
    >>> round(float(tx.update(jnp.array(4.0), tx.init(jnp.array(0.0)))[0]), 4)
    1.0
    """
    _checks.check_hyperparameter("initial_accumulator_value", initial_accumulator_value, NOT_NEGATIVE)
    _checks.check_flag("eps_in_sqrt", eps_in_sqrt)

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        total = slots["sum_of_squares"] + g * g
        return over_root(g, total, s["eps"], eps_in_sqrt), {"sum_of_squares": total}

    slots = {"sum_of_squares": slot(initial_accumulator_value)}
    return Rule(within(NOT_NEGATIVE, eps=eps), update, slots)


@transformation
def scale_by_rms(
    *,
    decay: Numeric = 0.9,
    eps: Numeric = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    bias_correction: bool = False,
) -> Rule:
    """`rmsprop` without its learning rate and momentum: ``u = g / √(s + ε)``.

    Args:
      decay, eps, initial_scale, eps_in_sqrt, centered, bias_correction: as for `rmsprop`.

    Raises:
      ValueError: a value out of range.

    Source: as `rmsprop`; `optax.scale_by_rms` and `scale_by_stddev`.

    >>> import jax.numpy as jnp
    >>> tx = scale_by_rms(decay=0.75)
    >>> round(float(tx.update(jnp.array(4.0), tx.init(jnp.array(0.0)))[0]), 4)
    2.0
    """
    _checks.check_hyperparameter("initial_scale", initial_scale, NOT_NEGATIVE)
    _checks.check_flags(eps_in_sqrt=eps_in_sqrt, centered=centered, bias_correction=bias_correction)

    def scalars(h: Mapping[str, Scalar], t: Array) -> Arrays:
        share = correction(h["decay"], t) if bias_correction else jnp.ones(())
        values = {"scale": 1 / share}
        if centered:
            new = h["decay"].complement / share
            values["new"] = jnp.where(t > 1, new, 1.0) if bias_correction else new
            # what is left of where the average of squares began
            values["initial"] = initial_scale * (1 / share - 1)
        return values

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        if centered:
            new, off = s["new"], g - slots["mu"]
            mu = slots["mu"] + new * off
            # the variance itself: as a difference of averages of squares it would be all rounding where
            # gradients hardly vary (Welford, Technometrics 4, 1962)
            nu = jnp.maximum(slots["nu"] + new * ((1 - new) * (off * off) - slots["nu"]), 0)
            return over_root(g, nu + s["initial"], s["eps"], eps_in_sqrt), {"nu": nu, "mu": mu}
        nu = moving_average(slots["nu"], g * g, s["1-decay"])
        return over_root(g, nu * s["scale"], s["eps"], eps_in_sqrt), {"nu": nu}

    slots = {"nu": slot(initial_scale)} | ({"mu": slot()} if centered else {})
    return Rule(within(DECAY, decay=decay) | within(NOT_NEGATIVE, eps=eps), update, slots, scalars)


@transformation
def scale_by_adam(
    *,
    b1: Numeric = 0.9,
    b2: Numeric = 0.999,
    eps: Numeric = 1e-8,
    eps_root: Numeric = 0.0,
    eps_mode: str = "corrected",
    mu_dtype: DTypeLike | None = None,
) -> Rule:
    """`adam` without its learning rate: ``u = m̂ / (√(v̂ + ε_root) + ε)``.

    Args:
      b1, b2, eps, eps_root, eps_mode, mu_dtype: as for `adam`.

    Raises:
      ValueError: a value out of range, an unknown `eps_mode`.

    Source: as `adam`; `optax.scale_by_adam`.

    >>> import jax.numpy as jnp
    >>> tx = scale_by_adam()
    >>> round(float(tx.update(jnp.array(4.0), tx.init(jnp.array(0.0)))[0]), 4)
    1.0
    """
    _checks.check_choice("eps_mode", eps_mode, ("corrected", "uncorrected"))

    def scalars(h: Mapping[str, Scalar], t: Array) -> Arrays:
        nu_correction = correction(h["b2"], t)
        eps = h["eps"].value
        if eps_mode == "uncorrected":  # eps beside √nu instead of √(nu / correction)
            eps = eps / jnp.sqrt(nu_correction)
        return {"mu_scale": 1 / correction(h["b1"], t), "nu_scale": 1 / nu_correction, "eps": eps}

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        moments, root = _moments(g, slots, s)
        return moments["mu"] * s["mu_scale"] / root, moments

    hyperparams = within(DECAY, b1=b1, b2=b2) | within(NOT_NEGATIVE, eps=eps, eps_root=eps_root)
    return Rule(hyperparams, update, _two_slots(mu_dtype), scalars)


@transformation
def scale_by_nadam(
    *,
    b1: Numeric = 0.9,
    b2: Numeric = 0.999,
    eps: Numeric = 1e-8,
    eps_root: Numeric = 0.0,
    momentum_decay: Numeric | None = None,
    mu_dtype: DTypeLike | None = None,
) -> Rule:
    """`nadam` without its learning rate: ``u = m̂ / (√(v̂ + ε_root) + ε)`` with the m̂ of `nadam`.

    Args:
      b1, b2, eps, eps_root, momentum_decay, mu_dtype: as for `nadam`.

    Raises:
      ValueError: a value out of range.

    Source: as `nadam`; `optax.scale_by_adam` with ``nesterov=True``.

    >>> import jax.numpy as jnp
    >>> tx = scale_by_nadam()
    >>> round(float(tx.update(jnp.array(1.0), tx.init(jnp.array(0.0)))[0]), 4)
    1.4737
    """

    def scalars(h: Mapping[str, Scalar], t: Array) -> Arrays:
        values = {"nu_scale": 1 / correction(h["b2"], t)}
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

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        moments, root = _moments(g, slots, s)
        return (moments["mu"] * s["mu_scale"] + g * s["g_scale"]) / root, moments

    hyperparams = within(DECAY, b1=b1, b2=b2) | within(NOT_NEGATIVE, eps=eps, eps_root=eps_root)
    carry = {}
    if momentum_decay is not None:
        hyperparams |= within(NOT_NEGATIVE, momentum_decay=momentum_decay)
        carry["mu_product"] = 1.0
    return Rule(hyperparams, update, _two_slots(mu_dtype), scalars, carry)


@transformation
def scale_by_adamax(
    *,
    b1: Numeric = 0.9,
    b2: Numeric = 0.999,
    eps: Numeric = 1e-8,
    eps_mode: str = "max",
    mu_dtype: DTypeLike | None = None,
) -> Rule:
    """`adamax` without its learning rate: ``m / ((1 − β₁ᵗ) u)``.

    Args:
      b1, b2, eps, eps_mode, mu_dtype: as for `adamax`.

    Raises:
      ValueError: a value out of range, an unknown `eps_mode`.

    Source: as `adamax`; `optax.scale_by_adamax`.

    >>> import jax.numpy as jnp
    >>> tx = scale_by_adamax()
    >>> round(float(tx.update(jnp.array(4.0), tx.init(jnp.array(0.0)))[0]), 4)
    1.0
    """
    _checks.check_choice("eps_mode", eps_mode, ("max", "denominator"))

    def scalars(h: Mapping[str, Scalar], t: Array) -> Arrays:
        return {"mu_scale": 1 / correction(h["b1"], t)}

    def update(g: Array, slots: Arrays, s: Arrays, p: Array) -> tuple[Array, Arrays]:
        mu = moving_average(slots["mu"], g, s["1-b1"])
        size = jnp.abs(g) + (s["eps"] if eps_mode == "max" else 0)
        nu = jnp.maximum(s["b2"] * slots["nu"], size)
        denominator = nu + (s["eps"] if eps_mode == "denominator" else 0)
        return ratio(mu * s["mu_scale"], denominator), {"mu": mu, "nu": nu}

    hyperparams = within(DECAY, b1=b1, b2=b2) | within(NOT_NEGATIVE, eps=eps)
    return Rule(hyperparams, update, _two_slots(mu_dtype), scalars)


def _moments(g: Array, slots: Arrays, s: Arrays) -> tuple[Arrays, Array]:
    """The new moments of Adam, and what its first one is divided by."""
    mu = moving_average(slots["mu"], g, s["1-b1"])
    nu = moving_average(slots["nu"], g * g, s["1-b2"])
    return {"mu": mu, "nu": nu}, jnp.sqrt(nu * s["nu_scale"] + s["eps_root"]) + s["eps"]


def _two_slots(mu_dtype: DTypeLike | None) -> dict[str, Callable[[Array], Array]]:
    _checks.check_float_dtype("mu_dtype", mu_dtype)
    return {"mu": slot(dtype=mu_dtype), "nu": slot()}
