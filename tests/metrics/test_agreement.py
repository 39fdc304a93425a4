"""Metrics of classes: those of scikit-learn, by class, averaged, and of agreement beyond chance."""

import functools
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.properties import over
from helpers.streamed import ROWS, TABLES, streamed, values_of, weights_of

import jaxdeep as jd
from jaxdeep import metrics

CLASSES = 3
AVERAGES = [None, "micro", "macro", "weighted"]


def table(seed, kind, weighted):
    """Scores, the predictions that they are, labels and weights."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 1 if kind == "one class" else CLASSES, ROWS)
    predicted = rng.integers(0, CLASSES, ROWS)
    if kind == "constant":
        predicted[:] = 1
    elif kind == "right":
        predicted = labels
    elif kind == "wrong":
        predicted = (labels + 1) % CLASSES
    scores = rng.random((ROWS, CLASSES)).astype(np.float32)
    scores[np.arange(ROWS), predicted] += 1
    return scores, predicted, labels, weights_of(rng, kind, weighted)


def check(metric_and_options, reference, drawn, **options):
    """A metric is that of scikit-learn, which is called on the rows that count."""
    seed, kind, cut, weighted = drawn
    scores, predicted, labels, weights = table(seed, kind, weighted)
    rows = weights > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that are not defined
        expected = reference(labels[rows], predicted[rows], sample_weight=weights[rows], **options)
    make, *args = metric_and_options
    for found in values_of(make, *args[:-1], **args[-1])(scores, labels, weights, cut):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.few(1)
@pytest.mark.parametrize("average", AVERAGES)
@over(2, 200, **TABLES)
def test_rates_of_classes_are_those_of_scikit_learn(average, seed, kind, cut, weighted):
    from sklearn import metrics as sk

    for make, reference in (
        (metrics.precision, sk.precision_score),
        (metrics.recall, sk.recall_score),
        (metrics.f1, sk.f1_score),
    ):
        options = {"classes": CLASSES, "average": average}
        more = {"average": average, "labels": range(CLASSES), "zero_division": 0}
        check((make, options), reference, (seed, kind, cut, weighted), **more)


@over(2, 200, heavy=True, **TABLES)
def test_agreement_is_that_of_scikit_learn(seed, kind, cut, weighted):
    from sklearn import metrics as sk

    drawn = seed, kind, cut, weighted
    for weights in (None, "linear", "quadratic"):
        options = {"weights": weights, "labels": range(CLASSES)}
        kappa = (metrics.cohen_kappa, CLASSES, {"weights": weights})
        check(kappa, sk.cohen_kappa_score, drawn, **options)
    check((metrics.matthews_corrcoef, CLASSES, {}), sk.matthews_corrcoef, drawn)
    balanced = metrics.balanced_accuracy
    for adjusted in (False, True):
        if kind not in ("one row", "one class") or not adjusted:  # 0 / 0
            options = {"adjusted": adjusted}
            check((balanced, CLASSES, options), sk.balanced_accuracy_score, drawn, **options)


@pytest.mark.few(1)
@pytest.mark.parametrize("average", AVERAGES)
@over(2, 200, **TABLES)
def test_rates_of_labels_are_those_of_scikit_learn(average, seed, kind, cut, weighted):
    from sklearn import metrics as sk

    rng = np.random.default_rng(seed)
    scores = rng.random((ROWS, CLASSES)).astype(np.float32)
    labels = rng.integers(0, 2, scores.shape) * (kind != "one class")
    labels = scores > 0.5 if kind == "right" else labels
    weights = weights_of(rng, kind, weighted)
    rows = weights > 0
    for make, reference in ((metrics.precision, sk.precision_score), (metrics.f1, sk.f1_score)):
        expected = reference(
            *(a[rows].astype(int) for a in (labels, scores > 0.5)),
            average=average,
            sample_weight=weights[rows],
            zero_division=0,
        )
        values = values_of(make, labels=CLASSES, average=average)
        for found in values(scores, labels, weights, cut):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.heavy
def test_a_single_output_is_class_1_of_two():
    from sklearn import metrics as sk

    rng = np.random.default_rng(0)
    p, y = rng.random(40).astype(np.float32), rng.integers(0, 2, 40)
    logits, called = np.log(p / (1 - p)), p > 0.3
    for make, reference in (
        (functools.partial(metrics.confusion_matrix, 2), sk.confusion_matrix),
        (metrics.cohen_kappa, sk.cohen_kappa_score),
        (metrics.matthews_corrcoef, sk.matthews_corrcoef),
        (metrics.balanced_accuracy, sk.balanced_accuracy_score),
        (
            functools.partial(metrics.f1, classes=2, average="macro"),
            functools.partial(sk.f1_score, average="macro"),
        ),
    ):
        for outputs, from_logits in ((p, False), (p[:, None], False), (logits, True)):
            metric = make(threshold=0.3, from_logits=from_logits)
            np.testing.assert_allclose(streamed(metric, (outputs, y)), reference(y, called), rtol=1e-5)
        both = np.stack([0.3 - p, p - 0.3], axis=-1)  # scores of two classes need nothing said
        np.testing.assert_allclose(streamed(make(), (both, y)), reference(y, called), rtol=1e-5)


@pytest.mark.heavy
def test_a_run_says_what_a_single_output_is():
    metric = metrics.matthews_corrcoef()
    with pytest.raises(ValueError, match="depends on what it is: say from_logits"):
        metric.update(metric.init(), jnp.ones(4), jnp.ones(4, int))
    x, y = jnp.linspace(-1, 1, 8)[:, None], jnp.arange(8) // 4
    told = {"mcc": metric, "f1": metrics.f1(classes=2, average="macro")}
    objective = jd.train.supervised(
        jd.nn.lambda_(lambda x: x), jd.losses.sigmoid_cross_entropy, metrics=told
    )
    _, (_, found) = objective({}, {}, (x, y[:, None]))
    assert float(found["mcc"]) == float(found["f1"]) == 1
    with pytest.raises(ValueError, match="depends on what it is"):
        jd.train.supervised(jd.nn.dense(1), lambda o, y: o[:, 0], metrics=told)(
            {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}, {}, (x, y[:, None])
        )


@pytest.mark.heavy
def test_correlation_of_rare_classes_and_of_many_rows_has_its_digits():
    """Of differences of products of counts, which float32 does not hold, 6 % were lost."""
    for matrix in ([[10**8, 30], [20, 50]], [[3 * 10**9, 10**3], [10**3, 1]], [[7, 5, 1]] * 3):
        m = np.array(matrix, object)
        t, p, s = m.sum(1), m.sum(0), m.sum()
        above = sum(m[i, i] for i in range(len(m))) * s - (t * p).sum()
        exact = above / np.sqrt(float(s * s - (t * t).sum()) * float(s * s - (p * p).sum()))
        metric = metrics.matthews_corrcoef(len(m))
        state = metric.init() | {"matrix": jnp.asarray(m.astype(float), jnp.float32)}
        np.testing.assert_allclose(metric.compute(state), exact, rtol=1e-5, atol=1e-6)
        kappa = metrics.cohen_kappa(len(m))
        exact = 1 - (s - np.trace(m)) * s / (s * s - (t * p).sum())
        np.testing.assert_allclose(kappa.compute(state), float(exact), rtol=1e-5, atol=1e-6)


def test_counts_beyond_what_a_float32_counts_are_at_hand():
    metric, odd = metrics.confusion_matrix(2), 2**24 + 1
    outputs, labels = jnp.array([[0.9, 0.1], [0.9, 0.1]]), jnp.array([0, 1])
    state = metric.update(metric.init(), outputs, labels, np.array([odd, 2 * odd + 2], np.int32))
    assert metrics.exact_sums(state)["matrix"].tolist() == [[odd, 0], [2 * odd + 2, 0]]
    state = metric.merge(state, state)
    assert metrics.exact_sums(state)["matrix"].tolist() == [[2 * odd, 0], [4 * odd + 4, 0]]
    for wrong in ({}, {"matrix": 1}, None, 3):
        with pytest.raises(TypeError, match="state must be that of a streaming metric"):
            metrics.exact_sums(wrong)


def test_labels_that_are_no_class():
    outputs = jnp.eye(3)
    kappa, rate = metrics.cohen_kappa(3), metrics.f1(classes=3, average="macro")
    for metric in (kappa, rate, metrics.balanced_accuracy(3), metrics.matthews_corrcoef(3)):
        with pytest.raises(ValueError, match=r"labels must be in \[0, 3\)"):
            metric.update(metric.init(), outputs, np.array([0, 1, 3]))
        with pytest.raises(ValueError, match=r"needs outputs \(…, 3\), got \(3, 2\)"):
            metric.update(metric.init(), outputs[:, :2], np.array([0, 1, 1]))
    import jax

    count = jax.jit(lambda y: [m.compute(m.update(m.init(), outputs, y)) for m in (kappa, rate)])
    assert np.isnan(count(jnp.array([0, 1, -1]))).all()
    assert np.isnan(count(jnp.array([0, 1, 3]))).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average": "macro"}, "average='macro' is over classes or labels"),
        ({"classes": 3, "average": "binary"}, "average must be None, 'micro', 'macro' or 'weighted'"),
        ({"classes": 3, "class_id": 1}, "f1 is of one of class_id, classes and labels"),
        ({"classes": 1}, "classes must be at least 2, got 1"),
        ({"classes": 3, "threshold": 2.0}, r"threshold must be in \[0, 1\], got 2.0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        metrics.f1(**options)
