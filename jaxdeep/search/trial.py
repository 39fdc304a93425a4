"""The runs of a sweep: what each is trained with, how far it is, how it ended."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep.fitting.progress import ordered
from jaxdeep.fitting.setup import Setup
from jaxdeep.search.table import Result
from jaxdeep.train.run import RunState
from jaxdeep.train.state import TrainState

PyTree = Any
Moved = Callable[[int], None]  # told of epochs done


@dataclasses.dataclass
class Trial:
    """A run of a sweep.

    Attributes:
      place: the number of its point, and its seed.
      setup: what it is trained with, with Python numbers as in `jaxdeep.fit`.
      floats: what differs from the other rows of its group, by name.
      key: its random key.
      run: where it is; None before it began and after it ended.
      result: how it ended.
    """

    place: tuple[int, int]
    setup: Setup
    floats: dict[str, float]
    key: Any
    run: RunState | None = None
    result: Result | None = None

    def end(self, *, halved: bool = False) -> None:
        """End the run, and keep what is to be kept."""
        run = self.run
        assert run is not None
        same = not (self.setup.restores or self.setup.options["ema"])
        ts = run.train_state if same else self.setup.program().finish(run)[0]
        result = self.standing()
        params, state = jax.tree.map(_own, jax.device_get((ts.params, ts.state)))
        ended = "halved" if halved and result.ended == "finished" else result.ended
        if not _finite(params):
            ended = "diverged"
        self.run, self.result = None, result._replace(params=params, state=state, ended=ended)

    def standing(self) -> Result:
        """The result; of a run that goes on, as it would be if it ended here, without parameters."""
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
        history = {name: history[name][: int(epochs)] for name in ordered(history)}
        return Result(None, None, history, int(end), ended)


class Group(NamedTuple):
    """Rows that differ in floats and keys only.

    Attributes:
      rows: at least one.
      traced: makes the setup from floats that are arrays, `Trial.floats` by name.
    """

    rows: list[Trial]
    traced: Callable[[Mapping[str, Any]], Setup]


class Placed:
    """The data of all rows, moved once to where they are wanted.

    Args:
      data: training and validation data.
    """

    def __init__(self, *data: PyTree) -> None:
        self.data = data
        self.places: dict[Any, tuple[PyTree, ...]] = {None: data}

    def on(self, place: Any) -> tuple[PyTree, ...]:
        """On a device or as sharded; None leaves them where they are."""
        if place not in self.places:
            self.places[place] = jax.device_put(self.data, place)
        return self.places[place]


def light(run: RunState) -> RunState:
    """A run that will not go on, without what only going on takes."""
    ts = run.train_state._asdict() | {"opt_state": (), "key": None}
    return run._replace(train_state=TrainState(**ts))


def arrays(floats: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters as arguments of a program."""
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in floats.items()}


def _own(leaf: Any) -> Any:
    """The array itself, not a view that keeps a whole stack alive."""
    return leaf.copy() if isinstance(leaf, np.ndarray) and leaf.base is not None else leaf


def _finite(tree: PyTree) -> bool:
    return all(
        bool(np.isfinite(leaf).all())
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    )
