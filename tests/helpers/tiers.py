"""Which cases of a parametrised test run with the fast tests."""

import pytest


def mostly_heavy(cases, fast):
    """All of `cases`; those not in `fast` are marked heavy."""
    return [case if case in fast else pytest.param(case, marks=pytest.mark.heavy) for case in cases]
