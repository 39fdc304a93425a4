"""Importance: known shares of a known function, and nothing for what does nothing."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxdeep.search.tables.importance import Importance, importance, target
from jaxdeep.search.tables.result import Result
from jaxdeep.search.tables.table import Table


def table_of(points, losses, ended=None):
    ended = ended or ["finished"] * len(points)
    results = [Result({}, {}, {"loss": np.array([loss])}, 0, how) for loss, how in zip(losses, ended)]
    return Table(points, results)


def drawn(seed, n, names):
    columns = np.random.default_rng(seed).uniform(-1, 1, (n, len(names)))
    return [dict(zip(names, map(float, row))) for row in columns]


def shares(found):
    return dict(zip(found.names, found.shares))


def test_noise_has_no_share_and_what_matters_comes_first():
    points = drawn(0, 60, ["noise", "rate", "b1"])
    found = importance(
        points, np.array([2 * p["rate"] + p["b1"] for p in points]), ["noise", "rate", "b1"], trees=50
    )
    assert found.names == ("rate", "b1", "noise")
    assert found.points == 60
    assert found.r2 > 0.8
    assert found.shares[0] > 0.5 > found.shares[1] > 2 * found.uncertainties[1]
    assert abs(found.shares[2]) <= 2 * found.uncertainties[2]
    again = importance(
        points, np.array([2 * p["rate"] + p["b1"] for p in points]), ["noise", "rate", "b1"], trees=50
    )
    np.testing.assert_array_equal(found.shares, again.shares)


@pytest.mark.heavy
def test_shares_are_the_total_sobol_indices_of_the_function():
    """Of a sum they are aᵢ² / Σ a²; of a product of two, each has 4 / 7 in all (Jansen's formula)."""
    sums, products = [], []
    for seed in range(8):
        points = drawn(seed, 300, ["a", "b", "c"])
        y = np.array([2 * p["a"] + p["b"] for p in points])
        found = shares(importance(points, y, ["a", "b", "c"], seed=seed, trees=60))
        sums.append([found["a"], found["b"], found["c"]])
        y = np.array([(p["a"] + 1) * (p["b"] + 1) for p in points])  # V = 7/9, of which 1/9 together
        found = shares(importance(points, y, ["a", "b", "c"], seed=seed, trees=60))
        products.append([found["a"], found["b"], found["c"]])
    np.testing.assert_allclose(np.mean(sums, 0), [0.8, 0.2, 0.0], atol=0.04)
    np.testing.assert_allclose(np.mean(products, 0), [4 / 7, 4 / 7, 0.0], atol=0.06)


@pytest.mark.heavy
def test_uncertainties_cover_nothing_for_noise():
    """Two of them cover 0 for nine in ten of the columns that do nothing, and are not absurdly wide."""
    covered, wide = [], []
    for seed in range(30):
        points = drawn(seed, 40, ["rate", "x", "y"])
        rng = np.random.default_rng(seed + 1_000)
        y = np.array([p["rate"] ** 2 for p in points]) + 0.1 * rng.normal(size=40)
        found = importance(points, y, ["rate", "x", "y"], trees=50, seed=seed)
        for name, share, error in zip(*found[:3]):
            if name != "rate":
                covered.append(abs(share) <= 2 * error)
                wide.append(error)
    assert np.mean(covered) >= 0.88
    assert np.mean(wide) < 0.05


@pytest.mark.heavy
def test_uncertainties_are_the_spread_over_other_points():
    found = []
    for seed in range(12):
        points = drawn(seed, 40, ["a", "b"])
        y = np.array([3 * p["a"] + 2 * (p["b"] > 0) for p in points])
        one = importance(points, y, ["a", "b"], trees=50, seed=seed)
        by_name = dict(zip(one.names, zip(one.shares, one.uncertainties)))
        found.append([by_name["a"], by_name["b"]])
    shares, told = np.moveaxis(np.array(found), 2, 0)
    ratio = np.sqrt(np.mean(told**2, axis=0)) / np.std(shares, axis=0, ddof=1)
    assert (ratio > 0.8).all()
    assert (ratio < 3).all()


def test_a_metric_of_noise_explains_nothing_and_says_so():
    points = drawn(1, 30, ["rate", "b1"])
    found = importance(points, np.random.default_rng(0).normal(size=30), ["rate", "b1"], trees=50)
    assert found.r2 < 0.2
    assert "too little to rely on any of these" in str(found)


def test_seeds_of_a_point_are_one_observation():
    """Else a tree that knows one seed of a point would know the others, by any hyperparameter."""
    points = drawn(2, 20, ["rate", "noise"])
    rows = [{**point, "seed": seed} for point in points for seed in range(5)]
    found = table_of(rows, [abs(row["rate"]) for row in rows]).importance("loss", trees=50)
    assert found.points == 20
    assert abs(shares(found)["noise"]) < 0.1


@pytest.mark.parametrize("mode", ["min", "max"])
def test_what_diverged_counts_as_the_worst(mode):
    points = [{"rate": i / 20, "seed": 0} for i in range(20)]
    good = [1.0 + 0.01 * (i % 2) for i in range(20)]
    ended = ["finished"] * 14 + ["diverged"] * 6
    table = table_of(points, [*good[:14], *[0.0 if mode == "min" else 5.0] * 6], ended)
    found = table.importance("loss", mode, trees=50)
    assert found.points == 20
    worst = target([1.0, 3.0, math.nan, math.inf, -math.inf], 1.0 if mode == "min" else -1.0)
    assert worst.tolist() == [1.0, 3.0, *[3.0 if mode == "min" else 1.0] * 3]


def test_points_that_were_halved_are_left_out():
    points = [{"rate": i / 20, "seed": 0} for i in range(20)]
    table = table_of(points, np.arange(20.0), ["finished"] * 11 + ["halved"] * 5 + ["error"] * 4)
    assert table.importance("loss", trees=20).points == 11
    table = table_of(points, np.arange(20.0), ["finished"] * 9 + ["halved"] * 11)
    with pytest.raises(ValueError, match=r"got 9 of 20 \(11 halved\)"):
        table.importance("loss")
    table = table_of(points, np.arange(20.0), ["diverged"] * 20)
    with pytest.raises(ValueError, match=r"got 20 of 20 \(20 diverged\)|diverged"):
        table.importance("loss")


def test_a_hyperparameter_of_some_points_is_permuted_among_those():
    rng = np.random.default_rng(0)
    points = [
        {"optimizer": "adam", "b1": float(rng.uniform()), "act": "relu"}
        if i % 2
        else {"optimizer": "sgd", "momentum": float(rng.uniform()), "act": None}
        for i in range(80)
    ]
    y = np.array([(p["optimizer"] == "adam") + 0.0 for p in points]) + 0.01 * rng.normal(size=80)
    found = shares(importance(points, y, ["optimizer", "b1", "momentum"], trees=50))
    assert found["optimizer"] > 0.9  # and not that it has a b1
    assert abs(found["b1"]) < 0.05
    assert "which names" not in found

    for point in points:
        del point["optimizer"]
    found = shares(importance(points, y, ["b1", "momentum"], trees=50))
    assert found["which names"] > 0.9


@pytest.mark.parametrize(
    "values",
    [
        [1e-4, 1e-2, 1.0, 10.0],
        ["relu", "tanh", None, max],
        [None, 1.0, 2.0, 3.0],
        [True, False, True, False],
        [(8,), (8, 8), (8,), [8]],
        [math.inf, 1.0, 20.0, 1e300],
        [-math.inf, math.nan, 1e300, 0.0],
        [math.nan, math.inf, None, None],
        [1, "auto", 2, 0.5],
    ],
)
def test_values_of_any_kind(values):
    points = [{"x": values[i % 4], "other": i % 3} for i in range(40)]
    found = importance(points, np.arange(40.0) % 4, ["x", "other"], trees=20)
    assert found.names == ("x", "other")
    assert np.isfinite(found.shares).all()
    assert np.isfinite(found.uncertainties).all()


@hypothesis.settings(max_examples=10)
@hypothesis.given(st.lists(st.floats(-1e30, 1e30), min_size=10, max_size=12), st.integers(0, 2**32 - 1))
def test_any_values_give_numbers_or_words(values, seed):
    points = [{"rate": float(i), "b1": i % 2} for i in range(len(values))]
    try:
        found = importance(points, target(values, 1.0), ["rate", "b1"], trees=10, seed=seed)
    except ValueError as error:
        assert "differs between points" in str(error)  # noqa: PT017
    else:
        assert np.isfinite(found.shares).all()


def test_errors():
    same = [{"rate": 0.1, "seed": 0, "i": i} for i in range(12)]
    with pytest.raises(ValueError, match="a metric that differs between points, got 1 for all"):
        table_of(same, [1.0] * 12).importance("loss")
    constant = [{"rate": 0.1, "seed": i} for i in range(12)]
    with pytest.raises(ValueError, match=r"importance needs 10 points at least .* got 1 of 1"):
        table_of(constant, np.arange(12.0)).importance("loss")
    with pytest.raises(
        ValueError, match="needs a hyperparameter that differs between points; none does"
    ):
        importance([{"rate": 0.1}] * 12, np.arange(12.0), ["rate"])
    scores = Table(same, [Result({}, {}, {"score": np.ones(1)}, 0, "finished")] * 12)
    with pytest.raises(ValueError, match="mode must be 'min' or 'max' for 'score'"):
        scores.importance("score")


def test_it_prints():
    found = Importance(("rate",), np.array([0.5]), np.array([0.1]), -0.3, 12)
    assert str(found).splitlines() == [
        "rate   0.50 ± 0.10",
        "of the variance over 12 points, of which the forest explains 0 %: too little to rely on any of "
        "these",
    ]
