"""What a saved model of Keras holds: its description and its variables, looked at before they are used.

Nothing in a file is run or unpickled, no link is followed, and no size that a file claims is believed.
"""

import contextlib
import functools
import io
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jaxdeep._extras import needed

Config: TypeAlias = dict[str, Any]
Variables: TypeAlias = dict[str, list[np.ndarray]]

CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
_MOST_TIMES = 100  # larger than what is stored; Keras refuses the same
_SMALL = 1 << 20  # a member that unpacks to no more bytes is always read
_LARGEST_CONFIG = 1 << 27
_FILTERS = (1, 2, 3, 4, 32000)  # deflate, shuffle, fletcher32, szip, lzf: what h5py itself reads


class Archive(NamedTuple):
    """A saved model.

    Attributes:
      config: the description of the model, as in ``config.json``.
      variables: the arrays of each layer by the path of the layer, ``"layers/dense"``, in order.
    """

    config: Config
    variables: Variables


def opened(source: str | os.PathLike[str], weights: str | os.PathLike[str] | None) -> Archive:
    """What a ``.keras`` file, a folder of the same members or a ``config.json`` with weights holds."""
    path = pathlib.Path(source)
    if not path.exists():
        raise FileNotFoundError(f"source: there is no {path}")
    if path.is_dir():
        members = {name: _reader(path / name) for name in (CONFIG, WEIGHTS) if (path / name).is_file()}
        there = sorted(member.name for member in path.iterdir())
    elif path.suffix == ".json":
        members, there = {CONFIG: _reader(path)}, [path.name]
    elif zipfile.is_zipfile(path):
        members = _members(path)
        there = list(members)
    elif path.suffix == ".keras":
        raise ValueError(f"source: {path} is damaged: it is no whole zip file, as a .keras file is")
    else:
        raise ValueError(
            "source must be a .keras file of Keras 3, the folder of one or its config.json, got "
            f"{path}; a whole model in .h5 is loaded in Keras and saved as .keras, and .weights.h5 "
            "goes with weights= beside a model"
        )
    if CONFIG not in members:
        raise ValueError(f"source: {path} has no {CONFIG}; there are {', '.join(there) or 'no files'}")
    config = _config(members[CONFIG](), path)
    if weights is not None:
        return Archive(config, variables(pathlib.Path(weights).read_bytes(), f"weights {weights}"))
    if WEIGHTS not in members:
        raise ValueError(
            f"source: {path} has no {WEIGHTS}; there are {', '.join(there)}. Weights in another file go "
            "with weights=; those in several files or in .npz are saved anew by Keras"
        )
    return Archive(config, variables(members[WEIGHTS](), f"source: {path}: {WEIGHTS}"))


@contextlib.contextmanager
def _whole(where: str) -> Iterator[None]:
    """Where it is entered, whatever a library says of bytes is that the file is damaged."""
    try:
        yield
    except Exception as error:  # of zip files there are a dozen kinds, and as many of HDF5
        if isinstance(error, ValueError) and str(error).startswith(where):
            raise
        reason = str(error) or type(error).__name__
        raise ValueError(f"{where} is damaged: {reason}") from error


def _reader(path: pathlib.Path) -> Callable[[], bytes]:
    if path.is_symlink():
        raise ValueError(f"source: {path} is a link, which is not followed")
    return path.read_bytes


def _members(path: pathlib.Path) -> dict[str, Callable[[], bytes]]:
    """The members of a zip file. All are checked before any is read: Keras writes no other kinds."""
    where = f"source: {path}"
    with _whole(where):
        archive = zipfile.ZipFile(path)
    members: dict[str, Callable[[], bytes]] = {}

    def read(name: str) -> bytes:
        with _whole(f"{where}: {name}"):
            return archive.read(name)

    for info in archive.infolist():
        name = info.filename
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or name.startswith(("/", "\\")) or ":" in parts[0]:
            raise ValueError(f"source: {path} has a member {name!r}, which leads out of the archive")
        if name in members:
            raise ValueError(f"source: {path} has two members of the name {name!r}")
        if (info.external_attr >> 16) & 0o170000 == 0o120000:
            raise ValueError(f"source: {path} has a member {name!r} that is a link")
        if info.flag_bits & 1:
            raise ValueError(f"source: {path} has a member {name!r} that is encrypted")
        if info.file_size > max(_SMALL, _MOST_TIMES * info.compress_size):
            raise ValueError(
                f"source: {path} has a member {name!r} of {info.compress_size:,} bytes that claims to "
                f"hold {info.file_size:,}"
            )
        members[name] = functools.partial(read, name)
    return members


