"""`evaluate`, the loss and the metrics of a model on data of any kind and size."""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdeep._arrays import check_leaves, leaves_of
from jaxdeep._compilation import check_untraced, kept, meant_nans, meant_transfers
from jaxdeep._identity import key_of
from jaxdeep._shapes import Array, ArrayLike, Bool, Float, PyTree
from jaxdeep.fitting.ahead import ahead, told_apart
from jaxdeep.fitting.drive import by_shape
from jaxdeep.fitting.loaders import check_batch
from jaxdeep.fitting.placement import Placement, fetched, mesh_of, usable
from jaxdeep.fitting.progress import ordered
from jaxdeep.fitting.rows import at_once, examples_in
from jaxdeep.fitting.setup import Setup, make_setup, trial, try_out
from jaxdeep.fitting.sources import LoaderSource, Source, source_of
from jaxdeep.metrics import Tally
from jaxdeep.nn.fits import check_fit
from jaxdeep.nn.model import Model
from jaxdeep.train.batches import COUNTED, Metrics, Totals, averages, none_yet, values_of, with_batch
from jaxdeep.train.data import count_rows, tree_bytes, with_rows
from jaxdeep.train.epoch import evaluation_of
from jaxdeep.train.objective import Bounds, Objective, check_bounds, supervised
from jaxdeep.train.options import FitOptions, filled
from jaxdeep.train.reported import NamedMetrics
from jaxdeep.train.state import Network, PerExample, TrainState
from jaxdeep.tree import shapes

EVALUATED = ("loss", "metrics", "penalty", "activity", "objective")  # arguments that `fit` has, too

_PURE = "jaxdeep.train.make_evaluate"
_AHEAD, _AHEAD_BYTES = 8, 2**25  # batches that wait for the device, at most, and their bytes


