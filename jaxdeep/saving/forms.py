"""What the files of a saved model are called, and how they are told from others."""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxdeep.saving.values import Json

Document = dict[str, Json]  # the contents of model.json
Arrays = dict[str, np.ndarray]  # by path, as safetensors holds them

FORMAT, VERSION = "jaxdeep-model", 2
PLAIN = 1  # the version of a model without what `fit` needs to go on


class Form(NamedTuple):
    """What the files of a saved model are called.

    Attributes:
      document: the file of the architecture.
      arrays: that of the arrays.
      metadata: what the latter says about itself.
      card: whether there is a README beside them.
    """

    document: str
    arrays: str
    metadata: dict[str, str] | None = None
    card: bool = False


# "format" is what other readers of safetensors ask for; arrays of JAX go by "flax"
FORMS = {
    "jaxdeep": Form("model.json", "arrays.safetensors"),
    "huggingface": Form(
        "config.json",
        "model.safetensors",
        {"format": "flax", "jaxdeep_format_version": str(PLAIN)},
        card=True,
    ),
}
OWN, CARD = FORMS["jaxdeep"], "README.md"


def beside(digest: str) -> str:
    """The name of arrays beside those of an earlier save."""
    return f"arrays.{digest[:16]}.safetensors"


def digest_of(file: pathlib.Path) -> str:
    """The checksum of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextlib.contextmanager
def locked(directory: pathlib.Path, *, exclusive: bool) -> Iterator[None]:
    """One writer at a time, and no reader meanwhile, where the system can do that."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
