"""How candidates look in every view, and axes, labels and layouts that the views share.

A candidate has a colour, a dash pattern and a marker, each of which repeats after another number of
candidates: so they are told apart without colours, too. The colours are those of Wong, "Points of view:
Color blindness" (2011), but darker, for lines and text on white.
"""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdeep.search.tables.columns import decades

Figure = dict[str, Any]  # "data" and "layout" of plotly

_COLORS = (
    "#0072B2",
    "#C44E00",
    "#007A5A",
    "#A8467F",
    "#1A1A1A",
    "#8A6100",
    "#2E8BC7",
    "#777777",
)
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_MARKERS = (
    *("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x"),
    *("star", "pentagon", "hourglass", "triangle-left", "triangle-right", "bowtie"),
)
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
FAINT, GRID = "#6b6b6b", "#e4e4e4"
_MOST = 1e300
_GAP = 13.0  # pixels between the middles of two labels
_FAR = 20.0  # so many times the distance of the median from the best, and a value is off the axis


class Look(NamedTuple):
    """The colour, the dash pattern and the marker of a candidate."""

    color: str
    dash: str
    marker: str


def look(number: int) -> Look:
    """The look of the candidate of this number.

    >>> look(0), len({look(i) for i in range(24)}), len({look(i)[1:] for i in range(24)})
    (Look(color='#0072B2', dash='solid', marker='circle'), 24, 24)
    """
    return Look(*(some[number % len(some)] for some in (_COLORS, _DASHES, _MARKERS)))


def plain(text: str, most: int = 28) -> str:
    """A text that plotly shows as it is.

    Of a long one the middle is cut out, as names differ at their ends.

    >>> plain("<b>"), plain("adam, dropout=0.2", 12)
    ('&lt;b&gt;', 'adam, d…=0.2')
    """
    if len(text) > most:
        end = most // 3
        text = f"{text[: most - 1 - end]}…{text[-end:]}"
    return html.escape(text, quote=False)


def tinted(color: str, alpha: float) -> str:
    """A colour that is seen through.

    >>> tinted("#0072B2", 0.2)
    'rgba(0,114,178,0.2)'
    """
    return f"rgba({','.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))},{alpha:g})"


class Scale(NamedTuple):
    """The axis of a metric: logarithmic or not, and its ends as plotly has them, logarithms if it is."""

    log: bool
    low: float
    high: float

    def place(self, value: float) -> float:
        """The coordinate of a value: on a logarithmic axis plotly places annotations by log10."""
        return math.log10(value) if self.log else value

    def share(self, value: float) -> float:
        """How far up a value is, from 0 to 1."""
        return (self.place(value) - self.low) / (self.high - self.low)

    def clipped(self, value: float) -> float:
        """The value, or the end of the axis that it is beyond."""
        ends = [10.0**end if self.log else end for end in self[1:]]
        return min(max(value, ends[0]), ends[1])

    def axis(self, title: str, **more: Any) -> dict[str, Any]:
        """The axis for plotly."""
        return axis(title, type="log" if self.log else "linear", range=rounded_range(self), **more)


def rounded_range(scale: Scale) -> list[float]:
    """The ends of an axis with few digits."""
    return [float(f"{scale.low:.8g}"), float(f"{scale.high:.8g}")]


