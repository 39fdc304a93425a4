"""`LoaderSource`, batches of an iterable, of an iterator, or of a function from the epoch."""

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._checks import takes
from jaxdeep._precision import extremes
from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.fitting.block import Block, Part, Position
from jaxdeep.fitting.loaders import from_json, is_stateful, taken_apart, to_json
from jaxdeep.fitting.placement import Placement
from jaxdeep.fitting.regrouping import filled_up, of_examples, own, regrouped
from jaxdeep.train.columns import Columns, check_columns, columns_of, with_rows_of
from jaxdeep.train.data import as_arrays, check_pair, check_weights, count_rows, rows_of, with_rows
from jaxdeep.train.objective import Bounds, check_bounds
from jaxdeep.train.options import FitOptions
from jaxdeep.train.state import TrainState
from jaxdeep.tree import path_name, shapes

Batches = Iterable[PyTree] | Callable[[int], Iterable[PyTree]]

_LASTING = (
    "give steps_per_epoch= for one that goes on, a function from the epoch to an iterable, or something "
    "that can be iterated again"
)
_END = object()
_FIRST_EPOCH = " of the batches of the first epoch"
_LOOPED = 32  # batches of a loader that are stacked, so that one call computes all of them


class Resumable(Protocol):
    """An iterator that says where it is and can be put there, such as Grain's."""

    def get_state(self) -> Any:
        """Where it is, as anything that `to_json` keeps."""

    def set_state(self, state: Any, /) -> None:
        """Put it there."""


