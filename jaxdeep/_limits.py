"""Functions with limits and slopes that JAX' own lack: of a logit of ∞, of |0|, of a largest value."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._shapes import Array, Float


def softmax(logits: Float[Array, "*batch classes"]) -> Float[Array, "*batch classes"]:
    """`jax.nn.softmax` over the last axis, 1 for the only logit of ∞, where it would be NaN.

    >>> softmax(jnp.array([[0.0, jnp.inf], [0.0, 0.0]])).tolist()
    [[0.0, 1.0], [0.5, 0.5]]
    """
    return jax.nn.softmax(with_certain(logits))


def log_softmax(logits: Float[Array, "*batch classes"]) -> Float[Array, "*batch classes"]:
    """`jax.nn.log_softmax` over the last axis, 0 for the only logit of ∞, where it would be NaN.

    >>> log_softmax(jnp.array([0.0, jnp.inf])).tolist()
    [-inf, 0.0]
    """
    return jax.nn.log_softmax(with_certain(logits))


def with_certain(logits: Float[Array, "*batch classes"]) -> Float[Array, "*batch classes"]:
    """The logits, in rows with one of ∞ its limit: 0 for that one, and −∞ for the others.

    Made by operations through which `jaxdeep._endings` sees that a softmax of the logits is taken, and
    without an infinity where there was none, which jax_debug_infs refuses.

    >>> with_certain(jnp.array([[0.0, jnp.inf], [0.0, 1.0]])).tolist()
    [[-inf, 0.0], [0.0, 1.0]]
    """
    most = jnp.finfo(logits.dtype).max
    certain, place = logits > most, jnp.arange(logits.shape[-1])
    # ∞ or 0; the slope of a maximum of the logits is 0 / 0 where a compiler rounds them in two ways
    top = jnp.max(jnp.where(certain, logits, 0), axis=-1, keepdims=True)
    last = jnp.max(jnp.where(certain, place, -1), axis=-1, keepdims=True)
    first = -jnp.max(jnp.where(certain, -place, -logits.shape[-1]), axis=-1, keepdims=True)
    is_one = jnp.where(top > most, first == last, False)
    limit = jnp.where(certain, 0, jnp.where(certain, 0, logits) - top)
    return jnp.where(is_one, limit, logits)


@jax.custom_jvp
def from_largest(logits: Float[Array, "*batch classes"]) -> Float[Array, "*batch classes"]:
    """The logits less the largest of their row: for one of ∞ its limit, 0 and −∞ for the others.

    Of two logits of ∞, and of −∞ everywhere, there are NaN. The slope is that of the logits themselves:
    that of their largest is left out, for functions that a common shift does not change.

    >>> from_largest(jnp.array([[0.0, jnp.inf], [0.0, 1.0]])).tolist()
    [[-inf, 0.0], [-1.0, 0.0]]
    """
    place = jnp.argmax(logits, axis=-1, keepdims=True)
    is_largest = jax.lax.broadcasted_iota(place.dtype, logits.shape, logits.ndim - 1) == place
    # no ∞ − ∞, which jax_debug_nans refuses
    top = jnp.where(is_largest, 0, jnp.max(logits, axis=-1, keepdims=True))
    return jnp.where(is_largest, 0, logits) - top


@from_largest.defjvp
def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    return from_largest(*primals), tangents[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def largest(x: Float[Array, "..."], axis: int | tuple[int, ...]) -> Float[Array, "..."]:
    """``jnp.max(x, axis)``, whose slope is shared by equal largest values, as JAX' is.

    JAX' asks which values equal the largest. Where a compiler computes them a second time for that, and
    rounds otherwise, none does, and the slope is 0 / 0.

    >>> jax.grad(lambda x: largest(x, 0))(jnp.array([1.0, 2.0, 2.0])).tolist()
    [0.0, 0.5, 0.5]
    """
    return jnp.max(x, axis=axis)


@largest.defjvp
def _(axis: int | tuple[int, ...], primals: Any, tangents: Any) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    axes = tuple(a % x.ndim for a in np.ravel(axis))
    kept = [a for a in range(x.ndim) if a not in axes]

    def flat(a: Array) -> Array:
        return a.transpose(*kept, *axes).reshape(*(x.shape[a] for a in kept), -1)

    values, y = flat(x), largest(x, axis)
    place = jnp.argmax(values, axis=-1)[..., None] == jnp.arange(values.shape[-1])
    highest = place | (values == y[..., None])
    shared = jnp.sum(jnp.where(highest, flat(dx), 0), axis=-1)
    return y, shared / jnp.sum(highest, axis=-1, dtype=y.dtype)


def absolute(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``|x|``, whose slope at 0 is 0, as PyTorch's and TensorFlow's is; that of `jnp.abs` is 1.

    >>> slope = lambda f: [float(jax.grad(f)(x)) for x in (-2.0, 0.0, 2.0)]
    >>> slope(absolute), slope(jnp.abs)
    ([-1.0, 0.0, 1.0], [-1.0, 1.0, 1.0])
    """
    return x * jax.lax.stop_gradient(jnp.sign(x))


def times_log(weights: Float[Array, "*shape"], p: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``w log p``, 0 where w is 0 whatever p is, in its slopes too.

    >>> times_log(jnp.array([0.0, 0.5]), jnp.array([0.0, 1.0])).tolist()
    [0.0, 0.0]
    """
    return weights * jnp.log(jnp.where(weights == 0, 1, p))
