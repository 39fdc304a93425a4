"""Programs in the form that is the same on all platforms, for what knows of none."""

from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core

from jaxdeep._shapes import PyTree

Closed = core.ClosedJaxpr
_CHECKPOINT = ("checkpoint", "remat2")  # what jax.checkpoint is called


def in_any_form(closed: Closed) -> Closed:
    """The same program with the default branch of each `jax.lax.platform_dependent` in its place.

    >>> import jax.numpy as jnp
    >>> def sine(x): return jax.lax.platform_dependent(x, cpu=jnp.sin, default=jnp.sin)
    >>> _chooses(program := jax.make_jaxpr(sine)(1.0)), _chooses(in_any_form(program))
    (True, False)
    """
    if not _chooses(closed):
        return closed

    def run(*inputs: Any) -> list[Any]:
        values: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, closed.consts))
        values |= dict(zip(closed.jaxpr.invars, inputs))
        defaults: dict[Any, int] = {}  # the number of the last branch, by the variable it goes into

        def read(place: Any) -> Any:
            return place.val if isinstance(place, core.Literal) else values[place]

        for equation in closed.jaxpr.eqns:
            taken, params = equation.invars, equation.params
            if equation.primitive.name == "platform_index":
                defaults[equation.outvars[0]] = len(params["platforms"]) - 1
                continue
            if equation.primitive.name == "cond" and taken[0] in defaults:
                taken, program = taken[1:], in_any_form(params["branches"][defaults[taken[0]]])
            elif equation.primitive.name in _CHECKPOINT:  # of no use without gradients
                inner = params["jaxpr"]  # which is closed in the newest versions of JAX alone
                program = in_any_form(inner if isinstance(inner, Closed) else Closed(inner, []))
            else:
                inside = {
                    name: jax.tree.map(_replaced, value, is_leaf=_is_program)
                    for name, value in params.items()
                    if any(_programs(value))
                }
                taken = [place for place in taken if not isinstance(place, core.Literal)]
                alone = [equation.replace(params={**params, **inside})]
                jaxpr = closed.jaxpr.replace(
                    constvars=[], invars=taken, outvars=equation.outvars, eqns=alone
                )
                program = Closed(jaxpr, [])
            values |= dict(zip(equation.outvars, core.jaxpr_as_fun(program)(*map(read, taken))))
        return [read(place) for place in closed.jaxpr.outvars]

    return jax.make_jaxpr(run)(*closed.in_avals)


def _is_program(value: object) -> bool:
    return isinstance(value, (Closed, core.Jaxpr))


def _replaced(value: Any) -> Any:
    return in_any_form(value) if isinstance(value, Closed) else value


def _chooses(program: Closed | core.Jaxpr) -> bool:
    """Whether a program, or one inside it, asks for the platform."""
    return any(
        equation.primitive.name == "platform_index" or any(map(_chooses, _programs(equation.params)))
        for equation in program.eqns
    )


def _programs(params: PyTree) -> Iterator[Closed | core.Jaxpr]:
    return filter(_is_program, jax.tree.leaves(params, is_leaf=_is_program))
