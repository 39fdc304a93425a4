"""How well scores put one class in front of the other: areas under the curves of their order."""

import jax
import jax.numpy as jnp

from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, ArrayLike, Bool, Float
from jaxdeep.metrics.histograms import of_histograms
from jaxdeep.metrics.inputs import flat, in_order, where, without_uncounted
from jaxdeep.metrics.streaming import Metric, countable, share


@remembered
def auc(bins: int = 200, *, from_logits: bool | None = None, ignore_class: int | None = None) -> Metric:
    """Area under the ROC curve, from histograms of the scores of both classes.

    The trapezoid rule over the bins; scores in one bin count as equal, so the error is at most half the
    share of pairs (one of each class) that fall into one bin. There are two kinds of bins:

    * `bins` that are even in ``z / (4 + |z|)`` for a logit z, so that the scores of a rare class, all
      of them near 0, do not fall into one;
    * if more than 2 % of the pairs share one of these, and if fewer do then, ``8 · bins`` at most that
      are even in z, between the least and the largest of all logits: those of any location and scale
      are told apart. Their width is the least power of two that is enough, and grows as logits come.

    So the error is below 0.01, unless most of the logits are in a part of some 1e-5 of their range that
    is far from 0 or smaller than 0.01: a few of them are a thousand times further apart than the others.
    It counts from the logits as float32 has them (float64 with x64 on), in steps of 0.06 at 1e6; NumPy
    numbers that this would take for one another are refused. NaN until both classes have been seen.
    `roc_auc_score` is exact, for scores that are all at hand.

    Args:
      bins: at least 2.
      from_logits: whether the outputs are logits or probabilities, as for `precision`.
      ignore_class: a label whose examples have weight 0, such as −1.

    Raises:
      ValueError, TypeError: outputs and labels that do not fit; fewer than 2 bins; known labels outside
        [0, 1] or NaN, known outputs that are no probabilities where they should be; NumPy outputs that
        differ by less than the default float tells apart; known weights that are negative or not finite.

    A score or a traced label that is NaN makes the area NaN. States are joined by `merge`; one that was
    added up leaf by leaf (`jax.lax.psum`) has the first kind of bins only.

    Source: Hanley & McNeil (1982); Keras' `AUC`, whose bins are even in the probability.

    >>> metric = auc()
    >>> scores, labels = jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])
    >>> float(metric.compute(metric.update(metric.init(), scores, labels)))
    0.75
    >>> metric = auc(from_logits=True)
    >>> logits = 1000 + 0.01 * scores
    >>> float(metric.compute(metric.update(metric.init(), logits, labels)))
    0.75
    """
    return of_histograms(bins, from_logits, ignore_class, _area_and_shared, 0.02)


@remembered
def average_precision(
    bins: int = 200, *, from_logits: bool | None = None, ignore_class: int | None = None
) -> Metric:
    """Average precision, from histograms of the scores of both classes: ``Σ (R_i − R_{i−1}) P_i``.

    P_i and R_i are precision and recall where what is in bin i or above it is called positive. This is
    the step rule, which goes by other names, too: area under the precision-recall curve, PR-AUC. Scores
    in one bin count as equal. There are the two kinds of bins of `auc`, of which the second is taken if
    the order within the bins of the first may make a difference of more than 0.01, and that within its
    own less. 0 if nothing is positive. `average_precision_score` is exact, for scores that are all at
    hand.

    The error has no bound, as the order of the highest scores decides: of logits with heavy tails, most
    of whose positives are in few bins of either kind, it may be 0.1 and more.

    Args:
      bins, from_logits, ignore_class: as for `auc`.

    Raises:
      ValueError, TypeError: as `auc`.

    A score or a traced label that is NaN makes the value NaN. States are joined by `merge`; one that was
    added up leaf by leaf (`jax.lax.psum`) has the first kind of bins only.

    Source: `sklearn.metrics.average_precision_score`. Keras' ``AUC(curve="PR")`` interpolates between
    200 thresholds of the probability, so that its values are others.

    >>> metric = average_precision()
    >>> scores, labels = jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])
    >>> round(float(metric.compute(metric.update(metric.init(), scores, labels))), 4)
    0.8333
    """
    return of_histograms(bins, from_logits, ignore_class, _steps_and_slack, 0.01)


