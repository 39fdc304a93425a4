"""`Dataset`: pairs of inputs and labels for training, validation and test."""

from typing import NamedTuple

import numpy as np

from jaxdeep._shapes import Float, Num

Pair = tuple[Float[np.ndarray, "rows *features"], Num[np.ndarray, "rows *outputs"]]


class Dataset(NamedTuple):
    """Pairs ``(x, y)``: ``train, validation, test = jd.datasets.digits()``.

    Attributes:
      train: the pair to learn from.
      validation: the pair by which to choose between models.
      test: the pair for the final report; None if the source has none.
    """

    train: Pair
    validation: Pair
    test: Pair | None


def scaled(pixels: np.ndarray) -> np.ndarray:
    """Bytes as float32 in [0, 1]."""
    return np.divide(pixels, np.float32(255), dtype=np.float32)
