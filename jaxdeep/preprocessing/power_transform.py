"""Power transforms of columns: λ by maximum likelihood, and standardizing what results."""

from collections.abc import Callable
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeep import _checks
from jaxdeep._arrays import as_array, of_data
from jaxdeep._compat import enable_x64
from jaxdeep._precision import check_above_zero
from jaxdeep._shapes import Array, ArrayLike, Float
from jaxdeep.preprocessing.features import (
    Axes,
    Axis,
    check_axis,
    check_features,
    check_kept_apart,
    check_varies,
    reduced_axes,
    widened,
)
from jaxdeep.preprocessing.likelihood import Method, box_cox_mle, yeo_johnson_mle
from jaxdeep.preprocessing.power import (
    box_cox,
    check_positive,
    inverse_box_cox,
    inverse_yeo_johnson,
    yeo_johnson,
)
from jaxdeep.preprocessing.precision import (
    check_whole,
    has_small,
    is_computing,
    is_narrow,
    is_precise,
    precise_of,
    unscaled,
)
from jaxdeep.preprocessing.scaling import check_state, standard_scaler
from jaxdeep.preprocessing.statistics import Moments
from jaxdeep.preprocessing.transform import described, fits


class PowerState(NamedTuple):
    """What `power_transform` learns.

    Attributes:
      lmbda: λ of each feature, in at least float32.
      moments: of the transformed features, if it standardizes.
    """

    lmbda: Float[Array, "*features"]
    moments: Moments | None


@described
class PowerTransform(NamedTuple):
    """A power transform: three pure functions.

    Attributes:
      fit: ``(x) -> state``.
      transform: ``(state, x) -> y``.
      inverse_transform: ``(state, y) -> x``.
    """

    fit: Callable[[ArrayLike], PowerState]
    transform: Callable[[PowerState, ArrayLike], Array]
    inverse_transform: Callable[[PowerState, ArrayLike], Array]


