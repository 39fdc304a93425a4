"""Labels that are left out: what ``ignore_class`` means wherever it is an argument."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._compilation import inside
from jaxdeep._precision import HostOrDevice


def check(ignore_class: Any) -> int | None:
    """Refuse what is neither a whole number, which may be negative, nor None.

    >>> check(-1), check(None)
    (-1, None)
    """
    if ignore_class is None:
        return None
    if not _checks.is_whole(ignore_class):
        raise TypeError(f"ignore_class must be a whole number or None, got {ignore_class!r}")
    return int(ignore_class)


def counted(labels: HostOrDevice, ignore_class: int) -> HostOrDevice:
    """Which labels are not the one that is left out, of the host where the labels are.

    >>> counted(np.array([0, 255], np.uint8), 255)
    array([ True, False])
    """
    if jnp.issubdtype(labels.dtype, jnp.integer):
        info = jnp.iinfo(labels.dtype)
        if not info.min <= ignore_class <= info.max:  # which no label of this dtype can be
            ones = np.ones if isinstance(labels, np.ndarray) else jnp.ones
            return ones(labels.shape, bool)
    with at_once(labels):
        return labels != ignore_class


def without(labels: HostOrDevice, ignore_class: int) -> tuple[HostOrDevice, HostOrDevice]:
    """Labels with class 0 in place of those that are left out, and which are not.

    What is known stays known, so that the others can be checked.

    >>> without(np.array([2, -1]), -1)
    (array([2, 0]), array([ True, False]))
    """
    kept = counted(labels, ignore_class)
    with at_once(labels):
        new = (
            np.where(kept, labels, np.zeros_like(labels))
            if isinstance(labels, np.ndarray)
            else jnp.where(kept, labels, jnp.zeros_like(labels))
        )
    _checks.stands_for(new, labels, ignored=ignore_class)
    return new, kept


def weights_of(
    labels: Any, weights: Any, ignore_class: int, of: tuple[int, ...] | None = None
) -> HostOrDevice:
    """The weights of examples, 0 where the label is left out; 1 elsewhere if there are none.

    Args:
      of: the shape of one-hot labels, which are refused.
    """
    labels = as_array("labels", labels)
    if labels.shape == of:
        raise ValueError(
            f"ignore_class is for labels that are integers, got one-hot labels of shape {labels.shape}; "
            "leave rows out by weights of 0"
        )
    kept = _narrowed(counted(labels, ignore_class))
    if weights is None:
        return kept
    factors = _narrowed(as_array("weights", weights))
    xp: Any = np if isinstance(kept, np.ndarray) and isinstance(factors, np.ndarray) else jnp
    if factors.shape != kept.shape[: factors.ndim] and kept.shape != factors.shape[: kept.ndim]:
        raise ValueError(
            f"weights must have the leading axes of the labels, {kept.shape}, got {factors.shape}"
        )
    axes = max(factors.ndim, kept.ndim)
    with at_once(kept, factors):
        one, other = (a.reshape(a.shape + (1,) * (axes - a.ndim)) for a in (kept, factors))
        return xp.where(one, other, xp.zeros_like(other))


def ignored_by(function: Callable[..., Any]) -> int | None:
    """What the partials around a function say of ``ignore_class``, the outermost first; None if nothing.

    >>> ignored_by(functools.partial(max, ignore_class=255)), ignored_by(max)
    (255, None)
    """
    while (deeper := inside(function, once=True)) is not function:
        keywords = function.keywords if isinstance(function, functools.partial) else {}
        if "ignore_class" in keywords:
            return check(keywords["ignore_class"])
        function = deeper
    return None


def at_once(*arrays: Any) -> contextlib.AbstractContextManager[Any]:
    """Computes with arrays that are known, inside `jax.jit` too."""
    traced = any(isinstance(array, jax.core.Tracer) for array in arrays)
    return contextlib.nullcontext() if traced else jax.ensure_compile_time_eval()


def _narrowed(array: HostOrDevice) -> HostOrDevice:
    """(n, 1) and (n,) are the same here."""
    shape = array.shape
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    with at_once(array):
        return array.reshape(shape)
