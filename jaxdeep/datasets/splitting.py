"""`split` and `folds`: parts of the rows, at random, by classes, by groups, by time or by identity."""

import datetime
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdeep import _checks, _partitions
from jaxdeep._compilation import check_untraced, meant_transfers
from jaxdeep._partitions import Codes, Rows
from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep._warning import warn
from jaxdeep.datasets.rows import as_rows, column, number_of_rows, taken
from jaxdeep.datasets.sizes import Size, due

Labels = ArrayLike | Sequence[Any] | str  # one a row, or the name of a column


@meant_transfers()
def split(
    data: PyTree,
    sizes: Size | Sequence[Size] = 0.2,
    *,
    stratify: bool | Labels | None = None,
    groups: Labels | None = None,
    time: Labels | None = None,
    gap: int = 0,
    identity: Labels | None = None,
    shuffle: bool = True,
    seed: int = 0,
) -> tuple[PyTree, ...]:
    """Parts of the rows of data, such as those for training, for validation and for a test.

    ``train, validation, test = split(data, (None, 0.1, 0.1), seed=0)``. Every row is in one part, but
    for a `gap`, and rows keep their order. Without further arguments parts are drawn at random. Each of
    these asks for something else:

    * `stratify`: every part has the classes in the shares of the whole, to a row.
    * `groups`: rows of one group, such as a patient, are in one part.
    * both of them: whole groups, and about equal shares of classes.
    * `time`: each part is later than the one before; rows of one time are in one part.
    * `identity`: the part of a row depends on its identity and the seed alone, so that more rows, or
      rows in another order, move no row from one part to another. Sizes are then those of the shares on
      average: of n rows, a share s has s n ± √(s (1 − s) n).

    Args:
      data: any pytree of arrays with a row per example, such as ``(x, y)``; frames and series of pandas,
        polars or pyarrow (by narwhals); lists of values as columns of a dict. The numbers of the rows
        themselves are ``split(np.arange(n), …)``.
      sizes: one for each part: floats are shares of the rows in (0, 1), whole numbers are counts, and
        None, at most once, is the rest. Without None they must add up to all rows. A single one is that
        of the second of two parts: ``0.2`` is ``(None, 0.2)``. Shares become rows by the largest
        remainder: they are rounded down, and rows that are left go to the largest fractions. With
        groups and with time, parts come as near to their sizes as whole groups and whole times allow.
      stratify: labels, one a row: strings or numbers; the name of a column; True for the y of data
        ``(x, y)``. By default classes are not looked at.
      groups: labels, one a row, or the name of a column.
      time: numbers or dates, one a row, or the name of a column. Rows need not be sorted.
      gap: how many rows are left out before each later part, with `time`, so that what is known of one
        part says less of the next; and as many more as are of the same time. No span of time.
      identity: whole numbers or texts, one a row, or the name of a column, such as a customer's number.
        A number and its digits as a text are the same. Rows of one identity are in one part. To split a
        part again, take another `seed`: the same one would draw the same places, all of them in that
        part's share of [0, 1). There is a warning where shares come out as chance would not have them.
      shuffle: draw the parts; with False they are consecutive rows, also of each class.
      seed: of the draw, in [0, 2³²).

    Returns:
      A tuple of parts of the form of `data`. Arrays stay what they are (of a memory map rows are read).

    Raises:
      ValueError: sizes that do not add up, or that leave a part without rows; fewer rows of a class than
        parts; missing labels, times or identities; arguments that exclude each other.
      TypeError: data without rows, arguments of another kind, traced values.
      ImportError: frames need narwhals (``pip install 'jaxdeep[frames]'``).

    Source: scikit-learn's `train_test_split`, `StratifiedShuffleSplit`, which rounds the second part up;
    `GroupShuffleSplit`, whose shares are of groups, not of rows; for time, where scikit-learn lets rows
    of one time be on both sides of a cut, `TimeSeriesSplit`; for identities, Géron, *Hands-On Machine
    Learning*, chapter 2.

    >>> x, y = np.arange(20.0)[:, None], np.repeat([0, 1], [15, 5])
    >>> train, test = split((x, y), 0.2, stratify=True)
    >>> np.bincount(train[1]).tolist(), np.bincount(test[1]).tolist()
    ([12, 4], [3, 1])
    >>> earlier, later = split({"day": [3, 1, 2, 3, 4], "sales": [1, 2, 3, 4, 5]}, 0.4, time="day")
    >>> earlier["day"], later["day"]
    ([1, 2], [3, 3, 4])
    """
    data, rows, by = _read("split", data, stratify, groups, time, gap, identity, shuffle, seed)
    targets, shares = due(sizes, rows)
    if by.places is not None:
        if any(share is None for share in shares):
            raise ValueError(
                f"sizes must be shares with identity, since more rows would move a count; got {sizes!r}"
            )
        ends = np.cumsum(np.asarray(shares, float))
        places = np.minimum(np.searchsorted(ends, by.places, "right"), len(shares) - 1)
        _warn_of_shares(by.places, places, np.asarray(shares, float), seed)
        parts = _partitions.rows_of_parts(places, len(shares))
    elif by.groups is not None:
        state = _state(seed, shuffle)
        number = int(by.groups.max()) + 1
        if number < len(targets):
            raise ValueError(f"groups must be as many as the {len(targets)} parts, got {number}")
        order = np.arange(rows) if state is None else state.permutation(rows)
        if by.labels is None:
            parts = _partitions.in_groups(targets, by.groups, order)
        else:
            met = _partitions.met_in(by.groups, order)
            parts = _partitions.in_stratified_groups(targets, by.groups, by.labels, met)
    else:
        counts = _partitions.largest_remainder(rows, targets).tolist()
        parts = _of_rows(counts, rows, by, gap, _state(seed, shuffle))
    for i, part in enumerate(parts):
        if not len(part):
            raise ValueError(
                f"sizes must leave rows for each part, and part {i} of {len(parts)} would have none of "
                f"{rows} rows: sizes are {sizes!r}"
            )
    return tuple(taken(data, part) for part in parts)


