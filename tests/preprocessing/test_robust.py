"""Scaling by quantiles against scikit-learn, and the smooth bound."""

import warnings

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.preprocessing as sk
from helpers.properties import over
from helpers.tables import SKEWED, close

from jaxdeep import preprocessing as pp
from jaxdeep._compat import enable_x64

RNG = np.random.default_rng(0)
FLAGS = {
    "plain": {},
    "unit variance": {"unit_variance": True},
    "no center": {"with_centering": False},
    "no scale": {"with_scaling": False},
    "other quantiles": {"quantile_range": (10.0, 80.0)},
}


@pytest.mark.parametrize("on", [np.asarray, jnp.asarray])
def test_ranges_near_the_largest_float(on):
    scaler, column = pp.robust_scaler(), lambda *values: on(np.array(values, np.float32)[:, None])
    for large in (1e38, 3e38):
        x = column(-large, 0, large)
        y = scaler.transform(state := scaler.fit(x), x)
        np.testing.assert_array_equal(y, [[-1], [0], [1]])
        np.testing.assert_allclose(scaler.inverse_transform(state, y), x, rtol=1e-6)
    with pytest.raises(ValueError, match="distances from the median are beyond float32"):
        scaler.fit(column(-3e38, 3e38, 3e38))
    with pytest.raises(ValueError, match="a distance of quantiles beyond 3"):
        scaler.fit(column(-3e38, -2e38, 0, 2e38, 3e38))


def test_values_a_few_units_in_the_last_place_apart_are_not_flat():
    x = np.array([[60000], [60010], [60020], [60064]], np.float16)  # 60000, 60000, 60032, 60064
    scaler = pp.robust_scaler()
    theirs = sk.RobustScaler().fit_transform(x.astype(np.float64))
    for given in (x, jnp.asarray(x)):
        found = scaler.transform(scaler.fit(given), given)
        np.testing.assert_allclose(found, theirs, rtol=1e-3)


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_robust_scaler_is_scikit_learns(x64, flags):
    x = np.column_stack([SKEWED, np.full(200, 14.62), np.full(200, np.nan), 1.7e9 + np.arange(200)])
    x[3, 0] = x[7, 1] = np.nan
    scaler = pp.robust_scaler(**flags)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a column of NaN
        theirs = sk.RobustScaler(**flags).fit(x)
    there = np.arange(8) != 6  # the column of NaN
    state = scaler.fit(x)
    y = scaler.transform(state, x)
    close(y[:, there], theirs.transform(x)[:, there], rtol=1e-9, atol=1e-9)
    close(scaler.inverse_transform(state, y), x, rtol=1e-12, atol=1e-12)


@over(
    5,
    200,
    x=hnp.arrays(float, (7, 2), elements=st.integers(-4, 4).map(float) | st.just(np.nan)),
    flags=st.sampled_from(list(FLAGS.values())),
)
def test_robust_scaler_is_scikit_learns_on_any_table(x, flags):
    x[0] = np.nan_to_num(x[0])
    scaler = pp.robust_scaler(**flags)
    with enable_x64(True):
        close(scaler.transform(scaler.fit(x), x), sk.RobustScaler(**flags).fit_transform(x), atol=1e-12)


def test_seconds_and_nanoseconds_keep_their_differences():
    scaler, expected = pp.robust_scaler(), (np.arange(100) - 49.5) / 49.5
    for x in (1.7e9 + np.arange(100.0), 1_700_000_000 * 10**9 + np.arange(100)):
        y = scaler.transform(scaler.fit(x[:, None]), x[:, None])
        close(y[:, 0], expected, rtol=1e-6, atol=1e-6)


def test_flat_features_are_divided_by_half_their_range_or_become_zero():
    x = np.column_stack([np.r_[np.zeros(9), 4.0], np.full(10, 5.0), np.arange(10.0)])
    scaler = pp.robust_scaler(flat="range")
    state = scaler.fit(x)
    y = scaler.transform(state, [[2.0, 7.0, 9.0]])
    close(y, [[1.0, 0.0, 1.0]])
    close(scaler.inverse_transform(state, [[1.0, 3.0, 1.0]]), [[2.0, 5.0, 9.0]])
    scaler = pp.robust_scaler(flat="range", clip=3.0)
    y = scaler.transform(scaler.fit(x), np.full((1, 3), 1e9))
    close(y, [[3.0, 0.0, 3.0]])
    y = scaler.transform(scaler.fit(x), x)
    close(scaler.inverse_transform(scaler.fit(x), y), x, rtol=1e-5, atol=1e-5)


