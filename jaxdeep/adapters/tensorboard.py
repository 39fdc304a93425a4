"""Runs for TensorBoard."""

import os
import pathlib
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._extras import needed
from jaxdeep._shapes import PyTree
from jaxdeep.train.records import scalars_of
from jaxdeep.tree import Where, check_where, leaf_paths, mask

if TYPE_CHECKING:
    from jaxdeep.fitting.fit import Epochs

_RUNS = ("train", "validation")
Scalars = dict[str, np.float32]  # of an epoch, by tag


def to_tensorboard(
    logdir: str | os.PathLike[str], *, histograms: bool | Where = False
) -> Callable[["Epochs"], None]:
    """A callback for `jaxdeep.fit` that writes what ``tensorboard --logdir runs`` shows.

    As with Keras there are two runs, ``logdir/train`` and ``logdir/validation``, so that TensorBoard
    draws a metric and its ``val_`` counterpart in one chart: the chart "loss" has `loss` of the one run
    and `val_loss` of the other. The step is the number of the epoch, from 1 on. TensorBoard groups names
    by what is in front of a ``/``. An entry of the history with several values has a chart for each,
    ``name/0``, ``name/1`` and so on. NaN, which stands between two evaluations, is left out.

    A run that is resumed from a checkpoint continues in the folder: epochs whose values are there
    already, bit for bit, are not written again. What another run has left there is void, and hidden by
    TensorBoard, from the first epoch on that differs; give every run a folder of its own to see both.

    Args:
      logdir: the run's folder, made if missing.
      histograms: whether the distributions of parameters are written too, by path, after each call of
        the compiled program: True for all of them, or a selector for some (`jaxdeep.tree.mask`).

    Raises:
      ImportError: tensorboardX is not installed (``pip install 'jaxdeep[tensorboard]'``).
      TypeError: a `logdir` that is not a path. OSError: it cannot be made.

    Source: Keras' `TensorBoard` callback; TensorFlow's event files, written by tensorboardX.

    >>> import jaxdeep as jd, tempfile
    >>> x = jnp.linspace(-1, 1, 64)[:, None]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = jd.fit(jd.nn.dense(1), (x, 3 * x), loss=jd.losses.mse, validation=(x, 3 * x),
    ...                     optimizer=jd.optimizers.sgd(0.1), epochs=3, key=jax.random.key(0),
    ...                     callbacks=[to_tensorboard(folder)], progress=False)
    ...     sorted(path.name for path in pathlib.Path(folder).iterdir())
    ['train', 'validation']
    """
    _protocol()
    if not isinstance(logdir, (str, os.PathLike)):
        raise TypeError(f"logdir must be a path, got {logdir!r}")
    _checks.check_local_path("logdir", logdir)
    folder = pathlib.Path(logdir).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(histograms, bool):
        check_where(histograms)
    files: dict[str, pathlib.Path] = {}
    written = 0

    def begin(now: "Epochs") -> int:
        """Begin new files, and return how many epochs the old ones hold; more is void."""
        files.clear()
        known = {run: _on_file(folder / run) for run in _RUNS}
        same = 0
        while same < now.epoch and _values(now.history, same) == _held(known, same):
            same += 1
        for run in _RUNS:
            if run == "train" or known[run] or any(name.startswith("val_") for name in now.history):
                purged = same + 1 if max(known[run], default=0) > same else None
                files[run] = _new_file(folder / run, purged)
        return same

    def write(now: "Epochs") -> None:
        nonlocal written
        if now.metrics:  # within an epoch
            return
        chosen = _chosen(now.train_state.params, histograms)
        if jax.process_index():
            return
        if not files or now.epoch <= written:  # the callback has been given to another run
            written = begin(now)
        found = [(epoch + 1, _values(now.history, epoch)) for epoch in range(written, now.epoch)]
        for run, file in files.items():
            events = [_scalars(step, values[run]) for step, values in found if values[run]]
            events += [_histogram(now.epoch, *named) for named in chosen if run == "train"]
            _append(file, events)
        written = now.epoch

    return write


