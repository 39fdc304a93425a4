"""The decisions of a run after every epoch: to stop, to lower its rate, to keep the best parameters.

Each decision is a small state machine of arrays, so that a run that holds it can be compiled whole,
vmapped and resumed. Users configure it with `EarlyStopping` and `ReduceOnPlateau`; everything else here
serves `jaxdeep.train.run`. The numbers of a configuration become `Limits`, which are arguments of the
compiled run, so that a run with another patience uses the same program.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdeep import _checks
from jaxdeep._shapes import Array, ArrayLike, Bool, Integer, Num, PyTree
from jaxdeep.optimizers import hyperparams, reduce_on_plateau, set_hyperparams

# Whether smaller or larger is better, by the last word of a metric's name, which says what it is: an
# f1_loss is a loss.
_MODES = {
    **dict.fromkeys(("loss", "error", "mse", "rmse", "mae", "mape", "msle", "huber", "brier"), "min"),
    **dict.fromkeys(("accuracy", "precision", "recall", "f1", "auc", "r2", "kappa", "mcc"), "max"),
    "corrcoef": "max",
}
# What may turn it round, wherever it stands, as in scikit-learn's neg_mean_squared_error.
_TURNING = {
    *("neg", "negative", "negated", "negation", "minus", "inverse", "inverted", "inv", "reciprocal"),
    *("opposite", "reversed", "flipped", "complement", "not", "non", "no", "un", "anti", "without"),
}
_SIGNED = re.compile(
    r"""(?<![a-z0-9])[-−]                # a minus that joins no words: -loss
    |   (?<!top[\W_])(?<![a-z0-9])1\s*[-−]  # 1-accuracy, unlike top-1-accuracy
    |   ^1(?![a-z0-9])
    |   (?<![a-z])one[\W_]+over(?![a-z])""",
    re.VERBOSE,
)
# Names of their own, which turn nothing round.
_NAMED = re.compile(r"neg(ative)?[\W_]*log[\W_]*likelihood|(false|true)[\W_]*neg(ative)?s?")


@runtime_checkable
class Watching(Protocol):
    """What watches a metric, by its name, of which less (``"min"``) or more (``"max"``) is better."""

    @property
    def monitor(self) -> str | None:
        """The name of the metric; by default the loss, of the validation data if there are any."""

    @property
    def mode(self) -> str | None:
        """The direction; by default as the name says."""


class EarlyStopping(NamedTuple):
    """Stop a run whose metric no longer improves, and keep the parameters of its best epoch.

    An epoch is an improvement if its value is better than the best so far by more than `min_delta`. A
    NaN is never an improvement. The run stops after `patience` epochs in a row without improvement, and
    after one such epoch if `patience` is 0.

    Attributes:
      patience: epochs to wait for an improvement, ≥ 0. Keras and flax have the same default.
      monitor: name in the history; by default "val_loss", or "loss" without validation data.
      mode: "min" or "max"; by default "max" for names whose last word is accuracy, precision, recall,
        f1, auc, r2, kappa, mcc or corrcoef, "min" for those whose last word is loss, error, mse, rmse,
        mae, mape, msle, huber or brier. For
        other names it must be given, and for those that may mean the opposite: with "neg", "no", "not",
        "minus", "inverse", a "-" or "1 -" anywhere ("neg_log_loss", "-loss"), or with words of both
        kinds, such as "loss_auc" (an "f1_loss" is a loss).
      min_delta: margin that an improvement must exceed, ≥ 0.
      restore_best: end with parameters and state of the best epoch, ``result.params`` and
        ``result.state``; ``result.train_state`` stays that of the last. Keras calls it
        ``restore_best_weights`` and has it off by default.
      ties: which of several epochs with the best value is the best one, the "first" or the "last", which
        has trained longest: an accuracy on few examples often ties. A tie is no improvement, so that the
        patience runs on.
      baseline: a value that must be beaten, by more than `min_delta`: improvements that do not beat it
        are kept as the best so far, and the patience runs on. None for no baseline.
      start_from_epoch: epochs that are not looked at before the first that is, ≥ 0: they are neither the
        best one nor waited for. Numbers of a warm-up are often the best for a while.

    Raises:
      ValueError, TypeError: when it is made, a field that is out of range or of another kind.

    Source: Prechelt, "Early Stopping — But When?" (1998); semantics of Keras' `EarlyStopping`.

    >>> EarlyStopping(patience=5).restore_best
    True
    """

    patience: int = 0
    monitor: str | None = None
    mode: str | None = None
    min_delta: float = 0.0
    restore_best: bool = True
    ties: str = "first"
    baseline: float | None = None
    start_from_epoch: int = 0

    def __repr__(self) -> str:
        """The fields as text, by which checkpoints recognise a run.

        Fields that later versions added are left out at their defaults, so that a checkpoint of an
        earlier version is still recognised.
        """
        later = {"baseline": None, "start_from_epoch": 0}
        fields = [(n, v) for n, v in self._asdict().items() if n not in later or v != later[n]]
        return f"EarlyStopping({', '.join(f'{name}={value!r}' for name, value in fields)})"


class ReduceOnPlateau(NamedTuple):
    """Lower the learning rate when a metric of the epochs stops improving.

    It is `jaxdeep.optimizers.reduce_on_plateau`, updated once an epoch. What it multiplies by `factor`
    is the ``learning_rate`` in the optimizer's state, where `jaxdeep.optimizers.hyperparams` shows it.
    This rate must be a number, since a schedule would overwrite it. In a loop of your own, or for the
    losses of single steps, use `jaxdeep.optimizers.reduce_on_plateau` itself.

    Attributes:
      factor: in (0, 1).
      patience: epochs without improvement before the rate falls, at least 1.
      monitor, mode: as for `EarlyStopping`.
      min_delta: margin an improvement must exceed, ≥ 0.
      cooldown: epochs ignored after a fall.
      min_learning_rate: the rate never falls below this.

    Raises:
      ValueError, TypeError: when it is made, a field that is out of range or of another kind.

    Source: Keras' `ReduceLROnPlateau`, with its defaults; ``cooldown`` is one less than Keras'.

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


