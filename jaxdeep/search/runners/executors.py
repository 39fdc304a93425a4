"""Executors of the form of `concurrent.futures`, and what their workers are told of a sweep."""

import importlib
import os
import pathlib
import pickle
import shutil
import tempfile
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, Protocol

import jax
import numpy as np

from jaxdeep._code import globals_in
from jaxdeep._shapes import PyTree
from jaxdeep.search.builder import Builder
from jaxdeep.search.resampling.subset import DeviceData, Subset
from jaxdeep.search.runners.thread_runner import settings_here
from jaxdeep.search.runners.worker import Recipe, Task, checksum, forget, remember, work
from jaxdeep.search.spaces.space import Point

_LARGE = 10_000_000  # bytes that a builder may carry


class Executor(Protocol):
    """What runs functions elsewhere, as `concurrent.futures.Executor` does."""

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """A future of ``function(*args)``."""


def check(executor: Any) -> None:
    """Refuse what is no executor, and one whose processes would be forked."""
    is_client = hasattr(executor, "get_executor")
    if is_client or isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        hint = "; of a Dask client, client.get_executor()" if is_client else ""
        raise TypeError(
            f"executor must have submit, as those of concurrent.futures, got {executor!r}{hint}"
        )
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise ValueError(
            "executor must start its processes anew, since one that is forked while JAX runs hangs; "
            f"got a {type(executor).__name__} that forks: pass it "
            "mp_context=multiprocessing.get_context('spawn')"
        )


def _workers(executor: Any) -> int | None:
    """The number of workers, if it is known."""
    client = getattr(executor, "_client", None)
    if client is not None and callable(getattr(client, "nthreads", None)):  # Dask's
        return len(client.nthreads()) or None
    workers = getattr(executor, "_max_workers", None)
    return workers if isinstance(workers, int) else None


def _checked(future: Any) -> Any:
    if not hasattr(future, "_condition") or not callable(getattr(future, "add_done_callback", None)):
        raise TypeError(
            f"executor.submit must return futures of concurrent.futures, got {type(future).__name__}"
        )
    return future


class Outside:
    """An executor, and the recipe of a sweep for its workers.

    This is a class because the recipe's file must be removed, and a pool that broke be replaced.

    Args:
      executor: who runs the rows; it is not shut down.
      build, points, subsets, seeds, key: what the rows are.
      device_data: the data.

    Raises:
      ValueError: a builder that cannot be pickled, or that carries data.
    """

    def __init__(
        self,
        executor: Executor,
        build: Builder,
        points: Sequence[Point],
        subsets: Sequence[Subset],
        seeds: int,
        key: jax.Array | None,
        device_data: DeviceData,
    ) -> None:
        self._executor, self._own, self._lock = executor, False, threading.Lock()
        self.sweep, self.workers = "", _workers(executor)
        words = None
        if key is not None:
            words = np.asarray(jax.random.key_data(key)), str(jax.random.key_impl(key))
        data = jax.tree.map(np.asarray, jax.device_get(device_data.arrays))
        plain = [dict(point) for point in points]
        here = settings_here()
        recipe = Recipe(build, plain, list(subsets), device_data.prepare, seeds, words, data, here)
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="jaxdeep-"))
        try:
            if isinstance(
                executor, futures.ThreadPoolExecutor
            ):  # its workers know what this process knows
                self.sweep, self.data = checksum(os.urandom(16)), b""
                remember(self.sweep, recipe, local=True)
            else:
                _check_light(build, device_data.prepare)
                self.data = _pickled(recipe, executor)
                self.sweep = checksum(self.data)
            self.at = self._folder / "recipe"
            self.at.write_bytes(self.data)
        except BaseException:
            self.close()
            raise

    @property
    def cores(self) -> int | None:
        """The cores that each worker may use; None if the number of workers is not known."""
        return None if self.workers is None else max(1, (os.cpu_count() or 1) // self.workers)

    def submit(self, task: Task) -> Any:
        """A future of a task's `Answer`."""
        with self._lock:
            try:
                return _checked(self._executor.submit(work, tuple(task)))
            except futures.BrokenExecutor:
                if not isinstance(self._executor, futures.ProcessPoolExecutor):
                    raise
                self._replace()
                return self._executor.submit(work, tuple(task))

    def _replace(self) -> None:
        """Take a pool like the one that broke, which takes no more work."""
        old: Any = self._executor
        if self._own:
            old.shutdown(wait=False)
        self._executor = futures.ProcessPoolExecutor(
            old._max_workers,
            mp_context=old._mp_context,
            initializer=old._initializer,
            initargs=old._initargs,
        )
        self._own = True

    def close(self) -> None:
        """Remove the recipe's file, and end a pool that was made here."""
        if self._own:
            executor: Any = self._executor
            executor.shutdown()
        forget(self.sweep)
        shutil.rmtree(self._folder, ignore_errors=True)


def _pickled(recipe: Recipe, executor: Executor) -> bytes:
    """The recipe as bytes.

    cloudpickle sends models, which are closures, and functions of a notebook. Of a process pool people
    expect that it refuses a builder that `pickle` does not know.
    """
    from_pickle = pickle.dumps
    dumps: Callable[[Any], bytes] = _cloudpickle() or from_pickle
    known = from_pickle if isinstance(executor, futures.ProcessPoolExecutor) else dumps
    _check_sent("builder", recipe.build.function, known)
    for name, part in _parts(recipe.build, recipe.prepare):
        if name != "builder":
            _check_sent(name, part, dumps)
    sent = dumps(recipe)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(recipe.data))
    if len(sent) - size > _LARGE:
        sizes = {name: len(dumps(part)) for name, part in _parts(recipe.build, recipe.prepare)}
        name = max(sizes, key=sizes.__getitem__)
        part = dict(_parts(recipe.build, recipe.prepare))[name]
        named = "".join(f" ({held!r}, an array of {mb:,.0f} MB)" for held, mb in _global_arrays(part))
        raise ValueError(
            f"{name} must not carry data to the workers: it takes {sizes[name] / 1e6:,.0f} MB with what "
            f"it refers to{named}; pass data as data=, or read it where it is needed"
        )
    return sent


