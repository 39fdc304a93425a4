"""Every option of a run, written once: its name, type, default, check and a sentence.

A function that takes options says so with ``**options: Unpack[RunOptions]``, which editors complete and
type checkers check; `takes` puts them into its signature and its docstring, and `filled` checks those
that were passed and adds the defaults of the others. Options are grouped by what they decide: what is
minimised, what is trained, when a run stops, where the data are, and what the host does meanwhile. The
sentence on an option is in the docstring of its group.
"""

import difflib
import functools
import inspect
import os
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeAlias,
    TypedDict,
    TypeVar,
    get_args,
    get_type_hints,
)

import jax
import numpy as np
import optax

from jaxdeep import _checks
from jaxdeep._shapes import Array, ArrayLike, Float, PyTree
from jaxdeep.train import monitors
from jaxdeep.train.monitors import EarlyStopping, ReduceOnPlateau
from jaxdeep.train.objective import Objective, PerExample
from jaxdeep.train.records import Epochs
from jaxdeep.train.reported import NamedMetrics
from jaxdeep.train.state import Network, TrainState
from jaxdeep.train.step import Augment
from jaxdeep.train.updating import DEFAULT, check_update_args
from jaxdeep.tree import Where, check_where

Callback = Callable[[Epochs], object]  # returns None or a boolean; the run ends if it is true
Check = Callable[[str, Any], None]  # of a name and a value
OnNonfinite: TypeAlias = Literal["raise", "stop", "skip", "ignore"]
Log = Callable[..., object]  # of the values by name, and step=
F = TypeVar("F", bound=Callable[..., Any])
Kind = TypeVar("Kind", bound=type)

SUPERVISED = ("loss", "metrics", "penalty", "activity", "class_weight")  # arguments of `supervised`


class Option(NamedTuple):
    """An option of a run, besides its name and type.

    Attributes:
      default: its value if it is not passed.
      check: a function ``(name, value)`` that raises for a value the option cannot have. It is not
        called for the default.
      text: what it does, for docstrings.
    """

    default: object
    check: Check = lambda name, value: None
    text: str = ""


class Phase(NamedTuple):
    """A phase of `jaxdeep.fit`.

    Attributes:
      epochs: passes over the data, at most.
      trainable: the parameters that are trained (`jaxdeep.tree.mask`); all of them by default.
      learning_rate: the rate, in place of the optimizer's own, be that a number or a schedule; by
        default that one.

    >>> Phase(3, "logits/*", 1e-2).learning_rate
    0.01
    """

    epochs: int
    trainable: Where | None = None
    learning_rate: float | None = None


# --- checks -------------------------------------------------------------------------------------------


def _function(name: str, value: Any) -> None:
    _checks.check_functions(**{name: value})


def _of_a_batch(name: str, value: Any) -> None:
    _checks.check_takes(name, value, "batch")


def _selector(name: str, value: Any) -> None:
    check_where(value, name)


def _among(*choices: str) -> Check:
    def check(name: str, value: object) -> None:
        if not isinstance(value, str) or value not in choices:
            known = f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
            raise ValueError(f"{name} must be {known}, got {value!r}")

    return check


def _functions(name: str, value: object) -> None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{name} must be a list of functions, got {value!r}")
    for function in value:
        _checks.check_functions(optional=False, **{name: function})
        _checks.check_takes(name, function, "epochs")


def check_logs(name: str, value: Any, *told: str) -> None:
    """Refuse what is no function ``(values, step=…)``, or with further arguments, nor a list of them."""
    for log in value if isinstance(value, (list, tuple)) and not callable(value) else [value]:
        if not callable(log) or not _checks.takes(log, 1, *told):
            form = ", ".join(["values", *(f"{argument}=…" for argument in told)])
            such = ", such as wandb.log," if told == ("step",) else ","
            raise TypeError(f"{name} must be a function ({form}){such} or a list of them, got {log!r}")


def _logs(name: str, value: Any) -> None:
    check_logs(name, value, "step")


def _going_on(name: str, value: object) -> None:
    if not isinstance(value, TrainState):
        raise TypeError(f"{name} must be a jaxdeep.train.TrainState, got {type(value).__name__}")


def _optional_flag(name: str, value: object) -> None:
    if value is not None and not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True, False or None, got {value!r}")


# --- the options --------------------------------------------------------------------------------------

_KINDS: list[type] = []  # those of which base classes come first