def _part(name: str) -> Any:
    """A module of tensorboardX, which has no types."""
    return needed(f"tensorboardX.{name}", "to_tensorboard", "tensorboardX", "tensorboard")


def _protocol() -> Any:
    return _part("proto.event_pb2")


def _values(history: Mapping[str, np.ndarray], epoch: int) -> dict[str, Scalars]:
    """What is written of an epoch, counted from 0, by run."""
    found: dict[str, Scalars] = {run: {} for run in _RUNS}
    for name, value in scalars_of(history, epoch).items():
        run = "validation" if name.startswith("val_") else "train"
        found[run][name.removeprefix("val_")] = np.float32(value)
    return found


def _held(known: Mapping[str, Mapping[int, Scalars]], epoch: int) -> dict[str, Scalars]:
    """What the files hold of an epoch, in the same form."""
    return {run: steps.get(epoch + 1, {}) for run, steps in known.items()}


def _chosen(params: PyTree, histograms: bool | Where) -> list[tuple[str, np.ndarray]]:
    """The finite values of parameters by path."""
    from jaxdeep.fitting.placement import fetched

    if histograms is False:
        return []
    leaves = jax.tree.leaves(params)
    wanted = [True] * len(leaves) if histograms is True else jax.tree.leaves(mask(params, histograms))
    found = []
    for path, leaf, is_wanted in zip(leaf_paths(params), leaves, wanted):
        if is_wanted and jnp.issubdtype(leaf.dtype, jnp.floating):
            values = fetched(leaf).astype(np.float32).ravel()
            values = values[np.isfinite(values)]
            if values.size:
                found.append((path, values))
    return found


def _scalars(step: int, values: Scalars) -> Any:
    event = _protocol().Event(step=step, wall_time=time.time())
    for tag, value in values.items():
        event.summary.value.add(tag=tag, simple_value=float(value))
    return event


def _histogram(step: int, tag: str, values: np.ndarray) -> Any:
    event = _protocol().Event(step=step, wall_time=time.time())
    event.summary.value.add(tag=tag, histo=_part("summary").make_histogram(values.astype(float), 64))
    return event


def _new_file(folder: pathlib.Path, purged: int | None) -> pathlib.Path:
    """A file that sorts behind all others in the folder, and says from which step on these are void."""
    folder.mkdir(exist_ok=True)
    now = time.time_ns()
    name = f"events.out.tfevents.{now // 10**9:010}.{now % 10**9:09}.{socket.gethostname()}"
    protocol = _protocol()
    events = [protocol.Event(wall_time=now / 1e9, file_version="brain.Event:2")]
    if purged is not None:
        start = protocol.SessionLog(status=protocol.SessionLog.START)
        events.append(protocol.Event(wall_time=now / 1e9, step=purged, session_log=start))
    _append(folder / name, events)
    return folder / name


def _append(file: pathlib.Path, events: list[Any]) -> None:
    """Write events as TensorFlow's records: the file is open no longer than that."""
    checksum = _part("record_writer").masked_crc32c
    with file.open("ab") as records:
        for body in (event.SerializeToString() for event in events):
            size = struct.pack("<Q", len(body))
            for part in (size, body):
                records.write(part + struct.pack("<I", checksum(part)))


def _on_file(folder: pathlib.Path) -> dict[int, Scalars]:
    """Scalars in a folder's event files by step, as TensorBoard would show them."""
    protocol = _protocol()
    steps: dict[int, Scalars] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in _records(path.read_bytes()):
            event: Any = protocol.Event.FromString(record)
            if event.session_log.status == protocol.SessionLog.START:
                steps = {step: values for step, values in steps.items() if step < event.step}
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    steps.setdefault(event.step, {})[value.tag] = np.float32(value.simple_value)
    return steps


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a file: length, checksum, bytes, checksum; an unfinished last one is left out."""
    at = 0
    while at + 12 <= len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        if at + 16 + size > len(data):
            return
        yield data[at + 12 : at + 12 + size]
        at += 16 + size
