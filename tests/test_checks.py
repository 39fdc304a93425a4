"""What checks of arguments refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdeep as jd
from jaxdeep._checks import check_hyperparameter, check_scalar
from jaxdeep._compat import enable_x64


@pytest.mark.parametrize("number", [1e40, -1e40, 10**400, 4e38])
def test_a_number_that_float32_cannot_hold_is_refused(number):
    with pytest.raises(ValueError, match=r"factor (is|must be in)"):
        check_scalar("factor", number, "(-inf, inf)")


def test_a_number_that_rounds_to_the_greatest_of_float32_is_taken():
    check_scalar("factor", 3.402823466385289e38, "(-inf, inf)")  # above it by less than half a step


def test_a_number_that_float64_holds_is_taken_with_x64(x64):
    check_scalar("factor", 1e40, "(-inf, inf)")
    check_scalar("factor", 1e-50, "(0, inf)")


def test_a_number_that_becomes_zero_is_refused_where_zero_is():
    with pytest.raises(ValueError, match="rounds to 0"):
        check_scalar("eps", 1e-50, "(0, inf)")
    check_scalar("eps", 1e-50, "[0, inf)")


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_every_number_of_float32_is_taken(number):
    check_scalar("factor", number, "(-inf, inf)")


@pytest.mark.parametrize(
    "make",
    [jd.optimizers.sgd, jd.regularizers.l2, jd.schedules.constant, jd.optimizers.add_decayed_weights],
)
def test_learning_rates_and_factors_beyond_float32_are_refused(make):
    with pytest.raises(ValueError, match="which float32 cannot hold"):
        make(1e40)


@pytest.mark.parametrize(
    "value", [float("inf"), float("nan"), jnp.bfloat16(jnp.inf), jnp.float16(jnp.nan)]
)
def test_infinite_and_nan_penalties_are_refused(value):
    for make in (jd.regularizers.l1, jd.regularizers.l2, jd.optimizers.add_decayed_weights):
        with pytest.raises(ValueError, match=r"must be in \[0, inf\)"):
            make(value)


def test_penalties_name_what_they_cannot_take():
    for bad in (jnp.ones(2) * 1j, "text", object()):
        with pytest.raises(TypeError, match="a penalty is on arrays of real numbers, and a/kernel is"):
            jd.regularizers.l2(0.1)({"a": {"kernel": bad}})
    penalty = jd.regularizers.l2(0.1, where={"a": True, "b": False})
    with pytest.raises(ValueError, match="they differ in b"):
        penalty({"a": jnp.ones(2)})


def test_arrays_are_taken_as_they_are():
    check_scalar("factor", jax.numpy.float32(3e38), "[0, inf)")


@pytest.mark.parametrize(
    ("value", "interval", "message"),
    [
        (1e-39, "(0, 1)", r"rounds to 0 \(at least 1.2e-38\)"),
        (1 - 1e-10, "[0, 1)", r"rounds to 1.0; the nearest that it tells from that is 0.99999994"),
        (np.float64(1 + 1e-9), "(1, inf)", r"rounds to 1.0; the nearest .* is 1.0000001"),
    ],
)
def test_a_number_that_the_default_float_rounds_to_another_kind_is_refused(value, interval, message):
    with pytest.raises(ValueError, match=message):
        check_scalar("x", value, interval)
    with enable_x64(True):
        check_scalar("x", value, interval)
    with pytest.raises(ValueError, match=r"x must be in \[0, inf\), got 1e-50, .* rounds to 0: it must"):
        check_hyperparameter("x", 1e-50, "[0, inf)")
    for good in (0.0, 0.999, np.float32(1) - np.float32(2) ** -24, 2e-38):
        check_scalar("x", good, "[0, 1)")
