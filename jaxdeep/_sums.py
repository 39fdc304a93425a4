"""Sums by group that lose nothing, whatever their number of terms."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep._shapes import Array, Float, Integer

_DIGITS = 40  # of values as shares of the largest, in bits


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def sums_at(
    values: Float[Array, "n *rest"], places: Integer[Array, "n"], size: int
) -> Float[Array, "groups *rest"]:
    """The sums of the values at each of `size` places; those at others are dropped.

    A float32 that terms are added to one by one drifts from some thousands of terms on, and stops at
    2²⁴. Here the binary digits of the values are added as whole numbers, some at a time, which is exact
    and does not depend on the order; beyond the 40th binary digit of the largest value in size they are
    cut. A value that is NaN or infinite makes its sum NaN. The slope is that of a sum.

    >>> values, places = jnp.full(100_000, 0.7), jnp.zeros(100_000, int)
    >>> round(float(sums_at(values, places, 1)[0]), 1)
    70000.0
    """
    if values.dtype == jnp.float64 or not len(values):
        return jax.ops.segment_sum(values, places, size)
    bits = max(30 - len(values).bit_length(), 1)  # whose sums are below 2³¹
    total = jnp.zeros((size, *values.shape[1:]), values.dtype)
    known = jnp.isfinite(values)
    rest = jnp.where(known, values, 0)
    _, exponent = jnp.frexp(jnp.max(jnp.abs(rest), axis=0))
    rest, parts = jnp.ldexp(rest, -exponent), []
    for number in range(1, -(-_DIGITS // bits) + 1):
        digits = jnp.round(rest * 2.0**bits)
        rest = rest * 2.0**bits - digits
        added = jax.ops.segment_sum(digits.astype(jnp.int32), places, size)
        parts.append(added.astype(values.dtype) * 2.0 ** -(bits * number))
    for part in reversed(parts):  # the small ones first
        total = total + part
    wrong = jax.ops.segment_sum((~known).astype(jnp.int32), places, size) > 0
    return jnp.where(wrong, jnp.nan, jnp.ldexp(total, exponent))


@sums_at.defjvp
def _slopes(size: int, primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    """Digits are steps, which have none of their own."""
    return sums_at(*primals, size), jax.ops.segment_sum(tangents[0], primals[1], size)
