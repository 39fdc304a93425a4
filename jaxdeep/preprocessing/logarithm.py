"""The logarithm of features, as a step with an inverse."""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, of_data
from jaxdeep._precision import check_above_zero, check_holds
from jaxdeep._shapes import Array, ArrayLike
from jaxdeep.preprocessing.features import (
    Axis,
    as_known,
    check_axis,
    check_kept_apart,
    float_of,
    reduced_axes,
    widened,
)
from jaxdeep.preprocessing.precision import check_results, unscaled
from jaxdeep.preprocessing.scaling import check_state, standard_scaler
from jaxdeep.preprocessing.statistics import Moments
from jaxdeep.preprocessing.transform import Transform, fits


class LogState(NamedTuple):
    """What `log_transform` learns.

    Attributes:
      moments: of the logarithms, if it standardizes.
    """

    moments: Moments | None


@fits(LogState)
def log_transform(
    method: Literal["log1p", "log"] = "log1p", *, standardize: bool = False, axis: Axis = 0
) -> Transform:
    """The logarithm of each feature: ``y = log(1 + x)`` or ``y = log x``, and its inverse.

    The logarithm of NumPy's float64 and whole numbers is taken in float64. NaN are left out when fitting
    and kept when transforming.

    Args:
      method: ``"log1p"`` for x > −1, or ``"log"`` for x > 0.
      standardize: scale the result to mean 0 and variance 1 by `standard_scaler`; else nothing is
        learned.
      axis: the axis, or axes, of the examples, as for `standard_scaler`.

    Raises:
      ValueError: another method; values without a logarithm, fitting and transforming (traced ones
        become NaN); when fitting to standardize, no or infinite numbers, and else NumPy features whose
        logarithms float32 cannot tell, such as those of times.
      TypeError: arguments of another kind.

    Source: `numpy.log1p`; scikit-learn's `FunctionTransformer` with it.

    >>> transform = log_transform()
    >>> x = jnp.array([[0.0], [9.0]])
    >>> y = transform.transform(transform.fit(x), x)
    >>> print(y[:, 0].round(4))
    [0.     2.3026]
    >>> transform.inverse_transform(transform.fit(x), y).round(4).tolist()
    [[0.0], [9.0]]
    """
    _checks.check_choice("method", method, ("log1p", "log"))
    _checks.check_flag("standardize", standardize)
    check_axis(axis)
    scaler = standard_scaler(axis=axis)
    least = -1 if method == "log1p" else 0

    def logarithm(x: ArrayLike) -> Array | np.ndarray:
        array = as_known("x", x)
        if method == "log":
            check_above_zero("x", array)  # of which there is a logarithm
        if _checks.is_known(array) and (np.asarray(array) <= least).any():
            raise ValueError(f"x must be above {least} for {method}, got values ≤ {least}")
        if isinstance(array, np.ndarray) and array.dtype.itemsize >= 4:
            check_holds("x", array if array.dtype.kind == "f" else np.zeros(0))
            return (np.log1p if method == "log1p" else np.log)(array.astype(np.float64))
        return _logarithm(widened(array)[0], method)

    @of_data
    def fit(x: ArrayLike) -> LogState:
        y = logarithm(x)
        if y.ndim:
            axes = reduced_axes(axis, y.ndim)
            check_results(x, y, axes)
            if not standardize:
                check_kept_apart("the transform of x", y, axes, "use standardize=True")
        return LogState(scaler.fit(y) if standardize else None)

    @of_data
    def transform(state: LogState, x: ArrayLike) -> Array:
        check_state(state, LogState)
        y, dtype = logarithm(x), float_of(as_array("x", x))
        if state.moments is not None:
            return scaler.transform(state.moments, y).astype(dtype)
        return jnp.asarray(y.astype(jnp.promote_types(dtype, jnp.float32))).astype(dtype)

    @of_data
    def inverse_transform(state: LogState, y: ArrayLike) -> Array:
        check_state(state, LogState)
        wide, dtype = widened(y, "y")
        if state.moments is not None:
            precise = unscaled(scaler, state.moments, as_array("y", y))
            if precise is not None:
                x = (np.expm1 if method == "log1p" else np.exp)(precise)
                return jnp.asarray(x.astype(dtype))
            wide = scaler.inverse_transform(state.moments, wide)
        return (jnp.expm1 if method == "log1p" else jnp.exp)(wide).astype(dtype)

    return Transform(fit, transform, inverse_transform)


@partial(jax.jit, static_argnums=1)
def _logarithm(x: Array, method: str) -> Array:
    if method == "log1p":
        return jnp.where(x > -1, jnp.log1p(jnp.where(x > -1, x, 0)), jnp.nan)
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), jnp.nan)
