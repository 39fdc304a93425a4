"""Whole runs as pure functions: over traced hyperparameters, and differentiated."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.properties import over
from helpers.runs import KEY, close

import jaxdeep as jd

X = jax.random.normal(jax.random.key(1), (30, 3))
Y = jnp.sin(X[:, :1])


def network(rate=0.2):
    return jd.nn.serial(
        hidden=jd.nn.dense(4, activation=jnp.tanh), drop=jd.nn.dropout(rate), out=jd.nn.dense(1)
    )


def init(model, tx):
    return jd.train.init(model, tx, X[:1], key=KEY)


def step(model, tx):
    made = jd.train.make_step(jd.train.supervised(model, jd.losses.mse), tx)
    return made(init(model, tx), (X, Y))


def epoch(model, tx):
    made = jd.train.make_step(jd.train.supervised(model, jd.losses.mse), tx)
    return jd.train.make_epoch(made, batch_size=12)(init(model, tx), (X, Y))


def run(model, tx):
    objective = jd.train.supervised(model, jd.losses.mse)
    made = jd.train.make_run(objective, tx, epochs=2, batch_size=12)
    return made(init(model, tx), (X, Y), (X, Y))


def started(model, tx):
    params, state = model.init(KEY, X[:1])
    return jd.train.state.begin(model, tx, X[:1], KEY, (params, state))


# What is made of a traced value, and the values that are drawn for it.
CASES = {
    "learning rate": (lambda v: (network(), jd.optimizers.adam(v)), (0.001, 0.1)),
    "b1": (lambda v: (network(), jd.optimizers.adam(0.1, b1=v)), (0.0, 0.95)),
    "weight decay": (lambda v: (network(), jd.optimizers.adamw(0.1, weight_decay=v)), (0.0, 0.5)),
    "dropout": (lambda v: (network(v), jd.optimizers.adam(0.1)), (0.0, 0.75)),
}
PARTS = {"init": init, "begin": started, "step": step, "epoch": epoch, "run": run}


@functools.cache
def compiled_rows(case, part):
    make, _ = CASES[case]

    def row(value):
        leaves = jax.tree.leaves(PARTS[part](*make(value)))
        return [leaf for leaf in leaves if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]

    return jax.jit(jax.vmap(row)), jax.jit(row)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("case", CASES)
@over(2, 50, heavy=True, shares=st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3))
def test_with_a_constant_key_rows_over_traced_hyperparameters_are_those_one_by_one(case, part, shares):
    low, high = CASES[case][1]
    values = [low + share * (high - low) for share in shares]
    together, alone = compiled_rows(case, part)
    rows = together(jnp.array(values))
    for i, value in enumerate(values):
        close(jax.tree.map(lambda leaf, i=i: leaf[i], rows), alone(value), rtol=2e-5)


@pytest.mark.heavy
def test_with_a_constant_key_a_state_of_a_traced_rate_is_made_under_jit_and_grad():
    def rate_and_kernel(rate):
        ts = init(network(), jd.optimizers.sgd(rate))
        (value,) = jd.optimizers.hyperparams(ts.opt_state).values()
        return value**2, ts.params["hidden"]["kernel"]

    value, kernel = jax.jit(rate_and_kernel)(0.5)
    expected = init(network(), jd.optimizers.sgd(0.5)).params["hidden"]["kernel"]
    np.testing.assert_array_equal(kernel, expected)
    assert float(value) == 0.25
    assert float(jax.grad(lambda rate: rate_and_kernel(rate)[0])(0.5)) == 1.0


# --- gradients through a run ---

ROWS = jax.random.normal(jax.random.key(1), (24, 3))
LABELS = (ROWS[:, 0] > ROWS[:, 1]).astype(int)


def losses_of(rate, b1=0.9, decay=0.0, penalty=0.0, dropout=None, x=ROWS, **options):
    """The validation losses of a run, with a key that is always the same."""
    middle = [] if dropout is None else [jd.nn.dropout(dropout)]
    model = jd.nn.serial(jd.nn.dense(4, activation=jnp.tanh), *middle, jd.nn.dense(2))
    optimizer = jd.optimizers.adamw(rate, b1=b1, weight_decay=decay)
    objective = jd.train.supervised(
        model, jd.losses.softmax_cross_entropy, penalty=jd.regularizers.l2(penalty)
    )
    ts = jd.train.init(model, optimizer, x, key=KEY)
    whole = jd.train.make_run(objective, optimizer, epochs=2, batch_size=10, **options)
    return whole(ts, (x, LABELS), (x, LABELS))[1]["val_loss"]


@pytest.mark.usefixtures("x64")
@pytest.mark.heavy
@pytest.mark.parametrize("name", ["rate", "penalty"])
def test_the_gradient_through_a_run_is_that_of_differences(name):
    others = {"rate": {}, "penalty": {"rate": 0.05}}[name]
    x = ROWS.astype(jnp.float64)
    last = jax.jit(lambda value: losses_of(**{name: value}, x=x, **others)[-1])
    at, step = 0.05, 1e-5
    expected = (last(at + step) - last(at - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(last)(at), expected, rtol=1e-5)


@pytest.mark.heavy
def test_early_stopping_has_a_forward_derivative_and_says_that_it_has_no_other():
    stopping = jd.train.EarlyStopping(patience=3)
    last = lambda rate: losses_of(rate, early_stopping=stopping)[-1]  # noqa: E731
    with pytest.raises(ValueError, match="a run with early_stopping has no fixed number of epochs"):
        jax.grad(last)(0.05)
    _, slope = jax.jvp(last, (0.05,), (1.0,))
    expected = jax.grad(lambda rate: losses_of(rate)[-1])(0.05)
    np.testing.assert_allclose(slope, expected, rtol=1e-4)


@pytest.mark.heavy
def test_what_a_step_computes_is_not_kept_for_the_gradient():
    rows, width = 512, 64

    def memory(steps):
        x, y = jnp.ones((steps * rows, 3)), jnp.zeros(steps * rows, int)
        model, optimizer = jd.nn.serial(jd.nn.dense(width), jd.nn.dense(2)), jd.optimizers.sgd(0.1)
        objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy)
        whole = jd.train.make_run(objective, optimizer, epochs=1, batch_size=rows, shuffle=False)
        ts = jd.train.init(model, optimizer, x[:1], key=KEY)

        def last(scale, x, y):
            params = jax.tree.map(lambda p: p * scale, ts.params)
            return whole(ts._replace(params=params), (x, y), (x[:8], y[:8]))[1]["val_loss"][-1]

        compiled = jax.jit(jax.grad(last)).lower(1.0, x, y).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    activations = 4 * rows * width
    assert memory(32) - memory(8) < 24 * activations / 4


def test_the_history_holds_what_schedules_drive():
    falls = jd.schedules.polynomial(0.1, 0.0, power=1, transition_steps=8)
    optimizer = jd.optimizers.adamw(0.01, weight_decay=falls, b1=0.8)
    _, history = run(jd.nn.dense(1), optimizer)
    assert set(history) == {"loss", "val_loss", "learning_rate", "weight_decay"}
    np.testing.assert_allclose(history["weight_decay"], [falls(2), falls(5)], rtol=1e-6)
