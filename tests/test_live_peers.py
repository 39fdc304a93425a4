"""Side by side with the frameworks themselves and on the real data: make test-slow."""

import itertools
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd

pytestmark = pytest.mark.slow

SIZES = (20, 16, 16, 3)


def batches(n=20):
    rng = np.random.default_rng(0)
    return [
        (rng.normal(size=(32, SIZES[0])).astype(np.float32), rng.integers(0, SIZES[-1], 32))
        for _ in range(n)
    ]


def ours(optimizer, weights):
    """20 steps of jaxdeep from given kernels: the final kernels."""
    layers = {f"layer{i}": jd.nn.dense(n, activation=jax.nn.relu) for i, n in enumerate(SIZES[1:-1])}
    model = jd.nn.serial(
        **layers, bn=jd.nn.batch_norm(momentum=0.99, epsilon=1e-3), logits=jd.nn.dense(SIZES[-1])
    )
    ts = jd.train.init(model, optimizer, jnp.ones((1, SIZES[0])), key=jax.random.key(0))
    for name, kernel in zip([*layers, "logits"], weights):
        ts.params[name]["kernel"] = jnp.asarray(kernel)
    objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy)
    step = jax.jit(jd.train.make_step(objective, optimizer))
    for batch in batches():
        ts, _ = step(ts, batch)
    kernels = [np.asarray(ts.params[name]["kernel"]) for name in [*layers, "logits"]]
    return kernels, np.asarray(ts.state["bn"]["var"])


def initial():
    rng = np.random.default_rng(1)
    return [rng.normal(size=s).astype(np.float32) * np.sqrt(2 / s[0]) for s in itertools.pairwise(SIZES)]


KERAS = {
    "sgd": (jd.optimizers.sgd(0.05), lambda k: k.SGD(0.05)),
    "momentum": (
        jd.optimizers.sgd(0.05, momentum=0.9, lr_in_trace=True),
        lambda k: k.SGD(0.05, momentum=0.9),
    ),
    "nesterov": (
        jd.optimizers.sgd(0.05, momentum=0.9, nesterov=True, lr_in_trace=True),
        lambda k: k.SGD(0.05, momentum=0.9, nesterov=True),
    ),
    "adam": (jd.optimizers.adam(0.01, eps=1e-7, eps_mode="uncorrected"), lambda k: k.Adam(0.01)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KERAS)
def test_twenty_steps_with_batch_norm_like_keras(name):
    os.environ["KERAS_BACKEND"] = "jax"
    keras = pytest.importorskip("keras", reason="needs the extra `bench`")
    tx, make = KERAS[name]
    hidden = [keras.layers.Dense(n, "relu") for n in SIZES[1:-1]]
    bn, logits = (
        keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3),
        keras.layers.Dense(SIZES[-1]),
    )
    model = keras.Sequential([keras.layers.Input((SIZES[0],)), *hidden, bn, logits])
    weights = initial()
    for layer, kernel in zip([*hidden, logits], weights):
        layer.kernel.assign(kernel)
    model.compile(make(keras.optimizers), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for x, y in batches():
        model.train_on_batch(x, y)
    kernels, var = ours(tx, weights)
    for found, layer in zip(kernels, [*hidden, logits]):
        np.testing.assert_allclose(found, np.asarray(layer.kernel), atol=2e-5)
    np.testing.assert_allclose(var, np.asarray(bn.moving_variance), atol=2e-5)


TORCH = {
    "sgd": (jd.optimizers.sgd(0.05), lambda o, p: o.SGD(p, 0.05)),
    "momentum": (jd.optimizers.sgd(0.05, momentum=0.9), lambda o, p: o.SGD(p, 0.05, momentum=0.9)),
    "nesterov": (
        jd.optimizers.sgd(0.05, momentum=0.9, nesterov=True),
        lambda o, p: o.SGD(p, 0.05, momentum=0.9, nesterov=True),
    ),
    "adam": (jd.optimizers.adam(0.01), lambda o, p: o.Adam(p, 0.01)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TORCH)
def test_twenty_steps_with_batch_norm_like_pytorch(name):
    torch = pytest.importorskip("torch", reason="needs the extra `bench`")
    tx, make = TORCH[name]
    hidden = [torch.nn.Linear(a, b) for a, b in itertools.pairwise(SIZES[:-1])]
    bn, logits = torch.nn.BatchNorm1d(SIZES[-2], eps=1e-3), torch.nn.Linear(*SIZES[-2:])
    model = torch.nn.Sequential(hidden[0], torch.nn.ReLU(), hidden[1], torch.nn.ReLU(), bn, logits)
    weights = initial()
    with torch.no_grad():
        for layer, kernel in zip([*hidden, logits], weights):
            layer.weight.copy_(torch.from_numpy(kernel.T.copy()))
            layer.bias.zero_()
    optimizer = make(torch.optim, model.parameters())
    for x, y in batches():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    kernels, _ = ours(tx, weights)
    for found, layer in zip(kernels, [*hidden, logits]):
        np.testing.assert_allclose(found, layer.weight.detach().numpy().T, atol=2e-5)


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    """The mean accuracies of optimizers that were compared on the real Fashion-MNIST."""
    from jaxdeep.__main__ import main

    try:
        jd.datasets.fashion_mnist()
    except FileNotFoundError:
        pytest.skip("Fashion-MNIST is not at hand: set JAXDEEP_DATA")
    out = tmp_path_factory.mktemp("fashion")
    assert main(["compare", "--data", "fashion-mnist", "--epochs", "10", "--out", str(out)]) == 0
    return means(out)


def means(out):
    """The mean of each candidate of a comparison."""
    rows = json.loads((out / "results.json").read_text())["candidates"]
    return {row["candidate"]: row["mean"] for row in rows}


@pytest.mark.parametrize(
    ("name", "bar"), [("adam", 0.875), ("momentum", 0.862), ("nag", 0.862), ("sgd", 0.82)]
)
def test_fashion_mnist_reaches_the_textbook(fashion, name, bar):
    assert fashion[name] >= bar


def test_digits_reach_95_percent(tmp_path):
    from jaxdeep.__main__ import main

    assert main(["compare", "--epochs", "2", "--out", str(tmp_path)]) == 0
    assert max(means(tmp_path).values()) >= 0.95
