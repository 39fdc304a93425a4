"""Activations by the names that Keras has for them."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep._identity import is_same
from jaxdeep.nn import activations
from jaxdeep.nn.traits import Activation


class NotKnownError(ValueError):
    """Something that Keras has and jaxdeep has not."""

    def __init__(self, reason: str):
        super().__init__(
            f"{reason}; jaxdeep.adapters.from_keras_model runs any model of an installed Keras"
        )


ACTIVATIONS: Mapping[str, Activation | None] = {
    "linear": None,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "leaky_relu": functools.partial(jax.nn.leaky_relu, negative_slope=0.2),
    "sigmoid": jax.nn.sigmoid,
    "softmax": jax.nn.softmax,
    "log_softmax": jax.nn.log_softmax,
    "log_sigmoid": jax.nn.log_sigmoid,
    "tanh": jnp.tanh,
    "hard_tanh": jax.nn.hard_tanh,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "celu": jax.nn.celu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_silu": jax.nn.hard_silu,
    "exponential": jnp.exp,
    "mish": jax.nn.mish,
}
_ALSO = {"swish": "silu", "hard_swish": "hard_silu", None: "linear"}


def activation_of(name: Any) -> Activation | None:
    """The function of a name in a description of Keras; None for the identity.

    >>> activation_of("gelu").keywords
    {'approximate': False}
    """
    if isinstance(name, dict) and name.get("class_name") == "function":
        name = name.get("config")
    name = _ALSO.get(name, name) if isinstance(name, str | None) else name
    if not isinstance(name, str) or name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise NotKnownError(f"has the activation {name!r}, which is none of those known: {known}")
    return ACTIVATIONS[name]


def of_jax(function: Any) -> Any:
    """A function, for the gelu of jaxdeep that of JAX, which computes the same; also in a partial."""
    if type(function) is functools.partial:
        return functools.partial(of_jax(function.func), *function.args, **function.keywords)
    return jax.nn.gelu if function is activations.gelu else function


def name_of(function: Activation | None) -> str | None:
    """The name that Keras has for a function; None if it has none.

    >>> name_of(jax.nn.relu), name_of(jax.nn.gelu)
    ('relu', None)
    """
    function = of_jax(function)
    return next(
        (name for name, activation in ACTIVATIONS.items() if is_same(activation, function)), None
    )
