"""`VmapRunner`, which runs the rows of a sweep side by side in one program on all devices."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdeep._compilation import Program, compiled
from jaxdeep._identity import key_of
from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.fitting.interruption import Interruption
from jaxdeep.optimizers.identity import numbers_of
from jaxdeep.search.resampling.subset import DeviceData, part
from jaxdeep.search.rows import raised_by_user
from jaxdeep.search.runners.memory import fitting, free
from jaxdeep.search.runners.same_program import same_program
from jaxdeep.search.trial import Group, OnEpochs, Trial, light
from jaxdeep.train.data import tree_bytes
from jaxdeep.train.evaluated import is_another
from jaxdeep.train.run import RunState
from jaxdeep.tree import shapes

Stacked = TypeVar("Stacked", jax.Array, np.ndarray)  # with a row on each place of the first axis

Indices = tuple[Any, Any]  # of rows for training and for validation, or None
# The arguments that differ between rows: floats, or hyperparameters and limits if all share one program.
Numbers = tuple[Any, ...]

_ROWS, _SAME = PartitionSpec("rows"), PartitionSpec()


class VmapRunner:
    """Runs a group of rows under `jax.vmap`, in stacks that fit into memory, with floats as arguments.

    A stack is spread over the local devices by `jax.shard_map`. Each device has the data and rows of its
    own and waits for no other. All stacks have one size; the last one is filled up with copies of its
    first row.

    Args:
      group: the rows.
      device_data: the data.
      at_once: rows of a stack on each device, at most.
      memory: bytes on each device; by default nine tenths of what is free, if the device says.
    """

    def __init__(
        self, group: Group, device_data: DeviceData, *, at_once: int | None, memory: int | None
    ) -> None:
        self.group, self.device_data, self.at_once = group, device_data, at_once
        self.devices = jax.local_devices()
        known = [bytes_ for device in self.devices if (bytes_ := free(device)) is not None]
        self.memory = int(0.9 * min(known)) if memory is None and known else memory
        self.stacks: dict[tuple[int, int], Stack] = {}

    def prepare(self) -> None:
        """Nothing: the program depends on how many rows there are."""

    def advance(
        self, rows: list[Trial], until: int, on_epochs: OnEpochs, interruption: Interruption
    ) -> None:
        """Take rows to the end of epoch `until`, or until an interruption."""
        devices = min(len(self.devices), len(rows))

        def program_of(per_device: int) -> Program:
            if (devices, per_device) not in self.stacks:
                mesh = Mesh(np.array(self.devices[:devices]), ("rows",))
                self.stacks[devices, per_device] = Stack(
                    self.group, self.device_data, mesh, per_device * devices
                )
            return self.stacks[devices, per_device].segment

        on_a_device = -(-len(rows) // devices)
        try:
            per_device, _ = fitting(
                program_of,
                on_a_device,
                at_most=self.at_once,
                memory=self.memory,
                shared=tree_bytes(self.device_data.arrays),
            )
        except Exception as error:
            if not raised_by_user(error):  # no error of the user's: a row does not fit into memory
                raise
            for row in rows:
                on_epochs(row.setup.epochs - row.epoch)
                row.fail(error)
            return
        if per_device < on_a_device:
            self.at_once = per_device  # so that later rungs do not try more again
        stack = self.stacks[devices, per_device]
        for together in _at_one_epoch(rows):
            for first in range(0, len(together), stack.size):
                part = together[first : first + stack.size]
                try:
                    stack.drive(part, until, on_epochs, interruption)
                except Exception as error:  # of these rows alone
                    for row in part:
                        row.fail(error)
                if interruption.noted:
                    return


def _column(values: Sequence[ArrayLike]) -> np.ndarray:
    """Numbers of rows as an array of JAX' default dtype."""
    column = np.array(values)
    return column.astype(jax.dtypes.canonicalize_dtype(column.dtype))


def _at_one_epoch(rows: list[Trial]) -> list[list[Trial]]:
    """The rows in groups that have done equally many epochs; those of an earlier call are read."""
    for row in rows:
        row.begun()
    epochs = sorted({row.epoch for row in rows})
    return [[row for row in rows if row.epoch == epoch] for epoch in epochs]


def _unstacked(runs: RunState) -> Iterator[RunState]:
    """The runs of a stack, one by one."""
    return (jax.tree.map(lambda leaf, i=i: leaf[i], runs) for i in itertools.count())


