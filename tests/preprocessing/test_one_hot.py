"""One-hot columns against scikit-learn."""

import warnings

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn.preprocessing as sk
from helpers.properties import over

from jaxdeep import preprocessing as pp

GROUPS = st.fixed_dictionaries(
    {},
    optional={
        "min_frequency": st.sampled_from([1, 2, 3, 0.2, 0.34, 0.5]),
        "max_categories": st.integers(1, 5),
        "drop": st.sampled_from(["first", "if_binary"]),
    },
)
TABLE = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d", None]), st.sampled_from(["1", "10", "9"])),
    min_size=1,
    max_size=10,
)


def table(rows):
    return np.array([*rows, (None, None)], object)[:-1]


def named(values):
    """Scikit-learn's values, with our name of the group."""
    return [["infrequent" if v == "infrequent_sklearn" else v for v in row] for row in values.tolist()]


@over(4, 200, heavy=True, rows=TABLE, more=TABLE, groups=GROUPS)
def test_one_hot_is_scikit_learns_on_any_table(rows, more, groups):
    x, new = table(rows), table(more)
    for ours, theirs in (("ignore", "ignore"), ("infrequent", "infrequent_if_exist")):
        encoder = pp.one_hot_encoder(unknown=ours, **groups)
        expected = sk.OneHotEncoder(sparse_output=False, handle_unknown=theirs, **groups).fit(x)
        state = encoder.fit(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unknown values that look like dropped ones
            y, wanted = encoder.transform(state, new), expected.transform(new)
        np.testing.assert_array_equal(y, wanted)
        names = [
            name.replace("infrequent_sklearn", "infrequent") for name in expected.get_feature_names_out()
        ]
        assert encoder.names(state) == tuple(names)
        # of a dropped level scikit-learn makes a category that may be none of it, where there are groups
        if wanted.shape[1] and "drop" not in groups:
            found = encoder.inverse_transform(state, y).tolist()
            assert found == named(expected.inverse_transform(wanted))
        back = encoder.inverse_transform(state, encoder.transform(state, x))
        frequent = back != "infrequent"
        np.testing.assert_array_equal(back[frequent], x[frequent])


TIES = ["a", "a", "b", "b", "c", "c", "d"]
CASES = {
    "ties": (TIES, {"max_categories": 3}),
    "as many as categories": (TIES, {"max_categories": 4}),
    "more than categories": (TIES, {"max_categories": 5}),
    "all infrequent": (TIES, {"min_frequency": 3}),
    "one": (TIES, {"max_categories": 1}),
    "both": (TIES, {"min_frequency": 2, "max_categories": 2}),
    "missing is frequent": ([None, None, None, "a", "b"], {"min_frequency": 2}),
    "missing is rare": ([None, "a", "a", "b", "b"], {"min_frequency": 2}),
    "missing counts among rows": ([None] * 6 + ["a", "a", "b"], {"min_frequency": 0.23}),
    "numbers": ([3, 10, 10, 2, 2], {"max_categories": 3}),
}


@pytest.mark.few(3)
@pytest.mark.parametrize("case", CASES)
def test_groups_of_infrequent_categories_are_scikit_learns(case):
    values, groups = CASES[case]
    x = np.array([*values, None], object)[:-1]
    encoder = pp.one_hot_encoder(**groups)
    state = encoder.fit(x)
    expected = sk.OneHotEncoder(sparse_output=False, **groups).fit(x[:, None])
    np.testing.assert_array_equal(encoder.transform(state, x), expected.transform(x[:, None]))
    names = [name.replace("_sklearn", "") for name in expected.get_feature_names_out()]
    assert encoder.names(state) == tuple(names)


def test_missing_values_are_one_category_in_every_container():
    x = ["a", None, "b"]
    encoder = pp.one_hot_encoder()
    state = encoder.fit(pd.DataFrame({"x": x}))
    expected = encoder.transform(state, pd.DataFrame({"x": x}))
    assert encoder.names(state) == ("x_a", "x_b", "x_None")
    for made in (pl.DataFrame({"x": x}), {"x": x}, x, np.array(["a", np.nan, "b"], object)):
        np.testing.assert_array_equal(encoder.transform(state, made), expected)
    nullable = pd.Series([1, None, 3], dtype="Int64")
    state = encoder.fit(nullable)
    np.testing.assert_array_equal(encoder.transform(state, [1.0, np.nan, 3]), np.eye(3)[[0, 2, 1]])


def test_missing_and_unknown_are_two():
    encoder = pp.one_hot_encoder()
    state = encoder.fit(["a", "b"])
    with pytest.raises(ValueError, match="x holds 'c' in row 1, which is none of the categories"):
        encoder.transform(state, ["a", "c"])
    with pytest.raises(ValueError, match="x holds None in row 0"):
        encoder.transform(state, [None, "a"])
    encoder = pp.one_hot_encoder(unknown="ignore")
    assert encoder.codes(state, ["c", None, "b"]).ravel().tolist() == [1, 0, 3]
    with pytest.raises(ValueError, match=r"x holds None in row 1 .*which is missing"):
        pp.one_hot_encoder(missing="error").fit(["a", None, None])
    encoder = pp.one_hot_encoder(missing="ignore")
    state = encoder.fit(["a", None])
    assert encoder.transform(state, [None, "a"]).tolist() == [[0.0], [1.0]]


def test_levels_are_dropped_by_name_as_scikit_learn_drops_them():
    x = np.array([["a", 1], ["b", 2], ["c", 10], ["a", 1], ["b", 2]], object)
    encoder = pp.one_hot_encoder(drop=["b", 10])
    state = encoder.fit(x)
    expected = sk.OneHotEncoder(sparse_output=False, drop=["b", 10]).fit(x)
    np.testing.assert_array_equal(encoder.transform(state, x), expected.transform(x))
    assert encoder.names(state) == tuple(expected.get_feature_names_out())
    assert encoder.inverse_transform(state, encoder.transform(state, x)).tolist() == x.tolist()
    # what is missing is a level too; where rare ones are grouped, the others are counted without them
    state = pp.one_hot_encoder(drop=[None]).fit([None, "a", "b"])
    assert encoder.names(state) == ("x0_a", "x0_b")
    encoder = pp.one_hot_encoder(min_frequency=2, drop=["c"])
    state = encoder.fit(["a", "b", "b", "c", "c"])
    assert encoder.names(state) == ("x0_b", "x0_infrequent")
    assert encoder.transform(state, ["a", "b", "c"]).tolist() == [[0, 1], [1, 0], [0, 0]]
    with pytest.raises(ValueError, match=r"drop\[0\] must be a frequent category, got 'a'"):
        pp.one_hot_encoder(min_frequency=2, drop=["a"]).fit(["a", "b", "b"])
    with pytest.raises(TypeError, match="must be hashable"):
        pp.one_hot_encoder(drop=["a", ["b"]]).fit(x)


def test_levels_are_dropped_by_the_names_of_their_features():
    x = {"city": ["Oslo", "Rome"], "n": [3, 4]}
    encoder = pp.one_hot_encoder(drop={"n": 3.0})
    assert encoder.names(encoder.fit(x)) == ("city_Oslo", "city_Rome", "n_4")
    with pytest.raises(ValueError, match="drop must be for features 'city', 'n', got 'town'"):
        pp.one_hot_encoder(drop={"town": 3}).fit(x)
    with pytest.raises(ValueError, match=r"drop\['n'\] must be one of the categories 3, 4, got 5"):
        pp.one_hot_encoder(drop={"n": 5}).fit(x)
    with pytest.raises(ValueError, match="drop must be of 2 features, as x, got 1"):
        pp.one_hot_encoder(drop=["Oslo"]).fit(x)
    with pytest.raises(
        TypeError, match="drop must be 'first', 'if_binary', a category for each feature"
    ):
        pp.one_hot_encoder(drop=True)


def test_unknown_values_that_look_like_a_level_are_warned_of():
    encoder = pp.one_hot_encoder(unknown="ignore", drop="first")
    state = encoder.fit(["a", "b"])
    with pytest.warns(UserWarning, match="1 values that are none of the categories; they look like"):
        y = encoder.transform(state, ["?", "b"])
    assert encoder.inverse_transform(state, y).tolist() == ["a", "b"]
    encoder = pp.one_hot_encoder(unknown="warn", min_frequency=2)
    with pytest.warns(UserWarning, match="none of the categories"):
        assert encoder.transform(encoder.fit(["a", "a", "b"]), ["?"]).tolist() == [[0.0, 1.0]]


def test_values_come_back_in_their_kind():
    for x in (np.array([3, 1, 3]), np.array([0.5, 2.5]), np.array([True, False]), np.array(["a", "b"])):
        encoder = pp.one_hot_encoder()
        state = encoder.fit(x)
        back = encoder.inverse_transform(state, encoder.transform(state, x))
        assert back.tolist() == x.tolist()
        assert back.dtype in (x.dtype, object)
    dates = np.array(["2020-01-01", "2021-01-01"], "datetime64[D]")
    state = encoder.fit(dates)
    assert (encoder.inverse_transform(state, encoder.transform(state, dates)) == dates).all()


def test_big_ids_are_told_apart():
    ids = np.array([16_777_216, 16_777_217, 2**53, 2**53 + 1])
    encoder = pp.one_hot_encoder()
    np.testing.assert_array_equal(encoder.transform(encoder.fit(ids), ids), np.eye(4))


def test_declared_categories_keep_their_order():
    encoder = pp.one_hot_encoder(categories=[["low", "high"], [3, 1]], unknown="ignore")
    state = encoder.fit(np.array([["high", 1], ["low", 3], ["?", 2]], object))
    assert encoder.names(state, ["size", "n"]) == ("size_low", "size_high", "n_3", "n_1")
    with pytest.raises(ValueError, match=r"categories\[0\] must be different"):
        pp.one_hot_encoder(categories=[["1", 1]])
    with pytest.raises(ValueError, match="categories must be of 1 features"):
        encoder.fit(["low", "high"])


def test_names_are_never_twice_the_same():
    encoder = pp.one_hot_encoder()
    state = encoder.fit({"a": ["b_c", "d"], "a_b": ["c", "d"]})
    assert encoder.names(state) == ("a_b_c", "a_d", "a_b_c_2", "a_b_d")


@pytest.mark.heavy
def test_too_many_bytes_are_refused_before_they_are_taken():
    x = {"id": np.arange(50_000).astype(str), "kind": np.arange(50_000) % 3}
    with pytest.raises(
        ValueError, match=r"10\.0 GB \(50,000 rows × 50,003 columns\).*column 'id' has 50,000"
    ):
        pp.one_hot_encoder().fit(x)
    encoder = pp.one_hot_encoder(max_bytes=1000)
    state = encoder.fit(np.arange(10))
    with pytest.raises(ValueError, match="max_bytes=1,000"):
        encoder.encode(state, np.full((100, 1), 2))
    with pytest.raises(ValueError, match="max_bytes=1,000"):
        jax.eval_shape(encoder.encode, state, jax.ShapeDtypeStruct((100, 1), jnp.int32))
    grouped = pp.one_hot_encoder(max_categories=20)
    assert grouped.encode(grouped.fit(x), np.ones((2, 2), int)).shape == (2, 23)


def test_codes_are_encoded_compiled():
    x = np.array([["a", 1], ["b", 2], [None, 1]], object)
    encoder = pp.one_hot_encoder(unknown="ignore")
    state = encoder.fit(x)
    codes, y = encoder.codes(state, x), encoder.transform(state, x)
    assert codes.dtype == jnp.int32
    np.testing.assert_array_equal(jax.jit(encoder.encode)(state, codes), y)
    np.testing.assert_array_equal(jax.vmap(encoder.encode, (None, 0))(state, codes), y)
    np.testing.assert_array_equal(jax.jit(encoder.decode)(state, y), codes)
    np.testing.assert_array_equal(encoder.encode(state, np.array([[99, -5]])), np.zeros((1, 5)))
    narrow = pp.one_hot_encoder(dtype=jnp.bfloat16)
    assert narrow.transform(narrow.fit(x), x).dtype == jnp.bfloat16
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda codes: encoder.transform(state, codes))(codes)


def test_one_hot_refuses():
    for arguments, words in (
        ({"unknown": "other"}, "unknown must be"),
        ({"missing": None}, "missing must be"),
        ({"drop": "last"}, "drop must be"),
        ({"min_frequency": 0}, "min_frequency must be at least 1"),
        ({"min_frequency": 1.5}, "min_frequency must be in"),
        ({"max_categories": 0}, "max_categories must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            pp.one_hot_encoder(**arguments)
    encoder = pp.one_hot_encoder()
    with pytest.raises(ValueError, match="x is empty"):
        encoder.fit([])
    with pytest.raises(ValueError, match=r"x holds 1 \(row 0\) and '1' \(row 1\)"):
        encoder.fit([1, "1", True, 1.0])
    state = encoder.fit({"a": [1, 2], "b": [3, 4]})
    with pytest.raises(ValueError, match="x lacks the columns 'b'; it has 'a', 'c'"):
        encoder.transform(state, {"a": [1], "c": [3]})
    np.testing.assert_array_equal(
        encoder.transform(state, {"b": [4], "a": [1], "c": [0]}), [[1, 0, 0, 1]]
    )
