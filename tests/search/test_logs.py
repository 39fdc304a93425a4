"""`log=` of sweeps: every epoch of every row once, in order, with the row."""

import collections
import concurrent.futures
import csv
import functools
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd

X = jnp.linspace(-1, 1, 32)[:, None]
DATA = (X, 3 * X)
HOW = {"model": jd.nn.dense(1), "loss": jd.losses.mse, "batch_size": 16, "progress": False}
SPACE = {"rate": [0.01, 0.1]}


def build(hp):
    return jd.optimizers.sgd(hp["rate"])


class Book:
    """A log that keeps what it is told, by the name of the row."""

    def __init__(self):
        self.rows, self.points = collections.defaultdict(list), {}

    def __call__(self, values, step, row):
        self.rows[row.name].append((step, values))
        self.points[row.name] = row.point


def check(book, table, *, columns=()):
    """All of the table, once, and with steps that rise by 1."""
    assert len(book.rows) == len(table)
    told = {tuple(point.items()): book.rows[name] for name, point in book.points.items()}
    for point, result in zip(table.points, table.results):
        steps, values = zip(*told[tuple(point.items())])
        assert list(steps) == list(range(1, result.epochs + 1))
        for name, column in result.history.items():
            known = [(i, v) for i, v in enumerate(column) if not np.isnan(v)]
            assert [float(v) for _, v in known] == [values[i][name] for i, _ in known]
    for point in book.points.values():
        assert {"rate", "seed", *columns} == set(point)


@pytest.mark.few(1)
@pytest.mark.parametrize("strategy", ["threads", "vmap"])
def test_a_log_is_told_of_every_epoch_of_every_row(strategy):
    book = Book()
    table = jd.sweep(build, SPACE, data=DATA, validation=DATA, seeds=2, epochs=3, log=book,
                     strategy=strategy, **HOW)  # fmt: skip
    check(book, table)
    assert sorted(book.rows) == ["rate=0.01,seed=0", "rate=0.01,seed=1", "rate=0.1,seed=0",
                                 "rate=0.1,seed=1"]  # fmt: skip
    assert set(book.rows["rate=0.1,seed=0"][0][1]) >= {"loss", "val_loss"}


@pytest.mark.heavy
@pytest.mark.parametrize("halving", [
    jd.search.SuccessiveHalving(first=1, factor=2), jd.search.Hyperband(first=1, factor=2),
    jd.search.AsynchronousHalving(first=1, factor=2),
], ids=lambda halving: type(halving).__name__)  # fmt: skip
@pytest.mark.parametrize("kept", [False, True])
def test_rows_that_are_halved(tmp_path, halving, kept):
    book, checkpoint = Book(), tmp_path / "sweep" if kept else None
    space = {"rate": [0.001, 0.01, 0.05, 0.1]}
    how = {"halving": halving, "epochs": 4, "data": DATA, "checkpoint": checkpoint, **HOW}
    table = jd.sweep(build, space, log=[book], **how)
    check(book, table)
    if kept:
        again = Book()
        jd.sweep(build, space, log=again, **how)
        assert not again.rows


@pytest.mark.few(1)
@pytest.mark.parametrize("search", ["cross_validate", "learning_curve"])
def test_searches_that_are_sweeps(search):
    book = Book()
    own = {"folds": 2} if search == "cross_validate" else {"sizes": [16, 32], "validation": DATA}
    table = getattr(jd.search, search)(build, SPACE, data=DATA, epochs=2, log=book, **own, **HOW)
    assert len(book.rows) == len(table)
    assert all([step for step, _ in told] == [1, 2] for told in book.rows.values())
    points = [dict(sorted(p.items())) for p in book.points.values()]
    assert all(dict(sorted(p.items())) in points for p in table.points)


@pytest.mark.heavy
@pytest.mark.parametrize("strategy", ["threads", "vmap"])
def test_a_sweep_that_goes_on_repeats_nothing(tmp_path, strategy):
    book, how = Book(), {"data": DATA, "checkpoint": tmp_path / "sweep", "strategy": strategy, **HOW}
    jd.sweep(build, SPACE, epochs=2, log=book, **how)
    table = jd.sweep(build, {"rate": [0.01, 0.1, 0.2]}, epochs=5, log=book, **how)
    check(book, table)
    assert all(result.epochs == 5 for result in table.results)


@pytest.mark.heavy
def test_a_log_that_knows_its_end_is_told_what_it_lacks(tmp_path):
    class Knowing(Book):
        def last_step(self, row):
            return max((step for step, _ in self.rows[row.name]), default=0)

    how = {"data": DATA, "checkpoint": tmp_path / "sweep", "epochs": 3, **HOW}
    jd.sweep(build, SPACE, **how)  # without any log
    book = Knowing()
    check(book, jd.sweep(build, SPACE, log=book, **how))


