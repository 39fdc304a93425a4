"""Monte Carlo dropout."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves, leaves_of
from jaxdeep._compilation import meant_nans, meant_transfers, run_once
from jaxdeep._identity import key_of
from jaxdeep._shapes import ArrayLike, PyTree
from jaxdeep.fitting.ahead import told_apart
from jaxdeep.fitting.rows import check_rows
from jaxdeep.nn import walk
from jaxdeep.nn.fits import check_fit
from jaxdeep.nn.model import Model, check_models
from jaxdeep.nn.outputs import meaning_of
from jaxdeep.train import sharding
from jaxdeep.train.data import as_arrays, count_examples, count_rows, with_rows
from jaxdeep.train.outputs import outputs_of
from jaxdeep.train.state import PerExample
from jaxdeep.tree import shapes
from jaxdeep.uncertainty.prediction import Prediction, check_outputs, gather
from jaxdeep.uncertainty.rows import (
    divisor,
    in_parts,
    limits,
    on_devices,
    part_rows,
    placed,
    row_bytes,
    usable,
)

Shared = tuple[PyTree, PyTree, jax.Array]  # parameters, state, and a key or keys


@meant_transfers()
@meant_nans(meant=False)
def mc_dropout(
    model: Model,
    params: PyTree,
    state: PyTree,
    x: PyTree,
    key: jax.Array | int,
    *,
    samples: int = 100,
    batch_size: int | None = None,
    return_samples: bool = False,
    outputs: Any = None,
    from_logits: bool | None = None,
    loss: PerExample | None = None,
    mesh: Mesh | None = None,
) -> Prediction:
    """Monte Carlo dropout: many predictions of the same rows, each with other units dropped.

    Sample s is ``softmax(model.apply(params, state, x, key=keys[s])[0])`` with ``keys =
    jax.random.split(key, samples)``. It is given a key but not `train`, so that batch norm uses its
    statistics and does not update them. All random layers take part (`alpha_dropout`, `gaussian_noise`,
    `rrelu`, those of adapted modules). The `Prediction` has the mean, the standard deviation, the
    entropy and the mutual information over samples.

    This is one compiled program, whose memory does not grow with `samples`. Rows are computed in chunks
    that fit the cache, the layers before the first random one are computed once, and of the samples only
    sums are kept. The masks of a chunk are the same as without chunks. Some models cannot draw the masks
    of a part of the rows, because a random layer has no `Model.rows_from` (adapted modules, models of
    your own, ``generator="threefry"``) or rows do not stay on the first axis. For these, all rows are
    one chunk, unless there is a `batch_size`, with which chunk i draws from
    ``jax.random.fold_in(keys[s], i)``. A model whose rows depend on each other in another way needs
    ``batch_size=len(x)``.

    It may be called inside `jax.jit` and `jax.vmap`. It is compiled once for each shape and each
    `model`, where models of jaxdeep's layers are the same if they were made alike.

    Args:
      model: a `Model` with a random layer.
      params, state: its parameters and state.
      x: inputs, an array or a pytree of arrays with N rows each.
      key: a random key, or its seed.
      samples: how many, at least 1.
      batch_size: rows of a chunk at most; by default as many as fit the cache (a CPU), or more.
      return_samples: whether to return all of them too: memory for ``samples · N · C`` numbers.
      outputs: what the model gives: "logits" (softmax is taken of them over the last axis; of a single
        one, σ, the probability of one of two classes), "label_logits" (σ of each, of labels that do not
        exclude each other), "probabilities", or "values" for a regression, which have no entropy. By
        default what `loss` says; else "probabilities" for a model that ends in a softmax or sigmoid
        (those of a sigmoid are of labels that do not exclude each other: their entropies are added up),
        their exponentials for one that ends in the logarithm of such, as `jax.nn.log_sigmoid`,
        and "logits" for several numbers of a layer without an activation, or of an adapted module that
        does not end in one of these; it must be said of a single number, and behind any other activation
        or `lambda_`. A model
        with several outputs takes them in their structure, ``{"box": "values", "class": "logits"}``, or
        one word for all; there it must be said of each that does not end in a softmax or sigmoid.
      from_logits: the same in the word of losses and metrics: True for ``outputs="logits"``, False for
        ``outputs="probabilities"``.
      loss: the loss that it was trained with, as for `jaxdeep.predict`: it says what the outputs are.
      mesh: devices to split the rows over, as for `jaxdeep.fit`.

    Raises:
      TypeError: an argument of the wrong type, such as a float for the key.
      ValueError: a model without a random layer, parameters that are not of the model, no rows, a single
        row without an axis of rows,
        fewer than 1 sample, another kind of outputs,
        an output of which nobody says what it is, or that is said to be probabilities and comes out of
        a layer that gives none; a mesh without an axis called "data".

    Source: Gal & Ghahramani, "Dropout as a Bayesian Approximation" (arXiv:1506.02142); mutual
    information of Houlsby et al. (arXiv:1112.5745).

    >>> import jaxdeep as jd
    >>> model = jd.nn.serial(jd.nn.dense(8, activation=jax.nn.relu), jd.nn.dropout(0.5), jd.nn.dense(3))
    >>> x = jnp.ones((5, 4))
    >>> params, state = model.init(jax.random.key(0), x)
    >>> pred = mc_dropout(model, params, state, x, key=jax.random.key(1), samples=20)
    >>> pred.mean.shape, pred.std.shape, pred.entropy.shape, pred.mutual_information.shape
    ((5, 3), (5, 3), (5,), (5,))
    """
    check_models("mc_dropout", {"model": model})
    if not model.stochastic:
        raise ValueError(f"mc_dropout needs a model with a random layer such as dropout, got {model!r}")
    key = _checks.as_key(key)
    samples = _checks.check_count("samples", samples)
    params, state = leaves_of("params", params), leaves_of("state", state)
    for argument, tree in (("params", params), ("state", state)):
        check_leaves(argument, tree, real=False)
    x = told_apart(model, as_arrays(x, "x", inputs=True))
    settings = settings_of(model, x, batch_size, return_samples, (outputs, from_logits, loss), mesh)
    shared, x = placed(settings.mesh, (params, state, key), x)
    sampled = functools.partial(_mc_dropout, settings, int(samples))
    return run_once(sampled, shared, x, key=key_of("mc", settings, int(samples)), once=None)


class Settings(NamedTuple):
    """What a program that predicts is made for, besides the shapes of its arguments.

    Attributes:
      model: the model.
      batch_size: rows of a chunk at most; None for as many as fit the cache.
      return_samples: whether the prediction holds all samples.
      outputs: what was said that the model gives, one of `OUTPUTS` or several in its outputs' structure.
      mesh: devices that the rows are split over.
    """

    model: Model
    batch_size: int | None
    return_samples: bool
    outputs: Any
    mesh: Mesh | None


def settings_of(
    model: Model,
    x: PyTree,
    batch_size: int | None,
    return_samples: bool,
    said: tuple[Any, bool | None, PerExample | None],
    mesh: Mesh | None,
) -> Settings:
    """The settings; refuses those without sense. `said` of the outputs: outputs, from_logits, loss."""
    outputs, from_logits, loss = said
    count_examples(x, "x")
    if batch_size is not None:
        batch_size = _checks.check_count("batch_size", batch_size)
    _checks.check_flag("return_samples", return_samples)
    check_outputs(outputs)
    if from_logits is not None:
        _checks.check_flag("from_logits", from_logits)
        if outputs is not None:
            raise ValueError(f"outputs={outputs!r} and from_logits={from_logits} say the same: give one")
        outputs = "logits" if from_logits else "probabilities"
    _checks.check_functions(loss=loss)
    if outputs is None and loss is not None:
        outputs = said_by(outputs_of(loss), model)
    return Settings(model, batch_size, bool(return_samples), outputs, usable(mesh))


def said_by(words: Any, model: Model) -> Any:
    """What the loss says of the outputs, None where the model's last layers say it."""
    known = meaning_of(model)
    if known in ("probabilities", "labels", "log_probabilities", "log_labels"):
        return None
    return words


