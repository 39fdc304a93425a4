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

HostOrDevice = jax.Array | np.ndarray
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
    names = getattr(value, "columns", ())
    odd = [str(name) for name in names if np.asarray(value[name]).dtype.kind not in "fiub"]
    which = f" in {', '.join(odd[:8])}{', …' * (len(odd) > 8)}" if odd else ""
    return (
        f"{which}; jaxdeep.tables.fit(frame, target=…) finds out what its columns are; .encode(frame)"
        " of what it returns makes numbers of them"
    )


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


def extremes(value: HostOrDevice) -> tuple[float, float]:
    """The least and the largest value of an array of one or more that is known, also inside `jax.jit`.

    >>> extremes(np.array([3, 2**40]))
    (3, 1099511627776)
    """
    if not isinstance(value, jax.Array):
        return value.min().item(), value.max().item()
    with jax.ensure_compile_time_eval():
        return value.min().item(), value.max().item()


def check_holds(name: str, value: HostOrDevice) -> None:
    """Refuse numbers of the host that JAX would cut: beyond 32 bits or float32, with x64 off.

    A whole number would wrap, and a finite one become infinite.

    >>> check_holds("ids", np.array([2**32 + 1]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ids holds 4294967297, which needs more than 32 bits; use smaller numbers or turn on ...
    """
    if isinstance(value, jax.Array) or not value.size:
        return
    if value.dtype.kind == "f":
        _check_floats(name, value)
    if value.dtype.kind not in "iu":
        return
    held = jax.dtypes.canonicalize_dtype(value.dtype)
    if held == value.dtype:
        return
    info = np.iinfo(held)
    for extreme in (value.min(), value.max()):
        if not info.min <= extreme <= info.max:
            raise ValueError(
                f"{name} holds {extreme}, which needs more than {info.bits} bits; use smaller numbers "
                "or turn on jax_enable_x64"
            )


def is_cut(value: np.ndarray, dtype: Any) -> bool:
    """Whether a float dtype cannot hold each of these numbers of the host.

    >>> is_cut(np.array([2**24 + 1]), np.float32), is_cut(np.array([0.5]), np.float32)
    (True, False)
    """
    if value.dtype.itemsize < 4 or value.dtype.kind == "b" or value.dtype in (np.float32, dtype):
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        exact = value if value.dtype.kind == "f" else value.astype(np.longdouble)
        return bool((value.astype(dtype) != exact)[np.isfinite(value)].any())


def numbers_in(kind: Any) -> int:
    """How many whole numbers from 0 on a dtype tells apart.

    >>> numbers_in(jnp.bfloat16), numbers_in(np.int8)
    (257, 128)
    """
    held = jax.dtypes.canonicalize_dtype(kind)
    if jnp.issubdtype(held, jnp.integer):
        return int(jnp.iinfo(held).max) + 1
    return int(2 ** (jnp.finfo(held).nmant + 1) + 1)


def differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``one − other`` of numbers of the host in float64, rounded once also for whole ones of 64 bits.

    >>> differences(np.array([2**62 + 1, 0]), np.array([2**62, 1]))
    array([ 1., -1.])
    """
    if any(array.dtype.kind not in "iu" for array in (one, other)):
        with np.errstate(invalid="ignore"):  # ∞ − ∞
            return one.astype(np.float64) - other.astype(np.float64)
    above = one >= other
    # modulo 2⁶⁴, in which the size of the difference is
    a, b = one.astype(np.uint64), other.astype(np.uint64)
    return np.where(above, a - b, b - a).astype(np.float64) * np.where(above, 1, -1)


def in_two(value: HostOrDevice, dtype: Any) -> tuple[jax.Array, jax.Array | None]:
    """Numbers as the sum of two arrays of a float dtype; the second is None if it would be 0.

    float32 alone has steps of 128 at 1.7e9.

    >>> high, low = in_two(np.array([2**24 + 1]), np.float32)
    >>> float(high[0]), float(low[0])
    (16777216.0, 1.0)
    """
    if isinstance(value, jax.Array):
        if (
            value.dtype.itemsize < 4
            or not jnp.issubdtype(value.dtype, jnp.integer)
            or dtype != jnp.float32
        ):
            return value.astype(dtype), None
        coarse = (value >> 12) << 12  # both parts have fewer bits than float32
        return coarse.astype(dtype), (value - coarse).astype(dtype)
    if not is_cut(value, dtype):
        return jnp.asarray(value.astype(dtype)), None
    high = value.astype(dtype)
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        low = value.astype(np.float64) - high
    return jnp.asarray(high), jnp.asarray(np.where(np.isfinite(low), low, 0).astype(dtype))


def check_told_apart(name: str, value: Any, *, axis: int | None = None, dtype: Any = None) -> None:
    """Refuse numbers of the host that differ, but by so little that a float dtype takes few steps.

    Fewer than 64 of its steps are between the least and the largest. What it holds exactly is fine, and
    so are equal numbers but for the rounding of their own width. With ``axis=0`` each column is looked
    at by itself. The dtype is JAX' default float, if no other is named.

    >>> check_told_apart("outputs", np.array([1e6, 1e6 + 1e-3]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: outputs holds numbers from 1000000.0 to 1000000.001, whose differences float32 ...
    >>> check_told_apart("ids", 2**60 + np.arange(3), dtype=np.float64)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ids holds numbers from 1152921504606846976 to 1152921504606846978, whose differences ...
    """
    if isinstance(value, jax.Array):
        return
    value = as_array(name, value)
    dtype = np.dtype(jnp.result_type(float) if dtype is None else dtype)
    if isinstance(value, jax.Array) or not value.size or value.dtype.itemsize < 4:
        return
    if value.dtype.kind not in "iu" and value.dtype.itemsize <= max(4, dtype.itemsize):
        return
    if np.isfinite(value).all():
        least, most = value.min(axis=axis), value.max(axis=axis)
    else:
        known = np.isfinite(value)
        least = np.min(value, axis=axis, initial=np.inf, where=known)
        most = np.max(value, axis=axis, initial=-np.inf, where=known)
    low, high = np.asarray(least, np.float64), np.asarray(most, np.float64)
    close = lie_close(low, high, dtype)
    if value.dtype.kind in "iu":  # whose differences are exact
        whole = differences(np.asarray(most), np.asarray(least))
        close = (whole > 0) & ~lie_apart(low, low + np.maximum(whole, high - low), dtype)
    for place in np.argwhere(close):
        column = value[(slice(None), *place)] if axis == 0 else value
        if is_cut(column, dtype):
            at = f" in column {', '.join(map(str, place))}" if axis == 0 and place.size else ""
            first, last = (np.asarray(end)[tuple(place)].item() for end in (least, most))
            raise ValueError(f"{name} {not_told(first, last, at, dtype)}")


def check_rows_told_apart(name: str, value: Any) -> None:
    """Refuse scores of the host in a row of which `check_told_apart` tells too few apart."""
    scores = as_array(name, value)
    if isinstance(scores, np.ndarray) and scores.ndim and is_cut(scores, jnp.result_type(float)):
        for row in scores.reshape(-1, scores.shape[-1]):
            check_told_apart(name, row)


def lie_close(low: np.ndarray, high: np.ndarray, dtype: Any = None) -> np.ndarray:
    """Where numbers between these two differ by more than by rounding, but by few steps of a float.

    >>> lie_close(np.array([0.0, 1.7e9, 5.0]), np.array([1.0, 1.7e9 + 60, 5.0]))
    array([False,  True, False])
    """
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.maximum(np.abs(low), np.abs(high))
        return ~lie_apart(low, high, dtype) & (high - low > 16 * np.finfo(np.float64).eps * size)


def lie_apart(low: np.ndarray, high: np.ndarray, dtype: Any = None) -> np.ndarray:
    """Where numbers between these two are 64 steps of a float dtype apart, by default of JAX' float.

    Where they are, they still are among more numbers.

    >>> lie_apart(np.array([0.0, 1.7e9, 5.0]), np.array([1.0, 1.7e9 + 60, 5.0]))
    array([ True, False, False])
    """
    eps = float(jnp.finfo(jnp.result_type(float) if dtype is None else dtype).eps)
    with np.errstate(invalid="ignore", over="ignore"):
        return high - low >= 64 * eps * np.maximum(np.abs(low), np.abs(high))


def not_told(low: float, high: float, at: str, dtype: Any = None) -> str:
    """What is said of numbers that `lie_close` and are rounded, and where they are."""
    dtype = np.dtype(jnp.result_type(float) if dtype is None else dtype)
    wider = ", or turn on jax_enable_x64" if dtype.itemsize < 8 else ""
    return (
        f"holds numbers from {low!r} to {high!r}{at}, whose differences {dtype} cannot tell: subtract "
        f"what they have in common first{wider}"
    )


def check_leaves_hold(name: str, tree: Any) -> None:
    """Refuse a pytree with numbers of the host that JAX would cut, by their path.

    >>> check_leaves_hold("updates", {"a": np.array([1e300])})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: updates: a holds 1e+300, which float32 cannot hold (at most 3.4e+38); use smaller ...
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        known = not isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct))
        if known and getattr(leaf, "dtype", None) != jax.dtypes.float0:
            place = jax.tree_util.keystr(path, simple=True, separator="/")
            check_holds(f"{name}: {place}" if place else name, np.asarray(leaf))


