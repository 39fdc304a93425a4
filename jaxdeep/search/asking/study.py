"""`StudySource`, which asks an Optuna study for the points of a sweep and tells it how they ended."""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from jaxdeep._extras import needed
from jaxdeep.fitting.description import difference_of
from jaxdeep.lasting.identity import Json, digest_of
from jaxdeep.search.asking.outcome import Asked, Outcome
from jaxdeep.search.asking.parameter import Parameters, parameters_of, which_of
from jaxdeep.search.spaces.space import Point

# User attributes. "jaxdeep" says of a study what the sweep is, and of a trial a checksum of that and the
# number of its batch. The other is this checksum, the batch that is asked for, the number of the first
# new trial, and those of trials that were enqueued before.
_FORMAT = 2  # of what a study is told of a sweep; 1, which named functions by their modules, has none
_MARK, _ASKING = "jaxdeep", "jaxdeep_asking"


def optuna_for(caller: str) -> ModuleType:
    """The module, or an error that says what to install."""
    return needed("optuna", caller, "optuna", "optuna")


class StudySource:
    """The points of a sweep, from an `optuna.Study` or what has the form of one.

    This is a class because the study may say that it is exhausted. Trials that an earlier call asked for
    and was killed before it told are those of this one: they keep their numbers and values.

    Args:
      study: has ``ask(fixed_distributions=…)``, which returns a trial with `params`, and
        ``tell(trial, value, state=…)``. If it also has `get_trials` and attributes, it can be resumed.
      space: see `jaxdeep.search.asking.parameter`.
      about: what the sweep is, besides its number of trials.
      sign: 1 if less of the metric is better, −1 if more is.
      metric: its name, for errors.
      named: whether choices must have a name that lasts.
      retry_errors: ask again for the points of errors in earlier calls.
      reports: values by epoch that a trial is told, at most.
      prunes: how runs end whose trials are pruned, of those that have no value.

    Raises:
      ValueError, TypeError: a space that is none; a study of several objectives, or one that goes the
        other way, or one that holds another sweep.
    """

    def __init__(
        self,
        study: Any,
        space: Any,
        about: Json,
        *,
        metric: str,
        sign: float,
        named: bool,
        retry_errors: bool,
        reports: int,
        prunes: Sequence[str],
    ) -> None:
        self.study, self.optuna = study, optuna_for("sweep with a study")
        self.parameters = parameters_of(space, self.optuna, named=named)
        about = {"format": _FORMAT, **about}
        self.about, self.id = about, digest_of(about)
        self.retry_errors, self.reports, self.prunes = retry_errors, reports, prunes
        self.spaces = [{name: p.among for name, p in by_name.items()} for by_name in self.parameters]
        self._stopped = False
        self.which = which_of(self.parameters, self.optuna)
        _check_directions(study, metric, sign)
        _check_same(getattr(study, "user_attrs", {}).get(_MARK, about), about)

    @property
    def is_exhausted(self) -> bool:
        """Whether the study's sampler has no more points."""
        known = getattr(getattr(self.study, "sampler", None), "is_exhausted", None)
        return self._stopped or (known is not None and known(self.study))

    def examples(self) -> list[Point]:
        """Points in the middle and at both ends."""
        points: list[Point] = []
        for share in (0.5, 0.0, 1.0):
            space = self.parameters[self.which.value(self.which.example(share))]
            points.append({name: p.value(p.example(share)) for name, p in space.items()})
        return points

    def earlier(self) -> dict[int, list[Asked]]:
        """The batches that earlier calls have asked for, by number, with those that wait."""
        batches: dict[int, list[Asked]] = {}
        for trial, batch in self._mine():
            if not trial.state.is_finished():
                again = self.optuna.trial.Trial(self.study, trial._trial_id)
                again.set_user_attr(_MARK, [self.id, batch])
                asked = self._asked(again)._replace(reported=frozenset(trial.intermediate_values))
                batches.setdefault(batch, []).append(asked)
            elif self.retry_errors and _ended(trial) == "error":
                self._ask_again(trial)
            elif (known := self._told(trial)) is not None:
                batches.setdefault(batch, []).append(known)
        return batches

    def begin(self, batch: int) -> None:
        """Write that a batch is being asked for, so that none of its trials is lost."""
        if not self._lasts:
            return
        if _MARK not in self.study.user_attrs:
            self.study.set_user_attr(_MARK, self.about)
        trials = self.study.get_trials(deepcopy=False)
        enqueued = [trial.number for trial in trials if trial.state.name == "WAITING"]
        self.study.set_user_attr(_ASKING, [self.id, batch, len(trials), enqueued])

    def ask(self, batch: int) -> Asked:
        """A further point."""
        one = self.parameters[0] if self.which.distribution is None else {"": self.which}
        fixed = {p.label: p.distribution for p in one.values() if p.distribution is not None}
        trial = self.study.ask(fixed_distributions=fixed)
        _note(trial, _MARK, [self.id, batch])
        return self._asked(trial)

    def tell(self, asked: Asked, outcome: Outcome) -> None:
        """Tell a trial how its point ended: its values by epoch, then its value or its failure.

        What another process has told meanwhile stays.
        """
        trial, states = asked.handle, self.optuna.trial.TrialState
        try:
            for epoch in _spread(sorted(outcome.by_epoch), self.reports):
                if hasattr(trial, "report") and epoch not in asked.reported:
                    trial.report(outcome.by_epoch[epoch], epoch)
            if outcome.ended != "finished" or not outcome.full:
                _note(trial, "ended", outcome.ended)
            if outcome.error:
                _note(trial, "error", outcome.error)
        except RuntimeError:
            if self._is_finished(trial):
                return
            raise
        try:
            if outcome.full:
                self.study.tell(trial, outcome.value)
            else:
                pruned = outcome.ended in self.prunes
                self.study.tell(trial, state=states.PRUNED if pruned else states.FAIL)
        except (RuntimeError, ValueError) as error:
            if not self._is_finished(trial):
                raise
            # a sampler that has no more points stops a loop of Optuna's, which is not running
            told_elsewhere = isinstance(error, (ValueError, self.optuna.exceptions.OptunaError))
            self._stopped = self._stopped or not told_elsewhere

    @property
    def _lasts(self) -> bool:
        return all(hasattr(self.study, name) for name in ("get_trials", "user_attrs", "set_user_attr"))

    def _mine(self) -> Iterator[tuple[Any, int]]:
        """The trials of this sweep and the numbers of their batches.

        A process that was killed may have left a trial that it had asked for and not yet marked.
        """
        if not self._lasts:
            return
        asking = self.study.user_attrs.get(_ASKING, [None, 0, math.inf])
        new, enqueued = asking[2], set().union(*asking[3:])  # which earlier versions did not note
        labels = {self.which.label, *(p.label for by_name in self.parameters for p in by_name.values())}
        for trial in self.study.get_trials(deepcopy=False):
            lost = trial.number >= new or trial.number in enqueued
            mark = trial.user_attrs.get(_MARK, asking if lost else None)
            runs = trial.state.name == "RUNNING" and set(trial.params) <= labels
            told = trial.state.is_finished() and _MARK in trial.user_attrs
            if mark and mark[0] == self.id and (runs or (told and _ended(trial))):
                yield trial, mark[1]

    def _asked(self, trial: Any) -> Asked:
        """The point of a trial, with what it has not got yet drawn."""
        which = self.which.value(self.which.suggested(trial))
        values = {name: p.suggested(trial) for name, p in self.parameters[which].items()}
        return self._of(which, values, trial)

    def _told(self, trial: Any) -> Asked | None:
        """The point of a trial and its outcome; None if the space has changed too much for it."""
        value = trial.value if trial.state.name == "COMPLETE" else math.nan
        error = trial.user_attrs.get("error", "")
        outcome = Outcome(_ended(trial), value, trial.intermediate_values, error)
        try:
            which = 0 if self.which.distribution is None else trial.params[self.which.label]
            values = {
                name: None if p.distribution is None else trial.params[p.label]
                for name, p in self.parameters[which].items()
            }
            return self._of(which, values, trial)._replace(told=outcome)
        except (KeyError, IndexError):
            return None

    def _of(self, which: int, values: Mapping[str, Any], trial: Any) -> Asked:
        space: Parameters = self.parameters[which]
        point = {name: parameter.value(values[name]) for name, parameter in space.items()}
        return Asked(point, (which, *values.items()), trial)

    def _ask_again(self, failed: Any) -> None:
        """Have the study ask for the point of an error again, if it does not yet and did not later."""
        params = failed.params
        for trial in self.study.get_trials(deepcopy=False):
            fixed = trial.system_attrs.get("fixed_params")
            queued = not trial.state.is_finished() and fixed == params
            later = trial.number > failed.number and trial.params == params
            if queued or later:
                return
        self.study.enqueue_trial(params)

    def _is_finished(self, trial: Any) -> bool:
        """Whether a study that holds its trials says that this one has been told."""
        trials = self.study.get_trials(deepcopy=False) if self._lasts else []
        return any(other.number == trial.number and other.state.is_finished() for other in trials)


