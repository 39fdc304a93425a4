"""`evaluate` gives the numbers of all rows at once, whatever they come from and in whatever batches."""

import functools
import itertools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compilations import nothing_compiled
from helpers.properties import over
from helpers.runs import KEY, MODEL, OBJECTIVE, X, Y, fit
from sklearn import metrics as sk

import jaxdeep as jd
from jaxdeep import _compilation

ROWS = np.asarray(X), np.asarray(Y)
PARAMS, STATE = MODEL.init(KEY, X[:1])
CROSS_ENTROPY = jd.losses.softmax_cross_entropy
ACCURACY = {"accuracy": jd.metrics.accuracy}


def evaluate(data=ROWS, **changes):
    usual = {"loss": CROSS_ENTROPY, "metrics": ACCURACY, "batch_size": 16}
    return jd.evaluate(MODEL, PARAMS, STATE, data, **usual | changes)


def in_batches(data, *sizes):
    sizes, first = itertools.cycle(sizes), 0
    while first < len(data[0]):
        size = next(sizes)
        yield tuple(part[first : first + size] for part in data)
        first += size


def naive(weights=None):
    logits, y = np.asarray(MODEL.apply(PARAMS, STATE, X)[0], np.float64), ROWS[1]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
    weights = np.ones(len(y)) if weights is None else weights
    right = (logits.argmax(1) == y)[weights != 0]
    return {"loss": (weights * losses).mean(), "accuracy": right.mean()}


def close(found, expected, rtol=1e-5):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=rtol, err_msg=name)


def test_it_is_the_mean_over_all_rows():
    found = evaluate()
    assert list(found) == ["loss", "accuracy"]
    assert all(isinstance(value, np.float32) for value in found.values())
    close(found, naive())


@over(heavy=True, batch_size=st.sampled_from([1, 16, 33, 120]), seed=st.integers(0, 2**32 - 1))
def test_weights_count_whatever_the_batches(batch_size, seed):
    weights = np.random.default_rng(seed).integers(0, 3, len(X)).astype(np.float32)
    close(evaluate((*ROWS, weights), batch_size=batch_size), naive(weights))


def test_what_has_weight_0_makes_no_difference():
    weights = np.ones(len(X), np.float32)
    weights[-3:] = 0  # in the batch that is filled up
    x, y = ROWS[0].copy(), ROWS[1].copy()
    x[-3:], y[-3:] = np.nan, 77
    close(evaluate((x, y, weights)), naive(weights))


@pytest.mark.heavy
def test_streaming_metrics_are_merged_exactly():
    metrics = {"auc": jd.metrics.auc(), "recall": jd.metrics.recall()}
    model = jd.nn.dense(1, activation=jax.nn.sigmoid)
    params, state = model.init(KEY, X[:1])
    data = ROWS[0], ROWS[1][:, None].astype(np.float32)
    found = jd.evaluate(model, params, state, data, loss=jd.losses.mse, metrics=metrics, batch_size=7)
    p = np.asarray(model.apply(params, state, X)[0])[:, 0]
    np.testing.assert_allclose(found["recall"], sk.recall_score(ROWS[1], p > 0.5), rtol=1e-6)
    np.testing.assert_allclose(found["auc"], sk.roc_auc_score(ROWS[1], p), atol=0.01)  # in bins


def test_a_penalty_is_added_once():
    penalty = jd.regularizers.l2(0.1)
    added = evaluate(penalty=penalty)["loss"] - evaluate()["loss"]
    np.testing.assert_allclose(added, penalty(PARAMS), rtol=1e-5)


@pytest.mark.heavy
def test_an_activity_and_an_objective_of_ones_own():
    activity = jd.regularizers.activity(jd.regularizers.l2(0.1), where="hidden")
    whole = jd.train.supervised(MODEL, CROSS_ENTROPY, metrics=ACCURACY, activity=activity)
    expected = jd.train.make_evaluate(whole, batch_size=16)(PARAMS, STATE, ROWS)
    close(evaluate(activity=activity), expected)
    close(evaluate(loss=None, metrics=None, objective=OBJECTIVE), naive())


