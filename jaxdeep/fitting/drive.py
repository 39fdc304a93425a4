"""Driving a run: whole epochs in one compiled program, or batch by batch from the host."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from jaxdeep._compilation import compiled
from jaxdeep.fitting.placement import Placement
from jaxdeep.fitting.sources import ArraySource, Block, LoaderSource
from jaxdeep.train.batches import Totals, averages, none_yet, over_block, values_of
from jaxdeep.train.run import Program, RunState
from jaxdeep.tree import shapes

PyTree = Any
Drive = Callable[[RunState, int], RunState]


def driver(
    program: Program,
    run: RunState,
    sources: Sequence[ArraySource | LoaderSource],
    placement: Placement,
    *,
    epochs: int,
    every: int,
    stream: bool | None,
    looped: bool,
) -> Drive:
    """``(run, until) -> run`` for data, and the validation data if there are any.

    Args:
      every: validation data are evaluated after so many epochs.
      stream: whether arrays stay on the host.
      looped: whether batches are computed in a compiled loop.
    """
    arrays = [s for s in sources if isinstance(s, ArraySource) and not s.is_streamed(stream)]
    if looped and len(arrays) == len(sources):
        return _on_device(program, run, [rows.on_device(placement) for rows in arrays], placement)
    return _from_host(program, run, sources, placement, epochs=epochs, every=every, looped=looped)


def _on_device(program: Program, run: RunState, arrays: Sequence[PyTree], placement: Placement) -> Drive:
    """One program, in which nothing waits for the host."""
    data, validation = arrays if len(arrays) == 2 else (arrays[0], None)
    segment = compiled(
        program.segment,
        run,
        data,
        validation,
        np.int32(0),
        donate_argnums=0,
        out_shardings=placement.run,
    )
    return lambda run, until: segment(run, data, validation, np.int32(until))


def _from_host(
    program: Program,
    run: RunState,
    sources: Sequence[ArraySource | LoaderSource],
    placement: Placement,
    *,
    epochs: int,
    every: int,
    looped: bool,
) -> Drive:
    """Block by block: one is read while another is computed."""
    data, validation = sources if len(sources) == 2 else (sources[0], None)
    like = shapes(run.train_state)
    nothing, not_evaluated = none_yet(program.step, like, data.example), None
    if validation is not None:
        not_evaluated = none_yet(
            lambda ts, batch: program.evaluation(ts)((), batch), like, validation.example
        )
    nothing, not_evaluated = placement.everywhere((nothing, not_evaluated))

    def advance(run: RunState, totals: Totals, block: PyTree, filled: Any) -> tuple[RunState, Totals]:
        ts, totals = over_block(program.step, run.train_state, totals, block, filled, skip=program.skip)
        return run._replace(train_state=ts), totals

    def evaluate(run: RunState, totals: Totals, block: PyTree, filled: Any) -> tuple[Totals]:
        return (over_block(program.evaluation(run.train_state), (), totals, block, filled)[1],)

    def close(run: RunState, totals: Totals, evaluated: Totals | None) -> RunState:
        found = {} if evaluated is None else values_of(averages(evaluated))
        return program.close(run, totals, found)

    out, out_totals, out_evaluated = placement.run, None, None
    if out is not None:
        out_totals, out_evaluated = jax.tree.map(lambda a: a.sharding, (nothing, not_evaluated))
    go = _by_shape(advance, 2, donate_argnums=0, out_shardings=out and (out, out_totals))
    look = _by_shape(evaluate, 2, out_shardings=out and (out_evaluated,))
    end = _by_shape(close, None, donate_argnums=0, out_shardings=out)

    def one_epoch(run: RunState, epoch: int) -> RunState:
        blocks = data.blocks(epoch, run.train_state, placement, looped)
        run, totals = _through(blocks, go, run, nothing)
        evaluated = not_evaluated
        if validation is not None and ((epoch + 1) % every == 0 or epoch + 1 == epochs):
            blocks = validation.blocks(0, run.train_state, placement, looped)
            (evaluated,) = _through(blocks, functools.partial(look, run), not_evaluated)
        return end(run, totals, evaluated)

    def go_on(run: RunState, until: int) -> RunState:
        epoch = int(run.epoch)
        while epoch < min(until, epochs) and not bool(run.stopped):
            run = one_epoch(run, epoch)
            epoch += 1
        return run

    return go_on


def _through(blocks: Iterable[Block], function: Callable[..., Any], *carry: Any) -> Any:
    """A function of carry and block over all blocks: one is read while the one before is computed.

    Two are held at most: the next is read when the one before the last is done.
    """
    before = None
    for block in blocks:
        carry = function(*carry, *block)
        jax.block_until_ready(before)
        before = carry[-1].batches
    jax.block_until_ready(before)
    return carry


def _by_shape(
    function: Callable[..., Any], place: int | None, *, out_shardings: Any, donate_argnums: Any = ()
) -> Callable[..., Any]:
    """A function compiled once for each shape of the argument at `place`."""
    programs: dict[Any, Callable[..., Any]] = {}

    def call(*args: Any) -> Any:
        shape = () if place is None else tuple((a.shape, a.dtype) for a in jax.tree.leaves(args[place:]))
        if shape not in programs:
            programs[shape] = compiled(
                function, *args, donate_argnums=donate_argnums, out_shardings=out_shardings
            )
        return programs[shape](*args)

    return call
