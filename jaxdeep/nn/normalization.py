"""Normalisation by statistics of the batch, which may be those of a data set, or of each example."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves, on_device
from jaxdeep._compilation import meant_transfers
from jaxdeep._shapes import Array, Arrays, PyTree
from jaxdeep.nn import initializers, walk
from jaxdeep.nn.fits import check_fit
from jaxdeep.nn.layer import Layer, layer, remake
from jaxdeep.nn.model import Model, check_models, float_dtype
from jaxdeep.nn.traits import Norm, Shape, Traits, same_axes
from jaxdeep.tree import as_arrays_or_shapes


@layer
def batch_norm(
    *,
    momentum: float = 0.99,
    epsilon: float = 1e-5,
    axis: int | tuple[int, ...] = -1,
    use_scale: bool = True,
    use_bias: bool = True,
    unbiased_running_var: bool = False,
    use_fast_variance: bool = False,
    axis_name: str | tuple[str, ...] | None = None,
) -> Layer:
    """Batch normalisation: ``y = scale · (x − mean) / √(var + epsilon) + bias``.

    With ``train=True`` mean and (biased) variance are those of the batch, over every axis but
    `axis`, and the running statistics move: ``running ← momentum · running + (1 − momentum) · batch``.
    Otherwise the running statistics are used and nothing moves, whether or not a key is given.

    Parameters: `scale` (ones), `bias` (zeros). State: `mean` (zeros), `var` (ones). All have the
    shape of the kept axes. Statistics are computed and kept in at least float32; the result has the
    input's dtype. The variance is computed in two passes, which does not lose small variances on
    large means (flax' default does).

    Args:
      momentum: share of the old running statistics that is kept, in [0, 1). As in flax and Keras;
        PyTorch's ``momentum`` is one minus this. After n steps the start (0 and 1) still weighs
        ``momentum**n``: a run of a few hundred steps wants 0.9, or `recompute_batch_norm` at its end.
      epsilon: added to the variance, ≥ 0; flax' and PyTorch's 1e-5 (Keras: 1e-3).
      axis: the axis, or axes, kept: features in the last axis by default; ``(1, 2)`` normalises
        each pixel of an NHWC image on its own.
      use_scale, use_bias: False leaves the parameter out.
      unbiased_running_var: let the running variance be that of a sample, n / (n − 1) times larger, as
        PyTorch's; the batch is normalised by the biased one in either case.
      use_fast_variance: ``E[x²] − E[x]²`` in one pass, flax' default.
      axis_name: names of mapped axes (of `jax.vmap`, `jax.shard_map`) over which statistics are taken
        too, so that devices normalise by the whole batch. (Under `jax.jit` with sharded arrays they do
        anyway.)

    With ``mask=`` (booleans of shape ``(batch,)``, or more leading axes) rows that are False do not
    count in the statistics; they are normalised like the others, with 0 for what in them is not finite.
    If none counts, the running statistics stay. They stay, too, after a batch of a single value a
    feature, such as a last batch of one row, which has no variance and is a poor mean: Keras and flax
    would pull the variance towards 0 (PyTorch refuses such a batch). With a momentum of 0 the mean is
    that of the last batch in any case. Every other batch moves them alike, whatever its rows.

    Raises:
      ValueError: a momentum or epsilon out of range; an `axis` the input lacks or named twice;
        parameters or statistics of other shapes; with ``train=True``, a batch without any rows.

    Source: Ioffe & Szegedy, "Batch Normalization" (arXiv:1502.03167).

    >>> import jax, jax.numpy as jnp
    >>> layer = batch_norm(momentum=0.9)
    >>> x = jnp.array([[1.0], [3.0]])
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> y, state = layer.apply(params, state, x, train=True)
    >>> y.round(3).tolist(), state["mean"].round(3).tolist()
    ([[-1.0], [1.0]], [0.20000000298023224])
    """
    _checks.check_scalar("momentum", momentum, "[0, 1)")
    _checks.check_hyperparameter("epsilon", epsilon, "[0, inf)")
    _checks.check_flags(
        use_scale=use_scale,
        use_bias=use_bias,
        unbiased_running_var=unbiased_running_var,
        use_fast_variance=use_fast_variance,
    )
    kept = _check_axes(axis, axis_name)

    def moved(old: Array, new: Array) -> Array:
        if isinstance(momentum, (int, float)) and momentum == 0:
            return new  # 0 · ∞ is NaN
        return momentum * old + (1 - momentum) * new

    def init(x: jax.ShapeDtypeStruct) -> tuple[Arrays, Arrays]:
        shape = tuple(x.shape[a] for a in _axes_of(kept, len(x.shape)))
        dtype = float_dtype(x.dtype)
        params = {"scale": jnp.ones(shape, dtype)} if use_scale else {}
        if use_bias:
            params["bias"] = jnp.zeros(shape, dtype)
        wide = jnp.promote_types(dtype, jnp.float32)
        return params, {"mean": jnp.zeros(shape, wide), "var": jnp.ones(shape, wide)}

    def apply(
        params: Arrays, state: Arrays, x: Array, train: bool, mask: Array | None
    ) -> tuple[Array, Arrays]:
        x = jnp.asarray(x)
        keep = _axes_of(kept, x.ndim)
        reduced = tuple(a for a in range(x.ndim) if a not in keep)
        mean, var = state["mean"], state["var"]
        if mean.shape != tuple(x.shape[a] for a in keep):
            raise ValueError(
                f"batch_norm was initialised for axes of {mean.shape}, got an input x of shape "
                f"{x.shape} (axis={axis}; state: mean is {mean.shape})"
            )
        arrays = {"var": var} | ({"scale": params["scale"]} if use_scale else {})
        for name, array in (arrays | ({"bias": params["bias"]} if use_bias else {})).items():
            if jnp.shape(array) != mean.shape:
                raise ValueError(
                    f"batch_norm has {name} of shape {jnp.shape(array)} and mean of {mean.shape}, which "
                    "must be alike (in params and state)"
                )
        dtype = float_dtype(x.dtype)
        wide = x.astype(jnp.promote_types(dtype, jnp.float32))
        counted = _weights(mask, x.shape)
        if counted is not None:  # the derivative of NaN times 0 is NaN
            wide = jnp.where(counted | jnp.isfinite(wide), wide, 0)
        if train:
            if x.size == 0:
                raise ValueError(
                    f"batch_norm has no rows to take statistics of: an input of shape {x.shape}"
                )
            mean, var, n = _statistics(wide, reduced, counted, axis_name, use_fast_variance)
            if mask is not None:  # nothing to normalise by: as at inference
                mean = jnp.where(n > 0, mean, state["mean"])
                var = jnp.where(n > 0, var, state["var"])
            running = var * n / jnp.maximum(n - 1, 1) if unbiased_running_var else var
            # one value has no variance, the 0 would be learned as if it were one; and is a poor mean
            few = 0 if isinstance(momentum, (int, float)) and momentum == 0 else 1
            state = {
                name: jnp.where(n > least, moved(state[name], batch), state[name]).astype(
                    state[name].dtype
                )
                for name, batch, least in (("mean", mean, few), ("var", running, 1))
            }
        factor = jax.lax.rsqrt(var + epsilon)
        if use_scale:
            factor = factor * params["scale"]
        y = (wide - jnp.expand_dims(mean, reduced)) * jnp.expand_dims(factor, reduced)
        if use_bias:
            y = y + jnp.expand_dims(params["bias"], reduced)
        return y.astype(dtype), state

    traits = Traits(
        norm=Norm(epsilon, kept, use_scale, use_bias),
        axes=same_axes,
        example=lambda shapes: _example(kept, shapes["mean"]),
    )
    return Layer(apply, init, traits=traits)


@layer
def layer_norm(
    *,
    epsilon: float = 1e-6,
    axis: int | tuple[int, ...] = -1,
    use_scale: bool = True,
    use_bias: bool = True,
    scale_init: initializers.Initializer = initializers.ones,
    bias_init: initializers.Initializer = initializers.zeros,
) -> Layer:
    """Layer normalisation: ``y = scale · (x − mean) / √(var + epsilon) + bias``, each example by itself.

    Mean and (biased) variance are those of every example over `axis`, at each place of the other axes,
    in training and at inference alike. Parameters: `scale` (ones) and `bias` (zeros), of the shape of
    these axes. Statistics are computed in at least float32, the variance in two passes; the result has
    the input's dtype.

    Args:
      epsilon: added to the variance, ≥ 0; flax' 1e-6 (PyTorch: 1e-5, Keras: 1e-3).
      axis: the axis, or axes, that are normalised together: the features in the last one by default.
      use_scale, use_bias: False leaves the parameter out.
      scale_init, bias_init: ``(key, shape, dtype) -> array``.

    Raises:
      ValueError: a negative epsilon; an `axis` that the input lacks, named twice, or that is the batch.
      TypeError: axes that are not whole numbers, initialisers that are not functions.

    Source: Ba, Kiros & Hinton, "Layer Normalization" (arXiv:1607.06450); semantics of
    `flax.linen.LayerNorm` and Keras' `LayerNormalization`.

    >>> layer = layer_norm()
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> layer.apply(params, state, jnp.array([[1.0, 3.0], [10.0, 30.0]]))[0].round(3).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    chosen_axes = _check_axes(axis, None)

    def split(shape: Shape) -> tuple[Shape, Shape, Shape]:
        together = _axes_of(chosen_axes, len(shape), but_the_first=True)
        return together, shape, together

    return _norm_of_examples(
        "layer_norm", chosen_axes, split, epsilon, use_scale, use_bias, scale_init, bias_init
    )


@layer
def group_norm(
    groups: int = 32,
    *,
    epsilon: float = 1e-6,
    use_scale: bool = True,
    use_bias: bool = True,
    scale_init: initializers.Initializer = initializers.ones,
    bias_init: initializers.Initializer = initializers.zeros,
) -> Layer:
    """Group normalisation: as `layer_norm`, over all places and the channels of one group at a time.

    ``(batch, *space, channels)``: mean and (biased) variance of every example over its places and
    ``channels / groups`` neighbouring channels. One group is layer normalisation of the whole example,
    as many groups as channels is instance normalisation. Parameters: `scale` (ones) and `bias` (zeros),
    one a channel. Statistics are computed in at least float32; the result has the input's dtype.

    Args:
      groups: their number, which divides that of the channels; 32 as in the paper.
      epsilon: added to the variance, ≥ 0; flax' 1e-6 (PyTorch: 1e-5, Keras: 1e-3).
      use_scale, use_bias, scale_init, bias_init: as for `layer_norm`.

    Raises:
      ValueError: `groups` below 1, or one that does not divide the channels; a negative epsilon.
      TypeError: as `layer_norm`.

    Source: Wu & He, "Group Normalization" (arXiv:1803.08494); semantics of `flax.linen.GroupNorm` and
    `torch.nn.GroupNorm`, with the channels last.

    >>> layer = group_norm(2)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> layer.apply(params, state, jnp.array([[1.0, 3.0, 10.0, 30.0]]))[0].round(3).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    groups = _checks.check_count("groups", groups)

    def split(shape: Shape) -> tuple[Shape, Shape, Shape]:
        if len(shape) < 2 or shape[-1] % groups or not shape[-1]:
            raise ValueError(
                f"groups={groups} must divide the channels of an input (batch, *space, channels), got "
                f"shape {shape}"
            )
        *space, channels = range(1, len(shape))
        grouped = (*shape[:-1], groups, shape[-1] // groups)
        return (channels,), grouped, (*space, channels + 1)

    return _norm_of_examples(
        "group_norm", (-1,), split, epsilon, use_scale, use_bias, scale_init, bias_init
    )


@layer
def rms_norm(
    *,
    epsilon: float = 1e-6,
    axis: int | tuple[int, ...] = -1,
    use_scale: bool = True,
    scale_init: initializers.Initializer = initializers.ones,
) -> Layer:
    """Normalisation by the root mean square: ``y = scale · x / √(mean(x²) + epsilon)``.

    As `layer_norm`, without a mean that is taken off and without a bias. Parameter: `scale` (ones).

    Args:
      epsilon: added to the mean square, ≥ 0; flax' and Keras' 1e-6.
      axis: the axis, or axes, normalised together: the features in the last one by default.
      use_scale, scale_init: as for `layer_norm`.

    Raises:
      ValueError, TypeError: as `layer_norm`.

    Source: Zhang & Sennrich, "Root Mean Square Layer Normalization" (arXiv:1910.07467); semantics of
    `flax.linen.RMSNorm` and Keras' `RMSNormalization`.

    >>> layer = rms_norm()
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> layer.apply(params, state, jnp.array([[1.0, 7.0]]))[0].round(1).tolist()
    [[0.20000000298023224, 1.399999976158142]]
    """
    chosen_axes = _check_axes(axis, None)

    def split(shape: Shape) -> tuple[Shape, Shape, Shape]:
        together = _axes_of(chosen_axes, len(shape), but_the_first=True)
        return together, shape, together

    return _norm_of_examples(
        "rms_norm",
        chosen_axes,
        split,
        epsilon,
        use_scale,
        False,
        scale_init,
        initializers.zeros,
        centred=False,
    )


# --- what the norms share -----------------------------------------------------------------------------


def _norm_of_examples(
    kind: str,
    chosen_axes: Shape,
    split: Callable[[Shape], tuple[Shape, Shape, Shape]],
    epsilon: float,
    use_scale: bool,
    use_bias: bool,
    scale_init: initializers.Initializer,
    bias_init: initializers.Initializer,
    *,
    centred: bool = True,
) -> Layer:
    """A norm without state, by statistics of each example.

    Scale and bias have the `chosen_axes`. For the shape of an input, `split` says which these
    are, in which shape to take the statistics, and over which axes of that; or it refuses the shape.
    """
    _checks.check_hyperparameter("epsilon", epsilon, "[0, inf)")
    _checks.check_flags(use_scale=use_scale, use_bias=use_bias)
    _checks.check_functions(optional=False, scale_init=scale_init, bias_init=bias_init)

    def init(key: Array, x: jax.ShapeDtypeStruct) -> Arrays:
        shape, dtype = tuple(x.shape[a] for a in split(x.shape)[0]), float_dtype(x.dtype)
        draw, params = initializers.draw, {}
        if use_scale:
            params["scale"] = draw("scale_init", scale_init, key, shape, dtype)
        if use_bias:
            params["bias"] = draw("bias_init", bias_init, jax.random.fold_in(key, 0), shape, dtype)
        return params

    def apply(params: Arrays, x: Array) -> Array:
        x = jnp.asarray(x)
        axes, grouped, together = split(x.shape)
        shape = tuple(x.shape[a] for a in axes)

        def along_axes(name: str) -> Array:
            if jnp.shape(params[name]) != shape:
                raise ValueError(
                    f"{kind} was initialised for {jnp.shape(params[name])}, got an input of shape "
                    f"{x.shape} as x (params: {name} is {jnp.shape(params[name])})"
                )
            return jnp.expand_dims(params[name], [a for a in range(x.ndim) if a not in axes])

        y = _by_itself(x, grouped, together, epsilon, centred)
        y = y * along_axes("scale") if use_scale else y
        y = y + along_axes("bias") if use_bias else y
        return y.astype(float_dtype(x.dtype))

    traits = Traits(
        axes=same_axes,
        outputs="scores",
        normalises=True,
        example=lambda shapes: _example(chosen_axes, next(iter(shapes.values()))),
    )
    return Layer(apply, init if use_scale or use_bias else None, lambda x: split(x.shape), traits)


def _by_itself(x: Array, shape: Shape, axes: Shape, epsilon: float, centred: bool) -> Array:
    """``(x − mean) / √(var + epsilon)`` over some axes of `x` in another shape, in float32 or wider.

    With a mean of 0 if it is not to be `centred`.
    """
    wide = x.astype(jnp.promote_types(float_dtype(x.dtype), jnp.float32)).reshape(shape)
    off = wide - jnp.mean(wide, axes, keepdims=True) if centred else wide
    var = jnp.mean(off**2, axes, keepdims=True)
    return (off * jax.lax.rsqrt(var + epsilon)).reshape(x.shape)


def _example(axes: Shape, sizes: Shape) -> tuple[Shape, DTypeLike]:
    """An input of so many axes that those counted from the end come after those from the start."""
    ndim = 1 + 2 * max(*(abs(a) for a in axes), len(sizes))
    shape = [1] * ndim
    for a, size in zip(sorted(a % ndim for a in axes), sizes):
        shape[a] = size
    return tuple(shape), jnp.float32


def _axes_of(chosen_axes: Shape, ndim: int, *, but_the_first: bool = False) -> Shape:
    """The axes of an input that are given, in order and counted from the start."""
    axes = sorted({a % ndim for a in chosen_axes}) if all(-ndim <= a < ndim for a in chosen_axes) else []
    if len(axes) < len(chosen_axes) or (but_the_first and axes[:1] < [1]):
        got = chosen_axes[0] if len(chosen_axes) == 1 else chosen_axes
        raise ValueError(
            f"axis must name different axes of the input, which has {ndim}"
            f"{', not 0' if but_the_first else ''}; got {got}"
        )
    return tuple(axes)


def _check_axes(axis: int | Shape, axis_name: str | tuple[str, ...] | None) -> Shape:
    """The kept axes as a tuple; refuses what cannot be one, or the name of a mapped axis."""
    names = axis_name if isinstance(axis_name, (tuple, list)) else (axis_name,)
    if axis_name is not None and not all(isinstance(name, str) for name in names):
        raise TypeError(f"axis_name must be a name, a tuple of names or None, got {axis_name!r}")
    return _checks.whole_numbers("axis", axis)


def _weights(mask: Array | None, shape: Shape) -> Array | None:
    """1 for what counts, 0 for what does not; None if all does."""
    if mask is None:
        return None
    if jnp.shape(mask) != shape[: jnp.ndim(mask)] or jnp.ndim(mask) < 1:
        raise ValueError(
            f"mask must have the leading axes of an input of shape {shape}, got shape {jnp.shape(mask)}"
        )
    if jnp.result_type(mask) != jnp.bool_:
        raise TypeError(f"mask must be booleans, got {jnp.result_type(mask)}")
    return jnp.reshape(mask, jnp.shape(mask) + (1,) * (len(shape) - jnp.ndim(mask)))


def _statistics(
    x: Array, reduced: Shape, weights: Array | None, axis_name: str | tuple[str, ...] | None, fast: bool
) -> tuple[Array, Array, Array]:
    """Mean, biased variance and number of what counts, over `reduced` and over devices."""

    def total(values: Array) -> Array:
        summed = jnp.sum(values, reduced)
        return summed if axis_name is None else jax.lax.psum(summed, axis_name)

    if weights is None:
        n = jnp.asarray(math.prod(x.shape[a] for a in reduced), x.dtype)
        n = n if axis_name is None else jax.lax.psum(n, axis_name)
        counted = x
    else:
        weights = jnp.broadcast_to(weights, x.shape).astype(x.dtype)
        n = total(weights)
        counted = jnp.where(weights > 0, x, 0)  # what does not count may be NaN
    at_least_one = jnp.maximum(n, 1)
    mean = total(counted) / at_least_one
    if fast:
        var = jnp.maximum(total(counted**2) / at_least_one - mean**2, 0)
    else:
        off = x - jnp.expand_dims(mean, reduced)
        off = off if weights is None else jnp.where(weights > 0, off, 0)
        var = total(off**2) / at_least_one
    return mean, var, n


@meant_transfers()
def recompute_batch_norm(
    model: Model, params: PyTree, state: PyTree, x: PyTree, *, batch_size: int = 1024
) -> PyTree:
    """The state with the exact statistics of a data set in place of the moving averages.

    The data runs through the model in batches with ``train=True``, and means and variances of all rows
    are put together from those of the batches, whatever their sizes: ``mean = Σ nᵢ meanᵢ / n``,
    ``var = Σ nᵢ (varᵢ + (meanᵢ − mean)²) / n`` (biased). For the first batch norm they are those of the
    data as a whole; the inputs of later ones are normalised batch by batch on the way, so large batches
    are best. No randomness, no change of parameters. Compile it with `jax.jit`.

    Args:
      model: a `Model` with at least one `batch_norm`, at any depth.
      params, state: its parameters and state.
      x: inputs, a pytree of arrays with a row per example.
      batch_size: rows at a time; the last batch may be smaller.

    Returns:
      A state like `state`, with the other entries as they were.

    Raises:
      ValueError: no batch norm in the model; no rows; parameters or a state of another model.

    Source: Ioffe & Szegedy (arXiv:1502.03167), algorithm 2; Wu & Johnson, "Rethinking 'Batch' in
    BatchNorm" (arXiv:2105.07576), section 3.

    >>> import jaxdeep as jd
    >>> model = jd.nn.batch_norm()
    >>> x = jnp.arange(10.0)[:, None]
    >>> params, state = model.init(jax.random.key(0), x)
    >>> state = recompute_batch_norm(model, params, state, x, batch_size=4)
    >>> float(state["mean"][0]), float(state["var"][0])
    (4.5, 8.25)
    """
    check_models("recompute_batch_norm", {"model": model})
    x = as_arrays_or_shapes(x, "x")
    check_leaves("x", x)
    batch_size = _checks.check_count("batch_size", batch_size)
    norms = [place for place in walk.leaves(model) if place.layer.traits.norm is not None]
    if not norms:
        raise ValueError("recompute_batch_norm: the model has no batch_norm")
    for place in norms:
        if (around := place.reused_by) is not None:
            raise ValueError(
                f"recompute_batch_norm: a batch norm inside {around.kind} is used more than once, "
                "each time with other statistics"
            )
    check_fit(model, params, state)
    x = jax.tree.map(functools.partial(on_device, "x"), x)
    rows = {next(iter(jnp.shape(leaf)), 0) for leaf in jax.tree.leaves(x)}
    if len(rows) != 1 or not min(rows):
        raise ValueError(
            f"x must have the same number of rows everywhere, at least 1; got {sorted(rows)}"
        )
    (n,) = rows
    immediate, before = walk.rebuild(model, _without_memory), state
    for place in norms:  # what a batch of one row leaves as it is: the variance of one row
        old = walk.at(state, place.keys)
        before = walk.put(before, place.keys, old | {"var": jnp.zeros_like(old["var"])})

    def of_batch(batch: PyTree) -> list[PyTree]:
        after = immediate.apply(params, before, batch, train=True)[1]
        return [walk.at(after, place.keys) for place in norms]

    full, rest = divmod(n, batch_size)
    parts = []
    if full:
        head = jax.tree.map(
            lambda a: jnp.reshape(a[: full * batch_size], (full, batch_size, *a.shape[1:])), x
        )
        parts.append(jax.lax.map(of_batch, head))
    if rest:
        last = of_batch(jax.tree.map(lambda a: a[full * batch_size :], x))
        parts.append(jax.tree.map(lambda a: a[None], last))
    batches = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    sizes = jnp.array([batch_size] * full + [rest] * (rest > 0))
    for place, of_norm in zip(norms, batches):
        mean = jnp.average(of_norm["mean"], 0, sizes)
        var = jnp.average(of_norm["var"] + (of_norm["mean"] - mean[None]) ** 2, 0, sizes)
        old = walk.at(state, place.keys)
        new = {"mean": mean.astype(old["mean"].dtype), "var": var.astype(old["var"].dtype)}
        state = walk.put(state, place.keys, new)
    return state


def norms_of_one_value(
    model: Model, params: PyTree, state: PyTree, x: PyTree, trainable: PyTree | None = None
) -> list[str]:
    """The batch norms, by path, that would take statistics of a single value a feature in training.

    Args:
      params, state, x: the shapes of parameters, state and a batch.
      trainable: as for `Model.frozen`; None where nothing is frozen.
    """
    paths: list[str] = []

    def seen(place: walk.Place) -> Model:
        layer, norm = place.layer, place.layer.traits.norm
        if norm is None:
            return layer

        def apply(
            params: PyTree, state: PyTree, x: PyTree, *, train: bool = False, **switches: Any
        ) -> tuple[PyTree, PyTree]:
            features = math.prod(jnp.shape(x)[a] for a in _axes_of(norm.axes, jnp.ndim(x)))
            if train and math.prod(jnp.shape(x)) == features:
                paths.append("/".join(place.keys))
            return layer.apply(params, state, x, **switches)

        return dataclasses.replace(layer, apply=apply)

    watched = walk.rebuild(model, seen)
    if watched is not model:
        watched = watched if trainable is None else watched.frozen(trainable)
        jax.eval_shape(lambda *args: watched.apply(*args, train=True)[0], params, state, x)
    return paths


def _without_memory(place: walk.Place) -> Model:
    """A batch norm whose running statistics are those of the last batch; other layers as they are."""
    if place.layer.traits.norm is None:
        return place.layer
    return remake(place.layer, momentum=0.0, unbiased_running_var=False)
