"""Preprocessing: scalers, power transforms and target encoding, fitted as pure functions.

A preprocessor is made once and holds no data: ``scaler = standard_scaler()``. What it learns is a state,
a pytree of arrays: ``state = scaler.fit(x)``, ``scaler.transform(state, x)``,
``scaler.inverse_transform(state, y)``. All of it runs inside `jax.jit`, `jax.vmap` and `jax.lax.scan`.
"""

from jaxdeep.preprocessing.likelihood import box_cox_interval as box_cox_interval
from jaxdeep.preprocessing.likelihood import box_cox_llf as box_cox_llf
from jaxdeep.preprocessing.likelihood import box_cox_mle as box_cox_mle
from jaxdeep.preprocessing.likelihood import yeo_johnson_interval as yeo_johnson_interval
from jaxdeep.preprocessing.likelihood import yeo_johnson_llf as yeo_johnson_llf
from jaxdeep.preprocessing.likelihood import yeo_johnson_mle as yeo_johnson_mle
from jaxdeep.preprocessing.power import box_cox as box_cox
from jaxdeep.preprocessing.power import inverse_box_cox as inverse_box_cox
from jaxdeep.preprocessing.power import inverse_yeo_johnson as inverse_yeo_johnson
from jaxdeep.preprocessing.power import yeo_johnson as yeo_johnson
from jaxdeep.preprocessing.power_transform import PowerState as PowerState
from jaxdeep.preprocessing.power_transform import PowerTransform as PowerTransform
from jaxdeep.preprocessing.power_transform import power_transform as power_transform
from jaxdeep.preprocessing.scaling import Moments as Moments
from jaxdeep.preprocessing.scaling import Range as Range
from jaxdeep.preprocessing.scaling import Scaler as Scaler
from jaxdeep.preprocessing.scaling import min_max_scaler as min_max_scaler
from jaxdeep.preprocessing.scaling import standard_scaler as standard_scaler
from jaxdeep.preprocessing.target import TargetEncoder as TargetEncoder
from jaxdeep.preprocessing.target import TargetState as TargetState
from jaxdeep.preprocessing.target import target_encoder as target_encoder
