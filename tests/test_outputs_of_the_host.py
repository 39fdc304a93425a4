"""Outputs of the host that float32 cannot tell apart: right, or refused."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import jaxdeep as jd

SMALL = np.array([[0.0, 1.0, -1.0], [2.0, 0.5, 0.0], [-3.0, 0.0, 0.25]])
LABELS = np.array([0, 0, 1])
BASES = (1.7e9, 1_700_000_000, -1.7e9)


def far(base):
    """The scores less their integers' fractions, far from 0, of numbers that are whole."""
    return base + (4 * SMALL).astype(int if isinstance(base, int) else float)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    "loss",
    [
        jd.losses.softmax_cross_entropy,
        functools.partial(jd.losses.softmax_cross_entropy, label_smoothing=0.1),
        jd.losses.softmax_focal,
        jd.losses.multiclass_hinge,
    ],
)
def test_losses_of_classes_that_depend_on_differences_have_them(loss, base):
    expected = loss(jnp.asarray(4 * SMALL, jnp.float32), LABELS)
    np.testing.assert_allclose(loss(far(base), LABELS), expected, rtol=1e-5, atol=1e-6)  # roundings at 8


def test_a_logit_beside_a_large_one_is_kept():
    logits = np.array([[0.0, 1.7e9, 1.7e9 + 1]])
    np.testing.assert_allclose(
        jd.losses.softmax_cross_entropy(logits, np.array([2])), [np.log1p(np.exp(-1))], rtol=1e-5
    )
    certain = np.array([[1.7e9, np.inf], [-np.inf, 1.7e9]])
    found = jd.losses.softmax_cross_entropy(certain, np.array([1, 0]))
    np.testing.assert_array_equal(found, [0, np.inf])
    y = np.array([[0.25, 0.25, 0.5]])
    kl = jd.losses.kl_divergence
    np.testing.assert_allclose(kl(1.7e9 + 4 * SMALL[:1], y), kl(4 * SMALL[:1], y), rtol=1e-5)


@pytest.mark.parametrize("base", BASES)
def test_a_hinge_with_a_zero_of_its_own_is_refused(base):
    with pytest.raises(ValueError, match=r"outputs holds numbers from .* float32 cannot tell"):
        jd.losses.categorical_hinge(far(base), LABELS)
    np.testing.assert_allclose(jd.losses.categorical_hinge(4 * SMALL, LABELS), [5, 0, 2])


@pytest.mark.few(3)
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    "metric",
    [
        jd.metrics.confusion_matrix(3),
        jd.metrics.cohen_kappa(3),
        jd.metrics.matthews_corrcoef(3),
        jd.metrics.precision(class_id=0),
        jd.metrics.log_loss(from_logits=True),
        jd.metrics.brier(from_logits=True),
    ],
)
def test_metrics_of_classes_are_those_of_the_differences(metric, base):
    def value(outputs):
        return metric.compute(metric.update(metric.init(), outputs, LABELS))

    np.testing.assert_allclose(value(far(base)), value(4 * SMALL.astype(np.float32)), rtol=1e-5)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    "name", ["negative_log_likelihood", "brier_score", "expected_calibration_error"]
)
def test_scores_of_uncertainty_are_those_of_the_differences(name, base):
    function = functools.partial(getattr(jd.uncertainty, name), from_logits=True)
    expected = function(jnp.asarray(4 * SMALL, jnp.float32), LABELS)
    np.testing.assert_allclose(function(far(base), LABELS), expected, rtol=1e-5)


def test_probabilities_are_compared_with_thresholds_in_their_own_precision():
    p, y = np.array([0.5 + 1e-12, 0.5 - 1e-12, 0.5, 0.3 + 1e-10]), np.array([1, 0, 0, 0])
    assert jd.metrics.binary_accuracy(p, y, from_logits=False).tolist() == [1, 1, 1, 1]
    assert jd.metrics.binary_accuracy(p, y, threshold=0.3, from_logits=False).tolist() == [1, 0, 0, 0]
    for metric in (jd.metrics.precision(from_logits=False), jd.metrics.recall(from_logits=False)):
        assert float(metric.compute(metric.update(metric.init(), p, y))) == 1
    matrix = jd.metrics.confusion_matrix(2, from_logits=False)
    assert matrix.compute(matrix.update(matrix.init(), p, y)).tolist() == [[3, 0], [0, 1]]
