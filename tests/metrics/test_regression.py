import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.properties import over
from helpers.streamed import ROWS, TABLES, streamed, values_of, weights_of

from jaxdeep import losses, metrics

OUTPUTS = 2


def table(seed, kind, weighted):
    """Numbers that float32 holds, also a million from 0."""
    rng = np.random.default_rng(seed)
    y = rng.integers(-99, 99, (ROWS, OUTPUTS)) / 4 + rng.choice([0, 1e6, -1e6])
    y[:, 0] = np.where(kind == "constant", y[0, 0], y[:, 0])
    errors = rng.integers(-9, 9, y.shape) / 8 * (kind != "right")
    weights = weights_of(rng, kind, weighted)
    return (y + errors).astype(np.float32), y.astype(np.float32), weights


@pytest.mark.few("uniform_average")
@pytest.mark.parametrize("multioutput", ["uniform_average", "variance_weighted", "raw_values"])
@over(3, 200, heavy=True, **TABLES)
def test_r2_is_that_of_scikit_learn_in_any_batches(multioutput, seed, kind, cut, weighted):
    from sklearn import metrics as sk

    outputs, y, weights = table(seed, kind, weighted)
    rows = weights > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fewer than two rows
        expected = sk.r2_score(
            *(a[rows].astype(float) for a in (y, outputs)),
            sample_weight=weights[rows],
            multioutput=multioutput,
        )
    # 1 − R², which is what is computed; off by the rounding of a million and 1
    for found in values_of(metrics.r2, OUTPUTS, multioutput=multioutput)(outputs, y, weights, cut):
        np.testing.assert_allclose(1 - found, 1 - np.asarray(expected), rtol=2e-5, atol=1e-6)


@over(3, 200, heavy=True, **TABLES)
def test_errors_are_those_of_scikit_learn_in_any_batches(seed, kind, cut, weighted):
    from sklearn import metrics as sk

    outputs, y, weights = table(seed, kind, weighted)
    rows = weights > 0
    truth = [a[rows].astype(float) for a in (y, outputs)]
    for multioutput in ("uniform_average", "raw_values"):
        expected = sk.root_mean_squared_error(
            *truth, sample_weight=weights[rows], multioutput=multioutput
        )
        values = values_of(metrics.rmse, OUTPUTS, multioutput=multioutput)
        for found in values(outputs, y, weights, cut):
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    joint = np.sqrt(np.average(((truth[0] - truth[1]) ** 2).mean(-1), weights=weights[rows]))
    for found in values_of(metrics.rmse, multioutput="joint")(outputs, y, weights, cut):
        np.testing.assert_allclose(found, joint, rtol=1e-5)
    for loss, reference in (
        (losses.mape, sk.mean_absolute_percentage_error),
        (losses.msle, sk.mean_squared_log_error),
    ):
        outputs, y = np.abs(outputs) + 1, np.abs(y)
        expected = reference(*(a[rows].astype(float) for a in (y, outputs)), sample_weight=weights[rows])
        for found in values_of(metrics.mean, loss)(outputs, y, weights, cut):
            np.testing.assert_allclose(found, expected, rtol=2e-5)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("y", "outputs", "expected"),
    [
        ([0.1] * 5, [0.1] * 5, 1),  # 0 / 0, also where a mean of equal numbers rounds
        ([0.1] * 5, [0.2] * 5, 0),
        ([1.0, 2.0], [1.0, 2.0], 1),
        ([1.0], [1.0], np.nan),
        ([1.0, np.nan], [1.0, 2.0], np.nan),
        ([1.0, 2.0], [1.0, np.nan], np.nan),
    ],
)
def test_r2_where_it_is_no_quotient(y, outputs, expected):
    y, outputs = np.float32(y), np.float32(outputs)
    np.testing.assert_array_equal(streamed(metrics.r2(), (outputs, y)), expected)
    parts = [(outputs[i : i + 1], y[i : i + 1]) for i in range(len(y))]
    np.testing.assert_array_equal(streamed(metrics.r2(), *parts), expected)
    assert np.isnan(metrics.r2().compute(metrics.r2().init()))


@pytest.mark.heavy
def test_r2_keeps_the_digits_of_numpy_and_of_many_batches():
    """Seconds since 1970, in which float32 has steps of 128."""
    from sklearn import metrics as sk

    rng = np.random.default_rng(0)
    y = 1.7e9 + rng.normal(size=500)
    outputs = y + 0.3 * rng.normal(size=500)
    metric, parts = metrics.r2(), [slice(i, i + 10) for i in range(0, 500, 10)]
    found = streamed(metric, *((outputs[part], y[part]) for part in parts))
    np.testing.assert_allclose(found, sk.r2_score(y, outputs), rtol=1e-5)
    many = rng.normal(size=(1000, 64)).astype(np.float32) + np.float32(1000)
    off = many + np.float32(0.5) * rng.normal(size=many.shape).astype(np.float32)
    add = lambda state, batch: (metric.update(state, *batch), None)  # noqa: E731
    state = jax.jit(lambda batches: jax.lax.scan(add, metric.init(), batches)[0])((off, many))
    expected = sk.r2_score(many.astype(float).ravel(), off.astype(float).ravel())
    np.testing.assert_allclose(metric.compute(state), expected, rtol=1e-6)


