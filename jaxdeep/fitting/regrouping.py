"""Rows of batches, put together anew in batches of one size."""

from collections.abc import Iterator

import jax
import numpy as np

from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.train.data import count_rows
from jaxdeep.tree import shapes


def regrouped(batches: Iterator[PyTree], size: int) -> Iterator[tuple[PyTree, int]]:
    """The rows of batches in arrays of `size` rows each, and how many of these are filled."""
    rooms, filled = None, 0
    for batch in batches:
        if not filled and count_rows(batch) == size:
            yield jax.tree.map(own, batch), size
            continue
        if filled and of_examples(rooms) != of_examples(batch):
            yield rooms, filled
            filled = 0
        arrays = jax.tree.map(lambda a: np.asarray(a, shapes(a).dtype), batch)
        done, rows = 0, count_rows(arrays)
        while done < rows:
            if not filled:  # anew each time, since a device may use the memory of the ones before
                rooms = jax.tree.map(lambda a: np.empty((size, *a.shape[1:]), a.dtype), arrays)
            more = min(size - filled, rows - done)
            for room, leaf in zip(jax.tree.leaves(rooms), jax.tree.leaves(arrays)):
                room[filled : filled + more] = leaf[done : done + more]
            filled, done = filled + more, done + more
            if filled == size:
                yield rooms, filled
                filled = 0
    if filled:
        yield rooms, filled


def filled_up(rows: PyTree, filled: int) -> PyTree:
    """The arrays with copies of the last row that counts in place of those behind it."""
    for leaf in jax.tree.leaves(rows):
        if filled < len(leaf):  # which is then an array of ours
            leaf[filled:] = leaf[filled - 1]
    return rows


def of_examples(batch: PyTree) -> str:
    """The shapes of a batch without the number of its rows."""
    return str([leaf.shape[1:] for leaf in jax.tree.leaves(batch)])


def own(array: ArrayLike) -> ArrayLike:
    """An array of the host in memory of its own."""
    return np.array(array) if isinstance(array, np.ndarray) else array
