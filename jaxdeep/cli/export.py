"""``python -m jaxdeep export``: a saved model as one file that runs without jaxdeep."""

import argparse
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

import jaxdeep
from jaxdeep._shapes import PyTree
from jaxdeep.cli import arguments, saved
from jaxdeep.cli.saved import Saved

if TYPE_CHECKING:
    from jaxdeep.tables import Columns

_FORMS = {"stablehlo": ".jax", "onnx": ".onnx"}


def add(commands: arguments.Commands) -> None:
    """Make the command known."""
    parser = arguments.command(
        commands, "export", _export, "write a saved model to one file that runs without jaxdeep"
    )
    parser.add_argument("model", metavar="DIR", help="folder that train, compare or jd.save wrote")
    forms = ", ".join(_FORMS)
    parser.option("--form", "stablehlo", _form, "FORM", f"one of {forms}")
    out = "a new file (default: model.jax or model.onnx in DIR)"
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help=out)
    data = (
        "rows of its inputs: a table for the model of one, else a name or a FILE.npz, as compare takes"
    )
    parser.add_argument("--data", metavar="NAME", help=data)
    arguments.add_input(parser, "the model")
    rows = "a number of rows to fix (default: any number)"
    parser.add_argument("--batch-size", type=arguments.count, metavar="B", help=rows)


def _form(text: str) -> str:
    if text not in _FORMS:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(_FORMS)}, got {text!r}")
    return text


def _export(args: argparse.Namespace, parser: arguments.Parser) -> int:
    """Write a saved model at inference, with its weights, to one file: StableHLO, which JAX alone
    runs, for CPU, CUDA and TPU, or ONNX, which is compared with ONNX Runtime first. The folder of
    a compare is its winner. What the inputs are is known of a model of a table and of a compare;
    of other models --data or --input says it. A file of a table's model begins at its inputs
    "numbers" and "codes", which the file inputs.json beside it says how to make of raw rows:
    jd.tables.from_json(text).encode_inputs(frame).

    Examples:
      python -m jaxdeep export runs/people
      python -m jaxdeep export runs/people --form onnx --data people.csv --out people.onnx
      python -m jaxdeep export runs/compare --form onnx
      python -m jaxdeep export runs/mine --input 28,28,1 --form onnx --out mine.onnx
    """
    if args.input and args.data:
        parser.error("argument --input: says what --data says too; leave out one of them")
    if args.dtype and not args.input:
        parser.error("argument --dtype: goes with --input")
    out = args.out or pathlib.Path(args.model) / f"model{_FORMS[args.form]}"
    if out.exists():
        parser.error(f"argument --out: {out} is there already and would be overwritten; name a new file")
    found = saved.load(args.model, parser, "DIR")
    model, params, state, columns, _ = found
    beside = out.with_name("inputs.json")
    if columns is not None and beside.exists() and beside.read_text("utf-8") != columns.to_json():
        parser.error(f"argument --out: {beside} beside it is of another model; name another folder")
    try:
        x = _inputs(args, parser, found)
    except (ValueError, TypeError, OSError, ImportError) as error:
        parser.error(saved.said(error))
    try:
        if args.form == "onnx":
            jaxdeep.compress.export_onnx(out, model, params, state, x, batch_size=args.batch_size)
        else:
            platforms = ("cpu", "cuda", "tpu")
            jaxdeep.compress.export(
                out, model, params, state, x, platforms=platforms, batch_size=args.batch_size
            )
        if columns is not None:
            beside.write_text(columns.to_json(), encoding="utf-8")
    except (ValueError, TypeError, ImportError) as error:
        parser.error(arguments.one_line(error))
    except OSError as error:
        parser.error(f"argument --out: {arguments.one_line(error)}")
    print(f"wrote {out}, {out.stat().st_size:,} bytes{'' if columns is None else f', and {beside}'}")
    print(f"try it: {_use(args.form, out, columns)}")
    return 0


def _inputs(args: argparse.Namespace, parser: arguments.Parser, found: Saved) -> PyTree:
    """Inputs of the model, or what they are like."""
    columns = found.columns
    if columns is not None:
        if args.input:
            parser.error(
                "argument --input: is for arrays, and the model reads a table; name one by --data"
            )
        if args.data is None:
            return _rows_of(columns)
        return saved.first_rows(columns, args.data, _ROWS)
    if args.input:
        return arguments.input_of(args)
    data = args.data or found.data
    if data is None:
        parser.error(
            "argument DIR: say what the model's inputs are with --input SHAPE, as in 28,28,1, or "
            "--data NAME"
        )
    return arguments.load_data(argparse.Namespace(data=data), parser).train[0][:_ROWS]


_ROWS = 64  # on which outputs are compared


def _rows_of(columns: "Columns") -> PyTree:
    """Inputs of a table of which there are no rows: every level, and numbers from low to high."""
    inputs = columns.encode_inputs({name: [None] * _ROWS for name in columns.names})
    features = columns.features
    numbers = [number for column in features for number in column.numbers]
    sizes = [2 + len(column.levels) for column in features if column.coded]
    steps = np.linspace(0, 1, _ROWS)
    made: dict[str, Any] = {}
    for name, array in inputs.items():
        parts = (
            [number.low + steps * (number.high - number.low) for number in numbers]
            if name == "numbers"
            else [np.arange(_ROWS) % size for size in sizes]
        )
        made[name] = np.stack(parts, axis=1).astype(array.dtype) if parts else array
    return made


def _use(form: str, out: pathlib.Path, columns: "Columns | None") -> str:
    """How the file is run."""
    if form == "stablehlo":
        return f'predict = jd.compress.load_exported("{out}"); predict(x)'
    inputs = '{"x": x}' if columns is None else "columns.encode_inputs(frame)"
    return f'onnxruntime.InferenceSession("{out}").run(None, {inputs})'
