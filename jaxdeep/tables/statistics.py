"""What is known of the values of a column after all blocks, in float64 and in bounded memory."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

SAMPLE = 2**18
"""Values of which order statistics are taken: all of up to 262,144 rows, as many random ones of more."""


class Number(NamedTuple):
    """The statistics of a column of numbers, or of one of the numbers of a date; 0 where there is none.

    Attributes:
      name: of the part of a date; "" for a column of numbers.
      center: what is subtracted in float64 before a value is cast to float32: the median.
      unit: a power of two by which the difference is divided: 1, unless float32 could not hold it.
      low, high: the extremes.
      mean, std: the mean and the standard deviation (with n below it).
      lower, upper: the quartiles.
    """

    name: str = ""
    center: float = 0.0
    unit: float = 1.0
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 0.0
    lower: float = 0.0
    upper: float = 0.0


@dataclasses.dataclass
class Numbers:
    """Statistics of numbers, added block by block; the same however the rows are stored.

    Moments are merged in the order of the blocks, which have the same rows in all sources. For order
    statistics the rows with the smallest hashes of their numbers are kept.
    """

    count: int = 0
    low: float = math.inf
    high: float = -math.inf
    unit: float = 1.0  # of mean and squares, so that squares neither overflow nor vanish
    mean: float = 0.0
    squares: float = 0.0  # of differences from the mean
    offset: float = 0.0  # of the first number from the number of its row
    steps: bool = True  # that of all
    kept: list[tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=list)

    def add(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Add the values of rows, given the numbers of these; NaN is none."""
        here = ~np.isnan(values)
        known, rows = values[here], rows[here]
        if not known.size:
            return
        if not self.count:
            self.offset = float(known[0]) - float(rows[0])
        self.steps = self.steps and bool((known - rows == self.offset).all())
        self.low, self.high = min(self.low, float(known.min())), max(self.high, float(known.max()))
        if not self.count:
            self.unit = _unit(max(abs(self.low), abs(self.high)), 1e100)
        with np.errstate(over="ignore", invalid="ignore"):  # of a later block of far larger numbers
            scaled = known / self.unit
            mean = float(scaled.mean())
            squares = float(((scaled - mean) ** 2).sum())
            total = self.count + known.size
            off = mean - self.mean
            self.squares += squares + off * off * self.count * known.size / total
            self.mean += off * known.size / total
        self.count = total
        self.kept.append((_hashes(rows), known))
        if sum(len(part) for _, part in self.kept) > 2 * SAMPLE:
            self.kept = [self._sample()]

    def found(self, name: str = "") -> Number:
        """The statistics of all that was added."""
        if not self.count:
            return Number(name)
        sample = self._sample()[1]
        with np.errstate(over="ignore", invalid="ignore"):
            quartiles = np.percentile(sample, [25, 50, 75])
        if not np.isfinite(quartiles).all():  # between numbers near the largest
            quartiles = np.percentile(sample, [25, 50, 75], method="nearest")
        lower, center, upper = quartiles.tolist()
        spread = max(0.5 * upper - 0.5 * lower, 0.5 * self.high - 0.5 * self.low)
        constant = self.low == self.high
        std = 0.0 if constant else math.sqrt(self.squares / self.count) * self.unit
        mean = self.low if constant else self.mean * self.unit
        finite = math.isfinite(std) and math.isfinite(mean)
        unit = 1.0 if constant else _unit(spread, 1e30)
        return Number(
            name, center, unit, self.low, self.high, mean if finite else center,
            std if finite else spread, lower, upper,
        )  # fmt: skip

    def _sample(self) -> tuple[np.ndarray, np.ndarray]:
        hashes = np.concatenate([part for part, _ in self.kept])
        values = np.concatenate([part for _, part in self.kept])
        if len(values) <= SAMPLE:
            return hashes, values
        order = np.argpartition(hashes, SAMPLE)[:SAMPLE]
        return hashes[order], values[order]


def _unit(size: float, most: float) -> float:
    """1, or a power of two near the size of numbers that are beyond ``[1 / most, most]``."""
    if size == 0 or 1 / most < size < most:
        return 1.0
    return 2.0 ** min(max(math.frexp(size)[1], -1000), 1000)


def _hashes(rows: np.ndarray) -> np.ndarray:
    """A pseudo-random number for each number of a row, by the mixing function of SplitMix64."""
    with np.errstate(over="ignore"):
        z = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
