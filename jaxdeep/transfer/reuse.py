"""Layers of a trained network: taken, dropped, under a new head, or as where another begins."""

import dataclasses
import fnmatch
import glob
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves, leaves_of
from jaxdeep._shapes import Array, PyTree
from jaxdeep.nn import walk
from jaxdeep.nn.fits import check_fit, check_params
from jaxdeep.nn.graphs import leaves, rewired, up_to
from jaxdeep.nn.model import Model, Pair, check_models, lifting, located, under
from jaxdeep.nn.traits import Traits, Wires
from jaxdeep.optimizers import multiply
from jaxdeep.tree import Where, example_of, mask, path_name


def pretrained(model: Model, params: PyTree, state: PyTree, *, where: Where | None = None) -> Model:
    """The same model, whose `init` begins with given parameters and statistics where they fit.

    A leaf fits if one of the same path and shape is given; the others are drawn as ever. In
    `jaxdeep.fit` and `jaxdeep.sweep` it needs no ``params=``: every run, seed and row begins there.

    Args:
      model: any `Model`: layers of the same names as those of the network that was trained.
      params, state: what that network has learned.
      where: the parameters that must come from there (`jaxdeep.tree.mask`), and the statistics of the
        same names; by default all that fit.

    Raises:
      TypeError: not a `Model`; a leaf that is no array, such as None.
      ValueError: no parameters; from `init`, a leaf that `where` selects and that is not given or has
        another shape, or nothing that fits.

    Source: Yosinski et al., "How transferable are features in deep neural networks?" (arXiv:1411.1792).

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> a = jd.nn.serial(hidden=jd.nn.dense(3), logits=jd.nn.dense(10))
    >>> params_a, state_a = a.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> b = pretrained(jd.nn.serial(hidden=jd.nn.dense(3), logits=jd.nn.dense(1)), params_a, state_a)
    >>> params_b, _ = b.init(jax.random.key(1), jnp.ones((1, 2)))
    >>> params_b["hidden"]["kernel"] is params_a["hidden"]["kernel"], params_b["logits"]["kernel"].shape
    (True, (3, 1))
    """
    check_models("pretrained", {"model": model})
    params, state = leaves_of("params", params), leaves_of("state", state)
    for argument, tree in (("params", params), ("state", state)):
        _check_given(argument, tree)
    if not jax.tree.leaves(params):
        raise ValueError(f"params must hold the arrays that a network has learned, got {params!r}")

    def init(key: Array, x: PyTree) -> Pair:
        fresh, fresh_state = model.init(key, x)
        wanted = None if where is None else mask(fresh, where)
        new, count = _filled(fresh, params, wanted)
        if not count:
            raise ValueError(
                "pretrained: no parameter of the model has the path and shape of one that is given: "
                f"{_named(fresh)} here, {_named(params)} given"
            )
        chosen = None if where is None or not fresh_state else _loosely(fresh_state, where)
        return new, _filled(fresh_state, state, chosen, strict=False)[0]

    return dataclasses.replace(
        model,
        init=init,
        kind="pretrained",
        config={},
        layers={"": model},
        combine=lambda layers: layers[""],
        traits=Traits(joins="chain", only_init=True),
    )


