"""Plots of runs, and of how far predictions can be trusted."""

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


def reliability(diagrams: Mapping[str, Any], *, title: str = "") -> Any:
    """Reliability diagrams of several models, as a matplotlib figure.

    Above, accuracy against confidence, with the diagonal of perfect calibration: a line below it is
    overconfident. Below, how many predictions there are of each confidence.

    Args:
      diagrams: by name, what `jaxdeep.uncertainty.reliability` gives.
      title: above the figure.

    Raises:
      ImportError: matplotlib is not installed (``pip install 'jaxdeep[plot]'``).

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> p, labels = jnp.array([[0.9, 0.1], [0.4, 0.6]]), jnp.array([0, 0])
    >>> figure = reliability({"network": jd.uncertainty.reliability(p, labels)})
    >>> len(figure.axes)
    2
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("reliability needs matplotlib: pip install 'jaxdeep[plot]'") from error
    figure = Figure(figsize=(5, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1)
    for i, (name, found) in enumerate(diagrams.items()):
        confidence, accuracy, count, edges = (np.asarray(part, float) for part in found)
        known = count > 0
        gap = float(np.sum(np.abs(accuracy - confidence)[known] * count[known]) / count.sum())
        label = f"{name} (calibration error {gap:.3f})"
        above.plot(confidence[known], accuracy[known], marker="o", color=f"C{i}", label=label)
        below.stairs(count / count.sum(), edges, color=f"C{i}", fill=True, alpha=0.4)
    above.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1))
    below.set(xlabel="confidence", ylabel="share of predictions")
    above.legend()
    for ax in (above, below):
        ax.grid(alpha=0.3)
    figure.suptitle(title, parse_math=False)
    return figure
