"""What all ways to train many runs have in common: from checks to rows, and from rows to the table."""

import contextlib
import functools
import inspect
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxdeep import _checks
from jaxdeep._compilation import check_untraced
from jaxdeep._shapes import PyTree
from jaxdeep.fitting.holdout import held_out, is_share
from jaxdeep.fitting.interruption import NOT_BEGUN, Interruption, interruptible
from jaxdeep.fitting.sources import is_batches
from jaxdeep.lasting.identity import digest_of
from jaxdeep.optimizers.hyperparameters import recorded
from jaxdeep.search.builder import PURE, Build, Builder, check_data, check_values
from jaxdeep.search.driving import STRATEGIES, MakeRunner, Runner, Strategy, drive
from jaxdeep.search.logs import RowLogs
from jaxdeep.search.options import HowOptions, SweepOptions
from jaxdeep.search.records.description import description, name_rows
from jaxdeep.search.records.directory import opened
from jaxdeep.search.records.store import Ranking, Store
from jaxdeep.search.resampling.subset import WHOLE, DeviceData, Prepare, Subset, check_free
from jaxdeep.search.rows import grouped_rows, keys_of, raised_by_user, telling_point
from jaxdeep.search.runners.executor_runner import ExecutorRunner
from jaxdeep.search.runners.executors import Executor, Outside
from jaxdeep.search.runners.same_program import same_program
from jaxdeep.search.runners.thread_runner import Places, ThreadRunner
from jaxdeep.search.runners.vmap_runner import VmapRunner
from jaxdeep.search.spaces.space import Point
from jaxdeep.search.spaces.values import RESERVED
from jaxdeep.search.strategies import halving as successive
from jaxdeep.search.strategies.asynchronous import AsynchronousHalving
from jaxdeep.search.tables.columns import RowNames
from jaxdeep.search.tables.runs import ENDINGS
from jaxdeep.search.tables.table import Table, scalars
from jaxdeep.search.trial import Group, Trial, arrays
from jaxdeep.train import monitors
from jaxdeep.train.columns import check_told_apart_by_column
from jaxdeep.train.data import (
    as_arrays,
    count_examples,
    count_rows,
    to_device,
)
from jaxdeep.train.options import Log, filled, options_of
from jaxdeep.train.outputs import outputs_of


class How(NamedTuple):
    """How rows are run and kept: the arguments of these names of `jaxdeep.sweep`."""

    strategy: str
    rows_at_once: int | None
    memory: int | None
    executor: Executor | None
    checkpoint: pathlib.Path | None
    keep_params: int | None
    retry_errors: bool
    log: Log | Sequence[Log] | None
    progress: bool


class Sweeping(NamedTuple):
    """A sweep before it has points.

    Attributes:
      build: makes the setup of a point.
      keys: those of the seeds, from seed 0.
      key: what they were made of; None for their numbers.
      data, validation: the arrays on the device.
      how: how rows are run and kept.
      interruption: whether it has been interrupted.
      names: those of its rows, for logs.
    """

    build: Builder
    keys: list[jax.Array]
    key: jax.Array | None
    data: PyTree
    validation: PyTree
    how: How
    interruption: Interruption
    names: RowNames


def _checked_how(options: HowOptions, halving: Strategy | None) -> How:
    """How rows are run, from options that were checked one by one.

    Raises:
      ValueError, TypeError: options that do not go together.
    """
    strategy, executor, checkpoint = options["strategy"], options["executor"], options["checkpoint"]
    if executor is not None:
        if strategy == "vmap":
            raise ValueError("strategy must be 'threads' with an executor, whose workers run row by row")
        if options["memory"] is not None:
            raise ValueError(
                "memory is that of this process's devices; with an executor it has no meaning"
            )
        strategy = "threads"
    if halving is not None:
        successive.check(halving, *STRATEGIES)
    if isinstance(halving, AsynchronousHalving):
        if strategy == "vmap":
            raise ValueError(
                "strategy must be 'threads' with AsynchronousHalving, whose rows run one by one; got "
                "'vmap'"
            )
        strategy = "threads"
    if strategy is None:
        strategy = "threads" if jax.default_backend() == "cpu" else "vmap"
    return How(
        strategy,
        rows_at_once=options["rows_at_once"],
        memory=options["memory"],
        executor=executor,
        checkpoint=None if checkpoint is None else pathlib.Path(checkpoint).expanduser().resolve(),
        keep_params=options["keep_params"],
        retry_errors=bool(options["retry_errors"]),
        log=options["log"],
        progress=bool(options["progress"]),
    )


