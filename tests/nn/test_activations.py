"""Activations, as functions and as layers, against their equations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.layers import KEY, run

import jaxdeep as jd

Z = jnp.linspace(-5, 5, 101)


@pytest.mark.parametrize(
    ("function", "equation"),
    [
        ("sigmoid", lambda z: 1 / (1 + np.exp(-z))),
        ("tanh", np.tanh),
        ("softplus", lambda z: np.logaddexp(z, 0)),
        ("relu", lambda z: np.maximum(z, 0)),
        ("leaky_relu", lambda z: np.maximum(0.01 * z, z)),
        ("elu", lambda z: np.where(z > 0, z, np.expm1(z))),
        (
            "selu",
            lambda z: 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(z)),
        ),
        ("silu", lambda z: z / (1 + np.exp(-z))),
        ("swish", lambda z: z / (1 + np.exp(-z))),
        ("mish", lambda z: z * np.tanh(np.logaddexp(z, 0))),
    ],
)
def test_activations_are_their_equations(function, equation):
    found = getattr(jd.nn.activations, function)(Z)
    np.testing.assert_allclose(found, equation(np.asarray(Z, np.float64)), rtol=2e-5, atol=1e-6)


def test_gelu_is_that_of_jax_with_finite_gradients_in_float16():
    x = jax.lax.bitcast_convert_type(jnp.arange(2**16, dtype=jnp.uint16), jnp.float16)
    x = x[jnp.isfinite(x)]
    for ours, theirs in (
        (jd.nn.activations.gelu, jax.nn.gelu),
        tuple(functools.partial(f, approximate=False) for f in (jd.nn.activations.gelu, jax.nn.gelu)),
    ):
        for dtype in (jnp.float16, jnp.float32):
            np.testing.assert_array_equal(ours(x.astype(dtype)), theirs(x.astype(dtype)))
        found = jax.vmap(jax.grad(ours))(x)
        exact = jax.vmap(jax.grad(theirs))(x.astype(jnp.float32))
        np.testing.assert_allclose(found, exact, atol=3e-3)
    model = jd.nn.mixed_precision(jd.nn.activation(jd.nn.activations.gelu), "float16")
    wide = jnp.array([-300.0, 300.0, 6e4])
    found = jax.grad(lambda x: model.apply({}, {}, x)[0].sum())(wide)
    assert found.tolist() == [0.0, 1.0, 1.0]


@pytest.mark.heavy
def test_swish_with_a_beta_prelu_and_rrelu():
    z = np.asarray(Z, np.float64)
    found = jd.nn.activations.swish(Z, beta=1.702)
    np.testing.assert_allclose(found, z / (1 + np.exp(-1.702 * z)), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(jd.nn.activations.prelu(Z, 0.3), np.where(z >= 0, z, 0.3 * z), rtol=1e-6)
    np.testing.assert_allclose(run(jd.nn.rrelu(), Z), np.where(z >= 0, z, 11 / 48 * z), rtol=1e-6)
    x = -jnp.ones(100_000)
    slopes = -run(jd.nn.rrelu(), x, key=KEY)
    assert 1 / 8 <= slopes.min() < slopes.max() <= 1 / 3
    assert abs(float(slopes.mean()) - 11 / 48) < 4 * (5 / 24) / 12**0.5 / 100_000**0.5


def test_the_slope_of_prelu_and_the_beta_of_swish_are_trained():
    for layer, name, x in (
        (jd.nn.prelu(0.1), "alpha", -jnp.ones((2, 3))),
        (jd.nn.swish(0.5), "beta", jnp.ones((2, 3))),
    ):
        params, state = layer.init(KEY, x)
        grads = jax.grad(lambda p, layer=layer, x=x, s=state: layer.apply(p, s, x)[0].sum())(params)
        assert np.all(np.asarray(grads[name]) != 0)
    params, _ = jd.nn.prelu(shared_axes=(1, 2)).init(KEY, jnp.ones((2, 4, 5, 3)))
    assert params["alpha"].shape == (1, 1, 3)


@pytest.mark.parametrize("function", [jax.lax.while_loop, jax.lax.select, lambda: 0, jnp.add, np.add])
def test_what_does_not_take_one_array_is_no_activation(function):
    for make in (jd.nn.activation, lambda f: jd.nn.dense(2, activation=f)):
        with pytest.raises(TypeError, match="must be a function of one array"):
            make(function)


def test_slopes_of_prelu_are_shared_only_where_it_says_so():
    x = jnp.array([[-1.0, -2.0], [3.0, -4.0]])
    one = {"alpha": jnp.full(1, 0.5)}
    with pytest.raises(ValueError, match=r"slopes of shape \(1,\).*needs \(2,\)"):
        jd.nn.prelu().apply(one, {}, x)
    shared = jd.nn.prelu(shared_axes=(1,))
    np.testing.assert_array_equal(shared.apply(one, {}, x)[0], [[-0.5, -1.0], [3.0, -2.0]])
    with pytest.raises(ValueError, match=r"needs \(1,\)"):
        shared.apply({"alpha": jnp.full(2, 0.5)}, {}, x)


NOT_ELEMENTWISE = {
    "a sum": jnp.sum,
    "a mean of each example": functools.partial(jnp.mean, axis=-1),
    "one more axis": lambda x: x[None],
    "another dtype": lambda x: x > 0,
    "two arrays": lambda x: (x, x),
    "a transpose": lambda x: x.T,
}
OF_THE_BATCH = {
    "sorted rows": functools.partial(jnp.sort, axis=0),
    "a softmax over rows": functools.partial(jax.nn.softmax, axis=0),
    "all standardised": lambda x: x / (1 + x.std()),
    "summed up": jax.jit(functools.partial(jnp.cumsum, axis=0)),
}


@pytest.mark.parametrize("name", [*NOT_ELEMENTWISE, *OF_THE_BATCH])
def test_what_is_not_elementwise_is_no_activation(name):
    function = (NOT_ELEMENTWISE | OF_THE_BATCH)[name]
    x = jnp.ones((4, 3, 3, 3)) if name == "a transpose" else jnp.ones((4, 3))
    layers = [jd.nn.activation(function)]
    if x.ndim == 2:
        layers.append(jd.nn.dense(2, activation=function))
    for layer in layers:
        for model in (layer, jd.nn.serial(layer)):
            with pytest.raises(ValueError, match=r"(function|activation) must .*lambda_"):
                model.init(KEY, x)
    if name in NOT_ELEMENTWISE:
        with pytest.raises(ValueError, match=r"function must .*lambda_"):
            jd.nn.activation(function).apply({}, {}, x)


@pytest.mark.parametrize(
    "function",
    [jax.nn.softmax, jax.nn.log_softmax, functools.partial(jax.nn.softmax, axis=1), jnp.sign],
)
def test_what_takes_each_example_by_itself_is_one(function):
    x = jnp.arange(6.0).reshape(2, 3)
    layer = jd.nn.activation(function)
    assert layer.init(KEY, x) == ({}, {})
    np.testing.assert_array_equal(layer.apply({}, {}, x)[0], function(x))


def test_whole_numbers_may_become_others():
    x = jnp.array([[1, -2]])
    for function in (jnp.sign, jax.nn.softplus, lambda x: x > 0):
        np.testing.assert_array_equal(jd.nn.activation(function).apply({}, {}, x)[0], function(x))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (jnp.zeros_like, "zeros_like gives the same whatever its input"),
        (lambda x: jnp.full_like(x, 3), "gives the same whatever its input"),
        (lambda x: jnp.ones(x.shape), "gives the same whatever its input"),
        (jax.jit(jnp.ones_like), "gives the same whatever its input"),
        (jnp.sort, "sort gives the numbers of its input in another order"),
        (jax.jit(jnp.flip), "gives the numbers of its input in another order"),
        (lambda x: jnp.roll(x, 1, axis=-1), "gives the numbers of its input in another order"),
        (lambda x: x[:, jnp.array([2, 0, 1])], "gives the numbers of its input in another order"),
        (jnp.zeros, r"a function of an array, and zeros fails for one of shape \(2, 3\)"),
        (jnp.eye, "a function of an array, and eye fails"),
    ],
)
def test_what_is_no_activation_is_refused(function, message):
    x = jnp.ones((2, 3))
    for name, layer in (
        ("function", jd.nn.activation(function)),
        ("activation", jd.nn.dense(3, activation=function)),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{name} must be .*{message}"):
            layer.init(jax.random.key(0), x)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x,
        lambda x: x.T.T,
        lambda x: jnp.maximum(x, 0),
        lambda x: jnp.where(x > 9, x, 0),
        lambda x: jnp.concatenate([x[:, :1], jnp.tanh(x[:, 1:])], axis=1),
        lambda x: jnp.sort(x, axis=-1) - x,
        jnp.sign,
        jax.nn.softmax,
        jax.jit(jax.nn.relu),
    ],
)
def test_what_may_be_an_activation_is_taken(function):
    params, state = jd.nn.activation(function).init(jax.random.key(0), jnp.ones((2, 3)))
    assert params == {}
    assert state == {}
