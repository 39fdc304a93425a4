"""Saved tables come back bit for bit, and what is damaged is named."""

import contextlib
import functools
import json
import math
import os
import pathlib
import zipfile

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxdeep.search.spaces import distributions
from jaxdeep.search.tables import files
from jaxdeep.search.tables.result import ENDED, NotKept, Result, Span
from jaxdeep.search.tables.table import Table

HISTORY = {
    "loss": np.array([1.5, np.nan, -np.inf], np.float32),
    "val/accuracy": np.array([0.1, 0.2, 1e-300]),
    "steps": np.array([1, 2, 2**40]),
    "per class": np.arange(6, dtype=np.float16).reshape(3, 2),
    "half": jnp.array([1.0, 2.5, jnp.nan], jnp.bfloat16),
}
PARAMS = {
    "a/b": np.arange(4, dtype=">f4"),
    "a": {"b": jnp.arange(3, dtype=jnp.bfloat16), "7": {7: [np.float64(3.0), (np.ones((0, 2)), None)]}},
    "small": np.array(0.5, np.float32),
    "fp8": np.array([0.5, 448.0], jnp.float8_e4m3fn),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "bits": np.array([True, False]),
    "empty": {},
}
STATE = {"key": jax.random.key(3), "keys": jax.random.split(jax.random.key(0, impl="rbg"), 2)}
SPANS = (Span("cpu 0", 0.1, 1e9, 3), Span("thread – 2", math.inf, math.nan, 0))


def identity(value):
    """Something that is equal for equal values of the same type, NaN among them."""
    if isinstance(value, float):
        return float, value.hex()
    if isinstance(value, (list, tuple)):
        return type(value), [identity(item) for item in value]
    if isinstance(value, dict):
        return dict, [(identity(name), identity(item)) for name, item in value.items()]
    return type(value), value


