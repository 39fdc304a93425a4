"""Smaller and faster models for inference: folding, casting, quantising, pruning, exporting."""

from jaxdeep.compress.casting import cast as cast
from jaxdeep.compress.casting import size_bytes as size_bytes
from jaxdeep.compress.exporting import export as export
from jaxdeep.compress.exporting import load_exported as load_exported
from jaxdeep.compress.folding import fold_batch_norm as fold_batch_norm
from jaxdeep.compress.pruning import Sparsity as Sparsity
from jaxdeep.compress.pruning import SparsityCurve as SparsityCurve
from jaxdeep.compress.pruning import keep_zeros as keep_zeros
from jaxdeep.compress.pruning import prune as prune
from jaxdeep.compress.pruning import pruning_mask as pruning_mask
from jaxdeep.compress.pruning import sparsity as sparsity
from jaxdeep.compress.pruning import sparsity_curve as sparsity_curve
from jaxdeep.compress.quantization import WeightDeviation as WeightDeviation
from jaxdeep.compress.quantization import dequantize as dequantize
from jaxdeep.compress.quantization import quantization_error as quantization_error
from jaxdeep.compress.quantization import quantize as quantize
from jaxdeep.compress.quantized import quantized_conv as quantized_conv
from jaxdeep.compress.quantized import quantized_dense as quantized_dense
from jaxdeep.compress.quantized import quantized_embedding as quantized_embedding
