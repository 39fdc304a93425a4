"""The plan of a comparison: everything that is decided before the first run."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax

from jaxdeep import _checks
from jaxdeep._version import __version__
from jaxdeep.comparison import catalogue
from jaxdeep.comparison.candidate import COLUMN, Candidate, checked, nearest, trials, width
from jaxdeep.comparison.checks import check_alike, check_finite, check_losses, check_number, check_whole
from jaxdeep.comparison.parts import Parts, parts_of, shares_of
from jaxdeep.comparison.schedule import made_by, plateau_of
from jaxdeep.fitting.holdout import check_unseen
from jaxdeep.lasting.fingerprint import fingerprint
from jaxdeep.search.spaces.space import Point, Points
from jaxdeep.train import monitors
from jaxdeep.train.data import count_examples
from jaxdeep.train.options import RowOptions, filled, options_of
from jaxdeep.train.reported import metric_of, names_of

_RATE = "learning_rate"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is compared, on what, and by what.

    Attributes:
      candidates: by name.
      points: the trials of each candidate, by name.
      parts: the data.
      shared: the arguments of `jaxdeep.fit` that all runs have.
      metric, mode: what decides, and which of its values are better.
      budget, seeds: trials of each candidate, and runs of its chosen point.
      schedule: its name, or the function.
      worth, level, target, seed: of `jaxdeep.compare`.
      keys: of the tuning and of the final runs.
      checksums: of the values of each part.
    """

    candidates: Mapping[str, Candidate]
    points: Mapping[str, Points]
    parts: Parts
    shared: Mapping[str, Any]
    metric: str
    mode: str
    budget: int
    seeds: int
    schedule: Any
    worth: float
    level: float
    target: float | None
    seed: int
    keys: tuple[jax.Array, jax.Array]
    checksums: Mapping[str, Mapping[str, str]]

    @property
    def epochs(self) -> int:
        """The epochs of a run."""
        return int(self.shared.get("epochs", 1))

    @property
    def has_schedule(self) -> bool:
        """Whether any candidate has a schedule, which is as long as a run."""
        schedules = (one.schedule or self.schedule for one in self.candidates.values() if one.scheduled)
        return any(schedule != "constant" for schedule in schedules)

    def tuned(self, budget: int) -> dict[str, int]:
        """How many hyperparameters of each candidate such a budget tunes."""
        return {
            name: min(len(one.space), width(budget)) if one.default else len(one.space)
            for name, one in self.candidates.items()
        }

    def about(self) -> dict[str, Any]:
        """The question, as plain data."""
        return {
            "budget": self.budget,
            "seeds": self.seeds,
            "epochs": self.epochs,
            "batch_size": int(self.shared.get("batch_size", 32)),
            "schedule": self._schedules(),
            "metric": self.metric,
            "mode": self.mode,
            "worth": self.worth,
            "level": self.level,
            "target": self.target,
            "seed": self.seed,
            "rows": {name: count_examples(part) for name, part in self.parts._asdict().items()},
            "checksums": self.checksums,
            "spaces": {
                name: {key: str(one) for key, one in candidate.space.items()}
                for name, candidate in self.candidates.items()
            },
            "version": __version__,
        }

    def _schedules(self) -> str:
        """The schedule in words; those of candidates that have their own."""
        usual = _in_words(self.schedule)
        candidates = self.candidates.items()
        by_name = {name: _in_words(one.schedule) for name, one in candidates if one.schedule is not None}
        if len(by_name) == len(self.candidates):
            return "of each candidate"
        return usual + "".join(f" ({name}: {schedule})" for name, schedule in by_name.items())

    def built(self, point: Point) -> dict[str, Any]:
        """What is special about a run: the arguments of `jaxdeep.fit` that a point decides."""
        hp = {name: value for name, value in point.items() if name not in (COLUMN, "seed")}
        candidate = self.candidates[point[COLUMN]]
        schedule = self.schedule if candidate.schedule is None else candidate.schedule

        def built(steps: int) -> dict[str, Any]:
            rate = {_RATE: self._rate(schedule, hp[_RATE], steps, label)} if is_scheduled else {}
            return built_by(point[COLUMN], candidate, {**hp, **rate})

        label = "" if candidate.schedule is None else f"candidates[{point[COLUMN]!r}]: "
        is_scheduled = candidate.scheduled and _RATE in hp
        usual = self.steps_of({})
        arguments = built(usual)
        if (own_steps := self.steps_of(arguments)) != usual and is_scheduled:  # batches of its own
            arguments = built(own_steps)
        if candidate.scheduled:
            plateau = plateau_of(schedule, f"val_{self.metric}", self.mode, self.epochs)
            arguments = ({} if plateau is None else {"plateau": plateau}) | arguments
        return arguments

    def _rate(self, schedule: Any, peak: Any, steps: int, label: str) -> Any:
        """The rate of a run of so many steps; that no such schedule exists is said by its name."""
        try:
            return made_by(schedule)(peak, steps)
        except ValueError as error:
            if callable(schedule):
                raise
            length = f"{self.epochs} × {steps // self.epochs} = {steps} steps (epochs × batches)"
            raise ValueError(
                f"{label}schedule={schedule!r} does not fit runs of {length}: {error}"
            ) from error

    def steps_of(self, built: Mapping[str, Any]) -> int:
        """The steps of a run."""
        arguments = {**self.shared, **built}
        rows, batch = count_examples(self.parts.train), int(arguments.get("batch_size", 32))
        per_epoch = rows // batch if arguments.get("drop_remainder") else math.ceil(rows / batch)
        return max(per_epoch * self.epochs, 1)

    def arguments(self, point: Point) -> dict[str, Any]:
        """All arguments of `jaxdeep.fit` of a run, but for the data and the key."""
        return {**self.shared, **self.built(point)}


