"""Vocabularies: the categories of each feature, found when fitting, and which of them new values are."""

import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._arrays import as_array, check_not_masked
from jaxdeep._shapes import ArrayLike
from jaxdeep.preprocessing.keys import MISSING, key_of, kind_of, plain, sorted_keys

Categories = ArrayLike | list[Any]  # an array, a frame, or a list of anything that can be a key
UNSEEN, ABSENT = -1, -2  # of a value that is no category, and a missing one where that is no category


class Features(NamedTuple):
    """The columns of an array or a frame, on the host.

    Attributes:
      columns: one array for each, of NumPy's dtypes or of objects.
      names: of a frame's columns, None for arrays.
      single: whether `x` had one axis.
    """

    columns: list[np.ndarray]
    names: tuple[str, ...] | None
    single: bool

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.columns[0]) if self.columns else 0


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The categories of each feature, found when fitting; no array, so static under `jax.jit`.

    Attributes:
      categories: of each feature the values, as they were found first, in order: truths, numbers and
        dates ascending, then texts, and None last if some were missing.
      names: of the features, if they were those of a frame.

    Two are the same if their categories are, 1 and 1.0 but not 1 and True.
    """

    categories: tuple[tuple[Hashable, ...], ...]
    names: tuple[str, ...] | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        same = self.categories == other.categories and self.names == other.names
        return same and self.keys == other.keys

    def __hash__(self) -> int:
        return hash((self.keys, self.names))

    @property
    def keys(self) -> tuple[tuple[Hashable, ...], ...]:
        """The key of each category."""
        return tuple(tuple(map(key_of, values)) for values in self.categories)


class Distinct(NamedTuple):
    """The distinct values of a column by their keys, and which of them each row has."""

    values: dict[Hashable, Any]
    places: np.ndarray


def features_of(x: Any, name: str = "x") -> Features:
    """The columns of an array of one or two axes, a list, a dict of columns, or a frame.

    Taken are pandas', polars' and pyarrow's frames and columns, without loading those packages.

    Raises:
      TypeError: traced and masked arrays, complex numbers, and what is no table.
      ValueError: an array of other than one or two axes; columns of different lengths.

    >>> features_of({"a": [1, None], "b": ["u", "v"]}).names
    ('a', 'b')
    """
    if isinstance(x, jax.core.Tracer):
        raise TypeError(
            f"categories cannot be found in traced data; encode {name} as integers outside of jax.jit"
            f" (the target encoder: give categories=…)"
        )
    names, columns = None, None
    if isinstance(x, Mapping):
        names, columns = list(x), [_column(value, name) for value in x.values()]
    elif hasattr(x, "columns") and hasattr(x, "iloc"):  # each in its own dtype, which is wider for all
        names, columns = list(x.columns), [_column(x.iloc[:, i], name) for i in range(x.shape[1])]
    elif hasattr(x, "get_columns"):  # polars
        names, columns = list(x.columns), [_column(column, name) for column in x.get_columns()]
    elif hasattr(x, "column_names") and hasattr(x, "columns"):  # pyarrow
        names, columns = list(x.column_names), [_column(column, name) for column in x.columns]
    if columns is not None:
        if {column.ndim for column in columns} - {1} or len({len(column) for column in columns}) > 1:
            shapes = ", ".join(str(column.shape) for column in columns)
            raise ValueError(f"the columns of {name} must have one axis of equal length, got {shapes}")
        return Features(columns, tuple(map(str, names or ())), False)
    array = _column(x, name)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must be of shape (n,) or (n, features), got {array.shape}")
    return Features([array] if array.ndim == 1 else list(array.T), None, array.ndim == 1)


def distinct(column: np.ndarray, place: str | None = None) -> Distinct:
    """The distinct values of a column.

    Args:
      column: one axis.
      place: what the column is called: then values of two kinds that have one key, as 1 and "1", are
        refused. None takes them for one.

    >>> found = distinct(np.array(["b", None, "b"], object))
    >>> list(found.values), found.places.tolist()
    (['b', None], [0, 1, 0])
    """
    values: dict[Hashable, Any] = {}
    numbers: dict[Hashable, int] = {}
    if column.dtype != object:
        some, places = np.unique(column, return_inverse=True)
        order = [numbers.setdefault(key_of(value), len(numbers)) for value in some]
        for key, value in zip(map(key_of, some), some):
            values.setdefault(key, plain(value))
        return Distinct(values, np.array(order, np.intp)[places] if order else np.zeros(0, np.intp))
    known: dict[Any, int] = {}
    places = np.empty(len(column), np.intp)
    for row, value in enumerate(column.tolist()):
        try:
            number = known.get((type(value), value))
        except TypeError:
            number = None  # refused by its key
        if number is None:
            try:
                key = key_of(value)
            except TypeError as error:
                raise TypeError(f"{place or 'x'}, row {row}: {error}") from None
            if place is not None and key in values and kind_of(values[key]) != kind_of(value):
                first = int(np.flatnonzero(places[:row] == numbers[key])[0])
                raise ValueError(
                    f"{place} holds {values[key]!r} (row {first}) and {value!r} (row {row}), which "
                    "would be one category: make its values of one kind, all text or all numbers"
                )
            number = numbers.setdefault(key, len(numbers))
            values.setdefault(key, plain(value))
            known[type(value), value] = number
        places[row] = number
    return Distinct(values, places)


def vocabulary_of(features: Features) -> tuple[Vocabulary, list[np.ndarray]]:
    """The categories of features, and in which place each row has one of them."""
    categories, places = [], []
    for j, column in enumerate(features.columns):
        uniques = distinct(column, column_name(features, j))
        order = sorted_keys(uniques.values)
        rank = {key: place for place, key in enumerate(order)}
        ranks = np.array([rank[key] for key in uniques.values], np.int32)
        categories.append(tuple(uniques.values[key] for key in order))
        places.append(ranks[uniques.places] if len(ranks) else np.zeros(0, np.int32))
    return Vocabulary(tuple(categories), features.names), places


def places_in(vocabulary: Vocabulary, features: Features, name: str = "x") -> list[np.ndarray]:
    """Which category each row has, for each feature: `UNSEEN`, or `ABSENT` for what is missing, if none.

    The columns of a frame are found by their names, if the vocabulary is that of a frame.
    """
    places = []
    columns = columns_of(vocabulary.names, len(vocabulary.categories), features, name)
    for column, keys in zip(columns, vocabulary.keys):
        rank = {key: place for place, key in enumerate(keys)}
        uniques = distinct(column)
        ranks = [rank.get(key, ABSENT if key is MISSING else UNSEEN) for key in uniques.values]
        places.append(np.array(ranks, np.int32)[uniques.places] if ranks else np.zeros(0, np.int32))
    return places


def codes_in(vocabulary: Vocabulary, features: Features, name: str = "x") -> np.ndarray:
    """Whole numbers for what rows have, ``(n, features)``: 0 missing, 1 unknown, 2 the first category.

    >>> vocabulary, _ = vocabulary_of(features_of(["b", "a", None]))
    >>> codes_in(vocabulary, features_of(["a", "b", "c", None])).ravel().tolist()
    [2, 3, 1, 0]
    """
    codes = np.zeros((features.rows, len(vocabulary.categories)), np.int32)
    for j, places in enumerate(places_in(vocabulary, features, name)):
        values = vocabulary.categories[j]
        absent = values.index(MISSING) if values and values[-1] is MISSING else ABSENT
        codes[:, j] = np.where(places == UNSEEN, 1, places + 2)
        codes[(places == ABSENT) | (places == absent), j] = 0
    return codes


def columns_of(
    names: tuple[str, ...] | None, count: int, features: Features, name: str = "x"
) -> list[np.ndarray]:
    """The columns of these names, where both have names; else all of them, which must be so many."""
    if names is not None and features.names is not None:
        lacking = [column for column in names if column not in features.names]
        if lacking:
            raise ValueError(
                f"{name} lacks the columns {', '.join(map(repr, lacking))}; it has "
                f"{', '.join(map(repr, features.names))}"
            )
        by_name = dict(zip(features.names, features.columns))
        return [by_name[column] for column in names]
    if len(features.columns) != count:
        raise ValueError(f"the state is of {count} features, got {len(features.columns)} in {name}")
    return features.columns


def column_name(features: Features, j: int, name: str = "x") -> str:
    """What a message calls a column."""
    if features.names is not None:
        return f"column {features.names[j]!r}"
    return name if features.single else f"{name}[:, {j}]"


def feature_names(vocabulary: Vocabulary, names: Sequence[str] | None) -> list[str]:
    """The names of the features: those given, those of the frame, or ``x0``, ``x1`` and so on."""
    count = len(vocabulary.categories)
    return names_of(names if names is not None else vocabulary.names, count)


def names_of(names: Sequence[str] | None, count: int) -> list[str]:
    """The names given for so many features, or ``x0``, ``x1`` and so on.

    >>> names_of(None, 2), names_of(["age", "size"], 2)
    (['x0', 'x1'], ['age', 'size'])
    """
    if names is None:
        return [f"x{j}" for j in range(count)]
    if isinstance(names, str) or not isinstance(names, (list, tuple)):
        raise TypeError(f"names must be a list of {count} texts, got {names!r}")
    if len(names) != count or not all(isinstance(name, str) for name in names):
        raise ValueError(f"names must be a list of {count} texts, got {names!r}")
    return list(names)


def unique(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each with a number behind it where it would be there twice.

    >>> unique(["a_b", "a_b", "a_b_2"])
    ('a_b', 'a_b_3', 'a_b_2')
    """
    wished = list(names)
    taken, numbered = set(wished), list[str]()
    seen = set[str]()
    for name in wished:
        number, other = 2, name
        while other in seen or (other != name and other in taken):
            other, number = f"{name}_{number}", number + 1
        seen.add(other)
        numbered.append(other)
    return tuple(numbered)


