"""Scores of probabilities against constructed cases and scikit-learn."""

import jax
import numpy as np
import pytest
from helpers.samples import KEY, constructed

import jaxdeep as jd


@pytest.mark.heavy
def test_calibration_of_a_constructed_case():
    p, y = constructed()
    found = jd.uncertainty.reliability(p, y, bins=10)
    np.testing.assert_array_equal(found.count, [0, 0, 0, 0, 0, 60, 0, 0, 0, 40])
    np.testing.assert_allclose(np.asarray(found.accuracy)[[5, 9]], [0.5, 0.9], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(found.confidence)[[5, 9]], [0.55, 0.95], rtol=1e-6)
    assert np.isnan(np.asarray(found.accuracy)[:5]).all()
    np.testing.assert_allclose(found.edges, np.linspace(0, 1, 11), rtol=1e-6)
    assert float(jd.uncertainty.expected_calibration_error(p, y, bins=10)) == pytest.approx(
        0.05, abs=1e-6
    )
    one_bin = 0.6 * 0.55 + 0.4 * 0.95 - 0.66
    assert float(jd.uncertainty.expected_calibration_error(p, y, bins=1)) == pytest.approx(
        one_bin, abs=1e-6
    )
    p[:, :] = np.where(p == p.max(1, keepdims=True), 1, 0)  # all sure: 34 of 100 are wrong
    assert float(jd.uncertainty.maximum_calibration_error(p, y)) == pytest.approx(0.34, abs=1e-6)
    assert float(jd.uncertainty.expected_calibration_error(p, y)) == pytest.approx(0.34, abs=1e-6)
    assert float(jd.uncertainty.brier_score(p, y)) == pytest.approx(0.68, abs=1e-6)
    assert float(jd.uncertainty.negative_log_likelihood(p, y)) == np.inf


@pytest.mark.heavy
def test_the_largest_gap_is_that_of_a_bin():
    p = np.array([[0.8, 0.2]] * 10 + [[0.6, 0.4]] * 30, np.float32)
    y = np.array([0] * 2 + [1] * 8 + [0] * 18 + [1] * 12)  # gaps 0.6 and 0
    assert float(jd.uncertainty.maximum_calibration_error(p, y)) == pytest.approx(0.6, abs=1e-6)
    assert float(jd.uncertainty.expected_calibration_error(p, y)) == pytest.approx(0.15, abs=1e-6)


def test_edges_belong_to_the_bin_below_and_quantiles_are_even():
    p = np.array([[0.5, 0.5], [1.0, 0.0], [0.75, 0.25], [0.75, 0.25]], np.float32)
    counts = jd.uncertainty.reliability(p, np.zeros(4, int), bins=4).count
    np.testing.assert_array_equal(counts, [0, 1, 2, 1])
    first = np.linspace(0.5, 0.99, 1000, dtype=np.float32)
    p = np.stack([first, 1 - first], axis=1)
    found = jd.uncertainty.reliability(p, np.zeros(1000, int), bins=8, strategy="quantile")
    np.testing.assert_array_equal(found.count, [125] * 8)


