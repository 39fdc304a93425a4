"""Samplers: grids, random and Sobol' points are what they are said to be, and go on as they began."""

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from helpers import properties
from scipy import stats

import jaxdeep as jd
from jaxdeep.search.spaces.space import Points
from jaxdeep.search.spaces.values import words

S = jd.search
THREE = {
    "learning_rate": S.log_uniform(1e-5, 1e-1),
    "b1": S.one_minus(1e-2, 0.5),
    "weight_decay": S.log_uniform(1e-4, 1),
}
DISCRETE = {"a": S.int(0, 4), "b": ["x", "y", None], "c": S.log_int(1, 50)}
SAMPLERS = pytest.mark.parametrize("sampler", [S.random, S.sobol])
SPACES = st.dictionaries(
    st.sampled_from("abcd"),
    st.sampled_from(
        [S.uniform(0, 1), S.log_uniform(1e-3, 1), S.int(1, 3), S.log_int(1, 9), [1, 1.0, "x"], 3, None]
    ),
    min_size=1,
)


def distinct(points):
    return len({words(point.items()) for point in points}) == len(points)


# Sobol


def test_sixteen_points_begin_thirty_two():
    few, many = S.sobol(THREE, 16, seed=7), S.sobol(THREE, 32, seed=7)
    assert many[:16] == few
    assert len(many) == 32
    assert S.sobol(THREE, 32, seed=7) == many != S.sobol(THREE, 32, seed=8)


@pytest.mark.parametrize("n", [1, 2, 8, 16, 128])
def test_each_stratum_of_every_scale_has_one_point(n):
    points = S.sobol(THREE, n, seed=7)
    for name, distribution in THREE.items():
        strata = [int(n * distribution.unit(point[name])) for point in points]
        assert sorted(strata) == list(range(n))


def test_the_order_of_names_makes_no_difference():
    turned = dict(reversed(THREE.items()))
    assert S.sobol(turned, 16, seed=7) == S.sobol(THREE, 16, seed=7)
    assert list(S.sobol(turned, 1)[0]) == list(turned)
    assert S.random(turned, 16, seed=7) == S.random(THREE, 16, seed=7)


def test_sobol_points_are_those_of_scipy():
    unit = stats.qmc.Sobol(3, scramble=True, rng=7).random_base2(5)
    points = S.sobol({**THREE, "kind": "adam", "epochs": [5]}, 32, seed=7)
    for name, column in zip(sorted(THREE), unit.T):
        found = [THREE[name].unit(point[name]) for point in points]
        np.testing.assert_allclose(found, column, atol=1e-12)
    assert all((point["kind"], point["epochs"]) == ("adam", 5) for point in points)


def test_sobol_points_fill_a_square_more_evenly_than_random_ones():
    square = {"x": S.uniform(0, 1), "y": S.uniform(0, 1)}

    def discrepancy(points):
        return stats.qmc.discrepancy([[point["x"], point["y"]] for point in points])

    even = [discrepancy(S.sobol(square, 64, seed=seed)) for seed in range(5)]
    random = [discrepancy(S.random(square, 64, seed=seed)) for seed in range(5)]
    assert max(even) < min(random) / 4


# random


def test_random_points_are_independent_and_spread_as_they_should():
    points = S.random(THREE, 2000, seed=3)
    columns = {name: [d.unit(point[name]) for point in points] for name, d in THREE.items()}
    for column in columns.values():
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    correlations = np.corrcoef(list(columns.values()))
    assert np.abs(correlations - np.eye(3)).max() < 4 / np.sqrt(2000)


def test_another_hyperparameter_leaves_the_others_as_they_are():
    more = S.random({**THREE, "a": S.uniform(0, 1), "kind": "adam"}, 8, seed=3)
    assert [{name: point[name] for name in THREE} for point in more] == S.random(THREE, 8, seed=3)


@pytest.mark.heavy
def test_random_points_of_a_key_are_those_of_earlier_versions():
    key = jax.random.key(5)
    points = S.random_points(
        300,
        key=key,
        rate=("log_uniform", 1e-4, 1e-1),
        drop=("uniform", 0.1, 0.5),
        kind=("choice", ["a", "b", 3]),
    )

    def share(i):
        return np.asarray(jax.random.uniform(jax.random.fold_in(key, i), (300,)), np.float64)

    places = jax.random.randint(jax.random.fold_in(key, 1), (300,), 0, 3)
    drops, rates = 0.1 + share(0) * (0.5 - 0.1), 1e-4 * (1e-1 / 1e-4) ** share(2)
    assert [point["drop"] for point in points] == drops.tolist()
    assert [point["rate"] for point in points] == rates.tolist()
    assert [point["kind"] for point in points] == [["a", "b", 3][int(i)] for i in places]
    assert jd.train.random_points is S.random_points


