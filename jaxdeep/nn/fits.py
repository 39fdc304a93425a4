"""Whether parameters and state belong to a model, told from names and shapes."""

import contextlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep._arrays import check_leaves
from jaxdeep._shapes import PyTree
from jaxdeep.nn import walk
from jaxdeep.nn.layer import KINDS, made_for
from jaxdeep.nn.model import Model
from jaxdeep.tree import path_name


def check_fit(model: Model, params: PyTree, state: PyTree) -> None:
    """Refuse parameters and state with other names or shapes than the layers of the model have.

    What registered models have cannot be told without an input and is not looked at. Trees with one more
    leading axis everywhere, those of an ensemble, fit as each of their models does.

    Raises:
      ValueError: the first that does not fit, by its path. TypeError: what is no array of numbers.

    >>> import jaxdeep as jd
    >>> check_fit(jd.nn.dense(3), {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(4)}, {})
    Traceback (most recent call last):
        ...
    ValueError: params/bias has shape (4,), but dense(features=3) needs (3,)
    """
    for argument, tree in (("params", params), ("state", state)):
        check_leaves(argument, tree, real=False)
    _check_each_or_all(model, params, state)


def check_params(model: Model, params: PyTree) -> None:
    """Refuse parameters with other names or shapes than the layers of the model have, without a state.

    Layers of which there are no parameters are not looked at.

    Raises:
      ValueError: the first that does not fit, by its path. TypeError: what is no array of numbers.

    >>> import jaxdeep as jd
    >>> model = jd.nn.serial(out=jd.nn.dense(3))
    >>> check_params(model, {"out": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(1)}})
    Traceback (most recent call last):
        ...
    ValueError: params/out/bias has shape (1,), but dense(features=3) needs (3,)
    """
    check_leaves("params", params, real=False)
    _check_each_or_all(model, params, {}, alone=True)


def _check_each_or_all(model: Model, params: PyTree, state: PyTree, *, alone: bool = False) -> None:
    try:
        _check(model, params, state, alone)
    except ValueError:
        leaves = jax.tree.leaves((params, state))
        sizes = {_shape(leaf)[:1] for leaf in leaves}
        if len(sizes) == 1 and () not in sizes:
            with contextlib.suppress(ValueError):
                return _check(model, _rows(params), _rows(state), alone)
        raise


def _check(model: Model, params: PyTree, state: PyTree, alone: bool) -> None:
    """Refuse what does not fit: names at each combinator, then the arrays of each layer inside.

    Where parameters are alone, statistics have the shapes that go with them.
    """
    for place in walk.every(model):
        layer, path = place.layer, f"/{place.path}" if place.path else ""
        if any(around.kind not in KINDS for around in (*place.above, layer)) or walk.is_wrapper(layer):
            continue
        layer_params = walk.at(params, place.keys)
        if layer_params is None:
            raise TypeError(f"params{path} must be a dict of the arrays of {layer!r}, got None")
        kept = _statistics(layer, layer_params) if alone else walk.at(state, place.keys)
        trees = {"params": layer_params, "state": kept}
        for _ in place.stacked:
            trees = _rows(trees)
        if layer.combine is not None or layer.traits.empty:
            _check_names(path, trees, layer.layers)
            if layer.traits.stacked:
                _check_times(path, trees, layer)
        elif layer.traits.example is not None and (not alone or jax.tree.leaves(layer_params)):
            _check_layer(layer, trees, path)


def _statistics(layer: Model, params: PyTree) -> PyTree:
    """The statistics that go with the parameters of a layer: those of a norm are as many."""
    leaves = jax.tree.leaves(params)
    return {"mean": leaves[0], "var": leaves[0]} if layer.traits.norm is not None and leaves else {}


def _check_names(path: str, trees: Mapping[str, PyTree], layers: Mapping[str, Model]) -> None:
    for root, tree in trees.items():
        if not isinstance(tree, Mapping):
            raise ValueError(f"{root}{path} must be a dict, got {type(tree).__name__}")
        unknown = [name for name in tree if name not in layers]
        if unknown:
            there = f"the layers there are {', '.join(layers)}" if layers else "nothing is learnt there"
            raise ValueError(f"{root}{path}/{unknown[0]} is of no layer of the model; {there}")


def _check_times(path: str, trees: Mapping[str, PyTree], loop: Model) -> None:
    times = loop.traits.times
    for leaf, shape in _shapes(trees, path).items():
        if shape[:1] != (times,):
            raise ValueError(
                f"{leaf} has shape {shape}, but {loop.kind}(times={times}) needs a first axis of {times}"
            )


def _rows(tree: PyTree) -> PyTree:
    """The shapes of a tree without the first axis."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(_shape(a)[1:], a.dtype), tree)


def _check_layer(model: Model, trees: dict[str, PyTree], path: str) -> None:
    """A layer that has arrays of its own: they are those of its `init`, for an input taken from them."""
    for root, tree in trees.items():
        check_leaves(f"{root}{path}", tree)
    shapes = _shapes(trees, path)
    by_name = {name.rpartition("/")[2]: shape for name, shape in shapes.items()}
    try:
        made = made_for(model.kind, model.config, model.traits, by_name)
    except KeyError as missing:
        raise ValueError(f"params or state{path} lack {missing}, which {model!r} needs") from None
    except (ValueError, TypeError, IndexError) as error:
        raise ValueError(f"params or state{path} do not fit {model!r}: {error}") from error
    expected = _shapes(dict(zip(("params", "state"), made)), path)
    for name in {**expected, **shapes}:
        if name not in shapes:
            raise ValueError(f"{name} is missing; {model!r} needs it")
        if name not in expected:
            raise ValueError(f"{name} is not part of {model!r}")
        shape, needed = shapes[name], expected[name]
        if shape != needed:
            # what a norm needs is told from its own arrays, any of which may be the odd one
            as_other = next((f", as {other} has" for other in shapes if shapes[other] == needed), "")
            raise ValueError(f"{name} has shape {shape}, but {model!r} needs {needed}{as_other}")


def _shapes(trees: Mapping[str, PyTree], path: str) -> dict[str, tuple[int, ...]]:
    return {
        f"{root}{path}/{path_name(leaf_path)}": _shape(leaf)
        for root, tree in trees.items()
        for leaf_path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _shape(leaf: Any) -> tuple[int, ...]:
    return tuple(leaf.shape) if hasattr(leaf, "shape") else jnp.shape(leaf)
