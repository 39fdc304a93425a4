"""`population`, which trains a population whose worst members are replaced by copies of the best."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._compilation import check_untraced, compiled, meant_nans, meant_transfers, run_once
from jaxdeep._identity import key_of
from jaxdeep._shapes import Array, ArrayLike, Bool, Float, Integer, PyTree
from jaxdeep.fitting.description import About, describe
from jaxdeep.fitting.holdout import held_out, is_share
from jaxdeep.fitting.interruption import Interruption, interruptible
from jaxdeep.fitting.progress import compiling, ordered, reporting
from jaxdeep.fitting.setup import Setup
from jaxdeep.fitting.sources import is_batches
from jaxdeep.lasting.fingerprint import fingerprint
from jaxdeep.optimizers import hyperparams
from jaxdeep.search.builder import Build, Builder, check_data
from jaxdeep.search.populations.exploit import Bounds, Range, check_numbers, exploit_and_explore
from jaxdeep.search.populations.lineage import Generation, PopulationResult
from jaxdeep.search.populations.members import check_begun, check_members, explored_in, members_of
from jaxdeep.search.populations.population_store import Store, opened
from jaxdeep.search.resampling.subset import WHOLE, DeviceData
from jaxdeep.search.spaces.space import Point
from jaxdeep.search.tables.table import scalars
from jaxdeep.train import monitors
from jaxdeep.train.columns import check_told_apart_by_column
from jaxdeep.train.data import as_arrays, count_examples, to_device
from jaxdeep.train.evaluated import is_another
from jaxdeep.train.missing import with_nan
from jaxdeep.train.monitors import Limits
from jaxdeep.train.options import RowOptions, takes
from jaxdeep.train.run import RunState
from jaxdeep.tree import shapes

_PURE = "jaxdeep.search.exploit_and_explore and jaxdeep.train.make_run"


@takes(RowOptions)
@meant_transfers()
@meant_nans()
def population(
    builder: Build,
    space: Mapping[str, Any] | Sequence[Point],
    *,
    data: PyTree,
    key: jax.Array | int,
    every: int,
    ranges: Mapping[str, Bounds] | None = None,
    fraction: float = 0.25,
    factors: Sequence[float] = (0.8, 1.2),
    resample: float = 0.25,
    monitor: str | None = None,
    mode: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **arguments: Unpack[RowOptions],
) -> PopulationResult:
    """Population-based training: N runs side by side, of which the worst go on from the best.

    After each `every` epochs the worst ⌈f N⌉ members become copies of members drawn from the best
    ⌈f N⌉: their parameters, model state and optimizer state. Then hyperparameters of the copies are
    explored: multiplied by one of the `factors`, or drawn anew (`jaxdeep.search.exploit_and_explore`).
    So the outcome is a model and a *schedule* of hyperparameters, not a point:
    ``result.schedule()`` traces it back through the best member's ancestors.

    Explored are hyperparameters of jaxdeep's optimizers, which are leaves of their states: all floats of
    the points, by their names in `jaxdeep.optimizers.hyperparams`. Everything else is the same for all
    members, which are one program under `jax.vmap` on one device. Member i begins as
    ``jd.fit(…, key=jax.random.fold_in(key, i))`` does. All are compared after the same number of epochs.

    Args:
      builder: ``hp -> optimizer``, or ``hp -> dict`` of arguments of `jaxdeep.fit`, as for
        `jaxdeep.sweep`. It hands the explored hyperparameters on as they are.
      space: the points that the members begin with, at least two: a list of them, such as
        `jaxdeep.search.sobol` draws, or a grid as a dict of lists. Equal points of a list are members of
        their own.
      data: arrays, as for `jaxdeep.sweep`.
      key: random key of the members and of the exploration, or its seed; there is no default.
      every: epochs from one exploit to the next. There is none after the last epoch.
      ranges: for each hyperparameter that is explored, a distribution or a pair ``(low, high)``, as for
        `jaxdeep.search.exploit_and_explore`; its values never leave it. By default these are the
        distributions that `space` was drawn from.
      fraction: f, in [0, 0.5]; with 0 the members are independent runs.
      factors, resample: as for `jaxdeep.search.exploit_and_explore`.
      monitor, mode: the metric by which members are compared, as for `jaxdeep.train.EarlyStopping`.
      checkpoint: a local directory. All members are saved there after each `every` epochs and at the
        end, and a population that is found there is continued, to the same bits as without the
        interruption. `epochs` may have grown. Another population (other points, options or values of
        the data) is refused, and so is another process meanwhile.
      progress: show a progress bar, or print lines without a terminal.
      {options}

    A member whose metric or parameters are not finite is the worst until it is replaced, and so is one
    that had a loss that is not finite, with ``on_nonfinite="raise"`` or "stop". "skip" and "ignore" are
    as in `jaxdeep.fit`. `early_stopping` and `plateau` do not go with a population.

    Returns:
      A `PopulationResult`: the best member's parameters, the history of all, and the lineage. Ctrl-C
      ends the members after the epoch at hand. A second one raises at once, and so does one before the
      first epoch.

    Raises:
      ValueError, TypeError: before the members are trained: members that are not one program, a float
        that is no hyperparameter or has no range, a hyperparameter that a schedule or an array drives, a
        point out of its range, a directory of something else, and what `jaxdeep.sweep` refuses.
      FloatingPointError: no member is finite.

    Source: Jaderberg et al., "Population Based Training of Neural Networks" (arXiv:1711.09846).

    >>> import jaxdeep as jd
    >>> x = jnp.linspace(-1, 1, 64)[:, None]
    >>> result = population(lambda hp: jd.optimizers.sgd(hp["learning_rate"]),
    ...                     {"learning_rate": [1e-3, 1e-2, 0.1, 10.0]}, every=2, epochs=4,
    ...                     ranges={"learning_rate": (1e-3, 10.0)}, key=jax.random.key(0),
    ...                     model=jd.nn.dense(1), data=(x, 3 * x), loss=jd.losses.mse, batch_size=16,
    ...                     progress=False)
    >>> result.history["loss"].shape, result.lineage[1].parents.tolist()
    ((4, 4), [0, 1, 2, 1])
    """
    trees = [data, key, space, arguments.get("validation"), arguments.get("class_weight")]
    check_untraced("population", [t for t in trees if not isinstance(t, Iterator)], instead=_PURE)
    if not callable(builder):
        raise TypeError(f"builder must be a function of a point, got {builder!r}")
    key = _checks.as_key(key)
    every = _checks.check_count("every", every)
    check_numbers(fraction, factors, resample)
    _checks.check_choice("mode", mode, ("min", "max", None))
    watched = monitors.EarlyStopping(monitor=monitor, mode=mode)
    monitors.check_watched("population", watched)
    _checks.check_flag("progress", progress)
    if checkpoint is not None:
        _checks.check_local_path("checkpoint", checkpoint)
    # from here on, since Python may only print what is raised while members are traced
    with interruptible(show=False, begun=False) as interruption:
        validation = arguments.pop("validation", None)
        share = validation if is_share(validation) else None
        if share is not None:  # all members hold out the same rows
            data, validation = held_out(data, validation, key)
        data = _on_device("data", data)
        validation = None if validation is None else _on_device("validation", validation)
        check_untraced("population", data, validation, instead=_PURE)
        points, ranges = members_of(space, ranges)
        build = Builder(builder, arguments, "population")
        if share is not None:
            build.holds_out("validation", share)
        build.balance = functools.partial(DeviceData(data, validation).balanced, WHOLE)
        setups = [build(point) for point in points]
        check_members(points, setups)
        like = check_data(setups[0], data, validation, "population")
        explored = explored_in(points, ranges, like.train_state.opt_state)
        name, sign = monitors.resolve(watched, scalars(like.history))
        better = "min" if sign > 0 else "max"
        rules = Rules(explored, float(fraction), better, tuple(map(float, factors)), float(resample))
        course = Course(setups[0], rules, key, every, name)
        _check_every(course, validation)

        likes = [shapes(part) for part in (data, validation) if part is not None]
        runs = _begun(setups, likes, key)
        check_begun(points, runs.train_state.opt_state, explored)
        about = None
        if checkpoint is not None:
            about = _described(course, runs, likes, {"data": data, "validation": validation})
        with opened(checkpoint, about) as store:
            interruption.told = progress
            ended = _evolved(course, store, runs, data, validation, interruption)
    return _result(course, *ended)


class Rules(NamedTuple):
    """How the worst are replaced, as for `exploit_and_explore`."""

    ranges: Mapping[str, Range]
    fraction: float
    mode: str
    factors: tuple[float, ...]
    resample: float


class Course(NamedTuple):
    """The settings by which a population goes on from one generation to the next.

    Attributes:
      setup: that of the first member.
      rules: how the worst are replaced.
      key: the random key of the population.
      every: epochs from one exploit to the next.
      monitor: the metric by which members are compared.
    """

    setup: Setup
    rules: Rules
    key: jax.Array
    every: int
    monitor: str

    @property
    def epochs(self) -> int:
        """The number of epochs of the whole run."""
        return self.setup.epochs

    @property
    def sign(self) -> float:
        """The sign that makes smaller values better."""
        return 1.0 if self.rules.mode == "min" else -1.0


# --- before the first epoch -------------------------------------------------------------------------


def _on_device(name: str, data: PyTree) -> PyTree:
    if is_batches(data):
        raise TypeError(
            f"population needs arrays as {name}: every member passes over them; got {data!r}"
        )
    data = as_arrays(data, name)
    count_examples(data, name)
    check_told_apart_by_column(data, name)
    return to_device(data)


def _check_every(course: Course, validation: PyTree) -> None:
    """Refuse exploits after epochs that are not evaluated."""
    validate_every = course.setup.options["validate_every"]
    if validation is not None and course.every % validate_every:
        raise ValueError(
            f"every must be a multiple of validate_every, {validate_every}, so that members have been "
            f"evaluated when they are compared, got {course.every}"
        )


def _unstopped(setup: Setup) -> Setup:
    """The setup, whose run goes on after a loss that is not finite: the member may be replaced."""
    if not _stops(setup):
        return setup
    return dataclasses.replace(setup, options={**setup.options, "on_nonfinite": "ignore"})


def _stops(setup: Setup) -> bool:
    return setup.options["on_nonfinite"] in ("raise", "stop")


def _begun(setups: Sequence[Setup], likes: Sequence[PyTree], key: jax.Array) -> RunState:
    """The members before their first epoch, stacked."""
    members = [
        _unstopped(setup).start(likes, jax.random.fold_in(key, i)) for i, setup in enumerate(setups)
    ]
    return run_once(_stacked, members, key=key_of("stacked members"))


def _stacked(members: list[RunState]) -> RunState:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def _described(
    course: Course, runs: RunState, likes: Sequence[PyTree], arrays: Mapping[str, PyTree]
) -> About:
    """The description by which a directory tells this population from others."""
    contents = {name: fingerprint(part) for name, part in arrays.items() if part is not None}
    ranges = {name: [type(bounds).__name__, *bounds] for name, bounds in course.rules.ranges.items()}
    rules = course.rules._asdict() | {"ranges": ranges}
    key = jax.random.key_data(course.key) if _is_typed(course.key) else course.key
    about = {"every": course.every, "monitor": course.monitor, "key": np.asarray(key).tolist()}
    return describe(course.setup, runs, likes, contents) | {"population": rules | about}


def _is_typed(key: jax.Array) -> bool:
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def _trainer(
    setup: Setup, runs: RunState, data: PyTree, validation: PyTree
) -> Callable[[RunState, int], RunState]:
    """A function that takes stacked runs to the end of an epoch."""
    setup = _unstopped(setup)
    limits = setup.limits

    def segment(
        run: RunState, data: PyTree, validation: PyTree, until: ArrayLike, limits: Limits
    ) -> RunState:
        return setup.program.segment(run, data, validation, until, limits)

    program = compiled(
        jax.vmap(segment, (0, None, None, None, None)),
        *(runs, data, validation, np.int32(0), limits),
        key=key_of("population", setup.key),
        donate_argnums=0,
    )
    return lambda runs, until: program(runs, data, validation, np.int32(until), limits)


# --- from generation to generation ------------------------------------------------------------------


def _evolved(
    course: Course,
    store: Store,
    runs: RunState,
    data: PyTree,
    validation: PyTree,
    interruption: Interruption,
) -> tuple[RunState, list[Generation], int]:
    """The members after the epochs that are left, all generations, and the epochs that were done."""
    show = interruption.told
    saved = store.restore(runs, course.every, course.epochs)
    epoch, runs, lineage = (0, runs, []) if saved is None else saved
    with compiling(show=show):
        train = _trainer(course.setup, runs, data, validation)
    title = f"{len(runs.epoch)} members"
    interruption.begin()
    with reporting(course.epochs, None, show=show, title=title, begun=epoch) as report:
        while epoch < course.epochs and not interruption.noted:
            runs, generation = _next_generation(course, runs, epoch)
            lineage.append(generation)
            until = min(epoch + course.every, course.epochs)
            while epoch < until and not interruption.noted:
                runs, epoch = train(runs, epoch + 1), epoch + 1
                report(epoch, _shown(course, runs, epoch))
            if epoch == until:
                store.save(generation, until, runs)
    return runs, lineage, epoch


def _next_generation(course: Course, runs: RunState, epoch: int) -> tuple[RunState, Generation]:
    """The members that go on after `epoch` epochs: the same, or after an exploit."""
    members = len(runs.epoch)
    parents = np.arange(members)
    if epoch:
        values = _values(course, runs, epoch)
        _check_alive(course, runs, values, epoch)
        key = jax.random.fold_in(jax.random.fold_in(course.key, members), epoch)
        args = key, runs, values
        program = functools.partial(_exploited, course.rules)
        runs, chosen = run_once(program, *args, key=key_of("exploited", course.rules))
        parents = np.asarray(chosen, int)
    return runs, Generation(epoch, parents, _in_force(course, runs))


def _exploited(
    rules: Rules, key: jax.Array, runs: RunState, values: Float[Array, "members"]
) -> tuple[RunState, Integer[Array, "members"]]:
    """The runs after the worst have taken over their parents' states, and the parents' indices."""
    states, parents = exploit_and_explore(key, runs.train_state, values, **rules._asdict())
    copied = jax.tree.map(lambda leaf: leaf[parents], runs)
    # Each place among the members keeps its own history, whatever state it goes on from.
    return copied._replace(train_state=states, history=runs.history), parents


def _values(course: Course, runs: RunState, epoch: int) -> np.ndarray:
    """The metric of each member after an epoch; NaN for those that diverged."""
    is_finite = run_once(_finite, runs, key=key_of("finite members"))
    is_finite, bad_step = jax.device_get((is_finite, runs.bad_step))
    lives = is_finite & (bad_step < 0) if _stops(course.setup) else is_finite
    return np.where(lives, _column(course, runs, epoch), np.nan)


def _finite(runs: RunState) -> Bool[Array, "members"]:
    """Whether all parameters and the state of each member are finite."""
    ts = runs.train_state
    leaves = jax.tree.leaves((ts.params, ts.state))
    floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    by_leaf = [jnp.isfinite(leaf).reshape(len(runs.epoch), -1).all(axis=1) for leaf in floats]
    return functools.reduce(jnp.logical_and, by_leaf, jnp.ones(len(runs.epoch), bool))


def _column(course: Course, runs: RunState, epoch: int) -> np.ndarray:
    """What the history holds of the metric of each member in an epoch."""
    history = jax.device_get({course.monitor: runs.history[course.monitor]})
    return with_nan(history)[course.monitor][:, epoch - 1]


def _in_force(course: Course, runs: RunState) -> dict[str, np.ndarray]:
    values = jax.device_get(hyperparams(runs.train_state.opt_state))
    return {name: np.asarray(values[name], float) for name in course.rules.ranges}


def _check_alive(course: Course, runs: RunState, values: np.ndarray, epoch: int) -> None:
    """Refuse to go on with members that have all diverged."""
    if not np.isfinite(values).any():
        hyperparameters = "; ".join(
            f"{name} was {', '.join(f'{v:.3g}' for v in values)}"
            for name, values in _in_force(course, runs).items()
        )
        raise FloatingPointError(
            f"no member of the population has a finite {course.monitor} and finite parameters after "
            f"{epoch} epochs; {hyperparameters}"
        )


def _shown(course: Course, runs: RunState, epoch: int) -> dict[str, float]:
    """The best value of an epoch, for the progress bar."""
    values = _column(course, runs, epoch)
    finite = course.sign * values[np.isfinite(values)]
    return {f"best_{course.monitor}": course.sign * float(finite.min())} if finite.size else {}


# --- after the last epoch ---------------------------------------------------------------------------


def _result(
    course: Course, runs: RunState, lineage: Sequence[Generation], epoch: int
) -> PopulationResult:
    """The result after `epoch` epochs, of which an interruption may have left fewer than there are."""
    compared = epoch
    if course.monitor.startswith("val_") and epoch < course.epochs:
        compared -= epoch % course.setup.options["validate_every"]
    if not compared:  # interrupted before members could be compared
        raise KeyboardInterrupt
    values = _values(course, runs, compared)
    _check_alive(course, runs, values, compared)
    best = int(np.nanargmin(np.where(np.isfinite(values), course.sign * values, np.nan)))
    run = jax.tree.map(lambda leaf: leaf[best], runs)
    setup = _unstopped(course.setup)
    ts = run.train_state
    if is_another(ts.opt_state, setup.options["ema"]):
        ts = run_once(lambda run: setup.program.finish(run)[0], run, key=key_of("finish", setup.key))
    params, state = jax.device_get((ts.params, ts.state))
    history = with_nan(jax.device_get(runs.history))
    history = {name: np.swapaxes(history[name], 0, 1)[:epoch] for name in ordered(history)}
    return PopulationResult(
        params,
        state,
        best,
        history,
        tuple(lineage),
        steps_per_epoch=int(run.train_state.step) // epoch,
        stopped="interrupted" if epoch < course.epochs else None,
    )
