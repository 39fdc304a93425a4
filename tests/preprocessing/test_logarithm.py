"""Logarithms as a step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tables import SKEWED, close

from jaxdeep import preprocessing as pp

NUMPYS = {"log": np.log, "log1p": np.log1p}


@pytest.mark.parametrize("method", NUMPYS)
@pytest.mark.parametrize("standardize", [False, True])
def test_log_transform_is_numpys_and_has_an_inverse(method, standardize):
    x = SKEWED.copy()
    x[3, 0] = np.nan
    transform = pp.log_transform(method, standardize=standardize)
    state = transform.fit(x)
    y, expected = np.asarray(transform.transform(state, x)), NUMPYS[method](x)
    if standardize:
        expected = (expected - np.nanmean(expected, axis=0)) / np.nanstd(expected, axis=0)
    close(y, expected, rtol=1e-5, atol=1e-5)
    close(transform.inverse_transform(state, y), x, rtol=1e-5)


def test_large_numbers_keep_their_differences_there_and_back():
    x = (1.7e9 + np.arange(100.0))[:, None]
    transform = pp.log_transform(standardize=True)
    state = transform.fit(x)
    y = transform.transform(state, x)
    close(y[:, 0], (np.arange(100) - 49.5) / np.arange(100).std(), rtol=1e-4, atol=1e-4)
    assert np.abs(np.asarray(transform.inverse_transform(state, y), float) - x).max() <= 64


def test_log_transform_runs_compiled_and_keeps_the_dtype():
    x = jnp.asarray(SKEWED[:20], jnp.float32)
    transform = pp.log_transform(standardize=True)
    y = transform.transform(transform.fit(x), x)
    close(jax.jit(lambda x: transform.transform(transform.fit(x), x))(x), y, rtol=1e-4, atol=1e-5)
    assert transform.transform(transform.fit(x), x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    bare = pp.log_transform("log")
    close(jax.vmap(bare.transform, (None, 0))(bare.fit(x), x), np.log(x), rtol=1e-5, atol=1e-6)
    traced = jax.jit(lambda x: bare.transform(bare.fit(x), x))(jnp.array([[-1.0], [1.0]]))
    close(traced, [[np.nan], [0.0]])
    slope = jax.grad(lambda x: bare.transform(bare.fit(x), x).sum())(jnp.array([[2.0], [4.0]]))
    close(slope, [[0.5], [0.25]])


def test_log_transform_refuses_what_has_no_logarithm():
    with pytest.raises(ValueError, match="x must be above 0 for log"):
        pp.log_transform("log").fit(np.array([[0.0]]))
    transform = pp.log_transform()
    with pytest.raises(ValueError, match="x must be above -1 for log1p"):
        transform.transform(transform.fit(np.ones((2, 1))), np.array([[-1.0]]))
    with pytest.raises(ValueError, match="method must be"):
        pp.log_transform("log2")


def test_logarithms_that_float32_cannot_tell_are_to_be_standardized():
    times = (1.7e9 + np.arange(100.0))[:, None]
    with pytest.raises(ValueError, match=r"the transform of x holds .*: use standardize=True"):
        pp.log_transform().fit(times)
    transform = pp.log_transform(standardize=True)
    assert len(np.unique(transform.transform(transform.fit(times), times))) == 100


@pytest.mark.parametrize("standardize", [False, True])
def test_numbers_whose_logarithms_float64_cannot_tell_are_refused(standardize):
    transform = pp.log_transform(standardize=standardize)
    for x, what in ((2**60, "x holds numbers from"), (2**50, "x holds numbers near")):
        with pytest.raises(ValueError, match=f"{what} .* float64 cannot tell"):
            transform.fit((x + np.arange(100))[:, None])


def test_whole_numbers_on_a_device_are_those_of_the_host():
    x = (1_700_000_000 + np.arange(50, dtype=np.int32))[:, None]
    transform = pp.log_transform(standardize=True)
    host, device = (transform.transform(transform.fit(some), some) for some in (x, jnp.asarray(x)))
    assert len(np.unique(host)) == 50
    np.testing.assert_array_equal(host, device)
