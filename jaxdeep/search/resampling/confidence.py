"""Confidence intervals of means over seeds and folds, and of differences between points."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._shapes import ArrayLike
from jaxdeep.search.spaces.space import Point
from jaxdeep.search.spaces.values import RESERVED, word
from jaxdeep.search.tables.columns import names_of
from jaxdeep.search.tables.result import FULL
from jaxdeep.search.tables.standings import together
from jaxdeep.search.tables.table import Table, TableRow, scalars

Run = tuple[int | None, int]  # the fold of a run, if there are folds, and its seed


def corrected_interval(
    values: ArrayLike | Sequence[float], n_train: float, n_validate: float, *, level: float = 0.95
) -> tuple[float, float]:
    """Confidence interval of the mean of a metric over folds, whose training sets share rows.

    It is ``mean ± t · s · √(1/n + n_validate / n_train)`` for n values of standard deviation s (divided
    by n − 1) and the quantile t of Student's distribution with n − 1 degrees of freedom. Folds of a
    cross-validation or of repeated random splits depend on each other, and the usual ``s / √n`` is too
    small. The term ``n_validate / n_train`` is what Nadeau and Bengio add for that: an approximation,
    which no estimate of this variance is without.

    Differences between two points on the same folds are values, too: an interval without 0 tells them
    apart. If several pairs are looked at, some will do so by chance.

    Args:
      values: one a fold, ≥ 2: the mean over its seeds.
      n_train, n_validate: rows that a fold is trained on and validated on, or their means over folds.
        With ``n_validate=0`` it is the usual interval of independent values, such as those of seeds.
      level: of confidence, in (0, 1).

    Returns:
      The bounds ``(low, high)``.

    Raises:
      ValueError, TypeError: fewer than two values, values that are not finite, numbers out of range.

    Source: Nadeau & Bengio, "Inference for the Generalization Error" (2003); for repeated k-fold,
    Bouckaert & Frank, "Evaluating the Replicability of Significance Tests for Comparing Learning
    Algorithms" (2004).

    >>> low, high = corrected_interval([0.90, 0.92, 0.94, 0.91, 0.93], n_train=80, n_validate=20)
    >>> round(low, 4), round(high, 4)
    (0.8906, 0.9494)
    """
    array = np.asarray(as_array("values", values), float)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"values must be two numbers at least, got an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"values must be finite, got {array[~np.isfinite(array)][0]}")
    _checks.check_number("n_train", n_train, "(0, inf)")
    _checks.check_number("n_validate", n_validate, "[0, inf)")
    _checks.check_number("level", level, "(0, 1)")
    from scipy.special import stdtrit

    n = len(array)
    t = stdtrit(n - 1, (1 + level) / 2)
    half = t * np.std(array, ddof=1) * np.sqrt(1 / n + n_validate / n_train)
    return float(np.mean(array) - half), float(np.mean(array) + half)


def intervals(
    table: Table, metric: str, *, level: float = 0.95, against: Mapping[str, Any] | None = None
) -> list[TableRow]:
    """The mean of a metric for each point of a table, with its confidence interval.

    In a cross-validation a value is the mean over the seeds of a fold, n is the number of folds, and the
    interval is the `corrected_interval`. Otherwise a value is that of a seed, n the number of seeds, and
    the interval the usual one of Student's t. Means are of runs that went to their end: where a run of a
    point diverged, was halved, or is missing, all three numbers are NaN; and so are the bounds of a
    single value.

    Args:
      table: of `jaxdeep.search.cross_validate`, `jaxdeep.sweep` or `jaxdeep.search.learning_curve`.
      metric: its name in the rows.
      level: of confidence, in (0, 1).
      against: a point of the table, such as ``table.best(metric, over_seeds=True)``. Then the numbers
        are of the differences to it in the same folds and seeds, which vary less than the values. Where
        the best of many points is chosen, differences to it look larger than they are.

    Returns:
      For each point a row like those of `Table.over_seeds`: its hyperparameters, "n", and "…_mean",
      "…_low" and "…_high" of the metric. (A hyperparameter that is called "n" comes first.)

    Raises:
      ValueError, TypeError: a table without rows, an unknown metric, a hyperparameter with the name of
        one of the metric's three numbers, a level out of range, a point that the table lacks.

    Source: as `corrected_interval`; pairs, Bouthillier et al., "Accounting for Variance in Machine
    Learning Benchmarks" (2021).

    >>> from jaxdeep.search.tables.table import Result
    >>> points = [{"rate": 0.1, "seed": seed} for seed in (0, 1)]
    >>> ends = [Result({}, {}, {"loss": np.array([v])}, end=0, ended="finished") for v in (1.0, 2.0)]
    >>> (row,) = intervals(Table(points, ends), "loss", level=0.5)
    >>> row["n"], row["loss_mean"], round(row["loss_low"], 6), round(row["loss_high"], 6)
    (2, 1.5, 1.0, 2.0)
    """
    if not isinstance(table, Table):
        raise TypeError(f"table must be a Table, as sweeps give, got {table!r}")
    _checks.check_number("level", level, "(0, 1)")
    if not table.results:
        raise ValueError("the table has no rows, so that there are no means")
    known = sorted({name for result in table.results for name in scalars(result.history)})
    if metric not in known:
        raise ValueError(f"metric must be one of {', '.join(known)}, got {metric!r}")
    hyperparameters = names_of(table.points)
    columns = [f"{metric}_{name}" for name in ("mean", "low", "high")]
    if odd := [name for name in columns if name in hyperparameters]:
        raise ValueError(
            f"metric must be one for which no hyperparameter is called {', '.join(columns)}; got "
            f"{metric!r}, and the table has {odd[0]!r}"
        )
    values = [row.get(metric, np.nan) if row["ended"] in FULL else np.nan for row in table.rows()]
    members = together(table.points)
    by_run = [{_run(table.points[i]): values[i] for i in rows} for rows in members]
    if against is not None:
        other = by_run[_place(against, [table.points[rows[0]] for rows in members])]
        by_run = [
            {run: v - other.get(run, np.nan) for run, v in run_values.items()} for run_values in by_run
        ]
    runs = {run for run_values in by_run for run in run_values}
    summaries = []
    for rows, run_values in zip(members, by_run):
        points = [table.points[i] for i in rows]
        complete = run_values if set(run_values) == runs else dict.fromkeys(runs, np.nan)
        n, *bounds = _summary(complete, points, level)
        of_n = {} if "n" in hyperparameters else {"n": n}
        summaries.append({**_free(points[0]), **of_n, **dict(zip(columns, bounds))})
    return summaries


def _summary(
    values: Mapping[Run, float], points: Sequence[Point], level: float
) -> tuple[int, float, float, float]:
    """The number of values, their mean, and the bounds of its interval."""
    by_value: dict[int | None, list[float]] = {}
    for (fold, seed), value in values.items():
        by_value.setdefault(seed if fold is None else fold, []).append(value)
    with np.errstate(invalid="ignore"):
        means = np.array([np.mean(several) for several in by_value.values()])
        mean = float(np.mean(means))
    if len(means) < 2 or not np.isfinite(means).all():
        return len(means), mean, np.nan, np.nan
    n_train, n_validate = _sizes(points) if "fold" in points[0] else (1, 0)
    return len(means), mean, *corrected_interval(means, n_train, n_validate, level=level)


def _sizes(points: Sequence[Point]) -> tuple[float, float]:
    """The mean numbers of rows for training and for validation."""
    if not all("n_train" in point and "n_validate" in point for point in points):
        raise ValueError(
            "table must have n_train and n_validate beside each fold, as cross_validate gives them"
        )
    sizes = np.array([(point["n_train"], point["n_validate"]) for point in points])
    n_train, n_validate = sizes.mean(axis=0)
    return float(n_train), float(n_validate)


def _run(point: Point) -> Run:
    return point.get("fold"), point["seed"]


def _free(point: Point) -> dict[str, Any]:
    return {name: value for name, value in point.items() if name not in RESERVED}


def _place(against: Mapping[str, Any], points: Sequence[Point]) -> int:
    """Which of the points has the hyperparameters of `against`."""
    if not isinstance(against, Mapping):
        raise TypeError(f"against must be a point, a dict of hyperparameters by name, got {against!r}")
    fitting = [
        (len(free), i)
        for i, free in enumerate(map(_free, points))
        if all(name in against and word(against[name]) == word(value) for name, value in free.items())
    ]
    if fitting:  # the point of most names, since another may have some of them
        most = max(names for names, _ in fitting)
        return next(i for names, i in fitting if names == most)
    raise ValueError(f"against must be a point of the table, got {dict(against)!r}")
