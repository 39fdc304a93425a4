"""Layers of Flax and Equinox that are layers of jaxdeep, and where their arrays are in either."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import nn
from jaxdeep._shapes import PyTree
from jaxdeep.nn import walk
from jaxdeep.nn.model import Model

Path = tuple[Any, ...]
Moved = Callable[[jax.Array], jax.Array]


def _same(array: jax.Array) -> jax.Array:
    return array


class Leaf(NamedTuple):
    """Where an array of a layer comes from.

    Attributes:
      path: of the array in ``{"params": params, "state": state}`` of the adapted module.
      here, there: what makes the layer's array of the module's, and back.
    """

    path: Path
    here: Moved = _same
    there: Moved = _same


class Known(NamedTuple):
    """A layer of another library as one of jaxdeep.

    Attributes:
      layer: the layer.
      params, state: where its arrays come from, by name.
      channels_first: it takes and gives channels in front of the axes of space.
      trains: whether it does the same in training, and not at inference alone.
      arrays: what the module holds at the paths of its arrays while it is called.
    """

    layer: Model
    params: Mapping[str, Leaf] = {}
    state: Mapping[str, Leaf] = {}
    channels_first: bool = False
    trains: bool = True
    arrays: Mapping[Path, Any] = {}


def kind_of(module: Any) -> type:
    """The class of a module before an adapter gave it another."""
    return next(kind for kind in type(module).__mro__ if "_kind_" not in vars(kind))


# --- Flax -------------------------------------------------------------------------------------------


def of_flax(
    module: Any, path: Path, x: jax.Array, state: PyTree, *, collection: Path = ()
) -> Known | None:
    """What a module of Linen or NNX is; both have the same attributes and names of arrays.

    Args:
      module, path: the module and where it is.
      x: what it is called with.
      state: unused.
      collection: where statistics are in the state.
    """
    kind = kind_of(module)
    if not kind.__module__.startswith(("flax.linen", "flax.nnx")) or kind.__name__ not in _FLAX:
        return None
    of_params = getattr(module, "param_dtype", None)
    dtypes = (None, ()) if of_params is None else (None, (), of_params)
    plain = getattr(module, "dtype", None) in dtypes and getattr(module, "precision", None) is None
    for name in ("mask", "axis_index_groups", "dot_general_cls", "conv_general_dilated_cls"):
        plain = plain and getattr(module, name, None) is None
    for name in ("dot_general", "conv_general_dilated"):
        plain = plain and getattr(module, name, None) in (None, getattr(jax.lax, name))
    layer = _FLAX[kind.__name__](module, x) if plain else None
    if layer is None:
        return None
    names = _ARRAYS[layer.kind]
    flags = {"kernel": True, "bias": "use_bias", "scale": "use_scale", "embedding": True}
    params = {
        our_name: Leaf(("params", *path, name))
        for our_name, name in names.items()
        if flags[name] is True or getattr(module, str(flags[name]))
    }
    kept = ("mean", "var") if layer.kind == "batch_norm" else ()
    statistics = {name: Leaf(("state", *collection, *path, name)) for name in kept}
    places = [leaf.path for leaf in (*params.values(), *statistics.values())]
    arrays = {place: _flax_array(module, place) for place in places}
    return Known(layer, params, statistics, arrays=arrays)


def _flax_array(module: Any, place: Path) -> Any:
    """What a module holds at a path, or None; of Linen, in the collection of the path."""
    if hasattr(module, "get_variable"):
        collection = place[0] if place[0] == "params" else place[1]
        return module.get_variable(collection, place[-1])
    return next(iter(jax.tree.leaves(getattr(module, place[-1], None))), None)


def _flax_dense(module: Any, x: jax.Array) -> Model | None:
    features = module.features if hasattr(module, "features") else module.out_features
    return nn.dense(features, use_bias=module.use_bias) if isinstance(features, int) else None


def _flax_conv(module: Any, x: jax.Array) -> Model | None:
    filters = module.features if hasattr(module, "features") else module.out_features
    size = _each(module.kernel_size, None)
    spread, dilation = (_each(a, len(size)) for a in (module.input_dilation, module.kernel_dilation))
    padding = module.padding
    if not isinstance(padding, str):
        padding = tuple(p if isinstance(p, tuple) else (p, p) for p in _each(padding, len(size)))
    other = isinstance(padding, str) and padding not in ("SAME", "VALID")
    if other or x.ndim != len(size) + 2 or set(spread) != {1}:
        return None
    return nn.conv(
        filters,
        size,
        strides=_each(module.strides, len(size)),
        padding=padding,
        dilation=dilation,
        groups=module.feature_group_count,
        use_bias=module.use_bias,
    )


def _flax_batch_norm(module: Any, x: jax.Array) -> Model | None:
    return nn.batch_norm(
        momentum=module.momentum,
        epsilon=module.epsilon,
        axis=module.axis,
        use_scale=module.use_scale,
        use_bias=module.use_bias,
        use_fast_variance=module.use_fast_variance,
        axis_name=module.axis_name,
    )


def _flax_layer_norm(module: Any, x: jax.Array) -> Model | None:
    if module.reduction_axes != -1 or module.feature_axes != -1 or module.axis_name is not None:
        return None
    return nn.layer_norm(epsilon=module.epsilon, use_scale=module.use_scale, use_bias=module.use_bias)


def _flax_group_norm(module: Any, x: jax.Array) -> Model | None:
    if module.num_groups is None or module.reduction_axes is not None or module.axis_name is not None:
        return None
    flags = {"use_scale": module.use_scale, "use_bias": module.use_bias}
    return nn.group_norm(module.num_groups, epsilon=module.epsilon, **flags)


def _flax_dropout(module: Any, x: jax.Array) -> Model | None:
    if not module.broadcast_dims:
        return nn.dropout(module.rate)
    broadcast = {axis % x.ndim for axis in module.broadcast_dims}
    return nn.dropout(module.rate, noise_shape=[1 if i in broadcast else None for i in range(x.ndim)])


def _flax_embed(module: Any, x: jax.Array) -> Model | None:
    return nn.embedding(module.num_embeddings, module.features)


_FLAX: dict[str, Callable[[Any, jax.Array], Model | None]] = {
    "Dense": _flax_dense,
    "Linear": _flax_dense,
    "Conv": _flax_conv,
    "BatchNorm": _flax_batch_norm,
    "LayerNorm": _flax_layer_norm,
    "GroupNorm": _flax_group_norm,
    "Dropout": _flax_dropout,
    "Embed": _flax_embed,
}
_ARRAYS: dict[str, dict[str, str]] = {  # names of a module's arrays by the names in jaxdeep
    "dense": {"kernel": "kernel", "bias": "bias"},
    "conv": {"kernel": "kernel", "bias": "bias"},
    "batch_norm": {"scale": "scale", "bias": "bias"},
    "layer_norm": {"scale": "scale", "bias": "bias"},
    "group_norm": {"scale": "scale", "bias": "bias"},
    "dropout": {},
    "embedding": {"table": "embedding"},
}


def _each(value: Any, count: int | None) -> tuple[Any, ...]:
    """One for each axis of space, as Flax reads it."""
    value = 1 if value is None else value
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * (count or 1)


# --- Equinox ----------------------------------------------------------------------------------------


def of_equinox(module: Any, path: Path, x: jax.Array, state: PyTree) -> Known | None:
    """What a module of Equinox, which takes one example, is."""
    kind = kind_of(module)
    if not kind.__module__.startswith("equinox.nn"):
        return None
    make = next((make for name, make in _EQUINOX.items() if name in _bases(kind)), None)
    known = None if make is None else make(module, ("params", *path), x, state)
    if known is None:
        return None
    places = [leaf.path for leaf in known.params.values()]
    return known._replace(arrays={place: getattr(module, place[-1]) for place in places})


def _bases(kind: type) -> list[str]:
    """The names of a layer's classes in Equinox: a Conv2d is also a Conv."""
    return [base.__name__ for base in kind.__mro__ if base.__module__.startswith("equinox.nn")]


