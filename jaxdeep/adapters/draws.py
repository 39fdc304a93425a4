"""Random numbers that a module draws itself, outside of the dropouts that are known."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxdeep._shapes import PyTree
from jaxdeep.adapters.known import Path
from jaxdeep.adapters.module import Closed, Inside, Switches
from jaxdeep.adapters.rest import Rest
from jaxdeep.adapters.tracing import Trace, Var, behind, called, is_literal, trace_of
from jaxdeep.nn import walk
from jaxdeep.nn.model import Model, Pair

Apply = Callable[[PyTree, PyTree, jax.Array], Pair]


def _key_shape() -> Any:
    """The shape of a key."""
    return jax.eval_shape(lambda: jax.random.key(0))


def drawn(traced: Trace, begin: Var, end: Var) -> set[int]:
    """The equations between two cuts that use random numbers on the data, by places in the program.

    A trace of the same module with the same switches has them at the same places.
    """
    needed = {id(equation) for equation in behind(traced, begin, [end])}
    keyed, of_data = set(traced.switches[:1]), {traced.x}
    used: set[int] = set()
    for place, equation in enumerate(traced.program.eqns):
        taken = {v for v in equation.invars if not is_literal(v)}
        if taken & of_data:
            of_data |= set(equation.outvars)
        elif taken & keyed:
            keyed |= set(equation.outvars)
        if taken & keyed and taken & of_data and id(equation) in needed:
            used.add(place)
    return used


def training(
    caller: str,
    model: Model,
    trees: PyTree,
    x: jax.ShapeDtypeStruct,
    left: frozenset[Path],
    inference: bool,
) -> Trace | None:
    """The trace in training with a key, as `fit` gives one; None where it fails and is not needed.

    Raises:
      ValueError: it fails, and layers are to be the same in training.
    """
    assert isinstance(model.inside, Inside)
    try:
        return trace_of(model.inside, trees, x, Switches(True, _key_shape()), left)
    except Exception as error:
        if inference:
            return None
        raise ValueError(
            f"{caller}: {model.kind} fails in training with a key, as fit calls it: {error}; "
            "inference=True lifts what it does at inference alone"
        ) from error


def beside_draws(
    caller: str, model: Model, traced: Trace | None, parts: Sequence[Rest]
) -> frozenset[Path]:
    """The known layers beside random numbers that are drawn in none of the parts that stay as they are.

    Args:
      caller: for errors.
      model: the module.
      traced: its trace in training.
      parts: those that stay as they are.

    Raises:
      ValueError: there is no layer beside.
    """
    if traced is None:
        return frozenset()
    used = drawn(traced, traced.x, traced.y)
    for part in parts:
        used -= drawn(*part.trace(part.x.shape[0], True, _key_shape(), None))
    needed = {id(equation) for equation in behind(traced, traced.x, [traced.y])}
    layers = {
        place: traced.calls[call][0]
        for place, equation in enumerate(traced.program.eqns)
        if id(equation) in needed and (call := called(equation)) is not None
    }
    if used and not layers:
        raise ValueError(
            f"{caller}: {model.kind} draws random numbers itself, beside no layer that is known to "
            "jaxdeep: nothing of it can be lifted"
        )
    paths: set[Path] = set()
    for place in used:
        before = [path for of_layer, path in layers.items() if of_layer < place]
        paths |= {before[-1] if before else next(iter(layers.values()))}
    return frozenset(paths)


def in_training(
    model: Model, lifted: Model, traced: Trace | None, left: frozenset[Path], kept: PyTree
) -> tuple[Apply, Apply]:
    """Module and layers in training; with a key where the module draws random numbers itself."""
    assert isinstance(model.inside, Inside)
    assert traced is not None
    if drawn(traced, traced.x, traced.y):
        return _keyed(model.inside, lifted, left, kept, jax.random.key(0))
    return functools.partial(model.apply, train=True), functools.partial(lifted.apply, train=True)


def _keyed(
    module: Inside, lifted: Model, left: frozenset[Path], kept: PyTree, key: jax.Array
) -> tuple[Apply, Apply]:
    """Module and layers in training with draws of this key, and without those of dropouts.

    Dropouts that are layers draw other numbers than those of the module; whatever else draws, draws the
    same in both.
    """

    def hook(path: Path, layer: Any, call: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        known = None
        if path not in left and args and isinstance(args[0], jax.Array):
            known = module.known(layer, path, args[0], kept)
        if known is None or not known.layer.stochastic:
            return call(*args, **kwargs)
        passed = [*args[1:2], *([kwargs["state"]] if "state" in kwargs else [])]
        return (args[0], passed[0]) if passed and module.rows else args[0]

    def of_module(params: PyTree, state: PyTree, x: jax.Array) -> Pair:
        return module.run(params, state, x, Switches(True, key), hook)

    def drawing(place: walk.Place) -> Model:
        inside = place.layer.inside
        return inside.keyed(key) if isinstance(inside, Closed) and inside.keyed else place.layer

    twin = walk.rebuild(lifted, drawing)

    def of_layers(params: PyTree, state: PyTree, x: jax.Array) -> Pair:
        return twin.apply(params, state, x, train=True)

    return of_module, of_layers
