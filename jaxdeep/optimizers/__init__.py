"""Optimizers in optax's protocol, with their hyperparameters as named leaves of the state."""

import inspect
from collections.abc import Callable

from jaxdeep.optimizers.adaptive import (
    adagrad,
    adam,
    adamax,
    adamw,
    nadam,
    rmsprop,
    scale_by_adagrad,
    scale_by_adam,
    scale_by_adamax,
    scale_by_nadam,
    scale_by_rms,
)
from jaxdeep.optimizers.clipping import clip_by_global_norm, clip_by_norm, clip_by_value
from jaxdeep.optimizers.constraints import max_norm, multiply
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
from jaxdeep.optimizers.guards import EmaState, SkipState, ema_params, skip_nonfinite
from jaxdeep.optimizers.hyperparameters import hyperparams, set_hyperparams
from jaxdeep.optimizers.moments import bias_correction, first_moment, second_moment
from jaxdeep.optimizers.plateau import PlateauState, reduce_on_plateau
from jaxdeep.optimizers.transform import Transform, TransformState

__all__ = [
    "EmaState",
    "NagState",
    "PlateauState",
    "SkipState",
    "TransformState",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "add_decayed_weights",
    "add_l1_penalty",
    "add_l2_penalty",
    "bias_correction",
    "check_transform",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "ema_params",
    "factories",
    "first_moment",
    "gradient_point",
    "hyperparams",
    "max_norm",
    "multiply",
    "nadam",
    "nag",
    "reduce_on_plateau",
    "rmsprop",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_learning_rate",
    "scale_by_momentum",
    "scale_by_nadam",
    "scale_by_nag",
    "scale_by_rms",
    "second_moment",
    "set_hyperparams",
    "sgd",
    "skip_nonfinite",
]


def __dir__() -> list[str]:
    return __all__


def factories() -> dict[str, Callable[..., Transform]]:
    """Every function of this namespace that makes a transformation, by its name.

    The tests run over them all, and the command line takes those that train by themselves.

    >>> optimizer = factories()["adam"](1e-3)
    >>> list(factories())[:2]
    ['adagrad', 'adam']
    """
    named = {name: globals()[name] for name in __all__}
    return {
        name: thing
        for name, thing in named.items()
        if inspect.isfunction(thing) and inspect.signature(thing).return_annotation is Transform
    }
