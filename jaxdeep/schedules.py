"""Schedules: functions of the step, ``schedule(step) -> value``; step 0 is the first update.

A schedule is any such function, yours or optax's included; it goes wherever jaxdeep takes a
hyperparameter. Those here take Python numbers or traced arrays and run under ``jit`` and ``vmap``.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdeep import _checks

__all__ = [
    "constant",
    "cosine",
    "exponential",
    "join",
    "one_cycle",
    "one_cycle_momentum",
    "per_epoch",
    "piecewise_constant",
    "polynomial",
    "power",
    "warmup",
]


def __dir__() -> list[str]:
    return __all__


Schedule = Callable[[Any], Any]


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

    def schedule(step: ArrayLike) -> Any:
        return jnp.asarray(value, _float_type(step)) + jnp.zeros_like(step, _float_type(step))

    return schedule


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
    _checks.check_count("transition_steps", transition_steps)
    _checks.check_scalar("decay_rate", decay_rate, "[0, inf)")
    _checks.check_scalar("power", power, "[0, inf)")
    _checks.check_flag("staircase", staircase)

    def schedule(step: ArrayLike) -> Any:
        dtype = _float_type(step)
        times = jnp.asarray(step, dtype) / transition_steps
        if staircase:
            times = jnp.floor(times)
        rate, exponent = jnp.asarray(decay_rate, dtype), jnp.asarray(power, dtype)
        return jnp.asarray(init_value, dtype) / (1 + rate * times) ** exponent

    return schedule


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
    _checks.check_count("transition_steps", transition_steps)
    _checks.check_scalar("decay_rate", decay_rate, "(0, inf)")
    _checks.check_count("transition_begin", transition_begin, low=0)
    if end_value is not None:
        _checks.check_scalar("end_value", end_value, "(-inf, inf)")
    _checks.check_flag("staircase", staircase)

    def schedule(step: ArrayLike) -> Any:
        dtype = _float_type(step)
        elapsed = jnp.maximum(jnp.asarray(step) - transition_begin, 0).astype(dtype)
        times = elapsed / transition_steps
        if staircase:
            times = jnp.floor(times)
        rate = jnp.asarray(decay_rate, dtype)
        value = jnp.asarray(init_value, dtype) * rate**times
        if end_value is None:
            return value
        bound = jnp.asarray(end_value, dtype)
        return jnp.where(rate < 1, jnp.maximum(value, bound), jnp.minimum(value, bound))

    return schedule


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
    _check_boundaries(boundaries)
    _checks.check_sequence("values", values)
    for value in values:
        _checks.check_scalar("values", value, "(-inf, inf)")
    if any(b <= a for a, b in itertools.pairwise(boundaries)):
        raise ValueError(f"boundaries must increase, got {list(boundaries)}")
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"values must be one more than the {len(boundaries)} boundaries, got {len(values)}"
        )
    if side not in ("left", "right"):
        raise ValueError(f"side must be 'right' or 'left', got {side!r}")

    def schedule(step: ArrayLike) -> Any:
        table = jnp.stack([jnp.asarray(value, _float_type(step)) for value in values])
        return table[jnp.searchsorted(jnp.asarray(np.array(boundaries, int)), step, side=side)]

    return schedule


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
    `optax.polynomial_schedule`; power 1 is a straight line.

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
    _checks.check_scalar("init_value", init_value, "(-inf, inf)")
    _checks.check_scalar("end_value", end_value, "(-inf, inf)")
    _checks.check_scalar("power", power, "(0, inf)")
    _checks.check_count("transition_steps", transition_steps)
    _checks.check_count("transition_begin", transition_begin, low=0)
    _checks.check_flag("cycle", cycle)

    def schedule(step: ArrayLike) -> Any:
        dtype = _float_type(step)
        elapsed = jnp.maximum(jnp.asarray(step) - transition_begin, 0).astype(dtype)
        length = jnp.asarray(transition_steps, dtype)
        if cycle:
            length = length * jnp.maximum(jnp.ceil(elapsed / length), 1)
        left = 1 - jnp.minimum(elapsed / length, 1)
        init, end = jnp.asarray(init_value, dtype), jnp.asarray(end_value, dtype)
        return (init - end) * left ** jnp.asarray(power, dtype) + end

    return schedule


def cosine(
    init_value: ArrayLike, decay_steps: int, *, alpha: ArrayLike = 0.0, exponent: ArrayLike = 1.0
) -> Schedule:
    """Half a cosine down: ``f(t) = init · ((1 − α) · (½ (1 + cos(π t / T)))^exponent + α)``.

    Arguments and values are those of `optax.cosine_decay_schedule`; t is clipped to T. For a warm-up
    in front, see `warmup`.

    Args:
      init_value: value at the start.
      decay_steps: T.
      alpha: the last value as a share of the first.
      exponent: of the cosine, > 0.

    Raises:
      ValueError: a value out of range.

    Source: Loshchilov & Hutter, "SGDR" (arXiv:1608.03983).

    >>> schedule = cosine(0.1, decay_steps=10)
    >>> [round(float(schedule(t)), 3) for t in (0, 5, 10, 20)]
    [0.1, 0.05, 0.0, 0.0]
    """
    _checks.check_scalar("init_value", init_value, "(-inf, inf)")
    _checks.check_count("decay_steps", decay_steps)
    _checks.check_scalar("alpha", alpha, "(-inf, inf)")
    _checks.check_scalar("exponent", exponent, "(0, inf)")

    def schedule(step: ArrayLike) -> Any:
        dtype = _float_type(step)
        share = jnp.clip(jnp.asarray(step, dtype) / decay_steps, 0, 1)
        half = jnp.cos(math.pi / 2 * share) ** 2  # ½ (1 + cos πx) without its cancellation
        fall = half ** jnp.asarray(exponent, dtype)
        floor = jnp.asarray(alpha, dtype)
        return jnp.asarray(init_value, dtype) * ((1 - floor) * fall + floor)

    return schedule


def one_cycle(
    peak_value: ArrayLike,
    transition_steps: int,
    *,
    form: str | None = None,
    anneal: str | None = None,
    pct_start: float | None = None,
    pct_final: float | None = None,
    three_phase: bool = False,
    div_factor: ArrayLike | None = None,
    final_div_factor: ArrayLike | None = None,
) -> Schedule:
    """1cycle: up to the peak, down again, then a short drop to almost nothing.

    The curve joins ``(0, start)``, ``(a, peak)``, ``(b, start)`` and ``(end, last)``, where
    ``start = peak_value / div_factor`` and ``last = start / final_div_factor``, by straight lines (or by
    half cosines) and stays at its last value; with two phases there is no b. With T = transition_steps:

    ========== ======== ======================= ============== ======= ==== =======
    form       anneal   a                       b              end     div  final
    ========== ======== ======================= ============== ======= ==== =======
    "textbook" "linear" (T − (T // 10 + 1)) // 2  2a           T       10   1000
    "optax"    "linear" int(0.3 T)              int(0.85 T)    T       25   1e4
    "optax"    "cosine" int(0.3 T)              none           T       25   1e4
    "torch"    "cosine" 0.3 T − 1               none           T − 1   25   1e4
    ========== ======== ======================= ============== ======= ==== =======

    "torch" is PyTorch's `OneCycleLR`, whose three phases (``three_phase=True``) put b at 2a. (PyTorch
    rises again after its last step; this does not.)

    Args:
      peak_value: the highest value, reached at step a.
      transition_steps: T, the length of the cycle; at least 3.
      form: a row of the table; "textbook" by default, "optax" if `anneal` is "cosine".
      anneal: "linear" or "cosine"; by default as the form has it.
      pct_start, pct_final: shares of T for a and for b, in (0, 1], rounded down, in place of what the
        table has ("torch" does not round, and has no b of its own).
      three_phase: for "torch" only.
      div_factor: peak over start, > 0.
      final_div_factor: start over last, > 0.

    Raises:
      ValueError: a cycle shorter than 3 steps, an unknown form or anneal, shares that are not
        0 < pct_start < pct_final ≤ 1, or a factor ≤ 0.

    Source: Smith, "A disciplined approach to neural network hyper-parameters: Part 1"
    (arXiv:1803.09820); Géron, "Hands-On Machine Learning", chapter 11.

    >>> schedule = one_cycle(peak_value=0.1, transition_steps=100)
    >>> [round(float(schedule(t)), 6) for t in (0, 44, 88, 100, 200)]
    [0.01, 0.1, 0.01, 1e-05, 1e-05]
    """
    _checks.check_scalar("peak_value", peak_value, "(-inf, inf)")
    form, anneal = _cycle_form(form, anneal)
    steps = _cycle_steps(transition_steps, form, anneal, pct_start, pct_final, three_phase)
    if div_factor is None:
        div_factor = 10.0 if form == "textbook" else 25.0
    if final_div_factor is None:
        final_div_factor = 1000.0 if form == "textbook" else 1e4
    _checks.check_scalar("div_factor", div_factor, "(0, inf)")
    _checks.check_scalar("final_div_factor", final_div_factor, "(0, inf)")

    def schedule(step: ArrayLike) -> Any:
        dtype = _float_type(step)
        peak = jnp.asarray(peak_value, dtype)
        start = peak / jnp.asarray(div_factor, dtype)
        last = start / jnp.asarray(final_div_factor, dtype)
        values = (start, peak, start, last) if len(steps) == 4 else (start, peak, last)
        return _join_corners(jnp.asarray(step, dtype), steps, values, anneal)

    return schedule


def one_cycle_momentum(
    transition_steps: int,
    *,
    high: ArrayLike = 0.95,
    low: ArrayLike = 0.85,
    form: str | None = None,
    anneal: str | None = None,
    pct_start: float | None = None,
    pct_final: float | None = None,
    three_phase: bool = False,
) -> Schedule:
    """The momentum of 1cycle: `high` to `low` while the rate rises, back while it falls.

    Lines (or half cosines) through ``(0, high)``, ``(a, low)``, ``(b, high)``, with the a and b of
    `one_cycle` with the same arguments (with two phases the end for b); then it stays `high`.

    Args:
      transition_steps: length of the cycle, as for `one_cycle`.
      high, low: the two momenta.
      form, anneal, pct_start, pct_final, three_phase: as for `one_cycle`.

    Raises:
      ValueError: as `one_cycle`.

    Source: as `one_cycle`; PyTorch's `OneCycleLR` has the same end values.

    >>> momentum = one_cycle_momentum(100)
    >>> [round(float(momentum(t)), 3) for t in (0, 44, 88, 100)]
    [0.95, 0.85, 0.95, 0.95]
    """
    _checks.check_scalar("high", high, "[0, 1)")
    _checks.check_scalar("low", low, "[0, 1)")
    form, anneal = _cycle_form(form, anneal)
    steps = _cycle_steps(transition_steps, form, anneal, pct_start, pct_final, three_phase)

    def schedule(step: ArrayLike) -> Any:
        dtype = _float_type(step)
        top, bottom = jnp.asarray(high, dtype), jnp.asarray(low, dtype)
        values = (top, bottom, *[top] * (len(steps) - 2))
        return _join_corners(jnp.asarray(step, dtype), steps, values, anneal)

    return schedule


def warmup(schedule: Schedule, steps: int, *, init_value: ArrayLike = 0.0) -> Schedule:
    """A straight line in front of a schedule: from `init_value` to ``schedule(0)`` in `steps` steps.

    ``f(t) = init + (schedule(0) − init) · t / steps`` for t < steps, then ``schedule(t − steps)``. In
    front of `constant`, `cosine` and `exponential` it is optax' ``warmup_…`` schedules.

    Args:
      schedule: what follows.
      steps: length of the warm-up, at least 1.
      init_value: value at step 0.

    Raises:
      TypeError: a `schedule` that is not a function. ValueError: `steps` below 1.

    Source: Goyal et al. (arXiv:1706.02677), section 2.2; `optax.warmup_constant_schedule`.

    >>> schedule = warmup(constant(0.1), steps=10)
    >>> [round(float(schedule(t)), 3) for t in (0, 5, 10, 50)]
    [0.0, 0.05, 0.1, 0.1]
    """
    _check_schedule("schedule", schedule)
    _checks.check_count("steps", steps)
    _checks.check_scalar("init_value", init_value, "(-inf, inf)")

    def warmed(step: ArrayLike) -> Any:
        dtype = _float_type(step)
        begin, end = jnp.asarray(init_value, dtype), jnp.asarray(schedule(0), dtype)
        line = begin + (end - begin) * (jnp.asarray(step, dtype) / steps)
        after = jnp.asarray(schedule(jnp.maximum(jnp.asarray(step) - steps, 0)), dtype)
        return jnp.where(jnp.asarray(step) < steps, line, after)

    return warmed


def join(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """Schedules one after another, from their starts: ``f(t) = schedules[i](t − boundaries[i − 1])``.

    i is the number of boundaries that are ≤ t, and the first schedule counts from 0.

    Args:
      schedules: at least one.
      boundaries: the steps, increasing, at which the second and later ones begin.

    Raises:
      ValueError: another number of boundaries than one less than the schedules, or not increasing.
      TypeError: a schedule that is not a function.

    Source: `optax.join_schedules`.

    >>> schedule = join([constant(0.1), constant(0.01)], [30])
    >>> [round(float(schedule(t)), 3) for t in (29, 30)]
    [0.1, 0.01]
    """
    _checks.check_sequence("schedules", schedules)
    for schedule in schedules:
        _check_schedule("schedules", schedule)
    _check_boundaries(boundaries)
    if len(boundaries) != len(schedules) - 1 or any(b <= a for a, b in itertools.pairwise(boundaries)):
        raise ValueError(
            f"join needs increasing boundaries, one less than the {len(schedules)} schedules; got "
            f"{list(boundaries)}"
        )

    def joined(step: ArrayLike) -> Any:
        step = jnp.asarray(step)
        value = jnp.asarray(schedules[0](step), _float_type(step))
        for schedule, boundary in zip(schedules[1:], boundaries):
            after = schedule(jnp.maximum(step - boundary, 0))
            value = jnp.where(step < boundary, value, after)
        return value

    return joined


def per_epoch(schedule: Schedule, steps_per_epoch: int) -> Schedule:
    """A schedule of epochs as one of steps: ``f(t) = schedule(t // steps_per_epoch)``.

    Args:
      schedule: function of the epoch, the first of which is 0.
      steps_per_epoch: updates in an epoch, at least 1.

    Raises:
      TypeError: a `schedule` that is not a function. ValueError: `steps_per_epoch` below 1.

    Source: Keras' and PyTorch's schedulers, which step by the epoch.

    >>> schedule = per_epoch(exponential(0.1, 1, 0.5), steps_per_epoch=100)
    >>> [round(float(schedule(t)), 3) for t in (0, 99, 100, 250)]
    [0.1, 0.1, 0.05, 0.025]
    """
    _check_schedule("schedule", schedule)
    _checks.check_count("steps_per_epoch", steps_per_epoch)
    return lambda step: schedule(jnp.asarray(step) // steps_per_epoch)


def _check_boundaries(boundaries: Any) -> None:
    _checks.check_sequence("boundaries", boundaries)
    for boundary in boundaries:
        _checks.check_count("boundaries", boundary, low=0)
        if boundary >= 2**31:
            raise ValueError(f"boundaries must be steps below 2**31, got {boundary}")


def _check_schedule(name: str, schedule: Any) -> None:
    if not callable(schedule):
        raise TypeError(f"{name} must be a function step -> value, got {schedule!r}")


def _cycle_form(form: str | None, anneal: str | None) -> tuple[str, str]:
    if form is None:
        form = "optax" if anneal == "cosine" else "textbook"
    if form not in ("textbook", "optax", "torch"):
        raise ValueError(f"form must be 'textbook', 'optax' or 'torch', got {form!r}")
    if anneal is None:
        anneal = "cosine" if form == "torch" else "linear"
    if anneal not in ("linear", "cosine"):
        raise ValueError(f"anneal must be 'linear' or 'cosine', got {anneal!r}")
    return form, anneal


def _cycle_steps(
    total: int,
    form: str,
    anneal: str,
    pct_start: float | None,
    pct_final: float | None,
    three_phase: bool,
) -> tuple[float, ...]:
    """The steps of the corners: four of them, or three if there are two phases."""
    _checks.check_count("transition_steps", total, low=3)
    _checks.check_flag("three_phase", three_phase)
    for name, share in (("pct_start", pct_start), ("pct_final", pct_final)):
        if share is not None:
            _checks.check_number(name, share, "(0, 1]")
    if form != "torch" and three_phase:
        raise ValueError(f"three_phase is of form='torch', got form={form!r}")
    if form == "torch" and pct_final is not None:
        raise ValueError("pct_final is not of form='torch', whose phases follow from pct_start")
    peak = int((0.3 if pct_start is None else pct_start) * total)
    final = int((0.85 if pct_final is None else pct_final) * total)
    steps: tuple[float, ...] = (0, peak, final, total)
    if form == "torch":
        peak_at = (0.3 if pct_start is None else pct_start) * total - 1
        steps = (0, peak_at, 2 * peak_at, total - 1) if three_phase else (0, peak_at, total - 1)
    elif form == "textbook":
        if pct_start is None:
            peak = (total - (total // 10 + 1)) // 2
        steps = (0, peak, 2 * peak if pct_final is None else final, total)
    elif anneal == "cosine" and pct_final is None:
        steps = (0, peak, total)
    if form != "torch" and (
        steps[1] > steps[-2] or steps[-2] > total or (pct_start or 0) >= (pct_final or 1)
    ):
        raise ValueError(
            f"one_cycle needs 0 < pct_start < pct_final <= 1, got pct_start={pct_start}, "
            f"pct_final={pct_final}: phases of transition_steps={total} would end at {steps[1:]}"
        )
    if form == "torch" and any(b <= a for a, b in itertools.pairwise(steps)):
        raise ValueError(f"transition_steps={total} leaves no room for phases that end at {steps[1:]}")
    return steps


def _join_corners(step: Any, steps: Sequence[float], values: Sequence[Any], anneal: str) -> Any:
    """Lines (or half cosines) from corner to corner, exact at the corners, flat outside."""
    value = values[0] + jnp.zeros_like(step)
    for (begin, low), (end, high) in itertools.pairwise(zip(steps, values)):
        share = jnp.clip((step - begin) / (end - begin if end > begin else 1), 0, 1)
        if anneal == "cosine":
            share = jnp.sin(math.pi / 2 * share) ** 2
        value = jnp.where(step > begin, low * (1 - share) + high * share, value)
    return value


def _float_type(step: ArrayLike) -> Any:
    # float32, or float64 with x64 on; a float step (an interpolated one) keeps its own type.
    return jnp.promote_types(jnp.result_type(float), jnp.result_type(step))
