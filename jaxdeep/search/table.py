"""`Table`, the result of a sweep, with a row for each run."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._extras import needed
from jaxdeep._shapes import PyTree
from jaxdeep.search.space import Point
from jaxdeep.search.subset import RESERVED
from jaxdeep.train import monitors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]  # hyperparameters, metrics and how the run ended, by name


class Span(NamedTuple):
    """When a run was worked on.

    Attributes:
      worker: who did it.
      begin, end: seconds since the sweep began.
      epochs: epochs done in between.
    """

    worker: str
    begin: float
    end: float
    epochs: int


class Result(NamedTuple):
    """The result of a run.

    Attributes:
      params, state: those after the last epoch, or after the best one if early stopping restored it.
      history: ``(epochs,)`` values of each metric.
      end: the epoch that params and state are of, from 0.
      ended: "finished", "stopped" (early), "halved" (by successive halving), "interrupted" (by Ctrl-C)
        or "diverged": a loss, or a parameter at the end, was not finite.
    """

    params: PyTree
    state: PyTree
    history: Mapping[str, np.ndarray]
    end: int
    ended: str
    error: str = ""
    spans: tuple[Span, ...] = ()

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return min((len(values) for values in self.history.values()), default=0)

    def value(self, metric: str) -> float:
        """The last value of a metric up to the end that is not NaN; NaN for a run that diverged."""
        if self.ended == "diverged":
            return float("nan")
        values = self.history[metric][: self.end + 1]
        known = values[~np.isnan(values)]
        return float(known[-1]) if len(known) else float("nan")


@dataclasses.dataclass(frozen=True)
class Table:
    """The result of a `jaxdeep.sweep`: a row for each run, in the order of points and of their seeds.

    A table is immutable: its arrays are read-only, and methods return copies.

    Attributes:
      points: hyperparameters and "seed" of each row; in a cross-validation also its "fold", and the
        numbers of rows of the data in it, "n_train" and "n_validate".
      results: for each row, a `Result`.

    >>> result = Result({"w": np.ones(2)}, {}, {"loss": np.array([3.0, 1.0])}, end=1, ended="finished")
    >>> table = Table([{"rate": 0.1, "seed": 0}, {"rate": 0.1, "seed": 1}], [result, result])
    >>> len(table), table.points[1]["seed"], table.results[1].ended
    (2, 1, 'finished')
    """

    points: Sequence[Point]
    results: Sequence[Result] = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        points = tuple(MappingProxyType(dict(point)) for point in self.points)
        results = tuple(_frozen(result) for result in self.results)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "results", results)

    def __len__(self) -> int:
        return len(self.points)

    def rows(self) -> list[Row]:
        """Each run as a flat dict: its point, "epochs", "ended", "diverged", and its metrics at the end.

        "epochs" are those done. The end is the last epoch, or the best one if early stopping restored
        it. "ended" is "finished", "stopped" (early), "halved", "interrupted" or "diverged". "diverged"
        is True or False here, and a number of runs in `over_seeds`.

        >>> result = Result({}, {}, {"loss": np.array([3.0, 1.0])}, end=1, ended="finished")
        >>> Table([{"rate": 0.1, "seed": 0}], [result]).rows()[0]["loss"]
        1.0
        """
        return [_row(point, result) for point, result in zip(self.points, self.results)]

    def best(self, metric: str, mode: str | None = None, *, over_seeds: bool = False) -> Row:
        """The row with the best `metric`, among those that did not diverge.

        Args:
          metric: its name in the rows.
          mode: "min" or "max"; by default as the name says (`jaxdeep.train.EarlyStopping`).
          over_seeds: return the row of `over_seeds` with the best mean, among the points without a run
            that diverged, and with all seeds and folds. This is a better choice than the luckiest run.

        Raises:
          ValueError: an unknown metric, a name that does not say which is better, no row that is finite.

        >>> ends = [Result({}, {}, {"loss": np.array([v])}, end=0, ended="finished") for v in (2.0, 1.0)]
        >>> Table([{"rate": 0.1, "seed": 0}, {"rate": 0.2, "seed": 0}], ends).best("loss")["rate"]
        0.2
        """
        if not self.results:
            raise ValueError("the table has no rows")
        names = {name: 0.0 for result in self.results for name in scalars(result.history)}
        config = monitors.EarlyStopping(monitor=metric, mode=mode)
        _, sign = monitors.resolve(config, names)
        column = f"{metric}_mean" if over_seeds else metric
        rows = self.over_seeds() if over_seeds else self.rows()
        finite = [row for row in rows if not row["diverged"] and np.isfinite(row.get(column, np.nan))]
        if over_seeds:  # an interrupted sweep may lack some runs of a point
            most = max(row["runs"] for row in rows)
            finite = [row for row in finite if row["runs"] == most]
        if not finite:
            raise ValueError(f"no row has a finite {metric}")
        return min(finite, key=lambda row: sign * row[column])

    def over_seeds(self) -> list[Row]:
        """For each point: "runs", how many "diverged", and "…_mean" and "…_std" of every metric.

        It is over all seeds and, in a cross-validation, all folds of a point. The standard deviation is
        the sample's (divided by n − 1), NaN for a single run. "diverged" is
        the number of the point's runs that diverged; in `rows` it is True or False.

        >>> ends = [Result({}, {}, {"loss": np.array([v])}, end=0, ended="finished") for v in (2.0, 1.0)]
        >>> table = Table([{"rate": 0.1, "seed": 0}, {"rate": 0.1, "seed": 1}], ends)
        >>> table.over_seeds()[0]["loss_mean"], round(table.over_seeds()[0]["loss_std"], 3)
        (1.5, 0.707)
        """
        summaries = []
        for members in together(self.points):
            rows = [_row(self.points[i], self.results[i]) for i in members]
            summary = {n: v for n, v in self.points[members[0]].items() if n not in RESERVED}
            summary |= {"runs": len(rows), "diverged": sum(row["diverged"] for row in rows)}
            for name in _named(self.points[members[0]], self.results[members[0]]):
                values = np.array([row.get(name, np.nan) for row in rows], float)
                summary[f"{name}_mean"] = float(np.mean(values))
                known = len(values) > 1 and bool(np.isfinite(values).all())
                summary[f"{name}_std"] = float(np.std(values, ddof=1)) if known else float("nan")
            summaries.append(summary)
        return summaries

    def history(self, row: int) -> dict[str, np.ndarray]:
        """The history of a row: the values of every metric, one an epoch.

        >>> result = Result({}, {}, {"loss": np.array([3.0, 1.0])}, end=1, ended="finished")
        >>> Table([{"rate": 0.1, "seed": 0}], [result]).history(0)["loss"].tolist()
        [3.0, 1.0]
        """
        return dict(self.results[row].history)

    def trained(self, row: int) -> tuple[PyTree, PyTree]:
        """Parameters and state of a row, as NumPy arrays: ``model.apply(*table.trained(0), x)``.

        >>> result = Result({"w": np.ones(2)}, {}, {"loss": np.array([1.0])}, end=0, ended="finished")
        >>> params, state = Table([{"rate": 0.1, "seed": 0}], [result]).trained(0)
        >>> params["w"].tolist(), state
        ([1.0, 1.0], {})
        """
        result = self.results[row]
        if hasattr(result.params, "load"):
            return result.params.load()
        return jax.tree.map(lambda leaf: leaf, (result.params, result.state))

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`.

        Raises:
          ImportError: pandas is not installed.

        >>> try:
        ...     columns = list(Table([], []).to_pandas())
        ... except ImportError:
        ...     columns = []
        >>> columns
        []
        """
        return needed("pandas", "to_pandas", "pandas", None).DataFrame(self.rows())

    def plot(
        self,
        metric: str,
        x: str,
        y: str | None = None,
        *,
        ax: "Axes | None" = None,
        path: str | os.PathLike[str] | None = None,
    ) -> "Figure":
        """A plot of a metric at the end of the runs against one hyperparameter, or two.

        Against one hyperparameter it shows means over seeds with a standard deviation either side, and a
        line for each combination of the other hyperparameters. Against two it shows a map of means over
        everything else, or a coloured scatter if the points are no grid. An axis whose values span more
        than a decade is logarithmic, unless it is of an accuracy or another metric of which more is
        better. A run that diverged is a cross.

        Args:
          metric: its name in the rows.
          x, y: names of hyperparameters.
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
        if path is not None:
            _checks.check_local_path("path", path)
        from jaxdeep.search import chart  # loaded only when something is drawn

        metrics = sorted({name for result in self.results for name in scalars(result.history)})
        return chart.plot(self, metric, x, y, metrics=metrics, ax=ax, path=path)


def together(points: Sequence[Point]) -> list[list[int]]:
    """The indices of the rows of each point, which stand together, with folds and their seeds rising.

    >>> together([{"rate": rate, "seed": seed} for rate in (0.1, 0.2) for seed in (0, 1)])
    [[0, 1], [2, 3]]
    """
    by_point: list[list[int]] = []
    for i, point in enumerate(points):
        last = points[i - 1] if i else point
        same = all(is_equal(last[name], value) for name, value in point.items() if name not in RESERVED)
        # an interrupted sweep may have no row with fold 0 and seed 0 of a point
        if not (i and same and _run(last) < _run(point)):
            by_point.append([])
        by_point[-1].append(i)
    return by_point


def _run(point: Point) -> tuple[int, int]:
    return point.get("fold", 0), point["seed"]


def is_equal(a: Any, b: Any) -> bool:
    """Whether two values of a hyperparameter are the same."""
    return a is b or bool(np.all(a == b))


def scalars(history: Mapping[str, Any]) -> dict[str, float]:
    """The metrics with one number an epoch, by name; the values are placeholders."""
    return {name: 0.0 for name, values in history.items() if len(values.shape) == 1}


def _named(point: Point, result: Result) -> list[str]:
    """The names of a row's metrics, without those that the point has, such as a swept rate."""
    return [name for name in scalars(result.history) if name not in point]


def _row(point: Point, result: Result) -> Row:
    at_end = {name: float(result.history[name][result.end]) for name in _named(point, result)}
    ending = {"epochs": result.epochs, "ended": result.ended, "diverged": result.ended == "diverged"}
    return {**point, **ending, **at_end}


def _frozen(result: Result) -> Result:
    def read_only(leaf: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        array = np.asarray(leaf).view()
        array.flags.writeable = False
        return array

    history: Any = MappingProxyType({n: read_only(values) for n, values in result.history.items()})
    if hasattr(result.params, "load"):  # a row whose parameters are on the disk
        return result._replace(history=history)
    params, state = jax.tree.map(read_only, (result.params, result.state))
    return result._replace(params=params, state=state, history=history)
