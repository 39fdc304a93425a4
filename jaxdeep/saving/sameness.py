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


def difference(a: Any, b: Any, where: str = "") -> str | None:
    """The first difference between two values, in words; None if there is none to be seen.

    Functions are the same if they have the same name and remember the same values; models, if they were
    made by the same function of jaxdeep with the same config, or else by functions that are the same.
    What cannot be compared counts as the same.

    >>> def scale(factor):
    ...     return lambda x: factor * x
    >>> difference(scale(2), scale(2)) is None, difference(scale(2), scale(3))
    (True, 'factor is 2 and 3')
    """
    return _difference(a, b, where, {})


def _difference(a: Any, b: Any, where: str, seen: dict[tuple[int, int], Any]) -> str | None:
    if a is b or (id(a), id(b)) in seen:
        return None
    seen[id(a), id(b)] = a, b  # kept alive, so that an id stays what it is
    a, b = _dtype(a), _dtype(b)
    if isinstance(a, _PLAIN) or isinstance(b, _PLAIN):
        same = type(a) is type(b) and (a == b or repr(a) == repr(b))  # NaN is NaN here
        return None if same else f"{where or 'one'} is {a!r} and {b!r}"
    pairs: list[tuple[str, Any, Any]] | None = None
    if isinstance(a, Model) and isinstance(b, Model):
        pairs = _of_models(a, b)
    elif isinstance(a, types.FunctionType) and isinstance(b, types.FunctionType):
        pairs = _of_functions(a, b)
    elif isinstance(a, functools.partial) and isinstance(b, functools.partial):
        pairs = [("", a.func, b.func), ("arguments", a.args, b.args), ("", a.keywords, b.keywords)]
    elif isinstance(a, Mapping) and isinstance(b, Mapping):
        pairs = [("names", tuple(a), tuple(b)), *((str(n), a[n], b[n]) for n in a if n in b)]
    elif isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        pairs = [("length", len(a), len(b)), *(("", x, y) for x, y in zip(a, b))]
    elif isinstance(a, types.MethodType) and isinstance(b, types.MethodType):
        pairs = [("", a.__func__, b.__func__), ("", a.__self__, b.__self__)]
    elif hasattr(a, "__wrapped__") and hasattr(b, "__wrapped__"):  # of jax.jit and jax.custom_jvp
        pairs = [("", a.__wrapped__, b.__wrapped__)]
    if pairs is None:
        return None if _alike(a, b) else f"{where or 'one'} is {_short(a)} and {_short(b)}"
    found = (_difference(x, y, name or where, seen) for name, x, y in pairs)
    return next((text for text in found if text is not None), None)


def _of_models(a: Model, b: Model) -> list[tuple[str, Any, Any]]:
    if a == b:
        return []
    return [
        ("the kind", a.kind, b.kind),
        ("layers", tuple(a.layers), tuple(b.layers)),
        ("init", a.init, b.init),
        ("apply", a.apply, b.apply),
        ("stochastic", a.stochastic, b.stochastic),
        ("loops", a.loops, b.loops),
    ]


def _of_functions(a: Any, b: Any) -> list[tuple[str, Any, Any]]:
    if (a.__module__, a.__qualname__) != (b.__module__, b.__qualname__):
        return [("", _origin(a), _origin(b))]
    own, others = remembered(a), remembered(b)
    return [
        ("remembered", tuple(own), tuple(others)),
        ("defaults", a.__defaults__, b.__defaults__),
        ("defaults", a.__kwdefaults__, b.__kwdefaults__),
        *((name, own[name], others[name]) for name in own if name in others),
    ]


def remembered(function: Any) -> Mapping[str, Any]:
    """The variables that a function closes over, by name."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    return found


def _origin(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _dtype(value: Any) -> Any:
    """jnp.float32 as the dtype that it stands for."""
    return jnp.dtype(value) if isinstance(value, type) and hasattr(value, "dtype") else value


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, (np.ndarray, jax.Array)) and isinstance(b, (np.ndarray, jax.Array)):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.extended) or isinstance(a, jax.core.Tracer):
            return True  # random keys
        alike = a.dtype == b.dtype and a.shape == b.shape
        return alike and np.asarray(a).tobytes() == np.asarray(b).tobytes()
    if isinstance(a, types.FunctionType) or isinstance(b, types.FunctionType):
        return False
    if type(a) is not type(b):
        return False
    if not dataclasses.is_dataclass(a):
        return True
    try:
        return bool(a == b)
    except Exception:  # whatever a user's equality may raise
        return True


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "…"