class LoaderSource:
    """Batches of an iterable, of an iterator, or of a function from the epoch to an iterable.

    With `steps_per_epoch` an epoch takes this many batches and the next epoch goes on from there.
    Without it, an epoch takes all batches there are. Batches without rows are left out. All others have
    the structure and the dtypes of the first, and may have other numbers of rows; whole numbers of
    another width that its dtype holds are made those of the first.

    A loader with ``state_dict`` and ``load_state_dict``, such as torchdata's, and an iterator with
    ``get_state`` and ``set_state``, such as Grain's, are put back where a checkpoint left them. Any
    other iterator is read again up to there. What is iterated over once an epoch is iterated over
    again as often as before, since it may shuffle itself; a function is asked for the last epoch. If its
    batches are then others than those the checkpoint knows of, that is refused.

    Attributes:
      name, sample, like, example: as for `ArraySource`.
      batch_size: rows of the first batch.
      steps: batches of an epoch, None if it is unknown.
    """

    def __init__(
        self, data: Batches, name: str, options: FitOptions, *, pairs: bool, inputs: bool = False
    ):
        self.name, self.steps = name, options["steps_per_epoch"]
        self._is_kept = options["checkpoint"] is not None  # so that its position will be asked for
        self._data, self._pairs, self._inputs = data, pairs, inputs
        self._batch, self._steps_per_call = options["batch"], options["steps_per_call"]
        self._taken, self._ahead = 0, list[PyTree]()
        self._passes, self._epoch_begun, self._known = 0, 0, 0
        self._last = 0  # checksum of the batch that was taken last
        self._usual: Any = None
        self._bounds: Bounds = ()
        self._columns = list[Columns]()  # of each array, to be told apart
        self._try: Callable[[PyTree, str], object] = lambda batch, name: None
        self._tried = set[str]()  # shapes of examples
        self._is_begun = False  # by a look whether there is a batch for another epoch
        self._number = -1  # of the batch at hand, among those since the iterator began
        self._goes_on = self.steps is not None
        _check_lasts(data, name, options)
        # not begun a second time to see what it is, since each time may be another order
        self._iterator = self._begin(0)
        first = self._next()
        if first is None:
            raise ValueError(f"{name} holds no batches with rows")
        self.sample = jax.tree.map(own, first)
        self._taken, self._ahead = 0, [self.sample]
        self._own_state()  # one that cannot be kept is refused before the run
        self._usual = shapes(self.sample)
        self._tried.add(of_examples(self._usual))
        self.batch_size = count_rows(self.sample) * jax.process_count()  # each process has its share
        self.example = self.like = with_rows(self.sample, self.batch_size)

    def keep_within(self, bounds: Bounds) -> None:
        """Check the labels of all further batches that come from the host as those of the first were."""
        self._bounds = bounds

    def keep_to(self, trial: Callable[[PyTree, str], object]) -> None:
        """Try out a batch whose examples have another shape than those of all before."""
        self._try = trial

    def keep_told_apart(self) -> None:
        """Refuse, after the next epoch, what `check_told_apart_by_column` refuses of arrays."""
        self._columns = [columns_of(leaf) for leaf in jax.tree.leaves(self.sample)]

    def blocks(self, epoch: int, ts: TrainState, placement: Placement, looped: bool) -> Iterator[Block]:
        """Batches of the same shapes as the first in blocks, others one by one.

        A batch is copied before the next one is asked for, which may be made in the same memory.
        """
        usual, waiting = shapes(self.sample), _Stack()
        for number, batch in enumerate(self._told_apart(self._epoch(epoch)), 1):
            # arrays that are on a device already are not stacked on the host
            on_host = not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(batch))
            stacks = looped and on_host and shapes(batch) == usual
            if stacks:
                waiting.add(batch)
            ends_call = self._steps_per_call is not None and number % self._steps_per_call == 0
            if waiting.filled and (not stacks or waiting.filled == _LOOPED or ends_call):
                yield waiting.block(placement)
                waiting = _Stack()
            if not stacks:
                yield Block(jax.tree.map(lambda a: _shared(own(a), placement), batch), None)
        if waiting.filled:
            yield waiting.block(placement)

    def parts(self, size: int, placement: Placement, *, fill: bool = True) -> Iterator[Part]:
        """The rows of an epoch in their order, put together anew, `size` at a time.

        Where they end, or examples of another shape follow, a part has fewer, which `fill` fills up.
        """
        share = size // jax.process_count()
        for rows, filled in regrouped(self._epoch(0), share):
            kept = filled_up(rows, filled) if fill else jax.tree.map(lambda a, n=filled: a[:n], rows)
            near = jax.tree.map(placement.from_host, kept)
            if placement.mesh is None:
                yield Part(jax.tree.map(_canonical, near), filled)
            else:
                yield Part(jax.tree.map(lambda a: placement.share(_canonical(a), 0), near), filled)

    def fingerprint(self) -> None:
        """None, since batches are told by their position."""

    def position(self) -> Position:
        """The number of batches taken, and the iterator's own state if it has one.

        Of what is begun anew for each epoch, it is the number of passes and a checksum of the batches of
        the last one.
        """
        own = self._own_state()
        if not self._goes_on:
            return {
                "passes": self._passes,
                "epoch": self._epoch_begun,
                "batches": self._known,
                **own,
            }
        return {"taken": self._taken, **(own or {"last": self._last})}

    def go_to(self, position: Position) -> None:
        """Continue from a position that `position` returned.

        Raises:
          ValueError: the batches of the epochs before are not those of the run that is continued.
        """
        if position is None:
            return
        if is_stateful(self._data) and (loader_state := position.get("loader")) is not None:
            self._data.load_state_dict(from_json(loader_state))
            self._passes, self._taken = position.get("passes", 0), position.get("taken", 0)
            self._iterator, self._ahead = self._begin(0) if self._goes_on else iter(()), []
            return
        if not self._goes_on:
            self._pass_again(position)
            return
        if _has_state(self._iterator) and (state := _iterator_state(position)) is not None:
            self._iterator.set_state(state)
            self._taken, self._ahead = position["taken"], []
        else:
            last: PyTree = None
            for _ in range(position["taken"]):
                last = self._next(again=True)
            self._last = _checksum(last)
            if position.get("last") not in (None, self._last):
                raise ValueError(self._differs("the last one that it was left at is another"))

    def _own_state(self) -> dict[str, Any]:
        """The state of the loader, or of an iterator that goes on, if a checkpoint is to keep it.

        It is under "loader" or "iterator", and nowhere if neither has one.
        """
        if not self._is_kept:
            return {}
        if is_stateful(self._data):
            return {"loader": to_json(self._data.state_dict(), self.name)}
        if self._goes_on and _has_state(self._iterator):
            return {"iterator": to_json(self._iterator.get_state(), self.name)}
        return {}

    def has_ended(self, epoch: int) -> bool:
        """Whether an iterator of one's own, passed over before, has no batch for another epoch.

        Its class does not say whether it rewinds when it is iterated over again, so that it is begun.
        """
        if self._goes_on or not self._passes or not isinstance(self._data, Iterator):
            return False
        if not self._is_begun:
            self._iterator, self._ahead = self._begin(epoch), []
            first = self._next()
            self._is_begun = first is not None
            if first is not None:
                self._taken, self._ahead = self._taken - 1, [jax.tree.map(own, first)]
        return not self._is_begun

    def _epoch(self, epoch: int) -> Iterator[PyTree]:
        """The batches of an epoch."""
        if not self._goes_on and not self._is_begun and (epoch or not self._ahead):
            self._iterator, self._ahead = self._begin(epoch), []
        self._is_begun = False
        seen = 0
        for done in itertools.count() if self.steps is None else range(self.steps):
            batch = self._next(again=self.steps is not None)
            if batch is None:
                if done and self.steps is None:
                    self._count_pass(seen, epoch)
                    return
                raise ValueError(self._lacks(done, epoch))
            if self._is_kept:
                self._last = seen = _checksum(batch, 0 if self._goes_on else seen)
            yield batch

    def _told_apart(self, batches: Iterator[PyTree]) -> Iterator[PyTree]:
        """The batches of an epoch, after the first of which their columns are checked."""
        columns, self._columns = self._columns, []
        for batch in batches:
            if any(one.places.size for one in columns):
                leaves = jax.tree.leaves(batch)
                columns = [with_rows_of(one, leaf) for one, leaf in zip(columns, leaves)]
            yield batch
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(self.sample)]
        for path, one in zip(paths, columns):
            check_columns(one, f"{self.name}[{path_name(path)}]" if path else self.name, _FIRST_EPOCH)

    def _lacks(self, batch: int, epoch: int) -> str:
        """What to do where an epoch has no batch."""
        said = f"{self.name} has no batch {batch} for epoch {epoch}: "
        if not isinstance(self._data, Iterator) or self._goes_on or not self._passes:
            return f"{said}an iterator ends once; {_LASTING}"
        done = "the epochs that were done are in the checkpoint, and fit goes on from there"
        return (
            f"{said}the {type(self._data).__name__} given is an iterator that does not rewind when it "
            f"is iterated over again, so that it ends once; {_LASTING}; "
            + (done if self._is_kept else "with checkpoint= the epochs that were done would be kept")
        )

    def _begin(self, epoch: int) -> Iterator[PyTree]:
        self._number = -1
        if callable(self._data) and not takes(self._data, 1):
            raise TypeError(
                f"{self.name} must be arrays, batches, or a function from the number of an epoch to "
                f"them (lambda epoch: batches), got {self._data!r}, which does not take one argument"
            )
        batches = self._data(epoch) if callable(self._data) else self._data
        try:
            return iter(batches)
        except TypeError:
            raise TypeError(
                f"{self.name} must give an iterable of batches for an epoch, got {batches!r}"
            ) from None

    def _count_pass(self, seen: int, epoch: int) -> None:
        """Take note of a pass over the batches, for this epoch, that had this checksum."""
        self._known, self._passes, self._epoch_begun = seen, self._passes + 1, epoch

    def _pass_again(self, position: dict[str, Any]) -> None:
        """Be where a run was that has passed over the batches so often."""
        passes, is_function = position.get("passes"), callable(self._data)
        if not passes:
            return
        for i in range(1 if is_function else passes):
            epoch = position["epoch"] if is_function else i
            if epoch or not self._ahead:
                self._iterator, self._ahead = self._begin(epoch), []
            self._known = 0
            while (batch := self._next()) is not None:
                self._known = _checksum(batch, self._known)
        self._iterator, self._ahead = iter(()), []
        # of several processes, which have shares of their own, only one has written the position
        if self._known != position["batches"] and jax.process_count() == 1:
            raise ValueError(self._differs(f"epoch {passes - 1} had others"))
        self._passes = passes

    def _differs(self, difference: str) -> str:
        return (
            f"{self.name} gives other batches than in the run that is to go on ({difference}), so that "
            "it would not end with the same result. Make it again as it was, with a seed of its own "
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
        # not `for made in`, which begins an iterator that rewinds anew
        while (made := next(self._iterator, _END)) is not _END:
            self._number += 1
            made = taken_apart(self._batch, made, self.name, pairs=self._pairs)
            if self._pairs:
                check_pair(made, self.name)
            batch = self._as_first(as_arrays(made, self.name, inputs=self._inputs))
            if rows_of(batch, f"a batch of {self.name}"):
                self._check(batch)
                return batch
        return None

    def _as_first(self, batch: PyTree) -> PyTree:
        """The batch with whole numbers in the dtype of the first, where that holds them."""
        usual = self._usual
        if usual is None or str(jax.tree.structure(batch)) != str(jax.tree.structure(usual)):
            return batch
        return jax.tree.map(lambda known, leaf: _in_dtype(leaf, known.dtype), usual, batch)

    def _check(self, batch: PyTree) -> None:
        """Refuse weights that are not finite, and what the programs of the run were not made for."""
        if self._usual is None:
            if self._pairs:
                check_weights(batch, self.name, whole=False)
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
        try:
            if self._pairs:
                x, y, *weights = batch
                if all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(weights)):
                    check_weights(batch, self.name, whole=False)  # a device is not waited for
                check_bounds(self._bounds, (x, y, *weights), self.name)
            if (shape := of_examples(shapes(batch))) not in self._tried:
                self._try(batch, self.name)
                self._tried.add(shape)
        except (ValueError, TypeError) as error:
            kind = ValueError if isinstance(error, ValueError) else TypeError  # or of both
            raise kind(f"batch {self._number} of {self.name}: {error}") from None


