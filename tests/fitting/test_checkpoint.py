"""Runs that are interrupted end with the bits of those that are not."""

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import optax
import pytest
from helpers.runs import STOPPING, X, Y, fit, identical, same

import jaxdeep as jd
from jaxdeep._compilation import forget
from jaxdeep.lasting import fingerprint
from jaxdeep.optimizers.hyperparameters import recorded

pytest.importorskip("orbax.checkpoint")


def data_files(directory):
    """All files with arrays; some are copies of others."""
    return [path for path in directory.rglob("*") if path.is_file() and path.parent.name == "d"]


@pytest.mark.optimized
def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    whole = fit(epochs=5, early_stopping=STOPPING)
    fit(epochs=2, early_stopping=STOPPING, checkpoint=tmp_path)
    same(fit(epochs=5, early_stopping=STOPPING, checkpoint=tmp_path, epochs_per_call=2), whole)
    same(fit(epochs=5, early_stopping=STOPPING, checkpoint=tmp_path), whole)  # nothing left to do
    with pytest.raises(ValueError, match="epochs must be at least 5"):
        fit(epochs=3, early_stopping=STOPPING, checkpoint=tmp_path)


def another(x, y):
    """The arrays, with one other value in the first."""
    x = np.array(x)
    x[-1, 0] += 1
    return x, y


@pytest.mark.heavy
def test_a_run_goes_on_with_the_values_it_began_with_only(tmp_path):
    x, y = np.asarray(X), np.asarray(Y)
    known = {**SMALL, "data": (x, y), "validation": (x[:20], y[:20])}
    fit(**known, epochs=1, checkpoint=tmp_path)
    for changes, odd in (
        ({"data": another(x, y)}, r"data\[0\]"),
        ({"data": (x, np.where(np.arange(100) == 5, 1 - y, y))}, r"data\[1\]"),
        ({"data": (x[::-1], y[::-1])}, r"data\[0\] and data\[1\]"),
        ({"validation": another(*known["validation"])}, r"validation\[0\]"),
    ):
        with pytest.raises(
            ValueError, match=f"run on other data: the values of {odd} are others .*Pass"
        ):
            fit(**known | changes, epochs=2, checkpoint=tmp_path)
    # the same values, as the programs see them
    same_values = (jax.numpy.asarray(x), [int(label) for label in y])
    fit(**known | {"data": same_values}, epochs=2, checkpoint=tmp_path)
    fit(**known | {"data": (x.astype(np.float64), y)}, epochs=3, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="validation was arrays there and is batches of a loader here"):
        fit(**known | {"validation": lambda epoch: [known["validation"]]}, epochs=4, checkpoint=tmp_path)


def test_of_a_large_array_rows_that_are_evenly_spread_are_compared(monkeypatch):
    monkeypatch.setattr(fingerprint, "_HASHED_BYTES", 1000)
    monkeypatch.setattr(fingerprint, "_SPREAD_ROWS", 4)
    x = np.zeros((1000, 2), np.float32)
    known = fingerprint._checksum(x)
    for row, looked_at in ((0, True), (333, True), (999, True), (1, False)):
        changed = x.copy()
        changed[row] = 1
        assert (fingerprint._checksum(changed) != known) == looked_at


