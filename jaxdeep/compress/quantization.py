"""Weights of a trained model as int8, and what that costs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep.compress.parts import replaced
from jaxdeep.compress.quantized import (
    quantized_conv,
    quantized_dense,
    quantized_embedding,
    rounded,
)
from jaxdeep.nn.model import Model, check_models
from jaxdeep.tree import Where, leaf_paths, mask

PyTree = Any

_MAKERS: dict[str, Any] = {
    "dense": quantized_dense,
    "conv": quantized_conv,
    "embedding": quantized_embedding,
}
_WEIGHTS = {"dense": "kernel", "conv": "kernel", "embedding": "table"}
_INITIALISERS = ("kernel_init", "bias_init", "init")


class QuantizationError(NamedTuple):
    """How far the weights of a layer have moved.

    Attributes:
      maximum: the largest ``|w − ŵ|``; at most half a step, max |w| / 254, of its output's scale.
      relative: ``‖w − ŵ‖ / ‖w‖``.
    """

    maximum: Any
    relative: Any


def quantize(
    model: Model, params: PyTree, state: PyTree, *, where: Where | None = None
) -> tuple[Model, PyTree, PyTree]:
    """The model with int8 weights: ``ŵ = scale · round(w / scale)``, ``scale = max |w| / 127``.

    Symmetric, with a scale for each output of a dense layer or convolution, and for each vector of an
    embedding. Parameters become ``{"kernel": int8, "scale": float32, "bias"}``, a quarter of the bytes;
    biases and everything else stay as they are, and so do activations: a matrix product is one of
    floating-point numbers, scaled behind. Fold batch norms first (`fold_batch_norm`), so that the scales
    are those of the weights that are used. The result is for inference: int8 has no gradients.

    Args:
      model, params, state: any `Model`, layers at any depth, with its parameters and state.
      where: the weights, such as ``"hidden*/kernel"``; all kernels and tables by default.

    Returns:
      The model, made of `quantized_dense`, `quantized_conv` and `quantized_embedding`, its parameters
      and its state.

    Raises:
      ValueError: nothing to quantise; a `where` that selects something else; weights that are not
        finite, naming them.
      TypeError: not a `Model`.

    Source: Jacob et al. (arXiv:1712.05877); Krishnamoorthi, "Quantizing deep convolutional networks"
    (arXiv:1806.08342), section 3: per channel, symmetric.

    >>> import jaxdeep as jd
    >>> model = jd.nn.serial(hidden=jd.nn.dense(4, activation=jax.nn.relu), out=jd.nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> small, qparams, qstate = quantize(model, params, state)
    >>> qparams["hidden"]["kernel"].dtype, qparams["hidden"]["scale"].shape
    (dtype('int8'), (4,))
    """
    check_models("quantize", {"model": model})
    chosen = None
    if where is not None:
        chosen = {path for path, c in zip(leaf_paths(params), jax.tree.leaves(mask(params, where))) if c}
    done = set()

    def small(layer: Model, own: Any, path: str, stack: int) -> tuple[Model, Any]:
        name = _WEIGHTS.get(layer.kind)
        leaf = f"{path}/{name}".strip("/")
        if name is None or (chosen is not None and leaf not in chosen):
            return layer, own
        done.add(leaf)
        w = own[name]
        if not isinstance(w, jax.core.Tracer) and not np.isfinite(np.asarray(w, np.float64)).all():
            raise ValueError(f"{leaf} must be finite to be quantised")
        numbers, scale = rounded(w, _axes(name, w.ndim, stack))
        config = {n: value for n, value in layer.config.items() if n not in _INITIALISERS}
        return _MAKERS[layer.kind](**config), {**own, name: numbers, "scale": scale}

    small_model, qparams = replaced(model, params, small)
    if chosen is not None and chosen - done:
        raise ValueError(
            f"where={where!r} selects {', '.join(sorted(chosen - done))}; what can be quantised are "
            "kernels of dense and conv layers and tables of embeddings"
        )
    if not done:
        raise ValueError("quantize: the model has no dense, conv or embedding layer")
    return small_model, qparams, state


def dequantize(qparams: PyTree, dtype: Any = None) -> PyTree:
    """Parameters for the model as it was: ``scale · number`` in place of the int8 weights.

    Args:
      qparams: parameters from `quantize`.
      dtype: of the weights; that of the scales, float32, by default.

    Raises:
      ValueError: int8 weights without scales.

    Source: the inverse of `quantize`, up to rounding.

    >>> dequantize({"kernel": jnp.array([[127], [-1]], jnp.int8), "scale": jnp.array([2.0])})
    {'kernel': Array([[254.],
           [ -2.]], dtype=float32)}
    """
    if not isinstance(qparams, dict):
        return qparams
    found = {}
    for name, leaf in qparams.items():
        if getattr(leaf, "dtype", None) == jnp.int8 and name in ("kernel", "table"):
            if "scale" not in qparams:
                raise ValueError(f"the parameters lack 'scale' beside an int8 {name!r}")
            scale = qparams["scale"]
            stack = scale.ndim - 1
            wide = leaf.astype(scale.dtype) * jnp.expand_dims(scale, _axes(name, leaf.ndim, stack))
            found[name] = wide if dtype is None else wide.astype(dtype)
    kept = {n: dequantize(tree, dtype) for n, tree in qparams.items() if not (found and n == "scale")}
    return {name: found.get(name, tree) for name, tree in kept.items()}


def quantization_error(params: PyTree, qparams: PyTree) -> dict[str, QuantizationError]:
    """What quantisation did to the weights, by path.

    Args:
      params: parameters as they were.
      qparams: what `quantize` made of them.

    Returns:
      A `QuantizationError` for each leaf that is int8 now.

    Raises:
      ValueError: parameters that are not of the same model.

    Source: relative Frobenius error, as usual for weight-only quantisation.

    >>> import jaxdeep as jd
    >>> model = jd.nn.serial(out=jd.nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 30)))
    >>> _, qparams, _ = quantize(model, params, state)
    >>> error = quantization_error(params, qparams)["out/kernel"]
    >>> bool(error.relative < 0.01), bool(error.maximum <= qparams["out"]["scale"].max() / 2)
    (True, True)
    """
    before = dict(zip(leaf_paths(params), jax.tree.leaves(params)))
    after = dict(zip(leaf_paths(qparams), jax.tree.leaves(qparams)))
    restored = dequantize(qparams)
    back = dict(zip(leaf_paths(restored), jax.tree.leaves(restored)))
    missing = [p for p, leaf in after.items() if np.shape(before.get(p, leaf)) != np.shape(leaf)]
    ints = [path for path, leaf in after.items() if leaf.dtype == jnp.int8]
    missing += [path for path in ints if path not in before]
    if missing:
        raise ValueError(
            f"params have no {missing[0]} of shape {after[missing[0]].shape}, as qparams have"
        )
    errors = {}
    for path in ints:
        if before[path].dtype != jnp.int8:
            w = jnp.asarray(before[path]).astype(back[path].dtype)
            off, size = jnp.abs(w - back[path]), jnp.sqrt(jnp.sum(w * w))
            relative = jnp.sqrt(jnp.sum(off * off)) / jnp.where(size > 0, size, 1)
            errors[path] = QuantizationError(jnp.max(off), relative)
    return errors


def _axes(name: str, ndim: int, stack: int) -> tuple[int, ...]:
    """The axes of weights that share a scale."""
    return (ndim - 1,) if name == "table" else tuple(range(stack, ndim - 1))
