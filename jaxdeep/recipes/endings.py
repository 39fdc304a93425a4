"""What a task decides, whatever the network: how it ends, what is minimised and what is reported."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks, losses, metrics
from jaxdeep._arrays import broadcasting
from jaxdeep._shapes import Array, ArrayLike
from jaxdeep.nn import activations
from jaxdeep.nn.activation_layers import activation
from jaxdeep.nn.model import Model
from jaxdeep.nn.scales import bounded, rescale
from jaxdeep.recipes.goal import Goal, Numbers
from jaxdeep.train.state import PerExample

OUTPUTS = (None, "softplus", "sigmoid", "tanh")
LOSSES = {"mse": losses.mse, "mae": losses.mae, "huber": losses.huber}


class Ending(NamedTuple):
    """The end of a network.

    Attributes:
      name: of the last layer of weights.
      layers: those behind it, by name.
      loss: ``(outputs, y) -> losses``.
      metrics: by name.
      monitor: the metric by whose value on validation data the best epoch is chosen.
    """

    name: str
    layers: dict[str, Model]
    loss: PerExample
    metrics: dict[str, Any]
    monitor: str


def ending_of(
    goal: Goal, output: str | None, bounds: Any, loss: str | None, label_smoothing: float = 0.0
) -> Ending:
    """The end of a network for a goal.

    Args:
      goal: the task and what is known of the targets.
      output, bounds, loss: as for `jaxdeep.nn.mlp`.
      label_smoothing: of the cross-entropy.

    Raises:
      ValueError: what is not of this task.

    >>> ending_of(Goal("binary", 1), None, None, None).metrics.keys()
    dict_keys(['accuracy', 'auc'])
    """
    if goal.is_regression:
        return _of_regression(goal, output, bounds, loss)
    for name, value in (("output", output), ("bounds", bounds), ("loss", loss)):
        if value is not None:
            raise ValueError(f"{name} is for task='regression', got {value!r} for {goal.task!r}")
    of_classes = goal.task == "multiclass"
    entropy: Any = losses.softmax_cross_entropy if of_classes else losses.sigmoid_cross_entropy
    if label_smoothing:
        entropy = functools.partial(entropy, label_smoothing=label_smoothing)
    by_task: dict[str, dict[str, Any]] = {
        "binary": {"accuracy": metrics.accuracy, "auc": metrics.auc()},
        "multilabel": {"accuracy": metrics.binary_accuracy},
        "multiclass": {"accuracy": metrics.accuracy},
    }
    return Ending("logits", {}, entropy, by_task[goal.task], "accuracy")


def _of_regression(goal: Goal, output: str | None, bounds: Any, loss: str | None) -> Ending:
    _checks.check_choice("output", output, OUTPUTS)
    _checks.check_choice("loss", loss, (*LOSSES, None))
    ends: dict[str, Model] = {}
    if output in ("sigmoid", "tanh"):
        low, high = _ends(bounds, output)
        _check_reached(goal, output, low, high)
        ends = {"range": bounded(low, high, squash=output)}
    elif bounds is not None:
        raise ValueError(f"bounds are for output='sigmoid' or 'tanh', got bounds={bounds!r}")
    elif output == "softplus":
        _check_reached(goal, output, 0.0, np.inf)
        ends = _positive(goal)
    elif goal.units is not None:
        mean, std, low, high = goal.units
        ends = {"units": rescale(std, mean, low=low, high=high)}
    error = LOSSES["mse" if loss is None else loss]
    scaled = error if goal.units is None else in_units(error, goal.units.std)
    reported = {
        "mae": losses.mae,
        "rmse": metrics.rmse(goal.outputs),
        "r2": metrics.r2(goal.outputs),
    }
    return Ending("output", ends, scaled, reported, "loss")


def _positive(goal: Goal) -> dict[str, Model]:
    """The softplus of a score, by the standard deviation of the targets, of which 0 gives their mean."""
    softplus = activation(activations.softplus)
    if goal.units is None:
        return {"positive": softplus}
    mean, std, low, high = goal.units
    ratio = np.maximum(np.divide(mean, std), np.finfo(np.float32).tiny)  # 0 where all targets are
    inverse = ratio + np.log(-np.expm1(-ratio))  # of softplus
    return {
        "offset": rescale(1.0, inverse.tolist()),
        "positive": softplus,
        "units": rescale(std, low=low, high=high),
    }


def _check_reached(goal: Goal, output: str, low: Any, high: Any) -> None:
    """Refuse an output that cannot reach the targets, if they are known."""
    if goal.units is None:
        return
    least, most = np.min(goal.units.low), np.max(goal.units.high)
    if least < np.min(low) or most > np.max(high):
        raise ValueError(
            f"output={output!r} reaches from {low} to {high}, and the targets go from {least:g} to "
            f"{most:g}; give bounds= that hold them, or another output="
        )


def _ends(bounds: Any, squash: str) -> tuple[Numbers, Numbers]:
    if bounds is None:
        return (0.0, 1.0) if squash == "sigmoid" else (-1.0, 1.0)
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise TypeError(f"bounds must be a pair (low, high), got {bounds!r}")
    for name, value in zip(("bounds[0]", "bounds[1]"), bounds):
        _checks.check_number(name, value, "(-inf, inf)")
    low, high = map(float, bounds)
    if low >= high:
        raise ValueError(f"bounds must be a pair (low, high) with low below high, got {bounds!r}")
    return low, high


def in_units(loss: PerExample, unit: Numbers) -> PerExample:
    """A loss of errors that are counted in units, one for all outputs or one for each.

    Targets of any size then weigh like standardised ones: gradients stay far from an optimizer's ε and
    outputs of other sizes count alike. Of the squared error the mean is 1 − R² where `unit` is the
    standard deviation.

    >>> float(in_units(losses.mse, 10.0)(jnp.array([5.0]), jnp.array([25.0]))[0])
    4.0
    """
    scale: Callable[[Any], Any] = functools.partial(_divided, unit=unit)

    def scaled(outputs: ArrayLike, y: ArrayLike) -> Array:
        shapes = np.shape(outputs), np.shape(y)
        if not _checks.same_but_for_one(*shapes) and shapes[0] != shapes[1]:
            return loss(outputs, y)  # which refuses them in its own words
        return loss(scale(outputs), scale(y))

    return scaled


@broadcasting
def _divided(values: ArrayLike, unit: Numbers) -> Array:
    array = jnp.asarray(values)
    array = array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.result_type(float))
    return array / jnp.asarray(unit, array.dtype)
