"""Smaller and faster models for inference: folding, casting, quantising, pruning, exporting."""

from jaxdeep.compress.casting import cast, size_bytes
from jaxdeep.compress.exporting import export, load_exported
from jaxdeep.compress.folding import fold_batch_norm
from jaxdeep.compress.onnx_exporting import export_onnx
from jaxdeep.compress.pruning import (
    KeepZerosState,
    Sparsity,
    SparsityCurve,
    keep_zeros,
    prune,
    pruning_mask,
    sparsity,
    sparsity_curve,
)
from jaxdeep.compress.quantization import WeightDeviation, dequantize, quantization_error, quantize
from jaxdeep.nn.quantized import (
    quantized_conv,
    quantized_dense,
    quantized_embedding,
    quantized_ntk_dense,
)

__all__ = [
    "KeepZerosState",
    "Sparsity",
    "SparsityCurve",
    "WeightDeviation",
    "cast",
    "dequantize",
    "export",
    "export_onnx",
    "fold_batch_norm",
    "keep_zeros",
    "load_exported",
    "prune",
    "pruning_mask",
    "quantization_error",
    "quantize",
    "quantized_conv",
    "quantized_dense",
    "quantized_embedding",
    "quantized_ntk_dense",
    "size_bytes",
    "sparsity",
    "sparsity_curve",
]


def __dir__() -> list[str]:
    return __all__
