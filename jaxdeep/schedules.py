"""Schedules: functions of the step, ``schedule(step) -> value``; step 0 is the first update.

A schedule is any such function, yours or optax's included; it goes wherever jaxdeep takes a
hyperparameter. Those here take Python numbers or traced arrays and run under ``jit`` and ``vmap``.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdeep import _checks

Schedule = Callable[[Any], Any]


def constant(value: ArrayLike) -> Schedule:
    """The same value at every step: ``f(t) = value``.

    Args:
      value: the value; a number or a scalar array.

    >>> float(constant(0.5)(100))
    0.5
    """
    _checks.check_scalar("value", value, "(-inf, inf)")

    def schedule(step: ArrayLike) -> Any:
        return jnp.asarray(value, _float_type(step)) + jnp.zeros_like(step, _float_type(step))

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

    def schedule(step: ArrayLike) -> Any:
        dtype = _float_type(step)
        elapsed = jnp.maximum(jnp.asarray(step, dtype) - transition_begin, 0)
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


def one_cycle(
    peak_value: ArrayLike,
    transition_steps: int,
    *,
    pct_start: float | None = None,
    pct_final: float | None = None,
    div_factor: ArrayLike = 10.0,
    final_div_factor: ArrayLike = 1000.0,
) -> Schedule:
    """1cycle, linear: up to the peak, down again, then a short drop to almost nothing.

    With ``start = peak_value / div_factor`` the curve joins ``(0, start)``, ``(a, peak_value)``,
    ``(b, start)`` and ``(transition_steps, start / final_div_factor)`` by straight lines, and
    stays at its last value. By default ``a = (T − (T // 10 + 1)) // 2`` and ``b = 2a`` with
    ``T = transition_steps``: the textbook's two equal halves and a tail of about a tenth.

    Args:
      peak_value: the highest value, reached at step a.
      transition_steps: T, the length of the whole cycle in steps; at least 3.
      pct_start: ``a = int(pct_start · T)``, as in `optax.linear_onecycle_schedule`
        (whose defaults are 0.3, 0.85, 25 and 1e4).
      pct_final: ``b = int(pct_final · T)``.
      div_factor: peak over start, > 0.
      final_div_factor: start over the last value, > 0.

    Raises:
      ValueError: a cycle shorter than 3 steps, fractions that are not
        0 < pct_start < pct_final ≤ 1, only one of the two given, or a factor ≤ 0.

    Source: Smith, "A disciplined approach to neural network hyper-parameters: Part 1"
    (arXiv:1803.09820); Géron, "Hands-On Machine Learning", chapter 11.

    >>> schedule = one_cycle(peak_value=0.1, transition_steps=100)
    >>> [round(float(schedule(t)), 6) for t in (0, 44, 88, 100, 200)]
    [0.01, 0.1, 0.01, 1e-05, 1e-05]
    """
    _checks.check_scalar("peak_value", peak_value, "(-inf, inf)")
    _checks.check_count("transition_steps", transition_steps, low=3)
    _checks.check_scalar("div_factor", div_factor, "(0, inf)")
    _checks.check_scalar("final_div_factor", final_div_factor, "(0, inf)")
    if (pct_start is None) != (pct_final is None):
        raise ValueError(
            "pct_start and pct_final go together: give both, or neither for the textbook's "
            f"halves; got pct_start={pct_start}, pct_final={pct_final}"
        )
    if pct_start is None or pct_final is None:
        rise = (transition_steps - (transition_steps // 10 + 1)) // 2
        fall = 2 * rise
    else:
        if not 0 < pct_start < pct_final <= 1:
            raise ValueError(
                "one_cycle needs 0 < pct_start < pct_final <= 1, got "
                f"pct_start={pct_start}, pct_final={pct_final}"
            )
        rise, fall = int(pct_start * transition_steps), int(pct_final * transition_steps)

    def schedule(step: ArrayLike) -> Any:
        dtype = _float_type(step)
        peak = jnp.asarray(peak_value, dtype)
        start = peak / jnp.asarray(div_factor, dtype)
        last = start / jnp.asarray(final_div_factor, dtype)
        corners = ((0, start), (rise, peak), (fall, start), (transition_steps, last))
        return _piecewise_linear(jnp.asarray(step, dtype), corners)

    return schedule


def _piecewise_linear(step: Any, corners: Sequence[tuple[int, Any]]) -> Any:
    """Straight lines from corner to corner ``(step, value)``, exact at the corners, flat outside."""
    value = corners[0][1] + jnp.zeros_like(step)
    for (begin, low), (end, high) in itertools.pairwise(corners):
        share = jnp.clip((step - begin) / max(end - begin, 1), 0, 1)
        value = jnp.where(step > begin, low * (1 - share) + high * share, value)
    return value


def _float_type(step: ArrayLike) -> Any:
    # float32, or float64 with x64 on; a float step (an interpolated one) keeps its own type.
    return jnp.promote_types(jnp.result_type(float), jnp.result_type(step))
