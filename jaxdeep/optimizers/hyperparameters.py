"""Reading and editing the hyperparameters of an optimizer's state."""

import collections
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import KeyPath
from jax.typing import ArrayLike

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves
from jaxdeep._calls import remembered
from jaxdeep._precision import overflows
from jaxdeep._shapes import Arrays, PyTree
from jaxdeep.optimizers import plateau
from jaxdeep.optimizers.guards import EmaState
from jaxdeep.optimizers.identity import Described, Init
from jaxdeep.optimizers.plateau import PlateauState
from jaxdeep.optimizers.scalars import (
    DECAY,
    GIVEN,
    NOT_NEGATIVE,
    POSITIVE,
    ROUNDING,
    SHARE,
    Hyper,
    Scalars,
    driven_values,
    lost,
)
from jaxdeep.optimizers.slow import STEP_SIZE
from jaxdeep.optimizers.transform import Transform, TransformState, update_of
from jaxdeep.tree import path_name

State: TypeAlias = TransformState | EmaState | PlateauState  # of what has hyperparameters


def hyperparams(opt_state: PyTree) -> Arrays:
    """The hyperparameters in force, by name, of every transformation in a state that keeps them there.

    Those of jaxdeep all do, and in others `optax.inject_hyperparams` keeps the numbers and schedules.

    Those that a schedule or an array drives have the value that the last update used, and before the
    first update the value that it is going to use. States are found inside `optax.chain`, masks and
    other wrappers. A name that occurs more than once is told apart by the place of its transformation:
    ``"0/learning_rate"``, ``"1/learning_rate"``. Without `optax.inject_hyperparams` optax's own
    transformations keep theirs in closures, where they cannot be read.

    Args:
      opt_state: the state of any optax optimizer.

    Returns:
      Scalar arrays by name.

    Raises:
      TypeError: what is no state of an optimizer: None, text, a function.

    >>> import optax, jaxdeep as jd
    >>> tx = optax.chain(jd.optimizers.clip_by_global_norm(1.0), jd.optimizers.sgd(0.1, momentum=0.9))
    >>> {name: round(float(value), 4) for name, value in hyperparams(tx.init(0.0)).items()}
    {'learning_rate': 0.1, 'max_norm': 1.0, 'momentum': 0.9}
    """
    _check_state(opt_state)
    return {
        name: _values_of(entry.state)[entry.name] for name, entry in sorted(_named(opt_state).items())
    }


def recorded(opt_state: PyTree) -> Arrays:
    """The hyperparameters that the history of a run holds: rate and momentum, and what schedules drive.

    >>> import jaxdeep as jd
    >>> sorted(recorded(jd.optimizers.adamw(0.1, weight_decay=lambda step: 0.1 / (1 + step)).init(0.0)))
    ['learning_rate', 'weight_decay']
    """
    named, values = _named(opt_state), hyperparams(opt_state)
    return {
        name: value
        for name, value in values.items()
        if named[name].name in RECORDED or _is_scheduled(named[name])
    }


def constants(opt_state: PyTree) -> Arrays:
    """The numbers that a state holds and nothing drives, by name.

    These are `hyperparams` without those of schedules and arrays, and behind `INJECTED` those that
    `optax.inject_hyperparams` keeps.

    >>> import optax, jaxdeep as jd
    >>> sorted(constants(jd.optimizers.sgd(lambda step: 0.1, momentum=0.9).init(0.0)))
    ['momentum']
    >>> sorted(constants(optax.inject_hyperparams(optax.sgd)(0.1).init(0.0)))
    ['of optax.inject_hyperparams: learning_rate']
    """
    named = _named(opt_state)
    ours = {
        name: entry.state.hyperparams[entry.name]
        for name, entry in sorted(named.items())
        if _is_ours(entry.state) and entry.name in entry.state.hyperparams
    }
    return ours | {
        INJECTED + name: value for name, value in sorted(_injected_numbers(opt_state).items())
    }


