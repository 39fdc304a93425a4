"""What a metric says of each run of a sweep, or of each point over its runs."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdeep.search.spaces.values import RESERVED, word
from jaxdeep.search.tables.result import FULL, INCOMPLETE, Result

Point = Mapping[str, Any]

# The endings of a point's runs, of which the first that one of them has is the point's.
_FIRST = ("diverged", "error", "interrupted", INCOMPLETE, "halved", "stopped", "finished")


class Standing(NamedTuple):
    """What a metric says of a run, or of all runs of a point.

    Attributes:
      point: the hyperparameters.
      value: the metric at the end, for a point its mean.
      ended: how the run ended. A point has the ending of the run with which it went worst:
        "diverged", "error", "interrupted", "incomplete" (it lacks seeds or folds that others have),
        "halved", "stopped" or "finished".
      rows: the indices of the runs.
    """

    point: dict[str, Any]
    value: float
    ended: str
    rows: tuple[int, ...]

    @property
    def full(self) -> bool:
        """Whether all runs of the point went to their ends with a finite value."""
        return self.ended in FULL and math.isfinite(self.value)

    @property
    def failed(self) -> bool:
        """Whether the point counts as the worst: a run diverged, or its last value is not finite."""
        return self.ended == "diverged" or (self.ended in FULL and not self.full)


def together(points: Sequence[Point]) -> list[list[int]]:
    """The indices of the rows of each point, whatever their seeds and folds.

    A point that was given twice is two points: its seeds begin again.

    >>> together([{"rate": rate, "seed": seed} for rate in (0.1, 0.2) for seed in (0, 1)])
    [[0, 1], [2, 3]]
    """
    groups: list[list[int]] = []
    latest: dict[Hashable, tuple[list[int], set[Hashable]]] = {}
    for i, point in enumerate(points):
        free = {name: value for name, value in point.items() if name not in RESERVED}
        key = frozenset((name, word(value)) for name, value in free.items())
        run = _run(point)
        if key not in latest or run in latest[key][1]:
            latest[key] = [], set()
            groups.append(latest[key][0])
        latest[key][0].append(i)
        latest[key][1].add(run)
    return groups


def standings(
    points: Sequence[Point], results: Sequence[Result], metric: str, *, over_seeds: bool
) -> list[Standing]:
    """The standing of each row or, over seeds (and folds), of each point in the order of `together`."""
    values = [result.at_end(metric) for result in results]
    runs = {_run(point) for point in points}
    every = []
    for rows in together(points) if over_seeds else [[i] for i in range(len(points))]:
        endings = {results[i].ended for i in rows}
        if over_seeds and {_run(points[i]) for i in rows} != runs:
            endings.add(INCOMPLETE)
        ended = min(endings, key=_FIRST.index)
        free = {name: value for name, value in points[rows[0]].items() if name not in RESERVED}
        every.append(Standing(free, mean([values[i] for i in rows]), ended, tuple(rows)))
    return every


def mean(values: Sequence[float]) -> float:
    """The mean, without a warning where it is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.mean(values))


def counted(standings: Sequence[Standing]) -> str:
    """How many standings are not full, by how they ended.

    >>> counted([Standing({}, 1.0, "halved", (0,)), Standing({}, np.nan, "diverged", (1,))])
    '1 diverged, 1 halved'
    """
    why = Counter(s.ended if s.ended not in FULL else "not finite" for s in standings if not s.full)
    return ", ".join(f"{why[name]} {name}" for name in sorted(why))


def _run(point: Point) -> Hashable:
    return tuple(word(point.get(name)) for name in RESERVED)
