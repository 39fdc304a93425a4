"""Runs whose epochs grow are those of one call, also where their last epoch alone was evaluated."""

import jax
import numpy as np
import optax
import pytest
from helpers import runs
from helpers.runs import identical, same

import jaxdeep as jd
from jaxdeep._compilation import forget
from jaxdeep.train import rewinding
from jaxdeep.train.monitors import limits_of
from jaxdeep.train.options import RunOptions, filled
from jaxdeep.train.run import make_program

UP = {"monitor": "val_loss", "mode": "max"}  # which falls, so that the best epochs are the first
AVERAGED = optax.chain(jd.optimizers.adam(0.01), jd.optimizers.ema_params(0.9))
CASES = {
    "improving": {"early_stopping": jd.train.EarlyStopping(patience=3)},
    "stopped": {"early_stopping": jd.train.EarlyStopping(patience=1, **UP)},
    "ties": {"early_stopping": jd.train.EarlyStopping(2, "val_accuracy", ties="last")},
    "plateau": {"plateau": jd.train.ReduceOnPlateau(patience=1, min_delta=1.0)},
    "both": {
        "early_stopping": jd.train.EarlyStopping(patience=2, monitor="loss"),
        "plateau": jd.train.ReduceOnPlateau(patience=1, min_delta=1.0),
    },
    "neither": {},
    "average": {
        "early_stopping": jd.train.EarlyStopping(patience=3),
        "optimizer": AVERAGED,
        "ema": True,
    },
    "blocks": {"early_stopping": jd.train.EarlyStopping(patience=3), "steps_per_call": 2},
}


def fit(**changes):
    return runs.fit(**{"model": jd.nn.dense(2), "validate_every": 2} | changes)


def test_a_run_without_the_evaluation_of_its_last_epoch_goes_on_as_one_that_never_had_it():
    optimizer, chosen = jd.optimizers.adam(0.01), {"validate_every": 2, **CASES["both"]}
    chosen = filled("make_run", RunOptions, chosen | {"epochs": 8, "batch_size": 50})
    program = make_program(runs.OBJECTIVE, optimizer, chosen)
    ts = jd.train.init(runs.MODEL, optimizer, runs.X[:1], key=runs.KEY)
    data, segment = (runs.X, runs.Y), jax.jit(program.segment)

    def limits(epochs):
        return limits_of(epochs, chosen["early_stopping"], chosen["plateau"])

    begun = program.start(ts, data, data, limits(8))
    ended = segment(begun, data, data, 3, limits(3))
    assert rewinding.rewound(ended, 3, 2) is ended
    grown = segment(rewinding.rewound(ended, 8, 2), data, data, 5, limits(8))
    identical(grown, segment(begun, data, data, 5, limits(8)))


@pytest.mark.heavy
@pytest.mark.parametrize("case", CASES)
def test_epochs_that_grow_give_the_run_of_one_call(case, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    how = CASES[case]
    short = fit(**how, epochs=3, checkpoint=tmp_path)
    assert np.isfinite(short.history["val_loss"]).tolist() == [False, True, True]
    for epochs in (3, 5, 6):
        grown, whole = fit(**how, epochs=epochs, checkpoint=tmp_path), fit(**how, epochs=epochs)
        same(grown, whole)
        assert grown.stopped == whole.stopped


def test_a_last_epoch_that_is_the_best_one_is_what_the_run_ends_with():
    how = CASES["improving"]
    result = fit(**how, epochs=3)
    assert result.best_epoch == 2
    jax.tree.map(np.testing.assert_array_equal, result.params, result.train_state.params)


@pytest.mark.heavy
def test_a_run_that_an_earlier_version_saved_goes_on(tmp_path, monkeypatch):
    pytest.importorskip("orbax.checkpoint")
    how = CASES["improving"]
    with monkeypatch.context() as patch:
        patch.setattr(rewinding, "first", lambda decisions, *_: decisions)
        forget()
        short = fit(**how, epochs=3, checkpoint=tmp_path)
        forget()
    same(fit(**how, epochs=3, checkpoint=tmp_path), short)
    grown = fit(**how, epochs=5, checkpoint=tmp_path)
    assert np.isfinite(grown.history["val_loss"]).tolist() == [False, True, True, True, True]