def replace_head(
    model: Model,
    params: PyTree,
    state: PyTree,
    head: Model,
    x: PyTree,
    *,
    key: Array | int,
    layer: str | None = None,
) -> tuple[Model, PyTree, PyTree]:
    """The network with another head, freshly drawn, and everything below it as it was.

    The head is the last layer that has parameters, with whatever is behind it (a softmax, say); the new
    one takes its name, so that ``trainable="logits/*"`` trains the new head alone.

    Args:
      model: a `jaxdeep.nn.serial`, or a `jaxdeep.nn.graph` of one output.
      params, state: its parameters and state.
      head: the new head, any `Model`.
      x: an example input, ``x[:1]``, or its `jax.ShapeDtypeStruct`.
      key: draws the new head; a random key or its seed.
      layer: name of the first layer to go, if it is not the last with parameters.

    Returns:
      The model, its parameters and its state; those of other layers are the same arrays.

    Raises:
      TypeError: not a `Model`, a key that is not a random key. ValueError: a model whose layers are not
        one after another, parameters or a state that are not of the model, an unknown `layer`, a head
        that does not take what the layers below give.

    Source: Géron, "Hands-On Machine Learning", chapter 11, "Transfer Learning with Keras".

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> a = jd.nn.serial(hidden=jd.nn.dense(3, activation=jax.nn.relu), logits=jd.nn.dense(10))
    >>> x = jnp.ones((1, 2))
    >>> params, state = a.init(jax.random.key(0), x)
    >>> b, params_b, _ = replace_head(a, params, state, jd.nn.dense(1), x, key=jax.random.key(1))
    >>> list(b.layers), params_b["logits"]["kernel"].shape
    (['hidden', 'logits'], (3, 1))
    """
    check_models("replace_head", {"model": model, "head": head})
    key = _checks.as_key(key)
    x = leaves_of("x", x)
    check_leaves("x", x)
    chain = _layers("replace_head", model).layers
    names = list(chain)
    check_fit(model, params, state)
    if (wires := walk.unwrapped(model).traits.wires) is not None:
        return _graph_with_head(model, wires, params, state, head, x, key, layer)
    if layer is None:
        learned = with_parameters(names, params)
        if not learned:
            raise ValueError(
                "replace_head: no layer of the model has parameters; name the head by layer="
            )
        layer = learned[-1]
    if layer not in names:
        raise ValueError(f"layer={layer!r} is no layer; they are {', '.join(names)}")
    below = names[: names.index(layer)]
    layers = {name: chain[name] for name in below}
    new = _rebuilt(model, layers | {layer: head})
    lower_params, lower_state = (only(tree, below) for tree in (params, state))
    outputs = example_of(x)
    if below:
        lower = _rebuilt(model, layers)
        outputs, _ = jax.eval_shape(lower.apply, lower_params, lower_state, outputs)
    with located(layer):
        head_params, head_state = head.init(key, outputs)
        jax.eval_shape(head.apply, head_params, head_state, outputs)
    return new, lower_params | under(layer, head_params), lower_state | under(layer, head_state)


def take_layers(
    model: Model, params: PyTree, state: PyTree, layers: int | str | Sequence[str]
) -> tuple[Model, PyTree, PyTree]:
    """The network of some of the layers: the first few, or those named.

    More layers go on top with ``serial(**lower.layers, new=…)`` and `pretrained`.

    Args:
      model: a `jaxdeep.nn.serial`; or a `jaxdeep.nn.graph`, of which the layers must take nothing from
        others, and all but one be taken by another of them: that one gives the output.
      params, state: its parameters and state.
      layers: how many from the input on, or names, or globs over names (``"hidden*"``).

    Returns:
      The model, its parameters and its state; the arrays are the same.

    Raises:
      ValueError: a model whose layers are not one after another, parameters or a state that are not of
        the model, more layers than there are, an unknown name.

    Source: the reuse of lower layers, Géron, "Hands-On Machine Learning", chapter 11.

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> model = jd.nn.serial(hidden1=jd.nn.dense(3), hidden2=jd.nn.dense(4), logits=jd.nn.dense(10))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> lower, lower_params, _ = take_layers(model, params, state, "hidden*")
    >>> list(lower_params), lower.apply(lower_params, {}, jnp.ones((5, 2)))[0].shape
    (['hidden1', 'hidden2'], (5, 4))
    """
    check_models("take_layers", {"model": model})
    names = list(_layers("take_layers", model).layers)
    check_fit(model, params, state)
    return _with(model, params, state, _chosen(layers, names, "first"))


def drop_layers(
    model: Model, params: PyTree, state: PyTree, layers: int | str | Sequence[str]
) -> tuple[Model, PyTree, PyTree]:
    """The network without some of the layers: without the last few, or those named.

    Args:
      model: a `jaxdeep.nn.serial`.
      params, state: its parameters and state.
      layers: how many from the output down, or names, or globs over names.

    Returns:
      The model, its parameters and its state; the arrays are the same.

    Raises:
      ValueError: as `take_layers`.

    Source: as `take_layers`.

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> model = jd.nn.serial(hidden1=jd.nn.dense(3), hidden2=jd.nn.dense(4), logits=jd.nn.dense(10))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> list(drop_layers(model, params, state, 1)[1])
    ['hidden1', 'hidden2']
    """
    check_models("drop_layers", {"model": model})
    names = list(_layers("drop_layers", model).layers)
    check_fit(model, params, state)
    gone = _chosen(layers, names, "last")
    return _with(model, params, state, [name for name in names if name not in gone])


