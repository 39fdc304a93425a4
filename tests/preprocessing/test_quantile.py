"""Quantile transforms against scikit-learn."""

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.preprocessing as sk
from helpers.properties import over
from helpers.tables import SKEWED, close

from jaxdeep import preprocessing as pp
from jaxdeep._compat import enable_x64

RNG = np.random.default_rng(0)


def theirs(x, output, n):
    count = min(n, len(x))
    transform = sk.QuantileTransformer(n_quantiles=count, output_distribution=output, subsample=None)
    return transform.fit(x)


@pytest.mark.parametrize("n", [1000, 10])
@pytest.mark.parametrize("output", ["uniform", "normal"])
def test_quantile_transform_is_scikit_learns(x64, output, n):
    x = np.column_stack([SKEWED, 1.7e9 + np.arange(200)]).astype(float)
    x[3, 0] = np.nan
    transform = pp.quantile_transform(n, output=output)
    state = transform.fit(x)
    new = np.concatenate([x, x + 0.3, 0.5 * x])
    expected = theirs(x, output, n)
    close(transform.transform(state, new), expected.transform(new), rtol=1e-6, atol=1e-7)
    y = expected.transform(x)
    close(transform.inverse_transform(state, y), expected.inverse_transform(y), rtol=1e-9, atol=1e-9)


def test_equal_values_get_the_middle_of_their_range(x64):
    x = np.repeat([0.0, 1, 2, 3], [50, 60, 70, 20])[:, None]
    transform = pp.quantile_transform()
    y = np.asarray(transform.transform(transform.fit(x), [[0.0], [1.0], [2.0], [3.0]]))[:, 0]
    close(y, [0, (50 + 109) / 2 / 199, (110 + 179) / 2 / 199, 1], rtol=1e-12)


@over(
    5,
    200,
    heavy=True,
    x=hnp.arrays(float, (6, 2), elements=st.integers(-3, 3).map(float) | st.just(np.nan)),
    output=st.sampled_from(["uniform", "normal"]),
)
def test_quantile_transform_is_scikit_learns_on_any_table(x, output):
    x[0] = np.nan_to_num(x[0])
    transform = pp.quantile_transform(output=output)
    with enable_x64(True):
        y = np.array(transform.transform(transform.fit(x), x))
    peer = theirs(x, output, 1000)
    # its 60th percentile of -1, 0, 0, 0, 1, 1 is 2e-16, above the 0 that it is
    peer.quantiles_ = peer.quantiles_.round(9)
    expected = peer.transform(x)
    constant = np.nanmax(x, axis=0) == np.nanmin(x, axis=0)
    expected[:, constant] = np.where(np.isnan(x[:, constant]), np.nan, 0)  # there −5.2
    close(y, expected, atol=1e-7)


def test_float32_is_fine_at_both_ends():
    x = RNG.normal(size=(2000, 1))
    transform = pp.quantile_transform(output="normal")
    y = np.asarray(transform.transform(transform.fit(x), x))
    close(y, theirs(x, "normal", 1000).transform(x), rtol=1e-4, atol=2e-5)
    close(transform.inverse_transform(transform.fit(x), y), x, rtol=1e-3, atol=1e-4)
    close(y.min(), -5.199338, rtol=1e-6)
    close(y.max(), 5.199338, rtol=1e-6)


def test_columns_in_small_units_and_constant_ones():
    x = np.column_stack(
        [1e-9 * np.arange(11), np.full(11, 0.1), np.full(11, np.nan), np.r_[[1.0], [np.nan] * 10]]
    )
    for output, middle in (("uniform", 0.0), ("normal", 0.0)):
        transform = pp.quantile_transform(output=output)
        state = transform.fit(x)
        y = np.asarray(transform.transform(state, x))
        close(y[:, 1], np.full(11, middle))
        assert y[0, 3] == 0
        assert np.isnan(y[:, 2]).all()
        assert len(np.unique(y[:, 0])) == 11
        close(transform.transform(state, np.full((1, 4), 7.0))[0, 2], 0)  # nothing is known of it
        close(transform.inverse_transform(state, np.zeros((1, 4)))[0, [1, 3]], [0.1, 1.0], rtol=1e-6)


def test_quantiles_never_go_down():
    x = np.repeat(np.array([[0.1 + 0.2], [0.3]]), 50, axis=0) + 1e-17 * RNG.normal(size=(100, 1))
    transform = pp.quantile_transform(7)
    state = transform.fit(x)
    assert (np.diff(state.quantiles, axis=0) >= 0).all()
    y = np.asarray(transform.transform(state, np.sort(x, axis=0)))
    assert (np.diff(y, axis=0) >= 0).all()


@pytest.mark.heavy
def test_quantile_transform_runs_compiled():
    x = jnp.asarray(RNG.normal(size=(30, 2)), jnp.float32)
    transform = pp.quantile_transform(output="normal")
    expected = transform.transform(transform.fit(np.asarray(x)), x)
    close(jax.jit(lambda x: transform.transform(transform.fit(x), x))(x), expected, rtol=1e-4, atol=1e-5)
    states = jax.jit(jax.vmap(transform.fit))(jnp.stack([x, 2 * x]))
    assert states.quantiles.shape == (2, 30, 2)
    both = jax.jit(jax.vmap(transform.transform))(states, jnp.stack([x, 2 * x]))
    close(both[1], expected, rtol=1e-4, atol=1e-5)
    assert transform.transform(transform.fit(x), x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    state = transform.fit(np.asarray(expected))
    slope = jax.jit(jax.grad(lambda x: transform.transform(state, x).sum()))(x)
    assert jnp.isfinite(slope).all()


def test_quantile_transform_refuses():
    with pytest.raises(ValueError, match="n_quantiles must be at least 1"):
        pp.quantile_transform(0)
    with pytest.raises(ValueError, match="output must be"):
        pp.quantile_transform(output="gamma")
