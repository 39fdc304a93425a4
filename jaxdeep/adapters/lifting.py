"""Adapted modules as layers of jaxdeep, so that every tool knows what is inside, and back."""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import jax

from jaxdeep import _checks, nn
from jaxdeep._arrays import check_leaves, leaves_of
from jaxdeep._shapes import PyTree
from jaxdeep.adapters import draws, rest
from jaxdeep.adapters.known import Leaf, Path
from jaxdeep.adapters.module import Inside, Switches
from jaxdeep.adapters.parts import Part, common_names, dotted, filled, gathered, in_a_row, permuted
from jaxdeep.adapters.recognition import TO_FIRST, TO_LAST, Recognised, recognised
from jaxdeep.adapters.sizes import Twin, section, twin
from jaxdeep.adapters.sizes import others as other_sizes
from jaxdeep.adapters.tracing import Piece, Trace, Var, behind, called, inputs, pieces, trace_of
from jaxdeep.adapters.verification import alike_at, example_array, verify
from jaxdeep.nn import walk
from jaxdeep.nn.linear import of_size
from jaxdeep.nn.model import Model, check_models, lifting, taking
from jaxdeep.tree import example_of, path_name, unboxed


def lift(
    model: Model, params: PyTree, state: PyTree, x: PyTree, *, inference: bool = False
) -> tuple[Model, PyTree, PyTree]:
    """An adapted module as layers of jaxdeep, as far as it goes: then every tool knows what is inside.

    The module is traced abstractly, at inference and in training. Its dense layers, convolutions, norms,
    dropouts and embeddings become jaxdeep's, with the same values; activations, pools and reshapes
    between them are recognised by what they compute; sums and concatenations of branches become
    `jaxdeep.nn.residual` and `concatenate`. What runs one after another becomes a `jaxdeep.nn.serial`,
    with the module's own names joined by dots, ``"layers.0"``. All else stays as it is, in layers of
    which tools know the paths of their arrays only, or a function without any; `jaxdeep.nn.summary`
    lists them.

    A layer whose parameters reach it changed, as inside of `flax.linen.WeightNorm`, stays as it is with
    what changes them, and so does what has other slopes than the layer that has its values: a
    `jax.lax.stop_gradient`, a `jax.custom_vjp`. What draws random numbers itself, such as noise by
    ``make_rng``, stays as it is, with the layer beside it. What is made is compared with the module on
    `x`: its outputs and, near `x`, their gradients, in training its statistics too. Dropouts draw other
    numbers of the same distribution.

    Where the module runs at other sizes of the axes behind the first, a little larger or smaller, twice
    as large, or larger along one axis alone, the layers are compared with it there too, and those are
    taken that do as it does at all of them. Where none are known, as of a slice ``x[:, :8]``, the lifted
    model takes examples of the size of `x` alone: it begins with a layer that refuses others.

    Args:
      model: from `from_linen`, `from_nnx` or `from_equinox`, or one that has such modules among its
        layers, each of which is lifted in its place.
      params, state: its parameters and state. Arrays are not copied where they need not be transposed.
      x: an example input, one array. Of shapes alone (`jax.ShapeDtypeStruct`) random numbers are drawn.
      inference: whether layers are lifted, too, that are the same at inference alone: batch norms of
        Equinox, whose statistics begin in another way.

    Returns:
      The model, its parameters and its state. `lower` takes them back.

    Raises:
      TypeError: not an adapted module. ValueError: an input or output of several arrays; arrays that
        several parts share; a module of which nothing is known, or which does other than the trace says,
        naming the layer.

    Source: the rules for reading a program of JAX of `jax.make_jaxpr`.

    >>> import flax.linen as linen, jax.numpy as jnp, jaxdeep as jd
    >>> model = jd.adapters.from_linen(linen.Sequential([linen.Dense(4), linen.relu, linen.Dense(2)]))
    >>> x = jnp.ones((1, 3))
    >>> params, state = model.init(jax.random.key(0), x)
    >>> lifted, params, state = lift(model, params, state, x)
    >>> lifted
    serial(
        layers_0=dense(features=4),
        activation0=activation(function=relu),
        layers_2=dense(features=2),
    )
    """
    _checks.check_flag("inference", inference)
    modules = _modules("lift", model, params, state, x)
    if modules:
        layers = {}
        for keys, (layer, layer_x) in modules.items():
            old = [walk.at(tree, keys) for tree in (params, state)]
            layers[keys], *new_own = lift(layer, old[0], old[1], layer_x, inference=inference)
            params, state = (walk.put(t, keys, new) for t, new in zip((params, state), new_own))
        chosen = lambda place: layers.get(place.keys, place.layer)  # noqa: E731
        return walk.rebuild(model, chosen, walk.outside_loops), params, state
    part, module = _lifted("lift", model, params, state, x, inference)
    new = filled(part, module.trees)
    applies: dict[str, tuple[draws.Apply, draws.Apply]] = {}
    applies["at inference"] = model.apply, part.model.apply
    if not inference:
        applies["in training"] = draws.in_training(
            model, part.model, module.training, module.left, module.trees["state"]
        )
    verify(model.kind, applies, (part.params, part.state), module.trees, new, example_array(x))
    lifted = part.model
    if part.one_size or not alike_at(applies["at inference"], module.trees, new, x, module.sizes):
        lifted = nn.serial(of_size0=of_size(*module.x.shape[1:]), **lifted.layers)
    return lifted, *new


