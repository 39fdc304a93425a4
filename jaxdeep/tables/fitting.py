"""Fitting a table: two passes over its rows, one for the kinds of columns and one for their values."""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._quoted import listed, quoted
from jaxdeep._shapes import ArrayLike
from jaxdeep._warning import warn
from jaxdeep.tables.cells import NULLS, Cells
from jaxdeep.tables.columns import Columns
from jaxdeep.tables.gathering import Gathered, as_numbers, as_other, as_unread, check_read
from jaxdeep.tables.kinds import Kind, Seen, check_declared, decided
from jaxdeep.tables.sources import BLOCK, Source, kept, nearest, numbered, source_of
from jaxdeep.tables.target_means import check_means, with_means
from jaxdeep.tables.targets import Target, as_id, fitted_target, of_rows


def fit(
    frame: Any,
    target: str | None = None,
    *,
    kinds: Mapping[str, str] | None = None,
    null: Sequence[str] = NULLS,
    min_frequency: int = 1,
    unknown: str = "code",
    missing_columns: str = "error",
    standardize_target: bool | str = False,
    target_encoding: Sequence[str] = (),
    rows: ArrayLike | Callable[[np.ndarray], ArrayLike] | None = None,
) -> Columns:
    """Find out what the columns of a table are: the kind of each, its levels, its statistics.

    What is found is fixed from then on: `Columns.encode` and `Columns.encode_inputs` make inputs of the
    same width of any other rows, `Columns.layer` is the first layer of a network for them.

    * **number**: numbers, also as text ("3.5"), unless a text begins with a zero that it would lose.
    * **boolean**: True and False, also as text ("true"). 0 and 1 are numbers, unless they are declared;
      later rows may have either.
    * **date**: dates and times of any unit, and text in the form of ISO 8601 ("2026-11-29 08:30"). In
      UTC if they name a time zone, microseconds at the finest, rounded down. It becomes days since
      1970, and sine and cosine of the place in the year, the week and, if any has a time, the day.
    * **category**: other text, and what a frame says is categorical; bytes are the text that they are
      in UTF-8. The key of a value is its text: 3, 3.0 and "3" are one level, and so is a text that is
      written as Python and libraries write the number, "3.0"; "03", "3.00" and "1e400" are others (in a
      file of numbers alone "3.00" is 3). Blanks around it do not count; whole numbers keep all digits.
      Where the levels are True and False, later rows may have each form that a boolean may. Levels are
      sorted, numbers by size and text by its characters, and taken from the values, whatever levels a
      frame declares.

    Missing are None, NaN, NaT, NA, null, and the texts `null`; if one of these spells a number ("-999"),
    so is every number equal to it, in any container and in later rows. Infinite numbers, text in a
    column of numbers, and levels that were not there are *unknown*, which is another thing: its own
    code, and NaN for a number. A column in which all is missing is a number that is constant.

    Args:
      frame: a frame of pandas, polars or pyarrow; a dict of columns (lists, arrays, series); the path of
        a CSV or Parquet file, which is read in blocks of 16,384 rows, and twice, unless its cells fit
        into 128 MiB (two million, if texts are short): memory is that of a block, or of these, of the
        levels, and of 262,144 numbers of each column. Quartiles and medians are those of all rows
        up to that many, and of as many random rows of a longer table, the same for every container.
      target: the column to be predicted, which is not among the inputs. Text, booleans, and whole
        numbers of which there are at most ten are classes, other numbers a regression. Labels that are
        numbers are Python's, whole ones without a point: of the texts of a file, too, "1.0" is 1 and
        "true" is True. Others are the texts that they are, so that "10.10" is another than "10.1"; the
        text "1.0" is "1" where all are numbers, or "1" is there, too.
      kinds: for some columns by name, "number", "category", "boolean", "date" or "drop" in place of what
        would be found. For the target "category" says classes, "boolean" the classes False
        and True, of which 0 and 1 are some, too, and "number" a regression.
      null: texts that stand for a missing cell.
      min_frequency: a level with fewer rows is left out, so that its cells are unknown and the network
        learns what to make of unknown ones.
      unknown: "code" counts an unknown value; "error" refuses it when rows are encoded.
      missing_columns: "error" refuses rows without one of the columns; "impute" takes all its cells as
        missing.
      standardize_target: encode the target of a regression as ``(y − mean) / std``. The network is
        trained, and judged by `jaxdeep.evaluate`, in standard deviations; of a network with one output
        `jaxdeep.predict` gives numbers in the unit of the table, as ``columns.values`` makes them of
        those of another. "auto" does so where float32 cannot hold the numbers or tell them apart, which
        is refused with False; the numbers are those of `rows`. True is for a regression only.
      target_encoding: categories that `Columns.layer` makes numbers of by the target: its mean over the
        rows of each level (of each class its share), mixed with ten rows of the mean of all, less that
        mean and in standard deviations; missing and unknown are levels, too. While the network is
        trained (``train=True``), each row has the means of rows in four other fifths of the table, so
        that it does not see its own target. Name the training rows in `rows`: others would have
        seen theirs, so that `jaxdeep.fit` refuses to hold out a share of the rows (``validation=0.2``).
      rows: the numbers of those whose values are looked at, such as the training rows, so that levels
        and statistics know nothing of the others; or a function that gives them for the targets of all
        rows, as `Columns.encode` makes them. By default all. Kinds of columns and classes of the target
        are always those of all rows, so that all rows can be encoded.

    Returns:
      `Columns`, whose `summary()` says what was found.

    Raises:
      ValueError: a column of several kinds, of long text or of more than 131,072 levels, all of them
        at once and with what to declare; one without a cell of the kind that is declared; dates of which
        some name a time zone; a target that is missing in a row, has one class or one value, numbers
        with a decimal comma or written in another way that is not plain ("$1,234.50", "5 %"), or such as
        float32 does not hold; standardize_target=True without a target of numbers; a table without rows
        or columns; a broken file, with the line; target encoding of numbers, without a target, of too
        many levels, or of rows that are all alike.
      TypeError: something else than a table; cells that are no numbers, text, booleans or dates.

    Warns where a category looks like an id, as nearly each row has a level of its own, or holds numbers
    that are not written plainly, some text among many numbers, or dates in another form than ISO 8601;
    where a target does that nobody declared; and where more than a tenth of a column, and ten cells, are
    not of its kind.

    Target encoding is Micci-Barreca's (2001), as of `jaxdeep.preprocessing.target_encoder`.

    Source: kinds and the readable report after skrub's `TableVectorizer`; two slots for missing and
    unknown after Keras' `FeatureSpace`; statistics in float64.

    >>> people = {"age": [31, None, 58], "city": ["Rome", "Oslo", None], "y": ["no", "yes", "no"]}
    >>> columns = fit(people, target="y")
    >>> inputs, targets = columns.encode({"age": [40], "city": ["Bonn"], "y": ["yes"]})
    >>> inputs["numbers"].tolist(), inputs["codes"].tolist(), targets.tolist()
    ([[-4.5]], [[1]], [1])
    >>> print(columns.summary())
    3 rows; target 'y': 2 classes, no (67 %), yes (33 %)
    <BLANKLINE>
    column  kind      levels  missing  unknown  becomes
    age     number         -     33 %        -  scaled, and missing: 2
    city    category       2     33 %        -  −1 or 1, and missing: 2
    <BLANKLINE>
    4 inputs, 48 bytes for these rows
    """
    nulls = _nulls(null)
    min_frequency = _checks.check_count("min_frequency", min_frequency)
    _checks.check_choice("unknown", unknown, ("code", "error"))
    _checks.check_choice("missing_columns", missing_columns, ("error", "impute"))
    if not isinstance(standardize_target, (bool, np.bool_)) and not (
        isinstance(standardize_target, str) and standardize_target == "auto"
    ):
        raise TypeError(
            f"standardize_target must be True, False or 'auto', got {quoted(standardize_target)}"
        )
    if target is None and standardize_target and standardize_target != "auto":
        raise ValueError("standardize_target=True needs a target, and none is named: target=")
    source = kept(source_of(frame, nulls))
    names = source.names
    declared = check_declared({} if kinds is None else kinds, names)
    if target is not None:
        _check_target(target, names)
    used = [name for name in names if declared.get(name) != "drop" or name == target]
    features = [name for name in used if name != target]
    if not features:
        raise ValueError("frame must have a column for the inputs, got none besides what is left out")
    seen, labels, length = _seen(source, used, target)
    if not length:
        raise ValueError("frame must have a row, got none")
    known_target = None
    if target is not None:
        known_target = fitted_target(
            target, seen[target], labels, declared.get(target), standardize_target
        )
        if target not in declared and (said := as_id(known_target)) is not None:
            warn(f"target {quoted(target)} {said}")
    looked_at = None
    if rows is not None:
        looked_at = _looked_at(rows, known_target, labels, length)
    if known_target is not None:
        known_target = of_rows(known_target, labels, looked_at, standardize_target)
    chosen = _decided(features, seen, declared)
    gathered = {name: Gathered(name, kind) for name, kind in chosen.items()}
    for first, block in numbered(source.blocks(features, BLOCK)):
        for name, cells in block.items():
            here = slice(None) if looked_at is None else looked_at[first : first + cells.rows]
            gathered[name].add(np.arange(first, first + cells.rows)[here], cells.where(here))
    fitted = tuple(statistics.column(min_frequency) for statistics in gathered.values())
    for column in fitted:
        if declared.get(column.name) == column.kind:
            check_read(column)
        doubtful = as_numbers(column) if column.name not in declared else None
        if note := doubtful or as_other(column) or as_unread(column):
            warn(f"column {quoted(column.name)} {note}")
    length = length if looked_at is None else int(looked_at.sum())
    check_means(target_encoding, fitted, known_target)
    columns = Columns(fitted, known_target, length, tuple(null), unknown, missing_columns)
    if not target_encoding:
        return columns
    encoded = with_means(columns, source, target_encoding, looked_at)
    return dataclasses.replace(columns, features=encoded)


