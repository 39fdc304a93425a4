"""The same rows become the same inputs, whatever they come in, alone and among others."""

import dataclasses
import datetime
import decimal
import pathlib
import tempfile

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.frames import ARROW, containers, tables, write_csv

import jaxdeep as jd
from jaxdeep.tables import sources

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")


def same(one, other):
    for name in ("numbers", "codes"):
        assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one[name], other[name])


pytestmark = pytest.mark.filterwarnings("ignore:column .* of the cells have values:UserWarning")


def refusal(frame):
    """Why a table is refused."""
    try:
        jd.tables.fit(frame)
    except ValueError as error:
        return str(error)
    return ""


def all_containers_agree(table, later):
    """Fitted in each container it is the same, and later rows of each become the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        lost = "float64 cannot tell"  # whole numbers that lie too close, whatever they are in
        if lost in refusal(table):
            assert all(lost in refusal(frame) for _, frame in containers(table, pathlib.Path(folder)))
            return
        fits = {name: jd.tables.fit(frame) for name, frame in containers(table, pathlib.Path(folder))}
        for name, columns in fits.items():
            assert columns == fits["dict"], name
        columns = fits["dict"]
        expected = columns.encode_inputs(later)
        assert np.isfinite(expected["numbers"]).sum() + np.isnan(expected["numbers"]).sum() == (
            expected["numbers"].size
        )
        for _, frame in containers(later, pathlib.Path(folder)):
            same(columns.encode_inputs(frame), expected)
        rows = [
            columns.encode_inputs({name: [values[i]] for name, values in later.items()})
            for i in range(len(next(iter(later.values()))))
        ]
        same({n: np.concatenate([row[n] for row in rows]) for n in expected}, expected)


@hypothesis.given(tables())
@hypothesis.settings(max_examples=15)
def test_random_tables_are_the_same_in_every_container(both):
    all_containers_agree(*both)


@pytest.mark.heavy
@hypothesis.given(tables(most=25))
@hypothesis.settings(max_examples=200)
def test_two_hundred_random_tables_are_the_same_in_every_container(both):
    all_containers_agree(*both)


TABLE = {
    "age": [31, None, 58, 40],
    "pay": [1.5, 2.5, None, -3.25],
    "city": ["Rome", "Oslo", None, "Oslo"],
    "member": [True, None, False, True],
    "day": [datetime.datetime(2020, 1, 2), None, datetime.datetime(2021, 6, 7, 8), None],
}


def test_missing_is_one_thing_whatever_it_is_called():
    columns = jd.tables.fit(TABLE)
    missing = columns.encode_inputs({key: [None] for key in TABLE})
    nothings = [float("nan"), pandas.NA, pandas.NaT, np.datetime64("NaT", "s"), "", " NA ", "?", "null"]
    for nothing in nothings:
        same(columns.encode_inputs({key: [nothing] for key in TABLE}), missing)
    same(columns.encode_inputs(pandas.DataFrame({key: [None] for key in TABLE})), missing)
    same(columns.encode_inputs(polars.DataFrame({key: [None] for key in TABLE})), missing)
    assert np.isnan(missing["numbers"]).all()
    assert (missing["codes"] == 0).all()


def test_dtypes_of_a_library_make_no_difference():
    columns = jd.tables.fit(TABLE)
    expected = columns.encode_inputs(TABLE)
    frame = pandas.DataFrame(TABLE)
    nullable = frame.convert_dtypes()
    same(columns.encode_inputs(nullable), expected)
    objects = frame.astype(object)
    same(columns.encode_inputs(objects), expected)
    same(columns.encode_inputs(frame.astype({"city": "category"})), expected)
    same(columns.encode_inputs({name: frame[name] for name in frame}), expected)
    same(columns.encode_inputs({name: nullable[name] for name in frame}), expected)
    other = polars.DataFrame(TABLE)
    same(
        columns.encode_inputs(other.with_columns(polars.col("city").cast(polars.Categorical))), expected
    )
    same(columns.encode_inputs(other.with_columns(polars.col("age").cast(polars.Int8))), expected)
    same(columns.encode_inputs({name: other[name] for name in frame}), expected)


@pytest.mark.skipif(not ARROW, reason="pyarrow is not installed")
def test_arrow_columns_are_the_same():
    import pyarrow

    columns = jd.tables.fit(TABLE)
    table = pyarrow.table(TABLE)
    same(columns.encode_inputs(table), columns.encode_inputs(TABLE))
    same(columns.encode_inputs(table.to_batches()[0]), columns.encode_inputs(TABLE))
    frame = pandas.DataFrame(TABLE).convert_dtypes(dtype_backend="pyarrow")
    same(columns.encode_inputs(frame), columns.encode_inputs(TABLE))


def test_one_row_may_hold_cells_of_any_kind():
    day = datetime.date(2020, 2, 1)
    columns = jd.tables.fit(
        {"day": [day, datetime.date(2021, 1, 1)], "n": [1, 2], "city": ["Rome", "Oslo"]}
    )
    expected = columns.encode_inputs({"day": [day], "n": [1], "city": [None]})
    for when in (
        day,
        datetime.datetime(2020, 2, 1),
        pandas.Timestamp("2020-02-01"),
        np.datetime64("2020-02-01"),
    ):
        for number in (1, decimal.Decimal(1), np.float32(1), np.array(1), jnp.float32(1)):
            found = columns.encode_inputs({"day": when, "n": number, "city": pandas.NA})
            for name in ("numbers", "codes"):
                np.testing.assert_array_equal(found[name], expected[name])
    assert np.isnan(columns.encode_inputs({"day": pandas.NaT, "n": 1, "city": "Rome"})["numbers"][0, 0])
    with pytest.raises(TypeError, match="column 'n' must be a list, an array or a series, got int"):
        columns.encode_inputs({"day": [day], "n": 1, "city": ["Rome"]})


def test_columns_are_found_by_name_and_others_are_not_looked_at():
    columns = jd.tables.fit({**TABLE, "y": [0, 1, 1, 0]}, target="y")
    expected = columns.encode_inputs(TABLE)
    turned = dict(reversed(TABLE.items()))
    same(columns.encode_inputs({"x1": [[]] * 4, **turned, "x2": [object()] * 4}), expected)
    same(columns.encode_inputs({**TABLE, "y": ["never", "read", None, 3]}), expected)
    with pytest.raises(ValueError, match=r"lacks the columns 'age', 'city'.*'Age' may be 'age'"):
        columns.encode_inputs({"pay": [1], "Age": [2], "member": [True], "day": [None]})


def test_columns_that_are_not_there_may_be_imputed():
    columns = jd.tables.fit(TABLE, missing_columns="impute")
    without = {name: values for name, values in TABLE.items() if name not in ("age", "city")}
    same(
        columns.encode_inputs(without),
        columns.encode_inputs({**TABLE, "age": [None] * 4, "city": [None] * 4}),
    )
    assert columns.report(without).columns["age"].missing == 4
    assert len(columns.encode_inputs({"other": [1, 2]})["codes"]) == 2


def test_batches_of_any_size_and_no_rows(tmp_path):
    columns = jd.tables.fit(TABLE)
    expected = columns.encode_inputs(TABLE)
    for rows in (1, 3, 4, 7):
        parts = list(columns.blocks(write_csv(tmp_path / "t.csv", TABLE), rows=rows))
        assert [len(part["codes"]) for part in parts] == [rows] * (4 // rows) + [4 % rows] * (
            4 % rows > 0
        )
        same({n: np.concatenate([part[n] for part in parts]) for n in expected}, expected)
    none = {name: [] for name in TABLE}
    for frame in (
        none,
        pandas.DataFrame(none),
        polars.DataFrame(none),
        write_csv(tmp_path / "e.csv", none),
    ):
        empty = columns.encode_inputs(frame)
        assert empty["numbers"].shape == (0, expected["numbers"].shape[1])
        assert empty["codes"].shape == (0, 2)


def test_statistics_are_the_same_in_blocks(tmp_path, monkeypatch):
    """Also of more rows than a block, and than the sample of which quartiles are taken, has."""
    from jaxdeep.tables import fitting, statistics

    monkeypatch.setattr(fitting, "BLOCK", 64)
    monkeypatch.setattr(statistics, "SAMPLE", 100)
    rng = np.random.default_rng(0)
    table = {"a": rng.lognormal(size=500).tolist(), "b": rng.choice(["x", "y", None], 500).tolist()}
    fits = [jd.tables.fit(frame) for _, frame in containers(table, tmp_path)]
    assert all(columns == fits[0] for columns in fits)
    number = fits[0].features[0].numbers[0]
    np.testing.assert_allclose(number.mean, np.mean(table["a"]), rtol=1e-12)
    np.testing.assert_allclose(number.std, np.std(table["a"]), rtol=1e-12)
    assert abs(number.center - np.median(table["a"])) < 0.3  # of 100 of the rows
    assert (number.low, number.high) == (min(table["a"]), max(table["a"]))


@pytest.mark.parametrize(("most", "times"), [(80_000, 1), (64_000, 2), (0, 2)])
def test_few_cells_are_read_once_and_many_again(tmp_path, monkeypatch, most, times):
    from jaxdeep.tables import fitting, sources

    monkeypatch.setattr(fitting, "BLOCK", 64)
    monkeypatch.setattr(sources, "KEPT", most)
    lines = [f"{i / 7},{'xyz'[i % 3]},{i % 2}" for i in range(500)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *lines]))
    source, read = sources.source_of(tmp_path / "t.csv", jd.tables.NULLS), []

    def blocks(names, size):
        read.append(list(names))
        return source.blocks(names, size)

    rows = np.arange(0, 500, 3)
    columns = jd.tables.fit(source._replace(names=("a", "b"), blocks=blocks), rows=rows)
    assert read == [["a", "b"]] * times
    whole = {
        "a": [float(line.split(",")[0]) for line in lines],
        "b": [line.split(",")[1] for line in lines],
    }
    assert columns == jd.tables.fit(whole, rows=rows)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (3, "frame must be a data frame"),
        (np.ones((2, 2)), "frame must be a data frame"),
        ([{"a": 1}], "frame must be a data frame"),
        ({"a": [1, 2], "b": [1]}, "same number of rows, got {'a': 2, 'b': 1}"),
        ({"a": 3, "b": [1]}, "column 'a' must be a list"),
        ({1: [1]}, "names of columns must be text"),
        ({"a": [[1], [2]]}, r"column 'a' must hold numbers.*\[1\] in row 0"),
        ({"a": np.ones((2, 2))}, "column 'a' must have one axis"),
        ({"a": np.ones(2, complex)}, "column 'a' must hold numbers"),
        ({}, "must have a column"),
        ({"a": []}, "must have a row"),
        ("there/is/none.csv", "there is no file"),
        (".", "is a directory"),
    ],
)
def test_what_is_no_table_is_refused(frame, words):
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=words):
        jd.tables.fit(frame)


def test_a_lazy_frame_and_columns_without_names_are_refused():
    with pytest.raises(TypeError, match=r"frame is lazy; collect it"):
        jd.tables.fit(polars.LazyFrame({"a": [1]}))
    with pytest.raises(TypeError, match="names of columns must be text, got 0"):
        jd.tables.fit(pandas.DataFrame(np.ones((2, 2))))
    with pytest.raises(ValueError, match="frame"):
        jd.tables.fit(pandas.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(TypeError, match=r"column 'a' must hold numbers.*List"):
        jd.tables.fit(polars.DataFrame({"a": [[1], [2]]}))


def test_a_parquet_file_needs_a_library(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        jd.tables.fit(tmp_path / "t.parquet")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        jd.tables.fit(tmp_path / "t.parquet")


def test_what_is_a_table_is_told_without_loading_a_library():
    assert sources.is_table(polars.DataFrame())
    assert sources.is_table(pathlib.Path("a.csv"))
    assert not sources.is_table([1.0])
    columns = jd.tables.fit({"a": [1.0, 2.0]})
    assert columns.is_raw({"a": [1]})
    assert not columns.is_raw(columns.encode_inputs({"a": [1]}))
    assert not columns.is_raw(np.ones((2, 1), np.float32))


@pytest.mark.slow
def test_a_million_rows_of_a_file_are_read_in_constant_memory(tmp_path):
    """Blocks hold as much as a block, and are what the whole is; the peak is that of this process."""
    import resource

    rows = 1_000_000
    rng = np.random.default_rng(0)
    frame = polars.DataFrame(
        {
            "a": rng.normal(size=rows),
            "b": rng.integers(0, 100, rows),
            "c": rng.choice(["x", "y", "z"], rows),
            "d": np.arange(rows).astype("M8[s]").astype("M8[ms]"),
        }
    )
    frame.write_parquet(tmp_path / "t.parquet", row_group_size=30_000)
    columns = jd.tables.fit(tmp_path / "t.parquet")
    assert columns == jd.tables.fit(frame)
    expected = columns.encode_inputs(frame[-100:])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = 0
    for part in columns.blocks(tmp_path / "t.parquet", rows=10_000):
        seen += len(part["codes"])
    assert seen == rows
    same({name: values[-100:] for name, values in part.items()}, expected)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 50_000  # kilobytes; all inputs together have 32,000 and the frame 48,000


def test_blanks_around_names_make_no_difference(tmp_path):
    columns = jd.tables.fit({"age ": [31, 58], "city": ["Rome", "Oslo"], "y ": ["no", "yes"]}, "y ")
    expected = columns.encode({"age ": [40], "city": ["Rome"], "y ": ["yes"]})
    path = write_csv(tmp_path / "t.csv", {"y": ["yes"], "city": ["Rome"], "age": [40]})
    for rows in (path, {"age": [40], " city": ["Rome"], "y": ["yes"]}):
        chex.assert_trees_all_equal(columns.encode(rows), expected)
    with pytest.raises(ValueError, match="lacks the column 'age '"):
        columns.encode_inputs({"age": [40], " age": [40], "city": ["Rome"]})  # which of them?


def test_a_narrow_number_is_the_level_of_the_same_decimal(tmp_path):
    """In any container, and the other way round."""
    prices = [0.1, 0.2, 1000.1, 12345.67]
    wide = {"a": prices}
    narrow = {"a": np.array(prices, "f4")}
    pandas.DataFrame(narrow).to_csv(tmp_path / "t.csv", index=False)
    polars.DataFrame(narrow).write_parquet(tmp_path / "t.parquet")
    given = [wide, narrow, {"a": list(map(str, prices))}, {"a": jnp.asarray(narrow["a"])}]
    given += [pandas.DataFrame(narrow), pandas.DataFrame(narrow).astype("Float32")]
    given += [polars.DataFrame(narrow), tmp_path / "t.csv", tmp_path / "t.parquet"]
    if ARROW:
        import pyarrow

        given.append(pyarrow.table(narrow))
    given += [{"a": narrow["a"].tolist()}, {"a": narrow["a"].astype(float)}, {"a": list(narrow["a"])}]
    columns = [jd.tables.fit(frame, kinds={"a": "category"}) for frame in given]
    for one in columns:
        assert one.features[0].levels == ("0.1", "0.2", "1000.1", "12345.67")
        for frame in given:
            assert one.encode_inputs(frame)["codes"][:, 0].tolist() == [2, 3, 4, 5]
    short = jd.tables.fit({"a": [0.1, 0.5, 3]}, kinds={"a": "category"})
    for dtype in np.float16, jnp.bfloat16:
        codes = short.encode_inputs({"a": np.array([0.1, 0.5, 3], dtype)})["codes"]
        assert codes[:, 0].tolist() == [2, 3, 4]


def test_narrow_labels_come_back_as_decimals():
    columns = jd.tables.fit(
        {"x": [1, 2, 3], "y": np.array([0.1, 0.25, 0.1], "f4")}, "y", kinds={"y": "category"}
    )
    assert columns.classes == (0.1, 0.25)
    assert columns.encode({"x": [1, 2], "y": [0.25, 0.1]})[1].tolist() == [1, 0]


def test_levels_that_were_written_as_float32_was_are_found_again():
    """As an earlier version named them."""
    columns = jd.tables.fit({"a": [0.1, 0.3, 2]}, kinds={"a": "category"})
    levels = ("0.10000000149011612", "0.30000001192092896", "2")
    old = dataclasses.replace(columns, features=(columns.features[0]._replace(levels=levels),))
    old = jd.tables.from_json(old.to_json())
    for given in ([0.1, 0.3, 2], np.array([0.1, 0.3, 2], "f4"), ["0.1", "0.3", "2"]):
        assert old.encode_inputs({"a": given})["codes"][:, 0].tolist() == [2, 3, 4]


def test_arrays_and_indices_of_the_libraries_are_columns():
    day = datetime.timedelta(days=1)
    same_as = {
        "Int64": (pandas.array([1, None, 3], dtype="Int64"), [1, None, 3]),
        "boolean": (pandas.array([True, None, False], dtype="boolean"), [True, None, False]),
        "string": (pandas.array(["a", None, "b"], dtype="string"), ["a", None, "b"]),
        "spans": (pandas.to_timedelta([day, None, 3 * day]), [day, None, 3 * day]),
        "wide": (polars.Series([1, None, 2**100], dtype=polars.Int128), [1, None, 2**100]),
    }
    if ARROW:
        import pyarrow

        same_as |= {
            f"arrow {i}": (pyarrow.array(values), values)
            for i, values in enumerate(([1, None, 3], ["a", None, "b"], [True, None, False], [day] * 3))
        }
    for name, (given, values) in same_as.items():
        columns = jd.tables.fit({"x": values}, missing_columns="impute")
        assert jd.tables.fit({"x": given}) == jd.tables.fit({"x": values}), name
        same(columns.encode_inputs({"x": given}), columns.encode_inputs({"x": values}))
        frame = polars.DataFrame({"x": given}) if name == "wide" else pandas.DataFrame({"x": values})
        assert jd.tables.fit(frame) == jd.tables.fit({"x": values})
    words = pandas.CategoricalIndex(["a", None, "b"])
    assert jd.tables.fit({"x": words}) == jd.tables.fit({"x": pandas.Series(words)})


def test_what_is_no_column_is_refused_by_its_name():
    pairs = pandas.MultiIndex.from_tuples([(1, 2), (3, 4)])
    refused = {
        "start_time": pandas.period_range("2020", "2021", freq="Y"),
        "mid": pandas.interval_range(0, 2),
        "pandas.MultiIndex": pairs,
        "pandas.DataFrame": pandas.DataFrame({"a": [1, 2]}),
    }
    for said, given in refused.items():
        with pytest.raises(TypeError, match=f"column 'y'.*{said}"):
            jd.tables.fit({"x": [1, 2], "y": given})


@pytest.mark.parametrize("names", [("numbers", "codes"), ("codes", "numbers"), ("numbers", "x")])
def test_columns_may_be_called_as_the_inputs_are(names):
    rows = {names[0]: [1.0, 2.0, 4.0, None], names[1]: ["a", "b", "b", "a"], "y": [0, 1, 1, 0]}
    columns = jd.tables.fit(rows, "y")
    inputs, targets = columns.encode(rows)
    raw = {name: rows[name] for name in names}
    given = [raw, {name: np.array(values) for name, values in raw.items()}, pandas.DataFrame(raw)]
    for frame in [*given, {name: values[0] for name, values in raw.items()}]:
        assert columns.is_raw(frame)
    model = jd.nn.serial(columns=columns.layer(), out=jd.nn.dense(1))
    params, state = model.init(jax.random.key(0), inputs)
    expected = jd.predict(model, params, state, rows)
    loss = jd.losses.sigmoid_cross_entropy
    for x in (inputs, jax.tree.map(jnp.asarray, inputs)):
        assert not columns.is_raw(x)
        np.testing.assert_array_equal(jd.predict(model, params, state, x), expected)
        found = jd.evaluate(model, params, state, (x, targets), loss=loss)
        assert found == jd.evaluate(model, params, state, rows, loss=loss)
    np.testing.assert_array_equal(jd.predict(model, params, state, raw), expected)


def test_bytes_are_text_in_every_container(tmp_path):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    values = [b"Rome", b"Oslo", None, b"\xff", "caf\xe9".encode(), b"Rome"]
    given = [
        values,
        np.array(values, object),
        np.array([v or b"NA" for v in values]),
        pandas.Series(values),
    ]
    given += [polars.Series(values), polars.Series(values).to_frame("x")["x"]]
    if ARROW:
        import pyarrow

        given += [pyarrow.array(values, kind) for kind in (pyarrow.binary(), pyarrow.large_binary())]
    polars.DataFrame({"x": values}).write_parquet(tmp_path / "t.parquet")
    frames = [{"x": column} for column in given]
    frames += [polars.DataFrame({"x": values}), pandas.DataFrame({"x": values}), tmp_path / "t.parquet"]
    text = ["Rome", "Oslo", None, "\\xff", "caf\xe9", "Rome"]
    expected = jd.tables.fit({"x": text})
    for frame in frames:
        assert jd.tables.fit(frame) == expected
    with pytest.raises(TypeError, match=r"bytearray\(b'a'\) in row 0; make text of it: bytes\(value\)"):
        jd.tables.fit({"x": [bytearray(b"a")]})


LONG = "L" * 10_000
TABLE_OF_TEN = {"x": np.arange(10.0)}


@pytest.mark.parametrize(
    "call",
    [
        lambda: jd.tables.fit(
            {**TABLE_OF_TEN, "y": [*map(str, range(9)), LONG]}, "y", kinds={"y": "number"}
        ),
        lambda: jd.tables.fit({**TABLE_OF_TEN, "y": [LONG] * 10}, "y"),
        lambda: jd.tables.fit({**TABLE_OF_TEN, "y": [LONG, "b"] * 5}, "y").encode_labels(["c"]),
        lambda: jd.tables.fit({**TABLE_OF_TEN, "y": ["a", "b"] * 5}, "y").encode_labels([LONG]),
        lambda: jd.tables.fit({**TABLE_OF_TEN, LONG: [1, None] * 5}, LONG),
        lambda: jd.tables.fit(TABLE_OF_TEN, LONG),
        lambda: jd.tables.fit({LONG: [1]}, "y"),
        lambda: jd.tables.fit({LONG: [1, "1"]}),
        lambda: jd.tables.fit({"x": [1, LONG]}),
        lambda: jd.tables.fit({"x": [[LONG]]}),
        lambda: jd.tables.fit({LONG: [1], "x": [1, 2]}),
        lambda: jd.tables.fit({LONG: [1j]}),
        lambda: jd.tables.fit({LONG: np.array([2**62], "M8[s]")}),
        lambda: jd.tables.fit(TABLE_OF_TEN, kinds={LONG: "number"}),
        lambda: jd.tables.fit(TABLE_OF_TEN, kinds={"x": LONG}),
        lambda: jd.tables.fit({LONG: [1.0, 2.0]}).encode_inputs({LONG + "a": [1]}),
        lambda: jd.tables.fit({"x": ["a", "b"]}, unknown="error").encode_inputs({"x": [LONG]}),
        lambda: jd.tables.fit({"x": ["a", "b"]}).layer(encodings={LONG: "drop"}),
        lambda: jd.tables.fit({"x": ["a", "b"]}).layer(encodings={"x": LONG}),
    ],
)
def test_errors_do_not_repeat_what_is_long(call):
    with pytest.raises((ValueError, TypeError), match=r"L{20}|'c'") as info:
        call()
    assert len(str(info.value)) < 500
    assert "LLL…" in str(info.value)
