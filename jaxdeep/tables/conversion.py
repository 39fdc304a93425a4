"""Cells as values of the kind that a column was found to have; what is of another kind is unknown.

What becomes of a cell depends on nothing but the cell, so that a row is the same alone and among others.
"""

import decimal
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdeep.preprocessing.keys import decimal_of, key_of
from jaxdeep.tables.cells import Cells, check_one_zone, is_narrow, word_of
from jaxdeep.tables.dates import instant_of, is_aware, read_dates

MISSING, UNKNOWN, FIRST = 0, 1, 2
"""The codes of a missing cell, of an unknown one, and of the first level."""

DIGITS = 4300
"""Of a number, the most that Python writes down."""
_ENDLESS = 10**DIGITS
_DIGITS = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_PLAIN = re.compile(r"-?(0|[1-9]\d*)(\.\d+([eE][+-]?\d+)?|[eE][+-]?\d+)?")
_WRITTEN = re.compile(r"-?((0|[1-9]\d*)\.(0|\d*[1-9])|[1-9](\.\d*[1-9])?e(\+\d{2,3}|-\d{1,3}))")
_WHOLE = re.compile(r"[+-]?\d+")
_ZERO = re.compile(r"[+-]?0\d")
_TRUTHS = {"true": True, "false": False}


class Known(NamedTuple):
    """Values of one kind, and which cells are no such values.

    Attributes:
      values: float64 numbers, NaN for none; or int64 instants; or int32 codes.
      unknown: whether a cell holds something, but not a value of this kind.
    """

    values: np.ndarray
    unknown: np.ndarray


def number_of(text: str) -> float | None:
    """The number that a text is; None for other texts.

    >>> number_of("-1.5e3"), number_of("1_000"), number_of("12a")
    (-1500.0, None, None)
    """
    return float(text) if _DIGITS.fullmatch(text) else None


def text_of_number(text: str) -> str | None:
    """The key of the number that a text is; None for other texts.

    >>> text_of_number("3.0"), text_of_number("03"), text_of_number("b")
    ('3', '3', None)
    """
    number = number_of(text)
    return None if number is None else str(key_of(number))


def plain_number(text: str) -> str:
    """The key of the number that a text is, with all digits of a whole one; other texts as they are.

    Those are others, too, that begin with a zero which the number loses.

    >>> plain_number("+5"), plain_number(".50"), plain_number("-9007199254740993"), plain_number("07")
    ('5', '0.5', '-9007199254740993', '07')
    """
    if _ZERO.match(text):
        return text
    if _WHOLE.fullmatch(text) and len(text) <= DIGITS:
        return str(int(text))
    return text_of_number(text) or text


def is_endless(value: object) -> bool:
    """Whether this is a number of more digits than Python writes down.

    >>> is_endless(10**5000), is_endless(10**4000), is_endless(1e308)
    (True, False, False)
    """
    if isinstance(value, decimal.Decimal):
        return value.is_finite() and value.adjusted() >= DIGITS
    return isinstance(value, int) and abs(value) >= _ENDLESS


def truth_of(text: str) -> bool | None:
    """True and False as texts, in any case, and as the numbers 1 and 0; None for other texts."""
    number = number_of(text)
    return _TRUTHS.get(text.lower()) if number is None else {1.0: True, 0.0: False}.get(number)


def text_key(text: str) -> str:
    """The key of a text as a level: that of a number, if it is written as Python and libraries write it.

    So "3", "3.0" and 3 are one level, while "03" and "3.00" are others: version "10.10" is not "10.1".

    >>> text_key("3.0"), text_key("1e-05"), text_key("10.10"), text_key("03"), text_key("1e400")
    ('3', '1e-05', '10.10', '03', '1e400')
    """
    if _WRITTEN.fullmatch(text) is None:
        return text
    number = float(text)
    # of more digits than the number needs there may be several
    exact = decimal.Decimal(text) == decimal.Decimal(repr(number))
    return str(key_of(number)) if exact else text


def file_key(text: str) -> str | None:
    """The key of a number of a file, in which 0.5 may have more zeros; None for other texts.

    >>> file_key("0.50"), file_key("5e2"), file_key("05"), file_key("b")
    ('0.5', '500', None, None)
    """
    if _PLAIN.fullmatch(text) is None or not math.isfinite(float(text)):
        return None
    return text if _WHOLE.fullmatch(text) else str(key_of(float(text)))


