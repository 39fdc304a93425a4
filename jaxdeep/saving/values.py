"""Arguments of layers as JSON, and back."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdeep.nn.model import Model
from jaxdeep.preprocessing.layers import PARTS, Fitted
from jaxdeep.saving import registry
from jaxdeep.saving.sameness import short
from jaxdeep.tables.columns import Columns, from_config

Json: TypeAlias = Any  # what json.dumps writes and json.loads reads

_LARGEST = 4096  # an array with more elements is no argument to be written as JSON
_CELLS = "UOM"  # kinds of arrays that hold categories: texts, objects, dates
_MOST_BYTES = 2**28  # of such an array: the width of its texts is read from a file


class InnerError(ValueError):
    """A function that one of optax' made, which nobody can register."""

    def __init__(self, maker: str):
        self.maker = maker
        super().__init__(f"{maker} makes functions that have no names to be saved by")


def encode(value: object, most: float = _LARGEST) -> Json:
    """An argument as JSON: itself if JSON has its kind, else an object that names the kind.

    A tuple becomes a JSON array. An array of numbers has at most `most` elements. Raises ValueError,
    with words that go behind ``name=``.

    >>> encode((3, None, float("inf"))), encode(jax.nn.relu), encode(jax.nn.initializers.he_normal())
    ([3, None, {'float': 'inf'}], {'function': 'jax.nn.relu'}, {'made_by': {'function': ...
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, np.datetime64):
        return {"instant": str(value), "dtype": value.dtype.str[1:]}
    if isinstance(value, np.str_):
        return str(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in _CELLS:
        cells = [encode(cell, most) for cell in np.ravel(value)]
        return {"cells": cells, "shape": list(value.shape), "dtype": value.dtype.str}
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        return _encode_array(value, most)
    if isinstance(value, Fitted):
        return {"fitted": encode(value.state, math.inf)}
    if PARTS.get(type(value).__name__) is type(value):
        names = getattr(value, "_fields", None) or [f.name for f in dataclasses.fields(value)]  # type: ignore[arg-type]
        fields = {name: encode(getattr(value, name), most) for name in names}
        return {"part": type(value).__name__, "of": fields}
    if type(value) is tuple:
        return [encode(item, most) for item in value]
    if type(value) is list:
        return {"list": [encode(item, most) for item in value]}
    if isinstance(value, Mapping):
        if all(isinstance(name, str) for name in value):
            return {"dict": {name: encode(item, most) for name, item in value.items()}}
        if not all(type(name) in (str, int) for name in value):
            raise ValueError(f"{short(value)} has names that are not strings or whole numbers")
        return {"pairs": [[name, encode(item, most)] for name, item in value.items()]}
    if isinstance(value, np.dtype) or (isinstance(value, type) and hasattr(value, "dtype")):
        return {"dtype": jnp.dtype(value).name}
    if isinstance(value, Columns):
        return {"columns": value.to_config()}
    if (steps := registry.multi_steps(value)) is not None:
        return {"multi_steps": _keywords(steps)["keywords"], "is_pair": isinstance(value, tuple)}
    if callable(value) or (isinstance(value, tuple) and not isinstance(value, Model)):
        return _encode_function(value)
    if isinstance(value, Model):
        raise ValueError("a Model, which belongs among the layers of the model, not into its config")
    raise ValueError(
        f"{short(value)} cannot be saved; a config holds numbers, strings, tuples, lists, dicts, "
        "dtypes, small arrays and functions that have a name"
    )


def decode(node: Json) -> Any:
    """The argument that `encode` wrote: its inverse.

    >>> decode([3, None, {"float": "inf"}]), decode({"function": "jax.nn.relu"}) is jax.nn.relu
    ((3, None, inf), True)
    """
    if isinstance(node, list):
        return tuple(decode(item) for item in node)
    if not isinstance(node, dict):
        return node
    tag = next(iter(node), None)
    try:
        if tag in ("function", "registered"):
            return registry.named(node)
        return _DECODERS[tag](**node)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{short(node)} is not a value that jaxdeep writes") from error


def _encode_array(value: np.generic | np.ndarray | jax.Array, most: float) -> dict[str, Json]:
    if isinstance(value, jax.core.Tracer):
        raise ValueError("a traced value, which is known only inside the compiled function")
    dtype = value.dtype
    if jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype.kind not in "biufV":
        raise ValueError(f"an array of {dtype}, which cannot be part of a config")
    if value.size > most:
        raise ValueError(
            f"an array of {value.size} numbers, where a config may have {most}; make it a "
            "parameter or part of the state"
        )
    flat = [x if not isinstance(x, float) else encode(x) for x in np.asarray(value).ravel().tolist()]
    if isinstance(value, np.generic):
        return {"number": flat[0], "dtype": dtype.name}
    if getattr(value, "weak_type", False) and not value.shape:
        return {"weak": flat[0]}
    kind = "jax" if isinstance(value, jax.Array) else "numpy"
    return {kind: flat, "shape": list(value.shape), "dtype": dtype.name}


def _encode_function(function: Any) -> dict[str, Json]:
    name = registry.name_of(function)
    if name is not None:
        return {**name}
    if isinstance(function, functools.partial):
        positional = {"positional": encode(function.args)} if function.args else {}
        called = {"partial": _encode_function(function.func)}
        return called | positional | _keywords(function.keywords)
    made = registry.factory_of(function)
    if made is not None:
        factory, args, keywords = made
        also = {"positional": encode(tuple(args))} if args else {}
        return {"made_by": factory} | also | _keywords(keywords)
    if (maker := registry.maker_in_optax(function)) is not None:
        raise InnerError(maker)
    if isinstance(function, tuple):
        raise ValueError(
            f"{short(function)} was made by a function that has no name to be saved by; give it one, "
            "here and where the model is loaded: jd.saving.register('name', function)"
        )
    suggested = getattr(function, "__name__", "name")
    suggested = "name" if suggested in ("<lambda>", "init", "apply") else suggested
    raise ValueError(
        f"{short(function)} has no name to be saved by; give it one, here and where the model is "
        f"loaded: jd.saving.register({suggested!r}, function)"
    )


def _keywords(keywords: Mapping[str, object]) -> dict[str, Json]:
    return {"keywords": {name: encode(value) for name, value in keywords.items()}} if keywords else {}


def _partial(partial: Json, positional: Json = (), keywords: Json = None) -> registry.Function:
    return functools.partial(decode(partial), *decode(positional), **_decoded(keywords))


def _made_by(made_by: Json, positional: Json = (), keywords: Json = None) -> registry.Function:
    name = str(made_by.get("function", ""))
    if name and name.rpartition(".")[0] not in registry.FACTORIES:
        raise ValueError(f"{name} makes nothing that is saved")
    factory, arguments = registry.named(made_by), _decoded(keywords)
    args = decode(list(positional))
    try:
        return factory(*args, **arguments)
    except Exception as error:  # whatever a user's factory may raise
        shown = ", ".join([*map(short, args), *(f"{n}={short(v)}" for n, v in arguments.items())])
        raise ValueError(f"{short(factory)} does not take {shown}: {error}") from error


def _decoded(keywords: Json) -> dict[str, Any]:
    return {name: decode(value) for name, value in (keywords or {}).items()}


def _multi_steps(multi_steps: Json, is_pair: bool) -> Any:
    steps = optax.MultiSteps(**_decoded(multi_steps))
    return steps.gradient_transformation() if is_pair else steps


def _number(number: Json, dtype: str) -> np.generic:
    return _plain_dtype(dtype).type(decode(number))


def _array(dtype: str, shape: Json, **of: Json) -> np.ndarray | jax.Array:
    ((kind, flat),) = of.items()
    array = np.asarray([decode(x) for x in flat], _plain_dtype(dtype)).reshape(shape)
    if kind == "numpy":
        return array
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise ValueError(
            f"an array of {dtype}, which JAX rounds as long as x64 is off: "
            'jax.config.update("jax_enable_x64", True)'
        )
    return jnp.asarray(array)


def _plain_dtype(name: str) -> np.dtype:
    dtype = jnp.dtype(name)
    if dtype.kind not in "biufV":
        raise TypeError(name)
    return dtype


def _part(part: str, of: Json) -> Any:
    return PARTS[part](**_decoded(of))


def _instant(instant: str, dtype: str) -> np.datetime64:
    numpy_dtype = np.dtype(dtype)
    if numpy_dtype.kind != "M":
        raise TypeError(dtype)
    return np.asarray(instant, numpy_dtype)[()]  # type: ignore[return-value]


def _key(name: Json) -> str | int:
    if type(name) not in (str, int):
        raise TypeError(name)
    return name


def _float(float: str) -> float:
    if float not in ("inf", "-inf", "nan"):
        raise TypeError(float)
    return np.float64(float).item()


def _cells(cells: list[Json], shape: list[int], dtype: str) -> np.ndarray:
    width = np.dtype(dtype).itemsize
    if np.dtype(dtype).kind not in _CELLS or len(cells) * width > _MOST_BYTES:
        raise TypeError(dtype)
    array = np.empty(len(cells), object)
    for i, cell in enumerate(cells):
        array[i] = decode(cell)
    return array.astype(dtype).reshape(shape)


_DECODERS: dict[str | None, Callable[..., Any]] = {
    "float": _float,
    "list": lambda list: [decode(item) for item in list],
    "dict": lambda dict: {name: decode(item) for name, item in dict.items()},
    "pairs": lambda pairs: {_key(*pair[:-1]): decode(pair[1]) for pair in pairs},
    "dtype": jnp.dtype,
    "number": _number,
    "weak": lambda weak: jnp.asarray(decode(weak)),
    "jax": _array,
    "numpy": _array,
    "cells": _cells,
    "columns": lambda columns: from_config(columns),  # noqa: PLW0108  # called by this name
    "fitted": lambda fitted: Fitted(decode(fitted)),
    "part": _part,
    "instant": _instant,
    "partial": _partial,
    "made_by": _made_by,
    "multi_steps": _multi_steps,
}
