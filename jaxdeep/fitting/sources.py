"""Batches that come from the host: arrays larger than a device's memory, and iterables of batches."""

import itertools
import mmap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxdeep.fitting.placement import Placement, check_same_everywhere, usable
from jaxdeep.train.data import check_batch_size, check_pair, count_examples
from jaxdeep.train.epoch import shuffled
from jaxdeep.train.options import FitOptions
from jaxdeep.train.state import TrainState
from jaxdeep.tree import shapes

PyTree = Any

_KNOWN_BYTES = 2**27  # of labels, all of which are looked at before the run
_PAGES = 32  # rows of a file read at a time: the system maps much around each of them
_LOOPED = 32  # batches of an iterable that are stacked: the host is called once for all of them


_shuffled = jax.jit(shuffled, static_argnums=2)


class Block(NamedTuple):
    """Batches on the device: the first `filled` of a stack, or one as it is where that is None."""

    batches: PyTree
    filled: np.int32 | None


class ArraySource:
    """Batches of rows of arrays, or of memory maps, which are read when they are due.

    Attributes:
      data, name: the arrays, and the argument they are.
      examples: rows.
      sample: arrays of which to know everything there is to know before the run.
      like: shapes and dtypes that a whole run is planned with.
      example: shapes and dtypes of a batch.
      steps: batches of an epoch.
    """

    def __init__(
        self,
        data: PyTree,
        name: str,
        *,
        batch_size: int,
        shuffle: bool,
        drop_remainder: bool,
        block_bytes: int,
    ):
        self.data, self.name = data, name
        self.examples = count_examples(data, name)
        batch_size = min(batch_size, self.examples)
        self._batch_size, self._shuffle = batch_size, shuffle
        self._drop_remainder, self._block_bytes = drop_remainder, block_bytes
        self._turn, self._memory = 0, dict[Any, dict[Any, np.ndarray]]()
        self.like = shapes(data)
        sizes = sorted(leaf.nbytes for leaf in jax.tree.leaves(data))
        few = sum(sizes[:-1]) < _KNOWN_BYTES
        self.sample = data if few else jax.tree.map(lambda leaf: leaf[:batch_size], data)
        self.example = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct((batch_size, *s.shape[1:]), s.dtype), self.like
        )
        self.steps: int | None = (
            self.examples // batch_size if drop_remainder else -(-self.examples // batch_size)
        )

    def on_device(self, placement: Placement) -> PyTree:
        """The whole arrays on the device, or on each device of a mesh."""
        return placement.everywhere(self.data)

    def is_streamed(self, stream: bool | None) -> bool:
        """Whether rows are read when they are due: by default memory maps, and what does not fit."""
        if stream is not None:
            return stream
        leaves = jax.tree.leaves(self.data)
        if any(isinstance(leaf, np.memmap) for leaf in leaves):
            return True
        free = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
        from_host = sum(leaf.nbytes for leaf in leaves if isinstance(leaf, np.ndarray))
        return free is not None and from_host > 0.8 * free

    def blocks(self, epoch: int, ts: TrainState, placement: Placement, looped: bool) -> Iterator[Block]:
        """Full batches in blocks of one shape, and what is left as a batch of its own.

        A block is written over by the next but one, which is read when it has been computed.
        """
        rows, size = self._order(ts), self._batch_size
        full, rest = divmod(self.examples, size)
        batches = rows[: full * size].reshape(full, size)
        leaves, structure = jax.tree.flatten(self.data)
        leaves = [leaf if isinstance(leaf, np.ndarray) else np.asarray(leaf) for leaf in leaves]

        def read(rows: np.ndarray) -> PyTree:
            self._turn = 1 - self._turn
            memory = [self._memory.setdefault((self._turn, i), {}) for i in range(len(leaves))]
            return jax.tree.unflatten(
                structure, [_read(leaf, rows, placement, own) for leaf, own in zip(leaves, memory)]
            )

        if not looped:
            for batch in batches:
                yield Block(read(batch), None)
        else:
            bytes_ = sum(s.dtype.itemsize * int(np.prod(s.shape)) for s in jax.tree.leaves(self.example))
            many = max(1, min(self._block_bytes // max(bytes_, 1), full))
            for first in range(0, full, many):
                part = batches[first : first + many]
                filler = np.broadcast_to(part[:1], (many - len(part), size))
                yield Block(read(np.concatenate([part, filler])), np.int32(len(part)))
        if rest and not self._drop_remainder:
            yield Block(read(rows[full * size :]), None)

    def position(self) -> None:
        """Nothing: the order of an epoch follows from the run."""

    def go_to(self, position: Any) -> None:
        """Nothing to do."""

    def _order(self, ts: TrainState) -> np.ndarray:
        """As for data on the device."""
        if not self._shuffle:
            return np.arange(self.examples)
        return np.asarray(_shuffled(ts.key, ts.step, self.examples))


class LoaderSource:
    """An iterable of batches, an iterator, or a function from the epoch to an iterable.

    With `steps_per_epoch` an epoch takes so many and the next one goes on from there; without, it takes
    all there are. An iterator with ``get_state`` and ``set_state``, as Grain's have, is put back where a
    checkpoint left it; any other is read again up to there.

    Attributes:
      name, sample, like, example, steps: as for `ArraySource`; nobody may know the steps.
    """

    def __init__(self, data: Any, name: str, *, steps_per_epoch: int | None):
        self.name, self.steps = name, steps_per_epoch
        self._data = data
        self._goes_on = steps_per_epoch is not None or (not callable(data) and iter(data) is data)
        self._taken, self._ahead = 0, list[PyTree]()
        self._iterator = self._begin(0)
        self.sample = self._next()
        if self.sample is None:
            raise ValueError(f"{name} holds no batches")
        count_examples(self.sample, f"a batch of {name}")
        self._taken, self._ahead = 0, [self.sample]
        processes = jax.process_count()  # each has its share of a batch
        self.example = self.like = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct((s.shape[0] * processes, *s.shape[1:]), s.dtype),
            shapes(self.sample),
        )

    def blocks(self, epoch: int, ts: TrainState, placement: Placement, looped: bool) -> Iterator[Block]:
        """Batches like the first in blocks of one shape, others one by one."""
        usual, waiting = shapes(self.sample), list[PyTree]()
        for batch in self._epoch(epoch):
            # arrays that are on a device already are best left there
            on_host = not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(batch))
            alike = looped and on_host and shapes(batch) == usual
            if alike:
                waiting.append(batch)
            if waiting and (not alike or len(waiting) == _LOOPED):
                yield _stacked(waiting, placement)
                waiting = []
            if not alike:
                yield Block(jax.tree.map(lambda a: _shared(a, placement), batch), None)
        if waiting:
            yield _stacked(waiting, placement)

    def position(self) -> Any:
        """Batches taken, and the iterator's own state where it has one."""
        if not self._goes_on:
            return None
        state = self._iterator.get_state() if _has_state(self._iterator) else None
        if isinstance(state, bytes):
            return {"taken": self._taken, "bytes": state.hex()}
        return {"taken": self._taken, "state": state}

    def go_to(self, position: Any) -> None:
        """Go on from there."""
        if not self._goes_on or position is None:
            return
        if _has_state(self._iterator):
            known = position.get("bytes")
            self._iterator.set_state(position["state"] if known is None else bytes.fromhex(known))
            self._taken, self._ahead = position["taken"], []
        else:
            for _ in range(position["taken"]):
                self._next(again=True)

    def _epoch(self, epoch: int) -> Iterator[PyTree]:
        """The batches of an epoch."""
        if not self._goes_on and (epoch or not self._ahead):
            self._iterator, self._ahead = self._begin(epoch), []
        for done in itertools.count() if self.steps is None else range(self.steps):
            batch = self._next(again=self.steps is not None)
            if batch is None:
                if done and self.steps is None:
                    return
                raise ValueError(
                    f"{self.name} has no batch {done} for epoch {epoch}: an iterator ends once; give "
                    "steps_per_epoch= for one that goes on, a function from the epoch to an iterable, "
                    "or something that can be iterated again"
                )
            yield batch

    def _begin(self, epoch: int) -> Any:
        return iter(self._data(epoch) if callable(self._data) else self._data)

    def _next(self, *, again: bool = False) -> PyTree | None:
        """The next batch; None at the end, or the first one `again`."""
        batch = self._ahead.pop() if self._ahead else next(self._iterator, None)
        if batch is None and again:
            self._iterator = self._begin(0)
            batch = next(self._iterator, None)
        self._taken += batch is not None
        return None if batch is None else jax.tree.map(_array, batch)


