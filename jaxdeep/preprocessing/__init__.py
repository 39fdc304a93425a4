"""Preprocessing of numbers, categories and dates, fitted as pure functions.

A preprocessor is made once and holds no data: ``scaler = standard_scaler()``. What it learns is a state,
a pytree of arrays: ``state = scaler.fit(x)``, ``scaler.transform(state, x)``,
``scaler.inverse_transform(state, y)``. Of numbers all of it runs inside `jax.jit`, `jax.vmap` and
`jax.lax.scan`. Categories and dates of any kind are read on the host, which makes whole numbers of them
(``encoder.codes``, ``encoder.read``); what becomes of those (``encoder.encode``) runs there too.

``fitted(scaler, state)`` is a layer of a network, so that what was learned is saved with the model.
"""

from jaxdeep.preprocessing.bins import BinState, k_bins
from jaxdeep.preprocessing.dates import DateEncoder, Dates, DateState, date_encoder
from jaxdeep.preprocessing.imputation import Imputer, ImputerState, imputer
from jaxdeep.preprocessing.layers import fitted
from jaxdeep.preprocessing.likelihood import (
    box_cox_interval,
    box_cox_llf,
    box_cox_mle,
    yeo_johnson_interval,
    yeo_johnson_llf,
    yeo_johnson_mle,
)
from jaxdeep.preprocessing.logarithm import LogState, log_transform
from jaxdeep.preprocessing.one_hot import OneHotEncoder, OneHotState, one_hot_encoder
from jaxdeep.preprocessing.ordinal import OrdinalEncoder, OrdinalState, ordinal_encoder
from jaxdeep.preprocessing.power import box_cox, inverse_box_cox, inverse_yeo_johnson, yeo_johnson
from jaxdeep.preprocessing.power_transform import PowerState, PowerTransform, power_transform
from jaxdeep.preprocessing.quantile import QuantileState, quantile_transform
from jaxdeep.preprocessing.robust import RobustState, robust_scaler
from jaxdeep.preprocessing.scaling import Scaler, min_max_scaler, standard_scaler
from jaxdeep.preprocessing.smooth import inverse_smooth_clip, smooth_clip
from jaxdeep.preprocessing.statistics import Moments, Range
from jaxdeep.preprocessing.target import TargetEncoder, TargetState, target_encoder
from jaxdeep.preprocessing.transform import Transform

__all__ = [
    "BinState",
    "DateEncoder",
    "DateState",
    "Dates",
    "Imputer",
    "ImputerState",
    "LogState",
    "Moments",
    "OneHotEncoder",
    "OneHotState",
    "OrdinalEncoder",
    "OrdinalState",
    "PowerState",
    "PowerTransform",
    "QuantileState",
    "Range",
    "RobustState",
    "Scaler",
    "TargetEncoder",
    "TargetState",
    "Transform",
    "box_cox",
    "box_cox_interval",
    "box_cox_llf",
    "box_cox_mle",
    "date_encoder",
    "fitted",
    "imputer",
    "inverse_box_cox",
    "inverse_smooth_clip",
    "inverse_yeo_johnson",
    "k_bins",
    "log_transform",
    "min_max_scaler",
    "one_hot_encoder",
    "ordinal_encoder",
    "power_transform",
    "quantile_transform",
    "robust_scaler",
    "smooth_clip",
    "standard_scaler",
    "target_encoder",
    "yeo_johnson",
    "yeo_johnson_interval",
    "yeo_johnson_llf",
    "yeo_johnson_mle",
]


def __dir__() -> list[str]:
    return __all__
