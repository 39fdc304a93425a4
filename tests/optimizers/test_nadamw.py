"""Nadam with decoupled weight decay beside the installed optax."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.optax_parity import check_every_step, trained

from jaxdeep import optimizers as o

OPTIONS = {"b1": 0.8, "b2": 0.95, "eps": 1e-3, "eps_root": 1e-4, "weight_decay": 0.02}


@pytest.mark.few(1)
@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["defaults", "options"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_step_is_that_of_optax(options, dtype):
    check_every_step(o.nadamw(0.01, **options), optax.nadamw(0.01, **options), dtype)


def test_decay_of_the_selected_leaves():
    mask = {"kernel": True, "bias": False}
    check_every_step(o.nadamw(0.01, where="kernel"), optax.nadamw(0.01, mask=mask), "float32")


@pytest.mark.heavy
def test_without_decay_it_is_nadam():
    for options in ({}, {"momentum_decay": 0.004}):
        ours, plain = o.nadamw(0.01, weight_decay=0.0, **options), o.nadam(0.01, **options)
        np.testing.assert_array_equal(trained(ours)["kernel"], trained(plain)["kernel"])


def test_a_decay_that_does_not_follow_the_learning_rate():
    x = jnp.array([2.0, -4.0])
    tx = o.nadamw(0.0, weight_decay=0.25, couple_lr=False)
    np.testing.assert_array_equal(tx.update(x, tx.init(x), x)[0], -0.25 * x)
    with pytest.raises(TypeError, match="couple_lr must be True or False"):
        o.nadamw(0.1, couple_lr="no")