def numbers_of(cells: Cells) -> Known:
    """Cells as float64 numbers, True as 1 and False as 0. What is infinite is no number.

    >>> from jaxdeep.tables.cells import of_values
    >>> numbers_of(of_values("a", ["1", None, "x"], ()))
    Known(values=array([ 1., nan, nan]), unknown=array([False, False,  True]))
    """
    if cells.numbers is not None:
        values = cells.numbers
    elif cells.kind in ("number", "boolean") and cells.values.dtype != object:
        values = cells.values.astype(np.float64)
    elif cells.kind in ("date", "empty"):
        values = np.full(cells.rows, np.nan)
    else:
        values = _each(cells, _as_number, np.nan, np.float64)
    values = np.where(cells.missing | ~np.isfinite(values), np.nan, values)
    return Known(values, np.isnan(values) & ~cells.missing)


def whole_of(cells: Cells, numbers: np.ndarray) -> list[int]:
    """The whole numbers beyond 2⁵³ among cells, as they were written, given what float64 makes of them.

    >>> from jaxdeep.tables.cells import of_values
    >>> cells = of_values("a", ["9007199254740993", None, "1"], ())
    >>> whole_of(cells, numbers_of(cells).values)
    [9007199254740993]
    """
    large = cells.values[np.abs(numbers) >= 2**53]  # NaN is not
    if large.dtype.kind == "f":
        return []
    digits = [value.strip().lstrip("+-") if isinstance(value, str) else "" for value in large]
    return [
        int(value)
        for value, text in zip(large.tolist(), digits)
        if isinstance(value, (int, np.integer)) or text.isdecimal()
    ]


def instants_of(cells: Cells, name: str = "") -> tuple[Known, bool | None]:
    """Cells as microseconds since 1970 in UTC; whether they name a time zone, None where none is there.

    Raises:
      ValueError: some do and others do not.
    """
    if cells.kind == "date":
        return Known(cells.values, np.zeros(cells.rows, bool)), cells.aware
    if cells.kind not in ("text", "mixed") or cells.numbers is not None:
        return Known(np.zeros(cells.rows, np.int64), ~cells.missing), None
    present = cells.present()
    others = [value for value in present if _is_date(value)] if cells.kind == "mixed" else []
    texts = list(dict.fromkeys(value for value in present if isinstance(value, str)))
    dates, aware = read_dates(texts)
    aware |= set(map(is_aware, others))
    check_one_zone(name, aware)
    at = dict(zip(texts, dates))
    instants = [
        None if gone else instant_of(value) if others and _is_date(value) else at.get(value)
        for value, gone in zip(cells.values.tolist(), cells.missing.tolist())
    ]
    known = np.array([value is not None for value in instants], bool)
    values = np.array([value or 0 for value in instants], np.int64)
    return Known(values, ~known & ~cells.missing), aware.pop() if aware else None


def keys_of(cells: Cells) -> tuple[list[str], np.ndarray]:
    """The distinct keys of cells, and which of them each cell has, −1 for one that is missing.

    >>> from jaxdeep.tables.cells import of_values
    >>> keys_of(of_values("a", [3, None, 3.0, 2**53 + 1], ()))
    (['3', '9007199254740993'], array([ 0, -1,  0,  1]))
    """
    if not cells.rows or cells.kind == "empty":
        return [], np.full(cells.rows, -1)
    places: dict[str, int] = {}
    # two passes: over the distinct cells, then over all of them
    if cells.kind == "text":
        pairs = zip(cells.values.tolist(), cells.missing.tolist())
        of_text = {
            text: places.setdefault(text_key(text.strip()), len(places))
            for text in dict.fromkeys(cells.present())
        }
        where = [-1 if gone else of_text[text] for text, gone in pairs]
        return list(places), np.array(where, np.int64)
    if cells.values.dtype == object:
        at = {
            value: places.setdefault(_key(value), len(places))
            for value in dict.fromkeys(zip(map(type, cells.present()), cells.present()))
        }
        pairs = zip(cells.values, cells.missing)
        where = [-1 if gone else at[type(value), value] for value, gone in pairs]
        return list(places), np.array(where, np.int64)
    distinct, indices = np.unique(cells.values, return_inverse=True)
    indices = np.where(cells.missing, -1, indices)
    used = np.zeros(len(distinct), bool)
    used[indices[indices >= 0]] = True
    if cells.kind == "date":
        zone = "Z" if cells.aware else ""
        texts = [f"{key_of(value)}{zone}" for value in distinct[used].astype("M8[us]")]
    else:
        numbers = distinct[used].tolist()
        if cells.narrow is not None:
            numbers = [decimal_of(value, cells.narrow) for value in numbers]
        texts = [str(key_of(value)) for value in numbers]
    # 0.0 and −0.0 have one key
    places = {}
    renumbered = np.full(len(distinct) + 1, -1)
    renumbered[:-1][used] = [places.setdefault(text, len(places)) for text in texts]
    return list(places), renumbered[indices]


