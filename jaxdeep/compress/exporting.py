"""A model as one file that runs without the code that trained it."""

import contextlib
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._extras import needed
from jaxdeep._shapes import PyTree
from jaxdeep.fitting.rows import rows_in
from jaxdeep.nn.fits import check_fit
from jaxdeep.nn.model import Model, check_models
from jaxdeep.train.data import as_arrays
from jaxdeep.tree import example_of

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
_MARK = b"jaxdeep.export.1"  # with the checksum before it, behind what JAX reads


def export(
    path: str | os.PathLike[str],
    model: Model,
    params: PyTree,
    state: PyTree,
    x: PyTree,
    *,
    platforms: Sequence[str] = ("cpu",),
    batch_size: int | None = None,
) -> jax.export.Exported:
    """Write the model at inference, with its weights, to one file that needs only JAX to run.

    The function ``x ↦ model.apply(params, state, x)[0]`` is lowered to StableHLO with the weights in it,
    for any number of rows. `load_exported` reads it, and so does JAX alone, anywhere::

        y = jax.export.deserialize(open(path, "rb").read()).call(x)

    Of a model that reads the columns of a table, what begins at its inputs is exported: raw rows become
    ``{"numbers": float32, "codes": int32}`` on the host, by ``columns.encode_inputs(frame)``, in the
    process that calls the file or before. ``columns.to_json()`` keeps them beside it.

    The other platforms' code is made without their devices. JAX promises to read such a file for six
    months of releases and more. Behind what JAX reads there is a checksum for `load_exported`. Sizes:
    the weights as they are (int8 from `quantize` stays int8), at most 2 GiB.

    Args:
      path: the file, "~" being the home directory; one that exists is replaced once the new one is
        complete.
      model, params, state: any `Model` with its parameters and state.
      x: an example batch, or `jax.ShapeDtypeStruct` of one; a pytree if the input is one. All
        arrays have the rows first. For a model that reads a table, rows of it are an example, too.
      platforms: of "cpu", "cuda", "rocm" and "tpu".
      batch_size: a number of rows to fix; any number by default.

    Returns:
      What was written, as `jax.export.Exported`.

    Raises:
      ValueError: an unknown platform, an input without rows, traced parameters or ones that are not of
        the model, a model whose shapes depend on the number of rows (give `batch_size`).
      OSError: a path that is a directory or in none, or that cannot be written.
      ImportError: flatbuffers is not installed (``pip install 'jaxdeep[export]'``).

    Source: `jax.export`; StableHLO.

    >>> import tempfile, jax.numpy as jnp, jaxdeep as jd
    >>> model = jd.nn.dense(2)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     exported = export(f"{folder}/model", model, params, state, jnp.ones((1, 3)),
    ...                       platforms=("cpu", "cuda", "tpu"))
    ...     predict = load_exported(f"{folder}/model")
    >>> exported.platforms, predict(jnp.ones((5, 3))).shape
    (('cpu', 'cuda', 'tpu'), (5, 2))
    """
    check_models("export", {"model": model})
    needed("flatbuffers", "export", "flatbuffers", "export")
    if (
        not isinstance(platforms, (list, tuple))
        or not platforms
        or any(p not in _PLATFORMS for p in platforms)
    ):
        raise ValueError(f"platforms must be some of {', '.join(_PLATFORMS)}, got {platforms!r}")
    file = check_inference(path, model, params, state)
    like = of_any_rows(example_of(rows_in(model, x)), batch_size)
    function = jax.jit(lambda x: model.apply(params, state, x)[0])
    with any_rows():
        exported = jax.export.export(function, platforms=tuple(platforms))(like)
    body = bytes(exported.serialize())
    write(file, body + hashlib.sha256(body).digest() + _MARK)
    return exported


