"""The best of k: the closed forms beside all subsets and all draws."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import jaxdeep as jd

best = jd.search.expected_best


def test_the_published_example():
    values = [0.7, 0.1, 0.9, 0.5]
    np.testing.assert_allclose(best(values, "max"), [0.55, 0.7667, 0.85, 0.9], atol=5e-5)
    np.testing.assert_allclose(
        best(values, "max", unbiased=False), [0.55, 0.7125, 0.7844, 0.8227], atol=5e-5
    )


@hypothesis.given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), st.sampled_from(["min", "max"])
)
def test_it_is_the_mean_over_all_subsets_or_all_draws(values, mode):
    pick = min if mode == "min" else max
    for k in range(1, len(values) + 1):
        subsets = [pick(some) for some in itertools.combinations(values, k)]
        np.testing.assert_allclose(best(values, mode)[k - 1], np.mean(subsets), atol=1e-9)
        if k <= 4:
            draws = [pick(some) for some in itertools.product(values, repeat=k)]
            biased = best(values, mode, unbiased=False)[k - 1]
            np.testing.assert_allclose(biased, np.mean(draws), atol=1e-9)


def test_what_diverged_is_the_worst_and_not_left_out():
    for bad in (np.nan, np.inf, -np.inf):
        np.testing.assert_array_equal(best([1.0, bad, 3.0], "min"), best([1.0, 3.0, 3.0], "min"))
        np.testing.assert_array_equal(best([1.0, bad, 3.0], "max"), best([1.0, 1.0, 3.0], "max"))


@pytest.mark.heavy
def test_thousands_of_values_neither_overflow_nor_lose_their_sum():
    values = np.linspace(0, 1, 2_000)
    for unbiased in (True, False):
        curve = best(values, "max", unbiased=unbiased)
        assert np.isfinite(curve).all()
        assert (np.diff(curve) >= -1e-12).all()
        np.testing.assert_allclose(best(np.ones(2_000), "min", unbiased=unbiased), 1.0, rtol=1e-12)
    assert best(values, "max")[-1] == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: best([1.0], None), "mode must be 'min' or 'max', got None"),
        (lambda: best([1.0], "up"), "mode must be 'min' or 'max', got 'up'"),
        (lambda: best([], "min"), "values must hold a finite one at least, got 0"),
        (
            lambda: best([np.nan] * 3, "min"),
            "values must hold a finite one at least, got 3 that are not",
        ),
        (lambda: best([[1.0]], "min"), r"values must be a list of numbers, got shape \(1, 1\)"),
        (lambda: best(1.0, "min"), r"values must be a list of numbers, got shape \(\)"),
        (lambda: best("abc", "min"), "values must be an array of numbers, got 'abc'"),
        (lambda: best([1.0, None], "min"), "values must be an array of numbers"),
        (lambda: best([1.0], "min", unbiased=1), "unbiased must be True or False, got 1"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
