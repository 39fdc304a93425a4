"""Distributions of one hyperparameter, as plain data.

Each maps a share u from [0, 1) to a value (`at`) and a value back to its share (`unit`), so that what
samples the unit cube, at random or evenly, samples points. `bounds` are the smallest and the largest
value, and `spread` gives a number of values that lie evenly, the ends among them.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np

from jaxdeep import _checks
from jaxdeep.search.spaces.values import is_number, listed, word

Shares = TypeVar("Shares", float, np.ndarray)

EDGE = 0.05  # the share of a range, at either end, that is its edge
_MOST = 2**53  # whole numbers up to here are floats, too


class Uniform(NamedTuple):
    """Floats that are all equally likely: ``low + u (high − low)``."""

    low: float
    high: float

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return self

    def scaled(self, u: Shares) -> Shares:
        """The values at the shares `u` of the range, before they are kept within it."""
        return self.low + u * (self.high - self.low)

    def at(self, u: float) -> float:
        """The value at the share `u` of the range, from 0 to 1."""
        return _within(self, self.scaled(u))

    def unit(self, value: float) -> float:
        """The share of the range at which a value lies: the inverse of `at`."""
        return (value - self.low) / (self.high - self.low)

    def spread(self, count: int) -> list[float]:
        """Values at equal steps."""
        return np.linspace(*self, count).clip(*self).tolist()


class LogUniform(NamedTuple):
    """Floats whose logarithms are equally likely: ``low (high / low)ᵘ``."""

    low: float
    high: float

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return self

    def scaled(self, u: Shares) -> Shares:
        """The values at the shares `u` of the range, before they are kept within it."""
        return self.low * (self.high / self.low) ** u

    def at(self, u: float) -> float:
        """The value at the share `u` of the range, from 0 to 1."""
        return _within(self, self.scaled(u))

    def unit(self, value: float) -> float:
        """The share of the range at which a value lies: the inverse of `at`."""
        return _log_share(self.low, self.high, value)

    def spread(self, count: int) -> list[float]:
        """Values at equal ratios."""
        return np.geomspace(*self, count).clip(*self).tolist()


class OneMinus(NamedTuple):
    """Floats ``1 − t`` for t whose logarithms are equally likely from `low` to `high`.

    Note that `low` and `high` are those of t; the values are from ``1 − high`` to ``1 − low``.
    """

    low: float
    high: float

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return 1 - self.high, 1 - self.low

    def at(self, u: float) -> float:
        """The value at the share `u` of the range, from 0 to 1."""
        return 1 - LogUniform(*self).at(u)

    def unit(self, value: float) -> float:
        """The share of the range at which a value lies: the inverse of `at`."""
        return _log_share(self.low, self.high, 1 - value)

    def spread(self, count: int) -> list[float]:
        """Values at equal ratios of t."""
        return [1 - t for t in LogUniform(*self).spread(count)]


class Int(NamedTuple):
    """Whole numbers that are all equally likely: ``⌊low + u (high − low + 1)⌋``."""

    low: int
    high: int

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest value."""
        return self

    def at(self, u: float) -> int:
        """The value at the share `u` of the range, from 0 to 1."""
        return _within(self, self.low + math.floor(u * (self.high - self.low + 1)))

    def unit(self, value: int) -> float:
        """The share in the middle of those of a value."""
        return (value - self.low + 0.5) / (self.high - self.low + 1)

    def spread(self, count: int) -> list[int]:
        """The values nearest to equal steps, each once."""
        return _nearest(self, count, np.linspace)


