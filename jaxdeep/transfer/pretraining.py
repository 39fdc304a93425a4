"""Pretraining where labels are few: on inputs alone, layer by layer, or on another task first."""

from collections.abc import Iterator
from typing import Any, Unpack

import jax
import numpy as np
import optax

from jaxdeep import _checks, losses
from jaxdeep._arrays import as_array
from jaxdeep._compilation import check_untraced
from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.fitting.fit import fit
from jaxdeep.fitting.prediction import predict
from jaxdeep.nn import dense, dropout, flatten, serial
from jaxdeep.nn.model import Model, check_models
from jaxdeep.train.options import FitOptions, check_names, options_of, takes
from jaxdeep.transfer.reuse import chain_of, only, replace_head, with_parameters

Trained = tuple[PyTree, PyTree]  # parameters and state


def pretrain_layerwise(
    model: Model,
    x: ArrayLike,
    *,
    optimizer: optax.GradientTransformation,
    key: jax.Array | int,
    epochs: int = 10,
    batch_size: int = 32,
    noise: float = 0.25,
) -> Trained:
    """Parameters whose hidden layers have learned from inputs alone, one after another.

    Each hidden layer in turn, with what stands between it and the next one, is trained to let its input
    be made anew from its output by a linear layer, which is then thrown away: the mean squared error of
    ``decoder(layer(noise(h)))`` from h, where h is what the layers below, as they have been trained,
    put out. The last layer with parameters, the head, stays as it is drawn.

    It helps where labels are few and depth by itself does not train, as with sigmoids and plain SGD;
    rectified networks with batch norm or He's initialisation seldom gain by it
    (``benchmarks/results/pretraining.md``).

    Args:
      model: a `jaxdeep.nn.serial` with at least two layers that have parameters.
      x: inputs ``(rows, …)``, which need no labels.
      optimizer: any optax transformation, begun anew for each layer.
      key: draws the parameters, the orders and the noise; a random key or its seed.
      epochs: passes over `x` for each layer.
      batch_size: rows of a batch.
      noise: share of the numbers of h that are set to 0 (`jaxdeep.nn.dropout`), so that no layer learns
        to copy; 0 for none.

    Returns:
      Parameters and state of the model, for ``jaxdeep.fit(params=, state=)`` or
      `jaxdeep.transfer.pretrained`.

    Raises:
      TypeError: no `Model`, a key that is none. ValueError: layers that are not one after another, fewer
        than two with parameters, `noise` outside [0, 1), a batch larger than the data.

    Source: Bengio et al., "Greedy Layer-Wise Training of Deep Networks" (NIPS 2006); Vincent et al.,
    "Extracting and Composing Robust Features with Denoising Autoencoders" (ICML 2008).

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> model = jd.nn.serial(hidden=jd.nn.dense(4, activation=jax.nn.sigmoid), logits=jd.nn.dense(2))
    >>> x = jax.random.normal(jax.random.key(1), (64, 3))
    >>> params, state = pretrain_layerwise(model, x, optimizer=jd.optimizers.adam(0.01), key=0, epochs=2)
    >>> jax.tree.map(jnp.shape, params)
    {'hidden': {'bias': (4,), 'kernel': (3, 4)}, 'logits': {'bias': (2,), 'kernel': (4, 2)}}
    """
    check_models("pretrain_layerwise", {"model": model})
    check_untraced("pretrain_layerwise", x, key, instead="jaxdeep.train.make_run")
    key = _checks.as_key(key)
    _checks.check_number("noise", noise, "[0, 1)")
    layers = chain_of("pretrain_layerwise", model).layers
    h: Any = as_array("x", x)
    batch_size = _checks.check_count("batch_size", batch_size)
    if h.ndim < 2 or len(h) < batch_size:
        raise ValueError(
            f"x must have at least batch_size={batch_size} rows, got an array of shape {h.shape}"
        )
    params, state = model.init(key, h[:1])
    names = [name for name in with_parameters(layers, params) if _begins(layers[name])]
    if len(names) < 2:
        raise ValueError(
            "pretrain_layerwise needs a hidden layer with parameters below the head, got "
            f"{', '.join(names) or 'none'}"
        )
    groups = list(_groups(list(layers), names))
    for number, group in enumerate(groups):
        if not group:  # nothing stands in front of the first
            continue
        below = serial(**{name: layers[name] for name in group})
        trained: Trained = only(params, group), only(state, group)
        if number:  # group 0 is what stands in front of the first of them
            rows = np.asarray(h).reshape(len(h), -1)
            coder = serial(
                noise=dropout(noise), layer=below, flatten=flatten(), decoder=dense(rows.shape[1])
            )
            begun = coder.init(jax.random.fold_in(key, 2 * number), h[:1])
            result = fit(
                coder,
                (h, rows),
                loss=losses.mse,
                optimizer=optimizer,
                params={**begun[0], "layer": trained[0]},
                state={**begun[1], **({"layer": trained[1]} if trained[1] else {})},
                epochs=epochs,
                batch_size=batch_size,
                key=jax.random.fold_in(key, 2 * number + 1),
                progress=False,
            )
            trained = result.params["layer"], result.state.get("layer", {})
            params, state = params | trained[0], state | trained[1]
        if group is not groups[-1]:
            h = predict(below, *trained, h, batch_size=max(batch_size, _ROWS))
    return params, state