def documented(kind: Kind) -> Kind:
    """A decorator of a `TypedDict` of options, whose docstring has their sentences."""
    _KINDS.append(kind)
    return kind


@documented
class Minimised(TypedDict, total=False):
    """The options for what a run minimises.

    Attributes:
      loss: ``(outputs, y) -> losses`` per example, as in `jaxdeep.losses`.
      penalty: ``params -> scalar``, added to the loss (`jaxdeep.regularizers`).
      activity: ``outputs of layers by path -> scalar``, added to the loss too
        (`jaxdeep.regularizers.activity`).
      class_weight: a weight for each class in training, as in `jaxdeep.train.supervised`, or "balanced":
        ``n / (K n_k)`` of the n_k training rows of class k of K
        (`jaxdeep.train.balanced_class_weight`).
      objective: instead of loss, metrics, penalty, activity and class_weight, for anything that is not
        supervised: a function of the form that `jaxdeep.train.supervised` returns. The model is
        initialised on the first array of the data; pass `params` where that is not its input.
    """

    loss: Annotated[PerExample | None, Option(None)]
    penalty: Annotated[Callable[[PyTree], Float[Array, ""]] | None, Option(None)]
    activity: Annotated[Callable[[Mapping[str, PyTree]], Float[Array, ""]] | None, Option(None)]
    class_weight: Annotated[Mapping[int, float] | ArrayLike | Literal["balanced"] | None, Option(None)]
    objective: Annotated[Objective | None, Option(None)]


@documented
class RunOptions(TypedDict, total=False):
    """The options of a run in pure functions: its batches, its steps, and when it stops.

    Attributes:
      epochs: passes over the data, at most.
      batch_size: rows of a batch; the last batch of an epoch holds what is left.
      shuffle: draw a new order every epoch.
      drop_remainder: leave out the rows that do not fill a batch.
      accumulation_steps: micro-batches of a step, whose gradients are averaged
        (`jaxdeep.train.make_step`).
      augment: ``(key, batch) -> batch`` for every training batch, compiled into the step.
      ema: evaluate, keep and return the moving average of the parameters instead of the parameters.
        `jaxdeep.optimizers.ema_params` must be in the optimizer's chain to compute it. The statistics
        of batch norms are then those of the averaged network, which is applied to every training batch
        for them: a step takes a forward pass more in models with a state.
      trainable: the parameters that are trained, such as ``"logits/*"`` (`jaxdeep.tree.mask`); all by
        default. The others have no gradient, no share of a clipped norm and nothing in the optimizer's
        state.
      update_args: names of what the optimizer's update is passed, if it takes it: `optax.contrib.sam`
        needs ``("grad_fn",)``, `optax.contrib.sophia` ``("obj_fn",)``; any other is right with the
        default (`jaxdeep.train.make_step`).
      early_stopping: a `jaxdeep.train.EarlyStopping`: when to stop, and whether to end with the
        parameters of the best epoch.
      plateau: a `jaxdeep.train.ReduceOnPlateau`: when to lower the learning rate.
      validate_every: epochs from one evaluation to the next; the last epoch is always evaluated, and
        no longer is if `epochs` grow. In epochs without an evaluation, validation metrics are NaN in the
        history, and early stopping and the plateau wait if they monitor one.
      on_nonfinite: what to do about a loss that is not finite. "stop" ends the run after that epoch.
        "raise" raises a `FloatingPointError` after that epoch in `jaxdeep.fit`; pure functions and
        sweeps cannot raise and treat it as "stop". "skip" undoes a step whose loss, parameters or state
        are not finite, leaves its batch out of the epoch's metrics and counts it as "skipped" in the
        history (`jaxdeep.optimizers.skip_nonfinite` does so for gradients, in any loop). "ignore" goes
        on. ``jax_debug_nans`` raises at the first NaN where it is "raise", and is off in sweeps and
        with the others, which expect NaN.
    """

    epochs: Annotated[int, Option(1, _checks.check_count)]
    batch_size: Annotated[int, Option(32, _checks.check_count)]
    shuffle: Annotated[bool, Option(True, _checks.check_flag)]
    drop_remainder: Annotated[bool, Option(False, _checks.check_flag)]
    accumulation_steps: Annotated[int, Option(1, _checks.check_count)]
    augment: Annotated[Augment | None, Option(None, _function)]
    ema: Annotated[bool, Option(False, _checks.check_flag)]
    trainable: Annotated[Where | None, Option(None, _selector)]
    update_args: Annotated[Sequence[str], Option(DEFAULT, check_update_args)]
    early_stopping: Annotated[
        EarlyStopping | None, Option(None, functools.partial(monitors.check_monitor, EarlyStopping))
    ]
    plateau: Annotated[
        ReduceOnPlateau | None, Option(None, functools.partial(monitors.check_monitor, ReduceOnPlateau))
    ]
    validate_every: Annotated[int, Option(1, _checks.check_count)]
    on_nonfinite: Annotated[OnNonfinite, Option("raise", _among(*get_args(OnNonfinite)))]


