"""Checkpoints of a run, which are written atomically, verified, and refused by any other run."""

import contextlib
import pathlib
import shutil
import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._extras import needed
from jaxdeep.fitting.block import Position
from jaxdeep.fitting.description import About, differences, in_words_of_today
from jaxdeep.fitting.directory import held, reason_of
from jaxdeep.fitting.run_arrays import digest_of, filled_run, named_arrays, with_room
from jaxdeep.optimizers.hyperparameters import RECORDED, injected, recorded
from jaxdeep.train import rewinding
from jaxdeep.train.missing import with_nan, without_nan
from jaxdeep.train.monitors import resolve
from jaxdeep.train.options import FitOptions
from jaxdeep.train.run import RunState

Values = Mapping[str, np.ndarray]  # of an epoch by name


class Checkpoints:
    """A directory of checkpoints of one run, one for each epoch saved, kept by Orbax.

    A checkpoint holds every array of a `RunState` by its path, a SHA-256 over all arrays, and a
    description of the run. It appears under its name only when it is complete. This is a class because
    the directory must be closed, as an open file must; use `opened`. With a `refusal` the directory
    cannot be written: what is there is read, and a run that is to go on raises it.
    """

    def __init__(self, about: About, options: FitOptions, refusal: OSError | None = None):
        self._ocp = ocp = _orbax()
        from orbax.checkpoint import checkpoint_managers as policies

        self.directory = pathlib.Path(options["checkpoint"] or "").expanduser().resolve()
        self.about, self._epochs, self._every = about, options["epochs"], options["validate_every"]
        self._watched, self._refusal = options["early_stopping"], refusal
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
            create=False,
        )
        if refusal is None:
            _remove_unfinished(self.directory)
        self._manager = ocp.CheckpointManager(self.directory, options=managed)

    def close(self) -> None:
        """Release the directory."""
        self._manager.close()

    def save(self, run: RunState, values: Values, position: Position) -> None:
        """Add a checkpoint after an epoch that gave these values and left the data at this position."""
        args = self._ocp.args
        on_host: Any = with_nan(run.history)
        arrays = named_arrays(with_room(run._replace(history=on_host), self._epochs))
        about = {"epochs": self._epochs, "sha256": digest_of(arrays), "position": position}
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
            with contextlib.suppress(OSError):
                _remove_unfinished(self.directory)
            raise OSError(self._not_written(int(run.epoch), error)) from error

    def _not_written(self, epoch: int, error: Exception) -> str:
        before = [step for step in _checkpoints_in(self.directory) if step < epoch]
        kept = f"that of epoch {max(before)} is whole" if before else "there is none before it"
        return (
            f"the checkpoint of epoch {epoch} could not be written to {str(self.directory)!r} "
            f"({reason_of(error)}); {kept}. Make room there, or make the directory writable, and call "
            "fit again: it goes on from the last checkpoint"
        )

    def restore(self, like: RunState, epochs: int) -> tuple[RunState, Position]:
        """The newest undamaged checkpoint, as a state like `like`, and the position of its data.

        Without a checkpoint, these are `like` itself and None.

        A run with ``ema=True`` that earlier versions saved without the statistics of the averaged
        network begins these with its own, and a warning says so. The history of earlier versions is NaN
        for what they did not record. An evaluation that a run of fewer epochs had only since it ended
        there is undone.

        Raises:
          ValueError: a checkpoint of another run, with what differs, or of a run of more epochs.
          OSError: the directory cannot be written, and the run goes on.
        """
        damaged: list[int] = []
        for epoch in sorted(self._manager.all_steps(), reverse=True):
            try:
                about = self._read_about(epoch)
                lacks_averaged = "averaged" in self.about and "averaged" not in about
                if lacks_averaged:  # as earlier versions saved it
                    about |= {"averaged": self.about["averaged"]}
                kept = like._replace(averaged=()) if lacks_averaged else like
                lacks_before = "before" in self.about and "before" not in about
                if lacks_before:
                    about |= {"before": self.about["before"]}
                    kept = rewinding.without_before(kept)
                lacking = _unrecorded(like).difference(about["metrics"])
                about |= {"metrics": sorted({*about["metrics"], *lacking})}
                if later := self._later(like):
                    about |= {"hyperparameters": later | about["hyperparameters"]}
                self._check_run(about)
                self._check_beginning(about)
                self._check_contents(about)
                run = self._read(epoch, about, kept._replace(history=_without(like.history, lacking)))
            except _OtherRun as refusal:
                raise ValueError(str(refusal)) from None
            except Exception as error:  # whatever a damaged file makes Orbax raise
                damaged.append(epoch)
                warnings.warn(
                    f"the checkpoint of epoch {epoch} in {self.directory} is damaged "
                    f"({reason_of(error)}); trying the one before",
                    stacklevel=4,
                )
                continue
            if self._refusal is None:
                self._set_aside(damaged)
            if lacks_before:
                run = rewinding.with_before(run, like)
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
            run = rewinding.rewound(run, epochs, self._every)
            if self._refusal is not None and int(run.epoch) < epochs and not bool(run.stopped):
                raise self._refusal
            room = len(next(iter(like.history.values())))
            unknown: Any = {name: np.asarray(like.history[name])[:0] for name in lacking}
            run = with_room(run._replace(history={**run.history, **unknown}), room)
            history: Any = jax.tree.map(jnp.asarray, without_nan(run.history))  # type: ignore[arg-type]
            return run._replace(history=history), about["position"]
        if damaged:
            raise ValueError(
                f"none of the checkpoints in {self.directory} can be read; delete the directory to "
                "begin anew"
            )
        if self._refusal is not None:
            raise self._refusal
        return like, None

    def _read_about(self, epoch: int) -> About:
        return in_words_of_today(self._restored(epoch, about=self._ocp.args.JsonRestore())["about"])

    def _read(self, epoch: int, about: About, like: RunState) -> RunState:
        like = with_room(like, about["epochs"])
        expected = named_arrays(like)
        template = {n: a for n, a in expected.items() if a.size}
        restored = self._restored(epoch, run=self._ocp.args.StandardRestore(template))["run"]
        arrays = expected | {n: np.asarray(a) for n, a in restored.items()}
        if digest_of(arrays) != about["sha256"]:
            raise ValueError("its arrays do not have the checksum they were written with")
        return filled_run(like, arrays)

    def _restored(self, epoch: int, **items: Any) -> Mapping[str, Any]:
        """These items of a checkpoint, read as Orbax' arguments say."""
        return self._manager.restore(epoch, args=self._ocp.args.Composite(**items))

    def _later(self, like: RunState) -> dict[str, Any]:
        """The hyperparameters that earlier versions did not describe."""
        names = injected(like.train_state.opt_state)
        return {name: v for name, v in self.about["hyperparameters"].items() if name in names}

    def _check_run(self, about: About) -> None:
        # names of entries that only other versions have are no difference
        there = {name: value for name, value in about.items() if name in self.about}
        if odd := differences(there, self.about, apart=["contents", "began_with"]):
            raise _OtherRun(
                f"checkpoint={str(self.directory)!r} holds another run; it differs in "
                + "; ".join(odd)
                + ". Give a new directory, or delete that one"
            )

    def _check_beginning(self, about: About) -> None:
        """Refuse other parameters to begin with, where the checkpoint knows those it had."""
        here: Any = self.about["began_with"]
        there: Any = about.get("began_with", here)  # earlier versions did not keep it
        if there == here:
            return
        if isinstance(there, str) or isinstance(here, str):
            origins = [_GIVEN[isinstance(began, str)] for began in (there, here)]
            odd = f"its first parameters were {origins[0]} there and are {origins[1]} here"
        else:
            paths = [path for path in {**here, **there} if here.get(path) != there.get(path)]
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            odd = f"the values of {', '.join(paths[:3])}{more} are others here than there"
        raise _OtherRun(
            f"checkpoint={str(self.directory)!r} holds a run that began with something else: {odd}, so "
            "that it would not end with the same result. Pass the params= and state=, or the "
            "train_state=, that it was begun with, give a new directory, or delete that one"
        )

    def _check_contents(self, about: About) -> None:
        """Refuse data of other values, where the checkpoint knows those it had."""
        for name, here in self.about["contents"].items():
            there = about.get("contents", {}).get(name, here)  # earlier versions did not keep it
            if there == here:
                continue
            if there is None or here is None:
                difference = (
                    f"{name} was {_FORMS[there is None]} there and is {_FORMS[here is None]} here"
                )
            else:
                odd = [path for path in here if here[path] != there.get(path)]
                arrays = " and ".join(f"{name}[{path}]" if path else name for path in odd)
                difference = f"the values of {arrays} are others here than there"
            raise _OtherRun(
                f"checkpoint={str(self.directory)!r} holds a run on other data: {difference}, so that "
                "it would not end with the same result. Pass the arrays that it was begun with, give a "
                "new directory, or delete that one"
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
    with held(pathlib.Path(options["checkpoint"] or "").expanduser().resolve()) as refusal:
        checkpoints = Checkpoints(about, options, refusal)
        try:
            yield checkpoints
        finally:
            checkpoints.close()


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


def _remove_unfinished(directory: pathlib.Path) -> None:
    """Remove what is left of checkpoints that were not completed.

    Orbax' writers are still at work when it raises the first error, and write folders anew that are
    removed under them. So what is left is gone once it has stayed away for a moment.

    Raises:
      OSError: it does not go.
    """
    if jax.process_index() > 0:  # of several processes of one run, the first removes it
        return
    ends, seen = time.monotonic() + _PATIENCE, 0.0
    while (left := [*directory.glob(_UNFINISHED)]) or time.monotonic() < seen + _MOMENT:
        if left:
            seen = time.monotonic()
        for place in left:
            shutil.rmtree(place, ignore_errors=True)
        if seen > ends:
            raise OSError(
                f"{str(left[0])!r} is left of a checkpoint that was not completed, and cannot be "
                "removed; remove it, or give another directory"
            )
        time.sleep(0.01)


def _unrecorded(run: RunState) -> set[str]:
    """What earlier versions did not record: some hyperparameters, and the losses of several outputs."""
    opt_state = run.train_state.opt_state
    later = injected(opt_state)
    hyper = recorded(opt_state)
    return {name for name in hyper if name in later or name.split("/")[-1] not in RECORDED} | {
        name for name in run.history if name.endswith("/loss")
    }


def _without(history: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: values for name, values in history.items() if name not in names}


_UNFINISHED = "*.orbax-checkpoint-tmp*"
_MOMENT, _PATIENCE = 0.2, 20.0  # seconds
_GIVEN = {False: "given", True: "drawn by the key"}
_FORMS = {False: "arrays", True: "batches of a loader"}


def _first_free(directory: pathlib.Path, epoch: int) -> int:
    number = 1
    while (directory / f"damaged-{epoch}-{number}").exists():
        number += 1
    return number


def _orbax() -> Any:
    return needed("orbax.checkpoint", "checkpoint=", "orbax-checkpoint", "checkpoint")
