"""`fit`: a whole run, with checks, progress and history."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdeep import _checks
from jaxdeep.metrics import Metric
from jaxdeep.train.checkpoint import describe, opened
from jaxdeep.train.compiled import compiled
from jaxdeep.train.data import count_examples
from jaxdeep.train.epoch import check_batch_size
from jaxdeep.train.objective import Objective, PerExample, check_pair, rehearse, supervised
from jaxdeep.train.progress import compiling, ordered, reporting
from jaxdeep.train.run import RunState, make_program
from jaxdeep.train.state import TrainState, init, resume
from jaxdeep.train.step import check_optimizer
from jaxdeep.train.stopping import EarlyStopping, Plateau
from jaxdeep.tree import path_name

PyTree = Any


class Epochs(NamedTuple):
    """What a callback of `fit` is given after a segment.

    Attributes:
      epoch: epochs done.
      history: values so far, as `FitResult.history`.
      train_state: as it is; the next segment overwrites its arrays, so copy what is to stay.
    """

    epoch: int
    history: dict[str, np.ndarray]
    train_state: TrainState


Callback = Callable[[Epochs], Any]


class FitResult(NamedTuple):
    """What a run leaves behind.

    Attributes:
      train_state: the whole state, to go on from.
      history: ``"loss"``, each metric, ``"val_loss"`` and each validation metric as NumPy arrays, one
        value an epoch; ``learning_rate`` and ``momentum`` are those in force at its end.
      best_epoch: with early stopping, the index of the best epoch in the history, −1 if there was none.
    """

    train_state: TrainState
    history: dict[str, np.ndarray]
    best_epoch: int | None = None

    @property
    def params(self) -> PyTree:
        """The trained parameters."""
        return self.train_state.params

    @property
    def state(self) -> PyTree:
        """The model's state: batch-norm statistics."""
        return self.train_state.state


