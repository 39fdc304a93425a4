"""Metrics: functions of one value per example, and streaming metrics of sums.

`accuracy`, `binary_accuracy` and `top_k_accuracy` are functions ``(outputs, y) -> values``, whose values
are averaged over examples. Any loss can be used as such a metric, too. A metric that is no average over
examples, as a precision is not the mean of the batches' precisions, is a `Metric`: four pure functions
over a pytree of sums. Both kinds go into ``supervised(…, metrics=…)``.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._arrays import as_array, check_leaves, on_device
from jaxdeep._shapes import Array, ArrayLike, Bool, Float, Integer, PyTree

__all__ = [
    "Metric",
    "Tally",
    "accuracy",
    "auc",
    "binary_accuracy",
    "confusion_matrix",
    "f1",
    "mean",
    "precision",
    "recall",
    "roc_auc_score",
    "top_k_accuracy",
]


def __dir__() -> list[str]:
    return __all__


Values = Float[Array, "*batch"]  # one of each example
Sums = dict[str, Array]


class Metric(NamedTuple):
    """A streaming metric: pure functions over a state that is a pytree of arrays.

    Attributes:
      init: ``() -> state`` of no examples.
      update: ``(state, outputs, y, weights=None) -> state`` with a batch added.
      merge: ``(state, state) -> state``, as of both sets of examples; associative, so that it joins
        batches, devices and runs in any order.
      compute: ``state -> value``; a scalar or an array.
      given: ``from_logits -> metric``, the metric for a model that puts out logits (True) or
        probabilities, if it depends on that; else None. `jaxdeep.train.supervised` asks for it.

    >>> metric = precision()
    >>> state = metric.update(metric.init(), jnp.array([0.9, 0.8, 0.1]), jnp.array([1, 0, 1]))
    >>> float(metric.compute(state))
    0.5
    """

    init: Callable[[], PyTree]
    update: Callable[..., PyTree]
    merge: Callable[[PyTree, PyTree], PyTree]
    compute: Callable[[PyTree], Any]
    given: Callable[[bool], "Metric"] | None = None


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


def accuracy(outputs: ArrayLike, labels: ArrayLike, *, from_logits: bool | None = None) -> Values:
    """1 where the largest output is the label's, 0 elsewhere; a single one has to be on its side.

    Args:
      outputs: logits or probabilities, ``(…, classes)``, or ``(…, 1)`` for the second of two classes.
      labels: classes as integers, ``(…)`` or ``(…, 1)``, or one-hot, ``(…, classes)``.
      from_logits: of a single output only, as for `binary_accuracy`.

    Returns:
      float32 (float64 with x64 on) of shape ``(…)``.

    Raises:
      ValueError, TypeError: labels that do not fit, as for `losses.softmax_cross_entropy`; a single
        output of which is not known what it is.

    A NaN among the outputs of an example counts as wrong.

    Source: `sklearn.metrics.accuracy_score`, example by example.

    >>> import jax.numpy as jnp
    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])).tolist()
    [1.0, 0.0]
    >>> accuracy(jnp.array([[0.1], [-2.0]]), jnp.array([1, 1]), from_logits=True).tolist()
    [1.0, 0.0]
    """
    outputs = on_device("outputs", outputs)
    if outputs.shape[-1:] == (1,):
        return binary_accuracy(outputs, labels, from_logits=from_logits)[..., 0]
    labels = _classes(outputs, labels)
    right = jnp.argmax(outputs, axis=-1) == labels
    return _ones(right & ~jnp.isnan(outputs).any(axis=-1))


def binary_accuracy(
    outputs: ArrayLike, labels: ArrayLike, *, threshold: ArrayLike = 0.5, from_logits: bool | None = None
) -> Values:
    """1 where an output is on the side of the threshold that its label is on, 0 elsewhere; elementwise.

    For models of one output, or of several labels that do not exclude each other.

    Args:
      outputs: of any shape.
      labels: of the same shape, but for a last axis of 1: 0 and 1.
      threshold: a probability above it is called 1.
      from_logits: whether the outputs are logits, of which σ is taken, or probabilities. `supervised`
        knows it from the model and the loss; elsewhere it must be said.

    Returns:
      float32 (float64 with x64 on) of the shape of the outputs. A NaN counts as wrong.

    Raises:
      ValueError: labels of another shape; known labels, or probabilities, outside [0, 1]; a threshold
        outside [0, 1]; outputs of which is not known what they are.

    Source: Keras' `BinaryAccuracy`.

    >>> binary_accuracy(jnp.array([0.1, 0.8]), jnp.array([1, 1]), from_logits=False).tolist()
    [0.0, 1.0]
    """
    if from_logits is None:
        raise ValueError(
            "the accuracy of a single output depends on what it is: say from_logits=True (σ is taken of "
            "it) or from_logits=False (it is a probability)"
        )
    _checks.check_flag("from_logits", from_logits)
    _checks.check_scalar("threshold", threshold, "[0, 1]")
    scores, y = on_device("outputs", outputs), as_array("labels", labels)
    if not _checks.same_but_for_one(y.shape, scores.shape):
        raise ValueError(f"labels must have the shape of the outputs, {scores.shape}, got {y.shape}")
    _checks.check_known("labels", y, 0, 1)
    scores = _probabilities(scores, from_logits)
    y = jnp.asarray(y, jnp.result_type(float)).reshape(scores.shape)
    return _ones(((scores > threshold) == (y > 0.5)) & ~jnp.isnan(scores) & ~jnp.isnan(y))


def top_k_accuracy(outputs: ArrayLike, labels: ArrayLike, *, k: int = 5) -> Values:
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
    outputs = on_device("outputs", outputs)
    labels = _classes(outputs, labels)
    labels_output = jnp.take_along_axis(
        outputs, labels[..., None], axis=-1, mode="fill", fill_value=jnp.nan
    )
    within = jnp.sum(~(outputs <= labels_output), axis=-1) < k
    known = ~jnp.isnan(labels_output[..., 0]) & (labels >= 0)  # a NaN is never within
    return _ones(within & known)


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
        if w is None:
            return {"total": _total(values), "weight": jnp.int32(values.size)}
        return {"total": _total(jnp.where(w == 0, 0, w * values)), "weight": _total(w)}

    return _of_sums({"total": (), "weight": ()}, counts, lambda s: _share(s["total"], s["weight"]))


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
        last layer and the loss; elsewhere probabilities.

    Returns:
      A streaming `Metric`.

    Raises:
      ValueError, TypeError: outputs and labels that do not fit; a threshold that is not a number, or
        not in [0, 1] with `from_logits`; known labels outside [0, 1], known outputs that are no
        probabilities where they should be.

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
    return _binary(threshold, class_id, from_logits, lambda s: _share(s["tp"], s["tp"] + s["fn"]))


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
        threshold, class_id, from_logits, lambda s: _share(2 * s["tp"], 2 * s["tp"] + s["fp"] + s["fn"])
    )


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
        [0, 1], known outputs that are no probabilities where they should be.

    Source: Hanley & McNeil (1982); Keras' `AUC`, whose bins are even in the probability.

    >>> metric = auc()
    >>> scores, labels = jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])
    >>> float(metric.compute(metric.update(metric.init(), scores, labels)))
    0.75
    """
    _checks.check_count("bins", bins, low=2)

    def of(from_logits: bool | None) -> Metric:
        def counts(outputs: Any, y: Any, weights: Any) -> Sums:
            scores, positive, w = _flat(outputs, y, weights)
            wide = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
            if not from_logits:
                _check_probabilities(scores)
            logits = wide if from_logits else jnp.log(wide) - jnp.log1p(-wide)
            place = jnp.sign(logits) * (1 - 4 / (4 + jnp.abs(logits)))
            place = jnp.clip(((place + 1) / 2 * bins).astype(jnp.int32), 0, bins - 1)
            if w is None:
                w = jnp.ones(scores.shape, jnp.int32)
            if jnp.issubdtype(scores.dtype, jnp.floating):  # NaN has no place in the order
                w = jnp.where(jnp.isnan(scores) & (w != 0), jnp.nan, w)
            zeros = jnp.zeros(bins, w.dtype)
            return {
                "positive": zeros.at[place].add(jnp.where(positive, w, 0)),
                "negative": zeros.at[place].add(jnp.where(positive, 0, w)),
            }

        return _of_sums({"positive": (bins,), "negative": (bins,)}, counts, compute)

    def compute(state: dict[str, Any]) -> Any:
        positive, negative = state["positive"], state["negative"]
        below = jnp.cumsum(negative) - negative
        won = jnp.sum(positive * (below + negative / 2))
        return won / (jnp.sum(positive) * jnp.sum(negative))

    return _told(of, from_logits)


