"""Dropout, alpha dropout and noise: their rates, moments and masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.layers import KEY, run

import jaxdeep as jd
from jaxdeep.nn.stochastic import random_words


@pytest.mark.heavy
@pytest.mark.few(1)
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5, 0.9])
def test_dropout_keeps_its_rate_and_the_mean(rate):
    x = jnp.ones((1000, 784))
    y = np.asarray(run(jd.nn.dropout(rate), x, key=KEY), np.float64)
    kept = (y != 0).mean()
    assert abs(kept - (1 - rate)) < 4 * (rate * (1 - rate) / y.size) ** 0.5
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=2e-6)


@pytest.mark.heavy
def test_the_slope_of_a_traced_rate_is_that_of_the_scale():
    x, selu = jnp.arange(1.0, 21).reshape(4, 5), -1.0507009873554805 * 1.6732632423543772
    total = lambda make, rate: run(make(rate), x, key=KEY).sum()  # noqa: E731
    kept = run(jd.nn.dropout(0.3), x, key=KEY) != 0
    found = jax.grad(lambda rate: total(jd.nn.dropout, rate))(0.3)
    np.testing.assert_allclose(found, (kept * x).sum() / 0.7**2, rtol=1e-5)

    def of_mask(p):  # with the mask as it is
        a = 1 / np.sqrt((1 - p) * (1 + p * selu**2))
        return (a * np.where(kept, x, selu) - a * selu * p).sum(dtype=np.float64)

    value, slope = jax.value_and_grad(lambda rate: total(jd.nn.alpha_dropout, rate))(0.3)
    np.testing.assert_allclose(value, of_mask(0.3), rtol=1e-5)
    np.testing.assert_allclose(slope, (of_mask(0.301) - of_mask(0.299)) / 0.002, rtol=1e-4)
    for make in (jd.nn.dropout, jd.nn.alpha_dropout):  # and traced or not, the values are the same
        np.testing.assert_array_equal(jax.jit(lambda r: total(make, r))(0.3), total(make, 0.3))  # noqa: B023


def test_dropout_in_bfloat16_keeps_the_mean_too():
    x = jnp.linspace(0.5, 2.0, 200_000).astype(jnp.bfloat16)
    y = run(jd.nn.dropout(0.1), x, key=KEY)
    kept = y != 0
    assert y.dtype == jnp.bfloat16
    ratio = jnp.sum(y, dtype=jnp.float32) / jnp.sum(jnp.where(kept, x, 0), dtype=jnp.float32)
    np.testing.assert_allclose(ratio, 1 / 0.9, rtol=3e-4)  # bfloat16 itself rounds by 4e-3


def test_the_words_behind_masks_are_random():
    """Bytes, bits, neighbours in both directions and neighbouring keys, on half a million words."""
    n = (512, 1024)
    words = {i: np.asarray(random_words(jax.random.key(i), n)) for i in range(3)}
    w = words[0]
    for shift in (0, 8, 16, 24):
        counts = np.bincount(((w >> shift) & 255).ravel(), minlength=256)
        chi2 = ((counts - w.size / 256) ** 2 / (w.size / 256)).sum()
        assert abs(chi2 - 255) < 5 * (2 * 255) ** 0.5
    ones = ((w[..., None] >> np.arange(32, dtype=np.uint32)) & 1).mean((0, 1))
    assert np.abs(ones - 0.5).max() < 5 * 0.5 / w.size**0.5
    u = {i: v / 2.0**32 - 0.5 for i, v in words.items()}
    pairs = [(u[0][:, :-1], u[0][:, 1:]), (u[0][:-1], u[0][1:]), (u[0], u[1]), (u[1], u[2])]
    for a, b in pairs:
        for f in (lambda x: x, lambda x: x**2 - 1 / 12, np.sign):
            r = (f(a) * f(b)).mean() / (f(a).std() * f(b).std())
            assert abs(r) < 5 / a.size**0.5
    runs = (np.diff((u[0] > 0.3).astype(int).ravel()) != 0).mean()  # kept at rate 0.8
    assert abs(runs - 2 * 0.8 * 0.2) < 5 * 0.5 / w.size**0.5


@pytest.mark.heavy
def test_masks_do_not_depend_on_how_arrays_are_split_or_traced():
    x = jnp.ones((64, 32))
    layer = jd.nn.dropout(0.3)
    expected = run(layer, x, key=KEY)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    compiled = jax.jit(lambda x, k: layer.apply({}, {}, x, key=k)[0])
    np.testing.assert_array_equal(compiled(spread, KEY), expected)
    keys = jax.random.split(KEY, 3)
    found = jax.vmap(lambda k: layer.apply({}, {}, x, key=k)[0])(keys)
    for k, y in zip(keys, found):
        np.testing.assert_array_equal(y, run(layer, x, key=k))
    assert run(jd.nn.dropout(1.0), x, key=KEY).max() == 0
    np.testing.assert_array_equal(run(jd.nn.dropout(0.0), x, key=KEY), x)
    rbg = jax.random.key(0, impl="rbg")
    assert 0.6 < float((run(layer, x, key=rbg) > 0).mean()) < 0.8


@pytest.mark.heavy
def test_dropout_of_whole_channels():
    y = np.asarray(
        run(jd.nn.dropout(0.5, noise_shape=(None, 1, 1, None)), jnp.ones((8, 4, 4, 16)), key=KEY)
    )
    assert (y == y[:, :1, :1]).all()
    assert set(np.unique(y)) == {0.0, 2.0}


@pytest.mark.heavy
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_alpha_dropout_keeps_mean_and_deviation(rate):
    x = jax.random.normal(jax.random.key(1), (1000, 1000))
    y = run(jd.nn.alpha_dropout(rate), x, key=KEY)
    assert abs(float(y.mean())) < 0.01
    assert abs(float(y.std()) - 1) < 0.01


def test_gaussian_noise_has_its_deviation():
    y = run(jd.nn.gaussian_noise(0.3), jnp.ones(1_000_000), key=KEY)
    assert abs(float(y.mean()) - 1) < 4 * 0.3 / 1000
    assert abs(float(y.std()) - 0.3) < 0.002


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "layer", [jd.nn.dropout(0.5), jd.nn.alpha_dropout(0.5), jd.nn.gaussian_noise(1.0), jd.nn.rrelu()]
)
def test_random_layers_are_random_with_a_key_only(layer):
    x = -jnp.ones((4, 5))
    assert layer.stochastic
    np.testing.assert_array_equal(run(layer, x), run(layer, x, train=True))
    assert not np.array_equal(run(layer, x, key=KEY), run(layer, x))
    assert run(layer, x.astype(jnp.bfloat16), key=KEY).dtype == jnp.bfloat16


@pytest.mark.heavy
@pytest.mark.few(1)
@pytest.mark.parametrize("make", [jd.nn.dropout, jd.nn.alpha_dropout])
def test_a_traced_rate_has_the_precision_of_float64(make, x64):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(24, 3)))
    key = jax.random.key(0)

    def dropped(rate):
        return make(rate).apply({}, {}, x, key=key)[0]

    np.testing.assert_allclose(jax.jit(dropped)(jnp.float64(0.1)), dropped(0.1), rtol=1e-15)
    if make is jd.nn.dropout:
        kept = dropped(0.1)[dropped(0.1) != 0] / x[dropped(0.1) != 0]
        np.testing.assert_allclose(kept, 1 / 0.9, rtol=1e-9)
