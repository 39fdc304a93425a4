"""A share of the rows of the data, held out for validation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._arrays import OnFile, on_file, release
from jaxdeep._shapes import PyTree
from jaxdeep.fitting.loaders import check_no_dataset
from jaxdeep.fitting.sources import is_batches
from jaxdeep.nn import walk
from jaxdeep.nn.model import Model
from jaxdeep.train.data import as_arrays, count_examples, rows_held_out

_HELD_OUT = 0xFFFF_FFFE  # a stream of a key that nothing else uses: steps and phases are int32


def is_share(validation: Any) -> bool:
    """Whether `validation` says how much of the data is to be held out, and is no data itself."""
    return isinstance(validation, (bool, int, float, np.floating, np.integer, np.bool_))


def held_out(
    data: PyTree, share: Any, key: jax.Array, *, stream: bool | None = None
) -> tuple[PyTree, PyTree]:
    """The data without a random share of their rows, and these rows, both in their order.

    Of n rows, ``round(share · n)`` are held out, at least one. Which ones, follows from n and the key.
    Rows of memory maps, and with `stream` those of HDF5 data sets, stay in their file.

    Raises:
      ValueError: a share that is not in (0, 1), batches instead of arrays, fewer than two rows.
      TypeError: a share that is no fraction, such as a whole number.

    >>> data, validation = held_out(np.arange(10), 0.2, jax.random.key(0))
    >>> len(data), len(validation)
    (8, 2)
    """
    if not isinstance(share, (float, np.floating)):
        raise TypeError(f"validation must be data, or a share of the rows in (0, 1), got {share!r}")
    if not 0 < share < 1:
        raise ValueError(f"validation must be data, or a share of the rows in (0, 1), got {share}")
    check_no_dataset("data", data)
    if is_batches(data):
        raise ValueError(
            f"validation={share} is for arrays: data is a loader, whose rows nobody knows beforehand; "
            "give validation= a loader of the rows that are held out"
        )
    data = as_arrays(jax.tree.map(on_file, data) if stream else data)
    rows = count_examples(data)
    if rows < 2:
        raise ValueError(f"validation={share} needs at least two rows, of which one stays, got {rows}")
    bits = jax.random.bits(jax.random.fold_in(key, jnp.uint32(_HELD_OUT)), (rows,), jnp.uint32)
    order = np.argsort(np.asarray(bits), kind="stable")
    many = rows_held_out(rows, float(share))
    parts = np.sort(order[many:]), np.sort(order[:many])
    take = _taker(stream)
    train, validation = (jax.tree.map(lambda a, at=at: take(a, at), data) for at in parts)
    return train, validation


def check_unseen(model: Any, part: str, share: Any = None) -> None:
    """Refuse to hold out rows whose targets a layer of the model was made of.

    Args:
      model: of the run.
      part: the argument that holds rows out, such as "validation", "test" or "folds".
      share: its value; of "folds" their number, or None for other folds.

    Raises:
      ValueError: such a layer, with what to do.
    """
    if not isinstance(model, Model):
        return
    how = f"{part}={'' if share is None else share}"
    if part == "folds":
        instead = (
            "Fit the table without target_encoding=; or, for each pair train, others of "
            "jaxdeep.datasets.folds(numpy.arange(n), 5), fit a table with rows=train, and call "
            "jaxdeep.fit with the data of the others as validation="
        )
    else:
        instead = (
            "Part the rows first, train, others = jaxdeep.datasets.split(numpy.arange(n), (None, "
            f"{share}), seed=0); fit the table with rows=train; and pass the data of the others as "
            f"{part}="
        )
    for place in walk.every(model):
        if place.layer.traits.of_targets:
            raise ValueError(
                f"{how} would hold out rows whose targets the layer {place.name!r} has "
                "seen: it encodes columns by the targets of all rows that the table was fitted to, so "
                f"that these would look better than new ones. {instead}"
            )


class _RowsOnFile(OnFile):
    """Some rows of an array on a file, which are read when they are asked for."""

    def __init__(self, array: np.ndarray | OnFile, rows: np.ndarray) -> None:
        self.dataset, self.shape, self.dtype = array, (len(rows), *array.shape[1:]), array.dtype
        self.ndim, self.rows = array.ndim, rows
        self.nbytes = self.dtype.itemsize * int(np.prod(self.shape))

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.take(np.arange(len(self))[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Rows in any order and as often as they are named."""
        of_all = self.rows[rows]
        if isinstance(self.dataset, OnFile):
            return self.dataset.take(of_all)
        values = np.array(self.dataset[of_all])
        release(self.dataset)
        return values


def _taker(stream: bool | None) -> Callable[[Any, np.ndarray], Any]:
    def take(array: Any, rows: np.ndarray) -> Any:
        is_on_file = isinstance(array, OnFile) or (isinstance(array, np.memmap) and stream is not False)
        return _RowsOnFile(array, rows) if is_on_file else array[rows]

    return take
