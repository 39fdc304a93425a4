"""`validation=0.2`: a random share of the rows is held out, always the same one, and nothing is lost."""

import jax
import numpy as np
import pytest
from helpers.runs import KEY, MODEL, X, Y, fit, identical, same

import jaxdeep as jd
from jaxdeep.fitting.holdout import held_out

ROWS = np.asarray(X), np.asarray(Y)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.999])
def test_every_row_is_in_one_of_the_parts_in_its_order(share):
    numbers = np.arange(90)
    train, validation = held_out((numbers, numbers * 2.0), share, KEY)
    assert len(validation[0]) == min(max(round(share * 90), 1), 89)
    assert sorted([*train[0], *validation[0]]) == list(numbers)
    for x, doubled in (train, validation):
        assert (np.diff(x) > 0).all()
        np.testing.assert_array_equal(doubled, 2 * x)


def test_the_rows_follow_from_the_key():
    numbers = np.arange(1000)
    held = held_out(numbers, 0.2, KEY)[1]
    np.testing.assert_array_equal(held, held_out(numbers, 0.2, KEY)[1])
    other = held_out(numbers, 0.2, jax.random.key(1))[1]
    assert len(np.intersect1d(held, other)) < 80  # 40 by chance
    assert abs(held.mean() - 500) < 100  # not the last ones
    np.testing.assert_array_equal(held, held_out(np.asarray(numbers, float), 0.2, KEY)[1])


def test_fit_trains_on_the_others():
    found = fit(validation=0.2, epochs=2)
    train, validation = held_out((X, Y), 0.2, KEY)
    same(found, fit(data=train, validation=validation, epochs=2))
    assert int(found.train_state.step) == 2 * 5  # 80 rows in batches of 16
    held = found.evaluate(validation, batch_size=16)
    np.testing.assert_allclose(held["loss"], found.history["val_loss"][-1], rtol=1e-6)


@pytest.mark.heavy
def test_a_resumed_run_has_the_same_rows(tmp_path):
    whole = fit(validation=0.2, epochs=3)
    fit(validation=0.2, epochs=1, checkpoint=tmp_path)
    same(fit(validation=0.2, epochs=3, checkpoint=tmp_path), whole)
    with pytest.raises(ValueError, match="data"):
        fit(validation=0.3, epochs=3, checkpoint=tmp_path)


@pytest.mark.heavy
def test_all_phases_have_the_same_rows():
    train, validation = held_out((X, Y), 0.2, KEY)
    phases = [(1,), (1, "out/*")]
    found = fit(validation=0.2, phases=phases, epochs=1)
    identical(found.history, fit(data=train, validation=validation, phases=phases, epochs=1).history)


@pytest.mark.heavy
def test_rows_of_files_stay_there(tmp_path):
    h5py = pytest.importorskip("h5py")
    for name, part in zip("xy", ROWS):
        np.save(tmp_path / name, part)
    maps = tuple(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy")
    expected = fit(data=ROWS, validation=0.2, epochs=2)
    train, validation = held_out(maps, 0.2, KEY)
    assert not isinstance(train[0], np.ndarray)
    assert train[0].shape == (80, 4)
    np.testing.assert_array_equal(np.asarray(validation[0]), held_out(ROWS, 0.2, KEY)[1][0])
    np.testing.assert_array_equal(train[0][3:5], held_out(ROWS, 0.2, KEY)[0][0][3:5])
    np.testing.assert_allclose(
        fit(data=maps, validation=0.2, epochs=2).history["val_loss"],
        expected.history["val_loss"],
        rtol=1e-5,
    )
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        sets = tuple(file.create_dataset(name, data=part) for name, part in zip("xy", ROWS))
        streamed = fit(data=sets, validation=0.2, epochs=2, stream=True)
    np.testing.assert_allclose(streamed.history["val_loss"], expected.history["val_loss"], rtol=1e-5)


def test_a_sweep_holds_the_same_rows_out_for_all():
    usual = {
        "model": jd.nn.dense(2),
        "loss": jd.losses.softmax_cross_entropy,
        "batch_size": 16,
        "seeds": 2,
        "progress": False,
    }
    build, points = lambda hp: jd.optimizers.sgd(hp["rate"]), [{"rate": 0.1}]
    found = jd.sweep(build, points, data=(X, Y), validation=0.2, **usual)
    train, validation = held_out((X, Y), 0.2, jax.random.key(0))
    expected = jd.sweep(build, points, data=train, validation=validation, **usual)
    for row, other in zip(found.rows(), expected.rows()):
        assert row["val_loss"] == other["val_loss"]


@pytest.mark.heavy
def test_a_cross_validation_has_folds_instead():
    with pytest.raises(ValueError, match="validation must be left out"):
        jd.search.cross_validate(
            lambda hp: jd.optimizers.sgd(hp["rate"]),
            [{"rate": 0.1}],
            data=(X, Y),
            validation=0.2,
            model=MODEL,
            loss=jd.losses.softmax_cross_entropy,
            progress=False,
        )


def test_refusals():
    for validation, message in (
        (0.0, r"share of the rows in \(0, 1\), got 0.0"),
        (1.0, "got 1.0"),
        (float("nan"), "got nan"),
        (20, "got 20"),
        (True, "got True"),
        (np.float32(-0.1), "got -0.1"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            fit(validation=validation)
    with pytest.raises(ValueError, match=r"validation=0.2 is for arrays: data is a loader"):
        fit(data=lambda epoch: iter([(X, Y)]), validation=0.2)
    with pytest.raises(ValueError, match="at least two rows"):
        fit(data=(X[:1], Y[:1]), validation=0.2)
    with pytest.raises(ValueError, match="batch_size must be at most the number of examples, 80"):
        fit(validation=0.2, batch_size=90)
