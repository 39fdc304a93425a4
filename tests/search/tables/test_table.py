"""The table of a sweep: full runs alone are compared, whatever else stands in it."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import jaxdeep as jd
from jaxdeep.search.tables.result import ENDED, FULL, Result, Span
from jaxdeep.search.tables.table import Table

TRACEBACK = "Traceback (most recent call last):\n  File …\nValueError: rate must be positive\n"


def run(loss, ended="finished", **fields):
    return Result({}, {}, {"loss": np.array([9.0, loss])}, 1, ended, **fields)


NAN = math.nan
FAILED = Result(None, None, {}, -1, "error", TRACEBACK)


def table_of(*rows, spaces=None):
    """A table from (point, result) pairs."""
    return Table([point for point, _ in rows], [result for _, result in rows], spaces)


def grid(losses, ended=None, names=("seed",)):
    """A table of points 0, 1, … with runs whose losses, and endings, are given in rows."""
    points, results = [], []
    for i, values in enumerate(losses):
        for j, loss in enumerate(values):
            points.append(
                {"rate": float(i), "seed": j % 2, **({"fold": j // 2} if "fold" in names else {})}
            )
            results.append(run(loss, "finished" if ended is None else ended[i][j]))
    return Table(points, results)


def test_an_error_is_a_row_without_metrics():
    table = table_of(({"rate": 0.1, "seed": 0}, run(1.0)), ({"rate": 0.2, "seed": 0}, FAILED))
    good, bad = table.rows()
    assert bad == {
        **{"rate": 0.2, "seed": 0, "epochs": 0, "ended": "error", "diverged": False},
        "error": "ValueError: rate must be positive",
    }
    assert good["error"] == ""
    assert table.best("loss")["rate"] == 0.1
    assert table.history(1) == {}
    assert math.isnan(table.results[1].value("loss"))
    summary = table.over_seeds()[1]
    assert (summary["runs"], summary["diverged"], summary["full"]) == (1, 0, 0)
    assert math.isnan(summary["loss_mean"])


@pytest.mark.parametrize(
    ("values", "end", "ended", "value"),
    [
        ([3, 2, 1], 2, "finished", 1),
        ([3, 2, NAN], 2, "finished", NAN),  # the last one is evaluated always
        ([NAN, 2, NAN], 2, "finished", NAN),
        ([3, 1, 2, 4], 1, "stopped", 1),  # restored
        ([3, 1, NAN, NAN], 3, "stopped", NAN),
        ([NAN, 1, NAN], 2, "stopped", 1),  # by another metric, between two evaluations
        ([NAN, 1, NAN, NAN], 3, "halved", NAN),
        ([NAN, 1, NAN, 2, NAN], 4, "halved", 2),
        ([NAN, NAN], 1, "halved", NAN),
        ([3, 2, 1], 2, "diverged", NAN),
    ],
)
def test_the_value_of_a_run_is_that_of_the_last_epoch_evaluated(values, end, ended, value):
    history = {name: np.array(values, float) for name in ("val_loss", "loss")}
    result = Result({}, {}, history, end, ended)
    assert result.value("val_loss") == pytest.approx(value, nan_ok=True)
    if ended != "diverged":
        np.testing.assert_equal(result.value("loss"), result.at_end("loss"))


def test_rows_have_no_columns_about_nothing():
    table = grid([[1.0], [2.0]])
    assert list(table.rows()[0]) == ["rate", "seed", "epochs", "ended", "diverged", "loss"]
    assert list(table.over_seeds()[0]) == ["rate", "runs", "diverged", "loss_mean", "loss_std"]


def test_hyperparameters_with_names_of_columns_over_seeds_keep_their_values():
    names = ("runs", "full", "diverged", "loss_mean", "loss_std")
    points = [
        {**dict.fromkeys(names, 10.0 * i), "rate": 0.1, "seed": seed} for i in (1, 2) for seed in (0, 1)
    ]
    ends = [run(3.0), run(2.0), run(1.0), run(2.0)]
    for results in (ends, [*ends[:3], run(2.0, "halved")]):
        table = Table(points, results)
        assert table.over_seeds() == [dict.fromkeys(names, 10.0 * i) | {"rate": 0.1} for i in (1, 2)]
    assert Table(points, ends).best("loss", over_seeds=True)["runs"] == 20
    bars = Table(points, ends).plot("loss", "runs").axes[0].containers[0][2][0].get_segments()
    assert [np.ptp(bar[:, 1]) / 2 for bar in bars] == pytest.approx([0.5**0.5] * 2)
    other = table_of((points[0], ends[0]), ({"rate": 0.2, "seed": 0}, ends[1])).over_seeds()
    assert other[0].keys() - other[1].keys() == set(names)  # a column has one meaning


def test_a_metric_may_be_called_error():
    results = [
        Result({}, {}, {"error": np.array([0.25])}, 0, "finished"),
        Result(None, None, {}, -1, "error", TRACEBACK),
    ]
    table = Table([{"rate": 0.1, "seed": 0}, {"rate": 0.2, "seed": 0}], results)
    assert table.rows()[0]["error"] == 0.25
    assert "error" not in table.rows()[1]
    assert table.best("error")["rate"] == 0.1


def test_names_of_values_at_an_edge_are_in_the_rows():
    spaces = jd.search.sobol({"rate": jd.search.log_uniform(1e-4, 1.0), "units": [1, 2, 3]}, 2).spaces
    points = [{"rate": rate, "units": 3, "seed": 0, "fold": 1} for rate in (1.1e-4, 0.01, 1.0)]
    table = Table(points, [run(1.0)] * 3, spaces)
    assert [row["edge"] for row in table.rows()] == ["rate, units", "units", "rate, units"]
    assert table.best("loss")["edge"] == "rate, units"
    assert [row["edge"] for row in table.over_seeds()] == ["rate, units", "units", "rate, units"]
    for unknown in (None, ()):
        assert "edge" not in Table(points, [run(1.0)] * 3, unknown).rows()[0]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("ended", [e for e in ENDED if e not in FULL])
def test_what_is_no_full_run_is_never_best(mode, ended):
    better = -100.0 if mode == "min" else 100.0
    for value in (better, math.nan, math.inf, -math.inf):
        table = grid([[1.0], [value]], [["stopped"], [ended]])
        assert table.best("loss", mode)["rate"] == 0.0
        assert table.best("loss", mode, over_seeds=True)["rate"] == 0.0
    for value in (math.nan, math.inf, -math.inf):
        assert grid([[1.0], [value]]).best("loss", mode)["rate"] == 0.0


def test_points_that_lack_runs_of_others_are_incomplete():
    points = [{"rate": i / 10, "seed": i % 2} for i in range(12)]
    table = Table(points, [run(1.0)] * 12)
    with pytest.raises(ValueError, match="as full runs with a finite loss: 12 incomplete"):
        table.best("loss", over_seeds=True)
    table.plot("loss", "rate")


@hypothesis.given(
    st.lists(st.tuples(st.floats(width=32), st.sampled_from(ENDED)), min_size=1, max_size=8),
    st.sampled_from(["min", "max"]),
)
def test_the_best_is_that_of_the_finite_full_runs(rows, mode):
    table = grid([[value] for value, _ in rows], [[ended] for _, ended in rows])
    full = [value for value, ended in rows if ended in FULL and math.isfinite(value)]
    for over_seeds, name in ((False, "loss"), (True, "loss_mean")):
        if full:
            best = table.best("loss", mode, over_seeds=over_seeds)[name]
            assert best == (min(full) if mode == "min" else max(full))
        else:
            with pytest.raises(ValueError, match=f"with a finite loss: .*{len(rows)}|, "):
                table.best("loss", mode, over_seeds=over_seeds)


def test_without_a_full_run_the_error_says_how_runs_ended():
    table = grid([[1.0], [2.0], [3.0], [math.nan]], [["halved"], ["halved"], ["diverged"], ["finished"]])
    counts = "1 diverged, 2 halved, 1 not finite"
    with pytest.raises(ValueError, match=f"no row is a full run with a finite loss: {counts}"):
        table.best("loss")
    with pytest.raises(ValueError, match="no point has all of its seeds and folds as full runs"):
        table.best("loss", over_seeds=True)


def test_the_best_point_has_all_seeds_and_folds():
    losses = [[1.0, 1.0, 1.0, 1.0], [0.1, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2], [0.3, 0.3, 0.3, 0.3]]
    ended = [["finished"] * 4, ["finished"] * 3, ["finished"] * 3 + ["error"], ["halved"] * 4]
    table = grid(losses, ended, ("seed", "fold"))
    assert [row["runs"] for row in table.over_seeds()] == [4, 3, 4, 4]
    assert [row["full"] for row in table.over_seeds()] == [4, 3, 3, 0]
    assert not {"seed", "fold"} & set(table.over_seeds()[0])
    assert table.best("loss", over_seeds=True)["rate"] == 0.0
    assert table.best("loss")["rate"] == 1.0  # of single runs

    # as many runs, but not the same ones
    some = [{"rate": 0.0, "seed": 0}, {"rate": 0.0, "seed": 1}, {"rate": 1.0, "seed": 1}]
    two = Table([*some, {"rate": 1.0, "seed": 2}], [run(1.0)] * 4)
    with pytest.raises(ValueError, match=r"no point has all .*: 2 incomplete"):
        two.best("loss", over_seeds=True)


def test_rows_of_a_point_belong_together_wherever_they_stand():
    points = [{"rate": rate, "seed": seed} for seed in (0, 1) for rate in (0.1, math.nan)]
    table = Table(points, [run(loss) for loss in (1.0, 2.0, 3.0, 4.0)])
    assert [row["loss_mean"] for row in table.over_seeds()] == [2.0, 3.0]
    again = Table(points[:1] * 3, [run(1.0)] * 3)  # a point that is given three times is three
    assert [row["runs"] for row in again.over_seeds()] == [1, 1, 1]


def test_points_of_different_names():
    history = {
        "loss": np.array([1.0]),
        "b1": np.array([0.5]),
    }  # a metric of the name of a hyperparameter
    results = [Result({}, {}, history, 0, "finished")] * 2
    points = [
        {"optimizer": "adam", "b1": 0.9, "seed": 0},
        {"optimizer": "sgd", "momentum": 0.8, "seed": 0},
    ]
    adam, sgd = (table := Table(points, results)).rows()
    assert adam["b1"] == 0.9
    assert "b1" not in sgd
    assert [row.get("momentum") for row in table.over_seeds()] == [None, 0.8]
    assert list(table.to_frame().columns)[:4] == ["optimizer", "b1", "momentum", "seed"]


class OnDisk:
    """Parameters that are read when they are asked for."""

    def load(self):
        return {"w": np.arange(3.0)}, {"mean": np.zeros(2)}


def test_parameters_on_disk_are_read_when_asked_for():
    stored = Result(OnDisk(), None, {"loss": np.array([1.0])}, 0, "finished")
    table = Table([{"seed": 0}], [stored])
    params, state = table.trained(0)
    np.testing.assert_array_equal(params["w"], np.arange(3.0))
    assert state["mean"].shape == (2,)
    with pytest.raises(ValueError, match="read-only"):
        params["w"][0] = 1.0


def test_an_ensemble_reads_its_members():
    class Dense:
        def load(self):
            return {"kernel": np.ones((3, 1), np.float32), "bias": np.zeros(1, np.float32)}, {}

    results = [Result(Dense(), None, {"loss": np.zeros(1)}, 0, "finished"), FAILED]
    results.append(results[0]._replace(params=None))  # not kept
    table = Table([{"seed": i} for i in range(3)], results)
    joint = jd.uncertainty.ensemble(jd.nn.dense(1), table, np.ones((2, 3)), outputs="values")
    np.testing.assert_array_equal(joint.mean, [[3.0], [3.0]])


@pytest.mark.parametrize(
    ("ended", "message"),
    [
        ("error", "row 1 has no parameters: it ended with an error"),
        ("interrupted", "row 1 has no parameters: it was interrupted"),
        ("finished", r"row 1: its parameters were not kept \(keep_params=5 keeps the best five\)"),
        ("halved", "row 1: its parameters were not kept"),
    ],
)
def test_parameters_that_are_not_there(ended, message):
    gone = run(1.0, ended)._replace(params=None, state=None)
    with pytest.raises(ValueError, match=message):
        Table([{"seed": 0}, {"seed": 1}], [run(1.0), gone]).trained(1)


def test_results_keep_their_spans_and_do_not_change():
    table = Table([{"seed": 0}], [run(1.0, spans=(("cpu 0", 0.0, 1.0, 2),))])
    assert table.results[0].spans == (Span("cpu 0", 0.0, 1.0, epochs=2),)
    with pytest.raises(ValueError, match="read-only"):
        table.results[0].history["loss"][0] = 0.0
    with pytest.raises(TypeError):
        table.results[0].history["loss"] = 0.0
    assert Result(None, None, {}, 0, "finished")[5:] == ("", ())


TWO = grid([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TWO.best(None), "metric must be one of loss; got None"),
        (lambda: TWO.best(["loss"]), "metric must be one of loss; got"),
        (lambda: TWO.best(np.array([1, 2])), "metric must be one of loss; got"),
        (lambda: TWO.best("rate"), "metric must be one of loss; got 'rate'"),
        (lambda: TWO.best("loss", "up"), "mode must be None, 'min' or 'max', got 'up'"),
        (lambda: TWO.best("loss", over_seeds=2), "over_seeds must be True or False, got 2"),
        (lambda: TWO.trained("0"), "row must be the number of a row, got '0'"),
        (lambda: TWO.history(True), "row must be the number of a row, got True"),
        (lambda: TWO.history(4), "row must be less than the number of rows, 4, got 4"),
        (lambda: Table([{"seed": 0}], []), "results must be as many as points, 1, got 0"),
        (lambda: Table([{"seed": 0}], [FAILED]).best("loss"), "the table has no metrics"),
        (lambda: TWO.importance("loss"), "importance needs 10 points at least .* got 2 of 2"),
        (lambda: TWO.importance("loss", trees=0), "trees must be at least 10, got 0"),
        (lambda: TWO.importance("loss", seed=-1), "seed must be at least 0, got -1"),
        (lambda: TWO.plot("loss", None), "x must be one of rate; got None"),
        (lambda: TWO.plot("loss", "seed"), "x must be one of rate; got 'seed'"),
        (lambda: TWO.plot("loss", "rate", ax=3), "ax must be a matplotlib axes, got 3"),
        (lambda: TWO.plot_history("loss", best=0), "best must be at least 1, got 0"),
        (lambda: TWO.plot_history("loss", path="gs://a/b.png"), "path must be a path on this machine"),
        (lambda: TWO.plot_best_of("loss", by="units"), "by must be one of rate; got 'units'"),
        (lambda: TWO.plot_distribution("loss", by=["rate"]), "by must be one of rate; got"),
        (lambda: TWO.plot_parallel("score"), "metric must be one of loss; got 'score'"),
        (TWO.plot_timeline, "the table has no times"),
        (lambda: TWO.to_frame("csv"), "backend must be 'pandas', 'polars' or 'pyarrow', got 'csv'"),
        (lambda: TWO.to_frame(None), "backend must be 'pandas', 'polars' or 'pyarrow', got None"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises((ValueError, TypeError, IndexError), match=message):
        call()
