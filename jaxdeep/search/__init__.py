"""Many runs at once: spaces of hyperparameters, strategies, and the table of what came out."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdeep.search.ask_tell import AskTell
    from jaxdeep.search.asynchronous import AsynchronousHalving
    from jaxdeep.search.best_of import expected_best
    from jaxdeep.search.confidence import corrected_interval, intervals
    from jaxdeep.search.cross_validation import cross_validate
    from jaxdeep.search.distributions import choice, log_int, log_uniform, one_minus, uniform
    from jaxdeep.search.distributions import int_ as int
    from jaxdeep.search.evolution import population
    from jaxdeep.search.exploit import exploit_and_explore
    from jaxdeep.search.folds import bootstrap_samples
    from jaxdeep.search.halving import SuccessiveHalving
    from jaxdeep.search.hyperband import Hyperband
    from jaxdeep.search.lineage import Generation, PopulationResult
    from jaxdeep.search.samplers import grid, random, random_points, sobol
    from jaxdeep.search.sizes import learning_curve
    from jaxdeep.search.space import Points
    from jaxdeep.search.table import Table

# Looked up when first asked for, so that nothing is loaded that is not used.
_NAMES = {
    "AskTell": "ask_tell",
    "AsynchronousHalving": "asynchronous",
    "Generation": "lineage",
    "Hyperband": "hyperband",
    "Points": "space",
    "PopulationResult": "lineage",
    "SuccessiveHalving": "halving",
    "Table": "table",
    "bootstrap_samples": "folds",
    "choice": "distributions",
    "corrected_interval": "confidence",
    "cross_validate": "cross_validation",
    "expected_best": "best_of",
    "exploit_and_explore": "exploit",
    "grid": "samplers",
    "int": "distributions",
    "intervals": "confidence",
    "learning_curve": "sizes",
    "log_int": "distributions",
    "log_uniform": "distributions",
    "one_minus": "distributions",
    "population": "evolution",
    "random": "samplers",
    "random_points": "samplers",
    "sobol": "samplers",
    "uniform": "distributions",
}
_INSIDE = {"int": "int_"}  # where the name is Python's own

__all__ = [
    "AskTell",
    "AsynchronousHalving",
    "Generation",
    "Hyperband",
    "Points",
    "PopulationResult",
    "SuccessiveHalving",
    "Table",
    "bootstrap_samples",
    "choice",
    "corrected_interval",
    "cross_validate",
    "expected_best",
    "exploit_and_explore",
    "grid",
    "int",
    "intervals",
    "learning_curve",
    "log_int",
    "log_uniform",
    "one_minus",
    "population",
    "random",
    "random_points",
    "sobol",
    "uniform",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        module = importlib.import_module(f"jaxdeep.search.{_NAMES[name]}")
        return getattr(module, _INSIDE.get(name, name))
    raise AttributeError(f"module 'jaxdeep.search' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
