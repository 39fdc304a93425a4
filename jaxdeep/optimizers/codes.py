"""Numbers in 8 and 16 bits: codes of what an optimizer accumulates, and parameters in two parts.

Everything here is done on bit patterns of float32, with whole numbers. No rounding is left to a cast,
because XLA deletes casts down and up again (``xla_allow_excess_precision``), and an error of rounding
that is computed from such a pair is then 0.
"""

from typing import Any, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp

from jaxdeep._shapes import Array, PyTree

BLOCK = 256  # elements along the last axis that have a scale together, at most
WORD = 16  # random bits that a rounding takes
_FRACTION = 20  # bits of a float32's 23 below the three of a code
_SNAP = 5  # of these, the ones that only arithmetic left there
_PLACE = _FRACTION - _SNAP  # bits of a place between two codes
_ONE = 127 << 3  # 1.0 in steps of codes
# The largest finite code, which stands for the block's largest size; then come ∞ and NaN.
_TOP = {False: 253, True: 126}  # by whether there is a sign


class Coded(NamedTuple):
    """An array of float32 in fewer bits.

    Attributes:
      codes: of the array's shape; uint8 for what is never negative, int8 for what has a sign, or
        bfloat16.
      scales: of ⌈n/256⌉ equal blocks along the last axis, the largest size in each, or the power of two
        above it, float32; None with bfloat16.
    """

    codes: Array
    scales: Array | None


def is_coded(node: object) -> TypeGuard[Coded]:
    """Whether this node of a state is an array in fewer bits."""
    return isinstance(node, Coded)


