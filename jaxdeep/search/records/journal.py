"""An append-only journal: JSON lines with one writer, of which a kill can cost the last one."""

import contextlib
import json
import os
import pathlib
import sys
import threading
from collections.abc import Iterable
from typing import Any, NoReturn

import jax

from jaxdeep import _version
from jaxdeep._warning import warn
from jaxdeep.fitting.directory import reason_of

Event = dict[str, Any]

MARK: Event = {"synced": True}
SWEEP, POPULATION = "journal.jsonl", "population.jsonl"  # names of the journals in their directories

_NEW = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)


class Journal:
    """The file `path`, whose events are read once and to which more are added.

    A kill of the process costs nothing that was written. A power cut may cost what no `mark` came after,
    since the system writes to the disk when it likes, and in the order that it likes.

    This is a class because it holds an open file. Who opens it holds its directory's lock
    (`jaxdeep.fitting.directory.held`), so that there is one writer, whose threads take turns.
    With a `refusal` it cannot be written: it is read, and what would write raises the refusal. Errors
    name what it is the journal `of`.

    Attributes:
      events: those that were in the file when it was opened, marks included.
      refusal: why it cannot be written, if it cannot.

    Raises:
      ValueError: a line in the middle that is no event, with its number; the file stays as it is.
      OSError: there is no such file, and it cannot be written.
    """

    def __init__(self, path: pathlib.Path, refusal: OSError | None = None, *, of: str = "sweep") -> None:
        self.path, self.refusal = path, refusal
        if refusal is not None and not path.exists():
            raise refusal
        data = path.read_bytes() if path.exists() else b""
        self.events, self._ends = _read(path, data, of)
        self._size = self._ends[-1] if self._ends else 0
        if self._size < len(data):
            warn(
                f"the last line of {path} is torn, as after a kill in the middle of writing it; it is "
                "left out"
            )
        self._lock = threading.Lock()
        if refusal is not None:
            return
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.ftruncate(self._file, self._size)
        if not self._size:
            with contextlib.suppress(OSError):  # the name of a new file is part of its directory
                sync_file(path.parent)

    @property
    def unsure(self) -> list[Event]:
        """The events that were read and that no mark comes after; none, if there are no marks."""
        return self.events[self._sure() :]

    def add(self, events: Iterable[Event]) -> None:
        """Write events and wait until they are on the disk.

        Raises:
          OSError: there is no room, or the disk refuses; the file ends with the last whole line.
        """
        with self._lock:
            before = self._size
            self._write(events)
            if self._size > before:
                self._sync(before)

    def write(self, events: Iterable[Event]) -> None:
        """Write events, which the system keeps in its memory for a while.

        Raises:
          OSError: as of `add`.
        """
        with self._lock:
            self._write(events)

    def mark(self) -> None:
        """Wait until all events are on the disk, and note it; what they are about is there before.

        Raises:
          OSError: as of `add`.
        """
        with self._lock:
            self._sync(self._size)
            self._write([MARK])

    def cut(self) -> None:
        """Forget the events that are `unsure`."""
        sure = self._sure()
        self.events = self.events[:sure]
        with self._lock:
            self._size = self._ends[sure - 1] if sure else 0
            if self.refusal is None:
                os.ftruncate(self._file, self._size)

    def close(self) -> None:
        """Close the file."""
        if self.refusal is None:
            os.close(self._file)

    def _sure(self) -> int:
        """How many of the events that were read are known to be on the disk."""
        marks = [i for i, event in enumerate(self.events) if event == MARK]
        return marks[-1] + 1 if marks else len(self.events)

    def _write(self, events: Iterable[Event]) -> None:
        lines = "".join(map(_line, events)).encode()
        if lines and self.refusal is not None:
            raise self.refusal
        try:
            written = 0
            while written < len(lines):
                written += os.pwrite(self._file, lines[written:], self._size + written)
        except OSError as error:
            self._refuse(error, self._size)
        self._size += len(lines)

    def _sync(self, before: int) -> None:
        try:
            os.fsync(self._file)
        except OSError as error:
            self._refuse(error, before)

    def _refuse(self, error: OSError, size: int) -> NoReturn:
        """Raise an error, and end the file with so many bytes."""
        self._size = size
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, size)
        raise not_written(self.path, error) from error


def no_event(path: pathlib.Path, number: int, line: object, of: str = "sweep") -> ValueError:
    """The error for a line that is no event of a sweep, or of what else the journal is."""
    return ValueError(
        f"line {number} of {path} is no event of a {of}: {str(line)[:60]}; the file was changed or "
        "damaged. Mend or remove that line, or give another directory"
    )


def not_written(path: pathlib.Path, error: Exception) -> OSError:
    """The error for a file of a sweep that could not be written: what to do."""
    return OSError(
        f"{str(path)!r} could not be written ({reason_of(error)}); rows that had ended before are kept. "
        "Make room there, or make the directory writable, and call sweep again: it goes on from there"
    )


def write_file(path: pathlib.Path, contents: bytes) -> None:
    """Write a file so that, if there was one, it has the old contents or the new ones, whatever happens.

    A new file may be torn by a kill: what says that it is there is to be written after it. Neither is on
    the disk before `sync_file`.
    """
    temporary = path
    try:
        try:
            handle = os.open(path, _NEW | os.O_EXCL, 0o666)
        except FileExistsError:
            temporary = path.with_name(f".{path.name}.tmp")
            handle = os.open(temporary, _NEW | os.O_TRUNC, 0o666)
        try:
            rest = memoryview(contents)
            while rest:
                rest = rest[os.write(handle, rest) :]
        finally:
            os.close(handle)
        if temporary is not path:
            os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise not_written(path, error) from error


def write_part(path: pathlib.Path, start: int, pieces: Iterable[bytes]) -> None:
    """Write pieces of a file behind each other; it is not on the disk before `sync_file`.

    The file is made if there is none. The pieces are not joined first: that much memory is mapped anew
    each time.

    Raises:
      OSError: there is no room, or the disk refuses.
    """
    try:
        handle = os.open(path, _NEW, 0o666)
        try:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    written = os.pwrite(handle, rest, start)
                    rest, start = rest[written:], start + written
        finally:
            os.close(handle)
    except OSError as error:
        raise not_written(path, error) from error


def sync_file(path: pathlib.Path) -> None:
    """Wait until a file, or which files a directory has, is on the disk; one that is gone needs none."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        os.close(handle)


def _line(event: Event) -> str:
    return json.dumps(event, separators=(",", ":")) + "\n"


def _read(path: pathlib.Path, data: bytes, of: str) -> tuple[list[Event], list[int]]:
    """The events of a journal, and after how many bytes the line of each ends."""
    *lines, _ = data.split(b"\n")
    mark = _line(MARK).encode().rstrip()
    events, ends, end = list[Event](), list[int](), 0
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            if not isinstance(event, dict):
                raise ValueError
        except ValueError:
            if b"\0" in line and MARK in events and mark not in lines[number:]:
                break  # a power cut has left a gap among lines that were not on the disk
            raise no_event(path, number, line, of) from None
        end += len(line) + 1
        events.append(event)
        ends.append(end)
    return events, ends


def versions() -> Event:
    """The versions of jaxdeep, JAX and Python that write a journal, for whoever cannot read it."""
    python = ".".join(map(str, sys.version_info[:3]))
    return {"jaxdeep": _version.__version__, "jax": jax.__version__, "python": python}
