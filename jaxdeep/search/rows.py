"""The rows of a sweep: every point, on every subset of the data, with every seed."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdeep.fitting.setup import Setup
from jaxdeep.search.builder import Builder
from jaxdeep.search.resampling.subset import WHOLE, DeviceData, Subset
from jaxdeep.search.spaces.space import Point, groups
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
            told = build.told(points[i])
            by_subset = told.balanced and len(subsets) > 1
            setup = build.setup(told)
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


def _traced(build: Builder, fixed: Point, floats: Mapping[str, Any]) -> Setup:
    point = {**fixed, **floats}
    table = point.pop(_TABLE, None)
    return build(point, table)
