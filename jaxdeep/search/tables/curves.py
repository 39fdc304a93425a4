"""Curves of a sweep: a metric against epochs, the best of k points, the distribution over runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdeep.search.tables import drawing
from jaxdeep.search.tables.best_of import expected_best, with_worst
from jaxdeep.search.tables.result import FULL, Result
from jaxdeep.search.tables.standings import Standing, counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "0.75"


def history(
    points: Sequence[Standing],
    results: Sequence[Result],
    metric: str,
    sign: float,
    *,
    best: int = 8,
    ax: Any = None,
    path: Any = None,
) -> "Figure":
    """Draw what `jaxdeep.search.Table.plot_history` describes.

    >>> result = Result({}, {}, {"loss": np.array([2.0, 1.0])}, 1, "finished")
    >>> figure = history([Standing({"rate": 0.1}, 1.0, "finished", (0,))], [result], "loss", 1.0)
    >>> figure.axes[0].lines[0].get_ydata().tolist()
    [2.0, 1.0]
    """
    names = drawing.labels([s.point for s in points], digits=3)
    ax = drawing.axes("plot_history", ax, path, (5 + 0.07 * max(map(len, names)), 4))
    order = sorted(range(len(points)), key=lambda i: _rank(points[i], sign))
    drawn: list[np.ndarray] = []
    others: list[np.ndarray] = []
    # The last point of each line, by how the run ended.
    ends: dict[str, list[tuple[int, float, str]]] = {}
    for rank, i in reversed(list(enumerate(order))):
        runs = aligned([results[row] for row in points[i].rows], metric)
        if runs is None:
            continue
        chosen = rank < best
        color = f"C{rank % 10}" if chosen else _GREY
        known = np.flatnonzero(np.isfinite(runs).any(0))
        epochs = known + 1
        with np.errstate(over="ignore", invalid="ignore"):
            low, middle, high = np.nanquantile(runs[:, known], (0.25, 0.5, 0.75), axis=0)
        if points[i].ended in drawing.MARKS or len(epochs) == 1:
            ends.setdefault(points[i].ended, []).append((int(epochs[-1]), float(middle[-1]), color))
        if not chosen:
            others.append(np.column_stack((epochs, middle)))
            continue
        ax.plot(epochs, middle, color=color, label=names[i] or drawing.plain(metric), zorder=2.5)
        if len(runs) > 1:
            ax.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0, zorder=2.4)
        if not points[i].failed:
            drawn.append(middle)
    if drawn:
        _limits(ax, metric, np.concatenate(drawn))
    from matplotlib.collections import LineCollection

    ax.add_collection(LineCollection(others, colors=_GREY, linewidths=1.5, zorder=1.9))
    marked = [ended for ended in ends if ended in drawing.MARKS]
    for ended, places in ends.items():
        x, y, colors = zip(*places)
        hollow: Any = (
            {"facecolors": "none", "edgecolors": colors} if ended == "halved" else {"c": colors}
        )
        ax.scatter(x, y, 25, marker=drawing.MARKS.get(ended, "."), zorder=2.6, **hollow)
    for ended in marked:
        style: Any = {"fillstyle": "none"} if ended == "halved" else {}
        ax.plot([], [], drawing.MARKS[ended], color=drawing.FAINT, markersize=5, label=ended, **style)
    ax.set(xlabel="epoch", ylabel=drawing.plain(metric))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.3)
    handles, texts = ax.get_legend_handles_labels()
    lines = [pair for pair in zip(handles, texts) if pair[1] not in marked][::-1]  # the best first
    marks = [pair for pair in zip(handles, texts) if pair[1] in marked]
    if (lines and len(points) > 1) or marks:
        beside: Any = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
        ax.legend(*zip(*lines, *marks), fontsize="small", frameon=False, **beside)
    return drawing.finished(ax, path)


def _rank(standing: Standing, sign: float) -> tuple[int, float]:
    """Full points before those that were ended, and those before what failed; the best first."""
    known = np.isfinite(standing.value) and not standing.failed
    return 0 if standing.full else 1 if known else 2, sign * standing.value if known else 0.0


def aligned(results: Sequence[Result], metric: str) -> np.ndarray | None:
    """The histories of runs, ``(runs, epochs)``; NaN where there is no value. None if nowhere is one.

    Runs that stopped early go on with the last value.
    """
    held = [(r, np.asarray(r.history[metric], float)) for r in results if metric in r.history]
    length = max((len(values) for _, values in held), default=0)
    curves = np.full((len(held), length), np.nan)
    for curve, (result, values) in zip(curves, held):
        curve[: len(values)] = np.where(np.isfinite(values), values, np.nan)
        if result.ended in FULL and len(values):
            curve[len(values) :] = result.at_end(metric)
    known = np.isfinite(curves).any(0)
    return curves if known.any() else None


def _limits(ax: "Axes", metric: str, values: np.ndarray) -> None:
    """Fit the axis to these values; lines of other values may leave the picture."""
    drawing.scale_metric(ax, "y", metric, values)
    transform = ax.yaxis.get_transform()
    low, high = transform.transform(np.array([values.min(), values.max()]))
    room = 0.05 * ((high - low) or abs(high) or 1.0)
    with np.errstate(over="ignore"):
        ends = transform.inverted().transform(np.array([low - room, high + room]))
    least = 1e-300 if ax.get_yscale() == "log" else -1e300
    low, high = np.clip(ends, least, 1e300)
    if low < high:
        ax.set_ylim(low, high)


def best_of(
    points: Sequence[Standing],
    metric: str,
    sign: float,
    *,
    by: str | None = None,
    ax: Any = None,
    path: Any = None,
) -> "Figure":
    """Draw what `jaxdeep.search.Table.plot_best_of` describes.

    >>> points = [Standing({}, v, "finished", (i,)) for i, v in enumerate((0.1, 0.5, 0.7, 0.9))]
    >>> best_of(points, "accuracy", -1.0).axes[0].lines[0].get_ydata().round(4).tolist()
    [0.55, 0.7667]
    """
    points = [s for s in points if by is None or by in s.point]
    ax = drawing.axes("plot_best_of", ax, path)
    values = _values(points, sign, "plot_best_of")
    mode = "min" if sign > 0 else "max"
    drawn, most = [], 1
    for i, (name, part) in enumerate(drawing.split(points, by).items()):
        some = np.array([values[s.rows] for s in part if s.rows in values])
        if not len(some):
            continue
        n, half = len(some), max(1, len(some) // 2)
        most = max(most, n)
        k = np.arange(1, n + 1)
        unbiased = expected_best(some, mode)[:half]
        rising = np.sort(sign * some)
        shares = 1 - (1 - np.array([[0.25], [0.75]])) ** (
            1 / k[:half]
        )  # of all, at quartiles of the best
        low, high = sign * rising[np.minimum((shares * n).astype(int), n - 1)]
        ax.fill_between(k[:half], low, high, color=f"C{i % 10}", alpha=0.15, linewidth=0)
        label = _label(name, part, n)
        ax.plot(k[:half], unbiased, "o-", color=f"C{i % 10}", markersize=3, label=label)
        biased = expected_best(some, mode, unbiased=False)
        ax.plot(k, biased, ":", color=f"C{i % 10}", linewidth=1)
        drawn += [*biased, *low, *high]
    ax.plot([], [], ":", color=drawing.FAINT, linewidth=1, label="biased, to all points")
    drawing.scale_metric(ax, "y", metric, drawn)
    if most > 4:
        ax.set_xscale("log", base=2)
        ticks = [2**power for power in range(most.bit_length())]
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.set(xlabel="points tried, k", ylabel=drawing.plain(f"expected best {metric}"))
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small")
    return drawing.finished(ax, path)


def distribution(
    runs: Sequence[Standing],
    metric: str,
    sign: float,
    *,
    by: str | None = None,
    ax: Any = None,
    path: Any = None,
) -> "Figure":
    """Draw what `jaxdeep.search.Table.plot_distribution` describes.

    >>> runs = [Standing({}, v, "finished", (i,)) for i, v in enumerate((0.1, 0.5))]
    >>> distribution(runs, "loss", 1.0).axes[0].lines[0].get_ydata().tolist()
    [0.0, 0.5, 1.0]
    """
    runs = [s for s in runs if by is None or by in s.point]
    ax = drawing.axes("plot_distribution", ax, path)
    _values(runs, sign, "plot_distribution")  # refuses runs without a value
    full = [s.value for s in runs if s.full]
    drawing.scale_metric(ax, "x", metric, full)
    for i, (name, part) in enumerate(drawing.split(runs, by).items()):
        good = np.sort([sign * s.value for s in part if s.full]) * sign  # the best first
        n = sum(s.full or s.failed for s in part)
        if not len(good):
            continue
        shares = np.arange(len(good) + 1) / n
        at = np.array([good[0], *good])
        label = _label(name, part, n, "runs")
        ax.plot(at, shares, color=f"C{i % 10}", drawstyle="steps-post", label=label)
        if len(good) < n:  # runs that diverged lie beyond the last value
            end = max(full) if sign > 0 else min(full)
            ax.plot([good[-1], end], [shares[-1]] * 2, ":", color=f"C{i % 10}", linewidth=1)
    ax.set(xlabel=drawing.plain(metric), ylabel="share of runs at least as good", ylim=(-0.02, 1.02))
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small")
    return drawing.finished(ax, path)


def _values(standings: Sequence[Standing], sign: float, caller: str) -> dict[tuple[int, ...], float]:
    """Values by rows, of points that can be compared; a point that diverged has the worst of them."""
    used = [s for s in standings if s.full or s.failed]
    if not any(s.full for s in used):
        raise ValueError(f"{caller} needs a full run with a finite metric: {counted(standings)}")
    values = with_worst([s.value if s.full else np.nan for s in used], sign)
    return {s.rows: float(value) for s, value in zip(used, values)}


def _label(name: str, part: Sequence[Standing], n: int, noun: str = "points") -> str:
    """A line in words: of how many it is, how many diverged, and what was left out."""
    failed = sum(s.failed for s in part)
    left = counted([s for s in part if not s.full and not s.failed])
    said = [f"{n} {noun}" if n != 1 else f"1 {noun[:-1]}"]
    said += [f"{failed} diverged"] * bool(failed) + [f"without {left}"] * bool(left)
    return f"{name}: {', '.join(said)}" if name else ", ".join(said)
