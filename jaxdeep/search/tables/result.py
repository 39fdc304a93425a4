"""`Result`: how a run of a sweep ended, what it gave, and where its time went."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._shapes import PyTree

FULL = ("finished", "stopped")  # how a run ends that did all it was to do
INCOMPLETE = "incomplete"  # said of a point alone, which lacks runs
ENDED = (*FULL, "halved", "diverged", "interrupted", "error")


class Span(NamedTuple):
    """A stretch of time in which a worker trained a run, in seconds since the sweep began.

    Attributes:
      worker: the thread, device or process, by name.
      begin, end: from when until when.
      epochs: how many epochs of the run it did.
    """

    worker: str
    begin: float
    end: float
    epochs: int


class NotKept(ValueError):
    """Parameters that were not kept, as `keep_params` wanted."""


@runtime_checkable
class Stored(Protocol):
    """What stands for parameters that are not in memory."""

    def load(self) -> tuple[PyTree, PyTree]:
        """Parameters and state.

        Raises:
          NotKept: they are not there any more. ValueError: they are damaged.
        """


class Result(NamedTuple):
    """The result of a run.

    Attributes:
      params, state: those after the last epoch, or after the best one if early stopping restored it.
        `params` may instead have a method ``load() -> (params, state)``, if they are on disk, or be
        None, if they were not kept.
      history: ``(epochs,)`` values of each metric. It may be empty if `ended` is "error".
      end: the epoch that params and state are of, from 0.
      ended: "finished", "stopped" (early), "halved" (by a strategy that ends the worst points),
        "interrupted" (by Ctrl-C), "error" (an exception), or "diverged": a loss, or a parameter at the
        end, was not finite.
      error: the traceback of a run that ended with an error, else "".
      spans: where its time went.
    """

    params: PyTree
    state: PyTree
    history: Mapping[str, np.ndarray]
    end: int
    ended: str
    error: str = ""
    spans: tuple[Span, ...] = ()

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return min((len(values) for values in self.history.values()), default=0)

    @property
    def full(self) -> bool:
        """Whether the run ended by itself, neither cut nor failed: its values can be compared."""
        return self.ended in FULL

    def value(self, metric: str) -> float:
        """The value of a metric at the end, NaN if it was NaN there or the run diverged.

        Where a run ended between two evaluations, halved or at an epoch that early stopping chose by
        another metric, it is that of the last one. They are equally many epochs apart, as those show
        that are not NaN.

        >>> history = {"val_loss": np.array([np.nan, 3.0, np.nan, 2.0, np.nan])}
        >>> Result({}, {}, history, end=4, ended="halved").value("val_loss")
        2.0
        """
        if self.ended == "diverged" or not self.history:
            return float("nan")
        values, end = self.history[metric], self.end
        last = self.ended == "finished" and end + 1 == self.epochs  # which is evaluated in any case
        if metric.startswith("val_") and not last:
            known = np.flatnonzero(~np.isnan(values[: end + 1])) + 1
            every = math.gcd(*known.tolist()) or 1
            end = (end + 1) // every * every - 1
        return self._replace(end=end).at_end(metric)

    def at_end(self, metric: str) -> float:
        """The value of a metric at the end, NaN if the run has none there."""
        values = self.history.get(metric, ())
        return float(values[self.end]) if 0 <= self.end < len(values) else float("nan")

    def frozen(self) -> "Result":
        """The same result with read-only arrays."""
        model = self.params, self.state
        if not isinstance(self.params, Stored):
            model = read_only(model)
        history = MappingProxyType({name: read_only(values) for name, values in self.history.items()})
        spans = tuple(Span(*span) for span in self.spans)
        return self._replace(params=model[0], state=model[1], history=history, spans=spans)


def scalars(history: Mapping[str, Any]) -> dict[str, float]:
    """The metrics with one number an epoch, by name; the values are placeholders."""
    return {name: 0.0 for name, values in history.items() if len(values.shape) == 1}


def read_only(tree: PyTree) -> PyTree:
    """A tree of arrays as NumPy's that cannot be written to; random keys stay as they are."""

    def frozen(leaf: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        array = np.asarray(leaf).view()
        array.flags.writeable = False
        return array

    return jax.tree.map(frozen, tree)
