"""Hyperparameters: numbers that live in an optimizer's state, and values that drive it from outside."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jaxdeep import _checks
from jaxdeep._shapes import Array, Arrays
from jaxdeep.schedules.steps import value_of

if TYPE_CHECKING:
    Numeric: TypeAlias = ArrayLike | Callable[[Array], ArrayLike]  # a number, a scalar array, a schedule
else:
    Numeric = Any  # which is shorter in help()

DECAY = "[0, 1)"  # the interval of decay rates, whose complements matter
NOT_NEGATIVE = "[0, inf)"
POSITIVE = "(0, inf)"
SHARE = "[0, 1]"
# Suffixes of keys, so that a name is in a state once (`optax.tree_utils.tree_get` wants that): what
# rounding lost, and the value of an array, which `optax.inject_hyperparams` keeps under the name itself.
ROUNDING, GIVEN = "_rounding", "_given"


class Hyper(NamedTuple):
    """A hyperparameter: what it was given as, and the interval it must lie in."""

    value: Numeric
    interval: str

    def _identity_(self) -> object:
        return self.interval, "stays" if self.stays else self.value

    @property
    def stays(self) -> bool:
        """Whether the state keeps the value (a number), or it is driven from outside at every update."""
        return not callable(self.value) and not isinstance(self.value, jax.Array)


def within(interval: str, **values: Numeric) -> dict[str, Hyper]:
    """Hyperparameters by name, all of them with values in the same interval."""
    return {name: Hyper(value, interval) for name, value in values.items()}


class Scalar(NamedTuple):
    """A hyperparameter in force, and its complement 1 − value.

    float32 keeps 0.999 to 6e-8, which would leave 1 − 0.999 with a relative error of 1e-5; a
    complement taken from the Python float has none.
    """

    value: Array
    complement: Array


class Scalars(NamedTuple):
    """The scalars of a state, as in `TransformState`."""

    hyperparams: Arrays
    driven: Arrays
    rounding: Arrays


def initial_numbers(hypers: Mapping[str, Hyper]) -> dict[str, float]:
    """The numbers that a new state starts from: hyperparameters, and what rounding takes off them.

    >>> sorted(initial_numbers({"decay": Hyper(0.5, DECAY), "eps": Hyper(1, NOT_NEGATIVE)}).items())
    [('decay', 0.5), ('decay_rounding', 0.0), ('eps', 1.0)]
    """
    dtype = jnp.result_type(float)
    numbers = {
        name: float(hyper.value)  # type: ignore[arg-type]  # a number, for it stays
        for name, hyper in hypers.items()
        if hyper.stays
    }
    rounding = {
        name + ROUNDING: float(lost(number, dtype))
        for name, number in numbers.items()
        if hypers[name].interval == DECAY
    }
    return numbers | rounding


def initial_scalars(hypers: Mapping[str, Hyper], numbers: Mapping[str, ArrayLike]) -> Scalars:
    """The scalars of a new state, from its `initial_numbers` or traced values in their place."""
    dtype = jnp.result_type(float)
    hyperparams = {name: jnp.asarray(numbers[name], dtype) for name in hypers if name in numbers}
    rounding = {name: jnp.asarray(value, dtype) for name, value in numbers.items() if name not in hypers}
    driven = drive(hypers, jnp.zeros((), jnp.int32))
    for name, value in driven.items():
        if name in hypers:
            _check_value(name, value, hypers[name])
    return Scalars(hyperparams, driven, rounding)


def drive(hypers: Mapping[str, Hyper], step: Array) -> Arrays:
    """Values of the driven hyperparameters at `step`."""
    dtype = jnp.result_type(float)
    values = {}
    for name, hyper in hypers.items():
        if not hyper.stays:
            value = hyper.value
            if callable(value):
                value = value_of(f"the schedule of {name}", value, step)
                if not isinstance(value, jax.Array):  # is the same at every step
                    _check_value(name, value, hyper)
            if jnp.shape(value) != ():
                raise ValueError(
                    f"the schedule of {name} must return a scalar, got shape {jnp.shape(value)}"
                )
            # a copy: the state may be donated, the caller's array may not
            values[name if callable(hyper.value) else name + GIVEN] = jnp.array(value, dtype)
    return values


def _check_value(name: str, value: ArrayLike, hyper: Hyper) -> None:
    """Refuse a value of a schedule, if it is known, that may not be."""
    if jnp.shape(value) == ():
        _checks.check_scalar(f"the value of the schedule of {name}", value, hyper.interval)


def lost(value: ArrayLike, dtype: DTypeLike) -> np.ndarray:
    """What a number, or an array of them, loses when it is rounded to `dtype`."""
    exact = np.asarray(value, np.float64)
    return exact - exact.astype(dtype).astype(np.float64)


def driven_values(driven: Mapping[str, Array]) -> Arrays:
    """`TransformState.driven` by the names of the hyperparameters."""
    return {name.removesuffix(GIVEN): value for name, value in driven.items()}


def scalars_in_force(hyperparams: Arrays, rounding: Arrays, driven: Arrays) -> dict[str, Scalar]:
    """Every hyperparameter of a state with its complement."""
    scalars = {name: Scalar(value, 1 - value) for name, value in driven_values(driven).items()}
    for name, value in hyperparams.items():
        complement = 1 - value
        if name + ROUNDING in rounding:
            complement = complement - rounding[name + ROUNDING]
        scalars[name] = Scalar(value, complement)
    return scalars