@pytest.mark.heavy
def test_the_newest_checkpoints_and_the_best_are_kept(tmp_path):
    fit(epochs=5, checkpoint=tmp_path, keep_checkpoints=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5"]


@pytest.mark.heavy
def test_another_run_is_refused_with_what_differs(tmp_path):
    fit(epochs=1, checkpoint=tmp_path)
    for changes, message in [
        ({"optimizer": jd.optimizers.adam(0.02)}, "hyperparameters: learning_rate is 0.00999.* there"),
        ({"optimizer": jd.optimizers.sgd(0.01)}, "optimizer: .* absent here"),
        ({"model": jd.nn.dense(2)}, "model: .*; parameters: .*hidden/bias is float32"),
        ({"data": (np.ones((50, 4), np.float32), np.zeros(50, int))}, r"data: 0 is float32\[100, 4\]"),
        ({"batch_size": 8}, "arguments: batch_size is 16 there, 8 here"),
        ({"key": jax.random.key(5)}, "key: "),
        ({"metrics": None}, "metrics: "),
    ]:
        with pytest.raises(ValueError, match=f"holds another run; it differs in .*{message}"):
            fit(epochs=2, checkpoint=tmp_path, **changes)


def weighted(weight):
    return lambda outputs, y: weight * jd.losses.softmax_cross_entropy(outputs, y)


def leaky(slope):
    return jd.nn.serial(jd.nn.dense(2, activation=lambda x: jax.numpy.maximum(x, slope * x)))


@pytest.mark.heavy
def test_a_number_in_a_function_makes_another_run(tmp_path):
    fit(**SMALL, loss=weighted(1.0), epochs=1, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"another run; it differs in loss: .*weight=1\.0.* there"):
        fit(**SMALL, loss=weighted(2.0), epochs=2, checkpoint=tmp_path)
    assert len(fit(**SMALL, loss=weighted(1.0), epochs=2, checkpoint=tmp_path).history["loss"]) == 2


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "made", "old", "new"),
    [
        ("model", leaky, 0.1, 0.2),
        ("optimizer", optax.adam, 1e-3, 1e-2),
        ("optimizer", lambda steps: optax.sgd(optax.cosine_decay_schedule(0.1, steps)), 9, 90),
        ("optimizer", lambda k: optax.MultiSteps(optax.sgd(0.1), k), 1, 2),
        ("optimizer", lambda s: jd.optimizers.sgd(lambda step: 0.1 * s**step), 0.5, 0.6),
        ("metrics", lambda power: {"p": lambda o, y: (y**power).mean()}, 1, 2),
    ],
)
def test_what_is_shown_alike_is_told_apart(name, made, old, new, tmp_path):
    fit(**SMALL | {name: made(old)}, epochs=1, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=rf"another run; it differs in {name}: .* there, .* here"):
        fit(**SMALL | {name: made(new)}, epochs=2, checkpoint=tmp_path)
    fit(**SMALL | {name: made(old)}, epochs=2, checkpoint=tmp_path)


@pytest.mark.heavy
def test_other_first_parameters_of_a_module_and_what_cannot_be_described_make_no_other_run(
    tmp_path, monkeypatch
):
    nnx = pytest.importorskip("flax.nnx")
    for seed in (0, 1):
        module = jd.adapters.from_nnx(nnx.Linear(4, 2, rngs=nnx.Rngs(seed)))
        fit(**SMALL | {"model": module}, epochs=1 + seed, checkpoint=tmp_path / "nnx")
    with (tmp_path / "log").open("w") as log:

        def loss(outputs, y):
            print(type(outputs), file=log)
            return jd.losses.softmax_cross_entropy(outputs, y)

        for epochs in (1, 2):
            fit(**SMALL, loss=loss, epochs=epochs, checkpoint=tmp_path / "file")
    # another version may write the same with another code
    fit(**SMALL, loss=weighted(1.0), epochs=1, checkpoint=tmp_path / "version")
    monkeypatch.setattr("jaxdeep.fitting.description.__version__", "0.0.1")
    fit(**SMALL, loss=weighted(2.0), epochs=2, checkpoint=tmp_path / "version")


