"""``python -m jaxdeep summary``: the layers of a network as a table."""

import argparse
from typing import TYPE_CHECKING

import jax

from jaxdeep._shapes import PyTree
from jaxdeep.cli import arguments, saved
from jaxdeep.cli.networks import classes_of, network
from jaxdeep.cli.saved import Saved
from jaxdeep.tree import leaf_paths, shapes

if TYPE_CHECKING:
    from jaxdeep.datasets import Dataset
    from jaxdeep.nn import Model


def add(commands: arguments.Commands) -> None:
    """Make the command known."""
    parser = arguments.command(
        commands, "summary", _summary, "show the layers of a network: output shapes, parameters, bytes"
    )
    arguments.add_data(parser, "whose rows are the inputs: ")
    help = "folder that train, compare or jd.save wrote"
    parser.add_argument("--model", metavar="DIR", help=help)
    arguments.add_input(parser, "the saved model")
    parser.set_defaults(data=None)


def _summary(args: argparse.Namespace, parser: arguments.Parser) -> int:
    """Print the layers, output shapes and sizes of the network that the other commands train
    on the data, or of a saved model; the folder of a compare is its winner. What the inputs
    are is known of a model of a table, whose --data is a table, and of a compare; of other
    models --data or --input says it. Nothing is computed.

    Examples:
      python -m jaxdeep summary
      python -m jaxdeep summary --data fashion-mnist
      python -m jaxdeep summary --model runs/people
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
    if args.model:
        print(_of_saved(args, parser))
        return 0
    args.data = args.data or "digits"
    data = arguments.load_data(args, parser)
    print(nn.summary(network(classes_of(data)), _row_of(data)))
    return 0


def _of_saved(args: argparse.Namespace, parser: arguments.Parser) -> str:
    """The table of the model that --model names."""
    from jaxdeep import nn

    found = saved.load(args.model, parser, "--model")
    try:
        x = _input(args, parser, found)
    except (ValueError, TypeError, OSError, ImportError) as error:
        parser.error(saved.said(error))
    try:
        table = nn.summary(found.model, x)
        _check_same(found.model, x, found.params)
    except (ValueError, TypeError) as error:
        parser.error(
            f"argument {'--input' if args.input else '--data'}: the model refuses an input of shape "
            f"{jax.tree.map(lambda a: a.shape, x)}: {arguments.one_line(error)}"
        )
    return table


def _input(args: argparse.Namespace, parser: arguments.Parser, found: Saved) -> PyTree:
    """The shapes of a row of the model's inputs."""
    columns = found.columns
    if columns is not None:
        if args.input:
            parser.error("argument --input: is for arrays, and the model reads a table")
        if args.data is not None:
            return shapes(saved.first_rows(columns, args.data, 1))
        return shapes(columns.encode_inputs({name: [None] for name in columns.names}))
    if args.input:
        return arguments.input_of(args)
    data = args.data or found.data
    if data is None:
        parser.error(
            "argument --model: say what its inputs are with --input SHAPE, as in 28,28,1, or --data NAME"
        )
    return _row_of(arguments.load_data(argparse.Namespace(data=data), parser))


def _row_of(data: "Dataset") -> jax.ShapeDtypeStruct:
    """The shape of a row of inputs."""
    rows = data.train[0]
    return jax.ShapeDtypeStruct((1, *rows.shape[1:]), rows.dtype)


def _check_same(model: "Model", x: jax.ShapeDtypeStruct, saved: PyTree) -> None:
    """Refuse an input for which the model would have other parameters than it was saved with."""
    made, _ = jax.eval_shape(lambda: model.init(jax.random.key(0), x))
    for path, new, old in zip(leaf_paths(made), *map(jax.tree.leaves, (made, saved))):
        if new.shape != old.shape:
            raise ValueError(f"{path} would be {new.shape}, but was saved as {old.shape}")