def fit(
    model: Any,
    data: PyTree,
    *,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    loss: PerExample | None = None,
    metrics: Mapping[str, PerExample | Metric] | None = None,
    penalty: Callable[[PyTree], Any] | None = None,
    activity: Callable[[Mapping[str, Any]], Any] | None = None,
    objective: Objective | None = None,
    epochs: int = 1,
    batch_size: int = 32,
    validation: PyTree | None = None,
    params: PyTree | None = None,
    state: PyTree | None = None,
    shuffle: bool = True,
    drop_remainder: bool = False,
    accumulate: int = 1,
    early_stopping: EarlyStopping | None = None,
    plateau: Plateau | None = None,
    validate_every: int = 1,
    segment: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    keep_checkpoints: int = 3,
    callbacks: Sequence[Callback] = (),
    on_nonfinite: str = "raise",
    progress: bool = True,
) -> FitResult:
    """Train `model` on `data`: epochs are run in segments by one compiled program.

    The same key gives the same result, bit for bit, on the same machine and whatever the segments. It
    is ``jd.train.init(…, key=key)`` followed by what `jd.train.make_run` does.

    Args:
      model: a `jaxdeep.nn.Model`.
      data: arrays with a row per example: ``(x, y)`` or ``(x, y, weights)`` with `loss`, any pytree with
        `objective`. NumPy arrays are moved to the device once.
      optimizer: any optax transformation, jaxdeep's included.
      key: random key of initialisation, shuffling and dropout; there is no default.
      loss: ``(outputs, y) -> losses`` per example, as in `jaxdeep.losses`.
      metrics: further functions of that form, or streaming metrics (`jaxdeep.metrics.Metric`), by name.
      penalty: ``params -> scalar``, added to the loss (`jaxdeep.regularizers`).
      activity: ``outputs of layers by path -> scalar``, likewise (`jaxdeep.regularizers.activity`).
      objective: instead of these four, for anything that is not supervised; see
        `jaxdeep.train.supervised` for its form. The model is initialised on the first array of
        `data`; pass `params` where that is not its input.
      epochs: passes over the data.
      batch_size: rows of a batch; the last batch of an epoch holds what is left.
      validation: data as above, evaluated whole after every epoch.
      params, state: where to begin; freshly initialised by default. They are copied, not consumed.
      shuffle: draw a new order every epoch.
      drop_remainder: leave out the rows that do not fill a batch.
      accumulate: micro-batches a step (`jaxdeep.train.make_step`).
      early_stopping: a `jaxdeep.train.EarlyStopping`: when to stop, and whether to end with the
        parameters of the best epoch.
      plateau: a `jaxdeep.train.Plateau`: when to lower the learning rate.
      validate_every: epochs from one evaluation to the next; NaN in the history in between.
      segment: epochs a dispatch: the host looks at the run, reports and calls back after each segment.
      checkpoint: a directory; the whole run is saved there after each segment, and a run that is found
        there is continued, to the same bits as without the interruption. `epochs` may have grown.
      keep_checkpoints: how many of the newest stay; with early stopping, the best stays too.
      callbacks: functions of an `Epochs` called after each segment; one that returns True ends the run.
      on_nonfinite: "raise" stops at the end of an epoch in which the loss was not finite; "ignore"
        goes on.
      progress: a progress bar, or a line a segment where there is no terminal; False is silent.

    Returns:
      A `FitResult`: ``result.params``, ``result.state``, ``result.history["val_accuracy"]``.

    Raises:
      ValueError, TypeError: before anything is compiled: arrays of different lengths, an empty data
        set, a batch larger than the data, labels outside the model's classes, shapes the model or the
        loss refuses, neither or both of `loss` and `objective`, a key that is not a random key; a
        checkpoint directory with another run in it, and what differs.
      FloatingPointError: the loss was not finite, naming step, epoch and the first non-finite leaf; or
        every loss was and the final parameters are not.

    >>> import jaxdeep as jd
    >>> x = jax.random.normal(jax.random.key(1), (200, 2)); y = (x[:, 0] > x[:, 1]).astype(int)
    >>> result = fit(jd.nn.dense(2), (x, y), loss=jd.losses.softmax_cross_entropy,
    ...              optimizer=jd.optimizers.adam(0.1), metrics={"accuracy": jd.metrics.accuracy},
    ...              epochs=20, key=jax.random.key(0), progress=False)
    >>> bool(result.history["accuracy"][-1] > 0.95)
    True
    """
    n = _check(model, data, validation, optimizer, key, epochs, batch_size, on_nonfinite)
    _check_driving(segment, keep_checkpoints, callbacks)
    if objective is None:
        if loss is None:
            raise ValueError("fit needs a loss=, or an objective= for anything not supervised")
        objective = supervised(model, loss, metrics=metrics, penalty=penalty, activity=activity)
    elif any(given is not None for given in (loss, metrics, penalty, activity)):
        raise ValueError(
            "objective= already says what is minimised: drop loss, metrics and penalty (and activity)"
        )

    pairs = loss is not None
    if pairs:
        check_pair(data, "data")
    if params is None:
        if state is not None:
            raise ValueError("state= is given without the params= it belongs to")
        inputs = data[0] if pairs else jax.tree.leaves(data)[0]
        ts = init(model, optimizer, jax.tree.map(lambda a: a[:1], inputs), key=key)
    else:
        ts = resume(optimizer, params, {} if state is None else state, key)
    if pairs:
        rehearse(objective, ts, data, "data")
        if validation is not None:
            check_pair(validation, "validation")
            rehearse(objective, ts, validation, "validation")

    data, validation = jax.tree.map(jnp.asarray, (data, validation))
    arguments: dict[str, Any] = {
        "batch_size": batch_size,
        "shuffle": shuffle,
        "drop_remainder": drop_remainder,
        "accumulate": accumulate,
        "early_stopping": early_stopping,
        "plateau": plateau,
        "validate_every": validate_every,
        "on_nonfinite": "stop" if on_nonfinite == "raise" else on_nonfinite,
    }
    program = make_program(objective, optimizer, epochs=epochs, **arguments)
    run = jax.jit(program.start)(ts, data, validation)
    minimised = {"objective": objective, "loss": loss, "penalty": penalty, "activity": activity}
    about = functools.partial(describe, model, run, data, validation, minimised | arguments)
    steps = n // batch_size if drop_remainder else -(-n // batch_size)
    with opened(checkpoint, about, keep=keep_checkpoints, watched=early_stopping) as store:
        run = store.restore(run, epochs) or run
        with compiling(show=progress):
            go_on = compiled(program.segment, run, data, validation, np.int32(0), donate_argnums=0)
        done, stopped, _, history = _look(run)
        with reporting(epochs, steps, show=progress, begun=done) as report:
            while done < epochs and not stopped:
                run = go_on(run, data, validation, np.int32(done + segment))
                done, stopped, bad_step, history = _look(run)
                if bad_step >= 0 and on_nonfinite == "raise":
                    raise FloatingPointError(_nonfinite(run.train_state, bad_step, done))
                last = {name: values[-1] for name, values in history.items()}
                store.save(run, last)
                report(done, last)
                now = Epochs(done, history, run.train_state)
                for callback in callbacks:
                    stopped |= callback(now) is True
    ts, _ = (jax.jit(program.finish) if early_stopping else program.finish)(run)
    if on_nonfinite == "raise":
        _check_finite(ts)
    return FitResult(ts, history, int(run.decisions.best_epoch) if early_stopping else None)


