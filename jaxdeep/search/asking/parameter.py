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
        distribution: Any = self.distribution
        if distribution is None:
            return None
        if self.label in trial.params:
            return trial.params[self.label]
        if hasattr(distribution, "choices"):
            return trial.suggest_categorical(self.label, distribution.choices)
        suggest = trial.suggest_int if isinstance(distribution.low, int) else trial.suggest_float
        return suggest(
            self.label, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )

    def example(self, share: float) -> Any:
        """A value of it, from its smallest (0) to its largest (1)."""
        distribution: Any = self.distribution
        if distribution is None:
            return None
        if hasattr(distribution, "choices"):
            return distribution.choices[round(share * (len(distribution.choices) - 1))]
        if distribution.step is not None:
            steps = round((distribution.high - distribution.low) / distribution.step)
            return distribution.low + round(share * steps) * distribution.step
        ends = np.array([distribution.low, distribution.high])
        value = (
            np.exp(np.log(ends) @ [1 - share, share]) if distribution.log else ends @ [1 - share, share]
        )
        return float(np.clip(value, *ends))


Parameters = Mapping[str, Parameter]  # by the name of the hyperparameter


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
    parameters = [
        {
            name: _parameter(optuna, name, distribution, named)
            for name, distribution in distributions.items()
        }
        for distributions in spaces_of(space, of_study=True)
    ]
    if not any(parameter.distribution for by_name in parameters for parameter in by_name.values()):
        raise ValueError(
            f"space must hold distributions, in which a sampler can search; got {space!r}. A list of "
            "points is swept without a sampler"
        )
    return [_told_apart(i, by_name, parameters) for i, by_name in enumerate(parameters)]


def which_of(spaces: Sequence[Parameters], optuna: ModuleType) -> Parameter:
    """The parameter that chooses one of the spaces; a constant if there is one."""
    numbers = range(len(spaces))
    one_of = optuna.distributions.CategoricalDistribution(numbers) if len(spaces) > 1 else None
    return Parameter("which space", one_of, lambda number: number or 0, Choice((*numbers,)))


def _told_apart(i: int, names: Parameters, spaces: Sequence[Parameters]) -> Parameters:
    """The parameters of a space, renamed where another space has others of the same label."""
    others = [p for j, by_name in enumerate(spaces) if j != i for p in by_name.values()]

    def renamed(parameter: Parameter) -> Parameter:
        label, distribution = parameter.label, parameter.distribution
        clash = any(p.label == label and p.distribution != distribution for p in others)
        return parameter._replace(label=f"{label} ({i})") if clash else parameter

    return {name: renamed(parameter) for name, parameter in names.items()}


def _parameter(optuna: ModuleType, name: str, distribution: Distribution, named: bool) -> Parameter:
    known = optuna.distributions
    if isinstance(distribution, (Uniform, LogUniform)):
        log = isinstance(distribution, LogUniform)
        return Parameter(name, known.FloatDistribution(*distribution, log=log), _same, distribution)
    if isinstance(distribution, (Int, LogInt)):
        log = isinstance(distribution, LogInt)
        return Parameter(name, known.IntDistribution(*distribution, log=log), _same, distribution)
    if isinstance(distribution, OneMinus):
        return Parameter(
            f"1 - {name}", known.FloatDistribution(*distribution, log=True), _one_minus, distribution
        )
    first, *others = distribution.values
    if isinstance(first, known.BaseDistribution) and not others:
        return Parameter(name, first, _same, _among(first))
    if named:
        for value in distribution.values:
            words_of(f"space[{name!r}]", value)
    if not others:
        return Parameter(name, None, lambda _: first, distribution)
    labels = _labels(distribution.values)
    by_label = dict(zip(labels, distribution.values))
    return Parameter(name, known.CategoricalDistribution(labels), by_label.__getitem__, distribution)


def _among(distribution: Any) -> Distribution:
    """A distribution of Optuna as one of ours, apart from its steps."""
    if hasattr(distribution, "choices"):
        return Choice(distribution.choices)
    if distribution.single():
        return Choice((distribution.low,))
    kinds = (Int, LogInt) if isinstance(distribution.low, int) else (Uniform, LogUniform)
    return kinds[distribution.log](distribution.low, distribution.high)


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
