"""``python -m jaxdeep predict``: what a saved model says of raw rows, block by block."""

import argparse
import collections
import itertools
import pathlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import jaxdeep
from jaxdeep._quoted import quoted
from jaxdeep.cli import arguments, predictions, saved

if TYPE_CHECKING:
    from jaxdeep.tables import Columns
    from jaxdeep.tables.cells import Cells
    from jaxdeep.tables.sources import Block, Source

_ROWS = 16_384  # of a block


def add(commands: arguments.Commands) -> None:
    """Make the command known."""
    parser = arguments.command(
        commands, "predict", _predict, "predict raw rows by a model that train or compare has saved"
    )
    parser.add_argument("model", metavar="DIR", help="folder that train, compare or jd.save wrote")
    parser.add_argument("data", metavar="FILE", help="rows: .csv, .tsv, .csv.gz or .parquet")
    out = pathlib.Path("predictions.csv")
    parser.option("--out", out, pathlib.Path, "FILE", "a new file, .csv or .parquet")
    parser.add_argument(
        "--probabilities", action="store_true", help="a column for the probability of each class, too"
    )
    parser.add_argument("--id", metavar="COLUMN", help="column of the rows to be written in front")


def _predict(args: argparse.Namespace, parser: arguments.Parser) -> int:
    """Predict the rows of a file by a model that was saved with its columns, and write a file
    with a line for each row: `prediction`, a label as it was in the table (but 1 for 1.0, and
    True for true, in a file of texts), or a number in the unit of the target; labels that are
    too large for a type of Parquet are texts there. The folder of a compare is its winner.
    Rows are read, predicted and written in
    blocks, so that memory does not grow with the file. Columns are found by name, others and
    the target are not looked at. The cells of --id are written as they are in the file. It gets
    its name when it is complete.

    Examples:
      python -m jaxdeep predict runs/people new.csv --out predictions.csv
      python -m jaxdeep predict runs/optimizers new.csv
      python -m jaxdeep predict runs/people new.parquet --id id --probabilities --out p.parquet
    """
    try:
        predictions.check_new(args.out)
    except (ValueError, OSError, ImportError) as error:
        parser.error(f"argument --out: {arguments.one_line(error)}")
    model, params, state, columns, _ = saved.load(args.model, parser, "DIR")
    if columns is None:
        parser.error(
            f"argument DIR: the model in {args.model} does not know the columns of a table; train one "
            f"with {arguments.PROG} train"
        )
    if columns.target is None:
        parser.error(f"argument DIR: the columns of the model in {args.model} have no target")
    if args.probabilities and columns.classes is None:
        parser.error(
            f"argument --probabilities: {quoted(columns.target.name)} is a number and has no classes"
        )

    def answer(inputs: Any, output: str | None) -> np.ndarray:
        return np.asarray(jaxdeep.predict(model, params, state, inputs, output=output))

    rows = 0
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", UserWarning)
            names = _names(columns, args)
            blocks = _blocks(columns, args, answer)
            first = next(blocks)
            if args.id is not None:
                names[args.id] = predictions.type_of(first[0])
            with predictions.written(args.out, names) as write:
                for block in itertools.chain([first], blocks):
                    write(block)
                    rows += len(block[0])
    except (ValueError, TypeError, ImportError, FileNotFoundError) as error:
        text = arguments.one_line(error).removeprefix("frame: ")
        text = re.sub("^frame lacks", "the file lacks", text)
        parser.error(text if text.startswith("argument ") else f"argument FILE: {text}")
    except OSError as error:
        print(f"{arguments.PROG} predict: {arguments.one_line(error)}", file=sys.stderr)
        return 1
    for text in dict.fromkeys(str(warning.message) for warning in warned):
        print(f"{arguments.PROG} predict: {text}", file=sys.stderr)
    print(f"wrote {args.out}: {quoted(columns.target.name)} of {arguments.several(rows, 'row')}")
    return 0


def _names(columns: "Columns", args: argparse.Namespace) -> dict[str, Any]:
    """The columns of the file and their types."""
    kind = float if columns.classes is None else _type_of(columns.labels(range(len(columns.classes))))
    names: dict[str, Any] = {} if args.id is None else {args.id: str}
    names["prediction"] = kind
    if args.probabilities:
        names |= {f"probability_{label}": float for label in columns.classes or ()}
    if len(names) < (args.id is not None) + 1 + args.probabilities * len(columns.classes or ()):
        raise ValueError(
            f"argument --id: the column {quoted(args.id)} has the name of one that is written; rename "
            "it in the file"
        )
    return names


def _type_of(labels: np.ndarray) -> Any:
    """The type of a column of labels; text for numbers that no type of a file holds side by side."""
    return {"b": bool, "i": int, "f": float}.get(labels.dtype.kind, str)


def _blocks(
    columns: "Columns", args: argparse.Namespace, answer: Callable[[Any, str | None], np.ndarray]
) -> Iterator[list[Any]]:
    """For each block of rows the columns of the file."""
    from jaxdeep.tables.sources import source_of

    ids: collections.deque[Cells] = collections.deque()
    source = source_of(args.data, columns.null, written=args.id)
    if args.id is not None:
        source = _with_ids(source, args.id, ids)
    for inputs in columns.blocks(source, rows=_ROWS):
        block: list[Any] = []
        if args.id is not None:
            block.append(ids.popleft().written if ids else [])
        if columns.classes is None:
            block.append(answer(inputs, None).reshape(-1))
        else:
            labels = answer(inputs, "class")
            block.append(list(map(str, labels)) if _type_of(labels) is str else labels)
        if args.probabilities:
            block += list(_of_each_class(answer(inputs, "probability")).T)
        yield block


def _of_each_class(probabilities: np.ndarray) -> np.ndarray:
    """A column for each class; a single output is the probability of the second."""
    if probabilities.shape[-1] == 1:
        second = probabilities.reshape(-1, 1)
        return np.concatenate([1 - second, second], axis=1)
    return probabilities


def _with_ids(source: "Source", name: str, ids: "collections.deque[Cells]") -> "Source":
    """The rows of a table, of which this column is read, too: its cells are put into `ids`."""
    from jaxdeep.tables.sources import nearest

    if name not in source.names:
        near = nearest(name, source.names)
        hint = f"; {quoted(near[0])} is one" if near else ""
        raise ValueError(f"argument --id: {quoted(name)} is no column of the file{hint}")

    def blocks(names: Sequence[str], size: int) -> Iterator["Block"]:
        for block in source.blocks(list(dict.fromkeys([*names, name])), size):
            ids.append(block[name])
            yield block

    return source._replace(blocks=blocks)
