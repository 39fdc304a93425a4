"""Many runs at once: every point and seed of a space, and the table of what came out."""

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from jaxdeep import _checks
from jaxdeep.fitting.progress import Report, reporting
from jaxdeep.fitting.setup import Setup
from jaxdeep.fitting.sources import is_batches
from jaxdeep.search import halving as successive
from jaxdeep.search.builder import Builder, check_data
from jaxdeep.search.halving import SuccessiveHalving
from jaxdeep.search.space import Point, groups, points_of
from jaxdeep.search.table import Table, scalars
from jaxdeep.search.thread_runner import ThreadRunner
from jaxdeep.search.trial import Group, Placed, Trial
from jaxdeep.search.vmap_runner import VmapRunner
from jaxdeep.train import monitors
from jaxdeep.train.data import count_examples, to_device

PyTree = Any

_STRATEGIES: dict[str, Any] = {"vmap": VmapRunner, "threads": ThreadRunner}


def sweep(
    builder: Callable[[dict[str, Any]], Any],
    space: Mapping[str, Any] | Sequence[Point],
    *,
    data: PyTree,
    seeds: int = 1,
    key: Any = None,
    halving: SuccessiveHalving | None = None,
    strategy: str | None = None,
    rows_at_once: int | None = None,
    memory: int | None = None,
    progress: bool = True,
    **arguments: Any,
) -> Table:
    """Train with every point of `space` and every seed, and tabulate what came out.

    Values that are floats share one compiled program, whatever their number; all others (whole numbers,
    names, functions, None) are fixed in it, so that it is compiled once for each of their combinations.
    A row is the run ``jd.fit(…, key=jax.random.key(seed))`` of its point. Rows that stop early or
    diverge leave the others alone.

    In threads a row is that run bit for bit where floats are hyperparameters of jaxdeep's optimizers.
    Where they go elsewhere (a loss, a layer, a schedule, another library's optimizer) they are arguments
    of the program instead of constants: the row is the run to rounding, as always in a stack.

    Args:
      builder: ``hp -> optimizer``, or ``hp -> dict`` of arguments of `jaxdeep.fit` (``optimizer``,
        ``model``, ``loss``, ``batch_size`` …), where `hp` is a point: a dict by name. It is called with
        Python's floats and with traced arrays in their place.
      space: a grid, as a dict of lists or arrays by name, or a list of points (`random_points`).
      data: as for `jaxdeep.fit`.
      seeds: runs of each point, with the keys of seeds 0, 1, …
      key: instead of ``jax.random.key(seed)``, seed s runs with ``fold_in(key, s)``.
      halving: a `jaxdeep.train.SuccessiveHalving`: points that do worst after a few epochs end there.
      strategy: "vmap" runs rows stacked, spread over all local devices; "threads" one after another in
        a thread for each core of a CPU or for each accelerator. By default "threads" on a CPU, where
        stacking gains nothing, and "vmap" elsewhere.
      rows_at_once: rows of a stack on each device, or threads, at most.
      memory: bytes on each device that rows at once and the data may take; by default what is free,
        where the device says (a CPU does not).
      progress: a progress bar, or lines where there is no terminal; False is silent.
      arguments: further arguments of `jaxdeep.fit`, of every row: model, optimizer (where the builder
        gives none), loss, metrics, penalty, activity, class_weight, objective, epochs, batch_size,
        validation, early_stopping, plateau, accumulation_steps, augment, ema, validate_every, shuffle,
        drop_remainder, trainable, freeze_batch_norm, on_nonfinite. Nothing is raised for a loss that is
        not finite: with ``on_nonfinite="raise"`` its row ends after that epoch, as "diverged"; "skip"
        and "ignore" are as in `jaxdeep.fit`. Whatever it says, a row that ends with parameters that are
        not finite is "diverged".

    Returns:
      A `Table`.

    Raises:
      ValueError, TypeError: before anything is compiled: an empty space, points of different names, an
        unknown argument, and what `jaxdeep.fit` refuses. After it: a row that does not fit in `memory`.

    Source: grid and random search, Bergstra & Bengio (2012).

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> x = jnp.linspace(-1, 1, 64)[:, None]
    >>> table = sweep(lambda hp: jd.optimizers.sgd(hp["learning_rate"]),
    ...               {"learning_rate": jnp.array([1e-3, 1e-1])}, seeds=2, model=jd.nn.dense(1),
    ...               data=(x, 3 * x), loss=jd.losses.mse, epochs=3, batch_size=16, progress=False)
    >>> len(table.rows()), round(table.best("loss")["learning_rate"], 3)
    (4, 0.1)
    """
    if not callable(builder):
        raise TypeError(f"builder must be a function of a point, got {builder!r}")
    _checks.check_count("seeds", seeds)
    for name, bound in (("rows_at_once", rows_at_once), ("memory", memory)):
        if bound is not None:
            _checks.check_count(name, bound)
    if strategy not in (None, *_STRATEGIES):
        raise ValueError(f"strategy must be 'vmap', 'threads' or None, got {strategy!r}")
    if halving is not None:
        successive.check(halving)
    _checks.check_flag("progress", progress)
    if key is not None:
        _checks.check_key(key)
    points = points_of(space)
    validation = arguments.pop("validation", None)
    for name, given in (("data", data), ("validation", validation)):
        if is_batches(given):
            raise TypeError(f"sweep needs arrays as {name}: every row passes over them; got {given!r}")
    count_examples(data)
    build = Builder(builder, arguments)
    if validation is not None:
        count_examples(validation, "validation")
    data, validation = to_device((data, validation))

    keys = [jax.random.key(s) if key is None else jax.random.fold_in(key, s) for s in range(seeds)]
    grouped = list(_grouped(build, points, keys))
    for group in grouped:
        run = check_data(group.rows[0].setup, data, validation)
        if halving is not None:
            every = group.rows[0].setup.options["validate_every"]
            successive.check_metrics(halving, scalars(run.history), every)
    if strategy is None:
        strategy = "threads" if jax.default_backend() == "cpu" else "vmap"
    placed = Placed(data, validation)
    crew = _STRATEGIES[strategy]
    crews = [(group, crew(group, placed, at_once=rows_at_once, memory=memory)) for group in grouped]
    rows = sorted((row for group in grouped for row in group.rows), key=lambda row: row.place)
    epochs = sum(row.setup.epochs for row in rows)
    with reporting(epochs, None, show=progress, title=f"{len(rows)} rows") as report:
        _run(crews, rows, halving, _Meter(report, epochs))
    named = tuple({**points[row.place[0]], "seed": row.place[1]} for row in rows)
    return Table(named, tuple(row.standing() for row in rows))


