"""Where rows come from: a frame, a dict of columns, or a file, as blocks of a fixed number of rows."""

import difflib
import os
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import check_not_masked
from jaxdeep._quoted import quoted
from jaxdeep.tables import csv_files, frames, parquet_files
from jaxdeep.tables.cells import NULLS, Cells, of_array, of_values

BLOCK = 16_384
"""Rows of a block. All sources have the same, so that what is summed up block by block is the same."""

Block = dict[str, Cells]


class Source(NamedTuple):
    """Rows that can be read again and again.

    Attributes:
      names: of the columns, in order.
      blocks: ``(names, rows of a block)``, an iterator over blocks of these columns.
      rows: how many there are; None if that is known at the end only.
    """

    names: tuple[str, ...]
    blocks: Callable[[Sequence[str], int], Iterator[Block]]
    rows: int | None


KEPT = 2**27
"""Bytes of cells that are kept from one pass to the next: two million, unless texts are long."""


def is_table(data: object) -> bool:
    """Whether this is a frame, a dict of columns or the path of a file with a table.

    >>> is_table({"age": [31]}), is_table("people.csv"), is_table(np.ones(3))
    (True, True, False)
    """
    return isinstance(data, (Mapping, str, os.PathLike)) or frames.is_frame(data)


def source_of(
    frame: Any, nulls: Collection[str], argument: str = "frame", *, written: str | None = None
) -> Source:
    """The rows of what `jaxdeep.tables.fit` takes; a source is its own.

    Args:
      written: a column of a file whose cells are kept as the file has them, too: `Cells.written`.

    Raises:
      TypeError: something else. ValueError: columns of different lengths, no columns. FileNotFoundError.
    """
    if isinstance(frame, Source):
        return frame
    if isinstance(frame, (str, os.PathLike)):
        return _of_file(frame, nulls, argument, written)
    if isinstance(frame, Mapping):
        return _of_dict(frame, nulls, argument)
    if frames.is_frame(frame):
        names, rows, cells = frames.opened(frame, nulls, argument)
        return Source(names, _sliced(cells, rows), rows)
    raise TypeError(
        f"{argument} must be a data frame (pandas, polars, pyarrow), a dict of columns or the path of a "
        f"CSV or Parquet file, got {type(frame).__name__}"
    )


def kept(source: Source) -> Source:
    """The source, whose cells are read once if there are few, and then come from memory.

    >>> from jaxdeep.tables.cells import NULLS
    >>> source = kept(source_of({"age": [1, 2], "city": [3, 4]}, NULLS))
    >>> first, again = next(source.blocks(["age", "city"], 2)), next(source.blocks(["city"], 2))
    >>> list(again), again["city"] is first["city"]
    (['city'], False)
    >>> read, again = list(source.blocks(["age", "city"], 2)), list(source.blocks(["city"], 2))
    >>> again[0]["city"] is read[0]["city"]
    True
    """
    memory: dict[int, list[Block]] = {}  # by the rows of a block

    def blocks(names: Sequence[str], size: int) -> Iterator[Block]:
        if memory.get(size) and memory[size][0].keys() >= set(names):
            for block in memory[size]:
                yield {name: block[name] for name in names}
            return
        read: list[Block] = []
        room = KEPT
        for block in source.blocks(names, size):
            room -= sum(map(_bytes, block.values())) if room >= 0 else 0
            if room >= 0:
                read.append(block)
            else:
                read.clear()
            yield block
            del block  # before the next one is read
        memory[size] = read

    return Source(source.names, blocks, source.rows)


def _bytes(cells: Cells) -> int:
    """About what cells take: 64 bytes each, and the characters of texts."""
    texts = cells.present().tolist() if cells.kind == "text" else []
    return 64 * cells.rows + sum(map(len, texts))


def found_by(source: Source, names: Collection[str]) -> Source:
    """The source, with these names for columns whose own differ in nothing but blanks around them.

    Of a file of text such blanks are left out, and of a frame they are not.

    >>> from jaxdeep.tables.cells import NULLS
    >>> found_by(source_of({"age": [1], "city ": [2]}, NULLS), ["city", "sex"]).names
    ('age', 'city')
    """
    spelled = {}
    for name in set(names) - set(source.names):
        alike = [other for other in source.names if other.strip() == name.strip() and other not in names]
        if len(alike) == 1:
            spelled[name] = alike[0]
    if not spelled:
        return source
    shown = {other: name for name, other in spelled.items()}

    def blocks(names: Sequence[str], size: int) -> Iterator[Block]:
        for block in source.blocks([spelled.get(name, name) for name in names], size):
            yield {shown.get(name, name): cells for name, cells in block.items()}

    return Source(tuple(shown.get(name, name) for name in source.names), blocks, source.rows)


