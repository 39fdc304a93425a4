"""What `jaxdeep.fit` needs to go on, beside a saved model: names in its document, arrays in its file.

The optimizer, losses, metrics and penalties go by public names with their arguments, as activations do
in the config of a model; nothing of a file is executed. The optimizer's state is read back into the
structure that the optimizer's own ``init`` makes.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._shapes import PyTree
from jaxdeep.fitting.evaluation import EVALUATED
from jaxdeep.fitting.result import TRAINED_WITH
from jaxdeep.saving import registry, trees
from jaxdeep.saving.sameness import short
from jaxdeep.saving.values import InnerError, Json, decode, encode
from jaxdeep.train.going_on import check_going_on, comes_of
from jaxdeep.train.options import FitOptions, filled
from jaxdeep.train.state import TrainState, check_optimizer, only
from jaxdeep.tree import leaf_paths

NAMES = ("optimizer", *EVALUATED, *TRAINED_WITH)
_ROOT = "training"
PREFIX = f"{_ROOT}/"  # begins the paths of the arrays of a training

Arguments = dict[str, Any]  # arguments of `jaxdeep.fit` by name


def described(training: Mapping[str, Any], params: PyTree, state: PyTree) -> tuple[Json, PyTree]:
    """The description of arguments of `fit`, and a tree of the arrays among them.

    Args:
      training: as of `jaxdeep.save`.
      params, state: those of the model, which are not described again if the train state has the same.

    Raises:
      ValueError: an argument that cannot be saved, or that `fit` does not take.
    """
    if isinstance(training, Mapping) and not training:
        raise ValueError("training is an empty dict: pass result.training, or leave it out")
    if not isinstance(training, Mapping):
        raise TypeError(
            "training must be a dict of arguments of jaxdeep.fit, such as result.training, got "
            f"{type(training).__name__}"
        )
    if odd := [name for name in training if name not in (*NAMES, "train_state")]:
        raise ValueError(
            f"training holds {odd[0]!r}, which is not saved; it may hold {', '.join(NAMES)} and "
            "train_state"
        )
    ts = training.get("train_state")
    filled("fit", FitOptions, {n: v for n, v in training.items() if n != "optimizer"})
    arguments = {name: _encoded(name, training[name]) for name in training if name != "train_state"}
    if ts is None:
        return {"arguments": arguments}, {}
    if "optimizer" not in training:
        raise ValueError("training holds a train_state, and no optimizer that it belongs to")
    optimizer = training["optimizer"]
    optimizer = optimizer if hasattr(optimizer, "init") else optimizer()
    check_going_on(optimizer, ts, training.get("trainable"))
    _check_of_model(ts, params, state)
    by_path = dict(zip(leaf_paths(ts.opt_state), jax.tree.leaves(ts.opt_state)))
    arrays: dict[str, PyTree] = {"step": ts.step, "key": ts.key, "opt_state": by_path}
    for name, tree in (("params", params), ("state", state)):
        if not _are_same(tree, trained := getattr(ts, name)):
            arrays[name] = trained
    about = {name: trees.skeleton(tree, f"{PREFIX}{name}") for name, tree in arrays.items()}
    return {"arguments": arguments, "train_state": about}, arrays


def restored(about: Json, params: PyTree, state: PyTree, arrays: Mapping[str, np.ndarray]) -> Arguments:
    """The arguments that `described` was given.

    Args:
      about: the description.
      params, state: those of the model.
      arrays: those of the file that begin with `PREFIX`.

    Raises:
      ValueError: a description that jaxdeep does not write.
    """
    if not isinstance(about, dict) or not isinstance(about.get("arguments"), dict):
        raise ValueError("training does not describe arguments of fit")
    arguments: Arguments = {}
    for name, node in about["arguments"].items():
        if name not in NAMES:
            raise ValueError(f"training holds {name!r}, which is no argument that is saved")
        arguments[name] = _decoded(name, node)
    if "train_state" not in about:
        return arguments
    try:
        like = {n: trees.like(node, f"{PREFIX}{n}") for n, node in about["train_state"].items()}
        fields = {"params": params, "state": state, **trees.filled({_ROOT: like}, arrays)[_ROOT]}
        optimizer = only(arguments["optimizer"], arguments.get("trainable"))
        made = jax.eval_shape(optimizer.init, fields["params"])
        by_path = fields.pop("opt_state")
        if set(by_path) != set(paths := leaf_paths(made)):
            raise ValueError("the optimizer's state there is that of another optimizer")
        leaves = [by_path[path] for path in paths]
        ts = TrainState(opt_state=jax.tree.unflatten(jax.tree.structure(made), leaves), **fields)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"training does not describe a train state: {error!r}") from error
    check_going_on(arguments["optimizer"], ts, arguments.get("trainable"))
    comes_of(ts, arguments["optimizer"])
    return {**arguments, "train_state": ts}


def _encoded(name: str, value: Any) -> Json:
    try:
        if name == "optimizer" and not hasattr(value, "init"):  # a pair, as `optax.MultiSteps` is
            return _maker(value)
        if name == "class_weight" and isinstance(value, Mapping):  # JSON has no whole numbers as keys
            value = tuple(value.items())
        return encode(value)
    except ValueError as error:
        if name != "optimizer":
            raise ValueError(f"training[{name!r}]: {error}") from error
        registered = (
            "the function that makes it in its place, registered: jd.saving.register('make', make) and "
            "{'optimizer': make}"
        )
        if not isinstance(error, InnerError):
            raise ValueError(f"training[{name!r}]: {error}. Or pass {registered}") from error
        of = registry.optimizer_with(value, error.maker)
        named = f"functools.partial({of}, …), with its arguments, if it is that alone, or " if of else ""
        raise ValueError(
            f"training[{name!r}]: {InnerError(of or error.maker)}: pass {named}{registered}"
        ) from error


def _maker(make: Any) -> Json:
    """An optimizer by what makes it: a partial of a public factory, or a registered function."""
    if isinstance(make, functools.partial):
        call = {"made_by": registry.name_of(make.func), "positional": encode(make.args)}
        call["keywords"] = {name: encode(value) for name, value in make.keywords.items()}
    else:
        call = {"made_by": registry.name_of(make)}
    if call["made_by"] is None:
        shown = getattr(make, "func", make)
        raise ValueError(
            f"{short(shown)} has no name to be saved by; give it one, here and where the model is "
            f"loaded: jd.saving.register({getattr(shown, '__name__', 'name')!r}, function)"
        )
    decode(call)  # refuses a name that is not of a factory
    return call


def _decoded(name: str, node: Json) -> Any:
    try:
        value = decode(node)
        if name == "optimizer":
            check_optimizer(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"training[{name!r}]: {error}") from error
    if name == "class_weight" and all(isinstance(pair, tuple) for pair in value):
        return dict(value)
    return value


def _check_of_model(ts: TrainState, params: PyTree, state: PyTree) -> None:
    """Refuse a train state whose parameters and state are not like those of the model."""
    for name, tree in (("params", params), ("state", state)):
        model_shapes, run_shapes = (
            {path: jnp.shape(leaf) for path, leaf in zip(leaf_paths(t), jax.tree.leaves(t))}
            for t in (tree, getattr(ts, name))
        )
        paths = {**model_shapes, **run_shapes}
        odd = next((path for path in paths if model_shapes.get(path) != run_shapes.get(path)), None)
        if odd is not None:
            shown = [shapes.get(odd, "absent") for shapes in (run_shapes, model_shapes)]
            raise ValueError(
                f"training holds a train_state of another model: its {name}[{odd!r}] is {shown[0]}, and "
                f"that of the model is {shown[1]}; pass result.training of the run that the model is of"
            )


def _are_same(tree: PyTree, other: PyTree) -> bool:
    """Whether two trees hold the same arrays."""
    one, two = (jax.tree_util.tree_leaves_with_path(t) for t in (tree, other))
    return len(one) == len(two) and all(p == q and a is b for (p, a), (q, b) in zip(one, two))
