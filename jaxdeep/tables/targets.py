"""The column that is to be predicted: its classes or numbers, as a network takes them and back."""

from typing import Any, NamedTuple

import numpy as np

from jaxdeep._precision import is_cut, lie_apart, not_told
from jaxdeep._quoted import listed, quoted
from jaxdeep.preprocessing.keys import key_of
from jaxdeep.tables.cells import Cells
from jaxdeep.tables.conversion import (
    DIGITS,
    is_endless,
    keys_of,
    number_of,
    numbers_of,
    plain_number,
    text_key,
    text_of_number,
    truths_of,
    whole_of,
)
from jaxdeep.tables.kinds import Seen, decided
from jaxdeep.tables.labels import Label, counts_of, labels_of
from jaxdeep.tables.numerals import oddly_written
from jaxdeep.tables.statistics import Numbers, Whole

_FEW = 10  # distinct whole numbers up to which they are taken for classes
_MOST = 10_000  # classes


class Target(NamedTuple):
    """What is known of the target.

    Attributes:
      name: of the column.
      classes: the labels as they are in the table, in the order of the classes: False before True,
        numbers by size, texts by their characters. None for a regression.
      counts: the number of rows of each class.
      mean, std, low, high: of the numbers of a regression, in float64.
      standardized: whether numbers are encoded as ``(y − mean) / std``.
    """

    name: str
    classes: tuple[Label, ...] | None = None
    counts: tuple[int, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    low: float = 0.0
    high: float = 0.0
    standardized: bool = False

    @property
    def task(self) -> str:
        """What is to be learnt: "binary", "multiclass" or "regression"."""
        if self.classes is None:
            return "regression"
        return "binary" if len(self.classes) == 2 else "multiclass"

    @property
    def outputs(self) -> int:
        """The outputs that a network for it has: one, or one for each of more than two classes."""
        return len(self.classes) if self.classes is not None and len(self.classes) > 2 else 1

    def encode(self, cells: Cells, first: int = 0) -> np.ndarray:
        """Labels as int32 numbers of classes, numbers as float32.

        Raises:
          ValueError: a missing label, one that is no class, no number or one that float32 does not hold,
            with its row and name.
        """
        labels = self.exact(cells, first)
        if self.classes is not None:
            return labels
        with np.errstate(over="ignore"):
            values = (labels - self.mean) / self.std if self.standardized else labels
            held = values.astype(np.float32)
        _refuse(self.name, cells, np.isinf(held), first, "must be numbers that float32 holds")
        return held

    def exact(self, cells: Cells, first: int = 0) -> np.ndarray:
        """As `encode`, but numbers are float64 in the unit of the table."""
        check_there(self.name, cells, first)
        if self.classes is None:
            known = numbers_of(cells)
            _refuse(self.name, cells, known.unknown, first, "must be numbers")
            return known.values
        # of a text, that of the number that it may be
        places = {text_key(str(key_of(label))): place for place, label in enumerate(self.classes)}
        keys, indices = keys_of(cells)
        if isinstance(self.classes[0], bool):
            keys = [_TRUTHS.get(key.lower(), key) for key in keys]
        elif not isinstance(self.classes[0], str):
            keys = list(map(plain_number, keys))
        of_key = np.array([places.get(key, -1) for key in keys], np.int32)
        codes = of_key[indices] if keys else np.zeros(0, np.int32)
        shown = listed(self.classes, 6)
        _refuse(self.name, cells, codes < 0, first, f"must be one of the classes {shown}")
        return codes

    @property
    def of_numbers(self) -> bool:
        """Whether a number can be a label: of a regression, and where classes are numbers or their text.

        >>> [Target("y", classes).of_numbers for classes in (None, (1, 2), ("1", "b"), (False, True))]
        [True, True, True, False]
        """
        texts = [label for label in self.classes or (0,) if not isinstance(label, bool)]
        return any(
            not isinstance(label, str) or text_of_number(label) == text_key(label) for label in texts
        )

    def labels(self, codes: Any) -> np.ndarray:
        """The labels of numbers of classes, in the type that they have in the table.

        In an array of objects, if NumPy has no type that holds all of them as they are.

        >>> Target("y", ("no", "yes")).labels([1, 0])
        array(['yes', 'no'], dtype='<U3')
        >>> Target("y", (-1, 2**63 + 5)).labels([1])
        array([9223372036854775813], dtype=object)
        """
        if self.classes is None:
            raise ValueError(
                f"target {quoted(self.name)} is of numbers and has no classes, nor probabilities of "
                "them: use output=None"
            )
        codes = np.asarray(codes)
        codes = codes.astype(int) if codes.dtype == bool else codes
        odd = codes[(codes < 0) | (codes >= len(self.classes))]
        if odd.size:
            raise ValueError(
                f"target {quoted(self.name)} has {len(self.classes)} classes, numbered from 0, got "
                f"class number {odd[0]}: the last layer must have an output for each and no more"
            )
        labels = np.array(self.classes)
        if labels.tolist() != list(self.classes):
            labels = np.array(self.classes, object)
        return labels[codes]

    def values(self, outputs: Any) -> np.ndarray:
        """Encoded numbers in the unit of the table, in float64.

        >>> Target("y", mean=5.0, std=2.0, standardized=True).values(np.array([0.5]))
        array([6.])
        """
        values = np.asarray(outputs, np.float64)
        return values * self.std + self.mean if self.standardized else values


_TRUTHS = {"true": "True", "false": "False", "1": "True", "0": "False"}


def fitted_target(
    name: str, seen: Seen, blocks: list[Cells], declared: str | None, standardize: bool | str
) -> Target:
    """The target of all blocks of its column.

    Args:
      declared: "number" makes it a regression, "category" or "boolean" classes.
      standardize: whether a regression is; "auto": if float32 needs it.

    Raises:
      ValueError: missing labels, one class or number only, dates, too many classes, numbers that are
        not finite; classes that are to be standardised.
    """
    first = 0
    for cells in blocks:
        check_there(name, cells, first)
        _check_digits(name, cells, first)
        first += cells.rows
    if not first:
        raise ValueError(f"target {quoted(name)} has no rows")
    if declared in (None, "number") and (said := oddly_written(seen.texts)) is not None:
        raise ValueError(
            f"target {quoted(name)} {said}; if they are labels, declare it: "
            f'kinds={{{quoted(name)}: "category"}}'
        )
    kind = decided(name, seen) if declared is None else declared
    if kind in ("date", "drop"):
        raise ValueError(
            f'target {quoted(name)} must be of numbers or classes, not "{kind}"; declare it in kinds='
        )
    if declared is None and kind == "number":
        numbers = np.concatenate([numbers_of(cells).values for cells in blocks])
        whole = np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all()
        # whole numbers beyond 2⁵³ are counted by their digits
        few = whole and len(np.unique(numbers)) <= _FEW and len(counts_of(blocks)) <= _FEW
        kind = "category" if few else "number"
    if kind == "number":
        return _regression(name, blocks, standardize)
    if standardize and standardize != "auto":
        raise ValueError(
            f"standardize_target=True is for a target of numbers, and {quoted(name)} has classes; "
            f'leave it out, or make numbers of it: kinds={{{quoted(name)}: "number"}}'
        )
    if kind == "boolean" and declared == "boolean":
        _check_truths(name, blocks)
    labels, counts = labels_of(seen, blocks, truths=kind == "boolean")
    if len(counts) < 2:
        raise ValueError(
            f"target {quoted(name)} has a single class, {quoted(next(iter(labels.values())))}: there "
            "is nothing to learn; take rows of the others too"
        )
    if len(counts) > _MOST:
        raise ValueError(
            f"target {quoted(name)} has {len(counts):,} classes, more than {_MOST:,}: is it a number? "
            f'kinds={{{quoted(name)}: "number"}}'
        )
    order = sorted(labels, key=lambda key: labels[key])
    return Target(
        name, tuple(labels[key] for key in order), tuple(counts[key] for key in order),
        standardized=False,
    )  # fmt: skip


def as_id(target: Target) -> str | None:
    """What to say of a target in which nearly each row is a class of its own; None of others."""
    many, rows = len(target.counts), sum(target.counts)
    if target.classes is None or many <= _FEW or many <= 0.9 * rows:
        return None
    example = quoted(target.classes[0])
    return (
        f"looks like an id, with {many:,} classes in {rows:,} rows, such as {example}: none can be "
        "learnt from so few rows; if they are numbers, write them plainly, as 12.5"
    )


def of_rows(
    target: Target, blocks: list[Cells], chosen: np.ndarray | None, standardize: bool | str
) -> Target:
    """The target with counts or statistics of some rows, by default of all; its classes stay.

    Raises:
      ValueError: numbers of these rows that float32 does not hold or tell apart, and are not
        standardised.
    """
    if target.classes is not None:
        if chosen is None:
            return target
        codes = np.concatenate([target.encode(cells) for cells in blocks])[chosen]
        return target._replace(counts=tuple(np.bincount(codes, minlength=len(target.classes)).tolist()))
    if chosen is None:
        chosen = np.ones(sum(cells.rows for cells in blocks), bool)
    first, parts = 0, []
    for cells in blocks:
        parts.append(cells.where(chosen[first : first + cells.rows]))
        first += cells.rows
    fitted = _numbers(target.name, parts)
    if standardize != "auto" and standardize:
        return fitted._replace(standardized=True)
    values = np.concatenate([numbers_of(part).values for part in parts])
    lost = _lost(fitted, values, np.flatnonzero(chosen))
    if lost is not None and standardize != "auto":
        raise ValueError(f"target {quoted(target.name)} {lost}")
    return fitted._replace(standardized=lost is not None)


def check_there(name: str, cells: Cells, first: int) -> None:
    """Refuse a target with holes, by the first row."""
    if cells.missing.any():
        row, more = first + int(cells.missing.argmax()), int(cells.missing.sum()) - 1
        others = f" and in {more:,} more" if more else ""
        raise ValueError(
            f"target {quoted(name)} is missing in row {row}{others}; leave rows without it out"
        )


def _check_truths(name: str, blocks: list[Cells]) -> None:
    """Refuse what is neither True nor False, of a target that is said to be so."""
    first = 0
    for cells in blocks:
        demand = 'must be True or False (or 1 and 0), as it is declared a "boolean"'
        _refuse(name, cells, truths_of(cells).unknown, first, demand)
        first += cells.rows


def _check_digits(name: str, cells: Cells, first: int) -> None:
    """Refuse numbers that cannot be written down, by the first row."""
    if cells.values.dtype != object:
        return
    for row, value in enumerate(cells.values):
        long = cells.untyped and isinstance(value, str) and len(value) > DIGITS
        if (long and number_of(value) is not None) or is_endless(value):
            raise ValueError(
                f"target {quoted(name)} holds a number of more than {DIGITS:,} digits in row "
                f"{first + row}; use another unit, or leave such rows out"
            )


def _numbers(name: str, blocks: list[Cells]) -> Target:
    statistics, first = Numbers(), 0
    for cells in blocks:
        known = numbers_of(cells)
        _refuse(name, cells, known.unknown, first, "must be finite numbers")
        statistics.add(np.arange(first, first + cells.rows), known.values)
        first += cells.rows
    number = statistics.found()
    return Target(
        name,
        None,
        (),
        number.mean,
        number.std if number.std > 0 else 1.0,
        number.low,
        number.high,
    )


def _regression(name: str, blocks: list[Cells], standardize: bool | str) -> Target:
    """The target of numbers; refuses equal ones, and such as float64 cannot tell."""
    whole, parts = Whole(), [numbers_of(cells).values for cells in blocks]
    for cells, part in zip(blocks, parts):
        whole.add(whole_of(cells, part))
    whole.check(
        f"target {quoted(name)}", f', or if they are labels, kinds={{{quoted(name)}: "category"}}'
    )
    target = _numbers(name, blocks)
    if target.low == target.high:
        raise ValueError(
            f"target {quoted(name)} has a single value, {target.low:g}: there is nothing to learn; "
            "take rows of others too"
        )
    lost = standardize == "auto" and _lost(target, np.concatenate(parts)) is not None
    return target._replace(standardized=lost or (standardize != "auto" and bool(standardize)))


def _lost(target: Target, values: np.ndarray, rows: np.ndarray | None = None) -> str | None:
    """What float32 does not hold of numbers, or tell apart; None if it does. `rows` are theirs."""
    limits, way_out = np.finfo(np.float32), "use another unit, or standardize_target=True"
    most = int(np.abs(values).argmax())
    if abs(values[most]) > limits.max:
        row = most if rows is None else rows[most]
        return f"holds {values[most]:g} in row {row}, beyond what float32 holds: {way_out}"
    if target.std < limits.tiny:
        std = f"{target.std:g}"
        return f"holds numbers of standard deviation {std}, below what float32 holds: {way_out}"
    if target.low == target.high:  # as those of some rows may be
        return None
    if is_cut(values, np.float32) and not lie_apart(values.min(), values.max(), np.float32):
        said = not_told(target.low, target.high, "", np.float32)
        return f"{said.partition(':')[0]}: use standardize_target=True"
    return None


def _refuse(name: str, cells: Cells, odd: np.ndarray, first: int, demand: str) -> None:
    if odd.any():
        row = int(odd.argmax())
        value = cells.values[row]
        value = value.item() if isinstance(value, np.generic) else value
        raise ValueError(f"target {quoted(name)} {demand}, got {quoted(value)} in row {first + row}")