def layerwise_decay(model: Model, params: PyTree, decay: float) -> optax.GradientTransformation:
    """Learning rates that fall with depth: updates of the layer k below the last times ``decay**k``.

    At the end of an optimizer's chain: lower layers, which know more general things, change less. Only
    layers with parameters count.

    Args:
      model: a `Model` whose layers are known, in their order from the input.
      params: its parameters.
      decay: the factor from one layer to the one below, in (0, 1].

    Returns:
      An optax transformation, a chain of `jaxdeep.optimizers.multiply`; of a single layer updates stay
      as they are.

    Raises:
      ValueError: a decay outside (0, 1], a model whose layers are not known, parameters of other
        layers, or of other names or shapes than a layer's (by their path).

    Source: discriminative fine-tuning, Howard & Ruder (arXiv:1801.06146), section 3.2.

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> model = jd.nn.serial(
    ...     hidden=jd.nn.dense(1, use_bias=False), logits=jd.nn.dense(1, use_bias=False))
    >>> params, _ = model.init(jax.random.key(0), jnp.ones((1, 1)))
    >>> tx = optax.chain(jd.optimizers.sgd(1.0), layerwise_decay(model, params, 0.5))
    >>> updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    >>> updates["hidden"]["kernel"].tolist(), updates["logits"]["kernel"].tolist()
    ([[-0.5]], [[-1.0]])
    """
    check_models("layerwise_decay", {"model": model})
    _checks.check_scalar("decay", decay, "(0, 1]")
    layers = chain_of("layerwise_decay", model).layers
    if not isinstance(params, Mapping) or not set(params) <= set(layers):
        odd = sorted(set(params) - set(layers)) if isinstance(params, Mapping) else type(params)
        raise ValueError(
            f"params hold {odd}, which is of no layer of the model; they are {', '.join(layers)}"
        )
    check_params(model, params)
    names = with_parameters(layers, params)
    depths = [(name, k) for k, name in enumerate(reversed(names)) if k]
    if not depths:
        return optax.identity()
    # Globs, and no functions of a path, so that the optimizer can be saved.
    return optax.chain(*(multiply(decay**k, where=f"{glob.escape(name)}/*") for name, k in depths))


# --- what they share ------------------------------------------------------------------------------


def chain_of(caller: str, model: Model) -> Model:
    """The serial model itself, or the one inside a wrapper such as `mixed_precision`."""
    inside = walk.unwrapped(model)
    if inside.traits.joins != "chain":
        raise ValueError(
            f"{caller} needs layers one after another (jaxdeep.nn.serial), got {inside.kind}"
            f"{lifting(inside)}"
        )
    return inside


def _layers(caller: str, model: Model) -> Model:
    """The graph itself, or else the serial model."""
    inside = walk.unwrapped(model)
    return inside if inside.traits.wires is not None else chain_of(caller, model)


def _graph_with_head(
    model: Model,
    wires: Wires,
    params: PyTree,
    state: PyTree,
    head: Model,
    x: PyTree,
    key: Array,
    layer: str | None,
) -> tuple[Model, PyTree, PyTree]:
    """The graph up to what its head takes, and another head there."""
    layers = walk.unwrapped(model).layers
    if layer is not None and layer not in layers:
        raise ValueError(f"layer={layer!r} is no layer; they are {', '.join(layers)}")
    here = wires.outputs
    while isinstance(here, str) and here in wires.calls:
        name, taken = wires.calls[here]
        if name == layer or (layer is None and name in with_parameters(layers, params)):
            break
        here = taken
    else:
        which = "with parameters" if layer is None else repr(layer)
        raise ValueError(
            f"replace_head: no layer {which} leads to the one output of the graph alone; its calls are "
            f"{wires.calls}, its outputs {wires.outputs!r}"
        )
    below = up_to(wires, taken)
    if name in below.layers:
        raise ValueError(f"replace_head: the head {name!r} is called further below, too")
    kept = list(dict.fromkeys(below.layers))
    lower_params, lower_state = (only(tree, kept) for tree in (params, state))
    outputs = example_of(x)
    if below.calls:
        lower = walk.rewrapped(model, rewired(below, layers))
        outputs, _ = jax.eval_shape(lower.apply, lower_params, lower_state, outputs)
    with located(name):
        head_params, head_state = head.init(key, outputs)
        jax.eval_shape(head.apply, head_params, head_state, outputs)
    whole = Wires({**below.calls, here: (name, taken)}, here, wires.inputs)
    new = walk.rewrapped(model, rewired(whole, {**layers, name: head}))
    return new, lower_params | under(name, head_params), lower_state | under(name, head_state)


