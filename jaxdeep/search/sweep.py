"""`sweep`, which trains every point and seed of a space and tabulates the results."""

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

import jax

from jaxdeep import _checks
from jaxdeep._compilation import check_untraced, meant_transfers
from jaxdeep._shapes import PyTree
from jaxdeep.fitting.interruption import Interruption, interruptible
from jaxdeep.fitting.progress import Report, reporting
from jaxdeep.fitting.setup import Setup
from jaxdeep.fitting.sources import is_batches
from jaxdeep.search import halving as successive
from jaxdeep.search.builder import PURE, Build, Builder, check_data
from jaxdeep.search.halving import SuccessiveHalving
from jaxdeep.search.space import Point, groups, points_of
from jaxdeep.search.table import Table, scalars
from jaxdeep.search.thread_runner import ThreadRunner
from jaxdeep.search.trial import DeviceData, Group, Trial
from jaxdeep.search.vmap_runner import VmapRunner
from jaxdeep.train import monitors
from jaxdeep.train.data import as_arrays, count_examples, to_device
from jaxdeep.train.options import RowOptions, takes

Runner = VmapRunner | ThreadRunner

_STRATEGIES: dict[str, type[Runner]] = {"vmap": VmapRunner, "threads": ThreadRunner}


@takes(RowOptions)
@meant_transfers()
def sweep(
    builder: Build,
    space: Mapping[str, Any] | Sequence[Point],
    *,
    data: PyTree,
    seeds: int = 1,
    key: jax.Array | None = None,
    halving: SuccessiveHalving | None = None,
    strategy: str | None = None,
    rows_at_once: int | None = None,
    memory: int | None = None,
    progress: bool = True,
    **arguments: Unpack[RowOptions],
) -> Table:
    """Train with every point of `space` and every seed, and tabulate the results.

    Points that differ only in floats share one compiled program. All other values (whole numbers, names,
    functions, None) are constants of the program, which is compiled once for each combination of them. A
    row is the run ``jd.fit(…, key=jax.random.key(seed))`` of its point. Rows that stop early or diverge
    do not affect the others.

    With threads, a row is that run bit for bit if its floats are hyperparameters of jaxdeep's
    optimizers. If they go elsewhere (into a loss, a layer, a schedule, another library's optimizer) they
    are arguments of the program instead of constants, and the row is that run to rounding. With "vmap"
    it always is so.

    Args:
      builder: ``hp -> optimizer``, or ``hp -> dict`` of arguments of `jaxdeep.fit` (``optimizer``,
        ``model``, ``loss``, ``batch_size`` …), where `hp` is a point: a dict by name. It is called with
        Python's floats and with traced arrays in their place.
      space: a grid, as a dict of lists or arrays by name, or a list of points (`random_points`).
      data: as for `jaxdeep.fit`.
      seeds: number of runs of each point; their seeds are 0, 1, …
      key: instead of ``jax.random.key(seed)``, seed s runs with ``fold_in(key, s)``.
      halving: a `jaxdeep.search.SuccessiveHalving`, which ends the worst points after a few epochs.
      strategy: "vmap" runs rows stacked and spread over all local devices. "threads" runs them one after
        another in a thread for each core of a CPU or for each accelerator. By default it is "threads" on
        a CPU, where stacking gains nothing, and "vmap" elsewhere.
      rows_at_once: at most this many rows in a stack on each device, or this many threads.
      memory: bytes on each device for the data and the rows that run at once. By default it is what is
        free, if the device says so (a CPU does not).
      progress: show a progress bar, or print lines without a terminal.
      {options}

    The last ones, from `loss` on, are those of every row, as of `jaxdeep.fit`, and a builder that
    returns a dict may give any of them instead. A loss that is not finite raises nothing: with
    ``on_nonfinite="raise"`` its row ends after that epoch as "diverged", while "skip" and "ignore" are
    as in `jaxdeep.fit`. In any case a row that ends with parameters that are not finite is "diverged".

    Returns:
      A `Table`. Ctrl-C ends the rows after the epoch at hand: the table has those that have ended, and
      those that have done an epoch at least as "interrupted". A second one raises at once, and so does
      one before the first epoch.

    Raises:
      ValueError, TypeError: before anything is compiled: an empty space, points of different names, an
        unknown argument, a call inside `jax.jit`, `jax.vmap` or `jax.grad` with traced values, and what
        `jaxdeep.fit` refuses. After compilation: a row that does not fit into
        `memory`.

    Source: grid and random search, Bergstra & Bengio (2012).

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> x = jnp.linspace(-1, 1, 64)[:, None]
    >>> table = sweep(lambda hp: jd.optimizers.sgd(hp["learning_rate"]),
    ...               {"learning_rate": jnp.array([1e-3, 1e-1])}, seeds=2, model=jd.nn.dense(1),
    ...               data=(x, 3 * x), loss=jd.losses.mse, epochs=3, batch_size=16, progress=False)
    >>> len(table.rows()), round(table.best("loss")["learning_rate"], 3)
    (4, 0.1)
    """
    given = [key, space, arguments.get("class_weight")]
    check_untraced("sweep", [tree for tree in given if not isinstance(tree, Iterator)], instead=PURE)
    if not callable(builder):
        raise TypeError(f"builder must be a function of a point, got {builder!r}")
    seeds = _checks.check_count("seeds", seeds)
    if rows_at_once is not None:
        rows_at_once = _checks.check_count("rows_at_once", rows_at_once)
    if memory is not None:
        memory = _checks.check_count("memory", memory)
    if strategy not in (None, *_STRATEGIES):
        raise ValueError(f"strategy must be 'vmap', 'threads' or None, got {strategy!r}")
    if halving is not None:
        successive.check(halving)
    _checks.check_flag("progress", progress)
    if key is not None:
        _checks.check_key(key)
    points = points_of(space)
    validation = arguments.pop("validation", None)
    for name, value in (("data", data), ("validation", validation)):
        if is_batches(value):
            raise TypeError(f"sweep needs arrays as {name}: every row passes over them; got {value!r}")
    data = as_arrays(data)
    count_examples(data)
    build = Builder(builder, arguments)
    if validation is not None:
        validation = as_arrays(validation, "validation")
        count_examples(validation, "validation")
    data, validation = to_device((data, validation))

    keys = [jax.random.key(s) if key is None else jax.random.fold_in(key, s) for s in range(seeds)]
    check_untraced("sweep", data, validation, keys, instead=PURE)
    grouped = list(_grouped(build, points, keys))
    for group in grouped:
        run = check_data(group.rows[0].setup, data, validation)
        if halving is not None:
            every = group.rows[0].setup.options["validate_every"]
            successive.check_metrics(halving, scalars(run.history), every)
    if strategy is None:
        strategy = "threads" if jax.default_backend() == "cpu" else "vmap"
    device_data = DeviceData(data, validation)
    make_runner = _STRATEGIES[strategy]
    runners = [
        (group, make_runner(group, device_data, at_once=rows_at_once, memory=memory))
        for group in grouped
    ]
    rows = sorted((row for group in grouped for row in group.rows), key=lambda row: row.place)
    epochs = sum(row.setup.epochs for row in rows)
    with (
        reporting(epochs, None, show=progress, title=f"{len(rows)} rows") as report,
        interruptible(show=progress) as interruption,
    ):
        _run(runners, rows, halving, _Meter(report, epochs), interruption)
    rows = _begun(rows, interruption)
    named = tuple({**points[row.place[0]], "seed": row.place[1]} for row in rows)
    return Table(named, tuple(row.standing() for row in rows))


