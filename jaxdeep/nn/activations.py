"""Activations as layers."""

from collections.abc import Callable
from typing import Any

from jaxdeep.nn.model import Model, stateless


def activation(function: Callable[[Any], Any]) -> Model:
    """Apply a function elementwise: ``y = function(x)``.

    Args:
      function: any function of one array; `jax.nn` has most of them.

    Raises:
      TypeError: `function` is not callable (a name such as ``"relu"`` is not).

    >>> import jax, jax.numpy as jnp
    >>> y, _ = activation(jax.nn.relu).apply({}, {}, jnp.array([-1.0, 2.0]))
    >>> y.tolist()
    [0.0, 2.0]
    """
    if not callable(function):
        raise TypeError(f"activation must be a function such as jax.nn.relu, got {function!r}")
    return stateless(function, "activation", function=function)
