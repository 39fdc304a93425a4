"""`Epochs`, what the callbacks of a run see."""

from typing import NamedTuple

import numpy as np

from jaxdeep.train.state import TrainState


class Epochs(NamedTuple):
    """The argument of a callback of `jaxdeep.fit`, after each call of the compiled program.

    Attributes:
      epoch: epochs done.
      history: values so far, as `FitResult.history`.
      train_state: the current state. The next call overwrites its arrays, so copy what you keep.
    """

    epoch: int
    history: dict[str, np.ndarray]
    train_state: TrainState
