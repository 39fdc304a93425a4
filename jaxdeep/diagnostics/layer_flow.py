"""The flow through a network in a step: its gradients, updates and activations, layer by layer."""

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdeep._shapes import Array, Bool, PyTree
from jaxdeep.diagnostics import probe
from jaxdeep.metrics import Metric, Tally
from jaxdeep.nn import walk
from jaxdeep.nn.model import Model
from jaxdeep.train.batches import Metrics
from jaxdeep.train.objective import Evaluated, Objective, supervised
from jaxdeep.train.step import Update, gradients_of
from jaxdeep.train.weights import counts, of_rows

Measured = Any  # a scalar array, or a number for each repetition; a Python float where it is judged


class LayerFlow(NamedTuple):
    """The measurements of one layer in a step.

    Each is an array of shape ``()``, or ``(times,)`` for a layer that is repeated. Those that do not
    apply to the layer (parameters of a dropout, activation of a layer without one) are NaN. Gradients
    are those of the loss, whose mean is over all rows; activations are of rows whose weight is not 0.

    Attributes:
      gradient_norm: ‖g‖, over all parameters of the layer.
      parameter_norm: ‖θ‖, over the same parameters.
      update_ratio: ‖update‖ / ‖θ‖, the step's change relative to the parameters; 1e-3 is usual.
      output_gradient: √rows · ‖∂ loss / ∂ output‖. If the loss is a mean over the batch, this is the
        root mean square, over examples, of the norm of the gradient that comes back to the layer. In a
        network where gradients flow well it is about the same everywhere, whatever the layers' widths.
      activation_mean, activation_std: mean and standard deviation of all elements of the output.
      saturation: share of units × examples at which the activation lets less than 5 % of the gradient
        through, ``|f'(z)| < 0.05``: 2.9 from the middle of a sigmoid, 2.2 from that of a tanh. A
        rectifier (flat just below 0) that is off is not counted.
      dead: share of units at which the activation lets nothing through, ``|f'(z)| < 0.001``, for all
        examples of the batch. In a layer with parameters that may have an activation inside (your own,
        an adapted module), it is the share of units that are always 0. Units are the last axis.
    """

    gradient_norm: Measured
    parameter_norm: Measured
    update_ratio: Measured
    output_gradient: Measured
    activation_mean: Measured
    activation_std: Measured
    saturation: Measured
    dead: Measured


Flow = OrderedDict[str, LayerFlow]


class Probed(NamedTuple):
    """The parameters and taps with respect to which an objective made by `probed` is differentiated."""

    params: PyTree
    taps: Mapping[str, Measured | None]


def probed(model: Model, minimised: Mapping[str, Any]) -> Objective:
    """The supervised objective that also measures the layers' outputs, as a metric called ``readings``.

    Its parameters are `Probed`. The loss and its gradient with respect to ``params`` are those of the
    model; the gradient with respect to ``taps`` is what comes back to the outputs. The readings are of
    the rows whose weight is not 0, and those of micro-batches count by how many they have.
    """
    objective = supervised(probe.probe(model), **minimised)

    def measured(probed_params: Probed, state: PyTree, batch: PyTree, /, **switches: Any) -> Evaluated:
        rows = counted_rows(batch)
        state = probe.tapped(model, state, probed_params.taps, rows)
        loss, (state, metrics) = objective(probed_params.params, state, batch, **switches)
        readings: Any = probe.readings(model, state)
        if rows is not None:
            readings = jax.tree.map(functools.partial(_tally, times=jnp.sum(rows)), readings)
        return loss, (probe.own_state(model, state), metrics | {"readings": readings})

    return measured


def counted_rows(batch: PyTree) -> Bool[Array, "batch"] | None:
    """Which rows of a batch have a weight other than 0; None if none has a weight."""
    return jnp.asarray(of_rows(counts(batch[2]))) if len(batch) == 3 else None


def with_taps(model: Model, moving: PyTree, held: PyTree) -> tuple[Probed, Probed]:
    """Parameters that move and that are held (`jaxdeep.tree.partition`), for what `probed` makes."""
    taps = probe.taps(model)
    return Probed(moving, taps), Probed(held, OrderedDict.fromkeys(taps))


@dataclasses.dataclass(frozen=True, eq=False)
class LayerMeasure:
    """A `jaxdeep.train.step.Measure` of the layers at every `every` steps, the first step included.

    The measurements of a layer are metrics such as ``gradient_norm/hidden1``. A measured step takes a
    second pass over its batch, for the outputs of the layers; other steps take no longer than without.

    Attributes:
      model: the model.
      minimised: the other arguments of `jaxdeep.train.supervised`.
      every: steps from one measurement to the next.
      accumulation_steps: micro-batches of a step.
    """

    model: Any
    minimised: Mapping[str, Any]
    every: int
    accumulation_steps: int

    fields = LayerFlow._fields  # the names of the metrics begin with one of these

    def _identity_(self) -> tuple[object, ...]:
        return self.model, self.minimised, self.every, self.accumulation_steps

    def __call__(self, update: Update) -> Metrics:
        """The metrics of an update."""
        moving, held = update.moving, update.held
        gradients = gradients_of(probed(self.model, self.minimised), self.accumulation_steps)

        def measured() -> Flow:
            tapped = with_taps(self.model, update.point, held)
            _, _, metrics, grads = gradients(*tapped, update.state, update.batch, update.key)
            outputs = {"taps": grads.taps, "readings": metrics["readings"]}
            return flow_of(self.model, moving, update.grads, update.updates, **outputs)

        shape = jax.eval_shape(measured)
        due = update.step % self.every == 0
        if (rows := counted_rows(update.batch)) is not None:
            due &= rows.any()
        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shape)
        flow = jax.lax.cond(due, measured, lambda: nothing)
        return {
            f"{field}/{path}": _tally(getattr(flow[path], field), due)
            for path, fields in applying(self.model, moving, held).items()
            for field in fields
        }


