"""Operations of `keras.ops` on tensors of a functional model, as layers of jaxdeep."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import nn
from jaxdeep.adapters.keras_models.functions import NotKnownError, activation_of
from jaxdeep.adapters.keras_models.layers import Made
from jaxdeep.nn.model import Model

_OF_TENSORS = {
    "Add": "add",
    "Subtract": "subtract",
    "Multiply": "multiply",
    "Maximum": "maximum",
    "Minimum": "minimum",
}
_OF_ELEMENTS: Mapping[str, Callable[..., Any]] = {
    "Absolute": jnp.abs,
    "Square": jnp.square,
    "Sqrt": jnp.sqrt,
    "Exp": jnp.exp,
}
_OVER_AXES: Mapping[str, Callable[..., Any]] = {
    "Mean": jnp.mean,
    "Sum": jnp.sum,
    "Max": jnp.max,
    "Min": jnp.min,
}
# Those of `keras.ops.nn` are functions.
_FUNCTIONS = ("Relu", "Relu6", "Sigmoid", "Tanh", "Silu", "Softplus", "Selu", "Softsign", "LogSigmoid")


def operation_of(class_name: str, arguments: Sequence[Any], settings: Mapping[str, Any]) -> Made:
    """The layer of an operation of `keras.ops`.

    Args:
      class_name: of the operation.
      arguments: those that it is called with, of which tensors, and lists of them, are None.
      settings: its further ones, by name.

    Raises:
      ValueError: one that jaxdeep does not have.

    >>> operation_of("Multiply", [None, 2.0], {}).model, operation_of("Add", [None, None], {}).model
    (rescale(scale=2.0, offset=0.0), merge())
    """
    chosen = {name: value for name, value in settings.items() if value}  # the rest are defaults
    model = _model(class_name, list(arguments), dict(chosen))
    if model is None:
        shown = ["…" if one is None else repr(one) for one in arguments]
        shown += [f"{name}={value!r}" for name, value in chosen.items()]
        call = f"keras.ops.{class_name}({', '.join(shown)})"
        if class_name == "GetItem":
            call = f"slicing, x[{_shown(arguments[-1])}]"
        raise NotKnownError(f"is the operation {call}, which jaxdeep does not have")
    return Made(model)


def _model(class_name: str, arguments: list[Any], settings: dict[str, Any]) -> Model | None:
    """The layer, or None if there is none."""
    axis = settings.pop("axis", 0)
    if class_name in _OVER_AXES and arguments == [None] and axis and not _holds_rows(axis):
        return _over_axes(class_name, axis, **settings) if set(settings) <= {"keepdims"} else None
    if settings or (axis and class_name != "Concatenate"):
        return None
    if class_name == "Concatenate" and arguments == [None]:
        return nn.merge("concatenate", axis=axis)
    if class_name == "GetItem" and len(arguments) == 2 and arguments[0] is None:
        return _sliced(arguments[1])
    if class_name in _OF_TENSORS and arguments == [None, None]:
        return nn.merge(_OF_TENSORS[class_name])
    if class_name in _OF_ELEMENTS and arguments == [None]:
        return nn.activation(_OF_ELEMENTS[class_name])
    if class_name in _FUNCTIONS and arguments == [None]:
        snake = "log_sigmoid" if class_name == "LogSigmoid" else class_name.lower()
        function = activation_of(snake)
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


def _over_axes(class_name: str, axis: Any, keepdims: bool = False) -> Model:
    options = {"axis": tuple(axis) if isinstance(axis, list) else axis, "keepdims": keepdims}
    return nn.lambda_(functools.partial(_OVER_AXES[class_name], **options))


def _holds_rows(axis: Any) -> bool:
    """Whether the first axis, that of the rows of a batch, is among these."""
    return 0 in (axis if isinstance(axis, list) else [axis])


def _sliced(key: Any) -> Model | None:
    """The layer of ``x[key]``, which takes all rows; a position goes with its axis."""
    rows, *parts = key if isinstance(key, list) and key else [key]
    if _ends(rows) != [None, None, None]:
        return None
    layers = []
    for axis, part in reversed([*enumerate(parts, 1)]):  # the last first, so that the others stay
        ends = _ends(part)
        if type(part) is int:
            options = {"index": part, "axis": axis, "keepdims": False}
            layers.append(nn.lambda_(functools.partial(jax.lax.index_in_dim, **options)))
        elif ends is None or not (ends[2] is None or ends[2] > 0):
            return None
        elif ends != [None, None, None]:
            options = {
                "start_index": ends[0],
                "limit_index": ends[1],
                "stride": ends[2] or 1,
                "axis": axis,
            }
            layers.append(nn.lambda_(functools.partial(jax.lax.slice_in_dim, **options)))
    return layers[0] if len(layers) == 1 else nn.serial(*layers)


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
