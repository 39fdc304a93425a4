"""Data sets that ship with scikit-learn or are downloaded once."""

import gzip
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from jaxdeep._extras import needed
from jaxdeep.datasets.dataset import Dataset, Pair, scaled

_FASHION_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_FASHION_SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}


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


def _fashion_pair(files: Mapping[str, pathlib.Path], part: str) -> Pair:
    x = _read_idx(files[f"{part}-images-idx3-ubyte.gz"])
    y = _read_idx(files[f"{part}-labels-idx1-ubyte.gz"])
    if x.ndim != 3 or y.shape != x.shape[:1]:
        raise ValueError(f"images of shape {x.shape} do not fit labels of shape {y.shape}")
    return scaled(x), y.astype(np.int32)


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
