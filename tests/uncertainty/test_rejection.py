"""Which examples to leave to others."""

import jax
import numpy as np
import pytest
from helpers.samples import constructed

import jaxdeep as jd


def test_rejection_of_a_constructed_case():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]], np.float32)
    curve = jd.uncertainty.rejection_curve(p, np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(curve.rejected, [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(curve.accuracy, [0.5, 2 / 3, 1, 1], rtol=1e-6)
    backwards = jd.uncertainty.rejection_curve(p, np.array([0, 0, 1, 1]), np.array([4.0, 3.0, 2.0, 1.0]))
    np.testing.assert_allclose(backwards.accuracy, [0.5, 1 / 3, 0, 0], rtol=1e-6)
    level = jd.uncertainty.rejection_curve(p, np.array([0, 0, 1, 1]), np.zeros(4))
    np.testing.assert_allclose(level.accuracy, [0.5] * 4, rtol=1e-6)


def test_ties_are_what_is_to_be_expected():
    rng = np.random.default_rng(0)
    right, uncertain = rng.random(12) < 0.5, rng.integers(0, 4, 12)
    p = np.full((12, 2), [0.6, 0.4], np.float32)
    curve = jd.uncertainty.rejection_curve(p, (~right).astype(int), uncertain)
    drawn = []
    for _ in range(4000):
        order = np.lexsort((rng.random(12), uncertain))
        drawn.append((np.cumsum(right[order]) / np.arange(1, 13))[::-1])
    np.testing.assert_allclose(curve.accuracy, np.mean(drawn, 0), atol=0.03)


def test_the_plot_of_reliability():
    from jaxdeep import plotting

    p, y = constructed()
    found = jd.uncertainty.reliability(p, y, bins=10)
    figure = plotting.reliability({"network": found, "again": found}, title="calibration")
    lines = figure.axes[0].lines
    np.testing.assert_allclose(lines[1].get_xdata(), [0.55, 0.95], rtol=1e-6)
    np.testing.assert_allclose(lines[1].get_ydata(), [0.5, 0.9], rtol=1e-6)
    assert lines[1].get_label() == "network (calibration error 0.050)"


def test_an_uncertainty_that_is_no_number_is_refused():
    p, y = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]), np.array([0, 0, 1])
    curve = jd.uncertainty.rejection_curve
    with pytest.raises(ValueError, match="uncertainty must be numbers, got nan in row 1"):
        curve(p, y, np.array([1.0, np.nan, 2.0]))
    traced = jax.jit(curve)(p, y, np.array([1.0, np.nan, 2.0]))
    np.testing.assert_allclose(traced.accuracy, [np.nan, 0.5, 1])  # rejected first, as the largest
    broken = np.where([[False], [True], [False]], np.nan, p)
    np.testing.assert_allclose(curve(broken, y, np.array([1.0, np.nan, 2.0])).accuracy, [np.nan, 0.5, 1])


def test_uncertainties_are_ranked_in_their_own_precision():
    p, y = np.tile([0.9, 0.1], (3, 1)), np.array([1, 0, 1])
    for base in (1e9, 2**60):
        uncertain = base + np.arange(3)[::-1] * (1 if isinstance(base, int) else 1.0)
        found = jd.uncertainty.rejection_curve(p, y, uncertain)
        np.testing.assert_allclose(found.accuracy, [1 / 3, 1 / 2, 0], rtol=1e-6)