def bits(tree):
    """Everything about the leaves of a tree."""

    def one(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return str(leaf.dtype), np.asarray(jax.random.key_data(leaf)).tobytes()
        array = np.asarray(leaf)
        return (
            array.dtype.name,
            array.shape,
            np.asarray(array, order="C").astype(array.dtype.newbyteorder("=")).tobytes(),
        )

    return jax.tree.structure(tree), [one(leaf) for leaf in jax.tree.leaves(tree)]


def check_same(table, again):
    assert list(map(identity, map(dict, table.points))) == list(map(identity, map(dict, again.points)))
    assert [list(point) for point in table.points] == [list(point) for point in again.points]
    for a, b in zip(table.results, again.results, strict=True):
        assert bits((a.params, a.state)) == bits((b.params, b.state))
        assert list(a.history) == list(b.history)
        assert bits(dict(a.history)) == bits(dict(b.history))
        assert (a.end, a.ended, a.error) == (b.end, b.ended, b.error)
        assert identity([tuple(span) for span in a.spans]) == identity([tuple(span) for span in b.spans])


@pytest.fixture
def table():
    points = [
        {"rate": 0.1, "units": None, "seed": 0},
        {"name": 'µ – "x"\n', "sizes": (8, [9, {"a": math.nan, 1: (True, None)}]), "seed": 2**80},
        {"rate": -math.inf, "b": False, "seed": 1, "fold": 0},
    ]
    results = [
        Result(PARAMS, STATE, HISTORY, 2, "finished", spans=SPANS),
        Result(None, None, {}, -1, "error", "Traceback …\nValueError: no"),
        Result({}, {}, {"loss": np.zeros(0)}, -1, "interrupted"),
    ]
    return Table(points, results)


def test_a_table_comes_back_bit_for_bit(table, tmp_path):
    table.save(tmp_path / "deep" / "table.npz")
    check_same(table, again := Table.load(tmp_path / "deep" / "table.npz"))
    assert again.spaces is None
    again.save(tmp_path / "again.npz")
    first, second = (tmp_path / name for name in ("deep/table.npz", "again.npz"))
    assert first.read_bytes() == second.read_bytes()
    assert os.listdir(tmp_path / "deep") == ["table.npz"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.mark.heavy
@hypothesis.given(
    st.lists(st.dictionaries(st.text(max_size=4), json_values, max_size=4), min_size=1, max_size=4),
    st.lists(st.floats(width=32), max_size=4),
    st.sampled_from(ENDED),
)
def test_any_values_of_json_come_back(tmp_path_factory, points, values, ended):
    history = {"loss": np.array(values, np.float32)}
    table = Table(points, [Result({}, {}, history, len(values) - 1, ended)] * len(points))
    path = tmp_path_factory.mktemp("table") / "t"
    table.save(path)
    check_same(table, Table.load(path))


def relu(x):
    return x


def test_what_json_cannot_hold_comes_back_as_text_that_tells_values_apart(tmp_path):
    one, two = (lambda x: x), (lambda x: -x)
    values = [relu, one, two, one, functools.partial(relu), np.float32, (relu, 1), np.float64(0.5)]
    points = [{"act": value, "seed": 0} for value in values]
    Table(points, [Result({}, {}, {}, 0, "finished")] * len(values)).save(tmp_path / "t.npz")
    read = [point["act"] for point in Table.load(tmp_path / "t.npz").points]
    assert read == [
        *("relu", "<lambda>", "<lambda> (2)", "<lambda>", "partial of relu", "float32", "(relu, 1)"),
        0.5,
    ]


def test_spaces_come_back(tmp_path):
    rate, act = distributions.LogUniform(1e-4, 1.0), distributions.Choice((relu, "tanh", 3))
    table = Table(
        [{"rate": 1e-4, "act": relu, "seed": 0}, {"rate": 0.01, "act": "tanh", "seed": 0}],
        [Result({}, {}, {"loss": np.ones(1)}, 0, "finished")] * 2,
        ({"rate": rate, "act": act}, {"units": distributions.Int(1, 9)}),
    )
    table.save(tmp_path / "t.npz")
    again = Table.load(tmp_path / "t.npz")
    assert again.spaces[0]["rate"] == rate
    assert again.spaces[0]["act"] == distributions.Choice(("relu", "tanh", 3))
    assert again.spaces[1] == {"units": distributions.Int(1, 9)}
    assert [row["edge"] for row in again.rows()] == [row["edge"] for row in table.rows()] == ["rate", ""]
    rewritten(tmp_path / "t.npz", spaces=[{"rate": ["Normal", 0, 1]}])
    with pytest.raises(ValueError, match="names a distribution 'Normal', which this jaxdeep"):
        Table.load(tmp_path / "t.npz")


def test_a_table_without_parameters(table, tmp_path):
    table.save(tmp_path / "small.npz", with_params=False)
    table.save(tmp_path / "all.npz")
    for again in (
        Table.load(tmp_path / "small.npz"),
        Table.load(tmp_path / "all.npz", with_params=False),
    ):
        assert again.rows()[0].keys() == table.rows()[0].keys()
        with pytest.raises(ValueError, match="its parameters were not kept"):
            again.trained(0)
    assert (tmp_path / "small.npz").stat().st_size < (tmp_path / "all.npz").stat().st_size


def test_parameters_on_disk_are_saved_one_row_at_a_time(tmp_path):
    loaded = []

    class OnDisk:
        def load(self):
            loaded.append(self)
            return {"w": np.full(3, len(loaded))}, {}

    results = [Result(OnDisk(), None, {}, 0, "finished") for _ in range(3)]
    Table([{"seed": i} for i in range(3)], results).save(tmp_path / "t.npz")
    assert len(loaded) == 3

    class Gone:
        def load(self):
            raise NotKept("its parameters were not kept")

    gone = Table([{"seed": 0}], [results[0]._replace(params=Gone())])
    gone.save(tmp_path / "gone.npz")
    for table in (gone, Table.load(tmp_path / "gone.npz")):
        with pytest.raises(ValueError, match="row 0: its parameters were not kept"):
            table.trained(0)
    assert [Table.load(tmp_path / "t.npz").trained(i)[0]["w"][0] for i in range(3)] == [1, 2, 3]


def test_numpy_reads_the_file(table, tmp_path):
    table.save(tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["0/history/loss"], HISTORY["loss"])
        assert json.loads(arrays["table.json"])["format"] == "jaxdeep-table"


def test_saving_replaces_a_table_and_nothing_else(table, tmp_path):
    path = tmp_path / "t.npz"
    Table([], []).save(path)
    table.save(path)
    check_same(table, Table.load(path))
    for name, content in (("text", b"precious"), ("other.npz", None), ("folder", "")):
        other = tmp_path / name
        if content is None:
            np.savez(other, a=np.ones(2))
        elif content:
            other.write_bytes(content)
        else:
            other.mkdir()
        before = other.read_bytes() if other.is_file() else None
        with pytest.raises(FileExistsError, match="give another path"):
            table.save(other)
        assert before is None or other.read_bytes() == before


def test_a_save_that_fails_leaves_the_old_table(table, tmp_path, monkeypatch):
    path = tmp_path / "t.npz"
    table.save(path)
    before = path.read_bytes()
    for broken in ({"w": np.array([None])}, {"w": "text"}, {"w": {(1, 2): np.ones(1)}}, {"w": print}):
        result = Result({}, {}, {}, 0, "finished")._replace(params=broken)
        unsound = Table([], [])
        object.__setattr__(unsound, "points", ({"seed": 0},))
        object.__setattr__(unsound, "results", (result,))
        with pytest.raises(ValueError, match=r"0/params/w.* cannot be saved"):
            unsound.save(path)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"a table cannot be saved at '.*t\.npz' \(No space left"):
        table.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["t.npz"]


@pytest.mark.parametrize("path", ["gs://bucket/table.npz", "s3://b/t", "", None, 3])
def test_paths_that_are_none(path):
    for call in (Table([], []).save, Table.load):
        with pytest.raises((ValueError, TypeError), match="path must be a path"):
            call(path)


def rewritten(path, **changes):
    """The same file with another table.json."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    about = json.loads(parts["table.json"])
    parts["table.json"] = json.dumps(about | changes).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "x"}, "is not a table that jaxdeep saved: its format is not 'jaxdeep-table'"),
        (
            {"format_version": 2, "jaxdeep_version": "9.9"},
            "is of format version 2, written by jaxdeep 9.9",
        ),
        ({"format_version": None}, "is damaged"),
        ({"rows": 3}, "is damaged"),
        ({"rows": [{}]}, "is damaged"),
        ({"rows": [None]}, "is damaged"),
        (
            {"rows": [{"point": {}, "ended": "well", "end": 0}]},
            "is damaged: row 0 ended 'well' at 0",
        ),
        (
            {
                "rows": [
                    {"point": {}, "ended": "finished", "end": 0, "model": None, "history": {"a": "b"}}
                ]
            },
            "is damaged: it lacks the array b",
        ),
    ],
)
def test_a_file_of_another_content(table, tmp_path, changes, message):
    table.save(tmp_path / "t.npz")
    rewritten(tmp_path / "t.npz", **changes)
    with pytest.raises(ValueError, match=message):
        Table.load(tmp_path / "t.npz")


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no table at"):
        Table.load(tmp_path / "none.npz")
    (tmp_path / "text").write_text("hello")
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    for name in ("text", "other.npz", "."):
        with pytest.raises(ValueError, match="is not a table that jaxdeep saved"):
            Table.load(tmp_path / name)


class Named(Exception):
    """An error that names the file."""


def load(path):
    try:
        return Table.load(path)
    except ValueError as error:
        raise (Named if str(path) in str(error) else error) from error


def _check_damage(path, sound, table, places):
    for place in places:
        for flip in (0x01, 0xFF):
            data = bytearray(sound)
            data[place] ^= flip
            path.write_bytes(data)
            with contextlib.suppress(Named):
                check_same(table, load(path))
    for length in places:
        path.write_bytes(sound[:length])
        with pytest.raises(ValueError, match=pathlib.Path(path).name):
            Table.load(path)


def small(tmp_path):
    history = {"loss": np.array([1.0, np.nan])}
    table = Table([{"rate": 0.1, "seed": 0}], [Result({"w": np.ones(2)}, {}, history, 1, "finished")])
    path = tmp_path / "t.npz"
    table.save(path)
    return path, path.read_bytes(), table


def test_no_damage_is_read_as_another_table(tmp_path):
    path, sound, table = small(tmp_path)
    _check_damage(path, sound, table, range(0, len(sound), 29))


@pytest.mark.parametrize("name", ["layer:0", "a:bfloat16", "nul\0", "x" * 70_000, "../up", "é"])
def test_names_of_any_letters_come_back(name, tmp_path):
    params = {name: jnp.ones(3, jnp.bfloat16), "a": jnp.zeros(2)}
    result = Result(params, {}, {"loss": np.zeros(1), f"recall {name}": np.ones(1)}, 0, "finished")
    Table([{"rate": 0.1, "seed": 0}], [result]).save(tmp_path / "table.npz")
    read = Table.load(tmp_path / "table.npz").results[0]
    jax.tree.map(np.testing.assert_array_equal, [read.params, read.history], [params, result.history])
    assert read.params[name].dtype == jnp.bfloat16


@pytest.mark.heavy
def test_no_damage_of_any_byte_is_read_as_another_table(tmp_path):
    path, sound, table = small(tmp_path)
    _check_damage(path, sound, table, range(len(sound)))
