"""CSV files, read in blocks by Python's own reader: the same cells whatever is installed."""

import codecs
import contextlib
import csv
import gzip
import itertools
import pathlib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TextIO

from jaxdeep._quoted import quoted
from jaxdeep.tables.cells import Cells, of_values

_DELIMITERS = ",;\t|"
_LOOKED_THROUGH = 2**24  # characters of a row, for the end of a long cell
_LINES = 1024  # made columns of at a time
_TRIED = 100  # lines behind the names, by which delimiters are told apart
_SAYS_DELIMITER = re.compile(r'"?sep=([^\w"\r\n])"?\s*', re.IGNORECASE)  # as Excel reads and writes it
_END = "\0end"  # a line of its own after the last one, unless a quote is open there


def opened(
    file: pathlib.Path, nulls: Collection[str], written: str | None = None
) -> tuple[tuple[str, ...], Callable[[Sequence[str], int], Iterator[dict[str, Cells]]]]:
    """The names in the first line, and a function of names and a number of rows that reads blocks.

    What is between the cells, one of ``, ; | tab``, is told from the first line, and where it holds
    several of them, by which of them the next lines have as many cells; commas between digits are then
    decimal ones. A line ``sep=;`` in front of the names says it, as in Excel. A file is UTF-8, with or
    without a byte-order mark; with .gz it is unpacked while it is read. Lines without anything are left
    out, and so are, in front of the names or where there are several columns, those of blanks.

    Raises:
      ValueError: no names, two columns of one name, two delimiters that fit, a line of another number of
        cells, a cell of more than 131,072 characters, a quote that is not closed; with the number of the
        line. What is no UTF-8.
    """
    with _open(file) as lines, _located(file):
        before, first, said = _beginning(lines)
        second = lines.readline()
    if not first:
        raise ValueError(f"{str(file)!r} is empty; its first line must name the columns")
    delimiter = said or _found(file, before, first)
    if first.startswith("#") and second.strip():
        with _located(file):
            cells = [
                len(next(csv.reader([line], delimiter=_delimiter(line)))) for line in (first, second)
            ]
        if cells[0] != cells[1]:
            raise ValueError(
                f"{str(file)!r} begins with a comment, {quoted(first.strip()[:40])}, where its first "
                f"line must name the columns, of which the second has {cells[1]}; leave the comment out"
            )
    with _open(file) as lines, _located(file):
        header = next(csv.reader(itertools.islice(lines, before, None), delimiter=delimiter))
    names = tuple(name.strip() for name in header)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{str(file)!r} has more than one column {quoted(twice[0])}; rename them")

    def blocks(wanted: Sequence[str], size: int) -> Iterator[dict[str, Cells]]:
        places = [names.index(name) for name in wanted]
        with _open(file) as lines, _located(file):
            reader = csv.reader(itertools.chain(lines, [_END]), delimiter=delimiter)
            for _ in range(before + 1):
                next(reader)
            rows = _checked(reader, file, delimiter, header)
            while len((columns := _columns(rows, places, size))[0]):
                block = {
                    name: of_values(name, columns[i], nulls)._replace(untyped=True)
                    for i, name in enumerate(wanted)
                }
                if written is not None and written in block:
                    block[written] = block[written]._replace(written=columns[wanted.index(written)])
                yield block
                del columns, block  # before the next one is read

    return names, blocks


def _columns(rows: Iterator[list[str]], places: Sequence[int], size: int) -> list[list[str]]:
    """The cells at these places of up to `size` rows, column by column.

    Of a column with few different texts each is kept once, and not as often as it was read.
    """
    columns: list[list[str]] = [[] for _ in places]
    known: list[dict[str, str] | None] = [{} for _ in places]
    for first in range(0, size, _LINES):
        cells = list(zip(*itertools.islice(rows, min(_LINES, size - first))))
        if not cells:
            break
        for i, place in enumerate(places):
            if (texts := known[i]) is None:
                columns[i].extend(cells[place])
                continue
            columns[i].extend(map(texts.setdefault, cells[place], cells[place]))
            if len(texts) > len(columns[i]) // 2:
                known[i] = None
    return columns


def _checked(
    reader: Any, file: pathlib.Path, delimiter: str, header: Sequence[str]
) -> Iterator[list[str]]:
    width = len(header)
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader)
        except csv.Error as error:
            is_long = "field limit" in str(error)
            if is_long and (reader.line_num == first or _is_closed(file, first, delimiter, width)):
                raise ValueError(f"{str(file)!r}, line {first}: {_too_long()}") from error
            # a cell that goes on and on, as after a quote that is not closed
            raise ValueError(
                f"{str(file)!r}, line {first} cannot be read ({error}); is a quote opened there "
                "and never closed?"
            ) from error
        if row == [_END]:
            return
        if row and row[-1].endswith(_END):
            raise ValueError(
                f"{str(file)!r}, line {first}: a quote is opened in these cells and never closed; close "
                'it, or write a quote that belongs to the text twice, as in "6"" pipe"'
            )
        if len(row) == width:
            yield row
        elif len(row) > 1 or any(cell.strip() for cell in row):
            is_late = any(re.match(r'\s+"', cell) for cell in (*header, *row))
            raise ValueError(
                f"{str(file)!r}, line {reader.line_num}: {len(row)} cells, where the first line names "
                f"{width} columns; "
                + (
                    "leave out the blanks in front of quotes: a quote holds a cell together only as its "
                    "first character"
                    if is_late
                    else "put quotes around cells that hold a delimiter"
                )
            )