def test_small_honest_differences_are_scaled_and_rounding_is_not(x64):
    x = np.column_stack([1e-20 * np.arange(5), 0.3 + np.array([0, 0, 5.6e-17, -5.6e-17, 5.6e-17])])
    y = np.asarray(pp.robust_scaler().transform(pp.robust_scaler().fit(x), x))
    close(y[:, 0], (np.arange(5) - 2) / 2)
    assert np.abs(y[:, 1]).max() < 1e-15


@pytest.mark.heavy
@pytest.mark.few("bfloat16")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_robust_scaler_runs_compiled_and_keeps_the_dtype(dtype):
    x = jnp.asarray(RNG.normal(size=(20, 3)), dtype)
    scaler = pp.robust_scaler(clip=3.0)
    y = scaler.transform(scaler.fit(x), x)
    assert y.dtype == x.dtype
    close(
        jax.jit(lambda x: scaler.transform(scaler.fit(x), x))(x).astype(float),
        y.astype(float),
        atol=1e-2,
    )
    several = jax.jit(jax.vmap(scaler.fit))(jnp.stack([x, x + 1]))
    assert several.scale.shape == (2, 3)
    close(jax.vmap(scaler.transform, (None, 0))(scaler.fit(x), x).astype(float), y.astype(float))


def test_axes_of_images():
    x = RNG.normal(size=(4, 5, 5, 3)).astype(np.float32)
    scaler = pp.robust_scaler(axis=(0, 1, 2))
    y = np.asarray(scaler.transform(scaler.fit(x), x))
    close(np.median(y, axis=(0, 1, 2)), np.zeros(3), atol=1e-6)
    close(np.subtract(*np.quantile(y, [0.75, 0.25], axis=(0, 1, 2))), np.ones(3), rtol=1e-5)


@over(5, 200, x=hnp.arrays(np.float32, 5, elements=st.floats(-1e3, 1e3, width=32)))
def test_smooth_clip_is_its_equation(x):
    y = pp.smooth_clip(x)
    wide = x.astype(float)
    close(y, wide / np.sqrt(1 + (wide / 3) ** 2), rtol=1e-5, atol=1e-30)
    with enable_x64(True):
        close(pp.inverse_smooth_clip(pp.smooth_clip(wide)), wide, rtol=1e-9, atol=1e-30)


def test_smooth_clip_of_huge_values_and_its_gradient():
    x = jnp.array([0.0, 3.0, 1e30, -jnp.inf, jnp.nan])
    close(pp.smooth_clip(x), [0.0, 3 / np.sqrt(2), 3.0, -3.0, np.nan], rtol=1e-6)
    slope = jax.grad(lambda x: pp.smooth_clip(x).sum())(x[:4])
    close(slope, [1.0, 2**-1.5, 0.0, 0.0], rtol=1e-6)
    assert jnp.isnan(pp.inverse_smooth_clip(3.5))
    assert jnp.isinf(pp.inverse_smooth_clip(3.0))


def test_robust_scaler_refuses():
    with pytest.raises(ValueError, match="ascending percentages"):
        pp.robust_scaler(quantile_range=(75, 25))
    with pytest.raises(ValueError, match="inside 0 and 100 for unit_variance"):
        pp.robust_scaler(quantile_range=(0, 100), unit_variance=True)
    with pytest.raises(ValueError, match="flat must be"):
        pp.robust_scaler(flat="other")
    scaler = pp.robust_scaler()
    with pytest.raises(ValueError, match="infinite"):
        scaler.fit(np.array([[np.inf]]))
    with pytest.raises(ValueError, match="nothing to fit"):
        scaler.fit(np.zeros((0, 2)))
    with pytest.raises(ValueError, match="the state is of features"):
        scaler.transform(scaler.fit(np.ones((3, 2))), np.ones((3, 4)))
