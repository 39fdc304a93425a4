"""Sweeps whose points a sampler chooses: an Optuna study, or anything that asks and tells."""

import math
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import optuna
import pytest
from helpers.compilations import work
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState

import jaxdeep as jd
from jaxdeep.search.asking import batches
from jaxdeep.search.asking.outcome import Outcome, outcome_of
from jaxdeep.search.asking.parameter import parameters_of
from jaxdeep.search.records import directory
from jaxdeep.search.tables.table import Result

optuna.logging.set_verbosity(optuna.logging.WARNING)

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
SPACE = {"rate": jd.search.log_uniform(0.001, 0.1), "momentum": jd.search.one_minus(0.05, 0.5)}
GOOD, DIVERGES = 0.01, 1e30


def sgd(hp):
    return jd.optimizers.sgd(hp["rate"], momentum=hp.get("momentum", 0.9))


def random_study(seed=1, **arguments):
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed), **arguments)


def sweep(study, space=SPACE, builder=sgd, *, trials=6, batch=3, monitor=None, mode=None, **changes):
    asking = jd.search.AskTell(study, trials, batch, monitor, mode)
    return jd.sweep(builder, space, sampler=asking, **(LINEAR | changes))


def states(study):
    return [trial.state.name for trial in study.trials]


def of_trial(table, trial):
    """The rows of a table that are a trial's."""
    point = {"rate": trial.params["rate"]}
    if "1 - momentum" in trial.params:
        point["momentum"] = 1 - trial.params["1 - momentum"]
    return [i for i, row in enumerate(table.points) if point.items() <= dict(row).items()]


class Listed:
    """A sampler that asks for points of a list, and remembers what it is told."""

    def __init__(self, points, made=dict):
        self.points, self.made, self.told = list(points), made, []

    def ask(self):
        return self.made(self.points.pop(0)) if self.points else None

    def tell(self, asked, value):
        self.told.append((asked, value))


class Killed(BaseException):
    """What a test raises in place of a kill."""


def killed_when_told(study, trials, monkeypatch):
    """Have a study end without a word once so many trials were told."""
    tell, count = study.tell, [0]

    def counted(*args, **kwargs):
        count[0] += 1
        if count[0] > trials:
            raise Killed
        return tell(*args, **kwargs)

    monkeypatch.setattr(study, "tell", counted)


# --- what a study is told -----------------------------------------------------------------------------


@pytest.mark.heavy
def test_a_study_is_told_the_means_over_seeds_of_the_runs_it_asks_for():
    study = random_study()
    table = sweep(study, seeds=2)
    assert states(study) == ["COMPLETE"] * 6
    assert len(table) == 12
    for trial in study.trials:
        rows = of_trial(table, trial)
        assert [table.points[i]["seed"] for i in rows] == [0, 1]
        histories = [table.history(i)["val_loss"].astype(np.float64) for i in rows]
        assert trial.value == pytest.approx(np.mean([h[-1] for h in histories]), rel=1e-12)
        means = dict(zip([1, 2, 3, 4], np.mean(histories, axis=0)))
        assert trial.intermediate_values == pytest.approx(means, rel=1e-12)
    assert study.best_value == pytest.approx(table.best("val_loss", over_seeds=True)["val_loss_mean"])


def test_a_row_is_the_run_by_fit():
    study = random_study()
    table = sweep(study, trials=2, batch=2)
    point = dict(table.points[1])
    arguments = {name: value for name, value in LINEAR.items() if name not in ("model", "data")}
    result = jd.fit(
        *(LINEAR["model"], LINEAR["data"]), optimizer=sgd(point), key=jax.random.key(0), **arguments
    )
    np.testing.assert_array_equal(table.history(1)["val_loss"], result.history["val_loss"])
    jax.tree.map(np.testing.assert_array_equal, table.trained(1)[0], jax.device_get(result.params))


