"""Checkpoints of a run, which are written atomically, verified, and refused by any other run."""

import contextlib
import errno
import hashlib
import os
import pathlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._extras import needed
from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.fitting.block import Position
from jaxdeep.fitting.placement import fetched
from jaxdeep.fitting.setup import Setup
from jaxdeep.optimizers import hyperparams
from jaxdeep.train.missing import with_nan, without_nan
from jaxdeep.train.monitors import resolve
from jaxdeep.train.options import FitOptions, TrialOptions, options_of
from jaxdeep.train.run import RunState
from jaxdeep.tree import path_name

About = dict[str, Any]  # what tells a run from others, as JSON
Values = Mapping[str, np.ndarray]  # of an epoch by name


class Checkpoints:
    """A directory of checkpoints of one run, one for each epoch saved, kept by Orbax.

    A checkpoint holds every array of a `RunState` by its path, a SHA-256 over all arrays, and a
    description of the run. It appears under its name only when it is complete. This is a class because
    the directory must be closed, as an open file must; use `opened`.
    """

    def __init__(self, about: About, options: FitOptions):
        self._ocp = ocp = _orbax()
        from orbax.checkpoint import checkpoint_managers as policies

        self.directory = pathlib.Path(options["checkpoint"] or "").expanduser().resolve()
        self.about, self._epochs = about, options["epochs"]
        self._watched = options["early_stopping"]
        retained: list[Any] = [policies.LatestN(options["keep_checkpoints"])]
        if self._watched is not None:
            smallest = policies.BestN(
                get_metric_fn=lambda metrics: metrics["value"],
                reverse=True,  # sorts values falling, so that the best is the smallest
                n=1,
                keep_checkpoints_without_metrics=False,
            )
            retained.append(smallest)
        _check_entries(self.directory)
        managed = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(retained),
            enable_async_checkpointing=False,  # the next segment overwrites the arrays
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=managed)

    def close(self) -> None:
        """Release the directory."""
        self._manager.close()

    def save(self, run: RunState, values: Values, position: Position) -> None:
        """Add a checkpoint after an epoch that gave these values and left the data at this position."""
        args = self._ocp.args
        on_host: Any = with_nan(run.history)
        arrays = _arrays(_with_room(run._replace(history=on_host), self._epochs))
        about = {"epochs": self._epochs, "sha256": _digest(arrays), "position": position}
        metrics = None
        if self._watched is not None:
            monitor, sign = resolve(self._watched, values)
            if not np.isnan(values[monitor]):
                metrics = {"value": sign * float(values[monitor])}
        try:
            self._manager.save(
                int(run.epoch),
                args=args.Composite(
                    run=args.StandardSave({n: a for n, a in arrays.items() if a.size}),
                    about=args.JsonSave(self.about | about),
                ),
                metrics=metrics,
                force=True,
            )
            self._manager.wait_until_finished()
        except Exception as error:  # of the system, or of the array store, which words it otherwise
            raise OSError(self._not_written(int(run.epoch), error)) from error

    def _not_written(self, epoch: int, error: Exception) -> str:
        before = [step for step in _checkpoints_in(self.directory) if step < epoch]
        kept = f"that of epoch {max(before)} is whole" if before else "there is none before it"
        return (
            f"the checkpoint of epoch {epoch} could not be written to {str(self.directory)!r} "
            f"({_reason(error)}); {kept}. Make room there, or make the directory writable, and call fit "
            "again: it goes on from the last checkpoint"
        )

    def restore(self, like: RunState, epochs: int) -> tuple[RunState, Position]:
        """The newest undamaged checkpoint, as a state like `like`, and the position of its data.

        Without a checkpoint, these are `like` itself and None.

        A run with ``ema=True`` that earlier versions saved without the statistics of the averaged
        network begins these with its own, and a warning says so.

        Raises:
          ValueError: a checkpoint of another run, with what differs, or of a run of more epochs.
        """
        damaged: list[int] = []
        for epoch in sorted(self._manager.all_steps(), reverse=True):
            try:
                about = self._read_about(epoch)
                lacks_averaged = "averaged" in self.about and "averaged" not in about
                if lacks_averaged:  # as earlier versions saved it
                    about |= {"averaged": self.about["averaged"]}
                self._check_run(about)
                self._check_contents(about)
                run = self._read(epoch, about, like._replace(averaged=()) if lacks_averaged else like)
            except _OtherRun as refusal:
                raise ValueError(str(refusal)) from None
            except Exception as error:  # whatever a damaged file makes Orbax raise
                damaged.append(epoch)
                warnings.warn(
                    f"the checkpoint of epoch {epoch} in {self.directory} is damaged "
                    f"({_reason(error)}); trying the one before",
                    stacklevel=4,
                )
                continue
            self._set_aside(damaged)
            if lacks_averaged:
                run = run._replace(averaged=jax.tree.map(jnp.copy, run.train_state.state))
                warnings.warn(
                    f"the checkpoint of epoch {epoch} in {self.directory} has no statistics of the "
                    "averaged network (ema=True), as earlier versions of jaxdeep kept none: those of "
                    "the run itself are taken, and the statistics of the average begin there",
                    stacklevel=3,
                )
            if int(run.epoch) > epochs:
                raise ValueError(
                    f"epochs must be at least {int(run.epoch)}, as many as the run in "
                    f"{str(self.directory)!r} has done; got {epochs}"
                )
            room = len(next(iter(like.history.values())))
            run = _with_room(run._replace(history=dict(run.history)), room)
            history: Any = jax.tree.map(jnp.asarray, without_nan(run.history))  # type: ignore[arg-type]
            return run._replace(history=history), about["position"]
        if damaged:
            raise ValueError(
                f"none of the checkpoints in {self.directory} can be read; delete the directory to "
                "begin anew"
            )
        return like, None

    def _read_about(self, epoch: int) -> About:
        return _in_words_of_today(self._restored(epoch, about=self._ocp.args.JsonRestore())["about"])

    def _read(self, epoch: int, about: About, like: RunState) -> RunState:
        like = _with_room(like, about["epochs"])
        expected = _arrays(like)
        template = {n: a for n, a in expected.items() if a.size}
        restored = self._restored(epoch, run=self._ocp.args.StandardRestore(template))["run"]
        arrays = expected | {n: np.asarray(a) for n, a in restored.items()}
        if _digest(arrays) != about["sha256"]:
            raise ValueError("its arrays do not have the checksum they were written with")
        return _filled(like, arrays)

    def _restored(self, epoch: int, **items: Any) -> Mapping[str, Any]:
        """These items of a checkpoint, read as Orbax' arguments say."""
        return self._manager.restore(epoch, args=self._ocp.args.Composite(**items))

    def _check_run(self, about: About) -> None:
        differences = [
            f"{name}: {_difference(about.get(name), value)}"
            for name, value in self.about.items()
            if name != "contents" and about.get(name) != value
        ]
        if differences:
            raise _OtherRun(
                f"checkpoint={str(self.directory)!r} holds another run; it differs in "
                + "; ".join(differences)
                + ". Give a new directory, or delete that one"
            )

    def _check_contents(self, about: About) -> None:
        """Refuse data of other values, where the checkpoint knows those it had."""
        for name, here in self.about["contents"].items():
            there = about.get("contents", {}).get(name, here)  # earlier versions did not keep it
            if there == here:
                continue
            if there is None or here is None:
                what = f"{name} was {_FORMS[there is None]} there and is {_FORMS[here is None]} here"
            else:
                odd = [path for path in here if here[path] != there.get(path)]
                arrays = " and ".join(f"{name}[{path}]" if path else name for path in odd)
                what = f"the values of {arrays} are others here than there"
            raise _OtherRun(
                f"checkpoint={str(self.directory)!r} holds a run on other data: {what}, so that it "
                "would not end with the same result. Pass the arrays that it was begun with, give a new "
                "directory, or delete that one"
            )

    def _set_aside(self, damaged: list[int]) -> None:
        """Rename damaged checkpoints, so that new ones can take their names."""
        for epoch in damaged:
            place = self.directory / str(epoch)
            if place.exists():
                place.rename(self.directory / f"damaged-{epoch}-{_first_free(self.directory, epoch)}")
        if damaged:
            self._manager.reload()


