"""The plot of a sweep's table: a metric against one hyperparameter, or two."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdeep.search.spaces.values import word
from jaxdeep.search.tables import drawing
from jaxdeep.search.tables.columns import decades, in_words, scalable
from jaxdeep.search.tables.standings import Standing
from jaxdeep.train import monitors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MANY = 12  # above this many combinations of the other hyperparameters, none gets a line of its own


def plot(
    standings: Sequence[Standing],
    spread: Sequence[float],
    metric: str,
    x: str,
    y: str | None,
    *,
    spaces: Any = None,
    ax: Any = None,
    path: Any = None,
) -> "Figure":
    """Draw what `jaxdeep.search.Table.plot` describes; `spread` has a standard deviation a point.

    >>> standing = Standing({"rate": 0.1}, 1.0, "finished", (0,))
    >>> plot([standing], [0.2], "loss", "rate", None).axes[0].get_xlabel()
    'rate'
    """
    shown = [i for i, s in enumerate(standings) if x in s.point and (y is None or y in s.point)]
    if not shown:
        raise ValueError(f"no point has both {x} and {y}")
    ax = drawing.axes("plot", ax, path)
    points = [standings[i] for i in shown]
    if y is None:
        _lines(ax, points, [spread[i] for i in shown], metric, x, spaces)
    else:
        _surface(ax, points, metric, x, y, spaces)
    grid = y is not None and bool(ax.images)
    for axis, name in (("x", x), ("y", y)):
        numbers = name is not None and scalable([s.point[name] for s in points])
        for end in drawing.bounds(spaces, name) if name is not None and numbers and not grid else ():
            line = ax.axvline if axis == "x" else ax.axhline
            line(end, color=drawing.FAINT, linestyle=":", linewidth=1, zorder=0)
    if len(shown) < len(standings):
        names = drawing.plain(" and ".join(name for name in (x, y) if name is not None))
        drawing.note(ax, f"the {len(shown)} of {len(standings)} points that have {names}")
    return drawing.finished(ax, path)


def _lines(
    ax: Any, points: list[Standing], spread: list[float], metric: str, x: str, spaces: Any
) -> None:
    """Draw means and standard deviations, with a line for each combination of the other names."""
    names = drawing.labels([{n: v for n, v in s.point.items() if n != x} for s in points])
    together: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        together.setdefault(name, []).append(i)
    lines = len(together) <= _MANY and any(len(members) > 1 for members in together.values())
    if not lines:  # random points: no two are on a line
        together = {"": list(range(len(points)))}
    place = drawing.place(ax, "x", x, [s.point[x] for s in points], spaces)
    at = np.array([place(s.point[x]) for s in points])
    value = np.array([s.value for s in points])
    sd = np.nan_to_num(np.array(spread), posinf=0.0)
    full, failed = (np.array([getattr(s, flag) for s in points]) for flag in ("full", "failed"))
    begun = ~full & ~failed & np.isfinite(value)  # points that were halved or interrupted
    errors = ~failed & np.array([s.ended == "error" for s in points])
    drawing.scale_metric(ax, "y", metric, value[full | begun])
    for k, (name, members) in enumerate(together.items()):
        line = sorted(members, key=lambda i: at[i])
        bars = sd[line] if (sd[members] > 0).any() else None
        style: Any = {"color": f"C{k % 10}", "markersize": 4, "capsize": 3}
        mean = np.where(full, value, np.nan)  # a line ends beside what is not full
        ax.errorbar(at[line], mean[line], bars, label=name, fmt="o-" if lines else "o", **style)
        hollow = [i for i in line if begun[i]]
        ax.plot(at[hollow], value[hollow], f"C{k % 10}o", markersize=4, fillstyle="none")
    ends = {"diverged": failed, "error": errors}
    if (failed | errors).any():
        shown = [ended for ended, which in ends.items() if which.any()]
        height = drawing.rail(ax, -1.0 if monitors.mode_of(metric) == "max" else 1.0, shown)
        for (k, members), ended in itertools.product(enumerate(together.values()), shown):
            some = [i for i in members if ends[ended][i]]
            marks = {"marker": drawing.MARKS[ended], "linestyle": "", "color": f"C{k % 10}"}
            ax.plot(at[some], [height] * len(some), transform=ax.get_xaxis_transform(), **marks)
    if begun.any():
        endings = " or ".join(dict.fromkeys(points[i].ended for i in np.flatnonzero(begun)))
        ax.plot([], [], "o", color=drawing.FAINT, markersize=4, fillstyle="none", label=endings)
    if (lines and len(together) > 1) or begun.any():
        ax.legend(fontsize="small")
    ax.set(xlabel=drawing.plain(x), ylabel=drawing.plain(metric))
    ax.grid(alpha=0.3)


def _surface(ax: Any, points: list[Standing], metric: str, x: str, y: str, spaces: Any) -> None:
    """Draw a map of means over all other hyperparameters, or a scatter if the points are no grid."""
    from matplotlib.colors import LogNorm

    known = [s for s in points if np.isfinite(s.value) and not s.failed and s.ended != "error"]
    logarithmic = monitors.mode_of(metric) != "max" and decades([s.value for s in known])
    norm = LogNorm() if logarithmic else None
    columns, lines = _distinct(points, x), _distinct(points, y)
    if len(columns) * len(lines) > 1.5 * len(points):
        drawn = _scatter(ax, points, known, x, y, spaces, norm)
    else:
        drawn = _map(ax, points, known, columns, lines, x, y, norm)
        slant = {"rotation": 45, "ha": "right"} if len(columns) > 6 else {}
        ax.set_xticks(range(len(columns)), list(columns.values()), **slant)
        ax.set_yticks(range(len(lines)), list(lines.values()))
    ax.set(xlabel=drawing.plain(x), ylabel=drawing.plain(y))
    if known:
        ax.figure.colorbar(drawn, ax=ax, label=drawing.plain(metric))


def _scatter(
    ax: Any, points: list[Standing], known: list[Standing], x: str, y: str, spaces: Any, norm: Any
) -> Any:
    """Draw a mark for each point; those that were halved or interrupted are hollow."""
    from matplotlib.cm import ScalarMappable

    on_x, on_y = (
        drawing.place(ax, axis, name, [s.point[name] for s in points], spaces)
        for axis, name in (("x", x), ("y", y))
    )

    def places(some: Sequence[Standing]) -> list[list[float]]:
        return [[on_x(s.point[x]) for s in some], [on_y(s.point[y]) for s in some]]

    values: Any = np.array([s.value for s in known])
    shades = ScalarMappable(norm)
    shades.set_array(values)
    shades.autoscale()
    colors: Any = shades.to_rgba(values)
    faces = [color if s.full else "none" for s, color in zip(known, colors)]
    ax.scatter(*places(known), edgecolors=colors, facecolors=faces)
    if begun := dict.fromkeys(s.ended for s in known if not s.full):
        drawing.note(ax, f"hollow: {' or '.join(begun)}")
    ax.plot(*places([s for s in points if s.failed]), "kx")
    ax.plot(*places([s for s in points if s.ended == "error"]), "k+")
    return shades


def _map(
    ax: Any,
    points: list[Standing],
    known: list[Standing],
    columns: Mapping[Any, str],
    lines: Mapping[Any, str],
    x: str,
    y: str,
    norm: Any,
) -> Any:
    """Draw a cell for each pair of values, with its mean."""
    cells = np.full((len(lines), len(columns)), np.nan)
    texts = {}
    for (i, line), (j, value) in itertools.product(enumerate(lines), enumerate(columns)):
        cell = [s for s in points if (word(s.point[y]), word(s.point[x])) == (line, value)]
        if cell and all(s in known for s in cell):
            cells[i, j] = np.mean([s.value for s in cell])
            texts[i, j] = "{:.3g}" if all(s.full for s in cell) else "({:.3g})"
        elif any(s.failed or s.ended == "error" for s in cell):
            ax.text(j, i, "×" if any(s.failed for s in cell) else "+", ha="center", va="center")
    drawn = ax.imshow(np.ma.masked_invalid(cells), origin="lower", aspect="auto", norm=norm)
    for (i, j), text in texts.items():
        color = "k" if float(drawn.norm(cells[i, j])) > 0.6 else "w"
        ax.text(j, i, text.format(cells[i, j]), ha="center", va="center", color=color)
    if begun := dict.fromkeys(s.ended for s in known if not s.full):
        drawing.note(ax, f"in parentheses: {' or '.join(begun)}")
    return drawn


def _distinct(points: Sequence[Standing], name: str) -> dict[Any, str]:
    """The labels of a hyperparameter's values, in order, by what tells them apart."""
    values = [s.point[name] for s in points]
    texts = dict(zip(map(word, values), map(drawing.plain, in_words(values))))
    by_identity = dict(zip(map(word, values), values))
    numbers = scalable(values)
    return {
        key: texts[key]
        for key in sorted(texts, key=lambda key: by_identity[key] if numbers else texts[key])
    }
