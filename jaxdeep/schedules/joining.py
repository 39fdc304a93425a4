"""Schedules made of other schedules."""

from collections.abc import Sequence

import jax.numpy as jnp
import optax

from jaxdeep import _checks
from jaxdeep._calls import remembered
from jaxdeep._shapes import Array, ArrayLike
from jaxdeep.schedules.steps import (
    Schedule,
    between,
    check_boundaries,
    check_schedule,
    floats,
    since,
    step_of,
    value_of,
)


@remembered
def warmup(schedule: Schedule, steps: int, *, init_value: ArrayLike = 0.0) -> Schedule:
    """A straight line in front of a schedule: from `init_value` to ``schedule(0)`` in `steps` steps.

    ``f(t) = init + (schedule(0) − init) · t / steps`` for t < steps, then ``schedule(t − steps)``. In
    front of `constant`, `cosine` and `exponential` it is optax' ``warmup_…`` schedules.

    Args:
      schedule: what follows.
      steps: length of the warm-up, at least 1.
      init_value: value at step 0.

    Raises:
      TypeError: a `schedule` that is not a function. ValueError: `steps` below 1.

    Source: Goyal et al. (arXiv:1706.02677), section 2.2; `optax.warmup_constant_schedule`.

    >>> from jaxdeep.schedules import constant
    >>> schedule = warmup(constant(0.1), steps=10)
    >>> [round(float(schedule(t)), 3) for t in (0, 5, 10, 50)]
    [0.0, 0.05, 0.1, 0.1]
    """
    check_schedule("schedule", schedule)
    steps = _checks.check_count("steps", steps)
    _checks.check_scalar("init_value", init_value, "(-inf, inf)")

    def line(step: ArrayLike) -> Array:
        elapsed, begin, end = floats(since(step, 0), init_value, schedule(0))
        return between(begin, end, elapsed / float(steps))

    return _joined([line, schedule], [steps])


@remembered
def join(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """Schedules one after another, from their starts: ``f(t) = schedules[i](t − boundaries[i − 1])``.

    i is the number of boundaries that are ≤ t, and the first schedule counts from 0.

    Args:
      schedules: at least one.
      boundaries: the steps, increasing, at which the second and later ones begin.

    Raises:
      ValueError: another number of boundaries than one less than the schedules, or not increasing.
      TypeError: a schedule that is not a function.

    Source: `optax.join_schedules`.

    >>> from jaxdeep.schedules import constant
    >>> schedule = join([constant(0.1), constant(0.01)], [30])
    >>> [round(float(schedule(t)), 3) for t in (29, 30)]
    [0.1, 0.01]
    """
    _checks.check_sequence("schedules", schedules)
    for schedule in schedules:
        check_schedule("schedules", schedule)
    boundaries = check_boundaries(boundaries)
    if len(boundaries) != len(schedules) - 1:
        raise ValueError(
            f"boundaries must be one less than the {len(schedules)} schedules, got {list(boundaries)}"
        )
    return _joined(schedules, boundaries)


def _joined(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """`optax.join_schedules`, in which a schedule that has not begun is asked for its first value."""

    def typed(schedule: Schedule) -> Schedule:
        return lambda step: floats(step, schedule(step))[1]

    def begun(schedule: Schedule) -> Schedule:
        return lambda step: schedule(since(step, 0))

    first, *others = schedules
    parts = [typed(first), *map(begun, others)]

    def joined(step: ArrayLike) -> ArrayLike:
        step = step_of(step)
        if jnp.issubdtype(step.dtype, jnp.floating):
            reached: Sequence[float] = [float(b) for b in boundaries]
        else:  # whole numbers never come to the others
            reached = [b for b in boundaries if b <= jnp.iinfo(step.dtype).max]
        return optax.join_schedules(parts[: len(reached) + 1], reached)(step)

    return joined


@remembered
def per_epoch(schedule: Schedule, steps_per_epoch: int, *, epochs: int | None = None) -> Schedule:
    """A schedule of epochs as one of steps: ``f(t) = schedule(t // steps_per_epoch)``.

    Args:
      schedule: function of the epoch, the first of which is 0.
      steps_per_epoch: updates in an epoch, at least 1.
      epochs: how many there are, at least 1. With it the schedule is asked for all their values now,
        with Python numbers 0, 1, …, so that it may be any Python function, ``if`` included. Later
        epochs have the value of the last. By default it is traced, where the epoch is an array.

    Raises:
      TypeError: a `schedule` that is not a function. ValueError: `steps_per_epoch` or `epochs` below 1,
        values that are not scalars.

    Source: Keras' and PyTorch's schedulers, which step by the epoch.

    >>> from jaxdeep.schedules import exponential
    >>> schedule = per_epoch(exponential(0.1, 1, 0.5), steps_per_epoch=100)
    >>> [round(float(schedule(t)), 3) for t in (0, 99, 100, 250)]
    [0.1, 0.1, 0.05, 0.025]
    >>> schedule = per_epoch(lambda epoch: 0.1 if epoch < 2 else 0.01, steps_per_epoch=100, epochs=5)
    >>> [round(float(schedule(t)), 3) for t in (0, 199, 200, 900)]
    [0.1, 0.1, 0.01, 0.01]
    """
    check_schedule("schedule", schedule)
    steps_per_epoch = _checks.check_count("steps_per_epoch", steps_per_epoch)

    def of_epoch(step: ArrayLike) -> ArrayLike:
        step = step_of(step)
        if jnp.issubdtype(step.dtype, jnp.floating):
            return value_of("the schedule of per_epoch", schedule, step // float(steps_per_epoch))
        if steps_per_epoch > jnp.iinfo(step.dtype).max:
            return value_of("the schedule of per_epoch", schedule, jnp.zeros_like(step))
        return value_of("the schedule of per_epoch", schedule, step // steps_per_epoch)

    if epochs is None:
        return of_epoch
    epochs = _checks.check_count("epochs", epochs)
    values = [schedule(epoch) for epoch in range(epochs)]
    for epoch, value in enumerate(values):
        _checks.check_scalar(f"the schedule's value of epoch {epoch}", value, "(-inf, inf)")

    def of_table(step: ArrayLike) -> ArrayLike:
        _, *typed = floats(step, *values)
        epoch = jnp.clip(per_epoch(lambda epoch: epoch, steps_per_epoch)(step), 0, epochs - 1)
        return jnp.stack(typed)[jnp.asarray(epoch).astype(int)]

    return of_table
