"""The views of a table: what is drawn is what the rows say."""

import math
import sys

import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep.search.tables import drawing, parallel, timeline
from jaxdeep.search.tables.best_of import expected_best
from jaxdeep.search.tables.result import Result, Span
from jaxdeep.search.tables.table import Table


def run(values, ended="finished", end=None, **fields):
    values = np.asarray(values, float)
    return Result({}, {}, {"loss": values}, len(values) - 1 if end is None else end, ended, **fields)


def table_of(losses, ended=None, points=None, spaces=None):
    """Points of one run of one epoch each."""
    n = len(losses)
    points = [{"rate": 10.0**-i, "seed": 0} for i in range(n)] if points is None else points
    ended = ["finished"] * n if ended is None else ended
    return Table(points, [run([loss], how) for loss, how in zip(losses, ended)], spaces)


def texts(things):
    return [text.get_text() for text in things]


def legend(ax):
    return texts(ax.get_legend().get_texts())


MIXED = table_of(
    [1.0, 2.0, 3.0, math.nan, math.nan], ["finished", "stopped", "halved", "diverged", "error"]
)


def test_a_slice_shows_bounds_and_a_rail():
    ranges = jd.search.log_uniform(1e-6, 0.1), jd.search.choice([1e-5, 10.0])
    spaces = (*({"rate": rate} for rate in ranges), {"act": jd.search.choice(["relu"])})
    table = Table(MIXED.points, MIXED.results, spaces)
    (ax,) = table.plot("loss", "rate").axes
    verticals = {line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"} - {0}
    assert verticals == {1e-6, 10.0}
    hollow = [line for line in ax.lines if line.get_fillstyle() == "none" and len(line.get_xdata())]
    assert [line.get_ydata().tolist() for line in hollow] == [[3.0]]
    marks = {line.get_marker(): line for line in ax.lines if line.get_marker() in "x+"}
    assert marks["x"].get_xdata().tolist() == [1e-3]
    assert marks["+"].get_xdata().tolist() == [1e-4]
    assert (
        ax.transAxes.inverted().transform(ax.transData.transform((1.0, 3.0)))[1] < 0.9
    )  # below the rail
    assert "× diverged, + error" in texts(ax.texts)
    assert legend(ax) == ["halved"]


def test_the_rail_of_an_accuracy_is_at_the_bottom():
    points = [{"rate": 0.1, "seed": 0}, {"rate": 0.2, "seed": 0}]
    history = {"accuracy": np.array([0.5])}
    results = [Result({}, {}, history, 0, ended) for ended in ("finished", "diverged")]
    (ax,) = Table(points, results).plot("accuracy", "rate").axes
    (mark,) = [line for line in ax.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert mark.get_ydata()[0] < 0.1


def test_a_line_of_a_slice_ends_beside_what_diverged():
    points = [{"rate": r, "act": a, "seed": 0} for a in ("relu", "tanh") for r in (1, 2, 3)]
    table = table_of([1.0, 2.0, 3.0] * 2, ["finished", "diverged", "finished"] * 2, points)
    (ax,) = table.plot("loss", "rate").axes
    assert np.isnan(ax.containers[0].lines[0].get_ydata()).tolist() == [False, True, False]


def test_points_without_the_hyperparameter_are_left_out():
    points = [{"b1": 0.9, "seed": 0}, {"momentum": 0.8, "seed": 0}, {"b1": 0.8, "seed": 0}]
    table = table_of([1.0, 2.0, 3.0], points=points)
    (ax,) = table.plot("loss", "b1").axes
    assert ax.get_title() == "the 2 of 3 points that have b1"
    with pytest.raises(ValueError, match="no point has both b1 and momentum"):
        table.plot("loss", "b1", "momentum")


def test_lines_of_values_that_differ_little_are_apart():
    points = [{"rate": r, "b2": b2, "seed": 0} for b2 in (0.9991, 0.9992) for r in (1, 2)]
    (ax,) = table_of([1.0, 2.0, 3.0, 4.0], points=points).plot("loss", "rate").axes
    assert legend(ax) == ["b2 0.9991", "b2 0.9992"]


def test_what_was_interrupted_before_its_first_epoch_is_not_drawn():
    points = [{"rate": r, "b1": b, "seed": 0} for r in (1.0, 2.0) for b in (0.1, 0.2)]
    results = [run([1.0]), Result(None, None, {}, -1, "interrupted"), run([2.0]), run([3.0])]
    table = Table(points, results)
    for y in (None, "b1"):
        ax = table.plot("loss", "rate", y).axes[0]
        assert not {"+", "×"} & set(texts(ax.texts))
        assert not [line for line in ax.lines if line.get_marker() in ("x", "+")]


def test_a_map_and_a_scatter_tell_what_had_fewer_epochs():
    points = [{"a": i // 2, "b": i % 2, "seed": 0} for i in range(4)]
    ended = ["finished", "halved", "diverged", "error"]
    ax = table_of([1.0, 2.0, math.nan, math.nan], ended, points).plot("loss", "a", "b").axes[0]
    assert sorted(texts(ax.texts)) == ["(2)", "+", "1", "×"]
    assert ax.get_title() == "in parentheses: halved"
    scattered = [{"a": float(i), "b": float(i * i), "seed": 0} for i in range(4)]
    ax = table_of([1.0, 2.0, math.nan, math.nan], ended, scattered).plot("loss", "a", "b").axes[0]
    faces = ax.collections[0].get_facecolor()
    assert faces[:, 3].tolist() == [1.0, 0.0]
    assert ax.get_title() == "hollow: halved"


def test_history_shows_medians_and_quartiles_over_seeds():
    points = [{"rate": rate, "seed": seed} for rate in (0.1, 0.2) for seed in range(3)]
    worse = [run([4.0, 3.0]), run([5.0, 6.0]), run([6.0, 4.0])]
    table = Table(points, [*worse, run([3.0, 1.0, 0.5]), run([2.0, 1.0], "stopped"), run([1.0, 0.1])])
    (ax,) = table.plot_history("loss").axes
    assert legend(ax) == ["rate 0.2", "rate 0.1"]  # the best first
    curves = {line.get_label(): line for line in ax.lines}
    assert curves["rate 0.1"].get_xdata().tolist() == [1, 2]
    assert curves["rate 0.1"].get_ydata().tolist() == [5.0, 4.0]
    assert curves["rate 0.2"].get_ydata().tolist() == [2.0, 1.0, 0.5]  # (0.5, 1, 0.1) at the end
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(np.quantile([4, 6, 3], 0.25))
    assert len(table.plot_history("loss", best=1).axes[0].get_legend().get_texts()) == 1


def test_history_marks_how_lines_end():
    ended = ["finished", "halved", "diverged", "interrupted", "error"]
    runs = [run([5.0 + i, 4.0 + i, math.nan], how, 2) for i, how in enumerate(ended)]
    table = Table([{"rate": i / 8, "seed": 0} for i in range(5)], runs)
    (ax,) = table.plot_history("loss", path=None).axes
    assert set(legend(ax)[5:]) == {"halved", "diverged", "interrupted", "error"}
    marks = np.concatenate(
        [c.get_offsets() for c in ax.collections if type(c).__name__ == "PathCollection"]
    )
    assert sorted(map(tuple, marks)) == [(2.0, 5.0), (2.0, 6.0), (2.0, 7.0), (2.0, 8.0)]


def test_history_of_metrics_that_are_not_known_each_epoch():
    values = [np.nan, 2.0, np.nan, 1.0]
    (ax,) = Table([{"rate": 0.1, "seed": 0}], [run(values)]).plot_history("loss").axes
    assert ax.lines[0].get_xdata().tolist() == [2, 4]
    (ax,) = Table([{"rate": 0.1, "seed": 0}], [run([np.nan])]).plot_history("loss").axes
    assert not ax.lines


def test_the_best_of_k():
    losses = [0.1, 0.5, 0.7, 0.9, math.nan, 3.0]
    ended = ["finished"] * 4 + ["diverged", "halved"]
    (ax,) = table_of(losses, ended).plot_best_of("loss").axes
    np.testing.assert_allclose(
        ax.lines[0].get_ydata(), expected_best([0.1, 0.5, 0.7, 0.9, 0.9], "min")[:2]
    )
    assert len(ax.lines[1].get_ydata()) == 5
    assert legend(ax) == ["5 points, 1 diverged, without 1 halved", "biased, to all points"]
    points = [{"optimizer": name, "seed": 0} for name in ("adam", "sgd", "adam", "sgd", "adam", "sgd")]
    points = [{**point, "i": i} for i, point in enumerate(points)]
    (ax,) = table_of(losses, ended, points).plot_best_of("loss", by="optimizer").axes
    assert legend(ax)[:2] == [
        "optimizer adam: 3 points, 1 diverged",
        "optimizer sgd: 2 points, without 1 halved",
    ]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [np.mean([0.1, 0.7, 0.9])])  # worst of the table


def test_the_distribution_counts_what_diverged():
    losses = [0.2, 0.1, 0.4, math.nan, 0.1]
    ended = ["finished"] * 3 + ["diverged", "halved"]
    (ax,) = table_of(losses, ended).plot_distribution("loss").axes
    assert ax.lines[0].get_xdata().tolist() == [0.1, 0.1, 0.2, 0.4]
    assert ax.lines[0].get_ydata().tolist() == [0.0, 0.25, 0.5, 0.75]
    assert legend(ax) == ["4 runs, 1 diverged, without 1 halved"]
    (ax,) = table_of(losses, ended).plot_distribution("loss", "max").axes
    assert ax.lines[0].get_xdata().tolist() == [0.4, 0.4, 0.2, 0.1]


@pytest.mark.parametrize("view", ["plot_best_of", "plot_distribution", "plot_parallel"])
def test_views_without_a_full_run_say_so(view):
    table = table_of([1.0, math.nan], ["halved", "diverged"])
    with pytest.raises(ValueError, match=f"{view} needs a full run"):
        getattr(table, view)("loss")


def test_numbers_that_no_axis_holds_are_drawn_as_words(tmp_path):
    points = [{"clip": clip, "seed": 0} for clip in (1.0, math.inf, math.nan)]
    points += [{"clip": 1e308, "seed": 0}]
    table = table_of([5e-324, 1e300, -1e300, 1.0], points=points)
    assert texts(table.plot("loss", "clip").axes[0].get_xticklabels()) == ["1", "1e+308", "inf", "nan"]
    table.plot_parallel("loss", path=tmp_path / "a.png")
    table.plot_history("loss", path=tmp_path / "b.png")
    table.plot_best_of("loss", path=tmp_path / "c.png")
    assert table.over_seeds()[1]["loss_mean"] == 1e300


def test_parallel_coordinates():
    points = [
        {"rate": 1e-3, "act": "tanh", "same": 1, "seed": 0},
        {"rate": 1e-1, "act": "relu", "same": 1, "seed": 0},
        {"rate": 1e-2, "same": 1, "seed": 0},
        {"rate": 1e-2, "act": "relu", "same": 1, "seed": 0},
    ]
    table = table_of([1.0, 2.0, math.nan, 3.0], ["finished", "finished", "diverged", "halved"], points)
    ax = table.plot_parallel("loss").axes[0]
    assert texts(ax.get_xticklabels()) == ["rate", "act", "loss"]
    lost, lines = (drawn.get_segments() for drawn in ax.collections)
    np.testing.assert_allclose([line[:, 1] for line in lost], [[0.5, parallel._BELOW, 1.08]])
    np.testing.assert_allclose([line[:, 1] for line in lines], [[1, 0, 1], [0, 1, 0]], atol=1e-12)
    assert {"0.001", "0.01", "0.1", "relu", "tanh"} <= set(texts(ax.texts))
    assert ax.get_title() == (
        "dashed: 1 diverged, below an axis: without it, "
        "1 halved, interrupted or with an error are left out"
    )
    with pytest.raises(ValueError, match="needs a hyperparameter that differs between points"):
        table_of([1.0], points=[{"rate": 0.1, "seed": 0}]).plot_parallel("loss")


def test_axes_of_hyperparameters_are_as_their_ranges_are():
    points = [
        {"rate": rate, "drop": drop, "seed": 0} for rate, drop in ((0.1, 0.01), (0.2, 0.1), (0.4, 0.5))
    ]
    spaces = ({"rate": jd.search.log_uniform(1e-3, 1), "drop": jd.search.uniform(0, 0.9)},)
    table, plain = (table_of([1.0, 2.0, 3.0], points=points, spaces=s) for s in (spaces, None))
    for name, scales in (("rate", ("log", "linear")), ("drop", ("linear", "log"))):
        assert (
            table.plot("loss", name).axes[0].get_xscale(),
            plain.plot("loss", name).axes[0].get_xscale(),
        ) == scales
    ax = table.plot("loss", "rate", "drop").axes[0]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    (drawn,) = [c for c in table.plot_parallel("loss").axes[0].collections if len(c.get_segments())]
    middle = next(line for line in drawn.get_segments() if 0 < line[0, 1] < 1)
    np.testing.assert_allclose(middle[:2, 1], [0.5, 0.09 / 0.49])  # halfway of a logarithm, and not


def test_the_timeline_has_a_lane_for_each_worker():
    spans = [
        (Span("gpu 10", 0.0, 1.0, 1), Span("gpu 2", 1.0, 3.0, 2)),
        (Span("gpu 10", 0.5, 1.5, 1),),
        (),
    ]
    ended = ["finished", "halved", "error"]
    results = [run([1.0], how, spans=s) for how, s in zip(ended, spans)]
    (ax,) = Table([{"seed": i} for i in range(3)], results).plot_timeline().axes
    assert texts(ax.get_yticklabels()) == ["gpu 2", "gpu 10"]
    assert legend(ax) == ["1 finished", "1 halved", "1 error"]
    boxes = [path.get_extents() for path in ax.collections[0].get_paths()]
    assert sorted((box.x0, box.x1) for box in boxes) == [(0.0, 1.0), (0.5, 1.5), (1.0, 3.0)]
    first, second = (box for box in boxes if box.y0 > 0.5)  # those of gpu 10, which overlap in time
    assert first.y1 <= second.y0 or second.y1 <= first.y0


def test_lanes_are_as_few_as_rows_at_once():
    rng = np.random.default_rng(0)
    begin = rng.uniform(0, 10, 200)
    spans = [Span("a", b, b + length, 1) for b, length in zip(begin, rng.uniform(0, 3, 200))]
    lanes = timeline.lanes_of(spans)
    most = max(sum(s.begin <= t < s.end for s in spans) for t in begin)
    assert max(lanes) + 1 == most
    for a, lane in zip(spans, lanes):
        for b, other in zip(spans, lanes):
            assert a is b or lane != other or a.end <= b.begin or b.end <= a.begin


VIEWS = {
    "slice": lambda table, **how: table.plot("lo$s$s", "ra$te$", **how),
    "map": lambda table, **how: table.plot("lo$s$s", "ra$te$", "ac$t$", **how),
    "history": lambda table, **how: table.plot_history("lo$s$s", "min", **how),
    "best of": lambda table, **how: table.plot_best_of("lo$s$s", "min", by="ac$t$", **how),
    "distribution": lambda table, **how: table.plot_distribution("lo$s$s", "min", by="ac$t$", **how),
    "parallel": lambda table, **how: table.plot_parallel("lo$s$s", "min", **how),
    "timeline": lambda table, **how: table.plot_timeline(**how),
}


@pytest.mark.few(1)
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_draws_on_axes_and_saves(view, tmp_path, monkeypatch):
    """With names that matplotlib would take for mathematics, and each kind of ending."""
    spans = (Span("$wor$ker", 0.0, 1.0, 1),)
    ended = ["finished", "stopped", "halved", "diverged", "interrupted", "error", "finished", "finished"]
    points = [{"ra$te$": 10.0**-i, "ac$t$": f"$\\{i % 2}$", "seed": 0} for i in range(8)]
    results = [
        Result({}, {}, {"lo$s$s": np.array([8.0 - i, 9.0 - i])}, 1, how, spans=spans)
        for i, how in enumerate(ended)
    ]
    table = Table(points, results)
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    path = tmp_path / "view.svg"
    assert VIEWS[view](table, ax=ax, path=path) is ax.figure
    assert path.stat().st_size > 1_000
    VIEWS[view](table, path=tmp_path / "own.png")
    with pytest.raises(ValueError, match="path must be a path on this machine"):
        VIEWS[view](table, path="s3://bucket/view.png")
    with pytest.raises(TypeError, match="ax must be a matplotlib axes, got"):
        VIEWS[view](table, ax=[ax])
    with pytest.raises(ValueError, match="the table has no rows"):
        VIEWS[view](Table([], []))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxdeep\[plot\]'"):
        VIEWS[view](table)


def test_colors_and_marks_are_of_endings():
    from jaxdeep.search.tables.result import ENDED, INCOMPLETE

    assert set(drawing.COLORS) == {*ENDED, INCOMPLETE}
    assert set(drawing.MARKS) < set(drawing.COLORS)
