"""What deserves a look before a verdict is believed."""

from collections.abc import Iterator, Mapping, Sequence

from jaxdeep.comparison.candidate import COLUMN
from jaxdeep.comparison.pairs import Pair, fewest, judged_by
from jaxdeep.comparison.parts import shares_seen
from jaxdeep.comparison.plan import Plan
from jaxdeep.comparison.protocol import Judged
from jaxdeep.search.spaces.distributions import contains, is_at_edge

_FEW = 8  # seeds
_SEEN = 0.5  # of the test rows


def cautions_of(
    plan: Plan,
    judged: Judged,
    order: Sequence[str],
    pairs: Sequence[Pair],
    diverged: Mapping[str, int],
) -> Iterator[str]:
    """Sentences about the parts, too few seeds, edges of spaces, inclusions, lost trials."""
    yield from _about_parts(plan)
    yield from _about_seeds(plan, len(pairs))
    for name in plan.candidates:
        if name not in judged.chosen:
            yield f"{name}: none of its trials ended with finite numbers, and it is not compared."
        elif name not in order:
            yield f"{name}: all of its final runs diverged, and it is not compared."
    for name in order:
        yield from _about_tuning(plan, judged, name)
        if count := diverged.get(name):
            yield (
                f"{name}: {count} of {plan.seeds} final runs diverged, and count as the worst value of "
                "all."
            )
    for pair in pairs:
        if pair.is_sure(plan.level) and pair.better in plan.candidates[pair.worse].includes:
            yield (
                f"{pair.worse} can do what {pair.better} does, and yet loses to it: it is tuned too "
                "little, or its space is too narrow."
            )


def _about_parts(plan: Plan) -> Iterator[str]:
    """Test rows that are no test. (Some rows recur by chance where there are few different ones.)"""
    train, validation, test = plan.parts
    for use, share in zip(("trained on", "tuned by"), shares_seen(test, train, validation)):
        if share > _SEEN:
            yield (
                f"{share:.0%} of the test rows stand among those that are {use}, too: what is said of "
                "the test does not hold for new rows."
            )


def _about_seeds(plan: Plan, tests: int) -> Iterator[str]:
    least = fewest(1, plan.level)
    if plan.seeds < least:
        yield f"{plan.seeds} seeds: no difference can be sure below {least}."
    elif plan.seeds < _FEW:
        yield f"{plan.seeds} seeds are few: intervals are wide, and small differences are not found."
    if judged_by(plan.seeds, tests, plan.level) == "t":
        yield (
            f"{plan.seeds} seeds are too few for the exact test of {tests} pairs, which takes "
            f"{fewest(tests, plan.level)}: Student's test, which assumes normal differences, stands in."
        )


def _about_tuning(plan: Plan, judged: Judged, name: str) -> Iterator[str]:
    trials = [
        result
        for point, result in zip(judged.tuning.points, judged.tuning.results)
        if point[COLUMN] == name
    ]
    if len(trials) < plan.budget:
        many = "1 trial" if len(trials) == 1 else f"{len(trials)} trials"
        yield f"{name}: its space has {many}, of a budget of {plan.budget} that others may have used."
    if (lost := sum(result.ended == "diverged" for result in trials)) * 2 >= len(trials):
        yield f"{name}: {lost} of {len(trials)} trials diverged."
    if (failed := sum(result.ended == "error" for result in trials)) > 0:
        yield f"{name}: {failed} of {len(trials)} trials ended with an error."
    point = plan.points[name][judged.chosen[name]]
    for key, space in plan.candidates[name].space.items():
        outside = not contains(space, point[key])  # as only a default is
        tuned = len({other[key] for other in plan.points[name]}) > 1
        if tuned and space.bounds and (outside or is_at_edge(space, point[key])):
            low, high = space.bounds
            where = "outside of" if outside else "at the edge of"
            yield (
                f"{name}: the best {key}, {point[key]:.3g}, is {where} its space, {low:g} to "
                f"{high:g}; better ones may lie beyond."
            )
