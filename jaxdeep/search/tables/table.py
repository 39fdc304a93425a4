"""`Table`, the result of a sweep, with a row for each run."""

import dataclasses
import functools
import os
from collections.abc import Hashable, Iterable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxdeep import _checks
from jaxdeep._shapes import PyTree
from jaxdeep.search.spaces.space import Point, edges
from jaxdeep.search.spaces.values import RESERVED, plain
from jaxdeep.search.tables.columns import names_of
from jaxdeep.search.tables.result import NotKept, Result, Span, Stored, read_only, scalars
from jaxdeep.search.tables.standings import Standing, counted, mean, standings, together
from jaxdeep.train import monitors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxdeep.search.tables.importance import Importance

__all__ = ["Result", "Row", "Span", "Table", "scalars"]

Row = dict[str, Any]  # hyperparameters, metrics and how the run ended, by name
Path = str | os.PathLike[str]

_NAMED = ("epochs", "ended", "diverged")  # columns of every row beside its point and its metrics


@dataclasses.dataclass(frozen=True)
class Table:
    """The result of a `jaxdeep.sweep`: a row for each run, in the order of points and of their seeds.

    A table is immutable: its arrays are read-only, and methods return copies. Points may have different
    names, as those of different optimizers have.

    Attributes:
      points: hyperparameters and "seed" of each row, and "fold" in a cross-validation.
      results: for each row, a `Result`.
      spaces: the spaces that the points come from, if they are known; then rows say which values are at
        an edge of their range.

    >>> result = Result({"w": np.ones(2)}, {}, {"loss": np.array([3.0, 1.0])}, end=1, ended="finished")
    >>> table = Table([{"rate": 0.1, "seed": 0}, {"rate": 0.1, "seed": 1}], [result, result])
    >>> len(table), table.points[1]["seed"], table.results[1].ended
    (2, 1, 'finished')
    """

    points: Sequence[Point]
    results: Sequence[Result] = dataclasses.field(repr=False)
    spaces: Any = dataclasses.field(default=None, repr=False)

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

    # --- rows -----------------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """Each run as a flat dict: its point, "epochs", "ended", "diverged", and its metrics at the end.

        "epochs" are those done. The end is the last epoch, or the best one if early stopping restored
        it. "ended" is "finished", "stopped" (early), "halved", "interrupted", "error" or "diverged".
        "diverged" is True or False here, and a number of runs in `over_seeds`.

        If a run ended with an error, every row has an "error", the last line of the traceback or "". If
        the table knows its spaces, every row has an "edge": the names of the hyperparameters at an edge
        of their range, joined by commas. (A metric or hyperparameter of such a name comes first.)

        >>> result = Result({}, {}, {"loss": np.array([3.0, 1.0])}, end=1, ended="finished")
        >>> Table([{"rate": 0.1, "seed": 0}], [result]).rows()[0]["loss"]
        1.0
        """
        rows = [self._row(point, result) for point, result in zip(self.points, self.results)]
        if any(result.error for result in self.results) and self._is_free("error"):
            for row, result in zip(rows, self.results):
                row["error"] = (result.error.strip().splitlines() or [""])[-1]
        return self._with_edges(rows, range(len(self)))

    def best(self, metric: str, mode: str | None = None, *, over_seeds: bool = False) -> Row:
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

    def over_seeds(self) -> list[Row]:
        """For each point: "runs", how many "diverged", and "…_mean" and "…_std" of every metric.

        The runs of a point are those of all its seeds and folds. The standard deviation is the sample's
        (divided by n − 1), NaN for a single run. "diverged" is the number of the point's runs that
        diverged; in `rows` it is True or False. Where runs are missing, or ended before their time in
        another way, every point has a number of "full" runs; and an "edge", as in `rows`, if the table
        knows its spaces.

        >>> ends = [Result({}, {}, {"loss": np.array([v])}, end=0, ended="finished") for v in (2.0, 1.0)]
        >>> table = Table([{"rate": 0.1, "seed": 0}, {"rate": 0.1, "seed": 1}], ends)
        >>> table.over_seeds()[0]["loss_mean"], round(table.over_seeds()[0]["loss_std"], 3)
        (1.5, 0.707)
        """
        groups = together(self.points)
        summaries = []
        for members in groups:
            rows = [self._row(self.points[i], self.results[i]) for i in members]
            summary = {n: v for n, v in self.points[members[0]].items() if n not in RESERVED}
            summary |= {"runs": len(rows), "diverged": sum(row["diverged"] for row in rows)}
            for name in self._metrics:
                values = [float(row.get(name, np.nan)) for row in rows]
                summary[f"{name}_mean"] = mean(values)
                known = len(values) > 1 and bool(np.isfinite(values).all())
                with np.errstate(over="ignore"):
                    summary[f"{name}_std"] = float(np.std(values, ddof=1)) if known else float("nan")
            summaries.append(summary)
        full = [sum(self.results[i].full for i in members) for members in groups]
        runs = max(map(len, groups), default=0)
        if any(count + summary["diverged"] < runs for count, summary in zip(full, summaries)):
            for count, summary in zip(full, summaries):
                summary["full"] = count
        return self._with_edges(summaries, [members[0] for members in groups])

    def history(self, row: int) -> dict[str, np.ndarray]:
        """The history of a row: the values of every metric, one an epoch.

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

    # --- frames and files -----------------------------------------------------------------------------

    def to_frame(self, backend: str = "pandas") -> Any:
        """The rows as a frame, with a column for everything that any row has.

        What a row lacks is missing there: a null of polars and pyarrow, NaN or None of pandas. Functions
        and other objects are columns of text, by name.

        Args:
          backend: "pandas", "polars" or "pyarrow".

        Raises:
          ImportError: narwhals, or the library itself, is not installed
            (``pip install 'jaxdeep[frames]'``).

        >>> result = Result({}, {}, {"loss": np.array([3.0, 1.0])}, end=1, ended="finished")
        >>> table = Table([{"rate": 0.1, "act": max, "seed": 0}, {"rate": 0.2, "seed": 0}], [result] * 2)
        >>> frame = table.to_frame()
        >>> frame["loss"].tolist(), frame["act"].isna().tolist(), frame["act"][0]
        ([1.0, 1.0], [False, True], 'max')
        """
        return self._frame(backend, "to_frame")

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`: ``to_frame("pandas")``.

        Raises:
          ImportError: narwhals or pandas is not installed (``pip install 'jaxdeep[frames]'``).

        >>> len(Table([], []).to_pandas())
        0
        """
        return self._frame("pandas", "to_pandas")

    def save(self, path: Path, *, with_params: bool = True) -> None:
        """Save the table as one file, which `load` reads: points, results, spaces and parameters.

        Nothing is pickled: the file is a zip of JSON and of arrays of NumPy, which ``numpy.load`` reads,
        too. Everything comes back bit for bit, except that hyperparameters which JSON cannot hold, such
        as functions, are saved as text, by name, and come back as text. A table that was saved there
        before is replaced at once, when the new one is complete.

        Args:
          path: of the file, say ``"runs/sweep.npz"``. One that holds something else is left alone.
          with_params: save parameters and states, too, which are dicts, lists and tuples of arrays.
            Those that were not kept are left out.

        Raises:
          ValueError: a remote path, parameters of another form. FileExistsError: something else is
            there. OSError: it cannot be written.

        >>> import tempfile
        >>> result = Result({"w": np.ones(2)}, {}, {"loss": np.array([3.0, 1.0])}, 1, "finished")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Table([{"rate": 0.1, "seed": 0}], [result]).save(f"{folder}/table.npz")
        ...     table = Table.load(f"{folder}/table.npz")
        >>> table.points[0]["rate"], table.trained(0)[0]["w"].tolist()
        (0.1, [1.0, 1.0])
        """
        from jaxdeep.search.tables import files

        contents = files.Contents(self.points, self.results, self.spaces)
        files.write(path, contents, with_params=with_params)

    @classmethod
    def load(cls, path: Path, *, with_params: bool = True) -> "Table":
        """The table that `save` wrote.

        Args:
          path: of the file.
          with_params: read parameters and states, too, if they were saved.

        Raises:
          FileNotFoundError: nothing is there. ValueError: a file that is damaged, is none of a table or
            of a newer version; the error says what is wrong with it.

        >>> Table.load("no/such/table.npz")
        Traceback (most recent call last):
        FileNotFoundError: there is no table at 'no/such/table.npz'; Table.save writes one
        """
        from jaxdeep.search.tables import files

        return cls(*files.read(path, with_params=with_params))

    # --- what came out --------------------------------------------------------------------------------

    def importance(
        self, metric: str, mode: str | None = None, *, trees: int = 200, seed: int = 0
    ) -> "Importance":
        """How much of the variation of a metric over the points is due to each hyperparameter.

        A random forest learns the metric from the hyperparameters; then the values of one hyperparameter
        are permuted among points that a tree was not trained with. For a function of independent
        hyperparameters the rise of the squared error is twice the total Sobol index times the variance,
        and so it is given as a share: 0 for what does nothing, 1 for what does everything. This is more
        to be trusted than shares of the variance of the forest itself (fANOVA, impurity), in which
        noise that it has fitted counts as importance.

        Each point counts once, with its mean over seeds and folds. A point that diverged counts as the
        worst; points without all of their full runs are left out. A loss whose values span more than a
        decade is learned as its logarithm, as it is plotted. Hyperparameters that only some points have
        are permuted among those. If nothing else says which names a point has, that is a
        hyperparameter, too, called "which names".

        Args:
          metric, mode: as for `best`.
          trees: trees of the forest.
          seed: of the forest and the permutations.

        Returns:
          An `Importance` with names, shares, their standard errors, and the R² of the forest for points
          that its trees were not trained with. ``print`` shows it.

        Raises:
          ValueError: an unknown metric, fewer than 10 points, a metric or hyperparameters that do not
            differ between points.
          ImportError: scikit-learn is not installed (``pip install 'jaxdeep[datasets]'``).

        Source: Breiman, "Random Forests" (2001), for the importance; as a total Sobol index, Gregorutti
        et al., "Correlation and variable importance in random forests" (2017).

        >>> points = [{"rate": i / 20, "b1": i % 3, "seed": 0} for i in range(20)]
        >>> ends = [Result({}, {}, {"loss": np.array([p["rate"]])}, 0, "finished") for p in points]
        >>> found = Table(points, ends).importance("loss", trees=50)
        >>> found.names, bool(found.shares[0] > 0.5), found.r2 > 0.8
        (('rate', 'b1'), True, True)
        """
        from jaxdeep.search.tables import importance as forest

        sign = self._sign(metric, mode)
        forest.check(trees, seed)
        every = self._standings(metric, over_seeds=True)
        used = [standing for standing in every if standing.full or standing.failed]
        if len(used) < forest.FEWEST or not any(standing.full for standing in used):
            left = counted([standing for standing in every if not standing.full])
            raise ValueError(
                f"importance needs {forest.FEWEST} points at least that went to their end or diverged, "
                f"got {len(used)} of {len(every)}" + f" ({left})" * bool(left)
            )
        values = [standing.value if standing.full else np.nan for standing in used]
        return forest.importance(
            [standing.point for standing in used],
            forest.target(values, sign),
            self._hyperparameters,
            trees=trees,
            seed=seed,
        )

    # --- views ----------------------------------------------------------------------------------------

    def plot(
        self,
        metric: str,
        x: str,
        y: str | None = None,
        *,
        ax: "Axes | None" = None,
        path: Path | None = None,
    ) -> "Figure":
        """A plot of a metric at the end of the runs against one hyperparameter, or two.

        Against one hyperparameter it shows means over seeds with a standard deviation either side, and a
        line for each combination of the other hyperparameters. Against two it shows a map of means over
        everything else, or a coloured scatter if the points are no grid. An axis whose values span more
        than a decade is logarithmic, unless it is of an accuracy or another metric of which more is
        better. Dotted lines are the bounds of the range, if the table knows its spaces.

        Runs that diverged or ended with an error stand on a rail at the bad end, as crosses and plus
        signs. What was halved or interrupted is hollow: it had fewer epochs than the others.

        Args:
          metric: its name in the rows.
          x, y: names of hyperparameters. Points without them are left out.
          ax: a matplotlib axes to draw on; a new figure by default.
          path: where to save the figure as well.

        Returns:
          The matplotlib figure.

        Raises:
          ValueError: an unknown metric or hyperparameter, a table without rows, a remote path.
          ImportError: matplotlib is not installed (``pip install 'jaxdeep[plot]'``).

        >>> result = Result({}, {}, {"loss": np.array([3.0, 1.0])}, end=1, ended="finished")
        >>> table = Table([{"rate": 0.1, "seed": 0}, {"rate": 0.2, "seed": 0}], [result, result])
        >>> table.plot("loss", "rate").axes[0].get_xlabel()
        'rate'
        """
        from jaxdeep.search.tables import chart

        self._check_metric(metric)
        for argument, name in (("x", x), ("y", y)):
            self._check_hyperparameter(argument, name, optional=argument == "y")
        if x == y:
            raise ValueError(f"x and y must be two hyperparameters, got {x!r} twice")
        every = self._standings(metric, over_seeds=True)
        return chart.plot(every, self.over_seeds(), metric, x, y, spaces=self.spaces, ax=ax, path=path)

    def plot_history(
        self,
        metric: str,
        mode: str | None = None,
        *,
        best: int = 8,
        ax: "Axes | None" = None,
        path: Path | None = None,
    ) -> "Figure":
        """A metric against epochs, with a line for each point: does the order hold all along?

        A line is the median over the seeds (and folds) of a point, in a band from the lower to the upper
        quartile. A run that stopped early goes on with its last value in them, one that diverged or was
        interrupted is left out from there on. A mark at the end of a line says that runs of the point
        were halved, were interrupted, diverged or ended with an error.

        Args:
          metric, mode: as for `best`.
          best: so many of the best points are in colour and in the legend, the others grey.
          ax, path: as for `plot`.

        Returns:
          The matplotlib figure.

        Raises:
          ValueError, ImportError: as for `plot`.

        >>> result = Result({}, {}, {"loss": np.array([3.0, 1.0])}, end=1, ended="finished")
        >>> table = Table([{"rate": 0.1, "seed": 0}, {"rate": 0.2, "seed": 0}], [result, result])
        >>> table.plot_history("loss").axes[0].get_xlabel()
        'epoch'
        """
        from jaxdeep.search.tables import curves

        best = _checks.check_count("best", best)
        sign = self._sign(metric, mode)
        every = self._standings(metric, over_seeds=True)
        return curves.history(every, self.results, metric, sign, best=best, ax=ax, path=path)

    def plot_best_of(
        self,
        metric: str,
        mode: str | None = None,
        *,
        by: str | None = None,
        ax: "Axes | None" = None,
        path: Path | None = None,
    ) -> "Figure":
        """The metric of the best of k points against k: who wins with 1, 4 or 16 points of tuning?

        A line is the unbiased expectation of `expected_best`, up to half of the points, beyond which it
        is little but the luck of the best ones. Dotted, up to all points, is the other estimate, which
        promises too little but varies less. The band is the middle half of the best of k. Each point
        counts with its mean over seeds and folds; one that diverged counts as the worst, and those
        without all of their full runs are left out, as the legend says. Points are taken as drawn
        independently; for Sobol points or a grid the curve is approximate.

        Args:
          metric, mode: as for `best`.
          by: a hyperparameter, such as the optimizer, with a line for each of its values.
          ax, path: as for `plot`.

        Returns:
          The matplotlib figure.

        Raises:
          ValueError, ImportError: as for `plot`.

        >>> ends = [Result({}, {}, {"loss": np.array([v])}, end=0, ended="finished") for v in (2.0, 1.0)]
        >>> table = Table([{"rate": 0.1, "seed": 0}, {"rate": 0.2, "seed": 0}], ends)
        >>> table.plot_best_of("loss").axes[0].get_xlabel()
        'points tried, k'
        """
        from jaxdeep.search.tables import curves

        sign = self._sign(metric, mode)
        self._check_hyperparameter("by", by, optional=True)
        every = self._standings(metric, over_seeds=True)
        return curves.best_of(every, metric, sign, by=by, ax=ax, path=path)

    def plot_distribution(
        self,
        metric: str,
        mode: str | None = None,
        *,
        by: str | None = None,
        ax: "Axes | None" = None,
        path: Path | None = None,
    ) -> "Figure":
        """The share of runs that are at least so good: what would a random point have given?

        It is the empirical distribution of the metric over all rows. Runs that diverged are worse than
        any value, so that the line does not reach 1; those that were halved, were interrupted or ended
        with an error are left out, as the legend says.

        Args:
          metric, mode: as for `best`.
          by: a hyperparameter, such as the optimizer, with a line for each of its values.
          ax, path: as for `plot`.

        Returns:
          The matplotlib figure.

        Raises:
          ValueError, ImportError: as for `plot`.

        >>> ends = [Result({}, {}, {"loss": np.array([v])}, end=0, ended="finished") for v in (2.0, 1.0)]
        >>> table = Table([{"rate": 0.1, "seed": 0}, {"rate": 0.2, "seed": 0}], ends)
        >>> table.plot_distribution("loss").axes[0].get_ylabel()
        'share of runs at least as good'
        """
        from jaxdeep.search.tables import curves

        sign = self._sign(metric, mode)
        self._check_hyperparameter("by", by, optional=True)
        every = self._standings(metric, over_seeds=False)
        return curves.distribution(every, metric, sign, by=by, ax=ax, path=path)

    def plot_parallel(
        self,
        metric: str,
        mode: str | None = None,
        *,
        ax: "Axes | None" = None,
        path: Path | None = None,
    ) -> "Figure":
        """Parallel coordinates: an axis for each hyperparameter, a line for each point, its metric.

        Which combinations are good? Hyperparameters that span more than a decade have logarithmic axes;
        those that do not differ between points are left out. A line is a point's mean over seeds and
        folds, coloured by the metric, the best dark and in front. Points that diverged are dashed in
        grey and end on a rail. Where a point lacks a hyperparameter its line passes below the axis.

        Args:
          metric, mode: as for `best`.
          ax, path: as for `plot`.

        Returns:
          The matplotlib figure.

        Raises:
          ValueError, ImportError: as for `plot`.

        >>> ends = [Result({}, {}, {"loss": np.array([v])}, end=0, ended="finished") for v in (2.0, 1.0)]
        >>> table = Table([{"rate": 0.1, "seed": 0}, {"rate": 0.2, "seed": 0}], ends)
        >>> [text.get_text() for text in table.plot_parallel("loss").axes[0].get_xticklabels()]
        ['rate', 'loss']
        """
        from jaxdeep.search.tables import parallel

        sign = self._sign(metric, mode)
        every = self._standings(metric, over_seeds=True)
        return parallel.coordinates(every, self._hyperparameters, metric, sign, ax=ax, path=path)

    def plot_timeline(self, *, ax: "Axes | None" = None, path: Path | None = None) -> "Figure":
        """When each worker trained which rows: where did the time go, what was lost and run again?

        A bar is a stretch of a row, coloured by how the row ended; rows that a worker trained side by
        side lie above one another.

        Args:
          ax, path: as for `plot`.

        Returns:
          The matplotlib figure.

        Raises:
          ValueError: a table without times, a remote path. ImportError: as for `plot`.

        >>> span = Span("cpu 0", 0.0, 2.0, epochs=1)
        >>> result = Result({}, {}, {"loss": np.array([1.0])}, 0, "finished", spans=(span,))
        >>> table = Table([{"rate": 0.1, "seed": 0}], [result])
        >>> [text.get_text() for text in table.plot_timeline().axes[0].get_yticklabels()]
        ['cpu 0']
        """
        from jaxdeep.search.tables import timeline

        self._check_rows()
        return timeline.timeline(self.results, ax=ax, path=path)

    # --- what the methods share -----------------------------------------------------------------------

    @functools.cached_property
    def _hyperparameters(self) -> list[str]:
        return names_of(self.points)

    @functools.cached_property
    def _metrics(self) -> list[str]:
        """The metrics that any row has, without those that a point has, such as a swept rate."""
        names = dict.fromkeys(name for result in self.results for name in scalars(result.history))
        return [name for name in names if name not in (*self._hyperparameters, *RESERVED)]

    def _row(self, point: Point, result: Result) -> Row:
        held = scalars(result.history)
        at_end = {name: result.at_end(name) for name in self._metrics if name in held}
        ending = (result.epochs, result.ended, result.ended == "diverged")
        named = {name: value for name, value in zip(_NAMED, ending) if name not in point}
        return {**point, **named, **at_end}

    def _is_free(self, name: str) -> bool:
        return name not in (*self._hyperparameters, *self._metrics)

    def _with_edges(self, rows: list[Row], places: Iterable[int]) -> list[Row]:
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

    def _frame(self, backend: str, caller: str) -> Any:
        from jaxdeep.search.tables import frames

        names = (*self._hyperparameters, *RESERVED, *_NAMED, *self._metrics, "error", "edge")
        return frames.frame(self.rows(), list(dict.fromkeys(names)), backend, caller)

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
        given = isinstance(name, str) and name in self._hyperparameters
        if not given and not (optional and name is None):
            known = ", ".join(self._hyperparameters)
            raise ValueError(f"{argument} must be one of {known}; got {name!r}")

    def _sign(self, metric: Any, mode: Any) -> float:
        """1 if smaller values of a metric are better, −1 if larger ones are."""
        self._check_metric(metric)
        _checks.check_choice("mode", mode, (None, "min", "max"))
        watched = monitors.EarlyStopping(monitor=metric, mode=mode)
        return monitors.resolve(watched, dict.fromkeys(self._metrics, 0.0))[1]
