"""Counts of how often what was called what, from which metrics of classes are computed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdeep import _checks, _ignored
from jaxdeep._arrays import as_array
from jaxdeep._calls import remembered
from jaxdeep._precision import HostOrDevice
from jaxdeep._shapes import Array, ArrayLike, Bool, Integer
from jaxdeep.metrics.inputs import (
    any_nan,
    check_probabilities,
    class_labels,
    flat,
    in_order,
    is_called,
    ravelled,
    spread,
)
from jaxdeep.metrics.streaming import Found, Metric, Sums, marked, of_sums, scattered, told


@remembered
def confusion_matrix(
    classes: int,
    *,
    threshold: ArrayLike = 0.5,
    from_logits: bool | None = None,
    ignore_class: int | None = None,
) -> Metric:
    """How often each class was taken for each: ``matrix[label, predicted]``, weights added up.

    Args:
      classes: their number, at least 2. Outputs are ``(…, classes)``, the largest of which is the
        prediction, and labels are integers or one-hot. For 2 classes outputs may also be single ones,
        ``(n,)`` or ``(…, 1)``, of class 1.
      threshold: of single outputs, the probability above which class 1 is predicted.
      from_logits: of single outputs, whether they are logits or probabilities. In a run it is known;
        elsewhere it must be said.
      ignore_class: a label whose examples have weight 0, such as −1 or 255, whether or not it is a
        class.

    Raises:
      ValueError, TypeError: outputs and labels that do not fit, as for `accuracy`; known weights
        that are negative or not finite; a threshold outside [0, 1]; single outputs of which it is not
        said what they are.

    A traced label that is no class is not counted. An output or a traced label that is NaN makes all of
    the matrix NaN. Whole weights are added exactly, beyond what a float32 can count (2²⁴). The matrix
    itself is of the default float, to which each sum is rounded once; `exact_sums` gives
    ``{"matrix": …}`` without rounding.

    Source: `sklearn.metrics.confusion_matrix`.

    >>> metric = confusion_matrix(2)
    >>> outputs, labels = jnp.array([[0.9, 0.1], [0.8, 0.2]]), jnp.array([0, 1])
    >>> metric.compute(metric.update(metric.init(), outputs, labels)).tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    return of_matrix(
        "confusion_matrix",
        classes,
        lambda matrix: matrix,
        threshold=threshold,
        from_logits=from_logits,
        ignore_class=ignore_class,
        strict=False,
    )


def of_matrix(
    name: str,
    classes: int,
    compute: Callable[[Array], Array],
    *,
    threshold: ArrayLike,
    from_logits: bool | None,
    ignore_class: int | None,
    strict: bool = True,
) -> Metric:
    """A metric that is computed from a confusion matrix.

    With `strict` a traced label that is no class makes it NaN; without, it is not counted.
    """
    classes = _checks.check_count("classes", classes, low=2)
    judge = judging(name, classes, threshold, from_logits, ignore_class)

    def of(from_logits: bool | None) -> Metric:
        def counts(outputs: Any, y: Any, weights: Any) -> Found:
            judged = judge(outputs, y, weights, from_logits)
            known = (judged.labels >= 0) & (judged.labels < classes)
            place = judged.labels * classes + judged.predicted
            matrix = scattered(jnp.where(known, place, classes**2), judged.weights, classes**2)
            square = jax.tree.map(lambda sums: sums.reshape(classes, classes), matrix)
            wrong = judged.broken if strict else judged.nan
            return marked({"matrix": square}, wrong)

        def value(sums: Sums) -> Array:
            return compute(sums["matrix"])

        shapes = {"matrix": (classes, classes)}
        return of_sums(shapes, counts, value, ignore_class=ignore_class, exclusive=True)

    return told_of_single(of, classes, from_logits)


class Judged(NamedTuple):
    """Examples with their labels and predictions, in one axis.

    Attributes:
      labels: below 0 or from the number of classes on for what is no class, which only a traced one is.
      predicted: the predicted classes.
      weights: True for 1 each.
      nan: whether an output or a label is NaN; None where none can be.
      broken: the same, or whether a label is no class.
    """

    labels: Integer[Array, "n"]
    predicted: Integer[Array, "n"]
    weights: Array
    nan: Bool[Array, ""] | None
    broken: Bool[Array, ""] | None


def judging(
    name: str,
    classes: int,
    threshold: ArrayLike,
    from_logits: bool | None,
    ignore_class: int | None,
) -> Callable[[Any, Any, Any, bool | None], Judged]:
    """What judges ``(outputs, labels, weights, from_logits)`` of classes that exclude each other."""
    _checks.check_scalar("threshold", threshold, "[0, 1]")
    if from_logits is not None:
        _checks.check_flag("from_logits", from_logits)
    _ignored.check(ignore_class)

    def judge(outputs: Any, y: Any, weights: Any, from_logits: bool | None) -> Judged:
        array, labels = as_array("outputs", outputs), as_array("labels", y)
        if classes == 2 and is_single(array, labels):
            return _of_single(name, array, labels, weights, threshold, from_logits)
        outputs = in_order("outputs", array)
        if outputs.shape[-1:] != (classes,):
            single = ", or single ones (n,) or (…, 1)" if classes == 2 else ""
            raise ValueError(
                f"{name}({classes}) needs outputs (…, {classes}){single}, got {outputs.shape} "
                f"and labels of {labels.shape}"
            )
        known = jnp.ravel(class_labels(outputs, labels))
        predicted = jnp.ravel(jnp.argmax(outputs, axis=-1))
        w = ravelled(spread(weights, outputs.shape[:-1]))
        w = jnp.ones(known.shape, bool) if w is None else w
        nan = any_nan(outputs, labels)
        outside = ((known < 0) | (known >= classes)).any()
        return Judged(known, predicted, w, nan, outside if nan is None else outside | nan)

    return judge


def is_single(outputs: HostOrDevice, labels: Any) -> bool:
    """Whether outputs are one an example: ``(…, 1)``, or ``(n,)`` beside as many labels."""
    beside = labels.ndim == 1 or labels.shape == (*outputs.shape, 1)
    return outputs.shape[-1:] == (1,) or (outputs.ndim == 1 and beside)


def _of_single(
    name: str,
    outputs: HostOrDevice,
    labels: Any,
    weights: Any,
    threshold: ArrayLike,
    from_logits: bool | None,
) -> Judged:
    """Of outputs that are one an example, for class 1 of two."""
    if from_logits is None:
        raise ValueError(
            f"{name} of a single output depends on what it is: say from_logits=True (σ is taken of it) "
            "or from_logits=False (it is a probability)"
        )
    scores, positive, w, nan = flat(outputs, labels, weights)
    if not from_logits:
        check_probabilities(scores)
    called = is_called(outputs, scores, threshold, from_logits)
    w = jnp.ones(positive.shape, bool) if w is None else w
    return Judged(positive.astype(int), called.astype(int), w, nan, nan)


def told_of_single(
    of: Callable[[bool | None], Metric], classes: int, from_logits: bool | None
) -> Metric:
    """A metric of classes that has to be told what the outputs are only if they are single ones."""
    if classes != 2:
        return of(None)
    metric = told(of, from_logits)
    metric.update.of_single_outputs = True  # type: ignore[attr-defined]  # else it is not asked for
    return metric
