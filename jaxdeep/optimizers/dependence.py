"""Which parts of a new state are made of the parameters' values, and which of their shapes alone."""

from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxdeep._shapes import PyTree


def depend_on_values(inner_init: Callable[[PyTree], PyTree], params: PyTree) -> list[bool]:
    """Whether each leaf of a new state is made of the parameters' values, and not of shapes alone."""
    program = jax.make_jaxpr(lambda params: jax.tree.leaves(inner_init(params)))(params)
    return _reached(program.jaxpr, [True] * len(program.jaxpr.invars))


def _reached(program: Any, known: list[bool]) -> list[bool]:
    """The results of a program that some of the arguments which are True have a part in."""
    reached = {variable for variable, is_one in zip(program.invars, known) if is_one}

    def is_reached(variables: list[Any]) -> Iterator[bool]:
        return (not hasattr(variable, "val") and variable in reached for variable in variables)

    for equation in program.eqns:
        parts = [*is_reached(equation.invars)]
        within = getattr(equation.params.get("jaxpr"), "jaxpr", None)
        if within is not None and len(within.invars) == len(parts):
            results = _reached(within, parts)
        else:
            results = [any(parts)] * len(equation.outvars)
        reached |= {variable for variable, is_one in zip(equation.outvars, results) if is_one}
    return [*is_reached(program.outvars)]
