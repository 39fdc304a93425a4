"""Distributions: from shares to values and back, never beyond their ends."""

import math
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
from helpers import properties

import jaxdeep as jd
from jaxdeep.search.spaces.distributions import contains, distribution_of, is_at_edge, size

S = jd.search
SHARES = st.floats(0, 1, exclude_max=True)
EVERY = [
    S.uniform(-0.3, 0.7),
    S.log_uniform(1e-5, 1e-1),
    S.one_minus(1e-2, 0.5),
    S.int(-3, 9),
    S.log_int(3, 1000),
    S.choice(["a", None, 3.0, True]),
]
each = pytest.mark.parametrize("distribution", EVERY, ids=lambda d: type(d).__name__)


def pairs(values):
    """Two values, the smaller one first."""
    return st.lists(values, min_size=2, max_size=2, unique=True).map(sorted)


def positive(low, high):
    return st.floats(low, high, allow_subnormal=False)


def test_formulas():
    u = 0.3
    assert S.uniform(2, 5).at(u) == pytest.approx(2 + u * 3)
    assert S.log_uniform(1e-5, 1e-1).at(u) == pytest.approx(10 ** (-5 + 4 * u))
    assert S.one_minus(1e-3, 1e-1).at(u) == pytest.approx(1 - 10 ** (-3 + 2 * u))
    assert S.int(2, 11).at(u) == 2 + math.floor(10 * u)
    assert S.choice(["a", "b", "c", "d"]).at(u) == "b"
    assert [S.log_int(1, 15).at(i / 4) for i in range(4)] == [1, 2, 4, 8]
    share = [S.log_int(1, 4).at(u) for u in np.arange(0, 1, 1e-4)].count(2) / 1e4
    assert share == pytest.approx(math.log(3 / 2) / math.log(5), abs=2e-4)


@each
def test_the_ends_belong_to_the_range(distribution):
    first, last = distribution.at(0.0), distribution.at(math.nextafter(1, 0))
    values = distribution.spread(5)
    assert first in values
    assert last == pytest.approx(values[-1]) if isinstance(last, float) else last in values
    if distribution.bounds:
        assert (min(values), max(values)) == distribution.bounds
    assert type(first) is type(distribution.at(0.0))
    assert size(distribution) is None or len(distribution.spread(10**6)) == size(distribution)


@properties.over(u=SHARES, ends=pairs(st.floats(-1e38, 1e38)))
def test_uniform(u, ends):
    distribution = S.uniform(*ends)
    value = distribution.at(u)
    assert ends[0] <= value <= ends[1]
    width = ends[1] - ends[0]
    assert abs(distribution.unit(value) - u) <= 4 * math.ulp(max(map(abs, ends))) / width + 1e-15
    assert all(ends[0] <= value <= ends[1] for value in distribution.spread(7))


@properties.over(u=SHARES, ends=pairs(positive(1e-37, 1e38)))
def test_log_uniform(u, ends):
    distribution = S.log_uniform(*ends)
    value = distribution.at(u)
    assert ends[0] <= value <= ends[1]
    # an ulp of the value is so many shares
    assert abs(distribution.unit(value) - u) <= 1e-15 + 1e-13 / math.log(ends[1] / ends[0])
    assert all(ends[0] <= value <= ends[1] for value in distribution.spread(7))
    assert (distribution.spread(7)[0], distribution.spread(7)[-1]) == tuple(ends)


@properties.over(u=SHARES, ends=pairs(positive(1e-12, 1)))
def test_one_minus(u, ends):
    distribution = S.one_minus(*ends)
    value = distribution.at(u)
    assert 1 - ends[1] <= value <= 1 - ends[0]
    assert distribution.bounds == (1 - ends[1], 1 - ends[0])
    ulps = sys.float_info.epsilon / (1 - value)
    assert abs(distribution.unit(value) - u) <= 1e-15 + (1e-13 + ulps) / math.log(ends[1] / ends[0])


