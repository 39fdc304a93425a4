"""An optimizer of ours beside one of optax, step by step."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdeep._compat import enable_x64

STEPS = 20


def problem(dtype="float32"):
    """Parameters, and the noise of every step's gradient."""
    rng = np.random.default_rng(0)

    def draw(*lead):
        return {
            "kernel": jnp.asarray(rng.standard_normal((*lead, 3, 2)), dtype),
            "bias": jnp.asarray(rng.standard_normal((*lead, 2)), dtype),
        }

    return draw(), draw(STEPS)


def steps(tx, params, noise):
    """The parameters after every step, whose gradient is noise around 0.1 θ."""

    def body(carry, noise):
        params, state = carry
        grads = jax.tree.map(lambda n, p: n + 0.1 * p, noise, params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.jit(lambda params, noise: jax.lax.scan(body, (params, tx.init(params)), noise)[1])(
        params, noise
    )


def trained(tx):
    """The parameters after the last step."""
    return jax.tree.map(lambda path: path[-1], steps(tx, *problem()))


def check_every_step(ours, theirs, dtype):
    """Refuse `ours` unless its parameters are those of `theirs` after every step, to rounding."""
    with enable_x64(dtype == "float64"):
        params, noise = problem(dtype)
        tolerance = {"float32": 2e-6, "float64": 1e-12}[dtype]
        chex.assert_trees_all_close(
            steps(ours, params, noise), steps(theirs, params, noise), rtol=tolerance, atol=tolerance
        )
