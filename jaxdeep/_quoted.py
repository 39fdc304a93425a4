"""Names and values of others in messages for people: cut where they are long."""

import itertools
from collections.abc import Iterable

WIDTH = 60
_MOST = 30  # of a list


def cut(text: str, width: int = WIDTH) -> str:
    """A text of at most so many characters.

    >>> cut("a" * 9, 5), cut("a", 5)
    ('aaaa…', 'a')
    """
    return text if len(text) <= width else text[: width - 1] + "…"


def quoted(value: object, width: int = WIDTH) -> str:
    """The `repr` of a value; of a long text that of its begin, so that quotes are closed.

    >>> quoted("a" * 9, 5), quoted(3), quoted(10**5000)
    ("'aaaa…'", '3', 'a number of more than 4,300 digits')
    """
    if isinstance(value, str):
        return repr(cut(str(value), width))
    try:
        return cut(repr(value), width)
    except ValueError:  # Python writes down no more by itself
        return "a number of more than 4,300 digits" if isinstance(value, int) else type(value).__name__


def listed(values: Iterable[object], most: int = _MOST) -> str:
    """The first of some values, each as of `quoted`.

    >>> listed(["a", "b", "c"], 2), listed(["a"])
    ("'a', 'b', …", "'a'")
    """
    first = list(itertools.islice(values, most + 1))
    return ", ".join([*map(quoted, first[:most]), *["…"] * (len(first) > most)])
