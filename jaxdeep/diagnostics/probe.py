"""A model that also measures what its layers put out, and the gradient that comes back to them.

`gradient_flow` and ``fit(diagnostics=…)`` stand on it. Every layer at the bottom is wrapped: its state
carries, next to its own, a *reading* of its output and a *tap*, a zero whose gradient is the size of the
gradient with respect to that output. State passes through every combinator, so both come out of loops
(`repeat`) once for each repetition, and out of `jax.vmap`, `jax.jit` and a mesh as any array does.
"""

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._shapes import Array, Bool, Float, PyTree
from jaxdeep.nn import walk
from jaxdeep.nn.layer import KINDS, remake
from jaxdeep.nn.model import Model, described_as

SATURATED_SLOPE = 0.05  # an activation that lets less of the gradient through is saturated there
DEAD_SLOPE = 1e-3  # below the 0.01 of a leaky ReLU, which never dies


Function = Callable[[Array], Array]
# How much of the gradient an activation lets through, and where it is a rectifier that is off.
Passing = tuple[Float[Array, "..."], Bool[Array, "..."] | np.bool]


class Reading(NamedTuple):
    """What a layer put out, summed over the times it was applied.

    Attributes:
      count: applications.
      mean, std: of all elements of the output.
      saturation: share of elements at which the activation lets less than `SATURATED_SLOPE` of the
        gradient through; a rectifier that is off is not saturated. NaN without a known activation.
      dead: share of units (the last axis) at which it lets less than `DEAD_SLOPE` through, for every
        example and position. In a layer with parameters of which it is not known whether it has an
        activation, of units that are always exactly 0; NaN in one that has none.
    """

    count: Float[Array, "..."]  # type: ignore[assignment]  # a method of tuples
    mean: Float[Array, "..."]
    std: Float[Array, "..."]
    saturation: Float[Array, "..."]
    dead: Float[Array, "..."]


def taps(model: Model) -> OrderedDict[str, Float[Array, "..."]]:
    """Zeros by path: the gradient with respect to one is the size of its layer's output gradient.

    ``√rows · ‖∂ loss / ∂ output‖``, which for a mean over the batch is the root of the mean of the
    squared norms of the gradients of the examples' own losses.
    """
    return OrderedDict((leaf.name, jnp.zeros(leaf.stacked)) for leaf in walk.leaves(model))


def probe(model: Model) -> Model:
    """The model that takes a state made by `tapped`, and returns one that `readings` reads."""
    return walk.rebuild(model, lambda place: _measured(place.layer))


def tapped(
    model: Model,
    state: PyTree,
    of: Mapping[str, Float[Array, "..."] | None],
    rows: Bool[Array, "batch"] | None = None,
) -> PyTree:
    """The state of `probe`: the model's own, taps `of` every layer, and readings of nothing yet.

    Readings are of some rows of the batch, if these are given: of outputs that have as many.
    """
    probed: PyTree = {}
    for leaf in walk.leaves(model):
        nothing = Reading(*[jnp.zeros(leaf.stacked)] * len(Reading._fields))
        node = {"own": walk.at(state, leaf.keys), "tap": of[leaf.name], "reading": nothing}
        if rows is not None:
            node["rows"] = jnp.broadcast_to(rows, (*leaf.stacked, *rows.shape))
        probed = walk.put(probed, leaf.keys, node)
    return probed


def readings(model: Model, state: PyTree) -> OrderedDict[str, Reading]:
    """What `probe` measured: means over the applications of each layer, by path."""
    means = OrderedDict()
    for leaf in walk.leaves(model):
        reading = walk.at(state, leaf.keys)["reading"]
        means[leaf.name] = Reading(reading.count, *[total / reading.count for total in reading[1:]])
    return means


def own_state(model: Model, state: PyTree) -> PyTree:
    """The state that the model itself would have returned."""
    model_state: PyTree = {}
    for leaf in walk.leaves(model):
        model_state = walk.put(model_state, leaf.keys, walk.at(state, leaf.keys)["own"])
    return model_state


def size(tree: PyTree, axes: int = 0) -> Float[Array, "..."]:
    """The norm of all elements of a tree together, but for so many leading axes; 0 of none.

    Scaled by the largest, since the squares of gradients that vanish would be 0.
    """
    wide = [
        jnp.asarray(leaf).astype(jnp.promote_types(jnp.result_type(leaf), jnp.float32))
        for leaf in jax.tree.leaves(tree)
    ]
    parts = [jnp.abs(a).reshape(*a.shape[:axes], -1) for a in wide if a.size]
    if not parts:
        return jnp.zeros(())
    largest = jnp.max(jnp.stack([part.max(-1) for part in parts]), axis=0)
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale * jnp.sqrt(sum(((part / scale[..., None]) ** 2).sum(-1) for part in parts))


def has_slopes(layer: Model) -> bool:
    """Whether the activation of a layer is known, so that its saturation is."""
    function = layer.traits.function
    return layer.traits.elementwise if function is None else _kind_of(function)[0]


def may_die(layer: Model, learns: bool) -> bool:
    """Whether a layer, one with parameters or not, has units that may be dead."""
    return has_slopes(layer) or (learns and not _multiplies(layer))


# --- one layer ------------------------------------------------------------------------------------