INJECTED = "of optax.inject_hyperparams: "


def _injected_numbers(opt_state: PyTree) -> Arrays:
    """The numbers of `optax.inject_hyperparams` at any depth, by path, without what schedules drive."""
    return {
        "/".join(filter(None, (place, name))): value
        for place, node, _ in _holders(opt_state)
        if _is_injecting(node)
        for name, value in node.hyperparams.items()
        if name not in node.hyperparams_states and isinstance(value, jax.Array)
    }


def _holders(
    opt_state: PyTree, place: str = "", around: tuple[Any, ...] = ()
) -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """The states that hold hyperparameters, with their places and the injecting ones around them.

    Those around others come in front of them.
    """
    leaves = jax.tree_util.tree_leaves_with_path(opt_state, is_leaf=_holds)
    for path, node in leaves:
        here = "/".join(filter(None, (place, path_name(path))))
        if _holds(node):
            yield here, node, around
        if _is_injecting(node):
            inside = "/".join(filter(None, (here, "inner_state")))
            yield from _holders(node.inner_state, inside, (*around, node))


def _holds(node: object) -> bool:
    return _is_ours(node) or _is_injecting(node)


def injected(opt_state: PyTree) -> set[str]:
    """The names in `hyperparams` of those of `optax.inject_hyperparams`."""
    return {name for name, entry in _named(opt_state).items() if _is_injecting(entry.state)}


def _is_injecting(node: object) -> TypeGuard[Any]:
    return isinstance(node, optax.InjectStatefulHyperparamsState)


def undriven(opt_state: PyTree, name: str) -> PyTree:
    """A state in which what drives this hyperparameter no longer does, so that it can be set, and stays.

    It is a number in the state, which goes before the schedule.

    >>> import jaxdeep as jd
    >>> tx = jd.optimizers.sgd(lambda step: 1.0 / (1 + step))
    >>> state = set_hyperparams(undriven(tx.init(0.0), "learning_rate"), learning_rate=0.25)
    >>> updates, state = tx.update(1.0, state)
    >>> float(updates), float(hyperparams(state)["learning_rate"])
    (-0.25, 0.25)
    """

    def edit(node: PyTree) -> PyTree:
        if not _is_ours(node) or name not in driven_values(node.driven):
            return node
        held = {name: driven_values(node.driven)[name]}
        return node._replace(hyperparams=held | node.hyperparams)

    return jax.tree.map(edit, opt_state, is_leaf=_is_ours)


@remembered
def at_learning_rate(optimizer: optax.GradientTransformation, learning_rate: ArrayLike) -> Transform:
    """An optimizer that begins with another learning rate and stays at it, whatever schedule it has.

    It updates as `optimizer` does; its state holds the rate, which goes before that of the schedule,
    in every transformation of a chain that has one. A phase of `jaxdeep.fit` with a rate
    (`jaxdeep.train.Phase`) trains with this.

    Args:
      optimizer: any optax transformation with a `learning_rate` in its state, as those of jaxdeep have,
        and as a number `optax.inject_hyperparams` around others.
      learning_rate: η ≥ 0, a number or a scalar array.

    Raises:
      TypeError: not an optax transformation, a schedule.
      ValueError: η < 0; at `init`, a state without a learning rate.

    >>> import jaxdeep as jd
    >>> scheduled = jd.optimizers.sgd(jd.schedules.cosine(0.1, 100))
    >>> tx = at_learning_rate(scheduled, 0.5)
    >>> updates, state = tx.update(1.0, tx.init(0.0))
    >>> float(updates), float(hyperparams(state)["learning_rate"])
    (-0.5, 0.5)
    """
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise TypeError(f"optimizer must be an optax transformation, got {optimizer!r}")
    _checks.check_hyperparameter("learning_rate", learning_rate, NOT_NEGATIVE)
    init = Init(_init_at_rate, (optimizer,), {"learning_rate": Hyper(learning_rate, NOT_NEGATIVE)})
    # an update of its own, for by the update it is known how something was made
    update = Described(_update_at_rate, (update_of(optimizer),))
    return optax.GradientTransformationExtraArgs(init, update)


