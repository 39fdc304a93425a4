"""The cells of one column, whatever they come in: values of one type, and which are missing."""

import datetime
import decimal
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxdeep._quoted import quoted
from jaxdeep.preprocessing.keys import is_missing
from jaxdeep.tables.dates import instant_of, is_aware, microseconds

NULLS = ("", "?", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "NaT", "null", "NULL", "None")
"""The texts that stand for a missing cell unless the user names others."""

CellKind = Literal["number", "boolean", "date", "text", "mixed", "empty"]


class Cells(NamedTuple):
    """Cells of a column of a block of rows, in 64 bits.

    Attributes:
      kind: "number": float64, int64 or uint64, or objects where these cannot hold them. "boolean".
        "date": int64 microseconds since 1970 in UTC. "text": objects that are strings, or None.
        "mixed": objects of several of these kinds. "empty": all are missing.
      values: one a row; under a missing one there is anything.
      missing: whether a cell is None, NaN, NaT, NA, one of the texts for that or a number that one of
        them spells.
      aware: of dates, whether they name a time zone; None where there are none.
      categorical: whether the container says that these are categories.
      numbers: of texts all of which are numbers, these, NaN where one is missing; else None.
      untyped: whether they come from a file of texts, in which 3 may be a number or a text.
      narrow: of numbers that came in a float dtype of less than 32 bits, this dtype.
      written: the cells as the file has them, of a column that is asked for in this form: a list of
        texts, or a column of the library that reads the file.
    """

    kind: CellKind
    values: np.ndarray
    missing: np.ndarray
    aware: bool | None = None
    categorical: bool = False
    numbers: np.ndarray | None = None
    untyped: bool = False
    narrow: Any = None
    written: Any = None

    @property
    def rows(self) -> int:
        """How many cells there are."""
        return len(self.values)

    def present(self) -> np.ndarray:
        """The values that are not missing."""
        return self.values[~self.missing] if self.missing.any() else self.values

    def where(self, chosen: np.ndarray | slice) -> "Cells":
        """The cells where a mask is True, or of a slice."""
        numbers = None if self.numbers is None else self.numbers[chosen]
        values, missing = self.values[chosen], self.missing[chosen]
        return self._replace(values=values, missing=missing, numbers=numbers, written=None)


def of_array(name: str, array: np.ndarray, nulls: Collection[str], first: int = 0) -> Cells:
    """The cells of a NumPy array of one axis, from the row `first` on.

    >>> of_array("age", np.array([31.0, np.nan]), NULLS).missing.tolist()
    [False, True]
    >>> of_array("day", np.array(["1970-01-02", "NaT"], "M8[D]"), NULLS).values[0]
    np.int64(86400000000)
    """
    if array.ndim != 1:
        raise ValueError(
            f"column {quoted(name)} must have one axis, got an array of shape {array.shape}"
        )
    if isinstance(array, np.ma.MaskedArray):
        known = of_array(name, array.filled(_any(array.dtype)), nulls, first)
        return known._replace(missing=known.missing | np.ma.getmaskarray(array))
    kind = array.dtype.kind
    if kind == "b":
        return Cells("boolean", array, np.zeros(len(array), bool))
    if kind in "iu":
        values = array.astype(f"{kind}8")
        return Cells("number", values, _stand_for_missing(values, nulls))
    if jnp.issubdtype(array.dtype, jnp.floating):
        values = array.astype(np.float64)
        missing = np.isnan(values) | _stand_for_missing(array, nulls)
        return Cells("number", values, missing, narrow=array.dtype if array.dtype.itemsize < 4 else None)
    if kind == "M":
        return Cells("date", microseconds(name, array), np.isnat(array), aware=False)
    if kind == "m":
        seconds = array.astype("m8[us]").astype(np.int64) / 1e6
        return Cells("number", seconds, np.isnat(array))
    if kind in "USOT":
        return of_values(name, array.tolist(), nulls, first)
    raise TypeError(
        f"column {quoted(name)} must hold numbers, text, booleans or dates, got {array.dtype}; "
        f"{_way_out(array.dtype.type)}"
    )