def test_no_call_after_the_first_traces_anything():
    evaluate(), evaluate((X, Y)), evaluate((*ROWS, np.ones(len(X), np.float32)))
    x, y = ROWS
    with nothing_compiled():
        evaluate((x + 1, 1 - y))
        for rows in (1, 5, 16, 37):
            evaluate((x[:rows], y[:rows]))
        evaluate(in_batches(ROWS, 7, 30))
        evaluate((x, y, np.arange(len(X), dtype=np.float32)))
        evaluate((x, np.zeros_like(y)))


def test_the_numbers_are_those_of_fit():
    result = fit(epochs=1)
    last = {name: result.history[f"val_{name}"][-1] for name in ("loss", "accuracy")}
    close(result.evaluate((X, Y), batch_size=16), last, rtol=2e-7)
    close(
        jd.evaluate(MODEL, result.params, result.state, (X, Y), loss=CROSS_ENTROPY, metrics=ACCURACY),
        last,
    )


@pytest.mark.heavy
@pytest.mark.optimized
def test_the_bits_are_those_of_fit():
    size = {"batch_size": 20}  # which divides the rows
    result = fit(epochs=2, **size)
    for name, value in result.evaluate((X, Y), **size).items():
        assert value == result.history[f"val_{name}"][-1]


def loaders():
    yield "a generator", lambda: in_batches(ROWS, 13)
    yield "a list's iterator", lambda: iter(list(in_batches(ROWS, 100)))
    yield "a function", lambda: lambda epoch: in_batches(ROWS, 1, 40)
    yield "batches on the device", lambda: (jax.tree.map(jnp.asarray, b) for b in in_batches(ROWS, 16))
    yield "with empty ones", lambda: in_batches(ROWS, 0, 30)


@pytest.mark.parametrize(("name", "make"), list(loaders()), ids=[name for name, _ in loaders()])
def test_loaders_give_what_arrays_give(name, make):
    close(evaluate(make()), naive())


def test_a_loader_may_make_its_batches_in_the_same_memory():
    x, y = ROWS[0][:10].copy(), ROWS[1][:10].copy()

    def batches():
        for first in range(0, len(X), 10):
            x[:], y[:] = ROWS[0][first : first + 10], ROWS[1][first : first + 10]
            yield x, y

    close(evaluate(batches()), naive())
    close(evaluate(batches(), batch_size=10), naive())


@pytest.mark.heavy
def test_grain():
    grain = pytest.importorskip("grain")
    source = grain.MapDataset.source(list(zip(*ROWS))).to_iter_dataset().batch(9)
    close(evaluate(source), naive())


