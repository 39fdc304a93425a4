"""The strong recipe beside the published equations, written out naively."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd

RNG = np.random.default_rng(0)
ROWS, FEATURES, EPOCHS, BATCH = 22, 5, 2, 5
X = RNG.normal(size=(ROWS, FEATURES))
TARGETS = {
    "binary": RNG.integers(0, 2, ROWS),
    "multiclass": RNG.permutation(np.arange(ROWS) % 3),
    "regression": 3 * RNG.normal(size=ROWS) + 50,
}


def selu(x):
    return 1.0507009873554805 * jnp.where(x > 0, x, 1.6732632423543772 * (jnp.exp(x) - 1))


def mish(x):
    return x * jnp.tanh(jnp.log1p(jnp.exp(x)))


def published(leaves, x, activation):
    """What the network of the paper puts out: scale, then layers of x · W / √d + b."""
    scale, *layers = leaves
    x = x * scale
    for i, (weights, bias) in enumerate(layers):
        x = x @ weights / np.sqrt(len(weights)) + bias
        x = activation(x) if i < len(layers) - 1 else x
    return x


def cross_entropy(logits, y, smoothing=0.1):
    logs = logits - jnp.log(jnp.exp(logits).sum(-1, keepdims=True))
    classes = logits.shape[-1]
    p = (1 - smoothing) * jnp.eye(classes)[y] + smoothing / classes
    return -(p * logs).sum(-1).mean()


def squared(outputs, y):
    return ((outputs[:, 0] - y) ** 2).mean()


def trained(leaves, batches, loss, activation, rate, total):
    """Adam (β 0.9, 0.95, ε 1e-8) by hand: scale at 6 and biases at 0.1 of the rate of the step."""
    factors = [6.0, *((1.0, 0.1) for _ in leaves[1:])]
    flat, structure = jax.tree.flatten(leaves)
    rates = jax.tree.leaves(factors)
    m = [np.zeros_like(p) for p in flat]
    v = [np.zeros_like(p) for p in flat]

    @jax.jit
    def gradients(flat, x, y):
        def value(flat):
            return loss(published(jax.tree.unflatten(structure, flat), x, activation), y)

        return jax.grad(value)(flat)

    for step, (x, y) in enumerate(batches):
        now = rate * (0.5 - 0.5 * np.cos(2 * np.pi * np.log2(1 + 15 * step / total)))
        for i, g in enumerate(map(np.asarray, gradients(flat, x, y))):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.95 * v[i] + 0.05 * g**2
            corrected = m[i] / (1 - 0.9 ** (step + 1)), v[i] / (1 - 0.95 ** (step + 1))
            flat[i] = flat[i] - now * rates[i] * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
    return jax.tree.unflatten(structure, flat)


@pytest.mark.heavy
@pytest.mark.usefixtures("x64")
@pytest.mark.few("binary")
@pytest.mark.parametrize("task", TARGETS)
def test_training_is_that_of_the_paper(task):
    """A single logit is the difference of two, step by step."""
    y = TARGETS[task]
    recipe = jd.nn.mlp(task, recipe="strong", targets=y, hidden=(8, 6), epochs=EPOCHS, batch_size=BATCH)
    ts = jd.train.init(recipe.model, recipe.optimizer, X[:1], key=jax.random.key(0))
    step = jax.jit(jd.train.make_step(jd.train.supervised(recipe.model, recipe.loss), recipe.optimizer))

    end = "output" if task == "regression" else "logits"
    names = ["hidden1", "hidden2", end]
    leaves = [np.asarray(ts.params["scaling"]["scale"])]
    leaves += [(np.asarray(ts.params[n]["kernel"]), np.asarray(ts.params[n]["bias"])) for n in names]
    if task == "binary":
        leaves[-1] = (np.zeros((6, 2)), np.zeros(2))
    batches = [(X[i : i + 5], y[i : i + 5]) for i in (0, 5, 10, 15, 2, 7, 12, 17)]
    for batch in batches:
        ts, _ = step(ts, batch)

    rate, activation = (0.07, mish) if task == "regression" else (0.04, selu)
    loss = squared if task == "regression" else cross_entropy
    mean, std = (y.mean(), y.std()) if task == "regression" else (0, 1)
    standard = [(x, (y - mean) / std if task == "regression" else y) for x, y in batches]
    leaves = trained(leaves, standard, loss, activation, rate, EPOCHS * (ROWS // BATCH))

    expected = np.asarray(published(leaves, X, activation))
    outputs, _ = recipe.model.apply(ts.params, ts.state, X)
    if task == "binary":
        expected = expected[:, 1:] - expected[:, :1]
    if task == "regression":
        expected = np.clip(std * expected + mean, y.min(), y.max())
    # the two halves of a logit are 0 or opposite only to rounding, and ε is not doubled
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ts.params["scaling"]["scale"], leaves[0], rtol=1e-5)
    np.testing.assert_allclose(ts.params["hidden1"]["bias"], leaves[1][1], rtol=1e-5)
    assert abs(leaves[0] - 1).max() > 0.01


def test_it_begins_as_the_paper_has_it():
    recipe = jd.nn.mlp("multiclass", recipe="strong", outputs=4, rows=1000)
    params, state = recipe.model.init(jax.random.key(0), np.ones((1, 30), np.float32))
    assert state == {}
    assert jax.tree.map(jnp.shape, params) == {
        "scaling": {"scale": (30,)},
        "hidden1": {"kernel": (30, 256), "bias": (256,)},
        "hidden2": {"kernel": (256, 256), "bias": (256,)},
        "hidden3": {"kernel": (256, 256), "bias": (256,)},
        "logits": {"kernel": (256, 4), "bias": (4,)},
    }
    np.testing.assert_array_equal(params["scaling"]["scale"], 1)
    assert not any(leaf.any() for leaf in jax.tree.leaves(params["logits"]))
    drawn = np.concatenate([np.ravel(params[f"hidden{i}"]["kernel"]) for i in (1, 2, 3)])
    assert abs(drawn.mean()) < 5 / np.sqrt(drawn.size)
    assert abs(drawn.var() - 1) < 5 * np.sqrt(2 / drawn.size)
    x = np.random.default_rng(1).normal(size=(3, 30)).astype(np.float32)
    np.testing.assert_array_equal(recipe.model.apply(params, state, x)[0], 0)


def test_rates_of_the_first_step():
    """The first step has rate 0; the second one shows the factors of the rate, as Adam's is ±1 then."""
    y = TARGETS["multiclass"]
    recipe = jd.nn.mlp("multiclass", recipe="strong", targets=y, hidden=(8,), epochs=4, batch_size=5)
    params, _ = recipe.model.init(jax.random.key(0), np.float32(X[:1]))
    params = jax.tree.map(lambda p: p + 0.1, params)
    grads = jax.tree.map(jnp.ones_like, params)
    opt_state = recipe.optimizer.init(params)
    update = jax.jit(recipe.optimizer.update)
    first, opt_state = update(grads, opt_state, params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(first))
    second, _ = update(grads, opt_state, params)
    rate = 0.04 * (0.5 - 0.5 * np.cos(2 * np.pi * np.log2(1 + 15 / 16)))
    for path, leaf in zip(jd.tree.leaf_paths(second), jax.tree.leaves(second)):
        factor = 6 if path == "scaling/scale" else 0.1 if path.endswith("bias") else 1
        np.testing.assert_allclose(leaf, -rate * factor, rtol=1e-4)