@pytest.mark.parametrize("bins", [3, 10, 25, 49, 50, 100])
def test_each_edge_is_the_number_that_it_is(bins):
    k = np.arange(bins // 2 + 1, bins + 1)  # of the bins above ½
    first = (k / bins).astype(np.float32)
    found = jd.uncertainty.reliability(np.stack([first, 1 - first], 1), np.zeros(len(k), int), bins=bins)
    np.testing.assert_array_equal(found.edges, (np.arange(bins + 1) / bins).astype(np.float32))
    np.testing.assert_array_equal(found.count, np.bincount(k - 1, minlength=bins))


@pytest.mark.heavy
def test_scores_are_those_of_scikit_learn():
    from sklearn import metrics

    p = np.random.default_rng(0).dirichlet(np.ones(4), 200)
    y = np.asarray(jax.random.randint(KEY, (200,), 0, 4))
    expected = metrics.log_loss(y, p, labels=range(4))
    assert float(jd.uncertainty.negative_log_likelihood(p, y)) == pytest.approx(expected, rel=1e-5)
    expected = np.mean(((p - np.eye(4)[y]) ** 2).sum(1))
    assert float(jd.uncertainty.brier_score(p, y)) == pytest.approx(expected, rel=1e-5)
    one, two = p[:, 0] / (p[:, 0] + p[:, 1]), y % 2
    for form in (one, one[:, None], np.stack([1 - one, one], axis=1)):
        found = float(jd.uncertainty.brier_score(form, two))
        assert found == pytest.approx(2 * metrics.brier_score_loss(two, one), rel=1e-5)
        found = float(jd.uncertainty.negative_log_likelihood(form, two))
        assert found == pytest.approx(metrics.log_loss(two, one), rel=1e-5)
        found = float(jd.uncertainty.expected_calibration_error(form, two))
        sure = np.maximum(one, 1 - one)
        place, right = np.ceil(sure * 15).astype(int) - 1, (one > 0.5) == two
        gaps = [abs((right - sure)[place == b].sum()) for b in range(15)]
        assert found == pytest.approx(sum(gaps) / 200, rel=1e-4)


@pytest.mark.heavy
def test_soft_and_one_hot_labels():
    p, y = constructed()
    hot = np.eye(3, dtype=np.float32)[y]
    for name in ("brier_score", "negative_log_likelihood", "expected_calibration_error"):
        function = getattr(jd.uncertainty, name)
        np.testing.assert_allclose(function(p, hot), function(p, y), rtol=1e-6)
    soft = jax.nn.softmax(jax.random.normal(KEY, (100, 3)))
    expected = -(np.asarray(soft) * np.log(p)).sum(1).mean()
    assert float(jd.uncertainty.negative_log_likelihood(p, soft)) == pytest.approx(expected, rel=1e-5)
    assert float(jd.uncertainty.negative_log_likelihood(np.eye(3)[:1], np.eye(3)[:1])) == 0
    images = p.reshape(10, 10, 3), y.reshape(10, 10)
    assert float(jd.uncertainty.brier_score(*images)) == pytest.approx(
        float(jd.uncertainty.brier_score(p, y)), rel=1e-6
    )


@pytest.mark.heavy
def test_scores_are_compiled_and_vmapped():
    p, y = constructed()
    for name in (
        "expected_calibration_error",
        "brier_score",
        "negative_log_likelihood",
        "rejection_curve",
    ):
        function = getattr(jd.uncertainty, name)
        for found in (jax.jit(function)(p, y), jax.vmap(function)(p[None], y[None])):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(np.squeeze(a), b, rtol=1e-5),
                found,
                function(p, y),
            )


