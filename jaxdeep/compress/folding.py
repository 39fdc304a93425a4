"""Batch norms folded into the layers beside them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._shapes import PyTree
from jaxdeep.compress.affine import (
    Affine,
    Refused,
    Values,
    always,
    check_bends,
    of_norm,
    passed,
    stacked,
    vector,
    wide,
)
from jaxdeep.nn import walk
from jaxdeep.nn.combinators import serial
from jaxdeep.nn.fits import check_fit
from jaxdeep.nn.graphs import bridged, rewired, runs
from jaxdeep.nn.layer import remake
from jaxdeep.nn.model import Model, check_models, lifting
from jaxdeep.nn.traits import same_axes


def fold_batch_norm(
    model: Model, params: PyTree, state: PyTree, *, partial: bool = False
) -> tuple[Model, PyTree, PyTree]:
    """The same function at inference without batch norms: they become part of the layers beside them.

    With ``k = scale / √(var + epsilon)`` a batch norm behind a dense layer or a convolution becomes
    ``kernel · k``, ``(bias − mean) · k + shift``; one in front of it becomes ``k · kernel``,
    ``bias + (shift − mean · k) @ kernel``. A layer without a bias gets one; an embedding takes it into
    its table. It goes on through flatten, reshape and pooling, and into every branch of a `parallel`
    or `concatenate`, wherever the result is the same for every input and every key:

    * through a maximum if all ``k ≥ 0``, and through ReLU or leaky ReLU if there is no shift besides;
    * through dropout, and into a convolution in front of which zeros are padded, if there is no shift.

    These are decided from the values.

    The result is for inference, with or without a key (the same masks for the same key: in front of a
    random layer an empty `serial` keeps the place); with ``train=True`` it is another model. Parameters
    keep their dtype; the arithmetic is done on the host in float64, or in float32 and wider under
    `jax.jit`, where it works as far as nothing has to be decided from values.

    Args:
      model: any `Model`; batch norms are found at any depth of combinators, in loops of `repeat` too.
      params, state: its parameters and state.
      partial: leave in place what cannot be folded.

    Returns:
      The model, parameters and state without batch norms; other layers keep their names.

    Raises:
      ValueError: batch norms that cannot be folded, and why; statistics inside an adapted module;
        parameters or a state that are not of the model.
      TypeError: not a `Model`.

    Source: Jacob et al., "Quantization and Training of Neural Networks" (arXiv:1712.05877), section 3.2.

    >>> import jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = jd.nn.serial(hidden=jd.nn.dense(4, use_bias=False), bn=jd.nn.batch_norm(),
    ...                      act=jd.nn.activation(jax.nn.relu), out=jd.nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> folded, fparams, fstate = fold_batch_norm(model, params, state)
    >>> list(folded.layers), fstate, jd.tree.leaf_paths(fparams)
    (['hidden', 'act', 'out'], {}, ['hidden/bias', 'hidden/kernel', 'out/bias', 'out/kernel'])
    """
    check_models("fold_batch_norm", {"model": model})
    _checks.check_flag("partial", partial)
    check_fit(model, params, state)
    folded, reasons = _folded(Part((), model, params, state), 0, None)
    if reasons and not partial:
        listed = "; ".join(f"{path or 'the model'}: {reason}" for path, reason in reasons.items())
        raise ValueError(f"fold_batch_norm cannot fold {listed}. partial=True leaves it in place")
    return folded.layer, folded.params, folded.state


class Part(NamedTuple):
    """A layer of a chain, with its own parameters and state, and the names that lead to it."""

    names: tuple[str, ...]
    layer: Model
    params: PyTree
    state: PyTree

    @property
    def path(self) -> str:
        """Where it is in the model; what wraps a model whole has no name of its own."""
        return "/".join(name for name in self.names if name)

    def inside(self, place: walk.Place) -> "Part":
        """A part of it, found by a walk through it."""
        params, state = (walk.at(tree, place.keys) for tree in (self.params, self.state))
        return Part((*self.names, *place.names), place.layer, params, state)


Chain = list[Part]
Reasons = dict[str, str]


def _folded(whole: Part, stack: int, rank: int | None) -> tuple[Part, Reasons]:
    """One part folded inside. `rank` is the number of axes of its input, None if not known."""
    chain, reasons = _reduced(_links(whole), stack, rank)
    return _joined(whole, chain), reasons


def _reduced(links: Chain, stack: int, rank: int | None) -> tuple[Chain, Reasons]:
    """Layers one after another, folded inside and into each other."""
    chain: Chain = []
    reasons = Reasons()
    for link in links:
        part, part_reasons = _inside(link, stack, _rank(chain, stack, rank))
        chain.append(part)
        reasons |= part_reasons
    going = True
    while going:
        going, left = False, Reasons()
        for norm in [part for part in chain if part.layer.traits.norm is not None]:
            i = [part.names for part in chain].index(norm.names)
            try:
                chain = _without(chain, i, stack, rank)
                going = True
            except Refused as refused:
                left[norm.path] = str(refused)
    return chain, reasons | left


def _graph(whole: Part, stack: int, rank: int | None) -> tuple[Part, Reasons]:
    """A graph folded along each of its chains."""
    wires, around = whole.layer.traits.wires, walk.Place(whole.layer)
    assert wires is not None
    parts, reasons, gone = dict[str, Part](), Reasons(), set[str]()
    for names in runs(wires):
        links = {name: whole.inside(around.below(name)) for name in names}
        first = (names[0], wires.inputs) in wires.calls.values()
        chain = [link for part in links.values() for link in _links(part)]
        chain, chain_reasons = _reduced(chain, stack, rank if first else None)
        reasons |= chain_reasons
        for name, part in links.items():
            parts[name] = _joined(part, chain)
            if part.layer.traits.norm is not None and parts[name].layer.kind == "serial":
                gone.add(name)
    layers = whole.layer.layers
    for i, name in enumerate(wires.layers):  # a call draws from its position
        if any(layers[behind].stochastic for behind in wires.layers[i:]):
            gone.discard(name)
    kept = [parts[name] for name in layers if name not in gone]
    if gone:
        inside = {part.names[-1]: part.layer for part in kept}
        whole = whole._replace(layer=rewired(bridged(wires, gone), inside))
    return _made(whole, kept), reasons


def _links(part: Part) -> Chain:
    """The layers that run one after another, through any nesting."""
    return [part.inside(place) for place in walk.leaves(part.layer, walk.chained)]


def _parts(whole: Part) -> Chain:
    """The layers of a combinator."""
    around = walk.Place(whole.layer)
    return [whole.inside(around.below(name)) for name in whole.layer.layers]


def _joined(whole: Part, chain: Chain) -> Part:
    """A part of its links: a layer that is gone leaves an empty `serial` where its place is needed."""
    links = {part.names: part for part in chain}

    def join(place: walk.Place, layers: dict[str, Part | None]) -> Part | None:
        part = whole.inside(place)
        if not walk.chained(place.layer):
            return links.get(part.names)
        kept = []
        for i, (name, link) in enumerate(layers.items()):
            # a layer draws from its position: random ones behind must stay where they are
            behind = list(layers.values())[i + 1 :]
            random = any(p is not None and p.layer.stochastic for p in behind)
            if link is not None:
                kept.append(link)
            elif random or walk.is_wrapper(place.layer):
                kept.append(_emptied((*part.names, name)))
        return _made(part, kept)

    return walk.fold(whole.layer, join, walk.chained) or _emptied(whole.names)


def _emptied(names: tuple[str, ...]) -> Part:
    return Part(names, serial(), {}, {})


def _made(whole: Part, parts: Chain) -> Part:
    """A combinator with other layers, in the same order."""
    layer = walk.combined(whole.layer, {part.names[-1]: part.layer for part in parts})
    params: PyTree = {}
    state: PyTree = {}
    for part in parts:
        keys = tuple(name for name in part.names[-1:] if name)
        params = walk.put(params, keys, part.params)
        state = walk.put(state, keys, part.state)
    return Part(whole.names, layer, params, state)


def _inside(part: Part, stack: int, rank: int | None) -> tuple[Part, Reasons]:
    """A link of a chain folded inside."""
    traits = part.layer.traits
    if traits.norm is not None:
        return part, {}
    if not walk.known(part.layer):
        adapted = part.layer.inside is not None and bool(jax.tree.leaves(part.state))
        if adapted or _hidden_statistics(part.state):
            reason = (
                f"{part.layer.kind} keeps statistics of its own, inside of which jaxdeep cannot look"
                f"{lifting(part.layer)}"
            )
            return part, {part.path: reason}
        return part, {}
    if traits.wires is not None:
        return _graph(part, stack, rank)
    if traits.reuses and traits.times is None:  # several inputs
        rank = None
    folded = [_folded(p, stack + traits.stacked, rank) for p in _parts(part)]
    return _made(part, [p for p, _ in folded]), {k: v for _, r in folded for k, v in r.items()}


def _hidden_statistics(state: PyTree) -> bool:
    if not isinstance(state, Mapping):
        return False
    hidden = {"mean", "var"} <= set(state) or {"moving_mean", "moving_variance"} <= set(state)
    return hidden or any(_hidden_statistics(tree) for tree in state.values())


# --- one batch norm ------------------------------------------------------------------------------------


def _without(chain: Chain, i: int, stack: int, rank: int | None) -> Chain:
    """The chain without the batch norm at `i`, or `Refused`."""
    norm = chain[i]
    ahead = _rank(chain[:i], stack, rank) or _rank_behind(chain[i + 1 :], stack)
    assert norm.layer.traits.norm is not None
    a = of_norm(norm.layer.traits.norm, norm.params, norm.state, ahead, stack)
    try:
        return _absorbed(chain[:i], a, backwards=True) + chain[i + 1 :]
    except Refused as refused:
        before = str(refused)
    try:
        return chain[:i] + _absorbed(chain[i + 1 :], a, backwards=False)
    except Refused as refused:
        raise Refused(f"not into what is before it ({before}), nor behind it ({refused})") from None


def _absorbed(chain: Chain, a: Affine, *, backwards: bool) -> Chain:
    """A chain that equals `chain` with `a` behind it, if `backwards`, or else in front of it."""
    take_in = _with_behind if backwards else _with_before
    places = range(len(chain))
    for i in reversed(places) if backwards else places:
        with Refused.by(chain[i].path):
            with_it = take_in(chain[i], a)
            if with_it is not None:
                return [*chain[:i], with_it, *chain[i + 1 :]]
            a = passed(a, chain[i].layer, backwards=backwards)
    raise Refused("there is no layer to take it")


def _branch(part: Part, a: Affine, *, backwards: bool) -> Part:
    """One layer of a combinator, with `a` behind it or in front of it."""
    return _joined(part, _absorbed(_links(part), a, backwards=backwards))


def _with_behind(part: Part, a: Affine) -> Part | None:
    """The part with `a` behind it, None if it is not one that can take it in."""
    traits = part.layer.traits
    if traits.linear is not None and traits.linear.looks_up:
        table = part.params[traits.linear.weights]
        scale, shift = (v[..., None, :] for v in vector(a, table.shape[-1]))
        return part._replace(params={traits.linear.weights: _like(table, wide(table) * scale + shift)})
    if traits.linear is not None:
        if traits.function is not None:
            check_bends(traits.function, a)
        scale, shift = vector(a, part.params[traits.linear.weights].shape[-1])
        return _affine_layer(part, a.stack, lambda w, b, k, c: (w * k, b * k + c), scale, shift)
    if traits.joins == "sum":  # k · (layer + shortcut) + c
        if len(part.layer.layers) == 1:
            raise Refused("its input goes around the layer, unscaled")
        shares = [a, a._replace(shift=0 * a.shift)]
    elif traits.joins == "concatenate":
        shares = _shares(part, a)
    else:
        return None
    return _made(part, [_branch(p, share, backwards=True) for p, share in zip(_parts(part), shares)])


def _with_before(part: Part, a: Affine) -> Part | None:
    """The part with `a` in front of it, None if it is not one that can take it in."""
    traits = part.layer.traits
    if traits.linear is not None and not traits.linear.looks_up:
        return _before_linear(part, a)
    if traits.joins == "sum" and len(part.layer.layers) == 1:
        raise Refused("its input also goes around the layer")
    if traits.joins in ("sum", "collect", "concatenate"):
        return _made(part, [_branch(p, a, backwards=False) for p in _parts(part)])
    return None


def _shares(part: Part, a: Affine) -> list[Affine]:
    """Of what is behind a concatenation, the part for each of its branches."""
    if part.layer.traits.join_axis != -1:
        raise Refused("outputs are joined along another axis than the last")
    widths = [width for p in _parts(part) if (width := _width(p)) is not None]
    if len(widths) < len(part.layer.layers):
        raise Refused("the widths of its branches are not known")
    scale, shift = vector(a, sum(widths))
    ends = np.cumsum(widths)
    pieces = [slice(end - width, end) for end, width in zip(ends, widths)]
    return [Affine(scale[..., piece], shift[..., piece], a.stack, "before") for piece in pieces]


def _width(branch: Part) -> int | None:
    """Features in the last axis of what a branch puts out."""
    for part in reversed(_links(branch)):
        linear = part.layer.traits.linear
        if linear is not None and not linear.looks_up:
            return int(part.params[linear.weights].shape[-1])
        if part.layer.traits.axes is not same_axes:
            return None
    return None


# --- arithmetic ----------------------------------------------------------------------------------------

Formula = Callable[[Values, Values, Values, Values], tuple[Values, Values]]


def _affine_layer(part: Part, stack: int, formula: Formula, scale: Values, shift: Values) -> Part:
    """A dense layer or convolution with ``formula(kernel, bias, scale, shift)`` as kernel and bias."""
    layer, linear = part.layer, part.layer.traits.linear
    assert linear is not None
    kernel = part.params[linear.weights]
    none = np.zeros((*kernel.shape[:stack], kernel.shape[-1]), kernel.dtype)
    bias = part.params.get("bias", none)
    new = stacked(formula, stack)(wide(kernel), wide(bias), scale, shift)
    params = {linear.weights: _like(kernel, new[0]), "bias": _like(bias, new[1])}
    if "bias" not in part.params:
        layer = remake(layer, use_bias=True)
    return part._replace(layer=layer, params=params)


def _in_front(w: Values, b: Values, k: Values, c: Values) -> tuple[Values, Values]:
    """Of a kernel ``(*taps, inputs, outputs)``, scale and shift being ``(inputs, outputs)``."""
    return w * k, b + (w * c).sum(axis=tuple(range(w.ndim - 1)))


def _before_linear(part: Part, a: Affine) -> Part:
    linear = part.layer.traits.linear
    assert linear is not None
    kernel, groups = part.params[linear.weights], linear.groups
    scale, shift = vector(a, kernel.shape[-2] * groups)
    if linear.pads and not always(shift, np.equal):
        raise Refused("zeros are padded in front of the convolution, which a shift would have to change")

    def by_output(v: Values) -> Values:  # each output sees the inputs of its group
        return v.reshape(groups, -1).T.repeat(kernel.shape[-1] // groups, axis=1)

    spread = stacked(by_output, a.stack)
    return _affine_layer(part, a.stack, _in_front, spread(scale), spread(shift))


def _like(old: Values, new: Values) -> jax.Array:
    with np.errstate(over="ignore"):
        rounded = new.astype(old.dtype)
    if isinstance(new, np.ndarray) and (lost := np.isfinite(new) & ~np.isfinite(rounded)).any():
        raise Refused(f"{old.dtype} has no numbers as large as the weights, {abs(new[lost]).max():.4g}")
    return jnp.asarray(rounded)


# --- how many axes -------------------------------------------------------------------------------------


def _rank(chain: Chain, stack: int, rank: int | None) -> int | None:
    """Number of axes behind a chain, from that in front of it; None if not known."""
    for part in chain:
        traits = part.layer.traits
        if (part_rank := _rank_of(part, stack)) is not None:
            rank = part_rank
        elif traits.joins in ("sum", "concatenate") or traits.times is not None:
            rank = _rank(_links(_parts(part)[0]), stack + traits.stacked, rank)
        else:
            rank = traits.axes(rank)
    return rank


def _rank_behind(chain: Chain, stack: int) -> int | None:
    """Number of axes in front of a chain, from the first convolution in it."""
    for part in chain:
        if (part_rank := _rank_of(part, stack)) is not None:
            return part_rank
        if part.layer.traits.axes is not same_axes:
            return None
    return None


def _rank_of(part: Part, stack: int) -> int | None:
    """Number of axes of the input and output of a convolution."""
    linear = part.layer.traits.linear
    if linear is None or linear.looks_up:
        return None
    axes = len(part.params[linear.weights].shape) - stack
    return axes if axes > 2 else None
