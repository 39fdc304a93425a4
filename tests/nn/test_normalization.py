"""Batch norm against flax, over rows, devices and recomputed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.layers import KEY

import jaxdeep as jd


@pytest.mark.heavy
@pytest.mark.parametrize("axis", [-1, (1, 2), (1, 2, 3), 1])
@pytest.mark.parametrize("fast", [False, True])
def test_batch_norm_is_that_of_flax_for_any_axes(axis, fast):
    x = jax.random.normal(KEY, (8, 4, 5, 3)) * 2 + 1
    layer = jd.nn.batch_norm(axis=axis, momentum=0.9, use_fast_variance=fast)
    params, state = layer.init(KEY, x)
    other = nn.BatchNorm(use_running_average=False, axis=axis, momentum=0.9, use_fast_variance=fast)
    for _ in range(3):
        y, state = layer.apply(params, state, x, train=True)
    variables = {"params": params, "batch_stats": layer.init(KEY, x)[1]}
    for _ in range(3):
        expected, new = other.apply(variables, x, mutable=["batch_stats"])
        variables |= new
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(state[name], variables["batch_stats"][name], rtol=1e-4, atol=1e-6)


@pytest.mark.heavy
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("train", [True, False])
def test_masked_rows_that_are_not_finite_have_no_derivative(bad, train):
    layer, mask = jd.nn.batch_norm(), jnp.arange(6) < 4
    x = jax.random.normal(KEY, (6, 3))
    params, state = layer.init(KEY, x)

    def loss(params, x, mask):
        y = layer.apply(params, state, x, train=train, mask=mask)[0]
        return jnp.sum(jnp.sin(y[:4]))

    graded = jax.jit(jax.value_and_grad(loss, (0, 1)))
    found, (of_params, of_x) = graded(params, x.at[4].set(bad).at[5, 0].set(bad), mask)
    expected, (theirs, their_x) = jax.value_and_grad(loss, (0, 1))(params, x[:4], None)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), of_params, theirs)
    np.testing.assert_allclose(of_x[:4], their_x, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(of_x[4:], 0)
    whole = x.at[4:].set(7.0)  # finite rows are normalised like the others
    y = layer.apply(params, state, whole, train=train, mask=mask)[0]
    assert (jnp.isfinite(y) & (jnp.abs(y[4:]) > 1).all()).all()


@pytest.mark.heavy
def test_masked_rows_equal_a_smaller_batch():
    x = jax.random.normal(KEY, (16, 5)).at[10:].set(jnp.nan)
    mask = jnp.arange(16) < 10
    model = jd.nn.serial(jd.nn.dense(4), jd.nn.batch_norm(), jd.nn.dense(2), jd.nn.batch_norm())
    params, state = model.init(KEY, x)
    y, new = model.apply(params, state, x, train=True, mask=mask)
    expected, small = model.apply(params, state, x[:10], train=True)
    np.testing.assert_allclose(y[:10], expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), new, small)
    _, none = model.apply(params, state, jnp.ones((16, 5)), train=True, mask=jnp.zeros(16, bool))
    jax.tree.map(np.testing.assert_array_equal, none, state)


@pytest.mark.heavy
def test_batch_norm_over_eight_devices_equals_the_whole_batch():
    x = jax.random.normal(KEY, (64, 5)) * 3 + 1
    layer, over = jd.nn.batch_norm(), jd.nn.batch_norm(axis_name="data")
    params, state = layer.init(KEY, x)
    expected, whole = layer.apply(params, state, x, train=True)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.shard_map(
        lambda x: over.apply(params, state, x, train=True),
        mesh=mesh,
        in_specs=jax.P("data"),
        out_specs=(jax.P("data"), jax.P()),
    )
    y, new = spread(x)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), new, whole)


def test_the_unbiased_running_variance_is_pytorchs():
    x = jax.random.normal(KEY, (4, 3))
    layer = jd.nn.batch_norm(momentum=0.0, unbiased_running_var=True)
    params, state = layer.init(KEY, x)
    np.testing.assert_allclose(
        layer.apply(params, state, x, train=True)[1]["var"], np.var(x, axis=0, ddof=1), rtol=1e-5
    )


@pytest.mark.heavy
@pytest.mark.parametrize("batch_size", [7, 32, 1000])
def test_recomputed_statistics_are_those_of_the_data(batch_size):
    x = jax.random.normal(KEY, (100, 6)) * 3 + 2
    model = jd.nn.serial(bn=jd.nn.batch_norm(), d=jd.nn.dense(4), inner=jd.nn.serial(jd.nn.batch_norm()))
    params, state = model.init(KEY, x)
    found = jax.jit(lambda s, x: jd.nn.recompute_batch_norm(model, params, s, x, batch_size=batch_size))(
        state, x
    )
    np.testing.assert_allclose(found["bn"]["mean"], x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found["bn"]["var"], x.var(0), rtol=1e-4)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    with pytest.raises(ValueError, match="has no batch_norm"):
        jd.nn.recompute_batch_norm(jd.nn.dense(3), {}, {}, x)


@pytest.mark.heavy
def test_recomputed_statistics_of_layers_called_mean_and_var():
    x = jax.random.normal(KEY, (20, 3)) + 1
    model = jd.nn.parallel(mean=jd.nn.batch_norm(), var=jd.nn.serial(jd.nn.batch_norm()))
    params, state = model.init(KEY, x)
    broken = jax.tree.map(lambda a: a * jnp.inf, state)
    for old in (state, broken):
        found = jd.nn.recompute_batch_norm(model, params, old, x, batch_size=6)
        np.testing.assert_allclose(found["mean"]["mean"], x.mean(0), rtol=1e-5)
        np.testing.assert_allclose(found["var"]["batch_norm0"]["var"], x.var(0), rtol=1e-4)
    deep = jd.nn.serial(jd.nn.repeat(jd.nn.batch_norm(), 3), jd.nn.mixed_precision(jd.nn.batch_norm()))
    params, state = deep.init(KEY, x)
    found = jd.nn.recompute_batch_norm(deep, params, state, x, batch_size=20)
    np.testing.assert_allclose(found["repeat0"]["layer"]["mean"][0], x.mean(0), rtol=1e-5)
    twins = jd.nn.shared(jd.nn.batch_norm())
    params, state = twins.init(KEY, (x, x))
    with pytest.raises(ValueError, match="inside shared is used more than once"):
        jd.nn.recompute_batch_norm(twins, params, state, (x, x))


@pytest.mark.heavy
def test_a_batch_of_which_nothing_counts_is_normalised_as_at_inference():
    layer, x = jd.nn.batch_norm(), jax.random.normal(KEY, (6, 4))
    params, state = layer.init(KEY, x)
    state = jax.tree.map(lambda leaf: leaf + 0.5, state)
    y, after = layer.apply(params, state, x, train=True, mask=jnp.zeros(6, bool))
    np.testing.assert_allclose(y, layer.apply(params, state, x)[0], rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_the_momentum_of_batch_norm_may_be_traced():
    x = jax.random.normal(KEY, (6, 4))

    def mean(momentum):
        layer = jd.nn.batch_norm(momentum=momentum)
        return layer.apply(*layer.init(KEY, x), x, train=True)[1]["mean"]

    found = jax.jit(jax.vmap(mean))(jnp.array([0.0, 0.9]))
    np.testing.assert_allclose(found, [x.mean(0), 0.1 * x.mean(0)], rtol=1e-5, atol=1e-7)


def test_a_batch_of_one_row_leaves_the_running_statistics():
    layer = jd.nn.batch_norm(momentum=0.9)
    params, state = layer.init(KEY, jnp.ones((1, 3)))
    _, after = layer.apply(params, state, jnp.full((1, 3), 5.0), train=True)
    np.testing.assert_array_equal(after["var"], state["var"])
    np.testing.assert_array_equal(after["mean"], state["mean"])
    # an image of many places has a variance
    layer = jd.nn.batch_norm(momentum=0.0)
    image = jax.random.normal(KEY, (1, 4, 4, 3))
    params, state = layer.init(KEY, image)
    _, after = layer.apply(params, state, image, train=True)
    np.testing.assert_allclose(after["var"], np.var(image, axis=(0, 1, 2)), rtol=1e-5)


@pytest.mark.heavy
def test_recomputed_statistics_take_a_last_batch_of_one_row_for_what_it_is():
    x = jax.random.normal(KEY, (9, 3)) * 3 + 2
    model = jd.nn.batch_norm()
    params, state = model.init(KEY, x)
    for batch_size in (4, 1):
        found = jd.nn.recompute_batch_norm(model, params, state, x, batch_size=batch_size)
        np.testing.assert_allclose(found["var"], np.var(x, axis=0), rtol=1e-4)


@pytest.mark.parametrize("name", ["scale", "bias", "var"])
def test_parameters_of_one_element_are_not_broadcast(name):
    layer, x = jd.nn.batch_norm(), jnp.ones((4, 3))
    params, state = layer.init(jax.random.key(0), x)
    if name == "var":
        state = {**state, "var": jnp.ones(1)}
    else:
        params = {**params, name: jnp.ones(1)}
    for train in (False, True):
        with pytest.raises(
            ValueError, match=rf"{name} has shape \(1,\), but batch_norm\(\) needs \(3,\)"
        ):
            layer.apply(params, state, x, train=train)
