"""From the arithmetic of one leaf to an optax transformation.

A `Rule` says what one leaf accumulates and how its gradient becomes an update. `transform` lifts a
sequence of rules over a pytree: one pass per leaf, whatever the number of rules, with the
hyperparameters as named scalar leaves of one `TransformState`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.interpreters import partial_eval as pe

from jaxdeep import _checks
from jaxdeep.optimizers.identity import Described, Init
from jaxdeep.optimizers.scalars import (
    NOT_NEGATIVE,
    Hyper,
    Numeric,
    Scalar,
    Scalars,
    drive,
    scalars_in_force,
)
from jaxdeep.tree import Where, check_where, leaf_paths, mask, path_name

PyTree = Any
Transform: TypeAlias = optax.GradientTransformationExtraArgs
Arguments = ParamSpec("Arguments")


def _values(h: Mapping[str, Scalar], t: Any) -> dict[str, Any]:
    return {name: scalar.value for name, scalar in h.items()}


class Rule(NamedTuple):
    """What happens to one leaf.

    Attributes:
      hyperparams: its hyperparameters by name.
      update: ``(g, slots, s, p) -> (update, slots)`` for one leaf, with its slots, the scalars by name
        and the parameter (None if none were passed); arrays come in at least float32.
      slots: what a leaf accumulates, by name: functions from the parameter leaf to the initial array.
      scalars: ``(hyperparameters as Scalar, t) -> scalars`` used by `update`, computed once for the
        whole tree; t is 1 at the first update.
      carry: scalars kept from update to update, by name, with their first values; they come among the
        hyperparameters, and `scalars` returns the new ones under the same names.
      reduce: ``(leaves, scalars) -> scalars``, further ones, from all the leaves that come in; for the
        first rule.
      where: the leaves it applies to (`jaxdeep.tree.mask`); all by default.
      needs_params: what needs the parameters, for the error if they are not passed; empty if nothing.
      made_by: the factory and its static arguments, by which rules are equal (`rule_factory` fills it
        in). A rule without it is equal to those with the same functions.
    """

    hyperparams: Mapping[str, Hyper]
    update: Callable[[Any, dict[str, Any], dict[str, Any], Any], tuple[Any, dict[str, Any]]]
    slots: Mapping[str, Callable[[Any], Any]] = {}
    scalars: Callable[[Mapping[str, Scalar], Any], dict[str, Any]] = _values
    carry: Mapping[str, float] = {}
    reduce: Callable[[list[Any], dict[str, Any]], dict[str, Any]] | None = None
    where: Where | None = None
    needs_params: str = ""
    made_by: tuple[Callable[..., Any], dict[str, Any]] | None = None

    def _identity_(self) -> tuple[Any, ...]:
        return self.hyperparams, tuple(self[1:-1]) if self.made_by is None else self.made_by


def rule_factory(factory: Callable[Arguments, Rule]) -> Callable[Arguments, Rule]:
    """Have the rules of a factory be equal if they are made with the same static arguments.

    Static is every argument that is not the value of one of the rule's hyperparameters.

    >>> from jaxdeep._identity import key_of
    >>> key_of(descend(0.1)) == key_of(descend(0.2)), key_of(descend(0.1)) == key_of(descend(jnp.sqrt))
    (True, False)
    """
    signature = inspect.signature(factory)

    @functools.wraps(factory)
    def make(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Rule:
        made = factory(*args, **kwargs)
        arguments = signature.bind(*args, **kwargs)
        arguments.apply_defaults()
        static = {
            name: value for name, value in arguments.arguments.items() if name not in made.hyperparams
        }
        return made._replace(made_by=(factory, static))

    return make


class TransformState(NamedTuple):
    """State of a jaxdeep transformation.

    Attributes:
      count: updates done, int32.
      hyperparams: values that stay as set, float32 (float64 with x64 on), by name.
      driven: values that a schedule drives, as the last update used them, by name, and those given as
        an array, by name and "_given".
      rounding: what `hyperparams` lost to rounding where precision needs it, by name and "_rounding".
      carried: further scalars of the algorithm, by name.
      slots: what the leaves accumulate: pytrees like the parameters, by name.
    """

    count: jax.Array  # type: ignore[assignment]  # shadows tuple.count, as optax does
    hyperparams: dict[str, jax.Array]
    driven: dict[str, jax.Array]
    rounding: dict[str, jax.Array]
    carried: dict[str, jax.Array]
    slots: dict[str, PyTree]


def transform(*rules: Rule) -> optax.GradientTransformationExtraArgs:
    """The optax transformation that applies `rules`, one after another, to every leaf.

    Arithmetic is done in at least float32; slots keep their own dtype and updates get the dtype of
    the parameters (of the gradients if no parameters are passed).
    """
    together = _Rules(rules)
    init = Init(_init, (together,), together.hypers)
    return optax.GradientTransformationExtraArgs(init, Described(_update, (together,)))


class _Rules:
    """Rules one after another, and what they have together."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self.hypers = {name: hyper for rule in rules for name, hyper in rule.hyperparams.items()}
        self.makers = {name: make for rule in rules for name, make in rule.slots.items()}
        self.carry = {name: first for rule in rules for name, first in rule.carry.items()}
        self.needs_params = ", ".join(rule.needs_params for rule in rules if rule.needs_params)
        for name, hyper in self.hypers.items():
            _checks.check_scalar(name, hyper.value, hyper.interval, schedule=True)
        for rule in rules:
            if rule.where is not None:
                check_where(rule.where)
        # Inside a jit, a leaf's update is traced once per shape and dtype, however many leaves there
        # are. Outside it would be compiled for every transformation made.
        self.update_leaf = _leaf_updater(rules)
        self.jitted = jax.jit(self.update_leaf, static_argnums=0)

    def _identity_(self) -> tuple[Any, ...]:
        return tuple(rule._identity_() for rule in self.rules)


