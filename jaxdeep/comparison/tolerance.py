"""How forgiving a candidate is: how far its learning rate may be from the best one."""

import math
from typing import NamedTuple

from jaxdeep.comparison.candidate import COLUMN
from jaxdeep.comparison.plan import Plan
from jaxdeep.search.tables.table import Table

_WITHIN = 0.01


class Tolerance(NamedTuple):
    """What of a candidate's space does as well as its best trial, on the validation rows.

    Attributes:
      decades: of learning rate between the smallest and the largest of the trials within 1 % of the best
        value; NaN without a learning rate.
      share: of all trials that are within 1 %.
    """

    decades: float
    share: float


def tolerance_of(plan: Plan, tuning: Table, name: str) -> Tolerance:
    """The tolerance of a candidate that has a trial with a finite value."""
    sign = 1 if plan.mode == "max" else -1
    values, rates = [], []
    for point, result in zip(tuning.points, tuning.results):
        if point[COLUMN] == name:
            values.append(sign * result.value(f"val_{plan.metric}"))
            rates.append(point.get("learning_rate"))
    finite = {i: value for i, value in enumerate(values) if math.isfinite(value)}
    best = max(finite.values())
    near = [i for i, value in finite.items() if value >= best - _WITHIN * abs(best)]
    known = [rate for i in near if isinstance(rate := rates[i], float) and rate > 0]
    decades = math.log10(max(known) / min(known)) if known else math.nan
    return Tolerance(decades, len(near) / len(values))
