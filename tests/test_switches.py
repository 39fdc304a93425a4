"""JAX' own switches, with which people debug: a run with one has the numbers of a run without."""

import contextlib
import functools
import json
import pathlib
import tempfile

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from helpers.properties import over
from helpers.tracing import checking_leaks

import jaxdeep as jd
from jaxdeep.__main__ import main
from jaxdeep._compat import enable_x64

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3)).astype(np.float32)
Y = (X[:, 0] > X[:, 1]).astype(np.int32)
OPTIONS = {
    "loss": jd.losses.softmax_cross_entropy,
    "validation": (X, Y),
    "batch_size": 8,
    "progress": False,
}


def network():
    return jd.nn.serial(
        hidden=jd.nn.dense(4, activation=jax.nn.relu), drop=jd.nn.dropout(0.2), out=jd.nn.dense(2)
    )


def fit(_):
    result = jd.fit(
        network(),
        (X, Y),
        optimizer=jd.optimizers.adam(0.01),
        key=KEY,
        epochs=3,
        validate_every=2,
        early_stopping=jd.train.EarlyStopping(patience=3),
        **OPTIONS,
    )
    return result.params, dict(result.history)


def sweep(_):
    rates = {"learning_rate": [0.01, 0.1]}
    options = {"model": network(), "data": (X, Y), "epochs": 1, **OPTIONS}
    table = jd.sweep(lambda hp: jd.optimizers.sgd(hp["learning_rate"]), rates, **options)
    return [(result.params, dict(result.history)) for result in table.results]


def population(_):
    options = {"model": network(), "data": (X, Y), "epochs": 2, "every": 1, "key": KEY, **OPTIONS}
    result = jd.search.population(
        lambda hp: jd.optimizers.adam(hp["learning_rate"]),
        {"learning_rate": [0.001, 0.01, 0.1, 1.0]},
        ranges={"learning_rate": (0.001, 1.0)},
        **options,
    )
    return result.params, dict(result.history), result.lineage


def mc_dropout(_):
    return tuple(jd.uncertainty.mc_dropout(network(), *PARAMS, X, KEY, samples=2))


def compare(folder):
    np.savez(folder / "small.npz", x=X, y=Y)
    out = pathlib.Path(tempfile.mkdtemp(dir=folder))  # another switch is another sweep
    shared = ["--data", str(folder / "small.npz"), "--out", str(out / "results")]
    shared += ["--epochs", "1", "--budget", "1", "--seeds", "2", "--batch-size", "4"]
    main(["compare", "--optimizers", "sgd", *shared])
    results = json.loads((out / "results" / "results.json").read_text())
    return results["values"]


PARAMS = jax.tree.map(np.asarray, network().init(KEY, X[:1]))
CALLS = {
    "fit": fit,
    "sweep": sweep,
    "population": population,
    "mc_dropout": mc_dropout,
    "compare": compare,
}


SWITCHES = {
    "debug_nans": lambda: jax.debug_nans(True),
    "disable_jit": jax.disable_jit,
    "rank_promotion": lambda: jax.numpy_rank_promotion("raise"),
    "transfer_guard": lambda: jax.transfer_guard("disallow"),
    "tracer_leaks": checking_leaks,
    "x64": lambda: enable_x64(True),
    "threefry": contextlib.nullcontext,  # both ways, below
}


@functools.cache
def without(call):
    """The numbers of a call without any switch."""
    with tempfile.TemporaryDirectory() as folder:
        return jax.tree.map(np.asarray, CALLS[call](pathlib.Path(folder)))


@pytest.mark.heavy
@pytest.mark.few(1)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("switch", SWITCHES)
def test_the_numbers_are_those_without_the_switch(switch, call, tmp_path):
    if switch == "threefry":
        for partitionable in (False, True):
            with jax.threefry_partitionable(partitionable):
                for leaf in jax.tree.leaves(CALLS[call](tmp_path)):
                    assert np.isfinite(leaf).any()
        return
    check_same(without(call), SWITCHES[switch], lambda: CALLS[call](tmp_path), switch)


