"""Activation functions: those of `jax.nn`, and the parametric ones it lacks.

As functions of one array they go into ``dense(…, activation=…)`` and ``activation(…)``; the layers that
learn or draw their slope are `jaxdeep.nn.prelu`, `jaxdeep.nn.swish` and `jaxdeep.nn.rrelu`. Note that
`gelu` is JAX', approximated by a tanh; ``functools.partial(gelu, approximate=False)`` is exact.
"""

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import Array, ArrayLike, Float

__all__ = [
    "elu",
    "gelu",
    "leaky_relu",
    "mish",
    "prelu",
    "relu",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "swish",
    "tanh",
]


def __dir__() -> list[str]:
    return __all__


sigmoid = jax.nn.sigmoid
tanh = jnp.tanh
softplus = jax.nn.softplus
relu = jax.nn.relu
leaky_relu = jax.nn.leaky_relu
elu = jax.nn.elu
selu = jax.nn.selu
gelu = jax.nn.gelu
silu = jax.nn.silu
mish = jax.nn.mish
softmax = jax.nn.softmax


def swish(x: ArrayLike, beta: ArrayLike = 1.0) -> Float[Array, "..."]:
    """``x · σ(beta · x)``: the identity halved at beta = 0, `silu` at 1, towards ReLU as it grows.

    Args:
      x: any array.
      beta: a number, or an array that broadcasts against `x`; 1.702 comes close to `gelu`.

    Returns:
      An array like `x`, in its dtype.

    Source: Ramachandran, Zoph & Le, "Searching for Activation Functions" (arXiv:1710.05941).

    >>> swish(jnp.array([-1.0, 0.0, 2.0]), beta=2.0).round(4).tolist()
    [-0.11919999867677689, 0.0, 1.9639999866485596]
    """
    x = _float(x)
    return x * jax.nn.sigmoid(jnp.asarray(beta, x.dtype) * x)


def prelu(x: ArrayLike, alpha: ArrayLike) -> Float[Array, "..."]:
    """``x`` where x ≥ 0, ``alpha · x`` below: a leaky ReLU whose slope is an argument.

    Args:
      x: any array.
      alpha: the slope; a number, or an array that broadcasts against `x`.

    Source: He et al. (arXiv:1502.01852).

    Returns:
      An array like `x`; float for whole numbers.

    >>> prelu(jnp.array([-2.0, 3.0]), 0.25).tolist()
    [-0.5, 3.0]
    """
    x = _float(x)
    alpha = jnp.asarray(alpha, x.dtype)
    alpha = jnp.expand_dims(alpha, range(max(x.ndim - alpha.ndim, 0)))
    return jnp.where(x >= 0, x, alpha * x)


def rrelu(
    x: ArrayLike, *, key: Array | None = None, lower: ArrayLike = 1 / 8, upper: ArrayLike = 1 / 3
) -> Float[Array, "..."]:
    """Randomised leaky ReLU: below 0 the slope is drawn from U(lower, upper) for every element.

    Without a key it is the mean of the two, as at inference.

    Args:
      x: any array.
      key: a random key, or None.
      lower, upper: bounds of the slope, ``lower ≤ upper``.

    Raises:
      ValueError: ``lower > upper``. TypeError: a key that is not a random key.

    Source: Xu et al. (arXiv:1505.00853); defaults of PyTorch.

    >>> rrelu(jnp.array([-48.0, 3.0])).tolist()  # 11 / 48
    [-11.0, 3.0]
    """
    check_slopes(lower, upper)
    _checks.check_key(key, optional=True)
    x = _float(x)
    if key is None:
        return prelu(x, (lower + upper) / 2)
    return prelu(x, jax.random.uniform(key, x.shape, x.dtype, lower, upper))


def _float(x: ArrayLike) -> Float[Array, "..."]:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def check_slopes(lower: ArrayLike, upper: ArrayLike) -> None:
    """Refuse bounds of a slope that are not in order."""
    _checks.check_scalar("lower", lower, "(-inf, inf)")
    _checks.check_scalar("upper", upper, "(-inf, inf)")
    low, high = _checks.known_value(lower), _checks.known_value(upper)
    if low is not None and high is not None and low > high:
        raise ValueError(f"lower must be at most upper, got lower={lower}, upper={upper}")
