"""A table of a sweep as a file: a zip of ``table.json`` and an array of NumPy's for each leaf.

``numpy.load`` and ``unzip`` read it, too. Nothing is pickled, and every part has a checksum.
"""

import contextlib
import io
import json
import math
import os
import pathlib
import re
import struct
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._shapes import PyTree
from jaxdeep._version import __version__
from jaxdeep.search.spaces import distributions
from jaxdeep.search.spaces.values import word
from jaxdeep.search.tables.columns import in_words
from jaxdeep.search.tables.result import ENDED, NotKept, Result, Span, Stored

Json: TypeAlias = Any  # what json.dumps writes and json.loads reads
Point = Mapping[str, Any]

FORMAT, VERSION = "jaxdeep-table", 1
_ABOUT = "table.json"
_BEGINNING = f'{{"format": "{FORMAT}"'.encode()
_AGAIN = "use a sound copy, or save the table again"
_LONGEST = 1000  # letters of the name of an array
_PLAIN = "biufcSU"  # kinds of dtypes that NumPy's files know


class Contents(NamedTuple):
    """The parts of a table that a file holds."""

    points: Sequence[Point]
    results: Sequence[Result]
    spaces: Any
    outputs: Any = None


def write(path: str | os.PathLike[str], contents: Contents, *, with_params: bool) -> None:
    """Write a table to a file, which has its name only once it is complete."""
    _checks.check_local_path("path", path)
    _checks.check_flag("with_params", with_params)
    file = pathlib.Path(path).expanduser()
    _check_free(file)
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as handle:
            with zipfile.ZipFile(handle, "w") as archive:
                about = _about(_Arrays(archive), contents, with_params)
                archive.writestr(zipfile.ZipInfo(_ABOUT), json.dumps(about, allow_nan=False))
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, file)
    except OSError as error:
        why = error.strerror or str(error)
        raise type(error)(error.errno, f"a table cannot be saved at {str(file)!r} ({why})") from error
    finally:
        temporary.unlink(missing_ok=True)


def read(path: str | os.PathLike[str], *, with_params: bool) -> Contents:
    """What `write` wrote."""
    _checks.check_local_path("path", path)
    _checks.check_flag("with_params", with_params)
    file = pathlib.Path(path).expanduser()
    if not file.exists():
        raise FileNotFoundError(f"there is no table at {str(file)!r}; Table.save writes one")
    if file.is_dir():
        raise ValueError(f"{str(file)!r} is not a table that jaxdeep saved: it is a folder")
    with file.open("rb") as handle, _readable(file):
        if not zipfile.is_zipfile(handle):
            raise _Foreign(f"is not a table that jaxdeep saved, or its end is missing; {_AGAIN}")
        with zipfile.ZipFile(handle) as archive:
            return _contents(_read_about(archive), _members(archive), with_params)


# --- writing --------------------------------------------------------------------------------------


