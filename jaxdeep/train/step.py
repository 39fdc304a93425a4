"""One update as a pure function."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxdeep.optimizers import lookahead
from jaxdeep.train.objective import Objective, check_metric_names
from jaxdeep.train.state import TrainState

PyTree = Any
Step = Callable[[TrainState, PyTree], tuple[TrainState, dict[str, Any]]]


def make_step(objective: Objective, optimizer: optax.GradientTransformation) -> Step:
    """The update of `objective` by `optimizer`: ``step(ts, batch) -> (ts, metrics)``, pure.

    The gradient is taken at ``lookahead(opt_state, params)``: at the parameters for every optimizer
    but `nag`. Randomness of step t comes from ``fold_in(ts.key, t)``. The optimizer is passed
    `params` and ``value=loss``. Metrics are ``{"loss": …}`` and those of the objective, on the batch,
    before the update.

    Nothing is compiled or donated here; in a loop of your own, use
    ``jax.jit(step, donate_argnums=0)``.

    Args:
      objective: see `jaxdeep.train.supervised`.
      optimizer: any optax transformation.

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
    check_optimizer(optimizer)
    if not isinstance(optimizer, optax.GradientTransformation):
        optimizer = optax.GradientTransformationExtraArgs(optimizer.init, optimizer.update)
    optimizer = optax.with_extra_args_support(optimizer)

    def step(ts: TrainState, batch: PyTree) -> tuple[TrainState, dict[str, Any]]:
        key = jax.random.fold_in(ts.key, ts.step)
        point = lookahead(ts.opt_state, ts.params)
        (loss, (state, metrics)), grads = jax.value_and_grad(objective, has_aux=True)(
            point, ts.state, batch, key=key, train=True
        )
        check_metric_names(metrics)
        updates, opt_state = optimizer.update(grads, ts.opt_state, ts.params, value=loss)
        params = optax.apply_updates(ts.params, updates)
        return TrainState(ts.step + 1, params, state, opt_state, ts.key), {"loss": loss, **metrics}

    return step


def check_optimizer(optimizer: Any) -> None:
    """Refuse anything that is not an optax transformation."""
    pair = all(callable(getattr(optimizer, name, None)) for name in ("init", "update"))
    if not pair:  # optax.MultiSteps is such a pair without being a GradientTransformation
        hint = "; call it with a learning rate" if callable(optimizer) else ""
        raise TypeError(
            "optimizer must be an optax transformation such as jaxdeep.optimizers.adam(1e-3), got "
            f"{optimizer!r}{hint}"
        )