def load_exported(path: str | os.PathLike[str]) -> Callable[[PyTree], PyTree]:
    """The function in a file of `export`: ``predict(x)`` gives the outputs for a batch.

    It takes what `jaxdeep.predict` takes as arrays: lists, frames of numbers, whole numbers for floats.
    It is compiled when first called, and once for every shape.

    Args:
      path: the file.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a file of `export`, or one that is truncated or damaged. When called: inputs of
        another structure, shape or dtype, a platform that it was not exported for.
      ImportError: flatbuffers is not installed (``pip install 'jaxdeep[export]'``).

    Source: `jax.export.deserialize`.

    >>> load_exported("nowhere")
    Traceback (most recent call last):
        ...
    FileNotFoundError: no such file: nowhere
    """
    needed("flatbuffers", "load_exported", "flatbuffers", "export")
    path = _checks.local_path("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    whole = path.read_bytes()
    body, checksum, mark = whole[:-48], whole[-48:-16], whole[-16:]
    if mark != _MARK:
        raise ValueError(f"{path} is truncated, or not a file of jaxdeep.compress.export")
    if hashlib.sha256(body).digest() != checksum:
        raise ValueError(f"{path} is damaged: its checksum does not fit")
    exported = jax.export.deserialize(bytearray(body))
    call = jax.jit(exported.call)

    def predict(x: PyTree) -> PyTree:
        return call(_as_exported(x, exported))

    return predict


def _as_exported(x: PyTree, exported: jax.export.Exported) -> PyTree:
    """Inputs as arrays, whole numbers as floats where these are meant; refuses another structure."""
    arrays = as_arrays(x, "x", inputs=True)
    structure: Any = jax.tree.structure(((arrays,), {}))
    if structure != exported.in_tree:
        (wanted,), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
        x_types = jax.tree.map(lambda a: jax.typeof(jnp.asarray(a)), arrays)
        raise ValueError(f"x must have the structure that was exported, {wanted}, got {x_types}")

    def as_meant(leaf: Any, aval: Any) -> Any:
        whole = not jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(aval.dtype) if whole and jnp.issubdtype(aval.dtype, jnp.floating) else leaf

    leaves = map(as_meant, jax.tree.leaves(arrays), exported.in_avals)
    return jax.tree.unflatten(jax.tree.structure(arrays), leaves)


def check_inference(
    path: str | os.PathLike[str], model: Model, params: PyTree, state: PyTree
) -> pathlib.Path:
    """Refuse what cannot be written as a function of the inputs alone; the file to write."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((params, state))):
        raise ValueError("params and state must be arrays, not traced: export outside of jit")
    check_fit(model, params, state)
    file = _checks.local_path("path", path)
    if file.is_dir():
        raise IsADirectoryError(f"path must be a file, got the directory {file}: name one in it")
    return file


@contextlib.contextmanager
def any_rows() -> Iterator[None]:
    """Say what to do about a model that cannot be traced without the number of rows."""
    try:
        yield
    except Exception as error:
        inconclusive = isinstance(error, jax.errors.InconclusiveDimensionOperation)
        if not inconclusive and "_DimExpr" not in str(error):  # as of len(x) in a module
            raise
        raise ValueError(
            f"the model's shapes depend on the number of rows: fix it with batch_size= ({error})"
        ) from error


def of_any_rows(like: PyTree, batch_size: int | None) -> PyTree:
    """Shapes with a symbol, or the number given, for the number of rows."""
    if not jax.tree.leaves(like) or any(not leaf.shape for leaf in jax.tree.leaves(like)):
        raise ValueError("x must be arrays with the rows first, got a scalar or nothing")
    if batch_size is None:
        (rows,) = jax.export.symbolic_shape("batch")
    else:
        batch_size = _checks.check_count("batch_size", batch_size)
        rows = batch_size
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct((rows, *s.shape[1:]), s.dtype), like)


def write(path: pathlib.Path, content: bytes) -> None:
    """A whole file or none."""
    try:
        _write_all(path, content)
    except OSError as error:
        raise type(error)(
            error.errno,
            f"path could not be written ({error.strerror}): a file of {len(content):,} bytes needs a "
            "folder that is there, may be written to and has room for it",
            str(path),
        ) from error


def _write_all(path: pathlib.Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
