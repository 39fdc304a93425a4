"""What `fit` needs to go on is saved with a model, and goes on as if nothing had been in between."""

import functools
import inspect
import json
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd
from jaxdeep.saving.values import decode, encode

X = jax.random.normal(jax.random.key(1), (48, 3))
Y = (X[:, 0] > 0).astype(int)
MODEL = jd.nn.serial(
    h=jd.nn.dense(4, activation=jax.nn.relu),
    bn=jd.nn.batch_norm(),
    d=jd.nn.dropout(0.2),
    o=jd.nn.dense(2),
)
HOW = {
    "loss": jd.losses.softmax_cross_entropy,
    "metrics": {"accuracy": jd.metrics.accuracy, "balanced": jd.metrics.balanced_accuracy(2)},
}


def adam():
    rate = jd.schedules.warmup(jd.schedules.cosine(0.1, 40), 3)
    return optax.chain(jd.optimizers.clip_by_norm(1.0), jd.optimizers.adam(rate))


def trained(epochs=2, **how):
    how = {"optimizer": adam(), "key": 0, **HOW, **how}
    if "train_state" in how:
        del how["key"]
    return jd.fit(MODEL, (X, Y), epochs=epochs, batch_size=16, progress=False, **how)


@pytest.fixture(scope="module")
def half():
    return trained()


@pytest.fixture(scope="module")
def whole():
    return trained(epochs=4)


def values(leaf):
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(*map(values, (a, b)))


@pytest.mark.optimized
def test_a_run_goes_on_from_its_train_state_to_the_same_bits(half, whole):
    rest = trained(**half.training)
    same(whole.train_state, rest.train_state)
    np.testing.assert_array_equal(whole.history["loss"][2:], rest.history["loss"])
    assert not half.train_state.params["o"]["bias"].is_deleted()  # it was copied


@pytest.mark.optimized
@pytest.mark.parametrize("form", ["jaxdeep", "huggingface"])
def test_a_saved_run_goes_on_to_the_same_bits(tmp_path, half, whole, form):
    jd.save(tmp_path / "m", MODEL, half.params, half.state, training=half.training, form=form)
    model, params, state, training = jd.load(tmp_path / "m", training=True)
    assert model == MODEL
    same(training["train_state"], half.train_state)
    rest = trained(**training)
    same(whole.train_state, rest.train_state)
    assert list(rest.history) == list(whole.history)
    same((params, state), jd.load(tmp_path / "m")[1:])  # which does not ask for it
    again = tmp_path / "again"  # what was loaded can be saved
    jd.save(again, model, params, state, training=training)
    assert jd.load(again, training=True)[3].keys() == training.keys()


