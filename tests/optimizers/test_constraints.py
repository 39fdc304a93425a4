"""Projections after the update, and multipliers."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.transforms import KEY, PARAMS, apply

from jaxdeep import optimizers as o


@pytest.mark.heavy
@hypothesis.given(
    w=hnp.arrays(np.float32, (4, 3), elements=st.floats(-10, 10, width=32)), r=st.floats(0.1, 20)
)
def test_max_norm_is_the_projection(w, r):
    params = jnp.asarray(w)
    after = params + apply(o.max_norm(r), jnp.zeros((4, 3)), params)
    norms = np.linalg.norm(w.astype(np.float64), axis=0)
    expected = w * np.where(norms > r, r / np.maximum(norms, 1e-30), 1)
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5)
    assert np.linalg.norm(after, axis=0).max() <= r * (1 + 1e-5)


@pytest.mark.heavy
def test_max_norm_of_convolutions_and_axes_and_after_the_update():
    kernel = jax.random.normal(KEY, (3, 3, 4, 5))
    after = kernel + apply(o.max_norm(1.0, axis=(0, 1, 2)), jnp.zeros_like(kernel), kernel)
    norms = np.sqrt((after**2).sum((0, 1, 2)))
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    rows = kernel[0, 0] + apply(o.max_norm(1.0, axis=1), jnp.zeros((4, 5)), kernel[0, 0])
    assert np.linalg.norm(rows, axis=1).max() <= 1 + 1e-5
    tx = optax.chain(o.sgd(1.0), o.max_norm(1.0))
    x = jnp.array([[0.0], [0.0]])
    np.testing.assert_allclose(x + apply(tx, jnp.array([[-3.0], [-4.0]]), x), [[0.6], [0.8]], rtol=1e-6)


@pytest.mark.heavy
def test_max_norm_as_recorded(golden):
    row = golden["max_norm"]
    w = jnp.asarray(row["w"])
    for name, options in {
        "reference exact axis=0": {"axis": 0},
        "reference exact axis=1": {"axis": 1},
        "reference exact axis=None": {"axis": None},
        "keras axis=0 (eps 1e-7)": {"axis": 0, "eps": 1e-7},
        "keras axis=1": {"axis": 1, "eps": 1e-7},
    }.items():
        found = w + apply(o.max_norm(row["r"], **options), jnp.zeros_like(w), w)
        np.testing.assert_allclose(found, row[name], rtol=0, atol=2e-7, err_msg=name)


def test_max_norm_of_an_axis_that_is_not_there():
    with pytest.raises(ValueError, match=r"axis=\(0, 1, 2\) is not one of a leaf of shape \(2,\)"):
        apply(o.max_norm(1.0, axis=(0, 1, 2)), jnp.zeros(2), jnp.zeros(2))


def test_multipliers_by_depth():
    tx = optax.chain(o.sgd(1.0), o.multiply(0.1, where="kernel"), o.multiply(0.0, where="bias"))
    found = apply(tx, jax.tree.map(jnp.ones_like, PARAMS), PARAMS)
    np.testing.assert_allclose(found["kernel"], -0.1, rtol=1e-6)
    np.testing.assert_array_equal(found["bias"], 0)
