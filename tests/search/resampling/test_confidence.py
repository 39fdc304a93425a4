"""Intervals of means over seeds and folds, beside SciPy's and by simulation."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import jaxdeep as jd
from jaxdeep.search.tables.table import Result, Table

corrected_interval, intervals = jd.search.corrected_interval, jd.search.intervals


def table_of(rows):
    """A table of runs of one epoch, from their points, losses and endings."""
    ends = [Result({}, {}, {"loss": np.array([loss])}, 0, how) for _, loss, how in rows]
    return Table([point for point, _, _ in rows], ends)


def folds_of(rate, values, sizes=(80, 20), ended="finished"):
    """Rows of a point: of values by fold and by seed."""
    names = dict(zip(("n_train", "n_validate"), sizes))
    return [
        ({"rate": rate, "fold": fold, **names, "seed": seed}, value, ended)
        for fold, of_seeds in enumerate(values)
        for seed, value in enumerate(of_seeds)
    ]


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=20),
    st.floats(0.5, 0.999),
    st.integers(1, 1000),
    st.integers(0, 1000),
)
def test_the_interval_is_students_t_with_the_correction(values, level, n_train, n_validate):
    low, high = corrected_interval(values, n_train, n_validate, level=level)
    n, sem = len(values), scipy.stats.sem(values)
    if sem < 1e-6:
        assert low == pytest.approx(high, abs=1e-4)
        return
    wider = np.sqrt(1 + n * n_validate / n_train)  # than the usual one
    ends = scipy.stats.t.interval(level, n - 1, loc=np.mean(values), scale=sem * wider)
    np.testing.assert_allclose((low, high), ends, rtol=1e-6, atol=1e-6)


def test_equal_values_have_an_interval_of_themselves():
    assert corrected_interval([0.5, 0.5, 0.5], 2, 1) == (0.5, 0.5)


def test_the_corrected_interval_covers_the_mean_where_the_usual_one_does_not():
    # The model is the mean of its training rows, judged by its squared error on the others. The data
    # are normal, so that the expected error is 1 + 1 / n_train.
    rng, rows, folds, hit = np.random.default_rng(0), 60, 10, {0: 0, 1: 0}
    n_train, n_validate = rows * 2 // 3, rows // 3
    repeats = 400
    for _ in range(repeats):
        data = rng.normal(size=rows)
        errors = []
        for _ in range(folds):
            order = rng.permutation(rows)
            train, validate = data[order[:n_train]], data[order[n_train:]]
            errors.append(np.mean((validate - train.mean()) ** 2))
        for corrected in hit:
            low, high = corrected_interval(errors, n_train, corrected * n_validate)
            hit[corrected] += low <= 1 + 1 / n_train <= high
    assert hit[0] / repeats < 0.7  # of the 95 % promised
    assert 0.88 < hit[1] / repeats < 0.99


def test_a_value_is_the_mean_over_the_seeds_of_a_fold():
    values = [[1.0, 3.0], [2.0, 4.0], [6.0, 6.0]]
    row, other = intervals(table_of(folds_of(0.1, values) + folds_of(0.2, values)), "loss")
    low, high = corrected_interval([2.0, 3.0, 6.0], 80, 20)
    assert row == {
        "rate": 0.1,
        "n": 3,
        "loss_mean": pytest.approx(11 / 3),
        "loss_low": pytest.approx(low),
        "loss_high": pytest.approx(high),
    }
    assert other["rate"] == 0.2


def test_sizes_that_differ_count_with_their_means():
    rows = folds_of(0.1, [[1.0]], (80, 20))
    rows += [({**point, "fold": 1}, 2.0, how) for point, _, how in folds_of(0.1, [[2.0]], (60, 40))]
    (row,) = intervals(table_of(rows), "loss")
    assert row["loss_low"] == pytest.approx(corrected_interval([1.0, 2.0], 70, 30)[0])


def test_without_folds_the_values_are_those_of_seeds():
    rows = [({"rate": 0.1, "seed": seed}, loss, "stopped") for seed, loss in enumerate([1.0, 2.0, 4.0])]
    (row,) = intervals(table_of(rows), "loss", level=0.9)
    ends = scipy.stats.t.interval(0.9, 2, loc=7 / 3, scale=scipy.stats.sem([1.0, 2.0, 4.0]))
    assert row["n"] == 3
    assert (row["loss_low"], row["loss_high"]) == pytest.approx(ends)


def test_differences_to_a_point_are_taken_in_the_same_folds_and_seeds():
    a = [[1.0, 2.0], [3.0, 4.0], [9.0, 7.0]]
    b = [[1.5, 2.5], [3.5, 4.7], [9.5, 7.5]]
    table = table_of(folds_of(0.1, a) + folds_of(0.2, b))
    itself, other = intervals(table, "loss", against=table.best("loss", over_seeds=True))
    assert (itself["loss_low"], itself["loss_mean"], itself["loss_high"]) == (0, 0, 0)
    expected = corrected_interval([0.5, 0.6, 0.5], 80, 20)
    assert (other["loss_low"], other["loss_high"]) == pytest.approx(expected)
    assert other["loss_low"] > 0  # while the intervals of the values overlap
    alone = intervals(table, "loss")
    assert alone[0]["loss_high"] > alone[1]["loss_low"]


def test_points_without_all_full_runs_have_no_mean():
    rows = folds_of(0.1, [[1.0], [2.0]])
    for loss, how in ((np.nan, "diverged"), (0.1, "halved"), (0.1, "interrupted")):
        odd = folds_of(0.2, [[1.0], [loss]])
        odd[1] = (*odd[1][:2], how)
        row, of_odd = intervals(table_of(rows + odd), "loss")
        assert row["loss_mean"] == 1.5
        assert all(np.isnan(of_odd[f"loss_{name}"]) for name in ("mean", "low", "high"))
    row, missing = intervals(table_of(rows + folds_of(0.2, [[1.0]])), "loss")
    assert row["loss_mean"] == 1.5
    assert np.isnan(missing["loss_mean"])
    against_odd = intervals(table_of(rows + odd), "loss", against={"rate": 0.2})
    assert np.isnan(against_odd[0]["loss_mean"])


def test_a_hyperparameter_called_n_keeps_its_value():
    rows = [({"n": n, "seed": seed}, n + seed, "finished") for n in (5.0, 4.0) for seed in (0, 1)]
    table = table_of(rows)
    found = intervals(table, "loss", against=table.best("loss", over_seeds=True))
    assert [(row["n"], row["loss_mean"]) for row in found] == [(5.0, 1.0), (4.0, 0.0)]


@pytest.mark.parametrize("name", ["loss_mean", "loss_low", "loss_high"])
def test_a_hyperparameter_in_the_place_of_an_interval_is_said(name):
    table = table_of([({name: 1.0, "seed": seed}, 1.0, "finished") for seed in (0, 1)])
    with pytest.raises(ValueError, match=f"got 'loss', and the table has '{name}'"):
        intervals(table, "loss")


def test_a_single_value_has_no_interval():
    (row,) = intervals(table_of(folds_of(0.1, [[1.0, 2.0]])), "loss")
    assert row["n"] == 1
    assert row["loss_mean"] == 1.5
    assert np.isnan(row["loss_low"])
    assert np.isnan(row["loss_high"])


TABLE = table_of(folds_of(0.1, [[1.0], [2.0]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: corrected_interval([1.0], 8, 2), "values must be two numbers at least"),
        (lambda: corrected_interval([[1.0, 2.0]], 8, 2), "values must be two numbers at least"),
        (lambda: corrected_interval([1.0, np.nan], 8, 2), "values must be finite, got nan"),
        (lambda: corrected_interval(None, 8, 2), "values must be an array of numbers, got None"),
        (lambda: corrected_interval([1.0, 2.0], 0, 2), r"n_train must be in \(0, inf\)"),
        (lambda: corrected_interval([1.0, 2.0], 8, -1), r"n_validate must be in \[0, inf\)"),
        (lambda: corrected_interval([1.0, 2.0], 8, None), "n_validate must be a number"),
        (lambda: corrected_interval([1.0, 2.0], 8, 2, level=95), r"level must be in \(0, 1\)"),
        (lambda: intervals("table", "loss"), "table must be a Table"),
        (lambda: intervals(table_of([]), "loss"), "the table has no rows"),
        (lambda: intervals(TABLE, "score"), "metric must be one of loss, got 'score'"),
        (lambda: intervals(TABLE, None), "metric must be one of loss, got None"),
        (lambda: intervals(TABLE, "loss", level=1.0), r"level must be in \(0, 1\)"),
        (lambda: intervals(TABLE, "loss", against=3), "against must be a point, a dict"),
        (
            lambda: intervals(TABLE, "loss", against={"rate": 0.3}),
            "against must be a point of the table",
        ),
        (
            lambda: intervals(
                table_of([({"fold": f, "seed": 0}, 1.0, "finished") for f in (0, 1)]), "loss"
            ),
            "table must have n_train and n_validate beside each fold",
        ),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_a_point_whose_names_are_some_of_anothers_is_not_taken_for_it():
    points = [
        {**point, "seed": seed} for point in ({"rate": 0.1}, {"rate": 0.1, "b1": 0.5}) for seed in (0, 1)
    ]
    ends = [
        Result({}, {}, {"loss": np.array([v])}, end=0, ended="finished") for v in (1.0, 2.0, 5.0, 7.0)
    ]
    table = Table(points, ends)
    other, own = jd.search.intervals(table, "loss", against={"rate": 0.1, "b1": 0.5})
    assert (other["loss_mean"], own["loss_mean"]) == (-4.5, 0.0)
    own, other = jd.search.intervals(table, "loss", against={"rate": 0.1})
    assert (own["loss_mean"], other["loss_mean"]) == (0.0, 4.5)