def of_values(name: str, values: Sequence[Any], nulls: Collection[str], first: int = 0) -> Cells:
    """The cells of a list of Python's values, or NumPy's, from the row `first` on.

    >>> of_values("city", ["Rome ", None, "?"], NULLS)[:2]
    ('text', array(['Rome', None, None], dtype=object))
    >>> of_values("age", [3, None, 2**53 + 1], NULLS)[:2]
    ('number', array([               3,                0, 9007199254740993]))
    """
    words = {kind: word_of(kind) for kind in set(map(type, values))}
    if "other" in words.values():
        row, odd = next((i, v) for i, v in enumerate(values) if words[type(v)] == "other")
        raise TypeError(
            f"column {quoted(name)} must hold numbers, text, booleans or dates, got {quoted(odd)} in "
            f"row {first + row}; {_way_out(type(odd))}"
        )
    if set(words.values()) <= {"text", "missing"}:
        return _of_texts(values, nulls)
    floats = {kind for kind, word in words.items() if word != "missing"}
    if len(floats) == 1 and _is_single(dtype := next(iter(floats))):  # as an array of them would be
        gone = np.fromiter((words[type(value)] == "missing" for value in values), bool, len(values))
        array: np.ndarray = np.array([0 if none else value for value, none in zip(values, gone)], dtype)
        known = of_array(name, array, nulls)
        return known._replace(missing=known.missing | gone)
    spelled = numbers_in(nulls)
    cleaned = [_cleaned(value, nulls, spelled) for value in values]
    missing = np.fromiter((value is None for value in cleaned), bool, len(cleaned))
    kinds = {word_of(kind) for kind in set(map(type, cleaned))} - {"missing"}
    if not kinds:
        return _empty(len(values))
    if kinds == {"number"}:
        return Cells("number", _numbers(cleaned), missing)
    if kinds == {"boolean"}:
        return Cells("boolean", np.array([bool(value) for value in cleaned]), missing)
    if kinds == {"date"}:
        aware = {is_aware(value) for value in cleaned if value is not None}
        check_one_zone(name, aware)
        instants = [0 if value is None else instant_of(value) for value in cleaned]
        return Cells("date", np.array(instants, np.int64), missing, aware.pop())
    if kinds == {"text"}:
        return Cells("text", _objects(cleaned), missing)
    return Cells("mixed", _objects(cleaned), missing)


def check_one_zone(name: str, aware: Collection[bool]) -> None:
    """Refuse dates of which some name a time zone and others do not."""
    if len(set(aware)) > 1:
        raise ValueError(
            f"column {quoted(name)} holds dates with a time zone and dates without one, which cannot be "
            "compared; give all of them a zone, or none"
        )


def joined(parts: Sequence[Cells]) -> Cells:
    """The cells of one kind one after another."""
    if len(parts) == 1:
        return parts[0]
    values = np.concatenate([part.values for part in parts])
    return parts[0]._replace(values=values, missing=np.concatenate([part.missing for part in parts]))


def _of_texts(values: Sequence[Any], nulls: Collection[str]) -> Cells:
    """Numbers are tried first, of which there may be many; of others each distinct text."""
    if (numbers := _numbers_of_texts(values, nulls)) is not None:
        missing = np.isnan(numbers)
        return Cells("text", _objects(values), missing, numbers=numbers)
    spelled = numbers_in(nulls)
    known = {value: _cleaned(value, nulls, spelled) for value in set(values)}
    if all(value is None for value in known.values()):
        return _empty(len(values))
    cleaned = _objects([known[value] for value in values])
    return Cells("text", cleaned, np.array([value is None for value in cleaned], bool))


def _numbers_of_texts(values: Sequence[Any], nulls: Collection[str]) -> np.ndarray | None:
    """The numbers that texts are, NaN for a missing one; None if one is none, or all are missing."""
    # by functions of C alone, as there are many cells
    spelled: Callable[..., Any] = dict.fromkeys((None, *nulls), "nan").get
    try:
        numbers = np.array(list(map(float, map(spelled, values, values))), np.float64)
    except (ValueError, TypeError):  # the latter of pandas' NA
        return None
    # what Python takes for a number and a table does not: "1_000", "inf", "nan"
    odd = (values[i] for i in np.flatnonzero(~np.isfinite(numbers)).tolist())
    if not all(v is None or v in nulls for v in odd) or not _is_plain(values):
        return None
    numbers[_stand_for_missing(numbers, nulls)] = math.nan
    return None if np.isnan(numbers).all() else numbers


def _is_plain(values: Sequence[Any]) -> bool:
    types = set(map(type, values))
    texts = values if types == {str} else [value for value in values if isinstance(value, str)]
    text = "".join(texts)
    return text.isascii() and "_" not in text and not any(issubclass(t, bytes) for t in types)


def numbers_in(nulls: Collection[str]) -> frozenset[float]:
    """The numbers that texts for a missing cell spell, which stand for one as well.

    >>> numbers_in(["NA", "nan", "-999", "1_0"])
    frozenset({-999.0})
    """
    spelled = (_number_spelled(text) for text in nulls)
    return frozenset(number for number in spelled if number is not None)


