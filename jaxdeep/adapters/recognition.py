"""Layers of jaxdeep for what a module computes between its layers, recognised by its values."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import nn
from jaxdeep.adapters.sizes import Section
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
    """Whether a layer acts on each element alone, so that it commutes with a permutation of the axes."""
    function = model.config.get("function")
    if model.kind == "activation":
        return function not in _OF_ROWS
    return model.kind == "dropout" and model.config.get("noise_shape") is None


class Recognised(NamedTuple):
    """Layers that give what a function gives; none known of one that gives what no layers do.

    Attributes:
      layers: the layers, or None.
      elsewhere: whether they do at other sizes, too.
    """

    layers: list[Model] | None
    elsewhere: bool = False


def recognised(
    function: Function, x: jax.ShapeDtypeStruct, hints: list[Any], elsewhere: Sequence[Section] = ()
) -> Recognised:
    """Layers that give what the function gives, at an input of values of all sizes.

    Those that do at other sizes too go before those that do not.

    Args:
      function: of a batch.
      x: shape and dtype of its input.
      hints: its equations, of which the windows of pools and names are read.
      elsewhere: what the module computes in its place at other sizes.
    """
    at_one_size = None
    for layers in _holding(function, x, hints):
        if all(_holds(layers, other) for other in elsewhere):
            return Recognised(layers, elsewhere=True)
        at_one_size = at_one_size or layers
    return Recognised(at_one_size)


def _holds(layers: list[Model], other: Section) -> bool:
    """Whether layers give what the section gives; of one activation the shape says it."""
    if len(layers) == 1 and is_pointwise(layers[0]):
        return other.y.shape == other.x.shape
    inputs = _everywhere(other.x)
    with contextlib.suppress(ValueError, TypeError, ZeroDivisionError):
        wanted = _values(jax.jit(other.function), inputs)
        return wanted is not None and _same_values(
            jax.vmap(functools.partial(_through, layers)), wanted, inputs
        )
    return False


def _holding(function: Function, x: jax.ShapeDtypeStruct, hints: list[Any]) -> Iterator[list[Model]]:
    if not jnp.issubdtype(x.dtype, jnp.floating) or len(x.shape) < 2:
        return
    inputs = _everywhere(x)
    wanted = _values(function, inputs)
    if wanted is None or not jnp.issubdtype(wanted.dtype, jnp.floating):
        return
    if wanted.shape == inputs.shape and wanted.dtype == x.dtype:
        at_grid = wanted.ravel()[: len(_grid())]
        for f in _activations(function, x, hints):
            may_be = _close(_on_grid(f, x.dtype), at_grid, inputs.ravel()[: len(_grid())])
            if may_be and _same_values(f, wanted, inputs) and _same_slopes(function, f, x):
                yield [nn.activation(f)]
                break
    one = jax.ShapeDtypeStruct(wanted.shape[1:], wanted.dtype)
    for layers in _candidates(x, one, hints):
        layered = functools.partial(_through, layers)
        with contextlib.suppress(ValueError, TypeError, ZeroDivisionError):
            if _same_values(jax.vmap(layered), wanted, inputs) and _same_slopes(function, layered, x):
                yield layers


def _through(layers: list[Model], x: jax.Array) -> jax.Array:
    for layer in layers:
        x, _ = layer.apply({}, {}, x)
    return x


@functools.cache
def _grid() -> np.ndarray:
    """Values of all sizes that matter to an activation."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=993) * 10.0 ** rng.uniform(-1, 1.3, size=993)
    return np.concatenate([values, [-1e4, 1e4, -1e2, 1e2]])


