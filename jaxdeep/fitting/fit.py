"""`fit`: a whole run, with checks, progress and history."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxdeep import _checks
from jaxdeep._compilation import compiled, run_once
from jaxdeep.diagnostics.layer_flow import is_flow, make_measure
from jaxdeep.fitting.checkpoint import describe, opened
from jaxdeep.fitting.drive import driver
from jaxdeep.fitting.finite import check_finite, described
from jaxdeep.fitting.phases import Phase, in_phases
from jaxdeep.fitting.placement import check_same_everywhere, placed, usable
from jaxdeep.fitting.progress import compiling, ordered, reporting
from jaxdeep.fitting.sources import ArraySource, LoaderSource, source_of
from jaxdeep.metrics import Metric
from jaxdeep.train.epoch import check_batch_size
from jaxdeep.train.monitors import EarlyStopping, ReduceOnPlateau
from jaxdeep.train.objective import (
    Objective,
    PerExample,
    check_minimised,
    check_pair,
    has_convolution,
    plan,
    rehearse,
    supervised,
)
from jaxdeep.train.run import RunState, make_program
from jaxdeep.train.state import TrainState, init, only, resume
from jaxdeep.train.step import Augment, Measure, check_optimizer
from jaxdeep.tree import Where

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
    class_weight: Mapping[int, float] | Any = None,
    objective: Objective | None = None,
    epochs: int = 1,
    batch_size: int = 32,
    validation: PyTree | None = None,
    params: PyTree | None = None,
    state: PyTree | None = None,
    shuffle: bool = True,
    drop_remainder: bool = False,
    accumulation_steps: int = 1,
    augment: Augment | None = None,
    ema: bool = False,
    trainable: Where | None = None,
    freeze_batch_norm: bool = True,
    phases: Sequence[Phase] | None = None,
    diagnostics: int | None = None,
    early_stopping: EarlyStopping | None = None,
    plateau: ReduceOnPlateau | None = None,
    validate_every: int = 1,
    steps_per_epoch: int | None = None,
    stream: bool | None = None,
    block_bytes: int = 2**26,
    mesh: jax.sharding.Mesh | None = None,
    shard: Where | None = None,
    epochs_per_call: int = 1,
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
        `objective`. NumPy arrays are moved to the device once; memory maps are streamed. Or batches of
        that form: something to iterate over once an epoch (a Grain or PyTorch loader), a function from
        the epoch, 0, 1, …, to it, or with `steps_per_epoch` an iterator that goes on; `batch_size`,
        `shuffle` and `drop_remainder` are theirs then.
      optimizer: any optax transformation, jaxdeep's included.
      key: random key of initialisation, shuffling and dropout; there is no default.
      loss: ``(outputs, y) -> losses`` per example, as in `jaxdeep.losses`.
      metrics: further functions of that form, or streaming metrics (`jaxdeep.metrics.Metric`), by name.
      penalty: ``params -> scalar``, added to the loss (`jaxdeep.regularizers`).
      activity: ``outputs of layers by path -> scalar``, likewise (`jaxdeep.regularizers.activity`).
      class_weight: a weight for each class in training, as in `jaxdeep.train.supervised`.
      objective: instead of these five, for anything that is not supervised: a function of the form
        that `jaxdeep.train.supervised` returns. The model is initialised on the first array of `data`;
        pass `params` where that is not its input.
      epochs: passes over the data.
      batch_size: rows of a batch; the last batch of an epoch holds what is left.
      validation: data as above, evaluated whole after every epoch.
      params, state: where to begin; freshly initialised by default. They are copied, not consumed.
      shuffle: draw a new order every epoch.
      drop_remainder: leave out the rows that do not fill a batch.
      accumulation_steps: micro-batches a step (`jaxdeep.train.make_step`).
      augment: ``(key, batch) -> batch`` for every training batch, compiled into the step.
      ema: evaluate, keep and end with the average that `jaxdeep.optimizers.ema_params` in the
        optimizer's chain makes of the parameters.
      trainable: the parameters that are trained, ``"logits/*"`` (`jaxdeep.tree.mask`); all by default.
        The others have no gradient, no share of a clipped norm and nothing in the optimizer's state.
      freeze_batch_norm: batch norms whose parameters are not trained normalise by their running
        statistics and keep them, as Keras' do; False lets them follow the data. An `objective` decides
        that itself.
      phases: instead of `epochs` and `trainable`, a list of `jaxdeep.train.Phase`, ``(epochs, trainable,
        learning_rate)``, run one after another: the head first, then more at a lower rate. Each has a
        fresh optimizer, early stopping and a plateau of its own; `optimizer` may be a function from the
        rate to it. The history is that of all.
      diagnostics: measure how gradients, updates and activations go through the layers at every so
        many steps, the first included: the history holds their means over an epoch's measured steps,
        ``gradient_norm/hidden1``, ``update_ratio/hidden1``, ``output_gradient/…``, ``activation_std/…``,
        ``saturation/…``, ``dead/…`` and so on (`jaxdeep.diagnostics.LayerFlow`), one value for each
        repetition of a repeated layer. A measured step costs twice as much, the others nothing.
      early_stopping: a `jaxdeep.train.EarlyStopping`: when to stop, and whether to end with the
        parameters of the best epoch.
      plateau: a `jaxdeep.train.ReduceOnPlateau`: when to lower the learning rate.
      validate_every: epochs from one evaluation to the next; NaN in the history in between.
      steps_per_epoch: batches that an epoch takes of an iterable.
      stream: whether arrays stay on the host, and rows go to the device in blocks, one being read while
        another is computed; the same batches as from the device. By default memory maps do, and what
        does not fit into an accelerator's memory.
      block_bytes: size of a block; two are held at most.
      mesh: devices to compute on, ``jax.make_mesh((8,), ("data",))``: every batch is split over its
        ``data`` axis, parameters are copied, and the numbers are those of one device, to rounding. In
        several processes (`jax.distributed`), arrays must be the same in all of them, and each reads its
        part; batches that are iterated over are each process's own share of them.
      shard: parameters to split over the mesh's ``model`` axis, with what the optimizer keeps for them
        (`jaxdeep.tree.mask`): each along its longest axis that the devices divide.
      epochs_per_call: epochs that one call of the compiled program runs. The host looks at the run,
        saves a checkpoint, reports and calls back after each call.
      checkpoint: a directory; the whole run is saved there after each segment, and a run that is found
        there is continued, to the same bits as without the interruption. `epochs` may have grown.
        Iterators are put back by their ``get_state``, or read again up to where they were.
      keep_checkpoints: how many of the newest stay; with early stopping, the best stays too.
      callbacks: functions of an `Epochs` called after each segment; one that returns True ends the run.
      on_nonfinite: "raise" stops at the end of an epoch in which the loss was not finite; "skip" undoes
        such steps, and counts them as "skipped" in the history (`jaxdeep.optimizers.skip_nonfinite`
        does so for gradients, in any loop); "ignore" goes on.
      progress: a progress bar, or a line a segment where there is no terminal; False is silent.

    Returns:
      A `FitResult`: ``result.params``, ``result.state``, ``result.history["val_accuracy"]``.

    Convolutions run slowly inside a compiled loop on a CPU, so that there the host dispatches step after
    step, with the same numbers to rounding.

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
    if phases is not None:
        given = dict(locals())
        return in_phases(fit, given.pop("phases"), given)
    _check(model, optimizer, key, epochs, batch_size, on_nonfinite)
    _check_driving(epochs_per_call, keep_checkpoints, callbacks, stream, block_bytes)
    minimised: dict[str, Any] = {
        "loss": loss,
        "metrics": metrics,
        "penalty": penalty,
        "activity": activity,
        "class_weight": class_weight,
    }
    frozen = {"trainable": trainable} if freeze_batch_norm and trainable is not None else {}
    pairs = objective is None
    objective = _objective(model, objective, minimised, frozen)
    measure = _measure(model, pairs, {**minimised, **frozen}, diagnostics, accumulation_steps)
    sources = _sources(
        data,
        validation,
        {"batch_size": batch_size, "block_bytes": block_bytes},
        {"shuffle": shuffle, "drop_remainder": drop_remainder, "steps_per_epoch": steps_per_epoch},
        pairs=pairs,
    )
    training = sources[0]
    if isinstance(training, ArraySource):
        check_batch_size(batch_size, training.examples)
    mesh = usable(mesh, shard, training.example)
    for source in sources:
        if mesh is not None and isinstance(source, ArraySource):
            check_same_everywhere(source.data, source.name)
    ts = _beginning(model, optimizer, training.like, params, state, key, pairs, trainable)
    jaxprs = [rehearse(objective, ts, source.sample, source.name) for source in sources if pairs]
    jaxprs = jaxprs or [plan(objective, ts, training.like)]
    arguments: dict[str, Any] = {
        "batch_size": batch_size,
        "shuffle": shuffle,
        "drop_remainder": drop_remainder,
        "accumulation_steps": accumulation_steps,
        "augment": augment,
        "ema": ema,
        "early_stopping": early_stopping,
        "plateau": plateau,
        "validate_every": validate_every,
        "on_nonfinite": "stop" if on_nonfinite == "raise" else on_nonfinite,
        "trainable": trainable,
    }
    program = make_program(objective, optimizer, epochs=epochs, mesh=mesh, measure=measure, **arguments)
    likes = [source.like for source in sources]
    # ts becomes a part of the run, not a second copy of it
    run = compiled(lambda ts: program.start(ts, *likes), ts, donate_argnums=0, once=True)(ts)
    placement = placed(mesh, run, ts.params, shard)
    what = {"objective": objective, **minimised, **arguments, "freeze_batch_norm": freeze_batch_norm}
    what |= {} if diagnostics is None else {"diagnostics": diagnostics}
    about = None if checkpoint is None else describe(model, run, likes, what)
    with opened(checkpoint, about, keep=keep_checkpoints, watched=early_stopping) as store:
        run, position = store.restore(run, epochs)
        run = placement.put(run)
        training.go_to(position)
        with compiling(show=progress):
            drive = driver(
                program,
                run,
                sources,
                placement,
                epochs=epochs,
                every=validate_every,
                stream=stream,
                looped=not (jax.default_backend() == "cpu" and any(map(has_convolution, jaxprs))),
            )
        done, stopped, _, history = _look(run)
        with reporting(epochs, training.steps, show=progress, begun=done) as report:
            while done < epochs and not stopped:
                run = drive(run, done + epochs_per_call)
                done, stopped, bad_step, history = _look(run)
                if bad_step >= 0 and on_nonfinite == "raise":
                    raise FloatingPointError(described(run.train_state, bad_step, done))
                last = {name: values[-1] for name, values in history.items()}
                store.save(run, last, training.position())
                report(done, {name: value for name, value in last.items() if not is_flow(name)})
                now = Epochs(done, history, run.train_state)
                for callback in callbacks:
                    stopped |= callback(now) is True
    ts, _ = run_once(program.finish, run) if early_stopping or ema else program.finish(run)
    if on_nonfinite == "raise":
        check_finite(ts)
    return FitResult(ts, history, int(run.decisions.best_epoch) if early_stopping else None)


def _sources(
    data: PyTree,
    validation: PyTree,
    reading: Mapping[str, Any],
    order: Mapping[str, Any],
    *,
    pairs: bool,
) -> list[ArraySource | LoaderSource]:
    """The data, and the validation data if there are any."""
    found = [source_of(data, "data", **reading, **order)]
    if validation is not None:
        found.append(source_of(validation, "validation", **reading))
    for source in found if pairs else ():
        check_pair(source.sample, source.name)
    return found


def _objective(
    model: Any,
    objective: Objective | None,
    minimised: Mapping[str, Any],
    frozen: Mapping[str, Any],
) -> Objective:
    """What is minimised: an objective, or what makes a supervised one."""
    check_minimised("fit", objective, minimised)
    return supervised(model, **minimised, **frozen) if objective is None else objective


def _measure(
    model: Any, pairs: bool, minimised: Mapping[str, Any], every: Any, accumulation_steps: int
) -> Measure | None:
    """What measures the layers at every so many steps, if they are to be."""
    if every is None:
        return None
    if not pairs:
        raise ValueError(
            "diagnostics= needs a loss=: with an objective= of your own it is not known where the model "
            "is applied; jaxdeep.diagnostics.gradient_flow takes an objective"
        )
    return make_measure(model, minimised, every=every, accumulation_steps=accumulation_steps)


def _beginning(
    model: Any,
    optimizer: Any,
    like: PyTree,
    params: PyTree,
    state: PyTree,
    key: Any,
    pairs: bool,
    trainable: Where | None,
) -> TrainState:
    """The first train state, for data of these shapes."""
    if params is not None:
        return resume(only(optimizer, trainable), params, {} if state is None else state, key)
    if state is not None:
        raise ValueError("state= is given without the params= it belongs to")
    inputs = like[0] if pairs else jax.tree.leaves(like)[0]
    one = jax.tree.map(lambda s: jax.ShapeDtypeStruct((1, *s.shape[1:]), s.dtype), inputs)
    return init(model, optimizer, one, key=key, trainable=trainable)


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
    model: Any, optimizer: Any, key: Any, epochs: Any, batch_size: Any, on_nonfinite: Any
) -> None:
    if not (callable(getattr(model, "init", None)) and callable(getattr(model, "apply", None))):
        raise TypeError(f"model must be a jaxdeep.nn.Model, got {model!r}")
    check_optimizer(optimizer)
    _checks.check_key(key)
    _checks.check_count("epochs", epochs)
    _checks.check_count("batch_size", batch_size)
    if on_nonfinite not in ("raise", "skip", "ignore"):
        raise ValueError(f"on_nonfinite must be 'raise', 'skip' or 'ignore', got {on_nonfinite!r}")


def _check_driving(
    epochs_per_call: Any, keep_checkpoints: Any, callbacks: Any, stream: Any, block_bytes: Any
) -> None:
    _checks.check_count("epochs_per_call", epochs_per_call)
    _checks.check_count("keep_checkpoints", keep_checkpoints)
    _checks.check_count("block_bytes", block_bytes)
    if stream is not None:
        _checks.check_flag("stream", stream)
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"callbacks must be a list of functions, got {callbacks!r}")
    for callback in callbacks:
        _checks.check_functions(optional=False, callbacks=callback)
