"""Hyperband: the brackets of the paper's formula, in whole epochs, for any number of points."""

import math
import re

import hypothesis.strategies as st
import numpy as np
import pytest
from helpers.properties import over

from jaxdeep.search import Hyperband
from jaxdeep.search.strategies import halving as successive
from jaxdeep.search.strategies.hyperband import Bracket, assign, brackets, plan


def sizes(*args):
    return [bracket.points for bracket in brackets(*args)]


def test_81_epochs_are_the_brackets_of_the_formula():
    found = brackets(Hyperband(), 81)
    assert [bracket.points for bracket in found] == [81, 34, 15, 8, 5]
    ends = [1, 3, 9, 27, 81]
    assert [bracket.rungs for bracket in found] == [ends[i:] for i in range(5)]
    assert Hyperband().points(81) == 143


def test_the_number_of_brackets_is_that_of_whole_numbers():
    """``math.log(243) / math.log(3)`` is 4.999…"""
    assert math.floor(math.log(243) / math.log(3)) == 4
    assert sizes(Hyperband(), 243) == [243, 98, 41, 18, 9, 6]
    for power in range(1, 13):
        assert len(brackets(Hyperband(), 3**power)) == power + 1


def test_epochs_are_whole_and_end_with_the_last():
    assert [bracket.rungs for bracket in brackets(Hyperband(), 20)] == [
        [1, 3, 9, 20],
        [3, 9, 20],
        [9, 20],
        [20],
    ]
    assert sizes(Hyperband(), 20) == [27, 12, 6, 4]
    assert brackets(Hyperband(first=2, factor=4), 32)[0].rungs == [2, 8, 32]
    assert brackets(Hyperband(first=5), 5, 7) == [Bracket(7, [5])]
    assert brackets(Hyperband(first=9), 5, 7) == [Bracket(7, [5])]


def test_fewer_points_shrink_every_bracket_and_more_let_it_grow():
    assert sizes(Hyperband(), 81, 143) == [81, 34, 15, 8, 5]
    assert sizes(Hyperband(), 81, 286) == [162, 68, 30, 16, 10]
    assert sizes(Hyperband(), 81, 20) == [math.ceil(n / 8) for n in (81, 34, 15, 8, 5)]
    assert sizes(Hyperband(), 81, 5) == [1, 1, 1, 1, 1]
    assert brackets(Hyperband(), 81, 1) == [Bracket(1, [1, 3, 9, 27, 81])]


@over(
    few=25,
    many=1000,
    first=st.integers(1, 5),
    factor=st.integers(2, 5),
    epochs=st.integers(1, 300),
    points=st.integers(1, 2000),
)
def test_all_points_are_used_once_and_in_proportion(first, factor, epochs, points):
    hyperband = Hyperband(first, factor)
    rule, found = sizes(hyperband, epochs), brackets(hyperband, epochs, points)
    shares = [bracket.points for bracket in found]
    indices = [i for members in assign(found) for i in members]
    assert indices == list(range(points))
    assert [len(members) for members in assign(found)] == shares
    assert len(shares) == min(points, len(rule))
    assert min(shares) >= 1
    for share, size in zip(shares, rule):
        assert share == 1 or abs(share - points * size / sum(rule)) < len(rule)
    more = sizes(hyperband, epochs, points + 1)
    assert all(b >= a for a, b in zip(shares, more))
    # the definition, in floats
    top = len(rule) - 1
    assert rule == [math.ceil(round((top + 1) * factor**s / (s + 1), 9)) for s in range(top, -1, -1)]
    for i, bracket in enumerate(found):
        assert bracket.rungs == successive.rungs(hyperband, epochs)[i:]
        assert bracket.rungs[-1] == epochs


def counted(hyperband, epochs, points):
    """The epochs that runs train whose points are ranked by their number, one by one."""
    total, found = 0, brackets(hyperband, epochs, points)
    for bracket, members in zip(found, assign(found)):
        done, going = dict.fromkeys(members, 0), members
        for until in bracket.rungs:
            total += sum(until - done[i] for i in going)
            done |= dict.fromkeys(going, until)
            best = successive.survivors(hyperband, [[float(i)] for i in going], 1.0)
            going = [going[i] for i in best]
    return total


@over(
    few=10,
    many=200,
    factor=st.integers(2, 4),
    epochs=st.integers(1, 100),
    points=st.integers(1, 300),
)
def test_the_plan_says_what_the_runs_train(factor, epochs, points):
    text = plan(Hyperband(factor=factor), epochs, points)
    total = counted(Hyperband(factor=factor), epochs, points)
    assert f"\n{total:,} epoch" in text
    assert f"all {points:,} point" in text
    assert f"to the end take {points * epochs:,}, " in text


def test_the_plan_is_a_table():
    assert Hyperband().plan(81) == "\n".join(
        [
            "Hyperband: 143 points in 5 brackets",
            "points at epoch      1     3     9    27    81  epochs trained",
            "bracket 1           81    27     9     3     1             297",
            "bracket 2                 34    11     3     1             276",
            "bracket 3                       15     5     1             279",
            "bracket 4                              8     2             324",
            "bracket 5                                    5             405",
            "1,581 epochs for each seed; all 143 points to the end take 11,583, 7.3 times as many",
        ]
    )
    shrunk = Hyperband().plan(81, 50)
    assert "50 points in 5 brackets (by the rule 81, 34, 15, 8 and 5, here in proportion)" in shrunk
    assert plan(Hyperband(), 81, 50) == shrunk
    assert Hyperband().plan(1, 1).splitlines()[0] == "Hyperband: 1 point in 1 bracket"
    lines = Hyperband().plan(100_000, 1_000_000).splitlines()[1:-1]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: brackets(3, 9), "halving must be a jaxdeep.search.Hyperband, got 3"),
        (lambda: brackets(Hyperband(first=True), 9), "halving.first must be a whole number, got True"),
        (lambda: brackets(Hyperband(factor=1), 9), "halving.factor must be at least 2, got 1"),
        (lambda: brackets(Hyperband(), 0), "epochs must be at least 1, got 0"),
        (lambda: brackets(Hyperband(), 9.0), "epochs must be a whole number, got 9.0"),
        (lambda: brackets(Hyperband(), 9, 0), "points must be at least 1, got 0"),
        (lambda: brackets(Hyperband(), 9, True), "points must be a whole number, got True"),
        (lambda: brackets(Hyperband(), 9, [1]), "points must be a whole number, got [1]"),
        (lambda: Hyperband().points(None), "epochs must be a whole number, got None"),
        (lambda: Hyperband().plan("9"), "epochs must be a whole number, got '9'"),
        (lambda: plan(Hyperband(), 9, np.nan), "points must be a whole number, got nan"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        call()


def test_numbers_of_numpy_do_not_wrap():
    small = Hyperband(np.int8(1), np.int8(3))
    assert sizes(small, np.int16(243), np.int16(415)) == [243, 98, 41, 18, 9, 6]
    assert small.plan(np.int8(81)) == Hyperband().plan(81)
