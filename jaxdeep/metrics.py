"""Metrics: functions of one value per example, and streaming metrics of sums.

`accuracy` and `top_k_accuracy` are functions ``(outputs, y) -> values``, whose values are averaged over
examples. Any loss can be used as such a metric, too. A metric that is no average over examples, as a
precision is not the mean of the batches' precisions, is a `Metric`: four pure functions over a pytree of
sums. Both kinds go into ``supervised(…, metrics=…)``.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdeep import _checks

__all__ = [
    "Metric",
    "Tally",
    "accuracy",
    "auc",
    "confusion_matrix",
    "f1",
    "mean",
    "precision",
    "recall",
    "top_k_accuracy",
]


def __dir__() -> list[str]:
    return __all__


PyTree = Any


class Metric(NamedTuple):
    """A streaming metric: pure functions over a state that is a pytree of arrays.

    Attributes:
      init: ``() -> state`` of no examples.
      update: ``(state, outputs, y, weights=None) -> state`` with a batch added.
      merge: ``(state, state) -> state``, as of both sets of examples; associative, so that it joins
        batches, devices and runs in any order.
      compute: ``state -> value``; a scalar or an array.

    >>> metric = precision()
    >>> state = metric.update(metric.init(), jnp.array([0.9, 0.8, 0.1]), jnp.array([1, 0, 1]))
    >>> float(metric.compute(state))
    0.5
    """

    init: Callable[[], PyTree]
    update: Callable[..., PyTree]
    merge: Callable[[PyTree, PyTree], PyTree]
    compute: Callable[[PyTree], Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tally:
    """The state of a `Metric` on some examples, with the metric: what a step reports of one.

    >>> metric = precision()
    >>> tally = Tally(metric.update(metric.init(), jnp.array([0.9]), jnp.array([1])), metric)
    >>> float(tally)
    1.0
    """

    state: PyTree
    metric: Metric = dataclasses.field(metadata={"static": True})

    def merge(self, other: "Tally") -> "Tally":
        """The tally of both sets of examples."""
        return Tally(self.metric.merge(self.state, other.state), self.metric)

    def compute(self) -> Any:
        """The metric's value."""
        return self.metric.compute(self.state)

    def __float__(self) -> float:
        return float(self.compute())


def accuracy(outputs: Any, labels: Any) -> Any:
    """1 where the largest output is the label's, 0 elsewhere.

    Args:
      outputs: logits or probabilities, ``(…, classes)``.
      labels: classes as integers, ``(…)``, or one-hot, ``(…, classes)``.

    Returns:
      float32 (float64 with x64 on) of shape ``(…)``.

    Raises:
      ValueError, TypeError: labels that do not fit, as for `losses.softmax_cross_entropy`.

    A NaN among the outputs of an example counts as wrong.

    Source: `sklearn.metrics.accuracy_score`, example by example.

    >>> import jax.numpy as jnp
    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])).tolist()
    [1.0, 0.0]
    """
    labels = _classes(outputs, labels)
    right = jnp.argmax(outputs, axis=-1) == labels
    return (right & ~jnp.isnan(outputs).any(axis=-1)).astype(jnp.result_type(float))


def top_k_accuracy(outputs: Any, labels: Any, *, k: int = 5) -> Any:
    """1 where the label is among the k largest outputs, 0 elsewhere.

    Ties go to the label: it counts if fewer than k outputs are larger than its own.

    Args:
      outputs, labels: as for `accuracy`.
      k: at least 1.

    Raises:
      ValueError, TypeError: as `accuracy`; k below 1.

    Source: `jax.lax.top_k` without the sort; Keras' `TopKCategoricalAccuracy`.

    >>> top_k_accuracy(jnp.array([[0.5, 0.3, 0.2]]), jnp.array([1]), k=2).tolist()
    [1.0]
    """
    _checks.check_count("k", k)
    labels = _classes(outputs, labels)
    outputs = jnp.asarray(outputs)
    labels_output = jnp.take_along_axis(
        outputs, labels[..., None], axis=-1, mode="fill", fill_value=jnp.nan
    )
    within = jnp.sum(~(outputs <= labels_output), axis=-1) < k
    known = ~jnp.isnan(labels_output[..., 0]) & (labels >= 0)  # a NaN is never within
    return (within & known).astype(jnp.result_type(float))


