"""Sweeps that go on after a kill: to the same table, bit for bit, and nothing is trained twice."""

import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.sweeps import identical

import jaxdeep as jd
from jaxdeep.search.records import directory as directory_of_sweeps
from jaxdeep.search.records import row_file
from jaxdeep.search.records.directory import Directory
from jaxdeep.search.records.journal import Journal
from jaxdeep.search.records.writer import Writer
from jaxdeep.search.trial import Trial

X = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
Y = X @ np.array([[1.0], [-2.0], [0.5]], np.float32)
LINEAR = {
    "model": jd.nn.dense(1),
    "data": (X, Y),
    "validation": (X[:16], Y[:16]),
    "loss": jd.losses.mse,
    "epochs": 4,
    "batch_size": 16,
    "progress": False,
}
RATES = {"rate": [0.01, 0.02, 0.05, 0.1]}
STRATEGIES = pytest.mark.parametrize("strategy", ["threads", "vmap"])


def sgd(hp):
    return jd.optimizers.sgd(hp["rate"], momentum=0.9)


def sweep(space=None, builder=sgd, **changes):
    return jd.sweep(builder, RATES if space is None else space, **(LINEAR | changes))


def events(directory):
    return [json.loads(line) for line in (directory / "journal.jsonl").read_text().splitlines()]


def trained_epochs(directory, since=0):
    """Epochs that were trained after so many lines of the journal."""
    return [e for e in events(directory)[since:] if "ended" in e or "reached" in e]


class Killed(BaseException):
    """What a test raises in place of a kill."""


def killed_after(monkeypatch, saves):
    """Have the sweep end without a word once so many states were to be written."""
    count = [0]

    def counting(write):
        def counted(self, *args, **kwargs):
            count[0] += 1
            if count[0] > saves:
                raise Killed
            return write(self, *args, **kwargs)

        return counted

    for name in ("_put", "_pack"):
        monkeypatch.setattr(Directory, name, counting(getattr(Directory, name)))


def place_of(path, event):
    """Where the state is that an event of a row's end was written after."""
    if "at" in event:
        name, *part = event["at"]
        return row_file.Place(path / "rows" / name, *part)
    return row_file.Place(path / "rows" / f"{event['ended']}.safetensors")


def places(directory):
    """Where the states of rows that have ended are, in the order in which they were written."""
    return [place_of(directory, event) for event in events(directory) if "ended" in event]


def overwrite(place, contents):
    """Put bytes where a state is."""
    with place.path.open("r+b") as file:
        if place.size is None:
            file.truncate(0)
        file.seek(place.start)
        file.write(contents)


@pytest.fixture(params=["together", "apart"])
def kept(request, monkeypatch):
    """How states of rows that have ended are kept: small ones in one file, large ones in their own."""
    if request.param == "apart":
        monkeypatch.setattr(directory_of_sweeps, "_SMALL", 0)
    return request.param


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "halving",
    [
        None,
        jd.search.SuccessiveHalving(first=1, factor=2),
        jd.search.Hyperband(first=1, factor=2),
        jd.search.AsynchronousHalving(first=1, factor=2),
    ],
    ids=["full", "halving", "hyperband", "asynchronous"],
)
def test_a_sweep_that_was_killed_goes_on_to_the_same_table(tmp_path, monkeypatch, halving):
    # one thread, so that asynchronous decisions do not depend on time
    how = {"halving": halving, "seeds": 2, "rows_at_once": 1}
    whole = sweep(**how)
    identical(sweep(**how, checkpoint=tmp_path / "calm"), whole)
    for saves in (1, 4, 2):
        with monkeypatch.context() as patch:
            killed_after(patch, saves)
            with pytest.raises(Killed):
                sweep(**how, checkpoint=tmp_path / "killed")
    identical(sweep(**how, checkpoint=tmp_path / "killed"), whole)


ASYNCHRONOUS = {"halving": jd.search.AsynchronousHalving(first=1, factor=2), "rows_at_once": 1}


@pytest.mark.few(1)
@pytest.mark.parametrize("keep", [None, 2])
def test_an_asynchronous_sweep_whose_files_are_gone_is_trained_again(tmp_path, keep):
    whole = sweep(**ASYNCHRONOUS, keep_params=keep)
    how = {**ASYNCHRONOUS, "checkpoint": tmp_path, "keep_params": keep}
    sweep(**how)
    lines = len(events(tmp_path))
    again = sweep(**how)
    np.testing.assert_equal([*again.rows()], [*whole.rows()])
    assert not trained_epochs(tmp_path, lines)
    shutil.rmtree(tmp_path / "rows")
    with pytest.warns(UserWarning, match=r"not there any more .* trained again"):
        again = sweep(**how)
    np.testing.assert_equal([*again.rows()], [*whole.rows()])
    best = [row["ended"] for row in whole.rows()].index("finished")
    jax.tree.map(np.testing.assert_array_equal, again.trained(best), whole.trained(best))


