"""Cells as numbers and codes: what is missing, what is unknown, and what becomes of dates."""

import datetime
import decimal
import pathlib

import chex
import jax
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep.tables import encoding


def codes(columns, **cells):
    return columns.encode_inputs(cells)["codes"].ravel().tolist()


def numbers(columns, **cells):
    return columns.encode_inputs(cells)["numbers"].ravel().tolist()


def test_unknown_and_missing_are_two_things_and_counted():
    columns = jd.tables.fit({"x": ["a", "b"]})
    assert codes(columns, x=["c", None, "a", "b"]) == [1, 0, 2, 3]
    report = columns.report({"x": ["c", None]})
    assert report.columns["x"] == jd.tables.Tally(2, 1, 1, (0, "c"))
    assert "x             1        1  'c' in row 0" in str(report)
    assert "nothing is missing or unknown" in str(columns.report({"x": ["a"]}))


def test_whole_numbers_and_floats_are_the_same():
    for declared in ({}, {"x": "category"}):
        columns = jd.tables.fit({"x": [1, 2, 3]}, kinds=declared)
        for cells in ([1.0, float("nan"), 3.0], ["1", "", "3.0"], np.array([1, np.nan, 3], np.float16)):
            found = columns.encode_inputs({"x": cells})
            expected = columns.encode_inputs({"x": [1, None, 3]})
            for name in found:
                np.testing.assert_array_equal(found[name], expected[name])
    assert codes(columns, x=[1, None, 3.0, 4]) == [2, 0, 4, 1]


@pytest.mark.parametrize(
    "cells",
    [
        [True, False, None],
        [1, 0, None],
        [1.0, 0.0, float("nan")],
        ["True", "false", ""],
        ["1", "0.0", "NA"],
        [True, "false", None],
    ],
)
def test_booleans_may_come_in_any_form(cells):
    columns = jd.tables.fit({"x": [True, False, None, True]})
    assert codes(columns, x=cells) == [3, 2, 0]
    assert codes(columns, x=[True, True]) == [3, 3]
    assert codes(columns, x=["maybe", 2, None, True]) == [1, 1, 0, 3]


@pytest.mark.parametrize("levels", [[True, False], ["true", "false"], ["False", "True"]])
def test_a_category_of_true_and_false_knows_each_form_of_them(levels, tmp_path):
    """As polars writes them to a file, too."""
    pandas = pytest.importorskip("pandas")
    for given, kinds in ((levels, {"x": "category"}), (pandas.Series(levels, dtype="category"), {})):
        columns = jd.tables.fit({"x": given}, kinds=kinds)
        assert columns.features[0].kind == "category"
        for cells in (
            [True, False, None],
            ["True", "False", ""],
            [" true", "FALSE", None],
            [1, 0, None],
            ["1", "0.0", None],
            [True, "false", None],
        ):
            assert codes(columns, x=cells) == [3, 2, 0]
        (tmp_path / "t.csv").write_text("x\ntrue\nfalse\nNA\n")
        assert columns.encode_inputs(tmp_path / "t.csv")["codes"].ravel().tolist() == [3, 2, 0]
        assert [codes(columns, x=[odd]) for odd in ("maybe", 2, 0.5)] == [[1]] * 3
    both = jd.tables.fit({"x": [True, "true", 1]}, kinds={"x": "category"})
    assert codes(both, x=[1, True, "true", "TRUE"]) == [2, 3, 4, 1]


def test_a_text_that_no_program_writes_for_a_number_is_a_level_of_its_own():
    texts = ["10.1", "10.10", "10.9.1", "1e400", "2e500", "0.50", "1e5", "1E5", "+1", "007", "1e-400"]
    texts += ["9007199254740993.0", "9007199254740992.0", "1" * 400 + ".0", "1e+999", "0.00"]
    columns = jd.tables.fit({"x": texts}, kinds={"x": "category"})
    assert len(columns.features[0].levels) == len(texts)
    for text in texts:
        alone = codes(columns, x=[text])
        assert alone == codes(columns, x=[text, 3])[:1]
        assert min(alone) > 1
    assert codes(columns, x=[10.1]) == codes(columns, x=["10.1"])
    for other in ("10.100", 1, 7, float("inf"), 1e5, "0.5"):
        assert codes(columns, x=[other]) == [1]


