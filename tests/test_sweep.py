"""Sweeps: every row is the run it stands for, whatever runs beside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_run import ARGUMENTS, X, Y, close, fit, identical

import jaxdeep as jd

SPACE = {"learning_rate": jnp.array([1e-3, 1e-2, 1e-1]), "b1": [0.8, 0.9]}


def sweep(builder=None, space=None, **changes):
    arguments = ARGUMENTS | {"epochs": 2} | changes
    return jd.sweep(builder or adam, SPACE if space is None else space, **arguments)


def adam(hp):
    return jd.optimizers.adam(hp["learning_rate"], b1=hp["b1"])


@pytest.mark.parametrize("strategy", ["vmap", "threads"])
def test_every_row_is_the_run_alone(strategy):
    table = sweep(seeds=2, strategy=strategy)
    rows = table.rows()
    assert len(rows) == 12
    for i in (0, 7):
        point = rows[i]
        alone = fit(optimizer=adam(point), key=jax.random.key(point["seed"]), epochs=2)
        close(table.params(i), (alone.params, alone.state), rtol=1e-4)
        close(table.history(i), alone.history, rtol=1e-4)
        assert point["val_loss"] == pytest.approx(float(alone.history["val_loss"][-1]), rel=1e-4)


def test_stacks_of_any_size_agree():
    whole = sweep(strategy="vmap")
    parts = sweep(strategy="vmap", rows_at_once=4)
    for i in range(6):
        close(parts.params(i), whole.params(i), rtol=1e-4)


@pytest.mark.parametrize("strategy", ["vmap", "threads"])
def test_rows_that_diverge_or_stop_leave_the_others_alone(strategy):
    def sgd(hp):
        return jd.optimizers.sgd(hp["learning_rate"])

    model = jd.nn.dense(1)
    shared = {
        "model": model,
        "data": (X, X[:, :1]),
        "validation": (X, X[:, :1]),
        "loss": jd.losses.mse,
        "metrics": None,
        "epochs": 8,
        "strategy": strategy,
        "early_stopping": jd.train.EarlyStopping(patience=2, min_delta=1e-3),
    }
    rates = [0.01, 1e30, 0.1]
    table = sweep(sgd, {"learning_rate": rates}, **shared)
    assert [row["diverged"] for row in table.rows()] == [False, True, False]
    assert table.rows()[1]["epochs"] == 1
    calm = sweep(sgd, {"learning_rate": [0.01, 0.05, 0.1]}, **shared)
    for i in (0, 2):
        identical(table.params(i), calm.params(i))
    assert table.best("val_loss")["learning_rate"] == 0.1


def test_what_is_not_a_float_is_compiled_for_itself():
    def build(hp):
        return {
            "model": jd.nn.serial(jd.nn.dense(hp["units"], activation=jax.nn.relu), jd.nn.dense(2)),
            "optimizer": getattr(jd.optimizers, hp["optimizer"])(hp["learning_rate"]),
            "batch_size": hp["batch_size"],
        }

    points = [
        {"units": 4, "optimizer": "adam", "learning_rate": 0.01, "batch_size": 16},
        {"units": 8, "optimizer": "sgd", "learning_rate": 0.1, "batch_size": 50},
        {"units": 4, "optimizer": "adam", "learning_rate": 0.02, "batch_size": 16},
    ]
    table = sweep(build, points)
    assert [table.params(i)[0]["dense0"]["kernel"].shape for i in range(3)] == [(4, 4), (4, 8), (4, 4)]
    assert [row["units"] for row in table.rows()] == [4, 8, 4]


def test_means_over_seeds():
    table = sweep(space={"learning_rate": [0.01], "b1": [0.9]}, seeds=3)
    (mean,) = table.over_seeds()
    losses = [row["val_loss"] for row in table.rows()]
    np.testing.assert_allclose(mean["val_loss_mean"], np.mean(losses))
    np.testing.assert_allclose(mean["val_loss_sd"], np.std(losses, ddof=1))
    assert mean["runs"] == 3
    assert mean["learning_rate"] == 0.01


def test_random_points():
    points = jd.train.random_points(
        500,
        key=jax.random.key(0),
        rate=("log_uniform", 1e-4, 1e-1),
        drop=("uniform", 0.1, 0.5),
        kind=("choice", ["a", "b"]),
    )
    rates = np.log10([point["rate"] for point in points])
    assert -4 <= rates.min() < -3.9 < -1.1 < rates.max() <= -1
    assert abs(rates.mean() + 2.5) < 4 * np.sqrt(9 / 12 / 500)
    assert {point["kind"] for point in points} == {"a", "b"}
    assert all(0.1 <= point["drop"] <= 0.5 for point in points)
    assert points == jd.train.random_points(
        500,
        key=jax.random.key(0),
        rate=("log_uniform", 1e-4, 1e-1),
        drop=("uniform", 0.1, 0.5),
        kind=("choice", ["a", "b"]),
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sweep(3), "builder must be a function of a point, got 3"),
        (lambda: sweep(space={}), "unknown|builder|learning_rate"),
        (lambda: sweep(space=[]), "space holds no points"),
        (lambda: sweep(space={"learning_rate": 0.1}), r"space\['learning_rate'\] must be a list"),
        (lambda: sweep(space=[{"a": 1}, {"b": 1}]), "points must have the same names"),
        (lambda: sweep(space={"seed": [1]}), "none called 'seed'"),
        (lambda: sweep(seeds=0), "seeds must be at least 1"),
        (lambda: sweep(strategy="pmap"), "strategy must be 'vmap', 'threads' or None, got 'pmap'"),
        (lambda: sweep(epoch=3), r"unknown arguments \['epoch'\]"),
        (lambda: sweep(model=None), "sweep needs a model="),
        (lambda: sweep(loss=None), "sweep needs a loss="),
        (lambda: sweep(data=(X, Y + 5)), r"labels must be in \[0, 2\) .* got labels from 5 to 6"),
        (lambda: sweep(validation=(X, Y - 5)), "got labels from -5 to -4"),
        (lambda: sweep(data=X), "data must be a pair"),
        (lambda: sweep(batch_size=1000), "batch_size must be at most the number of examples, 100"),
        (lambda: sweep(epochs=1).best("score"), "monitor must be one of accuracy"),
        (
            lambda: jd.train.random_points(2, key=jax.random.key(0), a=("normal", 0, 1)),
            r"a must be \('uniform', low, high\)",
        ),
        (
            lambda: jd.train.random_points(2, key=jax.random.key(0), a=("uniform", 1, 0)),
            "a must have low < high, got 1 and 0",
        ),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises((ValueError, TypeError, KeyError), match=message):
        call()
