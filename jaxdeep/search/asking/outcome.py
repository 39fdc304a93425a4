"""`Outcome`, what a sampler is told of a point: its value, its values by epoch, and how it ended."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxdeep.search.spaces.space import Point, Space
from jaxdeep.search.strategies.halving import value_of
from jaxdeep.search.tables.result import FULL, Result


class Outcome(NamedTuple):
    """What became of a point, over all of its seeds.

    Attributes:
      ended: "finished", "stopped" (early), "halved", "diverged" or "error".
      value: the mean over seeds of the metric at the end; NaN if one of them is not finite or diverged,
        or if it is an error.
      by_epoch: the means over seeds that are finite, by epochs done.
      error: the traceback of an error.
    """

    ended: str
    value: float
    by_epoch: Mapping[int, float] = {}
    error: str = ""

    @property
    def full(self) -> bool:
        """Whether all runs went to their ends with a finite value."""
        return self.ended in FULL and math.isfinite(self.value)


class Asked(NamedTuple):
    """A point that a sampler asks for.

    Attributes:
      point: values of hyperparameters by name.
      key: equal for equal points.
      handle: what the sampler knows it by.
      told: what the sampler was told of it in an earlier call; None if it waits for that.
      reported: the epochs whose values it was told.
    """

    point: Point
    key: Hashable
    handle: Any
    told: Outcome | None = None
    reported: frozenset[int] = frozenset()


class Source(Protocol):
    """Where the points of a sweep come from, and where their outcomes go."""

    @property
    def is_exhausted(self) -> bool:
        """Whether there is no further point to ask for."""

    @property
    def spaces(self) -> Sequence[Space] | None:
        """The spaces that points come from, if they are known."""

    def examples(self) -> Sequence[Point]:
        """A few points that may be asked for, if they are known before."""

    def earlier(self) -> Mapping[int, Sequence[Asked]]:
        """The batches that earlier calls have asked for, by number."""

    def begin(self, batch: int) -> None:
        """Take note that a batch of this number is going to be asked for."""

    def ask(self, batch: int) -> Asked | None:
        """A further point, for the batch of this number; None if there is none."""

    def tell(self, asked: Asked, outcome: Outcome) -> None:
        """Tell what became of a point."""


def outcome_of(results: Sequence[Result], metric: str, seeds: int) -> Outcome | None:
    """What became of a point with so many seeds; None if it is interrupted and may go on.

    >>> ends = [Result({}, {}, {"loss": np.array([3.0, v])}, 1, "finished") for v in (1.0, 2.0)]
    >>> outcome_of(ends, "loss", seeds=2)
    Outcome(ended='finished', value=1.5, by_epoch={1: 3.0, 2: 1.5}, error='')
    """
    endings = {result.ended for result in results}
    if len(results) < seeds or "interrupted" in endings:
        return None
    if errors := [result.error for result in results if result.ended == "error"]:
        return Outcome("error", math.nan, {}, errors[0])
    value = value_of([result.value(metric) for result in results])
    by_epoch = _means([result.history[metric][: result.epochs] for result in results])
    ended = next(how for how in ("diverged", "halved", "stopped", "finished") if how in endings)
    return Outcome(ended, value, by_epoch)


def _means(histories: Sequence[np.ndarray]) -> dict[int, float]:
    """The means over seeds by epochs done, as far as all seeds were trained."""
    epochs = min(len(values) for values in histories)
    means = np.mean([values[:epochs].astype(np.float64) for values in histories], axis=0)
    return {i + 1: float(mean) for i, mean in enumerate(means) if math.isfinite(mean)}
