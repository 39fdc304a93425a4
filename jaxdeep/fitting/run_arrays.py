"""The state of a run as named arrays for a file, and back."""

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.fitting.placement import fetched
from jaxdeep.train.run import RunState
from jaxdeep.tree import path_name

_KEYS = ("threefry2x32", "rbg", "unsafe_rbg")


def with_room(run: RunState, epochs: int) -> RunState:
    """The run with a history of this many epochs, which is cut or filled up with NaN."""
    history: Any = {name: _longer(values, epochs) for name, values in run.history.items()}
    return run._replace(history=history)


def _longer(values: ArrayLike, epochs: int) -> np.ndarray:
    """The values cut to `epochs` of them, or filled up with NaN."""
    values = np.asarray(values)
    more = np.full((max(epochs - len(values), 0), *values.shape[1:]), np.nan, values.dtype)
    return np.concatenate([values[:epochs], more])


def on_host(tree: PyTree) -> PyTree:
    """The tree with its arrays as NumPy's, which on a CPU are views; random keys stay as they are.

    It is `jax.device_get`, which takes ten times as long for the many small arrays of a run on a CPU.
    """
    leaves, structure = jax.tree.flatten(tree)
    if jax.default_backend() != "cpu":
        leaves = jax.device_get(leaves)  # which begins all transfers before it waits for one
    there = [
        np.asarray(leaf) if isinstance(leaf, jax.Array) and not _is_key(leaf) else leaf
        for leaf in leaves
    ]
    return jax.tree.unflatten(structure, there)


def named_arrays(run: PyTree, prefix: str = "") -> dict[str, np.ndarray]:
    """Every array by its path. Random keys are stored as the integers they are made of."""
    leaves, structure = jax.tree.flatten(run)
    fetch = fetched if jax.process_count() > 1 else np.asarray
    named = {
        name: fetch(_words_of(leaf) if _is_key(leaf) else leaf)
        for name, leaf in zip(_names(structure, prefix), leaves)
    }
    if len(named) < len(leaves):
        raise ValueError("two leaves of the run have the same path; rename a layer with a '.' in it")
    return named


@functools.lru_cache(64)
def _names(structure: jax.tree_util.PyTreeDef, prefix: str) -> list[str]:
    """The names of the leaves of a tree of this structure."""
    numbered = jax.tree.unflatten(structure, range(structure.num_leaves))
    paths = jax.tree_util.tree_leaves_with_path(numbered)
    return [prefix + path_name(path).replace("/", ".") for path, _ in paths]


def filled_run(like: PyTree, arrays: Mapping[str, np.ndarray]) -> PyTree:
    """A state like `like`, of copies of the arrays that `named_arrays` has made of one."""

    def fill(path: jax.tree_util.KeyPath, leaf: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
        array = arrays[path_name(path).replace("/", ".")]
        if _is_key(leaf):
            return jax.random.wrap_key_data(jnp.asarray(array), impl=_kind_of(leaf))
        if array.shape != np.shape(leaf) or array.dtype != leaf.dtype:
            raise ValueError(f"{path_name(path)} has shape {array.shape} and dtype {array.dtype}")
        # copied, since donation may overwrite it
        return jnp.array(array) if isinstance(leaf, jax.Array) else np.array(array)

    return jax.tree_util.tree_map_with_path(fill, like)


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """A checksum of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape};".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _kind_of(key: ArrayLike | jax.ShapeDtypeStruct) -> Any:
    """The kind of random keys, which may be known by their dtype alone."""
    if isinstance(key, jax.Array):
        return jax.random.key_impl(key)
    (kind,) = (
        kind for kind in _KEYS if jax.random.key(0, impl=kind).dtype == getattr(key, "dtype", None)
    )
    return kind


def _words_of(key: jax.Array) -> jax.Array:
    """What `jax.random.key_data` gives, which runs an operation to take it out of the key."""
    words: jax.Array | None = getattr(key, "_base_array", None)
    return jax.random.key_data(key) if words is None else words


def _is_key(leaf: ArrayLike) -> bool:
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or isinstance(dtype, np.dtype):  # NumPy knows no keys; asking JAX takes longer
        return False
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)
