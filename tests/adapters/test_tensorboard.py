"""What a run writes for TensorBoard, read back from the files by the format's own rules."""

import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.events import events, scalars

import jaxdeep as jd
from jaxdeep.adapters import to_tensorboard
from jaxdeep.train import Epochs

# Not imported before a test runs: that takes seconds.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorboardX") is None, reason="wants tensorboardX"
)

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (60, 3))
Y = X @ jnp.ones((3, 2))


def series(folder, tag):
    return {step: value for name, step, value in scalars(folder) if name == tag}


def fit(folder, epochs, **more):
    return jd.fit(
        jd.nn.serial(hidden=jd.nn.dense(4), out=jd.nn.dense(2)),
        (X, Y),
        **{
            "loss": jd.losses.mse,
            "metrics": {"error/absolute": lambda y, t: jnp.abs(y - t).mean(-1)},
            "optimizer": jd.optimizers.sgd(0.05),
            "validation": (X, Y),
            "epochs": epochs,
            "key": KEY,
            "progress": False,
            "callbacks": [to_tensorboard(folder)],
        }
        | more,
    )


def as_float32(values):
    return {i + 1: np.float32(v) for i, v in enumerate(values) if not np.isnan(v)}


@pytest.mark.heavy
def test_both_runs_have_the_history(tmp_path):
    history = fit(tmp_path, 5, epochs_per_call=2, validate_every=2).history
    train, validation = tmp_path / "train", tmp_path / "validation"
    assert series(train, "loss") == as_float32(history["loss"])
    assert series(train, "error/absolute") == as_float32(history["error/absolute"])
    assert series(train, "learning_rate") == dict.fromkeys(range(1, 6), np.float32(0.05))
    assert sorted(series(validation, "loss")) == [2, 4, 5]
    assert series(validation, "loss") == as_float32(history["val_loss"])
    assert series(validation, "error/absolute") == as_float32(history["val_error/absolute"])
    assert len(scalars(train)) == 5 * sum(not name.startswith("val_") for name in history)


@pytest.mark.heavy
def test_without_validation_there_is_one_run(tmp_path):
    fit(tmp_path / "deep" / "er", 1, validation=None)
    assert [path.name for path in (tmp_path / "deep" / "er").iterdir()] == ["train"]


@pytest.mark.heavy
def test_a_resumed_run_writes_no_epoch_twice(tmp_path):
    fit(tmp_path / "a", 3, checkpoint=tmp_path / "c")
    history = fit(tmp_path / "a", 6, checkpoint=tmp_path / "c").history
    found = [(tag, step) for tag, step, _ in scalars(tmp_path / "a" / "train")]
    assert len(found) == len(set(found))
    assert series(tmp_path / "a" / "train", "loss") == as_float32(history["loss"])
    assert series(tmp_path / "a" / "validation", "loss") == as_float32(history["val_loss"])
    purged = [e.step for e in events(tmp_path / "a" / "train") if e.session_log.status]
    assert purged == []  # nothing to forget
    # one that had not written: all of the history
    history = fit(tmp_path / "b", 8, checkpoint=tmp_path / "c").history
    assert series(tmp_path / "b" / "train", "loss") == as_float32(history["loss"])


@pytest.mark.heavy
def test_another_run_in_the_folder_is_replaced(tmp_path):
    from tensorboardX.proto.event_pb2 import SessionLog

    fit(tmp_path, 4)
    history = fit(tmp_path, 2, key=jax.random.key(1)).history
    found = events(tmp_path / "train")
    starts = [i for i, event in enumerate(found) if event.session_log.status == SessionLog.START]
    assert [found[i].step for i in starts] == [1]  # TensorBoard forgets steps of 1 and more
    after = [(e.step, v.simple_value) for e in found[starts[0] :] for v in e.summary.value]
    assert {value for step, value in after if step == 2} >= {np.float32(history["loss"][1])}
    # a third run like the second finds its epochs, the first's being forgotten
    before = len(scalars(tmp_path / "train"))
    fit(tmp_path, 2, key=jax.random.key(1), epochs_per_call=2)
    assert len(scalars(tmp_path / "train")) == before


@pytest.mark.heavy
def test_one_callback_serves_a_second_run(tmp_path):
    callback = to_tensorboard(tmp_path)
    for seed in (0, 1):
        history = fit(tmp_path, 2, key=jax.random.key(seed), callbacks=[callback]).history
    assert series(tmp_path / "train", "loss") == as_float32(history["loss"])


