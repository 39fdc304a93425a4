"""What was asked of ``compare`` in a folder, by its flags, to say in which a question differs."""

import argparse
import json
import pathlib
from typing import Any

from jaxdeep.cli import networks
from jaxdeep.comparison.directory import replaced

_FILE = "asked.json"
# Those that make other runs, and that may not change as --seeds and --optimizers may.
_FLAGS = (
    *("data", "target", "task", "validation", "test", "kinds", "drop", "null", "min-frequency"),
    *(*networks.FLAGS, "recipe", "schedule", "batch-size", "seed"),
)


def note(args: argparse.Namespace) -> pathlib.Path | None:
    """Note the flags in the folder of a new question; the file, None where one was asked before."""
    file = args.out / "runs" / _FILE
    if file.parent.exists():
        return None
    file.parent.mkdir()
    return replaced(file, json.dumps(_asked(args), indent=1) + "\n")


def differences(args: argparse.Namespace) -> str:
    """In which flags the question differs from that which was noted: "--l2 was 0.1 and is 0.2".

    Empty where none of them does, or none was noted.
    """
    file = args.out / "runs" / _FILE
    if not file.exists():
        return ""
    then, now = json.loads(file.read_text(encoding="utf-8")), _asked(args)
    return "; ".join(
        f"--{flag} was {_said(then.get(flag))} and is {_said(value)}"
        for flag, value in now.items()
        if then.get(flag) != value
    )


def _asked(args: argparse.Namespace) -> dict[str, Any]:
    values = {flag: getattr(args, flag.replace("-", "_")) for flag in _FLAGS}
    return dict(json.loads(json.dumps(values, default=str)))


def _said(value: Any) -> str:
    if value in (None, [], {}):
        return "not given"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
