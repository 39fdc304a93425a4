"""Models made of models."""

import collections
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._shapes import Array, PyTree
from jaxdeep.nn import walk
from jaxdeep.nn.initializers import initializer_for
from jaxdeep.nn.layer import KINDS, Layer, initialisers, is_as_made, remake
from jaxdeep.nn.layer import layer as layer_function
from jaxdeep.nn.meanings import meaning
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
from jaxdeep.nn.traits import Traits
from jaxdeep.tree import example_of

Join: TypeAlias = Callable[[Mapping[str, PyTree], PyTree], PyTree]  # the outputs by name, and the input


@layer_function
def serial(*layers: Model, **named: Model) -> Layer:
    """Layers one after another: the output of each is the input of the next.

    Parameters and state are dicts by layer name; a layer without any has no entry. Layers are
    given by keyword, or by position and then named by kind and a count from 0: ``dense0``,
    ``batch_norm0``, ``dense1``. Layer i draws its randomness from ``jax.random.fold_in(key, i)``.

    A dense layer or convolution without an activation of its own, behind which there are layers that are
    neither layers of weights nor activations, and then an activation, draws the kernel that suits that
    activation (`initializers.initializer_for`) unless it was given a ``kernel_init``. Such layers are
    `batch_norm`, `layer_norm`, `group_norm`, `dropout`, `alpha_dropout`, `gaussian_noise`, `flatten`,
    `reshape`, `resize` and the pools. It makes no difference in which `serial` inside this one they are,
    or in `mixed_precision`. Where the activation is directly behind it, and at the begin or end of a
    branch (`residual`, `parallel`, `concatenate`), of a loop (`repeat`, `shared`), and in front of a
    `lambda_` or a model of your own, it draws its own default: give it ``activation=function`` or
    ``kernel_init=initializer_for(function)``.

    Args:
      layers, named: `Model` values; either all by position or all by name.

    Raises:
      TypeError: something that is not a `Model`, or positions and names mixed.
      ValueError: from a layer, with its path in front (``block/dense0: …``); parameters of a layer
        that the model does not have.

    Source: `serial` of stax; Keras' `Sequential`.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = serial(hidden=jd.nn.dense(4), act=jd.nn.activation(jax.nn.relu), out=jd.nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> jd.tree.leaf_paths(params)
    ['hidden/bias', 'hidden/kernel', 'out/bias', 'out/kernel']
    >>> model.apply(params, state, jnp.ones((5, 3)))[0].shape
    (5, 2)
    >>> list(serial(jd.nn.dense(4), jd.nn.dropout(0.5), jd.nn.dense(2)).layers)
    ['dense0', 'dropout0', 'dense1']
    """
    named_layers = _named("serial", layers, named)
    return _combined(named_layers, lambda outputs, y: y, Traits(joins="chain"))


@layer_function
def parallel(*branches: Model, by_position: bool = False, **named: Model) -> Layer:
    """Branches side by side on the same input; the output is a dict by name, or a tuple by position.

    For several outputs, ``parallel(main=dense(1), auxiliary=dense(1))``; a branch that wants one of
    several inputs begins with `select`. Parameters, state and randomness are as for `serial`.

    Args:
      branches, named: `Model` values; either all by position or all by name.
      by_position: whether the output is a tuple in the order of the branches. It always is one where
        they are given by position.

    Raises:
      TypeError, ValueError: as `serial`.

    Source: the functional interface of Keras; `parallel` of stax.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = parallel(main=jd.nn.dense(1), auxiliary=jd.nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> {name: y.shape for name, y in model.apply(params, state, jnp.ones((5, 3)))[0].items()}
    {'main': (5, 1), 'auxiliary': (5, 2)}
    """
    _checks.check_flag("by_position", by_position)
    by_position = by_position or not named
    named_layers = _named("parallel", branches, named)

    def collect(outputs: Mapping[str, PyTree], x: PyTree) -> PyTree:
        return tuple(outputs.values()) if by_position else dict(outputs)

    parts = _combined(named_layers, collect, Traits(joins="collect"))
    return parts._replace(arguments={"by_position": by_position})


