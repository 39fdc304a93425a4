"""Sources of batches: arrays, which may be larger than a device's memory, and loaders of batches."""

import itertools
import mmap
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeGuard

import jax
import numpy as np
from jax.sharding import Mesh

from jaxdeep._arrays import OnFile, check_holds, on_file
from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.fitting.placement import Placement, check_same_everywhere, usable
from jaxdeep.train.data import (
    as_arrays,
    check_batch_size,
    check_pair,
    check_weights,
    count_examples,
    count_rows,
    rows_of,
    tree_bytes,
    with_rows,
)
from jaxdeep.train.epoch import shuffled
from jaxdeep.train.objective import Bounds, check_bounds
from jaxdeep.train.options import FitOptions
from jaxdeep.train.state import TrainState
from jaxdeep.tree import path_name, shapes

Batches = Iterable[PyTree] | Callable[[int], Iterable[PyTree]]
Position = dict[str, Any] | None  # of an iterator, as JSON
Memory = dict[tuple[tuple[int, ...], str], np.ndarray]  # buffers by shape and place

_KNOWN_BYTES = 2**27  # labels of up to this size are all checked before the run
_PAGES = 32  # rows of a file read at a time, since the system maps many pages around each row
_LOOPED = 32  # batches of a loader that are stacked, so that one call computes all of them


_shuffled = jax.jit(shuffled, static_argnums=2)


class Block(NamedTuple):
    """Batches on the device: the first `filled` of a stack of them, or one batch if `filled` is None."""

    batches: PyTree
    filled: np.int32 | None


class ArraySource:
    """Batches of rows of arrays. Those of memory maps are read when they are due.

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

    def __init__(self, data: PyTree, name: str, options: FitOptions, *, pairs: bool):
        if options["steps_per_epoch"] is not None:
            raise ValueError("steps_per_epoch is for iterables of batches; arrays are passed over once")
        if pairs:
            check_pair(data, name)
        data = as_arrays(jax.tree.map(on_file, data) if options["stream"] else data, name)
        self.data, self.name = data, name
        self.examples = count_examples(data, name)
        if pairs:
            check_weights(data, name)
        batch_size = min(options["batch_size"], self.examples)
        self.batch_size, self._shuffle = batch_size, options["shuffle"]
        self._drop_remainder, self._block_bytes = options["drop_remainder"], options["block_bytes"]
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
        if any(isinstance(leaf, np.memmap) for leaf in leaves):
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
            many = max(1, min(self._block_bytes // bytes_, full))
            for first in range(0, full, many):
                part = batches[first : first + many]
                filler = np.broadcast_to(part[:1], (many - len(part), size))
                yield Block(read(np.concatenate([part, filler])), np.int32(len(part)))
        if rest and not self._drop_remainder:
            yield Block(read(rows[full * size :]), None)

    def _check(self, rows: np.ndarray) -> None:
        """Check the labels of these rows, which were too many to be looked at before the run."""

        def known(leaf: Any) -> np.ndarray:
            return leaf.take(rows) if isinstance(leaf, OnFile) else np.asarray(leaf[rows])

        x, *rest = self.data
        check_bounds(self._bounds, (x, *jax.tree.map(known, tuple(rest))), self.name)

    def position(self) -> None:
        """None, since the order of an epoch follows from the run."""

    def go_to(self, position: Position) -> None:
        """Do nothing, since the order of an epoch follows from the run."""

    def _order(self, ts: TrainState) -> np.ndarray:
        """The order of the rows in the epoch, the same as for data on the device."""
        if not self._shuffle:
            return np.arange(self.examples)
        return np.asarray(_shuffled(ts.key, ts.step, self.examples))


class Resumable(Protocol):
    """An iterator that says where it is and can be put there, such as Grain's."""

    def get_state(self) -> Any:
        """Where it is, as bytes or JSON."""

    def set_state(self, state: Any, /) -> None:
        """Put it there."""


