"""`VmapRunner`, which runs the rows of a sweep side by side in one program on all devices."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdeep._compilation import Program, compiled
from jaxdeep.fitting.interruption import Interruption
from jaxdeep.search.memory import fitting, free
from jaxdeep.search.trial import DeviceData, Floats, Group, OnEpochs, Trial, arrays, light
from jaxdeep.train.data import tree_bytes
from jaxdeep.train.run import RunState

Stacked = TypeVar("Stacked", jax.Array, np.ndarray)  # with a row on each place of the first axis

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
        per_device, _ = fitting(
            program_of,
            on_a_device,
            at_most=self.at_once,
            memory=self.memory,
            shared=tree_bytes(self.device_data.arrays),
        )
        if per_device < on_a_device:
            self.at_once = per_device  # so that later rungs do not try more again
        stack = self.stacks[devices, per_device]
        for first in range(0, len(rows), stack.size):
            stack.drive(rows[first : first + stack.size], until, on_epochs, interruption)
            if interruption.noted:
                return


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

        floats, keys = self._inputs(group.rows[:1])
        self.start = jax.jit(spread(group.start, _ROWS, _ROWS, _SAME))
        runs = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=self.over, weak_type=s.weak_type),
            jax.eval_shape(self.start, floats, keys, self.data),
        )
        self.segment = compiled(
            spread(group.segment, _ROWS, _ROWS, _SAME, _SAME),
            *(floats, runs, self.data, np.int32(0)),
            donate_argnums=1,
        )

    def drive(
        self, rows: list[Trial], until: int, on_epochs: OnEpochs, interruption: Interruption
    ) -> None:
        """Take rows to the end of epoch `until`, to their own ends, or until an interruption.

        All have begun or none has.
        """
        floats, keys = self._inputs(rows)
        if rows[0].run is None:
            epoch, runs = 0, self.start(floats, keys, self.data)
        else:
            epoch, runs = int(rows[0].run.epoch), self._stacked([row.run for row in rows])
        last = min(until, rows[0].setup.epochs)
        going = len(rows)
        while epoch < last and going and not interruption.noted:
            runs = self.segment(floats, runs, self.data, np.int32(epoch + 1))
            epoch += 1
            on_epochs(going)
            going = int(np.sum(~jax.device_get(runs.stopped)[: len(rows)]))
        final = epoch == rows[0].setup.epochs or not going
        runs = jax.device_get(light(runs) if final and not rows[0].setup.options["ema"] else runs)
        for i, row in enumerate(rows):
            row.run = jax.tree.map(lambda leaf, i=i: leaf[i], runs)
            if final or row.run.stopped:
                on_epochs(row.setup.epochs - int(row.run.epoch))
                row.end()

    def _inputs(self, rows: list[Trial]) -> tuple[Floats, jax.Array]:
        """The floats and keys of the rows, stacked."""
        columns = {name: np.array([row.floats[name] for row in rows]) for name in rows[0].floats}
        floats = arrays({name: self._filled(values) for name, values in columns.items()})
        keys = jnp.stack([row.key for row in rows])
        return jax.device_put((floats, self._filled(keys)), self.over)

    def _stacked(self, runs: list[RunState | None]) -> RunState:
        def stack(*leaves: Any) -> Any:
            host = all(isinstance(leaf, (np.ndarray, np.generic)) for leaf in leaves)
            return self._filled((np if host else jnp).stack(leaves))

        return jax.device_put(jax.tree.map(stack, *runs), self.over)

    def _filled(self, values: Stacked) -> Stacked:
        """The values, filled up with copies of the first to the size of the stack."""
        return values[np.r_[: len(values), np.zeros(self.size - len(values), int)]]
