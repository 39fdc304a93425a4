"""Side by side with Keras: make test-slow."""

import os

import jax
import numpy as np
import pytest

from jaxdeep import losses, metrics

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(40, 3)).astype(np.float32)
P = np.asarray(jax.nn.softmax(SCORES))
LABELS = RNG.integers(0, 3, 40)
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
SOFT = RNG.dirichlet(np.ones(3), 40).astype(np.float32)
BITS = (RNG.random((40, 3)) < 0.4).astype(np.float32)


@pytest.fixture
def keras():
    os.environ["KERAS_BACKEND"] = "jax"
    return pytest.importorskip("keras", reason="needs the extra `bench`")


def test_losses_are_those_of_keras(keras):
    theirs = keras.losses
    sizes = np.exp(SCORES), np.exp(SCORES[::-1])
    ignored = np.where(LABELS == 1, -1, LABELS)
    for found, expected in (
        (losses.hinge(SCORES, BITS).mean(-1), theirs.hinge(BITS, SCORES)),
        (losses.hinge(SCORES, BITS, squared=True).mean(-1), theirs.squared_hinge(BITS, SCORES)),
        (losses.categorical_hinge(SCORES, LABELS), theirs.categorical_hinge(ONE_HOT, SCORES)),
        (losses.kl_divergence(P, SOFT, from_logits=False), theirs.kl_divergence(SOFT, P)),
        (losses.poisson(*sizes).mean(-1), theirs.poisson(sizes[1], sizes[0])),
        (
            losses.sigmoid_focal(SCORES, BITS).mean(-1),
            theirs.binary_focal_crossentropy(BITS, SCORES, from_logits=True),
        ),
        (
            losses.sigmoid_focal(SCORES, BITS, alpha=0.25, gamma=3.0).mean(-1),
            theirs.binary_focal_crossentropy(
                BITS, SCORES, from_logits=True, apply_class_balancing=True, gamma=3.0
            ),
        ),
        (
            losses.softmax_focal(SCORES, LABELS, alpha=0.25),
            theirs.categorical_focal_crossentropy(ONE_HOT, SCORES, from_logits=True),
        ),
        (
            100 * losses.mape(*sizes).mean(-1),
            theirs.mean_absolute_percentage_error(sizes[1], sizes[0]),
        ),
        (losses.msle(*sizes).mean(-1), theirs.mean_squared_logarithmic_error(sizes[1], sizes[0])),
        (losses.log_cosh(SCORES, BITS).mean(-1), theirs.log_cosh(BITS, SCORES)),
        (
            losses.softmax_cross_entropy(SCORES, ignored, ignore_class=-1),
            theirs.sparse_categorical_crossentropy(ignored, SCORES, from_logits=True, ignore_class=-1),
        ),
    ):
        np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-4, atol=1e-5)


def test_metrics_are_those_of_keras(keras):
    theirs = keras.metrics

    def both(ours, peer, outputs, y, labels=None):
        peer.update_state(y, outputs)
        found = ours.compute(ours.update(ours.init(), outputs, y if labels is None else labels))
        np.testing.assert_allclose(found, np.asarray(peer.result()), rtol=1e-4, atol=1e-5)

    both(metrics.rmse(multioutput="joint"), theirs.RootMeanSquaredError(), SCORES, BITS)
    both(metrics.r2(3), theirs.R2Score(), SCORES, BITS)
    weighted = theirs.R2Score(class_aggregation="variance_weighted_average")
    both(metrics.r2(3, multioutput="variance_weighted"), weighted, SCORES, BITS)
    for average in (None, "micro", "macro", "weighted"):
        both(metrics.f1(classes=3, average=average), theirs.F1Score(average), P, ONE_HOT, LABELS)
        both(metrics.f1(0.4, labels=3, average=average), theirs.F1Score(average, threshold=0.4), P, BITS)
