"""Schedules: functions of the step, ``schedule(step) -> value``; step 0 is the first update.

A schedule is any such function, yours or optax's included; it goes wherever jaxdeep takes a
hyperparameter. Those here take Python numbers or traced arrays and run under ``jit`` and ``vmap``.
"""

from jaxdeep.schedules.curves import (
    constant,
    cosine,
    coslog4,
    exponential,
    flat_cos,
    piecewise_constant,
    polynomial,
    power,
)
from jaxdeep.schedules.joining import join, per_epoch, warmup
from jaxdeep.schedules.one_cycle import one_cycle, one_cycle_momentum
from jaxdeep.schedules.restarts import cosine_restarts

__all__ = [
    "constant",
    "cosine",
    "cosine_restarts",
    "coslog4",
    "exponential",
    "flat_cos",
    "join",
    "one_cycle",
    "one_cycle_momentum",
    "per_epoch",
    "piecewise_constant",
    "polynomial",
    "power",
    "warmup",
]


def __dir__() -> list[str]:
    return __all__
