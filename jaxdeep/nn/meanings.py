"""What the output of an activation means: probabilities, their logarithms, or other numbers."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep._compilation import inside, kept
from jaxdeep._endings import Meaning, Word, of_program
from jaxdeep._identity import key_of
from jaxdeep.nn import activations

_SOFTMAX = (jax.nn.softmax, jax.scipy.special.softmax)
_LOG_SOFTMAX = (jax.nn.log_softmax, jax.scipy.special.log_softmax)
_MEANINGS: dict[Word, Sequence[Callable[..., Any]]] = {
    "probabilities": (
        *_SOFTMAX,
        *(jax.nn.sigmoid, jax.nn.hard_sigmoid, jax.nn.sparse_sigmoid),
        *(jax.scipy.special.expit, jax.lax.logistic),
    ),
    "log_probabilities": (*_LOG_SOFTMAX, jax.nn.log_sigmoid),
    "values": (
        *(jax.nn.relu, jax.nn.relu6, jax.nn.leaky_relu, activations.prelu, activations.rrelu),
        *(jax.nn.elu, jax.nn.celu, jax.nn.selu, jax.nn.softplus, jax.nn.squareplus),
        *(jax.nn.gelu, activations.gelu, jax.nn.silu, activations.swish, jax.nn.hard_silu, jax.nn.mish),
        *(jnp.tanh, jax.lax.tanh, jax.nn.hard_tanh, jax.nn.soft_sign),
    ),
    "same": (jax.nn.identity,),
}


def meaning(function: Callable[..., Any]) -> Word | None:
    """What the output of a function means, "same" for what its input does; None for an unknown one.

    >>> meaning(jax.jit(jax.nn.softmax)), meaning(jax.nn.log_softmax), meaning(jax.nn.relu), meaning(abs)
    ('probabilities', 'log_probabilities', 'values', None)
    >>> meaning(lambda x: jax.nn.softmax(x)), meaning(lambda x: 2 * jax.nn.sigmoid(x))
    ('probabilities', None)
    """
    one = inside(function)
    for word, known in _MEANINGS.items():
        if one in map(inside, known):
            return word
    return _computed(function).word


def is_softmax(function: Callable[..., Any]) -> bool:
    """Whether a function is the softmax over the last axis, or its logarithm.

    >>> is_softmax(jax.nn.softmax), is_softmax(lambda x: jax.nn.softmax(x, axis=0))
    (True, False)
    """
    return function in (*_SOFTMAX, *_LOG_SOFTMAX) or _computed(function).softmax


def _computed(function: Callable[..., Any]) -> Meaning:
    """What a function makes of rows of three numbers, as its program says."""

    def found() -> Meaning:
        try:
            with jax.disable_jit(False):
                program = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((2, 3), jnp.float32))
        except Exception:  # whatever a user's function raises for an input that it is not made for
            return Meaning()
        shapes = [aval.shape for aval in program.out_avals]
        return of_program(program)[0] if shapes == [(2, 3)] else Meaning()

    return kept(key_of("meaning", function), found, ())
