"""`AskTell`: a sampler of another library, such as an Optuna study, chooses the points of a sweep."""

import inspect
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jaxdeep import _checks
from jaxdeep._warning import warn
from jaxdeep.fitting.interruption import NOT_BEGUN, Interruption
from jaxdeep.lasting.identity import Json, lasting_repr, text_of
from jaxdeep.optimizers.identity import numbers_of
from jaxdeep.search.asking.batches import BatchTrainer, BySeed
from jaxdeep.search.asking.outcome import Asked, Outcome, Source, outcome_of
from jaxdeep.search.asking.study import StudySource
from jaxdeep.search.driving import Strategy
from jaxdeep.search.records.directory import opened
from jaxdeep.search.records.store import Ranking
from jaxdeep.search.spaces.space import Point, points_of
from jaxdeep.search.spaces.values import words
from jaxdeep.search.strategies import halving as successive
from jaxdeep.search.sweeping import Sweeping, described
from jaxdeep.search.tables.result import FULL
from jaxdeep.search.tables.table import Table
from jaxdeep.train import monitors
from jaxdeep.train.monitors import EarlyStopping

if TYPE_CHECKING:
    import optuna


class Sampler(Protocol):
    """What can drive a sweep in place of an Optuna study, as `AskTell` says."""

    def ask(self) -> Any:
        """A further point."""

    def tell(self, asked: Any, value: float, /) -> object:
        """Take note of the value of a point, of which less is better."""


class AskTell(NamedTuple):
    """Let a sampler of another library choose the points of a `jaxdeep.sweep`, batch by batch.

    ``jaxdeep.sweep(builder, space, sampler=study)`` asks an Optuna study for a batch of points, trains
    them with all seeds as one sweep, tells the study their values, and asks again. The value of a point
    is the mean over its seeds of the metric at the end. A trial is told the values by epoch, too, which
    the study's plots show. A point that was asked for before is not trained again.

    A trial is COMPLETE if its runs finished or stopped early, PRUNED if they were halved, with the last
    value by epoch, and FAIL if one of them diverged, raised an error or ended with a metric that is not
    finite: the attribute "ended" says how, as the table does, and "error" has the traceback. It stays
    RUNNING if it was interrupted; the next call goes on.

    A study with a storage goes on when the same call is made again after a kill: `trials` is the number
    that it has at the end, those of earlier calls count, and trials that were asked for and not told are
    taken up under their own numbers. With ``checkpoint=`` their rows go on from where they were, and the
    table has the rows of all calls; without, those of this one. One process at a time may drive a study.

    The larger a batch, the fewer programs and the less the sampler knows when it is asked. Optuna's TPE
    should have ``constant_liar=True``, by which it spreads the points of a batch. ``batch=1`` is plain
    sequential search. A study's pruner is not asked; ``halving=`` ends the worst points of each batch.

    A hyperparameter has its name in the study, with two exceptions: `jaxdeep.search.one_minus` is asked
    for as ``"1 - b1"``, and values that a study cannot hold, such as functions, by their names. Of
    several spaces in a list the study chooses one, by ``"which space"``, and asks for what differs
    between them as ``"rate (0)"``, ``"rate (1)"``. These are the names for `enqueue_trial`.

    Any other sampler knows its own space, and that of the sweep is left out. Its ``ask()`` returns a
    dict of hyperparameters by name, or an object whose `params`, `kwargs` or `value` is one; at the end
    it returns None or raises `StopIteration`. Its ``tell(asked, value)`` is given what it returned and a
    value of which less is better: a metric of which more is better has a minus sign, and what diverged
    or raised an error is infinite.

    Attributes:
      sampler: an `optuna.Study`, or anything with `ask` and `tell`, such as Nevergrad's optimizers.
      trials: the number of trials at the end, ≥ 1.
      batch: the number of points that are asked for and trained together, ≥ 1.
      monitor, mode: the metric, as for `jaxdeep.train.EarlyStopping`. By default it is that of `halving`
        or `early_stopping`, or else the loss (of the validation data, if there are any), also if only
        `mode` is given. A study must have the direction of it.
      reports: the values by epoch that a trial is told, at most, evenly spaced, ≥ 1. Each of them is a
        transaction of the study's storage.
      diverged: "fail", or "prune", by which trials that diverged, or whose metric is not finite, are
        PRUNED. Samplers such as TPE learn nothing from trials that failed, and so return to where runs
        diverge; pruned ones count as bad.

    Source: the ask-and-tell interface of Optuna; Akiba et al., "Optuna: A Next-generation Hyperparameter
    Optimization Framework" (2019).

    >>> import optuna
    >>> study = optuna.create_study(sampler=optuna.samplers.TPESampler(constant_liar=True))
    >>> AskTell(study, trials=64, batch=16).reports
    10
    """

    sampler: "Sampler | optuna.Study"
    trials: int = 64
    batch: int = 16
    monitor: str | None = None
    mode: str | None = None
    reports: int = 10
    diverged: str = "fail"