_ROWS = 1024  # that are predicted at once


def _begins(layer: Model) -> bool:
    """Whether a layer with parameters is one to pretrain: norms go with the one before them."""
    return layer.traits.linear is not None or bool(layer.layers)


def _groups(names: list[str], learned: list[str]) -> Iterator[list[str]]:
    """What stands before the first layer with parameters, then each of them with what follows it."""
    *hidden, head = (names.index(name) for name in learned)
    yield names[: hidden[0]]
    for begin, end in zip(hidden, [*hidden[1:], head]):
        yield names[begin:end]


_BEGUN = ("params", "state")  # which are those of the model under another head


@takes(FitOptions, but=_BEGUN)
def pretrain_on_task(
    model: Model,
    data: PyTree,
    *,
    head: Model,
    optimizer: optax.GradientTransformation,
    key: jax.Array | int,
    layer: str | None = None,
    **options: Unpack[FitOptions],
) -> Trained:
    """Parameters whose layers below the head have learned another task, of which there are labels.

    The network is trained on `data` under a head of that task, which is then thrown away; the model's
    own head is as it is drawn. The labels of an auxiliary task are cheap: a coarser class, how far an
    image was turned, which of two parts came first.

    Args:
      model: a `jaxdeep.nn.serial`.
      data: arrays ``(x, y)`` or ``(x, y, weights)`` of the auxiliary task.
      head: what takes the place of the model's head, any `Model`.
      optimizer: any optax transformation.
      key: draws the parameters and the orders; a random key or its seed.
      layer: name of the first layer that belongs to the head, if it is not the last with parameters.
      {options}

    Returns:
      Parameters and state of the model, for ``jaxdeep.fit(params=, state=)`` or
      `jaxdeep.transfer.pretrained`.

    Raises:
      TypeError: no `Model`, data that are no arrays, a key that is none. ValueError: what
        `jaxdeep.transfer.replace_head` and `jaxdeep.fit` refuse.

    Source: Géron, "Hands-On Machine Learning", chapter 11, "Pretraining on an Auxiliary Task".

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> model = jd.nn.serial(hidden=jd.nn.dense(4, activation=jax.nn.relu), logits=jd.nn.dense(10))
    >>> x = jax.random.normal(jax.random.key(1), (64, 3))
    >>> params, state = pretrain_on_task(
    ...     model, (x, (x[:, 0] > 0).astype(int)), head=jd.nn.dense(2), key=0, progress=False,
    ...     loss=jd.losses.softmax_cross_entropy, optimizer=jd.optimizers.adam(0.01))
    >>> params["hidden"]["kernel"].shape, params["logits"]["kernel"].shape
    ((3, 4), (4, 10))
    """
    check_models("pretrain_on_task", {"model": model, "head": head})
    check_untraced("pretrain_on_task", data, key, instead="jaxdeep.train.make_run")
    if not isinstance(data, (tuple, list)) or len(data) < 2:
        raise TypeError(f"data must be arrays (x, y) or (x, y, weights), got {type(data).__name__}")
    check_names("pretrain_on_task", options, [*set(options_of(FitOptions)) - {*_BEGUN}])
    key = _checks.as_key(key)
    example = jax.tree.map(lambda leaf: as_array("data[0]", leaf)[:1], data[0])
    params, state = model.init(key, example)
    drawn = jax.random.fold_in(key, 1)
    task, *begun = replace_head(model, params, state, head, example, key=drawn, layer=layer)
    chosen: FitOptions = {**options, "params": begun[0], "state": begun[1]}
    result = fit(task, data, optimizer=optimizer, key=jax.random.fold_in(key, 2), **chosen)
    names = list(chain_of("pretrain_on_task", model).layers)
    top = layer if layer is not None else with_parameters(names, params)[-1]
    below = names[: names.index(top)]
    return params | only(result.params, below), state | only(result.state, below)
