"""What an objective may not do."""

import jax
import jax.numpy as jnp
import pytest
from helpers.training import X, fit

import jaxdeep as jd


def test_a_loss_blown_up_by_broadcasting_is_refused():
    with pytest.raises(ValueError, match=r"values of shape \(70, 70\) for outputs of shape \(70, 1\)"):
        fit(
            model=jd.nn.dense(1),
            data=(X, X[:, 0]),
            loss=lambda o, y: (o - y) ** 2,
            metrics=None,
            validation=None,
        )


@pytest.mark.parametrize("name", ["loss", "val_loss"])
def test_a_metric_cannot_take_the_place_of_the_loss(name):
    def objective(params, state, batch, *, key=None, train=False):
        y, state = jd.nn.dense(3).apply(params, state, batch[0])
        return (y**2).mean() + jnp.inf, (state, {name: jnp.float32(0)})

    with pytest.raises(ValueError, match=f"metrics may not be called '{name}'"):
        fit(model=jd.nn.dense(3), loss=None, metrics=None, objective=objective)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"penalty": jd.regularizers.l2}, "penalty must be what l2 returns.*; call it"),
        ({"activity": jd.regularizers.activity}, "activity must be a function.*; call it"),
        ({"loss": jd.losses.weighted}, "loss must be what weighted returns.*; call it"),
        ({"metrics": {"a": jd.metrics.auc}}, r"metrics\['a'\] must be a function.*; call it"),
        ({"loss": lambda outputs, y: None}, "loss must return an array of values.*got None"),
        ({"metrics": {"a": lambda outputs, y: "a"}}, r"metrics\['a'\] must return an array.*got 'a'"),
        ({"penalty": lambda params: None}, "penalty must return a scalar, got None"),
        ({"penalty": lambda params: jnp.ones(3)}, "penalty must return a scalar, got an array"),
    ],
)
def test_what_makes_or_returns_no_value_is_refused_by_its_name(changes, message):
    model = jd.nn.dense(2)
    params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    options = {"loss": jd.losses.softmax_cross_entropy} | changes
    batch = jnp.ones((4, 3)), jnp.zeros(4, int)
    with pytest.raises((TypeError, ValueError), match=message):
        jd.train.supervised(model, **options)(params, state, batch)


@pytest.mark.heavy
def test_an_augmentation_may_add_what_has_no_rows():
    """As mixup does, whose share is one number for the batch."""
    model, tx = jd.nn.dense(2), jd.optimizers.sgd(0.1)

    def loss(outputs, y):
        return y[1] * jd.losses.softmax_cross_entropy(outputs, y[0])

    def share(key, batch):
        return batch[0], (batch[1], jax.random.uniform(key))

    ts = jd.train.init(model, tx, jnp.ones((1, 3)), key=jax.random.key(0))
    step = jd.train.make_step(jd.train.supervised(model, loss), tx, augment=share)
    ts, metrics = step(ts, (jnp.ones((4, 3)), jnp.zeros(4, int)))
    assert jnp.isfinite(metrics["loss"])


def test_an_augmentation_keeps_the_number_of_rows():
    model, tx = jd.nn.dense(2), jd.optimizers.sgd(0.1)
    objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy)
    ts = jd.train.init(model, tx, jnp.ones((1, 3)), key=jax.random.key(0))
    step = jd.train.make_step(
        objective, tx, augment=lambda key, batch: jax.tree.map(lambda a: a[:2], batch)
    )
    with pytest.raises(ValueError, match="augment must keep the number of rows, 4, and returned 2"):
        step(ts, (jnp.ones((4, 3)), jnp.zeros(4, int)))
    with pytest.raises(TypeError, match=r"augment must be a function \(key, batch\)"):
        jd.train.make_step(objective, tx, augment=lambda batch: batch)
