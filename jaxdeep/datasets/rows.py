"""Rows of data of any kind: pytrees of arrays, columns as lists, and frames."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxdeep._arrays import OnFile, as_array, on_file
from jaxdeep._extras import needed
from jaxdeep._partitions import Rows
from jaxdeep._shapes import PyTree
from jaxdeep.tree import is_of_numbers, path_name

# Packages of frames and series, of which narwhals takes rows.
_OF_FRAMES = frozenset({"pandas", "polars", "pyarrow", "modin", "cudf", "narwhals"})


def as_rows(data: PyTree, name: str = "data") -> PyTree:
    """The data with parts that rows can be taken of: arrays, lists of values, frames and series.

    Raises:
      TypeError: a part that is none of these, a list of lists.
    """
    if isinstance(data, list) and data and all(map(_is_column, data)):
        raise TypeError(
            f"{name} is a list of lists, of which it is not clear whether each is a row or a part; pass "
            "numpy.asarray of them if they are rows, and a tuple if they are parts"
        )

    def part(path: jax.tree_util.KeyPath, leaf: Any) -> Any:
        where = f"{name}[{path_name(path)}]" if path else name
        leaf = on_file(leaf)
        if _is_frame(leaf):
            _opened(leaf)
            return leaf
        if _is_column(leaf) or isinstance(leaf, OnFile):
            return leaf
        if not isinstance(leaf, (jax.Array, np.ndarray)) and not _is_tensor(leaf):
            leaf = as_array(where, leaf)
        if not np.ndim(leaf):
            raise TypeError(f"{where} must be an array with a row per example, got {leaf!r}")
        return leaf

    read = jax.tree_util.tree_map_with_path(
        part,
        data,
        is_leaf=lambda node: _is_column(node) or (node is not data and is_of_numbers(node)),
    )
    return _ordered(read, data)


def number_of_rows(data: PyTree, name: str = "data") -> int:
    """How many rows all parts of the data have.

    Raises:
      ValueError: no parts, no rows, or parts of different lengths.
    """
    lengths = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(data, is_leaf=_is_column):
        where = f"{name}[{path_name(path)}]" if path else name
        lengths[where] = len(leaf)
    if not lengths:
        raise ValueError(f"{name} holds no arrays")
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{where} has {n}" for where, n in lengths.items())
        raise ValueError(f"the parts of {name} must have the same number of rows: {said}")
    if not (rows := next(iter(lengths.values()))):
        raise ValueError(f"{name} is empty: it has no rows")
    return rows


def taken(data: PyTree, rows: Rows) -> PyTree:
    """These rows of all parts of the data, each of the kind that it was."""

    def part(leaf: Any) -> Any:
        if _is_column(leaf):
            return [leaf[row] for row in rows.tolist()]
        if isinstance(leaf, OnFile):
            return leaf.take(rows)
        if _is_frame(leaf):
            return _opened(leaf)[rows].to_native()
        return leaf[rows]

    return _ordered(jax.tree.map(part, data, is_leaf=_is_column), data)


def _ordered(made: PyTree, like: PyTree) -> PyTree:
    """What was made of `like`, with columns in its order: JAX sorts the names of dicts."""
    if type(like) is dict:
        return {name: _ordered(made[name], value) for name, value in like.items()}
    if type(like) in (tuple, list) and not _is_column(like) and isinstance(made, type(like)):
        return type(like)(map(_ordered, made, like))
    return made


def column(data: PyTree, argument: str, name: str) -> Any:
    """The column of this name, of data that are a frame or a dict, or begin with one.

    Raises:
      ValueError: there is none of this name, or there are no names.
    """
    table = data[0] if isinstance(data, (tuple, list)) and data else data
    if isinstance(table, Mapping):
        names = [*table]
    elif _is_frame(table) and hasattr(table := _opened(table), "columns"):
        names = [*table.columns]
    else:
        raise ValueError(
            f"{argument} may be the name of a column of a frame or of a dict, and data are neither; "
            f"give the values, one a row, got {name!r}"
        )
    if name not in names:
        held = ", ".join(map(str, names))
        raise ValueError(f"{argument} must be a column of data, {held}; got {name!r}")
    values = table[name]
    return values if isinstance(table, Mapping) else values.to_numpy()


def _opened(frame: Any) -> Any:
    """A frame or a series of any library, as one of narwhals."""
    narwhals = needed("narwhals", "taking rows of a frame", "narwhals", "frames")
    try:
        return narwhals.from_native(frame, eager_only=True, allow_series=True)
    except TypeError:
        kind = f"{type(frame).__module__.split('.')[0]}.{type(frame).__name__}"
        raise TypeError(
            f"data must be a frame whose rows are there, and a {kind} has none yet; collect it first"
        ) from None
    except narwhals.exceptions.NarwhalsError as error:  # two columns of one name
        raise ValueError(f"data: {' '.join(str(error).split())}") from error


def _is_frame(leaf: Any) -> bool:
    return type(leaf).__module__.split(".")[0] in _OF_FRAMES


def _is_tensor(leaf: Any) -> bool:
    return type(leaf).__module__.split(".")[0] == "torch"


def _is_column(node: Any) -> bool:
    """Whether this is a list of single values: numbers, texts, dates or None."""
    return isinstance(node, list) and bool(node) and not any(map(_is_several, node))


def _is_several(value: Any) -> bool:
    if isinstance(value, (str, bytes)):
        return False
    return isinstance(value, (list, tuple, Mapping)) or hasattr(value, "__len__") or np.ndim(value) > 0
