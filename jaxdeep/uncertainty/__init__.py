"""The uncertainty of predictions: Monte Carlo dropout, deep ensembles, calibration and rejection."""

from jaxdeep.uncertainty.calibration import (
    Reliability,
    brier_score,
    expected_calibration_error,
    maximum_calibration_error,
    negative_log_likelihood,
    reliability,
)
from jaxdeep.uncertainty.ensembles import ensemble
from jaxdeep.uncertainty.prediction import Prediction
from jaxdeep.uncertainty.rejection import Rejection, rejection_curve
from jaxdeep.uncertainty.sampling import mc_dropout
from jaxdeep.uncertainty.temperature import fit_temperature, temperature_scale

__all__ = [
    "Prediction",
    "Rejection",
    "Reliability",
    "brier_score",
    "ensemble",
    "expected_calibration_error",
    "fit_temperature",
    "maximum_calibration_error",
    "mc_dropout",
    "negative_log_likelihood",
    "rejection_curve",
    "reliability",
    "temperature_scale",
]


def __dir__() -> list[str]:
    return __all__
