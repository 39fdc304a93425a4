"""Weights of a trained model as int8, and what that costs."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxdeep import _checks
from jaxdeep._arrays import check_leaves
from jaxdeep._shapes import Array, Float, PyTree
from jaxdeep.nn import walk
from jaxdeep.nn.fits import check_fit
from jaxdeep.nn.layer import KINDS, build, initialisers
from jaxdeep.nn.model import Model, check_models, lifting
from jaxdeep.nn.quantized import doubly_rounded, rounded
from jaxdeep.tree import Where, leaf_paths, mask

# the axis of the weights that each of their scales belongs to; stacks of layers lie in front
_SCALES = {"kernel": {"input_scale": -2, "scale": -1}, "table": {"scale": -2}}


class WeightDeviation(NamedTuple):
    """How far the weights of a layer have moved.

    Attributes:
      maximum: the largest ``|w − ŵ|``; none is more than half a step, the product of its scales.
      relative: ``‖w − ŵ‖ / ‖w‖``.
    """

    maximum: Float[Array, ""]
    relative: Float[Array, ""]


def quantize(
    model: Model, params: PyTree, state: PyTree, *, where: Where | None = None
) -> tuple[Model, PyTree, PyTree]:
    """The model with int8 weights: ``ŵ_io = r_i c_o q_io``, whole numbers q from −127 to 127.

    ``r_i = max_o |w_io|``, ``c_o = max_i |w_io / r_i| / 127`` and ``q_io = round(w_io / (r_i c_o))``:
    symmetric, with a scale for each input and each output channel of a dense layer or convolution. A
    scale for outputs alone would round the weights of all inputs in the steps of the largest, and
    behind a folded batch norm those differ by orders of magnitude. An embedding has a scale for each
    vector. Parameters become ``{"kernel": int8, "input_scale": float32, "scale": float32, "bias"}``, a
    byte a weight and four for each input and output; biases and everything else stay as they are, and so
    do activations: a matrix product is one of floating-point numbers. Fold batch norms first
    (`fold_batch_norm`), so that the scales are those of the weights that are used. The result is for
    inference: int8 has no gradients.

    Args:
      model, params, state: any `Model`, layers at any depth, with its parameters and state.
      where: the weights, such as ``"hidden*/kernel"``; all kernels and tables by default.

    Returns:
      The model, made of `quantized_dense`, `quantized_ntk_dense`, `quantized_conv` and
      `quantized_embedding`, its parameters and its state.

    Raises:
      ValueError: nothing to quantise; a `where` that selects something else; weights that are not
        finite, naming them.
      TypeError: not a `Model`.

    Source: Jacob et al. (arXiv:1712.05877); Krishnamoorthi, "Quantizing deep convolutional networks"
    (arXiv:1806.08342), section 3: per channel, symmetric; here for the inputs' channels, too.

    >>> import jaxdeep as jd
    >>> model = jd.nn.serial(hidden=jd.nn.dense(4, activation=jax.nn.relu), out=jd.nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> small, qparams, qstate = quantize(model, params, state)
    >>> qparams["hidden"]["kernel"].dtype, qparams["hidden"]["scale"].shape
    (dtype('int8'), (4,))
    """
    check_models("quantize", {"model": model})
    check_fit(model, params, state)
    chosen = None
    if where is not None:
        chosen = {path for path, c in zip(leaf_paths(params), jax.tree.leaves(mask(params, where))) if c}
    done = set()
    qparams = params

    def quantized(place: walk.Place) -> Model:
        nonlocal qparams
        layer, linear = place.layer, place.layer.traits.linear
        if f"quantized_{layer.kind}" not in KINDS:
            return layer
        weights = "kernel" if linear is None else linear.weights
        leaf = "/".join((*place.keys, weights))
        if chosen is not None and leaf not in chosen:
            return layer
        done.add(leaf)
        layer_params = walk.at(params, place.keys)
        w = layer_params[weights]
        if not isinstance(w, jax.core.Tracer) and not np.isfinite(np.asarray(w, np.float64)).all():
            raise ValueError(f"{leaf} must be finite to be quantised")
        if linear is not None and linear.looks_up:
            small = dict(zip((weights, "scale"), rounded(w, -1)))
        else:
            small = doubly_rounded(w, len(place.stacked))
        qparams = walk.put(qparams, place.keys, {**layer_params, **small})
        without = initialisers(layer.kind)
        config = {name: value for name, value in layer.config.items() if name not in without}
        return build(f"quantized_{layer.kind}", config)

    small_model = walk.rebuild(model, quantized, walk.known)
    if chosen is not None and chosen - done:
        raise ValueError(
            f"where={where!r} selects {', '.join(sorted(chosen - done))}; what can be quantised are "
            f"kernels of dense and conv layers and tables of embeddings{lifting(model)}"
        )
    if not done:
        raise ValueError(f"quantize: the model has no dense, conv or embedding layer{lifting(model)}")
    return small_model, qparams, state


def dequantize(qparams: PyTree, dtype: DTypeLike | None = None) -> PyTree:
    """Parameters for the model as it was: products of numbers and scales in place of the int8 weights.

    Args:
      qparams: parameters from `quantize`.
      dtype: of the weights; that of the scales, float32, by default.

    Raises:
      ValueError: int8 weights without scales. TypeError: no dict of arrays, a dtype that is no float.

    Source: the inverse of `quantize`, up to rounding.

    >>> scales = {"input_scale": jnp.array([1.0, 0.5]), "scale": jnp.array([2.0])}
    >>> dequantize({"kernel": jnp.array([[127], [-1]], jnp.int8), **scales})
    {'kernel': Array([[254.],
           [ -1.]], dtype=float32)}
    """
    if not isinstance(qparams, Mapping):
        raise TypeError(f"qparams must be a dict of parameters, as quantize makes it, got {qparams!r}")
    check_leaves("qparams", qparams)
    _checks.check_float_dtype("dtype", dtype)
    return _dequantized(qparams, dtype)


def _dequantized(qparams: PyTree, dtype: DTypeLike | None) -> PyTree:
    if not isinstance(qparams, dict):
        return qparams
    name = next((n for n in _SCALES if getattr(qparams.get(n), "dtype", None) == jnp.int8), None)
    if name is None:
        return {n: _dequantized(tree, dtype) for n, tree in qparams.items()}
    lacking = [f"{scale!r}" for scale in _SCALES[name] if scale not in qparams]
    if lacking:
        raise ValueError(f"the parameters lack {' and '.join(lacking)} beside an int8 {name!r}")
    wide = qparams[name].astype(qparams["scale"].dtype)
    for scale, axis in _SCALES[name].items():
        factors, shape = qparams[scale], [1] * wide.ndim
        shape[: factors.ndim - 1], shape[axis] = factors.shape[:-1], factors.shape[-1]
        wide = wide * jnp.reshape(factors, shape)
    kept = {n: leaf for n, leaf in qparams.items() if n not in _SCALES[name]}
    return {**kept, name: wide if dtype is None else wide.astype(dtype)}


def quantization_error(params: PyTree, qparams: PyTree) -> dict[str, WeightDeviation]:
    """What quantisation did to the weights, by path.

    Args:
      params: parameters as they were.
      qparams: what `quantize` made of them.

    Returns:
      A `WeightDeviation` for each leaf that is int8 now.

    Raises:
      ValueError: parameters that are not of the same model, nothing that was quantised (the other way
        around).

    Source: relative Frobenius error, as usual for weight-only quantisation.

    >>> import jaxdeep as jd
    >>> model = jd.nn.serial(out=jd.nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 30)))
    >>> _, qparams, _ = quantize(model, params, state)
    >>> error = quantization_error(params, qparams)["out/kernel"]
    >>> bool(error.relative < 0.01), bool(error.maximum <= qparams["out"]["scale"].max() / 2)
    (True, True)
    """
    check_leaves("params", params)
    restored = dequantize(qparams)
    before = dict(zip(leaf_paths(params), jax.tree.leaves(params)))
    after = dict(zip(leaf_paths(qparams), jax.tree.leaves(qparams)))
    back = dict(zip(leaf_paths(restored), jax.tree.leaves(restored)))
    ints = [path for path, leaf in after.items() if leaf.dtype == jnp.int8]
    for path in (*ints, *back):  # without the scales that quantising adds
        if path not in before or np.shape(before[path]) != back[path].shape:
            raise ValueError(f"params have no {path} of shape {back[path].shape}, as qparams have")
    further = [path for path in leaf_paths(dequantize(params)) if path not in back]
    if further:
        raise ValueError(f"params have {further[0]}, and qparams do not")
    errors = {}
    for path in ints:
        if before[path].dtype != jnp.int8:
            w = jnp.asarray(before[path]).astype(back[path].dtype)
            off, size = jnp.abs(w - back[path]), jnp.sqrt(jnp.sum(w * w))
            relative = jnp.sqrt(jnp.sum(off * off)) / jnp.where(size > 0, size, 1)
            errors[path] = WeightDeviation(jnp.max(off), relative)
    if not errors:
        raise ValueError(
            "qparams must be what quantize made of params, and no leaf is int8 in it alone: give the "
            "parameters as they were first, and those of quantize second"
        )
    return errors
