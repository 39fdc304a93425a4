"""What checks of arguments refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdeep as jd
from jaxdeep import _checks
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


@pytest.mark.parametrize("seed", [0, 7, np.int8(3), 2**32 - 1])
def test_a_seed_is_the_key_of_it(seed):
    key = _checks.as_key(seed)
    assert jax.random.key_data(key).tolist() == jax.random.key_data(jax.random.key(int(seed))).tolist()
    assert _checks.as_key(key) is key


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_jax_would_take_for_another_is_refused(seed):
    with pytest.raises(ValueError, match=rf"or a seed in \[0, 2\*\*32\), got {seed}"):
        _checks.as_key(seed)


@pytest.mark.parametrize("seed", [True, 0.0, "0", None, np.zeros((), np.int32)])
def test_what_is_neither_a_key_nor_a_whole_number_is_no_seed(seed):
    with pytest.raises(TypeError, match="key must be a random key such as"):
        _checks.as_key(seed)


@pytest.mark.heavy
def test_a_seed_does_what_its_key_does():
    x = jnp.linspace(-1, 1, 32).reshape(16, 2)
    model = jd.nn.serial(jd.nn.dense(4), jd.nn.dropout(0.5), jd.nn.dense(1))
    usual = {
        "loss": jd.losses.mse,
        "optimizer": jd.optimizers.sgd(0.1),
        "batch_size": 4,
    }
    params, state = model.init(jax.random.key(0), x[:1])
    calls = [
        lambda key: (
            jd.fit(model, (x, x[:, :1]), key=key, validation=0.25, progress=False, **usual).params
        ),
        lambda key: jd.train.init(model, jd.optimizers.sgd(0.1), x[:1], key=key).params,
        lambda key: (
            jd.uncertainty.mc_dropout(model, params, state, x, key=key, samples=2, outputs="values").mean
        ),
        lambda key: jd.transfer.replace_head(model, params, state, jd.nn.dense(2), x[:1], key=key)[1],
        lambda key: [p["a"] for p in jd.search.random_points(3, key=key, a=("uniform", 0.0, 1.0))],
    ]
    for call in calls:
        jax.tree.map(np.testing.assert_array_equal, call(5), call(jax.random.key(5)))