# of a future of the array store that nobody waits for once another has failed
@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    whole = fit(epochs=4)
    fit(epochs=3, checkpoint=tmp_path)
    for file in data_files(tmp_path / "3"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        if damage == "missing":
            file.unlink()
        else:
            file.write_bytes(content[: -len(content) // 3] if damage == "truncated" else content)
    with pytest.warns(UserWarning, match=r"the checkpoint of epoch 3 in .* is damaged"):
        same(fit(epochs=4, checkpoint=tmp_path), whole)
    assert any(path.name.startswith("damaged-3") for path in tmp_path.iterdir())


@pytest.mark.heavy
def test_a_run_that_diverges_leaves_the_last_finite_checkpoint(tmp_path):
    with pytest.raises(FloatingPointError, match="the loss was not finite"):
        fit(
            epochs=50,
            optimizer=jd.optimizers.sgd(lambda step: 0.1 * 10.0 ** (step // 7)),
            checkpoint=tmp_path,
        )
    assert 0 < max(int(path.name) for path in tmp_path.iterdir()) < 50


RUN = """
import sys, warnings
from helpers.runs import STOPPING, fit
warnings.simplefilter("ignore")
print("begun", flush=True)
fit(epochs=40, early_stopping=STOPPING._replace(patience=100), checkpoint=sys.argv[1])
print("ended", flush=True)
"""


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path):
    patient = STOPPING._replace(patience=100)
    whole, draw = fit(epochs=40, early_stopping=patient), random.Random(0)
    kills = 0
    while kills < 30:
        place = tmp_path / str(kills // 10)  # each directory is interrupted ten times
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(place)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "begun\n"
        before = {path.name for path in place.glob("*")} if place.exists() else set()
        while process.poll() is None and {p.name for p in place.glob("*")} <= before:
            time.sleep(0.005)  # until it writes something: the kill often falls into a write
        time.sleep(draw.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        if kills % 10 == 0:
            same(fit(epochs=40, early_stopping=patient, checkpoint=place), whole)


SMALL = {"model": jd.nn.dense(2), "validation": None}


@pytest.mark.heavy
def test_a_directory_is_held_by_one_run_at_a_time(tmp_path):
    def another(now):
        with pytest.raises(ValueError, match=r"checkpoint=.* is in use by another run; wait until"):
            fit(**SMALL, epochs=1, checkpoint=tmp_path)

    fit(**SMALL, epochs=1, checkpoint=tmp_path, callbacks=[another])
    assert len(fit(**SMALL, epochs=2, checkpoint=tmp_path).history["loss"]) == 2


HOLD = """
import fcntl, os, sys, time
handle = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_no_lock(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match="is in use by another run"):
        fit(**SMALL, epochs=1, checkpoint=tmp_path)
    process.kill()
    process.communicate()
    fit(**SMALL, epochs=1, checkpoint=tmp_path)


@pytest.mark.heavy
@pytest.mark.optimized
def test_a_full_disk_says_what_to_do_and_the_run_goes_on_once_there_is_room(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def no_room(now):
        if now.epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))

    whole = fit(**SMALL, epochs=4)
    try:
        with pytest.raises(
            OSError,
            match=r"epoch 3 could not be written .*; that of epoch 2 is whole. Make room there",
        ):
            fit(**SMALL, epochs=4, checkpoint=tmp_path, callbacks=[no_room])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    same(fit(**SMALL, epochs=4, checkpoint=tmp_path), whole)


@pytest.mark.heavy
def test_the_next_run_waits_for_writers_that_are_at_work_after_an_error(tmp_path):
    """As Orbax' threads are, which go on when it has raised the first error."""
    fit(**SMALL, epochs=1, checkpoint=tmp_path)
    folder, ends = tmp_path / "2.orbax-checkpoint-tmp" / "run", time.monotonic() + 0.5
    folder.mkdir(parents=True)

    def write():
        number = 0
        while time.monotonic() < ends:
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{(number := number + 1)}").write_text("late")

    writer = threading.Thread(target=write)
    writer.start()
    same(fit(**SMALL, epochs=2, checkpoint=tmp_path), fit(**SMALL, epochs=2))
    writer.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_what_does_not_go_is_named(tmp_path, monkeypatch):
    (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
    monkeypatch.setattr("jaxdeep.fitting.checkpoint._PATIENCE", 0.0)
    monkeypatch.setattr("shutil.rmtree", lambda place, **how: None)
    with pytest.raises(OSError, match=r"2\.orbax-checkpoint-tmp' is left of a checkpoint .*remove it"):
        fit(**SMALL, epochs=1, checkpoint=tmp_path)


def only_readable(directory, monkeypatch):
    """Have the system say so, also to somebody who may write everywhere."""
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK and access(path, mode))
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*")}


def test_a_run_that_has_ended_is_read_back_where_nothing_can_be_written(tmp_path, monkeypatch):
    ended = fit(**SMALL, epochs=2, checkpoint=tmp_path / "run")
    (tmp_path / "empty").mkdir()
    before = only_readable(tmp_path, monkeypatch)
    same(fit(**SMALL, epochs=2, checkpoint=tmp_path / "run"), ended)
    refused = "must be a directory that can be written .Permission denied.; make it so"
    for place in ("run", "empty"):
        with pytest.raises(PermissionError, match=refused):
            fit(**SMALL, epochs=3, checkpoint=tmp_path / place)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("kind", ["folder", "file", "empty run", "empty file run"])
def test_a_foreign_entry_is_refused_and_left_alone(kind, tmp_path):
    entry = tmp_path / "7"
    if kind == "folder":
        entry.mkdir()
        (entry / "thesis.txt").write_text("mine")
    elif kind == "empty run":
        (entry / "run").mkdir(parents=True)
    elif kind == "empty file run":
        entry.mkdir()
        (entry / "run").write_text("")
    else:
        entry.write_text("mine")
    with pytest.raises(
        ValueError, match="holds '7', which is no checkpoint of a run; move it elsewhere"
    ):
        fit(**SMALL, epochs=1, checkpoint=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["7"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for place in ("file", "file/run"):
        with pytest.raises(OSError, match="must be a directory that can be written"):
            fit(**SMALL, checkpoint=tmp_path / place)
    monkeypatch.setattr("os.access", lambda *args: False)
    with pytest.raises(PermissionError, match=r"must be a directory that can be written .*denied"):
        fit(**SMALL, checkpoint=tmp_path / "read_only")


@pytest.mark.parametrize("place", ["gs://bucket/run", "s3://bucket/run", "file:///tmp/run"])
def test_a_remote_place_is_refused(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in (place, pathlib.Path(place)):
        with pytest.raises(ValueError, match="checkpoint must be a path on this machine, got '"):
            fit(**SMALL, checkpoint=given)
        with pytest.raises(ValueError, match="path must be a path on this machine"):
            jd.save(given, SMALL["model"], {}, {})
        with pytest.raises(ValueError, match="path must be a path on this machine"):
            jd.load(given)
    assert not [*tmp_path.iterdir()]


@pytest.mark.filterwarnings("ignore:os.fork", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_child_of_the_process_does_not_hold_the_directory(tmp_path):
    from jaxdeep.fitting.directory import held

    with held(tmp_path):
        child = os.fork()
        if child == 0:
            time.sleep(20)
            os._exit(0)
    try:
        with held(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_run_goes_on_with_what_it_began_with_only(tmp_path):
    first = fit(**SMALL, epochs=1)
    params, state = first.params, first.state
    other = jax.tree.map(lambda leaf: leaf + 1, params)
    begun = {"params": params, "state": state}
    fit(**SMALL, **begun, epochs=1, checkpoint=tmp_path / "given")
    same(fit(**SMALL, **begun, epochs=2, checkpoint=tmp_path / "given"), fit(**SMALL, **begun, epochs=2))
    with pytest.raises(ValueError, match=r"began with something else: the values of params/.* others"):
        fit(**SMALL, params=other, state=state, epochs=2, checkpoint=tmp_path / "given")
    with pytest.raises(ValueError, match="were given there and are drawn by the key here"):
        fit(**SMALL, epochs=2, checkpoint=tmp_path / "given")
    fit(**SMALL, epochs=1, checkpoint=tmp_path / "drawn")
    with pytest.raises(ValueError, match="were drawn by the key there and are given here"):
        fit(**SMALL, **begun, epochs=2, checkpoint=tmp_path / "drawn")


def test_a_run_from_a_train_state_goes_on_from_that_one_only(tmp_path):
    ts = fit(**SMALL, epochs=1).train_state
    later = fit(**SMALL, key=None, train_state=ts, epochs=1, checkpoint=tmp_path).train_state
    whole = fit(**SMALL, key=None, train_state=ts, epochs=2)
    same(fit(**SMALL, key=None, train_state=ts, epochs=2, checkpoint=tmp_path), whole)
    doubled = jax.tree.map(lambda leaf: 2 * leaf if leaf.ndim else leaf, ts.opt_state)
    for other in (later, ts._replace(opt_state=doubled)):
        with pytest.raises(ValueError, match=r"began with something else: .*train_state="):
            fit(**SMALL, key=None, train_state=other, epochs=2, checkpoint=tmp_path)


@pytest.mark.heavy
def test_a_run_of_earlier_code_has_no_history_of_what_that_did_not_record(tmp_path, monkeypatch):
    optimizer = jd.optimizers.adam(0.01, b1=lambda step: 0.9 - 0.001 * step)
    small = SMALL | {"optimizer": optimizer, "checkpoint": tmp_path}
    with monkeypatch.context() as patched:
        forget()
        patched.setattr(
            "jaxdeep.train.run.recorded", lambda s: {"learning_rate": recorded(s)["learning_rate"]}
        )
        assert "b1" not in fit(**small, epochs=1).history
    forget()
    going_on = fit(**small, epochs=3)
    whole = fit(**{**small, "checkpoint": None}, epochs=3)
    identical(going_on.train_state, whole.train_state)
    np.testing.assert_array_equal(going_on.history["b1"], [np.nan, *whole.history["b1"][1:]])
