"""`log=` of a run: the values of every epoch, told once and in order to a function of the host."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np

from jaxdeep.train.options import Log
from jaxdeep.train.records import scalars_of

History = Mapping[str, np.ndarray]


@runtime_checkable
class KnowsItsEnd(Protocol):
    """A log that knows what it holds, such as a file, and may lack epochs before the run goes on."""

    def last_step(self) -> int | None:
        """The last step that it was told of; 0 if there is none, None if it cannot say."""


def listed(log: Log | Sequence[Log] | None) -> Sequence[Log]:
    """The logs of a run, of which there may be none or one."""
    if log is None:
        return ()
    return [log] if callable(log) else log


class After:
    """A log that is told of a run as if it came after `before` epochs of another, as phases do."""

    def __init__(self, log: Log, before: int):
        self._log, self._before = log, before

    def __call__(self, values: dict[str, float], step: int) -> None:
        """Tell the log, whose steps go on."""
        self._log(values, step=self._before + step)

    def last_step(self) -> int | None:
        """The last step of this run that it knows; None if it cannot say."""
        last = self._log.last_step() if isinstance(self._log, KnowsItsEnd) else None
        return None if last is None else last - self._before


def teller(logs: Sequence[Log], begun: int) -> Callable[[int, History], None]:
    """A function ``tell(epochs done, history)``, after which each log knows of all epochs that are done.

    Each is told of an epoch once, also where the run goes on after `begun` epochs. One that knows its
    own end is told of those before that it lacks, since the process may have been killed between the
    checkpoint and the log. Of several processes the first one tells.
    """
    if jax.process_index():
        return lambda done, history: None
    told = [_known(log, begun) for log in logs]

    def tell(done: int, history: History) -> None:
        for place, log in enumerate(logs):
            while told[place] < done:
                if values := scalars_of(history, told[place]):
                    log(values, step=told[place] + 1)
                told[place] += 1

    return tell


def _known(log: Log, begun: int) -> int:
    last = log.last_step() if isinstance(log, KnowsItsEnd) else None
    return begun if last is None else min(max(last, 0), begun)
