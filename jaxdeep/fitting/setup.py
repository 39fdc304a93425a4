"""What a run is made of: model, optimizer, objective and options, checked and put together once."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from jaxdeep._compilation import compiled, kept
from jaxdeep._identity import Key, key_of
from jaxdeep.optimizers.identity import init_with_numbers, numbers_of
from jaxdeep.train import monitors
from jaxdeep.train.objective import (
    Objective,
    check_minimised,
    has_convolution,
    plan,
    rehearse,
    supervised,
)
from jaxdeep.train.options import Minimised, TrialOptions, options_of
from jaxdeep.train.run import Program, RunState, make_program
from jaxdeep.train.state import TrainState, init, only, resume
from jaxdeep.train.step import Measure, check_optimizer

PyTree = Any

MINIMISED = tuple(options_of(Minimised))
# What of a run its programs do not depend on: numbers that are arguments, and what only the host knows.
_NOT_COMPILED = {"epochs", "early_stopping", "plateau", "validation", "params", "state", *MINIMISED}

# The history has room for so many epochs at least, so that their number does not decide the program.
_ROOM = 1024


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a run of `jaxdeep.fit`, or a row of a sweep, is trained with.

    Attributes:
      model, optimizer: as for `jaxdeep.fit`.
      objective: what is minimised.
      is_supervised: whether the data are ``(x, y)`` or ``(x, y, weights)``.
      options: all options of the run (`jaxdeep.train.options.TrialOptions`, or more).
      measure: what a step reports of itself besides.
      mesh: devices that every batch is split over.
    """

    model: Any
    optimizer: Any
    objective: Objective
    is_supervised: bool
    options: TrialOptions
    measure: Measure | None = None
    mesh: jax.sharding.Mesh | None = None

    @property
    def epochs(self) -> int:
        """Epochs of the run, at most."""
        return self.options["epochs"]

    @property
    def limits(self) -> monitors.Limits:
        """The numbers of the run that are arguments of its program."""
        options = self.options
        return monitors.limits_of(self.epochs, options["early_stopping"], options["plateau"])

    @property
    def restores(self) -> bool:
        """Whether the run ends with the parameters of its best epoch."""
        early = self.options["early_stopping"]
        return early is not None and early.restore_best

    @property
    def room(self) -> int:
        """Epochs that the history of the run has room for."""
        return max(_ROOM, 1 << (self.epochs - 1).bit_length())

    @functools.cached_property
    def key(self) -> Key:
        """What decides the programs of the run: two setups with the same key compute the same."""
        static = {
            name: value
            for name, value in self.options.items()
            if name in options_of(TrialOptions) and name not in _NOT_COMPILED
        }
        watches = [monitors.kind_of(self.options[name]) for name in ("early_stopping", "plateau")]
        tx = self.optimizer
        parts = self.model, self.objective, (tx.init, tx.update), self.measure, self.mesh
        return key_of(*parts, static, watches, self.room)

    def program(self) -> Program:
        """The run in parts; where `jaxdeep.fit` would raise, it ends."""
        return make_program(
            self.objective,
            self.optimizer,
            self.options,
            measure=self.measure,
            mesh=self.mesh,
            room=self.room,
        )

    def begin(self, like: PyTree, key: Any, given: PyTree = None, numbers: Any = None) -> TrainState:
        """The first train state, for data of these shapes.

        Args:
          like: the data, or their shapes.
          key: the run's.
          given: parameters and state to begin with; freshly initialised by default.
          numbers: hyperparameters in place of the optimizer's own (`numbers_of`).
        """
        optimizer = self.optimizer
        if numbers is not None:
            optimizer = optax.GradientTransformationExtraArgs(
                lambda params: init_with_numbers(self.optimizer, params, numbers), optimizer.update
            )
        trainable = self.options["trainable"]
        if given is not None:
            return resume(only(optimizer, trainable), given[0], given[1], key)
        inputs = like[0] if self.is_supervised else jax.tree.leaves(like)[0]
        # its shape alone: rows of the data would become a constant of the program
        one = jax.tree.map(lambda s: jax.ShapeDtypeStruct((1, *s.shape[1:]), s.dtype), inputs)
        return init(self.model, optimizer, one, key=key, trainable=trainable)

    def start(self, likes: Sequence[PyTree], key: Any, given: PyTree = None) -> RunState:
        """The run before its first epoch, for data of these shapes, made by one program."""
        args = given, key, numbers_of(self.optimizer), self.limits
        program_key = key_of("start", self.key, _shape_key(likes))
        started: RunState = compiled(self._starting(likes), *args, key=program_key, once=True)(*args)
        return started

    def started_like(self, likes: Sequence[PyTree], key: Any) -> RunState:
        """The shapes of `start`."""
        numbers = numbers_of(self.optimizer)
        run: RunState = jax.eval_shape(self._starting(likes), None, key, numbers, self.limits)
        return run

    def _starting(self, likes: Sequence[PyTree]) -> Callable[..., RunState]:
        def run(given: PyTree, key: Any, numbers: Any, limits: Any) -> RunState:
            data, validation = likes if len(likes) == 2 else (likes[0], None)
            ts = self.begin(data, key, given, numbers)
            return self.program().start(ts, data, validation, limits)

        return run

    def shapes(self, like: PyTree, key: Any, given: PyTree = None) -> TrainState:
        """The shapes of the first train state."""
        shapes: TrainState = kept(
            key_of("shapes", self.key, _shape_key(like)),
            lambda: jax.eval_shape(lambda given, key: self.begin(like, key, given), given, key),
            (given, key),
        )
        return shapes


