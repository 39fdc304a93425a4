"""What a worker of an executor does: it trains rows of a sweep further, and sends them back.

A worker is told of a sweep once. From then on a task is the sweep's checksum, the place of a row, and
the epoch to go to, with the row's state if it has begun.
"""

import contextlib
import functools
import os
import pathlib
import pickle
import shutil
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import jax

from jaxdeep._shapes import PyTree
from jaxdeep.fitting.interruption import Interruption
from jaxdeep.search.builder import Builder
from jaxdeep.search.records import row_file
from jaxdeep.search.resampling.subset import DeviceData, Prepare, Subset
from jaxdeep.search.rows import grouped_rows, keys_of
from jaxdeep.search.runners.thread_runner import Driver, with_settings
from jaxdeep.search.spaces.space import Point
from jaxdeep.search.trial import Group, Trial
from jaxdeep.train.data import to_device

Place = tuple[int, int, int]

_MOST = 2  # sweeps whose rows a worker keeps for further tasks
_SLICE = 20.0  # seconds after which a row is sent back, so that little is lost with a worker


class Recipe(NamedTuple):
    """What a worker must know of a sweep, as plain values: functions, numbers, NumPy arrays.

    Attributes:
      build: makes the setup of a point.
      points, subsets, prepare: what rows there are.
      seeds, key: the number of seeds, and the words and the kind of the key that they are made from.
      data: training and validation data.
      settings: those of JAX.
    """

    build: Builder
    points: Sequence[Point]
    subsets: Sequence[Subset]
    prepare: Prepare | None
    seeds: int
    key: tuple[Any, str] | None
    data: tuple[PyTree, PyTree]
    settings: Mapping[str, Any]


class Task(NamedTuple):
    """A piece of a worker's work.

    Attributes:
      sweep: the checksum of the recipe.
      place: of the row.
      until: epochs done at the end.
      state: the row so far, as the bytes of its file; None before its first epoch.
      at: the file of the recipe, for workers that see it.
      recipe: the pickled recipe, for a worker that does not.
      cores: that XLA may use in the process of a worker; None for all.
      attempt: how often the task was given out, so that no two are equal.
    """

    sweep: str
    place: Place
    until: int
    state: bytes | None
    at: str
    recipe: bytes | None
    cores: int | None
    attempt: int


class Answer(NamedTuple):
    """What a worker sends back.

    Attributes:
      state: the row as the bytes of its file; None if the worker does not know the sweep.
      worker: its name.
      began: when it began to work, in seconds as `time.time` counts them.
      epochs: epochs done.
    """

    state: bytes | None
    worker: str = ""
    began: float = 0.0
    epochs: int = 0


class _Known(NamedTuple):
    """A sweep as a worker remembers it."""

    settings: Mapping[str, Any]
    rows: Mapping[Place, tuple[int, Trial]]
    groups: list[Group]
    data: DeviceData
    device: jax.Device | None
    drivers: dict[int, Driver]
    lock: threading.Lock


_known: dict[str, _Known] = {}
# Sweeps of this process, whose threads get no recipe: they are kept until `forget`.
_local: set[str] = set()
_lock = threading.Lock()


class _Row(Trial):
    """A row whose last state is kept, to be sent."""

    def end(self, early: str | None = None) -> None:
        """Leave the end to who gave the row out."""

    def pause(self) -> None:
        """Do nothing at a rung: the state stays in the row, which is sent back."""


