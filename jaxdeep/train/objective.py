"""Objectives: what a step minimises.

An objective is any function ``objective(params, state, batch, *, key=None, train=False) ->
(loss, (state, metrics))``: a scalar loss, the model's new state, and a dict of metrics, each the mean
over the examples of the batch. `supervised` makes the usual one.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks, _identity, regularizers
from jaxdeep._arrays import as_array, weights_of_rows
from jaxdeep._compilation import inside, is_traced, kept
from jaxdeep._ignored import ignored_by, without
from jaxdeep._precision import HostOrDevice
from jaxdeep._shapes import Array, ArrayLike, Float, PyTree
from jaxdeep.losses import weighted
from jaxdeep.metrics import Metric, Tally, mean
from jaxdeep.metrics.streaming import tally
from jaxdeep.train.data import check_pair, explain_narrow
from jaxdeep.train.reported import NamedMetrics, Reported, of_several, reported
from jaxdeep.train.state import Network, PerExample, TrainState, check_model
from jaxdeep.train.weights import (
    Table,
    check_one_output,
    classes_of,
    counts,
    may_be_zero,
    of_labels,
    of_rows,
    table_of,
    times,
    without_broken,
    without_uncounted,
)
from jaxdeep.tree import Where, check_where, path_name, selected, shapes

if TYPE_CHECKING:  # which takes 45 ms to import
    from jax.extend.core import ClosedJaxpr, Jaxpr

Key = jax.Array  # a random key
Bounds = tuple[_checks.Bound, ...]  # of the values of labels
Evaluated = tuple[Float[Array, ""], tuple[PyTree, dict[str, Any]]]  # loss, new state, metrics


class Objective(Protocol):
    """``objective(params, state, batch, *, key=None, train=False) -> (loss, (state, metrics))``."""

    def __call__(
        self,
        params: PyTree,
        state: PyTree,
        batch: PyTree,
        /,
        *,
        key: Key | None = None,
        train: bool = False,
    ) -> Evaluated:
        """The loss, the new state and the metrics of a batch."""


def supervised(
    model: Network,
    loss: PerExample,
    *,
    metrics: NamedMetrics | None = None,
    penalty: Callable[[PyTree], Float[Array, ""]] | None = None,
    activity: Callable[[Mapping[str, PyTree]], Float[Array, ""]] | None = None,
    class_weight: Mapping[int, float] | ArrayLike | None = None,
    trainable: Where | None = None,
) -> Objective:
    """The objective of supervised learning: ``mean(loss(model(x), y)) + penalty(params)``.

    Batches are pairs ``(x, y)``, or triples ``(x, y, weights)`` with a weight for every example: the
    loss is then ``Σ w loss / n``, as in Keras (weights of mean 1 keep its size). A metric that is a
    function is averaged over the examples whose weight is not 0, without the weights; a streaming metric
    (``metrics.mean(f)``) applies them. What an example of weight 0 holds makes no difference, be it NaN
    or a class that there is not: a copy of the first example that counts takes its place before anything
    is computed. `regularizers.activity` is of the others, and so are the statistics of batch norms in a
    model of jaxdeep's layers without `lambda_` and `select`; elsewhere such copies count.

    What the model puts out, logits or probabilities, is decided here, once: by its last layer, where
    that is a softmax or a sigmoid (also behind layers that keep what it means, such as `flatten` and
    `dropout`), and by what the loss takes. A loss that takes the other is refused, also as a metric, and
    metrics that were not told (``from_logits=None``) are, as are functions with a keyword of this name,
    such as `jaxdeep.uncertainty.brier_score`. They must be told where neither says it: a loss of one's
    own beside a linear layer.

    Args:
      model: a `jaxdeep.nn.Model`.
      loss: ``(outputs, y) -> losses``, one per example, as in `jaxdeep.losses`; any shape is averaged.
        Of that of several outputs, `jaxdeep.losses.weighted`, each is reported too, as ``main/loss``.
      metrics: further functions of the same form by name, whose means are reported, or streaming ones
        (`jaxdeep.metrics.Metric`), reported as a `jaxdeep.metrics.Tally`, as are the means of batches
        with weights: ``float`` and a format give its value. Those of one of several
        outputs are in a dict under its name, ``{"main": {"rmse": rmse()}}``, and reported as
        ``main/rmse``.
      penalty: ``params -> scalar`` added to the loss, in training and in evaluation
        (`jaxdeep.regularizers`).
      activity: ``outputs of layers by path -> scalar``, added to the loss in the same way
        (`jaxdeep.regularizers.activity`).
      class_weight: a weight for each class, ``{0: 1.0, 1: 5.0}`` (1 for those that are absent) or an
        array with one for each. In training, each loss is multiplied by the weight of its label, which
        is an integer or one-hot; of a soft label p by ``Σ_c p_c w_c``. An example whose class has weight
        0 may have inputs that are not finite (to metrics its outputs are then NaN). It is for a single
        output: of several, weigh each loss. As with Keras' ``class_weight`` the mean is over examples,
        whereas PyTorch's ``weight=`` divides by the sum of the weights.
      trainable: the parameters that are trained, as for `make_step`. In training, batch norms that are
        not among them normalise by their running statistics and keep these (`Model.frozen`).

    Returns:
      An `Objective`, ``objective(params, state, batch, *, key=None, train=False) -> (loss, (state,
      metrics))``. Any function of this form can take its place. The loss is a scalar, which is
      differentiated with respect to `params`. The state is the model's new one, in the structure it had,
      or ``{}`` if there is none. The metrics are a dict by name, without the loss, of means over the
      batch's examples or of `jaxdeep.metrics.Tally`. `key` is None where nothing is random, and `train`
      is True in training only; `jaxdeep.train.make_evaluate` passes neither.

    Raises:
      TypeError: a loss, metric or penalty that is not a function.
      ValueError: a metric called "loss", which is the name of the loss itself, or "step", that of the
        number of an epoch in a log; a negative weight of a class; a loss or a metric of logits for a
        model that puts out probabilities, or the reverse; a metric that depends on it where nothing says
        which; a softmax over a single output. When called: a weight for a class that there is not, or an
        array without one for each; beside `class_weight`, labels below 0 and fractions that are no share
        of two classes; weights of examples that are NumPy arrays and negative or not finite (those on a
        device are not looked at, since each step would wait for it).

    >>> import jax, jaxdeep as jd
    >>> model = jd.nn.dense(2)
    >>> objective = supervised(model, jd.losses.softmax_cross_entropy,
    ...                        metrics={"accuracy": jd.metrics.accuracy})
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> loss, (state, metrics) = objective(params, state, (jnp.ones((4, 3)), jnp.zeros(4, int)))
    >>> loss.shape, sorted(metrics)
    ((), ['accuracy'])
    """
    check_model(model)
    listed = reported(model, loss, metrics)
    for name, function, argument in (("penalty", penalty, "params"), ("activity", activity, "outputs")):
        if function is not None:
            _checks.check_takes(name, function, argument)
            _check_made(name, function)
    _check_made("loss", loss)
    if trainable is not None:
        check_where(trainable, "trainable")
    of_classes = None if class_weight is None else table_of(class_weight)
    weigh = functools.partial(_of_classes, whole=not isinstance(class_weight, Mapping))
    masks = getattr(model, "masks", False)

    def objective(
        params: PyTree, state: PyTree, batch: PyTree, /, *, key: Key | None = None, train: bool = False
    ) -> Evaluated:
        check_pair(batch, "batch")
        x, y, weights = batch if len(batch) == 3 else (*batch, None)
        _check_rows(x)
        counted = None
        if weights is not None:
            counted = counts(weights := weights_of_rows(weights))
            x, y = without_uncounted(counted, x, y)
        broken = None
        if train and of_classes is not None and may_be_zero(of_classes):
            label_weights = _weights_of_classes(weigh, model, loss, of_classes, params, state, x, y, key)
            x, broken = without_broken(jnp.asarray(of_rows(label_weights != 0)), x)
        layer_outputs: dict[str, PyTree] = {}
        network: Any = model  # one that can be frozen or watched, where that is asked for
        if train and trainable is not None:
            network = network.frozen(selected(params, trainable, "trainable"))
        if activity is not None:
            network = network.watch(layer_outputs)
        mask = _mask(counted, broken)
        rows = mask if train and masks else {}
        outputs, state = network.apply(params, state, x, train=train, key=key, **rows)
        with _of_one("loss", loss, outputs):
            losses = loss(outputs, y)
        if of_classes is not None:
            label_weights = weigh(loss, of_classes, outputs, losses, y)
            losses = times(losses, label_weights) if train else losses
        value = _mean("loss", losses, outputs, y, weights)
        if broken is not None:  # what a metric sees of them is not that of the rows that stood for them
            outputs = jax.tree.map(functools.partial(_nan_where, broken), outputs)
        if penalty is not None:
            value = value + _scalar("penalty", penalty(params))
        if activity is not None:
            rows = mask if getattr(activity, "masks", False) else {}
            named = {path: output for path, output in layer_outputs.items() if path}
            value = value + _scalar("activity", activity(named, **rows))

        of_batch = functools.partial(_value, outputs=outputs, y=y, weights=weights, counted=counted)
        return value, (state, {name: of_batch(name, one) for name, one in listed.items()})

    parts = [name for name, one in listed.items() if one.is_loss]
    vars(objective).update(of_model=model, of_loss=loss, parts_of_loss=parts)
    return objective


def _value(
    name: str, one: Reported, *, outputs: PyTree, y: PyTree, weights: ArrayLike | None, counted: Any
) -> Tally | Float[Array, ""]:
    """What is reported of a batch under this name."""
    metric, predicted, due = one.function, one.of("outputs", outputs), one.of("targets", y)
    with _of_one(f"metrics[{name!r}]", metric, predicted):
        if isinstance(metric, Metric):
            return tally(metric, predicted, due, weights)
        if one.is_loss:
            return _mean(name, metric(predicted, due), predicted, due, weights)
        if counted is not None or ignored_by(metric) is not None:
            return _counted(name, metric, predicted, due, counted)
        values = metric(predicted, due)
    return _mean(f"metrics[{name!r}]", values, predicted, due, None)


@contextlib.contextmanager
def _of_one(name: str, function: Any, outputs: PyTree) -> Iterator[None]:
    """Where it is entered, an error of a function that cannot take several outputs says so."""
    try:
        yield
    except (TypeError, AttributeError) as error:
        is_one = not isinstance(outputs, (Mapping, list, tuple)) or not outputs
        if is_one or hasattr(inside(function), "of_outputs"):
            raise
        names = list(outputs) if isinstance(outputs, Mapping) else list(range(len(outputs)))
        raise TypeError(of_several(name, names)) from error


def _counted(name: str, metric: PerExample, outputs: PyTree, y: PyTree, counted: Any) -> Tally:
    """The mean of a metric over the rows that count, all of them if that is None."""
    shape = jnp.shape(jax.eval_shape(metric, outputs, y))
    if counted is not None and shape[:1] != counted.shape[:1]:
        raise ValueError(
            f"metrics[{name!r}] must give a value for each row where some do not count, such as those "
            f"that fill up the last batch, got shape {shape} for {counted.shape[0]} rows; streaming "
            "metrics, such as jaxdeep.metrics.brier(), are of all rows"
        )
    return tally(mean(metric), outputs, y, counted)


def _check_made(name: str, function: Any) -> None:
    """Refuse a function that makes a loss or a penalty in the place of what it makes."""
    if function in (weighted, regularizers.l1, regularizers.l2, regularizers.l1_l2):
        raise TypeError(f"{name} must be what {function.__name__} returns, got the function; call it")


def _of_classes(
    loss: PerExample, table: Table, outputs: PyTree, losses: Any, y: PyTree, *, whole: bool
) -> Float[Array, "*batch"]:
    """The weight of each label, of a table of all classes if it must be `whole`."""
    check_one_output("class_weight is", y)
    losses = losses if hasattr(losses, "dtype") else jnp.asarray(losses)
    if (ignored := ignored_by(loss)) is not None:
        y, _ = without(as_array("y", y), ignored)
    return of_labels(table, losses, y, classes_of(loss, outputs, y, losses), whole=whole)


def _weights_of_classes(
    weigh: Callable[..., Float[Array, "*batch"]],
    model: Network,
    loss: PerExample,
    table: Table,
    params: PyTree,
    state: PyTree,
    x: PyTree,
    y: PyTree,
    key: Key | None,
) -> Float[Array, "*batch"]:
    """The weight of each label before the model runs, from the shapes of what it will put out."""

    def computed() -> tuple[PyTree, Any]:
        outputs, _ = model.apply(params, state, x, train=True, key=key)
        return outputs, jnp.asarray(loss(outputs, y))

    outputs, losses = jax.eval_shape(computed)
    return weigh(loss, table, outputs, losses, y)


def _mask(counted: HostOrDevice | None, broken: Array | None) -> dict[str, Array]:
    """The rows that batch statistics are of, where some are not, as the argument of a model."""
    rows = [] if counted is None else [jnp.asarray(of_rows(counted))]
    rows += [] if broken is None else [~broken]
    return {"mask": functools.reduce(jnp.logical_and, rows)} if rows else {}


def _nan_where(broken: Array, output: Any) -> Any:
    """An output without a value for some rows."""
    if jnp.shape(output)[:1] != broken.shape or not jnp.issubdtype(output.dtype, jnp.floating):
        return output
    return jnp.where(broken.reshape(-1, *(1,) * (output.ndim - 1)), jnp.nan, output)


def _mean(
    name: str, values: ArrayLike, outputs: PyTree, y: PyTree, weights: ArrayLike | None
) -> Float[Array, ""]:
    """The weighted mean in at least float32; refuses values that broadcasting has blown up."""
    values = _numbers(name, values, "an array of values, one for each example")
    if hasattr(outputs, "shape") and values.shape != outputs.shape[: values.ndim]:
        raise ValueError(
            f"{name} gives values of shape {values.shape} for outputs of shape {outputs.shape} and y of "
            f"shape {jnp.shape(y)}: one value an example was due; give y the shape of the outputs"
        )
    wide = jnp.promote_types(values.dtype, jnp.float32)
    if weights is not None:
        if jnp.shape(weights) != values.shape[: jnp.ndim(weights)]:
            if jnp.shape(weights)[:1] == values.shape[:1]:
                raise ValueError(
                    f"weights must be one a row, or have the leading axes of what {name} gives, "
                    f"{values.shape}, got {jnp.shape(weights)}"
                )
            raise ValueError(
                f"{name} must give a value for each row where rows have weights, or fill up the last "
                f"batch, got shape {values.shape} for weights of {jnp.shape(weights)}"
            )
        trailing = (1,) * (values.ndim - jnp.ndim(weights))
        values = times(values, jnp.reshape(jnp.asarray(weights, wide), jnp.shape(weights) + trailing))
    return jnp.mean(values, dtype=wide)


def _check_rows(x: PyTree) -> None:
    """Refuse a batch without rows, whose loss would be NaN."""
    for leaf in jax.tree.leaves(x):
        if np.shape(leaf)[:1] == (0,):
            raise ValueError(f"batch is empty: x has shape {np.shape(leaf)}, and no row to learn from")


def _scalar(name: str, value: Any) -> Array:
    """What a penalty returns; refuses anything but a scalar."""
    array = _numbers(name, value, "a scalar")
    if array.shape != ():
        raise ValueError(f"{name} must return a scalar, got an array of shape {array.shape}")
    return array


def _numbers(name: str, value: Any, due: str) -> Array:
    """What a function returns as an array; refuses what is none."""
    if isinstance(value, (bool, int, float, np.ndarray, np.generic, jax.Array)):
        return jnp.asarray(value)
    raise TypeError(f"{name} must return {due}, got {value!r}")


def rehearse(
    objective: Objective, ts: TrainState, data: PyTree, name: str
) -> "tuple[ClosedJaxpr, Bounds]":
    """The jaxpr of the objective, traced with the shapes of x and the values of the rest of `data`.

    Besides, the checks that were made of these values (`check_bounds` makes them of others).

    Shapes that the model refuses and labels that the loss refuses raise here, before anything is
    compiled. `name` is the argument that the data were passed as, for the error.
    """
    x, *rest = data
    # weights of the host, whose values are looked at; those on a device are not
    rest[1:] = [w if is_traced(w) else jax.tree.map(np.asarray, w) for w in rest[1:]]
    try:
        with _checks.bounds_of(jax.tree.leaves(rest)) as bounds:
            jaxpr, out = jax.make_jaxpr(
                lambda params, state, x: objective(params, state, (x, *rest)), return_shape=True
            )(shapes(ts.params), shapes(ts.state), shapes(x))
    except (ValueError, TypeError) as error:
        explain_narrow(f"{name}[0]", x, error)
        if rest[0] is None and type(error) is TypeError:  # not that of a layer
            raise TypeError(
                f"{name}[1], the labels, must be arrays, got None: give pairs (x, y), which of the "
                f"batches of a loader batch= makes ({error})"
            ) from error
        error.add_note(f"(found in {name}, before anything was compiled)")
        raise
    if out[0].shape != ():
        raise ValueError(f"the objective must return a scalar loss, got shape {out[0].shape}")
    return jaxpr, tuple(sorted(bounds))


def check_bounds(bounds: Bounds, data: PyTree, name: str) -> None:
    """Check labels that lie on the host as those were that `rehearse` saw; rows of weight 0 may be any.

    `data` are ``(x, y)`` or ``(x, y, weights)``, in the structure that was rehearsed.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tuple(data))
    leaves = [(path, leaf) for path, leaf in leaves if path[0] != jax.tree_util.SequenceKey(0)]
    weights = data[2] if len(data) > 2 else None
    for bound in bounds:
        path, leaf = leaves[bound.place]
        if not isinstance(leaf, np.ndarray):  # a device is not waited for
            continue
        if isinstance(weights, np.ndarray) and leaf.shape[: weights.ndim] == weights.shape:
            leaf = leaf[weights != 0]
        bound.check(f"labels, {name}[{path_name(path)}],", leaf)