def _mc_dropout(settings: Settings, samples: int, shared: Shared, x: PyTree) -> Prediction:
    params, state, key = shared
    check_fit(settings.model, params, state)
    check_rows(settings.model, (params, state), x)
    head, tail = split(settings.model)
    rows, shifts, together = _plan(settings, samples, shared, x)

    def predict(shared: Shared, x: PyTree, before: jax.Array | int) -> Prediction:
        params, state, keys = shared

        def part(x: PyTree, first: jax.Array | int, number: ArrayLike | None) -> Prediction:
            h, _ = head.apply(params, state, x)
            net = shifted(tail, before + first, count_rows(x)) if shifts else tail

            def output_of(key: jax.Array) -> PyTree:
                if not shifts and number is not None:
                    key = jax.random.fold_in(key, number)
                return net.apply(params, state, h, key=key)[0]

            keep = settings.return_samples
            said, known = settings.outputs, meaning_of(settings.model)
            return gather(output_of, keys, said, known, together=together, keep=keep)

        return in_parts(part, x, rows)

    shared, mesh = (params, state, jax.random.split(key, samples)), settings.mesh
    if mesh is None:
        return predict(shared, x, 0)
    if shifts:
        return on_devices(predict, shared, x, mesh)
    return predict(shared, sharding.split(mesh, x), 0)


