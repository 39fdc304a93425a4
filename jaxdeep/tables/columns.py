"""`Columns`: what was found out about the columns of a table, and rows as the inputs of a network."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdeep import _checks
from jaxdeep._quoted import quoted
from jaxdeep.nn.model import Model
from jaxdeep.tables import encoding, layers, layout, reports
from jaxdeep.tables.column import Column
from jaxdeep.tables.sources import cells_of, is_table
from jaxdeep.tables.statistics import Number
from jaxdeep.tables.targets import Target

FORMAT, VERSION = "jaxdeep-table", 1

Inputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, repr=False)
class Columns:
    """A fitted table: the kind of each column, its levels and statistics. `jaxdeep.tables.fit` makes it.

    Everything is decided when it is fitted. A row becomes the same inputs whatever it comes in (a frame
    of pandas, polars or pyarrow, a dict of columns, a file) and whatever other rows there are:

    * ``numbers``, float32 ``(n, p)``: of each number, and each part of a date, ``(value − center) /
      unit`` computed in float64; NaN is missing.
    * ``codes``, int32 ``(n, q)``: of each category and boolean 0 for a missing cell, 1 for an unknown
      one, and from 2 on its levels.

    Columns are found by name: their order makes no difference, and others are not looked at. It is
    immutable, compares by value, and is no pytree.

    Attributes:
      features: the columns, in the order of the table.
      target: the column to be predicted; None if none was named.
      rows: how many there were.
      null: texts that stand for a missing cell.
      unknown: "code" takes an unknown value as such, "error" refuses it.
      missing_columns: "error" refuses rows without one of the columns, "impute" takes it as missing.
    """

    features: tuple[Column, ...]
    target: Target | None
    rows: int
    null: tuple[str, ...]
    unknown: str = "code"
    missing_columns: str = "error"

    def __repr__(self) -> str:
        target = "" if self.target is None else f", target={quoted(self.target.name)}"
        return f"Columns({len(self.features)} columns of {self.rows:,} rows{target})"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns that are inputs."""
        return tuple(column.name for column in self.features)

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The labels of the target in the order of the classes; None for numbers or no target."""
        return None if self.target is None else self.target.classes

    @property
    def task(self) -> str | None:
        """What is to be learnt: "binary", "multiclass" or "regression"; None without a target."""
        return None if self.target is None else self.target.task

    @property
    def outputs(self) -> int:
        """How many outputs a network for the target has: 1, or one for each of more than two classes."""
        return 1 if self.target is None else self.target.outputs

    # --- rows ---------------------------------------------------------------------------------------

    def is_raw(self, data: object) -> bool:
        """Whether data are rows of a table, and not the inputs that they become."""
        if isinstance(data, Mapping) and set(data) == {"numbers", "codes"}:
            if not set(self.names) & set(data):
                return False
            # a column has one axis, and inputs have two
            return any(getattr(array, "ndim", None) != 2 for array in data.values())
        return is_table(data)

    def encode(self, frame: Any, *, unknown: str | None = None) -> tuple[Inputs, np.ndarray]:
        """Rows with their targets: ``(inputs, targets)``.

        Targets are int32 numbers of classes or float32 numbers, ``(n,)``.

        Args:
          frame: as `jaxdeep.tables.fit` takes it; a dict of single values is one row.
          unknown: in place of the one that it was fitted with.

        Raises:
          ValueError: columns that are not there (all are named, unless they are imputed), the target's
            too; a label that is missing or no class, with its row; a date with a time zone where there
            was none, or the reverse; with ``unknown="error"`` an unknown value. TypeError: something
            else than a table.

        A warning says where more than a tenth of a column is unknown, in ten cells or more, and where
        all of it is, in two or more.
        """
        if self.target is None:
            raise ValueError("encode needs a target, and none was named when the table was fitted; use "
                             "encode_inputs")  # fmt: skip
        whole = encoding.together(encoding.blocks(self, frame, unknown, targets=True))
        return whole.inputs, whole.targets

    def encode_inputs(self, frame: Any, *, unknown: str | None = None) -> Inputs:
        """The inputs of rows, whose targets are neither needed nor looked at; else as `encode`."""
        return encoding.together(encoding.blocks(self, frame, unknown, targets=False)).inputs

    def blocks(self, frame: Any, *, rows: int = 16_384, unknown: str | None = None) -> Iterator[Inputs]:
        """The inputs of `rows` rows after another: a file of any length in constant memory.

        Raises as `encode_inputs`, as soon as the rows are met.
        """
        rows = _checks.check_count("rows", rows)
        for part in encoding.blocks(self, frame, unknown, targets=False, rows=rows):
            yield part.inputs

    def report(self, frame: Any) -> "reports.Report":
        """How many cells of each column of a frame are missing or unknown, with an example."""
        tallies: reports.Tallies = {}
        rows = sum(
            len(part.codes)
            for part in encoding.blocks(self, frame, "code", targets=False, tallies=tallies, warns=False)
        )
        return reports.Report(rows, tallies)

    def labels(self, classes: Any) -> np.ndarray:
        """Numbers of classes as the labels of the table; as they are, if no target was named.

        Labels that NumPy has no common type for, such as −1 and 2⁶³ + 5, are in an array of objects.

        Raises:
          ValueError: a target of numbers; a number that is of no class.
        """
        return np.asarray(classes) if self.target is None else self.target.labels(classes)

    def encode_labels(self, labels: Any) -> np.ndarray:
        """Labels of the table as int32 numbers of their classes, the reverse of `labels`.

        Numbers of a regression become float32, the reverse of `values`: in standard deviations, if the
        target was standardised.

        Raises:
          ValueError: no target, a label that is missing, no class or no number.
        """
        if self.target is None:
            raise ValueError(
                "encode_labels needs a target, and none was named when the table was fitted"
            )
        return self.target.encode(cells_of(self.target.name, labels))

    def values(self, outputs: Any) -> np.ndarray:
        """Outputs of a regression in the unit of the table, float64, as `jaxdeep.predict` gives them."""
        if self.target is None or self.target.classes is not None:
            raise ValueError("values needs a target of numbers, and the table was fitted without one")
        return self.target.values(outputs)

    # --- in a network -------------------------------------------------------------------------------

    def layer(self, **options: Any) -> Model:
        """The first layer of a network on this table; options are those of `jaxdeep.tables.layers`."""
        return layers.columns(self, **options)

    def output_names(self, **options: Any) -> list[str]:
        """A name for each number that the layer of these options puts out, all different."""
        return layout.names(layout.pieces(self.features, layout.options(self.features, options)))

    # --- for people, and on disk --------------------------------------------------------------------

    def summary(self, **options: Any) -> str:
        """The columns as text of at most 100 columns: kind, levels, what is missing, what each becomes.

        Below are notes of what deserves a look, and the memory that the inputs of all rows would take at
        once, as float32 after `layer`, whose options `options` are: it says so before it is allocated.
        """
        return reports.summary(self, layout.options(self.features, options))

    @functools.cached_property
    def checksum(self) -> str:
        """The SHA-256 of the columns, taken of their JSON text without the checksum itself."""
        return _checksum(self._contents())

    def to_config(self) -> dict[str, Any]:
        """All of it as plain values of JSON, with a checksum."""
        return {**self._contents(), "sha256": self.checksum}

    def to_json(self) -> str:
        """The text of `to_config`, which `from_json` reads."""
        return json.dumps(self.to_config(), indent=1, ensure_ascii=False)

    def _contents(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "format_version": VERSION,
            "rows": self.rows,
            "null": list(self.null),
            "unknown": self.unknown,
            "missing_columns": self.missing_columns,
            "target": None if self.target is None else _plain(self.target),
            "columns": [_plain(column) for column in self.features],
        }

    def _identity_(self) -> tuple[object, ...]:
        """What models that hold it are compared by."""
        return ("columns", self.checksum)


def from_json(text: str) -> Columns:
    """The columns that `Columns.to_json` wrote.

    Raises:
      ValueError: no such text; one that was changed or cut off, or is of a newer version.

    >>> import jaxdeep as jd
    >>> columns = jd.tables.fit({"city": ["Rome", "Oslo", "Rome"]})
    >>> from_json(columns.to_json()) == columns
    True
    >>> from_json(columns.to_json().replace("Oslo", "Bonn"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: the columns were changed since they were written: they do not have their checksum; ...
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be the text that to_json made, got {type(text).__name__}")
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ValueError(f"text is not JSON, or was cut off: {error}") from None
    return from_config(config)


def from_config(config: Any) -> Columns:
    """The columns that `Columns.to_config` described."""
    if not isinstance(config, Mapping) or config.get("format") != FORMAT:
        raise ValueError(f"these are no columns that jaxdeep wrote: the format is not {FORMAT!r}")
    version = config.get("format_version")
    if isinstance(version, int) and version > VERSION:
        raise ValueError(
            f"the columns are of format version {version}, and this jaxdeep reads up to {VERSION}: "
            "install a newer one"
        )
    contents = {name: value for name, value in config.items() if name != "sha256"}
    if config.get("sha256") != _checksum(contents):
        raise ValueError(
            "the columns were changed since they were written: they do not have their checksum; use a "
            "sound copy, or fit the table again"
        )
    target = config["target"]
    return Columns(
        features=tuple(_column(column) for column in config["columns"]),
        target=None if target is None else _target(target),
        rows=config["rows"],
        null=tuple(config["null"]),
        unknown=config["unknown"],
        missing_columns=config["missing_columns"],
    )


def _checksum(contents: Mapping[str, Any]) -> str:
    text = json.dumps(contents, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A NamedTuple as an object of what is not at its default, a tuple as an array."""
    if hasattr(value, "_fields"):
        defaults = type(value)._field_defaults
        fields = value._asdict()
        return {n: _plain(v) for n, v in fields.items() if n not in defaults or v != defaults[n]}
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _column(plain: Mapping[str, Any]) -> Column:
    fields = {name: _tuples(value) for name, value in plain.items()}
    numbers = tuple(Number(**number) for number in plain.get("numbers", ()))
    return Column(**{**fields, "numbers": numbers})


def _target(plain: Mapping[str, Any]) -> Target:
    return Target(**{name: _tuples(value) for name, value in plain.items()})


def _tuples(value: Any) -> Any:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    return tuple(map(_tuples, value))
