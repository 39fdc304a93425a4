"""Optimizers in optax's protocol, with their hyperparameters as named leaves of the state."""

import inspect
from collections.abc import Callable

from jaxdeep import _checks
from jaxdeep.optimizers.adaptive import adagrad, adam, adamax, adamw, nadam, nadamw, rmsprop
from jaxdeep.optimizers.clipping import clip_by_global_norm, clip_by_norm, clip_by_value
from jaxdeep.optimizers.constraints import max_norm, min_max_norm, multiply, non_negative, unit_norm
from jaxdeep.optimizers.contract import check_transform
from jaxdeep.optimizers.decay import add_decayed_weights, add_l1_penalty, add_l2_penalty
from jaxdeep.optimizers.descent import (
    NagState,
    gradient_point,
    nag,
    scale_by_learning_rate,
    scale_by_momentum,
    scale_by_nag,
    sgd,
)
from jaxdeep.optimizers.evaluation import evaluation_params
from jaxdeep.optimizers.guards import EmaState, SkipState, ema_params, skip_nonfinite
from jaxdeep.optimizers.hyperparameters import at_learning_rate, hyperparams, set_hyperparams
from jaxdeep.optimizers.lion import lion, scale_by_lion
from jaxdeep.optimizers.moments import (
    bias_correction,
    first_moment,
    scale_by_adagrad,
    scale_by_adam,
    scale_by_adamax,
    scale_by_nadam,
    scale_by_rms,
    second_moment,
)
from jaxdeep.optimizers.plateau import PlateauState, reduce_on_plateau
from jaxdeep.optimizers.precision import LowPrecisionState, low_precision
from jaxdeep.optimizers.sizes import bytes_per_param
from jaxdeep.optimizers.slow import SlowState, lookahead
from jaxdeep.optimizers.transform import Transform, TransformState

__all__ = [
    "EmaState",
    "LowPrecisionState",
    "NagState",
    "PlateauState",
    "SkipState",
    "SlowState",
    "TransformState",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "add_decayed_weights",
    "add_l1_penalty",
    "add_l2_penalty",
    "at_learning_rate",
    "bias_correction",
    "bytes_per_param",
    "check_transform",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "ema_params",
    "evaluation_params",
    "factories",
    "first_moment",
    "gradient_point",
    "hyperparams",
    "lion",
    "lookahead",
    "low_precision",
    "max_norm",
    "min_max_norm",
    "multiply",
    "nadam",
    "nadamw",
    "nag",
    "non_negative",
    "reduce_on_plateau",
    "rmsprop",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_learning_rate",
    "scale_by_lion",
    "scale_by_momentum",
    "scale_by_nadam",
    "scale_by_nag",
    "scale_by_rms",
    "second_moment",
    "set_hyperparams",
    "sgd",
    "skip_nonfinite",
    "unit_norm",
]


def __dir__() -> list[str]:
    return __all__


def factories(*, with_learning_rate: bool = False) -> dict[str, Callable[..., Transform]]:
    """Every function of this namespace that makes a transformation, by its name.

    Args:
      with_learning_rate: optimizers only, which train by themselves: their first argument is the
        learning rate, and the others have defaults.

    >>> list(factories(with_learning_rate=True))[:3]
    ['adagrad', 'adam', 'adamax']
    >>> "clip_by_norm" in factories(), "clip_by_norm" in factories(with_learning_rate=True)
    (True, False)
    """
    _checks.check_flag("with_learning_rate", with_learning_rate)
    named = {name: globals()[name] for name in __all__}
    signatures = {name: inspect.signature(f) for name, f in named.items() if inspect.isfunction(f)}
    return {
        name: named[name]
        for name, signature in signatures.items()
        if signature.return_annotation is Transform
        and (not with_learning_rate or (_is_optimizer(signature) and not name.startswith("scale_by_")))
    }


def _is_optimizer(signature: inspect.Signature) -> bool:
    return next(iter(signature.parameters), None) == "learning_rate"