def _linear(module: Any, path: Path, x: jax.Array, state: PyTree) -> Known | None:
    if "scalar" in (module.in_features, module.out_features):
        return None
    params = {"kernel": Leaf((*path, "weight"), jnp.transpose, jnp.transpose)}
    params |= {"bias": Leaf((*path, "bias"))} if module.use_bias else {}
    return Known(nn.dense(module.out_features, use_bias=module.use_bias), params)


def _conv(module: Any, path: Path, x: jax.Array, state: PyTree) -> Known | None:
    space = module.num_spatial_dims
    if module.padding_mode != "ZEROS" or x.ndim != space + 1:
        return None
    padding = module.padding
    padding = padding if isinstance(padding, str) else tuple(map(tuple, padding))
    layer = nn.conv(
        module.out_channels,
        tuple(module.kernel_size),
        strides=tuple(module.stride),
        padding=padding,
        dilation=tuple(module.dilation),
        groups=module.groups,
        use_bias=module.use_bias,
    )
    last = functools.partial(jnp.moveaxis, source=(0, 1), destination=(-1, -2))
    first = functools.partial(jnp.moveaxis, source=(-1, -2), destination=(0, 1))
    params = {"kernel": Leaf((*path, "weight"), last, first)}
    if module.use_bias:
        spread = functools.partial(jnp.reshape, shape=(-1, *[1] * space))
        params["bias"] = Leaf((*path, "bias"), jnp.ravel, spread)
    return Known(layer, params, channels_first=True)


