"""Figures of runs: which panels there are, and what they hold."""

import jax
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep import plotting

DEEP = {"loss": np.array([[1.0, 0.1], [2.0, 0.2]]), "val_accuracy": np.array([0.5, 0.9])}
X = np.ones((32, 1), np.float32)
DIAGRAM = jd.uncertainty.reliability(np.array([[0.9, 0.1]]), np.array([0]))
LINE = {"loss": [3.0, 1.0], "val_loss": [4.0, 2.0], "learning_rate": [0.1, 0.1]}


def labels(figure):
    return [ax.get_ylabel() for ax in figure.axes]


def test_curves_have_a_panel_for_each_metric(tmp_path):
    figure = plotting.curves({"a": DEEP, "b": DEEP}, title="a $ and a _")
    assert labels(figure) == ["training loss", "validation accuracy"]
    assert [ax.get_yscale() for ax in figure.axes] == ["log", "linear"]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [1.5, 0.15])
    figure.savefig(tmp_path / "curves.png")
    assert labels(plotting.curves({"line": LINE})) == ["training loss", "validation loss"]
    assert labels(plotting.curves({"line": {"loss": [1.0]}})) == ["training loss"]
    rates = plotting.curves({"line": LINE}, metrics=["learning_rate"])
    assert labels(rates) == ["learning rate"]


def test_a_run_without_a_metric_is_in_the_other_panels_and_in_the_legend():
    figure = plotting.curves({"line": LINE, "deep": DEEP})
    assert [len(ax.lines) for ax in figure.axes] == [2, 1]
    legend = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert legend == ["line", "deep"]


@pytest.mark.heavy
def test_the_history_of_a_regression_is_drawn():
    x = np.linspace(-1, 1, 32, dtype=np.float32)[:, None]
    result = jd.fit(
        jd.nn.dense(1),
        (x, 3 * x),
        loss=jd.losses.mse,
        optimizer=jd.optimizers.sgd(0.1),
        epochs=2,
        key=jax.random.key(0),
        progress=False,
    )
    assert labels(plotting.curves({"line": result.history})) == ["training loss"]


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (["loss", "acc"], ValueError, "metrics must be of learning_rate, loss, val_loss; got 'acc'"),
        ([], ValueError, "metrics must name at least one of learning_rate, loss, val_loss; got none"),
        ("loss", TypeError, "metrics must be a list, got 'loss'"),
    ],
)
def test_metrics_that_no_run_has_are_refused(metrics, error, message):
    with pytest.raises(error, match=message):
        plotting.curves({"line": LINE}, metrics=metrics)


def test_a_single_run_is_drawn_by_its_history_or_its_result():
    result = jd.fit(
        jd.nn.dense(1), (X, X), loss=jd.losses.mse, optimizer=jd.optimizers.sgd(0.1), epochs=2, key=0,
        progress=False,
    )  # fmt: skip
    for given in (result, result.history, {"line": result}):
        (ax,) = plotting.curves(given).axes
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), result.history["loss"])
        assert (ax.get_legend() is None) == (not isinstance(given, dict) or "line" not in given)


def test_a_single_flow_and_a_single_diagram_are_drawn():
    layer = jd.diagnostics.LayerFlow(*np.full(len(jd.diagnostics.LayerFlow._fields), 0.5))
    for figures in (
        [plotting.gradient_flow(given) for given in ({"a": layer}, {"net": {"a": layer}})],
        [plotting.reliability(given) for given in (DIAGRAM, {"net": DIAGRAM})],
    ):
        one, named = (figure.axes[0].lines[-1].get_ydata() for figure in figures)
        np.testing.assert_array_equal(one, named)
    assert plotting.gradient_flow({"a": layer}).axes[0].get_legend() is None
    legend = plotting.reliability(DIAGRAM).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["calibration error 0.100"]


@pytest.mark.parametrize(
    ("plot", "given", "message"),
    [
        ("curves", 1, "histories must be a result of jaxdeep.fit or its history, or a dict of .*got 1"),
        ("curves", {"a": 1}, r"histories\['a'\] must be a result of jaxdeep.fit or its history, got 1"),
        ("curves", {"a": DEEP, "b": [1.0]}, r"histories\['b'\] must be"),
        ("gradient_flow", 1, "flows must be what jaxdeep.diagnostics.gradient_flow returns, or a"),
        ("gradient_flow", {"a": 1}, r"flows\['a'\] must be what"),
        ("learning_rate", 1, "result must be what jaxdeep.diagnostics.find_learning_rate returns, or"),
        ("learning_rate", {"a": 1}, r"result\['a'\] must be what .* returns, got 1"),
        ("reliability", 1, "diagrams must be what jaxdeep.uncertainty.reliability returns, or"),
        ("reliability", {"a": 1}, r"diagrams\['a'\] must be what"),
    ],
)
def test_what_is_no_result_is_refused_by_name(plot, given, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        getattr(plotting, plot)(given)


def test_range_tests_of_several_keys_are_refused():
    many = jd.diagnostics.RateTest(*np.ones((3, 2, 4)), np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match=r"^result must be a single test, got rates of shape \(2, 4\)"):
        plotting.learning_rate(many)


def test_range_tests_are_drawn_alone_and_together():
    rates, smoothed = np.logspace(-3, 0, 4), np.array([1.0, 0.5, 0.2, 2.0])
    one = jd.diagnostics.RateTest(rates, smoothed, smoothed, np.array(0.1), np.array(4))
    nan = one._replace(smoothed=smoothed * np.nan, suggestion=np.array(np.nan))
    ax = plotting.learning_rate(one).axes[0]
    assert ax.get_legend_handles_labels()[1] == ["loss of a batch", "smoothed", "suggestion 0.1"]
    np.testing.assert_allclose(ax.get_ylim(), (0.2 - 0.16, 1 + 0.32))
    ax = plotting.learning_rate({"sgd": one, "adam": one, "bad": nan}).axes[0]
    found = ax.get_legend_handles_labels()[1]
    assert found == ["sgd", "sgd: suggestion 0.1", "adam", "adam: suggestion 0.1", "bad"]
    np.testing.assert_allclose(ax.get_ylim(), (0.2 - 0.16, 1 + 0.32))
