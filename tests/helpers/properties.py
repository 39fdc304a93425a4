"""A property in two sizes: a few examples with the others, many of them among the slow tests."""

import functools
import inspect

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest


def over(few=3, many=200, *, heavy=False, **strategies):
    """A test of a property: what is drawn by name from the strategies is passed to it.

    It has two cases: ``few``, whose examples are always the same ones, fast or `heavy`, and ``many``,
    which is slow and draws others every time. Other arguments are fixtures and parameters, as ever.
    Draw values rather than shapes, each of which would be compiled.
    """

    def decorate(function):
        others = [
            parameter
            for name, parameter in inspect.signature(function).parameters.items()
            if name not in strategies
        ]

        @functools.wraps(function)
        def test(property_examples, **fixed):
            settings = hypothesis.settings(
                max_examples=property_examples,
                derandomize=property_examples == few,
                database=None,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            settings(hypothesis.given(**strategies)(function))(**fixed)

        examples = inspect.Parameter("property_examples", inspect.Parameter.KEYWORD_ONLY)
        test.__signature__ = inspect.Signature([*others, examples])
        return pytest.mark.parametrize(
            "property_examples",
            [
                pytest.param(few, id="few", marks=[pytest.mark.heavy] if heavy else []),
                pytest.param(many, id="many", marks=pytest.mark.slow),
            ],
        )(test)

    return decorate


def of_width(rows, most):
    """Arrays of whole numbers from 0 to `most`, in a dtype of 8 to 64 bits that holds them."""

    def narrowed(dtype):
        held = min(most, int(np.iinfo(dtype).max))
        return hnp.arrays(dtype, rows, elements=st.integers(0, held))

    return st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "int64"]).flatmap(narrowed)
