"""From the arithmetic of one leaf to an optax transformation.

A `Rule` says what one leaf accumulates and how its gradient becomes an update. `transform` lifts a
sequence of rules over a pytree: one pass per leaf, whatever the number of rules, with the
hyperparameters as named scalar leaves of one `TransformState`. `transformation` makes a function that
returns a rule one that returns the transformation.
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.interpreters import partial_eval as pe
from jax.tree_util import PyTreeDef
from jax.typing import ArrayLike, DTypeLike

from jaxdeep._arrays import check_leaves
from jaxdeep._calls import remembered
from jaxdeep._precision import check_leaves_hold
from jaxdeep._shapes import Array, Arrays, PyTree
from jaxdeep.optimizers.identity import Described, Init
from jaxdeep.optimizers.scalars import Hyper, Scalar, Scalars, drive, scalars_in_force
from jaxdeep.tree import Where, check_where, leaf_paths, mask, path_name

Transform: TypeAlias = optax.GradientTransformationExtraArgs
Arguments = ParamSpec("Arguments")


class Rule(NamedTuple):
    """What happens to one leaf.

    Attributes:
      hyperparams: its hyperparameters by name.
      update: ``(g, slots, s, p) -> (update, slots)`` for one leaf, with its slots, the scalars by name
        and the parameter (None if none were passed); arrays come in at least float32. The scalars hold
        every hyperparameter, and its complement 1 − value under ``"1-name"``.
      slots: what a leaf accumulates, by name: functions from the parameter leaf to the initial array.
      scalars: ``(hyperparameters as Scalar, t) -> scalars``, further ones or others in their place,
        computed once for the whole tree; t is 1 at the first update.
      carry: scalars kept from update to update, by name, with their first values; they come among the
        hyperparameters, and `scalars` returns the new ones under the same names.
      reduce: ``(leaves, scalars) -> scalars``, further ones, from all the leaves that come in; for the
        first rule.
      where: the leaves it applies to (`jaxdeep.tree.mask`); all by default.
      needs_params: what needs the parameters, for the error if they are not passed; empty if nothing.
      made_by: the function and its static arguments, by which rules are equal (`rule_factory` fills it
        in). A rule without it is equal to those with the same functions.
    """

    hyperparams: Mapping[str, Hyper]
    update: Callable[[Array, Arrays, Arrays, Any], tuple[Array, Arrays]]
    slots: Mapping[str, Callable[[Array], Array]] = {}
    scalars: Callable[[Mapping[str, Scalar], Array], Arrays] | None = None
    carry: Mapping[str, float] = {}
    reduce: Callable[[list[Array], Arrays], Arrays] | None = None
    where: Where | None = None
    needs_params: str = ""
    made_by: tuple[Callable[..., "Rule"], dict[str, object]] | None = None

    def _identity_(self) -> object:
        return tuple(self[1:-1]) if self.made_by is None else self.made_by, self.hyperparams


def rule_factory(factory: Callable[Arguments, Rule]) -> Callable[Arguments, Rule]:
    """Have the rules of a factory be equal if they are made with the same static arguments.

    Static is every argument that is not the value of one of the rule's hyperparameters.

    >>> from jaxdeep._identity import key_of
    >>> from jaxdeep.optimizers.descent import descend
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


class Transformation(Protocol[Arguments]):
    """A function that makes a transformation of one rule, or the rule itself."""

    rule: Callable[Arguments, Rule]

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Transform:
        """The transformation."""


