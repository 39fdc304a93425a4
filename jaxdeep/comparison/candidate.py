"""`Candidate`: what is compared, with the space it is tuned in."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import optax

from jaxdeep.comparison.schedule import made_by
from jaxdeep.search.spaces.samplers import sobol
from jaxdeep.search.spaces.space import Point, Points, spaces_of
from jaxdeep.search.spaces.values import RESERVED, words

COLUMN = "candidate"  # of the points of a comparison

Built: TypeAlias = optax.GradientTransformation | Mapping[str, Any]


class Candidate(NamedTuple):
    """What is compared: how it is made of hyperparameters, and the space of these.

    Attributes:
      build: ``hp -> optimizer``, or ``hp -> dict`` of arguments of `jaxdeep.fit`, as the builder of
        `jaxdeep.sweep`. With a schedule, ``hp["learning_rate"]`` is the schedule from this peak.
      space: distributions by name (`jaxdeep.search.log_uniform` and so on), the most important one
        first, so that a small budget is spent on few of them. Empty: nothing is tuned.
      default: the first trial, with a value for each name: what the field uses untuned. Without it all
        trials are drawn from the space.
      fixed: further hyperparameters that all trials have.
      scheduled: whether the comparison's schedule applies to it. Schedule-free methods have none.
      includes: names of candidates that it is with certain hyperparameters, and should not lose to.
      note: a sentence for the report.
      schedule: one of its own in place of the comparison's, by name or as a function.

    >>> import jaxdeep as jd
    >>> own = Candidate(lambda hp: jd.optimizers.sgd(hp["learning_rate"], momentum=0.95),
    ...                 {"learning_rate": jd.search.log_uniform(1e-4, 1.0)}, {"learning_rate": 0.01})
    >>> own.default["learning_rate"]
    0.01
    """

    build: Callable[[Mapping[str, Any]], Built]
    space: Mapping[str, Any] = {}
    default: Mapping[str, Any] = {}
    fixed: Mapping[str, Any] = {}
    scheduled: bool = True
    includes: Sequence[str] = ()
    note: str = ""
    schedule: Any = None


def checked(name: str, candidate: Any) -> Candidate:
    """A candidate whose space, default and fixed values fit together.

    Raises:
      ValueError, TypeError: what does not, by the name of the candidate.
    """
    if isinstance(candidate, optax.GradientTransformation):
        return Candidate(_Given(candidate))
    if isinstance(candidate, tuple) and not isinstance(candidate, Candidate):
        if len(candidate) != 2:
            raise TypeError(f"candidates[{name!r}] must be a pair (build, space), got {candidate!r}")
        candidate = Candidate(*candidate)
    if isinstance(candidate, Mapping):
        candidate = Candidate(_Given(candidate))
    if not isinstance(candidate, Candidate) or not callable(candidate.build):
        raise TypeError(
            f"candidates[{name!r}] must be a name, a function whose first argument is learning_rate, a "
            "pair (build, space), an optimizer, a dict of arguments of fit or a "
            f"jaxdeep.comparison.Candidate, got {candidate!r}"
        )
    for argument in ("space", "default", "fixed"):
        if not isinstance(values := getattr(candidate, argument), Mapping):
            raise TypeError(f"candidates[{name!r}].{argument} must be a dict by name, got {values!r}")
    if isinstance(candidate.includes, str) or not all(isinstance(n, str) for n in candidate.includes):
        raise TypeError(
            f"candidates[{name!r}].includes must be a sequence of names, got {candidate.includes!r}"
        )
    try:
        (space,) = spaces_of(dict(candidate.space)) if candidate.space else ({},)
    except (TypeError, ValueError) as error:
        raise type(error)(f"candidates[{name!r}]: {error}") from None
    taken = sorted({COLUMN, *RESERVED} & {*space, *candidate.fixed})
    if taken:
        raise ValueError(f"candidates[{name!r}] must not call a hyperparameter {taken[0]!r}")
    if candidate.schedule is not None:
        try:
            made_by(candidate.schedule)
        except (TypeError, ValueError) as error:
            raise type(error)(f"candidates[{name!r}].{error}") from None
    if both := sorted(space.keys() & candidate.fixed):
        raise ValueError(f"candidates[{name!r}] both fixes and tunes {both[0]!r}")
    if candidate.default and candidate.default.keys() != space.keys():
        raise ValueError(
            f"candidates[{name!r}].default must have the names of its space, {sorted(space)}, got "
            f"{sorted(candidate.default)}"
        )
    return candidate._replace(space=space)


def nearest(name: str, known: Sequence[str]) -> str:
    """Words that say what a misspelt name may have been.

    >>> nearest("adm", ["adam", "sgd"])
    '; did you mean adam?'
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def width(budget: int) -> int:
    """How many hyperparameters a budget of trials can tune.

    One below 10 trials, two below 25, three below 64, all from there on, as the Deep Learning Tuning
    Playbook advises for Adam.

    >>> [width(budget) for budget in (1, 9, 10, 24, 25, 64)]
    [1, 1, 2, 2, 3, 1000000]
    """
    return next((n for n, most in ((1, 10), (2, 25), (3, 64)) if budget < most), 1_000_000)


def trials(name: str, candidate: Candidate, budget: int, *, seed: int) -> Points:
    """The points that a candidate is tuned over, the default first.

    The first `width` names of the space are drawn, from a scrambled Sobol' sequence that is the same for
    equal spaces; the others, if there is a default, are as in it. A finite space may have fewer points.
    """
    tuned = list(candidate.space)
    if candidate.default:
        tuned = tuned[: width(budget)]
    rest = {key: value for key, value in candidate.default.items() if key not in tuned}
    rest = {**rest, **candidate.fixed}
    space = {key: candidate.space[key] for key in tuned}
    drawn: list[Point] = [{key: candidate.default[key] for key in tuned}] if candidate.default else []
    if space:
        drawn += list(sobol(space, budget, seed=seed))
    elif not drawn:
        drawn = [{}]
    seen: set[Any] = set()
    points: list[Point] = []
    for point in drawn:
        if len(points) < budget and (as_words := words(sorted(point.items()))) not in seen:
            seen.add(as_words)
            points.append({COLUMN: name, **point, **rest})
    return Points(points, spaces_of({COLUMN: name, **space, **rest}) if space else ())


class _Given:
    """What is built of no hyperparameters."""

    def __init__(self, built: Built) -> None:
        self.built = built

    def __call__(self, hp: Mapping[str, Any]) -> Built:
        """The same for every point."""
        return self.built
