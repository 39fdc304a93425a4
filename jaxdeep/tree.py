"""Leaf paths, and `where` selectors over them.

A leaf's path is its place in the tree, written with slashes: ``params["hidden1"]["kernel"]`` is
``"hidden1/kernel"``. A selector says which leaves something applies to. `mask` turns it into a
pytree of booleans, which `optax.masked` and every ``where=`` of jaxdeep understand.
"""

import difflib
import fnmatch
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeGuard

import jax
import numpy as np
from jax.tree_util import KeyPath, PyTreeDef

from jaxdeep._arrays import as_array
from jaxdeep._shapes import PyTree

__all__ = [
    "combine",
    "leaf_paths",
    "mask",
    "partition",
    "path_name",
    "shapes",
]


def __dir__() -> list[str]:
    return __all__


Leaf: TypeAlias = Any  # an array, one that is traced, the shape of one, or what a tree holds instead
Where: TypeAlias = str | Sequence[str] | Callable[[str, Leaf], bool] | PyTree


def leaf_paths(tree: PyTree) -> list[str]:
    """The path of every leaf, in the order of ``jax.tree.leaves``.

    Of a leaf in a box of Flax, such as `flax.nnx.Param`, it is the path of the box.

    >>> leaf_paths({"hidden1": {"kernel": 1.0, "bias": 2.0}, "logits": [3.0]})
    ['hidden1/bias', 'hidden1/kernel', 'logits/0']
    """
    return [path_name(path) for path, _ in _named(tree)]


def _named(
    tree: PyTree, is_leaf: Callable[[Any], bool] = lambda node: False
) -> list[tuple[KeyPath, Leaf]]:
    """Leaves with paths, in which a box of Flax has no part."""
    named = []
    for path, node in jax.tree_util.tree_leaves_with_path(
        tree, is_leaf=lambda node: is_leaf(node) or _is_box(node)
    ):
        if _is_box(node):  # without the name of its only attribute, value
            inside = jax.tree_util.tree_leaves_with_path(node, is_leaf=is_leaf)
            named += [((*path, *rest[1:]), leaf) for rest, leaf in inside]
        else:
            named.append((path, node))
    return named


def _is_box(node: object) -> bool:
    """Whether this is what Flax keeps an array in: a variable of NNX, or metadata of Linen."""
    kinds = ("Variable", "VariableState", "AxisMetadata")
    return any(c.__name__ in kinds and c.__module__.startswith("flax.") for c in type(node).__mro__)


def unboxed(tree: PyTree) -> PyTree:
    """The tree with the arrays themselves in place of the boxes of Flax that hold them."""
    return jax.tree.map(
        lambda node: jax.tree.leaves(node)[0] if _is_box(node) else node, tree, is_leaf=_is_box
    )


def path_name(path: KeyPath) -> str:
    """A JAX key path as text.

    >>> path_name((jax.tree_util.DictKey("hidden1"), jax.tree_util.SequenceKey(0)))
    'hidden1/0'
    """
    if not isinstance(path, (tuple, list)):
        raise TypeError(f"path must be a key path, a tuple such as (DictKey('a'),), got {path!r}")
    return jax.tree_util.keystr(path, simple=True, separator="/")


def shapes(tree: PyTree) -> PyTree:
    """The tree with every leaf replaced by its shape and dtype, as a `jax.ShapeDtypeStruct`.

    Dtypes are those that the leaf has as a JAX array: without x64, float64 NumPy arrays are float32.

    >>> shapes({"x": np.zeros((2, 3))})
    {'x': ShapeDtypeStruct(shape=(2, 3), dtype=float32)}

    Raises:
      TypeError: a leaf that is no array of numbers, such as a text.
    """
    return shapes_of("tree", tree)


