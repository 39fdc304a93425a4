"""What each column becomes in the first layer of a network: numbers of the matrix that it puts out."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from jaxdeep import _checks
from jaxdeep._quoted import quoted
from jaxdeep.tables.column import Column
from jaxdeep.tables.conversion import FIRST, MISSING

Encoding = Literal["one_hot", "embedding", "target", "drop"]


class Options(NamedTuple):
    """What a layer is told of the columns, as `jaxdeep.tables.layers.columns` describes it."""

    scaling: str | None = "robust"
    clip: bool = True
    one_hot: int = 9
    embedding: int = 8
    indicators: bool = True
    encodings: tuple[tuple[str, str], ...] = ()


class Piece(NamedTuple):
    """A number that is put out, or the numbers of an embedding.

    Attributes:
      kind: "scaled" number; "missing", 1 where a number is; "level", 1 where the code is `code`; "sign",
        1 for the second of two levels, −1 for the first, else 0; "embedding"; means of the "target".
      source: which number, or which code, it is made of.
      name: of what is put out.
      code: of a level.
      width: how many numbers.
      levels: of an embedding, and of means of the target, its rows.
    """

    kind: Literal["scaled", "missing", "level", "sign", "embedding", "target"]
    source: int
    name: str
    code: int = 0
    width: int = 1
    levels: int = 0

    @property
    def looked_up(self) -> bool:
        """Whether its numbers are a row of a table."""
        return self.kind in ("embedding", "target")


def options(columns: Sequence[Column], settings: Mapping[str, Any]) -> Options:
    """The options of a layer, checked.

    Raises:
      ValueError, TypeError: an option out of range or unknown, an encoding of a column that is none.
    """
    unknown = [name for name in settings if name not in Options._fields]
    if unknown:
        raise TypeError(
            f"a layer of columns has the options {', '.join(Options._fields)}; got {unknown[0]}"
        )
    encodings = settings.get("encodings") or {}
    try:
        encodings = dict(encodings)
    except (TypeError, ValueError):
        raise TypeError(
            f"encodings must be a dict from columns to encodings, got {quoted(encodings)}"
        ) from None
    chosen = Options(**{**settings, "encodings": tuple(encodings.items())})
    _checks.check_choice("scaling", chosen.scaling, ("robust", "standard", None))
    _checks.check_flags(clip=chosen.clip, indicators=chosen.indicators)
    one_hot = _checks.check_count("one_hot", chosen.one_hot, low=0)
    embedding = _checks.check_count("embedding", chosen.embedding)
    known = {column.name: column for column in columns}
    for name, encoding in encodings.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            raise ValueError(
                f"encodings names a column {quoted(name)}, which is none of the table's"
                + (f"; {quoted(near[0])} is one" if near else "")
            )
        allowed = ["one_hot", "embedding", "drop"] if known[name].coded else ["drop"]
        if encoding == "target" and known[name].coded and not known[name].means:
            raise ValueError(
                f'encodings[{quoted(name)}] can be "target" only if the table was fitted with '
                f"target_encoding=[{quoted(name)}]"
            )
        allowed += ["target"] * bool(known[name].means)
        if encoding not in allowed:
            raise ValueError(
                f"encodings[{quoted(name)}] must be {' or '.join(map(quoted, allowed))} for a column "
                f"of the kind {known[name].kind}, got {quoted(encoding)}"
            )
    return chosen._replace(one_hot=one_hot, embedding=embedding)


def encoding_of(column: Column, options: Options) -> str:
    """What becomes of a column: "scale", "sign", "one_hot", "embedding", "target" or "drop".

    One with means of the target is encoded by them. A boolean, or a category of two levels, is one
    number; more levels than `one_hot` are embedded.
    """
    declared = dict(options.encodings).get(column.name)
    if declared is not None:
        return declared
    if not column.coded:
        return "scale"
    if column.means:
        return "target"
    if len(column.levels) == 2:
        return "sign"
    return "one_hot" if len(column.levels) <= options.one_hot else "embedding"


def pieces(columns: Sequence[Column], options: Options) -> tuple[Piece, ...]:
    """All that is put out, column by column in their order."""
    all_pieces: list[Piece] = []
    number = code = 0
    for column in columns:
        encoding, name = encoding_of(column, options), column.name
        has_holes = (
            options.indicators and column.missing + (column.unknown if not column.coded else 0) > 0
        )
        if not column.coded:
            if encoding == "scale":
                for place, part in enumerate(column.numbers):
                    title = f"{name}_{part.name}" if part.name else name
                    all_pieces.append(Piece("scaled", number + place, title))
                if has_holes:
                    all_pieces.append(Piece("missing", number, f"{name}=missing"))
            number += len(column.numbers)
            continue
        if encoding == "sign":
            all_pieces.append(Piece("sign", code, f"{name}={column.levels[1]}"))
        elif encoding == "one_hot":
            all_pieces += [
                Piece("level", code, f"{name}={level}", place + FIRST)
                for place, level in enumerate(column.levels)
            ]
        if encoding in ("sign", "one_hot") and has_holes:
            all_pieces.append(Piece("level", code, f"{name}=missing", MISSING))
        if encoding == "embedding":
            levels = len(column.levels) + FIRST
            all_pieces.append(Piece("embedding", code, name, 0, options.embedding, levels))
        if encoding == "target":
            width = len(column.means[0][0])
            all_pieces.append(Piece("target", code, f"{name}=target", 0, width, len(column.means[0])))
        code += 1
    return tuple(all_pieces)


def names(all_pieces: Sequence[Piece]) -> list[str]:
    """A name for each number that is put out; where two would be the same, the later one is numbered."""
    wished = [
        name
        for piece in all_pieces
        for name in (
            [f"{piece.name}[{place}]" for place in range(piece.width)]
            if piece.kind == "embedding" or piece.width > 1
            else [piece.name]
        )
    ]
    taken: set[str] = set()
    for place, name in enumerate(wished):
        title, count = name, 2
        while title in taken or (title != name and title in wished):
            title, count = f"{name} ({count})", count + 1
        taken.add(title)
        wished[place] = title
    return wished
