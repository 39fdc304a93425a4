"""Initialisers: their moments, bounds and closed forms."""

import inspect

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.layers import KEY
from helpers.properties import over

import jaxdeep as jd
from jaxdeep.nn import initializers as init


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("make", "variance", "bound"),
    [
        (init.glorot_uniform(), 1 / 1250, (3 / 1250) ** 0.5),
        (init.glorot_normal(), 1 / 1250, 2 * (1 / 1250) ** 0.5 / 0.87962566),
        (init.he_uniform(), 2 / 2000, (6 / 2000) ** 0.5),
        (init.he_normal(), 2 / 2000, 2 * (2 / 2000) ** 0.5 / 0.87962566),
        (init.lecun_uniform(), 1 / 2000, (3 / 2000) ** 0.5),
        (init.lecun_normal(), 1 / 2000, 2 * (1 / 2000) ** 0.5 / 0.87962566),
        (init.variance_scaling(2, "fan_avg", "uniform"), 2 / 1250, (6 / 1250) ** 0.5),
        (init.variance_scaling(2, "fan_out", "normal"), 2 / 500, np.inf),
        (init.truncated_normal(0.05), (0.05 * 0.87962566) ** 2, 0.1),
        (init.normal(0.05), 0.05**2, np.inf),
    ],
)
def test_moments_and_bounds_of_initialisers_on_a_million_draws(make, variance, bound):
    w = np.asarray(make(KEY, (2000, 500)), np.float64)
    n = w.size
    assert abs(w.mean()) < 4 * (variance / n) ** 0.5
    kurtosis = ((w - w.mean()) ** 4).mean() / w.var() ** 2
    assert abs(w.var() - variance) < 4 * variance * ((kurtosis - 1) / n) ** 0.5
    assert np.abs(w).max() <= bound * (1 + 1e-6)


@pytest.mark.heavy
def test_orthogonal_identity_and_constant():
    q = init.orthogonal(2.0)(KEY, (7, 5))
    np.testing.assert_allclose(q.T @ q, 4 * np.eye(5), atol=1e-5)
    np.testing.assert_array_equal(init.identity()(KEY, (3, 3)), np.eye(3))
    np.testing.assert_array_equal(init.constant(0.3)(KEY, (2,)), np.full(2, 0.3, np.float32))
    assert init.identity()(KEY, (2, 2), jnp.bfloat16).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="identity makes matrices, got shape"):
        init.identity()(KEY, (3,))


def test_orthogonal_is_that_of_jax_and_in_half_precision_its_rounding():
    for shape, axis in (((3, 5), -1), ((4, 2, 3), 0)):
        ours = init.orthogonal(2.0, axis)
        exact = jax.nn.initializers.orthogonal(2.0, axis)(KEY, shape, jnp.float32)
        np.testing.assert_array_equal(ours(KEY, shape), exact)
        for dtype in (jnp.float16, jnp.bfloat16):
            found = ours(KEY, shape, dtype)
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, exact.astype(dtype))
    assert init.orthogonal(dtype="bfloat16")(KEY, (2, 2)).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, "fan_in", "normal"), "scale must be in"),
        ((float("nan"), "fan_in", "normal"), "scale must be in"),
        ((1.0, "fan_inn", "normal"), "mode must be one of fan_in"),
        ((1.0, "fan_in", "gauss"), "distribution must be one of"),
    ],
)
def test_variance_scaling_refuses_what_would_draw_nan_or_fail_later(arguments, message):
    with pytest.raises(ValueError, match=message):
        init.variance_scaling(*arguments)


def test_constants_that_float32_does_not_hold():
    for wrong in (1e40, np.nan, np.inf, 1e-50, np.array([0.0, 1e40])):
        with pytest.raises(ValueError, match=r"value (is|must be)"):
            init.constant(wrong)
    assert init.constant(np.array([0.0, -1.5]))(KEY, (3, 2), jnp.float32).tolist() == [[0.0, -1.5]] * 3


def test_uniform_and_variance_scaling_are_those_of_jax():
    peer = jax.nn.initializers
    for ours, theirs in (
        (init.uniform(0.3), peer.uniform(0.3)),
        (init.variance_scaling(2, "fan_avg", "uniform"), peer.variance_scaling(2, "fan_avg", "uniform")),
    ):
        np.testing.assert_array_equal(ours(KEY, (4, 5)), theirs(KEY, (4, 5)))