# grid


def test_a_grid_is_the_product_of_its_axes():
    points = S.grid({"rate": S.log_uniform(1e-3, 1e-1), "units": [8, 16], "kind": "a"}, per_axis=3)
    expected = [(rate, units, "a") for rate in (1e-3, 1e-2, 1e-1) for units in (8, 16)]
    assert [tuple(point.values()) for point in points] == expected
    assert type(points) is Points
    assert points.spaces[0]["rate"] == S.log_uniform(1e-3, 1e-1)


def test_a_grid_has_as_many_values_as_its_axes_are_told():
    space = {
        "rate": S.uniform(0, 1),
        "depth": S.int(1, 3),
        "units": S.log_int(16, 256),
        "kind": [1, 2, 3],
    }
    assert len(S.grid(space, per_axis={"rate": 4, "units": 5})) == 4 * 3 * 5 * 3
    assert len(S.grid(space, per_axis=2)) == 2 * 2 * 2 * 3
    assert len(S.grid({"depth": S.int(1, 3), "kind": [1, 1, 2]})) == 3 * 2


def test_grids_of_several_spaces_follow_one_another_and_have_each_point_once():
    points = S.grid([{"a": [1, 2]}, {"a": [2, 3], "b": 0}, {"b": [0], "a": [3, 4]}, {"a": [2, 5]}])
    assert points == [
        {"a": 1},
        {"a": 2},
        {"a": 2, "b": 0},
        {"a": 3, "b": 0},
        {"a": 4, "b": 0},
        {"a": 5},
    ]
    assert len(points.spaces) == 4


# all


@SAMPLERS
@pytest.mark.parametrize("seed", [0, 1, 2**70])
def test_a_small_space_is_given_whole_and_each_point_once(sampler, seed):
    points = sampler(DISCRETE, 10_000, seed=seed)
    assert len(points) == 5 * 3 * 50
    assert distinct(points)
    whole = S.grid(DISCRETE)
    assert {words(point.items()) for point in points} == {words(point.items()) for point in whole}
    for n in (1, 100, 700, 750):
        assert sampler(DISCRETE, n, seed=seed) == points[:n]


@SAMPLERS
def test_a_space_of_one_point_or_of_two_floats(sampler):
    assert sampler({"a": 3, "b": [None]}, 5) == [{"a": 3, "b": None}]
    above = float(np.nextafter(1, 2))
    found = sampler({"a": S.uniform(1, above)}, 5)
    assert sorted(point["a"] for point in found) == [1.0, above]


@SAMPLERS
def test_spaces_take_turns_and_fill_in_for_those_that_are_exhausted(sampler):
    spaces = [{"kind": "a", **THREE}, {"kind": "b", "c": [1, 2]}, {"kind": "c", "d": S.uniform(0, 1)}]
    points = sampler(spaces, 11)
    assert "".join(point["kind"] for point in points) == "abcabcacaca"
    assert sampler(spaces, 7) == points[:7]
    assert [point for point in points if point["kind"] == "a"] == sampler(spaces[0], 5)
    assert sampler(spaces[0], 5) != sampler([{"x": 1}, spaces[0]], 6)[1:]  # its own sequence
    assert points.spaces == (
        {"kind": S.choice(["a"]), **THREE},
        {"kind": S.choice(["b"]), "c": S.choice([1, 2])},
        {"kind": S.choice(["c"]), "d": S.uniform(0, 1)},
    )


@SAMPLERS
def test_spaces_that_overlap_give_each_point_once(sampler):
    points = sampler([{"a": [1, 2, 3]}, {"a": [2, 3, 4]}, {"a": [4, 1]}], 20)
    assert sorted(point["a"] for point in points) == [1, 2, 3, 4]


@SAMPLERS
def test_a_value_that_is_listed_twice_is_drawn_twice_as_often(sampler):
    points = sampler({"kind": ["a", "b", "b", "b"], "x": S.uniform(0, 1)}, 1024)
    assert abs(sum(point["kind"] == "b" for point in points) - 768) < 4 * np.sqrt(1024 * 3 / 16)


