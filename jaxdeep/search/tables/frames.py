"""Rows of a sweep as a frame of pandas, polars or pyarrow."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdeep import _checks
from jaxdeep._extras import needed
from jaxdeep.search.spaces.values import is_number
from jaxdeep.search.tables.columns import in_words

_EXTRAS = {"pandas": "frames", "polars": None, "pyarrow": None}
_INT64 = range(-(2**63), 2**63)


def frame(rows: Sequence[Mapping[str, Any]], names: Sequence[str], backend: str, caller: str) -> Any:
    """The rows as a frame of `backend`, with those of the columns `names` that any row has.

    >>> frame([{"rate": 0.1, "loss": 1.0}, {"loss": 2.0}], ["loss", "rate"], "pandas", "to_frame").shape
    (2, 2)
    """
    _checks.check_choice("backend", backend, tuple(_EXTRAS))
    narwhals = needed("narwhals", caller, "narwhals", "frames")
    needed(backend, caller, backend, _EXTRAS[backend])
    held = {name for row in rows for name in row}
    columns = {name: _column([row.get(name) for row in rows]) for name in names if name in held}
    return narwhals.from_dict(columns, backend=backend).to_native()


def _column(values: list[Any]) -> list[Any]:
    """The values in one type, which frames want: booleans, whole numbers, floats or else text."""
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    known = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in known) or all(isinstance(v, str) for v in known):
        return values
    whole = all(type(value) is int for value in known)
    if whole and all(value in _INT64 for value in known):
        return values
    if not whole and all(is_number(value) for value in known):
        return [None if value is None else float(value) for value in values]
    return [None if value is None else text for value, text in zip(values, in_words(values))]
