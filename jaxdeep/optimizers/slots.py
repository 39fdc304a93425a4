"""What the arrays of an optimizer's state hold, which decides about the bits they can do with."""

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import jax

from jaxdeep._shapes import PyTree
from jaxdeep.optimizers.codes import is_coded
from jaxdeep.tree import path_name

Kind: TypeAlias = Literal["average", "square", "sum", "variance", "exact", "other"]
_Fields: TypeAlias = dict[str, Any]  # kinds by field, or the fields of a field

_MOMENTS: _Fields = {"mu": "average", "nu": "square"}
_MOMENTS_SPELT: _Fields = {"exp_avg": "average", "exp_avg_sq": "square"}
_DIFFERENCE: _Fields = {"mu": "average", "nu": "variance"}

# By the class and the field together: "nu" is an average of squares for Adam, the momentum for SM3, and
# has a sign for Sophia. What is not here may be anything. Nor are the momenta of Adan and of simplified
# AdEMAMix here: over 50 updates or more they gather what 8 bits lose of the smallest.
_KNOWN: dict[str, _Fields] = {
    "TransformState": {"slots": _MOMENTS | {"trace": "average", "sum_of_squares": "sum"}},
    "COCOBState": dict.fromkeys(("cumulative_gradients", "scale", "subgradients", "reward"), "exact"),
    "DAdaptAdamWState": _MOMENTS_SPELT | {"grad_sum": "average"},
    "EmaState": {"ema": "average"},
    "FactoredState": {"v": "square"},
    "MadgradState": {"grad_sum_sq": "exact", "s": "exact"},
    "MomoAdamState": _MOMENTS_SPELT,
    "MomoState": {"exp_avg": "average"},
    "MultiStepsState": {"acc_grads": "average"},
    "MuonState": {"mu": "average"},
    "ProdigyState": _MOMENTS_SPELT | {"grad_sum": "average"},
    "ScaleByAdaDeltaState": {"e_g": "square", "e_x": "square"},
    "ScaleByAdamState": _MOMENTS,
    "ScaleByAdanState": {"v": "average", "n": "square"},
    "ScaleByAdemamixState": {"m1": "average", "m2": "average", "nu": "square"},
    "ScaleByAmsgradState": _MOMENTS | {"nu_max": "square"},
    "ScaleByBeliefState": _MOMENTS,
    "ScaleByLionState": {"mu": "average"},
    "ScaleByNovogradState": _MOMENTS,
    "ScaleByRStdDevState": _DIFFERENCE,
    "ScaleByRStdDevWithCountState": _DIFFERENCE,
    "ScaleByRmsState": {"nu": "square"},
    "ScaleByRmsWithCountState": {"nu": "square"},
    "ScaleByRssState": {"sum_of_squares": "sum"},
    "ScaleBySM3State": {"nu": "average"},
    "ScaleBySimplifiedAdEMAMixState": {"n": "square"},
    "SophiaState": {"mu": "average"},
    "TraceState": {"trace": "average"},
}


def kinds_of(state: PyTree) -> list[Kind]:
    """What each leaf of a state holds, where an array in fewer bits is one leaf.

    An average of gradients, which has a sign; an average or a maximum of squares or sizes; a sum of
    squares, which nothing makes smaller; a variance that is a difference of two; exact is what the next
    parameters are computed of anew, so that they would jump by all that it lost; or something else.

    >>> import optax
    >>> params = jax.numpy.ones(2)
    >>> kinds_of(optax.chain(optax.clip(1.0), optax.adam(0.1)).init(params))  # the first is a count
    ['other', 'average', 'square']
    >>> kinds_of(optax.contrib.sophia(0.1).init(params))[:3]
    ['other', 'average', 'other']
    """
    return list(_kinds(state, "other"))


def _kinds(node: PyTree, kind: Any) -> Iterator[Kind]:
    if is_coded(node) or jax.tree_util.all_leaves([node]):
        yield "other" if isinstance(kind, dict) else kind
        return
    if type(node).__module__.partition(".")[0] in ("jaxdeep", "optax"):
        kind = _KNOWN.get(type(node).__name__, kind)
    for path, below in jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda one: one is not node):
        yield from _kinds(below, kind.get(path_name(path), "other") if isinstance(kind, dict) else kind)