NUMBERS = [1.0, -3.0, 1.5, 0.0, 1e-4, 1e-5, -1.5e-7, 1e7, 1e15, 1e16, 1.5e16, 1e22, 1e300, 0.1 + 0.2]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_number_is_the_level_that_programs_write_for_it(dtype, tmp_path):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    most = 1e8 if dtype == np.float32 else 1e301  # beyond, float32 is another whole number
    x = np.array([number for number in NUMBERS if number < most], dtype)
    columns = jd.tables.fit({"x": x}, kinds={"x": "category"})
    expected = columns.encode_inputs({"x": x})["codes"]
    pandas.DataFrame({"x": x}).to_csv(tmp_path / "pandas.csv", index=False)
    polars.DataFrame({"x": x}).write_csv(tmp_path / "polars.csv")
    written = [[str(number) for number in x], tmp_path / "pandas.csv", tmp_path / "polars.csv"]
    for given in written:
        frame = given if isinstance(given, pathlib.Path) else {"x": [*given, "other"]}
        found = columns.encode_inputs(frame)["codes"][: len(x)]
        np.testing.assert_array_equal(found, expected)


def test_of_a_file_of_numbers_alone_a_level_is_the_number(tmp_path):
    pandas = pytest.importorskip("pandas")
    file = tmp_path / "t.csv"
    file.write_text("x\n0.50\n0.5\n1.00\n2\n")
    columns = jd.tables.fit(file, kinds={"x": "category"})
    assert columns.features[0].levels == ("0.5", "1", "2")
    assert columns == jd.tables.fit(pandas.read_csv(file), kinds={"x": "category"})
    assert columns.encode_inputs(file)["codes"].ravel().tolist() == [2, 2, 3, 4]
    assert codes(columns, x=["0.50", "0.5", "1.0", 2.0]) == [1, 2, 3, 4]
    file.write_text("x\n0.50\n0.5\n1.00\nXL\n")
    assert jd.tables.fit(file).features[0].levels == ("0.5", "0.50", "1.00", "XL")


def test_nullable_booleans_are_booleans():
    pandas = pytest.importorskip("pandas")
    columns = jd.tables.fit({"x": pandas.Series([True, None, False], dtype="boolean")})
    assert columns.features[0].kind == "boolean"
    assert codes(columns, x=pandas.Series([True, None], dtype="boolean")) == [3, 0]


def test_large_ids_are_told_apart():
    ids = [16_777_216, 16_777_217, 2**53, 2**53 + 1, 2**64 - 1, 2**70]
    columns = jd.tables.fit({"x": ids}, kinds={"x": "category"})
    assert codes(columns, x=ids) == [2, 3, 4, 5, 6, 7]
    assert codes(columns, x=[str(i) for i in ids]) == [2, 3, 4, 5, 6, 7]
    wide = jd.tables.fit({"x": np.array(ids[:4], np.int64)}, kinds={"x": "category"})
    assert codes(wide, x=np.array(ids[:4], np.uint64)) == [2, 3, 4, 5]


def test_large_numbers_keep_their_digits():
    x = 1.7e9 + np.arange(100)
    columns = jd.tables.fit({"x": x})
    layer = columns.layer(scaling="standard", clip=False)
    inputs = columns.encode_inputs({"x": x})
    found = layer.apply(*layer.init(jd_key(), inputs), inputs)[0][:, 0]
    np.testing.assert_allclose(found, (x - x.mean()) / x.std(), rtol=1e-6)


def jd_key():
    import jax

    return jax.random.key(0)


@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1.0, 1e40, 1e300])
def test_numbers_beyond_float32_are_scaled(scale):
    x = scale * np.linspace(-1, 1, 101)
    columns = jd.tables.fit({"x": x})
    inputs = columns.encode_inputs({"x": x})
    layer = columns.layer(scaling="standard", clip=False)
    found = np.asarray(layer.apply(*layer.init(jd_key(), inputs), inputs)[0][:, 0])
    np.testing.assert_allclose(
        found, np.linspace(-1, 1, 101) / np.linspace(-1, 1, 101).std(), rtol=1e-5, atol=1e-7
    )
    far = columns.encode_inputs({"x": [1.7e308, -1.7e308, np.inf, None]})
    z = np.asarray(layer.apply(*layer.init(jd_key(), far), far)[0][:, 0])
    assert np.isfinite(z).all()
    assert np.isnan(far["numbers"][2:]).all()


def test_what_is_infinite_is_unknown():
    columns = jd.tables.fit({"x": [1.0, np.inf, 3.0, None]})
    column = columns.features[0]
    assert (column.known, column.missing, column.unknown) == (2, 1, 1)
    assert column.numbers[0].center == 2.0
    assert columns.report({"x": [-np.inf]}).columns["x"].unknown == 1