def nearest(name: str, names: Collection[str]) -> list[str]:
    """Names that may be meant."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    folded = [other for other in names if other.strip().casefold() == name.strip().casefold()]
    return folded[:1] or close


def _of_file(
    path: str | os.PathLike[str], nulls: Collection[str], argument: str, written: str | None
) -> Source:
    _checks.check_local_path(argument, path)
    file = pathlib.Path(path).expanduser()
    if not file.exists():
        raise FileNotFoundError(f"{argument}: there is no file {str(file)!r}")
    if file.is_dir():
        raise ValueError(f"{argument}: {str(file)!r} is a directory; give the path of a file")
    ends = [suffix.lower() for suffix in file.suffixes[-2:]]
    if ends[-1:] in ([".parquet"], [".pq"]):
        names, rows, blocks = parquet_files.opened(file, nulls, written)
        return Source(names, blocks, rows)
    if ends[-1:] == [".gz"]:
        ends.pop()
    if ends[-1:] and ends[-1] in (".csv", ".tsv", ".txt", ".data", ".tab"):
        return Source(*csv_files.opened(file, nulls, written), None)
    raise ValueError(
        f"{argument}: {str(file)!r} must end with .csv, .tsv, .txt, .csv.gz or .parquet, by which its "
        "format is known"
    )


def cells_of(name: str, column: Any, nulls: Collection[str] = NULLS) -> Cells:
    """The cells of a column that comes alone: a list, an array or a series.

    >>> cells_of("age", [31, None]).missing.tolist()
    [False, True]
    """
    source = _of_dict({name: column}, nulls, "rows")
    return next(source.blocks([name], max(source.rows or 0, 1)), {name: of_values(name, [], nulls)})[
        name
    ]


def _of_dict(columns: Mapping[Any, Any], nulls: Collection[str], argument: str) -> Source:
    for name in columns:
        if not isinstance(name, str):
            raise TypeError(f"{argument}: the names of columns must be text, got {quoted(name)}")
    if columns and all(_is_single(value) for value in columns.values()):
        arrays = (np.ndarray, jax.Array)
        columns = {n: np.reshape(v, 1) if isinstance(v, arrays) else [v] for n, v in columns.items()}
    whole = {name: _column(argument, name, value) for name, value in columns.items()}
    lengths = {name: len(column) for name, column in whole.items()}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{quoted(name)}: {rows}" for name, rows in [*lengths.items()][:30])
        more = ", …" * (len(lengths) > 30)
        raise ValueError(
            f"{argument}: all columns must have the same number of rows, got {{{got}{more}}}"
        )
    rows = next(iter(lengths.values()), 0)

    def cells(name: str, first: int, last: int) -> Cells:
        part = whole[name][first:last]
        if isinstance(part, np.ndarray):
            return of_array(name, part, nulls, first)
        return (
            of_values(name, part, nulls, first)
            if isinstance(part, list)
            else frames.of_series(name, part, nulls, first)
        )

    return Source(tuple(whole), _sliced(cells, rows), rows)


def _is_single(value: Any) -> bool:
    """Whether this is one cell, of whatever kind: a date, a decimal or a library's null, too.

    >>> _is_single("Rome"), _is_single(np.float32(3)), _is_single(["Rome"]), _is_single(np.ones(3))
    (True, True, False, False)
    """
    return (
        isinstance(value, (str, bytes))
        or not hasattr(value, "__len__")
        or getattr(value, "ndim", 1) == 0
    )


def _column(argument: str, name: str, value: Any) -> Any:
    """A column of a dict as an array, a list, or a series of a frame's library."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, jax.Array):
        return np.asarray(value)
    if isinstance(value, (list, tuple, range)):
        return list(value)
    try:
        if (series := frames.series_of(value)) is not None:
            return series
    except TypeError as error:
        raise TypeError(f"{argument}: column {quoted(name)}: {error}") from error
    if hasattr(value, "__array__"):
        return np.asarray(value)
    check_not_masked(
        f"{argument}: column {quoted(name)}", value
    )  # which says what to make of a sparse one
    raise TypeError(
        f"{argument}: column {quoted(name)} must be a list, an array or a series, got "
        f"{type(value).__name__}"
    )


def _sliced(
    cells: Callable[[str, int, int], Cells], rows: int
) -> Callable[[Sequence[str], int], Iterator[Block]]:
    def blocks(names: Sequence[str], size: int) -> Iterator[Block]:
        for first in range(0, rows, size):
            yield {name: cells(name, first, min(first + size, rows)) for name in names}

    return blocks


def numbered(blocks: Iterator[Block]) -> Iterator[tuple[int, Block]]:
    """Blocks, each with the number of its first row.

    >>> from jaxdeep.tables.cells import NULLS
    >>> source = source_of({"a": range(5)}, NULLS)
    >>> [first for first, block in numbered(source.blocks(["a"], 2))]
    [0, 2, 4]
    """
    first = 0
    for block in blocks:
        yield first, block
        first += next(iter(block.values())).rows if block else 0
