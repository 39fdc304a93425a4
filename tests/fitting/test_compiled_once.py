"""A process compiles a run once: what is the same is found again, and nothing else ever is."""

import gc
import weakref

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.compilations import nothing_compiled, work
from helpers.runs import KEY, identical
from helpers.runs import X as ROWS
from helpers.runs import Y as LABELS

import jaxdeep as jd
from jaxdeep import _compilation

X, Y = ROWS[:96], LABELS[:96]  # whole batches: one step to compile


def network(rate=0.2, activation=jax.nn.relu, features=8):
    return jd.nn.serial(
        hidden=jd.nn.dense(features, activation=activation),
        bn=jd.nn.batch_norm(momentum=0.9),
        drop=jd.nn.dropout(rate),
        out=jd.nn.dense(2),
    )


def fit(model=None, data=(X, Y), **changes):
    usual = {
        "loss": jd.losses.softmax_cross_entropy,
        "optimizer": jd.optimizers.adam(0.01),
        "metrics": {"accuracy": jd.metrics.accuracy},
        "validation": data,
        "epochs": 2,
        "batch_size": 16,
        "key": KEY,
        "progress": False,
    }
    return jd.fit(model or network(), data, **usual | changes)


def quick(**changes):
    """As few and as small programs as a run can have."""
    usual = {
        "model": jd.nn.serial(out=jd.nn.dense(2)),
        "optimizer": jd.optimizers.sgd(1e-3),
        "metrics": {},
        "validation": None,
        "shuffle": False,
        "epochs": 1,
    }
    return fit(**usual | changes)


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """What other modules compiled; that of `fit()` stays from one test to the next."""
    _compilation.forget()
    yield
    _compilation.forget()


def chain(rate, decay):
    return optax.chain(
        jd.optimizers.clip_by_global_norm(1.0), jd.optimizers.adamw(rate, weight_decay=decay)
    )


ALIKE = {
    "another learning rate": {"optimizer": jd.optimizers.adam(0.1)},
    "another seed": {"key": jax.random.key(5)},
    "another number of epochs": {"epochs": 5},
    "a callback": {"callbacks": [lambda now: None]},
    "other labels": {"data": (X, 1 - Y)},
    "other inputs": {"data": (X + 1, Y)},
    "the same again": {},
}


@pytest.mark.few(1)
@pytest.mark.parametrize("changes", ALIKE.values(), ids=ALIKE)
def test_what_differs_in_numbers_alone_is_not_compiled_again(changes):
    fit()
    with nothing_compiled():
        fit(**changes)


def test_a_program_found_again_computes_what_one_of_its_own_does():
    changes = {name: value for change in ALIKE.values() for name, value in change.items()}
    fit()
    with nothing_compiled():
        found = fit(**changes)
    _compilation.forget()
    alone = fit(**changes)
    identical(found.params, alone.params)
    identical(found.history, alone.history)


def test_a_model_made_again_is_the_same_model():
    fit(network())
    with nothing_compiled():
        fit(network())


@pytest.mark.heavy
def test_weight_decay_inside_a_chain_of_optax_is_a_number_too():
    quick(optimizer=chain(0.01, 1e-4))
    with nothing_compiled():
        quick(optimizer=chain(0.02, 1e-2))


@pytest.mark.heavy
def test_rates_of_phases_are_numbers_too():
    def in_phases(*rates):
        phases = [(1, where, rate) for where, rate in zip(("out/*", None), rates)]
        return quick(phases=phases, epochs=1).history["learning_rate"]

    in_phases(0.1, 0.01)
    with nothing_compiled():
        found = in_phases(0.2, 0.02)
    np.testing.assert_allclose(found, [0.2, 0.02], rtol=1e-6)


def test_patience_and_the_numbers_of_a_plateau_are_arguments():
    def monitors(patience, factor):
        return {
            "early_stopping": jd.train.EarlyStopping(patience=patience),
            "plateau": jd.train.ReduceOnPlateau(factor=factor, patience=patience),
        }

    shared = {"epochs": 4, "validation": (X, Y)}
    quick(**shared, **monitors(1, 0.5))
    with nothing_compiled():
        result = quick(**shared, **monitors(3, 0.1))
    _compilation.forget()
    identical(result.history, quick(**shared, **monitors(3, 0.1)).history)


def scaled(constant):
    return lambda outputs, y: constant * jd.losses.softmax_cross_entropy(outputs, y)


