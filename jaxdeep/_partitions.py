"""Partitions of the rows of a data set: at random, by classes, by groups, by time or by identity.

What a partition goes by are whole numbers from 0, one a row (`codes_of`). A part is the array of its row
numbers, in ascending order.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from jaxdeep._arrays import check_not_masked
from jaxdeep._shapes import Float, Integer

Rows: TypeAlias = Integer[np.ndarray, "rows"]
Codes: TypeAlias = Integer[np.ndarray, "rows"]
Targets: TypeAlias = Sequence[float] | Float[np.ndarray, "parts"]  # rows that are due


# --- labels, times and identities ---------------------------------------------------------------------


def codes_of(name: str, labels: Any, rows: int, *, noun: str = "label") -> Codes:
    """Labels of any kind, one a row, as whole numbers from 0 in the order of the labels.

    Raises:
      ValueError: another number of them, or a missing one.
      TypeError: labels of several kinds, which have no order, and masked ones.

    >>> codes_of("stratify", ["b", "a", "b"], 3).tolist()
    [1, 0, 1]
    """
    array = column_of(name, labels, rows, noun=noun)
    try:
        return np.unique(array, return_inverse=True)[1].reshape(-1)
    except TypeError as error:
        raise TypeError(f"{name} must be {_plural(noun)} of one kind, one a row: {error}") from None


def _plural(noun: str) -> str:
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"


def column_of(name: str, values: Any, rows: int, *, noun: str = "label") -> np.ndarray:
    """Values of any kind, one a row and none of them missing, as an array of one axis."""
    check_not_masked(name, values)
    try:
        array = np.asarray(values)
        if array.dtype.kind in "US" and isinstance(values, (list, tuple)):
            kinds = {str if isinstance(value, str) else type(value) for value in values}
            if len(kinds) > 1:  # NumPy would write the numbers out
                array = np.array(values, object)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be {_plural(noun)} of one kind, one a row: {error}") from None
    array = array[:, 0] if array.shape == (rows, 1) else array
    if array.shape != (rows,):
        raise ValueError(f"{name} must be one {noun} a row, {rows} in all, got shape {array.shape}")
    missing = missing_of(array)
    if missing.any():
        row = int(np.argmax(missing))
        if array.dtype.kind == "O" and not missing.all():
            raise TypeError(
                f"{name} must be {_plural(noun)} of one kind, one a row: row {row} is missing, "
                f"{array[row]!r}"
            )
        raise ValueError(f"{name} must be {_plural(noun)}, got {array[row]} in row {row}")
    return array


def missing_of(array: np.ndarray) -> np.ndarray:
    """Which values are NaN, NaT, None or pandas' NA.

    >>> missing_of(np.array([1.0, np.nan])).tolist(), missing_of(np.array([None, "a"])).tolist()
    ([False, True], [True, False])
    """
    if array.dtype.kind in "Mm":
        return np.isnat(array)
    if array.dtype.kind == "f":
        return np.isnan(array)
    if array.dtype.kind != "O":
        return np.zeros(array.shape, bool)
    return np.array([_is_missing(value) for value in array.ravel()], bool).reshape(array.shape)


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def places_of(name: str, ids: Any, rows: int, seed: int) -> Float[np.ndarray, "rows"]:
    """A number in [0, 1) for each row that depends on its identity and the seed alone.

    An identity is a whole number or a text, and a number is the same as its digits.

    >>> a, b, c = places_of("identity", ["7", "x", "7"], 3, seed=0)
    >>> bool(a == c != b), bool(a == places_of("identity", [7.0], 1, seed=0)[0])
    (True, True)
    """
    array = column_of(name, ids, rows, noun="identity")
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (np.floor(array) == array) & (np.abs(array) <= 2**53)
        if not whole.all():
            raise ValueError(f"{name} must be whole numbers or texts, got {array[~whole][0]}")
        array = array.astype(np.int64)
    hashed = hashlib.blake2b(digest_size=8, key=str(seed).encode())
    digests = []
    for value in array.tolist():
        one = hashed.copy()
        one.update(_text_of(name, value))
        digests.append(one.digest())
    # of 64 bits the first 53, which a float holds
    return (np.frombuffer(b"".join(digests), ">u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _text_of(name: str, value: Any) -> bytes:
    """An identity as the bytes of its text."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer, str)):
        raise TypeError(f"{name} must be whole numbers or texts, got {value!r}")
    return str(value).encode()


