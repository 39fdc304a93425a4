"""Dense layers, embeddings and reshaping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.layers import KEY, run

import jaxdeep as jd
from jaxdeep.nn import initializers as init


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (None, "glorot_uniform"),
        (jnp.tanh, "glorot_uniform"),
        (jax.nn.relu, "he_normal"),
        (jax.nn.gelu, "he_normal"),
        (jd.nn.activations.swish, "he_normal"),
        (jax.tree_util.Partial(jax.nn.leaky_relu, negative_slope=0.2), "he_normal"),
        (jax.nn.selu, "lecun_normal"),
    ],
)
def test_a_dense_layer_takes_the_initialiser_of_its_activation(activation, name):
    params, _ = jd.nn.dense(50, activation=activation).init(KEY, jnp.ones((1, 40)))
    np.testing.assert_array_equal(params["kernel"], getattr(init, name)()(KEY, (40, 50), jnp.float32))


@pytest.mark.heavy
def test_embedding_and_reshape():
    layer = jd.nn.embedding(5, 3)
    params, state = layer.init(KEY, jnp.zeros((1,), int))
    x = jnp.array([[0, 4], [2, 2]])
    np.testing.assert_array_equal(layer.apply(params, state, x)[0], params["table"][x])
    traced = jax.jit(lambda x: layer.apply(params, state, x)[0])(jnp.array([-1, 5, 1]))
    assert np.isnan(traced[:2]).all()
    assert np.isfinite(traced[2]).all()
    assert run(jd.nn.reshape(2, -1), jnp.ones((3, 8))).shape == (3, 2, 4)
