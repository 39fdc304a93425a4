"""Data sets as pytrees of arrays with one row per example."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import OnFile, as_array, is_column_of_text, table_hint
from jaxdeep._precision import check_above_zero, check_holds
from jaxdeep._shapes import Array, Integer, PyTree
from jaxdeep.tree import is_of_numbers, path_name, shapes

_READ_WHOLE = 2**27  # bytes of a memory map that is still read before the run, to look at its values
_WIDER = {  # the beginnings of dtypes that JAX does not promote
    **{"int2": "int8", "int4": "int8", "uint2": "uint8", "uint4": "uint8"},
    **{"float4": "float32", "float6": "float32", "float8": "float32"},
}


def as_arrays(data: PyTree, name: str = "data", *, inputs: bool = False) -> PyTree:
    """The data with every part an array: what `jaxdeep` takes as data, in one place.

    Taken are NumPy's and JAX' arrays, lists of numbers, pandas' Series and DataFrames, torch tensors on
    the host, h5py data sets and masked arrays without masked values. Memory maps stay what they are, and
    so do data sets that are `OnFile`. With `inputs` the data are not a pair, and a list of lists is one
    array.

    Raises:
      TypeError: a part that is no array of numbers.
      ValueError: whole numbers beyond 32 bits, unless x64 is on.

    >>> as_arrays(([[1.0], [2.0]], [0, 1]))
    (array([[1.],
           [2.]]), array([0, 1]))
    """

    def array(path: jax.tree_util.KeyPath, value: Any) -> Any:
        where = f"{name}[{path_name(path)}]" if path else name
        if isinstance(value, OnFile):
            value.check(where)
            return value
        if not isinstance(value, (jax.Array, np.ndarray)) or not _is_complex(value):
            with _hinting(path, value):
                value = as_array(where, value)
        if not isinstance(value, np.memmap) or value.nbytes <= _READ_WHOLE:
            check_holds(where, value)
            if isinstance(value, np.ndarray) and value.ndim:
                check_above_zero(where, value, axis=(0,))
        return value

    nested = inputs and isinstance(data, list) and any(map(is_of_numbers, data))
    return jax.tree_util.tree_map_with_path(
        array, data, is_leaf=lambda node: (node is not data or nested) and is_of_numbers(node)
    )


@contextlib.contextmanager
def _hinting(path: jax.tree_util.KeyPath, value: Any) -> Iterator[None]:
    """Say in errors of a column of text, in a dict of columns, what makes numbers of it."""
    try:
        yield
    except TypeError as error:
        # of a list that begins with None each text is a leaf
        in_dict = any(isinstance(entry, jax.tree_util.DictKey) for entry in path[-2:])
        if in_dict and (isinstance(value, str) or is_column_of_text(value)):
            raise TypeError(f"{error}{table_hint('rows')}") from error
        raise


def _is_complex(array: Any) -> bool:
    return bool(jnp.issubdtype(array.dtype, jnp.complexfloating))


def count_examples(data: PyTree, name: str = "data") -> int:
    """The number of rows of a data set; refuses one that is empty or whose arrays differ in length."""
    rows = rows_of(data, name)
    if rows == 0:
        raise ValueError(f"{name} is empty: its arrays have no rows")
    return rows


def rows_of(data: PyTree, name: str) -> int:
    """The number of rows, which may be 0, of arrays that must be equally long."""
    leaves = jax.tree_util.tree_leaves_with_path(data)
    rows = {}
    for path, leaf in leaves:
        where = f"{name}[{path_name(path)}]" if path else name
        dtype = getattr(leaf, "dtype", None)
        if dtype is None or np.ndim(leaf) < 1:
            raise TypeError(f"{where} must be an array with a row per example, got {leaf!r}")
        if not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
            raise TypeError(f"{where} must hold numbers, got an array of dtype {dtype}")
        rows[where] = leaf.shape[0]
    if not rows:
        missing = jax.tree.leaves(data, is_leaf=lambda node: node is None)
        raise ValueError(f"{name} holds no arrays" + (", only None" if missing else ""))
    if len(set(rows.values())) > 1:
        lengths = ", ".join(f"{where} has {n}" for where, n in rows.items())
        raise ValueError(f"the arrays of {name} must have the same number of rows: {lengths}")
    return next(iter(rows.values()))


def explain_narrow(name: str, data: PyTree, error: Exception) -> None:
    """Raise an error in our words where JAX does not combine the narrow numbers of data with others.

    >>> explain_narrow("x", jnp.ones(2, jnp.int4), ValueError("no implicit dtype promotion path"))
    Traceback (most recent call last):
    TypeError: x holds int4, which JAX does not combine with other numbers: give x.astype('int8')
    """
    if "promotion" not in str(error):
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        kind = str(leaf.dtype)
        wide = next((w for n, w in _WIDER.items() if kind.startswith(n)), None)
        if wide is not None:
            where = f"{name}[{path_name(path)}]" if path else name
            raise TypeError(
                f"{where} holds {kind}, which JAX does not combine with other numbers: give "
                f"{name}.astype({wide!r})"
            ) from error


def count_rows(batch: PyTree) -> int:
    """The number of rows of arrays, or of their shapes, that are known to fit together."""
    return int(jax.tree.leaves(batch)[0].shape[0])


def with_rows(data: PyTree, rows: int) -> PyTree:
    """The shapes and dtypes of this many rows of a data set.

    >>> with_rows(np.ones((50, 3)), 8)
    ShapeDtypeStruct(shape=(8, 3), dtype=float32)
    """
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct((rows, *s.shape[1:]), s.dtype), shapes(data))


def tree_bytes(tree: PyTree) -> int:
    """The bytes of arrays, or of their shapes."""
    return sum(leaf.dtype.itemsize * math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def check_pair(data: PyTree, name: str, *, is_batch: bool = False) -> None:
    """Refuse data other than ``(x, y)`` and ``(x, y, weights)``, which `supervised` takes.

    With `is_batch` the data are known to be one batch, of which no iterator would be due.
    """
    several = isinstance(data, list) and all(isinstance(one, tuple) for one in data)
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3) or several:
        many = isinstance(data, (tuple, list)) and (several or len(data) > 3)
        hint = ""
        if many and not is_batch:
            hint = "; give batches as an iterator, or a function from the epoch to them"
        if hasattr(data, "columns"):
            hint = "; of a frame, jaxdeep.tables.fit(frame, target=…).encode(frame) makes one"
        elif isinstance(data, Mapping) and any(map(is_column_of_text, data.values())):
            hint = "; of a dict of columns, jaxdeep.tables.fit(data, target=…).encode(data) makes one"
        kind = type(data).__name__
        got = f"{kind} of {len(data)}" if isinstance(data, (tuple, list)) else kind
        raise TypeError(f"{name} must be a pair (x, y) or (x, y, weights), got {got}{hint}")
    if data[0] is None:
        raise TypeError(f"{name}[0], the inputs, must be an array or several of them, got None")


def check_weights(data: PyTree, name: str, *, whole: bool = True) -> None:
    """Refuse weights, the last of three parts, that are known and not finite, negative, or all 0.

    With `whole` they are those of all rows, of which some must count; in a batch none need to.
    """
    if len(data) < 3:
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(data[2]):
        if isinstance(leaf, jax.core.Tracer):
            continue
        known = np.asarray(leaf)
        for wrong, allowed in _checks.wrong_weights(known):
            if wrong.any():
                row = int(np.argwhere(wrong)[0][0])
                where = "/".join(filter(None, ("2", path_name(path))))
                raise ValueError(
                    f"{name}[{where}], the weights, must be {allowed}, got {known[row]} in row {row}"
                )
        if whole and known.size and not known.any():
            where = "/".join(filter(None, ("2", path_name(path))))
            raise ValueError(
                f"{name}[{where}], the weights, must not all be 0: none of {len(known)} rows would count"
            )


def check_batch_size(batch_size: int, examples: int) -> None:
    """Refuse a batch larger than the data."""
    if batch_size > examples:
        raise ValueError(
            f"batch_size must be at most the number of examples, {examples}, got {batch_size}"
        )


def take(data: PyTree, rows: Integer[Array, "rows"]) -> PyTree:
    """The rows of every array at these indices, which must be within bounds."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).at[rows].get(mode="promise_in_bounds"), data)


def to_device(tree: PyTree) -> PyTree:
    """The arrays on the device. Those of the host are copied, since the caller may change them later."""
    # not jnp.asarray, which compiles a program for each shape
    return jax.tree.map(
        lambda a: a if isinstance(a, jax.Array) else jax.device_put(a, may_alias=False), tree
    )


def rows_held_out(rows: int, share: float) -> int:
    """How many of so many rows are held out for validation: their share, at least one, and never all.

    >>> rows_held_out(10, 0.25), rows_held_out(2, 0.01), rows_held_out(2, 0.99)
    (2, 1, 1)
    """
    return min(max(round(share * rows), 1), rows - 1)
