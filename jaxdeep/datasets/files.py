"""Data sets in files: ``.npz`` of NumPy."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np

from jaxdeep import _checks
from jaxdeep.datasets.dataset import Dataset, Pair, scaled

_MOST_CLASSES = 1_000_000


def npz(path: str | os.PathLike[str], *, classes: bool = True) -> Dataset:
    """Your own data from a ``.npz`` file of ``numpy.savez``.

    The file holds arrays ``x`` and ``y`` (or ``x_train`` and ``y_train``) and optionally
    ``x_validation`` and ``y_validation`` (or ``x_val`` and ``y_val``), ``x_test`` and ``y_test``.
    Without validation rows a tenth of the training rows is held out, drawn the same way every time.
    Inputs of type uint8 are divided by 255, others are converted to float32. Labels must be integers, or
    0 and 1 of any type, of shape ``(rows,)`` or ``(rows, 1)``, or one-hot, ``(rows, classes)``, of which
    the place is taken.

    Args:
      path: the file; "~" is the home directory.
      classes: False takes y as it is, numbers of any kind, ``(rows,)`` or ``(rows, outputs)``: the
        targets of a regression, or 0 and 1 of several labels. Floats become float32.

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
    path = _checks.local_path("path", path)
    _checks.check_flag("classes", classes)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    arrays = _read_npz(path)
    train = _pair(path, arrays, classes, "", "_train")
    if train is None:
        held = ", ".join(arrays) or "nothing"
        raise ValueError(f"{path} must hold arrays x and y, or x_train and y_train; it holds {held}")
    validation = _pair(path, arrays, classes, "_validation", "_val")
    if validation is None:
        x, y = train
        held_out = max(1, len(x) // 10)
        if len(x) < 2:
            raise ValueError(f"{path}: {len(x)} rows are too few to hold out any for validation")
        order = np.random.default_rng(0).permutation(len(x))
        rows, out = np.sort(order[held_out:]), np.sort(order[:held_out])
        train, validation = (x[rows], y[rows]), (x[out], y[out])
    test = _pair(path, arrays, classes, "_test")
    for name, pair in (("validation", validation), ("test", test)):
        if pair is not None and pair[0].shape[1:] != train[0].shape[1:]:
            raise ValueError(
                f"{path}: rows of the {name} inputs have shape {pair[0].shape[1:]}, those of the "
                f"training inputs {train[0].shape[1:]}"
            )
    return Dataset(train, validation, test)


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # damaged archives, headers and objects raise errors of many types
        raise ValueError(f"{path} is not an .npz file of plain arrays (numpy.savez): {error}") from error


def _pair(
    path: pathlib.Path, arrays: Mapping[str, np.ndarray], classes: bool, *suffixes: str
) -> Pair | None:
    for suffix in suffixes:
        names = (f"x{suffix}", f"y{suffix}")
        present = [name for name in names if name in arrays]
        if len(present) == 1:
            raise ValueError(f"{path} holds {present[0]} without its {'yx'[present[0][0] == 'y']}")
        if not present:
            continue
        x, y = (arrays[name] for name in names)
        if not classes:
            return _inputs(path, names, x), _numbers(path, names, y, len(x))
        y_shape, y = y.shape, _as_classes(y)
        if y.dtype.kind == "b" or (y.dtype.kind == "f" and ((y == 0) | (y == 1)).all()):
            y = y.astype(np.int32)
        if x.ndim < 2 or y.shape != x.shape[:1] or not x.size:
            raise ValueError(
                f"{path}: {names[0]} must be (rows, …) and {names[1]} (rows,), (rows, 1) or one-hot, "
                f"with at least one row; got {x.shape} and {y_shape}"
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
        return _as_floats(x), y.astype(np.int32)
    return None


def _inputs(path: pathlib.Path, names: tuple[str, str], x: np.ndarray) -> np.ndarray:
    if x.ndim < 2 or not x.size or x.dtype.kind not in "biuf":
        raise ValueError(
            f"{path}: {names[0]} must be numbers, (rows, …), with at least one row; got {x.dtype} of "
            f"shape {x.shape}"
        )
    return _as_floats(x)


def _numbers(path: pathlib.Path, names: tuple[str, str], y: np.ndarray, rows: int) -> np.ndarray:
    """Targets of any kind, ``(rows,)`` for a single output."""
    if y.ndim not in (1, 2) or len(y) != rows or not y.size or y.dtype.kind not in "biuf":
        raise ValueError(
            f"{path}: {names[1]} must be numbers, (rows,) or (rows, outputs), of the {rows} rows of "
            f"{names[0]}; got {y.dtype} of shape {y.shape}"
        )
    y = y.astype(np.float32 if y.dtype.kind == "f" else np.int32)
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def _as_floats(x: np.ndarray) -> np.ndarray:
    return scaled(x) if x.dtype == np.uint8 else x.astype(np.float32)


def _as_classes(y: np.ndarray) -> np.ndarray:
    """Labels of shape ``(rows, 1)``, and one-hot ones, as one whole number a row; others as they are."""
    if y.ndim != 2 or y.dtype.kind not in "biuf":
        return y
    if y.shape[1] == 1:
        return y[:, 0]
    is_one_hot = ((y == 0) | (y == 1)).all() and ((y == 1).sum(axis=1) == 1).all()
    return np.argmax(y, axis=1) if is_one_hot else y