@meant_transfers()
def folds(
    data: PyTree,
    k: int = 5,
    *,
    stratify: bool | Labels | None = None,
    groups: Labels | None = None,
    time: Labels | None = None,
    gap: int = 0,
    identity: Labels | None = None,
    shuffle: bool = True,
    seed: int = 0,
) -> list[tuple[Rows, Rows]]:
    """Numbers of the rows to train on and to test on, k times, as `cross_validate` takes them.

    ``jd.search.cross_validate(…, folds=folds(data, 5, groups="patient"))``. Every row is tested on
    once, and is trained on in the other folds. With `time` it is otherwise: each fold tests on the
    ``n // (k + 1)`` rows that come next, the last fold on the last rows, and trains on all rows before
    them, but for a gap.

    Args:
      data: as for `split`.
      k: folds, ≥ 2.
      stratify: every fold has the classes in the shares of the whole: classes of a fold differ from
        those of another by a row. Each must have a row for each fold.
      groups: no two folds have a row of one group. The largest group goes into the lightest fold, so
        that folds are as equal as can be, whatever the seed. With `stratify`, groups whose classes
        differ most go first, to the fold by which shares of classes vary least.
      time: numbers or dates. Rows of one time are in one part, so that windows may differ by some rows.
      gap: how many rows are left out of the end of each training window, and as many more as are of the
        same time; no span of time.
      identity: the fold of a row depends on its identity and the seed alone, so that more rows move
        none.
      shuffle: with False folds are consecutive rows, or with labels every k-th row of each class.
      seed: of the draw, in [0, 2³²).

    The arguments are further those of `split`.

    Returns:
      A list of pairs ``(train, test)`` of ascending row numbers.

    Raises:
      ValueError: fewer than two folds, more than rows, groups, or rows of a class; too few times; what
        `split` refuses.
      TypeError, ImportError: as for `split`.

    Source: scikit-learn's `KFold` (the same rows for the same seed), `StratifiedKFold`, `GroupKFold`,
    `StratifiedGroupKFold` (which decides ties by rounding) and `TimeSeriesSplit` (the same rows if no
    two have the same time).

    >>> [test.tolist() for _, test in folds(np.arange(6), 3, groups=["a", "a", "b", "c", "b", "c"])]
    [[3, 5], [2, 4], [0, 1]]
    >>> pairs = folds(np.arange(6), 2, time=[1, 2, 3, 4, 5, 6])
    >>> [(train.tolist(), test.tolist()) for train, test in pairs]
    [([0, 1], [2, 3]), ([0, 1, 2, 3], [4, 5])]
    """
    data, rows, by = _read("folds", data, stratify, groups, time, gap, identity, shuffle, seed)
    k = _checks.check_count("k", k, low=2)
    if k > rows:
        raise ValueError(f"k must be at most the number of rows, {rows}, got {k}")
    if by.labels is not None and (least := np.bincount(by.labels).min()) < k:
        raise ValueError(
            f"stratify must have a row of each class for each of {k} folds, got a class of {least}"
        )
    if by.groups is not None and (several := by.groups.max() + 1) < k:
        raise ValueError(f"k must be at most the number of groups, {several}, got {k}")
    if by.times is not None:
        pairs = _partitions.growing_windows(k, by.times, gap)
        for i, (train, test) in enumerate(pairs):
            if not (len(train) and len(test)):
                purpose = "train" if not len(train) else "test"
                times = by.times.max() + 1
                raise ValueError(
                    f"time leaves fold {i} of {k} no rows to {purpose} on: there are {rows} rows of "
                    f"{times} different times, and gap is {gap}; ask for fewer folds"
                )
        return pairs
    if by.places is not None:
        numbers = (by.places * k).astype(int)
        _warn_of_shares(by.places, numbers, np.full(k, 1 / k), seed)
        held = _partitions.rows_of_parts(numbers, k)
        if not all(map(len, held)):
            raise ValueError(f"identity gives one of {k} folds none of {rows} rows; ask for fewer folds")
    else:
        state = _state(seed, shuffle)
        held = _partitions.k_folds(k, rows, state, labels=by.labels, groups=by.groups)
    return [(np.setdiff1d(np.arange(rows), test), test) for test in held]