SCALE = st.floats(0, 1e3, width=32, allow_subnormal=False)
# Valid arguments of every factory, and the largest absolute value that it draws.
FACTORIES = {
    "constant": ({"value": SCALE}, lambda a: a["value"]),
    "identity": ({"gain": SCALE}, lambda a: a["gain"]),
    "normal": ({"stddev": SCALE}, lambda a: 6 * a["stddev"]),
    "orthogonal": ({"scale": SCALE}, lambda a: a["scale"]),
    "truncated_normal": (
        {
            "stddev": SCALE,
            "lower": st.floats(-3, -0.125, width=16),
            "upper": st.floats(0.125, 3, width=16),
        },
        lambda a: a["stddev"] * max(-a["lower"], a["upper"]),
    ),
    "uniform": ({"scale": SCALE}, lambda a: a["scale"]),
    "variance_scaling": (
        {
            "scale": SCALE,
            "mode": st.sampled_from(["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]),
            "distribution": st.sampled_from(["truncated_normal", "uniform"]),
        },
        lambda a: 3 * a["scale"] ** 0.5,
    ),
    **{
        f"{who}_{how}": ({"in_axis": st.just(-2), "out_axis": st.just(-1)}, lambda a: 3.0)
        for who in ("glorot", "he", "lecun")
        for how in ("normal", "uniform")
    },
}
WRONG_NUMBERS = [None, "a", 1j, [None], {}, jax.nn.relu]
WRONG = {
    "mode": ["fan", 3, None],
    "distribution": ["gauss", 3, None],
    "value": WRONG_NUMBERS,
    **{axis: [True, 0.5, "a", None] for axis in ("in_axis", "out_axis")},
    **{
        name: [*WRONG_NUMBERS, np.nan, True, [1.0, 2.0], 1e40]
        for name in ("scale", "stddev", "gain", "lower", "upper")
    },
}


def test_every_factory_is_among_them():
    made_by_hand = {"zeros", "ones", "initializer_for"}
    assert sorted(FACTORIES) == sorted(set(init.__all__) - made_by_hand)


@pytest.mark.few("normal", "variance_scaling")
@pytest.mark.parametrize("name", FACTORIES)
@over(3, 60, draw=st.data())
def test_valid_arguments_draw_finite_numbers_within_their_bounds(name, draw):
    strategies, most = FACTORIES[name]
    arguments = draw.draw(st.fixed_dictionaries(strategies))
    w = np.asarray(getattr(init, name)(**arguments)(KEY, (4, 3)))
    assert w.shape == (4, 3)
    assert w.dtype == np.float32
    assert np.abs(w).max() <= most(arguments) * (1 + 1e-5)  # and no NaN


@pytest.mark.parametrize("name", FACTORIES)
@over(12, 300, draw=st.data())
def test_a_wrong_argument_is_refused_by_its_name(name, draw):
    strategies, _ = FACTORIES[name]
    arguments = draw.draw(st.fixed_dictionaries(strategies))
    further = {"dtype": ["int32", "words", 3]}
    if "dtype" not in inspect.signature(getattr(init, name)).parameters:
        further = {}
    argument = draw.draw(st.sampled_from(sorted({*arguments, *further})))
    wrong = draw.draw(st.sampled_from((WRONG | further)[argument]))
    with pytest.raises((ValueError, TypeError), match=argument):
        getattr(init, name)(**arguments | {argument: wrong})


def test_what_is_cut_off_is_outside_of_an_interval():
    with pytest.raises(ValueError, match="lower must be below upper, got 2"):
        init.truncated_normal(1.0, lower=2.0, upper=-2.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            jax.nn.initializers.he_normal,
            "kernel_init must return an array of shape .*a function; call it",
        ),
        *((make, "; call it") for make in (init.he_normal, init.constant, init.variance_scaling)),
        (lambda key, shape, dtype: jnp.ones(3), r"returns one of shape \(3,\)"),
        (lambda key, shape, dtype: None, "returns a NoneType"),
    ],
)
def test_what_an_initialiser_draws_has_the_shape_that_was_asked_for(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        jd.nn.dense(2, kernel_init=make).init(KEY, jnp.ones((1, 4)))
    for layer, x, name in (
        (jd.nn.embedding(5, 2, embedding_init=make), jnp.zeros((1, 1), int), "embedding_init"),
        (jd.nn.layer_norm(scale_init=make), jnp.ones((1, 4)), "scale_init"),
        (jd.nn.conv(2, 3, bias_init=make), jnp.ones((1, 4, 4, 1)), "bias_init"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"{name} must return an array of shape"):
            layer.init(KEY, x)
