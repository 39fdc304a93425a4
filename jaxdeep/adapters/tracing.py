"""The flow of data through an adapted module, recorded in one abstract trace.

The call of every layer that jaxdeep knows becomes one equation of the program, ``jaxdeep_layer``; all
else stays as the equations that it computes. A *cut* is a place where a single array is alive that
depends on the input; what lies between two cuts is a *piece*.
"""

import contextlib
import functools
from collections.abc import Sequence, Set
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.interpreters import batching

from jaxdeep._shapes import PyTree
from jaxdeep.adapters.known import Known, Path
from jaxdeep.adapters.module import Inside, Switches
from jaxdeep.nn import walk
from jaxdeep.nn.model import Pair

Var = Any  # a variable of a program of JAX
Equation = Any

LAYER = "jaxdeep_layer"


def _output(
    x: Any, *arrays: Any, index: int, shape: tuple[int, ...], dtype: Any
) -> jax.core.ShapedArray:
    return jax.core.ShapedArray(shape, dtype)


def _mapped(args: Any, axes: Any, *, index: int, shape: tuple[int, ...], dtype: Any) -> Any:
    if any(axis is not None for axis in axes[1:]):  # of several sets of arrays, none is its own
        size = next(a.shape[axis] for a, axis in zip(args[1:], axes[1:]) if axis is not None)
        rows = args[0] if axes[0] is not None else jnp.broadcast_to(args[0], (size, *args[0].shape))
        args, axes = [rows], [axes[0] or 0]
    x = jnp.moveaxis(args[0], axes[0], 0)
    return _layer().bind(x, *args[1:], index=index, shape=(x.shape[0], *shape), dtype=dtype), 0


@functools.cache
def _layer() -> Any:
    """The primitive, made when it is first needed, so that importing jaxdeep loads nothing more."""
    import jax.extend.core

    made = jax.extend.core.Primitive(LAYER)
    made.def_abstract_eval(_output)
    batching.primitive_batchers[made] = _mapped
    return made


class Trace(NamedTuple):
    """What a module computes.

    Attributes:
      program: with a variable for each leaf of parameters and state, the input, and what switches need.
      consts: values of its constants.
      calls: the layers that are known, by the number in their equation.
      leaves: variables of parameters and state, by path in ``{"params": …, "state": …}``.
      x, y: variables of input and output.
      after: those of the new state, by path.
      switches: those of the key and the mask.
      foreign: the paths of known layers that compute with other arrays than those of the module, as
        where a module around them changes their parameters.
    """

    program: Any
    consts: Sequence[Any]
    calls: list[tuple[Path, Known]]
    leaves: dict[Path, Var]
    x: Var
    y: Var
    after: dict[Path, Var]
    switches: list[Var]
    foreign: frozenset[Path]


class Piece(NamedTuple):
    """A part of a program: the equations that lead from one variable to another.

    Attributes:
      begin: the variable that the part takes.
      end: the variable that it computes.
      equations: those between the two that depend on `begin`, in order.
    """

    begin: Var
    end: Var
    equations: list[Equation]

    @property
    def call(self) -> int | None:
        """The number of the known layer, if the part is nothing but one such layer."""
        return called(self.equations[0]) if len(self.equations) == 1 else None


def called(equation: Equation) -> int | None:
    """The number of a known layer whose call this equation is; None for any other equation."""
    return equation.params["index"] if equation.primitive.name == LAYER else None


def as_ours(known: Known, params: PyTree, state: PyTree, x: jax.Array) -> jax.Array:
    """The output of a known layer."""
    if known.channels_first:
        x = jnp.moveaxis(x, 1, -1)
    y, _ = known.layer.apply(params, state, x)
    return jnp.moveaxis(y, -1, 1) if known.channels_first else y


def taken(known: Known, trees: PyTree) -> Pair:
    """Parameters and state of a known layer, from those of the module."""
    params, state = (
        {name: leaf.here(walk.at(trees, leaf.path)) for name, leaf in leaves.items()}
        for leaves in (known.params, known.state)
    )
    return params, state


