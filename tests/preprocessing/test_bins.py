"""Bins against scikit-learn."""

import warnings

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn
import sklearn.preprocessing as sk
from helpers.properties import over
from helpers.tables import SKEWED, close

from jaxdeep import preprocessing as pp
from jaxdeep._compat import enable_x64

AVERAGED = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 9)  # how quantiles are found
STRATEGIES = ["uniform", pytest.param("quantile", marks=[] if AVERAGED else pytest.mark.skip)]


def fitted(x, n, strategy, encode="ordinal"):
    kind = {"quantile_method": "averaged_inverted_cdf"} if strategy == "quantile" else {}
    theirs = sk.KBinsDiscretizer(n, encode=encode, strategy=strategy, **kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant and merged columns
        return theirs.fit(x)


@pytest.mark.few(2)
@pytest.mark.parametrize("on", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_ranges_beyond_the_largest_float(strategy, on):
    x = on(np.array([[-2e38], [0], [2e38]], np.float32))
    bins = pp.k_bins(2, strategy=strategy)
    state = bins.fit(x)
    assert bins.transform(state, x).ravel().tolist() == [0, 1, 1]
    middles = bins.inverse_transform(state, jnp.array([[0], [1]]))
    np.testing.assert_allclose(middles, [[-1e38], [1e38]], rtol=1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_bins_are_scikit_learns(x64, strategy):
    x = np.column_stack([SKEWED, np.repeat([0.0, 1, 2, 3], 50), 1.7e9 + np.arange(200)])
    bins, theirs = pp.k_bins(4, strategy=strategy), fitted(x, 4, strategy)
    state = bins.fit(x)
    new = np.concatenate([x, x + 0.3, x - 7])
    codes = bins.transform(state, new)
    assert codes.dtype == jnp.int32
    np.testing.assert_array_equal(codes, theirs.transform(new))
    np.testing.assert_array_equal(state.bins, theirs.n_bins_)
    close(bins.inverse_transform(state, codes), theirs.inverse_transform(theirs.transform(new)))


@pytest.mark.parametrize("strategy", STRATEGIES)
@over(
    5,
    200,
    x=hnp.arrays(float, (8, 2), elements=st.integers(-4, 4).map(float)),
    n=st.sampled_from([2, 4]),
)
def test_bins_are_scikit_learns_on_any_table(strategy, x, n):
    bins, theirs = pp.k_bins(n, strategy=strategy), fitted(x, n, strategy)
    with enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(bins.transform(bins.fit(x), x), theirs.transform(x))


@pytest.mark.heavy
def test_columns_of_bins_have_a_fixed_width_and_nan_a_bin():
    x = np.array([[1.0, 5.0], [2.0, 5.0], [np.nan, 5.0], [4.0, 5.0]])
    bins = pp.k_bins(2, encode="onehot", missing="bin")
    with pytest.warns(UserWarning, match="1 of 2 features of x have fewer than n_bins=2 bins"):
        state = bins.fit(x)
    y = bins.transform(state, x)
    assert y.tolist() == [[1, 0, 0, 1, 0, 0], [0, 1, 0, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 1, 0, 1, 0, 0]]
    close(bins.inverse_transform(state, y)[:, 0], [1.5, 3.0, np.nan, 3.0])
    close(bins.inverse_transform(state, y)[:, 1], [5.0] * 4)
    close(jax.jit(lambda x: bins.transform(bins.fit(x), x))(jnp.asarray(x, jnp.float32)), y)
    assert bins.transform(state, jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16
    close(jax.vmap(bins.transform, (None, 0))(state, x[:, None].astype(np.float32))[:, 0], y)


def test_edges_that_are_values_have_their_values_above_them_in_float32():
    x = np.linspace(0, 1, 41)[:, None] * 1000.3
    bins = pp.k_bins(4)
    counts = np.bincount(np.asarray(bins.transform(bins.fit(x), x))[:, 0])
    assert counts.tolist() == [10, 10, 10, 11]


@pytest.mark.few("asarray")
@pytest.mark.parametrize("least", [0, 1_700_000_000])
@pytest.mark.parametrize("compiled", [pytest.param(False, id="asarray"), pytest.param(True, id="jit")])
@pytest.mark.parametrize("n", [3, 5, 7, 10])
def test_whole_numbers_on_an_edge_are_above_it(n, compiled, least):
    rng = np.random.default_rng(n)
    widths = rng.integers(1, 20, 300)
    edges = np.arange(n + 1)[:, None] * widths
    x = np.concatenate([edges, rng.integers(0, n * widths, (40, 300))]) + rng.integers(-999, 999, 300)
    bins = pp.k_bins(n, strategy="uniform")
    codes = np.minimum((x - x.min(0)) // widths, n - 1)  # in whole numbers
    if compiled:  # in float32, and a division by a constant is a product there
        found = jax.jit(lambda x: bins.transform(bins.fit(x), x))(jnp.asarray(x, jnp.float32))
    else:
        found = bins.transform(bins.fit(x + least), x + least)
        np.testing.assert_array_equal(fitted(x, n, "uniform").transform(x), codes)
    np.testing.assert_array_equal(found, codes)


def test_seconds_are_binned_apart():
    x = (1.7e9 + np.arange(8.0))[:, None]
    bins = pp.k_bins(4, strategy="uniform")
    assert np.bincount(np.asarray(bins.transform(bins.fit(x), x))[:, 0]).tolist() == [2, 2, 2, 2]


def test_bins_refuse():
    bins = pp.k_bins()
    with pytest.raises(ValueError, match="x holds nan; impute it"):
        bins.fit(np.array([[1.0], [np.nan]]))
    with pytest.raises(ValueError, match="n_bins must be at least 2"):
        pp.k_bins(1)
    with pytest.raises(ValueError, match="axis must be 0"):
        pp.k_bins(encode="onehot", axis=1)
