"""Runs that earlier code left half-way go on, to the bits that they would have had."""

import functools
import importlib.util
import json
import pathlib
import warnings
import zipfile

import jax
import numpy as np
import optax
import pytest

import jaxdeep as jd

pytest.importorskip("orbax.checkpoint")

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
RUNS = {
    entry["name"]: entry
    for entry in json.loads((FIXTURES / "manifest.json").read_text())["fixtures"]
    if entry["kind"] == "checkpoint"
}
TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}  # another machine rounds otherwise


@pytest.fixture(scope="module")
def parts():
    """What the runs are made of; the functions that it registers are forgotten afterwards."""
    before = dict(jd.saving.registry._registered)
    spec = importlib.util.spec_from_file_location("parts", FIXTURES / "parts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    jd.saving.registry._registered.clear()
    jd.saving.registry._registered.update(before)


def recorded(file):
    with np.load(FIXTURES / file) as arrays:
        return dict(arrays)


def arrays(parts, result):
    ts = result.train_state
    tree = {
        "params": result.params,
        "state": result.state,
        "step": ts.step,
        "history": dict(result.history),
    }
    return parts.flat(tree | ({} if result.best_epoch is None else {"best_epoch": result.best_epoch}))


@pytest.mark.heavy
@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_earlier_code_interrupted_goes_on(parts, name, tmp_path):
    entry, expected = RUNS[name], recorded(RUNS[name]["expected"])
    names = {"jd": jd, "nn": jd.nn, "jax": jax, "jnp": jax.numpy, "np": np, "parts": parts}
    names |= {"optax": optax, "functools": functools}
    with zipfile.ZipFile(FIXTURES / entry["path"]) as archive:
        archive.extractall(tmp_path)

    def run(epochs):
        with warnings.catch_warnings():
            # a checkpoint that cannot be read is a warning
            warnings.simplefilter("default" if name == "stopping" else "error")
            return arrays(parts, eval(entry["new"], names | {"epochs": epochs, "checkpoint": tmp_path}))

    if name == "stopping":
        # its averaged parameters were evaluated with the batch statistics of the raw ones, and from
        # here on have their own, so that what is monitored differs
        with pytest.warns(UserWarning, match="the statistics of the average begin there"):
            half = run(entry["done"])
        for path, array in half.items():
            np.testing.assert_array_equal(array, expected[f"half/{path}"], path)
        with pytest.warns(UserWarning, match="the statistics of the average begin there"):
            whole = run(entry["epochs"])
        done = len(half["history/loss"])
        for path in ("history/loss", "history/val_loss"):
            np.testing.assert_array_equal(whole[path][:done], expected[f"half/{path}"], path)
            assert len(whole[path]) > done
            assert np.isfinite(whole[path]).all()
        np.testing.assert_allclose(
            whole["history/loss"][done], expected["whole/history/loss"][done], **TOLERANCE
        )
        again = run(entry["epochs"])  # which has them now, without a warning
        for path, array in again.items():
            np.testing.assert_array_equal(array, whole[path], path)
        return
    for path, array in run(entry["done"]).items():
        np.testing.assert_array_equal(array, expected[f"half/{path}"], path)
    for path, array in run(entry["epochs"]).items():
        np.testing.assert_allclose(array, expected[f"whole/{path}"], err_msg=path, **TOLERANCE)


def test_a_file_that_earlier_code_exported_computes_the_same(parts):
    expected = recorded("exported/folded.npz")
    predict = jd.compress.load_exported(FIXTURES / "exported" / "folded.jax")
    np.testing.assert_allclose(predict(parts.MIXED), expected["outputs"], **TOLERANCE)
