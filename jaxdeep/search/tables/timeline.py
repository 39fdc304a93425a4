"""The timeline of a sweep: which worker trained which rows when."""

import heapq
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxdeep.search.tables import drawing
from jaxdeep.search.tables.result import ENDED, Result, Span

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def timeline(results: Sequence[Result], *, ax: Any = None, path: Any = None) -> "Figure":
    """Draw what `jaxdeep.search.Table.plot_timeline` describes.

    >>> spans = (Span("cpu 0", 0.0, 1.0, 1), Span("cpu 1", 2.0, 3.0, 1))
    >>> result = Result({}, {}, {}, 0, "error", "ValueError: no", spans)
    >>> [text.get_text() for text in timeline([result]).axes[0].get_yticklabels()]
    ['cpu 0', 'cpu 1']
    """
    bars: dict[str, list[tuple[Span, str]]] = {}
    for result in results:
        for span in result.spans:
            bars.setdefault(span.worker, []).append((span, result.ended))
    if not bars:
        raise ValueError("the table has no times: it was not noted when its rows were trained")
    workers = sorted(bars, key=natural)
    ax = drawing.axes("plot_timeline", ax, path, (8, 1.2 + 0.45 * min(len(workers), 16)))
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    last = max(span.end for some in bars.values() for span, _ in some)
    boxes, colors, widths = [], [], []
    for place, worker in enumerate(workers):
        lanes = lanes_of([span for span, _ in bars[worker]])
        height = 0.8 / (max(lanes) + 1)
        for (span, ended), lane in zip(bars[worker], lanes):
            top = place - 0.4 + lane * height
            low = top + height * (0.96 if height > 0.05 else 1)
            boxes.append([(span.begin, top), (span.end, top), (span.end, low), (span.begin, low)])
            colors.append(drawing.COLORS[ended])
            # An edge would hide a smaller box.
            wide = height > 0.02 and span.end - span.begin > 0.003 * last
            widths.append(0.4 if wide else 0.0)
    ax.add_collection(PolyCollection(boxes, facecolors=colors, edgecolors="w", linewidths=widths))
    counts = Counter(result.ended for result in results)
    legend = [
        Patch(color=drawing.COLORS[ended], label=f"{counts[ended]} {ended}")
        for ended in ENDED
        if counts[ended]
    ]
    ax.legend(handles=legend, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    ax.set_yticks(range(len(workers)), list(map(drawing.plain, workers)))
    ax.set(
        xlabel="seconds since the sweep began", xlim=(0, 1.03 * last), ylim=(len(workers) - 0.5, -0.5)
    )
    ax.grid(alpha=0.3, axis="x")
    ax.set_axisbelow(True)
    return drawing.finished(ax, path)


def lanes_of(spans: Sequence[Span]) -> list[int]:
    """For each span the first lane that is free when it begins.

    >>> lanes_of([Span("a", 0.0, 2.0, 1), Span("a", 1.0, 2.0, 1), Span("a", 2.0, 3.0, 1)])
    [0, 1, 0]
    """
    lanes = [0] * len(spans)
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    for i in sorted(range(len(spans)), key=lambda i: spans[i].begin):
        while busy and busy[0][0] <= spans[i].begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lanes[i] = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (spans[i].end, lanes[i]))
    return lanes


def natural(worker: str) -> list[tuple[int, str]]:
    """A key by which worker 10 comes after worker 9."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", worker)]