def mean(function: Callable[[Any, Any], Any]) -> Metric:
    """The weighted mean of a function of examples or elements: ``Σ w f(outputs, y) / Σ w``.

    Args:
      function: ``(outputs, y) -> values``, of `jaxdeep.losses` for example: ``mean(huber)`` is Keras'
        Huber metric.

    Raises:
      TypeError: not a function.

    Source: Keras' `Mean` and `MeanMetricWrapper`.

    >>> from jaxdeep.losses import mae
    >>> metric = mean(mae)
    >>> state = metric.update(metric.init(), jnp.array([1.0, 3.0]), jnp.zeros(2), jnp.array([3.0, 1.0]))
    >>> float(metric.compute(state))
    1.5
    """
    if not callable(function):
        raise TypeError(f"function must be a function (outputs, y) -> values, got {function!r}")

    def counts(outputs: Any, y: Any, weights: Any) -> dict[str, Any]:
        values = jnp.asarray(function(outputs, y))
        w = _spread(weights, values.shape)
        return {"total": jnp.sum(jnp.where(w == 0, 0, w * values)), "weight": jnp.sum(w)}

    return _of_sums({"total": (), "weight": ()}, counts, lambda s: _share(s["total"], s["weight"]))


def precision(threshold: Any = 0.5, *, class_id: int | None = None, from_logits: bool = False) -> Metric:
    """``TP / (TP + FP)`` over all examples; 0 if nothing was called positive.

    A model trained with `jaxdeep.losses.sigmoid_cross_entropy` gives logits: ``from_logits=True``.

    Args:
      threshold: an output above it is called positive.
      class_id: for outputs ``(n, classes)`` and integer labels: positive is this class, called where its
        output is the largest, whatever `threshold` and `from_logits`.
      from_logits: compare σ(outputs) with the threshold, which is in [0, 1] then.

    Returns:
      A streaming `Metric`.

    Raises:
      ValueError, TypeError: outputs and labels that do not fit; a threshold that is not a number, or
        not in [0, 1] with `from_logits`.

    Source: Keras' `Precision`.

    >>> metric = precision()
    >>> state = metric.init()
    >>> for outputs, labels in [([1, 1, 0, 1, 0, 1, 0, 1], [0, 1, 1, 1, 0, 1, 0, 1]),
    ...                         ([1, 0, 1, 0, 0, 1], [0, 1, 0, 1, 1, 0])]:
    ...     state = metric.update(state, jnp.array(outputs), jnp.array(labels))
    ...     print(round(float(metric.compute(state)), 3))
    0.8
    0.5
    """
    return _binary(threshold, class_id, from_logits, lambda s: _share(s["tp"], s["tp"] + s["fp"]))


def recall(threshold: Any = 0.5, *, class_id: int | None = None, from_logits: bool = False) -> Metric:
    """``TP / (TP + FN)`` over all examples; 0 if nothing is positive.

    A model trained with `jaxdeep.losses.sigmoid_cross_entropy` gives logits: ``from_logits=True``.

    Args:
      threshold, class_id, from_logits: as for `precision`.

    Returns:
      A streaming `Metric`.

    Raises:
      ValueError, TypeError: as `precision`.

    Source: Keras' `Recall`.

    >>> metric = recall()
    >>> float(metric.compute(metric.update(metric.init(), jnp.array([0.9, 0.2]), jnp.array([1, 1]))))
    0.5
    >>> metric = recall(from_logits=True)
    >>> float(metric.compute(metric.update(metric.init(), jnp.array([0.2, -0.2]), jnp.array([1, 1]))))
    0.5
    """
    return _binary(threshold, class_id, from_logits, lambda s: _share(s["tp"], s["tp"] + s["fn"]))


