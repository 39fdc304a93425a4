"""``python -m jaxdeep train``: a network on a table, from a file of raw rows to a saved model."""

import argparse
import os
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import jaxdeep
from jaxdeep._quoted import quoted
from jaxdeep.cli import arguments, table_files

if TYPE_CHECKING:
    from jaxdeep.fitting.result import FitResult
    from jaxdeep.recipes.recipe import Recipe

_FILES = ("curves.png", "columns.txt", "results.json")
_RECIPES = ("textbook", "strong")


def add(commands: arguments.Commands) -> None:
    """Make the command known."""
    parser = arguments.command(
        commands, "train", _train, "train a network on a table and save it for raw rows"
    )
    parser.add_argument(
        "--data", required=True, metavar="FILE", help="table: .csv, .tsv, .csv.gz or .parquet"
    )
    parser.add_argument("--target", required=True, metavar="COLUMN", help="what is to be predicted")
    tasks = f"one of {', '.join(table_files.TASKS)} (default: what the target looks like)"
    parser.add_argument("--task", choices=table_files.TASKS, metavar="TASK", help=tasks)
    recipe = f"{' or '.join(_RECIPES)}, as of jd.nn.mlp (default: textbook)"
    parser.add_argument("--recipe", default="textbook", choices=_RECIPES, metavar="NAME", help=recipe)
    for name, purpose in (
        ("validation", "of which the best epoch is chosen"),
        ("test", "that is measured at the end; 0 for none"),
    ):
        parser.option(f"--{name}", 0.2, table_files.share, "SHARE", f"share of the rows {purpose}")
    table_files.add_columns(parser)
    for flag, type, metavar, meaning in (
        ("--epochs", arguments.count, "N", "passes over the data"),
        ("--batch-size", arguments.count, "B", "rows of a batch"),
        ("--learning-rate", arguments.positive, "RATE", "learning rate, or the highest"),
    ):
        parser.add_argument(flag, type=type, metavar=metavar, help=f"{meaning} (default: the recipe's)")
    arguments.add_seed(parser, "what parts, parameters and batches are drawn from")
    arguments.add_out(parser, "train")


def _train(args: argparse.Namespace, parser: arguments.Parser) -> int:
    """Train a network on a table, and save it with what it knows of the columns, so that
    `predict` takes raw rows. Kinds of columns (numbers, categories, booleans, dates) are found
    and shown, and so is the task. Rows are parted at random into those for training, for
    validation and for a test, classes in equal shares; levels, medians and ranges are those
    of the training rows. The best epoch on the validation rows is kept and measured on the
    test rows. Ctrl-C or SIGTERM ends training, and keeps the best epoch until then. Writes
    the model (model.json, arrays.safetensors), curves.png, columns.txt (what was found of the
    columns) and results.json to a new folder.

    Examples:
      python -m jaxdeep train --data people.csv --target income --out runs/people
      python -m jaxdeep train --data people.csv --target income --drop id --kinds zip=category
      python -m jaxdeep train --data houses.parquet --target price --recipe strong --epochs 64
    """
    if not args.validation:
        parser.error("argument --validation: must be above 0: the best epoch is chosen by these rows")
    if args.validation + args.test >= 1:
        parser.error("argument --test: must leave rows to train on beside those for validation")
    _check_new(args.out, parser)
    began = time.perf_counter()
    try:
        table = table_files.read(args)
        recipe = _recipe(args, table)
    except (ValueError, TypeError, OSError, ImportError) as error:
        parser.error(table_files.said(error))
    columns = table.columns
    print(table_files.in_words_of_the_command(columns.summary()))
    for note in table.notes:
        print(f"! {note}")
    rows = ", ".join(f"{len(y):,} for {name}" for name, (_, y) in table.parts.items())
    print(f"\ntask: {columns.task}; recipe: {args.recipe}; rows: {rows}\n", flush=True)
    arguments.make_out(args, parser, _FILES)  # before the work, of which nothing would be left
    # a CPU uses the memory of these arrays, which nobody changes; on others fit decides what is copied
    parts = jax.device_put(table.parts) if jax.default_backend() == "cpu" else table.parts
    try:
        result = jaxdeep.fit(
            data=parts["training"],
            validation=parts["validation"],
            key=jax.random.key(args.seed),
            **recipe.arguments(),
        )
    except BaseException as error:
        arguments.unmake(args.out)
        if not isinstance(error, FloatingPointError):
            raise
        print(f"{arguments.PROG} train: {arguments.one_line(error)}", file=sys.stderr)
        return 1
    if not len(result.history["loss"]):  # interrupted before an epoch was done
        arguments.unmake(args.out)
        raise KeyboardInterrupt
    measured = {name: _measured(result, name, parts[name]) for name in table.parts if name != "training"}
    try:
        jaxdeep.save(args.out, recipe.model, result.params, result.state)
        written = _write(args, table, result, measured, time.perf_counter() - began)
    except OSError as error:
        print(f"{arguments.PROG} train: {arguments.one_line(error)}", file=sys.stderr)
        return 1
    _print(table, result, measured)
    print(f"\nwrote the model and {', '.join(map(str, written))}")
    print(f"try it: python -m jaxdeep predict {args.out} new.csv --out predictions.csv")
    return 0