@pytest.mark.heavy
def test_how_runs_end_is_the_state_of_their_trials():
    study = random_study(direction="maximize")
    for rate in (GOOD, DIVERGES, 0.02, 0.0):
        study.enqueue_trial({"rate": rate})

    def builder(hp):
        if hp["rate"] == 0:
            raise ArithmeticError("no rate at all")
        return sgd(hp)

    space = {"rate": FloatDistribution(0.0, 1e31)}
    how = {
        "monitor": "negative",
        "mode": "max",
        "metrics": {"negative": lambda outputs, y: -((outputs - y) ** 2).mean(-1)},
        "halving": jd.search.SuccessiveHalving(first=2, factor=3, monitor="val_loss"),
    }
    # threads that compile change the filters of warnings, which are the process's
    warm = random_study(direction="maximize")
    warm.enqueue_trial({"rate": GOOD})
    sweep(warm, space, builder, trials=1, batch=1, **how)
    with pytest.warns(UserWarning, match="1 errors in a batch of points.*no rate at all"):
        table = sweep(*(study, space, builder), trials=4, batch=4, **how)
    assert sorted(states(study)) == ["COMPLETE", "FAIL", "FAIL", "PRUNED"]
    good, diverged, other, failed = study.trials
    assert diverged.user_attrs["ended"] == "diverged"
    assert diverged.params == {"rate": DIVERGES}
    assert failed.user_attrs["ended"] == "error"
    assert "ArithmeticError: no rate at all" in failed.user_attrs["error"]
    halved = good if good.state == TrialState.PRUNED else other
    assert halved.value == halved.intermediate_values[2] < 0
    assert list(halved.intermediate_values) == [1, 2]
    assert {row["ended"] for row in table.rows()} == {"finished", "halved", "diverged", "error"}


def test_what_diverged_may_be_pruned():
    study = random_study()
    study.enqueue_trial({"rate": DIVERGES})
    asking = jd.search.AskTell(study, 1, diverged="prune")
    jd.sweep(sgd, {"rate": FloatDistribution(0.0, 1e31)}, sampler=asking, **LINEAR)
    assert states(study) == ["PRUNED"]
    assert study.trials[0].user_attrs["ended"] == "diverged"


@pytest.mark.parametrize(("diverged", "state"), [("fail", "FAIL"), ("prune", "PRUNED")])
def test_a_metric_that_is_nan_at_the_end_is_no_value(diverged, state):
    study = random_study()
    for rate in (0.005, 0.001, 0.005):
        study.enqueue_trial({"rate": rate})

    def of_bad_fits(outputs, y):  # NaN below an error that the larger rate falls under
        error = ((outputs - y) ** 2).mean(-1)
        return jnp.where(error.mean() > 1, error, jnp.nan)

    asking = jd.search.AskTell(study, 3, 2, "val_error", "min", diverged=diverged)
    how = LINEAR | {"sampler": asking, "metrics": {"error": of_bad_fits}}
    table = jd.sweep(sgd, {"rate": jd.search.log_uniform(0.001, 0.1)}, **how)
    assert np.isfinite(table.history(0)["val_error"]).tolist() == [True, True, False, False]
    assert [row["ended"] for row in table.rows()] == ["finished"] * 2
    assert states(study) == [state, "COMPLETE", state]
    assert [trial.user_attrs.get("ended") for trial in study.trials] == ["finished", None, "finished"]
    assert study.best_value == table.best("val_error", "min")["val_error"]
    with pytest.warns(UserWarning, match="has had all of its 3 trials"):
        jd.sweep(sgd, {"rate": jd.search.log_uniform(0.001, 0.1)}, **how)
    assert states(study) == [state, "COMPLETE", state]


@pytest.mark.heavy
def test_early_stopping_tells_the_best_epoch():
    study = random_study()
    stopping = jd.train.EarlyStopping(patience=1, monitor="val_loss")
    table = sweep(study, epochs=30, early_stopping=stopping, space={"rate": [0.3, 0.5]}, trials=2)
    for trial, row in zip(study.trials, table.rows()):
        assert trial.state == TrialState.COMPLETE
        assert trial.value == row["val_loss"] == min(trial.intermediate_values.values())


@pytest.mark.heavy
def test_values_by_epoch_are_few():
    study = random_study()
    jd.sweep(sgd, SPACE, sampler=jd.search.AskTell(study, 1, reports=3), **(LINEAR | {"epochs": 7}))
    assert list(study.trials[0].intermediate_values) == [3, 5, 7]


def test_a_point_is_not_trained_twice():
    study = random_study()
    table = sweep(study, {"rate": [0.01, 0.1]}, trials=8, batch=3)
    assert states(study) == ["COMPLETE"] * 8
    assert len(table) == 2
    assert len({(trial.params["rate"], trial.value) for trial in study.trials}) == 2


