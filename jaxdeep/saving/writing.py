"""A saved model is written to the disk so that the old one or the new one is there, at every moment."""

import contextlib
import os
import pathlib
import re
import shutil
import time
import uuid
from collections.abc import Iterator

from jaxdeep._version import __version__
from jaxdeep.saving.forms import CARD, FORMAT, Arrays, Document, Form, beside, digest_of, locked
from jaxdeep.saving.sealing import sealed

_BEGINNING = f'{{\n  "format": "{FORMAT}"'.encode()
# The last is safetensors' name for a file that it has not finished.
_OWN = re.compile(r"arrays\.[0-9a-f]{16}\.safetensors|\.[0-9a-f]{8}\.tmp|\.tmp[0-9A-Za-z]{6}")
_ABANDONED = 3600  # seconds without a change, after which a first save is taken for killed


def write(directory: pathlib.Path, document: Document, arrays: Arrays, form: Form) -> None:
    """Write a model, which is there as a whole or not at all, also if the process is killed."""
    _forget_killed(directory)
    # Written under another name first, so that it is complete when it appears.
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = directory.with_name(f".{directory.name}.{uuid.uuid4().hex[:8]}.tmp")
        temporary.mkdir()
        try:
            _write_into(temporary, document, arrays, form, directory.name)
            os.rename(temporary, directory)
            _sync(directory.parent)
            return
        except OSError:
            if not directory.exists():  # otherwise another process has saved there meanwhile
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        check_free(directory, form)
    with locked(directory, exclusive=True):
        _write_into(directory, document, arrays, form, directory.name)


def _forget_killed(directory: pathlib.Path) -> None:
    """Remove what first saves to this path have left that were killed before it appeared."""
    name = re.compile(re.escape(f".{directory.name}.") + r"[0-9a-f]{8}\.tmp")
    with contextlib.suppress(OSError):  # of another user, or another process removes it too
        for left in directory.parent.iterdir():
            if name.fullmatch(left.name) and left.is_dir():
                changed = max(path.stat().st_mtime for path in (left, *left.iterdir()))
                if time.time() - changed > _ABANDONED:
                    shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def written(directory: pathlib.Path) -> Iterator[None]:
    """Name the path that was given where it cannot be written, not a temporary file there."""
    from safetensors import SafetensorError

    shown = str(directory)
    try:
        yield
    except FileExistsError as error:
        if str(error).startswith(repr(shown)):  # the message names the path already
            raise
        raise _unwritable(error, shown) from error
    except OSError as error:
        raise _unwritable(error, shown) from error
    except SafetensorError as error:  # which words the system's errors in its own way
        raise OSError(f"a model cannot be saved at {shown!r} ({error}); {_ELSEWHERE}") from error


_ELSEWHERE = "make room there, or make it writable, or give another path"


def _unwritable(error: OSError, shown: str) -> OSError:
    why = error.strerror or str(error)
    return type(error)(error.errno, f"a model cannot be saved at {shown!r} ({why}); {_ELSEWHERE}")


def _write_into(
    directory: pathlib.Path, document: Document, arrays: Arrays, form: Form, title: str
) -> None:
    """Write the files; the moment when the document gets its name decides between old and new.

    Until then the old arrays stay, and the new ones lie beside them under a name with their checksum,
    where `load` finds them too.
    """
    from safetensors.numpy import save_file

    def put(temporary: pathlib.Path, name: str) -> None:
        _sync(temporary)
        os.replace(temporary, directory / name)
        _sync(directory)

    temporary = directory / f".{uuid.uuid4().hex[:8]}.tmp"
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the user wants it; the library makes a file private
        save_file(arrays, temporary, metadata=form.metadata)
        temporary.chmod(mode)
        digest = digest_of(temporary)
        about, newer = {"bytes": temporary.stat().st_size, "sha256": digest}, beside(digest)
        put(temporary, newer)
        temporary.write_bytes(sealed(document | {"arrays": about}))
        put(temporary, form.document)
        put(directory / newer, form.arrays)
        if form.card and not (directory / CARD).exists():
            temporary.write_text(_CARD.format(title=title, version=__version__))
            put(temporary, CARD)
    finally:
        temporary.unlink(missing_ok=True)
    for left in directory.iterdir():  # left by a process that was killed
        if _OWN.fullmatch(left.name):
            left.unlink(missing_ok=True)


_CARD = """---
library_name: jaxdeep
tags:
- jaxdeep
- jax
---

# {title}

Saved by jaxdeep {version}: `config.json` is the architecture, `model.safetensors` the arrays by path.

```python
import jaxdeep as jd

model, params, state = jd.load("the path of this directory")
outputs, _ = model.apply(params, state, inputs)
```
"""


def check_free(directory: pathlib.Path, form: Form) -> None:
    """Refuse a path where there is something else than a saved model."""
    if not os.path.lexists(directory):
        return
    shown = str(directory)
    if not directory.is_dir():
        raise FileExistsError(f"{shown!r} is a file; a model is saved as a directory: give another path")
    names = {entry.name for entry in directory.iterdir()}
    if form.document in names:
        file = directory / form.document
        if not file.is_file() or not file.read_bytes().startswith(_BEGINNING):
            raise FileExistsError(
                f"{str(file)!r} is not of a model that jaxdeep saved: give another path"
            )
    elif any(name != form.arrays and not _OWN.fullmatch(name) for name in names):
        raise FileExistsError(
            f"{shown!r} is a directory of other files, not of a model that jaxdeep saved: give another "
            "path"
        )


def _sync(path: pathlib.Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot sync directories, and need not
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
