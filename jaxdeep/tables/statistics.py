"""What is known of the values of a column after all blocks, in float64 and in bounded memory."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from jaxdeep._precision import lie_apart, not_told
from jaxdeep.tables.dates import PARTS, TIME_PARTS, has_times, parts_of

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
class Sample:
    """Values of all of up to `SAMPLE` rows, of more those of the rows whose numbers hash least."""

    rows: list[np.ndarray] = dataclasses.field(default_factory=list)
    values: list[np.ndarray] = dataclasses.field(default_factory=list)
    largest: np.uint64 | None = None  # of the hashes, once rows were left out

    def add(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Add the values of rows, given the numbers of these; at least one."""
        if self.largest is not None:
            here = _hashes(rows) <= self.largest
            rows, values = rows[here], values[here]
        self.rows.append(rows.astype(np.min_scalar_type(int(rows.max(initial=0)))))
        self.values.append(values)
        if sum(map(len, self.rows)) > SAMPLE + SAMPLE // 4:
            self._keep_least()

    def found(self) -> np.ndarray:
        """The values that are kept, in any order."""
        self._keep_least()
        return self.values[0]

    def _keep_least(self) -> None:
        rows, values = np.concatenate(self.rows), np.concatenate(self.values)
        if len(rows) > SAMPLE:
            hashes = _hashes(rows)
            order = np.argpartition(hashes, SAMPLE)[:SAMPLE]
            rows, values, self.largest = rows[order], values[order], hashes[order].max()
        self.rows, self.values = [rows], [values]


@dataclasses.dataclass
class Moments:
    """Extremes, mean and spread of numbers, merged in the order of the blocks they are added by."""

    count: int = 0
    low: float = math.inf
    high: float = -math.inf
    unit: float = 1.0  # of mean and squares, so that squares neither overflow nor vanish
    mean: float = 0.0
    squares: float = 0.0  # of differences from the mean

    def add(self, known: np.ndarray) -> None:
        """Add numbers, at least one."""
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

    def found(self, name: str, sample: np.ndarray) -> Number:
        """The statistics of all that was added, and the order statistics of a sample of it."""
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


@dataclasses.dataclass
class Whole:
    """Whole numbers of 64 bits of a column, added block by block, which float64 should tell apart."""

    low: float = math.inf  # whole, once there are some
    high: float = -math.inf
    cut: bool = False

    def add(self, numbers: list[int]) -> None:
        """Add numbers, which may be none."""
        self.low, self.high = min([self.low, *numbers]), max([self.high, *numbers])
        self.cut = self.cut or any(int(float(number)) != number for number in numbers)

    def check(self, name: str, instead: str) -> None:
        """Refuse numbers that differ by so little that float64 loses it."""
        low, high = np.asarray(self.low, float), np.asarray(self.high, float)
        if self.cut and self.low < self.high and not lie_apart(low, high, np.float64):
            said = not_told(self.low, self.high, "", np.float64)
            raise ValueError(f"{name} {said}{instead}")


@dataclasses.dataclass
class Numbers:
    """Statistics of a column of numbers, added block by block; the same however the rows are stored.

    All sources have blocks of the same rows, in whose order moments are merged.
    """

    moments: Moments = dataclasses.field(default_factory=Moments)
    sample: Sample = dataclasses.field(default_factory=Sample)
    offset: float = 0.0  # of the first number from the number of its row
    steps: bool = True  # that of all

    def add(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Add the values of rows, given the numbers of these; NaN is none."""
        here = ~np.isnan(values)
        known, rows = values[here], rows[here]
        if not known.size:
            return
        if not self.moments.count:
            self.offset = float(known[0]) - float(rows[0])
        self.steps = self.steps and bool((known - rows == self.offset).all())
        self.moments.add(known)
        self.sample.add(rows, known)

    def found(self) -> Number:
        """The statistics of all that was added."""
        return self.moments.found("", self.sample.found()) if self.moments.count else Number()


@dataclasses.dataclass
class Dates:
    """Statistics of the numbers that are made of dates, of which one sample of instants is kept."""

    moments: dict[str, Moments] = dataclasses.field(default_factory=dict)
    sample: Sample = dataclasses.field(default_factory=Sample)
    timed: bool = False  # whether one is not the begin of a day

    def add(self, rows: np.ndarray, instants: np.ndarray) -> None:
        """Add the instants of rows, given the numbers of these; all are known."""
        if not instants.size:
            return
        self.timed = self.timed or has_times(instants)
        self.sample.add(rows, instants)
        for name in (*PARTS, *TIME_PARTS):
            self.moments.setdefault(name, Moments()).add(_part(instants, name))

    def found(self) -> tuple[Number, ...]:
        """The statistics of the numbers that a network is given."""
        names = PARTS + TIME_PARTS * self.timed
        if not self.moments:
            return tuple(map(Number, names))
        sample = self.sample.found()
        return tuple(self.moments[name].found(name, _part(sample, name)) for name in names)


def _part(instants: np.ndarray, name: str) -> np.ndarray:
    return parts_of(instants, np.zeros(len(instants), bool), [name])[:, 0]


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
