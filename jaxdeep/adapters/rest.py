"""The parts of an adapted module that stay as they are when the others become layers of jaxdeep."""

import functools
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import jax

from jaxdeep._shapes import Array, PyTree
from jaxdeep.adapters.known import Path
from jaxdeep.adapters.module import Closed, Inside, Switches
from jaxdeep.adapters.tracing import Piece, Trace, Var, behind, inputs, pieces, run, trace
from jaxdeep.nn import walk
from jaxdeep.nn.model import Model, Pair


class Cut(NamedTuple):
    """A cut, told so that it is found in a trace with other switches.

    Attributes:
      call: the path of a known layer; None for the input, or for the output where `steps` are below 0.
      steps: how many cuts it is behind that layer, or in front of it, counted from -1.
    """

    call: Path | None
    steps: int


class Rest(NamedTuple):
    """A part that stays as it is.

    Attributes:
      model: of the module.
      shapes: of its parameters and state, by these names.
      x: shape of the example.
      left: known layers that are not layers of their own.
      kept: the state of which known layers take numbers.
      begin, end: where it is.
    """

    model: Model
    shapes: PyTree
    x: jax.ShapeDtypeStruct
    left: Set[Path]
    kept: PyTree
    begin: Cut
    end: Cut

    def trace(self, rows: int, train: bool, key: Any, mask: Any) -> tuple[Trace, Var, Var]:
        """The trace for so many rows, and the variables where the part begins and ends."""
        inside = self.model.inside
        assert isinstance(inside, Inside)
        x = jax.ShapeDtypeStruct((rows, *self.x.shape[1:]), self.x.dtype)
        params, state = self.shapes["params"], self.shapes["state"]
        traced = trace(inside, params, state, x, Switches(train, key, mask), self.left, self.kept)
        flow = pieces(traced, traced.x, traced.y)
        if flow is None:
            raise ValueError(f"{self.model.kind} does not depend on its input")
        calls = {traced.calls[p.call][0]: i for i, p in enumerate(flow) if p.call is not None}
        cuts = [traced.x, *(piece.end for piece in flow)]

        def place(cut: Cut) -> int:
            behind = cut.steps >= 0
            end = -1 if behind else len(flow)
            return (end if cut.call is None else calls.get(cut.call, end)) + 1 + cut.steps

        first, last = place(self.begin), place(self.end)
        lacks = {self.begin.call, self.end.call} - {None, *calls}
        if lacks or not 0 <= first < last < len(cuts):
            raise ValueError(
                f"{self.model.kind} computes something else where its switches are other than at "
                "inference, and cannot be lifted"
            )
        return traced, cuts[first], cuts[last]


def cuts(traced: Trace, flow: Sequence[Piece], start: int, stop: int) -> tuple[Cut, Cut]:
    """Where the pieces from `start` to `stop` begin and end, counted from the nearer known layers.

    Both are counted from the same side where there is, on the other, something that takes parameters.
    """
    calls = [None if p.call is None else traced.calls[p.call][0] for p in flow]
    i = next((i for i in range(start - 1, -1, -1) if calls[i] is not None), -1)
    j = next((j for j in range(stop, len(flow)) if calls[j] is not None), len(flow))
    before = calls[i] if i >= 0 else None
    behind = calls[j] if j < len(flow) else None
    from_front = [Cut(before, at - i - 1) for at in (start, stop)]
    from_back = [Cut(behind, at - j - 1) for at in (start, stop)]
    takes_leaves = _takes(traced, flow[start:stop])
    in_front = _takes(traced, flow[i + 1 : start])
    if takes_leaves:
        return from_front[0], from_back[1]
    return (from_back[0], from_back[1]) if in_front else (from_front[0], from_front[1])


def _takes(traced: Trace, flow: Sequence[Piece]) -> bool:
    """Whether pieces take parameters or statistics."""
    leaves = set(traced.leaves.values())
    return any(leaves & inputs(behind(traced, piece.begin, [piece.end])) for piece in flow)


