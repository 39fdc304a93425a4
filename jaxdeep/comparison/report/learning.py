"""Views of how the final runs learned: curves over epochs and time, and when they reach the target."""

from typing import Any

import numpy as np

from jaxdeep.comparison.record import Record
from jaxdeep.comparison.report import looks
from jaxdeep.comparison.report.numbers import brief, rounded, table
from jaxdeep.comparison.report.runs import by_candidate, names_of
from jaxdeep.comparison.report.view import Choice, View
from jaxdeep.search.tables.curves import aligned
from jaxdeep.search.tables.result import Result, scalars

_MOST = 200  # epochs of a line that are drawn
_EACH = 12  # up to so many epochs each has a tick
_COLUMNS = 10  # epochs in the table
_QUARTILES = (0.5, 0.25, 0.75)
_HEIGHT, _MARGINS = 410, 80  # of a plot with lines, and what of it is not plot


def curves(answer: Record) -> View:
    """Whether the order holds all along."""
    runs = {
        name: [result for _, result in pairs]
        for name, pairs in by_candidate(answer, answer.final).items()
    }
    wanted = [f"val_{answer.metric}", answer.metric, "val_loss", "loss"]
    every = [result for results in runs.values() for result in results]
    known = dict.fromkeys(name for result in every for name in scalars(result.history))
    judged = [name for name in known if f"val_{name.removeprefix('val_')}" in known]
    metrics = [name for name in dict.fromkeys([*wanted, *judged]) if name in known]
    if not metrics:
        return View("curves", _ALONG, "No candidate could be trained.", {}, "")
    figures: dict[str, looks.Figure] = {}
    lines: list[list[Any]] = []
    longest = max(result.epochs for result in every)
    for k, metric in enumerate(metrics):
        quartiles = {
            name: _quartiles(aligned_runs)
            for name, results in runs.items()
            if (aligned_runs := aligned(results, metric)) is not None
        }
        mode = answer.mode if metric.removeprefix("val_") == answer.metric else _mode(metric)
        for x, unit in enumerate(("epochs", "seconds")):
            pace = {name: 1.0 if unit == "epochs" else _pace(runs[name]) for name in quartiles}
            figures[f"{k},{x}"] = _curves(answer, quartiles, pace, _said(metric), unit, mode)
        lines += [[name, _said(metric), *_cells(band, longest)] for name, band in quartiles.items()]
    reading = (
        "A line is the median over the seeds, its band from the lower to the upper quartile. Seconds "
        "are a run's own time without compiling, spread evenly over its epochs; runs that were trained "
        "side by side share it."
    )
    epochs = _columns(longest)
    head = ["candidate", "metric", *(f"epoch {epoch}" for epoch in epochs)]
    label = "Median (lower to upper quartile)"
    choices = Choice("Metric", [_said(metric) for metric in metrics]), Choice("against", _UNITS)
    return View("curves", _ALONG, reading, figures, table(head, lines, label=label), choices)


_ALONG = "Does the order hold all along?"
_UNITS = ("epochs", "seconds")


def _mode(metric: str) -> str:
    from jaxdeep.train import monitors

    return monitors.mode_of(metric) or "min"


def _said(metric: str) -> str:
    part = "validation" if metric.startswith("val_") else "training"
    return f"{part} {metric.removeprefix('val_')}"


def _pace(results: list[Result]) -> float:
    """The seconds of an epoch, the median over the runs."""
    times = [
        sum(span.end - span.begin for span in result.spans) / result.epochs
        for result in results
        if result.epochs and result.spans
    ]
    return float(np.median(times)) if times else float("nan")


def _columns(epochs: int) -> list[int]:
    """The epochs that the table shows, from 1."""
    return [int(e) for e in np.unique(np.linspace(1, epochs, min(epochs, _COLUMNS)).round())]


