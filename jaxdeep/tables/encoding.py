"""Rows of a table as the inputs of a network, block by block on the host."""

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import aligned
from jaxdeep._quoted import quoted
from jaxdeep._warning import warn
from jaxdeep.tables.cells import Cells
from jaxdeep.tables.column import Column, Fitted
from jaxdeep.tables.conversion import Known, codes_of, instants_of, numbers_of, text_key, truths_of
from jaxdeep.tables.dates import parts_of, shown
from jaxdeep.tables.reports import Tallies, Tally
from jaxdeep.tables.sources import BLOCK, Source, found_by, nearest, numbered, source_of

_MOST = 1e30  # what float32 holds, with room for the statistics to divide by
_MANY = 10  # unknown cells from which on there is a warning, if they are not all: two


class Part(NamedTuple):
    """The inputs of a block of rows, and their targets if they were asked for."""

    numbers: np.ndarray
    codes: np.ndarray
    targets: np.ndarray

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """The inputs, as a network takes them."""
        return {"numbers": self.numbers, "codes": self.codes}


def blocks(
    columns: Fitted,
    frame: Any,
    unknown: str | None,
    *,
    targets: bool,
    exact: bool = False,
    rows: int = BLOCK,
    tallies: Tallies | None = None,
    warns: bool = True,
) -> Iterator[Part]:
    """The parts of a frame; one without rows if it has none. Targets may be those of `Target.exact`."""
    if unknown is not None:
        _checks.check_choice("unknown", unknown, ("code", "error"))
    strict = (unknown or columns.unknown) == "error"
    source = found_by(source_of(frame, columns.null), _named(columns, targets))
    names = _used(columns, source, targets)
    places = [_places(column) for column in columns.features]
    tallies = {} if tallies is None else tallies
    none = True
    for first, block in numbered(source.blocks(names, rows) if names else _nothing(source, rows)):
        none = False
        yield _part(columns, block, first, places, tallies, strict, targets, exact)
    if none:
        empty = {name: Cells("empty", np.empty(0, object), np.empty(0, bool)) for name in names}
        yield _part(columns, empty, 0, places, tallies, strict, targets, exact)
    if warns:
        _warn(tallies)


def together(parts: Iterable[Part]) -> Part:
    """All parts as one; each is let go of when it is copied."""
    waiting = collections.deque(parts)
    if len(waiting) == 1:
        return waiting[0]
    whole = _room(waiting[0], sum(len(part.codes) for part in waiting))
    first = 0
    while waiting:
        part = waiting.popleft()
        for room, array in zip(whole, part):
            room[first : first + len(array)] = array
        first += len(part.codes)
    return whole


def apart(parts: Iterable[Part], rows: Mapping[str, np.ndarray]) -> dict[str, Part]:
    """Some of the rows of all parts under each name, in the order of their numbers; none is in two.

    >>> of_two = Part(np.arange(6.0).reshape(3, 2), np.zeros((3, 0)), np.arange(3)), Part(
    ...     np.ones((1, 2)), np.zeros((1, 0)), np.array([3])
    ... )
    >>> found = apart(of_two, {"a": np.array([3, 0]), "b": np.array([2])})
    >>> found["a"].targets.tolist(), found["b"].numbers.tolist()
    ([3, 0], [[4.0, 5.0]])
    """
    names = list(rows)
    owner = np.full(1 + max(int(chosen.max(initial=-1)) for chosen in rows.values()), -1)
    place = np.zeros_like(owner)
    for number, chosen in enumerate(rows.values()):
        owner[chosen], place[chosen] = number, np.arange(len(chosen))
    gathered: dict[str, Part] = {}
    first = 0
    for part in parts:
        if not gathered:
            gathered = {name: _room(part, len(chosen)) for name, chosen in rows.items()}
        last = first + len(part.codes)
        for number, name in enumerate(names):
            here = np.flatnonzero(owner[first:last] == number)
            for room, array in zip(gathered[name], part):
                room[place[first:last][here]] = array[here]
        first = last
    return gathered


def _room(like: Part, rows: int) -> Part:
    """Room for so many rows, which JAX need not copy on a CPU."""
    return Part(*(aligned((rows, *array.shape[1:]), array.dtype) for array in like))


def known_of(name: str, kind: str, cells: Cells, places: Mapping[str, int]) -> tuple[Known, bool | None]:
    """Cells as values of a kind, and of dates whether they name a time zone.

    Args:
      name: of the column, for errors.
      kind: "number", "category", "boolean" or "date".
      places: of a category, the number of each level.
    """
    if kind == "number":
        return numbers_of(cells), None
    if kind == "date":
        return instants_of(cells, name)
    return (truths_of(cells) if kind == "boolean" else codes_of(cells, places)), None


def _named(columns: Fitted, targets: bool) -> list[str]:
    """The columns that the table was fitted to, with the target if it is asked for."""
    return [*columns.names, *([columns.target.name] if targets and columns.target is not None else [])]