def roc_auc_score(
    outputs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> Float[Array, ""]:
    """Area under the ROC curve, exactly: the share of pairs of both classes that are in the right order.

    Ties count one half. `auc` adds up batches.

    Args:
      outputs: scores of class 1, of any shape: logits or probabilities, as only their order counts.
      labels: of the same shape, but for axes of length 1: 0 and 1.
      weights: of the examples; 1 each by default.

    Returns:
      A scalar; NaN if there is one class only, or a score is NaN.

    Raises:
      ValueError, TypeError: shapes that do not fit, known labels outside [0, 1].

    Source: `sklearn.metrics.roc_auc_score`; Hanley & McNeil (1982).

    >>> float(roc_auc_score(jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])))
    0.75
    """
    scores, positive, w = _flat(outputs, labels, weights)
    w = jnp.ones(scores.shape) if w is None else w
    order = jnp.argsort(scores)
    scores, positive, w = scores[order], positive[order], w[order]
    negatives = jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.where(positive, 0, w))])
    below, upto = (negatives[jnp.searchsorted(scores, scores, side=side)] for side in ("left", "right"))
    positives = jnp.where(positive, w, 0)
    won = jnp.sum(positives * (below + upto) / 2)
    area = won / (jnp.sum(positives) * negatives[-1])
    return jnp.where(jnp.isnan(scores).any(), jnp.nan, area)


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
        outputs = on_device("outputs", outputs)
        if jnp.shape(outputs)[-1:] != (classes,):
            raise ValueError(
                f"confusion_matrix({classes}) needs outputs (…, {classes}), got {jnp.shape(outputs)}"
            )
        labels = jnp.ravel(_classes(outputs, y))
        labels = jnp.where(labels < 0, classes, labels)  # traced: dropped, not the last class
        predicted = jnp.ravel(jnp.argmax(outputs, axis=-1))
        w = _ravelled(_spread(weights, jnp.shape(outputs)[:-1]))
        w = jnp.ones(labels.shape, jnp.int32) if w is None else w
        return {"matrix": jnp.zeros((classes, classes), w.dtype).at[labels, predicted].add(w)}

    return _of_sums({"matrix": (classes, classes)}, counts, lambda s: s["matrix"])


