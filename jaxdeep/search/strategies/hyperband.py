"""Hyperband, which shares points out among brackets of successive halving."""

import itertools
import math
from fractions import Fraction
from typing import Any, NamedTuple

from jaxdeep import _checks
from jaxdeep.search.strategies import halving as successive
from jaxdeep.train import monitors


class Hyperband(NamedTuple):
    """Share the points of a sweep out among brackets, of which some halve early and some never.

    How much the first epochs say of the last is not known beforehand. So the first bracket is
    `SuccessiveHalving` from `first` epochs on, the next one begins with fewer points at the second rung,
    and so on. The last bracket trains its points to the end and ends none early: it is the insurance
    against points that start badly and end well. With rungs 0 … S, bracket s = S … 0 has
    ⌈(S + 1) · factorˢ / (s + 1)⌉ points and begins at rung S − s.

    ``jd.search.sobol(space, Hyperband().points(epochs=81))`` draws as many points as that takes. Any
    other number is used as well: all brackets shrink or grow in proportion, with at least one point each
    as long as there are enough. Brackets take points in the order of the list. So these should be drawn
    or shuffled: of a grid as it comes, a bracket would have one corner.

    Every bracket costs about as many epochs, whatever its number of points. So compare with other
    strategies at equal epochs trained (`plan`), not at an equal number of points.

    Attributes:
      first: epochs that the points of the first bracket run, ≥ 1; more than a warm-up takes.
      factor: the best 1/`factor` of the points of a bracket go on at each of its rungs, ≥ 2.
      monitor, mode: as for `EarlyStopping`.

    Source: Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization" (2018),
    algorithm 1. For 81 epochs its formula gives 81, 34, 15, 8 and 5 points. The paper's table, and much
    code, has 81, 27, 9, 6 and 5, since it rounds (S + 1) / (s + 1) down first.

    >>> Hyperband(factor=3).points(epochs=81)
    143
    """

    first: int = 1
    factor: int = 3
    monitor: str | None = None
    mode: str | None = None

    def points(self, epochs: int) -> int:
        """How many points the brackets take for runs of so many epochs.

        >>> Hyperband(factor=3).points(epochs=9)
        17
        """
        return sum(bracket.points for bracket in brackets(self, epochs))

    def plan(self, epochs: int, points: int | None = None) -> str:
        """What a sweep of so many points would do, by default of `points(epochs)`, as text.

        >>> print(Hyperband(factor=3).plan(epochs=9))
        Hyperband: 17 points in 3 brackets
        points at epoch      1     3     9  epochs trained
        bracket 1            9     3     1              21
        bracket 2                  5     1              21
        bracket 3                        3              27
        69 epochs for each seed; all 17 points to the end take 153, 2.2 times as many
        """
        return plan(self, epochs, self.points(epochs) if points is None else points)


monitors.check_when_made(Hyperband, lambda made: successive.check(made, Hyperband))


class Bracket(NamedTuple):
    """Points that are halved together.

    Attributes:
      points: their number.
      rungs: the epochs done when they are ranked; the last are all epochs.
    """

    points: int
    rungs: list[int]


def check(hyperband: Any) -> None:
    """Refuse anything but a `Hyperband` with fields in range."""
    successive.check(hyperband, Hyperband)


def brackets(hyperband: Hyperband, epochs: int, points: int | None = None) -> list[Bracket]:
    """The brackets, from the one that halves earliest to the one that does not halve.

    Args:
      hyperband: the rule.
      epochs: epochs of a whole run.
      points: the number of distinct points, all of which are shared out; by default as many as the rule
        takes. If there are fewer points than brackets, the last brackets are left out.

    Where epochs are no power of `factor` times `first`, the step to the last rung is a smaller one.

    >>> brackets(Hyperband(factor=3), 20)[:2]
    [Bracket(points=27, rungs=[1, 3, 9, 20]), Bracket(points=12, rungs=[3, 9, 20])]
    >>> [bracket.points for bracket in brackets(Hyperband(factor=3), 20, points=20)]
    [10, 5, 3, 2]
    """
    check(hyperband)
    rungs = successive.rungs(hyperband, _checks.check_count("epochs", epochs))
    factor, last = int(hyperband.factor), len(rungs) - 1
    sizes = [math.ceil(Fraction((last + 1) * factor**s, s + 1)) for s in range(last, -1, -1)]
    shares = sizes if points is None else _shared(_checks.check_count("points", points), sizes)
    return [Bracket(share, rungs[i:]) for i, share in enumerate(shares) if share]


