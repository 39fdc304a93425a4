"""Power transforms of columns: λ by maximum likelihood, and standardizing what results."""

from collections.abc import Callable
from typing import NamedTuple, get_args

import jax

from jaxdeep import _checks
from jaxdeep._shapes import Array, ArrayLike, Float
from jaxdeep.preprocessing.likelihood import Method, box_cox_mle, yeo_johnson_mle
from jaxdeep.preprocessing.power import box_cox, inverse_box_cox, inverse_yeo_johnson, yeo_johnson
from jaxdeep.preprocessing.scaling import Axis, Moments, check_axis, standard_scaler, widened


class PowerState(NamedTuple):
    """What `power_transform` learns.

    Attributes:
      lmbda: λ of each feature, in at least float32.
      moments: of the transformed features, if it standardizes.
    """

    lmbda: Float[Array, "*features"]
    moments: Moments | None


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


def power_transform(
    method: Method = "yeo-johnson", *, standardize: bool = False, axis: Axis = 0
) -> PowerTransform:
    """Makes each feature as normal as a power can: `box_cox` or `yeo_johnson` with the most likely λ.

    NaN are left out when fitting and kept when transforming. A constant feature has λ = 1 under
    Yeo-Johnson, and becomes 0 if standardized.

    Args:
      method: ``"yeo-johnson"``, or ``"box-cox"`` for positive data.
      standardize: scale the result to mean 0 and variance 1, as scikit-learn does by default.
      axis: the axis, or axes, of the examples, as for `standard_scaler`.

    Raises:
      ValueError: another method; when fitting, infinite values and, for Box-Cox, features that are
        constant or without values; for Box-Cox, values ≤ 0, when transforming too. (Under `jax.jit`,
        where values are not known, λ or the result is NaN.)
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

    def fit(x: ArrayLike) -> PowerState:
        wide, _ = widened(x)
        lmbda = mle(wide, axis=axis)
        return PowerState(lmbda, scaler.fit(forward(wide, lmbda)) if standardize else None)

    def transform(state: PowerState, x: ArrayLike) -> Array:
        wide, dtype = widened(x)
        if method == "box-cox" and not isinstance(wide, jax.core.Tracer):
            with jax.ensure_compile_time_eval():
                if bool((wide <= 0).any()):
                    raise ValueError("x must be positive for Box-Cox, got values ≤ 0 (use Yeo-Johnson)")
        y = forward(wide, state.lmbda)
        return (y if state.moments is None else scaler.transform(state.moments, y)).astype(dtype)

    def inverse_transform(state: PowerState, y: ArrayLike) -> Array:
        wide, dtype = widened(y)
        if state.moments is not None:
            wide = scaler.inverse_transform(state.moments, wide)
        return inverse(wide, state.lmbda).astype(dtype)

    return PowerTransform(fit, transform, inverse_transform)
