"""What the output of an activation means: probabilities, their logarithms, or other numbers."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxdeep._compilation import inside, kept
from jaxdeep._identity import key_of
from jaxdeep.nn import activations
from jaxdeep.nn.traits import Outputs

_SOFTMAX = (jax.nn.softmax, jax.scipy.special.softmax)
_LOG_SOFTMAX = (jax.nn.log_softmax, jax.scipy.special.log_softmax)
Word = Outputs | Literal["same"]
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
        *(jax.nn.gelu, jax.nn.silu, activations.swish, jax.nn.hard_silu, jax.nn.mish),
        *(jnp.tanh, jax.lax.tanh, jax.nn.hard_tanh, jax.nn.soft_sign),
    ),
    "same": (jax.nn.identity, lambda x: x),
}
_KNOWN = [function for functions in _MEANINGS.values() for function in functions]


def meaning(function: Callable[..., Any]) -> Word | None:
    """What the output of a function means, "same" for what its input does; None for an unknown one.

    >>> meaning(jax.jit(jax.nn.softmax)), meaning(jax.nn.log_softmax), meaning(jax.nn.relu), meaning(abs)
    ('probabilities', 'log_probabilities', 'values', None)
    >>> meaning(lambda x: jax.nn.softmax(x)), meaning(lambda x: 2 * jax.nn.sigmoid(x))
    ('probabilities', None)
    """
    one = inside(_known(function))
    return next((word for word, known in _MEANINGS.items() if one in map(inside, known)), None)


def is_softmax(function: Callable[..., Any]) -> bool:
    """Whether a function is the softmax over the last axis, or its logarithm.

    >>> is_softmax(jax.nn.softmax), is_softmax(functools.partial(jax.nn.softmax, axis=0))
    (True, False)
    """
    function = _known(function)
    while isinstance(function, functools.partial):
        if function.args or function.keywords.get("axis", -1) != -1:
            return False
        function = function.func
    return inside(function) in map(inside, (*_SOFTMAX, *_LOG_SOFTMAX))


def _known(function: Callable[..., Any]) -> Callable[..., Any]:
    """The known function that one computes, as ``lambda x: jax.nn.softmax(x)`` does; or that one."""
    if inside(function) in map(inside, _KNOWN):
        return function
    place = kept(key_of("meaning", function), lambda: _place(function), ())
    return function if place is None else _KNOWN[place]


def _place(function: Callable[..., Any]) -> int | None:
    """The place among the known functions of one that has the same program."""
    while not isinstance(function, functools.partial) and inside(function, once=True) is not function:
        function = inside(function, once=True)  # a program says that it is compiled
    program = _program(function)
    return None if program is None else next((i for i, one in _programs() if one == program), None)


def _programs() -> list[tuple[int, str]]:
    found = kept(key_of("meanings"), lambda: [*map(_program, _KNOWN)], ())
    return [(place, program) for place, program in enumerate(found) if program is not None]


def _program(function: Callable[..., Any]) -> str | None:
    """What a function computes of rows of three numbers, as text; None if it does not take them."""
    try:
        with jax.disable_jit(False):
            return str(jax.make_jaxpr(function)(jax.ShapeDtypeStruct((2, 3), jnp.float32)))
    except Exception:  # whatever a user's function raises for an input that it is not made for
        return None
