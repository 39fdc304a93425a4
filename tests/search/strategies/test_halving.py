"""Successive halving: which points go on, and what all strategies that halve refuse."""

import re

import hypothesis.strategies as st
import numpy as np
import pytest
from helpers.properties import over

import jaxdeep as jd
from jaxdeep.search.strategies import asynchronous, hyperband
from jaxdeep.search.strategies import halving as successive

HALVING = jd.search.SuccessiveHalving(first=2, factor=3)
KINDS = {
    jd.search.SuccessiveHalving: successive.check,
    jd.search.Hyperband: hyperband.check,
    jd.search.AsynchronousHalving: asynchronous.check,
}
ODD = [np.nan, np.inf, -np.inf]


def test_rungs_grow_by_the_factor_and_end_with_the_epochs():
    assert successive.rungs(HALVING, 18) == [2, 6, 18]
    assert successive.rungs(HALVING, 20) == [2, 6, 18, 20]
    assert successive.rungs(HALVING, 2) == [2]
    assert successive.rungs(None, 7) == [7]


def test_the_best_third_goes_on_by_the_mean_over_seeds():
    values = [[0.5, 0.7], [0.1, np.nan], [0.2, 0.6], [0.3, 0.3], [0.9, 0.9], [0.8, 0.1]]
    assert successive.survivors(HALVING, values, 1.0) == [3, 2]
    assert successive.survivors(HALVING, values, -1.0) == [4, 0]


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["min", "max"])
def test_what_is_not_finite_goes_on_in_neither_mode(sign):
    values = [[np.nan], [np.inf], [0.1], [-np.inf], [np.inf, -np.inf], [0.1, np.nan]]
    assert successive.survivors(HALVING, values, sign) == [2]  # although there is room for two
    assert successive.survivors(HALVING, [[value] for value in ODD], sign) == []
    assert successive.survivors(HALVING, [[1e308, 1e308], [0.0]], sign) == [1]  # no finite mean


def test_equal_points_go_on_in_their_order():
    assert successive.survivors(HALVING, [[0.0], [-0.0], [0.0]] * 3, 1.0) == [0, 1, 2]


@over(
    few=20,
    many=500,
    values=st.lists(st.lists(st.floats(width=32), min_size=2, max_size=2), min_size=1, max_size=20),
    sign=st.sampled_from([1.0, -1.0]),
    factor=st.integers(2, 5),
)
def test_none_that_goes_on_is_worse_than_one_that_ends(values, sign, factor):
    halving = jd.search.SuccessiveHalving(factor=factor)
    best = successive.survivors(halving, values, sign)
    finite = [i for i, seeds in enumerate(values) if np.isfinite(seeds).all()]
    assert len(best) == min(len(finite), max(1, len(values) // factor))
    assert set(best) <= set(finite)
    means = {i: sign * np.mean(values[i]) for i in finite}
    assert [means[i] for i in best] == sorted(means.values())[: len(best)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"first": 0}, "halving.first must be at least 1, got 0"),
        ({"first": True}, "halving.first must be a whole number, got True"),
        ({"first": np.True_}, "halving.first must be a whole number, got"),
        ({"first": None}, "halving.first must be a whole number, got None"),
        ({"first": 1.0}, "halving.first must be a whole number, got 1.0"),
        ({"first": [1]}, r"halving.first must be a whole number, got [1]"),
        ({"factor": 1}, "halving.factor must be at least 2, got 1"),
        ({"factor": float("nan")}, "halving.factor must be a whole number, got nan"),
        ({"factor": "3"}, "halving.factor must be a whole number, got '3'"),
        ({"mode": "up"}, "halving.mode must be 'min', 'max' or None, got 'up'"),
        ({"mode": True}, "halving.mode must be 'min', 'max' or None, got True"),
        ({"monitor": 3}, "halving.monitor must be the name of a metric, got 3"),
    ],
)
def test_a_field_out_of_range_is_named(kind, fields, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        KINDS[kind](kind(**fields))
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        successive.check(kind(**fields), *KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_another_strategy_is_refused(kind):
    KINDS[kind](kind(first=np.int8(2)))
    for other in (None, 3, "halving", kind, (1, 3, None, None), *(k() for k in KINDS if k is not kind)):
        with pytest.raises(TypeError, match=rf"must be a jaxdeep\.search\.{kind.__name__}, got"):
            KINDS[kind](other)
    expected = r"search\.SuccessiveHalving, Hyperband or AsynchronousHalving, got 3"
    with pytest.raises(TypeError, match=expected):
        successive.check(3, *KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_metric_must_be_known_at_the_first_rung(kind):
    metrics = {"loss": 0.0, "val_loss": 0.0, "val_accuracy": 0.0}
    successive.check_metrics(kind(first=2, monitor="val_accuracy"), metrics, 2)
    with pytest.raises(ValueError, match=r"halving\.first must be at least validate_every, 3, to know"):
        successive.check_metrics(kind(first=2), metrics, 3)
    with pytest.raises(ValueError, match="monitor must be one of loss, val_accuracy, val_loss"):
        successive.check_metrics(kind(monitor="score"), metrics, 1)
