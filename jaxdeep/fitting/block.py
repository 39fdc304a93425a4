"""`Block` and `Part`, in which batches come to a device, and the position that they are left at."""

from typing import Any, NamedTuple

import numpy as np

from jaxdeep._shapes import PyTree

Position = dict[str, Any] | None  # of an iterator, as JSON


class Block(NamedTuple):
    """Batches on the device: the first `filled` of a stack of them, or one batch if `filled` is None."""

    batches: PyTree
    filled: np.int32 | None


class Part(NamedTuple):
    """Rows for the device, of which the first `filled` count; those behind repeat the last of them.

    In a run of several processes `filled` is the number in the share of this one.
    """

    rows: PyTree
    filled: int
