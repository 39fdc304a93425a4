"""Processes that begin as after an installation, whose modules pip has byte-compiled."""

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def as_installed() -> Iterator[dict[str, str]]:
    """An environment in which the second process that imports a module finds it byte-compiled."""
    with tempfile.TemporaryDirectory() as folder:
        here = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        yield {**here, "PYTHONPYCACHEPREFIX": folder}