def lower(
    model: Model,
    params: PyTree,
    state: PyTree,
    lifted_params: PyTree,
    lifted_state: PyTree,
    x: PyTree,
    *,
    inference: bool = False,
) -> tuple[PyTree, PyTree]:
    """Parameters and state of an adapted module, with the values that its lifted layers have now.

    Args:
      model, params, state, x, inference: as `lift` was given them.
      lifted_params, lifted_state: of the layers that it made, in their structure: trained, pruned or
        cast, but not folded or quantised.

    Returns:
      Parameters and state in the structure of the module's; what has no place in the layers stays.

    Raises:
      ValueError: arrays that the layers do not have, or of other shapes. TypeError: as `lift`.

    Source: the inverse of `lift`.

    >>> import flax.linen as linen, jax.numpy as jnp, jaxdeep as jd
    >>> model, x = jd.adapters.from_linen(linen.Sequential([linen.Dense(2)])), jnp.ones((1, 3))
    >>> params, state = model.init(jax.random.key(0), x)
    >>> lifted, own, _ = lift(model, params, state, x)
    >>> doubled = jax.tree.map(lambda leaf: 2 * leaf, own)
    >>> new, _ = lower(model, params, state, doubled, {}, x)
    >>> bool((new["layers_0"]["kernel"] == 2 * params["layers_0"]["kernel"]).all())
    True
    """
    _checks.check_flag("inference", inference)
    modules = _modules("lower", model, params, state, x)
    if modules:
        whole = lifted_params, lifted_state
        for keys, (layer, layer_x) in modules.items():
            old = [walk.at(tree, keys) for tree in (params, state)]
            now = [walk.at(tree, keys) for tree in whole]
            back = lower(layer, old[0], old[1], now[0], now[1], layer_x, inference=inference)
            whole = walk.put(whole[0], keys, back[0]), walk.put(whole[1], keys, back[1])
        return whole
    part, module = _lifted("lower", model, params, state, x, inference)
    trees = module.trees
    wanted = dict(zip(("params", "state"), jax.eval_shape(lambda: filled(part, trees))))
    lifted = {"params": lifted_params, "state": lifted_state}
    for name, tree in lifted.items():
        check_leaves(f"lifted_{name}", tree, real=False)
    here, there = (
        {path_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (wanted, lifted)
    )
    odd = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    if odd:
        name = odd[0]
        is_odd = f"has shape {there[name]}" if name in there else "is missing"
        wants = f"needs {here[name]}" if name in here else "has no such array"
        raise ValueError(
            f"lifted_{name} {is_odd}, and what lift makes of this module {wants}; what was folded or "
            "quantised has no way back"
        )
    for root, places in (("params", part.params), ("state", part.state)):
        for keys, leaf in places.items():
            value = leaf.there(walk.at(lifted[root], keys))
            trees = walk.put(trees, leaf.path, value)
    # As the module has them, boxes around arrays included.
    structure = jax.tree.structure((params, state))
    new: tuple[PyTree, PyTree] = jax.tree.unflatten(
        structure, jax.tree.leaves((trees["params"], trees["state"]))
    )
    return new


def _modules(
    caller: str, model: Model, params: PyTree, state: PyTree, x: PyTree
) -> dict[tuple[str, ...], tuple[Model, PyTree]]:
    """The adapted modules among the layers of a model, and their inputs, by keys; none of a module."""
    check_models(caller, {"model": model})
    if isinstance(model.inside, Inside):
        return {}
    inputs: dict[str, PyTree] = {}
    taking(model, inputs).apply(params, state, jax.tree.map(example_array, x))
    return {
        place.keys: (place.layer, inputs[place.path])
        for place in walk.leaves(model, walk.outside_loops)
        if isinstance(place.layer.inside, Inside)
    }


class _Module(NamedTuple):
    """An adapted module.

    Attributes:
      model: the module.
      trees: its parameters and state, by these names.
      x: the shape of the example.
      trace, training: its traces at inference and, with a key, in training; None where that fails.
      left: known layers that stay as they are.
      draws: whether some of them do since the module draws random numbers beside them.
      seen: what was recognised, by its programs at all sizes.
      sizes: shapes of other sizes at which the module runs.
      twins: its traces there, of the same steps.
    """

    model: Model
    trees: PyTree
    x: jax.ShapeDtypeStruct
    trace: Trace
    training: Trace | None
    left: frozenset[Path]
    draws: bool
    seen: dict[tuple[str, ...], Recognised]
    sizes: list[jax.ShapeDtypeStruct]
    twins: Sequence[Twin]


def _lifted(
    caller: str, model: Model, params: PyTree, state: PyTree, x: PyTree, inference: bool
) -> tuple[Part, _Module]:
    check_models(caller, {"model": model})
    if not isinstance(model.inside, Inside):
        raise TypeError(
            f"{caller} takes a model of from_linen, from_nnx or from_equinox, got {model.kind}"
            f"{lifting(model)}"
        )
    shape = example_of(x)
    if not hasattr(shape, "shape"):
        raise ValueError(
            f"{caller} takes modules of one array, got x of {len(jax.tree.leaves(shape))}. One of "
            "several inputs stays whole: what needs paths alone works on it, such as trainable=. For "
            "the others make a model of each of its parts, from_linen(part), and wire them with "
            "jaxdeep.nn.graph; lift then lifts each part in its place"
        )
    if not shape.shape:
        raise ValueError(f"{caller} takes modules of an array of a batch, got x of {shape}")
    trees = unboxed({"params": leaves_of("params", params), "state": leaves_of("state", state)})
    left: frozenset[Path] = frozenset()
    draws_beside = False
    seen: dict[tuple[str, ...], Recognised] = {}
    sizes = other_sizes(model, trees, shape)
    while True:
        traced = trace_of(model.inside, trees, shape, Switches(), left)
        if traced.y is None:
            raise ValueError(
                f"{caller} takes modules of one output, which {model.kind} has not: make a model of "
                "what its outputs have in common and one of each end, and wire them with "
                "jaxdeep.nn.graph"
            )
        odd = _unusable(traced, inference)
        if not odd:
            training = draws.training(caller, model, trees, shape, left, inference)
            at_others = (trace_of(model.inside, trees, size, Switches(), left) for size in sizes)
            twins = [one for other in at_others if (one := twin(traced, other)) is not None]
            module = _Module(
                model, trees, shape, traced, training, left, draws_beside, seen, sizes, twins
            )
            parts, odd = _chain(module, traced.x, traced.y, (), whole=True)
        if not odd:
            whole = in_a_row("", parts)
            odd = draws.beside_draws(caller, model, training, whole.left)
            draws_beside |= bool(odd)
        if not odd:
            break
        left |= odd
    places = [leaf.path for leaf in (*whole.params.values(), *whole.state.values())]
    shared = [path for path, n in collections.Counter(places).items() if n > 1]
    if shared:
        raise ValueError(
            f"{caller}: several parts of {model.kind} use {dotted(shared[0][1:])}, and layers of "
            "jaxdeep have arrays of their own"
        )
    return whole, module


def _unusable(traced: Trace, inference: bool) -> frozenset[Path]:
    """Known layers that must stay as they are.

    They are called twice or with other arrays than their own, not seen, or other in training.
    """
    seen = collections.Counter(
        traced.calls[i][0] for e in behind(traced, None, [traced.y]) if (i := called(e)) is not None
    )
    return traced.foreign | frozenset(
        path for path, known in traced.calls if seen[path] != 1 or not (known.trains or inference)
    )


def _chain(
    module: _Module, begin: Var, end: Var, prefix: Path, *, whole: bool
) -> tuple[list[Part], frozenset[Path]]:
    """The parts from one cut to another, and known layers that cannot be part of a layer.

    Where it is not `whole`, but a branch, nothing can stay as it is.
    """
    if begin is end:
        return [], frozenset()
    flow = pieces(module.trace, begin, end)
    if flow is None:
        return [], _inside(module, begin, end)
    parts: list[Part] = []
    odd: frozenset[Path] = frozenset()
    i = 0
    while i < len(flow):
        next_parts, stop = _layers(module, flow, i, prefix)
        if next_parts is None:
            stop = _stays(module, flow, i, prefix)
            odd |= _inside(module, flow[i].begin, flow[stop - 1].end)
            if not whole:
                return [], _CANNOT_STAY
            next_parts = [] if odd else [_rest(module, flow, i, stop)]
        parts += next_parts
        i = stop
    return permuted(parts), odd


_CANNOT_STAY: frozenset[Path] = frozenset([()])  # of a part of a branch, also of one without layers


def _inside(module: _Module, begin: Var, end: Var) -> frozenset[Path]:
    """The paths of known layers between two variables."""
    numbers = (called(equation) for equation in behind(module.trace, begin, [end]))
    return frozenset(module.trace.calls[i][0] for i in numbers if i is not None)


def _layers(module: _Module, flow: list[Piece], i: int, prefix: Path) -> tuple[list[Part] | None, int]:
    """The layers that begin with a piece, or None, and the piece behind them."""
    piece = flow[i]
    if piece.call is not None:
        return _known(module, piece.call, prefix), i + 1
    joined = _branches(module, piece, prefix)
    if joined is not None:
        return [joined], i + 1
    stop = i
    while stop < len(flow) and flow[stop].call is None and _is_pure(module, flow[stop]):
        stop += 1
    at_one_size = None
    for j in range(stop, i, -1):
        layers, elsewhere = _recognised(module, piece.begin, flow[j - 1].end)
        if layers is not None:
            found = [Part("", layer, one_size=not elsewhere) for layer in layers], j
            if elsewhere:
                return found
            at_one_size = at_one_size or found
    return at_one_size or (None, i + 1)


def _stays(module: _Module, flow: list[Piece], i: int, prefix: Path) -> int:
    """Where what stays as it is ends: behind all that takes parameters up to the next known layer.

    In training it may have other cuts inside, so that it is found from its two ends. Where the module
    draws random numbers, it goes up to the next known layer: nothing at inference says where in between.
    """
    stop = i + 1
    while stop < len(flow) and _layers(module, flow, stop, prefix)[0] is None:
        stop += 1
    ahead = stop
    while ahead < len(flow) and (flow[ahead].call is None):
        if _branches(module, flow[ahead], prefix) is not None:
            break
        ahead += 1
        if module.draws or not _is_pure(module, flow[ahead - 1]):
            stop = ahead
    return stop


def _is_pure(module: _Module, piece: Piece) -> bool:
    """Whether a piece takes no parameters and holds no layers."""
    equations = behind(module.trace, piece.begin, [piece.end])
    known = {piece.begin, *module.trace.program.constvars}
    return inputs(equations) <= known and not any(called(e) is not None for e in equations)


def _recognised(module: _Module, begin: Var, end: Var) -> Recognised:
    """The layers that are what a pure part computes."""
    here = section(module.trace, begin, end)
    there = {
        other.text: other
        for twin in module.twins
        if (other := section(twin.trace, twin.of[begin], twin.of[end])).text != here.text
    }
    # a text does not tell values of constants or rules of derivatives
    untold = here.has_consts or "custom_vjp_call" in here.text
    key = (here.text, *there)
    if untold or key not in module.seen:
        equations = behind(module.trace, begin, [end])
        elsewhere = list(there.values())[:_AT_SIZES]
        module.seen[key] = recognised(jax.jit(here.function), here.x, equations, elsewhere)
    return module.seen[key]


_AT_SIZES = 2  # besides that of the example, of those at which the module runs: an odd and an even one


def _known(module: _Module, number: int, prefix: Path) -> list[Part]:
    path, known = module.trace.calls[number]
    params, state = (
        {(name,): leaf for name, leaf in leaves.items()} for leaves in (known.params, known.state)
    )
    part = Part(dotted(path[len(prefix) :]), known.layer, params, state)
    return [Part("", TO_LAST), part, Part("", TO_FIRST)] if known.channels_first else [part]


def _branches(module: _Module, piece: Piece, prefix: Path) -> Part | None:
    """A sum of two branches, or a concatenation of some, as a layer."""
    last = piece.equations[-1]
    if last.primitive.name not in ("add", "add_any", "concatenate"):
        return None
    ends = list(last.invars)
    if any(not hasattr(v, "aval") or v.aval.shape[:1] != piece.begin.aval.shape[:1] for v in ends):
        return None
    branch_equations = [behind(module.trace, piece.begin, [v]) for v in ends]
    flows = [{id(e) for e in equations if e in piece.equations} for equations in branch_equations]
    if sum(map(len, flows)) > len(set().union(*flows)) or len(ends) < 2:
        return None
    if any(not flow and v is not piece.begin for flow, v in zip(flows, ends)):
        return None
    around = common_names(
        [module.trace.calls[i][0] for e in piece.equations if (i := called(e)) is not None]
    )
    if len(around) < len(prefix):
        around = prefix
    branches = []
    for v in ends:
        parts, odd = _chain(module, piece.begin, v, around, whole=False)
        if odd:
            return None
        branches.append(in_a_row("", parts))
    name = dotted(around[len(prefix) :])
    if last.primitive.name == "concatenate":
        names = [f"branch{i}" for i in range(len(branches))]
        axis = last.params["dimension"]
        return gathered(
            name, dict(zip(names, branches)), lambda layers: nn.concatenate(axis=axis, **layers)
        )
    if ends[0] is piece.begin:
        branches.reverse()
    layers = {"layer": branches[0]}
    if piece.begin not in ends:
        layers["shortcut"] = branches[1]
    return gathered(
        name, layers, lambda layers: nn.residual(layers["layer"], shortcut=layers.get("shortcut"))
    )


def _rest(module: _Module, flow: list[Piece], start: int, stop: int) -> Part:
    """What stays as it is, between two of the cuts of the whole module."""
    cuts = rest.cuts(module.trace, flow, start, stop)
    shapes = jax.eval_shape(lambda: module.trees)
    left, kept = module.left, module.trees["state"]
    part = rest.Rest(module.model, shapes, module.x, left, kept, *cuts)
    paths = rest.own_leaves(part)
    around = common_names([path[1:] for path in paths])
    names = {path: tuple(map(str, path[1 + len(around) :])) for path in paths}
    params, state = (
        {names[path]: Leaf(path) for path in paths if path[0] == root} for root in ("params", "state")
    )
    return Part(dotted(around) or "rest", rest.opaque(part, names), params, state, [part])
