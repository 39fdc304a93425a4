"""``python -m jaxdeep compare``: which optimizer is best on these data, and how sure that is."""

import argparse
import pathlib
import shlex
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

import jaxdeep
from jaxdeep._extras import needed
from jaxdeep.cli import arguments, functions, networks
from jaxdeep.cli.comparing import asked, candidates
from jaxdeep.cli.comparing import data as read_data
from jaxdeep.cli.comparing.best_script import best_script
from jaxdeep.cli.comparing.data import Data
from jaxdeep.cli.comparing.errors import said
from jaxdeep.cli.comparing.question import Question, question_of
from jaxdeep.comparison import catalogue
from jaxdeep.comparison.schedule import NAMES
from jaxdeep.fitting.progress import clock

if TYPE_CHECKING:
    from jaxdeep.comparison import Comparison

_FILES = ("results.json", "trials.csv", "report.html", "best.py", "rows.npz")
_USUAL = {"epochs": 10, "budget": 16, "seeds": 10}
_QUICK = {"epochs": 5, "budget": 4, "seeds": 6}


def add(commands: arguments.Commands) -> None:
    """Make the command known."""
    summary = "tune optimizers with equal budgets, and say which is best and how sure that is"
    parser = arguments.command(commands, "compare", _compare, summary)
    read_data.add(parser)
    _add_candidates(parser)
    for flag, (parse, metavar, help) in networks.FLAGS.items():
        parser.add_argument(f"--{flag}", type=parse, metavar=metavar, help=help)
    help = "the network and loss of jd.nn.mlp instead: textbook or strong"
    parser.add_argument("--recipe", choices=("textbook", "strong"), metavar="NAME", help=help)
    _add_protocol(parser)
    arguments.add_out(parser, "compare")


def _add_candidates(parser: arguments.Parser) -> None:
    known, usual = ", ".join(catalogue.names()), ", ".join(catalogue.DEFAULT)
    parser.add_argument(
        "--optimizers",
        metavar="LIST",
        help=f"comma-separated: {known}, others of optax, or module:function of a "
        f"jaxdeep.comparison.Candidate or of a function of learning_rate (default: {usual})",
    )
    for flag, metavar, help in (
        (
            "vary",
            "NAME=V1,V2",
            "candidates that differ in this, with every optimizer (adam alone by default): schedule, "
            f"{', '.join(networks.FLAGS)}, or a hyperparameter; may be repeated",
        ),
        ("set", "CANDIDATE.NAME=VALUE", "fix a hyperparameter; may be repeated"),
        ("space", "CANDIDATE.NAME=LOW:HIGH", "other bounds of what is tuned; may be repeated"),
    ):
        parser.add_argument(f"--{flag}", action="append", default=[], metavar=metavar, help=help)


def _add_protocol(parser: arguments.Parser) -> None:
    help = f"of the learning rate: {', '.join(NAMES)} (default: constant)"
    parser.add_argument("--schedule", default="constant", metavar="NAME", help=help)
    for flag, help in (
        ("epochs", "passes over the data, of every run"),
        ("budget", "trials that tune each candidate"),
        ("seeds", "final runs of each candidate, at least 2"),
    ):
        shown = f"{help} (default: {_USUAL[flag]})"
        parser.add_argument(f"--{flag}", type=arguments.count, metavar="N", help=shown)
    help = "rows of a batch (default: 32)"
    parser.add_argument("--batch-size", type=arguments.count, metavar="B", help=help)
    arguments.add_seed(parser, "what parts, trials and runs are drawn from")
    help = "what decides (default: the accuracy, of a regression the mae)"
    parser.add_argument("--metric", metavar="NAME", help=help)
    parser.option("--worth", 0.0, networks.factor, "DIFFERENCE", "the smallest difference that matters")
    help = "value of the metric to which epochs are counted (default: the first candidate's median)"
    parser.add_argument("--reach", type=networks.number, metavar="VALUE", help=help)
    parser.option("--level", 0.95, _level, "LEVEL", "of confidence, between 0 and 1")
    help = (
        f"a rough answer in seconds: {', '.join(candidates.QUICK)}, {_QUICK['budget']} trials, "
        f"{_QUICK['seeds']} seeds and {_QUICK['epochs']} epochs, where nothing else is said"
    )
    parser.add_argument("--quick", action="store_true", help=help)
    parser.add_argument("--no-report", dest="report", action="store_false", help="write no report.html")


def _level(text: str) -> float:
    value = networks.number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, got {text!r}")
    return value