class _Arrays:
    """The arrays of a file that is being written."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive, self.names = archive, set[str]()

    def add(self, name: str, array: Any) -> Json:
        """Write an array under a name like this one, and say what is there."""
        # No colon stays in the name: in the file a colon parts the name from the kind of its elements.
        name = re.sub(r"[^\w./+-]", "_", name)[:_LONGEST]
        while name in self.names:
            name += "'"
        self.names.add(name)
        kind = None
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            kind, array = f"key {jax.random.key_impl(array)}", jax.random.key_data(array)
        array = np.asarray(array, order="C")
        if array.dtype.isbuiltin == 2:  # such as bfloat16
            kind, array = array.dtype.name, array.view(f"u{array.dtype.itemsize}")
        if array.dtype.kind not in _PLAIN:
            raise ValueError(f"{name} is an array of {array.dtype}, which cannot be saved")
        with self.archive.open(f"{name}.npy", "w", force_zip64=True) as handle:
            np.lib.format.write_array(handle, array, allow_pickle=False)
        return name if kind is None else f"{name}:{kind}"


def _about(arrays: _Arrays, contents: Contents, with_params: bool) -> Json:
    points, results, spaces, outputs = contents
    names = dict.fromkeys(name for space in (*points, *(spaces or ())) for name in space)
    encoders = {name: _encoder(_column(name, contents)) for name in names}
    rows = []
    for i, (point, result) in enumerate(zip(points, results)):
        model = _model(arrays, i, result) if with_params else None
        rows.append(
            {
                "point": {name: encoders[name](value) for name, value in point.items()},
                "ended": result.ended,
                "end": int(result.end),
                "history": {n: arrays.add(f"{i}/history/{n}", a) for n, a in result.history.items()},
                "error": result.error,
                "spans": [[s.worker, *map(_encode, s[1:])] for s in result.spans],
                "model": model,
            }
        )
    described = None
    if spaces is not None:
        described = [
            {name: [type(d).__name__, *_fields(d, encoders[name])] for name, d in space.items()}
            for space in spaces
        ]
    about = {"format": FORMAT, "format_version": VERSION, "jaxdeep_version": __version__}
    return about | {"spaces": described, "outputs": outputs, "rows": rows}


def _model(arrays: _Arrays, i: int, result: Result) -> Json:
    """The parameters and state of row i, None if they were not kept."""
    params, state = result.params, result.state
    if isinstance(params, Stored):
        try:
            params, state = params.load()
        except NotKept:
            return None
    if params is None:
        return None
    return [_tree(arrays, f"{i}/params", params), _tree(arrays, f"{i}/state", state)]


def _tree(arrays: _Arrays, path: str, node: PyTree) -> Json:
    """A tree as JSON, with an array's name in the place of each leaf."""
    if node is None:
        return None
    if hasattr(node, "dtype") and hasattr(node, "shape"):
        return arrays.add(path, node)
    if type(node) is dict and all(type(name) in (str, int) for name in node):
        items = [[name, _tree(arrays, f"{path}/{name}", value)] for name, value in node.items()]
        return {"dict": items}
    if type(node) in (list, tuple):
        items = [_tree(arrays, f"{path}/{i}", value) for i, value in enumerate(node)]
        return {type(node).__name__: items}
    raise ValueError(
        f"{path} is {type(node).__name__}, which cannot be saved; save plain dicts, lists and tuples of "
        "arrays, or the table with_params=False"
    )


def _column(name: str, contents: Contents) -> Iterator[Any]:
    """The values that a hyperparameter has, or may have according to the spaces."""
    yield from (point[name] for point in contents.points if name in point)
    for space in contents.spaces or ():
        for field in space.get(name, ()):
            yield from field if isinstance(field, tuple) else (field,)


def _fields(distribution: Any, encode: Callable[[Any], Json]) -> Iterator[Json]:
    for field in distribution:  # that of a choice is the tuple of its values
        yield {"tuple": list(map(encode, field))} if isinstance(field, tuple) else encode(field)


def _encoder(values: Iterable[Any]) -> Callable[[Any], Json]:
    """From a value to JSON; what JSON cannot hold becomes text that tells the values apart."""
    values = list(values)
    texts = dict(zip(map(word, values), in_words(values)))

    def encode(value: Any) -> Json:
        try:
            return _encode(value)
        except TypeError:
            return texts[word(value)]

    return encode


def _encode(value: Any) -> Json:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if type(value) in (list, tuple):
        return {type(value).__name__: list(map(_encode, value))}
    if isinstance(value, Mapping):
        return {"dict": [[_encode(name), _encode(item)] for name, item in value.items()]}
    raise TypeError(f"JSON cannot hold {value!r}")


def _check_free(file: pathlib.Path) -> None:
    """Refuse a path where there is something else than a saved table."""
    if not os.path.lexists(file):
        return
    if file.is_dir():
        raise FileExistsError(
            f"{str(file)!r} is a folder; a table is saved as a file: give another path"
        )
    with contextlib.suppress(OSError, zipfile.BadZipFile, KeyError):
        if file.stat().st_size == 0:
            return
        with zipfile.ZipFile(file) as archive, archive.open(_ABOUT) as about:
            if about.read(len(_BEGINNING)) == _BEGINNING:
                return
    raise FileExistsError(f"{str(file)!r} is not a table that jaxdeep saved: give another path")


