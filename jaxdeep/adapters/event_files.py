"""Event files, TensorFlow's format of what TensorBoard shows: records with checksums."""

import pathlib
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxdeep._extras import needed

Scalars = dict[str, np.float32]  # the scalars of one step, by tag


def module(name: str, caller: str = "to_tensorboard") -> Any:
    """A module of tensorboardX, which has no types."""
    return needed(f"tensorboardX.{name}", caller, "tensorboardX", "tensorboard")


def protocol() -> Any:
    """The messages that event files are made of."""
    return module("proto.event_pb2")


def scalars(step: int, values: Scalars) -> Any:
    """The event of these values."""
    event = protocol().Event(step=step, wall_time=time.time())
    for tag, value in values.items():
        event.summary.value.add(tag=tag, simple_value=float(value))
    return event


def histogram(step: int, tag: str, values: np.ndarray) -> Any:
    """The event of the distribution of these values."""
    event = protocol().Event(step=step, wall_time=time.time())
    event.summary.value.add(tag=tag, histo=module("summary").make_histogram(values.astype(float), 64))
    return event


def new_file(folder: pathlib.Path, purged: int | None) -> pathlib.Path:
    """A file that sorts behind all others in the folder, and says from which step on these are void."""
    folder.mkdir(exist_ok=True)
    now = time.time_ns()
    name = f"events.out.tfevents.{now // 10**9:010}.{now % 10**9:09}.{socket.gethostname()}"
    event = protocol().Event
    events = [event(wall_time=now / 1e9, file_version="brain.Event:2")]
    if purged is not None:
        log = protocol().SessionLog
        start = log(status=log.START)
        events.append(event(wall_time=now / 1e9, step=purged, session_log=start))
    append(folder / name, events)
    return folder / name


def append(file: pathlib.Path, events: list[Any]) -> None:
    """Write events as TensorFlow's records: the file is open no longer than that."""
    checksum = module("record_writer").masked_crc32c
    with file.open("ab") as records:
        for body in (event.SerializeToString() for event in events):
            size = struct.pack("<Q", len(body))
            for part in (size, body):
                records.write(part + struct.pack("<I", checksum(part)))


def on_file(folder: pathlib.Path) -> dict[int, Scalars]:
    """Scalars in a folder's event files by step, as TensorBoard would show them."""
    messages = protocol()
    steps: dict[int, Scalars] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in _records(path.read_bytes()):
            event: Any = messages.Event.FromString(record)
            if event.session_log.status == messages.SessionLog.START:
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
