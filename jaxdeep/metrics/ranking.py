"""The area under the ROC curve: how well scores put one class in front of the other."""

from typing import Any

import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import Array, ArrayLike, Float
from jaxdeep.metrics.inputs import check_probabilities, flat, in_order, where, without_uncounted
from jaxdeep.metrics.streaming import Found, Metric, countable, marked, of_sums, scattered, told


def auc(bins: int = 200, *, from_logits: bool | None = None) -> Metric:
    """Area under the ROC curve, from histograms of the scores of both classes.

    The trapezoid rule over `bins` thresholds; scores in one bin count as equal, so the error is at most
    half the share of pairs that fall into one bin. The bins are even in ``z / (4 + |z|)`` for a logit z,
    so that the scores of a rare class, all of them near 0, do not fall into one. NaN until both classes
    have been seen. `roc_auc_score` is exact, for scores that are all at hand.

    Args:
      bins: at least 2.
      from_logits: whether the outputs are logits or probabilities, as for `precision`.

    Raises:
      ValueError, TypeError: outputs and labels that do not fit; fewer than 2 bins; known labels outside
        [0, 1] or NaN, known outputs that are no probabilities where they should be; known weights that
        are negative or not finite.

    A score or a traced label that is NaN makes the area NaN.

    Source: Hanley & McNeil (1982); Keras' `AUC`, whose bins are even in the probability.

    >>> metric = auc()
    >>> scores, labels = jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])
    >>> float(metric.compute(metric.update(metric.init(), scores, labels)))
    0.75
    """
    bins = _checks.check_count("bins", bins, low=2)

    def of(from_logits: bool | None) -> Metric:
        def counts(outputs: Any, y: Any, weights: Any) -> Found:
            scores, positive, w, wrong = flat(outputs, y, weights)
            wide = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
            if not from_logits:
                check_probabilities(scores)
            logits = wide if from_logits else jnp.log(wide) - jnp.log1p(-wide)
            place = jnp.sign(logits) * (1 - 4 / (4 + jnp.abs(logits)))
            place = jnp.clip(((place + 1) / 2 * bins).astype(jnp.int32), 0, bins - 1)
            found = {
                "positive": scattered(place, where(positive, w), bins),
                "negative": scattered(place, where(~positive, w), bins),
            }
            return marked(found, wrong)  # NaN has no place in the order

        return of_sums({"positive": (bins,), "negative": (bins,)}, counts, compute)

    def compute(state: dict[str, Any]) -> Any:
        positive, negative = state["positive"], state["negative"]
        below = jnp.cumsum(negative) - negative
        won = jnp.sum(positive * (below + negative / 2))
        return won / (jnp.sum(positive) * jnp.sum(negative))

    return told(of, from_logits)


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
    if weights is not None:
        outputs, labels, weights = without_uncounted(outputs, labels, weights)
    scores, positive, w, wrong = flat(in_order("outputs", outputs, axis=None), labels, weights)
    w = countable(jnp.ones(scores.shape, bool) if w is None else w)
    order = jnp.argsort(scores)
    scores, positive, w = scores[order], positive[order], w[order]
    negatives = jnp.concatenate([jnp.zeros(1, w.dtype), jnp.cumsum(where(~positive, w))])
    places = (jnp.searchsorted(scores, scores, side=side) for side in ("left", "right"))
    below, upto = (negatives[place].astype(jnp.result_type(float)) for place in places)
    positives = where(positive, w)
    won = jnp.sum(positives * (below + upto) / 2)
    area = won / (jnp.sum(positives).astype(won.dtype) * negatives[-1])
    return area if wrong is None else jnp.where(wrong, jnp.nan, area)