def _nulls(null: object) -> Collection[str]:
    if isinstance(null, str) or not isinstance(null, Collection):
        raise TypeError(f"null must be a list of texts, got {quoted(null)}")
    odd = [text for text in null if not isinstance(text, str)]
    if odd:
        raise TypeError(f"null must be a list of texts, got {quoted(odd[0])} in it")
    return {text.strip() for text in null}


def _check_target(target: object, names: Sequence[str]) -> None:
    if not isinstance(target, str):
        raise TypeError(f"target must be the name of a column, got {quoted(target)}")
    if target not in names:
        near = nearest(target, names)
        hint = f"; {quoted(near[0])} is one" if near else ""
        raise ValueError(
            f"target={quoted(target)} is no column of the frame{hint}; it has [{listed(names)}]"
        )


def _seen(
    source: Source, names: Sequence[str], target: str | None
) -> tuple[dict[str, Seen], list[Cells], int]:
    """The first pass: what there is in each column, the cells of the target, the number of rows."""
    seen = {name: Seen() for name in names}
    labels: list[Cells] = []
    rows = 0
    for first, block in numbered(source.blocks(names, BLOCK)):
        for name, cells in block.items():
            seen[name].add(name, first, cells)
            if name == target:
                labels.append(cells)
        rows = first + next(iter(block.values())).rows
    return seen, labels, rows


