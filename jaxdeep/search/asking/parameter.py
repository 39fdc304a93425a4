"""The parameters of an Optuna study that stand for the hyperparameters of a space."""

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxdeep.lasting.identity import lasting_repr, words_of
from jaxdeep.search.spaces.distributions import (
    Choice,
    Distribution,
    Int,
    LogInt,
    LogUniform,
    OneMinus,
    Uniform,
)
from jaxdeep.search.spaces.space import spaces_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial

_LONGEST = 40  # letters of a value's label


class Parameter(NamedTuple):
    """A parameter of a study.

    Attributes:
      label: its name there.
      distribution: where its values come from; None for a constant.
      value: the hyperparameter for a value of it.
      among: where the hyperparameter's values come from.
    """

    label: str
    distribution: "BaseDistribution | None"
    value: Callable[[Any], Any]
    among: Distribution

    def suggested(self, trial: "BaseTrial") -> Any:
        """The trial's value of it, which is drawn if there is none yet; None for a constant."""
        given: Any = self.distribution
        if given is None:
            return None
        if self.label in trial.params:
            return trial.params[self.label]
        if hasattr(given, "choices"):
            return trial.suggest_categorical(self.label, given.choices)
        suggest = trial.suggest_int if isinstance(given.low, int) else trial.suggest_float
        return suggest(self.label, given.low, given.high, step=given.step, log=given.log)

    def example(self, share: float) -> Any:
        """A value of it, from its smallest (0) to its largest (1)."""
        given: Any = self.distribution
        if given is None:
            return None
        if hasattr(given, "choices"):
            return given.choices[round(share * (len(given.choices) - 1))]
        if given.step is not None:
            steps = round((given.high - given.low) / given.step)
            return given.low + round(share * steps) * given.step
        ends = np.array([given.low, given.high])
        value = np.exp(np.log(ends) @ [1 - share, share]) if given.log else ends @ [1 - share, share]
        return float(np.clip(value, *ends))


Parameters = Mapping[str, Parameter]  # by the names of hyperparameters


def parameters_of(space: Any, optuna: ModuleType, *, named: bool = False) -> list[Parameters]:
    """The parameters of a space, or those of each space of a list.

    Args:
      space: a dict by name of distributions of `jaxdeep.search` or of Optuna, of lists of values to
        choose from, and of constants; or a list of such dicts, one of which is chosen.
      optuna: the module.
      named: whether choices must have a name that lasts.

    Raises:
      ValueError, TypeError: a space that is none, or in which nothing varies.
    """
    found = [
        {name: _parameter(optuna, name, given, named) for name, given in each.items()}
        for each in spaces_of(space)
    ]
    if not any(parameter.distribution for each in found for parameter in each.values()):
        raise ValueError(
            f"space must hold distributions, in which a sampler can search; got {space!r}. A list of "
            "points is swept without a sampler"
        )
    return [_told_apart(i, each, found) for i, each in enumerate(found)]


def which_of(spaces: Sequence[Parameters], optuna: ModuleType) -> Parameter:
    """The parameter that chooses one of the spaces; a constant if there is one."""
    numbers = range(len(spaces))
    one_of = optuna.distributions.CategoricalDistribution(numbers) if len(spaces) > 1 else None
    return Parameter("which space", one_of, lambda number: number or 0, Choice((*numbers,)))


def _told_apart(i: int, names: Parameters, spaces: Sequence[Parameters]) -> Parameters:
    """The parameters of a space, renamed where another space has others of the same label."""
    others = [p for j, each in enumerate(spaces) if j != i for p in each.values()]

    def renamed(parameter: Parameter) -> Parameter:
        label, distribution = parameter.label, parameter.distribution
        clash = any(p.label == label and p.distribution != distribution for p in others)
        return parameter._replace(label=f"{label} ({i})") if clash else parameter

    return {name: renamed(parameter) for name, parameter in names.items()}


def _parameter(optuna: ModuleType, name: str, given: Distribution, named: bool) -> Parameter:
    known = optuna.distributions
    if isinstance(given, (Uniform, LogUniform)):
        log = isinstance(given, LogUniform)
        return Parameter(name, known.FloatDistribution(*given, log=log), _same, given)
    if isinstance(given, (Int, LogInt)):
        log = isinstance(given, LogInt)
        return Parameter(name, known.IntDistribution(*given, log=log), _same, given)
    if isinstance(given, OneMinus):
        return Parameter(f"1 - {name}", known.FloatDistribution(*given, log=True), _one_minus, given)
    first, *others = given.values
    if isinstance(first, known.BaseDistribution) and not others:
        return Parameter(name, first, _same, _among(first))
    if named:
        for value in given.values:
            words_of(f"space[{name!r}]", value)
    if not others:
        return Parameter(name, None, lambda _: first, given)
    labels = _labels(given.values)
    by_label = dict(zip(labels, given.values))
    return Parameter(name, known.CategoricalDistribution(labels), by_label.__getitem__, given)


def _among(given: Any) -> Distribution:
    """A distribution of Optuna as one of ours, apart from its steps."""
    if hasattr(given, "choices"):
        return Choice(given.choices)
    if given.single():
        return Choice((given.low,))
    kinds = (Int, LogInt) if isinstance(given.low, int) else (Uniform, LogUniform)
    return kinds[given.log](given.low, given.high)


def _same(value: Any) -> Any:
    return value


def _one_minus(t: float) -> float:
    return 1 - t


def _labels(values: Sequence[Any]) -> list[Any]:
    """What a study calls values: themselves if it knows their types, else their names or numbers."""
    plain = all(value is None or isinstance(value, (bool, int, float, str)) for value in values)
    if plain and len(set(values)) == len(values):
        return list(values)
    names = [getattr(value, "__name__", None) or lasting_repr(value) for value in values]
    clear = len(set(names)) == len(names) and max(map(len, names)) <= _LONGEST
    return names if clear else list(range(len(values)))
