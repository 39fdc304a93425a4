"""Why a network does not learn, and at what rate it would: gradient flow and the learning-rate test."""

from jaxdeep.diagnostics.gradient_flow import gradient_flow as gradient_flow
from jaxdeep.diagnostics.learning_rate import RateTest as RateTest
from jaxdeep.diagnostics.learning_rate import find_learning_rate as find_learning_rate
from jaxdeep.diagnostics.report import report as report
from jaxdeep.diagnostics.verdict import Finding as Finding
from jaxdeep.diagnostics.verdict import diagnose as diagnose
from jaxdeep.train.flow import LayerFlow as LayerFlow
