"""The slopes of the softmax losses: their closed forms, of any order, without a scatter."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdeep.losses import softmax_cross_entropy


@pytest.mark.few(1)
@pytest.mark.parametrize("soft", [False, True])
def test_slopes_and_curvatures_of_a_cross_entropy_are_their_closed_forms(soft):
    """``p − y`` and ``diag p − p pᵀ``, through ties of the largest logit, and in forward mode too."""
    logits, classes = jnp.array([0.5, 2.0, 2.0, -1.0]), 4
    y = jnp.array([0.1, 0.2, 0.3, 0.4]) if soft else 2
    p, target = np.asarray(jax.nn.softmax(logits)), np.asarray(y if soft else jax.nn.one_hot(y, classes))

    def loss(logits):
        return softmax_cross_entropy(logits, jnp.asarray(y))

    chex.assert_trees_all_close(loss(logits), -np.sum(target * np.log(p)), rtol=1e-6)
    for gradient in (jax.grad(loss), jax.jacfwd(loss)):
        chex.assert_trees_all_close(gradient(logits), p - target, atol=1e-7)
    for curvature in (jax.hessian(loss), jax.jacrev(jax.grad(loss))):
        chex.assert_trees_all_close(curvature(logits), np.diag(p) - np.outer(p, p), atol=1e-7)


def test_the_slope_of_a_cross_entropy_has_no_scatter():
    """Of which compilers make programs of their own."""
    slope = jax.grad(lambda logits, y: softmax_cross_entropy(logits, y).mean())
    program = str(jax.make_jaxpr(slope)(jnp.ones((8, 3)), jnp.zeros(8, int)))
    assert "exp" in program
    assert "scatter" not in program
    assert "gather" not in program


def test_the_largest_logit_is_certain_if_it_alone_is_infinite():
    inf, finite = jnp.inf, [1.0, 0.0, -1.0]
    rows = jnp.array([[inf, 0, 0], [inf, inf, 0], [-inf, -inf, -inf], [-inf, 0, 0], finite])
    losses = softmax_cross_entropy(rows, jnp.zeros(5, int))
    expected = [0.0, jnp.nan, jnp.nan, inf, np.log(np.sum(np.exp(finite))) - 1]
    chex.assert_trees_all_close(losses, jnp.array(expected), rtol=1e-6)
    wrong = jax.grad(lambda row: softmax_cross_entropy(row, 1))(rows[0])
    assert wrong.tolist() == [1.0, -1.0, 0.0]


def test_a_certain_prediction_is_no_mistake():
    """Neither for jax_debug_nans, as right and as wrong, nor in its slope."""
    rows = jnp.array([[jnp.inf, 0.0], [0.0, 1.0]])
    with jax.debug_nans(True):
        assert softmax_cross_entropy(rows, jnp.array([0, 1]))[0] == 0
        assert softmax_cross_entropy(rows, jnp.array([1, 1]))[0] == jnp.inf
        slope = jax.grad(lambda rows: softmax_cross_entropy(rows, jnp.array([0, 1])).sum())(rows)
    assert slope[0].tolist() == [0.0, 0.0]


def test_float32_is_not_mixed_with_what_is_wider(x64):
    """As under jax_numpy_dtype_promotion="strict", where indices have 64 bits."""
    with jax.numpy_dtype_promotion("strict"):
        loss = softmax_cross_entropy(jnp.zeros((2, 4), jnp.float32), jnp.array([0, 3]))
    chex.assert_type(loss, jnp.float32)
    chex.assert_trees_all_close(loss, np.full(2, np.log(4), np.float32), rtol=1e-6)
