"""`Pair`: two candidates on the same seeds, and how sure their difference is."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxdeep.comparison.statistics import (
    holm,
    paired_t_test,
    sign_flip_test,
    superiority,
    t_interval,
)

_ROUNDED = 2.0**-24  # the error of a value in float32, as metrics are, relative to it


class Pair(NamedTuple):
    """Two candidates, of which the first has the better mean.

    Attributes:
      better, worse: their names.
      difference: the mean over the seeds of how much better the first is; never negative.
      low, high: its interval by Student's t, not adjusted for the number of pairs.
      deviation: the standard deviation of the differences.
      p: of the test for a mean of 0, see `judged_by`; `adjusted` by Holm's method for all pairs.
      superiority: the share of pairs of runs in which the first is better.
    """

    better: str
    worse: str
    difference: float
    low: float
    high: float
    deviation: float
    p: float
    adjusted: float
    superiority: float

    def is_sure(self, level: float, worth: float = 0.0) -> bool:
        """Whether the difference is one, and larger than `worth`."""
        return self.adjusted < 1 - level and self.difference > worth


def pairs_of(values: Mapping[str, np.ndarray], mode: str, level: float) -> list[Pair]:
    """All pairs of candidates, those of better means first.

    Args:
      values: ``(seeds,)`` by name, ≥ 2 seeds, finite, in the same order of seeds.
      mode: "min" or "max", which is better.
      level: of the intervals.

    >>> a, b = np.array([0.9, 0.8, 0.85]), np.array([0.7, 0.65, 0.6])
    >>> (pair,) = pairs_of({"b": b, "a": a}, "max", 0.95)
    >>> pair.better, round(pair.difference, 3), pair.p, pair.superiority
    ('a', 0.2, 0.25, 1.0)
    """
    sign = 1 if mode == "max" else -1
    order = sorted(values, key=lambda name: -sign * float(np.mean(values[name])))
    seeds = len(next(iter(values.values()), ()))
    test = judged_by(seeds, len(order) * (len(order) - 1) // 2, level)
    pairs = []
    for better, worse in itertools.combinations(order, 2):
        differences = sign * (values[better] - values[worse])
        low, high = t_interval(differences, level=level)
        error = 2 * _ROUNDED * float(max(np.abs(values[better]).max(), np.abs(values[worse]).max()))
        pairs.append(
            Pair(
                better,
                worse,
                difference=float(differences.mean()),
                low=low,
                high=high,
                deviation=float(differences.std(ddof=1)),
                p=paired_t_test(differences)
                if test == "t"
                else sign_flip_test(differences, error=error),
                adjusted=1.0,
                superiority=superiority(values[better], values[worse], mode),
            )
        )
    adjusted = holm([pair.p for pair in pairs])
    return [pair._replace(adjusted=float(p)) for pair, p in zip(pairs, adjusted)]


def fewest(tests: int, level: float) -> int:
    """The fewest seeds with which the sign-flip test can be sure of one of so many pairs.

    >>> fewest(1, 0.95), fewest(6, 0.95), fewest(21, 0.95), fewest(28, 0.95)
    (6, 8, 10, 11)
    """
    return next(n for n in range(2, 1_000) if 2.0 ** (1 - n) * max(tests, 1) < 1 - level)


def judged_by(seeds: int, tests: int, level: float) -> str:
    """The test that pairs are judged by: "sign-flip", or "t" where that has too few signs.

    Its p-value is 2 / 2ⁿ at least, and `tests` times that after Holm's adjustment. Where this is not
    below ``1 − level``, however large the differences, Student's test takes its place, which assumes
    that they are normal. With so few seeds that a single pair could not be sure, nothing is.

    >>> judged_by(10, 21, 0.95), judged_by(10, 28, 0.95), judged_by(3, 1, 0.95)
    ('sign-flip', 't', 'sign-flip')
    """
    return "t" if fewest(1, level) <= seeds < fewest(tests, level) else "sign-flip"