def _config(text: bytes, path: pathlib.Path) -> Config:
    """The description, without anything that is code."""
    if len(text) > _LARGEST_CONFIG:
        raise ValueError(
            f"source: {CONFIG} has {len(text):,} bytes, which no description of a model has"
        )
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"source: {path} is damaged: {CONFIG} is no JSON: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise ValueError(f"source: {path}: {CONFIG} describes no model")
    for node in _nodes(config):
        name = node.get("class_name")
        if name in ("__lambda__", "Lambda"):
            named = node.get("config")
            called = named.get("name") if isinstance(named, dict) else None
            of = f" (layer {called!r})" if called else ""
            raise ValueError(
                f"source: {CONFIG} holds {name}{of}, which is code of Python: it is never run. Write it "
                "as a function, load the model in Keras and use jaxdeep.adapters.from_keras_model"
            )
    return config


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every dict in a JSON value, at any depth."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def variables(content: bytes, where: str) -> Variables:
    """The variables in an HDF5 file, by the path of what they are of; an optimizer has none here.

    Args:
      content: the bytes of the file.
      where: words for it, in errors.
    """
    h5py = needed("h5py", "from_keras", "h5py", "keras")
    by_owner: dict[str, dict[int, Any]] = {}
    with _whole(where), h5py.File(io.BytesIO(content), "r") as file:
        for path, data in _datasets(h5py, file, where):
            owner, _, last = path.rpartition("/")
            is_variable = f"/{owner}".endswith("/vars") and last.isdigit()
            if is_variable and not path.startswith("optimizer/"):
                by_owner.setdefault(owner.removesuffix("vars").strip("/"), {})[int(last)] = data
        return {
            owner: [_array(datasets[i]) for i in sorted(datasets)]
            for owner, datasets in by_owner.items()
        }


def _datasets(h5py: Any, file: Any, where: str) -> Iterator[tuple[str, Any]]:
    """All data sets, once every link and every size is known to be an ordinary one."""
    waiting, seen = [("", file)], set()
    datasets = []
    while waiting:
        path, group = waiting.pop()
        for name in group:
            here = f"{path}/{name}".strip("/")
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"{where}: {here} is a link to elsewhere, which is not followed")
            node = group[name]
            address = h5py.h5o.get_info(node.id).addr
            if address in seen:
                raise ValueError(f"{where}: {here} is in the file under another name already")
            seen.add(address)
            if isinstance(node, h5py.Group):
                waiting.append((here, node))
            elif isinstance(node, h5py.Dataset):
                _check_data(node, f"{where}: {here}")
                datasets.append((here, node))
    return iter(datasets)


def _check_data(data: Any, where: str) -> None:
    """Refuse data that are elsewhere, are no numbers, or claim to be larger than what is stored."""
    if data.is_virtual or data.external:
        raise ValueError(f"{where} has its data in other files, which are not read")
    if data.dtype.kind not in "fiubc" or "dtype" in data.attrs:
        kind = data.attrs.get("dtype", data.dtype)
        raise ValueError(f"{where} has numbers of {kind}, and float32 and the like are read")
    plist = data.id.get_create_plist()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if not set(filters) <= set(_FILTERS):
        raise ValueError(f"{where} is compressed in a way that needs a plugin")
    claimed = math.prod(data.shape or ()) * data.dtype.itemsize
    stored = data.id.get_storage_size()
    if claimed > max(_SMALL, _MOST_TIMES * stored):
        raise ValueError(f"{where} has {stored:,} bytes and claims to hold {claimed:,}")


def _array(data: Any) -> np.ndarray:
    return np.ascontiguousarray(data[()]).reshape(data.shape)
