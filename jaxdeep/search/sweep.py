"""`sweep`, which trains every point and seed of a space and tabulates the results."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import jax

from jaxdeep._compilation import check_untraced, meant_transfers
from jaxdeep._shapes import PyTree
from jaxdeep.search.asking import ask_tell
from jaxdeep.search.asking.ask_tell import AskTell, Sampler
from jaxdeep.search.builder import PURE, Build
from jaxdeep.search.driving import Strategy
from jaxdeep.search.runners.executors import Executor
from jaxdeep.search.spaces.space import Point, points_of
from jaxdeep.search.sweeping import begun, checked_how, order_of, trained
from jaxdeep.search.tables.table import Table
from jaxdeep.train.options import RowOptions, takes

if TYPE_CHECKING:
    import optuna


@takes(RowOptions)
@meant_transfers()
def sweep(
    builder: Build,
    space: Mapping[str, Any] | Sequence[Point] | None = None,
    *,
    data: PyTree,
    sampler: "AskTell | Sampler | optuna.Study | None" = None,
    seeds: int = 1,
    key: jax.Array | None = None,
    halving: Strategy | None = None,
    strategy: str | None = None,
    rows_at_once: int | None = None,
    memory: int | None = None,
    executor: Executor | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    keep_params: int | None = None,
    retry_errors: bool = False,
    progress: bool = True,
    **arguments: Unpack[RowOptions],
) -> Table:
    """Train with every point of `space` and every seed, and tabulate the results.

    Points that differ only in floats share one compiled program. All other values (whole numbers, names,
    functions, None) are constants of the program, which is compiled once for each combination of them. A
    row is the run ``jd.fit(…, key=jax.random.key(seed))`` of its point. Rows that stop early or diverge
    do not affect the others.

    With threads, a row is that run bit for bit if its floats are hyperparameters of jaxdeep's
    optimizers. If they go elsewhere (into a loss, a layer, a schedule, another library's optimizer) they
    are arguments of the program instead of constants, and the row is that run to rounding. With "vmap"
    it always is so.

    Args:
      builder: ``hp -> optimizer``, or ``hp -> dict`` of arguments of `jaxdeep.fit` (``optimizer``,
        ``model``, ``loss``, ``batch_size`` …), where `hp` is a point: a dict by name. It is called with
        Python's floats and with traced arrays in their place.
      space: a grid, as a dict of lists or arrays by name, or a list of points, such as
        `jaxdeep.search.sobol` draws. A point that is there twice is run once. With a study as `sampler`,
        a dict of distributions by name, such as `jaxdeep.search.log_uniform`.
      data: as for `jaxdeep.fit`.
      sampler: what chooses the points instead, batch by batch: an Optuna study, or a
        `jaxdeep.search.AskTell` of one, which says how many.
      seeds: number of runs of each point; their seeds are 0, 1, …
      key: instead of ``jax.random.key(seed)``, seed s runs with ``fold_in(key, s)``.
      halving: a `jaxdeep.search.SuccessiveHalving`, `Hyperband` or `AsynchronousHalving`, which end the
        worst points after a few epochs. The last two take the points of a grid in random order, those of
        a list as they are.
      strategy: "vmap" runs rows stacked and spread over all local devices. "threads" runs them one after
        another in a thread for each core of a CPU or for each accelerator. By default it is "threads" on
        a CPU, where stacking gains nothing, and "vmap" elsewhere.
      rows_at_once: at most this many rows in a stack on each device, or this many threads.
      memory: bytes on each device for the data and the rows that run at once. By default it is what is
        free, if the device says so (a CPU does not).
      executor: who runs the rows, in place of threads of this process: whatever has ``submit`` as the
        executors of `concurrent.futures` do, such as a `ProcessPoolExecutor` whose processes are
        spawned, or Dask's ``client.get_executor()``. It is not shut down. Workers are told of the
        builder, the arguments and the data once; what they are given then is the number of a row and
        the epoch to go to. Rows of a worker that is lost run again. The table is that of threads.
      checkpoint: a local directory, from which the sweep goes on when it is called again after it was
        killed, in whatever moment: to the same table, bit for bit. No row that had ended is trained
        again, and the others go on from the last epoch or rung that was saved. Points, seeds and epochs
        may be more than before (with a `sampler`, points alone); whatever else differs is refused. The
        directory holds a journal of JSON lines and a file for each row. A power cut may cost the last
        five seconds, whose rows are trained again. Values of points must have a name that lasts, so
        that functions must be those of a module. Data are known by a checksum; of arrays above 256 MB
        it is that of 4,096 rows, evenly spread, so that a change between these is not noticed. Another
        process is refused there meanwhile.
      keep_params: the number of rows that keep their parameters after their end, the best by the metric
        of `halving` or `early_stopping`, or else by the loss (of the validation data, if there are any);
        all by default. Where `epochs` grow, the others begin anew.
      retry_errors: run rows again that ended with an error in an earlier call.
      progress: show a progress bar, or print lines without a terminal.
      {options}

    The last ones, from `loss` on, are those of every row, as of `jaxdeep.fit`, and a builder that
    returns a dict may give any of them instead. A loss that is not finite raises nothing: with
    ``on_nonfinite="raise"`` its row ends after that epoch as "diverged", while "skip" and "ignore" are
    as in `jaxdeep.fit`. In any case a row that ends with parameters that are not finite is "diverged".

    A row that raises an error ends as "error", with its traceback in the table, and a warning says so.
    If all rows do, the first error is raised.

    Returns:
      A `Table`. Ctrl-C ends the rows after the epoch at hand: the table has those that have ended, and
      those that have done an epoch at least as "interrupted". A second one raises at once, and so does
      one before the first epoch.

    Raises:
      ValueError, TypeError: before anything is compiled: an empty space, points of different names, an
        unknown argument, a call inside `jax.jit`, `jax.vmap` or `jax.grad` with traced values, and what
        `jaxdeep.fit` refuses, a directory of another sweep. After compilation: a row that does not fit
        into `memory`.
      OSError: the directory cannot be written; what was there is kept.

    Source: grid and random search, Bergstra & Bengio (2012).

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> x = jnp.linspace(-1, 1, 64)[:, None]
    >>> table = sweep(lambda hp: jd.optimizers.sgd(hp["learning_rate"]),
    ...               {"learning_rate": jnp.array([1e-3, 1e-1])}, seeds=2, model=jd.nn.dense(1),
    ...               data=(x, 3 * x), loss=jd.losses.mse, epochs=3, batch_size=16, progress=False)
    >>> len(table.rows()), round(table.best("loss")["learning_rate"], 3)
    (4, 0.1)
    """
    given = [key, list(space) if isinstance(space, list) else space, arguments.get("class_weight")]
    check_untraced("sweep", [tree for tree in given if not isinstance(tree, Iterator)], instead=PURE)
    asking = None if sampler is None else ask_tell.checked(sampler, space, halving)
    how = checked_how(
        halving=halving,
        strategy=strategy,
        rows_at_once=rows_at_once,
        memory=memory,
        executor=executor,
        checkpoint=checkpoint,
        keep_params=keep_params,
        retry_errors=retry_errors,
        progress=progress,
    )
    sweeping = begun(sweep, builder, data, seeds=seeds, key=key, how=how, arguments=arguments)
    if asking is not None:
        return ask_tell.asked_and_told(sweeping, space, asking, halving)
    if space is None:
        raise TypeError(
            "space must be a dict of values by name or a list of points, unless a sampler knows it"
        )
    points = points_of(space)
    return trained(sweeping, points, halving, order=order_of(space, points))
