"""The architecture of a model as a config of plain JSON values, and the model from it."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from jaxdeep.nn import walk
from jaxdeep.nn.layer import KINDS
from jaxdeep.nn.model import Model, lifting
from jaxdeep.saving import registry
from jaxdeep.saving.sameness import difference
from jaxdeep.saving.values import Json, decode, encode

Config: TypeAlias = dict[str, Json]

# Arguments by the names that they had in files of earlier code.
_RENAMED = {
    "dense": {"units": "features"},
    "quantized_dense": {"units": "features"},
    "embedding": {"size": "num_embeddings", "init": "embedding_init"},
    "quantized_embedding": {"size": "num_embeddings"},
}


def to_config(model: Model) -> Config:
    """The architecture of a model as nested dicts of plain values, that JSON can hold.

    ``{"kind": …, "config": {argument: value}, "layers": {name: …}}``, without what is empty. What
    `from_config` makes of it is compared with the model before it is given out.

    Args:
      model: any `Model` of jaxdeep's layers and of what `register` has given a name.

    Raises:
      ValueError: a function or layer without a name, an argument that JSON cannot hold, a model that the
        config does not make again; with the path of the layer. TypeError: not a `Model`.

    Source: Keras' `get_config`.

    >>> import jax, jaxdeep as jd
    >>> to_config(jd.nn.dense(3, activation=jax.nn.relu))
    {'kind': 'dense', 'config': {'features': 3, 'activation': {'function': 'jax.nn.relu'}}}
    >>> to_config(jd.nn.serial(drop=jd.nn.dropout(0.5), flat=jd.nn.flatten()))["layers"]
    {'drop': {'kind': 'dropout', 'config': {'rate': 0.5}}, 'flat': {'kind': 'flatten'}}
    """
    if not isinstance(model, Model):
        raise TypeError(f"model must be a Model, got {type(model).__name__}")
    model = _begun(model)
    config = walk.fold(model, _described, walk.any_layers)
    again = {p.names: p.layer for p in walk.every(from_config(config))}
    for place in reversed(walk.every(model)):
        _check_same(place, again[place.names])
    return config


def from_config(config: Mapping[str, Json]) -> Model:
    """The model that `to_config` described: the same architecture, with nothing trained.

    Only jaxdeep's own kinds of layers and what `register` has given a name are made, by calling their
    constructors, which check their arguments.

    Args:
      config: as from `to_config`, or read from JSON.

    Raises:
      ValueError: unknown kinds, fields, functions or arguments, with the path of the layer.

    Source: Keras' `from_config`.

    >>> import jaxdeep as jd
    >>> from_config({"kind": "serial", "layers": {"out": {"kind": "dense", "config": {"features": 2}}}})
    serial(
        out=dense(features=2),
    )
    """
    return _built(config, "")


def _begun(model: Model) -> Model:
    """The model without layers that only change its initialisation, which saved arrays make needless."""

    def begun(place: walk.Place, layers: dict[str, Model]) -> Model:
        if place.layer.traits.only_init:
            return layers[""]
        return walk.combined(place.layer, layers) if layers else place.layer

    return walk.fold(model, begun)


def _described(place: walk.Place, layers: dict[str, Config]) -> Config:
    model, kind = place.layer, place.layer.kind
    if kind not in KINDS:
        with _at(place.path):
            _check_registered(model)
    config = {}
    for name, value in model.config.items():
        with _at(place.path, f"{name}="):
            config[name] = encode(value)
    for name in layers:
        with _at(place.path):
            if not isinstance(name, str):
                raise ValueError(f"the name of a layer must be a string, got {name!r}")
    described = {"kind": kind, "config": config, "layers": layers}
    return {name: part for name, part in described.items() if part or name == "kind"}


def _check_registered(model: Model) -> None:
    try:
        registry.registered(model.kind)
    except ValueError:
        make = "function that makes it from its config and layers"
        raise ValueError(
            f"a model of the kind {model.kind!r}, which has no name to be saved by; give it a kind of "
            f"its own and register what makes it: jd.saving.register(kind, {make})"
            if model.kind == registry.UNNAMED
            else f"the kind {model.kind!r} is not one of jaxdeep's and has no name to be saved by; give "
            f"it one, here and where the model is loaded: jd.saving.register({model.kind!r}, {make})"
            f"{lifting(model)}"
        ) from None


def _check_same(place: walk.Place, again: Model) -> None:
    """Refuse a model that its own config does not make again."""
    model = place.layer
    mismatch = difference(model, again)
    if mismatch is not None:
        whose = f"jaxdeep's {model.kind!r}" if model.kind in KINDS else "what is registered"
        with _at(place.path):
            raise ValueError(
                f"{whose} makes another {model.kind!r} of its config {dict(model.config)}: {mismatch}; "
                "put all that it depends on into its config, or give it a kind of its own and register "
                "what makes it (jd.saving.register)"
            )


def _built(node: Json, path: str) -> Model:
    with _at(path):
        kind, config, layers = _fields(node)
        make = registry.constructor(kind)
    arguments = {}
    renamed = _RENAMED.get(kind, {})
    for name, value in config.items():
        with _at(path, f"{name}: "):
            arguments[renamed.get(name, name)] = decode(value)
    inside = {name: _built(layer, f"{path}/{name}".strip("/")) for name, layer in layers.items()}
    with _at(path):
        try:
            model = make(arguments, inside)
        except Exception as error:  # a registered constructor may raise anything
            raise ValueError(f"{kind} cannot be made of its config: {error}") from error
        if not isinstance(model, Model):
            raise ValueError(f"what is registered as {kind!r} must make a Model, got {model!r}")
        if model.kind != kind or list(model.layers) != list(inside):
            raise ValueError(
                f"what is registered as {kind!r} makes a model of the kind {model.kind!r} with layers "
                f"{list(model.layers)}; it must be of that kind and have layers {list(inside)}"
            )
    return model


def _fields(node: Json) -> tuple[str, Config, Config]:
    if not isinstance(node, Mapping) or not isinstance(node.get("kind"), str):
        raise ValueError(f"config must be that of layers, each an object with a kind, got {node!r}")
    unknown = sorted(set(node) - {"kind", "config", "layers"})
    if unknown:
        raise ValueError(f"a layer has kind, config and layers; got {unknown[0]!r} too")
    config, layers = node.get("config", {}), node.get("layers", {})
    if not isinstance(config, dict) or not isinstance(layers, dict):
        raise ValueError("config and layers must be objects")
    return node["kind"], config, layers


@contextlib.contextmanager
def _at(path: str, name: str = "") -> Iterator[None]:
    """Put the path of a layer, and the name of an argument, in front of an error."""
    try:
        yield
    except ValueError as error:
        start = f"layer {path}: " if path else ""
        raise ValueError(f"{start}{name}{error}") from error.__cause__