def test_the_run_has_the_published_length():
    recipe = functools.partial(jd.nn.mlp, "multiclass", recipe="strong", outputs=3)
    for rows, batch in ((1000, 256), (100, 100)):
        options = recipe(rows=rows).options
        early = options.pop("early_stopping")
        assert options == {"epochs": 256, "batch_size": batch, "drop_remainder": True}
        assert early == jd.train.EarlyStopping(patience=256, monitor="val_accuracy", ties="last")
    rate = functools.partial(_rate, recipe(rows=1000).optimizer)
    assert rate(256 * 3) == 0 < rate(256 * 3 - 1)  # 1000 // 256 steps an epoch
    assert "early_stopping" not in recipe(rows=9, best_epoch=False).options
    regression = jd.nn.mlp("regression", recipe="strong", rows=9)
    assert regression.options["early_stopping"].monitor == "val_loss"


def _rate(optimizer, step):
    """The rate in force at a step."""
    params = {"scaling": {"scale": jnp.ones(1)}}
    params |= {n: {"bias": jnp.ones(1)} for n in ("hidden1", "hidden2", "hidden3", "logits")}
    state = optimizer.init(params)
    state = jax.tree.map(lambda leaf: leaf + step if leaf.dtype == jnp.int32 else leaf, state)
    _, state = optimizer.update(params, state, params)
    return float(jd.optimizers.hyperparams(state)["learning_rate"])