class LogInt(NamedTuple):
    """Whole numbers by their order of magnitude: ``⌊low ((high + 1) / low)ᵘ⌋``."""

    low: int
    high: int

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest value."""
        return self

    def at(self, u: float) -> int:
        """The value at the share `u` of the range, from 0 to 1."""
        return _within(self, math.floor(self.low * ((self.high + 1) / self.low) ** u))

    def unit(self, value: int) -> float:
        """A share among those of a value."""
        return _log_share(self.low, self.high + 1, value + 0.5)

    def spread(self, count: int) -> list[int]:
        """The values nearest to equal ratios, each once."""
        return _nearest(self, count, np.geomspace)


class Choice(NamedTuple):
    """One of some values, all equally likely: that number ``⌊u · len(values)⌋``."""

    values: tuple[Any, ...]

    @property
    def bounds(self) -> tuple[Any, ...]:
        """The smallest and the largest value, if all are numbers; else nothing."""
        return (min(self.values), max(self.values)) if all(map(is_number, self.values)) else ()

    def at(self, u: float) -> Any:
        """The value at the share `u` of the range, from 0 to 1."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def unit(self, value: Any) -> float:
        """The share in the middle of those of a value; NaN for another one."""
        known = [word(option) for option in self.values]
        return (known.index(word(value)) + 0.5) / len(known) if word(value) in known else math.nan

    def spread(self, count: int) -> list[Any]:
        """All values, whatever the count, each once."""
        return list({word(value): value for value in self.values}.values())


Distribution = Uniform | LogUniform | OneMinus | Int | LogInt | Choice


def uniform(low: float, high: float) -> Uniform:
    """Floats from `low` to `high` that are all equally likely: ``low + u (high − low)``.

    Args:
      low, high: the ends, which belong to the range.

    Raises:
      ValueError, TypeError: ends that are no finite numbers, or out of order.

    Source: Bergstra & Bengio, "Random Search for Hyper-Parameter Optimization" (2012).

    >>> uniform(0, 0.5), uniform(0, 0.5).at(0.5)
    (Uniform(low=0.0, high=0.5), 0.25)
    """
    return Uniform(*_floats("uniform", low, high, "(-inf, inf)"))


def log_uniform(low: float, high: float) -> LogUniform:
    """Floats from `low` to `high` whose logarithms are equally likely: ``low (high / low)ᵘ``.

    For what is set by its order of magnitude, such as a learning rate, a weight decay or ε.

    Args:
      low, high: the ends, > 0, which belong to the range.

    Raises:
      ValueError, TypeError: ends that are no positive numbers, or out of order.

    Source: Bergstra & Bengio, "Random Search for Hyper-Parameter Optimization" (2012).

    >>> log_uniform(1e-4, 1e-2).spread(3)
    [0.0001, 0.001, 0.01]
    """
    return LogUniform(*_floats("log_uniform", low, high, "(0, inf)"))


def one_minus(low: float, high: float) -> OneMinus:
    """Floats ``1 − t``, where t is `log_uniform` from `low` to `high`: ``1 − low (high / low)ᵘ``.

    For what is set by its distance from 1, such as `b1`, `b2`, a momentum or the decay of an average.

    Args:
      low, high: the ends of t, in (0, 1], which belong to the range: a `b1` from 0.5 to 0.99 is
        ``one_minus(0.01, 0.5)``.

    Raises:
      ValueError, TypeError: ends that are not in (0, 1], or out of order.

    Source: the spaces in Dahl et al., "Benchmarking Neural Network Training Algorithms" (2023).

    >>> one_minus(0.01, 0.5).bounds, one_minus(0.001, 0.1).spread(3)
    ((0.5, 0.99), [0.999, 0.99, 0.9])
    """
    ends = _floats("one_minus", low, high, "(0, 1]")
    if 1 - ends[0] == 1:
        raise ValueError(
            f"low of one_minus must be at least 1.2e-16, got {low}, which 1 − low rounds away"
        )
    return OneMinus(*ends)


def int_(low: int, high: int) -> Int:
    """Whole numbers from `low` to `high` that are all equally likely: ``⌊low + u (high − low + 1)⌋``.

    Args:
      low, high: the ends, which belong to the range.

    Raises:
      ValueError, TypeError: ends that are no whole numbers, or out of order.

    >>> import jaxdeep as jd
    >>> [jd.search.int(1, 4).at(u) for u in (0.0, 0.3, 0.99)]
    [1, 2, 4]
    """
    return Int(*_whole_numbers("int", low, high, -_MOST))


