"""The data of ``compare``: a table, a file of arrays or a packaged set, in three parts."""

import argparse
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxdeep.cli import arguments, table_files
from jaxdeep.cli.written import code

if TYPE_CHECKING:
    from jaxdeep.datasets import Dataset
    from jaxdeep.tables import Columns

TASKS = (*table_files.TASKS, "multilabel")
_PACKAGED = {"digits": "digits", "fashion-mnist": "fashion_mnist"}
_SHARE = 0.2
_EXTENSIONS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")


class Data(NamedTuple):
    """What candidates are compared on.

    Attributes:
      train, validation, test: pairs of inputs and targets.
      task: "regression", "binary", "multiclass" or "multilabel".
      outputs: numbers that a network gives.
      columns: those of a table, fitted on its training rows.
      reading: the lines of Python that read the same.
      rows: the numbers of the rows of each part of a table.
      notes: what deserves a look.
    """

    train: Any
    validation: Any
    test: Any
    task: str
    outputs: int
    columns: "Columns | None"
    reading: str
    rows: dict[str, np.ndarray]
    notes: list[str]


def add(parser: arguments.Parser) -> None:
    """``--data``, ``--target``, ``--task`` and what else says what is learnt."""
    parser.option(
        "--data",
        "digits",
        str,
        "NAME",
        "digits (comes with scikit-learn), fashion-mnist (from $JAXDEEP_DATA or downloaded), FILE.npz "
        "with arrays x and y, or a table: .csv, .tsv, .csv.gz or .parquet",
    )
    parser.add_argument("--target", metavar="COLUMN", help="of a table: what is to be predicted")
    tasks = f"one of {', '.join(TASKS)} (default: what the targets look like)"
    parser.add_argument("--task", choices=TASKS, metavar="TASK", help=tasks)
    for part, help in (
        ("validation", f"share of a table's rows that it tunes by (default: {_SHARE})"),
        ("test", f"share of the rows that it judges by, if there are no such rows (default: {_SHARE})"),
    ):
        parser.add_argument(f"--{part}", type=table_files.share, metavar="SHARE", help=help)
    table_files.add_columns(parser)


def read(args: argparse.Namespace) -> Data:
    """The data that the arguments name.

    Raises:
      ValueError, TypeError, OSError, ImportError: what is wrong with them.
    """
    for part in ("validation", "test"):
        if getattr(args, part) == 0:
            raise ValueError(f"argument --{part}: must be above 0")
    is_table = args.data.endswith(_EXTENSIONS)
    if not is_table and args.data not in _PACKAGED and not args.data.endswith(".npz"):
        known = ", ".join((*_PACKAGED, ".npz", *_EXTENSIONS))
        raise ValueError(f"argument --data: must be one of, or a file of, {known}, got {args.data!r}")
    try:
        data = _of_table(args) if is_table else _of_arrays(args)
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise ValueError(table_files.said(error)) from None
    if data.task != "regression" and (classes := np.unique(data.train[1])).size < 2:
        raise ValueError(f"argument --data: the targets have a single class, {classes[0]}")
    return data


def _of_table(args: argparse.Namespace) -> Data:
    if args.target is None:
        raise ValueError("argument --target: must name the column of the table that is to be predicted")
    if args.task == "multilabel":
        raise ValueError("argument --task: multilabel is for .npz files, whose y may have columns")
    shares = {part: getattr(args, part) or _SHARE for part in ("validation", "test")}
    if sum(shares.values()) >= 1:
        raise ValueError("argument --test: must leave rows to train on beside those for validation")
    table = table_files.read(argparse.Namespace(**{**vars(args), **shares}))
    path = os.path.abspath(args.data)
    fitted = "".join(f", {key}={code(value)}" for key, value in table.fitted.items())
    reading = f"""\
file = {code(path)}
rows = np.load(pathlib.Path(__file__).parent / "rows.npz")  # the numbers of those of each part
columns = jd.tables.fit(file, {code(args.target)}{fitted}, rows=rows["training"])
inputs, targets = columns.encode(file)
train, validation, test = (
    ({{name: array[rows[part]] for name, array in inputs.items()}}, targets[rows[part]])
    for part in ("training", "validation", "test")
)
"""
    columns = table.columns
    train, validation, test = (table.parts[part] for part in ("training", "validation", "test"))
    return Data(
        train,
        validation,
        test,
        str(columns.task),
        columns.outputs,
        columns,
        reading,
        table.rows,
        table.notes,
    )


