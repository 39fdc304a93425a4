"""Flax Linen modules as models."""

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxdeep._shapes import PyTree
from jaxdeep.adapters.known import of_flax
from jaxdeep.adapters.module import Hook, Inside, Switches, adapted, shown, trailing
from jaxdeep.nn.model import Model, learns
from jaxdeep.tree import example_of

if TYPE_CHECKING:
    import flax.linen as nn


def from_linen(module: "nn.Module", *, rngs: Sequence[str] = ("dropout",)) -> Model:
    """A `flax.linen.Module` as a `Model` whose two switches work separately.

    ``params`` is the collection of that name, in which leaves have the module's own names as paths. All
    other collections, such as ``batch_stats``, are in ``state``.

    The switches count, and not what the module passes to its layers: `flax.linen.BatchNorm` uses and
    updates batch statistics only where ``train=True``, and `flax.linen.Dropout` is random only where a
    `key` is passed. So an MC dropout sample does not touch batch norm. Of the module's own flags

    * ``train``, ``training`` or ``is_training`` is True where either switch is on;
    * ``deterministic`` is True where there is no key;
    * ``use_running_average`` is True without `train`.

    A ``mask=`` is handed to the batch norms. A module that draws random numbers itself, with
    ``make_rng``, needs a key wherever it does.

    Args:
      module: a Linen module of one input, ``module(x)``, with or without such a flag.
      rngs: names of its random streams. The first gets the key, stream i ``fold_in(key, i)``.

    Raises:
      TypeError: not a Linen module, `rngs` that are not names. ImportError: flax is not installed. When
        applied, ValueError: a random stream that is not among `rngs`, or a draw without a key.

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
        raise TypeError(f"module must be a flax.linen.Module, got {shown(module)}")
    if isinstance(rngs, str) or not all(isinstance(name, str) for name in rngs):
        raise TypeError(f"rngs must be a list of names, got {rngs!r}")
    return _model(module, rngs, None)


def _model(module: "nn.Module", rngs: Sequence[str], trainable: PyTree) -> Model:
    """The model, with batch norms in inference mode whose parameters are not `trainable`."""
    import flax.errors

    taken = inspect.signature(type(module).__call__).parameters

    def streams(key: jax.Array) -> dict[str, jax.Array]:
        keys = [key, *(jax.random.fold_in(key, i) for i in range(1, len(rngs)))]
        return dict(zip(rngs, keys))

    def make(key: jax.Array, x: PyTree) -> tuple[PyTree, PyTree]:
        off = Switches()
        with _switched(off, trainable):
            keys, x = {"params": key, **streams(key)}, example_of(x)
            variables: Mapping[str, PyTree]
            try:
                variables = module.lazy_init(keys, x, **off.flags(taken))
            except flax.errors.LazyInitError:  # something is made from the values of x
                zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), x)
                variables = module.init(keys, zeros, **off.flags(taken))
        return variables.get("params", {}), {n: c for n, c in variables.items() if n != "params"}

    def run(
        params: PyTree, state: PyTree, x: PyTree, switches: Switches, hook: Hook | None = None
    ) -> tuple[PyTree, PyTree]:
        variables = {"params": params, **{name: _unsown(tree) for name, tree in state.items()}}
        random = {} if switches.key is None else streams(switches.key)
        call = functools.partial(module.apply, variables, x, rngs=random, **switches.flags(taken))
        with _switched(switches, trainable, hook), _streams_named(module, rngs, switches):
            if not state or not switches.any_on:
                return call(), state
            # with a key alone the module may write statistics, which are not kept
            y, new = call(mutable=list(state))
        return y, {**state, **new} if switches.train else state

    known = functools.partial(of_flax, collection=("batch_stats",))
    freeze = functools.partial(_model, module, rngs)
    return adapted(type(module).__name__, make, Inside(run, known), freeze)


def _switched(
    switches: Switches, trainable: PyTree, hook: Hook | None = None
) -> AbstractContextManager[None]:
    """A context in which layers with a switch such as `deterministic` follow the model's switches."""
    import flax.linen as nn

    set_to = {
        nn.BatchNorm: ("use_running_average", not switches.train),
        nn.Dropout: ("deterministic", switches.key is None),
        nn.MultiHeadDotProductAttention: ("deterministic", switches.key is None),
    }

    def intercept(
        call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any
    ) -> Any:
        layer = context.module
        if hook is None or context.method_name != "__call__" or not layer.path:
            return switched(call, args, kwargs, context)
        go = lambda *args, **kwargs: switched(call, args, kwargs, context)  # noqa: E731
        return hook(layer.path, layer, go, args, kwargs)

    def switched(
        call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any
    ) -> Any:
        layer = context.module
        name, value = next(
            (switch for kind, switch in set_to.items() if isinstance(layer, kind)), ("", None)
        )
        if not name or context.method_name != "__call__":
            return call(*args, **kwargs)
        statistics = name == "use_running_average"
        if statistics and trainable is not None:
            value = value or not learns(trainable, layer.path)
        signature = inspect.signature(context.orig_method)
        # Flax refuses a switch both as attribute and as argument; the call of a subclass may take none
        takes_it = name in signature.parameters
        object.__setattr__(layer, name, None if takes_it else value)
        bound = signature.bind(*args, **kwargs)
        if takes_it:
            bound.arguments[name] = value
            if statistics and switches.mask is not None:
                x = next(iter(bound.arguments.values()))
                bound.arguments["mask"] = trailing(switches.mask, x)
        return call(*bound.args, **bound.kwargs)

    return nn.intercept_methods(intercept)


@contextlib.contextmanager
def _streams_named(module: "nn.Module", rngs: Sequence[str], switches: Switches) -> Iterator[None]:
    """Say of a random stream that is not there how it comes to be there."""
    import flax.errors

    try:
        yield
    except flax.errors.InvalidRngError as error:
        kind, stream = type(module).__name__, re.search('PRNG for "([^"]*)"', str(error))
        if stream is None:
            raise
        name = stream[1]
        if name in rngs and switches.key is not None:
            raise
        draws = f"{kind} draws from the random stream {name!r}"
        if name not in rngs:
            known = ", ".join(map(repr, (*rngs, name)))
            comma = "," * (not rngs)
            raise ValueError(
                f"{draws}, which is not among rngs={tuple(rngs)!r}: "
                f"jaxdeep.adapters.from_linen(module, rngs=({known}{comma}))"
            ) from error
        raise ValueError(
            f"{draws} where there is no key, as at inference: pass key=, or let the module draw only "
            "where a flag of its call is on, such as train"
        ) from error


def _unsown(tree: PyTree) -> PyTree:
    """A collection without the tuples that `sow` appends to, which would grow with every update."""
    if not isinstance(tree, Mapping):
        return tree
    return {name: _unsown(node) for name, node in tree.items() if not isinstance(node, tuple)}
