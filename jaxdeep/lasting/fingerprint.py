"""Checksums of the values of data, which tell whether a run goes on with those that it began with."""

import hashlib
from typing import Any

import jax
import numpy as np

from jaxdeep._arrays import OnFile
from jaxdeep._shapes import PyTree
from jaxdeep.tree import path_name, shapes

_HASHED_BYTES = 2**28  # arrays of up to this size are read whole
_HASHED_AT_ONCE = 2**24
_SPREAD_ROWS = 2**12  # of a larger array only so many rows are read


def fingerprint(data: PyTree) -> dict[str, str]:
    """A checksum of the values of each array, by its path, as the programs of a run see them.

    >>> fingerprint((np.zeros((2, 1)), np.zeros(2, np.float32)))
    {'0': 'c804ce198ec337e3dc762bdd1a09aece', '1': 'c804ce198ec337e3dc762bdd1a09aece'}
    """
    return {path_name(p): _checksum(a) for p, a in jax.tree_util.tree_leaves_with_path(data)}


def _checksum(leaf: Any) -> str:
    """A checksum of all rows of an array; of very large ones, of rows that are evenly spread."""
    if isinstance(leaf, jax.Array):
        if not leaf.is_fully_addressable:  # each process has only a part of the array
            return ""
        leaf = jax.device_get(leaf)
    rows, dtype = leaf.shape[0], shapes(leaf).dtype
    digest = hashlib.blake2b(digest_size=16)
    if leaf.nbytes > _HASHED_BYTES:
        few = min(_SPREAD_ROWS, max(2, _HASHED_BYTES * rows // leaf.nbytes))
        places = np.unique(np.linspace(0, rows - 1, few).astype(np.int64))
        parts = iter([leaf.take(places) if isinstance(leaf, OnFile) else leaf[places]])
    else:
        step = max(1, _HASHED_AT_ONCE * rows // max(leaf.nbytes, 1))
        parts = (leaf[first : first + step] for first in range(0, rows, step))
    for part in parts:
        # in the dtype of the device, in which float64 and float32 may be the same
        digest.update(np.asarray(part, dtype).tobytes())
    return digest.hexdigest()