def _grouped(build: Builder, points: list[Point], keys: list[jax.Array]) -> Iterator[Group]:
    """The rows in groups that one program may serve."""
    for fixed, members in groups(points):
        rows = []
        for i in members:
            # with Python numbers, so that errors of the builder come before anything is traced
            setup = build(points[i])
            floats = {name: value for name, value in points[i].items() if name not in fixed}
            rows += [Trial((i, seed), setup, floats, key) for seed, key in enumerate(keys)]
        yield Group(rows, functools.partial(_traced, build, fixed))


def _traced(build: Builder, fixed: Point, floats: Point) -> Setup:
    return build({**fixed, **floats})


def _run(
    runners: list[tuple[Group, Runner]],
    rows: list[Trial],
    halving: SuccessiveHalving | None,
    on_epochs: "_Meter",
    interruption: Interruption,
) -> None:
    """Run every row to its end, rung by rung, or until an interruption."""
    points: dict[int, list[Trial]] = {}
    for row in rows:
        points.setdefault(row.place[0], []).append(row)
    running = list(points.values())
    *rungs, last = successive.rungs(halving, max(row.setup.epochs for row in rows))
    for until in (*rungs, last):
        for group, runner in runners:
            if going := [row for row in group.rows if row.result is None]:
                runner.advance(going, until, on_epochs, interruption)
            if interruption.noted:
                return
        if halving is not None and until != last:
            running = _halved(halving, running, on_epochs)


def _begun(rows: list[Trial], interruption: Interruption) -> list[Trial]:
    """All rows; of an interrupted sweep, those that have done an epoch at least, and have ended now."""
    if not interruption.noted:
        return rows
    for row in rows:
        if row.result is None and row.run is not None and int(row.run.epoch) > 0:
            row.end("interrupted")
    kept = [row for row in rows if row.result is not None]
    if not kept:
        raise KeyboardInterrupt
    return kept


def _halved(
    halving: SuccessiveHalving, points: list[list[Trial]], on_epochs: "_Meter"
) -> list[list[Trial]]:
    """The points that go on, after the others have been ended."""
    standings = [[row.standing() for row in rows] for rows in points]
    metric, sign = monitors.resolve(halving, scalars(standings[0][0].history))
    values = [[standing.value(metric) for standing in seeds] for seeds in standings]
    best = set(successive.survivors(halving, values, sign))
    for i, rows in enumerate(points):
        for row in rows:
            if i not in best and row.run is not None:
                on_epochs(row.setup.epochs - int(row.run.epoch))
                row.end("halved")
    return [rows for i, rows in enumerate(points) if i in best]


class _Meter:
    """Counts the epochs of all threads, and reports each twentieth of the total."""

    def __init__(self, report: Report, total: int) -> None:
        self.report, self.total = report, total
        self.done = self.told = 0
        self.lock = threading.Lock()

    def __call__(self, epochs: int) -> None:
        with self.lock:
            self.done += epochs
            if self.done - self.told >= self.total / 20 or self.done == self.total > self.told:
                self.told = self.done
                self.report(self.done, {})