@pytest.mark.heavy
@pytest.mark.parametrize(
    "changes", [{"seeds": 2}, {"epochs": 8, "keep_params": 1}, {"keep_params": 1}], ids=str
)
def test_an_asynchronous_sweep_extends(tmp_path, changes):
    sweep(**ASYNCHRONOUS, checkpoint=tmp_path, keep_params=changes.get("keep_params"))
    how = {**ASYNCHRONOUS, **changes}
    table = sweep(**how, checkpoint=tmp_path)
    assert table.points == sweep(**how).points
    epochs = changes.get("epochs", LINEAR["epochs"])
    assert max(row["epochs"] for row in table.rows()) == epochs
    assert {row["ended"] for row in table.rows()} == {"finished", "halved"}
    lines = len(events(tmp_path))
    again = sweep(**how, checkpoint=tmp_path)
    assert not trained_epochs(tmp_path, lines)
    np.testing.assert_equal([*again.rows()], [*table.rows()])


@pytest.mark.few(1)
@pytest.mark.parametrize("fails_at", [1, 2])
def test_an_asynchronous_sweep_tries_errors_again(tmp_path, monkeypatch, fails_at):
    value_at, how = Trial.value_at, {**ASYNCHRONOUS, "checkpoint": tmp_path}

    def failing(self, epoch, metric):
        if self.point["rate"] == 0.1 and epoch == fails_at:
            self.fail(RuntimeError("out of luck"))
        return value_at(self, epoch, metric)

    with monkeypatch.context() as patch:
        patch.setattr(Trial, "value_at", failing)
        with pytest.warns(UserWarning, match="out of luck"):
            table = sweep(**how)
    assert [row["ended"] for row in table.rows()].count("error") == 1
    table, full = sweep(**how, retry_errors=True), sweep()
    assert {row["ended"] for row in table.rows()} == {"finished", "halved"}
    for i, row in enumerate(table.rows()):
        losses = full.history(i)["val_loss"][: row["epochs"]]
        np.testing.assert_array_equal(table.history(i)["val_loss"], losses)


@pytest.mark.few(1)
@STRATEGIES
def test_a_finished_sweep_trains_nothing_again(tmp_path, strategy):
    how = {"strategy": strategy, "checkpoint": tmp_path, "seeds": 2}
    first = sweep(**how)
    lines = len(events(tmp_path))
    identical(sweep(**how), first)
    assert not trained_epochs(tmp_path, lines)


