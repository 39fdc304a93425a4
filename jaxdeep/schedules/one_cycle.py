"""The 1cycle policy: up to a peak and down again, for the learning rate and against it the momentum."""

import itertools
import math
from collections.abc import Sequence

import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, ArrayLike, Float, Num
from jaxdeep.schedules.steps import Schedule, between, floats


@remembered
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
    form, anneal, steps = _cycle(transition_steps, form, anneal, pct_start, pct_final, three_phase)
    if div_factor is None:
        div_factor = 10.0 if form == "textbook" else 25.0
    if final_div_factor is None:
        final_div_factor = 1000.0 if form == "textbook" else 1e4
    _checks.check_scalars("(0, inf)", div_factor=div_factor, final_div_factor=final_div_factor)

    def schedule(step: Num[ArrayLike, "*steps"]) -> Float[Array, "*steps"]:
        step, peak, factor, final_factor = floats(step, peak_value, div_factor, final_div_factor)
        start = peak / factor
        last = start / final_factor
        values = (start, peak, start, last) if len(steps) == 4 else (start, peak, last)
        return _join_corners(step, steps, values, anneal)

    return schedule


@remembered
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
    _checks.check_scalars("[0, 1)", high=high, low=low)
    _, anneal, steps = _cycle(transition_steps, form, anneal, pct_start, pct_final, three_phase)

    def schedule(step: Num[ArrayLike, "*steps"]) -> Float[Array, "*steps"]:
        step, top, bottom = floats(step, high, low)
        values = (top, bottom, *[top] * (len(steps) - 2))
        return _join_corners(step, steps, values, anneal)

    return schedule


def _cycle(
    total: int,
    form: str | None,
    anneal: str | None,
    pct_start: float | None,
    pct_final: float | None,
    three_phase: bool,
) -> tuple[str, str, tuple[float, ...]]:
    """Form and anneal in force, and the steps of the corners: four, or three if there are two phases."""
    if form is None:
        form = "optax" if anneal == "cosine" else "textbook"
    _checks.check_choice("form", form, ("textbook", "optax", "torch"))
    if anneal is None:
        anneal = "cosine" if form == "torch" else "linear"
    _checks.check_choice("anneal", anneal, ("linear", "cosine"))
    total = _checks.check_count("transition_steps", total, low=3)
    _checks.check_flag("three_phase", three_phase)
    for name, share in (("pct_start", pct_start), ("pct_final", pct_final)):
        if share is not None:
            _checks.check_number(name, share, "(0, 1]")
    if form == "torch":
        if pct_final is not None:
            raise ValueError("pct_final is not of form='torch', whose phases follow from pct_start")
        top = (0.3 if pct_start is None else pct_start) * total - 1
        steps = (0, top, 2 * top, total - 1) if three_phase else (0, top, total - 1)
        if any(b <= a for a, b in itertools.pairwise(steps)):
            raise ValueError(
                f"transition_steps={total} leaves no room for phases that end at {steps[1:]}"
            )
        return form, anneal, steps
    if three_phase:
        raise ValueError(f"three_phase is of form='torch', got form={form!r}")
    if pct_start is None and form == "textbook":
        peak = (total - (total // 10 + 1)) // 2
    else:
        peak = int((0.3 if pct_start is None else pct_start) * total)
    if pct_final is not None:
        lows: tuple[int, ...] = (int(pct_final * total), total)
    elif form == "textbook":
        lows = (2 * peak, total)
    else:
        lows = (total,) if anneal == "cosine" else (int(0.85 * total), total)
    if not peak <= lows[0] <= total or (pct_start or 0) >= (pct_final or 1):
        raise ValueError(
            f"one_cycle needs 0 < pct_start < pct_final <= 1, got pct_start={pct_start}, "
            f"pct_final={pct_final}: phases of transition_steps={total} would end at {(peak, *lows)}"
        )
    return form, anneal, (0, peak, *lows)


def _join_corners(
    step: Array, steps: Sequence[float], values: Sequence[Array], anneal: str
) -> Float[Array, "..."]:
    """Lines (or half cosines) from corner to corner, exact at the corners, flat outside."""
    value = values[0] + jnp.zeros_like(step)
    for (begin, low), (end, high) in itertools.pairwise(zip(steps, values)):
        length = float(end - begin if end > begin else 1)
        share = jnp.clip((step - float(begin)) / length, 0, 1)
        if anneal == "cosine":
            share = jnp.sin(math.pi / 2 * share) ** 2
        value = jnp.where(step > float(begin), between(low, high, share), value)
    return value