def _looked_at(rows: Any, target: Target | None, labels: list[Cells], length: int) -> np.ndarray:
    """Whether each row is among those whose values are looked at."""
    if callable(rows):
        if target is None:
            raise ValueError("rows is a function of the targets, and there is no target; give numbers")
        rows = rows(np.concatenate([target.encode(cells) for cells in labels]))
    if not np.size(rows):
        raise ValueError("rows must name a row, got none")
    numbers = np.asarray(as_array("rows", rows))
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
        raise TypeError(
            f"rows must be numbers of rows, whole and in one axis, got {numbers.dtype} of shape "
            f"{numbers.shape}"
        )
    odd = numbers[(numbers < 0) | (numbers >= length)]
    if odd.size:
        raise ValueError(f"rows must be in [0, {length}), the rows of the frame, got {odd[0]}")
    times = np.bincount(numbers, minlength=length)
    if times.max() > 1:
        row = int(times.argmax())
        raise ValueError(f"rows must name each row once, got {row} {times[row]} times")
    mask = times > 0
    return mask


def _decided(
    names: Sequence[str], seen: Mapping[str, Seen], declared: Mapping[str, str]
) -> dict[str, Kind]:
    """The kind of each column; all that have none are named at once."""
    chosen: dict[str, Kind] = {}
    faults = []
    for name in names:
        try:
            chosen[name] = declared.get(name) or decided(name, seen[name])  # type: ignore[assignment]
        except ValueError as error:
            faults.append((name, str(error)))
    if faults:
        example = ", ".join(f"{quoted(name)}: {_proposed(fault)}" for name, fault in faults)
        raise ValueError("; ".join(fault for _, fault in faults) + f" (kinds={{{example}}})")
    return chosen


def _proposed(fault: str) -> str:
    """The first of the kinds that the error of a column says to declare."""
    match = re.search(r'declare it: ("\w+")', fault)
    return match[1] if match else '"drop"'
