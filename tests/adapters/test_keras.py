"""Optimizers of optax in Keras, beside the same steps by hand."""

import os

import jax
import numpy as np
import optax
import pytest

import jaxdeep as jd

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
X = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [2.0], [-1.0]])).astype(np.float32)


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "jax"
    return pytest.importorskip("keras", reason="needs the extra `bench`")


def network(keras):
    layers = [keras.layers.Dense(4, "tanh", name="hidden"), keras.layers.Dense(1, name="out")]
    model = keras.Sequential([keras.layers.Input((3,)), *layers])
    keras.utils.set_random_seed(0)
    for v in model.trainable_variables:
        v.assign(np.random.default_rng(1).normal(size=v.shape) * 0.3)
    return model


def kernel(model):
    return np.array(model.trainable_variables[0].value)


def by_hand(model, tx, steps):
    """The parameters after steps of optax alone, whose loss is written out."""

    def loss(p):
        hidden = jax.numpy.tanh(X @ p["hidden"]["kernel"] + p["hidden"]["bias"])
        return ((hidden @ p["out"]["kernel"] + p["out"]["bias"] - Y) ** 2).mean()

    flat = [v.value for v in model.trainable_variables]
    params = {
        "hidden": {"kernel": flat[0], "bias": flat[1]},
        "out": {"kernel": flat[2], "bias": flat[3]},
    }
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
    return [params[layer][leaf] for layer in ("hidden", "out") for leaf in ("kernel", "bias")]


OPTIMIZERS = {
    "adamw of kernels": lambda: jd.optimizers.adamw(1e-2, weight_decay=0.5, where="*kernel"),
    "a schedule": lambda: jd.optimizers.sgd(optax.linear_schedule(0.1, 0.0, 20), momentum=0.9),
    "a chain": lambda: optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-2)),
    "random keys": lambda: optax.chain(optax.sgd(0.1), optax.add_noise(0.1, 0.5, key=jax.random.key(3))),
    "prodigy": optax.contrib.prodigy,
    "lookahead": lambda: jd.optimizers.lookahead(optax.adam(1e-2), 3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps_are_those_of_a_loop_of_ones_own(keras, name):
    model, tx = network(keras), OPTIMIZERS[name]()
    expected = by_hand(model, tx, 20)
    model.compile(jd.adapters.to_keras_optimizer(tx), "mse")
    model.fit(X, Y, batch_size=32, epochs=20, shuffle=False, verbose=0)
    for found, leaf in zip(model.trainable_variables, expected):
        np.testing.assert_allclose(found.value, leaf, rtol=1e-4, atol=1e-5)


def test_callbacks_of_keras_set_the_learning_rate(keras):
    model, tx = network(keras), jd.optimizers.sgd(0.1)
    optimizer = jd.adapters.to_keras_optimizer(tx)
    model.compile(optimizer, "mse")
    lower = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 if epoch < 2 else 0.0)
    ends = []
    after = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(kernel(model)))
    model.fit(X, Y, batch_size=32, epochs=4, verbose=0, callbacks=[lower, after])
    assert float(optimizer.learning_rate) == 0.0
    assert not np.array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[1], ends[3])


def test_micro_batches_of_keras_are_one_update(keras):
    """Two batches of 16 with Keras' accumulation are one of 32."""
    whole, parts = network(keras), network(keras)
    for model, size, steps in ((whole, 32, None), (parts, 16, 2)):
        optimizer = jd.adapters.to_keras_optimizer(jd.optimizers.adam(1e-2))
        optimizer.gradient_accumulation_steps = steps
        model.compile(optimizer, "mse")
        model.fit(X, Y, batch_size=size, epochs=5, shuffle=False, verbose=0)
    for a, b in zip(whole.trainable_variables, parts.trainable_variables):
        np.testing.assert_allclose(a.value, b.value, rtol=1e-4, atol=1e-6)


def test_a_saved_model_goes_on_where_it_was(keras, tmp_path):
    tx = jd.optimizers.adam(1e-2)
    whole, first = network(keras), network(keras)
    for model, epochs in ((whole, 10), (first, 5)):
        model.compile(jd.adapters.to_keras_optimizer(tx), "mse")
        model.fit(X, Y, batch_size=32, epochs=epochs, shuffle=False, verbose=0)
    first.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    optimizer = jd.adapters.to_keras_optimizer(tx)
    again.compile(optimizer, "mse")
    optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "model.keras")
    again.fit(X, Y, batch_size=32, epochs=5, shuffle=False, verbose=0)
    for a, b in zip(whole.trainable_variables, again.trainable_variables):
        np.testing.assert_allclose(a.value, b.value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("tx", "words"),
    [
        (optax.lbfgs(), "gradients and the parameters alone, .*missing 3 required"),
        (optax.polyak_sgd(), "alone, .*'value'"),
        (optax.lookahead(optax.sgd(0.1), 5, 0.5), "alone, .*fast"),
        (jd.optimizers.nag(0.1), r"nag takes its gradient .*\.sgd\(…, nesterov=True"),
    ],
)
def test_what_keras_does_not_give_is_said_before_training(keras, tx, words):
    model = network(keras)
    model.compile(jd.adapters.to_keras_optimizer(tx), "mse")
    with pytest.raises(ValueError, match=words):
        model.fit(X, Y, verbose=0)


def test_a_rate_that_is_not_in_the_state_cannot_be_set(keras):
    model, optimizer = network(keras), jd.adapters.to_keras_optimizer(optax.sgd(0.1))
    optimizer.build(model.trainable_variables)
    with pytest.raises(TypeError, match="learning_rate"):
        optimizer.learning_rate = 0.2
    assert repr(optimizer) == "<OptaxOptimizer optax>"
