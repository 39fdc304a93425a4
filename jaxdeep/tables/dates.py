"""Dates and times as microseconds in UTC, and the numbers that a network is given of them."""

import datetime
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from jaxdeep._quoted import quoted

EPOCH = datetime.datetime(1970, 1, 1)
EPOCH_UTC = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)
DAY = 86_400_000_000  # in microseconds

_ISO = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?)?"
)
_DAY, _MONTH, _YEAR = "(?:0?[1-9]|[12]\\d|3[01])", "(?:0?[1-9]|1[0-2])", "(?:1[5-9]|2[01])\\d\\d"
_NAME = (
    "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    "oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_BETWEEN = "[-/., ]{1,2}"
_NUMERIC = (  # years of two digits beside a slash alone: versions have points
    rf"{_YEAR}(?P<a>[-/. ]){_MONTH}(?P=a){_DAY}|"
    rf"(?:{_DAY}(?P<b>[-/. ]){_MONTH}|{_MONTH}(?P<c>[-/. ]){_DAY})[-/. ]{_YEAR}|"
    rf"(?:{_DAY}/{_MONTH}|{_MONTH}/{_DAY})/\d\d"
)
_NAMED = (
    rf"{_DAY}(?:st|nd|rd|th)?{_BETWEEN}{_NAME}{_BETWEEN}(?:{_YEAR}|\d\d)|"
    rf"{_NAME}{_BETWEEN}{_DAY}(?:st|nd|rd|th)?{_BETWEEN}{_YEAR}"
)
_WEEKDAY = r"(?:(?:mon|tue|tues|wed|wednes|thu|thurs|fri|sat|satur|sun)(?:day)?\.?,?\s+)?"
_TIME = (
    r"(?:(?:T|,?\s+)\d{1,2}(?::\d\d(?::\d\d(?:[.,]\d+)?)?)?(?:\s*[ap]\.?m\.?)?"
    r"(?:\s*(?:Z|UTC|GMT|[+-]\d\d(?::?\d\d)?))?)?"
)
_OTHER = re.compile(rf"{_WEEKDAY}(?:{_NUMERIC}|{_NAMED}){_TIME}", re.IGNORECASE)

PARTS = ("elapsed", "year_sin", "year_cos", "week_sin", "week_cos")
"""The numbers of a date: days since 1970, the place in the year, and in the week."""
TIME_PARTS = ("day_sin", "day_cos")
"""And of a time: the place in the day."""


def microseconds(name: str, array: np.ndarray) -> np.ndarray:
    """Microseconds since 1970 of dates of NumPy of any unit; finer ones are rounded down.

    >>> microseconds("day", np.array(["1677-01-01", "2300-01-01"], "M8[s]")).tolist()
    [-9246096000000000, 10413792000000000]
    """
    unit, multiple = np.datetime_data(array.dtype)
    if unit in _MICROSECONDS:  # coarser units reach further
        most = (2**63 - 1) // (_MICROSECONDS[unit] * multiple)
        numbers = array.astype(np.int64)
        lost = ((numbers > most) | (numbers < -most)) & ~np.isnat(array)
        if lost.any():
            raise ValueError(
                f"column {quoted(name)} holds {array[lost][0]}, a date beyond ±290,000 years"
            )
    return array.astype("M8[us]").astype(np.int64)


_MICROSECONDS = {
    **{"ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "D": 86400 * 10**6},
    **{"W": 7 * 86400 * 10**6, "M": 366 * 7200 * 10**6, "Y": 366 * 86400 * 10**6},
}


def is_aware(value: object) -> bool:
    """Whether a date of Python, NumPy or pandas names a time zone."""
    return getattr(value, "tzinfo", None) is not None


def instant_of(value: Any) -> int:
    """Microseconds since 1970 in UTC of a date of Python, NumPy or pandas.

    >>> instant_of(datetime.date(1970, 1, 2)), instant_of(np.datetime64("1970-01-01T00:00:01"))
    (86400000000, 1000000)
    """
    if hasattr(value, "to_datetime64"):  # pandas', which is in UTC then
        value = value.to_datetime64()
    if isinstance(value, np.datetime64):
        return int(microseconds("", np.array([value]))[0])
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    return (value - (EPOCH_UTC if value.tzinfo else EPOCH)) // MICROSECOND


def read_dates(texts: Iterable[str]) -> tuple[list[int | None], set[bool]]:
    """Instants of texts in the form of ISO 8601, None for others; whether they name a time zone.

    >>> read_dates(["1970-01-02", "1970-01-01 01:00+01", "soon"])
    ([86400000000, 0, None], {False, True})
    """
    instants: list[int | None] = []
    aware = set()
    for text in texts:
        match = _ISO.fullmatch(text)
        try:
            value = datetime.datetime.fromisoformat(text) if match else None
        except ValueError:  # the 30th of February
            value = None
        if match is None or value is None:
            instants.append(None)
            continue
        aware.add(match["zone"] is not None)
        instants.append((value - (EPOCH_UTC if value.tzinfo else EPOCH)) // MICROSECOND)
    return instants, aware


def oddly_dated(texts: Collection[str]) -> str | None:
    """What to say of texts all of which are dates, and some not as a table reads them; None of others.

    >>> oddly_dated(["2024-01-05"]), oddly_dated(["1/5/2024", "soon"]), oddly_dated(["10.9.12"])
    (None, None, None)
    >>> print(oddly_dated(["2024-01-05", "1/6/2024"]))
    looks like dates in another form than ISO 8601, such as '1/6/2024': convert them, e.g. with \
pandas.to_datetime
    """
    odd = []
    for text in texts:
        if _ISO.fullmatch(text) is None:
            if _OTHER.fullmatch(text) is None:
                return None
            odd.append(text)
    if not odd:
        return None
    return (
        f"looks like dates in another form than ISO 8601, such as {quoted(min(odd))}: convert them, "
        "e.g. with pandas.to_datetime"
    )


def parts_of(instants: np.ndarray, missing: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The numbers of dates, ``(n, len(names))`` in float64; NaN where a date is missing.

    The place in the year is the day of the year among 365.2425, Monday begins the week.

    >>> parts_of(np.array([0, DAY]), np.array([False, True]), ["elapsed", "year_cos"]).tolist()
    [[0.0, 1.0], [nan, nan]]
    """
    day, within = np.divmod(instants, DAY)
    fraction = within / DAY
    # years by the calendar, in which NumPy knows the leap years
    dates = day.astype("M8[D]")
    of_year = (dates - dates.astype("M8[Y]").astype("M8[D]")).astype(np.int64)
    turns = {
        "year": (of_year + fraction) / 365.2425,
        "week": ((day + 3) % 7 + fraction) / 7,
        "day": fraction,
    }
    columns = []
    for name in names:
        cycle, _, function = name.partition("_")
        if name == "elapsed":
            columns.append(day + fraction)
        else:
            angle = 2 * np.pi * turns[cycle]
            columns.append(np.sin(angle) if function == "sin" else np.cos(angle))
    numbers = np.stack(columns, axis=1) if columns else np.empty((len(instants), 0))
    numbers[missing] = np.nan
    return numbers


def has_times(instants: np.ndarray) -> bool:
    """Whether any of these is not the begin of a day."""
    return bool((instants % DAY != 0).any())


def shown(instant: float) -> str:
    """An instant for people.

    >>> shown(0), shown(3_600_000_000)
    ('1970-01-01', '1970-01-01 01:00')
    """
    text = str(np.datetime64(int(instant), "us"))
    day, _, time = text.partition("T")
    return day if time.startswith("00:00:00") else f"{day} {time[:5]}"
