"""``python -m jaxdeep find-lr``: the learning-rate range test."""

import argparse
import shlex
from typing import TYPE_CHECKING

import jax
import numpy as np

from jaxdeep.cli import arguments
from jaxdeep.cli.networks import classes_of, network

if TYPE_CHECKING:
    from jaxdeep.datasets import Dataset
    from jaxdeep.diagnostics import RateTest

_FILES = ("learning_rate.png", "learning_rate.json")
_FEWEST_STEPS = 20


def add(commands: arguments.Commands) -> None:
    """Make the command known."""
    parser = arguments.command(commands, "find-lr", _find, "find a learning rate by the range test")
    arguments.add_data(parser)
    arguments.add_optimizer(parser)
    parser.option("--low", 1e-6, arguments.positive, "RATE", "first learning rate")
    parser.option("--high", 10.0, arguments.positive, "RATE", "last learning rate")
    steps = f"steps from the one to the other, at least {_FEWEST_STEPS}"
    parser.option("--steps", 400, arguments.count, "N", steps)
    arguments.add_batch_size(parser)
    arguments.add_seeds(parser, "networks")
    arguments.add_out(parser, "find-lr")


def _find(args: argparse.Namespace, parser: arguments.Parser) -> int:
    """Train three hidden layers of 100 ReLU units (He initialisation) while the learning rate
    grows from --low to --high, a factor at every step, and suggest three times the rate at
    which the smoothed loss has come 70 % of the way down, at most the rate of the lowest
    loss. The seeds run side by side in one compiled program; the suggestion is their median.
    Writes learning_rate.png (the run of the median) and learning_rate.json (every step of
    every run).

    Examples:
      python -m jaxdeep find-lr
      python -m jaxdeep find-lr --optimizer sgd --seeds 5
      JAXDEEP_DATA=~/data python -m jaxdeep find-lr --data fashion-mnist --batch-size 128
      python -m jaxdeep find-lr --data mine.npz --low 1e-5 --high 1 --out runs/rates
    """
    if args.low >= args.high:
        parser.error(f"argument --low: must be below --high {args.high:g}, got {args.low:g}")
    if args.steps < _FEWEST_STEPS:
        parser.error(f"argument --steps: must be at least {_FEWEST_STEPS}, got {args.steps}")
    data = arguments.load_data(args, parser)
    arguments.make_out(args, parser, _FILES)
    tests = _tests(data, args)
    suggestions = np.asarray(tests.suggestion, float)
    order = np.argsort(suggestions)  # NaN last
    usable = int(np.isfinite(suggestions).sum())
    middle = int(order[(max(usable, 1) - 1) // 2])  # a run of its own, for an even number too
    one = tests._replace(**{name: values[middle] for name, values in tests._asdict().items()})
    suggestion = float(suggestions[middle])

    picture, everything = (args.out / name for name in _FILES)
    about = arguments.about(
        args, "data", "optimizer", "low", "high", "steps", "batch_size", "seeds", "seed"
    )
    measured = {
        "suggestion": suggestion,
        "suggestions": suggestions.tolist(),
        "steps_done": tests.steps.tolist(),
        "learning_rates": tests.learning_rates[0].tolist(),
        "losses": tests.losses.tolist(),
        "smoothed": tests.smoothed.tolist(),
    }
    arguments.write_json(everything, {**about, **measured})
    title = f"{args.data}, {args.optimizer}"
    drawn = arguments.write_picture(picture, "learning_rate", one, title=title)
    if usable:
        rates = ", ".join(f"{suggestions[i]:.2g}" for i in order[:usable])
        print(f"suggested learning rate: {suggestion:.2g}")
        print(f"{title}, batch {args.batch_size}, {arguments.several(args.seeds, 'seed')}: {rates}")
        print(f"try it: {_trial(args, suggestion)}")
    else:
        print(f"no rate from {args.low:g} to {args.high:g} lowered the loss")
    print(f"\nwrote {', '.join(str(path) for path in [*drawn, everything])}")
    return 0 if usable else 1


def _trial(args: argparse.Namespace, rate: float) -> str:
    """The command that trains with the optimizer at this rate, on the same data."""
    fixed = ("--optimizers", args.optimizer, "--set", f"{args.optimizer}.learning_rate={rate:.2g}")
    data = ("--data", args.data, "--batch-size", str(args.batch_size))
    return shlex.join(["python", "-m", "jaxdeep", "compare", *data, *fixed])


def _tests(data: "Dataset", args: argparse.Namespace) -> "RateTest":
    """The range test of every seed, as NumPy arrays with a row for each."""
    from jaxdeep import diagnostics, losses
    from jaxdeep.fitting.progress import compiling

    model, optimizer = network(classes_of(data)), arguments.optimizers()[args.optimizer]

    def test(key: jax.Array) -> "RateTest":
        return diagnostics.find_learning_rate(
            model,
            data.train,
            loss=losses.softmax_cross_entropy,
            optimizer=optimizer,
            key=key,
            low=args.low,
            high=args.high,
            steps=args.steps,
            batch_size=args.batch_size,
        )

    keys = jax.random.split(jax.random.key(args.seed), args.seeds)
    with compiling(show=True):
        return jax.device_get(jax.vmap(test)(keys))
