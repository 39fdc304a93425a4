"""A thread that writes what a sweep must not lose, while its rows go on."""

import contextlib
import pathlib
import queue
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from jaxdeep.search.records.journal import Event, Journal, replace_file

_WAITING = 64  # pieces of work, at most, before those who bring more must wait


class Work(NamedTuple):
    """What belongs together: a file, then lines that say that it is there.

    Attributes:
      path, contents: the file, and what makes its bytes; None for no file.
      after: events to be written after it, or without a file.
      remove: files that are not needed any more once the events are written.
    """

    path: pathlib.Path | None = None
    contents: Callable[[], bytes] | None = None
    after: tuple[Event, ...] = ()
    remove: tuple[pathlib.Path, ...] = ()


class Writer:
    """Writes pieces of work in the order in which they come, several at a time if they wait.

    Attributes:
      seconds: what a file takes to make and write, on average of the last ones.
    """

    def __init__(self, journal: Journal) -> None:
        self.seconds = 0.0
        self._journal = journal
        self._queue: queue.Queue[Work | None] = queue.Queue(_WAITING)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._loop, name="jaxdeep-sweep-writer", daemon=True)
        self._thread.start()

    def put(self, work: Work) -> None:
        """Have a piece of work done.

        Raises:
          OSError: an earlier one could not be written, or nothing can.
        """
        self.check()
        if self._journal.refusal is not None:
            raise self._journal.refusal
        self._queue.put(work)

    def check(self) -> None:
        """Raise the error of what could not be written, if there was one."""
        if self._error is not None:
            raise self._error

    def flush(self) -> None:
        """Wait until all work so far is done.

        Raises:
          OSError: something could not be written.
        """
        if threading.current_thread() is not self._thread:
            self._queue.join()
        self.check()

    def close(self) -> None:
        """Wait until all work is done, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        going = True
        while going:
            waiting = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.append(self._queue.get_nowait())
            going = None not in waiting
            try:
                if self._error is None:  # nothing is written after a gap
                    self._write([work for work in waiting if work is not None])
            except Exception as error:
                self._error = error
            for _ in waiting:
                self._queue.task_done()

    def _write(self, waiting: list[Work]) -> None:
        """Write the newest of each file, and all lines that come after them."""
        newest = {work.path: work for work in waiting if work.path is not None}
        for path, work in newest.items():
            assert work.contents is not None
            began = time.monotonic()
            replace_file(path, work.contents())
            took = time.monotonic() - began
            self.seconds = took if not self.seconds else 0.8 * self.seconds + 0.2 * took
        self._journal.add(event for work in waiting for event in work.after)
        for work in waiting:
            for path in work.remove:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
