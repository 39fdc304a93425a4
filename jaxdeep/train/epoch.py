"""One pass over the data as a pure function: training, and evaluation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdeep import _checks
from jaxdeep._shapes import Array, Integer, PyTree
from jaxdeep.train.batches import COUNTED, Advance, Metrics, Totals, averages, over_batches, values_of
from jaxdeep.train.columns import check_told_apart_by_column
from jaxdeep.train.data import as_arrays, check_batch_size, count_examples
from jaxdeep.train.objective import Objective
from jaxdeep.train.reported import check_metric_names
from jaxdeep.train.sharding import copied
from jaxdeep.train.state import TrainState
from jaxdeep.train.step import Step

Epoch = Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]

_SHUFFLE = 0xFFFF_FFFF  # a stream of the run's key that no step uses: steps are int32


def make_epoch(
    step: Step, *, batch_size: int = 32, shuffle: bool = True, drop_remainder: bool = False
) -> Epoch:
    """One pass of `step` over a data set: ``epoch(ts, data) -> (ts, metrics)``, pure.

    Every example is seen exactly once. Full batches run in a `jax.lax.scan`; the remaining
    rows make one smaller batch at the end. Metrics are averages over examples, whatever batch these
    were in. The order is a permutation drawn from the run's key and the step the epoch begins at.

    `data` is a pytree of arrays with a row per example, ``(x, y)`` for supervised objectives. It is an
    *argument* and not a constant of the program: compile with ``jax.jit(epoch, donate_argnums=0)`` and
    pass it in. `jax.vmap` with ``in_axes=(0, None)`` trains stacked models on the same data, each in its
    own order.

    Args:
      step: ``(ts, batch) -> (ts, metrics)``, from `make_step` or your own; the metrics hold a "loss".
      batch_size: rows of a batch.
      shuffle: False takes the rows in their order.
      drop_remainder: leave out the rows that do not fill a batch; with `shuffle` these are different
        rows in each epoch.

    Raises:
      ValueError: a batch larger than the data, data without rows or of different lengths.

    >>> import jaxdeep as jd
    >>> model, optimizer = jd.nn.dense(1), jd.optimizers.sgd(0.1)
    >>> objective = jd.train.supervised(model, lambda outputs, y: (outputs - y) ** 2)
    >>> x = jnp.linspace(-1, 1, 50)[:, None]
    >>> ts = jd.train.init(model, optimizer, x[:1], key=jax.random.key(0))
    >>> epoch = jax.jit(make_epoch(jd.train.make_step(objective, optimizer), batch_size=16))
    >>> ts, metrics = epoch(ts, (x, 3 * x))
    >>> int(ts.step)  # three batches of 16 and one of 2
    4
    """
    pass_over = one_pass(step, batch_size, shuffle, drop_remainder)

    def epoch(ts: TrainState, data: PyTree) -> tuple[TrainState, Metrics]:
        ts, totals = pass_over(ts, data)
        return ts, values_of(averages(totals))

    return epoch


def one_pass(
    step: Step,
    batch_size: int,
    shuffle: bool,
    drop_remainder: bool,
    *,
    skip: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> Callable[[TrainState, PyTree], tuple[TrainState, Totals]]:
    """`make_epoch`, but it returns totals; with `skip`, batches without a finite loss do not count."""
    batch_size = _checks.check_count("batch_size", batch_size)
    _checks.check_flags(shuffle=shuffle, drop_remainder=drop_remainder)
    _checks.check_functions(optional=False, step=step)

    def epoch(ts: TrainState, data: PyTree) -> tuple[TrainState, Totals]:
        data = as_arrays(data)
        check_told_apart_by_column(data)
        n = count_examples(data)
        check_batch_size(batch_size, n)
        order = shuffled(ts.key, ts.step, n) if shuffle else jnp.arange(n)
        if mesh is not None:
            order = copied(mesh, order)
        return over_batches(step, ts, data, order, batch_size, drop_remainder=drop_remainder, skip=skip)

    return epoch


def shuffled(key: jax.Array, step: Integer[Array, ""], n: int) -> Integer[Array, "n"]:
    """The order of n rows in the epoch that begins at `step` of the run with this key."""
    key = jax.random.fold_in(jax.random.fold_in(key, jnp.uint32(_SHUFFLE)), step)
    # One sort by 32 random bits, after which two rows with equal bits are still in their old order. A
    # shuffle can bear that: it happens to about one pair in 55,000 rows. jax.random.permutation avoids
    # it by sorting twice beyond 1,600 rows.
    return jnp.argsort(jax.random.bits(key, (n,), jnp.uint32))


def make_evaluate(
    objective: Objective, *, batch_size: int = 32
) -> Callable[[PyTree, PyTree, PyTree], Metrics]:
    """The objective over a whole data set: ``evaluate(params, state, data) -> metrics``, pure.

    The objective is called for inference, without a key and with ``train=False``. Every row counts once.
    Metrics, the loss included, are averages over examples. If all weights of the data are 0, the loss
    is NaN.

    Args:
      objective: the objective that `jaxdeep.train.supervised` makes, or any function of the same form.
      batch_size: rows computed at a time; data of fewer rows are one batch.

    Raises:
      ValueError: data without rows or of different lengths.

    >>> import jaxdeep as jd
    >>> model = jd.nn.dense(1)
    >>> objective = jd.train.supervised(model, lambda outputs, y: (outputs - y) ** 2)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> sorted(make_evaluate(objective)(params, state, (jnp.ones((50, 2)), jnp.ones((50, 1)))))
    ['loss']
    """
    batch_size = _checks.check_count("batch_size", batch_size)
    _checks.check_functions(optional=False, objective=objective)

    def evaluate(params: PyTree, state: PyTree, data: PyTree) -> Metrics:
        data = as_arrays(data)
        n = count_examples(data)
        step = evaluation_of(objective, params, state)
        _, totals = over_batches(step, (), data, jnp.arange(n), min(batch_size, n))
        return values_of(averages(totals))

    return evaluate


def evaluation_of(objective: Objective, params: PyTree, state: PyTree) -> Advance[tuple[()]]:
    """The evaluation of a batch, as a step for `over_batches` that carries nothing."""

    def step(nothing: tuple[()], batch: PyTree) -> tuple[tuple[()], Metrics]:
        loss, (_, metrics) = objective(params, state, batch)
        check_metric_names(metrics)
        if hasattr(objective, "of_model") and len(batch) == 3:  # that of `supervised`, with weights
            metrics = {**metrics, COUNTED: jnp.mean(jnp.asarray(batch[2]) != 0, dtype=loss.dtype)}
        return nothing, {"loss": loss, **metrics}

    return step
