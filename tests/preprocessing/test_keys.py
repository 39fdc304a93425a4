"""Categories are the same in whatever container and dtype they come."""

import datetime
import decimal
import math

import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
from helpers.properties import over

from jaxdeep.preprocessing.keys import decimal_of, is_missing, key_of
from jaxdeep.preprocessing.vocabulary import ABSENT, UNSEEN, features_of, places_in, vocabulary_of

SAME = {
    None: [
        None,
        math.nan,
        np.float32("nan"),
        np.datetime64("NaT", "s"),
        np.timedelta64("NaT", "s"),
        pd.NaT,
        pd.NA,
        decimal.Decimal("NaN"),
    ],
    "3": [3, 3.0, np.int8(3), np.float16(3), "3", np.str_("3"), b"3", decimal.Decimal("3.0")],
    "True": [True, np.True_, "True"],
    "0.5": [0.5, np.float32(0.5), "0.5", decimal.Decimal("0.50")],
    "9007199254740993": [2**53 + 1, np.int64(2**53 + 1), np.uint64(2**53 + 1)],
    "2020-01-02": [
        datetime.date(2020, 1, 2),
        datetime.datetime(2020, 1, 2),
        pd.Timestamp("2020-01-02"),
        np.datetime64("2020-01-02"),
        np.datetime64("2020-01-02T00:00:00", "ns"),
        "2020-01-02",
    ],
    "2020-01-02T10:00:00.25": [
        pd.Timestamp("2020-01-02T10:00:00.25"),
        np.datetime64("2020-01-02T10:00:00.250", "ms"),
        datetime.datetime(2020, 1, 2, 10, 0, 0, 250000),
    ],
    "2020-01-02T08:00:00Z": [
        pd.Timestamp("2020-01-02T10:00", tz="+02:00"),
        datetime.datetime(2020, 1, 2, 8, tzinfo=datetime.UTC),
    ],
}


@pytest.mark.parametrize("key", SAME)
def test_one_value_has_one_key(key):
    for value in SAME[key]:
        assert key_of(value) == key, repr(value)
        assert is_missing(value) == (key is None)


def containers(values):
    """The same column in all of them."""
    texts = [value for value in values if value is not None]
    kind = {str: "string", int: "Int64", bool: "boolean", float: "Float64"}[type(texts[0])]
    made = {
        "list": values,
        "objects": np.array([*values, None], object)[:-1],
        "pandas objects": pd.Series(values, dtype=object),
        "pandas": pd.Series(values),
        "pandas nullable": pd.Series(values, dtype=kind),
        "polars": pl.Series(values),
        "dict": {"a": values},
        "frame": pd.DataFrame({"a": values}),
        "polars frame": pl.DataFrame({"a": values}),
    }
    if kind in ("string", "Int64"):
        made["pandas categories"] = pd.Series(values).astype("category")
    if kind == "string":
        made["polars categories"] = pl.Series(values, dtype=pl.Categorical)
    return made


ELEMENTS = {
    "texts": st.sampled_from(["a", "b", "nan", "", "1"]),
    "whole": st.sampled_from([0, 1, 2, 16777217, 2**40]),
    "truths": st.booleans(),
    "floats": st.sampled_from([0.0, 1.5, 1e300, -2.0]),
}


@pytest.mark.parametrize("kind", ELEMENTS)
@over(3, 60, data=st.data())
def test_every_container_has_the_same_categories(kind, data):
    column = st.lists(ELEMENTS[kind] | st.none(), min_size=1, max_size=8)
    values = data.draw(column.filter(any_there))
    wanted, places = vocabulary_of(features_of(values))
    for name, made in containers(values).items():
        found, others = vocabulary_of(features_of(made))
        assert found.keys == wanted.keys, name
        np.testing.assert_array_equal(others[0], places[0])
        np.testing.assert_array_equal(places_in(wanted, features_of(made))[0], places[0])
    assert None not in wanted.keys[0][:-1]


def any_there(values):
    return any(value is not None for value in values)


def test_big_whole_numbers_are_told_apart_beside_holes():
    values = [2**53, None, 2**53 + 1]
    for made in (values, pd.Series(values, dtype="Int64"), pl.Series(values)):
        vocabulary, _ = vocabulary_of(features_of(made))
        assert vocabulary.categories == ((2**53, 2**53 + 1, None),)


def test_what_is_missing_and_what_is_unseen_are_two():
    vocabulary, _ = vocabulary_of(features_of(["a", "b"]))
    assert places_in(vocabulary, features_of(["c", None, "b"]))[0].tolist() == [UNSEEN, ABSENT, 1]


