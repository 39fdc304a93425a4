"""Parts of every example, by their places."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import Array
from jaxdeep.nn.layer import Layer, layer
from jaxdeep.nn.traits import Traits

Span = tuple[int | None, int | None, int | None]


@layer
def get_item(*parts: int | slice | Sequence[int | None]) -> Layer:
    """A part of every example: ``y = x[:, *parts]``, as NumPy takes it.

    Ends of a slice past those of the axis are clamped, as in Python. A number goes with its axis.

    Args:
      parts: for the axes after the batch, from the first on: a whole number, or a slice, which may be
        written ``(start, stop)`` or ``(start, stop, step)``, each of them a whole number or None.

    Raises:
      ValueError: a step below 1; a number that the axis does not have, more parts than there are axes.
      TypeError: neither a number nor a slice.

    Source: ``x[…]`` of NumPy; Keras' `GetItem`.

    >>> x = jnp.arange(12.0).reshape(2, 3, 2)
    >>> get_item(-1).apply({}, {}, x)[0].tolist()
    [[4.0, 5.0], [10.0, 11.0]]
    >>> get_item(slice(1, 100), 0).apply({}, {}, x)[0].tolist()
    [[2.0, 4.0], [8.0, 10.0]]
    >>> get_item(slice(1, 100), 0) == get_item((1, 100), 0)
    True
    """
    places = tuple(map(_place, parts))
    key = tuple(slice(*place) if isinstance(place, tuple) else place for place in places)
    gone = sum(isinstance(place, int) for place in places)

    def apply(x: Array) -> Array:
        x = jnp.asarray(x)
        if len(places) >= x.ndim:
            raise ValueError(
                f"get_item of {len(places)} parts needs an input (batch, {len(places)} axes or more), "
                f"got shape {x.shape}"
            )
        for axis, (place, size) in enumerate(zip(places, x.shape[1:]), 1):
            if isinstance(place, int) and not -size <= place < size:
                raise ValueError(f"get_item takes number {place} of axis {axis}, of shape {x.shape}")
        return x[(slice(None), *key)]

    def axes(ndim: int | None) -> int | None:
        return None if ndim is None else ndim - gone

    return Layer(apply, traits=Traits(axes=axes), arguments={"parts": places})


def _place(part: Any) -> int | Span:
    """A number, or start, stop and step of a slice."""
    if _checks.is_whole(part):
        return int(part)
    ends = (part.start, part.stop, part.step) if isinstance(part, slice) else part
    is_ends = isinstance(ends, Sequence) and not isinstance(ends, str) and len(ends) in (2, 3)
    if not is_ends or not all(end is None or _checks.is_whole(end) for end in ends):
        raise TypeError(f"parts must be whole numbers or slices of them, got {part!r}")
    start, stop, step = (None if end is None else int(end) for end in (*ends, None)[:3])
    if step is not None:
        _checks.check_count("step", step)
    return start, stop, step