def make_setup(
    caller: str, model: Any, optimizer: Any, options: TrialOptions, objective: Objective | None = None
) -> Setup:
    """Put a run together from its model, optimizer and options.

    Args:
      caller: who asks, for errors.
      model, optimizer, options: of the run.
      objective: the supervised objective, where it was made before.

    Raises:
      ValueError, TypeError: not a model, not an optimizer, neither or both of loss and objective.
    """
    check_model(model)
    check_optimizer(optimizer)
    minimised = minimised_of(options)
    check_minimised(caller, options["objective"], minimised)
    if options["objective"] is not None:
        return Setup(model, optimizer, options["objective"], False, options)
    if objective is None:
        objective = supervised(model, **minimised, **frozen_of(options))
    return Setup(model, optimizer, objective, True, options)


def minimised_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """What `supervised` takes of the options that were given."""
    return {name: options[name] for name in MINIMISED if options.get(name) is not None}


def frozen_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """What `supervised` is told of layers that are not trained."""
    trainable = options["trainable"]
    return {"trainable": trainable} if options["freeze_batch_norm"] and trainable is not None else {}


def check_model(model: Any) -> None:
    """Refuse what has no `init` and `apply`."""
    if not (callable(getattr(model, "init", None)) and callable(getattr(model, "apply", None))):
        raise TypeError(f"model must be a jaxdeep.nn.Model, got {model!r}")


def try_out(setup: Setup, ts: TrainState, samples: Mapping[str, PyTree], like: PyTree) -> bool:
    """Trace the objective so that data it does not fit are refused; whether it has a slow convolution.

    Args:
      setup: the run.
      ts: shapes of its train state.
      samples: by the name of the argument, data whose labels are looked at.
      like: shapes of the data.
    """
    if not setup.is_supervised:
        key = key_of("plan", setup.key, _shape_key(like))
        return bool(kept(key, lambda: has_convolution(plan(setup.objective, ts, like)), ts))
    slow = False
    for name, sample in samples.items():
        key = key_of("rehearse", setup.key, _labels_key(sample))
        slow |= kept(key, functools.partial(_rehearse, setup.objective, ts, sample, name), (ts, sample))
    return slow


def _rehearse(objective: Objective, ts: TrainState, sample: PyTree, name: str) -> bool:
    return has_convolution(rehearse(objective, ts, sample, name))


def _shape_key(tree: PyTree) -> tuple[Any, ...]:
    leaves, structure = jax.tree.flatten(tree)
    return str(structure), *((leaf.shape, str(leaf.dtype)) for leaf in leaves)


def _labels_key(sample: PyTree) -> list[Any]:
    """What of labels and weights may be refused: their values, or of whole numbers the range."""
    _, *rest = sample
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(rest)]
    return [
        (leaf.min().item(), leaf.max().item()) if leaf.dtype.kind in "iub" and leaf.size else leaf
        for leaf in leaves
    ]
