"""Parts of dates against Python's calendar, in every unit and container."""

import datetime

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
from helpers.properties import over
from helpers.tables import close

from jaxdeep import preprocessing as pp

PARTS = ("year", "month", "day", "weekday", "yearday", "hour", "minute", "second")
MOMENT = st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31))


def parts_of(moment):
    whole = moment.timetuple()
    return [*whole[:3], moment.weekday(), whole.tm_yday, *whole[3:6]]


@over(20, 500, moments=st.lists(MOMENT, min_size=4, max_size=4))
def test_parts_are_those_of_pythons_calendar(moments):
    encoder = pp.date_encoder(PARTS)
    state = encoder.fit(moments)
    expected = np.array([parts_of(moment) for moment in moments])
    np.testing.assert_array_equal(encoder.transform(state, moments), expected)
    micro = np.array(moments, "datetime64[us]")
    np.testing.assert_array_equal(encoder.transform(state, micro), expected)
    texts = [moment.isoformat() for moment in moments]
    np.testing.assert_array_equal(encoder.transform(state, texts), expected)


def test_an_instant_is_the_same_in_every_unit_and_container():
    texts = [
        "1677-09-22T00:12:44",
        "1969-12-31T23:59:59",
        "2020-02-29T12:30:15",
        "2262-04-11T23:47:16",
        None,
    ]
    encoder = pp.date_encoder(("time", *PARTS), cycles=["month", "weekday", "hour"])
    state = encoder.fit(texts)
    expected = np.asarray(encoder.transform(state, texts))
    assert np.isnan(expected[-1]).all()
    assert np.isfinite(expected[:-1]).all()
    made = {unit: np.array(texts, f"datetime64[{unit}]") for unit in ("s", "ms", "us", "ns")}
    made["pandas"] = pd.Series(pd.to_datetime(texts))
    made["polars"] = pl.Series(texts).str.to_datetime()
    made["objects"] = np.array([*map(pd.Timestamp, texts[:-1]), pd.NaT], object)
    made["frame"] = pl.DataFrame({"x": texts})
    for name, column in made.items():
        np.testing.assert_array_equal(encoder.transform(state, column), expected, name)


def test_the_year_2300_and_beyond():
    encoder = pp.date_encoder(["year", "day"])
    for x in (["2300-05-06"], np.array(["2300-05-06"], "datetime64[us]"), [datetime.date(2300, 5, 6)]):
        assert encoder.transform(encoder.fit(x), x).tolist() == [[2300, 6]]
    far = np.array(["20000-01-31", "-0044-03-15"], "datetime64[D]")
    assert encoder.transform(encoder.fit(far), far).tolist() == [[20000, 31], [-44, 15]]


def test_time_zones():
    texts = ["2024-07-01T23:30:00+00:00", "2024-07-02T01:30:00+02:00", "2024-01-01T23:30:00Z"]
    aware = pd.Series(pd.to_datetime(texts, utc=True))
    there = pl.Series(texts).str.to_datetime(time_zone="UTC")
    for zone, expected in (
        (None, [[23, 1], [23, 1], [23, 1]]),
        ("Europe/Rome", [[1, 2], [1, 2], [0, 2]]),
    ):
        encoder = pp.date_encoder(["hour", "day"], zone=zone)
        state = encoder.fit(texts)
        for x in (texts, aware, aware.dt.tz_convert("Asia/Tokyo"), there):
            assert encoder.transform(state, x).tolist() == expected
        with pytest.raises(ValueError, match="dates have no time zone, and when fitting they had one"):
            encoder.transform(state, ["2024-01-01"])
    with pytest.raises(ValueError, match=r"with a time zone \(row 1\) and without \(row 0\)"):
        encoder.fit(["2024-01-01", "2024-01-01T00:00Z"])


def test_time_keeps_minutes_of_this_century():
    x = np.datetime64("2024-01-01T00:00:00") + 60 * np.arange(100)
    encoder = pp.date_encoder(["time"])
    y = np.asarray(encoder.transform(encoder.fit(x), x))[:, 0]
    close(np.diff(y), np.full(99, 1 / 1440), rtol=1e-3)


def test_cycles_are_circles():
    x = np.array(["2024-01-01T06:00", "2024-12-31T18:00", "2024-07-01T12:00"], "datetime64[m]")
    encoder = pp.date_encoder([], cycles=["hour", "yearday"])
    y = np.asarray(encoder.transform(encoder.fit(x), x))
    close(y[:, :2], [[1, 0], [-1, 0], [0, -1]], atol=1e-6)
    close(y[:, 0::2] ** 2 + y[:, 1::2] ** 2, np.ones((3, 2)), rtol=1e-5)
    assert encoder.names(encoder.fit({"at": x})) == (
        "at_hour_sin",
        "at_hour_cos",
        "at_yearday_sin",
        "at_yearday_cos",
    )


def test_dates_are_encoded_compiled():
    x = np.array([["2024-01-01", "2023-05-05"], ["NaT", "1900-02-28"]], "datetime64[D]")
    encoder = pp.date_encoder(["month", "day"], cycles=["day"], dtype=jnp.bfloat16)
    state = encoder.fit(x)
    dates, y = encoder.read(state, x), encoder.transform(state, x)
    assert dates.days.dtype == dates.seconds.dtype == jnp.int32
    assert y.shape == (2, 8)
    assert y.dtype == jnp.bfloat16
    for other in (
        jax.jit(encoder.encode)(state, dates),
        jax.vmap(encoder.encode, (None, 0))(state, dates),
    ):
        np.testing.assert_array_equal(other.astype(float), y.astype(float))


def test_dates_refuse():
    for arguments, words in (
        ({"parts": ["years"]}, "parts must be of year"),
        ({"parts": ["year", "year"]}, "parts must be different"),
        ({"parts": []}, "parts must name at least one"),
        ({"cycles": ["year"]}, "cycles must be of month"),
        ({"zone": "Rome/Europe"}, "zone must be the name of a time zone"),
    ):
        with pytest.raises(ValueError, match=words):
            pp.date_encoder(**arguments)
    encoder = pp.date_encoder()
    with pytest.raises(ValueError, match="x holds 'soon' in row 1, which is no date"):
        encoder.fit(["2024-01-01", "soon"])
    with pytest.raises(TypeError, match="numbers do not say their unit"):
        encoder.fit(np.array([1.7e9]))
    with pytest.raises(ValueError, match="x is empty"):
        encoder.fit([])


@pytest.mark.parametrize(
    ("dtype", "part"),
    [
        *[(jnp.float16, part) for part in ("year", "time")],
        *[(jnp.bfloat16, part) for part in ("year", "time", "yearday")],
    ],
)
def test_a_dtype_that_does_not_hold_the_parts_is_refused(dtype, part):
    name = jnp.dtype(dtype).name
    with pytest.raises(ValueError, match=f"dtype must hold the {part}, whole .* and {name} holds"):
        pp.date_encoder(["month", part], dtype=dtype)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_parts_that_a_narrow_dtype_holds_are_exact(dtype):
    parts = ["month", "day", "weekday", "hour", "minute", "second"]
    parts += ["yearday"] if dtype == jnp.float16 else []
    x = np.datetime64("2023-12-31T23:59:59") - np.arange(400) * np.timedelta64(87_001, "s")
    narrow, wide = (pp.date_encoder(parts, dtype=kind) for kind in (dtype, jnp.float32))
    y = narrow.transform(narrow.fit(x), x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.astype(jnp.float32), wide.transform(wide.fit(x), x))
