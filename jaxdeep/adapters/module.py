"""What the adapters of modules of Flax and Equinox share: the two switches, and names of arrays."""

import functools
from collections.abc import Callable, Container
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import PyTree
from jaxdeep.adapters.known import Known
from jaxdeep.nn.model import Call, Model
from jaxdeep.tree import leaf_paths

Path = tuple[Any, ...]  # the names that lead to a module inside
Hook = Callable[[Path, Any, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""``hook(path, module, call, args, kwargs)`` in place of ``call(*args, **kwargs)``."""


class Run(Protocol):
    """``run(params, state, x, switches, hook) -> (y, state)`` of a module."""

    def __call__(
        self, params: PyTree, state: PyTree, x: PyTree, switches: "Switches", hook: Hook | None = None, /
    ) -> tuple[PyTree, PyTree]:
        """Run the module."""


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
        """Whether the model is applied in training or with a key, so not as at inference."""
        return self.train or self.key is not None

    def flags(self, taken: Container[str]) -> dict[str, Any]:
        """Values of those flags, of the names in use, that a module's call takes.

        >>> Switches(train=True).flags(["x", "training", "deterministic"])
        {'training': True, 'deterministic': True}
        """
        values = dict.fromkeys(("train", "training", "is_training"), self.any_on)
        values |= {"deterministic": self.key is None, "use_running_average": not self.train}
        return {name: value for name, value in values.items() if name in taken}


class Inside(NamedTuple):
    """What there is inside a module, as ``Model.inside`` holds it.

    Attributes:
      run: the module, with a hook for every call of a module inside.
      known: ``(module, path, x, state)``, the layer of jaxdeep that a module inside is when it is called
        with `x`, or None.
      rows: for modules of one example, that outputs lack the axis of the batch.
    """

    run: Run
    known: Callable[[Any, Path, jax.Array, PyTree], Known | None]
    rows: bool = False

    @property
    def advice(self) -> str:
        """How to have layers of jaxdeep in its place."""
        return (
            "a module of Flax or Equinox becomes layers of jaxdeep by model, params, state = "
            "jaxdeep.adapters.lift(model, params, state, x)"
        )

    def calls(self, params: PyTree, state: PyTree, x: PyTree) -> list[Call]:
        """The calls of modules inside that call no other, in order, with shapes for arrays."""
        calls: list[Call] = []
        rows = jax.tree.leaves(x)[0].shape[:1] if self.rows else ()

        def hook(
            path: Path, module: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
        ) -> Any:
            before = len(calls)
            y = call(*args, **kwargs)
            if len(calls) == before:
                arrays = [leaf for leaf in jax.tree.leaves(y) if hasattr(leaf, "shape")]
                shapes = [jax.ShapeDtypeStruct((*rows, *a.shape), a.dtype) for a in arrays[:1]]
                kind = getattr(module, "_kind_", type(module).__name__)
                calls.append(Call(path, kind, shapes))
            return y

        jax.eval_shape(lambda p, s, x: self.run(p, s, x, Switches(), hook)[0], params, state, x)
        return calls


class Closed(NamedTuple):
    """What ``Model.inside`` holds where nobody looks inside.

    Attributes:
      advice: how to have layers of jaxdeep in its place; "" if there is no way.
      keyed: of a part of a module, the layer that draws by this key, whichever it is called with.
    """

    advice: str = ""
    keyed: Callable[[jax.Array], Model] | None = None

    def calls(self, params: PyTree, state: PyTree, x: PyTree) -> None:
        """None: the module is not looked into, and stays one layer."""


def adapted(
    kind: str,
    make: Callable[[jax.Array, PyTree], tuple[PyTree, PyTree]],
    module: Inside | Callable[[PyTree, PyTree, PyTree, Switches], Any],
    freeze: Callable[[PyTree], Model],
    *,
    advice: str = "",
) -> Model:
    """The model of a module.

    Args:
      kind: the model's.
      make: ``(key, x) -> (params, state)``.
      module: the module and what is inside, or how it runs where nobody looks inside.
      freeze: what ``Model.frozen`` does.
      advice: where nobody looks inside, how to have layers of jaxdeep in its place.
    """
    run = module.run if isinstance(module, Inside) else module

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

    inside = module if isinstance(module, Inside) else Closed(advice)
    return Model(init, apply, kind, freeze=freeze, inside=inside)


def check_names(like: PyTree, values: PyTree) -> None:
    """Refuse parameters, or a state, that do not have the names of the module's own."""
    odd = sorted(set(leaf_paths(like)) ^ set(leaf_paths(values)))
    if odd:
        raise ValueError(f"parameters or state do not have the module's names: {', '.join(odd[:6])}")


def shown(module: object) -> str:
    """What is no module, for errors; of a model that was made of one, what is wanted in its place."""
    of_model = f"a model of jaxdeep, {module!r}, as adapters make of modules; pass the module itself"
    return of_model if isinstance(module, Model) else repr(module)


def trailing(mask: jax.Array, x: jax.Array) -> jax.Array:
    """The mask of the leading axes with as many axes as `x`, as Flax' batch norms want it."""
    return jnp.reshape(mask, jnp.shape(mask) + (1,) * (jnp.ndim(x) - jnp.ndim(mask)))


def hooked(hook: Hook, path: Path, kind: Any) -> Any:
    """A class of modules whose call goes through the hook."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return hook(path, self, functools.partial(kind.__call__, self), args, kwargs)

    kind_name = getattr(kind, "_kind_", None) or kind.__name__
    namespace = {"__call__": call, "__module__": kind.__module__, "_kind_": kind_name}
    return type(kind)(kind.__name__, (kind,), namespace)