Monitor = EarlyStopping | ReduceOnPlateau
Scalar = Num[ArrayLike, ""]
Due = bool | np.bool_ | Bool[Array, ""]  # such as whether an epoch is evaluated
Shaped = ArrayLike | jax.ShapeDtypeStruct
Values = Mapping[str, Num[Array, "..."]]  # of an epoch by name, as in the history


class Limits(NamedTuple):
    """The numbers that decide when a run ends, as arguments of its program.

    A field that the run does not use is ().

    Attributes:
      epochs: epochs of the whole run.
      early_stopping: the numbers of `EarlyStopping`, without a baseline that is None.
      plateau: the numbers of `ReduceOnPlateau`.
    """

    epochs: np.int32 | Integer[Array, ""]
    early_stopping: PyTree = ()
    plateau: PyTree = ()


_COUNTS = ("patience", "cooldown", "start_from_epoch")
_NUMBERS = {
    EarlyStopping: ("patience", "min_delta", "baseline", "start_from_epoch"),
    ReduceOnPlateau: ("factor", "patience", "min_delta", "cooldown", "min_learning_rate"),
}


def limits_of(
    epochs: int, early_stopping: EarlyStopping | None, plateau: ReduceOnPlateau | None
) -> Limits:
    """The epochs of a run and the numbers of its monitors, as arrays."""

    def number(name: str, value: ArrayLike) -> Scalar:
        dtype = np.int32 if name in _COUNTS else jnp.result_type(float)
        return value if isinstance(value, jax.Array) else np.asarray(value, dtype)

    def numbers(config: Monitor | None) -> PyTree:
        if config is None:
            return ()
        values = {name: getattr(config, name) for name in _NUMBERS[type(config)]}
        return {name: number(name, value) for name, value in values.items() if value is not None}

    return Limits(np.int32(epochs), numbers(early_stopping), numbers(plateau))


def kind_of(config: Monitor | None) -> tuple[str, dict[str, Any]] | None:
    """The part of a monitor that the program depends on: everything but what its numbers are."""
    if config is None:
        return None
    numbers = _NUMBERS[type(config)]
    parts = {n: v is not None if n in numbers else v for n, v in config._asdict().items()}
    return type(config).__name__, parts


class Decisions(NamedTuple):
    """The record of early stopping and the plateau so far.

    A field that the run does not use is ().

    Attributes:
      best: value of the best epoch so far.
      best_epoch: its index, from 0; −1 for none.
      wait: epochs since the best one.
      kept: parameters and state of the best epoch.
      plateau: state of `ReduceOnPlateau`.
      before: what all this would be without an evaluation that only the last epoch has
        (`jaxdeep.train.rewinding.Before`). If that epoch is the best one, `kept` is of the best before.
    """

    best: PyTree = ()
    best_epoch: PyTree = ()
    wait: PyTree = ()
    kept: PyTree = ()
    plateau: PyTree = ()
    before: PyTree = ()