@contextlib.contextmanager
def begun(
    caller: Callable[..., object],
    builder: Build,
    data: PyTree,
    options: SweepOptions,
    halving: Strategy | None = None,
) -> Iterator[Sweeping]:
    """A sweep before it has points; inside the context its data are on the device and Ctrl-C is noted.

    Args:
      caller: the public function, whose signature has all that it takes.
      builder, data, options, halving: those of the function.

    Raises:
      ValueError, TypeError: an argument that is out of range, batches in place of arrays.
    """
    # from here on, since Python may only print what is raised while arguments are checked and traced
    with interruptible(show=False, begun=False) as interruption:
        yield _begun(caller, builder, data, options, halving, interruption)


def _begun(
    caller: Callable[..., object],
    builder: Build,
    data: PyTree,
    options: SweepOptions,
    halving: Strategy | None,
    interruption: Interruption,
) -> Sweeping:
    name, known = caller.__name__, inspect.signature(caller).parameters
    if not callable(builder):
        raise TypeError(f"builder must be a function of a point, got {builder!r}")
    of_rows: dict[str, Any] = dict(options)
    of_sweep = {option: of_rows.pop(option) for option in options_of(HowOptions) if option in of_rows}
    chosen: HowOptions = filled(name, HowOptions, of_sweep)
    how = _checked_how(chosen, halving)
    key = None if chosen["key"] is None else _checks.as_key(chosen["key"])
    validation = of_rows.pop("validation", None)
    for part, value in (("data", data), ("validation", validation)):
        if is_batches(value):
            raise TypeError(f"{name} needs arrays as {part}: every row passes over them; got {value!r}")
    share = validation if is_share(validation) else None
    if share is not None:  # the same for all rows, which are compared by it
        data, validation = held_out(data, validation, jax.random.key(0) if key is None else key)
    data = as_arrays(data)
    check_told_apart_by_column(data)
    count_examples(data)
    build = Builder(builder, of_rows, name, known)
    if share is not None:
        build.holds_out("validation", share)
    if validation is not None:
        validation = as_arrays(validation, "validation")
        count_examples(validation, "validation")
    data, validation = to_device((data, validation))
    keys = keys_of(chosen["seeds"], key)
    check_untraced(name, data, validation, keys, instead=PURE)
    interruption.told = how.progress
    return Sweeping(build, keys, key, data, validation, how, interruption, RowNames())


def trained(
    sweeping: Sweeping,
    points: Sequence[Point],
    halving: Strategy | None = None,
    *,
    order: Sequence[int] | None = None,
    subsets: Sequence[Subset] = (WHOLE,),
    prepare: Prepare | None = None,
) -> Table:
    """The table of all rows: every point, on every subset of the data, with every seed it is for.

    A strategy takes points in this `order`; by default as they are.

    Raises:
      KeyboardInterrupt: an interruption before any epoch was done.
      Exception: what jaxdeep refuses of a point, or what no point can be traced for.
    """
    check_free(points, RESERVED)
    how, device_data = sweeping.how, DeviceData(sweeping.data, sweeping.validation, prepare)
    grouped = list(grouped_rows(sweeping.build, sweeping.keys, points, device_data, subsets))
    for group in grouped:
        try:
            with telling_point(group.rows[0].point):
                prepared(sweeping, group, device_data, halving)
        except Exception as raised:
            if not raised_by_user(raised):
                raise
            for row in group.rows:  # all rows of the group end with this error
                row.error = raised
    rows = sorted((row for group in grouped for row in group.rows), key=lambda row: row.place)
    if (error := rows[0].error) is not None and all(row.error is not None for row in rows):
        raise error
    about = {}
    if how.checkpoint is not None:
        about = described(sweeping, halving, prepare)
        name_rows(rows, points, about)
    ranking = None
    if how.keep_params is not None:
        ranking = _ranking(next(row for row in rows if row.shapes is not None), halving)
    with opened(how.checkpoint, about, keep=how.keep_params, ranking=ranking) as store:
        rows = run(sweeping, points, subsets, grouped, rows, device_data, store, halving, order)
    if not rows:
        raise KeyboardInterrupt(NOT_BEGUN)
    return tabled(points, rows)


