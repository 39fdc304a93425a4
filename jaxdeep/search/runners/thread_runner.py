"""`ThreadRunner`, which runs the rows of a sweep one by one in threads, as `jaxdeep.fit` would."""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import jax
import numpy as np

from jaxdeep._compat import enable_x64
from jaxdeep._compilation import Program, compiled, transfer_levels, uninterrupted
from jaxdeep._identity import key_of
from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.fitting.interruption import Interruption
from jaxdeep.search.resampling.subset import DeviceData
from jaxdeep.search.runners.memory import check_fits, needed
from jaxdeep.search.runners.same_program import same_program
from jaxdeep.search.trial import Floats, Group, OnEpochs, Trial, arrays
from jaxdeep.train.data import tree_bytes
from jaxdeep.train.monitors import Limits
from jaxdeep.train.run import RunState
from jaxdeep.tree import shapes

Device: TypeAlias = jax.Device | None  # None is the default device
Data = tuple[PyTree, ...]  # training and validation data


class Places:
    """The devices that threads run rows on, each of which is one thread's at a time.

    All devices of a CPU are the same cores, so that every thread uses the default one.

    Args:
      at_once: threads, at most; by default one for each core or accelerator.
    """

    def __init__(self, at_once: int | None = None) -> None:
        on_cpu = jax.default_backend() == "cpu"
        devices: list[Device] = [None] * _cores() if on_cpu else [*jax.local_devices()]
        self.devices = devices[:at_once]
        self._free: queue.SimpleQueue[Device] = queue.SimpleQueue()
        for device in self.devices:
            self._free.put(device)

    @contextlib.contextmanager
    def one(self) -> Iterator[Device]:
        """A device that is free, or will be, for as long as the context is open."""
        device = self._free.get()
        try:
            yield device
        finally:
            self._free.put(device)


class ThreadRunner:
    """Runs a group of rows, one at a time on each core of a CPU or on each accelerator.

    If the rows are the `same_program`, that is the program of `jaxdeep.fit`, compiled once, and the rows
    start from the states that fit starts from, so that they have the same bits. Otherwise the floats are
    arguments of the program where in fit they are constants, and rows are the same to rounding.

    Args:
      group: the rows.
      device_data: the data.
      places: where rows run.
      memory: bytes on a device for all its threads, None for no bound.
    """

    def __init__(
        self, group: Group, device_data: DeviceData, places: Places, *, memory: int | None
    ) -> None:
        self.group, self.device_data, self.memory = group, device_data, memory
        self.places, self.drivers = places, dict[Device, Driver]()
        self._first, self._lock = places.devices[0], threading.Lock()

    def advance(
        self, rows: list[Trial], until: int, on_epochs: OnEpochs, interruption: Interruption
    ) -> None:
        """Take rows to the end of epoch `until`, or until an interruption."""
        try:
            first = self._compiled()
        except Exception as error:  # of these rows alone
            for row in rows:
                on_epochs(row.setup.epochs - row.epoch)
                row.fail(error)
            return
        threads = len(self.places.devices[: first.at_once(self.memory)])
        in_thread = settings()

        def drive(row: Trial) -> None:
            if interruption.noted:
                return
            with self.places.one() as device:
                try:
                    with in_thread(device):
                        self._driver(device).drive(row, until, on_epochs, interruption)
                except Exception as error:  # of this row alone
                    row.fail(error)

        if len(rows) == 1:
            drive(rows[0])
            return
        pool = ThreadPoolExecutor(threads, "worker")
        try:
            list(pool.map(drive, rows))
        except BaseException:
            interruption.noted = True  # so that threads end after their epoch, with the pool
            raise
        finally:
            with uninterrupted():  # a process that ends while a thread compiles crashes
                pool.shutdown(cancel_futures=True)

    def prepare(self) -> None:
        """Compile the program for the first device."""
        self._compiled()

    def _compiled(self) -> "Driver":
        with self._lock:
            return self._driver(self._first)  # in this thread, so that its settings of JAX apply

    def _driver(self, device: Device) -> "Driver":
        if device not in self.drivers:  # no lock: an accelerator is used by one thread at a time
            self.drivers[device] = Driver(self.group, self.device_data, device)
        return self.drivers[device]


