"""Whether predictions that are 80 % sure are right 80 % of the time.

Probabilities have the shape ``(…, classes)``; a single one, of shape ``(N,)`` or ``(N, 1)``, is that of
class 1 of two. Labels are classes as whole numbers, or probabilities of the shape of the former.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks


class Reliability(NamedTuple):
    """A reliability diagram: predictions by their confidence. NaN for bins without any.

    Attributes:
      confidence: mean probability of the predicted class, ``(bins,)``.
      accuracy: share that is right, ``(bins,)``.
      count: predictions, ``(bins,)``.
      edges: of the bins, which include their upper one, ``(bins + 1,)``.
    """

    confidence: Any
    accuracy: Any
    count: Any
    edges: Any


def reliability(
    probabilities: Any, labels: Any, *, bins: int = 15, strategy: str = "uniform"
) -> Reliability:
    """Confidence and accuracy of predictions in bins of confidence: the data of a reliability diagram.

    The confidence of a prediction is the probability of the class it predicts, the most probable one.
    `jaxdeep.plotting.reliability` draws it.

    Args:
      probabilities: ``(…, classes)``, as in ``Prediction.mean``, or of one of two classes.
      labels: classes as whole numbers, or one-hot.
      bins: how many.
      strategy: "uniform" for bins of the same width on [0, 1], "quantile" for bins that hold the same
        number of predictions.

    Raises:
      ValueError: shapes that do not fit, known values outside [0, 1], labels that are no class, fewer
        than 1 bin, another strategy.

    Source: Guo et al., "On Calibration of Modern Neural Networks" (arXiv:1706.04599); strategies of
    scikit-learn's `calibration_curve`.

    >>> p = jnp.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])
    >>> found = reliability(p, jnp.array([0, 1, 1, 0]), bins=2)
    >>> found.count.tolist(), found.accuracy.tolist(), round(float(found.confidence[1]), 2)
    ([0.0, 4.0], [nan, 0.75], 0.75)
    """
    _checks.check_count("bins", bins)
    if strategy not in ("uniform", "quantile"):
        raise ValueError(f"strategy must be 'uniform' or 'quantile', got {strategy!r}")
    p, y = classified(probabilities, labels)
    return _reliability(p, y, bins=int(bins), strategy=strategy)


def expected_calibration_error(
    probabilities: Any, labels: Any, *, bins: int = 15, strategy: str = "uniform"
) -> Any:
    """Mean distance of accuracy from confidence: ``Σ_b n_b / N · |accuracy_b − confidence_b|``.

    Args:
      probabilities, labels, bins, strategy: as for `reliability`.

    Raises:
      ValueError: as `reliability`.

    Source: Naeini et al. (AAAI 2015); Guo et al. (arXiv:1706.04599), equation 3.

    >>> float(expected_calibration_error(jnp.array([[0.75, 0.25]] * 4), jnp.array([0, 0, 1, 1])))
    0.25
    """
    found = reliability(probabilities, labels, bins=bins, strategy=strategy)
    return jnp.sum(_gaps(found) * found.count) / jnp.sum(found.count)


def maximum_calibration_error(
    probabilities: Any, labels: Any, *, bins: int = 15, strategy: str = "uniform"
) -> Any:
    """Largest distance of accuracy from confidence of a bin: ``max_b |accuracy_b − confidence_b|``.

    Args:
      probabilities, labels, bins, strategy: as for `reliability`.

    Raises:
      ValueError: as `reliability`.

    Source: Naeini et al. (AAAI 2015); Guo et al. (arXiv:1706.04599), equation 5.

    >>> float(maximum_calibration_error(jnp.array([[0.75, 0.25]] * 4), jnp.array([0, 0, 1, 1])))
    0.25
    """
    return jnp.max(_gaps(reliability(probabilities, labels, bins=bins, strategy=strategy)))


def negative_log_likelihood(probabilities: Any, labels: Any) -> Any:
    """Mean of ``−Σ_c y_c log p_c``; infinite where what happened had probability 0.

    For logits that is the mean of `jaxdeep.losses.softmax_cross_entropy`, which is more precise.

    Args:
      probabilities: ``(…, classes)``, as in ``Prediction.mean``, or of one of two classes.
      labels: classes as whole numbers, or probabilities.

    Raises:
      ValueError: shapes that do not fit, known values outside [0, 1], labels that are no class.

    Source: scikit-learn's `log_loss`.

    >>> p = jnp.array([[0.5, 0.5], [0.25, 0.75]])
    >>> round(float(negative_log_likelihood(p, jnp.array([0, 1]))), 4)
    0.4904
    """
    p, y = targets(probabilities, labels)
    return -jnp.mean(jnp.sum(jax.scipy.special.xlogy(y, p), axis=-1))


def brier_score(probabilities: Any, labels: Any) -> Any:
    """Mean of ``Σ_c (p_c − y_c)²``, between 0 and 2.

    For two classes it is twice what scikit-learn's `brier_score_loss` gives by default.

    Args:
      probabilities, labels: as for `negative_log_likelihood`.

    Raises:
      ValueError: as `negative_log_likelihood`.

    Source: Brier, "Verification of forecasts expressed in terms of probability" (1950).

    >>> float(brier_score(jnp.array([[0.5, 0.5], [0.25, 0.75]]), jnp.array([0, 1])))
    0.3125
    """
    p, y = targets(probabilities, labels)
    return jnp.mean(jnp.sum((p - y) ** 2, axis=-1))


@functools.partial(jax.jit, static_argnames=("bins", "strategy"))
def _reliability(p: Any, labels: Any, *, bins: int, strategy: str) -> Reliability:
    confidence, right = jnp.max(p, axis=-1), (jnp.argmax(p, axis=-1) == labels).astype(p.dtype)
    edges = jnp.linspace(0, 1, bins + 1, dtype=p.dtype)
    if strategy == "quantile":
        edges = jnp.quantile(confidence, edges)
    place = jnp.clip(jnp.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)

    def total(values: Any) -> Any:
        return jax.ops.segment_sum(values, place, bins)

    count = total(jnp.ones_like(confidence))
    known = jnp.where(count > 0, count, jnp.nan)
    return Reliability(total(confidence) / known, total(right) / known, count, edges)


def _gaps(found: Reliability) -> Any:
    """Distances of accuracy from confidence, 0 for bins without predictions."""
    return jnp.where(found.count > 0, jnp.abs(found.accuracy - found.confidence), 0)


def classified(probabilities: Any, labels: Any) -> tuple[Any, Any]:
    """Probabilities ``(N, classes)`` and labels ``(N,)``."""
    p, y, _ = _pair(probabilities, labels)
    return p, y if y.ndim == 1 else jnp.argmax(y, axis=-1)


def targets(probabilities: Any, labels: Any) -> tuple[Any, Any]:
    """Probabilities ``(N, classes)`` predicted and true."""
    p, y, classes = _pair(probabilities, labels)
    return p, jax.nn.one_hot(y, classes, dtype=p.dtype) if y.ndim == 1 else y.astype(p.dtype)


def _pair(probabilities: Any, labels: Any) -> tuple[Any, Any, int]:
    if not isinstance(probabilities, jax.core.Tracer):
        known = np.asarray(probabilities, np.float64)
        if known.size == 0:
            raise ValueError(f"there are no probabilities, got shape {known.shape}")
        if known.min() < 0 or known.max() > 1 + 1e-2:  # as far as bfloat16 rounds
            raise ValueError(
                f"probabilities must be in [0, 1], got values from {known.min():g} to "
                f"{known.max():g}; of logits take jax.nn.softmax"
            )
    return flat(probabilities, labels, lambda p: jnp.concatenate([1 - p, p], axis=-1))


def flat(outputs: Any, labels: Any, both: Any) -> tuple[Any, Any, int]:
    """Outputs ``(N, classes)`` in float32 or more, labels ``(N,)`` or ``(N, classes)``, and classes.

    ``both(output)`` makes those of two classes of one.
    """
    outputs = jnp.asarray(outputs)
    outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
    labels = labels if hasattr(labels, "dtype") else np.asarray(labels)
    if outputs.ndim == 0:
        raise ValueError("probabilities or logits need an axis of classes, got a scalar")
    if outputs.ndim == 1 or outputs.shape[-1] == 1:
        outputs = outputs.reshape(-1, 1)
        if np.size(labels) != len(outputs):
            raise ValueError(f"one label is needed for each of {len(outputs)}, got {np.shape(labels)}")
        outputs, labels = both(outputs), labels.reshape(-1)
        if not jnp.issubdtype(labels.dtype, jnp.integer):
            return outputs, jnp.stack([1 - jnp.asarray(labels), jnp.asarray(labels)], axis=-1), 2
    classes = outputs.shape[-1]
    if np.shape(labels) == outputs.shape:
        return outputs.reshape(-1, classes), jnp.asarray(labels).reshape(-1, classes), classes
    _checks.check_classes(outputs, labels)
    return outputs.reshape(-1, classes), jnp.asarray(labels).reshape(-1), classes
