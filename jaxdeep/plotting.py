"""Plots of histories, gradient flows, range tests and reliability diagrams."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from jaxdeep import _checks
from jaxdeep._extras import needed
from jaxdeep._shapes import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxdeep.diagnostics import LayerFlow, RateTest

    Flow = Mapping[str, LayerFlow]

__all__ = [
    "curves",
    "gradient_flow",
    "learning_rate",
    "reliability",
]


def __dir__() -> list[str]:
    return __all__


History = Mapping[str, ArrayLike | Sequence[Any]]  # of a run: values of each metric by epoch
Diagram = Iterable[ArrayLike]


class Run(Protocol):
    """A run with its history, such as what `jaxdeep.fit` returns."""

    @property
    def history(self) -> History:
        """Values of each metric by epoch."""


def curves(
    histories: "Run | History | Mapping[str, Run | History]",
    *,
    metrics: Sequence[str] | None = None,
    title: str = "",
) -> "Figure":
    """Curves of several runs over epochs, with a panel for each metric, as a matplotlib figure.

    A run with several seeds is drawn as its mean with a band from the lowest to the highest seed. The
    axis of a loss is logarithmic.

    Args:
      histories: results of `jaxdeep.fit` by the name of the run, or their histories: ``{"loss": …,
        "val_accuracy": …}`` with arrays of shape ``(epochs,)`` or ``(seeds, epochs)``; or one of these
        alone. A run without a metric is left out of its panel.
      metrics: metrics to draw, each in a panel. By default they are "loss" and "val_accuracy", or
        "val_loss" if there are no accuracies, as far as the histories hold them.
      title: text above the figure.

    Returns:
      The matplotlib figure.

    Raises:
      ValueError: a metric that no history holds. TypeError: `metrics` that are not a list, something
        else than histories.
      ImportError: matplotlib is not installed (``pip install 'jaxdeep[plot]'``).

    >>> figure = curves({"adam": {"loss": [[1.0, 0.5], [0.9, 0.6]], "val_accuracy": [0.7, 0.8]}})
    >>> len(figure.axes)
    2
    >>> [ax.get_ylabel() for ax in curves({"loss": [1.0, 0.5], "val_loss": [2.0, 1.0]}).axes]
    ['training loss', 'validation loss']
    """
    runs = _by_name("histories", histories, _is_run, "a result of jaxdeep.fit or its history")
    by_run = {name: getattr(run, "history", run) for name, run in runs.items()}
    panels = _panels(by_run, metrics)
    figure = _figure("curves", (5 * len(panels), 4), title)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    lines: dict[str, Any] = {}
    for i, (name, history) in enumerate(by_run.items()):
        for metric, ax in zip(panels, axes):
            if metric not in history:
                continue
            values = np.atleast_2d(np.asarray(history[metric], float))
            epochs = np.arange(1, values.shape[1] + 1)
            marker = "o" if len(epochs) == 1 else None
            lines[name] = ax.plot(epochs, values.mean(0), label=name, marker=marker, **_style(i))[0]
            ax.fill_between(epochs, values.min(0), values.max(0), color=f"C{i}", alpha=0.2, linewidth=0)
            if metric.split("_")[-1] == "loss" and (values > 0).any():  # none is if all runs diverged
                _logarithmic(ax)
    for metric, ax in zip(panels, axes):
        ax.set(xlabel="epoch", ylabel=_words(metric))
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
    if runs is histories:
        axes[-1].legend(handles=list(lines.values()))
    return figure


def gradient_flow(flows: "Flow | Mapping[str, Flow]", *, title: str = "") -> "Figure":
    """Gradients and activations by layer, of one network or several, as a matplotlib figure.

    Three panels show, for the layers in order, the norm of each layer's gradient, the gradient that
    comes back to its output, and the standard deviation of its activations. Axes are logarithmic. A line
    that falls or rises over the layers shows gradients that vanish or explode.

    Args:
      flows: what `jaxdeep.diagnostics.gradient_flow` returns, or several of them by name.
      title: text above the figure.

    Returns:
      The matplotlib figure.

    Raises:
      TypeError: something else.
      ImportError: matplotlib is not installed (``pip install 'jaxdeep[plot]'``).

    >>> import jax, jaxdeep as jd
    >>> model, x = jd.nn.serial(jd.nn.dense(4), jd.nn.dense(2)), np.ones((3, 5), np.float32)
    >>> flow = jd.diagnostics.gradient_flow(
    ...     model, *model.init(jax.random.key(0), x), (x, np.zeros((3, 2))), loss=jd.losses.mse)
    >>> len(gradient_flow({"network": flow}).axes), len(gradient_flow(flow).axes)
    (3, 3)
    """
    from jaxdeep.diagnostics import LayerFlow
    from jaxdeep.diagnostics.verdict import by_repetition

    def is_flow(value: Any) -> bool:
        layers = [*value.values()] if isinstance(value, Mapping) else []
        return bool(layers) and all(isinstance(layer, LayerFlow) for layer in layers)

    what = "what jaxdeep.diagnostics.gradient_flow returns"
    by_name = _by_name("flows", flows, is_flow, what)
    figure = _figure("gradient_flow", (13, 4), title)
    panels = {
        "gradient_norm": "norm of the gradient",
        "output_gradient": "gradient of the output",
        "activation_std": "standard deviation of activations",
    }
    axes = figure.subplots(1, len(panels))
    for i, (name, flow) in enumerate(by_name.items()):
        rows = by_repetition(flow)
        for field, ax in zip(panels, axes):
            values = np.array([getattr(row, field) for row in rows.values()])
            positive = np.flatnonzero(values > 0)
            ax.plot(positive, values[positive], label=name, marker=".", **_style(i))
            if len(rows) <= 20:
                ax.set_xticks(range(len(rows)), list(rows), rotation=90)
    for label, ax in zip(panels.values(), axes):
        ax.set(xlabel="layer", ylabel=label, yscale="log")
        ax.grid(alpha=0.3)
    if by_name is flows:
        axes[0].legend()
    return figure


def learning_rate(result: "RateTest | Mapping[str, RateTest]", *, title: str = "") -> "Figure":
    """The loss of range tests by learning rate, with the suggested rates, as a matplotlib figure.

    Args:
      result: what `jaxdeep.diagnostics.find_learning_rate` returns, or several of them by name.
      title: text above the figure.

    Returns:
      The matplotlib figure.

    Raises:
      TypeError: something else. ValueError: tests of several keys at once, by `jax.vmap`.
      ImportError: matplotlib is not installed (``pip install 'jaxdeep[plot]'``).

    >>> from jaxdeep.diagnostics import RateTest
    >>> rates = np.logspace(-3, 0, 4)
    >>> test = RateTest(rates, np.ones(4), np.array([1.0, 0.5, 0.2, 2.0]), np.array(0.1), np.array(4))
    >>> [ax.get_xscale() for ax in learning_rate(test).axes]
    ['log']
    >>> _, labels = learning_rate({"sgd": test, "adam": test}).axes[0].get_legend_handles_labels()
    >>> labels
    ['sgd', 'sgd: suggestion 0.1', 'adam', 'adam: suggestion 0.1']
    """
    from jaxdeep.diagnostics import RateTest

    what = "what jaxdeep.diagnostics.find_learning_rate returns"
    tests = _by_name("result", result, lambda one: isinstance(one, RateTest), what)
    several = tests is result
    for name, test in tests.items():
        if (shape := np.shape(test.learning_rates)) != shape[:1]:
            argument = f"result[{name!r}]" if several else "result"
            raise ValueError(
                f"{argument} must be a single test, got rates of shape {shape}: draw "
                "jax.tree.map(lambda a: a[0], test) of the test of several keys"
            )
    figure = _figure("learning_rate", (6, 4), title)
    ax = figure.subplots()
    first, lowest = [], []
    for i, (name, test) in enumerate(tests.items()):
        color, suggested = (f"C{i}", f"C{i}") if several else ("C0", "C1")
        rates, smoothed = np.asarray(test.learning_rates), np.asarray(test.smoothed, float)
        batch = None if several else "loss of a batch"
        ax.plot(rates, test.losses, ".", color=color, alpha=0.25, markersize=4, label=batch)
        ax.plot(rates, smoothed, color=color, label=name or "smoothed")
        if np.isfinite(test.suggestion):
            label = f"{name}: " * several + f"suggestion {float(test.suggestion):.2g}"
            ax.axvline(float(test.suggestion), color=suggested, linestyle="--", label=label)
        known = smoothed[np.isfinite(smoothed)]
        if known.size:
            first.append(float(known[0]))
            lowest.append(float(known.min()))
    ax.set(xscale="log", xlabel="learning rate", ylabel="loss")
    if first:
        room = 0.2 * (max(first) - min(lowest)) or 1.0
        ax.set_ylim(min(lowest) - room, max(first) + 2 * room)
    ax.grid(alpha=0.3)
    ax.legend()
    return figure


def reliability(diagrams: Diagram | Mapping[str, Diagram], *, title: str = "") -> "Figure":
    """Reliability diagrams of one model or several, as a matplotlib figure.

    The upper panel shows accuracy against confidence, with the diagonal of perfect calibration; a model
    whose line is below it is overconfident. The lower panel shows the share of predictions in each bin.

    Args:
      diagrams: what `jaxdeep.uncertainty.reliability` returns, or several of them by the name of the
        model.
      title: text above the figure.

    Returns:
      The matplotlib figure.

    Raises:
      TypeError: something else.
      ImportError: matplotlib is not installed (``pip install 'jaxdeep[plot]'``).

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> p, labels = jnp.array([[0.9, 0.1], [0.4, 0.6]]), jnp.array([0, 0])
    >>> diagram = jd.uncertainty.reliability(p, labels)
    >>> len(reliability({"network": diagram}).axes), len(reliability(diagram).axes)
    (2, 2)
    """
    by_name = _by_name("diagrams", diagrams, _is_diagram, "what jaxdeep.uncertainty.reliability returns")
    figure = _figure("reliability", (5, 6), title)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1)
    for i, (name, diagram) in enumerate(by_name.items()):
        confidence, accuracy, count, edges = (np.asarray(part, float) for part in diagram)
        known = count > 0
        gap = float(np.sum(np.abs(accuracy - confidence)[known] * count[known]) / count.sum())
        error = f"calibration error {gap:.3f}"
        label = f"{name} ({error})" if by_name is diagrams else error
        above.plot(confidence[known], accuracy[known], marker="o", color=f"C{i}", label=label)
        below.stairs(count / count.sum(), edges, color=f"C{i}", fill=True, alpha=0.4)
    above.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1))
    below.set(xlabel="confidence", ylabel="share of predictions")
    above.legend()
    for ax in (above, below):
        ax.grid(alpha=0.3)
    return figure


def _by_name(argument: str, value: Any, is_one: Callable[[Any], bool], what: str) -> Mapping[str, Any]:
    """Several results by name as they are, or a single one without a name; refuses what is neither."""
    if is_one(value):
        return {"": value}
    if not isinstance(value, Mapping):
        raise TypeError(f"{argument} must be {what}, or a dict of several by name, got {value!r}")
    for name, one in value.items():
        if not is_one(one):
            raise TypeError(f"{argument}[{name!r}] must be {what}, got {one!r}")
    return value


def _is_run(value: Any) -> bool:
    """Whether this is a history, or a run that has one, and not several of them by name."""
    history = getattr(value, "history", value)
    if not isinstance(history, Mapping):
        return False
    values = [*history.values()]
    named = any(isinstance(one, Mapping) or hasattr(one, "history") for one in values)
    series = any(isinstance(one, Iterable) and not isinstance(one, str) for one in values)
    return not named and (series or not values)


def _is_diagram(value: Any) -> bool:
    """Whether these are confidence, accuracy, count and edges."""
    return isinstance(value, (tuple, list)) and len(value) == 4


def _figure(name: str, size: tuple[float, float], title: str) -> "Figure":
    module = needed("matplotlib.figure", name, "matplotlib", "plot")
    figure: Figure = module.Figure(figsize=size, layout="constrained")
    figure.suptitle(title, parse_math=False)
    return figure


def _style(i: int) -> dict[str, str]:
    """Color and kind of the i-th line."""
    return {"color": f"C{i}", "linestyle": ("-", "--", "-.", ":")[i % 4]}


def _panels(histories: Mapping[str, History], metrics: Sequence[str] | None) -> Sequence[str]:
    """The metrics to draw. Refuses a metric that no history holds."""
    held = sorted({name for history in histories.values() for name in history})
    if metrics is None:
        second = "val_accuracy" if "val_accuracy" in held else "val_loss"
        metrics = [name for name in ("loss", second) if name in held]
    else:
        _checks.check_sequence("metrics", metrics)
        for name in metrics:
            if name not in held:
                raise ValueError(f"metrics must be of {', '.join(held)}; got {name!r}")
    if not metrics:
        raise ValueError(
            f"metrics must name at least one of {', '.join(held) or 'no metrics'}; got none"
        )
    return metrics


def _words(metric: str) -> str:
    """A metric's name as the label of an axis."""
    if metric == "loss":
        return "training loss"
    words = metric.replace("_", " ")
    return f"validation {words[4:]}" if metric.startswith("val_") else words


def _logarithmic(ax: "Axes") -> None:
    from matplotlib.ticker import LogFormatter

    ax.set_yscale("log")
    for set_formatter in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        set_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