# --- reading --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _readable(file: pathlib.Path) -> Iterator[None]:
    """Name the file, and what to do, where its contents are not those of a table."""
    try:
        yield
    except _Foreign as error:
        raise ValueError(f"{str(file)!r} {error}") from None
    except (
        *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError),
        *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, SyntaxError),
        OSError,  # a place that is not in the file
    ) as error:
        raise ValueError(f"{str(file)!r} is damaged: {error}; {_AGAIN}") from error


class _Foreign(Exception):
    """A file that is sound, and not for this version to read."""


def _members(archive: zipfile.ZipFile) -> Callable[[str], np.ndarray | jax.Array]:
    names = set(archive.namelist())

    def array(described: str) -> np.ndarray | jax.Array:
        name, _, kind = described.partition(":") if ":" in described else (described, "", "")
        if f"{name}.npy" not in names:
            raise ValueError(f"it lacks the array {name}")
        # Read to the end, so that zipfile compares the checksum.
        data = io.BytesIO(archive.read(f"{name}.npy"))
        array = np.lib.format.read_array(data, allow_pickle=False)
        if kind.startswith("key "):
            return jax.random.wrap_key_data(jnp.asarray(array), impl=kind[4:])
        return array.view(jnp.dtype(kind)) if kind else array

    return array


def _read_about(archive: zipfile.ZipFile) -> Json:
    if _ABOUT not in archive.namelist():
        raise _Foreign("is not a table that jaxdeep saved: it has no table.json")
    about = json.loads(archive.read(_ABOUT))
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise _Foreign(f"is not a table that jaxdeep saved: its format is not {FORMAT!r}")
    if about["format_version"] > VERSION:
        raise _Foreign(
            f"is of format version {about['format_version']}, written by jaxdeep "
            f"{about.get('jaxdeep_version')}; this is jaxdeep {__version__}, which reads versions up to "
            f"{VERSION}: install a newer one"
        )
    return about


def _contents(
    about: Json, array: Callable[[str], np.ndarray | jax.Array], with_params: bool
) -> Contents:
    points, results = [], []
    for i, row in enumerate(about["rows"]):
        params, state = None, None
        if row["ended"] not in ENDED or type(row["end"]) is not int:
            raise ValueError(f"row {i} ended {row['ended']!r} at {row['end']!r}")
        if with_params and row["model"] is not None:
            params, state = (_leaves(node, array) for node in row["model"])
        history = {name: np.asarray(array(place)) for name, place in row["history"].items()}
        spans = tuple(Span(*map(_decode, span)) for span in row["spans"])
        points.append({name: _decode(value) for name, value in row["point"].items()})
        results.append(Result(params, state, history, row["end"], row["ended"], row["error"], spans))
    spaces = about["spaces"]
    if spaces is not None:
        spaces = tuple({name: _distribution(*d) for name, d in space.items()} for space in spaces)
    return Contents(points, results, spaces, about.get("outputs"))


def _distribution(kind: str, *fields: Json) -> Any:
    known = vars(distributions)
    if not (isinstance(known.get(kind), type) and hasattr(known[kind], "_fields")):
        raise _Foreign(f"names a distribution {kind!r}, which this jaxdeep {__version__} does not know")
    return known[kind](*map(_decode, fields))


def _leaves(node: Json, array: Callable[[str], np.ndarray | jax.Array]) -> PyTree:
    if node is None:
        return None
    if isinstance(node, str):
        return array(node)
    ((kind, items),) = node.items()
    if kind == "dict":
        return {name: _leaves(item, array) for name, item in items}
    return {"list": list, "tuple": tuple}[kind](_leaves(item, array) for item in items)


def _decode(node: Json) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "float":
        # `math.nan` itself, so that the NaNs of all rows are one object.
        return math.nan if content == "nan" else float(content)
    if kind == "dict":
        return {_decode(name): _decode(item) for name, item in content}
    return {"list": list, "tuple": tuple}[kind](map(_decode, content))
