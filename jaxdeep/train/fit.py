"""`fit`: a whole run, with checks, progress and history."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdeep import _checks
from jaxdeep.metrics import Metric
from jaxdeep.train.compiled import compiled
from jaxdeep.train.data import count_examples
from jaxdeep.train.epoch import check_batch_size, guarded_epoch, make_evaluate
from jaxdeep.train.objective import Objective, PerExample, supervised
from jaxdeep.train.progress import compiling, ordered, reporting
from jaxdeep.train.state import TrainState, init, resume
from jaxdeep.train.step import check_optimizer, make_step
from jaxdeep.tree import path_name, shapes

PyTree = Any


class FitResult(NamedTuple):
    """What a run leaves behind.

    Attributes:
      train_state: the whole state, to go on from.
      history: ``"loss"``, each metric, ``"val_loss"`` and each validation metric as NumPy arrays, one
        value an epoch.
    """

    train_state: TrainState
    history: dict[str, np.ndarray]

    @property
    def params(self) -> PyTree:
        """The trained parameters."""
        return self.train_state.params

    @property
    def state(self) -> PyTree:
        """The model's state: batch-norm statistics."""
        return self.train_state.state


def fit(
    model: Any,
    data: PyTree,
    *,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    loss: PerExample | None = None,
    metrics: Mapping[str, PerExample | Metric] | None = None,
    penalty: Callable[[PyTree], Any] | None = None,
    activity: Callable[[Mapping[str, Any]], Any] | None = None,
    objective: Objective | None = None,
    epochs: int = 1,
    batch_size: int = 32,
    validation: PyTree | None = None,
    params: PyTree | None = None,
    state: PyTree | None = None,
    shuffle: bool = True,
    drop_remainder: bool = False,
    on_nonfinite: str = "raise",
    progress: bool = True,
) -> FitResult:
    """Train `model` on `data`: each epoch is one call of one compiled program.

    The same key gives the same result, bit for bit, on the same machine. It is
    ``jd.train.init(…, key=key)`` followed by `jd.train.make_epoch` over ``jd.train.make_step(…)``.

    Args:
      model: a `jaxdeep.nn.Model`.
      data: arrays with a row per example: ``(x, y)`` or ``(x, y, weights)`` with `loss`, any pytree with
        `objective`. NumPy arrays are moved to the device once.
      optimizer: any optax transformation, jaxdeep's included.
      key: random key of initialisation, shuffling and dropout; there is no default.
      loss: ``(outputs, y) -> losses`` per example, as in `jaxdeep.losses`.
      metrics: further functions of that form, or streaming metrics (`jaxdeep.metrics.Metric`), by name.
      penalty: ``params -> scalar``, added to the loss (`jaxdeep.regularizers`).
      activity: ``outputs of layers by path -> scalar``, likewise (`jaxdeep.regularizers.activity`).
      objective: instead of these four, for anything that is not supervised; see
        `jaxdeep.train.supervised` for its form. The model is initialised on the first array of
        `data`; pass `params` where that is not its input.
      epochs: passes over the data.
      batch_size: rows of a batch; the last batch of an epoch holds what is left.
      validation: data as above, evaluated whole after every epoch.
      params, state: where to begin; freshly initialised by default. They are copied, not consumed.
      shuffle: draw a new order every epoch.
      drop_remainder: leave out the rows that do not fill a batch.
      on_nonfinite: "raise" stops at the end of an epoch in which the loss was not finite; "ignore"
        goes on.
      progress: a progress bar, or a line an epoch where there is no terminal; False is silent.

    Returns:
      A `FitResult`: ``result.params``, ``result.state``, ``result.history["val_accuracy"]``.

    Raises:
      ValueError, TypeError: before anything is compiled: arrays of different lengths, an empty data
        set, a batch larger than the data, labels outside the model's classes, shapes the model or the
        loss refuses, neither or both of `loss` and `objective`, a key that is not a random key.
      FloatingPointError: the loss was not finite, naming step, epoch and the first non-finite leaf; or
        every loss was and the final parameters are not.

    >>> import jaxdeep as jd
    >>> x = jax.random.normal(jax.random.key(1), (200, 2)); y = (x[:, 0] > x[:, 1]).astype(int)
    >>> result = fit(jd.nn.dense(2), (x, y), loss=jd.losses.softmax_cross_entropy,
    ...              optimizer=jd.optimizers.adam(0.1), metrics={"accuracy": jd.metrics.accuracy},
    ...              epochs=20, key=jax.random.key(0), progress=False)
    >>> bool(result.history["accuracy"][-1] > 0.95)
    True
    """
    n = _check(model, data, validation, optimizer, key, epochs, batch_size, on_nonfinite)
    if objective is None:
        if loss is None:
            raise ValueError("fit needs a loss=, or an objective= for anything not supervised")
        objective = supervised(model, loss, metrics=metrics, penalty=penalty, activity=activity)
    elif any(given is not None for given in (loss, metrics, penalty, activity)):
        raise ValueError(
            "objective= already says what is minimised: drop loss, metrics, penalty and activity"
        )

    pairs = loss is not None
    if pairs:
        _check_pair(data, "data")
    if params is None:
        if state is not None:
            raise ValueError("state= is given without the params= it belongs to")
        inputs = data[0] if pairs else jax.tree.leaves(data)[0]
        ts = init(model, optimizer, jax.tree.map(lambda a: a[:1], inputs), key=key)
    else:
        ts = resume(optimizer, params, {} if state is None else state, key)
    if pairs:
        _rehearse(objective, ts, data, "data")
        if validation is not None:
            _check_pair(validation, "validation")
            _rehearse(objective, ts, validation, "validation")

    data, validation = jax.tree.map(jnp.asarray, (data, validation))
    step = make_step(objective, optimizer)
    pass_over = guarded_epoch(
        step, batch_size=batch_size, shuffle=shuffle, drop_remainder=drop_remainder
    )
    evaluate = make_evaluate(objective, batch_size=batch_size)
    with compiling(show=progress):
        epoch = compiled(pass_over, ts, data, donate_argnums=0)
        if validation is not None:
            validate = compiled(evaluate, ts.params, ts.state, validation)

    rows: list[dict[str, Any]] = []
    steps = n // batch_size if drop_remainder else -(-n // batch_size)
    with reporting(epochs, steps, show=progress) as report:
        for number in range(1, epochs + 1):
            ts, values, bad_step = epoch(ts, data)
            if validation is not None:
                found = validate(ts.params, ts.state, validation)
                values = values | {f"val_{name}": value for name, value in found.items()}
            values, bad_step = jax.device_get((values, bad_step))
            if bad_step >= 0 and on_nonfinite == "raise":
                raise FloatingPointError(_nonfinite(ts, int(bad_step), number))
            rows.append(ordered(values))
            report(values)
    if on_nonfinite == "raise" and (leaf := _first_nonfinite(ts)):
        raise FloatingPointError(
            f"the last updates left {leaf} not finite, though every loss was; a gradient must not have "
            "been: check the loss, or clip the gradients; on_nonfinite='ignore' returns the result all "
            "the same"
        )
    return FitResult(ts, {name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _check(
    model: Any,
    data: PyTree,
    validation: PyTree,
    optimizer: Any,
    key: Any,
    epochs: Any,
    batch_size: Any,
    on_nonfinite: Any,
) -> int:
    if not (callable(getattr(model, "init", None)) and callable(getattr(model, "apply", None))):
        raise TypeError(f"model must be a jaxdeep.nn.Model, got {model!r}")
    check_optimizer(optimizer)
    _checks.check_key(key)
    _checks.check_count("epochs", epochs)
    _checks.check_count("batch_size", batch_size)
    if on_nonfinite not in ("raise", "ignore"):
        raise ValueError(f"on_nonfinite must be 'raise' or 'ignore', got {on_nonfinite!r}")
    n = count_examples(data)
    check_batch_size(batch_size, n)
    if validation is not None:
        count_examples(validation, "validation")
    return n


def _check_pair(data: PyTree, name: str) -> None:
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise TypeError(f"{name} must be a pair (x, y) or (x, y, weights), got {type(data).__name__}")


def _rehearse(objective: Objective, ts: TrainState, data: PyTree, name: str) -> None:
    """Trace the objective on the shapes of x and the values of y, so that both can be refused."""
    x, *rest = data
    try:
        out = jax.eval_shape(lambda p, s, x: objective(p, s, (x, *rest)), ts.params, ts.state, shapes(x))
    except (ValueError, TypeError) as error:
        error.add_note(f"(found in {name}, before anything was compiled)")
        raise
    if out[0].shape != ():
        raise ValueError(f"the objective must return a scalar loss, got shape {out[0].shape}")


def _first_nonfinite(ts: TrainState, *, optimizer: bool = False) -> str | None:
    trees = {"opt_state": ts.opt_state} if optimizer else {"params": ts.params, "state": ts.state}
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not bool(jnp.isfinite(leaf).all()):
            return path_name(path)
    return None


def _nonfinite(ts: TrainState, step: int, epoch: int) -> str:
    first = _first_nonfinite(ts) or _first_nonfinite(ts, optimizer=True)
    leaf = f"the first non-finite leaf is {first}" if first else "parameters and state are finite"
    return (
        f"the loss was not finite at step {step} (epoch {epoch}); at the end of that epoch {leaf}. "
        "Lower the learning rate, clip the gradients or check the data; "
        "on_nonfinite='ignore' goes on regardless"
    )
