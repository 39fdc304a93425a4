"""Sweeps for TensorBoard: a run for each row, compared in its view of hyperparameters."""

import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdeep import _checks
from jaxdeep.adapters.event_files import append, module, protocol
from jaxdeep.adapters.tensorboard import to_tensorboard
from jaxdeep.search.tables.columns import RowNames, in_words
from jaxdeep.train.records import Epochs

if TYPE_CHECKING:
    from jaxdeep.search.tables.table import Table

_START, _END = "_hparams_/session_start_info", "_hparams_/session_end_info"
_VERSION = 0


def sweep_to_tensorboard(table: "Table", logdir: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Write the rows of a sweep for ``tensorboard --logdir``, whose HPARAMS view compares them.

    Every row is a folder of its own under `logdir`, named as `jaxdeep.search.LoggedRow` is after its
    point and seed, in which its history is as `to_tensorboard` writes it, beside its hyperparameters.
    Numbers, texts and booleans stay what they are; None, functions and other objects are texts. Metrics
    are ``train/loss``, ``validation/loss`` and so on. Another call with more rows, or with rows that
    went on, adds what is missing and writes nothing twice.

    Args:
      table: what `jaxdeep.sweep` returned.
      logdir: the folder, made if missing.

    Returns:
      The folders, one for each row.

    Raises:
      ImportError: tensorboardX is not installed (``pip install 'jaxdeep[tensorboard]'``).
      TypeError: a `logdir` that is not a path, a `table` that is none.

    Source: TensorBoard's HParams plugin, whose messages tensorboardX has.

    >>> import tempfile
    >>> from jaxdeep.search.tables.table import Result, Table
    >>> result = Result({}, {}, {"loss": np.array([3.0, 1.0])}, end=1, ended="finished")
    >>> table = Table([{"rate": 0.1, "seed": 0}, {"rate": 0.2, "seed": 0}], [result, result])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in sweep_to_tensorboard(table, folder)]
    ['rate=0.1,seed=0', 'rate=0.2,seed=0']
    """
    if not (hasattr(table, "points") and hasattr(table, "results")):
        raise TypeError(f"table must be what jaxdeep.sweep returned, got {table!r}")
    module("proto.plugin_hparams_pb2", "sweep_to_tensorboard")
    if not isinstance(logdir, (str, os.PathLike)):
        raise TypeError(f"logdir must be a path, got {logdir!r}")
    _checks.check_local_path("logdir", logdir)
    folders, name_of = list[pathlib.Path](), RowNames()
    for point, result in zip(table.points, table.results):
        values = {name: _plain(value) for name, value in point.items()}
        folder = pathlib.Path(logdir).expanduser() / name_of(point)
        _write_session(folder, values, result.ended)
        epochs = min((len(column) for column in result.history.values()), default=0)
        if epochs:
            state: Any = None  # the writer of scalars writes nothing of the train state
            to_tensorboard(folder)(Epochs(epochs, dict(result.history), state))
        folders.append(folder)
    return folders


def _plain(value: Any) -> bool | float | str:
    """A value as the plugin takes it: numbers of NumPy and JAX become those of Python."""
    if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.shape == () and array.dtype.kind in "biuf":
            value = array.item()
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return float(value)
    return in_words([value])[0]


def _write_session(folder: pathlib.Path, values: Mapping[str, Any], ended: str) -> None:
    """Write the hyperparameters of a row, and how it ended, unless the files have them already."""
    folder.mkdir(parents=True, exist_ok=True)
    messages, plugin = protocol(), module("proto.plugin_hparams_pb2", "sweep_to_tensorboard")
    status = module("proto.api_pb2", "sweep_to_tensorboard").Status
    started = plugin.SessionStartInfo(group_name=folder.name)
    for name, value in values.items():
        kind = "bool_value" if isinstance(value, bool) else "string_value"
        kind = "number_value" if isinstance(value, float) else kind
        setattr(started.hparams[name], kind, value)
    outcome = "STATUS_SUCCESS" if ended in ("finished", "halved") else "STATUS_FAILURE"
    stopped = plugin.SessionEndInfo(status=status.Value(outcome))
    file = folder / f"events.out.tfevents.0000000000.{outcome.lower()}"
    if file.exists():
        return
    events = [messages.Event(file_version="brain.Event:2")]
    for tag, content in (
        (_START, {"session_start_info": started}),
        (_END, {"session_end_info": stopped}),
    ):
        event = messages.Event()
        value = event.summary.value.add(tag=tag)
        value.metadata.plugin_data.plugin_name = "hparams"
        data = plugin.HParamsPluginData(version=_VERSION, **content)
        value.metadata.plugin_data.content = data.SerializeToString()
        events.append(event)
    for other in folder.glob("events.out.tfevents.0000000000.*"):
        other.unlink()
    append(file, events)
