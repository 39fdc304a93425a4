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


@pytest.mark.parametrize("make", [o.max_norm, o.unit_norm, o.min_max_norm])
def test_an_axis_that_is_named_twice_is_refused_by_name(make):
    message = r"norm: axis=\(1, -1\) names an axis of a leaf of shape \(2, 3\) twice"
    with pytest.raises(ValueError, match=message):
        apply(make(axis=(1, -1)), jnp.zeros((2, 3)), jnp.ones((2, 3)))
    found = [apply(make(axis=a), jnp.zeros((2, 3)), jnp.ones((2, 3))) for a in ((0, 1), (0, -1))]
    np.testing.assert_array_equal(*found)


def test_multipliers_by_depth():
    tx = optax.chain(o.sgd(1.0), o.multiply(0.1, where="kernel"), o.multiply(0.0, where="bias"))
    found = apply(tx, jax.tree.map(jnp.ones_like, PARAMS), PARAMS)
    np.testing.assert_allclose(found["kernel"], -0.1, rtol=1e-6)
    np.testing.assert_array_equal(found["bias"], 0)


W = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32) * [0.01, 0.3, 1, 3, 0]
CONSTRAINTS = {  # ours, the same in NumPy, and Keras' class with its arguments
    "max_norm": (lambda **k: o.max_norm(0.7, **k), lambda n: np.clip(n, 0, 0.7), {"max_value": 0.7}),
    "unit_norm": (o.unit_norm, np.ones_like, {}),
    "min_max_norm": (
        lambda **k: o.min_max_norm(0.4, 0.7, rate=0.25, **k),
        lambda n: 0.25 * np.clip(n, 0.4, 0.7) + 0.75 * n,
        {"min_value": 0.4, "max_value": 0.7, "rate": 0.25},
    ),
}
KERAS = {"max_norm": "MaxNorm", "unit_norm": "UnitNorm", "min_max_norm": "MinMaxNorm"}


def constrained(tx, start, update):
    start, update = jnp.asarray(start, jnp.float32), jnp.asarray(update, jnp.float32)
    return start + apply(tx, update, start)


@pytest.mark.few("0.0")
@pytest.mark.parametrize("eps", [0.0, 1e-7])
@pytest.mark.parametrize("axis", [0, 1, (0, 1), None, -1])
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_norms_after_the_update_are_those_of_the_equation(name, axis, eps):
    make, wanted, _ = CONSTRAINTS[name]
    start = np.ones_like(W)
    w = (start.astype(np.float64) + (W - 1).astype(np.float32)).astype(np.float64)
    size = np.sqrt((w**2).sum(axis, keepdims=True))
    expected = w * wanted(size) / np.where(size + eps == 0, 1, size + eps)
    found = constrained(make(axis=axis, eps=eps), start, W - 1)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)  # θ + u is rounded in float32


@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, (0, 1), None])
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_norms_are_those_of_keras(name, axis, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    make, _, arguments = CONSTRAINTS[name]
    theirs = getattr(keras.constraints, KERAS[name])(**arguments, axis=axis)(W.astype(np.float32))
    found = constrained(make(axis=axis, eps=1e-7), W, np.zeros_like(W))
    np.testing.assert_allclose(found, np.asarray(theirs), rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_what_is_not_negative_is_so_in_keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    theirs = keras.constraints.NonNeg()(W.astype(np.float32))
    np.testing.assert_array_equal(constrained(o.non_negative(), W, np.zeros_like(W)), np.asarray(theirs))


def test_nothing_is_negative_after_an_update_and_no_other_leaf_changes():
    params = {"kernel": jnp.array([1.0, 2.0, 0.3]), "bias": jnp.array([1.0])}
    tx = optax.chain(o.sgd(1.0), o.non_negative(where="kernel"))
    gradients = {"kernel": jnp.array([3.0, 0.5, 0.3]), "bias": jnp.array([3.0])}
    after = optax.apply_updates(params, apply(tx, gradients, params))
    np.testing.assert_array_equal(after["kernel"], [0.0, 1.5, 0.0])
    np.testing.assert_array_equal(after["bias"], [-2.0])


def test_a_norm_of_nothing_stays_and_one_inside_keeps_its_bits():
    zeros = jnp.zeros((2, 2))
    for tx in (o.unit_norm(), o.min_max_norm(0.5, 1.0)):
        np.testing.assert_array_equal(zeros + apply(tx, zeros, zeros), zeros)
    w, u = jnp.array([[0.3], [0.4]]), jnp.array([[0.1], [0.2]])
    np.testing.assert_array_equal(apply(o.min_max_norm(0.1, 1.0, rate=0.3), u, w), u)


def test_the_bounds_of_a_norm_are_in_order():
    with pytest.raises(ValueError, match=r"min_norm must be at most max_norm, 1.0, got 2.0"):
        o.min_max_norm(2.0)
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got 1.5"):
        o.min_max_norm(rate=1.5)
    with pytest.raises(ValueError, match=r"unit_norm: axis=\(3,\) is not one of a leaf of shape \(2,\)"):
        apply(o.unit_norm(axis=3), jnp.zeros(2), jnp.zeros(2))
    state = o.min_max_norm(0.1).init(jnp.ones((2, 2)))
    assert o.hyperparams(state).keys() == {"min_norm", "max_norm", "rate"}
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\]"):
        o.set_hyperparams(state, rate=2.0)
