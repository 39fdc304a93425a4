"""Imputation against scikit-learn."""

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.properties import over
from helpers.tables import close
from sklearn.impute import SimpleImputer

from jaxdeep import preprocessing as pp
from jaxdeep._compat import enable_x64

STRATEGIES = ["mean", "median", "most_frequent", "constant"]
X = np.array(
    [[1.0, np.nan, 3, np.nan], [np.nan, np.nan, 3, 2.0], [4.0, np.nan, 5, 2.0], [4.0, np.nan, 5, 9.0]]
)


@pytest.mark.parametrize("strategy", STRATEGIES)
@over(
    4,
    100,
    heavy=True,
    x=hnp.arrays(float, (6, 3), elements=st.integers(-2, 2).map(float) | st.just(np.nan)),
)
def test_imputer_is_scikit_learns_on_any_table(strategy, x):
    impute = pp.imputer(strategy)
    theirs = SimpleImputer(strategy=strategy, keep_empty_features=True, fill_value=0)
    if strategy != "constant":
        theirs = SimpleImputer(strategy=strategy, keep_empty_features=True)
    with enable_x64(True):
        state = impute.fit(x)
        close(impute.transform(state, x), theirs.fit_transform(x), atol=1e-15)
        compiled = jax.jit(impute.fit)(jnp.asarray(x))
        close(impute.transform(compiled, x), theirs.transform(x), atol=1e-12)
    np.testing.assert_array_equal(state.missing, np.isnan(x).any(axis=0))
    np.testing.assert_array_equal(state.empty, np.isnan(x).all(axis=0))


@pytest.mark.heavy
def test_indicators_have_the_width_of_the_fit_and_give_the_holes_back():
    impute = pp.imputer("median", indicators="seen")
    state = impute.fit(X)
    theirs = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True).fit(X)
    y = impute.transform(state, X)
    close(y, theirs.transform(X))
    names = theirs.get_feature_names_out(list("abcd"))
    assert impute.names(state, list("abcd")) == tuple(names)
    close(impute.inverse_transform(state, y), X)
    new = np.full((1, 4), np.nan)  # the third was never missing
    assert impute.transform(state, new).tolist() == [[4, 0, 4, 2, 1, 1, 1]]
    everywhere = pp.imputer(indicators="all")
    close(
        everywhere.inverse_transform(everywhere.fit(X), everywhere.transform(everywhere.fit(X), new)),
        new,
    )
    with pytest.raises(TypeError, match="x is traced"):
        jax.jit(impute.fit)(X)


@pytest.mark.heavy
def test_means_of_large_numbers_and_other_dtypes():
    x = np.r_[1.7e9 + 1e3 * np.arange(101.0), np.nan][:, None]
    assert float(pp.imputer().transform(pp.imputer().fit(x), [[np.nan]])[0, 0]) == np.float32(
        1.7e9 + 5e4
    )
    for dtype in (bool, np.int8, np.int64):
        y = pp.imputer().transform(pp.imputer().fit(np.eye(2, dtype=dtype)), np.eye(2, dtype=dtype))
        assert y.dtype == jnp.float32
        assert y.tolist() == [[1, 0], [0, 1]]
    narrow = jnp.asarray(X, jnp.bfloat16)
    impute = pp.imputer("most_frequent", fill=7.0, indicators="all")
    y = impute.transform(impute.fit(narrow), narrow)
    assert y.dtype == jnp.bfloat16
    assert y[:, 1].tolist() == [7.0] * 4
    rows = jax.vmap(impute.transform, (None, 0))(impute.fit(narrow), narrow)
    np.testing.assert_array_equal(rows.astype(float), y.astype(float))


def test_imputer_refuses():
    with pytest.raises(ValueError, match="strategy must be"):
        pp.imputer("mode")
    impute = pp.imputer()
    with pytest.raises(ValueError, match=r"x must be of shape \(n, features\)"):
        impute.fit(np.ones(3))
    with pytest.raises(ValueError, match="nothing to fit"):
        impute.fit(np.ones((0, 3)))
    with pytest.raises(ValueError, match="y must have 2 columns"):
        impute.inverse_transform(impute.fit(np.ones((3, 2))), np.ones((3, 3)))


def test_features_that_float32_cannot_tell_are_to_be_scaled_first():
    times = (1.7e9 + np.arange(100.0))[:, None]
    with pytest.raises(ValueError, match=r"x holds numbers from 1700000000.0 .*: scale it first"):
        pp.imputer().fit(times)
    for whole in (
        times.astype(np.int32),
        jnp.asarray(times.astype(np.int32)),
        2**60 + np.arange(9)[:, None],
    ):
        with pytest.raises(
            ValueError, match=r"x holds numbers from 1.* float.* cannot tell: scale it first"
        ):
            pp.imputer().fit(whole)
    times[3] = np.nan
    scaler, imputer = pp.standard_scaler(), pp.imputer()
    scaled = scaler.transform(scaler.fit(times), times)
    filled = imputer.transform(imputer.fit(scaled), scaled)
    assert len(np.unique(filled)) == 100
    imputer.fit(np.full((9, 1), 1.7e9 + 1))  # all equal
