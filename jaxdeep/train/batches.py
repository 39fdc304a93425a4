"""Loops over the batches of a data set, and the totals of what the batches report."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeGuard, TypeVar

import jax
import jax.numpy as jnp

from jaxdeep import _loops
from jaxdeep._shapes import Array, ArrayLike, Integer, PyTree
from jaxdeep.metrics import Tally
from jaxdeep.train.data import count_rows, take
from jaxdeep.train.monitors import choose

Carry = TypeVar("Carry")
Metrics = dict[str, Any]  # by name: means over examples, or tallies of streaming metrics
Advance = Callable[[Carry, PyTree], tuple[Carry, Metrics]]  # of a batch: a step, or an evaluation

COUNTED = "share of the rows that count"  # among the metrics of an evaluation with weights


class Totals(NamedTuple):
    """Totals of what the batches so far have reported, a pytree.

    Attributes:
      examples: rows of the batches that count, int32.
      sums: by metric, the sum of value times rows, or the merged `Tally` of a streaming metric.
      lost: for each sum, what rounding took from it at the last batch (Kahan's compensation).
      batches: batches so far, int32.
      bad: index of the first batch whose loss was not finite, or −1.
      skipped: batches that do not count, int32.
    """

    examples: Integer[Array, ""]
    sums: Metrics
    lost: list[PyTree]
    batches: Integer[Array, ""]
    bad: Integer[Array, ""]
    skipped: Integer[Array, ""]


Both = tuple[Carry, Totals]  # what a loop over batches carries


def none_yet(step: Advance[Carry], carry: Carry, batch: PyTree) -> Totals:
    """The totals before the first batch, for the metrics that `step` reports of a batch like this."""
    _, values = jax.eval_shape(step, carry, batch)
    if "loss" not in values:
        raise ValueError(f"a step must return its metrics with a 'loss', got {sorted(values)}")

    def nothing(node: Any) -> Any:
        if _is_tally(node):
            start = jax.tree.map(
                lambda a, like: jnp.asarray(a, like.dtype), node.metric.init(), node.state
            )
            return Tally(start, node.metric)
        return jnp.zeros(node.shape, jnp.promote_types(node.dtype, jnp.float32))

    sums = jax.tree.map(nothing, values, is_leaf=_is_tally)
    lost = [() if _is_tally(node) else jnp.zeros_like(node) for node in _nodes(sums)]
    zero = jnp.zeros((), jnp.int32)
    return Totals(zero, sums, lost, zero, zero - 1, zero)


def with_batch(totals: Totals, values: Metrics, rows: int | Array, *, skip: bool = False) -> Totals:
    """The totals after one more batch; with `skip`, a batch whose loss is not finite does not count."""
    bad = ~jnp.isfinite(values["loss"])
    sums, lost = [], []
    structure = jax.tree.structure(totals.sums, is_leaf=_is_tally)
    for old, value, old_lost in zip(_nodes(totals.sums), _nodes(values), totals.lost):
        if _is_tally(old):
            new, new_lost = old.merge(value), old_lost
        else:
            # Kahan's sum, so that a million batches lose nothing
            addend = value.astype(old.dtype) * jnp.asarray(rows, old.dtype) + old_lost
            new = old + addend
            added = new - old
            new_lost = (old - (new - added)) + (addend - added)
            new_lost = jnp.where(jnp.isfinite(new_lost), new_lost, 0)  # an infinite sum loses NaN
        if skip:
            new, new_lost = choose(bad, (old, old_lost), (new, new_lost))
        sums.append(new)
        lost.append(new_lost)
    counts = jnp.where(bad, 0, 1) if skip else 1
    return Totals(
        totals.examples + rows * counts,
        jax.tree.unflatten(structure, sums),
        lost,
        totals.batches + 1,
        jnp.where((totals.bad < 0) & bad, totals.batches, totals.bad),
        totals.skipped + (1 - counts),
    )


def averages(totals: Totals) -> Metrics:
    """The average over examples of each value; tallies stay as they are (`values_of` computes them)."""

    def average(node: Any, lost: Any) -> Any:
        return node if _is_tally(node) else (node + lost) / totals.examples.astype(node.dtype)

    nodes = [average(node, lost) for node, lost in zip(_nodes(totals.sums), totals.lost)]
    return jax.tree.unflatten(jax.tree.structure(totals.sums, is_leaf=_is_tally), nodes)


def values_of(metrics: Metrics) -> Metrics:
    """The metrics, with each tally replaced by its value.

    Of rows of which none counts (`COUNTED`), the loss is NaN.
    """
    values: Metrics = jax.tree.map(
        lambda v: v.compute() if _is_tally(v) else v, metrics, is_leaf=_is_tally
    )
    if COUNTED not in values:
        return values
    values = {**values}
    share = values.pop(COUNTED)
    return {**values, "loss": jnp.where(share > 0, values["loss"], jnp.nan)}


def over_batches(
    step: Advance[Carry],
    carry: Carry,
    data: PyTree,
    order: Integer[Array, "rows"],
    batch_size: int,
    *,
    drop_remainder: bool = False,
    skip: bool = False,
) -> Both[Carry]:
    """Run `step` over the rows in `order` in one compiled loop, and return the carry and the totals."""
    step = jax.jit(step)  # traced once, for the totals and for the loop
    full, rest = divmod(len(order), batch_size)

    def body(both: Both[Carry], rows: Integer[Array, "batch"]) -> tuple[Both[Carry], None]:
        return _advanced(step, both, take(data, rows), skip), None

    first = jax.eval_shape(lambda: take(data, order[:batch_size]))
    both = carry, none_yet(step, carry, first)
    both, _ = _loops.scan(body, both, order[: full * batch_size].reshape(full, batch_size))
    if rest and not drop_remainder:
        both, _ = body(both, order[full * batch_size :])
    return both


def over_block(
    step: Advance[Carry],
    carry: Carry,
    totals: Totals,
    block: PyTree,
    count: ArrayLike | None,
    *,
    skip: bool = False,
) -> Both[Carry]:
    """Run `step` over the first `count` batches stacked in `block`; with None, `block` is one batch."""
    if count is None:
        return _advanced(step, (carry, totals), block, skip)

    def body(at: tuple[Integer[Array, ""], Both[Carry]]) -> tuple[Integer[Array, ""], Both[Carry]]:
        i, both = at
        return i + 1, _advanced(step, both, jax.tree.map(lambda a: a[i], block), skip)

    start = jnp.zeros((), jnp.int32), (carry, totals)
    return _loops.while_loop(lambda at: at[0] < count, body, start)[1]


def _advanced(step: Advance[Carry], both: Both[Carry], batch: PyTree, skip: bool) -> Both[Carry]:
    """The carry and the totals after one more batch."""
    carry, values = step(both[0], batch)
    return carry, with_batch(both[1], values, count_rows(batch), skip=skip)


def _nodes(values: Metrics) -> list[Any]:
    return jax.tree.leaves(values, is_leaf=_is_tally)


def _is_tally(node: object) -> TypeGuard[Tally]:
    return isinstance(node, Tally)
