"""The command line: ``python -m jaxdeep compare …``."""

import argparse
import csv
import io
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

PROG = "jaxdeep"
_FILES = ("curves.png", "results.csv", "results.json")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, 2 for wrong arguments."""
    parser = _Parser(prog=PROG, description="Deep-network training in JAX, from the command line.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_compare(commands)
    args = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an ASCII terminal still gets its table
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print(f"{PROG}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _add_compare(commands: Any) -> None:
    parser = commands.add_parser(
        "compare",
        help="train the same network with several optimizers and show which wins",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Train three hidden layers of 100 ReLU units (He initialisation) with each optimizer.\n"
            "The seeds of one optimizer train side by side in one compiled program, and every\n"
            "optimizer starts from the same initial networks. Prints one table and writes\n"
            "curves.png, results.csv (the table) and results.json (every epoch of every seed)."
        ),
        epilog=(
            "examples:\n"
            "  python -m jaxdeep compare\n"
            "  python -m jaxdeep compare --optimizers sgd:0.1,adam,adam:0.01 --epochs 20\n"
            "  JAXDEEP_DATA=~/data python -m jaxdeep compare --data fashion-mnist --epochs 10\n"
            "  python -m jaxdeep compare --data mine.npz --seeds 5 --out runs/mine"
        ),
    )
    add = parser.add_argument
    add(
        "--data",
        default="digits",
        metavar="NAME",
        help="digits (comes with scikit-learn), fashion-mnist (from $JAXDEEP_DATA or downloaded), or "
        "FILE.npz with arrays x and y (default: digits)",
    )
    add(
        "--optimizers",
        default=",".join(_optimizers()),
        type=_parse_optimizers,
        metavar="LIST",
        help=f"comma-separated, of {', '.join(_optimizers())}; name:rate gives one its own learning "
        "rate (default: all)",
    )
    add(
        "--learning-rate",
        default=1e-3,
        type=_positive,
        metavar="RATE",
        help="learning rate of those without their own (default: 0.001)",
    )
    add("--epochs", default=10, type=_count, metavar="N", help="passes over the data (default: 10)")
    add("--batch-size", default=32, type=_count, metavar="B", help="rows of a batch (default: 32)")
    add("--seeds", default=3, type=_count, metavar="S", help="networks an optimizer (default: 3)")
    add(
        "--seed",
        default=0,
        type=_seed,
        metavar="K",
        help="what the seeds are drawn from (default: 0)",
    )
    add(
        "--out",
        default=pathlib.Path("runs/compare"),
        type=pathlib.Path,
        metavar="DIR",
        help="folder for the results, made if missing (default: runs/compare)",
    )
    parser.set_defaults(run=lambda args: _compare(args, parser))


def _optimizers() -> dict[str, Callable[[float], Any]]:
    from jaxdeep import optimizers

    return {
        "sgd": optimizers.sgd,
        "momentum": lambda rate: optimizers.sgd(rate, momentum=0.9),
        "nag": lambda rate: optimizers.nag(rate, momentum=0.9),
        "adam": optimizers.adam,
    }


def _parse_optimizers(text: str) -> dict[str, tuple[str, float | None]]:
    chosen: dict[str, tuple[str, float | None]] = {}
    for label in text.split(","):
        name, colon, rate = label.strip().partition(":")
        if name not in _optimizers():
            raise argparse.ArgumentTypeError(
                f"unknown optimizer {name!r}, choose from {', '.join(_optimizers())}"
            )
        if label.strip() in chosen:
            raise argparse.ArgumentTypeError(f"{label.strip()!r} is named twice")
        chosen[label.strip()] = name, _rate(label.strip(), rate) if colon else None
    return chosen


def _rate(label: str, text: str) -> float:
    try:
        return _positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"the rate of {label!r} {error}") from None


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"must be a whole number in [0, 2**32), got {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return value


def _compare(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from jaxdeep import datasets

    try:
        data = datasets.load(args.data)
    except (ValueError, OSError, ImportError) as error:
        parser.error(f"argument --data: {error}")
    if args.batch_size > len(data.train[1]):
        parser.error(
            f"argument --batch-size: must be at most the {len(data.train[1])} training rows, got "
            f"{args.batch_size}"
        )
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --out: cannot make the folder {args.out}: {error.strerror}")
    for path in (args.out, *(args.out / name for name in _FILES)):
        if (path.exists() and not os.access(path, os.W_OK)) or (path != args.out and path.is_dir()):
            parser.error(f"argument --out: cannot write {path}")
    results = {
        label: _train(name, rate or args.learning_rate, data, args, label)
        for label, (name, rate) in args.optimizers.items()
    }
    written = _write(results, args)
    _print_table(results, args)
    print(f"\nwrote {', '.join(str(path) for path in written)}")
    return 0


def _network(classes: int) -> Any:
    import jax

    from jaxdeep import nn

    def hidden() -> Any:
        return nn.dense(100, activation=jax.nn.relu, kernel_init=nn.initializers.he_normal())

    return nn.serial(
        flatten=nn.flatten(),
        hidden1=hidden(),
        hidden2=hidden(),
        hidden3=hidden(),
        logits=nn.dense(classes),
    )


def _train(name: str, rate: float, data: Any, args: argparse.Namespace, label: str) -> dict[str, Any]:
    """Train one optimizer's networks, stacked, and measure."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxdeep import losses, metrics, train
    from jaxdeep.train.compiled import compiled
    from jaxdeep.train.progress import compiling, ordered, reporting

    classes = 1 + int(max(data.train[1].max(), data.validation[1].max()))
    model = _network(classes)
    optimizer = _optimizers()[name](rate)
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
        "val_accuracy_sd": float(accuracy[:, -1].std(ddof=1)) if args.seeds > 1 else None,
        "best_epoch": int(accuracy.mean(axis=0).argmax()) + 1,
        "seconds": time.perf_counter() - ready,
        "compile_seconds": ready - began,
        "us_per_step": 1e6 * float(np.median(epoch_seconds)) / (steps * args.seeds),
        "history": {key: value.tolist() for key, value in history.items()},
    }


