"""Warm restarts: a curve that begins anew, in longer and longer cycles."""

import math

import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, ArrayLike, Float, Num
from jaxdeep.schedules.steps import Schedule, floats, since

_SHORTEST, _LAST = 1.01, 1e18  # the beginnings of all cycles until then are a table of 4,000 at most


@remembered
def cosine_restarts(
    init_value: ArrayLike,
    first_decay_steps: int,
    *,
    t_mul: float = 2.0,
    m_mul: ArrayLike = 1.0,
    alpha: ArrayLike = 0.0,
) -> Schedule:
    """Half a cosine down again and again: ``f(t) = init ((1 − α) mⁱ ½ (1 + cos(π (t − bᵢ) / Tᵢ)) + α)``.

    Cycle i begins at ``bᵢ = T (rⁱ − 1) / (r − 1)`` and is ``Tᵢ = T rⁱ`` steps long. At its first step
    the value is the highest again.

    Args:
      init_value: value at the start.
      first_decay_steps: T, the steps of the first cycle.
      t_mul: r, how much longer each cycle is than the one before: 1, or 1.01 and more.
      m_mul: m ≥ 0, how much lower each cycle begins than the one before.
      alpha: the lowest value as a share of the first, in [0, 1].

    Raises:
      ValueError: a value out of range.

    Source: Loshchilov & Hutter, "SGDR" (arXiv:1608.03983); arguments and defaults are those of Keras'
    `CosineDecayRestarts`. PyTorch's `CosineAnnealingWarmRestarts` is the case ``m_mul=1``, with ``T_0``,
    ``T_mult`` (1 by default) and ``eta_min = alpha · init_value``.

    >>> schedule = cosine_restarts(0.1, first_decay_steps=10)
    >>> [round(float(schedule(t)), 3) for t in (0, 5, 9, 10, 20, 29, 30)]
    [0.1, 0.05, 0.002, 0.1, 0.05, 0.001, 0.1]
    """
    _checks.check_scalar("init_value", init_value, "(-inf, inf)")
    _checks.check_scalar("alpha", alpha, "[0, 1]")
    first = _checks.check_count("first_decay_steps", first_decay_steps)
    _checks.check_number("t_mul", t_mul, "[1, inf)")
    _checks.check_scalar("m_mul", m_mul, "[0, inf)")
    if 1 < t_mul < _SHORTEST:
        raise ValueError(f"t_mul must be 1 or at least {_SHORTEST}, got {t_mul}")
    begins = _beginnings(first, float(t_mul))

    def place(step: Num[Array, "*steps"]) -> tuple[Num[Array, "*steps"], Float[Array, "*steps"]]:
        """The number of the cycle, and the share of it that has passed."""
        whole = jnp.issubdtype(step.dtype, jnp.integer)
        if t_mul == 1 and whole and first > jnp.iinfo(step.dtype).max:  # a cycle that no step ends
            return jnp.zeros_like(step), jnp.divide(*floats(step, float(first)))
        if t_mul == 1:
            within, length = floats(step % first, first)
            return step // first, within / length
        reached = begins[1:]
        if whole:
            reached = np.ceil(reached)
            reached = reached[reached <= jnp.iinfo(step.dtype).max].astype(step.dtype)
        number = jnp.searchsorted(jnp.asarray(reached), step, side="right")
        elapsed, starts, ratio = floats(step, begins, t_mul)
        return number, (elapsed - starts[number]) / (float(first) * ratio**number)

    def schedule(step: Num[ArrayLike, "*steps"]) -> Float[Array, "*steps"]:
        number, passed = place(since(step, 0))
        share, init, lower, floor = floats(passed, init_value, m_mul, alpha)
        half = jnp.cos(math.pi / 2 * jnp.clip(share, 0, 1)) ** 2  # as in `cosine`
        return init * ((1 - floor) * lower**number * half + floor)

    return schedule


def _beginnings(first: int, ratio: float) -> np.ndarray:
    """The steps at which cycles begin, as far as they are below 10¹⁸."""
    if ratio == 1:
        return np.zeros(1)
    cycles = math.log1p((ratio - 1) * _LAST / first) / math.log(ratio)
    powers = ratio ** np.arange(max(1, math.floor(cycles)) + 1.0)
    return first * (powers - 1) / (ratio - 1)