def test_a_finished_sweep_is_read_back_where_nothing_can_be_written(tmp_path, monkeypatch):
    space, access = {"rate": [0.1, 0.2]}, os.access
    table = sweep(space, epochs=1, checkpoint=tmp_path)
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK and access(path, mode))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    identical(sweep(space, epochs=1, checkpoint=tmp_path), table)
    for changes in ({"epochs": 2}, {"epochs": 1, "space": {"rate": [0.1, 0.2, 0.3]}}):
        with pytest.raises(PermissionError, match="must be a directory that can be written"):
            sweep(**{"space": space} | changes, checkpoint=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.heavy
@STRATEGIES
def test_points_seeds_and_epochs_extend(tmp_path, strategy):
    how = {"strategy": strategy, "checkpoint": tmp_path}
    sweep({"rate": [0.01, 0.05]}, **how)
    lines = len(events(tmp_path))
    table = sweep({"rate": [0.1, 0.05, 0.01]}, seeds=2, **how)
    assert len(trained_epochs(tmp_path, lines)) == 4  # a new point with two seeds, and two new seeds
    identical(table, sweep({"rate": [0.1, 0.05, 0.01]}, seeds=2, strategy=strategy))
    longer = sweep({"rate": [0.1, 0.05, 0.01]}, seeds=2, epochs=7, **how)
    identical(longer, sweep({"rate": [0.1, 0.05, 0.01]}, seeds=2, epochs=7, strategy=strategy))


@pytest.mark.heavy
def test_more_points_change_who_is_halved(tmp_path):
    halving = jd.search.SuccessiveHalving(first=1, factor=2)
    sweep({"rate": [0.01, 0.02]}, halving=halving, checkpoint=tmp_path)
    more = {"rate": [0.01, 0.02, 0.001, 0.002]}
    identical(sweep(more, halving=halving, checkpoint=tmp_path), sweep(more, halving=halving))


def test_rows_that_went_further_than_more_points_send_them_keep_what_they_have(tmp_path):
    how = {"halving": jd.search.SuccessiveHalving(first=1, factor=2), "checkpoint": tmp_path}
    worse = [{"rate": rate} for rate in (1e-5, 2e-5, 3e-5, 4e-5)]
    few = sweep(worse, epochs=8, **how)
    assert [row["epochs"] for row in few.rows()] == [1, 1, 2, 8]
    lines, better = len(events(tmp_path)), [{"rate": rate} for rate in (0.01, 0.02, 0.03, 0.05)]
    more = sweep([*worse, *better], epochs=8, **how)
    assert [row["ended"] for row in more.rows()][:4] == ["halved", "halved", "halved", "finished"]
    for i in range(4):
        jax.tree.map(np.testing.assert_array_equal, more.history(i), few.history(i))
        jax.tree.map(np.testing.assert_array_equal, more.trained(i), few.trained(i))
    rows = {event["row"]: event["point"]["rate"] for event in events(tmp_path) if "row" in event}
    trained = {rows[e.get("ended") or e["reached"]] for e in trained_epochs(tmp_path, lines)}
    assert trained == {0.01, 0.02, 0.03, 0.05}


def test_rows_that_went_further_than_more_seeds_send_them_keep_what_they_have(tmp_path, monkeypatch):
    values = {0.01: (0.2, 9.0), 0.02: (0.5, 0.5), 0.05: (0.1, 0.1), 0.1: (0.6, 0.6)}
    monkeypatch.setattr(Trial, "value_at", lambda row, *_: values[row.point["rate"]][row.place[2]])
    few = sweep(**ASYNCHRONOUS, checkpoint=tmp_path)
    assert [row["epochs"] for row in few.rows()] == [2, 1, 4, 1]
    more = sweep(**ASYNCHRONOUS, checkpoint=tmp_path, seeds=2)
    assert [row["epochs"] for row in more.rows()] == [2, 1, 2, 2, 4, 4, 1, 1]


@pytest.mark.few("ignore")
@pytest.mark.parametrize("what", ["ignore", "skip", "stop", "raise"])
def test_more_epochs_go_on_with_what_diverged_where_a_run_of_one_call_would(tmp_path, what):
    how = {"space": {"rate": [0.05, 1e20]}, "on_nonfinite": what}
    sweep(**how, epochs=2, checkpoint=tmp_path)
    table = sweep(**how, epochs=4, checkpoint=tmp_path)
    identical(table, sweep(**how, epochs=4))
    if what == "ignore":
        assert [(row["ended"], row["epochs"]) for row in table.rows()][1] == ("diverged", 4)
    lines = len(events(tmp_path))
    identical(sweep(**how, epochs=4, checkpoint=tmp_path), table)
    assert not trained_epochs(tmp_path, lines)


@pytest.mark.heavy
@STRATEGIES
@pytest.mark.parametrize(
    "monitors",
    [
        {"early_stopping": jd.train.EarlyStopping(patience=1, monitor="val_loss", mode="max")},
        {"early_stopping": jd.train.EarlyStopping(patience=3)},
        {"plateau": jd.train.ReduceOnPlateau(patience=1, min_delta=1.0)},
        {"halving": jd.search.SuccessiveHalving(first=2, factor=2)},
    ],
    ids=["stopped", "improving", "plateau", "halving"],
)
def test_more_epochs_undo_an_evaluation_that_only_the_last_one_had(tmp_path, strategy, monitors):
    how = {"validate_every": 2, "strategy": strategy, **monitors}
    sweep(**how, epochs=3, checkpoint=tmp_path)
    for epochs in (5, 6):
        table = sweep(**how, epochs=epochs, checkpoint=tmp_path)
        identical(table, sweep(**how, epochs=epochs))
    lines = len(events(tmp_path))
    identical(sweep(**how, epochs=6, checkpoint=tmp_path), table)
    assert not trained_epochs(tmp_path, lines)


def test_an_interrupted_row_goes_on_although_it_has_diverged(tmp_path, monkeypatch):
    how = {"space": {"rate": [1e20]}, "on_nonfinite": "ignore"}

    def log(values, step, row):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "is_due", lambda *_: True)
        with pytest.raises(OSError, match="the disk is full"):
            sweep(**how, checkpoint=tmp_path, log=log)
    identical(sweep(**how, checkpoint=tmp_path), sweep(**how))


def test_a_directory_of_checkpoints_of_a_run_is_no_sweep(tmp_path):
    (tmp_path / "3" / "run").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds a checkpoint of a run of jaxdeep.fit \('3'\)"):
        sweep(checkpoint=tmp_path)


def test_the_directory_of_a_population_is_refused(tmp_path):
    (tmp_path / "population.jsonl").touch()
    with pytest.raises(ValueError, match=r"holds a population \('population.jsonl'\), and no sweep"):
        sweep(checkpoint=tmp_path)
    assert [place.name for place in tmp_path.iterdir() if place.suffix] == ["population.jsonl"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 32}, "another batch_size: its default there, 32 here|another batch_size: 16"),
        ({"builder": lambda hp: jd.optimizers.adam(hp["rate"])}, "another optimizer"),
        ({"loss": jd.losses.mae}, "another loss: .*mse.*there.*mae"),
        ({"model": jd.nn.serial(jd.nn.dense(2), jd.nn.dense(1))}, "another model"),
        ({"data": (X, Y + 1)}, "differs in contents"),
        ({"validation": None}, "differs in validation"),
        ({"key": jax.random.key(3)}, "differs in key: None there"),
        ({"strategy": "vmap"}, "differs in strategy: 'threads' there, 'vmap' here"),
        ({"halving": jd.search.SuccessiveHalving()}, "differs in halving"),
        ({"epochs": 2}, "epochs must be at least 4, as in the sweep in .*; got 2"),
        ({"space": {"rate": [0.01]}}, "holds a sweep of 3 more rows, such as .*0.02.*with seed 0"),
        ({"space": {"rate": [0.01]}, "batch_size": 32}, "another batch_size"),
    ],
)
def test_whatever_else_changes_is_refused_by_name(tmp_path_factory, changes, message):
    directory = _finished(tmp_path_factory)
    before = (directory / "journal.jsonl").read_bytes()
    with pytest.raises(ValueError, match=message):
        sweep(**{"checkpoint": directory, "strategy": "threads"} | changes)
    assert (directory / "journal.jsonl").read_bytes() == before


