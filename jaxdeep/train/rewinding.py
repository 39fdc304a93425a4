"""The evaluation of a last epoch that would have none in a run of more epochs, and how it is undone.

With ``validate_every=2`` a run of 5 epochs is evaluated after the fifth, and one of 6 is not. What early
stopping and the plateau would be without that evaluation is kept beside them (`Before`), so that a run
whose epochs grow goes on from there, as the run of one call does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._shapes import Array, ArrayLike, Bool, PyTree
from jaxdeep.optimizers import set_hyperparams
from jaxdeep.train import monitors
from jaxdeep.train.missing import missing
from jaxdeep.train.monitors import Decisions, Due, Monitor, Shaped, choose

# decisions, the optimizer's state, and whether the run stops
Decided = tuple[Decisions, PyTree, Bool[Array, ""]]


class Before(NamedTuple):
    """A run without the evaluation of its last epoch.

    The best parameters are not here: those of the last epoch are no others than the run's own, so that
    `Decisions.kept` stays as it was before.

    Attributes:
      at: epochs done at such an evaluation; −1 if there was none.
      stopped: whether the run has stopped.
      best, best_epoch, wait, plateau: as in `Decisions`.
      rates: learning rates in the optimizer's state, if a plateau lowers them.
    """

    at: PyTree
    stopped: PyTree
    best: PyTree
    best_epoch: PyTree
    wait: PyTree
    plateau: PyTree
    rates: PyTree


def first(
    decisions: Decisions,
    opt_state: PyTree,
    watching: Sequence[Monitor | None],
    values: Mapping[str, Shaped],
    validate_every: int,
) -> Decisions:
    """The decisions before the first epoch, with `Before` if some may depend on such an evaluation."""
    watched = [monitors.resolve(config, values)[0] for config in watching if config is not None]
    if validate_every == 1 or not any(name.startswith("val_") for name in watched):
        return decisions
    none = jnp.full((), -1, jnp.int32), jnp.zeros((), bool)
    return decisions._replace(before=jax.tree.map(jnp.copy, _before(*none, decisions, opt_state)))


def noting(decide: Callable[[Due], Decided], run: Any, due: Due, validate_every: int) -> Decided:
    """What is decided after the epoch that the run is at, with what it would be without an evaluation.

    `decide` is told whether the epoch was evaluated, and `due` says whether it was.
    """
    decisions, opt_state, stopped = decide(due)
    if not decisions.before:
        return decisions, opt_state, stopped
    regular = (run.epoch + 1) % validate_every == 0
    alone = due & ~regular  # evaluated only since it is the last one
    old, old_opt_state, old_stopped = decide(due & regular)
    before = _before(jnp.where(alone, run.epoch + 1, -1), old_stopped, old, old_opt_state)
    kept = choose(alone, old.kept, decisions.kept)
    return decisions._replace(kept=kept, before=before), opt_state, stopped


def without_before(run: Any) -> Any:
    """The run, or its shapes, in the form in which earlier versions saved it."""
    return run._replace(decisions=run.decisions._replace(before=()))


def with_before(run: Any, like: Any) -> Any:
    """A run that an earlier version saved in the form of `like`: how it was before is not known."""
    before = jax.tree.map(lambda leaf: _full(leaf, -1), like.decisions.before)
    return run._replace(decisions=run.decisions._replace(before=before))


def rewound(run: Any, epochs: int, validate_every: int) -> Any:
    """A saved run as it is to go on to so many epochs: without an evaluation that it would not have had.

    One of an earlier version stays as it is if its decisions depend on that.
    """
    done, before = int(run.epoch), run.decisions.before
    if done >= epochs or done % validate_every == 0:
        return run
    if isinstance(before, Before):
        if int(before.at) != done:
            return run
        old = jax.tree.map(lambda leaf: leaf.copy(), before)  # since the run's arrays are donated
        decisions = run.decisions._replace(
            best=old.best,
            best_epoch=old.best_epoch,
            wait=old.wait,
            plateau=old.plateau,
            before=before._replace(at=_full(before.at, -1)),
        )
        ts = run.train_state
        ts = ts._replace(opt_state=set_hyperparams(ts.opt_state, **old.rates))
        run = run._replace(train_state=ts, decisions=decisions, stopped=old.stopped)

    def unevaluated(values: ArrayLike) -> np.ndarray:
        values = np.array(values)
        values[done - 1] = missing(values.dtype)
        return values

    history = {
        name: unevaluated(values) if name.startswith("val_") else values
        for name, values in run.history.items()
    }
    return run._replace(history=history)


def _full(like: Any, value: int) -> Any:
    """An array like this one, or like these shapes, of one value."""
    return (jnp if isinstance(like, jax.Array) else np).full(like.shape, value, like.dtype)


def _before(at: ArrayLike, stopped: Due, decisions: Decisions, opt_state: PyTree) -> Before:
    rates = monitors.rates_of(opt_state) if jax.tree.leaves(decisions.plateau) else {}
    fields = decisions.best, decisions.best_epoch, decisions.wait, decisions.plateau
    return Before(at, stopped, *fields, rates)
