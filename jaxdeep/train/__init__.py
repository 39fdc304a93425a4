"""Training: pure steps and epochs, and `jaxdeep.fit` which drives them."""

from jaxdeep.train.epoch import make_epoch, make_evaluate
from jaxdeep.train.fit import Epochs, FitResult
from jaxdeep.train.objective import Objective, supervised
from jaxdeep.train.phases import Phase
from jaxdeep.train.run import make_run
from jaxdeep.train.state import TrainState, init
from jaxdeep.train.step import make_step
from jaxdeep.train.stopping import EarlyStopping, Plateau
from jaxdeep.train.sweeps.halving import Halving
from jaxdeep.train.sweeps.space import random_points
from jaxdeep.train.sweeps.table import Table

__all__ = [
    "EarlyStopping",
    "Epochs",
    "FitResult",
    "Halving",
    "Objective",
    "Phase",
    "Plateau",
    "Table",
    "TrainState",
    "init",
    "make_epoch",
    "make_evaluate",
    "make_run",
    "make_step",
    "random_points",
    "supervised",
]


def __dir__() -> list[str]:
    return __all__
