"""Why a network does not learn, and at what rate it would: gradient flow and the learning-rate test."""

from jaxdeep.diagnostics.gradient_flow import gradient_flow
from jaxdeep.diagnostics.layer_flow import LayerFlow
from jaxdeep.diagnostics.learning_rate import RateTest, find_learning_rate
from jaxdeep.diagnostics.report import report
from jaxdeep.diagnostics.verdict import Finding, diagnose

__all__ = [
    "Finding",
    "LayerFlow",
    "RateTest",
    "diagnose",
    "find_learning_rate",
    "gradient_flow",
    "report",
]


def __dir__() -> list[str]:
    return __all__
