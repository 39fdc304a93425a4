"""Which cases of a parametrised test run with the fast tests."""

import collections

import pytest


def mark_heavy_cases(items):
    """A test marked ``few(2)`` is heavy but for two cases, one marked ``few("adam")`` but for that."""
    seen = collections.Counter()
    for item in items:
        marker = item.get_closest_marker("few")
        if marker is None or item.get_closest_marker("slow"):
            continue
        case, kept = item.callspec.id, marker.args
        seen[item.obj] += 1
        first = isinstance(kept[0], int) and seen[item.obj] <= kept[0]
        if not first and not {case, *case.split("-")} & {*kept}:
            item.add_marker(pytest.mark.heavy)
