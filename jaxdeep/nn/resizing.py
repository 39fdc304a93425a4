"""Images of another size: resized in front of a network that was made for its own, or with a border."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import Array
from jaxdeep.nn.conv import Padding, check_padding, pairs, space_of
from jaxdeep.nn.layer import Layer, layer
from jaxdeep.nn.linear import one_by_one
from jaxdeep.nn.model import float_dtype
from jaxdeep.nn.traits import Traits, same_axes

_METHODS = ("nearest", "linear", "bilinear", "trilinear", "cubic", "bicubic", "lanczos3", "lanczos5")


@layer
def resize(*sizes: int | Sequence[int], method: str = "bilinear", antialias: bool = True) -> Layer:
    """Images in another size: ``(batch, *space, channels) -> (batch, *sizes, channels)``.

    In front of a trained network it takes inputs of the size that network knows, in one program with
    it. Inputs without channels, ``(batch, *space)``, stay without.

    Args:
      sizes: of the axes of space, one by one or as one tuple.
      method: of `jax.image.resize`: "nearest", "bilinear", "bicubic", "lanczos3" …
      antialias: whether to smooth before making smaller.

    Raises:
      ValueError: a size below 1, an unknown method, an input with another number of axes.

    Source: `jax.image.resize`; Keras' `Resizing`.

    >>> resize(28, 28).apply({}, {}, jnp.ones((2, 8, 8, 1)))[0].shape
    (2, 28, 28, 1)
    """
    wanted = one_by_one(sizes)
    if not wanted:
        raise ValueError("resize needs the sizes of the axes of space, such as resize(28, 28)")
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(_METHODS)}, got {method!r}")
    _checks.check_flag("antialias", antialias)

    def apply(x: Array) -> Array:
        x = jnp.asarray(x)
        if x.ndim - len(wanted) not in (1, 2):
            raise ValueError(
                f"resize to {wanted} needs an input (batch, {len(wanted)} axes of space, channels), got "
                f"shape {x.shape}"
            )
        shape = (x.shape[0], *wanted, *x.shape[len(wanted) + 1 :])
        return jax.image.resize(x.astype(float_dtype(x.dtype)), shape, method, antialias=antialias)

    return Layer(apply, traits=Traits(keeps=True, axes=same_axes), arguments={"sizes": wanted})


@layer
def zero_padding(padding: int | Padding = 1) -> Layer:
    """Zeros around images: ``(batch, *space, channels) -> (batch, *larger, channels)``.

    Args:
      padding: so many on every side, or ``(low, high)`` for each axis of space.

    Raises:
      ValueError: negative numbers, not a pair for each axis of space. TypeError: what is no number.

    Source: Keras' `ZeroPadding1D`, `2D`, `3D`.

    >>> zero_padding(((0, 1), (2, 0))).apply({}, {}, jnp.ones((1, 2, 2, 1)))[0][0, :, :, 0].tolist()
    [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    """
    if isinstance(padding, Sequence) and not isinstance(padding, str):
        padding = check_padding(padding)
    else:
        padding = _checks.check_count("padding", padding, low=0)

    def apply(x: Array) -> Array:
        x = jnp.asarray(x)
        space = space_of(x.shape)
        around = ((padding, padding),) * space if isinstance(padding, int) else pairs(padding, space)
        return jnp.pad(x, ((0, 0), *around, (0, 0)))

    return Layer(apply, traits=Traits(keeps=True, axes=same_axes), arguments={"padding": padding})