def f1(threshold: Any = 0.5, *, class_id: int | None = None, from_logits: bool = False) -> Metric:
    """``2 TP / (2 TP + FP + FN)``, the harmonic mean of precision and recall; 0 if there is nothing.

    A model trained with `jaxdeep.losses.sigmoid_cross_entropy` gives logits: ``from_logits=True``.

    Args:
      threshold, class_id, from_logits: as for `precision`.

    Returns:
      A streaming `Metric`.

    Raises:
      ValueError, TypeError: as `precision`.

    Source: `sklearn.metrics.f1_score`.

    >>> metric = f1()
    >>> float(metric.compute(metric.update(metric.init(), jnp.array([0.9, 0.2]), jnp.array([1, 0]))))
    1.0
    """
    return _binary(
        threshold, class_id, from_logits, lambda s: _share(2 * s["tp"], 2 * s["tp"] + s["fp"] + s["fn"])
    )


def auc(bins: int = 200, *, from_logits: bool = False) -> Metric:
    """Area under the ROC curve, from histograms of the scores of both classes.

    The trapezoid rule over `bins` thresholds; scores in one bin count as equal, so the error is at most
    the share of pairs that fall into one bin. NaN until both classes have been seen.

    A model trained with `jaxdeep.losses.sigmoid_cross_entropy` gives logits: ``from_logits=True``.

    Args:
      bins: of [0, 1], at least 2.
      from_logits: take σ(outputs) for the scores, which are probabilities otherwise.

    Raises:
      ValueError, TypeError: outputs and labels that do not fit; fewer than 2 bins.

    Source: Keras' `AUC` with linear thresholds; Hanley & McNeil (1982).

    >>> metric = auc()
    >>> scores, labels = jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])
    >>> float(metric.compute(metric.update(metric.init(), scores, labels)))
    0.75
    """
    _checks.check_count("bins", bins, low=2)
    _checks.check_flag("from_logits", from_logits)

    def counts(outputs: Any, y: Any, weights: Any) -> dict[str, Any]:
        scores, positive, w = _flat(outputs, y, weights)
        scores = _sigmoid(scores) if from_logits else scores
        w = jnp.where(jnp.isnan(scores) & (w != 0), jnp.nan, w)  # has no place in the order
        place = jnp.clip((scores * bins).astype(jnp.int32), 0, bins - 1)
        zeros = jnp.zeros(bins, w.dtype)
        return {
            "positive": zeros.at[place].add(jnp.where(positive, w, 0)),
            "negative": zeros.at[place].add(jnp.where(positive, 0, w)),
        }

    def compute(state: dict[str, Any]) -> Any:
        positive, negative = state["positive"], state["negative"]
        below = jnp.cumsum(negative) - negative
        won = jnp.sum(positive * (below + negative / 2))
        return won / (jnp.sum(positive) * jnp.sum(negative))

    return _of_sums({"positive": (bins,), "negative": (bins,)}, counts, compute)


