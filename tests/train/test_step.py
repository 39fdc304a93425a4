"""A step: what is computed, and what stays valid."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.training import KEY, X, Y, close, network, problem, setup

import jaxdeep as jd
from jaxdeep.train import TrainState, make_epoch, make_step


@pytest.mark.heavy
def test_a_step_is_the_hand_written_update():
    model, tx = network(), optax.adam(1e-2)
    _objective, step, ts = setup(tx, model=model)
    batch = jax.tree.map(lambda a: a[:16], problem())
    new, metrics = step(ts, batch)

    def loss(params):
        key = jax.random.fold_in(ts.key, 0)
        y, state = model.apply(params, ts.state, batch[0], train=True, key=key)
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(y, batch[1])
        return losses.mean(), (state, (y.argmax(-1) == batch[1]).mean())

    (value, (state, share)), grads = jax.value_and_grad(loss, has_aux=True)(ts.params)
    updates, _ = tx.update(grads, ts.opt_state, ts.params)
    close(new.params, optax.apply_updates(ts.params, updates), rtol=1e-6)
    close(new.state, state, rtol=1e-6)
    assert int(new.step) == 1
    assert metrics.keys() == {"loss", "accuracy"}
    np.testing.assert_allclose([metrics["loss"], metrics["accuracy"]], [value, share], rtol=1e-6)


def test_nag_takes_its_gradient_at_the_look_ahead_point_inside_a_chain():
    a = jnp.array([1.0, 10.0])
    objective = lambda p, s, batch, *, key=None, train=False: (0.5 * (a * p**2).sum(), (s, {}))  # noqa: E731
    for tx in (jd.optimizers.nag(0.01), optax.chain(optax.clip(1e9), jd.optimizers.nag(0.01))):
        step = make_step(objective, tx)
        x = jnp.ones(2)
        ts = TrainState(jnp.int32(0), x, {}, tx.init(x), KEY)
        theta, m = np.ones(2), np.zeros(2)
        for _ in range(20):
            ts, _ = step(ts, ())
            m = 0.9 * m - 0.01 * np.asarray(a) * (theta + 0.9 * m)
            theta = theta + m
            np.testing.assert_allclose(ts.params, theta, rtol=2e-5)


@pytest.mark.heavy
def test_the_optimizer_is_passed_parameters_and_the_loss():
    tx = optax.chain(optax.adamw(1e-2), optax.contrib.reduce_on_plateau(patience=1))
    _, step, ts = setup(tx)
    ts, _ = jax.jit(step)(ts, jax.tree.map(lambda a: a[:16], problem()))
    assert int(ts.step) == 1


def test_the_step_leaves_its_input_valid_and_keeps_structure():
    _, step, ts = setup()
    batch = jax.tree.map(lambda a: a[:16], problem())
    new, _ = jax.jit(step)(ts, batch)
    assert np.isfinite(ts.params["hidden"]["kernel"]).all()
    assert jax.tree.map(jax.typeof, new) == jax.tree.map(jax.typeof, ts)  # weak types included


def test_a_step_of_ones_own_must_report_its_loss():
    step = lambda ts, batch: (ts, {"mse": jnp.float32(0)})  # noqa: E731
    ts = TrainState(jnp.int32(0), {}, {}, {}, KEY)
    with pytest.raises(ValueError, match=r"metrics with a 'loss', got \['mse'\]"):
        make_epoch(step)(ts, (X, Y))
