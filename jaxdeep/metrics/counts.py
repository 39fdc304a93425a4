"""Streaming metrics of how often what was called what."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._arrays import as_array, on_device
from jaxdeep._shapes import Array, ArrayLike
from jaxdeep.metrics.inputs import (
    above,
    any_nan,
    check_probabilities,
    class_labels,
    flat,
    ravelled,
    sigmoid,
    spread,
    where,
)
from jaxdeep.metrics.streaming import Found, Metric, Sums, marked, of_sums, scattered, share, told, total


def precision(
    threshold: ArrayLike = 0.5, *, class_id: int | None = None, from_logits: bool | None = None
) -> Metric:
    """``TP / (TP + FP)`` over all examples; 0 if nothing was called positive.

    Args:
      threshold: what is above it is called positive: a probability, for a threshold between 0 and 1,
        and for any other an output as it is.
      class_id: for outputs ``(n, classes)`` and integer labels: positive is this class, called where its
        output is the largest, whatever `threshold` and `from_logits`.
      from_logits: whether the outputs are logits, of which σ is compared with the threshold, or
        probabilities. By default what the model puts out, as `jaxdeep.train.supervised` knows from its
        last layer and the loss (which asks where neither says it); elsewhere probabilities.

    Returns:
      A streaming `Metric`.

    Raises:
      ValueError, TypeError: outputs and labels that do not fit; a threshold that is not a number, or
        not in [0, 1] with `from_logits`; known labels outside [0, 1] or NaN, known outputs that are no
        probabilities where they should be; known weights that are negative or not finite.

    Scores and thresholds are compared as real numbers, whatever the dtype of the scores. An output that
    is NaN makes the value NaN, and so does a traced label that is NaN (with `class_id`: or no class).

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
    return _binary(threshold, class_id, from_logits, lambda s: share(s["tp"], s["tp"] + s["fp"]))


def recall(
    threshold: ArrayLike = 0.5, *, class_id: int | None = None, from_logits: bool | None = None
) -> Metric:
    """``TP / (TP + FN)`` over all examples; 0 if nothing is positive.

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
    return _binary(threshold, class_id, from_logits, lambda s: share(s["tp"], s["tp"] + s["fn"]))


def f1(
    threshold: ArrayLike = 0.5, *, class_id: int | None = None, from_logits: bool | None = None
) -> Metric:
    """``2 TP / (2 TP + FP + FN)``, the harmonic mean of precision and recall; 0 if there is nothing.

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
        threshold, class_id, from_logits, lambda s: share(2 * s["tp"], 2 * s["tp"] + s["fp"] + s["fn"])
    )


def confusion_matrix(classes: int) -> Metric:
    """How often each class was taken for each: ``matrix[label, predicted]``, weights added up.

    Args:
      classes: their number, at least 2.

    Raises:
      ValueError, TypeError: outputs and labels that do not fit, as for `accuracy`; known weights
        that are negative or not finite.

    A traced label that is no class is not counted. An output or a traced label that is NaN makes all of
    the matrix NaN. Sums of whole weights are exact.

    Source: `sklearn.metrics.confusion_matrix`.

    >>> metric = confusion_matrix(2)
    >>> outputs, labels = jnp.array([[0.9, 0.1], [0.8, 0.2]]), jnp.array([0, 1])
    >>> metric.compute(metric.update(metric.init(), outputs, labels)).tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    classes = _checks.check_count("classes", classes, low=2)

    def counts(outputs: Any, y: Any, weights: Any) -> Found:
        outputs = on_device("outputs", outputs)
        if jnp.shape(outputs)[-1:] != (classes,):
            raise ValueError(
                f"confusion_matrix({classes}) needs outputs (…, {classes}), got {jnp.shape(outputs)}"
            )
        labels = jnp.ravel(class_labels(outputs, y))
        known = (labels >= 0) & (labels < classes)  # traced: others are dropped
        place = labels * classes + jnp.ravel(jnp.argmax(outputs, axis=-1))
        w = ravelled(spread(weights, jnp.shape(outputs)[:-1]))
        w = jnp.ones(labels.shape, bool) if w is None else w
        matrix = scattered(jnp.where(known, place, classes**2), w, classes**2)
        square = jax.tree.map(lambda sums: sums.reshape(classes, classes), matrix)
        return marked({"matrix": square}, any_nan(outputs, as_array("labels", y)))

    return of_sums({"matrix": (classes, classes)}, counts, lambda s: s["matrix"])


def _binary(
    threshold: ArrayLike,
    class_id: int | None,
    from_logits: bool | None,
    compute: Callable[[Sums], Array],
) -> Metric:
    if from_logits is not None:
        _checks.check_flag("from_logits", from_logits)
    _checks.check_scalar("threshold", threshold, "[0, 1]" if from_logits else "(-inf, inf)")
    if class_id is not None:
        class_id = _checks.check_count("class_id", class_id, low=0)
    value = _checks.known_value(threshold)
    of_probabilities = class_id is None and value is not None and 0 < value < 1

    def of(from_logits: bool | None) -> Metric:
        def counts(outputs: Any, y: Any, weights: Any) -> Found:
            if class_id is None:
                scores, positive, w, wrong = flat(outputs, y, weights)
                if of_probabilities and not from_logits:
                    check_probabilities(scores)
                called = above(sigmoid(scores) if from_logits else scores, threshold)
            else:
                outputs = on_device("outputs", outputs)
                classes = jnp.shape(outputs)[-1]
                if class_id >= classes:
                    raise ValueError(f"class_id must be below the {classes} classes, got {class_id}")
                labels = class_labels(outputs, y)
                positive = jnp.ravel(labels == class_id)
                wrong = ((labels < 0) | (labels >= classes)).any()  # traced: NaN, as the losses
                if jnp.issubdtype(outputs.dtype, jnp.floating):
                    wrong = wrong | jnp.isnan(outputs).any()
                called = jnp.ravel(jnp.argmax(outputs, axis=-1) == class_id)
                w = ravelled(spread(weights, jnp.shape(outputs)[:-1]))
            found = {"tp": called & positive, "fp": called & ~positive, "fn": ~called & positive}
            return marked({name: total(where(rows, w)) for name, rows in found.items()}, wrong)

        return of_sums({"tp": (), "fp": (), "fn": ()}, counts, compute)

    if not of_probabilities and from_logits is None:  # of outputs as they are
        return of(False)
    return told(of, from_logits)
