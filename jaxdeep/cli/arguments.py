"""What the commands share: types of arguments, checks before the work, what is written."""

import argparse
import contextlib
import inspect
import json
import math
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import jax
import numpy as np
import optax

import jaxdeep
from jaxdeep import _checks

if TYPE_CHECKING:
    from rich.console import Console

    from jaxdeep.datasets import Dataset

PROG = "jaxdeep"
_DTYPES = ("float32", "float16", "bfloat16", "int32")  # of an input

Optimizers = Mapping[str, Callable[[float], optax.GradientTransformation]]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong; status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def option(
        self, flag: str, default: object, type: Callable[[str], object], metavar: str, help: str
    ) -> None:
        """An argument with a default, which its help tells."""
        shown = f"{default:g}" if isinstance(default, float) else default
        help = f"{help} (default: {shown})"
        self.add_argument(flag, default=default, type=type, metavar=metavar, help=help)


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace, Parser], int],
    help: str,
) -> Parser:
    """A command's parser.

    `run` gets the arguments, and the parser for errors. Its docstring is what ``--help`` says, with
    examples at the end.
    """
    description, _, examples = inspect.cleandoc(run.__doc__ or "").partition("Examples:\n")
    parser = commands.add_parser(
        name,
        help=help,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=description.strip(),
        epilog="examples:\n" + examples,
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


def add_data(parser: Parser, purpose: str = "") -> None:
    """``--data``."""
    sets = (
        "digits (comes with scikit-learn), fashion-mnist (from $JAXDEEP_DATA or downloaded), or "
        "FILE.npz with arrays x and y"
    )
    parser.option("--data", "digits", str, "NAME", purpose + sets)


def add_input(parser: Parser, model: str) -> None:
    """``--input``, ``--dtype``."""
    help = f"shape of one input of {model}, as in 28,28,1, instead of --data"
    parser.add_argument("--input", type=shape, metavar="SHAPE", help=help)
    help = f"of that input: {', '.join(_DTYPES)} (default: float32)"
    parser.add_argument("--dtype", choices=_DTYPES, help=help, metavar="DTYPE")


def input_of(args: argparse.Namespace) -> jax.ShapeDtypeStruct:
    """What ``--input`` and ``--dtype`` say."""
    return jax.ShapeDtypeStruct((1, *args.input), args.dtype or "float32")


def add_epochs(parser: Parser, epochs: int) -> None:
    """``--epochs``."""
    parser.option("--epochs", epochs, count, "N", "passes over the data")


def add_batch_size(parser: Parser) -> None:
    """``--batch-size``."""
    parser.option("--batch-size", 32, count, "B", "rows of a batch")


def add_seeds(parser: Parser, help: str) -> None:
    """``--seeds``, ``--seed``."""
    parser.option("--seeds", 3, count, "S", help)
    add_seed(parser, "what the seeds are drawn from")


def add_seed(parser: Parser, help: str) -> None:
    """``--seed``."""
    parser.option("--seed", 0, seed, "K", help)


def add_learning_rate(parser: Parser, help: str) -> None:
    """``--learning-rate``."""
    parser.option("--learning-rate", 1e-3, positive, "RATE", help)


def add_optimizer(parser: Parser) -> None:
    """``--optimizer``, one of those known by name."""
    parser.option("--optimizer", "adam", optimizer, "NAME", f"one of {', '.join(optimizers())}")


def add_out(parser: Parser, name: str) -> None:
    """``--out``."""
    folder = pathlib.Path(f"runs/{name}")
    parser.option("--out", folder, pathlib.Path, "DIR", "folder for the results, made if missing")


def optimizers() -> Optimizers:
    """The optimizers that are known by name, as functions of their learning rate."""
    from jaxdeep import optimizers

    first = {
        "sgd": optimizers.sgd,
        "momentum": lambda rate: optimizers.sgd(rate, momentum=0.9),
        "nag": optimizers.nag,
        "adam": optimizers.adam,
    }
    return first | optimizers.factories(with_learning_rate=True)


def optimizer(name: str) -> str:
    """The name of an optimizer."""
    known = optimizers()
    if name not in known:
        raise argparse.ArgumentTypeError(f"unknown optimizer {name!r}, choose from {', '.join(known)}")
    return name


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def shape(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    try:
        return tuple(count(size.strip()) for size in text.split(","))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be whole numbers of at least 1 with commas between them, got {text!r}"
        ) from None


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


def load_data(args: argparse.Namespace, parser: Parser) -> "Dataset":
    """The data set that the arguments name."""
    from jaxdeep import datasets

    try:
        data = datasets.load(args.data)
    except (ValueError, OSError, ImportError) as error:
        parser.error(f"argument --data: {str(error).removeprefix('name ')}")
    try:
        check_finite(args.data, data)
    except ValueError as error:
        parser.error(str(error))
    if getattr(args, "batch_size", 1) > len(data.train[1]):
        parser.error(
            f"argument --batch-size: must be at most the {len(data.train[1])} training rows, got "
            f"{args.batch_size}"
        )
    return data


def check_finite(name: str, data: "Dataset") -> None:
    """Refuse inputs that are not finite."""
    for part, pair in data._asdict().items():
        if pair is not None and (odd := ~np.isfinite(pair[0])).any():
            rows = odd.reshape(len(odd), -1).any(axis=1).sum()
            raise ValueError(
                f"argument --data: {name}: the inputs x must be finite, and {rows} of the {len(odd)} "
                f"{part} rows hold NaN, or numbers beyond float32; fill them or leave these rows out"
            )


def make_out(args: argparse.Namespace, parser: Parser, files: Sequence[str]) -> None:
    """Make the folder for the results, and see that these files can be written there."""
    try:
        _checks.check_local_path("argument --out:", args.out)
    except ValueError as error:
        parser.error(str(error))
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --out: cannot make the folder {args.out}: {error.strerror}")
    if _RESULTS in files:
        _check_own_results(args, parser)
    for path in (args.out, *(args.out / name for name in files)):
        if (path.exists() and not os.access(path, os.W_OK)) or (path != args.out and path.is_dir()):
            parser.error(f"argument --out: cannot write {path}")


_RESULTS = "results.json"
# An entry of that file for each command that writes one, which the others do not write.
_TELLING = {"train": "best_epoch", "compare": "verdict", "uncertainty": "temperatures"}


def _check_own_results(args: argparse.Namespace, parser: Parser) -> None:
    """Refuse a folder with the results of another command, which would be overwritten."""
    file, held = args.out / _RESULTS, None
    is_compared = (args.out / "runs" / "asked.json").exists()  # maybe without results so far
    if file.is_file():
        with contextlib.suppress(OSError, ValueError):
            held = json.loads(file.read_text(encoding="utf-8"))
    entries = held if isinstance(held, dict) else {}
    usual = "compare" if is_compared else ""
    whose = next((name for name, entry in _TELLING.items() if entry in entries), usual)
    if (whose or file.is_file()) and whose != args.command:
        of = f"the results of {whose}" if whose else f"a {_RESULTS} that is not of {args.command}"
        parser.error(
            f"argument --out: {args.out} holds {of}, which would be overwritten; name another folder"
        )


def unmake(*folders: pathlib.Path) -> None:
    """Take folders away again, those that nothing is in."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def one_line(error: BaseException) -> str:
    """The message of an error on one line."""
    return " ".join(str(error).split())


# --- what is shown and written --------------------------------------------------------------------


def console() -> "Console":
    """Where tables are printed: as wide as the terminal, but not too narrow for them."""
    import rich.console

    rich_console = rich.console.Console(markup=False, emoji=False)
    rich_console.width = max(rich_console.width, 80) if rich_console.is_terminal else 100
    return rich_console


def several(number: int, noun: str) -> str:
    """``1 seed``, ``2 seeds``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def about(args: argparse.Namespace, *names: str) -> dict[str, object]:
    """These arguments, the device and the versions."""
    device = jax.devices()[0]
    return {
        **{name: getattr(args, name) for name in names},
        "device": f"{device.platform} ({device.device_kind})",
        "jaxdeep": jaxdeep.__version__,
        "jax": jax.__version__,
    }


def write_json(path: pathlib.Path, value: Mapping[str, object]) -> None:
    """Write JSON, with null where it has no number."""
    path.write_text(json.dumps(_plain(value), indent=1) + "\n")


def _plain(value: object) -> object:
    """The value with null where JSON has no number: a diverged run is not finite."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_picture(
    path: pathlib.Path, plot: str, *results: object, title: str, **options: object
) -> list[pathlib.Path]:
    """Write the figure that a function of `jaxdeep.plotting` draws; nothing without matplotlib."""
    from jaxdeep import plotting

    try:
        figure = getattr(plotting, plot)(*results, title=title, **options)
    except ImportError as error:
        print(f"no picture: {error}", file=sys.stderr)
        return []
    figure.savefig(path, dpi=150)
    return [path]
