"""Flax Linen modules as models."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep.nn.model import Model, learns
from jaxdeep.tree import shapes

PyTree = Any

_ON = ("train", "training", "is_training")
_OFF = ("deterministic",)
_RUNNING = ("use_running_average",)


def from_linen(module: Any, *, rngs: Sequence[str] = ("dropout",)) -> Model:
    """A `flax.linen.Module` as a `Model` whose two switches work separately.

    ``params`` is the collection of that name, with the module's own names as paths; every other
    collection (``batch_stats``) is in ``state``. Whatever flag the module takes for training,
    `flax.linen.BatchNorm` inside uses and updates batch statistics just where ``train=True``, and
    `flax.linen.Dropout` is random just where a `key` is passed: an MC dropout sample does not touch
    batch norm. A flag called ``train``, ``training`` or ``is_training`` of the module itself is True
    where either switch is on, ``deterministic`` where there is no key, ``use_running_average`` without
    `train`.

    Args:
      module: a Linen module of one input ``module(x)``, with or without such a flag.
      rngs: names of the random streams; the first gets the key, others ``fold_in(key, i)``.

    ``mask=`` is handed to the batch norms. Randomness that a module draws itself (``make_rng``) needs a
    key.

    Raises:
      TypeError: not a Linen module, `rngs` that are not names. ImportError: flax is not installed.

    Source: `flax.linen.Module.init` and `apply`.

    >>> import flax.linen as nn, jax.numpy as jnp
    >>> class Net(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x, train: bool = False):
    ...         x = nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x))
    ...         return nn.Dense(2)(nn.Dropout(0.5, deterministic=not train)(x))
    >>> model = from_linen(Net())
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> sorted(params), sorted(state)
    (['BatchNorm_0', 'Dense_0', 'Dense_1'], ['batch_stats'])
    >>> y, same = model.apply(params, state, jnp.ones((2, 3)), key=jax.random.key(1))  # MC dropout
    >>> y.shape, same is state
    ((2, 2), True)
    """
    import flax.linen as nn

    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a flax.linen.Module, got {module!r}")
    if isinstance(rngs, str) or not all(isinstance(name, str) for name in rngs):
        raise TypeError(f"rngs must be a list of names, got {rngs!r}")
    return _model(module, rngs, None)


def _model(module: Any, rngs: Sequence[str], trainable: PyTree) -> Model:
    """The model, with batch norms whose parameters are not `trainable` in inference mode."""
    import flax.errors
    import flax.linen as nn

    takes = inspect.signature(type(module).__call__).parameters

    def flags(train: bool, key: Any) -> dict[str, Any]:
        return {name: value for name, value in call_flags(train, key).items() if name in takes}

    def streams(key: Any) -> dict[str, Any]:
        keys = [key, *(jax.random.fold_in(key, i) for i in range(1, len(rngs)))]
        return dict(zip(rngs, keys))

    def switched(train: bool, key: Any, mask: Any = None) -> Any:
        """An interceptor that sets batch norms and dropouts as the switches say."""
        set_to = {
            nn.BatchNorm: ("use_running_average", not train),
            nn.Dropout: ("deterministic", key is None),
            nn.MultiHeadDotProductAttention: ("deterministic", key is None),
        }

        def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            kinds = (found for kind, found in set_to.items() if isinstance(context.module, kind))
            name, value = next(kinds, ("", None))
            if not name or context.method_name != "__call__":
                return call(*args, **kwargs)
            if name == "use_running_average" and trainable is not None:
                value = value or not learns(trainable, context.module.path)
            given = inspect.signature(context.orig_method)
            own = name in given.parameters
            # either the attribute or the argument may be given, not both; a subclass may take none
            object.__setattr__(context.module, name, None if own else value)
            bound = given.bind(*args, **kwargs)
            if own:
                bound.arguments[name] = value
            if own and mask is not None and name == "use_running_average":
                bound.arguments["mask"] = trailing(mask, next(iter(bound.arguments.values())))
            return call(*bound.args, **bound.kwargs)

        return nn.intercept_methods(intercept)

    def init(key: jax.Array, x: Any) -> tuple[Any, Any]:
        _checks.check_key(key)
        with switched(False, None):
            keys, x = {"params": key, **streams(key)}, shapes(x)
            try:
                variables: Any = module.lazy_init(keys, x, **flags(False, None))
            except flax.errors.LazyInitError:  # something is made from the values of x
                zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), x)
                variables = module.init(keys, zeros, **flags(False, None))
        return variables.get("params", {}), {n: c for n, c in variables.items() if n != "params"}

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None, mask: Any = None
    ) -> tuple[Any, Any]:
        _checks.check_key(key, optional=True)
        variables = {"params": params, **{name: _unsown(tree) for name, tree in state.items()}}
        random = {} if key is None else streams(key)
        with switched(train, key, mask):
            if not state or not (train or key is not None):
                return module.apply(variables, x, rngs=random, **flags(train, key)), state
            # with a key alone the module may write statistics, which are not kept
            y, new = module.apply(variables, x, rngs=random, mutable=list(state), **flags(train, key))
        return y, {**state, **new} if train else state

    def freeze(trainable: PyTree) -> Model:
        return _model(module, rngs, trainable)

    return Model(init, apply, type(module).__name__, freeze=freeze)


def call_flags(train: bool, key: Any) -> dict[str, bool]:
    """The flags a module may take, by the names in use, as the two switches say."""
    values = dict.fromkeys(_ON, train or key is not None)
    return values | dict.fromkeys(_OFF, key is None) | dict.fromkeys(_RUNNING, not train)


def _unsown(tree: Any) -> Any:
    """A collection without what `sow` appended, in tuples, which would grow with every update."""
    if not isinstance(tree, Mapping):
        return tree
    return {name: _unsown(node) for name, node in tree.items() if not isinstance(node, tuple)}


def trailing(mask: Any, x: Any) -> Any:
    """A mask of the leading axes, with the axes that Flax' batch norms want behind it."""
    return jnp.reshape(mask, jnp.shape(mask) + (1,) * (jnp.ndim(x) - jnp.ndim(mask)))