@pytest.mark.heavy
def test_tools_run_under_a_transfer_guard():
    data = {"loss": OPTIONS["loss"], "key": KEY}
    rates = {"optimizer": jd.optimizers.sgd(0.1), "steps": 20, "batch_size": 8}

    def found():
        test = jd.diagnostics.find_learning_rate(network(), (X, Y), **rates, **data)
        return test.losses, dict(jd.diagnostics.gradient_flow(network(), *PARAMS, (X, Y), **data))

    check_same(found(), SWITCHES["transfer_guard"], found, "transfer_guard")


def check_same(expected, turned, call, switch):
    with turned():
        found = call()
    # float32 data stay float32, but sums and scalars are float64; operations one by one round otherwise
    rounded = {"rtol": 1e-4, "atol": 1e-5}
    tolerance = {"x64": rounded, "disable_jit": rounded}.get(switch)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 0}))


VARIED = {
    "batch_size": st.sampled_from([4, 8, 20]),
    "epochs": st.integers(1, 4),
    "validate_every": st.integers(1, 3),
    "accumulation_steps": st.sampled_from([2, 4]),
    "epochs_per_call": st.integers(1, 2),
    "early_stopping": st.just(jd.train.EarlyStopping(monitor="loss", patience=1)),
    "plateau": st.just(jd.train.ReduceOnPlateau(monitor="loss", patience=1)),
    "class_weight": st.just({0: 1.0, 1: 2.0}),
    "on_nonfinite": st.sampled_from(["raise", "skip", "stop"]),
    "penalty": st.just(jd.regularizers.l2(0.01)),
    "metrics": st.just({"accuracy": jd.metrics.accuracy, "f1": jd.metrics.f1(class_id=1)}),
    "diagnostics": st.integers(1, 3),
    "stream": st.booleans(),
    "trainable": st.just("out/*"),
}


@over(
    0,
    12,
    switch=st.sampled_from(sorted(set(SWITCHES) - {"threefry"})),
    options=st.fixed_dictionaries({}, optional=VARIED),
    seed=st.integers(0, 100),
)
def test_any_small_fit_has_the_numbers_without_the_switch(switch, options, seed):
    usual = {"optimizer": jd.optimizers.adam(0.01), "key": jax.random.key(seed)}

    def run():
        result = jd.fit(network(), (X, Y), **usual | OPTIONS | options)
        return result.params, dict(result.history)

    check_same(run(), SWITCHES[switch], run, switch)


@pytest.mark.heavy
def test_a_thread_of_a_sweep_has_the_settings_of_its_caller():
    seen = []

    def loss(outputs, y):
        seen.append((jax.config.jax_numpy_rank_promotion, jax.config.jax_threefry_partitionable))
        return jd.losses.softmax_cross_entropy(outputs, y)

    with jax.numpy_rank_promotion("raise"), jax.threefry_partitionable(False):
        options = {"model": network(), "data": (X, Y), "epochs": 1, **OPTIONS, "loss": loss}
        jd.sweep(lambda hp: jd.optimizers.sgd(0.1), {"name": ["a"]}, strategy="threads", **options)
    assert set(seen) == {("raise", False)}


@pytest.mark.heavy
def test_a_checkpoint_of_a_run_with_debug_nans_is_that_of_one_without(tmp_path):
    def run(epochs, folder):
        options = {"epochs": epochs, "validate_every": 2, "checkpoint": folder, **OPTIONS}
        optimizer = jd.optimizers.sgd(0.1)
        return jd.fit(network(), (X, Y), optimizer=optimizer, key=KEY, **options).history

    run(3, tmp_path / "a")
    with jax.debug_nans(True):
        run(3, tmp_path / "b")
        resumed = run(5, tmp_path / "a")
    continued = run(5, tmp_path / "b")
    for name, values in resumed.items():
        np.testing.assert_array_equal(values, continued[name])
    assert np.isnan(continued["val_loss"]).tolist() == [True, False, True, False, False]


