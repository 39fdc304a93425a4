import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdeep import losses

LOGITS = np.array([-90.0, -8.0, -1.5, -1e-3, 0.0, 0.7, 3.0, 20.0, 90.0], np.float32)
GAMMAS = [0.0, 0.5, 1.0, 2.0, 5.0]


@pytest.mark.few(3)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal_loss_of_bits_is_the_equation(gamma, alpha):
    x = LOGITS.astype(np.float64)
    p = 1 / (1 + np.exp(-x))
    for y in (0, 1):
        log_p = -np.logaddexp(0, -x if y else x)
        other = 1 / (1 + np.exp(x if y else -x))
        weight = 1 if alpha is None else (alpha if y else 1 - alpha)
        exact = -weight * other**gamma * log_p
        labels = np.full(x.shape, y)
        found = losses.sigmoid_focal(LOGITS, labels, gamma=gamma, alpha=alpha)
        np.testing.assert_allclose(found, exact, rtol=2e-5, atol=1e-30)
        if gamma >= 1:
            expected = optax.losses.sigmoid_focal_loss(
                LOGITS[1:-1], labels[1:-1], alpha=alpha, gamma=gamma
            )
            np.testing.assert_allclose(found[1:-1], expected, rtol=2e-4, atol=1e-6)
        near = np.abs(x) < 10
        found = losses.sigmoid_focal(
            p[near].astype(np.float32), labels[near], gamma=gamma, alpha=alpha, from_logits=False
        )
        np.testing.assert_allclose(found, exact[near], rtol=2e-3, atol=1e-6)


@pytest.mark.few(2)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_loss_of_classes_is_the_equation(gamma):
    rng = np.random.default_rng(0)
    logits, labels = (4 * rng.normal(size=(20, 5))).astype(np.float32), rng.integers(0, 5, 20)
    p = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(-1, keepdims=True)
    each, alpha = -((1 - p) ** gamma) * np.log(p), rng.random(5)
    rows, soft = np.arange(20), rng.dirichlet(np.ones(5), 20)
    for weights in (None, 0.25, alpha):
        by_class = each * (1 if weights is None else weights)
        options = {"gamma": gamma, "alpha": weights}
        found = losses.softmax_focal(logits, labels, **options)
        np.testing.assert_allclose(found, by_class[rows, labels], rtol=1e-4, atol=1e-6)
        found = losses.softmax_focal(logits, soft, **options)
        np.testing.assert_allclose(found, (soft * by_class).sum(-1), rtol=1e-4, atol=1e-6)
        found = losses.softmax_focal(p.astype(np.float32), labels, from_logits=False, **options)
        np.testing.assert_allclose(found, by_class[rows, labels], rtol=1e-3, atol=1e-5)
    if gamma == 0:
        for y in (labels, soft):
            expected = losses.softmax_cross_entropy(logits, y)
            found = losses.softmax_focal(logits, y, gamma=0)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.few(2)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_gradients_have_an_end_everywhere(gamma):
    x = jnp.concatenate([jnp.asarray(LOGITS), jnp.array([1e4, -1e4])])
    for y in (jnp.zeros(x.shape), jnp.ones(x.shape)):
        slope = jax.jit(jax.grad(lambda x, y=y: losses.sigmoid_focal(x, y, gamma=gamma).sum()))(x)
        assert np.isfinite(slope).all()
    logits = jnp.array([[1e4, 0.0], [0.0, 1e4], [0.0, -jnp.inf], [0.0, 0.0]])
    for y in (jnp.zeros(4, int), jnp.eye(2)[jnp.zeros(4, int)]):
        slope = jax.jit(jax.grad(lambda x, y=y: losses.softmax_focal(x, y, gamma=gamma).sum()))(logits)
        assert np.isfinite(slope).all()
    certain = losses.sigmoid_focal(jnp.array([jnp.inf, -jnp.inf]), jnp.array([1, 1]), gamma=gamma)
    assert certain.tolist() == [0, np.inf]


