"""What a network is to predict: the task, and what is known of its targets."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._precision import check_holds, check_told_apart

TASKS = ("regression", "binary", "multilabel", "multiclass")

Numbers = float | tuple[float, ...]  # of the only output, or of each


class Units(NamedTuple):
    """The targets of a regression: a number, or one for each output."""

    mean: Numbers
    std: Numbers
    low: Numbers
    high: Numbers


class Goal(NamedTuple):
    """What a network is to predict.

    Attributes:
      task: one of `TASKS`.
      outputs: how many numbers come out.
      rows: training rows; None if nobody said.
      units: of the targets of a regression; None if nobody said.
    """

    task: str
    outputs: int
    rows: int | None = None
    units: Units | None = None

    @property
    def is_regression(self) -> bool:
        """Whether numbers are predicted, and no classes."""
        return self.task == "regression"


def goal_of(task: str, inputs: Any, outputs: int | None, rows: int | None, targets: Any) -> Goal:
    """The goal, from what was said and what targets or fitted columns show.

    Args:
      task: one of `TASKS`.
      inputs: fitted columns, or anything else, of which nothing is read.
      outputs, rows: as a user passed them; they go before what was found.
      targets: training targets, which go before the columns; or None.

    Raises:
      ValueError: another task than the columns', targets that are none of the task, numbers of outputs
        that do not fit.

    >>> goal_of("multiclass", None, None, None, [0, 2, 1, 2])
    Goal(task='multiclass', outputs=3, rows=4, units=None)
    """
    _checks.check_choice("task", task, TASKS)
    if rows is not None:
        rows = _checks.check_count("rows", rows)
    if outputs is not None:
        outputs = _checks.check_count("outputs", outputs)
    goal = _of_columns(task, inputs) if is_columns(inputs) else None
    if targets is not None:
        if goal is not None and not isinstance(targets, jax.core.Tracer):
            _check_encoded(goal, targets, inputs)
        goal = _of_targets(task, targets)
    if task == "binary" and outputs not in (None, 1):
        raise ValueError(f"outputs must be 1 for task='binary', got {outputs}")
    if task == "multiclass" and outputs == 1:
        raise ValueError(
            "outputs must be at least 2 for task='multiclass', got 1; two classes are 'binary'"
        )
    if goal is None:
        if outputs is None and task in ("multiclass", "multilabel"):
            noun = "classes" if task == "multiclass" else "labels"
            raise ValueError(
                f"outputs must be given for task={task!r}: the number of {noun}; or pass targets="
            )
        return Goal(task, 1 if outputs is None else outputs, rows)
    if outputs is not None:
        fits = outputs >= goal.outputs if task == "multiclass" else outputs == goal.outputs
        if not fits:
            raise ValueError(f"outputs must be {goal.outputs}, as the targets say, got {outputs}")
        goal = goal._replace(outputs=outputs)
    return goal if rows is None else goal._replace(rows=rows)


def is_columns(inputs: object) -> bool:
    """Whether these are columns fitted to a table: they make a layer, and know rows and outputs.

    >>> is_columns(None), is_columns(np.ones(3))
    (False, False)
    """
    return all(hasattr(inputs, name) for name in ("layer", "rows", "outputs"))


def _of_columns(task: str, columns: Any) -> Goal:
    known_task = getattr(columns, "task", None)
    if known_task is None:
        return Goal(task, columns.outputs, columns.rows)
    if known_task != task:
        raise ValueError(f"task must be {known_task!r}, as the target of the columns says, got {task!r}")
    units = None
    if task == "regression":
        target = columns.target
        shift, scale = (target.mean, target.std) if target.standardized else (0.0, 1.0)
        mean, low, high = ((number - shift) / scale for number in (target.mean, target.low, target.high))
        units = Units(mean, target.std / scale, low, high)
    return Goal(task, columns.outputs, columns.rows, units)


def _check_encoded(of_columns: Goal, targets: Any, inputs: Any) -> None:
    """Refuse targets as they are in the table where the columns encode them as other numbers."""
    array = np.asarray(as_array("targets", targets))
    if array.dtype.kind not in "iuf" or not array.size or array.shape[1:] not in ((), (1,)):
        return
    low, high = float(array.min()), float(array.max())
    instead = "pass columns.encode_labels(targets), or leave them out"
    if of_columns.task == "multiclass" and high >= of_columns.outputs:
        raise ValueError(
            f"targets must be the classes of the columns, 0 to {of_columns.outputs - 1}, as "
            f"columns.encode gives them, got {high:g}; {instead}"
        )
    target = getattr(inputs, "target", None)
    if of_columns.units is None or target is None or not target.standardized:
        return
    least, most = np.min(of_columns.units.low), np.max(of_columns.units.high)
    # twice as far as any that the columns were fitted to, and where these are in the table
    if (low < 2 * least or high > 2 * most) and target.low <= low and high <= target.high:
        raise ValueError(
            "targets must be in standard deviations, as columns.encode gives them, since the target of "
            f"the columns is standardised; got numbers from {low:g} to {high:g}, as they are in the "
            f"table; {instead}"
        )


def _of_targets(task: str, targets: Any) -> Goal:
    maybe_traced = as_array("targets", targets)
    if isinstance(maybe_traced, jax.core.Tracer):
        raise TypeError("targets must be known when the network is made, got a traced array")
    array = np.asarray(maybe_traced)
    most = 1 if task == "binary" else 2
    if not array.size or not 1 <= array.ndim <= 2 or (array.ndim > 1 and most == 1 != array.shape[1]):
        rows = "(rows,) or (rows, 1)" if most == 1 else "(rows,) or (rows, outputs)"
        raise ValueError(f"targets must be of shape {rows} for {task!r}, got {array.shape}")
    outputs = array.shape[1] if array.ndim > 1 else 1
    check_holds("targets", array)
    if task == "regression":
        return Goal(task, outputs, len(array), _units(array))
    whole = jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == bool
    if task == "multiclass" and outputs == 1:
        if not whole or array.min() < 0:
            raise ValueError(
                f"targets must be classes, whole numbers from 0, for 'multiclass', got {array.dtype} "
                f"from {array.min()} to {array.max()}"
            )
        return Goal(task, max(2, int(array.max()) + 1), len(array))
    values = array.astype(np.float64)
    odd = values[~((values >= 0) & (values <= 1))]
    if odd.size:
        raise ValueError(f"targets must be 0 or 1 for {task!r}, got {odd[0]:g}")
    return Goal(task, outputs, len(array))


def _units(array: np.ndarray) -> Units:
    values = array.astype(np.float64).reshape(len(array), -1)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise ValueError(f"targets must be finite, got {array[row]} in row {row}")
    for column in array.reshape(len(array), -1).T:  # whole numbers of 64 bits as they are
        check_told_apart("targets", column)
    mean, std, low, high = (getattr(values, name)(axis=0) for name in ("mean", "std", "min", "max"))
    # of equal numbers that are no sums of powers of 2, the standard deviation is not 0
    known = (low < high) & (std > np.finfo(np.float32).tiny)
    statistics = (mean, np.where(known, std, 1), low, high)
    return Units(
        *(
            statistic[0].item() if len(statistic) == 1 else tuple(statistic.tolist())
            for statistic in statistics
        )
    )
