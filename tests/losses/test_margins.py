import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.properties import over

from jaxdeep import losses

CLASSES = 4


@over(5, 200, seed=st.integers(0, 2**32 - 1))
def test_hinges_are_those_of_scikit_learn_and_optax(seed):
    from sklearn import metrics as sk

    rng = np.random.default_rng(seed)
    scores = (2 * rng.normal(size=(16, CLASSES))).astype(np.float32)
    labels = np.concatenate([np.arange(CLASSES), rng.integers(0, CLASSES, 16 - CLASSES)])
    found = losses.multiclass_hinge(scores, labels)
    np.testing.assert_allclose(found.mean(), sk.hinge_loss(labels, scores), rtol=1e-5)
    expected = optax.losses.multiclass_hinge_loss(scores, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(losses.multiclass_hinge(scores, np.eye(CLASSES)[labels]), found)
    bits = labels % 2
    found = losses.hinge(scores[:, 0], bits)
    np.testing.assert_allclose(found.mean(), sk.hinge_loss(bits, scores[:, 0]), rtol=1e-5)
    for signs in (2 * bits - 1, bits > 0, (2.0 * bits - 1)):
        np.testing.assert_array_equal(losses.hinge(scores[:, 0], signs), found)
    np.testing.assert_allclose(losses.hinge(scores[:, 0], bits, squared=True), found**2, rtol=1e-6)
    y = np.eye(CLASSES)[labels]
    keras = np.maximum(1 + ((1 - y) * scores).max(-1) - (y * scores).sum(-1), 0)
    for given in (labels, labels[:, None], y):
        np.testing.assert_allclose(losses.categorical_hinge(scores, given), keras, rtol=1e-5, atol=1e-6)


def test_the_two_hinges_of_classes_differ_where_all_others_are_below_0():
    scores, labels = jnp.array([[0.5, -2.0, -3.0]]), jnp.array([0])
    assert losses.categorical_hinge(scores, labels).tolist() == [0.5]
    assert losses.multiclass_hinge(scores, labels).tolist() == [0]


@pytest.mark.parametrize(
    ("loss", "labels", "message"),
    [
        ("hinge", np.array([0, 2]), r"labels must be in \[-1, 1\], got 2"),
        ("hinge", np.array([0.5, 1]), "labels must be -1 or 0, and 1, got 0.5"),
        ("hinge", np.array([0, 1, 1]), r"labels must have the shape of the outputs"),
        ("multiclass_hinge", np.array([0, 3]), r"labels must be in \[0, 3\)"),
        ("multiclass_hinge", np.full((2, 3), 1 / 3), "must be one-hot"),
        ("categorical_hinge", np.array([0.0, 1.0]), "must be integers, got float"),
    ],
)
def test_labels_that_do_not_fit(loss, labels, message):
    outputs = jnp.zeros(2) if loss == "hinge" else jnp.zeros((2, 3))
    with pytest.raises((ValueError, TypeError), match=message):
        getattr(losses, loss)(outputs, labels)


def test_traced_labels_that_are_none():
    scores = jnp.eye(3)
    for loss in (losses.multiclass_hinge, losses.categorical_hinge):
        found = jax.jit(loss)(scores, jnp.array([0, -1, 3]))
        assert np.isnan(found).tolist() == [False, True, True]
    found = jax.jit(losses.hinge)(scores[0], jnp.array([0.0, jnp.nan, 1.0]))
    assert np.isnan(found).tolist() == [False, True, False]


def test_a_score_of_infinity_is_certain():
    scores = jnp.array([[jnp.inf, 0.0], [0.0, jnp.inf], [-jnp.inf, 0.0]])
    labels = jnp.array([0, 0, 1])
    for y in (labels, jnp.eye(2)[labels]):
        assert losses.categorical_hinge(scores, y).tolist() == [0, jnp.inf, 1]
        assert losses.multiclass_hinge(scores, y).tolist() == [0, jnp.inf, 0]
