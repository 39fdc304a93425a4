"""The runs of a comparison by candidate: its trials, and its final runs seed by seed."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdeep.comparison.candidate import COLUMN
from jaxdeep.comparison.record import Record
from jaxdeep.comparison.report import looks
from jaxdeep.comparison.report.numbers import brief, shown
from jaxdeep.search.spaces.values import words
from jaxdeep.search.tables.result import FULL, Result
from jaxdeep.search.tables.table import Table


class Trial(NamedTuple):
    """A trial of the tuning.

    Attributes:
      number: among those of its candidate, from 1.
      point: its hyperparameters.
      value: the metric on the validation rows at its end; NaN if it has none that counts.
      ended: how it ended.
      chosen: whether it is the one that was trained anew.
    """

    number: int
    point: Mapping[str, Any]
    value: float
    ended: str
    chosen: bool

    @property
    def hover(self) -> str:
        """What plotly says of it: its value and each hyperparameter, a line each."""
        value = shown(self.value) if math.isfinite(self.value) else self.ended
        lines = [f"trial {self.number}: {value}"]
        lines += [f"{name} {brief(one)}" for name, one in self.point.items()]
        return "<br>".join(looks.plain(line, 60) for line in lines)

    @property
    def failed(self) -> bool:
        """Whether it counts as worse than any value."""
        return self.ended == "diverged" or (self.ended in FULL and not math.isfinite(self.value))


def trials_of(answer: Record) -> dict[str, list[Trial]]:
    """The trials of each candidate, in the order in which they were drawn."""
    metric = f"val_{answer.metric}"
    by_name = {}
    for name, results in by_candidate(answer, answer.tuning).items():
        points = [bare(point) for point, _ in results]
        chosen = words(sorted(answer.chosen[name].items())) if name in answer.chosen else None
        by_name[name] = [
            Trial(
                number=i + 1,
                point=point,
                value=result.value(metric) if result.full else math.nan,
                ended=result.ended,
                chosen=words(sorted(point.items())) == chosen,
            )
            for i, (point, (_, result)) in enumerate(zip(points, results))
        ]
    return by_name


def by_candidate(answer: Record, table: Table) -> dict[str, list[tuple[Mapping[str, Any], Result]]]:
    """Points and results of each candidate, in the order in which candidates were given."""
    by_name: dict[str, list[tuple[Mapping[str, Any], Result]]] = {name: [] for name in names_of(answer)}
    for point, result in zip(table.points, table.results):
        by_name[point[COLUMN]].append((point, result))
    return by_name


def names_of(answer: Record) -> list[str]:
    """The candidates, as they were given: their numbers are their looks."""
    return list(answer.plan.candidates)


def bare(point: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters of a point."""
    return {name: value for name, value in point.items() if name not in (COLUMN, "seed")}


def lost(answer: Record, name: str) -> np.ndarray:
    """``(seeds,)`` whether a final run of a candidate diverged."""
    return ~np.isfinite(answer.test[name][answer.metric])
