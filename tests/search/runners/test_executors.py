"""Rows in other processes: the table of threads, bit for bit, whoever runs them in what order."""

import functools
import multiprocessing
import os
import pathlib
import signal
import threading
import time
import types
from concurrent import futures

import jax
import numpy as np
import pytest
from helpers.sweeps import identical

import jaxdeep as jd
from jaxdeep.search.runners import worker

X = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
Y = X @ np.array([[1.0], [-2.0], [0.5]], np.float32)


def build(hp):
    return {
        "model": jd.nn.serial(jd.nn.dense(hp["units"], activation=jax.nn.relu), jd.nn.dense(1)),
        "optimizer": jd.optimizers.adam(hp["rate"]),
    }


def slow_build(hp, folder):
    """The same, in a process that kills itself when it first meets the last row."""
    mark = pathlib.Path(folder) / "killed"
    if multiprocessing.parent_process() is not None and not mark.exists():
        mark.touch()
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGKILL)).start()
        time.sleep(5)
    return build(hp)


def sweep(builder=build, **changes):
    arguments = {
        "space": {"rate": [0.01, 0.1], "units": [2, 4]},
        "data": (X, Y),
        "validation": (X[:16], Y[:16]),
        "loss": jd.losses.mse,
        "epochs": 4,
        "batch_size": 16,
        "seeds": 2,
        "strategy": "threads",
        "progress": False,
    }
    return jd.sweep(builder, **(arguments | changes))


class Backwards:
    """An executor of one thread, that runs first what was submitted last."""

    def __init__(self):
        self.pool, self.waiting = futures.ThreadPoolExecutor(1), []

    def submit(self, function, *args):
        future = futures.Future()
        self.waiting.append((future, function, args))
        self.pool.submit(self._next)
        return future

    def _next(self):
        time.sleep(0.01)  # until all have come
        future, function, args = self.waiting.pop()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)


@pytest.fixture(scope="module")
def expected():
    return sweep()


def spawned(workers=2):
    return futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "halving", [None, jd.search.SuccessiveHalving(first=1, factor=2)], ids=["full", "halving"]
)
@pytest.mark.parametrize("kind", [functools.partial(futures.ThreadPoolExecutor, 2), Backwards])
def test_whoever_runs_the_rows_the_table_is_that_of_threads(kind, halving):
    identical(sweep(executor=kind(), halving=halving), sweep(halving=halving))


@pytest.mark.heavy
def test_rows_are_sent_back_in_between_and_go_on(monkeypatch, expected, tmp_path):
    monkeypatch.setattr(worker, "_SLICE", 0.0)  # no epoch at all, if the row did not go on
    monkeypatch.setattr(worker, "_Deadline", _AfterOne)
    identical(sweep(executor=futures.ThreadPoolExecutor(1), checkpoint=tmp_path), expected)


class _AfterOne:
    """Ends a row after each epoch."""

    def __init__(self, seconds):
        self.looks = 0

    @property
    def noted(self):
        self.looks += 1
        return self.looks > 1


def test_asynchronous_halving_takes_an_executor(expected):
    table = sweep(
        executor=futures.ThreadPoolExecutor(2), halving=jd.search.AsynchronousHalving(first=1, factor=2)
    )
    assert {row["ended"] for row in table.rows()} == {"finished", "halved"}
    for i, row in enumerate(table.rows()):
        full = expected.history(i)["val_loss"][: row["epochs"]]
        np.testing.assert_array_equal(table.history(i)["val_loss"], full)


@pytest.mark.heavy
def test_processes_give_the_same_bits(expected):
    with spawned() as pool:
        identical(sweep(executor=pool), expected)
        identical(sweep(executor=pool), expected)


@pytest.mark.heavy
def test_rows_of_a_worker_that_was_killed_run_again(expected, tmp_path):
    pool = spawned()
    try:
        identical(sweep(functools.partial(slow_build, folder=str(tmp_path)), executor=pool), expected)
    finally:
        pool.shutdown(wait=False)
    assert (tmp_path / "killed").exists()


@pytest.mark.heavy
def test_a_cluster_of_dask(expected):
    distributed = pytest.importorskip("distributed")
    how = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**how) as cluster, distributed.Client(cluster) as client:
        identical(sweep(executor=client.get_executor()), expected)


