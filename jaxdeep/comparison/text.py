"""A comparison as text of at most 80 columns, for terminals."""

import math
from typing import Any

from jaxdeep.comparison.record import Record

_WIDTH = 80
_TEXTS = 6  # the column of points, which is text as names are
_LEAST = 8  # columns of text that say something of a point
_SHORT = {
    "learning_rate": "rate",
    "momentum": "momentum",
    "weight_decay": "decay",
    "adam_learning_rate": "adam rate",
}


def text_of(answer: Record) -> str:
    """The verdict, the table, cautions, and what the answer holds for."""
    import textwrap

    parts = [textwrap.fill(answer.verdict, _WIDTH), "", table_of(answer)]
    if answer.cautions:
        parts += [
            "",
            *(textwrap.fill(f"! {one}", _WIDTH, subsequent_indent="  ") for one in answer.cautions),
        ]
    return "\n".join([*parts, "", textwrap.fill(holds_for(answer), _WIDTH)])


def holds_for(answer: Record) -> str:
    """What the answer holds for, in a line."""
    about = answer.about
    rows = about["rows"]
    trials = "1 trial" if about["budget"] == 1 else f"{about['budget']} trials"
    epochs = "1 epoch" if about["epochs"] == 1 else f"{about['epochs']} epochs"
    return (
        f"Holds for this network, these data ({rows['train']:,} rows; {rows['validation']:,} to tune "
        f"by, {rows['test']:,} to judge by), {epochs} of batches of {about['batch_size']}, schedule "
        f"{about['schedule']}, {trials} each."
    )


def table_of(answer: Record) -> str:
    """The table of candidates."""
    rows = answer.rows()
    level = f"{100 * answer.about['level']:g}%"
    digits = _digits(rows)
    head = ["candidate", f"test {answer.metric}", level, "behind", "p", "target", "chosen"]
    body = []
    for row in rows:
        body.append(
            [
                row["candidate"],
                _number(row["mean"], digits),
                _half(row, digits),
                _number(row["difference"], digits) if row["difference"] == row["difference"] else "",
                _p(row["p"]),
                _epochs(row.get("target_epochs")),
                _point(row["hyperparameters"]),
            ]
        )
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    widths[0] = min(widths[0], _WIDTH - sum(widths[1:-1]) - 2 * (len(widths) - 2))
    left = _WIDTH - sum(widths[:-1]) - 2 * (len(widths) - 1)
    if left < _LEAST:  # long names leave no room for what was chosen, which `rows` has
        head, body, widths = head[:-1], [line[:-1] for line in body], widths[:-1]
    else:
        widths[-1] = min(widths[-1], left)
    rule = "  ".join("─" * width for width in widths)
    lines = [_line(head, widths), rule]
    for line, row in zip(body, rows):
        lines.append(_line(line, widths))
        if row is rows[len(answer.winners) - 1] and len(rows) > len(answer.winners):
            lines.append(rule)  # below those that cannot be told apart
    return "\n".join(lines)


def _line(cells: list[str], widths: list[int]) -> str:
    texts = []
    for i, (cell, width) in enumerate(zip(cells, widths)):
        cut = cell if len(cell) <= width else cell[: width - 1] + "…"
        texts.append(cut.ljust(width) if i in (0, _TEXTS) else cut.rjust(width))
    return "  ".join(texts).rstrip()


def _digits(rows: list[dict[str, Any]]) -> int:
    """Decimals that show the uncertainty of the means with two digits."""
    halves = [row["high"] - row["low"] for row in rows if row["high"] > row["low"]]
    if not halves:
        return 4
    return min(max(1 - math.floor(math.log10(min(halves) / 2)), 2), 6)


def _number(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.3g}"


def _half(row: dict[str, Any], digits: int) -> str:
    half = (row["high"] - row["low"]) / 2
    return f"± {_number(half, digits)}" if math.isfinite(half) else "–"


def _p(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return "<.001" if value < 1e-3 else f"{value:.3f}".replace("0.", ".", 1) if value < 1 else "1"


def _epochs(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:g}" if math.isfinite(value) else "∞"


def _point(point: dict[str, Any]) -> str:
    texts = [
        f"{_SHORT.get(name, name)} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in point.items()
    ]
    return ", ".join(texts)
