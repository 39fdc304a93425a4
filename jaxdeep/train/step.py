"""One update as a pure function."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdeep import _checks
from jaxdeep._shapes import Array, Float, PyTree
from jaxdeep.optimizers import gradient_point
from jaxdeep.train.batches import Metrics, averages, over_batches
from jaxdeep.train.data import count_examples, count_rows
from jaxdeep.train.objective import Objective
from jaxdeep.train.reported import apart, check_metric_names
from jaxdeep.train.state import TrainState, check_optimizer
from jaxdeep.train.updating import DEFAULT, check_update_args, updating
from jaxdeep.tree import Where, check_where, combine, parted

Step = Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]
Augment = Callable[[jax.Array, PyTree], PyTree]
Gradient = tuple[Float[Array, ""], PyTree, Metrics, PyTree]  # loss, new state, metrics, gradients
Gradients = Callable[[PyTree, PyTree, PyTree, PyTree, jax.Array], Gradient]
Loss = tuple[Float[Array, ""], PyTree]  # and the new state
Losses = Callable[[PyTree, PyTree, PyTree, PyTree, jax.Array], Float[Array, ""]]


class Update(NamedTuple):
    """An update as it is made, for a `Measure`.

    Attributes:
      step: its number.
      point: the point at which the gradient is taken.
      moving, held: the parameters that are trained, and the others.
      state, batch, key: as the objective gets them.
      grads, updates: the gradients, and what they make of the parameters that are trained.
    """

    step: jax.Array
    point: PyTree
    moving: PyTree
    held: PyTree
    state: PyTree
    batch: PyTree
    key: jax.Array
    grads: PyTree
    updates: PyTree


# Makes further metrics of an update (`jaxdeep.diagnostics.layer_flow`).
Measure = Callable[[Update], Metrics]

_AUGMENT = 0xFFFF_FFFF  # a stream of a step's key that no layer uses


def make_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    accumulation_steps: int = 1,
    augment: Augment | None = None,
    trainable: Where | None = None,
    update_args: Sequence[str] = DEFAULT,
) -> Step:
    """The update of `objective` by `optimizer`: ``step(ts, batch) -> (ts, metrics)``, pure.

    The gradient is taken at ``gradient_point(opt_state, params)``, which are the parameters
    for every optimizer but `nag`. Randomness of step t comes from ``fold_in(ts.key, t)``. The metrics
    are the "loss" and those of the objective, on the batch, before the update.

    Nothing is compiled or donated here; in a loop of your own, use
    ``jax.jit(step, donate_argnums=0)``.

    Args:
      objective: the objective that `jaxdeep.train.supervised` makes, or any function of the same form.
      optimizer: any optax transformation.
      accumulation_steps: gradients are taken over this many micro-batches, one after another, and
        averaged: the update of the whole batch in the memory of a part. Batch statistics and random
        masks are those of the micro-batches. A batch that it does not divide has a smaller micro-batch
        at the end.
      augment: ``(key, batch) -> batch``, applied to every batch first: random crops, flips, noise. It
        keeps the number of rows; `jax.vmap` gives every example a key of its own.
      trainable: the parameters that are trained, as a selector (`jaxdeep.tree.mask`): the others are
        split off before differentiation, so that they have no gradient, no share of a norm and nothing
        in the optimizer's state. Pass the same selector to `init`, and to `supervised` so that batch
        norms among the others stay in inference mode.

    Raises:
      TypeError: not an optax transformation, `augment` not a function. ValueError:
        `accumulation_steps` below 1; at the first step, a `trainable` that matches no leaf.

    Source: `optax.MultiSteps`, but within a step: nothing is accumulated in the state.

    Whatever is done to gradients, such as clipping, goes into the optimizer's chain. For several losses,
    each with a gradient of its own, write the step yourself with `jax.jacobian`. In this example, the
    gradients are added up at the same length.

    >>> import jax, jax.numpy as jnp, optax, jaxdeep as jd
    >>> tx = optax.chain(jd.optimizers.clip_by_global_norm(1.0), jd.optimizers.sgd(0.1))
    >>> losses = lambda params: jnp.array([params["w"] ** 2, 3 * params["w"]])
    >>> params = {"w": jnp.array(2.0)}
    >>> jacobian = jax.jacobian(losses)(params)
    >>> jacobian["w"].tolist()  # one gradient a loss
    [4.0, 3.0]
    >>> grads = jax.tree.map(lambda g: (g / jnp.abs(g)).sum(), jacobian)
    >>> updates, _ = tx.update(grads, tx.init(params), params)
    >>> round(float(updates["w"]), 3)  # 2, clipped to 1, times the learning rate
    -0.1

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> model, optimizer = jd.nn.dense(1), jd.optimizers.sgd(0.1)
    >>> objective = jd.train.supervised(model, lambda outputs, y: (outputs - y) ** 2)
    >>> x = jnp.array([[1.0], [2.0]])
    >>> ts = jd.train.init(model, optimizer, x, key=jax.random.key(0))
    >>> step = jax.jit(make_step(objective, optimizer), donate_argnums=0)
    >>> for _ in range(200):
    ...     ts, metrics = step(ts, (x, 3 * x))
    >>> int(ts.step), bool(metrics["loss"] < 0.01)
    (200, True)
    """
    return measured_step(objective, optimizer, accumulation_steps, augment, trainable, update_args)


def measured_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    accumulation_steps: int,
    augment: Augment | None,
    trainable: Where | None,
    update_args: Sequence[str],
    measure: Measure | None = None,
) -> Step:
    """`make_step`, with the further metrics that `measure` makes of the step."""
    check_optimizer(optimizer)
    if trainable is not None:
        check_where(trainable, "trainable")
    check_update_args("update_args", update_args)
    accumulation_steps = _checks.check_count("accumulation_steps", accumulation_steps)
    if augment is not None:
        _checks.check_takes("augment", augment, "key", "batch")
    _checks.check_functions(optional=False, objective=objective)
    update = updating(optimizer, update_args)
    gradients = gradients_of(objective, accumulation_steps)
    losses = losses_of(objective, accumulation_steps)

    def step(ts: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
        if not isinstance(ts, TrainState):
            raise TypeError(f"ts must be a TrainState, as jaxdeep.train.init makes it, got {ts!r}")
        key = jax.random.fold_in(ts.key, ts.step)
        if augment is not None:
            rows, batch = count_rows(batch), augment(augmenting(key), batch)
            if (count := count_rows(batch)) != rows:
                raise ValueError(f"augment must keep the number of rows, {rows}, and returned {count}")
        moving, held = parted(ts.params, trainable, "trainable")
        point = gradient_point(ts.opt_state, moving)
        loss, state, metrics, grads = gradients(point, held, ts.state, batch, key)
        check_metric_names(metrics)

        def loss_fn(moving: PyTree) -> Float[Array, ""]:
            return losses(moving, held, ts.state, batch, key)

        updates, opt_state = update(grads, ts.opt_state, moving, loss, loss_fn)
        if measure is not None:
            inputs = point, moving, held, ts.state, batch, key
            measured = measure(Update(ts.step, *inputs, grads, updates))
            metrics = apart("a measurement of the layers", measured, metrics)
        params = combine(optax.apply_updates(moving, updates), held)
        return TrainState(ts.step + 1, params, state, opt_state, ts.key), {"loss": loss, **metrics}

    return step


def augmenting(key: jax.Array) -> jax.Array:
    """The key that a batch is augmented with, from the key of its step."""
    return jax.random.fold_in(key, jnp.uint32(_AUGMENT))


def gradients_of(objective: Objective, accumulation_steps: int = 1, *, train: bool = True) -> Gradients:
    """A function ``(moving, held, state, batch, key) -> (loss, state, metrics, gradients)``.

    The gradients are with respect to `moving`. They are taken over the whole batch at once, or averaged
    over the examples of this many micro-batches.
    """

    def of_batch(moving: PyTree, held: PyTree, state: PyTree, batch: PyTree, key: jax.Array) -> Gradient:
        def value(moving: PyTree) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
            return objective(combine(moving, held), state, batch, key=key, train=train)

        (loss, (state, metrics)), grads = jax.value_and_grad(value, has_aux=True)(moving)
        return loss, state, metrics, grads

    def of_parts(moving: PyTree, held: PyTree, state: PyTree, batch: PyTree, key: jax.Array) -> Gradient:
        rows = count_examples(batch, "batch")

        def micro_step(carry: PyTree, part: PyTree) -> tuple[PyTree, Metrics]:
            i, state, total = carry
            share = count_examples(part) / rows
            loss, state, metrics, grads = of_batch(moving, held, state, part, jax.random.fold_in(key, i))
            total = jax.tree.map(lambda sum_, g: sum_ + g.astype(sum_.dtype) * share, total, grads)
            return (i + 1, state, total), {"loss": loss, **metrics}

        zeros = jax.tree.map(
            lambda p: jnp.zeros_like(p, jnp.promote_types(p.dtype, jnp.float32)), moving
        )
        carry = (jnp.zeros((), jnp.int32), state, zeros)
        size = _rows_of_parts(rows, accumulation_steps)
        (_, state, total), totals = over_batches(micro_step, carry, batch, jnp.arange(rows), size)
        values = averages(totals)
        grads = jax.tree.map(lambda sum_, p: sum_.astype(p.dtype), total, moving)
        return values.pop("loss"), state, values, grads

    return of_batch if accumulation_steps == 1 else of_parts


def losses_of(objective: Objective, accumulation_steps: int = 1, *, train: bool = True) -> Losses:
    """A function ``(moving, held, state, batch, key) -> loss``; `gradients_of` has its gradient.

    What the objective leaves in the state is dropped.
    """

    def of_batch(moving: PyTree, held: PyTree, state: PyTree, batch: PyTree, key: jax.Array) -> Loss:
        loss, (state, _) = objective(combine(moving, held), state, batch, key=key, train=train)
        return loss, state

    def of_parts(
        moving: PyTree, held: PyTree, state: PyTree, batch: PyTree, key: jax.Array
    ) -> Float[Array, ""]:
        rows = count_examples(batch, "batch")
        of_part = jax.checkpoint(of_batch)  # its gradient takes the memory of a part

        def micro_step(carry: PyTree, part: PyTree) -> tuple[PyTree, Metrics]:
            i, state = carry
            loss, state = of_part(moving, held, state, part, jax.random.fold_in(key, i))
            return (i + 1, state), {"loss": loss}

        carry = (jnp.zeros((), jnp.int32), state)
        size = _rows_of_parts(rows, accumulation_steps)
        _, totals = over_batches(micro_step, carry, batch, jnp.arange(rows), size)
        return averages(totals)["loss"]

    return of_parts if accumulation_steps > 1 else lambda *args: of_batch(*args)[0]


def _rows_of_parts(rows: int, parts: int) -> int:
    return -(-rows // parts)
