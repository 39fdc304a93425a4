"""`fit`, which trains a model from checks to history, with progress and checkpoints."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Unpack

import jax
import numpy as np
import optax

from jaxdeep import _checks
from jaxdeep._arrays import as_array
from jaxdeep._compilation import check_untraced, meant_nans, meant_transfers, run_once
from jaxdeep._identity import key_of
from jaxdeep._shapes import PyTree
from jaxdeep.diagnostics.layer_flow import LayerMeasure
from jaxdeep.fitting.checkpoint import Store, opened
from jaxdeep.fitting.description import beginning, describe
from jaxdeep.fitting.drive import Drive, Watch, driver
from jaxdeep.fitting.evaluation import EVALUATED
from jaxdeep.fitting.finite import check_finite, described
from jaxdeep.fitting.holdout import check_unseen, held_out, is_share
from jaxdeep.fitting.interruption import Interruption, interruptible
from jaxdeep.fitting.logs import listed, teller
from jaxdeep.fitting.phases import in_phases
from jaxdeep.fitting.placement import placed
from jaxdeep.fitting.progress import compiling, ordered, reporting
from jaxdeep.fitting.result import TRAINED_WITH, FitResult, Problem
from jaxdeep.fitting.setup import (
    Setup,
    check_begun,
    check_statistics,
    frozen_of,
    make_setup,
    trial,
    try_out,
)
from jaxdeep.fitting.sources import Source, go_to, is_batches, keep_to, position_of, sources_of
from jaxdeep.train.batches import Metrics
from jaxdeep.train.data import check_pair
from jaxdeep.train.evaluated import is_another
from jaxdeep.train.going_on import check_going_on, comes_of
from jaxdeep.train.missing import with_nan
from jaxdeep.train.options import Callback, FitOptions, filled, minimised_of, options_of, takes
from jaxdeep.train.records import Epochs
from jaxdeep.train.run import RunState
from jaxdeep.train.state import Network, check_floats, initial_of
from jaxdeep.train.step import Measure
from jaxdeep.train.weights import balanced_by, by_class, is_balanced

_PURE = "jaxdeep.train.init and jaxdeep.train.make_run"


@takes(FitOptions)
@meant_transfers()
def fit(
    model: Network,
    data: PyTree,
    *,
    optimizer: optax.GradientTransformation,
    key: jax.Array | int | None = None,
    **options: Unpack[FitOptions],
) -> FitResult:
    """Train `model` on `data`, in epochs that are run by one compiled program.

    The same key gives the same result, bit for bit, on the same machine and however many epochs a call
    of the program runs. A run is ``jd.train.init(…, key=key)`` followed by the function that
    `jd.train.make_run` makes.

    Ctrl-C, or a KeyboardInterrupt that a callback raises, ends the run after the epochs of the call at
    hand (batch by batch from the host, after the epoch at hand), and `fit` returns what it has learned,
    with ``result.stopped == "interrupted"``; a checkpoint is written if there are any, from which
    another `fit` goes on. A second one raises at once, and so does one before the first epoch.

    A process compiles a run once: another `fit` with the same model, loss, data shapes and options, but
    another learning rate, weight decay, seed, number of epochs, patience or callback, uses the same
    programs. These are numbers: a schedule or a JAX array in their place is a part of the program, and
    of epochs it has room for 1,024, or the power of two above. Models, losses and optimizers of jaxdeep
    are the same if they were made alike; a function of your own is the same only as the same object. To
    keep compiled programs between processes, set
    ``jax.config.update("jax_compilation_cache_dir", folder)`` before the first call, and
    ``"jax_persistent_cache_min_compile_time_secs"`` to 0.

    Args:
      model: a `jaxdeep.nn.Model`.
      data: arrays with a row per example: ``(x, y)`` or ``(x, y, weights)`` with `loss`, any pytree with
        `objective`. NumPy arrays are moved to the device once; memory maps are streamed. Instead of
        arrays, a loader of batches of this form: an iterable that is iterated over once an epoch (Grain,
        PyTorch), a function from the epoch, 0, 1, …, to an iterable, or with `steps_per_epoch` an
        iterator that goes on. The loader decides what `batch_size`, `shuffle` and `drop_remainder` say
        for arrays. Passing `shuffle` or `drop_remainder` with a loader is an error, and so is a
        `batch_size` other than its own, unless `validation` is arrays, which are evaluated in batches
        of it. Batches without rows are left out; all others have the dtypes of the first.
        Whatever is an array of numbers is taken: pandas' Series and DataFrames, torch tensors on the
        host, h5py data sets (read at once, or block by block with ``stream=True``), lists of numbers.
      optimizer: any optax transformation, jaxdeep's included.
      key: random key of initialisation, shuffling and dropout, ``jax.random.key(0)``, or its seed, 0;
        there is no default. With `train_state` it is left out, as that has its own.
      {options}

    Returns:
      A `FitResult`: ``result.params``, ``result.state``, ``result.history["val_accuracy"]``.

    Convolutions whose gradients JAX derives run slowly inside a compiled loop on a CPU. There the host
    dispatches step after step instead, with the same numbers to rounding.

    Raises:
      ValueError, TypeError: before anything is compiled: arrays of different lengths, an empty data
        set, a batch larger than the data, batches of one row for batch norms, labels outside the
        model's classes, shapes the model or the loss refuses, whole numbers beyond 32 bits (without
        x64), arrays with a column whose differences JAX' float does not hold, such as times of 1.7e9 s
        within a minute (of files beyond 128 MiB as many bytes are looked at, evenly spread), weights
        that are negative or not finite, masked values, options that a loader decides, parameters of
        another model, neither or both of `loss` and `objective`, a key that is not a random key, a
        checkpoint directory of another run (the error says what differs) or of one on arrays of other
        values, a loader whose batches are not those of the run that is to go on. At the batch itself:
        one of other dtypes than the first, NumPy labels and weights that would have been refused in
        the first (arrays on a device are not looked at, which would wait for it). After the first
        epoch: float64 batches of a loader with such a column, if all have the shape of the first but
        for their rows.
      TypeError: a call inside `jax.jit`, `jax.vmap` or `jax.grad` with traced values; after the epochs
        of a call, a callback that returned neither None nor a boolean.
      FloatingPointError: the loss was not finite (the error names step, epoch and the first non-finite
        leaf), or every loss was finite and the final parameters are not.

    >>> import jaxdeep as jd
    >>> x = jax.random.normal(jax.random.key(1), (200, 2)); y = (x[:, 0] > x[:, 1]).astype(int)
    >>> result = fit(jd.nn.dense(2), (x, y), loss=jd.losses.softmax_cross_entropy,
    ...              optimizer=jd.optimizers.adam(0.1), metrics={"accuracy": jd.metrics.accuracy},
    ...              epochs=20, key=jax.random.key(0), progress=False)
    >>> bool(result.history["accuracy"][-1] > 0.95)
    True
    """
    chosen: FitOptions = filled("fit", FitOptions, options)
    trees = [data, key, *(chosen[name] for name in ("validation", "params", "state", "train_state"))]
    check_untraced("fit", [tree for tree in trees if not isinstance(tree, Iterator)], instead=_PURE)
    key = _key_of_run(key, chosen)
    if is_share(share := chosen["validation"]):
        check_unseen(model, "validation", share)
        data, validation = held_out(data, share, key, stream=chosen["stream"])
        chosen, options = {**chosen, "validation": validation}, {**options, "validation": validation}
    if chosen["phases"] is not None:
        return in_phases(fit, model, data, optimizer, key, chosen, options)
    chosen = _balanced(chosen, data)
    setup = make_setup("fit", model, optimizer, chosen)
    setup = dataclasses.replace(setup, measure=_measure(setup, chosen["diagnostics"]))
    nan_is_no_mistake = chosen["on_nonfinite"] != "raise"
    # the workers of a loader, which begin with it, leave Ctrl-C to this process, too
    with (
        meant_nans(meant=nan_is_no_mistake),
        interruptible(show=chosen["progress"], begun=False) as interruption,
    ):
        sources, mesh = sources_of(data, chosen, passed=options, pairs=setup.is_supervised)
        size = min(chosen["batch_size"], sources[0].batch_size)
        with_its_size: FitOptions = {**chosen, "batch_size": size}
        setup = dataclasses.replace(setup, mesh=mesh, options=with_its_size)
        likes = [source.like for source in sources]
        goes_on = chosen["train_state"]
        initial = goes_on or initial_of(chosen["params"], chosen["state"])
        check_begun(setup, likes[0], initial if goes_on is None else (goes_on.params, goes_on.state))
        if goes_on is not None:
            check_going_on(setup.optimizer, goes_on, chosen["trainable"])
        begun = setup.shapes(likes[0], key, initial)
        slow_in_loops, bounds = try_out(setup, begun, {s.name: s.sample for s in sources}, likes[0])
        check_statistics(setup, begun, likes[0])
        check_floats(begun.params, chosen["trainable"])
        keep_to(sources, bounds, trial(setup, begun))
        run = setup.start(likes, key, initial)
        check_untraced("fit", run, instead=_PURE)
        placement = placed(setup.mesh, run, run.train_state.params, chosen["shard"])
        about = None
        if chosen["checkpoint"] is not None:
            about = describe(setup, run, likes, {s.name: s.fingerprint() for s in sources})
            about |= {"began_with": beginning(run, passed=initial is not None)}
        with opened(about, chosen) as store:
            run, position = store.restore(run, setup.epochs)
            run = placement.put(run)
            go_to(sources, position)
            with compiling(show=chosen["progress"]):
                looped = not (slow_in_loops and jax.default_backend() == "cpu")
                drive = driver(
                    *(setup, run, sources, placement),
                    stream=chosen["stream"],
                    steps_per_call=chosen["steps_per_call"],
                    looped=looped,
                )
            ended = _driven(drive, setup, run, sources, store, with_its_size, interruption)
    with meant_nans(meant=nan_is_no_mistake):
        return _finished(*ended)


def _driven(
    drive: Drive,
    setup: Setup,
    run: RunState,
    sources: Sequence[Source],
    store: Store,
    options: FitOptions,
    interruption: Interruption,
) -> tuple[Setup, RunState, dict[str, np.ndarray], str | None]:
    """The run after the epochs that are left, its history, and why it ended before its last epoch.

    Between the calls of the program, what the host has to do is done.
    """
    done, stopped, bad_step, history = _look(run)
    steps, ended = sources[0].steps, False

    def call_back(now: Epochs) -> None:
        nonlocal ended
        for callback in options["callbacks"]:
            ended |= _called(callback, now, interruption)

    def within(run: RunState, means: Metrics) -> None:
        done, _, _, history = _look(run)
        call_back(Epochs(done, history, run.train_state, jax.device_get(means)))

    watch = Watch(lambda: ended or interruption.noted, within)
    tell = teller(listed(options["log"]), done)
    tell(done, history)
    with reporting(setup.epochs, steps, show=options["progress"], begun=done) as report:
        interruption.begin()
        while done < setup.epochs and not (stopped or watch.ends()):
            run = drive(run, done + options["epochs_per_call"], watch)
            done, stopped, bad_step, history = _look(run)
            if bad_step >= 0 and options["on_nonfinite"] == "raise":
                raise FloatingPointError(described(run.train_state, bad_step, done))
            last = {name: values[-1] for name, values in history.items()}
            store.save(run, last, position_of(sources))
            tell(done, history)
            report(done, _shown(last, setup.measure))
            call_back(Epochs(done, history, run.train_state))
    why = None
    if stopped:
        why = "diverged" if bad_step >= 0 and _stops_at_nonfinite(setup) else "early_stopping"
    elif interruption.noted:
        why = "interrupted"
    elif ended and done < setup.epochs:
        why = "callback"
    return setup, run, history, why


def _stops_at_nonfinite(setup: Setup) -> bool:
    return setup.options["on_nonfinite"] in ("raise", "stop")


def _called(callback: Callback, now: Epochs, interruption: Interruption) -> bool:
    """Call back, and return whether that ends the run. An interruption of it does, too."""
    try:
        return _ends(callback, callback(now))
    except KeyboardInterrupt:
        if interruption.noted:
            raise
        interruption.note()
        return False


def _ends(callback: Callback, answer: object) -> bool:
    """Whether what a callback returned ends the run: the truth of a boolean of any library."""
    if answer is None or isinstance(answer, bool):
        return bool(answer)
    refusal = f"callbacks must return None, True or False; {callback!r} returned {answer!r}"
    try:
        known = as_array("what a callback returns", answer)
    except TypeError:
        raise TypeError(refusal) from None
    if known.shape != () or known.dtype != bool:
        raise TypeError(refusal)
    return bool(known)


def _finished(
    setup: Setup, run: RunState, history: dict[str, np.ndarray], stopped: str | None
) -> FitResult:
    """The result of a run that has ended, checked to be finite."""
    program = setup.program
    ts, evaluated = run.train_state, None
    if setup.restores or is_another(ts.opt_state, setup.options["ema"]):
        key = key_of("finish", setup.key_now())
        ended = run_once(lambda run: program.finish(run)[0], run, key=key)
        evaluated = ended.params, ended.state
    params, state = evaluated or (ts.params, ts.state)
    if setup.options["on_nonfinite"] == "raise":
        check_finite(ts._replace(params=params, state=state))
    comes_of(ts, setup.optimizer)
    early = setup.options["early_stopping"] is not None
    best_epoch = int(run.decisions.best_epoch) if early else None
    minimised = {name: setup.options.get(name) for name in EVALUATED}
    minimised = {name: value for name, value in minimised.items() if value is not None}
    problem = Problem(setup.model, minimised, _trained_with(setup))
    return FitResult(ts, history, best_epoch, stopped, problem, evaluated)


def _trained_with(setup: Setup) -> dict[str, Any]:
    """The arguments of `fit` that decide what a step does, but for defaults and the size of batches."""
    known, chosen = options_of(FitOptions), setup.options
    passed = {name: chosen.get(name, known[name].default) for name in TRAINED_WITH}
    passed = {name: value for name, value in passed.items() if value is not known[name].default}
    return {"optimizer": setup.optimizer, **passed}


def _key_of_run(key: Any, options: FitOptions) -> jax.Array:
    """The key of a run, which is that of the train state if it goes on from one.

    Raises:
      TypeError: no key. ValueError: what is passed beside a train state, which decides it.
    """
    if (ts := options["train_state"]) is None:
        return _checks.as_key(key)
    decided = {"key": key} | {name: options[name] for name in ("params", "state", "phases")}
    passed = [name for name, value in decided.items() if value is not None]
    if passed:
        raise ValueError(f"train_state= is a whole run to go on from: drop {', '.join(passed)}")
    if is_share(share := options["validation"]):
        raise ValueError(
            f"validation={share} draws its rows by a key, and would draw others than those that were "
            "left out before train_state=: pass validation=(x, y)"
        )
    _checks.check_key(ts.key)
    return ts.key


def _balanced(options: FitOptions, data: PyTree) -> FitOptions:
    """The options, with numbers as weights of classes."""
    if options["objective"] is not None or not is_balanced(options["class_weight"]):
        return options
    if is_batches(data):
        raise ValueError(
            "class_weight='balanced' needs all labels before the run, and a loader has them batch by "
            "batch; give numbers: jaxdeep.train.balanced_class_weight(y)"
        )
    if jax.process_count() > 1:
        raise ValueError(
            "class_weight='balanced' would be of the rows of this process alone; give numbers: "
            "jaxdeep.train.balanced_class_weight(y) of all rows"
        )
    check_pair(data, "data")
    return {**options, "class_weight": by_class(balanced_by(data))}


def _measure(setup: Setup, every: int | None) -> Measure | None:
    """The measure of the layers at every `every` steps; None if `diagnostics` is."""
    if every is None:
        return None
    if not setup.is_supervised:
        raise ValueError(
            "diagnostics= needs a loss=: with an objective= of your own it is not known where the model "
            "is applied; jaxdeep.diagnostics.gradient_flow takes an objective"
        )
    minimised = minimised_of("fit", setup.options) | frozen_of(setup.options)
    return LayerMeasure(setup.model, minimised, every, setup.options["accumulation_steps"])


def _look(run: RunState) -> tuple[int, bool, int, dict[str, np.ndarray]]:
    """Epochs done, whether the run has stopped, the first bad step and the history, on the host."""
    done, stopped, bad_step, history = jax.device_get(
        (run.epoch, run.stopped, run.bad_step, run.history)
    )
    done = int(done)
    values = with_nan(history, done)
    return done, bool(stopped), int(bad_step), {name: values[name] for name in ordered(values)}


def _shown(values: dict[str, np.ndarray], measure: Measure | None) -> dict[str, np.ndarray]:
    """The values that a progress bar shows, which are all but the measurements of layers."""
    measured = getattr(measure, "fields", ())
    return {name: value for name, value in values.items() if name.split("/")[0] not in measured}
