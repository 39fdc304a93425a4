"""Sizes of parts: shares of the rows, numbers of them, or the rest."""

from typing import Any

import numpy as np

from jaxdeep import _checks

Size = float | int | None


def due(sizes: Any, rows: int) -> tuple[list[float], list[float | None]]:
    """How many rows each part is due, and its share of all of them, None for a count.

    >>> due(0.25, 8), due((None, 2, 1), 8)
    (([6.0, 2.0], [0.75, 0.25]), ([5.0, 2.0, 1.0], [None, None, None]))
    >>> due((0.5, 0.2), 10)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: sizes must add up to all 10 rows, got (0.5, 0.2), which is 7; None stands for the rest
    """
    if sizes is None or isinstance(sizes, (str, bool, np.bool_)):
        raise TypeError(f"sizes must be a share, a number of rows, or one for each part, got {sizes!r}")
    single = _checks.is_whole(sizes) or isinstance(sizes, (float, np.floating))
    if not single:
        _checks.check_sequence("sizes", sizes)
    several = [None, sizes] if single else [*(sizes.tolist() if hasattr(sizes, "dtype") else sizes)]
    if len(several) < 2:
        raise ValueError(f"sizes must be of two parts at least, got {sizes!r}")
    if sum(size is None for size in several) > 1:
        raise ValueError(f"sizes must hold None, for the rest, at most once, got {sizes!r}")
    targets: list[float | None] = []
    shares: list[float | None] = []
    for i, size in enumerate(several):
        name = "sizes" if single else f"sizes[{i}]"
        if size is not None and _checks.is_whole(size):
            _checks.check_count(name, size)
            targets.append(int(size))
            shares.append(None)
        elif size is not None:
            _checks.check_number(name, size, "(0, 1)")
            targets.append(float(size) * rows)
            shares.append(float(size))
        else:
            targets.append(None)
            shares.append(0.0)
    known = sum(target for target in targets if target is not None)
    near = 1e-6 * rows
    if None in targets:
        rest = rows - known
        if rest < near:
            sums = "" if single else f", which is {known:g}"
            raise ValueError(f"sizes must leave a rest of {rows} rows, got {sizes!r}{sums}")
        place = targets.index(None)
        targets[place] = rest
        counted = None in shares
        shares[place] = None if counted else 1 - sum(share for share in shares if share is not None)
    elif abs(known - rows) > near:
        raise ValueError(
            f"sizes must add up to all {rows} rows, got {sizes!r}, which is {known:g}; None stands for "
            "the rest"
        )
    return [float(target) for target in targets if target is not None], shares
