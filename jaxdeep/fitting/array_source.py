"""`ArraySource`, batches of rows of arrays, which may be larger than a device's memory."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._arrays import OnFile, aligned, on_file, release
from jaxdeep._precision import HostOrDevice, check_holds
from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.fitting.block import Block, Part, Position
from jaxdeep.fitting.placement import Placement
from jaxdeep.lasting.fingerprint import fingerprint
from jaxdeep.train.data import (
    as_arrays,
    check_pair,
    check_weights,
    count_examples,
    rows_of,
    tree_bytes,
    with_rows,
)
from jaxdeep.train.epoch import shuffled
from jaxdeep.train.objective import Bounds, check_bounds
from jaxdeep.train.options import FitOptions
from jaxdeep.train.state import TrainState
from jaxdeep.tree import shapes

Memory = dict[tuple[tuple[int, ...], str], np.ndarray]  # buffers by shape and place

_KNOWN_BYTES = 2**27  # labels of up to this size are all checked before the run
_PAGES = 32  # rows of a file read at a time, since the system maps many pages around each row

_shuffled = jax.jit(shuffled, static_argnums=2)


@functools.partial(jax.jit, static_argnums=2)
def _from_device(leaf: jax.Array, first: ArrayLike, rows: int) -> jax.Array:
    """So many rows of an array; behind its end they are copies of its last row."""
    return jnp.take(leaf, first + jnp.arange(rows), axis=0, mode="clip")


class ArraySource:
    """Batches of rows of arrays. Those of memory maps are read when they are due.

    With `inputs` they are those of a model, of which there may be none.

    Attributes:
      data: the arrays.
      name: the argument that they were passed as.
      examples: number of rows.
      batch_size: rows of a batch.
      sample: the arrays, or a part of very large ones, whose labels are checked before the run.
      like: shapes and dtypes that the programs of a run are made for.
      example: shapes and dtypes of a batch.
      steps: batches of an epoch.
    """

    def __init__(
        self, data: PyTree, name: str, options: FitOptions, *, pairs: bool, inputs: bool = False
    ):
        if options["steps_per_epoch"] is not None:
            raise ValueError("steps_per_epoch is for iterables of batches; arrays are passed over once")
        if pairs:
            check_pair(data, name)
        data = jax.tree.map(on_file, data) if options["stream"] else data
        data = as_arrays(data, name, inputs=inputs)
        self.data, self.name = data, name
        self.examples = rows_of(data, name) if inputs else count_examples(data, name)
        if pairs:
            check_weights(data, name)
        batch_size = min(options["batch_size"], max(self.examples, 1))
        self.batch_size, self._shuffle = batch_size, options["shuffle"]
        self._drop_remainder, self._block_bytes = options["drop_remainder"], options["block_bytes"]
        self._steps_per_call = options["steps_per_call"]
        self._turn, self._memory = 0, dict[tuple[int, int], Memory]()
        self._bounds: Bounds = ()
        self.like = shapes(data)
        sizes = sorted(leaf.nbytes for leaf in jax.tree.leaves(data))
        self._few = sum(sizes[:-1]) < _KNOWN_BYTES
        self.sample = data if self._few else jax.tree.map(lambda leaf: leaf[:batch_size], data)
        if pairs:  # of x only the shapes are looked at
            self.sample = (self.sample[0], *jax.tree.map(_in_memory, tuple(self.sample[1:])))
        self.example = with_rows(data, batch_size)
        full, rest = divmod(self.examples, batch_size)
        self.steps: int | None = full + bool(rest and not self._drop_remainder)

    def keep_within(self, bounds: Bounds) -> None:
        """Check labels as those of `sample` were, now or when they are read."""
        if self._few:
            return
        if any(isinstance(leaf, (np.memmap, OnFile)) for leaf in jax.tree.leaves(self.data)):
            self._bounds = bounds
        else:
            check_bounds(bounds, self.data, self.name)

    def on_device(self, placement: Placement) -> PyTree:
        """The whole arrays on the device, or on each device of a mesh."""
        return placement.everywhere(self.data)

    def is_streamed(self, stream: bool | None) -> bool:
        """Whether rows are read when they are due: by default memory maps, and what does not fit."""
        if stream is not None:
            return stream
        leaves = jax.tree.leaves(self.data)
        if any(isinstance(leaf, (np.memmap, OnFile)) for leaf in leaves):
            return True
        free = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
        from_host = sum(leaf.nbytes for leaf in leaves if isinstance(leaf, np.ndarray))
        return free is not None and from_host > 0.8 * free

    def blocks(self, epoch: int, ts: TrainState, placement: Placement, looped: bool) -> Iterator[Block]:
        """Full batches in blocks of one shape, and the remaining rows as a batch of their own.

        Each block overwrites the one before the last, which must have been computed by then.
        """
        rows, size = self._order(ts), self.batch_size
        full, rest = divmod(self.examples, size)
        batches = rows[: full * size].reshape(full, size)
        leaves, structure = jax.tree.flatten(self.data)
        leaves = [leaf if isinstance(leaf, OnFile) else np.asarray(leaf) for leaf in leaves]

        def read(rows: np.ndarray) -> PyTree:
            if self._bounds:
                self._check(rows.ravel())
            self._turn = 1 - self._turn
            memory = [self._memory.setdefault((self._turn, i), {}) for i in range(len(leaves))]
            return jax.tree.unflatten(
                structure,
                [_read(self.name, leaf, rows, placement, room) for leaf, room in zip(leaves, memory)],
            )

        if not looped:
            for batch in batches:
                yield Block(read(batch), None)
        else:
            bytes_ = max(tree_bytes(self.example), 1)
            per_call = self._steps_per_call or full  # no block goes beyond a call
            many = max(1, min(self._block_bytes // bytes_, per_call, full))
            for part in (
                batches[first : min(first + many, call + per_call)]
                for call in range(0, full, max(per_call, 1))
                for first in range(call, min(call + per_call, full), many)
            ):
                filler = np.broadcast_to(part[:1], (many - len(part), size))
                yield Block(read(np.concatenate([part, filler])), np.int32(len(part)))
        if rest and not self._drop_remainder:
            yield Block(read(rows[full * size :]), None)

    def parts(self, size: int, placement: Placement, *, fill: bool = True) -> Iterator[Part]:
        """All rows in their order, `size` at a time; the last part has as many only with `fill`."""
        leaves, structure = jax.tree.flatten(self.data)
        leaves = [placement.from_host(leaf) for leaf in leaves]
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(self.like)]
        for first in range(0, self.examples, size):
            filled = min(size, self.examples - first)
            if self._bounds:
                self._check(np.arange(first, first + filled))
            rows = slice(first, first + filled), size if fill else filled
            read = [_in_order(self.name, leaf, dtype, *rows) for leaf, dtype in zip(leaves, dtypes)]
            if placement.mesh is not None:  # else the program takes them, which costs less than a call
                read = [placement.part(a.shape, 0, np.asarray(a).__getitem__) for a in read]
            yield Part(jax.tree.unflatten(structure, read), filled)

    def _check(self, rows: np.ndarray) -> None:
        """Check the labels of these rows, which were too many to be looked at before the run."""

        def known(leaf: Any) -> np.ndarray:
            return leaf.take(rows) if isinstance(leaf, OnFile) else np.asarray(leaf[rows])

        x, *rest = self.data
        check_bounds(self._bounds, (x, *jax.tree.map(known, tuple(rest))), self.name)

    def has_ended(self, epoch: int) -> bool:
        """Whether there are no rows for this epoch: never."""
        return False

    def fingerprint(self) -> dict[str, str]:
        """A checksum of the values of each array, by its path, as the programs of a run see them."""
        return fingerprint(self.data)

    def position(self) -> None:
        """None, since the order of an epoch follows from the run."""

    def go_to(self, position: Position) -> None:
        """Do nothing, since the order of an epoch follows from the run."""

    def _order(self, ts: TrainState) -> np.ndarray:
        """The order of the rows in the epoch, the same as for data on the device."""
        if not self._shuffle:
            return np.arange(self.examples)
        return np.asarray(_shuffled(ts.key, ts.step, self.examples))


def _read(
    name: str, leaf: np.ndarray | OnFile, rows: np.ndarray, placement: Placement, memory: Memory
) -> jax.Array:
    """Rows of an array on the device. A CPU device uses the buffers in `memory` they are read into."""
    dtype, row = shapes(leaf).dtype, leaf.shape[1:]

    def read(index: tuple[slice, ...]) -> np.ndarray:
        local_rows = rows[index[: rows.ndim]]
        place = (local_rows.shape, str(index))
        if place not in memory:
            memory[place] = aligned((local_rows.size, *row), dtype)
        buffer, flat = memory[place], local_rows.ravel()
        if isinstance(leaf, OnFile):
            values = leaf.take(flat)
            check_holds(name, values)
            buffer[:] = values
            return buffer.reshape(*local_rows.shape, *row)
        for first in range(0, local_rows.size, _PAGES):
            part = slice(first, first + _PAGES)
            if leaf.dtype == dtype:
                np.take(leaf, flat[part], axis=0, out=buffer[part], mode="clip")
            else:
                values = leaf[flat[part]]
                check_holds(name, values)
                buffer[part] = values
            release(leaf)
        return buffer.reshape(*local_rows.shape, *row)

    return placement.part((*rows.shape, *row), rows.ndim - 1, read)


def _in_order(
    name: str, leaf: jax.Array | np.ndarray | OnFile, dtype: np.dtype, rows: slice, many: int
) -> HostOrDevice:
    """Consecutive rows of an array, followed by so many copies of the last that they are `many`."""
    if isinstance(leaf, jax.Array):
        return _from_device(leaf, np.int32(rows.start), many)
    values = leaf[rows]
    if isinstance(leaf, (np.memmap, OnFile)):
        if isinstance(leaf, OnFile) or leaf.dtype != dtype:
            check_holds(name, values)
        values = np.array(values)
        release(leaf)
    if values.dtype != dtype:
        values = values.astype(dtype)
    if many > len(values):
        values = np.concatenate([values, np.repeat(values[-1:], many - len(values), axis=0)])
    return values


def _in_memory(leaf: Any) -> Any:
    """What is looked at before the run, read if it is on a file."""
    return np.asarray(leaf) if isinstance(leaf, OnFile) else leaf
