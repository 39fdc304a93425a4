"""Data sets as NumPy arrays, split into training, validation and test rows.

Inputs are float32 in [0, 1] (pixels) and labels are int32 classes.
"""

import gzip
import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxdeep import _checks
from jaxdeep._extras import needed
from jaxdeep._shapes import Float, Integer

__all__ = [
    "Dataset",
    "digits",
    "fashion_mnist",
    "load",
    "npz",
]


def __dir__() -> list[str]:
    return __all__


Pair = tuple[Float[np.ndarray, "rows *features"], Integer[np.ndarray, "rows"]]

_FASHION_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_FASHION_SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}


class Dataset(NamedTuple):
    """Pairs ``(x, y)``: ``train, validation, test = jd.datasets.digits()``.

    Attributes:
      train: the pair to learn from.
      validation: the pair by which to choose between models.
      test: the pair for the final report; None if the source has none.
    """

    train: Pair
    validation: Pair
    test: Pair | None


def digits() -> Dataset:
    """Handwritten digits, 8 × 8 pixels: 1,257 training, 270 validation and 270 test images.

    This is the set that ships with scikit-learn (UCI, Alpaydin & Kaynak), so that no download is needed.
    The rows are shuffled once, the same way every time.

    Raises:
      ImportError: scikit-learn is not installed (``pip install 'jaxdeep[datasets]'``).

    >>> train, validation, test = digits()
    >>> train[0].shape, train[1].dtype, len(validation[1]), len(test[1])
    ((1257, 8, 8), dtype('int32'), 270, 270)
    """
    bunch = needed("sklearn.datasets", "digits()", "scikit-learn", "datasets").load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    x = (bunch.images[order] / 16).astype(np.float32)
    y = bunch.target[order].astype(np.int32)
    return Dataset((x[:1257], y[:1257]), (x[1257:1527], y[1257:1527]), (x[1527:], y[1527:]))


def fashion_mnist() -> Dataset:
    """Fashion-MNIST, 28 × 28 pixels, 10 classes: 55,000 training, 5,000 validation, 10,000 test images.

    The four gzipped idx files are taken from the folder that the environment variable
    ``JAXDEEP_DATA`` names (or its subfolder ``fashion-mnist``), else from pooch's cache. Otherwise they
    are downloaded into that cache and checked against their SHA-256. The validation images are the last
    5,000 training images.

    Raises:
      FileNotFoundError: the files are in none of these places and cannot be downloaded.
      ValueError: a file that is damaged or of another format.
      ImportError: pooch is needed and not installed (``pip install 'jaxdeep[datasets]'``).

    Source: Xiao, Rasul & Vollgraf, arXiv:1708.07747 (MIT licence).
    """
    files = {name: _fashion_file(name) for name in _FASHION_SHA256}
    x, y = _fashion_pair(files, "train")
    test = _fashion_pair(files, "t10k")
    if len(x) <= 5_000:
        raise ValueError(f"the training files hold {len(x)} images; more than 5,000 are needed")
    return Dataset((x[:-5_000], y[:-5_000]), (x[-5_000:], y[-5_000:]), test)


