"""`Setup`: the model, optimizer, objective and options of a run, checked and put together once."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import optax

from jaxdeep._compilation import compiled, kept, known_as
from jaxdeep._identity import Key, key_of
from jaxdeep._shapes import PyTree
from jaxdeep.nn.model import Model
from jaxdeep.nn.normalization import norms_of_one_value
from jaxdeep.optimizers.identity import init_with_numbers, numbers_of, program_key
from jaxdeep.train import monitors
from jaxdeep.train.data import explain_narrow, with_rows
from jaxdeep.train.objective import (
    Bounds,
    Objective,
    has_convolution,
    plan,
    rehearse,
    rehearsed,
    supervised,
)
from jaxdeep.train.options import SUPERVISED, TrialOptions, minimised_of, options_of
from jaxdeep.train.outputs import check_program
from jaxdeep.train.run import Program, RunState, make_program
from jaxdeep.train.state import (
    Network,
    TrainState,
    begin,
    check_initial,
    check_model,
    check_optimizer,
)
from jaxdeep.train.step import Measure
from jaxdeep.tree import mask, shapes

# Options that the programs of a run do not depend on: their numbers are arguments, only the host needs
# them, or they are part of the objective.
_NOT_COMPILED = {"epochs", "early_stopping", "plateau", "validation", *SUPERVISED}


@dataclasses.dataclass(frozen=True)
class Setup:
    """Everything that a run of `jaxdeep.fit`, or a row of a sweep, is trained with.

    Attributes:
      model, optimizer: as for `jaxdeep.fit`.
      objective: what is minimised.
      is_supervised: whether the data are ``(x, y)`` or ``(x, y, weights)``.
      options: all options of the run (`jaxdeep.train.options.TrialOptions`, or more).
      measure: makes further metrics of a step.
      mesh: devices that every batch is split over.
      least_room: epochs that the history has room for at least, so that shorter runs share a program.
    """

    model: Network
    optimizer: optax.GradientTransformation
    objective: Objective
    is_supervised: bool
    options: TrialOptions
    measure: Measure | None = None
    mesh: jax.sharding.Mesh | None = None
    least_room: int = 1024

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
        return max(self.least_room, 1 << (self.epochs - 1).bit_length())

    @functools.cached_property
    def key(self) -> Key:
        """The identity of the programs of the run: two setups with equal keys compute the same."""
        return key_of(self.model, self.objective, self._key_beside_the_network)

    def is_like(self, other: "Setup") -> bool:
        """Whether two setups compute the same, which is known of one and the same network, too."""
        if self.key.usable:
            return self.key == other.key
        same = self.model is other.model and self.objective is other.objective
        key, other_key = self._key_beside_the_network, other._key_beside_the_network
        return same and key.usable and key == other_key

    @functools.cached_property
    def _key_beside_the_network(self) -> Key:
        static = {
            name: value
            for name, value in self.options.items()
            if name in options_of(TrialOptions) and name not in _NOT_COMPILED
        }
        watches = [monitors.kind_of(self.options[name]) for name in ("early_stopping", "plateau")]
        return key_of(program_key(self.optimizer), self.measure, self.mesh, static, watches, self.room)

    def sharing(self, other: "Setup") -> "Setup":
        """The setup with the model and the objective of another one, if these were made anew and alike.

        A thousand setups of equal models then take the memory of one.
        """
        if self.model is other.model or self.key != other.key or not self.key.usable:
            return self
        setup = dataclasses.replace(self, model=other.model, objective=other.objective)
        vars(setup)["key"] = other.key
        return setup

    def key_now(self) -> Key:
        """The key of what is traced now, after other code of the user's ran: a loader, a callback.

        That may have changed what the key is made of, such as a number that a loss reads.
        """
        return dataclasses.replace(self).key

    def rename(self) -> None:
        """Know programs by the key of now, too, if all that was done since they had theirs is tracing.

        That may itself change what a key is made of: a list that counts the traces, say.
        """
        if (key := self.key_now()) != self.key:
            known_as(self.key, key)

    @functools.cached_property  # so that what one part has traced, the next finds
    def program(self) -> Program:
        """The parts of the run, as pure functions; where `jaxdeep.fit` would raise, the run ends."""
        return make_program(
            self.objective,
            self.optimizer,
            self.options,
            measure=self.measure,
            mesh=self.mesh,
            room=self.room,
        )

    def begin(
        self, like: PyTree, key: jax.Array, initial: PyTree = None, numbers: PyTree = None
    ) -> TrainState:
        """The first train state.

        Args:
          like: the data, or their shapes.
          key: the key of the run.
          initial: parameters and state to begin with; freshly initialised by default.
          numbers: hyperparameters in place of the optimizer's own (`numbers_of`).
        """
        optimizer = self.optimizer
        if numbers is not None:
            optimizer = optax.GradientTransformationExtraArgs(
                lambda params: init_with_numbers(self.optimizer, params, numbers), optimizer.update
            )
        inputs = like[0] if self.is_supervised else jax.tree.leaves(like)[0]
        # only the shape, since rows of the data would become a constant of the program
        row = with_rows(inputs, 1)
        try:
            return begin(self.model, optimizer, row, key, initial, self.options["trainable"])
        except (TypeError, ValueError) as error:
            explain_narrow("data[0]" if self.is_supervised else "data", row, error)
            raise

    def start(self, likes: Sequence[PyTree], key: jax.Array, initial: PyTree = None) -> RunState:
        """The run before its first epoch, made by one program for data of these shapes."""
        args = initial, key, numbers_of(self.optimizer), self.limits
        program_key = key_of("start", self.key, _shape_key(likes))
        return compiled(self.starting(likes), *args, key=program_key, once=True)(*args)

    def started_like(self, likes: Sequence[PyTree], key: jax.Array) -> RunState:
        """The shapes of the run that `start` makes."""
        numbers = numbers_of(self.optimizer)
        return jax.eval_shape(self.starting(likes), None, key, numbers, self.limits)

    def starting(self, likes: Sequence[PyTree]) -> Callable[..., RunState]:
        """What makes the run of ``(initial, key, numbers, limits)``.

        It is one function for the same shapes, so that it is traced once.
        """

        def run(initial: PyTree, key: jax.Array, numbers: PyTree, limits: monitors.Limits) -> RunState:
            data, validation = likes if len(likes) == 2 else (likes[0], None)
            ts = self.begin(data, key, initial, numbers)
            return self.program.start(ts, data, validation, limits)

        return self._starts.setdefault(_shape_key(likes), run)

    @functools.cached_property
    def _starts(self) -> dict[Hashable, Callable[..., RunState]]:
        return {}

    def shapes(self, like: PyTree, key: jax.Array, initial: PyTree = None) -> TrainState:
        """The shapes of the first train state."""
        return kept(
            key_of("shapes", self.key, _shape_key(like)),
            lambda: jax.eval_shape(lambda initial, key: self.begin(like, key, initial), initial, key),
            (initial, key),
        )


def make_setup(
    caller: str,
    model: Network,
    optimizer: optax.GradientTransformation,
    options: TrialOptions,
    objective: Objective | None = None,
) -> Setup:
    """Put a run together from its model, optimizer and options.

    Args:
      caller: name of the public function, for errors.
      model, optimizer, options: of the run.
      objective: the supervised objective, if it was made before for the same arguments.

    Raises:
      ValueError, TypeError: not a model, not an optimizer, neither or both of loss and objective.
    """
    check_model(model)
    check_optimizer(optimizer)
    minimised = minimised_of(caller, options)
    if options["objective"] is not None:
        return Setup(model, optimizer, options["objective"], False, options)
    if objective is None:
        objective = supervised(model, **minimised, **frozen_of(options))
    return Setup(model, optimizer, objective, True, options)


def frozen_of(options: TrialOptions) -> dict[str, Any]:
    """The argument that tells `supervised` which layers are not trained, if batch norms freeze."""
    trainable = options["trainable"]
    return {"trainable": trainable} if options["freeze_batch_norm"] and trainable is not None else {}


def check_begun(setup: Setup, like: PyTree, initial: PyTree) -> None:
    """Refuse parameters and a state to begin with that are not the model's, as far as that is known."""
    made_for = getattr(setup.objective, "of_model", None)
    is_input = setup.is_supervised or made_for is setup.model
    inputs = like[0] if is_input else jax.tree.leaves(like)[0]
    check_initial(setup.model, with_rows(inputs, 1), initial, is_input=is_input)


