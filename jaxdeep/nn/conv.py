"""Convolutions over channels-last arrays, ``(batch, *space, channels)``."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxdeep import _checks
from jaxdeep._shapes import Array, Arrays
from jaxdeep.nn import initializers
from jaxdeep.nn.activation_layers import check_activates
from jaxdeep.nn.convolve import SPACE, Padding, convolve
from jaxdeep.nn.layer import Layer, layer
from jaxdeep.nn.linear import finished, kernel_and_bias
from jaxdeep.nn.model import float_dtype
from jaxdeep.nn.traits import Activation, Linear, Shape, Traits, same_axes

Sizes = int | Sequence[int]


@layer
def conv(
    filters: int,
    kernel_size: Sizes,
    *,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_init: initializers.Initializer | None = None,
    bias_init: initializers.Initializer = initializers.zeros,
) -> Layer:
    """A convolution over 1, 2 or 3 axes of space: ``y = activation(x ⋆ kernel + bias)``.

    ``(batch, *space, channels) -> (batch, *smaller, filters)``; `kernel` is ``(*kernel_size, channels /
    groups, filters)``, `bias` ``(filters,)``. It is a cross-correlation, as everywhere in the field.

    Args:
      filters: number of output channels.
      kernel_size: an int for every axis of space, or one for each.
      strides, dilation: likewise; dilation spreads the kernel's taps.
      padding: "SAME" (the default, as in flax; Keras' is "VALID"), "VALID", or ``(low, high)`` for
        each axis of space.
      groups: channels are split into that many groups, each with its own filters; as many groups as
        channels is a depthwise convolution.
      activation, use_bias, kernel_init, bias_init: as for `dense`.

    Raises:
      ValueError: sizes below 1 or not one for each axis, an unknown padding, groups that do not divide
        channels and filters, an input with another number of axes or channels.
      TypeError: sizes that are not whole numbers, functions that are not callable.

    Source: semantics of `flax.linen.Conv` and Keras' `Conv1D`, `Conv2D`, `Conv3D`.

    >>> layer = conv(8, 3, strides=2)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 28, 28, 1)))
    >>> params["kernel"].shape, layer.apply(params, state, jnp.ones((5, 28, 28, 1)))[0].shape
    ((3, 3, 1, 8), (5, 14, 14, 8))
    """
    filters = _checks.check_count("filters", filters)
    groups = _checks.check_count("groups", groups)
    check_sizes(kernel_size=kernel_size, strides=strides, dilation=dilation)
    padding = check_padding(padding)
    if filters % groups:
        raise ValueError(f"groups must divide filters={filters}, got groups={groups}")
    make = kernel_and_bias(activation, use_bias, kernel_init, bias_init)

    def init(key: Array, x: jax.ShapeDtypeStruct) -> Arrays:
        kernel = each_axis("kernel_size", kernel_size, space_of(x.shape))
        channels, dtype = x.shape[-1], float_dtype(x.dtype)
        if channels % groups or channels < 1:
            raise ValueError(f"groups={groups} must divide the {channels} channels of the input")
        if activation is not None:
            check_activates(
                "activation", activation, jax.ShapeDtypeStruct((*x.shape[:-1], filters), dtype)
            )
        return make(key, (*kernel, channels // groups, filters), dtype)

    def apply(params: Arrays, x: Array) -> Array:
        kernel = params["kernel"]
        x = jnp.asarray(x)
        x = x.astype(jnp.promote_types(float_dtype(x.dtype), kernel.dtype))
        space = kernel.ndim - 2
        channels = kernel.shape[-2] * groups
        if x.ndim != space + 2 or x.shape[-1] != channels:
            raise ValueError(
                f"conv was initialised for (batch, {space} axes of space, {channels} channels), got an "
                f"input x of shape {x.shape} (params: the kernel is {kernel.shape})"
            )
        y = convolve(
            x,
            kernel.astype(x.dtype),
            strides=each_axis("strides", strides, space),
            padding=pairs(padding, space),
            dilation=each_axis("dilation", dilation, space),
            groups=groups,
        )
        check_room("kernel_size", kernel.shape[:-2], x, y)
        return finished(y, params, use_bias, activation)

    def example(shapes: Mapping[str, Shape]) -> tuple[Shape, DTypeLike]:
        *space, channels, _ = shapes["kernel"]
        return (1, *space, channels * groups), jnp.float32

    traits = Traits(
        linear=Linear("kernel", groups=groups, pads=_pads(kernel_size, padding)),
        function=activation,
        axes=same_axes,
        features=filters,
        example=example,
    )
    return Layer(apply, init, traits=traits, arguments={"padding": padding})


@layer
def conv_transpose(
    filters: int,
    kernel_size: Sizes,
    *,
    strides: Sizes = 1,
    padding: str = "SAME",
    dilation: Sizes = 1,
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_init: initializers.Initializer | None = None,
    bias_init: initializers.Initializer = initializers.zeros,
) -> Layer:
    """A transposed convolution over 1, 2 or 3 axes of space, which makes images larger by its strides.

    ``(batch, *space, channels) -> (batch, *larger, filters)``: a convolution of the input with
    ``strides − 1`` zeros between neighbours. `kernel` is ``(*kernel_size, channels, filters)`` and not
    turned, as in flax; Keras' and PyTorch's, which are the kernels of the convolution that this is the
    transpose of, are turned in space and have the last two axes the other way round.

    Args:
      filters: number of output channels.
      kernel_size, strides, dilation: as for `conv`.
      padding: "SAME", for ``space · strides``, or "VALID", for
        ``(space − 1) · strides + max(kernel_size, strides)``.
      activation, use_bias, kernel_init, bias_init: as for `dense`.

    Raises:
      ValueError, TypeError: as `conv`.

    Source: semantics of `flax.linen.ConvTranspose` and Keras' `Conv2DTranspose`.

    >>> layer = conv_transpose(8, 3, strides=2)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 7, 7, 4)))
    >>> params["kernel"].shape, layer.apply(params, state, jnp.ones((5, 7, 7, 4)))[0].shape
    ((3, 3, 4, 8), (5, 14, 14, 8))
    """
    filters = _checks.check_count("filters", filters)
    check_sizes(kernel_size=kernel_size, strides=strides, dilation=dilation)
    if not isinstance(padding, str):
        raise TypeError(f"padding must be 'SAME' or 'VALID', got {padding!r}")
    padding = str(check_padding(padding))
    make = kernel_and_bias(activation, use_bias, kernel_init, bias_init)

    def init(key: Array, x: jax.ShapeDtypeStruct) -> Arrays:
        kernel = each_axis("kernel_size", kernel_size, space_of(x.shape))
        if x.shape[-1] < 1:
            raise ValueError(f"conv_transpose needs an x with channels, got shape {x.shape}")
        dtype = float_dtype(x.dtype)
        if activation is not None:
            shape = jax.ShapeDtypeStruct((*x.shape[:-1], filters), dtype)
            check_activates("activation", activation, shape)
        return make(key, (*kernel, x.shape[-1], filters), dtype)

    def apply(params: Arrays, x: Array) -> Array:
        kernel = params["kernel"]
        x = jnp.asarray(x)
        x = x.astype(jnp.promote_types(float_dtype(x.dtype), kernel.dtype))
        space, letters = kernel.ndim - 2, SPACE[5 - kernel.ndim :]
        if x.ndim != space + 2 or x.shape[-1] != kernel.shape[-2]:
            raise ValueError(
                f"conv_transpose was initialised for (batch, {space} axes of space, {kernel.shape[-2]} "
                f"channels), got an input x of shape {x.shape} (params: the kernel is {kernel.shape})"
            )
        y = jax.lax.conv_transpose(
            x,
            kernel.astype(x.dtype),
            each_axis("strides", strides, space),
            padding,
            rhs_dilation=each_axis("dilation", dilation, space),
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        )
        return finished(y, params, use_bias, activation)

    traits = Traits(
        linear=Linear("kernel", pads=True),
        function=activation,
        axes=same_axes,
        features=filters,
        example=lambda shapes: ((1, *shapes["kernel"][:-1]), jnp.float32),
    )
    return Layer(apply, init, traits=traits, arguments={"padding": padding})


def _pads(kernel_size: Sizes, padding: Padding) -> bool:
    """Whether zeros are put around an input."""
    if isinstance(padding, str):
        taps = kernel_size if isinstance(kernel_size, Sequence) else (kernel_size,)
        return padding == "SAME" and max(taps) > 1
    return any(max(pair) > 0 for pair in padding)


# --- what `conv` and the pools share -----------------------------------------------------------------


def check_room(name: str, sizes: Shape, x: Array, y: Array) -> None:
    """Refuse a window that does not fit into the input, so that the output is empty."""
    if 0 in y.shape[1:-1]:
        raise ValueError(f"{name} must fit into the input, got {sizes} for an input of shape {x.shape}")


def space_of(shape: Shape) -> int:
    """The number of axes of space of an input."""
    space = len(shape) - 2
    if not 1 <= space <= 3:
        raise ValueError(
            f"an input must be (batch, *space, channels) with 1 to 3 axes of space, got shape {shape}"
        )
    return space


def each_axis(name: str, sizes: Sizes, space: int) -> Shape:
    """One size for each axis of space."""
    if isinstance(sizes, Sequence):
        if len(sizes) != space:
            raise ValueError(
                f"{name} must be one number or {space}, one for each axis of space; got {sizes}"
            )
        return tuple(map(int, sizes))
    return (int(sizes),) * space


def check_sizes(**arguments: object) -> None:
    """Refuse each that is neither a size nor one for each of 1 to 3 axes."""
    for name, sizes in arguments.items():
        by_axis = sizes if isinstance(sizes, Sequence) and not isinstance(sizes, str) else (sizes,)
        for size in by_axis:
            _checks.check_count(name, size)
        if not 1 <= len(by_axis) <= 3:
            raise ValueError(f"{name} must be one number or 1 to 3 of them, got {sizes}")


def check_padding(padding: Padding) -> Padding:
    """The padding in capital letters or as a tuple of pairs; refuses anything else."""
    fault = f"padding must be 'SAME', 'VALID' or (low, high) for each axis, got {padding!r}"
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            raise ValueError(fault)
        return padding.upper()
    try:
        pairs = tuple((_checks.index(low), _checks.index(high)) for low, high in padding)
    except (TypeError, ValueError):
        raise TypeError(fault) from None
    if not pairs or min(min(pair) for pair in pairs) < 0:
        raise ValueError(f"padding must be pairs that are not negative, got {padding!r}")
    return pairs


def pairs(padding: Padding, space: int) -> Padding:
    """The padding, once it is known that pairs are one for each axis of space."""
    if not isinstance(padding, str) and len(padding) != space:
        raise ValueError(f"padding must be a pair for each of {space} axes of space, got {padding}")
    return padding
