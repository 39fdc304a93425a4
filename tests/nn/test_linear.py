"""Dense layers, embeddings and reshaping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.layers import KEY, run
from helpers.properties import of_width, over

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


@pytest.mark.few(1)
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("kind", ["embedding", "quantized"])
@over(4, 200, x=of_width(3, 299))
def test_narrow_integers_name_the_rows_that_wide_ones_do(kind, traced, x):
    size = 300  # beyond what 8 bits hold
    table = np.arange(size * 2.0, dtype=np.float32).reshape(size, 2)
    make = jd.nn.embedding if kind == "embedding" else jd.compress.quantized_embedding
    layer, params = make(size, 2), {"table": table}
    if kind == "quantized":
        table = np.arange(size * 2).reshape(size, 2).astype(np.int8)
        params = {"table": table, "scale": np.ones(size, np.float32)}
    apply = lambda x: layer.apply(params, {}, x)[0]  # noqa: E731
    y = jax.jit(apply)(x) if traced else apply(x)
    np.testing.assert_array_equal(y, table[x.astype(int)])


def test_numbers_below_zero_are_nan_in_every_integer_type():
    layer, params = jd.nn.embedding(200, 1), {"table": jnp.ones((200, 1))}
    for dtype in (jnp.int8, jnp.int16, jnp.int32):
        assert np.isnan(jax.jit(lambda x: layer.apply(params, {}, x)[0])(jnp.array([-1], dtype)))


def test_64_bit_numbers_are_checked_before_they_are_cut():
    for make in (jd.nn.embedding, jd.compress.quantized_embedding):
        params, state = make(10, 1).init(KEY, jnp.zeros(1, int))
        with pytest.raises(ValueError, match="4294967297"):
            make(10, 1).apply(params, state, np.array([2**32 + 1]))
