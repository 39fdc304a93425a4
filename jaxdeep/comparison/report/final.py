"""Views of the final runs: the verdict, and all seeds."""

from typing import Any

import numpy as np

from jaxdeep.comparison.pairs import Pair
from jaxdeep.comparison.record import Record
from jaxdeep.comparison.report import looks
from jaxdeep.comparison.report.numbers import point_in_words, rounded, shown, table
from jaxdeep.comparison.report.runs import lost, names_of
from jaxdeep.comparison.report.view import View
from jaxdeep.search.tables.table import TableRow

_ROW = 30  # pixels of a candidate
ALONE = "There is no other candidate to compare it with."
NOTHING = "None of the candidates could be trained."


def ranking(answer: Record, rows: list[TableRow]) -> View:
    """Who wins: how far each is behind the best."""
    best = answer.order[0]
    level = f"{answer.about['level']:.0%}"
    reading = (
        f"Each mark is how much better {best} is than the candidate, averaged over the "
        f"{answer.about['seeds']} seeds; the bar is the {level} interval of that mean. Filled marks are "
        "sure differences, judged by the adjusted p at the right; hollow ones may be chance."
    )
    if worth := answer.about["worth"]:
        reading += f" The dotted line is the difference that matters, {worth:g}."
    behind = [pair for pair in answer.pairs if pair.better == best]
    if not behind:
        reading = ALONE if answer.values else NOTHING
    figure = {"": _behind(answer, behind)} if behind else {}
    return View("verdict", "Who wins, and how sure is that?", reading, figure, _ranks(rows), open=True)


def _behind(answer: Record, behind: list[Pair]) -> looks.Figure:
    names = names_of(answer)
    shown_names = [answer.order[0], *(pair.worse for pair in behind)]
    data = [
        _mark(
            names.index(shown_names[0]),
            0.0,
            0,
            name=shown_names[0],
            hovertemplate="%{fullData.name}: the best mean<extra></extra>",
        )
    ]
    notes = []
    for row, pair in enumerate(behind, 1):
        i = names.index(pair.worse)
        sure = pair.is_sure(answer.about["level"], answer.about["worth"])
        (difference,) = rounded([pair.difference])
        mark = _mark(i, difference, row, name=pair.worse, filled=sure)
        mark["error_x"] = {
            "type": "data",
            "symmetric": False,
            "color": looks.look(i).color,
            "array": rounded([pair.high - pair.difference]),
            "arrayminus": rounded([pair.difference - pair.low]),
            "thickness": 1.6,
            "width": 5,
        }
        mark["hovertemplate"] = (
            f"%{{fullData.name}}<br>behind by {shown(pair.difference)} ({shown(pair.low)} to "
            f"{shown(pair.high)})<br>adjusted p {shown(pair.adjusted)}<br>"
            f"P(the best is better) {shown(pair.superiority)}<extra></extra>"
        )
        data.append(mark)
        notes.append(
            {
                "name": str(i),
                "text": f"p {pair.adjusted:.2g}",
                "x": 1,
                "xref": "paper",
                "xanchor": "left",
                "xshift": 6,
                "y": row,
                "showarrow": False,
            }
        )
    lines = [0.0, *([answer.about["worth"]] if answer.about["worth"] else [])]
    shapes = [
        {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1}
        | {"line": {"color": looks.FAINT, "width": 1, "dash": "solid" if x == 0 else "dot"}}
        for x in lines
    ]
    layout = _rows_layout(shown_names, f"behind the best, {looks.plain(answer.metric)}", right=70)
    return {"data": data, "layout": layout | {"annotations": notes, "shapes": shapes}}


def _mark(i: int, x: Any, y: float, *, name: str, filled: bool = True, **more: Any) -> dict[str, Any]:
    color, _, marker = looks.look(i)
    mark = {"color": color if filled else "#fff", "symbol": marker, "size": 11}
    return {
        "type": "scatter",
        "mode": "markers",
        "meta": i,
        "name": looks.plain(name),
        "x": [x],
        "y": [y],
        "marker": mark | {"line": {"color": color, "width": 2}},
        **more,
    }


def _rows_layout(names: list[str], title: str, *, right: int = 20, **more: Any) -> dict[str, Any]:
    """Of a figure with a row for each candidate, the first one at the top."""
    places = list(range(len(names)))
    texts = [looks.plain(name) for name in names]
    y = {"tickvals": places, "ticktext": texts, "range": [len(names) - 0.4, -0.6], "ticks": ""}
    return looks.layout(
        90 + _ROW * max(len(names), 2),
        left=looks.room_for(names),
        right=right,
        xaxis=looks.axis(title, **more),
        yaxis=looks.axis("", **y),
    )


