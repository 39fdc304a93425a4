"""`sweep`, which trains every point and seed of a space and tabulates the results."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from jaxdeep._compilation import check_untraced, meant_nans, meant_transfers
from jaxdeep._shapes import PyTree
from jaxdeep.search.asking import ask_tell
from jaxdeep.search.asking.ask_tell import AskTell, Sampler
from jaxdeep.search.builder import PURE, Build
from jaxdeep.search.driving import Strategy
from jaxdeep.search.options import SweepOptions
from jaxdeep.search.spaces.space import Point, points_of
from jaxdeep.search.sweeping import begun, order_of, trained
from jaxdeep.search.tables.table import Table
from jaxdeep.train.options import takes

if TYPE_CHECKING:
    import optuna


@takes(SweepOptions)
@meant_transfers()
@meant_nans()
def sweep(
    builder: Build,
    space: Mapping[str, Any] | Sequence[Point] | None = None,
    *,
    data: PyTree,
    sampler: "AskTell | Sampler | optuna.Study | None" = None,
    halving: Strategy | None = None,
    **options: Unpack[SweepOptions],
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
        a dict of distributions by name, such as `jaxdeep.search.log_uniform`. No name is that of a
        column of the table, such as "seed", "ended" or a metric.
      data: as for `jaxdeep.fit`.
      sampler: what chooses the points instead, batch by batch: an Optuna study, or a
        `jaxdeep.search.AskTell` of one, which says how many.
      halving: a `jaxdeep.search.SuccessiveHalving`, `Hyperband` or `AsynchronousHalving`, which end the
        worst points after a few epochs. The last two take the points of a grid in random order, those of
        a list as they are.
      {options}

    The last ones, from `loss` on, are those of every row, as of `jaxdeep.fit`, and a builder that
    returns a dict may give any of them instead. A loss that is not finite raises nothing: with
    ``on_nonfinite="raise"`` its row ends after that epoch as "diverged", while "skip" and "ignore" are
    as in `jaxdeep.fit`. In any case a row that ends with parameters that are not finite is "diverged".

    A row that raises an error ends as "error", with its traceback in the table, and a warning says so;
    so do the rows of a point whose loss or model cannot be traced. If all rows do, the first error is
    raised, with a note that names its point.

    Returns:
      A `Table`. Ctrl-C ends the rows after the epoch at hand: the table has those that have ended, and
      those that have done an epoch at least as "interrupted". A second one raises at once, and so does
      one before the first epoch.

    Raises:
      ValueError, TypeError: before anything is compiled: an empty space, an unknown argument, a call
        inside `jax.jit`, `jax.vmap` or `jax.grad` with traced values, what `jaxdeep.fit` refuses, a
        directory of another sweep. After compilation: a row that does not fit into `memory`.
      Exception: what the builder raises for a point, before anything is compiled, with a note that names
        the point: a KeyError for a name that it lacks, since points of a list may have different names.
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
    trees = [
        options.get("key"),
        list(space) if isinstance(space, list) else space,
        options.get("class_weight"),
    ]
    check_untraced("sweep", [tree for tree in trees if not isinstance(tree, Iterator)], instead=PURE)
    asking = None if sampler is None else ask_tell.checked(sampler, space, halving)
    with begun(sweep, builder, data, options, halving) as sweeping:
        if asking is not None:
            return ask_tell.asked_and_told(sweeping, space, asking, halving)
        if space is None:
            raise TypeError(
                "space must be a dict of values by name or a list of points, unless a sampler knows it"
            )
        points = points_of(space)
        return trained(sweeping, points, halving, order=order_of(space, points))
