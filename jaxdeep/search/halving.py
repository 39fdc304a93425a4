"""Successive halving, which ends the worst points of a sweep early."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdeep import _checks
from jaxdeep.train import monitors


class SuccessiveHalving(NamedTuple):
    """Give more epochs to those points of a `jaxdeep.sweep` that do better.

    All points run `first` epochs. The best 1/`factor` of them (rounded down, at least one) go on to
    `factor` × `first` epochs, the best of those to `factor`² × `first`, and so on up to ``epochs``. They
    go on from where they are, so that nothing is run twice. Points are ranked by the mean over their
    seeds, which go on or end together. The value of a run is the last one evaluated or, where early
    stopping restores it, that of the best epoch. A point with a run that diverged ranks last. A run that
    stopped early stays in the ranking.

    Attributes:
      first: epochs that all points run, ≥ 1.
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


def check(halving: Any) -> None:
    """Refuse anything but a `SuccessiveHalving` with fields in range."""
    if not isinstance(halving, SuccessiveHalving):
        raise TypeError(f"halving must be a jaxdeep.search.SuccessiveHalving, got {halving!r}")
    _checks.check_count("halving.first", halving.first)
    _checks.check_count("halving.factor", halving.factor, low=2)
    monitors.check_watched("halving", halving)


def check_metrics(halving: SuccessiveHalving, metrics: Mapping[str, Any], validate_every: int) -> None:
    """Refuse a metric that is not among `metrics`, or not yet known when the first rung ends."""
    name, _ = monitors.resolve(halving, metrics)
    if name.startswith("val_") and halving.first < validate_every:
        raise ValueError(
            f"halving.first must be at least validate_every, {validate_every}, to know {name}, got "
            f"{halving.first}"
        )


def rungs(halving: SuccessiveHalving | None, epochs: int) -> list[int]:
    """The number of epochs done at the end of each rung."""
    if halving is None or halving.first >= epochs:
        return [epochs]
    ends, factor = [int(halving.first)], int(halving.factor)
    while ends[-1] * factor < epochs:
        ends.append(ends[-1] * factor)
    return [*ends, epochs]


def survivors(halving: SuccessiveHalving, values: Sequence[Sequence[float]], sign: float) -> list[int]:
    """The indices of the points that go on, best first.

    Args:
      halving: decides how many go on.
      values: for each point, the metric of its seeds; NaN for a run that diverged.
      sign: 1 if smaller values are better, −1 if larger ones are.

    >>> survivors(SuccessiveHalving(factor=2), [[0.3], [float("nan")], [0.1], [0.2]], 1.0)
    [2, 3]
    """
    means = sign * np.array([np.mean(seeds) for seeds in values])
    order = np.argsort(np.where(np.isfinite(means), means, np.inf), kind="stable")
    return [int(i) for i in order[: max(1, len(order) // int(halving.factor))]]
