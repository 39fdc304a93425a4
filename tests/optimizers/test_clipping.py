"""Clipping against recorded frameworks and the installed optax."""

import chex
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.transforms import apply

from jaxdeep import optimizers as o


@pytest.mark.usefixtures("x64")
def test_clipping_is_as_recorded(golden):
    row = golden["clipping"]
    grads = jax.tree.map(jnp.asarray, row["grads"], is_leaf=lambda x: isinstance(x, list))
    pairs = [
        (o.clip_by_value(row["limit"]), row["by_value"]["optax.clip"], 1e-12),
        (o.clip_by_norm(row["limit"]), row["by_norm_per_leaf"]["keras clipnorm"], 1e-6),
        (o.clip_by_global_norm(row["limit"]), row["by_global_norm"]["optax.clip_by_global_norm"], 1e-12),
        (
            o.clip_by_global_norm(row["limit"], eps=1e-6),
            row["by_global_norm"]["torch clip_grad_norm_"],
            1e-12,
        ),
    ]
    for tx, expected, atol in pairs:
        for name, value in apply(tx, grads).items():
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=atol)


arrays = hnp.arrays(
    np.float32, hnp.array_shapes(max_dims=3, max_side=4), elements=st.floats(-100, 100, width=32)
)


@pytest.mark.heavy
@hypothesis.given(a=arrays, b=arrays, limit=st.floats(0.1, 50))
def test_clipping_bounds_and_keeps_directions(a, b, limit):
    grads = {"a": jnp.asarray(a), "b": jnp.asarray(b)}
    by_value = apply(o.clip_by_value(limit), grads)
    assert all(float(jnp.abs(u).max()) <= limit * (1 + 1e-6) for u in jax.tree.leaves(by_value))
    for tx, groups in (
        (o.clip_by_norm(limit), ["a", "b"]),
        (o.clip_by_global_norm(limit), [("a", "b")]),
    ):
        found = apply(tx, grads)
        for group in groups:
            old = np.concatenate([np.ravel(grads[n]) for n in group]).astype(np.float64)
            new = np.concatenate([np.ravel(found[n]) for n in group]).astype(np.float64)
            assert np.linalg.norm(new) <= limit * (1 + 1e-5)
            scale = min(1.0, limit / max(np.linalg.norm(old), 1e-30))
            np.testing.assert_allclose(new, old * scale, rtol=1e-4, atol=1e-30)


@pytest.mark.heavy
def test_global_norm_of_the_installed_optax():
    grads = {"a": jnp.array([3.0, -4.0]), "b": jnp.ones((2, 3)), "c": jnp.float32(7)}
    ours, theirs = (
        apply(tx, grads) for tx in (o.clip_by_global_norm(2.0), optax.clip_by_global_norm(2.0))
    )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6)


def test_zero_gradients_and_nothing_at_all():
    for tx in (o.clip_by_value(1.0), o.clip_by_norm(1.0), o.clip_by_global_norm(1.0)):
        np.testing.assert_array_equal(apply(tx, jnp.zeros(3)), 0)
        assert apply(tx, {}) == {}
        assert apply(tx, jnp.zeros((0, 2))).shape == (0, 2)


def test_the_norm_of_low_precision_gradients_is_summed_in_float32():
    grads = jnp.full(70_000, 1.0, jnp.float16)  # the sum of squares overflows float16
    clipped = apply(o.clip_by_global_norm(1.0), grads)
    np.testing.assert_allclose(clipped.astype(jnp.float32), 70_000**-0.5, rtol=1e-3)
