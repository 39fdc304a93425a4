"""Dates as numbers: their parts, and places on the circles of the year, the week and the day."""

import dataclasses
import datetime
import zoneinfo
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, of_data
from jaxdeep._precision import numbers_in
from jaxdeep._shapes import Array, Integer
from jaxdeep.preprocessing.keys import is_missing
from jaxdeep.preprocessing.scaling import check_state
from jaxdeep.preprocessing.transform import described, fits
from jaxdeep.preprocessing.vocabulary import (
    Categories,
    Features,
    column_name,
    columns_of,
    distinct,
    features_of,
    names_of,
    unique,
)

NEVER = -(2**31)  # the day of what is missing
_DAY = 86400
_EPOCH = datetime.datetime(1970, 1, 1)


class Dates(NamedTuple):
    """Dates as whole numbers, which compiled functions take; of any year, and right to the second.

    Attributes:
      days: since 1970-01-01, int32; −2³¹ for what is missing.
      seconds: since midnight, int32.
    """

    days: Integer[Array, "*rows features"]
    seconds: Integer[Array, "*rows features"]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class DateColumns:
    """What is known of the columns; static under `jax.jit`.

    Attributes:
      aware: of each whether its dates have a time zone, None if all are missing.
      names: those of a frame.
    """

    aware: tuple[bool | None, ...]
    names: tuple[str, ...] | None


class DateState(NamedTuple):
    """What `date_encoder` learns.

    Attributes:
      origin: of each feature a day in the middle, from which its time is counted.
      columns: whether dates have time zones, and the names.
    """

    origin: Integer[Array, "features"]
    columns: DateColumns


@described
class DateEncoder(NamedTuple):
    """An encoder of dates.

    Attributes:
      fit: ``(x) -> state``, on the host.
      transform: ``(state, x) -> y``, ``encode(state, read(state, x))``.
      read: ``(state, x) -> Dates``, on the host.
      encode: ``(state, dates) -> y``, a pure function of arrays, ``(n, features · columns)``.
      names: ``(state, names=None) -> texts``, of the columns: ``born_month``, ``born_month_sin``.
    """

    fit: Callable[[Categories], DateState]
    transform: Callable[[DateState, Categories], Array]
    read: Callable[[DateState, Categories], Dates]
    encode: Callable[[DateState, Dates], Array]
    names: Callable[..., tuple[str, ...]]


# What is a part of a date, and how long its circle is.
PARTS = ("year", "month", "day", "weekday", "yearday", "hour", "minute", "second", "time")
CYCLES = {"month": 12, "day": 31, "weekday": 7, "yearday": 366, "hour": 24, "minute": 60}
# How large the parts are; of the time, the hours of a century.
MOST = {
    **{"year": 9999, "month": 12, "day": 31, "weekday": 6, "yearday": 366, "hour": 23},
    **{"minute": 59, "second": 59, "time": 876_576},
}


