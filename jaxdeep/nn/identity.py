"""When two layers are the same: made by the same function with the same arguments."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_INITIALIZERS = (jax.nn.initializers.normal().__module__, "jaxdeep.nn.initializers")


class Same:
    """Something that is equal to nothing but itself, whatever its own ``==`` says."""

    def __init__(self, thing: Any):
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)

    def _identity_(self) -> Any:
        return (self.thing,)


def described(value: Any) -> Any:
    """A value as something that can be hashed, and is equal for equal values only.

    Numbers, strings, dtypes and arrays are compared by type and value, tuples, lists and dicts by what
    is in them, models by how they were made, and initialisers that `jax.nn.initializers` makes by their
    factory and its arguments. Every other function is only equal to itself.

    >>> described([1, 2.0]) == described([1, 2.0]), described(1) == described(1.0)
    (True, False)
    >>> described(jax.nn.initializers.normal(0.1)) == described(jax.nn.initializers.normal(0.1))
    True
    >>> described(lambda x: x) == described(lambda x: x)
    False
    """
    if value is None or type(value) in (bool, int, str, bytes):
        return type(value).__name__, value
    if type(value) in (float, complex):
        return type(value).__name__, repr(value)  # −0.0 is not 0.0, and NaN is NaN
    if isinstance(value, np.dtype) or (isinstance(value, type) and hasattr(value, "dtype")):
        return "dtype", jnp.dtype(value).name
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        return _array(value)
    if type(value) in (tuple, list):
        return type(value).__name__, *map(described, value)
    if type(value) is dict:
        return "dict", *((described(name), described(own)) for name, own in value.items())
    if type(value) is functools.partial:
        return "partial", described(value.func), described(value.args), described(value.keywords)
    identity = getattr(value, "_identity_", None)
    if identity is not None and not isinstance(value, type):
        own = identity()
        return Same(value) if own is None else own
    if getattr(value, "__module__", "") in _INITIALIZERS and getattr(value, "__closure__", None):
        return "made by", value.__module__, value.__qualname__, described(remembered(value))
    return Same(value)


def _array(value: Any) -> Any:
    if isinstance(value, jax.core.Tracer) or value.dtype.kind not in "biufcV":
        return Same(value)
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):  # random keys
        return Same(value)
    weak = getattr(value, "weak_type", False)
    return type(value).__name__, value.dtype.name, weak, value.shape, np.asarray(value).tobytes()


def remembered(function: Any) -> Mapping[str, Any]:
    """The variables that a function closes over, by name."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    return found
