"""`Views`, what a `jaxdeep.search.Table` can be seen by: importance of hyperparameters, and plots."""

import os
from typing import TYPE_CHECKING

import numpy as np

from jaxdeep import _checks
from jaxdeep.search.tables.runs import Runs
from jaxdeep.search.tables.standings import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxdeep.search.tables.importance import Importance

Path = str | os.PathLike[str]


class Views(Runs):
    """The methods of a `jaxdeep.search.Table` that look at all of its rows."""

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

        >>> from jaxdeep.search.tables.table import Result, Table
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
                f"one of them with a finite {metric}, got {len(used)} of {len(every)}"
                + f" ({left})"
                * bool(left)
            )
        values = [standing.value if standing.full else np.nan for standing in used]
        return forest.importance(
            [standing.point for standing in used],
            forest.target(values, sign),
            self._hyperparameters,
            trees=trees,
            seed=seed,
        )

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
        everything else, or a coloured scatter if the points are no grid. The axis of a hyperparameter is
        logarithmic if its range is. If the range is not known, and for a metric, it is if the values
        span more than a decade, unless more of the metric is better, as of an accuracy. Dotted lines are
        the bounds of the range, if the table knows its spaces.

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

        >>> from jaxdeep.search.tables.table import Result, Table
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
        spread = [sd for _, sd in self._spreads(metric, [list(standing.rows) for standing in every])]
        return chart.plot(every, spread, metric, x, y, spaces=self.spaces, ax=ax, path=path)

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

        >>> from jaxdeep.search.tables.table import Result, Table
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

        >>> from jaxdeep.search.tables.table import Result, Table
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

        >>> from jaxdeep.search.tables.table import Result, Table
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

        Which combinations are good? Hyperparameters have the axes that they have in `plot`; those that
        do not differ between points are left out. A line is a point's mean over seeds and folds,
        coloured by the metric, the best dark and in front. Points that diverged are dashed in grey and
        end on a rail. Where a point lacks a hyperparameter its line passes below the axis.

        Args:
          metric, mode: as for `best`.
          ax, path: as for `plot`.

        Returns:
          The matplotlib figure.

        Raises:
          ValueError, ImportError: as for `plot`.

        >>> from jaxdeep.search.tables.table import Result, Table
        >>> ends = [Result({}, {}, {"loss": np.array([v])}, end=0, ended="finished") for v in (2.0, 1.0)]
        >>> table = Table([{"rate": 0.1, "seed": 0}, {"rate": 0.2, "seed": 0}], ends)
        >>> [text.get_text() for text in table.plot_parallel("loss").axes[0].get_xticklabels()]
        ['rate', 'loss']
        """
        from jaxdeep.search.tables import parallel

        sign = self._sign(metric, mode)
        every = self._standings(metric, over_seeds=True)
        return parallel.coordinates(
            every, self._hyperparameters, metric, sign, spaces=self.spaces, ax=ax, path=path
        )

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

        >>> from jaxdeep.search.tables.table import Result, Span, Table
        >>> span = Span("cpu 0", 0.0, 2.0, epochs=1)
        >>> result = Result({}, {}, {"loss": np.array([1.0])}, 0, "finished", spans=(span,))
        >>> table = Table([{"rate": 0.1, "seed": 0}], [result])
        >>> [text.get_text() for text in table.plot_timeline().axes[0].get_yticklabels()]
        ['cpu 0']
        """
        from jaxdeep.search.tables import timeline

        self._check_rows()
        return timeline.timeline(self.results, ax=ax, path=path)
