import math
import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.properties import over

import jaxdeep as jd
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


RECORDED = {
    "power_c1 (keras InverseTimeDecay, decay_rate=1)": lambda lr, s, r: schedules.power(lr, s),
    "power_c1_staircase (keras)": lambda lr, s, r: schedules.power(lr, s, staircase=True),
    "power_c0.5 (reference lr0/(1+t/s)^c)": lambda lr, s, r: schedules.power(lr, s, power=0.5),
    "piecewise (optax: new value at t >= boundary)": lambda lr, s, r: schedules.piecewise_constant(
        [5, 15], [0.01, 0.005, 0.001]
    ),
    "piecewise (keras: new value at t > boundary)": lambda lr, s, r: schedules.piecewise_constant(
        [5, 15], [0.01, 0.005, 0.001], side="left"
    ),
    "polynomial p=2 end=lr0/100 over 20 (optax)": lambda lr, s, r: schedules.polynomial(
        lr, lr / 100, 2, 20
    ),
    "polynomial p=1 over 20, cycle (keras)": lambda lr, s, r: schedules.polynomial(
        lr, lr / 100, 1, 20, cycle=True
    ),
    "warmup_constant 0->lr0 over 10 (optax)": lambda lr, s, r: schedules.warmup(
        schedules.constant(lr), 10
    ),
    "warmup_cosine 0->lr0 10 of 30, end lr0/10 (optax)": lambda lr, s, r: schedules.warmup(
        schedules.cosine(lr, 20, alpha=0.1), 10
    ),
    "warmup_exponential (optax init 0, peak lr0, warmup 10, transition S, rate)": (
        lambda lr, s, r: schedules.warmup(schedules.exponential(lr, s, r), 10)
    ),
    "onecycle textbook lr": lambda lr, s, r: schedules.one_cycle(lr, 30),
    "onecycle textbook momentum": lambda lr, s, r: schedules.one_cycle_momentum(30),
    "onecycle_linear default (optax)": lambda lr, s, r: schedules.one_cycle(lr, 30, form="optax"),
    "onecycle_cosine default (optax)": lambda lr, s, r: schedules.one_cycle(lr, 30, anneal="cosine"),
    "onecycle (torch default: cos, 2 phase)": lambda lr, s, r: schedules.one_cycle(lr, 30, form="torch"),
    "onecycle (torch linear, 2 phase)": lambda lr, s, r: schedules.one_cycle(
        lr, 30, form="torch", anneal="linear"
    ),
    "onecycle (torch linear, three_phase)": lambda lr, s, r: schedules.one_cycle(
        lr, 30, form="torch", anneal="linear", three_phase=True
    ),
}


@pytest.mark.few(1)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_curve(recorded, name):
    schedule = RECORDED[name](recorded["lr0"], recorded["transition_steps"], recorded["rate"])
    for step, expected in zip(recorded["steps"], recorded[name]):
        if expected is not None:  # PyTorch ends there
            np.testing.assert_allclose(
                float(schedule(step)), expected, rtol=1e-12, atol=1e-15, err_msg=str(step)
            )