def encoded(x: Array, words: Array | int, *, signed: bool, steady: bool = False) -> Coded:
    """An array in 8 bits an element and 32 a block of up to 256, rounded at random.

    In a block with the largest size s, code c > 0 stands for ``s · 2^((c − c₁)/8)``, where the power is
    linear between the whole exponents, as in a float with three bits of mantissa: the steps are 6 to
    12 %. ``c₁`` stands for s itself. Without a sign it is 253, and 31.5 octaves are below it; with a
    sign, 126 and 15.6 octaves. Code 0 is 0 and nothing else, unless with a sign: there a size below the
    least code becomes that code or 0, at random, and without a sign always that code.

    Of the two codes beside a number it becomes the upper one with the probability that makes it the
    mean. A number that is a code stays it, so that encoding what was decoded changes nothing. Those not
    finite have codes of their own and no part in the scale; so has, as NaN, a negative number where
    there is no sign.

    Args:
      x: float32, of one axis at least.
      words: 16 random bits an element, in an integer of 32; `2**15` for the nearest.
      signed: whether there may be negative numbers.
      steady: make s a power of two, the least that is not below the largest size. What is a code stays
        one then whatever becomes of s. A sum of squares needs that: s grows, and a number rounded
        anew at every update, with nothing to forget what was lost, would stray without end.

    Source: the dynamic codes of Dettmers et al., "8-bit Optimizers via Block-wise Quantization"
    (arXiv:2110.02861), with the powers of two in place of their powers of ten, never 0 for what is not,
    and rounded at random, without which an average with a decay of 0.999 stands still.

    >>> v = encoded(jnp.array([4.0, 0.6, 1e-30, 0.0]), 2**15, signed=False)
    >>> v.codes.tolist(), v.scales.tolist(), decoded(v).tolist()[:2]
    ([253, 231, 1, 0], [4.0], [4.0, 0.625])
    """
    top = _TOP[signed]
    size, finite = jnp.abs(x), jnp.isfinite(x)
    scales = _largest(x)
    if steady:
        power = (_bits(scales) + 0x7FFFFF) & ~0x7FFFFF
        scales = jnp.where(power < _INFINITE, jax.lax.bitcast_convert_type(power, jnp.float32), scales)
    # One quotient a block: XLA computes a quotient for each element into memory of its own.
    share = size * _beside(1 / jnp.maximum(scales, jnp.finfo(jnp.float32).tiny), x.shape[-1])
    # A share that is a code may be a few units off, by the product in which it was decoded and by these
    # two: the last five bits go to the nearest, and the rest is random.
    bits = (_bits(share) + (1 << (_SNAP - 1))) >> _SNAP
    random = _whole(words) >> (WORD - _PLACE)
    place = bits - ((_ONE - top) << _PLACE)
    if signed:
        least = 2.0 ** (-(top - 1) // 8) * (1 + (-(top - 1) % 8) / 8)  # of code 1
        place = jnp.where(place < 1 << _PLACE, (share * (2**_PLACE / least)).astype(jnp.int32), place)
    code = jnp.minimum((place + random) >> _PLACE, top)
    if not signed:
        code = jnp.maximum(code, 1)
    code = jnp.where(finite, jnp.where(x == 0, 0, code), jnp.where(jnp.isnan(x), top + 2, top + 1))
    if signed:
        return Coded(jnp.where(x < 0, -code, code).astype(jnp.int8), scales)
    return Coded(jnp.where(x < 0, top + 2, code).astype(jnp.uint8), scales)


def rounded(x: Array, words: Array | int) -> Coded:
    """An array in bfloat16, rounded at random: the mean is the number, and bfloat16 stays what it is.

    >>> rounded(jnp.array([1.0, -2.5]), 12345).codes.tolist()
    [1.0, -2.5]
    """
    return Coded(_half(_bits(x), _whole(words)), None)


def decoded(coded: Coded) -> Array:
    """The array in float32."""
    codes, scales = coded
    if scales is None:
        return codes.astype(jnp.float32)
    top = _TOP[codes.dtype == jnp.int8]
    size = jnp.abs(codes.astype(jnp.int32))
    share = jax.lax.bitcast_convert_type((size + (_ONE - top)) << _FRACTION, jnp.float32)
    x = share * _beside(scales, codes.shape[-1])
    x = jnp.where(size > top, jnp.where(size > top + 1, jnp.nan, jnp.inf), jnp.where(size == 0, 0.0, x))
    return jnp.where(codes < 0, -x, x) if codes.dtype == jnp.int8 else x


def all_decoded(tree: PyTree) -> PyTree:
    """The tree with every array of it in float32 that is in fewer bits."""
    return jax.tree.map(lambda node: decoded(node) if is_coded(node) else node, tree, is_leaf=is_coded)


def in_parts(x: Array, words: Array) -> tuple[Array, Array]:
    """A parameter as the nearest bfloat16 and 8 bits of what that lacks, rounded at random to both.

    The 8 bits count steps of 1/256 of bfloat16's last place, −128 to 127, so the two have 16 bits of
    mantissa together.

    Source: Gonzalez Ortiz et al., "FlashOptim" (arXiv:2602.23349), whose error has 127 steps either way.

    >>> high, low = in_parts(jnp.array([1.0009765625]), jnp.array([0]))
    >>> high.tolist(), low.tolist(), joined(high, low).tolist()
    ([1.0], [32], [1.0009765625])
    """
    bits = _bits(x)
    size = bits & 0x7FFFFFFF
    fine = (size + (_whole(words) & 0xFF)) >> 8  # 24 bits, with that of the sign
    high = jnp.minimum((fine + 0x80) >> 8, _LARGEST)
    low = jnp.minimum(fine - (high << 8), 127)
    finite = size < _INFINITE
    high = jnp.where(finite, _from_half(bits < 0, high), _half(bits, jnp.zeros_like(bits)))
    return high, jnp.where(finite, low, 0).astype(jnp.int8)


def joined(high: Array, low: Array) -> Array:
    """The parameter in float32, of its two parts."""
    bits = jax.lax.bitcast_convert_type(high, jnp.uint16).astype(jnp.int32)
    size = ((bits & 0x7FFF) << 8) + jnp.where((bits & 0x7FFF) > _LARGEST, 0, low.astype(jnp.int32))
    size = jnp.maximum(size, 0)  # somebody may have put a 0 in the parameter's place
    x = jax.lax.bitcast_convert_type(size << 8, jnp.float32)
    return jnp.where(bits > 0x7FFF, -x, x)


_LARGEST = 0x7F7F  # finite bfloat16
_INFINITE = 0x7F800000  # in float32


def _bits(x: Array) -> Array:
    return jax.lax.bitcast_convert_type(x, jnp.int32)


def _whole(words: Array | int) -> Array:
    return jnp.asarray(words).astype(jnp.int32)


def _half(bits: Array, random: Array) -> Array:
    """The upper half of a float32 after up to one of its last place was added to its size."""
    size = bits & 0x7FFFFFFF
    finite = jnp.minimum((size + random) >> 16, _LARGEST)
    other = (size >> 16) | (size > _INFINITE).astype(jnp.int32) << 6  # a NaN stays one
    return _from_half(bits < 0, jnp.where(size < _INFINITE, finite, other))


def _from_half(negative: Array, size: Array) -> Array:
    bits = size | negative.astype(jnp.int32) << 15
    return jax.lax.bitcast_convert_type(bits.astype(jnp.uint16), jnp.bfloat16)


def _largest(x: Array) -> Array:
    """The largest finite size in each block of the last axis.

    As whole numbers, which sizes are in order as: on a CPU, XLA would hand floats to a library that
    wants them in memory first.
    """
    (*rows, n), bits = x.shape, _bits(x) & 0x7FFFFFFF
    bits = jnp.where(bits < _INFINITE, bits, 0)
    blocks, block = _blocks(n)
    if blocks * block != n:
        bits = jnp.pad(bits, [(0, 0)] * len(rows) + [(0, blocks * block - n)])
    # XLA reduces a long axis on a CPU in steps, of which it keeps the first in memory.
    short = next((a for a in range(1, 33) if block % a == 0 and block // a <= 32), 1)
    bits = jnp.max(bits.reshape(*rows, blocks, short, block // short), axis=(-2, -1))
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def _beside(scales: Array, n: int) -> Any:
    """The scale of each of the n elements of the last axis."""
    blocks, block = _blocks(n)
    wide = jnp.broadcast_to(scales[..., None], (*scales.shape, block))
    return wide.reshape(*scales.shape[:-1], blocks * block)[..., :n]


def _blocks(n: int) -> tuple[int, int]:
    """How many blocks the last axis has, and elements of each; most n are their product."""
    blocks = -(-n // BLOCK)
    return blocks, -(-n // max(blocks, 1)) if n else 1
