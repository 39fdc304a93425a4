"""Batch norms folded into the layers beside them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep.compress.affine import (
    Affine,
    Refused,
    always,
    check_bends,
    of_batch_norm,
    passed,
    stacked,
    vector,
    wide,
)
from jaxdeep.compress.parts import deeper, inner, outer, own, path_of
from jaxdeep.nn.combinators import serial
from jaxdeep.nn.conv import conv
from jaxdeep.nn.linear import dense
from jaxdeep.nn.model import Model, check_models

PyTree = Any


def fold_batch_norm(
    model: Model, params: PyTree, state: PyTree, *, partial: bool = False
) -> tuple[Model, PyTree, PyTree]:
    """The same function at inference without batch norms: they become part of the layers beside them.

    With ``k = scale / √(var + epsilon)`` a batch norm behind a dense layer or a convolution becomes
    ``kernel · k``, ``(bias − mean) · k + shift``; one in front of it becomes ``k · kernel``,
    ``bias + (shift − mean · k) @ kernel``. A layer without a bias gets one; an embedding takes it into
    its table. It goes on through flatten, reshape and pooling, and into every branch of a `parallel`
    or `concatenate`, wherever the result is the same for every input and every key:

    * through ReLU, leaky ReLU and a maximum if all ``k ≥ 0``, through the former and dropout if there is
      no shift besides: this is decided from the values;
    * into a convolution in front of which zeros are padded only if there is no shift.

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
      ValueError: batch norms that cannot be folded, and why; statistics inside an adapted module.
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
    found, reasons = _folded(Part((), model, params, state), 0, None)
    if reasons and not partial:
        listed = "; ".join(f"{path or 'the model'}: {reason}" for path, reason in reasons.items())
        raise ValueError(f"fold_batch_norm cannot fold {listed}. partial=True leaves it in place")
    return found.layer, found.params, found.state


class Part(NamedTuple):
    """A layer of a chain, with its own parameters and state, and the names that lead to it."""

    path: tuple[str, ...]
    layer: Model
    params: Any
    state: Any


Chain = list[Part]
Reasons = dict[str, str]


def _folded(whole: Part, stack: int, rank: int | None) -> tuple[Part, Reasons]:
    """One part folded inside. `rank` is the number of axes of its input, None if not known."""
    chain: Chain = []
    reasons = Reasons()
    for link in _links(whole):
        part, found = _inside(link, stack, _rank(chain, stack, rank))
        chain.append(part)
        reasons |= found
    going = True
    while going:
        going, left = False, Reasons()
        for path in [part.path for part in chain if part.layer.kind == "batch_norm"]:
            i = [part.path for part in chain].index(path)
            try:
                chain = _without(chain, i, stack, rank)
                going = True
            except Refused as refused:
                left[path_of(path)] = str(refused)
    return _joined(whole, {part.path: part for part in chain}) or _emptied(whole), reasons | left


def _links(part: Part) -> Chain:
    """The layers that run one after another, through any nesting."""
    if part.layer.kind not in ("serial", "mixed_precision"):
        return [part]
    return [link for p in _parts(part) for link in _links(p)]


def _parts(whole: Part) -> Chain:
    """The layers of a combinator."""
    return [
        Part((*whole.path, name), layer, own(whole.params, name), own(whole.state, name))
        for name, layer in whole.layer.layers.items()
    ]


def _joined(whole: Part, chain: Mapping[tuple[str, ...], Part]) -> Part | None:
    """A part of its links; None if it is gone."""
    if whole.layer.kind not in ("serial", "mixed_precision"):
        return chain.get(whole.path)
    old = _parts(whole)
    new = [_joined(part, chain) for part in old]
    kept = []
    for i, (before, after) in enumerate(zip(old, new)):
        # a layer draws from its position: random ones behind must stay where they are
        random = any(p is not None and p.layer.stochastic for p in new[i + 1 :])
        if after is not None:
            kept.append(after)
        elif random or whole.layer.kind == "mixed_precision":
            kept.append(_emptied(before))
    return _made(whole, kept)


def _emptied(part: Part) -> Part:
    return part._replace(layer=serial(), params={}, state={})


def _made(whole: Part, parts: Chain) -> Part:
    """A combinator with other layers, in the same order."""
    layers = {part.path[-1]: part.layer for part in parts}
    if whole.layer.combine is not None and layers != whole.layer.layers:
        whole = whole._replace(layer=whole.layer.combine(layers))
    params = {name: tree for p in parts for name, tree in outer(p.path[-1], p.params).items()}
    state = {name: tree for p in parts for name, tree in outer(p.path[-1], p.state).items()}
    return whole._replace(params=params, state=state)