def _grouped(build: Builder, points: list[Point], keys: list[Any]) -> Iterator[Group]:
    """The rows that one program may serve together."""
    for fixed, members in groups(points):
        rows = []
        for i in members:
            setup = build(points[i])  # with Python numbers; what it is wrong about is refused here
            floats = {name: value for name, value in points[i].items() if name not in fixed}
            rows += [Trial((i, seed), setup, floats, key) for seed, key in enumerate(keys)]
        yield Group(rows, functools.partial(_traced, build, fixed))


def _traced(build: Builder, fixed: Point, floats: Point) -> Setup:
    return build({**fixed, **floats})


def _run(
    crews: list[tuple[Group, Any]], rows: list[Trial], halving: SuccessiveHalving | None, moved: "_Meter"
) -> None:
    """Take every row to its end, rung by rung."""
    points: dict[int, list[Trial]] = {}
    for row in rows:
        points.setdefault(row.place[0], []).append(row)
    running = list(points.values())
    *rungs, last = successive.rungs(halving, max(row.setup.epochs for row in rows))
    for until in (*rungs, last):
        for group, crew in crews:
            if going := [row for row in group.rows if row.result is None]:
                crew.advance(going, until, moved)
        if halving is not None and until != last:
            running = _halved(halving, running, moved)


def _halved(halving: SuccessiveHalving, points: list[list[Trial]], moved: "_Meter") -> list[list[Trial]]:
    """The points that go on; the others end."""
    standings = [[row.standing() for row in rows] for rows in points]
    metric, sign = monitors.resolve(halving, scalars(standings[0][0].history))
    values = [[standing.value(metric) for standing in each] for each in standings]
    best = set(successive.survivors(halving, values, sign))
    for i, rows in enumerate(points):
        for row in rows:
            if i not in best and row.run is not None:
                moved(row.setup.epochs - int(row.run.epoch))
                row.end(halved=True)
    return [rows for i, rows in enumerate(points) if i in best]


class _Meter:
    """Counts epochs from all threads, and reports a twentieth at a time."""

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