# --- parts of a number of rows each -------------------------------------------------------------------


def largest_remainder(total: int, shares: Iterable[float], first: Rows | None = None) -> Rows:
    """`total` as whole numbers in these shares: rounded down, and one more for the largest remainders.

    Of equal remainders the one that comes first in the order `first` has precedence.

    >>> largest_remainder(10, [0.25, 0.25, 0.5]).tolist()
    [3, 2, 5]
    """
    weights = np.asarray([*shares], float)
    # nearly whole numbers are meant to be whole: 0.29 · 100 is 28.999…
    exact = np.round(total * weights / weights.sum(), 9)
    counts = np.floor(exact).astype(int)
    order = np.arange(len(counts)) if first is None else first
    order = order[np.argsort(-(exact - counts)[order], kind="stable")]
    counts[order[: total - counts.sum()]] += 1
    return counts


def consecutive(counts: Iterable[int], order: Rows) -> list[Rows]:
    """So many rows each, of all rows in this order."""
    return [np.sort(part) for part in np.split(order, np.cumsum([*counts])[:-1])]


def stratified(counts: Sequence[int], labels: Codes, order: Rows) -> list[Rows]:
    """So many rows each, with the classes in the shares that they have in all rows.

    The rows of a class are taken in this order. The numbers of a part are the largest remainders of what
    is left of each class, the smallest part first.
    """
    by_class = order[np.argsort(labels[order], kind="stable")]
    left = np.bincount(labels)
    ends = np.cumsum(left)
    _, seen = np.unique(labels[order], return_index=True)
    first = np.argsort(seen, kind="stable")  # so that the order decides between equal remainders
    parts: list[Any] = [None] * len(counts)
    for part in np.argsort(counts, kind="stable"):
        taken = largest_remainder(int(counts[part]), left, first)
        begins = ends - left
        parts[part] = np.sort(np.concatenate([by_class[b : b + n] for b, n in zip(begins, taken)]))
        left = left - taken
    return parts


def in_groups(targets: Targets, groups: Codes, order: Rows) -> list[Rows]:
    """About so many rows each, without dividing a group.

    Groups go, in the order in which their rows come, to the part that lacks most rows.
    """
    sizes = np.bincount(groups)
    lacking, parts = np.array(targets, float), np.zeros(len(sizes), int)
    for group in met_in(groups, order):
        parts[group] = np.argmax(lacking)
        lacking[parts[group]] -= sizes[group]
    return rows_of_parts(parts[groups], len(lacking))


def in_stratified_groups(targets: Targets, groups: Codes, labels: Codes, met: Rows) -> list[Rows]:
    """About so many rows each, with about equal shares of classes, without dividing a group.

    Groups are taken by the standard deviation of their numbers of rows in the classes, the largest
    first, and of equal ones in the order `met`. A group goes to the part with which the shares of
    classes vary least between parts, and of those the lightest.
    """
    table = np.zeros((groups.max() + 1, labels.max() + 1))
    np.add.at(table, (groups, labels), 1)
    due = np.asarray(targets, float) / np.mean(targets)
    scale = due[:, None] * table.sum(axis=0)  # of the rows that a part has of a class
    held = np.zeros(scale.shape)
    parts = np.zeros(len(table), int)
    with_group = np.eye(len(due))[:, :, None]
    for group in met[np.argsort(-np.std(table[met], axis=1), kind="stable")]:
        shares = (held + with_group * table[group]) / scale
        spread = shares.std(axis=1).mean(axis=1)
        best = np.isclose(spread, spread.min())
        parts[group] = np.argmin(np.where(best, held.sum(axis=1) / due, np.inf))
        held[parts[group]] += table[group]
    return rows_of_parts(parts[groups], len(due))


