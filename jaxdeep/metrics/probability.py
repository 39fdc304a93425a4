"""Streaming metrics of predicted probabilities."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks, _ignored
from jaxdeep._arrays import as_array, from_top, on_device
from jaxdeep._calls import remembered
from jaxdeep._limits import log_softmax, softmax, times_log
from jaxdeep._shapes import Array, Float
from jaxdeep.metrics.counts import is_single
from jaxdeep.metrics.inputs import check_probabilities, class_labels
from jaxdeep.metrics.streaming import AVERAGED, Found, Metric, average, averaged, of_sums, told


@remembered
def log_loss(*, from_logits: bool | None = None, ignore_class: int | None = None) -> Metric:
    """Mean of ``−Σ_c y_c log p_c``, the negative log-likelihood of an example.

    Probabilities are raised to at least ε and lowered to at most 1 − ε, with ε the rounding of the
    default float (1.2e-7; 2.2e-16 with x64 on), so that no example costs more than 16. Logits need no
    such bounds, and have none: one of ∞ is certain, and costs 0 if it is right and ∞ if it is wrong.

    Args:
      from_logits: whether the outputs are logits, of which softmax is taken (σ of a single one), or
        probabilities, as for `precision`.
      ignore_class: a label whose examples have weight 0, such as −1 or 255.

    Returns:
      A streaming `Metric` of outputs ``(…, classes)`` and labels that are integers or probabilities, or
      of single outputs ``(n,)`` or ``(…, 1)`` for class 1 of two and labels 0 and 1, or between.

    Raises:
      ValueError, TypeError: outputs and labels that do not fit; known labels that are no class, or NaN,
        known outputs that are no probabilities where they should be; known weights that are negative or
        not finite.

    An output that is NaN makes the value NaN, and so does a traced label that is NaN or no class.

    Source: `sklearn.metrics.log_loss`.

    >>> metric = log_loss()
    >>> p = jnp.array([[0.9, 0.1], [0.5, 0.5]])
    >>> round(float(metric.compute(metric.update(metric.init(), p, jnp.array([0, 1])))), 4)
    0.3993
    """
    _ignored.check(ignore_class)

    def of(from_logits: bool | None) -> Metric:
        def counts(outputs: Any, y: Any, weights: Any) -> Found:
            scores, labels, single = _classified(outputs, y, from_logits)
            if from_logits and single:
                yes, no = jax.nn.log_sigmoid(scores), jax.nn.log_sigmoid(-scores)
                # what cannot be has no part, even if its logarithm is −∞
                parts = labels * jnp.where(labels == 0, 0, yes)
                values = -parts - (1 - labels) * jnp.where(labels == 1, 0, no)
            elif from_logits:
                log_p = log_softmax(scores)
                values = -jnp.sum(jnp.where(labels == 0, 0, labels * log_p), axis=-1)
            else:
                eps = jnp.finfo(scores.dtype).eps
                p = jnp.clip(scores, eps, 1 - eps)
                values = -times_log(labels, p)
                values = values - times_log(1 - labels, 1 - p) if single else jnp.sum(values, axis=-1)
            if not single:  # also among classes that have no part
                values = jnp.where(jnp.isnan(scores).any(axis=-1), jnp.nan, values)
            return averaged(values, weights)

        return of_sums(AVERAGED, counts, average, ignore_class=ignore_class, exclusive=True)

    return told(of, from_logits)


@remembered
def brier(
    *,
    scale_by_half: bool | str = "auto",
    from_logits: bool | None = None,
    ignore_class: int | None = None,
) -> Metric:
    """Mean of ``Σ_c (p_c − y_c)²``, the squared error of predicted probabilities.

    Args:
      scale_by_half: whether to halve it, so that it is between 0 and 1, and for two classes
        ``(p − y)²`` of class 1; "auto" for two classes only.
      from_logits, ignore_class: as for `log_loss`.

    Returns:
      A streaming `Metric`; outputs and labels are as for `log_loss`.

    Raises:
      ValueError, TypeError: as `log_loss`; another `scale_by_half`.

    An output that is NaN makes the value NaN, and so does a traced label that is NaN or no class.

    Source: Brier (1950); `sklearn.metrics.brier_score_loss`. `jaxdeep.uncertainty.brier_score` is of one
    array, and never halved.

    >>> metric = brier()
    >>> state = metric.update(metric.init(), jnp.array([0.5, 0.75]), jnp.array([0, 1]))
    >>> float(metric.compute(state))
    0.15625
    """
    if not isinstance(scale_by_half, (bool, np.bool_)) and scale_by_half != "auto":
        raise ValueError(f"scale_by_half must be True, False or 'auto', got {scale_by_half!r}")
    _ignored.check(ignore_class)

    def of(from_logits: bool | None) -> Metric:
        def counts(outputs: Any, y: Any, weights: Any) -> Found:
            scores, labels, single = _classified(outputs, y, from_logits)
            if single:
                p = jax.nn.sigmoid(scores) if from_logits else scores
                values, half = 2 * jnp.square(p - labels), True
            else:
                p = softmax(scores) if from_logits else scores
                values, half = jnp.sum(jnp.square(p - labels), axis=-1), scores.shape[-1] < 3
            halved = half if scale_by_half == "auto" else scale_by_half
            return averaged(values / 2 if halved else values, weights)

        return of_sums(AVERAGED, counts, average, ignore_class=ignore_class, exclusive=True)

    return told(of, from_logits)


def _classified(
    outputs: Any, y: Any, from_logits: bool | None
) -> tuple[Float[Array, "..."], Float[Array, "..."], bool]:
    """Outputs in at least float32, labels as probabilities of that shape; whether they are single."""
    array, labels = as_array("outputs", outputs), as_array("labels", y)
    single = is_single(array, labels)
    scores = on_device("outputs", from_top("outputs", array) if from_logits and not single else array)
    if not from_logits:
        check_probabilities(scores, exclusive=not single)
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    if single:
        if not _checks.same_but_for_one(labels.shape, scores.shape):
            raise ValueError(
                f"a single output needs one label each, got outputs of shape {scores.shape} and labels "
                f"of {labels.shape}"
            )
        _checks.check_known("labels", labels, 0, 1)
        _checks.check_numbers("labels", labels)
        shape = scores.shape[:-1] if scores.ndim > 1 else scores.shape
        return scores.reshape(shape), jnp.asarray(labels, scores.dtype).reshape(shape), True
    if labels.shape == scores.shape:
        class_labels(scores, labels)  # refuses what are no probabilities
        return scores, jnp.asarray(labels, scores.dtype), False
    classes = class_labels(scores, labels)
    known = (classes >= 0) & (classes < scores.shape[-1])
    one_hot = jax.nn.one_hot(classes, scores.shape[-1], dtype=scores.dtype)
    return scores, jnp.where(known[..., None], one_hot, jnp.nan), False
