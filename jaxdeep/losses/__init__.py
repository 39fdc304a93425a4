"""Losses: one value per example or element; the objective takes the mean (and weights them).

Each is a function ``(outputs, y) -> values``; its options are keywords, fixed by `functools.partial`:
``functools.partial(huber, delta=2.0)``. Any of them is a metric, too, and `jaxdeep.metrics.mean` of one
adds up batches.
"""

from jaxdeep.losses.cross_entropy import sigmoid_cross_entropy, softmax_cross_entropy
from jaxdeep.losses.divergences import kl_divergence, poisson
from jaxdeep.losses.focal import sigmoid_focal, softmax_focal
from jaxdeep.losses.margins import categorical_hinge, hinge, multiclass_hinge
from jaxdeep.losses.regression import huber, log_cosh, mae, mape, mse, msle
from jaxdeep.losses.several import weighted

__all__ = [
    "categorical_hinge",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mae",
    "mape",
    "mse",
    "msle",
    "multiclass_hinge",
    "poisson",
    "sigmoid_cross_entropy",
    "sigmoid_focal",
    "softmax_cross_entropy",
    "softmax_focal",
    "weighted",
]


def __dir__() -> list[str]:
    return __all__
