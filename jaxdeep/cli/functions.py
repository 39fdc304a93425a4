"""Functions of the user's own, which a command is told as ``module:function``."""

import argparse
import contextlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from jaxdeep.comparison.candidate import nearest


def spec(text: str) -> str:
    """A ``module:function``, as far as its form goes."""
    module, colon, function = text.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), function)):
        raise argparse.ArgumentTypeError(f"must be MODULE:FUNCTION, got {text!r}")
    return text


def found(text: str, flag: str) -> Any:
    """What ``module:function`` names; modules of the current folder are found.

    Raises:
      ValueError: there is no such module, or nothing of this name in it.
    """
    module, _, function = text.partition(":")
    if (here := os.getcwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not f"{module}.".startswith(f"{error.name}."):
            raise ValueError(f"argument {flag}: {module} cannot be imported: {error}") from error
        raise ValueError(f"argument {flag}: no module {module!r} in this folder or installed") from error
    except Exception as error:  # whatever a user's module raises
        raise ValueError(
            f"argument {flag}: {module} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(imported, function):
        public = [name for name in vars(imported) if not name.startswith("_")]
        raise ValueError(
            f"argument {flag}: no {function!r} in the module {module!r}{nearest(function, public)}"
        )
    return getattr(imported, function)


@contextlib.contextmanager
def calling(text: str, flag: str) -> Iterator[None]:
    """Where a function of the user's runs, whatever it raises is said in a line, with its place.

    >>> with calling("networks:small", "--model"):
    ...     raise RuntimeError("no units")
    Traceback (most recent call last):
    ValueError: argument --model: networks:small raises RuntimeError: no units (<doctest ...>, line 2)
    """
    try:
        yield
    except Exception as error:  # whatever a user's function raises
        if str(error).startswith("argument "):  # which is said already
            raise
        raise ValueError(f"argument {flag}: {raised(text, error)}") from error


def raised(text: str, error: Exception) -> str:
    """What a ``module:function`` raises, in words, with the place in that module."""
    frames = traceback.extract_tb(error.__traceback__)
    module = getattr(sys.modules.get(text.partition(":")[0]), "__file__", None)
    last = next((frame for frame in reversed(frames) if frame.filename == module), frames[-1])
    said = f": {error}" if str(error) else ""
    place = f"{os.path.basename(last.filename)}, line {last.lineno}"
    return f"{text} raises {type(error).__name__}{said} ({place})"


def folder_of(text: str) -> str:
    """The folder from which the module of a ``module:function`` is imported; "" if it is installed."""
    module = sys.modules[text.partition(":")[0]]
    file = getattr(module, "__file__", None)
    if file is None or "site-packages" in file:
        return ""
    depth = module.__name__.count(".") + 1 + os.path.basename(file).startswith("__init__.")
    return os.path.abspath(os.path.join(file, *[os.pardir] * depth))


def needs_nothing(function: Any) -> bool:
    """Whether a function can be called without arguments."""
    return all(
        parameter.default is not parameter.empty
        or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        for parameter in inspect.signature(function).parameters.values()
    )
