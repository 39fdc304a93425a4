"""Layers of jaxdeep for what a module computes between its layers, recognised by its values."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import nn
from jaxdeep.nn.model import Model
from jaxdeep.nn.traits import unwrapped

Function = Callable[[jax.Array], jax.Array]

TO_LAST = nn.lambda_(functools.partial(jnp.moveaxis, source=1, destination=-1))
TO_FIRST = nn.lambda_(functools.partial(jnp.moveaxis, source=-1, destination=1))

_PLAIN: tuple[Any, ...] = (
    jax.nn.relu, jnp.tanh, jax.nn.sigmoid, jax.nn.gelu,
    functools.partial(jax.nn.gelu, approximate=False),
    jax.nn.silu, jax.nn.selu, jax.nn.elu, jax.nn.softplus, jax.nn.leaky_relu, jax.nn.relu6, jax.nn.mish,
    jax.nn.celu, jax.nn.soft_sign, jax.nn.log_sigmoid, jax.nn.hard_sigmoid, jax.nn.hard_silu,
    jax.nn.hard_tanh, jax.nn.squareplus, jnp.abs, jnp.square, jnp.sin, jnp.exp,
)  # fmt: skip
_OF_ROWS = (jax.nn.softmax, jax.nn.log_softmax)


def is_pointwise(model: Model) -> bool:
    """Whether it acts on each element alone, so that it may go to the other side of a permutation."""
    function = model.config.get("function")
    if model.kind == "activation":
        return function not in _OF_ROWS
    return model.kind == "dropout" and model.config.get("noise_shape") is None


def recognised(function: Function, x: jax.ShapeDtypeStruct, hints: list[Any]) -> list[Model] | None:
    """Layers that give what the function gives, at an input of values of all sizes; None if none do.

    Args:
      function: of a batch.
      x: shape and dtype of its input.
      hints: its equations, of which the windows of pools and names are read.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating) or len(x.shape) < 2:
        return None
    given = jnp.asarray(np.resize(_grid(), x.shape), x.dtype)
    wanted = function(given)
    if wanted.shape == x.shape and wanted.dtype == x.dtype:
        made = _over_grid(function, x)
        for f in _activations(function, given, hints):
            if _close(_on_grid(f, x.dtype), made, _grid()):
                return [nn.activation(f)]
    for layers in _candidates(given, wanted, hints):
        y = given
        with contextlib.suppress(ValueError, TypeError, ZeroDivisionError):
            for layer in layers:
                y, _ = layer.apply({}, {}, y)
            if y.shape == wanted.shape and y.dtype == wanted.dtype and _close(y, wanted, given):
                return layers
    return None


@functools.cache
def _grid() -> np.ndarray:
    """Values of all sizes that matter to an activation."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=993) * 10.0 ** rng.uniform(-1, 1.3, size=993)
    return np.concatenate([values, [-1e4, 1e4, -1e2, 1e2]])


def _over_grid(function: Function, x: jax.ShapeDtypeStruct) -> np.ndarray:
    """What a function of each element gives at the grid, a piece of which it takes at a time."""
    size = math.prod(x.shape)
    count = -(-len(_grid()) // size)
    chunks = jnp.asarray(np.resize(_grid(), (count, *x.shape)), x.dtype)
    made = [np.asarray(function(chunk)).ravel() for chunk in chunks]
    return np.concatenate(made)[: len(_grid())]


@functools.lru_cache(maxsize=256)
def _on_grid(f: Function, dtype: Any) -> np.ndarray:
    return np.asarray(f(jnp.asarray(_grid(), dtype)))


def _close(y: Any, wanted: Any, x: Any) -> bool:
    """Equal to rounding; where nearly all of an input is cancelled, to the rounding of that."""
    tolerance = 8 * float(jnp.finfo(wanted.dtype).eps)
    y, wanted, x = (np.asarray(a, np.float64) for a in (y, wanted, x))
    size = np.abs(x) if x.shape == y.shape else np.max(np.abs(x))
    with np.errstate(invalid="ignore"):
        near = np.abs(y - wanted) <= tolerance * (np.abs(wanted) + size)
    return bool(np.all(near | (y == wanted)))


def _activations(function: Function, x: jax.Array, hints: list[Any]) -> Iterator[Function]:
    """Those that go by a name in the program first, and with the slopes that it has."""
    names = {str(e.params.get("name", "")) for e in hints}
    one, far = (-float(function(jnp.full(x.shape, at, x.dtype)).ravel()[0]) for at in (-1.0, -100.0))
    sloped = [
        functools.partial(f, **{argument: float(f"{value:.6g}")})
        for f, argument, value in (
            (jax.nn.leaky_relu, "negative_slope", one),
            (jax.nn.elu, "alpha", far),
            (jax.nn.celu, "alpha", far),
        )
    ]
    every = [*_PLAIN, *sloped]
    yield from sorted(every, key=lambda f: getattr(unwrapped(f), "__name__", "") not in names)


def _candidates(x: jax.Array, y: jax.Array, hints: list[Any]) -> Iterator[list[Model]]:
    if y.shape == x.shape:
        yield []
        yield from ([nn.activation(f)] for f in _OF_ROWS)
        return
    if y.size == x.size:
        if y.shape[0] == x.shape[0]:
            yield [nn.flatten() if y.ndim == 2 else nn.reshape(*y.shape[1:])]
        yield [TO_LAST]
        yield [TO_FIRST]
        return
    windows = [e for e in hints if e.primitive.name.startswith("reduce_window")]
    if len(windows) == 1:
        yield from _pools(windows[0], x.ndim - 2)
    if y.ndim == 2:
        yield from ([pool] for pool in (nn.global_average_pool(), nn.global_max_pool()))
        yield from ([TO_LAST, pool] for pool in (nn.global_average_pool(), nn.global_max_pool()))


def _pools(equation: Any, space: int) -> Iterator[list[Model]]:
    """Pools over the axes of space, which lie in front of the channels or behind them."""
    sizes = [tuple(equation.params[n]) for n in ("window_dimensions", "window_strides", "padding")]
    slides = [i for i, w in enumerate(zip(*sizes)) if w != (1, 1, (0, 0))]
    if len(slides) != space:
        return
    pool = nn.max_pool if "max" in equation.primitive.name else nn.average_pool
    window, strides, explicit = (tuple(own[i] for i in slides) for own in sizes)
    for around in (False, True):
        for padding in ("VALID", "SAME", explicit):
            with contextlib.suppress(ValueError, TypeError):
                layer = pool(window, strides=strides, padding=padding)
                yield [TO_LAST, layer, TO_FIRST] if around else [layer]