def test_unknown_values_are_refused_if_that_is_wished():
    columns = jd.tables.fit({"x": ["a", "b"], "n": [1, 2], "t": [True, False]}, unknown="error")
    fine = {"x": ["a"], "n": ["3.5"], "t": [None]}
    columns.encode_inputs(fine)
    with pytest.raises(ValueError, match="column 'x': 'c' in row 1 is none of its 2 levels"):
        columns.encode_inputs({"x": ["a", "c"], "n": [1, 1], "t": [True] * 2})
    with pytest.raises(ValueError, match="column 'n': 'many' in row 0 is no number"):
        columns.encode_inputs({**fine, "n": ["many"]})
    with pytest.raises(ValueError, match="column 't': 7 in row 0 is no boolean"):
        columns.encode_inputs({**fine, "t": [7]})
    columns.encode_inputs({**fine, "t": [7]}, unknown="code")
    with pytest.raises(ValueError, match="unknown must be 'code' or 'error'"):
        columns.encode_inputs(fine, unknown="ignore")


def test_many_unknown_values_are_warned_of():
    columns = jd.tables.fit({"x": ["a", "b"]})
    with pytest.warns(
        UserWarning, match="column 'x': 11% of the cells have values.*such as 'A'"
    ) as caught:
        columns.encode_inputs({"x": ["a"] * 90 + ["A"] * 11})
    assert caught[0].filename == __file__
    columns.encode_inputs({"x": ["a"] * 91 + ["A"] * 10})  # a tenth
    columns.encode_inputs({"x": ["c"] * 9 + ["a"]})  # few
    for rows in (2, 5):  # all, however few, but for a row alone
        with pytest.warns(UserWarning, match="column 'x': 100% of the cells have values.*such as 'c'"):
            columns.encode_inputs({"x": ["c"] * rows + [None]})
    columns.encode_inputs({"x": ["c"]})


@pytest.mark.parametrize("null", ["-999", "-999.0", " -9.99e2"])
def test_a_number_that_stands_for_missing_does_so_in_every_container(null, tmp_path):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    numbers, gone = [-999, 7, 3], [True, False, False]
    files = {name: tmp_path / f"{name}.csv" for name in ("whole", "floats", "texts")}
    files["whole"].write_text("x\n-999\n7\n3\n")
    files["floats"].write_text("x\n-999.0\n7.0\n3.0\n")
    files["texts"].write_text("x\n -999\n7\n3.0\n")
    frames = [
        {"x": numbers},
        {"x": np.array(numbers, np.int16)},
        {"x": np.array(numbers, np.float32)},
        {"x": [decimal.Decimal(-999), 7.0, 3]},
        {"x": ["-999.00", "7", "3"]},
        pandas.DataFrame({"x": numbers}, dtype="Int64"),
        polars.DataFrame({"x": [-999.0, 7.0, 3.0]}),
        *files.values(),
    ]
    polars.DataFrame({"x": numbers}).write_parquet(tmp_path / "x.parquet")
    for frame in (*frames, tmp_path / "x.parquet"):
        columns = jd.tables.fit(frame, null=[*jd.tables.NULLS, null], kinds={"x": "number"})
        assert columns.features[0].missing == 1, frame
        assert columns.features[0].numbers[0].low == 3
        for other in frames:  # later rows
            assert np.isnan(columns.encode_inputs(other)["numbers"][:, 0]).tolist() == gone
    as_levels = jd.tables.fit({"x": ["-999", "a", "b"]}, null=[null])
    assert codes(as_levels, x=[-999, "-999.0", "a"]) == [0, 0, 2]
    # and of the precision that a column has
    values = np.array([-999.9, 1, 2], np.float32)
    assert jd.tables.fit({"x": values}, null=["-999.9"]).features[0].missing == 1


def test_a_column_whose_kind_drifts_is_unknown_and_no_error():
    columns = jd.tables.fit(
        {"a": [None, None], "n": [1, 2], "d": ["2020-01-01", "2021-01-01"], "c": ["x", "y"]}
    )
    found = columns.encode_inputs(
        {"a": ["text"], "n": [datetime.date(2020, 1, 1)], "d": [3], "c": [True]}
    )
    assert np.isnan(found["numbers"]).all()
    assert found["codes"].tolist() == [[1]]
    assert [
        tally.unknown
        for tally in columns.report({"a": ["t"], "n": ["t"], "d": ["t"], "c": ["t"]}).columns.values()
    ] == [1] * 4


# --- dates ------------------------------------------------------------------------------------------


