"""A model on disk: a directory of ``model.json`` and ``arrays.safetensors``."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, overload

import jax

from jaxdeep import _checks
from jaxdeep._arrays import leaves_of
from jaxdeep._compilation import is_traced
from jaxdeep._extras import needed
from jaxdeep._shapes import PyTree
from jaxdeep._version import __version__
from jaxdeep.fitting.placement import fetched
from jaxdeep.nn.fits import check_fit
from jaxdeep.nn.model import Model
from jaxdeep.saving import trees
from jaxdeep.saving.architecture import from_config, to_config
from jaxdeep.saving.forms import (
    FORMAT,
    FORMS,
    OWN,
    PLAIN,
    VERSION,
    Arrays,
    Document,
    Form,
    beside,
    digest_of,
    locked,
)
from jaxdeep.saving.training import PREFIX, described, restored
from jaxdeep.saving.values import Json
from jaxdeep.saving.writing import check_free, write, written

_SEALED = re.compile(rb'(.*),\n  "sha256": "([0-9a-f]{64})"\n}\n', re.DOTALL)


def save(
    path: str | os.PathLike[str],
    model: Model,
    params: PyTree,
    state: PyTree,
    *,
    form: str = "jaxdeep",
    training: Mapping[str, Any] | None = None,
) -> None:
    """Save a model: its architecture as a readable config, its arrays as safetensors.

    `path` becomes a directory of ``model.json`` and ``arrays.safetensors``. A model saved there before
    is replaced; at every moment, and after a crash, `load` finds the old one or the new one. Nothing is
    pickled: functions and layers that are not jaxdeep's go by the name they were given with
    `jaxdeep.saving.register`.

    Args:
      path: the directory, made with those above it. One that holds something else is left alone.
      model: a `Model`.
      params, state: dicts (lists, tuples) of arrays. Arrays on several devices are gathered; Python
        numbers become arrays, weak types are not kept.
      form: "jaxdeep", or "huggingface" for a directory that the Hub knows: ``config.json``,
        ``model.safetensors``, which says that its format is flax, and a model card, ``README.md``, which
        is written where there is none. `load` reads both.
      training: what `jaxdeep.fit` needs to go on, as a dict of its arguments: ``result.training``
        (`FitResult.training`), or some of it, such as ``{"optimizer": …, "loss": …, "metrics": …}``
        without a train state. ``load(path, training=True)`` gives it back. Optimizers, schedules,
        losses, metrics and penalties of jaxdeep are kept by their names and arguments, and so are most
        of optax (a table in docs/guide.md has the others), your own functions by the names of
        `jaxdeep.saving.register`. In place of an optimizer that has none, pass what makes it,
        ``functools.partial(optax.lbfgs, 0.1)`` or a function that is registered.

    With several processes all of them call it, and the first writes.

    Raises:
      ValueError: a function, a layer or an optimizer without a name, arrays that are not those of the
        model or that could not be loaded again. FileExistsError: `path` is something else than a saved
        model. OSError: `path` cannot be written.
      ImportError: safetensors is not installed.

    Source: Keras' `save_model`; arrays in the format of safetensors.

    >>> import tempfile, jax, jax.numpy as jnp, jaxdeep as jd
    >>> model = jd.nn.serial(hidden=jd.nn.dense(3, activation=jax.nn.relu), out=jd.nn.dense(1))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/model_a", model, params, state)
    ...     again, params_a, state_a = load(f"{folder}/model_a")
    >>> again
    serial(
        hidden=dense(features=3, activation=relu),
        out=dense(features=1),
    )
    >>> jax.tree.map(lambda a, b: bool((a == b).all()), params, params_a)["out"]
    {'bias': True, 'kernel': True}
    """
    if is_traced((params, state)):
        raise TypeError(
            "save writes to files and cannot be traced: it was called inside jax.jit, jax.vmap or "
            "jax.grad; return the parameters from there and save them outside"
        )
    needed("safetensors", "saving models", "safetensors", "checkpoint")
    _checks.check_choice("form", form, [*FORMS])
    layout = FORMS[form]
    directory = _directory(path)
    about: Json = None
    more: PyTree = {}
    if training is not None:
        about, more = described(training, params, state)
    params, state = leaves_of("params", params), leaves_of("state", state)
    if jax.process_index() == 0:
        check_free(directory, layout)
    architecture = to_config(model)
    document = {
        "format": FORMAT,
        "format_version": PLAIN if about is None else VERSION,
        "jaxdeep_version": __version__,
        "architecture": architecture,
        "params": trees.skeleton(params, "params"),
        "state": trees.skeleton(state, "state"),
    }
    check_fit(model, *(trees.like(document[root], root) for root in ("params", "state")))
    if about is not None:
        document["training"] = about
    named = trees.flat({"params": params, "state": state} | ({"training": more} if more else {}))
    arrays = {name: trees.stored(fetched(array)) for name, array in named.items()}
    if jax.process_index() == 0:
        with written(directory):
            write(directory, document, arrays, layout)
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(f"jaxdeep.save {directory}")


@overload
def load(
    path: str | os.PathLike[str], *, training: Literal[False] = False
) -> tuple[Model, PyTree, PyTree]: ...
@overload
def load(
    path: str | os.PathLike[str], *, training: Literal[True]
) -> tuple[Model, PyTree, PyTree, dict[str, Any]]: ...
def load(path: str | os.PathLike[str], *, training: bool = False) -> tuple[Any, ...]:
    """The model, parameters and state that `save` wrote.

    Checksums are compared before anything is made, the constructors check their arguments, and only
    layers of jaxdeep and what was registered by name (`jaxdeep.saving.register`) are made. Arrays come
    back as jax arrays of the dtypes they had, on the default device.

    Args:
      path: the directory.
      training: whether to return what `jaxdeep.fit` needs to go on, too: a dict of its arguments, as it
        was passed to `save`. ``fit(model, data, **training, epochs=2)`` then goes on, and draws batches
        and dropout as if it had not been interrupted; what belongs to a call, such as `batch_size`, is
        passed again (`FitResult.training`).

    Returns:
      The model, its parameters and its state; with ``training=True`` the dict, too.

    Raises:
      FileNotFoundError: no saved model there, or half of one. ValueError: a file that is damaged, was
        changed, is of a newer version or names something that is not registered in this process; float64
        arrays as long as x64 is off; with ``training=True`` a model that was saved without it.
        ImportError: safetensors is not installed.

    Source: Keras' `load_model`.

    >>> import tempfile, jaxdeep as jd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/model_a", jd.nn.swish(), {"beta": 2.0}, {})
    ...     model, params, state = load(f"{folder}/model_a")
    >>> model, params
    (swish(), {'beta': Array(2., dtype=float32)})
    """
    needed("safetensors", "saving models", "safetensors", "checkpoint")
    _checks.check_flag("training", training)
    directory = _directory(path)
    if not directory.exists():
        raise FileNotFoundError(f"there is no saved model at {str(directory)!r}; jd.save writes one")
    if not directory.is_dir():
        raise ValueError(
            f"{str(directory)!r} is a file; a saved model is a directory with a {OWN.document}"
        )
    with locked(directory, exclusive=False):
        form = _form_of(directory)
        document = _read(directory / form.document)
        file = _arrays_file(directory, document["arrays"], form)
        with located(directory / form.document):
            model = from_config(document["architecture"])
            like = {root: trees.like(document[root], root) for root in ("params", "state")}
        with located(file):
            check_fit(model, like["params"], like["state"])
            arrays = arrays_in(file)
            about = document.get("training")
            more = {name: arrays.pop(name) for name in [*arrays] if about and name.startswith(PREFIX)}
            filled = trees.filled(like, arrays)
    params, state = filled["params"], filled["state"]
    if not training:
        return model, params, state
    with located(directory / form.document):
        if about is None:
            raise ValueError(
                "the model was saved without what fit needs to go on: save it with jd.save(…, "
                "training=result.training)"
            )
        return model, params, state, restored(about, params, state, more)


# --- reading --------------------------------------------------------------------------------------


def _form_of(directory: pathlib.Path) -> Form:
    """The form that a saved model has; the own one if there is none."""
    other = FORMS["huggingface"]
    if (directory / OWN.document).exists() or not (directory / other.document).exists():
        return OWN
    return other


def _read(file: pathlib.Path) -> Document:
    """The document in ``model.json``, after its format and its checksum were checked."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no {str(file)!r}: the directory is no saved model, or its saving was cut off"
        ) from None
    except OSError as error:
        raise ValueError(f"{str(file)!r} cannot be read: {error}") from error
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(file)!r} is damaged: it is not JSON ({error}); {_AGAIN}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(
            f"{str(file)!r} is not of a model that jaxdeep saved: its format is not {FORMAT!r}"
        )
    version = document.get("format_version")
    if type(version) is int and version > VERSION:
        raise ValueError(
            f"{str(file)!r} is of format version {version}, written by jaxdeep "
            f"{document.get('jaxdeep_version')}; this is jaxdeep {__version__}, which reads versions up "
            f"to {VERSION}: install a newer one"
        )
    sealed = _SEALED.fullmatch(data)
    if sealed is None or hashlib.sha256(sealed[1]).hexdigest().encode() != sealed[2]:
        raise ValueError(
            f"{str(file)!r} was damaged or changed since it was written: it does not have its checksum; "
            f"{_AGAIN}"
        )
    with located(file):
        _check_document(document)
    return document


