"""Whether two models, functions or values do the same, as far as can be told without running them."""

import dataclasses
import functools
import types
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep.nn.model import Model

_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.dtype, np.generic)


def difference(a: object, b: object) -> str | None:
    """The first difference between two values, in words; None if there is none to be seen.

    Functions are the same if they have the same name and remember the same values; models, if they were
    made by the same function of jaxdeep with the same config, or else by functions that are the same.
    What cannot be compared counts as the same.

    >>> def scale(factor):
    ...     return lambda x: factor * x
    >>> difference(scale(2), scale(2)) is None, difference(scale(2), scale(3))
    (True, 'factor is 2 and 3')
    """
    return _difference(a, b, "one", {})


def _difference(a: object, b: object, where: str, seen: dict[tuple[int, int], Any]) -> str | None:
    if a is b or (id(a), id(b)) in seen or (isinstance(a, Model) and a == b):
        return None
    seen[id(a), id(b)] = a, b  # kept alive, so that an id stays what it is
    parts, others = _parts(a), _parts(b)
    if parts is None or others is None:
        return None if _alike(a, b) else f"{where} is {short(a)} and {short(b)}"
    # where the first parts are equal there are the same further ones, so that zip() leaves none out
    differences = (
        _difference(part, other, name or where, seen) for (name, part), (_, other) in zip(parts, others)
    )
    return next((text for text in differences if text is not None), None)


def _parts(value: object) -> list[tuple[str, Any]] | None:
    """What a value consists of, with names; None for what is compared as a whole."""
    match value:
        case Model():
            names = tuple(value.layers)  # the layers themselves are compared alone
            attributes = {
                name: getattr(value, name) for name in ("init", "apply", "stochastic", "loops")
            }
            return [("the kind", value.kind), ("layers", names), *attributes.items()]
        case types.FunctionType():
            variables = remembered(value)
            return [
                ("", f"{value.__module__}.{value.__qualname__}"),
                ("remembered", tuple(variables)),
                ("defaults", value.__defaults__),
                ("defaults", value.__kwdefaults__),
                *variables.items(),
            ]
        case functools.partial():
            return [("", value.func), ("arguments", value.args), ("", value.keywords)]
        case types.MethodType():
            return [("", value.__func__), ("", value.__self__)]
        case Mapping():
            return [("names", tuple(value)), *((str(name), item) for name, item in value.items())]
        case np.ndarray() if value.dtype == object:  # its bytes are addresses
            return [("shape", value.shape), *(("", item) for item in value.ravel().tolist())]
        case tuple() | list():
            return [("length", len(value)), *(("", item) for item in value)]
    if hasattr(value, "__wrapped__"):  # functions under jax.jit and jax.custom_jvp
        return [("", value.__wrapped__)]
    return None


def remembered(function: types.FunctionType) -> dict[str, Any]:
    """The variables that a function closes over, by name."""
    variables = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            variables[name] = cell.cell_contents
        except ValueError:  # the variable has no value yet
            continue
    return variables


def _alike(a: object, b: object) -> bool:
    a, b = _dtype(a), _dtype(b)
    if isinstance(a, _PLAIN) or isinstance(b, _PLAIN):
        return type(a) is type(b) and (a == b or repr(a) == repr(b))  # NaN is NaN here
    if isinstance(a, (np.ndarray, jax.Array)) and isinstance(b, (np.ndarray, jax.Array)):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.extended) or isinstance(a, jax.core.Tracer):
            return True  # random keys are not compared
        same_form = a.dtype == b.dtype and a.shape == b.shape
        return same_form and np.asarray(a).tobytes() == np.asarray(b).tobytes()
    if type(a) is not type(b):
        return False
    if not dataclasses.is_dataclass(a):
        return True
    try:
        return bool(a == b)
    except Exception:  # whatever a user's equality may raise
        return True


def _dtype(value: object) -> object:
    """jnp.float32 as the dtype that it stands for."""
    return jnp.dtype(value) if isinstance(value, type) and hasattr(value, "dtype") else value


def short(value: object) -> str:
    """A value on one line, cut off where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "…"
