"""The temperature that fits the labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.samples import nll

import jaxdeep as jd


def noisy(n=4000, seed=0, scale=1.0):
    """Labels drawn from softmax(z); logits scale · z, so that the right temperature is `scale`."""
    z = 2 * jax.random.normal(jax.random.key(seed), (n, 5))
    return scale * z, jax.random.categorical(jax.random.key(seed + 1), z)


@pytest.mark.heavy
@pytest.mark.parametrize("scale", [0.2, 1.0, 50.0])
def test_the_temperature_that_made_the_labels_is_found(scale):
    logits, y = noisy(scale=scale)
    t = jd.uncertainty.fit_temperature(logits, y)
    assert float(t) == pytest.approx(scale, rel=0.1)
    best = nll(jd.uncertainty.temperature_scale(logits, t), y)
    assert best <= nll(logits, y)
    around = [nll(logits / (t * f), y) for f in (0.9, 0.99, 1.01, 1.1)]
    assert best <= min(around) + 1e-6
    test, labels = noisy(seed=10, scale=scale)  # held out
    if scale != 1:
        assert nll(jd.uncertainty.temperature_scale(test, t), labels) < nll(test, labels)
        before = jd.uncertainty.expected_calibration_error(jax.nn.softmax(test), labels)
        after = jd.uncertainty.expected_calibration_error(jax.nn.softmax(test / t), labels)
        assert float(after) < float(before) / 2


def test_temperature_of_two_classes_in_closed_form():
    z = jnp.full((10, 2), jnp.array([3.0, 0.0]))
    y = np.array([0] * 8 + [1] * 2)
    expected = 3 / np.log(4)  # σ(3 / T) = 0.8
    assert float(jd.uncertainty.fit_temperature(z, y)) == pytest.approx(expected, rel=1e-5)
    assert float(jd.uncertainty.fit_temperature(jnp.full(10, 3.0), 1 - y)) == pytest.approx(
        expected, rel=1e-5
    )
    soft = np.tile([0.8, 0.2], (10, 1))
    assert float(jd.uncertainty.fit_temperature(z, soft)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.heavy
def test_probabilities_are_not_taken_for_logits():
    logits, y = noisy(n=50)
    p = jax.nn.softmax(logits)
    with pytest.raises(ValueError, match="logits are probabilities: every row is in"):
        jd.uncertainty.fit_temperature(p, y)
    of_logits, of_logs = (float(jd.uncertainty.fit_temperature(z, y)) for z in (logits, jnp.log(p)))
    assert of_logs == pytest.approx(of_logits, rel=1e-3)


@pytest.mark.heavy
def test_temperatures_at_the_ends_and_never_worse():
    z = jnp.eye(3) * 2.0
    assert float(jd.uncertainty.fit_temperature(z, np.arange(3))) <= 1e-1  # all right: as sure as may be
    wrong = float(jd.uncertainty.fit_temperature(z, (np.arange(3) + 1) % 3))
    assert wrong == pytest.approx(1e4, rel=1e-3)  # worse than chance: knows nothing
    flat = jnp.zeros((4, 3))
    assert np.isfinite(float(jd.uncertainty.fit_temperature(flat, np.zeros(4, int))))
    barred = jnp.array([[1.0, 0.0, -jnp.inf]] * 4)
    found = float(jd.uncertainty.fit_temperature(barred, np.array([0, 0, 0, 1])))
    assert found == pytest.approx(1 / np.log(3), rel=1e-5)
    for seed in range(5):
        logits, y = noisy(n=7, seed=seed)
        t = jd.uncertainty.fit_temperature(logits, y)
        assert nll(logits / t, y) <= nll(logits, y) + 1e-6


@pytest.mark.heavy
def test_temperature_compiled_vmapped_and_in_bfloat16():
    logits, y = noisy(n=500, scale=2.0)
    fit = jd.uncertainty.fit_temperature
    expected = float(fit(logits, y))
    assert float(jax.jit(fit)(logits, y)) == pytest.approx(expected, rel=1e-5)
    many = jax.vmap(fit)(jnp.stack([logits, 2 * logits]), jnp.stack([y, y]))
    np.testing.assert_allclose(many, [expected, 2 * expected], rtol=1e-4)
    low = jd.uncertainty.temperature_scale(
        logits.astype(jnp.bfloat16), fit(logits.astype(jnp.bfloat16), y)
    )
    assert low.dtype == jnp.bfloat16


def test_probabilities_of_a_single_output_are_not_taken_for_logits():
    fit, z = jd.uncertainty.fit_temperature, np.array([0.2, 0.8, 0.7], np.float32)
    y = np.array([0, 1, 0])
    for form in (z, z[:, None], jnp.array(z)):
        with pytest.raises(ValueError, match=r"logits of a single output are in \[0, 1\]"):
            fit(form, y)
    both = np.stack([0 * z, z], axis=-1)  # what the error says to write of such logits
    assert float(fit(both, y)) == pytest.approx(float(jax.jit(fit)(z, y)), rel=1e-5)
    assert np.isfinite(fit(np.log(z / (1 - z)), y))
    assert np.isfinite(fit(np.array([1.0, 0.0, 1.0]), y))


def test_logits_without_a_temperature():
    fit, y = jd.uncertainty.fit_temperature, np.array([0, 1])
    for bad in (np.nan, np.inf):
        for z in (np.array([[bad, 0.0], [0.0, 1.0]]), np.array([bad, 2.0])):
            with pytest.raises(ValueError, match=f"logits must be numbers below infinity, got {bad}"):
                fit(z, y)
            assert np.isnan(jax.jit(fit)(z, y))
    assert np.isnan(jax.jit(fit)(np.eye(2), np.array([0, -1])))


def test_probabilities_are_not_scaled():
    p = jax.nn.softmax(jax.random.normal(jax.random.key(0), (5, 3)))
    with pytest.raises(ValueError, match="logits are probabilities"):
        jd.uncertainty.temperature_scale(p, 2.0)
    np.testing.assert_allclose(jax.jit(jd.uncertainty.temperature_scale)(p, 2.0), p / 2, rtol=1e-6)
    jd.uncertainty.temperature_scale(jnp.array([[0.25, 0.5]]), 2.0)
