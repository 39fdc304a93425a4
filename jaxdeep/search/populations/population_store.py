"""A population on disk: a journal of its generations, and its members at the newest generation."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxdeep._extras import needed
from jaxdeep._warning import warn
from jaxdeep.fitting.description import About, differences
from jaxdeep.fitting.directory import held, reason_of
from jaxdeep.fitting.run_arrays import filled_run, named_arrays
from jaxdeep.search.populations.lineage import Generation
from jaxdeep.search.records import row_file
from jaxdeep.search.records.journal import POPULATION, Event, Journal, no_event, sync_file, write_file
from jaxdeep.search.records.row_file import Place
from jaxdeep.train.missing import with_nan, without_nan
from jaxdeep.train.run import RunState

_FORMAT, _VERSION = "jaxdeep-population", 2


class Saved(NamedTuple):
    """A population as it was saved: the epoch, the stacked runs, and the generations so far."""

    epoch: int
    runs: RunState
    lineage: list[Generation]


class Directory:
    """The directory of one population.

    `population.jsonl` holds a line that describes the population, and then one for each generation when
    it has ended. A line is written after the file of the states that it names is whole and on the disk,
    so that at every moment the newest line tells where to go on. With a `refusal` the directory cannot
    be written: a population that has ended is read, and one that is to go on raises it.

    Raises:
      ValueError: the directory holds another population, or something else; a line in the middle of the
        journal is damaged.
    """

    def __init__(self, directory: pathlib.Path, about: About, refusal: OSError | None = None) -> None:
        needed("safetensors.numpy", "checkpoint=", "safetensors", "checkpoint")
        self.directory, self._refusal = directory, refusal
        # In the form in which JSON gives it back, for comparison.
        self._about = json.loads(json.dumps(about))
        if not (directory / POPULATION).exists():
            self._check_free()
        self._journal = Journal(directory / POPULATION, refusal, of="population")
        try:
            self._lines = self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def restore(self, like: RunState, every: int, epochs: int) -> Saved | None:
        """The population as it was at the newest exploit or end whose states are whole; None at first.

        Raises:
          ValueError: it has done more epochs than `epochs`, or no states can be read.
          OSError: the directory cannot be written, and the population goes on.
        """
        by_end = {line["until"]: line for line in self._lines}
        if by_end and max(by_end) > epochs:
            raise ValueError(
                f"epochs must be at least {max(by_end)}, as many as the population in "
                f"{str(self.directory)!r} has done; got {epochs}"
            )
        if self._refusal is not None and epochs not in by_end:
            raise self._refusal
        # where a run of fewer epochs ended, one of more has no exploit unless `every` says so
        ends = [end for end in sorted(by_end, reverse=True) if end % every == 0 or end == epochs]
        for end in ends:
            try:
                runs = self._states(by_end[end], like)
            except Exception as error:  # whatever a damaged file makes safetensors raise
                warn(
                    f"{_file_of(end)} in {self.directory} is damaged ({reason_of(error)}); trying the "
                    "one before"
                )
                continue
            by_begin = {line["epoch"]: line for line in self._lines if line["epoch"] < end}
            return Saved(end, runs, [_generation(by_begin[begin]) for begin in sorted(by_begin)])
        if ends:
            raise ValueError(
                f"none of the states in {self.directory} can be read; delete the directory to begin anew"
            )
        return None

    def save(self, generation: Generation, until: int, runs: RunState) -> None:
        """Add a generation that has ended after `until` epochs, and the states that it has left.

        Raises:
          OSError: there is no room, or the disk refuses.
        """
        history: Any = {name: v[:, :until] for name, v in with_nan(runs.history).items()}
        arrays = named_arrays(runs._replace(history=history))
        line = {
            "epoch": generation.epoch,
            "until": until,
            "parents": generation.parents.tolist(),
            "hyperparameters": {n: v.tolist() for n, v in generation.hyperparameters.items()},
        }
        path = self.directory / _file_of(until)
        try:
            write_file(path, row_file.contents(arrays, until))
            sync_file(path)
            with contextlib.suppress(OSError):  # not every system syncs directories
                sync_file(self.directory)
            self._journal.add([line])
        except OSError as error:
            ends = [line["until"] for line in self._lines]
            kept = f"those of epoch {ends[-1]} are whole" if ends else "there are none before them"
            raise OSError(
                f"the states of epoch {until} could not be written to {str(self.directory)!r} "
                f"({reason_of(_cause(error))}); {kept}. Make room there, or make the directory "
                "writable, and call population again: it goes on from the last states"
            ) from error
        self._lines.append(line)
        # those before stay too, in case that the new ones get damaged
        needed_files = {_file_of(until), _file_of(generation.epoch)}
        for file in self.directory.glob(_file_of("*")):
            if file.name not in needed_files:
                file.unlink(missing_ok=True)

    def _states(self, line: Event, like: RunState) -> RunState:
        until = line["until"]
        arrays, epoch = row_file.read(Place(self.directory / _file_of(until)))
        if epoch != until:
            raise ValueError(f"it is of epoch {epoch}")
        history: Any = {name: v[:, :until] for name, v in with_nan(like.history).items()}
        runs = filled_run(like._replace(history=history), arrays)
        known = without_nan(with_nan(runs.history))
        return runs._replace(
            history={
                name: jnp.asarray(values).at[:, :until].set(known[name])
                for name, values in like.history.items()
            }
        )

    def _read(self) -> list[Event]:
        """The lines of the journal but the first, which is written, or compared with this population."""
        if not self._journal.events:
            header = {"format": _FORMAT, "format_version": _VERSION, "about": self._about}
            self._journal.add([header])
            return []
        header, *lines = self._journal.events
        if not {"format", "about"} <= header.keys():
            raise no_event(self._journal.path, 1, header, "population")
        self._check(header)
        for number, line in enumerate(lines, 2):
            if not {"epoch", "until", "parents", "hyperparameters"} <= line.keys():
                raise no_event(self._journal.path, number, line, "population")
        return lines

    def _check(self, header: dict[str, Any]) -> None:
        """Refuse the journal of another population, with what differs."""
        place = f"checkpoint={str(self.directory)!r}"
        if (header["format"], header.get("format_version")) != (_FORMAT, _VERSION):
            raise ValueError(f"{place} holds a population of another version; give another directory")
        if odd := differences(header["about"], self._about):
            raise ValueError(
                f"{place} holds another population; it differs in {'; '.join(odd)}. Give "
                "another directory, or delete that one"
            )

    def _check_free(self) -> None:
        """Refuse a directory of something else."""
        others = [
            place.name
            for place in self.directory.iterdir()
            if not place.name.startswith(".") and place.name != POPULATION
        ]
        if others:
            raise ValueError(
                f"checkpoint={str(self.directory)!r} holds {sorted(others)[0]!r}, and no population; "
                "give an empty directory"
            )


class _Nowhere:
    """Stands in for `Directory` in a population without any: nothing is saved or restored."""

    def restore(self, like: RunState, every: int, epochs: int) -> Saved | None:
        return None

    def save(self, generation: Generation, until: int, runs: RunState) -> None:
        pass


Store = Directory | _Nowhere


@contextlib.contextmanager
def opened(checkpoint: str | os.PathLike[str] | None, about: About | None) -> Iterator[Store]:
    """The store of the population that `about` describes, locked against others; None is no store."""
    if checkpoint is None or about is None:
        yield _Nowhere()
        return
    directory = pathlib.Path(checkpoint).expanduser().resolve()
    with held(directory, "population") as refusal:
        if refusal is None:
            for left in directory.glob(f".{_file_of('*')}.tmp"):  # left by a process that was killed
                left.unlink(missing_ok=True)
        with contextlib.closing(Directory(directory, about, refusal)) as store:
            yield store


def _file_of(epoch: int | str) -> str:
    return f"members-{epoch}.safetensors"


def _generation(line: dict[str, Any]) -> Generation:
    explored = {name: np.array(values, float) for name, values in line["hyperparameters"].items()}
    return Generation(line["epoch"], np.array(line["parents"], int), explored)


def _cause(error: OSError) -> Exception:
    """The error of the operating system behind an error, or the error itself."""
    return error.__cause__ if isinstance(error.__cause__, OSError) else error
