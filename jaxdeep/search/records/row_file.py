"""The file of a row of a sweep: its state after an epoch, from which it goes on."""

import functools
import hashlib
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._extras import needed
from jaxdeep._shapes import PyTree
from jaxdeep.fitting.run_arrays import filled_run, named_arrays, with_room
from jaxdeep.search.tables.result import NotKept
from jaxdeep.train.missing import with_nan, without_nan
from jaxdeep.train.run import RunState

Arrays = dict[str, np.ndarray]

# Kinds of NumPy's dtypes that the format knows, and its names for them.
_KINDS = {"b": "BOOL", "i": "I", "u": "U", "f": "F"}


class Kept(NamedTuple):
    """Parameters and state that are in the file of a row.

    Attributes:
      path: the file.
      like: shapes of the parameters and the state.
      keep: how many rows keep theirs; None for all.
    """

    path: pathlib.Path
    like: tuple[PyTree, PyTree]
    keep: int | None = None

    def load(self) -> tuple[PyTree, PyTree]:
        """The parameters and the state, read from the file.

        Raises:
          NotKept: the row is not among the best.
          ValueError: the file is not there any more, or damaged.
        """
        if not self.path.exists():
            if self.keep is None:
                raise ValueError(
                    f"the file of its parameters, {str(self.path)!r}, is not there any more"
                )
            raise NotKept(f"its parameters were not kept (keep_params={self.keep} keeps the best)")
        arrays, _ = read(self.path)
        chosen = "result" if any(name.startswith("result.") for name in arrays) else "run.train_state"
        names = ("0", "1") if chosen == "result" else ("params", "state")
        parts = [
            filled_run(like, _below(f"{chosen}.{name}", arrays)) for name, like in zip(names, self.like)
        ]
        return parts[0], parts[1]


def arrays_of(run: RunState, result: tuple[PyTree, PyTree] | None, *, copy: bool = True) -> Arrays:
    """The arrays of a run, and of what it ends with if that differs.

    They are copies, unless `copy` is False, which is for a run that does not go on in its own arrays.
    """
    epoch = int(run.epoch)
    history: Any = with_nan(run.history, epoch)
    named = {f"run.{name}": a for name, a in named_arrays(run._replace(history=history)).items()}
    if result is not None:
        named |= {f"result.{name}": a for name, a in named_arrays(result).items()}
    return {name: np.array(array) for name, array in named.items()} if copy else named


def contents(arrays: Arrays, epoch: int) -> bytes:
    """The bytes of a file with these arrays, in the format of safetensors.

    They are put together here, since a sweep writes thousands of files whose headers differ in nothing
    but the epoch and the checksum.
    """
    needed("safetensors.numpy", "checkpoint=", "safetensors", "checkpoint")  # which reads it
    odd = {name: array.dtype.name for name, array in arrays.items() if not _is_plain(array)}
    stored = {name: _stored(array, name in odd) for name, array in arrays.items()}
    about = {"epoch": str(epoch), "dtypes": json.dumps(odd), "checksum": _checksum(stored)}
    order, tensors = _layout(tuple((n, a.dtype.str, a.shape, a.nbytes) for n, a in stored.items()))
    header = f'{{"__metadata__":{json.dumps(about)}{tensors}}}'.encode()
    header += b" " * (-len(header) % 8)
    # arrays without elements have no bytes
    parts = [stored[name].data.cast("B") for name in order if stored[name].size]
    return b"".join([len(header).to_bytes(8, "little"), header, *parts])


@functools.lru_cache(64)
def _layout(described: tuple[tuple[str, str, tuple[int, ...], int], ...]) -> tuple[list[str], str]:
    """The names of arrays in the order of their bytes, wide dtypes first, and their part of a header."""
    order, tensors, end = [], list[str](), 0
    for name, dtype, shape, size in sorted(described, key=lambda d: (-np.dtype(d[1]).itemsize, d[0])):
        kind = _KINDS[np.dtype(dtype).kind]
        entry = {
            "dtype": "BOOL" if kind == "BOOL" else f"{kind}{8 * np.dtype(dtype).itemsize}",
            "shape": shape,
            "data_offsets": (end, end := end + size),
        }
        order.append(name)
        tensors.append(f",{json.dumps(name)}:{json.dumps(entry)}")
    return order, "".join(tensors)


def read(path: pathlib.Path) -> tuple[Arrays, int]:
    """The arrays of a file, and the epoch they are of.

    Raises:
      ValueError: the file is damaged.
    """
    try:
        return parsed(path.read_bytes())
    except Exception as error:  # whatever a damaged file makes the library raise
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0][:200]}") from error


def parsed(data: bytes) -> tuple[Arrays, int]:
    """The arrays and the epoch in the bytes that `contents` makes."""
    load = needed("safetensors.numpy", "checkpoint=", "safetensors", "checkpoint").load
    about = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    stored = load(data)
    if _checksum(stored) != about["checksum"]:
        raise ValueError("its arrays do not have the checksum they were written with")
    dtypes = json.loads(about["dtypes"])
    arrays = {n: a.view(jnp.dtype(dtypes[n]))[..., 0] if n in dtypes else a for n, a in stored.items()}
    return arrays, int(about["epoch"])


def restored(arrays: Arrays, epoch: int, like: RunState, room: int) -> RunState:
    """The run of a file, with room for the history of this many epochs.

    Raises:
      ValueError: the arrays are not those of a run like `like`.
    """
    history: Any = {
        name: jax.ShapeDtypeStruct((epoch, *leaf.shape[1:]), leaf.dtype)
        for name, leaf in like.history.items()
    }
    try:
        run = filled_run(like._replace(history=history), _below("run", arrays))
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from error
    longer: Any = without_nan(with_room(run, room).history)  # type: ignore[arg-type]
    return run._replace(history=longer)


def _below(prefix: str, arrays: Arrays) -> Arrays:
    start = f"{prefix}."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def _is_plain(array: np.ndarray) -> bool:
    return array.dtype.kind in _KINDS and array.dtype.isbuiltin == 1


def _stored(array: np.ndarray, is_odd: bool) -> np.ndarray:
    """The array in a dtype that the format knows, in C order."""
    array = np.asarray(array, order="C")
    return array.reshape(*array.shape, 1).view(np.uint8) if is_odd else array


def _checksum(stored: Arrays) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(stored):
        array = stored[name]
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(array.data)
    return digest.hexdigest()
