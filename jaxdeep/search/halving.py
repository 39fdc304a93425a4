"""Successive halving: the points of a sweep that do worst end early."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdeep import _checks
from jaxdeep.train import monitors


class SuccessiveHalving(NamedTuple):
    """Give the points of a `jaxdeep.sweep` that do better more epochs.

    All run `first` epochs; the best 1/`factor` of the points (rounded down, at least one) go on to
    `factor` × `first`, the best of those to `factor`² × `first`, and so on up to ``epochs``. They go on
    from where they are: nothing is run twice. A point is worth the mean over its seeds, which go on or
    end together: of the last value evaluated or, where early stopping restores it, of the best epoch.
    A point with a run that diverged goes first; one that stopped early stays in the ranking.

    Attributes:
      first: epochs of all, ≥ 1.
      factor: ≥ 2.
      monitor, mode: as for `EarlyStopping`.

    Source: Jamieson & Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
    Optimization" (2016).

    >>> rungs(SuccessiveHalving(factor=3), epochs=20)
    [1, 3, 9, 20]
    """

    first: int = 1
    factor: int = 3
    monitor: str | None = None
    mode: str | None = None


def check(halving: Any) -> None:
    """Refuse what is not a `SuccessiveHalving`, or out of range."""
    if not isinstance(halving, SuccessiveHalving):
        raise TypeError(f"halving must be a jaxdeep.train.SuccessiveHalving, got {halving!r}")
    _checks.check_count("halving.first", halving.first)
    _checks.check_count("halving.factor", halving.factor, low=2)
    if halving.mode not in (None, "min", "max"):
        raise ValueError(f"halving.mode must be 'min', 'max' or None, got {halving.mode!r}")
    if halving.monitor is not None and not isinstance(halving.monitor, str):
        raise TypeError(f"halving.monitor must be the name of a metric, got {halving.monitor!r}")


def check_metrics(halving: SuccessiveHalving, metrics: Mapping[str, Any], validate_every: int) -> None:
    """Refuse a metric that runs with these scalars by name do not have when the first rung ends."""
    name, _ = monitors.resolve(halving, metrics)
    if name.startswith("val_") and halving.first < validate_every:
        raise ValueError(
            f"halving.first must be at least validate_every, {validate_every}, to know {name}, got "
            f"{halving.first}"
        )


def rungs(halving: SuccessiveHalving | None, epochs: int) -> list[int]:
    """Epochs done at the end of each rung."""
    if halving is None or halving.first >= epochs:
        return [epochs]
    ends = [halving.first]
    while ends[-1] * halving.factor < epochs:
        ends.append(ends[-1] * halving.factor)
    return [*ends, epochs]


def survivors(halving: SuccessiveHalving, values: Sequence[Sequence[float]], sign: float) -> list[int]:
    """Which points go on, best first.

    Args:
      halving: how many.
      values: for each point, the metric of its seeds; NaN for a run that diverged.
      sign: what makes smaller better.

    >>> survivors(SuccessiveHalving(factor=2), [[0.3], [float("nan")], [0.1], [0.2]], 1.0)
    [2, 3]
    """
    means = sign * np.array([np.mean(each) for each in values])
    order = np.argsort(np.where(np.isfinite(means), means, np.inf), kind="stable")
    return [int(i) for i in order[: max(1, len(order) // halving.factor)]]