def sources_of(
    data: PyTree, options: FitOptions, *, pairs: bool
) -> tuple[list[ArraySource | LoaderSource], Mesh | None]:
    """The data, and the validation data if there are any, as sources; and the devices to compute on.

    Args:
      data: as `jaxdeep.fit` takes them.
      options: of the run.
      pairs: whether data must be ``(x, y)`` or ``(x, y, weights)``.

    Raises:
      ValueError, TypeError: data that are not what they must be, a batch larger than the data, devices
        that do not divide it.
    """
    sources = [source_of(data, "data", options)]
    if options["validation"] is not None:
        evaluated: FitOptions = {"shuffle": False, "drop_remainder": False, "steps_per_epoch": None}
        sources.append(source_of(options["validation"], "validation", {**options, **evaluated}))
    for source in sources if pairs else ():
        check_pair(source.sample, source.name)
    training = sources[0]
    if isinstance(training, ArraySource):
        check_batch_size(options["batch_size"], training.examples)
    mesh = usable(options["mesh"], options["shard"], training.example)
    for source in sources:
        if mesh is not None and isinstance(source, ArraySource):
            check_same_everywhere(source.data, source.name)
    return sources, mesh


def source_of(data: Any, name: str, options: FitOptions) -> ArraySource | LoaderSource:
    """Data as a source of batches."""
    if is_batches(data):
        return LoaderSource(data, name, steps_per_epoch=options["steps_per_epoch"])
    if options["steps_per_epoch"] is not None:
        raise ValueError("steps_per_epoch is for iterables of batches; arrays are passed over once")
    return ArraySource(
        data,
        name,
        batch_size=options["batch_size"],
        shuffle=options["shuffle"],
        drop_remainder=options["drop_remainder"],
        block_bytes=options["block_bytes"],
    )