class LoaderSource:
    """Batches of an iterable, of an iterator, or of a function from the epoch to an iterable.

    With `steps_per_epoch` an epoch takes this many batches and the next epoch goes on from there.
    Without it, an epoch takes all batches there are. Batches without rows are left out. All others have
    the structure and the dtypes of the first, and may have other numbers of rows.

    An iterator with ``get_state`` and ``set_state``, such as Grain's, is put back where a checkpoint
    left it; any other is read again up to there. What is iterated over once an epoch is iterated over
    again as often as before, since it may shuffle itself; a function is asked for the last epoch. If its
    batches are then others than those the checkpoint knows of, that is refused.

    Attributes:
      name, sample, like, example: as for `ArraySource`.
      batch_size: rows of the first batch.
      steps: batches of an epoch, None if it is unknown.
    """

    def __init__(self, data: Batches, name: str, options: FitOptions, *, pairs: bool):
        self.name, self.steps = name, options["steps_per_epoch"]
        self._data, self._pairs = data, pairs
        self._taken, self._ahead = 0, list[PyTree]()
        self._passes, self._epoch_begun, self._known, self._steady = 0, 0, 0, True
        self._last: PyTree = None
        self._usual: Any = None
        self._bounds: Bounds = ()
        self._number = -1  # of the batch at hand, among those since the iterator began
        # not begun a second time to see what it is, since each time may be another order
        self._iterator = self._begin(0)
        self._goes_on = self.steps is not None or (not callable(data) and self._iterator is data)
        self.sample = self._next()
        if self.sample is None:
            raise ValueError(f"{name} holds no batches with rows")
        self._taken, self._ahead = 0, [self.sample]
        self._usual = shapes(self.sample)
        self.batch_size = count_rows(self.sample) * jax.process_count()  # each process has its share
        self.example = self.like = with_rows(self.sample, self.batch_size)

    def keep_within(self, bounds: Bounds) -> None:
        """Check the labels of all further batches that come from the host as those of the first were."""
        self._bounds = bounds

    def blocks(self, epoch: int, ts: TrainState, placement: Placement, looped: bool) -> Iterator[Block]:
        """Batches of the same shapes as the first in blocks, others one by one."""
        usual, waiting = shapes(self.sample), list[PyTree]()
        for batch in self._epoch(epoch):
            # arrays that are on a device already are not stacked on the host
            on_host = not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(batch))
            stacks = looped and on_host and shapes(batch) == usual
            if stacks:
                waiting.append(batch)
            if waiting and (not stacks or len(waiting) == _LOOPED):
                yield _stacked(waiting, placement)
                waiting = []
            if not stacks:
                yield Block(jax.tree.map(lambda a: _shared(a, placement), batch), None)
        if waiting:
            yield _stacked(waiting, placement)

    def position(self) -> Position:
        """The number of batches taken, and the iterator's own state if it has one.

        Of what is begun anew for each epoch, it is the number of passes and what tells their batches.
        """
        if not self._goes_on:
            names = "passes", "epoch", "batches", "steady"
            return dict(zip(names, (self._passes, self._epoch_begun, self._known, self._steady)))
        state = self._iterator.get_state() if _has_state(self._iterator) else None
        if isinstance(state, bytes):
            return {"taken": self._taken, "bytes": state.hex()}
        return {"taken": self._taken, "state": state, "last": _checksum(self._last)}

    def go_to(self, position: Position) -> None:
        """Continue from a position that `position` returned.

        Raises:
          ValueError: the batches of the epochs before are not those of the run that is continued.
        """
        if position is None:
            return
        if not self._goes_on:
            self._pass_again(position)
            return
        if _has_state(self._iterator):
            known = position.get("bytes")
            self._iterator.set_state(position["state"] if known is None else bytes.fromhex(known))
            self._taken, self._ahead = position["taken"], []
        else:
            for _ in range(position["taken"]):
                self._last = self._next(again=True)
            if position.get("last") not in (None, _checksum(self._last)):
                raise ValueError(self._differs("the last one that it was left at is another"))

    def _epoch(self, epoch: int) -> Iterator[PyTree]:
        """The batches of an epoch."""
        if not self._goes_on and (epoch or not self._ahead):
            self._iterator, self._ahead = self._begin(epoch), []
        for done in itertools.count() if self.steps is None else range(self.steps):
            batch = self._next(again=self.steps is not None)
            if not done and batch is not None and not self._goes_on:
                self._count_pass(batch, epoch)
            self._last = batch
            if batch is None:
                if done and self.steps is None:
                    return
                raise ValueError(
                    f"{self.name} has no batch {done} for epoch {epoch}: an iterator ends once; give "
                    "steps_per_epoch= for one that goes on, a function from the epoch to an iterable, "
                    "or something that can be iterated again"
                )
            yield batch

    def _begin(self, epoch: int) -> Iterator[PyTree]:
        self._number = -1
        batches = self._data(epoch) if callable(self._data) else self._data
        try:
            return iter(batches)
        except TypeError:
            raise TypeError(
                f"{self.name} must give an iterable of batches for an epoch, got {batches!r}"
            ) from None

    def _count_pass(self, first: PyTree, epoch: int) -> None:
        """Take note of a pass over the batches, for this epoch, that begins with this one."""
        before, self._known = self._known, _checksum(first)
        self._steady &= not self._passes or self._known == before
        self._passes, self._epoch_begun = self._passes + 1, epoch

    def _pass_again(self, position: dict[str, Any]) -> None:
        """Be where a run was that has passed over the batches so often."""
        passes, is_function = position["passes"], callable(self._data)
        if not passes:
            return
        # what has begun every epoch with the same batch has no order of its own to be put back
        once = is_function or (position["steady"] and passes > 1)
        for i in range(1 if once else passes):
            epoch = position["epoch"] if is_function else i
            if epoch or not self._ahead:
                self._iterator, self._ahead = self._begin(epoch), []
            first = self._next()
            self._known = _checksum(first)
            while not once and first is not None and self._next() is not None:
                pass
        self._iterator, self._ahead = iter(()), []
        # of several processes, which have shares of their own, only one has written the position
        if self._known != position["batches"] and jax.process_count() == 1:
            raise ValueError(self._differs(f"epoch {passes - 1} began with another"))
        self._passes, self._steady = passes, position["steady"]

    def _differs(self, what: str) -> str:
        return (
            f"{self.name} gives other batches than in the run that is to go on ({what}), so that it "
            "would not end with the same result. Make it again as it was, with a seed of its own "
            "(torch.utils.data.DataLoader(…, generator=torch.Generator().manual_seed(0))), or give a "
            "function from the epoch to its batches; or begin anew in another directory"
        )

    def _next(self, *, again: bool = False) -> PyTree | None:
        """The next batch. At the end this is None, or with `again` the first batch again."""
        if self._ahead:
            self._taken += 1
            return self._ahead.pop()
        batch = self._with_rows()
        if batch is None and again:
            self._iterator = self._begin(0)
            batch = self._with_rows()
        self._taken += batch is not None
        return batch

    def _with_rows(self) -> PyTree | None:
        """The next batch that has rows, checked; None at the end."""
        for made in self._iterator:
            self._number += 1
            if self._pairs:
                check_pair(made, self.name)
            batch = as_arrays(made, self.name)
            if rows_of(batch, f"a batch of {self.name}"):
                self._check(batch)
                return batch
        return None

    def _check(self, batch: PyTree) -> None:
        """Refuse weights that are not finite, and what the programs of the run were not made for."""
        if self._usual is None:
            if self._pairs:
                check_weights(batch, self.name)
            return
        if str(jax.tree.structure(batch)) != str(jax.tree.structure(self._usual)):
            raise ValueError(
                f"every batch of {self.name} must have the parts of the first, "
                f"{jax.tree.structure(self._usual)}, got {jax.tree.structure(batch)}"
            )
        usual = jax.tree_util.tree_leaves_with_path(self._usual)
        for (path, known), new in zip(usual, jax.tree.leaves(shapes(batch))):
            if known.dtype != new.dtype or len(known.shape) != len(new.shape):
                where = f"{self.name}[{path_name(path)}]" if path else self.name
                raise ValueError(
                    f"{where} must be in every batch as in the first, {known.dtype} of "
                    f"{len(known.shape)} axes, got {new.dtype} of shape {new.shape}"
                )
        if not self._pairs:
            return
        x, y, *weights = batch
        try:
            if all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(weights)):
                check_weights(batch, self.name)  # a device is not waited for
            check_bounds(self._bounds, (x, y, *weights), self.name)
        except ValueError as error:
            raise ValueError(f"batch {self._number} of {self.name}: {error}") from None


