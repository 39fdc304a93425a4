"""A run in phases, such as the head first and then more of the network at a lower rate."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
import optax

from jaxdeep import _checks
from jaxdeep._shapes import PyTree
from jaxdeep.fitting.interruption import NOT_BEGUN
from jaxdeep.fitting.logs import After, listed
from jaxdeep.fitting.result import FitResult
from jaxdeep.optimizers import at_learning_rate
from jaxdeep.optimizers.identity import Init
from jaxdeep.optimizers.misfits import begun
from jaxdeep.optimizers.scalars import Scalars
from jaxdeep.optimizers.transform import update_of
from jaxdeep.train.going_on import comes_of
from jaxdeep.train.options import Callback, FitOptions, Phase, options_of
from jaxdeep.train.state import Network, check_optimizer, only
from jaxdeep.tree import check_where

History = dict[str, np.ndarray]
Optimizer: TypeAlias = optax.GradientTransformation
MakeOptimizer: TypeAlias = Callable[[float], Optimizer]


def checked(options: FitOptions) -> list[Phase]:
    """The phases of a run, checked; refuses options that the phases set themselves."""
    phases: Any = options["phases"]
    if not isinstance(phases, Sequence) or isinstance(phases, (str, Phase)) or not phases:
        raise TypeError(
            "phases must be a list of jaxdeep.train.Phase(epochs, trainable, learning_rate), got "
            f"{phases!r}"
        )
    for name in ("epochs", "trainable"):
        value: Any = options[name]
        if value != options_of(FitOptions)[name].default:
            raise ValueError(f"phases say {name} themselves: drop {name}={value!r}")
    checked_phases = []
    for i, entry in enumerate(phases):
        if not isinstance(entry, (tuple, list)) or not 1 <= len(entry) <= len(Phase._fields):
            raise TypeError(f"phases[{i}] must be (epochs, trainable, learning_rate), got {entry!r}")
        phase = Phase(*entry)
        phase = phase._replace(epochs=_checks.check_count(f"phases[{i}].epochs", phase.epochs))
        if phase.trainable is not None:
            check_where(phase.trainable, f"phases[{i}].trainable")
        if phase.learning_rate is not None:
            _checks.check_hyperparameter(f"phases[{i}].learning_rate", phase.learning_rate, "[0, inf)")
        checked_phases.append(phase)
    return checked_phases


def in_phases(
    fit: Callable[..., FitResult],
    model: Network,
    data: PyTree,
    optimizer: Optimizer | MakeOptimizer,
    key: jax.Array,
    options: FitOptions,
    passed: Mapping[str, Any],
) -> FitResult:
    """`fit` with these options, phase by phase, each of which begins where the one before ended.

    Phase i has a fresh optimizer, the key ``fold_in(key, i)`` (phase 0 has the key itself), early
    stopping and a plateau of its own, and the checkpoint directory ``phase<i>``. An interruption ends
    all of them. A mistyped selector in any phase is refused before the first phase begins.
    """
    plan = checked(options)
    optimizers = [_at_rate(optimizer, phase, i) for i, phase in enumerate(plan)]
    all_phases = [only(tx, phase.trainable) for tx, phase in zip(optimizers, plan)]
    histories: list[History] = []
    result, changes = None, FitOptions(phases=None)
    for i, (phase, phase_optimizer) in enumerate(zip(plan, optimizers)):
        changes |= FitOptions(epochs=phase.epochs, trainable=phase.trainable)
        if options["checkpoint"] is not None:
            changes["checkpoint"] = pathlib.Path(options["checkpoint"]) / f"phase{i}"
        changes["callbacks"] = [_after(histories, call) for call in options["callbacks"]]
        before = sum(map(_epochs, histories))
        changes["log"] = [After(log, before) for log in listed(options["log"])]
        phase_key = jax.random.fold_in(key, i) if i else key
        tx = phase_optimizer if i else _trying_all(phase_optimizer, all_phases)
        try:
            result = fit(model, data, optimizer=tx, key=phase_key, **{**passed, **changes})
        except KeyboardInterrupt as error:  # while this phase was compiled
            if result is None or error.args != (NOT_BEGUN,):
                raise
            result = result._replace(stopped="interrupted")
            break
        result = _trained_by(phase_optimizer, result)
        changes |= FitOptions(params=result.params, state=result.state)
        histories = [*histories, result.history]
        if result.stopped == "interrupted":
            break
    assert result is not None
    if hasattr(optimizer, "update"):  # whose rate a phase may have set
        comes_of(result.train_state, optimizer)
    before = sum(map(_epochs, histories[:-1]))
    best = result.best_epoch
    if best is not None and best >= 0:
        best += before
    return result._replace(history=_joined(histories), best_epoch=best)


def _at_rate(optimizer: Any, phase: Phase, i: int) -> Optimizer:
    """The optimizer of phase `i`, either made with its rate or with its rate set in the state."""
    if not hasattr(optimizer, "update") and callable(optimizer):
        if phase.learning_rate is None:
            raise ValueError(f"phases[{i}] needs a learning_rate: optimizer is a function of it")
        optimizer = optimizer(phase.learning_rate)
        check_optimizer(optimizer)
        return optimizer
    check_optimizer(optimizer)
    if phase.learning_rate is None:
        return optimizer
    return at_learning_rate(optimizer, phase.learning_rate)


def _trying_all(optimizer: Optimizer, optimizers: Sequence[Optimizer]) -> Optimizer:
    """The optimizer, whose `init` first traces those of all phases, so that their errors come now."""
    init = Init(_init_after_trying, (optimizer, tuple(optimizers)), {})
    return optax.GradientTransformationExtraArgs(init, update_of(optimizer))


def _init_after_trying(
    optimizer: Optimizer, optimizers: tuple[Optimizer, ...], scalars: Scalars, params: PyTree
) -> PyTree:
    for i, phase_optimizer in enumerate(optimizers):
        try:
            jax.eval_shape(functools.partial(begun, phase_optimizer), params)
        except ValueError as error:
            joint = "." if str(error).startswith("learning_rate") else ": "
            raise ValueError(f"phases[{i}]{joint}{error}") from error
    return begun(optimizer, params)


def _trained_by(optimizer: Optimizer, result: FitResult) -> FitResult:
    """The result, which goes on with the optimizer of its phase, not with the one that tried all."""
    comes_of(result.train_state, optimizer)
    trained_with = {**result.problem.trained_with, "optimizer": optimizer}
    return result._replace(problem=dataclasses.replace(result.problem, trained_with=trained_with))


def _after(histories: Sequence[History], callback: Callback) -> Callback:
    """The callback, told of epochs and history as if the phases were one run."""
    before = sum(map(_epochs, histories))
    return lambda now: callback(
        now._replace(epoch=before + now.epoch, history=_joined([*histories, now.history]))
    )


def _joined(histories: Sequence[History]) -> History:
    """The histories joined into one; a name that a history lacks is NaN there."""
    names = dict.fromkeys(name for history in histories for name in history)
    like = {name: history[name] for history in histories for name in history}

    def values(history: History, name: str) -> np.ndarray:
        if name in history:
            return history[name]
        return np.full((_epochs(history), *like[name].shape[1:]), np.nan, like[name].dtype)

    return {name: np.concatenate([values(history, name) for history in histories]) for name in names}


def _epochs(history: History) -> int:
    return min((len(values) for values in history.values()), default=0)
