"""Streaming metrics of how many of what was called a class are of it, and the other way round."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxdeep import _checks, _ignored
from jaxdeep._arrays import as_array
from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, ArrayLike, Bool
from jaxdeep.metrics.counts import judging, told_of_single
from jaxdeep.metrics.inputs import (
    any_nan,
    check_probabilities,
    class_labels,
    flat,
    in_order,
    is_called,
    ravelled,
    spread,
    where,
)
from jaxdeep.metrics.streaming import Found, Metric, Sums, marked, of_sums, scattered, share, told, total

Ratio = Callable[[Sums], tuple[Array, Array]]  # numerator and denominator, of each class
_AVERAGES = (None, "micro", "macro", "weighted")


@remembered
def precision(
    threshold: ArrayLike = 0.5,
    *,
    class_id: int | None = None,
    classes: int | None = None,
    labels: int | None = None,
    average: str | None = None,
    from_logits: bool | None = None,
    ignore_class: int | None = None,
) -> Metric:
    """``TP / (TP + FP)`` over all examples; 0 if nothing was called positive.

    Args:
      threshold: what is above it is called positive: a probability, for a threshold between 0 and 1,
        and for any other an output as it is.
      class_id: for outputs ``(…, classes)`` and integer or one-hot labels: positive is this class,
        called where its output is the largest, whatever `threshold` and `from_logits`.
      classes: the same of all classes, of which this is the number: one value for each of them, or what
        `average` says. Outputs of 2 classes may also be single ones, as for `confusion_matrix`.
      labels: for outputs and labels ``(…, labels)`` of so many labels that do not exclude each other,
        0 and 1: one value for each of them, or what `average` says. Without it all outputs are one pot,
        as with "micro".
      average: of the values of `classes` or `labels`: None for all of them; "macro" for their mean, in
        which one without examples and calls counts as 0; "weighted" for the mean weighted by the number
        of examples; "micro" for the value of all counts together (of classes it is the accuracy).
      from_logits: whether the outputs are logits, of which σ is compared with the threshold, or
        probabilities. By default what the model puts out, as `jaxdeep.train.supervised` knows from its
        last layer and the loss (which asks where neither says it); elsewhere probabilities.
      ignore_class: a label whose examples have weight 0, such as −1 or 255, whether or not it is a
        class.

    Returns:
      A streaming `Metric`; its value is a scalar, or ``(classes,)`` or ``(labels,)``.

    Raises:
      ValueError, TypeError: outputs and labels that do not fit; a threshold that is not a number, or
        not in [0, 1] with `from_logits` or `classes`; known labels outside [0, 1] or NaN, known outputs
        that are no probabilities where they should be; known weights that are negative or not finite;
        two of `class_id`, `classes` and `labels`, another `average`, and one without the latter two.

    Scores and thresholds are compared as real numbers, whatever the dtype of the scores. An output that
    is NaN makes the value NaN, and so does a traced label that is NaN (of classes: or no class).

    Source: Keras' `Precision`; `sklearn.metrics.precision_score` with ``labels=range(classes)``.

    >>> metric = precision()
    >>> state = metric.init()
    >>> for outputs, labels in [([1, 1, 0, 1, 0, 1, 0, 1], [0, 1, 1, 1, 0, 1, 0, 1]),
    ...                         ([1, 0, 1, 0, 0, 1], [0, 1, 0, 1, 1, 0])]:
    ...     state = metric.update(state, jnp.array(outputs), jnp.array(labels))
    ...     print(round(float(metric.compute(state)), 3))
    0.8
    0.5
    >>> metric = precision(classes=2)
    >>> outputs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    >>> metric.compute(metric.update(metric.init(), outputs, jnp.array([0, 1, 1]))).tolist()
    [0.5, 1.0]
    """
    of = (class_id, classes, labels)
    ratio: Ratio = lambda s: (s["tp"], s["tp"] + s["fp"])  # noqa: E731
    return _rate("precision", ratio, threshold, of, average, from_logits, ignore_class)


@remembered
def recall(
    threshold: ArrayLike = 0.5,
    *,
    class_id: int | None = None,
    classes: int | None = None,
    labels: int | None = None,
    average: str | None = None,
    from_logits: bool | None = None,
    ignore_class: int | None = None,
) -> Metric:
    """``TP / (TP + FN)`` over all examples; 0 if nothing is positive.

    Args:
      threshold, class_id, classes, labels, average, from_logits, ignore_class: as for `precision`.

    Returns:
      A streaming `Metric`; its value is a scalar, or ``(classes,)`` or ``(labels,)``.

    Raises:
      ValueError, TypeError: as `precision`.

    Source: Keras' `Recall`; `sklearn.metrics.recall_score` with ``labels=range(classes)``.

    >>> metric = recall()
    >>> float(metric.compute(metric.update(metric.init(), jnp.array([0.9, 0.2]), jnp.array([1, 1]))))
    0.5
    >>> metric = recall(from_logits=True)
    >>> float(metric.compute(metric.update(metric.init(), jnp.array([0.2, -0.2]), jnp.array([1, 1]))))
    0.5
    """
    of = (class_id, classes, labels)
    ratio: Ratio = lambda s: (s["tp"], s["tp"] + s["fn"])  # noqa: E731
    return _rate("recall", ratio, threshold, of, average, from_logits, ignore_class)


@remembered
def f1(
    threshold: ArrayLike = 0.5,
    *,
    class_id: int | None = None,
    classes: int | None = None,
    labels: int | None = None,
    average: str | None = None,
    from_logits: bool | None = None,
    ignore_class: int | None = None,
) -> Metric:
    """``2 TP / (2 TP + FP + FN)``, the harmonic mean of precision and recall; 0 if there is nothing.

    Args:
      threshold, class_id, classes, labels, average, from_logits, ignore_class: as for `precision`.

    Returns:
      A streaming `Metric`; its value is a scalar, or ``(classes,)`` or ``(labels,)``.

    Raises:
      ValueError, TypeError: as `precision`.

    Source: `sklearn.metrics.f1_score`, with ``labels=range(classes)``. Keras' `F1Score` adds 1e-7 to the
    denominators, and without a threshold calls all classes that share the largest output.

    >>> metric = f1()
    >>> float(metric.compute(metric.update(metric.init(), jnp.array([0.9, 0.2]), jnp.array([1, 0]))))
    1.0
    >>> metric = f1(classes=3, average="macro")
    >>> outputs = jnp.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1]])
    >>> round(float(metric.compute(metric.update(metric.init(), outputs, jnp.array([0, 0])))), 3)
    0.222
    """
    of = (class_id, classes, labels)
    ratio: Ratio = lambda s: (2 * s["tp"], 2 * s["tp"] + s["fp"] + s["fn"])  # noqa: E731
    return _rate("f1", ratio, threshold, of, average, from_logits, ignore_class)


@remembered
def balanced_accuracy(
    classes: int = 2,
    *,
    adjusted: bool = False,
    threshold: ArrayLike = 0.5,
    from_logits: bool | None = None,
    ignore_class: int | None = None,
) -> Metric:
    """The mean of the recalls of the classes that there are examples of; NaN if there are none.

    Args:
      classes: their number, at least 2; outputs and labels as for `confusion_matrix`.
      adjusted: whether to give ``(value − 1 / k) / (1 − 1 / k)`` with k the number of classes that there
        are examples of: 0 for predictions by chance, 1 for perfect ones.
      threshold, from_logits, ignore_class: as for `confusion_matrix`.

    Returns:
      A streaming `Metric`.

    Raises:
      ValueError, TypeError: as `confusion_matrix`.

    An output that is NaN makes the value NaN, and so does a traced label that is NaN or no class.

    Source: `sklearn.metrics.balanced_accuracy_score`.

    >>> metric = balanced_accuracy(from_logits=False)
    >>> outputs, labels = jnp.array([0.9, 0.8, 0.7, 0.1]), jnp.array([1, 1, 1, 0])
    >>> float(metric.compute(metric.update(metric.init(), outputs, labels)))
    1.0
    """
    _checks.check_flag("adjusted", adjusted)

    def compute(sums: Sums) -> Array:
        examples = sums["tp"] + sums["fn"]
        recalls, present = share(sums["tp"], examples), (examples > 0).sum()
        value = jnp.sum(recalls) / present
        if adjusted:
            chance = 1 / present
            value = (value - chance) / (1 - chance)
        return value

    return _of_classes("balanced_accuracy", classes, compute, threshold, from_logits, ignore_class)


def _rate(
    name: str,
    ratio: Ratio,
    threshold: ArrayLike,
    of: tuple[int | None, int | None, int | None],
    average: str | None,
    from_logits: bool | None,
    ignore_class: int | None,
) -> Metric:
    class_id, classes, labels = of
    if sum(one is not None for one in of) > 1:
        raise ValueError(
            f"{name} is of one of class_id, classes and labels, got class_id={class_id}, "
            f"classes={classes}, labels={labels}"
        )
    _checks.check_choice("average", average, _AVERAGES)
    if average is not None and classes is None and labels is None:
        raise ValueError(
            f"average={average!r} is over classes or labels: say how many with classes= or labels="
        )
    ignore_class = _ignored.check(ignore_class)

    def compute(sums: Sums) -> Array:
        return _averaged(sums, ratio, average)

    if classes is not None:
        return _of_classes(name, classes, compute, threshold, from_logits, ignore_class)
    return _binary(threshold, class_id, labels, from_logits, ignore_class, compute)


def _averaged(sums: Sums, ratio: Ratio, average: str | None) -> Array:
    """The rate of each class, or an average."""
    if average == "micro":
        sums = {name: jnp.sum(values) for name, values in sums.items()}
    rates = share(*ratio(sums))
    if average == "macro":
        return jnp.mean(rates)
    if average == "weighted":
        examples = sums["tp"] + sums["fn"]
        return share(jnp.sum(rates * examples), jnp.sum(examples))
    return rates


def _of_classes(
    name: str,
    classes: int,
    compute: Callable[[Sums], Array],
    threshold: ArrayLike,
    from_logits: bool | None,
    ignore_class: int | None,
) -> Metric:
    """A metric of the counts of each of several classes that exclude each other."""
    classes = _checks.check_count("classes", classes, low=2)
    judge = judging(name, classes, threshold, from_logits, ignore_class)

    def of(from_logits: bool | None) -> Metric:
        def counts(outputs: Any, y: Any, weights: Any) -> Found:
            judged = judge(outputs, y, weights, from_logits)
            right = judged.labels == judged.predicted
            labels = jnp.where(judged.labels < 0, classes, judged.labels)
            places = {
                "tp": jnp.where(right, labels, classes),
                "fp": jnp.where(right, classes, judged.predicted),
                "fn": jnp.where(right, classes, labels),
            }
            sums = {key: scattered(place, judged.weights, classes) for key, place in places.items()}
            return marked(sums, judged.broken)

        shapes = dict.fromkeys(("tp", "fp", "fn"), (classes,))
        return of_sums(shapes, counts, compute, ignore_class=ignore_class, exclusive=True)

    return told_of_single(of, classes, from_logits)


def _binary(
    threshold: ArrayLike,
    class_id: int | None,
    labels: int | None,
    from_logits: bool | None,
    ignore_class: int | None,
    compute: Callable[[Sums], Array],
) -> Metric:
    """A metric of the counts of one class, or of each of several labels."""
    if from_logits is not None:
        _checks.check_flag("from_logits", from_logits)
    _checks.check_scalar("threshold", threshold, "[0, 1]" if from_logits else "(-inf, inf)")
    if class_id is not None:
        class_id = _checks.check_count("class_id", class_id, low=0)
    if labels is not None:
        labels = _checks.check_count("labels", labels)
    value = _checks.known_value(threshold)
    of_probabilities = class_id is None and value is not None and 0 < value < 1

    def of(from_logits: bool | None) -> Metric:
        def counts(outputs: Any, y: Any, weights: Any) -> Found:
            if class_id is not None:
                return _of_class(class_id, outputs, y, weights)
            if labels is not None and labels != (as_array("outputs", outputs).shape or (0,))[-1]:
                raise ValueError(
                    f"outputs must have a last axis of {labels} labels, got shape {jnp.shape(outputs)}"
                )
            scores, positive, w, wrong = flat(outputs, y, weights)
            if of_probabilities and not from_logits:
                check_probabilities(scores)
            called = is_called(outputs, scores, threshold, bool(from_logits))
            if labels is None:
                return _found(called, positive, w, wrong)
            column = jnp.arange(scores.size) % labels
            w = jnp.ones(scores.shape, bool) if w is None else w
            places = {
                name: jnp.where(rows, column, labels) for name, rows in _kinds(called, positive).items()
            }
            return marked({name: scattered(at, w, labels) for name, at in places.items()}, wrong)

        shape: tuple[int, ...] = () if labels is None else (labels,)
        shapes = dict.fromkeys(("tp", "fp", "fn"), shape)
        exclusive = class_id is not None
        return of_sums(shapes, counts, compute, ignore_class=ignore_class, exclusive=exclusive)

    if not of_probabilities and from_logits is None:  # of outputs as they are
        return of(False)
    return told(of, from_logits)


def _of_class(class_id: int, outputs: Any, y: Any, weights: Any) -> Found:
    """The counts of one class of several that exclude each other."""
    outputs, labels = in_order("outputs", outputs), as_array("labels", y)
    classes = jnp.shape(outputs)[-1]
    if class_id >= classes:
        raise ValueError(f"class_id must be below the {classes} classes, got {class_id}")
    known = class_labels(outputs, labels)
    wrong = ((known < 0) | (known >= classes)).any()  # traced: NaN, as the losses
    nan = any_nan(outputs, labels)
    called = jnp.ravel(jnp.argmax(outputs, axis=-1) == class_id)
    w = ravelled(spread(weights, jnp.shape(outputs)[:-1]))
    return _found(called, jnp.ravel(known == class_id), w, wrong if nan is None else wrong | nan)


def _found(called: Array, positive: Array, w: Array | None, wrong: Array | None) -> Found:
    sums = {name: total(where(rows, w)) for name, rows in _kinds(called, positive).items()}
    return marked(sums, wrong)


def _kinds(called: Array, positive: Array) -> dict[str, Bool[Array, "n"]]:
    return {"tp": called & positive, "fp": called & ~positive, "fn": ~called & positive}
