"""What those who watch a run see of it: `Epochs`, and the values of an epoch as plain numbers."""

import types
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxdeep.train.state import TrainState


class Epochs(NamedTuple):
    """The argument of a callback of `jaxdeep.fit`, after each call of the compiled program.

    Between two epochs it is that of the end of an epoch; with ``fit(steps_per_call=)`` callbacks are
    called within epochs, too.

    Attributes:
      epoch: epochs done.
      history: values so far, as `FitResult.history`.
      train_state: the state after the last step, whose ``step`` counts the updates done, as
        `FitResult` has it. The next call overwrites its arrays, so copy what you keep.
      metrics: within an epoch the means over its steps so far, "loss" among them; empty at its end,
        where they are the last of the history.
    """

    epoch: int
    history: dict[str, np.ndarray]
    train_state: TrainState
    metrics: Mapping[str, np.ndarray] = types.MappingProxyType({})


def scalars_of(history: Mapping[str, np.ndarray], epoch: int) -> dict[str, float]:
    """The values of an epoch, counted from 0, as floats by name.

    An entry with several values has a name for each, ``name/0``, ``name/1`` and so on. NaN, which stands
    between two evaluations, is left out.

    >>> scalars_of({"loss": np.array([0.5]), "recall": np.array([[1.0, np.nan, 0.0]])}, 0)
    {'loss': 0.5, 'recall/0': 1.0, 'recall/2': 0.0}
    """
    by_name = {}
    for name, values in history.items():
        value = np.asarray(values[epoch])
        for index in np.ndindex(value.shape):
            if not np.isnan(value[index]):
                by_name["/".join([name, *map(str, index)])] = float(value[index])
    return by_name
