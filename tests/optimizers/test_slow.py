"""Lookahead beside that of optax, which trains pairs of parameters, and in runs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd

X = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
Y = X @ np.array([[1.0], [2.0], [-1.0]], np.float32)


def loss(p):
    return ((jnp.tanh(X @ p["kernel"]) - Y + p["bias"]) ** 2).mean()


@pytest.mark.heavy
@pytest.mark.parametrize("reset_state", [False, True])
def test_it_is_that_of_optax(reset_state):
    fast = optax.adam(0.1)
    start = {"kernel": jnp.full((3, 1), 0.3), "bias": jnp.zeros(1)}
    ours = jd.optimizers.lookahead(fast, 3, 0.4, reset_state=reset_state)
    theirs = optax.lookahead(fast, 3, 0.4, reset_state=reset_state)
    params, pair = start, optax.LookaheadParams.init_synced(start)
    state, state_of_pair = ours.init(params), theirs.init(pair)
    for _ in range(8):
        updates, state = ours.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
        updates, state_of_pair = theirs.update(jax.grad(loss)(pair.fast), state_of_pair, pair)
        pair = optax.apply_updates(pair, updates)
        slow = jd.optimizers.evaluation_params(state, params)
        for found, expected in ((params, pair.fast), (slow, pair.slow)):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


def test_of_leaves_that_a_mask_leaves_out_the_fast_ones_are_evaluated():
    tx = optax.masked(jd.optimizers.lookahead(optax.sgd(1.0), 2), {"a": True, "b": False})
    params = {"a": jnp.zeros(2), "b": jnp.ones(2)}
    state = tx.init(params)
    updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
    params = optax.apply_updates(params, updates)
    found = jd.optimizers.evaluation_params(state, params)
    np.testing.assert_array_equal(found["a"], jnp.zeros(2))
    assert found["b"] is params["b"]


def fit(**options):
    tx = optax.chain(optax.clip(1.0), jd.optimizers.lookahead(optax.sgd(0.3), 5))
    return jd.fit(
        jd.nn.dense(1),
        (X, Y),
        loss=jd.losses.mse,
        optimizer=tx,
        batch_size=16,
        key=jax.random.key(0),
        progress=False,
        validation=(X, Y),
        **{"epochs": 3} | options,
    )


def test_a_run_validates_and_returns_the_slow_parameters():
    """Twelve steps end two after the slow ones moved; the fast ones are elsewhere."""
    result = fit()
    model, objective = jd.nn.dense(1), jd.train.supervised(jd.nn.dense(1), jd.losses.mse)
    np.testing.assert_allclose(
        result.history["val_loss"][-1], objective(result.params, {}, (X, Y))[0], rtol=1e-5
    )
    slow = optax.tree.get(result.train_state.opt_state, "slow")
    jax.tree.map(np.testing.assert_array_equal, result.params, slow)
    assert jax.tree.structure(result.params) == jax.tree.structure(model.init(jax.random.key(0), X)[0])


@pytest.mark.heavy
def test_a_run_that_was_resumed_is_that_which_was_not(tmp_path):
    fit(epochs=1, checkpoint=tmp_path)
    resumed, whole = fit(checkpoint=tmp_path), fit()
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)
    jax.tree.map(np.testing.assert_array_equal, resumed.history, whole.history)


def test_in_low_precision_the_slow_parameters_are_not():
    """A hundredth of the way is lost in bfloat16."""
    tx = jd.optimizers.lookahead(jd.optimizers.sgd(1.0), 1, 0.01)
    params = jnp.ones(2, jnp.bfloat16)
    state = tx.init(params)
    updates, state = tx.update(jnp.full(2, 0.25, jnp.bfloat16), state, params)
    assert updates.dtype == jnp.bfloat16
    np.testing.assert_allclose(state.slow, 1 - 0.25 * 0.01, rtol=1e-6)
    assert jd.optimizers.evaluation_params(state, params).dtype == jnp.bfloat16


def test_beginning_anew_keeps_a_rate_that_was_set():
    tx = jd.optimizers.lookahead(jd.optimizers.sgd(0.1), 2, 1.0, reset_state=True)
    params = {"a": jnp.ones(3)}
    state = jd.optimizers.set_hyperparams(tx.init(params), learning_rate=0.5)
    for _ in range(3):  # it begins anew after the second
        updates, state = tx.update({"a": jnp.ones(3)}, state, params)
    np.testing.assert_allclose(updates["a"], -0.5)