def checked(sampler: Any, space: Any, halving: object) -> AskTell:
    """The configuration of a sampler, or of what one is given in.

    Raises:
      TypeError, ValueError: no `ask` or `tell`, a number that is out of range, a space where none can
        be, another strategy than successive halving.
    """
    config = sampler if isinstance(sampler, AskTell) else AskTell(sampler)
    if isinstance(config.sampler, type):
        raise TypeError(
            f"sampler must be an object with ask and tell, not its class; got {config.sampler!r}, which "
            "is still to be called"
        )
    if not all(callable(getattr(config.sampler, name, None)) for name in ("ask", "tell")):
        raise TypeError(
            "sampler must have the methods ask and tell, as an optuna.Study has, or be a "
            f"jaxdeep.search.AskTell of such; got {config.sampler!r}"
        )
    for name in ("trials", "batch", "reports"):
        _checks.check_count(f"sampler.{name}", getattr(config, name))
    _checks.check_choice("sampler.diverged", config.diverged, ("fail", "prune"))
    monitors.check_watched("sampler", config)
    if _is_study(config.sampler) == (space is None):
        raise ValueError(
            "space must be a dict of distributions by name with a study"
            if space is None
            else f"space must be left out with a sampler that knows its own; got {space!r}"
        )
    if halving is not None:
        successive.check(halving)  # the others compare more points than a batch has
    return config


def asked_and_told(sweeping: Sweeping, space: Any, config: AskTell, halving: Strategy | None) -> Table:
    """The table of all rows of points that a sampler asks for.

    Raises:
      KeyboardInterrupt: an interruption before any epoch was done.
      ValueError, TypeError: a space that is none, a study that does not fit the sweep.
      Exception: what all points raised.
    """
    how, seeds = sweeping.how, len(sweeping.keys)
    watched, sign = _watched(sweeping, config, halving)
    metric = str(watched.monitor)
    about = described(sweeping, halving, None)
    source = _source(sweeping, space, config, about, metric, sign)
    ranking = None if how.keep_params is None else Ranking(metric, sign)
    known: dict[Hashable, Outcome] = {}
    rows: dict[Hashable, BySeed] = {}
    points: dict[Hashable, Point] = {}
    trials = 0
    interruption = sweeping.interruption
    with opened(how.checkpoint, about, keep=how.keep_params, ranking=ranking) as store:
        trainer = BatchTrainer(sweeping, halving, watched, store=store, about=about)
        trainer.tried(source.examples())
        interruption.begin()
        for asked in _asked(source, config, interruption):
            points.update((request.key, request.point) for request in asked)
            known.update((request.key, request.told) for request in asked if request.told is not None)
            new = [key for key in dict.fromkeys(request.key for request in asked) if key not in rows]
            trained = trainer.trained([points[key] for key in new], [key in known for key in new])
            for key, results in zip(new, trained):
                if results:
                    rows[key] = results
                if (outcome := outcome_of([*results.values()], metric, seeds)) is not None:
                    known.setdefault(key, outcome)
            for request in asked:
                if request.told is None and request.key in known:
                    source.tell(request, known[request.key])
            _tell_errors(trainer.errors, known.values())
            trials += len(asked)
            if how.progress:
                _report(f"{trials} of {config.trials} trials", metric, sign, known, points)
    if interruption.noted and not rows:
        raise KeyboardInterrupt(NOT_BEGUN)
    if trials and not rows:
        warn(
            f"the study has had all of its {trials} trials: more trials= go on, and with checkpoint= a "
            "table has the rows of earlier calls, too"
        )
    named = [{**points[key], "seed": seed} for key, results in rows.items() for seed in results]
    return Table(
        named, [result for results in rows.values() for result in results.values()], source.spaces
    )


def _asked(source: Source, config: AskTell, interruption: Interruption) -> Iterator[Sequence[Asked]]:
    """The batches of a sweep: those of earlier calls, the ones that wait last, and then new ones."""
    earlier = source.earlier()
    batches = [earlier[number] for number in sorted(earlier)]
    waiting = [batch for batch in batches if any(asked.told is None for asked in batch)]
    if done := [asked for batch in batches if batch not in waiting for asked in batch]:
        yield done
    yield from waiting
    trials, number = sum(map(len, batches)), max(earlier, default=-1)
    while trials < config.trials and not source.is_exhausted and not interruption.noted:
        number += 1
        source.begin(number)
        batch: list[Asked] = []
        while len(batch) < min(config.batch, config.trials - trials) and not interruption.noted:
            if (asked := source.ask(number)) is None:
                break
            batch.append(asked)
        trials += len(batch)
        if batch:
            yield batch