def transformation(make: Callable[Arguments, Rule]) -> Transformation[Arguments]:
    """Make a function that returns a rule one that returns the transformation of this rule.

    Its attribute `rule` is the function as it was, for a transformation of several rules:
    ``transform(scale_by_adam.rule(), descend(0.1))``.

    >>> from jaxdeep.optimizers.scalars import Hyper
    >>> @transformation
    ... def scale(factor: float) -> Rule:
    ...     hyperparams = {"factor": Hyper(factor, "[0, 1]")}
    ...     return Rule(hyperparams, lambda g, slots, s, p: (s["factor"] * g, {}))
    >>> tx = scale(0.5)
    >>> float(tx.update(jnp.array(3.0), tx.init(jnp.array(0.0)))[0])
    1.5
    """
    rule = rule_factory(make)

    @functools.wraps(make)
    def made(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Transform:
        return transform(rule(*args, **kwargs))

    made.__signature__ = inspect.signature(make).replace(  # type: ignore[attr-defined]
        return_annotation=Transform
    )
    made.rule = rule  # type: ignore[attr-defined]
    return remembered(made)  # type: ignore[return-value]


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
    hyperparams: Arrays
    driven: Arrays
    rounding: Arrays
    carried: Arrays
    slots: dict[str, PyTree]


def transform(*rules: Rule) -> Transform:
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
        for rule in rules:
            if rule.where is not None:
                check_where(rule.where)
        # Inside a jit, a leaf's update is traced once per shape and dtype, however many leaves there
        # are. Outside it would be compiled for every transformation made.
        self.update_leaf = functools.partial(_update_leaf, rules)
        self.jitted = jax.jit(self.update_leaf, static_argnums=0)

    def _identity_(self) -> object:
        return tuple(rule._identity_() for rule in self.rules)


def _init(together: _Rules, scalars: Scalars, params: PyTree) -> TransformState:
    if together.makers:
        check_kept(params)
    else:
        check_leaves("params", params)
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
    **extra: object,
) -> tuple[PyTree, TransformState]:
    check_state("update", state, TransformState)
    if params is None and together.needs_params:
        raise ValueError(f"{together.needs_params} needs the parameters: update(updates, state, params)")
    check_updates(updates, params)
    _check_own(together, state)
    count = optax.safe_increment(state.count)
    driven = drive(together.hypers, state.count)
    scalars = _scalars(together.rules, state, driven, count)
    carried = {name: scalars[name] for name in together.carry}

    structure: PyTreeDef
    # None for a gradient that was not taken: its leaf stays as it is
    leaves, structure = jax.tree.flatten(updates, is_leaf=lambda leaf: leaf is None)
    leaves = [None if leaf is None else jnp.asarray(leaf) for leaf in leaves]
    if together.rules[0].reduce is not None:
        scalars |= together.rules[0].reduce([leaf for leaf in leaves if leaf is not None], scalars)
    parameters = [None] * len(leaves)
    if params is not None:
        parameters = leaves_beside(updates, "the parameters", params)
    selected = updates if params is None else params
    masks = [_mask(rule, selected, structure) for rule in together.rules]
    columns = [leaves_beside(updates, "the state", tree) for tree in state.slots.values()]
    cast = _cast_by_dtype(scalars)
    rows = zip(*columns) if columns else itertools.repeat(())
    updated: list[tuple[Array | None, Arrays]] = []
    for g, p, chosen, row in zip(leaves, parameters, zip(*masks), rows):
        slots = dict(zip(state.slots, row))
        if g is None:
            updated.append((g, slots))
        else:
            leaf_scalars = cast(_arithmetic_dtype(g, p, *row))
            is_traced = isinstance(g, pe.DynamicJaxprTracer)
            update_leaf = together.jitted if is_traced else together.update_leaf
            updated.append(update_leaf(chosen, g, slots, leaf_scalars, p))
    slots = {
        name: jax.tree.unflatten(structure, [leaf_slots[name] for _, leaf_slots in updated])
        for name in state.slots
    }
    return (
        jax.tree.unflatten(structure, [u for u, _ in updated]),
        TransformState(count, state.hyperparams, driven, state.rounding, carried, slots),
    )


def update_of(tx: Any) -> Callable[..., tuple[PyTree, PyTree]]:
    """The ``update`` of a transformation, which takes further arguments, used or not.

    >>> update_of(optax.sgd(0.5))(1.0, optax.sgd(0.5).init(0.0), value=3.0)[0]
    -0.5
    """
    if isinstance(tx, optax.GradientTransformation):
        tx = optax.with_extra_args_support(tx)
    update: Callable[..., tuple[PyTree, PyTree]] = tx.update
    return update


def check_state(name: str, state: object, kind: type) -> None:
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


def check_kept(params: PyTree) -> None:
    """Refuse parameters of which a state can keep nothing: None, leaves of no real numbers.

    >>> check_kept({"k": jax.random.key(0)})
    Traceback (most recent call last):
    TypeError: params: k must be an array of real numbers, got key<fry>; leave it out of what is trained
    """
    if params is None:
        raise TypeError("params must be a pytree of arrays, got None")
    check_leaves("params", params)
    _check_numbers("params", params, "leave it out of what is trained")