def _compare(args: argparse.Namespace, parser: arguments.Parser) -> int:
    """Tune every candidate with the same number of trials in a space of its own, by the validation
    rows; train the best point of each anew with fresh seeds; judge these once, on test rows that
    nothing has seen before. All candidates start from the same networks and see the same order
    of rows, so that differences are paired. Prints the verdict, a table and what deserves a
    look. Writes results.json, trials.csv, report.html, the winner's model, and best.py, which
    trains the winner again to the same number. The folder is a checkpoint: after Ctrl-C the
    same command goes on; seeds and candidates may grow, the budget as far as it tunes no more
    hyperparameters (it does from 10, 25 and 64 trials on), epochs without a schedule; another
    question is refused. Without further flags the network has three hidden layers of 100 ReLU
    units with He initialisation.

    Examples:
      python -m jaxdeep compare
      python -m jaxdeep compare --quick --out runs/quick
      python -m jaxdeep compare --data people.csv --target income --drop id --out runs/optimizers
      python -m jaxdeep compare --optimizers adam,lion,muon --schedule cosine --out runs/three
      python -m jaxdeep compare --vary dropout=0,0.2,0.5 --out runs/dropout
      python -m jaxdeep compare --set adam.b1=0.95 --space sgd.learning_rate=0.01:1 --out runs/own
      JAXDEEP_DATA=~/data python -m jaxdeep compare --data fashion-mnist --out runs/fashion
    """
    for name, value in (_QUICK if args.quick else _USUAL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.quick and args.optimizers is None and not args.vary:
        args.optimizers = ",".join(candidates.QUICK)
    try:
        needed("safetensors.numpy", "compare", "safetensors", "checkpoint")  # which keeps the runs
        question = question_of(args, read_data.read(args))
    except (ValueError, TypeError, OSError, ImportError) as error:
        parser.error(said(error))
    arguments.make_out(args, parser, _FILES)
    _tell(args, question.data)
    began, noted = time.perf_counter(), asked.note(args)
    try:
        answer = jaxdeep.compare(**question.arguments)
    except KeyboardInterrupt:
        kept = f"what has been trained is kept in {args.out / 'runs'}"
        print(f"interrupted: {kept}, and the same command goes on from there", file=sys.stderr)
        return 130
    except Exception as error:
        if not (text := _in_words(error, args)):
            raise
        if noted is not None:
            noted.unlink()
        arguments.unmake(args.out / "runs" / "tuning", args.out / "runs", args.out)
        parser.error(text)
    epochs, seconds = sum(row["epochs"] for row in answer.rows()), time.perf_counter() - began
    print(f"\n{answer}\n\n{epochs:,} epochs of training; this call took {clock(seconds)}")
    try:
        paths = _write(args, answer, question)
    except OSError as error:
        print(f"{arguments.PROG} compare: {arguments.one_line(error)}", file=sys.stderr)
        return 1
    print(f"wrote {', '.join(map(str, paths))}")
    return 0 if answer.winners else 1


def _in_words(error: Exception, args: argparse.Namespace) -> str:
    """An error of what was asked, or of a user's function, on a line; "" for one that is neither."""
    if isinstance(error, (ValueError, TypeError, OSError, ImportError)):
        return said(error, asked.differences(args))
    named = [args.model, *(args.optimizers or "").split(",")]
    texts = [text for text in named if text and ":" in text]
    return functions.raised(texts[0], error) if texts else ""


def _tell(args: argparse.Namespace, data: Data) -> None:
    """What is compared on what, before it begins."""
    parts = ((data.train, "to train on"), (data.validation, "to tune by"), (data.test, "to judge by"))
    rows = ", ".join(f"{len(part[1]):,} {purpose}" for part, purpose in parts)
    lines = [f"{args.data}: {data.task}; rows: {rows}", *(f"! {note}" for note in data.notes)]
    if args.quick:
        lines.append("--quick: few trials, seeds and epochs; a rough answer, not one to build on")
    print("\n".join(lines), flush=True)


def _write(args: argparse.Namespace, answer: "Comparison", question: Question) -> list[pathlib.Path]:
    """The files of the answer."""
    paths = answer.save(args.out)
    if args.report:
        command = shlex.join(["python", "-m", "jaxdeep", *args.typed])
        try:
            paths.append(answer.report(args.out / "report.html", command=command))
        except ImportError as error:
            print(f"no report.html: {arguments.one_line(error)}", file=sys.stderr)
    if not answer.winners:
        return paths
    label, seed = answer.best()
    try:
        jaxdeep.save(args.out / "model", *answer.trained(label, seed))
        paths.append(args.out / "model")
    except (ValueError, TypeError, ImportError) as error:
        print(f"the winner's model is not saved: {arguments.one_line(error)}", file=sys.stderr)
    if question.data.rows:
        parts: dict[str, np.ndarray] = question.data.rows
        np.savez(args.out / "rows.npz", **parts)  # type: ignore[arg-type]
        paths.append(args.out / "rows.npz")
    script = args.out / "best.py"
    script.write_text(best_script(answer, question, args), encoding="utf-8")
    return [*paths, script]
