"""The learning-rate range test, as one compiled run."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdeep import _checks
from jaxdeep._compilation import is_traced, kept, meant_nans, meant_transfers, run_once
from jaxdeep._identity import key_of
from jaxdeep._shapes import Array, Bool, Float, Integer, PyTree
from jaxdeep._warning import warn
from jaxdeep.optimizers import set_hyperparams
from jaxdeep.optimizers.identity import init_with_numbers, numbers_of, program_key
from jaxdeep.train.columns import check_told_apart_by_column
from jaxdeep.train.data import (
    as_arrays,
    check_batch_size,
    check_pair,
    check_weights,
    count_examples,
    take,
    to_device,
    with_rows,
)
from jaxdeep.train.epoch import shuffled
from jaxdeep.train.objective import Bounds, Objective, check_bounds, rehearse, supervised
from jaxdeep.train.options import Minimised, filled, minimised_of, takes
from jaxdeep.train.state import (
    Network,
    TrainState,
    begin,
    check_initial,
    check_optimizer,
    initial_of,
)
from jaxdeep.train.step import make_step
from jaxdeep.train.weights import balanced_by, by_class, is_balanced
from jaxdeep.tree import shapes

Rows = Integer[Array, "steps batch"]  # of every step
Ends = Float[Array, "2"]  # the lowest and the highest rate
MakeOptimizer = Callable[[Float[Array, ""]], optax.GradientTransformation]

# The suggestion is FACTOR times the rate at which DESCENT of the way down is done. That point is on the
# steep part, where the noise of batches moves it little: of 16 seeds each with SGD, momentum and Adam,
# on digits and Fashion-MNIST, all are within a factor 3 of the best of 32 rates after a short training.
DESCENT = 0.7
FACTOR = 3.0
_WINDOW = 0.05  # share of the steps that the smoothing looks back
_HELPED = 0.01  # a rate is suggested only if the loss falls by this share of its first level
_RISEN = 2.0  # the test ends when the loss is this many times its first level


class RateTest(NamedTuple):
    """The result of a range test. Arrays have the shape ``(steps,)`` and are NaN after the test's end.

    Attributes:
      learning_rates: the rate of each step, evenly spaced in their logarithm.
      losses: the loss of each step's batch, before the step.
      smoothed: the exponential average of the losses over about 5 % of the steps, without its bias to 0.
      suggestion: the rate to train with, NaN if no rate lowered the loss by 1 %.
      steps: steps done, int32.
    """

    learning_rates: Float[Array, "*runs steps"]
    losses: Float[Array, "*runs steps"]
    smoothed: Float[Array, "*runs steps"]
    suggestion: Float[Array, "*runs"]
    steps: Integer[Array, "*runs"]


@takes(Minimised)
@meant_transfers()
@meant_nans()
def find_learning_rate(
    model: Network,
    data: PyTree,
    *,
    optimizer: optax.GradientTransformation | MakeOptimizer,
    key: jax.Array | int,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 400,
    batch_size: int = 32,
    params: PyTree | None = None,
    state: PyTree | None = None,
    **minimised: Unpack[Minimised],
) -> RateTest:
    """A learning rate to train with, by the range test: one short run whose rate grows at every step.

    Step t trains with ``low · (high / low)^(t / (steps − 1))``. While the rate is too small the loss
    stays where it is; then it falls, and when the rate is too large it rises. The test ends when the
    smoothed loss is twice its first level, or a loss is not finite; in the first twentieth of the steps
    that is warned of, since the data are the likely reason. The suggestion is three times the
    rate at which the smoothed loss has come 70 % of the way from its first level to its lowest, and at
    most the rate of the lowest. This is behind the steepest descent and before the rate is too large.

    The test is one compiled program, in which nothing waits for the host and the data are an argument.
    `jax.vmap` over keys runs the test for several networks, whose median is steadier than one. The rule
    was set for 400 steps, about 60 for each factor 10. Fewer steps suggest larger rates, more steps
    smaller ones.

    Args:
      model: a `jaxdeep.nn.Model`.
      data: ``(x, y)`` or ``(x, y, weights)``; with `objective`, any pytree of arrays with a row per
        example. Of arrays on the host, memory maps included, only the rows that are used are read.
      optimizer: a function ``rate -> optimizer``, ``jd.optimizers.adam`` itself or a lambda around
        ``optax.chain``; or an optimizer of jaxdeep whose ``learning_rate`` was given as a number.
      key: random key of initialisation, order and dropout, or its seed.
      loss, penalty, activity, class_weight, objective: as for `jaxdeep.fit`.
      low, high: the first and the last rate, ``0 < low < high``. Start well below what helps: the first
        twentieth of the steps says where the loss began.
      steps: number of steps, at least 20.
      batch_size: the batch size to train with later, since the best rate depends on it.
      params, state: parameters and state to begin with; freshly initialised by default. They are copied.

    Returns:
      A `RateTest`; `jaxdeep.plotting.learning_rate` draws it.

    Raises:
      ValueError: rates out of order, a batch larger than the data, neither or both of `loss` and
        `objective`, an optimizer without a rate that can be set. TypeError: not an optimizer, a key
        that is not a random key.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv:1506.01186), 3.3.

    >>> import jaxdeep as jd
    >>> x = jax.random.normal(jax.random.key(1), (500, 8)); y = x @ jnp.arange(8.0)[:, None]
    >>> test = find_learning_rate(jd.nn.dense(1), (x, y), loss=jd.losses.mse,
    ...                           optimizer=jd.optimizers.sgd, key=jax.random.key(0))
    >>> bool(0.01 < test.suggestion < 1), test.losses.shape
    (True, (400,))
    """
    key = _checks.as_key(key)
    steps = _checks.check_count("steps", steps, low=20)
    batch_size = _checks.check_count("batch_size", batch_size)
    _checks.check_number("low", low, "(0, inf)")
    _checks.check_number("high", high, "(0, inf)")
    if low >= high:
        raise ValueError(f"low must be below high, got low={low}, high={high}")
    chosen: Minimised = filled("find_learning_rate", Minimised, minimised)
    supervision, objective = minimised_of("find_learning_rate", chosen), chosen["objective"]
    make = _maker(optimizer)
    if callable(data) or isinstance(data, Iterator):
        raise TypeError(
            "data must be arrays, of which find_learning_rate draws its batches; loaders are for fit, "
            f"got {data!r}"
        )
    if objective is None:
        check_pair(data, "data")
        data = as_arrays(data)
        check_weights(data, "data")
        if is_balanced(supervision.get("class_weight")):
            supervision["class_weight"] = by_class(balanced_by(data))
        objective = supervised(model, **supervision)
        inputs = data[0]
    else:
        data = as_arrays(data)
        inputs = jax.tree.leaves(data)[0]
    check_told_apart_by_column(data)
    n = count_examples(data)
    check_batch_size(batch_size, n)
    initial = initial_of(params, state)
    example = with_rows(inputs, 1)
    if chosen["objective"] is None:
        check_initial(model, example, initial)
        if not is_traced((initial, key, data)):
            _check_labels(model, objective, example, data)
    test = _test(make, objective, steps)

    def run(
        initial: PyTree, key: jax.Array, data: PyTree, order: Rows, ends: Ends, numbers: PyTree
    ) -> RateTest:
        first = make(ends[0])
        if numbers is not None:
            init = lambda params: init_with_numbers(optimizer, params, numbers)  # noqa: E731
            first = optax.GradientTransformationExtraArgs(init, first.update)
        return test(begin(model, first, example, key, initial), data, order, ends)

    sizes = n, steps, batch_size
    order = run_once(lambda key: _order(key, *sizes), key, key=key_of("order", sizes))
    if is_traced(order) or any(isinstance(a, jax.Array) for a in jax.tree.leaves(data)):
        data = to_device(data)
    else:
        rows = np.asarray(order)
        order = jnp.asarray(np.arange(order.size).reshape(order.shape))
        data = to_device(jax.tree.map(lambda a: np.asarray(a[rows.ravel()], shapes(a).dtype), data))
    ends = np.asarray([low, high], jnp.result_type(float))
    args = initial, key, data, order, ends, numbers_of(optimizer) if hasattr(optimizer, "init") else None
    program = key_of("range test", model, objective, program_key(optimizer), sizes, example)
    return _looked_at(run_once(run, *args, key=program, once=False), _window(steps))


def _looked_at(found: RateTest, window: int) -> RateTest:
    """The result; warns of one that ended while rates were too small to be the reason."""
    if not is_traced(found) and (done := int(found.steps)) <= window:
        rate = float(found.learning_rates[done - 1])
        warn(
            f"the loss was not finite at step {done - 1}, with a rate of {rate:.2g}, and nothing is "
            "suggested: do the data hold NaN? If not, give a smaller low="
        )
    return found


def _check_labels(model: Network, objective: Objective, example: PyTree, data: PyTree) -> None:
    """Refuse labels that the loss refuses, which it cannot once they are traced.

    What it refuses is found out once for data of these shapes.
    """
    looked_at = (data[0], *jax.tree.map(np.asarray, tuple(data[1:])))

    def found() -> Bounds:
        params, state = jax.eval_shape(model.init, jax.random.key(0), example)
        like = TrainState(jnp.zeros((), jnp.int32), params, state, (), jax.random.key(0))
        return rehearse(objective, like, looked_at, "data")[1]

    key = key_of("labels of a range test", model, objective, example)
    bounds = kept(key, found, shapes(looked_at))
    check_bounds(bounds, looked_at, "data")


def _maker(optimizer: optax.GradientTransformation | MakeOptimizer) -> MakeOptimizer:
    """A function ``rate -> optimizer`` that takes a traced rate."""
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        if not callable(optimizer):
            raise TypeError(
                f"optimizer must be an optimizer or a function rate -> one, got {optimizer!r}"
            )

        def made(rate: Float[Array, ""]) -> optax.GradientTransformation:
            built = optimizer(rate)
            check_optimizer(built)
            return built

        return made

    def with_rate(rate: Float[Array, ""]) -> optax.GradientTransformation:
        def update(grads: PyTree, state: PyTree, params: PyTree = None, **extra: Any) -> Any:
            try:
                state = set_hyperparams(state, learning_rate=rate)
            except ValueError as error:
                raise ValueError(
                    "optimizer must be a function rate -> optimizer, such as optax.adam itself, or an "
                    f"optimizer of jaxdeep whose learning_rate was given as a number: {error}"
                ) from error
            return tx.update(grads, state, params, **extra)

        tx = optax.with_extra_args_support(optimizer)
        return optax.GradientTransformationExtraArgs(tx.init, update)

    return with_rate


def _test(
    make: MakeOptimizer, objective: Objective, steps: int
) -> Callable[[TrainState, PyTree, Rows, Ends], RateTest]:
    """The function ``(ts, data, order) -> RateTest`` that runs the test and reads the suggestion."""
    window = _window(steps)
    keep = 1 - 1 / window

    def test(ts: TrainState, data: PyTree, order: Rows, ends: Ends) -> RateTest:
        rates = jnp.geomspace(ends[0], ends[1], steps, dtype=jnp.result_type(float))
        nothing = jnp.full(steps, jnp.nan, rates.dtype)

        def goes_on(carry: PyTree) -> Bool[Array, ""]:
            t, _, _, smoothed, _ = carry
            first, now = smoothed[window - 1], smoothed[t - 1]
            risen = now > first + (_RISEN - 1) * jnp.abs(first)
            ended = (t > 0) & ~jnp.isfinite(now) | (t > window) & risen
            return (t < steps) & ~ended

        def step(carry: PyTree) -> PyTree:
            t, ts, losses, smoothed, average = carry
            ts, values = make_step(objective, make(rates[t]))(ts, take(data, order[t]))
            loss = values["loss"].astype(rates.dtype)
            average = keep * average + (1 - keep) * loss
            unbiased = average / (1 - keep ** (t + 1).astype(rates.dtype))
            return t + 1, ts, losses.at[t].set(loss), smoothed.at[t].set(unbiased), average

        start = jnp.zeros((), jnp.int32), ts, nothing, nothing, jnp.zeros((), rates.dtype)
        t, _, losses, smoothed, _ = jax.lax.while_loop(goes_on, step, start)
        first, lowest = smoothed[window - 1], jnp.nanmin(smoothed)
        reached = smoothed <= first - DESCENT * (first - lowest)
        place = jnp.argmax(reached & (jnp.arange(steps) >= window))
        suggestion = jnp.minimum(FACTOR * rates[place], rates[jnp.nanargmin(smoothed)])
        helped = lowest < first - _HELPED * jnp.abs(first)
        return RateTest(rates, losses, smoothed, jnp.where(helped, suggestion, jnp.nan), t)

    return test


def _window(steps: int) -> int:
    """The first steps, which say where the loss began; no rise of the loss ends the test in them."""
    return max(int(_WINDOW * steps), 1)


def _order(key: jax.Array, n: int, steps: int, batch_size: int) -> Rows:
    """The rows of every step, from as many shuffled passes over the data as needed."""
    batches = n // batch_size
    firsts = jnp.arange(-(-steps // batches)) * batches
    passes = jax.vmap(lambda first: shuffled(key, first, n))(firsts)
    rows = passes[:, : batches * batch_size].reshape(-1, batch_size)
    return rows[:steps]
