"""Training: pure steps, epochs and runs, and the records of what drives them."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxdeep.train.epoch import make_epoch, make_evaluate
from jaxdeep.train.monitors import EarlyStopping, ReduceOnPlateau
from jaxdeep.train.objective import Objective, supervised
from jaxdeep.train.options import Phase
from jaxdeep.train.records import Epochs
from jaxdeep.train.run import make_run
from jaxdeep.train.state import TrainState, init
from jaxdeep.train.step import make_step
from jaxdeep.train.weights import balanced_class_weight

if TYPE_CHECKING:
    from jaxdeep.fitting.result import FitResult
    from jaxdeep.search.spaces.samplers import random_points
    from jaxdeep.search.strategies.halving import SuccessiveHalving
    from jaxdeep.search.tables.table import Table

__all__ = [
    "EarlyStopping",
    "Epochs",
    "FitResult",
    "Objective",
    "Phase",
    "ReduceOnPlateau",
    "SuccessiveHalving",
    "Table",
    "TrainState",
    "balanced_class_weight",
    "init",
    "make_epoch",
    "make_evaluate",
    "make_run",
    "make_step",
    "random_points",
    "supervised",
]

# Names of higher rooms are looked up when they are asked for, since these import this one.
_ABOVE = {
    "FitResult": "jaxdeep.fitting.result",
    "SuccessiveHalving": "jaxdeep.search.strategies.halving",
    "Table": "jaxdeep.search.tables.table",
    "random_points": "jaxdeep.search.spaces.samplers",
}


def __getattr__(name: str) -> Any:
    if name in _ABOVE:
        return getattr(importlib.import_module(_ABOVE[name]), name)
    raise AttributeError(f"module 'jaxdeep.train' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