def test_outcomes_are_over_all_seeds():
    def result(values, ended="finished", error=""):
        return Result(None, None, {"loss": np.array(values)}, len(values) - 1, ended, error)

    full, diverged = result([3.0, 1.0]), result([2.0, math.inf], "diverged")
    assert outcome_of([full], "loss", seeds=2) is None
    assert outcome_of([full, result([1.0], "interrupted")], "loss", 2) is None
    ended, value, by_epoch, _ = outcome_of([full, diverged], "loss", 2)
    assert (ended, by_epoch) == ("diverged", {1: 2.5})
    assert math.isnan(value)
    assert outcome_of([full, result([4.0], "stopped")], "loss", 2) == Outcome("stopped", 2.5, {1: 3.5})
    lost = outcome_of([result([3.0, math.nan])], "loss", 1)
    assert (lost.ended, lost.by_epoch, lost.full) == ("finished", {1: 3.0}, False)
    assert outcome_of([full, result([3.0, math.inf], "halved")], "loss", 2).ended == "halved"
    failed = Result(None, None, {}, -1, "error", "why")
    assert outcome_of([full, failed], "loss", 2)[::3] == ("error", "why")


# --- the space ----------------------------------------------------------------------------------------


def test_distributions_are_those_of_optuna():
    space = {
        "a": jd.search.uniform(-1, 1),
        "b": jd.search.log_uniform(1e-3, 1),
        "b1": jd.search.one_minus(0.01, 0.5),
        "n": jd.search.int(1, 4),
        "units": jd.search.log_int(8, 64),
        "name": ["x", None, 2.5],
        "activation": [jax.nn.relu, jax.nn.tanh],
        "layers": [(8, 8), (16,)],
        "same": [True, 1],
        "step": FloatDistribution(0, 1, step=0.25),
        "constant": 3,
    }
    (found,) = parameters_of(space, optuna)
    expected = {
        "a": FloatDistribution(-1, 1),
        "b": FloatDistribution(1e-3, 1, log=True),
        "1 - b1": FloatDistribution(0.01, 0.5, log=True),
        "n": IntDistribution(1, 4),
        "units": IntDistribution(8, 64, log=True),
        "name": CategoricalDistribution(["x", None, 2.5]),
        "activation": CategoricalDistribution(["relu", "tanh"]),
        "layers": CategoricalDistribution(["(8, 8)", "(16,)"]),
        "same": CategoricalDistribution(["True", "1"]),
        "step": FloatDistribution(0, 1, step=0.25),
        "constant": None,
    }
    assert {p.label: p.distribution for p in found.values()} == expected
    trial = optuna.trial.FixedTrial(
        {"a": 0.5, "1 - b1": 0.25, "activation": "tanh", "layers": "(16,)", "same": "1", "step": 0.75}
    )
    names = ("a", "b1", "activation", "layers", "same", "step", "constant")
    values = [found[name].value(found[name].suggested(trial)) for name in names]
    assert values == [0.5, 0.75, jax.nn.tanh, (16,), 1, 0.75, 3]
    for share in (0.0, 0.3, 1.0):
        for parameter in found.values():
            example, given = parameter.example(share), parameter.distribution
            assert given is None or given._contains(given.to_internal_repr(example))


@pytest.mark.heavy
def test_of_several_spaces_one_is_chosen():
    spaces = [
        {"kind": "adam", "rate": jd.search.log_uniform(1e-3, 0.1), "b1": jd.search.one_minus(0.1, 0.5)},
        {"kind": "sgd", "rate": jd.search.log_uniform(1e-2, 1.0)},
    ]

    def builder(hp):
        if hp["kind"] == "sgd":
            return jd.optimizers.sgd(hp["rate"])
        return jd.optimizers.adam(hp["rate"], b1=hp["b1"])

    study = random_study()
    table = sweep(study, spaces, builder, trials=8, batch=4, epochs=1)
    names = [{"which space", "rate (0)", "1 - b1"}, {"which space", "rate (1)"}]
    for trial in study.trials:
        assert set(trial.params) == names[trial.params["which space"]]
        rate = trial.params[f"rate ({trial.params['which space']})"]
        assert rate in {row["rate"] for row in table.points}
    assert {row["kind"] for row in table.points} == {"adam", "sgd"}


# --- going on -----------------------------------------------------------------------------------------


def stored(kind, path):
    if kind == "memory":
        return None
    if kind == "journal":
        file = str(path / "study.log")
        lock = JournalFileSymlinkLock(file, grace_period=3)  # a kill may leave it held
        return JournalStorage(JournalFileBackend(file, lock))
    return f"sqlite:///{path / 'study.db'}"


