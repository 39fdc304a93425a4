"""Calibration: whether predictions with 80 % confidence are right 80 % of the time.

Probabilities have the shape ``(…, classes)``. Alternatively, the shape ``(N,)`` or ``(N, 1)`` holds the
probability of class 1 of two classes. With ``from_logits=True`` they are logits instead. Labels are
classes as integers, of shape ``(…)`` or ``(…, 1)``, or probabilities of the shape of the former. A label
that is no class, or NaN, is refused; a traced one, which nobody can look at, makes the result NaN, as it
does with the losses. Because of these alternatives, shapes of arguments are checked by `flat` and not by
types.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, from_top, on_device
from jaxdeep._compilation import meant_nans
from jaxdeep._limits import largest, log_softmax, softmax, times_log
from jaxdeep._shapes import Array, ArrayLike, Bool, Float, Integer, Num, Shaped
from jaxdeep._sums import sums_at

Probabilities = Num[ArrayLike, "..."]
Labels = Num[ArrayLike, "..."]


class Reliability(NamedTuple):
    """A reliability diagram, with predictions in bins of confidence.

    Attributes:
      confidence: mean probability of the predicted class in each bin; NaN in empty bins.
      accuracy: share of the bin's predictions that are right; NaN in empty bins, and where a probability
        is NaN or a traced label is no class.
      count: number of predictions in each bin.
      edges: edges of the bins; a bin includes its upper edge.
    """

    confidence: Float[Array, "bins"]
    accuracy: Float[Array, "bins"]
    count: Float[Array, "bins"]  # type: ignore[assignment]  # a method of tuples
    edges: Float[Array, "bins+1"]


@meant_nans()
def reliability(
    probabilities: Probabilities,
    labels: Labels,
    *,
    bins: int = 15,
    strategy: str = "uniform",
    from_logits: bool = False,
) -> Reliability:
    """Confidence and accuracy of predictions in bins of confidence, which make a reliability diagram.

    The confidence of a prediction is the probability of the class it predicts, the most probable one.
    `jaxdeep.plotting.reliability` draws the diagram.

    Args:
      probabilities: ``(…, classes)``, as in ``Prediction.mean``, or of class 1 of two.
      labels: classes as integers, or one-hot.
      bins: number of bins.
      strategy: "uniform" for bins of the same width on [0, 1], "quantile" for bins that hold the same
        number of predictions.
      from_logits: whether `probabilities` are logits, of which softmax is taken, or σ of a single one.

    Raises:
      ValueError: shapes that do not fit, known probabilities outside [0, 1] or that do not sum to one,
        labels that are no class, fewer than 1 bin, another strategy.

    Source: Guo et al., "On Calibration of Modern Neural Networks" (arXiv:1706.04599); strategies of
    scikit-learn's `calibration_curve`.

    >>> p = jnp.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])
    >>> diagram = reliability(p, jnp.array([0, 1, 1, 0]), bins=2)
    >>> diagram.count.tolist(), diagram.accuracy.tolist(), round(float(diagram.confidence[1]), 2)
    ([0.0, 4.0], [nan, 0.75], 0.75)
    """
    bins = _checks.check_count("bins", bins)
    _checks.check_choice("strategy", strategy, ("uniform", "quantile"))
    p, y = classified(probabilities, labels, from_logits)
    return _reliability(p, y, bins=int(bins), strategy=strategy)


@meant_nans()
def expected_calibration_error(
    probabilities: Probabilities,
    labels: Labels,
    *,
    bins: int = 15,
    strategy: str = "uniform",
    from_logits: bool = False,
) -> Float[Array, ""]:
    """Mean distance of accuracy from confidence: ``Σ_b n_b / N · |accuracy_b − confidence_b|``.

    Args:
      probabilities, labels, bins, strategy, from_logits: as for `reliability`.

    Raises:
      ValueError: as `reliability`.

    Source: Naeini et al. (AAAI 2015); Guo et al. (arXiv:1706.04599), equation 3.

    >>> float(expected_calibration_error(jnp.array([[0.75, 0.25]] * 4), jnp.array([0, 0, 1, 1])))
    0.25
    """
    diagram = reliability(probabilities, labels, bins=bins, strategy=strategy, from_logits=from_logits)
    return jnp.sum(_gaps(diagram) * diagram.count) / jnp.sum(diagram.count)


@meant_nans()
def maximum_calibration_error(
    probabilities: Probabilities,
    labels: Labels,
    *,
    bins: int = 15,
    strategy: str = "uniform",
    from_logits: bool = False,
) -> Float[Array, ""]:
    """Largest distance of a bin's accuracy from its confidence: ``max_b |accuracy_b − confidence_b|``.

    Args:
      probabilities, labels, bins, strategy, from_logits: as for `reliability`.

    Raises:
      ValueError: as `reliability`.

    Source: Naeini et al. (AAAI 2015); Guo et al. (arXiv:1706.04599), equation 5.

    >>> float(maximum_calibration_error(jnp.array([[0.75, 0.25]] * 4), jnp.array([0, 0, 1, 1])))
    0.25
    """
    diagram = reliability(probabilities, labels, bins=bins, strategy=strategy, from_logits=from_logits)
    return largest(_gaps(diagram), -1)


def negative_log_likelihood(
    probabilities: Probabilities, labels: Labels, *, from_logits: bool = False
) -> Float[Array, ""]:
    """Mean of ``−Σ_c y_c log p_c``; infinite if a true class had probability 0.

    Logits lose less to rounding: a probability below the smallest float is 0.

    Args:
      probabilities: ``(…, classes)``, as in ``Prediction.mean``, or of class 1 of two.
      labels: classes as integers, or probabilities.
      from_logits: whether `probabilities` are logits, of which softmax is taken, or σ of a single one.

    Raises:
      ValueError: shapes that do not fit, known probabilities (or those of labels) outside [0, 1] or that
        do not sum to one, labels that are no class.

    Source: scikit-learn's `log_loss`.

    >>> p = jnp.array([[0.5, 0.5], [0.25, 0.75]])
    >>> round(float(negative_log_likelihood(p, jnp.array([0, 1]))), 4)
    0.4904
    """
    _checks.check_flag("from_logits", from_logits)
    if from_logits:
        z, y = _as_targets(*_logits(probabilities, labels))
        # what cannot be has no part, even if its logarithm is −∞
        return -jnp.mean(jnp.sum(jnp.where(y == 0, 0, y * log_softmax(z)), axis=-1))
    p, y = targets(probabilities, labels, from_logits)
    return -jnp.mean(jnp.sum(times_log(y, p), axis=-1))


def brier_score(
    probabilities: Probabilities, labels: Labels, *, from_logits: bool = False
) -> Float[Array, ""]:
    """Mean of ``Σ_c (p_c − y_c)²``, between 0 and 2.

    For two classes it is twice what scikit-learn's `brier_score_loss` gives by default.

    Args:
      probabilities, labels, from_logits: as for `negative_log_likelihood`.

    Raises:
      ValueError: as `negative_log_likelihood`.

    Source: Brier, "Verification of forecasts expressed in terms of probability" (1950).

    >>> float(brier_score(jnp.array([[0.5, 0.5], [0.25, 0.75]]), jnp.array([0, 1])))
    0.3125
    """
    p, y = targets(probabilities, labels, from_logits)
    return jnp.mean(jnp.sum((p - y) ** 2, axis=-1))


@functools.partial(jax.jit, static_argnames=("bins", "strategy"))
def _reliability(
    p: Float[Array, "rows classes"], labels: Integer[Array, "rows"], *, bins: int, strategy: str
) -> Reliability:
    confidence, right = largest(p, -1), jnp.argmax(p, axis=-1) == labels
    # each is the number that k/bins is, which sums and products of float32 may miss
    edges = jnp.asarray(np.arange(bins + 1) / bins, p.dtype)
    if strategy == "quantile":
        edges = jnp.quantile(confidence, edges)
    place = jnp.clip(jnp.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)

    def number(where: Bool[Array, "rows"]) -> Float[Array, "bins"]:
        return jax.ops.segment_sum(where.astype(jnp.int32), place, bins).astype(p.dtype)

    count = number(jnp.ones_like(right))
    known = jnp.where(count > 0, count, jnp.nan)
    judged = jnp.where(number(unjudged(p, labels)) > 0, jnp.nan, number(right))
    return Reliability(sums_at(confidence, place, bins) / known, judged / known, count, edges)


def unjudged(p: Float[Array, "rows classes"], labels: Integer[Array, "rows"]) -> Bool[Array, "rows"]:
    """Which rows are neither right nor wrong: of NaN, or with a (traced) label that is no class."""
    return jnp.isnan(p).any(axis=-1) | (labels < 0) | (labels >= p.shape[-1])


def _gaps(diagram: Reliability) -> Float[Array, "bins"]:
    """The distances of accuracy from confidence, 0 for bins without predictions."""
    return jnp.where(diagram.count > 0, jnp.abs(diagram.accuracy - diagram.confidence), 0)


def classified(
    probabilities: Probabilities, labels: Labels, from_logits: bool = False
) -> tuple[Float[Array, "rows classes"], Integer[Array, "rows"]]:
    """Probabilities and labels as classes."""
    p, y, _ = _pair(probabilities, labels, from_logits)
    if y.ndim == 1:
        return p, y
    return p, jnp.where(jnp.isnan(y).any(axis=-1), -1, jnp.argmax(y, axis=-1))


def targets(
    probabilities: Probabilities, labels: Labels, from_logits: bool = False
) -> tuple[Float[Array, "rows classes"], Float[Array, "rows classes"]]:
    """Predicted and true probabilities."""
    return _as_targets(*_pair(probabilities, labels, from_logits))


def _as_targets(
    p: Float[Array, "rows classes"], y: Shaped[Array, "rows ..."], classes: int
) -> tuple[Float[Array, "rows classes"], Float[Array, "rows classes"]]:
    return p, one_hot(y, classes, p.dtype) if y.ndim == 1 else y.astype(p.dtype)


def one_hot(y: Integer[Array, "rows"], classes: int, dtype: Any) -> Float[Array, "rows classes"]:
    """Labels as probabilities; NaN for one that is no class, which only a traced one may be."""
    known = (y >= 0) & (y < classes)
    return jnp.where(known[:, None], jax.nn.one_hot(y, classes, dtype=dtype), jnp.nan)


def _pair(
    probabilities: Probabilities, labels: Labels, from_logits: bool
) -> tuple[Float[Array, "rows classes"], Shaped[Array, "rows ..."], int]:
    _checks.check_flag("from_logits", from_logits)
    if from_logits:
        z, y, classes = _logits(probabilities, labels)
        return softmax(z), y, classes
    probabilities = as_array("probabilities", probabilities)
    if not isinstance(probabilities, jax.core.Tracer):
        _check_probabilities(np.asarray(probabilities))
    return flat("probabilities", probabilities, labels, lambda p: jnp.concatenate([1 - p, p], axis=-1))


def _logits(
    logits: Num[ArrayLike, "..."], labels: Labels
) -> tuple[Float[Array, "rows classes"], Shaped[Array, "rows ..."], int]:
    return flat("logits", logits, labels, lambda z: jnp.concatenate([jnp.zeros_like(z), z], axis=-1))


def _check_probabilities(probabilities: np.ndarray) -> None:
    """Refuse numbers that are no probabilities of classes."""
    known = np.asarray(probabilities, np.float64)
    if known.size == 0:
        raise ValueError(f"there are no probabilities, got shape {known.shape}")
    if known.min() < 0 or known.max() > 1 + 1e-2:  # bfloat16 may round 1 up
        raise ValueError(
            f"probabilities must be in [0, 1], got values from {known.min():g} to "
            f"{known.max():g}; say from_logits=True of logits"
        )
    if known.ndim < 2 or known.shape[-1] == 1:
        return
    wrong = _checks.wrong_sums(probabilities)
    if wrong.size:
        raise ValueError(
            f"probabilities must sum to 1 over the classes (the last axis), got a sum of "
            f"{wrong.flat[0]:.6g}; say from_logits=True of logits, and take the labels that are not "
            "exclusive one by one"
        )


def flat(
    name: str,
    outputs: Num[ArrayLike, "..."],
    labels: Labels,
    both: Callable[[Float[Array, "rows 1"]], Float[Array, "rows 2"]],
) -> tuple[Float[Array, "rows classes"], Shaped[Array, "rows ..."], int]:
    """Outputs ``(N, classes)`` in float32 or more, labels ``(N,)`` or ``(N, classes)``, and classes.

    Outputs are probabilities or logits, as `name` says. ``both(output)`` makes the outputs ``(N, 2)`` of
    two classes from the output ``(N, 1)`` of class 1. Classes as integers may have a last axis of 1.
    """
    array = as_array(name, outputs)
    of_classes = name == "logits" and array.ndim > 1 and array.shape[-1] > 1
    outputs = on_device(name, from_top(name, array) if of_classes else array)
    outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
    y = as_array("labels", labels)
    if outputs.ndim == 0:
        raise ValueError(f"{name} need an axis of classes, got a scalar")
    if outputs.size == 0:
        raise ValueError(f"there are no {name}, got shape {outputs.shape}")
    if outputs.ndim == 1 or outputs.shape[-1] == 1:
        outputs = outputs.reshape(-1, 1)
        if y.size != len(outputs):
            raise ValueError(
                f"one label is needed for each of {len(outputs)} {name}, got labels of {y.shape}"
            )
        outputs, y = both(outputs), y.reshape(-1)
        if not jnp.issubdtype(y.dtype, jnp.integer):
            _checks.check_numbers("labels", y)
            _checks.check_known("labels", y, 0, 1)
            return outputs, jnp.stack([1 - jnp.asarray(y), jnp.asarray(y)], axis=-1), 2
    classes = outputs.shape[-1]
    if y.shape == outputs.shape:
        _checks.check_distributions("labels", y)
        _checks.check_numbers("labels", y)
        return outputs.reshape(-1, classes), jnp.asarray(y).reshape(-1, classes), classes
    return outputs.reshape(-1, classes), _checks.classes_of(outputs, y).reshape(-1), classes
