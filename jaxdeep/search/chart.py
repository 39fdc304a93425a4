"""The plot of a sweep's table: a metric against one hyperparameter, or two."""

import itertools
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdeep._extras import needed
from jaxdeep.search.subset import RESERVED
from jaxdeep.train import monitors

_MANY = 12  # above this many combinations of the other hyperparameters, none gets a line of its own


def plot(
    table: Any,
    metric: str,
    x: str,
    y: str | None,
    *,
    metrics: Sequence[str],
    ax: Any = None,
    path: Any = None,
) -> Any:
    """Draw what `jaxdeep.search.Table.plot` describes; `metrics` are the names of those in the table.

    >>> from jaxdeep.search.table import Result, Table
    >>> result = Result({}, {}, {"loss": np.array([2.0, 1.0])}, 1, "finished")
    >>> table = Table([{"rate": 0.1, "seed": 0}], [result])
    >>> plot(table, "loss", "rate", None, metrics=["loss"]).axes[0].get_xlabel()
    'rate'
    """
    rows = table.over_seeds()
    column = f"{metric}_mean"
    if not rows:
        raise ValueError("the table has no rows to plot")
    if metric not in metrics:
        raise ValueError(f"metric must be one of {', '.join(metrics)}; got {metric!r}")
    names = [name for name in table.points[0] if name not in RESERVED]
    for argument, name in (("x", x), ("y", y)):
        if name not in (*names, None) or (name is None and argument == "x"):
            raise ValueError(f"{argument} must be one of {', '.join(names)}; got {name!r}")
    if x == y:
        raise ValueError(f"x and y must be two hyperparameters, got {x!r} twice")
    figure = needed("matplotlib.figure", "plot", "matplotlib", "plot")
    if ax is None:
        ax = figure.Figure(figsize=(6, 4), layout="constrained").subplots()
    if y is None:
        _lines(ax, rows, column, f"{metric}_std", x, [name for name in names if name != x])
        ax.set_ylabel(metric)
        values = [v for v in (row.get(column, np.nan) for row in rows) if np.isfinite(v)]
        # accuracies differ near 1
        _scale(ax, "y", [] if monitors.mode_of(metric) == "max" else values)
        ax.grid(alpha=0.3)
    else:
        _surface(ax, rows, column, metric, x, y)
    if path is not None:
        ax.figure.savefig(path)
    return ax.figure


def _lines(
    ax: Any, rows: Sequence[Mapping[str, Any]], column: str, spread: str, x: str, others: list[str]
) -> None:
    """Draw means and standard deviations, with a line for each combination of the other names."""
    together: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        together.setdefault(tuple(_word(row[name]) for name in others), []).append(row)
    lines = len(together) <= _MANY and any(len(members) > 1 for members in together.values())
    if not lines:  # random points: no two are on a line
        together = {(): list(rows)}
    place = _axis(ax, "x", [row[x] for row in rows])
    ax.set_xlabel(x)
    for i, (values, members) in enumerate(together.items()):
        line = sorted(members, key=lambda row: place(row[x]))
        at = np.array([place(row[x]) for row in line])
        mean, sd = (np.array([row.get(name, np.nan) for row in line]) for name in (column, spread))
        finite = np.isfinite(mean) & (np.array([row["diverged"] for row in line]) == 0)
        label = ", ".join(f"{name} {value}" for name, value in zip(others, values))
        style = {"color": f"C{i % 10}", "fmt": "o-" if lines else "o", "markersize": 4, "capsize": 3}
        errors = np.where(np.isfinite(sd), sd, 0)[finite] if np.isfinite(sd).any() else None
        ax.errorbar(at[finite], mean[finite], errors, label=label, **style)
        if not finite.all():
            crosses = np.full((~finite).sum(), 0.98)
            ax.plot(at[~finite], crosses, f"C{i % 10}x", transform=ax.get_xaxis_transform())
    if lines and others:
        ax.legend(fontsize="small")


def _surface(
    ax: Any, rows: Sequence[Mapping[str, Any]], column: str, metric: str, x: str, y: str
) -> None:
    """Draw a map of means over all other hyperparameters, or a scatter if the points are no grid."""
    from matplotlib.colors import LogNorm

    good = [row for row in rows if np.isfinite(row.get(column, np.nan)) and not row["diverged"]]
    bad = [row for row in rows if row not in good]
    decades = monitors.mode_of(metric) != "max" and _decades([row[column] for row in good])
    norm = LogNorm() if decades else None
    columns, lines = _distinct(rows, x), _distinct(rows, y)
    if len(columns) * len(lines) > 1.5 * len(rows):
        on_x, on_y = (_axis(ax, axis, [row[n] for row in rows]) for axis, n in (("x", x), ("y", y)))
        places = [[on_x(row[x]) for row in good], [on_y(row[y]) for row in good]]
        drawn = ax.scatter(*places, c=[row[column] for row in good], norm=norm)
        ax.plot([on_x(row[x]) for row in bad], [on_y(row[y]) for row in bad], "kx")
    else:
        cells = np.full((len(lines), len(columns)), np.nan)
        for (i, line), (j, value) in itertools.product(enumerate(lines), enumerate(columns)):
            cell_rows = [row for row in rows if (_word(row[y]), _word(row[x])) == (line, value)]
            if cell_rows and not any(row in bad for row in cell_rows):
                cells[i, j] = np.mean([row[column] for row in cell_rows])
            elif cell_rows:
                ax.text(j, i, "×", ha="center", va="center")
        drawn = ax.imshow(np.ma.masked_invalid(cells), origin="lower", aspect="auto", norm=norm)
        for (i, j), value in np.ndenumerate(cells):
            if np.isfinite(value):
                color = "k" if drawn.norm(value) > 0.6 else "w"
                ax.text(j, i, f"{value:.3g}", ha="center", va="center", color=color)
        slant = {"rotation": 45, "ha": "right"} if len(columns) > 6 else {}
        ax.set_xticks(range(len(columns)), columns.values(), **slant)
        ax.set_yticks(range(len(lines)), lines.values())
    ax.set(xlabel=x, ylabel=y)
    ax.figure.colorbar(drawn, ax=ax, label=metric)


def _axis(ax: Any, axis: str, values: Sequence[Any]) -> Any:
    """Set up an axis, and return the function from a value to its place on it."""
    if all(_is_number(value) for value in values):
        _scale(ax, axis, values)
        return float
    words = sorted({_word(value) for value in values})
    getattr(ax, f"set_{axis}ticks")(range(len(words)), words)
    return lambda value: words.index(_word(value))


def _scale(ax: Any, axis: str, values: Iterable[float]) -> None:
    if _decades(list(values)):
        getattr(ax, f"set_{axis}scale")("log")


def _decades(values: Sequence[float]) -> bool:
    """Whether all values are positive and span more than a decade."""
    return bool(values) and min(values) > 0 and max(values) > 10 * min(values)


def _distinct(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, str]:
    """The labels of a hyperparameter's values, in order, by the word that tells them apart."""
    values = [row[name] for row in rows]
    ordered = sorted(values, key=lambda value: value if all(map(_is_number, values)) else _word(value))
    return {_word(value): f"{value:.3g}" if _is_number(value) else _word(value) for value in ordered}


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _word(value: Any) -> str:
    if _is_number(value):
        return f"{value:.6g}"
    return str(getattr(value, "__name__", value))
