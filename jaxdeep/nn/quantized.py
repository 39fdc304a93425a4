"""Layers whose weights are whole numbers of 8 bits with a scale for each input and each output."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._arrays import whole
from jaxdeep._shapes import Array, Arrays
from jaxdeep.nn.conv import Padding, Sizes, conv
from jaxdeep.nn.layer import Layer, layer
from jaxdeep.nn.linear import dense, embedding, finished, ntk_dense
from jaxdeep.nn.model import Model, float_dtype
from jaxdeep.nn.traits import Activation, Shape, Traits


@layer
def quantized_dense(
    features: int, *, activation: Activation | None = None, use_bias: bool = True
) -> Layer:
    """A dense layer with int8 weights: ``y = activation(scale · (x @ (input_scale · kernel)) + bias)``.

    `kernel` is int8 of ``(inputs, features)``, `input_scale` float32 of ``(inputs,)``, `scale` float32
    of ``(features,)``. Activations stay in floating point. `jaxdeep.compress.quantize` makes it of a
    trained `jaxdeep.nn.dense`; a fresh one is a fresh dense layer, rounded.

    Args:
      features, activation, use_bias: as for `jaxdeep.nn.dense`.

    Raises:
      ValueError, TypeError: as `jaxdeep.nn.dense`.

    Source: weight-only quantisation; Jacob et al. (arXiv:1712.05877), symmetric and per channel.

    >>> layer = quantized_dense(2)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> params["kernel"].dtype, layer.apply(params, state, jnp.ones((5, 3)))[0].shape
    (dtype('int8'), (5, 2))
    """
    full = dense(features, activation=activation, use_bias=use_bias)
    return _quantized(dense(features, use_bias=False), full, activation, use_bias)


@layer
def quantized_ntk_dense(
    features: int, *, activation: Activation | None = None, use_bias: bool = True
) -> Layer:
    """A dense layer in NTK parametrisation with int8 weights, which are divided by √inputs when used.

    Args:
      features, activation, use_bias: as for `jaxdeep.nn.ntk_dense`.

    Raises:
      ValueError, TypeError: as `jaxdeep.nn.ntk_dense`.

    Source: as `quantized_dense`, whose parameters it has.

    >>> layer = quantized_ntk_dense(2)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> params["kernel"].dtype, layer.apply(params, state, jnp.ones((5, 3)))[0].shape
    (dtype('int8'), (5, 2))
    """
    full = ntk_dense(features, activation=activation, use_bias=use_bias)
    return _quantized(ntk_dense(features, use_bias=False), full, activation, use_bias)


@layer
def quantized_conv(
    filters: int,
    kernel_size: Sizes,
    *,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
    activation: Activation | None = None,
    use_bias: bool = True,
) -> Layer:
    """A convolution with int8 weights: ``y = activation(scale · (x ⋆ (input_scale · kernel)) + bias)``.

    `kernel` is int8, `input_scale` float32 of its channels ``(channels / groups,)``, `scale` float32 of
    ``(filters,)``; see `quantized_dense`.

    Args:
      filters, kernel_size, strides, padding, dilation, groups, activation, use_bias: as for
        `jaxdeep.nn.conv`.

    Raises:
      ValueError, TypeError: as `jaxdeep.nn.conv`.

    Source: as `quantized_dense`.

    >>> layer = quantized_conv(8, 3)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 9, 9, 1)))
    >>> params["scale"].shape, layer.apply(params, state, jnp.ones((5, 9, 9, 1)))[0].shape
    ((8,), (5, 9, 9, 8))
    """
    make = functools.partial(
        conv, filters, kernel_size, strides=strides, padding=padding, dilation=dilation, groups=groups
    )
    full = make(activation=activation, use_bias=use_bias)
    return _quantized(make(use_bias=False), full, activation, use_bias)


@layer
def quantized_embedding(num_embeddings: int, features: int) -> Layer:
    """An embedding with int8 vectors, each with a scale of its own: ``y = scale[x] · table[x]``.

    `table` is int8 of ``(num_embeddings, features)``, `scale` float32 of ``(num_embeddings,)``.

    Args:
      num_embeddings, features: as for `jaxdeep.nn.embedding`.

    Raises:
      ValueError, TypeError: as `jaxdeep.nn.embedding`.

    Source: as `quantized_dense`; a scale a row, as in PyTorch's quantised embeddings.

    >>> layer = quantized_embedding(10, 3)
    >>> params, state = layer.init(jax.random.key(0), jnp.zeros(1, int))
    >>> params["table"].dtype, layer.apply(params, state, jnp.array([[1, 2]]))[0].shape
    (dtype('int8'), (1, 2, 3))
    """
    lookup, of_scales = embedding(num_embeddings, features), embedding(num_embeddings, 1)

    def init(key: Array, x: jax.ShapeDtypeStruct) -> Arrays:
        table, scale = rounded(lookup.init(key, x)[0]["table"], axis=-1)
        return {"table": table, "scale": scale}

    def apply(params: Arrays, x: Array) -> Array:
        table, scale = params["table"], params["scale"]
        # the scales are looked up as vectors of one number, whose absence is NaN
        factors, _ = of_scales.apply({"table": scale[:, None]}, {}, x)
        vectors = jnp.take(table, jnp.clip(whole("x", x), 0, table.shape[0] - 1), axis=0)
        return vectors.astype(scale.dtype) * factors

    return Layer(apply, init, traits=Traits(axes=lookup.traits.axes, example=lookup.traits.example))


def rounded(w: Array, axis: int | Shape) -> tuple[Array, Array]:
    """Whole numbers from −127 to 127 and a scale for what shares `axis`: ``w ≈ scale · number``."""
    xp, wide = _wide(w)
    return _rounded(xp, wide, axis)


def doubly_rounded(w: Array, stack: int = 0) -> Arrays:
    """The weights of a linear map as whole numbers with a scale for each input and each output.

    An input's scale is its largest weight: with it in front, inputs of very different sizes, such as
    pixels behind a folded batch norm, are all rounded as finely, for themselves.
    """
    xp, wide = _wide(w)
    channel = wide.ndim - 2
    others = tuple(a for a in range(stack, wide.ndim) if a != channel)
    largest = xp.max(xp.abs(wide), axis=others)
    inputs = xp.where(largest >= _tiny(wide), largest, xp.ones_like(largest))
    numbers, scale = _rounded(
        xp, wide / xp.expand_dims(inputs, others), tuple(range(stack, channel + 1))
    )
    return {"kernel": numbers, "input_scale": jnp.asarray(inputs), "scale": scale}


def _wide(w: Array) -> tuple[types.ModuleType, Array]:
    known = not isinstance(w, jax.core.Tracer)
    xp: types.ModuleType = np if known else jnp  # NumPy compiles nothing
    return xp, xp.asarray(w).astype(jnp.promote_types(w.dtype, jnp.float32))


def _tiny(wide: Array) -> float:
    return float(jnp.finfo(wide.dtype).tiny)


def _rounded(xp: types.ModuleType, wide: Array, axis: int | Shape) -> tuple[Array, Array]:
    largest = xp.max(xp.abs(wide), axis=axis)
    scale = xp.where(largest >= 127 * _tiny(wide), largest / 127, xp.ones_like(largest))
    numbers = xp.clip(xp.round(wide / xp.expand_dims(scale, axis)), -127, 127).astype(jnp.int8)
    return jnp.asarray(numbers), jnp.asarray(scale)


def _quantized(applied: Model, full: Model, activation: Activation | None, use_bias: bool) -> Layer:
    """A layer with int8 weights: `applied` applies the kernel, `full` makes the parameters."""

    def init(key: Array, x: jax.ShapeDtypeStruct) -> Arrays:
        params, _ = full.init(key, x)
        return {**params, **doubly_rounded(params["kernel"])}

    def apply(params: Arrays, x: Array) -> Array:
        numbers, inputs, scale = (params[name] for name in ("kernel", "input_scale", "scale"))
        dtype = float_dtype(jnp.result_type(x))
        if scale.dtype == jnp.float64:
            dtype = scale.dtype
        # the scales of inputs go with the cast of the numbers, which is made in any case; those of
        # outputs behind the sum: one for each output costs less than one for each weight
        beside = jnp.expand_dims(inputs[:, None], range(numbers.ndim - 2))
        kernel = (numbers.astype(inputs.dtype) * beside).astype(dtype)
        y, _ = applied.apply({"kernel": kernel}, {}, jnp.asarray(x).astype(dtype))
        y = (y * jnp.expand_dims(scale, range(y.ndim - 1))).astype(dtype)
        return finished(y, params, use_bias, activation)

    return Layer(
        apply,
        init,
        traits=Traits(
            axes=full.traits.axes,
            outputs=None if activation else "scores",
            ends=activation,
            features=full.traits.features,
            example=full.traits.example,
        ),
    )
