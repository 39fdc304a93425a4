"""Arguments of `fit` that make no sense."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.training import KEY, X, Y, fit, network

import jaxdeep as jd

PARAMS, STATE = network().init(KEY, X[:1])


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
        (
            {"key": -1},
            r"key must be a random key .* or a seed in \[0, 2\*\*32\), got -1",
        ),
        ({"key": 0.5}, "key must be a random key .* got 0.5"),
        ({"key": jnp.array([0.1, 0.2])}, "dtype float32"),
        ({"optimizer": jd.optimizers.adam}, "optimizer must be an optax transformation .* call it"),
        ({"optimizer": "adam"}, "optimizer must be an optax transformation"),
        ({"model": jd.nn.dense}, "model must be a jaxdeep.nn.Model"),
        ({"loss": None, "metrics": None}, "fit needs a loss=, or an objective="),
        ({"objective": lambda *a, **k: None}, "drop loss, metrics$"),
        ({"loss": "mse"}, "loss must be a function"),
        ({"metrics": {"accuracy": "accuracy"}}, r"metrics\['accuracy'\] must be a function"),
        (
            {"metrics": {"main": [jd.losses.mae]}},
            r"metrics\['main'\] must be a function .* metrics=\{'main': \{'mae': …\}\}; got \[<func",
        ),
        ({"metrics": {"loss": jd.metrics.accuracy}}, "metrics may not be called 'loss'"),
        ({"metrics": {"step": jd.metrics.accuracy}}, "metrics may not be called 'step'"),
        ({"metrics": {"val_x": jd.metrics.accuracy}}, "metrics may not be called 'val_x'"),
        ({"metrics": {"": jd.metrics.accuracy}}, "metrics may not be called ''"),
        ({"metrics": [jd.metrics.accuracy]}, "metrics must be a dict of functions by name"),
        ({"model": jd.nn.dense(1), "data": (X, Y[:, None])}, "at least 2 classes"),
        ({"penalty": 1e-4}, "penalty must be a function"),
        ({"data": X}, r"data must be a pair \(x, y\) or .*, got ndarray"),
        ({"data": (1.0, Y)}, r"data\[0\] must be an array with a row per example"),
        ({"data": (np.array([["a"]] * 70), Y)}, r"data\[0\] must be an array of real numbers"),
        ({"data": ([[1.0], [2.0, 3.0]], [0, 1])}, r"data\[0\] must be an array of numbers"),
        ({"data": (np.ma.masked_greater(X, 0), Y)}, r"data\[0\] is a masked array with masked values"),
        (
            {"data": (X, Y.astype(np.int64) + 2**32)},
            r"data\[1\] holds 4294967296, which needs more than 32 bits",
        ),
        ({"validation": (X, Y.astype(np.int64) + 2**32)}, r"validation\[1\] holds 4294967296"),
        ({"data": (X, Y, np.full(70, np.inf))}, r"data\[2\], the weights, must be finite, got inf"),
        ({"data": (X, Y, np.zeros(70))}, r"data\[2\], the weights, must not all be 0: none of 70 rows"),
        (
            {"data": (X, Y, np.full(70, 1e-46))},
            r"data\[2\], the weights, must be at least 1.2e-38 somewhere, as float32 takes",
        ),
        ({"data": (X, Y, np.full(70, 1e38))}, r"data\[2\], the weights, must be at most 1.8e\+19"),
        (
            {"phases": [(1, None, 1e40)], "epochs": 1},
            r"phases\[0\].learning_rate is 1e\+40, which float32 cannot",
        ),
        ({"validation": (X, Y, jnp.zeros(70))}, r"validation\[2\], the weights, must not all be 0"),
        ({"validation": (X, Y, jnp.full(70, jnp.nan))}, r"validation\[2\], the weights, must be finite"),
        ({"state": {}}, "state= is given without the params="),
        ({"params": {}}, "params= lacks 'bn/bias', which the model has"),
        ({"params": PARAMS}, r"state= lacks 'bn/mean', .* pass the state= that goes with params="),
        (
            {"params": PARAMS | {"new": {"w": X}}, "state": STATE},
            "params= has 'new/w', which the model has not",
        ),
        (
            {"params": PARAMS | {"logits": {"kernel": X, "bias": X[0]}}, "state": STATE},
            r"params\['logits/bias'\] must have the shape \(3,\) that the model gives it, got \(4,\)",
        ),
        (
            {"on_nonfinite": "halt"},
            "on_nonfinite must be 'raise', 'stop', 'skip' or 'ignore', got 'halt'",
        ),
    ],
)
def test_wrong_input_is_refused_before_anything_is_compiled(changes, message, monkeypatch):
    def compiled(*args, **kwargs):
        raise AssertionError("compiled")

    monkeypatch.setattr("jaxdeep.fitting.setup.compiled", compiled)
    with pytest.raises((ValueError, TypeError), match=message) as info:
        fit(**changes)
    assert not isinstance(info.value, AssertionError)


HISTORY = {
    "learning_rate": ({}, "a hyperparameter of the optimizer"),
    "momentum": ({"optimizer": jd.optimizers.sgd(0.1, momentum=0.9)}, "a hyperparameter"),
    "b1": ({"optimizer": jd.optimizers.adam(0.1, b1=lambda step: 0.9)}, "a hyperparameter"),
    "1/learning_rate": (
        {"optimizer": optax.chain(jd.optimizers.sgd(0.1), jd.optimizers.sgd(0.1))},
        "a hyperparameter",
    ),
    "skipped": ({"on_nonfinite": "skip"}, "the number of skipped steps"),
    "gradient_norm/logits": ({"diagnostics": 1}, "a measurement of the layers"),
}


@pytest.mark.few(2)
@pytest.mark.parametrize("name", HISTORY)
def test_a_metric_does_not_hide_what_else_the_history_has(name):
    changes, what = HISTORY[name]
    called = []
    message = f"metrics may not be called '{name}', which is the name of {what}"
    with pytest.raises(ValueError, match=message):
        fit(metrics={name: jd.metrics.accuracy}, callbacks=[called.append], **changes)
    assert not called


def test_a_metric_may_have_the_name_of_a_hyperparameter_that_the_history_has_not():
    metrics = dict.fromkeys(["b1", "accuracy"], jd.metrics.accuracy)
    history = fit(model=jd.nn.dense(3), metrics=metrics, validation=None, epochs=1).history
    assert history["b1"] == history["accuracy"]


def test_what_is_trained_is_of_floats():
    params = {**PARAMS, "logits": jax.tree.map(lambda leaf: leaf.astype(int), PARAMS["logits"])}
    with pytest.raises(TypeError, match="params/logits/bias must be floats to be trained, got int32"):
        fit(params=params, state=STATE)
    keyed = jd.nn.Model(
        lambda key, x: ({"k": jax.random.key(0), "w": jnp.zeros((x.shape[-1], 3))}, {}),
        lambda params, state, x, **switches: (x @ params["w"], state),
    )
    adamw, words = (
        jd.optimizers.adamw(0.1),
        "params/k must be floats to be trained, got key<fry>: convert",
    )
    for optimizer in (jd.optimizers.sgd(0.1), adamw, jd.optimizers.low_precision(adamw)):
        with pytest.raises(TypeError, match=words):
            fit(model=keyed, optimizer=optimizer)
    assert fit(model=keyed, optimizer=adamw, trainable="w", epochs=1).history["loss"].size == 1
    narrow = jnp.ones(X.shape, jnp.float8_e5m2)
    with pytest.raises(TypeError, match=r"data\[0\] holds float8_e5m2, .*astype\('float32'\)"):
        fit(data=(narrow, Y))
    with pytest.raises(TypeError, match="data must be arrays, batches, or a function from the number"):
        fit(data=lambda: iter([(X, Y)]))


def test_batches_of_one_row_have_no_statistics():
    dense, norm = jd.nn.dense, jd.nn.batch_norm
    model = jd.nn.serial(dense(4), norm(), dense(3))
    for sizes in ({"batch_size": 1}, {"batch_size": 4, "accumulation_steps": 4}):
        with pytest.raises(ValueError, match=r"one row.*batch norms \(batch_norm0\) have one value a"):
            fit(model=model, epochs=1, **sizes)
    optimizer = lambda hp: jd.optimizers.sgd(hp["rate"])  # noqa: E731
    options = {"model": model, "loss": jd.losses.softmax_cross_entropy, "batch_size": 1}
    with pytest.raises(ValueError, match="leaves one row"):
        jd.sweep(optimizer, [{"rate": 0.1}], data=(X, Y), key=KEY, **options)


@pytest.mark.heavy
def test_batches_of_one_row_that_need_none_of_their_own_are_taken():
    dense, norm = jd.nn.dense, jd.nn.batch_norm
    model = jd.nn.serial(dense(4), norm(), dense(3))
    fit(model=model, epochs=1, batch_size=1, trainable="dense1/*", freeze_batch_norm=True)
    fit(model=model, epochs=1, batch_size=23)  # whose last batch has one row
    places = jd.nn.serial(jd.nn.reshape(-1, 1), norm(), jd.nn.flatten(), dense(3))
    fit(model=places, epochs=1, batch_size=1)  # several values of the one feature


def test_the_note_says_which_data_a_label_was_in():
    with pytest.raises(ValueError, match="labels") as info:
        fit(validation=(X, Y + 7))
    assert any("found in validation" in note for note in info.value.__notes__)


@pytest.mark.heavy
def test_a_call_inside_a_trace_is_refused_in_our_words():
    loss = jd.losses.softmax_cross_entropy

    def trained(rate=0.1, x=X):
        optimizer, options = jd.optimizers.sgd(jnp.asarray(rate)), {"epochs": 1, "progress": False}
        return jd.fit(network(), (x, Y), loss=loss, optimizer=optimizer, key=KEY, **options).params

    words = r"cannot be traced.*use jaxdeep\.train\.init and"
    for traced in (jax.jit(trained), lambda rate: jax.vmap(trained)(jnp.array([rate, rate]))):
        with pytest.raises(TypeError, match=words):
            traced(0.1)
    with pytest.raises(TypeError, match=words):
        jax.jit(lambda x: trained(x=x))(X)


@pytest.mark.heavy
def test_what_an_objective_begins_with_is_the_models():
    model = network()
    objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy)

    def own(params, state, batch, *, key=None, train=False):
        return objective(params, state, batch, key=key, train=train)

    params, state = model.init(KEY, X)
    out = params["logits"]
    for chosen in (objective, own):
        run = functools.partial(
            jd.fit, model, (X, Y), objective=chosen, optimizer=jd.optimizers.sgd(0.1), key=KEY
        )
        for wrong, message in (
            (
                {"logits": out | {"extra": jnp.ones(2)}},
                r"params= has 'logits/extra', which the model",
            ),
            ({"logits": {"kernel": out["kernel"]}}, "params= lacks 'logits/bias', which the model has"),
            (
                {"logits": out | {"bias": jnp.ones(1)}},
                r"params\['logits/bias'\] must have the shape \(3,\)",
            ),
        ):
            with pytest.raises(ValueError, match=message):
                run(params=params | wrong, state=state, progress=False)
        with pytest.raises(ValueError, match="state= lacks 'bn/mean'"):
            run(params=params, progress=False)
    # of several models, and of one whose input is not the first array
    both = {"generator": params, "critic": params}
    linear, features = jd.nn.dense(1), jnp.ones((70, 3))

    def of_both(params, state, batch, *, key=None, train=False):
        return jnp.mean(params["critic"]["logits"]["kernel"] ** 2), (state, {})

    def of_second(params, state, batch, *, key=None, train=False):
        return jnp.mean(linear.apply(params, state, batch[1])[0] ** 2), (state, {})

    begin = {"optimizer": jd.optimizers.sgd(0.1), "key": KEY, "progress": False}
    jd.fit(model, (X, Y), objective=of_both, params=both, state=state, **begin)
    second = linear.init(KEY, features)[0]
    jd.fit(linear, (X, features), objective=of_second, params=second, **begin)


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", [np.int8, np.int64])
def test_counts_may_be_of_numpy_in_any_width(dtype):
    found = [
        fit(epochs=width(2), batch_size=width(64), validate_every=width(1), accumulation_steps=width(2))
        for width in (int, dtype)
    ]
    np.testing.assert_array_equal(found[0].history["loss"], found[1].history["loss"])
    assert int(found[1].train_state.step) == int(found[0].train_state.step)


@pytest.mark.parametrize("part", [0, 1])
def test_training_data_that_float32_cannot_tell_apart_are_refused(part):
    times = np.stack([np.linspace(0, 1, 64), 1.7e9 + np.arange(64.0)], axis=1)
    small = np.linspace(0, 1, 64)[:, None]
    data = (times, small) if part == 0 else (small, times)
    model = jd.nn.dense(2 - (part == 0))
    fit = functools.partial(
        jd.fit, model, loss=jd.losses.mse, optimizer=jd.optimizers.sgd(0.1), key=jax.random.key(0),
        progress=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match=rf"data\[{part}\] holds numbers from 1.* in column 1"):
        fit(data)
    with pytest.raises(ValueError, match="in column 1, whose differences float32 cannot tell"):
        jd.sweep(
            lambda hp: jd.optimizers.sgd(hp["rate"]), {"rate": [0.1]}, model=model, data=data,
            loss=jd.losses.mse, progress=False,
        )  # fmt: skip
    # a constant but for rounding, and what float32 holds exactly, are taken
    constant = 0.3 + np.spacing(0.3) * (np.arange(64) % 3)
    exact = 1 + np.arange(64) * 2.0**-23
    jd.fit(
        jd.nn.dense(1), (np.stack([constant, exact], axis=1), small), loss=jd.losses.mse,
        optimizer=jd.optimizers.sgd(0.1), key=jax.random.key(0), progress=False,
    )  # fmt: skip


def test_text_is_sent_to_the_tables():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"], "c": [3, None], "y": [0, 1]})
    fit = functools.partial(
        jd.fit, jd.nn.dense(2), loss=jd.losses.softmax_cross_entropy, optimizer=jd.optimizers.sgd(0.1),
        key=jax.random.key(0), progress=False,
    )  # fmt: skip
    with pytest.raises(
        TypeError, match=r"data must be a pair .* of a frame, jaxdeep\.tables\.fit\(frame"
    ):
        fit(frame)
    with pytest.raises(
        TypeError, match=r"data\[0\] .* in b; jaxdeep\.tables\.fit\(frame, target=…\) finds"
    ):
        fit((frame[["a", "b", "c"]], frame["y"]))
    with pytest.raises(TypeError, match=r"data\[1\] .*; jaxdeep\.tables\.fit"):
        fit((frame[["a"]], frame["b"]))
    with pytest.raises(
        TypeError, match=r"data\[1\] .* <U1; numpy\.unique\(…, return_inverse=True\)\[1\]"
    ):
        fit((np.ones((2, 1), np.float32), np.array(["x", "y"])))


def test_a_dict_with_columns_of_text_is_sent_to_the_tables_too():
    table = {"a": [1.0, 2.0, 3.0, 4.0], "b": ["x", "y", None, "x"], "c": [None, "u", "v", "u"]}
    y = np.array([0, 1, 1, 0])
    model = jd.nn.serial(jd.nn.dropout(0.5), jd.nn.dense(2))
    params, state = model.init(KEY, X[:1])
    own = {"loss": jd.losses.softmax_cross_entropy, "progress": False}

    def validated(data):
        jd.search.cross_validate(jd.optimizers.sgd, [{}], data=data, model=model, folds=2, **own)

    calls = {
        "data must be a pair .* of a dict of columns, ": lambda x: fit(data=x),
        r"data\[0/b\] must be .*; ": lambda x: fit(data=(x, y)),
        r"data\[b\] must be .*; ": validated,
        r"x\[b\] must be .*; ": lambda x: jd.uncertainty.mc_dropout(model, params, state, x, KEY),
    }
    for words, call in calls.items():
        for odd in (["x", "y", None, "x"], ["x", "y", "z", "x"], np.array(["x", "y", "z", "x"])):
            with pytest.raises(TypeError, match=rf"^{words}jaxdeep\.tables\.fit\(.*\.encode\("):
                call({"a": table["a"], "b": odd})
    with pytest.raises(TypeError, match=r"^data\[0/c/1\] .*; jaxdeep\.tables\.fit\("):
        fit(data=({"c": table["c"]}, y))
    with pytest.raises(TypeError, match=r"got dict$"):
        fit(data={"x": X, "y": Y})


def test_fewer_rows_than_the_default_batch_are_one_batch():
    how = {"loss": jd.losses.softmax_cross_entropy, "epochs": 2, "key": KEY, "progress": False}

    def trained(**size):
        return jd.fit(network(), (X[:20], Y[:20]), optimizer=optax.sgd(0.1), **how, **size)

    said, alone = trained(batch_size=20), trained()
    jax.tree.map(np.testing.assert_array_equal, said.params, alone.params)
    assert int(alone.train_state.step) == 2
    with pytest.raises(ValueError, match="at most the number of examples, 20, got 32"):
        trained(batch_size=32)