@properties.over(u=SHARES, ends=pairs(st.integers(-(2**40), 2**40)))
def test_int(u, ends):
    distribution = S.int(*ends)
    value = distribution.at(u)
    assert type(value) is int
    assert ends[0] <= value <= ends[1]
    assert distribution.at(distribution.unit(value)) == value
    assert abs(distribution.unit(value) - u) <= 0.5 / size(distribution) + 1e-15


@properties.over(u=SHARES, ends=pairs(st.integers(1, 2**40)))
def test_log_int(u, ends):
    distribution = S.log_int(*ends)
    value = distribution.at(u)
    assert type(value) is int
    assert ends[0] <= value <= ends[1]
    assert distribution.at(distribution.unit(value)) == value


@pytest.mark.parametrize(
    "distribution",
    [S.int(-(2**53), 2**53), S.log_int(1, 2**53), S.uniform(1, math.nextafter(1, 2))],
)
def test_extreme_ranges(distribution):
    low, high = distribution.bounds
    for u in (0.0, 2**-53, 0.5, math.nextafter(1, 0)):
        assert low <= distribution.at(u) <= high
    assert distribution.at(0.0) == low


@properties.over(u=SHARES, values=st.lists(st.integers(0, 9) | st.booleans() | st.none(), min_size=1))
def test_choice(u, values):
    distribution = S.choice(values)
    value = distribution.at(u)
    assert contains(distribution, value)
    found = distribution.at(distribution.unit(value))
    assert (type(found), found) == (type(value), value)


def test_the_numbers_of_a_choice_are_told_apart_by_their_type():
    distribution = S.choice([1, True, 1.0, np.float32(1), np.array(2), "1"])
    assert size(distribution) == 5  # 1.0 twice
    assert [type(value) for value in distribution.values] == [int, bool, float, float, int, str]
    assert math.isnan(distribution.unit(3))


@pytest.mark.parametrize(
    ("distribution", "count", "expected"),
    [
        (S.uniform(0, 1), 5, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (S.log_uniform(1e-4, 1e-1), 4, [1e-4, 1e-3, 1e-2, 1e-1]),
        (S.one_minus(0.001, 0.1), 3, [0.999, 0.99, 0.9]),
        (S.int(1, 10), 4, [1, 4, 7, 10]),
        (S.int(1, 3), 9, [1, 2, 3]),
        (S.log_int(1, 1000), 4, [1, 10, 100, 1000]),
        (S.log_int(1, 9), 8, [1, 2, 3, 4, 5, 7, 9]),
        (S.choice([2, 1, 2]), 2, [2, 1]),
    ],
)
def test_a_grid_of_one_name(distribution, count, expected):
    assert distribution.spread(count) == pytest.approx(expected, rel=1e-15)
    assert all(
        type(a) is type(b) for a, b in zip(distribution.spread(count), expected) if type(b) is int
    )


@pytest.mark.parametrize(
    ("distribution", "at", "inside"),
    [
        (S.uniform(0, 1), [0, 0.049, 0.951, 1], [0.051, 0.5, 0.949, 1.1, -1]),
        (S.log_uniform(1e-4, 1), [1e-4, 10**-3.9, 10**-0.1, 1], [10**-3.7, 10**-0.3, 2, 0]),
        (S.one_minus(0.01, 0.5), [0.5, 0.51, 0.989, 0.99], [0.6, 0.98, 1, 0]),
        (S.int(1, 4), [1, 4], [2, 3, 0, 5]),
        (S.int(0, 99), [0, 4, 95, 99], [5, 94]),
        (S.log_int(16, 512), [16, 512, 450], [20, 100, 400]),
        (S.int(0, 1), [], [0, 1]),
        (S.choice([1, 3, 2]), [1, 3], [2, 4]),
        (S.choice([0.1, 0.2, 0.1]), [], [0.1, 0.2]),
        (S.choice(["a", "b", "c"]), [], ["a", "c"]),
        (S.choice([1, None, 3]), [], [1, 3]),
        (S.uniform(0, 1), [], [None, "0", True, float("nan"), [0]]),
    ],
)
def test_edges(distribution, at, inside):
    assert [value for value in [*at, *inside] if is_at_edge(distribution, value)] == at


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1, 2], S.choice([1, 2])),
        ((1, 2), S.choice([1, 2])),
        ([(1, 2), "choice"], S.choice([(1, 2), "choice"])),
        (["choice", "uniform"], S.choice(["choice", "uniform"])),
        (range(3), S.choice([0, 1, 2])),
        (np.array([1.0]), S.choice([1.0])),
        ("adam", S.choice(["adam"])),
        (None, S.choice([None])),
        (np.array(3), S.choice([3])),
        (math.tanh, S.choice([math.tanh])),
        (S.uniform(0, 1), S.uniform(0, 1)),
    ],
)
def test_lists_are_choices_and_single_values_are_constants(given, expected):
    found = distribution_of("a", given)
    assert (type(found), found) == (type(expected), expected)