def check_monitor(kind: type, name: str, value: Any) -> None:
    """Refuse a monitor of another type, or with a field that is out of range."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a jaxdeep.train.{kind.__name__}, got {value!r}")
    monitor: Any = value
    _checks.check_scalar(f"{name}.min_delta", monitor.min_delta, "[0, inf)")
    _checks.check_count(f"{name}.patience", monitor.patience, low=0 if kind is EarlyStopping else 1)
    check_watched(name, monitor)
    if isinstance(value, EarlyStopping):
        _checks.check_flag(f"{name}.restore_best", value.restore_best)
        _checks.check_choice(f"{name}.ties", value.ties, ("first", "last"))
        if value.baseline is not None:
            _checks.check_scalar(f"{name}.baseline", value.baseline, "(-inf, inf)")
        _checks.check_count(f"{name}.start_from_epoch", value.start_from_epoch, low=0)
    else:
        _checks.check_scalar(f"{name}.factor", monitor.factor, "(0, 1)")
        _checks.check_count(f"{name}.cooldown", monitor.cooldown, low=0)
        _checks.check_scalar(f"{name}.min_learning_rate", monitor.min_learning_rate, "[0, inf)")


def check_when_made(kind: Any, check: Callable[[Any], None]) -> None:
    """Let a NamedTuple refuse wrong fields when one is made, and not only where it is used.

    `_replace` makes one without that, and so does JAX of values that are traced or only hold a place.
    """
    make = kind.__new__

    @functools.wraps(make)
    def checked(cls: Any, *args: Any, **fields: Any) -> Any:
        made = make(cls, *args, **fields)
        if not any(type(value) is object or isinstance(value, jax.core.Tracer) for value in made):
            check(made)
        return made

    kind.__new__ = checked


def check_watched(name: str, config: Watching) -> None:
    """Refuse a `monitor` that is no name, or another `mode`."""
    if config.mode not in (None, "min", "max"):
        raise ValueError(f"{name}.mode must be 'min', 'max' or None, got {config.mode!r}")
    if config.monitor is not None and not isinstance(config.monitor, str):
        raise TypeError(f"{name}.monitor must be the name of a metric, got {config.monitor!r}")


for _kind in _NUMBERS:
    check_when_made(_kind, functools.partial(check_monitor, _kind, _kind.__name__))


def mode_of(metric: str) -> str | None:
    """Whether smaller ("min") or larger ("max") is better, if the end of the metric's name says so.

    >>> mode_of("val_accuracy"), mode_of("top5_error"), mode_of("inaccuracy"), mode_of("neg_log_loss")
    ('max', 'min', None, None)
    """
    name = _NAMED.sub("", metric.lower().removeprefix("val_"))
    words = re.findall("[a-z0-9]+", name)
    mode = _MODES.get(words[-1]) if words else None
    if mode is None or _SIGNED.search(name) or not _TURNING.isdisjoint(words):
        return None
    return None if mode == "max" and any(_MODES.get(word) == "min" for word in words) else mode


def resolve(config: Watching, values: Mapping[str, Shaped]) -> tuple[str, float]:
    """The name of the metric that is monitored, and the sign that makes smaller better."""
    names = sorted(name for name, value in values.items() if jnp.shape(value) == ())
    validation = "val_loss" in names
    usual = "val_loss" if validation else "loss"
    monitor = usual if config.monitor is None else config.monitor
    if monitor not in names:
        hint = "" if validation or not monitor.startswith("val_") else "; there is no validation data"
        raise ValueError(f"monitor must be one of {', '.join(names)}; got {config.monitor!r}{hint}")
    mode = config.mode or mode_of(monitor)
    if mode is None:
        raise ValueError(
            f"mode must be 'min' or 'max' for {monitor!r}: its name does not say which is better; pass "
            "mode="
        )
    return monitor, 1.0 if mode == "min" else -1.0


def first_decisions(
    early_stopping: EarlyStopping | None,
    plateau: ReduceOnPlateau | None,
    limits: Limits,
    model: PyTree,
    values: Mapping[str, jax.ShapeDtypeStruct],
) -> Decisions:
    """The decisions before the first epoch, which will report `values`; `model` is (params, state)."""
    decisions = Decisions()
    if early_stopping is not None:
        _, sign = resolve(early_stopping, values)
        decisions = decisions._replace(
            # no infinity, which jax_debug_infs refuses; no value that counts is worse than it
            best=jnp.asarray(sign * jnp.finfo(jnp.result_type(float)).max, jnp.result_type(float)),
            best_epoch=jnp.full((), -1, jnp.int32),
            wait=jnp.zeros((), jnp.int32),
            kept=jax.tree.map(jnp.copy, model) if early_stopping.restore_best else (),
        )
    if plateau is not None:
        _, sign = resolve(plateau, values)
        machine = _machine(plateau, limits, sign).init(jnp.zeros(()))
        dtype = jnp.result_type(float)
        numbers = {"factor": limits.plateau["factor"], "atol": limits.plateau["min_delta"]}
        numbers = {name: jnp.array(value, dtype) for name, value in numbers.items()}
        machine = machine._replace(hyperparams=machine.hyperparams | numbers)
        decisions = decisions._replace(plateau=machine)
    return decisions


def decide(
    early_stopping: EarlyStopping | None,
    limits: Limits,
    decisions: Decisions,
    model: PyTree,
    values: Values,
    epoch: Scalar,
    due: Due,
) -> tuple[Decisions, Due]:
    """The decisions after an epoch, and whether to stop.

    `due` says whether the epoch was evaluated; if not, a validation metric changes nothing. In an epoch
    with an improvement the run goes on, also if it does not beat the baseline.
    """
    if early_stopping is None:
        return decisions, False
    numbers = limits.early_stopping
    name, sign = resolve(early_stopping, values)
    due = (due if name.startswith("val_") else True) & (epoch >= numbers["start_from_epoch"])
    value = values[name].astype(decisions.best.dtype)

    def beats(other: Scalar) -> Due:
        return sign * (other - value) > numbers["min_delta"]

    improved = due & beats(decisions.best)
    anew = improved & beats(numbers["baseline"]) if "baseline" in numbers else improved
    wait = jnp.where(anew, 0, decisions.wait + jnp.where(due, 1, 0))
    is_best = improved | (due & (value == decisions.best)) if early_stopping.ties == "last" else improved
    decisions = decisions._replace(
        best=jnp.where(improved, value, decisions.best),
        best_epoch=jnp.where(is_best, epoch, decisions.best_epoch),
        wait=wait,
        kept=choose(is_best, model, decisions.kept) if early_stopping.restore_best else (),
    )
    return decisions, due & ~improved & (wait >= jnp.maximum(numbers["patience"], 1))


def lower(
    plateau: ReduceOnPlateau | None,
    limits: Limits,
    decisions: Decisions,
    opt_state: PyTree,
    values: Values,
    due: Due,
) -> tuple[Decisions, PyTree]:
    """The decisions after an epoch, and the optimizer's state with the learning rate to go on with."""
    if plateau is None:
        return decisions, opt_state
    name, sign = resolve(plateau, values)
    rates = rates_of(opt_state)
    if not rates:
        raise ValueError(
            "plateau needs an optimizer of jaxdeep, or optax.inject_hyperparams around another, with a "
            "learning_rate in its state"
        )
    old = decisions.plateau
    _, new = _machine(plateau, limits, sign).update(jnp.zeros(()), old, value=values[name])
    if name.startswith("val_"):
        new = choose(due, new, old)
    fell = new.scale < old.scale

    def reduced(rate: Num[Array, ""]) -> Num[Array, ""]:
        lowered = rate * limits.plateau["factor"].astype(rate.dtype)
        return jnp.minimum(rate, jnp.maximum(lowered, limits.plateau["min_learning_rate"]))

    rates = {name: jnp.where(fell, reduced(rate), rate) for name, rate in rates.items()}
    return decisions._replace(plateau=new), set_hyperparams(opt_state, **rates)


