"""Pooling over channels-last arrays, ``(batch, *space, channels)``."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._limits import largest
from jaxdeep._shapes import Array
from jaxdeep.nn.conv import (
    Padding,
    Sizes,
    check_padding,
    check_room,
    check_sizes,
    each_axis,
    pairs,
    space_of,
)
from jaxdeep.nn.layer import Layer, layer
from jaxdeep.nn.model import float_dtype
from jaxdeep.nn.traits import Passes, Shape, Traits, rows, same_axes

_LINEAR = Passes(shift=True, negative=True, windows=True)
_INCREASING = Passes(shift=True, windows=True)


@layer
def max_pool(window: Sizes = 2, *, strides: Sizes | None = None, padding: Padding = "VALID") -> Layer:
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

    def pool(x: Array, window: Shape, strides: Shape, padding: Padding) -> Array:
        lowest: float = -np.inf
        if not jnp.issubdtype(x.dtype, jnp.floating):
            lowest = False if x.dtype == jnp.bool_ else np.iinfo(x.dtype).min

        def largest(x: Array) -> Array:
            # a constant of NumPy: as a traced one it would hide from JAX that this is a maximum
            return jax.lax.reduce_window(
                x, np.asarray(lowest, x.dtype), jax.lax.max, window, strides, padding
            )

        covered = all(s % w == 0 for s, w in zip(x.shape, window)) or padding == "VALID"
        whole = window == strides and isinstance(padding, str) and covered
        # symbolic sizes may not be whole windows, and how many fit is not known of them
        known = all(isinstance(s, int) for s, w in zip(x.shape, window) if w > 1)
        apart = whole and known and jnp.issubdtype(x.dtype, jnp.floating)
        return max_of_windows(x, window, largest) if apart else largest(x)

    return _pool(pool, window, strides, padding, _INCREASING)


@layer
def average_pool(
    window: Sizes = 2, *, strides: Sizes | None = None, padding: Padding = "VALID"
) -> Layer:
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

    def pool(x: Array, window: Shape, strides: Shape, padding: Padding) -> Array:
        dtype = float_dtype(x.dtype)
        wide = x.astype(jnp.promote_types(dtype, jnp.float32))

        def total(x: Array) -> Array:
            return jax.lax.reduce_window(x, np.zeros((), x.dtype), jax.lax.add, window, strides, padding)

        counts = total(jnp.ones((1, *x.shape[1:-1], 1), wide.dtype))
        return (total(wide) / counts).astype(dtype)

    return _pool(pool, window, strides, padding, _LINEAR)


@layer
def global_max_pool() -> Layer:
    """The largest value of each channel: ``(batch, *space, channels) -> (batch, channels)``.

    Raises:
      ValueError: an input without axes of space.

    Source: Keras' `GlobalMaxPooling2D`.

    >>> global_max_pool().apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2))[0].tolist()
    [[6.0, 7.0]]
    """
    return _global_pool(largest, _INCREASING)


@layer
def global_average_pool() -> Layer:
    """The mean of each channel: ``(batch, *space, channels) -> (batch, channels)``.

    Raises:
      ValueError: an input without axes of space.

    Source: Keras' `GlobalAveragePooling2D`.

    >>> global_average_pool().apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2))[0].tolist()
    [[3.0, 4.0]]
    """
    return _global_pool(jnp.mean, _LINEAR)


def _pool(
    pool: Callable[[Array, Shape, Shape, Padding], Array],
    window: Sizes,
    strides: Sizes | None,
    padding: Padding,
    passes: Passes,
) -> Layer:
    step = window if strides is None else strides
    check_sizes(window=window, strides=step)
    padding = check_padding(padding)

    def apply(x: Array) -> Array:
        x = jnp.asarray(x)
        space = space_of(x.shape)
        sizes = (1, *each_axis("window", window, space), 1)
        moves = (1, *each_axis("strides", step, space), 1)
        pads = padding if isinstance(padding, str) else [(0, 0), *pairs(padding, space), (0, 0)]
        if not isinstance(pads, str) and any(max(p) >= s for p, s in zip(pads, sizes) if max(p)):
            raise ValueError(
                f"padding must be smaller than the window, {sizes[1:-1]}, so that every window has "
                f"something in it; got {padding}"
            )
        y = pool(x, sizes, moves, pads)
        check_room("window", sizes[1:-1], x, y)
        return y

    return Layer(
        apply, traits=Traits(passes=passes, axes=same_axes, keeps=True), arguments={"padding": padding}
    )


def _global_pool(reduce: Callable[..., Array], passes: Passes) -> Layer:
    def apply(x: Array) -> Array:
        if jnp.ndim(x) < 3:
            raise ValueError(
                f"pooling needs an input x of (batch, *space, channels), got one of shape {jnp.shape(x)}"
            )
        return reduce(jnp.asarray(x), tuple(range(1, jnp.ndim(x) - 1)))

    return Layer(apply, traits=Traits(passes=passes, axes=rows, keeps=True))


def max_of_windows(x: Array, window: Shape, largest: Callable[[Array], Array]) -> Array:
    """``largest(x)``, the maxima over windows side by side; a gradient goes to the first of its window.

    The same as JAX derives, which scatters the gradients one by one: some ten times slower on a CPU.
    Programs for other devices have what JAX derives.

    >>> x = jnp.array([1.0, 3.0, 3.0, 2.0])
    >>> jax.grad(lambda x: max_of_windows(x, (4,), lambda x: x.max()[None]).sum())(x).tolist()
    [0.0, 1.0, 0.0, 0.0]
    """
    within = tuple(range(1, 2 * x.ndim, 2))

    def windows(x: Array) -> Array:
        """``(rows, window, rows, window, …)``, without what fills no window."""
        counts = [size // w for size, w in zip(x.shape, window)]
        x = x[tuple(slice(count * w) for count, w in zip(counts, window))]
        return x.reshape([axis for pair in zip(counts, window) for axis in pair])

    def side_by_side(x: Array, y: Array, dx: Array) -> Array:
        places = math.prod(window)
        place = np.arange(places).reshape([axis for w in window for axis in (1, w)])
        candidates = windows(x)
        highest = (candidates == jnp.expand_dims(y, within)) | jnp.isnan(candidates)
        first = jnp.min(jnp.where(highest, place, places), axis=within, keepdims=True)
        return jnp.sum(jnp.where(place == first, windows(dx), 0), axis=within)

    def derived(x: Array, y: Array, dx: Array) -> Array:
        return jax.jvp(largest, (x,), (dx,))[1]

    result = jax.custom_jvp(largest)

    @result.defjvp
    def derivative(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        (x,), (dx,) = primals, tangents
        y = result(x)
        # decided when a program is lowered, as in `convolve`
        return y, jax.lax.platform_dependent(x, y, dx, cpu=side_by_side, default=derived)

    return result(x)
