"""Optimizers are equal by description: the same factory with the same static arguments.

``adam(0.1).update == adam(0.2).update``: the learning rate is in the state, so both are one program.
Their ``init`` differ, because a compiled ``init`` holds its numbers; `numbers_of` and
`init_with_numbers` take them out, so that one compiled ``init`` serves both.
"""

import contextvars
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import optax
from jax.typing import ArrayLike

from jaxdeep import _checks
from jaxdeep._identity import Key, key_of
from jaxdeep._shapes import PyTree
from jaxdeep.optimizers.scalars import Hyper, initial_numbers, initial_scalars


@dataclass(frozen=True, eq=False, repr=False)
class Described:
    """``function(*settings, …)``, equal to any other with the same function and equal settings.

    Attributes:
      function: a function of a module, never one that is made anew.
      settings: its first arguments. Flags, names and dtypes are compared; numbers of hyperparameters are
        not, as they are in the optimizer's state.

    >>> import jaxdeep as jd
    >>> adam = jd.optimizers.adam
    >>> adam(0.1).update == adam(0.2).update, adam(0.1).update == adam(0.1, mu_dtype="bfloat16").update
    (True, False)
    """

    function: Callable[..., PyTree]
    settings: tuple[object, ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function with its settings first."""
        return self.function(*self.settings, *args, **kwargs)

    def _identity_(self) -> object:
        return self.function, self.settings

    @functools.cached_property
    def _key(self) -> Key:
        return key_of(self, numbers=True)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Described) and self._key == other._key)

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<{self.function.__module__}.{self.function.__qualname__}>"


@dataclass(frozen=True, eq=False, repr=False)
class Init(Described):
    """The ``init`` of a transformation: ``function(*settings, scalars, params)``.

    Attributes:
      hypers: the hyperparameters whose `Scalars` it is passed. Here their numbers count: two are equal
        only if the numbers are. A value outside its interval is refused.

    >>> import jaxdeep as jd
    >>> jd.optimizers.sgd(0.1).init == jd.optimizers.sgd(0.2).init
    False
    >>> jd.optimizers.sgd(0.1).init.numbers()
    {'learning_rate': 0.1}
    """

    hypers: Mapping[str, Hyper]

    def __post_init__(self) -> None:
        for name, hyper in self.hypers.items():
            _checks.check_hyperparameter(name, hyper.value, hyper.interval, schedule=True)

    def __call__(self, params: PyTree) -> PyTree:
        """A new state that starts from the numbers of the factory's arguments."""
        return self.with_numbers(params, _replacements.get().get(id(self)) or self.numbers())

    def numbers(self) -> dict[str, float]:
        """The numbers that a new state starts from, as Python floats."""
        return initial_numbers(self.hypers)

    def with_numbers(self, params: PyTree, numbers: Mapping[str, ArrayLike]) -> PyTree:
        """A new state that starts from these `numbers`, which may be traced."""
        return self.function(*self.settings, initial_scalars(self.hypers, numbers), params)

    def _identity_(self) -> object:
        return self._program_identity_(), self.numbers()

    def _program_identity_(self) -> object:
        """The same for a compiled program, which is given the numbers as arguments."""
        return self.function, self.settings, self.hypers


# --- numbers as arguments ---------------------------------------------------------------------------

# Optax's `chain` and wrappers call the `init` that they were made with and pass nothing on, so what
# `init_with_numbers` puts in place of an `Init`'s numbers cannot reach it as an argument. Only
# `init_with_numbers` sets this, and only while it runs.
_replacements: contextvars.ContextVar[Mapping[int, Mapping[str, ArrayLike]]] = contextvars.ContextVar(
    "_replacements", default=types.MappingProxyType({})
)


def numbers_of(tx: optax.GradientTransformation) -> dict[str, dict[str, float]]:
    """The numbers of every jaxdeep transformation inside `tx`, by where it is.

    They are what differs between the initial states of optimizers with equal settings, and can be
    arguments of a compiled program: `init_with_numbers`.

    Args:
      tx: any optax transformation, or a pair of ``init`` and ``update``. Transformations are found in
        what functions close over, in partial functions, methods, tuples, lists and dicts.

    Returns:
      Python floats by name, by place. A transformation that is used in several places comes once, and
      the places are named together, so that the structure says which are one.

    >>> import optax, jaxdeep as jd
    >>> numbers_of(optax.chain(optax.clip(1.0), jd.optimizers.sgd(0.1)))
    {'init_fns/1': {'learning_rate': 0.1}}
    """
    return {place: init.numbers() for place, init in _inits(tx).items()}


def program_key(tx: optax.GradientTransformation | Callable[..., object]) -> Key:
    """The key of a program that begins by `init_with_numbers` and goes on by ``tx.update``.

    Or of one that calls a function, which makes the transformation. Numbers that are not its arguments
    count: of an optimizer that an update begins anew, as SAM does.

    >>> import optax, jaxdeep as jd
    >>> sgd, masked = jd.optimizers.sgd, lambda tx: optax.masked(tx, {"a": True})
    >>> program_key(masked(sgd(0.1))) == program_key(masked(sgd(0.2)))
    True
    >>> sam = lambda rho: optax.contrib.sam(sgd(0.1), sgd(rho), opaque_mode=True)
    >>> program_key(sam(0.1)) == program_key(sam(0.2))
    False
    """
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        return key_of(tx)
    arguments = frozenset(id(init) for init in _inits(tx).values())
    return key_of(key_of(tx.init, arguments=arguments), tx.update)


def init_with_numbers(
    tx: optax.GradientTransformation, params: PyTree, numbers: Mapping[str, Mapping[str, ArrayLike]]
) -> PyTree:
    """``tx.init(params)`` with these `numbers` in place of those that `tx` was made with.

    Args:
      tx: any optax transformation, or a pair of ``init`` and ``update``.
      params: the parameters.
      numbers: as `numbers_of` gives them, of `tx` itself or of a transformation that differs from it in
        numbers alone; they may be traced.

    Raises:
      ValueError: numbers of a transformation that is made in another way.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> tx, other = jd.optimizers.sgd(0.1), jd.optimizers.sgd(0.5)
    >>> init = jax.jit(lambda params, numbers: init_with_numbers(tx, params, numbers))
    >>> float(init(jnp.ones(2), numbers_of(other)).hyperparams["learning_rate"])
    0.5
    """
    inits = _inits(tx)
    names = {place: set(init.numbers()) for place, init in inits.items()}
    if names != {place: set(values) for place, values in numbers.items()}:
        raise ValueError(
            f"numbers must be those of an optimizer like this one, by {names}, got {dict(numbers)}"
        )
    token = _replacements.set({id(init): numbers[place] for place, init in inits.items()})
    try:
        return tx.init(params)
    finally:
        _replacements.reset(token)


def _inits(tx: optax.GradientTransformation) -> dict[str, Init]:
    """Every `Init` that ``tx.init`` is made of, by its places."""
    places: dict[int, list[str]] = {}
    inits: dict[int, Init] = {}
    for place, init in _found(tx.init, "", ()):
        places.setdefault(id(init), []).append(place)
        inits[id(init)] = init
    return {" = ".join(places[key]): init for key, init in inits.items()}


def _found(value: object, place: str, above: tuple[int, ...]) -> Iterator[tuple[str, Init]]:
    if id(value) in above:  # a function that refers to itself
        return
    if isinstance(value, Init):
        yield place, value
    for name, part in parts(value):
        yield from _found(part, f"{place}/{name}" if place else name, (*above, id(value)))


def parts(value: object) -> Iterator[tuple[str, object]]:
    """What a value is made of, by name, as far as a transformation can be in it.

    A function under `jax.jit` is not looked into: its traces hold the numbers that it was traced with.
    """
    if isinstance(value, Described):
        yield from parts(value.settings)
    elif isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or ()):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not filled yet
                continue
        yield from parts(value.__defaults__ or ())
        yield from parts(value.__kwdefaults__ or {})
    elif isinstance(value, functools.partial):
        yield "func", value.func
        yield from parts(value.args)
        yield from parts(value.keywords)
    elif isinstance(value, types.MethodType):
        yield "func", value.__func__
        yield from parts(getattr(value.__self__, "__dict__", {}))
    elif isinstance(value, optax.GradientTransformation):
        yield "init", value.init
    elif isinstance(value, Mapping):
        yield from ((repr(name), part) for name, part in value.items())
    elif isinstance(value, (tuple, list)):
        yield from ((str(index), part) for index, part in enumerate(value))