def _of_sums(
    shapes: dict[str, tuple[int, ...]],
    counts: Callable[[Any, Any, Any], Sums],
    compute: Callable[[Sums], Array],
) -> Metric:
    """A metric whose state is sums over examples.

    Each sum is a pair of floats: the sum, and under "lost" what it cannot hold. A float32 alone stops
    counting at 2²⁴.
    """

    def init() -> PyTree:
        zeros = {name: jnp.zeros(shape) for name, shape in shapes.items()}
        return zeros | {"lost": dict(zeros)}

    def check(state: PyTree) -> None:
        whole = isinstance(state, Mapping) and isinstance(state.get("lost", {}), Mapping)
        if not whole or any(name not in state for name in shapes):
            raise TypeError(
                f"state must be what init() returned, a dict of {', '.join(shapes)}, got {state!r}"
            )
        check_leaves("state", state)
        for name, shape in shapes.items():
            if jnp.shape(state[name]) != shape:
                raise ValueError(
                    f"state: {name} must have shape {shape}, got {jnp.shape(state[name])}; use jax.vmap "
                    "for several states"
                )

    def merge(a: PyTree, b: PyTree) -> PyTree:
        check(a)
        check(b)
        pairs = {name: _added(a[name], a["lost"][name], b[name], b["lost"][name]) for name in shapes}
        sums = {name: total for name, (total, _) in pairs.items()}
        return sums | {"lost": {name: lost for name, (_, lost) in pairs.items()}}

    def update(state: PyTree, outputs: PyTree, y: PyTree, weights: ArrayLike | None = None) -> PyTree:
        check(state)
        added, lost = {}, {}
        for name, exact in counts(outputs, y, weights).items():
            added[name] = exact.astype(state[name].dtype)
            whole = jnp.issubdtype(exact.dtype, jnp.integer)
            rest = exact - added[name].astype(exact.dtype) if whole else 0
            lost[name] = jnp.broadcast_to(rest, exact.shape).astype(added[name].dtype)
        return merge(state, added | {"lost": lost})

    def computed(state: PyTree) -> Any:
        check(state)
        return compute({name: state[name] for name in shapes})

    return Metric(init, update, merge, computed)


def _added(a: Array, a_lost: Array, b: Array, b_lost: Array) -> tuple[Array, Array]:
    """The sum of two pairs (Knuth's TwoSum), as a pair again."""
    total = a + b
    of_b = total - a
    lost = (a - (total - of_b)) + (b - of_b) + a_lost + b_lost
    rounded = total + lost
    lost = lost - (rounded - total)
    return jnp.where(jnp.isfinite(total), rounded, total), jnp.where(jnp.isfinite(total), lost, 0)


def _total(values: ArrayLike) -> Array:
    """The sum of floats, whole numbers or booleans; of the latter it is exact."""
    values = jnp.asarray(values)
    if jnp.issubdtype(values.dtype, jnp.floating):
        return jnp.sum(values, dtype=jnp.promote_types(values.dtype, jnp.float32))
    return jnp.sum(values, dtype=jnp.int32)


