"""The protocol: each candidate is tuned, its chosen point is trained anew, and judged once."""

import pathlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdeep.comparison.candidate import COLUMN
from jaxdeep.comparison.directory import ever_chosen, note_asked
from jaxdeep.comparison.plan import Plan
from jaxdeep.fitting.evaluation import evaluate
from jaxdeep.fitting.progress import clock
from jaxdeep.search.spaces.space import Point, Points
from jaxdeep.search.sweep import sweep
from jaxdeep.search.tables.table import Table

_JUDGING = ("loss", "metrics", "objective")  # without penalties, which are means and no end


class Judged(NamedTuple):
    """What the protocol gives.

    Attributes:
      tuning: all trials.
      final: the runs of the chosen points.
      chosen: the number of the best trial of each candidate that has one, by name.
      test: for each of these the metrics on the test rows by name, ``(seeds,)`` each.
    """

    tuning: Table
    final: Table
    chosen: Mapping[str, int]
    test: Mapping[str, Mapping[str, np.ndarray]]


def carried_out(plan: Plan, how: Mapping[str, Any], checkpoint: pathlib.Path | None) -> Judged:
    """Tune, train the chosen points with fresh seeds, and judge.

    Args:
      plan: what is compared.
      how: arguments of `jaxdeep.sweep` about how rows are run.
      checkpoint: a directory from which it goes on.

    Raises:
      KeyboardInterrupt: it was interrupted; with a checkpoint nothing that has ended is lost.
    """
    every, began = _together(plan.points.values()), time.perf_counter()
    show = bool(how.get("progress"))
    if show:
        print(f"tuning: {stage(plan, 1)}; then final: {stage(plan, 2)}", flush=True)
    tuning = _swept(plan, every, 1, 0, how, checkpoint, "tuning")
    chosen = best_trials(plan, tuning)
    kept = list(chosen.items()) if checkpoint is None else ever_chosen(checkpoint, chosen)
    finals = _together([Points([plan.points[name][i]]) for name, i in kept])
    if not finals:
        return Judged(tuning, Table([], []), {}, {})
    if show:
        print(f"final: {stage(plan, 2)}; {clock(time.perf_counter() - began)} so far", flush=True)
    trained = _swept(plan, finals, plan.seeds, 1, how, checkpoint, "final")
    rows = {name: _rows_of(trained, plan.points[name][i]) for name, i in chosen.items()}
    final = Table(
        [trained.points[i] for places in rows.values() for i in places],
        [trained.results[i] for places in rows.values() for i in places],
    )
    test = {name: judged(plan, trained, places) for name, places in rows.items()}
    return Judged(tuning, final, chosen, test)


def stage(plan: Plan, number: int) -> str:
    """What a stage costs: candidates × trials, or × seeds, × epochs."""
    several = len(plan.points)
    trials = sum(map(len, plan.points.values()))
    per_candidate = f"{plan.budget} trials" if number == 1 else f"{plan.seeds} seeds"
    if number == 1 and trials != several * plan.budget:
        per_candidate = f"up to {per_candidate}"
    runs = trials if number == 1 else several * plan.seeds
    many = "1 candidate" if several == 1 else f"{several} candidates"
    return f"{many} × {per_candidate} × {plan.epochs} epochs = {runs * plan.epochs:,} epochs"


def best_trials(plan: Plan, tuning: Table) -> dict[str, int]:
    """The number of each candidate's best trial on the validation rows; of ties the first.

    Candidates none of whose trials ended with finite parameters are missing.
    """
    sign = 1 if plan.mode == "max" else -1
    chosen: dict[str, int] = {}
    values = {
        (point[COLUMN], number): sign * result.value(f"val_{plan.metric}")
        for (point, number), result in zip(_numbered(tuning), tuning.results)
        if result.full
    }
    for name in plan.candidates:
        by_number = {number: value for (of, number), value in values.items() if of == name}
        finite = {number: value for number, value in by_number.items() if np.isfinite(value)}
        if finite:
            chosen[name] = max(finite, key=lambda number: (finite[number], -number))
    return chosen


def judged(plan: Plan, trained: Table, rows: list[int]) -> dict[str, np.ndarray]:
    """The loss and the metrics on the test rows, of each of these runs.

    A run that diverged has NaN.
    """
    by_row: list[dict[str, float]] = []
    for row in rows:
        arguments = plan.arguments(trained.points[row])
        if not trained.results[row].full:
            by_row.append({})
            continue
        params, state = trained.trained(row)
        passed = {name: arguments[name] for name in _JUDGING if arguments.get(name) is not None}
        values = evaluate(arguments["model"], params, state, plan.parts.test, **passed)
        by_row.append({name: float(value) for name, value in values.items() if np.ndim(value) == 0})
    names = list(dict.fromkeys(name for values in by_row for name in values)) or [plan.metric]
    return {name: np.array([values.get(name, np.nan) for values in by_row]) for name in names}


def _swept(
    plan: Plan,
    points: Points,
    seeds: int,
    key: int,
    how: Mapping[str, Any],
    checkpoint: pathlib.Path | None,
    name: str,
) -> Table:
    table = sweep(
        plan.built,
        points,
        data=plan.parts.train,
        validation=plan.parts.validation,
        seeds=seeds,
        key=plan.keys[key],
        checkpoint=None if checkpoint is None else checkpoint / name,
        **how,
        **plan.shared,
    )
    if checkpoint is not None:
        note_asked(plan, checkpoint)
    ended = [result.ended for result in table.results]
    if len(ended) < len(points) * seeds or "interrupted" in ended:
        raise KeyboardInterrupt
    return table


def _together(parts: Any) -> Points:
    points: list[Point] = []
    spaces: list[Any] = []
    for part in parts:
        points.extend(part)
        spaces.extend(part.spaces or ())
    return Points(points, spaces)


def _numbered(table: Table) -> list[tuple[Point, int]]:
    """The points of a table, and the number of each among those of its candidate."""
    seen: dict[str, int] = {}
    numbered = []
    for point in table.points:
        number = seen.get(point[COLUMN], 0)
        seen[point[COLUMN]] = number + 1
        numbered.append((point, number))
    return numbered


def _rows_of(table: Table, point: Point) -> list[int]:
    """The rows of a point, in the order of their seeds."""
    wanted = dict(point)
    return [
        i
        for i, seeded in enumerate(table.points)
        if {name: value for name, value in seeded.items() if name != "seed"} == wanted
    ]