def try_out(
    setup: Setup, ts: TrainState, samples: Mapping[str, PyTree], like: PyTree
) -> tuple[bool, dict[str, Bounds]]:
    """Trace the objective, so that data that do not fit it are refused.

    Args:
      setup: the setup of the run.
      ts: shapes of its train state.
      samples: data whose labels are looked at, by the name of the argument they were passed as.
      like: shapes of the data.

    Returns:
      Whether the objective has a convolution that is slow in a compiled loop (`has_convolution`), and
      what it refuses of the values of labels, by the name of the samples.
    """
    if not setup.is_supervised:
        key = key_of("plan", setup.key, _shape_key(like))
        return bool(kept(key, lambda: has_convolution(plan(setup.objective, ts, like)), ts)), {}
    slow, bounds = False, dict[str, Bounds]()
    for name, sample in samples.items():
        slow_here, bounds[name] = rehearsed(setup.objective, setup.key, ts, sample, name)
        slow |= slow_here
    if (loss := setup.options["loss"]) is not None:
        checked = functools.partial(check_program, setup.model, loss, ts.params, ts.state, *like[:2])
        kept(key_of("ends", setup.key, _shape_key(like)), checked, ts)
    return slow, bounds


def check_statistics(setup: Setup, ts: TrainState, like: PyTree) -> None:
    """Refuse batches of one row if batch norms would take statistics of one value, which are all zeros.

    A last batch that happens to have one row is taken (`jaxdeep.nn.batch_norm`).

    Args:
      setup: the setup of the run.
      ts: shapes of its train state.
      like: shapes of the data.
    """
    options, model = setup.options, setup.model
    size, steps = options["batch_size"], options["accumulation_steps"]
    if size > steps or not setup.is_supervised or not isinstance(model, Model):
        return
    frozen = frozen_of(options).get("trainable")
    trainable = None if frozen is None else mask(ts.params, frozen)
    norms = norms_of_one_value(model, ts.params, ts.state, with_rows(like[0], 1), trainable)
    if norms:
        of_parts = f" in each of {steps} micro-batches (accumulation_steps={steps})" if steps > 1 else ""
        raise ValueError(
            f"batch_size={size} leaves one row{of_parts}, of which batch norms ({', '.join(norms)}) "
            "have one value a feature: less its mean it is 0. Take larger batches, or group_norm or "
            "layer_norm, or freeze them"
        )


def trial(setup: Setup, ts: TrainState) -> Callable[[PyTree, str], object]:
    """A function of a batch and the name of its data that refuses what the objective does not take."""
    if not setup.is_supervised:
        return lambda batch, name: plan(setup.objective, ts, shapes(batch))
    return functools.partial(rehearse, setup.objective, ts)


def _shape_key(tree: PyTree) -> tuple[Hashable, ...]:
    leaves, structure = jax.tree.flatten(tree)
    return str(structure), *((leaf.shape, str(leaf.dtype)) for leaf in leaves)
