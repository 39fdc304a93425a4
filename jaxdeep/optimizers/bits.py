"""The random bits that an update rounds with."""

import collections
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep._shapes import Array
from jaxdeep._words import hashed
from jaxdeep.optimizers.codes import Coded

_SEED = 0x10_09


class Words:
    """The random bits of one update, 16 for each element of each array that is rounded.

    A parameter has a word an element for itself, and one for every two arrays of its shape in the
    state, which take its halves. Which array is of which parameter does not matter, as long as no two
    have the same half.
    """

    def __init__(self, count: Array, params: list[Any], coded: list[Coded]) -> None:
        self.owners: dict[tuple[int, ...], list[int]] = {}
        for index, p in enumerate(params):
            if p is not None:
                self.owners.setdefault(jnp.shape(p), []).append(index)
        self.drawn = collections.Counter[tuple[int, ...]]()
        several = collections.Counter(node.codes.shape for node in coded)
        most = max((-(-n // len(self.owners.get(s, "1"))) for s, n in several.items()), default=0)
        key = jax.random.fold_in(jax.random.key(_SEED, impl="threefry2x32"), count)
        self.mixed_in = jax.random.bits(key, (len(params) + 1, 1 + -(-most // 2), 3), jnp.uint32)

    def of_param(self, index: int, p: Array) -> Array:
        """Those of the parameter with this number."""
        return hashed(self.mixed_in[index, 0], jnp.shape(p)) & 0xFFFF

    def of_state(self, shape: tuple[int, ...]) -> Array:
        """Those of the next array of this shape."""
        owners = self.owners.get(shape, [-1])  # None if a gradient was not taken
        half, index = divmod(self.drawn[shape], len(owners))
        self.drawn[shape] += 1
        word = hashed(self.mixed_in[owners[index], 1 + half // 2], shape)
        return word >> 16 if half % 2 else word & 0xFFFF