def _inside(part: Part, stack: int, rank: int | None) -> tuple[Part, Reasons]:
    """A link of a chain folded inside."""
    if part.layer.kind == "batch_norm":
        return part, {}
    if not inner(part.layer):
        if _hidden_statistics(part.state):
            reason = (
                f"{part.layer.kind} keeps statistics of its own, inside of which jaxdeep cannot look"
            )
            return part, {path_of(part.path): reason}
        return part, {}
    rank = None if part.layer.kind == "shared" else rank
    found = [_folded(p, deeper(part.layer, stack), rank) for p in _parts(part)]
    return _made(part, [p for p, _ in found]), {k: v for _, r in found for k, v in r.items()}


def _hidden_statistics(state: PyTree) -> bool:
    if not isinstance(state, Mapping):
        return False
    return {"mean", "var"} <= set(state) or any(_hidden_statistics(tree) for tree in state.values())


# --- one batch norm ------------------------------------------------------------------------------------


def _without(chain: Chain, i: int, stack: int, rank: int | None) -> Chain:
    """The chain without the batch norm at `i`, or `Refused`."""
    norm = chain[i]
    ahead = _rank(chain[:i], stack, rank) or _rank_behind(chain[i + 1 :], stack)
    a = of_batch_norm(norm.layer.config, norm.params, norm.state, ahead, stack)
    try:
        return _pull(chain[:i], a, stack) + chain[i + 1 :]
    except Refused as refused:
        before = str(refused)
    try:
        return chain[:i] + _push(chain[i + 1 :], a, stack)
    except Refused as refused:
        raise Refused(f"not into what is before it ({before}), nor behind it ({refused})") from None


def _pull(chain: Chain, a: Affine, stack: int) -> Chain:
    """A chain that equals ``a`` behind `chain`."""
    for i in range(len(chain) - 1, -1, -1):
        part = chain[i]
        with_it = _absorbed_behind(part, a, stack)
        if with_it is not None:
            return [*chain[:i], with_it, *chain[i + 1 :]]
        a = _through(part, a, backwards=True)
    raise Refused("there is no layer to take it")


def _push(chain: Chain, a: Affine, stack: int) -> Chain:
    """A chain that equals ``a`` in front of `chain`."""
    for i, part in enumerate(chain):
        with_it = _absorbed_before(part, a, stack)
        if with_it is not None:
            return [*chain[:i], with_it, *chain[i + 1 :]]
        a = _through(part, a, backwards=False)
    raise Refused("there is no layer to take it")


def _through(part: Part, a: Affine, *, backwards: bool) -> Affine:
    with Refused.by(path_of(part.path)):
        return passed(a, part.layer, backwards=backwards)


def _absorbed_behind(part: Part, a: Affine, stack: int) -> Part | None:
    """The part with `a` behind it, None if it is not one that can take it in."""
    with Refused.by(path_of(part.path)):
        match part.layer.kind:
            case "dense" | "conv":
                if (function := part.layer.config.get("activation")) is not None:
                    check_bends(function, a)
                scale, shift = vector(a, part.params["kernel"].shape[-1])
                return _affine_layer(part, stack, lambda w, b, k, c: (w * k, b * k + c), scale, shift)
            case "embedding":
                table = part.params["table"]
                scale, shift = (v[..., None, :] for v in vector(a, table.shape[-1]))
                return part._replace(params={"table": _like(table, wide(table) * scale + shift)})
            case "residual":
                return _made(part, _both_ways(part, a, stack))
            case "concatenate":
                return _made(part, _split(part, a, stack))
    return None


def _absorbed_before(part: Part, a: Affine, stack: int) -> Part | None:
    """The part with `a` in front of it, None if it is not one that can take it in."""
    with Refused.by(path_of(part.path)):
        match part.layer.kind:
            case "dense":
                scale, shift = vector(a, part.params["kernel"].shape[-2])
                return _affine_layer(part, stack, _in_front, scale, shift)
            case "conv":
                return _before_convolution(part, a, stack)
            case "residual" if "shortcut" not in part.layer.layers:
                raise Refused("its input also goes around the layer")
            case "residual" | "parallel" | "concatenate":
                branches = [_joined_chain(p, _push(_links(p), a, stack)) for p in _parts(part)]
                return _made(part, branches)
    return None


def _joined_chain(whole: Part, chain: Chain) -> Part:
    return _joined(whole, {part.path: part for part in chain}) or _emptied(whole)


def _both_ways(part: Part, a: Affine, stack: int) -> Chain:
    """``k · (layer + shortcut) + c``."""
    if "shortcut" not in part.layer.layers:
        raise Refused("its input goes around the layer, unscaled")
    scaling = a._replace(shift=0 * a.shift)
    return [
        _joined_chain(p, _pull(_links(p), each, stack)) for p, each in zip(_parts(part), (a, scaling))
    ]


