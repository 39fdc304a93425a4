"""Many samples at once are the samples one by one, and calibration is what is computed by hand."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from helpers.tiers import mostly_heavy

import jaxdeep as jd
from jaxdeep.search.table import Result, Table
from jaxdeep.uncertainty import mc_dropout, sampling

KEY = jax.random.key(11)
X = jax.random.normal(jax.random.key(1), (37, 6))
nn = jd.nn


def relu_dense(units):
    return nn.dense(units, activation=jax.nn.relu)


def network(make=nn.dropout, rate=0.3):
    return nn.serial(make(rate), relu_dense(8), make(rate), nn.dense(3))


def ready(model, x=X):
    """A model with parameters from NumPy, for which nothing need be compiled."""
    rng = np.random.default_rng(0)
    params, state = jax.eval_shape(lambda key: model.init(key, x), KEY)
    params = jax.tree.map(lambda a: np.float32(rng.normal(size=a.shape) / 2), params)
    return model, params, jax.tree.map(lambda a: np.ones(a.shape, np.float32), state)


def brute(model, params, state, x, samples, key=KEY, outputs=jax.nn.softmax):
    """The predictions of all rows at once, one sample after the other."""
    once = jax.jit(lambda params, x, key: outputs(model.apply(params, state, x, key=key)[0]))
    return np.stack([np.asarray(once(params, x, k)) for k in jax.random.split(key, samples)])


def check(pred, samples, tol=1e-6):
    """A prediction against all of its samples."""
    p = np.asarray(samples, np.float64)
    entropy = lambda p: -(p * np.log(np.maximum(p, 1e-300))).sum(-1)  # noqa: E731
    np.testing.assert_allclose(pred.mean, p.mean(0), atol=tol)
    np.testing.assert_allclose(pred.std, p.std(0), atol=tol)
    np.testing.assert_allclose(pred.entropy, entropy(p.mean(0)), atol=3 * tol)
    within = entropy(p).mean(0)
    np.testing.assert_allclose(pred.mutual_information, entropy(p.mean(0)) - within, atol=3 * tol)


# --- MC dropout equals the loop ---------------------------------------------------------------------


RANDOM = {
    "dropout": network,
    "other layers": lambda: nn.serial(
        nn.gaussian_noise(0.3),
        nn.dense(8),
        nn.alpha_dropout(0.3),
        nn.dense(8),
        nn.rrelu(),
        nn.dropout(0.3, noise_shape=(1, None)),
        nn.dense(3),
    ),
    "threefry": lambda: network(lambda rate: nn.dropout(rate, generator="threefry")),
    "nested": lambda: nn.serial(
        first=nn.serial(a=relu_dense(8), b=nn.serial(c=relu_dense(8), d=nn.dropout(0.5))),
        then=nn.residual(nn.serial(nn.dropout(0.5), nn.dense(8))),
        both=nn.concatenate(nn.dropout(0.4), nn.dense(2)),
        out=nn.dense(3),
    ),
    "repeat": lambda: nn.serial(
        nn.dense(8), nn.repeat(nn.serial(relu_dense(8), nn.dropout(0.2)), 3), nn.dense(3)
    ),
    "mixed": lambda: nn.mixed_precision(network()),
    "images": lambda: nn.serial(
        nn.reshape(3, 2, 1),
        nn.conv(4, 2),
        nn.dropout(0.5, noise_shape=(None, 1, 1, None)),
        nn.flatten(),
        nn.dropout(0.2),
        nn.dense(3),
    ),
    "rows and time": lambda: nn.serial(
        nn.lambda_(lambda x: x.reshape(-1, 2)),
        nn.dense(4),
        nn.dropout(0.5),
        nn.lambda_(lambda x: x.reshape(-1, 12)),
        nn.dense(3),
    ),
    "just so many rows": lambda: nn.serial(
        nn.dropout(0.5), nn.lambda_(lambda x: x.reshape(37, 2, 3)), nn.flatten(), nn.dense(3)
    ),
    "rows elsewhere": lambda: nn.serial(
        nn.lambda_(lambda x: x.T), nn.dropout(0.5), nn.lambda_(lambda x: x.T), nn.dense(3)
    ),
}


HEAVY = pytest.mark.heavy
LARGE = {"nested", "mixed", "rows and time", "other layers", "images"}


@pytest.mark.parametrize("name", mostly_heavy(RANDOM, RANDOM.keys() - LARGE))
def test_it_is_the_loop_over_keys_in_parts(name, monkeypatch):
    """For parts that do not come out even, where they are chosen by themselves."""
    monkeypatch.setattr(sampling, "part_rows", lambda *_: 8)
    model, params, state = ready(RANDOM[name]())
    expected = brute(model, params, state, X, 6)
    tol = 2e-2 if name == "mixed" else 1e-6  # products of bfloat16 are summed in another order
    check(mc_dropout(model, params, state, X, KEY, samples=6), expected, tol)


@pytest.mark.parametrize("name", ["nested", "threefry"])
def test_it_is_the_loop_over_keys_in_one_part(name):
    model, params, state = ready(RANDOM[name]())
    expected = brute(model, params, state, X, 6)
    check(mc_dropout(model, params, state, X, KEY, samples=6), expected)


@pytest.mark.parametrize(("batch_size", "samples"), [(1, 5), (36, 1), (1000, 5)])
def test_any_number_of_rows_in_a_chunk(batch_size, samples):
    model, params, state = ready(network())
    pred = mc_dropout(model, params, state, X, key=KEY, samples=samples, batch_size=batch_size)
    check(pred, brute(model, params, state, X, samples))


@pytest.mark.parametrize(("rows", "batch_size"), [(1, None), (37, None), (37, 5)])
def test_samples_in_their_order(rows, batch_size):
    model, params, state = ready(network())
    pred = mc_dropout(
        model, params, state, X[:rows], KEY, samples=6, batch_size=batch_size, return_samples=True
    )
    expected = brute(model, params, state, X[:rows], 6)
    np.testing.assert_allclose(pred.samples, expected, atol=1e-6)
    check(pred, expected)


def test_layers_that_cannot_be_shifted_draw_for_each_chunk():
    model, params, state = ready(network(lambda rate: nn.dropout(rate, generator="threefry")))
    x = X[:36]
    pred = mc_dropout(model, params, state, x, KEY, samples=4, batch_size=12)
    for i in range(3):
        rows = slice(12 * i, 12 * i + 12)
        keys = jax.vmap(lambda k, i=i: jax.random.fold_in(k, i))(jax.random.split(KEY, 4))
        once = jax.vmap(lambda k, rows=rows: model.apply(params, state, x[rows], key=k)[0])
        p = jax.nn.softmax(once(keys))
        np.testing.assert_allclose(pred.mean[rows], p.mean(0), atol=1e-6)


def test_what_comes_before_the_first_random_layer_is_computed_once(monkeypatch):
    monkeypatch.setattr(sampling, "divisor", lambda *_: 1)  # samples one by one
    calls = []

    def counted(x):
        jax.debug.callback(lambda: calls.append(1))
        return x

    before = nn.serial(nn.lambda_(counted), relu_dense(8))
    model, params, state = ready(nn.serial(before, nn.dropout(0.5), nn.lambda_(counted), nn.dense(3)))
    calls.clear()
    mc_dropout(model, params, state, X, KEY, samples=97, batch_size=10)
    jax.effects_barrier()
    assert len(calls) == 4 * (1 + 97)


def test_batch_norm_is_frozen_while_dropout_samples():
    model = nn.serial(nn.dense(8), nn.batch_norm(), nn.dropout(0.5), nn.dense(3))
    _, params, state = ready(model)
    _, state = model.apply(params, state, 3 * X + 1, train=True)
    before = jax.tree.map(np.array, state)
    pred = mc_dropout(model, params, state, X, KEY, samples=50, return_samples=True)
    check(pred, brute(model, params, state, X, 50))
    assert (np.std(pred.samples, axis=0) > 1e-3).all()
    jax.tree.map(np.testing.assert_array_equal, state, before)
    one_by_one = [mc_dropout(model, params, state, X[i : i + 1], KEY, samples=2) for i in range(2)]
    np.testing.assert_allclose(
        one_by_one[0].mean, brute(model, params, state, X[:1], 2).mean(0), rtol=1e-5
    )


class Net(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.relu(linen.BatchNorm(use_running_average=not train)(linen.Dense(8)(x)))
        return linen.Dense(3)(linen.Dropout(0.5, deterministic=not train)(x))


def test_an_adapted_module():
    model, params, state = ready(jd.adapters.from_linen(Net()))
    inside, own = nn.serial(net=model, drop=nn.dropout(0.1)), ({"net": params}, {"net": state})
    expected = brute(inside, *own, X, 5)
    check(mc_dropout(inside, *own, X, KEY, samples=5), expected)


def test_keys_of_other_generators():
    model, params, state = ready(network())
    for key in (jax.random.key(3, impl="rbg"), jax.random.PRNGKey(3)):
        pred = mc_dropout(model, params, state, X, key, samples=4)
        check(pred, brute(model, params, state, X, 4, key))


# --- compiled, vmapped, spread ----------------------------------------------------------------------


def test_inside_jit_and_without_retracing():
    traces = []

    def spy(x):
        traces.append(1)
        return x

    model, params, state = ready(nn.serial(network(), nn.lambda_(spy)))
    expected = brute(model, params, state, X, 4)
    traces.clear()  # what a function closes over is part of the program's key
    check(mc_dropout(model, params, state, X, KEY, samples=4), expected)
    traces.clear()
    for i in range(3):
        other = jax.tree.map(lambda a, i=i: a * (1 + i), params)
        mc_dropout(model, other, state, X + i, jax.random.key(i), samples=4)
    assert not traces
    run = jax.jit(
        lambda params, x, key: mc_dropout(model, params, state, x, key, samples=4, batch_size=9)
    )
    check(run(params, X, KEY), expected)
    traces.clear()
    run(params, X + 1, jax.random.key(1))
    assert not traces


@pytest.mark.heavy
def test_vmapped_over_models_and_over_keys():
    model = network()
    params, state = jax.vmap(lambda key: model.init(key, X))(jax.random.split(KEY, 3))
    keys = jax.random.split(KEY, 3)

    def run(params, key):
        return mc_dropout(model, params, state, X, key, samples=4, batch_size=20)

    found = jax.vmap(run)(params, keys)
    for i in range(3):
        own = jax.tree.map(lambda a, i=i: a[i], params)
        one = jax.tree.map(lambda a, i=i: a[i], found)
        check(one, brute(model, own, state, X, 4, keys[i]))


def test_gradients_pass_through():
    model, params, state = ready(network())
    loss = lambda p: mc_dropout(model, p, state, X, KEY, samples=3, batch_size=20).mean[:, 0].sum()  # noqa: E731
    keys = jax.random.split(KEY, 3)

    def by_hand(p):
        once = jax.vmap(lambda k: jax.nn.softmax(model.apply(p, state, X, key=k)[0])[:, 0].sum())
        return once(keys).mean()

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        jax.grad(loss)(params),
        jax.jit(jax.grad(by_hand))(params),
    )


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("dropout", 32),
        *(
            pytest.param(*case, marks=HEAVY)
            for case in (("nested", 37), ("dropout", 5), ("threefry", 37))
        ),
    ],
)
def test_eight_devices(rows, name):
    mesh = jax.make_mesh((8,), ("data",))
    x = X[:rows]
    model, params, state = ready(RANDOM[name]())
    expected = brute(model, params, state, x, 4)
    pred = mc_dropout(model, params, state, x, KEY, samples=4, mesh=mesh, return_samples=True)
    check(pred, expected)
    np.testing.assert_allclose(pred.samples, expected, atol=1e-6)
    if rows == 32 and name == "dropout":
        assert len(pred.mean.sharding.device_set) == 8
        pred = mc_dropout(model, params, state, x, KEY, samples=4, mesh=mesh, batch_size=3)
        check(pred, expected)
        run = jax.jit(lambda x: mc_dropout(model, params, state, x, KEY, samples=4, mesh=mesh))
        check(run(np.asarray(x)), expected)


def test_low_precision_is_summed_in_float32():
    dtype = jnp.bfloat16
    model, params, state = ready(network())
    params, x = jax.tree.map(lambda a: a.astype(dtype), (params, X))
    wide = lambda y: jax.nn.softmax(y.astype(jnp.float32))  # noqa: E731
    pred = mc_dropout(model, params, state, x, KEY, samples=20, batch_size=10)
    assert pred.mean.dtype == pred.entropy.dtype == jnp.float32
    check(pred, brute(model, params, state, x, 20, outputs=wide), 2e-2)


def test_float64_stays(x64):
    model = network()
    x = jnp.asarray(np.asarray(X, np.float64))
    params, state = model.init(KEY, x)
    pred = mc_dropout(model, params, state, x, KEY, samples=8, batch_size=10)
    assert pred.mean.dtype == pred.std.dtype == pred.mutual_information.dtype == jnp.float64
    check(pred, brute(model, params, state, x, 8), 1e-13)


def test_memory_does_not_grow_with_samples(monkeypatch):
    monkeypatch.setattr(sampling, "divisor", lambda *_: 10)  # of any number
    model, params, state = ready(network())
    x = jnp.zeros((1000, 6))

    def temporary(samples, **more):
        run = lambda *args: mc_dropout(model, *args, samples=samples, **more)  # noqa: E731
        memory = jax.jit(run).lower(params, state, x, KEY).compile().memory_analysis()
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    few, many = temporary(1000), temporary(10_000)
    assert many - few < 10_000 * 64  # the keys
    assert few < 8 * 2**20
    assert temporary(1000, return_samples=True) - few > 0.9 * 1000 * 1000 * 3 * 4


# --- kinds of outputs -------------------------------------------------------------------------------


def test_where_all_samples_agree_nothing_is_uncertain_about_the_model():
    model, params, state = ready(nn.serial(nn.dense(3), nn.dropout(0.0)))
    pred = mc_dropout(model, params, state, X, KEY, samples=1000)
    assert float(jnp.abs(pred.std).max()) == 0
    assert float(pred.mutual_information.max()) == 0
    expected = jax.nn.softmax(model.apply(params, state, X)[0])
    np.testing.assert_allclose(pred.mean, expected, rtol=1e-6)


def test_values_of_a_regression_have_no_entropy():
    model, params, state = ready(nn.serial(nn.dropout(0.5), nn.dense(1)))
    pred = mc_dropout(model, params, state, X, KEY, samples=9, outputs="values", return_samples=True)
    expected = brute(model, params, state, X, 9, outputs=lambda y: y)
    assert pred.entropy is None
    assert pred.mutual_information is None
    np.testing.assert_allclose(pred.mean, expected.mean(0), atol=1e-6)
    np.testing.assert_allclose(pred.std, expected.std(0), atol=1e-6)
    np.testing.assert_allclose(pred.samples, expected, atol=1e-6)


def test_probabilities_and_a_single_logit():
    logits, params, state = ready(network())
    model = nn.serial(logits, nn.activation(jax.nn.softmax))
    own = {"serial0": params}
    found = mc_dropout(model, own, state, X, KEY, samples=5, outputs="probabilities")
    check(found, brute(model, own, state, X, 5, outputs=lambda y: y))
    found = mc_dropout(model, own, state, X, KEY, samples=5)  # the model says what they are
    check(found, brute(model, own, state, X, 5, outputs=lambda y: y))
    model, params, state = ready(nn.serial(nn.dropout(0.5), nn.dense(1)))
    both = lambda y: jax.nn.softmax(jnp.concatenate([0 * y, y], axis=1))  # noqa: E731
    two = brute(model, params, state, X, 5, outputs=both)
    one = mc_dropout(model, params, state, X, KEY, samples=5)
    assert one.mean.shape == (37, 1)
    np.testing.assert_allclose(one.mean, two.mean(0)[:, 1:], atol=1e-6)
    pair = jnp.concatenate([1 - one.mean, one.mean], axis=1)
    check(one._replace(mean=pair, std=jnp.repeat(one.std, 2, axis=1)), two)


def test_several_inputs_and_outputs():
    model = nn.serial(
        nn.parallel(a=nn.serial(nn.select("a"), nn.dropout(0.5)), b=nn.select("b")),
        nn.parallel(
            one=nn.serial(nn.select("a"), nn.dense(3)),
            two=nn.serial(nn.select("b"), nn.dropout(0.5), nn.dense(2)),
        ),
    )
    x = {"a": X, "b": X[:, :2]}
    _, params, state = ready(model, x)
    pred = mc_dropout(model, params, state, x, KEY, samples=4, batch_size=10)
    keys = jax.random.split(KEY, 4)
    for name in ("one", "two"):
        each = [jax.nn.softmax(model.apply(params, state, x, key=k)[0][name]) for k in keys]
        check(type(pred)(*(None if f is None else f[name] for f in pred)), np.stack(each))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"samples": 0}, ValueError, "samples must be at least 1, got 0"),
        ({"samples": 2.5}, TypeError, "samples must be a whole number"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"key": 0.5}, TypeError, "key must be a random key such as"),
        ({"key": jax.random.split(KEY, 2)}, ValueError, "a single random key, got"),
        (
            {"outputs": "scores"},
            ValueError,
            "outputs must be one of 'logits', 'probabilities', 'values'",
        ),
        ({"return_samples": 1}, TypeError, "return_samples must be True or False"),
        ({"x": X[:0]}, ValueError, "x is empty"),
        ({"x": [1.0, 2.0]}, TypeError, "must be an array"),
        ({"mesh": 8}, TypeError, "mesh must be a jax.sharding.Mesh"),
        (
            {"model": nn.dense(3)},
            ValueError,
            r"needs a model with a random layer such as dropout, got de",
        ),
        ({"model": nn.dropout}, TypeError, "must be a Model"),
        (
            {"model": nn.serial(nn.dropout(0.5), nn.lambda_(lambda x: x[:3]))},
            ValueError,
            r"an output for each row of x, got shape \(3, 6\) for 37 rows",
        ),
        (
            {"model": nn.serial(nn.dropout(0.5), nn.lambda_(lambda x: x[:, 0]))},
            ValueError,
            "for a regression say outputs='values'",
        ),
    ],
)
def test_arguments_that_make_no_sense(change, error, message):
    model, params, state = ready(network())
    given = {"model": model, "params": params, "state": state, "x": X, "key": KEY, "samples": 2} | change
    if "model" in change:
        given |= {"params": {}, "state": {}}
    with pytest.raises(error, match=message):
        mc_dropout(**given)


def test_a_mesh_needs_an_axis_of_data():
    with pytest.raises(ValueError, match="mesh needs an axis called 'data'"):
        mc_dropout(*ready(network()), X, KEY, mesh=jax.make_mesh((8,), ("rows",)))


# --- ensembles --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def members():
    model = nn.serial(nn.dense(8), nn.batch_norm(), nn.dropout(0.5), nn.dense(3))
    stacked = jax.vmap(lambda key: model.init(key, X))(jax.random.split(KEY, 5))
    pairs = [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(5)]
    each = np.stack([np.asarray(jax.nn.softmax(model.apply(*pair, X)[0])) for pair in pairs])
    return model, stacked, pairs, each


@pytest.mark.parametrize("batch_size", mostly_heavy([None, 10], [10]))
def test_an_ensemble_stacked_listed_or_from_a_table(members, batch_size):
    model, stacked, pairs, each = members
    ends = ["finished", "stopped", "diverged", "finished", "halved"]
    history = {"loss": np.zeros(1)}
    results = [Result(*pair, history, 0, end) for pair, end in zip(pairs, ends)]
    table = Table([{"seed": i} for i in range(5)], results)
    ensemble = jd.uncertainty.ensemble
    check(ensemble(model, stacked, X, batch_size=batch_size), each)
    check(ensemble(model, pairs, X, batch_size=batch_size), each)
    check(ensemble(model, results, X, batch_size=batch_size), each)
    check(ensemble(model, table, X, batch_size=batch_size), each[[0, 1, 3]])
    kept = ensemble(model, stacked, X, batch_size=batch_size, return_samples=True).samples
    np.testing.assert_allclose(kept, each, atol=1e-6)
    mesh = jax.make_mesh((8,), ("data",))
    check(ensemble(model, stacked, X, batch_size=batch_size, mesh=mesh), each)
    check(jax.jit(lambda s, x: ensemble(model, s, x, batch_size=batch_size))(stacked, X), each)


@pytest.mark.heavy
def test_an_ensemble_of_a_sweep_over_seeds():
    y = (X[:, 0] > 0).astype(jnp.int32)
    model = nn.serial(nn.dense(2))
    table = jd.sweep(
        lambda hp: jd.optimizers.sgd(hp["learning_rate"]),
        {"learning_rate": [0.1]},
        seeds=3,
        model=model,
        data=(X, y),
        loss=jd.losses.softmax_cross_entropy,
        epochs=1,
        batch_size=8,
        progress=False,
    )
    each = [jax.nn.softmax(model.apply(*table.trained(i), X)[0]) for i in range(3)]
    check(jd.uncertainty.ensemble(model, table, X), np.stack(each))


def test_ensembles_that_make_no_sense(members):
    model, (params, _), pairs, _ = members
    ensemble = jd.uncertainty.ensemble
    with pytest.raises(ValueError, match="must not be an empty list"):
        ensemble(model, [], X)
    with pytest.raises(TypeError, match="members must be a Table, a list"):
        ensemble(model, params, X)
    with pytest.raises(TypeError, match=r"members\[0\] must be \(params, state\)"):
        ensemble(model, [params], X)
    with pytest.raises(ValueError, match="must have a leading axis of members on every leaf"):
        ensemble(model, pairs[0], X)
    other = nn.serial(nn.dense(9), nn.batch_norm(), nn.dropout(0.5), nn.dense(3)).init(KEY, X)
    with pytest.raises(ValueError, match=r"same shapes; member 1 has .*'dense0/kernel': \(6, 9\)"):
        ensemble(model, [pairs[0], other], X)
    table = Table([{"seed": 0}], [Result({}, {}, {"loss": np.zeros(1)}, 0, "diverged")])
    with pytest.raises(ValueError, match="no run that went to its end"):
        ensemble(model, table, X)


# --- calibration ------------------------------------------------------------------------------------


def constructed():
    """60 predictions at 0.55 of which 30 are right, 40 at 0.95 of which 36 are: gaps 0.05 and 0.05."""
    confidence = np.repeat([0.55, 0.95], [60, 40])
    right = np.concatenate([np.arange(60) < 30, np.arange(40) < 36])
    predicted = np.arange(100) % 3
    p = np.full((100, 3), 0.0)
    p += ((1 - confidence) / 2)[:, None]
    p[np.arange(100), predicted] = confidence
    return p.astype(np.float32), np.where(right, predicted, (predicted + 1) % 3)


def test_calibration_of_a_constructed_case():
    p, y = constructed()
    found = jd.uncertainty.reliability(p, y, bins=10)
    np.testing.assert_array_equal(found.count, [0, 0, 0, 0, 0, 60, 0, 0, 0, 40])
    np.testing.assert_allclose(np.asarray(found.accuracy)[[5, 9]], [0.5, 0.9], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(found.confidence)[[5, 9]], [0.55, 0.95], rtol=1e-6)
    assert np.isnan(np.asarray(found.accuracy)[:5]).all()
    np.testing.assert_allclose(found.edges, np.linspace(0, 1, 11), rtol=1e-6)
    assert float(jd.uncertainty.expected_calibration_error(p, y, bins=10)) == pytest.approx(
        0.05, abs=1e-6
    )
    one_bin = 0.6 * 0.55 + 0.4 * 0.95 - 0.66
    assert float(jd.uncertainty.expected_calibration_error(p, y, bins=1)) == pytest.approx(
        one_bin, abs=1e-6
    )
    p[:, :] = np.where(p == p.max(1, keepdims=True), 1, 0)  # all sure: 34 of 100 are wrong
    assert float(jd.uncertainty.maximum_calibration_error(p, y)) == pytest.approx(0.34, abs=1e-6)
    assert float(jd.uncertainty.expected_calibration_error(p, y)) == pytest.approx(0.34, abs=1e-6)
    assert float(jd.uncertainty.brier_score(p, y)) == pytest.approx(0.68, abs=1e-6)
    assert float(jd.uncertainty.negative_log_likelihood(p, y)) == np.inf


def test_the_largest_gap_is_that_of_a_bin():
    p = np.array([[0.8, 0.2]] * 10 + [[0.6, 0.4]] * 30, np.float32)
    y = np.array([0] * 2 + [1] * 8 + [0] * 18 + [1] * 12)  # gaps 0.6 and 0
    assert float(jd.uncertainty.maximum_calibration_error(p, y)) == pytest.approx(0.6, abs=1e-6)
    assert float(jd.uncertainty.expected_calibration_error(p, y)) == pytest.approx(0.15, abs=1e-6)


def test_edges_belong_to_the_bin_below_and_quantiles_are_even():
    p = np.array([[0.5, 0.5], [1.0, 0.0], [0.75, 0.25], [0.75, 0.25]], np.float32)
    counts = jd.uncertainty.reliability(p, np.zeros(4, int), bins=4).count
    np.testing.assert_array_equal(counts, [0, 1, 2, 1])
    first = np.linspace(0.5, 0.99, 1000, dtype=np.float32)
    p = np.stack([first, 1 - first], axis=1)
    found = jd.uncertainty.reliability(p, np.zeros(1000, int), bins=8, strategy="quantile")
    np.testing.assert_array_equal(found.count, [125] * 8)


def test_scores_are_those_of_scikit_learn():
    from sklearn import metrics

    p = np.random.default_rng(0).dirichlet(np.ones(4), 200)
    y = np.asarray(jax.random.randint(KEY, (200,), 0, 4))
    expected = metrics.log_loss(y, p, labels=range(4))
    assert float(jd.uncertainty.negative_log_likelihood(p, y)) == pytest.approx(expected, rel=1e-5)
    expected = np.mean(((p - np.eye(4)[y]) ** 2).sum(1))
    assert float(jd.uncertainty.brier_score(p, y)) == pytest.approx(expected, rel=1e-5)
    one, two = p[:, 0] / (p[:, 0] + p[:, 1]), y % 2
    for form in (one, one[:, None], np.stack([1 - one, one], axis=1)):
        found = float(jd.uncertainty.brier_score(form, two))
        assert found == pytest.approx(2 * metrics.brier_score_loss(two, one), rel=1e-5)
        found = float(jd.uncertainty.negative_log_likelihood(form, two))
        assert found == pytest.approx(metrics.log_loss(two, one), rel=1e-5)
        found = float(jd.uncertainty.expected_calibration_error(form, two))
        sure = np.maximum(one, 1 - one)
        place, right = np.ceil(sure * 15).astype(int) - 1, (one > 0.5) == two
        gaps = [abs((right - sure)[place == b].sum()) for b in range(15)]
        assert found == pytest.approx(sum(gaps) / 200, rel=1e-4)


def test_soft_and_one_hot_labels():
    p, y = constructed()
    hot = np.eye(3, dtype=np.float32)[y]
    for name in ("brier_score", "negative_log_likelihood", "expected_calibration_error"):
        function = getattr(jd.uncertainty, name)
        np.testing.assert_allclose(function(p, hot), function(p, y), rtol=1e-6)
    soft = jax.nn.softmax(jax.random.normal(KEY, (100, 3)))
    expected = -(np.asarray(soft) * np.log(p)).sum(1).mean()
    assert float(jd.uncertainty.negative_log_likelihood(p, soft)) == pytest.approx(expected, rel=1e-5)
    assert float(jd.uncertainty.negative_log_likelihood(np.eye(3)[:1], np.eye(3)[:1])) == 0
    images = p.reshape(10, 10, 3), y.reshape(10, 10)
    assert float(jd.uncertainty.brier_score(*images)) == pytest.approx(
        float(jd.uncertainty.brier_score(p, y)), rel=1e-6
    )


def test_scores_are_compiled_and_vmapped():
    p, y = constructed()
    for name in (
        "expected_calibration_error",
        "brier_score",
        "negative_log_likelihood",
        "rejection_curve",
    ):
        function = getattr(jd.uncertainty, name)
        for found in (jax.jit(function)(p, y), jax.vmap(function)(p[None], y[None])):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(np.squeeze(a), b, rtol=1e-5),
                found,
                function(p, y),
            )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda u: u.brier_score(np.array([[2.0, -1.0]]), np.array([0])),
            r"probabilities must be in \[0, 1\]",
        ),
        (lambda u: u.brier_score(np.full((2, 2), 0.5), np.array([0])), "labels must have shape"),
        (lambda u: u.brier_score(np.full((2, 2), 0.5), np.array([0, 2])), r"labels must be in \[0, 2\)"),
        (
            lambda u: u.brier_score(np.full(3, 0.5), np.array([0, 1])),
            "one label is needed for each of 3",
        ),
        (lambda u: u.brier_score(np.zeros((0, 2)), np.zeros(0, int)), "there are no probabilities"),
        (
            lambda u: u.reliability(np.full((2, 2), 0.5), np.array([0, 1]), bins=0),
            "bins must be at least 1",
        ),
        (
            lambda u: u.reliability(np.full((2, 2), 0.5), np.array([0, 1]), strategy="even"),
            "strategy must be 'uniform' or 'quantile', got 'even'",
        ),
        (lambda u: u.temperature_scale(np.ones(2), 0.0), "temperature must be in"),
        (lambda u: u.fit_temperature(np.ones((2, 3)), np.array([0, 3])), r"labels must be in \[0, 3\)"),
        (
            lambda u: u.rejection_curve(np.full((2, 2), 0.5), np.array([0, 1]), np.ones(3)),
            "uncertainty must be one number for each of 2 predictions",
        ),
    ],
)
def test_scores_that_make_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call(jd.uncertainty)


# --- temperature ------------------------------------------------------------------------------------


def noisy(n=4000, seed=0, scale=1.0):
    """Labels drawn from softmax(z); logits scale · z, so that the right temperature is `scale`."""
    z = 2 * jax.random.normal(jax.random.key(seed), (n, 5))
    return scale * z, jax.random.categorical(jax.random.key(seed + 1), z)


def nll(logits, y):
    return float(jd.losses.softmax_cross_entropy(logits, y).mean())


@pytest.mark.parametrize("scale", mostly_heavy([0.2, 1.0, 50.0], [50.0]))
def test_the_temperature_that_made_the_labels_is_found(scale):
    logits, y = noisy(scale=scale)
    t = jd.uncertainty.fit_temperature(logits, y)
    assert float(t) == pytest.approx(scale, rel=0.1)
    best = nll(jd.uncertainty.temperature_scale(logits, t), y)
    assert best <= nll(logits, y)
    around = [nll(logits / (t * f), y) for f in (0.9, 0.99, 1.01, 1.1)]
    assert best <= min(around) + 1e-6
    test, labels = noisy(seed=10, scale=scale)  # held out
    if scale != 1:
        assert nll(jd.uncertainty.temperature_scale(test, t), labels) < nll(test, labels)
        before = jd.uncertainty.expected_calibration_error(jax.nn.softmax(test), labels)
        after = jd.uncertainty.expected_calibration_error(jax.nn.softmax(test / t), labels)
        assert float(after) < float(before) / 2


def test_temperature_of_two_classes_in_closed_form():
    z = jnp.full((10, 2), jnp.array([3.0, 0.0]))
    y = np.array([0] * 8 + [1] * 2)
    expected = 3 / np.log(4)  # σ(3 / T) = 0.8
    assert float(jd.uncertainty.fit_temperature(z, y)) == pytest.approx(expected, rel=1e-5)
    assert float(jd.uncertainty.fit_temperature(jnp.full(10, 3.0), 1 - y)) == pytest.approx(
        expected, rel=1e-5
    )
    soft = np.tile([0.8, 0.2], (10, 1))
    assert float(jd.uncertainty.fit_temperature(z, soft)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.heavy
def test_temperatures_at_the_ends_and_never_worse():
    z = jnp.eye(3) * 2.0
    assert float(jd.uncertainty.fit_temperature(z, np.arange(3))) <= 1e-1  # all right: as sure as may be
    wrong = float(jd.uncertainty.fit_temperature(z, (np.arange(3) + 1) % 3))
    assert wrong == pytest.approx(1e4, rel=1e-3)  # worse than chance: knows nothing
    flat = jnp.zeros((4, 3))
    assert np.isfinite(float(jd.uncertainty.fit_temperature(flat, np.zeros(4, int))))
    barred = jnp.array([[1.0, 0.0, -jnp.inf]] * 4)
    found = float(jd.uncertainty.fit_temperature(barred, np.array([0, 0, 0, 1])))
    assert found == pytest.approx(1 / np.log(3), rel=1e-5)
    for seed in range(5):
        logits, y = noisy(n=7, seed=seed)
        t = jd.uncertainty.fit_temperature(logits, y)
        assert nll(logits / t, y) <= nll(logits, y) + 1e-6


def test_temperature_compiled_vmapped_and_in_bfloat16():
    logits, y = noisy(n=500, scale=2.0)
    fit = jd.uncertainty.fit_temperature
    expected = float(fit(logits, y))
    assert float(jax.jit(fit)(logits, y)) == pytest.approx(expected, rel=1e-5)
    many = jax.vmap(fit)(jnp.stack([logits, 2 * logits]), jnp.stack([y, y]))
    np.testing.assert_allclose(many, [expected, 2 * expected], rtol=1e-4)
    low = jd.uncertainty.temperature_scale(
        logits.astype(jnp.bfloat16), fit(logits.astype(jnp.bfloat16), y)
    )
    assert low.dtype == jnp.bfloat16


# --- rejection --------------------------------------------------------------------------------------


def test_rejection_of_a_constructed_case():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]], np.float32)
    curve = jd.uncertainty.rejection_curve(p, np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(curve.rejected, [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(curve.accuracy, [0.5, 2 / 3, 1, 1], rtol=1e-6)
    backwards = jd.uncertainty.rejection_curve(p, np.array([0, 0, 1, 1]), np.array([4.0, 3.0, 2.0, 1.0]))
    np.testing.assert_allclose(backwards.accuracy, [0.5, 1 / 3, 0, 0], rtol=1e-6)
    level = jd.uncertainty.rejection_curve(p, np.array([0, 0, 1, 1]), np.zeros(4))
    np.testing.assert_allclose(level.accuracy, [0.5] * 4, rtol=1e-6)


def test_ties_are_what_is_to_be_expected():
    rng = np.random.default_rng(0)
    right, uncertain = rng.random(12) < 0.5, rng.integers(0, 4, 12)
    p = np.full((12, 2), [0.6, 0.4], np.float32)
    curve = jd.uncertainty.rejection_curve(p, (~right).astype(int), uncertain)
    drawn = []
    for _ in range(4000):
        order = np.lexsort((rng.random(12), uncertain))
        drawn.append((np.cumsum(right[order]) / np.arange(1, 13))[::-1])
    np.testing.assert_allclose(curve.accuracy, np.mean(drawn, 0), atol=0.03)


def test_the_plot_of_reliability():
    from jaxdeep import plotting

    p, y = constructed()
    found = jd.uncertainty.reliability(p, y, bins=10)
    figure = plotting.reliability({"network": found, "again": found}, title="calibration")
    lines = figure.axes[0].lines
    np.testing.assert_allclose(lines[1].get_xdata(), [0.55, 0.95], rtol=1e-6)
    np.testing.assert_allclose(lines[1].get_ydata(), [0.5, 0.9], rtol=1e-6)
    assert lines[1].get_label() == "network (calibration error 0.050)"


# --- the real thing ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif("JAXDEEP_DATA" not in os.environ, reason="wants the images of Fashion-MNIST")
def test_averaging_over_masks_does_not_cost_accuracy_on_fashion_mnist():
    """The textbook: 0.8717 averaged, 0.8700 without."""
    (x, y), _, (x_test, y_test) = (
        (jnp.asarray(images).reshape(len(images), -1), jnp.asarray(labels))
        for images, labels in jd.datasets.fashion_mnist()
    )
    model = nn.serial(
        nn.dropout(0.2), relu_dense(100), nn.dropout(0.2), relu_dense(100), nn.dropout(0.2), nn.dense(10)
    )
    result = jd.fit(
        model,
        (x, y),
        loss=jd.losses.softmax_cross_entropy,
        optimizer=jd.optimizers.nadam(1e-3),
        epochs=10,
        batch_size=128,
        key=KEY,
        progress=False,
    )
    pred = mc_dropout(model, result.params, result.state, x_test, KEY, samples=100)
    check(pred, brute(model, result.params, result.state, x_test, 100), 1e-5)
    logits, _ = model.apply(result.params, result.state, x_test)
    plain = float(jd.metrics.accuracy(logits, y_test).mean())
    averaged = float(jd.metrics.accuracy(pred.mean, y_test).mean())
    noise = (plain * (1 - plain) / len(y_test)) ** 0.5
    assert plain > 0.86
    assert averaged >= plain - noise
    uncertainty = jd.uncertainty
    curve = uncertainty.rejection_curve(pred.mean, y_test, pred.entropy)
    assert float(curve.accuracy[2000]) > averaged + 0.05  # a fifth rejected
    half = len(y_test) // 2
    t = uncertainty.fit_temperature(logits[:half], y_test[:half])
    scaled = uncertainty.temperature_scale(logits[half:], t)
    assert nll(scaled, y_test[half:]) <= nll(logits[half:], y_test[half:])
