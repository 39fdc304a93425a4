"""How sure a model is: Monte Carlo dropout, deep ensembles, and whether to believe their confidence."""

from jaxdeep.uncertainty.calibration import Reliability as Reliability
from jaxdeep.uncertainty.calibration import brier_score as brier_score
from jaxdeep.uncertainty.calibration import expected_calibration_error as expected_calibration_error
from jaxdeep.uncertainty.calibration import maximum_calibration_error as maximum_calibration_error
from jaxdeep.uncertainty.calibration import negative_log_likelihood as negative_log_likelihood
from jaxdeep.uncertainty.calibration import reliability as reliability
from jaxdeep.uncertainty.ensembles import ensemble as ensemble
from jaxdeep.uncertainty.prediction import Prediction as Prediction
from jaxdeep.uncertainty.rejection import Rejection as Rejection
from jaxdeep.uncertainty.rejection import rejection_curve as rejection_curve
from jaxdeep.uncertainty.sampling import mc_dropout as mc_dropout
from jaxdeep.uncertainty.temperature import fit_temperature as fit_temperature
from jaxdeep.uncertainty.temperature import temperature_scale as temperature_scale