def _check_numbers(name: str, tree: PyTree, instead: str) -> None:
    """Refuse random keys, and the float0 of what has no gradient."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        dtype = getattr(leaf, "dtype", None)
        if dtype == jax.dtypes.float0 or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
            place = f"{name}: {path_name(path)}" if path else name
            kind = "float0" if dtype == jax.dtypes.float0 else dtype
            raise TypeError(f"{place} must be an array of real numbers, got {kind}; {instead}")


def check_updates(updates: PyTree, params: PyTree | None) -> None:
    """Refuse updates, or parameters beside them, with leaves that are no arrays of real numbers.

    And with finite numbers of the host that would become infinite, or whole ones that would be cut; and
    float0, which ``jax.grad(…, allow_int=True)`` makes of whole numbers: nothing can be added to it.

    >>> check_updates({"a": 1j}, None)
    Traceback (most recent call last):
    TypeError: updates: a must be an array of real numbers, got one of dtype complex128
    """
    if updates is None and jax.tree.leaves(params):
        raise TypeError("updates must be a pytree of gradients like the parameters, got None")
    for name, tree in (("updates", updates), ("params", params)):
        check_leaves(name, tree)
        check_leaves_hold(name, tree)
    instead = "leave it out of both trees, or pass zeros for whole numbers"
    _check_numbers("updates", updates, instead)


def leaves_beside(updates: PyTree, name: str, tree: PyTree) -> list[PyTree]:
    """The leaves of a tree beside those of the updates, which must have their structure and shapes.

    None among the updates is a gradient that was not taken: it fits any leaf.

    >>> leaves_beside({"a": jnp.ones(2)}, "the parameters", {"a": jnp.ones((3, 2))})
    Traceback (most recent call last):
    ValueError: the update of a has shape (2,), and the parameters there (3, 2)
    """
    structure: PyTreeDef
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


def _is_none(leaf: object) -> bool:
    return leaf is None


def _described(tree: PyTree) -> str:
    return "are None" if tree is None else f"hold {', '.join(leaf_paths(tree)) or 'nothing'}"


def _check_own(together: _Rules, state: TransformState) -> None:
    """Refuse a state with a hyperparameter or a slot that this optimizer does not have."""
    for kind, declared, there in (
        ("hyperparameter", together.hypers, state.hyperparams),
        ("slot", together.makers, state.slots),
    ):
        if odd := [name for name in there if name not in declared]:
            raise ValueError(
                f"the state is of another optimizer: it has a {kind} {odd[0]!r}, and this one has "
                f"{', '.join(declared) or 'none'}; make it with this one's init"
            )


def _scalars(rules: tuple[Rule, ...], state: TransformState, driven: Arrays, count: Array) -> Arrays:
    in_force = scalars_in_force(state.hyperparams, state.rounding, driven)
    for name, value in state.carried.items():
        in_force[name] = Scalar(value, 1 - value)
    scalars: Arrays = {}
    for rule in rules:
        needed = (*rule.hyperparams, *rule.carry)
        if lacking := [name for name in needed if name not in in_force]:
            raise ValueError(
                f"the state is of another optimizer: it has no {lacking[0]!r}, and has "
                f"{', '.join(in_force) or 'nothing'}; make it with this one's init"
            )
        rule_scalars = {name: in_force[name] for name in needed}
        for name, scalar in rule_scalars.items():
            scalars |= {name: scalar.value, f"1-{name}": scalar.complement}
        if rule.scalars is not None:
            scalars |= rule.scalars(rule_scalars, count.astype(jnp.result_type(float)))
    return scalars


def _mask(rule: Rule, tree: PyTree, structure: PyTreeDef) -> list[bool]:
    if rule.where is None:
        return [True] * structure.num_leaves
    chosen: list[bool] = structure.flatten_up_to(mask(tree, rule.where))
    return chosen


def _arithmetic_dtype(*arrays: Array | None) -> DTypeLike:
    dtypes = {jnp.result_type(array) for array in arrays if array is not None}
    dtype = functools.reduce(jnp.promote_types, dtypes, jnp.dtype(jnp.float32))
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"complex parameters or gradients are not supported, got {dtype}")
    return dtype


def _update_leaf(
    rules: tuple[Rule, ...],
    chosen: tuple[bool, ...],
    g: Array,
    slots: Arrays,
    scalars: Arrays,
    p: Array | None,
) -> tuple[Array, Arrays]:
    dtype = _arithmetic_dtype(g, p, *slots.values())
    u = jnp.asarray(g, dtype)
    wide = {name: old.astype(dtype) for name, old in slots.items()}
    wide_p = None if p is None else jnp.asarray(p, dtype)
    for rule in itertools.compress(rules, chosen):
        u, changed = rule.update(u, wide, scalars, wide_p)
        wide = wide | changed
    kept = {name: wide[name].astype(old.dtype) for name, old in slots.items()}
    return u.astype(jnp.result_type(g if p is None else p)), kept


def _cast_by_dtype(scalars: Arrays) -> Callable[..., Arrays]:
    """Scalars in the dtype of a leaf's arithmetic, cast once for all leaves of that dtype."""
    return functools.cache(
        lambda dtype: {name: jnp.asarray(scalar, dtype) for name, scalar in scalars.items()}
    )


def slot(value: ArrayLike = 0.0, dtype: DTypeLike | None = None) -> Callable[[Array], Array]:
    """A slot that starts at `value`, sharded as its parameter, in at least float32 unless told.

    In bfloat16 a slow average would never move again: 0.001 of the new is lost.
    """

    def make(p: Array) -> Array:
        wide = jnp.promote_types(jnp.result_type(p), jnp.float32)
        return jnp.full_like(p, value, dtype=wide if dtype is None else dtype)

    return make
