"""Parameters and state as named arrays and a skeleton of plain JSON values, and back."""

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._shapes import PyTree
from jaxdeep.saving.values import Json
from jaxdeep.tree import path_name

# dtypes that every reader of safetensors knows; others of one byte are stored as uint8
_STORED = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "bfloat16", "float32", "float64", "complex64",
}  # fmt: skip
_LEAF = re.compile(r"(\w+)(?:<(\w+)>)?\[([0-9, ]*)\]")
_KEYS = ("threefry2x32", "rbg", "unsafe_rbg")
_TAGS = ("list", "tuple", "dict")


def skeleton(node: PyTree, path: str = "") -> Json:
    """The structure of a tree as JSON: an object for a dict, ``"float32[3, 4]"`` for an array.

    Lists, tuples and dicts with names that are not strings are arrays that begin with what they are.
    `path` is where the tree is, for errors.

    >>> skeleton({"a": jnp.ones((2, 3)), "b": {}, "c": (None, jnp.int8(1))})
    {'a': 'float32[2, 3]', 'b': {}, 'c': ['tuple', None, 'int8[]']}
    """
    if node is None:
        return None
    if type(node) is dict:
        named = {name: skeleton(value, f"{path}/{name}") for name, value in node.items()}
        if all(isinstance(name, str) for name in node):
            return named
        if all(type(name) in (str, int) for name in node):
            return ["dict", *([name, value] for name, value in named.items())]
    if type(node) in (list, tuple):
        items = [skeleton(value, f"{path}/{i}") for i, value in enumerate(node)]
        return [type(node).__name__, *items]
    if hasattr(node, "dtype") and hasattr(node, "shape"):
        return _leaf(node, path)
    if isinstance(node, (bool, int, float, complex)):
        return _leaf(jnp.asarray(node), path)
    raise ValueError(
        f"{path} is {type(node).__name__}, which cannot be saved; parameters and state are "
        "plain dicts, lists and tuples of arrays"
    )


def _leaf(array: jax.Array, path: str) -> str:
    shape = list(np.shape(array))
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        kind = jax.random.key_impl(array)
        if kind not in _KEYS:
            raise ValueError(
                f"{path} is a random key of the kind {kind!r}; known are {', '.join(_KEYS)}"
            )
        return f"key<{kind}>{shape}"
    dtype = jnp.dtype(array.dtype)
    if dtype.kind not in "biufcV" or dtype.names or dtype.byteorder == ">":
        raise ValueError(f"{path} is an array of {dtype}, which cannot be saved")
    if dtype.name not in _STORED and dtype.itemsize != 1:
        raise ValueError(f"{path} is {dtype.name}, which safetensors cannot hold; cast it")
    _check_width(dtype, path, "cast it, or")
    return f"{dtype.name}{shape}"


def _check_width(dtype: np.dtype, path: str, remedy: str) -> None:
    known = jax.dtypes.canonicalize_dtype(dtype)
    if known != dtype:
        raise ValueError(
            f"{path} is {dtype.name}, which JAX makes {known.name} as long as x64 is off; {remedy} "
            'jax.config.update("jax_enable_x64", True)'
        )


def flat(tree: PyTree) -> dict[str, jax.Array | np.ndarray]:
    """The leaves of a tree by path, random keys as the words they are made of.

    >>> flat({"params": {"a": jnp.ones(2)}})
    {'params/a': Array([1., 1.], dtype=float32)}
    """
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if path_name(path) in named:
            raise ValueError(f"two arrays have the same path, {path_name(path)}; rename one of them")
        named[path_name(path)] = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
    return {
        name: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        for name, leaf in named.items()
    }


def stored(array: np.ndarray) -> np.ndarray:
    """An array as it goes into the file: in C order, in a dtype that safetensors knows."""
    array = np.asarray(array, order="C")  # the library would write the memory of others as it lies
    return array if array.dtype.name in _STORED else array.view(np.uint8)


def like(skeleton: Json, path: str = "") -> PyTree:
    """The tree of a skeleton with `jax.ShapeDtypeStruct` leaves.

    >>> like({"a": "float32[2, 3]", "b": ["tuple", None]})
    {'a': ShapeDtypeStruct(shape=(2, 3), dtype=float32), 'b': (None,)}
    """
    if skeleton is None:
        return None
    if isinstance(skeleton, dict):
        return {name: like(node, f"{path}/{name}") for name, node in skeleton.items()}
    if isinstance(skeleton, str):
        return _like_leaf(skeleton, path)
    if not isinstance(skeleton, list) or not skeleton or skeleton[0] not in _TAGS:
        raise ValueError(f"{path} is {skeleton!r}, which does not describe an array or a tree of them")
    tag, *items = skeleton
    if tag == "dict":
        if not all(isinstance(item, list) and len(item) == 2 for item in items):
            raise ValueError(f"{path} is {skeleton!r}, which does not describe a dict")
        return {name: like(node, f"{path}/{name}") for name, node in items}
    nodes = (like(node, f"{path}/{i}") for i, node in enumerate(items))
    return tuple(nodes) if tag == "tuple" else list(nodes)


def _like_leaf(text: str, path: str) -> jax.ShapeDtypeStruct:
    match = _LEAF.fullmatch(text)
    try:
        if match is None:
            raise TypeError
        shape = tuple(int(size) for size in match[3].split(",") if match[3])
        if match[2] is not None:
            if match[1] != "key" or match[2] not in _KEYS:
                raise TypeError
            return jax.ShapeDtypeStruct(shape, jax.random.key(0, impl=match[2]).dtype)
        dtype = jnp.dtype(match[1])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is {text!r}, which does not describe an array") from error
    _check_width(dtype, path, "before loading it,")
    return jax.ShapeDtypeStruct(shape, dtype)


def filled(like: PyTree, arrays: Mapping[str, np.ndarray]) -> PyTree:
    """A tree of jax arrays like `like`, from those in a file.

    >>> filled({"a": jax.ShapeDtypeStruct((2,), "int8")}, {"a": np.ones(2, np.int8)})
    {'a': Array([1, 1], dtype=int8)}
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    expected = {path_name(path): leaf for path, leaf in leaves}
    odd = sorted(set(expected) ^ set(arrays))
    if odd or len(expected) < len(leaves):
        raise ValueError(f"it does not hold the arrays that model.json names; it differs in {odd[:6]}")
    restored = [_restored(name, leaf, arrays[name]) for name, leaf in expected.items()]
    return jax.tree.unflatten(structure, restored)


def _restored(name: str, like: jax.ShapeDtypeStruct, array: np.ndarray) -> jax.Array:
    key = jnp.issubdtype(like.dtype, jax.dtypes.prng_key)
    dtype = jnp.dtype(jnp.uint32 if key else like.dtype)
    if dtype.name not in _STORED and array.dtype == np.uint8:
        array = array.view(dtype)
    shape = array.shape[: len(like.shape)] if key else array.shape
    if array.dtype != dtype or shape != like.shape:
        raise ValueError(
            f"{name} is {array.dtype}{list(array.shape)} there, and {like.dtype}{list(like.shape)} "
            "according to model.json"
        )
    if key:
        (kind,) = (kind for kind in _KEYS if jax.random.key(0, impl=kind).dtype == like.dtype)
        return jax.random.wrap_key_data(jnp.asarray(array), impl=kind)
    return jax.device_put(array, may_alias=False)  # unlike jnp.array, device_put compiles nothing
