"""Values of hyperparameters: as Python's own, and when two are the same."""

from collections.abc import Hashable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks

# Names in points that are no hyperparameters: which run of a point it is, and on how much data.
RESERVED = ("seed", "fold", "n_train", "n_validate")


def listed(name: str, values: Iterable[Any]) -> list[Any]:
    """The values of a list, a tuple or an array of one axis.

    >>> listed("a", np.array([1, 2])), listed("a", ("x", None))
    ([1, 2], ['x', None])
    """
    _checks.check_sequence(name, values)
    if isinstance(values, jax.Array) and not jnp.issubdtype(values.dtype, jax.dtypes.prng_key):
        values = np.asarray(values)  # whose elements are known inside a trace, too
    return [plain(value) for value in values]


def plain(value: Any) -> Any:
    """The value; a scalar array as a Python number."""
    number = isinstance(value, (np.generic, np.ndarray, jax.Array)) and value.shape == ()
    return value.item() if number and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else value


def is_number(value: object) -> bool:
    """Whether this is a Python number; True and False are none.

    >>> is_number(1), is_number(0.5), is_number(True), is_number("1")
    (True, True, False, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def word(value: object) -> Hashable:
    """Something hashable that is equal for equal values of the same type.

    >>> word([1, 2]) == word([1, 2]), word(1) == word(1.0), word(1) == word(True)
    (True, False, False)
    """
    if isinstance(value, (list, tuple)):
        return type(value), tuple(word(item) for item in value)
    if isinstance(value, dict):
        return dict, tuple((word(name), word(item)) for name, item in value.items())
    try:
        hash(value)
    except TypeError:
        return id(value)
    return type(value), value


def words(values: Iterable[tuple[str, Any]]) -> Hashable:
    """Something hashable that is equal for equal values by name, in any order of the names.

    >>> words({"a": 1, "b": [2]}.items()) == words({"b": [2], "a": 1}.items())
    True
    """
    return frozenset((name, word(value)) for name, value in values)