class _Stack:
    """Batches of the same shapes one over the other, of which so many are filled."""

    def __init__(self) -> None:
        self.filled = 0

    def add(self, batch: PyTree) -> None:
        """Copy a batch into the next place."""
        if not self.filled:
            make = lambda leaf: np.empty((_LOOPED, *leaf.shape), leaf.dtype)  # noqa: E731
            self._rooms = jax.tree.map(make, batch)
        for room, leaf in zip(jax.tree.leaves(self._rooms), jax.tree.leaves(batch)):
            room[self.filled] = leaf
        self.filled += 1

    def block(self, placement: Placement) -> Block:
        """The stack on the device, where the first batch fills the places left."""
        for room in jax.tree.leaves(self._rooms):
            room[self.filled :] = room[:1]
        batches = jax.tree.map(lambda room: _shared(room, placement, 1), self._rooms)
        return Block(batches, np.int32(self.filled))


def _check_lasts(data: Batches, name: str, options: FitOptions) -> None:
    """Refuse a generator and its like, which end once, for several epochs of all their batches."""
    ends_once = isinstance(data, Iterator) and type(data).__module__ in ("builtins", "itertools")
    every = options["validate_every"] if name == "validation" else 1
    if ends_once and options["steps_per_epoch"] is None and options["epochs"] > every:
        raise ValueError(
            f"{name} is a {type(data).__name__}, which ends once, and epochs={options['epochs']}; "
            + _LASTING
        )


