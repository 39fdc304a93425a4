"""jaxdeep: the deep-network training playbook as pure JAX functions that compose into one program."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdeep import adapters as adapters
    from jaxdeep import compress as compress
    from jaxdeep import datasets as datasets
    from jaxdeep import diagnostics as diagnostics
    from jaxdeep import losses as losses
    from jaxdeep import metrics as metrics
    from jaxdeep import nn as nn
    from jaxdeep import optimizers as optimizers
    from jaxdeep import plotting as plotting
    from jaxdeep import preprocessing as preprocessing
    from jaxdeep import regularizers as regularizers
    from jaxdeep import saving as saving
    from jaxdeep import schedules as schedules
    from jaxdeep import train as train
    from jaxdeep import transfer as transfer
    from jaxdeep import tree as tree
    from jaxdeep import uncertainty as uncertainty
    from jaxdeep.saving.files import load as load
    from jaxdeep.saving.files import save as save
    from jaxdeep.train.fit import fit as fit
    from jaxdeep.train.sweeps.sweep import sweep as sweep

__version__ = "0.1.0"

# Loaded when first used, so that importing jaxdeep costs nothing.
_NAMESPACES = (
    "adapters",
    "compress",
    "datasets",
    "diagnostics",
    "losses",
    "metrics",
    "nn",
    "optimizers",
    "plotting",
    "preprocessing",
    "regularizers",
    "saving",
    "schedules",
    "train",
    "transfer",
    "tree",
    "uncertainty",
)
_FUNCTIONS = {
    "fit": "jaxdeep.train.fit",
    "load": "jaxdeep.saving.files",
    "save": "jaxdeep.saving.files",
    "sweep": "jaxdeep.train.sweeps.sweep",
}


def __getattr__(name: str) -> Any:
    if name in _NAMESPACES:
        return importlib.import_module(f"jaxdeep.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'jaxdeep' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMESPACES, *_FUNCTIONS])