def _multiplies(layer: Model) -> bool:
    """Whether it is known that a layer is linear but for the activation it names."""
    linear = layer.traits.linear
    return layer.kind in KINDS and linear is not None and not linear.looks_up


def _measured(layer: Model) -> Model:
    """A layer with a tap behind it and a reading of its output in its state."""
    function, multiplies = layer.traits.function, _multiplies(layer)
    affine = layer
    if multiplies and function is not None:  # what goes into the activation is wanted too
        affine = remake(layer, activation=None)

    def apply(params: PyTree, state: PyTree, x: PyTree, **switches: Any) -> tuple[PyTree, PyTree]:
        y, layer_state = affine.apply(params, state["own"], x, **switches)
        passing = None
        if multiplies and function is not None:
            passing, y = _passing(function, y), function(y)
        elif function is not None:
            passing = _passing(function, x)
        elif layer.traits.elementwise:
            function_of_x = lambda x: layer.apply(params, {}, x, key=switches.get("key"))[0]  # noqa: E731
            passing = _slopes(function_of_x, x), np.False_
        unknown = bool(jax.tree.leaves(params)) and not multiplies
        new = _reading(y, passing, unknown, state.get("rows"))
        total = jax.tree.map(lambda old, more: old + more.astype(old.dtype), state["reading"], new)
        return _tap(y, state["tap"]), {**state, "own": layer_state, "reading": total}

    freeze = layer.freeze
    held = None if freeze is None else lambda trainable: _measured(freeze(trainable))
    return described_as(dataclasses.replace(layer, apply=apply, freeze=held), "probe", layer)


def _reading(
    y: PyTree, passing: Passing | None, unknown: bool, rows: Bool[Array, "batch"] | None
) -> Reading:
    """The reading of one application: of arrays of floats, NaN of anything else.

    An `unknown` layer may have any activation inside.
    """
    none = jnp.full((), jnp.nan)
    if not (hasattr(y, "dtype") and jnp.issubdtype(y.dtype, jnp.floating) and y.size):
        return Reading(jnp.ones(()), none, none, none, none)
    y = jax.lax.stop_gradient(y)
    wide = y.astype(jnp.promote_types(y.dtype, jnp.float32))
    others = tuple(range(y.ndim - 1))
    here = None  # which elements are of rows that count, where some may not be
    if rows is not None and y.shape[:1] == rows.shape:
        here = jnp.broadcast_to(rows.reshape(-1, *(1,) * (y.ndim - 1)), y.shape)
        here |= ~rows.any()  # of nothing there is a number, too, which does not count
    saturation, dead = none, none
    if passing is not None:
        slopes, off = passing
        saturation = jnp.mean((slopes < SATURATED_SLOPE) & ~off, where=here)
        dead = jnp.mean((slopes < DEAD_SLOPE).all(others, where=here))
    elif unknown:
        dead = jnp.mean((y == 0).all(others, where=here))
    return Reading(jnp.ones(()), jnp.mean(wide, where=here), jnp.std(wide, where=here), saturation, dead)


def _passing(function: Function, z: Array) -> Passing | None:
    """How much of the gradient an activation lets through, and where it is a rectifier that is off."""
    elementwise, rectifies = _kind_of(function)
    if not elementwise:
        return None
    return _slopes(function, z), (jax.lax.stop_gradient(z) <= 0) & rectifies


def _slopes(function: Function, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``|f'(z)|`` of an elementwise function."""
    y, back = jax.vjp(function, jax.lax.stop_gradient(z))
    return jnp.abs(jax.lax.stop_gradient(back(jnp.ones_like(y))[0]))


@functools.lru_cache(maxsize=32)  # layers share a few
def _kind_of(function: Function) -> tuple[bool, bool]:
    """Whether a function works element by element (a softmax does not), and is flat just below 0.

    Its values are needed while a program is traced, so that it is compiled apart.
    """
    points = np.array([[-1.5, -1e-3], [0.3, 2.0]], np.float32)

    def values(points: Float[Array, "2 2"]) -> PyTree:
        alone = [function(point.reshape(1, 1)) for point in points.ravel()]
        return function(points), alone, _slopes(function, points)

    try:
        together, alone, slopes = jax.device_get(jax.jit(values).lower(points).compile()(points))
    except Exception:  # it wants another shape, or closes over what is only known at run time
        return False, False
    if together.shape != points.shape or any(y.shape != (1, 1) for y in alone):
        return False, False
    same = np.allclose(np.ravel(together), np.ravel(alone), rtol=1e-3)
    return same, bool(slopes[0, 1] < SATURATED_SLOPE)


@jax.custom_vjp
def _tap(y: PyTree, tap: Float[Array, ""]) -> PyTree:
    """`y` itself; the gradient with respect to `tap` is the size of the gradient with respect to `y`."""
    return y


def _tap_forward(y: PyTree, tap: Float[Array, ""]) -> tuple[PyTree, Float[Array, ""]]:
    return y, tap


def _tap_backward(tap: Float[Array, ""], gradient: PyTree) -> tuple[PyTree, Float[Array, ""]]:
    floats = [g for g in jax.tree.leaves(gradient) if jnp.issubdtype(g.dtype, jnp.floating)]
    rows = floats[0].shape[0] if floats and floats[0].ndim else 1
    return gradient, (size(floats) * jnp.sqrt(rows)).astype(tap.dtype)


_tap.defvjp(_tap_forward, _tap_backward)
