"""Successive halving, which ends the worst points of a sweep early."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxdeep import _checks
from jaxdeep.train import monitors


class SuccessiveHalving(NamedTuple):
    """Give more epochs to those points of a `jaxdeep.sweep` that do better.

    All points run `first` epochs. The best 1/`factor` of them (rounded down, at least one) go on to
    `factor` × `first` epochs, the best of those to `factor`² × `first`, and so on up to ``epochs``. They
    go on from where they are, so that nothing is run twice. Points are ranked by the mean over their
    seeds, which go on or end together. The value of a run is the last one evaluated or, where early
    stopping restores it, that of the best epoch. A point with a run that diverged ranks last and never
    goes on. A run that stopped early stays in the ranking.

    What ends early is judged by its first epochs. A learning rate schedule runs over all epochs, so that
    it is far from its end when a rung is ranked. Small learning rates, long warm-ups, strong decay and
    dropout look bad early and may win late. `Hyperband` is the insurance against that.

    Attributes:
      first: epochs that all points run, ≥ 1; more than a warm-up takes.
      factor: the best 1/`factor` of the points go on, ≥ 2.
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


class Halving(monitors.Watching, Protocol):
    """What gives more epochs to the better points: their number grows by `factor` from `first` on."""

    @property
    def first(self) -> int:
        """Epochs until points are first compared."""

    @property
    def factor(self) -> int:
        """The best 1/`factor` of the points go on."""


def check(halving: Any, *kinds: type) -> None:
    """Refuse anything but one of these kinds, by default `SuccessiveHalving`, with fields in range."""
    kinds = kinds or (SuccessiveHalving,)
    if not isinstance(halving, kinds):
        *others, last = (kind.__name__ for kind in kinds)
        names = f"{', '.join(others)} or {last}" if others else last
        raise TypeError(f"halving must be a jaxdeep.search.{names}, got {halving!r}")
    config: Any = halving
    _checks.check_count("halving.first", config.first)
    _checks.check_count("halving.factor", config.factor, low=2)
    monitors.check_watched("halving", config)


monitors.check_when_made(SuccessiveHalving, check)


def check_metrics(halving: Halving, metrics: Mapping[str, Any], validate_every: int) -> None:
    """Refuse a metric that is not among `metrics`, or not yet known when the first rung ends."""
    name, _ = monitors.resolve(halving, metrics)
    if name.startswith("val_") and halving.first < validate_every:
        raise ValueError(
            f"halving.first must be at least validate_every, {validate_every}, to know {name}, got "
            f"{halving.first}"
        )


def rungs(halving: Halving | None, epochs: int) -> list[int]:
    """The number of epochs done at the end of each rung."""
    if halving is None or halving.first >= epochs:
        return [epochs]
    ends, factor = [int(halving.first)], int(halving.factor)
    while ends[-1] * factor < epochs:
        ends.append(ends[-1] * factor)
    return [*ends, epochs]


def kept(points: int, factor: int) -> int:
    """How many of so many points go on: 1/`factor` of them, rounded down, at least one."""
    return max(1, points // int(factor))


def value_of(seeds: Sequence[float]) -> float:
    """The value of a point: the mean over its seeds, NaN if one of them is not finite.

    >>> value_of([0.25, 0.75]), value_of([0.25, float("-inf")])
    (0.5, nan)
    """
    values = np.asarray(seeds, float)
    with np.errstate(over="ignore"):
        return float(np.mean(values)) if np.isfinite(values).all() else math.nan


def survivors(halving: Halving, values: Sequence[Sequence[float]], sign: float) -> list[int]:
    """The indices of the points that go on, best first.

    A point whose value is not finite never goes on, so that fewer may go on than there is room for, and
    none if all of them diverged. Of equal points the first goes on.

    Args:
      halving: decides how many go on.
      values: for each point, the metric of its seeds; NaN for a run that diverged.
      sign: 1 if smaller values are better, −1 if larger ones are.

    >>> survivors(SuccessiveHalving(factor=2), [[0.3], [float("nan")], [0.1], [0.2]], 1.0)
    [2, 3]
    """
    means = [sign * value_of(seeds) for seeds in values]
    ranked = sorted((mean, i) for i, mean in enumerate(means) if math.isfinite(mean))
    return [i for _, i in ranked[: kept(len(means), halving.factor)]]
