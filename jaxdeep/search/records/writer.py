"""A thread that writes what a sweep must not lose, while its rows go on."""

import contextlib
import pathlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxdeep.search.records.journal import Event, Journal, sync_file, write_file, write_part

_WAITING = 64  # pieces of work, at most, before those who bring more must wait
_TOGETHER = 0.1  # seconds that work waits for more, since each time costs those who train
_SYNC = 5.0  # seconds of work, at most, that a power cut costs; a kill of the process costs none


class Work(NamedTuple):
    """What belongs together: a file or a part of one, then lines that say that it is there.

    Attributes:
      path, contents: the file, and what makes its bytes; None for no file.
      after: events to be written after it, or without a file.
      remove: files that are not needed any more once the events are on the disk.
      durable: whether this and all work before it is on the disk when it is done.
      start: where the bytes begin in the file, if they are a part of it.
    """

    path: pathlib.Path | None = None
    contents: Callable[[], bytes] | None = None
    after: tuple[Event, ...] = ()
    remove: tuple[pathlib.Path, ...] = ()
    durable: bool = False
    start: int | None = None


class Writer:
    """Writes pieces of work in the order in which they come, several at a time if they wait.

    What is written survives the process at once. Every few seconds it is also brought to the disk: the
    files, the journal, and then a mark in the journal, which says so.

    Attributes:
      seconds: what a file takes to make and write, on average of the last ones.
    """

    def __init__(self, journal: Journal) -> None:
        self.seconds = 0.0
        self._journal = journal
        self._files = dict[pathlib.Path, None]()  # that are not on the disk yet, in their order
        self._remove = dict[pathlib.Path, None]()
        self._due: float | None = None  # when all must be there; None if it is
        self._marked = False
        self._queue: queue.Queue[Work | None] = queue.Queue(_WAITING)
        self._error: Exception | None = None
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="jaxdeep-sweep-writer", daemon=True)
        self._thread.start()

    def put(self, work: Work) -> None:
        """Queue a piece of work for the thread that writes.

        Raises:
          OSError: an earlier piece could not be written, or the directory cannot be written to.
        """
        self.check()
        if self._journal.refusal is not None:
            raise self._journal.refusal
        if self._queue.full():
            self._hurry.set()
        self._queue.put(work)

    def check(self) -> None:
        """Raise the error of what could not be written, if there was one."""
        if self._error is not None:
            raise self._error

    def flush(self, *, durable: bool = False) -> None:
        """Wait until all work so far is done, and with `durable` on the disk.

        Raises:
          OSError: something could not be written.
        """
        if threading.current_thread() is not self._thread:
            if durable and self._journal.refusal is None:
                self.put(Work(durable=True))
            self._hurry.set()
            self._queue.join()
        self.check()

    def close(self) -> None:
        """Wait until all work is done and on the disk, and end the thread."""
        self._queue.put(None)
        self._hurry.set()
        self._thread.join()

    def _loop(self) -> None:
        going = True
        while going:
            waiting = self._next()
            going = None not in waiting
            try:
                # After a failure nothing is written, so that no event is missing between others.
                if self._error is None:
                    self._write([work for work in waiting if work is not None], last=not going)
            except Exception as error:
                self._error = error
                self._due = None
            for _ in waiting:
                self._queue.task_done()

    def _next(self) -> list[Work | None]:
        """The work that waits, when there is some; nothing, if it is time to sync before."""
        waiting = []
        with contextlib.suppress(queue.Empty):
            seconds = None if self._due is None else max(self._due - time.monotonic(), 1e-3)
            waiting.append(self._queue.get(timeout=seconds))
            self._hurry.wait(_TOGETHER)
            self._hurry.clear()
            while True:
                waiting.append(self._queue.get_nowait())
        return waiting

    def _write(self, waiting: list[Work], *, last: bool) -> None:
        """Write the newest of each file, and all lines that come after them."""
        newest = {w.path: w for w in waiting if w.path is not None and w.start is None}
        parts = _joined([work for work in waiting if work.start is not None])
        events = [event for work in waiting for event in work.after]
        if self._due is None and (newest or parts or events):
            if not self._marked:  # what was there before is on the disk
                self._journal.mark()
                self._marked = True
            self._due = time.monotonic() + _SYNC
        for path, work in newest.items():
            assert work.contents is not None
            began = time.monotonic()
            write_file(path, work.contents())
            self._files[path] = None
            self._remove.pop(path, None)
            self._took(time.monotonic() - began)
        for path, start, pieces in parts:
            write_part(path, start, pieces)
            self._files[path] = None
        self._journal.write(events)
        self._remove.update(dict.fromkeys(path for work in waiting for path in work.remove))
        asked = last or any(work.durable for work in waiting)
        if self._due is not None and (asked or time.monotonic() >= self._due):
            self._sync()

    def _sync(self) -> None:
        """Bring what was written to the disk, and remove what is not needed any more."""
        began, files = time.monotonic(), [path for path in self._files if path not in self._remove]
        for path in files:
            sync_file(path)
        for directory in {path.parent for path in files}:
            with contextlib.suppress(OSError):  # not every system syncs directories
                sync_file(directory)
        self._journal.mark()
        for path in self._remove:
            path.unlink(missing_ok=True)
        if files:
            self._took(self.seconds + (time.monotonic() - began) / len(files))
        self._files.clear()
        self._remove.clear()
        self._due = None

    def _took(self, seconds: float) -> None:
        self.seconds = seconds if not self.seconds else 0.8 * self.seconds + 0.2 * seconds


def _joined(works: Sequence[Work]) -> list[tuple[pathlib.Path, int, list[bytes]]]:
    """The parts of files that are to be written, those that follow each other as pieces of one."""
    ends: list[tuple[pathlib.Path, int, list[bytes]]] = []
    end = -1
    for work in works:
        assert work.path is not None
        assert work.start is not None
        assert work.contents is not None
        contents = work.contents()
        if not (ends and ends[-1][0] == work.path and work.start == end):
            ends.append((work.path, work.start, []))
        ends[-1][2].append(contents)
        end = work.start + len(contents)
    return ends
