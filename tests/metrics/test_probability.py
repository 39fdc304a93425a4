import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.properties import over
from helpers.streamed import ROWS, TABLES, streamed, values_of, weights_of

from jaxdeep import metrics

CLASSES = 3


def table(seed, kind, weighted):
    rng = np.random.default_rng(seed)
    p = rng.random((ROWS, CLASSES)) ** 2
    labels = rng.integers(0, 1 if kind == "one class" else CLASSES, ROWS)
    if kind in ("right", "wrong"):  # and certain, which would cost ∞
        p = np.eye(CLASSES)[(labels + (kind == "wrong")) % CLASSES]
    p = (p / p.sum(-1, keepdims=True)).astype(np.float32)
    return p, labels, weights_of(rng, kind, weighted)


@over(3, 200, **TABLES)
def test_of_classes_they_are_those_of_scikit_learn(seed, kind, cut, weighted):
    from sklearn import metrics as sk

    p, labels, weights = table(seed, kind, weighted)
    rows = weights > 0
    more = {"sample_weight": weights[rows], "labels": range(CLASSES)}
    expected = sk.log_loss(labels[rows], y_proba=p[rows], **more)
    for found in values_of(metrics.log_loss)(p, labels, weights, cut):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for scale in ("auto", True):
        expected = sk.brier_score_loss(labels[rows], p[rows], scale_by_half=scale, **more)
        for found in values_of(metrics.brier, scale_by_half=scale)(p, labels, weights, cut):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@over(3, 200, **TABLES)
def test_of_one_output_they_are_those_of_scikit_learn(seed, kind, cut, weighted):
    from sklearn import metrics as sk

    p, labels, weights = table(seed, kind, weighted)
    p, labels = p[:, 0], labels % 2
    rows = weights > 0
    expected = sk.log_loss(labels[rows], y_proba=p[rows], sample_weight=weights[rows], labels=[0, 1])
    for found in values_of(metrics.log_loss)(p, labels, weights, cut):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    expected = np.average((p - labels)[rows].astype(float) ** 2, weights=weights[rows])
    for found in values_of(metrics.brier)(p, labels, weights, cut):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_soft_labels_and_certain_logits():
    p, soft = np.array([[0.5, 0.25, 0.25]]), np.array([[0.2, 0.3, 0.5]])
    np.testing.assert_allclose(
        streamed(metrics.log_loss(), (p, soft)), -(soft * np.log(p)).sum(), rtol=1e-6
    )
    logits = jnp.array([[0.0, -jnp.inf]])
    assert streamed(metrics.log_loss(from_logits=True), (logits, jnp.array([0]))) == 0
    assert streamed(metrics.log_loss(from_logits=True), (logits, jnp.array([1]))) == np.inf
    wrong = streamed(metrics.log_loss(), (jnp.array([[1.0, 0.0]]), jnp.array([1])))
    np.testing.assert_allclose(wrong, -np.log(np.finfo(np.float32).eps), rtol=1e-6)


def test_what_is_no_probability_and_no_label():
    for metric in (metrics.log_loss(), metrics.brier()):
        with pytest.raises(ValueError, match=r"outputs .* must be in \[0, 1\], got 2.0"):
            streamed(metric, (np.array([2.0, 0.1]), np.array([0, 1])))
        with pytest.raises(ValueError, match=r"must sum to 1 over the classes.* got a sum of 0.6"):
            streamed(metric, (np.array([[0.3, 0.3]]), np.array([0])))
        with pytest.raises(ValueError, match="single output needs one label each"):
            streamed(metric, (np.array([0.3, 0.3]), np.array([0])))
        value = jax.jit(lambda p, y, m=metric: m.compute(m.update(m.init(), p, y)))
        assert np.isnan(value(np.array([[0.5, 0.5]]), np.array([-1])))
        assert np.isnan(value(np.array([[np.nan, 1.0]]), np.array([1])))
    with pytest.raises(ValueError, match="scale_by_half must be True, False or 'auto'"):
        metrics.brier(scale_by_half="half")


@pytest.mark.heavy
def test_one_logit_of_infinity_is_certain():
    logits = jnp.array([[jnp.inf, 0.0, -jnp.inf], [0.0, jnp.inf, 1.0]])
    for labels in (jnp.array([0, 1]), jnp.eye(3)[jnp.array([0, 1])]):
        assert [value_of(m, logits, labels) for m in (metrics.log_loss, metrics.brier)] == [0, 0]
    wrong = jnp.array([1, 0])
    assert [value_of(m, logits, wrong) for m in (metrics.log_loss, metrics.brier)] == [np.inf, 2]
    # which one of two would win is not known
    two = jnp.array([[jnp.inf, jnp.inf, 0.0]])
    assert np.isnan([value_of(m, two, wrong[:1]) for m in (metrics.log_loss, metrics.brier)]).all()


def value_of(metric, logits, labels):
    metric = metric(from_logits=True)
    return float(metric.compute(metric.update(metric.init(), logits, labels)))


@pytest.mark.parametrize("metric", [metrics.brier, metrics.log_loss])
def test_single_outputs_and_labels_in_columns_or_not(metric):
    outputs, labels, one = np.array([0.9, 0.2, 0.7]), np.array([1, 0, 0]), metric(from_logits=False)
    found = {
        float(one.compute(one.update(one.init(), o, y)))
        for o in (outputs, outputs[:, None])
        for y in (labels, labels[:, None])
    }
    assert len(found) == 1
