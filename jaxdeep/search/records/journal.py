"""An append-only journal: JSON lines with one writer, of which a kill can cost the last one."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from jaxdeep._warning import warn
from jaxdeep.fitting.directory import reason_of

Event = dict[str, Any]


class Journal:
    """The file `path`, whose events are read once and to which more are added.

    This is a class because it holds an open file. Who opens it holds its directory's lock
    (`jaxdeep.fitting.directory.held`), so that there is one writer. With a `refusal` it cannot be
    written: it is read, and `add` raises the refusal.

    Attributes:
      events: those that were in the file when it was opened.
      refusal: why it cannot be written, if it cannot.

    Raises:
      ValueError: a line in the middle that is no event, with its number; the file stays as it is.
      OSError: there is no such file, and it cannot be written.
    """

    def __init__(self, path: pathlib.Path, refusal: OSError | None = None) -> None:
        self.path, self.refusal = path, refusal
        if refusal is not None and not path.exists():
            raise refusal
        data = path.read_bytes() if path.exists() else b""
        self.events, self._size = _read(path, data)
        if self._size < len(data):
            warn(
                f"the last line of {path} is torn, as after a kill in the middle of writing it; it is "
                "left out"
            )
        if refusal is not None:
            return
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.ftruncate(self._file, self._size)
        if not self._size:
            with contextlib.suppress(OSError):  # the name of a new file is part of its directory
                _sync_directory(path.parent)

    def add(self, events: Iterable[Event]) -> None:
        """Write events and wait until they are on the disk.

        Raises:
          OSError: there is no room, or the disk refuses; the file ends with the last whole line.
        """
        lines = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events).encode()
        if not lines:
            return
        if self.refusal is not None:
            raise self.refusal
        try:
            written = 0
            while written < len(lines):
                written += os.pwrite(self._file, lines[written:], self._size + written)
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise not_written(self.path, error) from error
        self._size += len(lines)

    def close(self) -> None:
        """Close the file."""
        if self.refusal is None:
            os.close(self._file)


def no_event(path: pathlib.Path, number: int, line: object) -> ValueError:
    """The error for a line that is no event of a sweep."""
    return ValueError(
        f"line {number} of {path} is no event of a sweep: {str(line)[:60]}; the file was changed or "
        "damaged. Mend or remove that line, or give another directory"
    )


def not_written(path: pathlib.Path, error: Exception) -> OSError:
    """The error for a file of a sweep that could not be written: what to do."""
    return OSError(
        f"{str(path)!r} could not be written ({reason_of(error)}); rows that had ended before are kept. "
        "Make room there, or make the directory writable, and call sweep again: it goes on from there"
    )


def replace_file(path: pathlib.Path, contents: bytes) -> None:
    """Write a file so that it has its old contents or the new ones, whatever happens meanwhile."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise not_written(path, error) from error


def _sync_directory(directory: pathlib.Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: pathlib.Path, data: bytes) -> tuple[list[Event], int]:
    """The events of a journal, and the bytes up to the end of the last whole line."""
    *lines, _ = data.split(b"\n")
    events = []
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            if not isinstance(event, dict):
                raise ValueError
        except ValueError:
            raise no_event(path, number, line) from None
        events.append(event)
    return events, sum(len(line) + 1 for line in lines)
