"""What the adapters of modules of Flax and Equinox share: the two switches, and names of arrays."""

from collections.abc import Callable, Container
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import PyTree
from jaxdeep.nn.model import Model
from jaxdeep.tree import leaf_paths


class Switches(NamedTuple):
    """How a model is applied.

    Attributes:
      train: batch statistics are used and updated.
      key: of dropouts; None switches them off.
      mask: the rows that statistics are taken of; None for all.
    """

    train: bool = False
    key: jax.Array | None = None
    mask: jax.Array | None = None

    @property
    def any_on(self) -> bool:
        """Whether it is other than inference."""
        return self.train or self.key is not None

    def flags(self, taken: Container[str]) -> dict[str, Any]:
        """Values of those flags, of the names in use, that a module's call takes.

        >>> Switches(train=True).flags(["x", "training", "deterministic"])
        {'training': True, 'deterministic': True}
        """
        values = dict.fromkeys(("train", "training", "is_training"), self.any_on)
        values |= {"deterministic": self.key is None, "use_running_average": not self.train}
        return {name: value for name, value in values.items() if name in taken}


def adapted(
    kind: str,
    make: Callable[[jax.Array, PyTree], tuple[PyTree, PyTree]],
    run: Callable[[PyTree, PyTree, PyTree, Switches], tuple[PyTree, PyTree]],
    freeze: Callable[[PyTree], Model],
) -> Model:
    """The model of a module.

    Args:
      kind: the model's.
      make: ``(key, x) -> (params, state)``.
      run: ``(params, state, x, switches) -> (y, state)``.
      freeze: what ``Model.frozen`` does.
    """

    def init(key: jax.Array, x: PyTree) -> tuple[PyTree, PyTree]:
        _checks.check_key(key)
        return make(key, x)

    def apply(
        params: PyTree,
        state: PyTree,
        x: PyTree,
        *,
        train: bool = False,
        key: jax.Array | None = None,
        mask: jax.Array | None = None,
    ) -> tuple[PyTree, PyTree]:
        _checks.check_key(key, optional=True)
        return run(params, state, x, Switches(train, key, mask))

    return Model(init, apply, kind, freeze=freeze)


def check_names(own: PyTree, given: PyTree) -> None:
    """Refuse parameters, or a state, that do not have the names of the module's own."""
    odd = sorted(set(leaf_paths(own)) ^ set(leaf_paths(given)))
    if odd:
        raise ValueError(f"parameters or state do not have the module's names: {', '.join(odd[:6])}")


def trailing(mask: jax.Array, x: jax.Array) -> jax.Array:
    """The mask of the leading axes with as many axes as `x`, as Flax' batch norms want it."""
    return jnp.reshape(mask, jnp.shape(mask) + (1,) * (jnp.ndim(x) - jnp.ndim(mask)))