def _of_graph(wires: Wires, names: Sequence[str]) -> Wires:
    """The wires of some layers of a graph."""
    calls = {out: call for out, call in wires.calls.items() if call[0] in names}
    there = {*calls, *leaves(wires.inputs)}
    used = {out for _, taken in calls.values() for out in leaves(taken)}
    if lacking := sorted(used - there):
        raise ValueError(f"layers={list(names)} take {lacking}, which other layers of the graph give")
    if len(ends := [out for out in calls if out not in used]) != 1:
        raise ValueError(f"layers={list(names)} must end in one output, and they end in {ends}")
    return Wires(calls, ends[0], wires.inputs)


def _rebuilt(model: Model, layers: dict[str, Model]) -> Model:
    """The serial model with other layers, in its wrappers."""
    return walk.rewrapped(model, walk.combined(walk.unwrapped(model), layers))


def _with(
    model: Model, params: PyTree, state: PyTree, names: Sequence[str]
) -> tuple[Model, PyTree, PyTree]:
    layers = _layers("", model).layers
    kept = {name: layers[name] for name in names}
    if (wires := walk.unwrapped(model).traits.wires) is not None:
        lower = walk.rewrapped(model, rewired(_of_graph(wires, names), kept))
    else:
        lower = _rebuilt(model, kept)
    return lower, only(params, names), only(state, names)


def only(tree: PyTree, names: Sequence[str]) -> PyTree:
    """The parts of a tree that belong to these layers."""
    return {name: tree[name] for name in names if name in tree}


def _chosen(layers: Any, names: list[str], which: str) -> list[str]:
    """Names of layers, from a count, a name, or globs."""
    if isinstance(layers, (str, list, tuple)):
        matched: set[str] = set()
        for wanted in [layers] if isinstance(layers, str) else layers:
            matches = [name for name in names if fnmatch.fnmatchcase(name, wanted)]
            if not matches:
                raise ValueError(f"layers={wanted!r} is no layer; they are {', '.join(names)}")
            matched.update(matches)
        return [name for name in names if name in matched]
    layers = _checks.check_count("layers", layers)
    if layers > len(names):
        raise ValueError(f"layers={layers}: the {which} {layers} of {len(names)} ({', '.join(names)})")
    return names[:layers] if which == "first" else names[len(names) - layers :]


def with_parameters(names: Iterable[str], params: PyTree) -> list[str]:
    """Those of the layers that have parameters."""
    return [name for name in names if jax.tree.leaves(params.get(name, {}))]


def _check_given(name: str, tree: PyTree) -> None:
    """Refuse what is no array, and None in the place of one.

    A module of another library may have None where it has nothing to learn; a dict has no such place.
    """
    if tree is None:
        raise TypeError(f"{name} must be what a network has learned, got None")
    check_leaves(name, tree, real=False)
    flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: node is None)
    for path, leaf in flat:
        of_dicts = all(isinstance(part, jax.tree_util.DictKey) for part in path)
        if (leaf is None and of_dicts) or (leaf is not None and not hasattr(leaf, "shape")):
            place = f"{name}: {path_name(path)}" if path else name
            raise TypeError(f"{place} must be an array, got {leaf!r}")


def _filled(
    fresh: PyTree, learned: PyTree, wanted: PyTree, *, strict: bool = True
) -> tuple[PyTree, int]:
    """A tree with the leaves that are given in place of its own, and how many there were."""
    known = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(learned)}
    flat, structure = jax.tree_util.tree_flatten_with_path(fresh)
    choices = [None] * len(flat) if wanted is None else jax.tree.leaves(wanted)
    leaves, count = [], 0
    for (path, leaf), choice in zip(flat, choices):
        name = path_name(path)
        old = known.get(name)
        fits = old is not None and old.shape == leaf.shape
        if choice and strict and not fits:
            has = "is not given" if old is None else f"is given with shape {old.shape}"
            raise ValueError(f"pretrained: {name}, {leaf.shape} in the model, {has}")
        if old is None or not fits or choice is False:
            leaves.append(leaf)
            continue
        if np.iscomplexobj(old) and not np.iscomplexobj(leaf):
            raise TypeError(f"params or state: {name} is complex, and real in the model")
        leaves.append(old if old.dtype == leaf.dtype else old.astype(leaf.dtype))
        count += 1
    return jax.tree.unflatten(structure, leaves), count


def _loosely(tree: PyTree, where: Where) -> PyTree:
    """What `where` selects of the statistics, if anything."""
    try:
        return mask(tree, where)
    except ValueError:
        return jax.tree.map(lambda _: False, tree)


def _named(tree: PyTree) -> str:
    flat = jax.tree_util.tree_leaves_with_path(tree)
    shown = ", ".join(f"{path_name(path)} {leaf.shape}" for path, leaf in flat[:4])
    return shown + (" …" if len(flat) > 4 else "")
