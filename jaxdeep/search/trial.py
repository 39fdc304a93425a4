"""`Trial`, a run of a sweep: its setup, how far it is and how it ended."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._shapes import Array, ArrayLike, Float, PyTree
from jaxdeep.fitting.progress import ordered
from jaxdeep.fitting.setup import Setup
from jaxdeep.search.table import Result
from jaxdeep.train.missing import with_nan
from jaxdeep.train.run import RunState
from jaxdeep.train.state import TrainState

OnEpochs = Callable[[int], None]  # called with the number of epochs that have just been done
Floats = dict[str, Float[Array, "..."]]  # hyperparameters of a row, or of each row of a stack
Place: TypeAlias = jax.Device | jax.sharding.Sharding | None


@dataclasses.dataclass
class Trial:
    """A run of a sweep.

    Attributes:
      place: the index of its point, and its seed.
      setup: the setup it is trained with, with Python numbers as in `jaxdeep.fit`.
      floats: the hyperparameters in which it differs from other rows of its group, by name.
      key: its random key.
      run: its state; None before its first epoch and after its end.
      result: its result; None before its end.
    """

    place: tuple[int, int]
    setup: Setup
    floats: dict[str, float]
    key: jax.Array
    run: RunState | None = None
    result: Result | None = None

    def end(self, early: str | None = None) -> None:
        """End the run: keep its result and release its state.

        A run that is ended before its time is "halved" or "interrupted", as `early` says.
        """
        run = self.run
        assert run is not None
        same = not (self.setup.restores or self.setup.options["ema"])
        ts = run.train_state if same else self.setup.program.finish(run)[0]
        result = self.standing()
        params, state = jax.tree.map(_owned, jax.device_get((ts.params, ts.state)))
        ended = early if early is not None and result.ended == "finished" else result.ended
        if not _finite(params):
            ended = "diverged"
        self.run, self.result = None, result._replace(params=params, state=state, ended=ended)

    def standing(self) -> Result:
        """The result, which for a run that goes on is the one it would have now, without parameters."""
        if self.result is not None:
            return self.result
        run = self.run
        assert run is not None
        epochs, stopped, bad_step, history, best = jax.device_get(
            (run.epoch, run.stopped, run.bad_step, run.history, run.decisions.best_epoch)
        )
        end = best if self.setup.restores and best >= 0 else epochs - 1
        diverged = bad_step >= 0 and self.setup.options["on_nonfinite"] == "raise"
        ended = "diverged" if diverged else "stopped" if stopped else "finished"
        history = with_nan(history, int(epochs))
        history = {name: history[name] for name in ordered(history)}
        return Result(None, None, history, int(end), ended)


class Group(NamedTuple):
    """Rows that differ only in floats and keys.

    Attributes:
      rows: the trials, at least one.
      traced: makes the setup of a row from its floats (`Trial.floats`), which may be traced arrays.
    """

    rows: list[Trial]
    traced: Callable[[Mapping[str, ArrayLike]], Setup]

    def start(self, floats: Floats, key: jax.Array, data: tuple[PyTree, ...]) -> RunState:
        """A row before its first epoch; of the data only shapes matter."""
        setup = self.traced(floats)
        return setup.program.start(setup.begin(data[0], key), *data, setup.limits)

    def segment(
        self, floats: Floats, run: RunState, data: tuple[PyTree, ...], until: ArrayLike
    ) -> RunState:
        """A row after the epochs up to `until`."""
        setup = self.traced(floats)
        return setup.program.segment(run, *data, until, setup.limits)


class DeviceData:
    """The data of all rows, copied at most once to each place.

    Args:
      arrays: training and validation data.
    """

    def __init__(self, *arrays: PyTree) -> None:
        self.arrays = arrays
        self.copies: dict[Place, tuple[PyTree, ...]] = {None: arrays}

    def on(self, place: Place) -> tuple[PyTree, ...]:
        """The data on a device, or with a sharding; with None, where they were."""
        if place not in self.copies:
            self.copies[place] = jax.device_put(self.arrays, place)
        return self.copies[place]


def light(run: RunState) -> RunState:
    """A run that will not go on, without the optimizer's state and the key."""
    ts = run.train_state._asdict() | {"opt_state": (), "key": None}
    return run._replace(train_state=TrainState(**ts))


def arrays(floats: Mapping[str, ArrayLike]) -> Floats:
    """Hyperparameters as arrays, which are arguments of a program."""
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in floats.items()}


def _owned(leaf: ArrayLike) -> ArrayLike:
    """The array, copied if it is a view, which would keep a whole stack alive."""
    return leaf.copy() if isinstance(leaf, np.ndarray) and leaf.base is not None else leaf


def _finite(tree: PyTree) -> bool:
    return all(
        bool(np.isfinite(leaf).all())
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    )
