"""The maximum over windows that do not overlap, with a fast gradient."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def max_of_windows(x: Any, window: tuple[int, ...], largest: Callable[[Any], Any]) -> Any:
    """``largest(x)``, the maxima over windows side by side; a gradient goes to the first of its window.

    The same as JAX derives, which scatters the gradients one by one: some ten times slower on a CPU.

    >>> x = jnp.array([1.0, 3.0, 3.0, 2.0])
    >>> jax.grad(lambda x: max_of_windows(x, (4,), lambda x: x.max()[None]).sum())(x).tolist()
    [0.0, 1.0, 0.0, 0.0]
    """
    within = tuple(range(1, 2 * x.ndim, 2))

    def windows(x: Any) -> Any:
        """``(rows, window, rows, window, …)``, without what fills no window."""
        counts = [size // w for size, w in zip(x.shape, window)]
        x = x[tuple(slice(count * w) for count, w in zip(counts, window))]
        return x.reshape([axis for pair in zip(counts, window) for axis in pair])

    result = jax.custom_jvp(largest)

    @result.defjvp
    def derivative(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
        (x,), (dx,) = primals, tangents
        y, places = result(x), math.prod(window)
        place = np.arange(places).reshape([axis for w in window for axis in (1, w)])
        candidates = windows(x)
        highest = (candidates == jnp.expand_dims(y, within)) | jnp.isnan(candidates)
        first = jnp.min(jnp.where(highest, place, places), axis=within, keepdims=True)
        return y, jnp.sum(jnp.where(place == first, windows(dx), 0), axis=within)

    return result(x)
