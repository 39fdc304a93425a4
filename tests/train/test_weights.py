"""Weights of examples and of classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep.losses import mse, softmax_cross_entropy

X = jax.random.normal(jax.random.key(0), (8, 3))
PARAMS = jd.nn.dense(3).init(jax.random.key(1), X)[0]


def value(y, weights=None, loss=softmax_cross_entropy, train=True, x=X, **options):
    objective = jd.train.supervised(jd.nn.dense(3), loss, **options)
    batch = (x, y) if weights is None else (x, y, weights)
    return lambda params: objective(params, {}, batch, train=train)[0]


def test_class_weights_of_soft_labels_are_their_mean():
    table = {0: 1.0, 1: 5.0}  # class 2 is absent: 1
    labels = np.arange(8) % 3
    hard, one_hot = (value(y, class_weight=table)(PARAMS) for y in (labels, jax.nn.one_hot(labels, 3)))
    np.testing.assert_allclose(hard, one_hot, rtol=1e-6)
    soft = jnp.tile(jnp.array([[0.25, 0.5, 0.25]]), (8, 1))
    plain = value(soft)(PARAMS)
    np.testing.assert_allclose(value(soft, class_weight=table)(PARAMS), 3.0 * plain, rtol=1e-6)


def test_class_weights_are_for_one_output():
    both = jd.losses.weighted({"a": softmax_cross_entropy, "b": softmax_cross_entropy})
    model = jd.nn.parallel(a=jd.nn.dense(2), b=jd.nn.dense(2))
    y = {"a": jnp.zeros(8, int), "b": jnp.zeros(8, int)}
    params, state = model.init(jax.random.key(0), X)
    objective = jd.train.supervised(model, both, class_weight={0: 2.0})
    with pytest.raises(TypeError, match="class_weight is for one output, got targets of several"):
        objective(params, state, (X, y), train=True)


def test_inputs_of_weight_0_may_be_anything():
    weights = jnp.arange(8) < 6
    broken = X.at[6].set(jnp.nan).at[7].set(jnp.inf)
    y = jnp.ones((8, 3))
    for train in (True, False):
        expected = jax.value_and_grad(value(y, weights, mse, train))(PARAMS)
        found = jax.value_and_grad(value(y, weights, mse, train, broken))(PARAMS)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_batch_of_weights_0_is_no_loss_and_no_gradient():
    y = jnp.full((8, 3), jnp.nan)
    found = jax.value_and_grad(value(y, jnp.zeros(8), mse))(PARAMS)
    jax.tree.map(lambda a: np.testing.assert_array_equal(a, jnp.zeros_like(a)), found)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_known_weights_are_finite(bad):
    with pytest.raises(ValueError, match="weights must be finite"):
        value(jnp.ones((8, 3)), np.array([bad] + 7 * [1.0]), mse)(PARAMS)


def test_weights_on_a_device_are_not_waited_for(monkeypatch):
    expected = value(jnp.ones((8, 3)), np.arange(8.0), mse)(PARAMS)
    with pytest.raises(ValueError, match="weights must be at least 0, got -1"):
        value(jnp.ones((8, 3)), np.arange(8.0) - 1, mse)(PARAMS)
    objective = value(jnp.ones((8, 3)), jnp.arange(8.0), mse)
    objective(PARAMS)  # constants have been made

    def refuse(self):
        raise AssertionError("a value was fetched from the device")

    with monkeypatch.context() as patch:
        patch.setattr(type(X), "_value", property(refuse))
        found, _ = jax.value_and_grad(objective)(PARAMS)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_wrong_label_counts_unless_its_weight_is_0():
    weights = np.array([0.0] + 7 * [1.0])
    labels = np.array([-1] + 7 * [1])
    assert np.isfinite(value(labels, weights)(PARAMS))
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\)"):
        value(labels, weights[::-1])(PARAMS)
    model, optimizer = jd.nn.dense(3), jd.optimizers.sgd(0.1)
    run = {
        "batch_size": 8,
        "loss": softmax_cross_entropy,
        "optimizer": optimizer,
        "key": jax.random.key(0),
        "progress": False,
    }
    assert np.isfinite(jd.fit(model, (X, labels, weights), **run).history["loss"]).all()
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\)"):
        jd.fit(model, (X, labels, weights[::-1]), **run)