def codes_of(cells: Cells, places: Mapping[str, int]) -> Known:
    """Cells as the codes of levels: 0 for a missing cell, 1 for an unknown one, then the levels.

    Where the levels are True and False, these are found in each form that `truths_of` reads, and where
    all are numbers, those of a file are found with more zeros: 0.50 as 0.5.

    Args:
      cells: of any kind.
      places: the number of each level, from 0 on.
    """
    keys, indices = keys_of(cells)
    if any(key not in places for key in keys):
        keys = _as_levels(keys, places, cells.untyped)
    of_key = np.array([FIRST + places.get(key, UNKNOWN - FIRST) for key in keys] + [MISSING], np.int32)
    codes = of_key[indices]
    return Known(codes, codes == UNKNOWN)


def truths_of(cells: Cells) -> Known:
    """Cells as the codes of False and True, which 0 and 1, "true" and "FALSE" are as well."""
    if cells.kind == "text":
        of_text = {}
        for text in set(cells.present().tolist()):
            truth = truth_of(text.strip())
            of_text[text] = UNKNOWN if truth is None else FIRST + truth
        pairs = zip(cells.values.tolist(), cells.missing.tolist())
        codes = np.array([MISSING if gone else of_text[text] for text, gone in pairs], np.int32)
        return Known(codes, codes == UNKNOWN)
    numbers = numbers_of(cells)
    codes = np.where(numbers.values == 1, FIRST + 1, np.where(numbers.values == 0, FIRST, UNKNOWN))
    codes = np.where(cells.missing, MISSING, codes).astype(np.int32)
    return Known(codes, codes == UNKNOWN)


def _as_levels(keys: list[str], levels: Collection[str], untyped: bool) -> list[str]:
    """Keys in the form of the levels that they mean, if they are none themselves."""
    if all(level.lower() in _TRUTHS for level in levels):
        truths: dict[bool | None, str] = {_TRUTHS[level.lower()]: level for level in levels}
        if len(truths) == len(levels):
            return [key if key in levels else truths.get(truth_of(key), key) for key in keys]
    elif untyped and all(file_key(level) == level for level in levels):
        return [key if key in levels else file_key(key) or key for key in keys]
    return keys


def _key(typed: tuple[type, Any]) -> str:
    kind, value = typed
    if is_endless(value):  # which is no level of any column
        return f"more than {DIGITS:,} digits"
    if is_narrow(kind):
        value = decimal_of(float(value), kind)
    return text_key(value.strip()) if isinstance(value, str) else str(key_of(value))


def _is_date(value: object) -> bool:
    return not isinstance(value, str) and word_of(type(value)) == "date"


def _as_number(value: Any) -> float:
    if isinstance(value, str):
        number = number_of(value)
        return float(_TRUTHS.get(value.lower(), np.nan)) if number is None else number
    try:
        return float(value)
    except OverflowError:
        return np.inf
    except (TypeError, ValueError):  # a date among numbers
        return np.nan


def _each(cells: Cells, function: Any, missing: Any, dtype: Any) -> np.ndarray:
    return np.array(
        [missing if gone else function(value) for value, gone in zip(cells.values, cells.missing)], dtype
    )