def _leaf_updater(rules: tuple[Rule, ...]) -> Callable[..., tuple[Any, dict[str, Any]]]:
    def update_leaf(
        chosen: tuple[bool, ...], g: Any, slots: dict[str, Any], scalars: dict[str, Any], p: Any
    ) -> tuple[Any, dict[str, Any]]:
        applied = [rule for rule, is_chosen in zip(rules, chosen) if is_chosen]
        return _update_leaf(applied, g, slots, scalars, p)

    return update_leaf


def _init(together: _Rules, scalars: Scalars, params: PyTree) -> TransformState:
    for rule in together.rules:
        if rule.where is not None:
            mask(params, rule.where)  # a mistyped name is refused here
    slots = {name: jax.tree.map(make, params) for name, make in together.makers.items()}
    dtype = jnp.result_type(float)
    carried = {name: jnp.asarray(first, dtype) for name, first in together.carry.items()}
    return TransformState(jnp.zeros((), jnp.int32), *scalars, carried, slots)


def _update(
    together: _Rules,
    updates: PyTree,
    state: TransformState,
    params: PyTree | None = None,
    **extra: Any,
) -> tuple[PyTree, TransformState]:
    check_state("update", state, TransformState)
    if params is None and together.needs_params:
        raise ValueError(f"{together.needs_params} needs the parameters: update(updates, state, params)")
    count = optax.safe_increment(state.count)
    driven = drive(together.hypers, state.count)
    scalars = _scalars(together.rules, state, driven, count)
    carried = {name: scalars[name] for name in together.carry}

    leaves: list[Any]
    structure: Any
    # None for a gradient that was not taken: its leaf stays as it is
    leaves, structure = jax.tree.flatten(updates, is_leaf=lambda leaf: leaf is None)
    leaves = [None if leaf is None else jnp.asarray(leaf) for leaf in leaves]
    for rule in together.rules[:1]:
        if rule.reduce:
            scalars |= rule.reduce([leaf for leaf in leaves if leaf is not None], scalars)
    parameters = [None] * len(leaves)
    if params is not None:
        parameters = leaves_beside(updates, "the parameters", params)
    selected = updates if params is None else params
    masks = [_mask(rule, selected, structure) for rule in together.rules]
    columns = [leaves_beside(updates, "the state", tree) for tree in state.slots.values()]
    cast = _cast_by_dtype(scalars)
    new_leaves: list[Any] = []
    new_columns: list[list[Any]] = [[] for _ in columns]
    for g, p, chosen, row in zip(leaves, parameters, zip(*masks), _rows(columns, len(leaves))):
        slots = dict(zip(state.slots, row))
        if g is None:
            u, new_slots = g, slots
        else:
            leaf_scalars = cast(_arithmetic_dtype(g, p, *row))
            is_traced = isinstance(g, pe.DynamicJaxprTracer)
            update_leaf = together.jitted if is_traced else together.update_leaf
            u, new_slots = update_leaf(chosen, g, slots, leaf_scalars, p)
        new_leaves.append(u)
        for name, column in zip(state.slots, new_columns):
            column.append(new_slots[name])
    slots = {
        name: jax.tree.unflatten(structure, column) for name, column in zip(state.slots, new_columns)
    }
    return (
        jax.tree.unflatten(structure, new_leaves),
        TransformState(count, state.hyperparams, driven, state.rounding, carried, slots),
    )


def check_state(name: str, state: Any, kind: type) -> None:
    """Refuse what is not the state that ``init`` makes.

    >>> check_state("update", None, TransformState)
    Traceback (most recent call last):
    TypeError: update: state must be what init(params) returned, a TransformState, got None
    """
    if not isinstance(state, kind):
        got = "None" if state is None else f"a {type(state).__name__}"
        raise TypeError(
            f"{name}: state must be what init(params) returned, a {kind.__name__}, got {got}"
        )


