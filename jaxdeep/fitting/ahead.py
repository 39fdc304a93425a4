"""The first layers of a model on the host, where its inputs are more than JAX' default float holds."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdeep._arrays import as_array
from jaxdeep._shapes import PyTree
from jaxdeep.nn import walk
from jaxdeep.nn.combinators import serial
from jaxdeep.nn.model import Model
from jaxdeep.preprocessing.layers import fitted
from jaxdeep.train.columns import check_told_apart_by_column
from jaxdeep.train.state import Network
from jaxdeep.tree import is_of_numbers

Ahead = tuple[Network, PyTree, PyTree, Any]


def ahead(model: Network, params: PyTree, state: PyTree, x: Any) -> Ahead:
    """The model behind the fitted preprocessors that it begins with, and what these make of the inputs.

    NumPy inputs of 64 bits, such as times, are scaled as they are, in float64. Others stay as they are,
    and so does the model. Those of which a fitted preprocessor elsewhere would see no differences are
    refused: files, batches, several inputs.

    >>> import jax, jaxdeep as jd
    >>> times, scaler = 1.7e9 + np.arange(100.0)[:, None], jd.preprocessing.standard_scaler()
    >>> model = serial(scaler=fitted(scaler, scaler.fit(times)), logits=jd.nn.dense(1))
    >>> params, state = model.init(jax.random.key(0), times[:1])
    >>> behind, _, _, scaled = ahead(model, params, state, times)
    >>> list(behind.layers), len(np.unique(scaled))
    (['logits'], 100)
    """
    if hasattr(x, "to_numpy") or (isinstance(x, list) and any(map(is_of_numbers, x))):
        x = as_array("x", x)
    while _is_wide(x) and isinstance(model, Model) and model.kind == "serial":
        name, first = next(iter(model.layers.items()))
        if first.kind != fitted.__name__ or len(model.layers) < 2:
            break
        x, _ = first.apply({}, state.get(name, {}), x)
        model = serial(**{other: layer for other, layer in model.layers.items() if other != name})
        state = {other: layer_state for other, layer_state in state.items() if other != name}
    return model, params, state, told_apart(model, x)


def told_apart(model: Network, x: Any) -> Any:
    """The inputs; those that a fitted preprocessor of the model would take for equal are refused.

    Raises:
      ValueError: numbers whose differences JAX' default float loses, also in a batch of an iterator, as
        soon as it is met.
    """
    if not isinstance(model, Model) or all(
        place.layer.kind != fitted.__name__ for place in walk.every(model)
    ):
        return x
    if isinstance(x, Iterator):
        return map(_checked, x)
    if not callable(x):
        check_told_apart_by_column(x, "x")
    return x


def _checked(batch: Any) -> Any:
    """A batch of inputs, with or without targets."""
    inputs = batch[0] if isinstance(batch, tuple) else batch
    check_told_apart_by_column(inputs, "x")
    return batch


def _is_wide(x: Any) -> bool:
    """Whether these are numbers of the host that JAX' default float rounds."""
    wide = isinstance(x, np.ndarray) and x.ndim > 0 and not isinstance(x, (np.memmap, np.ma.MaskedArray))
    return wide and x.dtype.kind in "iuf" and x.dtype.itemsize > jnp.result_type(float).itemsize