def _of_arrays(args: argparse.Namespace) -> Data:
    from jaxdeep import datasets

    for flag in ("target", "kinds", "drop", "null"):
        if getattr(args, flag):
            raise ValueError(f"argument --{flag}: is for tables, and {args.data} is none")
    task = args.task
    if args.data in _PACKAGED:
        if task not in (None, "classification", "multiclass"):
            raise ValueError(f"argument --task: {args.data} has classes, got {task!r}")
        data, task = datasets.load(args.data), "multiclass"
        reading = f"train, validation, test = jd.datasets.{_PACKAGED[args.data]}()\n"
    else:
        if task in (None, "classification"):
            task = _task_of(datasets.npz(args.data, classes=False), task)
        by_class = task in ("binary", "multiclass")
        data = datasets.npz(args.data, classes=by_class)
        how = "" if by_class else ", classes=False"
        reading = f"train, validation, test = jd.datasets.npz({code(os.path.abspath(args.data))}{how})\n"
    if args.validation is not None:
        raise ValueError(
            "argument --validation: is for tables; packaged sets have such rows, and of an .npz file "
            "without x_validation a tenth is taken"
        )
    arguments.check_finite(args.data, data)
    train, test = data.train, data.test
    if test is not None and args.test is not None:
        raise ValueError(f"argument --test: must be left out: {args.data} has test rows")
    if test is None:
        share = args.test or _SHARE
        labels = _labels(train[1]) if task in ("binary", "multiclass") else None
        rows = len(train[1])
        if not 0 < round(share * rows) < rows:
            raise ValueError(
                f"argument --data: {args.data} has too few rows: of {arguments.several(rows, 'row')} "
                f"beside those to tune by, a share of {share:g} is to judge by"
            )
        train, test = datasets.split(train, (None, share), stratify=labels, seed=args.seed)
        how = "" if labels is None else ", stratify=train[1]"
        reading += f"train, test = jd.datasets.split(train, (None, {share}){how}, seed={args.seed})\n"
    every = [part[1] for part in (train, data.validation, test)]
    outputs = every[0].shape[1] if every[0].ndim > 1 else 1
    if task == "binary" and max(int(y.max()) for y in every) > 1:
        raise ValueError("argument --task: binary targets are 0 and 1, and there are more classes")
    if task == "multiclass":
        outputs = max(2, 1 + max(int(y.max()) for y in every))
    notes = notes_of(every, outputs) if task == "multiclass" else []
    if task == "regression" and args.task is None and set(np.unique(every[0]).tolist()) == {-1, 1}:
        notes.append("targets of -1 and 1 are taken for numbers; write 0 and 1 for classes")
    return Data(train, data.validation, test, task, outputs, None, reading, {}, notes)


def notes_of(targets: list[np.ndarray], outputs: int) -> list[str]:
    """That labels are numbers of classes, where some have no rows."""
    if targets[0].ndim > 1:
        return []
    classes = np.unique(np.concatenate(targets))
    if len(classes) == outputs:
        return []
    return [f"the labels are numbers of classes, 0 to {outputs - 1}, of which {len(classes)} have rows"]


def _labels(y: np.ndarray) -> np.ndarray | None:
    """The labels that parts are drawn by, if each class has a row for both."""
    return y if np.unique(y, return_counts=True)[1].min() >= 2 else None


def _task_of(data: "Dataset", asked: str | None) -> str:
    """What targets of an ``.npz`` file look like."""
    ys = [part[1] for part in data if part is not None]
    y = np.concatenate(ys)
    is_binary = bool(((y == 0) | (y == 1)).all())
    if y.ndim > 1:
        one_hot = is_binary and bool((y.sum(axis=1) == 1).all())
        if one_hot or asked is not None:
            return "multiclass"
        return "multilabel" if is_binary else "regression"
    if asked is None and not is_binary and (y.dtype.kind == "f" or y.min() < 0):
        return "regression"
    return "binary" if is_binary else "multiclass"
