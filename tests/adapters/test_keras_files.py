"""Files beside the real Keras: read as it computes them, and loaded by it in another process."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "jax"
    return pytest.importorskip("keras", reason="needs the extra `bench`")


def randomised(model):
    rng = np.random.default_rng(0)
    for v in model.variables:
        if "seed" not in v.path:
            positive = any(word in v.path for word in ("variance", "gamma", "scale"))
            drawn = rng.normal(size=v.shape) * 0.5
            v.assign(np.abs(drawn) + 0.3 if positive else drawn)
    return model


def inputs(shape, dtype="float32"):
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 5, (4, *shape)) if dtype == "int32" else rng.normal(size=(4, *shape))
    return drawn.astype(dtype)


LAYERS = {
    "Dense": ((4,), lambda L: [L.Dense(3, "gelu")]),
    "Dense on images": ((3, 4), lambda L: [L.Dense(3, use_bias=False)]),
    "Conv1D": ((9, 2), lambda L: [L.Conv1D(3, 3, strides=2, padding="same")]),
    "Conv2D, 28": ((28, 28, 2), lambda L: [L.Conv2D(4, 3, strides=2, padding="same", groups=2)]),
    "Conv2D, 29": ((29, 29, 1), lambda L: [L.Conv2D(4, 3, strides=2, padding="same")]),
    "Conv2D, dilated": ((9, 9, 1), lambda L: [L.Conv2D(4, 3, dilation_rate=2, activation="leaky_relu")]),
    "Conv3D": ((4, 5, 6, 2), lambda L: [L.Conv3D(2, (1, 2, 3))]),
    "DepthwiseConv1D": ((9, 3), lambda L: [L.DepthwiseConv1D(3, depth_multiplier=2)]),
    "SeparableConv1D": ((9, 3), lambda L: [L.SeparableConv1D(4, 3, strides=2, padding="same")]),
    "Conv1DTranspose": ((5, 3), lambda L: [L.Conv1DTranspose(2, 3, strides=3)]),
    "Conv2DTranspose": (
        (5, 4, 3),
        lambda L: [L.Conv2DTranspose(2, (2, 3), strides=(2, 3), padding="same")],
    ),
    "Conv2DTranspose, 1": ((5, 4, 3), lambda L: [L.Conv2DTranspose(2, 4, strides=1, padding="same")]),
    "Conv2DTranspose, wide": ((5, 4, 3), lambda L: [L.Conv2DTranspose(2, 1, strides=3)]),
    "Conv2DTranspose, dilated": (
        (5, 4, 3),
        lambda L: [L.Conv2DTranspose(2, 3, dilation_rate=2, padding="same")],
    ),
    "Conv3DTranspose": ((2, 3, 3, 2), lambda L: [L.Conv3DTranspose(2, 2, strides=2)]),
    "BatchNormalization": ((3, 4), lambda L: [L.BatchNormalization(axis=1, scale=False)]),
    "LayerNormalization": ((3, 4), lambda L: [L.LayerNormalization(axis=[1, 2], center=False)]),
    "GroupNormalization": ((3, 4), lambda L: [L.GroupNormalization(-1)]),
    "RMSNormalization": ((3, 4), lambda L: [L.RMSNormalization()]),
    "AveragePooling2D": ((7, 7, 2), lambda L: [L.AveragePooling2D(3, strides=2, padding="same")]),
    "MaxPooling1D": ((7, 2), lambda L: [L.MaxPooling1D(3, strides=2, padding="same")]),
    "MaxPooling3D": ((4, 4, 4, 1), lambda L: [L.MaxPooling3D(2)]),
    "GlobalMaxPooling2D": ((4, 4, 2), lambda L: [L.GlobalMaxPooling2D(keepdims=True)]),
    "GlobalAveragePooling3D": ((4, 4, 2, 2), lambda L: [L.GlobalAveragePooling3D()]),
    "LeakyReLU": ((4,), lambda L: [L.LeakyReLU()]),
    "ReLU": ((4,), lambda L: [L.ReLU(negative_slope=0.1)]),
    "ELU": ((4,), lambda L: [L.ELU(alpha=0.5)]),
    "Softmax": ((4, 3), lambda L: [L.Softmax(axis=1)]),
    "PReLU": ((4, 3), lambda L: [L.PReLU(shared_axes=[1])]),
    "ZeroPadding1D": ((4, 3), lambda L: [L.ZeroPadding1D((0, 2))]),
    "ZeroPadding3D": ((2, 2, 2, 1), lambda L: [L.ZeroPadding3D(1)]),
    "Resizing": ((4, 5, 1), lambda L: [L.Resizing(7, 3)]),
    "Resizing, nearest": ((4, 5, 1), lambda L: [L.Resizing(7, 3, interpolation="nearest")]),
    "Rescaling": ((4,), lambda L: [L.Rescaling(0.5, offset=1.0)]),
    "Normalization": ((4,), lambda L: [L.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 2, 3, 0])]),
    "Normalization, one": (
        (4,),
        lambda L: [L.Normalization(None, 1.0, 4.0, invert=True)],
    ),
    "Reshape": ((4, 3), lambda L: [L.Reshape((2, -1))]),
    "Identity": (
        (4,),
        lambda L: [L.Identity(), L.Activation("linear"), L.ActivityRegularization(l2=0.1)],
    ),
    "noise": ((4,), lambda L: [L.GaussianNoise(0.1), L.AlphaDropout(0.1), L.Dropout(0.5)]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_what_keras_gives(name, keras, tmp_path):
    shape, make = LAYERS[name]
    model = randomised(keras.Sequential([keras.Input(shape), *make(keras.layers)]))
    model.save(tmp_path / "m.keras")
    found, params, state = jd.adapters.from_keras(tmp_path / "m.keras")
    x = inputs(shape)
    expected = np.asarray(model(x))
    np.testing.assert_allclose(found.apply(params, state, x)[0], expected, rtol=1e-5, atol=2e-6)
    if name.startswith(("Conv3D", "Normalization", "Identity", "noise")):
        return
    jd.adapters.to_keras(found, params, state, tmp_path / "again.keras", x)
    again = keras.models.load_model(tmp_path / "again.keras")
    np.testing.assert_allclose(again(x), expected, rtol=1e-5, atol=2e-6)


def test_a_model_in_hand_and_its_weights_are_read(keras, tmp_path):
    L = keras.layers
    model = randomised(
        keras.Sequential([keras.Input((4,)), L.Dense(3), L.BatchNormalization(), L.Dense(2)])
    )
    x = inputs((4,))
    found, params, state = jd.adapters.from_keras(model)
    np.testing.assert_allclose(found.apply(params, state, x)[0], model(x), rtol=1e-6, atol=1e-6)
    model.save_weights(tmp_path / "w.weights.h5")
    model.save(tmp_path / "folder", zipped=False)
    (tmp_path / "c.json").write_text(model.to_json())
    for source in (tmp_path / "folder", tmp_path / "c.json"):
        again = jd.adapters.from_keras(source, weights=tmp_path / "w.weights.h5")
        assert again[0] == found
        jax.tree.map(np.testing.assert_array_equal, again[1:], (params, state))


def test_a_compiled_and_trained_model_is_read_without_its_optimizer(keras, tmp_path):
    L = keras.layers
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, "relu"), L.BatchNormalization(), L.Dense(2)])
    model.compile("adam", "mse", metrics=["mae"])
    x = inputs((4,))
    model.fit(x, inputs((2,)), epochs=2, verbose=0)
    model.save(tmp_path / "m.keras")
    found, params, state = jd.adapters.from_keras(tmp_path / "m.keras")
    np.testing.assert_allclose(found.apply(params, state, x)[0], model(x), rtol=1e-5, atol=1e-6)


def test_a_step_of_training_moves_what_was_read_as_in_keras(keras, tmp_path):
    """Its batch norm has Keras' ε and sense of the momentum, and a biased running variance."""
    L, x, y = keras.layers, inputs((4,)), inputs((2,))
    model = randomised(
        keras.Sequential([keras.Input((4,)), L.Dense(3), L.BatchNormalization(momentum=0.9), L.Dense(2)])
    )
    found, params, state = jd.adapters.from_keras(model)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    after = jd.fit(
        found,
        (x, y),
        params=params,
        state=state,
        loss=jd.losses.mse,
        optimizer=jd.optimizers.sgd(0.1),
        batch_size=4,
        key=0,
        progress=False,
    )
    _, expected, statistics = jd.adapters.from_keras(model)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, (after.params, after.state), (expected, statistics))
    assert not np.allclose(*(jax.tree.leaves(tree)[0] for tree in (state, statistics)))
    close(after.predict(x), model.predict(x, verbose=0))