@documented
class TrialOptions(Minimised, RunOptions, total=False):
    """The options of a run of `jaxdeep.fit`, or of a row of `jaxdeep.sweep`.

    Attributes:
      metrics: further functions of the form of `loss`, or streaming metrics (`jaxdeep.metrics.Metric`),
        by name; those of one of several outputs in a dict under its name,
        ``{"main": {"rmse": rmse()}}``, which the history has as ``main/rmse``.
      validation: data like the training data, evaluated whole after every epoch. Or a share in (0, 1) of
        the rows, ``validation=0.2``, which are drawn at random by the key of the run and left out of
        training (Keras takes the last rows, whatever their order); `jaxdeep.sweep` draws them once for
        all rows of the sweep. A loader has no rows to draw from.
      freeze_batch_norm: batch norms whose parameters are not trained normalise by their running
        statistics and keep these, as in Keras. With False they use the statistics of the batch and
        update their own. An `objective` decides this by itself.
    """

    metrics: Annotated[NamedMetrics | None, Option(None)]
    validation: Annotated[PyTree | None, Option(None)]
    freeze_batch_norm: Annotated[bool, Option(True, _checks.check_flag)]


@documented
class RowOptions(TrialOptions, total=False):
    """The arguments that all rows of `jaxdeep.sweep` have in common, but for the data.

    Attributes:
      model: a `jaxdeep.nn.Model`, where the builder gives none.
      optimizer: any optax transformation, where the builder gives none.
    """

    model: Annotated[Network | None, Option(None)]
    optimizer: Annotated[optax.GradientTransformation | None, Option(None)]


