"""Errors of functions in the words of ``compare``: its flags instead of Python's arguments."""

import re

from jaxdeep.cli import arguments

_FLAGS = {
    "unknown optimizer": "--optimizers",
    "candidate": "--optimizers",
    "metric": "--metric",
    "level": "--level",
    "budget": "--budget",
    "epochs": "--epochs",
    "schedule": "--schedule",
    "validation": "--validation",
    "test": "--test",
}


def said(error: BaseException) -> str:
    """The error on a line.

    >>> said(ValueError("checkpoint='runs/a' holds another comparison: epochs was 9 and is 5. Ask"))
    'argument --out: runs/a holds another comparison: epochs was 9 and is 5. Ask'
    """
    text = arguments.one_line(error)
    if text.startswith("argument "):
        return text
    text = re.sub(
        r"^checkpoint='(.*?)(/runs)?(/tuning|/final)?' holds", r"argument --out: \1 holds", text
    )
    text = re.sub(r"^candidates\['(.*?)'\]:? ?", r"argument --optimizers: \1 ", text)
    flag = next((flag for name, flag in _FLAGS.items() if re.match(rf"{name}\b", text)), None)
    return text if flag is None else f"argument {flag}: {text}"
