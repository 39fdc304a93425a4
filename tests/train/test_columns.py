"""Columns whose differences float32 does not hold, in arrays, files and batches."""

import functools
import tracemalloc

import jax
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep.train import columns as columns_file
from jaxdeep.train.columns import check_columns, check_told_apart_by_column, columns_of, with_rows_of

ROWS = 64
TIMES = np.stack([np.linspace(0, 1, ROWS), 1.7e9 + np.arange(ROWS)], axis=1)
SMALL = np.linspace(0, 1, ROWS)[:, None]
WIDE = np.stack([np.linspace(0, 1, ROWS), np.where(np.arange(ROWS), TIMES[:, 1], 0)], axis=1)
FIT = functools.partial(
    jd.fit, jd.nn.dense(1), loss=jd.losses.mse, optimizer=jd.optimizers.sgd(0.0), key=jax.random.key(0),
    progress=False, epochs=2,
)  # fmt: skip


def memory_map(folder, array):
    np.save(folder / "x.npy", array)
    return np.load(folder / "x.npy", mmap_mode="r")


def data_set(folder, array):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "x.h5", "w") as file:
        file["x"] = array
    return h5py.File(folder / "x.h5", "r")["x"]


@pytest.mark.parametrize("on_file", [memory_map, data_set])
@pytest.mark.parametrize("stream", [True, False])
def test_files_are_looked_at(tmp_path, on_file, stream):
    with pytest.raises(ValueError, match=r"data\[0\] holds numbers from 17.* in column 1, whose"):
        FIT((on_file(tmp_path, TIMES), SMALL), stream=stream)
    FIT((on_file(tmp_path, WIDE), SMALL), stream=stream)


def test_a_held_out_part_of_a_file_is_looked_at(tmp_path):
    with pytest.raises(ValueError, match="in column 1, whose differences float32 cannot tell"):
        FIT((memory_map(tmp_path, TIMES), SMALL), validation=0.25)


def test_a_file_in_a_sweep_and_a_population_is_looked_at(tmp_path):
    data = memory_map(tmp_path, TIMES), SMALL
    with pytest.raises(ValueError, match=r"data\[0\] holds numbers .* in column 1, whose differences"):
        jd.sweep(
            lambda hp: jd.optimizers.sgd(hp["rate"]), {"rate": [0.1]}, model=jd.nn.dense(1), data=data,
            loss=jd.losses.mse, progress=False,
        )  # fmt: skip


def batches_of(x, y, size=16, asked=None):
    def epoch(number):
        for first in range(0, len(x), size):
            if asked is not None:
                asked.append((number, first))
            yield x[first : first + size], y[first : first + size]

    return epoch


@pytest.mark.parametrize("part", [0, 1])
def test_batches_of_a_loader_are_refused_after_the_first_epoch(part):
    asked = []
    data = (TIMES, SMALL) if part == 0 else (SMALL, TIMES)
    model = jd.nn.dense(2 - (part == 0))
    with pytest.raises(ValueError, match=rf"data\[{part}\] holds .* in column 1 of the batches"):
        FIT(batches_of(*data, asked=asked)) if part == 0 else jd.fit(
            model, batches_of(*data, asked=asked), loss=jd.losses.mse, epochs=2, progress=False,
            optimizer=jd.optimizers.sgd(0.0), key=jax.random.key(0),
        )  # fmt: skip
    assert {epoch for epoch, _ in asked} == {0}


def test_batches_that_are_told_apart_in_the_end_are_taken():
    # each batch by itself is close, and the last row is not
    FIT(batches_of(WIDE[::-1], SMALL))
    constant = 0.3 + np.spacing(0.3) * (np.arange(ROWS) % 3)
    exact = 1 + np.arange(ROWS) * 2.0**-23
    FIT(batches_of(np.stack([constant, exact], axis=1), SMALL))
    FIT(batches_of(TIMES.astype(np.float32), SMALL))