def _check_new(out: pathlib.Path, parser: arguments.Parser) -> None:
    """Refuse a folder in which there is something already."""
    try:
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:
        parser.error(f"argument --out: cannot read {out}: {error.strerror}")
    above = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    if not taken and not os.access(above, os.W_OK):
        parser.error(f"argument --out: cannot write to the folder {above}")
    if taken:
        parser.error(
            f"argument --out: {out} is there already and would be overwritten; name a new folder"
        )


def _recipe(args: argparse.Namespace, table: table_files.Table) -> "Recipe":
    from jaxdeep import nn

    columns, targets = table.columns, table.parts["training"][1]
    batch = args.batch_size
    if batch is None and args.recipe == "textbook" and len(targets) < 32:
        batch = len(targets)
    if batch is not None and batch > len(targets):
        raise ValueError(f"batch_size must be at most the {len(targets)} training rows, got {batch}")
    return nn.mlp(
        str(columns.task),
        columns,
        recipe=args.recipe,
        outputs=columns.outputs,
        targets=targets,
        epochs=args.epochs,
        batch_size=batch,
        learning_rate=args.learning_rate,
    )


def _measured(result: "FitResult", name: str, part: tuple[Any, Any]) -> dict[str, float]:
    """The metrics of the epoch that was kept; of the rows for validation `fit` has measured them."""
    if name == "validation" and (best := result.best_epoch) is not None:
        found = {key: values[best] for key, values in result.history.items()}
        of_part = {key.removeprefix("val_"): v for key, v in found.items() if key.startswith("val_")}
    else:
        of_part = result.evaluate(part)
    return {key: float(value) for key, value in of_part.items()}


def _write(
    args: argparse.Namespace,
    table: table_files.Table,
    result: "FitResult",
    measured: dict[str, dict[str, float]],
    seconds: float,
) -> list[pathlib.Path]:
    columns, history = table.columns, result.history
    picture, text, everything = (args.out / name for name in _FILES)
    text.write_text(columns.summary() + "\n", encoding="utf-8")
    names = ("data", "target", "recipe", "validation", "test", "epochs", "batch_size", "seed")
    about = arguments.about(args, *names)
    arguments.write_json(
        everything,
        {
            **about,
            "task": columns.task,
            "rows": {name: len(y) for name, (_, y) in table.parts.items()},
            "kinds": {column.name: column.kind for column in columns.features},
            "best_epoch": None if result.best_epoch is None else result.best_epoch + 1,
            "stopped": result.stopped,
            "seconds": seconds,
            "metrics": measured,
            "history": {name: np.asarray(values).tolist() for name, values in history.items()},
        },
    )
    second = "rmse" if columns.classes is None else "accuracy"
    shown = {"mean_loss": "loss", second: second}  # names of panels, which both curves share
    curves = {
        "training": {panel: history[name] for panel, name in shown.items()},
        "validation": {panel: history[f"val_{name}"] for panel, name in shown.items()},
    }
    drawn = arguments.write_picture(
        picture, "curves", curves, title=f"{args.target}, {args.recipe}", metrics=list(shown)
    )
    return [*drawn, text, everything]


def _print(table: table_files.Table, result: "FitResult", measured: dict[str, dict[str, float]]) -> None:
    import rich.table

    epochs = len(result.history["loss"])
    best = "" if result.best_epoch is None else f"epoch {result.best_epoch + 1} of {epochs} kept"
    target = "" if table.columns.target is None else repr(table.columns.target.name)
    shown = rich.table.Table(title=f"{target}, {table.columns.task}", caption=best)
    shown.add_column("metric")
    for name in measured:
        shown.add_column(f"{name}\n{len(table.parts[name][1]):,} rows", justify="right")
    for metric in next(iter(measured.values())):
        shown.add_row(metric, *(f"{values[metric]:.4g}" for values in measured.values()))
    arguments.console().print(shown)
    if "test" in measured:
        print(_without_inputs(table))


def _without_inputs(table: table_files.Table) -> str:
    """What who knows no inputs would reach on the test rows, for comparison."""
    (_, train), (_, test) = table.parts["training"], table.parts["test"]
    if table.columns.classes is None:
        error = np.sqrt(np.mean((test.astype(float) - train.mean(dtype=float)) ** 2))
        return f"for comparison: always the mean of the training rows has an rmse of {error:.4g}"
    usual = int(np.bincount(train).argmax())
    return (
        f"for comparison: always {quoted(table.columns.classes[usual])} has an accuracy of "
        f"{np.mean(test == usual):.4g}"
    )