def shapes_of(name: str, tree: PyTree) -> PyTree:
    """The `shapes` of an argument, by its name if it has leaves that have none."""

    def shape(path: KeyPath, leaf: Leaf) -> jax.ShapeDtypeStruct:
        try:
            dtype = leaf.dtype if hasattr(leaf, "dtype") else np.result_type(np.asarray(leaf))
            unfit = isinstance(dtype, np.dtype) and dtype.kind in "OSUMm"
        except (TypeError, ValueError):
            unfit = True
        if unfit:
            place = f"{name}: {path_name(path)}" if path else name
            got = f"an array of {leaf.dtype}" if hasattr(leaf, "dtype") else repr(leaf)
            raise TypeError(f"{place} must be an array, got {got}")
        if isinstance(dtype, np.dtype):
            dtype = dtype.newbyteorder("=")
        if jax.dtypes.issubdtype(dtype, jax.dtypes.extended):  # random keys
            return jax.ShapeDtypeStruct(np.shape(leaf), dtype)
        return jax.ShapeDtypeStruct(np.shape(leaf), jax.dtypes.canonicalize_dtype(dtype))

    return jax.tree_util.tree_map_with_path(shape, tree)


def example_of(x: PyTree, name: str = "x") -> PyTree:
    """The shapes and dtypes of an example input, which may be anything that `jaxdeep.fit` takes as data.

    Shapes and traced values stay as they are, and nothing is read from a file.

    Raises:
      TypeError: a part that is no array of numbers.

    >>> example_of({"a": [[1.0, 2.0]], "b": jax.ShapeDtypeStruct((1, 3), "int32")})["a"]
    ShapeDtypeStruct(shape=(1, 2), dtype=float32)
    """
    return shapes_of(name, as_arrays_or_shapes(x, name))


def as_arrays_or_shapes(tree: PyTree, name: str) -> PyTree:
    """The tree with every part an array, as `as_array` makes it, but for shapes and arrays of JAX."""

    def array(path: KeyPath, value: Any) -> Any:
        dtype = getattr(value, "dtype", None)
        if isinstance(value, (jax.Array, jax.ShapeDtypeStruct)):
            return value
        known = isinstance(dtype, np.dtype) and dtype.isnative and dtype.kind in "fiubcV"
        if known and hasattr(value, "shape") and not isinstance(value, np.ma.MaskedArray):
            return value
        return as_array(f"{name}[{path_name(path)}]" if path else name, value)

    return jax.tree_util.tree_map_with_path(array, tree, is_leaf=is_of_numbers)


def is_of_numbers(node: Any) -> bool:
    """Whether this is a list of numbers, or of such lists, and not a container of arrays."""
    if not isinstance(node, (list, tuple)) or hasattr(node, "_fields"):
        return False
    while isinstance(node, (list, tuple)):
        if not node:
            return True
        node = node[0]
    return node is not None and np.ndim(node) == 0 and not isinstance(node, dict)


def mask(tree: PyTree, where: Where) -> PyTree:
    """The leaves that `where` selects, as a pytree of booleans shaped like `tree`.

    Args:
      tree: any pytree; only paths, shapes and dtypes are looked at, so
        `jax.ShapeDtypeStruct` leaves and traced arrays are fine.
      where: one of

        * a glob over leaf paths, ``"hidden*/kernel"``; ``*`` also crosses ``/``, so
          ``"*/kernel"`` is every kernel at any depth; case matters;
        * a list of globs: a leaf is selected if any of them matches;
        * a predicate ``(path, leaf) -> bool``;
        * a pytree of booleans like `tree`, or a prefix of it (``{"hidden1": True, ...}``).

    A leaf that `partition` has replaced by None may be named by the selector; it stays None.

    Raises:
      ValueError: a glob, or the whole selector, that matches no leaf (a mistyped name must not
        pass for "nothing"), or a boolean pytree of another structure.
      TypeError: a selector of another kind, or a predicate that does not return a boolean.

    >>> params = {"hidden1": {"kernel": 1.0, "bias": 2.0}, "logits": {"kernel": 3.0}}
    >>> mask(params, "*/kernel")
    {'hidden1': {'bias': False, 'kernel': True}, 'logits': {'kernel': True}}
    >>> mask(params, lambda path, leaf: path.startswith("logits"))
    {'hidden1': {'bias': False, 'kernel': False}, 'logits': {'kernel': True}}
    >>> mask(params, "hiden1/kernel")
    Traceback (most recent call last):
        ...
    ValueError: where='hiden1/kernel' matches no leaf; did you mean 'hidden1/kernel'? ...
    """
    return selected(tree, where, "where")


