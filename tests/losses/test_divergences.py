import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from jaxdeep import losses


@pytest.mark.heavy
def test_divergence_is_that_of_scipy():
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(9, 4)).astype(np.float32), rng.dirichlet(np.ones(4), 9)
    y[0] = [1, 0, 0, 0]
    q = scipy.special.softmax(logits.astype(float), axis=-1)
    exact = scipy.special.rel_entr(y, q).sum(-1)
    np.testing.assert_allclose(losses.kl_divergence(logits, y), exact, rtol=1e-5, atol=1e-6)
    found = losses.kl_divergence(q.astype(np.float32), y, from_logits=False)
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-6)
    log_q = jax.nn.log_softmax(logits)
    np.testing.assert_allclose(found, optax.losses.kl_divergence(log_q, jnp.asarray(y)), atol=1e-6)
    slope = jax.grad(lambda x: losses.kl_divergence(x, y).sum())(jnp.asarray(logits))
    np.testing.assert_allclose(slope, q - y, atol=1e-6)
    impossible = jax.value_and_grad(lambda x: losses.kl_divergence(x, y[:1]).sum())
    value, slope = impossible(jnp.array([[0.0, 1.0, 0.0, -jnp.inf]]))
    np.testing.assert_allclose(value, np.log(2 + np.e), rtol=1e-6)
    assert np.isfinite(slope).all()


def test_poisson_is_the_log_likelihood_of_counts():
    mean, count = np.array([0.5, 2.0, 7.0, 1e4]), np.array([0, 3, 7, 9990])
    exact = mean - count * np.log(mean)
    np.testing.assert_allclose(losses.poisson(mean, count), exact, rtol=1e-5)
    np.testing.assert_allclose(losses.poisson(np.log(mean), count, log_input=True), exact, rtol=1e-5)
    none = losses.poisson(np.zeros(2, np.float32), np.array([0.0, 1.0]))
    np.testing.assert_allclose(none, [0, -np.log(1e-7)], rtol=1e-6)
    low = losses.poisson(jnp.asarray(mean, jnp.bfloat16), count)
    assert low.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.kl_divergence(np.zeros((2, 3)), np.array([0, 1])), "must be probabilities of"),
        (lambda: losses.kl_divergence(np.zeros((1, 2)), np.array([[0.5, 0.6]])), "must sum to 1"),
        (lambda: losses.poisson(np.array([-1.0]), np.array([1])), r"outputs must be in \[0, inf\]"),
        (lambda: losses.poisson(np.array([1.0]), np.array([-1])), r"targets must be in \[0, inf\]"),
        (lambda: losses.poisson(np.ones((2, 3)), np.ones(2)), "must have the shape of the outputs"),
        (lambda: losses.msle(np.array([-1.0]), np.ones(1)), "outputs must be above -1, got -1.0"),
        (lambda: losses.msle(np.ones(1), np.array([-2])), "targets must be above -1, got -2"),
    ],
)
def test_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_relative_errors_keep_the_digits_of_numpy():
    y = 1.7e9 + np.arange(4)
    np.testing.assert_allclose(losses.mape(y + 2, y), 2 / y, rtol=1e-6)
    np.testing.assert_allclose(losses.msle(y + 2, y), np.log1p(2 / (1 + y)) ** 2, rtol=1e-6)
    np.testing.assert_allclose(losses.mape(np.ones(1), np.zeros(1)), 2.0**52, rtol=1e-6)
    assert np.isnan(jax.jit(losses.msle)(jnp.array([-2.0]), jnp.ones(1)))