def plan(objective: Objective, ts: TrainState, data: PyTree) -> "ClosedJaxpr":
    """The jaxpr of an objective in training on data of these shapes."""

    def loss(params: PyTree, state: PyTree, batch: PyTree, key: jax.Array) -> Evaluated:
        return objective(params, state, batch, key=key, train=True)

    return jax.make_jaxpr(loss)(*shapes((ts.params, ts.state, data, ts.key)))


def has_convolution(jaxpr: "ClosedJaxpr | Jaxpr") -> bool:
    """Whether a jaxpr, or one nested in it, has a convolution whose gradient JAX derives.

    These gradients are slow in a compiled loop on a CPU. `jaxdeep.nn.conv` has gradients of its own
    (`jax.custom_jvp`), which do not count.
    """
    unclosed = getattr(jaxpr, "jaxpr", jaxpr)
    for equation in unclosed.eqns:
        if equation.primitive.name == "conv_general_dilated":
            return True
        if equation.primitive.name == "custom_jvp_call":
            continue
        for value in jax.tree.leaves(tuple(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(value) and has_convolution(value):
                return True
    return False


def _is_jaxpr(value: object) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")


def rehearsed(
    objective: Objective, identity: _identity.Key, ts: TrainState, sample: PyTree, name: str
) -> tuple[bool, Bounds]:
    """What `rehearse` finds of labels like these, traced once for an identity.

    Besides the bounds: whether the objective has a convolution that is slow in a compiled loop.
    """

    def find() -> tuple[bool, Bounds]:
        jaxpr, bounds = rehearse(objective, ts, sample, name)
        return has_convolution(jaxpr), bounds

    return kept(_identity.key_of("rehearse", identity, _labels_key(sample)), find, (ts, sample))


def _labels_key(sample: PyTree) -> list[tuple[int, int] | np.ndarray]:
    """The part of labels and weights that a refusal depends on: of integers the range, else values."""
    _, *rest = sample
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(rest)]
    return [
        (leaf.min().item(), leaf.max().item()) if leaf.dtype.kind in "iub" and leaf.size else leaf
        for leaf in leaves
    ]