def own_leaves(part: Rest) -> list[Path]:
    """The paths of the parameters and statistics that a part uses or changes, with any switches."""
    paths: set[Path] = set()
    key = jax.eval_shape(lambda: jax.random.key(0))
    for train, own_key in ((False, None), (True, None), (False, key), (True, key)):
        try:
            traced, begin, end = part.trace(part.x.shape[0], train, own_key, None)
        except Exception:
            if train and own_key is None:  # a module that draws in training refuses to without a key
                continue
            raise
        updated = _updated(traced, begin, end)
        used = inputs(behind(traced, begin, [end, *updated.values()]), [end, *updated.values()])
        paths |= {path for path, v in traced.leaves.items() if v in used} | set(updated)
    return [path for path in part.trace(part.x.shape[0], False, None, None)[0].leaves if path in paths]


def opaque(part: Rest, names: Mapping[Path, tuple[str, ...]], own_key: jax.Array | None = None) -> Model:
    """The part as a model of arrays that have these names, by their paths in the module.

    With a key of its own it draws by that.
    """

    def init(key: Array, x: PyTree) -> Pair:
        trees = dict(zip(("params", "state"), part.model.init(key, part.x)))
        made: dict[str, PyTree] = {"params": {}, "state": {}}
        for path, keys in names.items():
            made[path[0]] = walk.put(made[path[0]], keys, walk.at(trees, path))
        return made["params"], made["state"]

    def apply(
        params: PyTree,
        state: PyTree,
        x: Array,
        *,
        train: bool = False,
        key: Array | None = None,
        mask: Array | None = None,
    ) -> Pair:
        key = key if own_key is None else own_key
        traced, begin, end = part.trace(x.shape[0], train, *_shapes(key, mask))
        own_trees = {"params": params, "state": state}
        updated = {p: v for p, v in _updated(traced, begin, end).items() if p in names and train}
        values = {begin: x.astype(begin.aval.dtype)}
        values |= dict(zip(traced.program.constvars, traced.consts))
        values |= dict(zip(traced.switches, [a for a in (key, mask) if a is not None]))
        for path, keys in names.items():
            v = traced.leaves[path]
            values[v] = walk.at(own_trees[path[0]], keys).astype(v.aval.dtype)
        outs = [end, *updated.values()]
        equations = behind(traced, begin, outs)
        y, *new = run(equations, values, outs, traced.program)
        for path, value in zip(updated, new):
            state = walk.put(state, names[path], value)
        return y, state

    kind = f"{part.model.kind} (a part)" if names else "function"
    keyed = functools.partial(opaque, part, names)
    return Model(init, apply, kind, inside=Closed(keyed=keyed))


def _shapes(*arrays: Array | None) -> list[Any]:
    return [None if a is None else jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]


def _updated(traced: Trace, begin: Var, end: Var) -> dict[Path, Var]:
    """The variables of the state that change, by path, as far as the part makes them."""
    made = {}
    used = inputs(behind(traced, begin, [end]))
    for path, v in traced.after.items():
        if v is traced.leaves[path]:
            continue
        equations = behind(traced, begin, [v])
        taken = inputs(equations, [v])
        whole = begin is traced.x or traced.x not in taken
        behind_it = any(end in e.outvars for e in equations)
        # Such as the vector of a power iteration.
        changes_own = traced.x not in taken and traced.leaves[path] in used
        if changes_own or (whole and begin in taken and not behind_it):
            made[path] = v
    for path in set(traced.after) - set(made):
        v, module = traced.after[path], path[1:-1]
        counts = v is not traced.leaves[path] and traced.x not in inputs(behind(traced, None, [v]), [v])
        if counts and any(made_path[1 : len(path) - 1] == module for made_path in [*made]):
            made[path] = v
    return made
