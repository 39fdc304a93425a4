"""How the rows of a sweep are taken to their ends: group by group, rung by rung."""

import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

from jaxdeep.fitting.interruption import Interruption, interruptible
from jaxdeep.fitting.progress import Report, reporting
from jaxdeep.search import halving as successive
from jaxdeep.search.halving import SuccessiveHalving
from jaxdeep.search.table import scalars
from jaxdeep.search.trial import Group, OnEpochs, Trial
from jaxdeep.train import monitors


class Runner(Protocol):
    """What runs the rows of a group."""

    def advance(
        self, rows: list[Trial], until: int, on_epochs: OnEpochs, interruption: Interruption
    ) -> None:
        """Take rows to the end of epoch `until`, or until an interruption."""


MakeRunner = Callable[[Group], Runner]


def drive(
    groups: list[Group],
    rows: list[Trial],
    make_runner: MakeRunner,
    halving: SuccessiveHalving | None,
    *,
    show: bool,
) -> list[Trial]:
    """Take all rows to their ends, and return them; after an interruption, those that have begun.

    Raises:
      KeyboardInterrupt: an interruption before any epoch was done.
      ValueError: no point is left whose metric is finite.
      Exception: what every row raised.
    """
    epochs = sum(row.setup.epochs for row in rows)
    done = sum(row.setup.epochs if row.result is not None else row.epoch for row in rows)
    with (
        reporting(epochs, None, show=show, title=f"{len(rows)} rows", begun=done) as report,
        interruptible(show=show) as interruption,
    ):
        _run(groups, rows, make_runner, halving, _Meter(report, epochs, done), interruption)
    _tell_errors(rows)
    return _begun(rows, interruption)


def _run(
    groups: list[Group],
    rows: list[Trial],
    make_runner: MakeRunner,
    halving: SuccessiveHalving | None,
    on_epochs: "_Meter",
    interruption: Interruption,
) -> None:
    """Run every row to its end, rung by rung, or until an interruption."""
    points: dict[int, list[Trial]] = {}
    for row in rows:
        points.setdefault(row.place[0], []).append(row)
    running = list(points.values())
    runners: dict[int, Runner] = {}
    *rungs, last = successive.rungs(halving, max(row.setup.epochs for row in rows))
    for until in (*rungs, last):
        going = {id(row) for seeds in running for row in seeds if _is_before(row, until)}
        for i, group in enumerate(groups):
            if part := [row for row in group.rows if id(row) in going]:
                runners[i] = runners.get(i) or make_runner(group)
                runners[i].advance(part, until, on_epochs, interruption)
            if interruption.noted:
                return
            if until == last:
                runners.pop(i, None)  # its programs and its copies of the data are not needed any more
        if halving is not None and until != last:
            running = _halved(halving, running, until, on_epochs)


def _is_before(row: Trial, until: int) -> bool:
    return row.result is None and row.epoch < min(until, row.setup.epochs)


def _halved(
    halving: SuccessiveHalving, points: list[list[Trial]], until: int, on_epochs: "_Meter"
) -> list[list[Trial]]:
    """The points that go on after a rung, when the others have been ended."""
    metric, sign = monitors.resolve(halving, scalars(points[0][0].shapes.history))
    values = [[row.value_at(until, metric) for row in seeds] for seeds in points]
    best = set(successive.survivors(halving, values, sign))
    for i, rows in enumerate(points):
        for row in rows:
            if i not in best and row.result is None:
                on_epochs(row.setup.epochs - row.epoch)
                row.end("halved")
    return [rows for i, rows in enumerate(points) if i in best]


def _begun(rows: list[Trial], interruption: Interruption) -> list[Trial]:
    """All rows; of an interrupted sweep, those that have done an epoch at least, and have ended now."""
    if not interruption.noted:
        return rows
    for row in rows:
        if row.result is None and row.epoch > 0:
            row.end("interrupted")
    kept = [row for row in rows if row.result is not None]
    if not kept:
        raise KeyboardInterrupt
    return kept


def _tell_errors(rows: Sequence[Trial]) -> None:
    """Warn of rows that ended with an error. If all did, raise it."""
    failed = [row for row in rows if row.result is not None and row.result.ended == "error"]
    if not failed:
        return
    raised = next((row.error for row in failed if row.error is not None), None)
    last = (failed[0].result.error if failed[0].result else "").strip().splitlines()[-1:]
    if len(failed) == len(rows):
        if raised is not None:
            raise raised
        raise RuntimeError(
            f"all {len(rows)} rows ended with an error in an earlier call, such as {' '.join(last)}; "
            "mend what raised it, and pass retry_errors=True"
        )
    warnings.warn(
        f"{len(failed)} of {len(rows)} rows ended with an error, such as {' '.join(last)}; the error "
        "of a row of the table is in table.results[row].error",
        stacklevel=4,
    )


class _Meter:
    """Counts the epochs of all threads, and reports each twentieth of the total."""

    def __init__(self, report: Report, total: int, done: int) -> None:
        self.report, self.total = report, total
        self.done = self.told = done
        self.lock = threading.Lock()

    def __call__(self, epochs: int) -> None:
        with self.lock:
            self.done += epochs
            if self.done - self.told >= self.total / 20 or self.done == self.total > self.told:
                self.told = self.done
                self.report(self.done, {})
