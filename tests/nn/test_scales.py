"""Layers that scale, against their equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

import jaxdeep as jd

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def test_scaling_begins_as_the_identity_and_learns_a_factor_for_each_feature():
    layer = jd.nn.scaling()
    params, state = layer.init(KEY, X)
    assert jax.tree.map(jnp.shape, params) == {"scale": (3,)}
    np.testing.assert_array_equal(layer.apply(params, state, X)[0], X)
    factors = {"scale": jnp.array([2.0, 0.0, -1.0])}
    np.testing.assert_array_equal(layer.apply(factors, state, X)[0], X * [2, 0, -1])
    grads = jax.grad(lambda p: layer.apply(p, state, X)[0].sum())(params)
    np.testing.assert_allclose(grads["scale"], X.sum(0), rtol=1e-6)
    images = np.ones((2, 4, 4, 3), np.float32)
    assert layer.apply(factors, state, images)[0].shape == images.shape


def test_rescale_gives_units_and_cuts_at_inference_only():
    layer = jd.nn.rescale([2.0, 1.0, 0.5], 10.0, low=9.0, high=[11.0, 10.5, 10.25])
    whole = X * np.array([2, 1, 0.5]) + 10
    np.testing.assert_allclose(layer.apply({}, {}, X, train=True)[0], whole, rtol=1e-6)
    cut = np.clip(whole, 9, [11, 10.5, 10.25])
    np.testing.assert_allclose(layer.apply({}, {}, X)[0], cut, rtol=1e-6)
    assert (cut != whole).any()
    one_sided, _ = jd.nn.rescale(1.0, low=0.0).apply({}, {}, X)
    np.testing.assert_array_equal(one_sided, np.maximum(X, 0))
    assert jnp.isnan(layer.apply({}, {}, jnp.full((1, 3), jnp.nan))[0]).all()  # not hidden by the cut


def test_bounded_is_a_scaled_sigmoid_or_tanh():
    low, high = np.array([-1.0, 0.0, 5.0]), 6.0
    y, _ = jd.nn.bounded(low, high).apply({}, {}, X)
    np.testing.assert_allclose(y, low + (high - low) * expit(X), rtol=1e-5, atol=1e-6)
    y, _ = jd.nn.bounded(low, high, squash="tanh").apply({}, {}, X)
    np.testing.assert_allclose(y, low + (high - low) * (1 + np.tanh(X)) / 2, rtol=1e-5, atol=1e-6)
    ends, _ = jd.nn.bounded(0.1, 0.3).apply({}, {}, jnp.array([-200.0, 200.0]))
    np.testing.assert_array_equal(ends, np.array([0.1, 0.3], np.float32))


def test_they_say_whether_their_outputs_are_probabilities():
    behind = lambda *layers: jd.nn.serial(jd.nn.dense(3), *layers).meaning  # noqa: E731
    softmax = jd.nn.activation(jax.nn.softmax)
    assert behind(jd.nn.bounded()) == behind(jd.nn.bounded(0, [1, 1, 1], squash="tanh"))
    assert behind(jd.nn.bounded()) == behind(softmax, jd.nn.rescale(1.0, [0, 0, 0])) == "probabilities"
    assert behind(jd.nn.rescale(1.0)) == "scores"
    for layers in ([jd.nn.bounded(0, 2)], [softmax, jd.nn.rescale(2.0)], [softmax, jd.nn.rescale(1, 1)]):
        assert behind(*layers) == "values"


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_the_dtype_of_the_input_is_kept(dtype):
    layers = [jd.nn.scaling(), jd.nn.rescale(2.0, 1.0, low=0.0), jd.nn.bounded(0, [1, 2, 3])]
    for layer in layers:
        x = jnp.asarray(X, dtype)
        params, state = layer.init(KEY, x)
        assert layer.apply(params, state, x)[0].dtype == dtype


def test_they_are_saved_with_their_numbers():
    model = jd.nn.serial(jd.nn.scaling(), jd.nn.rescale(np.float64(2), np.ones(3)), jd.nn.bounded(0, 2))
    again = jd.saving.from_config(jd.saving.to_config(model))
    assert again == model
    assert "offset=(1.0, 1.0, 1.0)" in repr(again)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: jd.nn.rescale(float("nan")), ValueError, "scale must be in"),
        (lambda: jd.nn.rescale("a"), TypeError, "scale must be a number"),
        (lambda: jd.nn.rescale(1.0, low=2.0, high=1.0), ValueError, "low must be at most high"),
        (lambda: jd.nn.rescale([1.0, 2.0], [1.0]), ValueError, "2 of scale, 1 of offset"),
        (lambda: jd.nn.rescale(1.0, [1.0, 2.0]).apply({}, {}, X), ValueError, "2 numbers in offset"),
        (lambda: jd.nn.rescale([[1.0]]), ValueError, "scale must be a number, or a list"),
        (lambda: jax.jit(lambda s: jd.nn.rescale(s).apply({}, {}, X)[0])(2.0), TypeError, "traced"),
        (lambda: jd.nn.bounded(1.0, 1.0), ValueError, "low must be below high"),
        (lambda: jd.nn.bounded(squash="relu"), ValueError, "squash must be 'sigmoid' or 'tanh'"),
        (lambda: jd.nn.scaling(scale_init=1.0), TypeError, "scale_init"),
        (lambda: jd.nn.scaling().init(KEY, 1.0), ValueError, "scalar"),
        (
            lambda: jd.nn.scaling().apply({"scale": jnp.ones(2)}, {}, X),
            ValueError,
            "scaling was initialised for",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, kind, words):
    with pytest.raises(kind, match=words):
        make()