def selected(tree: PyTree, where: Where, name: str) -> PyTree:
    """The `mask` of a selector that is the argument `name`."""
    check_where(where, name)
    structure: PyTreeDef = jax.tree.structure(tree, is_leaf=_is_none)
    named = _named(tree, _is_none)
    paths, leaves = [path_name(path) for path, _ in named], [leaf for _, leaf in named]
    chosen: list[bool | None]
    if isinstance(where, str) or _is_globs(where):
        chosen = [*_match(where, paths, name)]
    elif callable(where) and not _is_of_booleans(where):
        chosen = [None if a is None else _ask(where, path, a, name) for path, a in zip(paths, leaves)]
    else:
        chosen = structure.flatten_up_to(_broadcast(where, tree, name))
    if not any(chosen) and None not in chosen:
        raise ValueError(f"{name}={where!r} matches no leaf; {_choices(paths)}")
    choices = [None if leaf is None else choice for leaf, choice in zip(leaves, chosen)]
    return jax.tree.unflatten(structure, choices)


def partition(tree: PyTree, where: Where | None) -> tuple[PyTree, PyTree]:
    """The leaves that `where` selects and the other leaves, as two trees of the same structure.

    Each tree has None in place of the leaves of the other. JAX does not count None as a leaf, so that a
    gradient, an optimizer's state or a norm of one part ignores the other part. `combine` puts the two
    together again.

    Args:
      tree: any pytree.
      where: as for `mask`; None selects everything.

    Raises:
      ValueError, TypeError: as `mask`.

    Source: `equinox.partition`.

    >>> moving, held = partition({"hidden": {"kernel": 1.0}, "logits": {"kernel": 3.0}}, "logits/*")
    >>> moving
    {'hidden': {'kernel': None}, 'logits': {'kernel': 3.0}}
    >>> combine(moving, held)
    {'hidden': {'kernel': 1.0}, 'logits': {'kernel': 3.0}}
    """
    return parted(tree, where, "where")


def parted(tree: PyTree, where: Where | None, name: str) -> tuple[PyTree, PyTree]:
    """The `partition` by a selector that is the argument `name`."""
    chosen = jax.tree.map(lambda _: True, tree) if where is None else selected(tree, where, name)
    return (
        jax.tree.map(lambda choice, leaf: leaf if choice else None, chosen, tree),
        jax.tree.map(lambda choice, leaf: None if choice else leaf, chosen, tree),
    )


def combine(*trees: PyTree) -> PyTree:
    """Trees of the same structure put together: each leaf is the first that is not None.

    Source: `equinox.combine`.

    >>> combine({"a": None, "b": 2}, {"a": 1, "b": None})
    {'a': 1, 'b': 2}

    Raises:
      ValueError: no trees, or trees of different structures.
    """
    if not trees:
        raise ValueError("combine needs trees, got none")

    def first(*leaves: Leaf) -> Leaf:
        kept = next((leaf for leaf in leaves if leaf is not None), None)
        others = [leaf for leaf in leaves if leaf is not None and leaf is not kept]
        if _is_leaf(kept) and not all(map(_is_leaf, others)):
            raise ValueError("an array is where another tree has a part")
        return kept

    try:
        return jax.tree.map(first, *trees, is_leaf=_is_none)
    except (ValueError, TypeError) as error:
        several = " and ".join(str(jax.tree.structure(tree)) for tree in trees)
        raise ValueError(f"trees must have the same structure, got {several}: {error}") from error


