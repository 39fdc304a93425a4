"""What the commands share: types of arguments, checks before the work, what is written."""

import argparse
import json
import math
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

PROG = "jaxdeep"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong; status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace, Parser], int],
    *,
    help: str,
    description: str,
    examples: Sequence[str],
) -> Parser:
    """A command's parser; `run` gets its arguments and the parser, for errors."""
    parser: Parser = commands.add_parser(
        name,
        help=help,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=description,
        epilog="\n".join(["examples:", *(f"  {example}" for example in examples)]),
    )
    parser.add_argument(
        "--no-cache",
        dest="cache",
        action="store_false",
        help="compile everything anew, and do not keep it in the user's cache for the next time",
    )
    parser.set_defaults(run=lambda args: run(args, parser))
    return parser


# --- arguments of several commands ----------------------------------------------------------------


def add_data(parser: Parser, what: str = "") -> None:
    """``--data``."""
    parser.add_argument(
        "--data",
        default="digits",
        metavar="NAME",
        help=f"{what}digits (comes with scikit-learn), fashion-mnist (from $JAXDEEP_DATA or "
        "downloaded), or FILE.npz with arrays x and y (default: digits)",
    )


def add_epochs(parser: Parser, epochs: int) -> None:
    """``--epochs``."""
    parser.add_argument(
        "--epochs",
        default=epochs,
        type=count,
        metavar="N",
        help=f"passes over the data (default: {epochs})",
    )


def add_batch_size(parser: Parser) -> None:
    """``--batch-size``."""
    parser.add_argument(
        "--batch-size", default=32, type=count, metavar="B", help="rows of a batch (default: 32)"
    )


def add_seeds(parser: Parser, what: str) -> None:
    """``--seeds``, ``--seed``."""
    parser.add_argument("--seeds", default=3, type=count, metavar="S", help=f"{what} (default: 3)")
    add_seed(parser, "what the seeds are drawn from")


def add_seed(parser: Parser, what: str) -> None:
    """``--seed``."""
    parser.add_argument("--seed", default=0, type=seed, metavar="K", help=f"{what} (default: 0)")


def add_optimizer(parser: Parser) -> None:
    """``--optimizer``, one of those known by name."""
    known = optimizers()

    def name(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(
                f"unknown optimizer {text!r}, choose from {', '.join(known)}"
            )
        return text

    parser.add_argument(
        "--optimizer",
        default="adam",
        type=name,
        metavar="NAME",
        help=f"one of {', '.join(known)} (default: adam)",
    )


def add_out(parser: Parser, name: str) -> None:
    """``--out``."""
    parser.add_argument(
        "--out",
        default=pathlib.Path(f"runs/{name}"),
        type=pathlib.Path,
        metavar="DIR",
        help=f"folder for the results, made if missing (default: runs/{name})",
    )


def optimizers() -> dict[str, Callable[[float], Any]]:
    """The optimizers that are known by name, as functions of their learning rate."""
    from jaxdeep import optimizers

    first = {
        "sgd": optimizers.sgd,
        "momentum": lambda rate: optimizers.sgd(rate, momentum=0.9),
        "nag": optimizers.nag,
        "adam": optimizers.adam,
    }
    return first | optimizers.factories(with_learning_rate=True)


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """A whole number that a random key is made of."""
    if not text.isascii() or not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"must be a whole number in [0, 2**32), got {text!r}")
    return int(text)


def positive(text: str) -> float:
    """A positive number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return value


# --- checks before the work -----------------------------------------------------------------------


def load_data(args: argparse.Namespace, parser: Parser) -> Any:
    """The data set that the arguments name."""
    from jaxdeep import datasets

    try:
        data = datasets.load(args.data)
    except (ValueError, OSError, ImportError) as error:
        parser.error(f"argument --data: {error}")
    if getattr(args, "batch_size", 1) > len(data.train[1]):
        parser.error(
            f"argument --batch-size: must be at most the {len(data.train[1])} training rows, got "
            f"{args.batch_size}"
        )
    return data


def make_out(args: argparse.Namespace, parser: Parser, files: Sequence[str]) -> None:
    """Make the folder for the results, and see that these files can be written there."""
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --out: cannot make the folder {args.out}: {error.strerror}")
    for path in (args.out, *(args.out / name for name in files)):
        if (path.exists() and not os.access(path, os.W_OK)) or (path != args.out and path.is_dir()):
            parser.error(f"argument --out: cannot write {path}")


def one_line(error: BaseException) -> str:
    """The message of an error on one line."""
    return " ".join(str(error).split())


# --- what is shown and written --------------------------------------------------------------------


def console() -> Any:
    """Where tables are printed: as wide as the terminal, but not too narrow for them."""
    import rich.console

    found = rich.console.Console(markup=False, emoji=False)
    found.width = max(found.width, 80) if found.is_terminal else 100
    return found


def several(number: int, what: str) -> str:
    """``1 seed``, ``2 seeds``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def about(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """These arguments, the device and the versions."""
    import jax

    import jaxdeep

    device = jax.devices()[0]
    return {
        **{name: getattr(args, name) for name in names},
        "device": f"{device.platform} ({device.device_kind})",
        "jaxdeep": jaxdeep.__version__,
        "jax": jax.__version__,
    }


def write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    """Write JSON, with null where it has no number."""
    path.write_text(json.dumps(_plain(value), indent=1) + "\n")


def _plain(value: Any) -> Any:
    """The value with null where JSON has no number: a diverged run is not finite."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_picture(path: pathlib.Path, draw: Callable[[Any], Any]) -> list[pathlib.Path]:
    """Write the figure that ``draw(jaxdeep.plotting)`` returns; nothing without matplotlib."""
    try:
        from jaxdeep import plotting

        figure = draw(plotting)
    except ImportError as error:
        print(f"no picture: {error}", file=sys.stderr)
        return []
    figure.savefig(path, dpi=150)
    return [path]
