"""The points of a sweep, and the spaces that they come from."""

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, SupportsIndex, overload

from jaxdeep._warning import warn
from jaxdeep.search.spaces.distributions import (
    Distribution,
    choice_of,
    contains,
    distribution_of,
    is_at_edge,
    refuse_distribution,
    refuse_of_others,
    size,
)
from jaxdeep.search.spaces.values import RESERVED, plain, word, words

Point = Mapping[str, Any]  # values of hyperparameters by name
Space = Mapping[str, Distribution]

MOST_POINTS = 1_000_000  # a longer list of points is refused


class Points(list[Point]):
    """A list of points that knows the spaces they come from, so that a table can flag those at an edge.

    A slice of it, and its sum with another list, are `Points` too; so is what `sort` leaves. What
    `sorted` returns is a plain list, as of any list, and the table does not flag its points.

    Attributes:
      spaces: for each space the distributions by name. A list of values is a `Choice`, and a constant
        is a `Choice` of one.

    >>> import jaxdeep as jd
    >>> points = jd.search.grid({"rate": [0.1, 0.2], "units": [8]})
    >>> points, points[:1].spaces == points.spaces
    ([{'rate': 0.1, 'units': 8}, {'rate': 0.2, 'units': 8}], True)
    """

    def __init__(self, points: Iterable[Point] = (), spaces: Iterable[Space] = ()) -> None:
        super().__init__(points)
        self.spaces = tuple(spaces)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Point: ...

    @overload
    def __getitem__(self, index: slice) -> "Points": ...

    def __getitem__(self, index: SupportsIndex | slice) -> "Point | Points":
        chosen = super().__getitem__(index)
        return Points(chosen, self.spaces) if isinstance(chosen, list) else chosen

    def __add__(self, others: Iterable[Point]) -> "Points":  # type: ignore[override]
        return Points([*self, *others], (*self.spaces, *getattr(others, "spaces", ())))


def points_of(space: Mapping[str, Iterable[Any]] | Sequence[Point]) -> Points:
    """The points of a grid or a list, each once, with scalars as Python numbers.

    The points of a list may have different names, as those of different optimizers have.

    >>> points_of({"rate": [0.1, 0.2]}), points_of([{"rate": 0.1}, {"units": 8}])
    ([{'rate': 0.1}, {'rate': 0.2}], [{'rate': 0.1}, {'units': 8}])
    """
    if isinstance(space, Mapping):
        check_names(space)
        for name, values in space.items():
            refuse_distribution(f"space[{name!r}]", values)
            refuse_of_others(f"space[{name!r}]", values)
        choices = {name: choice_of(f"space[{name!r}]", values) for name, values in space.items()}
        columns = {name: choice.values for name, choice in choices.items()}
        points = Points(product(columns), [choices])
    elif isinstance(space, Sequence) and all(isinstance(point, Mapping) for point in space):
        points = Points([], getattr(space, "spaces", ()))
        for i, point in enumerate(space):
            check_names(point)
            for name, value in point.items():
                refuse_distribution(f"space[{i}][{name!r}]", value)
                refuse_of_others(f"space[{i}][{name!r}]", value)
            points.append({name: plain(value) for name, value in point.items()})
    else:
        raise TypeError(f"space must be a dict of values by name or a list of points, got {space!r}")
    if not points:
        raise ValueError("space holds no points")
    distinct: dict[Hashable, Point] = {}
    for point in points:
        distinct.setdefault(words(point.items()), point)
    if fewer := len(points) - len(distinct):
        warn(
            f"{fewer} of {len(points)} points are the same as others before them and are left out; "
            "seeds= runs points several times"
        )
    return Points(distinct.values(), points.spaces)