@pytest.mark.heavy
def test_a_killed_sweep_tells_each_epoch_once(tmp_path):
    script = f"""
        import sys, time, jaxdeep as jd
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import test_logs as t
        file = open({str(tmp_path / "log.txt")!r}, "a+")
        def told():
            file.seek(0)
            return [line.split() for line in file]
        def log(values, step, row):
            print(row.name, step, file=file, flush=True)
            time.sleep(0.002)
        log.last_step = lambda row: max([0, *(int(n) for name, n in told() if name == row.name)])
        jd.sweep(t.build, t.SPACE, data=t.DATA, epochs=300, checkpoint={str(tmp_path / "sweep")!r},
                 log=log, **t.HOW)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    running = subprocess.Popen(command)
    file = tmp_path / "log.txt"
    while not (file.exists() and len(file.read_text().splitlines()) > 60):
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = len(file.read_text().splitlines())
    assert before < 600
    subprocess.run(command, check=True)
    told = collections.defaultdict(list)
    for line in file.read_text().splitlines():
        told[line.split()[0]].append(int(line.split()[1]))
    for steps in told.values():
        assert steps == [*range(1, 301)]


@pytest.mark.heavy
def test_rows_of_other_processes():
    book, context = Book(), multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        table = jd.sweep(build, SPACE, data=DATA, epochs=3, executor=pool, log=book, **HOW)
    check(book, table)


def test_an_error_of_a_log_ends_the_sweep_and_is_no_rows():
    def log(values, step, row):
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        jd.sweep(build, SPACE, data=DATA, epochs=2, log=log, **HOW)


def test_a_log_must_take_a_row():
    with pytest.raises(TypeError, match=r"log must be a function \(values, step=…, row=…\)"):
        jd.sweep(build, SPACE, data=DATA, log=lambda values, step: None, **HOW)


def recipes(log):
    """What a refusal of this log says to write instead, as functions of the log it is made of."""
    with pytest.raises(TypeError, match=r"log must be a function \(values, step=…, row=…\)") as refused:
        jd.sweep(build, SPACE, data=DATA, log=log, **HOW)
    written = re.findall(r"lambda values, step, row: .*?step=step\)", str(refused.value))
    return [lambda log, text=text: eval(text, {"jaxdeep": jd, "log": log}) for text in written]


@pytest.mark.parametrize("make", [jd.adapters.to_csv, jd.adapters.to_json_lines])
def test_a_log_file_of_one_run_is_told_to_be_one_for_each_row(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    write = make("all.log")
    (a_file_each,) = recipes([write])
    assert len(recipes(write)) == 1
    book = Book()
    table = jd.sweep(build, SPACE, data=DATA, epochs=2, log=[a_file_each(write), book], **HOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{row}.csv" for row in book.rows)
    assert len(book.rows) == len(table)
    for name, told in book.rows.items():
        with open(f"{name}.csv", newline="") as file:
            found = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
        assert found == [{"step": step, **values} for step, values in told]


def test_a_function_of_one_run_is_told_how_it_learns_the_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = []

    def log(values, step):
        told.append((values, step))

    a_file_each, with_the_row = recipes(log)
    book = Book()
    jd.sweep(build, SPACE, data=DATA, epochs=2, log=[with_the_row(log), a_file_each(log), book], **HOW)
    expected = [({**values, "row": name}, i) for name, rows in book.rows.items() for i, values in rows]
    assert sorted(told, key=lambda one: (one[0]["row"], one[1])) == sorted(
        expected, key=lambda one: (one[0]["row"], one[1])
    )
    assert len([*tmp_path.iterdir()]) == len(book.rows)


def test_a_function_that_is_no_log_is_told_no_recipe():
    assert recipes(lambda: None) == []


def test_long_points_have_short_names_that_differ():
    names = [
        jd.search.tables.columns.name_of({"layers": [64] * 40, "rate": rate, "seed": 0})
        for rate in (0.1, 0.2)
    ]
    assert len(set(names)) == 2
    assert all(len(name) < 100 for name in names)


def scaled(by):
    return lambda x: by * x


ARRAY = np.arange(5000.0)
ALIKE = {
    "text of a number": [0, "0"],
    "text of None": [None, "None"],
    "spaces": ["a b", "a  b"],
    "modules": [np.tanh, jnp.tanh],
    "closures": [scaled(1), scaled(2)],
    "copies": [lambda x: x, lambda x: x],
    "partials": [functools.partial(scaled, 1), functools.partial(scaled, 2)],
    "digits": [(0.12345678,), (0.12345679,)],
    "long arrays": [ARRAY, np.where(ARRAY == 2500, 0.0, ARRAY)],
}


@pytest.mark.parametrize("values", ALIKE.values(), ids=ALIKE)
def test_rows_that_read_the_same_have_names_of_their_own(values):
    names, again = (
        [*map(jd.search.tables.columns.RowNames(), [{"v": value, "seed": 0} for value in values])]
        for _ in range(2)
    )
    assert len(set(names)) == 2
    assert names == again
    assert all(re.fullmatch(r"[\w.,=+-]+", name) for name in names)


def test_a_text_with_another_name_in_it_is_not_taken_for_it():
    name_of = jd.search.tables.columns.name_of
    assert name_of({"x": "1,y=2"}) != name_of({"x": 1, "y": 2}) != name_of({"x=1,y": 2})


def test_numbers_and_words_are_names_by_themselves():
    point = {"rate": 0.1, "units": 8, "bias": True, "clip": None, "pool": "max-2", "seed": 0}
    name = jd.search.tables.columns.name_of(point)
    assert name == "rate=0.1,units=8,bias=True,clip=None,pool=max-2,seed=0"
    assert jd.search.tables.columns.name_of({"path": "a/b c", "seed": 0}) == "path=a_b_c,seed=0-3b6150b1"


def test_names_hold_no_address():
    name = jd.search.tables.columns.name_of({"v": {"act": jax.nn.gelu}, "seed": 0})
    assert re.fullmatch(r"v=[a-z_]*gelu_*,seed=0-\w{8}", name)


def test_rows_of_functions_of_one_name_are_logged_apart():
    book, rates = Book(), {"rate": [0.1], "of": [scaled(0.1), scaled(1.0)]}
    table = jd.sweep(lambda hp: jd.optimizers.sgd(hp["of"](hp["rate"])), rates, data=DATA, epochs=2,
                     log=book, **HOW)  # fmt: skip
    check(book, table, columns=["of"])