@jax.jit
def _area_and_shared(positive: Array, negative: Array) -> tuple[Array, Array]:
    """The area, and the share of the pairs of both classes that are in one bin."""
    below = jnp.cumsum(negative) - negative
    won = positive * (below + negative / 2)
    # summed together, which is one program of a few kernels
    won, positives, negatives, shared = _sums(won, positive, negative, positive * negative)
    pairs = positives * negatives
    return won / pairs, shared / pairs


@jax.jit
def _steps_and_slack(positive: Array, negative: Array) -> tuple[Array, Array]:
    """Average precision, and how much more it would be with the positives of each bin in front."""
    # what is in a bin and above it
    true, false = jnp.cumsum(jnp.stack([positive, negative])[:, ::-1], axis=-1)[:, ::-1]
    parts = share(positive, jnp.sum(positive))
    precisions = share(true, true + false)
    in_front = share(true, true + (false - negative))
    precision, slack = _sums(parts * precisions, parts * (in_front - precisions))
    return precision, slack


def _sums(*columns: Array) -> Array:
    return jnp.sum(jnp.stack(columns), axis=-1)


def roc_auc_score(
    outputs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> Float[Array, ""]:
    """Area under the ROC curve, exactly: the share of pairs of both classes that are in the right order.

    Ties count one half. `auc` adds up batches.

    Args:
      outputs: scores of class 1, of any shape: logits or probabilities, as only their order counts.
      labels: of the same shape, but for axes of length 1: 0 and 1.
      weights: of the examples; 1 each by default. Rows of weight 0 make no difference, whatever they
        hold.

    Returns:
      A scalar; NaN if there is one class only, or a score or a traced label is NaN.

    Raises:
      ValueError, TypeError: shapes that do not fit, known labels outside [0, 1] or NaN, known weights
        that are negative or not finite.

    Source: `sklearn.metrics.roc_auc_score`; Hanley & McNeil (1982).

    >>> float(roc_auc_score(jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])))
    0.75
    """
    scores, positive, w, wrong = _in_rising_order(outputs, labels, weights)
    negatives = jnp.concatenate([jnp.zeros(1, w.dtype), jnp.cumsum(where(~positive, w))])
    places = (jnp.searchsorted(scores, scores, side=side) for side in ("left", "right"))
    below, upto = (negatives[place].astype(jnp.result_type(float)) for place in places)
    positives = where(positive, w)
    won = jnp.sum(positives * (below + upto) / 2)
    area = won / (jnp.sum(positives).astype(won.dtype) * negatives[-1])
    return area if wrong is None else jnp.where(wrong, jnp.nan, area)


def average_precision_score(
    outputs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> Float[Array, ""]:
    """Average precision, exactly: ``Σ (R_i − R_{i−1}) P_i`` over the distinct scores, falling.

    P_i and R_i are precision and recall where scores from the i-th on are called positive.
    `average_precision` adds up batches.

    Args:
      outputs, labels, weights: as for `roc_auc_score`.

    Returns:
      A scalar; 0 if nothing is positive, NaN if a score or a traced label is.

    Raises:
      ValueError, TypeError: as `roc_auc_score`.

    Source: `sklearn.metrics.average_precision_score`.

    >>> scores, labels = jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])
    >>> round(float(average_precision_score(scores, labels)), 4)
    0.8333
    """
    scores, positive, w, wrong = _in_rising_order(outputs, labels, weights)
    first = jnp.searchsorted(scores, scores, side="left")  # of the equal scores
    # what is called from each score on
    true, false = (jnp.cumsum(where(rows, w)[::-1])[::-1] for rows in (positive, ~positive))
    true, false = (sums.astype(jnp.result_type(float))[first] for sums in (true, false))
    positives = where(positive, w).astype(true.dtype)
    value = share(jnp.sum(positives * share(true, true + false)), jnp.sum(positives))
    return value if wrong is None else jnp.where(wrong, jnp.nan, value)


def _in_rising_order(
    outputs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None
) -> tuple[Array, Bool[Array, "n"], Array, Array | None]:
    """Scores, whether they belong to positives, and weights; whether a score or a label is NaN."""
    if weights is not None:
        outputs, labels, weights = without_uncounted(outputs, labels, weights)
    scores, positive, w, wrong = flat(in_order("outputs", outputs, axis=None), labels, weights)
    w = countable(jnp.ones(scores.shape, bool) if w is None else w)
    order = jnp.argsort(scores)
    return scores[order], positive[order], w[order], wrong