@meant_transfers()
@meant_nans(meant=False)
def evaluate(
    model: Network,
    params: PyTree,
    state: PyTree,
    data: PyTree,
    *,
    loss: PerExample | None = None,
    metrics: NamedMetrics | None = None,
    penalty: Callable[[PyTree], Float[Array, ""]] | None = None,
    activity: Callable[[Mapping[str, PyTree]], Float[Array, ""]] | None = None,
    objective: Objective | None = None,
    batch_size: int = 256,
    batch: Callable[[Any], PyTree] | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> dict[str, Any]:
    """The loss and the metrics of a trained model on data: those that `fit` reports of validation data.

    ``loss = Σ_i w_i loss(f(x_i), y_i) / n + penalty(params)`` over all n rows, with the model f as in
    inference: nothing is random, and batch norms use their running statistics. A metric that is a
    function is averaged over the rows whose weight is not 0. A streaming one (`jaxdeep.metrics.Metric`)
    is merged over batches, which gives what all rows at once give.

    Rows go through one compiled program, `batch_size` at a time, also those that are left at the end.
    Another call with the same model, loss and metrics uses it again, however many rows it has. The
    numbers do not depend on `batch_size` but for rounding, and are those of `fit` with `validation`, bit
    for bit or to rounding. Data are read as they are needed, so that they may be larger than memory.

    Args:
      model, params, state: a `jaxdeep.nn.Model` and what it has learned.
      data: as for `jaxdeep.fit`: arrays with a row per example, ``(x, y)`` or ``(x, y, weights)``,
        memory maps, HDF5 data sets, or batches of these forms that somebody else makes (Grain, PyTorch,
        a generator), whose rows are put together anew in batches of `batch_size`. If the model has a
        layer that reads the columns of a table, a frame or an iterator over frames. In ``(frame, y)``
        the y is what the table has: its labels, or numbers in its unit. (Where labels are words, numbers
        are those of the classes.) A target that was standardised (``standardize_target``) is judged as
        it was trained on, in standard deviations.
      loss: ``(outputs, y) -> losses`` per example, as in `jaxdeep.losses`.
      metrics: further functions of the form of `loss`, or streaming metrics, by name, and by output.
      penalty: ``params -> scalar``, added to the loss (`jaxdeep.regularizers`).
      activity: ``outputs of layers by path -> scalar``, added to the loss, averaged over batches.
      objective: instead of the four before it, a function of the form that `jaxdeep.train.supervised`
        returns.
      batch_size: rows computed at a time, as for `jaxdeep.predict`.
      batch: a function from what a loader makes to a batch of one of these forms, as for `jaxdeep.fit`.
      mesh: devices to split each batch over, as for `jaxdeep.fit`. In several processes every one passes
        the same arrays, or a loader of its share of each batch.

    Returns:
      ``{"loss": …}`` and each metric by its name: NumPy numbers, or arrays where a metric is one.

    With an `activity` or an `objective` of your own, whose means over rows are not known, the last rows
    are a smaller batch, for which there is a second program.

    Raises:
      ValueError, TypeError: before anything is compiled: what `jaxdeep.fit` refuses of a model, a loss,
        metrics and data, such as labels outside the model's classes; parameters that are not the
        model's; a batch size below 1, or one that the devices do not divide; traced values.

    Source: Keras' `Model.evaluate`, whose metrics are streamed in the same way.

    >>> import jaxdeep as jd
    >>> x = jnp.linspace(-1, 1, 1000)[:, None]
    >>> model = jd.nn.dense(1)
    >>> params, state = {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}, {}
    >>> evaluate(model, params, state, (x, x), loss=jd.losses.mse, metrics={"mae": jd.losses.mae})
    {'loss': np.float32(1.0), 'mae': np.float32(1.0)}
    """
    trees = [tree for tree in (params, state, data) if not isinstance(tree, Iterator)]
    check_untraced("evaluate", *trees, instead=_PURE)
    passed = dict(zip(EVALUATED, (loss, metrics, penalty, activity, objective)))
    minimised = {name: value for name, value in passed.items() if value is not None}
    reading = {"batch_size": batch_size, "batch": batch, "shuffle": False, "stream": True}
    options: FitOptions = filled("evaluate", FitOptions, {**minimised, **reading})
    data = examples_in(model, data)
    if objective is None and isinstance(data, tuple) and data:
        params, state = variables_of(model, params, state)
        model, params, state, x = ahead(model, params, state, data[0])
        data = (x, *data[1:])
    if objective is None and isinstance(data, Iterator):
        data = told_apart(model, data)
    setup = make_setup("evaluate", model, optax.identity(), options)
    variables = variables_of(model, params, state)
    source = source_of(data, "data", options, pairs=setup.is_supervised)
    check_batch(batch, loads=isinstance(source, LoaderSource))
    together = with_rows(source.like, at_once(options["batch_size"], source))
    mesh = usable(mesh_of(variables) if mesh is None else mesh, None, together)
    setup = dataclasses.replace(setup, mesh=mesh)
    check_source(setup, source, variables)
    placement = Placement(mesh)
    values = _passed(setup, source, together, placement.variables(variables), placement)
    results = {name: fetched(values[name])[()] for name in ordered(values)}
    if not isinstance(source, LoaderSource):
        setup.rename()
    return results


def variables_of(model: Network, params: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
    """Parameters and state as arrays; refuses those that are not the model's."""
    params, state = leaves_of("params", params), leaves_of("state", state)
    for argument, tree in (("params", params), ("state", state)):
        check_leaves(argument, tree, real=False)
    if isinstance(model, Model):
        kept(key_of("fits", model), lambda: check_fit(model, params, state), (params, state))
    return params, state


def check_source(setup: Setup, source: Source, variables: tuple[PyTree, PyTree]) -> None:
    """Refuse data that do not fit the model, the loss and the metrics, as `jaxdeep.fit` does."""
    if not setup.is_supervised:
        return
    params, state = shapes(variables)
    ts = TrainState(jnp.int32(0), params, state, (), jax.random.key(0))
    x, *rest = source.sample
    sample = (x, *jax.tree.map(np.asarray, tuple(rest)))

    def rehearsed() -> Bounds:
        return try_out(setup, ts, {source.name: sample}, source.like)[1][source.name]

    if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(sample[1:])):
        # traced for the first labels of this form; those of later calls are only compared
        bounds = kept(key_of("bounds", setup.key), rehearsed, (ts, with_rows(source.like, 1)))
        check_bounds(bounds, sample, source.name)
    else:
        bounds = rehearsed()
    source.keep_within(bounds)
    if isinstance(source, LoaderSource):
        source.keep_to(trial(setup, ts))


def _passed(
    setup: Setup,
    source: Source,
    batch: PyTree,
    variables: tuple[PyTree, PyTree],
    placement: Placement,
) -> Metrics:
    """The values after one pass over all rows; `batch` are the shapes of those computed at once."""
    fill = setup.is_supervised and setup.options["activity"] is None
    of_batch, of_part = _steps(setup)
    nothing: Totals = kept(
        key_of("nothing evaluated", setup.key),
        lambda: jax.tree.map(np.asarray, none_yet(of_batch, shapes(variables), batch)),
        (shapes(variables), batch),
    )
    totals = placement.everywhere(nothing)
    spread = None if placement.mesh is None else jax.tree.map(lambda a: a.sharding, totals)

    # apart from the sums, each of which waits for the one before, so that batches are computed at once
    def whole(variables: PyTree, rows: PyTree) -> Metrics:
        return of_batch(variables, rows)[1]

    def add(totals: Totals, values: Metrics, rows: Array) -> Totals:
        return with_batch(totals, values, rows)

    def partly(variables: PyTree, totals: Totals, rows: PyTree, counts: Bool[Array, "rows"]) -> Totals:
        return with_batch(totals, of_part(variables, rows, counts, totals.sums), jnp.sum(counts))

    # a loader may change what the key is made of
    key = setup.key_now if isinstance(source, LoaderSource) else lambda: setup.key
    on_whole = by_shape("evaluate", whole, 1, key=key)
    added = by_shape("evaluate sum", add, 1, key=key, out_shardings=spread)
    on_part = by_shape("evaluate partly", partly, 2, key=key, out_shardings=spread)
    size = count_rows(batch) // (jax.process_count() if isinstance(source, LoaderSource) else 1)

    def placed(counts: np.ndarray) -> jax.Array:
        if isinstance(source, LoaderSource):
            return placement.share(counts, 0)
        return placement.part(counts.shape, 0, counts.__getitem__)

    begun: collections.deque[jax.Array] = collections.deque()
    most = min(max(_AHEAD_BYTES // max(tree_bytes(batch), 1), 1), _AHEAD)
    for rows, filled_rows in source.parts(count_rows(batch), placement, fill=fill):
        if fill and filled_rows < size:
            counts = np.arange(size) < filled_rows
            totals = on_part(variables, totals, rows, placed(counts))
        else:
            totals = added(totals, on_whole(variables, rows), np.int32(count_rows(rows)))
        begun.append(totals.batches)
        if len(begun) > most:  # so that few batches are held
            jax.block_until_ready(begun.popleft())
    return by_shape("evaluated", _values_of, 0, key=key)(totals)


def _steps(setup: Setup) -> tuple[Callable[..., Any], Callable[..., Metrics]]:
    """The evaluation of a whole batch, and of one of which only some rows count."""
    objective, options = setup.objective, setup.options
    penalty = options["penalty"]
    bare = objective
    if penalty is not None:  # which is not a mean over rows
        bare = supervised(setup.model, options["loss"], metrics=options["metrics"])  # type: ignore[arg-type]

    def of_batch(variables: PyTree, rows: PyTree) -> tuple[PyTree, Metrics]:
        return variables, evaluation_of(objective, *variables)((), rows)[1]

    def of_part(variables: PyTree, rows: PyTree, counts: Bool[Array, "rows"], like: Metrics) -> Metrics:
        x, y, *weights = rows
        weight = jnp.asarray(counts, jnp.float32)
        if weights:
            weight = jax.tree.map(lambda w: _where(counts, w), weights[0])
        params, state = variables
        loss, (_, metrics) = bare(params, state, (x, y, weight))
        # a mean over all rows, of which those that do not count are 0
        among = len(counts) / jnp.sum(counts).astype(loss.dtype)
        loss = loss * among
        metrics |= {name: metrics[name] * among for name in getattr(bare, "parts_of_loss", ())}
        if penalty is not None:
            loss = loss + penalty(params)
        # without weights of the data's own, whole batches report the mean of a function as it is
        for name, value in metrics.items():
            if isinstance(value, Tally) and not isinstance(like[name], Tally):
                metrics[name] = value.compute()
        if COUNTED in like:
            metrics[COUNTED] = jnp.mean(weight != 0, dtype=loss.dtype) * among
        return {"loss": loss, **metrics}

    return of_batch, of_part


def _where(counts: Bool[Array, "rows"], weights: ArrayLike) -> Array:
    """The weights of rows that count, else 0."""
    weights = jnp.asarray(weights)
    return jnp.where(counts.reshape(-1, *(1,) * (weights.ndim - 1)), weights, 0)


def _values_of(totals: Totals) -> Metrics:
    return values_of(averages(totals))
