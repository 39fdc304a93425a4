"""Pooling against flax, and the gradient of a maximum."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.layers import KEY, run

import jaxdeep as jd


@pytest.mark.few(1)
@pytest.mark.parametrize("shape", [(2, 8, 3), (2, 8, 6, 3), (2, 4, 6, 4, 2)])
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_pooling_is_that_of_flax(shape, padding):
    x = jax.random.normal(KEY, shape)
    space = len(shape) - 2
    window, strides = (3,) * space, (2,) * space
    for ours, theirs in (
        (jd.nn.max_pool, nn.max_pool),
        (
            jd.nn.average_pool,
            lambda x, w, s, padding: nn.avg_pool(x, w, s, padding, count_include_pad=False),
        ),
    ):
        found = run(ours(3, strides=2, padding=padding), x)
        np.testing.assert_allclose(found, theirs(x, window, strides, padding), rtol=1e-5)
    axes = tuple(range(1, len(shape) - 1))
    np.testing.assert_allclose(run(jd.nn.global_max_pool(), x), x.max(axes), rtol=1e-6)
    np.testing.assert_allclose(run(jd.nn.global_average_pool(), x), x.mean(axes), rtol=1e-5, atol=1e-6)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("size", "window", "padding"), [(6, 2, "VALID"), (7, 3, "VALID"), (6, 2, "SAME")]
)
def test_gradient_of_a_maximum_goes_to_its_first_place(size, window, padding):
    x = jax.random.randint(jax.random.key(0), (3, size, size, 2), 0, 3).astype(float)  # with ties
    layer = jd.nn.max_pool(window, padding=padding)
    sizes = (1, window, window, 1)

    def ours(x):
        return layer.apply({}, {}, x)[0]

    def theirs(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, sizes, sizes, padding)

    (y, pull), (expected, pull_theirs) = jax.vjp(ours, x), jax.vjp(theirs, x)
    cotangent = jax.random.normal(jax.random.key(1), y.shape)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(*(p(cotangent)[0] for p in (pull, pull_theirs)))
    np.testing.assert_array_equal(*(jax.jvp(f, (x,), (jnp.cos(x),))[1] for f in (ours, theirs)))
    nan = jax.grad(lambda x: ours(x).sum())(x.at[0, 0, 1, 0].set(jnp.nan) * 1.0)
    assert nan[0, 0, 1, 0] == 1


@pytest.mark.parametrize(("sizes", "window"), [("b,7,9", 2), ("b,h,w", 2), ("b,h,8", (1, 2))])
def test_the_gradient_of_a_maximum_is_exported_for_symbolic_sizes(sizes, window):
    def program(x):
        return jax.grad(lambda x: (jd.nn.max_pool(window).apply({}, {}, x)[0] ** 2).sum())(x)

    constraints = [f"{size}>=4" for size in "hw" if size in sizes]
    shape = jax.export.symbolic_shape(f"{sizes},3", constraints=constraints)
    exported = jax.export.export(jax.jit(program))(jax.ShapeDtypeStruct(shape, jnp.float32))
    x = jax.random.normal(KEY, (2, 7, 9 if window == 2 else 8, 3))
    np.testing.assert_array_equal(exported.call(x), jax.jit(program)(x))


def test_max_pooling_of_booleans_and_explicit_padding():
    x = jnp.array([[False, False, True, False]])[..., None]
    np.testing.assert_array_equal(run(jd.nn.max_pool(2), x)[0, :, 0], [False, True])
    y = run(jd.nn.average_pool(2, padding=[(1, 1)]), jnp.arange(4.0).reshape(1, 4, 1))
    np.testing.assert_array_equal(y[0, :, 0], [0.0, 1.5, 3.0])  # padding does not count


@pytest.mark.heavy
def test_networks_with_pooling_are_trained_in_compiled_loops():
    x = jax.random.normal(KEY, (8, 6, 6, 1))
    for pool in (jd.nn.max_pool(), jd.nn.average_pool(), jd.nn.global_max_pool()):
        compiled = jax.jit(jax.grad(lambda x, pool=pool: (pool.apply({}, {}, x)[0] ** 2).sum()))
        w = jax.grad(lambda x, pool=pool: (pool.apply({}, {}, x)[0] ** 2).sum())(x)
        np.testing.assert_allclose(compiled(x), w, rtol=1e-6)
    model = jd.nn.serial(
        jd.nn.conv(2, 3), jd.nn.max_pool(), jd.nn.average_pool(), jd.nn.flatten(), jd.nn.dense(2)
    )
    result = jd.fit(
        model,
        (x, jnp.arange(8) % 2, jnp.ones(8)),
        loss=jd.losses.softmax_cross_entropy,
        optimizer=jd.optimizers.sgd(0.1),
        epochs=1,
        batch_size=4,
        validation=(x, jnp.arange(8) % 2, jnp.ones(8)),
        key=KEY,
        progress=False,
    )
    assert np.isfinite(result.history["val_loss"]).all()