def test_what_a_loss_or_a_schedule_is_made_of_is_refused_when_it_changes(tmp_path):
    weights = [1.0, 5.0]

    def scheduled(hp, steps=9):
        return optax.sgd(optax.cosine_decay_schedule(0.1, steps), momentum=hp["momentum"])

    def loss(outputs, y):
        return jnp.add(jd.losses.mse(outputs, y) * weights[0], 0.0)

    how = {"space": {"momentum": [0.5]}, "epochs": 1, "loss": loss, "checkpoint": tmp_path}
    table = sweep(builder=scheduled, **how)
    identical(sweep(builder=scheduled, **how), table)
    with pytest.raises(ValueError, match=r"another optimizer: .*decay_steps=9.0.* there, .*=90.0"):
        sweep(builder=functools.partial(scheduled, steps=90), **how)
    weights[0] = 50.0
    with pytest.raises(ValueError, match=r"another loss: .*weights=\[1.0, .* there, .*\[50.0, .* here"):
        sweep(builder=scheduled, **how)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            *(jd.optimizers.adam, jd.optimizers.sgd),
            r"\S*jaxdeep.optimizers.scale_by_adam\b.* there, .*scale_by_learning_rate\b.* here",
        ),
        (
            *(jd.optimizers.adam, lambda rate: jd.optimizers.adam(rate, mu_dtype="bfloat16")),
            r"optimizer: .*'mu_dtype': None\b.* there, .*'mu_dtype': 'bfloat16'.* here",
        ),
        (
            *(jd.optimizers.adam, lambda rate: jd.optimizers.adam(rate, b1=0.5)),
            r"has other hyperparameters: .*'b1': 0.9,.* there, .*'b1': 0.5,.* here",
        ),
        (
            *(optax.adam, lambda rate: optax.adam(rate, b1=0.5)),
            r"another optimizer: …b1=0.9, .* there, …b1=0.5, .* here",
        ),
        (
            optax.adam,
            optax.sgd,
            r"optimizer: .*optax.scale_by_adam\b.* there, .*init_empty_state.* here",
        ),
    ],
)
def test_a_refusal_shows_what_is_another(tmp_path, before, after, message):
    how = {"space": {"rate": [0.1]}, "epochs": 1, "checkpoint": tmp_path}
    sweep(builder=lambda hp: before(hp["rate"]), **how)
    with pytest.raises(ValueError, match=message):
        sweep(builder=lambda hp: after(hp["rate"]), **how)


_CACHED = []


def _finished(factory):
    """A directory with a finished sweep, made once."""
    if not _CACHED:
        _CACHED.append(factory.mktemp("sweep"))
        sweep(checkpoint=_CACHED[0], strategy="threads")
    return _CACHED[0]


