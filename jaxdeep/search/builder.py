"""`Builder`, which makes the setup of a point of a sweep, and the checks of its data."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from jaxdeep._compilation import closes_over_traced, refuse_traced
from jaxdeep._shapes import PyTree
from jaxdeep.fitting.holdout import check_unseen
from jaxdeep.fitting.setup import Setup, check_statistics, make_setup, try_out
from jaxdeep.search.spaces.space import Point
from jaxdeep.train.data import check_batch_size, check_pair, check_weights, count_examples
from jaxdeep.train.objective import Objective
from jaxdeep.train.options import SUPERVISED, RowOptions, TrialOptions, check_names, filled, options_of
from jaxdeep.train.run import RunState
from jaxdeep.train.state import TrainState
from jaxdeep.train.weights import Table, by_class, is_balanced
from jaxdeep.tree import shapes

PURE = "jax.vmap over jaxdeep.train.init and jaxdeep.train.make_run"
_OPTIONS = options_of(TrialOptions)
_ARGUMENTS = options_of(RowOptions)
_OF_THE_OBJECTIVE = {"model", *SUPERVISED, "trainable", "freeze_batch_norm"}


# From a point to an optimizer, or to arguments of fit.
Build = Callable[[dict[str, Any]], optax.GradientTransformation | Mapping[str, Any]]


class Told(NamedTuple):
    """What is known of a point.

    Attributes:
      arguments: those of `jaxdeep.fit`.
      shared: whether its objective is that of all points.
      balanced: whether the weights of classes are those of the rows that it is trained on.
    """

    arguments: dict[str, Any]
    shared: bool
    balanced: bool


class Builder:
    """Makes the `Setup` of a point from the user's builder and the arguments of all rows.

    An objective that does not depend on the point is the same object in each setup, so that the setups
    can share a program.

    Args:
      function: the user's builder.
      arguments: those of all rows.
      caller, known: the name of the public function and of all that it takes, for errors.

    >>> import jaxdeep as jd
    >>> build = Builder(lambda hp: jd.optimizers.sgd(hp["rate"]),
    ...                 {"model": jd.nn.dense(1), "loss": jd.losses.mse})
    >>> build({"rate": 0.1}).objective is build({"rate": 0.2}).objective
    True
    """

    def __init__(
        self,
        function: Build,
        arguments: Mapping[str, Any],
        caller: str = "sweep",
        known: Iterable[str] = _ARGUMENTS,
    ) -> None:
        check_names(caller, [name for name in arguments if name not in _ARGUMENTS], known)
        self.function, self.arguments, self.caller = function, dict(arguments), caller
        self.balance: Callable[[], Table] | None = None  # the weights of classes in all of the data
        self.held_out: tuple[str, object] | None = None  # the argument by which rows are, and its value
        self._objective: Objective | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The fields to be pickled: a copy in another process makes its own objective."""
        return {**self.__dict__, "_objective": None, "balance": None}

    def __call__(self, point: Point, table: Table | None = None) -> Setup:
        """The setup of a point, with these balanced weights of classes, if it has such.

        Raises:
          TypeError, ValueError: as for `told` and `setup`.
        """
        return self.setup(self.told(point), table)

    def holds_out(self, part: str, share: object) -> None:
        """From now on refuse models that have seen the targets of all rows, as `check_unseen` does."""
        self.held_out = part, share

    def told(self, point: Point) -> Told:
        """What the user's builder says of a point.

        Raises:
          TypeError, ValueError: an unknown argument, a validation set.
        """
        try:
            built = self.function(dict(point))
        except Exception as error:
            names = ", ".join(map(repr, point)) or "no names"
            error.add_note(f"This was raised by the builder, given a point with {names}.")
            raise
        built = dict(built) if isinstance(built, Mapping) else {"optimizer": built}
        arguments = self.arguments | built
        check_names(self.caller, arguments, _ARGUMENTS)
        if "validation" in built:
            raise ValueError(
                f"validation must be the same for all rows: it is an argument of {self.caller}, and the "
                "builder cannot give it"
            )
        balanced = arguments.get("objective") is None and is_balanced(arguments.get("class_weight"))
        alike = not set(built) & _OF_THE_OBJECTIVE and arguments.get("objective") is None
        return Told(arguments, alike and not balanced, balanced)

    def setup(self, told: Told, table: Table | None = None) -> Setup:
        """The setup of what is known of a point; without a `table` weights are those of all of the data.

        Raises:
          TypeError, ValueError: no model or optimizer, neither or both of loss and objective, a model
            that has seen the targets of rows that were held out.
        """
        arguments, shared = dict(told.arguments), told.shared
        if told.balanced and table is None and self.balance is not None:
            table = self.balance()
        if told.balanced and table is not None:
            arguments["class_weight"] = by_class(table)
        model, optimizer = arguments.pop("model", None), arguments.pop("optimizer", None)
        if model is None or optimizer is None:
            raise ValueError(f"{self.caller} needs a model= and an optimizer from the builder")
        if self.held_out is not None:
            check_unseen(model, *self.held_out)
        options = filled(self.caller, TrialOptions, arguments)
        setup = make_setup(self.caller, model, optimizer, options, self._objective if shared else None)
        if shared:
            self._objective = setup.objective
        return dataclasses.replace(setup, least_room=1)  # a sweep holds many histories


def check_data(
    setup: Setup,
    data: PyTree,
    validation: PyTree,
    caller: str = "sweep",
    key: jax.Array | None = None,
) -> RunState:
    """Refuse what `jaxdeep.fit` refuses, and return the shapes of the run before its first epoch."""
    check_batch_size(setup.options["batch_size"], count_examples(data))
    samples = {"data": data} | ({} if validation is None else {"validation": validation})
    for name, sample in samples.items() if setup.is_supervised else ():
        check_pair(sample, name)
    key = jax.random.key(0) if key is None else key
    # The same trace serves `eval_shape` and `closes_over_traced`.
    begin = jax.jit(lambda key: setup.begin(shapes(data), key))
    ts = begin.eval_shape(key)
    if closes_over_traced(begin, key):
        refuse_traced(caller, instead=PURE)
    check_values(setup, ts, data, validation)
    return jax.eval_shape(setup.program.start, ts, data, validation, setup.limits)


def check_values(setup: Setup, ts: TrainState, data: PyTree, validation: PyTree) -> None:
    """Refuse labels and weights that `jaxdeep.fit` refuses.

    Args:
      setup: the setup of the run.
      ts: shapes of its train state.
      data, validation: of shapes that fit.
    """
    if not setup.is_supervised:
        return
    samples = {"data": data} | ({} if validation is None else {"validation": validation})
    for name, sample in samples.items():
        check_weights(sample, name)
    try_out(setup, ts, samples, data)
    check_statistics(setup, ts, data)
