"""Models whose layers are wired by name: a graph of calls, and the layers that join several arrays."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import Array, PyTree
from jaxdeep.nn.layer import Layer
from jaxdeep.nn.layer import layer as layer_function
from jaxdeep.nn.model import (
    Model,
    Pair,
    Switches,
    apply_inside,
    check_known,
    check_models,
    float_dtype,
    located,
    under,
)
from jaxdeep.nn.traits import Names, Traits, Wires, same_axes
from jaxdeep.tree import example_of

_JOINS: dict[str, Callable[[Array, Array], Array]] = {
    "add": jnp.add,
    "subtract": jnp.subtract,
    "multiply": jnp.multiply,
    "average": jnp.add,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
}


@layer_function
def graph(
    calls: Mapping[str, tuple[str, Names]],
    outputs: Names | None = None,
    inputs: Names = "x",
    /,
    **layers: Model,
) -> Layer:
    """Layers wired by name: the output of one goes to any number of others, and one may be called twice.

    ``calls`` are made one after another: ``"name": ("layer", inputs)`` gives what the layer puts out a
    name, by which later calls and the outputs take it. Inputs are one name, or a tuple or dict of names,
    which the layer gets as a tuple or dict of arrays, as `merge` and `shared` take them.

    Parameters and state are dicts by layer name, once for a layer that is called several times; its
    statistics pass from one call to the next. Call i draws its randomness from
    ``jax.random.fold_in(key, i)``.

    Args:
      calls: by the name of what comes out, in an order in which each takes what is there already.
      outputs: the name of what the model puts out, or a tuple or dict; the last call's by default.
      inputs: a name for the model's input, or a tuple or dict of names for each of several.
      layers: `Model` values by name, each called at least once.

    Raises:
      ValueError: a call of an unknown layer or of what is not there yet, a name given twice, a layer
        that is never called; inputs of another structure; from a layer, with its path in front.
      TypeError: something that is not a `Model`, or no name.

    Source: the functional interface of Keras.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = graph(
    ...     {"low": ("hidden", "x"), "high": ("deeper", "low"), "both": ("join", ("low", "high")),
    ...      "y": ("out", "both")},
    ...     hidden=jd.nn.dense(4), deeper=jd.nn.dense(4), join=jd.nn.merge("concatenate"),
    ...     out=jd.nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> params["out"]["kernel"].shape, model.apply(params, state, jnp.ones((5, 3)))[0].shape
    ((8, 2), (5, 2))
    """
    check_models("graph", layers)
    wires = _wired(calls, outputs, inputs, layers)
    places = {name: i for i, name in reversed(list(enumerate(wires.layers)))}

    def run(x: PyTree, call: Callable[[int, str, PyTree], PyTree]) -> PyTree:
        known = dict(_spread(wires.inputs, x))
        for i, (name, (layer, taken)) in enumerate(wires.calls.items()):
            known[name] = call(i, layer, gathered(taken, known))
        return gathered(wires.outputs, known)

    def init(key: Array, x: PyTree) -> Pair:
        made: dict[str, Pair] = {}

        def call(i: int, name: str, x: PyTree) -> PyTree:
            with located(name):
                if name not in made:
                    made[name] = layers[name].init(jax.random.fold_in(key, places[name]), x)
                return jax.eval_shape(layers[name].apply, *made[name], x)[0]

        run(example_of(x), call)
        params: dict[str, PyTree] = {}
        state: dict[str, PyTree] = {}
        for name in layers:
            params |= under(name, made[name][0])
            state |= under(name, made[name][1])
        return params, state

    def apply(params: PyTree, state: PyTree, x: PyTree, switches: Switches) -> Pair:
        check_known(layers, params, state)
        new = dict(state)

        def call(i: int, name: str, x: PyTree) -> PyTree:
            variables = params.get(name, {}), new.get(name, {})
            y, own_state = apply_inside(name, layers[name], i, variables, x, switches)
            new.update(under(name, own_state))
            return y

        return run(x, call), new

    config = {"calls": wires.calls, "outputs": outputs and wires.outputs, "inputs": wires.inputs}
    traits = Traits(joins="graph", wires=wires)
    return Layer(apply, init, traits=traits, layers=layers, arguments=config)


@layer_function
def merge(how: str = "add", *, axis: int = -1) -> Layer:
    """Several arrays as one: their sum, product, mean …, elementwise, or side by side along an axis.

    The input is a tuple, list or dict of arrays; for a dict, in the order of its sorted names. Shapes
    broadcast, except of "concatenate". Whole numbers become floats.

    Args:
      how: "add", "subtract" (of two), "multiply", "average", "maximum", "minimum" or "concatenate".
      axis: the axis of "concatenate".

    Raises:
      ValueError: another `how`; no tuple, list or dict of arrays, or of shapes that do not fit.

    Source: Keras' `Add`, `Subtract`, `Multiply`, `Average`, `Maximum`, `Minimum` and `Concatenate`.

    >>> merge("multiply").apply({}, {}, (jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])))[0].tolist()
    [3.0, 8.0]
    >>> merge("concatenate").apply({}, {}, (jnp.ones((2, 3)), jnp.ones((2, 1))))[0].shape
    (2, 4)
    """
    _checks.check_choice("how", how, (*_JOINS, "concatenate"))
    axis = _checks.check_count("axis", axis, low=-math.inf)

    def apply(x: PyTree) -> Array:
        several = _several(x)
        if how == "subtract" and len(several) != 2:
            raise ValueError(f"merge('subtract') needs an x of two arrays, got {len(several)}")
        dtype = float_dtype(jnp.result_type(*several))
        several = [jnp.asarray(a).astype(dtype) for a in several]
        try:
            if how == "concatenate":
                return jnp.concatenate(several, axis)
            total = several[0]
            for a in several[1:]:
                total = _JOINS[how](total, a)
        except (TypeError, ValueError):
            along = f" along axis={axis}" if how == "concatenate" else ""
            shapes = [a.shape for a in several]
            raise ValueError(
                f"merge({how!r}) needs arrays of shapes that fit{along} as x, got {shapes}"
            ) from None
        return total / len(several) if how == "average" else total

    joins: Any = {"add": "sum", "subtract": "sum", "average": "sum", "concatenate": "concatenate"}
    return Layer(apply, trees=True, traits=Traits(merges=joins.get(how), axes=same_axes))


# --- parts of a graph -------------------------------------------------------------------------------


def rewired(wires: Wires, layers: Mapping[str, Model]) -> Model:
    """The graph of some wires, with those of the layers that are called."""
    called = set(wires.layers)
    kept = {name: layer for name, layer in layers.items() if name in called}
    return graph(wires.calls, wires.outputs, wires.inputs, **kept)


def up_to(wires: Wires, outputs: Names) -> Wires:
    """The wires of what some names need.

    >>> wires = Wires({"a": ("one", "x"), "b": ("two", "a"), "c": ("three", "a")}, "c", "x")
    >>> list(up_to(wires, "b").calls)
    ['a', 'b']
    """
    needed = set(leaves(outputs))
    for name, (_, taken) in reversed(list(wires.calls.items())):
        if name in needed:
            needed |= set(leaves(taken))
    calls = {name: call for name, call in wires.calls.items() if name in needed}
    return Wires(calls, outputs, wires.inputs)


def bridged(wires: Wires, gone: set[str]) -> Wires:
    """The wires without the calls of some layers, each of one input, which takes the call's place.

    >>> wires = Wires({"a": ("one", "x"), "b": ("two", "a"), "c": ("three", "b")}, "c", "x")
    >>> bridged(wires, {"two"}).calls
    {'a': ('one', 'x'), 'c': ('three', 'a')}
    """
    other: dict[str, Names] = {}
    calls = {}
    for name, (layer, taken) in wires.calls.items():
        bridge = gathered(taken, other, whole=False)
        if layer in gone:
            other[name] = bridge
        else:
            calls[name] = (layer, bridge)
    return Wires(calls, gathered(wires.outputs, other, whole=False), wires.inputs)


def runs(wires: Wires) -> list[list[str]]:
    """The layers in chains: each is called once, on what the one before puts out for it alone.

    >>> calls = {"a": ("one", "x"), "b": ("two", "a"), "c": ("three", ("a", "b")), "d": ("four", "c")}
    >>> runs(Wires(calls, "d", "x"))
    [['one'], ['two'], ['three', 'four']]
    """
    used = [*leaves(wires.outputs)]
    for _, taken in wires.calls.values():
        used += leaves(taken)
    chains: dict[str, list[str]] = {}
    ends: dict[str, list[str]] = {}
    for name, (layer, taken) in wires.calls.items():
        once = wires.layers.count(layer) == 1
        before = ends.get(taken) if isinstance(taken, str) and used.count(taken) == 1 and once else None
        if before is not None:
            before.append(layer)
        chain = before or chains.setdefault(layer, [layer])
        if once:
            ends[name] = chain
    return list(chains.values())


# --- trees of names ---------------------------------------------------------------------------------


def leaves(names: Names) -> list[str]:
    """The names in a tree of them.

    >>> leaves({"one": "a", "two": ("b", "c")})
    ['a', 'b', 'c']
    """
    if isinstance(names, str):
        return [names]
    return [leaf for part in _parts(names) for leaf in leaves(part)]


def gathered(names: Names, known: Mapping[str, Any], *, whole: bool = True) -> Any:
    """What is known by the names, in their structure; a name that is not known stays if not `whole`."""
    if isinstance(names, str):
        return known[names] if whole else known.get(names, names)
    if isinstance(names, Mapping):
        return {key: gathered(part, known, whole=whole) for key, part in names.items()}
    return tuple(gathered(part, known, whole=whole) for part in names)


def _parts(names: Names) -> Iterator[Names]:
    return iter(names.values()) if isinstance(names, Mapping) else iter(names)


def _spread(names: Names, x: PyTree) -> list[tuple[str, PyTree]]:
    """An input by the names for its parts."""
    if isinstance(names, str):
        return [(names, x)]
    if isinstance(names, Mapping):
        fits = isinstance(x, Mapping) and set(names) <= set(x)
        pairs = [(part, x[key]) for key, part in names.items()] if fits else []
    else:
        fits = isinstance(x, (tuple, list)) and len(x) == len(names)
        pairs = list(zip(names, x)) if fits else []
    if not fits:
        got = list(x) if isinstance(x, Mapping) else f"{type(x).__name__}"
        got = f"{got} of {len(x)}" if isinstance(x, (tuple, list)) else got
        named = isinstance(names, Mapping)
        wanted = f"a dict with {list(names)}" if named else f"{len(names)} in a tuple"
        raise ValueError(f"graph needs an x of {wanted}, as its inputs are {names!r}; got {got}")
    return [pair for part, tree in pairs for pair in _spread(part, tree)]


def _several(x: PyTree) -> list[Array]:
    """The arrays of an input."""
    many = [x[name] for name in sorted(x)] if isinstance(x, Mapping) else x
    if not isinstance(many, (tuple, list)) or not many or any(not hasattr(a, "shape") for a in many):
        raise ValueError(f"merge needs a tuple, list or dict of arrays as x, got {type(x).__name__}")
    return list(many)


def _named(argument: str, names: object) -> Names:
    """A tree of names as the description holds it: tuples and dicts."""
    if isinstance(names, str):
        return names
    if isinstance(names, Mapping) and names:
        return {key: _named(argument, part) for key, part in names.items()}
    if isinstance(names, Sequence) and names:
        return tuple(_named(argument, part) for part in names)
    raise TypeError(f"{argument} must be a name, or a tuple or dict of names, got {names!r}")


def _wired(calls: Any, outputs: Any, inputs: Any, layers: Mapping[str, Model]) -> Wires:
    """The wires, once it is known that every name stands for one thing that is there in time."""
    inputs = _named("inputs", inputs)
    if not isinstance(calls, Mapping) or not calls:
        raise TypeError(f"calls must be a dict of calls by name, name: (layer, inputs), got {calls!r}")
    known = leaves(inputs)
    if len(set(known)) < len(known):
        raise ValueError(f"inputs must have different names, got {inputs!r}")
    checked: dict[str, tuple[str, Names]] = {}
    for name, call in calls.items():
        if not isinstance(name, str):
            raise TypeError(f"calls must have names, got {name!r}")
        if not isinstance(call, (tuple, list)) or len(call) != 2:
            raise TypeError(f"calls: {name!r} must be a pair (layer, inputs), got {call!r}")
        layer, taken = call[0], _named(f"calls: the inputs of {name!r}", call[1])
        if layer not in layers:
            raise ValueError(
                f"calls: {name!r} calls layer {layer!r}; the layers are {', '.join(layers)}"
            )
        if name in known:
            raise ValueError(f"calls: the name {name!r} is that of an input already")
        _check_there(f"calls: {name!r} takes", taken, known)
        checked[name] = (layer, taken)
        known.append(name)
    outputs = _named("outputs", next(reversed(checked)) if outputs is None else outputs)
    _check_there("outputs has", outputs, known)
    wires = Wires(checked, outputs, inputs)
    if idle := [name for name in layers if name not in wires.layers]:
        raise ValueError(f"graph has the layer {idle[0]!r}, which calls does not call")
    return wires


def _check_there(who: str, names: Names, known: Sequence[str]) -> None:
    for name in leaves(names):
        if name not in known:
            raise ValueError(
                f"{who} {name!r}, which is none of inputs and calls so far: {', '.join(known)}"
            )
