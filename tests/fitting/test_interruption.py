"""The first interruption ends a run with what it has learned, the second raises at once."""

import contextlib
import importlib
import os
import signal
import threading
import time

import jax
import numpy as np
import pytest
from helpers.runs import STOPPING, X, Y, fit, identical, same

import jaxdeep as jd
from jaxdeep.fitting.interruption import interruptible

fit_module = importlib.import_module("jaxdeep.fitting.fit")
SMALL = {"model": jd.nn.dense(2), "validation": None, "epochs": 6}


def press(now):
    if now.epoch == 2:
        signal.raise_signal(signal.SIGINT)


def raises(now):
    if now.epoch == 2:
        raise KeyboardInterrupt


@pytest.fixture
def restored():
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.few(1)
@pytest.mark.optimized
@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("interrupt", [press, raises])
def test_an_interrupted_run_returns_what_it_has_and_goes_on_from_its_checkpoint(interrupt, tmp_path):
    whole = fit(**SMALL)
    part = fit(**SMALL, callbacks=[interrupt])
    assert (part.stopped, whole.stopped) == ("interrupted", None)
    identical(part.history, {name: values[:2] for name, values in whole.history.items()})
    identical(part.params, fit(**(SMALL | {"epochs": 2})).params)
    pytest.importorskip("orbax.checkpoint")
    assert fit(**SMALL, callbacks=[interrupt], checkpoint=tmp_path).stopped == "interrupted"
    same(fit(**SMALL, checkpoint=tmp_path), whole)


@pytest.mark.heavy
@pytest.mark.usefixtures("restored")
def test_the_best_parameters_are_those_of_an_interrupted_run_too():
    early = jd.train.EarlyStopping(patience=9, monitor="accuracy")
    part = fit(**SMALL, callbacks=[press], early_stopping=early)
    two = fit(**(SMALL | {"epochs": 2}), early_stopping=early)
    assert part.best_epoch == two.best_epoch
    identical(part.params, two.params)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("calls", [[press, press], [raises, raises], [press, raises]])
def test_the_second_interruption_raises(calls):
    with pytest.raises(KeyboardInterrupt):
        fit(**SMALL, callbacks=calls)


@pytest.mark.heavy
@pytest.mark.usefixtures("restored")
def test_batches_from_the_host_end_after_the_epoch_at_hand():
    begun = []

    def batches(epoch):
        begun.append(epoch)
        if epoch == 1:
            signal.raise_signal(signal.SIGINT)
        return [(np.ones((16, 4), np.float32), np.zeros(16, np.int32))] * 2

    result = fit(**(SMALL | {"epochs_per_call": 5}), data=batches, metrics=None)
    assert (result.stopped, len(result.history["loss"]), begun) == ("interrupted", 2, [0, 1])


@pytest.mark.heavy
def test_phases_end_with_the_one_that_was_interrupted():
    result = fit(**(SMALL | {"epochs": 1}), phases=[(2,), (2,)], callbacks=[press])
    assert (result.stopped, len(result.history["loss"])) == ("interrupted", 2)


@pytest.mark.usefixtures("restored")
@pytest.mark.few(1)
@pytest.mark.parametrize("times", [1, 3])
def test_an_interruption_waits_for_the_compiler(times, monkeypatch):
    """Python runs the handler when the compiler returns; what it returns must not be dropped there."""
    compile_, done = jax.stages.Lowered.compile, []

    def pressed(self, **options):
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        done.append(compile_(self, **options))
        return done[-1]

    monkeypatch.setattr(jax.stages.Lowered, "compile", pressed)
    with pytest.raises(KeyboardInterrupt):
        fit(**SMALL, optimizer=jd.optimizers.sgd(jd.schedules.power(0.1, times + 7)))
    assert len(done) == 1


@pytest.mark.usefixtures("restored")
def test_an_interruption_that_python_has_swallowed_ends_the_run(monkeypatch):
    drivers = fit_module.driver

    def pressed(*args, **how):
        with contextlib.suppress(KeyboardInterrupt):  # as one in a callback of the garbage collector is
            signal.raise_signal(signal.SIGINT)
        return drivers(*args, **how)

    monkeypatch.setattr(fit_module, "driver", pressed)
    with pytest.raises(KeyboardInterrupt, match="before the first epoch"):
        fit(**SMALL)


@pytest.mark.usefixtures("restored")
def test_an_interruption_before_a_phase_keeps_the_phases_before_it(monkeypatch):
    drivers, calls = fit_module.driver, []

    def pressed(*args, **how):
        calls.append(args)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return drivers(*args, **how)

    monkeypatch.setattr(fit_module, "driver", pressed)
    result = fit(**(SMALL | {"epochs": 1}), phases=[(2,), (2,)])
    assert (result.stopped, len(result.history["loss"])) == ("interrupted", 2)


def test_threads_that_compile_are_waited_for_whatever_comes(monkeypatch):
    from jaxdeep._compilation import uninterrupted

    ended = []
    thread = threading.Thread(target=lambda: (time.sleep(0.2), ended.append(1)))
    thread.start()
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        thread.join()
    assert ended == [1]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"callbacks": [lambda now: now.epoch == 2]}, "callback"),
        ({"early_stopping": STOPPING._replace(monitor="accuracy", min_delta=9.0)}, "early_stopping"),
        ({"data": (X.at[0].set(np.nan), Y), "on_nonfinite": "stop"}, "diverged"),
        ({}, None),
    ],
)
def test_a_result_says_why_the_run_has_ended(changes, why):
    assert fit(**(SMALL | changes)).stopped == why


def test_another_handler_and_other_threads_are_left_alone():
    def mine(number, frame):
        pass

    def in_a_thread():
        with interruptible(show=False):
            found.append(signal.getsignal(signal.SIGINT))

    found, before = [], signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    signal.signal(signal.SIGINT, mine)
    try:
        with interruptible(show=False):
            found.append(signal.getsignal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert found == [before, mine]


@pytest.mark.heavy
@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("strategy", ["vmap", "threads"])
def test_an_interrupted_sweep_keeps_the_rows_that_have_ended(strategy, monkeypatch):
    from jaxdeep.search.driving import _Meter

    count = _Meter.__call__

    def pressed(self, epochs):
        before, _ = self.done, count(self, epochs)
        if before < 7 <= self.done:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(_Meter, "__call__", pressed)
    x = np.linspace(-1, 1, 32, dtype=np.float32)[:, None]
    table = jd.sweep(
        lambda hp: jd.optimizers.sgd(hp["learning_rate"]),
        {"learning_rate": [0.01, 0.02]},
        seeds=2,
        strategy=strategy,
        rows_at_once=1,
        **{"model": jd.nn.dense(1), "data": (x, 3 * x), "loss": jd.losses.mse},
        epochs=20_000,
        progress=False,
    )
    assert 0 < len(table) <= 4
    ends = {row["ended"] for row in table.rows()}
    assert "interrupted" in ends
    assert ends <= {"interrupted", "finished"}
    assert all(0 < row["epochs"] <= 20_000 for row in table.rows())
    assert all(row["loss"] < 10 for row in table.rows())


@pytest.mark.filterwarnings("ignore:os.fork", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("restored")
def test_processes_forked_meanwhile_leave_an_interruption_to_their_parent():
    with interruptible(show=False) as interruption:
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGINT)
            os._exit(int(interruption.noted))
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.usefixtures("restored")
def test_an_interruption_before_the_run_has_begun_raises():
    with interruptible(show=False, begun=False), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