def rates_of(opt_state: PyTree) -> dict[str, Any]:
    """The learning rates in an optimizer's state, by name."""
    return {n: r for n, r in hyperparams(opt_state).items() if n.split("/")[-1] == "learning_rate"}


def restored(early_stopping: EarlyStopping | None, decisions: Decisions, model: PyTree) -> PyTree:
    """The parameters and state that the run ends with."""
    if early_stopping is None or not early_stopping.restore_best:
        return model
    is_kept = decisions.best_epoch >= 0
    if decisions.before:  # a last epoch that is the best one has the run's own
        is_kept &= decisions.best_epoch + 1 != decisions.before.at
    return choose(is_kept, decisions.kept, model)


def choose(condition: Due, a: PyTree, b: PyTree) -> PyTree:
    """The leaves of `a` where `condition` holds, those of `b` elsewhere."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def _machine(plateau: ReduceOnPlateau, limits: Limits, sign: float) -> optax.GradientTransformation:
    """`reduce_on_plateau`, whose factor and margin are set in its state (`first_decisions`)."""
    return reduce_on_plateau(
        plateau.factor,
        jnp.asarray(limits.plateau["patience"]),
        rtol=0.0,
        atol=plateau.min_delta,
        cooldown=jnp.asarray(limits.plateau["cooldown"]),
        mode="min" if sign > 0 else "max",
    )