def _resized(values: np.ndarray, x: jax.ShapeDtypeStruct) -> np.ndarray:
    """All of the values in arrays of a shape, stacked; what repeats is a little larger each time."""
    size = math.prod(x.shape)
    count = -(-len(values) // size)
    where = np.arange(count * size) // len(values)
    return np.resize(values, (count, *x.shape)) * (1 + where / (2 * where[-1] + 2)).reshape(
        count, *x.shape
    )


def _everywhere(x: jax.ShapeDtypeStruct) -> jax.Array:
    """The grid in arrays of the shape, and behind it others of values nearly as large as there are.

    There a sum of some of them, as in a pool, is still finite.
    """
    largest = float(jnp.finfo(x.dtype).max)
    far = np.random.default_rng(1).normal(size=64)
    near = _resized(np.clip(_grid(), -largest / 2, largest / 2), x)
    both = np.concatenate([near, _resized(far * largest**0.8, x)])
    return jnp.asarray(both, x.dtype)


@functools.lru_cache(maxsize=256)
def _on_grid(f: Function, dtype: Any) -> jax.Array:
    """What an activation gives at the grid, computed once for inputs of all shapes."""
    return f(_everywhere(jax.ShapeDtypeStruct(_grid().shape, dtype))[0])


def _values(function: Function, inputs: jax.Array) -> jax.Array | None:
    """What a function of one array gives for several; None if it cannot be computed so."""
    with contextlib.suppress(NotImplementedError):
        return jax.vmap(function)(inputs)
    return None


def _same_values(function: Function, wanted: jax.Array, inputs: jax.Array) -> bool:
    y = function(inputs)
    return y.shape == wanted.shape and y.dtype == wanted.dtype and _close(y, wanted, inputs)


def _close(y: Any, wanted: Any, x: Any) -> bool:
    """Equal to rounding; where nearly all of an input is cancelled, to the rounding of that."""
    tolerance = 8 * float(jnp.finfo(wanted.dtype).eps)
    y, wanted, x = (np.asarray(a, np.float64) for a in (y, wanted, x))
    rows = (slice(None), *(None,) * (wanted.ndim - 1))
    size = np.abs(x) if x.shape == y.shape else np.max(np.abs(x), axis=tuple(range(1, x.ndim)))[rows]
    with np.errstate(invalid="ignore"):
        near = np.abs(y - wanted) <= tolerance * (np.abs(wanted) + size)
    return bool(np.all(near | (y == wanted) | (np.isnan(y) & np.isnan(wanted))))


def _same_slopes(function: Function, other: Function, x: jax.ShapeDtypeStruct) -> bool:
    """Whether two functions of the same values have the same slopes too, in reverse mode.

    A `jax.lax.stop_gradient` and a `jax.custom_vjp` have the values of another function.
    """
    values = np.asarray(jnp.asarray(_resized(_grid()[:-4], x), x.dtype), np.float64)
    on_kink = (values % 0.5 == 0) & (np.abs(values) < 16)  # the points at which activations have a kink
    inputs = jnp.asarray(np.where(on_kink, values + 3 / 16, values), x.dtype)
    with contextlib.suppress(ValueError, TypeError, NotImplementedError):
        made, wanted = (_slopes(f, inputs) for f in (other, function))
        size = np.minimum(np.max(np.abs(wanted)), 1)
        tolerance = math.sqrt(float(jnp.finfo(x.dtype).eps))
        with np.errstate(invalid="ignore"):
            near = np.abs(made - wanted) <= tolerance * (np.abs(wanted) + size)
        return bool(np.all(near | (made == wanted)))
    return False


def _slopes(function: Function, inputs: jax.Array) -> np.ndarray:
    def along(x: jax.Array) -> jax.Array:
        y, back = jax.vjp(function, x)
        weights = np.resize(1 + np.random.default_rng(2).uniform(size=97), y.shape)
        return back(jnp.asarray(weights, y.dtype))[0]

    return np.asarray(jax.vmap(along)(inputs), np.float64)


def _activations(function: Function, x: jax.ShapeDtypeStruct, hints: list[Any]) -> Iterator[Function]:
    """Activations to be tried: first those named in the program, with the slopes that it shows."""
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


def _candidates(
    x: jax.ShapeDtypeStruct, y: jax.ShapeDtypeStruct, hints: list[Any]
) -> Iterator[list[Model]]:
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
    window, strides, explicit = (tuple(per_axis[i] for i in slides) for per_axis in sizes)
    for around in (False, True):
        for padding in ("VALID", "SAME", explicit):
            with contextlib.suppress(ValueError, TypeError):
                layer = pool(window, strides=strides, padding=padding)
                yield [TO_LAST, layer, TO_FIRST] if around else [layer]
