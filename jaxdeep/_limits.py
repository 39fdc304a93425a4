"""Functions with the limits that JAX' own lack: NaN for a logit of ∞, and a slope of 1 of |0|."""

import jax
import jax.numpy as jnp

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
    top = jnp.max(logits, axis=-1, keepdims=True)  # NaN beside a NaN
    largest = jnp.finfo(logits.dtype).max
    certain, place = logits > largest, jnp.arange(logits.shape[-1])
    last = jnp.max(jnp.where(certain, place, -1), axis=-1, keepdims=True)
    first = -jnp.max(jnp.where(certain, -place, -logits.shape[-1]), axis=-1, keepdims=True)
    is_one = jnp.where(top > largest, first == last, False)
    limit = jnp.where(certain, 0, jnp.where(certain, 0, logits) - top)
    return jnp.where(is_one, limit, logits)


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