def trace(
    inside: Inside,
    params: PyTree,
    state: PyTree,
    x: PyTree,
    switches: Switches,
    left: Set[Path],
    kept: PyTree,
) -> Trace:
    """Trace a module.

    Args:
      inside: the module.
      params, state, x: shapes. `x` is one array.
      switches: a key and a mask are shapes too.
      left: paths of known layers that stay as they are.
      kept: the state of which known layers take numbers.
    """
    calls: list[tuple[Path, Known]] = []
    trees = {"params": params, "state": state}

    def hook(path: Path, module: Any, call: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        known = None
        if path not in left and args and isinstance(args[0], jax.Array):
            known = inside.known(module, path, args[0], kept)
        if known is None:
            return call(*args, **kwargs)
        x = jax.ShapeDtypeStruct((*((1,) if inside.rows else ()), *args[0].shape), args[0].dtype)
        y = None
        with contextlib.suppress(ValueError, TypeError, KeyError):
            shapes = jax.eval_shape(lambda trees: taken(known, trees), trees)
            y = jax.eval_shape(lambda pair, x: as_ours(known, pair[0], pair[1], x), shapes, x)
        if y is None or any(array is None for array in known.arrays.values()):
            return call(*args, **kwargs)
        calls.append((path, known))
        shape = y.shape[1:] if inside.rows else y.shape
        arrays = known.arrays.values()
        y = _layer().bind(args[0], *arrays, index=len(calls) - 1, shape=shape, dtype=y.dtype)
        passed = [*args[1:2], *([kwargs["state"]] if "state" in kwargs else [])]
        return (y, passed[0]) if passed and inside.rows else y

    def run(params: PyTree, state: PyTree, x: PyTree, key: Any, mask: Any) -> Any:
        return inside.run(params, state, x, Switches(switches.train, key, mask), hook)

    args = (params, state, x, switches.key, switches.mask)
    closed, (_, new) = jax.make_jaxpr(run, return_shape=True)(*args)
    if any(_hides(equation) for equation in closed.jaxpr.eqns):
        closed = jax.make_jaxpr(lambda *args: _opened(closed, args))(*jax.tree.leaves(args))
    program = closed.jaxpr
    paths = [
        tuple(_name(entry) for entry in path) for path, _ in jax.tree_util.tree_leaves_with_path(trees)
    ]
    count = len(paths)
    leaves = dict(zip(paths, program.invars[:count]))
    program, foreign = _freed(program, calls, leaves)
    updated = [
        ("state", *(_name(entry) for entry in path))
        for path, _ in jax.tree_util.tree_leaves_with_path(new)
    ]
    y = program.outvars[: len(program.outvars) - len(updated)]
    x_and_switches = program.invars[count:]
    return Trace(
        program,
        closed.consts,
        calls,
        leaves,
        x_and_switches[0],
        y[0] if len(y) == 1 else None,
        dict(zip(updated, program.outvars[len(y) :])),
        x_and_switches[1:],
        foreign,
    )


def trace_of(
    inside: Inside, trees: PyTree, x: jax.ShapeDtypeStruct, switches: Switches, left: Set[Path]
) -> Trace:
    """The trace of a module with these parameters and this state, by these names in `trees`."""
    shapes = jax.eval_shape(lambda: trees)
    return trace(inside, shapes["params"], shapes["state"], x, switches, left, trees["state"])


def _freed(
    program: Any, calls: Sequence[tuple[Path, Known]], leaves: dict[Path, Var]
) -> tuple[Any, frozenset[Path]]:
    """The program with known layers as equations of their input alone.

    Beside it, the paths of layers that compute with other arrays than those of the module.
    """
    equations, foreign = [], set()
    for equation in program.eqns:
        if (i := called(equation)) is not None:
            path, known = calls[i]
            taken = equation.invars[1:]
            module_vars = [leaves.get(place) for place in known.arrays]
            if len(taken) != len(module_vars) or any(a is not b for a, b in zip(taken, module_vars)):
                foreign.add(path)
        alone = equation.invars if i is None else equation.invars[:1]
        equations.append(equation.replace(invars=alone))
    return program.replace(eqns=equations), frozenset(foreign)


def _name(entry: Any) -> Any:
    return next(getattr(entry, name) for name in ("key", "idx", "name") if hasattr(entry, name))


def _inner(equation: Equation) -> Any:
    """The program that an equation calls once, as it is."""
    return equation.params["jaxpr"] if equation.primitive.name in ("pjit", "jit") else None


def _hides(equation: Equation) -> bool:
    """Whether a known layer is inside the program that an equation calls."""
    inner = _inner(equation)
    return inner is not None and any(called(e) is not None or _hides(e) for e in inner.jaxpr.eqns)


def _opened(closed: Any, args: Sequence[Any]) -> list[Any]:
    """The outputs of a program in which inner programs are written out where they hold known layers."""
    program = closed.jaxpr
    used = _used(program)
    values = dict(zip([*program.constvars, *program.invars], [*closed.consts, *args]))
    for equation in program.eqns:
        input_values = {v: values[v] for v in equation.invars if not is_literal(v)}
        if _hides(equation):
            arguments = [v.val if is_literal(v) else values[v] for v in equation.invars]
            made = dict(zip(equation.outvars, _opened(_inner(equation), arguments)))
        else:
            outs = [v for v in equation.outvars if v in used]
            made = dict(zip(outs, run([equation], input_values, outs, program)))
        values |= made
    return [v.val if is_literal(v) else values[v] for v in program.outvars]


def _used(program: Any) -> set[Var]:
    inputs = [v for equation in program.eqns for v in equation.invars] + program.outvars
    return {v for v in inputs if not is_literal(v)}


def is_literal(v: Any) -> bool:
    """Whether what an equation takes is a number that is written there."""
    return hasattr(v, "val")


def run(
    equations: list[Equation], values: dict[Var, Any], outs: Sequence[Var], program: Any
) -> list[Any]:
    """The values of the variables `outs`, computed by the equations from `values`."""
    part = program.replace(constvars=[], invars=list(values), outvars=list(outs), eqns=list(equations))
    return list(jax.core.eval_jaxpr(part, (), *values.values()))


def behind(trace: Trace, begin: Var | None, ends: Sequence[Var]) -> list[Equation]:
    """The equations that `ends` need, but for those in front of `begin`."""
    wanted = {v for v in ends if not is_literal(v)} - {begin}
    equations = []
    for equation in reversed(trace.program.eqns):
        if wanted & set(equation.outvars):
            equations.append(equation)
            wanted -= set(equation.outvars)
            wanted |= {v for v in equation.invars if not is_literal(v)} - {begin}
    return equations[::-1]


def inputs(equations: Sequence[Equation], ends: Sequence[Var] = ()) -> set[Var]:
    """The variables that equations, and what is put out besides, take from outside."""
    taken = {v for equation in equations for v in equation.invars if not is_literal(v)}
    made = {v for equation in equations for v in equation.outvars}
    return (taken | {v for v in ends if not is_literal(v)}) - made


def pieces(trace: Trace, begin: Var, end: Var) -> list[Piece] | None:
    """What lies between all cuts from `begin` to `end`; None if `end` depends on more of the input."""
    equations = behind(trace, begin, [end])
    if begin is not trace.x and trace.x in inputs(equations, [end]):
        return None
    depends = {begin}
    flow = []
    for equation in equations:
        if depends & {v for v in equation.invars if not is_literal(v)}:
            flow.append(equation)
            depends |= set(equation.outvars)
    if end not in depends:
        return None
    last = {end: len(flow)}
    for i, equation in reversed(list(enumerate(flow))):
        for v in equation.invars:
            if not is_literal(v) and v in depends:
                last.setdefault(v, i)
    cut_pieces: list[Piece] = []
    since: list[Equation] = []
    alive, cut = {begin}, begin
    for i, equation in enumerate(flow):
        since.append(equation)
        alive = {v for v in (*alive, *equation.outvars) if last.get(v, -1) > i}
        if len(alive) == 1:
            (here,) = alive
            if here is not cut:
                cut_pieces.append(Piece(cut, here, since))
                cut, since = here, []
    return cut_pieces
