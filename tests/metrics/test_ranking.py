"""Average precision; the area under the ROC curve is in test_losses_metrics_contract.py."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from helpers.properties import over
from helpers.streamed import ROWS, TABLES, streamed, values_of, weights_of

from jaxdeep import metrics

exactly = jax.jit(metrics.average_precision_score)


@over(3, 200, heavy=True, **TABLES)
def test_average_precision_is_that_of_scikit_learn(seed, kind, cut, weighted):
    """With ties, and scores that fall into bins of their own."""
    from sklearn import metrics as sk

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 1 if kind == "one class" else 2, ROWS)
    scores = (rng.integers(1, 10, ROWS) / 10).astype(np.float32)
    if kind in ("right", "wrong"):
        scores = np.where(labels == (kind == "right"), np.float32(0.9), np.float32(0.1))
    scores = scores * 0 + np.float32(0.5) if kind == "constant" else scores
    weights = weights_of(rng, kind, weighted)
    rows = weights > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no positives
        expected = sk.average_precision_score(labels[rows], scores[rows], sample_weight=weights[rows])
    found = [exactly(scores, labels, weights)]
    found += values_of(metrics.average_precision)(scores, labels, weights, cut)
    np.testing.assert_allclose(found, np.full(4, expected), rtol=1e-5, atol=1e-6)


@pytest.mark.heavy
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize(("location", "scale"), [(0, 1), (-7, 1), (1000, 1), (0, 60), (0, 1e-4)])
def test_average_precision_of_batches_is_near_the_exact_one(share, location, scale):
    from sklearn import metrics as sk

    rng = np.random.default_rng(0)
    y = (np.arange(3000) % round(1 / share) == 0).astype(int)
    for apart in (0.5, 2.0):
        logits = (location + scale * (rng.normal(size=3000) + apart * y)).astype(np.float32)
        metric = metrics.average_precision(from_logits=True)
        found = streamed(metric, (logits[:1000], y[:1000]), (logits[1000:], y[1000:]))
        np.testing.assert_allclose(found, sk.average_precision_score(y, logits), atol=0.01)


@pytest.mark.heavy
def test_average_precision_where_it_is_none():
    scores, labels = jnp.array([0.1, jnp.nan, 0.3]), jnp.array([0, 1, 1])
    assert np.isnan(metrics.average_precision_score(scores, labels))
    assert np.isnan(streamed(metrics.average_precision(), (scores, labels)))
    assert metrics.average_precision_score(scores[::2], jnp.zeros(2, int)) == 0
    with pytest.raises(ValueError, match="needs one output for each label"):
        metrics.average_precision_score(scores, jnp.zeros((3, 2)))
    big = 1 - np.array([4e-9, 3e-9, 2e-9, 1e-9])  # which float32 cannot tell apart
    found = metrics.average_precision_score(big, np.array([0, 1, 0, 1]))
    assert float(found) == pytest.approx(5 / 6)


@pytest.mark.heavy
@pytest.mark.few(1)
@pytest.mark.parametrize("make", [metrics.auc, metrics.average_precision])
def test_no_infinity_comes_in_between(make):
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(20), [0, 1, 0, 1]]).astype(np.float32)
    y = (rng.random(24) < 0.5).astype(np.int32)
    logits = (p * 8 - 4).astype(np.float32)

    def value(metric, scores):
        state = metric.init()
        for part in (slice(0, 9), slice(9, 9), slice(9, 24)):
            state = metric.merge(state, metric.update(metric.init(), scores[part], y[part]))
        return float(metric.compute(state))

    for metric, scores in ((make(from_logits=False), p), (make(from_logits=True), logits)):
        expected = value(metric, scores)
        with jax.debug_infs(True):
            assert value(metric, scores) == expected
            assert float(metric.compute(jax.jit(metric.update)(metric.init(), scores, y))) > 0


@pytest.mark.heavy
def test_certain_scores_are_at_the_ends():
    y = np.array([0, 1, 1, 0, 1, 0], np.int32)
    p = np.array([0, 1, 0, 1, 0.5, 0.25], np.float32)
    with np.errstate(divide="ignore"):
        logits = np.log(p) - np.log1p(-p)
    expected = sklearn.metrics.roc_auc_score(y, p)  # ties count half
    for metric, scores in ((metrics.auc(from_logits=False), p), (metrics.auc(from_logits=True), logits)):
        found = metric.compute(metric.update(metric.init(), scores, y))
        assert float(found) == pytest.approx(expected, abs=1e-6)
