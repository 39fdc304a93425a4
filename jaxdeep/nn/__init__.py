"""Models as pairs of pure functions: layers, combinators and initialisers."""

import importlib
from typing import TYPE_CHECKING

from jaxdeep.nn import activations, initializers
from jaxdeep.nn import quantized as _quantized  # noqa: F401  # so that their kinds are known
from jaxdeep.nn.activation_layers import activation, prelu, rrelu, swish
from jaxdeep.nn.combinators import concatenate, lambda_, parallel, residual, select, serial
from jaxdeep.nn.conv import conv, conv_transpose
from jaxdeep.nn.graphs import graph, merge
from jaxdeep.nn.linear import dense, embedding, flatten, ntk_dense, reshape
from jaxdeep.nn.model import Model
from jaxdeep.nn.normalization import batch_norm, group_norm, layer_norm, recompute_batch_norm, rms_norm
from jaxdeep.nn.pooling import average_pool, global_average_pool, global_max_pool, max_pool
from jaxdeep.nn.precision import mixed_precision
from jaxdeep.nn.repetition import repeat, shared
from jaxdeep.nn.resizing import resize, zero_padding
from jaxdeep.nn.scales import bounded, rescale, scaling
from jaxdeep.nn.slicing import get_item
from jaxdeep.nn.stochastic import alpha_dropout, dropout, gaussian_noise
from jaxdeep.nn.summary import summary

if TYPE_CHECKING:
    from jaxdeep.recipes.networks import mlp
    from jaxdeep.recipes.recipe import Recipe

__all__ = [
    "Model",
    "Recipe",
    "activation",
    "activations",
    "alpha_dropout",
    "average_pool",
    "batch_norm",
    "bounded",
    "concatenate",
    "conv",
    "conv_transpose",
    "dense",
    "dropout",
    "embedding",
    "flatten",
    "gaussian_noise",
    "get_item",
    "global_average_pool",
    "global_max_pool",
    "graph",
    "group_norm",
    "initializers",
    "lambda_",
    "layer_norm",
    "max_pool",
    "merge",
    "mixed_precision",
    "mlp",
    "ntk_dense",
    "parallel",
    "prelu",
    "recompute_batch_norm",
    "repeat",
    "rescale",
    "reshape",
    "residual",
    "resize",
    "rms_norm",
    "rrelu",
    "scaling",
    "select",
    "serial",
    "shared",
    "summary",
    "swish",
    "zero_padding",
]

# A recipe is more than a model: it has a loss, metrics and an optimizer, of which no layer knows. These
# names are looked up when they are asked for, since that package imports this one.
_ABOVE = {"Recipe": "jaxdeep.recipes.recipe", "mlp": "jaxdeep.recipes.networks"}


def __getattr__(name: str) -> object:
    if name in _ABOVE:
        member: object = getattr(importlib.import_module(_ABOVE[name]), name)
        return member
    raise AttributeError(f"module 'jaxdeep.nn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
