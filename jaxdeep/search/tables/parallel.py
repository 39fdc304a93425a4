"""Parallel coordinates of a sweep: an axis for each hyperparameter, a line for each point."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxdeep.search.spaces.values import word
from jaxdeep.search.tables import drawing
from jaxdeep.search.tables.columns import decades, in_words, logarithmic, scalable
from jaxdeep.search.tables.standings import Standing
from jaxdeep.train import monitors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BELOW = -0.08  # the height at which a line passes an axis without a value


class _Axis(NamedTuple):
    """An axis from 0 to 1: where values are, and its ticks."""

    height: Callable[[Any], float]
    ticks: list[tuple[float, str]]


def coordinates(
    points: Sequence[Standing],
    names: Sequence[str],
    metric: str,
    sign: float,
    *,
    spaces: Any = None,
    ax: Any = None,
    path: Any = None,
) -> "Figure":
    """Draw what `jaxdeep.search.Table.plot_parallel` describes.

    >>> points = [Standing({"rate": rate}, rate, "finished", (i,)) for i, rate in enumerate((0.1, 0.2))]
    >>> figure = coordinates(points, ["rate"], "loss", 1.0)
    >>> [text.get_text() for text in figure.axes[0].get_xticklabels()]
    ['rate', 'loss']
    """
    varied = [name for name in names if _varies(points, name)]
    shown = [s for s in points if s.full or s.failed]
    good = [s for s in shown if s.full]
    if not good or not varied:
        needed = "a hyperparameter that differs between points" if good else "a full run"
        raise ValueError(f"plot_parallel needs {needed}, to draw {metric} by it")
    ax = drawing.axes("plot_parallel", ax, path, (1.7 * (len(varied) + 1) + 1, 4))
    from matplotlib import cm, collections, colors, patheffects

    axes = [_axis(name, [s.point[name] for s in points if name in s.point], spaces) for name in varied]
    low, high = min(s.value for s in good), max(s.value for s in good)
    logs = monitors.mode_of(metric) != "max" and decades([low, high])
    axes.append(_numbers([s.value for s in good], logs))
    norm = colors.LogNorm(low, high) if logs else colors.Normalize(low, high)
    shades: Any = cm.ScalarMappable(norm, "viridis" if sign > 0 else "viridis_r")  # the best is dark
    rail = 1.08 if sign > 0 else _BELOW

    def line(standing: Standing) -> list[tuple[int, float]]:
        heights = [
            axis.height(standing.point[name]) if name in standing.point else _BELOW
            for name, axis in zip(varied, axes)
        ]
        heights.append(axes[-1].height(standing.value) if standing.full else rail)
        return list(enumerate(heights))

    lost = [line(s) for s in shown if s.failed]
    best_last = sorted(good, key=lambda s: -sign * s.value)
    lines = [line(s) for s in best_last]
    tints = shades.to_rgba(np.array([s.value for s in best_last]))
    styles: Any = ((lost, "0.6", "--", 1.0), (lines, tints, "-", 1.5 if len(lines) <= 100 else 0.6))
    for layer, (some, color, dashes, width) in enumerate(styles):
        drawn = collections.LineCollection(some, colors=color, linestyles=dashes, linewidths=width)
        drawn.set(alpha=0.9, zorder=2 + layer)
        ax.add_collection(drawn)
    ax.plot([len(axes) - 1] * len(lost), [rail] * len(lost), "x", color="0.4")
    white = [patheffects.withStroke(linewidth=2.5, foreground="w")]
    for place, axis in enumerate(axes):
        ax.plot([place] * 2, [0, 1], color="k", linewidth=1, zorder=4)
        for height, text in axis.ticks:
            ax.plot([place - 0.02, place], [height] * 2, color="k", linewidth=1, zorder=4)
            said = ax.annotate(
                *(drawing.plain(text), (place, height)),
                xytext=(-5, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize="small",
                zorder=5,
            )
            said.set_path_effects(white)
    ax.set_xticks(range(len(axes)), [drawing.plain(name) for name in (*varied, metric)])
    ax.set_yticks([])
    ax.tick_params(axis="x", length=0)
    ax.set(xlim=(-0.35, len(axes) - 0.9), ylim=(-0.14, 1.14))
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(shades, ax=ax, label=drawing.plain(metric), pad=0.01)
    left = len(points) - len(shown)
    failed = len(shown) - len(good)
    said = [f"dashed: {failed} diverged"] * bool(failed)
    lacking = any(name not in s.point for s in shown for name in varied)
    said += ["below an axis: without it"] * lacking
    said += [f"{left} halved, interrupted or with an error are left out"] * bool(left)
    drawing.note(ax, ", ".join(said))
    return drawing.finished(ax, path)


def _varies(points: Sequence[Standing], name: str) -> bool:
    held = {word(s.point[name]) for s in points if name in s.point}
    return len(held) > 1 or (len(held) == 1 and any(name not in s.point for s in points))


def _axis(name: str, values: Sequence[Any], spaces: Any) -> _Axis:
    if not scalable(values):
        texts = dict(zip(map(word, values), in_words(values)))
        ordered = sorted(set(texts.values()))
        gap = 1 / max(len(ordered) - 1, 1)
        ticks = [(i * gap, text) for i, text in enumerate(ordered)]
        return _Axis(lambda value: ordered.index(texts[word(value)]) * gap, ticks)
    numbers = [float(value) for value in values]
    return _numbers(numbers, logarithmic(name, numbers, spaces))


def _numbers(values: list[float], logs: bool) -> _Axis:
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = min(values), max(values)
    if low == high:
        return _Axis(lambda value: 0.5, [(0.5, f"{low:.3g}")])
    if logs:
        length = math.log(high / low)

        def height(value: Any) -> float:
            return math.log(float(value) / low) / length

        subs = (1.0,) if high / low > 100 else (1.0, 2.0, 5.0)
        at: Any = LogLocator(10.0, subs, numticks=8).tick_values(low, high)
    else:

        def height(value: Any) -> float:
            return (float(value) - low) / (high - low)

        at = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
        few = sorted(set(values))
        at = np.array(few) if len(few) <= 6 else at
    return _Axis(height, [(height(v), f"{v:.6g}") for v in at if low <= v <= high])
