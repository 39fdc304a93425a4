"""The command line, a file for each command."""

import importlib
import io
import os
import sys
from collections.abc import Sequence

from jaxdeep.cli import cache
from jaxdeep.cli.arguments import PROG, Parser

_COMMANDS = ("train", "predict", "compare", "export", "summary", "find-lr", "uncertainty")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, 2 for wrong arguments."""
    parser = Parser(prog=PROG, description="Deep-network training in JAX, from the command line.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    typed = sys.argv[1:] if argv is None else [*argv]
    # a command that is named first is the only one whose file is needed
    for command in typed[:1] if typed and typed[0] in _COMMANDS else _COMMANDS:
        importlib.import_module(f"{__name__}.{command.replace('-', '_')}").add(commands)
    args = parser.parse_args(typed)
    args.typed = typed
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an ASCII terminal still gets its table
    try:
        with cache.kept(keep=args.cache):
            return args.run(args)
    except KeyboardInterrupt:
        print(f"{PROG}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