def log_int(low: int, high: int) -> LogInt:
    """Whole numbers from `low` to `high` by their order of magnitude: ``⌊low ((high + 1) / low)ᵘ⌋``.

    The probability of k is proportional to ``log((k + 1) / k)``. For what doubles rather than grows by
    one, such as units of a layer or examples in a batch.

    Args:
      low, high: the ends, ≥ 1, which belong to the range.

    Raises:
      ValueError, TypeError: ends that are no positive whole numbers, or out of order.

    >>> log_int(16, 256).spread(5)
    [16, 32, 64, 128, 256]
    """
    return LogInt(*_whole_numbers("log_int", low, high, 1))


def choice(values: Iterable[Any]) -> Choice:
    """One of some values of any kind, all equally likely. In a space, a plain list says the same.

    A value that is given twice is drawn twice as often.

    Args:
      values: a list, a tuple, a range or an array of one axis. Scalar arrays become Python's numbers.

    Raises:
      ValueError, TypeError: values that are no list, or an empty one; a distribution among them.

    >>> choice(["adam", "sgd"]).at(0.7)
    'sgd'
    """
    return choice_of("values", values)


_FACTORIES = {
    "uniform": uniform,
    "log_uniform": log_uniform,
    "one_minus": one_minus,
    "int": int_,
    "log_int": log_int,
    "choice": choice,
}


def distribution_of(name: str, entry: Any) -> Distribution:
    """The distribution that stands in a space: itself, a list as a choice, one value as a constant.

    >>> distribution_of("a", uniform(0, 1)), distribution_of("a", [1, 2]), distribution_of("a", "x")
    (Uniform(low=0.0, high=1.0), Choice(values=(1, 2)), Choice(values=('x',)))
    """
    if isinstance(entry, Distribution):
        return entry
    axes = getattr(entry, "ndim", 0)
    if type(entry) in (list, tuple, range) or axes == 1:
        return choice_of(name, entry)
    if isinstance(entry, (set, frozenset, Iterator)) or axes:
        raise TypeError(
            f"{name} must be a distribution, a list of values or a single one, got {entry!r}"
        )
    if any(entry is factory for factory in _FACTORIES.values()):
        raise TypeError(f"{name} must be a distribution, got the function that makes one; call it")
    return choice_of(name, [entry])


def choice_of(name: str, values: Iterable[Any]) -> Choice:
    """The choice of a list, which `name` names in errors."""
    values = listed(name, list(values) if isinstance(values, range) else values)
    if not values:
        raise ValueError(f"{name} must hold a value at least, got an empty list")
    _refuse_form_of_random_points(name, *values)
    for value in values:
        refuse_distribution(name, value)
    return Choice(tuple(values))


def _refuse_form_of_random_points(name: str, kind: Any, *rest: Any) -> None:
    """Refuse ``("log_uniform", 1e-4, 1e-1)``, which would be a choice of a name and two numbers."""
    if not isinstance(kind, str):
        return
    ends = kind in ("uniform", "log_uniform") and len(rest) == 2 and all(map(is_number, rest))
    if ends or (kind == "choice" and len(rest) == 1 and isinstance(rest[0], (list, tuple))):
        call = f"jaxdeep.search.{kind}({', '.join(map(repr, rest))})"
        raise TypeError(f"{name} must be {call} instead of {(kind, *rest)}, which is a list of values")


def refuse_distribution(name: str, value: Any) -> None:
    """Refuse a distribution, or a dict that holds one, where a value must be."""
    if isinstance(value, Distribution):
        raise TypeError(
            f"{name} must hold values, got {value}; draw points with jaxdeep.search.sobol(space, n) "
            "from a dict of distributions by name, or from a list of such dicts"
        )
    for inner in value.values() if isinstance(value, dict) else ():
        refuse_distribution(name, inner)


