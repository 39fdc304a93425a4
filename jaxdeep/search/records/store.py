"""What becomes of the rows of a sweep: `Store` keeps them in memory."""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from jaxdeep._shapes import PyTree
from jaxdeep.fitting.setup import Setup
from jaxdeep.search.records.journal import Event
from jaxdeep.search.tables.result import FULL, Result, Span
from jaxdeep.train.run import RunState

Ending = tuple[PyTree, PyTree]  # parameters and state that a row ends with


class Ranking(NamedTuple):
    """Which rows are better: by the last value of a metric, times `sign`, smaller is better."""

    metric: str
    sign: float


class Row(Protocol):
    """A row of a sweep, with what a store has to know of it.

    Attributes:
      id: a checksum of its point and seed, and of what the sweep is.
      words: its point as JSON.
      texts: what its setup is made of, by option.
      place: the indices of its point and of its subset, and its seed.
      setup: its setup.
      shapes: those of its run.
      spans: when it ran.
      past: what is known of it from earlier calls.
      result: how it ended, if it did.
    """

    id: str
    words: Any
    texts: Mapping[str, str]
    place: tuple[int, int, int]
    setup: Setup
    shapes: Any
    spans: list[Span]
    past: "Past"
    result: Result | None


class Past(NamedTuple):
    """What is known of a row from an earlier call.

    Attributes:
      ended: how it ended, if it did.
      epoch: epochs that its file or its end is after.
      stopped: whether it ended before the epochs that it had been given.
    """

    ended: Result | None = None
    epoch: int = 0
    stopped: bool = False


NOTHING = Past()


class Store:
    """Where the rows of a sweep are kept: here in memory, in `Directory` on the disk.

    Attributes:
      began: when the sweep began, in seconds as `time.time` counts them.
      lasts: whether rows can go on in another process.
    """

    lasts = False

    def __init__(self, *, keep: int | None = None, ranking: Ranking | None = None) -> None:
        self.began = time.time()
        self._keep, self._ranking = keep, ranking
        self._kept_rows: list[tuple[float, Row]] = []
        self._letting_go = threading.Lock()

    def register(self, rows: Sequence[Row], *, again: bool = False, partial: bool = False) -> None:
        """Give each row what earlier calls have left of it, and note rows that are new.

        With `again`, rows that ended with an error are run again. With `partial`, there may be others.
        """

    def holds(self, row: Row) -> bool:
        """Whether the end of a row is known from an earlier call."""
        return False

    def lost(self, row: Row) -> bool:
        """Whether a row has ended in an earlier call, and its file was removed by others since."""
        return False

    def flush(self, *, durable: bool = False) -> None:
        """Wait until all that is to be kept outlives the process, and with `durable` a power cut."""

    def is_due(self, row: Row) -> bool:
        """Whether it is time to save a row that goes on."""
        return False

    def save(self, row: Row, run: RunState) -> None:
        """Keep the state of a row after an epoch."""

    def tell(self, job: Event) -> None:
        """Keep what has been decided upon, so that later calls decide alike."""

    @property
    def told(self) -> Sequence[Event]:
        """The jobs that earlier calls have noted with `tell`."""
        return ()

    def end(self, row: Row, run: RunState, result: Result, ending: Ending | None) -> None:
        """Keep a row that has ended, and give it its result.

        Args:
          row, run, result: the row, its last state and its result, parameters included.
          ending: the result's parameters and state, if they are not those of the last state.
        """
        row.result = result
        if self._keep is None or self._ranking is None:
            return
        value = self._ranking.sign * result.at_end(self._ranking.metric)
        if result.ended not in FULL or not math.isfinite(value):
            row.result = result._replace(params=None, state=None)
            return
        with self._letting_go:
            self._kept_rows.append((value, row))
            self._kept_rows.sort(key=lambda kept: (kept[0], kept[1].place))
            for _, worst in self._kept_rows[self._keep :]:
                assert worst.result is not None
                worst.result = worst.result._replace(params=None, state=None)
            del self._kept_rows[self._keep :]

    def fail(self, row: Row, result: Result) -> None:
        """Keep the error that a row ended with."""

    def load(self, row: Row) -> RunState | None:
        """The state of a row when it was saved last; None if there is none."""
        return None

    def kept(self, row: Row, ended: Result) -> Result:
        """The result of an earlier call with its parameters."""
        return ended