class _Deadline(Interruption):
    """Ends the epochs of a row once a while has passed."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._at = time.monotonic() + seconds

    def __getattribute__(self, name: str) -> Any:
        """`noted` is computed: whether the deadline has passed."""
        if name == "noted":
            return time.monotonic() > self._at
        return super().__getattribute__(name)


def work(task: tuple[Any, ...]) -> Answer:
    """Do a `Task`; called in a worker.

    Raises:
      Exception: whatever the row raises.
    """
    todo = Task(*task)
    with _lock:
        if todo.sweep not in _known:
            recipe = _recipe_of(todo)
            if recipe is None:
                return Answer(None)
            _prepare_process(todo.cores, todo.at)
            remember(todo.sweep, recipe, _device(todo.at))
        known = _known[todo.sweep]
    i, row = known.rows[todo.place]
    began = time.time()
    with with_settings(known.settings), jax.default_device(known.device):
        with known.lock:
            if i not in known.drivers:
                known.drivers[i] = Driver(known.groups[i], known.data, known.device)
        driver = known.drivers[i]
        sent = _Row(row.place, row.setup, row.floats, row.key, row.point, row.subset)
        first = 0
        if todo.state is not None:
            arrays, first = row_file.parsed(todo.state)
            sent.run = row_file.restored(arrays, first, driver.shapes, row.setup.room)
        driver.drive(sent, todo.until, lambda epochs: None, _Deadline(_SLICE))
        assert sent.run is not None
        epoch = int(sent.run.epoch)
        state = row_file.contents(row_file.arrays_of(sent.run, None), epoch)
    return Answer(state, _name(), began, epoch - first)


def forget(sweep: str) -> None:
    """Let go of a sweep of this process."""
    with _lock:
        _local.discard(sweep)
        _known.pop(sweep, None)


def remember(
    sweep: str, recipe: Recipe, device: jax.Device | None = None, *, local: bool = False
) -> None:
    """Make the rows of a sweep and keep them for its tasks; with `local` until `forget` is called."""
    key = None
    if recipe.key is not None:
        words, kind = recipe.key
        key = jax.random.wrap_key_data(words, impl=kind)
    with with_settings(recipe.settings), jax.default_device(device):
        train, validate = to_device(recipe.data)
        data = DeviceData(train, validate, recipe.prepare)
        keys = keys_of(recipe.seeds, key)
        groups = list(grouped_rows(recipe.build, keys, recipe.points, data, recipe.subsets))
    rows = {row.place: (i, row) for i, group in enumerate(groups) for row in group.rows}
    if not local:
        sent = [name for name in _known if name not in _local]
        for name in sent[: max(0, len(sent) + 1 - _MOST)]:
            _known.pop(name)
    else:
        _local.add(sweep)
    _known[sweep] = _Known(recipe.settings, rows, groups, data, device, {}, threading.Lock())


def _recipe_of(task: Task) -> Recipe | None:
    """The recipe that came with a task or is in its file; None if there is none with its checksum."""
    data = task.recipe
    if data is None:
        with contextlib.suppress(OSError):
            data = pathlib.Path(task.at).read_bytes()
    if data is None or checksum(data) != task.sweep:
        return None
    recipe: Recipe = pickle.loads(data)  # written by the process that gives out the tasks
    return recipe


def checksum(data: bytes) -> str:
    """The name of a recipe."""
    return blake2b(data, digest_size=16).hexdigest()


@functools.cache
def _prepare_process(cores: int | None, at: str) -> None:
    """Make a worker process leave Ctrl-C to its parent, and use no more than its share of the cores.

    The process ends with its parent, and removes the recipe that a killed parent leaves.
    """
    import multiprocessing  # which gives the main module a second name

    if multiprocessing.parent_process() is None:
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if cores is not None:
        os.environ.setdefault("NPROC", str(cores))  # read by XLA when it makes its threads
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        assert parent is not None
        parent.join()
        shutil.rmtree(pathlib.Path(at).parent, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


@functools.cache
def _device(at: str) -> jax.Device | None:
    """The device of this worker: of accelerators the next one that no other worker has taken."""
    if jax.default_backend() == "cpu":
        return None
    devices = jax.local_devices()
    for number in range(10_000):
        try:
            os.close(os.open(f"{at}.worker{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        except OSError:  # this machine does not see the directory
            break
        return devices[number % len(devices)]
    return devices[0]


def _name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
