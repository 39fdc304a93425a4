"""What compiled programs take of a device's memory, and how many rows fit."""

from collections.abc import Callable
from typing import Any

import jax

PyTree = Any


def needed(program: Any) -> int:
    """Bytes on each device that a compiled program takes while it runs, arguments included.

    >>> import jax.numpy as jnp
    >>> needed(jax.jit(lambda x: x + 1).lower(jnp.zeros(256)).compile()) >= 2 * 1024
    True
    """
    found = program.memory_analysis()
    if found is None:  # a backend that does not say
        return 0
    inside = found.argument_size_in_bytes + found.temp_size_in_bytes
    return int(inside + found.output_size_in_bytes - found.alias_size_in_bytes)


def size(tree: PyTree) -> int:
    """Bytes of the arrays of a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def free(device: Any) -> int | None:
    """Bytes of a device that are not in use, None where it does not say, as a CPU."""
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    return None if limit is None else int(limit - stats.get("bytes_in_use", 0))


def check_fits(program: Any, memory: int) -> None:
    """Refuse a budget that the program of a single row exceeds."""
    if needed(program) > memory:
        raise ValueError(
            f"memory must be at least {needed(program):,} bytes, what a single row takes, got {memory:,}"
        )


def fitting(
    compile_for: Callable[[int], Any],
    rows: int,
    *,
    at_most: int | None = None,
    memory: int | None = None,
    shared: int = 0,
) -> tuple[int, Any]:
    """Rows of a stack, so that `rows` are a few stacks of one size that fit, and the stack's program.

    What a row takes follows from the program for all of them: it is compiled again only if that does not
    fit.

    Args:
      compile_for: rows of a stack -> compiled program.
      rows: of all stacks.
      at_most: rows of a stack.
      memory: bytes, None for no bound.
      shared: bytes that do not grow with the rows, those of the data.

    Raises:
      ValueError: a single row does not fit.
    """
    each = _even(rows, at_most or rows)
    while True:
        program = compile_for(each)
        if memory is None or needed(program) <= memory:
            return each, program
        if each == 1:
            check_fits(program, memory)
        one = (needed(program) - shared) / each
        each = _even(rows, max(1, min(each - 1, int((memory - shared) / one))))


def _even(rows: int, at_most: int) -> int:
    """The size of as few stacks as can be, all alike.

    >>> _even(24, 10)
    8
    """
    return -(-rows // -(-rows // at_most))