@pytest.mark.heavy
@pytest.mark.usefixtures("x64")
@hypothesis.given(step=st.integers(0, 60), steps=st.integers(1, 40), boundary=st.integers(1, 40))
def test_cosine_polynomial_and_join_against_optax(step, steps, boundary):
    pairs = [
        (
            schedules.cosine(0.1, steps, alpha=0.2, exponent=1.5),
            optax.cosine_decay_schedule(0.1, steps, 0.2, 1.5),
        ),
        (
            schedules.polynomial(0.1, 0.01, 3, steps, 4),
            optax.polynomial_schedule(0.1, 0.01, 3, steps, 4),
        ),
        (
            schedules.join([schedules.constant(0.1), schedules.cosine(0.3, steps)], [boundary]),
            optax.join_schedules(
                [optax.constant_schedule(0.1), optax.cosine_decay_schedule(0.3, steps)], [boundary]
            ),
        ),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(float(ours(step)), float(theirs(step)), rtol=1e-12, atol=1e-15)


def test_per_epoch_counts_epochs():
    f = schedules.per_epoch(schedules.piecewise_constant([1, 3], [3.0, 2.0, 1.0]), 10)
    assert values(f, [0, 9, 10, 29, 30, 99]).tolist() == [3, 3, 2, 2, 1, 1]


def coslog4(t):
    """The published equation, of the share of the run."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.log2(1 + 15 * t))


def flat_cos(t):
    return 0.5 * (1 + np.cos(np.pi * (np.maximum(1.0, 2 * t) - 1)))


@pytest.mark.parametrize("total", [1, 7, 1024, 50_000])
def test_the_schedules_of_realmlp_are_the_published_equations(total):
    steps = np.unique(np.linspace(0, total, 200).astype(int))
    rate = jax.jit(jax.vmap(schedules.coslog4(0.04, total)))(steps)
    np.testing.assert_allclose(rate, 0.04 * coslog4(steps / total), atol=1e-6)
    decay = jax.jit(jax.vmap(schedules.flat_cos(0.02, total)))(steps)
    np.testing.assert_allclose(decay, 0.02 * flat_cos(steps / total), atol=1e-8)


def restarts(t, first, ratio, lower, alpha):
    """Cycle after cycle, in Python."""
    height, length = 1.0, float(first)
    while t >= length:
        t, length, height = t - length, length * ratio, height * lower
    return (1 - alpha) * height * (1 + math.cos(math.pi * t / length)) / 2 + alpha


@pytest.mark.few(1)
@pytest.mark.parametrize("ratio", [1, 1.0, 1.5, 2, 3.25])
@pytest.mark.parametrize(("lower", "alpha"), [(1.0, 0.0), (0.7, 0.1)])
def test_a_cosine_restarts_cycle_after_cycle(ratio, lower, alpha):
    schedule = schedules.cosine_restarts(0.5, 7, t_mul=ratio, m_mul=lower, alpha=alpha)
    steps = np.arange(400)
    expected = [0.5 * restarts(int(t), 7, ratio, lower, alpha) for t in steps]
    np.testing.assert_allclose(jax.jit(jax.vmap(schedule))(steps), expected, rtol=2e-6, atol=1e-8)
    np.testing.assert_allclose(schedule(steps), expected, rtol=2e-6, atol=1e-8)
    np.testing.assert_allclose(schedule(steps + 0.0), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("ratio", [1.0, 2.0])
def test_a_cycle_may_be_longer_than_any_step(ratio):
    schedule = schedules.cosine_restarts(0.1, 2**32, t_mul=ratio)
    np.testing.assert_allclose(schedule(2**30), 0.1 * np.cos(np.pi / 8) ** 2, rtol=1e-6)


def test_cycles_that_grow_too_slowly_are_refused():
    with pytest.raises(ValueError, match=r"t_mul must be 1 or at least 1.01, got 1.001"):
        schedules.cosine_restarts(0.1, 10, t_mul=1.001)


@pytest.mark.usefixtures("x64")
def test_coslog4_has_four_waves_in_double_precision():
    curve = np.asarray(jax.vmap(schedules.coslog4(1.0, 1500))(jnp.arange(1501)))
    np.testing.assert_allclose(curve, coslog4(np.arange(1501) / 1500), atol=1e-12)
    tops = np.flatnonzero((curve[1:-1] > curve[:-2]) & (curve[1:-1] > curve[2:])) + 1
    np.testing.assert_allclose(tops, 100 * (2.0 ** np.array([0.5, 1.5, 2.5, 3.5]) - 1), atol=1)
    assert curve[tops].min() > 0.999


@pytest.mark.parametrize("steps", [1, 7, 1000, 12345])
def test_the_schedules_of_a_whole_run_end_at_zero_exactly(steps):
    for schedule in (schedules.coslog4(0.1, steps), schedules.flat_cos(0.1, steps)):
        for t in (steps, steps + 1, 10 * steps):
            assert float(schedule(t)) == float(jax.jit(schedule)(t)) == 0


def test_flat_cos_without_a_flat_part_is_a_cosine():
    steps = range(0, 40, 3)
    found = values(schedules.flat_cos(0.1, 30, pct_start=0), steps)
    np.testing.assert_allclose(found, values(schedules.cosine(0.1, 30), steps), rtol=1e-6)
    late = values(schedules.flat_cos(0.1, 100, pct_start=0.75), [0, 75, 76, 100])
    assert late[0] == late[1] > late[2] > late[3] == 0


@pytest.mark.heavy
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


@pytest.mark.heavy
@hypothesis.given(total=st.integers(3, 5000))
def test_one_cycle_ends_and_turns(total):
    f = schedules.one_cycle(1.0, total)
    rise = (total - (total // 10 + 1)) // 2
    np.testing.assert_allclose(values(f, [0, rise, 2 * rise, total]), [0.1, 1.0, 0.1, 1e-4], rtol=1e-5)
    curve = np.asarray(jax.vmap(f)(jnp.arange(5_005)))[: total + 5]  # of one shape: compiled once
    assert np.all(np.diff(curve[: rise + 1]) > 0)
    assert np.all(np.diff(curve[rise : total + 1]) < 0)
    assert curve.max() == curve[rise]


SCHEDULES = {
    "constant": schedules.constant(0.3),
    "exponential": schedules.exponential(0.1, 7, 0.5),
    "staircase": schedules.exponential(0.1, 7, 0.5, staircase=True),
    "one_cycle": schedules.one_cycle(0.1, 50),
    "one_cycle cosine": schedules.one_cycle(0.1, 50, form="torch"),
    "one_cycle_momentum": schedules.one_cycle_momentum(50),
    "power": schedules.power(0.1, 7, power=0.5),
    "piecewise_constant": schedules.piecewise_constant([5, 15], [0.1, 0.2, 0.3]),
    "polynomial": schedules.polynomial(0.1, 0.0, 2, 30, cycle=True),
    "cosine": schedules.cosine(0.1, 30),
    "cosine_restarts": schedules.cosine_restarts(0.1, 7, m_mul=0.9, alpha=0.1),
    "coslog4": schedules.coslog4(0.1, 30),
    "flat_cos": schedules.flat_cos(0.1, 30),
    "warmup": schedules.warmup(schedules.cosine(0.1, 30), 5),
    "join": schedules.join([schedules.constant(0.1), schedules.power(0.3, 5)], [7]),
    "per_epoch": schedules.per_epoch(schedules.exponential(0.1, 3, 0.5), 4),
}


@pytest.mark.few(4)
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_same_under_jit_vmap_and_for_every_kind_of_step(name):
    f = SCHEDULES[name]
    eager = values(f, range(60))
    # a cosine of up to 8 π is off by the rounding of its argument, 1.5e-6 of the peak of 0.1
    atol = 2e-7 if name in ("coslog4", "flat_cos") else 1e-9
    np.testing.assert_allclose(jax.jit(jax.vmap(f))(jnp.arange(60)), eager, rtol=2e-6, atol=atol)
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
        (lambda: schedules.one_cycle(0.1, 100, pct_start=0.9), "pct_start < pct_final"),
        (
            lambda: schedules.one_cycle(0.1, 100, form="keras"),
            "form must be 'textbook', 'optax' or 'torch'",
        ),
        (
            lambda: schedules.one_cycle(0.1, 100, anneal="cos"),
            "anneal must be 'linear' or 'cosine', got 'cos'",
        ),
        (lambda: schedules.one_cycle(0.1, 3, form="torch"), "transition_steps=3 leaves no room"),
        (lambda: schedules.one_cycle(0.1, 50, form="torch", three_phase=True, pct_start=0.6), "no room"),
        (lambda: schedules.one_cycle_momentum(100, high=1.0), r"high must be in \[0, 1\), got 1.0"),
        (lambda: schedules.power(0.1, 10, decay_rate=-1), "decay_rate must be in"),
        (
            lambda: schedules.piecewise_constant([5, 5], [1, 2, 3]),
            r"boundaries must increase, got \[5, 5\]",
        ),
        (
            lambda: schedules.piecewise_constant([5], [1]),
            "values must be one more than the 1 boundaries, got 1",
        ),
        (
            lambda: schedules.piecewise_constant([5], [1, 2], side="both"),
            "side must be 'right' or 'left'",
        ),
        (lambda: schedules.piecewise_constant([-5], [1, 2]), "boundaries must be at least 0, got -5"),
        (lambda: schedules.polynomial(0.1, 0.0, 0, 10), r"power must be in \(0, inf\), got 0"),
        (lambda: schedules.cosine(0.1, 10, alpha=-1), r"alpha must be in \[0, inf\), got -1"),
        (lambda: schedules.cosine_restarts(0.1, 10, alpha=-1), r"alpha must be in \[0, 1\], got -1"),
        (lambda: schedules.cosine_restarts(0.1, 10, alpha=2), r"alpha must be in \[0, 1\], got 2"),
        (lambda: schedules.cosine(0.1, 0), "decay_steps must be at least 1, got 0"),
        (lambda: schedules.warmup(0.1, 10), "schedule must be a function step -> value, got 0.1"),
        (lambda: schedules.warmup(schedules.constant(1.0), 0), "steps must be at least 1, got 0"),
        (lambda: schedules.join([schedules.constant(1.0)], [3]), "one less than the 1 schedules"),
        (lambda: schedules.join([0.1, 0.2], [3]), "schedules must be a function"),
        (lambda: schedules.per_epoch(schedules.constant(1.0), 0), "steps_per_epoch must be at least 1"),
        (lambda: schedules.one_cycle(0.1, 100, pct_start=0.9, pct_final=0.3), "pct_start < pct_final"),
        (lambda: schedules.one_cycle(0.1, 100, pct_start="x"), "pct_start must be a number, got 'x'"),
        (lambda: schedules.one_cycle(0.1, 100, pct_final=True), "pct_final must be a number"),
        (lambda: schedules.one_cycle(0.1, 100, form="torch", pct_final=0.9), "pct_final is not of"),
        (lambda: schedules.one_cycle(0.1, 100, three_phase=True), "three_phase is of form='torch'"),
        (lambda: schedules.piecewise_constant([5], ["a", 1]), "values must be a number"),
        (lambda: schedules.piecewise_constant([5], "ab"), "values must be a list"),
        (lambda: schedules.piecewise_constant(None, [1]), "boundaries must be a list, got None"),
        (lambda: schedules.piecewise_constant([2**31], [1, 2]), "boundaries must be steps below"),
        (lambda: schedules.join(None, []), "schedules must be a list, got None"),
        (lambda: schedules.exponential(0.1, 10, 0.5, staircase="no"), "staircase must be True or"),
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


@pytest.mark.heavy
def test_one_share_of_a_cycle_leaves_the_other_as_the_form_has_it():
    def corners(**kwargs):
        values = np.array([schedules.one_cycle(1.0, 100, **kwargs)(t) for t in range(101)])
        return int(values.argmax()), int(np.flatnonzero(np.isclose(values, values[0], atol=1e-6))[-1])

    assert corners() == (44, 88)
    assert corners(pct_final=0.95) == (44, 95)
    assert corners(pct_start=0.4) == (40, 80)
    assert corners(form="optax", pct_start=0.4) == (40, 85)
    assert corners(form="optax", pct_final=0.95) == (30, 95)


def test_steps_beyond_the_precision_of_float32_are_subtracted_before_they_are_rounded():
    begin = 2**24
    schedule = schedules.polynomial(1.0, 0.0, 1, 100, begin)
    assert float(schedule(jnp.int32(begin + 51))) == pytest.approx(0.49)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("cycle", [False, True])
def test_a_compiled_polynomial_ends_where_it_should(cycle):
    """Multiplied by the reciprocal of 50, as XLA does, 50 is more than 1: its root would be NaN."""
    schedule = jax.jit(schedules.polynomial(0.1, 0.01, 0.5, 50, cycle=cycle))
    assert float(schedule(50)) == 0.01
    assert bool(jnp.isfinite(jax.vmap(schedule)(jnp.arange(200))).all())


def test_a_schedule_that_has_not_begun_is_asked_for_its_first_value():
    asked = []

    def record(step):
        asked.append(int(step))
        return 0.5

    joined = schedules.join([schedules.constant(1.0), record], [10])
    assert [float(joined(step)) for step in (0, 9, 10, 12)] == [1.0, 1.0, 0.5, 0.5]
    assert asked == [0, 0, 0, 2]


LONG = 10**10  # steps, more than int32 has


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (schedules.power(1.0, LONG), lambda t: 1 / (1 + t / LONG)),
        (schedules.exponential(1.0, LONG, 0.5), lambda t: 0.5 ** (t / LONG)),
        (schedules.exponential(1.0, 10, 0.5, transition_begin=LONG), lambda t: 1.0),
        (schedules.polynomial(1.0, 0.0, 1, LONG), lambda t: 1 - t / LONG),
        (schedules.polynomial(1.0, 0.0, 1, 10, LONG), lambda t: 1.0),
        (schedules.cosine(1.0, LONG), lambda t: (1 + np.cos(np.pi * t / LONG)) / 2),
        (schedules.warmup(schedules.constant(1.0), LONG), lambda t: t / LONG),
        (schedules.one_cycle(1.0, LONG, form="optax"), lambda t: 0.04 + 0.96 * t / (0.3 * LONG)),
        (schedules.per_epoch(schedules.exponential(1.0, 1, 0.5), LONG), lambda t: 1.0),
    ],
)
def test_schedules_of_more_steps_than_int32_has(schedule, expected):
    for step in (0, 1000, 2**31 - 1):
        for t in (step, jnp.int32(step), np.int64(step)):
            np.testing.assert_allclose(schedule(t), expected(step), rtol=1e-5, atol=1e-7)


def test_a_step_beyond_int32_is_not_cut():
    for t in (LONG, np.int64(LONG), np.array([LONG, 5])):
        last = np.asarray(schedules.cosine(1.0, 10)(t)).ravel()[0]
        np.testing.assert_array_equal(last, 0)


@pytest.mark.parametrize("steps", [1, 7, 10, 1000, 12345])
def test_a_cosine_ends_at_zero_exactly(steps):
    schedule = schedules.cosine(0.1, steps)
    for t in (steps, steps + 1, 10 * steps):
        assert float(schedule(t)) == 0
        assert float(jax.jit(schedule)(t)) == 0
    assert float(schedules.cosine(1.0, steps, alpha=0.25)(steps)) == 0.25


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("first", "last"), [(1e-6, 1e6), (1e6, 1e-6), (0.1, -3e5)])
def test_ends_that_are_far_apart_are_exact(first, last, compiled):
    maybe = jax.jit if compiled else lambda f: f
    for power in (0.5, 1.0, 3.0):
        f = maybe(schedules.polynomial(first, last, power, 7))
        assert values(f, [0, 7, 100]).tolist() == [np.float32(first), np.float32(last), np.float32(last)]
    line = maybe(schedules.warmup(schedules.constant(last), 10**9, init_value=first))
    begin, late, end = values(line, [0, 10**9 - 1, 10**9])
    assert [begin, end] == [np.float32(first), np.float32(last)]
    assert min(begin, end) <= late <= max(begin, end)


def test_a_warmup_may_be_longer_than_whole_numbers_of_jax():
    f = schedules.warmup(lambda step: 2.0 + step, 2**31, init_value=1.0)
    np.testing.assert_allclose(values(f, [0, 2**30, 2**31, 2**31 + 512]), [1, 1.5, 2, 514], rtol=1e-6)


def halved_twice(epoch):
    return 0.4 if epoch < 1 else {1: 0.2}.get(epoch, 0.1)


def test_a_python_function_of_the_epoch_is_a_table():
    f = schedules.per_epoch(halved_twice, 10, epochs=4)
    steps = [0, 9, 10, 19, 20, 39, 40, 10**6]
    expected = [np.float32(halved_twice(t // 10)) for t in steps]
    assert values(f, steps).tolist() == expected
    assert jax.jit(jax.vmap(f))(jnp.array(steps)).tolist() == expected


@pytest.mark.heavy
def test_a_function_of_the_epoch_that_decides_in_python_names_its_table():
    decides = lambda epoch: 0.1 if epoch < 1 else 0.01  # noqa: E731
    with pytest.raises(TypeError, match=r"the schedule of per_epoch, .*epochs=\.\.\."):
        jax.jit(schedules.per_epoch(decides, 3))(4)
    np.testing.assert_allclose(jax.jit(schedules.per_epoch(decides, 3, epochs=2))(4), 0.01, rtol=1e-6)


def test_a_schedule_that_decides_in_python_is_refused_in_our_words():
    x, y = np.ones((20, 2), np.float32), np.ones((20, 1), np.float32)

    def rates(rate):
        loss, options = jd.losses.mse, {"epochs": 3, "batch_size": 10, "progress": False}
        optimizer, key = jd.optimizers.sgd(rate), jax.random.key(0)
        result = jd.fit(jd.nn.dense(1), (x, y), optimizer=optimizer, loss=loss, key=key, **options)
        return result.history["learning_rate"]

    for rate in (halved_twice, schedules.per_epoch(halved_twice, 2), lambda step: [0.1, 0.2][step]):
        with pytest.raises(TypeError, match=r"the schedule of (learning_rate|per_epoch), .*epochs="):
            rates(rate)
    with pytest.raises(TypeError, match=r"use jax\.numpy"):
        rates(np.cos)
    table = rates(schedules.per_epoch(halved_twice, 2, epochs=3))
    np.testing.assert_array_equal(table, np.float32([0.4, 0.2, 0.1]))


# --- any arguments ----------------------------------------------------------------------------------

STEPS, RATE, SHARE = st.integers(1, 10**10), st.floats(1e-6, 1e3), st.floats(0, 1)
INNER = st.builds(schedules.constant, RATE)
BOUNDARIES = st.lists(st.integers(0, 10**9), min_size=2, max_size=2, unique=True).map(sorted)


# Valid arguments: those that are needed, and those that may be given.
VALID = {
    "constant": ({"value": RATE}, {}),
    "cosine": (
        {"init_value": RATE, "decay_steps": STEPS},
        {"alpha": SHARE, "exponent": st.floats(0.1, 4)},
    ),
    "cosine_restarts": (
        {"init_value": RATE, "first_decay_steps": STEPS},
        {
            "t_mul": st.just(1.0) | st.floats(1.01, 5),
            "m_mul": st.floats(0, 1),
            "alpha": st.floats(0, 1),
        },
    ),
    "coslog4": ({"peak_value": RATE, "transition_steps": STEPS}, {}),
    "flat_cos": (
        {"init_value": RATE, "transition_steps": STEPS},
        {"pct_start": st.floats(0, 0.99)},
    ),
    "exponential": (
        {"init_value": RATE, "transition_steps": STEPS, "decay_rate": st.floats(0.01, 1)},
        {"transition_begin": STEPS, "staircase": st.booleans()},
    ),
    "join": ({"schedules": st.lists(INNER, min_size=3, max_size=3), "boundaries": BOUNDARIES}, {}),
    "one_cycle": (
        {"peak_value": RATE, "transition_steps": st.integers(10, 10**10)},
        {"anneal": st.sampled_from(["linear", "cosine"]), "div_factor": st.floats(1, 100)},
    ),
    "one_cycle_momentum": (
        {"transition_steps": st.integers(10, 10**10)},
        {"high": st.floats(0.9, 0.99), "low": st.floats(0.5, 0.9)},
    ),
    "per_epoch": ({"schedule": INNER, "steps_per_epoch": STEPS}, {"epochs": st.integers(1, 5)}),
    "piecewise_constant": (
        {"boundaries": BOUNDARIES, "values": st.lists(RATE, min_size=3, max_size=3)},
        {"side": st.sampled_from(["left", "right"])},
    ),
    "polynomial": (
        {"init_value": RATE, "end_value": RATE, "power": st.floats(0.1, 4), "transition_steps": STEPS},
        {"transition_begin": STEPS, "cycle": st.booleans()},
    ),
    "power": (
        {"init_value": RATE, "transition_steps": STEPS},
        {"decay_rate": st.floats(0, 10), "power": st.floats(0, 3), "staircase": st.booleans()},
    ),
    "warmup": ({"schedule": INNER, "steps": STEPS}, {"init_value": RATE}),
}
# What no argument of a kind may be, and the arguments of each kind.
WRONG = {
    "count": ([-1, 1.5, True, None, "a", np.nan, 1j, [1], np.inf], "steps|begin|epoch"),
    "flag": ([1, None, "yes", 0.5], "staircase|cycle"),
    "choice": (["x", 3, [1]], "anneal|side"),
    "function": ([None, 0.1, "a", [1]], "^schedule$"),
    "list": ([None, 3, "a", [None], [np.nan]], "schedules|boundaries|values"),
    "number": ([None, "a", np.nan, np.inf, 1j, [0.1, 0.2], 1e40, True], ""),
}


def wrong_for(argument):
    return next(values for values, names in WRONG.values() if re.search(names, argument))


def test_every_schedule_has_valid_arguments():
    assert sorted(VALID) == sorted(schedules.__all__)


def bounds(name, a):
    """The least and the largest value that a schedule may have."""
    if name in ("join", "per_epoch", "warmup"):
        inner = a["schedules"] if name == "join" else [a["schedule"]]
        found = [float(f(0)) for f in inner] + ([a.get("init_value", 0.0)] if name == "warmup" else [])
    elif name == "one_cycle_momentum":
        found = [a.get("high", 0.95), a.get("low", 0.85)]
    elif name in ("constant", "piecewise_constant"):
        found = [a["value"]] if name == "constant" else a["values"]
    elif name == "polynomial":
        found = [a["init_value"], a["end_value"]]
    else:
        found = [0.0, a.get("init_value", a.get("peak_value"))]
    return min(found), max(found)


@pytest.mark.few("cosine", "one_cycle")
@pytest.mark.parametrize("name", sorted(VALID))
@over(4, 200, draw=st.data(), step=st.integers(0, 10**11) | st.integers(0, 100))
def test_valid_arguments_give_finite_values_within_their_bounds(name, draw, step):
    needed, further = VALID[name]
    arguments = draw.draw(st.fixed_dictionaries(needed, optional=further))
    value = float(getattr(schedules, name)(**arguments)(step))
    low, high = bounds(name, arguments)
    assert low * (1 - 2e-6) - 1e-30 <= value <= high * (1 + 2e-6)


@pytest.mark.parametrize("name", sorted(VALID))
@over(15, 300, draw=st.data())
def test_a_wrong_argument_is_refused_by_its_name(name, draw):
    needed, further = VALID[name]
    arguments = draw.draw(st.fixed_dictionaries({**needed, **further}))
    argument = draw.draw(st.sampled_from(sorted(arguments)))
    wrong = draw.draw(st.sampled_from(wrong_for(argument)))
    if wrong is None and argument not in needed and re.search("anneal|div_factor|epochs", argument):
        return  # the default
    with pytest.raises((ValueError, TypeError), match=argument):
        getattr(schedules, name)(**arguments | {argument: wrong})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, jnp.uint8, jnp.uint32])
def test_steps_without_a_sign_may_be_before_the_beginning(dtype):
    for made in (
        schedules.exponential(0.1, 10, 0.5, transition_begin=20),
        schedules.polynomial(0.1, 0.0, 1, 10, 20),
        schedules.polynomial(0.1, 0.0, 1, 10, 300),
        schedules.join([schedules.constant(1.0), schedules.exponential(0.1, 10, 0.5)], [20]),
    ):
        for step in (0, 19, 20, 25, 200):
            assert float(made(dtype(step))) == float(made(step))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int64])
def test_numbers_of_steps_may_be_of_numpy_in_any_width(dtype):
    s, n = jd.schedules, dtype(100)
    constants = [s.constant(0.1), s.constant(0.2)]
    made = {
        "cosine": lambda n: s.cosine(0.1, n),
        "cosine_restarts": lambda n: s.cosine_restarts(0.1, n),
        "coslog4": lambda n: s.coslog4(0.1, n),
        "flat_cos": lambda n: s.flat_cos(0.1, n),
        "exponential": lambda n: s.exponential(0.1, n, 0.9),
        "polynomial": lambda n: s.polynomial(0.1, 0.0, 1.0, n),
        "one_cycle": lambda n: s.one_cycle(0.1, n),
        "warmup": lambda n: s.warmup(constants[0], n),
        "piecewise_constant": lambda n: s.piecewise_constant([n], [1.0, 2.0]),
        "join": lambda n: s.join(constants, [n]),
        "per_epoch": lambda n: s.per_epoch(lambda epoch: 1.0 * epoch, n),
    }
    for name, make in made.items():
        for step in (0, 50, 100, 150, 300):
            assert float(make(n)(step)) == float(make(100)(step)), (name, step)
