"""A population on disk: a journal of its generations, and its members as they were at the newest."""

import contextlib
import json
import os
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxdeep._extras import needed
from jaxdeep.fitting.description import About, difference_of
from jaxdeep.fitting.directory import held, reason_of
from jaxdeep.fitting.run_arrays import digest_of, filled_run, named_arrays
from jaxdeep.search.populations.lineage import Generation
from jaxdeep.train.missing import with_nan, without_nan
from jaxdeep.train.run import RunState

JOURNAL = "population.jsonl"
_FORMAT, _VERSION = "jaxdeep-population", 1
# What safetensors writes; other dtypes, such as bfloat16, are written as their bytes.
_STORED = {"bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))}
_STORED |= {"float16", "float32", "float64"}


class Saved(NamedTuple):
    """A population after some epochs: those, its stacked runs, and its generations so far."""

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
        self._numpy = needed("safetensors.numpy", "checkpoint=", "safetensors", "checkpoint")
        self.directory, self._journal, self._refusal = directory, directory / JOURNAL, refusal
        self._about = json.loads(json.dumps(about))  # as it is read
        self._lines = self._read()

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
                warnings.warn(
                    f"{_file_of(end)} in {self.directory} is damaged ({reason_of(error)}); trying the "
                    "one before",
                    stacklevel=4,
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
            "sha256": digest_of(arrays),
        }
        try:
            _write(self.directory / _file_of(until), self._numpy.save(_stored(arrays)))
            self._append(line)
        except OSError as error:
            ends = [line["until"] for line in self._lines]
            kept = f"those of epoch {ends[-1]} are whole" if ends else "there are none before them"
            raise OSError(
                f"the states of epoch {until} could not be written to {str(self.directory)!r} "
                f"({reason_of(error)}); {kept}. Make room there, or make the directory writable, and "
                "call population again: it goes on from the last states"
            ) from error
        self._lines.append(line)
        # those before stay too, in case that the new ones get damaged
        needed_files = {_file_of(until), _file_of(generation.epoch)}
        for file in self.directory.glob(_file_of("*")):
            if file.name not in needed_files:
                file.unlink(missing_ok=True)

    def _states(self, line: dict[str, Any], like: RunState) -> RunState:
        stored = self._numpy.load((self.directory / _file_of(line["until"])).read_bytes())
        until = line["until"]
        history: Any = {name: v[:, :until] for name, v in with_nan(like.history).items()}
        expected = like._replace(history=history)
        arrays = _as_they_were(stored, named_arrays(expected))
        if digest_of(arrays) != line["sha256"]:
            raise ValueError("its arrays do not have the checksum they were written with")
        runs = filled_run(expected, arrays)
        known = without_nan(with_nan(runs.history))
        return runs._replace(
            history={
                name: jnp.asarray(values).at[:, :until].set(known[name])
                for name, values in like.history.items()
            }
        )

    def _read(self) -> list[dict[str, Any]]:
        """The lines of the journal but the first, which is written, or compared with this population."""
        data = self._journal.read_bytes() if self._journal.exists() else b""
        *whole, torn = data.split(b"\n")
        lines = [self._parsed(number, line) for number, line in enumerate(whole, 1)]
        if not lines:
            self._check_free()
            if self._refusal is not None:
                raise self._refusal
            with contextlib.suppress(FileNotFoundError):
                self._journal.unlink()
            self._append({"format": _FORMAT, "format_version": _VERSION, "about": self._about})
            return []
        self._check(lines[0])
        if torn:
            warnings.warn(
                f"the last line of {self._journal} was not written to its end, and is left out",
                stacklevel=5,
            )
            if self._refusal is None:
                os.truncate(self._journal, len(data) - len(torn))
        return lines[1:]

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            parsed = json.loads(line)
            wanted = {"format", "about"} if number == 1 else {"epoch", "until", "parents", "sha256"}
            if not wanted <= set(parsed):
                raise ValueError("it lacks fields")
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"line {number} of {str(self._journal)!r} is damaged ({reason_of(error)}), so that it "
                "is not known what was done; give another directory, or delete that one to begin anew"
            ) from None
        return parsed

    def _check(self, header: dict[str, Any]) -> None:
        """Refuse the journal of another population, with what differs."""
        place = f"checkpoint={str(self.directory)!r}"
        if (header["format"], header.get("format_version")) != (_FORMAT, _VERSION):
            raise ValueError(f"{place} holds a population of another version; give another directory")
        there = header["about"]
        differences = [
            f"{name}: {difference_of(there.get(name), self._about.get(name))}"
            for name in {**there, **self._about}
            if there.get(name) != self._about.get(name)
        ]
        if differences:
            raise ValueError(
                f"{place} holds another population; it differs in {'; '.join(differences)}. Give "
                "another directory, or delete that one"
            )

    def _check_free(self) -> None:
        """Refuse a directory of something else."""
        others = [
            place.name
            for place in self.directory.iterdir()
            if not place.name.startswith(".") and place.name != JOURNAL
        ]
        if others:
            raise ValueError(
                f"checkpoint={str(self.directory)!r} holds {sorted(others)[0]!r}, and no population; "
                "give an empty directory"
            )

    def _append(self, line: dict[str, Any]) -> None:
        """Write a line to the disk; if that fails, the journal ends where it did."""
        with self._journal.open("ab") as file:
            size = file.tell()
            try:
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
        _sync(self.directory)


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
            for left in directory.glob(f".{_file_of('*')}.tmp"):  # by a process that was killed
                left.unlink(missing_ok=True)
        yield Directory(directory, about, refusal)


def _file_of(epoch: int | str) -> str:
    return f"members-{epoch}.safetensors"


def _generation(line: dict[str, Any]) -> Generation:
    explored = {name: np.array(values, float) for name, values in line["hyperparameters"].items()}
    return Generation(line["epoch"], np.array(line["parents"], int), explored)


def _stored(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays as they go into the file: in C order, in a dtype that safetensors knows."""
    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return {n: a if a.dtype.name in _STORED else a.view(np.uint8) for n, a in ordered.items()}


def _as_they_were(
    stored: dict[str, np.ndarray], expected: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The arrays of a file, in their own dtypes again."""
    return {
        name: stored[name] if array.dtype.name in _STORED else stored[name].view(array.dtype)
        for name, array in expected.items()
    }


def _write(path: pathlib.Path, contents: bytes) -> None:
    """Write a file that has its name only once it is whole and on the disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(directory: pathlib.Path) -> None:
    """Have the names in a directory on the disk, where the system can open one."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