def _watched(
    sweeping: Sweeping, config: AskTell, halving: Strategy | None
) -> tuple[EarlyStopping, float]:
    """The metric whose values are told, and the sign that makes less of it better."""
    stopping = sweeping.build.arguments.get("early_stopping")
    watcher: monitors.Watching = config
    if config.monitor is None:  # a mode alone is one of the metric that the others watch
        others = [one for one in (halving, stopping) if isinstance(one, monitors.Watching)]
        watcher = next((one for one in others if one.monitor or one.mode), config)
    monitor = watcher.monitor or ("loss" if sweeping.validation is None else "val_loss")
    watched = EarlyStopping(monitor=monitor, mode=config.mode or watcher.mode)
    return watched, monitors.resolve(watched, {monitor: 0.0})[1]


def _source(
    sweeping: Sweeping, space: Any, config: AskTell, about: Json, metric: str, sign: float
) -> Source:
    """Where the points come from."""
    if not _is_study(config.sampler):
        return SamplerSource(config.sampler, sign)
    build, how = sweeping.build, sweeping.how
    made_of = {"builder": build.function, **build.arguments}
    if (optimizer := build.arguments.get("optimizer")) is not None:
        made_of["hyperparameters"] = numbers_of(optimizer)
    return StudySource(
        config.sampler,
        space,
        {name: text for name, text in about.items() if name != "strategy"}
        | {"seeds": len(sweeping.keys), "metric": [metric, sign], "space": lasting_repr(space)}
        | {name: text_of(value, name) for name, value in made_of.items()},
        metric=metric,
        sign=sign,
        named=how.checkpoint is not None,
        retry_errors=how.retry_errors,
        reports=config.reports,
        prunes=("halved", "diverged", *FULL) if config.diverged == "prune" else ("halved",),
    )


class SamplerSource:
    """The points of a sweep, from a `Sampler`. It is a class because a sampler may have no more points.

    Args:
      sampler: has `ask` and `tell`.
      sign: 1 if less of the metric is better, −1 if more is.
    """

    def __init__(self, sampler: Any, sign: float) -> None:
        self.sampler, self.sign, self.is_exhausted, self.spaces = sampler, sign, False, None

    def examples(self) -> Sequence[Point]:
        """None: what a sampler asks for is not known before."""
        return ()

    def earlier(self) -> Mapping[int, Sequence[Asked]]:
        """No earlier trials: a sampler of this form cannot be asked for what it has asked before."""
        return {}

    def begin(self, batch: int) -> None:
        """Do nothing: a sampler of this form keeps no record of batches."""

    def ask(self, batch: int) -> Asked | None:
        """A further point; None if there is none."""
        try:
            asked = self.sampler.ask()
        except StopIteration:
            asked = None
        if asked is None:
            self.is_exhausted = True
            return None
        forms = [asked, *(getattr(asked, name, None) for name in ("params", "kwargs", "value"))]
        hyperparameters = next((form for form in forms if isinstance(form, Mapping) and form), None)
        if hyperparameters is None:
            raise TypeError(
                "sampler.ask() must return a dict of hyperparameters by name, or an object whose "
                f"params, kwargs or value is one; got {asked!r}"
            )
        (point,) = points_of([hyperparameters])
        return Asked(point, words(point.items()), asked)

    def tell(self, asked: Asked, outcome: Outcome) -> None:
        """Tell the value of a point, of which less is better; infinity if there is none."""
        value = self.sign * outcome.value
        self.sampler.tell(asked.handle, value if math.isfinite(value) else math.inf)


def _is_study(sampler: Any) -> bool:
    """Whether a sampler has the form of an Optuna study, which is given the space with every ask."""
    try:
        return "fixed_distributions" in inspect.signature(sampler.ask).parameters
    except (TypeError, ValueError):  # builtin functions have no signature
        return False


def _tell_errors(errors: Sequence[Exception], outcomes: Iterable[Outcome]) -> None:
    """Warn of points that cannot be built or whose batch failed. If all points failed, raise."""
    if not errors:
        return
    if all(outcome.ended == "error" for outcome in outcomes):
        raise errors[0]
    warn(
        f"{len(errors)} errors in a batch of points, such as {type(errors[0]).__name__}: {errors[0]}; "
        "the sampler was told that they failed, and the sweep goes on"
    )


def _report(
    text: str,
    metric: str,
    sign: float,
    known: Mapping[Hashable, Outcome],
    points: Mapping[Hashable, Point],
) -> None:
    """Print how far the sweep is, and the best point so far."""
    full = {key: outcome.value for key, outcome in known.items() if outcome.full}
    if full:
        best = min(full, key=lambda key: sign * full[key])
        values = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in points[best].items()
        )
        text += f", best {metric} {full[best]:.4g}: {values}"
    print(text, flush=True)
