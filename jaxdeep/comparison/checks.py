"""What a comparison refuses before the first run: data, metrics, candidates that do not fit."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep._shapes import PyTree
from jaxdeep.comparison.parts import Parts, not_finite
from jaxdeep.metrics import Metric
from jaxdeep.train.data import check_pair
from jaxdeep.train.state import Network


def check_alike(parts: Parts) -> None:
    """Refuse test rows that the network could not take, before it is trained for hours."""
    check_pair(parts.train, "data")
    check_pair(parts.validation, "validation")
    check_pair(parts.test, "test")
    labels = np.asarray(parts.train[1]) if hasattr(parts.train[1], "dtype") else np.zeros(0)
    if labels.dtype.kind in "iub" and labels.ndim == 1 and (labels == labels[:1]).all() and labels.size:
        raise ValueError(
            f"data must have targets of two classes at least; all {labels.size:,} rows have {labels[0]}"
        )
    for name, train, test in zip(("x", "y"), parts.train[:2], parts.test[:2]):
        shapes = [jax.tree.map(lambda a: np.shape(a)[1:], part) for part in (train, test)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"test must have rows like those of data: {name} of shape {shapes[0]} each, got "
                f"{shapes[1]}"
            )


def check_finite(parts: Parts, model: Network) -> None:
    """Refuse NaN and ∞ that neither a weight of 0 leaves out nor the network's first layers fill."""
    for name, part in zip(("data", "validation", "test"), parts):
        inputs, targets = not_finite(part)
        rows = len(inputs)
        if targets.any():
            raise ValueError(
                f"{name} must have finite targets, and {targets.sum()} of its {rows:,} rows have "
                "others: leave them out, or give them a weight of 0"
            )
        if inputs.any() and not _fills(model, part[0], np.flatnonzero(inputs)[:8]):
            raise ValueError(
                f"{name} must have finite inputs, and {inputs.sum()} of its {rows:,} rows have "
                "others, of which the model makes no number: fill them, or leave these rows out"
            )


def _fills(model: Network, x: PyTree, rows: np.ndarray) -> bool:
    """Whether what the model puts out for these rows, before any training, is finite."""
    few = jax.tree.map(lambda a: np.asarray(a)[rows], x)
    params, state = model.init(jax.random.key(0), few)
    outputs = jax.tree.leaves(model.apply(params, state, few)[0])
    return all(bool(jnp.isfinite(output).all()) for output in outputs)


def check_losses(metric: str, built: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to judge by losses that are not the same for all candidates.

    Args:
      metric: what judges them.
      built: of each candidate, the arguments of `jaxdeep.fit` that it decides.
    """
    for option in ("loss", "objective", "penalty", "activity") if metric == "loss" else ():
        with_option = [name for name, arguments in built.items() if arguments.get(option) is not None]
        if with_option:
            raise ValueError(
                "metric must be one by which all candidates can be judged, and "
                f"candidates[{with_option[0]!r}] has a {option} of its own: name another than 'loss', "
                "such as one of metrics="
            )


def check_whole(name: str, arguments: Mapping[str, Any]) -> None:
    """Refuse a candidate without a network or a loss, neither of its own nor of all."""
    lacks = [option for option in ("model", "loss") if arguments.get(option) is None]
    if arguments.get("objective") is not None:
        lacks = [option for option in lacks if option != "loss"]
    if lacks:
        raise ValueError(f"compare needs a {lacks[0]}=, and candidates[{name!r}] has none of its own")


def check_number(name: str, metric: Any) -> None:
    """Refuse a streaming metric whose value is an array, of which no number is the best."""
    if isinstance(metric, Metric):
        value = jax.eval_shape(lambda: metric.compute(metric.init()))
        if getattr(value, "shape", None) != ():
            raise ValueError(
                f"metric must be one whose value is a number, and that of {name!r} is "
                f"{f'of shape {value.shape}' if hasattr(value, 'shape') else 'none'}"
            )
