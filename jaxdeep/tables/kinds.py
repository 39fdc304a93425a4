"""What kind of column it is, decided once, when a table is fitted, from all of its cells."""

import collections
import dataclasses
import re
from collections.abc import Mapping
from typing import Literal

from jaxdeep import _checks
from jaxdeep._quoted import listed, quoted
from jaxdeep.tables.cells import Cells, check_one_zone, word_of
from jaxdeep.tables.conversion import number_of
from jaxdeep.tables.dates import oddly_dated, read_dates
from jaxdeep.tables.numerals import oddly_written

Kind = Literal["number", "category", "boolean", "date"]
KINDS = ("number", "category", "boolean", "date")
DECLARED = (*KINDS, "drop")

MOST_LEVELS = 2**17
"""Distinct texts that a column may have: 131,072."""
_FEW = 20  # levels of which some may be numbers: "1", "2", "3+"
_WORDS = 3  # a text has so many on average
_LEADING_ZERO = re.compile(r"^\s*[+-]?0\d", re.MULTILINE)  # as postal codes have it: "01234"


@dataclasses.dataclass
class Seen:
    """What has been seen of a column, block by block.

    Attributes:
      present: the number of cells that are not missing.
      examples: of each kind of cell, the row and the value that was seen first.
      categorical: whether the container says that these are categories.
      untyped: whether they come from a file of texts.
      aware: whether dates name a time zone.
      texts: the distinct texts, as long as there are at most `MOST_LEVELS`; `many` if there are more.
      words: how many the texts of all cells have.
      numbers: how many cells are texts that are numbers, and `odd` one that is not.
      zeros, truths, dates: whether a text has leading zeros; all are True or False; all are dates.
    """

    present: int = 0
    examples: dict[str, tuple[int, object]] = dataclasses.field(default_factory=dict)
    categorical: bool = False
    untyped: bool = False
    aware: set[bool] = dataclasses.field(default_factory=set)
    texts: set[str] = dataclasses.field(default_factory=set)
    many: bool = False
    words: int = 0
    numbers: int = 0
    odd: tuple[int, str] | None = None
    zeros: bool = False
    truths: bool = True
    dates: bool = True

    def add(self, name: str, first: int, cells: Cells) -> None:
        """See the cells of a block that begins with row `first`."""
        self.categorical |= cells.categorical
        self.untyped |= cells.untyped
        if cells.kind == "empty":
            return
        present = cells.present()
        self.present += len(present)
        if not len(present):
            return
        if cells.kind == "mixed":
            for row, (value, gone) in enumerate(zip(cells.values, cells.missing)):
                if not gone:
                    self.examples.setdefault(word_of(type(value)), (first + row, value))
            return
        row = int((~cells.missing).argmax())
        self.examples.setdefault(cells.kind, (first + row, cells.values[row]))
        if cells.kind == "date" and cells.aware is not None:
            self.aware.add(cells.aware)
            check_one_zone(name, self.aware)
        if cells.kind == "text":
            self._add_texts(name, first, cells, present.tolist())

    def _add_numbers(self, cells: Cells, present: list[str]) -> None:
        """See texts all of which are numbers: their texts are not kept, unless they lose a zero."""
        self.numbers += len(present)
        self.words += len(present)
        self.truths = self.dates = False
        if not self.zeros:
            self.zeros = _LEADING_ZERO.search("\n".join(present)) is not None
        if not self.many and (self.zeros or len(self.texts) <= _FEW):
            self.texts |= set(present)
            self.many = len(self.texts) > MOST_LEVELS

    def _add_texts(self, name: str, first: int, cells: Cells, present: list[str]) -> None:
        if cells.numbers is not None:
            self._add_numbers(cells, present)
            return
        counts = collections.Counter(present)
        here = counts.keys()
        odd = {text for text in here if number_of(text) is None}
        self.numbers += len(present) - sum(counts[text] for text in odd)
        if odd and self.odd is None:
            row = next(i for i, text in enumerate(cells.values) if text in odd)
            self.odd = first + row, cells.values[row]
        self.words += sum(len(text.split()) * count for text, count in counts.items())
        new = here - self.texts
        self.zeros |= any(_LEADING_ZERO.match(text) for text in new - odd)
        self.truths = self.truths and all(text.lower() in ("true", "false") for text in new)
        if self.dates and new:
            instants, aware = read_dates(new)
            self.dates = None not in instants
            if self.dates:
                self.aware |= aware
                check_one_zone(name, self.aware)
        if not self.many:
            self.texts |= new
            self.many = len(self.texts) > MOST_LEVELS