def spaces_of(declared: Any, *, of_study: bool = False) -> list[Space]:
    """The space of a dict, or those of a list of dicts, with a distribution for every name.

    Those of other libraries are refused, but in the space `of_study`, which may hold those of Optuna.

    >>> spaces_of({"rate": [0.1, 0.2], "units": 8})
    [{'rate': Choice(values=(0.1, 0.2)), 'units': Choice(values=(8,))}]
    """
    spaces = [declared] if isinstance(declared, Mapping) else declared
    if not isinstance(spaces, (list, tuple)) or not all(isinstance(space, Mapping) for space in spaces):
        raise TypeError(
            f"space must be a dict of distributions and lists of values by name, or a list of such "
            f"dicts, got {declared!r}"
        )
    if not spaces or not all(spaces):
        raise ValueError(f"space must name a hyperparameter at least, got {declared!r}")
    checked_spaces: list[Space] = []
    for i, space in enumerate(spaces):
        check_names(space)
        where = "space" if isinstance(declared, Mapping) else f"space[{i}]"
        for name, entry in () if of_study else space.items():
            refuse_of_others(f"{where}[{name!r}]", entry)
        checked_spaces.append(
            {name: distribution_of(f"{where}[{name!r}]", d) for name, d in space.items()}
        )
    return checked_spaces


def check_names(point: Mapping[Any, Any]) -> None:
    """Refuse what is no name of a hyperparameter."""
    for name in point:
        if not isinstance(name, str) or name in ("", "seed"):
            raise ValueError(f"the names in space must be texts, none called 'seed' or ''; got {name!r}")


def check_total(counts: Mapping[str, int]) -> None:
    """Refuse a grid of too many points, given the number of values by name."""
    total = math.prod(counts.values())
    if total > MOST_POINTS:
        factors = " × ".join(f"{values:,} of {name}" for name, values in counts.items())
        raise ValueError(f"space must have at most {MOST_POINTS:,} points, got {factors} = {total:,}")


def product(columns: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """The points of a grid, the last name changing fastest."""
    check_total({name: len(values) for name, values in columns.items()})
    return (dict(zip(columns, values)) for values in itertools.product(*columns.values()))


def count(space: Space) -> int | None:
    """How many points there are; None if any name has floats."""
    sizes = [size(distribution) for distribution in space.values()]
    return None if None in sizes else math.prod(n for n in sizes if n is not None)


def edges(
    point: Point, spaces: Iterable[Space], known: dict[Hashable, bool] | None = None
) -> tuple[str, ...]:
    """The names whose value lies at an edge of its range, where better values may lie beyond.

    That is the outer 5 % of a distribution at either end (of its logarithm, for a logarithmic one), and
    the smallest and the largest of a list of three numbers or more. The range is that of the space with
    the point's names. If there are several such spaces, a value must be at an edge in each of those that
    the point lies in. A point of no space has no edges. What has been found of a value is kept in
    `known`, for further points of the same spaces: a long list is not searched for each of them.

    >>> spaces = spaces_of({"rate": [0.1, 0.2, 0.3], "units": [8, 16]})
    >>> edges({"rate": 0.3, "units": 8, "seed": 0}, spaces), edges({"rate": 0.2, "units": 8}, spaces)
    (('rate',), ())
    """
    answers = {} if known is None else known

    def holds(ask: Callable[[Distribution, Any], bool], distribution: Distribution, value: Any) -> bool:
        question = ask, id(distribution), word(value)
        if question not in answers:
            answers[question] = ask(distribution, value)
        return answers[question]

    names = set(point).difference(RESERVED)
    alike = [space for space in spaces if set(space).difference(RESERVED) == names]
    inside = [
        space for space in alike if all(holds(contains, space[name], point[name]) for name in names)
    ]
    near = inside or alike
    return tuple(
        name
        for name in point
        if near and name in names and all(holds(is_at_edge, space[name], point[name]) for space in near)
    )


def groups(points: list[Point]) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """The points in groups that one program may serve: with equal values of all that is not a float.

    >>> points = [{"rate": 0.1, "units": 8}, {"rate": 0.1, "units": 9}, {"rate": 0.2, "units": 8}]
    >>> [members for _, members in groups(points)]
    [[0, 2], [1]]
    """
    grouped: dict[Hashable, list[int]] = {}
    for i, point in enumerate(points):
        # floats may differ, but not which they are
        grouped.setdefault((frozenset(point), words(_fixed(point).items())), []).append(i)
    for members in grouped.values():
        yield _fixed(points[members[0]]), members


def _fixed(point: Point) -> dict[str, Any]:
    return {name: value for name, value in point.items() if not isinstance(value, float)}
