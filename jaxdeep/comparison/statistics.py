"""How sure a difference between two sets of runs is: intervals, tests, and how many runs it takes."""

import math
import warnings
from collections.abc import Sequence

import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._shapes import ArrayLike

_EXACT = 16  # differences up to which all 2ⁿ signs are tried
_DRAWS = 100_000  # signs that are drawn for more
_RESAMPLES = 10_000


def t_interval(values: ArrayLike | Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the mean of independent values, by Student's distribution.

    It is ``mean ± t · s / √n`` for n values of standard deviation s (divided by n − 1) and the
    quantile t of Student's distribution with n − 1 degrees of freedom. At three to ten runs it covers
    what it promises, which percentiles of a bootstrap do not.

    Args:
      values: ``(n,)``, n ≥ 2, finite.
      level: of confidence, in (0, 1).

    Returns:
      The bounds ``(low, high)``; both are the value if all are equal.

    Raises:
      ValueError, TypeError: fewer than two values, one that is not finite, a level out of range.

    Source: Student, "The Probable Error of a Mean" (1908).

    >>> low, high = t_interval([0.90, 0.92, 0.94, 0.91, 0.93])
    >>> round(low, 4), round(high, 4)
    (0.9004, 0.9396)
    """
    array = _values("values", values, least=2)
    _checks.check_number("level", level, "(0, 1)")
    from scipy.special import stdtrit

    n, mean = len(array), float(array.mean())
    if np.ptp(array) == 0:
        return mean, mean
    half = float(stdtrit(n - 1, (1 + level) / 2) * array.std(ddof=1) / math.sqrt(n))
    return mean - half, mean + half


def bca_interval(
    values: ArrayLike | Sequence[float], *, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Confidence interval of the mean by the bootstrap, corrected for bias and acceleration (BCa).

    Means of 10,000 resamples give percentiles, which are shifted for the bias and the skewness of the
    values. It needs no normal distribution, but runs: below ten it is too narrow.

    Args:
      values: ``(n,)``, n ≥ 2, finite.
      level: of confidence, in (0, 1).
      seed: of the resamples.

    Returns:
      The bounds ``(low, high)``; both are the value if all are equal.

    Raises:
      ValueError, TypeError: fewer than two values, one that is not finite, a level out of range.

    Source: Efron, "Better Bootstrap Confidence Intervals" (1987); `scipy.stats.bootstrap`.

    >>> low, high = bca_interval([0.90, 0.92, 0.94, 0.91, 0.93] * 4)
    >>> 0.91 < low < 0.92 < high < 0.93
    True
    >>> bca_interval([1.0, 1.0])
    (1.0, 1.0)
    """
    array = _values("values", values, least=2)
    _checks.check_number("level", level, "(0, 1)")
    seed = _checks.check_count("seed", seed, low=0)
    if np.ptp(array) == 0:
        return float(array[0]), float(array[0])
    from scipy import stats

    with warnings.catch_warnings():  # resamples of few values may all be equal
        warnings.simplefilter("ignore")
        interval = stats.bootstrap(
            (array,),
            np.mean,
            n_resamples=_RESAMPLES,
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    low, high = float(interval.low), float(interval.high)
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    return float(array.min()), float(array.max())


def sign_flip_test(
    differences: ArrayLike | Sequence[float], *, seed: int = 0, error: float = 0.0
) -> float:
    """Two-sided p-value of the mean of paired differences, by flipping their signs.

    If neither of a pair is better, each difference is as likely as its negative, and p is the share of
    all 2ⁿ choices of signs whose sum is at least as far from 0 as that of the differences. All of them
    are tried up to n = 16, so that p is exact and never below 2 / 2ⁿ: 0.25 for three pairs, 0.002 for
    ten. For more, 100,000 are drawn, and p is ``(1 + hits) / (1 + draws)``.

    Args:
      differences: ``(n,)``, n ≥ 1, finite: one for each seed.
      seed: of the draws.
      error: what each difference may be off by, ≥ 0, such as that of metrics in float32: sums that are
        equal but for it count as equal, as those of accuracies often are.

    Returns:
      p in (0, 1]; 1 if all differences are 0.

    Raises:
      ValueError, TypeError: no differences, one that is not finite.

    Source: Fisher, "The Design of Experiments" (1935), section 21; Phipson & Smyth (2010) for draws.

    >>> sign_flip_test([1.0, 2.0, 3.0]), sign_flip_test([0.0, 0.0])
    (0.25, 1.0)
    """
    array = _values("differences", differences, least=1)
    seed = _checks.check_count("seed", seed, low=0)
    _checks.check_number("error", error, "[0, inf)")
    n = len(array)
    size = np.abs(array).max()
    if size == 0:
        return 1.0
    array = array / size  # sums neither over- nor underflow
    # sums of equal numbers in another order are as large
    least = abs(array.sum()) - n * (1e-12 + 2 * error / size)
    if n <= _EXACT:
        sums = np.zeros(1)
        for value in array:
            sums = np.concatenate([sums - value, sums + value])
        return float(np.mean(np.abs(sums) >= least))
    signs = np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), (_DRAWS, n))
    return float((1 + np.sum(np.abs(signs @ array) >= least)) / (1 + _DRAWS))