def _ranks(rows: list[TableRow]) -> str:
    columns = {
        "mean": "mean",
        "low": "low",
        "high": "high",
        "bca_low": "BCa low",
        "bca_high": "BCa high",
        "difference": "behind",
        "p": "adjusted p",
        "seeds": "seeds",
        "diverged": "diverged",
    }
    costs = {
        "epochs": "epochs spent",
        "seconds": "seconds",
        "target_epochs": "epochs to target",
        "target_seconds": "seconds to target",
        "target_share": "share at target",
        "decades": "decades within 1 %",
        "share": "trials within 1 %",
    }
    columns, costs = (
        {key: head for key, head in some.items() if any(key in row for row in rows)}
        for some in (columns, costs)
    )
    ranks = [
        [row["candidate"], *(row.get(key) for key in columns), point_in_words(row["hyperparameters"])]
        for row in rows
    ]
    spent = [[row["candidate"], *(row.get(key) for key in costs)] for row in rows]
    return table(["candidate", *columns.values(), "chosen"], ranks, label="On the test rows") + table(
        ["candidate", *costs.values()], spent, label="What it took, and how far the rate may be off"
    )


def seeds(answer: Record, rows: list[TableRow]) -> View:
    """Whether it is one lucky run: all final seeds."""
    question = "Is it one lucky run?"
    if not answer.values:
        return View("seeds", question, NOTHING, {}, "")
    names, order = names_of(answer), [name for name in answer.order if name in answer.values]
    known = {row["candidate"]: row for row in rows}
    scale = looks.scale(np.concatenate(list(answer.values.values())), answer.mode)
    data: list[dict[str, Any]] = []
    for place, name in enumerate(order):
        data += _seeds_of(answer, name, known[name], names.index(name), place, scale)
    bca = any("bca_low" in row for row in rows)
    reading = (
        "A dot is a seed, on the test rows. Below the dots are the mean and its "
        f"{answer.about['level']:.0%} interval by Student's t"
        + (", and under that, thin, the one by the bootstrap (BCa)." if bca else ".")
        + " A cross diverged, and counts as the worst value of all."
        * bool(any(answer.diverged.values()))
    )
    layout = _rows_layout(order, f"test {looks.plain(answer.metric)}", **_ends(scale))
    n = answer.about["seeds"]
    values = [[seed, *(float(answer.values[name][seed]) for name in order)] for seed in range(n)]
    means = [["mean", *(known[name]["mean"] for name in order)]]
    means += [["low", *(known[name]["low"] for name in order)]]
    means += [["high", *(known[name]["high"] for name in order)]]
    numbers = table(["seed", *order], [*means, *values])
    return View("seeds", question, reading, {"": {"data": data, "layout": layout}}, numbers)


def _ends(scale: looks.Scale) -> dict[str, Any]:
    return {"type": "log" if scale.log else "linear", "range": looks.rounded_range(scale)}


def _seeds_of(
    answer: Record, name: str, row: TableRow, i: int, place: int, scale: looks.Scale
) -> list[dict[str, Any]]:
    color, _, marker = looks.look(i)
    values, gone = answer.values[name], lost(answer, name)
    common = {"type": "scatter", "meta": i, "name": looks.plain(name)}
    traces: list[dict[str, Any]] = []
    for failed, symbol in ((False, "circle"), (True, "x-thin")):
        some = np.flatnonzero(gone == failed)
        if not len(some):
            continue
        said = "%{fullData.name}, seed %{customdata[0]}: " + "diverged; counts as " * failed
        mark = {"color": looks.tinted(color, 0.45), "symbol": symbol, "size": 8}
        traces.append(
            {
                **common,
                "mode": "markers",
                "x": rounded(scale.clipped(values[s]) for s in some),
                "y": [round(place - 0.18 + 0.05 * (int(s) % 5 - 2), 3) for s in some],
                "customdata": [[int(s), shown(float(values[s]))] for s in some],
                "hovertemplate": said + "%{customdata[1]}<extra></extra>",
                "marker": mark | {"line": {"color": color, "width": 1.4}},
            }
        )
    for low, high, y, width in (("low", "high", 0.16, 2.5), ("bca_low", "bca_high", 0.32, 1.0)):
        if low not in row:
            continue
        at = place + y
        ends = [row[low], row["mean"], row[high]]
        mean_text = f"%{{fullData.name}}<br>mean {shown(ends[1])} ({shown(ends[0])} to {shown(ends[2])})"
        size = [0, 10, 0] if width > 2 else [0, 0, 0]
        traces.append(
            {
                **common,
                "mode": "lines+markers",
                "x": rounded(map(scale.clipped, ends)),
                "y": [round(at, 3)] * 3,
                "line": {"color": color, "width": width},
                "marker": {"symbol": marker, "size": size, "color": color},
                "hovertemplate": mean_text + ("" if width > 2 else " (BCa)") + "<extra></extra>",
            }
        )
    return traces
