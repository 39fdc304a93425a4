"""Drivers of a run: whole epochs in one compiled program, or batch by batch from the host."""

import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from jaxdeep._compilation import Program, compiled, kept
from jaxdeep._identity import Key, key_of
from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.fitting.array_source import ArraySource
from jaxdeep.fitting.block import Block
from jaxdeep.fitting.placement import Placement
from jaxdeep.fitting.setup import Setup
from jaxdeep.fitting.sources import LoaderSource, Source
from jaxdeep.train.batches import Metrics, Totals, averages, none_yet, over_block, values_of
from jaxdeep.train.monitors import Limits
from jaxdeep.train.run import RunState
from jaxdeep.train.state import TrainState
from jaxdeep.tree import shapes

T = TypeVar("T")


class Watch(NamedTuple):
    """What a driver asks on its way.

    Attributes:
      ends: whether the run is to end after the epoch at hand.
      within: what is done with the run within an epoch, with the means over its steps so far.
    """

    ends: Callable[[], bool]
    within: Callable[[RunState, Metrics], None]


Drive = Callable[[RunState, int, Watch], RunState]


def driver(
    setup: Setup,
    run: RunState,
    sources: Sequence[Source],
    placement: Placement,
    *,
    stream: bool | None,
    steps_per_call: int | None,
    looped: bool,
) -> Drive:
    """A function ``(run, until, watch) -> run`` that takes the run to the end of epoch `until`.

    From the host, the watch may end it after any epoch.

    Args:
      setup: the setup of the run.
      run: the run before its first epoch.
      sources: the training data, and the validation data if there are any.
      placement: the devices that the run is on.
      stream: whether arrays stay on the host (`ArraySource.is_streamed`).
      steps_per_call: steps within an epoch after which the watch is told.
      looped: whether batches are computed in a compiled loop.
    """
    arrays = [s for s in sources if isinstance(s, ArraySource) and not s.is_streamed(stream)]
    on_device = looped and len(arrays) == len(sources)
    if on_device and steps_per_call is None:
        return _on_device(setup, run, [source.on_device(placement) for source in arrays], placement)
    return _from_host(setup, run, sources, placement, every=steps_per_call, looped=looped)


def _on_device(setup: Setup, run: RunState, arrays: Sequence[PyTree], placement: Placement) -> Drive:
    """The driver for data on the device: one program, in which nothing waits for the host."""
    data, validation = arrays if len(arrays) == 2 else (arrays[0], None)
    limits = setup.limits
    # nothing of the user's ran since the key was made but what is traced
    segment = compiled(
        setup.program.segment,
        *(run, data, validation, np.int32(0), limits),
        key=key_of("segment", setup.key),
        donate_argnums=0,
        out_shardings=placement.run,
    )
    setup.rename()
    return lambda run, until, watch: segment(run, data, validation, np.int32(until), limits)