class Driver:
    """Takes rows of a group through their epochs on a device, one program call an epoch."""

    def __init__(self, group: Group, device_data: DeviceData, device: Device) -> None:
        first = group.rows[0]
        self.device_data, self.device = device_data, device
        data = device_data.of(first.subset, device)
        self._likes = [like for like in shapes(data) if like is not None]
        self.is_same = same_program([row.setup for row in group.rows])

        def start(floats: Floats, key: jax.Array) -> RunState:
            return group.start(floats, key, data)

        def segment(
            floats: Floats, run: RunState, data: Data, until: ArrayLike, limits: Limits | None
        ) -> RunState:
            if limits is None:
                return group.segment(floats, run, data, until)
            return first.setup.program.segment(run, *data, until, limits)

        floats, limits = self._arguments(first)
        if self.is_same:
            run = first.setup.started_like(self._likes, first.key)
        else:
            run = jax.eval_shape(start, floats, first.key)
        self.shapes = run
        in_thread = settings()

        def compile_start() -> Program | None:
            with in_thread(device):
                if self.is_same:  # the program is kept for all rows
                    first.setup.start(self._likes, first.key)
                    return None
                return compiled(start, floats, first.key, once=True)

        pool = ThreadPoolExecutor(1)
        try:
            # both programs are compiled at the same time
            compiling_start = pool.submit(compile_start)
            self.segment = compiled(
                segment,
                *(floats, run, data, np.int32(0), limits),
                key=key_of("row", first.setup.key) if self.is_same else None,
                donate_argnums=1,
            )
            self.start = compiling_start.result()
        finally:
            with uninterrupted():
                pool.shutdown()

    def drive(self, row: Trial, until: int, on_epochs: OnEpochs, interruption: Interruption) -> None:
        """Take a row to the end of epoch `until`, to its own end, or until an interruption."""
        floats, limits = self._arguments(row)
        data = self.device_data.of(row.subset, self.device)
        began = time.time()
        run = row.begun()
        run = self._start(row, floats) if run is None else jax.device_put(run, self.device)
        last, first = min(until, row.setup.epochs), int(run.epoch)
        epoch, stopped = first, bool(run.stopped)
        while epoch < last and not stopped and not interruption.noted:
            run = self.segment(floats, run, data, np.int32(epoch + 1), limits)
            epoch += 1
            stopped = bool(run.stopped)
            on_epochs(1)
            row.tell(run)
            if epoch < last and not stopped and row.store.is_due(row):
                row.store.save(row, run)
                row.tell(run, kept=True)
        row.run = run
        row.worked(threading.current_thread().name, began, epoch - first)
        if stopped or epoch == row.setup.epochs:
            row.end()
            on_epochs(row.setup.epochs - epoch)
        elif epoch == until:
            row.pause()

    def at_once(self, memory: int | None) -> int | None:
        """How many rows at a time fit into `memory`; None for no bound."""
        if memory is None:
            return None
        check_fits(self.segment, memory)
        shared = tree_bytes(self.device_data.arrays)
        return int((memory - shared) // max(needed(self.segment) - shared, 1))

    def _start(self, row: Trial, floats: Floats) -> RunState:
        if self.start is None:
            return row.setup.start(self._likes, row.key)
        return self.start(floats, row.key)

    def _arguments(self, row: Trial) -> tuple[Floats, Limits | None]:
        """The arguments of the program that belong to one row: its floats, or else its limits."""
        return ({}, row.setup.limits) if self.is_same else (arrays(row.floats), None)


def _cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settings() -> Callable[[Device], contextlib.ExitStack]:
    """A function from a device to a context in which another thread has this thread's settings."""
    here, with_transfers = settings_here(), transfer_levels()
    default = jax.config.jax_default_device  # type: ignore[attr-defined]

    def context(device: Device) -> contextlib.ExitStack:
        stack = with_settings(here)
        stack.enter_context(with_transfers())
        stack.enter_context(jax.default_device(device or default))
        return stack

    return context


def settings_here() -> dict[str, Any]:
    """The settings that a context may have changed in this thread, and their values."""
    config: Any = jax.config
    return {name: getattr(config, name) for name in _CONTEXTS if hasattr(config, name)}


def with_settings(values: Mapping[str, Any]) -> contextlib.ExitStack:
    """A context in which these settings have these values."""
    config: Any = jax.config
    stack = contextlib.ExitStack()
    for name, value in values.items():
        if getattr(config, name) != value:
            stack.enter_context(_CONTEXTS[name](value))
    return stack


# Settings that a context may have changed in one thread, and what changes them in another.
_CONTEXTS: dict[str, Callable[[Any], contextlib.AbstractContextManager[Any]]] = {
    "jax_enable_x64": enable_x64,
    "jax_default_matmul_precision": jax.default_matmul_precision,
    "jax_default_prng_impl": jax.default_prng_impl,
    "jax_threefry_partitionable": jax.threefry_partitionable,
    "jax_numpy_dtype_promotion": jax.numpy_dtype_promotion,
    "jax_numpy_rank_promotion": jax.numpy_rank_promotion,
    "jax_debug_nans": jax.debug_nans,
    "jax_debug_infs": jax.debug_infs,
    "jax_disable_jit": jax.disable_jit,
    "jax_check_tracer_leaks": jax.check_tracer_leaks,
}