def run(
    sweeping: Sweeping,
    points: Sequence[Point],
    subsets: Sequence[Subset],
    grouped: list[Group],
    rows: list[Trial],
    device_data: DeviceData,
    store: Store,
    halving: Strategy | None,
    order: Sequence[int] | None = None,
    *,
    partial: bool = False,
    around: Callable[[MakeRunner, Group], Runner] | None = None,
) -> list[Trial]:
    """Train rows to their ends, and return them; after an interruption, only those that have begun.

    With `partial`, these are not all rows of the sweep. `around` may return a runner that earlier rows
    have used in place of a new one.
    """
    how = sweeping.how
    for row in rows:
        row.store = store
    store.register(rows, again=how.retry_errors, partial=partial)
    for row in rows:
        if row.error is not None and row.result is None:
            row.fail(row.error)
    logs = RowLogs(how.log, sweeping.interruption, sweeping.names)
    logs.follow(rows)
    logs.check()
    places = Places(how.rows_at_once)
    with contextlib.ExitStack() as stack:
        outside = None
        if how.executor is not None:
            seeds = len(sweeping.keys)
            of_rows = sweeping.build, points, subsets, seeds, sweeping.key, device_data
            outside = stack.enter_context(contextlib.closing(Outside(how.executor, *of_rows)))

        def make(group: Group) -> Runner:
            if outside is not None:
                return ExecutorRunner(group, outside, at_once=how.rows_at_once)
            if how.strategy == "vmap":
                return VmapRunner(group, device_data, at_once=how.rows_at_once, memory=how.memory)
            return ThreadRunner(group, device_data, places, memory=how.memory)

        if not sweeping.interruption.begun:
            sweeping.interruption.begin()
        workers = len(places.devices)
        if outside is not None:
            workers = how.rows_at_once or outside.workers or workers
        done = drive(
            *(grouped, rows, functools.partial(around, make) if around else make, halving, store),
            order=order,
            workers=workers,
            show=how.progress,
            interruption=sweeping.interruption,
        )
    logs.check()
    return done


def tabled(points: Sequence[Point], rows: Sequence[Trial]) -> Table:
    """The table of rows that have ended."""
    named = tuple({**points[row.place[0]], **row.subset.names, "seed": row.place[2]} for row in rows)
    spaces = getattr(points, "spaces", None)
    losses = [row.setup.options["loss"] for row in rows]
    words = [None if loss is None else outputs_of(loss) for loss in losses]
    outputs = words[0] if words and all(one == words[0] for one in words) else None
    return Table(named, tuple(row.standing() for row in rows), spaces, outputs)


def order_of(space: Mapping[str, Any] | Sequence[Point], points: Sequence[Point]) -> list[int] | None:
    """The order in which strategies take points: at random, if they are a grid.

    In its own order the first points of a grid have all small values of its first name.
    """
    if not isinstance(space, Mapping):
        return None
    # by a checksum, so that a larger grid leaves the order of the smaller one's points as it was
    checksums = [digest_of(sorted((name, repr(value)) for name, value in p.items())) for p in points]
    return sorted(range(len(points)), key=lambda i: checksums[i])


def described(sweeping: Sweeping, halving: Strategy | None, prepare: Prepare | None) -> dict[str, Any]:
    """The description of the sweep in its journal, by which a later call recognises it."""
    options = {"strategy": sweeping.how.strategy, "halving": halving, "prepare": prepare}
    return description(sweeping.data, sweeping.validation, key=sweeping.key, **options)


def prepared(
    sweeping: Sweeping, group: Group, device_data: DeviceData, halving: Strategy | None
) -> None:
    """Refuse data that do not fit a group, and give its rows the shapes of their runs."""
    first, *others = {id(row.subset): row for row in group.rows}.values()
    data = device_data.of(first.subset)
    with _telling(first.subset, device_data):
        shapes = check_data(first.setup, *data, sweeping.build.caller, first.key)
    rates = recorded(shapes.train_state.opt_state)  # which the history has, and which may be swept
    metrics = [name for name in scalars(shapes.history) if name not in rates]
    check_free([first.point], ENDINGS)
    check_free([first.point], metrics, "which is that of a metric in the table")
    for row in others:
        with _telling(row.subset, device_data):
            check_values(row.setup, shapes.train_state, *device_data.of(row.subset))
    if halving is not None:
        every = first.setup.options["validate_every"]
        successive.check_metrics(halving, scalars(shapes.history), every)
    how = sweeping.how
    lasts = how.checkpoint is not None or how.executor is not None
    if lasts and not same_program([row.setup for row in group.rows]):
        # rates that go elsewhere have other places in the state than those that are its numbers
        shapes = jax.eval_shape(group.start, arrays(first.floats), first.key, data)
    for row in group.rows:
        row.shapes = shapes


@contextlib.contextmanager
def _telling(subset: Subset, device_data: DeviceData) -> Iterator[None]:
    """Say in errors which part of the data they are about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if subset.train is not None:
            rows = f"{len(subset.train):,} of {count_rows(device_data.arrays[0]):,}"
            where = ", ".join(f"{name} {value}" for name, value in subset.names.items())
            made = "" if device_data.prepare is None else ", as prepare= returned them"
            error.add_note(f"In {where}: its training data are {rows} rows{made}.")
        raise


def _ranking(row: Trial, halving: Strategy | None) -> Ranking:
    """What rows are ranked by where only the best keep their parameters."""
    config = halving or row.setup.options["early_stopping"] or monitors.EarlyStopping()
    return Ranking(*monitors.resolve(config, scalars(row.shapes.history)))
