"""A directory that belongs to one process at a time, and why the system refuses to write there."""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def held(directory: pathlib.Path, work: str = "run") -> Iterator[OSError | None]:
    """The directory, made if it is missing, and locked against others until the context is left.

    The lock is the system's and ends with the process, however that ends. `work` is done there, for
    errors.

    Yields:
      None; where the directory can be read and not written, the error to raise as soon as something must
      be written. Several processes may hold it then.
    """
    name, refusal = f"checkpoint={str(directory)!r}", None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.R_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unwritable(name, error) from None
    if not os.access(directory, os.W_OK):
        refusal = _unwritable(name, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    try:
        import fcntl
    except ImportError:  # as on Windows
        yield refusal
        return
    if jax.process_index() > 0:  # of several processes of one run, the first holds it
        yield refusal
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            kind = fcntl.LOCK_EX if refusal is None else fcntl.LOCK_SH
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{name} is in use by another {work}; wait until that has ended, or give another "
                "directory"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield refusal
    finally:
        with contextlib.suppress(OSError):  # a child that was forked meanwhile has the handle, too
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _unwritable(name: str, error: OSError) -> OSError:
    return type(error)(
        error.errno,
        f"{name} must be a directory that can be written ({error.strerror}); make it so, or give "
        "another one",
    )


_NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # file systems'


def reason_of(error: Exception) -> str:
    """The first line of an error, or that there is no room left, which comes late in many lines."""
    text = str(error).strip() or type(error).__name__
    if any(word in text for word in ("RESOURCE_EXHAUSTED", "ENOSPC", os.strerror(errno.ENOSPC))):
        return os.strerror(errno.ENOSPC)
    return text.splitlines()[0][:200]