@pytest.mark.heavy
@pytest.mark.optimized
def test_it_goes_on_in_a_new_process(tmp_path, half, whole):
    jd.save(tmp_path / "m", MODEL, half.params, half.state, training=half.training)
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    script = f"""
        import jax, numpy as np, jaxdeep as jd
        model, _, _, training = jd.load({str(tmp_path / "m")!r}, training=True)
        data = np.load({str(tmp_path / "data.npz")!r})
        rest = jd.fit(model, (data["x"], data["y"]), **training, epochs=2, batch_size=16, progress=False)
        jd.save({str(tmp_path / "end")!r}, model, rest.params, rest.state, training=rest.training)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
    _, params, state, training = jd.load(tmp_path / "end", training=True)
    same((whole.params, whole.state), (params, state))
    same(whole.train_state, training["train_state"])


def test_the_file_says_what_it_is_made_of_and_holds_each_array_once(tmp_path, half):
    jd.save(tmp_path / "m", MODEL, half.params, half.state, training=half.training)
    about = json.loads((tmp_path / "m" / "model.json").read_text())
    assert about["format_version"] == 2
    chain = about["training"]["arguments"]["optimizer"]
    assert chain["made_by"] == {"function": "optax.chain"}
    assert chain["positional"][0] == {
        "made_by": {"function": "jaxdeep.optimizers.clip_by_norm"}, "positional": [1.0]
    }  # fmt: skip
    assert set(about["training"]["train_state"]) == {"step", "key", "opt_state"}


@pytest.mark.heavy
@pytest.mark.parametrize("options", [
    {"trainable": "o/*"},
    {"early_stopping": jd.train.EarlyStopping(patience=5, restore_best=True), "validation": (X, Y)},
    {"optimizer": optax.chain(adam(), jd.optimizers.ema_params(0.9)), "ema": True},
    {"class_weight": {1: 3.0}, "penalty": jd.regularizers.l2(0.01, where="*/kernel")},
    {"optimizer": optax.contrib.schedule_free_adamw(0.01)},
    {"phases": [(1, "o/*"), (2, None)]},
    {"phases": [(1, "o/*", 1e-2), (1, None, 1e-3)]},
    {"optimizer": jd.optimizers.low_precision(adam(), "bfloat16", min_size=2)},
    {"optimizer": optax.MultiSteps(optax.adam(1e-2), 2)},
    {"optimizer": optax.chain(adam(), jd.compress.keep_zeros())},
], ids=["trainable", "best", "ema", "weights", "schedule_free", "phases", "rates", "low_precision",
        "multi_steps", "keep_zeros"])  # fmt: skip
def test_all_that_decides_a_step_is_kept(tmp_path, options):
    epochs = 1 if "phases" in options else 2
    result = trained(epochs=epochs, **options)
    jd.save(tmp_path / "m", MODEL, result.params, result.state, training=result.training)
    training = jd.load(tmp_path / "m", training=True)[3]
    same(training["train_state"], result.train_state)
    here = trained(**result.training, epochs=1)
    there = trained(**training, epochs=1)
    same(here.train_state, there.train_state)
    if "class_weight" in options:
        assert training["class_weight"] == {1: 3.0}


RATED = {
    "a number": jd.optimizers.adam(1e-2),
    "a schedule": jd.optimizers.adam(jd.schedules.one_cycle(peak_value=0.01, transition_steps=24)),
    "a chain": adam(),
    "of optax": optax.chain(optax.clip(1.0), jd.optimizers.sgd(jd.schedules.cosine(0.1, 24))),
    "a function": jd.optimizers.adam,
}


@pytest.mark.optimized
@pytest.mark.few("a schedule")
@pytest.mark.parametrize("name", RATED)
def test_the_rate_that_a_phase_has_set_is_kept(tmp_path, name):
    run = functools.partial(jd.fit, MODEL, (X, Y), batch_size=16, progress=False)
    for phases in ([(1, "o/*", 1e-2), (1, None, 1e-3)], [(1, "o/*", 1e-3)]):
        result = run(optimizer=RATED[name], phases=phases, key=3, **HOW)
        jd.save(tmp_path / "m", MODEL, result.params, result.state, training=result.training)
        training = jd.load(tmp_path / "m", training=True)[3]
        there, here = run(**training, epochs=1), run(**result.training, epochs=1)
        same(there.train_state, here.train_state)
        np.testing.assert_allclose(there.history["learning_rate"], 1e-3, rtol=1e-6)


def test_the_names_alone_are_kept_without_a_train_state(tmp_path):
    params, state = MODEL.init(jax.random.key(0), X)
    jd.save(tmp_path / "m", MODEL, params, state, training={"optimizer": adam(), **HOW})
    training = jd.load(tmp_path / "m", training=True)[3]
    assert list(training) == ["optimizer", "loss", "metrics"]
    assert encode(training["optimizer"]) == encode(adam())
    assert training["loss"] is jd.losses.softmax_cross_entropy


@pytest.fixture
def registered():
    before = dict(jd.saving.registry._registered)
    yield
    jd.saving.registry._registered.clear()
    jd.saving.registry._registered.update(before)


def test_functions_of_ones_own_go_by_their_registered_names(tmp_path, registered):
    def my_loss(outputs, y):
        return jnp.abs(outputs - y)

    def my_optimizer():
        return optax.GradientTransformation(lambda params: (), lambda u, state, params=None: (u, state))

    params, state = (model := jd.nn.dense(1)).init(jax.random.key(0), X)
    save = functools.partial(jd.save, tmp_path / "m", model, params, state)
    with pytest.raises(
        ValueError, match=r"training\['loss'\]: .* has no name to be saved by.*'my_loss'"
    ):
        save(training={"loss": my_loss})
    with pytest.raises(ValueError, match=r"training\['optimizer'\]: .*pass the function that makes it"):
        save(training={"optimizer": my_optimizer()})
    with pytest.raises(ValueError, match=r"has no name to be saved by.*'my_optimizer'"):
        save(training={"optimizer": my_optimizer})
    assert not (tmp_path / "m").exists()
    jd.saving.register("my_loss", my_loss)
    jd.saving.register("my_optimizer", my_optimizer)
    save(training={"loss": my_loss, "optimizer": my_optimizer})
    training = jd.load(tmp_path / "m", training=True)[3]
    assert training["loss"] is my_loss
    assert training["optimizer"].update(3.0, ())[0] == 3.0
    save(training={"optimizer": functools.partial(optax.lbfgs, 0.5), "loss": my_loss})
    assert isinstance(
        jd.load(tmp_path / "m", training=True)[3]["optimizer"], optax.GradientTransformation
    )


@pytest.mark.heavy
def test_dicts_with_whole_numbers_as_names_are_kept(tmp_path):
    rate = optax.piecewise_constant_schedule(0.1, {3: 0.5, 6: 0.5})
    labels = {"h": 0, "bn": 1, "o": 1}
    optimizer = optax.multi_transform({0: jd.optimizers.sgd(rate), 1: optax.adam(0.01)}, labels)
    half = trained(2, optimizer=optimizer)
    jd.save(tmp_path / "m", MODEL, half.params, half.state, training=half.training)
    training = jd.load(tmp_path / "m", training=True)[3]
    same(trained(2, **training).train_state, trained(4, optimizer=optimizer).train_state)
    for odd in ([[1.5, 2]], [[True, 2]], [[[1], 2]], [1], {"a": 1}):
        with pytest.raises(ValueError, match="is not a value that jaxdeep writes"):
            decode({"pairs": odd})


@pytest.mark.few(2)
@pytest.mark.parametrize("make", [
    lambda: jd.optimizers.low_precision(optax.adam(0.1), "bfloat16", where="a", min_size=2),
    lambda: jd.optimizers.low_precision(adam(), min_size=2),
    lambda: jd.optimizers.at_learning_rate(adam(), 0.3),
    lambda: optax.MultiSteps(optax.adam(0.1), 2),
    lambda: optax.MultiSteps(jd.optimizers.adam(0.1), 2, use_grad_mean=False),
    lambda: optax.MultiSteps(adam(), 2).gradient_transformation(),
    lambda: optax.chain(
        optax.clip(1.0),
        optax.MultiSteps(
            optax.sgd(0.1), 2, should_skip_update_fn=optax.skip_not_finite, accumulator_dtype="bfloat16"
        ).gradient_transformation(),
    ),
])  # fmt: skip
def test_wrappers_with_settings_are_named(make):
    again = decode(json.loads(json.dumps(encode(make()))))
    assert type(again) is type(make())
    same_updates(make(), again)


def test_a_schedule_of_steps_without_a_name_is_refused():
    with pytest.raises(ValueError, match="has no name to be saved by"):
        encode(optax.MultiSteps(optax.adam(0.1), lambda step: 2 + step))


@pytest.mark.parametrize(("optimizer", "named"), [
    (optax.lbfgs(0.1), "optax.lbfgs makes .* pass functools.partial\\(optax.lbfgs, "),
    (optax.chain(optax.clip(1.0), optax.lbfgs(0.1)), "optax.lbfgs makes"),
    (optax.contrib.muon(0.1), "optax.contrib.muon makes .* functools.partial\\(optax.contrib.muon, "),
    (optax.inject_hyperparams(optax.adam)(0.1), "optax.inject_hyperparams makes .* pass the function"),
])  # fmt: skip
def test_an_optimizer_that_cannot_be_taken_apart_is_named(tmp_path, optimizer, named):
    params, state = (model := jd.nn.dense(1)).init(jax.random.key(0), X)
    with pytest.raises(ValueError, match=rf"training\['optimizer'\]: {named}") as refused:
        jd.save(tmp_path / "m", model, params, state, training={"optimizer": optimizer})
    assert "<function" not in str(refused.value)
    assert "locals" not in str(refused.value)


@pytest.mark.parametrize(("training", "message"), [
    ({}, "training is an empty dict: pass result.training, or leave it out"),
    ({"epochs": 3}, "training holds 'epochs', which is not saved; it may hold optimizer, loss"),
    ({"optimizer": 3}, r"training\['optimizer'\]"),
    ({"optimizer": functools.partial(jnp.ones, 3)}, "makes nothing that is saved"),
])  # fmt: skip
def test_what_fit_does_not_take_is_refused_before_anything_is_written(tmp_path, training, message):
    params, state = (model := jd.nn.dense(1)).init(jax.random.key(0), X)
    with pytest.raises((TypeError, ValueError), match=message):
        jd.save(tmp_path / "m", model, params, state, training=training)
    assert not list(tmp_path.iterdir())


def test_a_train_state_of_another_optimizer_is_refused(tmp_path, half):
    mixed = half.training | {"optimizer": jd.optimizers.sgd(0.1)}
    with pytest.raises(ValueError, match=r"state of another optimizer.*differ in"):
        jd.save(tmp_path / "m", MODEL, half.params, half.state, training=mixed)
    with pytest.raises(ValueError, match="train_state= holds the state of another optimizer"):
        trained(**mixed)
    training = {"train_state": half.train_state}
    with pytest.raises(ValueError, match="and no optimizer that it belongs to"):
        jd.save(tmp_path / "m", MODEL, half.params, half.state, training=training)


def test_a_train_state_of_another_model_is_refused(tmp_path, half):
    other = jd.nn.serial(h=jd.nn.dense(4), bn=jd.nn.batch_norm(), o=jd.nn.dense(3))
    params, state = other.init(jax.random.key(0), X)
    message = r"train_state of another model: its params\['o/bias'\] is \(2,\), .* model is \(3,\)"
    with pytest.raises(ValueError, match=message):
        jd.save(tmp_path / "m", other, params, state, training=half.training)
    plain = jd.nn.serial(h=MODEL.layers["h"], o=MODEL.layers["o"])
    params = {name: half.params[name] for name in ("h", "o")}
    with pytest.raises(ValueError, match=r"its params\['bn/bias'\] is \(4,\), .* model is absent"):
        jd.save(tmp_path / "m", plain, params, {}, training=half.training)
    assert not list(tmp_path.iterdir())


INJECTING = optax.inject_hyperparams(optax.adam)


@pytest.mark.few(1)
@pytest.mark.parametrize(("make", "way"), [
    (jd.optimizers.adam, r"jaxdeep\.optimizers\.set_hyperparams\(ts.opt_state, learning_rate=0.5\)"),
    (INJECTING, r"optax\.tree_utils\.tree_set\(.*learning_rate=jax\.numpy\.float32\(0.5\)\)"),
])  # fmt: skip
def test_other_numbers_of_the_optimizer_are_refused_where_the_state_would_keep_its_own(
    tmp_path, make, way
):
    old, new = make(0.01), make(0.5)
    half = trained(1, optimizer=old)
    other = half.training | {"optimizer": new}
    message = f"begins with learning_rate=0.5, and train_state= is of one that began with 0.01: .*{way}"
    with pytest.raises(ValueError, match=message):
        trained(1, **other)
    assert trained(1, **half.training | {"optimizer": make(0.01)}).stopped is None
    # as the message says: the number in the state is then the one that counts, whatever is passed
    ts = half.train_state
    if make is INJECTING:
        state = optax.tree_utils.tree_set(ts.opt_state, learning_rate=jnp.float32(0.5))
    else:
        state = jd.optimizers.set_hyperparams(ts.opt_state, learning_rate=0.5)
        with pytest.raises(ValueError, match=message):
            jd.save(tmp_path / "m", MODEL, half.params, half.state, training=other)
        jd.save(tmp_path / "m", MODEL, half.params, half.state, training=half.training)
        *_, training = jd.load(tmp_path / "m", training=True)
        with pytest.raises(ValueError, match=message):
            trained(1, **training | {"optimizer": new})
    ends = [
        trained(1, **half.training | {"optimizer": tx, "train_state": ts._replace(opt_state=state)})
        for tx in (old, new)
    ]
    same(*(end.params for end in ends))


@pytest.mark.heavy
def test_a_rate_that_a_plateau_or_phases_have_set_goes_on():
    sgd = jd.optimizers.sgd
    plateau = jd.train.ReduceOnPlateau(0.5, 1, "loss", min_delta=1e3)
    lowered = trained(3, optimizer=sgd(0.1), plateau=plateau)
    (rate,) = {float(jd.optimizers.hyperparams(lowered.train_state.opt_state)["learning_rate"])}
    assert rate < 0.1
    for passed in (sgd(0.1), sgd(rate)):  # that of before, and that of now
        rest = trained(1, **lowered.training | {"optimizer": passed})
        np.testing.assert_allclose(rest.history["learning_rate"], rate)
    with pytest.raises(ValueError, match=r"=0.3, and .* began with 0.1 \(now 0.0"):
        trained(1, **lowered.training | {"optimizer": sgd(0.3)})
    own = sgd(0.1)
    phases = jd.fit(MODEL, (X, Y), optimizer=own, key=0, phases=[(1, "o/*", 0.1), (1, None, 0.02)],
                    batch_size=16, progress=False, **HOW)  # fmt: skip
    rest = trained(1, **phases.training | {"optimizer": sgd(0.1)})
    np.testing.assert_allclose(rest.history["learning_rate"], 0.02, rtol=1e-6)


@pytest.mark.heavy
def test_what_to_do_about_losses_that_are_not_finite_goes_on(tmp_path):
    skipping = trained(1, on_nonfinite="skip")
    assert skipping.training["on_nonfinite"] == "skip"
    assert "skipped" in trained(1, **skipping.training).history
    jd.save(tmp_path / "m", MODEL, skipping.params, skipping.state, training=skipping.training)
    assert jd.load(tmp_path / "m", training=True)[-1]["on_nonfinite"] == "skip"
    assert "on_nonfinite" not in trained(1).training  # the default


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"key": 1}, ValueError, "train_state= is a whole run to go on from: drop key"),
    ({"params": {}}, ValueError, "drop params"),
    ({"phases": [(1,)]}, ValueError, "drop phases"),
    ({"validation": 0.2}, ValueError, "draws its rows by a key, and would draw others"),
    ({"train_state": {}}, TypeError, "train_state must be a jaxdeep.train.TrainState, got dict"),
])  # fmt: skip
def test_what_a_train_state_decides_is_refused(half, options, error, message):
    with pytest.raises(error, match=message):
        jd.fit(MODEL, (X, Y), **{**half.training, **options}, progress=False)


def test_without_a_train_state_there_must_be_a_key():
    with pytest.raises(
        TypeError, match=r"key must be a random key such as jax.random.key\(0\), got None"
    ):
        jd.fit(MODEL, (X, Y), optimizer=adam(), **HOW)


def test_files_without_it_say_so_and_damaged_ones_are_refused(tmp_path, half):
    jd.save(tmp_path / "m", MODEL, half.params, half.state)
    assert json.loads((tmp_path / "m" / "model.json").read_text())["format_version"] == 1
    with pytest.raises(ValueError, match="saved without what fit needs to go on"):
        jd.load(tmp_path / "m", training=True)
    jd.save(tmp_path / "n", MODEL, half.params, half.state, training=half.training)
    from jaxdeep.saving.files import _read
    from jaxdeep.saving.sealing import sealed

    document = _read(tmp_path / "n" / "model.json")
    arguments, ts = document["training"]["arguments"], document["training"]["train_state"]
    sgd = {"made_by": {"function": "jaxdeep.optimizers.sgd"}, "positional": [0.1]}
    for odd, message in (
        (
            {"arguments": arguments | {"loss": {"function": "os.system"}}},
            "is not the name of a function",
        ),
        ({"arguments": arguments | {"callbacks": []}}, "'callbacks', which is no argument"),
        (
            {"arguments": arguments | {"optimizer": {"made_by": {"function": "os.system"}}}},
            "makes nothing",
        ),
        (
            {"arguments": arguments | {"optimizer": {"function": "jax.nn.relu"}}},
            "optimizer must be an opt",
        ),
        ({"arguments": arguments | {"optimizer": sgd}, "train_state": ts}, "of another optimizer"),
        ({"arguments": arguments, "train_state": {"step": "int32[]"}}, "it differs in"),
    ):
        whole = {n: v for n, v in document.items() if n != "sha256"} | {"training": odd}
        (tmp_path / "n" / "model.json").write_bytes(sealed(whole))
        with pytest.raises(ValueError, match=message):
            jd.load(tmp_path / "n", training=True)


# --- what has a name -------------------------------------------------------------------------------


PARAMS = {"a": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.1, 0.2])}


def same_updates(one, other, params=PARAMS):
    """Whether two transformations do the same, over three updates."""
    value = lambda p: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))  # noqa: E731

    def moved(tx, params=params):
        tx, state = optax.with_extra_args_support(tx), None
        state = tx.init(params)
        for _ in range(3):
            loss, grads = jax.value_and_grad(value)(params)
            args = {"value": loss, "grad": grads, "value_fn": value, "obj_fn": value}
            updates, state = tx.update(grads, state, params, **args)
            params = optax.apply_updates(params, updates)
        return params

    same(moved(one), moved(other))


def factories():
    jds = [(f"jaxdeep.optimizers.{n}", f) for n, f in jd.optimizers.factories().items()]
    for module in (optax, optax.contrib):
        for name in sorted(vars(module)):
            function = getattr(module, name)
            if (
                inspect.isfunction(function)
                and "learning_rate" in inspect.signature(function).parameters
            ):
                jds.append((f"{module.__name__}.{name}", function))
    return jds


# Their functions remember what they were made of under other names: they are passed as partials.
UNNAMED = {"optax.lbfgs", "optax.novograd", "optax.contrib.dog", "optax.contrib.dowg",
           "optax.contrib.muon", "optax.contrib.sophia"}  # fmt: skip
NOT_COMPARED = {
    "optax.contrib.sam",
    "optax.contrib.dpsgd",
    "optax.dpsgd",
    "optax.noisy_sgd",
    "optax.optimistic_adam",
}


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore:Specifying a key")
@pytest.mark.parametrize(("name", "make"), factories())
def test_optimizers_by_name_and_arguments(name, make):
    parameters = inspect.signature(make).parameters
    needed = [p for p in parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    known = {"learning_rate": 0.01, "max_norm": 1.0, "max_delta": 1.0, "decay": 0.9, "momentum": 0.9,
             "factor": 0.1, "weight_decay": 0.1, "scale": 0.5, "where": "a",
             "optimizer": jd.optimizers.sgd(0.1), "fast_optimizer": jd.optimizers.sgd(0.1)}  # fmt: skip
    if any(p.name not in known for p in needed) or name in NOT_COMPARED:
        pytest.skip(f"{name} needs {[p.name for p in needed]}")
    tx = make(**{p.name: known[p.name] for p in needed})
    if name in UNNAMED:
        with pytest.raises(ValueError, match=r"ha(s|ve) no name"):
            encode(tx)
        return
    same_updates(tx, decode(json.loads(json.dumps(encode(tx)))))


def test_what_follows_an_optimizer_in_a_chain_by_name_and_arguments():
    params, _ = MODEL.init(jax.random.key(0), X[:1])
    of_layers = jd.transfer.layerwise_decay(MODEL, params, 0.5)
    for last in (of_layers, jd.compress.keep_zeros(), jd.compress.keep_zeros(["h/*", "o/kernel"])):
        tx = optax.chain(jd.optimizers.sgd(0.1), last)
        same_updates(tx, decode(json.loads(json.dumps(encode(tx)))), jax.tree.map(jnp.floor, params))


@pytest.mark.parametrize("name", ["export", "load_exported", "export_onnx"])
def test_a_document_cannot_have_files_read_or_written(name):
    with pytest.raises(ValueError, match=f"no function '{name}'"):
        decode({"made_by": {"function": f"jaxdeep.compress.{name}"}, "positional": ["/tmp/a"]})


@pytest.mark.parametrize("rate", [
    optax.cosine_decay_schedule(0.1, 5), jd.schedules.one_cycle(0.1, 9), jnp.float32(0.05),
])  # fmt: skip
def test_optimizers_of_optax_with_schedules(rate):
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=0.1))
    same_updates(tx, decode(json.loads(json.dumps(encode(tx)))))


@pytest.mark.few(4)
@pytest.mark.parametrize("schedule", [
    jd.schedules.constant(0.1), jd.schedules.power(0.1, transition_steps=5),
    jd.schedules.exponential(0.1, 5, 0.5), jd.schedules.piecewise_constant([2, 4], [1.0, 0.5, 0.1]),
    jd.schedules.cosine(0.1, 9), jd.schedules.coslog4(0.1, 9), jd.schedules.flat_cos(0.1, 9),
    jd.schedules.one_cycle(0.1, 9), jd.schedules.one_cycle_momentum(9),
    jd.schedules.cosine_restarts(0.1, 3), jd.schedules.per_epoch(jd.schedules.cosine(0.1, 3), 2),
    jd.schedules.join([jd.schedules.constant(0.1), jd.schedules.cosine(0.1, 5)], [3]),
])  # fmt: skip
def test_schedules_by_name_and_arguments(schedule):
    again = decode(json.loads(json.dumps(encode(schedule))))
    steps = jnp.arange(12)
    np.testing.assert_array_equal(jax.vmap(schedule)(steps), jax.vmap(again)(steps))


@pytest.mark.parametrize("penalty", [
    jd.regularizers.l1(0.1), jd.regularizers.l2(0.1, where="a"), jd.regularizers.l1_l2(0.1, 0.2),
    jd.regularizers.total(jd.regularizers.l1(0.1), jd.regularizers.l2(0.1)),
])  # fmt: skip
def test_penalties_by_name_and_arguments(penalty):
    params = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([3.0])}
    assert penalty(params) == decode(json.loads(json.dumps(encode(penalty))))(params)


@pytest.mark.few(1)
@pytest.mark.parametrize("metric", [
    jd.metrics.balanced_accuracy(3), jd.metrics.cohen_kappa(3), jd.metrics.log_loss(from_logits=True),
    jd.metrics.mean(functools.partial(jd.losses.huber, delta=2.0)),
])  # fmt: skip
def test_metrics_by_name_and_arguments(metric):
    outputs = jax.random.normal(jax.random.key(0), (20, 3))
    y = jnp.arange(20) % 3 if "of_mean" not in vars(metric.update) else outputs + 1
    again = decode(json.loads(json.dumps(encode(metric))))
    one, other = (m.compute(m.update(m.init(), outputs, y)) for m in (metric, again))
    np.testing.assert_array_equal(one, other)


def test_a_tuple_that_was_changed_is_not_taken_for_what_was_made():
    changed = jd.metrics.r2()._replace(init=dict)
    with pytest.raises(ValueError, match="was made by a function that has no name"):
        encode(changed)
