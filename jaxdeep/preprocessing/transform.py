"""What transforms of numbers are: three pure functions."""

from collections.abc import Callable
from typing import NamedTuple

from jaxdeep._shapes import Array, ArrayLike, PyTree


class Transform(NamedTuple):
    """A transform of numbers: pure functions over a state that is a pytree of arrays.

    Attributes:
      fit: ``(x) -> state``.
      transform: ``(state, x) -> y``.
      inverse_transform: ``(state, y) -> x``.
    """

    fit: Callable[[ArrayLike], PyTree]
    transform: Callable[[PyTree, ArrayLike], Array]
    inverse_transform: Callable[[PyTree, ArrayLike], Array]
