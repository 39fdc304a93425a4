"""A run is a value: it is vmapped and differentiated in what it was made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import KEY

import jaxdeep as jd

X = jax.random.normal(jax.random.key(1), (24, 3))
Y = (X[:, 0] > X[:, 1]).astype(int)


def run(rate, b1=0.9, decay=0.0, penalty=0.0, dropout=None, x=X, **options):
    """The validation losses of a run, with a key that is always the same."""
    middle = [] if dropout is None else [jd.nn.dropout(dropout)]
    model = jd.nn.serial(jd.nn.dense(4, activation=jnp.tanh), *middle, jd.nn.dense(2))
    optimizer = jd.optimizers.adamw(rate, b1=b1, weight_decay=decay)
    objective = jd.train.supervised(
        model, jd.losses.softmax_cross_entropy, penalty=jd.regularizers.l2(penalty)
    )
    ts = jd.train.init(model, optimizer, x, key=KEY)
    whole = jd.train.make_run(objective, optimizer, epochs=2, batch_size=10, **options)
    return whole(ts, (x, Y), (x, Y))[1]["val_loss"]


@pytest.mark.few("rate")
@pytest.mark.parametrize("name", ["rate", "b1", "decay", "dropout", "penalty"])
def test_runs_side_by_side_over_a_traced_number_and_one_key_are_the_runs_alone(name):
    values = jnp.array([0.05, 0.3])
    rate = {} if name == "rate" else {"rate": 0.1}
    together = jax.vmap(lambda value: run(**{name: value}, **rate))(values)
    alone = [jax.jit(run)(**{name: value}, **rate) for value in values]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


@pytest.mark.usefixtures("x64")
@pytest.mark.few("rate")
@pytest.mark.parametrize("name", ["rate", "penalty"])
def test_the_gradient_through_a_run_is_that_of_differences(name):
    others = {"rate": {}, "penalty": {"rate": 0.05}}[name]
    x = X.astype(jnp.float64)
    last = jax.jit(lambda value: run(**{name: value}, x=x, **others)[-1])
    at, step = 0.05, 1e-5
    expected = (last(at + step) - last(at - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(last)(at), expected, rtol=1e-5)


@pytest.mark.heavy
def test_early_stopping_has_a_forward_derivative_and_says_that_it_has_no_other():
    stopping = jd.train.EarlyStopping(patience=3)
    last = lambda rate: run(rate, early_stopping=stopping)[-1]  # noqa: E731
    with pytest.raises(ValueError, match="a run with early_stopping has no fixed number of epochs"):
        jax.grad(last)(0.05)
    _, slope = jax.jvp(last, (0.05,), (1.0,))
    expected = jax.grad(lambda rate: run(rate)[-1])(0.05)
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
