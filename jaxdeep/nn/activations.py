"""Activation functions: those of `jax.nn`, and the parametric ones it lacks.

As functions of one array they go into ``dense(…, activation=…)`` and ``activation(…)``; the layers that
learn or draw their slope are `jaxdeep.nn.prelu`, `jaxdeep.nn.swish` and `jaxdeep.nn.rrelu`. Note that
`gelu` is that of JAX, approximated by a tanh; ``functools.partial(gelu, approximate=False)`` is exact.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, floating
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
silu = jax.nn.silu
mish = jax.nn.mish
softmax = jax.nn.softmax


def gelu(x: ArrayLike, approximate: bool = True) -> Float[Array, "..."]:
    """``x · Φ(x)``, with Φ the normal distribution's, or ``x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))``.

    That of JAX, to the same bits, but for the gradient in float16: JAX' is NaN at sizes above 148, where
    what ``x³`` becomes is not finite, and this one is 1 above and 0 below. So take this one, not
    `jax.nn.gelu`, into `jaxdeep.nn.mixed_precision` with float16.

    Args:
      x: any array.
      approximate: the second form.

    Returns:
      An array like `x`; float for whole numbers.

    Raises:
      TypeError: an `x` that is not of real numbers, an `approximate` that is no bool.

    Source: Hendrycks & Gimpel, "Gaussian Error Linear Units" (arXiv:1606.08415); `jax.nn.gelu`.

    >>> jax.vmap(jax.grad(gelu))(jnp.array([-300.0, 0.0, 300.0], jnp.float16)).tolist()
    [0.0, 0.5, 1.0]
    """
    _checks.check_flag("approximate", approximate)
    x = _float(x)
    if not approximate or x.dtype != jnp.float16:
        return jax.nn.gelu(x, approximate)
    near = jnp.clip(x, -_SATURATED, _SATURATED)
    slope = np.sqrt(2 / np.pi).astype(x.dtype)
    return x * (0.5 * (1 + jnp.tanh(slope * (near + 0.044715 * near**3))))


_SATURATED = 30.0  # the tanh of this is 1 in every dtype, and its cube finite


def swish(x: ArrayLike, beta: ArrayLike = 1.0) -> Float[Array, "..."]:
    """``x · σ(beta · x)``: the identity halved at beta = 0, `silu` at 1, towards ReLU as it grows.

    Args:
      x: any array.
      beta: a number, or an array that broadcasts against `x`; 1.702 comes close to `gelu`.

    Returns:
      An array like `x`, in its dtype.

    Raises:
      TypeError, ValueError: an `x` or a `beta` that is not of real numbers, shapes that do not fit.

    Source: Ramachandran, Zoph & Le, "Searching for Activation Functions" (arXiv:1710.05941).

    >>> swish(jnp.array([-1.0, 0.0, 2.0]), beta=2.0).round(4).tolist()
    [-0.11919999867677689, 0.0, 1.9639999866485596]
    """
    x = _float(x)
    return x * jax.nn.sigmoid(_slope("beta", beta, x) * x)


def prelu(x: ArrayLike, alpha: ArrayLike) -> Float[Array, "..."]:
    """``x`` where x ≥ 0, ``alpha · x`` below: a leaky ReLU whose slope is an argument.

    Args:
      x: any array.
      alpha: the slope; a number, or an array that broadcasts against `x`.

    Source: He et al. (arXiv:1502.01852).

    Returns:
      An array like `x`; float for whole numbers.

    Raises:
      TypeError, ValueError: as for `swish`.

    >>> prelu(jnp.array([-2.0, 3.0]), 0.25).tolist()
    [-0.5, 3.0]
    """
    x = _float(x)
    return jnp.where(x >= 0, x, _slope("alpha", alpha, x) * x)


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
    return floating("x", x)


def _slope(name: str, value: ArrayLike, x: Array) -> Float[Array, "..."]:
    """A slope in the dtype of `x`, refused unless it broadcasts against it."""
    array = as_array(name, value)
    if array.dtype == jnp.bool_:
        raise TypeError(f"{name} must be a number or an array of numbers, got {value!r}")
    if _checks.is_known(array) and not array.ndim:
        _checks.check_scalar(name, array, "(-inf, inf)")
    try:
        jnp.broadcast_shapes(array.shape, x.shape)
    except ValueError:
        shapes = f"{x.shape} of x, got {array.shape}"
        raise ValueError(f"{name} must broadcast against the shape {shapes}") from None
    slope = jnp.asarray(value if isinstance(value, (int, float)) else array, x.dtype)
    return jnp.expand_dims(slope, range(max(x.ndim - slope.ndim, 0)))


def check_slopes(lower: ArrayLike, upper: ArrayLike) -> None:
    """Refuse bounds of a slope that are not in order."""
    _checks.check_scalar("lower", lower, "(-inf, inf)")
    _checks.check_scalar("upper", upper, "(-inf, inf)")
    low, high = _checks.known_value(lower), _checks.known_value(upper)
    if low is not None and high is not None and low > high:
        raise ValueError(f"lower must be at most upper, got lower={lower}, upper={upper}")
