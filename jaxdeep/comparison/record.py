"""`Record`, what a comparison found: the fields of `jaxdeep.comparison.Comparison`, which says more."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdeep.comparison.candidate import COLUMN
from jaxdeep.comparison.pairs import Pair
from jaxdeep.comparison.plan import Plan
from jaxdeep.comparison.statistics import bca_interval, t_interval
from jaxdeep.comparison.targets import Arrival
from jaxdeep.comparison.tolerance import Tolerance
from jaxdeep.search.tables.table import Table, TableRow

_FEW = 20  # seeds below which a bootstrap covers less than it promises


@dataclasses.dataclass(frozen=True)
class Record:
    """What `jaxdeep.compare` found."""

    metric: str
    mode: str
    verdict: str
    winners: tuple[str, ...]
    order: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    diverged: Mapping[str, int]
    pairs: tuple[Pair, ...] = dataclasses.field(repr=False)
    chosen: Mapping[str, Mapping[str, Any]]
    tuning: Table = dataclasses.field(repr=False)
    final: Table = dataclasses.field(repr=False)
    test: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(repr=False)
    arrivals: Mapping[str, Arrival] = dataclasses.field(repr=False)
    tolerances: Mapping[str, Tolerance] = dataclasses.field(repr=False)
    cautions: tuple[str, ...]
    about: Mapping[str, Any] = dataclasses.field(repr=False)
    plan: Plan = dataclasses.field(repr=False)

    def rows(self) -> list[TableRow]:
        """A dict for each candidate, the best first: what the table and the report show.

        "mean", "low" and "high" are of the test rows, the bounds by Student's t; from 20 seeds on
        "bca_low" and "bca_high" stand beside them. "seeds", "diverged"; "epochs" trained for tuning and
        for the final runs, "seconds" of both; "p", adjusted, and "difference" to the best; the chosen
        "hyperparameters"; "target_epochs" and "target_seconds" to the target, medians, and
        "target_share" of the seeds that reached it; "decades" of learning rate and "share" of trials
        within 1 % of the best.
        """
        return [self._row(name) for name in self.order]

    def best(self) -> tuple[str, int]:
        """The first candidate of `order`, and the seed of its run that is best on the validation rows.

        ``answer.trained(*answer.best())`` is its model.

        Raises:
          ValueError: no candidate could be trained.
        """
        if not self.winners:
            raise ValueError("none of the candidates could be trained")
        name = self.order[0]
        sign = 1 if self.mode == "max" else -1
        values = {
            point["seed"]: sign * result.value(f"val_{self.metric}")
            for point, result in zip(self.final.points, self.final.results)
            if point[COLUMN] == name and result.full
        }
        rank = {seed: v if np.isfinite(v) else -np.inf for seed, v in values.items()}
        return name, max(rank, key=lambda seed: (rank[seed], -seed))

    def trained(self, name: str, seed: int) -> tuple[Any, Any, Any]:
        """Model, parameters and state of a final run: ``jd.save("best", *answer.trained("adam", 0))``.

        Raises:
          ValueError: there is no such run, or it ended with an error.
        """
        for row, point in enumerate(self.final.points):
            if (point[COLUMN], point["seed"]) == (name, seed):
                return self.plan.arguments(point)["model"], *self.final.trained(row)
        raise ValueError(
            f"there is no final run of {name!r} with seed {seed!r}; there are those of "
            f"{', '.join(self.values)} with seeds 0 to {self.about['seeds'] - 1}"
        )

    def _row(self, name: str) -> TableRow:
        by_seed = self.values.get(name)
        row: TableRow = {"candidate": name, "mean": np.nan, "low": np.nan, "high": np.nan}
        row |= {"seeds": 0, "diverged": self.diverged.get(name, 0)}
        if by_seed is not None:
            low, high = t_interval(by_seed, level=self.about["level"])
            row |= {"mean": float(by_seed.mean()), "low": low, "high": high, "seeds": len(by_seed)}
            if len(by_seed) >= _FEW:
                bca = bca_interval(by_seed, level=self.about["level"])
                row |= {"bca_low": bca[0], "bca_high": bca[1]}
        row |= {"difference": np.nan, "p": np.nan}
        for pair in self.pairs:
            if pair.better == self.order[0] and pair.worse == name:
                row |= {"difference": pair.difference, "p": pair.adjusted}
        row["hyperparameters"] = dict(self.chosen.get(name, {}))
        row |= self._cost(name)
        if (arrival := self.arrivals.get(name)) is not None:
            row |= {
                "target_epochs": arrival.epochs,
                "target_seconds": arrival.seconds,
                "target_share": arrival.share,
            }
        if (tolerance := self.tolerances.get(name)) is not None:
            row |= {"decades": tolerance.decades, "share": tolerance.share}
        return row

    def _cost(self, name: str) -> TableRow:
        every = [
            result
            for table in (self.tuning, self.final)
            for point, result in zip(table.points, table.results)
            if point[COLUMN] == name
        ]
        seconds = sum(span.end - span.begin for result in every for span in result.spans)
        return {"epochs": sum(result.epochs for result in every), "seconds": seconds}
