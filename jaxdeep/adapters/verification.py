"""Checks that lifted layers have the outputs, the statistics and the gradients of their module."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._shapes import Array, PyTree
from jaxdeep.adapters.draws import Apply
from jaxdeep.adapters.known import Leaf, Path
from jaxdeep.nn import walk
from jaxdeep.nn.model import Pair

_OUTPUTS, _GRADIENTS = 1e-4, 1e-2  # of the largest; gradients of batch norms are sums that cancel


def example_array(x: PyTree) -> jax.Array:
    """The example, or random numbers of its shape."""
    if not isinstance(x, jax.ShapeDtypeStruct):
        return jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.zeros(x.shape, x.dtype)
    return jax.random.normal(jax.random.key(0), x.shape, x.dtype)


def verify(
    kind: str,
    applies: Mapping[str, tuple[Apply, Apply]],
    places: tuple[Mapping[Path, Leaf], Mapping[Path, Leaf]],
    trees: PyTree,
    new: Pair,
    x: jax.Array,
) -> None:
    """Refuse layers that do not do as the module does.

    Args:
      kind: of the module.
      applies: the module and its layers, "at inference" and "in training".
      places: where parameters and state of the layers come from.
      trees: parameters and state of the module, by these names.
      new: those of the layers.
      x: an example.

    Raises:
      ValueError: they are not the same.
    """
    of_params, of_state = places
    near = _beside(x)
    for where, (of_module, of_layers) in applies.items():
        wanted, after = of_module(trees["params"], trees["state"], x)
        y, own_after = of_layers(*new, x)
        if not _alike(y, wanted):
            raise ValueError(f"lift: the layers of {kind} do not give what it gives {where}")
        for keys, leaf in of_state.items():
            if not _alike(walk.at(own_after, keys), leaf.here(walk.at({"state": after}, leaf.path))):
                name = ".".join(map(str, keys))
                raise ValueError(f"lift: {name} of {kind} moves otherwise {where}")
        slopes = _gradients(of_module, (trees["params"], trees["state"]), near)
        if slopes is None:  # as of a loop without an end, through which nothing is trained
            continue
        there = {
            keys: leaf.here(walk.at({"params": slopes[0]}, leaf.path))
            for keys, leaf in of_params.items()
        }
        made = _gradients(of_layers, new, near)
        here = None if made is None else {keys: walk.at(made[0], keys) for keys in of_params}
        if made is None or not _all_alike((here, made[1]), (there, slopes[1])):
            raise ValueError(f"lift: the layers of {kind} have other gradients than it {where}")


def alike_at(
    applies: tuple[Apply, Apply],
    trees: PyTree,
    new: Pair,
    x: PyTree,
    sizes: Sequence[jax.ShapeDtypeStruct],
) -> bool:
    """Whether a module and its layers put out the same at other sizes: shapes, and numbers at four.

    Args:
      applies: the module and its layers.
      trees: parameters and state of the module, by these names.
      new: those of the layers.
      x: the example.
      sizes: shapes that the module takes, as `jaxdeep.adapters.sizes.others` has them.
    """

    def outputs(x: jax.Array) -> PyTree:
        of_module, of_layers = applies
        return of_module(trees["params"], trees["state"], x)[0], of_layers(*new, x)[0]

    try:
        for size in sizes:
            wanted, y = jax.eval_shape(outputs, size)
            if y.shape != wanted.shape:
                return False
        for size in [*sizes[:1], *sizes[1:][-3:]]:
            wanted, y = jax.jit(outputs)(_of_size(x, size))
            if not _alike(y, wanted):
                return False
    except Exception:  # whatever layers raise that are not made for this size
        return False
    return True


_LARGE = 2**16  # numbers of one example, of which one says enough


def _of_size(x: PyTree, size: jax.ShapeDtypeStruct) -> jax.Array:
    """Examples of another size: random, as large as those of the example, or of its own numbers."""
    x = example_array(x)
    shape = (1 if math.prod(size.shape[1:]) > _LARGE else 4, *size.shape[1:])
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.resize(x, shape)
    spread = jnp.std(x)
    noise = jax.random.normal(jax.random.key(3), shape, x.dtype)
    return jnp.mean(x) + jnp.where(spread > 0, spread, 1).astype(x.dtype) * noise


def _beside(x: jax.Array) -> jax.Array:
    """An input near the example, at which nothing is exactly on a kink, such as 0."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    size = jnp.std(x) + jnp.asarray(1e-2, x.dtype)
    return x + 1e-2 * size * jax.random.normal(jax.random.key(1), x.shape, x.dtype)


def _gradients(apply: Apply, params_and_state: Pair, x: jax.Array) -> tuple[PyTree, PyTree] | None:
    """Gradients of a random sum of the outputs, of parameters and input; None where there are none."""

    def total(params: PyTree, x: Array) -> Array:
        y, _ = apply(params, params_and_state[1], x)
        return jnp.sum(y * jax.random.normal(jax.random.key(2), y.shape, y.dtype))

    with contextlib.suppress(ValueError, TypeError, NotImplementedError):
        slopes: tuple[PyTree, PyTree] = jax.grad(total, (0, 1), allow_int=True)(params_and_state[0], x)
        return slopes
    return None


def _all_alike(a: PyTree, b: PyTree) -> bool:
    pairs = [
        (one, other)
        for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b))
        if one.dtype != jax.dtypes.float0
    ]
    scale = max((float(np.max(np.abs(_float(b)), initial=0.0)) for _, b in pairs), default=0.0)
    return all(_alike(one, other, _GRADIENTS, scale) for one, other in pairs)


def _alike(a: Any, b: Any, tolerance: float = _OUTPUTS, scale: float | None = None) -> bool:
    if np.shape(a) != np.shape(b):
        return False
    a, b = _float(a), _float(b)
    scale = max(float(np.max(np.abs(b), initial=0.0)) if scale is None else scale, 1e-6)
    return bool(np.all(np.abs(a - b) <= tolerance * scale) or np.array_equal(a, b, equal_nan=True))


def _float(a: Any) -> np.ndarray:
    return np.asarray(a, np.float64)
