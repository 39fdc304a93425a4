"""Warnings that point at the user's line, however deep in jaxdeep they are given."""

import sys
import warnings

_BETWEEN = ("jaxdeep", "contextlib", "jaxtyping", "functools")  # modules on the way from there to here


def warn(text: str) -> None:
    """Warn of something at the line outside jaxdeep that led here.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn("a point is there twice")
    >>> str(caught[0].message)
    'a point is there twice'
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _module(frame.f_globals) in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def _module(names: dict[str, object]) -> str:
    return str(names.get("__name__", "")).split(".", 1)[0]