Source = ArraySource | LoaderSource


def sources_of(
    data: PyTree, options: FitOptions, *, passed: Collection[str] = (), pairs: bool
) -> tuple[list[Source], Mesh | None]:
    """The sources of the training and, if there are any, validation data, and the mesh to compute on.

    Args:
      data: as `jaxdeep.fit` takes them.
      options: the options of the run.
      passed: names of the options that were passed and are not at their defaults by themselves.
      pairs: whether data must be ``(x, y)`` or ``(x, y, weights)``.

    Raises:
      ValueError, TypeError: data of another form, a batch larger than the data, a batch that the devices
        do not divide, options that a loader decides.
    """

    def source_of(data: PyTree | Batches, name: str, options: FitOptions) -> Source:
        return (LoaderSource if is_batches(data) else ArraySource)(data, name, options, pairs=pairs)

    sources = [source_of(data, "data", options)]
    if options["validation"] is not None:
        evaluated: FitOptions = {"shuffle": False, "drop_remainder": False, "steps_per_epoch": None}
        sources.append(source_of(options["validation"], "validation", {**options, **evaluated}))
    training = sources[0]
    if isinstance(training, ArraySource):
        check_batch_size(options["batch_size"], training.examples)
        who = "batch_size"
    else:
        _check_decided_by_loader(options, passed, sources)
        who = "the number of rows of a batch of data"
    mesh = usable(options["mesh"], options["shard"], training.example, who)
    for source in sources:
        if mesh is not None and isinstance(source, ArraySource):
            check_same_everywhere(source.data, source.name)
    return sources, mesh