def _used(columns: Fitted, source: Source, targets: bool) -> list[str]:
    """The columns to read. All that lack are named at once."""
    names = _named(columns, targets)
    lacking = [name for name in names if name not in source.names]
    imputed = columns.missing_columns == "impute"
    refused = [n for n in lacking if not imputed or (columns.target and n == columns.target.name)]
    if refused:
        free = [name for name in source.names if name not in names]
        near = {name: candidates[0] for name in refused if (candidates := nearest(name, free))}
        hints = "".join(f"; {quoted(other)} may be {quoted(name)}" for name, other in near.items())
        listed = ", ".join(map(quoted, refused))
        raise ValueError(
            f"frame lacks the column{'s' * (len(refused) > 1)} {listed}, which the table was fitted with"
            f"{hints}; it has {', '.join(map(quoted, source.names[:30]))}"
            f"{', …' * (len(source.names) > 30)}"
        )
    return [name for name in names if name in source.names]


def _nothing(source: Source, rows: int) -> Iterator[dict[str, Cells]]:
    """Blocks of a frame with none of the columns: any of its own says how many rows there are."""
    return source.blocks(source.names[:1], rows) if source.names else iter(())


def _part(
    columns: Fitted,
    block: Mapping[str, Cells],
    first: int,
    places: Sequence[Mapping[str, int]],
    tallies: Tallies,
    strict: bool,
    targets: bool,
    exact: bool,
) -> Part:
    rows = next(iter(block.values())).rows if block else 0
    numbers: list[np.ndarray] = []
    codes: list[np.ndarray] = []
    gone = Cells("empty", np.full(rows, None, object), np.ones(rows, bool))
    for column, level_places in zip(columns.features, places):
        cells = block.get(column.name, gone)
        known, aware = known_of(column.name, column.kind, cells, level_places)
        if column.aware is not None and aware is not None and aware != column.aware:
            has, had = ("a time zone", "none") if aware else ("no time zone", "one")
            raise ValueError(
                f"column {quoted(column.name)} holds dates with {has}, and was fitted to dates with "
                f"{had}: hours cannot be compared; convert them"
            )
        _tally(tallies, column, cells, known, first, strict)
        if column.coded:
            codes.append(known.values)
        else:
            numbers.append(_numbers(column, known, cells))
    label = np.empty((rows, 0), np.float32)
    if targets and columns.target is not None:
        encode = columns.target.exact if exact else columns.target.encode
        label = encode(block[columns.target.name], first)
    return Part(
        np.concatenate(numbers, axis=1) if numbers else np.empty((rows, 0), np.float32),
        np.stack(codes, axis=1) if codes else np.empty((rows, 0), np.int32),
        label,
    )


def _numbers(column: Column, known: Known, cells: Cells) -> np.ndarray:
    """The numbers of a column, ``(n, parts)`` in float32."""
    values = known.values[:, None]
    if column.kind == "date":
        parts = [number.name for number in column.numbers]
        values = parts_of(known.values, known.unknown | cells.missing, parts)
    center = np.array([number.center for number in column.numbers])
    unit = np.array([number.unit for number in column.numbers])
    with np.errstate(over="ignore"):
        # halves, where the difference of the largest numbers overflows
        away = (values / 2 - center / 2) / (unit / 2)
        away = np.where(np.abs(away) < 1e300, (values - center) / unit, away)
    return np.clip(away, -_MOST, _MOST).astype(np.float32)


def _places(column: Column) -> dict[str, int]:
    """The numbers of levels by their keys, also of what float32 was once taken for."""
    places = {level: place for place, level in enumerate(column.levels)}
    return {text_key(level): place for level, place in places.items()} | places


def _tally(
    tallies: Tallies, column: Column, cells: Cells, known: Known, first: int, strict: bool
) -> None:
    tally = tallies.get(column.name, Tally())
    unknown, example = int(known.unknown.sum()), tally.example
    if unknown and example is None:
        row = int(known.unknown.argmax())
        value = shown(cells.values[row]) if cells.kind == "date" else cells.values[row]
        example = first + row, value.item() if isinstance(value, np.generic) else value
        if strict:
            levels = f"is none of its {len(column.levels):,} levels"
            fault = levels if column.kind == "category" else f"is no {column.kind}"
            raise ValueError(
                f"column {quoted(column.name)}: {quoted(example[1])} in row {example[0]} {fault}"
            )
    tallies[column.name] = Tally(
        tally.rows + cells.rows,
        tally.missing + int(cells.missing.sum()),
        tally.unknown + unknown,
        example,
    )


def _warn(tallies: Tallies) -> None:
    many = {
        name: tally
        for name, tally in tallies.items()
        if (tally.unknown >= _MANY and tally.unknown > 0.1 * (tally.rows - tally.missing))
        or 1 < tally.unknown == tally.rows - tally.missing
    }
    for name, tally in many.items():
        share = tally.unknown / (tally.rows - tally.missing)
        warn(
            f"column {quoted(name)}: {share:.0%} of the cells have values that were not there when the "
            f"table was fitted, such as {quoted(tally.example[1] if tally.example else None)}: is it "
            "written in another way?"
        )
