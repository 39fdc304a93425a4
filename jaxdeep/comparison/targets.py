"""Epochs and seconds to a target."""

import math
from typing import NamedTuple

import numpy as np

from jaxdeep.comparison.candidate import COLUMN
from jaxdeep.comparison.plan import Plan
from jaxdeep.comparison.protocol import Judged


class Arrival(NamedTuple):
    """When the final runs of a candidate reach the target on the validation rows.

    Attributes:
      target: the value of the metric.
      epochs_by_seed: ``(seeds,)`` the first epoch, from 1, at or beyond it; never is infinity.
      epochs: their median, between `low` and `high` (order statistics that hold it with 95 %).
      seconds: the median of the time until then, of the runs' own time, without compiling.
      share: of the runs that reach it at all.
    """

    target: float
    epochs_by_seed: np.ndarray
    epochs: float
    low: float
    high: float
    seconds: float
    share: float


def arrivals_of(plan: Plan, judged: Judged) -> dict[str, Arrival]:
    """The arrivals of each candidate that was trained.

    The target is the plan's, or the median of the first candidate's final values on the validation rows.
    """
    name, sign = f"val_{plan.metric}", 1 if plan.mode == "max" else -1
    by_candidate: dict[str, list[tuple[np.ndarray, float]]] = {}
    for point, result in zip(judged.final.points, judged.final.results):
        seconds = sum(span.end - span.begin for span in result.spans)
        history = np.asarray(result.history.get(name, np.zeros(0)), float)
        by_candidate.setdefault(point[COLUMN], []).append((history, seconds))
    if not by_candidate:
        return {}
    target = plan.target
    if target is None:
        first = next(iter(by_candidate.values()))
        ends = [history[-1] if len(history) else math.nan for history, _ in first]
        known = [end for end in ends if math.isfinite(end)]
        if not known:
            return {}
        target = float(np.median(known))
    return {candidate: _arrival(target, sign, runs) for candidate, runs in by_candidate.items()}


def _arrival(target: float, sign: int, runs: list[tuple[np.ndarray, float]]) -> Arrival:
    counts, seconds = [], []
    for history, took in runs:
        with np.errstate(invalid="ignore", over="ignore"):
            # metrics are float32, in which 0.7 is less than 0.7
            ahead = sign * (history.astype(np.float32) - np.float32(target))
            there = np.flatnonzero(ahead >= 0)
        epochs = there[0] + 1.0 if len(there) else math.inf
        counts.append(epochs)
        seconds.append(took * epochs / len(history) if len(there) else math.inf)
    reached = np.array(counts)
    low, high = median_interval(reached)
    share = float(np.mean(np.isfinite(reached)))
    return Arrival(target, reached, _median(reached), low, high, _median(np.array(seconds)), share)


def _median(values: np.ndarray) -> float:
    """The median, also of infinities: the larger of the two in the middle if one of them is one."""
    ordered = np.sort(values)
    middle = ordered[[(len(ordered) - 1) // 2, len(ordered) // 2]]
    return float(middle.mean()) if np.isfinite(middle).all() else math.inf


def median_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Two order statistics that hold the median with this probability, whatever the distribution.

    Of fewer than six values these are the smallest and the largest, which promise less.

    >>> median_interval(np.arange(1.0, 11.0))
    (2.0, 9.0)
    """
    from scipy.special import bdtr

    ordered, n = np.sort(values), len(values)
    # P(B ≤ k) of the binomial distribution of n coins, half of what may be left out
    cut = sum(1 for k in range(n // 2) if bdtr(k, n, 0.5) <= (1 - level) / 2)
    cut = max(cut, 1)
    return float(ordered[cut - 1]), float(ordered[n - cut])
