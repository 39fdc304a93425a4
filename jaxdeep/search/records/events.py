"""The result of a row as an event of a journal, and back."""

import math
from typing import Any

import jax
import numpy as np

from jaxdeep.search.records.journal import Event
from jaxdeep.search.tables.result import Result, Span


def as_event(result: Result) -> Event:
    """A result without parameters as JSON, which keeps every bit."""
    history = {
        name: [values.dtype.name, _numbers(values.astype(np.float64).tolist())]
        if values.dtype.kind not in "iu"
        else [values.dtype.name, values.tolist()]
        for name, values in result.history.items()
    }
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


def _number(value: float) -> float | str:
    """A number for JSON, which has no NaN and infinities."""
    return value if math.isfinite(value) else repr(value)


def _numbers(values: Any) -> Any:
    return [_numbers(v) for v in values] if isinstance(values, list) else _number(values)


def _floats(values: Any) -> Any:
    return [_floats(v) for v in values] if isinstance(values, list) else float(values)
