import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdeep import schedules


def values(schedule, steps):
    return np.array([float(schedule(t)) for t in steps])


@pytest.fixture
def recorded(golden):
    return golden["schedules"]


@pytest.mark.usefixtures("x64")
def test_exponential_is_the_recorded_curve(recorded):
    steps, lr, n, rate = (recorded[k] for k in ("steps", "lr0", "transition_steps", "rate"))
    for name, options in {
        "exponential (optax)": {},
        "exponential (keras)": {},
        "exponential_staircase (keras)": {"staircase": True},
        "exponential_begin3_end_value (optax, transition_begin=3, end_value=lr0/5)": {
            "transition_begin": 3,
            "end_value": lr / 5,
        },
    }.items():
        found = values(schedules.exponential(lr, n, rate, **options), steps)
        np.testing.assert_allclose(found, recorded[name], rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_one_cycle_is_the_textbook_curve(recorded):
    found = values(schedules.one_cycle(recorded["lr0"], recorded["onecycle total"]), recorded["steps"])
    np.testing.assert_allclose(found, recorded["onecycle textbook lr"], atol=1e-15)


@pytest.mark.usefixtures("x64")
def test_one_cycle_is_optax_by_keyword(recorded):
    schedule = schedules.one_cycle(
        recorded["lr0"], 30, pct_start=0.3, pct_final=0.85, div_factor=25, final_div_factor=1e4
    )
    np.testing.assert_allclose(
        values(schedule, recorded["steps"]), recorded["onecycle_linear default (optax)"], atol=1e-15
    )


@pytest.mark.usefixtures("x64")
@hypothesis.given(total=st.integers(3, 3000), peak=st.floats(1e-5, 10), step=st.integers(0, 4000))
def test_one_cycle_against_optax_with_the_textbook_corners(total, peak, step):
    rise = (total - (total // 10 + 1)) // 2
    if int(rise / total * total) != rise or int(2 * rise / total * total) != 2 * rise:
        return  # optax truncates the fraction to another step
    reference = optax.linear_onecycle_schedule(
        total,
        peak,
        pct_start=rise / total,
        pct_final=2 * rise / total,
        div_factor=10,
        final_div_factor=1000,
    )
    ours = schedules.one_cycle(peak, total)
    np.testing.assert_allclose(float(ours(step)), float(reference(step)), atol=1e-12 * peak)


@hypothesis.given(total=st.integers(3, 5000))
def test_one_cycle_ends_and_turns(total):
    f = schedules.one_cycle(1.0, total)
    rise = (total - (total // 10 + 1)) // 2
    np.testing.assert_allclose(values(f, [0, rise, 2 * rise, total]), [0.1, 1.0, 0.1, 1e-4], rtol=1e-5)
    curve = np.asarray(jax.vmap(f)(jnp.arange(total + 5)))
    assert np.all(np.diff(curve[: rise + 1]) > 0)
    assert np.all(np.diff(curve[rise : total + 1]) < 0)
    assert curve.max() == curve[rise]


SCHEDULES = {
    "constant": schedules.constant(0.3),
    "exponential": schedules.exponential(0.1, 7, 0.5),
    "staircase": schedules.exponential(0.1, 7, 0.5, staircase=True),
    "one_cycle": schedules.one_cycle(0.1, 50),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_same_under_jit_vmap_and_for_every_kind_of_step(name):
    f = SCHEDULES[name]
    eager = values(f, range(60))
    np.testing.assert_allclose(jax.jit(jax.vmap(f))(jnp.arange(60)), eager, rtol=1e-6)
    assert f(3).dtype == f(jnp.int32(3)).dtype == jnp.float32
    assert float(f(np.int64(3))) == float(f(3))
    assert f(3).shape == ()
    assert not f(3).weak_type


def test_a_traced_peak_and_rate():
    peaks = jnp.array([0.1, 0.2])
    found = jax.vmap(lambda p: schedules.one_cycle(p, 50)(10))(peaks)
    np.testing.assert_allclose(
        found, [float(schedules.one_cycle(p, 50)(10)) for p in (0.1, 0.2)], rtol=1e-6
    )
    grown = jax.jit(lambda r: schedules.exponential(1.0, 1, r, end_value=4.0)(3))
    assert float(grown(2.0)) == 4.0
    assert float(grown(0.5)) == 4.0  # a floor when the rate decays


def test_float64_with_x64_on(x64):
    assert schedules.one_cycle(0.1, 50)(3).dtype == jnp.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.one_cycle(0.1, 2), "transition_steps must be at least 3, got 2"),
        (lambda: schedules.one_cycle(0.1, 10.5), "transition_steps must be a whole number"),
        (lambda: schedules.one_cycle(0.1, 100, pct_start=0.3), "go together"),
        (lambda: schedules.one_cycle(0.1, 100, pct_start=0.9, pct_final=0.3), "pct_start < pct_final"),
        (
            lambda: schedules.one_cycle(0.1, 100, div_factor=0),
            r"div_factor must be in \(0, inf\), got 0",
        ),
        (lambda: schedules.one_cycle("0.1", 100), "peak_value must be a number"),
        (lambda: schedules.exponential(0.1, 0, 0.5), "transition_steps must be at least 1, got 0"),
        (lambda: schedules.exponential(0.1, 10, 0.0), r"decay_rate must be in \(0, inf\), got 0.0"),
        (lambda: schedules.exponential(0.1, 10, 0.5, transition_begin=-1), "transition_begin"),
        (lambda: schedules.exponential(float("nan"), 10, 0.5), "init_value"),
        (lambda: schedules.constant(jnp.ones(3)), r"value must be .* got an array of shape \(3,\)"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
