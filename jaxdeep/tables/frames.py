"""Frames and series of pandas, polars and pyarrow, through narwhals, as cells."""

import sys
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any

import numpy as np

from jaxdeep._extras import needed
from jaxdeep._quoted import cut, quoted
from jaxdeep.tables.cells import Cells, of_array, of_values

# Whatever narwhals knows comes from a package that is loaded where there is such a frame.
_LIBRARIES = ("pandas", "polars", "pyarrow", "narwhals", "modin", "cudf")


def is_frame(data: object) -> bool:
    """Whether this is a frame of one of the libraries, told without loading any."""
    library = type(data).__module__.split(".")[0]
    kind = type(data).__name__
    return library in _LIBRARIES and kind in ("DataFrame", "LazyFrame", "Table", "RecordBatch")


def series_of(value: object) -> Any:
    """A series of one of the libraries as that of narwhals; None for anything else."""
    if type(value).__module__.split(".")[0] not in _LIBRARIES:
        return None
    pandas, pyarrow = sys.modules.get("pandas"), sys.modules.get("pyarrow")
    try:
        if pandas is not None and isinstance(
            value, (pandas.Index, pandas.api.extensions.ExtensionArray)
        ):
            value = pandas.Series(value)
        elif pyarrow is not None and isinstance(value, pyarrow.Array):
            value = pyarrow.chunked_array([value])
        return _narwhals().from_native(value, series_only=True, pass_through=False)
    except (TypeError, NotImplementedError) as error:
        raise TypeError(f"{_kind_of(value)} is no column; give a series, an array or a list") from error


def opened(
    frame: Any, nulls: Collection[str], argument: str
) -> tuple[tuple[str, ...], int, Callable[[str, int, int], Cells]]:
    """The names of a frame's columns, its number of rows, and a function of its cells."""
    narwhals = _narwhals()
    if type(frame).__name__ == "RecordBatch":
        frame = sys.modules["pyarrow"].Table.from_batches([frame])
    try:
        known = narwhals.from_native(frame)
        if isinstance(known, narwhals.LazyFrame):
            raise TypeError(f"{argument} is lazy; collect it: {argument}.collect()")
        columns = known.columns
        names = tuple(columns)
    except (ValueError, narwhals.exceptions.NarwhalsError) as error:
        raise ValueError(f"{argument}: {cut(str(error), 200)}") from error
    odd = [name for name in names if not isinstance(name, str)]
    if odd:
        raise TypeError(
            f"{argument}: the names of columns must be text, got {quoted(odd[0])}; rename them: "
            f"{argument}.columns = [str(name) for name in {argument}.columns]"
        )

    def cells(name: str, first: int, last: int) -> Cells:
        return of_series(name, known.get_column(name)[first:last], nulls, first)

    return names, len(known), cells


def of_series(name: str, series: Any, nulls: Collection[str], first: int = 0) -> Cells:
    """The cells of a series of narwhals: null or NaN is missing, in all libraries.

    >>> import pandas
    >>> cells = of_series("age", series_of(pandas.Series([31, None], dtype="Int64")), ())
    >>> cells.kind, cells.missing.tolist()
    ('number', [False, True])
    """
    try:
        return _of_series(name, series, nulls, first)
    except Exception as error:  # each library has its own
        if str(error).startswith("column "):
            raise
        raise TypeError(
            f"column {quoted(name)} of {_kind_of(series.to_native())} cannot be read "
            f"({cut(str(error), 200)}); make numbers of it, or text"
        ) from error


def _of_series(name: str, series: Any, nulls: Collection[str], first: int = 0) -> Cells:
    narwhals, dtype = _narwhals(), series.dtype
    if isinstance(dtype, (narwhals.List, narwhals.Struct, narwhals.Array)):
        raise TypeError(
            f"column {quoted(name)} must hold numbers, text, booleans or dates, got {dtype}; make "
            "columns of its parts"
        )
    if isinstance(dtype, (narwhals.Int128, narwhals.UInt128)):  # which NumPy has not
        return of_values(name, series.to_list(), nulls, first)
    if isinstance(dtype, narwhals.Boolean) or dtype.is_integer() or dtype.is_float():
        missing = series.is_null().to_numpy().astype(bool)
        filling: Any = False if isinstance(dtype, narwhals.Boolean) else 0
        values = (series.fill_null(filling) if missing.any() else series).to_numpy()
        if values.dtype.kind not in "biuf":
            return of_values(name, series.to_list(), nulls, first)
        known = of_array(name, np.asarray(values), nulls)
        return known._replace(missing=known.missing | missing)
    if isinstance(dtype, narwhals.Datetime):
        return _dates(name, series, dtype)
    if isinstance(dtype, narwhals.Duration):
        return of_array(name, series.to_numpy(), nulls)  # where a null is NaT, in all libraries
    cells = of_values(name, series.to_list(), nulls, first)
    return cells._replace(categorical=isinstance(dtype, (narwhals.Categorical, narwhals.Enum)))


def _kind_of(value: Any) -> str:
    """The dtype of a library's column, or its type where it has none."""
    dtype = getattr(value, "dtype", getattr(value, "type", None))
    return f"{type(value).__module__.split('.')[0]}.{type(value).__name__}" + (
        f" ({dtype})" if dtype else ""
    )


def _dates(name: str, series: Any, dtype: Any) -> Cells:
    missing = series.is_null().to_numpy().astype(bool)
    stamps = series.dt.timestamp("us")
    values = (stamps.fill_null(0) if missing.any() else stamps).to_numpy()
    values = np.where(missing, 0, values).astype(np.int64)
    return Cells("date", values, missing, aware=dtype.time_zone is not None)


def _narwhals() -> ModuleType:
    return needed("narwhals.stable.v2", "reading a data frame", "narwhals", "tables")