@pytest.mark.few(2)
@pytest.mark.parametrize("checkpoint", [True, False], ids=["rows", "study"])
@pytest.mark.parametrize("kind", ["memory", "journal", pytest.param("sqlite", marks=pytest.mark.heavy)])
def test_trials_that_were_not_told_are_taken_up(tmp_path, monkeypatch, kind, checkpoint):
    storage = stored(kind, tmp_path)
    study = random_study(storage=storage, study_name="study", load_if_exists=True)
    how = {"checkpoint": tmp_path / "rows"} if checkpoint else {}
    with monkeypatch.context() as patch:
        killed_when_told(study, 4, patch)
        with pytest.raises(Killed):
            sweep(study, **how)
    assert states(study) == ["COMPLETE"] * 4 + ["RUNNING"] * 2
    before = study.trials
    if kind != "memory":
        storage = stored(kind, tmp_path)
        study = random_study(seed=2, storage=storage, study_name="study", load_if_exists=True)
    table = sweep(study, trials=9, **how)
    assert states(study) == ["COMPLETE"] * 9
    assert [trial.params for trial in study.trials[:6]] == [trial.params for trial in before]
    assert [trial.value for trial in study.trials[:4]] == [trial.value for trial in before[:4]]
    shown = study.trials if checkpoint else study.trials[4:]
    assert len(table) == len(shown)
    for trial in shown:
        (row,) = of_trial(table, trial)
        assert table.rows()[row]["val_loss"] == trial.value
    if checkpoint:
        journal = (tmp_path / "rows" / "journal.jsonl").read_text()
        assert journal.count('{"ended":') == 9  # every row once, though two were not told


def test_a_study_that_is_done_trains_nothing(tmp_path):
    study = random_study()
    first = sweep(study, checkpoint=tmp_path)
    lines = (tmp_path / "journal.jsonl").read_text()
    again = sweep(study, checkpoint=tmp_path)
    assert again.points == first.points
    for i in range(len(first)):
        np.testing.assert_equal(again.rows()[i], first.rows()[i])
        jax.tree.map(np.testing.assert_array_equal, again.trained(i), first.trained(i))
    assert (tmp_path / "journal.jsonl").read_text() == lines
    with pytest.warns(UserWarning, match="has had all of its 6 trials"):
        assert len(sweep(study)) == 0
    assert states(study) == ["COMPLETE"] * 6


@pytest.mark.few(1)
@pytest.mark.parametrize("keep", [None, 2])
def test_rows_of_a_study_whose_files_are_gone_are_trained_again(tmp_path, keep):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    first = sweep(study, checkpoint=tmp_path, keep_params=keep)
    values = [trial.value for trial in study.trials]
    best = int(np.argmin([row["val_loss"] for row in first.rows()]))
    trained = first.trained(best)
    shutil.rmtree(tmp_path / "rows")
    with pytest.warns(UserWarning, match=r"not there any more .* trained again"):
        again = sweep(study, checkpoint=tmp_path, keep_params=keep)
    assert again.points == first.points
    np.testing.assert_equal([*again.rows()], [*first.rows()])
    jax.tree.map(np.testing.assert_array_equal, again.trained(best), trained)
    assert [trial.value for trial in study.trials] == values


@pytest.mark.heavy
def test_halved_points_stay_halved(tmp_path, monkeypatch):
    """A batch that was told in part is ranked with all of its points."""
    how = {"halving": jd.search.SuccessiveHalving(first=1, factor=3), "batch": 6, "trials": 6}
    whole = sweep(random_study(), **how)
    study = random_study()
    for told in (2, 2, 9):
        with monkeypatch.context() as patch:
            killed_when_told(study, told, patch)
            if told < 9:
                with pytest.raises(Killed):
                    sweep(study, checkpoint=tmp_path, **how)
            else:
                table = sweep(study, checkpoint=tmp_path, **how)
    assert sorted(states(study)) == ["COMPLETE"] + ["PRUNED"] * 5
    assert table.points == whole.points
    np.testing.assert_equal(table.rows(), whole.rows())
    again = sweep(study, checkpoint=tmp_path, **how)
    np.testing.assert_equal(again.rows(), whole.rows())


@pytest.mark.heavy
def test_a_kill_while_asking_leaves_no_trial_behind(monkeypatch):
    study = random_study()
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "set_user_attr", lambda *args: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            sweep(study)
    assert states(study) == ["RUNNING"]
    with monkeypatch.context() as patch:
        suggest = study.sampler.sample_independent

        def killed(study, trial, name, distribution):
            if name == "1 - momentum":
                raise Killed
            return suggest(study, trial, name, distribution)

        patch.setattr(study.sampler, "sample_independent", killed)
        with pytest.raises(Killed):
            sweep(study)
    assert states(study) == ["COMPLETE", "RUNNING"]
    assert list(study.trials[1].params) == ["rate"]
    sweep(study)
    assert states(study) == ["COMPLETE"] * 6


