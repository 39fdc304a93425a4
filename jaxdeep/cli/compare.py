"""``python -m jaxdeep compare``: the same network with several optimizers."""

import argparse
import csv
import pathlib
import time
from typing import Any

from jaxdeep.cli import arguments
from jaxdeep.cli.networks import classes_of, network

_FILES = ("curves.png", "results.csv", "results.json")


def add(commands: Any) -> None:
    """Make the command known."""
    parser = arguments.command(
        commands,
        "compare",
        _compare,
        help="train the same network with several optimizers and show which wins",
        description=(
            "Train three hidden layers of 100 ReLU units (He initialisation) with each optimizer.\n"
            "The seeds of one optimizer train side by side in one compiled program, and every\n"
            "optimizer starts from the same initial networks. Prints one table and writes\n"
            "curves.png, results.csv (the table) and results.json (every epoch of every seed)."
        ),
        examples=(
            "python -m jaxdeep compare",
            "python -m jaxdeep compare --optimizers sgd:0.1,adam,adam:0.01 --epochs 20",
            "JAXDEEP_DATA=~/data python -m jaxdeep compare --data fashion-mnist --epochs 10",
            "python -m jaxdeep compare --data mine.npz --seeds 5 --out runs/mine",
        ),
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
    parser.add_argument(
        "--learning-rate",
        default=1e-3,
        type=arguments.positive,
        metavar="RATE",
        help="learning rate of those without their own (default: 0.001)",
    )
    arguments.add_epochs(parser, 10)
    arguments.add_batch_size(parser)
    arguments.add_seeds(parser, "networks an optimizer")
    arguments.add_out(parser, "compare")


def _parse_optimizers(text: str) -> dict[str, tuple[str, float | None]]:
    chosen: dict[str, tuple[str, float | None]] = {}
    for label in text.split(","):
        name, colon, rate = label.strip().partition(":")
        if name not in arguments.optimizers():
            raise argparse.ArgumentTypeError(
                f"unknown optimizer {name!r}, choose from {', '.join(arguments.optimizers())}"
            )
        if label.strip() in chosen:
            raise argparse.ArgumentTypeError(f"{label.strip()!r} is named twice")
        chosen[label.strip()] = name, _rate(label.strip(), rate) if colon else None
    return chosen


def _rate(label: str, text: str) -> float:
    try:
        return arguments.positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"the rate of {label!r} {error}") from None


def _compare(args: argparse.Namespace, parser: arguments.Parser) -> int:
    data = arguments.load_data(args, parser)
    arguments.make_out(args, parser, _FILES)
    results = {
        label: _train(name, rate or args.learning_rate, data, args, label)
        for label, (name, rate) in args.optimizers.items()
    }
    written = _write(results, args)
    _print_table(results, args)
    print(f"\nwrote {', '.join(str(path) for path in written)}")
    return 0


def _train(name: str, rate: float, data: Any, args: argparse.Namespace, label: str) -> dict[str, Any]:
    """Train one optimizer's networks, stacked, and measure."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxdeep import losses, metrics, train
    from jaxdeep._compilation import compiled
    from jaxdeep.fitting.progress import compiling, ordered, reporting

    model = network(classes_of(data))
    optimizer = arguments.optimizers()[name](rate)
    objective = train.supervised(
        model, losses.softmax_cross_entropy, metrics={"accuracy": metrics.accuracy}
    )
    epoch = train.make_epoch(train.make_step(objective, optimizer), batch_size=args.batch_size)
    evaluate = train.make_evaluate(objective, batch_size=1_000)

    training, validation = jax.tree.map(jnp.asarray, (data.train, data.validation))
    keys = jax.random.split(jax.random.key(args.seed), args.seeds)
    began = time.perf_counter()
    with compiling(show=True):
        ts = jax.vmap(lambda key: train.init(model, optimizer, training[0][:1], key=key))(keys)
        run_epoch = compiled(jax.vmap(epoch, in_axes=(0, None)), ts, training, donate_argnums=0)
        run_evaluate = compiled(
            jax.vmap(evaluate, in_axes=(0, 0, None)), ts.params, ts.state, validation
        )
        jax.block_until_ready(ts)
    ready = time.perf_counter()

    steps = -(-len(training[1]) // args.batch_size)
    rows, epoch_seconds = [], []
    with reporting(args.epochs, steps, show=True, title=label) as report:
        for done in range(1, args.epochs + 1):
            epoch_began = time.perf_counter()
            ts, values = jax.block_until_ready(run_epoch(ts, training))
            epoch_seconds.append(time.perf_counter() - epoch_began)
            found = run_evaluate(ts.params, ts.state, validation)
            values = jax.device_get(values | {f"val_{key}": value for key, value in found.items()})
            rows.append(ordered(values))
            report(done, {key: float(np.mean(value)) for key, value in values.items()})
    history = {key: np.stack([row[key] for row in rows], axis=1) for key in rows[0]}
    accuracy = history["val_accuracy"]
    return {
        "learning_rate": rate,
        "final_loss": float(history["loss"][:, -1].mean()),
        "val_accuracy": float(accuracy[:, -1].mean()),
        "val_accuracy_std": float(accuracy[:, -1].std(ddof=1)) if args.seeds > 1 else None,
        "best_epoch": int(accuracy.mean(axis=0).argmax()) + 1,
        "seconds": time.perf_counter() - ready,
        "compile_seconds": ready - began,
        "us_per_step": 1e6 * float(np.median(epoch_seconds)) / (steps * args.seeds),
        "history": {key: value.tolist() for key, value in history.items()},
    }


def _print_table(results: dict[str, dict[str, Any]], args: argparse.Namespace) -> None:
    import rich.table

    table = rich.table.Table(
        title=f"{args.data}: {arguments.several(args.epochs, 'epoch')}, batch {args.batch_size}, "
        f"{arguments.several(args.seeds, 'seed')}",
        caption="accuracy: last epoch, mean ± standard deviation over the seeds\n"
        "seconds: all seeds, after compiling; µs/step: training alone, one network, median epoch",
    )
    table.add_column("optimizer")
    for column in (
        "rate",
        "training\nloss",
        "validation\naccuracy",
        "best\nepoch",
        "seconds",
        "µs/step",
    ):
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
            f"{row['us_per_step']:.0f}",
            style="bold" if label == winner else None,
        )
    arguments.console().print(table)


def _write(results: dict[str, dict[str, Any]], args: argparse.Namespace) -> list[pathlib.Path]:
    about = arguments.about(args, "data", "epochs", "batch_size", "seeds", "seed")
    picture, table, everything = (args.out / name for name in _FILES)
    arguments.write_json(everything, {**about, "optimizers": results})
    with table.open("w", newline="") as file:
        columns = [name for name in next(iter(results.values())) if name != "history"]
        writer = csv.writer(file)
        writer.writerow(["optimizer", *columns])
        writer.writerows([label, *(row[name] for name in columns)] for label, row in results.items())
    drawn = arguments.write_picture(
        picture,
        lambda plotting: plotting.curves(
            {label: row["history"] for label, row in results.items()},
            title=f"{args.data}, {arguments.several(args.seeds, 'seed')}",
        ),
    )
    return [*drawn, table, everything]