def _quartiles(runs: np.ndarray) -> np.ndarray:
    """``(3, epochs)`` median, lower and upper quartile of curves, NaN where none has a value."""
    known = np.isfinite(runs).any(0)
    band = np.full((len(_QUARTILES), runs.shape[1]), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        band[:, known] = np.nanquantile(runs[:, known], _QUARTILES, axis=0)
    return band


def _cells(band: np.ndarray, longest: int) -> list[str]:
    """The quartiles at some epochs in words."""
    cells = []
    for epoch in _columns(longest):
        median, low, high = (
            brief(float(v)) for v in (band[:, epoch - 1] if epoch <= band.shape[1] else [np.nan] * 3)
        )
        cells.append(f"{median} ({low} to {high})" if median != "nan" else "–")
    return cells


def _curves(
    answer: Record,
    quartiles: dict[str, np.ndarray],
    pace: dict[str, float],
    metric: str,
    unit: str,
    mode: str,
) -> looks.Figure:
    names = names_of(answer)
    scale = looks.scale(np.concatenate([q[:2].ravel() for q in quartiles.values()]), mode)
    data: list[dict[str, Any]] = []
    ends, last = {}, 0.0
    for name, band in quartiles.items():
        i = names.index(name)
        color, dash, marker = looks.look(i)
        epochs = band.shape[1]
        step = -(-epochs // _MOST)
        first = (epochs - 1) % step  # so that the last one is among them
        middle, low, high = (rounded(values[first::step]) for values in band)
        if pace[name] != pace[name]:
            continue
        x0, dx = rounded([(first + 1) * pace[name], step * pace[name]])
        common = {"type": "scatter", "meta": i, "name": looks.plain(name), "x0": x0, "dx": dx}
        hidden = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        data.append({**common, **hidden, "y": low})
        tint = {"fill": "tonexty", "fillcolor": looks.tinted(color, 0.13)}
        data.append({**common, **hidden, **tint, "y": high})
        mark = {"symbol": marker, "size": 6, "color": color, "maxdisplayed": 12}
        where = "epoch %{x}" if unit == "epochs" else "%{x:.3g} s"
        data.append(
            {
                **common,
                "mode": "lines+markers",
                "y": middle,
                "line": {"color": color, "dash": dash, "width": 2},
                "marker": mark,
                "hovertemplate": f"{where}: %{{y:.5g}}",
            }
        )
        known = band[0][np.isfinite(band[0])]
        if len(known):
            ends[i] = float(known[-1])
        last = max(last, epochs * pace[name])
    right = looks.room_for(names)
    axis: dict[str, Any] = {"range": [0, float(f"{last * 1.01:.6g}")]}
    if unit == "epochs" and last <= _EACH:
        axis["dtick"] = 1
    layout = looks.layout(
        _HEIGHT,
        right=right,
        xaxis=looks.axis(unit, **axis),
        yaxis=scale.axis(looks.plain(metric)),
        annotations=looks.labels(ends, names, scale, _HEIGHT - _MARGINS),
    )
    return {"data": data, "layout": layout}


def arrivals(answer: Record) -> View:
    """Who gets to the target first, and how often."""
    question = "Who gets to the target first, and how often?"
    if not answer.arrivals:
        return View("arrivals", question, "No final run has a value on the validation rows.", {}, "")
    names, epochs = names_of(answer), answer.about["epochs"]
    target = next(iter(answer.arrivals.values())).target
    where = (
        "as asked for"
        if answer.about["target"] is not None
        else f"the median of {next(iter(answer.arrivals))}'s final runs"
    )
    data, ends = [], {}
    scale = looks.Scale(False, -0.03, 1.03)
    for name, arrival in answer.arrivals.items():
        i = names.index(name)
        color, dash, marker = looks.look(i)
        there = np.sort(arrival.epochs_by_seed[np.isfinite(arrival.epochs_by_seed)])
        at, counts = np.unique(there, return_counts=True)
        shares = np.cumsum(counts) / len(arrival.epochs_by_seed)
        x = [0, *at.tolist(), *([epochs] if not len(at) or at[-1] < epochs else [])]
        y = [0, *shares.tolist(), *([arrival.share] if len(x) > len(at) + 1 else [])]
        ends[i] = arrival.share
        data.append(
            {
                "type": "scatter",
                "meta": i,
                "name": looks.plain(name),
                "mode": "lines+markers",
                "x": x,
                "y": rounded(y),
                "line": {"color": color, "dash": dash, "width": 2, "shape": "hv"},
                "marker": {"symbol": marker, "size": 7, "color": color},
                "hovertemplate": "by epoch %{x}: %{y:.0%}",
            }
        )
    ticks = {"dtick": 1} if epochs <= _EACH else {}
    layout = looks.layout(
        _HEIGHT,
        right=looks.room_for(names),
        xaxis=looks.axis("epochs", range=[0, epochs * 1.02], **ticks),
        yaxis=scale.axis("share of seeds at the target", tickformat=".0%"),
        annotations=looks.labels(ends, names, scale, _HEIGHT - _MARGINS),
    )
    reading = (
        f"The target is a validation {answer.metric} of {target:.4g}, {where}. A line steps up with "
        "each seed that has reached it; a run that never does stays below."
    )
    head = ["candidate", "target", "median epochs", "low", "high", "median seconds", "share"]
    rows = [
        [name, a.target, a.epochs, a.low, a.high, a.seconds, a.share]
        for name, a in answer.arrivals.items()
    ]
    return View("arrivals", question, reading, {"": {"data": data, "layout": layout}}, table(head, rows))
