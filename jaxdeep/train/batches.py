"""Running over the batches of a data set, and what they report together."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep.metrics import Tally
from jaxdeep.train.data import take

PyTree = Any
Metrics = dict[str, Any]


def over_batches(
    step: Callable[[Any, PyTree], tuple[Any, Metrics]],
    carry: Any,
    data: PyTree,
    order: jax.Array,
    batch_size: int,
    *,
    drop_remainder: bool = False,
    compute: bool = True,
) -> tuple[Any, Metrics, jax.Array]:
    """Run `step` over the rows in `order`; returns the carry, average metrics, and every loss.

    Tallies are merged, and their values computed unless told otherwise.
    """
    full, rest = divmod(len(order), batch_size)

    def body(carry: Any, rows: jax.Array) -> tuple[Any, Metrics]:
        return step(carry, take(data, rows))

    carry, each = jax.lax.scan(body, carry, order[: full * batch_size].reshape(full, batch_size))
    if "loss" not in each:
        raise ValueError(f"a step must return its metrics with a 'loss', got {sorted(each)}")
    together = {name: _together(values) for name, values in each.items()}
    losses = each["loss"]
    if rest and not drop_remainder:
        carry, last = body(carry, order[full * batch_size :])
        share = rest / len(order)
        together = {name: _with(value, last[name], share) for name, value in together.items()}
        losses = jnp.append(losses, last["loss"])
    if compute:
        together = {name: _value(value) for name, value in together.items()}
    return carry, together, losses


def _is_tally(node: Any) -> bool:
    return isinstance(node, Tally)


def _together(values: PyTree) -> PyTree:
    """What batches of the same size report, along the first axis, as one: means, and tallies merged."""

    def one(node: Any) -> Any:
        if not _is_tally(node):
            return jnp.mean(node, axis=0)
        first, rest = (jax.tree.map(lambda a, i=i: a[i], node) for i in (0, slice(1, None)))
        return jax.lax.scan(lambda total, tally: (total.merge(tally), None), first, rest)[0]

    return jax.tree.map(one, values, is_leaf=_is_tally)


def _with(value: PyTree, last: PyTree, share: float) -> PyTree:
    """With a last batch that is a `share` of all examples."""

    def one(a: Any, b: Any) -> Any:
        return a.merge(b) if _is_tally(a) else a + (b - a) * share

    return jax.tree.map(one, value, last, is_leaf=_is_tally)


def _value(value: PyTree) -> PyTree:
    return jax.tree.map(lambda v: v.compute() if _is_tally(v) else v, value, is_leaf=_is_tally)