def _look(run: RunState) -> tuple[int, bool, int, dict[str, np.ndarray]]:
    """Epochs done, whether the run has stopped, the first bad step and the history, on the host."""
    done, stopped, bad_step, history = jax.device_get(
        (run.epoch, run.stopped, run.bad_step, run.history)
    )
    done = int(done)
    return (
        done,
        bool(stopped),
        int(bad_step),
        {name: history[name][:done] for name in ordered(history)},
    )


def _check(
    model: Any,
    data: PyTree,
    validation: PyTree,
    optimizer: Any,
    key: Any,
    epochs: Any,
    batch_size: Any,
    on_nonfinite: Any,
) -> int:
    if not (callable(getattr(model, "init", None)) and callable(getattr(model, "apply", None))):
        raise TypeError(f"model must be a jaxdeep.nn.Model, got {model!r}")
    check_optimizer(optimizer)
    _checks.check_key(key)
    _checks.check_count("epochs", epochs)
    _checks.check_count("batch_size", batch_size)
    if on_nonfinite not in ("raise", "ignore"):
        raise ValueError(f"on_nonfinite must be 'raise' or 'ignore', got {on_nonfinite!r}")
    n = count_examples(data)
    check_batch_size(batch_size, n)
    if validation is not None:
        count_examples(validation, "validation")
    return n


def _check_driving(segment: Any, keep_checkpoints: Any, callbacks: Any) -> None:
    _checks.check_count("segment", segment)
    _checks.check_count("keep_checkpoints", keep_checkpoints)
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"callbacks must be a list of functions, got {callbacks!r}")
    for callback in callbacks:
        _checks.check_functions(optional=False, callbacks=callback)


def _check_finite(ts: TrainState) -> None:
    if leaf := _first_nonfinite(ts):
        raise FloatingPointError(
            f"the last updates left {leaf} not finite, though every loss was; a gradient must not have "
            "been: check the loss, or clip the gradients; on_nonfinite='ignore' returns the result all "
            "the same"
        )


def _first_nonfinite(ts: TrainState, *, optimizer: bool = False) -> str | None:
    trees = {"opt_state": ts.opt_state} if optimizer else {"params": ts.params, "state": ts.state}
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not bool(jnp.isfinite(leaf).all()):
            return path_name(path)
    return None


def _nonfinite(ts: TrainState, step: int, epoch: int) -> str:
    first = _first_nonfinite(ts) or _first_nonfinite(ts, optimizer=True)
    leaf = f"the first non-finite leaf is {first}" if first else "parameters and state are finite"
    return (
        f"the loss was not finite at step {step} (epoch {epoch}); at the end of that epoch {leaf}. "
        "Lower the learning rate, clip the gradients or check the data; "
        "on_nonfinite='ignore' goes on regardless"
    )
