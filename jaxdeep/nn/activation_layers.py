"""Activations as layers: of any function, or with a slope that is learned or random."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep.nn import activations
from jaxdeep.nn.model import Model, chosen, float_dtype, need, stateless
from jaxdeep.nn.stochastic import random_layer, random_words
from jaxdeep.tree import shapes


def activation(function: Callable[[Any], Any]) -> Model:
    """Apply a function elementwise: ``y = function(x)``.

    For functions that keep the shape; `lambda_` is for every other function of an input.

    Args:
      function: any function of one array; see `jaxdeep.nn.activations` and `jax.nn`.

    Raises:
      TypeError: `function` is not callable (a name such as ``"relu"`` is not), or makes a layer, as
        `swish` of this module does.

    Source: Keras' `Activation`.

    >>> import jax, jax.numpy as jnp
    >>> y, _ = activation(jax.nn.relu).apply({}, {}, jnp.array([-1.0, 2.0]))
    >>> y.tolist()
    [0.0, 2.0]
    """
    check_activation("function", function)
    return stateless(function, "activation", function=function)


def prelu(alpha: float = 0.01, *, shared_axes: Sequence[int] = ()) -> Model:
    """Leaky ReLU with a learned slope: ``y = x`` where x ≥ 0, ``alpha · x`` below.

    Parameter `alpha` has the shape of one example, ``x.shape[1:]``, with 1 on the shared axes: for
    images ``(batch, height, width, channels)``, ``shared_axes=(1, 2)`` is a slope a channel.

    Args:
      alpha: its first value; flax' 0.01 (PyTorch: 0.25, Keras: 0).
      shared_axes: axes of the input along which the slope is the same, from 1.

    Raises:
      ValueError: a shared axis that the input lacks, or axis 0. TypeError: axes that are not numbers.

    Source: He et al. (arXiv:1502.01852); shapes of Keras' `PReLU`.

    >>> layer = prelu(0.5)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> layer.apply(params, state, jnp.array([[-2.0, 0.0, 2.0]]))[0].tolist()
    [[-1.0, 0.0, 2.0]]
    """
    _checks.check_scalar("alpha", alpha, "(-inf, inf)")
    try:
        given = shared_axes if isinstance(shared_axes, Sequence) else (shared_axes,)
        shared = tuple(operator.index(a) for a in given)
    except TypeError:
        raise TypeError(f"shared_axes must be whole numbers, got {shared_axes!r}") from None

    def init(key: jax.Array, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        x = shapes(x)
        ndim = len(x.shape)
        if not all(-ndim <= a < ndim and a % ndim > 0 for a in shared):
            raise ValueError(
                f"shared_axes must be axes of an input of shape {x.shape} other than 0, got {shared}"
            )
        ones = {a % ndim for a in shared}
        shape = tuple(1 if a in ones else x.shape[a] for a in range(1, ndim))
        return {"alpha": jnp.full(shape, alpha, float_dtype(x.dtype))}, {}

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None, mask: Any = None
    ) -> tuple[Any, Any]:
        slopes = need(params, "alpha")
        expected = jnp.shape(x)[1:]
        if len(expected) != slopes.ndim or any(s not in (1, e) for s, e in zip(slopes.shape, expected)):
            raise ValueError(
                f"prelu has slopes of shape {slopes.shape}, got an input of shape {jnp.shape(x)}"
            )
        return activations.prelu(x, slopes), state

    config = chosen(alpha=(alpha, 0.01)) | ({"shared_axes": shared} if shared else {})
    return Model(init, apply, "prelu", config, stochastic=False)


def swish(beta: float = 1.0) -> Model:
    """Swish with a trained β: ``y = x · σ(beta · x)``, one β for the layer.

    Args:
      beta: its first value.

    Source: Ramachandran, Zoph & Le (arXiv:1710.05941), section 5.

    >>> layer = swish()
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> float(params["beta"]), layer.apply(params, state, jnp.zeros((1, 2)))[0].tolist()
    (1.0, [[0.0, 0.0]])
    """
    _checks.check_scalar("beta", beta, "(-inf, inf)")

    def init(key: jax.Array, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"beta": jnp.asarray(beta, float_dtype(shapes(x).dtype))}, {}

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None, mask: Any = None
    ) -> tuple[Any, Any]:
        return activations.swish(x, need(params, "beta")), state

    return Model(init, apply, "swish", chosen(beta=(beta, 1.0)), stochastic=False)


def rrelu(lower: float = 1 / 8, upper: float = 1 / 3) -> Model:
    """Randomised leaky ReLU: with a key a slope from U(lower, upper) an element, their mean without.

    Args:
      lower, upper: bounds of the slope; drawn with `jaxdeep.nn.stochastic.random_words`.

    Raises:
      ValueError: ``lower > upper``.

    Source: Xu et al. (arXiv:1505.00853); defaults of PyTorch.

    >>> rrelu().apply({}, {}, jnp.array([-48.0]))[0].tolist()
    [-11.0]
    """
    activations.check_slopes(lower, upper)

    def sloped(x: Any, key: Any, start: Any) -> Any:
        wide = jnp.promote_types(x.dtype, jnp.float32)
        u = (random_words(key, x.shape, start) >> 8).astype(wide) * 2.0**-24
        slopes = lower + jnp.asarray(upper - lower, wide) * u
        return activations.prelu(x, slopes.astype(x.dtype))

    config = chosen(lower=(lower, 1 / 8), upper=(upper, 1 / 3))
    mean = functools.partial(activations.rrelu, lower=lower, upper=upper)
    return random_layer(sloped, "rrelu", config, without=mean)


def check_activation(name: str, function: Any) -> None:
    """Refuse what is not a function of one array, a layer or its maker among them."""
    inside = function
    while isinstance(inside, functools.partial):
        inside = inside.func
    if isinstance(function, Model):
        raise TypeError(
            f"{name} must be a function, got the layer {function!r}: put it behind this one, in serial"
        )
    if not callable(function):
        raise TypeError(f"{name} must be a function such as jax.nn.relu, got {function!r}")
    if inside in (prelu, rrelu, swish):
        maker = inside.__name__
        raise TypeError(
            f"{name} must be a function of an array, got {function!r}: jd.nn.{maker} makes a layer; the "
            f"function is jd.nn.activations.{maker}"
        )