class _By(NamedTuple):
    """What rows are parted by: numbers of classes, groups and times, and places of identities."""

    labels: Codes | None
    groups: Codes | None
    times: Codes | None
    places: Any


def _read(
    caller: str,
    data: PyTree,
    stratify: bool | Labels | None,
    groups: Labels | None,
    time: Labels | None,
    gap: Any,
    identity: Labels | None,
    shuffle: bool,
    seed: int,
) -> tuple[PyTree, int, _By]:
    """The data, how many rows they have, and what these are parted by."""
    check_untraced(
        *(caller, data, stratify, groups, time, identity),
        does="looks at values on the host",
        instead="jax.random.permutation",
    )
    _checks.check_flag("shuffle", shuffle)
    _checks.check_count("seed", seed, low=0)
    if seed >= 2**32:
        raise ValueError(f"seed must be in [0, 2**32), got {seed}")
    if isinstance(gap, (datetime.timedelta, np.timedelta64)):  # pandas' is one
        raise TypeError(
            f"gap must be a number of rows, got the span of time {gap!r}: count the rows that fall into "
            "it, or give times of a coarser unit"
        )
    _checks.check_count("gap", gap, low=0)
    data = as_rows(data)
    rows = number_of_rows(data)
    if isinstance(stratify, (bool, np.bool_)):
        stratify = _targets_of(data) if stratify else None
    arguments = {"stratify": stratify, "groups": groups, "time": time, "identity": identity}
    _check_together({name for name, value in arguments.items() if value is not None}, gap, shuffle)
    values = {
        name: column(data, name, value) if isinstance(value, str) else value
        for name, value in arguments.items()
    }
    labels, grouped, times = (
        None if values[name] is None else codes(name, values[name], rows)
        for name, codes in (
            ("stratify", _partitions.codes_of),
            ("groups", _partitions.codes_of),
            ("time", _times),
        )
    )
    places = None
    if identity is not None:
        places = _partitions.places_of("identity", values["identity"], rows, seed)
    return data, rows, _By(labels, grouped, times, places)


