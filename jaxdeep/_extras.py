"""Packages that only some functions need: imported when they are, or named with what to install."""

import importlib
from types import ModuleType


def needed(module: str, caller: str, package: str, extra: str | None) -> ModuleType:
    """The module of an optional package.

    Raises:
      ImportError: it is not installed; the error says what to install.

    >>> needed("nothing_of_this_name", "plot", "nothing", "plot")
    Traceback (most recent call last):
    ImportError: plot needs nothing: pip install 'jaxdeep[plot]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        requirement = package if extra is None else f"'jaxdeep[{extra}]'"
        raise ImportError(f"{caller} needs {package}: pip install {requirement}") from error