class _Nowhere:
    """Stands in for `Checkpoints` in a run without any: nothing is saved or restored."""

    def save(self, run: RunState, values: Values, position: Position) -> None:
        pass

    def restore(self, like: RunState, epochs: int) -> tuple[RunState, Position]:
        return like, None


Store = Checkpoints | _Nowhere


class _OtherRun(Exception):
    """A checkpoint of another run."""


@contextlib.contextmanager
def opened(about: About | None, options: FitOptions) -> Iterator["Store"]:
    """The checkpoints of the run that `about` describes; None is a run without checkpoints."""
    if about is None:
        yield _Nowhere()
        return
    with _held(pathlib.Path(options["checkpoint"] or "").expanduser().resolve()):
        checkpoints = Checkpoints(about, options)
        try:
            yield checkpoints
        finally:
            checkpoints.close()


@contextlib.contextmanager
def _held(directory: pathlib.Path) -> Iterator[None]:
    """The directory, made if it is missing, and locked against others until the context is left.

    The lock is the system's and ends with the process, however that ends.
    """
    name = f"checkpoint={str(directory)!r}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise type(error)(
            error.errno,
            f"{name} must be a directory that can be written ({error.strerror}); make it so, or give "
            "another one",
        ) from None
    try:
        import fcntl
    except ImportError:  # as on Windows
        yield
        return
    if jax.process_index() > 0:  # of several processes of one run, the first holds it
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{name} is in use by another run; wait until that has ended, or give another directory"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        with contextlib.suppress(OSError):  # a child that was forked meanwhile has the handle, too
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


_NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # file systems'


def _checkpoints_in(directory: pathlib.Path) -> list[int]:
    return [int(place.name) for place in directory.iterdir() if place.name.isdecimal()]


def _check_entries(directory: pathlib.Path) -> None:
    """Refuse what is named as a checkpoint and is none: it would be taken for a damaged one."""
    for place in directory.iterdir():
        if place.name.isdecimal() and not any(
            _is_written(place / name) for name in ("run", "about", "_CHECKPOINT_METADATA")
        ):
            raise ValueError(
                f"checkpoint={str(directory)!r} holds {place.name!r}, which is no checkpoint of a run; "
                "move it elsewhere, or give another directory"
            )


def _is_written(place: pathlib.Path) -> bool:
    """Whether there is a file that is not empty, or a folder with anything in it."""
    if place.is_dir():
        return any(place.iterdir())
    return place.is_file() and place.stat().st_size > 0


def _reason(error: Exception) -> str:
    """The first line of an error, or that there is no room left, which comes late in many lines."""
    text = str(error).strip() or type(error).__name__
    if any(word in text for word in ("RESOURCE_EXHAUSTED", "ENOSPC", os.strerror(errno.ENOSPC))):
        return os.strerror(errno.ENOSPC)
    return text.splitlines()[0][:200]


_FORMS = {False: "arrays", True: "batches of a loader"}


def describe(
    setup: Setup,
    run: RunState,
    likes: Sequence[PyTree],
    contents: Mapping[str, Mapping[str, str] | None],
) -> About:
    """The description of a run, which tells it from others: names, shapes, hyperparameters, options.

    Args:
      setup: the setup of the run.
      run: the run before its first epoch.
      likes: the shapes of the data, and of the validation data if there are any.
      contents: by the same names, the fingerprints of arrays, and None for a loader.
    """
    ts = run.train_state
    rates = {name: np.asarray(v, np.float64).tolist() for name, v in hyperparams(ts.opt_state).items()}
    options = {name: setup.options[name] for name in _DESCRIBED}  # type: ignore[literal-required]
    options |= {"objective": setup.objective}
    if (every := setup.options.get("diagnostics")) is not None:
        options |= {"diagnostics": every}
    # a run with `ema` that earlier versions saved has none (`Checkpoints.restore`)
    averaged = {"averaged": _shapes(run.averaged)} if jax.tree.leaves(run.averaged) else {}
    return {
        "version": _VERSION,
        "model": _lasting(repr(setup.model)),
        "parameters": _shapes(ts.params),
        "state": _shapes(ts.state),
        **averaged,
        "optimizer": _shapes(ts.opt_state),
        "hyperparameters": rates,
        **{name: _shapes(like) for name, like in zip(("data", "validation"), likes)},
        "contents": dict(contents),
        "metrics": sorted(run.history),
        "key": np.asarray(jax.random.key_data(ts.key)).tolist(),
        "arguments": {name: _lasting(repr(value)) for name, value in options.items()},
    }


