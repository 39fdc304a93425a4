"""Which hyperparameters matter: permutation importance in a random forest, on points it has not seen."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdeep import _checks
from jaxdeep._extras import needed
from jaxdeep.search.spaces.values import is_number, word
from jaxdeep.search.tables.best_of import with_worst
from jaxdeep.search.tables.columns import decades, in_words

FEWEST = 10  # points; a forest learns nothing from fewer

_PARTS = 8  # of the points, that are left out in turn

_MOST = 1e30  # values are cut to this, since trees compute in float32


class Importance(NamedTuple):
    """How much of a metric's variation over the points of a sweep is due to each hyperparameter.

    Attributes:
      names: the hyperparameters, the most important first.
      shares: for each the share of the variance that is due to it, alone or together with others. It is
        below 0 by chance where there is none.
      uncertainties: a standard error of each share: how it changes with the points, by leaving out an
        eighth of them at a time (a jackknife, which rather says too much than too little). A share that
        is not twice its uncertainty may be chance.
      r2: how much of the variance the forest explains of points that it was not trained with; shares add
        up to about this, or more if hyperparameters act together: what it lacks to 1 is missing from
        the shares, most from the small ones. If it is near 0, shares say nothing.
      points: the number of points that were used.

    >>> print(Importance(("rate", "b1"), np.array([0.7, 0.02]), np.array([0.1, 0.03]), 0.75, 40))
    rate   0.70 ± 0.10
    b1     0.02 ± 0.03
    of the variance over 40 points, of which the forest explains 75 %
    """

    names: tuple[str, ...]
    shares: np.ndarray
    uncertainties: np.ndarray
    r2: float
    points: int

    def __str__(self) -> str:
        width = max(map(len, self.names))
        lines = [
            f"{name:{width}}  {share:5.2f} ± {uncertainty:.2f}"
            for name, share, uncertainty in zip(self.names, self.shares, self.uncertainties)
        ]
        explained = f"the forest explains {max(self.r2, 0):.0%}".replace("%", " %")
        doubt = "" if self.r2 > 0.2 else ": too little to rely on any of these"
        return "\n".join(
            [*lines, f"of the variance over {self.points} points, of which {explained}{doubt}"]
        )


def importance(
    points: Sequence[Mapping[str, Any]],
    y: np.ndarray,
    names: Sequence[str],
    *,
    trees: int = 200,
    seed: int = 0,
) -> Importance:
    """The importance of each hyperparameter, from the value of a metric at each point.

    A tree predicts the points that are not in its bootstrap sample; then the values of one
    hyperparameter are permuted among those. For y = f(x) the squared error rises by twice the total
    Sobol index of the hyperparameter times the variance of y, which is how the rise is read as a share.

    >>> rates = np.linspace(0, 1, 40)
    >>> points = [{"rate": rate, "noise": noise} for rate, noise in zip(rates, (7 * rates) % 1)]
    >>> importance(points, rates, ["rate", "noise"], trees=50).names
    ('rate', 'noise')
    """
    ensemble = needed("sklearn.ensemble", "importance", "scikit-learn", "datasets")
    blocks = _blocks(points, names)
    if not blocks:
        raise ValueError("importance needs a hyperparameter that differs between points; none does")
    if y.min() == y.max():
        raise ValueError(f"importance needs a metric that differs between points, got {y[0]:g} for all")
    y = y / np.abs(y).max()  # scaled, so that squares are finite
    make = functools.partial(ensemble.RandomForestRegressor, random_state=seed)
    shares, r2 = _shares(make(trees), [*blocks.values()], y, seed)
    # Each time without some of the points, so that the spread has all that comes with them: the rises,
    # the variance that they are shares of, and the forest itself.
    parts = np.random.default_rng(seed).permutation(len(y)) % min(_PARTS, len(y) // 2)
    fewer = make(max(trees // 2, 1))
    without = np.array(
        [
            _shares(
                fewer, [block.at(parts != part) for block in blocks.values()], y[parts != part], seed
            )[0]
            for part in range(parts.max() + 1)
        ]
    )
    errors = np.sqrt((len(without) - 1) * without.var(0))
    order = np.argsort(-shares, kind="stable")
    return Importance(tuple(list(blocks)[k] for k in order), shares[order], errors[order], r2, len(y))


def _shares(
    forest: Any, blocks: Sequence["_Block"], y: np.ndarray, seed: int
) -> tuple[np.ndarray, float]:
    """The share of each hyperparameter, and how much the forest explains."""
    if y.min() == y.max():
        return np.zeros(len(blocks)), 0.0
    x = np.concatenate([block.columns for block in blocks], axis=1)
    edges = np.cumsum([0, *(block.columns.shape[1] for block in blocks)])
    places = [slice(*pair) for pair in itertools.pairwise(edges)]
    forest.fit(x, y)
    rng = np.random.default_rng(seed)
    unseen, predicted = np.zeros(len(y)), np.zeros(len(y))
    rises = np.zeros((len(y), len(blocks)))  # the rise of the squared error, by point and hyperparameter
    for tree, rows in zip(forest.estimators_, forest.estimators_samples_):
        out = np.setdiff1d(np.arange(len(y)), rows)
        plain = tree.predict(x[out])
        unseen[out] += 1
        predicted[out] += plain
        for k, (block, place) in enumerate(zip(blocks, places)):
            permuted = x[out]
            present = np.flatnonzero(block.present[out])
            permuted[present, place] = permuted[rng.permutation(present), place]
            rises[out, k] += (y[out] - tree.predict(permuted)) ** 2 - (y[out] - plain) ** 2
    known = unseen > 0
    error = y[known] - predicted[known] / unseen[known]
    by_point = rises[known] / unseen[known, None]
    r2 = 1 - float(np.mean(error**2) / np.var(y[known])) if np.ptp(y[known]) else 0.0
    return by_point.mean(0) / (2 * y.var()), r2


def target(values: Sequence[float], sign: float) -> np.ndarray:
    """The values as the forest learns them: NaN as the worst, a loss over decades as its logarithm.

    >>> target([1.0, 0.01, np.nan], 1.0).tolist(), target([0.5, np.nan, 0.1], -1.0).tolist()
    ([0.0, -2.0, 0.0], [0.5, 0.1, 0.1])
    """
    y = with_worst(values, sign)
    return np.log10(y) if sign > 0 and decades(y.tolist()) else y


class _Block(NamedTuple):
    """A hyperparameter as columns: itself, its logarithm, or an indicator for each word."""

    columns: np.ndarray
    present: np.ndarray  # whether each point has the hyperparameter

    def at(self, rows: np.ndarray) -> "_Block":
        """The same for some of the points."""
        return _Block(self.columns[rows], self.present[rows])


def _blocks(points: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, _Block]:
    """The hyperparameters that differ between points that have them."""
    blocks = {}
    for name in names:
        present = np.array([name in point for point in points])
        values = [point[name] for point in points if name in point]
        if len(set(map(word, values))) > 1:
            blocks[name] = _Block(_columns(values, present), present)
    held = [frozenset(point) for point in points]
    everywhere = [name for name in blocks if blocks[name].present.all()]
    if len(set(held)) > 1 and not any(_tells([p[name] for p in points], held) for name in everywhere):
        every = np.ones(len(points), bool)
        blocks["which names"] = _Block(_indicators([str(sorted(keys)) for keys in held], every), every)
    return blocks


def _columns(values: list[Any], present: np.ndarray) -> np.ndarray:
    if not all(is_number(value) or value is None for value in values):
        return _indicators(in_words(values), present)
    numbers = np.array([np.nan if value is None else float(value) for value in values])
    known = numbers[np.isfinite(numbers)].tolist()
    if not known:
        return _indicators(in_words(values), present)
    numbers = np.log(numbers) if decades(known) and np.nanmin(numbers) > 0 else numbers
    numbers = np.clip(numbers, -_MOST, _MOST)
    # The median in place of missing values tells least of which are missing.
    column = np.full(len(present), np.nanmedian(numbers))
    column[present] = numbers
    return column[:, None]


def _indicators(texts: list[str], present: np.ndarray) -> np.ndarray:
    columns = np.zeros((len(present), len(set(texts))))
    columns[np.flatnonzero(present), np.unique(texts, return_inverse=True)[1]] = 1.0
    return columns


def _tells(values: list[Any], held: list[frozenset[str]]) -> bool:
    """Whether the values say which names a point has."""
    return len(set(zip(map(word, values), held))) == len(set(map(word, values)))


def check(trees: Any, seed: Any) -> None:
    """Refuse a number of trees or a seed that is out of range."""
    _checks.check_count("trees", trees, low=10)
    _checks.check_count("seed", seed, low=0)
    if seed >= 2**32:
        raise ValueError(f"seed must be less than 2**32, got {seed}")