def _number_spelled(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and _is_plain([text]) else None


def _stand_for_missing(array: np.ndarray, nulls: Collection[str]) -> np.ndarray:
    """Where numbers are those that texts for a missing cell spell, of the precision that they have."""
    missing = np.zeros(len(array), bool)
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    for number in numbers_in(nulls):
        with np.errstate(over="ignore"):
            missing |= array == (np.asarray(number).astype(array.dtype) if floating else number)
    return missing


def _cleaned(value: Any, nulls: Collection[str], spelled: Collection[float]) -> Any:
    """A cell as a number, a bool, a date or a text without blanks around it; None if it is missing."""
    if isinstance(value, (str, bytes)):
        text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
        text = text.strip()
        return None if text in nulls or (spelled and _number_spelled(text) in spelled) else text
    if is_missing(value) or (is_narrow(type(value)) and np.isnan(value)):
        return None
    if _is_single(type(value)):
        return None if _stand_for_missing(np.array([value]), nulls)[0] else value
    if (
        spelled
        and word_of(type(value)) == "number"
        and not isinstance(value, _SPANS)
        and value in spelled
    ):
        return None
    if isinstance(value, _SPANS[:2]):
        return np.timedelta64(value).astype("m8[us]").astype(int) / 1e6
    if isinstance(value, datetime.time):
        return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
    return value


def word_of(kind: type) -> str:
    """What a value of this type is, in a word."""
    for kinds, word in _WORDS:
        if issubclass(kind, kinds):
            return word
    if is_narrow(kind):
        return "number"
    return "missing" if kind.__name__ in ("NAType", "NaTType") else "other"


def is_narrow(kind: type) -> bool:
    """Whether values of this type are NumPy's floats of less than 32 bits, or those of ml_dtypes.

    >>> is_narrow(np.float16), is_narrow(jnp.bfloat16.dtype.type), is_narrow(np.float32), is_narrow(int)
    (True, True, False, False)
    """
    return _is_single(kind) and np.dtype(kind).itemsize < 4


def _is_single(kind: type) -> bool:
    """Whether values of this type are floats of at most 32 bits."""
    floats = issubclass(kind, np.generic) and jnp.issubdtype(kind, jnp.floating)
    return bool(floats) and np.dtype(kind).itemsize <= 4


def _way_out(kind: type) -> str:
    """What to make of values of a kind that no column may have."""
    if kind.__name__ == "Interval":
        return (
            "its middle (.mid) or its ends (.left, .right) are numbers, and str() makes a category of it"
        )
    if kind.__name__ == "Period":
        return "its start is a date: .dt.start_time of the column, .start_time of a value"
    if issubclass(kind, (complex, np.complexfloating)):
        return "make columns of its parts, .real and .imag"
    if issubclass(kind, (bytearray, memoryview)):
        return "make text of it: bytes(value).decode()"
    if issubclass(kind, (list, tuple, set, frozenset, Mapping, np.ndarray, np.void)):
        return "make columns of its parts"
    return "make numbers of it, or text, as str() does"


_SPANS = (datetime.timedelta, np.timedelta64, datetime.time)

_WORDS: list[tuple[Any, str]] = [
    (type(None), "missing"),
    ((str, bytes), "text"),
    ((bool, np.bool_), "boolean"),
    (_SPANS, "number"),
    ((int, float, np.integer, np.floating, decimal.Decimal), "number"),
    ((np.datetime64, datetime.date), "date"),
]


def _numbers(values: list[Any]) -> np.ndarray:
    """Numbers of Python in int64 if all are whole and fit, in float64 if floats, else objects."""
    filled = [0 if value is None else value for value in values]
    if any(is_narrow(kind) for kind in set(map(type, filled))):  # whose keys are those of their dtype
        return _objects(filled)
    if any(isinstance(value, (float, np.floating)) for value in filled):
        # a whole number beyond 2⁵³ beside a float keeps its digits
        big = any(isinstance(value, (int, np.integer)) and abs(int(value)) > 2**53 for value in filled)
        return _objects(filled) if big else np.array(filled, np.float64)
    if any(isinstance(value, decimal.Decimal) for value in filled):
        return _objects(filled)
    try:
        return np.array([int(value) for value in filled], np.int64)
    except OverflowError:
        return _objects(filled)


def _objects(values: Sequence[Any]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _empty(rows: int) -> Cells:
    return Cells("empty", np.full(rows, None, object), np.ones(rows, bool))


def _any(dtype: np.dtype) -> Any:
    """Something to put under a mask."""
    if dtype.kind in "Mm":
        return np.array("NaT", dtype)[()]
    return {"U": "", "S": b"", "O": None}.get(dtype.kind, 0)