def _several(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _print_table(results: dict[str, dict[str, Any]], args: argparse.Namespace) -> None:
    import rich.console
    import rich.table

    table = rich.table.Table(
        title=f"{args.data}: {_several(args.epochs, 'epoch')}, batch {args.batch_size}, "
        f"{_several(args.seeds, 'seed')}",
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
            + (f" ± {row['val_accuracy_sd']:.4f}" if args.seeds > 1 else ""),
            str(row["best_epoch"]),
            f"{row['seconds']:.1f}",
            f"{row['us_per_step']:.0f}",
            style="bold" if label == winner else None,
        )
    console = rich.console.Console(markup=False, emoji=False)
    console.width = max(console.width, 80) if console.is_terminal else 100
    console.print(table)


def _plain(value: Any) -> Any:
    """The value with null where JSON has no number: a diverged run is not finite."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(results: dict[str, dict[str, Any]], args: argparse.Namespace) -> list[pathlib.Path]:
    import jax

    import jaxdeep

    device = jax.devices()[0]
    about = {
        "data": args.data,
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "seeds": args.seeds,
        "seed": args.seed,
        "device": f"{device.platform} ({device.device_kind})",
        "jaxdeep": jaxdeep.__version__,
        "jax": jax.__version__,
    }
    picture, table, everything = (args.out / name for name in _FILES)
    everything.write_text(json.dumps(_plain({**about, "optimizers": results}), indent=1) + "\n")
    with table.open("w", newline="") as file:
        columns = [name for name in next(iter(results.values())) if name != "history"]
        writer = csv.writer(file)
        writer.writerow(["optimizer", *columns])
        writer.writerows([label, *(row[name] for name in columns)] for label, row in results.items())
    try:
        from jaxdeep import plotting

        figure = plotting.curves(
            {label: row["history"] for label, row in results.items()},
            title=f"{args.data}, {_several(args.seeds, 'seed')}",
        )
    except ImportError as error:
        print(f"no picture: {error}", file=sys.stderr)
        return [table, everything]
    figure.savefig(picture, dpi=150)
    return [picture, table, everything]


if __name__ == "__main__":
    sys.exit(main())
