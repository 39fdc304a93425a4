"""Parts of examples, each of which is encoded from the others."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._arrays import as_array
from jaxdeep._shapes import Array, ArrayLike, Integer, Shaped


def folds(key: Array, y: Shaped[Array, "n"] | int, cv: int) -> Integer[Array, "n"]:
    """A random part in [0, cv) for each example, of equal sizes but for one.

    Args:
      key: a random key.
      y: the number of examples; or their targets, `cv` neighbours in which are in different parts.
      cv: the number of parts.
    """
    if isinstance(y, int):
        return _random_parts(key, y, cv)
    return _parts_by_target(key, y, cv)


@partial(jax.jit, static_argnums=(1, 2))
def _random_parts(key: Array, n: int, cv: int) -> Integer[Array, "n"]:
    return jax.random.permutation(key, jnp.arange(n) % cv)


@partial(jax.jit, static_argnums=2)
def _parts_by_target(key: Array, y: Shaped[Array, "n"], cv: int) -> Integer[Array, "n"]:
    n = y.shape[0]
    of_ties, of_blocks = jax.random.split(key)
    order = jnp.argsort(jax.random.uniform(of_ties, (n,)))
    order = order[jnp.argsort(y[order], stable=True)]
    starts = jax.random.randint(of_blocks, (-(-n // cv),), 0, cv)
    place = jnp.arange(n)
    return jnp.zeros(n, place.dtype).at[order].set((place + starts[place // cv]) % cv)


def given_parts(cv: ArrayLike, n: int) -> tuple[Integer[Array, "n"], int]:
    """The parts that somebody else made, and their number."""
    part = as_array("cv", cv)
    if tuple(part.shape) != (n,) or not jnp.issubdtype(part.dtype, jnp.integer):
        raise ValueError(
            f"cv must be a number, or the part of each of {n} examples as whole numbers, got an array "
            f"of {part.dtype} and shape {tuple(part.shape)}"
        )
    if isinstance(part, jax.core.Tracer):
        raise TypeError("cv is traced: the parts of examples must be known outside of jax.jit")
    numbers, part = np.unique(np.asarray(part), return_inverse=True)
    if len(numbers) < 2:
        raise ValueError(f"cv must name at least 2 parts, got {len(numbers)}")
    return jnp.asarray(part), len(numbers)