def _is_closed(file: pathlib.Path, first: int, delimiter: str, width: int) -> bool:
    """Whether the row that begins with this line is of so many cells, however long they are."""
    quoted = r'"[^"]*(?:""[^"]*)*"(?!")'
    cell_at = re.compile(rf'{quoted}|(?!")[^{re.escape(delimiter)}\r\n]*')
    text, place, cells = "", 0, 0
    with _open(file) as lines:
        for line in itertools.islice(lines, first - 1, None):
            text += line
            if len(text) > _LOOKED_THROUGH:
                break
    while (cell := cell_at.match(text, place)) is not None:
        place, cells = cell.end() + 1, cells + 1
        if text[cell.end() : place] != delimiter:
            return cells == width and text[cell.end() : place] in ("", "\r", "\n")
    return False


def _too_long() -> str:
    return (
        f"a cell has more than {csv.field_size_limit():,} characters, the most that is read; shorten "
        "it, or leave its column out of the file"
    )


def _beginning(lines: TextIO) -> tuple[int, str, str | None]:
    """How many lines are in front of that of the names, that line, and the delimiter that one says."""
    said = None
    for before, line in enumerate(lines):
        says = _SAYS_DELIMITER.fullmatch(line)
        if said is None and says is not None:
            said = says[1]
        elif line.strip():
            return before, line, said
    return 0, "", None


def _found(file: pathlib.Path, before: int, first: str) -> str:
    """The delimiter of the first line by which most of the next lines have as many cells as it has."""
    outside = re.sub(r"([,;|])\s+", r"\1", _outside(first))  # a tab behind another one is a blank
    possible = [delimiter for delimiter in _DELIMITERS if delimiter in outside]
    if len(possible) < 2:
        return _delimiter(first)
    with _open(file) as text, _located(file):
        lines = list(itertools.islice(text, before, before + 1 + _TRIED))
    widths, fitting = dict.fromkeys(possible, 0), dict.fromkeys(possible, 0)
    for delimiter in possible:
        rows: list[int] = []
        with contextlib.suppress(csv.Error):  # which is said where the rows are read
            rows.extend(len(row) for row in csv.reader(lines, delimiter=delimiter) if any(row))
        if rows:
            widths[delimiter], fitting[delimiter] = rows[0], rows[1:].count(rows[0])
    most = max(fitting.values())
    best = [delimiter for delimiter in possible if fitting[delimiter] == most]
    if not most:
        return _delimiter(first)
    numbers = _outside("".join(lines[1:]))
    if len(best) > 1 and numbers.count(",") == len(re.findall(r"(?<=\d),(?=\d)", numbers)):
        best = [delimiter for delimiter in best if delimiter != ","]
    if len(best) == 1:
        return best[0]
    readings = " or ".join(f"{delimiter!r} ({widths[delimiter]} columns)" for delimiter in best)
    raise ValueError(
        f"{str(file)!r} can be read with {readings} between its cells; say which by a line in front of "
        f"the names, such as sep={best[0].strip() or best[1]}"
    )


def _delimiter(line: str) -> str:
    """What occurs most in the first line outside quotes; a comma if nothing does."""
    return max(_DELIMITERS, key=_outside(line).count)


def _outside(text: str) -> str:
    """What of it is outside of quotes."""
    return "".join(text.split('"')[::2])


def _open(file: pathlib.Path) -> TextIO:
    if file.suffix.lower() == ".gz":
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="")
    return file.open(encoding="utf-8-sig", newline="")


def _mark(file: pathlib.Path) -> str | None:
    """The encoding that a byte-order mark other than that of UTF-8 says."""
    with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as opened:
        first = opened.read(4)
    if first in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "UTF-32"
    return "UTF-16" if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else None


@contextlib.contextmanager
def _located(file: pathlib.Path) -> Iterator[None]:
    """Name the file in errors of what reads it."""
    try:
        yield
    except UnicodeError as error:
        if (mark := _mark(file)) is not None:
            raise ValueError(
                f"{str(file)!r} is {mark}, as its byte-order mark says, and not UTF-8; convert it: "
                f"iconv -f {mark.lower()} -t utf-8 old.csv > new.csv"
            ) from error
        raise ValueError(
            f"{str(file)!r} is not UTF-8 ({error}); convert it: "
            "iconv -f latin1 -t utf-8 old.csv > new.csv"
        ) from error
    except (csv.Error, gzip.BadGzipFile, EOFError) as error:
        said = _too_long() if "field limit" in str(error) else f"cannot be read: {error}"
        raise ValueError(f"{str(file)!r} {said}") from error