def same_instants(columns, first, *others):
    expected = columns.encode_inputs({"x": first})["numbers"]
    for other in others:
        np.testing.assert_array_equal(columns.encode_inputs({"x": other})["numbers"], expected)


def test_an_instant_is_the_same_in_every_unit_and_container():
    texts = ["1677-09-22", "2300-02-28", "1969-12-31", "2024-02-29"]
    columns = jd.tables.fit({"x": texts})
    days = [datetime.date.fromisoformat(text) for text in texts]
    units = [np.array(texts, f"M8[{unit}]") for unit in ("D", "s", "ms", "us")]
    same_instants(columns, texts, days, *units, [np.datetime64(text) for text in texts])
    for library in ("pandas", "polars"):
        module = pytest.importorskip(library)
        same_instants(columns, texts, module.Series(days), module.Series(units[2]), module.Series(texts))
    fine = ["2020-01-01T10:30:00.123456789", "2020-01-01T10:30:00"]
    columns = jd.tables.fit({"x": fine})
    same_instants(columns, fine, np.array(fine, "M8[ns]"), np.array(fine, "M8[us]"))
    assert [number.name for number in columns.features[0].numbers[-2:]] == ["day_sin", "day_cos"]


def test_instants_with_zones_are_those_of_utc():
    utc = ["2020-01-01T10:00:00Z", "2020-06-01 00:30:00+00:00"]
    columns = jd.tables.fit({"x": utc})
    aware = [datetime.datetime.fromisoformat(text) for text in utc]
    there = datetime.timezone(datetime.timedelta(hours=2))
    same_instants(
        columns,
        utc,
        ["2020-01-01T12:00:00+02:00", "2020-05-31T22:30:00-0200"],
        aware,
        [value.astimezone(there) for value in aware],
    )
    pandas = pytest.importorskip("pandas")
    series = pandas.to_datetime(pandas.Series(utc), utc=True, format="ISO8601")
    same_instants(columns, utc, series, series.dt.tz_convert("Europe/Rome"), series.astype(object))
    with pytest.raises(
        ValueError, match="'x' holds dates with no time zone, and was fitted to dates with one"
    ):
        columns.encode_inputs({"x": ["2020-01-01"]})
    with pytest.raises(ValueError, match="dates with a time zone, and was fitted to dates with none"):
        jd.tables.fit({"x": ["2020-01-01"]}).encode_inputs({"x": utc})


@pytest.mark.parametrize(
    "values",
    [
        ["2020-01-01", "2020-01-01T00:00:00Z"],
        [datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)],
    ],
)
def test_dates_with_and_without_a_zone_are_refused(values):
    with pytest.raises(
        ValueError, match="column 'x' holds dates with a time zone and dates without one"
    ):
        jd.tables.fit({"x": values})
    columns = jd.tables.fit({"x": values[:1]})
    with pytest.raises(ValueError, match="column 'x'"):
        columns.encode_inputs({"x": values})


@pytest.mark.parametrize("zone", [None, datetime.UTC])
def test_a_date_beside_a_text_or_a_number_is_what_it_is_alone(zone):
    pandas = pytest.importorskip("pandas")
    days = [datetime.datetime(2024, month, 1, tzinfo=zone) for month in range(1, 6)]
    columns = jd.tables.fit({"x": days})
    alone = columns.encode_inputs({"x": days[2:3]})["numbers"][0]
    naive = [np.datetime64("2024-03-01"), np.datetime64("2024-03-01", "ns"), datetime.date(2024, 3, 1)]
    for day in (days[2], pandas.Timestamp(days[2]), *(naive if zone is None else [])):
        for other in (str(days[2]), "soon", 3, 2.5, True):
            found = columns.encode_inputs({"x": [day, other, None]})["numbers"]
            np.testing.assert_array_equal(found[0], alone)
            np.testing.assert_array_equal(found[1], alone if other == str(days[2]) else alone * np.nan)
    stamps = [*map(pandas.Timestamp, days), str(days[0])]
    assert jd.tables.fit({"x": stamps}, kinds={"x": "date"}).features[0].known == 6
    other_zone = "2024-03-01T00:00:00Z" if zone is None else "2024-03-01"
    with pytest.raises(ValueError, match="'x' holds dates with a time zone and dates without one"):
        columns.encode_inputs({"x": [days[2], other_zone]})


