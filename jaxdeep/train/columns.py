"""Columns of training data whose differences JAX' default float does not hold: times, ids.

A model could not learn from them, and would not say so. What is in memory is looked at as it is, files
in blocks, and batches as they come.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._arrays import OnFile, release
from jaxdeep._precision import check_told_apart, lie_apart, lie_close, not_told
from jaxdeep._shapes import PyTree
from jaxdeep.tree import path_name

_BLOCK = 2**21  # bytes of a file that are read at once
_LOOKED_AT = 2**27  # bytes of a larger file that are read, in blocks spread evenly over it


def check_told_apart_by_column(data: PyTree, name: str = "data") -> None:
    """Refuse training data with a column that has several numbers, but few in JAX' default float.

    Memory maps and data sets of HDF5 files are read in blocks until each of their columns is found to be
    wide enough, mostly after one; at most 128 MiB of one, evenly spread.

    >>> check_told_apart_by_column({"t": 1.7e9 + np.arange(3.0)})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: data[t] holds numbers from 1700000000.0 to 1700000002.0, whose differences float32 ...
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        where = f"{name}[{path_name(path)}]" if path else name
        if not _is_wide(leaf):
            continue
        if isinstance(leaf, (np.memmap, OnFile)):
            columns = columns_of(leaf)
            for block in _blocks(leaf):
                columns = with_rows_of(columns, block)
                if not columns.places.size:
                    break
            check_columns(columns, where)
        else:
            check_told_apart(where, leaf, axis=0)


class Columns(NamedTuple):
    """What rows have shown so far of those columns that may still turn out to be too close.

    Attributes:
      shape: of an example.
      places: of the columns in an example that is flattened, ``(k,)``.
      low, high: the least and the largest finite number of each, float64, ``(k,)``.
      cut: whether JAX' default float rounds one of its numbers, ``(k,)``.
    """

    shape: tuple[int, ...]
    places: np.ndarray
    low: np.ndarray
    high: np.ndarray
    cut: np.ndarray


def columns_of(leaf: Any) -> Columns:
    """The columns of an array before any of its rows; none, if JAX' default float has its numbers.

    >>> columns_of(np.ones((5, 2))).places, columns_of(np.ones((5, 2), np.float32)).places
    (array([0, 1]), array([], dtype=int64))
    """
    shape = tuple(leaf.shape[1:])
    many = int(np.prod(shape)) if _is_wide(leaf) else 0
    ends = np.full(many, np.inf)
    return Columns(shape, np.arange(many), ends, -ends, np.zeros(many, bool))


def with_rows_of(columns: Columns, rows: Any) -> Columns:
    """The columns after more rows, without those that are now known to be told apart.

    Examples of another shape have other columns, so that none is judged any more.

    >>> columns = with_rows_of(columns_of(np.ones((5, 2))), np.array([[0.0, 7.0], [1.0, 7.0]]))
    >>> columns.places, columns.low
    (array([1]), array([7.]))
    """
    if not columns.places.size or not len(rows):
        return columns
    if tuple(rows.shape[1:]) != columns.shape:
        return columns_of(np.empty((0, 0)))
    values = np.asarray(rows).reshape(len(rows), -1)
    if len(columns.places) < values.shape[1]:
        values = values[:, columns.places]
    known = np.isfinite(values)
    low = np.minimum(columns.low, np.min(values, axis=0, initial=np.inf, where=known))
    high = np.maximum(columns.high, np.max(values, axis=0, initial=-np.inf, where=known))
    still = ~lie_apart(low, high)
    values, known = values[:, still], known[:, still]
    rounded = values.astype(jnp.result_type(float)).astype(np.float64)
    cut = columns.cut[still] | ((rounded != values) & known).any(axis=0)
    return Columns(columns.shape, columns.places[still], low[still], high[still], cut)


def check_columns(columns: Columns, name: str, during: str = "") -> None:
    """Refuse rows that have shown a column of several numbers which JAX' default float takes for few.

    >>> rows = np.array([[1.7e9], [1.7e9 + 1]])
    >>> check_columns(with_rows_of(columns_of(rows), rows), "data")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: data holds numbers from 1700000000.0 to 1700000001.0 in column 0, whose differences ...
    """
    for place in np.flatnonzero(columns.cut & lie_close(columns.low, columns.high)):
        at = np.unravel_index(columns.places[place], columns.shape) if columns.shape else ()
        where = f" in column {', '.join(map(str, at))}" if at else ""
        ends = float(columns.low[place]), float(columns.high[place])
        raise ValueError(f"{name} {not_told(*ends, where + during)}")


def _is_wide(leaf: Any) -> bool:
    """Whether these are floats of the host, in rows, of more bits than JAX' default float has."""
    on_host = isinstance(leaf, (np.ndarray, OnFile)) and leaf.ndim > 0
    return bool(
        on_host
        and jnp.issubdtype(leaf.dtype, jnp.floating)
        and leaf.dtype.itemsize > jnp.result_type(float).itemsize
    )


def _blocks(leaf: np.ndarray | OnFile) -> Iterator[np.ndarray]:
    """Rows of a file in blocks, or of a large one in blocks spread evenly, the last one first.

    Rows in the order of a column, such as a time, are told apart by the first and the last.
    """
    rows = max(1, _BLOCK * len(leaf) // max(leaf.nbytes, 1))
    many = -(-len(leaf) // rows)
    places = np.unique(np.linspace(0, many - 1, min(many, _LOOKED_AT // _BLOCK)).astype(int))
    for place in np.roll(places, 1):
        yield np.asarray(leaf[place * rows : (place + 1) * rows])
        release(leaf)