def is_batches(data: Any) -> bool:
    """Whether data is something to iterate over, or a function that gives it, and not arrays."""
    if isinstance(data, (tuple, list, Mapping)) or hasattr(data, "shape"):
        return False
    return callable(data) or hasattr(data, "__iter__")


def _read(
    leaf: np.ndarray, rows: np.ndarray, placement: Placement, memory: dict[Any, np.ndarray]
) -> jax.Array:
    """Rows of an array, on the device; on a CPU they stay where they were read into, in `memory`."""
    dtype, row = shapes(leaf).dtype, leaf.shape[1:]

    def read(index: tuple[slice, ...]) -> np.ndarray:
        wanted = rows[index[: rows.ndim]]
        place = (wanted.shape, str(index))
        if place not in memory:
            memory[place] = _aligned((wanted.size, *row), dtype)
        found, flat = memory[place], wanted.ravel()
        for part in range(0, wanted.size, _PAGES):
            some = slice(part, part + _PAGES)
            if leaf.dtype == dtype:
                np.take(leaf, flat[some], axis=0, out=found[some], mode="clip")
            else:
                found[some] = leaf[flat[some]]
            _release(leaf)
        return found.reshape(*wanted.shape, *row)

    return placement.part((*rows.shape, *row), rows.ndim - 1, read)


def _stacked(batches: list[PyTree], placement: Placement) -> Block:
    filler = batches[:1] * (_LOOPED - len(batches))
    block = jax.tree.map(lambda *leaves: _shared(np.stack(leaves), placement, 1), *batches, *filler)
    return Block(block, np.int32(len(batches)))


def _shared(array: Any, placement: Placement, axis: int = 0) -> jax.Array:
    """A batch, or a stack of them, of this process on the device."""
    if isinstance(array, jax.Array) and placement.mesh is None:
        return array
    return placement.share(np.asarray(array, shapes(array).dtype), axis)


def _array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)


def _has_state(iterator: Any) -> bool:
    return hasattr(iterator, "get_state") and hasattr(iterator, "set_state")


def _aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array that a CPU device can take without a copy: it begins at a multiple of 64 bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + size].view(dtype).reshape(shape)


def _release(leaf: np.ndarray) -> None:
    """Let go of the pages of a file that were read: a shared map does not need to hold them."""
    if isinstance(leaf, np.memmap) and leaf.mode in ("r", "r+") and hasattr(mmap, "MADV_DONTNEED"):
        inside = getattr(leaf, "_mmap", None)
        if inside is not None:
            inside.madvise(mmap.MADV_DONTNEED)