def test_a_span_is_the_same_number_in_every_container():
    """pandas' were a microsecond off, and those below zero rounded up."""
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    spans = np.random.default_rng(0).integers(0, 10**7, 5000).astype("m8[us]")
    for given in (spans, np.array([-1, -999, -1001, 999, 1001, "NaT"], "m8[ns]")):
        columns = jd.tables.fit({"x": given})
        rounded_down = np.floor(given[:5].astype("m8[ns]").astype(float) / 1e3) / 1e6
        expected = np.float32(rounded_down - columns.features[0].numbers[0].center)
        unit = columns.features[0].numbers[0].unit
        np.testing.assert_allclose(
            columns.encode_inputs({"x": given[:5]})["numbers"][:, 0], expected / unit, rtol=1e-6
        )
        others = [pandas.Series(given), polars.Series(given), list(given), list(pandas.Series(given))]
        same_instants(columns, given, *others, pandas.Series(given).astype(object))


def test_the_parts_of_a_date():
    texts = ["2023-01-01T06:00", "2023-07-02T18:00", "2024-12-31T12:00", ""]
    columns = jd.tables.fit({"x": texts})
    column = columns.features[0]
    names = [number.name for number in column.numbers]
    assert names == ["elapsed", "year_sin", "year_cos", "week_sin", "week_cos", "day_sin", "day_cos"]
    found = columns.encode_inputs({"x": texts})["numbers"].astype(np.float64)
    found += [number.center for number in column.numbers]
    for row, text in zip(found[:3], texts):
        when = datetime.datetime.fromisoformat(text)
        hours = when.hour / 24
        turns = [
            (when.timetuple().tm_yday - 1 + hours) / 365.2425,
            (when.weekday() + hours) / 7,
            hours,
        ]
        expected = [part(2 * np.pi * turn) for turn in turns for part in (np.sin, np.cos)]
        np.testing.assert_allclose(row[1:], expected, atol=1e-6)
        np.testing.assert_allclose(
            row[0], (when - datetime.datetime(1970, 1, 1)).total_seconds() / 86400, atol=1e-4
        )
    assert np.isnan(found[3]).all()
    days = jd.tables.fit({"x": ["2023-01-01", "2023-07-02"]})
    assert len(days.features[0].numbers) == 5  # without times
    assert "in 2023: 5" in days.summary()


def test_rows_are_put_apart_as_one_would_take_them_from_the_whole():
    table = {"x": np.arange(10.0), "c": list("abcabcabca"), "y": [0, 1] * 5}
    columns = jd.tables.fit(table, "y")
    inputs, targets = columns.encode(table)
    rows = {"a": np.array([7, 1, 4]), "b": np.array([], int), "c": np.array([9, 0])}
    found = encoding.apart(encoding.blocks(columns, table, None, targets=True, rows=3), rows)
    for name, own in rows.items():
        chex.assert_trees_all_equal(found[name].inputs, {key: a[own] for key, a in inputs.items()})
        np.testing.assert_array_equal(found[name].targets, targets[own])
        assert all(array.ctypes.data % 64 == 0 for array in found[name] if array.size)


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_a_level_of_few_bits_is_the_same_alone_and_in_a_list(dtype):
    g = np.random.default_rng(0).normal(size=40).astype(jax.numpy.dtype(dtype))
    columns = jd.tables.fit({"g": g}, kinds={"g": "category"})
    codes = columns.encode_inputs({"g": g})["codes"][:, 0].tolist()
    assert min(codes) == 2
    others = [3.5, 4, None]
    for given, expected in [
        *((one, [code]) for one, code in zip(g, codes)),
        (list(g), codes),
        ([None, *g[:2], g.dtype.type(np.nan)], [0, *codes[:2], 0]),
        ([*g[:2], *others], [*codes[:2], 1, 1, 0]),
        (np.array([*g[:3], *others], object), [*codes[:3], 1, 1, 0]),
    ]:
        assert columns.encode_inputs({"g": given})["codes"][:, 0].tolist() == expected
    numbers = jd.tables.fit({"g": g})
    np.testing.assert_array_equal(
        numbers.encode_inputs({"g": list(g)})["numbers"], numbers.encode_inputs({"g": g})["numbers"]
    )


def test_scalars_of_numpy_are_missing_and_whole_as_those_of_arrays_are():
    columns = jd.tables.fit({"a": [1.5, 2.5]}, null=["-9.9"])
    for nothing in (np.float32(-9.9), np.float16(-9.9), np.float64(-9.9)):
        for given in ([nothing], [nothing, 1], np.array([nothing])):
            assert np.isnan(columns.encode_inputs({"a": given})["numbers"][0, 0])
    big = 2**53 + 1
    levels = jd.tables.fit({"a": [big, 0.5]}, kinds={"a": "category"})
    assert levels == jd.tables.fit({"a": [np.int64(big), 0.5]}, kinds={"a": "category"})