def applying(model: Model, moving: PyTree, held: PyTree) -> OrderedDict[str, list[str]]:
    """By path, which fields of a layer's flow are not always NaN."""
    fields: OrderedDict[str, list[str]] = OrderedDict()
    for leaf in walk.leaves(model):
        free, fixed = walk.at(moving, leaf.keys), walk.at(held, leaf.keys)
        for path, parts in _groups("/".join(leaf.keys), free, free, free):
            if jax.tree.leaves(parts):
                fields[path or leaf.name] = ["gradient_norm", "parameter_norm", "update_ratio"]
        inside = fields.setdefault(leaf.name, [])
        inside += ["output_gradient", "activation_mean", "activation_std"]
        inside += ["saturation"] * probe.has_slopes(leaf.layer)
        inside += ["dead"] * probe.may_die(leaf.layer, bool(jax.tree.leaves((free, fixed))))
    return fields


def flow_of(
    model: Model,
    params: PyTree,
    grads: PyTree,
    updates: PyTree | None = None,
    *,
    taps: Mapping[str, Measured] | None = None,
    readings: Mapping[str, probe.Reading] | None = None,
) -> Flow:
    """The flow by layer, from the gradients, updates, taps and readings of a step.

    `params` are only those that move: a layer that is held has neither a gradient nor a norm.
    """
    flow: Flow = OrderedDict()
    for leaf in walk.leaves(model):
        subtrees = (walk.at(tree, leaf.keys) for tree in (params, grads, updates or {}))
        for path, parts in _groups("/".join(leaf.keys), *subtrees):
            flow[path or leaf.name] = _of_group(parts, len(leaf.stacked))
        if readings is None or taps is None:
            continue
        reading = jax.tree.map(_value, readings[leaf.name], is_leaf=_is_tally)
        usual = flow.get(leaf.name, _of_group(({}, {}, {}), 0))
        flow[leaf.name] = usual._replace(
            output_gradient=taps[leaf.name],
            activation_mean=reading.mean,
            activation_std=reading.std,
            saturation=reading.saturation,
            dead=reading.dead,
        )
    return flow


def _groups(
    path: str, params: PyTree, grads: PyTree, updates: PyTree
) -> Iterator[tuple[str, tuple[PyTree, ...]]]:
    """The parameters in groups: a layer's own, and those of each part of an adapted module."""
    trees = (params, grads, updates)
    parts = [name for name, node in params.items() if isinstance(node, Mapping)]
    if parts == list(params) and len(parts) == 1:  # all parameters are below one name
        (name,) = parts
        yield from _groups(f"{path}/{name}".strip("/"), *(tree.get(name, {}) for tree in trees))
        return
    for name in parts:
        yield f"{path}/{name}".strip("/"), tuple(tree.get(name, {}) for tree in trees)
    direct = tuple({n: leaf for n, leaf in tree.items() if n not in parts} for tree in trees)
    if direct[0]:
        yield path, direct


def _of_group(parts: tuple[PyTree, ...], axes: int) -> LayerFlow:
    """The flow of parameters, gradients and updates with so many leading axes of repetitions."""
    none = jnp.full((), jnp.nan)

    def norm(tree: PyTree) -> Measured:
        return probe.size(tree, axes) if jax.tree.leaves(tree) else none

    length, gradient, update = map(norm, parts)
    return LayerFlow(gradient, length, update / length, none, none, none, none, none)


def _tally(value: Measured, times: Array) -> Tally:
    """A value as a tally, in which it counts so many times, such as 1 or 0: was the step measured?"""
    times = times.astype(value.dtype)
    total = jnp.where(times > 0, value * times, 0)
    return Tally({"sum": total, "count": times}, _mean_of(jnp.shape(value)))


def _is_tally(node: object) -> bool:
    return isinstance(node, Tally)


def _value(node: Any) -> Measured:
    return node.compute() if _is_tally(node) else node


@functools.cache  # a metric is compared by its functions, so that equal shapes must give the same object
def _mean_of(shape: tuple[int, ...]) -> Metric:
    """The metric that is the mean, over the measured steps, of values of this shape; NaN without any."""

    def update(state: PyTree, outputs: PyTree, y: PyTree, weights: PyTree = None) -> PyTree:
        raise TypeError("the flow of a step does not follow from outputs and labels")

    return Metric(
        lambda: {"sum": jnp.zeros(shape), "count": jnp.zeros(())},
        update,
        lambda a, b: jax.tree.map(jnp.add, a, b),
        lambda state: state["sum"] / state["count"],
    )