def refuse_of_others(name: str, value: Any) -> None:
    """Refuse a distribution of another library, which would be taken for a constant.

    Those of SciPy, PyTorch, Optuna and the tuners of Ray, Keras and others are told by their names.
    """
    for inner in value if isinstance(value, (list, tuple)) else ():
        refuse_of_others(name, inner)
    kind = value if isinstance(value, type) else type(value)
    names = [f"{base.__module__}.{base.__name__}".casefold() for base in kind.__mro__]
    if any(base.startswith("scipy.stats.") or part in base for base in names for part in _OF_OTHERS):
        raise TypeError(
            f"{name} is a distribution of another library, {kind.__module__}.{kind.__name__}; write it "
            "with jaxdeep.search.uniform, log_uniform, int, log_int or choice"
        )


_OF_OTHERS = (
    *("torch.distributions.", "optuna.distributions.", "ray.tune.search.sample.", "hyperopt.pyll."),
    *("hyperparameters.hyperparameter.", "skopt.space.", "numpy.random."),
)


def size(distribution: Distribution) -> int | None:
    """How many values there are; None for floats.

    >>> size(int_(1, 4)), size(choice(["a", "b", "a"])), size(uniform(0, 1))
    (4, 2, None)
    """
    if isinstance(distribution, Choice):
        return len({word(value) for value in distribution.values})
    if isinstance(distribution, (Int, LogInt)):
        return distribution.high - distribution.low + 1
    return None


def contains(distribution: Distribution, value: Any) -> bool:
    """Whether a value may come from a distribution.

    >>> contains(uniform(0, 1), 1), contains(uniform(0, 1), 2), contains(choice(["a"]), "a")
    (True, False, True)
    """
    if isinstance(distribution, Choice):
        return not math.isnan(distribution.unit(value))
    return is_number(value) and distribution.bounds[0] <= value <= distribution.bounds[1]


def is_at_edge(distribution: Distribution, value: Any) -> bool:
    """Whether a value is an end of its range, or in the outer 5 % of u at either end.

    Of a choice of numbers, only the smallest and the largest are. A range of fewer than three values has
    no edge, nor has a choice of anything else.

    >>> is_at_edge(log_uniform(1e-4, 1), 1.2e-4), is_at_edge(int_(1, 4), 3), is_at_edge(int_(1, 4), 4)
    (True, False, True)
    """
    few = size(distribution) in (1, 2)
    if few or not distribution.bounds or not is_number(value) or not contains(distribution, value):
        return False
    inner = isinstance(distribution, Choice) or EDGE <= distribution.unit(value) <= 1 - EDGE
    return value in distribution.bounds or not inner


def _floats(name: str, low: Any, high: Any, interval: str) -> tuple[float, float]:
    for end, value in (("low", low), ("high", high)):
        _checks.check_number(f"{end} of {name}", value, interval)
    _check_order(name, low, high)
    return float(low), float(high)


def _whole_numbers(name: str, low: Any, high: Any, least: int) -> tuple[int, int]:
    low = _checks.check_count(f"low of {name}", low, low=least)
    high = _checks.check_count(f"high of {name}", high, low=least)
    if high > _MOST:
        raise ValueError(f"high of {name} must be at most 2**53, got {high}")
    _check_order(name, low, high)
    return low, high


def _check_order(name: str, low: float, high: float) -> None:
    if low >= high:
        raise ValueError(
            f"{name} must have low < high, got {low} and {high} (one value stands in a space as it is)"
        )


def _nearest(ends: Int | LogInt, count: int, line: Callable[..., np.ndarray]) -> list[int]:
    if count >= ends.high - ends.low + 1:
        return [*range(ends.low, ends.high + 1)]
    return [*dict.fromkeys(np.rint(line(*ends, count)).astype(np.int64).tolist())]


def _within(bounds: tuple[Any, Any], value: Any) -> Any:
    return min(max(value, bounds[0]), bounds[1])


def _log_share(low: float, high: float, value: float) -> float:
    return math.log(value / low) / math.log(high / low)
