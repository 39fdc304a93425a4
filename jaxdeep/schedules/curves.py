"""Curves from one value to another."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, ArrayLike, Float, Num
from jaxdeep.schedules.steps import Schedule, between, check_boundaries, floats, since, step_of


@remembered
def constant(value: ArrayLike) -> Schedule:
    """The same value at every step: ``f(t) = value``.

    Args:
      value: the value; a number or a scalar array.

    Raises:
      TypeError: not a number or a scalar.

    Source: `optax.constant_schedule`.

    >>> float(constant(0.5)(100))
    0.5
    """
    _checks.check_scalar("value", value, "(-inf, inf)")

    def schedule(step: Num[ArrayLike, "*steps"]) -> Float[Array, "*steps"]:
        step, typed = floats(step, value)
        return jnp.broadcast_to(typed, step.shape)

    return schedule


@remembered
def power(
    init_value: ArrayLike,
    transition_steps: int,
    *,
    decay_rate: ArrayLike = 1.0,
    power: ArrayLike = 1.0,
    staircase: bool = False,
) -> Schedule:
    """Power scheduling, or inverse time decay: ``f(t) = init_value / (1 + decay_rate · t / s)^c``.

    With the defaults the value is halved after s steps, a third after 2 s, a quarter after 3 s. Keras'
    `InverseTimeDecay` is the case c = 1; optax and PyTorch have no such schedule.

    Args:
      init_value: value at the start.
      transition_steps: s, at least 1.
      decay_rate: how fast within s steps, ≥ 0.
      power: the exponent c, ≥ 0.
      staircase: use ⌊t / s⌋.

    Raises:
      ValueError: a value out of range.

    Source: Géron, "Hands-On Machine Learning", chapter 11.

    >>> schedule = power(0.01, transition_steps=10)
    >>> [round(float(schedule(t)), 6) for t in (0, 10, 20, 30)]
    [0.01, 0.005, 0.003333, 0.0025]
    """
    _checks.check_scalar("init_value", init_value, "(-inf, inf)")
    transition_steps = _checks.check_count("transition_steps", transition_steps)
    _checks.check_scalars("[0, inf)", decay_rate=decay_rate, power=power)
    _checks.check_flag("staircase", staircase)

    def schedule(step: Num[ArrayLike, "*steps"]) -> Float[Array, "*steps"]:
        elapsed, init, rate, exponent = floats(since(step, 0), init_value, decay_rate, power)
        times = elapsed / float(transition_steps)
        if staircase:
            times = jnp.floor(times)
        return init / (1 + rate * times) ** exponent

    return schedule


@remembered
def exponential(
    init_value: ArrayLike,
    transition_steps: int,
    decay_rate: ArrayLike,
    *,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: ArrayLike | None = None,
) -> Schedule:
    """Exponential decay: ``f(t) = init_value · decay_rate^((t − transition_begin) / transition_steps)``.

    The value stays at `init_value` up to `transition_begin`. Arguments and values are those of
    `optax.exponential_decay`; Keras' `ExponentialDecay` is the same curve.

    Args:
      init_value: value at the start.
      transition_steps: steps over which the value is multiplied by `decay_rate` once.
      decay_rate: the factor, > 0; above 1 the value grows.
      transition_begin: steps to wait before the decay begins.
      staircase: decay in jumps, at whole multiples of `transition_steps`.
      end_value: bound never passed: a floor if `decay_rate` < 1, a ceiling otherwise.

    Raises:
      ValueError: `transition_steps` below 1, `transition_begin` below 0, `decay_rate` ≤ 0.

    Source: `optax.exponential_decay`.

    >>> schedule = exponential(0.01, transition_steps=10, decay_rate=0.1)
    >>> [round(float(schedule(t)), 6) for t in (0, 5, 10, 20)]
    [0.01, 0.003162, 0.001, 0.0001]
    """
    _checks.check_scalar("init_value", init_value, "(-inf, inf)")
    transition_steps = _checks.check_count("transition_steps", transition_steps)
    _checks.check_scalar("decay_rate", decay_rate, "(0, inf)")
    transition_begin = _checks.check_count("transition_begin", transition_begin, low=0)
    if end_value is not None:
        _checks.check_scalar("end_value", end_value, "(-inf, inf)")
    _checks.check_flag("staircase", staircase)

    # not `optax.exponential_decay`, which branches on its rate in Python: here it may be traced
    def schedule(step: Num[ArrayLike, "*steps"]) -> Float[Array, "*steps"]:
        elapsed, init, rate = floats(since(step, transition_begin), init_value, decay_rate)
        times = elapsed / float(transition_steps)
        if staircase:
            times = jnp.floor(times)
        value = init * rate**times
        if end_value is None:
            return value
        bound = jnp.asarray(end_value, value.dtype)
        return jnp.where(rate < 1, jnp.maximum(value, bound), jnp.minimum(value, bound))

    return schedule


@remembered
def piecewise_constant(
    boundaries: Sequence[int], values: Sequence[ArrayLike], *, side: str = "right"
) -> Schedule:
    """Steps from value to value: ``f(t) = values[i]`` with i the boundaries passed at step t.

    Values are absolute, as in Keras' `PiecewiseConstantDecay`; `optax.piecewise_constant_schedule`
    and PyTorch's `MultiStepLR` multiply instead.

    Args:
      boundaries: steps, increasing.
      values: one more than there are boundaries.
      side: "right": the new value holds from t = boundary on (optax, PyTorch); "left": from the step
        after (Keras).

    Raises:
      ValueError: boundaries that do not increase, another number of values, an unknown side.

    Source: Keras' `PiecewiseConstantDecay`.

    >>> schedule = piecewise_constant([5, 15], [0.01, 0.005, 0.001])
    >>> [round(float(schedule(t)), 4) for t in (4, 5, 14, 15)]
    [0.01, 0.005, 0.005, 0.001]
    """
    boundaries = check_boundaries(boundaries)
    _checks.check_sequence("values", values)
    for value in values:
        _checks.check_scalar("values", value, "(-inf, inf)")
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"values must be one more than the {len(boundaries)} boundaries, got {len(values)}"
        )
    _checks.check_choice("side", side, ("right", "left"))

    def schedule(step: Num[ArrayLike, "*steps"]) -> Float[Array, "*steps"]:
        step = step_of(step)
        table = jnp.stack(floats(step, *values)[1:])
        return table[jnp.searchsorted(jnp.asarray(np.array(boundaries, int)), step, side=side)]

    return schedule


@remembered
def polynomial(
    init_value: ArrayLike,
    end_value: ArrayLike,
    power: ArrayLike,
    transition_steps: int,
    transition_begin: int = 0,
    *,
    cycle: bool = False,
) -> Schedule:
    """A polynomial from one value to another: ``f(t) = (init − end) · (1 − u / T)^power + end``.

    ``u = clip(t − transition_begin, 0, T)``. Arguments and values are those of
    `optax.polynomial_schedule`, but both ends are exact, however far apart they are; power 1 is a
    straight line.

    Args:
      init_value, end_value: first and last value.
      power: the exponent, > 0.
      transition_steps: T.
      transition_begin: steps to wait before.
      cycle: begin again at T with twice the length, then three times (as Keras' `PolynomialDecay`).

    Raises:
      ValueError: a value out of range.

    Source: `optax.polynomial_schedule`; `cycle` as in Keras' `PolynomialDecay`.

    >>> schedule = polynomial(0.1, 0.0, power=1, transition_steps=10)
    >>> [round(float(schedule(t)), 3) for t in (0, 5, 10, 20)]
    [0.1, 0.05, 0.0, 0.0]
    """
    _checks.check_scalars("(-inf, inf)", init_value=init_value, end_value=end_value)
    _checks.check_scalar("power", power, "(0, inf)")
    transition_steps = _checks.check_count("transition_steps", transition_steps)
    transition_begin = _checks.check_count("transition_begin", transition_begin, low=0)
    _checks.check_flag("cycle", cycle)

    def schedule(step: Num[ArrayLike, "*steps"]) -> Float[Array, "*steps"]:
        elapsed, length, init, end, exponent = floats(
            since(step, transition_begin), float(transition_steps), init_value, end_value, power
        )
        if cycle:
            length = length * jnp.maximum(jnp.ceil(elapsed / length), 1)
        # bounded after the division, which optax does before: compiled, T / T may be more than 1, and a
        # fractional power of what is left is NaN
        left = 1 - jnp.minimum(elapsed / length, 1)
        return between(end, init, left**exponent)

    return schedule


@remembered
def cosine(
    init_value: ArrayLike, decay_steps: int, *, alpha: ArrayLike = 0.0, exponent: ArrayLike = 1.0
) -> Schedule:
    """Half a cosine down: ``f(t) = init · ((1 − α) · (½ (1 + cos(π t / T)))^exponent + α)``.

    Arguments and values are those of `optax.cosine_decay_schedule`; t is clipped to T. For a warm-up
    in front, see `warmup`.

    Args:
      init_value: value at the start.
      decay_steps: T.
      alpha: the last value as a share of the first, at least 0; above 1 the value rises.
      exponent: of the cosine, > 0.

    Raises:
      ValueError: a value out of range.

    Source: Loshchilov & Hutter, "SGDR" (arXiv:1608.03983).

    >>> schedule = cosine(0.1, decay_steps=10)
    >>> [round(float(schedule(t)), 3) for t in (0, 5, 10, 20)]
    [0.1, 0.05, 0.0, 0.0]
    """
    _checks.check_scalar("init_value", init_value, "(-inf, inf)")
    _checks.check_scalar("alpha", alpha, "[0, inf)")
    decay_steps = _checks.check_count("decay_steps", decay_steps)
    _checks.check_scalar("exponent", exponent, "(0, inf)")

    def schedule(step: Num[ArrayLike, "*steps"]) -> Float[Array, "*steps"]:
        elapsed, init, floor, sharpness = floats(step, init_value, alpha, exponent)
        end = float(decay_steps)
        share = jnp.clip(elapsed / end, 0, 1)
        half = jnp.cos(math.pi / 2 * share) ** 2  # ½ (1 + cos πx) without its cancellation
        half = jnp.where(elapsed >= end, 0, half)  # π / 2 has been rounded
        return init * ((1 - floor) * half**sharpness + floor)

    return schedule


@remembered
def coslog4(peak_value: ArrayLike, transition_steps: int) -> Schedule:
    """Four waves, each twice as long as the last: ``f(t) = peak · ½ (1 − cos(2π log₂(1 + 15 t / T)))``.

    It begins at 0, is at `peak_value` where ``log₂(1 + 15 t / T)`` is ½, 1½, 2½ and 3½ (t / T = 0.03,
    0.12, 0.31, 0.69), at 0 between, and at 0 from T on. The short waves come early, the last takes half
    of the run and ends it at a rate of 0.

    Args:
      peak_value: the highest value, reached in each wave.
      transition_steps: T, the steps of the whole run: epochs times steps of an epoch.

    Raises:
      ValueError: `transition_steps` below 1, a value that is not finite.

    Source: Holzmüller, Grinsztajn & Steinwart, "Better by Default" (arXiv:2407.04491), the schedule of
    RealMLP's learning rate.

    >>> schedule = coslog4(0.04, transition_steps=1500)
    >>> [round(float(schedule(t)), 4) for t in (0, 100, 300, 700, 1500)]  # where waves meet
    [0.0, 0.0, 0.0, 0.0, 0.0]
    >>> round(float(schedule(1500 * (2**3.5 - 1) / 15)), 4)
    0.04
    """
    _checks.check_scalar("peak_value", peak_value, "(-inf, inf)")
    transition_steps = _checks.check_count("transition_steps", transition_steps)

    def schedule(step: Num[ArrayLike, "*steps"]) -> Float[Array, "*steps"]:
        elapsed, peak = floats(since(step, 0), peak_value)
        end = float(transition_steps)
        waves = jnp.log2(1 + 15 * jnp.clip(elapsed / end, 0, 1))
        height = jnp.sin(math.pi * (waves - jnp.floor(waves))) ** 2  # ½ (1 − cos 2πx) within a wave
        return peak * jnp.where(elapsed >= end, 0, height)  # the logarithm has been rounded

    return schedule


@remembered
def flat_cos(init_value: ArrayLike, transition_steps: int, *, pct_start: ArrayLike = 0.5) -> Schedule:
    """Constant, then half a cosine to 0: ``f(t) = init · ½ (1 + cos(π max(0, t/T − p) / (1 − p)))``.

    Args:
      init_value: value at the start, kept for a share p of the steps.
      transition_steps: T, the steps of the whole run; 0 from there on.
      pct_start: p in [0, 1), the share of the steps before the descent: ½, as RealMLP has it for dropout
        and weight decay (fastai's `fit_flat_cos` has 0.75). With 0 it is `cosine`.

    Raises:
      ValueError: `transition_steps` below 1, `pct_start` outside [0, 1), a value that is not finite.

    Source: Holzmüller, Grinsztajn & Steinwart, "Better by Default" (arXiv:2407.04491); fastai.

    >>> schedule = flat_cos(0.1, transition_steps=100)
    >>> [round(float(schedule(t)), 4) for t in (0, 50, 75, 100)]
    [0.1, 0.1, 0.05, 0.0]
    """
    _checks.check_scalar("init_value", init_value, "(-inf, inf)")
    transition_steps = _checks.check_count("transition_steps", transition_steps)
    _checks.check_scalar("pct_start", pct_start, "[0, 1)")

    def schedule(step: Num[ArrayLike, "*steps"]) -> Float[Array, "*steps"]:
        elapsed, init, start = floats(since(step, 0), init_value, pct_start)
        end = float(transition_steps)
        share = jnp.clip((elapsed / end - start) / (1 - start), 0, 1)
        half = jnp.cos(math.pi / 2 * share) ** 2  # as in `cosine`
        return init * jnp.where(elapsed >= end, 0, half)

    return schedule
