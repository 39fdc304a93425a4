"""`log=`: every epoch once, in order, also of a run that goes on; processes, phases, several logs."""

import jax
import numpy as np
import pytest
from helpers.runs import MODEL, X, Y, fit

import jaxdeep as jd
from jaxdeep.adapters import to_csv, to_json_lines
from jaxdeep.fitting.logs import teller


class Told(list):
    """A log as `wandb.log` is: it keeps what it is told."""

    def __call__(self, data, step=None, commit=None):
        self.append((step, data))

    @property
    def steps(self):
        return [step for step, _ in self]


SMALL = {"model": jd.nn.dense(2), "metrics": None, "validation": None}


def test_a_log_has_every_epoch_of_the_history_as_floats():
    told = Told()
    result = fit(log=told, epochs=3, epochs_per_call=2, validate_every=3)
    assert told.steps == [1, 2, 3]
    for step, values in told:
        assert all(type(value) is float for value in values.values())
        assert values == {
            name: column[step - 1]
            for name, column in result.history.items()
            if not np.isnan(column[step - 1])
        }
    assert "val_loss" not in told[0][1]
    assert "val_loss" in told[2][1]


@pytest.mark.heavy
def test_a_run_that_goes_on_repeats_no_step(tmp_path):
    told, lines = Told(), to_json_lines(tmp_path / "log.jsonl")
    whole = fit(**SMALL, epochs=4)
    for epochs in (2, 2, 4):  # that of the middle is at its end already
        fit(**SMALL, epochs=epochs, checkpoint=tmp_path / "run", log=[told, lines])
    assert told.steps == [1, 2, 3, 4]
    np.testing.assert_array_equal([values["loss"] for _, values in told], whole.history["loss"])
    assert lines.last_step() == 4


@pytest.mark.few(1)
@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_file_is_told_of_epochs_that_a_kill_kept_from_it(tmp_path, left):
    """Killed between the checkpoint of an epoch and its line, or in the midst of the line."""
    path = tmp_path / "log.csv"
    fit(**SMALL, epochs=3, checkpoint=tmp_path / "run", log=to_csv(path))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: 1 + left]) + "".join(lines[1 + left : 2 + left])[:-3])
    result = fit(**SMALL, epochs=5, checkpoint=tmp_path / "run", log=to_csv(path))
    table = np.genfromtxt(path, delimiter=",", names=True)
    assert table["step"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(table["loss"], result.history["loss"].astype(float))
    assert not list(tmp_path.glob("log.csv.*"))


@pytest.mark.heavy
def test_phases_are_one_run_to_a_log(tmp_path):
    told, path = Told(), tmp_path / "log.csv"
    phases = [(2, "out/*"), (1, None)]
    arguments = {"epochs": 1, "phases": phases, "checkpoint": tmp_path / "run"}
    result = fit(**arguments, log=[told, to_csv(path)])
    assert told.steps == [1, 2, 3]
    assert [values["loss"] for _, values in told] == result.history["loss"].tolist()
    before = path.read_text()
    path.write_text("".join(before.splitlines(keepends=True)[:2]))
    fit(**arguments, log=[told, to_csv(path)])  # all is done, and the file lacks two epochs
    assert told.steps == [1, 2, 3]
    assert path.read_text() == before


@pytest.mark.heavy
def test_values_that_are_arrays_have_a_name_for_each():
    told = Told()
    metrics = {"recall": jd.metrics.recall(classes=2, average=None)}
    fit(log=told, epochs=1, metrics=metrics, validation=None, model=MODEL)
    assert {"recall/0", "recall/1"} <= told[0][1].keys()


@pytest.mark.parametrize("log", [3, "wandb", lambda values: None, [print, lambda step: None]])
def test_what_is_no_log_is_refused_before_anything_is_traced(log):
    with pytest.raises(TypeError, match=r"log must be a function \(values, step=…\)"):
        fit(log=log, model=None)


def test_what_keeps_steps_in_the_keyword_alone_is_a_log():
    told = []
    fit(**SMALL, epochs=1, log=lambda values, *, step: told.append(step))
    assert told == [1]


def test_of_several_processes_the_first_logs(monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    told = Told()
    teller([told], 0)(2, {"loss": np.ones(2)})
    assert not told


def test_a_log_does_not_decide_a_program():
    from helpers.compilations import nothing_compiled

    fit(**SMALL, epochs=1)
    with nothing_compiled():
        fit(**SMALL, epochs=1, log=Told())


def test_a_log_that_fails_ends_the_run_with_its_error():
    def full(values, step):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        fit(**SMALL, data=(X, Y), log=full)
