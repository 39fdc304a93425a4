"""What was found out about a table, and about the cells of another one, as text for people."""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxdeep._quoted import cut, quoted
from jaxdeep.tables.column import Column, Fitted
from jaxdeep.tables.dates import DAY, shown
from jaxdeep.tables.layout import Options, encoding_of, pieces

WIDTH = 100
_NAME = 28


class Tally(NamedTuple):
    """The cells of a column: how many there are, are missing, are unknown, and the first unknown one.

    `example` is ``(row, value)``, or None.
    """

    rows: int = 0
    missing: int = 0
    unknown: int = 0
    example: tuple[int, Any] | None = None


Tallies = dict[str, Tally]


class Report(NamedTuple):
    """What is missing and unknown in rows, column by column; as text only the columns with either.

    >>> print(Report(3, {"city": Tally(3, 1, 1, (2, "Bonn")), "age": Tally(3)}))
    column  missing  unknown  first unknown
    city          1        1  'Bonn' in row 2
    """

    rows: int
    columns: Tallies

    def __str__(self) -> str:
        odd = {name: tally for name, tally in self.columns.items() if tally.missing or tally.unknown}
        if not odd:
            return f"{self.rows:,} rows, in which nothing is missing or unknown"
        lines = [("column", "missing", "unknown", "first unknown")]
        for name, tally in odd.items():
            row, value = tally.example or (0, None)
            first = f"{quoted(value, 40)} in row {row}" if tally.example else ""
            lines.append((cut(name, _NAME), f"{tally.missing:,}", f"{tally.unknown:,}", first))
        return _table(lines, "<>><")


def summary(table: Fitted, options: Options) -> str:
    """A fitted table as text."""
    lines = [("column", "kind", "levels", "missing", "unknown", "becomes")]
    for column in table.features:
        levels = f"{len(column.levels):,}" if column.coded else "-"
        missing, unknown = (_share(n, table.rows) for n in (column.missing, column.unknown))
        lines.append(
            (cut(column.name, _NAME), column.kind, levels, missing, unknown, _becomes(column, options))
        )
    width = sum(piece.width for piece in pieces(table.features, options))
    notes = [f"! {cut(column.name)} {note}" for column in table.features for note in column.notes]
    wrapped = [textwrap.fill(note, WIDTH, subsequent_indent="  ") for note in notes]
    size = _size(4 * width * table.rows)  # of float32
    total = f"{width:,} input{'s' * (width != 1)}, {size} for these rows"
    parts = [_head(table), "", _table(lines, "<<>>><"), *([""] if notes else []), *wrapped, "", total]
    return "\n".join(parts)


def _head(table: Fitted) -> str:
    rows, target = f"{table.rows:,} row{'s' * (table.rows != 1)}", table.target
    if target is None:
        return f"{rows}; no target"
    name = cut(repr(target.name), _NAME)
    if target.classes is None:
        return f"{rows}; target {name}: a number from {target.low:g} to {target.high:g}"
    few = list(zip(target.classes, target.counts))[:4]
    shares = ", ".join(f"{cut(str(label), 20)} ({_share(n, table.rows)})" for label, n in few)
    more = ", …" * (len(target.classes) > len(few))
    return textwrap.shorten(
        f"{rows}; target {name}: {len(target.classes):,} classes, {shares}{more}",
        WIDTH,
        placeholder=" …",
    )


def _becomes(column: Column, options: Options) -> str:
    """What a column becomes, and of how many numbers."""
    column_pieces = pieces([column], options)
    encoding = encoding_of(column, options)
    words = {
        "scale": "scaled",
        "sign": "−1 or 1",
        "one_hot": "one-hot",
        "embedding": "embedding",
        "target": "means of the target",
        "drop": "nothing",
    }[encoding]
    if column.kind == "date" and encoding == "scale":
        elapsed = column.numbers[0]
        if column.known:
            low, high = (shown(int(day) * DAY)[:-6] for day in (elapsed.low, elapsed.high))
            words = f"in {low}" if low == high else f"{low} to {high}"
    holes = any(piece.kind == "missing" or piece.name.endswith("=missing") for piece in column_pieces)
    width = sum(piece.width for piece in column_pieces)
    return f"{words}{', and missing' * holes}: {width}"


def _share(count: int, total: int) -> str:
    """A share in percent: never 0 for some, nor 100 for not all."""
    if not count or not total:
        return "-"
    share = 100 * count / total
    if share < 1:
        return "<1 %"
    return "99 %" if count < total and share > 99 else f"{share:.0f} %"


def _size(count: int) -> str:
    """A number of bytes in the unit that makes it short.

    >>> _size(12), _size(50_000 * 50_000 * 4)
    ('12 bytes', '9.3 GiB')
    """
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count} bytes"


def _table(lines: Sequence[Sequence[str]], sides: str) -> str:
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths)).rstrip()
        for line in lines
    )
