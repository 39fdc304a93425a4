"""Compiled programs, kept in the user's cache from one command to the next."""

import contextlib
import glob
import hashlib
import os
import pathlib
import platform
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jaxlib

from jaxdeep.cli.arguments import PROG

LARGEST = 2**30  # bytes of all programs, for all machines and versions of jaxlib together

_TOLD = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(.*?)': (.*)", re.S)


@contextlib.contextmanager
def kept(*, keep: bool = True) -> Iterator[None]:
    """Keep the programs that are compiled within, and find those that earlier processes kept.

    They are in `own_folder`, unless JAX was told of another one, by ``JAX_COMPILATION_CACHE_DIR`` for
    example, which then has JAX' own settings. Not being able to keep them is no error: a line on
    stderr says why.

    Args:
      keep: False keeps and finds none, whatever JAX was told.
    """
    config: Any = jax.config
    if not keep:
        config.update("jax_enable_compilation_cache", False)
    if not keep or config.jax_compilation_cache_dir is not None:
        yield
        return
    try:
        folder = own_folder()
        prune(folder.parent)
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody's home
        _say(str(error))
        yield
        return
    config.update("jax_compilation_cache_dir", str(folder))
    config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    failures: list[str] = []
    with _mending(folder, failures):
        yield
    if failures:
        _say(failures[0])


def own_folder() -> pathlib.Path:
    """The folder of this user, machine and jaxlib, made if it is missing.

    Who can write to it can run code as this user, so nobody else may own it or what it is in. Its name
    holds what the CPU can do, which is not part of JAX' keys: a home may be shared by several machines.

    Raises:
      OSError: it cannot be made, or is somebody else's. RuntimeError: the user has no home.
    """
    kind = f"{platform.machine()}-{_cpu()}-jaxlib-{jaxlib.__version__}"
    folder = _user_cache() / "jaxdeep" / "compiled" / kind
    for path in (folder.parent.parent, folder.parent, folder):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o002):
            raise PermissionError(f"others may write to {path}")
    return folder


def prune(folder: pathlib.Path, largest: int = LARGEST) -> None:
    """Delete the programs in `folder`'s folders that were used least recently, beyond `largest` bytes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     for i in range(3):
    ...         entry = pathlib.Path(name, "kind", f"{i}-cache")
    ...         entry.parent.mkdir(exist_ok=True)
    ...         _ = entry.write_bytes(bytes(10))
    ...         os.utime(entry, (i, 0))
    ...     prune(pathlib.Path(name), largest=25)
    ...     sorted(path.name for path in entry.parent.iterdir())
    ['1-cache', '2-cache']
    """
    entries = []
    for path in folder.glob("*/*-cache"):
        with contextlib.suppress(OSError):  # another process has deleted it
            status = path.stat()
            entries.append((status.st_atime, status.st_size, path))
    total = 0
    for _, size, path in sorted(entries, reverse=True):
        total += size
        if total > largest:
            _delete(path)


@contextlib.contextmanager
def _mending(folder: pathlib.Path, failures: list[str]) -> Iterator[None]:
    """Delete what JAX warns of, and collect why it could not write, in place of its warnings.

    An entry is written in place, so that a full disk or the end of a process leaves a part of it. JAX
    compiles that program anew, but does not replace an entry that exists. Deleting a good one costs a
    compilation.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("always", _TOLD.pattern.partition("'")[0])
        show = warnings.showwarning

        def mend(message: Any, *args: Any, **kwargs: Any) -> None:
            if not (told := _TOLD.match(str(message))):
                show(message, *args, **kwargs)
                return
            verb, program, reason = told.groups()
            entries = sorted(folder.glob(f"{glob.escape(program)}-*-cache"), key=_written)
            if verb == "writing":
                failures.append(reason)
                entries = entries[-1:]
            for path in entries:  # which of them could not be read is not told
                _delete(path)

        warnings.showwarning = mend
        yield


def _written(path: pathlib.Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # another process has deleted it
        return 0


def _delete(path: pathlib.Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _say(reason: str) -> None:
    print(
        f"{PROG}: compiled programs are not kept for the next time ({' '.join(reason.split())}); "
        "--no-cache does not try",
        file=sys.stderr,
    )


def _user_cache() -> pathlib.Path:
    """Where the platform has a user's caches."""
    if sys.platform == "win32":
        return pathlib.Path(os.environ.get("LOCALAPPDATA") or pathlib.Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return pathlib.Path.home() / "Library" / "Caches"
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")


def _cpu() -> str:
    """A short name for what this CPU can do."""
    features = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        lines = (line for line in file if line.lower().startswith(("flags", "features")))
        features = " ".join(sorted(next(lines, features).split()))
    return hashlib.sha256(features.encode()).hexdigest()[:12]