DIFFERENT = {
    "rate of dropout": {"model": network(rate=0.3)},
    "width": {"model": network(features=9)},
    "activation": {"model": network(activation=jnp.tanh)},
    "rule": {"optimizer": jd.optimizers.nadam(0.01)},
    "static setting of a rule": {"optimizer": jd.optimizers.adam(0.01, eps_mode="uncorrected")},
    "schedule": {"optimizer": jd.optimizers.adam(lambda step: 0.01 / (1 + step))},
    "class weight": {"class_weight": {0: 1.0, 1: 5.0}},
    "loss": {"loss": scaled(2.0)},
    "penalty": {"penalty": jd.regularizers.l2(0.1)},
    "metric": {"metrics": {"accuracy": jd.losses.softmax_cross_entropy}},
    "batch size": {"batch_size": 20},
    "order": {"shuffle": False},
    "dtype": {"data": (X.astype(jnp.bfloat16), Y)},
    "rows": {"data": (X[:90], Y[:90])},
    "frozen": {"trainable": "out/*"},
    "micro-batches": {"accumulation_steps": 2},
    "augmentation": {"augment": lambda key, batch: (batch[0] + 1, batch[1])},
    "restoring": {"early_stopping": jd.train.EarlyStopping(patience=1, restore_best=False)},
}


