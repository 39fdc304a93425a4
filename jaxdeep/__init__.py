"""jaxdeep: the deep-network training playbook as pure JAX functions that compose into one program."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxdeep._version import __version__ as __version__

if TYPE_CHECKING:
    from jaxdeep import (
        adapters,
        comparison,
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
        tables,
        train,
        transfer,
        tree,
        uncertainty,
    )
    from jaxdeep.comparison.comparing import compare
    from jaxdeep.fitting.evaluation import evaluate
    from jaxdeep.fitting.fit import fit
    from jaxdeep.fitting.prediction import predict
    from jaxdeep.saving.files import load, save
    from jaxdeep.saving.into import load_into
    from jaxdeep.search.sweep import sweep

__all__ = [
    "adapters",
    "compare",
    "comparison",
    "compress",
    "datasets",
    "diagnostics",
    "evaluate",
    "fit",
    "load",
    "load_into",
    "losses",
    "metrics",
    "nn",
    "optimizers",
    "plotting",
    "predict",
    "preprocessing",
    "regularizers",
    "save",
    "saving",
    "schedules",
    "search",
    "sweep",
    "tables",
    "train",
    "transfer",
    "tree",
    "uncertainty",
]

# All of it is loaded when first used, so that importing jaxdeep costs nothing.
_FUNCTIONS = {
    "compare": "jaxdeep.comparison.comparing",
    "evaluate": "jaxdeep.fitting.evaluation",
    "fit": "jaxdeep.fitting.fit",
    "load": "jaxdeep.saving.files",
    "load_into": "jaxdeep.saving.into",
    "predict": "jaxdeep.fitting.prediction",
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
