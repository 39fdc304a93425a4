"""How rows enter a model: as its inputs, or as raw rows that one of its layers knows how to encode."""

from typing import Any

from jaxdeep._shapes import PyTree
from jaxdeep.nn import walk
from jaxdeep.nn.model import Model
from jaxdeep.nn.traits import Encodes
from jaxdeep.train.state import Network


def encoder_of(model: Network) -> Encodes | None:
    """What makes inputs of raw rows, if a layer of the model says how (`Traits.encodes`)."""
    if not isinstance(model, Model):
        return None
    found = (place.layer.traits.encodes for place in walk.every(model))
    return next((encodes for encodes in found if encodes is not None), None)


def rows_in(model: Network, data: Any) -> PyTree:
    """The inputs of the model: `data` themselves, or what its layer makes of raw rows, such as a frame.

    >>> import jaxdeep as jd
    >>> rows_in(jd.nn.dense(1), [[1.0, 2.0]])
    [[1.0, 2.0]]
    """
    encodes = encoder_of(model)
    if encodes is None:
        return data
    if encodes.is_raw(data):
        return encodes.encode_inputs(data)
    if isinstance(data, (tuple, list)) and data and encodes.is_raw(data[0]):
        raise TypeError(
            f"raw rows must be one table, such as a frame or a dict of columns, got a "
            f"{type(data).__name__} of {len(data)}: join them, as with pandas.DataFrame(rows) or "
            "pandas.concat(frames)"
        )
    return data


def examples_in(model: Network, data: Any) -> PyTree:
    """The data that the model is judged by, of raw rows that hold their targets, too.

    In a pair ``(x, y)`` or a triple ``(x, y, weights)`` only the inputs may be raw.
    """
    encodes = encoder_of(model)
    if encodes is None:
        return data
    if encodes.is_raw(data):
        return encodes.encode(data)
    if isinstance(data, (tuple, list)) and data:
        return (rows_in(model, data[0]), *data[1:])
    return data


def labels_in(model: Network, classes: Any) -> Any:
    """Classes in the words of whoever made the raw rows; as they are, if the model knows none."""
    encodes = encoder_of(model)
    return classes if encodes is None else encodes.labels(classes)
