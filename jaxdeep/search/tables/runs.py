"""`Runs`, the rows of a `jaxdeep.search.Table`: points, results and methods that compare them."""

import dataclasses
import functools
from collections.abc import Hashable, Iterable, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from jaxdeep import _checks
from jaxdeep._shapes import PyTree
from jaxdeep.search.spaces.space import Point, edges
from jaxdeep.search.spaces.values import RESERVED, plain
from jaxdeep.search.tables.columns import names_of
from jaxdeep.search.tables.result import NotKept, Result, Stored, read_only, scalars
from jaxdeep.search.tables.standings import Standing, counted, mean, standings, together
from jaxdeep.train import monitors

TableRow = dict[str, Any]  # hyperparameters, metrics and how the run ended, by name

ENDINGS = ("ended", "diverged", "error", "edge")  # columns that no hyperparameter of a sweep is called
NAMED = ("epochs", "ended", "diverged")  # columns of every row beside its point and its metrics


@dataclasses.dataclass(frozen=True)
class Runs:
    """Points and results, in the order of the rows of a `jaxdeep.search.Table`, which says more."""

    points: Sequence[Point]
    results: Sequence[Result] = dataclasses.field(repr=False)
    spaces: Any = dataclasses.field(default=None, repr=False)
    outputs: Any = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        points = tuple(
            MappingProxyType({name: plain(value) for name, value in point.items()})
            for point in self.points
        )
        results = tuple(result.frozen() for result in self.results)
        if len(points) != len(results):
            raise ValueError(f"results must be as many as points, {len(points)}, got {len(results)}")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "results", results)

    def __len__(self) -> int:
        return len(self.points)

    def rows(self) -> list[TableRow]:
        """Each run as a flat dict: its point, "epochs", "ended", "diverged", and its metrics at the end.

        "epochs" are those done. The end is the last epoch, or the best one if early stopping restored
        it. "ended" is "finished", "stopped" (early), "halved", "interrupted", "error" or "diverged".
        "diverged" is True or False here, and a number of runs in `over_seeds`.

        If a run ended with an error, every row has an "error", the last line of the traceback or "". If
        the table knows its spaces, every row has an "edge": the names of the hyperparameters at an edge
        of their range, joined by commas. (A metric or hyperparameter of such a name comes first.)

        >>> from jaxdeep.search.tables.table import Result, Table
        >>> result = Result({}, {}, {"loss": np.array([3.0, 1.0])}, end=1, ended="finished")
        >>> Table([{"rate": 0.1, "seed": 0}], [result]).rows()[0]["loss"]
        1.0
        """
        rows = [self._row(point, result) for point, result in zip(self.points, self.results)]
        if any(result.error for result in self.results) and self._is_free("error"):
            for row, result in zip(rows, self.results):
                row["error"] = (result.error.strip().splitlines() or [""])[-1]
        return self._with_edges(rows, range(len(self)))

    def best(self, metric: str, mode: str | None = None, *, over_seeds: bool = False) -> TableRow:
        """The row with the best `metric`, among the full runs: those that finished or stopped early.

        Runs that were halved or interrupted had fewer epochs and are not compared, whatever their value.
        Runs that diverged or ended with an error, and values that are not finite, are never best.

        Args:
          metric: its name in the rows.
          mode: "min" or "max"; by default as the name says (`jaxdeep.train.EarlyStopping`).
          over_seeds: return the row of `over_seeds` with the best mean, among the points all of whose
            runs are full, with every seed and every fold that the table has. This is a better choice
            than the luckiest run.

        Raises:
          ValueError: an unknown metric, a name that does not say which is better, no full run.

        >>> from jaxdeep.search.tables.table import Result, Table
        >>> ends = [Result({}, {}, {"loss": np.array([v])}, end=0, ended="finished") for v in (2.0, 1.0)]
        >>> Table([{"rate": 0.1, "seed": 0}, {"rate": 0.2, "seed": 0}], ends).best("loss")["rate"]
        0.2
        """
        _checks.check_flag("over_seeds", over_seeds)
        sign = self._sign(metric, mode)
        every = self._standings(metric, over_seeds=over_seeds)
        full = [i for i, standing in enumerate(every) if standing.full]
        if not full:
            which = (
                "no point has all of its seeds and folds as full runs"
                if over_seeds
                else ("no row is a full run")
            )
            raise ValueError(f"{which} with a finite {metric}: {counted(every)}")
        rows = self.over_seeds() if over_seeds else self.rows()
        return rows[min(full, key=lambda i: sign * every[i].value)]

    def over_seeds(self) -> list[TableRow]:
        """For each point: "runs", how many "diverged", and "…_mean" and "…_std" of every metric.

        The runs of a point are those of all its seeds and folds. The standard deviation is the sample's
        (divided by n − 1), NaN for a single run. "diverged" is the number of the point's runs that
        diverged; in `rows` it is True or False. Where runs are missing, or ended before their time in
        another way, every point has a number of "full" runs; and an "edge", as in `rows`, if the table
        knows its spaces. (A hyperparameter of such a name comes first.)

        >>> from jaxdeep.search.tables.table import Result, Table
        >>> ends = [Result({}, {}, {"loss": np.array([v])}, end=0, ended="finished") for v in (2.0, 1.0)]
        >>> table = Table([{"rate": 0.1, "seed": 0}, {"rate": 0.1, "seed": 1}], ends)
        >>> table.over_seeds()[0]["loss_mean"], round(table.over_seeds()[0]["loss_std"], 3)
        (1.5, 0.707)
        """
        groups = together(self.points)
        full = [sum(self.results[i].full for i in members) for members in groups]
        diverged = [sum(self.results[i].ended == "diverged" for i in members) for members in groups]
        runs = max(map(len, groups), default=0)
        lacking = any(sum(counts) < runs for counts in zip(full, diverged))
        spreads = {name: self._spreads(name, groups) for name in self._metrics}
        summaries = []
        for k, members in enumerate(groups):
            columns: TableRow = {"runs": len(members), "diverged": diverged[k]}
            for name, by_point in spreads.items():
                columns[f"{name}_mean"], columns[f"{name}_std"] = by_point[k]
            if lacking:
                columns["full"] = full[k]
            free = {n: v for n, v in self.points[members[0]].items() if n not in RESERVED}
            summaries.append(free | {n: v for n, v in columns.items() if n not in self._hyperparameters})
        return self._with_edges(summaries, [members[0] for members in groups])

    def history(self, row: int) -> dict[str, np.ndarray]:
        """The history of a row: the values of every metric, one an epoch.

        >>> from jaxdeep.search.tables.table import Result, Table
        >>> result = Result({}, {}, {"loss": np.array([3.0, 1.0])}, end=1, ended="finished")
        >>> Table([{"rate": 0.1, "seed": 0}], [result]).history(0)["loss"].tolist()
        [3.0, 1.0]
        """
        return dict(self._result(row).history)

    def trained(self, row: int) -> tuple[PyTree, PyTree]:
        """Parameters and state of a row, as NumPy arrays: ``model.apply(*table.trained(0), x)``.

        Those of a sweep with a checkpoint are read from there.

        Raises:
          ValueError: they were not kept, or there are none: the run ended with an error.

        >>> from jaxdeep.search.tables.table import Result, Table
        >>> result = Result({"w": np.ones(2)}, {}, {"loss": np.array([1.0])}, end=0, ended="finished")
        >>> params, state = Table([{"rate": 0.1, "seed": 0}], [result]).trained(0)
        >>> params["w"].tolist(), state
        ([1.0, 1.0], {})
        """
        result = self._result(row)
        if isinstance(result.params, Stored):
            try:
                return read_only(tuple(result.params.load()))
            except ValueError as error:
                raise type(error)(f"row {row}: {error}") from error
        if result.params is None:
            why = {
                "error": "row {} has no parameters: it ended with an error",
                "interrupted": "row {} has no parameters: it was interrupted",
            }
            kept = "row {}: its parameters were not kept (keep_params=5 keeps the best five)"
            raise NotKept(why.get(result.ended, kept).format(row))
        return jax.tree.map(lambda leaf: leaf, (result.params, result.state))

    # --- what the methods share -----------------------------------------------------------------------

    @functools.cached_property
    def _hyperparameters(self) -> list[str]:
        return names_of(self.points)

    @functools.cached_property
    def _metrics(self) -> list[str]:
        """The metrics that any row has, without those that a point has, such as a swept rate."""
        names = dict.fromkeys(name for result in self.results for name in scalars(result.history))
        return [name for name in names if name not in (*self._hyperparameters, *RESERVED)]

    def _row(self, point: Point, result: Result) -> TableRow:
        held = scalars(result.history)
        at_end = {name: result.at_end(name) for name in self._metrics if name in held}
        ending = (result.epochs, result.ended, result.ended == "diverged")
        named = {name: value for name, value in zip(NAMED, ending) if name not in point}
        return {**point, **named, **at_end}

    def _spreads(self, metric: str, groups: list[list[int]]) -> list[tuple[float, float]]:
        """The mean of a metric over the runs of each point, and the standard deviation."""
        ends = [r.at_end(metric) if metric in scalars(r.history) else np.nan for r in self.results]
        spreads = []
        for members in groups:
            values = [ends[i] for i in members]
            known = len(values) > 1 and bool(np.isfinite(values).all())
            with np.errstate(over="ignore"):
                sd = float(np.std(values, ddof=1)) if known else float("nan")
            spreads.append((mean(values), sd))
        return spreads

    def _is_free(self, name: str) -> bool:
        return name not in (*self._hyperparameters, *self._metrics)

    def _with_edges(self, rows: list[TableRow], places: Iterable[int]) -> list[TableRow]:
        """The rows with the names of what is at an edge of its range, if the ranges are known."""
        if self.spaces and self._is_free("edge"):
            known: dict[Hashable, bool] = {}
            for row, i in zip(rows, places):
                free = {name: value for name, value in self.points[i].items() if name not in RESERVED}
                row["edge"] = ", ".join(edges(free, self.spaces, known))
        return rows

    def _result(self, row: Any) -> Result:
        if not _checks.is_whole(row):
            raise TypeError(f"row must be the number of a row, got {row!r}")
        if not -len(self) <= row < len(self):
            raise IndexError(f"row must be less than the number of rows, {len(self)}, got {row}")
        return self.results[row]

    def _standings(self, metric: str, *, over_seeds: bool) -> list[Standing]:
        return standings(self.points, self.results, metric, over_seeds=over_seeds)

    def _check_rows(self) -> None:
        if not self.results:
            raise ValueError("the table has no rows")

    def _check_metric(self, metric: Any) -> None:
        self._check_rows()
        if not self._metrics:
            raise ValueError("the table has no metrics: no row has done an epoch")
        if not isinstance(metric, str) or metric not in self._metrics:
            raise ValueError(f"metric must be one of {', '.join(sorted(self._metrics))}; got {metric!r}")

    def _check_hyperparameter(self, argument: str, name: Any, *, optional: bool) -> None:
        is_known = isinstance(name, str) and name in self._hyperparameters
        if not is_known and not (optional and name is None):
            known = ", ".join(self._hyperparameters)
            raise ValueError(f"{argument} must be one of {known}; got {name!r}")

    def _sign(self, metric: Any, mode: Any) -> float:
        """1 if smaller values of a metric are better, −1 if larger ones are."""
        self._check_metric(metric)
        _checks.check_choice("mode", mode, (None, "min", "max"))
        watched = monitors.EarlyStopping(monitor=metric, mode=mode)
        return monitors.resolve(watched, dict.fromkeys(self._metrics, 0.0))[1]
