"""Fitted preprocessors as layers: what `transform` computes, untrained, saved with the network."""

import json
import pathlib
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdeep as jd
from jaxdeep._compat import enable_x64
from jaxdeep._identity import is_same

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "prepared"
nn, pre = jd.nn, jd.preprocessing
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.lognormal(size=(40, 3)).astype(np.float32)
HOLES = np.where(RNG.random(X.shape) < 0.2, np.nan, X).astype(np.float32)
Y = (X[:, 0] > 1).astype(np.float32)
LEVELS = RNG.integers(0, 3, (40, 2)).astype(np.int32)
DAYS = np.array(["2020-01-02T03", "2021-05-06T07", "NaT"], "M8[h]")


def of_numbers(transform, x=X):
    return transform, transform.fit(x), x


def of_levels(encoder):
    state = encoder.fit(LEVELS)
    return encoder, state, encoder.codes(state, LEVELS)


def of_days(encoder):
    state = encoder.fit(DAYS)
    return encoder, state, encoder.read(state, DAYS)


def of_targets(encoder):
    return encoder, encoder.fit(LEVELS, Y), LEVELS


CASES = {
    "standard": of_numbers(pre.standard_scaler(with_mean=False)),
    "min-max": of_numbers(pre.min_max_scaler((-1, 2), clip=True)),
    "robust": of_numbers(pre.robust_scaler(flat="range", clip=3.0)),
    "log": of_numbers(pre.log_transform("log")),
    "log, standardized": of_numbers(pre.log_transform(standardize=True)),
    "power": of_numbers(pre.power_transform("box-cox", standardize=True)),
    "quantile": of_numbers(pre.quantile_transform(output="normal")),
    "bins": of_numbers(pre.k_bins(4, encode="onehot")),
    "imputer": of_numbers(pre.imputer("median", indicators="seen"), HOLES),
    "one-hot": of_levels(pre.one_hot_encoder(min_frequency=14, unknown="infrequent", drop="first")),
    "ordinal": of_levels(pre.ordinal_encoder(unknown=-1)),
    "target": of_targets(pre.target_encoder(categories=3)),
    "dates": of_days(pre.date_encoder(["year", "time"], cycles=["hour"])),
}


def computed(transform):
    return getattr(transform, "encode", None) or transform.transform


def network(*cases):
    layers = {
        f"prepare{i}": pre.fitted(transform, state) for i, (transform, state, _) in enumerate(cases)
    }
    return nn.serial(**layers, out=nn.dense(2))


@pytest.mark.few("standard", "imputer", "one-hot")
@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_transform_does(name):
    transform, fitted, x = CASES[name]
    model = network(CASES[name])
    params, state = model.init(KEY, x)
    assert list(params) == ["out"]
    leaves = jax.tree.leaves(fitted)
    assert sorted(map(str, jax.tree.leaves(state))) == sorted(map(str, leaves))
    y, same = model.apply(params, state, x)
    by_hand = model.layers["out"].apply(params["out"], {}, computed(transform)(fitted, x))[0]
    np.testing.assert_array_equal(y, by_hand)
    chex.assert_trees_all_equal(same, state)

    @jax.jit
    def composed(params, fitted, x):
        return model.layers["out"].apply(params["out"], {}, computed(transform)(fitted, x))[0]

    y, same = jax.jit(lambda *args: model.apply(*args, train=True, key=KEY))(params, state, x)
    np.testing.assert_array_equal(y, composed(params, fitted, x))
    chex.assert_trees_all_equal(same, state)


@pytest.mark.few("standard", "imputer", "one-hot")
@pytest.mark.parametrize("name", CASES)
def test_saved_and_loaded(name, tmp_path):
    transform, fitted, x = CASES[name]
    model = network(CASES[name])
    params, state = model.init(KEY, x)
    jd.save(tmp_path / "model", model, params, state)
    again, *trees = jd.load(tmp_path / "model")
    assert repr(again) == repr(model)
    assert again == model
    chex.assert_trees_all_equal(trees, [params, state])
    np.testing.assert_array_equal(again.apply(*trees, x)[0], model.apply(params, state, x)[0])
    chex.assert_trees_all_equal(again.init(KEY, x), (params, state))
    config = again.layers["prepare0"].config
    assert jax.tree.structure(config["state"].state) == jax.tree.structure(fitted)
    assert repr(config["transform"]) == repr(transform)


