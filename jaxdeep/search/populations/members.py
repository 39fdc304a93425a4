"""The first members of a population: their points, the hyperparameters to explore, and the ranges."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdeep._shapes import PyTree
from jaxdeep.fitting.setup import Setup
from jaxdeep.optimizers import hyperparams
from jaxdeep.search.populations.exploit import Bounds, Range, ranges_of
from jaxdeep.search.spaces.space import Point, groups, points_of


def members_of(
    space: Mapping[str, Any] | Sequence[Point], ranges: Mapping[str, Bounds] | None
) -> tuple[list[Point], dict[str, Bounds]]:
    """The points that the members begin with, and the ranges of what is explored.

    Args:
      space: points or a grid, as for `population`.
      ranges: ranges by name; those that the points were drawn from by default.

    Raises:
      ValueError, TypeError: what is none of these, fewer than two points, points of different names.
    """
    if ranges is not None and not isinstance(ranges, Mapping):
        raise TypeError(f"ranges must be a dict of ranges by hyperparameter, got {ranges!r}")
    points: list[Point]
    if isinstance(space, Sequence) and all(isinstance(point, Mapping) for point in space):
        # one by one, since members may begin with equal points
        points = [points_of([point])[0] for point in space]
    else:
        points = points_of(space)
    if len(points) < 2:
        raise ValueError(f"space must hold two points at least, got {len(points)}")
    for place, point in enumerate(points):
        if set(point) != set(points[0]):
            raise ValueError(
                f"space must hold points of the same names, got {sorted(point)} in point {place} beside "
                f"{sorted(points[0])}"
            )
    spaces = getattr(space, "spaces", ())
    drawn_from = spaces[0] if spaces and all(other == spaces[0] for other in spaces) else {}
    known = {
        name: distribution
        for name, distribution in drawn_from.items()
        if isinstance(distribution, Range)
    }
    return points, known | dict(ranges or {})


def check_members(points: Sequence[Point], setups: Sequence[Setup]) -> None:
    """Refuse members that are not one program, and options that a population cannot have.

    Raises:
      ValueError: with what differs.
    """
    (fixed, first), *others = groups(list(points))
    if others:
        another, members = others[0]
        odd = [name for name in {**fixed, **another} if name not in fixed or name not in another]
        odd = odd or [name for name in fixed if repr(fixed[name]) != repr(another[name])] or [*fixed]
        values = f"{points[first[0]][odd[0]]!r} in point {first[0]} and {points[members[0]][odd[0]]!r}"
        raise ValueError(
            f"space must hold points that differ in floats only, since the members are one program; "
            f"{odd[0]} is {values} in point {members[0]}"
        )
    for place, setup in enumerate(setups):
        for name, why in (
            ("early_stopping", "all members run for the same epochs"),
            ("plateau", "it would change what is explored"),
        ):
            if setup.options[name] is not None:  # type: ignore[literal-required]
                raise ValueError(f"a population takes no {name}=: {why}; leave it out")
        if setup.epochs != setups[0].epochs:
            raise ValueError(
                f"epochs must be the same for all members, got {setups[0].epochs} for point 0 and "
                f"{setup.epochs} for point {place}"
            )
        if not setups[0].is_like(setup):
            raise ValueError(
                "the members of a population must be one program, and differ only in floats that are "
                f"hyperparameters of jaxdeep's optimizers; point {place} is another program than point "
                "0: a value goes elsewhere (into a schedule, a layer, a loss, another library's "
                "optimizer), or the builder makes a function anew for each point"
            )


def explored_in(
    points: Sequence[Point], ranges: Mapping[str, Bounds], opt_state: PyTree
) -> dict[str, Range]:
    """The ranges of the hyperparameters that are explored, by name.

    Raises:
      ValueError, TypeError: none at all; a float of the points that is no hyperparameter or has no
        range; a point out of its range; and what `ranges_of` refuses.
    """
    names = sorted(hyperparams(opt_state))
    for name in (name for name, value in points[0].items() if isinstance(value, float)):
        if name not in names:
            raise ValueError(
                f"space has a float {name!r} that is no hyperparameter of the optimizer, so that it "
                f"cannot be explored; there are {', '.join(names) or 'none'}. Name it as there, or "
                "write it into the builder"
            )
        if name not in ranges:
            raise ValueError(
                f"ranges must have a range for {name!r}, within which it is explored, such as "
                f"ranges={{{name!r}: (low, high)}}"
            )
    explored = ranges_of(opt_state, ranges)
    if not explored:
        raise ValueError(
            f"ranges must name a hyperparameter to explore, at least one of {', '.join(names) or 'none'}"
        )
    for place, point in enumerate(points):
        for name in explored.keys() & point.keys():
            low, high = explored[name].bounds
            if not low <= point[name] <= high:
                raise ValueError(
                    f"space must hold points within ranges; {name} of point {place} is {point[name]!r}, "
                    f"and its range is [{low}, {high}]"
                )
    return explored


def check_begun(points: Sequence[Point], opt_state: PyTree, explored: Mapping[str, Range]) -> None:
    """Refuse stacked states with hyperparameters that differ from their points or are out of range.

    Raises:
      ValueError: the builder makes another number of a hyperparameter than its point says, or one that
        is out of its range.
    """
    in_force = {name: np.asarray(v) for name, v in hyperparams(opt_state).items() if name in explored}
    for name, values in in_force.items():
        for place, (point, value) in enumerate(zip(points, values)):
            if name in point and np.asarray(point[name], value.dtype) != value:
                raise ValueError(
                    f"builder must hand {name} on as it is, since it is explored by this name; of "
                    f"{point[name]!r} in point {place} it made {value}"
                )
            low, high = (np.asarray(end, value.dtype) for end in explored[name].bounds)
            if not low <= value <= high:
                raise ValueError(
                    f"builder must begin with {name} in its range, [{low}, {high}], got {value}"
                )
