"""Ordinal numbers against scikit-learn."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.preprocessing as sk
from helpers.properties import over

from jaxdeep import preprocessing as pp

GROUPS = st.fixed_dictionaries(
    {},
    optional={
        "min_frequency": st.sampled_from([1, 2, 3, 0.2, 0.5]),
        "max_categories": st.integers(1, 5),
    },
)
TABLE = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d", np.nan]), st.sampled_from(["1", "10", "9"])),
    min_size=1,
    max_size=10,
)


def table(rows):
    return np.array([*rows, (None, None)], object)[:-1]


@over(12, 200, rows=TABLE, more=TABLE, groups=GROUPS)
def test_ordinal_is_scikit_learns_on_any_table(rows, more, groups):
    x, new = table(rows), table(more)
    if all(isinstance(value, float) for value in x[:, 0]):
        return  # scikit-learn has no group then
    encoder = pp.ordinal_encoder(unknown=-1, **groups)
    expected = sk.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, **groups).fit(x)
    state = encoder.fit(x)
    wanted = expected.transform(new)
    wanted[[isinstance(value, float) for value in new[:, 0]], 0] = np.nan  # there −1, if new
    np.testing.assert_array_equal(encoder.transform(state, new), wanted)


def test_values_come_back():
    x = np.array([["b", 3], ["a", 1], [None, 3]], object)
    encoder = pp.ordinal_encoder(unknown=-1)
    state = encoder.fit(x)
    y = encoder.transform(state, x)
    np.testing.assert_array_equal(y, [[1, 1], [0, 0], [np.nan, 1]])
    assert encoder.inverse_transform(state, y).tolist() == x.tolist()
    assert encoder.inverse_transform(state, [[-1.0, 7.0]]).tolist() == [[None, None]]
    grouped = pp.ordinal_encoder(min_frequency=2)
    state = grouped.fit(["a", "a", "b"])
    assert grouped.inverse_transform(state, [[0], [1]]).tolist() == ["a", "infrequent"]


def test_declared_order_and_whole_numbers():
    encoder = pp.ordinal_encoder(categories=[["low", "high"]], unknown=-1, missing=-2, dtype=jnp.int32)
    state = encoder.fit(["low", None])
    y = encoder.transform(state, ["high", "low", "?", None])
    assert y.dtype == jnp.int32
    assert y.ravel().tolist() == [1, 0, -1, -2]
    assert encoder.decode(state, y).ravel().tolist() == [3, 2, 1, 0]
    with pytest.raises(ValueError, match="x holds None in row 0, which is missing"):
        pp.ordinal_encoder(dtype=jnp.int32).fit([None, "a"])


def test_codes_are_encoded_compiled():
    x = np.array([["a", 1], ["b", 2], [None, 1]], object)
    encoder = pp.ordinal_encoder()
    state = encoder.fit(x)
    codes, y = encoder.codes(state, x), encoder.transform(state, x)
    np.testing.assert_array_equal(jax.jit(encoder.encode)(state, codes), y)
    np.testing.assert_array_equal(jax.vmap(encoder.encode, (None, 0))(state, codes), y)
    np.testing.assert_array_equal(jax.jit(encoder.decode)(state, y), codes)


def test_ordinal_refuses():
    encoder = pp.ordinal_encoder()
    with pytest.raises(ValueError, match=r"x\[:, 1\] holds 'z' in row 0"):
        encoder.transform(encoder.fit([["a", "b"]]), [["a", "z"]])
    with pytest.raises(ValueError, match="unknown must be a number that is no category's, got 1"):
        pp.ordinal_encoder(unknown=1).fit(["a", "b"])
    with pytest.raises(TypeError, match="unknown must be a number or 'error'"):
        pp.ordinal_encoder(unknown="ignore")
    with pytest.raises(TypeError, match="dtype must be"):
        pp.ordinal_encoder(dtype=bool)


def test_numbers_that_the_dtype_does_not_hold_are_refused():
    for dtype, most in ((jnp.int8, 128), (jnp.uint8, 256), (jnp.bfloat16, 257)):
        x = np.arange(most)
        encoder = pp.ordinal_encoder(dtype=dtype)
        y = encoder.transform(encoder.fit(x), x)
        assert y.dtype == dtype
        np.testing.assert_array_equal(np.asarray(y, float).ravel(), x)
        with pytest.raises(ValueError, match=f"a number for each of {most + 1} categories"):
            encoder.fit(np.arange(most + 1))
    for arguments in (
        {"unknown": -1, "dtype": jnp.uint8},
        {"missing": 128, "dtype": jnp.int8},
        {"unknown": 1e40},
    ):
        with pytest.raises(ValueError, match="must be a number that"):
            pp.ordinal_encoder(**arguments)
    with pytest.raises(ValueError, match="unknown must be a whole number for int32, got nan"):
        pp.ordinal_encoder(unknown=float("nan"), dtype=jnp.int32)  # was 0, the first category
    with pytest.raises(ValueError, match="no category's"):
        pp.ordinal_encoder(unknown=1 + 1e-9).fit(["a", "b"])  # 1 in float32


def test_whole_numbers_beyond_63_bits_come_back():
    encoder = pp.ordinal_encoder()
    for values, dtype in (
        ([2**63 + 1, 2**63, 0], np.uint64),
        ([2**70 + 1, 2**70, 0], object),
        ([2**62 + 1, -1], np.int64),
    ):
        x = np.array(values, dtype)
        state = encoder.fit(x)
        found = encoder.inverse_transform(state, encoder.transform(state, x))
        assert found.dtype == dtype
        assert found.tolist() == values