def test_large_states_and_dates_are_saved(tmp_path):
    x = RNG.normal(size=(5000, 2)).astype(np.float32)
    quantiles = of_numbers(pre.quantile_transform(5000), x)
    days = pre.one_hot_encoder()
    fitted = days.fit(np.array(["2020-01-02", "2021-05-06"], "M8[D]"))
    for case in (quantiles, (days, fitted, days.codes(fitted, DAYS[:0]))):
        model = network(case)
        params, state = model.init(KEY, case[2])
        jd.save(tmp_path / "model", model, params, state)
        assert jd.load(tmp_path / "model")[0] == model


@pytest.mark.heavy
def test_loaded_in_another_process(tmp_path):
    transform, fitted, x = CASES["imputer"]
    filled = transform.transform(fitted, x)
    cases = [CASES["imputer"], of_numbers(pre.quantile_transform(), filled)]
    model = network(*cases)
    params, state = model.init(KEY, x)
    jd.save(tmp_path / "model", model, params, state)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", jd.predict(model, params, state, x))
    code = (
        "import numpy as np, jaxdeep as jd\n"
        "model, params, state = jd.load('model')\n"
        "y = jd.predict(model, params, state, np.load('x.npy'))\n"
        "np.testing.assert_array_equal(y, np.load('y.npy'))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)


def test_the_config_is_readable():
    encoder = pre.one_hot_encoder()
    fitted = encoder.fit({"city": ["Rome", None, "Oslo"]})
    config = json.loads(json.dumps(jd.saving.to_config(pre.fitted(encoder, fitted))))
    text = json.dumps(config)
    assert '"made_by": {"function": "jaxdeep.preprocessing.one_hot_encoder"}' in text
    assert '[["Oslo", "Rome", null]]' in text
    assert jd.saving.from_config(config) == pre.fitted(encoder, fitted)


@pytest.mark.parametrize(
    ("x", "options"),
    [
        (np.array(["b", "a"]), {"categories": [np.array(["b", "a"])]}),
        (np.array(["b", None], object), {"categories": [np.array(["b", None], object)]}),
        (np.array(["2021-01-01", "2020-01-01"], "datetime64[D]"), None),
        (np.array(["b", "a"]), {"drop": np.array(["b"])}),
    ],
    ids=["texts", "objects", "dates", "drop"],
)
def test_categories_may_be_arrays_where_the_layer_is_saved(x, options):
    encoder = pre.one_hot_encoder(**({"categories": [x]} if options is None else options))
    layer = pre.fitted(encoder, encoder.fit(x))
    config = json.loads(json.dumps(jd.saving.to_config(layer)))
    codes = encoder.codes(encoder.fit(x), x)
    loaded = jd.saving.from_config(config)
    np.testing.assert_array_equal(
        loaded.apply(*loaded.init(jax.random.key(0), codes), codes)[0],
        encoder.transform(encoder.fit(x), x),
    )


def test_an_array_of_categories_in_a_file_has_no_other_dtype():
    from jaxdeep.saving import values

    for dtype in ("<f4", "<U500000000", "nonsense"):
        with pytest.raises(ValueError, match="is not a value that jaxdeep writes"):
            values.decode({"cells": ["a"], "shape": [1], "dtype": dtype})


def mean_of(shift):
    def fit(x):
        return {"mean": jnp.asarray(x).mean(0) + shift, "by feature": {"a/b": jnp.ones(3)}}

    def transform(state, x):
        return x - state["mean"]

    return pre.Transform(fit, transform, lambda state, y: y + state["mean"])


def test_a_transform_of_ones_own():
    own = mean_of(1.0)
    layer = pre.fitted(own, own.fit(X))
    params, state = layer.init(KEY, X)
    shifted = X - np.asarray(state["mean"])
    np.testing.assert_array_equal(layer.apply(params, state, X)[0], shifted)
    np.testing.assert_allclose(shifted.mean(0), -1, rtol=1e-5)
    with pytest.raises(ValueError, match="made by a function that has no name to be saved by"):
        jd.saving.to_config(layer)
    jd.saving.register("mean_of", mean_of, replace=True)
    again = jd.saving.from_config(jd.saving.to_config(layer))
    np.testing.assert_array_equal(again.apply(*again.init(KEY, X), X)[0], shifted)


def test_it_is_not_trained():
    model = nn.serial(
        network(CASES["imputer"]).layers["prepare0"],
        nn.batch_norm(),
        pre.fitted(CASES["standard"][0], pre.standard_scaler().fit(jnp.ones((2, 6)))),
        nn.dense(1),
    )
    x = HOLES
    before = model.init(KEY, x)
    result = jd.fit(
        model,
        (x, Y),
        loss=jd.losses.sigmoid_cross_entropy,
        penalty=jd.regularizers.l2(0.1),
        optimizer=optax.chain(jd.optimizers.adamw(0.1, weight_decay=0.1), jd.optimizers.ema_params(0.9)),
        ema=True,
        epochs=3,
        batch_size=16,
        key=KEY,
        progress=False,
    )
    for name in ("fitted0", "fitted1"):
        chex.assert_trees_all_equal(result.state[name], before[1][name])
    assert not np.array_equal(result.state["batch_norm0"]["mean"], before[1]["batch_norm0"]["mean"])
    y = jd.predict(model, result.params, result.state, x)
    np.testing.assert_array_equal(y[:1], jd.predict(model, result.params, result.state, x[:1]))


def test_vmapped_over_networks_and_states():
    transform, _, x = CASES["robust"]
    model = network(CASES["robust"])

    def run(key):
        params, state = model.init(key, x)
        return model.apply(params, state, x)[0]

    keys = jax.random.split(KEY, 3)
    each = [run(key) for key in keys]
    np.testing.assert_allclose(jax.jit(jax.vmap(run))(keys), np.stack(each), rtol=1e-5, atol=1e-6)
    # a state for each of two halves of the data
    params, whole = model.init(KEY, x)
    layers = [pre.fitted(transform, transform.fit(half)) for half in (x[:20], x[20:])]
    states = [whole | {"prepare0": layer.init(KEY, x)[1]} for layer in layers]
    both = jax.vmap(lambda state: model.apply(params, state, x)[0])(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    )
    alone = [model.apply(params, state, x)[0] for state in states]
    np.testing.assert_allclose(both, np.stack(alone), rtol=1e-5, atol=1e-6)


@pytest.mark.heavy
def test_swept():
    def build(point):
        layers = pre.fitted(*CASES["standard"][:2]), nn.dense(point["units"]), nn.dense(1)
        return {"model": nn.serial(*layers), "optimizer": jd.optimizers.adam(point["learning_rate"])}

    table = jd.sweep(
        build,
        {"units": [2, 4], "learning_rate": [0.01, 0.1]},
        data=(X, Y),
        loss=jd.losses.sigmoid_cross_entropy,
        epochs=2,
        batch_size=20,
        key=KEY,
        progress=False,
    )
    assert np.isfinite([row["loss"] for row in table.rows()]).all()
    chex.assert_trees_all_equal(
        table.trained(0)[1]["fitted0"], pre.fitted(*CASES["standard"][:2]).init(KEY, X)[1]
    )


def test_tools_take_it():
    case = CASES["standard"]
    model = network(case)
    params, state = model.init(KEY, X)
    assert "fitted" in str(nn.summary(model, X))
    low, *trees = jd.compress.cast(model, params, state)
    chex.assert_trees_all_equal(trees[1]["prepare0"], state["prepare0"])
    assert low.apply(*trees, X)[0].dtype == jnp.float32
    for tool in (jd.compress.fold_batch_norm, jd.compress.quantize):
        smaller, *trees = tool(model, params, state)
        np.testing.assert_allclose(
            smaller.apply(*trees, X)[0], model.apply(params, state, X)[0], rtol=0.1, atol=0.1
        )
    held = model.frozen(jd.tree.mask(params, "out/*"))
    np.testing.assert_array_equal(
        held.apply(params, state, X, train=True)[0], model.apply(params, state, X)[0]
    )


def test_float64_is_kept():
    with enable_x64(True):
        seconds = 1.7e9 + np.arange(100.0)[:, None]
        scaler = pre.standard_scaler()
        layer = pre.fitted(scaler, scaler.fit(seconds))
        params, state = layer.init(KEY, seconds)
        assert state["mean"].dtype == jnp.float64
        y = jax.jit(layer.apply)(params, state, seconds)[0]
        z = (seconds - seconds.mean()) / seconds.std()
        np.testing.assert_allclose(y, z, rtol=1e-12, atol=1e-12)
        config = jd.saving.to_config(layer)
    with pytest.raises(ValueError, match="jax_enable_x64"):
        jd.saving.from_config(config)


def test_seconds_are_scaled_on_the_host_as_transform_does():
    seconds = 1.7e9 + np.arange(100.0)[:, None]
    scaler = pre.standard_scaler()
    layer = pre.fitted(scaler, scaler.fit(seconds))
    y = layer.apply(*layer.init(KEY, seconds), seconds)[0]
    np.testing.assert_array_equal(y, scaler.transform(scaler.fit(seconds), seconds))
    np.testing.assert_allclose(y, (seconds - seconds.mean()) / seconds.std(), atol=1e-6)


def test_equal_layers_are_equal():
    def make(x=X, **options):
        scaler = pre.robust_scaler(**options)
        return pre.fitted(scaler, scaler.fit(x))

    assert make() == make()
    assert hash(make()) == hash(make())
    assert make() != make(clip=3.0)
    assert make() != make(2 * X)
    encoder = pre.one_hot_encoder()
    one, again, other = (pre.fitted(encoder, encoder.fit(["a", x])) for x in "bbc")
    assert one == again
    assert one != other
    assert is_same(one, again)
    assert repr(make(clip=3.0)) == "fitted(transform=robust_scaler(clip=3.0), state=RobustState of (3,))"


SCALER, STATE, _ = CASES["standard"]
LAYER = pre.fitted(SCALER, STATE)
KEPT = LAYER.init(KEY, X)[1]
REFUSED = [
    (lambda: pre.fitted(SCALER, None), TypeError, r"what fit of standard_scaler\(with_mean=False\)"),
    (lambda: pre.fitted(SCALER, CASES["robust"][1]), TypeError, "a Moments, got RobustState"),
    (lambda: pre.fitted(pre.standard_scaler, STATE), TypeError, "transform must be a preprocessor"),
    (lambda: pre.fitted(STATE, SCALER), TypeError, "transform must be a preprocessor"),
    (lambda: pre.fitted(SCALER, SCALER.init(X)), ValueError, "state has seen no data: fit standard"),
    (
        lambda: pre.fitted(pre.min_max_scaler(), pre.min_max_scaler().init(X)),
        ValueError,
        "seen no data",
    ),
    (
        lambda: jax.jit(lambda x: pre.fitted(SCALER, SCALER.fit(x)).apply({}, {}, x)[0])(X),
        TypeError,
        "state is traced",
    ),
    (
        lambda: pre.fitted(pre.target_encoder(), pre.target_encoder().fit(["a", "b"], [0.0, 1.0])),
        ValueError,
        "categories that are found on the host",
    ),
    (
        lambda: network(CASES["standard"]).init(KEY, X[:, :2]),
        ValueError,
        r"prepare0: the state is of features \(3,\), got an array x of shape \(40, 2\)",
    ),
    (
        lambda: jax.eval_shape(LAYER.apply, {}, KEPT, X.T),
        ValueError,
        r"features \(3,\), got an array x of shape \(3, 40\)",
    ),
    (
        lambda: network(CASES["one-hot"]).init(KEY, np.zeros((4, 3), np.int32)),
        ValueError,
        r"codes must be of shape \(…, 2\)",
    ),
    (
        lambda: network(CASES["one-hot"]).init(KEY, np.zeros((4, 2), np.float32)),
        TypeError,
        "codes must be whole numbers",
    ),
    (
        lambda: LAYER.apply({}, {}, X),
        ValueError,
        "lack 'n'",
    ),
    (
        lambda: LAYER.apply({}, {**KEPT, "mean": jnp.ones(2)}, X),
        ValueError,
        r"mean has shape \(2,\), and the fitted standard_scaler\(with_mean=False\) needs \(3,\)",
    ),
    (
        lambda: LAYER.apply({}, {**KEPT, "more": jnp.ones(2)}, X),
        ValueError,
        "state: more is not part of standard_scaler",
    ),
    (
        lambda: pre.fitted(pre.k_bins(3), CASES["bins"][1]).init(KEY, X),
        ValueError,
        r"the state is of k_bins\(4\), and these are k_bins\(3\)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "words"), REFUSED, ids=[words[:30] for *_, words in REFUSED])
def test_refused(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["one-hot", "bins", "dates"])
def test_no_rows_become_no_rows(name):
    transform, fitted, x = CASES[name]
    some = computed(transform)(fitted, x)
    none = computed(transform)(fitted, jax.tree.map(lambda part: part[:0], x))
    assert none.shape == (0, some.shape[1])
    classes = pre.target_encoder(classes=2, categories=3)
    state = classes.fit(LEVELS, Y.astype(int))
    assert classes.transform(state, LEVELS[:0]).shape == (0, 4)


@pytest.mark.few("levels")
@pytest.mark.parametrize("name", ["numbers", "levels", "ordinals", "dates", "targets"])
def test_models_of_the_first_version_are_read(name):
    """`tests/fixtures/prepared/make.py` wrote them, once."""
    recorded = dict(np.load(FIXTURES / f"{name}.npz"))
    outputs = recorded.pop("outputs")
    inputs = {key.removeprefix("input "): part for key, part in recorded.items()}
    x = inputs if name == "targets" else tuple(inputs.values()) if name == "dates" else inputs["0"]
    model, params, state = jd.load(FIXTURES / name)
    np.testing.assert_allclose(model.apply(params, state, x)[0], outputs, rtol=1e-4, atol=1e-5)
    again = jd.saving.from_config(jd.saving.to_config(model))
    chex.assert_trees_all_equal(again.init(KEY, x)[1], state)
