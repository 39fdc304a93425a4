"""What all ways to train many runs have in common: from checks to rows, and from rows to the table."""

import contextlib
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxdeep import _checks
from jaxdeep._compilation import check_untraced
from jaxdeep._shapes import PyTree
from jaxdeep.fitting.setup import Setup
from jaxdeep.fitting.sources import is_batches
from jaxdeep.search import halving as successive
from jaxdeep.search.builder import PURE, Build, Builder, check_data, check_values
from jaxdeep.search.description import description, name_rows
from jaxdeep.search.driving import Runner, drive
from jaxdeep.search.halving import SuccessiveHalving
from jaxdeep.search.space import Point, groups
from jaxdeep.search.store import Ranking, Store, opened
from jaxdeep.search.subset import WHOLE, DeviceData, Prepare, Subset
from jaxdeep.search.table import Table, scalars
from jaxdeep.search.thread_runner import ThreadRunner
from jaxdeep.search.trial import Group, Trial
from jaxdeep.search.vmap_runner import VmapRunner
from jaxdeep.train import monitors
from jaxdeep.train.data import as_arrays, count_examples, count_rows, to_device

_STRATEGIES: dict[str, type[VmapRunner | ThreadRunner]] = {"vmap": VmapRunner, "threads": ThreadRunner}


class How(NamedTuple):
    """How rows are run and kept: the arguments of these names of `jaxdeep.sweep`."""

    strategy: str
    rows_at_once: int | None
    memory: int | None
    checkpoint: pathlib.Path | None
    keep_params: int | None
    retry_errors: bool
    progress: bool


class Sweeping(NamedTuple):
    """A sweep before it has points.

    Attributes:
      build: makes the setup of a point.
      keys: those of the seeds, from seed 0.
      key: what they were made of; None for their numbers.
      data, validation: the arrays on the device.
      how: how rows are run and kept.
    """

    build: Builder
    keys: list[jax.Array]
    key: jax.Array | None
    data: PyTree
    validation: PyTree
    how: How


def checked_how(
    caller: str,
    *,
    strategy: str | None,
    rows_at_once: int | None,
    memory: int | None,
    checkpoint: str | os.PathLike[str] | None,
    keep_params: int | None,
    retry_errors: bool,
    progress: bool,
) -> How:
    """The arguments, checked.

    Raises:
      ValueError, TypeError: one that is out of range.
    """
    counts = {"rows_at_once": rows_at_once, "memory": memory, "keep_params": keep_params}
    checked = {
        name: None if count is None else _checks.check_count(name, count)
        for name, count in counts.items()
    }
    if strategy not in (None, *_STRATEGIES):
        raise ValueError(f"strategy must be 'vmap', 'threads' or None, got {strategy!r}")
    if strategy is None:
        strategy = "threads" if jax.default_backend() == "cpu" else "vmap"
    for name, flag in (("retry_errors", retry_errors), ("progress", progress)):
        _checks.check_flag(name, flag)
    path = None
    if checkpoint is not None:
        _checks.check_local_path("checkpoint", checkpoint)
        path = pathlib.Path(checkpoint).expanduser().resolve()
    return How(
        strategy, checkpoint=path, retry_errors=bool(retry_errors), progress=bool(progress), **checked
    )


def begun(
    caller: str,
    builder: Build,
    data: PyTree,
    *,
    seeds: int,
    key: jax.Array | None,
    how: How,
    arguments: Mapping[str, Any],
) -> Sweeping:
    """A sweep before it has points, with its data on the device.

    Raises:
      ValueError, TypeError: an argument that is out of range, batches in place of arrays.
    """
    if not callable(builder):
        raise TypeError(f"builder must be a function of a point, got {builder!r}")
    seeds = _checks.check_count("seeds", seeds)
    if key is not None:
        _checks.check_key(key)
    arguments = dict(arguments)
    validation = arguments.pop("validation", None)
    for name, value in (("data", data), ("validation", validation)):
        if is_batches(value):
            raise TypeError(
                f"{caller} needs arrays as {name}: every row passes over them; got {value!r}"
            )
    data = as_arrays(data)
    count_examples(data)
    build = Builder(builder, arguments, caller)
    if validation is not None:
        validation = as_arrays(validation, "validation")
        count_examples(validation, "validation")
    data, validation = to_device((data, validation))
    keys = [jax.random.key(s) if key is None else jax.random.fold_in(key, s) for s in range(seeds)]
    check_untraced(caller, data, validation, keys, instead=PURE)
    return Sweeping(build, keys, key, data, validation, how)