def _in_dtype(array: Any, dtype: np.dtype) -> Any:
    """Whole numbers in another dtype of whole numbers, if it holds these; all else as it is."""
    current = array.dtype
    if current == dtype or not all(jnp.issubdtype(kind, jnp.integer) for kind in (current, dtype)):
        return array
    if not np.can_cast(current, dtype):
        if not isinstance(array, np.ndarray) or not array.size:
            return array
        info, (low, high) = jnp.iinfo(dtype), extremes(array)
        if not info.min <= low <= high <= info.max:
            return array
    return array.astype(dtype)


def _canonical(array: Any) -> Any:
    """An array of the host in the dtype that JAX has for it."""
    return np.asarray(array, shapes(array).dtype) if isinstance(array, np.ndarray) else array


def _shared(array: ArrayLike, placement: Placement, axis: int = 0) -> jax.Array:
    """A batch or a stack of batches of this process, on the device."""
    if isinstance(array, jax.Array) and placement.mesh is None:
        return array
    return placement.share(np.asarray(array, shapes(array).dtype), axis)


def _checksum(batch: PyTree, sum_: int = 0) -> int:
    """A number that tells a batch, and those that had the checksum `sum_` before it, from others."""
    for leaf in jax.tree.leaves(batch):
        sum_ = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), sum_)
    return sum_


def _iterator_state(position: dict[str, Any]) -> Any:
    """The state of an iterator in a position; None if its iterator had none."""
    if "iterator" in position:
        return from_json(position["iterator"])
    # earlier versions kept bytes as hexadecimal digits, and all else as JSON has it
    known = position.get("bytes")
    return position.get("state") if known is None else bytes.fromhex(known)


def _has_state(iterator: object) -> TypeGuard[Resumable]:
    return hasattr(iterator, "get_state") and hasattr(iterator, "set_state")