def values_at(categories: Sequence[Any], places: np.ndarray) -> np.ndarray:
    """The categories in these places, None for negative ones; numbers as such if all of them are."""
    table = np.empty(len(categories) + 1, object)
    table[:-1] = categories
    values = table[np.where(places < 0, len(categories), places)]
    for kinds in (bool, int, float):
        if len(values) and all(type(value) is kinds for value in categories) and (places >= 0).all():
            return values.astype(kinds if kinds is not int else _holding(categories))
    return values


def _holding(values: Sequence[int]) -> type:
    """The dtype that holds whole numbers: beyond 64 bits they stay objects."""
    for dtype in (np.int64, np.uint64):
        if np.iinfo(dtype).min <= min(values) and max(values) <= np.iinfo(dtype).max:
            return dtype
    return object


def _column(x: Any, name: str) -> np.ndarray:
    """An array or a column of a frame as one of NumPy, of objects where that would cut it."""
    check_not_masked(name, x)
    top = type(x).__module__.split(".")[0]
    if top == "torch":
        array = np.asarray(as_array(name, x))
    elif top in ("polars", "pyarrow") and _would_be_cut(x):
        items = x.to_list() if top == "polars" else x.to_pylist()
        array = np.array([*items, None], dtype=object)[:-1]
    elif top == "polars":
        array = np.asarray(x.to_numpy())
    elif top == "pandas" and hasattr(x, "dtype") and not isinstance(x.dtype, np.dtype):
        array = np.asarray(x.astype(object).to_numpy())  # as floats, whole numbers with holes are cut
    else:
        has_dtype = hasattr(x, "dtype") or hasattr(x, "__array__")
        array = np.asarray(x) if has_dtype else np.array(x, dtype=object)
    if array.dtype.kind == "V" and jnp.issubdtype(array.dtype, jnp.number):  # bfloat16, int4
        array = array.astype(np.float32)  # which holds all of their numbers
    if array.dtype.kind in "cV":
        raise TypeError(
            f"{name} must hold categories, whole numbers or text, got an array of {array.dtype}"
        )
    if array.dtype == object and array.ndim == 0:
        raise TypeError(f"{name} must be an array, a list or a frame, got {x!r}")
    return array


def _would_be_cut(column: Any) -> bool:
    """Whether NumPy's array of it would be less: floats for whole numbers with holes, no zone."""
    dtype = getattr(column, "dtype", None) or column.type
    zone = getattr(dtype, "time_zone", None) or getattr(dtype, "tz", None)
    nulls = column.null_count
    return zone is not None or bool(nulls() if callable(nulls) else nulls)