def decided(name: str, seen: Seen) -> Kind:
    """The kind of a column.

    Numbers are numbers, also as text unless one begins with a zero that it would lose; True and False
    are a boolean column, also as text; dates as text have the form of ISO 8601; other text is a
    category.

    Raises:
      ValueError: cells of several kinds, long texts, more texts than a category may have.
    """
    kinds = list(seen.examples)
    if len(kinds) > 1:
        (row, value), (other_row, other) = list(seen.examples.values())[:2]
        raise ValueError(
            f"column {quoted(name)} holds {kinds[0]} ({quoted(value)} in row {row}) and {kinds[1]} "
            f"({quoted(other)} in row {other_row}): declare it: {_ways_out(seen.examples)}"
        )
    if not kinds:
        return "number"
    if seen.categorical:
        return "category"
    kind = kinds[0]
    if kind in ("number", "boolean", "date"):
        return kind  # type: ignore[return-value]
    if seen.truths:
        return "boolean"
    if seen.numbers == seen.present and not seen.zeros:
        return "number"
    if seen.dates:
        return "date"
    many = len(seen.texts)
    if seen.odd is not None and seen.numbers > 0.9 * seen.present and many > _FEW:
        row, text = seen.odd
        raise ValueError(
            f"column {quoted(name)} holds numbers, {seen.numbers:,} of {seen.present:,} cells, and "
            f'text, {quoted(text)} in row {row}: declare it: "number" takes what is none as missing, '
            '"category" takes each value as a level; or name the text in null='
        )
    long = many > max(100, seen.present // 2) and seen.words >= _WORDS * seen.present
    if (long or many > MOST_LEVELS) and (said := oddly_dated(seen.texts)) is not None:
        raise ValueError(f"column {quoted(name)} {said}")
    if long:
        raise ValueError(
            f"column {quoted(name)} holds text, {seen.words / seen.present:.0f} words a cell and "
            f'{many:,} different ones: declare it: "drop" leaves it out, "category" takes each distinct '
            "text as a level; or put numbers of your own in its place"
        )
    if many > MOST_LEVELS and (said := oddly_written(seen.texts)) is not None:
        raise ValueError(f"column {quoted(name)} {said}")
    check_levels(name, many)
    return "category"


def _ways_out(examples: Mapping[str, tuple[int, object]]) -> str:
    """What a column of several kinds may be declared, what fits best first."""
    level, number = '"category" takes each value as a level', '"number" takes what is none as missing'
    if "date" not in examples:
        return f"{level}, {number}"
    date = '"date" reads text in the form of ISO 8601, too, and takes what is no date as missing'
    text = examples.get("text", (0, ""))[1]
    if read_dates([str(text)])[0] != [None]:
        return f"{date}, {level}"
    return f"{level}, {number}, {date}"


def check_levels(name: str, many: int) -> None:
    """Refuse more levels than a category may have."""
    if many > MOST_LEVELS:
        raise ValueError(
            f"column {quoted(name)} holds more than {MOST_LEVELS:,} different values, too many for a "
            'category: declare it: "drop" leaves it out; or group its values'
        )


def check_declared(kinds: object, names: tuple[str, ...]) -> Mapping[str, str]:
    """Refuse what does not declare kinds of columns that there are."""
    if not isinstance(kinds, Mapping):
        raise TypeError(f"kinds must be a dict from columns to kinds, got {quoted(kinds)}")
    for name, kind in kinds.items():
        if name not in names:
            raise ValueError(f"kinds names a column {quoted(name)}, and frame has [{listed(names)}]")
        _checks.check_choice(f"kinds[{quoted(name)}]", kind, DECLARED)
    return kinds