def check_where(where: Where, name: str = "where") -> None:
    """Refuse a value that is no selector for any tree.

    >>> check_where(["*/kernel", 3])
    Traceback (most recent call last):
        ...
    TypeError: where must be a glob, a list of globs, a predicate (path, leaf) -> bool or a pytree ...
    """
    if isinstance(where, str) or _is_globs(where) or _is_of_booleans(where):
        return
    if callable(where) and not _takes_two(where):
        raise TypeError(
            f"{_said(name)} must be a predicate (path, leaf) -> bool, got {where!r}, which takes not "
            "both; of a function of the whole tree, as masks of optax are, give the result: "
            f"{name}=mask(params)"
        )
    if not callable(where):
        raise TypeError(
            f"{_said(name)} must be a glob, a list of globs, a predicate (path, leaf) -> bool or a "
            f"pytree of booleans, got {where!r}"
        )


def _said(name: str) -> str:
    """A selector in the words of an error: by the argument that it is."""
    return "where" if name == "where" else f"{name}: where"


def _takes_two(predicate: Callable[..., object]) -> bool:
    """Whether a function can be called with a path and a leaf, as far as it says."""
    try:
        inspect.signature(predicate).bind("", None)
    except ValueError:  # without a signature
        return True
    except TypeError:
        return False
    return True


def _is_leaf(node: object) -> bool:
    return node is not None and jax.tree_util.all_leaves([node])


def _is_none(node: object) -> bool:
    return node is None


def _is_globs(where: object) -> TypeGuard[Sequence[str]]:
    return isinstance(where, (list, tuple)) and bool(where) and all(isinstance(g, str) for g in where)


def _is_of_booleans(where: object) -> bool:
    """Whether this is a pytree of booleans, which may be a module that can be called."""
    leaves = jax.tree.leaves(where)
    return bool(leaves) and all(map(_is_bool, leaves))


def _is_bool(value: object) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return True
    known = not isinstance(value, jax.core.Tracer)
    return known and getattr(value, "shape", None) == () and getattr(value, "dtype", None) == np.bool_


def _match(where: str | Sequence[str], paths: list[str], name: str) -> list[bool]:
    globs = [where] if isinstance(where, str) else where
    for glob in globs:
        if not any(_matches(path, glob) for path in paths):
            close = difflib.get_close_matches(glob, paths, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            other = glob.replace("kernel", "weight")
            if other != glob and any(_matches(path, other) for path in paths):
                hint = f"Equinox calls kernels 'weight', and scales of norms too: {other!r}; "
            within = "" if where == glob else f" (in {name}={where!r})"
            raise ValueError(f"{name}={glob!r}{within} matches no leaf; {hint}{_choices(paths)}")
    return [any(_matches(path, glob) for glob in globs) for path in paths]


def _matches(path: str, glob: str) -> bool:
    # equality first, since a path may contain [ or ?
    return path == glob or fnmatch.fnmatchcase(path, glob)


def _ask(predicate: Callable[[str, Leaf], bool], path: str, leaf: Leaf, name: str) -> bool:
    answer = predicate(path, leaf)
    if not _is_bool(answer):
        raise TypeError(f"{_said(name)} must return True or False, got {answer!r} for leaf {path!r}")
    return bool(answer)


def _broadcast(where: PyTree, tree: PyTree, name: str) -> PyTree:
    try:
        return jax.tree.map(
            lambda choice, below: jax.tree.map(lambda _: bool(choice), below), where, tree
        )
    except (ValueError, TypeError) as error:
        here, there = leaf_paths(where), leaf_paths(tree)
        odd = [p for p in here if not any(q == p or q.startswith(f"{p}/") for q in there)]
        odd += [q for q in there if not any(q == p or q.startswith(f"{p}/") for p in here)]
        place = odd[0] if odd else "their containers"
        raise ValueError(
            f"{_said(name)}, a pytree of booleans, must have the structure of the tree it selects from "
            f"or be a prefix of it; they differ in {place}: {jax.tree.structure(where)} against "
            f"{jax.tree.structure(tree)}"
        ) from error


def _choices(paths: list[str]) -> str:
    if not paths:
        return "the tree has no leaves"
    if paths == [""]:
        return "the tree is a single leaf"
    shown = ", ".join(paths[:12])
    return f"the leaves are {shown}" + (f" … ({len(paths)} in all)" if len(paths) > 12 else "")
