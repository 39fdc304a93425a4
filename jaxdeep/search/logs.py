"""`log=` of a sweep: the values of every epoch of every row, told once and in order, with the row."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxdeep.fitting.interruption import Interruption
from jaxdeep.fitting.logs import listed, teller
from jaxdeep.search.spaces.space import Point
from jaxdeep.search.tables.columns import RowNames
from jaxdeep.search.trial import Trial
from jaxdeep.train.options import Log


class LoggedRow(NamedTuple):
    """The row of a sweep that a log is told of.

    Attributes:
      name: its point and seed in words that a file may be named after, the same in every call and of no
        other row: ``"learning_rate=0.1,seed=0"``. Where the words may be those of another row, as of
        functions and arrays, a checksum of the values ends them: ``"activation=tanh,seed=0-d80ccb18"``.
      point: its hyperparameters by name, with the seed, and the fold or the size of a part of the data.
    """

    name: str
    point: Point


class RowLogs:
    """The logs of a sweep, of which one is told at a time.

    An error that one raises ends the sweep after the epochs at hand, and is raised there.
    """

    def __init__(
        self, log: Log | Sequence[Log] | None, interruption: Interruption, names: RowNames
    ) -> None:
        self.logs, self._name_of = listed(log), names
        self.error: Exception | None = None
        self._interruption, self._lock = interruption, threading.Lock()

    def follow(self, rows: Sequence[Trial]) -> None:
        """Report every further epoch of these rows to the log, and none of earlier calls."""
        if not self.logs:
            return
        for row in rows:
            row.telling = self._teller(row)
            if row.result is not None and row.result.ended != "error":
                row.telling(row.result.epochs, row.result.history)

    def check(self) -> None:
        """Raise the exception that the user's log function has raised, if it has."""
        if self.error is not None:
            raise self.error

    def _teller(self, row: Trial) -> Any:
        point = {**row.point, **row.subset.names, "seed": row.place[2]}
        named = LoggedRow(self._name_of(point), point)
        return teller([_OfRow(self, log, named) for log in self.logs], row.epoch)

    def call(self, log: Log, values: Mapping[str, float], step: int, row: LoggedRow) -> None:
        """Tell one log, unless one has raised an error before."""
        with self._lock:
            if self.error is not None:
                return
            try:
                log(values, step=step, row=row)
            except Exception as error:  # of the log, for which the row is not to blame
                self.error, self._interruption.noted = error, True


class _OfRow:
    """A log of a run, which is a row."""

    def __init__(self, logs: RowLogs, log: Log, row: LoggedRow) -> None:
        self._logs, self._log, self._row = logs, log, row

    def __call__(self, values: dict[str, float], step: int) -> None:
        self._logs.call(self._log, values, step, self._row)

    def last_step(self) -> Any:
        """The last step of the row that the log knows; None if it cannot say."""
        ask = getattr(self._log, "last_step", None)
        return None if ask is None else ask(self._row)