@pytest.mark.heavy
def test_logits_are_said_to_be_logits():
    z = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    y = np.arange(40) % 3
    p, u = jax.nn.softmax(z), jd.uncertainty
    for function in (
        u.expected_calibration_error,
        u.maximum_calibration_error,
        u.brier_score,
        u.negative_log_likelihood,
        u.rejection_curve,
        u.reliability,
    ):
        found, expected = function(z, y, from_logits=True), function(p, y)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)
        with pytest.raises(ValueError, match="say from_logits=True of logits"):
            function(z, y)
        with pytest.raises(ValueError, match=r"must sum to 1 over the classes .* got a sum of 1\.2"):
            function(np.full((2, 3), 0.4), y[:2])  # sigmoids of labels that are not exclusive
    one = z[:, 0]
    both = np.stack([np.zeros(40), one], axis=1)
    for form in (one, one[:, None]):
        found = u.brier_score(form, y % 2, from_logits=True)
        np.testing.assert_allclose(found, u.brier_score(jax.nn.softmax(both), y % 2), rtol=1e-5)
    sure = np.array([[200.0, 0.0]], np.float32)  # of which the probability of class 1 is 0
    assert float(u.negative_log_likelihood(sure, np.array([1]), from_logits=True)) == pytest.approx(200)
    half = jax.nn.softmax(z).astype("bfloat16")
    assert float(u.brier_score(half, y)) == pytest.approx(float(u.brier_score(p, y)), rel=1e-2)
    with pytest.raises(ValueError, match="labels of the shape of the outputs are probabilities"):
        u.brier_score(p, np.ones((40, 3)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda u: u.brier_score(np.array([[2.0, -1.0]]), np.array([0])),
            r"probabilities must be in \[0, 1\]",
        ),
        (lambda u: u.brier_score(np.full((2, 2), 0.5), np.array([0])), "labels must have shape"),
        (lambda u: u.brier_score(np.full((2, 2), 0.5), np.array([0, 2])), r"labels must be in \[0, 2\)"),
        (
            lambda u: u.brier_score(np.full(3, 0.5), np.array([0, 1])),
            "one label is needed for each of 3",
        ),
        (lambda u: u.brier_score(np.zeros((0, 2)), np.zeros(0, int)), "there are no probabilities"),
        (
            lambda u: u.reliability(np.full((2, 2), 0.5), np.array([0, 1]), bins=0),
            "bins must be at least 1",
        ),
        (
            lambda u: u.reliability(np.full((2, 2), 0.5), np.array([0, 1]), strategy="even"),
            "strategy must be 'uniform' or 'quantile', got 'even'",
        ),
        (lambda u: u.temperature_scale(np.ones(2), 0.0), "temperature must be in"),
        (lambda u: u.fit_temperature(np.ones((2, 3)), np.array([0, 3])), r"labels must be in \[0, 3\)"),
        (
            lambda u: u.rejection_curve(np.full((2, 2), 0.5), np.array([0, 1]), np.ones(3)),
            "uncertainty must be one number for each of 2 predictions",
        ),
    ],
)
def test_scores_that_make_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call(jd.uncertainty)


CALIBRATION = ("negative_log_likelihood", "brier_score", "expected_calibration_error")


@pytest.mark.heavy
@pytest.mark.parametrize("name", CALIBRATION)
def test_labels_that_are_no_class(name):
    """A traced one gives NaN, as with the losses; a known one is refused, NaN too."""
    function, p = getattr(jd.uncertainty, name), np.array([[0.5, 0.5], [0.25, 0.75]], np.float32)
    for labels in (np.array([-1, 1]), np.array([0, 2]), np.array([[np.nan, 1], [0, 1]])):
        assert np.isnan(jax.jit(function)(p, labels))
        with pytest.raises(ValueError, match="labels must be"):
            function(p, labels)
    for from_logits in (False, True):
        one = jax.jit(lambda p, y, logits=from_logits: function(p, y, from_logits=logits))
        assert np.isnan(one(p[:, 0], np.array([0, -1])))
        assert np.isfinite(one(p[:, 0], np.array([0, 1])))
    with pytest.raises(ValueError, match="labels must be numbers, got nan"):
        function(p[:, 0], np.array([0, np.nan]))
    expected = function(p, np.array([0, 1]))
    for labels in (np.array([[0], [1]]), np.array([[0], [1]], np.uint8)):
        assert function(p, labels) == expected  # as the losses take them
        assert jax.jit(function)(p, labels) == pytest.approx(expected)


def test_rows_that_nobody_can_judge_are_not_called_right_or_wrong():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], np.float32)
    diagram = jax.jit(lambda p, y: jd.uncertainty.reliability(p, y, bins=10))(p, np.array([0, -1, 1]))
    np.testing.assert_array_equal(np.asarray(diagram.accuracy)[[5, 7, 8]], [1, np.nan, 1])
    np.testing.assert_array_equal(np.asarray(diagram.count)[[5, 7, 8]], 1)
    curve = jax.jit(jd.uncertainty.rejection_curve)(p, np.array([0, 1, -1]))
    np.testing.assert_allclose(curve.accuracy, [np.nan, 0.5, 1])  # the unknown one is rejected first