SCORES = np.array([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0], [0.2, 0.1, 0.0], [1.0, 4.0, 0.0]], np.float32)
CLASSES = np.array([0, 2, 1, 0])
SHARES = np.array([[0.5, 0.25, 0.25]] * 3 + [[0.1, 0.9, 0.0]], np.float32)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("metric", "y"),
    [
        (jd.metrics.cohen_kappa(3, weights="quadratic"), CLASSES),
        (jd.metrics.matthews_corrcoef(3), CLASSES),
        (jd.metrics.balanced_accuracy(3), CLASSES),
        (jd.metrics.f1(classes=3, average="weighted"), CLASSES),
        (jd.metrics.brier(from_logits=True), CLASSES),
        (jd.metrics.log_loss(from_logits=True), SHARES),
        (jd.metrics.r2(3), SHARES),
        (jd.metrics.rmse(3), SHARES),
        (jd.metrics.mean(jd.losses.multiclass_hinge), CLASSES),
        (jd.metrics.mean(jd.losses.categorical_hinge), CLASSES),
        (jd.metrics.mean(functools.partial(jd.losses.softmax_focal, alpha=(1.0, 2.0, 3.0))), SHARES),
        (jd.metrics.mean(jd.losses.kl_divergence), SHARES),
    ],
)
def test_metrics_broadcast_where_it_is_meant(metric, y):
    def value():
        state = metric.update(metric.init(), SCORES, y, np.array([1.0, 2.0, 0.0, 1.0], np.float32))
        return metric.compute(metric.merge(metric.init(), state))

    expected = value()
    with jax.numpy_rank_promotion("raise"):
        np.testing.assert_array_equal(value(), expected)


@pytest.mark.parametrize("output", [None, "tanh"])
def test_recipes_of_several_targets_broadcast_where_it_is_meant(output):
    recipe = jd.nn.mlp("regression", targets=SHARES, hidden=(2,), output=output)
    params, state = recipe.model.init(KEY, SCORES)

    def value():
        found, _ = recipe.model.apply(params, state, SCORES)
        return recipe.loss(found, SHARES)

    expected = value()
    with jax.numpy_rank_promotion("raise"):
        np.testing.assert_allclose(value(), expected, rtol=1e-6)


def test_missing_values_and_empty_bins_are_no_mistakes():
    holes, bins = X.copy(), np.eye(2, dtype=np.float32)[Y]
    holes[3, 1] = np.nan
    params, state = network().init(KEY, X)
    expected = jd.uncertainty.expected_calibration_error(bins, Y)
    with jax.debug_nans(True):
        for make in (jd.preprocessing.standard_scaler, jd.preprocessing.imputer):
            transform = make()
            transform.transform(transform.fit(holes), holes)
        assert jd.uncertainty.expected_calibration_error(bins, Y) == expected
        jd.diagnostics.gradient_flow(network(), params, state, (X, Y), loss=OPTIONS["loss"])


# A regression that explodes at a rate of 1e30, and learns at 0.01.
EXPLODING = {
    "model": jd.nn.dense(1),
    "data": (X, X[:, :1]),
    "loss": jd.losses.mse,
    "batch_size": 4,
    "progress": False,
}


@pytest.mark.parametrize("mode", ["stop", "skip", "ignore"])
def test_a_run_that_expects_nan_is_the_same_with_debug_nans(mode):
    options = {"optimizer": jd.optimizers.sgd(1e30), "key": KEY, "epochs": 3, "on_nonfinite": mode}

    def diverging():
        result = jd.fit(**EXPLODING, **options)
        assert not all(np.isfinite(values).all() for values in result.history.values())
        return result.params, dict(result.history)

    expected = diverging()
    with jax.debug_nans(True):
        found = diverging()
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_nan_that_debug_nans_finds_is_named():
    wrong = np.full((4, 3), np.nan, np.float32)
    params, state = EXPLODING["model"].init(KEY, X)
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match=r"jax_debug_nans.*disable_jit"):
        jd.fit(**EXPLODING, optimizer=jd.optimizers.sgd(1e30), key=KEY, epochs=3)
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="jax_debug_nans"):
        jd.predict(EXPLODING["model"], params, state, wrong)


@pytest.mark.few(1)
@pytest.mark.parametrize("strategy", ["vmap", "threads"])
def test_a_row_that_diverges_under_debug_nans_leaves_the_others(strategy):
    def ends():
        rates = {"rate": [1e-2, 1e30]}
        options = {"epochs": 3, "strategy": strategy, **EXPLODING}
        table = jd.sweep(lambda hp: jd.optimizers.sgd(hp["rate"]), rates, **options)
        return [(result.ended, result.history["loss"]) for result in table.results]

    expected = ends()
    with jax.debug_nans(True):
        found = ends()
    assert [ended for ended, _ in found] == ["finished", "diverged"]
    for (_, one), (_, other) in zip(found, expected):
        np.testing.assert_array_equal(one, other)
