"""Figures of runs: which panels there are, and what they hold."""

import jax
import numpy as np
import pytest

import jaxdeep as jd
from jaxdeep import plotting

DEEP = {"loss": np.array([[1.0, 0.1], [2.0, 0.2]]), "val_accuracy": np.array([0.5, 0.9])}
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