def test_memory_maps_are_read_part_by_part(tmp_path, monkeypatch):
    for name, part in zip("xy", ROWS):
        np.save(tmp_path / name, part)
    maps = tuple(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy")
    sizes = []
    real = np.memmap.__getitem__

    def spy(self, index):
        part = real(self, index)
        sizes.append(len(part))
        return part

    monkeypatch.setattr("jaxdeep.train.data._READ_WHOLE", 0)
    monkeypatch.setattr("jaxdeep.fitting.array_source._KNOWN_BYTES", 0)
    monkeypatch.setattr(np.memmap, "__getitem__", spy)
    close(evaluate(maps), naive())
    assert sizes
    assert max(sizes) <= 16


def test_hdf5_is_read_part_by_part(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        sets = [file.create_dataset(name, data=part) for name, part in zip("xy", ROWS)]
        close(evaluate(tuple(sets)), naive())


def test_labels_of_large_maps_are_looked_at_when_they_are_read(tmp_path, monkeypatch):
    y = ROWS[1].copy()
    y[90] = 7
    np.save(tmp_path / "y", y)
    labels = np.load(tmp_path / "y.npy", mmap_mode="r")
    monkeypatch.setattr("jaxdeep.fitting.array_source._KNOWN_BYTES", 0)
    with pytest.raises(ValueError, match=r"labels.* must be in \[0, 1\], got 7"):
        evaluate((ROWS[0], labels))


def test_wrong_labels_are_refused_in_every_call():
    evaluate()
    with pytest.raises(ValueError, match=r"labels.*must be in \[0, 1\], got 2"):
        evaluate((ROWS[0], ROWS[1] + 1))
    with pytest.raises(ValueError, match=r"labels.*must be in \[0, 1\], got 2"):
        evaluate((X, Y + 1))
    with pytest.raises(ValueError, match=r"batch 1 of data: labels.*got 2"):
        evaluate(iter([ROWS, (ROWS[0], ROWS[1] + 1)]))


@pytest.mark.heavy
@pytest.mark.parametrize("batch_size", [16, 64])
def test_eight_devices_compute_what_one_does(batch_size):
    mesh = jax.make_mesh((8,), ("data",))
    weights = np.arange(len(X), dtype=np.float32)
    for data in (ROWS, (*ROWS, weights), lambda epoch: in_batches(ROWS, 13)):
        close(
            evaluate(data, mesh=mesh, batch_size=batch_size), evaluate(data, batch_size=batch_size), 1e-6
        )


@pytest.mark.heavy
def test_the_result_of_a_mesh_is_evaluated_on_it():
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    result = fit(epochs=1, mesh=mesh, shard="hidden/*")
    found = result.evaluate((X, Y), batch_size=16)
    np.testing.assert_allclose(found["loss"], result.history["val_loss"][-1], rtol=1e-6)
    assert result.predict(X).shape == (100, 2)


def test_float64_and_bfloat16():
    from jaxdeep._compat import enable_x64

    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (PARAMS, STATE))
    found = jd.evaluate(MODEL, *half, (X.astype(jnp.bfloat16), Y), loss=CROSS_ENTROPY)
    np.testing.assert_allclose(found["loss"], naive()["loss"], rtol=0.02)
    with enable_x64(True):
        wide = jax.tree.map(lambda a: np.asarray(a, np.float64), (PARAMS, STATE))
        found = jd.evaluate(MODEL, *wide, (ROWS[0].astype(np.float64), ROWS[1]), loss=CROSS_ENTROPY)
    assert found["loss"].dtype == np.float64
    np.testing.assert_allclose(found["loss"], naive()["loss"], rtol=1e-6)


def test_a_result_evaluates_itself():
    result = fit(epochs=1)
    assert set(result.evaluate((X, Y))) == {"loss", "accuracy"}
    other = result.evaluate((X, Y), metrics={"top": jd.metrics.accuracy})
    assert set(other) == {"loss", "top"}
    assert set(result.evaluate((X, Y), objective=lambda p, s, batch, **_: (jnp.zeros(()), (s, {})))) == {
        "loss"
    }


def test_refusals():
    for changes, message in (
        ({"loss": None}, "evaluate needs a loss=, or an objective="),
        ({"objective": OBJECTIVE}, "objective= already says"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"data": (X[:0], Y[:0])}, "data is empty"),
        ({"data": X}, "data must be a pair"),
        ({"data": (X, Y[:-1])}, "same number of rows"),
        ({"data": (X, Y, -np.ones(100))}, "weights, must be at least 0"),
        ({"data": iter(())}, "holds no batches with rows"),
        ({"metrics": {"loss": jd.metrics.accuracy}}, "may not be called 'loss'"),
        ({"mesh": 3}, "mesh must be a jax.sharding.Mesh"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            evaluate(**changes)
    with pytest.raises(ValueError, match="params/hidden/kernel"):
        jd.evaluate(
            MODEL,
            {**PARAMS, "hidden": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(8)}},
            STATE,
            ROWS,
            loss=CROSS_ENTROPY,
        )
    with pytest.raises(TypeError, match=r"evaluate drives devices.*make_evaluate"):
        jax.jit(lambda p: jd.evaluate(MODEL, p, STATE, ROWS, loss=CROSS_ENTROPY)["loss"])(PARAMS)


def test_users_functions_are_compiled_once():
    traces = []

    def loss(outputs, y):
        traces.append(1)
        return CROSS_ENTROPY(outputs, y)

    _compilation.forget()
    evaluate(loss=loss)
    many = len(traces)
    evaluate(loss=loss)
    evaluate((ROWS[0][:21], ROWS[1][:21]), loss=loss)
    assert len(traces) == many


def test_types_are_never_mixed_unasked():
    """As under jax_numpy_dtype_promotion="strict", also where the last batch is smaller."""
    model, x, y = jd.nn.dense(2), np.ones((8, 4), np.float32), np.zeros(8, np.int32)
    params, state = model.init(jax.random.key(1), x)
    evaluate = functools.partial(
        jd.evaluate, model, params, state, (x, y), loss=jd.losses.softmax_cross_entropy, batch_size=3
    )
    with jax.numpy_dtype_promotion("strict"):
        strict = evaluate()
    assert strict == evaluate()