def _cloudpickle() -> Callable[[Any], bytes] | None:
    try:
        dumps: Callable[[Any], bytes] = importlib.import_module("cloudpickle").dumps
        return dumps
    except ImportError:
        return None


def _check_sent(name: str, part: Any, dumps: Callable[[Any], bytes]) -> None:
    """Refuse what cannot be sent to another process."""
    try:
        dumps(part)
    except Exception as error:
        hint = "" if _cloudpickle() else ", or pip install 'jaxdeep[executors]', which sends closures"
        raise ValueError(
            f"{name} must be what can be sent to another process, such as a function at the top of a "
            f"module{hint}; got {part!r} ({str(error).splitlines()[0][:160]})"
        ) from None


def _parts(build: Builder, prepare: Any) -> Iterator[tuple[str, Any]]:
    yield "builder", build.function
    yield from build.arguments.items()
    yield "prepare", prepare


def _check_light(build: Builder, prepare: Any) -> None:
    """Refuse functions that carry data, which would be sent with them."""
    for name, part in _parts(build, prepare):
        for held, array in _carried(part, 8):
            if array.nbytes > _LARGE:
                raise ValueError(
                    f"{name} must not carry data to the workers: it holds {held}, an array of "
                    f"{array.nbytes / 1e6:,.0f} MB; pass it as data=, or read it where it is needed"
                )


def _carried(value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """The arrays that a function holds in closures, defaults and arguments, and their names."""
    named: list[tuple[str, Any]] = []
    if depth and isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or ())
        named += [(name, cell.cell_contents) for name, cell in cells if _is_bound(cell)]
        named += [("a default", default) for default in value.__defaults__ or ()]
    elif depth and isinstance(value, types.MethodType):
        named += [*vars(value.__self__).items()] if hasattr(value.__self__, "__dict__") else []
    elif depth and hasattr(value, "func") and hasattr(value, "keywords"):  # functools.partial
        named += [(f"argument {i}", a) for i, a in enumerate(value.args)] + [*value.keywords.items()]
        named.append(("its function", value.func))
    elif depth and hasattr(value, "__dict__") and not isinstance(value, (type, types.ModuleType)):
        named += [*vars(value).items()]
    for name, held in named:
        if hasattr(held, "nbytes") and hasattr(held, "dtype"):
            yield repr(name), held
        elif isinstance(held, (tuple, list, dict)):
            leaves: PyTree = jax.tree.leaves(held)
            yield from ((repr(name), leaf) for leaf in leaves if hasattr(leaf, "nbytes"))
        else:
            yield from _carried(held, depth - 1)


def _global_arrays(function: Any) -> Iterator[tuple[str, float]]:
    """The large arrays among the globals of a script's function, and their megabytes."""
    if isinstance(function, types.FunctionType):
        for name in sorted(globals_in(function.__code__)):
            size = getattr(function.__globals__.get(name), "nbytes", 0)
            if isinstance(size, int) and size > _LARGE:
                yield name, size / 1e6


def _is_bound(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
