"""Statistics of columns: samples of rows, whatever the blocks."""

import numpy as np
import pytest

from jaxdeep.tables import statistics
from jaxdeep.tables.statistics import Dates, Numbers, Sample


def mixed(row):
    """SplitMix64 of a row, written with Python's numbers."""
    z = (row + 1) * 0x9E3779B97F4A7C15 % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_a_sample_is_of_the_rows_that_hash_least(monkeypatch, block):
    monkeypatch.setattr(statistics, "SAMPLE", 100)
    rows = np.setdiff1d(np.arange(1000) + 2**16 - 300, [2**16, 2**16 + 5])  # beyond 16 bits, with holes
    sample = Sample()
    for first in range(0, len(rows), block):
        sample.add(rows[first : first + block], rows[first : first + block] / 2)
        assert sum(map(len, sample.rows)) <= 125 or first == 0
    expected = sorted(rows.tolist(), key=mixed)[:100]
    assert sorted(sample.found().tolist()) == sorted(row / 2 for row in expected)


def test_quartiles_of_a_long_column_are_those_of_the_sample(monkeypatch):
    monkeypatch.setattr(statistics, "SAMPLE", 100)
    values, rows = np.random.default_rng(0).normal(size=1000), np.arange(1000)
    numbers = Numbers()
    for first in range(0, 1000, 90):
        numbers.add(rows[first : first + 90], values[first : first + 90])
    chosen = values[sorted(range(1000), key=mixed)[:100]]
    found = numbers.found()
    assert [found.lower, found.center, found.upper] == np.percentile(chosen, [25, 50, 75]).tolist()
    assert (found.low, found.high) == (values.min(), values.max())
    assert found.mean == pytest.approx(values.mean())
    assert found.std == pytest.approx(values.std())


def test_dates_have_the_statistics_of_each_of_their_numbers():
    hours = np.random.default_rng(0).integers(0, 10**5, 200)
    dates, elapsed = Dates(), Numbers()
    for first in range(0, 200, 64):
        part = hours[first : first + 64]
        dates.add(np.arange(first, first + len(part)), part * 3_600_000_000)
        elapsed.add(np.arange(first, first + len(part)), part / 24)
    found = {number.name: number for number in dates.found()}
    assert found["elapsed"] == elapsed.found()._replace(name="elapsed")
    angle = 2 * np.pi * (hours % 24) / 24
    assert found["day_cos"].mean == pytest.approx(np.cos(angle).mean(), abs=1e-12)
    assert found["day_cos"].center == pytest.approx(np.median(np.cos(angle)), abs=1e-12)
    assert Dates().found()[0] == statistics.Number("elapsed")
