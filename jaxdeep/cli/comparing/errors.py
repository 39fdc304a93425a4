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

# What a sweep refuses, which is a stage of a comparison.
_OF_SWEEPS = {
    r"holds another sweep; it differs in key: .*here\.": "holds another comparison: of another --seed.",
    r"holds another sweep; it differs in contents: .*here\.": "holds another comparison: of other data.",
    r"holds a sweep whose row \{'candidate': '(.*?)'.*?\} with seed \d+ has another (\w+): (.*) there, "
    r"(.*) here\.": r"holds another comparison: the \2 of \1 was \3 and is \4.",
    "Give a new directory, or delete that one|Ask that one, or give a new directory": (
        "Ask that one, or name a new folder"
    ),
}
_OTHER, _ASK = "holds another comparison", "Ask that one, or name a new folder"


def said(error: BaseException, differences: str = "") -> str:
    """The error on a line; of another question by the flags in which it differs, where they are known.

    >>> said(ValueError("checkpoint='runs/a' holds another comparison: epochs was 9 and is 5. Ask"))
    'argument --out: runs/a holds another comparison: epochs was 9 and is 5. Ask'
    """
    text = arguments.one_line(error)
    if text.startswith("argument "):
        return text
    where = r"^checkpoint='(.*?)(/runs)?(/tuning|/final)?' (holds|is in use)"
    text = re.sub(where, r"argument --out: \1 \4", text)
    text = text.replace("in use by another sweep", "in use by another comparison")
    if differences:
        message = f"{_OTHER}: {differences}. {_ASK}"
        text = re.sub(
            r"holds (another comparison|another sweep|a sweep whose).*", lambda _: message, text
        )
    for words, instead in _OF_SWEEPS.items():
        text = re.sub(words, instead, text)
    text = re.sub(r"^candidates\['[^']*\bschedule=[^']*'\]: (?=schedule=)", "argument --vary: ", text)
    text = re.sub(r"^candidates\['(.*?)'\]:? ?", r"argument --optimizers: \1 ", text)
    flag = next((flag for name, flag in _FLAGS.items() if re.match(rf"{name}\b", text)), None)
    return text if flag is None else f"argument {flag}: {text}"