class Stack:
    """The program that runs `size` rows of a group on the devices of a mesh."""

    def __init__(self, group: Group, device_data: DeviceData, mesh: Mesh, size: int) -> None:
        self.size, self.over = size, NamedSharding(mesh, _ROWS)
        self.data = device_data.on(NamedSharding(mesh, _SAME))

        def spread(of_row: Callable[..., RunState], *specs: PartitionSpec) -> Callable[..., RunState]:
            axes = tuple(0 if spec is _ROWS else None for spec in specs)
            # No row depends on another, so that there is no replication to check (check_vma).
            return jax.shard_map(
                jax.vmap(of_row, axes), mesh=mesh, in_specs=specs, out_specs=_ROWS, check_vma=False
            )

        def of_row(data: tuple[PyTree, PyTree], indices: Indices) -> tuple[PyTree, PyTree]:
            return part(*data, indices, device_data.prepare)

        setup = group.rows[0].setup
        self.is_same = same_program([row.setup for row in group.rows])

        def start(numbers: Numbers, key: jax.Array, indices: Indices, data: Any) -> RunState:
            chosen = of_row(data, indices)
            if not self.is_same:
                return group.start(numbers[0], key, chosen)
            likes = shapes(tuple(part for part in chosen if part is not None))
            return setup.starting(likes)(None, key, *numbers[1:])

        def segment(
            numbers: Numbers, run: RunState, indices: Indices, data: Any, until: ArrayLike
        ) -> RunState:
            chosen = of_row(data, indices)
            if not self.is_same:
                return group.segment(numbers[0], run, chosen, until)
            return setup.program.segment(run, *chosen, until, numbers[-1])

        numbers, keys, indices = self._inputs(group.rows[:1])
        self._start = spread(start, _ROWS, _ROWS, _ROWS, _SAME)
        self._started: Program | None = None
        # of the same programs another sweep's are found again
        parts = setup.key, device_data.prepare
        self._keys = [key_of(f"stack {w}", *parts) if self.is_same else None for w in ("start", "row")]
        runs = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=self.over, weak_type=s.weak_type),
            jax.eval_shape(self._start, numbers, keys, indices, self.data),
        )
        self.segment = compiled(
            spread(segment, _ROWS, _ROWS, _ROWS, _SAME, _SAME),
            *(numbers, runs, indices, self.data, np.int32(0)),
            key=self._keys[1],
            donate_argnums=1,
        )

    def start(self, *inputs: PyTree) -> RunState:
        """The rows before their first epoch, by a program that is not needed where all have begun."""
        args = *inputs, self.data
        if self._started is None:
            self._started = compiled(self._start, *args, key=self._keys[0], once=None)
        return self._started(*args)

    def drive(
        self, rows: list[Trial], until: int, on_epochs: OnEpochs, interruption: Interruption
    ) -> None:
        """Take rows to the end of epoch `until`, to their own ends, or until an interruption.

        All have begun or none has.
        """
        numbers, keys, indices = self._inputs(rows)
        began, options = time.time(), rows[0].setup.options
        if rows[0].run is None:
            epoch, runs = 0, self.start(numbers, keys, indices)
        else:
            epoch, runs = int(rows[0].run.epoch), self._stacked([row.run for row in rows])
        last, first = min(until, rows[0].setup.epochs), epoch
        going = len(rows)
        while epoch < last and going and not interruption.noted:
            runs = self.segment(numbers, runs, indices, self.data, np.int32(epoch + 1))
            epoch += 1
            on_epochs(going)
            going = int(np.sum(~jax.device_get(runs.stopped)[: len(rows)]))
            if rows[0].telling is not None and not rows[0].store.lasts:
                told = runs._replace(train_state=(), decisions=(), averaged=())
                for row, run in zip(rows, _unstacked(jax.device_get(told))):
                    row.tell(run)
            if epoch < last and going and rows[0].store.is_due(rows[0]):
                for row, run in zip(rows, _unstacked(jax.device_get(runs))):
                    row.store.save(row, run)
                    row.tell(run, kept=True)
        final = epoch == rows[0].setup.epochs or not going
        # a run that lasts may go on with more epochs
        another = is_another(runs.train_state.opt_state, options["ema"])
        is_light = final and not (another or rows[0].store.lasts)
        runs = jax.device_get(light(runs) if is_light else runs)
        for row, run in zip(rows, _unstacked(runs)):
            row.run = run
            row.worked("stack", began, int(run.epoch) - first)
            if final or run.stopped:
                on_epochs(row.setup.epochs - int(run.epoch))
                row.end()
            elif epoch == until:
                row.pause()

    def _inputs(self, rows: list[Trial]) -> tuple[Numbers, jax.Array, Indices]:
        """The numbers, keys and indices of the rows, stacked."""
        by_row: list[Numbers]
        if self.is_same:
            by_row = [({}, numbers_of(row.setup.optimizer), row.setup.limits) for row in rows]
        else:
            by_row = [({name: np.asarray(v, float) for name, v in row.floats.items()},) for row in rows]
        numbers = jax.tree.map(lambda *values: self._filled(_column(values)), *by_row)
        keys = jnp.stack([row.key for row in rows])
        indices = tuple(
            None if column[0] is None else self._filled(np.stack(column).astype(np.int32))
            for column in zip(*(row.subset.indices for row in rows))
        )
        return jax.device_put((numbers, self._filled(keys), indices), self.over)

    def _stacked(self, runs: list[RunState | None]) -> RunState:
        def stack(*leaves: Any) -> Any:
            host = all(isinstance(leaf, (np.ndarray, np.generic)) for leaf in leaves)
            return self._filled((np if host else jnp).stack(leaves))

        return jax.device_put(jax.tree.map(stack, *runs), self.over)

    def _filled(self, values: Stacked) -> Stacked:
        """The values, filled up with copies of the first to the size of the stack."""
        return values[np.r_[: len(values), np.zeros(self.size - len(values), int)]]