_DESCRIBED = [name for name in options_of(TrialOptions) if name not in ("epochs", "validation")]
_VERSION = 2
_METRIC = r"\bMetric\((?:[^()]|\([^()]*\))*\)"  # of what functions one is made is its own affair
# Words of descriptions of version 1 and today's: names of options, and patterns in reprs.
_OPTIONS = {"accumulate": "accumulation_steps"}
_WORDS = (
    (r"\bPlateau\(", "ReduceOnPlateau("),
    (r"\b((?:quantized_)?dense)\(units=", r"\1(features="),
    (r"\b((?:quantized_)?embedding)\(size=", r"\1(num_embeddings="),
    (r"(\bembedding\(num_embeddings=[^()]*, )init=", r"\1embedding_init="),
    (_METRIC, "Metric"),
)


def _in_words_of_today(about: About) -> About:
    """A description in the words of the current version, whichever version wrote it."""
    if about.get("version") == _VERSION:
        return about

    def renewed(text: str) -> str:
        for old, new in _WORDS:
            text = re.sub(old, new, text)
        return text

    arguments = {_OPTIONS.get(name, name): renewed(value) for name, value in about["arguments"].items()}
    if arguments.get("on_nonfinite") == "'stop'":  # version 1 wrote "stop" where fit was told "raise"
        arguments["on_nonfinite"] = "'raise'"
    return about | {"version": _VERSION, "model": renewed(about["model"]), "arguments": arguments}


def _with_room(run: RunState, epochs: int) -> RunState:
    """The run with a history of this many epochs, which is cut or filled up with NaN."""
    history: Any = {name: _longer(values, epochs) for name, values in run.history.items()}
    return run._replace(history=history)


def _longer(values: ArrayLike, epochs: int) -> np.ndarray:
    """The values cut to `epochs` of them, or filled up with NaN."""
    values = np.asarray(values)
    more = np.full((max(epochs - len(values), 0), *values.shape[1:]), np.nan, values.dtype)
    return np.concatenate([values[:epochs], more])


def _arrays(run: PyTree) -> dict[str, np.ndarray]:
    """Every array by its path. Random keys are stored as the integers they are made of."""
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(run):
        words = jax.random.key_data(leaf) if _is_key(leaf) else leaf
        named[path_name(path).replace("/", ".")] = fetched(words)
    if len(named) < len(jax.tree.leaves(run)):
        raise ValueError("two leaves of the run have the same path; rename a layer with a '.' in it")
    return named


def _filled(like: PyTree, arrays: Mapping[str, np.ndarray]) -> PyTree:
    def fill(path: jax.tree_util.KeyPath, leaf: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
        array = arrays[path_name(path).replace("/", ".")]
        if _is_key(leaf):
            return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
        if array.shape != np.shape(leaf) or array.dtype != leaf.dtype:
            raise ValueError(f"{path_name(path)} has shape {array.shape} and dtype {array.dtype}")
        # copied, since donation may overwrite it
        return jnp.array(array) if isinstance(leaf, jax.Array) else np.array(array)

    return jax.tree_util.tree_map_with_path(fill, like)


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape};".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _shapes(tree: PyTree) -> dict[str, str]:
    return {
        path_name(path): f"{leaf.dtype}{list(np.shape(leaf))}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _difference(old: Any, new: Any) -> str:
    """The first few entries in which two descriptions differ, as text."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return f"{_short(old)} there, {_short(new)} here"
    odd = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    shown = [
        f"{name} is {_short(old.get(name, 'absent'))} there, {_short(new.get(name, 'absent'))} here"
        for name in odd[:3]
    ]
    return ", ".join(shown) + (f" and {len(odd) - 3} more" if len(odd) > 3 else "")


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else text[:77] + "…"


def _lasting(text: str) -> str:
    """A repr without addresses and inner functions, so that it is the same in another process."""
    return re.sub(_METRIC, "Metric", re.sub(r" at 0x[0-9a-fA-F]+", "", text))


def _first_free(directory: pathlib.Path, epoch: int) -> int:
    number = 1
    while (directory / f"damaged-{epoch}-{number}").exists():
        number += 1
    return number


def _is_key(leaf: ArrayLike) -> bool:
    return jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)


def _orbax() -> Any:
    return needed("orbax.checkpoint", "checkpoint=", "orbax-checkpoint", "checkpoint")
