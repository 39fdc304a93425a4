"""Flax NNX modules as models."""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxdeep._shapes import PyTree
from jaxdeep.adapters.known import of_flax
from jaxdeep.adapters.module import Hook, Inside, Switches, adapted, check_names, hooked, shown, trailing
from jaxdeep.nn.model import Model, learns

if TYPE_CHECKING:
    from flax import nnx

    Maker = Callable[[nnx.Rngs], nnx.Module]


def from_nnx(module: "nnx.Module | Maker") -> Model:
    """A `flax.nnx.Module` as a `Model` whose two switches work separately.

    ``params`` are its `nnx.Param` leaves, as nested dicts by the module's own names. All its other
    variables, such as batch statistics, are in ``state``, but for its random streams, which begin anew
    with every key: stream i of the module at ``fold_in(key, i)``, as after
    ``nnx.reseed(module, default=key)``.

    Batch norms use and update batch statistics only where ``train=True``, and dropouts are random only
    where a `key` is passed, whatever the module passes to them. Batch norms get a ``mask=``.

    Args:
      module: a module of one input, ``module(x)``; ``init`` then gives the parameters that it has,
        whatever the key. Or a function ``rngs -> module``, which ``init`` calls anew, so that keys make
        different parameters, and several models at once under `jax.vmap`.

    Raises:
      TypeError: neither. ImportError: flax is not installed.

    Source: `flax.nnx.split` and `merge`.

    >>> from flax import nnx
    >>> import jax.numpy as jnp
    >>> def network(rngs):
    ...     return nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))
    >>> model = from_nnx(network)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> model.apply(params, state, jnp.ones((5, 3)), key=jax.random.key(1))[0].shape
    (5, 4)
    """
    from flax import nnx

    if isinstance(module, nnx.Module):
        parts = split(module)
        return _model(lambda key: parts, lambda: parts, type(module).__name__, None)
    if not callable(module):
        raise TypeError(
            f"module must be a flax.nnx.Module or a function rngs -> module, got {shown(module)}"
        )

    def make(key: jax.Array) -> tuple[Any, ...]:
        return split(module(nnx.Rngs(key)))

    @functools.cache
    def template() -> tuple[Any, ...]:
        # shapes of the parts: in a module of shapes, those of bare arrays would not be taken for arrays
        parts: tuple[Any, ...] = jax.eval_shape(make, jax.random.key(0))
        return parts

    return _model(make, template, "nnx", None)


def _model(
    make: Callable[[jax.Array], tuple[Any, ...]],
    template: Callable[[], tuple[Any, ...]],
    kind: str,
    trainable: PyTree,
) -> Model:
    """The model, with batch norms in inference mode whose parameters are not `trainable`.

    `make` gives the graph of the module, which holds no arrays, and three states: parameters, random
    streams and the rest. `template` gives the same, where shapes may stand for the arrays.
    """
    from flax import nnx

    def init(key: jax.Array, x: PyTree) -> tuple[PyTree, PyTree]:
        _, params, _, rest = make(key)
        return jax.tree.map(jnp.copy, (nnx.to_pure_dict(params), nnx.to_pure_dict(rest)))

    def run(
        params: PyTree, state: PyTree, x: PyTree, switches: Switches, hook: Hook | None = None
    ) -> tuple[PyTree, PyTree]:
        graph, own_params, own_streams, own_rest = template()
        streams = _streams(own_streams, switches.key)
        net = nnx.merge(graph, _filled(own_params, params), streams, _filled(own_rest, state))
        _switch(net, switches, trainable)
        for path, node in nnx.iter_graph(net):
            if hook is not None and path and isinstance(node, nnx.Module) and callable(node):
                node.__class__ = hooked(hook, path, type(node))
        y = net(x, **switches.flags(inspect.signature(type(net).__call__).parameters))
        return y, _only(nnx.to_pure_dict(split(net)[3]), state) if switches.train else state

    freeze = functools.partial(_model, make, template, kind)
    return adapted(kind, init, Inside(run, of_flax), freeze)


def split(module: "nnx.Module") -> tuple[Any, ...]:
    """Graph, parameters, random streams and the rest."""
    from flax import nnx

    if not isinstance(module, nnx.Module):
        raise TypeError(f"the function of from_nnx must return a flax.nnx.Module, got {module!r}")
    return nnx.split(module, nnx.Param, nnx.RngState, ...)


def _switch(net: "nnx.Module", switches: Switches, trainable: PyTree) -> None:
    """Set the layers of a module that is nobody else's as the switches say."""
    from flax import nnx

    class Norm(nnx.BatchNorm):
        _kind_ = "BatchNorm"

        def __call__(self, x: Any, use_running_average: Any = None, **kwargs: Any) -> Any:
            if switches.mask is not None:
                kwargs["mask"] = trailing(switches.mask, x)
            return super().__call__(x, use_running_average=self.use_running_average, **kwargs)

    class Drop(nnx.Dropout):
        _kind_ = "Dropout"

        def __call__(self, inputs: Any, *, deterministic: Any = None, **kwargs: Any) -> Any:
            return super().__call__(inputs, deterministic=self.deterministic, **kwargs)

    obedient: dict[type, type] = {nnx.BatchNorm: Norm, nnx.Dropout: Drop}
    net.set_attributes(use_running_average=not switches.train, raise_if_not_found=False)
    net.set_attributes(deterministic=switches.key is None, raise_if_not_found=False)
    for path, node in nnx.iter_graph(net):
        if trainable is not None and isinstance(node, nnx.BatchNorm):
            node.use_running_average = not switches.train or not learns(trainable, path)
        if type(node) in obedient:  # now obeys its attribute and ignores the switches that callers pass
            node.__class__ = obedient[type(node)]


def _filled(like: PyTree, values: PyTree) -> PyTree:
    """A state of the module's with the leaves of a pure dict."""
    from flax import nnx

    check_names(nnx.to_pure_dict(like), values)
    return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(values))


def _only(tree: PyTree, like: PyTree) -> PyTree:
    """The part of a pure dict that has names in another: not what `sow` has added."""
    return {n: _only(tree[n], like[n]) for n in like} if isinstance(like, dict) else tree


def _streams(streams: PyTree, key: jax.Array | None) -> PyTree:
    """Random streams that begin at `key`; `nnx.reseed` of a module's own fails under a trace."""
    usual = jax.random.key(0) if key is None else key
    leaves, structure = jax.tree.flatten(streams)
    made: list[jax.Array] = []
    number = 0
    for leaf in leaves:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            first = jax.random.fold_in(usual, number)
            made.append(jax.random.split(first, leaf.shape) if leaf.shape else first)
            number += 1
        else:
            made.append(jnp.zeros(leaf.shape, leaf.dtype))
    return jax.tree.unflatten(structure, made)
