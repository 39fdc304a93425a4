"""Smaller and faster models for inference: folding, casting, quantising, pruning, exporting."""

from jaxdeep.compress.folding import fold_batch_norm as fold_batch_norm
