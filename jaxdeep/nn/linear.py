"""Dense layers and the reshaping in front of them."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep.nn import initializers
from jaxdeep.nn.model import Model, chosen, float_dtype, need, stateless
from jaxdeep.tree import shapes


def flatten() -> Model:
    """Every example as one row: ``(batch, …) -> (batch, product of the rest)``.

    >>> import jax.numpy as jnp
    >>> flatten().apply({}, {}, jnp.ones((2, 28, 28)))[0].shape
    (2, 784)
    """

    def rows(x: Any) -> Any:
        if jnp.ndim(x) < 1:
            raise ValueError("flatten needs a batch axis, got a scalar")
        return jnp.reshape(x, (x.shape[0], math.prod(x.shape[1:])))

    return stateless(rows, "flatten")


def dense(
    units: int,
    *,
    activation: Callable[[Any], Any] | None = None,
    use_bias: bool = True,
    kernel_init: initializers.Initializer | None = None,
    bias_init: initializers.Initializer = initializers.zeros,
) -> Model:
    """A fully connected layer on the last axis: ``y = activation(x @ kernel + bias)``.

    ``(…, features) -> (…, units)``; `kernel` is ``(features, units)``, `bias` is ``(units,)``. The
    parameters take the dtype of the input it is initialised with (float32 for integers).

    Args:
      units: number of outputs.
      activation: function applied to the result; None for none.
      use_bias: False leaves the bias out (in front of a batch norm it has no effect).
      kernel_init: ``(key, shape, dtype) -> array``; by default the initialiser that suits
        `activation` (`initializers.initializer_for`).
      bias_init: likewise; zeros.

    Raises:
      ValueError: `units` below 1; an input whose last axis is not the one it was initialised for.
      TypeError: `activation` or an initialiser that is not callable.

    >>> import jax, jax.numpy as jnp
    >>> layer = dense(3, activation=jax.nn.relu)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> {name: leaf.shape for name, leaf in params.items()}
    {'kernel': (4, 3), 'bias': (3,)}
    >>> layer.apply(params, state, jnp.ones((2, 4)))[0].shape
    (2, 3)
    """
    _checks.check_count("units", units)
    for name, function in (
        ("activation", activation),
        ("kernel_init", kernel_init),
        ("bias_init", bias_init),
    ):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function, got {function!r}")
    make_kernel = initializers.initializer_for(activation) if kernel_init is None else kernel_init

    def init(key: jax.Array, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        _checks.check_key(key)
        x = shapes(x)
        if len(x.shape) < 1:
            raise ValueError("dense needs an axis of features, got a scalar")
        features, dtype = x.shape[-1], float_dtype(x.dtype)
        if features < 1:
            raise ValueError(f"dense needs at least one feature, got an input of shape {x.shape}")
        params = {"kernel": make_kernel(key, (features, units), dtype)}
        if use_bias:
            params["bias"] = bias_init(jax.random.fold_in(key, 0), (units,), dtype)
        return params, {}

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None
    ) -> tuple[Any, Any]:
        kernel = need(params, "kernel")
        if jnp.ndim(x) < 1 or jnp.shape(x)[-1] != kernel.shape[0]:
            raise ValueError(
                f"dense was initialised for {kernel.shape[0]} features, got an input of shape "
                f"{jnp.shape(x)}"
            )
        y = jnp.matmul(x, kernel)
        if use_bias:
            y = y + need(params, "bias")
        return (y if activation is None else activation(y)), state

    config = {"units": units} | chosen(
        activation=(activation, None),
        use_bias=(use_bias, True),
        kernel_init=(kernel_init, None),
        bias_init=(bias_init, initializers.zeros),
    )
    return Model(init, apply, "dense", config, stochastic=False)
