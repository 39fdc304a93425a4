"""`steps_per_call`: callbacks within epochs, and the same run as without."""

import jax
import numpy as np
import pytest
from helpers.runs import X, Y, fit, identical

import jaxdeep as jd

SMALL = {"model": jd.nn.dense(2), "epochs": 2}  # 100 rows in batches of 16: six, and one of 4 rows


def loader(epoch):
    order = np.random.default_rng(epoch).permutation(len(X))
    return ((X[rows], Y[rows]) for rows in np.split(order, range(16, len(X), 16)))


@pytest.mark.heavy
@pytest.mark.few("4-arrays", "4-loader")
@pytest.mark.parametrize("data", [(X, Y), loader], ids=["arrays", "loader"])
@pytest.mark.parametrize("steps", [1, 4, 100])
def test_callbacks_are_called_after_so_many_steps_of_an_epoch(data, steps):
    seen = []
    options = SMALL | {"data": data}
    found = fit(
        **options,
        steps_per_call=steps,
        callbacks=[lambda now: seen.append((now.epoch, int(now.train_state.step), bool(now.metrics)))],
    )
    identical(found.history, fit(**options).history)
    expected = [(0, step, True) for step in range(steps, 8, steps)] + [(1, 7, False)]
    expected += [(1, 7 + step, True) for step in range(steps, 8, steps)] + [(2, 14, False)]
    assert seen == expected


@pytest.mark.heavy
def test_within_an_epoch_the_means_over_its_steps_are_told():
    told = []
    fit(**SMALL, steps_per_call=2, callbacks=[lambda now: told.append(dict(now.metrics))])
    first = loader_of_first_batches(2)
    alone = fit(**SMALL | {"data": first, "validation": None, "epochs": 1})
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(told[0][name], alone.history[name][0], rtol=1e-6)


def loader_of_first_batches(count):
    """The first batches that a run over the arrays takes, which depend on its key."""
    seen = []
    objective = jd.train.supervised(SMALL["model"], jd.losses.softmax_cross_entropy)
    step = jd.train.make_step(objective, jd.optimizers.adam(0.01))
    ts = jd.train.init(SMALL["model"], jd.optimizers.adam(0.01), X[:1], key=jax.random.key(0))

    def keep(ts, batch):
        jax.debug.callback(seen.append, batch, ordered=True)
        return step(ts, batch)

    jd.train.make_epoch(keep, batch_size=16)(ts, (X, Y))
    jax.effects_barrier()
    return lambda epoch: seen[:count]


def test_a_callback_within_an_epoch_ends_the_run_with_it():
    def ends(now):
        return bool(now.metrics) and int(now.train_state.step) >= 9

    found = fit(**SMALL | {"epochs": 5}, steps_per_call=3, callbacks=[ends], epochs_per_call=5)
    assert found.stopped == "callback"
    assert len(found.history["loss"]) == 2


@pytest.mark.heavy
def test_logs_and_event_files_have_each_epoch_once(tmp_path):
    logged = []
    callback = jd.adapters.to_tensorboard(tmp_path)
    fit(**SMALL, steps_per_call=2, log=lambda values, step: logged.append(step), callbacks=[callback])
    assert logged == [1, 2]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_a_wrong_number_of_steps_is_refused(wrong):
    with pytest.raises((ValueError, TypeError), match="steps_per_call"):
        fit(**SMALL, steps_per_call=wrong)
