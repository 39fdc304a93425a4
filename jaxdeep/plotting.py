"""Plots of runs."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def curves(histories: Mapping[str, Mapping[str, Any]], *, title: str = "") -> Any:
    """Training and validation curves of several runs, as a matplotlib figure.

    Left the training loss (logarithmic), right the validation accuracy; a run with several seeds is
    drawn as its mean with a band from the lowest to the highest seed.

    Args:
      histories: by name, ``{"loss": …, "val_accuracy": …}`` with arrays of shape ``(epochs,)`` or
        ``(seeds, epochs)``.
      title: above the figure.

    Raises:
      ImportError: matplotlib is not installed (``pip install 'jaxdeep[plot]'``).

    >>> figure = curves({"adam": {"loss": [[1.0, 0.5], [0.9, 0.6]], "val_accuracy": [0.7, 0.8]}})
    >>> len(figure.axes)
    2
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogFormatter
    except ImportError as error:
        raise ImportError("curves needs matplotlib: pip install 'jaxdeep[plot]'") from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = (("loss", "training loss"), ("val_accuracy", "validation accuracy"))
    axes = figure.subplots(1, len(panels))
    for i, (name, history) in enumerate(histories.items()):
        for (metric, _), ax in zip(panels, axes):
            values = np.atleast_2d(np.asarray(history[metric], float))
            epochs = np.arange(1, values.shape[1] + 1)
            marker = "o" if len(epochs) == 1 else None
            style = {"color": f"C{i}", "linestyle": ("-", "--", "-.", ":")[i % 4], "marker": marker}
            ax.plot(epochs, values.mean(0), label=name, **style)
            ax.fill_between(epochs, values.min(0), values.max(0), color=f"C{i}", alpha=0.2, linewidth=0)
    for (_, label), ax in zip(panels, axes):
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
    losses = [np.ravel(np.asarray(history["loss"], float)) for history in histories.values()]
    if any((values > 0).any() for values in losses):  # not if all diverged
        axes[0].set_yscale("log")
        for which in (axes[0].yaxis.set_major_formatter, axes[0].yaxis.set_minor_formatter):
            which(LogFormatter(minor_thresholds=(1.5, 0.5)))
    axes[1].legend()
    figure.suptitle(title, parse_math=False)
    return figure


def gradient_flow(flows: Mapping[str, Any], *, title: str = "") -> Any:
    """Gradients and activations by layer, of one network or several, as a matplotlib figure.

    Logarithmic, from the input to the output: the norm of each layer's gradient, the gradient that comes
    back to its output, and the standard deviation of its activations. Lines that fall or rise over the
    layers are gradients that vanish or explode.

    Args:
      flows: by name, what `jaxdeep.diagnostics.gradient_flow` returns.
      title: above the figure.

    Raises:
      ImportError: matplotlib is not installed (``pip install 'jaxdeep[plot]'``).

    >>> import jax, jaxdeep as jd
    >>> model, x = jd.nn.serial(jd.nn.dense(4), jd.nn.dense(2)), np.ones((3, 5), np.float32)
    >>> flow = jd.diagnostics.gradient_flow(
    ...     model, *model.init(jax.random.key(0), x), (x, np.zeros((3, 2))), loss=jd.losses.mse)
    >>> len(gradient_flow({"network": flow}).axes)
    3
    """
    from jaxdeep.diagnostics.verdict import by_repetition

    figure = _figure("gradient_flow", (13, 4))
    panels = {
        "gradient_norm": "norm of the gradient",
        "output_gradient": "gradient of the output",
        "activation_std": "standard deviation of activations",
    }
    axes = figure.subplots(1, len(panels))
    for i, (name, flow) in enumerate(flows.items()):
        rows = by_repetition(flow)
        for field, ax in zip(panels, axes):
            values = np.array([getattr(row, field) for row in rows.values()])
            there = np.flatnonzero(values > 0)
            style = {"color": f"C{i}", "linestyle": _LINES[i % 4], "marker": "."}
            ax.plot(there, values[there], label=name, **style)
            if len(rows) <= 20:
                ax.set_xticks(range(len(rows)), list(rows), rotation=90)
    for label, ax in zip(panels.values(), axes):
        ax.set(xlabel="layer", ylabel=label, yscale="log")
        ax.grid(alpha=0.3)
    axes[0].legend()
    figure.suptitle(title, parse_math=False)
    return figure


def learning_rate(found: Any, *, title: str = "") -> Any:
    """The loss of a range test by learning rate, with the suggested rate, as a matplotlib figure.

    Args:
      found: what `jaxdeep.diagnostics.find_learning_rate` returns.
      title: above the figure.

    Raises:
      ImportError: matplotlib is not installed (``pip install 'jaxdeep[plot]'``).

    >>> from jaxdeep.diagnostics import RateTest
    >>> rates = np.logspace(-3, 0, 4)
    >>> test = RateTest(rates, np.ones(4), np.array([1.0, 0.5, 0.2, 2.0]), np.array(0.1), np.array(4))
    >>> [ax.get_xscale() for ax in learning_rate(test).axes]
    ['log']
    """
    figure = _figure("learning_rate", (6, 4))
    ax = figure.subplots()
    rates, smoothed = np.asarray(found.learning_rates), np.asarray(found.smoothed, float)
    known = smoothed[np.isfinite(smoothed)]
    ax.plot(rates, found.losses, ".", color="C0", alpha=0.25, markersize=4, label="loss of a batch")
    ax.plot(rates, smoothed, color="C0", label="smoothed")
    if np.isfinite(found.suggestion):
        label = f"suggestion {float(found.suggestion):.2g}"
        ax.axvline(float(found.suggestion), color="C1", linestyle="--", label=label)
    ax.set(xscale="log", xlabel="learning rate", ylabel="loss")
    if known.size:
        room = 0.2 * float(known[0] - known.min()) or 1.0
        ax.set_ylim(float(known.min()) - room, float(known[0]) + 2 * room)
    ax.grid(alpha=0.3)
    ax.legend()
    figure.suptitle(title, parse_math=False)
    return figure


_LINES = ("-", "--", "-.", ":")


def _figure(name: str, size: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"{name} needs matplotlib: pip install 'jaxdeep[plot]'") from error
    return Figure(figsize=size, layout="constrained")