@pytest.mark.heavy
def test_an_unfinished_record_is_written_again(tmp_path):
    fit(tmp_path / "a", 3, checkpoint=tmp_path / "c", validation=None)
    (path,) = (tmp_path / "a" / "train").iterdir()
    data = path.read_bytes()
    path.write_bytes(data[:-5])  # the process ended while it wrote
    history = fit(tmp_path / "a", 4, checkpoint=tmp_path / "c", validation=None).history
    path.write_bytes(b"")
    found = series(tmp_path / "a" / "train", "loss")
    assert found == {s: v for s, v in as_float32(history["loss"]).items() if s >= 3}


@pytest.mark.heavy
@pytest.mark.parametrize(("histograms", "paths"), [(True, 4), ("*/kernel", 2), ("out/*", 2)])
def test_histograms_count_every_parameter(tmp_path, histograms, paths):
    callback = to_tensorboard(tmp_path, histograms=histograms)
    params = fit(tmp_path, 3, epochs_per_call=2, callbacks=[callback]).params
    found = {
        (value.tag, event.step): value.histo
        for event in events(tmp_path / "train")
        for value in event.summary.value
        if value.HasField("histo")
    }
    assert len(found) == 2 * paths
    assert {step for _, step in found} == {2, 3}
    histogram, kernel = found["out/kernel", 3], np.asarray(params["out"]["kernel"])
    assert histogram.num == kernel.size
    assert histogram.sum == pytest.approx(kernel.sum(dtype=float), rel=1e-5)
    assert (histogram.min, histogram.max) == pytest.approx((kernel.min(), kernel.max()))


def test_entries_of_several_values_and_parameters_that_are_not_finite(tmp_path):
    callback = to_tensorboard(tmp_path, histograms=True)
    params = {"w": jnp.array([1.0, jnp.nan, 3.0], jnp.bfloat16), "bad": jnp.array([jnp.inf])}
    ts = jd.train.TrainState(jnp.array(1), params, {}, (), KEY)
    callback(Epochs(1, {"loss": np.array([0.5]), "val_recall": np.array([[0.25, np.nan]])}, ts))
    assert scalars(tmp_path / "validation") == [("recall/0", 1, 0.25)]
    (histogram,) = (
        value for e in events(tmp_path / "train") for value in e.summary.value if value.HasField("histo")
    )
    assert (histogram.tag, histogram.histo.num, histogram.histo.sum) == ("w", 2, 4)


@pytest.mark.parametrize(
    ("gradients", "got"),
    [
        (lambda ts: 3, "got 3$"),
        (lambda ts: None, "got None$"),
        (lambda ts: {"w": "text", "b": ts.params["b"]}, "got 'text' at 'w'"),
        (lambda ts: (jnp.float32(0.5), ts.params), r"got an array of shape \(\) at '0'"),
        (lambda ts: {"w": ts.params["b"]}, r"got an array of shape \(1,\) at 'w'"),
    ],
)
def test_what_gradients_return_is_like_the_parameters(tmp_path, gradients, got):
    ts = jd.train.TrainState(jnp.array(1), {"w": jnp.ones(3), "b": jnp.ones(1)}, {}, (), KEY)
    now = Epochs(1, {"loss": np.array([0.5])}, ts)
    message = "gradients must return an array like each parameter, in the structure of .*params, "
    with pytest.raises(TypeError, match=message + got):
        to_tensorboard(tmp_path, gradients=gradients)(now)
    to_tensorboard(tmp_path, gradients=lambda ts: {"w": 2 * ts.params["w"]})(now)
    tags = {value.tag for e in events(tmp_path / "train") for value in e.summary.value}
    assert tags == {"loss", "gradients/w"}


@pytest.mark.heavy
def test_wrong_arguments(tmp_path, monkeypatch):
    with pytest.raises(TypeError, match="logdir must be a path, got 3"):
        to_tensorboard(3)
    with pytest.raises(TypeError, match="where must be a glob"):
        to_tensorboard(tmp_path, histograms=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        to_tensorboard(tmp_path / "file")
    with pytest.raises(ValueError, match="matches no leaf"):
        fit(tmp_path, 1, callbacks=[to_tensorboard(tmp_path, histograms="nothing")])
    monkeypatch.setitem(sys.modules, "tensorboardX.proto.event_pb2", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxdeep\[tensorboard\]'"):
        to_tensorboard(tmp_path)
