"""Flax NNX modules as models."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep.adapters.linen import call_flags, trailing
from jaxdeep.nn.model import Model, learns
from jaxdeep.tree import leaf_paths

PyTree = Any


def from_nnx(module: Any) -> Model:
    """A `flax.nnx.Module` as a `Model` whose two switches work separately.

    ``params`` are its `nnx.Param` leaves as nested dicts by the module's own names; all other variables
    (batch statistics) are in ``state``; random streams are in neither. Batch norms use and update batch
    statistics just where ``train=True``, dropouts are random just where a `key` is passed. Random stream
    i of the module begins at ``fold_in(key, i)``, as after ``nnx.reseed(module, default=key)``.

    Args:
      module: a module of one input ``module(x)``, whose own parameters ``init`` gives back whatever its
        key; or a function ``rngs -> module``, called anew by ``init``, with which stacked models can be
        made under `jax.vmap`.

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

    if not (isinstance(module, nnx.Module) or callable(module)):
        raise TypeError(f"module must be a flax.nnx.Module or a function rngs -> module, got {module!r}")
    return _model(module, None)


def _model(module: Any, trainable: PyTree) -> Model:
    """The model, with batch norms whose parameters are not `trainable` in inference mode."""
    from flax import nnx

    given = _split(module) if isinstance(module, nnx.Module) else None

    def make(key: Any) -> Any:
        return given if given is not None else _split(module(nnx.Rngs(key)))

    @functools.cache
    def template() -> tuple[Any, Any]:
        """The graph, which holds no arrays, and the three states, with or without values."""
        if given is not None:
            return given[0], given[1:]
        graphs: list[Any] = []

        def trace(key: Any) -> Any:
            graph, *states = make(key)
            graphs.append(graph)
            return tuple(states)

        states = jax.eval_shape(trace, jax.random.key(0))
        return graphs[0], states

    def init(key: jax.Array, x: Any) -> tuple[Any, Any]:
        _checks.check_key(key)
        _, params, _, rest = make(key)
        return jax.tree.map(jnp.copy, (nnx.to_pure_dict(params), nnx.to_pure_dict(rest)))

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None, mask: Any = None
    ) -> tuple[Any, Any]:
        _checks.check_key(key, optional=True)
        graph, (params_like, streams_like, rest_like) = template()
        net = nnx.merge(
            graph,
            _filled(params_like, params),
            _streams(streams_like, key),
            _filled(rest_like, state),
        )
        for switch in ({"use_running_average": not train}, {"deterministic": key is None}):
            net.set_attributes(**switch, raise_if_not_found=False)
        obedient = _obedient(mask)
        for path, node in nnx.iter_graph(net):
            if trainable is not None and isinstance(node, nnx.BatchNorm):
                node.use_running_average = not train or not learns(trainable, path)
            if type(node) in obedient:  # the copy's own class: what its caller passes does not count
                node.__class__ = obedient[type(node)]
        takes = inspect.signature(type(net).__call__).parameters
        y = net(x, **{n: v for n, v in call_flags(train, key).items() if n in takes})
        return y, _only(nnx.to_pure_dict(_split(net)[3]), state) if train else state

    def freeze(trainable: PyTree) -> Model:
        return _model(module, trainable)

    return Model(init, apply, type(module).__name__ if given is not None else "nnx", freeze=freeze)


def _split(module: Any) -> tuple[Any, Any, Any, Any]:
    """Graph, parameters, random streams and the rest."""
    from flax import nnx

    if not isinstance(module, nnx.Module):
        raise TypeError(f"the function of from_nnx must return a flax.nnx.Module, got {module!r}")
    found: Any = nnx.split(module, nnx.Param, nnx.RngState, ...)
    return found


def _obedient(mask: Any) -> dict[type, type]:
    """Batch norm and dropout that follow their attributes, whatever they are called with."""
    from flax import nnx

    class Norm(nnx.BatchNorm):
        def __call__(self, x: Any, use_running_average: Any = None, **kwargs: Any) -> Any:
            if mask is not None:
                kwargs["mask"] = trailing(mask, x)
            return super().__call__(x, use_running_average=self.use_running_average, **kwargs)

    class Drop(nnx.Dropout):
        def __call__(self, inputs: Any, *, deterministic: Any = None, **kwargs: Any) -> Any:
            return super().__call__(inputs, deterministic=self.deterministic, **kwargs)

    return {nnx.BatchNorm: Norm, nnx.Dropout: Drop}


def _filled(like: Any, values: Any) -> Any:
    """A state like `like` with the leaves of a pure dict."""
    from flax import nnx

    known, given = leaf_paths(nnx.to_pure_dict(like)), leaf_paths(values)
    if known != given:
        odd = sorted(set(known) ^ set(given))
        raise ValueError(f"parameters or state do not have the module's names: {', '.join(odd[:6])}")
    return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(values))


def _only(tree: Any, like: Any) -> Any:
    """The part of a pure dict that has names in another: not what `sow` has added."""
    return {n: _only(tree[n], like[n]) for n in like} if isinstance(like, dict) else tree


def _streams(like: Any, key: Any) -> Any:
    """Random streams that begin at `key`; reseeding those of a module fails under a trace."""
    leaves, structure = jax.tree.flatten(like)
    usual, made, i = jax.random.key(0) if key is None else key, [], 0
    for leaf in leaves:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            own = jax.random.fold_in(usual, i)
            made.append(jax.random.split(own, leaf.shape) if leaf.shape else own)
            i += 1
        else:
            made.append(jnp.zeros(leaf.shape, leaf.dtype))
    return jax.tree.unflatten(structure, made)
