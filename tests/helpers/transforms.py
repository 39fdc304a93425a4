"""Updates of one step, on small parameters."""

import jax
import jax.numpy as jnp

KEY = jax.random.key(0)


def apply(tx, grads, params=None, **extra):
    params = jax.tree.map(jnp.zeros_like, grads) if params is None else params
    return tx.update(grads, tx.init(params), params, **extra)[0]


PARAMS = {"kernel": jnp.array([[1.0, -2.0], [3.0, 0.0]]), "bias": jnp.array([0.5, -0.5])}


ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)
