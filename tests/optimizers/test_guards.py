"""Steps that are skipped, and the average of the parameters."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdeep import optimizers as o


def test_skipping_leaves_everything_as_it_was_and_counts():
    tx = o.skip_nonfinite(optax.chain(o.clip_by_global_norm(1.0), o.adam(0.1)))
    x = {"a": jnp.ones(2), "b": jnp.ones(())}
    good = jax.tree.map(jnp.ones_like, x)
    bad = {**good, "b": jnp.float32(jnp.nan)}
    update = jax.jit(tx.update)
    _, state = update(good, tx.init(x), x)
    u, after = update(bad, state, x)
    assert all(not leaf.any() for leaf in jax.tree.leaves(u))
    chex.assert_trees_all_equal(after.inner, state.inner)
    u, after = update({**good, "a": jnp.array([jnp.inf, 0])}, after, x)
    assert (int(after.skipped), int(after.in_a_row)) == (2, 2)
    u, after = update(good, after, x)
    assert (int(after.skipped), int(after.in_a_row)) == (2, 0)
    assert np.isfinite(u["b"])
    assert u["b"] != 0


@pytest.mark.usefixtures("x64")
def test_the_average_of_the_parameters():
    tx = optax.chain(o.sgd(0.1), o.ema_params(0.9))
    x, mean = jnp.array([1.0, 2.0]), np.array([1.0, 2.0])
    state = tx.init(x)
    for _ in range(10):
        u, state = tx.update(x, state, x)
        x = x + u
        mean = 0.9 * mean + 0.1 * np.asarray(x)
    np.testing.assert_allclose(state[1].ema, mean, rtol=1e-12)


def test_the_average_is_kept_in_float32_and_is_no_alias():
    x = jnp.ones(3, jnp.bfloat16)
    assert o.ema_params(0.9).init(x).ema.dtype == jnp.float32
    x = jnp.ones(3)
    assert o.ema_params(0.9).init(x).ema.unsafe_buffer_pointer() != x.unsafe_buffer_pointer()
