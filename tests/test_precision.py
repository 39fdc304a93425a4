"""What JAX' numbers hold of the host's, and which of them they tell apart."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdeep import _precision


def test_numbers_of_the_host_in_two_floats():
    values = np.array([2**31 - 1, -(2**31) + 3, 7], np.int64)
    for given in (values, values.astype(np.float64) / 3, jnp.asarray(values.astype(np.int32))):
        high, low = _precision.in_two(given, jnp.float32)
        exact = np.asarray(given, np.float64)
        both = np.asarray(high, np.float64) + np.asarray(low, np.float64)
        np.testing.assert_allclose(both, exact, rtol=2.0**-46)
    assert _precision.in_two(np.array([0.5, np.nan]), jnp.float32)[1] is None


def test_differences_of_whole_numbers_are_exact():
    ends = np.array([2**64 - 1, 0, 5], np.uint64), np.array([2**64 - 2, 2**63, 7], np.uint64)
    assert _precision.differences(*ends).tolist() == [1.0, -(2.0**63), -2.0]
    signed = np.array([-(2**63), 2**62 + 1]), np.array([-(2**63) + 1, 2**62])
    assert _precision.differences(*signed).tolist() == [-1.0, 1.0]


def test_numbers_that_float32_would_make_0_are_refused_where_they_count():
    for kept in ([1.0, 1e-50], [1e-50, 1e-50], [0.0, 0.0], [1e-30, 1e-50], [np.nan, 1e-50]):
        _precision.check_above_zero("x", np.array(kept), axis=(0,))
    for lost in ([1e-50, 2e-50], [0.0, 1e-40], [1e-36, -1e-39]):
        with pytest.raises(ValueError, match=r"x holds .*, which float32 makes 0"):
            _precision.check_above_zero("x", np.array(lost), axis=(0,))
    with pytest.raises(ValueError, match="x holds 1e-50"):
        _precision.check_above_zero("x", np.array([1.0, 1e-50]))


@pytest.mark.parametrize(
    "values",
    [
        1.7e15 + np.arange(100.0),
        1.7e18 + 1e3 * np.arange(100.0),
        2**62 + np.arange(100),
        np.uint64(2**63) + np.arange(100, dtype=np.uint64),
        1_700_000_000 + np.arange(100, dtype=np.int32),
    ],
)
def test_large_numbers_that_differ_by_little_are_not_told_apart(values):
    with pytest.raises(ValueError, match="whose differences float32 cannot tell"):
        _precision.check_told_apart("x", values)
    _precision.check_told_apart("x", np.full_like(values, values[0]))
    noise = np.nextafter(values[:1].astype(float), np.inf)
    _precision.check_told_apart(
        "x", np.concatenate([values[:1].astype(float), noise])
    )  # a sum's rounding


def test_float64_is_not_told_whole_numbers_apart_either():
    check = functools.partial(_precision.check_told_apart, "x", dtype=np.float64)
    for base in (2**60, -(2**60)):
        with pytest.raises(
            ValueError, match=rf"x holds .*{base}.* whose differences float64 cannot tell"
        ):
            check(np.sign(base) * np.arange(100) + base)
    check(2**52 + np.arange(100))
    check(2**60 * np.arange(8))
    check(1.7e9 + np.arange(100.0))
