"""The directory of a sweep: what has become of its rows, and what it takes to go on with them."""

import contextlib
import math
import pathlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from jaxdeep import _version
from jaxdeep._shapes import PyTree
from jaxdeep._warning import warn
from jaxdeep.fitting.description import difference_of
from jaxdeep.fitting.directory import held
from jaxdeep.fitting.setup import Setup
from jaxdeep.search.records import row_file
from jaxdeep.search.records.identity import digest_of
from jaxdeep.search.records.journal import Event, Journal, no_event
from jaxdeep.search.records.row_file import Kept
from jaxdeep.search.records.writer import Work, Writer
from jaxdeep.search.tables.result import FULL, Result, Span
from jaxdeep.train.options import TrialOptions, options_of
from jaxdeep.train.run import RunState

Ending = tuple[PyTree, PyTree]  # parameters and state that a row ends with

_FORMAT = 1
_SHARE = 100  # a row is saved after so many times what that takes: 1 % of a worker's time


class Ranking(NamedTuple):
    """Which rows are better: by the last value of a metric, times `sign`, smaller is better."""

    metric: str
    sign: float


class Row(Protocol):
    """What a directory knows of a row.

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
    """

    ended: Result | None = None
    epoch: int = 0


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
        """Tell each row what is known of it, and note those that are new.

        With `again`, rows that ended with an error are run again. With `partial`, there may be others.
        """

    def holds(self, row: Row) -> bool:
        """Whether the end of a row is known from an earlier call."""
        return False

    def flush(self) -> None:
        """Wait until all that is to be kept is."""

    def is_due(self, row: Row) -> bool:
        """Whether it is time to save a row that goes on."""
        return False

    def save(self, row: Row, run: RunState) -> None:
        """Keep the state of a row after an epoch."""

    def tell(self, job: Event) -> None:
        """Keep what has been decided upon, so that later calls decide alike."""

    @property
    def told(self) -> Sequence[Event]:
        """What earlier calls have told."""
        return ()

    def end(self, row: Row, run: RunState, result: Result, own: Ending | None) -> None:
        """Keep a row that has ended, and give it its result.

        Args:
          row, run, result: the row, its last state and its result, parameters included.
          own: the result's parameters and state, if they are not those of the last state.
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


class Directory(Store):
    """A sweep's directory: a journal, and a file with the state of each row.

    Args:
      path: the directory, which is held by this process.
      about: what the sweep is, besides its points, seeds and epochs.
      keep: how many rows keep their files after they have ended; None for all.
      ranking: which of them.
      refusal: the error that what must be written raises, where the directory can only be read.

    Raises:
      ValueError: the directory holds another sweep (the error says what differs), or a journal that is
        damaged.
    """

    lasts = True

    def __init__(
        self,
        path: pathlib.Path,
        about: Event,
        *,
        keep: int | None,
        ranking: Ranking | None,
        refusal: OSError | None = None,
    ) -> None:
        self.path, self._keep, self._ranking = path, keep, ranking
        self._journal = Journal(path / "journal.jsonl", refusal)
        if refusal is None:
            (path / "rows").mkdir(exist_ok=True)
        self._rows: dict[str, Event] = {}
        self._texts: dict[str, str] = {}
        self._pasts: dict[str, Past] = {}
        self._told: list[Event] = []
        self._best: list[tuple[float, str]] = []
        self._saved: dict[str, float] = {}
        header, *events = self._journal.events or [{}]
        try:
            self._check_header(header, about)
        except ValueError:
            self._journal.close()
            raise
        for number, event in enumerate(events, 2):
            try:
                self._replay(event)
            except (AttributeError, KeyError, TypeError, ValueError):
                self._journal.close()
                raise no_event(self._journal.path, number, event) from None
        if refusal is None:
            self._forget_all()
        self.began = header.get("began", time.time())
        if not header:
            first = {"sweep": _FORMAT, "about": about, "made_with": _versions(), "began": self.began}
            self._journal.add([first])
        self._writer = Writer(self._journal)

    def register(self, rows: Sequence[Row], *, again: bool = False, partial: bool = False) -> None:
        """Tell each row what is known of it, and note those that are new.

        With `again`, rows that ended with an error are run again. With `partial`, there may be others.

        Raises:
          ValueError: a row that is there with another setup, or with more epochs; a row that is there
            and not here, unless there may be others.
        """
        asked = {row.id for row in rows}
        missing = [event for name, event in self._rows.items() if name not in asked]
        if missing and not partial:
            some = ", ".join(_point_of(event) for event in missing[:3])
            raise ValueError(
                f"checkpoint={str(self.path)!r} holds a sweep of {len(missing)} more rows, such as "
                f"{some}: points and seeds may grow, and none may be left out. Add them, or give a new "
                "directory"
            )
        new: list[Event] = []
        for row in rows:
            made_of = {name: digest_of(text) for name, text in row.texts.items()}
            for name, text in row.texts.items():
                if made_of[name] not in self._texts:
                    self._texts[made_of[name]] = text
                    new.append({"text": made_of[name], "is": text})
            known = self._rows.get(row.id)
            if known is not None:
                self._check_row(row, known, made_of)
            if known is None or known["epochs"] != row.setup.epochs:
                event = {
                    "row": row.id,
                    "point": row.words,
                    "seed": row.place[2],
                    "epochs": row.setup.epochs,
                    "made_of": made_of,
                }
                self._rows[row.id] = event
                new.append(event)
            past = self._pasts.get(row.id, NOTHING)
            if past.ended is not None and past.ended.ended == "error" and again:
                past = past._replace(ended=None)
            row.past = past
            row.spans.extend([] if past.ended is None else past.ended.spans)
            row.result = self._final(row, past.ended)
        self._journal.add(new)

    def holds(self, row: Row) -> bool:
        """Whether the journal says how a row ended."""
        return self._pasts.get(row.id, NOTHING).ended is not None

    def flush(self) -> None:
        """Wait until all that was to be written is."""
        self._writer.flush()

    def is_due(self, row: Row) -> bool:
        """Whether a row was saved long ago, for what saving costs."""
        self._writer.check()
        since = time.monotonic() - self._saved.setdefault(row.id, time.monotonic())
        return since > _SHARE * max(self._writer.seconds, 1e-3)

    def save(self, row: Row, run: RunState) -> None:
        """Copy the state of a row, and have it written."""
        self._put(row, run, None, ({"reached": row.id, "epoch": int(run.epoch)},))

    def tell(self, job: Event) -> None:
        """Have it written, after the states of rows that it is about."""
        self._writer.put(Work(after=({"told": job},)))

    @property
    def told(self) -> Sequence[Event]:
        """What was in the journal."""
        return self._told

    def end(self, row: Row, run: RunState, result: Result, own: Ending | None) -> None:
        """Have a row that has ended written, and let go of its parameters."""
        like = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (result.params, result.state)
        )
        row.result = result = result._replace(
            params=Kept(self._file(row.id), like, self._keep), state=None
        )
        if result.ended == "interrupted":  # it goes on at the next call
            self._put(row, run, own, ({"reached": row.id, "epoch": int(run.epoch)},))
            return
        self._put(row, run, own, ({"ended": row.id, **_as_event(result)},), result)

    def fail(self, row: Row, result: Result) -> None:
        """Have the error of a row written."""
        self._writer.put(Work(after=({"ended": row.id, **_as_event(result)},)))

    def load(self, row: Row) -> RunState | None:
        """Read the file of a row."""
        self._writer.flush()
        path = self._file(row.id)
        if not path.exists():
            return None
        try:
            arrays, epoch = row_file.read(path)
            if epoch > row.setup.epochs:
                return None
            return row_file.restored(arrays, epoch, row.shapes, row.setup.room)
        except ValueError as error:
            warn(f"{error}; the row {row.words} begins anew")
            return None

    def close(self) -> None:
        """Write what is left, and close the journal.

        Raises:
          OSError: something could not be written.
        """
        self._writer.close()
        self._journal.close()
        self._writer.check()

    # --- what was there -------------------------------------------------------------------------------

    def _check_header(self, header: Event, about: Event) -> None:
        if not header:
            return
        if header.get("sweep") != _FORMAT:
            raise ValueError(
                f"checkpoint={str(self.path)!r} holds a journal of the format {header.get('sweep')!r}, "
                f"and this version of jaxdeep reads {_FORMAT}; give another directory"
            )
        there = header["about"]
        odd = [name for name in {**there, **about} if there.get(name) != about.get(name)]
        if odd:
            told = "; ".join(f"{n}: {difference_of(there.get(n), about.get(n))}" for n in odd)
            raise ValueError(
                f"checkpoint={str(self.path)!r} holds another sweep; it differs in {told}. Give a new "
                "directory, or delete that one"
            )

    def _replay(self, event: Event) -> None:
        if "text" in event:
            self._texts[event["text"]] = event["is"]
        elif "row" in event:
            known = {name: event[name] for name in ("row", "point", "seed", "epochs", "made_of")}
            self._rows[event["row"]] = known
        elif "told" in event:
            self._told.append(event["told"])
        elif "reached" in event:
            past = self._pasts.get(event["reached"], NOTHING)
            self._pasts[event["reached"]] = past._replace(epoch=event["epoch"], ended=None)
            self._best = [best for best in self._best if best[1] != event["reached"]]
        elif "ended" in event:
            name, result = event["ended"], _from_event(event)
            past = self._pasts.get(name, NOTHING)
            self._pasts[name] = past._replace(epoch=result.epochs, ended=result)
            self._to_forget(name, result)

    def _forget_all(self) -> None:
        """Remove files that a kill has left of rows that are not among the best."""
        best = {name for _, name in self._best}
        for name, past in self._pasts.items():
            if self._keep is not None and past.ended is not None and name not in best:
                self._file(name).unlink(missing_ok=True)

    def _check_row(self, row: Row, known: Event, made_of: Mapping[str, str]) -> None:
        there = known["made_of"]
        for name in {**there, **made_of}:
            if there.get(name) != made_of.get(name):
                default = repr(getattr(options_of(TrialOptions).get(name), "default", None))
                texts = (self._texts.get(d.get(name, ""), default) for d in (there, made_of))
                raise ValueError(
                    f"checkpoint={str(self.path)!r} holds a sweep whose row {_point_of(known)} has "
                    f"another {name}: {difference_of(*texts)}. Give a new directory, or delete that one"
                )
        if row.setup.epochs < known["epochs"]:
            raise ValueError(
                f"epochs must be at least {known['epochs']}, as in the sweep in {str(self.path)!r}, for "
                f"the row {_point_of(known)}; got {row.setup.epochs}"
            )

    def _final(self, row: Row, ended: Result | None) -> Result | None:
        """The result of a row that needs nothing more; a halved one is what the ranks make of it."""
        if ended is None or ended.ended == "halved":
            return None
        if ended.ended == "finished" and ended.epochs < row.setup.epochs:
            return None
        if ended.ended == "error":
            return ended
        return self.kept(row, ended)

    def kept(self, row: Row, ended: Result) -> Result:
        """A result from the journal with its parameters."""
        ts = row.shapes.train_state
        return ended._replace(
            params=Kept(self._file(row.id), (ts.params, ts.state), self._keep), state=None
        )

    # --- what is written ------------------------------------------------------------------------------

    def _file(self, name: str) -> pathlib.Path:
        return self.path / "rows" / f"{name}.safetensors"

    def _put(
        self,
        row: Row,
        run: RunState,
        own: Ending | None,
        after: tuple[Event, ...],
        result: Result | None = None,
    ) -> None:
        """Copy a run now, and have its file and these events written."""
        epoch = int(run.epoch)
        arrays = row_file.arrays_of(run, own, copy=result is None)
        remove = () if result is None else self._to_forget(row.id, result)
        self._saved[row.id] = time.monotonic()
        made = lambda: row_file.contents(arrays, epoch)  # noqa: E731
        self._writer.put(Work(self._file(row.id), made, after, remove))

    def _to_forget(self, name: str, result: Result) -> tuple[pathlib.Path, ...]:
        """The files that are not among the best any more, now that a row has ended."""
        if self._keep is None or self._ranking is None:
            return ()
        value = self._ranking.sign * result.at_end(self._ranking.metric)
        if result.ended not in FULL or not math.isfinite(value):
            return (self._file(name),)
        self._best = sorted([*(best for best in self._best if best[1] != name), (value, name)])
        worst = self._best[self._keep :]
        del self._best[self._keep :]
        return tuple(self._file(name) for _, name in worst)


@contextlib.contextmanager
def opened(
    path: pathlib.Path | None, about: Event, *, keep: int | None, ranking: Ranking | None
) -> Iterator[Store]:
    """The directory of a sweep, locked against others; with None, rows are in memory alone."""
    if path is None:
        yield Store(keep=keep, ranking=ranking)
        return
    with held(path, "sweep") as refusal:
        directory = Directory(path, about, keep=keep, ranking=ranking, refusal=refusal)
        try:
            yield directory
        except BaseException:
            with contextlib.suppress(OSError):
                directory.close()
            raise
        directory.close()


def _versions() -> Event:
    python = ".".join(map(str, sys.version_info[:3]))
    return {"jaxdeep": _version.__version__, "jax": jax.__version__, "python": python}


def _point_of(event: Event) -> str:
    return f"{event['point']} with seed {event['seed']}"


def _as_event(result: Result) -> Event:
    """A result without parameters as JSON, which keeps every bit."""
    history = {
        name: [values.dtype.name, _numbers(values.astype(np.float64).tolist())]
        if values.dtype.kind not in "iu"
        else [values.dtype.name, values.tolist()]
        for name, values in result.history.items()
    }
    error = {"error": result.error} if result.error else {}
    spans = {"spans": [list(span) for span in result.spans]}
    return {"how": result.ended, "end": result.end, "history": history, **spans, **error}


def _from_event(event: Event) -> Result:
    history = {
        name: np.asarray(_floats(values) if not dtype.startswith(("int", "uint")) else values).astype(
            jax.numpy.dtype(dtype)
        )
        for name, (dtype, values) in event["history"].items()
    }
    spans = tuple(Span(*span) for span in event["spans"])
    return Result(None, None, history, event["end"], event["how"], event.get("error", ""), spans)


def _number(value: float) -> float | str:
    """A number for JSON, which has no NaN and infinities."""
    return value if math.isfinite(value) else repr(value)


def _numbers(values: Any) -> Any:
    return [_numbers(v) for v in values] if isinstance(values, list) else _number(values)


def _floats(values: Any) -> Any:
    return [_floats(v) for v in values] if isinstance(values, list) else float(values)