def confusion_matrix(classes: int) -> Metric:
    """How often each class was taken for each: ``matrix[label, predicted]``, weights added up.

    Args:
      classes: their number, at least 2.

    Raises:
      ValueError, TypeError: outputs and labels that do not fit, as for `accuracy`.

    Source: `sklearn.metrics.confusion_matrix`.

    >>> metric = confusion_matrix(2)
    >>> outputs, labels = jnp.array([[0.9, 0.1], [0.8, 0.2]]), jnp.array([0, 1])
    >>> metric.compute(metric.update(metric.init(), outputs, labels)).tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    _checks.check_count("classes", classes, low=2)

    def counts(outputs: Any, y: Any, weights: Any) -> dict[str, Any]:
        if jnp.shape(outputs)[-1:] != (classes,):
            raise ValueError(
                f"confusion_matrix({classes}) needs outputs (…, {classes}), got {jnp.shape(outputs)}"
            )
        labels = jnp.ravel(_classes(outputs, y))
        labels = jnp.where(labels < 0, classes, labels)  # traced: dropped, not the last class
        predicted = jnp.ravel(jnp.argmax(outputs, axis=-1))
        w = jnp.ravel(_spread(weights, jnp.shape(outputs)[:-1]))
        return {"matrix": jnp.zeros((classes, classes), w.dtype).at[labels, predicted].add(w)}

    return _of_sums({"matrix": (classes, classes)}, counts, lambda s: s["matrix"])


def _of_sums(
    shapes: dict[str, tuple[int, ...]],
    counts: Callable[[Any, Any, Any], dict[str, Any]],
    compute: Callable[[dict[str, Any]], Any],
) -> Metric:
    """A metric whose state is sums over examples."""

    def init() -> dict[str, Any]:
        return {name: jnp.zeros(shape) for name, shape in shapes.items()}

    def merge(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
        return jax.tree.map(jnp.add, a, b)

    def update(state: dict[str, Any], outputs: Any, y: Any, weights: Any = None) -> dict[str, Any]:
        added = counts(outputs, y, weights)
        return {name: old + added[name].astype(old.dtype) for name, old in state.items()}

    return Metric(init, update, merge, compute)


def _binary(
    threshold: Any, class_id: int | None, from_logits: bool, compute: Callable[..., Any]
) -> Metric:
    _checks.check_flag("from_logits", from_logits)
    _checks.check_scalar("threshold", threshold, "[0, 1]" if from_logits else "(-inf, inf)")
    if class_id is not None:
        _checks.check_count("class_id", class_id, low=0)

    def counts(outputs: Any, y: Any, weights: Any) -> dict[str, Any]:
        if class_id is None:
            scores, positive, w = _flat(outputs, y, weights)
            called = (_sigmoid(scores) if from_logits else scores) > threshold
        else:
            if class_id >= jnp.shape(outputs)[-1]:
                classes = jnp.shape(outputs)[-1]
                raise ValueError(f"class_id must be below the {classes} classes, got {class_id}")
            positive = jnp.ravel(_classes(outputs, y) == class_id)
            called = jnp.ravel(jnp.argmax(outputs, axis=-1) == class_id)
            w = jnp.ravel(_spread(weights, jnp.shape(outputs)[:-1]))
        return {
            "tp": jnp.sum(jnp.where(called & positive, w, 0)),
            "fp": jnp.sum(jnp.where(called & ~positive, w, 0)),
            "fn": jnp.sum(jnp.where(~called & positive, w, 0)),
        }

    return _of_sums({"tp": (), "fp": (), "fn": ()}, counts, compute)


def _classes(outputs: Any, labels: Any) -> Any:
    """Labels as integers; checks that they fit the outputs."""
    if jnp.ndim(outputs) < 1 or jnp.shape(outputs)[-1] < 2:
        raise ValueError(f"outputs need an axis of at least 2 classes, got shape {jnp.shape(outputs)}")
    if jnp.shape(labels) == jnp.shape(outputs):
        return jnp.argmax(labels, axis=-1)
    labels = labels if hasattr(labels, "dtype") else jnp.asarray(labels)
    _checks.check_classes(outputs, labels)
    return jnp.asarray(labels)


def _flat(outputs: Any, y: Any, weights: Any) -> tuple[Any, Any, Any]:
    """Scores, whether they belong to positives, and weights, in one axis each."""
    sizes, label_sizes = ([n for n in jnp.shape(array) if n != 1] for array in (outputs, y))
    if sizes != label_sizes:  # (n, 1) and (n,) are the same here
        raise ValueError(
            f"a binary metric needs one output for each label, got shapes {jnp.shape(outputs)} and "
            f"{jnp.shape(y)}"
        )
    scores = jnp.ravel(jnp.asarray(outputs))
    return scores, jnp.ravel(jnp.asarray(y)) > 0.5, jnp.ravel(_spread(weights, jnp.shape(outputs)))


def _spread(weights: Any, shape: tuple[int, ...]) -> Any:
    """Weights of examples, one for every value."""
    if weights is None:
        return jnp.ones(shape)
    weights = jnp.asarray(weights, jnp.result_type(float))
    if weights.shape != shape[: weights.ndim]:
        raise ValueError(f"weights must have the leading axes of {shape}, got shape {weights.shape}")
    return jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)


def _sigmoid(logits: Any) -> Any:
    """In at least float32: in bfloat16, σ of a small logit is 0.5."""
    return jax.nn.sigmoid(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))


def _share(part: Any, whole: Any) -> Any:
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)