def _update_at_rate(
    update: Callable[..., tuple[PyTree, PyTree]], *args: PyTree, **extra: object
) -> tuple[PyTree, PyTree]:
    return update(*args, **extra)


def _init_at_rate(optimizer: optax.GradientTransformation, scalars: Scalars, params: PyTree) -> PyTree:
    state = undriven(optimizer.init(params), "learning_rate")
    names = [name for name in hyperparams(state) if name.split("/")[-1] == "learning_rate"]
    if not names:
        raise ValueError(
            "learning_rate needs an optimizer of jaxdeep, or optax.inject_hyperparams around another, "
            "with a learning_rate in its state; others are made with it (phases= take a function from "
            "the rate to an optimizer)"
        )
    rate = (driven_values(scalars.driven) | scalars.hyperparams)["learning_rate"]
    return set_hyperparams(state, **dict.fromkeys(names, rate))


RECORDED = ("learning_rate", "momentum")  # whether they change or not


def set_hyperparams(opt_state: PyTree, **values: ArrayLike) -> PyTree:
    """The same state with other hyperparameters; nothing retraces.

    Args:
      opt_state: the state of any optax optimizer.
      **values: new values by name, as `hyperparams` gives them:
        ``set_hyperparams(state, learning_rate=0.01)``, or ``**{"1/learning_rate": 0.01}``.

    Returns:
      A new state of the same structure, shapes and dtypes.

    Raises:
      ValueError: an unknown or ambiguous name, a value out of range or of another shape, or a
        hyperparameter that a schedule or an array drives. What `optax.inject_hyperparams` keeps may be
        any number.
      TypeError: a value that is not a number.

    >>> import jaxdeep as jd
    >>> state = jd.optimizers.adam(0.1).init(0.0)
    >>> round(float(hyperparams(set_hyperparams(state, learning_rate=0.01))["learning_rate"]), 4)
    0.01
    >>> set_hyperparams(state, lr=0.01)
    Traceback (most recent call last):
        ...
    ValueError: no hyperparameter 'lr'; there are b1, b2, eps, eps_root, learning_rate
    """
    _check_state(opt_state)
    known = _named(opt_state)
    edits: dict[str, dict[str, ArrayLike]] = collections.defaultdict(dict)
    for name, value in values.items():
        if name not in known:
            raise ValueError(
                f"no hyperparameter {name!r}; there are "
                f"{', '.join(sorted(known)) or 'none in opt_state'}"
            )
        entry = known[name]
        if _is_driven(entry):
            raise ValueError(
                f"{name} is driven by a schedule or an array and would be overwritten; make the "
                "optimizer with a number to set it"
            )
        old = _values_of(entry.state)[entry.name]
        if np.ndim(value) and np.shape(value) != old.shape:
            raise ValueError(
                f"{name} must be a scalar or have shape {old.shape}, got shape {np.shape(value)}"
            )
        several = np.ndim(value) and not isinstance(value, jax.core.Tracer)
        for scalar in np.ravel(np.asarray(value)) if several else [value]:
            _checks.check_hyperparameter(name, scalar, _interval(entry.state, entry.name))
            number = _checks.known_value(scalar)
            if number is not None and overflows(number, old.dtype):
                raise ValueError(f"{name} must be finite in {old.dtype}, got {scalar!r}")
        edits[entry.place][entry.name] = value

    def edit(tree: PyTree, place: str = "") -> PyTree:
        def at(path: KeyPath, node: PyTree) -> PyTree:
            here = "/".join(filter(None, (place, path_name(path))))
            if _is_injecting(node):
                old = _values_of(node)
                new = {name: _like(old[name], value) for name, value in edits[here].items()}
                inner = edit(node.inner_state, "/".join(filter(None, (here, "inner_state"))))
                return node._replace(hyperparams=node.hyperparams | new, inner_state=inner)
            return _edited(node, edits[here]) if _is_ours(node) else node

        return jax.tree_util.tree_map_with_path(at, tree, is_leaf=_holds)

    return edit(opt_state)