def test_operations_and_several_outputs_of_nested_models(keras, tmp_path):
    L, ops = keras.layers, keras.ops
    a, b = keras.Input((3,)), keras.Input((3,))
    inner_in = {"p": keras.Input((3,)), "q": keras.Input((3,))}
    inner = keras.Model(inner_in, {"s": inner_in["p"] - inner_in["q"], "d": L.Dense(3)(inner_in["p"])})
    first, second = inner({"p": a, "q": b}), inner({"p": b, "q": a})
    y = ops.maximum(first["s"], second["d"]) / 2.0 + (1.0 - first["d"]) * second["s"]
    y = ops.relu(L.Average()([y, a]))
    model = randomised(keras.Model([a, b], [ops.tanh(y), L.Concatenate(axis=1)([y, b])]))
    model.save(tmp_path / "m.keras")
    found, params, state = jd.adapters.from_keras(tmp_path / "m.keras")
    x = inputs((3,)), inputs((3,))[::-1]
    for one, other in zip(found.apply(params, state, x)[0], model(list(x)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_slices_and_means_and_what_was_not_built(keras):
    L, ops = keras.layers, keras.ops
    a, x = keras.Input((5, 4)), inputs((5, 4))
    outputs = [a[:, -1], a[:, 1:4:2, 0], -a, abs(a), ops.mean(a, axis=(1, 2)), ops.max(a, 1, True)]
    model = keras.Model(a, [L.Dense(2)(outputs[0]), *outputs[1:]])
    found, params, state = jd.adapters.from_keras(model)
    for one, other in zip(found.apply(params, state, x)[0], model(x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    for output, message in ((a[..., 0], r"x\[\.\.\., 0\]"), (ops.clip(a, 0.0, 1.0), "Clip")):
        with pytest.raises(ValueError, match=message + ".*from_keras_model"):
            jd.adapters.from_keras(keras.Model(a, output))
    half = L.Dense(2, dtype="mixed_bfloat16")
    with pytest.raises(ValueError, match=r"'mixed_bfloat16'.*from_keras_model"):
        jd.adapters.from_keras(keras.Model(a, half(a)))
    with pytest.raises(ValueError, match="must be built"):
        jd.adapters.from_keras(keras.Sequential([L.Dense(2)]))


def several_slices(a, ops, L):
    return [a[:, 2:100], a[:, -100:3], a[:, :, 1:9], a[:, 7:9], a[:, 1:4:2, 0], a[::1, :2]]


def several_means(a, ops, L):
    outputs = [ops.mean(a, axis=(1, -1)), ops.sum(a, 1, True), ops.max(a, 2), ops.min(a, axis=1)]
    outputs += [ops.amax(a, axis=1), ops.amin(a, axis=(1, 2), keepdims=True)]
    return [L.Dense(2)(outputs[1]), *outputs]


def several_activations(a, ops, L):
    outputs = [ops.gelu(a), ops.gelu(a, approximate=False), ops.softmax(a, axis=1), ops.log_softmax(a)]
    outputs += [ops.softmax(a, axis=(1, 2)), ops.log_softmax(a, axis=1), ops.leaky_relu(a)]
    outputs += [ops.leaky_relu(a, negative_slope=0.3), ops.elu(a), ops.elu(a, alpha=0.5), ops.celu(a)]
    outputs += [ops.celu(a, alpha=0.5), ops.hard_sigmoid(a), ops.hard_silu(a), ops.hard_tanh(a)]
    return [*outputs, abs(a), -a, ops.square(a), ops.sqrt(abs(a)), ops.exp(a)]


def wired_with_layers(a, ops, L):
    shared = L.Dense(3, name="shared")
    y = shared(a)[:, :2] + shared(a[:, 1:3])
    return L.Dense(1)(ops.mean(L.BatchNormalization()(y), axis=1) * 2.0)


@pytest.mark.parametrize("make", [several_slices, several_means, several_activations, wired_with_layers])
def test_operations_are_read_written_loaded_and_read_again(make, keras, tmp_path):
    a, x = keras.Input((5, 4)), inputs((5, 4))
    model = randomised(keras.Model(a, make(a, keras.ops, keras.layers)))
    expected = model(x)
    first = jd.adapters.from_keras(model)
    jd.adapters.to_keras(*first, tmp_path / "m.keras", x)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, jax.tree.leaves(first[0].apply(*first[1:], x)[0]), jax.tree.leaves(expected))
    loaded = keras.models.load_model(tmp_path / "m.keras")
    jax.tree.map(close, loaded(x), expected)
    again = jd.adapters.from_keras(tmp_path / "m.keras")
    assert again[0] == first[0]
    jax.tree.map(np.testing.assert_array_equal, again[1:], first[1:])


def test_what_joins_the_rows_of_a_batch_is_refused_when_it_is_read(keras):
    a, ops = keras.Input((5, 4)), keras.ops
    joined = [ops.concatenate([a, a]), ops.concatenate([a, a], axis=-3), ops.mean(a, axis=-3)]
    for output in joined:
        with pytest.raises(ValueError, match=r"'.*': is the operation .*, over the rows of a batch"):
            jd.adapters.from_keras(keras.Model(a, output))
    for axis in (0, -3):
        layer = keras.layers.Concatenate(axis=axis, name="both")
        with pytest.raises(ValueError, match=f"Concatenate 'both': has axis={axis}, over the rows"):
            jd.adapters.from_keras(keras.Model(a, layer([a, a])))


def test_tensors_that_would_mix_the_rows_are_refused(keras):
    L, ops = keras.layers, keras.ops
    a = keras.Input((3,))
    for output in (
        L.Multiply()([a[:, 0], a[:, 1:2]]),
        L.Add()([a, L.Reshape((1, 3))(a)]),
        a[:, 0] + a[:, 1:2],
        ops.maximum(a[:, 0], a),
    ):
        with pytest.raises(ValueError, match=r"tensors of \d and \d axes together.*from_keras_model"):
            jd.adapters.from_keras(keras.Model(a, output))
    for name in ("softmax", "log_softmax"):
        with pytest.raises(ValueError, match="over the rows of a batch"):
            jd.adapters.from_keras(keras.Model(a, L.Activation(name)(a[:, 0])))
    alike = [a * a[:, 1:2], L.Multiply()([a[:, :1], a[:, 1:2]]), L.Activation("softmax")(a), a[:, 0] * 2]
    model, x = keras.Model(a, alike), inputs((3,))
    for one, other in zip(jd.predict(*jd.adapters.from_keras(model), x), model(x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


PROBE = """
import os, sys, json
os.environ["KERAS_BACKEND"] = "jax"
import keras, numpy as np
model = keras.models.load_model(sys.argv[1])
x = dict(np.load(sys.argv[2]))
y = model(x if len(x) > 1 else x["x"])
y = y if isinstance(y, dict) else {"y": y}
np.savez(sys.argv[3], **{k: np.asarray(v) for k, v in y.items()})
"""


@pytest.mark.parametrize("axis", [0, -2, [0], None])
def test_a_layer_over_the_rows_is_refused_wherever_it_stands(axis, keras):
    L, refused = keras.layers, r"Softmax '.*': has axis=.*, over the rows of a batch"
    a, matrix, softmax = keras.Input((4,)), keras.Input((4, 4)), L.Softmax(axis=axis)
    chain = keras.Sequential([keras.Input((4,)), L.Dense(3), L.Softmax(axis=axis)])
    models = [chain, keras.Model(a, chain(a)), keras.Model([matrix, a], [softmax(matrix), softmax(a)])]
    for model in models:
        with pytest.raises(ValueError, match=refused):
            jd.adapters.from_keras(model)
    if axis == -2:
        jd.adapters.from_keras(keras.Sequential([keras.Input((None, 4)), L.Softmax(axis=axis)]))


def test_what_is_written_loads_in_a_new_process(tmp_path):
    nn = jd.nn
    block = nn.serial(c=nn.conv(4, 3), b=nn.batch_norm(momentum=0.9), a=nn.activation(jax.nn.relu))
    model = nn.graph(
        {
            "first": ("stem", "image"),
            "once": ("block", "first"),
            "again": ("block", "once"),
            "both": ("join", ("again", "once", "first")),
            "flat": ("pool", "both"),
            "meta": ("embed", "row"),
            "all": ("beside", ("flat", "meta")),
            "y": ("scores", "all"),
            "z": ("more", "flat"),
        },
        {"y": "y", "z": "z"},
        {"image": "image", "row": "row"},
        stem=nn.conv(4, 3, strides=2, activation=jax.nn.silu),
        block=nn.residual(block),
        join=nn.merge("average"),
        pool=nn.global_average_pool(),
        embed=nn.serial(nn.dense(3, activation=jnp.tanh), nn.repeat(nn.dense(3), 2, shared=True)),
        beside=nn.merge("concatenate"),
        scores=nn.dense(2, activation=jax.nn.softmax),
        more=nn.serial(nn.dense(5), nn.layer_norm(), nn.dense(1)),
    )
    x = {"image": inputs((9, 9, 2)), "row": inputs((6,))}
    params, state = model.init(KEY, x)
    leaves, structure = jax.tree.flatten((params, state))
    keys = jax.random.split(KEY, len(leaves))
    moved = [jnp.abs(leaf + 0.3 * jax.random.normal(k, leaf.shape)) for k, leaf in zip(keys, leaves)]
    params, state = jax.tree.unflatten(structure, moved)
    paths = [tmp_path / name for name in ("m.keras", "x.npz", "y.npz")]
    jd.adapters.to_keras(model, params, state, paths[0], x)
    np.savez(paths[1], **x)
    subprocess.run([sys.executable, "-c", PROBE, *map(str, paths)], check=True, cwd=tmp_path)
    y, _ = model.apply(params, state, x)
    with np.load(paths[2]) as found:
        for name in ("y", "z"):
            np.testing.assert_allclose(found[name], y[name], rtol=1e-5, atol=1e-6)


# --- models that Keras runs -------------------------------------------------------------------------


def network(keras):
    L = keras.layers
    return randomised(
        keras.Sequential(
            [
                keras.Input((4,)),
                L.Dense(8, "relu"),
                L.BatchNormalization(name="norm"),
                L.Dropout(0.5),
                L.Dense(2, name="head"),
            ],
            name="net",
        )
    )


def test_the_two_switches_of_a_model_that_keras_runs_work_separately(keras):
    module, x = network(keras), inputs((4,)) + 3
    model = jd.adapters.from_keras_model(module)
    params, state = model.init(KEY, x)
    assert not any("seed" in path for path in jd.tree.leaf_paths(state))
    apply = jax.jit(model.apply, static_argnames="train")
    y, same = apply(params, state, x)
    np.testing.assert_allclose(y, module(x), rtol=1e-6)
    sample, kept = apply(params, state, x, key=KEY)  # a key without train: no statistics of the batch
    jax.tree.map(np.testing.assert_array_equal, (same, kept), (state, state))
    np.testing.assert_array_equal(sample, apply(params, state, x, key=KEY)[0])
    assert not np.array_equal(sample, apply(params, state, x, key=jax.random.key(1))[0])
    many = jax.vmap(lambda key: model.apply(params, state, x, key=key)[0])(jax.random.split(KEY, 3000))
    np.testing.assert_allclose(many.mean(0), y, atol=0.15)  # dropout is unbiased, the head is linear
    trained, moved = apply(params, state, x, train=True)  # train without a key: nothing is dropped
    np.testing.assert_array_equal(trained, apply(params, state, x, train=True)[0])
    hidden = np.asarray(module.layers[0](x))
    before = module.layers[1].moving_mean.value
    expected = 0.99 * before + 0.01 * hidden.mean(0)
    np.testing.assert_allclose(moved["net"]["norm"]["moving_mean"], expected, rtol=1e-5)
    np.testing.assert_array_equal(module.layers[1].moving_mean, before)  # the module stays as it was
    assert "call" not in vars(module.layers[1])


def test_it_is_trained_and_held_by_jaxdeep(keras):
    module, x = network(keras), inputs((4,))
    model = jd.adapters.from_keras_model(module)
    params, state = model.init(KEY, x)
    held = model.frozen(jd.tree.mask(params, "net/head/*"))
    after = held.apply(params, state, x, train=True, key=KEY)[1]
    jax.tree.map(np.testing.assert_array_equal, after, state)
    result = jd.fit(
        model,
        (x, inputs((2,))),
        loss=jd.losses.mse,
        optimizer=jd.optimizers.adam(1e-2),
        epochs=200,
        batch_size=4,
        key=0,
        progress=False,
    )
    outputs = model.apply(result.params, result.state, x)[0]
    before = model.apply(params, state, x)[0]
    assert np.square(outputs - inputs((2,))).mean() < np.square(before - inputs((2,))).mean() / 2


@pytest.mark.parametrize("around", [False, True], ids=["alone", "among layers"])
def test_tools_say_who_runs_the_model_and_what_translates_it(keras, around, tmp_path):
    module, x = network(keras), inputs((4,))
    model = jd.adapters.from_keras_model(module)
    model = jd.nn.serial(body=model) if around else model
    own = (model, *model.init(KEY, x))
    calls = [
        lambda: jd.compress.fold_batch_norm(*own),
        lambda: jd.compress.quantize(*own),
        lambda: jd.save(tmp_path / "saved", *own),
        lambda: jd.adapters.to_keras(*own, tmp_path / "model.keras", x),
    ]
    if not around:
        calls += [
            lambda: jd.transfer.replace_head(*own, jd.nn.dense(1), x, key=0),
            lambda: jd.transfer.take_layers(*own, 1),
        ]
    for call in calls:
        with pytest.raises(ValueError, match=r"Keras runs this model .*from_keras translates a model"):
            call()
    with pytest.raises(TypeError, match=r"lift takes .* Keras runs this model"):
        jd.adapters.lift(*own, x)
    assert "Sequential" in jd.nn.summary(model, x)


def test_recurrent_layers_and_subclasses_are_run_too(keras):
    L, x = keras.layers, inputs((5, 3))
    module = randomised(keras.Sequential([keras.Input((5, 3)), L.LSTM(4, dropout=0.5), L.Dense(1)]))
    model = jd.adapters.from_keras_model(module)
    params, state = model.init(KEY, x)
    y = model.apply(params, state, x)[0]
    np.testing.assert_allclose(y, module(x), rtol=1e-6)
    np.testing.assert_array_equal(model.apply(params, state, x, train=True)[0], y)
    assert not np.allclose(model.apply(params, state, x, key=KEY)[0], y)

    class Mine(keras.Model):
        def __init__(self, *inner):
            super().__init__()
            self.inner = inner

        def call(self, x):
            for layer in self.inner:
                x = layer(x)
            return x

    plain, random = Mine(L.Dense(2)), Mine(L.Dense(2), L.Dropout(0.5))
    for one in (plain, random):
        one(x)
        model = jd.adapters.from_keras_model(one)
        params, state = model.init(KEY, x)
        np.testing.assert_allclose(model.apply(params, state, x)[0], one(x), rtol=1e-6)
    with pytest.raises(ValueError, match="the call of Mine takes no `training`, so that dropout"):
        model.apply(params, state, x, key=KEY)
    with pytest.raises(ValueError, match="source is a Mine, a class of its own"):
        jd.adapters.from_keras(plain)


def test_a_layer_that_two_models_share_and_code_are_refused(keras):
    L, x = keras.layers, keras.Input((4,))
    shared = L.Dense(4, name="shared")
    inner = keras.Model(x, shared(x), name="inner")
    model = keras.Model(x, L.Add()([inner(x), shared(shared(x))]))
    with pytest.raises(ValueError, match="that two models inside each other share"):
        jd.adapters.from_keras(model)
    code = keras.Sequential([keras.Input((3,)), L.Lambda(lambda x: x * 2, name="twice")])
    with pytest.raises(ValueError, match=r"holds .* which is code of Python: it is never run"):
        jd.adapters.from_keras(code)


def test_what_cannot_be_run_is_refused(keras):
    with pytest.raises(TypeError, match="module must be a model of Keras, got 3"):
        jd.adapters.from_keras_model(3)
    with pytest.raises(ValueError, match="module must be built"):
        jd.adapters.from_keras_model(keras.Sequential([keras.layers.Dense(2)]))


def test_the_recorded_files_are_those_of_this_keras(keras):
    recorded = pathlib.Path(__file__).parents[1] / "fixtures" / "keras" / "versions.json"
    assert json.loads(recorded.read_text())["keras"].split(".")[0] == keras.__version__.split(".")[0]
