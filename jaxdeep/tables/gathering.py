"""The second pass over a table: levels and statistics of a column whose kind is known."""

import dataclasses

import numpy as np

from jaxdeep._quoted import quoted
from jaxdeep.tables.cells import Cells, check_one_zone
from jaxdeep.tables.column import Column
from jaxdeep.tables.conversion import (
    DIGITS,
    Known,
    file_key,
    instants_of,
    is_endless,
    keys_of,
    number_of,
    numbers_of,
    truths_of,
    whole_of,
)
from jaxdeep.tables.dates import oddly_dated
from jaxdeep.tables.kinds import Kind, check_levels
from jaxdeep.tables.numerals import oddly_written
from jaxdeep.tables.statistics import Dates, Number, Numbers, Whole

TRUTHS = ("False", "True")  # the levels of a boolean column, whatever it holds
_MANY = 10  # cells of another kind from which on there is a warning
_ID = 50  # distinct values from which on a column may be an id


@dataclasses.dataclass
class Gathered:
    """What is gathered of a column, block by block; `untyped` is one of a file of texts."""

    name: str
    kind: Kind
    known: int = 0
    missing: int = 0
    unknown: int = 0
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    numbers: Numbers = dataclasses.field(default_factory=Numbers)
    whole: Whole = dataclasses.field(default_factory=Whole)
    dates: Dates = dataclasses.field(default_factory=Dates)
    aware: set[bool] = dataclasses.field(default_factory=set)
    untyped: bool = False

    def add(self, rows: np.ndarray, cells: Cells) -> None:
        """Add the cells of rows with these numbers."""
        add = {
            "number": self._add_numbers,
            "date": self._add_dates,
            "category": self._add_keys,
            "boolean": lambda rows, cells: truths_of(cells),
        }[self.kind]
        known = add(rows, cells)
        self.untyped |= cells.untyped
        missing = int(cells.missing.sum())
        unknown = 0 if known is None else int(known.unknown.sum())
        self.known += cells.rows - missing - unknown
        self.missing += missing
        self.unknown += unknown

    def column(self, min_frequency: int) -> Column:
        """The column, without levels of fewer rows."""
        levels: tuple[str, ...] = ()
        numbers: tuple[Number, ...] = ()
        known, unknown = self.known, self.unknown
        if self.kind == "boolean":
            levels = TRUTHS
        elif self.kind == "category":
            kept = {key: count for key, count in self._counted().items() if count >= min_frequency}
            known, unknown = sum(kept.values()), known - sum(kept.values())
            levels = tuple(sorted(kept, key=_order))
        else:
            instead = ', or make it a "category" in kinds=, or "drop" it'
            self.whole.check(f"column {quoted(self.name)}", instead)
            numbers = (self.numbers.found(),) if self.kind == "number" else self.dates.found()
        aware = next(iter(self.aware), None)
        column = Column(self.name, self.kind, known, self.missing, unknown, levels, numbers, aware)
        return column._replace(notes=self._notes(column))

    def _counted(self) -> dict[str, int]:
        """The cells of each level. Of a file, 0.5 and 0.50 are one level, if all are numbers."""
        levels = {key: file_key(key) for key in self.counts} if self.untyped else {}
        if not levels or None in levels.values():
            return self.counts
        counts: dict[str, int] = {}
        for key, level in levels.items():
            counts[level or key] = counts.get(level or key, 0) + self.counts[key]
        return counts

    def _add_numbers(self, rows: np.ndarray, cells: Cells) -> Known:
        known = numbers_of(cells)
        self.numbers.add(rows, known.values)
        self.whole.add(whole_of(cells, known.values))
        return known

    def _add_dates(self, rows: np.ndarray, cells: Cells) -> Known:
        known, aware = instants_of(cells, self.name)
        if aware is not None:
            self.aware.add(aware)
            check_one_zone(self.name, self.aware)
        here = ~(known.unknown | cells.missing)
        self.dates.add(rows[here], known.values[here])
        return known

    def _add_keys(self, rows: np.ndarray, cells: Cells) -> None:
        if cells.kind != "text" and cells.values.dtype == object and any(map(is_endless, cells.values)):
            row = rows[[is_endless(value) for value in cells.values]][0]
            raise ValueError(
                f"column {quoted(self.name)} holds a number of more than {DIGITS:,} digits in row "
                f'{row}, which is no level; leave such rows out, or the column: "drop" in kinds='
            )
        keys, indices = keys_of(cells)
        counts = np.bincount(indices[indices >= 0], minlength=len(keys)).tolist()
        for key, count in zip(keys, counts):
            self.counts[key] = self.counts.get(key, 0) + count
        check_levels(self.name, len(self.counts))

    def _notes(self, column: Column) -> tuple[str, ...]:
        """What deserves a look."""
        notes = []
        if not column.known:
            notes.append("has no known value: it is a constant")
        elif note := as_numbers(column) or as_other(column):
            notes.append(note)
        elif column.kind == "category" and len(column.levels) == 1:
            notes.append("has a single level: it says nothing")
        elif column.kind == "number" and column.numbers[0].low == column.numbers[0].high:
            notes.append("is constant: it says nothing")
        elif column.kind == "number" and column.known >= _ID and self.numbers.steps:
            notes.append('counts the rows: if it is an id, "drop" in kinds= leaves it out')
        if column.unknown and column.kind == "category":
            notes.append(f"has {column.unknown:,} cells of levels rarer than min_frequency: unknown")
        elif column.unknown:
            notes.append(_unread(column))
        return tuple(notes)


def as_other(column: Column) -> str | None:
    """What to say of a category of numbers or dates, or with a level for nearly each cell."""
    levels = column.levels
    if (said := oddly_written(levels) or oddly_dated(levels)) is not None:
        return f"{said}; they are taken for levels"
    if len(column.levels) < _ID or len(column.levels) <= 0.9 * column.known:
        return None
    return (
        f'looks like an id, with {len(column.levels):,} levels in {column.known:,} cells: "drop" in '
        "kinds= leaves it out"
    )


def as_numbers(column: Column) -> str | None:
    """What to say of a category nearly all levels of which are numbers; None of others."""
    odd = [level for level in column.levels if number_of(level) is None]
    if len(column.levels) < _ID or not 0 < len(odd) <= 0.1 * len(column.levels):
        return None
    return (
        f"holds numbers, and {quoted(odd[0])}, which is none; they are taken for levels: in kinds= "
        '"number" takes what is none as missing, "category" says that levels are meant; or name '
        "the text in null="
    )


def as_unread(column: Column) -> str | None:
    """What to say of a column many of whose cells are not of its kind; None of others."""
    many = column.unknown >= _MANY and column.unknown > 0.1 * (column.known + column.unknown)
    return _unread(column) if many and column.kind != "category" else None


def check_read(column: Column) -> None:
    """Refuse a column of a declared kind of which no cell is."""
    if column.unknown and not column.known and column.kind != "category":
        form = 'dates are read in the form of ISO 8601, "2024-01-05"; ' if column.kind == "date" else ""
        raise ValueError(
            f"column {quoted(column.name)} is declared a {column.kind}, and none of its "
            f"{column.unknown:,} cells is one; {form}declare another kind in kinds=, or leave it to be "
            "found"
        )


def _unread(column: Column) -> str:
    return f"has {column.unknown:,} cells that are no {column.kind}: they count as missing"


def _order(key: str) -> tuple[bool, float, str]:
    """Numbers by size, then texts."""
    try:
        return False, float(key), key
    except ValueError:
        return True, 0.0, key