def npz(path: str | os.PathLike[str]) -> Dataset:
    """Your own data from a ``.npz`` file of ``numpy.savez``.

    The file holds arrays ``x`` and ``y`` (or ``x_train`` and ``y_train``) and optionally
    ``x_validation`` and ``y_validation`` (or ``x_val`` and ``y_val``), ``x_test`` and ``y_test``.
    Without validation rows a tenth of the training rows is held out, drawn the same way every time.
    Inputs of type uint8 are divided by 255, others are converted to float32. Labels must be integers, of
    shape ``(rows,)`` or ``(rows, 1)``, or one-hot, ``(rows, classes)``, of which the place is taken.

    Args:
      path: the file.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not an npz file, arrays missing or of other lengths, labels that are not integers,
        or arrays of Python objects, which are never unpickled.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/mine.npz", x=np.ones((100, 3)), y=np.zeros(100, int))
    ...     train, validation, test = npz(f"{folder}/mine.npz")
    >>> train[0].shape, len(validation[1]), test is None
    ((90, 3), 10, True)
    """
    _checks.check_local_path("path", path)
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    arrays = _read_npz(path)
    train = _pair(path, arrays, "", "_train")
    if train is None:
        held = ", ".join(arrays) or "nothing"
        raise ValueError(f"{path} must hold arrays x and y, or x_train and y_train; it holds {held}")
    validation = _pair(path, arrays, "_validation", "_val")
    if validation is None:
        x, y = train
        held_out = max(1, len(x) // 10)
        if len(x) < 2:
            raise ValueError(f"{path}: {len(x)} rows are too few to hold out any for validation")
        order = np.random.default_rng(0).permutation(len(x))
        rows, out = np.sort(order[held_out:]), np.sort(order[:held_out])
        train, validation = (x[rows], y[rows]), (x[out], y[out])
    test = _pair(path, arrays, "_test")
    for name, pair in (("validation", validation), ("test", test)):
        if pair is not None and pair[0].shape[1:] != train[0].shape[1:]:
            raise ValueError(
                f"{path}: rows of the {name} inputs have shape {pair[0].shape[1:]}, those of the "
                f"training inputs {train[0].shape[1:]}"
            )
    return Dataset(train, validation, test)


_MOST_CLASSES = 1_000_000


def _fashion_pair(files: Mapping[str, pathlib.Path], part: str) -> Pair:
    x = _read_idx(files[f"{part}-images-idx3-ubyte.gz"])
    y = _read_idx(files[f"{part}-labels-idx1-ubyte.gz"])
    if x.ndim != 3 or y.shape != x.shape[:1]:
        raise ValueError(f"images of shape {x.shape} do not fit labels of shape {y.shape}")
    return _scaled(x), y.astype(np.int32)


def _fashion_file(name: str) -> pathlib.Path:
    places = []
    if os.environ.get("JAXDEEP_DATA"):
        folder = pathlib.Path(os.environ["JAXDEEP_DATA"])
        places = [folder / name, folder / "fashion-mnist" / name]
        for place in places:
            if place.is_file():
                return place
    pooch = needed("pooch", "fashion_mnist() without JAXDEEP_DATA", "pooch", "datasets")
    cache = pathlib.Path(pooch.os_cache("jaxdeep")) / "fashion-mnist"
    try:
        pooch.get_logger().setLevel("WARNING")
        downloaded = pooch.retrieve(_FASHION_URL + name, f"sha256:{_FASHION_SHA256[name]}", name, cache)
    except Exception as error:  # the network, a proxy and the file system raise errors of many types
        looked = ", ".join(str(place) for place in [*places, cache / name])
        raise FileNotFoundError(
            f"Fashion-MNIST: {name} is not at hand (looked at {looked}) and could not be downloaded "
            f"({type(error).__name__}). Put the four files {', '.join(_FASHION_SHA256)} into a folder "
            "and name it in the environment variable JAXDEEP_DATA"
        ) from None  # the chained errors are a hundred lines that say the same
    return pathlib.Path(downloaded)


def _read_idx(path: pathlib.Path) -> np.ndarray:
    try:
        with gzip.open(path) as file:
            raw = file.read()
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} is damaged or not a gzip file: {error}") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an idx file of unsigned bytes")
    ndim = raw[3]
    shape = tuple(np.frombuffer(raw, ">u4", ndim, 4).tolist()) if len(raw) >= 4 + 4 * ndim else ()
    body = np.frombuffer(raw, np.uint8, -1, min(len(raw), 4 + 4 * ndim))
    if body.size != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path} is damaged: {body.size} values for the shape {shape}")
    return body.reshape(shape)


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # damaged archives, headers and objects raise errors of many types
        raise ValueError(f"{path} is not an .npz file of plain arrays (numpy.savez): {error}") from error


def _pair(path: pathlib.Path, arrays: Mapping[str, np.ndarray], *suffixes: str) -> Pair | None:
    for suffix in suffixes:
        names = (f"x{suffix}", f"y{suffix}")
        present = [name for name in names if name in arrays]
        if len(present) == 1:
            raise ValueError(f"{path} holds {present[0]} without its {'yx'[present[0][0] == 'y']}")
        if not present:
            continue
        x, y = (arrays[name] for name in names)
        given, y = y.shape, _as_classes(y)
        if x.ndim < 2 or y.shape != x.shape[:1] or not x.size:
            raise ValueError(
                f"{path}: {names[0]} must be (rows, …) and {names[1]} (rows,), (rows, 1) or one-hot, "
                f"with at least one row; got {x.shape} and {given}"
            )
        if x.dtype.kind not in "biuf" or y.dtype.kind not in "iu":
            raise ValueError(
                f"{path}: {names[0]} must hold numbers and {names[1]} integer classes, got "
                f"{x.dtype} and {y.dtype}"
            )
        if y.min() < 0:
            raise ValueError(f"{path}: classes in {names[1]} must not be negative, got {y.min()}")
        if y.max() >= _MOST_CLASSES:
            raise ValueError(
                f"{path}: classes in {names[1]} must be numbered from 0 and below {_MOST_CLASSES:,}, "
                f"got {y.max()}"
            )
        return _scaled(x) if x.dtype == np.uint8 else x.astype(np.float32), y.astype(np.int32)
    return None


def _as_classes(y: np.ndarray) -> np.ndarray:
    """Labels of shape ``(rows, 1)``, and one-hot ones, as one whole number a row; others as they are."""
    if y.ndim != 2 or y.dtype.kind not in "biuf":
        return y
    if y.shape[1] == 1:
        return y[:, 0]
    is_one_hot = ((y == 0) | (y == 1)).all() and ((y == 1).sum(axis=1) == 1).all()
    return np.argmax(y, axis=1) if is_one_hot else y


def _scaled(pixels: np.ndarray) -> np.ndarray:
    return np.divide(pixels, np.float32(255), dtype=np.float32)


def load(name: str) -> Dataset:
    """A data set by its name on the command line: ``digits``, ``fashion-mnist`` or a ``.npz`` file.

    Raises:
      ValueError: another name.

    >>> len(load("digits").train[1])
    1257
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be the name of a data set, got {name!r}")
    named = {"digits": digits, "fashion-mnist": fashion_mnist}
    if name in named:
        return named[name]()
    if name.endswith(".npz"):
        return npz(name)
    raise ValueError(f"name must be {', '.join(named)} or a file ending in .npz, got {name!r}")
