"""The file of a row of a sweep: the bytes of its state, from which it goes on, and their place."""

import functools
import hashlib
import json
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._extras import needed
from jaxdeep._shapes import PyTree
from jaxdeep.fitting.run_arrays import filled_run, named_arrays, with_room
from jaxdeep.search.tables.result import NotKept
from jaxdeep.train import rewinding
from jaxdeep.train.missing import with_nan, without_nan
from jaxdeep.train.run import RunState

Arrays = dict[str, np.ndarray]

# Kinds of NumPy's dtypes that the format knows, and its names for them.
_KINDS = {"b": "BOOL", "i": "I", "u": "U", "f": "F"}


class Place(NamedTuple):
    """Where the state of a row is: a file, or a part of one.

    Attributes:
      path: the file.
      start, size: where the part begins, and how many bytes it has; None for all of the file.
    """

    path: pathlib.Path
    start: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """The bytes that are there, which are fewer in a file that is torn."""
        if self.size is None:
            return self.path.read_bytes()
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


class Kept(NamedTuple):
    """Parameters and state that are on the disk.

    Attributes:
      place: where.
      like: shapes of the parameters and the state.
      keep: how many rows keep theirs; None for all.
    """

    place: Place
    like: tuple[PyTree, PyTree]
    keep: int | None = None

    def load(self) -> tuple[PyTree, PyTree]:
        """The parameters and the state, read from the file.

        Raises:
          NotKept: the row is not among the best.
          ValueError: the file is not there any more, or damaged.
        """
        path = self.place.path
        if not path.exists():
            if self.keep is None:
                raise ValueError(
                    f"the file of its parameters, {str(path)!r}, is not there any more; the "
                    "sweep trains the row again when it is called again"
                )
            raise NotKept(f"its parameters were not kept (keep_params={self.keep} keeps the best)")
        try:
            arrays, _ = read(self.place)
        except ValueError as error:
            raise ValueError(
                f"{error}. Delete that file and call the sweep again, which trains the rows again whose "
                "parameters were in it"
            ) from error
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
    epoch = int(np.asarray(run.epoch))
    history: Any = with_nan(run.history, epoch)
    named = named_arrays(run._replace(history=history), "run.")
    if result is not None:
        named |= named_arrays(result, "result.")
    return {name: np.array(array) for name, array in named.items()} if copy else named


def contents(arrays: Arrays, epoch: int) -> bytes:
    """The bytes of a file with these arrays, in the format of safetensors.

    They are put together here, since a sweep writes thousands of states whose headers differ in nothing
    but the epoch and the checksum.
    """
    layout = _layout(*_described(arrays))
    body = b"".join([_in_order(arrays[name]) for name in layout.order])
    about = f'{{"epoch": "{epoch}", "dtypes": {layout.dtypes}, "checksum": "{layout.checksum(body)}"}}'
    header = f'{{"__metadata__":{about}{layout.tensors}}}'.encode()
    header += b" " * (-len(header) % 8)
    return b"".join([len(header).to_bytes(8, "little"), header, body])


class _Layout(NamedTuple):
    """How arrays of some names, dtypes and shapes lie in a file, whatever their values.

    Attributes:
      order: the names in the order of the arrays' bytes, wide dtypes first.
      tensors: their part of the header.
      dtypes: those that the format does not know, by name, as JSON in a text of JSON.
    """

    order: list[str]
    tensors: str
    dtypes: str

    def checksum(self, body: bytes | memoryview) -> str:
        """That of the layout and the bytes of the arrays."""
        digest = hashlib.blake2b(self.tensors.encode(), digest_size=16)
        digest.update(body)
        return digest.hexdigest()


def _described(arrays: Arrays) -> tuple[tuple[str, ...], tuple[tuple[np.dtype, tuple[int, ...]], ...]]:
    return tuple(arrays), tuple([(array.dtype, array.shape) for array in arrays.values()])


@functools.lru_cache(64)
def _layout(names: tuple[str, ...], described: tuple[tuple[np.dtype, tuple[int, ...]], ...]) -> _Layout:
    # Safetensors will read the file.
    needed("safetensors.numpy", "checkpoint=", "safetensors", "checkpoint")
    odd, stored = dict[str, str](), list[tuple[str, np.dtype, tuple[int, ...]]]()
    for name, (dtype, shape) in zip(names, described):
        if dtype.kind in _KINDS and dtype.isbuiltin == 1:
            stored.append((name, dtype, shape))
        else:
            odd[name] = dtype.name
            stored.append((name, np.dtype(np.uint8), (*shape, dtype.itemsize)))
    order, tensors, end = [], list[str](), 0
    for name, dtype, shape in sorted(stored, key=lambda s: (-s[1].itemsize, s[0])):
        kind, size = _KINDS[dtype.kind], dtype.itemsize * math.prod(shape)
        entry = {
            "dtype": "BOOL" if kind == "BOOL" else f"{kind}{8 * dtype.itemsize}",
            "shape": shape,
            "data_offsets": (end, end := end + size),
        }
        order.append(name)
        tensors.append(f",{json.dumps(name)}:{json.dumps(entry)}")
    return _Layout(order, "".join(tensors), json.dumps(json.dumps(odd)))


def _in_order(array: np.ndarray) -> Any:
    """The array in C order, whose bytes are those that are written."""
    return array if array.flags.c_contiguous else np.asarray(array, order="C")


def read(place: Place) -> tuple[Arrays, int]:
    """The arrays of a state, and the epoch they are of.

    Raises:
      ValueError: it is damaged.
    """
    try:
        return parsed(place.read())
    except Exception as error:  # whatever a damaged file makes the library raise
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(f"{place.path} cannot be read: {reason}") from error


def parsed(data: bytes) -> tuple[Arrays, int]:
    """The arrays and the epoch in the bytes that `contents` makes."""
    load = needed("safetensors.numpy", "checkpoint=", "safetensors", "checkpoint").load
    begin = 8 + int.from_bytes(data[:8], "little")
    about = json.loads(data[8:begin])["__metadata__"]
    stored = load(data)
    if _layout(*_described(stored)).checksum(memoryview(data)[begin:]) != about["checksum"]:
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
    known = _below("run", arrays)
    is_whole = any(name.startswith("decisions.before.") for name in known)  # in earlier versions not
    kept = like if is_whole else rewinding.without_before(like)
    try:
        run = filled_run(kept._replace(history=history), known)
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from error
    run = run if is_whole else rewinding.with_before(run, like)
    longer: Any = without_nan(with_room(run, room).history)  # type: ignore[arg-type]
    return run._replace(history=longer)


def _below(prefix: str, arrays: Arrays) -> Arrays:
    start = f"{prefix}."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
