"""Models made of models."""

import collections
from collections.abc import Mapping
from typing import Any

import jax

from jaxdeep import _checks
from jaxdeep.nn.model import Model, located
from jaxdeep.tree import shapes


def serial(*layers: Model, **named: Model) -> Model:
    """Layers one after another: the output of each is the input of the next.

    Parameters and state are dicts by layer name; a layer without any has no entry. Layers are
    given by keyword, or by position and then named by kind and a count from 0: ``dense0``,
    ``batch_norm0``, ``dense1``. Layer i draws its randomness from ``jax.random.fold_in(key, i)``.

    Args:
      layers, named: `Model` values; either all by position or all by name.

    Raises:
      TypeError: something that is not a `Model`, or positions and names mixed.
      ValueError: from a layer, with its path in front (``block/dense0: …``); parameters of a layer
        that the model does not have.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = serial(hidden=jd.nn.dense(4), act=jd.nn.activation(jax.nn.relu), out=jd.nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> jd.tree.leaf_paths(params)
    ['hidden/bias', 'hidden/kernel', 'out/bias', 'out/kernel']
    >>> model.apply(params, state, jnp.ones((5, 3)))[0].shape
    (5, 2)
    >>> list(serial(jd.nn.dense(4), jd.nn.dropout(0.5), jd.nn.dense(2)).layers)
    ['dense0', 'dropout0', 'dense1']
    """
    if layers and named:
        raise TypeError(
            "serial takes its layers either by position or by name, not both: got "
            f"{len(layers)} by position and {', '.join(named)} by name"
        )
    given: list[tuple[int | str, Any]] = [*enumerate(layers), *named.items()]
    for name, layer in given:
        if not isinstance(layer, Model):
            hint = "; call it" if callable(layer) else ""
            raise TypeError(f"serial layer {name} must be a Model, got {layer!r}{hint}")
    for name in named:
        if "/" in name:
            raise ValueError(f"a layer's name must not contain '/', got {name!r}")
    return _serial(named or _numbered(layers))


def _numbered(layers: tuple[Model, ...]) -> dict[str, Model]:
    seen: collections.Counter[str] = collections.Counter()
    names = {}
    for layer in layers:
        names[f"{layer.kind}{seen[layer.kind]}"] = layer
        seen[layer.kind] += 1
    return names


def _serial(layers: Mapping[str, Model]) -> Model:
    def init(key: jax.Array, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        _checks.check_key(key)
        params, state = {}, {}
        y = shapes(x)
        for i, (name, layer) in enumerate(layers.items()):
            with located(name):
                own_params, own_state = layer.init(jax.random.fold_in(key, i), y)
                y, _ = jax.eval_shape(layer.apply, own_params, own_state, y)
            if own_params:
                params[name] = own_params
            if own_state:
                state[name] = own_state
        return params, state

    def apply(
        params: Any, state: Any, x: Any, *, train: bool = False, key: Any = None
    ) -> tuple[Any, Any]:
        _checks.check_key(key, optional=True)
        unknown = [name for name in (*params, *state) if name not in layers]
        if unknown:
            raise ValueError(
                f"parameters or state of an unknown layer {unknown[0]!r}; the layers are "
                f"{', '.join(layers)}"
            )
        new_state = {}
        for i, (name, layer) in enumerate(layers.items()):
            own_key = None if key is None or not layer.stochastic else jax.random.fold_in(key, i)
            with located(name):
                x, own_state = layer.apply(
                    params.get(name, {}), state.get(name, {}), x, train=train, key=own_key
                )
            if own_state:
                new_state[name] = own_state
        return x, new_state

    return Model(
        init,
        apply,
        "serial",
        layers=dict(layers),
        combine=_serial,
        stochastic=any(layer.stochastic for layer in layers.values()),
    )