def test_a_kill_while_asking_leaves_no_enqueued_trial_behind(monkeypatch):
    study = random_study()
    for rate in (GOOD, 0.02):
        study.enqueue_trial({"rate": rate})
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "set_user_attr", lambda *args: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            sweep(study)
    assert states(study) == ["RUNNING", "WAITING"]
    sweep(study, trials=2)
    assert states(study) == ["COMPLETE"] * 2
    assert [trial.params["rate"] for trial in study.trials] == [GOOD, 0.02]


@pytest.mark.parametrize("killed", ["set_user_attr", "_suggest"])
def test_a_kill_while_asking_again_leaves_one_trial_for_an_error(tmp_path, monkeypatch, killed):
    broken = tmp_path / "broken"
    broken.touch()

    def builder(hp):
        if hp["rate"] == GOOD and broken.exists():
            raise ArithmeticError
        return sgd(hp)

    study = random_study()
    study.enqueue_trial({"rate": GOOD})
    space, how = {"rate": jd.search.log_uniform(1e-3, 0.1)}, {"trials": 2, "batch": 2}
    with pytest.warns(UserWarning, match="1 errors"):
        sweep(study, space, builder, **how)
    broken.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, killed, lambda *args: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            sweep(study, space, builder, retry_errors=True, **how)
    assert states(study) == ["FAIL", "COMPLETE", "RUNNING"]
    sweep(study, space, builder, retry_errors=True, **how)
    assert states(study) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[2].params == {"rate": GOOD}


def test_trials_of_others_do_not_count():
    study = random_study()
    study.optimize(lambda trial: trial.suggest_float("other", 0, 1), n_trials=2)
    waiting = study.ask()
    sweep(study, trials=2)
    assert states(study) == ["COMPLETE"] * 2 + ["RUNNING"] + ["COMPLETE"] * 2
    study.tell(waiting, 1.0)
    sweep(study, trials=3)
    assert states(study) == ["COMPLETE"] * 6


def test_what_another_process_has_told_stays(monkeypatch):
    study = random_study()
    train = batches.BatchTrainer.trained

    def told_meanwhile(*args):
        if study.trials[-1].number == 2:
            study.tell(1, state=TrialState.FAIL)
        return train(*args)

    monkeypatch.setattr(batches.BatchTrainer, "trained", told_meanwhile)
    sweep(study)
    assert states(study) == ["COMPLETE", "FAIL"] + ["COMPLETE"] * 4


@pytest.mark.heavy
def test_errors_are_run_again_if_told_to(tmp_path):
    broken = tmp_path / "broken"
    broken.touch()

    def builder(hp):
        if hp["rate"] == GOOD and broken.exists():
            raise ArithmeticError
        return sgd(hp)

    study = random_study()
    study.enqueue_trial({"rate": 0.02})
    study.enqueue_trial({"rate": GOOD})
    space, how = {"rate": jd.search.log_uniform(1e-3, 0.1)}, {"trials": 3, "batch": 3}
    with pytest.warns(UserWarning, match="1 errors"):
        sweep(study, space, builder, checkpoint=tmp_path / "sweep", **how)
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE"]
    broken.unlink()
    sweep(study, space, builder, checkpoint=tmp_path / "sweep", **how)
    assert len(study.trials) == 3
    for _ in range(2):
        table = sweep(study, space, builder, checkpoint=tmp_path / "sweep", retry_errors=True, **how)
        assert states(study) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
        assert study.trials[-1].params == {"rate": GOOD}
        assert [row["ended"] for row in table.rows()] == ["finished"] * 3


@pytest.mark.heavy
def test_an_interrupted_batch_is_not_told_and_goes_on(tmp_path, monkeypatch):
    study = random_study()
    save, pressed = directory.Directory.is_due, []

    def is_due(self, row):
        if len(study.trials) == 6 and not pressed:
            pressed.append(row.epoch)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.2)  # until the main thread has noted it
        return save(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(directory.Directory, "is_due", is_due)
        table = sweep(study, checkpoint=tmp_path, rows_at_once=1)
    assert states(study) == ["COMPLETE"] * 3 + ["RUNNING"] * 3
    assert [row["ended"] for row in table.rows()] == ["finished"] * 3 + ["interrupted"]
    table = sweep(study, checkpoint=tmp_path)
    assert [row["ended"] for row in table.rows()] == ["finished"] * 6
    assert states(study) == ["COMPLETE"] * 6


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"epochs": 5}, "epochs: 4 there, 5 here"),
        ({"seeds": 2}, "seeds: 1 there, 2 here"),
        ({"data": (X + 1, Y)}, "contents"),
        ({"monitor": "loss"}, "metric"),
        ({"optimizer": jd.optimizers.sgd(0.1)}, "optimizer"),
        ({"builder": lambda hp: jd.optimizers.adam(hp["rate"])}, "builder"),
    ],
)
def test_another_sweep_is_refused(changes, what):
    study = random_study()
    sweep(study, trials=1)
    with pytest.raises(ValueError, match=f"(?s)holds trials of another sweep.*differs in.*{what}"):
        sweep(study, **changes)
    assert len(study.trials) == 1
    new = random_study()
    new.add_trials(study.trials)
    sweep(new, trials=2, **changes)
    assert len(new.trials) == 3


