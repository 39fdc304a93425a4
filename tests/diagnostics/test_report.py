"""Tables and pictures of what was measured."""

import jax
import numpy as np
import pytest
from helpers.flows import DIGITS, SLOW, UNIT, X, Y, find, flow, network, small

import jaxdeep as jd
from jaxdeep import plotting
from jaxdeep.diagnostics import report
from jaxdeep.diagnostics.verdict import by_repetition


@pytest.mark.heavy
def test_the_report_is_a_table_of_all_layers():
    text = report(flow(small(), optimizer=jd.optimizers.adam(1e-3)))
    assert all(f"│ {name} " in text for name in ("hidden", "bn", "act", "drop", "logits"))
    assert text.splitlines()[-1].startswith("healthy: ")
    rows = by_repetition(flow(small()))
    assert rows["hidden"].gradient_norm > 0


@SLOW
def test_plots_are_drawn(tmp_path):
    flows = {"small": flow(small()), "$x_{": flow(network(3, 8, jax.nn.relu, UNIT), DIGITS)}
    figure = plotting.gradient_flow(flows, title="a $ and a _")
    assert [ax.get_yscale() for ax in figure.axes] == ["log"] * 3
    assert len(figure.axes[0].lines) == 2
    figure.savefig(tmp_path / "flow.png")
    found = find()
    figure = plotting.learning_rate(found)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert f"suggestion {float(found.suggestion):.2g}" in labels
    figure.savefig(tmp_path / "rate.png")
    with pytest.warns(UserWarning, match="not finite"):
        nan = find(data=(X * np.nan, Y))
    plotting.learning_rate(nan).savefig(tmp_path / "nan.png")
