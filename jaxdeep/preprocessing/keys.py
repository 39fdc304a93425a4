"""The key of a category: the same one for the same value, whatever container or dtype it comes in."""

import datetime
import decimal
import math
from collections.abc import Hashable
from typing import Any

import numpy as np

# A missing value has no name of its own in any of the containers: None, NaN, NaT, pandas' NA.
MISSING = None


def is_missing(value: object) -> bool:
    """Whether this is no value: None, NaN, NaT or pandas' NA.

    >>> [is_missing(value) for value in (None, float("nan"), np.timedelta64("NaT", "s"), "", "nan", 0)]
    [True, True, True, False, False, False]
    """
    if value is None:
        return True
    if isinstance(value, (np.datetime64, np.timedelta64)):  # NumPy counts the latter among whole numbers
        return bool(np.isnat(value))
    if isinstance(value, (str, bytes, bool, int, np.integer, np.bool_)):
        return False
    if isinstance(value, decimal.Decimal):
        return value.is_nan()
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    return type(value).__name__ in ("NAType", "NaTType")


def key_of(value: Any) -> Hashable:
    """The text by which a category is known again, None for what is missing.

    - Text is itself, and bytes are the text that they encode.
    - A number is its digits: 3, 3.0 and np.int8(3) are ``"3"``, as is the text "3", which a file has in
      place of the number; but the text "3.0" is itself. Whole numbers keep all their digits. One that
      float32 made of a decimal is that decimal: np.float32(0.1) is ``"0.1"``.
    - True and False are ``"True"`` and ``"False"``, and not 1 and 0.
    - A date is written as ISO 8601 has it, without what is zero at its end, whatever its unit; one with
      a time zone in UTC, with a Z.
    - Anything else that is hashable is itself.

    Raises:
      TypeError: a value that is not hashable.

    >>> [key_of(value) for value in (3, 3.0, "3", True, 0.5, float("nan"), None, b"a")]
    ['3', '3', '3', 'True', '0.5', None, None, 'a']
    >>> key_of(np.datetime64("2020-01-02T00:00", "ns")), key_of(2**53 + 1)
    ('2020-01-02', '9007199254740993')
    """
    if isinstance(value, str):
        return str(value)
    if is_missing(value):
        return MISSING
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, np.timedelta64):
        return f"{value.astype('timedelta64[ns]').astype(int)} ns"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating, decimal.Decimal)):
        number: Any = value if isinstance(value, decimal.Decimal) else float(value)
        whole = abs(number) < float("inf") and number == int(number)
        if whole:
            return str(int(number))
        if isinstance(value, np.float16):
            return repr(decimal_of(number, np.float16))
        return repr(_widened(float(number)))
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (np.datetime64, datetime.date)):
        return _date(value)
    if isinstance(value, np.generic):
        return value.item()
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"a category must be hashable, got {value!r}") from None
    return value


def decimal_of(number: float, dtype: Any) -> float:
    """The number of the fewest digits that a float dtype rounds to this one, which it holds.

    >>> decimal_of(0.0999755859375, np.float16), decimal_of(0.10000000149011612, np.float32)
    (0.1, 0.1)
    """
    exact = np.dtype(dtype).type(number)
    with np.errstate(over="ignore", under="ignore"):
        shorter = (float(f"{number:.{digits}e}") for digits in range(9))
        return next((short for short in shorter if exact == np.dtype(dtype).type(short)), number)


def _widened(number: float) -> float:
    """The decimal that float32 made this number of, if it did, or the number itself.

    Numbers of 16 bits, such as 1/8192, are as likely meant as they are: of these only a decimal of at
    most six digits, which float32 tells apart from all others, is taken for meant.

    >>> _widened(float(np.float32(0.1))), _widened(0.1), _widened(1 / 8192)
    (0.1, 0.1, 0.0001220703125)
    """
    if not abs(number) < 3e38 or float(np.float32(number)) != number:
        return number
    short = decimal_of(number, np.float32)
    few = math.frexp(number)[0] * 2**16 % 1 == 0
    return number if few and float(f"{short:.5e}") != short else short


def kind_of(value: object) -> str:
    """What a value is, in a word: values of two kinds may have one key.

    >>> [kind_of(value) for value in (True, 1.0, "1", None, np.datetime64("2020"))]
    ['truth', 'number', 'text', 'missing', 'date']
    """
    if is_missing(value):
        return "missing"
    for kinds, name in _KINDS:
        if isinstance(value, kinds):
            return name
    return "other"


def plain(value: Any) -> Any:
    """The value of a category as Python has it, so that it can be written down; dates stay.

    >>> plain(np.float32(0.5)), plain(np.str_("a")), plain(float("nan"))
    (0.5, 'a', None)
    """
    if is_missing(value):
        return MISSING
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return value
    return value.item() if isinstance(value, np.generic) else value


def sorted_keys(values: dict[Hashable, Any]) -> list[Hashable]:
    """The keys of values in their order: truths, numbers, dates, texts, others, what is missing last.

    >>> sorted_keys({None: None, "b": "b", "10": 10, "9": 9.0})
    ['9', '10', 'b', None]
    """
    ranks = {"truth": 0, "number": 1, "date": 2, "text": 3, "other": 4, "missing": 5}

    def place(key: Hashable) -> tuple[Any, ...]:
        kind = kind_of(values[key])
        by = values[key] if kind == "number" else key if isinstance(key, str) else 0
        return ranks[kind], by  # others stay as they were found: some cannot be compared

    return sorted(values, key=place)


_KINDS: list[tuple[Any, str]] = [
    ((bool, np.bool_), "truth"),
    ((np.timedelta64,), "other"),  # NumPy counts it among the whole numbers
    ((int, float, np.integer, np.floating, decimal.Decimal), "number"),
    ((str, bytes), "text"),
    ((np.datetime64, datetime.date), "date"),
]


def _date(value: Any) -> str:
    zone = getattr(value, "tzinfo", None)
    if zone is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    if hasattr(value, "to_datetime64"):  # pandas' has nanoseconds
        value = value.to_datetime64()
    value = np.datetime64(value)
    unit = np.datetime_data(value.dtype)[0]
    day, _, time = str(value.astype("datetime64[D]") if unit in "YMWD" else value).partition("T")
    if "." in time:
        time = time.rstrip("0").rstrip(".")
    time += ":00" * (2 - time.count(":")) if time else "00:00:00"
    if zone is not None:
        return f"{day}T{time}Z"
    return f"{day}T{time}" if time != "00:00:00" else day
