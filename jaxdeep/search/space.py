"""The points of a sweep: grids, lists and random draws."""

import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks

Point = Mapping[str, Any]  # values of hyperparameters by name
Distribution = tuple[str, float, float] | tuple[str, Sequence[Any]]


def random_points(n: int, /, *, key: jax.Array, **distributions: Distribution) -> list[dict[str, Any]]:
    """`n` points drawn at random.

    Args:
      n: number of points.
      key: a random key.
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
    _checks.check_key(key)
    columns = {}
    for i, (name, distribution) in enumerate(sorted(distributions.items())):
        columns[name] = _drawn(name, distribution, n, jax.random.fold_in(key, i))
    return [{name: columns[name][i] for name in distributions} for i in range(n)]


def _drawn(name: str, distribution: Any, n: int, key: jax.Array) -> list[Any]:
    kind, *rest = (
        distribution if isinstance(distribution, (tuple, list)) and distribution else (distribution,)
    )
    if kind == "choice" and len(rest) == 1 and len(rest[0]):
        return [_plain(rest[0][int(i)]) for i in jax.random.randint(key, (n,), 0, len(rest[0]))]
    if kind in ("uniform", "log_uniform") and len(rest) == 2:
        low, high = rest
        interval = "(0, inf)" if kind == "log_uniform" else "(-inf, inf)"
        for bound in rest:
            _checks.check_number(name, bound, interval)
        if low >= high:
            raise ValueError(f"{name} must have low < high, got {low} and {high}")
        share = np.asarray(jax.random.uniform(key, (n,)), np.float64)
        if kind == "uniform":
            return [float(v) for v in low + share * (high - low)]
        return [float(v) for v in low * (high / low) ** share]
    raise ValueError(
        f"{name} must be ('uniform', low, high), ('log_uniform', low, high) or ('choice', values), got "
        f"{distribution!r}"
    )


def points_of(space: Mapping[str, Iterable[Any]] | Sequence[Point]) -> list[Point]:
    """The points of a grid or a list, with scalars as Python numbers."""
    points: list[Point]
    if isinstance(space, Mapping):
        columns = {name: _values(name, values) for name, values in space.items()}
        points = [dict(zip(columns, values)) for values in itertools.product(*columns.values())]
    elif isinstance(space, Sequence) and all(isinstance(point, Mapping) for point in space):
        points = [{name: _plain(value) for name, value in point.items()} for point in space]
    else:
        raise TypeError(f"space must be a dict of values by name or a list of points, got {space!r}")
    if not points:
        raise ValueError("space holds no points")
    for point in points:
        if set(point) != set(points[0]) or "seed" in point:
            raise ValueError(
                f"points must have the same names, none called 'seed'; got {sorted(point)} beside "
                f"{sorted(points[0])}"
            )
    return points


def _values(name: str, values: Iterable[Any]) -> list[Any]:
    _checks.check_sequence(f"space[{name!r}]", values)
    if isinstance(values, jax.Array) and not jnp.issubdtype(values.dtype, jax.dtypes.prng_key):
        values = np.asarray(values)  # whose elements are known inside a trace, too
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    """The value; a scalar array as a Python number."""
    number = isinstance(value, (np.generic, np.ndarray, jax.Array)) and value.shape == ()
    return value.item() if number and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else value


def groups(points: list[Point]) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """The points in groups that one program may serve: with equal values of all that is not a float.

    >>> points = [{"rate": 0.1, "units": 8}, {"rate": 0.1, "units": 9}, {"rate": 0.2, "units": 8}]
    >>> [members for _, members in groups(points)]
    [[0, 2], [1]]
    """
    grouped: dict[Hashable, list[int]] = {}
    for i, point in enumerate(points):
        fixed = frozenset((name, _word(value)) for name, value in _fixed(point).items())
        grouped.setdefault(fixed, []).append(i)
    for members in grouped.values():
        yield _fixed(points[members[0]]), members


def _fixed(point: Point) -> dict[str, Any]:
    return {name: value for name, value in point.items() if not isinstance(value, float)}


def _word(value: object) -> Hashable:
    """Something hashable that is equal for equal values of the same type."""
    if isinstance(value, (list, tuple)):
        return type(value), tuple(_word(item) for item in value)
    if isinstance(value, dict):
        return dict, tuple((_word(name), _word(item)) for name, item in value.items())
    try:
        hash(value)
    except TypeError:
        return id(value)
    return type(value), value
