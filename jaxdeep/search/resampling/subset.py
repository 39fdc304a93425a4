"""The part of the data that a row of a sweep is trained and evaluated on: a fold, a size, a sample."""

import functools
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from jaxdeep._shapes import Integer, PyTree
from jaxdeep.train.data import check_pair, take
from jaxdeep.train.weights import balanced_by

Place: TypeAlias = jax.Device | jax.sharding.Sharding | None
# A pure function of training and validation data.
Prepare = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]

_MOST = 8  # parts of the data that are held on each device


class Subset(NamedTuple):
    """Rows of the data that a run is trained on, and rows that it is evaluated on.

    Attributes:
      names: what it is in the table, such as ``{"fold": 0}``.
      train: indices of its training rows; all rows by default.
      validate: indices of rows of the training data that are its validation data; by default these are
        the sweep's own.
      seed: the only seed that it is for; all by default.
    """

    names: Mapping[str, Any] = {}
    train: Integer[np.ndarray, "rows"] | None = None
    validate: Integer[np.ndarray, "rows"] | None = None
    seed: int | None = None

    @property
    def sizes(self) -> tuple[int | None, int | None]:
        """The numbers of rows, which decide a program."""
        return tuple(None if rows is None else len(rows) for rows in self.indices)  # type: ignore[return-value]

    @property
    def indices(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The indices of the rows for training and for validation."""
        return self.train, self.validate


WHOLE = Subset()


def check_free(
    points: Sequence[Mapping[str, Any]],
    names: Collection[str],
    what: str = "a column that the table has",
) -> None:
    """Refuse points with a hyperparameter of a name that the table has a column of its own for."""
    for name in names:
        if any(name in point for point in points):
            raise ValueError(
                f"space must not have the name {name!r}, {what}; give the hyperparameter another name"
            )


def part(
    data: PyTree, validation: PyTree, indices: tuple[Any, Any], prepare: Prepare | None = None
) -> tuple[PyTree, PyTree]:
    """The training and validation data of a subset, prepared.

    >>> import jax.numpy as jnp
    >>> train, validate = part(jnp.arange(4.0), None, (jnp.array([0, 2]), jnp.array([1])))
    >>> train.tolist(), validate.tolist()
    ([0.0, 2.0], [1.0])
    """
    train, validate = indices
    chosen = data if train is None else take(data, train)
    held_out = validation if validate is None else take(data, validate)
    return (chosen, held_out) if prepare is None else prepare(chosen, held_out)


class DeviceData:
    """The data of all rows, copied at most once to each place, and their parts.

    Args:
      data, validation: the arrays.
      prepare: what is done with the data of each row, such as scaling fitted to its training rows.
    """

    def __init__(self, data: PyTree, validation: PyTree, prepare: Prepare | None = None) -> None:
        self.arrays, self.prepare = (data, validation), prepare
        self._copies: dict[Place, tuple[PyTree, PyTree]] = {None: self.arrays}
        self._parts: dict[tuple[Place, int], tuple[Subset, tuple[PyTree, PyTree]]] = {}
        self._part = jax.jit(functools.partial(part, prepare=prepare))
        self._lock = threading.Lock()
        self._balanced: dict[int, tuple[Subset, np.ndarray]] = {}

    def balanced(self, subset: Subset) -> np.ndarray:
        """The balanced weights of the classes in the training rows of a subset, all of one length."""
        if id(subset) not in self._balanced:
            train, _ = self.of(subset)
            check_pair(train, "data")
            table = balanced_by(train)
            if subset is not WHOLE:
                longer = len(self.balanced(WHOLE)) - len(table)
                table = np.pad(table, (0, max(longer, 0)), constant_values=1)
            self._balanced[id(subset)] = subset, table
        return self._balanced[id(subset)][1]

    @property
    def is_whole(self) -> bool:
        """Whether data are used as they are if a row has no subset."""
        return self.prepare is None

    def on(self, place: Place) -> tuple[PyTree, PyTree]:
        """The data on a device, or with a sharding; with None, where they were."""
        if place not in self._copies:
            self._copies[place] = jax.device_put(self.arrays, place)
        return self._copies[place]

    def of(self, subset: Subset, place: Place = None) -> tuple[PyTree, PyTree]:
        """The data of a row on a device."""
        if subset is WHOLE and self.is_whole:
            return self.on(place)
        name = place, id(subset)
        with self._lock:  # several threads ask for parts
            if name not in self._parts:
                made = self._part(*self.on(place), subset.indices)
                while len(self._parts) >= _MOST:
                    del self._parts[next(iter(self._parts))]
                # Holds the subset, too, so that its `id` is not given to another.
                self._parts[name] = subset, made
            return self._parts[name][1]