def test_a_torn_last_line_is_left_out_with_a_warning(tmp_path):
    first = sweep(checkpoint=tmp_path)
    journal = tmp_path / "journal.jsonl"
    text = journal.read_bytes()
    journal.write_bytes(text[: -len(text.splitlines()[-1]) // 2])
    with pytest.warns(UserWarning, match=r"the last line of .* is torn"):
        identical(sweep(checkpoint=tmp_path), first)
    assert journal.read_bytes().endswith(b"\n")


def test_a_damaged_line_in_the_middle_is_an_error_that_changes_nothing(tmp_path):
    sweep(checkpoint=tmp_path)
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[2] = b'{"text": garb\xff\n'
    journal.write_bytes(b"".join(lines))
    with pytest.raises(ValueError, match=r"line 3 of .*journal.jsonl is no event of a sweep"):
        sweep(checkpoint=tmp_path)
    assert journal.read_bytes() == b"".join(lines)


@pytest.mark.few(1)
def test_a_damaged_state_is_trained_again_with_a_warning(tmp_path, kept):
    first = sweep(checkpoint=tmp_path, epochs=2)
    place = places(tmp_path)[1]
    data = bytearray(place.read())
    data[-3] ^= 1
    overwrite(place, data)
    assert len(first) == 4
    with pytest.warns(UserWarning, match=r"cannot be read: .*checksum.*begins anew"):
        longer = sweep(checkpoint=tmp_path, epochs=4)
    identical(longer, sweep(epochs=4))


@pytest.mark.few(1)
def test_a_row_whose_file_is_damaged_or_gone_says_how_it_is_had_again(tmp_path, kept):
    first = sweep(checkpoint=tmp_path)
    place = places(tmp_path)[0]
    with place.path.open("r+b") as file:
        file.truncate(place.start + 100)
    table = sweep(checkpoint=tmp_path)
    assert table.rows() == first.rows()
    row = next(i for i in range(4) if table.results[i].params.place == place)
    with pytest.raises(ValueError, match=r"cannot be read: .*Delete that file and call the sweep again"):
        table.trained(row)
    place.path.unlink()
    with pytest.raises(ValueError, match="not there any more; the sweep trains the row again"):
        table.trained(row)
    count = 4 if kept == "together" else 1
    with pytest.warns(UserWarning, match=f"files of the parameters of {count} rows"):
        identical(sweep(checkpoint=tmp_path), sweep())
    lines = len(events(tmp_path))
    identical(sweep(checkpoint=tmp_path), sweep())
    assert not trained_epochs(tmp_path, lines)


def test_files_that_were_not_kept_are_not_missed(tmp_path):
    how = {"checkpoint": tmp_path, "rows_at_once": 1}
    first = sweep(**how, keep_params=3)
    for keep in (2, 1, 3, None):
        lines = len(events(tmp_path))
        assert sweep(**how, keep_params=keep).rows() == first.rows()
        assert not trained_epochs(tmp_path, lines)


def unsynced(monkeypatch, directory, **how):
    """A sweep of which nothing has reached the disk but what the system wrote by itself."""
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "_sync", lambda self: None)
        return sweep(checkpoint=directory, **how)


@pytest.mark.few(3)
@pytest.mark.parametrize("lost", ["torn", "gone", "old", "nothing"])
def test_a_power_cut_costs_the_last_seconds(tmp_path, monkeypatch, lost, kept):
    unsynced(monkeypatch, tmp_path)
    whole = sweep()
    place = places(tmp_path)[-1]
    if lost == "gone":
        place.path.unlink()
    elif lost == "torn":
        overwrite(place, bytes(len(place.read())))
    elif lost == "old":
        arrays, _ = row_file.read(place)
        overwrite(place, row_file.contents(arrays, 2))
    lines = len(events(tmp_path))
    if lost == "nothing":  # as after a kill of the process alone
        identical(sweep(checkpoint=tmp_path), whole)
        assert not trained_epochs(tmp_path, lines)
        return
    with pytest.warns(UserWarning, match="has reached the disk, as after a power cut"):
        identical(sweep(checkpoint=tmp_path), whole)
    identical(sweep(checkpoint=tmp_path), whole)


def test_a_file_of_a_row_that_has_ended_since_is_not_missed_after_a_power_cut(tmp_path, monkeypatch):
    how = {"halving": jd.search.SuccessiveHalving(first=1, factor=2)}
    first = unsynced(monkeypatch, tmp_path, **how)
    for path in (tmp_path / "rows").glob("*.safetensors"):
        path.unlink()  # as after a sync of which the last mark in the journal was lost
    lines = len(events(tmp_path))
    identical(sweep(checkpoint=tmp_path, **how), first)
    assert not trained_epochs(tmp_path, lines)


def test_a_power_cut_is_told_from_rows_that_keep_no_parameters(tmp_path, monkeypatch):
    how = {"keep_params": 1, "rows_at_once": 1}
    first = unsynced(monkeypatch, tmp_path, **how)
    lines = len(events(tmp_path))
    for keep in (1, 2, None):
        assert sweep(checkpoint=tmp_path, keep_params=keep).rows() == first.rows()
    assert not trained_epochs(tmp_path, lines)


def test_a_journal_may_have_no_marks(tmp_path):
    first = sweep(checkpoint=tmp_path)
    journal = tmp_path / "journal.jsonl"
    without = [line for line in journal.read_text().splitlines() if "synced" not in line]
    journal.write_text("\n".join(without) + "\n")
    for place in places(tmp_path):  # nothing looks at them before they are asked for
        overwrite(place, bytes(len(place.read())))
    assert sweep(checkpoint=tmp_path).rows() == first.rows()
    assert len(events(tmp_path)) == len(without)


def test_a_directory_of_another_format_is_refused_with_the_version_that_wrote_it(tmp_path):
    header = {"sweep": 1, "about": {}, "made_with": {"jaxdeep": "0.1.0"}, "began": 0.0}
    (tmp_path / "journal.jsonl").write_text(json.dumps(header) + "\n")
    with pytest.raises(ValueError, match=r"format 1, which jaxdeep 0.1.0 wrote.*another directory"):
        sweep(checkpoint=tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["journal.jsonl"]


def test_what_a_kill_leaves_behind_the_states_does_no_harm(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        killed_after(patch, 2)
        with pytest.raises(Killed):
            sweep(checkpoint=tmp_path, rows_at_once=1)
    (file,) = (tmp_path / "rows").iterdir()
    assert file.stat().st_size == sum(place.size for place in places(tmp_path))
    file.write_bytes(file.read_bytes() + b"torn" * 10_000)
    lines = len(events(tmp_path))
    identical(sweep(checkpoint=tmp_path), sweep())
    assert len(trained_epochs(tmp_path, lines)) == 2


def test_a_table_never_reads_the_parameters_of_another_sweep(tmp_path):
    table = sweep(checkpoint=tmp_path / "sweep")
    shutil.rmtree(tmp_path / "sweep")
    sweep(checkpoint=tmp_path / "sweep", key=jax.random.key(7))
    with pytest.raises(ValueError, match="is not there any more"):
        table.trained(0)


def test_a_row_that_has_ended_needs_no_file_of_its_own_any_more(tmp_path):
    how = {"halving": jd.search.SuccessiveHalving(first=1, factor=2), "checkpoint": tmp_path}
    table = sweep(**how)
    assert [path.suffix for path in (tmp_path / "rows").iterdir()] == [".bin"]
    (tmp_path / "rows" / f"{events(tmp_path)[-2]['ended']}.safetensors").write_bytes(b"left")
    identical(sweep(**how), table)  # as a kill between the two would leave it
    assert [path.suffix for path in (tmp_path / "rows").iterdir()] == [".bin"]


@pytest.mark.heavy
def test_rows_may_stop_to_be_kept_between_calls(tmp_path):
    first = sweep(checkpoint=tmp_path)
    best = int(np.argmin([row["val_loss"] for row in first.rows()]))
    table = sweep(checkpoint=tmp_path, keep_params=1)
    for i in range(4):
        if i != best:
            with pytest.raises(ValueError, match="parameters were not kept"):
                table.trained(i)
    jax.tree.map(np.testing.assert_array_equal, table.trained(best), first.trained(best))
    assert sweep(checkpoint=tmp_path, keep_params=1, epochs=6).rows() == sweep(epochs=6).rows()


def test_another_process_is_refused_meanwhile(tmp_path):
    from jaxdeep.fitting.directory import held

    with held(tmp_path), pytest.raises(ValueError, match="is in use by another sweep"):
        sweep(checkpoint=tmp_path)


def test_the_best_rows_keep_their_parameters(tmp_path):
    table = sweep(checkpoint=tmp_path, keep_params=2)
    losses = [row["val_loss"] for row in table.rows()]
    best = set(np.argsort(losses)[:2].tolist())
    for i in range(4):
        if i in best:
            table.trained(i)
        else:
            with pytest.raises(ValueError, match="parameters were not kept"):
                table.trained(i)
    assert len(list((tmp_path / "rows").iterdir())) == 2
    table.save(tmp_path / "table.npz")
    saved = jd.search.Table.load(tmp_path / "table.npz")
    assert saved.rows() == table.rows()
    jax.tree.map(np.testing.assert_array_equal, *(t.trained(min(best)) for t in (saved, table)))
    again = sweep(checkpoint=tmp_path, keep_params=2)
    assert again.rows() == table.rows()


def test_more_epochs_change_who_is_halved(tmp_path):
    points = [{"rate": rate} for rate in (0.001, 0.002, 0.003, 0.03, 0.031, 0.032)]
    halving = jd.search.SuccessiveHalving(factor=2, monitor="loss")
    sweep(points, epochs=2, halving=halving, checkpoint=tmp_path)
    longer = sweep(points, epochs=6, halving=halving, checkpoint=tmp_path)
    identical(longer, sweep(points, epochs=6, halving=halving))


def test_a_bracket_of_points_that_diverge_does_not_end_the_others():
    points = [{"rate": rate} for rate in (0.01, 0.02, 0.03, 1e20, 2e20, 0.05)]
    table = sweep(points, epochs=9, halving=jd.search.Hyperband())
    assert table.best("val_loss")["ended"] == "finished"
    assert [row["ended"] for row in table.rows()][3:5] == ["diverged", "diverged"]


@pytest.mark.heavy
def test_a_metric_that_has_turned_nan_ranks_last():
    def metric(outputs, y):
        return jnp.where(jnp.abs(outputs[..., 0]).max() > 4.0, jnp.nan, jnp.abs(outputs - y).mean(-1))

    halving = jd.search.SuccessiveHalving(first=2, factor=2, monitor="val_m", mode="min")
    table = sweep({"rate": [1e-4, 0.1]}, epochs=4, metrics={"m": metric}, halving=halving)
    assert np.isnan(table.history(1)["val_m"][1])
    assert [row["ended"] for row in table.rows()] == ["finished", "halved"]


def test_a_file_that_is_gone_at_a_rung_is_trained_again(tmp_path, monkeypatch):
    how = {"halving": jd.search.SuccessiveHalving(first=1, factor=2), "rows_at_once": 1}
    with monkeypatch.context() as patch:
        killed_after(patch, 3)
        with pytest.raises(Killed):
            sweep(**how, checkpoint=tmp_path)
    next((tmp_path / "rows").iterdir()).unlink()
    identical(sweep(**how, checkpoint=tmp_path), sweep(**how))


@pytest.mark.heavy
def test_keys_of_another_kind_go_on(tmp_path):
    how = {"key": jax.random.key(0, impl="rbg"), "checkpoint": tmp_path}
    sweep(**how, epochs=2)
    identical(sweep(**how), sweep(**(how | {"checkpoint": None})))


@pytest.mark.parametrize("line", ['{"reached":"abc"}', '{"row":5}', '{"ended":"abc"}'])
def test_an_incomplete_event_is_named(tmp_path, line):
    sweep({"rate": [0.1]}, checkpoint=tmp_path)
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match=r"line 3 of .* is no event of a sweep"):
        sweep({"rate": [0.1]}, checkpoint=tmp_path)


def test_without_a_directory_the_best_rows_keep_their_parameters_too():
    table = sweep(keep_params=2)
    best = np.argsort([row["val_loss"] for row in table.rows()])[:2]
    kept = [i for i in range(4) if table.results[i].params is not None]
    assert kept == sorted(best.tolist())
    with pytest.raises(ValueError, match="parameters were not kept"):
        table.trained(next(i for i in range(4) if i not in kept))


def test_a_directory_that_is_gone_is_not_a_row_that_was_not_kept(tmp_path):
    table = sweep(checkpoint=tmp_path / "sweep")
    shutil.rmtree(tmp_path / "sweep")
    with pytest.raises(ValueError, match="is not there any more"):
        table.save(tmp_path / "table.npz")


COLUMNS = ["seed", "fold", "n_train", "n_validate", "ended", "diverged", "error", "edge"]


@pytest.mark.parametrize("name", [*COLUMNS, "loss", "val_loss", "mae", "val_mae"])
def test_names_of_the_table_are_refused(name):
    how = {"metrics": {"mae": jd.losses.mae}}
    with pytest.raises(ValueError, match=f"'{name}'"):
        sweep({"rate": [0.1], name: [1, 2]}, **how)
    with pytest.raises(ValueError, match=f"'{name}'"):
        sweep([{"rate": 0.1, name: 0.5}, {"rate": 0.2}], **how)


@pytest.mark.few(1)
@pytest.mark.parametrize("strategy", ["threads", "vmap"])
def test_a_metric_is_not_hidden_by_a_hyperparameter_of_the_optimizer(strategy):
    def adam(hp):
        return jd.optimizers.adam(0.1, b1=hp["b1"])

    space = {"b1": [0.8, 0.9]}
    with pytest.raises(ValueError, match="'b1'"):
        sweep(space, adam, metrics={"b1": jd.losses.mae}, strategy=strategy)
    rows = sweep(space, adam, epochs=1, strategy=strategy).rows()
    assert [row["b1"] for row in rows] == space["b1"]


def test_a_name_that_is_no_column_here_is_taken():
    point = {"rate": 0.1, "val_loss": 2, "mae": "a"}
    row = sweep([point], validation=None, epochs=1).rows()[0]
    assert {name: row[name] for name in point} == point


def test_a_hyperparameter_keeps_its_name_in_the_rows():
    def build(hp):
        return {"optimizer": jd.optimizers.sgd(0.01), "epochs": hp["epochs"]}

    table = sweep({"epochs": [1, 3]}, build)
    assert [row["epochs"] for row in table.rows()] == [1, 3]


def test_a_row_that_raises_leaves_the_others_alone(tmp_path):
    allowed = []

    def objective(params, state, batch, *, key=None, train=False):
        def check(rate):
            if rate > 0.5 and not allowed:
                raise OSError("no such file")

        jax.debug.callback(check, params["rate"])
        return jnp.sum((params["w"] - batch.mean()) ** 2), (state, {})

    def build(hp):
        def init(key, x):
            return {"w": jnp.zeros(1), "rate": jnp.full((), hp["rate"])}, {}

        model = jd.nn.Model(init, lambda params, state, x, **switches: (x, state))
        return {"model": model, "optimizer": jd.optimizers.sgd(0.1), "trainable": "w"}

    how = {"objective": objective, "data": X, "epochs": 2, "batch_size": 16, "progress": False}
    space = {"rate": [0.1, 0.9]}
    with pytest.warns(UserWarning, match=r"1 of 2 rows ended with an error"):
        table = jd.sweep(build, space, **how)
    assert [row["ended"] for row in table.rows()] == ["finished", "error"]
    assert "no such file" in table.results[1].error
    assert table.best("loss")["rate"] == 0.1
    with pytest.raises(Exception, match="no such file"):
        jd.sweep(build, {"rate": [0.8, 0.9]}, **how)


def test_all_points_that_diverge_end_the_sweep_with_their_names():
    halving = jd.search.SuccessiveHalving(first=1, factor=2)
    with pytest.raises(
        FloatingPointError, match=r"no point has a finite val_loss after epoch 1.*1e\+30"
    ):
        sweep({"rate": [1e30, 1e31]}, halving=halving)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_point_that_diverged_is_never_best(mode):
    halving = jd.search.SuccessiveHalving(first=1, factor=2, monitor="val_loss", mode=mode)
    rows = sweep({"rate": [1e30, 0.01, 0.02, 1e31]}, halving=halving).rows()
    assert [rows[0]["ended"], rows[3]["ended"]] == ["diverged", "diverged"]
    assert sum(row["ended"] == "finished" for row in rows) == 1


def test_points_need_values_with_a_name(tmp_path):
    with pytest.raises(
        ValueError, match=r"activation must have values that a journal can name.*<lambda>"
    ):
        sweep([{"rate": 0.1, "activation": lambda x: x}], checkpoint=tmp_path)
    sweep([{"rate": 0.1, "activation": jax.nn.relu}], checkpoint=tmp_path)


@pytest.mark.parametrize(
    "dtype", ["bfloat16", "float32", "float16", "float64", "int8", "uint32", "int64"]
)
def test_the_file_of_a_row_keeps_every_bit(tmp_path, dtype):
    arrays = {
        "run.a": np.array([[1.5, 2.0], [-0.0, 100.0]]).astype(jnp.dtype(dtype)),
        'run."é"': np.array([np.nan, -0.0, 3e38], np.float32),
        "run.t": np.arange(6, dtype=np.int16).reshape(2, 3).T,
        "run.n": np.int32(7),
        "run.e": np.zeros((0, 3), np.float32),
        "run.b": np.array(True),
    }
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    path = tmp_path / "row"
    path.write_bytes(b"before" + row_file.contents(arrays, 3) + b"after")
    again, epoch = row_file.read(row_file.Place(path, 6, path.stat().st_size - 11))
    assert epoch == 3
    for name, array in arrays.items():
        assert (again[name].dtype, again[name].shape) == (array.dtype, array.shape)
        assert again[name].tobytes() == array.tobytes()


def test_a_journal_that_cannot_be_written_ends_with_its_last_whole_line(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.add([{"a": 1}])
    whole = journal.path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*Make room there"):
        journal.add([{"b": 2}])
    monkeypatch.undo()
    assert journal.path.read_bytes() == whole
    journal.add([{"c": 3}])
    journal.close()
    assert Journal(journal.path).events == [{"a": 1}, {"c": 3}]


_SCRIPT = """
import hashlib, json, sys
import jax, numpy as np
import jaxdeep as jd

x = np.random.default_rng(0).normal(size=(512, 8)).astype("float32")
y = (x[:, 0] > x[:, 1]).astype("int32")
halving = {"full": None, "halving": jd.search.SuccessiveHalving(first=3, factor=2)}[sys.argv[2]]
table = jd.sweep(
    lambda hp: {
        "model": jd.nn.serial(jd.nn.dense(hp["width"], activation=jax.nn.relu), jd.nn.dense(2)),
        "optimizer": jd.optimizers.adam(hp["rate"]),
    },
    {"rate": [1e-3, 1e-2, 1e-1], "width": [4, 8]}, seeds=2, data=(x, y), validation=(x[:99], y[:99]),
    loss=jd.losses.softmax_cross_entropy, epochs=12, batch_size=32, progress=False, halving=halving,
    checkpoint=sys.argv[1] or None, strategy=sys.argv[3],
)
digest = hashlib.sha256(json.dumps(table.rows(), sort_keys=True).encode())
for i in range(len(table)):
    for leaf in jax.tree.leaves((table.history(i), table.trained(i))):
        digest.update(np.ascontiguousarray(leaf).tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("halving", "strategy"), [("full", "threads"), ("halving", "threads"), ("full", "vmap")]
)
def test_twenty_kills_at_random_moments_change_nothing(tmp_path, halving, strategy):
    def start(directory):
        command = [sys.executable, "-c", _SCRIPT, directory, halving, strategy]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    began = time.monotonic()
    expected, _ = start("").communicate()
    took, moments = time.monotonic() - began, np.random.default_rng(0)
    for _ in range(20):
        process = start(str(tmp_path))
        try:
            process.communicate(timeout=took * moments.uniform(0.5, 1.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    found, _ = start(str(tmp_path)).communicate()
    assert found == expected
    ended = [event["ended"] for event in events(pathlib.Path(tmp_path)) if "ended" in event]
    assert len(ended) == len(set(ended))  # no row was trained to its end twice


def test_a_state_that_is_gone_when_an_interrupted_sweep_ends_is_no_error(tmp_path, monkeypatch):
    how = {"rows_at_once": 1, "halving": jd.search.SuccessiveHalving(first=1, factor=2)}
    with monkeypatch.context() as patch:
        killed_after(patch, 2)
        with pytest.raises(Killed):
            sweep(**how, checkpoint=tmp_path)
    saved = sorted((tmp_path / "rows").iterdir())
    assert saved
    for path in saved:
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.warns(UserWarning, match="begins anew"):
        table = sweep(**how, checkpoint=tmp_path)
    identical(table, sweep(**how))