def _plan(settings: Settings, samples: int, shared: Shared, x: PyTree) -> tuple[int, bool, int]:
    """The rows of a chunk, whether layers are shifted to chunks, and the samples computed together."""
    (*fixed, key), x = shapes(shared), shapes(x)
    model, batch_size, mesh = settings.model, settings.batch_size, settings.mesh
    head, tail = split(model)
    h = jax.eval_shape(lambda params, state, x: head.apply(params, state, x)[0], *fixed, x)
    total = count_rows(x)
    devices = 1 if mesh is None else mesh.shape[sharding.DATA]
    rows_on_device = -(-total // devices)

    every_time, once = limits(mesh)
    per_row = row_bytes(tail, fixed, h, total)
    per_row_once = row_bytes(head, fixed, x, total)
    rows = batch_size or part_rows(rows_on_device, (per_row, every_time), (per_row_once, once))
    rows = -(-rows_on_device // -(-rows_on_device // rows))  # the size of the parts of `in_parts`
    shifts = (rows < rows_on_device or devices > 1) and _shifts(model, fixed, x, rows)
    if not shifts and batch_size is None:
        rows = total
    # Only threefry, whose keys have two words, draws the same bits under vmap as in a loop.
    can_vmap = jax.eval_shape(jax.random.key_data, key).shape == (2,)
    return rows, shifts, divisor(samples, every_time // (per_row * rows)) if can_vmap else 1


def split(model: Model) -> tuple[Model, Model]:
    """The part of a model before its first random layer, and the rest, as models of its structure.

    >>> import jaxdeep as jd
    >>> head, tail = split(jd.nn.serial(jd.nn.dense(4), jd.nn.dropout(0.5), jd.nn.dense(2)))
    >>> [layer.kind for layer in head.layers.values()], [layer.kind for layer in tail.layers.values()]
    (['dense', 'same', 'same'], ['same', 'dropout', 'dense'])
    """

    def halves(place: walk.Place, layers: dict[str, tuple[Model, Model]]) -> tuple[Model, Model]:
        layer = place.layer
        if not layer.stochastic:
            return layer, _SAME
        if layer.traits.joins != "chain" or walk.is_wrapper(layer) or not layers:
            return _SAME, layer
        before: dict[str, Model] = {}
        after: dict[str, Model] = {}
        for name, (head, tail) in layers.items():
            done = any(part.stochastic for part in after.values())
            before[name], after[name] = (_SAME, layer.layers[name]) if done else (head, tail)
        return walk.combined(layer, before), walk.combined(layer, after)

    return walk.fold(model, halves)


_SAME = Model(
    lambda key, x: ({}, {}), lambda params, state, x, **_: (x, state), "same", stochastic=False
)


def shifted(model: Model, first: jax.Array | int, rows: int) -> Model:
    """The model for `rows` rows of a longer batch, from `first` on; random layers need `rows_from`."""

    def place(layer: Model) -> Model:
        assert layer.rows_from is not None
        return layer.rows_from(first, rows)

    return _replaced(model, place)


def _replaced(model: Model, change: Callable[[Model], Model]) -> Model:
    """The model with its random layers changed."""
    return walk.rebuild(
        model, lambda place: change(place.layer) if place.layer.stochastic else place.layer
    )


def _shifts(model: Model, fixed: PyTree, x: PyTree, rows: int) -> bool:
    """Whether all random layers can draw for a part of the rows, and have rows on their first axis.

    The latter is told from the shapes of their inputs for all rows and for another number of rows: only
    the first axis may differ, in proportion to the rows. A model that refuses another number of rows
    cannot be shifted.
    """
    layers = [place.layer for place in walk.leaves(model)]
    if any(layer.stochastic and layer.rows_from is None for layer in layers):
        return False
    total = count_rows(x)
    some = rows if rows < total else 2 * total
    ours = _seen(model, fixed, x)
    try:
        theirs = _seen(model, fixed, with_rows(x, some))
    except (ValueError, TypeError):
        return False
    return len(ours) == len(theirs) and all(
        a[:1] and a[1:] == b[1:] and a[0] % total == 0 and a[0] * some == b[0] * total
        for a, b in zip(ours, theirs)
    )


def _seen(model: Model, fixed: PyTree, x: PyTree) -> list[tuple[int, ...]]:
    """The shapes of the inputs of a model's random layers, in order."""
    input_shapes: list[tuple[int, ...]] = []

    def spy(layer: Model) -> Model:
        def apply(params: PyTree, state: PyTree, x: PyTree, **switches: Any) -> tuple[PyTree, PyTree]:
            input_shapes.append(jnp.shape(x))
            return layer.apply(params, state, x, **switches)

        return dataclasses.replace(layer, apply=apply)

    jax.eval_shape(lambda p, s, x: _replaced(model, spy).apply(p, s, x)[0], *fixed, x)
    return input_shapes
