"""What the views of a sweep share: axes, scales, colours of endings, the rail of what failed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdeep import _checks
from jaxdeep._extras import needed
from jaxdeep.search.spaces.values import is_number, word
from jaxdeep.search.tables.columns import decades, in_words, logarithmic, scalable
from jaxdeep.search.tables.standings import Standing
from jaxdeep.train import monitors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# How a run ended, by color (told apart without red and green) and mark.
COLORS = {
    "finished": "#0072B2",
    "stopped": "#56B4E9",
    "halved": "#E69F00",
    "diverged": "#D55E00",
    "interrupted": "#999999",
    "incomplete": "#999999",
    "error": "#882255",
}
MARKS = {"diverged": "x", "error": "+", "interrupted": "s", "incomplete": "s", "halved": "o"}
SIGNS = {"diverged": "×", "error": "+"}
FAINT = "0.45"  # the grey of notes beside the data


def axes(caller: str, ax: Any, path: Any, size: tuple[float, float] = (6, 4)) -> "Axes":
    """The axes to draw on, those of a new figure if none are given."""
    if path is not None:
        _checks.check_local_path("path", path)
    module = needed("matplotlib.figure", caller, "matplotlib", "plot")
    if ax is None:
        return module.Figure(figsize=size, layout="constrained").subplots()
    if not (hasattr(ax, "get_figure") and hasattr(ax, "errorbar")):
        raise TypeError(f"ax must be a matplotlib axes, got {ax!r}")
    return ax


def finished(ax: "Axes", path: Any) -> "Figure":
    """The figure of the axes, saved if there is a path."""
    figure: Any = ax.figure
    if path is not None:
        figure.savefig(path)
    return figure


def scale_metric(ax: "Axes", axis: str, metric: str, values: Iterable[float]) -> None:
    """Make an axis logarithmic if values span decades, but not of accuracies, which differ near 1."""
    if monitors.mode_of(metric) != "max" and decades([float(value) for value in values]):
        _logarithms(ax, axis)


def place(
    ax: "Axes", axis: str, name: str, values: Sequence[Any], spaces: Any = None
) -> Callable[[Any], float]:
    """Set up an axis of a hyperparameter, and return the function from a value to its place on it."""
    if scalable(values):
        if logarithmic(name, [float(value) for value in values], spaces):
            _logarithms(ax, axis)
        return float
    texts = dict(zip(map(word, values), in_words(values)))
    ordered = sorted(set(texts.values()))
    getattr(ax, f"set_{axis}ticks")(range(len(ordered)), list(map(plain, ordered)))
    return lambda value: float(ordered.index(texts[word(value)]))


def _logarithms(ax: "Axes", axis: str) -> None:
    with np.errstate(over="ignore"):
        getattr(ax, f"set_{axis}scale")("log")


def bounds(spaces: Any, name: str) -> tuple[float, ...]:
    """The smallest and the largest value of a hyperparameter's range, if there is one of numbers."""
    ends: list[float] = []
    for space in spaces or ():
        ends += [float(end) for end in getattr(space.get(name), "bounds", ()) if is_number(end)]
    return (min(ends), max(ends)) if ends else ()


def rail(ax: "Axes", sign: float, ended: Iterable[str]) -> float:
    """A rail at the bad end of the y axis for what has no value there, and its height on the axes."""
    names = ", ".join(f"{SIGNS[name]} {name}" for name in SIGNS if name in set(ended))
    transform = ax.yaxis.get_transform()
    low, high = transform.transform(np.array(ax.get_ylim()))
    room = 0.12 * (high - low)
    low, high = (low, high + room) if sign > 0 else (low - room, high)
    ax.set_ylim(*transform.inverted().transform(np.array([low, high])))
    height = 0.95 if sign > 0 else 0.05
    ax.axhline(ax.get_ylim()[0], alpha=0)  # so that the limits stay
    ax.plot([0, 1], [height] * 2, ":", color=FAINT, linewidth=0.8, transform=ax.transAxes)
    ax.annotate(
        names,
        (1, height),
        xycoords="axes fraction",
        xytext=(-3, -3 if sign > 0 else 3),
        textcoords="offset points",
        ha="right",
        va="top" if sign > 0 else "bottom",
        fontsize="x-small",
        color=FAINT,
    )
    return height


def note(ax: "Axes", text: str) -> None:
    """Say something above the axes that the reader must know."""
    if text:
        ax.set_title(text, fontsize="small", color=FAINT)


def plain(text: str) -> str:
    """A text that matplotlib takes neither for mathematics nor, in a legend, for nothing."""
    return " " * text.startswith("_") + text.replace("$", r"\$")


def labels(points: Sequence[Mapping[str, Any]], *, digits: int | None = None) -> list[str]:
    """Each point in words: the hyperparameters in which points differ, with their values.

    Different points read differently, unless numbers are to have so many `digits`.

    >>> labels([{"rate": 0.1, "units": 8}, {"rate": 0.2, "units": 8}, {"rate": 0.2, "b1": 0.9}])
    ['rate 0.1, units 8', 'rate 0.2, units 8', 'rate 0.2, b1 0.9']
    """
    texts: list[list[str]] = [[] for _ in points]
    for name in dict.fromkeys(name for point in points for name in point):
        held = [i for i, point in enumerate(points) if name in point]
        values = [points[i][name] for i in held]
        if len(held) == len(points) and len(set(map(word, values))) == 1:
            continue
        for i, text in zip(held, in_words(values, digits=digits)):
            texts[i].append(f"{name} {text}")
    return [plain(", ".join(text)) for text in texts]


def split(standings: Sequence[Standing], by: str | None) -> dict[str, list[Standing]]:
    """The standings by the values of a hyperparameter, in words; all of them together without one."""
    if by is None:
        return {"": list(standings)}
    held = [standing for standing in standings if by in standing.point]
    parts: dict[str, list[Standing]] = {}
    for standing, text in zip(held, in_words([standing.point[by] for standing in held])):
        parts.setdefault(plain(f"{by} {text}"), []).append(standing)
    return parts
