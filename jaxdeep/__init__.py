"""jaxdeep: the deep-network training playbook as pure JAX functions that compose into one program."""

from jaxdeep import datasets as datasets
from jaxdeep import losses as losses
from jaxdeep import metrics as metrics
from jaxdeep import nn as nn
from jaxdeep import optimizers as optimizers
from jaxdeep import schedules as schedules
from jaxdeep import train as train
from jaxdeep import tree as tree
from jaxdeep.train.fit import fit as fit

__version__ = "0.1.0"