@pytest.mark.heavy
def test_more_than_2_to_the_24_predictions_are_counted():
    rows = 2**24 + 1000
    p = np.broadcast_to(np.float32([0.75, 0.25]), (rows, 2))
    found = jax.jit(lambda p, y: jd.uncertainty.reliability(p, y, bins=2))(p, np.zeros(rows, np.int8))
    assert int(found.count[1]) == rows
    assert found.accuracy[1] == 1
    assert found.confidence[1] == 0.75


def test_sums_of_bins_over_many_rows_are_as_in_float64():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 200_000).astype(np.float32)
    y = (rng.random(len(p)) < p).astype(int)
    found = jd.uncertainty.reliability(p, y, bins=4)
    place = np.ceil(p.astype(np.float64) * 4).astype(int) - 1
    for b in (2, 3):
        inside = place == b
        assert int(found.count[b]) == inside.sum()
        expected = p[inside].mean(dtype=np.float64)
        np.testing.assert_allclose(found.confidence[b], expected, rtol=1e-5)
        np.testing.assert_allclose(found.accuracy[b], y[inside].mean(), rtol=1e-6)


def test_one_logit_of_infinity_is_certain():
    logits = np.array([[np.inf, 0.0, 1.0], [0.0, 1.0, np.inf]], np.float32)
    likelihood, brier = jd.uncertainty.negative_log_likelihood, jd.uncertainty.brier_score
    calibration = jd.uncertainty.expected_calibration_error
    for labels, expected in ((np.array([0, 2]), [0, 0, 0]), (np.array([1, 0]), [np.inf, 2, 1])):
        found = [float(f(logits, labels, from_logits=True)) for f in (likelihood, brier, calibration)]
        assert found == expected
    single = np.array([np.inf, -np.inf], np.float32)
    assert float(likelihood(single, np.array([1, 0]), from_logits=True)) == 0


@pytest.mark.few(1)
@pytest.mark.parametrize("rows", [10**4, 10**6])
def test_mean_confidences_do_not_drift_with_the_rows(rows):
    p = np.random.default_rng(rows).random(rows).astype(np.float32)
    found = jd.uncertainty.reliability(p, np.ones(rows, np.int32), bins=4)
    confidence = np.maximum(p, np.float32(1) - p).astype(np.float64)
    place = np.clip(np.ceil(confidence * 4).astype(int) - 1, 0, 3)
    count = np.bincount(place, minlength=4)
    np.testing.assert_array_equal(found.count, count)
    expected = np.bincount(place, confidence, 4)[2:] / count[2:]
    np.testing.assert_allclose(found.confidence[2:], expected, rtol=2e-7)


def test_slopes_of_the_likelihood_at_certain_probabilities_are_finite():
    def nll(p):
        return jd.uncertainty.negative_log_likelihood(p, np.array([0, 1]))

    slopes = jax.grad(nll)(np.eye(2, dtype=np.float32))
    np.testing.assert_array_equal(slopes, [[-0.5, 0], [0, -0.5]])
    with jax.debug_nans(True):
        assert nll(np.eye(2, dtype=np.float32)) == 0


def test_the_slope_of_the_calibration_error_is_that_of_the_mean_confidence():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], np.float32)
    labels = np.array([0, 1, 1])
    slopes = jax.grad(lambda p: jd.uncertainty.expected_calibration_error(p, labels, bins=1))(p)
    # |accuracy − mean confidence| of one bin: 2/3 below 0.8
    np.testing.assert_allclose(slopes, [[1 / 3, 0], [1 / 3, 0], [0, 1 / 3]], rtol=1e-5)
