"""Weight decay and penalties."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.transforms import PARAMS, ZEROS, apply

from jaxdeep import optimizers as o


@pytest.mark.heavy
def test_penalties_are_the_gradients_of_their_losses():
    for tx, loss in (
        (o.add_l1_penalty(0.3), lambda p: 0.3 * sum(jnp.abs(w).sum() for w in jax.tree.leaves(p))),
        (o.add_l2_penalty(0.3), lambda p: 0.3 * sum((w**2).sum() for w in jax.tree.leaves(p))),
        (
            o.add_l2_penalty(0.3, half=True),
            lambda p: 0.15 * sum((w**2).sum() for w in jax.tree.leaves(p)),
        ),
    ):
        found, expected = apply(tx, ZEROS, PARAMS), jax.grad(loss)(PARAMS)
        for name, values in PARAMS.items():
            nonzero = values != 0  # jax.grad takes 1 for the slope of |0|
            np.testing.assert_allclose(found[name][nonzero], expected[name][nonzero], rtol=1e-6)


def test_decay_applies_where_told():
    ours = apply(o.add_decayed_weights(0.1, where="kernel"), ZEROS, PARAMS)
    theirs = apply(optax.add_decayed_weights(0.1, {"kernel": True, "bias": False}), ZEROS, PARAMS)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6)


def test_adamw_where_and_coupling():
    mask = {"kernel": True, "bias": False}
    ours, theirs = (
        o.adamw(0.1, weight_decay=0.2, where="kernel"),
        optax.adamw(0.1, weight_decay=0.2, mask=mask),
    )
    g = jax.tree.map(jnp.ones_like, PARAMS)
    chex.assert_trees_all_close(apply(ours, g, PARAMS), apply(theirs, g, PARAMS), rtol=2e-5)
    free = apply(o.adamw(0.0, weight_decay=0.2, couple_lr=False), g, PARAMS)
    np.testing.assert_allclose(free["kernel"], -0.2 * PARAMS["kernel"], rtol=1e-6)


@pytest.mark.parametrize(
    "tx",
    [
        o.add_decayed_weights(0.1),
        o.adamw(0.1),
        o.max_norm(1.0),
        o.add_l1_penalty(0.1),
        o.ema_params(0.9),
    ],
)
def test_what_needs_the_parameters_says_so(tx):
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(ZEROS, tx.init(PARAMS))


def test_a_where_that_matches_nothing():
    with pytest.raises(ValueError, match="where='krenel' matches no leaf; did you mean 'kernel'"):
        apply(o.adamw(0.1, where="krenel"), ZEROS, PARAMS)
