"""Normalisation of each example: closed forms, flax, and every tool that meets the layers."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd

KEY = jax.random.key(0)
IMAGES = jax.random.normal(jax.random.key(1), (3, 4, 5, 6)) * 3 + 2


def standardized(x, axes, epsilon):
    x = np.asarray(x, np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def trained(layer, x):
    """Parameters that are not the first ones."""
    rng = np.random.default_rng(0)
    params, state = layer.init(KEY, x)
    assert state == {}
    return jax.tree.map(lambda a: jnp.asarray(rng.uniform(0.5, 1.5, a.shape), a.dtype), params)


@pytest.mark.few(1)
@pytest.mark.parametrize(("axis", "axes"), [(-1, (3,)), ((-1, 1), (1, 3)), ((1, 2, 3), (1, 2, 3))])
def test_layer_norm_is_the_equation_and_flax(axis, axes):
    layer = jd.nn.layer_norm(axis=axis, epsilon=1e-3)
    params = trained(layer, IMAGES)
    y, _ = layer.apply(params, {}, IMAGES)
    wide = {
        name: np.expand_dims(np.asarray(own), [a for a in range(4) if a not in axes])
        for name, own in params.items()
    }
    expected = standardized(IMAGES, axes, 1e-3) * wide["scale"] + wide["bias"]
    np.testing.assert_allclose(y, expected, atol=2e-6)
    peer = flax.linen.LayerNorm(epsilon=1e-3, reduction_axes=axis, feature_axes=axis)
    np.testing.assert_allclose(y, peer.apply({"params": params}, IMAGES), atol=1e-5)


@pytest.mark.heavy
@pytest.mark.few(1)
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_is_the_equation_and_flax(groups):
    layer = jd.nn.group_norm(groups)
    params = trained(layer, IMAGES)
    y, _ = layer.apply(params, {}, IMAGES)
    grouped = IMAGES.reshape(3, 4, 5, groups, 6 // groups)
    expected = standardized(grouped, (1, 2, 4), 1e-6).reshape(IMAGES.shape)
    np.testing.assert_allclose(y, expected * params["scale"] + params["bias"], atol=3e-6)
    peer = flax.linen.GroupNorm(groups)
    np.testing.assert_allclose(y, peer.apply({"params": params}, IMAGES), atol=1e-5)


def test_one_group_is_layer_norm_of_the_example_and_as_many_as_channels_is_instance_norm():
    plain = {"use_scale": False, "use_bias": False}
    whole = jd.nn.layer_norm(axis=(1, 2, 3), **plain).apply({}, {}, IMAGES)[0]
    np.testing.assert_allclose(jd.nn.group_norm(1, **plain).apply({}, {}, IMAGES)[0], whole, atol=1e-6)
    each = jd.nn.group_norm(6, **plain).apply({}, {}, IMAGES)[0]
    np.testing.assert_allclose(each, standardized(IMAGES, (1, 2), 1e-6), atol=2e-6)


@pytest.mark.few(1)
@pytest.mark.parametrize("layer", [jd.nn.layer_norm(), jd.nn.group_norm(2)])
def test_scaled_and_shifted_examples_are_the_same_and_examples_do_not_see_each_other(layer):
    params = trained(layer, IMAGES)
    y, _ = layer.apply(params, {}, IMAGES)
    moved = IMAGES * jnp.array([1.0, 10.0, 100.0])[:, None, None, None] + 5
    np.testing.assert_allclose(layer.apply(params, {}, moved)[0], y, atol=1e-4)
    np.testing.assert_array_equal(layer.apply(params, {}, IMAGES[:1])[0], y[:1])
    np.testing.assert_array_equal(layer.apply(params, {}, IMAGES, train=True, key=KEY)[0], y)


@pytest.mark.parametrize("layer", [jd.nn.layer_norm(), jd.nn.group_norm(2)])
def test_statistics_are_float32_and_the_dtype_is_kept(layer):
    x = (IMAGES + 300).astype(jnp.bfloat16)
    params, state = layer.init(KEY, x)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"bfloat16"}
    y, _ = layer.apply(params, state, x)
    assert y.dtype == jnp.bfloat16
    wide, _ = layer.apply(params, state, x.astype(jnp.float32))
    np.testing.assert_allclose(np.asarray(y, np.float32), wide, rtol=1e-2, atol=1e-2)
    exact = 1e4 + jnp.tile(
        jnp.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), (3, 1)
    )  # large means, in two passes
    y, _ = jd.nn.layer_norm().apply({"scale": jnp.ones(6), "bias": jnp.zeros(6)}, {}, exact)
    np.testing.assert_allclose(y, standardized(exact, 1, 1e-6), atol=1e-4)


@pytest.mark.heavy
def test_both_float64(x64):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6)))
    for layer in (jd.nn.layer_norm(), jd.nn.group_norm(1)):
        y, _ = layer.apply(*layer.init(KEY, x), x)
        np.testing.assert_allclose(y, standardized(x, 1, 1e-6), atol=1e-14)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: jd.nn.layer_norm(epsilon=-1), r"epsilon must be in \[0, inf\), got -1"),
    (lambda: jd.nn.layer_norm(axis="last"), "a whole number or a tuple of them, got 'last'"),
    (lambda: jd.nn.layer_norm(axis=0).init(KEY, IMAGES), "axis must name different .* not 0; got 0"),
    (lambda: jd.nn.layer_norm(axis=(3, -1)).init(KEY, IMAGES), r"got \(3, -1\)"),
    (lambda: jd.nn.layer_norm(axis=4).init(KEY, IMAGES), "which has 4, not 0; got 4"),
    (lambda: jd.nn.layer_norm(scale_init=1), "scale_init must be a function, got 1"),
    (lambda: jd.nn.layer_norm(use_bias=1), "use_bias must be True or False, got 1"),
    (lambda: jd.nn.group_norm(0), "groups must be at least 1, got 0"),
    (lambda: jd.nn.group_norm(4).init(KEY, IMAGES), "groups=4 must divide the channels .* 4, 5, 6"),
    (
        lambda: jd.nn.layer_norm().apply({"scale": jnp.ones(3), "bias": jnp.ones(3)}, {}, IMAGES),
        r"layer_norm was initialised for \(3,\), got an input of shape",
    ),
    (lambda: jd.nn.group_norm(2).apply({"scale": jnp.ones(6)}, {}, IMAGES), "lack 'bias'"),
])  # fmt: skip
def test_errors_name_the_argument_and_what_is_allowed(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def network():
    return jd.nn.serial(
        hidden=jd.nn.dense(6), norm=jd.nn.layer_norm(), groups=jd.nn.group_norm(3), out=jd.nn.dense(2)
    )


@pytest.mark.heavy
def test_every_tool_knows_them_without_further_code(tmp_path):
    """Saved, loaded, summarised, frozen, probed, repeated, folded past, quantised and swept."""
    model, x = network(), jax.random.normal(KEY, (16, 4))
    y = jnp.arange(16) % 2
    assert model == network()
    params, state = model.init(KEY, x)
    jd.save(tmp_path / "model", model, params, state)
    again, params_again, _ = jd.load(tmp_path / "model")
    assert again == model
    jax.tree.map(np.testing.assert_array_equal, params, params_again)
    with pytest.raises(ValueError, match=r"params/norm/bias is missing; layer_norm\(\) needs it"):
        jd.save(tmp_path / "half", model, params | {"norm": {"scale": jnp.ones(6)}}, state)
    assert "group_norm" in jd.nn.summary(model, x)

    fit = {"loss": jd.losses.softmax_cross_entropy, "epochs": 1, "batch_size": 8}
    result = jd.fit(
        model, (x, y), optimizer=jd.optimizers.sgd(0.1), trainable="out/*", diagnostics=1, key=KEY,
        progress=False, **fit,
    )  # fmt: skip
    np.testing.assert_array_equal(result.params["norm"]["scale"], 1)
    assert np.isfinite(result.history["activation_std/groups"]).all()
    table = jd.sweep(
        lambda hp: jd.optimizers.sgd(hp["learning_rate"]), {"learning_rate": [0.1, 0.2]},
        model=model, data=(x, y), **fit,
    )  # fmt: skip
    assert len(table.rows()) == 2

    deep = jd.nn.repeat(jd.nn.serial(jd.nn.dense(4), jd.nn.layer_norm()), 2)
    jd.save(tmp_path / "deep", deep, *deep.init(KEY, x))
    normed = jd.nn.serial(bn=jd.nn.batch_norm(), hidden=jd.nn.dense(6), norm=jd.nn.layer_norm())
    params, state = normed.init(KEY, x)
    _, state = normed.apply(params, state, x, train=True)
    folded, fparams, fstate = jd.compress.fold_batch_norm(normed, params, state)
    assert list(folded.layers) == ["hidden", "norm"]
    np.testing.assert_allclose(
        folded.apply(fparams, fstate, x)[0], normed.apply(params, state, x)[0], atol=1e-5
    )
    small, qparams, qstate = jd.compress.quantize(folded, fparams, fstate)
    assert small.layers["norm"] == jd.nn.layer_norm()
    assert small.apply(qparams, qstate, x)[0].shape == (16, 6)


@pytest.mark.parametrize("axis", [-1, (1, 3)])
def test_rms_norm_is_the_equation_and_flax(axis):
    layer = jd.nn.rms_norm(axis=axis, epsilon=1e-3)
    params = trained(layer, IMAGES)
    y, _ = layer.apply(params, {}, IMAGES)
    axes = tuple(a % 4 for a in (axis if isinstance(axis, tuple) else (axis,)))
    scale = np.expand_dims(np.asarray(params["scale"]), [a for a in range(4) if a not in axes])
    x = np.asarray(IMAGES, np.float64)
    expected = x / np.sqrt((x**2).mean(axes, keepdims=True) + 1e-3) * scale
    np.testing.assert_allclose(y, expected, atol=2e-6)
    peer = flax.linen.RMSNorm(epsilon=1e-3, reduction_axes=axis, feature_axes=axis)
    np.testing.assert_allclose(y, peer.apply({"params": params}, IMAGES), atol=1e-5)
    assert jd.nn.rms_norm(use_scale=False).init(KEY, IMAGES) == ({}, {})
