"""Many runs at once: spaces of hyperparameters, strategies, and the table of what came out."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdeep.search.asynchronous import AsynchronousHalving
    from jaxdeep.search.confidence import corrected_interval, intervals
    from jaxdeep.search.cross_validation import cross_validate
    from jaxdeep.search.folds import bootstrap_samples
    from jaxdeep.search.halving import SuccessiveHalving
    from jaxdeep.search.hyperband import Hyperband
    from jaxdeep.search.sizes import learning_curve
    from jaxdeep.search.space import random_points
    from jaxdeep.search.table import Table

# Looked up when first asked for, so that nothing is loaded that is not used.
_NAMES = {
    "AsynchronousHalving": "asynchronous",
    "Hyperband": "hyperband",
    "SuccessiveHalving": "halving",
    "Table": "table",
    "bootstrap_samples": "folds",
    "corrected_interval": "confidence",
    "cross_validate": "cross_validation",
    "intervals": "confidence",
    "learning_curve": "sizes",
    "random_points": "space",
}

__all__ = [
    "AsynchronousHalving",
    "Hyperband",
    "SuccessiveHalving",
    "Table",
    "bootstrap_samples",
    "corrected_interval",
    "cross_validate",
    "intervals",
    "learning_curve",
    "random_points",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"jaxdeep.search.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'jaxdeep.search' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