def test_an_error_of_a_row_is_its_own():
    class Failing(futures.ThreadPoolExecutor):
        def submit(self, function, task):
            place = task[1]
            if place[0] == 1:
                return super().submit(_raise)
            return super().submit(function, task)

    with pytest.warns(UserWarning, match="2 of 8 rows ended with an error.*out of order"):
        table = sweep(executor=_Wrapped(Failing(1)))
    assert [row["ended"] for row in table.rows()].count("error") == 2
    assert "out of order" in table.results[2].error


def _raise():
    raise RuntimeError("out of order")


class _Wrapped:
    """An executor of no known kind."""

    def __init__(self, pool):
        self.submit = pool.submit


LARGE = np.zeros((5_000_000,), np.float32)


def carrying(hp, table=None):
    return build(hp)


def closing_over(table):
    def builder(hp):
        return build(hp) if table is not None else None

    return builder


@pytest.mark.parametrize(
    ("builder", "executor", "error", "message"),
    [
        (build, 3, TypeError, "executor must have submit"),
        (lambda hp: dict(build(hp)), spawned, ValueError, "builder must be .*<lambda>"),
        (functools.partial(carrying, table=LARGE), spawned, ValueError, "'table', an array of 20 MB"),
        (closing_over(LARGE), spawned, ValueError, "'table', an array of 20 MB"),
        (
            build,
            lambda: futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")),
            ValueError,
            "forks: pass it mp_context=multiprocessing.get_context",
        ),
    ],
    ids=["no executor", "lambda", "partial", "closure", "fork"],
)
def test_what_cannot_be_sent_is_refused_before_anything_starts(builder, executor, error, message):
    pool = executor() if callable(executor) else executor
    with pytest.raises(error, match=message):
        sweep(builder, executor=pool)
    if hasattr(pool, "shutdown"):
        assert not pool._processes
        pool.shutdown()


def test_a_large_array_beside_the_builder_of_a_script_is_named():
    pytest.importorskip("cloudpickle")
    script = types.ModuleType("of_a_script")  # which other processes cannot import
    vars(script).update(build=build, TABLE=LARGE)
    exec("def builder(hp):\n    return build(hp) if len(TABLE) else None", vars(script))
    message = r"what it refers to \('TABLE', an array of 20 MB\)"
    with futures.ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match=message):
        sweep(script.builder, executor=_Wrapped(pool))


@pytest.mark.heavy
def test_many_sweeps_in_threads_do_not_forget_each_other(expected):
    def one(_):
        return sweep(executor=futures.ThreadPoolExecutor(1))

    with futures.ThreadPoolExecutor(4) as pool:
        for table in pool.map(one, range(4)):
            identical(table, expected)
    assert not worker._local


def test_what_returns_no_future_is_refused():
    class Odd:
        def submit(self, function, *args):
            return None

    class Client:
        def submit(self, function, *args):
            return None

        def get_executor(self):
            return None

    class Empty:
        def submit(self, function, *args):
            future = futures.Future()
            future.set_result(None)
            return future

    for executor, message in (
        (Odd(), "must return futures"),
        (Client(), "client.get_executor"),
        (Empty(), "executor must be .* its futures must give .* an Answer, got None"),
    ):
        with pytest.raises(TypeError, match=message):
            sweep(executor=executor)
    with pytest.raises(TypeError, match="executor must have submit"):
        sweep(executor=futures.ThreadPoolExecutor)


def test_an_executor_decides_what_it_decides():
    pool = futures.ThreadPoolExecutor(1)
    with pytest.raises(ValueError, match="strategy must be 'threads' with an executor"):
        sweep(executor=pool, strategy="vmap")
    with pytest.raises(ValueError, match="memory is that of this process"):
        sweep(executor=pool, memory=10**9)


def test_a_worker_that_does_not_see_the_recipe_is_sent_it(expected, monkeypatch):
    monkeypatch.setattr(worker.pathlib.Path, "read_bytes", _no_file)
    identical(sweep(executor=_Wrapped(futures.ThreadPoolExecutor(1))), expected)


def _no_file(self):
    raise OSError("elsewhere")
