"""How the rows of a sweep are taken to their ends: group by group, rung by rung, or job by job."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeAlias

from jaxdeep._compilation import uninterrupted
from jaxdeep._warning import warn
from jaxdeep.fitting.interruption import Interruption
from jaxdeep.fitting.progress import Report, reporting
from jaxdeep.search.records.journal import Event
from jaxdeep.search.records.store import Store
from jaxdeep.search.rows import telling_point
from jaxdeep.search.runners.thread_runner import settings
from jaxdeep.search.strategies import asynchronous
from jaxdeep.search.strategies import halving as successive
from jaxdeep.search.strategies import hyperband as brackets
from jaxdeep.search.strategies.asynchronous import AsynchronousHalving, Job
from jaxdeep.search.strategies.halving import SuccessiveHalving
from jaxdeep.search.strategies.hyperband import Hyperband
from jaxdeep.search.tables.table import scalars
from jaxdeep.search.trial import Group, OnEpochs, Trial
from jaxdeep.train import monitors

Strategy: TypeAlias = SuccessiveHalving | Hyperband | AsynchronousHalving
STRATEGIES = (SuccessiveHalving, Hyperband, AsynchronousHalving)


class Runner(Protocol):
    """What runs the rows of a group."""

    def prepare(self) -> None:
        """Compile what can be compiled before rows are due; called in any thread."""

    def advance(
        self, rows: list[Trial], until: int, on_epochs: OnEpochs, interruption: Interruption
    ) -> None:
        """Take rows to the end of epoch `until`, or until an interruption."""


MakeRunner = Callable[[Group], Runner]


class Crew:
    """The runners of a sweep, made when their groups are due and dropped when these have ended."""

    def __init__(self, groups: Sequence[Group], make_runner: MakeRunner) -> None:
        self.groups, self._make = groups, make_runner
        self._runners: dict[int, Runner] = {}
        self._lock = threading.Lock()
        self._group_of = {id(row): i for i, group in enumerate(groups) for row in group.rows}

    def advance(
        self, rows: Sequence[Trial], until: int, on_epochs: OnEpochs, interruption: Interruption
    ) -> None:
        """Take rows of any groups to the end of epoch `until`, or until an interruption."""
        parts: dict[int, list[Trial]] = {}
        for row in rows:
            if row.result is None and row.epoch < min(until, row.setup.epochs):
                parts.setdefault(self._group_of[id(row)], []).append(row)
        waiting = [*parts]
        for i, part in parts.items():
            waiting.remove(i)
            runner = self._runner(i)
            with self._compiling(waiting[:1]):
                runner.advance(part, until, on_epochs, interruption)
            if interruption.noted:
                return
            if all(row.result is not None for row in self.groups[i].rows):
                self._runners.pop(i, None)  # its programs and copies of data are not needed any more

    def _runner(self, i: int) -> Runner:
        with self._lock:
            if i not in self._runners:
                self._runners[i] = self._make(self.groups[i])
            return self._runners[i]

    @contextlib.contextmanager
    def _compiling(self, groups: Sequence[int]) -> Iterator[None]:
        """A context during which a thread compiles for these groups, whose errors come later."""
        in_thread = settings()

        def compile_all() -> None:
            with contextlib.suppress(Exception), in_thread(None):
                for i in groups:
                    self._runner(i).prepare()

        thread = threading.Thread(target=compile_all, name="jaxdeep-sweep-compiler")
        if groups:
            thread.start()
        try:
            yield
        finally:
            if groups:
                with uninterrupted():  # a process that ends while a thread compiles crashes
                    thread.join()


def drive(
    groups: list[Group],
    rows: list[Trial],
    make_runner: MakeRunner,
    halving: Strategy | None,
    store: Store,
    *,
    order: Sequence[int] | None = None,
    workers: int,
    show: bool,
    interruption: Interruption,
) -> list[Trial]:
    """Train all rows to their ends, and return them; after an interruption, only those that have begun.

    Args:
      groups, rows: the rows, and how they can be run together.
      make_runner: makes what runs a group.
      halving: which rows are ended early.
      store: where decisions are kept.
      order: of points, for strategies that compare only some of them; by default as they are.
      workers: rows that run at the same time.
      show: whether to report.
      interruption: whether to go on.

    Raises:
      FloatingPointError: no point is left whose metric is finite.
      Exception: what every row raised.
    """
    epochs = sum(row.setup.epochs for row in rows)
    done = sum(row.setup.epochs if row.result is not None else row.epoch for row in rows)
    points: dict[int, list[Trial]] = {}
    for row in rows:
        points.setdefault(row.place[0], []).append(row)
    if order is None or isinstance(
        halving, SuccessiveHalving
    ):  # which compares all, the first of equals
        order = [*points]
    seeds = [points[i] for i in order]
    crew = Crew(groups, make_runner)
    if isinstance(halving, Hyperband) and show:
        print(brackets.plan(halving, max(row.setup.epochs for row in rows), len(seeds)), flush=True)
    with reporting(epochs, None, show=show, title=f"{len(rows)} rows", begun=done) as report:
        on_epochs = _Meter(report, epochs, done, store if show else None)
        if isinstance(halving, AsynchronousHalving):
            _job_by_job(crew, seeds, halving, store, workers, on_epochs, interruption)
        else:
            for part, rungs in _brackets(seeds, halving):
                _rung_by_rung(crew, part, rungs, halving, on_epochs, interruption)
            if halving is not None and not interruption.noted:
                _check_any(seeds, halving)
    _tell_errors(rows)
    return _begun(rows, interruption)


def _brackets(
    points: list[list[Trial]], halving: SuccessiveHalving | Hyperband | None
) -> list[tuple[list[list[Trial]], list[int]]]:
    """The rows that are compared with each other, by point, and the epochs after which they are."""
    epochs = max(row.setup.epochs for seeds in points for row in seeds)
    if not isinstance(halving, Hyperband):
        return [(points, successive.rungs(halving, epochs))]
    shared = brackets.brackets(halving, epochs, len(points))
    members = brackets.assign(shared)
    return [([points[i] for i in part], b.rungs) for part, b in zip(members, shared)]


def _rung_by_rung(
    crew: Crew,
    running: list[list[Trial]],
    rungs: list[int],
    halving: SuccessiveHalving | Hyperband | None,
    on_epochs: "_Meter",
    interruption: Interruption,
) -> None:
    """Run rows to their ends, all to a rung before any goes on, or until an interruption."""
    for until in rungs:
        going = [row for seeds in running for row in seeds]
        for row in going:
            row.look()
        if not interruption.noted:
            crew.advance(going, until, on_epochs, interruption)
        if interruption.noted:
            return
        if halving is not None and until != rungs[-1]:
            running = _halved(halving, running, until, on_epochs)
            if not running:  # every point of the bracket has diverged
                return


def _halved(
    halving: SuccessiveHalving | Hyperband,
    points: list[list[Trial]],
    until: int,
    on_epochs: "_Meter",
) -> list[list[Trial]]:
    """The points that go on after a rung, when the others have been ended.

    Those that went further in an earlier call, with fewer rivals, keep what they have.
    """
    metric, sign = _metric(halving, points)
    values = [[row.value_at(until, metric) for row in seeds] for seeds in points]
    best = set(successive.survivors(halving, values, sign))
    out = [row for i, rows in enumerate(points) for row in rows if i not in best and row.result is None]
    for row in out:
        on_epochs(row.setup.epochs - row.epoch)
        row.end("halved")
    return [rows for i, rows in enumerate(points) if i in best]


def _metric(halving: Strategy, points: list[list[Trial]]) -> tuple[str, float]:
    """The metric by which points are compared, and the sign that makes smaller values better."""
    # a row that could not be traced has no shapes
    shapes = next(row.shapes for seeds in points for row in seeds if row.shapes is not None)
    return monitors.resolve(halving, scalars(shapes.history))


def _check_any(points: list[list[Trial]], halving: Strategy) -> None:
    """Refuse a sweep of which no row went to its end: no metric was finite, or all raised."""
    rows = [row for seeds in points for row in seeds]
    if any(row.standing().ended in ("finished", "stopped") for row in rows):
        return
    _tell_errors(rows)  # an error in a row may be why no row has ended
    metric, _ = _metric(halving, points)
    some = "; ".join(str(dict(seeds[0].point)) for seeds in points[:50])
    more = f" and {len(points) - 50} more" if len(points) > 50 else ""
    raise FloatingPointError(
        f"no point has a finite {metric} after epoch {int(halving.first)} or a later rung, so that none "
        f"can go on: {some}{more}"
    )


def _job_by_job(
    crew: Crew,
    points: list[list[Trial]],
    halving: AsynchronousHalving,
    store: Store,
    workers: int,
    on_epochs: "_Meter",
    interruption: Interruption,
) -> None:
    """Run rows as asynchronous halving decides, with a thread for each worker."""
    metric, _ = _metric(halving, points)
    halving = halving._replace(monitor=metric)
    epochs = max(row.setup.epochs for seeds in points for row in seeds)
    state = asynchronous.replay(halving, len(points), epochs, _told(store, points, halving, epochs))
    changed = threading.Condition()
    with_settings = settings()

    def next_job() -> Job | None:
        nonlocal state
        with changed:
            while not interruption.noted:
                job, state = asynchronous.ask(state)
                if isinstance(job, Job):
                    return job
                if job == "done":
                    return None
                changed.wait(1.0)
            return None

    def work() -> None:
        nonlocal state
        with with_settings(None):
            while (job := next_job()) is not None:
                seeds = points[job.point]
                crew.advance(seeds, job.until, on_epochs, interruption)
                if interruption.noted:
                    return
                value = successive.value_of([row.value_at(job.until, metric) for row in seeds])
                with changed:
                    state = asynchronous.tell(state, job, value)
                    job_told = {"row": seeds[0].id, "rung": job.rung, "until": job.until}
                    store.tell({**job_told, "value": repr(value), "rows": len(seeds)})
                    changed.notify_all()

    def worked() -> None:
        try:
            work()
        except BaseException:
            with changed:
                interruption.noted = True  # so that the other threads end, too
                changed.notify_all()
            raise

    pool = ThreadPoolExecutor(workers, "worker")
    try:
        for future in [pool.submit(worked) for _ in range(workers)]:
            future.result()
    finally:
        with uninterrupted():
            pool.shutdown()
    if not interruption.noted:
        _catch_up(crew, points, state, on_epochs, interruption)
    if interruption.noted:
        return
    _check_any(points, halving)
    for point in asynchronous.halved(state):
        for row in points[point]:
            if row.result is None:
                on_epochs(row.setup.epochs - row.epoch)
                row.end("halved")


def _told(
    store: Store, points: list[list[Trial]], halving: AsynchronousHalving, epochs: int
) -> list[tuple[Job, float | None]]:
    """The jobs of earlier calls and their values; without one, that of a last rung that has moved.

    What a point with other rows than there were then has done from there on is decided anew.
    """
    for seeds in points:
        for row in seeds:
            row.look()
    place = {seeds[0].id: i for i, seeds in enumerate(points)}
    ends = successive.rungs(halving, epochs)
    latest = {(job["row"], job["rung"]): job for job in store.told if job["rung"] < len(ends)}
    jobs: list[tuple[Job, float | None]] = []
    anew = set[str]()
    for (name, rung), told in latest.items():
        point, value = place[name], float(told["value"])
        if name in anew or _has_changed(points[point], told, value):
            anew.add(name)
        else:
            jobs.append((Job(point, ends[rung], rung), value if told["until"] == ends[rung] else None))
    return jobs


def _has_changed(seeds: list[Trial], told: Event, value: float) -> bool:
    """Whether a point has rows that were not there when its job was told, or one that is tried again."""
    if told.get("rows", len(seeds)) != len(seeds):
        return True
    retried = any(
        row.result is None and row.past.ended is None and row.epoch < told["until"] for row in seeds
    )
    return math.isnan(value) and retried


def _catch_up(
    crew: Crew,
    points: list[list[Trial]],
    state: asynchronous.State,
    on_epochs: "_Meter",
    interruption: Interruption,
) -> None:
    """Take rows to the last rung of their points, from which the files of an earlier call are gone."""
    last = {point: end for end, rung in zip(state.ends, state.rungs) for _, point in rung.reached}
    for until in state.ends:
        rows = [row for point, end in last.items() if end == until for row in points[point]]
        crew.advance(rows, until, on_epochs, interruption)
        if interruption.noted:
            return


def _begun(rows: list[Trial], interruption: Interruption) -> list[Trial]:
    """All rows; of an interrupted sweep, those that have done an epoch at least, and have ended now."""
    if not interruption.noted:
        return rows
    for row in rows:
        if row.result is None and row.epoch > 0:
            row.end("interrupted")
    return [row for row in rows if row.result is not None]


def _tell_errors(rows: Sequence[Trial]) -> None:
    """Warn of rows that ended with an error. If all did, raise it."""
    failed = [row for row in rows if row.result is not None and row.result.ended == "error"]
    if not failed:
        return
    raised = next((row.error for row in failed if row.error is not None), None)
    last = (failed[0].result.error if failed[0].result else "").strip().splitlines()[-1:]
    if len(failed) == len(rows):
        if raised is not None:
            with telling_point(next(row.point for row in failed if row.error is raised)):
                raise raised
        raise RuntimeError(
            f"all {len(rows)} rows ended with an error in an earlier call, such as {' '.join(last)}; "
            "mend what raised it, and pass retry_errors=True"
        )
    warn(
        f"{len(failed)} of {len(rows)} rows ended with an error, such as {' '.join(last)}; the error "
        "of a row of the table is in table.results[row].error"
    )


class _Meter:
    """Counts the epochs of all threads, and reports each twentieth of the total.

    What is reported outlives the process, if it is kept in a `store`.
    """

    def __init__(self, report: Report, total: int, done: int, store: Store | None) -> None:
        self.report, self.total, self.store = report, total, store
        self.done = self.told = done
        self.lock = threading.Lock()

    def __call__(self, epochs: int) -> None:
        with self.lock:
            self.done += epochs
            if self.done - self.told >= self.total / 20 or self.done == self.total > self.told:
                self.told = self.done
                if self.store is not None:
                    self.store.flush()
                self.report(self.done, {})
