"""Data sets by their names on the command line."""

from jaxdeep.datasets.dataset import Dataset
from jaxdeep.datasets.files import npz
from jaxdeep.datasets.packaged import digits, fashion_mnist


def load(name: str) -> Dataset:
    """A data set by its name on the command line: ``digits``, ``fashion-mnist`` or a ``.npz`` file.

    Raises:
      ValueError: another name.

    >>> len(load("digits").train[1])
    1257
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be the name of a data set, got {name!r}")
    named = {"digits": digits, "fashion-mnist": fashion_mnist}
    if name in named:
        return named[name]()
    if name.endswith(".npz"):
        return npz(name)
    raise ValueError(f"name must be {', '.join(named)} or a file ending in .npz, got {name!r}")
