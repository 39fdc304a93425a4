"""Samplers, which draw lists of points from spaces."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdeep import _checks
from jaxdeep._compilation import refuse_traced
from jaxdeep.search.spaces.distributions import (
    Choice,
    LogUniform,
    Uniform,
    choice,
    log_uniform,
    size,
    uniform,
)
from jaxdeep.search.spaces.space import (
    MOST_POINTS,
    Points,
    Space,
    check_total,
    count,
    product,
    spaces_of,
)
from jaxdeep.search.spaces.values import words

# From names, a seed and the number of the space to rows of the unit cube, for each name a share.
Cube = Callable[[list[str], int, int], Iterator[Sequence[float]]]
Spaces = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Distribution = tuple[str, float, float] | tuple[str, Sequence[Any]]

_PATIENCE = 1_000  # repetitions in a row, after which the rest of a finite space is listed


def grid(space: Spaces, *, per_axis: int | Mapping[str, int] | None = None) -> Points:
    """All combinations of the values of a space.

    Floats lie at equal steps, of `log_uniform` at equal ratios, the ends among them. Of whole numbers
    all are taken, or as many as `per_axis` says. The last name changes fastest.

    Args:
      space: as for `sobol`. For a list of dicts, the grids follow one another.
      per_axis: the number of values, ≥ 2, of each distribution of numbers, or a dict of it by name. It
        is needed where there are floats. Lists and choices are taken whole.

    Returns:
      A list of points, each of them once.

    Raises:
      ValueError, TypeError: no space, floats without `per_axis`, more than a million points.

    >>> grid({"rate": log_uniform(1e-3, 1e-1), "units": [8, 16]}, per_axis=3)[:3]
    [{'rate': 0.001, 'units': 8}, {'rate': 0.001, 'units': 16}, {'rate': 0.01, 'units': 8}]
    """
    spaces = _checked("grid", space)
    counts = _counts(per_axis, {name for one in spaces for name in one})
    points: dict[Any, dict[str, Any]] = {}
    for one in spaces:
        sizes = {}
        for name, distribution in one.items():
            known = [n for n in (counts.get(name), size(distribution)) if n is not None]
            if not known:
                raise ValueError(
                    f"per_axis must say how many values of {name}, {distribution}, the grid has; got "
                    f"{per_axis!r}"
                )
            sizes[name] = min(known)
        check_total(sizes)
        columns = {name: distribution.spread(sizes[name]) for name, distribution in one.items()}
        for point in product(columns):
            points.setdefault(words(point.items()), point)
    return Points(points.values(), spaces)


def random(space: Spaces, n: int, *, seed: int = 0) -> Points:
    """`n` points drawn at random, independently of each other.

    More points with the same seed begin with those of fewer, and another hyperparameter in the space
    leaves the values of the others as they are.

    Args:
      space, n, seed: as for `sobol`.

    Returns:
      A list of points, each of them once: fewer than `n` if there are no more.

    Raises:
      ValueError, TypeError: no space, `n` that is not from 1 to a million, a negative seed.

    Source: Bergstra & Bengio, "Random Search for Hyper-Parameter Optimization" (2012).

    >>> points = random({"rate": log_uniform(1e-4, 1e-1), "kind": ["a", "b"]}, 4, seed=1)
    >>> len(points), all(1e-4 <= point["rate"] <= 1e-1 for point in points)
    (4, True)
    """
    return _drawn("random", space, n, seed, _random_cube)


def sobol(space: Spaces, n: int, *, seed: int = 0) -> Points:
    """`n` points of a scrambled Sobol' sequence, which fill a space more evenly than random ones.

    The points are balanced if `n` is a power of two: of `n` equal parts of the scale of any one
    hyperparameter each has exactly one point. Any other `n` gives the beginning of the next balanced
    set. More points with the same seed begin with those of fewer, so that 16 are extended to 32. Another
    hyperparameter in the space changes all values, but the order of the names does not.

    Args:
      space: a dict by name of distributions (`uniform`, `log_uniform`, `one_minus`, `int`, `log_int`,
        `choice`), lists or tuples of values, which are choices, and single values, which all points
        have. A tuple that is one value stands in a list: ``[(64, 32)]``. Or a list of such dicts, whose
        names may differ, as for several optimizers: each has its own sequence, and they take turns, so
        that each gives n / len(space) points and the first ones give one more if that is no whole
        number. A dict that stands in the list twice gives twice as many.
      n: the number of points, at most a million.
      seed: a whole number ≥ 0. Another one scrambles anew.

    Returns:
      A list of points, each of them once: fewer than `n` if there are no more. Where points repeat, as
      those of a few choices do, the next ones of the sequence take their place, so that they are
      distinct but no longer balanced.

    Raises:
      ValueError, TypeError: no space, `n` that is not from 1 to a million, a negative seed.

    Source: `scipy.stats.qmc.Sobol` with ``rng=seed``, one dimension for each name in alphabetical order
    that has several values; Owen, "Scrambling Sobol' and Niederreiter–Xing Points" (1998).

    >>> space = {"learning_rate": log_uniform(1e-5, 1e-1), "kind": ["adam", "sgd"]}
    >>> points = sobol(space, 4)
    >>> sorted(int(np.floor(np.log10(point["learning_rate"]))) for point in points)
    [-5, -4, -3, -2]
    >>> sobol(space, 8)[:4] == points
    True
    """
    return _drawn("sobol", space, n, seed, _sobol_cube)


def _checked(caller: str, space: Any) -> list[Space]:
    try:
        return spaces_of(space)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        refuse_traced(caller, instead="known values in space", does="makes points on the host")


def _counts(per_axis: Any, names: set[str]) -> dict[str, int]:
    """The number of values by name that a grid is told."""
    if per_axis is None:
        return {}
    if not isinstance(per_axis, Mapping):
        wanted = _checks.check_count("per_axis", per_axis, low=2)
        return dict.fromkeys(names, wanted)
    for name in per_axis:
        if name not in names:
            raise ValueError(f"per_axis must be of names in space, {sorted(names)}, got {name!r}")
    return {
        name: _checks.check_count(f"per_axis[{name!r}]", wanted, low=2)
        for name, wanted in per_axis.items()
    }


def _drawn(caller: str, space: Any, n: Any, seed: Any, cube: Cube) -> Points:
    """The first `n` points of the sequences of all spaces, which take turns."""
    spaces = _checked(caller, space)
    n = _checks.check_count("n", n)
    if n > MOST_POINTS:
        raise ValueError(f"n must be at most {MOST_POINTS:,}, got {n}")
    seed = _checks.check_count("seed", seed, low=0)
    seen: set[Any] = set()
    turns = deque(_sequence(one, seed, i, cube, seen) for i, one in enumerate(spaces))
    points = Points([], spaces)
    while turns and len(points) < n:
        sequence = turns.popleft()
        if point := next(sequence, None):
            points.append(point)
            turns.append(sequence)
    return points


def _sequence(
    space: Space, seed: int, number: int, cube: Cube, seen: set[Any]
) -> Iterator[dict[str, Any]]:
    """The points of a space that are not among `seen`, as they are drawn.

    When draws repeat and repeat, the rest of a finite space is listed in a random order. This depends on
    no number of points that is asked for, so that more of them begin with fewer.
    """

    def is_new(point: dict[str, Any]) -> bool:
        before = len(seen)
        seen.add(words(point.items()))
        return len(seen) > before

    names = sorted(name for name, distribution in space.items() if size(distribution) != 1)
    repeated = 0
    for row in cube(names, seed, number):
        shares = dict(zip(names, row))
        point = {name: distribution.at(shares.get(name, 0.0)) for name, distribution in space.items()}
        repeated = 0 if (new := is_new(point)) else repeated + 1
        if new:
            yield point
        elif repeated == _PATIENCE:
            break
    total = count(space)
    if total is not None and total <= MOST_POINTS:
        yield from filter(is_new, _shuffled(space, total, _generator(seed, number)))


def _shuffled(space: Space, total: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """All points of a finite space in a random order."""
    columns = {name: space[name].spread(total) for name in sorted(space)}
    shape = [len(values) for values in columns.values()]
    for place in zip(*np.unravel_index(rng.permutation(total), shape)):
        point = {name: values[i] for (name, values), i in zip(columns.items(), place)}
        yield {name: point[name] for name in space}


def _sobol_cube(names: list[str], seed: int, number: int) -> Iterator[Sequence[float]]:
    from scipy.stats import qmc  # imported here, as it takes half a second

    if not names:
        return
    # The first space has the points that it has alone.
    rng = np.random.default_rng(seed) if number == 0 else _generator(seed, number)
    sampler = qmc.Sobol(len(names), scramble=True, rng=rng)
    rows = 16
    yield from sampler.random(rows).tolist()
    while True:  # up to the next power of two, as Sobol's balance needs
        yield from sampler.random(rows).tolist()
        rows *= 2


def _random_cube(names: list[str], seed: int, number: int) -> Iterator[Sequence[float]]:
    return zip(*(_numbers(_generator(seed, number, *name.encode())) for name in names))


def _numbers(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from rng.random(64).tolist()


def _generator(seed: int, *key: int) -> np.random.Generator:
    """A generator of its own for each key."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def random_points(
    n: int, /, *, key: jax.Array | int, **distributions: Distribution
) -> list[dict[str, Any]]:
    """`n` points drawn at random from a key of JAX; `random` draws from more distributions and a seed.

    Args:
      n: number of points.
      key: a random key, or its seed.
      distributions: for each name ``("uniform", low, high)``, ``("log_uniform", low, high)`` or
        ``("choice", values)``.

    Raises:
      ValueError, TypeError: an unknown distribution, bounds out of order.

    Source: Bergstra & Bengio, "Random Search for Hyper-Parameter Optimization" (2012).

    >>> points = random_points(2, key=jax.random.key(0), learning_rate=("log_uniform", 1e-4, 1e-1))
    >>> [1e-4 <= point["learning_rate"] <= 1e-1 for point in points]
    [True, True]
    """
    n = _checks.check_count("n", n)
    key = _checks.as_key(key)
    columns = {}
    for i, (name, distribution) in enumerate(sorted(distributions.items())):
        columns[name] = _column(name, distribution, n, jax.random.fold_in(key, i))
    return [{name: columns[name][i] for name in distributions} for i in range(n)]


def _column(name: str, entry: Any, n: int, key: jax.Array) -> list[Any]:
    distribution = _of_tuple(name, entry)
    if isinstance(distribution, Choice):
        places = np.asarray(jax.random.randint(key, (n,), 0, len(distribution.values)))
        return [distribution.values[i] for i in places]
    shares = np.asarray(jax.random.uniform(key, (n,)), np.float64)
    return [float(value) for value in distribution.scaled(shares)]


def _of_tuple(name: str, entry: Any) -> Uniform | LogUniform | Choice:
    kind, *rest = entry if isinstance(entry, (tuple, list)) and entry else (entry,)
    try:
        if kind == "choice" and len(rest) == 1:
            return choice(*rest)
        if kind in ("uniform", "log_uniform") and len(rest) == 2:
            return uniform(*rest) if kind == "uniform" else log_uniform(*rest)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    raise ValueError(
        f"{name} must be ('uniform', low, high), ('log_uniform', low, high) or ('choice', values), got "
        f"{entry!r}"
    )
