"""The one way in for arrays: what NumPy takes without surprises, else an error that names the argument.

JAX arrays and traced values come in as they are. NumPy values stay on the host in their own precision
until `on_device` has checked that JAX' default types can hold them.
"""

import functools
import math
import mmap
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._precision import HostOrDevice, check_holds, check_told_apart, differences, is_cut

P = ParamSpec("P")
T = TypeVar("T")


def as_array(name: str, value: Any) -> HostOrDevice:
    """`value` as an array of real numbers, of JAX if it is one and of NumPy otherwise.

    Taken are NumPy's and JAX' arrays and scalars, lists of numbers, and what turns into a NumPy array of
    numbers: pandas' Series and DataFrames, torch tensors on the host (of bfloat16 too), h5py data sets.

    Raises:
      TypeError: None, text, objects, complex numbers, random keys; masked values; what says itself that
        it is no array.

    >>> as_array("x", [1.0, 2.0])
    array([1., 2.])
    >>> as_array("x", np.ma.masked_greater([1.0, 2.0], 1))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: x is a masked array with masked values; fill them ...
    """
    check_not_masked(name, value)
    if isinstance(value, np.ma.MaskedArray):
        value = value.data
    if not isinstance(value, (jax.Array, np.ndarray)):
        value = _from(name, value)
    if isinstance(value, np.ndarray):
        value = _native(value)
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    # NumPy counts differences of times among the whole numbers
    if any(jnp.issubdtype(value.dtype, kind) for kind in kinds) and value.dtype.kind != "m":
        return value
    hint = "; numpy.unique(…, return_inverse=True)[1] numbers text" if value.dtype.kind in "US" else ""
    raise TypeError(f"{name} must be an array of real numbers, got one of dtype {value.dtype}{hint}")


def check_not_masked(name: str, value: Any) -> None:
    """Refuse a masked array some of whose values are masked, and lists of such arrays or values.

    NumPy would make NaN of it, or take what lies under the mask. A sparse matrix is refused, too, which
    NumPy takes for a single object.

    >>> check_not_masked("x", [1.0, np.ma.masked])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: x is a list with masked values; fill them ...
    """
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise TypeError(
                f"{name} is a masked array with masked values; fill them ({name}.filled(...)) or leave "
                "those rows out"
            )
    elif (dense := _dense_of(value)) is not None:
        raise TypeError(
            f"{name} must be an array of numbers, got a sparse matrix, a {_type_of(value)}; make an "
            f"array of it: .{dense}()"
        )
    elif isinstance(value, (list, tuple)) and _holds_masked(value):
        raise TypeError(
            f"{name} is a {type(value).__name__} with masked values; fill them "
            "(numpy.ma.filled(...)) or leave those rows out"
        )


def _dense_of(value: Any) -> str | None:
    """The method that makes an array of a sparse one; None of anything else."""
    if isinstance(value, (jax.Array, np.ndarray, list, tuple)):
        return None
    package = type(value).__module__
    if package.startswith("scipy.sparse") and hasattr(value, "toarray"):
        return "toarray"
    is_sparse = package.startswith(("jax.experimental.sparse", "sparse."))
    return "todense" if is_sparse and hasattr(value, "todense") else None


def _holds_masked(values: Any) -> bool:
    return any(
        _holds_masked(value)
        if isinstance(value, (list, tuple))
        else isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value)
        for value in values
    )


def _from(name: str, value: Any) -> np.ndarray:
    """What is no array yet, as one of NumPy."""
    if value is None or isinstance(value, (str, bytes, dict, set)) or callable(value):
        raise TypeError(f"{name} must be an array of numbers, got {value!r}")
    try:
        array = _from_bfloat16(value) if _is_torch_bfloat16(value) else np.asarray(value)
        if array.dtype.kind == "O" and (dtype := _dtype_of_columns(value)) is not None:
            array = value.to_numpy(dtype=dtype)
    except Exception as error:
        raise TypeError(
            f"{name} must be an array of numbers, and a {_type_of(value)} gives none: {error}"
        ) from error
    if array.dtype.kind == "O":
        raise TypeError(
            f"{name} must be an array of numbers, and a {_type_of(value)} of these values gives one of "
            f"objects (missing values, text, or rows of different lengths){_of_table(value)}"
        )
    _check_whole(name, value, array)
    return array