def test_dates_have_one_vocabulary_whatever_their_unit():
    days = ["2020-01-01", "2021-05-05"]
    made = [
        np.array(days, "datetime64[D]"),
        np.array(days, "datetime64[ns]"),
        pd.Series(pd.to_datetime(days)),
        pl.Series([datetime.date.fromisoformat(day) for day in days]),
    ]
    keys = [vocabulary_of(features_of(each))[0].keys for each in made]
    assert keys == [(tuple(days),)] * 4
    aware = [pd.Series(pd.to_datetime(days)).dt.tz_localize("UTC")]
    aware.append(pl.Series(aware[0].dt.to_pydatetime().tolist()))
    for each in aware:
        assert vocabulary_of(features_of(each))[0].keys[0][0] == "2020-01-01T00:00:00Z"


def test_values_of_two_kinds_with_one_key_are_refused_by_row():
    with pytest.raises(ValueError, match=r"x holds 1 \(row 0\) and '1' \(row 1\)"):
        vocabulary_of(features_of([1, "1", True, 1.0]))
    with pytest.raises(ValueError, match="column 'a' holds 'True'"):
        vocabulary_of(features_of({"a": ["True", True]}))
    with pytest.raises(TypeError, match="row 1: a category must be hashable"):
        vocabulary_of(features_of(np.array(["a", {}], object)))
    vocabulary, places = vocabulary_of(features_of([1, True, 1.0, 0]))
    assert vocabulary.categories == ((True, 0, 1),)
    assert places[0].tolist() == [2, 0, 2, 1]
    texts, _ = vocabulary_of(features_of(["1", "b"]))
    assert places_in(texts, features_of([1, "1", True]))[0].tolist() == [0, 0, UNSEEN]


def test_columns_of_a_frame_are_found_by_their_names():
    vocabulary, _ = vocabulary_of(features_of(pd.DataFrame({"a": [1, 2], "b": ["u", "v"]})))
    turned = pl.DataFrame({"c": [0], "b": ["v"], "a": [1]})
    assert [p.tolist() for p in places_in(vocabulary, features_of(turned))] == [[0], [1]]
    with pytest.raises(ValueError, match="x lacks the columns 'a', 'b'"):
        places_in(vocabulary, features_of({"c": [1]}))


def test_equal_vocabularies_tell_truths_from_numbers():
    one, truth = (vocabulary_of(features_of([value]))[0] for value in (1, True))
    assert one == vocabulary_of(features_of([1.0]))[0]
    assert one != truth


def test_numbers_of_small_dtypes_are_the_same_keys():
    known, _ = vocabulary_of(features_of([1, 2, 2.5, math.nan]))
    for dtype in (jnp.bfloat16, np.float16, np.float32):
        array = np.array([2.5, 1, math.nan, 2, 3], dtype)
        for given in (array, jnp.asarray(array)):
            assert places_in(known, features_of(given))[0].tolist() == [2, 0, 3, 1, UNSEEN]
    assert places_in(known, features_of(jnp.array([2, 1], jnp.int4)))[0].tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
def test_a_narrow_number_has_the_key_of_the_decimal_that_it_was_rounded_from(dtype):
    for text in ("0.1", "-2.7", "1000.1", "0.0003", "12.5", "1e-05", "100"):
        value = np.dtype(dtype).type(float(text))
        short = decimal_of(float(value), dtype)
        assert np.dtype(dtype).type(short) == value
        assert len(repr(short)) <= len(repr(float(text)))
        if dtype is np.float32:
            assert key_of(value) == key_of(float(value)) == key_of(float(text)) == text
        elif dtype is np.float16:
            assert key_of(value) == key_of(short)


@over(number=st.floats(-1e6, 1e6, width=32), seed=st.integers(0, 99))
def test_a_decimal_gives_the_number_again(number, seed):
    """As NumPy writes it; float64 beside it keeps all of its digits."""
    assert np.float32(decimal_of(number, np.float32)) == np.float32(number)
    text = np.format_float_positional(np.float32(number), unique=True)
    assert decimal_of(number, np.float32) == pytest.approx(float(text), rel=1e-7)
    wide = number + seed / 3
    if float(np.float32(wide)) != wide and wide != int(wide):
        assert key_of(wide) == repr(wide)


def test_exact_fractions_keep_their_digits():
    for power in range(1, 16):
        for k in (1, 3, 2**power + 1):
            assert float(key_of(k / 2**power)) == k / 2**power
