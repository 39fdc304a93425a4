"""The state of a run at its beginning."""

import jax
import jax.numpy as jnp
import pytest
from helpers.training import KEY, X, network

import jaxdeep as jd


@pytest.mark.heavy
def test_init_under_vmap_over_hyperparameters_leaks_no_tracer():
    def one(rate, key):
        return jd.train.init(network(), jd.optimizers.adam(rate), X[:1], key=key).params["hidden"][
            "bias"
        ]

    with jax.checking_leaks():
        jax.vmap(one)(jnp.array([0.1, 0.2]), jax.random.split(KEY, 2))