def _from_host(
    setup: Setup,
    run: RunState,
    sources: Sequence[Source],
    placement: Placement,
    *,
    every: int | None,
    looped: bool,
) -> Drive:
    """The driver for data on the host: one block is read while another is computed."""
    program, limits, options = setup.program, setup.limits, setup.options
    is_alone = not (
        any(isinstance(source, LoaderSource) for source in sources)
        or options.get("callbacks")
        or options.get("log")
    )
    data, validation = sources if len(sources) == 2 else (sources[0], None)
    like = shapes(run)

    def key() -> Key:
        return setup.key if is_alone else setup.key_now()

    def steps(run: RunState, batch: PyTree) -> tuple[TrainState, Metrics]:
        return program.step(program.opened(run), batch)

    def evaluation(run: RunState, batch: PyTree) -> tuple[tuple[()], Metrics]:
        return program.evaluation(run)((), batch)

    def nothing_of(name: str, step: Callable[..., tuple[PyTree, Metrics]], batch: PyTree) -> Totals:
        # kept as NumPy arrays, of which every run makes device arrays of its own
        totals: Totals = kept(
            key_of("totals", name, key()),
            lambda: jax.tree.map(np.asarray, none_yet(step, like, batch)),
            (like, batch),
        )
        return placement.everywhere(totals)

    nothing, not_evaluated = nothing_of("train", steps, data.example), None
    if validation is not None:
        not_evaluated = nothing_of("validation", evaluation, validation.example)

    def advance(
        run: RunState, totals: Totals, block: PyTree, filled: ArrayLike | None
    ) -> tuple[RunState, Totals]:
        ts, totals = over_block(
            program.step, program.opened(run), totals, block, filled, skip=program.skip
        )
        return program.closed(run, ts), totals

    def evaluate(
        run: RunState, totals: Totals, block: PyTree, filled: ArrayLike | None
    ) -> tuple[Totals]:
        return (over_block(program.evaluation(run), (), totals, block, filled)[1],)

    def close(run: RunState, totals: Totals, evaluated: Totals | None, limits: Limits) -> RunState:
        metrics = {} if evaluated is None else values_of(averages(evaluated))
        return program.close(run, totals, metrics, limits)

    out, out_totals, out_evaluated = placement.run, None, None
    if out is not None:
        out_totals, out_evaluated = jax.tree.map(lambda a: a.sharding, (nothing, not_evaluated))
    per_shape = functools.partial(by_shape, key=key)
    advance_block = per_shape(
        "advance", advance, 2, donate_argnums=0, out_shardings=out and (out, out_totals)
    )
    evaluate_block = per_shape("evaluate", evaluate, 2, out_shardings=out and (out_evaluated,))
    close_epoch = per_shape("close", close, None, donate_argnums=0, out_shardings=out)
    means = per_shape("means", _means, None, once=True)

    def one_epoch(run: RunState, epoch: int, watch: Watch) -> RunState:
        def look(steps: int, run: RunState, totals: Totals) -> None:
            if every is not None and steps % every == 0:
                watch.within(run, means(totals))

        blocks = data.blocks(epoch, run.train_state, placement, looped)
        run, totals = _through(blocks, advance_block, run, nothing, look=look)
        evaluated, often = not_evaluated, setup.options["validate_every"]
        if validation is not None and ((epoch + 1) % often == 0 or epoch + 1 == setup.epochs):
            blocks = validation.blocks(0, run.train_state, placement, looped)
            (evaluated,) = _through(blocks, functools.partial(evaluate_block, run), not_evaluated)
        return close_epoch(run, totals, evaluated, limits)

    def go_on(run: RunState, until: int, watch: Watch) -> RunState:
        first, last = int(run.epoch), min(until, setup.epochs)
        for epoch in range(first, last):
            if bool(run.stopped) or watch.ends():
                break
            # data that ended is refused in the next call, after what was done here is saved
            ended = data.has_ended(epoch) or (validation is not None and validation.has_ended(0))
            if ended and epoch > first:
                break
            run = one_epoch(run, epoch, watch)
            if is_alone and epoch == first:
                setup.rename()
        return run

    return go_on


def _means(totals: Totals) -> Metrics:
    return values_of(averages(totals))


def _through(
    blocks: Iterable[Block],
    function: Callable[..., Any],
    *carry: PyTree,
    look: Callable[..., None] = lambda *_: None,
) -> Any:
    """The carry after ``carry = function(*carry, *block)`` for every block.

    After each ``look(steps, *carry)`` is called with the number of batches so far.

    A block is read while the one before is computed. At most two are held, since the next one is read
    only when the block before the last is done.
    """
    before, steps = None, 0
    for block in blocks:
        carry = function(*carry, *block)
        jax.block_until_ready(before)
        before = carry[-1].batches
        steps += 1 if block.filled is None else int(block.filled)
        look(steps, *carry)
    jax.block_until_ready(before)
    return carry


def by_shape(
    name: str, function: Callable[..., T], first: int | None, *, key: Callable[[], Key], **options: Any
) -> Callable[..., T]:
    """The function, compiled once for each shape of its arguments from number `first` on.

    `key` makes the key of what is traced now.
    """
    programs: dict[Hashable, Program] = {}

    def call(*args: PyTree) -> T:
        shape = () if first is None else tuple((a.shape, a.dtype) for a in jax.tree.leaves(args[first:]))
        if shape not in programs:
            programs[shape] = compiled(function, *args, key=key_of(name, key()), **options)
        return programs[shape](*args)

    return call
