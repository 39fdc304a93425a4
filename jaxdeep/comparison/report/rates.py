"""The view of learning rates: how forgiving each candidate is, and whether the best is at an edge."""

import math
from collections.abc import Sequence
from typing import Any

from jaxdeep.comparison.record import Record
from jaxdeep.comparison.report import looks
from jaxdeep.comparison.report.numbers import rounded, table
from jaxdeep.comparison.report.runs import Trial, names_of
from jaxdeep.comparison.report.tuning import NO_VALUE, Trials, line
from jaxdeep.comparison.report.view import View
from jaxdeep.search.spaces.values import is_number
from jaxdeep.search.tables.columns import logarithmic

_RATE = "learning_rate"
_PLOT, _MARGINS = 310, 80  # pixels of the part with the trials, and what is no plot
_LANE = 17  # pixels of a candidate's space below


def rates(answer: Record, trials: Trials) -> View:
    """How forgiving each is: the metric against the learning rate."""
    question = "How forgiving is the learning rate, and is the best one at an edge?"
    held = {
        name: [trial for trial in own_trials if _has_rate(trial)]
        for name, own_trials in trials.items()
        if any(_has_rate(trial) for trial in own_trials)
    }
    good = [t.value for own_trials in held.values() for t in own_trials if math.isfinite(t.value)]
    numbers = _tolerances(answer, held) + table(
        ["candidate", "trial", "learning rate", f"validation {answer.metric}", "ended"],
        [
            [name, t.number, t.point[_RATE], t.value, t.ended]
            for name, own_trials in held.items()
            for t in own_trials
        ],
        label="Every trial",
    )
    if not good:
        why = "No candidate has a learning rate that is a number." if not held else NO_VALUE
        return View("rates", question, why, {}, numbers)
    left = [name for name in trials if name not in held]
    reading = (
        "A mark is a trial; lines join those of neighbouring rates. Other hyperparameters differ, too, "
        "where the budget was enough to tune them. Below, a bar is the range of rates that was "
        "searched, the large mark on it the rate that was chosen, and a cross a trial that diverged or "
        "failed. A chosen rate at the end of its bar asks for a wider space."
        + f" Without a learning rate: {', '.join(left)}."
        * bool(left)
    )
    return View("rates", question, reading, {"": _rates(answer, held, good)}, numbers)


def _has_rate(trial: Trial) -> bool:
    rate: Any = trial.point.get(_RATE)
    return is_number(rate) and rate > 0


def _rates(answer: Record, held: Trials, good: Sequence[float]) -> looks.Figure:
    names = names_of(answer)
    scale = looks.scale(good, answer.mode)
    every = [float(t.point[_RATE]) for own_trials in held.values() for t in own_trials]
    log = logarithmic(_RATE, every, answer.tuning.spaces)
    data: list[dict[str, Any]] = []
    ticks = []
    for lane, (name, own_trials) in enumerate(held.items()):
        i = names.index(name)
        known = sorted((t for t in own_trials if math.isfinite(t.value)), key=lambda t: t.point[_RATE])
        ticks.append(looks.plain(name))
        color, _, marker = looks.look(i)
        data.append(
            line(i, name, width=1)
            | {
                "x": rounded(t.point[_RATE] for t in known),
                "y": rounded(scale.clipped(t.value) for t in known),
                "text": [t.hover for t in known],
                "hovertemplate": "%{fullData.name}, %{text}<extra></extra>",
            }
        )
        below: dict[str, Any] = {"type": "scatter", "meta": i, "yaxis": "y2", "name": looks.plain(name)}
        space = answer.plan.candidates[name].space.get(_RATE)
        if ends := getattr(space, "bounds", ()):
            every += [float(end) for end in ends]
            bar = {"mode": "lines", "line": {"color": looks.tinted(color, 0.45), "width": 5}}
            said = f"%{{fullData.name}}: searched from {ends[0]:g} to {ends[1]:g}<extra></extra>"
            data.append({**below, **bar, "x": rounded(ends), "y": [lane] * 2, "hovertemplate": said})
        for some, symbol, size, said in (
            ([t for t in own_trials if t.chosen], marker, 11, "chosen"),
            ([t for t in own_trials if not math.isfinite(t.value)], "x-thin", 9, ""),
        ):
            edge = {"color": color if said else "#000", "width": 2}
            mark = {"symbol": symbol, "size": size, "color": color, "line": edge}
            if some:
                data.append(
                    {
                        **below,
                        "mode": "markers",
                        "x": rounded(t.point[_RATE] for t in some),
                        "y": [lane] * len(some),
                        "marker": mark,
                        "text": [said or t.ended for t in some],
                        "hovertemplate": "%{fullData.name}: %{x:.4g}, %{text}<extra></extra>",
                    }
                )
    lanes = _LANE * max(len(held), 2) + 8
    height = _PLOT + lanes + _MARGINS
    part = lanes / (height - _MARGINS)
    low, high = min(every), max(every)
    x_range = [math.log10(low) - 0.1, math.log10(high) + 0.1] if log else [0, high * 1.03]
    x: dict[str, Any] = {"type": "log" if log else "linear", "range": rounded(x_range), "anchor": "y2"}
    if log:
        x |= {"dtick": 1, "exponentformat": "power"}
    y2 = {"tickvals": list(range(len(held))), "ticktext": ticks, "ticks": "", "showgrid": False}
    y2 |= {"range": [max(len(held), 2) - 0.5, -0.5], "domain": [0, round(part, 4)], "fixedrange": True}
    layout = looks.layout(
        height,
        left=max(looks.room_for(held), 60),
        xaxis=looks.axis("learning rate", **x),
        yaxis=scale.axis(f"validation {looks.plain(answer.metric)}", domain=[round(part + 0.05, 4), 1]),
        yaxis2=looks.axis("", **y2),
    )
    return {"data": data, "layout": layout}


def _tolerances(answer: Record, held: Trials) -> str:
    rows = []
    for name, own_trials in held.items():
        space = answer.plan.candidates[name].space.get(_RATE)
        low, high = (*getattr(space, "bounds", ()), None, None)[:2]
        tolerance = answer.tolerances.get(name)
        near = [tolerance.decades, tolerance.share] if tolerance else [None, None]
        chosen = answer.chosen.get(name, {}).get(_RATE)
        gone = sum(trial.failed for trial in own_trials)
        rows.append([name, low, high, chosen, *near, len(own_trials), gone])
    head = ["candidate", "searched from", "to", "chosen", "decades within 1 %", "trials within 1 %"]
    return table([*head, "trials", "diverged"], rows, label="Learning rates")