def built_by(name: str, candidate: Candidate, hp: Mapping[str, Any]) -> dict[str, Any]:
    """What a candidate makes of its hyperparameters: arguments of `jaxdeep.fit`.

    Raises:
      ValueError, TypeError: nothing that trains, what all candidates have in common.
    """
    label = f"candidates[{name!r}]"
    try:
        built = candidate.build(hp)
    except KeyError as error:
        has = ", ".join(hp) or "none"
        raise ValueError(f"{label} asks for a hyperparameter {error}; it has {has}") from error
    except Exception as error:  # whatever a user's function raises
        kind = type(error) if isinstance(error, (TypeError, ValueError)) else ValueError
        raise kind(f"{label} builds nothing of {dict(hp)}: {_said(error)}") from error
    arguments = dict(built) if isinstance(built, Mapping) else {"optimizer": built}
    if not isinstance(arguments.get("optimizer"), optax.GradientTransformation):
        raise TypeError(
            f"{label} must give an optimizer, or a dict of arguments of fit with one, got {built!r}"
        )
    known = [*options_of(RowOptions)]
    if unknown := [key for key in arguments if key not in known]:
        hint = nearest(str(unknown[0]), known)
        raise TypeError(f"{label} gives {unknown[0]!r}, which is no argument of fit{hint}")
    for key, why in _IN_COMMON.items():
        if key in arguments:
            raise ValueError(f"{label} must not decide about {key}: all have the same {why}")
    return arguments


def _said(error: Exception) -> str:
    """An error in words; of other kinds than wrong arguments with its kind."""
    plain = isinstance(error, (TypeError, ValueError)) and str(error)
    return str(error) if plain else f"{type(error).__name__}: {error}"


_IN_COMMON = {
    "epochs": "budget of epochs",
    "early_stopping": "budget of epochs",
    "metrics": "metrics, by which they are judged",
    "validation": "rows to be tuned by",
}


def _in_words(schedule: Any) -> str:
    return schedule if isinstance(schedule, str) else "a function"


