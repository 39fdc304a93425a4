"""Data sets as arrays, and data of any kind split into training, validation and test rows.

The data sets are NumPy arrays: inputs float32 in [0, 1] (pixels), labels int32 classes.
"""

from jaxdeep.datasets.dataset import Dataset
from jaxdeep.datasets.files import npz
from jaxdeep.datasets.named import load
from jaxdeep.datasets.packaged import digits, fashion_mnist
from jaxdeep.datasets.splitting import folds, split

__all__ = [
    "Dataset",
    "digits",
    "fashion_mnist",
    "folds",
    "load",
    "npz",
    "split",
]


def __dir__() -> list[str]:
    return __all__
