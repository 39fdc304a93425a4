"""Every optimizer reaches its bar on problems with known minima."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd
from jaxdeep import optimizers as o


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


CONDITION = jnp.logspace(0, 3, 10)


def quadratic(x):
    return 0.5 * (CONDITION * (x - 1) ** 2).sum()


# name: (rate on Rosenbrock, rate on the quadratic); both in 5,000 steps from the usual starts
RATES = {
    "sgd": (o.sgd, 1e-3, 1.9e-3),
    "momentum": (lambda lr: o.sgd(lr, momentum=0.9), 5e-4, 1e-3),
    "nesterov": (lambda lr: o.sgd(lr, momentum=0.9, nesterov=True), 5e-4, 5e-4),
    "nag": (lambda lr: o.nag(lr, momentum=0.9), 5e-4, 5e-4),
    "adagrad": (o.adagrad, 0.5, 1.0),
    "rmsprop": (lambda lr: o.rmsprop(jd.schedules.cosine(lr, 5_000)), 5e-3, 1e-2),
    "adam": (o.adam, 1e-2, 3e-2),
    "adamax": (o.adamax, 3e-2, 3e-2),
    "nadam": (o.nadam, 1e-2, 3e-2),
    "adamw": (lambda lr: o.adamw(lr, weight_decay=0.0), 1e-2, 3e-2),
}


@pytest.mark.few(5)
@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize(
    ("problem", "start", "bar"),
    [(rosenbrock, jnp.array([-1.2, 1.0]), 1e-2), (quadratic, jnp.zeros(10), 1e-3)],
    ids=["rosenbrock", "quadratic"],
)
def test_it_converges(name, problem, start, bar):
    make, *rates = RATES[name]
    tx = make(rates[0] if problem is rosenbrock else rates[1])

    def step(carry, _):
        x, state = carry
        g = jax.grad(problem)(o.gradient_point(state, x))
        u, state = tx.update(g, state, x)
        return (optax.apply_updates(x, u), state), None

    (x, _), _ = jax.jit(lambda: jax.lax.scan(step, (start, tx.init(start)), None, length=5_000))()
    assert float(problem(x)) < bar
    np.testing.assert_allclose(x, 1, atol=0.25)


@pytest.mark.heavy
@pytest.mark.parametrize("name", RATES)
def test_the_chapters_network_learns_digits(name):
    train, validation, _ = jd.datasets.digits()
    make, *_ = RATES[name]
    rates = {"sgd": 0.05, "momentum": 0.03, "nesterov": 0.03, "nag": 0.03, "adagrad": 0.05}
    relu = jax.nn.relu
    model = jd.nn.serial(
        jd.nn.flatten(), *(jd.nn.dense(100, activation=relu) for _ in range(3)), jd.nn.dense(10)
    )
    result = jd.fit(
        model,
        train,
        loss=jd.losses.softmax_cross_entropy,
        metrics={"accuracy": jd.metrics.accuracy},
        optimizer=make(rates.get(name, 2e-3)),
        epochs=10,
        validation=validation,
        key=jax.random.key(0),
        progress=False,
    )
    # plain SGD still jumps at a constant rate: the median of the last three epochs
    assert np.median(result.history["val_accuracy"][-3:]) > 0.93
