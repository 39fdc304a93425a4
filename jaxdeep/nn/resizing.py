"""Images of another size in front of a network that was made for its own."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep.nn.model import Model, chosen, float_dtype, stateless

_METHODS = ("nearest", "linear", "bilinear", "trilinear", "cubic", "bicubic", "lanczos3", "lanczos5")


def resize(*sizes: int, method: str = "bilinear", antialias: bool = True) -> Model:
    """Images in another size: ``(batch, *space, channels) -> (batch, *sizes, channels)``.

    In front of a trained network it takes inputs of the size that network knows, in one program with
    it. Inputs without channels, ``(batch, *space)``, stay without.

    Args:
      sizes: of the axes of space, one by one.
      method: of `jax.image.resize`: "nearest", "bilinear", "bicubic", "lanczos3" …
      antialias: whether to smooth before making smaller.

    Raises:
      ValueError: a size below 1, an unknown method, an input with another number of axes.

    Source: `jax.image.resize`; Keras' `Resizing`.

    >>> resize(28, 28).apply({}, {}, jnp.ones((2, 8, 8, 1)))[0].shape
    (2, 28, 28, 1)
    """
    for size in sizes:
        _checks.check_count("sizes", size)
    if not sizes:
        raise ValueError("resize needs the sizes of the axes of space, such as resize(28, 28)")
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(_METHODS)}, got {method!r}")
    _checks.check_flag("antialias", antialias)

    def images(x: Any) -> Any:
        x = jnp.asarray(x)
        if x.ndim - len(sizes) not in (1, 2):
            raise ValueError(
                f"resize to {sizes} needs an input (batch, {len(sizes)} axes of space, channels), got "
                f"shape {x.shape}"
            )
        shape = (x.shape[0], *sizes, *x.shape[len(sizes) + 1 :])
        return jax.image.resize(x.astype(float_dtype(x.dtype)), shape, method, antialias=antialias)

    options = chosen(method=(method, "bilinear"), antialias=(antialias, True))
    return stateless(images, "resize", sizes=sizes, **options)