def assign(brackets: list[Bracket]) -> list[list[int]]:
    """The indices of the points of each bracket, in the order of the list of points.

    >>> assign([Bracket(3, [1, 3]), Bracket(2, [3])])
    [[0, 1, 2], [3, 4]]
    """
    ends = itertools.accumulate(bracket.points for bracket in brackets)
    return [list(range(end - bracket.points, end)) for bracket, end in zip(brackets, ends)]


def plan(hyperband: Hyperband, epochs: int, points: int) -> str:
    """The brackets as a table: how many points are left at each rung, and the epochs that takes.

    Points go on from where they are: n₀ points until epoch r₀ and nᵢ on to rᵢ train
    n₀ r₀ + Σ nᵢ (rᵢ − rᵢ₋₁) epochs. A point that diverges or stops early trains fewer.

    >>> print(plan(Hyperband(factor=3), epochs=3, points=6))
    Hyperband: 6 points in 2 brackets (by the rule 3 and 2, here in proportion)
    points at epoch      1     3  epochs trained
    bracket 1            4     1               6
    bracket 2                  2               6
    12 epochs for each seed; all 6 points to the end take 18, 1.5 times as many
    """
    shared, rule = brackets(hyperband, epochs, points), brackets(hyperband, epochs)
    rungs, costs = rule[0].rungs, []
    points, epochs = sum(bracket.points for bracket in shared), rungs[-1]  # as integers of Python
    width = max(6, *(len(f"{n:,}") + 2 for n in (points, epochs)))
    lines = ["points at epoch " + "".join(f"{end:{width},}" for end in rungs) + "  epochs trained"]
    for i, bracket in enumerate(shared):
        counts = [bracket.points]
        while len(counts) < len(bracket.rungs):
            counts.append(successive.kept(counts[-1], hyperband.factor))
        steps = [end - start for start, end in zip([0, *bracket.rungs], bracket.rungs)]
        costs.append(sum(n * step for n, step in zip(counts, steps)))
        cells = [""] * (len(rungs) - len(counts)) + [f"{n:,}" for n in counts]
        row = "".join(f"{cell:>{width}}" for cell in cells)
        lines.append(f"{f'bracket {i + 1}':16}{row}{costs[-1]:16,}")
    head = f"Hyperband: {_many(points, 'point')} in {_many(len(shared), 'bracket')}"
    if [bracket.points for bracket in shared] != [bracket.points for bracket in rule]:
        *others, last = (str(bracket.points) for bracket in rule)
        by_rule = f"{', '.join(others)} and {last}" if others else last
        head += f" (by the rule {by_rule}, here in proportion)"
    total, grid = sum(costs), points * epochs
    lines.append(
        f"{_many(total, 'epoch')} for each seed; all {_many(points, 'point')} to the end take {grid:,}, "
        f"{grid / total:.1f} times as many"
    )
    return "\n".join([head, *lines])


def _many(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _shared(points: int, sizes: list[int]) -> list[int]:
    """`points` shared out in proportion to `sizes`, at least one to each as long as there are enough.

    This is Adams' method: the next one goes to where most sizes are to a point. More points never take
    one away from a bracket, and as many points as the sizes' sum are the sizes.

    >>> _shared(10, [81, 34, 15, 8, 5]), _shared(2, [81, 34, 15, 8, 5])
    ([5, 2, 1, 1, 1], [1, 1, 0, 0, 0])
    """
    whole, rest = divmod(points, sum(sizes))
    shares = [whole * size for size in sizes]
    for _ in range(rest):
        lacks = [size / share if share else math.inf for size, share in zip(sizes, shares)]
        shares[lacks.index(max(lacks))] += 1
    return shares