@documented
class FitOptions(TrialOptions, total=False):
    """The options of `jaxdeep.fit`: those of a run, where it begins, its data, and the host's part.

    Attributes:
      params: parameters to begin with; freshly initialised by default. They are copied.
      state: the model's state to begin with, which goes with `params`.
      train_state: a `jaxdeep.train.TrainState` to go on from, such as ``result.train_state``: its
        parameters, state, optimizer's state, steps done and key, in place of `params`, `state` and
        `key`. With arrays as data and the same options, n epochs and then m more are the bits of n + m
        epochs (`FitResult.training` says what begins anew). It is copied. The optimizer, and
        `trainable`, must be those of before: numbers are in the state and stay, and an optimizer that
        begins with others is refused (`jaxdeep.optimizers.set_hyperparams` sets them there).
      phases: instead of `epochs` and `trainable`, a list of `jaxdeep.train.Phase`, ``(epochs, trainable,
        learning_rate)``, run one after another: for example the head first, then more of the network at
        a lower rate. Each phase has a fresh optimizer, and early stopping and a plateau of its own.
        `optimizer` may be a function from the rate to an optimizer. The history is that of all phases.
      diagnostics: steps from one measurement of gradients, updates and activations by layer to the next,
        the first step included. The history holds the means over an epoch's measured steps,
        ``gradient_norm/hidden1``, ``update_ratio/hidden1``, ``output_gradient/…``,
        ``activation_std/…``, ``saturation/…``, ``dead/…`` and so on (`jaxdeep.diagnostics.LayerFlow`),
        one value for each repetition of a repeated layer. A measured step takes twice as long; the other
        steps take no longer than without.
      steps_per_epoch: batches that an epoch takes from an iterable.
      batch: a function from what a loader makes to a batch of the form of `data`, for loaders that make
        something else, such as dicts: ``batch=lambda b: (b["image"], b["label"])``. It is called on the
        host for every batch of every loader, before it is looked at.
      stream: whether arrays stay on the host and rows go to the device in blocks, where one block is
        read while another is computed. The batches are the same either way. By default memory maps are
        streamed, and so are arrays that do not fit into an accelerator's memory.
      block_bytes: bytes of a block of streamed rows; at most two are held.
      mesh: devices to compute on, ``jax.make_mesh((8,), ("data",))``: every batch is split over its
        ``data`` axis, parameters are copied, and the numbers are those of one device, to rounding. In
        several processes (`jax.distributed`), every process passes the same arrays and reads its part of
        them. A loader yields its own process's share of every batch.
      shard: parameters to split over the mesh's ``model`` axis (`jaxdeep.tree.mask`), together with the
        optimizer's state for them. Each is split along the longest of its axes that the devices divide.
      epochs_per_call: epochs that one call of the compiled program runs. The host looks at the run,
        saves a checkpoint, reports and calls back after each call.
      steps_per_call: steps of an epoch that one call of the compiled program runs, after which the
        callbacks are called; by default all of them. Data then goes to the device in blocks, as with
        `stream`.
      checkpoint: a local directory; the whole run is saved there after each call, and a run that is
        found there is continued, to the same bits as without the interruption. `epochs` may have grown.
        A loader is put back by its ``load_state_dict``, an iterator by its ``set_state``; any other
        iterator is read again up to where it was. Any other loader that is iterated over once an epoch,
        and shuffles itself, is iterated over again as often as before; one whose batches are others then
        (it has no seed) is refused. So are arrays of other values than the run began with, told by a
        checksum of each (of one above 256 MB, that of 4096 rows that are evenly spread), in `validation`
        too. While a run is in the
        directory, another process is refused there. If a checkpoint cannot be written (the disk is
        full), the checkpoints before it stay, and the run goes on from there when it is called again.
      keep_checkpoints: how many of the newest checkpoints stay; with early stopping, the best stays too.
      callbacks: functions of a `jaxdeep.train.Epochs`, called after each call of the program. The run
        ends with the epoch at hand if one of them returns True, which may be a boolean of NumPy or JAX.
        What is neither None nor a boolean is refused.
      log: a function ``(values, step=…)``, or a list of them, that is told of every epoch, such as
        ``wandb.log``, ``mlflow.log_metrics``, ``trackio.log``, `jaxdeep.adapters.to_csv` and
        `jaxdeep.adapters.to_json_lines`: a dict of floats by name and the number of the epoch, from 1
        on. It is called on the host after each call of the program, once for each of its epochs, in
        order, with what the history holds but for NaN. A run that is continued from a checkpoint goes on
        with the first epoch that was not done; a log with a method ``last_step()`` is told of those
        before that it lacks. What it returns is not looked at. Of several processes the first calls it.
      progress: show a progress bar; without a terminal, print a line after each call of the program.
    """

    params: Annotated[PyTree | None, Option(None)]
    state: Annotated[PyTree | None, Option(None)]
    train_state: Annotated[TrainState | None, Option(None, _going_on)]
    phases: Annotated[Sequence[Phase] | None, Option(None)]
    diagnostics: Annotated[int | None, Option(None, _checks.check_count)]
    steps_per_epoch: Annotated[int | None, Option(None, _checks.check_count)]
    batch: Annotated[Callable[[Any], PyTree] | None, Option(None, _of_a_batch)]
    stream: Annotated[bool | None, Option(None, _optional_flag)]
    block_bytes: Annotated[int, Option(2**26, _checks.check_count)]
    mesh: Annotated[jax.sharding.Mesh | None, Option(None)]
    shard: Annotated[Where | None, Option(None)]
    epochs_per_call: Annotated[int, Option(1, _checks.check_count)]
    steps_per_call: Annotated[int | None, Option(None, _checks.check_count)]
    checkpoint: Annotated[str | os.PathLike[str] | None, Option(None, _checks.check_local_path)]
    keep_checkpoints: Annotated[int, Option(3, _checks.check_count)]
    callbacks: Annotated[Sequence[Callback], Option((), _functions)]
    log: Annotated[Log | Sequence[Log] | None, Option(None, _logs)]
    progress: Annotated[bool, Option(True, _checks.check_flag)]


# --- what is done with them ---------------------------------------------------------------------------


@functools.cache
def options_of(kind: type) -> dict[str, Option]:
    """The options that a `TypedDict` declares, by name, in the order they are written in.

    >>> options_of(RunOptions)["batch_size"].default
    32
    """
    options = {name: hint.__metadata__[0] for name, hint in _hints(kind).items()}
    texts = _texts(kind)
    return {name: option._replace(text=texts.get(name, "")) for name, option in options.items()}


