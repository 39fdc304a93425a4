"""The range test of learning rates."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.flows import CE, KEY, SLOW, X, Y, begun, find, small

import jaxdeep as jd
from jaxdeep.diagnostics import find_learning_rate

MLP = jd.nn.serial(
    flatten=jd.nn.flatten(),
    hidden1=jd.nn.dense(300, activation=jax.nn.relu),
    hidden2=jd.nn.dense(100, activation=jax.nn.relu),
    logits=jd.nn.dense(10),
)


MAKERS = {
    "sgd": jd.optimizers.sgd,
    "momentum": lambda rate: jd.optimizers.sgd(rate, momentum=0.9),
    "adam": jd.optimizers.adam,
}


@pytest.mark.heavy
def test_the_curve_is_that_of_steps_taken_by_hand():
    model, steps, low, high = small(), 60, 1e-5, 1.0
    found = find(model, low=low, high=high, steps=steps)
    rates = np.geomspace(low, high, steps)
    np.testing.assert_allclose(found.learning_rates, rates, rtol=1e-4)
    tx = optax.adam(lambda t: jnp.asarray(rates, jnp.float32)[t])
    step = jax.jit(jd.train.make_step(jd.train.supervised(model, CE), tx))
    ts = jd.train.init(model, tx, X[:1], key=KEY)
    losses, data = [], jax.tree.map(jnp.asarray, (X, Y))
    from jaxdeep.train.epoch import shuffled

    for t in range(int(found.steps)):
        if t % 6 == 0:
            order = shuffled(KEY, t, 96).reshape(6, 16)
        ts, metrics = step(ts, tuple(a[order[t % 6]] for a in data))
        losses.append(float(metrics["loss"]))
    np.testing.assert_allclose(found.losses[: len(losses)], losses, rtol=1e-2)
    average, smoothed = 0.0, []
    for t, loss in enumerate(losses):  # 5 % of 60 steps
        average = (1 - 1 / 3) * average + loss / 3
        smoothed.append(average / (1 - (1 - 1 / 3) ** (t + 1)))
    np.testing.assert_allclose(found.smoothed[: len(losses)], smoothed, rtol=1e-2)
    level = smoothed[2] - 0.7 * (smoothed[2] - min(smoothed))
    place = next(t for t in range(3, len(smoothed)) if smoothed[t] <= level)
    expected = min(3 * rates[place], rates[int(np.argmin(smoothed))])
    np.testing.assert_allclose(found.suggestion, expected, rtol=0.2)


@SLOW
def test_an_optimizer_and_a_function_of_its_rate_are_the_same():
    one, other = find(optimizer=jd.optimizers.adam), find(optimizer=jd.optimizers.adam(0.5))
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-4)
    chained = find(optimizer=lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)))
    assert np.isfinite(chained.suggestion)


@pytest.mark.heavy
def test_data_on_the_host_and_on_the_device_give_the_same():
    host = find()
    device = find(data=jax.tree.map(jnp.asarray, (X, Y)))
    jax.tree.map(np.testing.assert_array_equal, host, device)


@SLOW
def test_vmap_over_keys_runs_many_tests():
    data = jax.tree.map(jnp.asarray, (X, Y))
    keys = jax.random.split(KEY, 3)
    many = jax.vmap(lambda key: find(data=data, key=key))(keys)
    assert many.losses.shape == (3, 60)
    alone = find(data=data, key=keys[1])
    n = int(alone.steps) // 2
    np.testing.assert_allclose(many.losses[1][:n], alone.losses[:n], rtol=1e-2)


@pytest.mark.heavy
def test_it_ends_where_the_loss_rises_and_says_when_nothing_helps():
    target = X @ np.ones((12, 1), np.float32)
    found = find(jd.nn.dense(1), (X, target), loss=jd.losses.mse, optimizer=jd.optimizers.sgd,
                 high=1e4, steps=100)  # fmt: skip
    assert 20 < int(found.steps) < 100
    assert np.isfinite(found.losses[: int(found.steps)]).all()
    assert np.isnan(found.losses[int(found.steps) :]).all()
    assert 1e-3 < found.suggestion < 1
    frozen = jd.nn.serial(jd.nn.lambda_(jax.lax.stop_gradient), jd.nn.lambda_(lambda x: x[:, :4]))
    still = find(frozen, optimizer=jd.optimizers.sgd, data=(np.ones_like(X), 0 * Y))
    assert np.isnan(still.suggestion)
    with pytest.warns(UserWarning, match="the loss was not finite at step 0, with a rate of 1e-06"):
        nan = find(data=(X * np.nan, Y))
    assert int(nan.steps) == 1
    assert np.isnan(nan.suggestion)


@SLOW
def test_it_begins_where_it_is_told():
    model = small()
    params, state = begun(model)
    objective = jd.train.supervised(model, CE)
    one = find(model, params=params, state=state)
    other = find(model, params=params, state=state, loss=None, objective=objective)
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)
    first = jax.tree.map(lambda a: a.copy(), params)
    jax.tree.map(np.testing.assert_array_equal, params, first)


def test_wrong_arguments_of_the_test_are_refused():
    with pytest.raises(ValueError, match=r"low must be below high, got low=1, high=0\.1"):
        find(low=1, high=0.1)
    with pytest.raises(ValueError, match="low must be in"):
        find(low=0.0)
    with pytest.raises(ValueError, match="steps must be at least 20"):
        find(steps=10)
    with pytest.raises(ValueError, match="batch_size must be at most the number of examples, 96"):
        find(batch_size=97)
    with pytest.raises(ValueError, match="find_learning_rate needs a loss="):
        find(loss=None)
    with pytest.raises(TypeError, match="optimizer must be"):
        find(optimizer=0.1)
    with pytest.raises(TypeError, match="optimizer must be an optax transformation"):
        find(optimizer=lambda rate: rate)
    form = "optimizer must be a function rate -> optimizer, such as optax.adam itself, or .*: "
    with pytest.raises(ValueError, match=f"^{form}no hyperparameter 'learning_rate'"):
        find(optimizer=optax.sgd(0.1))
    with pytest.raises(ValueError, match=f"^{form}learning_rate is driven by a schedule"):
        find(optimizer=jd.optimizers.sgd(lambda t: 0.1))
    with pytest.raises(TypeError, match="key must be a random key"):
        find(key=0.5)


RATES = np.logspace(-5, 0, 32)


def best_rate(make, data, validation, epochs, seeds):
    """The rate of the lowest mean validation loss of a sweep of 32."""
    table = jd.sweep(
        lambda hp: make(hp["learning_rate"]), {"learning_rate": RATES}, seeds=seeds, model=MLP,
        data=data, validation=validation, loss=CE, epochs=epochs, batch_size=32, progress=False,
    )  # fmt: skip
    losses = np.array([row["val_loss"] for row in table.rows()]).reshape(len(RATES), seeds)
    return RATES[np.argmin(np.where(np.isfinite(losses), losses, np.inf).mean(1))]


@SLOW
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("which", ["digits", "fashion-mnist"])
def test_the_suggestion_is_within_a_factor_3_of_the_best_of_a_sweep(name, which):
    if which == "digits":
        train, validation, _ = jd.datasets.digits()
        best = best_rate(MAKERS[name], train, validation, 10, 3)
    else:
        if "JAXDEEP_DATA" not in os.environ:
            pytest.skip("wants the images in JAXDEEP_DATA")
        train, validation, _ = jd.datasets.fashion_mnist()
        part = train[0][:10_000], train[1][:10_000]
        best = best_rate(MAKERS[name], part, validation, 2, 2)
    found = [
        find_learning_rate(MLP, train, loss=CE, optimizer=MAKERS[name], key=jax.random.key(seed))
        for seed in range(4)
    ]
    ratios = np.array([float(each.suggestion) for each in found]) / best
    assert ((ratios > 1 / 3) & (ratios < 3)).all(), (best, ratios)


@pytest.mark.heavy
@pytest.mark.parametrize("xp", [np, jnp])
def test_labels_that_the_loss_refuses_are_refused(xp):
    def run(labels, weights=()):
        data = (xp.ones((64, 2), np.float32), xp.asarray(labels), *weights)
        return find_learning_rate(
            jd.nn.dense(3), data, loss=CE, optimizer=jd.optimizers.sgd, key=KEY, steps=20
        )

    labels = np.arange(64) % 3
    for _ in range(2):  # also after a test of right labels
        with pytest.raises(ValueError, match=r"labels.* must be in \[0, (2\]|3\))"):
            run(labels - 1)
        assert np.isfinite(run(labels).losses[0])
    padded = run(np.where(np.arange(64) < 60, labels, -1), [xp.asarray(np.arange(64) < 60, np.float32)])
    assert np.isfinite(padded.losses[0])  # rows of weight 0 may be any