def _check_whole(name: str, value: Any, array: np.ndarray) -> None:
    """Refuse whole numbers of 64 bits of which missing values or fractions beside them made float64."""
    if array.dtype != np.float64 or not (abs(array) > 2**53).any():
        return
    for column in _columns_of(value, array):
        whole = [entry for entry in column if isinstance(entry, (int, np.integer))]
        numbers = np.asarray(whole or [0])
        if numbers.dtype.kind not in "iu":  # from below 0 to beyond int64
            continue
        try:
            check_told_apart(name, numbers, dtype=np.float64)
        except ValueError as error:
            raise ValueError(
                f"{error} (missing values or fractions beside whole numbers make float64 of all)"
            ) from None


def _columns_of(value: Any, array: np.ndarray) -> list[Any]:
    """The entries of each column of what became the array of floats, as they were."""
    if isinstance(value, (list, tuple)):
        entries = np.asarray(value, object)
        return [*entries.reshape(len(entries), -1).T] if entries.shape == array.shape else []
    columns = [value]
    if array.ndim == 2 and hasattr(value, "iloc"):  # of pandas
        columns = [value.iloc[:, place] for place in range(array.shape[1])]
    for method in ("iter_columns", "itercolumns"):  # of polars and pyarrow
        columns = [*getattr(value, method)()] if hasattr(value, method) else columns
    return [
        getattr(column, method)()
        for column in columns
        for method in ("tolist", "to_list", "to_pylist")
        if hasattr(column, method)
    ]


def _of_table(value: Any) -> str:
    """What to do with a frame or a series that gives no numbers, and which columns give none."""
    if not hasattr(value, "to_numpy"):
        return ""
    labels = getattr(value, "index", None) if hasattr(value, "to_dict") else None
    if getattr(value, "ndim", 0) == 1 and labels is not None and all(isinstance(k, str) for k in labels):
        return "; one row of a table is a frame, frame.iloc[[i]], or a dict, row.to_dict()"
    names = getattr(value, "columns", ())
    odd = [str(name) for name in names if np.asarray(value[name]).dtype.kind not in "fiub"]
    which = f" in {', '.join(odd[:8])}{', …' * (len(odd) > 8)}" if odd else ""
    return which + table_hint("frame")


def table_hint(rows: str) -> str:
    """What to do with rows of a table, in words, where numbers are needed."""
    return (
        f"; jaxdeep.tables.fit({rows}, target=…) finds out what its columns are; .encode({rows}) of what"
        f" it returns makes numbers of them, .encode_inputs({rows}) without the target"
    )


def is_column_of_text(value: Any) -> bool:
    """Whether this is a list or an array of texts, with or without holes.

    >>> is_column_of_text(["Rome", None]), is_column_of_text([1.0, None]), is_column_of_text("Rome")
    (True, False, False)
    """
    if isinstance(value, (list, tuple)):
        values: Any = value
    elif getattr(getattr(value, "dtype", None), "kind", None) in ("U", "S", "T", "O"):
        values = value.ravel() if isinstance(value, np.ndarray) else value
    else:
        return False
    return any(isinstance(one, (str, bytes)) for one in values)