def _edited(node: State, values: Mapping[str, ArrayLike]) -> State:
    """A state of jaxdeep with other values of some of its hyperparameters."""
    for name, value in values.items():
        old = node.hyperparams[name]
        node = node._replace(hyperparams=node.hyperparams | {name: _like(old, value)})
        if name + ROUNDING in node.rounding:
            missing = 0.0 if isinstance(value, jax.Array) else lost(value, old.dtype)
            node = node._replace(rounding=node.rounding | {name + ROUNDING: _like(old, missing)})
    return node


def _like(old: jax.Array, value: ArrayLike) -> jax.Array:
    return jnp.broadcast_to(jnp.asarray(value, old.dtype), old.shape)


def _check_state(opt_state: PyTree) -> None:
    """Refuse what cannot be the state of an optimizer; one without hyperparameters has none."""
    if opt_state is None:
        raise TypeError("opt_state must be what an optimizer's init returned, got None")
    check_leaves("opt_state", opt_state, real=False)


def _is_ours(node: object) -> TypeGuard[State]:
    return isinstance(node, State)


def _interval(node: Any, name: str) -> str:
    if _is_injecting(node):
        return "(-inf, inf)"
    if isinstance(node, PlateauState):
        return plateau.INTERVALS[name]
    if name + ROUNDING in node.rounding:
        return DECAY
    return _INTERVALS.get(name, NOT_NEGATIVE)


_INTERVALS = {"max_norm": POSITIVE, "max_delta": POSITIVE, "rate": SHARE, "slow_step_size": STEP_SIZE}


class _Entry(NamedTuple):
    """A hyperparameter: the place of its transformation, its name there, and the state that holds it."""

    place: str
    name: str
    state: Any


def _values_of(node: Any) -> Arrays:
    """The hyperparameters that a state holds, by their names in it."""
    if not _is_injecting(node):
        return driven_values(node.driven) | node.hyperparams
    # what a transformation inside holds itself is in force: a number, a schedule, what it is injecting
    inside = {
        name
        for _, inner, _ in _holders(node.inner_state)
        for name in (inner.hyperparams if _is_injecting(inner) else _values_of(inner))
        if not _is_given(inner, name)
    }
    return {
        name: value if hasattr(value, "dtype") else jnp.asarray(value)  # a number that was set there
        for name, value in node.hyperparams.items()
        if getattr(value, "ndim", 0) == node.count.ndim and name not in inside
    }


def _is_given(node: Any, name: str) -> bool:
    """Whether the hyperparameter is an array that the state is given anew at every update."""
    return _is_ours(node) and name not in node.hyperparams and name + GIVEN in node.driven


def _is_driven(entry: _Entry) -> bool:
    """Whether a schedule or an array drives the hyperparameter."""
    if _is_injecting(entry.state):
        return entry.name in entry.state.hyperparams_states
    return entry.name not in entry.state.hyperparams


def _is_scheduled(entry: _Entry) -> bool:
    node = entry.state
    return entry.name in (node.hyperparams_states if _is_injecting(node) else node.driven)


def _named(opt_state: PyTree) -> dict[str, _Entry]:
    """Every hyperparameter by the name that `hyperparams` gives it."""
    entries = [
        _Entry(place, name, node)
        for place, node, around in _holders(opt_state)
        for name in _values_of(node)
        if not (_is_given(node, name) and any(name in _values_of(one) for one in around))
    ]
    times = collections.Counter(entry.name for entry in entries)
    return {
        f"{entry.place}/{entry.name}" if times[entry.name] > 1 and entry.place else entry.name: entry
        for entry in entries
    }
