"""Other sizes of its input at which a module runs, where its layers must do as it does, too."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax

from jaxdeep._shapes import PyTree
from jaxdeep.adapters.tracing import Trace, Var, behind, inputs, run
from jaxdeep.nn.model import Model

_STEPS = (1, -1, 2, 4, 8)  # behind strides of s, every s-th size is another one
_FAR, _MOST = 16, 2**18  # so many times as long, if one example has at most so many numbers then


class Section(NamedTuple):
    """A part of a program, as a function of one array.

    Attributes:
      function: the function.
      x, y: shapes of what it takes and gives.
      text: its program.
      has_consts: whether it holds arrays, whose values the text does not tell.
    """

    function: Callable[[jax.Array], jax.Array]
    x: jax.ShapeDtypeStruct
    y: jax.ShapeDtypeStruct
    text: str
    has_consts: bool


class Twin(NamedTuple):
    """The trace of a module at another size, which takes the same steps.

    Attributes:
      trace: the trace.
      of: its variables, by those of the trace at the example's size.
    """

    trace: Trace
    of: dict[Var, Var]


def section(traced: Trace, begin: Var, end: Var) -> Section:
    """What a trace computes from one cut to another."""
    equations = behind(traced, begin, [end])
    used = inputs(equations)
    consts = {v: c for v, c in zip(traced.program.constvars, traced.consts) if v in used}

    def function(x: jax.Array) -> jax.Array:
        (y,) = run(equations, {**consts, begin: x}, [end], traced.program)
        return y

    x, y = (jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in (begin, end))
    return Section(function, x, y, str(jax.make_jaxpr(function)(x)), bool(consts))


def others(model: Model, trees: PyTree, x: jax.ShapeDtypeStruct) -> list[jax.ShapeDtypeStruct]:
    """The example with other sizes of all axes behind the first that may have others, where it runs.

    The first is near its size and the last far from it; before that one are those of one axis alone.

    Args:
      model: a module.
      trees: its parameters and state, by these names.
      x: the shape of the example.
    """

    def runs(x: jax.ShapeDtypeStruct) -> bool:
        try:
            jax.eval_shape(model.apply, trees["params"], trees["state"], x)
        except Exception:  # whatever a module raises, it does not run
            return False
        return True

    def moved(axes: Sequence[int], steps: Sequence[int]) -> Iterator[jax.ShapeDtypeStruct]:
        """Shapes with a little more, or less, or twice as much along the axes, at which it runs.

        And one that is far longer along a single axis.
        """
        times = [2, _FAR] if len(axes) == 1 and _FAR * math.prod(x.shape[1:]) <= _MOST else [2]
        near = ([n + step for n in x.shape] for step in steps)
        for sizes in [*near, *([n * of for n in x.shape] for of in times)]:
            shape = tuple(sizes[i] if i in axes else n for i, n in enumerate(x.shape))
            new = jax.ShapeDtypeStruct(shape, x.dtype)
            if min(shape) > 0 and runs(new):
                yield new

    ndim = len(x.shape)
    free = [i for i in range(1, ndim) if any(moved([i], _STEPS[:2]))]
    square = [list(range(1, ndim - 1)), list(range(2, ndim))]
    for axes in [free, *([i] for i in free)] if free else [a for a in square if len(a) > 1]:
        shapes = list(moved(axes, _STEPS))
        if shapes:
            # of one axis alone, too: a square may hide which of two sizes a module means
            alone = [next(moved([i], _STEPS), None) for i in axes] if axes == free and axes[1:] else []
            return [*shapes[:-1], *(shape for shape in alone if shape is not None), shapes[-1]]
    return []


def twin(traced: Trace, other: Trace) -> Twin | None:
    """The trace at another size beside that of the example; None if it takes other steps."""
    programs = [traced.program, other.program]
    steps = [[(e.primitive.name, len(e.outvars)) for e in program.eqns] for program in programs]
    variables = [
        [*program.invars, *(v for equation in program.eqns for v in equation.outvars)]
        for program in programs
    ]
    if steps[0] != steps[1] or len(variables[0]) != len(variables[1]):
        return None
    return Twin(other, dict(zip(*variables)))
