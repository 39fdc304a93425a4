"""Operations of `keras.ops` on tensors of a functional model, as layers of jaxdeep."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import nn
from jaxdeep.adapters.keras_models.functions import ACTIVATIONS, NotKnownError
from jaxdeep.adapters.keras_models.layers import Made, holds_rows, plain
from jaxdeep.nn.model import Model
from jaxdeep.nn.traits import Activation

_OF_TENSORS = {
    "Add": "add",
    "Subtract": "subtract",
    "Multiply": "multiply",
    "Maximum": "maximum",
    "Minimum": "minimum",
}
OF_ELEMENTS: Mapping[str, Callable[..., Any]] = {
    "Absolute": jnp.abs,
    "Square": jnp.square,
    "Sqrt": jnp.sqrt,
    "Exp": jnp.exp,
}
OVER_AXES: Mapping[str, Callable[..., Any]] = {
    "Mean": jnp.mean,
    "Sum": jnp.sum,
    "Max": jnp.max,
    "Min": jnp.min,
}
_ALIASES = {"Amax": "Max", "Amin": "Min"}  # without an `initial`, which is then None
# Those of `keras.ops.nn` that are functions of the array alone, by the names that they have there.
_PLAIN = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "LogSigmoid": "log_sigmoid",
    "HardSigmoid": "hard_sigmoid",
    "Tanh": "tanh",
    "HardTanh": "hard_tanh",
    "Silu": "silu",
    "HardSilu": "hard_silu",
    "Selu": "selu",
    "Softplus": "softplus",
    "Softsign": "softsign",
}
# Those with an argument: its name, its default there, and the function with another one.
OF_ARGUMENT: Mapping[str, tuple[str, Any, Activation]] = {
    "Gelu": ("approximate", True, jax.nn.gelu),
    "Softmax": ("axis", -1, jax.nn.softmax),
    "LogSoftmax": ("axis", -1, jax.nn.log_softmax),
    "LeakyRelu": ("negative_slope", 0.2, jax.nn.leaky_relu),
    "Elu": ("alpha", 1.0, jax.nn.elu),
    "Celu": ("alpha", 1.0, jax.nn.celu),
}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    **{name: {"axis": None, "keepdims": False, "initial": None} for name in (*OVER_AXES, *_ALIASES)},
    **{name: {argument: default} for name, (argument, default, _) in OF_ARGUMENT.items()},
    "Concatenate": {"axis": 0},
}


def operation_of(
    class_name: str, arguments: Sequence[Any], settings: Mapping[str, Any], axes: int | None = None
) -> Made:
    """The layer of an operation of `keras.ops`.

    Args:
      class_name: of the operation.
      arguments: those that it is called with, of which tensors, and lists of them, are None.
      settings: its further ones, by name.
      axes: the number of axes of its first tensor, if it is known.

    Raises:
      ValueError: one that jaxdeep does not have.

    >>> operation_of("Multiply", [None, 2.0], {}).model, operation_of("Add", [None, None], {}).model
    (rescale(scale=2.0, offset=0.0), merge())
    """
    defaults = _DEFAULTS.get(class_name, {})
    chosen = {
        name: value
        for name, value in settings.items()
        if name not in defaults or not _is_equal(value, defaults[name])
    }
    mixes = "axis" in defaults and holds_rows({**defaults, **settings}["axis"], axes)
    model = None if mixes else _model(class_name, list(arguments), {**defaults, **chosen})
    if model is None:
        shown = ["…" if argument is None else repr(argument) for argument in arguments]
        shown += [f"{name}={value!r}" for name, value in chosen.items()]
        call = f"keras.ops.{class_name}({', '.join(shown)})"
        if class_name == "GetItem":
            call = f"slicing, x[{_shown(arguments[-1])}]"
        along = ", over the rows of a batch" if mixes else ""
        raise NotKnownError(f"is the operation {call}{along}, which jaxdeep does not have")
    return Made(model)


def _is_equal(value: Any, default: Any) -> bool:
    """Whether two arguments mean the same: 0 is not False."""
    return isinstance(value, bool) == isinstance(default, bool) and value == default


def _model(class_name: str, arguments: list[Any], settings: dict[str, Any]) -> Model | None:
    """The layer, or None if there is none."""
    class_name = _ALIASES.get(class_name, class_name)
    if class_name in OVER_AXES and arguments == [None]:
        is_known = settings.keys() == _DEFAULTS[class_name].keys() and settings["initial"] is None
        return _over_axes(class_name, settings["axis"], settings["keepdims"]) if is_known else None
    if class_name in OF_ARGUMENT and arguments == [None] and len(settings) == 1:
        function = _with_argument(class_name, *settings.values())
        return None if function is None else nn.activation(function)
    if class_name == "Concatenate" and arguments == [None] and list(settings) == ["axis"]:
        return nn.merge("concatenate", axis=settings["axis"])
    if settings:
        return None
    if class_name == "GetItem" and len(arguments) == 2 and arguments[0] is None:
        return _sliced(arguments[1])
    if class_name in _OF_TENSORS and arguments == [None, None]:
        return nn.merge(_OF_TENSORS[class_name])
    if class_name in OF_ELEMENTS and arguments == [None]:
        return nn.activation(OF_ELEMENTS[class_name])
    if class_name in _PLAIN and arguments == [None]:
        function = ACTIVATIONS[_PLAIN[class_name]]
        return None if function is None else nn.activation(function)
    if class_name == "Negative" and arguments == [None]:
        return nn.rescale(-1.0)
    match arguments:
        case [None, int() | float() as number]:
            return _with_number(class_name, number, is_first=False)
        case [int() | float() as number, None]:
            return _with_number(class_name, number, is_first=True)
    return None


def _with_number(class_name: str, number: float, *, is_first: bool) -> Model | None:
    """The layer of an operation on a tensor and a number, in one order or the other."""
    if class_name == "Multiply":
        return nn.rescale(number)
    if class_name == "Add":
        return nn.rescale(1.0, number)
    if class_name == "Subtract":
        return nn.rescale(-1.0, number) if is_first else nn.rescale(1.0, -number)
    if class_name in ("Divide", "TrueDivide") and number and not is_first:
        return nn.rescale(1 / number)
    return None


def _with_argument(class_name: str, value: Any) -> Activation | None:
    """The function of an operation with an argument, or None if the argument is of another kind."""
    argument, default, function = OF_ARGUMENT[class_name]
    if argument == "axis":
        fits = _is_axis(value)
    else:
        fits = isinstance(value, bool) == isinstance(default, bool) and isinstance(value, int | float)
    if not fits:
        return None
    if class_name == "LeakyRelu" or value != default:  # another slope is JAX' default
        return functools.partial(function, **{argument: plain(value)})
    return function


def _over_axes(class_name: str, axis: Any, keepdims: Any) -> Model | None:
    if not _is_axis(axis) or not isinstance(keepdims, bool):
        return None
    return nn.lambda_(functools.partial(OVER_AXES[class_name], axis=plain(axis), keepdims=keepdims))


def _is_axis(axis: Any) -> bool:
    several = axis if isinstance(axis, list) else [axis]
    return bool(several) and all(type(number) is int for number in several)


def _sliced(key: Any) -> Model | None:
    """The layer of ``x[key]``, which takes all rows."""
    rows, *parts = key if isinstance(key, list) and key else [key]
    if _ends(rows) not in ([None, None, None], [None, None, 1], [0, None, None], [0, None, 1]):
        return None
    places: list[int | list[int | None]] = []
    for part in parts:
        place = part if type(part) is int else _ends(part)
        if place is None or (isinstance(place, list) and place[2] is not None and place[2] < 1):
            return None
        places.append(place)
    return nn.get_item(*places)


def _ends(part: Any) -> list[int | None] | None:
    """Start, stop and step of a slice in a description; None for all else."""
    if not isinstance(part, dict) or part.get("class_name") != "__slice__":
        return None
    ends = [part["config"].get(name) for name in ("start", "stop", "step")]
    return ends if all(end is None or type(end) is int for end in ends) else None


def _shown(key: Any) -> str:
    """The key of ``x[key]`` as it is written in Python."""
    if isinstance(key, list):
        return ", ".join(map(_shown, key))
    if (ends := _ends(key)) is not None:
        start, stop, step = ("" if end is None else str(end) for end in ends)
        return f"{start}:{stop}" + (f":{step}" if step else "")
    is_rest = isinstance(key, dict) and key.get("class_name") == "__ellipsis__"
    return "..." if is_rest else repr(key)
