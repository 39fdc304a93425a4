"""`Trial`, a run of a sweep: its setup, how far it is and how it ended."""

import dataclasses
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._shapes import Array, ArrayLike, Float, PyTree
from jaxdeep.fitting.progress import ordered
from jaxdeep.fitting.run_arrays import on_host
from jaxdeep.fitting.setup import Setup
from jaxdeep.search.records.store import NOTHING, Past, Store
from jaxdeep.search.resampling.subset import WHOLE, Subset
from jaxdeep.search.spaces.space import Point
from jaxdeep.search.tables.table import Result, Span, scalars
from jaxdeep.train import monitors
from jaxdeep.train.evaluated import is_another
from jaxdeep.train.missing import with_nan
from jaxdeep.train.run import RunState
from jaxdeep.train.state import TrainState

OnEpochs = Callable[[int], None]  # called with the number of epochs that have just been done
Floats = dict[str, Float[Array, "..."]]  # hyperparameters of a row, or of each row of a stack


@dataclasses.dataclass
class Trial:
    """A run of a sweep.

    Attributes:
      place: the index of its point, that of its subset, and its seed.
      setup: the setup it is trained with, with Python numbers as in `jaxdeep.fit`.
      floats: the hyperparameters in which it differs from other rows of its group, by name.
      key: its random key.
      point: its hyperparameters by name.
      subset: which of the data it is trained on.
      run: its state; None before its first epoch and after its end.
      result: its result; None before its end.
      shapes: those of its state.
      id, words, texts: what it is in a journal (`jaxdeep.search.records.store.Row`).
      store: where it is kept.
      past: what is known of it from an earlier call.
      spans: when it was worked on.
      error: what it raised in this call.
      last: its standing when its state went to the disk.
      telling: ``(epochs done, history)``, which tells the logs what they do not know.
    """

    place: tuple[int, int, int]
    setup: Setup
    floats: dict[str, ArrayLike]
    key: jax.Array
    point: Point
    subset: Subset = WHOLE
    run: RunState | None = None
    result: Result | None = None
    shapes: Any = None
    id: str = ""
    words: Any = None
    texts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    store: Store = dataclasses.field(default_factory=Store)
    past: Past = NOTHING
    spans: list[Span] = dataclasses.field(default_factory=list)
    error: Exception | None = None
    last: Result | None = None
    telling: Callable[[int, Mapping[str, np.ndarray]], None] | None = None

    @property
    def epoch(self) -> int:
        """Epochs done."""
        if self.result is not None:
            return self.result.epochs
        return self.past.epoch if self.run is None else int(self.run.epoch)

    def begun(self) -> RunState | None:
        """The state of the run, from the file of an earlier call if needed; None before it begins."""
        if self.run is None and self.past.epoch:
            self.run = self.store.load(self)
            self.past = self.past._replace(epoch=0 if self.run is None else int(self.run.epoch))
            self.last = None if self.run is not None else self.last
        return self.run

    def look(self) -> None:
        """Read what an earlier call has saved, so that a file that is damaged is known of in time."""
        if self.result is None and self.run is None and self.last is None and self.past.ended is None:
            if self.begun() is None or not self.store.lasts:
                return
            self.last, self.run = self.standing(), None

    def pause(self) -> None:
        """Save the state at the end of a rung; one that is on the disk leaves the memory."""
        if self.run is None:
            return
        self.store.save(self, self.run)
        if self.store.lasts:
            self.last, self.past = self.standing(), self.past._replace(epoch=self.epoch, ended=None)
            self.run = None
        self.tell(kept=True)

    def worked(self, worker: str, begin: float, epochs: int) -> None:
        """Note that a worker has done epochs since `begin`, in seconds as `time.time` counts them."""
        self.spans.append(Span(worker, begin - self.store.began, time.time() - self.store.began, epochs))

    def end(self, early: str | None = None) -> None:
        """End the run: keep its result and release its state.

        A run that is ended before its time is "halved" or "interrupted", as `early` says.
        """
        ended = self.past.ended
        if self.run is None and early == "halved" and ended is not None:
            self.result = self.store.kept(self, ended)._replace(ended=early)
            return
        run = self.begun()
        if run is None:  # the file of the row has been removed
            if self.last is None:
                return
            self.result = self.standing()._replace(ended=early or "interrupted", spans=tuple(self.spans))
            return
        another = is_another(run.train_state.opt_state, self.setup.options["ema"])
        same = not (self.setup.restores or another)
        ts = run.train_state if same else self.setup.program.finish(run)[0]
        result = self.standing()
        params, state = jax.tree.map(_owned, on_host((ts.params, ts.state)))
        how = early if early is not None and result.ended == "finished" else result.ended
        if how != "interrupted" and not _finite(params):  # an interrupted row goes on
            how = "diverged"
        result = result._replace(params=params, state=state, ended=how, spans=tuple(self.spans))
        self.store.end(self, run, result, None if same else (params, state))
        self.run = None
        self.tell(kept=True)

    def tell(self, run: RunState | None = None, *, kept: bool = False) -> None:
        """Tell the logs of the epochs that `run`, or the row itself, has done.

        Where rows last, that is once the state after them is on the disk (`kept`), so that no other
        process does them again.
        """
        if self.telling is None or (self.store.lasts and not kept):
            return
        if self.store.lasts:
            self.store.flush()
        if run is None:
            now = self.standing()
            self.telling(now.epochs, now.history)
        else:
            done, history = on_host((run.epoch, run.history))
            self.telling(int(done), with_nan(history, int(done)))

    def fail(self, error: Exception) -> None:
        """End the run with an error."""
        self.result = Result(None, None, {}, -1, "error", traceback_of(error), tuple(self.spans))
        self.run, self.error = None, error
        self.store.fail(self, self.result)

    def standing(self) -> Result:
        """The result, which for a run that goes on is the one it would have now, without parameters."""
        if self.result is not None:
            return self.result
        if self.run is None and self.last is not None:
            return self.last
        if self.run is None and self.past.ended is not None:  # whose file may have been let go of
            return self.past.ended
        run = self.begun()
        assert run is not None
        epochs, stopped, bad_step, history, best = on_host(
            (run.epoch, run.stopped, run.bad_step, run.history, run.decisions.best_epoch)
        )
        end = best if self.setup.restores and best >= 0 else epochs - 1
        diverged = bad_step >= 0 and self.setup.options["on_nonfinite"] == "raise"
        ended = "diverged" if diverged else "stopped" if stopped else "finished"
        history = with_nan(history, int(epochs))
        history = {name: history[name] for name in ordered(history)}
        return Result(None, None, history, int(end), ended)

    def value_at(self, epoch: int, metric: str) -> float:
        """The value of a metric that the row had after an epoch, whatever it has done since.

        It is that of the last evaluation, or of the epoch that early stopping would restore; NaN if the
        run had diverged, or the metric was NaN.
        """
        now = self.past.ended if self.run is None and self.result is None else None
        now = self.standing() if now is None else now
        if now.ended == "error" or (now.ended == "diverged" and now.epochs <= epoch):
            return float("nan")
        history = {name: values[:epoch] for name, values in now.history.items()}
        end = self._best_epoch(history) if self.setup.restores else -1
        if end < 0:
            end = min(now.epochs, epoch) - 1
            every = self.setup.options["validate_every"]
            if metric.startswith("val_") and end + 1 < self.setup.epochs and now.ended != "stopped":
                end = (end + 1) // every * every - 1  # the last epoch that was evaluated
        values = history[metric]
        return float(values[end]) if 0 <= end < len(values) else float("nan")

    def _best_epoch(self, history: Mapping[str, np.ndarray]) -> int:
        """The epoch that early stopping would have restored at the end of this history, or −1."""
        early: Any = self.setup.options["early_stopping"]
        name, sign = monitors.resolve(early, scalars(history))
        dtype = np.dtype(jnp.result_type(float))
        best, best_epoch = dtype.type(sign * np.finfo(dtype).max), -1
        for epoch, value in enumerate(history[name].astype(dtype)):
            if sign * (best - value) > dtype.type(early.min_delta):
                best, best_epoch = value, epoch
            elif early.ties == "last" and value == best:
                best_epoch = epoch
        return best_epoch


class Group(NamedTuple):
    """Rows that differ only in floats, keys and which of the data they are trained on.

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


def traceback_of(error: Exception) -> str:
    """The traceback as text, with notes before it, so that its last line is the error's own."""
    told = traceback.TracebackException.from_exception(error)
    notes = [f"{note}\n" for note in getattr(error, "__notes__", ())]
    told.__notes__ = None
    return "".join([*notes, *told.format()])


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
