"""``ignore_class``: examples of this label have weight 0, wherever it is an argument."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.properties import over
from helpers.streamed import streamed

import jaxdeep as jd
from jaxdeep import losses, metrics

ROWS, CLASSES = 10, 3
IGNORED = (-1, 255, 1)
RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32)
P = np.asarray(jax.nn.softmax(SCORES))
LABELS = np.arange(ROWS) % CLASSES
BITS = (np.arange(ROWS) % 3 == 0).astype(int)
TOP = functools.partial(metrics.top_k_accuracy, k=2)

# Of ignore_class: a metric, with the outputs and labels that it takes.
METRICS = {
    "accuracy": (
        lambda i: metrics.mean(functools.partial(metrics.accuracy, ignore_class=i)),
        SCORES,
        LABELS,
    ),
    "auc": (lambda i: metrics.auc(ignore_class=i), P[:, 0], BITS),
    "average_precision": (lambda i: metrics.average_precision(ignore_class=i), P[:, 0], BITS),
    "balanced": (lambda i: metrics.balanced_accuracy(CLASSES, ignore_class=i), SCORES, LABELS),
    "binary_accuracy": (
        lambda i: metrics.mean(
            functools.partial(metrics.binary_accuracy, from_logits=False, ignore_class=i)
        ),
        P[:, :1],
        BITS[:, None],
    ),
    "brier": (lambda i: metrics.brier(ignore_class=i), P, LABELS),
    "confusion": (lambda i: metrics.confusion_matrix(CLASSES, ignore_class=i), SCORES, LABELS),
    "f1": (lambda i: metrics.f1(ignore_class=i), P[:, 0], BITS),
    "f1 of classes": (lambda i: metrics.f1(classes=CLASSES, ignore_class=i), SCORES, LABELS),
    "f1 of labels": (
        lambda i: metrics.recall(0.3, labels=2, ignore_class=i),
        P[:, :2],
        np.stack([BITS, 1 - BITS], -1),
    ),
    "kappa": (lambda i: metrics.cohen_kappa(CLASSES, ignore_class=i), SCORES, LABELS[:, None]),
    "log_loss": (lambda i: metrics.log_loss(from_logits=True, ignore_class=i), SCORES, LABELS),
    "loss": (
        lambda i: metrics.mean(functools.partial(losses.softmax_cross_entropy, ignore_class=i)),
        SCORES,
        LABELS,
    ),
    "precision": (lambda i: metrics.precision(class_id=2, ignore_class=i), SCORES, LABELS),
    "top_k": (lambda i: metrics.mean(functools.partial(TOP, ignore_class=i)), SCORES, LABELS),
}


@pytest.mark.few("accuracy", "f1 of classes")
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("ignored", [-1, 255])
def test_ignored_labels_are_examples_of_weight_0(name, ignored):
    make, outputs, labels = METRICS[name]
    rng = np.random.default_rng(len(name))
    weights = rng.integers(1, 4, ROWS).astype(np.float32)
    gone = rng.random(labels.shape) < 0.4
    marked, broken = np.where(gone, ignored, labels), np.array(outputs)
    if labels.size == ROWS:
        broken[gone.ravel()] = np.nan
    each = weights.reshape(-1, *[1] * (labels.ndim - 1)) * ~gone
    each = each[:, 0] if labels.shape[-1] == 1 else each
    for given in (None, weights):
        alone = each if given is not None else (each > 0).astype(np.float32)
        expected = streamed(make(None), (outputs, labels, alone))
        batch = (broken, marked) if given is None else (broken, marked, given)
        np.testing.assert_allclose(streamed(make(ignored), batch), expected, rtol=1e-6)
        traced = jax.jit(lambda *batch: make(ignored).update(make(ignored).init(), *batch))
        np.testing.assert_allclose(make(ignored).compute(traced(*batch)), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"labels must be in \[0, "):
        streamed(make(ignored), (outputs, np.where(gone, 77, labels)))


LOSSES = {
    "softmax_cross_entropy": (SCORES, LABELS),
    "softmax_focal": (SCORES, LABELS),
    "multiclass_hinge": (SCORES, LABELS),
    "categorical_hinge": (SCORES, LABELS[:, None]),
    "sigmoid_cross_entropy": (SCORES[:, :2], np.stack([BITS, 1 - BITS], -1)),
    "sigmoid_focal": (SCORES[:, :1], BITS),
    "hinge": (SCORES[:, 0], BITS),
}


@pytest.mark.few("softmax_cross_entropy")
@pytest.mark.parametrize("name", LOSSES)
@over(2, 30, ignored=st.sampled_from(IGNORED))
def test_an_ignored_label_costs_nothing_and_has_no_gradient(name, ignored):
    scores, labels = LOSSES[name]
    loss = functools.partial(getattr(losses, name), ignore_class=ignored)
    gone = np.arange(labels.size).reshape(labels.shape) % 3 == 1
    marked = np.where(gone, ignored, labels)
    gone = marked == ignored  # with a class that is ignored, all of its examples
    of_losses = gone.reshape(np.shape(getattr(losses, name)(scores, labels)))
    broken = np.array(scores)
    broken[of_losses] = np.nan
    expected = np.where(of_losses, 0, getattr(losses, name)(scores, labels))
    for y in (marked, jnp.asarray(marked)):
        np.testing.assert_array_equal(loss(broken, y), expected)
    slopes = jax.grad(lambda s, y: loss(s, y).sum())
    expected = jax.grad(lambda s: getattr(losses, name)(s, labels)[~of_losses].sum())(
        jnp.asarray(scores)
    )
    for compiled in (slopes, jax.jit(slopes)):
        np.testing.assert_allclose(compiled(jnp.asarray(broken), marked), expected, rtol=1e-6)


@pytest.mark.heavy
def test_a_run_with_ignored_labels():
    """They change no gradient; the metric is of the others, and what else is no class is refused."""
    x = jax.random.normal(jax.random.key(0), (20, 4))
    y = np.arange(20) % 3
    y[::4] = 255
    loss = functools.partial(losses.softmax_cross_entropy, ignore_class=255)
    accuracy = functools.partial(metrics.accuracy, ignore_class=255)
    told = {"accuracy": accuracy, "kappa": metrics.cohen_kappa(3, ignore_class=255)}

    def run(labels, validation=None, **options):
        return jd.fit(
            jd.nn.serial(jd.nn.dense(3)),
            (x, labels),
            optimizer=jd.optimizers.sgd(0.1),
            key=jax.random.key(1),
            epochs=2,
            batch_size=8,
            progress=False,
            validation=validation,
            **options,
        )

    result = run(y, (x[:7], y[:7]), loss=loss, metrics=told, class_weight={0: 1.0, 2: 3.0})
    outputs, _ = jd.nn.serial(jd.nn.dense(3)).apply(result.params, {}, x[:7])
    right = (np.argmax(outputs, -1) == y[:7])[y[:7] != 255]
    assert float(result.history["val_accuracy"][-1]) == pytest.approx(right.mean())
    plain = run(y % 3, loss=losses.softmax_cross_entropy)
    weights = (y != 255).astype(np.float32)
    weighed = jd.fit(
        jd.nn.serial(jd.nn.dense(3)),
        (x, np.where(y == 255, 0, y), weights),
        loss=losses.softmax_cross_entropy,
        optimizer=jd.optimizers.sgd(0.1),
        key=jax.random.key(1),
        epochs=2,
        batch_size=8,
        progress=False,
    )
    masked = run(y, loss=loss)
    jax.tree.map(np.testing.assert_array_equal, masked.params, weighed.params)
    for one, other in zip(jax.tree.leaves(masked.params), jax.tree.leaves(plain.params)):
        assert not np.array_equal(one, other)
    with pytest.raises(ValueError, match=r"labels.* must be in \[0, .*got"):
        run(y, (x[:7], np.where(y[:7] == 255, 7, y[:7])), loss=loss)


def test_what_ignore_class_is():
    for wrong in (1.5, True, "255", [1]):
        with pytest.raises(TypeError, match="ignore_class must be a whole number or None"):
            losses.softmax_cross_entropy(SCORES, LABELS, ignore_class=wrong)
        with pytest.raises(TypeError, match="ignore_class must be a whole number or None"):
            metrics.f1(classes=3, ignore_class=wrong)
    for of in (losses.softmax_cross_entropy, metrics.accuracy):
        with pytest.raises(ValueError, match="ignore_class is for labels that are integers"):
            of(SCORES, np.eye(3)[LABELS], ignore_class=255)
        with pytest.raises(ValueError, match=r"labels must have shape \(10,\)"):
            of(SCORES, LABELS[:5], ignore_class=255)
    metric = metrics.confusion_matrix(3, ignore_class=255)
    with pytest.raises(ValueError, match="ignore_class is for labels that are integers, got one-hot"):
        metric.update(metric.init(), SCORES, np.eye(3)[LABELS])
    some = metrics.accuracy(SCORES, np.where(LABELS == 1, 255, LABELS), ignore_class=255)
    assert np.isnan(some).sum() == 3
    narrow = metrics.accuracy(SCORES, LABELS.astype(np.uint8), ignore_class=-1)
    np.testing.assert_array_equal(narrow, metrics.accuracy(SCORES, LABELS))
    none = np.full(ROWS, 255)
    assert np.asarray(streamed(metric, (SCORES, none))).sum() == 0
