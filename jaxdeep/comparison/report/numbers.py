"""Numbers as the report writes them: six digits in plots and tables, and HTML tables of them."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxdeep.search.spaces.values import is_number


def rounded(values: Iterable[Any]) -> list[float | None]:
    """Numbers with six digits, as JSON holds them; what is not finite is None.

    >>> rounded([1 / 3, np.float32(2), float("nan")])
    [0.333333, 2.0, None]
    """
    numbers = (float(value) for value in values)
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in numbers]


def shown(value: Any) -> str:
    """A value as text: numbers with six digits, nothing as a dash.

    >>> shown(1 / 3), shown(math.inf), shown(math.nan), shown(None), shown(1234567), shown("a")
    ('0.333333', '∞', '–', '–', '1234567', 'a')
    """
    if value is None:
        return "–"
    if isinstance(value, np.generic):
        value = value.item()
    if not is_number(value) or isinstance(value, int):
        return getattr(value, "__name__", None) or str(value)
    if math.isnan(value):
        return "–"
    return f"{value:.6g}" if math.isfinite(value) else "∞" if value > 0 else "-∞"


def point_in_words(point: Any) -> str:
    """Hyperparameters with their values.

    >>> point_in_words({"learning_rate": 0.01, "momentum": 0.9}), point_in_words({})
    ('learning_rate 0.01, momentum 0.9', '–')
    """
    return ", ".join(f"{name} {brief(value)}" for name, value in point.items()) or "–"


def brief(value: Any) -> str:
    """A value as text, numbers with four digits.

    >>> brief(1 / 3), brief(None)
    ('0.3333', '–')
    """
    return f"{value:.4g}" if isinstance(value, float) else shown(value)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, label: str = "") -> str:
    """An HTML table, of which the first column names the rows; numbers stand at the right.

    >>> table(["who", "much"], [["<b>", 0.5]])
    '<table><thead><tr><th>who<th class="n">much<tbody><tr><th>&lt;b&gt;<td class="n">0.5</table>'
    """
    lines = [list(row) for row in rows]
    numbers = [all(_is_numeric(line[i]) for line in lines) for i in range(len(head))]
    kinds = [' class="n"' if is_n and lines else "" for is_n in numbers]
    caption = f"<caption>{html.escape(label)}</caption>" if label else ""
    parts = [f"<table>{caption}<thead><tr>"]
    parts += [f"<th{kind}>{html.escape(text)}" for text, kind in zip(head, kinds)]
    parts.append("<tbody>")
    for line in lines:
        cells = [html.escape(shown(cell)) for cell in line]
        parts.append(f"<tr><th{kinds[0]}>{cells[0]}")
        parts += [f"<td{kind}>{cell}" for cell, kind in zip(cells[1:], kinds[1:])]
    return "".join([*parts, "</table>"])


def _is_numeric(value: Any) -> bool:
    return value is None or is_number(value) or isinstance(value, np.number)