def scale(values: Iterable[float], mode: str) -> Scale:
    """The axis that shows these values of a metric, but for bad ones that are far from all others.

    It is logarithmic if smaller ones are better and they span more than a decade.

    >>> scale([1.0, 2.0], "min"), scale([0.001, 0.1], "min").log, scale([], "max")
    (Scale(log=False, low=0.95, high=2.05), True, Scale(log=False, low=0.0, high=1.0))
    >>> scale([0.5, 0.4, 0.3, -1e9], "max").low > -10
    True
    """
    finite = [float(value) for value in values if math.isfinite(value)]
    if not finite:
        return Scale(False, 0.0, 1.0)
    log = mode == "min" and decades(finite)
    places = np.log10(finite) if log else np.array(finite)
    low, high = float(places.min()), float(places.max())
    if low < 0 or high > 1 or log:
        best, middle = (low if mode == "min" else high), float(np.median(places))
        reach = _FAR * abs(middle - best)
        if reach > 0:
            low, high = max(low, best - reach), min(high, best + reach)
    room = 0.05 * ((high - low) or abs(high) or 1.0)
    most = _MOST if not log else math.log10(_MOST)  # beyond, ends overflow
    return Scale(log, max(low - room, -most), min(high + room, most))


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis for plotly."""
    shown = {"title": {"text": title, "standoff": 8}, "gridcolor": GRID, "zeroline": False}
    return {**shown, "linecolor": FAINT, "ticks": "outside", "tickcolor": FAINT, **more}


def layout(height: int, *, left: int = 60, right: int = 20, **more: Any) -> dict[str, Any]:
    """The layout of a figure for plotly; its width is that of the page."""
    return {
        "height": height,
        "margin": {"l": left, "r": right, "t": 32, "b": 48},
        "font": {"family": FONT, "size": 12, "color": "#222"},
        "hoverlabel": {"align": "left", "namelength": -1},
        "hovermode": "closest",
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "showlegend": False,
        **more,
    }


def room_for(names: Iterable[str], size: float = 7.8) -> int:
    """The pixels that the longest of some names takes."""
    return int(20 + size * max((min(len(name), 28) for name in names), default=0))


def labels(
    ends: Mapping[int, float], names: Sequence[str], scale: Scale, pixels: float
) -> list[dict[str, Any]]:
    """Names at the right end of lines, which do not cover one another.

    Args:
      ends: by the number of a candidate, the value at which its line ends.
      names: of all candidates.
      scale: of the axis.
      pixels: its length.

    >>> two = labels({0: 0.5, 1: 0.5}, ["a", "b"], Scale(False, 0.0, 1.0), 200)
    >>> [(one["text"], one["y"], one["yshift"]) for one in two]
    [('a', 0.5, -6.5), ('b', 0.5, 6.5)]
    """
    held = {i: scale.clipped(value) for i, value in ends.items() if math.isfinite(value)}
    order = sorted(held, key=lambda i: (held[i], i))
    at = [pixels * scale.share(held[i]) for i in order]
    annotations = []
    for i, old, new in zip(order, at, apart(at, pixels)):
        annotations.append(
            {
                "name": str(i),
                "text": plain(names[i]),
                "font": {"color": look(i).color, "size": 12},
                "x": 1,
                "xref": "paper",
                "xanchor": "left",
                "xshift": 6,
                "y": float(f"{scale.place(held[i]):.6g}"),
                "yref": "y",
                "yanchor": "middle",
                "yshift": round(new - old, 1),
                "showarrow": False,
            }
        )
    return annotations


def apart(at: Sequence[float], length: float) -> list[float]:
    """Places in rising order, moved as little as it takes that each is a line from the next.

    >>> apart([10.0, 11.0, 100.0], 100.0)
    [4.0, 17.0, 100.0]
    """
    gap = min(_GAP, length / max(len(at) - 1, 1))
    groups: list[list[float]] = []  # of places that touch: their sum, less what they are moved; number
    for place in at:
        groups.append([place, 1])
        while (
            len(groups) > 1 and _start(groups[-1], gap) < _start(groups[-2], gap) + gap * groups[-2][1]
        ):
            total, count = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += count
    places: list[float] = []
    for group in groups:
        places += [_start(group, gap) + gap * k for k in range(int(group[1]))]
    for k in range(len(places)):  # from the bottom up, then from the top down, within the axis
        places[k] = max(places[k], k * gap)
    for k in reversed(range(len(places))):
        places[k] = min(places[k], length - (len(places) - 1 - k) * gap)
    return [round(place, 6) for place in places]


def _start(group: Sequence[float], gap: float) -> float:
    """The first place of a group whose middle is that of its places."""
    return group[0] / group[1] - gap * (group[1] - 1) / 2
