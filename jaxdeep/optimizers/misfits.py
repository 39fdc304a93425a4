"""Masks and labels of optimizers that are not of the parameters that these begin at."""

import contextlib
import inspect
import types
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from jaxdeep._shapes import PyTree
from jaxdeep.optimizers.identity import parts
from jaxdeep.tree import path_name


class MisfitError(ValueError):
    """An optimizer is of other parameters than it was given."""


def begun(tx: optax.GradientTransformation, params: PyTree) -> Any:
    """``tx.init(params)``, with an error that says which mask or which labels do not fit.

    Raises:
      MisfitError: a mask of optax that is not of booleans; a tree of `optax.masked` or
        `optax.partition` that lacks parameters, has others, or has labels that no transformation has.
        Else what ``tx.init`` raises.
      TypeError: an argument that cannot be traced, as `telling_static` says.

    >>> begun(optax.masked(optax.sgd(0.1), {"kernel": True}), {"bias": 0.0, "kernel": 1.0})
    Traceback (most recent call last):
        ...
    jaxdeep.optimizers.misfits.MisfitError: optimizer: the mask of optax.masked is of other ...
    """
    wrong = next(filter(None, (_wrong(*named_tree, params) for named_tree in _trees(tx.init))), None)
    if wrong is not None:  # optax takes whatever is neither False nor empty for True
        raise MisfitError(f"optimizer: {wrong}")
    try:
        with telling_static(tx.init):
            return tx.init(params)
    except MisfitError:
        raise
    except Exception as error:
        misfit = next(filter(None, (_misfit(v, params) for _, v in _holders(tx.init, ()))), None)
        if misfit is None:
            raise
        raise MisfitError(f"optimizer: {misfit}") from error


@contextlib.contextmanager
def telling_static(init: Callable[..., Any]) -> Iterator[None]:
    """Say which arguments `optax.inject_hyperparams` must not make arrays of, if one cannot be traced.

    Args:
      init: of the transformation that is traced.

    Raises:
      TypeError: in place of JAX' errors of values that are not known while tracing.

    >>> tx = optax.inject_hyperparams(optax.lbfgs)(0.1)
    >>> jax.jit(lambda params: begun(tx, params))(1.0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: optimizer: optax.lbfgs needs the value of an argument that optax.inject_hyperparams ...
    """
    try:
        yield
    except _UNKNOWN as error:
        for value, variables in _holders(init, ()):
            factory = variables.get("inner_factory")
            if factory is not None and _is_of_optax(value) and "numeric_hps" in variables:
                given = {**variables["numeric_hps"], **variables.get("other_hps", {})}
                order = inspect.signature(factory).parameters
                static = tuple(
                    name
                    for name in order
                    if isinstance(given.get(name), int) and name != "learning_rate"
                )
                name = ("optax." if _is_of_optax(factory) else "") + factory.__name__
                raise TypeError(
                    f"optimizer: {name} needs the value of an argument that optax.inject_hyperparams "
                    "keeps in the state, where it is not known while tracing; name those that stay as "
                    f"they are, optax.inject_hyperparams({name}, static_args={static or '…'})"
                ) from error
        raise


_UNKNOWN = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
_TREES = {"mask": "the mask of optax.masked is", "param_labels": "the labels of optax.partition are"}


def _holders(value: object, above: Sequence[int]) -> Iterator[tuple[object, Mapping[str, Any]]]:
    """Each function and dict in a transformation with what it holds by name, the outermost first."""
    if id(value) in above:  # a function that refers to itself
        return
    named = list(parts(value))
    if isinstance(value, types.FunctionType):
        yield value, dict(named)
    elif isinstance(value, Mapping):  # as `optax.inject_hyperparams` keeps arguments
        yield value, value
    for name, part in named:
        if name not in _TREES:
            yield from _holders(part, (*above, id(value)))