@layer_function
def concatenate(*branches: Model, axis: int = -1, **named: Model) -> Layer:
    """Branches side by side on the same input, their outputs joined along `axis`: Wide & Deep.

    Args:
      branches, named: as for `parallel`.
      axis: the axis along which outputs are joined.

    Raises:
      TypeError, ValueError: as `serial`; outputs that do not fit.

    Source: Cheng et al., "Wide & Deep Learning" (arXiv:1606.07792).

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> deep = serial(select("deep"), jd.nn.dense(30, activation=jax.nn.relu))
    >>> model = serial(both=concatenate(wide=select("wide"), deep=deep), output=jd.nn.dense(1))
    >>> x = {"wide": jnp.ones((5, 4)), "deep": jnp.ones((5, 6))}
    >>> params, state = model.init(jax.random.key(0), x)
    >>> params["output"]["kernel"].shape, model.apply(params, state, x)[0].shape
    ((34, 1), (5, 1))
    """
    axis = _checks.check_count("axis", axis, low=-math.inf)
    named_layers = _named("concatenate", branches, named)
    if not named_layers:
        raise ValueError("concatenate needs at least one branch")

    def join(outputs: Mapping[str, PyTree], x: PyTree) -> Array:
        try:
            return jnp.concatenate(_together(list(outputs.values())), axis=axis)
        except (TypeError, ValueError):
            shapes = {name: jax.tree.map(jnp.shape, y) for name, y in outputs.items()}
            raise ValueError(
                f"concatenate needs arrays that differ along axis {axis} only, got shapes {shapes}"
            ) from None

    return _combined(named_layers, join, Traits(joins="concatenate", join_axis=axis))


@layer_function
def select(name: str | int) -> Layer:
    """One of several inputs: ``y = x[name]``.

    Args:
      name: a key of a dict of inputs, or an index of a tuple of them.

    Raises:
      TypeError: neither a text nor a whole number. ValueError: inputs without it.

    Source: the inputs by name of Keras' functional interface.

    >>> select("wide").apply({}, {}, {"wide": 1.0, "deep": 2.0})[0]
    1.0
    """
    if isinstance(name, bool) or not isinstance(name, (str, int, np.integer)):
        raise TypeError(f"name must be a key or the place of an input, got {name!r}")

    def pick(x: PyTree) -> PyTree:
        try:
            if not _is_many(x):
                raise TypeError
            return x[name]
        except (KeyError, IndexError, TypeError):
            known = list(x) if isinstance(x, Mapping) else f"{len(x)} of them" if _is_many(x) else x
            raise ValueError(
                f"select({name!r}): the inputs are {known}; x must hold several, and name be one of them"
            ) from None

    return Layer(pick, trees=True)


@layer_function
def residual(layer: Model, *, shortcut: Model | None = None) -> Layer:
    """A layer with a way around it: ``y = layer(x) + x``, or ``+ shortcut(x)``.

    Parameters are under ``layer`` and ``shortcut``. Whole numbers and booleans are added as floats: the
    sum of two pixels of uint8 does not wrap.

    Args:
      layer: any `Model`.
      shortcut: the way around, where shapes change (a 1 × 1 convolution); the identity by default.

    Raises:
      TypeError: not a `Model`.
      ValueError: an output of another shape than the shortcut's.

    Source: He et al., "Deep Residual Learning" (arXiv:1512.03385).

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = residual(jd.nn.dense(3, kernel_init=jd.nn.initializers.zeros))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> model.apply(params, state, jnp.array([[1.0, 2.0, 3.0]]))[0].tolist()
    [[1.0, 2.0, 3.0]]
    """
    layers = {"layer": layer} | ({} if shortcut is None else {"shortcut": shortcut})

    def add(outputs: Mapping[str, Array], x: Array) -> Array:
        y, around = outputs["layer"], outputs.get("shortcut", x)
        if jnp.shape(y) != jnp.shape(around):
            raise ValueError(
                f"residual adds outputs of the same shape, got {jnp.shape(y)} and a shortcut of "
                f"{jnp.shape(around)}"
            )
        return _wide_enough(y) + _wide_enough(around)

    return _combined(layers, add, Traits(joins="sum"))


@layer_function
def lambda_(function: Callable[[PyTree], PyTree]) -> Layer:
    """Any function of the input as a layer: ``y = function(x)``.

    For what changes the shape or takes a pytree; `activation` is for functions that keep the shape.

    Args:
      function: a pure function; of a pytree if the input is one.

    Raises:
      TypeError: not a function.

    Source: Keras' `Lambda`.

    >>> import jax.numpy as jnp
    >>> lambda_(lambda x: x.sum(axis=-1)).apply({}, {}, jnp.ones((2, 3)))[0].tolist()
    [3.0, 3.0]
    """
    if not callable(function):
        raise TypeError(f"function must be a function of the input, got {function!r}")

    def apply(x: PyTree) -> PyTree:
        return function(x)

    def axes(ndim: int | None) -> int | None:
        return None if meaning(function) is None else ndim

    return Layer(apply, trees=True, traits=Traits(ends=function, axes=axes))


# --- what they share ------------------------------------------------------------------------------


