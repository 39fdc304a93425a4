"""Columns as text and in a saved model: the same in a new process, where no library of frames is."""

import json
import pathlib
import shutil
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

import jaxdeep as jd

FIXTURE = pathlib.Path(__file__).parents[1] / "fixtures" / "tables"
ROWS = {
    "age": [31, None, 58, 44.5],
    "city": ["Rome", "Oslo", None, "Zürich ✓"],
    "street": [f"{i} way" for i in range(4)],
    "member": [True, False, None, True],
    "day": ["2020-01-02", None, "2021-06-07T08:30", "2019-12-31"],
    "zone": ["2020-01-02T00:00Z", "2020-01-02T00:00+01:00", None, "2021-01-01T00:00Z"],
    "nothing": [None] * 4,
    "y": ["no", "yes", "maybe", "no"],
}


def network(columns):
    return jd.nn.serial(
        columns=columns.layer(one_hot=2, embedding=3), logits=jd.nn.dense(columns.outputs)
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved model of the rows, and what it puts out for them."""
    path = tmp_path_factory.mktemp("saved") / "people"
    columns = jd.tables.fit(ROWS, target="y", missing_columns="impute")
    model = network(columns)
    inputs = columns.encode_inputs(ROWS)
    params, state = model.init(jax.random.key(0), inputs)
    jd.save(path, model, params, state)
    return path, columns, model.apply(params, state, inputs)[0]


def test_columns_are_the_same_as_text():
    columns = jd.tables.fit(ROWS, target="y", unknown="error", null=["", "-"], min_frequency=1)
    again = jd.tables.from_json(columns.to_json())
    assert again == columns
    assert hash(again) == hash(columns)
    assert again.summary() == columns.summary()
    assert again.checksum == columns.checksum
    assert again != jd.tables.fit(ROWS, target="y")
    assert "Zürich ✓" in columns.to_json()  # readable
    assert repr(columns) == "Columns(7 columns of 4 rows, target='y')"


def test_text_that_was_changed_or_cut_off_is_refused():
    text = jd.tables.fit(ROWS, target="y").to_json()
    for old, new in (("Oslo", "Bonn"), ('"missing": 1', '"missing": 2'), ("44.5", "44.25")):
        assert old in text
        with pytest.raises(ValueError, match="do not have their checksum"):
            jd.tables.from_json(text.replace(old, new))
    with pytest.raises(ValueError, match="is not JSON, or was cut off"):
        jd.tables.from_json(text[:-20])
    with pytest.raises(ValueError, match=r"of format version 99.*install a newer one"):
        jd.tables.from_json(text.replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(ValueError, match="no columns that jaxdeep wrote"):
        jd.tables.from_json("{}")
    with pytest.raises(TypeError, match="text must be the text"):
        jd.tables.from_json(b"{}")


def test_models_of_equal_columns_are_equal():
    one, other = (jd.tables.fit(ROWS, target="y") for _ in range(2))
    assert one.layer() == other.layer()
    assert hash(one.layer()) == hash(other.layer())
    assert one.layer() != one.layer(embedding=4)
    assert one.layer() != jd.tables.fit(ROWS).layer()
    with pytest.raises(AttributeError):
        one.rows = 5


def test_a_saved_model_takes_raw_rows(saved):
    path, columns, expected = saved
    model, params, state = jd.load(path)
    assert model == network(columns)
    encodes = model.layers["columns"].traits.encodes
    assert encodes == columns
    found = model.apply(params, state, encodes.encode_inputs(ROWS))[0]
    np.testing.assert_array_equal(found, expected)
    assert jd.saving.from_config(jd.saving.to_config(model)) == model


def test_a_vocabulary_that_was_edited_in_the_file_is_refused(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "edited")
    file = tmp_path / "edited" / "model.json"
    text = file.read_text()
    assert '"Oslo"' in text
    file.write_text(text.replace('"Oslo"', '"Bonn"'))
    with pytest.raises(ValueError, match="checksum"):
        jd.load(tmp_path / "edited")
    config = json.loads(text)["architecture"]
    config["layers"]["columns"]["config"]["table"]["columns"]["columns"][1]["levels"].pop()
    with pytest.raises(ValueError, match=r"layer columns: table: .*do not have their checksum"):
        jd.saving.from_config(config)


BARE = """
    import json, sys

    class Nothing:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("pandas", "polars", "pyarrow", "narwhals", "sklearn"):
                raise ImportError(name)

    sys.meta_path.insert(0, Nothing())
    import numpy as np
    import jaxdeep as jd

    model, params, state = jd.load(sys.argv[1])
    rows = json.loads(sys.argv[2])
    columns = model.layers["columns"].traits.encodes
    whole = np.asarray(model.apply(params, state, columns.encode_inputs(rows))[0])
    for i in range(4):
        row = {name: values[i] for name, values in rows.items() if name != "y"}
        one = np.asarray(model.apply(params, state, columns.encode_inputs(row))[0])
        np.testing.assert_allclose(one, whole[i : i + 1], rtol=1e-6, atol=1e-6)
        for name, values in columns.encode_inputs(row).items():
            np.testing.assert_array_equal(values, columns.encode_inputs(rows)[name][i : i + 1])
    print(json.dumps([whole.tolist(), columns.labels(whole.argmax(1)).tolist()]))
"""


@pytest.mark.heavy
def test_a_new_process_without_any_library_of_frames_finds_the_same(saved):
    path, columns, expected = saved
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BARE), path, json.dumps(ROWS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, labels = json.loads(done.stdout)
    np.testing.assert_array_equal(np.array(found, np.float32), expected)
    assert labels == columns.labels(np.argmax(expected, 1)).tolist()


def test_a_model_that_was_saved_by_the_first_version_is_read():
    """`tests/fixtures/tables/make.py` wrote it, once."""
    model, params, state = jd.load(FIXTURE / "saved")
    recorded = json.loads((FIXTURE / "recorded.json").read_text())
    columns = model.layers["columns"].traits.encodes
    assert columns == jd.tables.from_json((FIXTURE / "columns.json").read_text())
    inputs = columns.encode_inputs(recorded["rows"])
    assert inputs["codes"].tolist() == recorded["codes"]
    np.testing.assert_array_equal(inputs["numbers"], np.array(recorded["numbers"], np.float32))
    outputs, _ = model.apply(params, state, inputs)
    np.testing.assert_allclose(outputs, recorded["outputs"], rtol=1e-5, atol=1e-6)
    *summary, total = columns.summary().splitlines()
    assert summary == recorded["summary"][:-1]
    assert total.startswith(recorded["summary"][-1])


def test_statistics_and_levels_are_those_of_the_rows_that_are_named():
    rng = np.random.default_rng(0)
    n = 200
    frame = {
        "id": np.arange(n) + 7,
        "age": np.where(rng.random(n) < 0.1, np.nan, rng.normal(40, 10, n)),
        "city": [f"city {i}" for i in rng.integers(0, 9, n)],
        "day": np.datetime64("2024-01-01") + rng.integers(0, 400, n),
        "y": ["rare", *rng.choice(["no", "yes"], n - 1)],
    }
    rows = np.sort(rng.permutation(np.arange(1, n))[:80])
    part = {name: np.asarray(column)[rows] for name, column in frame.items()}
    alone, fitted = (jd.tables.fit(part, "y"), jd.tables.fit(frame, "y", rows=rows))
    assert fitted.rows == len(rows)
    assert [c._replace(notes=()) for c in fitted.features] == [
        c._replace(notes=()) for c in alone.features
    ]
    assert "counts the rows" in fitted.summary()  # though those between are not there
    assert fitted.classes == ("no", "rare", "yes")  # every row can be encoded
    assert fitted.target.counts == (alone.target.counts[0], 0, alone.target.counts[1])
    fitted.encode(frame)
    by_targets = jd.tables.fit(frame, "y", rows=lambda y: np.flatnonzero(np.isin(np.arange(n), rows)))
    assert by_targets == fitted


def test_the_target_of_a_regression_is_that_of_the_rows_that_are_named():
    y = np.r_[np.linspace(0, 1, 50), 1000.0]
    columns = jd.tables.fit({"x": np.arange(51.0), "y": y}, "y", rows=np.arange(50))
    assert columns.target.high == 1
    assert columns.target.mean == pytest.approx(0.5)
    seen = []
    jd.tables.fit({"x": np.arange(51.0), "y": y}, "y", rows=lambda y: seen.append(y) or [0, 1])
    np.testing.assert_array_equal(seen[0], np.float32(y))


def test_a_column_without_values_in_the_named_rows_stays():
    frame = {
        "a": ["x", None, None],
        "b": [None, 1.0, 2.0],
        "c": ["2020-01-01", None, None],
        "d": [1, 2, 3],
    }
    columns = jd.tables.fit(frame, rows=[1, 2])
    assert columns.names == ("a", "b", "c", "d")
    layer = columns.layer()
    inputs = columns.encode_inputs(frame)
    params, state = layer.init(jax.random.key(0), inputs)
    assert np.isfinite(layer.apply(params, state, inputs)[0]).all()


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([0, 5], ValueError, r"rows must be in \[0, 2\), the rows of the frame, got 5"),
        ([], ValueError, "rows must name a row, got none"),
        (np.arange(0), ValueError, "rows must name a row, got none"),
        ([1, 0, 0], ValueError, "rows must name each row once, got 0 2 times"),
        ([0.5], TypeError, "rows must be numbers of rows, whole and in one axis, got float"),
        ([[0]], TypeError, "rows must be numbers of rows"),
        (lambda y: y, ValueError, "rows is a function of the targets, and there is no target"),
    ],
)
def test_rows_that_there_are_not_are_refused(rows, error, message):
    with pytest.raises(error, match=message):
        jd.tables.fit({"a": [1, 2]}, rows=rows)


@pytest.mark.parametrize("kind", [int, str])
def test_whole_numbers_that_float64_cannot_tell_are_refused_but_as_levels(kind):
    ids = [kind(2**60 + k) for k in range(40)]
    frame = {"id": [*ids, None], "y": np.arange(41) % 2}
    with pytest.raises(ValueError, match=f"column 'id' holds numbers from {2**60} to .* float64 cannot"):
        jd.tables.fit(frame, target="y", kinds={"id": "number"})
    codes = jd.tables.fit(frame, target="y", kinds={"id": "category"}).encode(frame)[0]["codes"]
    assert len(np.unique(codes)) == 41
