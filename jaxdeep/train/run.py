"""A whole run as a pure function: epochs, evaluation, early stopping, the best parameters, history."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdeep import _checks
from jaxdeep.optimizers import hyperparams
from jaxdeep.train import stopping
from jaxdeep.train.epoch import guarded_epoch, make_evaluate
from jaxdeep.train.objective import Objective
from jaxdeep.train.state import TrainState
from jaxdeep.train.step import make_step
from jaxdeep.train.stopping import Decisions, EarlyStopping, Plateau

PyTree = Any
History = dict[str, Any]

IN_FORCE = ("learning_rate", "momentum")  # hyperparameters that the history holds


class RunState(NamedTuple):
    """A run between two epochs, a pytree: all it takes to go on bit for bit.

    Attributes:
      train_state: of the last step.
      epoch: epochs done.
      stopped: whether it has ended before its last epoch.
      bad_step: the first step with a non-finite loss, or −1.
      decisions: what early stopping and the plateau have seen.
      history: ``(epochs,)`` values of each metric; NaN for epochs not run.
    """

    train_state: TrainState
    epoch: jax.Array
    stopped: jax.Array
    bad_step: jax.Array
    decisions: Decisions
    history: History


class Program(NamedTuple):
    """A run in three pure functions, for those who drive it in segments."""

    start: Callable[..., RunState]
    segment: Callable[..., RunState]
    finish: Callable[[RunState], tuple[TrainState, History]]


def make_run(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    epochs: int,
    batch_size: int = 32,
    shuffle: bool = True,
    drop_remainder: bool = False,
    accumulate: int = 1,
    early_stopping: EarlyStopping | None = None,
    plateau: Plateau | None = None,
    validate_every: int = 1,
    on_nonfinite: str = "stop",
) -> Callable[..., tuple[TrainState, History]]:
    """A whole run: ``run(ts, data, validation=None) -> (ts, history)``, pure.

    One `jax.jit` compiles it, `jax.vmap` runs it for many train states side by side; a run that has
    stopped keeps what it has while others go on. The same epochs as `jaxdeep.fit`'s, which drives them
    in segments.

    Args:
      objective: see `jaxdeep.train.supervised`.
      optimizer: any optax transformation.
      epochs: passes over the data, at most.
      batch_size, shuffle, drop_remainder: as for `make_epoch`.
      accumulate: micro-batches a step, as for `make_step`.
      early_stopping: when to stop, and whether to return to the best epoch.
      plateau: when to lower the learning rate.
      validate_every: epochs from one evaluation to the next; the last is evaluated too. In between,
        validation metrics are NaN, and what watches them waits.
      on_nonfinite: "stop" ends the run after an epoch whose loss was not finite; "ignore" goes on.

    Returns:
      A function ``(ts, data, validation=None) -> (ts, history)``. The history holds ``(epochs,)`` arrays
      by name: "loss", every metric, their "val_…" forms, and ``learning_rate`` and ``momentum`` as in
      force at the end of the epoch; NaN for epochs that were not run.

    Raises:
      ValueError, TypeError: an argument out of range, an unknown metric to monitor.

    Source: `jax.lax.while_loop` over `make_epoch`.

    >>> import jaxdeep as jd
    >>> model, optimizer = jd.nn.dense(1), jd.optimizers.sgd(0.1)
    >>> objective = jd.train.supervised(model, jd.losses.mse)
    >>> x = jnp.linspace(-1, 1, 64)[:, None]
    >>> run = jax.jit(make_run(objective, optimizer, epochs=3, batch_size=16))
    >>> ts, history = run(jd.train.init(model, optimizer, x[:1], key=jax.random.key(0)), (x, 3 * x))
    >>> int(ts.step), history["loss"].shape, bool(history["loss"][2] < history["loss"][0])
    (12, (3,), True)
    """
    program = make_program(
        objective,
        optimizer,
        epochs=epochs,
        batch_size=batch_size,
        shuffle=shuffle,
        drop_remainder=drop_remainder,
        accumulate=accumulate,
        early_stopping=early_stopping,
        plateau=plateau,
        validate_every=validate_every,
        on_nonfinite=on_nonfinite,
    )

    def run(ts: TrainState, data: PyTree, validation: PyTree = None) -> tuple[TrainState, History]:
        state = program.start(ts, data, validation)
        return program.finish(program.segment(state, data, validation, epochs))

    return run


def make_program(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    drop_remainder: bool,
    accumulate: int,
    early_stopping: EarlyStopping | None,
    plateau: Plateau | None,
    validate_every: int,
    on_nonfinite: str,
) -> Program:
    """The parts of `make_run`: ``start(ts, data, validation)``, ``segment(…, until)``, ``finish``.

    A segment goes on to epoch `until`, an array, so that one compiled program serves every length.
    """
    _checks.check_count("epochs", epochs)
    _checks.check_count("validate_every", validate_every)
    stopping.check(early_stopping, plateau)
    if on_nonfinite not in ("stop", "ignore"):
        raise ValueError(f"on_nonfinite must be 'stop' or 'ignore', got {on_nonfinite!r}")
    pass_over = guarded_epoch(
        make_step(objective, optimizer, accumulate=accumulate),
        batch_size=batch_size,
        shuffle=shuffle,
        drop_remainder=drop_remainder,
    )
    evaluate = _evaluated(make_evaluate(objective, batch_size=batch_size), validate_every, epochs)

    @jax.jit  # traced once, for the shapes and for the loop
    def one(ts: TrainState, epoch: Any, data: PyTree, validation: PyTree) -> tuple[Any, Any, Any, Any]:
        """An epoch: the train state, the values, the first bad step, whether it was evaluated."""
        ts, values, bad_step = pass_over(ts, data)
        found, due = evaluate(ts, epoch, validation)
        in_force = hyperparams(ts.opt_state)
        rates = {n: v for n, v in in_force.items() if n.split("/")[-1] in IN_FORCE}
        return ts, rates | values | found, bad_step, due

    def start(ts: TrainState, data: PyTree, validation: PyTree = None) -> RunState:
        after, values, _, due = jax.eval_shape(one, ts, jnp.zeros((), jnp.int32), data, validation)
        history = {
            name: jnp.full((epochs, *v.shape), jnp.nan, jnp.promote_types(v.dtype, jnp.float32))
            for name, v in values.items()
        }
        decisions = stopping.first(early_stopping, plateau, (ts.params, ts.state), values)
        # an optimizer whose rate cannot be lowered is refused here
        jax.eval_shape(
            lambda *args: stopping.lower(plateau, *args), decisions, after.opt_state, values, due
        )
        zero = jnp.zeros((), jnp.int32)
        return RunState(ts, zero, jnp.zeros((), bool), zero - 1, decisions, history)

    def body(run: RunState, data: PyTree, validation: PyTree) -> RunState:
        ts, values, bad_step, due = one(run.train_state, run.epoch, data, validation)
        history = {
            name: run.history[name].at[run.epoch].set(value.astype(run.history[name].dtype))
            for name, value in values.items()
        }
        model = ts.params, ts.state
        decisions, stop = stopping.decide(early_stopping, run.decisions, model, values, run.epoch, due)
        decisions, opt_state = stopping.lower(plateau, decisions, ts.opt_state, values, due)
        bad_step = jnp.where(run.bad_step >= 0, run.bad_step, bad_step)
        stopped = run.stopped | stop
        if on_nonfinite == "stop":
            stopped |= bad_step >= 0
        ts = ts._replace(opt_state=opt_state)
        return RunState(ts, run.epoch + 1, stopped, bad_step, decisions, history)

    def segment(run: RunState, data: PyTree, validation: PyTree, until: Any) -> RunState:
        last = jnp.minimum(until, epochs)
        result: RunState = jax.lax.while_loop(
            lambda run: (run.epoch < last) & ~run.stopped,
            lambda run: body(run, data, validation),
            run,
        )
        return result

    def finish(run: RunState) -> tuple[TrainState, History]:
        ts = run.train_state
        params, state = stopping.restored(early_stopping, run.decisions, (ts.params, ts.state))
        return ts._replace(params=params, state=state), run.history

    return Program(start, segment, finish)


def _evaluated(
    evaluate: Callable[..., dict[str, Any]], every: int, epochs: int
) -> Callable[[TrainState, Any, PyTree], tuple[dict[str, Any], Any]]:
    """Validation metrics after an epoch, NaN where it is not due, and whether it was."""

    def of_epoch(ts: TrainState, epoch: Any, validation: PyTree) -> tuple[dict[str, Any], Any]:
        due = jnp.asarray(((epoch + 1) % every == 0) | (epoch + 1 >= epochs))
        if validation is None:
            return {}, due
        if every == 1:
            found = evaluate(ts.params, ts.state, validation)
        else:
            shape = jax.eval_shape(evaluate, ts.params, ts.state, validation)
            found = jax.lax.cond(
                due,
                lambda: evaluate(ts.params, ts.state, validation),
                lambda: jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), shape),
            )
        return {f"val_{name}": value for name, value in found.items()}, due

    return of_epoch