def _told(of: Callable[[bool | None], Metric], from_logits: bool | None) -> Metric:
    """A metric that learns what the model puts out if it was not told, and else refuses the other."""
    if from_logits is None:
        return of(None)._replace(given=of)
    _checks.check_flag("from_logits", from_logits)
    metric = of(from_logits)

    def given(logits: bool) -> Metric:
        check_agreement(from_logits, logits)
        return metric

    return metric._replace(given=given)


def check_agreement(told: bool, logits: bool) -> None:
    """Refuse a metric that was told another kind of outputs than those which the model puts out."""
    if told != logits:
        puts_out = "logits" if logits else "probabilities"
        raise ValueError(
            f"from_logits={told} for a model that puts out {puts_out}, as its last layer and the loss "
            "say: leave from_logits out"
        )


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
        _checks.check_count("class_id", class_id, low=0)
    value = _checks.known_value(threshold)
    of_probabilities = class_id is None and value is not None and 0 < value < 1

    def of(from_logits: bool | None) -> Metric:
        def counts(outputs: Any, y: Any, weights: Any) -> Sums:
            if class_id is None:
                scores, positive, w = _flat(outputs, y, weights)
                if of_probabilities and not from_logits:
                    _check_probabilities(scores)
                called = (_sigmoid(scores) if from_logits else scores) > threshold
            else:
                outputs = on_device("outputs", outputs)
                if class_id >= jnp.shape(outputs)[-1]:
                    classes = jnp.shape(outputs)[-1]
                    raise ValueError(f"class_id must be below the {classes} classes, got {class_id}")
                positive = jnp.ravel(_classes(outputs, y) == class_id)
                called = jnp.ravel(jnp.argmax(outputs, axis=-1) == class_id)
                w = _ravelled(_spread(weights, jnp.shape(outputs)[:-1]))
            found = {"tp": called & positive, "fp": called & ~positive, "fn": ~called & positive}
            return {
                name: _total(where if w is None else jnp.where(where, w, 0))
                for name, where in found.items()
            }

        return _of_sums({"tp": (), "fp": (), "fn": ()}, counts, compute)

    if not of_probabilities and from_logits is None:  # of outputs as they are
        return of(False)
    return _told(of, from_logits)


def _check_probabilities(scores: Array) -> None:
    _checks.check_known("outputs (which are probabilities unless from_logits=True)", scores, 0, 1)


def _classes(outputs: ArrayLike, labels: ArrayLike) -> Integer[Array, "*batch"]:
    """Labels as integers; checks that they fit the outputs."""
    if jnp.ndim(outputs) < 1 or jnp.shape(outputs)[-1] < 2:
        raise ValueError(f"outputs need an axis of at least 2 classes, got shape {jnp.shape(outputs)}")
    known = as_array("labels", labels)
    if known.shape == jnp.shape(outputs):
        _checks.check_distributions("labels", known)
        return jnp.argmax(jnp.asarray(known), axis=-1)
    return _checks.classes_of(outputs, known)


def _flat(
    outputs: ArrayLike, y: ArrayLike, weights: ArrayLike | None
) -> tuple[Array, Bool[Array, "n"], Array | None]:
    """Scores, whether they belong to positives, and weights, in one axis each."""
    scores, labels = on_device("outputs", outputs), as_array("labels", y)
    sizes, label_sizes = ([n for n in array.shape if n != 1] for array in (scores, labels))
    if sizes != label_sizes:  # (n, 1) and (n,) are the same here
        raise ValueError(
            f"a binary metric needs one output for each label, got outputs of shape {scores.shape} and "
            f"labels of {labels.shape}"
        )
    _checks.check_known("labels", labels, 0, 1)
    return (
        jnp.ravel(scores),
        jnp.ravel(jnp.asarray(labels)) > 0.5,
        _ravelled(_spread(weights, scores.shape)),
    )


def _spread(weights: ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    """Weights of examples, one for every value; None if there are none."""
    if weights is None:
        return None
    weights = on_device("weights", weights).astype(jnp.result_type(float))
    if weights.shape != shape[: weights.ndim]:
        raise ValueError(
            f"weights must have the leading axes of the outputs, {shape}, got {weights.shape}"
        )
    return jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)


def _ravelled(weights: Array | None) -> Array | None:
    return None if weights is None else jnp.ravel(weights)


def _ones(right: Bool[Array, "*shape"]) -> Values:
    return right.astype(jnp.result_type(float))


def _probabilities(scores: Array, from_logits: bool) -> Array:
    if from_logits:
        return _sigmoid(scores)
    _checks.check_known("outputs (which are probabilities with from_logits=False)", scores, 0, 1)
    return scores


def _sigmoid(logits: Array) -> Array:
    """In at least float32: in bfloat16, σ of a small logit is 0.5."""
    return jax.nn.sigmoid(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))


def _share(part: Array, whole: Array) -> Array:
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)