def trained(
    sweeping: Sweeping,
    points: Sequence[Point],
    halving: SuccessiveHalving | None = None,
    *,
    subsets: Sequence[Subset] = (WHOLE,),
    prepare: Prepare | None = None,
) -> Table:
    """The table of all rows: every point, on every subset of the data, with every seed it is for."""
    how, device_data = sweeping.how, DeviceData(sweeping.data, sweeping.validation, prepare)
    grouped = list(grouped_rows(sweeping, points, subsets))
    for group in grouped:
        prepared(group, device_data, halving, sweeping.build.caller)
    rows = sorted((row for group in grouped for row in group.rows), key=lambda row: row.place)
    about = {}
    if how.checkpoint is not None:
        about = described(sweeping, halving, prepare)
        name_rows(rows, points, about)
    ranking = None if how.keep_params is None else _ranking(rows[0], halving)
    with opened(how.checkpoint, about, keep=how.keep_params, ranking=ranking) as store:
        rows = run(sweeping, grouped, rows, device_data, store, halving)
    return tabled(points, rows)


def run(
    sweeping: Sweeping,
    grouped: list[Group],
    rows: list[Trial],
    device_data: DeviceData,
    store: Store,
    halving: SuccessiveHalving | None,
) -> list[Trial]:
    """Take rows to their ends; of an interrupted sweep, those that have begun are returned."""
    how = sweeping.how
    for row in rows:
        row.store = store
    store.register(rows, again=how.retry_errors)

    def make_runner(group: Group) -> Runner:
        kind = _STRATEGIES[how.strategy]
        return kind(group, device_data, at_once=how.rows_at_once, memory=how.memory)

    return drive(grouped, rows, make_runner, halving, show=how.progress)


def tabled(points: Sequence[Point], rows: Sequence[Trial]) -> Table:
    """The table of rows that have ended."""
    named = tuple({**points[row.place[0]], **row.subset.names, "seed": row.place[2]} for row in rows)
    return Table(named, tuple(row.standing() for row in rows))


def described(
    sweeping: Sweeping, halving: SuccessiveHalving | None, prepare: Prepare | None
) -> dict[str, Any]:
    """What the sweep is in its journal."""
    options = {"strategy": sweeping.how.strategy, "halving": halving, "prepare": prepare}
    return description(sweeping.data, sweeping.validation, key=sweeping.key, **options)


def prepared(
    group: Group, device_data: DeviceData, halving: SuccessiveHalving | None, caller: str = "sweep"
) -> None:
    """Refuse data that do not fit a group, and give its rows the shapes of their runs."""
    first, *others = {id(row.subset): row for row in group.rows}.values()
    with _telling(first.subset, device_data):
        shapes = check_data(first.setup, *device_data.of(first.subset), caller)
    for row in others:
        with _telling(row.subset, device_data):
            check_values(row.setup, shapes.train_state, *device_data.of(row.subset))
    if halving is not None:
        every = first.setup.options["validate_every"]
        successive.check_metrics(halving, scalars(shapes.history), every)
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


def grouped_rows(
    sweeping: Sweeping, points: Sequence[Point], subsets: Sequence[Subset] = (WHOLE,)
) -> Iterator[Group]:
    """The rows in groups that one program may serve."""
    build = sweeping.build
    for fixed, members in groups(list(points)):
        by_size: dict[tuple[int | None, int | None], list[Trial]] = {}
        for i in members:
            # with Python numbers, so that errors of the builder come before anything is traced
            setup = build(points[i])
            floats = {name: value for name, value in points[i].items() if name not in fixed}
            for number, subset in enumerate(subsets):
                rows = by_size.setdefault(subset.sizes, [])
                for seed, key in enumerate(sweeping.keys):
                    if subset.seed in (None, seed):
                        rows.append(Trial((i, number, seed), setup, floats, key, subset))
        for rows in by_size.values():
            yield Group(rows, functools.partial(_traced, build, fixed))


def _traced(build: Builder, fixed: Point, floats: Point) -> Setup:
    return build({**fixed, **floats})


def _ranking(row: Trial, halving: SuccessiveHalving | None) -> Ranking:
    """What rows are ranked by where only the best keep their parameters."""
    config = halving or row.setup.options["early_stopping"] or monitors.EarlyStopping()
    return Ranking(*monitors.resolve(config, scalars(row.shapes.history)))
