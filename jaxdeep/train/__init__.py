"""Training: pure steps and epochs, and `jaxdeep.fit` which drives them."""

from jaxdeep.train.epoch import make_epoch as make_epoch
from jaxdeep.train.epoch import make_evaluate as make_evaluate
from jaxdeep.train.fit import Epochs as Epochs
from jaxdeep.train.fit import FitResult as FitResult
from jaxdeep.train.objective import supervised as supervised
from jaxdeep.train.phases import Phase as Phase
from jaxdeep.train.run import RunState as RunState
from jaxdeep.train.run import make_run as make_run
from jaxdeep.train.state import TrainState as TrainState
from jaxdeep.train.state import init as init
from jaxdeep.train.step import make_step as make_step
from jaxdeep.train.stopping import EarlyStopping as EarlyStopping
from jaxdeep.train.stopping import Plateau as Plateau
from jaxdeep.train.sweeps.halving import Halving as Halving
from jaxdeep.train.sweeps.space import random_points as random_points
from jaxdeep.train.sweeps.table import Table as Table
