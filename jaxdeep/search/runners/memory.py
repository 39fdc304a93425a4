"""The memory that compiled programs take on a device, and how many rows fit into it."""

from collections.abc import Callable

import jax
from jax.stages import Compiled

from jaxdeep._compilation import Program


def needed(program: Program) -> int:
    """Bytes on each device that a compiled program takes while it runs, arguments included.

    It is not known (0) for a function that is not compiled, as under ``jax_disable_jit``.

    >>> import jax.numpy as jnp
    >>> needed(jax.jit(lambda x: x + 1).lower(jnp.zeros(256)).compile()) >= 2 * 1024
    True
    """
    if not isinstance(program, Compiled):
        return 0
    analysis = program.memory_analysis()
    if analysis is None:  # not every backend reports the memory of a program
        return 0
    held = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
    return int(held + analysis.output_size_in_bytes - analysis.alias_size_in_bytes)


def free(device: jax.Device) -> int | None:
    """Bytes of a device that are not in use; None if the device does not say, such as a CPU."""
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    return None if limit is None else int(limit - stats.get("bytes_in_use", 0))


def check_fits(program: Program, memory: int) -> None:
    """Refuse a `memory` that is less than the program of a single row takes."""
    if needed(program) > memory:
        raise ValueError(
            f"memory must be at least {needed(program):,} bytes, what a single row takes, got {memory:,}"
        )


def fitting(
    compile_for: Callable[[int], Program],
    rows: int,
    *,
    at_most: int | None = None,
    memory: int | None = None,
    shared: int = 0,
) -> tuple[int, Program]:
    """The number of rows in a stack, and the stack's program, if `rows` rows are split into stacks.

    Stacks are of one size and as few as fit into memory. All rows in one stack are tried first. If its
    program does not fit, the memory that it takes tells that of a row, and a smaller one is compiled.

    Args:
      compile_for: a function from the rows of a stack to its compiled program.
      rows: rows of all stacks together.
      at_most: rows of a stack, at most.
      memory: bytes that the program may take, None for no bound.
      shared: bytes that do not grow with the rows, which are those of the data.

    Raises:
      ValueError: a single row does not fit.
    """
    in_stack = _even(rows, at_most or rows)
    while True:
        program = compile_for(in_stack)
        if memory is None or needed(program) <= memory:
            return in_stack, program
        if in_stack == 1:
            check_fits(program, memory)
        row_bytes = (needed(program) - shared) / in_stack
        in_stack = _even(rows, max(1, min(in_stack - 1, int((memory - shared) / row_bytes))))


def _even(rows: int, at_most: int) -> int:
    """The rows of a stack, for as few stacks of one size as possible.

    >>> _even(24, 10)
    8
    """
    return -(-rows // -(-rows // at_most))