def filled(caller: str, kind: type, passed: Mapping[str, Any]) -> Any:
    """The options that were passed, checked, and the defaults of the others.

    Raises:
      TypeError: a name that is no option, with the one that may have been meant.
      ValueError, TypeError: what the checks of the options raise.

    >>> filled("fit", RunOptions, {"epochs": 3})["batch_size"]
    32
    >>> filled("fit", RunOptions, {"epoch": 3})
    Traceback (most recent call last):
        ...
    TypeError: fit() got an unexpected keyword argument 'epoch'; did you mean 'epochs'?
    """
    known = options_of(kind)
    check_names(caller, passed, known)
    values = {name: passed.get(name, option.default) for name, option in known.items()}
    for name, option in known.items():
        if values[name] is not option.default:
            option.check(name, values[name])
        if isinstance(values[name], np.integer):  # in sums with NumPy's int8 others wrap
            values[name] = int(values[name])
    return values


def minimised_of(caller: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `supervised` among the options, without those that are None.

    Raises:
      ValueError: neither or both of an objective and these arguments.

    >>> import jaxdeep as jd
    >>> list(minimised_of("fit", {"loss": jd.losses.mse, "objective": None, "penalty": None}))
    ['loss']
    """
    minimised = {name: options[name] for name in SUPERVISED if options.get(name) is not None}
    objective = options["objective"]
    if objective is None and "loss" not in minimised:
        raise ValueError(f"{caller} needs a loss=, or an objective= for anything not supervised")
    if objective is not None and minimised:
        raise ValueError(f"objective= already says what is minimised: drop {', '.join(minimised)}")
    return minimised


def check_names(caller: str, passed: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a name that is not among the known ones."""
    for name in passed:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            if (here := _ELSEWHERE.get(name)) is not None and here[0] in known:
                hint = f"here it is {here[1]}"
            raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}; {hint}")


# Names that Keras, PyTorch and scikit-learn have for what is another option here, with that and a word.
_ELSEWHERE = {
    "validation_split": ("validation", "validation=0.2, which draws the rows at random"),
    "validation_data": ("validation", "validation=(x, y)"),
    "eval_set": ("validation", "validation=(x, y)"),
    "verbose": ("progress", "progress=True or progress=False"),
    "sample_weight": ("class_weight", "a third array of the data, (x, y, weights)"),
    "loss_weights": ("loss", "loss=jaxdeep.losses.weighted(losses, weights)"),
    "initial_epoch": ("checkpoint", "checkpoint= or train_state=, from which a run goes on"),
    "accumulate_grad_batches": ("accumulation_steps", "accumulation_steps="),
    "steps_per_execution": ("epochs_per_call", "epochs_per_call="),
    "max_epochs": ("epochs", "epochs="),
    "num_epochs": ("epochs", "epochs="),
    "lr": ("epochs", "the optimizer's learning rate"),
    "learning_rate": ("epochs", "the optimizer's own"),
}


def takes(kind: type, *, but: Collection[str] = ()) -> Callable[[F], F]:
    """A decorator that shows options in the signature and docstring of a function of ``**options``.

    In the docstring they take the place of a line ``{options}``. Those named in `but` are left out.
    """
    shown = {name: option for name, option in options_of(kind).items() if name not in but}

    def show(function: F) -> F:
        signature = inspect.signature(function)
        explicit = [
            p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        named = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=option.default,
                annotation=_hints(kind)[name].__origin__,
            )
            for name, option in shown.items()
        ]
        function.__signature__ = signature.replace(parameters=[*explicit, *named])  # type: ignore[attr-defined]
        lines = "\n".join(_line(name, option) for name, option in shown.items())
        function.__doc__ = inspect.cleandoc(function.__doc__ or "").replace("  {options}", lines)
        return function

    return show


def _line(name: str, option: Option) -> str:
    text = option.text if option.default is None else f"{option.text} By default {option.default!r}."
    return textwrap.fill(
        f"{name}: {text}", 105, initial_indent=" " * 2, subsequent_indent=" " * 4, break_on_hyphens=False
    )


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Annotated types by name; those of base classes come first, as they are written."""
    return get_type_hints(kind, include_extras=True)


def _texts(kind: type) -> dict[str, str]:
    """What docstrings say of each option; nothing if Python was told to drop them (``-OO``)."""
    texts = {}
    for base in _KINDS:  # a TypedDict does not know its base classes, and has all of their names
        if not base.__annotations__.keys() <= kind.__annotations__.keys():
            continue
        _, _, listed = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
        for entry in re.split(r"^  (?=\w)", listed, flags=re.MULTILINE)[1:]:
            name, text = " ".join(entry.split()).split(": ", 1)
            texts[name] = text
    return texts