def paired_t_test(differences: ArrayLike | Sequence[float]) -> float:
    """Two-sided p-value of the mean of paired differences, by Student's distribution.

    Args:
      differences: ``(n,)``, n ≥ 2, finite, taken for independent and normal.

    Returns:
      p in [0, 1]; 1 if all differences are 0, and 0 if all are another number.

    Raises:
      ValueError, TypeError: fewer than two differences, one that is not finite.

    Source: Student, "The Probable Error of a Mean" (1908).

    >>> round(paired_t_test([1.0, 2.0, 3.0]), 4)
    0.0742
    """
    array = _values("differences", differences, least=2)
    if np.ptp(array) == 0:
        return 0.0 if array[0] else 1.0
    from scipy.special import stdtr

    n, deviation = len(array), array.std(ddof=1)
    return float(2 * stdtr(n - 1, -abs(array.mean()) * math.sqrt(n) / deviation))


def holm(p_values: ArrayLike | Sequence[float]) -> np.ndarray:
    """p-values adjusted for being several, by Holm's method.

    In rising order the j-th of m is ``max_{i≤j} min(1, (m − i + 1) p₍ᵢ₎)``. Where those below 0.05 are
    taken for differences, at least one is taken wrongly in no more than 5 % of the cases, whatever
    depends on what.

    Args:
      p_values: ``(m,)`` in [0, 1].

    Returns:
      ``(m,)`` float64, in the order given.

    Raises:
      ValueError, TypeError: values outside [0, 1].

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979).

    >>> holm([0.01, 0.04, 0.03, 0.005]).tolist()
    [0.03, 0.06, 0.06, 0.02]
    """
    array = _values("p_values", p_values, least=0)
    wrong = array[~((array >= 0) & (array <= 1))]
    if wrong.size:
        raise ValueError(f"p_values must be in [0, 1], got {wrong[0]}")
    order = np.argsort(array, kind="stable")
    steps = np.minimum(1.0, (len(array) - np.arange(len(array))) * array[order])
    adjusted = np.empty(len(array))
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def superiority(
    a: ArrayLike | Sequence[float], b: ArrayLike | Sequence[float], mode: str = "max"
) -> float:
    """P(A > B): how likely a new run of A is better than a new run of B.

    It is the share of all pairs of a value of `a` and one of `b` in which that of `a` is better; equal
    ones count one half: ``U / (n m)`` of Mann and Whitney.

    Args:
      a, b: ``(n,)``, ``(m,)`` values.
      mode: "max" if larger ones are better, "min" if smaller ones are.

    Returns:
      In [0, 1]; 0.5 for equal arrays.

    Raises:
      ValueError, TypeError: no values, one that is not finite, another mode.

    Source: Mann & Whitney (1947); Bouthillier et al., "Accounting for Variance in Machine Learning
    Benchmarks" (arXiv:2103.03098), which calls 0.75 a difference that matters.

    >>> superiority([0.9, 0.8], [0.7, 0.8]), superiority([0.9, 0.8], [0.7, 0.8], "min")
    (0.875, 0.125)
    """
    _checks.check_choice("mode", mode, ("min", "max"))
    one, other = _values("a", a, least=1), _values("b", b, least=1)
    signs = np.sign(one[:, None] - other) * (1 if mode == "max" else -1)
    return float((1 + signs.mean()) / 2)


def seeds_needed(
    deviation: float, difference: float, *, level: float = 0.95, power: float = 0.8
) -> float:
    """How many pairs of runs tell a difference from 0, about.

    It is ``((z_{1−α/2} + z_power) · deviation / difference)² + 2``, rounded up, for quantiles z of the
    normal distribution and α = 1 − level.

    Args:
      deviation: the standard deviation of the paired differences, ≥ 0.
      difference: the mean difference to be found, of any sign.
      level: of confidence, in (0, 1).
      power: the probability of finding it, in (0, 1).

    Returns:
      A whole number, at least 2; infinity for a difference of 0, and beyond the largest float.

    Raises:
      ValueError, TypeError: a negative deviation, a share out of range.

    Source: the usual approximation, as in Cohen, "Statistical Power Analysis" (1988).

    >>> seeds_needed(0.01, 0.01), seeds_needed(0.01, 0.0)
    (10, inf)
    """
    _checks.check_number("deviation", deviation, "[0, inf)")
    _checks.check_number("difference", difference, "(-inf, inf)")
    _checks.check_number("level", level, "(0, 1)")
    _checks.check_number("power", power, "(0, 1)")
    if deviation == 0:
        return 2 if difference else math.inf
    if difference == 0:
        return math.inf
    from scipy.special import ndtri

    both = max(float(ndtri((1 + level) / 2) + ndtri(power)), 0.0)  # below 0 a single pair would do
    root = both * (deviation / abs(difference))
    return math.ceil(root * root + 2) if math.isfinite(root * root) else math.inf


def _values(name: str, values: ArrayLike | Sequence[float], *, least: int) -> np.ndarray:
    array = np.asarray(as_array(name, values), np.float64)
    if array.ndim != 1 or len(array) < least:
        many = {0: "a list of numbers", 1: "one number at least"}.get(least, "two numbers at least")
        raise ValueError(f"{name} must be {many}, got an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0]}")
    return array
