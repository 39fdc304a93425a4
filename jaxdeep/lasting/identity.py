"""What a row of a sweep is, in words that are the same in another process.

Keys of compiled programs (`jaxdeep._identity`) know objects by where they are in memory. A journal needs
what lasts: values, the names of functions, and checksums of what functions are made of. A function of a
library has the name under which it is shown, `jaxdeep.losses.mse`, in whatever module it is written; one
of the user's is its module and name.
"""

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import numpy as np
import optax

from jaxdeep._identity import of_class
from jaxdeep.lasting.made_of import array_digest, made_of
from jaxdeep.lasting.public_names import place_of, with_names
from jaxdeep.optimizers.identity import numbers_of

Json: TypeAlias = Any  # what `json.dumps` takes

METRIC = r"\bMetric\((?:[^()]|\([^()]*\))*\)"  # of what functions one is made is its own affair
_MOST = 16_000  # letters of a description that are kept beside its checksum


def words_of(name: str, value: object) -> Json:
    """A value of a point as JSON that is equal for equal values only, whatever the process.

    Args:
      name: the hyperparameter, for errors.
      value: a number, a text, None, an array, a function or class with a name, a dtype, a layer or an
        optimizer of jaxdeep, or containers of such.

    Raises:
      ValueError: something that has no name in another process, such as a lambda.

    >>> words_of("width", (8, 16.0)), words_of("activation", jax.nn.relu)
    (['tuple', 8, 16.0], {'name': 'jax.nn.relu'})
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if np.isfinite(value) else {"float": repr(value)}
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return {"array": array_digest(value)}
    if isinstance(value, optax.GradientTransformation):
        return {"optimizer": [text_of(value, name), numbers_of(value)]}
    if isinstance(value, (list, tuple)):
        fields = value._asdict() if hasattr(value, "_asdict") else None
        items = [words_of(name, item) for item in value]
        return [type(value).__name__, *items] if fields is None else {type(value).__name__: items}
    if isinstance(value, Mapping):
        return ["dict", *([words_of(name, k), words_of(name, v)] for k, v in value.items())]
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if isinstance(value, functools.partial):
        return {"partial": [words_of(name, part) for part in (value.func, value.args, value.keywords)]}
    if of_class(value, "_identity_") is not None:
        return {type(value).__qualname__: text_of(value, name)}
    if (place := place_of(value)) is not None:
        return {"name": place}
    raise ValueError(
        f"{name} must have values that a journal can name when the sweep has a checkpoint=: numbers, "
        f"words, arrays, or functions of a module by their name; got {value!r}"
    )


def digest_of(description: Json) -> str:
    """A short checksum of JSON.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def text_of(value: object, name: str = "value", *, strict: bool = True) -> str:
    """A text that tells what an option of a run is from what it would be after a change.

    It is the value's `repr` without addresses, what it is made of (`made_of`), of which only the
    beginning is shown, and a checksum of that. Of jaxdeep's optimizers the numbers do not count
    (`jaxdeep.optimizers.identity.numbers_of` has them).

    Args:
      value: any.
      name: the option, for errors.
      strict: as in `made_of`.

    Raises:
      ValueError: something in it that has no description in another process, such as an open file.

    >>> import jaxdeep as jd
    >>> text_of(0.5), text_of(jd.optimizers.sgd(0.1)) == text_of(jd.optimizers.sgd(0.2))
    ('0.5', True)
    """
    shown = "" if isinstance(value, tuple) and hasattr(value, "_fields") else f"{lasting_repr(value)} "
    parts = made_of(value, name, strict=strict)
    if parts == shown.strip():
        return parts
    return f"{with_names(shown)}{parts[:_MOST]} #{digest_of(parts)}"


def lasting_repr(value: object) -> str:
    """A repr without addresses and inner functions, so that it is the same in another process."""
    return re.sub(METRIC, "Metric", re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)))