def _trees(init: Callable[..., Any]) -> Iterator[tuple[str, PyTree]]:
    """The masks and labels of optax' own functions in a transformation, each with its name."""
    for value, variables in _holders(init, ()):
        if not isinstance(value, types.FunctionType) or not _is_of_optax(value):
            continue
        maker = value.__qualname__.split(".")[0]
        if maker in ("masked", "partition"):
            yield from ((name, variables[name]) for name in _TREES if name in variables)
        elif maker == "inject_hyperparams" and _is_of_optax(variables.get("inner_factory")):
            arguments = {**variables.get("numeric_hps", {}), **variables.get("other_hps", {})}
            yield from ((name, arguments[name]) for name in _TREES if arguments.get(name) is not None)


def _is_of_optax(function: object) -> bool:
    return str(getattr(function, "__module__", "")).split(".")[0] == "optax"


def _wrong(name: str, tree: PyTree, params: PyTree) -> str | None:
    """What is wrong with the leaves of a mask or of labels; None if nothing is."""
    if callable(tree):
        try:
            tree = tree(params)
        except Exception:  # which says itself what it lacks
            return None
    there = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_none):
        if leaf is None:  # where no parameter is trained
            is_right = not any(p[: len(path)] == path for p in there)
        else:
            is_right = _is_switch(leaf) if name == "mask" else isinstance(leaf, Hashable)
        if not is_right:
            got = f"an array of shape {np.shape(leaf)}" if np.ndim(leaf) else repr(leaf)
            at = f" at {path_name(path)!r}" * bool(path)
            return f"{_MUST_BE[name]}, got {got[:_LONG]}{at}{_HINTS[name]}"
    return None


def _is_switch(leaf: Any) -> bool:
    """Whether this is a number, of which 0 is False; what is traced says itself that it has no value."""
    if isinstance(leaf, jax.core.Tracer):
        return True
    return np.ndim(leaf) == 0 and np.asarray(leaf).dtype.kind in "biuf"


_MUST_BE = {
    "mask": "the mask (of optax.masked, or a mask=) must be of booleans",
    "param_labels": "the labels of optax.partition must be names of its transformations",
}
_HINTS = {
    "mask": "; jaxdeep.tree.mask(params, '*/kernel') makes one of a pattern",
    "param_labels": "",
}
_LONG = 80


def _misfit(variables: Mapping[str, Any], params: PyTree) -> str | None:
    """What is wrong with the tree among some variables; None where there is none, or it fits."""
    name = next((name for name in _TREES if name in variables), None)
    if name is None:
        return None
    tree = variables[name]
    if callable(tree):
        try:
            tree = tree(params)
        except Exception:  # which says itself what it lacks
            return None
    here, there = (  # a parameter that is not trained is None
        [path for path, _ in jax.tree_util.tree_leaves_with_path(leaves, is_leaf=_is_none)]
        for leaves in (tree, params)
    )
    missing = [path_name(path) for path in there if not any(path[: len(p)] == p for p in here)]
    too_much = [path_name(path) for path in here if not any(p[: len(path)] == path for p in there)]
    faults = [f"{_shown(missing)} {_are(missing)} missing"] * bool(missing)
    faults += [f"{_shown(too_much)} {_are(too_much)} too much"] * bool(too_much)
    if faults:
        known = _shown([path_name(path) for path in there])
        hint = "; jaxdeep.tree.mask(params, '*/kernel') makes a mask by paths" * (name == "mask")
        return f"{_TREES[name]} of other parameters: {' and '.join(faults)}; those are {known}{hint}"
    transforms = variables.get("transforms")
    if name == "param_labels" and isinstance(transforms, Mapping):
        labels = dict.fromkeys(jax.tree.leaves(tree))
        unknown = [label for label in labels if label not in transforms]
        if unknown:
            return (
                f"optax.partition has no transformation for the labels {_shown(unknown)}, but for "
                f"{_shown(list(transforms))}"
            )
    return None


def _is_none(node: object) -> bool:
    return node is None


def _are(names: Sequence[object]) -> str:
    return "is" if len(names) == 1 else "are"


def _shown(names: Sequence[object]) -> str:
    shown = ", ".join(map(repr, names[:_FEW]))
    return shown + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")


_FEW = 8
