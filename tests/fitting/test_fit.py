"""Whole runs: the same numbers however they are driven, early stopping, plateau, accumulation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.runs import KEY, MODEL, OBJECTIVE, X, Y, close, fit, identical

import jaxdeep as jd


def scripted(values):
    """A model and an objective whose loss in epoch i is ``values[i]``: one step an epoch."""
    values = jnp.asarray(values)

    def objective(params, state, batch, *, key=None, train=False):
        now = state["epoch"]
        loss = values[jnp.minimum(now, len(values) - 1)] + 0 * params["w"].sum()
        return loss, ({"epoch": now + 1} if train else state, {})

    start = {"w": jnp.zeros(2)}, {"epoch": jnp.zeros((), jnp.int32)}
    return functools.partial(
        jd.fit,
        jd.nn.lambda_(lambda x: x),
        jnp.zeros((4, 1)),
        objective=objective,
        params=start[0],
        state=start[1],
        batch_size=4,
        epochs=len(values),
        key=KEY,
        progress=False,
    )


@pytest.mark.optimized
@pytest.mark.heavy
@pytest.mark.parametrize("segment", [2, 3, 100])
def test_segments_of_any_length_give_the_same_bits(segment):
    stopping = jd.train.EarlyStopping(patience=2)
    a, b = (fit(epochs_per_call=n, early_stopping=stopping) for n in (1, segment))
    identical(a.train_state, b.train_state)
    identical(a.history, b.history)


@pytest.mark.heavy
def test_a_run_under_one_jit_equals_fit_and_a_loop_over_steps():
    optimizer = jd.optimizers.nag(0.05, momentum=0.9)
    run = jax.jit(jd.train.make_run(OBJECTIVE, optimizer, epochs=3, batch_size=16))
    start = jd.train.init(MODEL, optimizer, X[:1], key=KEY)
    ts, history = run(start, (X, Y), (X, Y))
    result = fit(optimizer=optimizer, epochs=3)
    close(ts, result.train_state)
    close(history, result.history)

    step = jax.jit(jd.train.make_step(OBJECTIVE, optimizer))
    by_hand = jd.train.init(MODEL, optimizer, X[:1], key=KEY)
    for _ in range(3):
        order = jd.train.epoch.shuffled(by_hand.key, by_hand.step, len(X))
        for rows in jnp.split(order, list(range(16, len(X), 16))):
            by_hand, _ = step(by_hand, (X[rows], Y[rows]))
    close(by_hand, ts)


@pytest.mark.heavy
def test_stacked_runs_that_stop_leave_the_others_alone():
    optimizer = jd.optimizers.sgd(0.1)
    stopping = jd.train.EarlyStopping(patience=1, monitor="val_accuracy")
    run = jd.train.make_run(OBJECTIVE, optimizer, epochs=6, batch_size=16, early_stopping=stopping)
    starts = [jd.train.init(MODEL, optimizer, X[:1], key=jax.random.key(i)) for i in range(4)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    ts, history = jax.jit(jax.vmap(run, in_axes=(0, None, None)))(stacked, (X, Y), (X, Y))
    done = np.isfinite(history["loss"]).sum(axis=1)
    assert len(set(done.tolist())) > 1
    for i, start in enumerate(starts):
        alone = jax.jit(run)(start, (X, Y), (X, Y))
        close(jax.tree.map(lambda leaf, i=i: leaf[i], (ts, history)), alone, rtol=1e-4)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("values", "patience", "delta", "epochs", "best"),
    [
        ([3.0, 2.0, 2.5, 2.6, 1.0], 2, 0.0, 4, 1),
        ([3.0, 2.0, 2.5, 1.5, 1.0], 2, 0.0, 5, 4),
        ([3.0, 2.0, 1.9, 1.8, 1.7], 2, 0.5, 4, 1),
        ([-1.0, -2.0, -1.5, -3.0, -4.0], 1, 0.0, 3, 1),
        ([3.0, 3.0, 1.0], 0, 0.0, 2, 0),
        ([5.0, 4.0, 3.0], 1, 0.0, 3, 2),
    ],
)
def test_early_stopping_counts_as_keras_does(values, patience, delta, epochs, best):
    stopping = jd.train.EarlyStopping(patience=patience, min_delta=delta)
    result = scripted(values)(optimizer=jd.optimizers.sgd(0.1), early_stopping=stopping)
    assert len(result.history["loss"]) == epochs
    assert result.best_epoch == best
    assert int(result.state["epoch"]) == best + 1  # restored
    kept = scripted(values)(
        optimizer=jd.optimizers.sgd(0.1), early_stopping=stopping._replace(restore_best=False)
    )
    assert int(kept.state["epoch"]) == epochs


def test_a_plateau_lowers_the_rate_in_the_state_and_the_history_shows_it():
    values = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    plateau = jd.train.ReduceOnPlateau(factor=0.5, patience=2, min_learning_rate=0.3)
    result = scripted(values)(optimizer=jd.optimizers.sgd(1.0, momentum=0.9), plateau=plateau)
    # the rate an epoch was run with
    np.testing.assert_allclose(result.history["learning_rate"], [1, 1, 1, 1, 0.5, 0.5, 0.3])
    np.testing.assert_allclose(result.history["momentum"], 0.9)
    with pytest.raises(ValueError, match="learning_rate is driven by a schedule"):
        scripted(values)(optimizer=jd.optimizers.sgd(lambda step: 1.0), plateau=plateau)
    with pytest.raises(ValueError, match="plateau needs an optimizer of jaxdeep"):
        scripted(values)(optimizer=optax.sgd(1.0), plateau=plateau)


@pytest.mark.heavy
def test_validation_every_other_epoch():
    result = fit(validate_every=2, early_stopping=jd.train.EarlyStopping(patience=5))
    assert np.isnan(result.history["val_loss"]).tolist() == [True, False, True, False, False]
    assert np.isfinite(result.history["loss"]).all()
    every = fit(early_stopping=jd.train.EarlyStopping(patience=5))
    np.testing.assert_allclose(result.history["loss"], every.history["loss"], rtol=1e-5)
    seen = [1, 3, 4]
    np.testing.assert_allclose(
        result.history["val_loss"][seen], every.history["val_loss"][seen], rtol=1e-5
    )


@pytest.mark.heavy
@pytest.mark.parametrize("accumulation_steps", [2, 3, 16])
def test_accumulated_gradients_are_those_of_the_batch(accumulation_steps):
    model = jd.nn.serial(hidden=jd.nn.dense(8, activation=jax.nn.tanh), out=jd.nn.dense(2))
    metrics = {"accuracy": jd.metrics.accuracy, "f1": jd.metrics.f1(class_id=1)}
    a, b = (fit(model=model, metrics=metrics, accumulation_steps=n) for n in (1, accumulation_steps))
    close(a.train_state, b.train_state, rtol=1e-4)
    close(a.history, b.history, rtol=1e-4)


@pytest.mark.heavy
def test_callbacks_see_every_segment_and_may_end_the_run():
    seen = []

    def watch(epochs):
        seen.append((epochs.epoch, len(epochs.history["loss"]), int(epochs.train_state.step)))
        return epochs.epoch >= 4

    result = fit(epochs=10, epochs_per_call=2, callbacks=[watch])
    assert seen == [(2, 2, 14), (4, 4, 28)]
    assert len(result.history["loss"]) == 4


@pytest.mark.heavy
@pytest.mark.parametrize("true", [np.bool_(True), np.array(True), jnp.array(True)])
def test_a_boolean_of_any_library_ends_the_run(true):
    assert len(fit(epochs=4, callbacks=[lambda now: true]).history["loss"]) == 1
    assert len(fit(epochs=4, callbacks=[lambda now: ~true]).history["loss"]) == 4


@pytest.mark.parametrize("answer", [1, "yes", np.array([True]), [], 0.0])
def test_a_callback_that_answers_otherwise_is_refused(answer):
    with pytest.raises(TypeError, match=r"callbacks must return None, True or False; .* returned"):
        fit(epochs=2, callbacks=[lambda now: answer])


def test_a_segment_is_one_look_from_the_host(monkeypatch):
    looks = []
    get = jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: looks.append(1) or get(tree))
    fit(epochs=6, epochs_per_call=2)
    assert len(looks) == 1 + 3  # where it begins, and each segment


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"early_stopping": 5}, "early_stopping must be a jaxdeep.train.EarlyStopping, got 5"),
        (
            {"early_stopping": jd.train.EarlyStopping()._replace(patience=-1)},
            "patience must be at least 0",
        ),
        (
            {"early_stopping": jd.train.EarlyStopping()._replace(mode="up")},
            "mode must be 'min', 'max' or None",
        ),
        ({"early_stopping": jd.train.EarlyStopping(monitor="acc")}, "monitor must be one of accuracy"),
        (
            {"early_stopping": jd.train.EarlyStopping(monitor="val_loss"), "validation": None},
            "there is no validation data",
        ),
        (
            {
                "metrics": {"score": jd.metrics.accuracy},
                "early_stopping": jd.train.EarlyStopping(monitor="val_score"),
            },
            "mode must be 'min' or 'max' for 'val_score'",
        ),
        (
            {"plateau": jd.train.ReduceOnPlateau()._replace(factor=1.5)},
            r"plateau.factor must be in \(0, 1\), got 1.5",
        ),
        (
            {"plateau": jd.train.ReduceOnPlateau()._replace(patience=0)},
            "plateau.patience must be at least 1",
        ),
        ({"epochs_per_call": 0}, "epochs_per_call must be at least 1"),
        ({"accumulation_steps": 0}, "accumulation_steps must be at least 1"),
        ({"validate_every": 0}, "validate_every must be at least 1"),
        ({"callbacks": [3]}, "callbacks must be a function, got 3"),
        ({"keep_checkpoints": 0}, "keep_checkpoints must be at least 1"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"batch_size": True}, "batch_size must be a whole number, got True"),
        (
            {"early_stopping": jd.train.EarlyStopping()._replace(patience=True)},
            "patience must be a whole number",
        ),
        ({"stream": 1}, "stream must be True, False or None, got 1"),
    ],
)
def test_wrong_arguments(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit(**changes)


@pytest.mark.heavy
def test_steps_that_are_not_finite_are_skipped_and_counted():
    x = X.at[7].set(jnp.nan)
    clean = jnp.concatenate([X[:7], X[8:]])
    labels = jnp.concatenate([Y[:7], Y[8:]])
    shared = {"batch_size": 1, "validation": None, "shuffle": False, "epochs": 2}
    result = fit(data=(x, Y), on_nonfinite="skip", **shared | {"batch_size": 2})  # with a batch norm
    assert result.history["skipped"].tolist() == [1, 1]
    assert np.isfinite(result.history["loss"]).all()
    without = jd.nn.serial(jd.nn.dense(8, activation=jax.nn.relu), jd.nn.dense(2))  # not random
    skipped = fit(model=without, data=(x, Y), on_nonfinite="skip", **shared)
    close(skipped.params, fit(model=without, data=(clean, labels), **shared).params)
    identical(
        skipped.params,
        fit(model=without, data=(x, Y), stream=True, on_nonfinite="skip", **shared).params,
    )


@pytest.mark.heavy
def test_class_weights_are_those_of_keras():
    weights = jnp.where(Y == 1, 5.0, 1.0)
    shared = {"validation": None, "epochs": 2}
    a = fit(class_weight={1: 5.0}, **shared)
    b = fit(data=(X, Y, weights), **shared)
    close(a.params, b.params)
    close(fit(class_weight=np.array([1.0, 5.0]), **shared).params, b.params)
    one_hot = fit(class_weight={1: 5.0}, data=(X, jax.nn.one_hot(Y, 2)), **shared)
    close(one_hot.params, b.params)
    objective = jd.train.supervised(MODEL, jd.losses.softmax_cross_entropy, class_weight={1: 5.0})
    evaluated, _ = objective(a.params, a.state, (X, Y))  # not weighted
    close(evaluated, jd.losses.softmax_cross_entropy(MODEL.apply(a.params, a.state, X)[0], Y).mean())
    for wrong, message in [
        ({-1: 2.0}, "classes of class_weight must be at least 0"),
        ({0: -2.0}, "weights of at least 0"),
        ("balance", "or 'balanced' in jaxdeep.fit and searches, got 'balance'"),
        ({}, "class_weight must be a dict or an array"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            fit(class_weight=wrong)


@pytest.mark.heavy
@pytest.mark.parametrize("changes", [{"stream": True}, {}, {"on_nonfinite": "skip"}])
def test_averaged_parameters_have_the_statistics_of_their_own_network(changes):
    model = jd.nn.serial(d=jd.nn.dense(3), bn=jd.nn.batch_norm(momentum=0.0), out=jd.nn.dense(2))
    optimizer = optax.chain(jd.optimizers.sgd(0.5), jd.optimizers.ema_params(0.9))
    shared = {"model": model, "batch_size": len(X), "optimizer": optimizer, "epochs": 3, "metrics": None}
    result, raw = fit(**shared, ema=True, **changes), fit(**shared)
    outputs = np.asarray(X @ result.params["d"]["kernel"] + result.params["d"]["bias"])
    np.testing.assert_allclose(result.state["bn"]["mean"], outputs.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.state["bn"]["var"], outputs.var(0), rtol=1e-4)
    assert np.abs(np.asarray(raw.state["bn"]["mean"]) - outputs.mean(0)).max() > 1e-3
    loss = jd.losses.softmax_cross_entropy(model.apply(result.params, result.state, X)[0], Y).mean()
    np.testing.assert_allclose(result.history["val_loss"][-1], loss, rtol=1e-5)
    np.testing.assert_array_equal(result.history["loss"], raw.history["loss"])


@pytest.mark.heavy
def test_the_average_of_the_parameters_is_evaluated_and_ended_with():
    optimizer = optax.chain(jd.optimizers.adam(0.05), jd.optimizers.ema_params(0.9))
    result = fit(optimizer=optimizer, ema=True, epochs=3)
    plain_result = fit(optimizer=optimizer, epochs=3)
    average = optax.tree_utils.tree_get(plain_result.train_state.opt_state, "ema")
    identical(result.params, average)
    outputs, _ = MODEL.apply(average, result.state, X)
    expected = jd.losses.softmax_cross_entropy(outputs, Y).mean()
    np.testing.assert_allclose(result.history["val_loss"][-1], expected, rtol=1e-5)
    np.testing.assert_array_equal(result.history["loss"], plain_result.history["loss"])
    stopping = jd.train.EarlyStopping(patience=9, monitor="val_loss")
    best = fit(optimizer=optimizer, ema=True, epochs=3, early_stopping=stopping)
    assert best.best_epoch == 2
    identical(best.params, average)
    with pytest.raises(ValueError, match=r"ema=True needs jaxdeep\.optimizers\.ema_params"):
        fit(ema=True)


SCHEDULE_FREE = optax.contrib.schedule_free_sgd(0.2)
AVERAGING = optax.chain(jd.optimizers.sgd(0.2), jd.optimizers.ema_params(0.9))


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (SCHEDULE_FREE, {}),
        (jd.optimizers.lookahead(jd.optimizers.sgd(0.2), sync_period=2), {}),
        (AVERAGING, {"ema": True}),
        (jd.optimizers.sgd(0.2), {"early_stopping": jd.train.EarlyStopping(9, "val_loss", "max")}),
    ],
    ids=["schedule_free", "lookahead", "ema", "restored"],
)
def test_training_goes_on_from_the_train_state(optimizer, options):
    """Three epochs by `fit` and three steps are six steps, though other parameters are evaluated."""
    options = {"optimizer": optimizer, "epochs": 3, "batch_size": len(X), "shuffle": False} | options
    result = fit(**options)
    step = jax.jit(jd.train.make_step(OBJECTIVE, optimizer))
    ts, by_hand = result.train_state, jd.train.init(MODEL, optimizer, X[:1], key=KEY)
    for _ in range(3):
        ts, _ = step(ts, (X, Y))
    for _ in range(6):
        by_hand, _ = step(by_hand, (X, Y))
    close(ts.params, by_hand.params, rtol=1e-5)
    close(ts.opt_state, by_hand.opt_state, rtol=1e-5)
    # the model to use is the one that was validated, in all that the result does
    best = result.history["val_loss"][-1 if result.best_epoch is None else result.best_epoch]
    logits, _ = MODEL.apply(result.params, result.state, X)
    np.testing.assert_allclose(jd.losses.softmax_cross_entropy(logits, Y).mean(), best, rtol=1e-5)
    np.testing.assert_allclose(result.evaluate((X, Y))["loss"], best, rtol=1e-5)
    np.testing.assert_allclose(result.predict(X), logits, rtol=1e-5, atol=1e-6)


@pytest.mark.heavy
def test_augmentation_is_a_function_of_key_and_batch():
    def noisy(key, batch):
        x, y = batch
        return x + jax.random.normal(key, x.shape), y

    result = fit(augment=noisy, epochs=2)
    identical(result.params, fit(augment=noisy, epochs=2, epochs_per_call=2).params)
    optimizer = jd.optimizers.adam(0.01)
    ts = jd.train.init(MODEL, optimizer, X[:1], key=KEY)
    step = jax.jit(jd.train.make_step(OBJECTIVE, optimizer, augment=noisy))
    a, b = step(ts, (X[:16], Y[:16])), step(ts, (X[:16], Y[:16]))
    identical(a, b)
    plain_step = jax.jit(jd.train.make_step(OBJECTIVE, optimizer))
    assert a[1]["loss"] != plain_step(ts, (X[:16], Y[:16]))[1]["loss"]
    with pytest.raises(TypeError, match="augment must be a function, got 3"):
        fit(augment=3)


@pytest.mark.heavy
def test_a_phase_sets_the_rate_of_a_scheduled_optimizer():
    falling = jd.schedules.cosine(0.1, 14)
    phases = [jd.train.Phase(1), jd.train.Phase(1, learning_rate=0.01)]
    found = fit(optimizer=jd.optimizers.adam(falling), phases=phases, epochs=1)
    np.testing.assert_allclose(found.history["learning_rate"], [falling(6), 0.01], rtol=1e-6)


@pytest.mark.heavy
def test_phases_at_rates_of_their_own_are_those_of_an_optimizer_without_a_schedule():
    falling, phases = jd.schedules.cosine(0.1, 14), [jd.train.Phase(1, learning_rate=0.01)] * 2
    found = fit(optimizer=jd.optimizers.adam(falling), phases=phases, epochs=1)
    by_number = fit(optimizer=jd.optimizers.adam(0.5), phases=phases, epochs=1)
    identical(found.params, by_number.params)