@pytest.mark.heavy
@pytest.mark.parametrize("changes", DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_in_anything_else_is_compiled_anew(changes):
    fit()
    before = work("backend_compile")
    fit(**changes)
    assert work("backend_compile") > before


@pytest.mark.heavy
@pytest.mark.parametrize("changes", DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_computes_beside_others_what_it_does_alone(changes):
    _compilation.forget()
    expected = fit(**changes)
    _compilation.forget()
    fit()
    result = fit(**changes)
    identical(result.params, expected.params)
    identical(result.history, expected.history)


@pytest.mark.heavy
def test_a_constant_in_a_closure_is_part_of_the_function():
    one, two = (quick(loss=scaled(constant)) for constant in (1.0, 2.0))
    np.testing.assert_allclose(2 * one.history["loss"][0], two.history["loss"][0], rtol=0.05)


def loss_of_today(outputs, y):
    return jd.losses.softmax_cross_entropy(outputs, y)


def loss_of_tomorrow(outputs, y):
    return 10 * jd.losses.softmax_cross_entropy(outputs, y)


def test_code_that_was_replaced_in_place_is_compiled_anew(monkeypatch):
    """As a notebook does whose modules are loaded again while it runs."""
    data, params, state = (X, Y), *network().init(KEY, X)
    how = {"loss": loss_of_today, "batch_size": 16}
    before = jd.evaluate(network(), params, state, data, **how)["loss"], quick(**how).history["loss"][0]
    monkeypatch.setattr(loss_of_today, "__code__", loss_of_tomorrow.__code__)
    after = jd.evaluate(network(), params, state, data, **how)["loss"], quick(**how).history["loss"][0]
    assert after[0] == pytest.approx(10 * before[0], rel=1e-5)
    assert after[1] > 5 * before[1]


CONSTANT = 1.0


def rescaled(outputs, y):
    return CONSTANT * jd.losses.softmax_cross_entropy(outputs, y)


@pytest.mark.heavy
def test_a_variable_that_was_changed_makes_another_function(monkeypatch):
    one = quick(loss=rescaled, epochs=1)
    with nothing_compiled():
        quick(loss=rescaled, epochs=1)
    monkeypatch.setitem(globals(), "CONSTANT", 3.0)
    three = quick(loss=rescaled, epochs=1)
    np.testing.assert_allclose(3 * one.history["loss"], three.history["loss"], rtol=0.2)
    assert three.history["loss"][0] > 2 * one.history["loss"][0]


@pytest.mark.heavy
def test_an_object_that_holds_another_value_is_another_function(monkeypatch):
    class Loss:
        weight = 1.0

        def __call__(self, outputs, y):
            return self.weight * jd.losses.softmax_cross_entropy(outputs, y)

    loss = Loss()
    one = quick(loss=loss, epochs=1)
    with nothing_compiled():
        quick(loss=loss, epochs=1)
    loss.weight = 3.0
    assert quick(loss=loss, epochs=1).history["loss"][0] > 2 * one.history["loss"][0]
    other = Loss()
    one = quick(loss=other, epochs=1)
    monkeypatch.setattr(Loss, "weight", 3.0)
    assert quick(loss=other, epochs=1).history["loss"][0] > 2 * one.history["loss"][0]


class Weights:
    def __getitem__(self, index):
        return CONSTANT


WEIGHTS = Weights()


def test_a_variable_that_an_operator_reads_makes_another_function(monkeypatch):
    def loss(outputs, y):
        return WEIGHTS[0] * jd.losses.softmax_cross_entropy(outputs, y)

    one = quick(loss=loss)
    with nothing_compiled():
        quick(loss=loss)
    monkeypatch.setitem(globals(), "CONSTANT", 3.0)
    assert quick(loss=loss).history["loss"][0] > 2 * one.history["loss"][0]


def test_a_function_that_counts_its_traces_is_traced_once():
    traces = []

    def loss(outputs, y):
        traces.append(outputs)
        return jd.losses.softmax_cross_entropy(outputs, y)

    quick(loss=loss)
    count = len(traces)
    with nothing_compiled():
        quick(loss=loss, optimizer=jd.optimizers.sgd(0.1), epochs=3)
        quick(loss=loss, key=jax.random.key(3))
    assert len(traces) == count


@pytest.mark.heavy
def test_what_a_callback_changes_makes_another_function():
    weight = [1.0]

    def loss(outputs, y):
        return weight[0] * jd.losses.softmax_cross_entropy(outputs, y)

    one = quick(loss=loss, epochs=3, callbacks=[lambda now: weight.__setitem__(0, 3.0)])
    three = quick(loss=loss, epochs=1)
    assert three.history["loss"][0] > 2 * one.history["loss"][0]


def test_what_a_callback_changes_within_an_epoch_makes_another_function():
    weight = [1.0]

    def loss(outputs, y):
        return weight[0] * jd.losses.softmax_cross_entropy(outputs, y)

    one = quick(loss=loss, steps_per_call=1, callbacks=[lambda now: weight.__setitem__(0, 3.0)])
    three = quick(loss=loss, steps_per_call=1)
    assert three.history["loss"][0] > 2 * one.history["loss"][0]


@pytest.mark.parametrize("at", [1, 5])
def test_what_a_loader_changes_makes_another_function(at):
    """Before the program is traced, and after."""
    weight = [1.0]

    def loss(outputs, y):
        return weight[0] * jd.losses.softmax_cross_entropy(outputs, y)

    def loader(place):
        for i in range(6):
            if i == place:
                weight[0] = 3.0
            yield X[16 * i : 16 * (i + 1)], Y[16 * i : 16 * (i + 1)]

    model, sgd = jd.nn.dense(2), jd.optimizers.sgd(1e-3)
    params, state = model.init(KEY, X[:1])

    def fitted(place):
        run = jd.fit(model, loader(place), loss=loss, optimizer=sgd, epochs=1, key=KEY, progress=False)
        return run.history["loss"][0]

    def evaluated(place):
        return jd.evaluate(model, params, state, loader(place), loss=loss)["loss"]

    for use in fitted, evaluated:
        found = {}
        for value in 1.0, 3.0:
            _compilation.forget()
            weight[0] = value
            found[value] = use(None)
        _compilation.forget()
        weight[0] = 1.0
        use(at)
        assert use(None) == found[3.0]
        weight[0] = 1.0
        assert use(None) == found[1.0]


def test_random_numbers_of_numpy_are_drawn_anew():
    def init(key, shape, dtype=jnp.float32):
        return jnp.asarray(np.random.normal(size=shape), dtype)  # noqa: NPY002

    model = jd.nn.dense(2, kernel_init=init)
    np.random.seed(0)  # noqa: NPY002
    one, other = quick(model=model).params["kernel"], quick(model=model).params["kernel"]
    assert np.abs(one - other).max() > 0.1


def test_labels_outside_the_classes_are_refused_by_the_second_run_too():
    quick()
    with pytest.raises(ValueError, match=r"labels must be in \[0, 2\)"):
        quick(data=(X, Y + 1))


def test_settings_of_jax_are_part_of_a_program():
    quick()
    before = work("backend_compile")
    with jax.default_matmul_precision("bfloat16"):
        quick()
    assert work("backend_compile") > before


@pytest.mark.parametrize(
    "name",
    [
        "jax_disable_most_optimizations",
        "jax_random_seed_offset",
        "jax_high_dynamic_range_gumbel",
    ],
)
def test_settings_that_no_context_changes_are_read_too(name):
    if name not in jax.config.values:
        pytest.skip(f"this JAX has no {name}")
    before, was = _compilation.settings(), jax.config.values[name]
    jax.config.update(name, type(was)(not was))
    try:
        assert _compilation.settings() != before
    finally:
        jax.config.update(name, was)
    assert _compilation.settings() == before


@pytest.mark.few(1)
@pytest.mark.parametrize("changes", [{"stream": True}, {"epochs_per_call": 2}, {"diagnostics": 3}])
def test_every_way_to_drive_a_run_finds_its_programs_again(changes):
    quick(**changes)
    with nothing_compiled():
        quick(optimizer=jd.optimizers.sgd(0.5), **changes)


def few_layers():
    return jd.nn.serial(drop=jd.nn.dropout(0.2), out=jd.nn.dense(2))


@pytest.mark.heavy
def test_tools_find_their_programs_again():
    model, x = few_layers(), jnp.asarray(X)
    params, state = model.init(KEY, x)

    def tools(rate, seed):
        key = jax.random.key(seed)
        jd.uncertainty.mc_dropout(few_layers(), params, state, x, key=key, samples=3)
        jd.diagnostics.gradient_flow(
            model,
            params,
            state,
            (x, Y),
            loss=jd.losses.softmax_cross_entropy,
            key=key,
        )
        jd.diagnostics.find_learning_rate(
            model,
            (x, Y),
            loss=jd.losses.softmax_cross_entropy,
            optimizer=jd.optimizers.sgd(rate),
            key=key,
            low=rate * 1e-3,
            high=rate * 10,
            steps=20,
        )

    tools(0.1, 0)
    with nothing_compiled():
        tools(0.2, 1)


@pytest.mark.heavy
@pytest.mark.parametrize("strategy", ["threads", "vmap"])
def test_a_sweep_of_other_rates_finds_the_programs_of_another(strategy):
    def losses(rates, rate=0.2):
        table = jd.sweep(
            lambda hp: jd.optimizers.adam(hp["rate"]),
            {"rate": rates},
            **{"model": network(rate), "data": (X, Y), "loss": jd.losses.softmax_cross_entropy},
            **{"epochs": 2, "batch_size": 16, "strategy": strategy, "progress": False},
        )
        return np.array([row["loss"] for row in table.rows()])

    first = losses([1e-3, 1e-2])
    before = work("backend_compile")
    others = losses([1e-2, 1e-1])
    assert work("backend_compile") == before
    np.testing.assert_allclose(others[0], first[1], rtol=1e-6)
    assert others[1] != first[0]
    losses([1e-3, 1e-2], rate=0.3)  # another program
    assert work("backend_compile") > before


def test_another_hyperparameter_is_another_range_test():
    def losses(momentum):
        optimizer = jd.optimizers.nag(0.1, momentum=momentum)
        loss = jd.losses.softmax_cross_entropy
        return jd.diagnostics.find_learning_rate(
            few_layers(), (X, Y), loss=loss, optimizer=optimizer, key=KEY, steps=20
        ).losses

    assert not np.array_equal(losses(0.9), losses(0.0), equal_nan=True)


@pytest.mark.heavy
def test_nothing_of_a_run_is_kept_alive():
    def leave():
        big = jnp.ones((50_000,))
        loss = lambda outputs, y: jd.losses.softmax_cross_entropy(outputs, y) + 0 * big[0]  # noqa: E731
        data = np.asarray(X) + 1, np.asarray(Y)
        result = quick(data=data, loss=loss, epochs=1)
        params = jax.tree.leaves(result.params)[0]
        return [weakref.ref(thing) for thing in (loss, data[0], params)]

    gone = leave()
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3


@pytest.mark.heavy
def test_eleven_optimizers_find_their_programs_again():
    """As a comparison by hand has them: each with validation and a metric, two rounds."""
    names = ["sgd", "nag", "adagrad", "rmsprop", "adam", "adamw", "adamax", "nadam", "lion", "nadamw"]
    factories = [*(getattr(jd.optimizers, name) for name in names), optax.adadelta]
    model = network()
    for factory in factories:
        fit(model, optimizer=factory(1e-3))
    with nothing_compiled():
        for factory in factories[:-1]:  # a rate of optax' own is a constant of its program
            fit(model, optimizer=factory(1e-2))
        fit(model, optimizer=factories[-1](1e-3))


def test_the_programs_that_are_kept_are_bounded():
    x = jnp.ones(3)
    for number in range(2 * _compilation._MOST):
        _compilation.kept(_compilation.Key(("number", number), (), usable=True), object, x)
    assert len(_compilation._kept) == _compilation._MOST


@pytest.mark.heavy
def test_a_step_of_a_loop_of_your_own_is_traced_once():
    model, optimizer = network(), jd.optimizers.adam(0.1)
    objective = jd.train.supervised(model, jd.losses.softmax_cross_entropy)
    step = jax.jit(chex.assert_max_traces(jd.train.make_step(objective, optimizer), n=1))
    ts = jd.train.init(model, optimizer, X[:1], key=KEY)
    for _ in range(3):
        ts, _ = step(ts, (X, Y))
    chex.assert_tree_all_finite(ts.params)
