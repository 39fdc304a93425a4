"""Tests of jaxdeep.optimizers.evaluation_params: schedule-free methods are judged at their average."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd

X = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
Y = X @ np.array([[1.0], [2.0], [-1.0]], np.float32)
NORMED = jd.nn.serial(hidden=jd.nn.dense(4), bn=jd.nn.batch_norm(), out=jd.nn.dense(1))
OPTIMIZER = optax.contrib.schedule_free_sgd(0.1)


def fit(model=None, **options):
    options = {"optimizer": OPTIMIZER, "epochs": 4, "validation": (X, Y)} | options
    return jd.fit(
        model or jd.nn.dense(1),
        (X, Y),
        loss=jd.losses.mse,
        batch_size=16,
        key=jax.random.key(0),
        progress=False,
        **options,
    )


def epochs_by_hand(model, epochs):
    """The train state after each epoch of a loop that knows nothing of averages."""
    objective = jd.train.supervised(model, jd.losses.mse)
    ts = jd.train.init(model, OPTIMIZER, X[:1], key=jax.random.key(0))
    epoch = jax.jit(jd.train.make_epoch(jd.train.make_step(objective, OPTIMIZER), batch_size=16))
    for _ in range(epochs):
        ts, _ = epoch(ts, (X, Y))
        yield ts


@pytest.mark.parametrize("chained", [False, True])
def test_it_is_optax_own_anywhere_in_a_chain(chained):
    optimizer = optax.chain(optax.clip(1.0), OPTIMIZER) if chained else OPTIMIZER
    y = {"a": jnp.ones(3), "b": jnp.zeros(2)}
    state = optimizer.init(y)
    for _ in range(3):
        updates, state = optimizer.update(jax.tree.map(lambda p: p + 0.5, y), state, y)
        y = optax.apply_updates(y, updates)
    expected = optax.contrib.schedule_free_eval_params(state[1] if chained else state, y)
    found = jd.optimizers.evaluation_params(state, y)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


@pytest.mark.parametrize("inner", [OPTIMIZER, jd.optimizers.lookahead(optax.sgd(0.1), sync_period=2)])
@pytest.mark.parametrize(
    "labels", [{"a": "own", "b": "other"}, {"a": {"v": "own", "w": "other"}, "b": "other"}]
)
def test_what_a_partition_leaves_out_stays_as_it_is(inner, labels):
    """Whole subtrees and parts of one: the others are evaluated as if they were alone."""
    parts = optax.partition({"own": inner, "other": optax.sgd(0.1)}, labels)
    params = {"a": {"v": jnp.ones(3), "w": jnp.ones(2)}, "b": [jnp.zeros(2), jnp.ones(1)]}
    whole = labels["a"] == "own"
    alone = {name: params["a"][name] for name in ("v", "w") if whole or name == "v"}
    state, own_state = parts.init(params), inner.init(alone)
    for _ in range(3):
        grads = jax.tree.map(lambda p: p + 0.5, params)
        own_grads = jax.tree.map(lambda p: p + 0.5, alone)
        updates, state = parts.update(grads, state, params)
        own_updates, own_state = inner.update(own_grads, own_state, alone)
        params = optax.apply_updates(params, updates)
        alone = optax.apply_updates(alone, own_updates)
    found = jd.optimizers.evaluation_params(state, params)
    expected = jd.optimizers.evaluation_params(own_state, alone)
    assert not np.allclose(expected["v"], alone["v"], rtol=1e-4)
    for name, leaf in params["a"].items():
        np.testing.assert_allclose(found["a"][name], expected.get(name, leaf), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, found["b"], params["b"])


@pytest.mark.heavy
def test_a_partition_is_trained_and_masked_ones_too():
    labels = {"hidden": "own", "out": "other"}
    model = jd.nn.serial(hidden=jd.nn.dense(4), out=jd.nn.dense(1))
    parts = optax.partition({"own": OPTIMIZER, "other": optax.sgd(0.1)}, labels)
    masked = optax.chain(
        optax.masked(OPTIMIZER, {"hidden": True, "out": False}),
        optax.masked(optax.sgd(0.1), {"hidden": False, "out": True}),
    )
    one, other = (fit(model, optimizer=optimizer) for optimizer in (parts, masked))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one.params, other.params)
    state = one.train_state.opt_state.inner_states["own"].inner_state
    raw = one.train_state.params
    average = optax.contrib.schedule_free_eval_params(state._replace(z=state.z["hidden"]), raw["hidden"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        one.params["hidden"],
        average,
    )
    np.testing.assert_array_equal(one.params["out"]["kernel"], raw["out"]["kernel"])


@pytest.mark.parametrize("params", [{"a": jnp.ones(3)}, {"a": [jnp.ones(3)], "b": jnp.ones(2)}])
def test_parameters_of_another_structure_are_refused(params):
    state = OPTIMIZER.init({"a": jnp.ones(3), "b": jnp.ones(2)})
    with pytest.raises(ValueError, match="params must have the structure of those in opt_state"):
        jd.optimizers.evaluation_params(state, params)


def test_other_optimizers_are_evaluated_where_they_are():
    params = {"a": jnp.ones(3)}
    for optimizer in (optax.adam(0.1), jd.optimizers.nag(0.1)):
        assert jd.optimizers.evaluation_params(optimizer.init(params), params)["a"] is params["a"]


def test_fit_validates_and_returns_the_average():
    result = fit()
    model = jd.nn.dense(1)
    *_, last = states = list(epochs_by_hand(model, 4))
    averages = [optax.contrib.schedule_free_eval_params(ts.opt_state, ts.params) for ts in states]
    losses = [jnp.mean(jd.losses.mse(model.apply(p, {}, X)[0], Y)) for p in averages]
    np.testing.assert_allclose(result.history["val_loss"], losses, rtol=1e-4)
    np.testing.assert_allclose(result.params["kernel"], averages[-1]["kernel"], rtol=1e-6)
    assert not np.allclose(result.params["kernel"], last.params["kernel"], rtol=1e-4)


def test_the_best_epoch_is_that_of_the_average():
    stopping = jd.train.EarlyStopping(monitor="val_loss", patience=10)
    result = fit(early_stopping=stopping)
    best = result.history["val_loss"][result.best_epoch]
    np.testing.assert_allclose(result.evaluate((X, Y))["loss"], best, rtol=1e-5)


@pytest.mark.heavy
def test_batch_norms_have_the_statistics_of_the_average():
    result = fit(NORMED)
    np.testing.assert_allclose(
        result.evaluate((X, Y))["loss"], result.history["val_loss"][-1], rtol=1e-5
    )
    *_, last = epochs_by_hand(NORMED, 4)
    average = optax.contrib.schedule_free_eval_params(last.opt_state, last.params)
    expected, _ = NORMED.apply(average, last.state, X, train=True)
    found, _ = NORMED.apply(result.params, result.state, X)
    raw, _ = NORMED.apply(average, last.state, X)
    assert np.abs(found - expected).mean() < np.abs(raw - expected).mean()


@pytest.mark.heavy
def test_behind_clipping_and_with_early_stopping_it_is_the_average_too():
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.contrib.schedule_free_adamw(0.1))
    stopping = jd.train.EarlyStopping(monitor="val_loss", patience=2, restore_best=True)
    result = fit(NORMED, optimizer=tx, early_stopping=stopping, epochs=8)
    best = result.history["val_loss"][result.best_epoch]
    np.testing.assert_allclose(result.evaluate((X, Y))["loss"], best, rtol=1e-5)
    raw, state = result.train_state.params, result.train_state.state
    assert not np.isclose(
        jd.evaluate(NORMED, raw, state, (X, Y), loss=jd.losses.mse)["loss"], best, rtol=1e-3
    )


@pytest.mark.heavy
def test_a_run_that_was_resumed_is_that_which_was_not(tmp_path):
    fit(epochs=2, checkpoint=tmp_path)
    resumed, whole = fit(checkpoint=tmp_path), fit()
    np.testing.assert_array_equal(resumed.params["kernel"], whole.params["kernel"])
    np.testing.assert_array_equal(resumed.history["val_loss"], whole.history["val_loss"])


@pytest.mark.heavy
@pytest.mark.parametrize("strategy", ["threads", "vmap"])
def test_rows_of_a_sweep_keep_the_average(strategy):
    table = jd.sweep(
        lambda hp: optax.contrib.schedule_free_sgd(hp["rate"]),
        {"rate": [0.1]},
        data=(X, Y),
        validation=(X, Y),
        model=jd.nn.dense(1),
        loss=jd.losses.mse,
        epochs=4,
        batch_size=16,
        strategy=strategy,
        progress=False,
    )
    result = fit()
    np.testing.assert_allclose(table.trained(0)[0]["kernel"], result.params["kernel"], rtol=1e-5)
    np.testing.assert_allclose(table.history(0)["val_loss"], result.history["val_loss"], rtol=1e-4)


def test_frozen_parameters_stay_as_they_are():
    model = jd.nn.serial(hidden=jd.nn.dense(4), out=jd.nn.dense(1))
    params, _ = model.init(jax.random.key(3), X[:1])
    result = fit(model, params=params, trainable="out/*")
    np.testing.assert_array_equal(result.params["hidden"]["kernel"], params["hidden"]["kernel"])
    assert not np.array_equal(result.params["out"]["kernel"], params["out"]["kernel"])
