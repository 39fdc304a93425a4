"""A whole run as a pure function: epochs, evaluation, early stopping, the best parameters, history."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, Unpack

import jax
import jax.numpy as jnp
import optax

from jaxdeep import _loops
from jaxdeep._shapes import Array, ArrayLike, Bool, Float, Integer, PyTree
from jaxdeep.optimizers.hyperparameters import recorded
from jaxdeep.train import monitors, rewinding
from jaxdeep.train.batches import Advance, Metrics, Totals, averages, values_of
from jaxdeep.train.columns import check_told_apart_by_column
from jaxdeep.train.data import as_arrays
from jaxdeep.train.epoch import evaluation_of, make_evaluate, one_pass
from jaxdeep.train.evaluated import evaluated_of, first_state, following, joined, parted
from jaxdeep.train.missing import missing
from jaxdeep.train.monitors import (
    Decisions,
    Due,
    EarlyStopping,
    Limits,
    ReduceOnPlateau,
    choose,
    limits_of,
)
from jaxdeep.train.objective import Objective
from jaxdeep.train.options import RunOptions, filled, takes
from jaxdeep.train.reported import apart
from jaxdeep.train.sharding import split
from jaxdeep.train.state import TrainState
from jaxdeep.train.step import Measure, Step, measured_step

History = dict[str, Float[Array, "epochs ..."]]


class RunState(NamedTuple):
    """A run between two epochs, a pytree that holds all it takes to go on bit for bit.

    Attributes:
      train_state: the state after the last step.
      epoch: epochs done.
      stopped: whether it has ended before its last epoch.
      bad_step: the first step with a non-finite loss, or −1.
      decisions: what early stopping and the plateau have recorded.
      history: values of each metric, with room for at least the epochs of the run; `missing` for epochs
        not run.
      averaged: where the parameters that are evaluated are not those that are trained
        (`jaxdeep.train.evaluated`), the model's state that belongs to them; else ().
    """

    train_state: TrainState
    epoch: Integer[Array, ""]
    stopped: Bool[Array, ""]
    bad_step: Integer[Array, ""]
    decisions: Decisions
    history: History
    averaged: PyTree = ()


class Program(NamedTuple):
    """The parts of a run as pure functions, to be driven in segments of epochs or batch by batch.

    Attributes:
      start: ``(ts, data, validation, limits) -> run``, the run before its first epoch. Of the data only
        shapes matter.
      segment: ``(run, data, validation, until, limits) -> run``, after the epochs up to `until`. This is
        an array, as the limits are, so that one compiled program serves every length.
      finish: ``run -> (ts, history)``.
      step: ``(ts, batch) -> (ts, metrics)``, of a train state that `opened` has made.
      opened: ``run -> ts``, the train state for the steps of an epoch.
      closed: ``(run, ts) -> run``, the run with the train state that steps have left.
      evaluation: ``run -> step`` that evaluates a batch.
      whole: ``(run, data, validation, limits) -> run``, all epochs that the history has room for, in a
        loop of fixed length that can be differentiated in reverse mode.
      close: ``(run, totals, evaluated, limits) -> run``, the end of an epoch whose steps have left
        `run.train_state`. `totals` are those of its batches, `evaluated` are the validation metrics.
      skip: whether batches whose loss is not finite do not count.
    """

    start: Callable[..., RunState]
    segment: Callable[..., RunState]
    whole: Callable[..., RunState]
    finish: Callable[[RunState], tuple[TrainState, History]]
    step: Step
    opened: Callable[[RunState], TrainState]
    closed: Callable[[RunState, TrainState], RunState]
    evaluation: Callable[[RunState], Advance[tuple[()]]]
    close: Callable[[RunState, Totals, Metrics, Limits], RunState]
    skip: bool


@takes(RunOptions)
def make_run(
    objective: Objective, optimizer: optax.GradientTransformation, **options: Unpack[RunOptions]
) -> Callable[..., tuple[TrainState, History]]:
    """A whole run: ``run(ts, data, validation=None) -> (ts, history)``, pure.

    One `jax.jit` compiles it, and `jax.vmap` runs it for many train states side by side, where a run
    that has stopped keeps its state while the others go on. Its epochs are those of `jaxdeep.fit`, which
    drives them from the host.

    Args:
      objective: the objective that `jaxdeep.train.supervised` makes, or any function of the same form.
      optimizer: any optax transformation.
      {options}

    Returns:
      A function ``(ts, data, validation=None) -> (ts, history)``. The train state has the parameters and
      the state of the model to use, which `jaxdeep.fit` has as ``result.params`` and ``result.state``;
      where these are not what was trained, no further step is taken from it. The history holds
      ``(epochs,)`` arrays by name: "loss", every metric, their "val_…" forms, and the ``learning_rate``,
      the ``momentum`` and every hyperparameter that a schedule drives, as in force at the end of the
      epoch. Epochs that were not run are NaN.

    Without early stopping a run has a fixed number of epochs and is differentiated in reverse mode too:
    `jax.grad` of its last validation loss with respect to a learning rate or the strength of a penalty.
    Of each epoch, and within one of each step, only where it began is kept; the rest is computed again.

    Raises:
      ValueError, TypeError: an argument out of range, an unknown metric to monitor; a derivative in
        reverse mode with early stopping.

    Source: `jax.lax.scan` over `make_epoch`, `jax.lax.while_loop` with early stopping.

    >>> import jaxdeep as jd
    >>> model, optimizer = jd.nn.dense(1), jd.optimizers.sgd(0.1)
    >>> objective = jd.train.supervised(model, jd.losses.mse)
    >>> x = jnp.linspace(-1, 1, 64)[:, None]
    >>> run = jax.jit(make_run(objective, optimizer, epochs=3, batch_size=16))
    >>> ts, history = run(jd.train.init(model, optimizer, x[:1], key=jax.random.key(0)), (x, 3 * x))
    >>> int(ts.step), history["loss"].shape, bool(history["loss"][2] < history["loss"][0])
    (12, (3,), True)
    """
    chosen: RunOptions = filled("make_run", RunOptions, options)
    program = make_program(objective, optimizer, chosen, differentiable=True)
    limits = limits_of(chosen["epochs"], chosen["early_stopping"], chosen["plateau"])

    def run(ts: TrainState, data: PyTree, validation: PyTree = None) -> tuple[TrainState, History]:
        data, validation = as_arrays(data), as_arrays(validation, "validation")
        check_told_apart_by_column(data)
        state = program.start(ts, data, validation, limits)
        if chosen["early_stopping"] is None:
            return program.finish(program.whole(state, data, validation, limits))
        ended = program.finish(program.segment(state, data, validation, limits.epochs, limits))
        return _without_reverse(
            ended,
            "a run with early_stopping has no fixed number of epochs, so that there is no gradient "
            "through it in reverse mode (jax.grad); leave early_stopping out, or use jax.jvp",
        )

    return run


def make_program(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    options: RunOptions,
    *,
    measure: Measure | None = None,
    mesh: jax.sharding.Mesh | None = None,
    room: int | None = None,
    differentiable: bool = False,
) -> Program:
    """The parts of a run.

    Args:
      objective, optimizer: as for `make_run`.
      options: every option of a run, as `filled` returns them.
      measure: makes further metrics of a step.
      mesh: devices that every batch is split over.
      room: epochs that the history has room for; those of the run by default.
      differentiable: whether a step is computed again on the way back, so that the memory of a gradient
        through the run does not grow with what a step computes.
    """
    ema, validate_every = options["ema"], options["validate_every"]
    early_stopping, plateau = options["early_stopping"], options["plateau"]
    trainable, batch_size, room = options["trainable"], options["batch_size"], room or options["epochs"]
    skip, stops = options["on_nonfinite"] == "skip", options["on_nonfinite"] in ("raise", "stop")
    step = _step_of(objective, optimizer, options, measure, mesh)
    step = jax.checkpoint(step) if differentiable else step
    objective = _split_objective(objective, mesh)
    pass_over = one_pass(
        step, batch_size, options["shuffle"], options["drop_remainder"], skip=skip, mesh=mesh
    )
    evaluate = make_evaluate(objective, batch_size=batch_size)

    opened, closed = functools.partial(_opened, ema), functools.partial(_closed, ema)

    def evaluated_model(ts: TrainState) -> tuple[PyTree, PyTree]:
        """The parameters and state that are evaluated, kept as the best and returned."""
        return evaluated_of(ts, ema, trainable)

    def evaluation(run: RunState) -> Advance[tuple[()]]:
        return evaluation_of(objective, *evaluated_model(opened(run)))

    def is_due(epoch: Integer[Array, ""], limits: Limits) -> Bool[Array, ""]:
        return ((epoch + 1) % validate_every == 0) | (epoch + 1 >= limits.epochs)

    def report(ts: TrainState, totals: Totals, evaluated: Metrics, due: Due) -> Metrics:
        """The values that the history holds of an epoch."""
        if validate_every > 1:
            evaluated = jax.tree.map(lambda v: jnp.where(due, v, missing(v.dtype)), evaluated)
        skipped = {"skipped": totals.skipped} if skip else {}
        values = apart("the number of skipped steps", skipped, values_of(averages(totals)))
        return apart("a hyperparameter of the optimizer", recorded(ts.opt_state), values) | {
            f"val_{name}": value for name, value in evaluated.items()
        }

    @jax.jit  # traced once, for the shapes and for the loop
    def one_epoch(
        ts: TrainState, epoch: Integer[Array, ""], data: PyTree, validation: PyTree, limits: Limits
    ) -> tuple[TrainState, Metrics, Integer[Array, ""]]:
        """The train state after an epoch, the values it reports, and its first bad step."""
        ts, totals = pass_over(ts, data)
        due = True if validate_every == 1 else is_due(epoch, limits)
        evaluated = (
            {} if validation is None else _where_due(due, evaluate, *evaluated_model(ts), validation)
        )
        return ts, report(ts, totals, evaluated, due), _first_bad(ts, totals)

    def start(ts: TrainState, data: PyTree, validation: PyTree, limits: Limits) -> RunState:
        zero = jnp.zeros((), jnp.int32)
        run = RunState(ts, zero, jnp.zeros((), bool), zero - 1, Decisions(), {})
        run = run._replace(averaged=first_state(ts, ema))
        after, values, _ = jax.eval_shape(one_epoch, opened(run), zero, data, validation, limits)
        history = {
            name: jnp.full((room, *v.shape), missing(v.dtype), jnp.promote_types(v.dtype, jnp.float32))
            for name, v in values.items()
        }
        decisions = rewinding.first(
            monitors.first_decisions(
                early_stopping, plateau, limits, evaluated_model(opened(run)), values
            ),
            *(ts.opt_state, (early_stopping, plateau), values, validate_every),
        )
        # traced so that an optimizer whose rate cannot be lowered is refused before the run
        jax.eval_shape(
            lambda *args: monitors.lower(plateau, limits, *args),
            *(decisions, after.opt_state, values, True),
        )
        return run._replace(decisions=decisions, history=history)

    def after_epoch(
        run: RunState, limits: Limits, ts: TrainState, values: Metrics, bad_step: ArrayLike
    ) -> RunState:
        """The run after an epoch that has left this train state and these values."""
        bad_step = jnp.where(run.bad_step >= 0, run.bad_step, bad_step)
        run = run._replace(stopped=run.stopped | ((bad_step >= 0) & stops))
        of_epoch = early_stopping, plateau, limits, run, ts, evaluated_model(ts), values
        decide = functools.partial(_decided, *of_epoch)
        decisions, opt_state, stopped = rewinding.noting(
            decide, run, is_due(run.epoch, limits), validate_every
        )
        history = {
            name: old.at[run.epoch].set(values[name].astype(old.dtype))
            for name, old in run.history.items()
        }
        run = RunState(ts, run.epoch + 1, stopped, bad_step, decisions, history, run.averaged)
        return closed(run, ts._replace(opt_state=opt_state))

    def advance(run: RunState, data: PyTree, validation: PyTree, limits: Limits) -> RunState:
        return after_epoch(run, limits, *one_epoch(opened(run), run.epoch, data, validation, limits))

    def close(run: RunState, totals: Totals, evaluated: Metrics, limits: Limits) -> RunState:
        ts = opened(run)
        values = report(ts, totals, evaluated, is_due(run.epoch, limits))
        return after_epoch(run, limits, ts, values, _first_bad(ts, totals))

    def finish(run: RunState) -> tuple[TrainState, History]:
        params, state = monitors.restored(early_stopping, run.decisions, evaluated_model(opened(run)))
        return run.train_state._replace(params=params, state=state), run.history

    segment, whole = _until(advance), _all_epochs(advance, room, stops)
    return Program(start, segment, whole, finish, step, opened, closed, evaluation, close, skip)


def _until(advance: Callable[..., RunState]) -> Callable[..., RunState]:
    """The epochs of a run up to a traced one, in a loop that ends where the run is stopped."""

    def segment(
        run: RunState, data: PyTree, validation: PyTree, until: ArrayLike, limits: Limits
    ) -> RunState:
        last = jnp.minimum(until, limits.epochs)
        return _loops.while_loop(
            lambda run: (run.epoch < last) & ~run.stopped,
            lambda run: advance(run, data, validation, limits),
            run,
        )

    return segment


def _all_epochs(advance: Callable[..., RunState], epochs: int, stops: bool) -> Callable[..., RunState]:
    """All epochs of a run, in a loop of fixed length, which can be differentiated in reverse mode."""
    # of an epoch, only where it began is kept for the way back
    advance = jax.checkpoint(advance)

    def whole(run: RunState, data: PyTree, validation: PyTree, limits: Limits) -> RunState:
        def body(run: RunState, _: Integer[Array, ""]) -> tuple[RunState, None]:
            if not stops:
                return advance(run, data, validation, limits), None
            more = lambda run: advance(run, data, validation, limits)  # noqa: E731
            return jax.lax.cond(run.stopped, lambda run: run, more, run), None

        return _loops.scan(body, run, jnp.arange(epochs))[0]

    return whole


def _without_reverse(tree: PyTree, reason: str) -> PyTree:
    """The tree, whose derivatives in reverse mode are refused for this reason, before JAX does."""

    def refuse(*_: PyTree) -> NoReturn:
        raise ValueError(reason)

    @jax.custom_jvp
    def same(leaves: list[Array]) -> list[Array]:
        return leaves

    @same.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        forward = jax.custom_derivatives.linear_call(lambda _, t: t, refuse, (), tangents[0])
        return primals[0], forward

    return jax.tree.unflatten(jax.tree.structure(tree), same(jax.tree.leaves(tree)))


def _where_due(due: Due, evaluate: Callable[..., Metrics], *args: PyTree) -> Metrics:
    """The metrics if an evaluation is due, else zeros."""
    if due is True:
        return evaluate(*args)
    shape = jax.eval_shape(evaluate, *args)
    return jax.lax.cond(
        due,
        lambda: evaluate(*args),
        lambda: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape),
    )


def _decided(
    early_stopping: EarlyStopping | None,
    plateau: ReduceOnPlateau | None,
    limits: Limits,
    run: RunState,
    ts: TrainState,
    model: PyTree,
    values: Metrics,
    due: Due,
) -> rewinding.Decided:
    """What is decided after an epoch that was evaluated, or was not."""
    decisions, stop = monitors.decide(
        early_stopping, limits, run.decisions, model, values, run.epoch, due
    )
    decisions, opt_state = monitors.lower(plateau, limits, decisions, ts.opt_state, values, due)
    return decisions, opt_state, run.stopped | stop


def _first_bad(ts: TrainState, totals: Totals) -> Integer[Array, ""]:
    """After an epoch, the step of its first batch whose loss was not finite, or −1."""
    return jnp.where(totals.bad >= 0, ts.step - totals.batches + totals.bad, -1)


def _undoing(step: Step) -> Step:
    """The step, but undone where loss, parameters or state come out not finite; it still counts."""

    def guarded(ts: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
        new, values = step(ts, batch)
        fine = jnp.isfinite(values["loss"])
        for leaf in jax.tree.leaves((new.params, new.state)):
            if jnp.issubdtype(leaf.dtype, jnp.inexact):
                fine &= jnp.isfinite(leaf).all()
        params, state, opt_state = choose(fine, new[1:4], ts[1:4])
        loss = jnp.where(fine, values["loss"], jnp.nan)
        return TrainState(new.step, params, state, opt_state, ts.key), values | {"loss": loss}

    return guarded


def _step_of(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    options: RunOptions,
    measure: Measure | None,
    mesh: jax.sharding.Mesh | None,
) -> Step:
    """The step of a run, for a train state that `Program.opened` has made."""
    step = measured_step(
        objective,
        optimizer,
        options["accumulation_steps"],
        options["augment"],
        options["trainable"],
        options["update_args"],
        measure,
    )
    skip = options["on_nonfinite"] == "skip"
    step = _split_step(_undoing(step) if skip else step, mesh)
    return following(
        step,
        _split_objective(objective, mesh),
        ema=options["ema"],
        trainable=options["trainable"],
        augment=options["augment"],
        skip=skip,
    )


def _opened(ema: bool, run: RunState) -> TrainState:
    return joined(run.train_state, run.averaged, ema)


def _closed(ema: bool, run: RunState, ts: TrainState) -> RunState:
    ts, averaged = parted(ts, ema)
    return run._replace(train_state=ts, averaged=averaged)


def _split_step(step: Step, mesh: jax.sharding.Mesh | None) -> Step:
    return step if mesh is None else (lambda ts, batch: step(ts, split(mesh, batch)))


def _split_objective(objective: Objective, mesh: jax.sharding.Mesh | None) -> Objective:
    if mesh is None:
        return objective

    def on_mesh(params: PyTree, state: PyTree, batch: PyTree, /, **switches: Any) -> Any:
        return objective(params, state, split(mesh, batch), **switches)

    return on_mesh
