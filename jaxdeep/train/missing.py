"""What the history of a run holds for epochs that have no value: NaN, but for a switch of JAX'."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def missing(dtype: Any) -> Any:
    """What stands in a history on the device where there is no value: NaN.

    Under ``jax_debug_nans``, which takes each NaN for a mistake, it is the lowest number of the `dtype`,
    in whose place `jaxdeep.fit` and `jaxdeep.sweep` write NaN on the host (`with_nan`).

    >>> float(missing(jnp.float32))
    nan
    """
    if not _nans_are_refused():
        return jnp.nan
    wide = jnp.promote_types(dtype, jnp.float32)
    return jnp.finfo(wide).min.astype(wide)


def with_nan(history: Mapping[str, Any], epochs: int | None = None) -> dict[str, np.ndarray]:
    """The history of the first `epochs`, on the host, with NaN where there is no value.

    >>> with_nan({"loss": np.array([1.0, 2.0, np.finfo(float).min])}, 2)
    {'loss': array([1., 2.])}
    """

    def column(values: np.ndarray) -> np.ndarray:
        lowest = values == np.finfo(values.dtype).min
        return np.where(lowest, values.dtype.type(np.nan), values) if lowest.any() else values

    return {name: column(np.asarray(values)[:epochs]) for name, values in history.items()}


def without_nan(history: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A history from the host, with what the device holds in place of NaN."""
    if not _nans_are_refused():
        return dict(history)
    return {
        name: np.where(np.isnan(values), missing(values.dtype), values)
        for name, values in history.items()
    }


def _nans_are_refused() -> bool:
    config: Any = jax.config
    return bool(config.jax_debug_nans)
