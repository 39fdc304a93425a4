"""A run as arrays on the host: what `jax.device_get` and `jax.random.key_data` give, for less."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdeep.fitting.run_arrays import named_arrays, on_host


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_arrays_on_the_host_are_those_of_jax(kind):
    keys = jax.random.split(jax.random.key(3, impl=kind), 2)
    half = jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3).T
    tree = {
        "w": jnp.ones((2, 3)),
        "half": half,
        "n": np.int32(4),
        "none": None,
        "empty": jnp.zeros((0, 2)),
    }
    there = on_host({**tree, "keys": keys})
    assert there.pop("keys") is keys
    expected = jax.device_get(tree)
    assert jax.tree.structure(there) == jax.tree.structure(expected)
    for leaf, other in zip(jax.tree.leaves(there), jax.tree.leaves(expected)):
        assert not isinstance(leaf, jax.Array)
        assert leaf.dtype == other.dtype
        np.testing.assert_array_equal(leaf, other)
    named = named_arrays({**tree, "keys": keys}, "run.")
    assert sorted(named) == ["run.empty", "run.half", "run.keys", "run.n", "run.w"]
    np.testing.assert_array_equal(named["run.keys"], np.asarray(jax.random.key_data(keys)))


def test_arrays_on_the_host_stay_when_their_memory_is_given_away():
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = add(jnp.arange(2_000.0))
    there = on_host(x)
    add(x).block_until_ready()
    np.testing.assert_array_equal(there, np.arange(1.0, 2_001.0, dtype=there.dtype))
