"""Preprocessing: scalers, power transforms and target encoding, fitted as pure functions.

A preprocessor is made once and holds no data: ``scaler = standard_scaler()``. What it learns is a state,
a pytree of arrays: ``state = scaler.fit(x)``, ``scaler.transform(state, x)``,
``scaler.inverse_transform(state, y)``. All of it runs inside `jax.jit`, `jax.vmap` and `jax.lax.scan`.
"""

from jaxdeep.preprocessing.likelihood import (
    box_cox_interval,
    box_cox_llf,
    box_cox_mle,
    yeo_johnson_interval,
    yeo_johnson_llf,
    yeo_johnson_mle,
)
from jaxdeep.preprocessing.power import box_cox, inverse_box_cox, inverse_yeo_johnson, yeo_johnson
from jaxdeep.preprocessing.power_transform import PowerState, PowerTransform, power_transform
from jaxdeep.preprocessing.scaling import Scaler, min_max_scaler, standard_scaler
from jaxdeep.preprocessing.statistics import Moments, Range
from jaxdeep.preprocessing.target import TargetEncoder, TargetState, target_encoder

__all__ = [
    "Moments",
    "PowerState",
    "PowerTransform",
    "Range",
    "Scaler",
    "TargetEncoder",
    "TargetState",
    "box_cox",
    "box_cox_interval",
    "box_cox_llf",
    "box_cox_mle",
    "inverse_box_cox",
    "inverse_yeo_johnson",
    "min_max_scaler",
    "power_transform",
    "standard_scaler",
    "target_encoder",
    "yeo_johnson",
    "yeo_johnson_interval",
    "yeo_johnson_llf",
    "yeo_johnson_mle",
]


def __dir__() -> list[str]:
    return __all__