def planned(
    candidates: Any,
    *,
    data: Any,
    validation: Any,
    test: Any,
    metric: str | None,
    mode: str | None,
    budget: int,
    seeds: int,
    schedule: Any,
    worth: float,
    level: float,
    target: float | None,
    seed: int,
    shared: Mapping[str, Any],
) -> Plan:
    """The plan, from the arguments of `jaxdeep.compare`.

    Raises:
      ValueError, TypeError: an argument that is out of range or does not fit the others.
    """
    budget, seeds = (_checks.check_count(n, v) for n, v in (("budget", budget), ("seeds", seeds)))
    if seeds < 2:
        raise ValueError("seeds must be at least 2: a single run says nothing of how sure it is; got 1")
    _checks.check_number("worth", worth, "[0, inf)")
    _checks.check_number("level", level, "(0, 1)")
    if target is not None:
        _checks.check_number("target", target, "(-inf, inf)")
    seed = _checks.check_count("seed", seed, low=0)
    made_by(schedule)
    metric, mode = _metric_and_mode(metric, mode, shared)
    named = named_candidates(candidates, model=shared.get("model"))
    for name, candidate in named.items():
        its_schedule = schedule if candidate.schedule is None else candidate.schedule
        if its_schedule != "constant" and candidate.scheduled and _RATE not in _names_of(candidate):
            raise ValueError(
                f"schedule={its_schedule!r} needs a learning_rate that candidates[{name!r}] is tuned by "
                "or given; a Candidate(…, scheduled=False) goes without"
            )
    filled("compare", RowOptions, shared)
    if shared.get("early_stopping") is not None:
        raise ValueError(
            "early_stopping must be left out: all candidates have the same budget of epochs, and those "
            "that stop early would have less"
        )
    parts = parts_of(data, validation, test, seed=seed)
    if shared.get("objective") is None:
        check_alike(parts)
    key = jax.random.key(seed)
    plan = Plan(
        candidates=named,
        points={name: trials(name, one, budget, seed=seed) for name, one in named.items()},
        parts=parts,
        shared=shared,
        metric=metric,
        mode=mode,
        budget=budget,
        seeds=seeds,
        schedule=schedule,
        worth=float(worth),
        level=float(level),
        target=None if target is None else float(target),
        seed=seed,
        keys=(jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)),
        checksums={name: fingerprint(part) for name, part in parts._asdict().items()},
    )
    built = {name: plan.built(points[0]) for name, points in plan.points.items()}
    for name, arguments in built.items():
        for part, share in shares_of(data, validation, test).items():
            check_unseen({**shared, **arguments}.get("model"), part, share)
        check_whole(name, {**shared, **arguments})
    check_losses(metric, built)
    if shared.get("objective") is None:
        check_finite(parts, {**shared, **next(iter(built.values()))}["model"])
    return plan


def named_candidates(candidates: Any, *, model: Any = None) -> dict[str, Candidate]:
    """The candidates by name, from what a user says of them.

    >>> import jaxdeep as jd
    >>> list(named_candidates(["sgd", "adam"]))
    ['sgd', 'adam']
    >>> named_candidates({"a": jd.optimizers.adam})["a"].default["b1"]
    0.9
    """
    if isinstance(candidates, str) or not isinstance(candidates, (Mapping, Sequence)):
        raise TypeError(
            f"candidates must be names of optimizers or a dict of candidates by name, got {candidates!r}"
        )
    if not isinstance(candidates, Mapping):
        twice = sorted({name for name in candidates if list(candidates).count(name) > 1}, key=str)
        if twice:
            raise ValueError(f"candidates must have different names, got {twice[0]!r} twice")
        candidates = {name: name for name in candidates}
    if not candidates:
        raise ValueError("candidates must be one at least, got none")
    by_name = {}
    for name, candidate in candidates.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"candidates must be named by texts, got {name!r}")
        by_name[name] = checked(name, _known(candidate, model))
    return by_name


def _known(candidate: Any, model: Any) -> Any:
    """A candidate of the catalogue, where its name or its function is given."""
    if isinstance(candidate, str):
        return catalogue.named(candidate, model=model)
    if inspect.isfunction(candidate) or isinstance(candidate, functools.partial):
        known = catalogue.of_function(candidate)
        first = next(iter(inspect.signature(candidate).parameters), None)
        return known or (catalogue.of_factory(candidate) if first == _RATE else candidate)
    return candidate


def _names_of(candidate: Candidate) -> set[str]:
    return {*candidate.space, *candidate.fixed}


def _metric_and_mode(metric: Any, mode: Any, shared: Mapping[str, Any]) -> tuple[str, str]:
    """What decides: by default the first metric, or the loss without metrics."""
    metrics = {} if shared.get("metrics") is None else shared["metrics"]
    if not isinstance(metrics, Mapping):
        raise TypeError(f"metrics must be a dict of functions by name, got {metrics!r}")
    known = [*names_of(metrics), "loss"]
    if metric is None:
        metric = known[0]
    if not isinstance(metric, str) or metric.removeprefix("val_") not in known:
        raise ValueError(f"metric must be one of {', '.join(known)}, got {metric!r}")
    metric = metric.removeprefix("val_")
    check_number(metric, metric_of(metrics, metric))
    _checks.check_choice("mode", mode, (None, "min", "max"))
    mode = mode or monitors.mode_of(metric)
    if mode is None:
        raise ValueError(
            f"mode must be 'min' or 'max' for {metric!r}: its name does not say which is better"
        )
    return metric, mode