def _warn_of_shares(places: Any, parts: Codes, shares: np.ndarray, seed: int) -> None:
    """Warn of identities that are not spread over the parts as chance spreads them."""
    _, first = np.unique(places, return_index=True)
    found, due_to_each = np.bincount(parts[first], minlength=len(shares)), len(first) * shares
    far = due_to_each - found - 6 * np.sqrt(due_to_each * (1 - shares))
    if far.max() > 1:
        i = int(np.argmax(far))
        warn(
            f"identity gives part {i} {found[i]:,} of {len(first):,} identities, where {shares[i]:.3g} "
            f"of them were asked for: these rows are probably a part of a split by seed={seed}; take "
            "another seed"
        )


def _check_together(names: set[str], gap: int, shuffle: bool) -> None:
    """Refuse arguments of which each says where a row belongs."""
    if len(names) > 1 and names != {"stratify", "groups"}:
        one, other = sorted(names)[:2] if names >= {"groups", "identity"} else sorted(names)[-2:]
        why = {
            "identity": "rows of one identity are in one part already, and classes have their shares on "
            "average",
            "time": "a part is what happened in a while, whatever it holds",
        }["time" if "time" in names else "identity"]
        raise ValueError(f"{one} and {other} exclude each other: {why}")
    if gap and "time" not in names:
        raise ValueError(f"gap is of rows before a time, and there is no time; got {gap}")
    if not shuffle and "identity" in names:
        raise ValueError("shuffle=False and identity exclude each other: identities are drawn by")


def _targets_of(data: PyTree) -> Any:
    if isinstance(data, (tuple, list)) and len(data) in (2, 3) and not isinstance(data[0], str):
        return data[1]
    raise ValueError(
        "stratify=True needs data (x, y) whose y is one class a row; give labels, one a row, or the "
        "name of a column instead"
    )


def _times(name: str, values: Any, rows: int) -> Codes:
    """Numbers or dates as the places of different times."""
    array = _partitions.column_of(name, values, rows, noun="time")
    texts = array.dtype.kind == "O" and any(isinstance(value, str) for value in array)
    if texts or array.dtype.kind in "USb":
        raise TypeError(
            f"{name} must be numbers or dates, got {array[0]!r}; texts have another order: read them, "
            "for example as np.asarray(…, 'datetime64[s]')"
        )
    return _partitions.codes_of(name, array, rows, noun="time")


def _of_rows(
    counts: list[int], rows: int, by: _By, gap: int, state: np.random.RandomState | None
) -> list[Rows]:
    """Parts of so many rows each, in which rows are single."""
    if by.times is not None:
        return _partitions.in_time(counts, by.times, gap)
    order = np.arange(rows) if state is None else state.permutation(rows)
    if by.labels is None:
        return _partitions.consecutive(counts, order)
    if (least := np.bincount(by.labels).min()) < len(counts):
        raise ValueError(
            f"stratify must have a row of each class for each of {len(counts)} parts, got a class of "
            f"{least}"
        )
    return _partitions.stratified(counts, by.labels, order)


def _state(seed: int, shuffle: bool) -> np.random.RandomState | None:
    # the generator of scikit-learn, so that folds are those of KFold(shuffle=True, random_state=seed)
    return np.random.RandomState(seed) if shuffle else None
