"""The rows of a sweep: every point, on every subset of the data, with every seed."""

import contextlib
import functools
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdeep.fitting.setup import Setup
from jaxdeep.lasting.kinds import is_library
from jaxdeep.search.builder import Builder
from jaxdeep.search.resampling.subset import WHOLE, DeviceData, Subset
from jaxdeep.search.spaces.space import Point, groups
from jaxdeep.search.tables.columns import in_words
from jaxdeep.search.trial import Group, Trial

_TABLE = "class_weight='balanced'"  # among floats: weights of classes, which differ between subsets


def keys_of(seeds: int, key: jax.Array | None) -> list[jax.Array]:
    """The keys of the seeds 0, 1, …

    >>> jax.random.key_data(keys_of(2, None)[1]).tolist()
    [0, 1]
    """
    if key is not None:
        return [jax.random.fold_in(key, s) for s in range(seeds)]
    config: Any = jax.config
    if config.jax_default_prng_impl != "threefry2x32":
        return [jax.random.key(s) for s in range(seeds)]
    # the words of jax.random.key(s), for which it would compile two programs
    words = np.zeros((seeds, 2), np.uint32)
    words[:, 1] = range(seeds)
    return [jax.random.wrap_key_data(jax.device_put(pair), impl="threefry2x32") for pair in words]


def grouped_rows(
    build: Builder,
    keys: Sequence[jax.Array],
    points: Sequence[Point],
    device_data: DeviceData,
    subsets: Sequence[Subset] = (WHOLE,),
) -> Iterator[Group]:
    """The rows in groups that one program may serve."""
    build.balance = functools.partial(device_data.balanced, WHOLE)
    for fixed, members in groups(list(points)):
        first: Setup | None = None
        by_size: dict[tuple[int | None, int | None], list[Trial]] = {}
        for i in members:
            # with Python numbers, so that errors of the builder come before anything is traced
            with telling_point(points[i], points):
                told = build.told(points[i])
                setup = build.setup(told)
            by_subset = told.balanced and len(subsets) > 1
            first = setup if first is None else first
            setup = setup.sharing(first)
            floats: dict[str, Any] = {
                name: value for name, value in points[i].items() if name not in fixed
            }
            for number, subset in enumerate(subsets):
                if by_subset:
                    floats = {**floats, _TABLE: (table := device_data.balanced(subset))}
                    setup = build.setup(told, table).sharing(first)
                rows = by_size.setdefault(subset.sizes, [])
                for seed, key in enumerate(keys):
                    if subset.seed in (None, seed):
                        rows.append(Trial((i, number, seed), setup, floats, key, points[i], subset))
        for rows in by_size.values():
            yield Group(rows, functools.partial(_traced, build, fixed))


@contextlib.contextmanager
def telling_point(point: Point, points: Sequence[Point] = ()) -> Iterator[None]:
    """Add to an error its point, and a name that this point lacks and another of `points` has."""
    try:
        yield
    except Exception as error:
        words = zip(point, in_words(point.values(), digits=6))
        values = ", ".join(
            f"{name}={text if len(text) < 99 else f'{text[:99]}…'}" for name, text in words
        )
        error.add_note(f"This is about the point {values or 'without names'}.")
        name = error.args[0] if isinstance(error, KeyError) and error.args else None
        if name not in point and any(name in other for other in points):
            error.add_note(
                f"Points may have different names: others have {name!r}, and this one lacks it. Give it "
                f"to all, or have the builder ask for hp.get({name!r}, …)."
            )
        raise


def raised_by_user(error: Exception) -> bool:
    """Whether an error came out of a function of the user's, such as a loss, that was called here.

    Otherwise it is a refusal of jaxdeep's, for which no function of the user's is to blame.
    """
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(not is_library(frame.f_globals.get("__name__")) for frame in frames)


def _traced(build: Builder, fixed: Point, floats: Mapping[str, Any]) -> Setup:
    point = {**fixed, **floats}
    table = point.pop(_TABLE, None)
    return build(point, table)
