"""The view of time: which worker trained which runs when, and how they ended."""

from collections import Counter
from typing import Any

from jaxdeep.comparison.candidate import COLUMN
from jaxdeep.comparison.record import Record
from jaxdeep.comparison.report import looks
from jaxdeep.comparison.report.numbers import rounded, table
from jaxdeep.comparison.report.runs import names_of
from jaxdeep.comparison.report.view import Choice, View
from jaxdeep.search.tables.result import ENDED, Span
from jaxdeep.search.tables.timeline import lanes_of, natural

_STAGES = ("tuning", "final")
_PATTERNS = {
    "finished": "",
    "stopped": "/",
    "halved": "-",
    "diverged": "x",
    "interrupted": ".",
    "error": "+",
}


def timeline(answer: Record) -> View:
    """Where the time went."""
    question = "Where did the time go, and what was lost?"
    bars = {stage: _bars(answer, stage) for stage in _STAGES}
    numbers = _numbers(answer)
    stages = [stage for stage in _STAGES if bars[stage]]
    if not stages:
        return View("timeline", question, "No times were noted.", {}, numbers)
    figures = {str(k): _figure(answer, bars[stage]) for k, stage in enumerate(stages)}
    used = [ended for ended in ENDED if any(bar[3] == ended for s in stages for bar in bars[s])]
    hatched = {"stopped": "slanted lines", "halved": "lines", "diverged": "crossed lines"}
    hatched |= {"interrupted": "dots", "error": "a grid"}
    said = [f"{hatched[ended]}: {ended}" for ended in used if ended in hatched]
    reading = (
        "A bar is a stretch in which a worker trained a run of a candidate, in seconds since the stage "
        "began; runs that were trained side by side are one bar, and what lies above one another ran at "
        "the same time. Gaps are compiling, evaluating and writing."
        + f" Patterns say how runs ended ({'; '.join(said)})."
        * bool(said)
    )
    return View("timeline", question, reading, figures, numbers, (Choice("Stage", stages),))


_Bar = tuple[str, float, float, str, str, int]  # worker, begin, end, how it ended, candidate, runs


def _bars(answer: Record, stage: str) -> list[_Bar]:
    """What was trained when; equal stretches are one."""
    table = getattr(answer, stage)
    counts = Counter(
        (span.worker, span.begin, span.end, result.ended, point[COLUMN])
        for point, result in zip(table.points, table.results)
        for span in result.spans
    )
    return [(*bar, runs) for bar, runs in sorted(counts.items())]


def _figure(answer: Record, bars: list[_Bar]) -> looks.Figure:
    workers = sorted({bar[0] for bar in bars}, key=natural)
    names = names_of(answer)
    places: dict[_Bar, tuple[float, float]] = {}
    for row, worker in enumerate(workers):
        of_worker = [bar for bar in bars if bar[0] == worker]
        lanes = lanes_of([Span(bar[0], bar[1], bar[2], 0) for bar in of_worker])
        height = 0.86 / (max(lanes) + 1)
        places |= {b: (row - 0.43 + (lane + 0.5) * height, height) for b, lane in zip(of_worker, lanes)}
    last = max(bar[2] for bar in bars)
    data: list[dict[str, Any]] = []
    kinds = dict.fromkeys((bar[4], bar[3]) for bar in bars)
    for name, ended in sorted(kinds, key=lambda kind: (names.index(kind[0]), kind[1])):
        alike = [bar for bar in bars if (bar[4], bar[3]) == (name, ended)]
        i = names.index(name)
        pattern = {"shape": _PATTERNS[ended], "fillmode": "overlay", "fgcolor": "#fff"}
        said = [
            f"{bar[5]} run{'s' * (bar[5] > 1)}, {ended}<br>{bar[2] - bar[1]:.3g} s from {bar[1]:.3g} s"
            for bar in alike
        ]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "meta": i,
                "name": looks.plain(name),
                "base": rounded(bar[1] for bar in alike),
                "x": rounded(bar[2] - bar[1] for bar in alike),
                "y": [round(places[bar][0], 4) for bar in alike],
                "width": [round(places[bar][1] * 0.94, 4) for bar in alike],
                "marker": {
                    "color": looks.look(i).color,
                    "pattern": pattern,
                    # a white edge would hide a short bar
                    "line": {"color": [_edge(bar, last, i) for bar in alike], "width": 0.6},
                },
                "text": [looks.plain(name)] * len(alike),
                "customdata": said,
                "textposition": "inside",
                "insidetextanchor": "middle",
                "textangle": 0,
                "constraintext": "inside",
                "textfont": {"color": "#fff"},
                "hovertemplate": "%{fullData.name}, %{customdata}<extra></extra>",
            }
        )
    y = {"tickvals": list(range(len(workers))), "ticktext": [looks.plain(w, 20) for w in workers]}
    layout = looks.layout(
        90 + max(46 * len(workers), 90),
        left=looks.room_for(workers),
        barmode="overlay",
        xaxis=looks.axis("seconds", range=[0, float(f"{last * 1.01:.6g}")]),
        yaxis=looks.axis("", **y, range=[len(workers) - 0.5, -0.5], ticks="", showgrid=False),
    )
    return {"data": data, "layout": layout}


def _edge(bar: _Bar, last: float, number: int) -> str:
    return "#fff" if bar[2] - bar[1] > 0.01 * last else looks.look(number).color


def _numbers(answer: Record) -> str:
    rows = []
    for stage in _STAGES:
        sweep = getattr(answer, stage)
        for name in names_of(answer):
            results = [r for p, r in zip(sweep.points, sweep.results) if p[COLUMN] == name]
            ended = Counter(result.ended for result in results)
            seconds = sum(span.end - span.begin for result in results for span in result.spans)
            epochs = sum(result.epochs for result in results)
            how = ", ".join(f"{ended[end]} {end}" for end in ENDED if ended[end])
            rows.append([stage, name, len(results), how or "–", epochs, seconds])
    return table(["stage", "candidate", "runs", "ended", "epochs", "seconds"], rows)