@pytest.mark.heavy
@pytest.mark.few("1e-22", "1e+20")
@pytest.mark.parametrize("unit", [1e-30, 1e-22, 1e20, 1e30])
def test_squares_that_float32_does_not_hold_count(unit):
    """Of 1e-22 R² was 1 for outputs of 0, and of 1e20 NaN; one column lies far from the other."""
    from sklearn import metrics as sk

    rng = np.random.default_rng(0)
    y = (rng.normal(size=(90, 2)) * [unit, 1]).astype(np.float32)
    off = (y + 0.3 * rng.normal(size=y.shape) * [unit, 1]).astype(np.float32)
    for outputs, size in ((off, None), (off, unit**0.5), (np.zeros_like(y), None)):
        weights = None if size is None else (size * rng.uniform(0.1, 1, 90)).astype(np.float32)
        exact = None if weights is None else weights.astype(float)
        truth = y.astype(float), outputs.astype(float)
        parts = [slice(0, 40), slice(40, 41), slice(41, 90)]
        given = (outputs, y) if weights is None else (outputs, y, weights)
        batches = [tuple(array[rows] for array in given) for rows in parts]
        r2 = streamed(metrics.r2(2, multioutput="raw_values"), *batches)
        expected = sk.r2_score(*truth, sample_weight=exact, multioutput="raw_values")
        np.testing.assert_allclose(1 - r2, 1 - expected, rtol=2e-5)
        rmse = streamed(metrics.rmse(2, multioutput="raw_values"), *batches)
        expected = sk.root_mean_squared_error(*truth, sample_weight=exact, multioutput="raw_values")
        np.testing.assert_allclose(rmse, expected, rtol=1e-5)
        joint = streamed(metrics.rmse(multioutput="joint"), *batches)
        np.testing.assert_allclose(joint, np.sqrt(np.mean(expected**2)), rtol=1e-5)
    state = metrics.rmse().update(metrics.rmse().init(), off[:, :1], y[:, :1])
    expected = ((off - y).astype(float)[:, 0] ** 2).sum()
    np.testing.assert_allclose(metrics.exact_sums(state)["error"], expected, rtol=1e-5)


def test_squares_that_were_added_up_leaf_by_leaf_are_none():
    for metric in (metrics.r2(), metrics.rmse()):
        state = metric.update(metric.init(), jnp.arange(4.0), jnp.arange(4.0) + 1)
        assert np.isfinite(metric.compute(metric.merge(state, state)))
        assert np.isnan(metric.compute(jax.tree.map(jnp.add, state, state)))


def test_the_number_of_outputs_is_said():
    for make, name in ((metrics.r2, "r2"), (metrics.rmse, "rmse")):
        metric = make()
        with pytest.raises(ValueError, match=rf"{name}\(1\) needs outputs \(…, 1\) or \(n,\), got"):
            metric.update(metric.init(), jnp.ones((4, 3)), jnp.ones((4, 3)))
        with pytest.raises(ValueError, match=r"targets must have the shape of the outputs"):
            metric.update(metric.init(), jnp.ones(4), jnp.ones(3))
        with pytest.raises(ValueError, match="multioutput must be 'uniform_average'"):
            make(multioutput="mean")
    batch = jnp.ones((4, 1)), jnp.zeros(4), jnp.arange(4)[:, None]
    np.testing.assert_allclose(streamed(metrics.rmse(), batch), 1)
    with pytest.raises(ValueError, match="weights must be one for each example"):
        streamed(metrics.rmse(3), (jnp.ones((4, 3)), jnp.zeros((4, 3)), jnp.ones((4, 3))))


@pytest.mark.heavy
def test_metrics_of_numbers_in_bfloat16_and_float64(x64):
    y = np.linspace(0, 1, 64)
    outputs = y + 0.1 * np.sin(np.arange(64))
    exact = 1 - ((outputs - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    found = streamed(metrics.r2(), (jnp.asarray(outputs), jnp.asarray(y)))
    np.testing.assert_allclose(found, exact, rtol=1e-14)
    low = jnp.asarray(y, jnp.bfloat16)
    assert streamed(metrics.rmse(), (low, y)) < 0.002  # the rounding of the outputs, and no more
