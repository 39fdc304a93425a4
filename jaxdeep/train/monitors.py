"""What a run decides by a metric, epoch by epoch: to stop, to lower its learning rate, what was best.

Each is a small state machine of arrays, so that a run that holds it can be compiled whole, vmapped and
resumed. `EarlyStopping` and `ReduceOnPlateau` say what is wanted; the rest is for `jaxdeep.train.run`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep.optimizers import hyperparams, reduce_on_plateau, set_hyperparams

PyTree = Any

_LARGER_IS_BETTER = ("accuracy", "precision", "recall", "f1", "auc")


class EarlyStopping(NamedTuple):
    """Stop a run whose metric no longer improves, and keep the parameters of its best epoch.

    An epoch improves if its value is better than the best so far by more than `min_delta`; after
    `patience` epochs in a row that do not (at least one), the run stops. A NaN never improves.

    Attributes:
      patience: epochs to wait, ≥ 0; Keras' and flax' default of 0 stops at the first that is no better.
      monitor: name in the history; by default "val_loss", or "loss" without validation data.
      mode: "min" or "max"; by default "max" for names of accuracy, precision, recall, F1 and AUC, "min"
        for names of losses and errors; other names want it.
      min_delta: ≥ 0.
      restore_best: end with parameters and state of the best epoch (Keras' ``restore_best_weights``,
        there off by default); the optimizer's state stays that of the last.

    Source: Prechelt, "Early Stopping — But When?" (1998); semantics of Keras' `EarlyStopping`.

    >>> EarlyStopping(patience=5).restore_best
    True
    """

    patience: int = 0
    monitor: str | None = None
    mode: str | None = None
    min_delta: float = 0.0
    restore_best: bool = True


class ReduceOnPlateau(NamedTuple):
    """Lower the learning rate when a metric of the epochs stops improving.

    `jaxdeep.optimizers.reduce_on_plateau`, fed once an epoch, but it is the ``learning_rate`` in the
    optimizer's state that is multiplied by `factor`, where `jaxdeep.optimizers.hyperparams` shows it. It
    must be a number: a schedule would overwrite it. In a loop of your own, and for losses of steps, take
    `jaxdeep.optimizers.reduce_on_plateau` itself.

    Attributes:
      factor: in (0, 1).
      patience: epochs without improvement before the rate falls, at least 1.
      monitor, mode: as for `EarlyStopping`.
      min_delta: margin an improvement must exceed, ≥ 0.
      cooldown: epochs ignored after a fall.
      min_learning_rate: the rate never falls below.

    Source: Keras' `ReduceLROnPlateau`, its defaults; ``cooldown`` is one less than Keras'.

    >>> ReduceOnPlateau(factor=0.5, patience=3).min_delta
    0.0001
    """

    factor: float = 0.1
    patience: int = 10
    monitor: str | None = None
    mode: str | None = None
    min_delta: float = 1e-4
    cooldown: int = 0
    min_learning_rate: float = 0.0


class Decisions(NamedTuple):
    """What a run has seen of its metrics; a field is () where nothing needs it.

    Attributes:
      best: value of the best epoch so far.
      best_epoch: its number, from 0; −1 for none.
      wait: epochs since.
      kept: parameters and state of that epoch.
      plateau: state of `ReduceOnPlateau`.
    """

    best: Any = ()
    best_epoch: Any = ()
    wait: Any = ()
    kept: PyTree = ()
    plateau: PyTree = ()


def check(early_stopping: Any, plateau: Any) -> None:
    """Refuse arguments that are not what they must be."""
    for name, value, kind in (
        ("early_stopping", early_stopping, EarlyStopping),
        ("plateau", plateau, ReduceOnPlateau),
    ):
        if value is None:
            continue
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be a jaxdeep.train.{kind.__name__}, got {value!r}")
        _checks.check_scalar(f"{name}.min_delta", value.min_delta, "[0, inf)")
        _checks.check_count(f"{name}.patience", value.patience, low=0 if kind is EarlyStopping else 1)
        if value.mode not in (None, "min", "max"):
            raise ValueError(f"{name}.mode must be 'min', 'max' or None, got {value.mode!r}")
        if value.monitor is not None and not isinstance(value.monitor, str):
            raise TypeError(f"{name}.monitor must be the name of a metric, got {value.monitor!r}")
    if early_stopping is not None:
        _checks.check_flag("early_stopping.restore_best", early_stopping.restore_best)
    if plateau is not None:
        _checks.check_scalar("plateau.factor", plateau.factor, "(0, 1)")
        _checks.check_count("plateau.cooldown", plateau.cooldown, low=0)
        _checks.check_scalar("plateau.min_learning_rate", plateau.min_learning_rate, "[0, inf)")


def rises(metric: str) -> bool:
    """Whether a metric is known by its name to be better where it is larger.

    >>> rises("val_accuracy"), rises("loss")
    (True, False)
    """
    return any(word in metric for word in _LARGER_IS_BETTER)


def resolve(config: Any, values: Mapping[str, Any]) -> tuple[str, float]:
    """The metric that is watched, and the sign that makes smaller better."""
    names = sorted(name for name, value in values.items() if jnp.shape(value) == ())
    validation = "val_loss" in names
    usual = "val_loss" if validation else "loss"
    monitor = usual if config.monitor is None else config.monitor
    if monitor not in names:
        hint = "" if validation or not monitor.startswith("val_") else "; there is no validation data"
        raise ValueError(f"monitor must be one of {', '.join(names)}; got {config.monitor!r}{hint}")
    mode = config.mode
    if mode is None:
        base = monitor.removeprefix("val_")
        if rises(base):
            mode = "max"
        elif any(word in base for word in ("loss", "error", "mse", "mae", "huber")):
            mode = "min"
        else:
            raise ValueError(
                f"mode must be 'min' or 'max' for {monitor!r}: its name does not say which is better"
            )
    return monitor, 1.0 if mode == "min" else -1.0


def first(
    early_stopping: EarlyStopping | None,
    plateau: ReduceOnPlateau | None,
    model: PyTree,
    values: Mapping[str, Any],
) -> Decisions:
    """Before the first epoch, whose `values` have these names; `model` is parameters and state."""
    found = Decisions()
    if early_stopping is not None:
        _, sign = resolve(early_stopping, values)
        found = found._replace(
            best=jnp.asarray(sign * jnp.inf, jnp.result_type(float)),
            best_epoch=jnp.full((), -1, jnp.int32),
            wait=jnp.zeros((), jnp.int32),
            kept=jax.tree.map(jnp.copy, model) if early_stopping.restore_best else (),
        )
    if plateau is not None:
        _, sign = resolve(plateau, values)
        found = found._replace(plateau=_machine(plateau, sign).init(jnp.zeros(())))
    return found


def decide(
    early_stopping: EarlyStopping | None,
    decisions: Decisions,
    model: PyTree,
    values: Mapping[str, Any],
    epoch: Any,
    due: Any,
) -> tuple[Decisions, Any]:
    """After an epoch: what is known, and whether to stop. A value that is not `due` changes nothing."""
    if early_stopping is None:
        return decisions, False
    name, sign = resolve(early_stopping, values)
    due = due if name.startswith("val_") else True
    value = values[name].astype(decisions.best.dtype)
    improved = due & (sign * (decisions.best - value) > early_stopping.min_delta)
    wait = jnp.where(improved, 0, decisions.wait + jnp.where(due, 1, 0))
    decisions = decisions._replace(
        best=jnp.where(improved, value, decisions.best),
        best_epoch=jnp.where(improved, epoch, decisions.best_epoch),
        wait=wait,
        kept=choose(improved, model, decisions.kept) if early_stopping.restore_best else (),
    )
    return decisions, due & (wait >= max(early_stopping.patience, 1))


def lower(
    plateau: ReduceOnPlateau | None,
    decisions: Decisions,
    opt_state: PyTree,
    values: Mapping[str, Any],
    due: Any,
) -> tuple[Decisions, PyTree]:
    """After an epoch: what is known, and the optimizer's state with the learning rate to go on with."""
    if plateau is None:
        return decisions, opt_state
    name, sign = resolve(plateau, values)
    rates = {n: r for n, r in hyperparams(opt_state).items() if n.split("/")[-1] == "learning_rate"}
    if not rates:
        raise ValueError("plateau needs an optimizer of jaxdeep with a learning_rate in its state")
    old = decisions.plateau
    _, new = _machine(plateau, sign).update(jnp.zeros(()), old, value=values[name])
    if name.startswith("val_"):
        new = choose(due, new, old)
    fell = new.scale < old.scale

    def reduced(rate: Any) -> Any:
        return jnp.minimum(rate, jnp.maximum(rate * plateau.factor, plateau.min_learning_rate))

    rates = {name: jnp.where(fell, reduced(rate), rate) for name, rate in rates.items()}
    return decisions._replace(plateau=new), set_hyperparams(opt_state, **rates)


def restored(early_stopping: EarlyStopping | None, decisions: Decisions, model: PyTree) -> PyTree:
    """Parameters and state to end with."""
    if early_stopping is None or not early_stopping.restore_best:
        return model
    return choose(decisions.best_epoch >= 0, decisions.kept, model)


def choose(condition: Any, a: PyTree, b: PyTree) -> PyTree:
    """One pytree or the other."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def _machine(plateau: ReduceOnPlateau, sign: float) -> Any:
    return reduce_on_plateau(
        plateau.factor,
        plateau.patience,
        rtol=0.0,
        atol=plateau.min_delta,
        cooldown=plateau.cooldown,
        mode="min" if sign > 0 else "max",
    )
