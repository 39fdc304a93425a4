"""`BatchTrainer`, which trains the points of a sweep as they are asked for, a batch at a time."""

import dataclasses
import functools
from collections.abc import Hashable, Iterator, Sequence

from jaxdeep.fitting.progress import is_live
from jaxdeep.lasting.identity import Json
from jaxdeep.search.driving import MakeRunner, Runner, Strategy
from jaxdeep.search.records.description import name_rows
from jaxdeep.search.records.store import Store
from jaxdeep.search.resampling.subset import WHOLE, DeviceData
from jaxdeep.search.rows import grouped_rows
from jaxdeep.search.runners.same_program import same_program
from jaxdeep.search.runners.thread_runner import ThreadRunner
from jaxdeep.search.runners.vmap_runner import VmapRunner
from jaxdeep.search.spaces.space import Point
from jaxdeep.search.spaces.values import words
from jaxdeep.search.sweeping import Sweeping, prepared, run
from jaxdeep.search.tables.table import Result, scalars
from jaxdeep.search.trial import Group, Trial, traceback_of
from jaxdeep.train import monitors
from jaxdeep.train.monitors import EarlyStopping

_MOST = 8  # runners with programs that later batches may use

BySeed = dict[int, Result]


class BatchTrainer:
    """Trains batches of points with all seeds, each as a sweep, with the programs of earlier batches.

    Args:
      sweeping: the sweep.
      halving: which points of a batch are ended early.
      watched: the metric that points are compared by.
      store: where rows are kept.
      about: what the sweep is in its journal.

    Attributes:
      errors: what the last batch raised.
    """

    def __init__(
        self,
        sweeping: Sweeping,
        halving: Strategy | None,
        watched: EarlyStopping,
        *,
        store: Store,
        about: Json,
    ) -> None:
        # without a bar, a line a batch is enough
        quiet = sweeping.how._replace(progress=sweeping.how.progress and is_live())
        self.sweeping, self.halving, self.watched = sweeping._replace(how=quiet), halving, watched
        self.store, self.about, self.interruption = store, about, sweeping.interruption
        self.device_data = DeviceData(sweeping.data, sweeping.validation)
        sweeping.build.balance = functools.partial(self.device_data.balanced, WHOLE)
        self.errors: list[Exception] = []
        self._firsts: dict[Hashable, Trial] = {}
        self._runners: dict[Hashable, Runner] = {}

    def tried(self, points: Sequence[Point]) -> None:
        """Refuse what fails for each of these points, before any is trained.

        Raises:
          Exception: what is raised for the first of them.
        """
        errors: list[Exception] = []
        for point in points:
            try:
                (group,) = self._grouped([point])
                prepared(self.sweeping, group, self.device_data, self.halving)
            except Exception as error:
                errors.append(error)
            else:
                monitors.resolve(self.watched, scalars(group.rows[0].shapes.history))
                return
        if errors:
            raise errors[0]

    def trained(self, points: Sequence[Point], old: Sequence[bool]) -> list[BySeed]:
        """The results of points by seed, all seeds but for those that an interruption left out.

        Args:
          points: distinct ones.
          old: whether a point is not to be trained, and has results only if they are in the store.
        """
        self.errors = []
        results: list[BySeed] = [{} for _ in points]
        built = [i for i, point in enumerate(points) if self._builds(point, results[i])]
        groups = []
        asked = [points[i] for i in built]
        for group in self._grouped(asked):
            try:
                self._prepare(self._widened(group))
            except Exception as error:
                for row in group.rows:
                    results[built[row.place[0]]][row.place[2]] = self._failed(error)
            else:
                groups.append(group)
        rows = sorted((row for group in groups for row in group.rows), key=lambda row: row.place)
        if self.store.lasts:
            name_rows(rows, asked, self.about)
        going = {id(row) for row in rows if not old[built[row.place[0]]] or self.store.holds(row)}
        rows = [row for row in rows if id(row) in going]
        groups = [group._replace(rows=[r for r in group.rows if id(r) in going]) for group in groups]
        ended = all(old) and not any(map(self.store.lost, rows))
        for row in self._known(rows) if ended else self._advanced(asked, groups, rows):
            if row.result is not None:
                results[built[row.place[0]]][row.place[2]] = row.result
        self.store.flush(durable=True)  # what is told of them is on the disk before
        return results

    def _known(self, rows: list[Trial]) -> list[Trial]:
        """Rows that have ended in earlier calls, with their results."""
        for row in rows:
            row.store = self.store
        self.store.register(rows, partial=True)
        for row in rows:
            if row.result is None and row.past.ended is not None:
                row.end(row.past.ended.ended)
        return rows

    def _advanced(self, points: Sequence[Point], groups: list[Group], rows: list[Trial]) -> list[Trial]:
        """Train the rows to their ends, and return them; if interrupted, only those that have begun."""
        groups = [group for group in groups if group.rows]
        if not rows or self.interruption.noted:
            return []
        try:
            return run(
                *(self.sweeping, points, (WHOLE,), groups, rows),
                *(self.device_data, self.store, self.halving),
                partial=True,
                around=self._runner,
            )
        except Exception as error:
            if any(row.result is None for row in rows):
                raise
            self.errors.append(error)  # that all rows of the batch have ended with
            return rows

    def _grouped(self, points: Sequence[Point]) -> Iterator[Group]:
        return grouped_rows(self.sweeping.build, self.sweeping.keys, points, self.device_data)

    def _builds(self, point: Point, results: BySeed) -> bool:
        try:
            self.sweeping.build(point)
        except Exception as error:
            failed = self._failed(error)
            results.update((seed, failed) for seed in range(len(self.sweeping.keys)))
            return False
        return True

    def _failed(self, error: Exception) -> Result:
        self.errors.append(error)
        return Result(None, None, {}, -1, "error", traceback_of(error))

    def _prepare(self, group: Group) -> None:
        prepared(self.sweeping, group, self.device_data, self.halving)
        monitors.resolve(self.watched, scalars(group.rows[0].shapes.history))

    def _widened(self, group: Group) -> Group:
        """The group with the first row of its kind, so that a float in which they differ is an argument.

        Else a batch of one row would have a program with its floats as constants. Workers of an executor
        know the rows of their batch alone.
        """
        if self.sweeping.how.executor is not None:
            return group
        first = self._firsts.setdefault(_kind(group), dataclasses.replace(group.rows[0]))
        return group._replace(rows=[first, *group.rows])

    def _runner(self, make: MakeRunner, group: Group) -> Runner:
        """A runner, whose programs are those of an earlier batch if floats are arguments.

        If the rows are runs of `jaxdeep.fit` with its very program, a new runner finds that by itself.
        """
        wide, kind = self._widened(group), _kind(group)
        kept = self._runners.pop(kind, None)
        runner = kept or make(wide)
        if (
            kept
            or isinstance(runner, VmapRunner)
            or (isinstance(runner, ThreadRunner) and not same_program([row.setup for row in wide.rows]))
        ):
            self._runners[kind] = runner
        while len(self._runners) > _MOST:
            self._runners.pop(next(iter(self._runners)))
        return runner


def _kind(group: Group) -> Hashable:
    """Something hashable that is equal for groups of batches that one program may serve."""
    row = group.rows[0]
    fixed = [(name, value) for name, value in row.point.items() if name not in row.floats]
    return frozenset(row.floats), words(fixed)