def test_arrays_are_values_too():
    arrays = [np.ones(2), np.zeros(2)]
    distribution = S.choice(arrays)
    assert distribution.at(0.6) is arrays[1]
    assert size(distribution) == 2
    assert contains(distribution, arrays[0])
    assert not is_at_edge(distribution, arrays[0])


def test_an_optimizer_is_a_value_although_it_is_a_tuple():
    sgd = jd.optimizers.sgd(0.1)
    assert distribution_of("optimizer", sgd).values == (sgd,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: S.uniform(None, 1), "low of uniform must be a number, got None"),
        (lambda: S.uniform(0, "1"), "high of uniform must be a number, got '1'"),
        (lambda: S.uniform(0, True), "high of uniform must be a number"),
        (lambda: S.uniform(math.nan, 1), "low of uniform must be in .* got nan"),
        (lambda: S.uniform(0, math.inf), "high of uniform must be in .* got inf"),
        (lambda: S.uniform(1, 0), "uniform must have low < high, got 1 and 0"),
        (lambda: S.log_uniform(0, 1), r"low of log_uniform must be in \(0, inf\), got 0"),
        (lambda: S.log_uniform(0.1, 0.1), "log_uniform must have low < high, got 0.1 and 0.1"),
        (lambda: S.one_minus(0.5, 1.5), r"high of one_minus must be in \(0, 1\], got 1.5"),
        (lambda: S.one_minus(0.99, 0.5), "one_minus must have low < high"),
        (lambda: S.one_minus(1e-20, 0.5), "low of one_minus must be at least 1.2e-16, got 1e-20"),
        (lambda: S.int(1, 2.5), "high of int must be a whole number, got 2.5"),
        (lambda: S.int(True, 2), "low of int must be a whole number, got True"),
        (lambda: S.int(0, 2**60), r"high of int must be at most 2\*\*53"),
        (lambda: S.log_int(0, 2), "low of log_int must be at least 1, got 0"),
        (lambda: S.choice([]), "values must hold a value at least, got an empty list"),
        (lambda: S.choice("abc"), "values must be a list, got 'abc'"),
        (lambda: S.choice({1, 2}), "values must be a list"),
        (lambda: S.choice([S.uniform(0, 1)]), "values must hold values, got Uniform"),
        (lambda: S.choice([{"a": S.uniform(0, 1)}]), "values must hold values, got Uniform"),
        (lambda: distribution_of("a", {1, 2}), "a must be a distribution, a list of values or"),
        (lambda: distribution_of("a", iter([1])), "a must be a distribution, a list of values or"),
        (lambda: distribution_of("a", np.ones((2, 2))), "a must be a distribution, a list of values or"),
        (lambda: distribution_of("a", S.uniform), "got the function that makes one; call it"),
        (
            lambda: distribution_of("a", ("log_uniform", 1e-4, 1)),
            r"a must be jaxdeep.search.log_uniform\(0.0001, 1\) instead",
        ),
        (
            lambda: distribution_of("a", ["choice", [1, 2]]),
            r"a must be jaxdeep.search.choice\(\[1, 2\]\) instead",
        ),
    ],
)
def test_wrong_distributions(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
