"""The directory of a sweep: how its rows have ended, and the states from which others go on."""

import contextlib
import functools
import math
import pathlib
import threading
import time
import uuid
from collections.abc import Iterator, Sequence

from jaxdeep._compilation import uninterrupted
from jaxdeep._warning import warn
from jaxdeep.fitting.directory import held
from jaxdeep.lasting.identity import digest_of
from jaxdeep.search.records import refusals, row_file
from jaxdeep.search.records.events import as_event, from_event
from jaxdeep.search.records.journal import SWEEP, Event, Journal, no_event, versions
from jaxdeep.search.records.row_file import Kept, Place
from jaxdeep.search.records.store import NOTHING, Ending, Past, Ranking, Row, Store
from jaxdeep.search.records.writer import Work, Writer
from jaxdeep.search.tables.result import FULL, Result
from jaxdeep.train.rewinding import rewound
from jaxdeep.train.run import RunState

_SMALL = 2**20  # bytes of a state that is kept with others
# A running row is saved again once this many times the duration of a saving have passed, so that saving
# takes about 1 % of a worker's time.
_SHARE = 100


class Directory(Store):
    """A sweep's directory: a journal, and the states of rows.

    Small states of rows that have ended are in one file for each call, one after another, since many
    files take long to write. A row that goes on has a file of its own, and so have rows of which only
    the best are kept, since these are removed again.

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
        refusals.check_kind(path)
        self._journal = Journal(path / SWEEP, refusal)
        if refusal is None:
            (path / "rows").mkdir(exist_ok=True)
        self._ending = threading.Lock()  # guards `_best`
        self._saved: dict[str, float] = {}
        # that of this call alone, so that no place is written twice, whatever becomes of the journal
        self._file_of_many, self._end = path / "rows" / f"ended-{uuid.uuid4().hex[:12]}.bin", 0
        header = self._journal.events[0] if self._journal.events else {}
        try:
            refusals.check_header(path, header, about)
            # earlier versions did not note which files they removed
            self._tells = not header or header.get("tells", False)
            self._replay_all()
            newest = {
                event.get("reached") or event.get("ended"): event for event in self._journal.unsure
            }
            if not all(map(self._is_whole, newest.values())):
                warn(
                    f"not all that was written to {str(path)!r} in the last seconds has reached the "
                    "disk, as after a power cut; the rows of these seconds are trained again"
                )
                self._journal.cut()
                self._replay_all()
        except ValueError:
            self._journal.close()
            raise
        if refusal is None:
            self._forget_all()
        self.began = header.get("began", time.time())
        if not header:
            first = {
                "sweep": refusals.FORMAT,
                "about": about,
                "made_with": versions(),
                "began": self.began,
            }
            first["tells"] = True  # the journal notes which files were removed
            self._journal.add([first])
        self._writer = Writer(self._journal)

    def register(self, rows: Sequence[Row], *, again: bool = False, partial: bool = False) -> None:
        """Give each row what the journal knows of it, and note rows that are new.

        With `again`, rows that ended with an error are run again. With `partial`, there may be others.

        Raises:
          ValueError: a row that is there with another setup, or with more epochs; a row that is there
            and not here, unless there may be others.
        """
        digest = functools.cache(digest_of)  # rows have most of their texts in common
        made_of = [{name: digest(text) for name, text in row.texts.items()} for row in rows]
        texts = self._texts | {digest(text): text for row in rows for text in row.texts.values()}
        for row, parts in zip(rows, made_of):  # what was changed is named before what is missing
            if row.id in self._rows:
                refusals.check_row(self.path, row, self._rows[row.id], parts, texts)
        asked = {row.id for row in rows}
        missing = [event for name, event in self._rows.items() if name not in asked]
        if missing and not partial:
            some = ", ".join(refusals.point_of(event) for event in missing[:3])
            raise ValueError(
                f"checkpoint={str(self.path)!r} holds a sweep of {len(missing)} more rows, such as "
                f"{some}: points and seeds may grow, and none may be left out. Add them, or give a new "
                "directory"
            )
        lost = {row.id for row in rows if self._is_lost(row.id)}
        if lost:
            warn(
                f"the files of the parameters of {len(lost)} rows are not there any more in "
                f"{str(self.path)!r}; these rows are trained again"
            )
        new: list[Event] = [
            {"text": name, "is": text} for name, text in texts.items() if name not in self._texts
        ]
        self._texts.update(texts)
        for row, parts in zip(rows, made_of):
            known = self._rows.get(row.id)
            if known is None or known["epochs"] != row.setup.epochs:
                event = {
                    "row": row.id,
                    "point": row.words,
                    "seed": row.place[2],
                    "epochs": row.setup.epochs,
                    "made_of": parts,
                }
                self._rows[row.id] = event
                new.append(event)
            past = NOTHING if row.id in lost else self._pasts.get(row.id, NOTHING)
            if past.ended is not None and past.ended.ended == "error" and again:
                past = past._replace(ended=None)
            row.past = past
            row.spans.extend([] if past.ended is None else past.ended.spans)
            if _goes_on(row, past):
                row.past = past._replace(ended=None)
            row.result = self._final(row, row.past.ended)
        self._journal.add(new)

    def holds(self, row: Row) -> bool:
        """Whether the journal says how a row ended."""
        return self._pasts.get(row.id, NOTHING).ended is not None

    def lost(self, row: Row) -> bool:
        """Whether a row has ended, and its file was removed by others."""
        return self._is_lost(row.id)

    def flush(self, *, durable: bool = False) -> None:
        """Wait until all that was to be written is, and with `durable` until it is on the disk."""
        self._writer.flush(durable=durable)

    def is_due(self, row: Row) -> bool:
        """Whether it is time to save a row again, measured by the time that a saving takes."""
        self._writer.check()
        now = time.monotonic()
        return now - self._saved.setdefault(row.id, now) > _SHARE * max(self._writer.seconds, 1e-3)

    def save(self, row: Row, run: RunState) -> None:
        """Copy the state of a row, and have it written."""
        self._put(row, run, None, {"reached": row.id, "epoch": int(run.epoch)})

    def tell(self, job: Event) -> None:
        """Have a job written to the journal, after the states of the rows that it is about."""
        self._writer.put(Work(after=({"told": job},)))

    @property
    def told(self) -> Sequence[Event]:
        """The jobs that were in the journal when it was opened."""
        return self._told

    def end(self, row: Row, run: RunState, result: Result, ending: Ending | None) -> None:
        """Have a row that has ended written, and let go of its parameters."""
        if result.ended == "interrupted":  # the row goes on at the next call
            self._put(row, run, ending, {"reached": row.id, "epoch": int(run.epoch)})
        elif not (self._keep is None and self._pack(row, run, ending, result)):
            self._put(row, run, ending, {"ended": row.id, **as_event(result)}, result)
        row.result = self.kept(row, result)

    def fail(self, row: Row, result: Result) -> None:
        """Have the error that ended a row written to the journal."""
        self._writer.put(Work(after=({"ended": row.id, **as_event(result)},)))

    def load(self, row: Row) -> RunState | None:
        """The saved state of a row, read from its file."""
        self._writer.flush()
        place = self._place(row.id)
        if not place.path.exists():
            return None
        try:
            arrays, epoch = row_file.read(place)
            if epoch > row.setup.epochs:
                return None
            run = row_file.restored(arrays, epoch, row.shapes, row.setup.room)
            return rewound(run, row.setup.epochs, row.setup.options["validate_every"])
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

    def _replay_all(self) -> None:
        """Rebuild what is known of all rows from the events of the journal."""
        self._rows: dict[str, Event] = {}
        self._texts: dict[str, str] = {}
        self._pasts: dict[str, Past] = {}
        self._told: list[Event] = []
        self._best: list[tuple[float, str]] = []
        self._packed: dict[str, Place] = {}  # states that are in a file of many
        self._filed = set[str]()  # rows that have a file of their own
        self._forgotten = set[str]()  # rows whose files were removed
        for number, event in enumerate(self._journal.events[1:], 2):
            try:
                self._replay(event)
            except (AttributeError, KeyError, TypeError, ValueError):
                raise no_event(self._journal.path, number, event) from None

    def _is_whole(self, event: Event) -> bool:
        """Whether the file that an event was written after is there, or a later one of its row."""
        name = event.get("reached") or event.get("ended")
        if name is None or event.get("how") == "error" or event.get("kept") is False:
            return True
        try:
            _, epoch = row_file.read(self._place_in(event))
        except ValueError:
            return False
        return epoch >= (event["epoch"] if "reached" in event else from_event(event).epochs)

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
            self._packed.pop(event["reached"], None)
            self._filed.add(event["reached"])
        elif "ended" in event:
            name, result = event["ended"], from_event(event)
            past = self._pasts.get(name, NOTHING)
            stopped = result.epochs < self._rows[name]["epochs"]
            self._pasts[name] = past._replace(epoch=result.epochs, ended=result, stopped=stopped)
            self._packed.pop(name, None)
            self._forgotten.discard(name)
            if event.get("kept") is False:
                self._forgotten.add(name)
            if "at" in event:
                self._packed[name] = self._place_in(event)
            else:
                self._filed.add(name)
            self._to_forget(name, result)
        self._forgotten.update(event.get("forgot", ()))

    def _is_lost(self, name: str) -> bool:
        """Whether the file of a row that has ended was removed by others."""
        past = self._pasts.get(name, NOTHING)
        if past.ended is None or past.ended.ended == "error" or name in self._forgotten:
            return False
        known = name in self._packed or (name in self._filed and self._tells)
        return known and not self._place(name).path.exists()

    def _forget_all(self) -> None:
        """Remove files that a kill has left of rows that are not among the best, or are elsewhere."""
        best = {name for _, name in self._best}
        ended = [name for name, past in self._pasts.items() if past.ended is not None]
        worse = [name for name in ended if self._keep is not None and name not in best]
        if new := [name for name in worse if name not in self._forgotten]:
            self._forgotten.update(new)
            self._journal.add([{"forgot": new}])
        for name in worse:
            self._file(name).unlink(missing_ok=True)
        for file in (self.path / "rows").iterdir():
            if file.stem in self._packed:
                file.unlink(missing_ok=True)

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
            params=Kept(self._place(row.id), (ts.params, ts.state), self._keep), state=None
        )

    # --- what is written ------------------------------------------------------------------------------

    def _file(self, name: str) -> pathlib.Path:
        return self.path / "rows" / f"{name}.safetensors"

    def _place(self, name: str) -> Place:
        """Where the state of a row is, if there is one."""
        return self._packed.get(name) or Place(self._file(name))

    def _place_in(self, event: Event) -> Place:
        """Where the state is that an event was written after."""
        if "at" not in event:
            return Place(self._file(event.get("reached") or event["ended"]))
        file, start, size = event["at"]
        return Place(self.path / "rows" / file, start, size)

    def _pack(self, row: Row, run: RunState, ending: Ending | None, result: Result) -> bool:
        """Have the state of a row that has ended written behind the others, if it is small."""
        arrays = row_file.arrays_of(run, ending, copy=False)
        if sum([array.nbytes for array in arrays.values()]) >= _SMALL:
            return False
        contents, event = row_file.contents(arrays, int(run.epoch)), as_event(result)
        path, size = self._file_of_many, len(contents)
        with self._ending:
            start, self._end = self._end, self._end + size
            event = {"ended": row.id, **event, "at": [path.name, start, size]}
            self._packed[row.id] = Place(path, start, size)
            remove = (self._file(row.id),) if row.id in self._filed else ()
            self._filed.discard(row.id)
            self._writer.put(Work(path, lambda: contents, (event,), remove, start=start))
        return True

    def _put(
        self,
        row: Row,
        run: RunState,
        ending: Ending | None,
        event: Event,
        result: Result | None = None,
    ) -> None:
        """Copy the state of a run now, and have the writer write it and then the event."""
        epoch, path = int(run.epoch), self._file(row.id)
        remove: tuple[pathlib.Path, ...] = ()
        self._saved[row.id] = time.monotonic()
        with self._ending:  # so that the order of the journal is that of the decisions
            self._packed.pop(row.id, None)
            if result is not None:
                remove = self._to_forget(row.id, result)
            if forgot := [file.stem for file in remove]:
                self._forgotten.update(forgot)
                event = {**event, "forgot": forgot}
            if path in remove:  # the row is not among the best, so that nothing of it is kept
                self._writer.put(Work(after=({**event, "kept": False},), remove=remove))
                return
            self._filed.add(row.id)
            arrays = row_file.arrays_of(run, ending, copy=result is None)
            made = lambda: row_file.contents(arrays, epoch)  # noqa: E731
            self._writer.put(Work(path, made, (event,), remove))

    def _to_forget(self, name: str, result: Result) -> tuple[pathlib.Path, ...]:
        """The files that are not among the best any more, now that a row has ended."""
        if self._keep is None or self._ranking is None:
            return ()
        value = self._ranking.sign * result.at_end(self._ranking.metric)
        if result.ended not in FULL or not math.isfinite(value):
            self._packed.pop(name, None)
            return (self._file(name),)
        self._best = sorted([*(best for best in self._best if best[1] != name), (value, name)])
        worst = self._best[self._keep :]
        del self._best[self._keep :]
        for _, other in worst:
            self._packed.pop(other, None)
        return tuple(self._file(name) for _, name in worst)


def _goes_on(row: Row, past: Past) -> bool:
    """Whether a row that had ended has further epochs now, to be looked at in its state.

    One that diverged, or stopped after an evaluation that only its last epoch had, may go on.
    """
    if past.ended is None or past.stopped or past.epoch >= row.setup.epochs:
        return False
    alone = past.epoch % row.setup.options["validate_every"] > 0
    return past.ended.ended == "diverged" or (alone and past.ended.ended in FULL)


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
            with contextlib.suppress(OSError), uninterrupted():
                directory.close()
            raise
        with uninterrupted():  # what is still written would meet what another call writes
            directory.close()