def rows_of_parts(parts: Codes, number: int) -> list[Rows]:
    """The rows of each part, of the part of each row."""
    return [np.flatnonzero(parts == part) for part in range(number)]


def met_in(groups: Codes, order: Rows) -> Rows:
    """The groups in the order in which their rows come."""
    met, place = np.unique(groups[order], return_index=True)
    return met[np.argsort(place)]


# --- by time ------------------------------------------------------------------------------------------


def in_time(counts: Sequence[int], times: Codes, gap: int) -> list[Rows]:
    """About so many rows each, one part after another in time, and rows of one time in one part.

    A cut within rows of one time goes to the nearer end of them. The `gap` last rows or more before a
    cut are left out.
    """
    order, ends = _in_order(times)
    cuts = [_nearest(ends, cut) for cut in np.cumsum([*counts])[:-1]]
    stops = [*(_at_most(ends, cut - gap) for cut in cuts), len(times)]
    return [np.sort(order[begin : max(stop, begin)]) for begin, stop in zip([0, *cuts], stops)]


def growing_windows(folds: int, times: Codes, gap: int) -> list[tuple[Rows, Rows]]:
    """Pairs of the rows before a time and ``n // (folds + 1)`` rows from it on, ending with the last."""
    order, ends = _in_order(times)
    n = len(times)
    size = n // (folds + 1)
    begins = [_nearest(ends, n - size * left) for left in range(folds, 0, -1)]
    stops = [*begins[1:], n]
    trained = (_at_most(ends, begin - gap) for begin in begins)
    return [
        (np.sort(order[:last]), np.sort(order[begin:stop]))
        for last, begin, stop in zip(trained, begins, stops)
    ]


def _in_order(times: Codes) -> tuple[Rows, Rows]:
    """The rows by time, and the places between them where a time ends, with 0 and the last."""
    return np.argsort(times, kind="stable"), np.append(0, np.cumsum(np.bincount(times)))


def _nearest(ends: Rows, cut: int) -> int:
    above = int(np.searchsorted(ends, cut))
    low, high = int(ends[max(above - 1, 0)]), int(ends[above])
    return high if high - cut < cut - low else low


def _at_most(ends: Rows, cut: int) -> int:
    return int(ends[np.searchsorted(ends, max(cut, 0), "right") - 1])


# --- folds --------------------------------------------------------------------------------------------


def k_folds(
    folds: int,
    rows: int,
    state: np.random.RandomState | None,
    *,
    labels: Codes | None = None,
    groups: Codes | None = None,
) -> list[Rows]:
    """A partition of the rows into so many folds, as equal as they can be, in their classes too.

    Without labels and groups they are those of scikit-learn's `KFold`, which draws them by the same
    generator. The rows of each class are dealt out in turn, going on where the class before ended. Of
    groups the largest goes into the lightest fold, whatever the generator (`GroupKFold`); with labels
    they are those of `StratifiedGroupKFold`.

    Args:
      folds: how many, at most the number of rows and of groups.
      rows: how many.
      state: draws the order of the rows; without one it is their own.
      labels, groups: of each row.
    """
    if groups is not None and labels is not None:
        number = int(groups.max()) + 1
        met = np.arange(number) if state is None else state.permutation(number)
        return in_stratified_groups(np.ones(folds), groups, labels, met)
    if groups is not None:
        sizes = np.bincount(groups)
        weights, parts = np.zeros(folds), np.zeros(len(sizes), int)
        for group in np.argsort(sizes, kind="stable")[::-1]:
            parts[group] = np.argmin(weights)
            weights[parts[group]] += sizes[group]
        return rows_of_parts(parts[groups], folds)
    order = np.arange(rows) if state is None else state.permutation(rows)
    if labels is None:
        return [np.sort(part) for part in np.array_split(order, folds)]
    order = order[np.argsort(labels[order], kind="stable")]
    return [np.sort(order[fold::folds]) for fold in range(folds)]
