"""The model that a run evaluates, keeps and returns, where it is not the one that it trains.

With `ema` that is the moving average of the parameters, with a schedule-free optimizer their average x.
Its batch norms need statistics of their own, so that the state of such a run is a pair: the model's, and
that of the evaluated parameters.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdeep._shapes import PyTree
from jaxdeep.optimizers import evaluation_params
from jaxdeep.optimizers.evaluation import evaluates_elsewhere
from jaxdeep.train.batches import Metrics
from jaxdeep.train.monitors import choose
from jaxdeep.train.objective import Objective
from jaxdeep.train.state import TrainState
from jaxdeep.train.step import Augment, Step, augmenting
from jaxdeep.tree import Where, combine, partition


def is_another(opt_state: PyTree, ema: bool) -> bool:
    """Whether the parameters that are evaluated are others than those that are trained."""
    return ema or evaluates_elsewhere(opt_state)


def first_state(ts: TrainState, ema: bool) -> PyTree:
    """The state of the evaluated parameters before the first step; () if they are the trained ones."""
    return jax.tree.map(jnp.copy, ts.state) if is_another(ts.opt_state, ema) else ()


def joined(ts: TrainState, averaged: PyTree, ema: bool) -> TrainState:
    """The train state, whose state is a pair if the evaluated parameters are others."""
    return ts._replace(state=(ts.state, averaged)) if is_another(ts.opt_state, ema) else ts


def parted(ts: TrainState, ema: bool) -> tuple[TrainState, PyTree]:
    """The train state and the state of the evaluated parameters, after steps of a `joined` one."""
    if not is_another(ts.opt_state, ema):
        return ts, ()
    state, averaged = ts.state
    return ts._replace(state=state), averaged


def evaluated_of(ts: TrainState, ema: bool, trainable: Where | None) -> tuple[PyTree, PyTree]:
    """The parameters and the state that are evaluated, of a `joined` train state.

    Raises:
      ValueError: `ema` without an average in the optimizer's state.
    """
    if not is_another(ts.opt_state, ema):
        return ts.params, ts.state
    return _params_of(ts, ema, trainable), ts.state[1]


def _params_of(ts: TrainState, ema: bool, trainable: Where | None) -> PyTree:
    moving, held = partition(ts.params, trainable)
    if not ema:
        return combine(evaluation_params(ts.opt_state, moving), held)
    average = optax.tree_utils.tree_get(ts.opt_state, "ema")
    if average is None:
        raise ValueError(
            "ema=True needs jaxdeep.optimizers.ema_params at the end of the optimizer's chain"
        )
    return combine(jax.tree.map(lambda mean, p: mean.astype(p.dtype), average, moving), held)


def following(
    step: Step,
    objective: Objective,
    *,
    ema: bool,
    trainable: Where | None,
    augment: Augment | None,
    skip: bool,
) -> Step:
    """The step of a `joined` train state.

    The second state is what the evaluated parameters leave behind when they are applied to every batch
    as the first are, in training and with the same randomness, so that batch norms have statistics of
    the network that is evaluated.
    """

    def followed(ts: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
        if not is_another(ts.opt_state, ema):
            return step(ts, batch)
        state, averaged = ts.state
        new, values = step(ts._replace(state=state), batch)
        if jax.tree.leaves(averaged):
            key = jax.random.fold_in(ts.key, ts.step)
            if augment is not None:
                batch = augment(augmenting(key), batch)
            params = _params_of(new, ema, trainable)
            after: Any = objective(params, averaged, batch, key=key, train=True)[1][0]
            fine = jnp.isfinite(values["loss"]) if skip else True
            averaged = choose(fine, after, averaged)
        return new._replace(state=(new.state, averaged)), values

    return followed
