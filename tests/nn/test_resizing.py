"""Zeros around images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd

X = np.random.default_rng(0).normal(size=(2, 3, 4, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("padding", "pairs"),
    [(1, ((1, 1), (1, 1))), (((0, 2), (1, 0)), ((0, 2), (1, 0))), (0, ((0, 0),) * 2)],
)
def test_zeros_are_those_of_numpy(padding, pairs):
    y, _ = jd.nn.zero_padding(padding).apply({}, {}, X)
    np.testing.assert_array_equal(y, np.pad(X, ((0, 0), *pairs, (0, 0))))


def test_padding_by_hand_is_that_of_a_convolution():
    pairs = ((1, 2), (0, 1))
    whole = jd.nn.conv(3, 3, padding=pairs)
    params, _ = whole.init(jax.random.key(0), X)
    parts = jd.nn.serial(pad=jd.nn.zero_padding(pairs), conv=jd.nn.conv(3, 3, padding="VALID"))
    np.testing.assert_allclose(
        parts.apply({"conv": params}, {}, X)[0], whole.apply(params, {}, X)[0], rtol=1e-6, atol=1e-6
    )


def test_what_is_no_padding_is_refused():
    with pytest.raises(ValueError, match="not negative"):
        jd.nn.zero_padding(((-1, 0),))
    with pytest.raises(ValueError, match="padding must be at least 0"):
        jd.nn.zero_padding(-1)
    with pytest.raises(ValueError, match="a pair for each of 2 axes"):
        jd.nn.zero_padding(((1, 0),)).apply({}, {}, jnp.asarray(X))
