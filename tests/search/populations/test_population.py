"""Populations: members are runs, copies go on from their parents, and a kill costs no bits."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.compilations import work
from helpers.runs import ARGUMENTS, identical

import jaxdeep as jd
from jaxdeep.search.populations import evolution, population_store

pytest.importorskip("safetensors")

KEY = jax.random.key(3)
# of NumPy, whose bits do not depend on what a process compiles with
X = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
Y = (X[:, 0] > X[:, 1]).astype(np.int32)
RATES = [{"learning_rate": rate} for rate in (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1e30, 1e35)]
RANGES = {"learning_rate": (1e-3, 1e36)}
LINEAR = {
    "model": jd.nn.dense(1),
    "data": (X, X[:, :1]),
    "validation": (X[:20], X[:20, :1]),
    "loss": jd.losses.mse,
    "batch_size": 20,
}


def sgd(hp):
    return jd.optimizers.sgd(hp["learning_rate"], momentum=0.5)


USUAL = {"ranges": RANGES, "key": KEY, "every": 2, "epochs": 6, "progress": False}


def population(space=RATES, builder=sgd, **changes):
    return jd.search.population(builder, space, **LINEAR | USUAL | changes)


def same(a, b):
    identical((a.params, a.state, dict(a.history)), (b.params, b.state, dict(b.history)))
    assert (a.best, a.steps_per_epoch, a.stopped) == (b.best, b.steps_per_epoch, b.stopped)
    assert len(a.lineage) == len(b.lineage)
    for one, other in zip(a.lineage, b.lineage):
        assert one.epoch == other.epoch
        identical(one[1:], other[1:])


@pytest.fixture(scope="module")
def whole():
    """A population that is not interrupted, with two members that diverge at once."""
    return population()


# --- members and generations ------------------------------------------------------------------------


@pytest.mark.heavy
def test_members_that_diverge_are_replaced_by_finite_ones(whole):
    first, second, third = whole.lineage
    assert (first.epoch, second.epoch, third.epoch) == (0, 2, 4)
    assert first.parents.tolist() == list(range(8))
    assert np.isnan(whole.history["val_loss"][1, 6:]).all()
    assert second.parents[:6].tolist() == list(range(6))
    by_loss = np.argsort(whole.history["val_loss"][1])
    assert set(second.parents[6:]) <= set(by_loss[:2])
    assert np.isfinite(whole.history["val_loss"][3, third.parents]).all()
    for before, generation in zip(whole.lineage, whole.lineage[1:]):
        rates = generation.hyperparameters["learning_rate"]
        copies = generation.parents != np.arange(8)
        assert copies.sum() == 2
        start = before.hyperparameters["learning_rate"]
        assert (rates[~copies] == start[~copies]).all()
        assert (rates[copies] != start[generation.parents[copies]]).all()
    assert whole.best == np.nanargmin(whole.history["val_loss"][-1])


@pytest.mark.few(1)
@pytest.mark.parametrize("metrics", [{"mae": jd.losses.mae}, {"drift": jd.metrics.r2()}])
def test_members_have_metrics(metrics):
    (name,) = metrics
    result = population(RATES[:2], metrics=metrics, epochs=1)
    assert np.isfinite(result.history[f"val_{name}"]).all()
    assert len({*result.history[name][0].tolist()}) == 2


def test_the_rates_in_the_history_are_those_of_the_lineage(whole):
    for generation in whole.lineage:
        rates = whole.history["learning_rate"][generation.epoch : generation.epoch + 2]
        np.testing.assert_array_equal(rates, [generation.hyperparameters["learning_rate"]] * 2)


def test_twice_the_same(whole):
    before = work("backend_compile")
    same(population(), whole)
    assert work("backend_compile") == before
    other = population(key=jax.random.key(4))
    assert any((a.parents != b.parents).any() for a, b in zip(other.lineage, whole.lineage))


@pytest.mark.heavy
def test_without_exploits_members_are_the_runs_alone():
    points = [{"learning_rate": rate, "momentum": 0.9} for rate in (0.01, 0.05, 0.1)]
    ranges = {"learning_rate": (1e-3, 1.0), "momentum": (0.1, 0.99)}

    def build(hp):
        return jd.optimizers.sgd(hp["learning_rate"], momentum=hp["momentum"])

    for how in ({"fraction": 0.0}, {"every": 6}):
        result = population(points, build, ranges=ranges, **how)
        assert all(generation.parents.tolist() == [0, 1, 2] for generation in result.lineage)
        assert len(result.schedule()) == 1
        alone = jd.fit(
            LINEAR["model"],
            LINEAR["data"],
            optimizer=build(points[2]),
            key=jax.random.fold_in(KEY, 2),
            epochs=6,
            progress=False,
            **{name: LINEAR[name] for name in ("validation", "loss", "batch_size")},
        )
        for name, values in alone.history.items():
            np.testing.assert_allclose(result.history[name][:, 2], values, rtol=1e-5)
        assert list(result.history) == list(alone.history)


@pytest.mark.heavy
def test_any_model_and_optimizer():
    """Batch norm, dropout, an average of the parameters, a chain, and points that hold constants."""

    def build(hp):
        adamw = jd.optimizers.adamw(hp["learning_rate"], b1=hp["b1"], weight_decay=1e-3)
        optimizer = optax.chain(adamw, jd.optimizers.ema_params(0.9))
        return {"optimizer": optimizer, "batch_size": hp["batch"]}

    space = {"learning_rate": [1e-3, 1e-2, 1e-1, 1e6], "b1": [0.5, 0.9], "batch": [25]}
    result = jd.search.population(
        build,
        space,
        **{**ARGUMENTS, "data": (X, Y), "validation": (X, Y), "batch_size": 1},
        ranges={"learning_rate": (1e-4, 1e6), "b1": (0.3, 0.99)},
        ema=True,
        monitor="val_accuracy",
        key=KEY,
        every=1,
        epochs=4,
        progress=False,
    )
    assert result.history["val_accuracy"].shape == (4, 8)
    assert result.best == np.argmax(result.history["val_accuracy"][-1])
    assert result.steps_per_epoch == 4
    model = ARGUMENTS["model"]
    logits, _ = model.apply(result.params, result.state, X)
    # of the last batch norm's bits, one of 100 rows may be on the other side
    accuracy = np.mean(np.argmax(logits, axis=1) == Y)
    assert accuracy == pytest.approx(result.history["val_accuracy"][-1, result.best], abs=0.011)


@pytest.mark.heavy
@pytest.mark.few("max")
@pytest.mark.parametrize("mode", ["min", "max"])
def test_of_an_unknown_metric_the_mode_decides_and_nan_is_worst_in_both(mode):
    def drift(outputs, y):
        return outputs[:, 0]

    result = population(metrics={"drift": drift}, monitor="val_drift", mode=mode)
    final = result.history["val_drift"][-1]
    assert result.best == (np.nanargmin(final) if mode == "min" else np.nanargmax(final))
    for generation in result.lineage[1:]:
        before = result.history["val_drift"][generation.epoch - 1]
        copies = np.flatnonzero(generation.parents != np.arange(8))
        assert np.isfinite(before[generation.parents]).all()
        assert set(np.flatnonzero(np.isnan(before))) <= set(copies)


@pytest.mark.heavy
def test_a_member_is_worst_after_one_bad_loss_unless_told_otherwise():
    x = np.array(X)
    spoilt = (x, np.where(np.arange(100)[:, None] == 50, np.inf, x[:, :1]))
    with pytest.raises(
        FloatingPointError, match=r"no member .* finite val_loss .*learning_rate was 0.001, "
    ):
        population(data=spoilt)
    result = population(data=spoilt, on_nonfinite="skip")
    assert (result.history["skipped"] >= 1).all()
    assert np.isfinite(result.history["val_loss"][-1, result.best])


@pytest.mark.heavy
def test_values_stay_in_their_ranges():
    ranges = {"learning_rate": (0.01, 0.1), "momentum": (0.5, 0.75)}
    points = [{"learning_rate": 0.01, "momentum": 0.75}] * 4  # equal points are members of their own

    def build(hp):
        return jd.optimizers.sgd(hp["learning_rate"], momentum=hp["momentum"])

    result = population(points, build, ranges=ranges, every=1, epochs=12, fraction=0.5, resample=0.1)
    for name, (low, high) in ranges.items():
        values = np.stack([g.hyperparameters[name] for g in result.lineage])
        assert ((np.float32(low) <= values) & (values <= np.float32(high))).all()
        assert len(np.unique(values)) > 2


@pytest.mark.heavy
def test_ranges_are_those_that_points_were_drawn_from():
    points = jd.search.sobol({"learning_rate": jd.search.log_uniform(1e-3, 0.3)}, 4, seed=0)
    result = population(points, ranges=None, fraction=0.5, every=1)
    assert all((g.hyperparameters["learning_rate"] <= np.float32(0.3)).all() for g in result.lineage)
    same(population(points, ranges={"learning_rate": (1e-3, 0.3)}, fraction=0.5, every=1), result)
    with pytest.raises(ValueError, match=r"space must hold points within ranges; learning_rate of"):
        population(points, ranges={"learning_rate": (1e-3, 2e-3)})


# --- the winner's schedule --------------------------------------------------------------------------


def test_the_schedule_is_traced_back_through_ancestors():
    numbers = np.array
    lineage = (
        jd.search.Generation(0, numbers([0, 1, 2]), {"a": numbers([1.0, 2.0, 3.0])}),
        jd.search.Generation(2, numbers([0, 1, 1]), {"a": numbers([1.0, 2.0, 2.5])}),
        jd.search.Generation(4, numbers([2, 1, 2]), {"a": numbers([3.5, 2.0, 2.5])}),
    )
    history = {"loss": np.arange(15.0).reshape(5, 3)}  # interrupted in the last generation
    result = jd.search.PopulationResult({}, {}, 0, history, lineage, steps_per_epoch=10)
    assert result.schedule() == [(0, {"a": 2.0}), (2, {"a": 2.5}), (4, {"a": 3.5})]
    assert result.ancestors().tolist() == [1, 1, 2, 2, 0]
    assert result.schedule(2) == [(0, {"a": 2.0}), (2, {"a": 2.5})]
    assert result.schedule(1) == [(0, {"a": 2.0})]
    assert result.ancestors(1).tolist() == [1] * 5
    schedule = result.schedules(3)["a"]
    assert [float(schedule(step)) for step in (0, 5, 6, 11, 12, 100)] == [2, 2, 2.5, 2.5, 3.5, 3.5]
    assert float(result.schedules(member=1)["a"](7)) == 2.0
    for member, error in ((3, ValueError), (-1, ValueError), (True, TypeError), ("a", TypeError)):
        with pytest.raises(error, match="member must be"):
            result.schedule(member)
    with pytest.raises(ValueError, match="steps_per_epoch must be at least 1"):
        result.schedules(0)


def test_a_run_with_the_schedule_has_the_rates_of_the_lineage():
    result = population(every=1, epochs=6, fraction=0.5)
    assert len(result.schedule()) > 1
    again = jd.fit(
        LINEAR["model"],
        LINEAR["data"],
        optimizer=sgd(result.schedules()),
        key=KEY,
        epochs=6,
        progress=False,
        **{name: LINEAR[name] for name in ("validation", "loss", "batch_size")},
    )
    traced = result.history["learning_rate"][np.arange(6), result.ancestors()]
    np.testing.assert_array_equal(again.history["learning_rate"], traced)
    begins = [epoch for epoch, _ in result.schedule()]
    rates = [values["learning_rate"] for _, values in result.schedule()]
    np.testing.assert_array_equal(traced, np.repeat(np.float32(rates), np.diff([*begins, 6])))


# --- killed and resumed -----------------------------------------------------------------------------


class Killed(BaseException):
    """Nothing catches it."""


@pytest.mark.heavy
@pytest.mark.optimized
@pytest.mark.few(2)
@pytest.mark.parametrize("epoch", [3, 2, 1, 5])
def test_a_population_that_is_killed_goes_on_to_the_same_bits(epoch, tmp_path, monkeypatch):
    expected = population(checkpoint=tmp_path / "whole")
    shown = evolution._shown

    def killing(course, runs, done):
        if done == epoch:
            raise Killed
        return shown(course, runs, done)

    monkeypatch.setattr(evolution, "_shown", killing)
    with pytest.raises(Killed):
        population(checkpoint=tmp_path / "killed")
    monkeypatch.undo()
    begun = []
    monkeypatch.setattr(
        evolution, "_shown", lambda course, runs, done: begun.append(done) or shown(course, runs, done)
    )
    same(population(checkpoint=tmp_path / "killed"), expected)
    assert begun == list(range(epoch - epoch % 2 + 1 if epoch % 2 else epoch - 1, 7))
    begun.clear()
    same(population(checkpoint=tmp_path / "killed"), expected)  # nothing left to do
    assert not begun
    names = sorted(place.name for place in (tmp_path / "killed").iterdir())
    assert names == ["members-4.safetensors", "members-6.safetensors", "population.jsonl"]


@pytest.mark.optimized
def test_a_checkpoint_changes_no_bits(whole, tmp_path):
    same(population(checkpoint=tmp_path), population())


@pytest.mark.heavy
@pytest.mark.optimized
def test_states_of_any_dtype_and_structure_are_saved(tmp_path):
    x = jnp.asarray(X, jnp.bfloat16)
    model = jd.nn.serial(jd.nn.dense(3), jd.nn.batch_norm(), jd.nn.dropout(0.1), jd.nn.dense(1))
    how = {"data": (x, x[:, :1]), "validation": None, "model": model, "key": jax.random.PRNGKey(1)}
    optimizer = optax.chain(optax.clip(1.0), jd.optimizers.adam(0.01, mu_dtype="bfloat16"))
    how |= {"builder": lambda hp: optimizer, "space": [{}] * 4, "ranges": {"b1": (0.5, 0.99)}}
    expected = population(**how)
    assert {leaf.dtype for leaf in jax.tree.leaves(expected.params)} == {np.dtype(jnp.bfloat16)}
    population(**how, epochs=4, checkpoint=tmp_path)
    same(population(**how, checkpoint=tmp_path), expected)


@pytest.mark.heavy
@pytest.mark.optimized
def test_more_epochs_extend(tmp_path):
    expected = population(epochs=9)
    population(epochs=4, checkpoint=tmp_path)
    population(epochs=5, checkpoint=tmp_path)  # where no exploit is
    same(population(epochs=9, checkpoint=tmp_path), expected)
    with pytest.raises(ValueError, match="epochs must be at least 9, as many as the population"):
        population(epochs=4, checkpoint=tmp_path)


@pytest.mark.heavy
@pytest.mark.optimized
def test_a_damaged_file_falls_back_to_the_one_before(tmp_path):
    expected = population(checkpoint=tmp_path)
    file = tmp_path / "members-6.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 0xFF
    for damaged in (bytes(content), bytes(content[:50]), None):
        file.unlink() if damaged is None else file.write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"members-6.safetensors in .* is damaged .*trying the one"):
            same(population(checkpoint=tmp_path), expected)
    for name in ("members-6.safetensors", "members-4.safetensors"):
        (tmp_path / name).write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(ValueError, match=r"none of the states in .* can be read"),
    ):
        population(checkpoint=tmp_path)


@pytest.mark.optimized
def test_a_torn_last_line_is_left_out_and_another_is_named(tmp_path):
    expected = population(checkpoint=tmp_path)
    journal = tmp_path / population_store.POPULATION
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    with pytest.warns(UserWarning, match="the last line of .* is torn"):
        same(population(checkpoint=tmp_path), expected)
    assert journal.read_bytes().splitlines(keepends=True) == lines
    garbage = lines[0] + b'{"epoch": 0, "unt\n' + lines[2]
    journal.write_bytes(garbage)
    with pytest.raises(ValueError, match=r"line 2 of .*population.jsonl is no event of a population"):
        population(checkpoint=tmp_path)
    assert journal.read_bytes() == garbage
    journal.write_bytes(lines[0][:30])  # killed before anything was done
    for file in tmp_path.glob("members*"):
        file.unlink()
    with pytest.warns(UserWarning, match="the last line of .* is torn"):
        same(population(checkpoint=tmp_path), expected)


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": [*RATES[:7], {"learning_rate": 1e31}]}, "hyperparameters: learning_rate is"),
        ({"batch_size": 10}, "arguments: batch_size is 20 there, 10 here"),
        ({"every": 3}, "population: every is 2 there, 3 here"),
        ({"fraction": 0.5}, "population: fraction is 0.25 there, 0.5 here"),
        ({"ranges": {"learning_rate": (1e-3, 1e37)}}, r"population: ranges is .*1e\+36.* there"),
        ({"key": jax.random.key(5)}, "key: .*population: key is"),
        ({"data": (X, X[:, :1] + 1)}, "contents: data is .* there"),
        ({"monitor": "loss"}, "population: monitor is val_loss there, loss here"),
        ({"model": jd.nn.dense(1, use_bias=False)}, "model: .*parameters: bias is"),
    ],
)
def test_another_population_is_refused_with_what_differs(changes, message, begun):
    with pytest.raises(ValueError, match=f"holds another population; it differs in .*{message}"):
        population(checkpoint=begun, **changes)


@pytest.mark.heavy
def test_a_number_in_a_loss_makes_another_population(tmp_path):
    def weighted(weight):
        return lambda outputs, y: weight * jd.losses.mse(outputs, y)

    population(epochs=2, checkpoint=tmp_path, loss=weighted(1.0))
    with pytest.raises(ValueError, match=r"another population; it differs in loss: .*weight=1\.0"):
        population(checkpoint=tmp_path, loss=weighted(2.0))
    population(checkpoint=tmp_path, loss=weighted(1.0))


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    place = tmp_path_factory.mktemp("begun")
    population(epochs=2, checkpoint=place)
    return place


def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"checkpoint=.* holds 'notes.txt', and no population"):
        population(checkpoint=tmp_path)
    assert [place.name for place in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(ValueError, match="checkpoint must be a path on this machine, got 'gs://"):
        population(checkpoint="gs://bucket/population")


def test_a_population_of_another_format_is_refused(tmp_path):
    header = {"format": "jaxdeep-population", "format_version": 1, "about": {}}
    (tmp_path / population_store.POPULATION).write_text(json.dumps(header) + "\n")
    with pytest.raises(ValueError, match="holds a population of another version; give another"):
        population(checkpoint=tmp_path)


def test_a_directory_in_use_is_refused(tmp_path):
    from jaxdeep.fitting.directory import held

    with held(tmp_path), pytest.raises(ValueError, match="is in use by another population"):
        population(checkpoint=tmp_path)


@pytest.mark.heavy
def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    expected = population(checkpoint=tmp_path / "whole")
    write = population_store.write_file

    def full(path, contents):
        if "members-4" in path.name:
            raise OSError(28, os.strerror(28))
        write(path, contents)

    monkeypatch.setattr(population_store, "write_file", full)
    with pytest.raises(OSError, match=r"states of epoch 4 could not be .*No space.*epoch 2 are whole"):
        population(checkpoint=tmp_path / "full")
    monkeypatch.undo()
    same(population(checkpoint=tmp_path / "full"), expected)


@pytest.mark.heavy
def test_a_population_that_has_ended_is_read_back_where_nothing_can_be_written(tmp_path, monkeypatch):
    expected, access = population(epochs=2, checkpoint=tmp_path), os.access
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK and access(path, mode))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    same(population(epochs=2, checkpoint=tmp_path), expected)
    with pytest.raises(PermissionError, match="must be a directory that can be written"):
        population(epochs=4, checkpoint=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


RUN = """
import sys
sys.path.insert(0, {tests!r})
from search.populations import test_population as t
print("begun", flush=True)
t.population(epochs=40, every=1, checkpoint=sys.argv[1])
print("ended", flush=True)
"""


@pytest.mark.heavy
@pytest.mark.optimized
def test_a_process_that_is_killed_goes_on_to_the_same_bits(tmp_path):
    expected = population(epochs=40, every=1)
    tests = str(pathlib.Path(__file__).parents[2])
    killed = 0
    for attempt in range(12):
        command = [sys.executable, "-c", RUN.format(tests=tests), str(tmp_path / "killed")]
        journal = tmp_path / "killed" / population_store.POPULATION
        lines = len(journal.read_bytes().splitlines()) if journal.exists() else 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "begun\n"
            while process.poll() is None:
                if journal.exists() and len(journal.read_bytes().splitlines()) >= lines + 2 + attempt:
                    os.kill(process.pid, signal.SIGKILL)
                    break
                time.sleep(0.002)
        if process.returncode == 0:
            break
        killed += 1
    assert killed >= 3
    same(population(epochs=40, every=1, checkpoint=tmp_path / "killed"), expected)
    lines = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    assert [line["until"] for line in lines] == list(range(1, 41))  # nothing was done twice


def test_ctrl_c_ends_the_members_after_the_epoch_at_hand(monkeypatch, tmp_path):
    expected = population()
    shown = evolution._shown

    def interrupting(course, runs, done):
        if done == 3:
            signal.raise_signal(signal.SIGINT)
        return shown(course, runs, done)

    monkeypatch.setattr(evolution, "_shown", interrupting)
    result = population(checkpoint=tmp_path)
    assert result.stopped == "interrupted"
    for name, values in result.history.items():
        np.testing.assert_array_equal(values, expected.history[name][:3])
    assert result.ancestors().shape == (3,)
    monkeypatch.undo()
    same(population(checkpoint=tmp_path), expected)


# --- what is refused --------------------------------------------------------------------------------


def rate_elsewhere(hp):
    return jd.optimizers.sgd(jd.schedules.exponential(hp["learning_rate"], 10, 0.5))


def anew(hp):
    return {"optimizer": sgd(hp), "penalty": lambda params: 0.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": RATES[:1]}, "space must hold two points at least, got 1"),
        ({"space": []}, "space must hold two points at least, got 0"),
        ({"space": None}, "space must be a dict of values by name or a list of points, got None"),
        ({"space": "text"}, "space must be a dict of values by name or a list of points"),
        ({"space": [*RATES, {"b1": 0.5}]}, r"same names, got \['b1'\] in point 8"),
        ({"space": {"learning_rate": jd.search.uniform(0.1, 1.0)}}, r"jaxdeep.search.sobol\(space, n\)"),
        (
            {"space": {"learning_rate": [0.1, 0.2], "units": [8, 16]}},
            "floats only, since the members are one program; units is 8 in point 0 and 16 in point 1",
        ),
        (
            {"space": [{"learning_rate": 1}, {"learning_rate": 0.5}]},
            "learning_rate is 1 in point 0 and 0.5",
        ),
        (
            {"space": {"rate": [0.1, 0.2]}, "builder": lambda hp: sgd({"learning_rate": hp["rate"]})},
            "float 'rate' that is no hyperparameter of the optimizer.*learning_rate, momentum. Name it",
        ),
        ({"ranges": None}, "ranges must have a range for 'learning_rate'"),
        ({"ranges": {}}, "ranges must have a range for 'learning_rate'"),
        (
            {"ranges": {}, "space": [{}, {}], "builder": lambda hp: jd.optimizers.sgd(0.1)},
            "ranges must name a hyperparameter to explore, at least one of learning_rate",
        ),
        ({"ranges": {"lr": (0.1, 1.0), **RANGES}}, r"ranges\['lr'\]: no hyperparameter 'lr'"),
        ({"ranges": {"learning_rate": (1e-2, 1.0)}}, "learning_rate of point 0 is 0.001, and its range"),
        ({"ranges": [0.1]}, "ranges must be a dict"),
        ({"builder": rate_elsewhere}, "must be one program.*point 1 is another program than point 0"),
        ({"builder": anew}, "the builder makes a function anew"),
        (
            {"builder": lambda hp: sgd({"learning_rate": 0.5 * hp["learning_rate"]})},
            "builder must hand learning_rate on as it is.* of 0.001 in point 0 it made 0.0005",
        ),
        (
            {"builder": lambda hp: jd.optimizers.sgd(jd.schedules.constant(0.1)), "space": [{}, {}]},
            r"ranges\['learning_rate'\]: learning_rate is driven by a schedule",
        ),
        (
            {
                "builder": lambda hp: jd.optimizers.sgd(0.1),
                "space": [{}, {}],
                "ranges": {"learning_rate": (0.2, 1.0)},
            },
            r"builder must begin with learning_rate in its range",
        ),
        ({"builder": lambda hp: {}}, "population needs a model= and an optimizer"),
        ({"builder": 3}, "builder must be a function of a point"),
        ({"every": 0}, "every must be at least 1"),
        ({"every": 3, "validate_every": 2}, "every must be a multiple of validate_every, 2"),
        ({"fraction": 0.75}, r"fraction must be in \[0, 0.5\]"),
        ({"mode": "best"}, "mode must be 'min', 'max' or None"),
        ({"monitor": "val_accuracy"}, "monitor must be one of .*val_loss"),
        ({"key": None}, "key must be a random key"),
        ({"progress": None}, "progress must be True or False"),
        ({"early_stopping": jd.train.EarlyStopping()}, "a population takes no early_stopping="),
        ({"plateau": jd.train.ReduceOnPlateau()}, "a population takes no plateau="),
        (
            {
                "builder": lambda hp: {
                    "optimizer": sgd(hp),
                    "epochs": 3 if hp["learning_rate"] < 1 else 4,
                }
            },
            "epochs must be the same for all members, got 3 for point 0 and 4 for point 6",
        ),
        ({"seeds": 2}, r"population\(\) got an unexpected keyword argument 'seeds'"),
        ({"data": iter([(X, Y)])}, "population needs arrays as data"),
        ({"validation": lambda epoch: [(X, Y)]}, "population needs arrays as validation"),
        ({"loss": None}, "population needs a loss="),
    ],
)
def test_wrong_arguments(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        population(**changes)


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad], ids=["jit", "vmap", "grad"])
def test_a_population_inside_a_trace_is_refused(transform):
    def train(x):
        return population(data=(x, x[:, :1])).history["loss"][-1, 0]

    x = X[None] if transform is jax.vmap else X
    with pytest.raises(TypeError, match="population drives devices from the host and cannot be traced"):
        transform(train)(x)


def test_the_result_is_the_model_that_was_validated():
    """Of an optimizer whose parameters are evaluated elsewhere: the slow ones of a lookahead."""
    found = population(
        RATES[2:4],
        lambda hp: jd.optimizers.lookahead(jd.optimizers.sgd(hp["learning_rate"]), sync_period=3),
        fraction=0.0,
        epochs=2,
    )
    x, y = LINEAR["validation"]
    outputs, _ = LINEAR["model"].apply(found.params, found.state, x)
    validated = found.history["val_loss"][-1, found.best]
    np.testing.assert_allclose(jnp.mean((outputs - y) ** 2), validated, rtol=1e-5)
