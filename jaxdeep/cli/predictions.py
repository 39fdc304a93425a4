"""The file of predictions: written block by block, and given its name when it is complete."""

import contextlib
import csv
import importlib.util
import os
import pathlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxdeep import _checks
from jaxdeep._extras import needed

Write = Callable[[Sequence[Any]], None]  # the columns of a block, in the order of their names

_PARQUET = (".parquet", ".pq")


def check_new(path: pathlib.Path) -> None:
    """Refuse a path where something is, where nothing can be written, or of another format.

    Raises:
      ValueError, OSError, ImportError.
    """
    _checks.check_local_path("the path", path)
    if path.suffix.lower() not in (".csv", *_PARQUET):
        raise ValueError(f"must end with .csv or .parquet, got {path}")
    if os.path.lexists(path):
        raise ValueError(f"{path} is there already and would be overwritten; name a new file")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write to the folder {path.parent}")
    if path.suffix.lower() in _PARQUET and not _has("pyarrow"):
        needed("polars", "writing a Parquet file", "pyarrow", None)


@contextlib.contextmanager
def written(path: pathlib.Path, names: Mapping[str, Any]) -> Iterator[Write]:
    """A function that writes a block; the file is there once the context is left without an error.

    Args:
      path: of a file that is not there yet.
      names: the columns and the types of their values: str, int, float, bool, or as of `type_of`.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    kind = _csv
    if path.suffix.lower() in _PARQUET:
        kind = _by_pyarrow if _has("pyarrow") else _by_polars
    try:
        with kind(temporary, names) as write:
            yield write
        _name(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def type_of(column: Any) -> Any:
    """The type of a column as a file has it: that of the library which read it, or str."""
    return getattr(column, "type", None) or getattr(column, "dtype", str)


def _name(temporary: pathlib.Path, path: pathlib.Path) -> None:
    """Give a file its name, unless there is another one of that name by now."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise FileExistsError(f"{path} is there by now") from None
        os.replace(temporary, path)


@contextlib.contextmanager
def _csv(path: pathlib.Path, names: Mapping[str, Any]) -> Iterator[Write]:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)

        def write(columns: Sequence[Any]) -> None:
            writer.writerows(zip(*map(_texts, columns)))

        yield write


def _texts(column: Any) -> list[Any]:
    """Numbers in the fewest digits that give them again, of the precision that they have."""
    kind = getattr(getattr(column, "dtype", None), "kind", "")
    return [str(value) for value in column] if kind == "f" else list(map(_text, _plain(column)))


def _text(value: Any) -> Any:
    """Bytes as the text that they encode, as a table reads them."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


@contextlib.contextmanager
def _by_pyarrow(path: pathlib.Path, names: Mapping[str, Any]) -> Iterator[Write]:
    import pyarrow
    from pyarrow import parquet

    types: dict[Any, Any] = {
        str: pyarrow.string(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        bool: pyarrow.bool_(),
    }
    schema = pyarrow.schema([(name, types.get(kind, kind)) for name, kind in names.items()])
    with parquet.ParquetWriter(path, schema) as writer:

        def write(columns: Sequence[Any]) -> None:
            arrays = [
                column
                if isinstance(column, pyarrow.ChunkedArray)
                else pyarrow.array(_plain(column), field.type)
                for column, field in zip(columns, schema)
            ]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))

        yield write


@contextlib.contextmanager
def _by_polars(path: pathlib.Path, names: Mapping[str, Any]) -> Iterator[Write]:
    """Through a CSV file, since polars writes no Parquet file in pieces; other types become texts."""
    import polars

    types: dict[Any, Any] = {
        str: polars.String,
        int: polars.Int64,
        float: polars.Float64,
        bool: polars.Boolean,
    }
    between = path.with_name(f"{path.name}.csv")
    try:
        with between.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
            writer.writerow(names)

            def write(columns: Sequence[Any]) -> None:
                writer.writerows(zip(*map(_words, columns, names.values())))

            yield write
        schema = {name: types.get(kind, polars.String) for name, kind in names.items()}
        polars.scan_csv(between, schema=schema, null_values=None).sink_parquet(path)
    finally:
        between.unlink(missing_ok=True)


def _words(column: Any, kind: Any) -> list[Any]:
    """As polars reads them: booleans in small letters."""
    values = _plain(column)
    if kind not in (str, int, float, bool):
        return ["" if value is None else str(_text(value)) for value in values]
    return [str(value).lower() if isinstance(value, bool) else value for value in values]


def _plain(column: Any) -> list[Any]:
    if hasattr(column, "to_pylist"):
        return column.to_pylist()
    return column.tolist() if hasattr(column, "tolist") else list(column)


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
