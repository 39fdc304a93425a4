"""Tables on the command line: their arguments, and their rows in parts."""

import argparse
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxdeep._quoted import listed, quoted
from jaxdeep.cli import arguments

if TYPE_CHECKING:
    from jaxdeep.tables import Columns

TASKS = ("regression", "classification", "binary", "multiclass")
_KINDS = ("number", "category", "boolean", "date", "drop")


def add_columns(parser: arguments.Parser) -> None:
    """``--kinds``, ``--drop``, ``--null``, ``--min-frequency``: what columns are."""
    kinds = f"kinds of columns in place of those found: {', '.join(_KINDS)}"
    parser.add_argument("--kinds", nargs="+", default=[], type=_kind, metavar="COLUMN=KIND", help=kinds)
    dropped = "columns to leave out, such as an id"
    parser.add_argument("--drop", nargs="+", default=[], metavar="COLUMN", help=dropped)
    null = "further texts that stand for a missing cell"
    parser.add_argument("--null", nargs="+", default=[], metavar="TEXT", help=null)
    rare = "rows below which a level of a category counts as unknown"
    parser.option("--min-frequency", 1, arguments.count, "N", rare)


def share(text: str) -> float:
    """A share of the rows, which may be 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, got {quoted(text)}")
    return value


def _kind(text: str) -> tuple[str, str]:
    name, equals, kind = text.rpartition("=")
    if not equals or kind not in _KINDS:
        raise argparse.ArgumentTypeError(
            f"must be COLUMN=KIND with a kind of {', '.join(_KINDS)}, got {quoted(text)}"
        )
    return name, kind


class Table(NamedTuple):
    """A table as it is trained on.

    Attributes:
      columns: what is known of its columns, of the training rows alone.
      parts: inputs and targets of "training", "validation" and "test".
      notes: what deserves a look.
      rows: the numbers of the rows of each part.
      fitted: the further arguments of `jaxdeep.tables.fit`.
    """

    columns: "Columns"
    parts: dict[str, tuple[Any, np.ndarray]]
    notes: list[str]
    rows: dict[str, np.ndarray]
    fitted: dict[str, Any]


def read(args: argparse.Namespace) -> Table:
    """Fit the columns to the training rows, and encode all."""
    from jaxdeep import tables
    from jaxdeep.tables import encoding
    from jaxdeep.tables.sources import kept, source_of

    kinds = dict(args.kinds) | dict.fromkeys(args.drop, "drop")
    if args.task is not None:
        kinds[args.target] = "number" if args.task == "regression" else "category"
    rows: dict[str, np.ndarray] = {}
    notes: list[str] = []

    def training(targets: np.ndarray) -> np.ndarray:
        rows.update(_parted(targets, args, notes))
        return rows["training"]

    options: dict[str, Any] = {
        "kinds": kinds,
        "null": [*tables.NULLS, *args.null] if args.null else None,
        "min_frequency": args.min_frequency if args.min_frequency > 1 else None,
    }
    fitted = {name: value for name, value in options.items() if value}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        source = kept(source_of(args.data, fitted.get("null", tables.NULLS)))
        for flag, named in (("--kinds", [name for name, _ in args.kinds]), ("--drop", args.drop)):
            _check_named(flag, named, source.names)
        columns = tables.fit(source, args.target, **fitted, rows=training, standardize_target="auto")
        encoded = encoding.apart(encoding.blocks(columns, source, None, targets=True), rows)
    # of other columns the notes below the summary say it, too
    notes += [said for warning in warned if (said := str(warning.message)).startswith("target ")]
    if columns.target is not None and columns.target.standardized:
        fitted["standardize_target"] = True
        notes.append(
            "float32 cannot tell the numbers of the target: losses and errors are in its standard "
            f"deviations of {columns.target.std:g}; predict gives numbers in the unit of the table"
        )
    parts = {name: (part.inputs, part.targets) for name, part in encoded.items()}
    return Table(columns, parts, notes, rows, fitted)


def _check_named(flag: str, named: Sequence[str], names: Sequence[str]) -> None:
    """Refuse what is no column of the table."""
    from jaxdeep.tables.sources import nearest

    for name in named:
        if name not in names:
            near = nearest(name, names)
            hint = f"; {quoted(near[0])} is one" if near else ""
            raise ValueError(
                f"argument {flag}: {quoted(name)} is no column of the table{hint}; it has "
                f"[{listed(names)}]"
            )


def _parted(targets: np.ndarray, args: argparse.Namespace, notes: list[str]) -> dict[str, np.ndarray]:
    """The numbers of the rows of each part, classes in equal shares."""
    from jaxdeep import datasets

    shares = {"validation": args.validation} | ({"test": args.test} if args.test else {})
    numbers, always = np.arange(len(targets)), np.arange(0)
    labels = None
    if targets.dtype.kind == "i":
        counts = np.bincount(targets)
        task = "binary" if len(counts) == 2 else "multiclass"
        if args.task not in (None, "classification", task):
            raise ValueError(
                f"task={args.task} does not fit {quoted(args.target)}, which has {len(counts):,} classes"
            )
        rare = counts[targets] < len(shares) + 1
        if rare.all():
            raise ValueError(
                f"target {quoted(args.target)} has {np.count_nonzero(counts):,} classes in "
                f"{len(targets):,} rows, and none has a row for every part: is it an id, or are these "
                "numbers that are not written plainly, as 12.5?"
            )
        if rare.any():
            many = arguments.several(int(rare.sum()), "row")
            notes.append(f"{many} of classes with fewer rows than there are parts: for training only")
        numbers, always = numbers[~rare], numbers[rare]
        labels = targets[numbers]
    if len(numbers) <= len(shares) or not all(round(share * len(numbers)) for share in shares.values()):
        left = f" in classes that every part has a row of ({', '.join(notes)})" if len(always) else ""
        raise ValueError(
            f"argument --data: {args.data} has too few rows{left}: of {len(numbers)} "
            + " and ".join(f"a share of {share:g} is for --{part}" for part, share in shares.items())
        )
    drawn = datasets.split(numbers, (None, *shares.values()), stratify=labels, seed=args.seed)
    parts = dict(zip(("training", *shares), drawn))
    return parts | {"training": np.sort(np.concatenate([parts["training"], always]))}


_ARGUMENTS = {
    "target": "--target",
    "kinds": "--kinds",
    "null": "--null",
    "task": "--task",
    "sizes": "--validation, --test",
    "stratify": "--validation, --test",
    "batch_size": "--batch-size",
}


def said(error: BaseException) -> str:
    """An error of a function in the words of the command: its arguments instead of Python's."""
    text = arguments.one_line(error).removeprefix("frame: ")
    if text.startswith("argument "):
        return text
    name = (re.match(r"\w+", text) or [""])[0]
    text = re.sub(r"\b(the )?frame\b", "the table", in_words_of_the_command(text))
    return f"argument {_ARGUMENTS.get(name, '--data')}: {text}"


def in_words_of_the_command(text: str) -> str:
    """A text that names arguments of `jaxdeep.tables.fit`, with the command's in their place.

    >>> in_words_of_the_command('''declare it (kinds={'a': "drop", 'b': "number"})''')
    'declare it (--kinds a=drop b=number)'
    """
    declared = re.compile(r"kinds=\{(.*?)\}")
    text = declared.sub(lambda match: f"--kinds {_declared(match[1])}", text)
    text = re.sub(r'"drop"\s+in\s+kinds=', "--drop", text)
    return text.replace("in kinds=", "in --kinds").replace("in null=", "in --null")


def _declared(kinds: str) -> str:
    """``'a': "drop", 'b': "number"`` as ``a=drop b=number``."""
    return " ".join(f"{name}={kind}" for name, kind in re.findall(r"'(.*?)': \"(.*?)\"", kinds))