@fits(PowerState)
def power_transform(
    method: Method = "yeo-johnson", *, standardize: bool = False, axis: Axis = 0
) -> PowerTransform:
    """Makes each feature as normal as a power can: `box_cox` or `yeo_johnson` with the most likely λ.

    NumPy features of float64 or whole numbers whose spread float32 would lose (seconds since 1970) are
    computed in float64, and so are those that it would make 0, of which Box-Cox takes the logarithm. Of
    what became of them the inverse is computed in float64 too; inside `jax.jit`, where it cannot be, it
    is off by several roundings. Values near the least float32 (1e-36) keep few digits. NaN are left out
    when fitting and kept when transforming. A constant feature has λ = 1 under Yeo-Johnson, and becomes
    0 if standardized.

    Args:
      method: ``"yeo-johnson"``, or ``"box-cox"`` for positive data.
      standardize: scale the result to mean 0 and variance 1, as scikit-learn does by default.
      axis: the axis, or axes, of the examples, as for `standard_scaler`.

    Raises:
      ValueError: another method; when fitting, infinite values and, for Box-Cox, features that are
        constant or without values, for Yeo-Johnson, NumPy features that vary by so little that float32
        makes them 0 (below 1e-38), or, unless standardized, whose powers it cannot tell; numbers whose
        powers of the best λ are beyond float32; for Box-Cox, values ≤ 0, when transforming too; when
        transforming, other features than the state's. (Under `jax.jit`, where values are not known, λ
        or the result is NaN.)
      TypeError: arguments of another kind.

    Source: scikit-learn's `PowerTransformer`.

    >>> import jax.numpy as jnp
    >>> x = jnp.exp(jnp.linspace(-1.0, 1.0, 5))
    >>> transform = power_transform("box-cox", standardize=True)
    >>> state = transform.fit(x)
    >>> y = transform.transform(state, x)
    >>> bool(abs(y.mean()) < 1e-5), bool(abs(y.std() - 1) < 1e-5)
    (True, True)
    >>> bool(jnp.allclose(transform.inverse_transform(state, y), x, rtol=1e-5))
    True
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be 'yeo-johnson' or 'box-cox', got {method!r}")
    _checks.check_flag("standardize", standardize)
    check_axis(axis)
    scaler = standard_scaler(axis=axis)
    forward, inverse, mle = {
        "box-cox": (box_cox, inverse_box_cox, box_cox_mle),
        "yeo-johnson": (yeo_johnson, inverse_yeo_johnson, yeo_johnson_mle),
    }[method]

    @of_data
    def fit(x: ArrayLike) -> PowerState:
        precise, array = precise_of(x), as_array("x", x)
        axes = reduced_axes(axis, array.ndim)
        check_varies("x", array, axes)
        check_whole(x, axes)
        if precise is not None and method == "yeo-johnson":
            check_above_zero("x", precise, axis=axes)  # its results are as small
        if precise is not None and (is_narrow(precise, axes) or has_small(precise)):
            with enable_x64(True):
                known_lmbda = np.asarray(mle(precise, axis=axis)).astype(np.float32)
                values = np.asarray(forward(precise, known_lmbda))
            _check_powers(np.asarray(as_array("x", x)), known_lmbda, values, axes)
            if not standardize:
                check_kept_apart("the transform of x", values, axes, "use standardize=True")
            return PowerState(jnp.asarray(known_lmbda), scaler.fit(values) if standardize else None)
        wide, _ = widened(x)
        lmbda = mle(wide, axis=axis)
        if is_computing() and not isinstance(wide, jax.core.Tracer):
            _check_powers(
                np.asarray(as_array("x", x)), np.asarray(lmbda), np.asarray(forward(wide, lmbda)), axes
            )
        return PowerState(lmbda, scaler.fit(forward(wide, lmbda)) if standardize else None)

    @of_data
    def transform(state: PowerState, x: ArrayLike) -> Array:
        check_state(state, PowerState)
        wide, dtype = widened(x)
        check_features(state.lmbda.shape, wide.shape, axis, "x")
        precise = precise_of(x)
        if method == "box-cox":
            check_positive(as_array("x", x))
        is_wide = state.moments is not None and is_precise(state.moments)
        of_logarithms = method == "box-cox" and precise is not None and has_small(precise)
        if precise is not None and (is_wide or of_logarithms):
            with enable_x64(True):
                values = np.asarray(forward(precise, np.asarray(state.lmbda)))
            if state.moments is None:
                return jnp.asarray(values.astype(dtype))
            return jnp.asarray(scaler.transform(state.moments, values)).astype(dtype)
        y = forward(wide, state.lmbda)
        return (y if state.moments is None else scaler.transform(state.moments, y)).astype(dtype)

    @of_data
    def inverse_transform(state: PowerState, y: ArrayLike) -> Array:
        check_state(state, PowerState)
        wide, dtype = widened(y, "y")
        check_features(state.lmbda.shape, wide.shape, axis, "y")
        precise = None if state.moments is None else unscaled(scaler, state.moments, as_array("y", y))
        if precise is not None:
            with enable_x64(True):
                x = np.asarray(inverse(precise, np.asarray(state.lmbda, np.float64)))
            return jnp.asarray(x.astype(dtype))
        if state.moments is not None:
            wide = scaler.inverse_transform(state.moments, wide)
        return inverse(wide, state.lmbda).astype(dtype)

    return PowerTransform(fit, transform, inverse_transform)


def _check_powers(x: np.ndarray, lmbda: np.ndarray, powers: np.ndarray, axes: Axes) -> None:
    """Refuse a feature of numbers whose powers JAX' default float does not hold."""
    with np.errstate(over="ignore", invalid="ignore"):
        lost = np.isfinite(x) & ~np.isfinite(powers.astype(jnp.result_type(float)))
    if lost.any():
        place = np.unravel_index(int(np.argmax(lost)), x.shape)
        at = [int(i) for axis, i in enumerate(place) if axis not in axes]
        where = f" in feature {', '.join(map(str, at))}" if at else ""
        best = lmbda[tuple(at)]
        shown = f" ({best:.4g})" if np.isfinite(best) else ""
        raise ValueError(
            f"x holds {x[place]}{where}, whose power of the best λ{shown} is beyond "
            f"{jnp.result_type(float)}: subtract what the numbers have in common first, or divide them "
            "by a unit"
        )