_AGAIN = "use a sound copy of the directory, or save the model again"


def _check_document(document: Document) -> None:
    fits: dict[str, Callable[[Json], bool]] = {
        "format": lambda format: format == FORMAT,
        "format_version": lambda version: type(version) is int and version == _version_of(document),
        "jaxdeep_version": lambda version: isinstance(version, str),
        "architecture": lambda config: isinstance(config, dict),
        "params": lambda skeleton: True,
        "state": lambda skeleton: True,
        "arrays": _describes_a_file,
        "sha256": lambda digest: isinstance(digest, str),
    }
    if "training" in document:
        fits["training"] = lambda about: isinstance(about, dict) and bool(about)
    odd = sorted(set(document) ^ set(fits))
    odd += [name for name in fits if name in document and not fits[name](document[name])]
    if odd:
        raise ValueError(f"it does not have the fields of this format; look at {odd[0]!r}")


def _version_of(document: Document) -> int:
    """The version that a document of this content has."""
    return VERSION if "training" in document else PLAIN


def _describes_a_file(about: Json) -> bool:
    if not isinstance(about, dict) or set(about) != {"bytes", "sha256"}:
        return False
    digest = re.fullmatch("[0-9a-f]{64}", str(about["sha256"]))
    return type(about["bytes"]) is int and digest is not None