def _is_torch_bfloat16(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "torch" and str(value.dtype) == "torch.bfloat16"


def _from_bfloat16(tensor: Any) -> np.ndarray:
    """A tensor of torch of a dtype that NumPy lacks, by way of float32, which holds all its numbers."""
    return np.asarray(np.asarray(tensor.float()), jnp.bfloat16)


def _native(array: np.ndarray) -> np.ndarray:
    """The array in a dtype that JAX knows, if there is one for its numbers."""
    dtype = _known(array.dtype)
    return array if dtype == array.dtype else array.astype(dtype)


def _known(dtype: np.dtype) -> np.dtype:
    """The dtype in the byte order of this machine; files have others. A longdouble becomes a float64."""
    if dtype.kind not in "fiu":
        return dtype
    return np.dtype(np.float64) if dtype.itemsize > 8 else dtype.newbyteorder("=")


def _dtype_of_columns(frame: Any) -> np.dtype | None:
    """The dtype of a frame whose columns are numbers or booleans, if of several kinds, and all there."""
    columns = getattr(frame, "dtypes", None)
    if not hasattr(frame, "to_numpy") or not hasattr(frame, "isna") or frame.isna().to_numpy().any():
        return None
    kinds = [getattr(kind, "numpy_dtype", kind) for kind in np.atleast_1d(np.asarray(columns, object))]
    if not all(isinstance(kind, np.dtype) and kind.kind in "fiub" for kind in kinds):
        return None
    return np.result_type(*kinds)


class OnFile:
    """A data set of an open HDF5 file, of which only the rows that are asked for are read.

    Args:
      dataset: an `h5py.Dataset`.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset, self.shape = dataset, tuple(dataset.shape)
        self.dtype = np.dtype(dataset.dtype).newbyteorder("=")
        self.ndim = len(dataset.shape)
        self.nbytes = self.dtype.itemsize * math.prod(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return np.asarray(self.dataset[rows], self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.dataset[()], dtype or self.dtype)

    def __repr__(self) -> str:
        return repr(self.dataset)

    def check(self, name: str) -> None:
        """Refuse a data set that does not hold real numbers."""
        as_array(name, np.empty((0, *self.shape[1:]), self.dtype))

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Rows in any order and as often as they are named; each is read once."""
        wanted, places = np.unique(rows, return_inverse=True)
        if not wanted.size:
            return np.empty((0, *self.shape[1:]), self.dtype)
        first, last = int(wanted[0]), int(wanted[-1]) + 1
        # h5py takes a slice at once, and a list of rows one by one
        together = last - first <= 2 * wanted.size
        read = self[first:last][wanted - first] if together else self[wanted]
        return read[places]


def on_file(value: Any) -> Any:
    """An HDF5 data set as `OnFile`; anything else as it is."""
    is_dataset = type(value).__module__.split(".")[0] == "h5py" and hasattr(value, "shape")
    return OnFile(value) if is_dataset and len(value.shape) else value


def release(leaf: np.ndarray | OnFile) -> None:
    """Drop the pages of a memory map from memory; the file still has them."""
    if isinstance(leaf, np.memmap) and leaf.mode in ("r", "r+") and hasattr(mmap, "MADV_DONTNEED"):
        memory_map = getattr(leaf, "_mmap", None)
        if memory_map is not None:
            memory_map.madvise(mmap.MADV_DONTNEED)


def _type_of(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def weights_of_rows(weights: Any) -> HostOrDevice:
    """Weights without last axes of length 1: those of rows ``(n, 1)`` mean what ``(n,)`` do.

    >>> weights_of_rows(np.ones((3, 1))).shape, weights_of_rows(np.ones((3, 2))).shape
    ((3,), (3, 2))
    """
    array = as_array("weights", weights)
    while array.ndim > 1 and array.shape[-1] == 1:
        array = array[..., 0]
    return array


def check_leaves(name: str, tree: Any, *, real: bool = True) -> None:
    """Refuse a pytree with a leaf that is no array of real numbers, by its path.

    Only types and dtypes are looked at, so that traced arrays and shapes are fine, and so are random
    keys, and complex numbers if they need not be `real`. Numbers of NumPy that JAX has not, in another
    byte order or of longdouble, are refused as well; `leaves_of` takes them.

    >>> check_leaves("params", {"dense": {"kernel": "text"}})
    Traceback (most recent call last):
    TypeError: params: dense/kernel must be an array of numbers, got 'text'
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, (bool, int, float)) or _is_numeric(leaf, real):
            continue
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        named = f"{name}: {place}" if place else name
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise TypeError(f"{named} must be an array of real numbers, got one of dtype {leaf.dtype}")
        array = as_array(named, leaf)
        if _is_foreign(leaf):
            raise TypeError(
                f"{named} must be an array of a dtype of JAX, got {leaf.dtype}; convert it: "
                f".astype({array.dtype.name!r})"
            )


def leaves_of(name: str, tree: Any) -> Any:
    """The tree with arrays in place of leaves that turn into one, such as torch tensors.

    So do NumPy's numbers in another byte order or of longdouble.

    >>> leaves_of("params", {"bias": np.array([1.0], ">f4"), "scale": np.float32(0)})
    {'bias': array([1.], dtype=float32), 'scale': np.float32(0.0)}
    """

    def turns(leaf: Any) -> bool:
        known = isinstance(leaf, (jax.Array, np.ndarray, np.generic, type))
        return _is_foreign(leaf) if known else hasattr(leaf, "__array__")

    def array(path: jax.tree_util.KeyPath, leaf: Any) -> Any:
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        return as_array(f"{name}: {place}" if place else name, leaf) if turns(leaf) else leaf

    if not any(map(turns, jax.tree.leaves(tree))):
        return tree
    return jax.tree_util.tree_map_with_path(array, tree)


def _is_foreign(leaf: Any) -> bool:
    """Whether NumPy has these numbers and JAX has not."""
    return isinstance(leaf, (np.ndarray, np.generic)) and _known(leaf.dtype) != leaf.dtype


def _is_numeric(leaf: Any, real: bool) -> bool:
    """Whether an array is of numbers of JAX or random keys, and not masked, or the shape of one."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return not (real and jax.dtypes.issubdtype(leaf.dtype, jnp.complexfloating))
    if not isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
        return False
    if isinstance(leaf, np.ma.MaskedArray) or _is_foreign(leaf):
        return False
    kinds: list[Any] = [jnp.floating, jnp.integer, jnp.bool_, jax.dtypes.extended]
    if not real:
        kinds.append(jnp.complexfloating)
    dtype = leaf.dtype
    return dtype == jax.dtypes.float0 or any(jax.dtypes.issubdtype(dtype, kind) for kind in kinds)


def check_rows_told_apart(name: str, value: Any) -> None:
    """Refuse scores of the host in a row of which `check_told_apart` tells too few apart."""
    scores = as_array(name, value)
    if isinstance(scores, np.ndarray) and scores.ndim and is_cut(scores, jnp.result_type(float)):
        for row in scores.reshape(-1, scores.shape[-1]):
            check_told_apart(name, row)


def on_device(name: str, value: Any) -> jax.Array:
    """`as_array` as an array of JAX, all of whose whole numbers it can hold."""
    value = as_array(name, value)
    check_holds(name, value)
    return jnp.asarray(value)


def whole(name: str, value: Any) -> jax.Array:
    """Whole numbers (or booleans) of at least 32 bits, so that none wraps when compared or added to.

    >>> whole("labels", np.array([0, 255], np.uint8)).dtype
    dtype('int32')
    """
    value = on_device(name, value)
    if jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name} must be whole numbers, got an array of {value.dtype}")
    return value if value.dtype.itemsize >= 4 else value.astype(jnp.int32)


def floating(name: str, value: Any) -> jax.Array:
    """Floating-point numbers in their dtype; whole numbers and booleans in the default one."""
    value = on_device(name, value)
    return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(jnp.result_type(float))


def from_top(name: str, value: Any) -> HostOrDevice:
    """Scores of classes ``(…, classes)`` of which only differences count, with their differences kept.

    Numbers of the host that JAX' default float rounds come less the largest one of their row.

    >>> from_top("logits", np.array([[1.7e9, 1.7e9 + 1]]))
    array([[-1.,  0.]])
    """
    scores = as_array(name, value)
    check_holds(name, scores)
    if isinstance(scores, jax.Array) or not scores.ndim or not is_cut(scores, jnp.result_type(float)):
        return scores
    known = np.isfinite(scores)
    least = np.iinfo(scores.dtype).min if scores.dtype.kind in "iu" else -np.inf
    top = np.max(scores, axis=-1, keepdims=True, initial=least, where=known)
    return differences(scores, np.where(known.any(axis=-1, keepdims=True), top, 0).astype(scores.dtype))


def broadcasting(function: Callable[P, T]) -> Callable[P, T]:
    """The function, whose arrays of different ranks are meant to broadcast against each other.

    ``jax_numpy_rank_promotion="raise"`` refuses where nobody meant it.
    """

    @functools.wraps(function)
    def meant(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.numpy_rank_promotion("allow"):
            return function(*args, **kwargs)

    return meant


def of_data(function: Callable[P, T]) -> Callable[P, T]:
    """The function, in which NaN are missing values and not mistakes, and which is `broadcasting`.

    ``jax_debug_nans`` takes each for a mistake.
    """

    @functools.wraps(function)
    def meant(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.debug_nans(False), jax.numpy_rank_promotion("allow"):
            return function(*args, **kwargs)

    return meant


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An empty array that begins at a multiple of 64 bytes, so that a CPU device need not copy it."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + size].view(dtype).reshape(shape)