def keep_within(sources: Sequence[Source], bounds: Mapping[str, Bounds]) -> None:
    """Check all labels as those of the sources' samples were, of which these are the bounds by name."""
    for source in sources:
        source.keep_within(bounds.get(source.name, ()))


def position_of(sources: Sequence[Source]) -> Position:
    """Where the sources are: the training data, and under "validation" a loader of validation data."""
    positions = [source.position() for source in sources]
    if len(positions) == 1 or positions[1] is None:
        return positions[0]
    return {**(positions[0] or {}), "validation": positions[1]}


def go_to(sources: Sequence[Source], position: Position) -> None:
    """Put the sources where `position_of` found them."""
    sources[0].go_to(position)
    if len(sources) == 2 and position is not None:
        sources[1].go_to(position.get("validation"))


def _check_decided_by_loader(
    options: FitOptions, passed: Collection[str], sources: list[Source]
) -> None:
    """Refuse options of arrays that were passed with a loader, which decides them itself."""
    for name in ("shuffle", "drop_remainder"):
        if name in passed:
            value = options[name]
            raise ValueError(
                f"{name}={value!r} is for arrays: data is a loader, which decides this itself; drop it"
            )
    rows = sources[0].batch_size
    for_validation = any(isinstance(source, ArraySource) for source in sources)
    shares = (rows, rows // jax.process_count())
    if "batch_size" in passed and not for_validation and options["batch_size"] not in shares:
        raise ValueError(
            f"batch_size={options['batch_size']} is for arrays: data is a loader, whose own batches "
            f"have {rows} rows; drop it"
        )


def is_batches(data: PyTree | Batches) -> TypeGuard[Batches]:
    """Whether data is an iterable of batches, or a function that returns one, and not arrays."""
    if isinstance(data, (tuple, list, Mapping)) or hasattr(data, "shape"):
        return False
    return callable(data) or hasattr(data, "__iter__")


def _read(
    name: str, leaf: np.ndarray | OnFile, rows: np.ndarray, placement: Placement, memory: Memory
) -> jax.Array:
    """Rows of an array on the device. A CPU device uses the buffers in `memory` they are read into."""
    dtype, row = shapes(leaf).dtype, leaf.shape[1:]

    def read(index: tuple[slice, ...]) -> np.ndarray:
        local_rows = rows[index[: rows.ndim]]
        place = (local_rows.shape, str(index))
        if place not in memory:
            memory[place] = _aligned((local_rows.size, *row), dtype)
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
            _release(leaf)
        return buffer.reshape(*local_rows.shape, *row)

    return placement.part((*rows.shape, *row), rows.ndim - 1, read)


def _in_memory(leaf: Any) -> Any:
    """What is looked at before the run, read if it is on a file."""
    return np.asarray(leaf) if isinstance(leaf, OnFile) else leaf


def _stacked(batches: list[PyTree], placement: Placement) -> Block:
    filler = batches[:1] * (_LOOPED - len(batches))
    block = jax.tree.map(lambda *leaves: _shared(np.stack(leaves), placement, 1), *batches, *filler)
    return Block(block, np.int32(len(batches)))


def _shared(array: ArrayLike, placement: Placement, axis: int = 0) -> jax.Array:
    """A batch or a stack of batches of this process, on the device."""
    if isinstance(array, jax.Array) and placement.mesh is None:
        return array
    return placement.share(np.asarray(array, shapes(array).dtype), axis)


def _checksum(batch: PyTree) -> int:
    """A number that tells a batch from others."""
    sum_ = 0
    for leaf in jax.tree.leaves(batch):
        sum_ = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), sum_)
    return sum_


def _has_state(iterator: object) -> TypeGuard[Resumable]:
    return hasattr(iterator, "get_state") and hasattr(iterator, "set_state")


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An empty array that begins at a multiple of 64 bytes, so that a CPU device need not copy it."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + size].view(dtype).reshape(shape)


def _release(leaf: np.ndarray) -> None:
    """Drop the pages of a memory map from memory; the file still has them."""
    if isinstance(leaf, np.memmap) and leaf.mode in ("r", "r+") and hasattr(mmap, "MADV_DONTNEED"):
        memory_map = getattr(leaf, "_mmap", None)
        if memory_map is not None:
            memory_map.madvise(mmap.MADV_DONTNEED)
