"""Whether the description of a saved model of Keras is built as Keras builds one."""

from collections.abc import Iterator
from typing import Any, NoReturn

from jaxdeep.adapters.keras_models.archive import CONFIG, Config

NESTED = ("Sequential", "Functional", "Model")


def check_description(config: Config) -> None:
    """Refuse a description whose parts are missing, are of other kinds or name what is not there.

    Raises:
      ValueError: with the model and the layer.

    >>> check_description({"class_name": "Sequential", "config": {"name": "net", "layers": [3]}})
    Traceback (most recent call last):
    ValueError: source: config.json: layer 0 of Sequential 'net' must be an object, got 3
    """
    where = "the model"
    _check_object(config, where)
    if config["class_name"] in NESTED:
        _check_model(config)


def layer_name(config: Config) -> str:
    """The name of a layer in a description.

    >>> layer_name({"class_name": "Dense", "config": {"name": "hidden"}})
    'hidden'
    """
    return str(config.get("name", config["config"].get("name", "")))


def _check_model(config: Config) -> None:
    arguments, where = config["config"], f"{config['class_name']} {layer_name(config)!r}"
    layers = arguments.get("layers")
    if not isinstance(layers, list):
        _refuse(f"{where} must have a list of layers", arguments, "layers")
    names: set[str] = set()
    for i, one in enumerate(layers):
        _check_object(one, f"layer {i} of {where}")
        name = layer_name(one)
        of_layer = f"layer {name!r} of {where}" if name else f"layer {i} of {where}"
        if name in names:
            _refuse(f"two layers of {where} have the name {name!r}")
        names.add(name)
        for key, kind, word in (
            ("build_config", dict, "an object"),
            ("module", str, "a text"),
            ("inbound_nodes", list, "a list"),
        ):
            if one.get(key) is not None and not isinstance(one[key], kind):
                _refuse(f"{key} of {of_layer} must be {word}", one, key)
        if one["class_name"] in NESTED:
            _check_model(one)
    if config["class_name"] != "Sequential":
        _check_wires(arguments, names, where)


def _check_object(config: Any, where: str) -> None:
    """Refuse what is no object of a class and its arguments."""
    if not isinstance(config, dict):
        _refuse(f"{where} must be an object, got {config!r}")
    if not isinstance(config.get("class_name"), str):
        _refuse(f"{where} must have the name of a class", config, "class_name")
    if not isinstance(arguments := config.get("config"), dict):
        _refuse(f"{where} must have its arguments, an object", config, "config")
    for key, kind, word in (("name", str, "a text"), ("trainable", bool, "true or false")):
        if not isinstance(arguments.get(key, kind()), kind):
            _refuse(f"{key} of {where} must be {word}", arguments, key)


def _check_wires(arguments: Config, names: set[str], where: str) -> None:
    """Refuse inputs, outputs and calls that are no tensors, or are of layers that are not there."""
    for key in ("input_layers", "output_layers"):
        if not isinstance(arguments.get(key), (list, dict)) or not arguments[key]:
            _refuse(f"{where} must have a list of tensors", arguments, key)
        for tensor in _histories(arguments[key]):
            _check_tensor(tensor, names, f"{key} of {where}")
    for one in arguments["layers"]:
        for node in one.get("inbound_nodes") or []:
            at = f"a call of layer {layer_name(one)!r} of {where}"
            if isinstance(node, list):  # of Keras 2, which has words of its own
                continue
            if not isinstance(node, dict):
                _refuse(f"{at} must be an object, got {node!r}")
            for key, kind in (("args", list), ("kwargs", dict)):
                if not isinstance(node.get(key, kind()), kind):
                    _refuse(f"{at} has other {key} than Keras writes", node, key)
            for tensor in _tensors([node.get("args", []), node.get("kwargs", {})]):
                _check_tensor(tensor, names, at)


def _histories(node: Any) -> Iterator[Any]:
    """The tensors among inputs or outputs, as lists of a layer and two numbers."""
    several = list(node.values()) if isinstance(node, dict) else node
    if isinstance(several, list) and (isinstance(node, dict) or _holds_some(several)):
        for one in several:
            yield from _histories(one)
    else:
        yield node


def _holds_some(several: list[Any]) -> bool:
    return bool(several) and all(isinstance(one, (list, dict)) for one in several)


def _tensors(node: Any) -> Iterator[Any]:
    """The tensors among the arguments of a call."""
    if isinstance(node, dict) and node.get("class_name") == "__keras_tensor__":
        arguments = node.get("config")
        yield arguments.get("keras_history") if isinstance(arguments, dict) else arguments
    elif isinstance(node, (dict, list)):
        for one in node.values() if isinstance(node, dict) else node:
            yield from _tensors(one)


def _check_tensor(tensor: Any, names: set[str], where: str) -> None:
    is_one = isinstance(tensor, list) and [type(part) for part in tensor] == [str, int, int]
    if not is_one:
        _refuse(f"{where}: a tensor must be the name of a layer and two numbers, got {tensor!r}")
    if tensor[0] not in names:
        _refuse(f"{where} names {tensor[0]!r}, and the layers are {', '.join(sorted(names))}")


def _refuse(problem: str, node: Config | None = None, key: str = "") -> NoReturn:
    got = "" if node is None else f", got {key}={node[key]!r}" if key in node else f" ({key!r})"
    raise ValueError(f"source: {CONFIG}: {problem}{got[:200]}")
