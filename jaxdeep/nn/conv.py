"""Convolutions and pooling over channels-last arrays, ``(batch, *space, channels)``."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep.nn import initializers
from jaxdeep.nn.convolution import convolve
from jaxdeep.nn.linear import affine_config, check_affine, finished
from jaxdeep.nn.maximum import max_of_windows
from jaxdeep.nn.model import Model, chosen, float_dtype, need, stateless
from jaxdeep.tree import shapes

Sizes = int | Sequence[int]
Padding = str | Sequence[tuple[int, int]]


def conv(
    filters: int,
    kernel_size: Sizes,
    *,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
    activation: Callable[[Any], Any] | None = None,
    use_bias: bool = True,
    kernel_init: initializers.Initializer | None = None,
    bias_init: initializers.Initializer = initializers.zeros,
) -> Model:
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
    _checks.check_count("filters", filters)
    _checks.check_count("groups", groups)
    for name, sizes in (("kernel_size", kernel_size), ("strides", strides), ("dilation", dilation)):
        _check_sizes(name, sizes)
    padding = _check_padding(padding)
    if filters % groups:
        raise ValueError(f"groups must divide filters={filters}, got groups={groups}")
    make_kernel = check_affine(activation, use_bias, kernel_init, bias_init)

    def init(key: jax.Array, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        _checks.check_key(key)
        x = shapes(x)
        kernel = _each("kernel_size", kernel_size, _space(x.shape, kernel_size))
        channels, dtype = x.shape[-1], float_dtype(x.dtype)
        if channels % groups or channels < 1:
            raise ValueError(f"groups={groups} must divide the {channels} channels of the input")
        params = {"kernel": make_kernel(key, (*kernel, channels // groups, filters), dtype)}
        if use_bias:
            params["bias"] = bias_init(jax.random.fold_in(key, 0), (filters,), dtype)
        return params, {}

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None, mask: Any = None
    ) -> tuple[Any, Any]:
        kernel = need(params, "kernel")
        x = jnp.asarray(x)
        x = x.astype(jnp.promote_types(float_dtype(x.dtype), kernel.dtype))
        space = kernel.ndim - 2
        channels = kernel.shape[-2] * groups
        if x.ndim != space + 2 or x.shape[-1] != channels:
            raise ValueError(
                f"conv was initialised for (batch, {space} axes of space, {channels} channels), got an "
                f"input of shape {x.shape}"
            )
        y = convolve(
            x,
            kernel.astype(x.dtype),
            strides=_each("strides", strides, space),
            padding=_pairs(padding, space),
            dilation=_each("dilation", dilation, space),
            groups=groups,
        )
        _check_room("kernel_size", kernel.shape[:-2], x, y)
        return finished(y, params, use_bias, activation), state

    config = {"filters": filters, "kernel_size": kernel_size} | chosen(
        strides=(strides, 1),
        padding=(padding, "SAME"),
        dilation=(dilation, 1),
        groups=(groups, 1),
    )
    config |= affine_config(activation, use_bias, kernel_init, bias_init)
    return Model(init, apply, "conv", config, stochastic=False)


def max_pool(window: Sizes = 2, *, strides: Sizes | None = None, padding: Padding = "VALID") -> Model:
    """The largest value of every window of space, channel by channel.

    ``(batch, *space, channels) -> (batch, *fewer, channels)``.

    Args:
      window: an int for every axis of space, or one for each.
      strides: likewise; the window itself by default, so that windows do not overlap.
      padding: "VALID", "SAME", or ``(low, high)`` for each axis; padding never wins.

    Raises:
      ValueError, TypeError: as `conv`.

    Source: Keras' `MaxPooling1D`, `2D`, `3D` (flax' has strides of 1 by default).

    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> max_pool().apply({}, {}, x)[0].ravel().tolist()
    [5.0, 7.0, 13.0, 15.0]
    """

    def pool(x: Any, window: Any, strides: Any, padding: Any) -> Any:
        lowest: Any = -np.inf
        if not jnp.issubdtype(x.dtype, jnp.floating):
            lowest = False if x.dtype == jnp.bool_ else np.iinfo(x.dtype).min

        def largest(x: Any) -> Any:
            # a constant of NumPy: as a traced one it would hide from JAX that this is a maximum
            return jax.lax.reduce_window(
                x, np.asarray(lowest, x.dtype), jax.lax.max, window, strides, padding
            )

        covered = all(s % w == 0 for s, w in zip(x.shape, window)) or padding == "VALID"
        whole = window == strides and isinstance(padding, str) and covered
        apart = whole and jnp.issubdtype(x.dtype, jnp.floating) and jax.default_backend() == "cpu"
        return max_of_windows(x, window, largest) if apart else largest(x)

    return _pool("max_pool", pool, window, strides, padding)


def average_pool(
    window: Sizes = 2, *, strides: Sizes | None = None, padding: Padding = "VALID"
) -> Model:
    """The mean of every window of space; padded places do not count, as in Keras.

    Args:
      window, strides, padding: as for `max_pool`.

    Raises:
      ValueError, TypeError: as `conv`.

    Source: Keras' `AveragePooling1D`, `2D`, `3D` (flax' and PyTorch's count the padding).

    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> average_pool().apply({}, {}, x)[0].ravel().tolist()
    [2.5, 4.5, 10.5, 12.5]
    """

    def pool(x: Any, window: Any, strides: Any, padding: Any) -> Any:
        dtype = float_dtype(x.dtype)
        wide = x.astype(jnp.promote_types(dtype, jnp.float32))

        def total(x: Any) -> Any:
            return jax.lax.reduce_window(x, np.zeros((), x.dtype), jax.lax.add, window, strides, padding)

        counts = total(jnp.ones((1, *x.shape[1:-1], 1), wide.dtype))
        return (total(wide) / counts).astype(dtype)

    return _pool("average_pool", pool, window, strides, padding)


def global_max_pool() -> Model:
    """The largest value of each channel: ``(batch, *space, channels) -> (batch, channels)``.

    Raises:
      ValueError: an input without axes of space.

    Source: Keras' `GlobalMaxPooling2D`.

    >>> global_max_pool().apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2))[0].tolist()
    [[6.0, 7.0]]
    """
    return stateless(lambda x: jnp.max(x, axis=_space_axes(x)), "global_max_pool")


def global_average_pool() -> Model:
    """The mean of each channel: ``(batch, *space, channels) -> (batch, channels)``.

    Raises:
      ValueError: an input without axes of space.

    Source: Keras' `GlobalAveragePooling2D`.

    >>> global_average_pool().apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2))[0].tolist()
    [[3.0, 4.0]]
    """
    return stateless(lambda x: jnp.mean(x, axis=_space_axes(x)), "global_average_pool")


def _pool(
    kind: str, pool: Callable[..., Any], window: Sizes, strides: Sizes | None, padding: Padding
) -> Model:
    _check_sizes("window", window)
    if strides is not None:
        _check_sizes("strides", strides)
    padding = _check_padding(padding)
    step = window if strides is None else strides

    def function(x: Any) -> Any:
        x = jnp.asarray(x)
        space = _space(x.shape, window)
        sizes = (1, *_each("window", window, space), 1)
        moves = (1, *_each("strides", step, space), 1)
        pads = padding if isinstance(padding, str) else [(0, 0), *_pairs(padding, space), (0, 0)]
        if not isinstance(pads, str) and any(max(p) >= s for p, s in zip(pads, sizes) if max(p)):
            raise ValueError(
                f"padding must be smaller than the window, {sizes[1:-1]}, so that every window has "
                f"something in it; got {padding}"
            )
        y = pool(x, sizes, moves, pads)
        _check_room("window", sizes[1:-1], x, y)
        return y

    config = chosen(window=(window, 2), strides=(strides, None), padding=(padding, "VALID"))
    return stateless(function, kind, **config)


def _check_room(name: str, sizes: tuple[int, ...], x: Any, y: Any) -> None:
    if 0 in y.shape[1:-1]:
        raise ValueError(f"{name} must fit into the input, got {sizes} for an input of shape {x.shape}")


def _space_axes(x: Any) -> tuple[int, ...]:
    if jnp.ndim(x) < 3:
        raise ValueError(
            f"pooling needs an input (batch, *space, channels), got one of shape {jnp.shape(x)}"
        )
    return tuple(range(1, jnp.ndim(x) - 1))


def _space(shape: tuple[int, ...], sizes: Sizes) -> int:
    """The number of axes of space of an input."""
    space = len(shape) - 2
    if not 1 <= space <= 3:
        raise ValueError(
            f"an input must be (batch, *space, channels) with 1 to 3 axes of space, got shape {shape}"
        )
    return space


def _each(name: str, sizes: Sizes, space: int) -> tuple[int, ...]:
    if isinstance(sizes, Sequence):
        if len(sizes) != space:
            raise ValueError(
                f"{name} must be one number or {space}, one for each axis of space; got {sizes}"
            )
        return tuple(sizes)
    return (sizes,) * space


def _check_sizes(name: str, sizes: Any) -> None:
    many = isinstance(sizes, Sequence) and not isinstance(sizes, str)
    for size in sizes if many else (sizes,):
        _checks.check_count(name, size)
    if many and not 1 <= len(sizes) <= 3:
        raise ValueError(f"{name} must be one number or 1 to 3 of them, got {sizes}")


def _check_padding(padding: Any) -> Any:
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            raise ValueError(
                f"padding must be 'SAME', 'VALID' or (low, high) for each axis, got {padding!r}"
            )
        return padding.upper()
    try:
        pairs = tuple((operator.index(low), operator.index(high)) for low, high in padding)
    except (TypeError, ValueError):
        raise TypeError(
            f"padding must be 'SAME', 'VALID' or (low, high) for each axis, got {padding!r}"
        ) from None
    if not pairs or min(min(pair) for pair in pairs) < 0:
        raise ValueError(f"padding must be pairs that are not negative, got {padding!r}")
    return pairs


def _pairs(padding: Any, space: int) -> Any:
    if not isinstance(padding, str) and len(padding) != space:
        raise ValueError(f"padding must be a pair for each of {space} axes of space, got {padding}")
    return padding
