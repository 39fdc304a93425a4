"""jaxdeep: the deep-network training playbook as pure JAX functions that compose into one program."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxdeep._version import __version__ as __version__

if TYPE_CHECKING:
    from jaxdeep import (
        adapters,
        compress,
        datasets,
        diagnostics,
        losses,
        metrics,
        nn,
        optimizers,
        plotting,
        preprocessing,
        regularizers,
        saving,
        schedules,
        search,
        train,
        transfer,
        tree,
        uncertainty,
    )
    from jaxdeep.fitting.fit import fit
    from jaxdeep.saving.files import load, save
    from jaxdeep.search.sweep import sweep

__all__ = [
    "adapters",
    "compress",
    "datasets",
    "diagnostics",
    "fit",
    "load",
    "losses",
    "metrics",
    "nn",
    "optimizers",
    "plotting",
    "preprocessing",
    "regularizers",
    "save",
    "saving",
    "schedules",
    "search",
    "sweep",
    "train",
    "transfer",
    "tree",
    "uncertainty",
]

# All of it is loaded when first used, so that importing jaxdeep costs nothing.
_FUNCTIONS = {
    "fit": "jaxdeep.fitting.fit",
    "load": "jaxdeep.saving.files",
    "save": "jaxdeep.saving.files",
    "sweep": "jaxdeep.search.sweep",
}


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    if name in __all__:
        return importlib.import_module(f"jaxdeep.{name}")
    raise AttributeError(f"module 'jaxdeep' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
