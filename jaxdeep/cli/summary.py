"""``python -m jaxdeep summary``: the layers of a network as a table."""

import argparse
from typing import TYPE_CHECKING

import jax

import jaxdeep
from jaxdeep._shapes import PyTree
from jaxdeep.cli import arguments
from jaxdeep.cli.networks import classes_of, network
from jaxdeep.tree import leaf_paths

if TYPE_CHECKING:
    from jaxdeep.nn import Model


def add(commands: arguments.Commands) -> None:
    """Make the command known."""
    parser = arguments.command(
        commands, "summary", _summary, "show the layers of a network: output shapes, parameters, bytes"
    )
    arguments.add_data(parser, "whose rows are the inputs: ")
    parser.add_argument("--model", metavar="DIR", help="folder that jd.save wrote")
    arguments.add_input(parser, "the saved model")
    parser.set_defaults(data=None)


def _summary(args: argparse.Namespace, parser: arguments.Parser) -> int:
    """Print the layers, output shapes and sizes of the network that the other commands train
    on the data, or of a model that was saved with jd.save. Nothing is computed.

    Examples:
      python -m jaxdeep summary
      python -m jaxdeep summary --data fashion-mnist
      python -m jaxdeep summary --model runs/mine --input 28,28,1
      python -m jaxdeep summary --model runs/mine --data mine.npz
    """
    from jaxdeep import nn

    if args.input and args.data:
        parser.error("argument --input: says what --data says too; leave out one of them")
    if args.dtype and not args.input:
        parser.error("argument --dtype: goes with --input")
    if args.input and not args.model:
        parser.error("argument --input: goes with --model")
    if args.model and not (args.input or args.data):
        parser.error(
            "argument --model: say what its inputs are with --input SHAPE, as in 28,28,1, or --data NAME"
        )
    if args.model:
        try:
            model, params, _ = jaxdeep.load(args.model)
        except (ValueError, TypeError, OSError, ImportError) as error:
            parser.error(f"argument --model: {arguments.one_line(error)}")
    if args.input:
        x = arguments.input_of(args)
    else:
        args.data = args.data or "digits"
        data = arguments.load_data(args, parser)
        rows = data.train[0]
        x = jax.ShapeDtypeStruct((1, *rows.shape[1:]), rows.dtype)
        model = model if args.model else network(classes_of(data))
    try:
        table = nn.summary(model, x)
        if args.model:
            _check_same(model, x, params)
    except (ValueError, TypeError) as error:
        parser.error(
            f"argument {'--input' if args.input else '--data'}: the model refuses an input of shape "
            f"{x.shape}: {arguments.one_line(error)}"
        )
    print(table)
    return 0


def _check_same(model: "Model", x: jax.ShapeDtypeStruct, saved: PyTree) -> None:
    """Refuse an input for which the model would have other parameters than it was saved with."""
    made, _ = jax.eval_shape(lambda: model.init(jax.random.key(0), x))
    for path, new, old in zip(leaf_paths(made), *map(jax.tree.leaves, (made, saved))):
        if new.shape != old.shape:
            raise ValueError(f"{path} would be {new.shape}, but was saved as {old.shape}")
