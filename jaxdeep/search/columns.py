"""The hyperparameters of a sweep's rows as columns: their names, and their values as text."""

import functools
import numbers
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

RESERVED = ("seed", "fold")  # names in points that are no hyperparameters


def names_of(points: Iterable[Mapping[str, Any]]) -> list[str]:
    """The hyperparameters that any point has, in order of appearance.

    >>> names_of([{"rate": 0.1, "seed": 0}, {"rate": 0.1, "b1": 0.9, "seed": 0}])
    ['rate', 'b1']
    """
    return [name for name in dict.fromkeys(name for p in points for name in p) if name not in RESERVED]


def is_number(value: Any) -> bool:
    """Whether this is a real number; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def decades(values: Sequence[float]) -> bool:
    """Whether all values are positive and span more than a decade, so that logarithms show them best.

    >>> decades([0.1, 2.0]), decades([0.0, 2.0]), decades([0.5, 2.0])
    (True, False, False)
    """
    return bool(values) and min(values) > 0 and max(values) > 10 * min(values)


def identity(value: Any) -> Hashable:
    """Something hashable that is equal for equal values of the same type, NaN among them.

    >>> identity(1) == identity(1.0), identity(float("nan")) == identity(float("nan"))
    (False, True)
    """
    if isinstance(value, float):
        return float, float(value).hex()
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(identity, value))
    if isinstance(value, dict):
        return dict, tuple((identity(name), identity(item)) for name, item in value.items())
    try:
        hash(value)
    except TypeError:
        return id(value)
    return type(value), value


def words(values: Iterable[Any], *, digits: int | None = None) -> list[str]:
    """The values of a column as text: numbers with as few digits as tell them apart, functions by name.

    Different values that would read the same are numbered, unless numbers are to have so many `digits`.

    >>> words([0.001, 1 / 3, 1024, None, max, (100, max)])
    ['0.001', '0.333', '1024', 'None', 'max', '(100, max)']
    >>> words([0.9991, 0.9992]), words([lambda: 1, lambda: 2])
    (['0.9991', '0.9992'], ['<lambda>', '<lambda> (2)'])
    """
    values = list(values)
    if digits is None:
        floats = {float(value) for value in values if _is_float(value)}
        enough = (n for n in range(3, 17) if len({f"{v:.{n}g}" for v in floats}) == len(floats))
        digits = next(enough, 17)
    texts: dict[Hashable, str] = {}
    used: Counter[str] = Counter()
    for value in values:
        if (key := identity(value)) not in texts:
            text = _word(value, digits)
            used[text] += 1
            alone = used[text] == 1 or _is_float(value)
            texts[key] = text if alone else f"{text} ({used[text]})"
    return [texts[identity(value)] for value in values]


def _is_float(value: Any) -> bool:
    return is_number(value) and not isinstance(value, numbers.Integral)


def _word(value: Any, digits: int = 3) -> str:
    if is_number(value):
        return f"{float(value):.{digits}g}" if _is_float(value) else str(int(value))
    if isinstance(value, (list, tuple)):
        inside = ", ".join(_word(item, 6) for item in value)
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if isinstance(value, functools.partial):
        return f"partial of {_word(value.func)}"
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else " ".join(str(value).split())
