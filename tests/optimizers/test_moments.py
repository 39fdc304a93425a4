"""The parts that optimizers are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.transforms import KEY

from jaxdeep import optimizers as o


@pytest.mark.heavy
@pytest.mark.usefixtures("x64")
def test_adam_is_momentum_over_rmsprop_with_a_correction():
    m = optax.chain(o.first_moment(0.9), o.bias_correction(0.9))
    v = optax.chain(o.second_moment(0.99), o.bias_correction(0.99))
    whole = o.scale_by_adam(b1=0.9, b2=0.99)
    x = jnp.zeros(4)
    states = [tx.init(x) for tx in (m, v, whole)]
    for key in jax.random.split(KEY, 6):
        g = jax.random.normal(key, (4,))
        (a, states[0]), (b, states[1]), (u, states[2]) = (
            tx.update(g, s) for tx, s in zip((m, v, whole), states)
        )
        np.testing.assert_allclose(a / (jnp.sqrt(b) + 1e-8), u, rtol=1e-12)


SCALE_BY = {
    "adagrad": (o.scale_by_adagrad(), o.adagrad),
    "adam": (o.scale_by_adam(), o.adam),
    "adamax": (o.scale_by_adamax(), o.adamax),
    "nadam": (o.scale_by_nadam(), o.nadam),
    "rmsprop": (o.scale_by_rms(), o.rmsprop),
    "momentum": (o.scale_by_momentum(0.9), lambda lr: o.sgd(lr, momentum=0.9)),
}


@pytest.mark.parametrize("name", SCALE_BY)
def test_a_rule_and_a_learning_rate_make_the_optimizer(name):
    rule, make = SCALE_BY[name]
    chained, whole = optax.chain(rule, o.scale_by_learning_rate(0.1)), make(0.1)
    x = jnp.ones(3)
    a, b = chained.init(x), whole.init(x)
    for key in jax.random.split(KEY, 4):
        g = jax.random.normal(key, (3,))
        (u, a), (v, b) = chained.update(g, a, x), whole.update(g, b, x)
        np.testing.assert_allclose(u, v, rtol=1e-6)