def test_a_study_of_another_format_is_refused_with_what_to_do():
    study = random_study()
    sweep(study, trials=1)
    about = {name: text for name, text in study.user_attrs["jaxdeep"].items() if name != "format"}
    study.set_user_attr("jaxdeep", about)
    with pytest.raises(
        ValueError, match=r"another version of jaxdeep began, in the format 1.*a new study"
    ):
        sweep(study, trials=2)


CHILD = """
import sys, optuna, pathlib
optuna.logging.set_verbosity(optuna.logging.WARNING)
sys.path.insert(0, sys.argv[1])
import test_ask_tell as t
kind, path = sys.argv[2], pathlib.Path(sys.argv[3])
study = t.random_study(seed=None, storage=t.stored(kind, path), study_name="study", load_if_exists=True)
print("begun", flush=True)
t.sweep(study, trials=24, batch=4, epochs=40, checkpoint=path / "rows")
"""


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_study_survives_kills(tmp_path, kind):
    here, journal = pathlib.Path(__file__).parent, tmp_path / "rows" / "journal.jsonl"
    random = np.random.default_rng(0)
    for rows in (1, 7, 14):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(here), kind, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout.readline() == "begun\n"
        while child.poll() is None and (
            not journal.exists() or journal.read_text().count('{"ended":') < rows
        ):
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.5))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    study = random_study(storage=stored(kind, tmp_path), study_name="study", load_if_exists=True)
    table = sweep(study, trials=24, batch=4, epochs=40, checkpoint=tmp_path / "rows")
    assert states(study) == ["COMPLETE"] * 24
    assert [trial.number for trial in study.trials] == list(range(24))
    assert len(table) == 24
    assert journal.read_text().count('{"ended":') == 24  # no row that had ended was trained again
    for trial in study.trials:
        (row,) = of_trial(table, trial)
        assert trial.value == table.rows()[row]["val_loss"]
        assert list(trial.intermediate_values) == list(range(4, 41, 4))
    assert study.best_trial.value == min(trial.value for trial in study.trials)
    alone = jd.sweep(sgd, points_of(table), **LINEAR | {"epochs": 40})
    assert alone.points == table.points
    for i in range(24):
        jax.tree.map(np.testing.assert_array_equal, alone.history(i), table.history(i))


def points_of(table):
    return [{name: value for name, value in point.items() if name != "seed"} for point in table.points]


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_plots_of_optuna_show_the_sweep():
    from optuna.visualization import matplotlib as plots

    study = random_study()
    study.enqueue_trial({"rate": 0.1, "1 - momentum": 0.05})
    sweep(study, trials=10, batch=5)
    for plot in (
        plots.plot_optimization_history,
        plots.plot_intermediate_values,
        plots.plot_parallel_coordinate,
        plots.plot_slice,
        plots.plot_contour,
        plots.plot_edf,
        plots.plot_param_importances,
        plots.plot_timeline,
        plots.plot_rank,
    ):
        axes = np.ravel(plot(study))
        axes[0].figure.canvas.draw()
    axes = plots.plot_intermediate_values(study)
    assert len(axes.lines) == 10


# --- other samplers -----------------------------------------------------------------------------------


@pytest.mark.few(2)
@pytest.mark.parametrize("made", ["dict", "params", "kwargs", "value"])
def test_anything_that_asks_and_tells_drives_a_sweep(made):
    def handle(point):
        return point if made == "dict" else type("Asked", (), {"kwargs": {}, made: point})()

    points = [{"rate": np.float64(GOOD)}, {"rate": DIVERGES}, {"rate": GOOD}, {"rate": 0.02}]
    sampler = Listed(points, handle)
    table = sweep(sampler, None, trials=9)
    losses = [row["val_loss"] for row in table.rows()]
    assert [row["rate"] for row in table.points] == [GOOD, DIVERGES, 0.02]
    assert [value for _, value in sampler.told] == [losses[0], math.inf, losses[0], losses[2]]
    assert not sampler.points