def check_above_zero(name: str, value: HostOrDevice, *, axis: tuple[int, ...] | None = None) -> None:
    """Refuse numbers of the host that JAX' default float would make 0, and lose by that.

    With the axes of the examples, a feature is lost if it varies by less than a thousand times the least
    normal float: among larger numbers 1e-50 is as good as 0. Without, each number counts.

    >>> check_above_zero("x", np.array([1.0, 1e-50]), axis=(0,))
    >>> check_above_zero("x", np.array([1e-50, 2e-50]), axis=(0,))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: x holds 1e-50, which float32 makes 0 (from 1.2e-38 on it keeps its ...
    """
    dtype = jnp.result_type(float)
    if (
        isinstance(value, jax.Array)
        or value.dtype != np.float64
        or dtype == value.dtype
        or not value.size
    ):
        return
    least = float(jnp.finfo(dtype).tiny)
    lost = (abs(value) < least) & (value != 0)
    if lost.any() and axis is not None:
        high = np.fmax.reduce(value, axis=axis, keepdims=True)
        with np.errstate(invalid="ignore"):  # ∞ − ∞
            spread = high - np.fmin.reduce(value, axis=axis, keepdims=True)
        lost &= (spread > 0) & (spread < 1024 * least)
    if lost.any():
        raise ValueError(
            f"{name} holds {value[lost][0]}, which {dtype} makes 0 (from {least:.2g} on it keeps its "
            "digits); use larger units or turn on jax_enable_x64"
        )


def overflows(value: float | np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Where a finite number becomes infinite in this dtype.

    What rounds to the greatest number is held, though it lies above it.

    >>> [bool(overflows(value, np.float32)) for value in (3.402823466385289e38, 1e39, np.inf)]
    [False, True, False]
    """
    with np.errstate(over="ignore"):
        rounded = np.asarray(value).astype(dtype)
    return np.isfinite(value) & np.isinf(rounded)


def _check_floats(name: str, value: np.ndarray) -> None:
    dtype = jax.dtypes.canonicalize_dtype(value.dtype)
    if dtype.itemsize >= value.dtype.itemsize:
        return
    most = jnp.finfo(dtype).max
    extremes = np.fmin.reduce(value, axis=None), np.fmax.reduce(value, axis=None)
    if all(abs(extreme) <= most for extreme in extremes) or np.isnan(extremes[0]):
        return
    beyond = value[overflows(value, dtype)]
    if beyond.size:
        raise ValueError(
            f"{name} holds {beyond[0]}, which {dtype} cannot hold (at most {most:.2g}); use smaller "
            "numbers or turn on jax_enable_x64"
        )


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
