"""Parquet files, read in blocks by pyarrow or polars, whichever is installed."""

import importlib.util
import pathlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from jaxdeep._extras import needed
from jaxdeep.tables import frames
from jaxdeep.tables.cells import Cells

Blocks = Callable[[Sequence[str], int], Iterator[dict[str, Cells]]]


def opened(
    file: pathlib.Path, nulls: Collection[str], written: str | None = None
) -> tuple[tuple[str, ...], int, Blocks]:
    """The names of the columns, the number of rows, and a function that reads blocks.

    Raises:
      ImportError: neither pyarrow nor polars is installed. ValueError: a file of another format.
    """
    arrow = importlib.util.find_spec("pyarrow") is not None
    if not arrow:
        needed("polars", "reading a Parquet file", "pyarrow", None)
    try:
        names, rows, read = (_by_pyarrow if arrow else _by_polars)(file)
    except Exception as error:  # each library has its own
        raise ValueError(f"{str(file)!r} cannot be read as Parquet: {error}") from error

    def blocks(wanted: Sequence[str], size: int) -> Iterator[dict[str, Cells]]:
        for frame in read(wanted, size):
            _, length, cells = frames.opened(frame, nulls, str(file))
            block = {name: cells(name, 0, length) for name in wanted}
            if written is not None and written in block:
                block[written] = block[written]._replace(written=frame[written])
            yield block

    return names, rows, blocks


_Read = Callable[[Sequence[str], int], Iterator[Any]]
_BUFFER = 2**16  # bytes of a column that are read at once


def _by_pyarrow(file: pathlib.Path) -> tuple[tuple[str, ...], int, _Read]:
    import pyarrow
    from pyarrow import parquet

    with parquet.ParquetFile(file) as about:
        names, rows = tuple(about.schema_arrow.names), about.metadata.num_rows

    def read(wanted: Sequence[str], size: int) -> Iterator[Any]:
        # in parts and by one thread, so that neither groups of rows nor many columns are held at once
        with parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER) as opened:
            waiting, length = [], 0
            # batches end where groups of rows do; blocks must not
            for batch in opened.iter_batches(size, columns=list(wanted), use_threads=False):
                waiting.append(batch)
                length += batch.num_rows
                while length >= size:
                    table = pyarrow.Table.from_batches(waiting)
                    yield table.slice(0, size)
                    waiting, length = table.slice(size).to_batches(), length - size
            if length:
                yield pyarrow.Table.from_batches(waiting)

    return names, rows, read


def _by_polars(file: pathlib.Path) -> tuple[tuple[str, ...], int, _Read]:
    import polars

    lazy = polars.scan_parquet(file)
    names = tuple(lazy.collect_schema().names())
    rows = int(lazy.select(polars.len()).collect().item())

    def read(wanted: Sequence[str], size: int) -> Iterator[Any]:
        for first in range(0, rows, size):
            yield lazy.select(list(wanted)).slice(first, size).collect()

    return names, rows, read
