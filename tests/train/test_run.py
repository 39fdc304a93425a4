"""Whole runs as pure functions: over traced hyperparameters, and differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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


CASES = {
    "learning rate": (lambda v: (network(), jd.optimizers.adam(v)), (0.01, 0.1)),
    "b1": (lambda v: (network(), jd.optimizers.adam(0.1, b1=v)), (0.5, 0.9)),
    "weight decay": (lambda v: (network(), jd.optimizers.adamw(0.1, weight_decay=v)), (0.0, 0.3)),
    "dropout": (lambda v: (network(v), jd.optimizers.adam(0.1)), (0.1, 0.5)),
}
PARTS = {"init": init, "begin": started, "step": step, "epoch": epoch, "run": run}


@pytest.mark.few("learning rate-init", "learning rate-begin", "dropout-step")
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("case", CASES)
def test_with_a_constant_key_rows_over_traced_hyperparameters_are_those_one_by_one(case, part):
    make, values = CASES[case]

    def row(value):
        leaves = jax.tree.leaves(PARTS[part](*make(value)))
        return [leaf for leaf in leaves if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]

    rows, alone = jax.jit(jax.vmap(row))(jnp.array(values)), jax.jit(row)
    for i, value in enumerate(values):
        close(jax.tree.map(lambda leaf, i=i: leaf[i], rows), alone(value), rtol=2e-5)


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
