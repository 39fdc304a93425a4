"""Tables: columns of any kind as the inputs of a network, the same from any container, tomorrow too.

`fit` finds out what the columns of a frame, a dict or a file are; the `Columns` it makes turn rows into
arrays on the host, and their `layer` turns these into one matrix on the device. They are saved with the
model, so that a loaded model takes raw rows, whether or not pandas is there.
"""

from jaxdeep.tables.cells import NULLS
from jaxdeep.tables.column import Column
from jaxdeep.tables.columns import Columns, from_json
from jaxdeep.tables.fitting import fit
from jaxdeep.tables.reports import Report, Tally
from jaxdeep.tables.statistics import Number
from jaxdeep.tables.targets import Target

__all__ = [
    "NULLS",
    "Column",
    "Columns",
    "Number",
    "Report",
    "Tally",
    "Target",
    "fit",
    "from_json",
]


def __dir__() -> list[str]:
    return __all__
