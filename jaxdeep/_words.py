"""Random words, each a hash of a key and a position: the same however an array is computed."""

from typing import TypeAlias

import jax
import jax.numpy as jnp

from jaxdeep._shapes import Array

Start: TypeAlias = Array | int  # of the words drawn before, as an array inside a program


def random_words(key: Array, shape: tuple[int, ...], start: Start = 0) -> Array:
    """Random uint32, each a hash of the key and its position: cheaper than `jax.random.bits`.

    With ``a, b, c = jax.random.bits(key, (3,), jnp.uint32)`` and i the element's place in row-major
    order, all modulo 2³²::

        x = start + i + a
        x = (x ^ x >> 17) · ED5AD4BB₁₆
        x = (x ^ x >> 11 ^ b) · AC4C1B51₁₆
        x = (x ^ x >> 15 ^ c) · 31848BAB₁₆
        x = x ^ x >> 14

    Three multiplications and seven cheaper operations in place of the twenty rounds of threefry, which
    is left to make the three words, so that keys that look alike (of seeds 0 and 1, of layers, of steps)
    have nothing in common. The words are whole numbers and therefore the same on every backend, under
    `jax.jit` and `jax.vmap`, and however an array is split over devices; ``start`` gives a part of a
    longer array its own words.

    Made for masks and noise, not for cryptography. Within one key all 2³² positions have different
    words, so that equal ones are rarer than of true randomness; position i + 2³² has the word of
    position i. Of two keys whose words b differ in the highest bits only, one pair in some 2²⁴, masks
    that lie a − a′ apart correlate by up to 0.07.

    Args:
      key: a random key.
      shape: of the result.
      start: position of the first element, a whole number or an array of one.

    Source: the integer hash "triple32" of C. Wellons' hash prospector (public domain), with words of the
    key mixed in. Tests of uniformity, of runs, and of correlation between bits, positions, layers and
    keys are in ``tests/nn/test_stochastic.py``.

    >>> import jax
    >>> random_words(jax.random.key(0), (5,)).tolist()
    [1902109597, 259949855, 1204626007, 1251174646, 2422547174]
    >>> random_words(jax.random.key(0), (2,), start=3).tolist()
    [1251174646, 2422547174]
    """
    return hashed(jax.random.bits(key, (3,), jnp.uint32), shape, start)


def hashed(mixed_in: Array, shape: tuple[int, ...], start: Start = 0) -> Array:
    """`random_words` of a key whose three words a, b and c are known.

    >>> hashed(jax.random.bits(jax.random.key(0), (3,), jnp.uint32), (2,), start=3).tolist()
    [1251174646, 2422547174]
    """
    a, b, c = mixed_in
    before = start % 2**32 if isinstance(start, int) else jnp.asarray(start).astype(jnp.uint32)
    x = jnp.zeros(shape, jnp.uint32) + (jnp.asarray(before, jnp.uint32) + a)
    stride = 1
    for axis in range(len(shape) - 1, -1, -1):
        x += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    x = (x ^ (x >> 17)) * jnp.uint32(0xED5AD4BB)
    x = (x ^ (x >> 11) ^ b) * jnp.uint32(0xAC4C1B51)
    x = (x ^ (x >> 15) ^ c) * jnp.uint32(0x31848BAB)
    return x ^ (x >> 14)
