"""Hyperparameters as leaves of the state: read, set, scheduled."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.tracing import traced_once
from helpers.transforms import PARAMS, apply

import jaxdeep as jd
from jaxdeep import optimizers as o
from jaxdeep._compat import enable_x64


def floats(found):
    return {name: pytest.approx(float(value), rel=1e-6) for name, value in found.items()}


def test_reading_through_chains_masks_and_wrappers():
    tx = optax.chain(
        o.clip_by_global_norm(1.0),
        optax.masked(o.nadam(jd.schedules.exponential(0.1, 1, 0.5)), {"kernel": True, "bias": False}),
        o.skip_nonfinite(o.multiply(0.5)),
    )
    state = tx.init(PARAMS)
    adam = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "eps_root": 0.0, "learning_rate": 0.1}
    assert floats(o.hyperparams(state)) == adam | {"factor": 0.5, "max_norm": 1.0}
    for expected in (0.1, 0.05, 0.025):
        _, state = tx.update(PARAMS, state, PARAMS)
        assert float(o.hyperparams(state)["learning_rate"]) == pytest.approx(
            expected
        )  # as the step used it


def test_two_of_a_name_are_told_apart():
    tx = optax.chain(o.scale_by_adam(), o.scale_by_learning_rate(0.1), o.scale_by_learning_rate(0.5))
    found = o.hyperparams(tx.init(0.0))
    assert float(found["1/learning_rate"]) == pytest.approx(0.1)
    assert float(found["2/learning_rate"]) == 0.5
    edited = o.set_hyperparams(tx.init(0.0), **{"2/learning_rate": 0.25})
    assert float(o.hyperparams(edited)["2/learning_rate"]) == 0.25
    with pytest.raises(
        ValueError, match="no hyperparameter 'learning_rate'; there are 1/learning_rate, 2/"
    ):
        o.set_hyperparams(tx.init(0.0), learning_rate=0.1)


def test_setting_equals_having_made_it_so_and_does_not_retrace():
    x = jnp.array([1.0, -2.0])
    wrap = lambda tx: optax.chain(optax.clip(10.0), optax.masked(tx, True))  # noqa: E731
    tx, other = wrap(o.adam(0.1)), wrap(o.adam(0.01, b1=0.5, b2=0.99))
    update = traced_once(tx.update)
    state = o.set_hyperparams(tx.init(x), learning_rate=0.01, b1=0.5, b2=0.99)
    assert jax.tree.map(jax.typeof, state) == jax.tree.map(jax.typeof, tx.init(x))
    update(x, tx.init(x), x)
    expected = other.init(x)
    for _ in range(3):
        u, state = update(x, state, x)
        v, expected = other.update(x, expected, x)
        np.testing.assert_allclose(u, v, rtol=1e-6)


def test_nag_with_its_momentum_set_looks_ahead_with_it():
    tx = o.nag(0.1, momentum=0.9)
    x = jnp.ones(1)
    _, state = tx.update(x, tx.init(x), x)
    state = o.set_hyperparams(state, momentum=0.5)
    np.testing.assert_allclose(o.gradient_point(state, x), 1 - 0.05, rtol=1e-6)


def test_stacked_states():
    states = jax.vmap(lambda _: o.sgd(0.1).init(jnp.ones(2)))(jnp.arange(3))
    edited = o.set_hyperparams(states, learning_rate=jnp.array([0.1, 0.2, 0.3]))
    np.testing.assert_allclose(o.hyperparams(edited)["learning_rate"], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(
        o.hyperparams(o.set_hyperparams(states, learning_rate=0.5))["learning_rate"], 0.5
    )


@pytest.mark.parametrize(
    ("make", "edit", "message"),
    [
        (
            lambda: o.adam(0.1),
            {"lr": 1},
            "no hyperparameter 'lr'; there are b1, b2, eps, eps_root, learning_rate",
        ),
        (lambda: o.adam(jd.schedules.constant(0.1)), {"learning_rate": 1.0}, "driven by a schedule"),
        (lambda: o.adam(jnp.array(0.1)), {"learning_rate": 1.0}, "driven by a schedule or an array"),
        (lambda: o.adam(0.1), {"learning_rate": -1.0}, r"learning_rate must be in \[0, inf\), got -1.0"),
        (lambda: o.adam(0.1), {"b1": 1.0}, r"b1 must be in \[0, 1\), got 1.0"),
        (lambda: o.adam(0.1), {"b1": "high"}, "b1 must be a number"),
        (
            lambda: o.adam(0.1),
            {"b1": jnp.ones(3)},
            r"b1 must be a scalar or have shape \(\), got shape \(3,\)",
        ),
        (lambda: optax.adam(0.1), {"b1": 0.5}, "there are none"),
    ],
)
def test_edits_that_are_refused(make, edit, message):
    with pytest.raises((ValueError, TypeError), match=message):
        o.set_hyperparams(make().init(jnp.ones(2)), **edit)


def test_every_hyperparameter_takes_a_schedule_and_an_array():
    half = jd.schedules.exponential(0.8, 1, 0.5)
    x = jnp.array([1.0, -2.0])
    for make, names in (
        (o.adagrad, ["eps"]),
        (o.rmsprop, ["decay", "eps", "momentum"]),
        (o.adam, ["b1", "b2", "eps", "eps_root"]),
        (o.adamax, ["b1", "b2", "eps"]),
        (o.nadam, ["b1", "b2", "eps", "momentum_decay"]),
        (o.adamw, ["b1", "weight_decay"]),
        (o.nag, ["momentum"]),
        (o.sgd, ["momentum"]),
    ):
        for name in names:
            scheduled = make(half, **{name: half})
            state = scheduled.init(x)
            for value in (0.8, 0.4):
                _, state = scheduled.update(x, state, x)
                assert floats(o.hyperparams(state))[name] == pytest.approx(value)
            number, array = make(0.1, **{name: 0.3}), make(jnp.float32(0.1), **{name: jnp.float32(0.3)})
            np.testing.assert_allclose(apply(array, x, x), apply(number, x, x), rtol=1e-5)


def test_new_values_are_checked_like_the_first_ones():
    clip, adam = o.clip_by_norm(1.0).init(PARAMS), o.adam(0.1)
    with pytest.raises(ValueError, match=r"max_norm must be in \(0, inf\), got 0.0"):
        o.set_hyperparams(clip, max_norm=0.0)
    with pytest.raises(ValueError, match=r"learning_rate is 1e\+39, which float32 cannot hold"):
        o.set_hyperparams(adam.init(PARAMS), learning_rate=1e39)
    stacked = jax.vmap(adam.init)(jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"b1 must be in \[0, 1\), got"):
        o.set_hyperparams(stacked, b1=jnp.array([0.5, 1.5, 0.9]))
    with pytest.raises(ValueError, match="learning_rate must be in"):
        o.set_hyperparams(stacked, learning_rate=np.array([0.1, np.nan, 0.1]))
    for wrong in ("0.1", None, lambda t: 0.1):
        with pytest.raises(TypeError, match="learning_rate must be a number"):
            o.set_hyperparams(adam.init(PARAMS), learning_rate=wrong)


def test_the_plateaus_factor_is_a_hyperparameter_like_any_other():
    tx = o.reduce_on_plateau(0.5, patience=1)
    state = o.set_hyperparams(tx.init(0.0), factor=0.1)
    for value in (1.0, 1.0):
        u, state = tx.update(jnp.float32(1.0), state, value=value)
    assert float(u) == pytest.approx(0.1)
    assert set(o.hyperparams(state)) == {"factor", "rtol", "atol", "min_scale"}
    with pytest.raises(ValueError, match=r"factor must be in \(0, 1\), got 2.0"):
        o.set_hyperparams(state, factor=2.0)
    scheduled = o.reduce_on_plateau(jd.schedules.piecewise_constant([2], [0.5, 0.25]), patience=1)
    state = scheduled.init(0.0)
    for value in (1.0, 1.0, 1.0):
        u, state = scheduled.update(jnp.float32(1.0), state, value=value)
    assert float(u) == pytest.approx(0.125)
    with pytest.raises(ValueError, match="value must be a scalar, got an array of shape"):
        tx.update(jnp.float32(1.0), tx.init(0.0), value=jnp.ones(3))


def test_values_of_schedules_that_are_known_are_checked():
    params = jnp.ones(2)
    for schedule in (lambda step: -0.1, lambda step: np.float32(-0.1), lambda step: jnp.float32(-0.1)):
        with pytest.raises(ValueError, match=r"the value of the schedule of learning_rate must be in"):
            o.sgd(schedule).init(params)
    with pytest.raises(ValueError, match="the value of the schedule of learning_rate must be in"):
        jax.jit(o.sgd(lambda step: -0.1).init)(params)
    with pytest.raises(TypeError, match=r"the schedule of learning_rate, .* return a number, got N"):
        o.sgd(lambda step: None).init(params)


def test_numbers_that_float32_would_change_are_refused_by_name():
    for name, value, message in (
        ("eps", 1e-50, "rounds to 0"),
        ("b2", 1 - 1e-10, r"rounds to 1.0; the nearest .* 0.99999994"),
    ):
        with pytest.raises(ValueError, match=f"{name} must be in .*{message}"):
            jd.optimizers.adam(0.1, **{name: value})
        state = jd.optimizers.adam(0.1).init(jnp.zeros(1))
        with pytest.raises(ValueError, match=f"{name} must be in .*{message}"):
            jd.optimizers.set_hyperparams(state, **{name: value})
        with enable_x64(True):
            tx = jd.optimizers.adam(0.1, **{name: value})
            assert float(jd.optimizers.hyperparams(tx.init(jnp.zeros(1)))[name]) == value


@pytest.mark.parametrize("make", [jd.optimizers.adam, jd.optimizers.nag, jd.optimizers.lion])
def test_gradients_of_numpy_beyond_float32_are_refused_by_path(make):
    tx, params = make(0.1), {"a": {"kernel": jnp.zeros(2)}}
    state = tx.init(params)
    wrong = {"a": {"kernel": np.array([1.0, 1e300])}}
    with pytest.raises(ValueError, match=r"updates: a/kernel holds 1e\+300, which float32 cannot hold"):
        tx.update(wrong, state, params)
    with pytest.raises(ValueError, match=r"params: a/kernel holds 1e\+300"):
        tx.update(params, state, wrong)
    tx.update({"a": {"kernel": np.array([1.0, np.inf])}}, state, params)  # what a guard is for