def _wide_enough(x: Array) -> Array:
    """In floating point, so that sums do not wrap."""
    return jnp.asarray(x).astype(float_dtype(jnp.result_type(x)))


def _together(several: list[Array]) -> list[Array]:
    """In floating point if no whole numbers that JAX has hold all of them: uint32 beside signed ones."""
    dtypes = [jnp.result_type(x) for x in several]
    unsigned = any(dtype == jnp.uint32 for dtype in dtypes)
    wraps = unsigned and jnp.result_type(*dtypes) == jnp.int32
    return [_wide_enough(x) for x in several] if wraps else several


def _combined(layers: Mapping[str, Model], join: Join, traits: Traits) -> Layer:
    """Layers on the same input, or each on the output of the one before (``joins="chain"``).

    The result is ``join(outputs by name, x)``, where x is the input, or the last output of a chain.
    """
    chained = traits.joins == "chain"

    def init(key: Array, x: PyTree) -> Pair:
        params: dict[str, PyTree] = {}
        state: dict[str, PyTree] = {}
        outputs: dict[str, PyTree] = {}
        x = example_of(x)
        drawn = _suited(layers) if chained else list(layers.values())
        for i, (name, layer) in enumerate(zip(layers, drawn)):
            with located(name):
                own_params, own_state = layer.init(jax.random.fold_in(key, i), x)
                outputs[name], _ = jax.eval_shape(layer.apply, own_params, own_state, x)
            x = outputs[name] if chained else x
            params |= under(name, own_params)
            state |= under(name, own_state)
        jax.eval_shape(join, outputs, x)
        return params, state

    def apply(params: PyTree, state: PyTree, x: PyTree, switches: Switches) -> Pair:
        check_known(layers, params, state)
        outputs: dict[str, PyTree] = {}
        new_state: dict[str, PyTree] = {}
        for i, (name, layer) in enumerate(layers.items()):
            variables = params.get(name, {}), state.get(name, {})
            outputs[name], own_state = apply_inside(name, layer, i, variables, x, switches)
            x = outputs[name] if chained else x
            new_state |= under(name, own_state)
        return join(outputs, x), new_state

    return Layer(apply, init, traits=traits, layers=layers)


def _suited(layers: Mapping[str, Model]) -> list[Model]:
    """Layers whose default kernels suit the activations behind them, where neutral ones are in between.

    What runs one after another is looked through, whatever `serial` it is in.
    """
    bottom = [
        ((name, *place.names), place.layer)
        for name, layer in layers.items()
        for place in walk.leaves(layer, _opens)
    ]
    names, flat = [names for names, _ in bottom], [layer for _, layer in bottom]
    suited = {path: _suited_to(layer, flat[i + 1 :]) for i, (path, layer) in enumerate(zip(names, flat))}
    return [
        walk.rebuild(layer, lambda place, name=name: suited[name, *place.names], _opens)  # type: ignore[misc]
        for name, layer in layers.items()
    ]


def _opens(model: Model) -> bool:
    """Open a chain, unless its `init` is one of its own."""
    return walk.chained(model) and is_as_made(model) and not model.traits.only_init


def _suited_to(layer: Model, behind: list[Model]) -> Model:
    """The layer with the kernel that suits the activation behind it, if it has none of its own."""
    following = next((i for i, other in enumerate(behind) if not other.traits.neutral), len(behind))
    if following == len(behind) or not following or behind[following].kind not in KINDS:
        return layer
    if not is_as_made(layer) or "kernel_init" not in initialisers(layer.kind):
        return layer
    if layer.traits.function is not None or layer.config.get("kernel_init") is not None:
        return layer
    traits = behind[following].traits
    if traits.linear is not None:
        return layer
    return remake(layer, kernel_init=initializer_for(traits.function or KINDS[behind[following].kind]))


def _named(kind: str, layers: tuple[Model, ...], named: Mapping[str, Model]) -> dict[str, Model]:
    if layers and named:
        raise TypeError(
            f"{kind} takes its layers either by position or by name, not both: got "
            f"{len(layers)} by position and {', '.join(named)} by name"
        )
    check_models(kind, dict(enumerate(layers)) | dict(named))
    return dict(named) or _numbered(layers)


def _numbered(layers: tuple[Model, ...]) -> dict[str, Model]:
    seen: collections.Counter[str] = collections.Counter()
    names: dict[str, Model] = {}
    for layer in layers:
        while (name := f"{layer.kind}{seen[layer.kind]}") in names:
            seen[layer.kind] += 1
        names[name] = layer
        seen[layer.kind] += 1
    return names


def _is_many(x: object) -> TypeGuard[Mapping[Any, PyTree]]:
    return isinstance(x, (tuple, list, Mapping))
