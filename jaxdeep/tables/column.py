"""`Column`: what was found out about one column of a table."""

from typing import NamedTuple, Protocol

from jaxdeep.tables.kinds import Kind
from jaxdeep.tables.statistics import Number
from jaxdeep.tables.targets import Target


class Column(NamedTuple):
    """What was found out about a column.

    Attributes:
      name, kind: "number", "category", "boolean" or "date".
      known: the cells whose value is known.
      missing: the cells without a value.
      unknown: the cells with a value of another kind, or of a level that is too rare.
      levels: of a category or boolean: the keys of its values, which have the codes from 2 on.
      numbers: the statistics of a number, or of each number that is made of a date.
      aware: of dates, whether they name a time zone; None where there was none.
      notes: what deserves a look, in words.
      means: of a category that is encoded by the target: its mean, or the share of each class (of two
        the second), ``[table][code][output]``. The first table is of all rows, each other one of
        those outside one of five parts.
      scales: of these, ``[table][output]``, mean and standard deviation of the target of the same rows,
        in which the means are put out; () in files of earlier versions, which took those of all rows.
    """

    name: str
    kind: Kind
    known: int
    missing: int
    unknown: int = 0
    levels: tuple[str, ...] = ()
    numbers: tuple[Number, ...] = ()
    aware: bool | None = None
    notes: tuple[str, ...] = ()
    means: tuple[tuple[tuple[float, ...], ...], ...] = ()
    scales: tuple[tuple[tuple[float, ...], ...], ...] = ()

    @property
    def coded(self) -> bool:
        """Whether its cells become codes, and not numbers."""
        return self.kind in ("category", "boolean")


class Fitted(Protocol):
    """What a fitted table holds, as `Columns` does."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns, in the order of the table."""

    @property
    def target(self) -> Target | None:
        """The column to be predicted."""

    @property
    def rows(self) -> int:
        """How many rows there were."""

    @property
    def null(self) -> tuple[str, ...]:
        """Texts that stand for a missing cell."""

    @property
    def unknown(self) -> str:
        """What becomes of an unknown value."""

    @property
    def missing_columns(self) -> str:
        """What becomes of rows without one of the columns."""