def test_a_sampler_looks_for_small_values():
    sampler = Listed([{"rate": GOOD}])
    table = sweep(
        *(sampler, None),
        monitor="val_accuracy",
        metrics={"accuracy": lambda outputs, y: (abs(outputs - y) < 1).mean(-1)},
        trials=1,
    )
    assert sampler.told == [({"rate": GOOD}, -table.rows()[0]["val_accuracy"])]
    assert 0 < -sampler.told[0][1] <= 1


@pytest.mark.parametrize("argument", ["early_stopping", "halving"])
def test_a_mode_alone_is_that_of_the_metric_which_is_watched(argument):
    kind = {"early_stopping": jd.train.EarlyStopping, "halving": jd.search.SuccessiveHalving}[argument]
    sampler = Listed([{"rate": GOOD}])
    near = {"near": lambda outputs, y: (abs(outputs - y) < 1).mean(-1)}
    watching = {argument: kind(monitor="val_near", mode="max")}
    table = sweep(sampler, None, mode="max", metrics=near, trials=1, **watching)
    assert [value for _, value in sampler.told] == [-table.rows()[0]["val_near"]]
    assert 0 < table.rows()[0]["val_near"] <= 1


def test_the_form_of_a_study_suffices():
    class Form:
        def __init__(self):
            self.told = []

        def ask(self, fixed_distributions):
            assert fixed_distributions == {"rate": FloatDistribution(0.001, 1e31, log=True)}
            rate = (GOOD, DIVERGES)[len(self.told)]
            return type("Trial", (), {"params": {"rate": rate}, "number": len(self.told)})()

        def tell(self, trial, value=None, state=None):
            self.told.append((trial.number, value, state))

    form = Form()
    table = sweep(form, {"rate": jd.search.log_uniform(0.001, 1e31)}, trials=2, batch=1)
    assert form.told == [(0, table.rows()[0]["val_loss"], None), (1, None, TrialState.FAIL)]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("kind", ["grid", pytest.param("brute", marks=pytest.mark.heavy)])
