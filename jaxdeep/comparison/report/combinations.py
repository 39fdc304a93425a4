"""The view of combinations: parallel coordinates of a candidate's trials."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxdeep.comparison.record import Record
from jaxdeep.comparison.report import looks
from jaxdeep.comparison.report.numbers import brief, point_in_words, table
from jaxdeep.comparison.report.runs import Trial
from jaxdeep.comparison.report.tuning import Trials
from jaxdeep.comparison.report.view import Choice, View
from jaxdeep.search.spaces.distributions import OneMinus
from jaxdeep.search.spaces.values import word

_LOST = -0.13  # the height of what has no value
_CHOSEN = "#C44E00"
_SHADES = ("#c9c9c9", "#9db8cc", "#6f9cc4", "#3d78ad", "#0b4f87")  # from bad to good, darker and darker


class _Axis(NamedTuple):
    """An axis from 0 to 1: its name, where values are, and its ticks."""

    name: str
    height: Callable[[Any], float]
    ticks: list[tuple[float, str]]


def combinations(answer: Record, trials: Trials) -> View:
    """Which combinations of hyperparameters are good."""
    question = "Which combinations of hyperparameters are good?"
    drawn = {
        name: axes
        for name in answer.order
        if (axes := _axes(answer, name, trials[name]))
        and any(math.isfinite(t.value) for t in trials[name])
    }
    rows = [
        [name, t.number, t.value, t.ended, "yes" if t.chosen else "", point_in_words(t.point)]
        for name in answer.order
        for t in trials[name]
    ]
    head = ["candidate", "trial", f"validation {answer.metric}", "ended", "chosen", "hyperparameters"]
    numbers = table(head, rows)
    if not drawn:
        why = "No candidate was tuned over more than one point."
        return View("combinations", question, why, {}, numbers)
    figures = {
        str(k): _figure(answer, trials[name], axes) for k, (name, axes) in enumerate(drawn.items())
    }
    reading = (
        "A line is a trial of one candidate. It crosses each axis at the value of a hyperparameter, on "
        "the scale and over the range that it was drawn from, and ends at the validation metric. The "
        "darker, the better; the thick one was chosen; dashed ones diverged or failed. Where the dark "
        "lines lie together, the hyperparameter matters."
    )
    return View("combinations", question, reading, figures, numbers, (Choice("Candidate", list(drawn)),))


def _axes(answer: Record, name: str, trials: Sequence[Trial]) -> list[_Axis]:
    """An axis for each hyperparameter that differs between trials."""
    space = answer.plan.candidates[name].space
    axes = []
    for key, one in space.items():
        if len({word(trial.point[key]) for trial in trials}) > 1:
            height = functools.partial(_height, one)
            axes.append(_Axis(key, height, [(height(value), brief(value)) for value in one.spread(5)]))
    return axes


def _height(space: Any, value: Any) -> float:
    """How far up a value is in its space; the largest is at the top.

    >>> from jaxdeep.search.spaces.distributions import log_uniform, one_minus
    >>> _height(log_uniform(0.1, 10.0), 1.0), _height(one_minus(0.25, 1.0), 0.75)
    (0.5, 1.0)
    >>> _height(log_uniform(0.1, 10.0), 0)
    0.0
    """
    falling = isinstance(space, OneMinus)
    try:
        share = float(space.unit(value))
    except ValueError:  # the logarithm of 0, which no space holds, but a default may be
        share = 0.0
    share = min(max(share, 0.0), 1.0)  # NaN, of what is no choice, stays
    return 1 - share if falling else share


def _figure(answer: Record, trials: Sequence[Trial], axes: Sequence[_Axis]) -> looks.Figure:
    good = [trial.value for trial in trials if math.isfinite(trial.value)]
    scale = looks.scale(good, answer.mode)
    known = sorted({min(good), float(sorted(good)[len(good) // 2]), max(good)})
    last = [(scale.share(scale.clipped(value)), f"{value:.4g}") for value in known]
    every = [*axes, _Axis(f"validation {answer.metric}", lambda v: scale.share(scale.clipped(v)), last)]
    worst_first = sorted(trials, key=lambda t: _rank(t, answer.mode), reverse=True)
    data = [_trial(trial, every, worst_first) for trial in worst_first]
    annotations, shapes = [], []
    for place, axis in enumerate(every):
        line = {"color": "#222", "width": 1.2}
        shapes.append({"type": "line", "x0": place, "x1": place, "y0": 0, "y1": 1, "line": line})
        for height, text in axis.ticks:
            annotations.append(
                {
                    "text": looks.plain(text, 12),
                    "x": place,
                    "y": round(height, 4),
                    "xanchor": "right",
                    "xshift": -4,
                    "showarrow": False,
                    "bgcolor": "rgba(255,255,255,0.8)",
                    "borderpad": 1,
                    "font": {"size": 11},
                }
            )
    lost = [trial for trial in trials if not math.isfinite(trial.value)]
    x = {"tickvals": list(range(len(every))), "ticktext": [looks.plain(a.name, 20) for a in every]}
    low = _LOST - 0.05 if lost else -0.05
    y: dict[str, Any] = {"range": [low, 1.06], "tickvals": [], "showgrid": False}
    if lost:
        y |= {"tickvals": [_LOST], "ticktext": ["failed"]}
    wide = {"range": [-0.32, len(every) - 0.85], "showgrid": False, "ticks": "", "showline": False}
    layout = looks.layout(
        380,
        left=50 if lost else 24,
        xaxis=looks.axis("", **x, **wide, fixedrange=True, tickangle=0),
        yaxis=looks.axis("", **y, ticks="", showline=False, fixedrange=True),
        annotations=annotations,
        shapes=shapes,
    )
    return {"data": data, "layout": layout}


def _rank(trial: Trial, mode: str) -> tuple[int, float]:
    """Behind all others: what has no value; before all others: the chosen one."""
    if not math.isfinite(trial.value):
        return 2, 0.0
    return 0 if trial.chosen else 1, trial.value if mode == "min" else -trial.value


def _trial(trial: Trial, axes: Sequence[_Axis], worst_first: Sequence[Trial]) -> dict[str, Any]:
    heights = [axis.height(trial.point[axis.name]) for axis in axes[:-1]]
    known = math.isfinite(trial.value)
    heights.append(axes[-1].height(trial.value) if known else _LOST)
    place = worst_first.index(trial) / max(len(worst_first) - 1, 1)
    color = _CHOSEN if trial.chosen else _SHADES[min(int(place * len(_SHADES)), len(_SHADES) - 1)]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(range(len(axes))),
        "y": [round(height, 4) if math.isfinite(height) else None for height in heights],
        "line": {
            "color": color if known else "#777",
            "width": 4 if trial.chosen else 1.6,
            "dash": "solid" if known else "dot",
        },
        "marker": {"size": 8 if trial.chosen else 4, "color": color if known else "#777"},
        "text": [trial.hover] * len(axes),
        "hovertemplate": "%{text}<extra></extra>",
    }
