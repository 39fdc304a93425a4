"""Small networks are as accurate as large ones."""

import os

import jax
import jax.export
import numpy as np
import optax
import pytest
from helpers.compressed import dense, nn, norm

import jaxdeep as jd


def chapter_network():
    return nn.serial(
        flatten=nn.flatten(),
        hidden1=dense(300, activation=jax.nn.relu),
        hidden2=dense(100, activation=jax.nn.relu),
        logits=dense(10),
    )


def small_networks(train, validation, test, *, l1, epochs, tuning, batch_size, learning_rate):
    """Accuracy in percent: as trained, with int8 weights, and at 90 % zeros after training with L1.

    Of the strengths `l1` the one that is best on the validation data.
    """
    model, adam = chapter_network(), jd.optimizers.adam
    how = {"loss": jd.losses.softmax_cross_entropy, "batch_size": batch_size, "progress": False}
    begin = {"optimizer": adam(learning_rate), "key": jax.random.key(0), "epochs": epochs, **how}

    def accuracy(model, params, data):
        return 100 * float(np.mean(jd.metrics.accuracy(model.apply(params, {}, data[0])[0], data[1])))

    def pruned(strength):
        sparse = jd.fit(model, train, penalty=jd.regularizers.l1(strength, where="*/kernel"), **begin)
        few = jd.compress.prune(sparse.params, 0.9)
        tuner = optax.chain(adam(learning_rate / 2), jd.compress.keep_zeros())
        key = jax.random.key(1)
        params = jd.fit(model, train, params=few, optimizer=tuner, key=key, epochs=tuning, **how).params
        sizes = [own["kernel"].size for own in params.values()]
        assert float(jd.compress.sparsity(params).share) * sum(sizes) > round(0.9 * sum(sizes)) - 0.5
        return params

    plain = jd.fit(model, train, **begin)
    best = max(map(pruned, l1), key=lambda params: accuracy(model, params, validation))
    return {
        "plain": accuracy(model, plain.params, test),
        "int8": accuracy(*jd.compress.quantize(model, plain.params, {})[:2], test),
        "pruned": accuracy(model, best, test),
    }


@pytest.mark.slow
def test_small_networks_are_as_accurate_on_digits():
    train, *others = jd.datasets.digits()
    how = {"l1": (1e-4, 3e-4, 1e-3), "epochs": 20, "tuning": 10, "batch_size": 32, "learning_rate": 2e-3}
    found = small_networks(train, *others, **how)
    assert found["plain"] > 97
    assert found["int8"] >= found["plain"] - 0.5
    assert found["pruned"] >= found["plain"] - 1


@pytest.mark.slow
@pytest.mark.skipif("JAXDEEP_DATA" not in os.environ, reason="wants the real data: set JAXDEEP_DATA")
def test_small_networks_are_as_accurate_on_fashion_mnist():
    how = {"l1": (3e-6, 1e-5, 3e-5), "epochs": 10, "tuning": 3, "batch_size": 128, "learning_rate": 1e-3}
    found = small_networks(*jd.datasets.fashion_mnist(), **how)
    print(found)
    assert found["plain"] > 87
    assert found["int8"] >= found["plain"] - 0.5
    assert found["pruned"] >= found["plain"] - 1


@pytest.mark.slow
@pytest.mark.skipif("JAXDEEP_DATA" not in os.environ, reason="wants the real data: set JAXDEEP_DATA")
def test_int8_weights_behind_folded_batch_norms_are_as_accurate():
    """Standardised corner pixels: the folded weights of one layer span four orders of magnitude."""
    train, _, test = jd.datasets.fashion_mnist()
    layers = {f"layer{i}": dense(units, use_bias=False) for i, units in enumerate((300, 100))}
    parts = {"flatten": nn.flatten(), "bn": norm()}
    for name, layer in layers.items():
        parts |= {name: layer, f"{name}_bn": norm(), f"{name}_act": nn.activation(jax.nn.relu)}
    model = nn.serial(**parts, logits=dense(10))
    how = {"loss": jd.losses.softmax_cross_entropy, "batch_size": 128, "progress": False, "epochs": 5}
    how |= {"optimizer": jd.optimizers.adam(1e-3)}

    def accuracy(model, params, state):
        return 100 * float(np.mean(jd.metrics.accuracy(model.apply(params, state, test[0])[0], test[1])))

    for seed in range(3):
        whole = jd.fit(model, train, key=jax.random.key(seed), **how)
        folded = jd.compress.fold_batch_norm(model, whole.params, whole.state)
        found = accuracy(*folded), accuracy(*jd.compress.quantize(*folded))
        print(found)
        assert found[0] > 86
        assert abs(found[1] - found[0]) <= 0.5
