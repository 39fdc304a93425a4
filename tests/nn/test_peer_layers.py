"""Layers, losses and metrics beside Keras and PyTorch, with copied weights: make test-slow."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "jax"
    return pytest.importorskip("keras")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def value_and_gradients(function, *args):
    """The output, and gradients of a weighted sum of it by every argument."""
    y = function(*args)
    w = np.linspace(-1, 1, y.size, dtype=np.float32).reshape(y.shape)
    grads = jax.grad(lambda *a: (function(*a) * w).sum(), argnums=tuple(range(len(args))))(*args)
    return y, grads


KERAS_LAYERS = {
    "dense": (jd.nn.dense(4, activation=jax.nn.relu), lambda k: k.layers.Dense(4, "relu"), (6, 5)),
    "conv1d": (
        jd.nn.conv(4, 3, padding="VALID", dilation=2),
        lambda k: k.layers.Conv1D(4, 3, dilation_rate=2),
        (2, 12, 3),
    ),
    "conv2d": (
        jd.nn.conv(4, (3, 2), strides=2, padding="SAME", activation=jax.nn.elu),
        lambda k: k.layers.Conv2D(4, (3, 2), strides=2, padding="same", activation="elu"),
        (2, 9, 8, 3),
    ),
    "conv2d groups": (
        jd.nn.conv(4, 3, padding="VALID", groups=2),
        lambda k: k.layers.Conv2D(4, 3, groups=2),
        (2, 7, 7, 4),
    ),
    "conv3d": (
        jd.nn.conv(2, 2, padding="VALID"),
        lambda k: k.layers.Conv3D(2, 2),
        (1, 4, 5, 4, 2),
    ),
    "prelu": (jd.nn.prelu(0.3), lambda k: k.layers.PReLU("ones"), (4, 5)),
    "max_pool": (jd.nn.max_pool(2), lambda k: k.layers.MaxPooling2D(2), (2, 6, 6, 3)),
    "average_pool": (
        jd.nn.average_pool(3, strides=2, padding="SAME"),
        lambda k: k.layers.AveragePooling2D(3, 2, "same"),
        (2, 7, 6, 3),
    ),
    "global_average_pool": (
        jd.nn.global_average_pool(),
        lambda k: k.layers.GlobalAveragePooling2D(),
        (2, 6, 6, 3),
    ),
    "reshape": (jd.nn.reshape(3, -1), lambda k: k.layers.Reshape((3, -1)), (2, 12)),
}


@pytest.mark.parametrize("name", KERAS_LAYERS)
def test_values_and_gradients_of_keras(name, keras):
    layer, make, shape = KERAS_LAYERS[name]
    x = draw(*shape)
    params, state = layer.init(jax.random.key(0), x)
    weights = [draw(*leaf.shape) for leaf in params.values()]
    params = dict(zip(params, weights))
    other = make(keras)
    other.build(shape)
    other.set_weights(weights)
    tensors = [v.value for v in other.trainable_variables]

    def theirs(x, *weights):
        return other.stateless_call(list(weights), [v.value for v in other.non_trainable_variables], x)[
            0
        ]

    def ours(x, *weights):
        return layer.apply(dict(zip(params, weights)), state, x)[0]

    found, expected = value_and_gradients(ours, x, *weights), value_and_gradients(theirs, x, *tensors)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


def test_twenty_training_batches_of_batch_norm_equal_those_of_keras_and_pytorch(keras, torch):
    layer = jd.nn.batch_norm(momentum=0.9, epsilon=1e-3)
    unbiased = jd.nn.batch_norm(momentum=0.9, epsilon=1e-3, unbiased_running_var=True)
    other = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3)
    module = torch.nn.BatchNorm1d(5, eps=1e-3, momentum=0.1)
    params, state = layer.init(jax.random.key(0), jnp.ones((1, 5)))
    state_of_torch = state
    for _ in range(20):
        x = draw(16, 5) * 3 + 2
        y, state = layer.apply(params, state, x, train=True)
        z, state_of_torch = unbiased.apply(params, state_of_torch, x, train=True)
        np.testing.assert_allclose(y, other(x, training=True), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(z, module(torch.from_numpy(x)).detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["mean"], other.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(state["var"], other.moving_variance, rtol=1e-5)
    np.testing.assert_allclose(state_of_torch["var"], module.running_var, rtol=1e-5)
    module.eval()
    x = draw(8, 5)
    np.testing.assert_allclose(
        unbiased.apply(params, state_of_torch, x)[0],
        module(torch.from_numpy(x)).detach(),
        rtol=1e-4,
        atol=1e-5,
    )


def test_layers_of_pytorch(torch):
    x = draw(2, 7, 6, 4)
    layer = jd.nn.conv(6, 3, strides=2, padding=((1, 1), (1, 1)), groups=2)
    params, state = layer.init(jax.random.key(0), x)
    module = torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(np.array(params["kernel"]).transpose(3, 2, 0, 1)))
        module.bias.copy_(torch.from_numpy(np.array(params["bias"])))
    expected = module(torch.from_numpy(x.transpose(0, 3, 1, 2))).detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(layer.apply(params, state, x)[0], expected, rtol=1e-4, atol=1e-5)
    z = torch.from_numpy(x)
    for ours, theirs in (
        (jd.nn.activations.mish, torch.nn.functional.mish),
        (jd.nn.activations.selu, torch.selu),
        (jd.nn.activations.rrelu, torch.nn.functional.rrelu),
        (jd.nn.activations.softplus, torch.nn.functional.softplus),
        (lambda a: jax.nn.gelu(a, approximate=False), torch.nn.functional.gelu),
        (lambda a: jd.nn.activations.prelu(a, 0.25), lambda a: torch.nn.functional.leaky_relu(a, 0.25)),
    ):
        np.testing.assert_allclose(ours(x), theirs(z), rtol=1e-4, atol=1e-5)


def test_losses_and_metrics_of_keras_and_pytorch(keras, torch):
    a, b = draw(32, 4), draw(32, 4)
    for loss, name in (
        (jd.losses.mse, "MeanSquaredError"),
        (jd.losses.mae, "MeanAbsoluteError"),
        (jd.losses.huber, "Huber"),
        (jd.losses.log_cosh, "LogCosh"),
    ):
        np.testing.assert_allclose(loss(a, b).mean(), getattr(keras.losses, name)()(b, a), rtol=1e-5)
    labels = RNG.integers(0, 4, 32)
    found = jd.losses.softmax_cross_entropy(a, labels, label_smoothing=0.1).mean()
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(a), torch.from_numpy(labels), label_smoothing=0.1
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    scores, truth = RNG.random(64).astype(np.float32), RNG.integers(0, 2, 64)
    for metric, other in (
        (jd.metrics.precision(), keras.metrics.Precision()),
        (jd.metrics.recall(), keras.metrics.Recall()),
    ):
        state = metric.init()
        for part in (slice(0, 20), slice(20, 64)):
            state = metric.update(state, scores[part], truth[part])
            other.update_state(truth[part], scores[part])
        np.testing.assert_allclose(metric.compute(state), other.result(), rtol=1e-6)


def test_alpha_dropout_has_the_moments_of_keras(keras):
    x = draw(1000, 1000)
    y = jd.nn.alpha_dropout(0.3).apply({}, {}, x, key=jax.random.key(0))[0]
    z = keras.layers.AlphaDropout(0.3)(x, training=True)
    np.testing.assert_allclose([y.mean(), y.std()], [np.mean(z), np.std(z)], atol=0.01)
