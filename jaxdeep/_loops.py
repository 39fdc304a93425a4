"""`jax.lax.scan` and `jax.lax.while_loop` whose carry the CPU's compiler has little work with.

It writes out an elementwise operation over rows of few numbers, such as the update of a kernel for ten
classes, number by number: ten times the time that it takes for the same numbers in one row. So arrays of
such rows are carried flat. A body gets and returns them in their own shapes. (A sum of theirs may be
added up in another order.)
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.tree_util import PyTreeDef

from jaxdeep._shapes import Array, Bool

Carry = TypeVar("Carry")
Element = TypeVar("Element")
Row = TypeVar("Row")

_FEW = 24  # from where on LLVM makes a loop of a row


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
    """The tree, with its arrays of short rows flat; as it is if the loop cannot carry it on."""
    here: PyTreeDef = jax.tree.structure(tree)
    if jax.default_backend() != "cpu" or here != jax.tree.structure(like):
        return tree

    def flat(leaf: Any, old: Any) -> Any:
        is_short = jnp.shape(leaf) == jnp.shape(old) and _has_few(leaf) and _has_few(old)
        return jnp.reshape(leaf, -1) if is_short else leaf

    return jax.tree.map(flat, tree, like)


def _shaped(flat: Carry, like: Carry) -> Carry:
    return jax.tree.map(lambda leaf, old: jnp.reshape(leaf, jnp.shape(old)), flat, like)


def _has_few(leaf: Any) -> bool:
    """Whether these are real numbers in short rows, which are not split over devices by the user."""
    if jnp.ndim(leaf) < 2 or jnp.shape(leaf)[-1] >= _FEW or not jnp.issubdtype(leaf.dtype, jnp.floating):
        return False
    return not any(getattr(jax.typeof(leaf).sharding, "spec", ()))
