"""What a point of a sweep is trained with: the arguments of `jaxdeep.fit`, put together and checked."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jaxdeep.search.space import Point
from jaxdeep.train.data import count_examples
from jaxdeep.train.epoch import check_batch_size
from jaxdeep.train.objective import check_minimised, check_pair, rehearse, supervised
from jaxdeep.train.run import Program, RunState, make_program
from jaxdeep.train.state import TrainState, init, only
from jaxdeep.train.step import check_optimizer

PyTree = Any

_SUPERVISED = ("loss", "metrics", "penalty", "activity", "class_weight")
_DEFAULTS: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 32,
    "shuffle": True,
    "drop_remainder": False,
    "accumulation_steps": 1,
    "augment": None,
    "ema": False,
    "early_stopping": None,
    "plateau": None,
    "validate_every": 1,
    "on_nonfinite": "raise",
    "trainable": None,
}
_FIT = ("model", "optimizer", "objective", *_SUPERVISED, *_DEFAULTS, "freeze_batch_norm")


class Setup(NamedTuple):
    """What a point is trained with.

    Attributes:
      model, optimizer, objective: as for `jaxdeep.fit`.
      pairs: whether the data are ``(x, y)``.
      options: the other arguments of `jaxdeep.train.run.make_program`.
    """

    model: Any
    optimizer: Any
    objective: Any
    pairs: bool
    options: dict[str, Any]

    @property
    def epochs(self) -> int:
        """Epochs of the run, at most."""
        epochs: int = self.options["epochs"]
        return epochs

    @property
    def restores(self) -> bool:
        """Whether the run ends with the parameters of its best epoch."""
        early = self.options["early_stopping"]
        return early is not None and early.restore_best

    @property
    def averages(self) -> bool:
        """Whether the run ends with an average that is in the optimizer's state."""
        ema: bool = self.options["ema"]
        return ema

    def program(self) -> Program:
        """The run in parts; where `fit` would raise, it ends."""
        stop = {"on_nonfinite": "stop"} if self.options["on_nonfinite"] == "raise" else {}
        return make_program(self.objective, self.optimizer, **self.options | stop)

    def start(self, data: PyTree, key: Any) -> TrainState:
        """A fresh train state, for data of these shapes."""
        inputs = data[0] if self.pairs else jax.tree.leaves(data)[0]
        # its shape alone: rows of the data would become a constant of the program
        row = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), inputs)
        return init(self.model, self.optimizer, row, key=key)


class Builder:
    """Makes the `Setup` of a point.

    What the user's function does not give is the same object in each, which tells `same_program` where
    not to look.

    >>> import jaxdeep as jd
    >>> build = Builder(lambda hp: jd.optimizers.sgd(hp["rate"]),
    ...                 {"model": jd.nn.dense(1), "loss": jd.losses.mse})
    >>> build({"rate": 0.1}).objective is build({"rate": 0.2}).objective
    True
    """

    def __init__(self, function: Callable[[dict[str, Any]], Any], arguments: Mapping[str, Any]) -> None:
        _check_names(arguments)
        self.function, self.arguments = function, dict(arguments)
        self._objective: Any = None

    def __call__(self, point: Point) -> Setup:
        """The setup of a point.

        Raises:
          TypeError, ValueError: an unknown argument, no model or optimizer, neither or both of loss and
            objective.
        """
        built = self.function(dict(point))
        built = dict(built) if isinstance(built, Mapping) else {"optimizer": built}
        given = self.arguments | built
        _check_names(given)
        model, optimizer, objective = (given.get(n) for n in ("model", "optimizer", "objective"))
        if model is None or optimizer is None:
            raise ValueError("sweep needs a model= and an optimizer from the builder")
        check_optimizer(optimizer)
        minimised = {n: given[n] for n in _SUPERVISED if given.get(n) is not None}
        check_minimised("sweep", objective, minimised)
        options = _DEFAULTS | {n: given[n] for n in _DEFAULTS if n in given}
        trainable = options["trainable"]
        if pairs := objective is None:
            frozen = {"trainable": trainable} if given.get("freeze_batch_norm", True) else {}
            objective = supervised(model, **minimised, **frozen)
            if not set(built) & {"model", *_SUPERVISED, "trainable", "freeze_batch_norm"}:
                objective = self._objective = self._objective or objective
        return Setup(model, only(optimizer, trainable), objective, pairs, options)


def _check_names(arguments: Mapping[str, Any]) -> None:
    unknown = set(arguments) - set(_FIT)
    if unknown:
        raise TypeError(f"unknown arguments {sorted(unknown)}; there are {', '.join(_FIT)}")


def check_data(setup: Setup, data: PyTree, validation: PyTree) -> RunState:
    """Refuse what `jaxdeep.fit` refuses; the shapes of the run as it starts."""
    check_batch_size(setup.options["batch_size"], count_examples(data))
    if setup.pairs:
        check_pair(data, "data")
    ts = jax.eval_shape(lambda key: setup.start(data, key), jax.random.key(0))
    for name, given in (("data", data), ("validation", validation)) if setup.pairs else ():
        if given is not None:
            check_pair(given, name)
            rehearse(setup.objective, ts, given, name)
    run: RunState = jax.eval_shape(setup.program().start, ts, data, validation)
    return run
