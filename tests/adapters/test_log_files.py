"""Files of logs: read back by others to the bit, whole after a kill, and never with a step twice."""

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest

from jaxdeep.adapters import to_csv, to_json_lines

MAKE = {"csv": to_csv, "jsonl": to_json_lines}
both = pytest.mark.parametrize("kind", MAKE)


def rows(path):
    """The rows, as the standard library reads them."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            found = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    else:
        found = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row.pop("step"), row) for row in found]


@both
def test_values_come_back_to_the_bit_from_the_standard_library(tmp_path, kind):
    path = tmp_path / "new" / f"log.{kind}"
    log = MAKE[kind](path)
    values = np.random.default_rng(0).normal(size=(5, 2)) * [1e-30, 1e30]
    told = [(i + 1, {"loss": float(a), 'a, "b"': float(b)}) for i, (a, b) in enumerate(values)]
    for step, row in told:
        log(row, step=step)
    assert rows(path) == told
    assert log.last_step() == 5


def test_pandas_reads_both(tmp_path):
    for kind, make in MAKE.items():
        log = make(tmp_path / f"log.{kind}")
        log({"loss": 0.5}, step=1)
        log({"loss": 0.25, "val_loss": float("inf")}, step=2)
    frames = [
        pd.read_csv(tmp_path / "log.csv"),
        pd.read_json(tmp_path / "log.jsonl", lines=True),
    ]
    for frame in frames:
        assert frame["step"].tolist() == [1, 2]
        assert frame["loss"].tolist() == [0.5, 0.25]
        assert np.isnan(frame["val_loss"][0])
    assert frames[0]["val_loss"][1] == np.inf
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[1])["val_loss"] == np.inf


@both
@pytest.mark.parametrize("name", ["a\rb", "a\nb", "a\r\nb", "\r", 'a,"b"\r', "\n"])
def test_names_with_ends_of_lines_come_back(tmp_path, kind, name):
    path = tmp_path / f"log.{kind}"
    MAKE[kind](path)({"loss": 1.0, name: 0.5}, step=1)
    log = MAKE[kind](path)
    assert log.last_step() == 1
    log({name: 0.25}, step=2)
    assert rows(path) == [(1, {"loss": 1.0, name: 0.5}), (2, {name: 0.25})]
    assert [at.name for at in tmp_path.iterdir()] == [path.name]


@both
def test_another_log_of_the_file_goes_on(tmp_path, kind):
    path = tmp_path / f"log.{kind}"
    MAKE[kind](path)({"loss": 0.5}, step=1)
    log = MAKE[kind](path)
    assert log.last_step() == 1
    log({"loss": 0.25, "nan": float("nan")}, step=2)
    assert rows(path) == [(1, {"loss": 0.5}), (2, {"loss": 0.25})]


@both
def test_a_line_that_was_not_finished_is_cut_off(tmp_path, kind):
    path = tmp_path / f"log.{kind}"
    log = MAKE[kind](path)
    log({"loss": 0.5}, step=1)
    whole = path.read_bytes()
    for torn in (b"2", b"2,0.2", b'{"step": 2, "lo'):
        path.write_bytes(whole + torn)
        assert MAKE[kind](path).last_step() == log.last_step() == 1
    log({"loss": 0.25}, step=2)
    assert rows(path) == [(1, {"loss": 0.5}), (2, {"loss": 0.25})]


@both
def test_steps_that_go_back_keep_the_old_file_beside(tmp_path, kind):
    path = tmp_path / f"log.{kind}"
    log = MAKE[kind](path)
    for step in (1, 2, 3):
        log({"old": step}, step=step)
    log({"new": 20}, step=2)
    assert rows(path) == [(1, {"old": 1}), (2, {"new": 20})]
    assert rows_of_old(path, 1) == [1, 2, 3]
    MAKE[kind](path)({"new": 10}, step=1)
    assert rows(path) == [(1, {"new": 10})]
    assert rows_of_old(path, 2) == [1, 2]
    assert not path.with_name(f"{path.name}.tmp").exists()


def rows_of_old(path, number):
    old = path.with_name(f"{path.name}.{number}")
    copy = path.with_name(f"copy{path.suffix}")
    copy.write_bytes(old.read_bytes())
    return [step for step, _ in rows(copy)]


FOREIGN = {
    b"epoch,loss\n1,0.5\n": "its first column is 'epoch'|its line 1 is no object",
    b"step,loss\na,b\n": "its line 2 has no whole number|its line 1 is no object",
    b"step,loss\n1,0.5,\n\n": "its line 3 has no whole number|its line 1 is no object",
    b"step,step\n1,0.5\n": "two of its columns are called 'step'|its line 1 is no object",
    b"[1]\n": r"its first column is '\[1\]'|its line 1 is no object of numbers with a whole one",
    b'{"loss": 1}\n': "its first column is|its line 1 is no object",
    b'{"step": 1, "step": 0.5}\n': "its first column is|its line 1 is no object",
    b'{"step": 1, "loss": [1]}\n': "its first column is|its line 1 is no object",
    b"\n": "its first column is ''|its line 1 is no object",
    b"a line of mine": "it has no whole line",
    b"step,loss": "it has no whole line",
    b"two lines\nof mine": "its first column is 'two lines'|its line 1 is no object",
    b"step\n\xff\n": "it is no text in UTF-8",
    b"step\n" + b"1" * 200_000 + b"\n": "it is no CSV|its line 1 is no object",
}


@both
@pytest.mark.parametrize("data", FOREIGN, ids=range(len(FOREIGN)))
def test_a_file_of_something_else_is_refused_and_stays(tmp_path, kind, data):
    path = tmp_path / f"log.{kind}"
    path.write_bytes(data)
    written = r"path must be a new file or one that was written as .* was not \("
    with pytest.raises(ValueError, match=f"{written}({FOREIGN[data]})"):
        MAKE[kind](path)
    assert path.read_bytes() == data
    assert [*tmp_path.iterdir()] == [path]


@both
def test_a_file_that_another_has_written_meanwhile_stays(tmp_path, kind):
    path = tmp_path / f"log.{kind}"
    log = MAKE[kind](path)
    for step in (1, 2):
        path.write_text("a line of mine")
        with pytest.raises(ValueError, match="it has no whole line"):
            log({"loss": 0.5}, step=step)
        assert path.read_text() == "a line of mine"
        path.unlink()
        log({"loss": 0.5}, step=step)


@both
def test_a_value_called_step_is_refused(tmp_path, kind):
    log = MAKE[kind](tmp_path / f"log.{kind}")
    log({"loss": 0.5}, step=1)
    with pytest.raises(ValueError, match="values must not have the name 'step'"):
        log({"step": 0.5}, step=2)
    assert rows(log.path) == [(1, {"loss": 0.5})]


def test_paths_that_are_none(tmp_path):
    with pytest.raises(TypeError, match="path must be a path, got 3"):
        to_csv(3)
    with pytest.raises(ValueError, match="is a folder"):
        to_json_lines(tmp_path)
    with pytest.raises(ValueError, match="on this machine"):
        to_csv("gs://bucket/log.csv")


@pytest.mark.heavy
@both
def test_a_kill_leaves_whole_lines(tmp_path, kind):
    path = tmp_path / f"log.{kind}"
    name = {"csv": "to_csv", "jsonl": "to_json_lines"}[kind]
    program = textwrap.dedent(
        f"""
        from jaxdeep.adapters import {name}
        log = {name}({str(path)!r})
        for step in range(1, 10**9):
            log({{"loss": 1 / step}}, step=step)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    while not path.exists() or path.stat().st_size < 2000:
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    log = MAKE[kind](path)
    last = log.last_step()
    log({"loss": 1 / (last + 1)}, step=last + 1)
    assert last > 10
    assert rows(path) == [(step, {"loss": 1 / step}) for step in range(1, last + 2)]
