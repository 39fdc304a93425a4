"""``python -m jaxdeep compare``: the same network with several optimizers."""

import argparse
import csv
import pathlib
import time
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxdeep._compilation import meant_transfers
from jaxdeep.cli import arguments
from jaxdeep.cli.networks import classes_of, network

if TYPE_CHECKING:
    from jaxdeep.datasets import Dataset

Row = dict[str, Any]  # of the table and the files: what was measured of an optimizer, by name

_FILES = ("curves.png", "results.csv", "results.json")
_HISTORY = ("loss", "accuracy", "val_loss", "val_accuracy")


def add(commands: arguments.Commands) -> None:
    """Make the command known."""
    parser = arguments.command(
        commands,
        "compare",
        _compare,
        "train the same network with several optimizers and show which wins",
    )
    known = arguments.optimizers()
    arguments.add_data(parser)
    parser.add_argument(
        "--optimizers",
        default=",".join(known),
        type=_parse_optimizers,
        metavar="LIST",
        help=f"comma-separated, of {', '.join(known)}; name:rate gives one its own learning rate "
        "(default: all)",
    )
    arguments.add_learning_rate(parser, "learning rate of those without their own")
    arguments.add_epochs(parser, 10)
    arguments.add_batch_size(parser)
    arguments.add_seeds(parser, "networks an optimizer")
    arguments.add_out(parser, "compare")


def _parse_optimizers(text: str) -> dict[str, tuple[str, float | None]]:
    chosen: dict[str, tuple[str, float | None]] = {}
    for label in map(str.strip, text.split(",")):
        name, colon, rate = label.partition(":")
        if label in chosen:
            raise argparse.ArgumentTypeError(f"{label!r} is named twice")
        chosen[label] = arguments.optimizer(name), _rate(label, rate) if colon else None
    return chosen


def _rate(label: str, text: str) -> float:
    try:
        return arguments.positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"the rate of {label!r} {error}") from None


def _compare(args: argparse.Namespace, parser: arguments.Parser) -> int:
    """Train three hidden layers of 100 ReLU units (He initialisation) with each optimizer.
    The seeds of one optimizer share one compiled program, and every optimizer starts from
    the same initial networks. Prints one table and writes curves.png, results.csv (the
    table) and results.json (every epoch of every seed). Ctrl-C shows and writes what the
    optimizers did that were trained until then.

    Examples:
      python -m jaxdeep compare
      python -m jaxdeep compare --optimizers sgd:0.1,adam,adam:0.01 --epochs 20
      JAXDEEP_DATA=~/data python -m jaxdeep compare --data fashion-mnist --epochs 10
      python -m jaxdeep compare --data mine.npz --seeds 5 --out runs/mine
    """
    data = arguments.load_data(args, parser)
    arguments.make_out(args, parser, _FILES)
    results: dict[str, Row] = {}
    for label, (name, rate) in args.optimizers.items():
        try:
            results[label] = _train(name, rate or args.learning_rate, data, args, label)
        except KeyboardInterrupt:
            if not results:
                raise
            kept = f"{len(results)} of {len(args.optimizers)} optimizers"
            arguments.console().print(f"interrupted: {kept} were trained, and are shown")
            break
    written = _write(results, args)
    _print_table(results, args)
    print(f"\nwrote {', '.join(str(path) for path in written)}")
    return 0


@meant_transfers()
def _train(name: str, rate: float, data: "Dataset", args: argparse.Namespace, label: str) -> Row:
    """Train one optimizer's networks, and measure."""
    from jaxdeep import losses, metrics, sweep

    optimizer = arguments.optimizers()[name]
    arguments.console().print(f"{label}: learning rate {rate:g}")
    began = time.perf_counter()
    table = sweep(
        lambda point: optimizer(point["learning_rate"]),
        {"learning_rate": [rate]},
        seeds=args.seeds,
        key=jax.random.key(args.seed),
        model=network(classes_of(data)),
        data=data.train,
        validation=data.validation,
        loss=losses.softmax_cross_entropy,
        metrics={"accuracy": metrics.accuracy},
        epochs=args.epochs,
        batch_size=args.batch_size,
        on_nonfinite="ignore",  # a network that diverged has as many epochs as the others
    )
    if len(table) < args.seeds or any(result.ended == "interrupted" for result in table.results):
        raise KeyboardInterrupt  # an optimizer is compared with all of its epochs, or not at all
    seconds = time.perf_counter() - began
    history = {name: np.stack([result.history[name] for result in table.results]) for name in _HISTORY}
    accuracy = history["val_accuracy"]
    return {
        "learning_rate": rate,
        "final_loss": float(history["loss"][:, -1].mean()),
        "val_accuracy": float(accuracy[:, -1].mean()),
        "val_accuracy_std": float(accuracy[:, -1].std(ddof=1)) if args.seeds > 1 else None,
        "best_epoch": int(accuracy.mean(axis=0).argmax()) + 1,
        "seconds": seconds,
        "history": {name: values.tolist() for name, values in history.items()},
    }


def _print_table(results: dict[str, Row], args: argparse.Namespace) -> None:
    import rich.table

    table = rich.table.Table(
        title=f"{args.data}: {arguments.several(args.epochs, 'epoch')}, batch {args.batch_size}, "
        f"{arguments.several(args.seeds, 'seed')}",
        caption="accuracy: last epoch, mean ± standard deviation over the seeds\n"
        "seconds: all seeds, compiling included",
    )
    table.add_column("optimizer")
    for column in ("rate", "training\nloss", "validation\naccuracy", "best\nepoch", "seconds"):
        table.add_column(column, justify="right")
    winner = max(results, key=lambda label: results[label]["val_accuracy"])
    for label, row in results.items():
        table.add_row(
            label,
            f"{row['learning_rate']:g}",
            f"{row['final_loss']:.4f}",
            f"{row['val_accuracy']:.4f}"
            + (f" ± {row['val_accuracy_std']:.4f}" if args.seeds > 1 else ""),
            str(row["best_epoch"]),
            f"{row['seconds']:.1f}",
            style="bold" if label == winner else None,
        )
    arguments.console().print(table)


def _write(results: dict[str, Row], args: argparse.Namespace) -> list[pathlib.Path]:
    about = arguments.about(args, "data", "epochs", "batch_size", "seeds", "seed")
    picture, table, everything = (args.out / name for name in _FILES)
    arguments.write_json(everything, {**about, "optimizers": results})
    with table.open("w", newline="") as file:
        columns = [name for name in next(iter(results.values())) if name != "history"]
        writer = csv.writer(file)
        writer.writerow(["optimizer", *columns])
        writer.writerows([label, *(row[name] for name in columns)] for label, row in results.items())
    histories = {label: row["history"] for label, row in results.items()}
    title = f"{args.data}, {arguments.several(args.seeds, 'seed')}"
    drawn = arguments.write_picture(picture, "curves", histories, title=title)
    return [*drawn, table, everything]
