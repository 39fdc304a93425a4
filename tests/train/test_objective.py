"""What an objective may not do."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
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


@pytest.mark.parametrize("name", ["loss", "val_loss", "step"])
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


# --- several outputs ---------------------------------------------------------------------------------

KEY = jax.random.key(0)
SIDE_BY_SIDE = jd.nn.parallel(main=jd.nn.dense(1), kind=jd.nn.dense(2))
PARTS = {"main": jd.losses.mse, "kind": jd.losses.softmax_cross_entropy}
BOTH = jd.losses.weighted(PARTS, {"main": 0.9, "kind": 0.1})


def rows(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(23, 3)).astype(np.float32)
    targets = {"main": x[:, :1] * 2, "kind": (x[:, 0] > 0).astype(int)}
    return x, targets, rng.uniform(0, 2, len(x)).astype(np.float32)


@pytest.mark.few(1)
@pytest.mark.parametrize("weights", [False, True])
def test_losses_and_metrics_of_each_output_are_those_of_it_alone(weights):
    x, y, w = rows()
    data = (x, y, w) if weights else (x, y)
    metrics = {
        "main": {"rmse": jd.metrics.rmse(), "mae": jd.losses.mae},
        "kind": {"accuracy": jd.metrics.accuracy, "brier": jd.metrics.brier()},
    }
    params, state = SIDE_BY_SIDE.init(KEY, x)
    # batches of 8, the last of which is filled up
    found = jd.evaluate(SIDE_BY_SIDE, params, state, data, loss=BOTH, metrics=metrics, batch_size=8)
    for name, own in metrics.items():
        model, one = SIDE_BY_SIDE.layers[name], {0: y[name], 1: w}
        alone = jd.evaluate(
            *(model, params[name], {}, (x, one[0], w) if weights else (x, one[0])),
            loss=PARTS[name],
            metrics=own,
        )
        for measure, value in alone.items():
            np.testing.assert_allclose(found[f"{name}/{measure}"], value, rtol=1e-5)
    np.testing.assert_allclose(
        found["loss"], 0.9 * found["main/loss"] + 0.1 * found["kind/loss"], rtol=1e-5
    )


OF_ONE = {
    "rmse": jd.metrics.rmse(),
    "auc": jd.metrics.auc(),
    "mean": jd.metrics.mean(jd.losses.mae),
    "mse": jd.losses.mse,
    "partial": functools.partial(jd.losses.huber, delta=2.0),
    "accuracy": jd.metrics.accuracy,
    "optax": optax.losses.squared_error,
}


@pytest.mark.parametrize("name", OF_ONE)
def test_a_metric_of_one_output_is_named_before_anything_is_traced(name):
    form = rf"^metrics\['{name}'\] does not take several .* metrics={{'main': {{'{name}': …}}}}$"
    with pytest.raises(TypeError, match=form):
        jd.train.supervised(SIDE_BY_SIDE, BOTH, metrics={name: OF_ONE[name]})


def test_other_functions_of_one_output_are_named_with_the_form_that_is_due():
    x, y, _ = rows()
    difference = lambda outputs, y: (outputs - y) ** 2  # noqa: E731
    whole = {"main": lambda outputs, y: (outputs["main"] - y["main"]) ** 2}
    in_order = jd.nn.parallel(jd.nn.dense(1), jd.nn.dense(2))
    in_turn = y["main"], y["kind"]
    for model, targets, options, message in (
        (SIDE_BY_SIDE, y, {"loss": BOTH, "metrics": {"own": difference}}, r"metrics={'main': {'own'"),
        (SIDE_BY_SIDE, y, {"loss": difference}, r"^loss does .* 'main', .*weighted\({'main': loss"),
        (SIDE_BY_SIDE, y, {"loss": jd.losses.mse}, r"^loss does .*weighted\({'main': loss"),
        (in_order, in_turn, {"loss": jd.losses.mse}, r"has 0, 1: .*weighted\(\[loss"),
    ):
        with pytest.raises(TypeError, match=message) as refused:
            jd.fit(model, (x, targets), optimizer=optax.sgd(0.1), key=0, batch_size=8, **options)
        assert "Tracer" not in str(refused.value)
    objective = jd.train.supervised(SIDE_BY_SIDE, BOTH, metrics=whole)
    params, state = SIDE_BY_SIDE.init(KEY, x)
    assert objective(params, state, (x, y))[1][1]["main"].shape == ()


def test_a_history_has_every_output_by_its_name():
    x, y, _ = rows()
    result = jd.fit(
        SIDE_BY_SIDE,
        (x, y),
        validation=(x, y),
        loss=BOTH,
        metrics={"kind": {"accuracy": jd.metrics.accuracy}},
        optimizer=jd.optimizers.adam(0.01),
        early_stopping=jd.train.EarlyStopping(monitor="val_kind/accuracy", mode="max"),
        batch_size=8,
        key=KEY,
        progress=False,
    )
    reported = ["loss", "main/loss", "kind/loss", "kind/accuracy"]
    assert {*reported, *(f"val_{name}" for name in reported)} < set(result.history)


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        ({"other": {"mae": jd.losses.mae}}, ValueError, "no part 'other'.*'main', 'kind'"),
        ({"main": {"loss": jd.losses.mae}}, ValueError, "may not be called 'loss'"),
        ({"main": {"": jd.losses.mae}}, ValueError, "may not be called ''"),
        ({"main": {"mae": 3}}, TypeError, r"metrics\['main'\]\['mae'\] must be a function"),
        ({1.5: {"mae": jd.losses.mae}}, TypeError, "named by texts, or numbered, got 1.5"),
        (
            {"kind": {"brier": jd.metrics.brier(from_logits=False)}},
            ValueError,
            r"metrics\['kind'\]\['brier'\].*puts out logits",
        ),
    ],
)
def test_metrics_of_outputs_that_do_not_fit_are_refused(metrics, error, message):
    x, y, _ = rows()
    with pytest.raises(error, match=message):
        jd.evaluate(SIDE_BY_SIDE, *SIDE_BY_SIDE.init(KEY, x), (x, y), loss=BOTH, metrics=metrics)


@pytest.mark.parametrize(
    ("metrics", "first", "second"),
    [
        ({"main/mae": jd.losses.mae, "main": {"mae": jd.losses.mse}}, "['main/mae']", "['main']['mae']"),
        ({"main": {"mae": jd.losses.mse}, "main/mae": jd.losses.mae}, "['main/mae']", "['main']['mae']"),
        ({0: {"mae": jd.losses.mse}, "0": {"mae": jd.losses.mae}}, "[0]['mae']", "['0']['mae']"),
    ],
)
def test_two_metrics_of_one_name_are_refused_by_both_of_theirs(metrics, first, second):
    message = re.escape(f"metrics{first} and metrics{second} would both be reported as")
    with pytest.raises(ValueError, match=message):
        jd.train.supervised(SIDE_BY_SIDE, lambda outputs, y: outputs["main"], metrics=metrics)


def test_a_metric_does_not_hide_the_loss_of_an_output():
    message = (
        r"the loss of output 'main' and metrics\['main/loss'\] would both be reported as 'main/loss'"
    )
    with pytest.raises(ValueError, match=message):
        jd.train.supervised(SIDE_BY_SIDE, BOTH, metrics={"main/loss": lambda outputs, y: y["main"]})
    one = jd.train.supervised(jd.nn.dense(1), jd.losses.mse, metrics={"main/loss": jd.losses.mae})
    x, _, _ = rows()
    params, state = jd.nn.dense(1).init(KEY, x)
    assert set(one(params, state, (x, x[:, :1]))[1][1]) == {"main/loss"}


def test_a_dict_of_losses_says_how_they_are_weighed():
    with pytest.raises(TypeError, match=r"jaxdeep.losses.weighted\(\{name: loss"):
        jd.train.supervised(SIDE_BY_SIDE, PARTS)


def test_an_empty_batch_is_refused_and_weighted_metrics_are_shown():
    model, optimizer = jd.nn.dense(1), jd.optimizers.sgd(0.1)
    objective = jd.train.supervised(model, jd.losses.mse, metrics={"mae": jd.losses.mae})
    x, y = jnp.ones((4, 3)), jnp.ones((4, 1))
    ts = jd.train.init(model, optimizer, x, key=jax.random.key(0))
    step = jax.jit(jd.train.make_step(objective, optimizer))
    with pytest.raises(ValueError, match=r"batch is empty: x has shape \(0, 3\)"):
        step(ts, (x[:0], y[:0]))
    metrics = [step(ts, batch)[1]["mae"] for batch in ((x, y), (x, y, jnp.array([1.0, 1.0, 0.0, 1.0])))]
    assert f"{metrics[0]:.3f}" == f"{metrics[1]:.3f}"
