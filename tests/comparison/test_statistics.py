"""Tests of jaxdeep.comparison.statistics, against scipy, closed forms and coverage."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from jaxdeep.comparison import (
    bca_interval,
    holm,
    paired_t_test,
    seeds_needed,
    sign_flip_test,
    superiority,
    t_interval,
)
from jaxdeep.comparison.pairs import pairs_of
from jaxdeep.comparison.targets import _arrival

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=9).map(np.array)


@given(VALUES)
def test_t_interval_is_that_of_scipy(values):
    assume(np.ptp(values) > 1e-6)
    expected = stats.t.interval(0.9, len(values) - 1, values.mean(), stats.sem(values))
    np.testing.assert_allclose(t_interval(values, level=0.9), expected, rtol=1e-9, atol=1e-9)


@given(VALUES)
def test_sign_flips_are_all_tried(differences):
    assume(np.abs(differences).max() > 1e-3)  # below that, what is as large is a matter of rounding
    signs = np.array(list(itertools.product([-1, 1], repeat=len(differences))))
    sums = np.abs(signs @ differences)
    expected = np.mean(sums >= abs(differences.sum()) - 1e-9)
    np.testing.assert_allclose(sign_flip_test(differences), expected, atol=1e-12)


@pytest.mark.parametrize(("n", "p"), [(3, 0.25), (5, 0.0625), (6, 2 / 64), (8, 2 / 256), (10, 2 / 1024)])
def test_the_smallest_p_of_sign_flips(n, p):
    assert sign_flip_test(np.full(n, 0.1)) == p
    assert sign_flip_test(-np.arange(1.0, n + 1)) == p


def test_drawn_sign_flips_agree_with_those_of_scipy():
    differences = np.random.default_rng(0).normal(0.4, 1.0, 20)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=99_999, rng=1
    ).pvalue
    assert abs(sign_flip_test(differences) - expected) < 0.01
    assert sign_flip_test(differences) == sign_flip_test(differences)


@given(VALUES)
def test_the_paired_t_test_is_that_of_scipy(differences):
    assume(np.ptp(differences) > 1e-6)
    expected = stats.ttest_1samp(differences, 0).pvalue
    np.testing.assert_allclose(paired_t_test(differences), expected, rtol=1e-6)


def test_sign_flips_of_accuracies_in_float32_are_those_of_their_counts():
    a, b = (
        np.array([36, 37, 36, 37, 37, 36, 36, 35, 36, 37]),
        np.array([36, 34, 36, 37, 33, 36, 35, 36, 36, 36]),
    )
    values = {name: np.float32(counts / 40).astype(float) for name, counts in (("a", a), ("b", b))}
    (pair,) = pairs_of(values, "max", 0.95)
    assert pair.p == sign_flip_test(a - b) == 0.25
    rng = np.random.default_rng(0)
    for rows in (40, 270, 360, 1000, 10_000):
        for _ in range(20):
            a, b = rng.binomial(rows, 0.9, (2, 9))
            values = {name: np.float32(c / rows).astype(float) for name, c in (("a", a), ("b", b))}
            assert pairs_of(values, "max", 0.95)[0].p == sign_flip_test(a - b)


def test_a_target_that_is_reached_to_the_digit_is_reached():
    history = np.float32([0.5, 0.7, 0.9]).astype(float)
    for target, epoch in ((0.7, 2), (0.9, 3), (0.91, np.inf), (0.1, 1)):
        assert _arrival(target, 1, [(history, 1.0)]).epochs_by_seed[0] == epoch
    losses = np.float32([0.9, 0.7, 0.1]).astype(float)
    assert [_arrival(target, -1, [(losses, 1.0)]).epochs_by_seed[0] for target in (0.7, 0.1)] == [2, 3]


def test_equal_differences():
    assert paired_t_test([0.5, 0.5]) == 0.0
    assert paired_t_test([0.0, 0.0]) == sign_flip_test([0.0, 0.0]) == 1.0
    assert t_interval([0.5] * 3) == bca_interval([0.5] * 3) == (0.5, 0.5)


def test_holm_of_the_textbook():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_monotone_and_between_p_and_bonferroni(p):
    adjusted = holm(p)
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all() or len(p) > 1
    assert adjusted.max() <= 1
    assert adjusted[order[0]] == min(1, len(p) * min(p))


@given(VALUES, VALUES)
def test_superiority_is_the_mann_whitney_statistic(a, b):
    expected = stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))
    np.testing.assert_allclose(superiority(a, b), expected)
    np.testing.assert_allclose(superiority(a, b, "min"), 1 - expected)


def test_seeds_that_are_needed():
    # of the usual tables: δ = s takes (1.96 + 0.8416)² = 7.85 pairs
    assert seeds_needed(1.0, 1.0) == np.ceil(7.849 + 2)
    assert seeds_needed(1.0, 0.5) == np.ceil(4 * 7.849 + 2)
    assert seeds_needed(1.0, 0.0) == np.inf
    assert seeds_needed(1.0, 1e-8) == pytest.approx(7.849e16, rel=1e-4)
    assert seeds_needed(1e-300, 1e-308) == pytest.approx(7.849e16, rel=1e-4)
    assert seeds_needed(1.0, 1e-200) == np.inf  # 7.8e400
    assert seeds_needed(1.0, 1.0, level=0.1, power=0.1) == 2
    assert seeds_needed(0.0, 0.1) == 2


def test_bca_of_many_normal_values_is_near_that_of_t():
    values = np.random.default_rng(3).normal(size=400)
    np.testing.assert_allclose(bca_interval(values), t_interval(values), atol=0.01)
    assert bca_interval(values) == bca_interval(values)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: t_interval([1.0]), "values must be two numbers"),
        (lambda: t_interval([1.0, np.nan]), "values must be finite"),
        (lambda: t_interval([1.0, 2.0], level=1.0), "level"),
        (lambda: holm([0.5, 1.5]), "p_values must be in"),
        (lambda: superiority([1.0], [2.0], "best"), "mode"),
        (lambda: superiority([], [2.0]), "a must be one number"),
        (lambda: seeds_needed(-1.0, 1.0), "deviation"),
        (lambda: sign_flip_test(np.ones((2, 2))), "differences"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.heavy
def test_intervals_cover_what_they_promise():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(1_000, 10))
    inside = [low <= 0 <= high for low, high in map(t_interval, draws)]
    assert 0.93 <= np.mean(inside) <= 0.97
