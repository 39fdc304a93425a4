"""Initialisers: their moments, bounds and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.layers import KEY

from jaxdeep.nn import initializers as init


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("make", "variance", "bound"),
    [
        (init.glorot_uniform(), 1 / 1250, (3 / 1250) ** 0.5),
        (init.glorot_normal(), 1 / 1250, 2 * (1 / 1250) ** 0.5 / 0.87962566),
        (init.he_uniform(), 2 / 2000, (6 / 2000) ** 0.5),
        (init.he_normal(), 2 / 2000, 2 * (2 / 2000) ** 0.5 / 0.87962566),
        (init.lecun_uniform(), 1 / 2000, (3 / 2000) ** 0.5),
        (init.lecun_normal(), 1 / 2000, 2 * (1 / 2000) ** 0.5 / 0.87962566),
        (init.variance_scaling(2, "fan_avg", "uniform"), 2 / 1250, (6 / 1250) ** 0.5),
        (init.variance_scaling(2, "fan_out", "normal"), 2 / 500, np.inf),
        (init.truncated_normal(0.05), (0.05 * 0.87962566) ** 2, 0.1),
        (init.normal(0.05), 0.05**2, np.inf),
    ],
)
def test_moments_and_bounds_of_initialisers_on_a_million_draws(make, variance, bound):
    w = np.asarray(make(KEY, (2000, 500)), np.float64)
    n = w.size
    assert abs(w.mean()) < 4 * (variance / n) ** 0.5
    kurtosis = ((w - w.mean()) ** 4).mean() / w.var() ** 2
    assert abs(w.var() - variance) < 4 * variance * ((kurtosis - 1) / n) ** 0.5
    assert np.abs(w).max() <= bound * (1 + 1e-6)


@pytest.mark.heavy
def test_orthogonal_identity_and_constant():
    q = init.orthogonal(2.0)(KEY, (7, 5))
    np.testing.assert_allclose(q.T @ q, 4 * np.eye(5), atol=1e-5)
    np.testing.assert_array_equal(init.identity()(KEY, (3, 3)), np.eye(3))
    np.testing.assert_array_equal(init.constant(0.3)(KEY, (2,)), np.full(2, 0.3, np.float32))
    assert init.identity()(KEY, (2, 2), jnp.bfloat16).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="identity makes matrices, got shape"):
        init.identity()(KEY, (3,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, "fan_in", "normal"), "scale must be in"),
        ((float("nan"), "fan_in", "normal"), "scale must be in"),
        ((1.0, "fan_inn", "normal"), "mode must be one of fan_in"),
        ((1.0, "fan_in", "gauss"), "distribution must be one of"),
    ],
)
def test_variance_scaling_refuses_what_would_draw_nan_or_fail_later(arguments, message):
    with pytest.raises(ValueError, match=message):
        init.variance_scaling(*arguments)


def test_uniform_and_variance_scaling_are_those_of_jax():
    peer = jax.nn.initializers
    for ours, theirs in (
        (init.uniform(0.3), peer.uniform(0.3)),
        (init.variance_scaling(2, "fan_avg", "uniform"), peer.variance_scaling(2, "fan_avg", "uniform")),
    ):
        np.testing.assert_array_equal(ours(KEY, (4, 5)), theirs(KEY, (4, 5)))
