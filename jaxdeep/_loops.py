"""`jax.lax.scan` and `jax.lax.while_loop` whose carry the CPU's compiler has little work with.

It writes out an elementwise operation over rows of few numbers, such as the update of a kernel for ten
classes, number by number: ten times the time that it takes for the same numbers in one row. So small
arrays of such rows are carried flat. A body gets and returns them in their own shapes. (A sum of theirs
may be added up in another order.)
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import PyTreeDef

from jaxdeep._shapes import Array, Bool

Carry = TypeVar("Carry")
Element = TypeVar("Element")
Row = TypeVar("Row")

_FEW = 24  # numbers of a row, from which on LLVM makes a loop of it
_SOME = 2**14  # numbers of an array, beyond which its copies and its place on devices cost more


def scan(
    body: Callable[[Carry, Element], tuple[Carry, Row]], carry: Carry, elements: Element
) -> tuple[Carry, Row]:
    """`jax.lax.scan`.

    >>> scan(lambda c, x: (c + x, None), jnp.zeros((2, 2)), jnp.arange(3.0))[0].tolist()
    [[3.0, 3.0], [3.0, 3.0]]
    """

    def flat_body(flat: Carry, element: Element) -> tuple[Carry, Row]:
        new, row = body(_shaped(flat, carry), element)
        return _flat(new, carry), row

    try:
        flat, rows = jax.lax.scan(flat_body, _flat(carry, carry), elements)
    except TypeError:
        pass
    else:
        return _shaped(flat, carry), rows
    return jax.lax.scan(body, carry, elements)  # which tells of the shapes that the caller knows


def while_loop(
    going_on: Callable[[Carry], Bool[Array, ""]], body: Callable[[Carry], Carry], carry: Carry
) -> Carry:
    """`jax.lax.while_loop`.

    >>> while_loop(lambda c: c.sum() < 10, lambda c: c + 1, jnp.zeros((2, 2))).tolist()
    [[3.0, 3.0], [3.0, 3.0]]
    """
    try:
        flat = jax.lax.while_loop(
            lambda flat: going_on(_shaped(flat, carry)),
            lambda flat: _flat(body(_shaped(flat, carry)), carry),
            _flat(carry, carry),
        )
    except TypeError:
        pass
    else:
        return _shaped(flat, carry)
    return jax.lax.while_loop(going_on, body, carry)


def _flat(tree: Carry, like: Carry) -> Carry:
    """The tree, which must be as `like`, with its arrays of short rows flat."""
    if jax.default_backend() != "cpu":
        return tree
    here: PyTreeDef = jax.tree.structure(tree)
    if here != jax.tree.structure(like):
        raise TypeError("of another structure")

    def flat(leaf: Any, old: Any) -> Any:
        if not _is_short(old):
            return leaf
        if jnp.shape(leaf) != jnp.shape(old):
            raise TypeError("of another shape")
        return jnp.reshape(leaf, -1)

    return jax.tree.map(flat, tree, like)


def _shaped(flat: Carry, like: Carry) -> Carry:
    return jax.tree.map(
        lambda leaf, old: jnp.reshape(leaf, jnp.shape(old)) if _is_short(old) else leaf, flat, like
    )


def _is_short(leaf: Any) -> bool:
    """Whether these are some real numbers in rows of few, which the user has not split over devices."""
    if not isinstance(leaf, jax.Array | np.ndarray) or leaf.ndim < 2:
        return False
    if not jnp.issubdtype(leaf.dtype, jnp.floating) or any(type(size) is not int for size in leaf.shape):
        return False
    is_short = leaf.shape[-1] < _FEW and leaf.size <= _SOME
    return is_short and not any(getattr(jax.typeof(leaf).sharding, "spec", ()))
