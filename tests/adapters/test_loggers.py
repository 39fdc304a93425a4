"""The logs of other libraries as `log=`: by their signatures, and in local modes where installed."""

import sqlite3

import numpy as np
import pytest
from helpers.runs import fit

import jaxdeep as jd

SMALL = {"model": jd.nn.dense(2), "metrics": None}


def in_two_parts(folder, log):
    """The validation losses of a run of four epochs that is broken off after two of them."""
    fit(**SMALL, epochs=2, checkpoint=folder, log=log)
    return fit(**SMALL, epochs=4, checkpoint=folder, log=log).history["val_loss"].astype(float)


def wandb_log(data, step=None, commit=None):
    return data, step


def mlflow_log_metrics(metrics, step=None, synchronous=None, run_id=None, timestamp=None):
    return metrics, step


def trackio_log(metrics, step=None):
    return metrics, step


@pytest.mark.heavy
@pytest.mark.parametrize("log", [wandb_log, mlflow_log_metrics, trackio_log])
def test_signatures_of_the_libraries_are_those_of_a_log(tmp_path, log):
    told = []

    def heard(*args, **kwargs):
        told.append(log(*args, **kwargs))

    expected = in_two_parts(tmp_path, heard)
    assert [step for _, step in told] == [1, 2, 3, 4]
    assert [values["val_loss"] for values, _ in told] == expected.tolist()
    fit(**SMALL, epochs=1, log=log)  # as it is


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_offline_has_every_step(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(project="p", mode="offline", dir=tmp_path) as run:
        expected = in_two_parts(tmp_path / "run", wandb.log)
        assert run.step == 4  # whose values are written as the run ends
        assert run.summary["val_loss"] == expected[2]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_in_a_folder_has_every_step_once(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file://{tmp_path / 'mlruns'}")
    with mlflow.start_run() as run:
        expected = in_two_parts(tmp_path / "run", mlflow.log_metrics)
    found = mlflow.MlflowClient().get_metric_history(run.info.run_id, "val_loss")
    assert [(metric.step, metric.value) for metric in found] == [*enumerate(expected.tolist(), 1)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trackio_has_every_step_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    trackio = pytest.importorskip("trackio")
    trackio.init(project="p", name="one")
    expected = in_two_parts(tmp_path / "run", trackio.log)
    trackio.finish()
    with sqlite3.connect(tmp_path / "p.db") as tables:
        rows = tables.execute("select step, json_extract(metrics, '$.val_loss') from metrics").fetchall()
    assert [step for step, _ in rows] == [1, 2, 3, 4]
    np.testing.assert_array_equal([value for _, value in rows], expected)