def leaves_beside(updates: PyTree, name: str, tree: PyTree) -> list[Any]:
    """The leaves of a tree beside those of the updates, which must have their structure and shapes.

    None among the updates is a gradient that was not taken: it fits any leaf.

    >>> leaves_beside({"a": jnp.ones(2)}, "the parameters", {"a": jnp.ones((3, 2))})
    Traceback (most recent call last):
    ValueError: the update of a has shape (2,), and the parameters there (3, 2)
    """
    structure: Any
    named, structure = jax.tree_util.tree_flatten_with_path(updates, is_leaf=_is_none)
    try:
        others = structure.flatten_up_to(tree)
    except (ValueError, TypeError):
        here, there = leaf_paths(updates), leaf_paths(tree)
        odd = [path for path in here if path not in there] + [path for path in there if path not in here]
        where = f": they differ in {odd[0]}" if odd else ""
        raise ValueError(
            f"updates must have the structure of {name}{where} ({structure} against "
            f"{jax.tree.structure(tree)})"
        ) from None
    for (path, leaf), other in zip(named, others):
        if leaf is None:
            continue
        at = path_name(path) or "the only leaf"
        if other is None or not jax.tree_util.all_leaves([other]):
            raise ValueError(f"the update of {at} is an array, and {name} there {_described(other)}")
        if jnp.shape(leaf) != jnp.shape(other):
            raise ValueError(
                f"the update of {at} has shape {jnp.shape(leaf)}, and {name} there {jnp.shape(other)}"
            )
    return others


def _is_none(leaf: Any) -> bool:
    return leaf is None


def _described(tree: PyTree) -> str:
    return "are None" if tree is None else f"hold {', '.join(leaf_paths(tree)) or 'nothing'}"


def _scalars(
    rules: tuple[Rule, ...], state: TransformState, driven: Mapping[str, jax.Array], count: jax.Array
) -> dict[str, Any]:
    in_force = scalars_in_force(state, driven)
    for name, value in state.carried.items():
        in_force[name] = Scalar(value, 1 - value)
    scalars: dict[str, Any] = {}
    for rule in rules:
        names = (*rule.hyperparams, *rule.carry)
        values = {name: in_force[name] for name in names}
        scalars |= rule.scalars(values, count.astype(jnp.result_type(float)))
    return scalars


def _mask(rule: Rule, tree: PyTree, structure: Any) -> list[bool]:
    if rule.where is None:
        return [True] * structure.num_leaves
    chosen: list[bool] = structure.flatten_up_to(mask(tree, rule.where))
    return chosen


def _rows(columns: list[list[Any]], length: int) -> list[tuple[Any, ...]]:
    return list(zip(*columns)) if columns else [()] * length


def _arithmetic_dtype(*arrays: Any) -> Any:
    dtypes = {jnp.result_type(array) for array in arrays if array is not None}
    dtype = functools.reduce(jnp.promote_types, dtypes, jnp.dtype(jnp.float32))
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"complex parameters or gradients are not supported, got {dtype}")
    return dtype


def _update_leaf(
    rules: list[Rule], g: Any, slots: dict[str, Any], scalars: dict[str, Any], p: Any
) -> tuple[Any, dict[str, Any]]:
    dtype = _arithmetic_dtype(g, p, *slots.values())
    u = jnp.asarray(g, dtype)
    wide = {name: old.astype(dtype) for name, old in slots.items()}
    wide_p = None if p is None else jnp.asarray(p, dtype)
    for rule in rules:
        u, changed = rule.update(u, wide, scalars, wide_p)
        wide = wide | changed
    kept = {name: wide[name].astype(old.dtype) for name, old in slots.items()}
    return u.astype(jnp.result_type(g if p is None else p)), kept


def _cast_by_dtype(scalars: dict[str, Any]) -> Callable[[Any], dict[str, Any]]:
    """Scalars in the dtype of a leaf's arithmetic, cast once for all leaves of that dtype."""
    done: dict[Any, dict[str, Any]] = {}

    def cast(dtype: Any) -> dict[str, Any]:
        if dtype not in done:
            done[dtype] = jax.tree.map(lambda s: jnp.asarray(s, dtype), scalars)
        return done[dtype]

    return cast


@rule_factory
def descend(learning_rate: Numeric) -> Rule:
    """The last rule of an optimizer: ``u ← −learning_rate · u``."""
    return Rule(
        {"learning_rate": Hyper(learning_rate, NOT_NEGATIVE)},
        lambda u, slots, s, p: (-s["learning_rate"] * u, {}),
    )


def slot(value: Any = 0.0, dtype: Any = None) -> Callable[[Any], Any]:
    """A slot that starts at `value`, sharded as its parameter, in at least float32 unless told.

    In bfloat16 a slow average would never move again: 0.001 of the new is lost.
    """

    def make(p: Any) -> Any:
        wide = jnp.promote_types(jnp.result_type(p), jnp.float32)
        return jnp.full_like(p, value, dtype=wide if dtype is None else dtype)

    return make
