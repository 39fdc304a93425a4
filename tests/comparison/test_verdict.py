"""Tests of pairs and verdicts: who wins, who cannot be told apart, and what it would take."""

import numpy as np
import pytest

from jaxdeep.comparison.pairs import fewest, judged_by, pairs_of
from jaxdeep.comparison.verdict import verdict_of

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.01, (10,))


def verdict(values, mode="max", worth=0.0, level=0.95):
    pairs = pairs_of(values, mode, level)
    order = list(dict.fromkeys(name for pair in pairs for name in (pair.better, pair.worse)))
    seeds = len(next(iter(values.values())))
    return verdict_of(order, pairs, seeds=seeds, level=level, worth=worth), pairs


def test_a_gap_that_is_the_same_in_all_seeds_wins():
    found, (pair,) = verdict({"a": 0.9 + NOISE, "b": 0.8 + NOISE})
    assert found == (("a",), "a wins.")
    assert (pair.low, pair.high) == pytest.approx((0.1, 0.1))
    assert pair.p == pair.adjusted == 2 / 2**10
    assert pair.superiority == 1.0


def test_smaller_losses_win():
    found, (pair,) = verdict({"a": 0.9 + NOISE, "b": 0.8 + NOISE}, mode="min")
    assert found.winners == ("b",)
    assert pair.difference == pytest.approx(0.1)


def test_noise_is_not_told_apart_and_more_seeds_are_named():
    a, b = 0.9 + NOISE, 0.9 + NOISE[::-1] + 0.002
    (winners, sentence), _ = verdict({"a": a, "b": b, "c": 0.5 + NOISE})
    assert set(winners) == {"a", "b"}
    assert "cannot be told apart; about" in sentence
    leader = winners[0]
    assert sentence.endswith(f"more seeds would. {leader} is better than c.")


def test_equal_candidates_need_endless_seeds():
    found, _ = verdict({"a": 0.9 + NOISE, "b": 0.9 + NOISE})
    assert found.sentence == (
        "a and b cannot be told apart; if there is a difference, it would take more than 1,000 seeds to "
        "find it."
    )


def test_three_seeds_are_too_few():
    found, (pair,) = verdict({"a": np.full(3, 0.9), "b": np.full(3, 0.8)})
    assert pair.low == pair.high == pytest.approx(0.1)
    assert set(found.winners) == {"a", "b"}
    assert "3 seeds are too few to be sure of any difference: it takes 6" in found.sentence


def test_what_is_not_worth_it():
    found, _ = verdict({"a": 0.9005 + NOISE, "b": 0.9 + NOISE}, worth=0.001)
    assert found.sentence == "a is not better than b by the 0.001 that matters."
    assert verdict({"a": 0.9005 + NOISE, "b": 0.9 + NOISE})[0].winners == ("a",)


def test_pairs_of_the_set_that_can_be_told_apart_are_named():
    rng = np.random.default_rng(1)
    b, a = 0.01 * rng.normal(size=10), 0.2 * rng.normal(size=10)
    values = {"a": 0.93 + a - a.mean(), "b": 0.9 + b, "c": 0.87 + b + 0.001 * rng.normal(size=10)}
    (winners, sentence), _ = verdict(values)
    assert winners == ("a", "b", "c")
    assert sentence.startswith("a cannot be told from b or c; about ")
    assert sentence.endswith(" more seeds would. b is better than c.")


def test_a_difference_that_may_matter_is_open():
    spread = np.linspace(-0.01, 0.01, 10)
    (winners, sentence), (pair,) = verdict(
        {"a": 0.905 + 0.7 * spread, "b": np.full(10, 0.9)}, worth=0.006
    )
    assert pair.low < 0.006 < pair.high
    assert winners == ("a", "b")
    assert sentence.startswith("a is not surely better than b by the 0.006 that matters; about ")


def test_what_more_seeds_would_say_follows_from_the_distance_to_what_matters():
    each = 0.009 + 0.003 * np.linspace(-1, 1, 10) / np.std(np.linspace(-1, 1, 10), ddof=1)
    (winners, sentence), (pair,) = verdict({"a": 0.9 + each, "b": np.full(10, 0.9)}, worth=0.01)
    assert pair.p < 0.05  # they are told apart, but not by so much
    assert winners == ("a", "b")
    # ((1.96 + 0.84) · 0.003 / 0.001)² + 2 = 73
    assert sentence.endswith("; about 63 more seeds would say whether it is.")


def test_p_values_are_adjusted_for_all_pairs():
    values = {name: 0.9 - 0.1 * i + np.roll(NOISE, i) for i, name in enumerate("abcd")}
    _, pairs = verdict(values)
    assert len(pairs) == 6
    assert {pair.p for pair in pairs} == {2 / 2**10}
    assert {pair.adjusted for pair in pairs} == {6 * 2 / 2**10}


def test_eight_candidates_of_ten_seeds_are_judged_by_students_test():
    values = {name: 0.9 - 0.1 * i + RNG.normal(0, 0.01, 10) for i, name in enumerate("abcdefgh")}
    found, pairs = verdict(values)
    assert judged_by(10, len(pairs), 0.95) == "t"
    assert found == (("a",), "a wins.")


def test_the_fewest_seeds():
    assert [fewest(m, 0.95) for m in (1, 6, 21)] == [6, 8, 10]
    assert fewest(1, 0.99) == 8


@pytest.mark.heavy
@pytest.mark.parametrize("candidates", [2, 5, 8])
def test_equal_candidates_seldom_win(candidates):
    rng = np.random.default_rng(1)
    wins = [
        len(verdict({str(i): rng.normal(size=10) for i in range(candidates)})[0].winners) == 1
        for _ in range(200)
    ]
    assert np.mean(wins) <= 0.08


@pytest.mark.heavy
def test_a_gap_of_two_deviations_is_found():
    rng = np.random.default_rng(2)
    found = [
        verdict({"a": rng.normal(2.0, 1.0, 10), "b": rng.normal(0.0, 1.0, 10)})[0].winners == ("a",)
        for _ in range(200)
    ]
    assert np.mean(found) >= 0.95
