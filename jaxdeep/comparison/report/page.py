"""The page of a report: everything that it needs is in it."""

import html
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxdeep._extras import needed
from jaxdeep.comparison.record import Record
from jaxdeep.comparison.report import final, learning, looks, tuning
from jaxdeep.comparison.report.combinations import combinations
from jaxdeep.comparison.report.matrix import matrix
from jaxdeep.comparison.report.question import question
from jaxdeep.comparison.report.rates import rates
from jaxdeep.comparison.report.runs import names_of, trials_of
from jaxdeep.comparison.report.timeline import timeline
from jaxdeep.comparison.report.view import View, as_html
from jaxdeep.comparison.text import holds_for

_HERE = pathlib.Path(__file__).parent
_NAMED = 8  # candidates in the title
_DASHES = {
    "solid": "",
    "dash": "6 4",
    "dot": "2 3",
    "dashdot": "6 3 2 3",
    "longdash": "10 4",
    "longdashdot": "10 3 2 3",
}
_MARKERS = {  # around (19, 7), in the shapes of plotly
    "circle": "M14.5 7a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0",
    "square": "M15 3h8v8h-8z",
    "diamond": "M19 1.8 24.2 7 19 12.2 13.8 7z",
    "triangle-up": "M19 2 24 11H14z",
    "triangle-down": "M19 12 24 3H14z",
    "cross": "M17.3 2h3.4v3.3H24v3.4h-3.3V12h-3.4V8.7H14V5.3h3.3z",
    "x": "M15.4 2 19 5.3 22.6 2 24 3.6 20.6 7 24 10.4 22.6 12 19 8.7 15.4 12 14 10.4 17.4 7 14 3.6z",
    "star": "M19 1l1.8 4 4.3.4-3.3 2.9 1 4.3L19 10.3l-3.8 2.3 1-4.3-3.3-2.9 4.3-.4z",
    "pentagon": "M19 2l5 3.7-1.9 5.8h-6.2L14 5.7z",
    "hourglass": "M14.5 2.5h9L14.5 11.5h9z",
    "triangle-left": "M14 7 23 2v10z",
    "triangle-right": "M24 7 15 2v10z",
    "bowtie": "M14.5 2.5v9l9-9v9z",
}


def page(answer: Record, command: str | None = None) -> str:
    """The report as one page of HTML; the same answer gives the same text.

    Args:
      answer: a comparison.
      command: how it was asked, for the reader who wants to ask it again; by default the call of
        `jaxdeep.compare`.

    Raises:
      ImportError: plotly is not installed (``pip install 'jaxdeep[report]'``).
    """
    plotly = needed("plotly.offline", "Comparison.report", "plotly", "report").get_plotlyjs()
    views = views_of(answer)
    names = list(answer.plan.candidates)
    title = html.escape(_title(names))
    cautions = "".join(f"<li>{html.escape(one)}" for one in answer.cautions)
    links = "".join(f'<li><a href="#{view.name}">{html.escape(view.question)}</a>' for view in views)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            f"<style>{_text('page.css')}</style></head><body>",
            f"<header><h1>{title}</h1>",
            f'<p class="verdict">{html.escape(answer.verdict)}</p>',
            f'<p class="reading">{html.escape(holds_for(answer))}</p>',
            f'<div class="cautions"><h2>Before you believe it</h2><ul>{cautions}</ul></div>'
            if cautions
            else "",
            f'<details class="contents"><summary>Ten views</summary><ol>{links}</ol></details>',
            "<noscript><p>The plots need JavaScript; their numbers are in the tables.</p></noscript>",
            "</header>",
            _filter(answer),
            "<main>",
            *(as_html(view, number) for number, view in enumerate(views, 1)),
            question(answer, command),
            "</main>",
            f"<script>{plotly}</script>",
            f'<script type="application/json" id="figures">{_json(_figures(views))}</script>',
            f"<script>{_text('page.js')}</script>",
            "</body></html>",
            "",
        ]
    )


def views_of(answer: Record) -> list[View]:
    """The ten views, in their order."""
    rows, trials = answer.rows(), trials_of(answer)
    return [
        final.ranking(answer, rows),
        final.seeds(answer, rows),
        matrix(answer),
        learning.curves(answer),
        learning.arrivals(answer),
        tuning.best_of(answer, trials),
        rates(answer, trials),
        tuning.distribution(answer, trials),
        combinations(answer, trials),
        timeline(answer),
    ]


def _filter(answer: Record) -> str:
    """The legend of all plots, by which candidates are hidden and shown."""
    chips = "".join(
        f'<button type="button" class="chip" data-candidate="{i}" aria-pressed="true">'
        f"{_sample(i)}{html.escape(name)}</button>"
        for i, name in enumerate(names_of(answer))
    )
    return (
        '<nav class="legend" aria-label="Candidates"><span class="hint">Click to hide, double-click to '
        f'see one alone:</span> {chips}<button type="button" class="chip all">all</button></nav>'
    )


def _sample(number: int) -> str:
    """A piece of a candidate's line, with its marker."""
    color, dash, marker = looks.look(number)
    dashes = f' stroke-dasharray="{_DASHES[dash]}"' if _DASHES[dash] else ""
    return (
        '<svg width="38" height="14" viewBox="0 0 38 14" aria-hidden="true">'
        f'<path d="M0 7H38" stroke="{color}" stroke-width="2"{dashes}/>'
        f'<path d="{_MARKERS[marker]}" fill="{color}"/></svg>'
    )


def _figures(views: Sequence[View]) -> dict[str, Any]:
    return {view.name: view.figures for view in views if view.figures}


def _json(value: Any) -> str:
    """JSON inside of a script, which no text in it can end."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8").strip()


def _title(names: Sequence[str]) -> str:
    """What is asked.

    >>> _title(["a", "b", "c"]), _title(["a"]), _title("abcdefghi")
    ('Which is best: a, b or c?', 'How good is a?', 'Which of 9 candidates is best?')
    """
    if len(names) == 1:
        return f"How good is {names[0]}?"
    if len(names) > _NAMED:
        return f"Which of {len(names)} candidates is best?"
    return f"Which is best: {', '.join(names[:-1])} or {names[-1]}?"
