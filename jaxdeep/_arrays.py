"""The one way in for arrays: what NumPy takes without surprises, else an error that names the argument.

JAX arrays and traced values come in as they are. NumPy values stay on the host in their own precision
until `on_device` has checked that JAX' default types can hold them.
"""

import functools
import math
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
    raise TypeError(f"{name} must be an array of real numbers, got one of dtype {value.dtype}")


def check_not_masked(name: str, value: Any) -> None:
    """Refuse a masked array some of whose values are masked, and lists of such arrays or values.

    NumPy would make NaN of it, or take what lies under the mask.

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
    elif isinstance(value, (list, tuple)) and _holds_masked(value):
        raise TypeError(
            f"{name} is a {type(value).__name__} with masked values; fill them "
            "(numpy.ma.filled(...)) or leave those rows out"
        )


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
            "objects (missing values, text, or rows of different lengths)"
        )
    return array


def _is_torch_bfloat16(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "torch" and str(value.dtype) == "torch.bfloat16"


def _from_bfloat16(tensor: Any) -> np.ndarray:
    """A tensor of torch of a dtype that NumPy lacks, by way of float32, which holds all its numbers."""
    return np.asarray(np.asarray(tensor.float()), jnp.bfloat16)


def _native(array: np.ndarray) -> np.ndarray:
    """The array in the byte order of this machine; files have others. A longdouble becomes a float64."""
    if array.dtype.kind not in "fiu":
        return array
    if array.dtype.itemsize > 8:  # longdouble
        return array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


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


def _type_of(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def check_leaves(name: str, tree: Any, *, real: bool = True) -> None:
    """Refuse a pytree with a leaf that is no array of real numbers, by its path.

    Only types and dtypes are looked at, so that traced arrays and shapes are fine, and so are random
    keys, and complex numbers if they need not be `real`.

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
        as_array(named, leaf)


def leaves_of(name: str, tree: Any) -> Any:
    """The tree with arrays in place of leaves that turn into one, such as torch tensors.

    >>> leaves_of("params", {"bias": np.float32(0)})
    {'bias': np.float32(0.0)}
    """

    def turns(leaf: Any) -> bool:
        known = isinstance(leaf, (jax.Array, np.ndarray, np.generic, type))
        return not known and hasattr(leaf, "__array__")

    def array(path: jax.tree_util.KeyPath, leaf: Any) -> Any:
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        return as_array(f"{name}: {place}" if place else name, leaf) if turns(leaf) else leaf

    if not any(map(turns, jax.tree.leaves(tree))):
        return tree
    return jax.tree_util.tree_map_with_path(array, tree)


def _is_numeric(leaf: Any, real: bool) -> bool:
    """Whether an array is of numbers or random keys, and not masked, or the shape of one."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return not (real and jax.dtypes.issubdtype(leaf.dtype, jnp.complexfloating))
    if not isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
        return False
    if isinstance(leaf, np.ma.MaskedArray):
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


def broadcasting(function: Callable[P, T]) -> Callable[P, T]:
    """The function, whose arrays of different ranks are meant to broadcast against each other.

    ``jax_numpy_rank_promotion="raise"`` refuses where nobody meant it.
    """

    @functools.wraps(function)
    def meant(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.numpy_rank_promotion("allow"):
            return function(*args, **kwargs)

    return meant
