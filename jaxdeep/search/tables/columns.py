"""The hyperparameters of a sweep's rows as columns: their names, and their values as text."""

import contextlib
import functools
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep.lasting.identity import text_of, words_of
from jaxdeep.search.spaces.distributions import Int, LogInt, LogUniform, OneMinus, Uniform
from jaxdeep.search.spaces.values import RESERVED, is_number, word


def names_of(points: Iterable[Mapping[str, Any]]) -> list[str]:
    """The hyperparameters that any point has, in order of appearance.

    >>> names_of([{"rate": 0.1, "seed": 0}, {"rate": 0.1, "b1": 0.9, "seed": 0}])
    ['rate', 'b1']
    """
    return [name for name in dict.fromkeys(name for p in points for name in p) if name not in RESERVED]


def decades(values: Sequence[float]) -> bool:
    """Whether all values are positive and span more than a decade, so that logarithms show them best.

    >>> decades([0.1, 2.0]), decades([0.0, 2.0]), decades([0.5, 2.0])
    (True, False, False)
    """
    return bool(values) and min(values) > 0 and max(values) > 10 * min(values)


def logarithmic(name: str, values: Sequence[float], spaces: Iterable[Mapping[str, Any]] | None) -> bool:
    """Whether to draw a hyperparameter on a logarithmic axis.

    A range in the space decides. Without one, values that span decades are drawn by their logarithms.

    >>> from jaxdeep.search.spaces.distributions import log_uniform, uniform
    >>> logarithmic("a", [1.0, 2.0], [{"a": log_uniform(1, 4)}]), logarithmic("a", [1.0, 99.0], None)
    (True, True)
    >>> logarithmic("a", [1.0, 99.0], [{"a": uniform(0, 100)}])
    False
    """
    kinds = {type(space[name]) for space in spaces or () if name in space}
    # All ranges are of one kind, and none is a list of values.
    known = kinds <= _LOGARITHMIC or kinds <= _LINEAR
    if not kinds or not known or min(values, default=0) <= 0:
        return decades(values)
    return kinds <= _LOGARITHMIC


_LOGARITHMIC = frozenset({LogUniform, LogInt})
_LINEAR = frozenset({Uniform, Int, OneMinus})


def scalable(values: Sequence[Any]) -> bool:
    """Whether all values are numbers that an axis can hold.

    >>> scalable([1, 2.5]), scalable([1, None]), scalable([1.0, math.inf])
    (True, False, False)
    """
    return all(is_number(value) and abs(value) < 1e300 for value in values)


def in_words(values: Iterable[Any], *, digits: int | None = None) -> list[str]:
    """The values of a column as text: numbers with as few digits as tell them apart, functions by name.

    Different values that would read the same are numbered, unless numbers are to have so many `digits`.

    >>> in_words([0.001, 1 / 3, 1024, None, max, (100, max)])
    ['0.001', '0.333', '1024', 'None', 'max', '(100, max)']
    >>> in_words([0.9991, 0.9992]), in_words([lambda: 1, lambda: 2])
    (['0.9991', '0.9992'], ['<lambda>', '<lambda> (2)'])
    """
    values = list(values)
    if digits is None:
        floats = {v for v in values if isinstance(v, float) and not math.isnan(v)}
        enough = (n for n in range(3, 17) if len({f"{v:.{n}g}" for v in floats}) == len(floats))
        digits = next(enough, 17)
    texts: dict[Hashable, str] = {}
    used: Counter[str] = Counter()
    for value in values:
        if (key := word(value)) not in texts:
            text = _text(value, digits)
            used[text] += 1
            alone = used[text] == 1 or isinstance(value, float)
            texts[key] = text if alone else f"{text} ({used[text]})"
    return [texts[word(value)] for value in values]


def _text(value: Any, digits: int = 3) -> str:
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(_text(item, 6) for item in value)
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if isinstance(value, functools.partial):
        return f"partial of {_text(value.func)}"
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else " ".join(str(value).split())


_LONGEST = 80  # characters of a name


class RowNames:
    """Names for the rows of a sweep, each of its own; it is a class because it knows those it has given.

    Rows whose values no checksum tells apart, such as copies of a lambda, are numbered.

    >>> name = RowNames()
    >>> name({"rate": 0.1, "seed": 0}), name({"rate": 0.1, "seed": 1}), name({"rate": 0.1, "seed": 1})
    ('rate=0.1,seed=0', 'rate=0.1,seed=1', 'rate=0.1,seed=1-2')
    """

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()

    def __call__(self, point: Mapping[str, Any]) -> str:
        """The name of the next row."""
        name = name_of(point)
        self._used[name] += 1
        return name if self._used[name] == 1 else f"{name}-{self._used[name]}"


def name_of(point: Mapping[str, Any]) -> str:
    """A name for a point that a folder may have, the same in every call; a long one is cut.

    Where another point may read the same, a checksum of what the values are ends it. Names of numbers
    and words, which read like nothing else, are these alone.

    >>> name_of({"rate": 0.1, "seed": 0})
    'rate=0.1,seed=0'
    >>> name_of({"rate": "0.1", "seed": 0}) == name_of({"rate": 0.1, "seed": 0})
    False
    """
    whole = ",".join(f"{name}={_shown(value)}" for name, value in point.items())
    exact = ",".join(f"{_exact(name, name)}={_exact(name, value)}" for name, value in point.items())
    name = re.sub(r"[^\w.,=+-]", "_", whole)
    if name == exact and len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def _shown(value: Any) -> str:
    """A value in words that are the same in another process."""
    value = _plain(value)
    if isinstance(value, (float, np.generic)):
        return str(value)  # a number of NumPy says no more digits than it has
    return re.sub(" at 0x[0-9a-fA-F]+", "", in_words([value])[0])


def _exact(name: str, value: Any) -> str:
    """A text that only this value has; that of a number, or of a word that is none, is what it shows."""
    value = _plain(value)
    if isinstance(value, str):
        like = value in ("None", "True", "False") or _is_numeral(value)
        if value == _shown(value) and not like and not re.search('[,="[{]', value):
            return value
    elif value is None or isinstance(value, (bool, int, float, np.number, np.bool_)):
        return _shown(value)
    try:
        return json.dumps(words_of(name, value))
    except ValueError:  # it has no name in another process, and what it is made of must do
        with contextlib.suppress(ValueError):
            return json.dumps([text_of(value, name, strict=False)])
        return json.dumps([_shown(value)])


def _plain(value: Any) -> Any:
    """The value; an array of one number as a number of NumPy."""
    is_array = isinstance(value, (np.ndarray, jax.Array)) and value.shape == ()
    number = is_array and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    return np.asarray(value)[()] if number else value


def _is_numeral(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