def _check_directions(study: Any, metric: str, sign: float) -> None:
    directions = getattr(study, "directions", None) or [getattr(study, "direction", None)]
    if len(directions) > 1:
        raise ValueError(
            f"sampler must be a study of one objective, the metric {metric}; got one of "
            f"{len(directions)} objectives"
        )
    goes = getattr(directions[0], "name", str(directions[0])).lower()
    wanted = "minimize" if sign > 0 else "maximize"
    if goes != wanted and goes in ("minimize", "maximize"):
        raise ValueError(
            f"the study's direction is {goes!r}, and {'less' if sign > 0 else 'more'} of {metric} is "
            f"better: make the study with direction={wanted!r}, or pass monitor= and mode= to "
            "jaxdeep.search.AskTell"
        )


def _check_same(held: Json, about: Json) -> None:
    if held.get("format", 1) != about["format"]:
        raise ValueError(
            "the study holds trials of a sweep that another version of jaxdeep began, in the format "
            f"{held.get('format', 1)}, and this version goes on with those of format {about['format']}. "
            "Finish it with that version, or make a new study, which may learn from this one: "
            "new.add_trials(old.trials)"
        )
    if odd := [name for name in {**held, **about} if held.get(name) != about.get(name)]:
        told = "; ".join(f"{name}: {difference_of(held.get(name), about.get(name))}" for name in odd)
        raise ValueError(
            "the study holds trials of another sweep, whose values mean something else; it differs in "
            f"{told}. Make a new study, which may learn from this one: new.add_trials(old.trials)"
        )


def _ended(trial: Any) -> str:
    """How a trial that was told ended; "" if it failed elsewhere."""
    usual = {"COMPLETE": "finished", "PRUNED": "halved"}.get(trial.state.name, "")
    return str(trial.user_attrs.get("ended", usual))


def _note(trial: Any, name: str, value: Json) -> None:
    if hasattr(trial, "set_user_attr"):
        trial.set_user_attr(name, value)


def _spread(epochs: Sequence[int], most: int) -> list[int]:
    """At most so many of the epochs, evenly, the last one among them.

    >>> _spread([1, 2, 3, 4, 5, 6, 7], 3)
    [3, 5, 7]
    """
    many = len(epochs)
    if many <= most:
        return list(epochs)
    return [epochs[math.ceil((i + 1) * many / most) - 1] for i in range(most)]