@properties.over(
    few=10,
    space=SPACES | st.lists(SPACES, min_size=1, max_size=3),
    n=st.integers(1, 40),
    seed=st.integers(0, 2**64),
)
def test_properties_of_every_sampler(space, n, seed):
    for sampler in (S.random, S.sobol):
        points = sampler(space, n, seed=seed)
        assert 1 <= len(points) <= n
        assert distinct(points)
        longer = sampler(space, n + 5, seed=seed)
        assert longer[:n] == points
        assert len(points) == n or len(longer) == len(points)
        for point in points:
            fitting = [one for one in points.spaces if set(one) == set(point)]
            assert any(
                all(space[name].bounds == () or lies(point[name], space[name]) for name in point)
                for space in fitting
            )


def lies(value, distribution):
    low, high = distribution.bounds
    return isinstance(value, (int, float)) and low <= value <= high


def test_nothing_warns_and_values_are_pythons():
    for n in (3, 5, 6, 100):
        for point in S.sobol({**THREE, **DISCRETE}, n):
            assert {type(value) for value in point.values()} <= {float, int, str, type(None)}


@pytest.mark.parametrize("sampler", [S.random, S.sobol, lambda space, n, **_: S.grid(space)])
@pytest.mark.parametrize(
    ("space", "message"),
    [
        (None, "space must be a dict of distributions and lists of values by name, or a list of such"),
        ("text", "space must be a dict of distributions"),
        ([1, 2], "space must be a dict of distributions"),
        ([{"a": 1}, None], "space must be a dict of distributions"),
        ({}, "space must name a hyperparameter at least, got {}"),
        ([], "space must name a hyperparameter at least"),
        ([{"a": 1}, {}], "space must name a hyperparameter at least"),
        ({"seed": [1]}, "none called 'seed'"),
        ({3: [1]}, "the names in space must be texts"),
        ({"a": []}, r"space\['a'\] must hold a value at least"),
        ([{"a": 1}, {"a": {1, 2}}], r"space\[1\]\['a'\] must be a distribution, a list of values"),
        ({"a": [S.uniform(0, 1), 3]}, r"space\['a'\] must hold values, got Uniform"),
        ({"a": S.log_uniform}, r"space\['a'\] must be a distribution, got the function"),
        ({"a": stats.loguniform(1e-3, 1)}, r"space\['a'\] is a distribution of another .* scipy\.stats"),
        ([{"a": [stats.norm, 1]}], r"space\[0\]\['a'\] is a distribution of another .* log_uniform"),
        ({"a": np.random.default_rng(0)}, r"space\['a'\] is a distribution of another library, numpy"),
    ],
)
def test_wrong_spaces(sampler, space, message):
    with pytest.raises((ValueError, TypeError), match=message):
        sampler(space, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: S.sobol(THREE, 0), "n must be at least 1, got 0"),
        (lambda: S.sobol(THREE, 2.0), "n must be a whole number, got 2.0"),
        (lambda: S.random(THREE, True), "n must be a whole number, got True"),
        (lambda: S.random(THREE, 10**7), "n must be at most 1,000,000, got 10000000"),
        (lambda: S.sobol(THREE, 4, seed=-1), "seed must be at least 0, got -1"),
        (lambda: S.random(THREE, 4, seed=None), "seed must be a whole number, got None"),
        (lambda: S.sobol(THREE, 4, seed=jax.random.key(0)), "seed must be a whole number"),
        (lambda: S.grid(THREE), "per_axis must say how many values of learning_rate, LogUniform"),
        (lambda: S.grid(THREE, per_axis=1), "per_axis must be at least 2, got 1"),
        (lambda: S.grid(THREE, per_axis="3"), "per_axis must be a whole number, got '3'"),
        (lambda: S.grid(THREE, per_axis={"b2": 3}), "per_axis must be of names in space, .* got 'b2'"),
        (lambda: S.grid(THREE, per_axis={"b1": 0}), r"per_axis\['b1'\] must be at least 2, got 0"),
        (lambda: S.grid({"a": S.int(0, 2**50)}), "space must have at most 1,000,000 points"),
        (lambda: S.grid(THREE, per_axis=1000), "at most 1,000,000 points, got 1,000 of learning_rate"),
        (lambda: jax.jit(lambda rate: S.grid({"a": [rate]}))(1.0), "grid makes points on the host"),
        (lambda: jax.jit(lambda rates: S.sobol({"a": rates}, 2))(np.ones(2)), "sobol makes points"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
