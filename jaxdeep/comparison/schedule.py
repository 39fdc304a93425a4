"""The schedule of a comparison, which is the same for all candidates that have one."""

from collections.abc import Callable
from typing import Any

from jaxdeep import _checks, schedules
from jaxdeep.train.monitors import ReduceOnPlateau

Make = Callable[[Any, int], Any]  # from a peak and the steps of a run to a rate or a schedule

_END = 0.01  # what is left of the rate at the end of an exponential decay
_NAMED: dict[str, Make] = {
    "constant": lambda peak, steps: peak,
    "cosine": schedules.cosine,
    "one-cycle": schedules.one_cycle,
    "exponential": lambda peak, steps: schedules.exponential(peak, steps, _END),
    "performance": lambda peak, steps: peak,
}
NAMES = tuple(_NAMED)

ABOUT = {
    "constant": "the rate stays as it is",
    "cosine": "from the rate to 0 over the run, along half a cosine",
    "one-cycle": "up to the rate and down again",
    "exponential": f"down to {_END:.0%} of the rate over the run",
    "performance": "a tenth of the rate whenever the validation metric has not improved",
}


def made_by(schedule: Any) -> Make:
    """The function ``(peak, steps) -> learning_rate`` of a schedule's name, or the one that was given.

    Raises:
      ValueError, TypeError: an unknown name, something that is neither.

    >>> made_by("cosine")(0.1, 100)(100)
    Array(0., dtype=float32)
    """
    if callable(schedule):
        _checks.check_takes("schedule", schedule, "peak", "steps")
        return schedule
    if not isinstance(schedule, str) or schedule not in _NAMED:
        raise ValueError(
            f"schedule must be one of {', '.join(NAMES)}, or a function (peak, steps) -> schedule, got "
            f"{schedule!r}"
        )
    return _NAMED[schedule]


def calls(schedule: Any, peak: str, steps: int) -> str | None:
    """The call that makes the schedule of a name, as Python; None where the rate stays as it is.

    >>> calls("cosine", "0.1", 100)
    'jd.schedules.cosine(0.1, 100)'
    """
    texts = {
        "cosine": f"jd.schedules.cosine({peak}, {steps})",
        "one-cycle": f"jd.schedules.one_cycle({peak}, {steps})",
        "exponential": f"jd.schedules.exponential({peak}, {steps}, {_END})",
    }
    return texts.get(schedule)


def plateau_of(schedule: Any, monitor: str, mode: str, epochs: int) -> ReduceOnPlateau | None:
    """When "performance" lowers the rate: after a tenth of the epochs without improvement."""
    if schedule != "performance":
        return None
    return ReduceOnPlateau(patience=max(1, epochs // 10), monitor=monitor, mode=mode)
