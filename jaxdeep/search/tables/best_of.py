"""The best of k points, as a function of k: what more tuning would have bought."""

from collections.abc import Sequence

import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._shapes import ArrayLike


def expected_best(
    values: Sequence[float] | ArrayLike, mode: str, *, unbiased: bool = True
) -> np.ndarray:
    """The expected best of k of the n values of a search, for k = 1, …, n.

    For maximisation, with v₍₁₎ ≤ … ≤ v₍ₙ₎, the unbiased estimate is the mean of the best over all
    subsets of k values, ``U_k = Σ_{i≥k} v₍ᵢ₎ C(i−1, k−1) / C(n, k)``. The other one is the mean over
    all draws of k with replacement, ``V_k = Σ_i v₍ᵢ₎ [(i/n)^k − ((i−1)/n)^k]``, which promises too
    little but varies less. The spread of U_k grows with k; read it up to n / 2. Both assume points that
    were drawn independently; for those of a Sobol sequence or a grid they are approximations.

    Args:
      values: ``(n,)`` of one value a point. A value that is not finite, of a run that diverged, counts
        as the worst of the others.
      mode: "min" or "max", which of them is better.
      unbiased: U_k if True, V_k otherwise.

    Returns:
      ``(n,)`` float64; element k − 1 is for k.

    Raises:
      ValueError, TypeError: no values, none that is finite, another mode.

    Source: V, Dodge et al., "Show Your Work" (arXiv:1909.03004); U, Tang et al. (arXiv:2004.13705).

    >>> expected_best([0.9, 0.1, 0.5, 0.7], "max").round(4).tolist()
    [0.55, 0.7667, 0.85, 0.9]
    >>> expected_best([0.9, 0.1, 0.5, 0.7], "max", unbiased=False).round(4).tolist()
    [0.55, 0.7125, 0.7844, 0.8227]
    """
    _checks.check_choice("mode", mode, ("min", "max"))
    _checks.check_flag("unbiased", unbiased)
    sign = 1.0 if mode == "max" else -1.0
    rising = np.sort(sign * with_worst(values, -sign))
    n = len(rising)
    i = np.arange(1, n + 1)
    best = np.empty(n)
    for k in range(1, n + 1):
        if unbiased:  # C(i−1, k−1) / C(n, k), from i = n down
            weights = k / n * np.cumprod([1.0, *((i[:0:-1] - k) / (i[:0:-1] - 1))])[::-1]
        else:
            weights = (i / n) ** k - ((i - 1) / n) ** k
        best[k - 1] = weights @ rising
    return sign * best


def with_worst(values: Sequence[float] | ArrayLike, sign: float) -> np.ndarray:
    """The values, with the worst of those that are finite in the place of the others.

    `sign` is 1 if smaller values are better, −1 if larger ones are.
    """
    array = np.asarray(as_array("values", values), np.float64)
    if array.ndim != 1:
        raise ValueError(f"values must be a list of numbers, got shape {array.shape}")
    finite = np.isfinite(array)
    if not finite.any():
        raise ValueError(f"values must hold a finite one at least, got {len(array)} that are not")
    return np.where(finite, array, sign * (sign * array[finite]).max())
