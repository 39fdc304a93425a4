"""Running over the batches of a data set, and what they report together."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdeep.metrics import Tally
from jaxdeep.train.data import take
from jaxdeep.train.monitors import choose

PyTree = Any
Metrics = dict[str, Any]
Advance = Callable[[Any, PyTree], tuple[Any, Metrics]]


class Totals(NamedTuple):
    """What the batches so far report together, a pytree.

    Attributes:
      examples: rows that count, int32.
      sums: values times rows by name, and tallies merged.
      lost: what rounding took from each of the sums at the last batch.
      batches: batches so far, int32.
      bad: number of the first batch whose loss was not finite, or −1.
      skipped: batches that do not count, int32.
    """

    examples: jax.Array
    sums: Metrics
    lost: list[Any]
    batches: jax.Array
    bad: jax.Array
    skipped: jax.Array


def none_yet(step: Advance, carry: Any, batch: PyTree) -> Totals:
    """Totals of no batches, for what `step` reports of batches of this shape."""
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


def with_batch(totals: Totals, values: Metrics, rows: int, *, skip: bool = False) -> Totals:
    """Totals with a batch of so many rows; with `skip`, one whose loss is not finite does not count."""
    bad = ~jnp.isfinite(values["loss"])
    sums, lost = [], []
    structure = jax.tree.structure(totals.sums, is_leaf=_is_tally)
    for old, value, gone in zip(_nodes(totals.sums), _nodes(values), totals.lost):
        if _is_tally(old):
            new, gone_too = old.merge(value), gone
        else:
            more = value.astype(old.dtype) * rows + gone  # Kahan's sum: a million batches lose nothing
            new = old + more
            part = new - old
            gone_too = (old - (new - part)) + (more - part)
            gone_too = jnp.where(jnp.isfinite(gone_too), gone_too, 0)  # of an infinite sum
        if skip:
            new, gone_too = choose(bad, (old, gone), (new, gone_too))
        sums.append(new)
        lost.append(gone_too)
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
    """The average over examples of each value, and the values of tallies."""

    def average(node: Any, gone: Any) -> Any:
        return node if _is_tally(node) else (node + gone) / totals.examples.astype(node.dtype)

    nodes = [average(node, gone) for node, gone in zip(_nodes(totals.sums), totals.lost)]
    return jax.tree.unflatten(jax.tree.structure(totals.sums, is_leaf=_is_tally), nodes)


def values_of(metrics: Metrics) -> Metrics:
    """Metrics with the values of tallies in their place."""
    return jax.tree.map(lambda v: v.compute() if _is_tally(v) else v, metrics, is_leaf=_is_tally)


def over_batches(
    step: Advance,
    carry: Any,
    data: PyTree,
    order: jax.Array,
    batch_size: int,
    *,
    drop_remainder: bool = False,
    skip: bool = False,
) -> tuple[Any, Totals]:
    """Run `step` over the rows in `order`, in one compiled loop; returns the carry and the totals."""
    step = jax.jit(step)  # traced once, for the totals and for the loop
    full, rest = divmod(len(order), batch_size)

    def body(both: tuple[Any, Totals], rows: jax.Array) -> tuple[tuple[Any, Totals], None]:
        carry, values = step(both[0], take(data, rows))
        return (carry, with_batch(both[1], values, len(rows), skip=skip)), None

    first = jax.eval_shape(lambda: take(data, order[:batch_size]))
    both = carry, none_yet(step, carry, first)
    both, _ = jax.lax.scan(body, both, order[: full * batch_size].reshape(full, batch_size))
    if rest and not drop_remainder:
        both, _ = body(both, order[full * batch_size :])
    return both


def over_block(
    step: Advance, carry: Any, totals: Totals, block: PyTree, count: Any, *, skip: bool = False
) -> tuple[Any, Totals]:
    """Run `step` over the first `count` of the batches stacked in `block`; None: it is one batch."""

    def once(both: tuple[Any, Totals], batch: PyTree) -> tuple[Any, Totals]:
        carry, values = step(both[0], batch)
        rows = len(jax.tree.leaves(batch)[0])
        return carry, with_batch(both[1], values, rows, skip=skip)

    if count is None:
        return once((carry, totals), block)

    def body(i: Any, both: tuple[Any, Totals]) -> tuple[Any, Totals]:
        return once(both, jax.tree.map(lambda a: a[i], block))

    found: tuple[Any, Totals] = jax.lax.fori_loop(0, count, body, (carry, totals))
    return found


def _nodes(values: PyTree) -> list[Any]:
    return jax.tree.leaves(values, is_leaf=_is_tally)


def _is_tally(node: Any) -> bool:
    return isinstance(node, Tally)