@fits(DateState)
def date_encoder(
    parts: Sequence[str] = ("time", "year", "month", "day", "weekday", "hour"),
    *,
    cycles: Sequence[str] = (),
    zone: str | None = None,
    dtype: Any = jnp.float32,
) -> DateEncoder:
    """The parts of dates as columns, and their places on circles as sine and cosine.

    The columns go feature by feature: the parts, then for each cycle the sine and the cosine of
    ``2π (part − first) / length``, with the fraction of hours and days that has passed. Missing dates
    give NaN. There is no inverse.

    Args:
      parts: of ``"year"``; ``"month"`` (1 to 12), ``"day"`` (1 to 31), ``"weekday"`` (Monday is 0),
        ``"yearday"`` (1 to 366), ``"hour"``, ``"minute"``, ``"second"``; and ``"time"``, days since one
        in the middle of those fitted, with fractions.
      cycles: of ``"month"``, ``"day"``, ``"weekday"``, ``"yearday"``, ``"hour"``, ``"minute"``.
      zone: where dates with a time zone are looked at, such as ``"Europe/Rome"``; None is UTC. Dates
        without one are taken as they are.
      dtype: of the result, of floats that hold the parts: float16 holds no years and no "time", and
        bfloat16 no days of the year either. Circles are in any.

    The functions take `x` ``(n,)`` or ``(n, features)`` of datetime64 of any unit, ISO 8601 texts,
    Python's or pandas' dates, a dict of columns or a frame. The years 1 to 9999 may be in texts, others
    in datetime64. An instant gives the same columns in whatever unit and container.

    Raises:
      ValueError: other parts or zones; a dtype that does not hold one of the parts; texts that are no
        dates, by row; dates with and without a time zone in one column, also when the state was fitted
        on the others; other features than those of the state.
      TypeError: arguments of another kind, numbers (which do not say their unit), traced data (encode
        `Dates`).

    Source: Hinnant, "chrono-compatible low-level date algorithms" (2013); skrub's `DatetimeEncoder`.

    >>> encoder = date_encoder(["year", "month"], cycles=["hour"])
    >>> state = encoder.fit(["2024-02-29T06:00", None])
    >>> encoder.names(state, ["born"])
    ('born_year', 'born_month', 'born_hour_sin', 'born_hour_cos')
    >>> encoder.transform(state, np.array(["2024-02-29T06:00"], "datetime64[ns]"))[0, :3].tolist()
    [2024.0, 2.0, 1.0]
    """
    chosen = _checked("parts", parts, PARTS)
    circles = _checked("cycles", cycles, tuple(CYCLES))
    if not chosen and not circles:
        raise ValueError("parts must name at least one, or cycles must")
    place = _zone(zone)
    _checks.check_float_dtype("dtype", dtype, optional=False)
    _check_holds_parts(dtype, chosen)

    def columns(features: Features, names: tuple[str, ...] | None, count: int) -> list[Any]:
        arrays = columns_of(names, count, features)
        titles = names or features.names
        return [
            _seconds(column, f"column {titles[j]!r}" if titles else column_name(features, j), place)
            for j, column in enumerate(arrays)
        ]

    def fit(x: Categories) -> DateState:
        features = features_of(x)
        if not features.rows:
            raise ValueError("x is empty: there is nothing to fit")
        instants = columns(features, features.names, len(features.columns))
        origin = [
            int(np.median(seconds[~missing]) // _DAY) if not missing.all() else 0
            for seconds, missing, _ in instants
        ]
        aware = tuple(aware for *_, aware in instants)
        return DateState(jnp.array(origin, jnp.int32), DateColumns(aware, features.names))

    def read(state: DateState, x: Categories) -> Dates:
        check_state(state, DateState)
        features, known = features_of(x), state.columns
        days, rest = [], []
        instants = columns(features, known.names, len(known.aware))
        for j, ((seconds, missing, aware), fitted) in enumerate(zip(instants, known.aware)):
            if None not in (aware, fitted) and aware != fitted:
                title = f"column {known.names[j]!r}" if known.names else column_name(features, j)
                have, had = ("have a", "had none") if aware else ("have no", "had one")
                raise ValueError(f"{title}: its dates {have} time zone, and when fitting they {had}")
            days.append(np.where(missing, NEVER, seconds // _DAY).astype(np.int32))
            rest.append(np.where(missing, 0, seconds % _DAY).astype(np.int32))
        return Dates(jnp.asarray(np.stack(days, axis=1)), jnp.asarray(np.stack(rest, axis=1)))

    @of_data
    def encode(state: DateState, dates: Dates) -> Array:
        check_state(state, DateState)
        if not isinstance(dates, Dates):
            raise TypeError(f"dates must be what read returned, Dates, got {dates!r}")
        days, seconds = (jnp.asarray(as_array("dates", part)) for part in dates)
        if days.ndim < 1 or days.shape[-1] != state.origin.shape[0] or days.shape != seconds.shape:
            raise ValueError(
                f"dates must be of shape (…, {state.origin.shape[0]}), got {days.shape} and "
                f"{seconds.shape}"
            )
        return _encoded(days, seconds, state.origin, chosen, circles).astype(dtype)

    def transform(state: DateState, x: Categories) -> Array:
        return encode(state, read(state, x))

    def names(state: DateState, names: Sequence[str] | None = None) -> tuple[str, ...]:
        check_state(state, DateState)
        titles = names_of(names if names is not None else state.columns.names, len(state.columns.aware))
        ends = [*chosen, *(f"{cycle}_{wave}" for cycle in circles for wave in ("sin", "cos"))]
        return unique(f"{name}_{end}" for name in titles for end in ends)

    return DateEncoder(fit, transform, read, encode, names)


def _check_holds_parts(dtype: Any, parts: tuple[str, ...]) -> None:
    """Refuse a dtype that rounds a part of a date, or in which a day is not told by its hours."""
    count = numbers_in(dtype)
    for part in parts:
        if count <= MOST[part]:
            raise ValueError(
                f"dtype must hold the {part}, whole numbers up to {MOST[part]:,}, and "
                f"{jnp.dtype(dtype)} holds those up to {count - 1:,}: use float32, or leave it "
                "out of parts"
            )


def _encoded(
    days: Array, seconds: Array, origin: Array, parts: tuple[str, ...], cycles: tuple[str, ...]
) -> Array:
    missing = days == NEVER
    known = jnp.where(missing, 0, days)
    values = _parts(known, seconds)
    wide = jnp.result_type(float)
    values["time"] = (known - origin).astype(wide) + seconds / _DAY
    columns = [values[part].astype(wide) for part in parts]
    of_day = seconds / _DAY
    passed = {"month": (values["day"] - 1) / 31, "hour": values["minute"] / 60 + values["second"] / 3600}
    passed |= {"minute": values["second"] / 60}
    for cycle in cycles:
        first = 1 if cycle in ("month", "day", "yearday") else 0
        angle = 2 * jnp.pi * (values[cycle] - first + passed.get(cycle, of_day)) / CYCLES[cycle]
        columns += [jnp.sin(angle), jnp.cos(angle)]
    y = jnp.where(missing[..., None], jnp.nan, jnp.stack(columns, axis=-1))
    return y.reshape(*days.shape[:-1], days.shape[-1] * len(columns))


_encoded = jax.jit(_encoded, static_argnums=(3, 4))


def _parts(days: Array, seconds: Array) -> dict[str, Array]:
    """The parts of dates in the Gregorian calendar, whose year begins in March while this counts."""
    shifted = days + 719468
    era = shifted // 146097
    of_era = shifted - era * 146097
    years = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * years + years // 4 - years // 100)
    march = (5 * of_year + 2) // 153
    month = jnp.where(march < 10, march + 3, march - 9)
    year = years + era * 400 + (month <= 2)
    before = year - 1  # of the days until its first of January
    first = 365 * before + before // 4 - before // 100 + before // 400 - 719162
    return {
        "year": year,
        "month": month,
        "day": of_year - (153 * march + 2) // 5 + 1,
        "weekday": (days + 3) % 7,
        "yearday": days - first + 1,
        "hour": seconds // 3600,
        "minute": seconds // 60 % 60,
        "second": seconds % 60,
    }


def _seconds(
    column: np.ndarray, title: str, place: datetime.tzinfo
) -> tuple[np.ndarray, np.ndarray, bool | None]:
    """Seconds since 1970 in int64, which are missing, and whether dates have a time zone."""
    if column.dtype.kind == "M":
        missing = np.isnat(column)
        seconds = np.where(missing, 0, column.astype("datetime64[s]").astype(np.int64))
        return seconds, missing, None if missing.all() else False
    if column.dtype.kind not in "OUST":
        raise TypeError(
            f"{title} must hold dates, got an array of {column.dtype}: numbers do not say their unit "
            "(numpy: x.astype('datetime64[s]'))"
        )
    uniques = distinct(column.astype(object))
    values = list(uniques.values.values())
    numbers, kinds = np.zeros(len(values), np.int64), list[bool | None]()
    for number, value in enumerate(values):
        try:
            numbers[number], aware = _instant(value, place)
        except (ValueError, TypeError, OverflowError):
            row = int(np.flatnonzero(uniques.places == number)[0])
            raise ValueError(
                f"{title} holds {value!r} in row {row}, which is no date: give datetime64, Python's "
                "dates or texts as in ISO 8601, 2024-02-29 or 2024-02-29T18:30:00+01:00"
            ) from None
        kinds.append(aware)
    if True in kinds and False in kinds:
        rows = [int(np.flatnonzero(uniques.places == kinds.index(kind))[0]) for kind in (True, False)]
        raise ValueError(
            f"{title} holds dates with a time zone (row {rows[0]}) and without (row {rows[1]}): make "
            "them of one kind"
        )
    missing = np.array([is_missing(value) for value in values], bool)
    known = [kind for kind in kinds if kind is not None]
    if not values:
        return np.zeros(0, np.int64), np.zeros(0, bool), None
    return numbers[uniques.places], missing[uniques.places], known[0] if known else None


def _instant(value: Any, place: datetime.tzinfo) -> tuple[int, bool | None]:
    """Seconds since 1970 where the clock shows what it does in that zone, and whether it has one."""
    if is_missing(value):
        return 0, None
    if isinstance(value, np.datetime64):
        return int(value.astype("datetime64[s]").astype(np.int64)), False
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value.strip())
    if not isinstance(value, datetime.date):
        raise TypeError("no date")
    if not isinstance(value, datetime.datetime):
        return (value - _EPOCH.date()).days * _DAY, False
    if (as_python := getattr(value.replace(microsecond=0), "to_pydatetime", None)) is not None:
        value = as_python(warn=False)  # of nanoseconds that are lost
    aware = value.tzinfo is not None
    if aware:
        value = value.astimezone(place).replace(tzinfo=None)
    past = value - _EPOCH
    return past.days * _DAY + past.seconds, aware


def _zone(zone: str | None) -> datetime.tzinfo:
    if zone is None:
        return datetime.UTC
    if not isinstance(zone, str):
        raise TypeError(f"zone must be the name of a time zone, such as 'Europe/Rome', got {zone!r}")
    try:
        return zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"zone must be the name of a time zone, such as 'Europe/Rome', got {zone!r}"
        ) from None


def _checked(name: str, chosen: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(chosen, str) or not isinstance(chosen, (list, tuple)):
        raise TypeError(f"{name} must be a list of {', '.join(allowed)}, got {chosen!r}")
    for value in chosen:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"{name} must be of {', '.join(allowed)}, got {value!r}")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"{name} must be different ones, got {chosen!r}")
    return tuple(chosen)