def _layer_norm(module: Any, path: Path, x: jax.Array, state: PyTree) -> Known | None:
    if len(module.shape) != 1:
        return None
    flags = {"use_scale": module.use_weight, "use_bias": module.use_bias}
    params = {"scale": Leaf((*path, "weight"))} if module.use_weight else {}
    params |= {"bias": Leaf((*path, "bias"))} if module.use_bias else {}
    return Known(nn.layer_norm(epsilon=module.eps, **flags), params)


def _batch_norm(module: Any, path: Path, x: jax.Array, state: PyTree) -> Known | None:
    """Its statistics move otherwise: from the first batch ("ema"), or divided by ``1 − momentum^n``."""
    affine = module.channelwise_affine
    layer = nn.batch_norm(
        momentum=module.momentum, epsilon=module.eps, use_scale=affine, use_bias=affine
    )
    params = {"scale": Leaf((*path, "weight")), "bias": Leaf((*path, "bias"))} if affine else {}
    index = "ema_state_index"
    here: Moved = _same
    there: Moved = _same
    state_path = ("state", *path[1:])
    still = False
    if module.mode == "batch":
        counter = walk.at(state, (*state_path[1:], "batch_counter"))
        index, n = "batch_state_index", int(np.asarray(counter))
        share = 1.0 if n == 0 else 1 - float(module.momentum) ** n
        still = n > 0 and np.float32(share) == 1
        here, there = (lambda a: a / share), (lambda a: a * share)
    statistics = {
        name: Leaf((*state_path, index, str(i)), here, there) for i, name in enumerate(("mean", "var"))
    }
    return Known(layer, params, statistics, channels_first=x.ndim > 1, trains=still)


def _dropout(module: Any, path: Path, x: jax.Array, state: PyTree) -> Known | None:
    return Known(nn.dropout(float(module.p)))


def _embedding(module: Any, path: Path, x: jax.Array, state: PyTree) -> Known | None:
    layer = nn.embedding(module.num_embeddings, module.embedding_size)
    return Known(layer, {"table": Leaf((*path, "weight"))}) if x.ndim == 0 else None


_EQUINOX: dict[str, Callable[[Any, Path, jax.Array, PyTree], Known | None]] = {
    "Linear": _linear,
    "Conv": _conv,
    "LayerNorm": _layer_norm,
    "BatchNorm": _batch_norm,
    "Dropout": _dropout,
    "Embedding": _embedding,
}
