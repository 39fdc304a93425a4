"""Steps, epochs and fit: what is computed, in what order, from which randomness."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.tiers import mostly_heavy

import jaxdeep as jd
from jaxdeep.train import TrainState, make_epoch, make_evaluate, make_step, supervised

KEY = jax.random.key(0)


def problem(n=70, features=4, classes=3):
    x = jax.random.normal(jax.random.key(1), (n, features))
    return np.array(x), np.array(jnp.argmax(x[:, :classes], -1))


def network(rate=0.2):
    return jd.nn.serial(
        hidden=jd.nn.dense(8, activation=jax.nn.relu),
        bn=jd.nn.batch_norm(momentum=0.9),
        drop=jd.nn.dropout(rate),
        logits=jd.nn.dense(3),
    )


def setup(optimizer=None, rate=0.2, model=None):
    model = model or network(rate)
    optimizer = optimizer or jd.optimizers.adam(1e-2)
    objective = supervised(
        model, jd.losses.softmax_cross_entropy, metrics={"accuracy": jd.metrics.accuracy}
    )
    ts = jd.train.init(model, optimizer, problem()[0][:1], key=KEY)
    return objective, make_step(objective, optimizer), ts


def close(a, b, **tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, u), v in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b)):
        if not jnp.issubdtype(u.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(u, v, err_msg=str(path), **tolerance)


def identical(a, b):
    close(a, b, rtol=0, atol=0)


# --- step ---------------------------------------------------------------------------------------


def test_a_step_is_the_hand_written_update():
    model, tx = network(), optax.adam(1e-2)
    _objective, step, ts = setup(tx, model=model)
    batch = jax.tree.map(lambda a: a[:16], problem())
    new, metrics = step(ts, batch)

    def loss(params):
        key = jax.random.fold_in(ts.key, 0)
        y, state = model.apply(params, ts.state, batch[0], train=True, key=key)
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(y, batch[1])
        return losses.mean(), (state, (y.argmax(-1) == batch[1]).mean())

    (value, (state, share)), grads = jax.value_and_grad(loss, has_aux=True)(ts.params)
    updates, _ = tx.update(grads, ts.opt_state, ts.params)
    close(new.params, optax.apply_updates(ts.params, updates), rtol=1e-6)
    close(new.state, state, rtol=1e-6)
    assert int(new.step) == 1
    assert metrics.keys() == {"loss", "accuracy"}
    np.testing.assert_allclose([metrics["loss"], metrics["accuracy"]], [value, share], rtol=1e-6)


def test_nag_takes_its_gradient_at_the_look_ahead_point_inside_a_chain():
    a = jnp.array([1.0, 10.0])
    objective = lambda p, s, batch, *, key=None, train=False: (0.5 * (a * p**2).sum(), (s, {}))  # noqa: E731
    for tx in (jd.optimizers.nag(0.01), optax.chain(optax.clip(1e9), jd.optimizers.nag(0.01))):
        step = make_step(objective, tx)
        x = jnp.ones(2)
        ts = TrainState(jnp.int32(0), x, {}, tx.init(x), KEY)
        theta, m = np.ones(2), np.zeros(2)
        for _ in range(20):
            ts, _ = step(ts, ())
            m = 0.9 * m - 0.01 * np.asarray(a) * (theta + 0.9 * m)
            theta = theta + m
            np.testing.assert_allclose(ts.params, theta, rtol=2e-5)


def test_the_optimizer_is_passed_parameters_and_the_loss():
    tx = optax.chain(optax.adamw(1e-2), optax.contrib.reduce_on_plateau(patience=1))
    _, step, ts = setup(tx)
    ts, _ = jax.jit(step)(ts, jax.tree.map(lambda a: a[:16], problem()))
    assert int(ts.step) == 1


def test_the_step_leaves_its_input_valid_and_keeps_structure():
    _, step, ts = setup()
    batch = jax.tree.map(lambda a: a[:16], problem())
    new, _ = jax.jit(step)(ts, batch)
    assert np.isfinite(ts.params["hidden"]["kernel"]).all()
    assert jax.tree.map(jax.typeof, new) == jax.tree.map(jax.typeof, ts)  # weak types included


# --- epoch --------------------------------------------------------------------------------------


def recorder():
    """A 'step' that writes down which rows it saw, in order."""

    def step(ts, batch):
        rows = batch
        log, at = ts.params
        log = jax.lax.dynamic_update_slice(log, rows, (at,))
        new = ts._replace(step=ts.step + 1, params=(log, at + len(rows)))
        return new, {"loss": rows.mean(), "rows": jnp.float32(len(rows))}

    return step


@pytest.mark.parametrize(("n", "batch"), [(70, 16), (64, 16), (5, 5), (7, 1), (10, 9)])
@pytest.mark.parametrize("drop", [False, True])
def test_every_example_is_seen_exactly_once(n, batch, drop):
    data = jnp.arange(float(n))
    epoch = jax.jit(make_epoch(recorder(), batch_size=batch, drop_remainder=drop))
    ts = TrainState(jnp.int32(0), (jnp.full(n, -1.0), 0), {}, {}, KEY)
    ts, metrics = epoch(ts, data)
    seen = np.asarray(ts.params[0])[: int(ts.params[1])]
    if drop:
        assert len(seen) == n // batch * batch
        assert len(set(seen)) == len(seen)
    else:
        assert sorted(seen) == list(range(n))
    assert int(ts.step) == (n // batch if drop else -(-n // batch))
    np.testing.assert_allclose(metrics["loss"], seen.mean(), rtol=1e-6)  # over examples, not batches


def test_each_epoch_has_its_own_order_drawn_from_the_key():
    data = jnp.arange(50.0)
    epoch = make_epoch(recorder(), batch_size=8)

    def order(key, start):
        ts = TrainState(jnp.int32(start), (jnp.zeros(50), 0), {}, {}, key)
        return tuple(np.asarray(epoch(ts, data)[0].params[0]).tolist())

    assert order(KEY, 0) == order(KEY, 0)
    assert len({order(KEY, 0), order(KEY, 7), order(jax.random.key(3), 0), tuple(range(50))}) == 4


def test_unshuffled_rows_come_in_their_order():
    ts = TrainState(jnp.int32(0), (jnp.zeros(50), 0), {}, {}, KEY)
    ts, _ = make_epoch(recorder(), batch_size=8, shuffle=False)(ts, jnp.arange(50.0))
    np.testing.assert_array_equal(ts.params[0], np.arange(50.0))


def test_the_first_row_is_equally_likely_to_be_any():
    data = jnp.arange(8.0)
    epoch = make_epoch(recorder(), batch_size=4)

    def orders(key):
        ts = TrainState(jnp.int32(0), (jnp.zeros(8), 0), {}, {}, key)
        return epoch(ts, data)[0].params[0]

    found = np.asarray(jax.jit(jax.vmap(orders))(jax.random.split(KEY, 8000))).astype(int)
    counts = np.stack([np.bincount(found[:, i], minlength=8) for i in range(8)])
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 49 + 5 * np.sqrt(2 * 49)  # 49 degrees of freedom


def test_an_epoch_is_a_loop_over_the_step():
    _, step, ts = setup()
    x, y = problem()
    whole, metrics = jax.jit(make_epoch(step, batch_size=16, shuffle=False))(ts, (x, y))
    losses = []
    for i in range(0, 70, 16):
        ts, found = jax.jit(step)(ts, (x[i : i + 16], y[i : i + 16]))
        losses += [float(found["loss"])] * len(x[i : i + 16])
    close(whole, ts, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)


@pytest.mark.heavy
def test_stacked_models_train_as_they_would_alone():
    model, tx = network(), jd.optimizers.nag(1e-2)
    _, step, _ = setup(tx, model=model)
    data = jax.tree.map(jnp.asarray, problem())
    keys = jax.random.split(KEY, 3)
    init = lambda key: jd.train.init(model, tx, data[0][:1], key=key)  # noqa: E731
    epoch = make_epoch(step, batch_size=16)
    together, metrics = jax.jit(jax.vmap(epoch, in_axes=(0, None)))(jax.vmap(init)(keys), data)
    assert metrics["loss"].shape == (3,)
    for i in range(3):
        alone, found = jax.jit(epoch)(init(keys[i]), data)
        close(
            jax.tree.map(lambda a, i=i: a[i], together)._replace(key=alone.key),
            alone,
            rtol=2e-5,
            atol=1e-6,
        )
        np.testing.assert_allclose(metrics["loss"][i], found["loss"], rtol=1e-5)


def test_nothing_retraces_when_only_values_change():
    traces = 0
    objective, _, ts = setup()

    def counting(*args, **kwargs):
        nonlocal traces
        traces += 1
        return objective(*args, **kwargs)

    epoch = jax.jit(make_epoch(make_step(counting, jd.optimizers.adam(1e-2)), batch_size=16))
    data = jax.tree.map(jnp.asarray, problem())
    ts, _ = epoch(ts, data)
    first = traces
    for _ in range(3):
        ts, _ = epoch(ts, jax.tree.map(lambda a: a * 1, data))
    assert traces == first
    assert epoch._cache_size() == 1


def test_the_data_is_an_argument_of_the_program_not_a_constant():
    _, step, ts = setup()
    data = jax.tree.map(jnp.asarray, problem())
    text = jax.jit(make_epoch(step, batch_size=16)).lower(ts, data).as_text()
    assert max(len(line) for line in text.splitlines()) < 20_000
    assert 'stablehlo.constant dense<"0x' not in text


@pytest.mark.heavy
def test_on_eight_devices_the_numbers_are_the_same():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    _objective, step, ts = setup()
    x, y = problem(n=64)
    one, _ = jax.jit(step)(ts, (x, y))
    spread = jax.device_put((x, y), jax.NamedSharding(mesh, jax.P("data")))
    eight, _ = jax.jit(step)(jax.device_put(ts, jax.NamedSharding(mesh, jax.P())), spread)
    close(one, eight, rtol=1e-4, atol=1e-5)


# --- evaluate -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", mostly_heavy([1, 16, 70, 1000], [16, 1000]))
def test_validation_is_over_every_row_whatever_the_batch(batch_size):
    objective, _, ts = setup()
    data = problem()
    loss, (_, metrics) = objective(ts.params, ts.state, data)
    found = jax.jit(make_evaluate(objective, batch_size=batch_size))(ts.params, ts.state, data)
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(found["accuracy"], metrics["accuracy"], rtol=1e-5)


# --- fit ----------------------------------------------------------------------------------------


def fit(**changes):
    arguments = {
        "model": network(),
        "data": problem(),
        "loss": jd.losses.softmax_cross_entropy,
        "metrics": {"accuracy": jd.metrics.accuracy},
        "optimizer": jd.optimizers.adam(1e-2),
        "epochs": 3,
        "batch_size": 16,
        "validation": problem(),
        "key": KEY,
        "progress": False,
    } | changes
    return jd.fit(arguments.pop("model"), arguments.pop("data"), **arguments)


@pytest.mark.optimized
def test_the_same_key_gives_bit_identical_results():
    a, b, c = fit(), fit(), fit(key=jax.random.key(1))
    identical(a.train_state, b.train_state)
    identical(a.history, b.history)
    assert not np.array_equal(a.params["logits"]["kernel"], c.params["logits"]["kernel"])


def test_history_holds_one_numpy_value_an_epoch():
    result = fit(epochs=4)
    assert list(result.history)
    assert set(result.history) == {
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "learning_rate",
    }
    for values in result.history.values():
        assert isinstance(values, np.ndarray)
        assert values.shape == (4,)
    assert result.history["loss"][-1] < result.history["loss"][0]
    assert int(result.train_state.step) == 4 * 5


def test_fit_is_the_loop_over_make_epoch():
    model, tx = network(), jd.optimizers.adam(1e-2)
    objective, step, _ = setup(tx, model=model)
    ts = jd.train.init(model, tx, problem()[0][:1], key=KEY)
    epoch = jax.jit(make_epoch(step, batch_size=16))
    for _ in range(3):
        ts, metrics = epoch(ts, problem())
    result = fit(model=model, optimizer=tx)
    close(result.train_state, ts, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.history["loss"][-1], metrics["loss"], rtol=1e-5)
    found = make_evaluate(objective)(ts.params, ts.state, problem())
    np.testing.assert_allclose(result.history["val_accuracy"][-1], found["accuracy"], rtol=1e-5)


@pytest.mark.heavy
def test_given_parameters_are_where_it_begins_and_stay_valid():
    first = fit(epochs=1)
    params, state = first.params, first.state
    again = fit(epochs=1, params=params, state=state)
    assert again.history["loss"][0] < first.history["loss"][0]
    assert np.isfinite(params["logits"]["kernel"]).all()
    assert np.isfinite(state["bn"]["mean"]).all()


def test_data_on_the_device_stays_valid_and_so_does_the_key():
    data = jax.tree.map(jnp.asarray, problem())
    fit(data=data)
    fit(data=data)
    jax.random.key_data(KEY)


@pytest.mark.heavy
def test_any_optax_optimizer():
    nag = jd.optimizers.nag(1e-2)
    for tx in (optax.adamw(1e-2), optax.chain(optax.clip(1.0), nag), optax.MultiSteps(nag, 2)):
        history = fit(optimizer=tx, epochs=5).history
        assert history["loss"][-1] < history["loss"][0]


@pytest.mark.heavy
def test_an_objective_of_ones_own():
    def objective(params, state, batch, *, key=None, train=False):
        y, state = network(0.0).apply(params, state, batch["x"], train=train, key=key)
        return jnp.mean((y - batch["target"]) ** 2), (state, {"largest": jnp.abs(y).max()})

    data = {"x": problem()[0], "target": np.zeros((70, 3), np.float32)}
    initial = network(0.0).init(KEY, data["x"][:1])
    result = fit(
        data=data,
        loss=None,
        metrics=None,
        objective=objective,
        validation=data,
        params=initial[0],
        state=initial[1],
    )
    assert set(result.history) == {"loss", "largest", "val_loss", "val_largest", "learning_rate"}
    assert result.history["loss"][-1] < result.history["loss"][0]


def test_a_penalty_counts_in_training_and_validation():
    plain = fit(epochs=1)
    result = fit(epochs=1, penalty=lambda params: 100.0 + 0 * params["logits"]["bias"].sum())
    np.testing.assert_allclose(result.history["loss"], plain.history["loss"] + 100, rtol=1e-4)
    np.testing.assert_allclose(result.history["val_loss"], plain.history["val_loss"] + 100, rtol=1e-4)


@pytest.mark.heavy
def test_a_run_learns():
    result = fit(epochs=40, model=network(0.0), optimizer=jd.optimizers.adam(3e-2))
    assert result.history["val_accuracy"][-1] > 0.95


def test_a_non_finite_loss_stops_the_run_and_names_step_epoch_and_leaf():
    data = problem()
    data[0][33] = np.nan
    with pytest.raises(
        FloatingPointError, match=r"not finite at step \d+ \(epoch 1\).*first non-finite leaf is"
    ) as info:
        fit(data=data)
    assert "params/bn/bias" in str(info.value) or "opt_state" in str(info.value)
    history = fit(data=data, on_nonfinite="ignore").history
    assert len(history["loss"]) == 3


def test_the_first_bad_step_is_named_exactly():
    def objective(params, state, batch, *, key=None, train=False):
        loss = (params["w"] * batch.mean()) ** 2
        return loss, (state, {})

    data = np.ones(40, np.float32)
    data[25] = np.inf
    with pytest.raises(FloatingPointError, match=r"step 2 \(epoch 1\)"):
        fit(
            model=jd.nn.flatten(),
            data=data,
            loss=None,
            metrics=None,
            objective=objective,
            validation=None,
            params={"w": jnp.ones(())},
            state={},
            shuffle=False,
            batch_size=10,
        )


@pytest.mark.heavy
def test_an_unknown_compiler_option_is_done_without(monkeypatch):
    monkeypatch.setattr("jaxdeep._compilation._CPU_OPTIONS", {"xla_no_such_option": "1"})
    assert len(fit().history["loss"]) == 3


@pytest.mark.heavy
def test_nothing_is_kept_after_a_run():
    import gc
    import weakref

    model = network()
    gone = weakref.ref(model)
    fit(model=model, epochs=1)
    fit(model=model, epochs=1, params=model.init(KEY, X[:1])[0], state=model.init(KEY, X[:1])[1])
    del model
    jax.clear_caches()  # what jax itself remembers of a trace
    gc.collect()
    assert gone() is None


def test_init_under_vmap_over_hyperparameters_leaks_no_tracer():
    def one(rate, key):
        return jd.train.init(network(), jd.optimizers.adam(rate), X[:1], key=key).params["hidden"][
            "bias"
        ]

    with jax.checking_leaks():
        jax.vmap(one)(jnp.array([0.1, 0.2]), jax.random.split(KEY, 2))


def test_parameters_that_end_up_not_finite_are_an_error_even_if_every_loss_was():
    arguments = {
        "model": jd.nn.dense(1, kernel_init=jd.nn.initializers.zeros),
        "data": (X, np.zeros((70, 1), np.float32)),
        "loss": lambda outputs, y: jnp.sqrt((outputs - y) ** 2),
        "metrics": None,
        "validation": None,
        "epochs": 1,
        "batch_size": 70,
    }
    with pytest.raises(
        FloatingPointError, match=r"left params/(bias|kernel) not finite, though every loss was"
    ):
        fit(**arguments)
    assert fit(**arguments, on_nonfinite="ignore").history["loss"] == [0.0]


def test_a_loss_blown_up_by_broadcasting_is_refused():
    with pytest.raises(ValueError, match=r"values of shape \(70, 70\) for outputs of shape \(70, 1\)"):
        fit(
            model=jd.nn.dense(1),
            data=(X, X[:, 0]),
            loss=lambda o, y: (o - y) ** 2,
            metrics=None,
            validation=None,
        )


def test_low_precision_losses_are_averaged_in_float32():
    result = fit(data=(jnp.asarray(X, jnp.bfloat16), Y), validation=None, epochs=1)
    assert result.history["loss"].dtype == np.float32


def test_vector_metrics_are_kept_and_not_printed(capsys):
    def objective(params, state, batch, *, key=None, train=False):
        y, state = jd.nn.dense(3).apply(params, state, batch[0])
        return (y**2).mean(), (state, {"each": (y**2).mean(0)})

    arguments = {"model": jd.nn.dense(3), "loss": None, "metrics": None, "objective": objective}
    assert fit(**arguments, progress=True).history["each"].shape == (3, 3)
    assert "each" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["loss", "val_loss"])
def test_a_metric_cannot_take_the_place_of_the_loss(name):
    def objective(params, state, batch, *, key=None, train=False):
        y, state = jd.nn.dense(3).apply(params, state, batch[0])
        return (y**2).mean() + jnp.inf, (state, {name: jnp.float32(0)})

    with pytest.raises(ValueError, match=f"metrics may not be called '{name}'"):
        fit(model=jd.nn.dense(3), loss=None, metrics=None, objective=objective)


def test_a_step_of_ones_own_must_report_its_loss():
    step = lambda ts, batch: (ts, {"mse": jnp.float32(0)})  # noqa: E731
    ts = TrainState(jnp.int32(0), {}, {}, {}, KEY)
    with pytest.raises(ValueError, match=r"metrics with a 'loss', got \['mse'\]"):
        make_epoch(step)(ts, (X, Y))


# --- progress -----------------------------------------------------------------------------------


def test_without_a_terminal_there_is_one_line_an_epoch(capsys):
    fit(progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for number, line in enumerate(lines, 1):
        assert line.startswith(f"epoch {number}/3  loss ")
        for word in ("accuracy", "val_loss", "val_accuracy", "steps/s", "left"):
            assert word in line


def test_silence(capsys):
    fit(progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    fit(progress=True)
    out = capsys.readouterr().out
    assert "epoch 3/3" in out
    assert "steps/s" in out
    assert "━" in out


# --- wrong input --------------------------------------------------------------------------------

X, Y = problem()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": (X, Y[:-1])}, r"same number of rows: data\[0\] has 70, data\[1\] has 69"),
        ({"data": (X[:0], Y[:0])}, "data is empty"),
        ({"validation": (X[:0], Y[:0])}, "validation is empty"),
        ({"validation": (X, Y[1:])}, r"validation\[0\] has 70, validation\[1\] has 69"),
        ({"batch_size": 71}, "batch_size must be at most the number of examples, 70, got 71"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number, got 2.5"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"data": (X, Y + 1)}, r"labels must be in \[0, 3\) .* got labels from 1 to 3"),
        ({"data": (X, Y - 1)}, "got labels from -1 to 1"),
        ({"validation": (X, Y + 7)}, "got labels from 7 to 9"),
        ({"data": (X, Y.astype(float))}, "must be integers"),
        (
            {"validation": (X[:, :3], Y)},
            r"hidden: dense was initialised for 4 features, got .* \(70, 3\)",
        ),
        ({"key": 0}, "key must be a random key such as jax.random.key"),
        ({"key": 0.5}, "key must be a random key .* got 0.5"),
        ({"key": jnp.array([0.1, 0.2])}, "dtype float32"),
        ({"optimizer": jd.optimizers.adam}, "optimizer must be an optax transformation .* call it"),
        ({"optimizer": "adam"}, "optimizer must be an optax transformation"),
        ({"model": jd.nn.dense}, "model must be a jaxdeep.nn.Model"),
        ({"loss": None, "metrics": None}, "fit needs a loss=, or an objective="),
        ({"objective": lambda *a, **k: None}, "drop loss, metrics$"),
        ({"loss": "mse"}, "loss must be a function"),
        ({"metrics": {"accuracy": "accuracy"}}, r"metrics\['accuracy'\] must be a function"),
        ({"metrics": {"loss": jd.metrics.accuracy}}, "metrics may not be called 'loss'"),
        ({"metrics": {"val_x": jd.metrics.accuracy}}, "metrics may not be called 'val_x'"),
        ({"metrics": [jd.metrics.accuracy]}, "metrics must be a dict of functions by name"),
        ({"model": jd.nn.dense(1), "data": (X, Y[:, None])}, "at least 2 classes"),
        ({"penalty": 1e-4}, "penalty must be a function"),
        ({"data": X}, r"data must be a pair \(x, y\) or .*, got ndarray"),
        ({"data": ([[1.0]], [0])}, r"must be an array with a row per example"),
        ({"data": (np.array([["a"]] * 70), Y)}, "must hold numbers"),
        ({"state": {}}, "state= is given without the params="),
        ({"on_nonfinite": "stop"}, "on_nonfinite must be 'raise', 'skip' or 'ignore', got 'stop'"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_compiled(changes, message, monkeypatch):
    def compiled(*args, **kwargs):
        raise AssertionError("compiled")

    monkeypatch.setattr("jaxdeep.fitting.fit.make_program", compiled)
    with pytest.raises((ValueError, TypeError), match=message) as info:
        fit(**changes)
    assert not isinstance(info.value, AssertionError)


def test_the_note_says_which_data_a_label_was_in():
    with pytest.raises(ValueError, match="labels") as info:
        fit(validation=(X, Y + 7))
    assert any("found in validation" in note for note in info.value.__notes__)


def test_a_batch_larger_than_the_data_in_ones_own_loop():
    _, step, ts = setup()
    with pytest.raises(
        ValueError, match="batch_size must be at most the number of examples, 70, got 80"
    ):
        make_epoch(step, batch_size=80)(ts, problem())
