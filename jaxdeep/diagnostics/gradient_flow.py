"""`gradient_flow`, which measures every layer of a network on one batch."""

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import optax

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves
from jaxdeep._compilation import is_traced, kept, meant_nans, meant_transfers, run_once
from jaxdeep._identity import key_of
from jaxdeep._shapes import PyTree
from jaxdeep.diagnostics.layer_flow import Flow, flow_of, probed, with_taps
from jaxdeep.nn.fits import check_fit
from jaxdeep.nn.model import Model
from jaxdeep.optimizers import gradient_point
from jaxdeep.train.columns import check_told_apart_by_column
from jaxdeep.train.data import as_arrays, check_pair, check_weights, count_examples
from jaxdeep.train.objective import rehearsed, supervised
from jaxdeep.train.options import Minimised, filled, minimised_of, takes
from jaxdeep.train.state import TrainState, check_optimizer, only
from jaxdeep.train.step import gradients_of, losses_of
from jaxdeep.train.updating import DEFAULT, check_update_args, updating
from jaxdeep.tree import Where, check_where, mask, parted


@takes(Minimised)
@meant_transfers()
@meant_nans()
def gradient_flow(
    model: Model,
    params: PyTree,
    state: PyTree,
    batch: PyTree,
    *,
    optimizer: optax.GradientTransformation | None = None,
    opt_state: PyTree | None = None,
    trainable: Where | None = None,
    update_args: Sequence[str] = DEFAULT,
    key: jax.Array | int | None = None,
    train: bool = True,
    where: Where | None = None,
    **minimised: Unpack[Minimised],
) -> Flow:
    """The gradients, updates and activations of a network, layer by layer, on one batch.

    Deep networks fail to learn if gradients shrink or grow from layer to layer on their way back, if
    activations sit where their function is flat, or if no example switches a unit on. `report` shows the
    result as a table with a verdict, `diagnose` returns the verdict as data, and
    `jaxdeep.plotting.gradient_flow` draws the result.

    This is a pure function. `jax.vmap` over parameters measures many networks, of which
    ``jax.tree.map(lambda a: a[i], flow)`` is one. A layer in `repeat` is measured at each of its
    repetitions. `dead` needs a hundred examples or more to be meaningful.

    Args:
      model: any `Model`. An adapted Flax or Equinox module is one layer: its output is measured, and its
        parameters are grouped by their uppermost names.
      params, state: parameters and state of the model.
      batch: ``(x, y)`` or ``(x, y, weights)``; with `objective`, a batch as it takes it.
      loss, penalty, activity, class_weight: as for `jaxdeep.fit`.
      objective: instead of these. Only parameters are measured then, and all else is NaN.
      optimizer: makes the updates for `update_ratio`, which is NaN without. Gradients are taken where
        the optimizer takes them (`jaxdeep.optimizers.gradient_point`).
      opt_state: the optimizer's state; that of a first step by default.
      trainable: the parameters that are trained, as for `jaxdeep.fit`. The others have no gradient, and
        their batch norms are frozen.
      update_args: what the optimizer's update is passed, as for `jaxdeep.fit`.
      key: random key of dropout, or its seed; without it nothing is dropped.
      train: whether batch norms use the batch's statistics.
      where: the layers to return, as a glob over their paths or a list of globs; all by default.

    Returns:
      An ordered dict from the path of each layer to its `LayerFlow`, in the order of application.

    Raises:
      ValueError: neither or both of `loss` and `objective`; `opt_state` without `optimizer`; a `where`
        that matches no layer; parameters that are not of the model, by their path. TypeError: not a
        `Model`, not an optimizer.

    Source: Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural
    networks" (2010).

    >>> import jax.numpy as jnp, jaxdeep as jd
    >>> model = jd.nn.serial(hidden=jd.nn.dense(50, activation=jax.nn.relu), logits=jd.nn.dense(3))
    >>> x, y = jax.random.normal(jax.random.key(1), (64, 20)), jnp.zeros(64, int)
    >>> params, state = model.init(jax.random.key(0), x)
    >>> flow = gradient_flow(model, params, state, (x, y), loss=jd.losses.softmax_cross_entropy,
    ...                      optimizer=jd.optimizers.adam(1e-3))
    >>> list(flow), flow["hidden"].gradient_norm.shape, bool(flow["hidden"].update_ratio < 0.1)
    (['hidden', 'logits'], (), True)
    """
    if not isinstance(model, Model):
        raise TypeError(f"model must be a jaxdeep.nn.Model, got {model!r}")
    key = None if key is None else _checks.as_key(key)
    _checks.check_flag("train", train)
    for argument, tree in (("params", params), ("state", state)):
        check_leaves(argument, tree, real=False)
    options: Minimised = filled("gradient_flow", Minimised, minimised)
    supervision, objective = minimised_of("gradient_flow", options), options["objective"]
    if objective is None:
        fits = functools.partial(check_fit, model, params, state)
        kept(key_of("fits", model), fits, (params, state))
    if trainable is not None:
        check_where(trainable, "trainable")
    check_update_args("update_args", update_args)
    if optimizer is not None:
        check_optimizer(optimizer)
        opt_state = only(optimizer, trainable).init(params) if opt_state is None else opt_state
    elif opt_state is not None:
        raise ValueError("opt_state= is given without the optimizer= it belongs to")
    frozen: dict[str, Any] = {} if trainable is None else {"trainable": trainable}
    unprobed = objective
    if unprobed is None:
        batch = _checked(model, params, state, batch, supervision)
        unprobed = supervised(model, **supervision, **frozen)

    measured = probed(model, supervision | frozen) if objective is None else objective

    def measure(params: PyTree, state: PyTree, opt_state: PyTree, batch: PyTree, key: jax.Array) -> Flow:
        moving, held = parted(params, trainable, "trainable")
        point = moving if optimizer is None else gradient_point(opt_state, moving)
        gradients = gradients_of(measured, train=train)
        tapped = with_taps(model, point, held) if objective is None else (point, held)
        loss, _, metrics, grads = gradients(tapped[0], tapped[1], state, batch, key)
        outputs: dict[str, Any] = {}
        if objective is None:
            outputs = {"taps": grads.taps, "readings": metrics["readings"]}
            grads = grads.params
        updates = None
        if optimizer is not None:
            losses = losses_of(unprobed, train=train)
            updates, _ = updating(optimizer, update_args)(
                *(grads, opt_state, moving, loss), lambda some: losses(some, held, state, batch, key)
            )
        return flow_of(model, moving, grads, updates, **outputs)

    update = None if optimizer is None else optimizer.update
    program = key_of("flow", model, measured, update, trainable, tuple(update_args), train)
    flow: Flow = run_once(measure, params, state, opt_state, batch, key, key=program)
    if where is None:
        return flow
    chosen = mask(dict.fromkeys(flow, 0), where)
    return OrderedDict((path, layer) for path, layer in flow.items() if chosen[path])


def _checked(
    model: Model, params: PyTree, state: PyTree, batch: PyTree, supervision: dict[str, Any]
) -> PyTree:
    """The batch as arrays, refused if it does not fit the model and the loss."""
    check_pair(batch, "batch")
    batch = as_arrays(batch, "batch")
    check_told_apart_by_column(batch, "batch")
    count_examples(batch, "batch")
    check_weights(batch, "batch")
    if not is_traced(batch):
        # so that labels are checked, which cannot be done once they are traced
        ts = TrainState(jnp.zeros((), jnp.int32), params, state, (), jax.random.key(0))
        objective = supervised(model, **supervision)
        rehearsed(objective, key_of(objective), ts, batch, "batch")
    return batch