def test_a_sampler_with_no_more_points_ends_the_sweep(kind):
    grid = {"rate": [0.01, 0.02, 0.05, 0.1, 0.03]}
    samplers = optuna.samplers
    sampler = samplers.GridSampler(grid) if kind == "grid" else samplers.BruteForceSampler()
    study = optuna.create_study(sampler=sampler)
    table = sweep(study, grid, trials=50, batch=5)
    assert len(study.trials) == 5
    assert sorted(row["rate"] for row in table.points) == [0.01, 0.02, 0.03, 0.05, 0.1]


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["TPESampler", "CmaEsSampler", "QMCSampler", "NSGAIISampler"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_samplers_of_optuna(name):
    if name == "CmaEsSampler":
        pytest.importorskip("cmaes")
    study = optuna.create_study(sampler=getattr(optuna.samplers, name)(seed=0))
    table = sweep(study, trials=15, batch=5)
    assert states(study) == ["COMPLETE"] * 15
    assert len(table) == 15


@pytest.mark.heavy
@pytest.mark.parametrize("strategy", ["vmap", "threads"])
def test_later_batches_compile_nothing(strategy):
    """Although the rate is no hyperparameter of the optimizer's state: it is an argument."""

    def builder(hp):
        schedule = jd.schedules.exponential(hp["rate"], transition_steps=10, decay_rate=0.5)
        return jd.optimizers.sgd(schedule)

    compiled = []

    class Counting(Listed):
        def ask(self):
            compiled.append(work("backend_compile"))
            return super().ask()

    sampler = Counting([{"rate": rate} for rate in np.linspace(0.01, 0.1, 9)])
    table = sweep(sampler, None, builder, trials=9, batch=3, strategy=strategy)
    assert compiled[3] > compiled[0]
    assert compiled[8] == compiled[3]
    alone = jd.sweep(builder, points_of(table), strategy=strategy, **LINEAR)
    for i in range(9):
        for name, values in alone.history(i).items():
            np.testing.assert_allclose(table.history(i)[name], values, rtol=1e-5)


@pytest.mark.heavy
def test_rows_may_run_on_an_executor(tmp_path):
    with ThreadPoolExecutor(2) as executor:
        study = random_study()
        table = sweep(study, executor=executor, checkpoint=tmp_path, seeds=2)
    assert states(study) == ["COMPLETE"] * 6
    here = random_study()
    expected = sweep(here, seeds=2)
    assert table.points == expected.points
    assert [trial.value for trial in study.trials] == [trial.value for trial in here.trials]


def test_a_table_flags_points_at_an_edge():
    study = random_study()
    study.enqueue_trial({"rate": 0.1, "1 - momentum": 0.05})
    space = SPACE | {"rate": FloatDistribution(0.001, 0.1, log=True)}
    table = sweep(study, space, trials=1)
    assert table.rows()[0]["edge"] == "rate, momentum"


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"study": None}, TypeError, "sampler must have the methods ask and tell"),
        ({"study": "study"}, TypeError, "sampler must have the methods ask and tell"),
        (
            {"study": optuna.Study},
            TypeError,
            "sampler must be an object with ask and tell, not its class",
        ),
        ({"trials": 0}, ValueError, "sampler.trials must be .*at least 1.*0"),
        ({"trials": 2.5}, (ValueError, TypeError), "sampler.trials must be"),
        ({"batch": True}, (ValueError, TypeError), "sampler.batch must be"),
        ({"monitor": 3}, TypeError, "sampler.monitor must be"),
        ({"mode": "low"}, ValueError, "sampler.mode must be"),
        ({"monitor": "val_nothing", "mode": "min"}, ValueError, "monitor must be one of"),
        ({"monitor": "val_accuracy"}, ValueError, "direction is 'minimize', and more of val_accuracy"),
        ({"mode": "max"}, ValueError, "direction is 'minimize', and more of val_loss"),
        ({"space": None}, ValueError, "space must be a dict of distributions"),
        ({"space": {}}, ValueError, "space must name a hyperparameter"),
        ({"space": {"rate": 0.1}}, ValueError, "space must hold distributions"),
        ({"space": [{"rate": 0.1}, {"rate": 0.2}]}, ValueError, "A list of points is swept without"),
        ({"space": "rate"}, TypeError, "space must be a dict"),
        ({"space": {"seed": [1, 2]}}, ValueError, "none called 'seed'"),
        ({"space": {"rate": []}}, ValueError, "empty"),
        ({"halving": jd.search.Hyperband()}, TypeError, "SuccessiveHalving"),
        ({"batch_size": 1000}, ValueError, "batch_size"),
        ({"builder": 3}, TypeError, "builder must be a function"),
        ({"builder": lambda hp: None}, ValueError, "optimizer"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_asked(changes, error, text):
    study = random_study()
    with pytest.raises(error, match=text):
        sweep(**({"study": study} | changes))
    assert not study.trials
    assert not study.user_attrs


def test_a_study_of_several_objectives_is_refused():
    study = random_study(directions=["minimize", "minimize"])
    with pytest.raises(ValueError, match="a study of one objective, the metric val_loss; got one of 2"):
        sweep(study)


def test_a_sampler_that_knows_its_space_is_given_none():
    with pytest.raises(ValueError, match="space must be left out with a sampler that knows its own"):
        sweep(Listed([]))
    with pytest.raises(TypeError, match=r"sampler.ask\(\) must return a dict.*\[0.1\]"):
        sweep(Listed([[0.1]], list), None)
    with pytest.raises(TypeError, match="space must be a dict of values"):
        jd.sweep(sgd, **LINEAR)


def test_choices_without_a_name_are_refused_with_a_checkpoint(tmp_path):
    study = random_study()
    with pytest.raises(ValueError, match=r"space\['f'\] must have values that a journal can name"):
        sweep(study, SPACE | {"f": [lambda x: x, lambda x: 2 * x]}, checkpoint=tmp_path / "rows")
    assert not study.trials


def test_a_wrong_diverged_is_refused():
    with pytest.raises(ValueError, match="must be 'fail' or 'prune', got 'FAIL'"):
        jd.sweep(sgd, SPACE, sampler=jd.search.AskTell(random_study(), diverged="FAIL"), **LINEAR)


def test_an_interruption_before_any_epoch_is_raised(monkeypatch):
    study = random_study()
    suggest = study.sampler.sample_independent

    def interrupted(*args):
        signal.raise_signal(signal.SIGINT)
        return suggest(*args)

    with monkeypatch.context() as patch:
        patch.setattr(study.sampler, "sample_independent", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep(study, {"rate": SPACE["rate"]})
    assert states(study) == ["RUNNING"]
    assert len(sweep(study, {"rate": SPACE["rate"]})) == 6


def test_if_all_points_fail_the_first_error_is_raised():
    def builder(hp):
        if not 0.002 < hp["rate"] < 0.05:  # neither an end nor the middle of the range
            return sgd(hp)
        raise ArithmeticError("no")

    study = random_study()
    study.enqueue_trial({"rate": GOOD})
    with pytest.raises(ArithmeticError, match="no"):
        sweep(study, {"rate": jd.search.log_uniform(0.001, 0.1)}, builder, batch=1)
    assert states(study) == ["FAIL"]
