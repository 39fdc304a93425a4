"""Many runs at once: spaces of hyperparameters, strategies, and the table of what came out."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdeep.search.asking.ask_tell import AskTell
    from jaxdeep.search.logs import LoggedRow
    from jaxdeep.search.populations.evolution import population
    from jaxdeep.search.populations.exploit import exploit_and_explore
    from jaxdeep.search.populations.lineage import Generation, PopulationResult
    from jaxdeep.search.resampling.confidence import corrected_interval, intervals
    from jaxdeep.search.resampling.cross_validation import cross_validate
    from jaxdeep.search.resampling.folds import bootstrap_samples
    from jaxdeep.search.resampling.sizes import learning_curve
    from jaxdeep.search.spaces.distributions import choice, log_int, log_uniform, one_minus, uniform
    from jaxdeep.search.spaces.distributions import int_ as int
    from jaxdeep.search.spaces.samplers import grid, random, random_points, sobol
    from jaxdeep.search.spaces.space import Points
    from jaxdeep.search.strategies.asynchronous import AsynchronousHalving
    from jaxdeep.search.strategies.halving import SuccessiveHalving
    from jaxdeep.search.strategies.hyperband import Hyperband
    from jaxdeep.search.tables.best_of import expected_best
    from jaxdeep.search.tables.table import Table

# Looked up when first asked for, so that nothing is loaded that is not used.
_NAMES = {
    "AskTell": "asking.ask_tell",
    "AsynchronousHalving": "strategies.asynchronous",
    "Generation": "populations.lineage",
    "Hyperband": "strategies.hyperband",
    "LoggedRow": "logs",
    "Points": "spaces.space",
    "PopulationResult": "populations.lineage",
    "SuccessiveHalving": "strategies.halving",
    "Table": "tables.table",
    "bootstrap_samples": "resampling.folds",
    "choice": "spaces.distributions",
    "corrected_interval": "resampling.confidence",
    "cross_validate": "resampling.cross_validation",
    "expected_best": "tables.best_of",
    "exploit_and_explore": "populations.exploit",
    "grid": "spaces.samplers",
    "int": "spaces.distributions",
    "intervals": "resampling.confidence",
    "learning_curve": "resampling.sizes",
    "log_int": "spaces.distributions",
    "log_uniform": "spaces.distributions",
    "one_minus": "spaces.distributions",
    "population": "populations.evolution",
    "random": "spaces.samplers",
    "random_points": "spaces.samplers",
    "sobol": "spaces.samplers",
    "uniform": "spaces.distributions",
}
_INSIDE = {"int": "int_"}  # where the name is Python's own

__all__ = [
    "AskTell",
    "AsynchronousHalving",
    "Generation",
    "Hyperband",
    "LoggedRow",
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
