"""The records of a run: what its callbacks see, and what `jaxdeep.fit` returns."""

from typing import NamedTuple

import numpy as np

from jaxdeep._shapes import PyTree
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


class FitResult(NamedTuple):
    """The result of a run of `jaxdeep.fit`.

    Attributes:
      train_state: the whole state, from which training can go on.
      history: ``"loss"``, each metric, ``"val_loss"`` and each validation metric as NumPy arrays, one
        value an epoch. ``learning_rate`` and ``momentum`` are those in force at the end of the epoch.
      best_epoch: with early stopping, the index of the best epoch in the history, −1 if there was none.
      stopped: why the run has ended before its last epoch: "early_stopping", "callback", "diverged" (a
        loss was not finite) or "interrupted"; None if it has not. Early stopping and an interruption
        are named in the last epoch, too. Of phases, it is that of the last one run.
    """

    train_state: TrainState
    history: dict[str, np.ndarray]
    best_epoch: int | None = None
    stopped: str | None = None

    @property
    def params(self) -> PyTree:
        """The trained parameters."""
        return self.train_state.params

    @property
    def state(self) -> PyTree:
        """The model's state: batch-norm statistics."""
        return self.train_state.state