def test_steps_per_epoch_end_the_first_epoch():
    with pytest.raises(ValueError, match="of the batches of the first epoch"):
        FIT(batches_of(TIMES, SMALL)(0), steps_per_epoch=2)


def test_validation_batches_are_not_judged():
    # a model trained on wide data may be asked about a minute
    FIT((WIDE, SMALL), validation=batches_of(TIMES, SMALL))


def test_examples_of_several_shapes_are_not_judged():
    columns = with_rows_of(columns_of(np.ones((2, 3))), np.full((2, 3), 1.7e9))
    assert with_rows_of(columns, np.ones((2, 4))).places.size == 0


def naively(values):
    """Whether float32 loses the differences of a column, of all its rows at once."""
    values = values[np.isfinite(values)]
    if not values.size:
        return False
    spread, size = np.ptp(values), np.abs(values).max()
    close = 1024 * np.finfo(float).eps * size < spread < 64 * np.finfo(np.float32).eps * size
    return bool(close and (values.astype(np.float32) != values).any())


@pytest.mark.parametrize("seed", range(8))
def test_parts_are_judged_as_the_whole(seed):
    rng = np.random.default_rng(seed)
    spreads, sizes = 10.0 ** rng.uniform(-8, 1, 30), 10.0 ** rng.uniform(-2, 2, 30)
    values = sizes * (1 + spreads * rng.normal(size=(40, 30))) * rng.choice([-1, 1], 30)
    values[rng.random(values.shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    values = values.reshape(40, 5, 6)
    columns = columns_of(values)
    for part in np.split(values, sorted(rng.integers(0, 40, 4))):
        columns = with_rows_of(columns, part)
    bad = [i for i in range(30) if naively(values.reshape(40, 30)[:, i])]
    assert bad
    at = ", ".join(map(str, np.unravel_index(bad[0], (5, 6))))
    with pytest.raises(ValueError, match=f"in column {at}, whose"):
        check_columns(columns, "data")
    with pytest.raises(ValueError, match=f"in column {at}, whose"):
        check_told_apart_by_column(values)


def test_of_a_large_file_blocks_are_read_all_over_it(tmp_path, monkeypatch):
    monkeypatch.setattr(columns_file, "_BLOCK", 2**12)
    monkeypatch.setattr(columns_file, "_LOOKED_AT", 2**16)
    rows = 2**16  # 1 MiB, of which 64 KiB are looked at
    x = np.stack([np.linspace(0, 1, rows), 1.7e9 + np.arange(rows) / rows], axis=1)
    on_file, read = memory_map(tmp_path, x), []
    real = columns_file.with_rows_of

    def noted(columns, block):
        read.append((float(block[0, 0]), block.nbytes))
        return real(columns, block)

    monkeypatch.setattr(columns_file, "with_rows_of", noted)
    with pytest.raises(ValueError, match="in column 1, whose differences float32 cannot tell"):
        check_told_apart_by_column(on_file)
    firsts = sorted(first for first, _ in read)
    assert sum(size for _, size in read) == 2**16
    np.testing.assert_allclose(np.diff(firsts), 1 / 15, atol=0.01)
    assert (len(firsts), firsts[0]) == (16, 0)
    assert firsts[-1] > 0.99
    # rows in the order of their times are told apart by the last block and the first
    read.clear()
    check_told_apart_by_column(memory_map(tmp_path, x * [1, 0] + [0, 1.7e9] + x[:, :1] * [0, 1e6]))
    assert len(read) == 2


def test_files_are_read_in_bounded_memory(tmp_path):
    on_file = memory_map(tmp_path, np.full((2**15, 64), 1.7e9) + np.arange(64))  # 16 MiB
    tracemalloc.start()
    try:
        check_told_apart_by_column(on_file)
        assert tracemalloc.get_traced_memory()[1] < 6 * columns_file._BLOCK
    finally:
        tracemalloc.stop()