def _split(part: Part, a: Affine, stack: int) -> Chain:
    """Of what is behind a concatenation, its share for each branch."""
    if part.layer.config.get("axis", -1) != -1:
        raise Refused("outputs are joined along another axis than the last")
    branches = _parts(part)
    widths = [_width(p) for p in branches]
    if None in widths:
        raise Refused("the widths of its branches are not known")
    scale, shift = vector(a, sum(w for w in widths if w is not None))
    new, start = [], 0
    for branch, width in zip(branches, widths):
        assert width is not None
        piece = slice(start, start + width)
        start += width
        share = Affine(scale[..., piece], shift[..., piece], stack, "before")
        new.append(_joined_chain(branch, _pull(_links(branch), share, stack)))
    return new


def _width(branch: Part) -> int | None:
    """Features in the last axis of what a branch puts out."""
    for part in reversed(_links(branch)):
        if part.layer.kind in ("dense", "conv"):
            return int(part.params["kernel"].shape[-1])
        if part.layer.kind not in _SAME_RANK:
            return None
    return None


# --- arithmetic ----------------------------------------------------------------------------------------


def _affine_layer(part: Part, stack: int, formula: Any, scale: Any, shift: Any) -> Part:
    """A dense layer or convolution with ``formula(kernel, bias, scale, shift)`` as kernel and bias."""
    kernel = part.params["kernel"]
    none = np.zeros((*kernel.shape[:stack], kernel.shape[-1]), kernel.dtype)
    bias = part.params.get("bias", none)
    new = stacked(formula, stack)(wide(kernel), wide(bias), scale, shift)
    params = {"kernel": _like(kernel, new[0]), "bias": _like(bias, new[1])}
    layer = part.layer
    if not layer.config.get("use_bias", True):
        make: Any = dense if layer.kind == "dense" else conv
        layer = make(**{**layer.config, "use_bias": True})
    return part._replace(layer=layer, params=params)


def _in_front(w: Any, b: Any, k: Any, c: Any) -> tuple[Any, Any]:
    """Of a kernel ``(*taps, inputs, outputs)``, scale and shift being ``(inputs, 1 or outputs)``."""
    k, c = (v[:, None] if v.ndim == 1 else v for v in (k, c))
    return w * k, b + (w * c).sum(axis=tuple(range(w.ndim - 1)))


def _before_convolution(part: Part, a: Affine, stack: int) -> Part:
    kernel, config = part.params["kernel"], part.layer.config
    groups = config.get("groups", 1)
    scale, shift = vector(a, kernel.shape[-2] * groups)
    if _pads(kernel.shape[stack:-2], config.get("padding", "SAME")) and not always(shift, np.equal):
        raise Refused("zeros are padded in front of the convolution, which a shift would have to change")

    def by_filter(v: Any) -> Any:  # each filter sees the channels of its group
        return v.reshape(groups, -1).T.repeat(kernel.shape[-1] // groups, axis=1)

    spread = stacked(by_filter, stack)
    return _affine_layer(part, stack, _in_front, spread(scale), spread(shift))


def _pads(taps: tuple[int, ...], padding: Any) -> bool:
    if isinstance(padding, str):
        return padding == "SAME" and max(taps) > 1
    return any(max(pair) > 0 for pair in padding)


def _like(old: Any, new: Any) -> Any:
    return jnp.asarray(new.astype(old.dtype))


# --- how many axes -------------------------------------------------------------------------------------

_SAME_RANK = {"activation", "prelu", "swish", "rrelu", "dropout", "alpha_dropout", "gaussian_noise"}
_SAME_RANK |= {"batch_norm", "dense", "conv", "max_pool", "average_pool"}


def _rank(chain: Chain, stack: int, rank: int | None) -> int | None:
    """Number of axes behind a chain, from that in front of it; None if not known."""
    for part in chain:
        match part.layer.kind:
            case "flatten" | "global_max_pool" | "global_average_pool":
                rank = 2
            case "reshape":
                rank = 1 + len(part.layer.config["sizes"])
            case "conv":
                rank = len(part.params["kernel"].shape) - stack
            case "embedding":
                rank = None if rank is None else rank + 1
            case "residual" | "repeat" | "concatenate":
                rank = _rank(_links(_parts(part)[0]), deeper(part.layer, stack), rank)
            case kind if kind not in _SAME_RANK:
                rank = None
    return rank


def _rank_behind(chain: Chain, stack: int) -> int | None:
    """Number of axes in front of a chain, from the first convolution in it."""
    for part in chain:
        if part.layer.kind == "conv":
            return len(part.params["kernel"].shape) - stack
        if part.layer.kind not in _SAME_RANK:
            return None
    return None
