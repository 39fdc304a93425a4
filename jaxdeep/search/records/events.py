"""The result of a row as an event of a journal, and back."""

import functools
import math
from typing import Any

import jax
import numpy as np

from jaxdeep.search.records.journal import Event
from jaxdeep.search.tables.result import Result, Span


def as_event(result: Result) -> Event:
    """A result without parameters as JSON, which keeps every bit."""
    history = {n: [_name(values.dtype), _listed(values)] for n, values in result.history.items()}
    error = {"error": result.error} if result.error else {}
    spans = {"spans": [list(span) for span in result.spans]}
    return {"how": result.ended, "end": result.end, "history": history, **spans, **error}


def from_event(event: Event) -> Result:
    """The result that `as_event` made an event of.

    Raises:
      KeyError, TypeError, ValueError: it is no such event.
    """
    history = {
        name: np.asarray(_floats(values) if not dtype.startswith(("int", "uint")) else values).astype(
            jax.numpy.dtype(dtype)
        )
        for name, (dtype, values) in event["history"].items()
    }
    spans = tuple(Span(*span) for span in event["spans"])
    return Result(None, None, history, event["end"], event["how"], event.get("error", ""), spans)


@functools.cache
def _name(dtype: np.dtype) -> str:
    return dtype.name


def _listed(values: np.ndarray) -> Any:
    """The numbers of an array for JSON, which has no NaN and infinities."""
    if values.dtype.kind in "iu":
        return values.tolist()
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    return values.tolist() if np.isfinite(values).all() else _worded(values.tolist())


def _worded(values: Any) -> Any:
    if isinstance(values, list):
        return [_worded(v) for v in values]
    return values if math.isfinite(values) else repr(values)


def _floats(values: Any) -> Any:
    return [_floats(v) for v in values] if isinstance(values, list) else float(values)
