"""Whether parameters and state belong to a model, told from names and shapes."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep.nn import initializers
from jaxdeep.nn.model import Model
from jaxdeep.saving import registry
from jaxdeep.tree import path_name

PyTree = Any

_BY_NAME = ("serial", "parallel", "concatenate", "residual", "shared")
_WITHOUT = {
    "activation", "alpha_dropout", "average_pool", "dropout", "flatten", "gaussian_noise",
    "global_average_pool", "global_max_pool", "lambda", "max_pool", "reshape", "resize", "rrelu",
    "select",
}  # fmt: skip


def check_fit(model: Model, params: PyTree, state: PyTree) -> None:
    """Refuse parameters and state with other names or shapes than the layers of the model have.

    What registered models have cannot be told without an input and is not looked at. Trees with one more
    leading axis everywhere, those of an ensemble, fit as each of their models does.

    Raises:
      ValueError: the first that does not fit, by its path.

    >>> import jaxdeep as jd
    >>> check_fit(jd.nn.dense(3), {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(4)}, {})
    Traceback (most recent call last):
        ...
    ValueError: params/bias has shape (4,), but dense(features=3) needs (3,)
    """
    try:
        _check(model, params, state, "")
    except ValueError:
        leaves = jax.tree.leaves((params, state))
        sizes = {jnp.shape(leaf)[:1] for leaf in leaves}
        if len(sizes) != 1 or sizes == {()}:
            raise
        one_params, one_state = _rows(params, state)
        try:
            _check(model, one_params, one_state, "")
        except ValueError:
            pass
        else:
            return
        raise


def _check(model: Model, params: PyTree, state: PyTree, path: str) -> None:
    kind, layers = model.kind, model.layers
    if kind not in registry.KINDS:
        return
    if kind == "mixed_precision":
        _check(layers[""], params, state, path)
        return
    if kind == "repeat":
        _check_names(path, params, state, layers)
        own = params.get("layer", {}), state.get("layer", {})
        if not model.config.get("shared"):
            for name, tree in zip(("params", "state"), own):
                _check_times(f"{name}{path}/layer", tree, model.config["times"])
            own = _rows(*own)
        _check(layers["layer"], *own, f"{path}/layer")
    elif kind in _BY_NAME:
        _check_names(path, params, state, layers)
        for name, layer in layers.items():
            _check(layer, params.get(name, {}), state.get(name, {}), f"{path}/{name}")
    elif kind in _WITHOUT:
        _check_names(path, params, state, {})
    elif kind in _INPUTS:
        _check_layer(model, {"params": params, "state": state}, path)


def _check_names(path: str, params: PyTree, state: PyTree, layers: Mapping[str, Any]) -> None:
    for root, tree in (("params", params), ("state", state)):
        if not isinstance(tree, Mapping):
            raise ValueError(f"{root}{path} must be a dict, got {type(tree).__name__}")
        unknown = [name for name in tree if name not in layers]
        if unknown:
            there = f"the layers there are {', '.join(layers)}" if layers else "nothing is learnt there"
            raise ValueError(f"{root}{path}/{unknown[0]} is of no layer of the model; {there}")


def _check_times(name: str, tree: PyTree, times: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.shape(leaf)[:1] != (times,):
            raise ValueError(
                f"{name}/{path_name(path)} has shape {jnp.shape(leaf)}, but repeat(times={times}) needs "
                f"a first axis of {times}"
            )


def _rows(*trees: PyTree) -> tuple[PyTree, ...]:
    """Trees of shapes, without the first axis."""
    rows: tuple[PyTree, ...] = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), trees)
    return rows


def _check_layer(model: Model, trees: dict[str, PyTree], path: str) -> None:
    """A layer that has arrays of its own: they are those of its `init`, for an input taken from them."""
    found = _shapes(trees, path)
    own = {name.rpartition("/")[2]: shape for name, shape in found.items()}
    try:
        x = jax.ShapeDtypeStruct(*_INPUTS[model.kind](model.config, own))
        plain = {
            n: v
            for n, v in model.config.items()
            if n not in ("kernel_init", "bias_init", "embedding_init")
        }
        zeros = dict.fromkeys(_INITIALIZERS.get(model.kind, ()), initializers.zeros)
        layer = registry.constructor(model.kind)(plain | zeros, {})
        made = jax.eval_shape(lambda key: layer.init(key, x), jax.random.key(0))
    except KeyError as missing:
        raise ValueError(f"params or state{path} lack {missing}, which {model!r} needs") from None
    except (ValueError, TypeError, IndexError) as error:
        raise ValueError(f"params or state{path} do not fit {model!r}: {error}") from error
    expected = _shapes(dict(zip(("params", "state"), made)), path)
    for name in {**expected, **found}:
        if name not in found:
            raise ValueError(f"{name} is missing; {model!r} needs it")
        if name not in expected:
            raise ValueError(f"{name} is not part of {model!r}")
        if found[name] != expected[name]:
            raise ValueError(f"{name} has shape {found[name]}, but {model!r} needs {expected[name]}")


def _shapes(trees: dict[str, PyTree], path: str) -> dict[str, tuple[int, ...]]:
    return {
        f"{root}{path}/{path_name(leaf_path)}": jnp.shape(leaf)
        for root, tree in trees.items()
        for leaf_path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _conv_input(config: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
    *space, channels, _ = own["kernel"]
    return (1, *space, channels * config.get("groups", 1)), jnp.float32


def _batch_norm_input(config: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
    """An input of so many axes that those counted from the end come after those from the start."""
    axis = config.get("axis", -1)
    kept = axis if isinstance(axis, (tuple, list)) else (axis,)
    ndim = 1 + 2 * max(*(abs(a) for a in kept), len(own["mean"]))
    shape = [1] * ndim
    for a, size in zip(sorted(a % ndim for a in kept), own["mean"]):
        shape[a] = size
    return tuple(shape), jnp.float32


_INITIALIZERS = {
    "dense": ("kernel_init", "bias_init"),
    "conv": ("kernel_init", "bias_init"),
    "embedding": ("embedding_init",),
}
_INPUTS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Any]] = {
    "dense": lambda config, own: ((1, own["kernel"][0]), jnp.float32),
    "conv": _conv_input,
    "embedding": lambda config, own: ((1,), jnp.int32),
    "batch_norm": _batch_norm_input,
    "prelu": lambda config, own: ((1, *own["alpha"]), jnp.float32),
    "swish": lambda config, own: ((1,), jnp.float32),
}
