"""Penalties on parameters, and on what layers put out, to be added to a loss.

A penalty is a function ``params -> scalar``: it goes into ``supervised(…, penalty=…)`` or is added by
hand; sums of penalties are `total`. Keras' conventions: no ½ unless told, and the sum over all elements.
"""

import functools
from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks, tree
from jaxdeep._arrays import as_array, check_leaves, leaves_of
from jaxdeep._calls import remembered
from jaxdeep._limits import absolute
from jaxdeep._shapes import Array, ArrayLike, Bool, Float, PyTree
from jaxdeep.tree import Where, check_where, partition, path_name

__all__ = [
    "activity",
    "l1",
    "l1_l2",
    "l2",
    "total",
]


def __dir__() -> list[str]:
    return __all__


Penalty: TypeAlias = Callable[[PyTree], Array]


@remembered
def l2(factor: ArrayLike, *, where: Where | None = None, half: bool = False) -> Penalty:
    """``factor · Σ w²`` over the selected leaves, ``½ · factor · Σ w²`` if `half`.

    Args:
      factor: ≥ 0; a number or a scalar array.
      where: the leaves, ``"*/kernel"`` for example (`jaxdeep.tree.mask`); all by default.
      half: with the ½ that makes its gradient ``factor · w``.

    Returns:
      A function of the parameters; the sum is taken in at least float32.

    Raises:
      ValueError: a negative factor; when called, a `where` that matches no leaf.

    This is part of the loss, and the loss that is reported includes it.
    `jaxdeep.optimizers.add_l2_penalty` adds its gradient alone and leaves the reported loss as it is.

    Source: ridge regression, Hoerl & Kennard (1970); Keras' `L2` has no ½.

    >>> l2(0.1, where="*/kernel")({"a": {"kernel": jnp.array([1.0, 2.0]), "bias": jnp.ones(2)}})
    Array(0.5, dtype=float32)
    """
    _checks.check_hyperparameter("factor", factor, "[0, inf)")
    _checks.check_flag("half", half)
    scale = 0.5 if half else 1.0
    return _penalty(lambda w: factor * scale * jnp.sum(w * w), where)


@remembered
def l1(factor: ArrayLike, *, where: Where | None = None) -> Penalty:
    """``factor · Σ |w|`` over the selected leaves, which draws weights to zero.

    Its gradient is ``factor · sign(w)``, and 0 at 0, so steps bring weights near zero and past it,
    seldom to exactly 0: `jaxdeep.compress.prune` sets the smallest to it.

    Args:
      factor: ≥ 0; a number or a scalar array.
      where: the leaves; all by default.

    Raises:
      ValueError: as `l2`.

    Source: Tibshirani, the lasso (1996); Keras' `L1`.

    >>> l1(0.1)({"kernel": jnp.array([1.0, -2.0])}).round(3)
    Array(0.3, dtype=float32)
    """
    _checks.check_hyperparameter("factor", factor, "[0, inf)")
    return _penalty(lambda w: factor * jnp.sum(absolute(w)), where)


@remembered
def l1_l2(
    l1: ArrayLike = 0.0, l2: ArrayLike = 0.0, *, where: Where | None = None, half: bool = False
) -> Penalty:
    """``l1 · Σ |w| + l2 · Σ w²`` over the selected leaves.

    Args:
      l1, l2: factors, ≥ 0; numbers or scalar arrays. 0 each, so that one alone is that penalty.
      where: the leaves; all by default.
      half: ``½ · l2`` instead of `l2`.

    Raises:
      ValueError: as `l2`.

    Source: the elastic net, Zou & Hastie (2005); Keras' `L1L2`, its defaults.

    >>> l1_l2(0.1, 0.1)({"kernel": jnp.array([1.0, -2.0])}).round(3)
    Array(0.8, dtype=float32)
    """
    for name, factor in {"l1": l1, "l2": l2}.items():
        _checks.check_hyperparameter(name, factor, "[0, inf)")
    _checks.check_flag("half", half)
    scale = 0.5 if half else 1.0

    def of_leaf(w: Array) -> ArrayLike:
        # 0 times an overflow would be NaN
        size = 0.0 if _is_zero(l1) else l1 * jnp.sum(absolute(w))
        return size if _is_zero(l2) else size + l2 * scale * jnp.sum(w * w)

    return _penalty(of_leaf, where)


def _is_zero(factor: ArrayLike) -> bool:
    """Whether a factor is a number that is 0, and not traced."""
    return isinstance(factor, (int, float)) and factor == 0


