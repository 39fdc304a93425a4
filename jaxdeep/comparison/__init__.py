"""Comparisons: candidates, the answer of `jaxdeep.compare`, and the statistics that it rests on."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdeep.comparison.answer import Comparison
    from jaxdeep.comparison.candidate import Candidate
    from jaxdeep.comparison.catalogue import named, names
    from jaxdeep.comparison.pairs import Pair
    from jaxdeep.comparison.statistics import (
        bca_interval,
        holm,
        paired_t_test,
        seeds_needed,
        sign_flip_test,
        superiority,
        t_interval,
    )

# Looked up when first asked for, so that nothing is loaded that is not used.
_NAMES = {
    "Candidate": "candidate",
    "Comparison": "answer",
    "Pair": "pairs",
    "bca_interval": "statistics",
    "holm": "statistics",
    "named": "catalogue",
    "names": "catalogue",
    "paired_t_test": "statistics",
    "seeds_needed": "statistics",
    "sign_flip_test": "statistics",
    "superiority": "statistics",
    "t_interval": "statistics",
}

__all__ = [
    "Candidate",
    "Comparison",
    "Pair",
    "bca_interval",
    "holm",
    "named",
    "names",
    "paired_t_test",
    "seeds_needed",
    "sign_flip_test",
    "superiority",
    "t_interval",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"jaxdeep.comparison.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'jaxdeep.comparison' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
