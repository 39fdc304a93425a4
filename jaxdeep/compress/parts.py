"""Layers of a model with their own parameters and state, whatever it is combined of."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxdeep.nn.model import Model, under

PyTree = Any


def own(tree: PyTree, name: str) -> PyTree:
    """The parameters or state of a layer, from those of the model that it is a layer of."""
    return tree.get(name, {}) if name else tree


def outer(name: str, tree: PyTree) -> dict[str, Any]:
    """The other way round."""
    found: dict[str, Any] = under(name, tree) if name else tree
    return found


def path_of(names: tuple[str, ...]) -> str:
    """Names of layers as a path; what wraps a model whole has none."""
    return "/".join(name for name in names if name)


def inner(model: Model) -> Mapping[str, Model]:
    """The layers that can be replaced; none if the model is not made of any that can."""
    opaque = model.combine is None or (model.loops and model.kind != "repeat")
    return {} if opaque else model.layers


def deeper(model: Model, stack: int) -> int:
    """The number of leading axes of stacked layers inside a combinator."""
    return stack + (model.kind == "repeat" and not model.config.get("shared", False))


def replaced(
    model: Model,
    params: PyTree,
    function: Callable[[Model, Any, str, int], tuple[Model, Any]],
    path: str = "",
    stack: int = 0,
) -> tuple[Model, PyTree]:
    """The model and its parameters with ``function(layer, params, path, stack)`` for every layer.

    `stack` is the number of leading axes of parameters that `repeat` has stacked.
    """
    layers = inner(model)
    if not layers:
        return function(model, params, path, stack)
    stack = deeper(model, stack)
    new = {
        name: replaced(layer, own(params, name), function, path_of((path, name)), stack)
        for name, layer in layers.items()
    }
    made = {name: layer for name, (layer, _) in new.items()}
    assert model.combine is not None
    if any(made[name] is not layer for name, layer in layers.items()):
        model = model.combine(made)
    return model, {n: tree for name, (_, p) in new.items() for n, tree in outer(name, p).items()}
