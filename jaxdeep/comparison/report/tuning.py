"""Views of the trials: the best of k, and what a random one would have given."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdeep.comparison.record import Record
from jaxdeep.comparison.report import looks
from jaxdeep.comparison.report.numbers import rounded, table
from jaxdeep.comparison.report.runs import Trial, names_of
from jaxdeep.comparison.report.view import Choice, View
from jaxdeep.search.tables.best_of import expected_best, with_worst

Trials = Mapping[str, Sequence[Trial]]

_HEIGHT, _MARGINS = 410, 80
NO_VALUE = "No trial ended with a finite value."


def best_of(answer: Record, trials: Trials) -> View:
    """Who wins with 1, 4, 16 trials."""
    question = "Who wins with fewer trials of tuning?"
    values = _counted(answer, trials)
    if not values:
        return View("best-of", question, NO_VALUE, {}, "")
    kinds = "unbiased, to half of the trials", "with replacement, to all trials"
    lines: dict[str, tuple[np.ndarray, np.ndarray]] = {
        name: (
            expected_best(own_values, answer.mode)[: max(1, len(own_values) // 2)],
            expected_best(own_values, answer.mode, unbiased=False),
        )
        for name, own_values in values.items()
    }
    figures = {str(kind): _best_of(answer, lines, kind) for kind in (0, 1)}
    reading = (
        "The validation metric of the best of k trials, on average. The unbiased estimator (Tang et al. "
        "2020) is the mean over all subsets of k trials; beyond half of the trials it is little but "
        "luck, and not drawn. The other one (Dodge et al. 2019) draws k trials with replacement: it "
        "varies less and promises too little. Both take trials for independent, which those of a Sobol' "
        "sequence are not: the curves are approximate. What diverged counts as the worst."
    )
    most = max(map(len, values.values()))
    ks = sorted({k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256) if k <= most} | {most})
    rows = [
        [name, kind.split(",")[0], *(float(expected[k - 1]) if k <= len(expected) else None for k in ks)]
        for name, both in lines.items()
        for kind, expected in zip(kinds, both)
    ]
    numbers = table(["candidate", "estimator", *(f"k = {k}" for k in ks)], rows)
    return View("best-of", question, reading, figures, numbers, (Choice("Estimator", kinds),))


def _counted(answer: Record, trials: Trials) -> dict[str, np.ndarray]:
    """The values of each candidate's trials that count, with the worst of all for what diverged."""
    used = {
        name: [trial.value for trial in own_trials if trial.failed or math.isfinite(trial.value)]
        for name, own_trials in trials.items()
    }
    every = [value for own_values in used.values() for value in own_values]
    if not any(map(math.isfinite, every)):
        return {}
    full = with_worst(every, 1 if answer.mode == "min" else -1)
    counted, start = {}, 0
    for name, own_values in used.items():
        if any(map(math.isfinite, own_values)):
            counted[name] = full[start : start + len(own_values)]
        start += len(own_values)
    return counted


def _best_of(answer: Record, lines: Mapping[str, tuple[np.ndarray, ...]], kind: int) -> looks.Figure:
    names = names_of(answer)
    scale = looks.scale(np.concatenate([both[kind] for both in lines.values()]), answer.mode)
    data, ends, most = [], {}, 1
    for name, both in lines.items():
        i, expected = names.index(name), both[kind]
        most = max(most, len(expected))
        ends[i] = float(expected[-1])
        best = {"y": rounded(expected), "x0": 1, "dx": 1, "hovertemplate": "best of %{x}: %{y:.5g}"}
        data.append(line(i, name) | best)
    x = {"type": "log", "range": [math.log10(0.95), math.log10(most * 1.06)]}
    ticks = [k for k in (1, 2, *([3] if most < 8 else []), 4, 8, 16, 32, 64, 128, 256, 512) if k <= most]
    layout = looks.layout(
        _HEIGHT,
        right=looks.room_for(names),
        xaxis=looks.axis("trials of tuning, k", tickvals=ticks, **x),
        yaxis=scale.axis(f"expected validation {looks.plain(answer.metric)}"),
        annotations=looks.labels(ends, names, scale, _HEIGHT - _MARGINS),
    )
    return {"data": data, "layout": layout}


def line(i: int, name: str, **style: Any) -> dict[str, Any]:
    """A candidate's line with its markers, but for its points."""
    color, dash, marker = looks.look(i)
    return {
        "type": "scatter",
        "meta": i,
        "name": looks.plain(name),
        "mode": "lines+markers",
        "line": {"color": color, "dash": dash, "width": 2, **style},
        "marker": {"symbol": marker, "size": 7, "color": color},
    }


def distribution(answer: Record, trials: Trials) -> View:
    """What a random point would have given."""
    question = "What would a random trial have given?"
    good = [t.value for own_trials in trials.values() for t in own_trials if math.isfinite(t.value)]
    head = ["candidate", "trials", "diverged", "best", "a quarter", "half", "three quarters", "all"]
    rows = []
    for name, own_trials in trials.items():
        rising, n = _rising(answer, own_trials)
        at = [math.ceil(share * n) for share in (0.25, 0.5, 0.75, 1)]
        quantiles = [rising[k - 1] if 0 < k <= len(rising) else None for k in at]
        rows.append(
            [name, n, sum(t.failed for t in own_trials), rising[0] if rising else None, *quantiles]
        )
    numbers = table(head, rows, label=f"Validation {answer.metric} that so many trials are as good as")
    if not good:
        return View("distribution", question, NO_VALUE, {}, numbers)
    scale = looks.scale(good, answer.mode)
    data = []
    names = names_of(answer)
    bad = 10.0 ** (scale.high if answer.mode == "min" else scale.low) if scale.log else None
    for name, own_trials in trials.items():
        rising, n = _rising(answer, own_trials)
        if not rising:
            continue
        end = bad if bad is not None else scale.high if answer.mode == "min" else scale.low
        y = [k / n for k in range(len(rising) + 1)]
        trace = line(names.index(name), name, shape="hv")
        trace["marker"] |= {"maxdisplayed": 10}
        data.append(
            trace
            | {
                "x": rounded([rising[0], *rising, end]),
                "y": rounded([*y, y[-1]]),
                "hovertemplate": "%{y:.0%} at least %{x:.5g}",
            }
        )
    legend = {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "itemwidth": 40}
    layout = looks.layout(
        _HEIGHT + 16 + 20 * -(-len(names) // 4),
        showlegend=True,
        legend=legend,
        xaxis=scale.axis(f"validation {looks.plain(answer.metric)}"),
        yaxis=looks.axis("share of trials at least as good", range=[-0.03, 1.03], tickformat=".0%"),
    )
    reading = (
        "For every value, the share of a candidate's trials that are at least as good: the higher its "
        f"line, further to the {'left' if answer.mode == 'min' else 'right'}, the less it depends on "
        "luck or on tuning. What diverged is worse than any value, so that its line does not reach "
        "100 %."
    )
    return View("distribution", question, reading, {"": {"data": data, "layout": layout}}, numbers)


def _rising(answer: Record, trials: Sequence[Trial]) -> tuple[list[float], int]:
    """The values of trials, the best first, and how many trials count."""
    values = [t.value for t in trials if math.isfinite(t.value)]
    n = sum(t.failed or math.isfinite(t.value) for t in trials)
    return sorted(values, reverse=answer.mode == "max"), n
