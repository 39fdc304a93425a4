"""Streaming metrics of the agreement of predictions with labels, beyond what chance gives."""

import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._arrays import broadcasting
from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, ArrayLike, Float
from jaxdeep.metrics.counts import of_matrix
from jaxdeep.metrics.streaming import Metric


@remembered
def cohen_kappa(
    classes: int = 2,
    *,
    weights: str | None = None,
    threshold: ArrayLike = 0.5,
    from_logits: bool | None = None,
    ignore_class: int | None = None,
) -> Metric:
    """Cohen's κ: ``1 − Σ d O / Σ d E``, of the confusion matrix O and the one that chance would give.

    ``E[i, j]`` is the number of labels i times the share of predictions j. κ is 1 for perfect agreement
    and 0 for that of chance.

    Args:
      classes: their number, at least 2; outputs and labels as for `confusion_matrix`.
      weights: the distance d of classes i and j: None for 1 of each two, "linear" for ``|i − j|``,
        "quadratic" for ``(i − j)²``, of classes that are in an order.
      threshold, from_logits, ignore_class: as for `confusion_matrix`.

    Returns:
      A streaming `Metric`; NaN where it is not defined: without examples, and if all labels and all
      predictions are of one class.

    Raises:
      ValueError, TypeError: as `confusion_matrix`; other weights.

    An output that is NaN makes the value NaN, and so does a traced label that is NaN or no class.

    Source: Cohen (1960); `sklearn.metrics.cohen_kappa_score`.

    >>> metric = cohen_kappa(from_logits=False)
    >>> outputs, labels = jnp.array([0.9, 0.8, 0.3, 0.1]), jnp.array([1, 0, 0, 0])
    >>> float(metric.compute(metric.update(metric.init(), outputs, labels)))
    0.5
    """
    _checks.check_choice("weights", weights, (None, "linear", "quadratic"))

    @broadcasting
    def compute(matrix: Float[Array, "classes classes"]) -> Array:
        apart = jnp.abs(jnp.arange(len(matrix))[:, None] - jnp.arange(len(matrix)))
        powers = {None: 0, "linear": 1, "quadratic": 2}
        distance = jnp.where(apart == 0, 0, apart.astype(matrix.dtype) ** powers[weights])
        shares = matrix / jnp.sum(matrix)
        chance = jnp.sum(shares, axis=1)[:, None] * jnp.sum(shares, axis=0)
        expected = jnp.sum(distance * chance)
        return jnp.where(expected == 0, jnp.nan, 1 - jnp.sum(distance * shares) / expected)

    return of_matrix(
        "cohen_kappa",
        classes,
        compute,
        threshold=threshold,
        from_logits=from_logits,
        ignore_class=ignore_class,
    )


@remembered
def matthews_corrcoef(
    classes: int = 2,
    *,
    threshold: ArrayLike = 0.5,
    from_logits: bool | None = None,
    ignore_class: int | None = None,
) -> Metric:
    """Matthews' correlation coefficient of labels and predictions, between −1 and 1.

    With s examples, of which c are right, t_k are of class k and p_k are called k, it is
    ``(c s − Σ t_k p_k) / √((s² − Σ p_k²)(s² − Σ t_k²))``, and 0 where that is 0 / 0. It is computed
    from sums of products of counts, none of which cancel or overflow: rare classes keep their digits.

    Args:
      classes: their number, at least 2; outputs and labels as for `confusion_matrix`.
      threshold, from_logits, ignore_class: as for `confusion_matrix`.

    Returns:
      A streaming `Metric`.

    Raises:
      ValueError, TypeError: as `confusion_matrix`.

    An output that is NaN makes the value NaN, and so does a traced label that is NaN or no class.

    Source: Matthews (1975), Gorodkin (2004); `sklearn.metrics.matthews_corrcoef`.

    >>> metric = matthews_corrcoef(from_logits=False)
    >>> outputs, labels = jnp.array([0.9, 0.8, 0.3, 0.1]), jnp.array([1, 0, 0, 0])
    >>> round(float(metric.compute(metric.update(metric.init(), outputs, labels))), 3)
    0.577
    """
    return of_matrix(
        "matthews_corrcoef",
        classes,
        _correlation,
        threshold=threshold,
        from_logits=from_logits,
        ignore_class=ignore_class,
    )


def _correlation(matrix: Float[Array, "classes classes"]) -> Array:
    """Of each class ``TP TN − FP FN``, whose sum is ``c s − Σ t p``, from sums without differences."""
    size = jnp.sum(matrix)
    shares = matrix / jnp.where(size == 0, 1, size)
    diagonal = jnp.eye(len(matrix), dtype=bool)
    outside = jnp.where(diagonal, 0, shares)
    missed, false = jnp.sum(outside, axis=1), jnp.sum(outside, axis=0)
    true, called = jnp.sum(shares, axis=1), jnp.sum(shares, axis=0)
    # label and prediction are others
    neither = jnp.sum(jnp.where(diagonal, 0, _all_but_one(shares)), axis=0)
    covariance = jnp.sum(jnp.diagonal(shares) * neither - missed * false)
    of_labels, of_calls = (jnp.sum(part * _all_but_one(part[None])[0]) for part in (true, called))
    spread = jnp.sqrt(of_labels * of_calls)
    value = jnp.clip(covariance / jnp.where(spread == 0, 1, spread), -1, 1)  # but for rounding
    return jnp.where(spread == 0, 0, value)


def _all_but_one(rows: Float[Array, "rows classes"]) -> Float[Array, "rows classes"]:
    """For each element the sum of the others in its row, without taking it off again."""
    before = jnp.cumsum(rows, axis=1)
    after = jnp.cumsum(rows[:, ::-1], axis=1)[:, ::-1]
    nothing = jnp.zeros_like(rows[:, :1])
    return jnp.concatenate([nothing, before[:, :-1]], 1) + jnp.concatenate([after[:, 1:], nothing], 1)