def test_gamma_is_an_argument_and_alpha_fits():
    traces = []

    @jax.jit
    def loss(gamma, alpha):
        traces.append(1)
        return losses.softmax_focal(jnp.zeros((1, 3)), jnp.array([1]), gamma=gamma, alpha=alpha)

    found = [float(loss(gamma, jnp.array([1.0, 2.0, 3.0]))[0]) for gamma in (0.0, 1.0)]
    np.testing.assert_allclose(found, [2 * np.log(3), 4 / 3 * np.log(3)], rtol=1e-6)
    assert len(traces) == 1
    with pytest.raises(ValueError, match=r"alpha must be a number or one for each of the 3 classes"):
        losses.softmax_focal(jnp.zeros((1, 3)), jnp.array([1]), alpha=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"alpha must be in \[0, .*\], got -1"):
        losses.softmax_focal(jnp.zeros((1, 3)), jnp.array([1]), alpha=[1.0, 2.0, -1.0])
    with pytest.raises(ValueError, match=r"gamma must be in \[0, inf\), got -1"):
        losses.sigmoid_focal(jnp.zeros(1), jnp.ones(1), gamma=-1.0)


def test_a_logit_of_infinity_is_certain_as_in_the_cross_entropy():
    logits, labels = jnp.array([[jnp.inf, 0.0], [jnp.inf, 0.0], [0.0, 0.0]]), jnp.array([0, 1, 1])
    found = losses.softmax_focal(logits, labels)
    np.testing.assert_allclose(found, [0, np.inf, np.log(2) / 4], rtol=1e-6)
    found = losses.kl_divergence(logits, jax.nn.one_hot(labels, 2))
    np.testing.assert_allclose(found, [0, np.inf, np.log(2)], rtol=1e-6)


def test_a_weight_of_0_leaves_out_an_infinite_loss():
    logits, labels = jnp.array([[0.0, jnp.inf], [0.0, jnp.inf]]), jnp.array([0, 1])
    for y in (labels, jnp.eye(2)[labels]):
        assert losses.softmax_focal(logits, y, alpha=[0.0, 1.0]).tolist() == [0, 0]
    certain, bits = jnp.array([jnp.inf, -jnp.inf]), jnp.array([0, 1])
    assert losses.sigmoid_focal(certain, bits, alpha=1.0).tolist() == [0, jnp.inf]
    assert losses.sigmoid_focal(certain, bits, alpha=0.0).tolist() == [jnp.inf, 0]


@pytest.mark.heavy
def test_the_gradient_of_a_right_certain_logit_is_0():
    logits, labels = jnp.array([jnp.inf, -jnp.inf, 0.0]), jnp.array([1, 0, 1])
    slope = jax.grad(lambda x: losses.sigmoid_focal(x, labels).sum())(logits)
    assert slope[:2].tolist() == [0, 0]
    assert jnp.isfinite(slope).all()


@pytest.mark.heavy
@pytest.mark.few(2)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_gradient_of_a_wrong_certain_logit_is_that_of_the_cross_entropy(gamma):
    def total(loss):
        return lambda x, y: loss(x, y).sum()

    def focal(x, y):
        return losses.sigmoid_focal(x, y, gamma=gamma)

    x = jnp.array([jnp.inf, -jnp.inf, jnp.inf, -jnp.inf])
    for y in (jnp.array([0.0, 1.0, 1.0, 0.0]), jnp.array([0.25, 0.25, 1.0, 0.0])):
        expected = jax.jit(jax.grad(total(losses.sigmoid_cross_entropy)))(x, y)
        for derive in (jax.grad, jax.jacfwd):
            np.testing.assert_array_equal(jax.jit(derive(total(focal)))(x, y), expected)
        assert (focal(x, y) == losses.sigmoid_cross_entropy(x, y)).all()
    # the slope of the limit, which a large logit has, too
    slopes = jax.grad(total(focal))(jnp.array([80.0, -80.0]), jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(slopes, [1, -1], rtol=1e-6)

    def focal_of_classes(x, y):
        return losses.softmax_focal(x, y, gamma=gamma)

    x = jnp.array([[jnp.inf, 0.0, 1.0], [-jnp.inf, 0.0, 1.0], [jnp.inf, 0.0, 1.0]])
    classes = jnp.array([1, 0, 0])
    for y in (classes, jax.nn.one_hot(classes, 3)):
        expected = jax.jit(jax.grad(total(losses.softmax_cross_entropy)))(x, y)
        for derive in (jax.grad, jax.jacfwd):
            found = jax.jit(derive(total(focal_of_classes)))(x, y)
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    weighted = functools.partial(losses.sigmoid_focal, gamma=gamma, alpha=0.25)
    slopes = jax.grad(total(weighted))(jnp.array([jnp.inf, -jnp.inf]), jnp.array([0, 1]))
    assert slopes.tolist() == [0.75, -0.25]
