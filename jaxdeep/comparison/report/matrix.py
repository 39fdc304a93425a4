"""The view of pairs: every candidate against every other one."""

from typing import Any

from jaxdeep.comparison.pairs import judged_by
from jaxdeep.comparison.record import Record
from jaxdeep.comparison.report import looks
from jaxdeep.comparison.report.final import ALONE, NOTHING
from jaxdeep.comparison.report.numbers import rounded, table
from jaxdeep.comparison.report.runs import names_of
from jaxdeep.comparison.report.view import Choice, View


def matrix(answer: Record) -> View:
    """Which pairs differ."""
    order = [name for name in answer.order if name in answer.values]
    test = judged_by(answer.about["seeds"], len(answer.pairs), answer.about["level"])
    method = {"sign-flip": "the exact sign-flip test", "t": "Student's test of paired differences"}[test]
    if answer.about["seeds"] > 16 and test == "sign-flip":
        method = "the sign-flip test"
    reading = (
        "A cell compares the candidate of its row with that of its column on the same seeds: how much "
        "better the row is (in blue, with a plus) or worse (in orange, with a minus). The p-values are "
        f"of {method}, adjusted for all {len(answer.pairs)} pairs by Holm's method; * marks sure "
        "differences. P(row > column) is the share of pairs of runs in which the row is better."
    )
    if not answer.pairs:
        reading = ALONE if answer.values else NOTHING
        return View("pairs", "Which pairs differ?", reading, {}, _pairs(answer))
    options = ("difference", "adjusted p", "P(row > column)")
    figures = {str(k): _cells(answer, order, option) for k, option in enumerate(options)}
    choice = Choice("Show", options)
    return View("pairs", "Which pairs differ?", reading, figures, _pairs(answer), (choice,))


def _cells(answer: Record, order: list[str], option: str) -> looks.Figure:
    n = len(order)
    z: list[list[float | None]] = [[None] * n for _ in order]
    text = [[""] * n for _ in order]
    hover = [[""] * n for _ in order]
    level, worth = answer.about["level"], answer.about["worth"]
    for pair in answer.pairs:
        i, j = order.index(pair.better), order.index(pair.worse)
        sure = "*" if pair.is_sure(level, worth) else ""
        for row, column, sign in ((i, j, 1), (j, i, -1)):
            above = pair.superiority if sign > 0 else 1 - pair.superiority
            cell = {"difference": sign * pair.difference, "adjusted p": pair.adjusted}.get(option, above)
            z[row][column] = rounded([cell])[0]
            text[row][column] = _in_cell(cell, option) + sure
            said = "better" if sign > 0 else "worse"
            hover[row][column] = (
                f"{looks.plain(order[row])} beside {looks.plain(order[column])}:<br>"
                f"{said} by {pair.difference:.4g} ({pair.low:.4g} to {pair.high:.4g})<br>"
                f"adjusted p {pair.adjusted:.3g}, P(row > column) {above:.3g}"
            )
    most = max((abs(pair.difference) for pair in answer.pairs), default=0) or 1.0
    blue, white, orange = "#7fb3dc", "#ffffff", "#eeb07a"
    colors: dict[str, Any] = {
        "difference": {
            "zmin": -float(f"{most:.6g}"),
            "zmax": float(f"{most:.6g}"),
            "colorscale": [[0, orange], [0.5, white], [1, blue]],
        },
        "adjusted p": {"zmin": 0, "zmax": 1, "colorscale": [[0, blue], [0.05, "#d5e6f4"], [1, white]]},
    }.get(option, {"zmin": 0, "zmax": 1, "colorscale": [[0, orange], [0.5, white], [1, blue]]})
    heat = {
        "type": "heatmap",
        "z": z,
        "text": text,
        "customdata": hover,
        "texttemplate": "%{text}",
        "hovertemplate": "%{customdata}<extra></extra>",
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "textfont": {"color": "#111"},
        **colors,
    }
    places = list(range(n))
    ticks = {"tickvals": places, "ticks": "", "showgrid": False, "fixedrange": True}
    columns, lines = ([looks.plain(name, most) for name in order] for most in (20, 28))
    left = looks.room_for(order)
    layout = looks.layout(
        90 + 38 * max(n, 2),
        left=left,
        plot_bgcolor="#f2f2f2",
        xaxis=looks.axis("", side="top", ticktext=columns, automargin=True, **ticks),
        yaxis=looks.axis("", autorange="reversed", ticktext=lines, **ticks),
    )
    layout["margin"] |= {"t": 52, "b": 10}
    numbers = [names_of(answer).index(name) for name in order]
    return {"data": [heat], "layout": layout, "matrix": numbers}


def _in_cell(value: float, option: str) -> str:
    if option == "adjusted p":
        return "<.001".replace("<", "&lt;") if value < 1e-3 else f"{value:.2g}"
    if option == "difference":
        return f"{value:+.2g}".replace("-", "−") if value else "0"
    return f"{value:.2f}"


def _pairs(answer: Record) -> str:
    level, worth = answer.about["level"], answer.about["worth"]
    head = ["better", "worse", "difference", "low", "high", "deviation", "p", "adjusted p"]
    rows = [
        [*pair[:8], pair.superiority, "yes" if pair.is_sure(level, worth) else "no"]
        for pair in answer.pairs
    ]
    return table([*head, "P(better > worse)", "sure"], rows)
