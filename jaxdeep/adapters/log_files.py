"""The values of a run's epochs as a file, CSV or JSON lines, for `log=` of `jaxdeep.fit`."""

import csv
import io
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from jaxdeep import _checks

Row = dict[str, float]  # of a step by name; a value that is not there is left out


class Held(NamedTuple):
    """What a file holds: rows by step, columns, and bytes up to the end of the last line."""

    rows: dict[int, Row]
    names: tuple[str, ...]
    size: int


class Form(Protocol):
    """A format of log files, such as CSV."""

    def held(self, data: bytes) -> Held:
        """What a file of these bytes, which end with a line, holds; a ValueError of one of others."""

    def takes(self, names: Iterable[str], row: Row) -> bool:
        """Whether a file with these columns can have this row as its next line."""

    def text(self, rows: Mapping[int, Row], names: tuple[str, ...], *, begun: bool) -> str:
        """Rows as lines of a file that is begun, or from its first line on."""


class LogFile:
    """A file as a function ``(values, step=…)``, which appends a line.

    The file is open no longer than it takes to append one line in one write, and a line that a kill has
    left unfinished is cut off before the next. Steps rise: a step that is not above the last one begins
    another run, or one that goes on from an earlier epoch. Then the file is kept beside as ``….1``, and
    only the steps below it stay.
    """

    def __init__(self, path: pathlib.Path, form: Form):
        self.path, self._form = path, form
        self._held = self._read()

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Append the values of a step.

        Raises:
          ValueError: a value called "step".
        """
        if "step" in values:
            raise ValueError(
                "values must not have the name 'step', which the number of the step has in "
                f"{str(self.path)!r}; give it another"
            )
        row = {name: float(value) for name, value in values.items() if not math.isnan(value)}
        rises, held = step > self.last_step(), self._held
        if rises and held.size and self._form.takes(held.names, row):
            self._append(step, row)
        else:
            rows = {known: before for known, before in held.rows.items() if known < step}
            self._write({**rows, step: row}, (*held.names, *row), keeps=not rises)

    def last_step(self) -> int:
        """The last step in the file; 0 without any."""
        if _size(self.path) != self._held.size:  # something else has changed the file
            self._held = self._read()
        return next(reversed(self._held.rows), 0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def _read(self) -> Held:
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        try:
            if data and not whole:  # a file appears with its first line, so that it is none of ours
                raise ValueError("it has no whole line")
            return self._form.held(whole)
        except ValueError as error:
            reason = "it is no text in UTF-8" if isinstance(error, UnicodeError) else error
            raise ValueError(
                f"path must be a new file or one that was written as this one will be, and "
                f"{str(self.path)!r} was not ({reason}); give another"
            ) from None

    def _append(self, step: int, row: Row) -> None:
        """Write a line, where one that was not finished is cut off before."""
        held = self._held
        line = self._form.text({step: row}, held.names, begun=True).encode()
        if _size(self.path) > held.size:
            os.truncate(self.path, held.size)
        with self.path.open("ab", buffering=0) as file:
            file.write(line)
        held.rows[step] = row
        self._held = held._replace(size=held.size + len(line))

    def _write(self, rows: dict[int, Row], names: tuple[str, ...], *, keeps: bool) -> None:
        """Write the file anew, beside the old one, which stays if there were other rows in it."""
        used = {name for row in rows.values() for name in row}
        names = tuple(name for name in dict.fromkeys(names) if name in used)
        text = self._form.text(rows, names, begun=False).encode()
        unfinished = self.path.with_name(f"{self.path.name}.tmp")
        unfinished.write_bytes(text)
        if keeps:
            self.path.rename(_free(self.path))
        unfinished.replace(self.path)
        self._held = Held(rows, names, len(text))


class _Csv:
    """A header with the names, then a line for each step; a value that is not there is left blank."""

    def held(self, data: bytes) -> Held:
        header, *lines = _cells(data.decode()) or [["step"]]
        if header[:1] != ["step"]:
            raise ValueError(f"its first column is {''.join(header[:1])!r}, and not 'step'")
        if twice := [name for place, name in enumerate(header) if name in header[:place]]:
            raise ValueError(f"two of its columns are called {twice[0]!r}")
        rows, names = {}, header[1:]
        for number, line in enumerate(lines, 2):
            try:
                step, *cells = line
                rows[int(step)] = {name: float(cell) for name, cell in zip(names, cells) if cell}
            except ValueError:
                raise ValueError(f"its line {number} has no whole number and then numbers") from None
        return Held(rows, tuple(names), len(data))

    def takes(self, names: Iterable[str], row: Row) -> bool:
        return row.keys() <= set(names)

    def text(self, rows: Mapping[int, Row], names: tuple[str, ...], *, begun: bool) -> str:
        lines = io.StringIO(newline="")
        writer = csv.writer(lines, lineterminator="\n")
        if not begun:  # csv quotes a "\r" only where lines end in one, though it reads it as an end
            quotes = csv.writer(lines, lineterminator="\n", quoting=csv.QUOTE_ALL)
            header = quotes if any("\r" in name for name in names) else writer
            header.writerow(["step", *names])
        for step, row in rows.items():
            writer.writerow([step, *(repr(row[name]) if name in row else "" for name in names)])
        return lines.getvalue()


class _JsonLines:
    """An object for each step."""

    def held(self, data: bytes) -> Held:
        rows, names = {}, dict[str, None]()
        for number, line in enumerate(data.decode().splitlines(), 1):
            row = _numbers_by_name(line)
            if row is None or type(step := row.pop("step", None)) is not int:
                raise ValueError(f"its line {number} is no object of numbers with a whole one as 'step'")
            rows[step] = {name: float(value) for name, value in row.items()}
            names |= dict.fromkeys(row)
        return Held(rows, tuple(names), len(data))

    def takes(self, names: Iterable[str], row: Row) -> bool:
        return True

    def text(self, rows: Mapping[int, Row], names: tuple[str, ...], *, begun: bool) -> str:
        return "".join(_json_line(step, row) for step, row in rows.items())


def to_csv(path: str | os.PathLike[str]) -> LogFile:
    """A log for `jaxdeep.fit` that appends a line for each epoch to a CSV file: ``step,loss,val_loss``.

    A line is written at once and whole, so that a kill leaves the lines before it; an unfinished one is
    cut off by the run that goes on, which adds those that are missing. A run that begins anew keeps the
    file of another as ``log.csv.1``. Values come back from it to the bit. A name that is new, such as
    that of a later phase, becomes a column, for which the file is written anew.

    Args:
      path: the file; its folder is made if missing.

    Returns:
      A function ``(values, step=…)``, with a method ``last_step()``. It refuses a value called "step".

    Raises:
      TypeError: a `path` that is none. ValueError: a file there that was not written like that. OSError:
        it cannot be read, or its folder not be made.

    Source: Keras' `CSVLogger`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = to_csv(f"{folder}/log.csv")
    ...     log({"loss": 0.5}, step=1)
    ...     log({"loss": 0.25, "val_loss": 0.5}, step=2)
    ...     print(pathlib.Path(folder, "log.csv").read_text(), end="")
    step,loss,val_loss
    1,0.5,
    2,0.25,0.5
    """
    return LogFile(_file("path", path), _Csv())


def to_json_lines(path: str | os.PathLike[str]) -> LogFile:
    """A log for `jaxdeep.fit` that appends an object for each epoch: ``{"step": 1, "loss": 0.5}``.

    It is `to_csv` in another form, which needs no header, so that names may differ from line to line. An
    infinite value is written as 1e999, which is JSON and read as one.

    Args:
      path: the file; its folder is made if missing.

    Returns:
      A function ``(values, step=…)``, with a method ``last_step()``. It refuses a value called "step".

    Raises:
      TypeError: a `path` that is none. ValueError: a file there that was not written like that. OSError:
        it cannot be read, or its folder not be made.

    Source: jsonlines.org.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = to_json_lines(f"{folder}/log.jsonl")
    ...     log({"loss": 0.5}, step=1)
    ...     print(pathlib.Path(folder, "log.jsonl").read_text(), end="")
    {"step": 1, "loss": 0.5}
    """
    return LogFile(_file("path", path), _JsonLines())


def _cells(text: str) -> list[list[str]]:
    try:
        return [*csv.reader(io.StringIO(text, newline=""))]
    except csv.Error:
        raise ValueError("it is no CSV") from None


def _numbers_by_name(line: str) -> dict[str, Any] | None:
    """The object of a line; None if that is something else."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    is_one = isinstance(row, dict) and all(type(value) in (int, float) for value in row.values())
    return row if is_one else None


def _json_line(step: int, row: Row) -> str:
    def number(value: float) -> str:
        return json.dumps(value) if math.isfinite(value) else ("1e999" if value > 0 else "-1e999")

    entries = {"step": str(step), **{name: number(value) for name, value in row.items()}}
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in entries.items()) + "}\n"


def _file(name: str, path: str | os.PathLike[str]) -> pathlib.Path:
    file = _checks.local_path(name, path)
    if file.is_dir():
        raise ValueError(f"{name} must be a file, and {str(file)!r} is a folder")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _free(path: pathlib.Path) -> pathlib.Path:
    """The first name ``….1``, ``….2`` and so on that is not taken."""
    number = 1
    while (free := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return free


def _size(path: pathlib.Path) -> int:
    return path.stat().st_size if path.exists() else 0
