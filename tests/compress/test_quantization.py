"""Weights of eight bits."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compressed import IMAGE, dense, draw, network, nn, relative, trained

import jaxdeep as jd

QUANTIZED = {
    "dense": (network(), (20, 6)),
    "without bias": (network(use_bias=False), (20, 6)),
    "convolutions": (
        nn.serial(
            nn.conv(6, 3, strides=2, activation=jax.nn.relu),
            nn.conv(6, 3, groups=3, dilation=2),
            nn.conv(4, (1, 2), padding=((0, 0), (1, 0)), use_bias=False),
            nn.flatten(),
            dense(3),
        ),
        IMAGE,
    ),
    "nested": (
        nn.concatenate(nn.residual(dense(6)), nn.serial(nn.repeat(dense(6, activation=jnp.tanh), 3))),
        (20, 6),
    ),
    "in NTK parametrisation": (
        nn.serial(nn.ntk_dense(6, activation=jax.nn.selu), nn.ntk_dense(3, use_bias=False)),
        (20, 6),
    ),
    "mixed precision": (nn.mixed_precision(network()), (20, 6)),
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", QUANTIZED)
def test_int8_weights_are_within_half_a_step(name):
    model, shape = QUANTIZED[name]
    x = draw(*shape)
    params, state = trained(model, x)
    small, qparams, qstate = jd.compress.quantize(model, params, state)
    errors, restored = jd.compress.quantization_error(params, qparams), jd.compress.dequantize(qparams)
    assert jax.tree.map(jnp.shape, restored) == jax.tree.map(jnp.shape, params)
    ints = jax.tree.map(lambda a: a.dtype == jnp.int8, qparams)
    assert {p for p, i in zip(jd.tree.leaf_paths(ints), jax.tree.leaves(ints)) if i} == set(errors)
    assert set(errors) == {p for p in jd.tree.leaf_paths(params) if p.endswith("kernel")}
    for path, *pair in zip(
        jd.tree.leaf_paths(params), jax.tree.leaves(params), jax.tree.leaves(restored)
    ):
        w, back = (np.asarray(leaf, np.float64) for leaf in pair)
        if path not in errors:
            np.testing.assert_array_equal(w, back)
            continue
        stack = "repeat" in path
        inputs, outputs = ((*range(stack, w.ndim - 2), a) for a in (w.ndim - 1, w.ndim - 2))
        largest = np.abs(w).max(inputs, keepdims=True)  # of each input
        step = largest * np.abs(w / largest).max(outputs, keepdims=True) / 127
        assert (np.abs(w - back) <= step / 2 * 1.001).all()
        assert float(errors[path].maximum) == pytest.approx(np.abs(w - back).max(), rel=1e-3)
        share = np.linalg.norm(w - back) / np.linalg.norm(w)
        assert float(errors[path].relative) == pytest.approx(share, rel=1e-3)
        assert 0 < share < 0.01
    # the function of the restored weights, and about that of the weights as they were
    y, _ = jax.jit(small.apply)(qparams, qstate, x)
    assert relative(y, model.apply(restored, state, x)[0]) < (0.05 if "mixed" in name else 2e-6)
    assert 0 < relative(y, model.apply(params, state, x)[0]) < 0.05
    fresh, _ = jax.eval_shape(lambda x: small.init(jax.random.key(0), x), x)
    shapes = jax.tree.map(lambda a: (a.shape, a.dtype), (fresh, qparams))
    assert shapes[0] == shapes[1]


@pytest.mark.heavy
def test_embeddings_have_a_scale_a_vector():
    model, x = nn.serial(nn.embedding(7, 5), nn.flatten(), dense(2)), jnp.arange(6).reshape(2, 3)
    params, state = trained(model, x)
    small, qparams, _ = jd.compress.quantize(model, params, state, where="*/table")
    own = qparams["embedding0"]
    assert own["table"].dtype == jnp.int8
    table = np.asarray(params["embedding0"]["table"])
    np.testing.assert_allclose(own["scale"], np.abs(table).max(1) / 127, rtol=1e-6)
    assert relative(small.apply(qparams, state, x)[0], model.apply(params, state, x)[0]) < 0.02
    lookup = small.layers["embedding0"]
    assert jnp.isnan(jax.jit(lookup.apply)(own, {}, jnp.array([7, -1]))[0]).all()
    with pytest.raises(ValueError, match="numbers from 7 to 7"):
        lookup.apply(own, {}, jnp.array([7]))


@pytest.mark.heavy
def test_layers_are_made_again_from_their_config():
    model, x = QUANTIZED["convolutions"][0], draw(*IMAGE)
    params, state = trained(model, x)
    small, qparams, _ = jd.compress.quantize(model, params, state)
    again = small.combine(
        {
            name: getattr(jd.compress, layer.kind)(**layer.config)
            if "quantized" in layer.kind
            else layer
            for name, layer in small.layers.items()
        }
    )
    np.testing.assert_array_equal(again.apply(qparams, state, x)[0], small.apply(qparams, state, x)[0])


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_int8_beside_other_dtypes(x64, dtype):
    model, x = nn.serial(out=dense(3, activation=jnp.tanh)), draw(20, 6, dtype=dtype)
    params, state = trained(model, x)
    small, qparams, _ = jd.compress.quantize(model, params, state)
    y, _ = small.apply(qparams, state, x)
    assert y.dtype == jnp.dtype(dtype)
    assert relative(y.astype("float64"), model.apply(params, state, x)[0].astype("float64")) < 0.03
    assert qparams["out"]["scale"].dtype == jnp.promote_types(dtype, jnp.float32)
    assert jd.compress.dequantize(qparams, dtype)["out"]["kernel"].dtype == jnp.dtype(dtype)


def test_quantising_under_jit_and_vmap():
    model, x = nn.serial(out=dense(3)), draw(20, 6)
    params, state = trained(model, x)
    _, expected, _ = jd.compress.quantize(model, params, state)
    many = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
    both = jax.jit(jax.vmap(lambda p: jd.compress.quantize(model, p, state)[1]))(many)["out"]
    for i in (0, 1):
        inputs, scale = (expected["out"][name] for name in ("input_scale", "scale"))
        np.testing.assert_allclose(both["input_scale"][i], (i + 1) * inputs, rtol=1e-6)
        np.testing.assert_allclose(both["scale"][i], scale, rtol=1e-6)
        off = both["kernel"][i].astype(int) - expected["out"]["kernel"].astype(int)
        assert abs(np.asarray(off)).max() <= 1  # what lies between two numbers may go either way


@pytest.mark.heavy
def test_what_is_not_quantised():
    model = network()
    params, state = trained(model, draw(1, 6))
    small, qparams, _ = jd.compress.quantize(model, params, state, where="hidden*/kernel")
    assert small.layers["logits"] is model.layers["logits"]
    assert set(jd.compress.quantization_error(params, qparams)) == {"hidden0/kernel", "hidden1/kernel"}
    rest, rparams, _ = jd.compress.quantize(small, qparams, state)  # the rest, later
    assert set(jd.compress.quantization_error(qparams, rparams)) == {"logits/kernel"}
    with pytest.raises(ValueError, match="no dense, conv or embedding"):
        jd.compress.quantize(rest, rparams, state)
    with pytest.raises(ValueError, match="selects logits/bias"):
        jd.compress.quantize(model, params, state, where="logits/*")
    with pytest.raises(ValueError, match="no leaf"):
        jd.compress.quantize(model, params, state, where="nothing")
    with pytest.raises(TypeError, match="Model"):
        jd.compress.quantize(None, params, state)
    params["logits"]["kernel"] = np.full((8, 3), np.nan)
    with pytest.raises(ValueError, match="logits/kernel must be finite"):
        jd.compress.quantize(model, params, state)
    with pytest.raises(ValueError, match="lack 'scale' beside an int8 'kernel'"):
        jd.compress.dequantize({"kernel": jnp.zeros((2, 2), jnp.int8), "input_scale": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"params have no hidden\d/kernel of shape"):
        jd.compress.quantization_error({}, qparams)


def test_a_column_of_zeros_stays_one():
    params = {"kernel": jnp.array([[0.0, 1.0], [0.0, -2.0]]), "bias": jnp.zeros(2)}
    small, qparams, _ = jd.compress.quantize(dense(2), params, {})
    assert qparams["kernel"].tolist() == [[0, 127], [0, -127]]
    assert qparams["input_scale"].tolist() == [1, 2]
    assert small.apply(qparams, {}, jnp.ones((1, 2)))[0].tolist() == [[0, -1]]


@pytest.mark.parametrize("jit", [False, True])
def test_weights_too_small_for_a_scale_are_zero(jit):
    tiny = jnp.finfo("float32").tiny
    w = jnp.array([[1.0, tiny], [tiny / 4, tiny / 4], [0.0, 0.0]])
    quantize = lambda w: jd.compress.quantize(dense(2, use_bias=False), {"kernel": w}, {})[1]  # noqa: E731
    qparams = (jax.jit(quantize) if jit else quantize)(w)
    assert qparams["kernel"].tolist() == [[127, 0], [0, 0], [0, 0]]
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(qparams))


@pytest.mark.few(1)
@pytest.mark.parametrize("layer", [dense(9), nn.conv(9, 3, padding="SAME")])
def test_inputs_of_very_different_sizes_are_rounded_alike(layer):
    """As behind a folded batch norm: what an input is divided by, its weights are multiplied by."""
    x = draw(20, *((6, 6) if layer.kind == "conv" else ()), 5)
    params, state = trained(layer, x)
    sizes = np.float32(10.0) ** np.arange(-3, 2, dtype=np.float32)
    even, uneven = params["kernel"], np.asarray(params["kernel"]) * sizes[:, None]
    apart = []
    for kernel, inputs in ((even, x), (uneven, x / sizes)):
        small, qparams, _ = jd.compress.quantize(layer, {**params, "kernel": jnp.float32(kernel)}, state)
        expected = layer.apply({**params, "kernel": kernel}, state, inputs)[0]
        apart.append(relative(small.apply(qparams, state, inputs)[0], expected))
    assert apart[1] == pytest.approx(apart[0], rel=0.01)
    assert apart[0] < 0.01


def test_a_realmlp_is_quantised():
    recipe = nn.mlp("regression", hidden=(16, 16), recipe="strong", rows=20)
    x = draw(20, 5)
    params, state = recipe.model.init(jax.random.key(0), x)
    small, qparams, qstate = jd.compress.quantize(recipe.model, params, state, where="hidden*/kernel")
    restored = jd.compress.dequantize(qparams)
    expected, _ = recipe.model.apply(restored, state, x)
    np.testing.assert_allclose(small.apply(qparams, qstate, x)[0], expected, rtol=1e-5, atol=1e-6)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(qparams)} == {"float32", "int8"}
    assert jd.saving.from_config(jd.saving.to_config(small)) == small


def test_errors_of_parameters_the_other_way_around_are_refused():
    model = jd.nn.serial(out=jd.nn.dense(2))
    params, state = model.init(jax.random.key(0), jnp.ones((1, 30)))
    _, qparams, _ = jd.compress.quantize(model, params, state)
    for one, other in ((qparams, params), (params, params), (qparams, qparams)):
        with pytest.raises(ValueError, match=r"qparams must be what quantize made of params"):
            jd.compress.quantization_error(one, other)
    assert list(jd.compress.quantization_error(params, qparams)) == ["out/kernel"]