def _arrays_file(directory: pathlib.Path, about: dict[str, Json], form: Form) -> pathlib.Path:
    """The file with the arrays that belong to the document."""
    file = directory / form.arrays
    newer = directory / beside(about["sha256"])
    for candidate in (newer, file):  # beside it: saving was cut off before the old arrays went
        if candidate.is_file() and digest_of(candidate) == about["sha256"]:
            return candidate
    if not file.exists():
        raise FileNotFoundError(
            f"there is no {str(file)!r}, which belongs to {form.document} there; {_AGAIN}"
        )
    size = file.stat().st_size
    if size != about["bytes"]:
        raise ValueError(
            f"{str(file)!r} has {size} bytes and should have {about['bytes']}: it was cut off, changed, "
            f"or belongs to another {form.document}; {_AGAIN}"
        )
    raise ValueError(
        f"{str(file)!r} was damaged or changed, or belongs to another {form.document}: it does not have "
        f"the checksum it was written with; {_AGAIN}"
    )


def arrays_in(file: pathlib.Path) -> Arrays:
    """The arrays in a safetensors file, by name."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"it cannot be read as safetensors: {error}") from error


# --- both -----------------------------------------------------------------------------------------


def _directory(path: str | os.PathLike[str]) -> pathlib.Path:
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise TypeError(f"path must be the path of a directory, got {path!r}")
    _checks.check_local_path("path", path)
    return pathlib.Path(os.path.realpath(pathlib.Path(path).expanduser()))


@contextlib.contextmanager
def located(file: pathlib.Path) -> Iterator[None]:
    """Put the file in front of an error."""
    try:
        yield
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(file)!r}: {error}") from error.__cause__