@remembered
def total(*penalties: Penalty) -> Penalty:
    """The sum of penalties, as one.

    Args:
      penalties: functions of the parameters.

    Raises:
      TypeError: not a function.

    Source: the sum of penalties of any objective.

    >>> both = total(l1(0.1, where="a"), l2(0.1, where="b"))
    >>> both({"a": jnp.array(1.0), "b": jnp.array(2.0)}).round(3)
    Array(0.5, dtype=float32)
    """
    for penalty in penalties:
        if not callable(penalty):
            raise TypeError(f"penalties must be functions of the parameters, got {penalty!r}")
    return lambda params: sum((penalty(params) for penalty in penalties), jnp.zeros(()))


@remembered
def activity(penalty: Penalty, *, where: Where) -> Callable[[Mapping[str, PyTree]], Array]:
    """A penalty on the outputs of layers, a mean over the batch: for ``supervised(…, activity=…)``.

    It is ``penalty(outputs) / batch size``. Outputs are named by the paths of their layers, such as
    ``hidden1`` or ``block/dense0``. With ``mask=``, which `supervised` passes where examples have weight
    0, those outside are outputs of 0. The batch keeps its size, as in the mean of weighted losses, so
    that it makes no difference how rows are put into batches and micro-batches.

    Args:
      penalty: one of this module without a `where` of its own, or any function of a dict of arrays by
        path.
      where: the layers, as a glob over their paths or a list of globs.

    Raises:
      TypeError: not a function, not a glob. ValueError: when called, a `where` that matches no layer.

    Source: Keras' ``activity_regularizer``.

    >>> sparse = activity(l1(0.1), where="hidden*")
    >>> sparse({"hidden1": jnp.ones((4, 3)), "logits": jnp.ones((4, 2))}).round(3)
    Array(0.3, dtype=float32)
    """
    if not callable(penalty):
        raise TypeError(f"penalty must be a function of outputs by path, got {penalty!r}")
    check_where(where)

    def of_outputs(outputs: Mapping[str, PyTree], mask: Bool[Array, "batch"] | None = None) -> Array:
        if not isinstance(outputs, Mapping):
            raise TypeError(f"outputs must be a dict of arrays by the paths of layers, got {outputs!r}")
        outputs = leaves_of("outputs", outputs)
        check_leaves("outputs", outputs)
        chosen = tree.mask(dict.fromkeys(outputs, 0), where)
        penalized = {name: y for name, y in outputs.items() if chosen[name]}
        size = max(jax.tree.leaves(penalized)[0].shape[0], 1)
        if mask is not None:
            rows = as_array("mask", mask)
            if rows.ndim != 1 or rows.dtype != bool:
                raise TypeError(
                    f"mask must be booleans, one for each example, got {rows.dtype} of shape "
                    f"{rows.shape}"
                )
            penalized = jax.tree.map(functools.partial(_zero_outside, jnp.asarray(rows)), penalized)
        return penalty(penalized) / size

    of_outputs.masks = True  # type: ignore[attr-defined]
    return of_outputs


def _zero_outside(mask: Bool[Array, "batch"], output: Array) -> Array:
    if jnp.shape(output)[:1] != mask.shape:
        return output
    return jnp.where(mask.reshape(-1, *(1,) * (output.ndim - 1)), output, 0)


def _check_weights(path: str, w: PyTree) -> None:
    """Refuse what is no array of real numbers."""
    if isinstance(w, np.ma.MaskedArray):
        as_array(path or "params", w)  # refuses masked values
    numbers = isinstance(w, (bool, int, float, np.ndarray, np.generic, jax.Array))
    dtype = getattr(w, "dtype", np.dtype(float))
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    if not numbers or not any(jnp.issubdtype(dtype, kind) for kind in kinds):
        got = f"an array of {w.dtype}" if numbers and hasattr(w, "dtype") else repr(w)
        raise TypeError(f"a penalty is on arrays of real numbers, and {path or 'its argument'} is {got}")


def _penalty(of_leaf: Callable[[Array], ArrayLike], where: Where | None) -> Penalty:
    if where is not None:
        check_where(where)

    def penalty(params: PyTree) -> Float[Array, ""]:
        if params is None:
            raise TypeError("params must be a pytree of arrays, got None")
        chosen, _ = partition(leaves_of("params", params), where)
        for path, w in jax.tree_util.tree_leaves_with_path(chosen):
            _check_weights(path_name(path), w)
        wide = (
            jnp.asarray(w, jnp.promote_types(jnp.result_type(w), jnp.float32))
            for w in jax.tree.leaves(chosen)
        )
        return sum((jnp.asarray(of_leaf(w)) for w in wide), jnp.zeros(()))

    return penalty
