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


def test_ntk_dense_is_a_product_over_the_root_of_its_inputs():
    layer = jd.nn.ntk_dense(200)
    x = np.random.default_rng(0).normal(size=(7, 300)).astype(np.float32)
    params, state = layer.init(jax.random.key(0), x)
    for name in ("kernel", "bias"):  # N(0, 1): the bounds are five standard errors
        drawn = np.asarray(params[name])
        assert abs(drawn.mean()) < 5 / np.sqrt(drawn.size)
        assert abs(drawn.var() - 1) < 5 * np.sqrt(2 / drawn.size)
    assert abs(np.asarray(params["kernel"])).max() > 3  # not truncated
    y, _ = layer.apply(params, state, x)
    np.testing.assert_allclose(
        y, x @ np.asarray(params["kernel"]) / np.sqrt(300) + np.asarray(params["bias"]), atol=1e-5
    )
    assert jd.nn.ntk_dense(2) == jd.saving.from_config(jd.saving.to_config(jd.nn.ntk_dense(2)))


def test_a_step_of_adam_moves_ntk_dense_as_it_moves_dense_at_a_rate_over_the_root():
    x = np.random.default_rng(0).normal(size=(7, 16)).astype(np.float32)
    ntk, plain = jd.nn.ntk_dense(3, use_bias=False), jd.nn.dense(3, use_bias=False)
    params, _ = ntk.init(jax.random.key(0), x)

    def stepped(model, params, rate):
        tx = jd.optimizers.adam(rate)
        grads = jax.grad(lambda p: (model.apply(p, {}, x)[0] ** 2).sum())(params)
        updates, _ = tx.update(grads, tx.init(params), params)
        return jax.tree.map(jnp.add, params, updates)["kernel"]

    scaled = {"kernel": params["kernel"] / 4}
    np.testing.assert_allclose(
        stepped(ntk, params, 0.4) / 4, stepped(plain, scaled, 0.1), rtol=1e-5, atol=1e-6
    )


def test_what_ntk_dense_puts_out_means_what_that_of_dense_does():
    for function in (None, jax.nn.softmax, jax.nn.relu):
        ntk, plain = jd.nn.ntk_dense(3, activation=function), jd.nn.dense(3, activation=function)
        assert ntk.meaning == plain.meaning is not None


def test_what_ntk_dense_does_not_fit_is_refused_in_its_name():
    with pytest.raises(ValueError, match="ntk_dense was initialised for 2 features"):
        jd.nn.ntk_dense(1).apply({"kernel": jnp.ones((2, 1)), "bias": jnp.ones(1)}, {}, jnp.ones((1, 3)))
    with pytest.raises(TypeError, match="kernel_init"):
        jd.nn.ntk_dense(1, kernel_init=None)
