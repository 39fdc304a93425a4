"""Box-Cox and Yeo-Johnson against SciPy, scikit-learn and recorded values."""

import math

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.preprocessing as sk
from helpers.tables import SKEWED, close

from jaxdeep import preprocessing as pp
from jaxdeep._compat import enable_x64

MLE = {"box-cox": pp.box_cox_mle, "yeo-johnson": pp.yeo_johnson_mle}


LLF = {"box-cox": pp.box_cox_llf, "yeo-johnson": pp.yeo_johnson_llf}


METHODS = pytest.mark.parametrize("method", ["box-cox", "yeo-johnson"])


def test_power_transforms_are_the_recorded_ones(x64, golden):
    data = golden["power_transform"]
    x, z = np.array(data["positive"]["x"]), np.array(data["signed"]["x"])
    expected = data["positive"]["boxcox"]
    for lmbda, name in [(0, "=0"), (-0.7, "=-0.7"), (1e-10, "=1e-10")]:
        close(pp.box_cox(x, lmbda), expected[f"y lambda{name}"], rtol=1e-12, atol=1e-15)
    for lmbda in (0.5, 0):
        y = pp.box_cox(x, lmbda, geometric_mean=True)
        close(y, expected[f"geometric-mean scaled, lambda={lmbda} (reference)"], rtol=1e-12, atol=1e-15)
    for x_, part in [(x, "positive"), (z, "signed")]:
        for lmbda in (0, 2, -0.7):
            y = data[part]["yeojohnson"][f"y lambda={lmbda}"]
            close(pp.yeo_johnson(x_, lmbda), y, rtol=1e-12, atol=1e-15)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("part", "method"), [("positive", "boxcox"), ("positive", "yeojohnson"), ("signed", "yeojohnson")]
)
def test_likelihoods_are_the_recorded_ones(x64, golden, part, method):
    x = np.array(golden["power_transform"][part]["x"])
    expected = golden["power_transform"][part][method]
    method = {"boxcox": "box-cox", "yeojohnson": "yeo-johnson"}[method]
    llf = {"box-cox": pp.box_cox_llf, "yeo-johnson": pp.yeo_johnson_llf}[method]
    for standardize, name in [(False, "y"), (True, "y standardized")]:
        transform = pp.power_transform(method, standardize=standardize)
        state = transform.fit(x)
        close(state.lmbda, expected["lambda scipy"], atol=1e-6)
        close(llf(x, state.lmbda), expected["llf at lambda"], rtol=1e-12)
        close(llf(x, 0.3), expected["llf at 0.3"], rtol=1e-12)
        close(transform.transform(state, x), expected[name], rtol=1e-5, atol=1e-6)
        close(
            transform.inverse_transform(state, transform.transform(state, x)), x, rtol=1e-9, atol=1e-12
        )


@pytest.mark.heavy
@METHODS
def test_fitted_transforms_are_scikit_learns(x64, method):
    x = SKEWED.copy()
    x[:7, 0] = np.nan
    ours = pp.power_transform(method, standardize=True)
    theirs = sk.PowerTransformer(method).fit(x)
    state = ours.fit(x)
    close(state.lmbda, theirs.lambdas_, atol=1e-4)
    close(ours.transform(state, x), theirs.transform(x), atol=1e-4)
    close(ours.inverse_transform(state, ours.transform(state, x)), x, rtol=1e-6)


@pytest.mark.heavy
@METHODS
def test_likelihoods_are_scipys_and_none_is_larger(x64, method):
    grid = np.linspace(-3, 3, 13)
    x = SKEWED if method == "box-cox" else np.log(SKEWED)
    theirs = {"box-cox": scipy.stats.boxcox_llf, "yeo-johnson": scipy.stats.yeojohnson_llf}[method]
    found = np.array([LLF[method](x, lmbda) for lmbda in grid])
    expected = [[theirs(lmbda, column) for column in x.T] for lmbda in grid]
    close(found, expected, rtol=1e-8, atol=1e-8)
    lmbda = MLE[method](x)
    best = LLF[method](x, lmbda)
    for near in (lmbda - 1e-4, lmbda + 1e-4, *grid):
        assert (LLF[method](x, near) <= best).all()


@pytest.mark.heavy
def test_the_interval_is_scipys(x64):
    intervals = np.array(pp.box_cox_interval(SKEWED, level=0.9))
    for column in (0, 1, 3):
        _, _, expected = scipy.stats.boxcox(SKEWED[:, column], alpha=0.1)
        close(intervals[:, column], expected, rtol=1e-7)
    x = np.log(SKEWED)
    lmbda = pp.yeo_johnson_mle(x)
    drop = scipy.stats.chi2.ppf(0.95, 1) / 2
    for bound in pp.yeo_johnson_interval(x, lmbda):
        close(pp.yeo_johnson_llf(x, bound), pp.yeo_johnson_llf(x, lmbda) - drop, rtol=1e-10)


@pytest.mark.heavy
@METHODS
def test_lambda_of_float32_data_is_that_of_float64(method):
    narrow = MLE[method](SKEWED.astype(np.float32))
    assert narrow.dtype == jnp.float32
    with enable_x64(True):
        close(narrow, MLE[method](SKEWED), atol=1e-4)


@pytest.mark.heavy
def test_moving_the_data_moves_lambda_with_it(x64):
    x = SKEWED[:, :4]
    lmbda = pp.box_cox_mle(
        np.column_stack([1e5 * x[:, 1], 1 / x[:, 1], x[:, 1] ** 0.1, 1 + x[:, 1], x[:, 1]])
    )
    close(lmbda[:3], lmbda[4] * np.array([1, -1, 10]), rtol=1e-7)  # the scale does not matter
    z = np.log(x[:, 3]) - 0.5
    mirrored = pp.yeo_johnson_mle(np.column_stack([z, -z, x[:, 1], -x[:, 1], z]))
    close(mirrored[1], 2 - mirrored[0], atol=1e-9)
    close(mirrored[2:4], [lmbda[3], 2 - lmbda[3]], atol=1e-9)  # Box-Cox of 1 + x, by definition


@pytest.mark.heavy
@METHODS
def test_lambda_of_values_far_from_zero_leaves_them_apart(method):
    # The best λ would overflow, or make them all one value.
    x = np.array([1950.0, 1997, 2000, 2003, 2009, 1985], np.float32)
    x = np.column_stack([x, 4000 - x, 1 / x, np.where(x == 2009, 1e6, x)])
    transform = pp.power_transform(method, standardize=True)
    y = np.array(transform.transform(transform.fit(x), x))
    assert np.isfinite(y).all()
    close(np.std(y, axis=0), np.ones(4), rtol=1e-3)
    for column in (0, 1):
        assert (np.diff(y[np.argsort(x[:, column]), column]) > 0).all()


@pytest.mark.heavy
def test_the_search_is_vectorised_and_jitted(x64):
    lmbda = pp.box_cox_mle(SKEWED)
    close(jax.jit(pp.box_cox_mle)(SKEWED), lmbda, rtol=1e-12)
    close(jax.vmap(pp.box_cox_mle, in_axes=1)(SKEWED), lmbda, rtol=1e-12)
    close(pp.box_cox_mle(SKEWED.T, axis=1)[:, 0], lmbda, rtol=1e-12)


@pytest.mark.heavy
@METHODS
def test_lambda_is_differentiable_by_the_data(x64, method):
    x = SKEWED[:10, 0] if method == "box-cox" else np.log(SKEWED[:10, 0])
    derivative = jax.jit(jax.grad(MLE[method]))
    gradient = derivative(x)
    for i in (0, 4):
        step = 1e-5 * np.eye(10)[i]
        close(gradient[i], (MLE[method](x + step) - MLE[method](x - step)) / 2e-5, rtol=1e-4)
    with_nan = derivative(np.append(x[:-1], np.nan))
    assert np.isfinite(with_nan).all()
    assert with_nan[-1] == 0


@pytest.mark.heavy
def test_values_and_derivatives_are_right_near_the_special_lambdas(x64):
    log = np.log(x := np.array([0.01, 0.5, 1.0, 5.0, 300.0]))

    def orders(f):
        """The function and two derivatives by λ, of each x."""
        by = [f]
        for _ in range(2):
            by.append(jax.grad(by[-1], argnums=1))
        return [jax.jit(jax.vmap(g, in_axes=(0, None))) for g in by]

    forward, inverse = orders(pp.box_cox), orders(pp.inverse_box_cox)
    by_x = jax.jit(jax.vmap(jax.grad(pp.box_cox), in_axes=(0, None)))
    for lmbda in (0.0, 1e-300, 1e-12, -1e-8, 1e-5, 1e-3):
        series = [lmbda**k * log ** (k + 1) / math.factorial(k + 1) for k in range(12)]
        slopes = [k * lmbda ** (k - 1) * log ** (k + 1) / math.factorial(k + 1) for k in range(1, 12)]
        close(forward[0](x, lmbda), sum(series), rtol=1e-13)
        close(forward[1](x, lmbda), sum(slopes), rtol=1e-12)
        close(forward[2](x, lmbda), log**3 / 3, rtol=0.01)
        close(by_x(x, lmbda), x ** (lmbda - 1), rtol=1e-13)
        close(inverse[1](log, lmbda), -x * log**2 / 2, rtol=0.03, atol=1e-12)
        close(pp.yeo_johnson(1 - x, 2 - lmbda), -pp.yeo_johnson(x - 1, lmbda), rtol=1e-13)
    for functions, at, seam in (
        (forward, math.e, 0.5),
        (inverse, 1.0, 0.1),
    ):  # of series and closed form
        for f in functions:
            close(f(np.full(5, at), seam - 1e-13), f(np.full(5, at), seam + 1e-13), rtol=1e-11)


@pytest.mark.heavy
def test_float32_is_right_where_the_textbook_form_is_not():
    close(pp.box_cox(np.float32(5), 1e-7), math.log(5), rtol=2e-7)
    close(pp.yeo_johnson(np.float32(-4), 2 - 1e-7), -math.log(5), rtol=2e-7)
    close(pp.inverse_box_cox(np.float32(math.log(5)), 1e-7), 5, rtol=1e-6)
    tiny = np.float32([-1e-12, 0, 1e-12])
    close(pp.yeo_johnson(tiny, 0.3), tiny, rtol=1e-6)
    close(jax.vmap(jax.grad(pp.yeo_johnson), in_axes=(0, None))(tiny, 0.3), np.ones(3), rtol=1e-6)


def test_values_outside_the_domain_are_nan_and_hurt_no_others():
    x = np.float32([-1, 0, 2, np.nan])
    for lmbda in (-1.0, 0.0, 1.0):
        of_traced = jax.jit(pp.box_cox)(x, lmbda)
        assert np.isnan(of_traced).tolist() == [True, True, False, True]
        for function in (pp.box_cox, pp.box_cox_llf):
            for known in (x, jnp.asarray(x), x[1:]):
                with pytest.raises(ValueError, match="x must be positive for Box-Cox, got values ≤ 0"):
                    function(known, lmbda)
        assert np.isnan(pp.box_cox(x[2:], lmbda)).tolist() == [False, True]
    slope = jax.grad(lambda lmbda: jnp.nansum(jax.jit(pp.box_cox)(x, lmbda)))
    assert np.isfinite(slope(0.0))
    assert np.isnan(pp.inverse_box_cox(np.float32([-3, 1]), 0.5)).tolist() == [True, False]


@hypothesis.given(
    hnp.arrays(float, 5, elements=st.floats(-50, 50), unique=True),
    st.floats(-2, 4) | st.sampled_from([0.0, 2.0]),
)
def test_inverses_undo_and_order_is_kept(x, lmbda):
    with enable_x64(True):
        y = pp.yeo_johnson(x, lmbda)
        # what the transform squeezes together comes back no better than it was
        squeezed = 1e-13 * (1 + np.abs(x)) ** (1 + np.abs(lmbda - 1))
        np.testing.assert_array_less(np.abs(pp.inverse_yeo_johnson(y, lmbda) - x), 50 * squeezed + 1e-13)
        order = np.argsort(x)
        apart = np.diff(x[order]) > 1e-4
        assert (np.diff(y[order])[apart] > 0).all()
        close(y, scipy.stats.yeojohnson(x, lmbda), rtol=1e-9, atol=1e-12)
        z = np.exp(x / 10)
        close(pp.inverse_box_cox(pp.box_cox(z, lmbda), lmbda), z, rtol=1e-7)
        close(pp.box_cox(z, lmbda), scipy.stats.boxcox(z, lmbda), rtol=1e-9, atol=1e-12)


@pytest.mark.heavy
def test_the_geometric_mean_makes_results_comparable(x64):
    x = SKEWED
    g = scipy.stats.gmean(x, axis=0)
    y = pp.box_cox(x, 0.3, geometric_mean=True)
    close(y, (x**0.3 - 1) / (0.3 * g ** (0.3 - 1)), rtol=1e-11)
    close(pp.box_cox(x[:4], 0.3, geometric_mean=g), y[:4], rtol=1e-12)
    close(pp.box_cox(x.T, 0.3, geometric_mean=True, axis=1), y.T, rtol=1e-12)
    # the likelihood is, but for a constant, that of its variance
    constant = pp.box_cox_llf(x, 0.3) + 100 * jnp.log(jnp.var(y, axis=0))
    y = pp.box_cox(x, -1.0, geometric_mean=True)
    close(pp.box_cox_llf(x, -1.0) + 100 * jnp.log(jnp.var(y, axis=0)), constant, atol=1e-8)


@pytest.mark.heavy
def test_what_cannot_be_fitted():
    def columns(other):
        return np.stack([np.float32([1, 2, 4]), np.float32(other)], axis=1)

    transforms = {method: pp.power_transform(method, standardize=True) for method in MLE}
    compiled = {method: jax.jit(transform.fit) for method, transform in transforms.items()}
    for method, other, message in [
        ("box-cox", [1, 0, 2], r"values ≤ 0 .* features \[1\]"),
        ("box-cox", [3, 3, 3], r"a single value, or none; got them in features \[1\]"),
        ("box-cox", [np.nan] * 3, "a single value, or none"),
        ("box-cox", [1, 2, np.inf], "infinite"),
        ("yeo-johnson", [1, 2, -np.inf], "infinite"),
        ("yeo-johnson", [1, 2, np.inf], "infinite"),
    ]:
        with pytest.raises(ValueError, match=message):
            transforms[method].fit(columns(other))
        lmbda = compiled[method](columns(other)).lmbda  # values are not known
        assert np.isnan(lmbda[1])
        assert np.isfinite(lmbda[0])
    for other in ([3, 3, 3], [0, 0, 0], [np.nan, 0.1, 0.1], [np.nan] * 3):
        state = compiled["yeo-johnson"](columns(other))
        assert state.lmbda[1] == 1
        y = transforms["yeo-johnson"].transform(state, columns(other))
        assert np.nan_to_num(y[:, 1]).tolist() == [0, 0, 0]


@pytest.mark.heavy
@METHODS
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_power_transforms_keep_a_narrow_dtype(method, dtype):
    x = jnp.asarray(SKEWED * np.array([1, 1, 1, 1, 1e-4]), dtype)
    transform = pp.power_transform(method, standardize=True)
    state = transform.fit(x)
    y = transform.transform(state, x)
    assert y.dtype == transform.inverse_transform(state, y).dtype == jnp.dtype(dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
    wide = transform.transform(state, x.astype(jnp.float32))
    close(y.astype(jnp.float32), wide, rtol=float(jnp.finfo(dtype).eps), atol=1e-6)


@pytest.mark.heavy
def test_transforming_what_box_cox_does_not_take_is_refused():
    x = np.exp(np.linspace(-1.0, 1.0, 5)).astype(np.float32)
    for standardize in (False, True):
        transform = pp.power_transform("box-cox", standardize=standardize)
        state = transform.fit(x)
        for bad in (0.0, -1.0):
            with pytest.raises(ValueError, match="x must be positive for Box-Cox"):
                transform.transform(state, np.array([1.0, bad, np.nan]))
        assert np.isnan(transform.transform(state, np.array([1.0, np.nan]))).tolist() == [False, True]
        assert np.isnan(jax.jit(transform.transform)(state, np.array([1.0, -1.0]))).tolist() == [
            False,
            True,
        ]


@pytest.mark.heavy
@pytest.mark.parametrize("method", ["yeo-johnson", "box-cox"])
def test_seconds_keep_their_differences(method):
    x = (1.7e9 + np.arange(100.0))[:, None]
    transform = pp.power_transform(method, standardize=True)
    state = transform.fit(x)
    off = x - x.mean()  # so narrow a feature is bent by nothing
    np.testing.assert_allclose(transform.transform(state, x), off / off.std(), atol=1e-5)
    np.testing.assert_allclose(transform.transform(state, x[:1]), (off / off.std())[:1], atol=1e-5)
    np.testing.assert_array_equal(
        transform.transform(state, x.astype(int)), transform.transform(state, x)
    )


@pytest.mark.heavy
@pytest.mark.parametrize("scale", [1e-20, 1e20, 1e-5, 1e-12, 1e-30, 1e10, 1e30])
def test_features_of_any_size_are_those_of_scikit_learn(scale):
    rng = np.random.default_rng(0)
    x = (
        np.stack([rng.normal(size=200), np.exp(rng.normal(size=200)), rng.gamma(2.0, size=200)], 1)
        * scale
    )
    peer = sk.PowerTransformer().fit(x)
    transform = pp.power_transform("yeo-johnson", standardize=True)
    for given in (x, jnp.asarray(x, jnp.float32)):
        state = transform.fit(given)
        np.testing.assert_allclose(state.lmbda, peer.lambdas_, rtol=1e-4)
        y = transform.transform(state, given)
        np.testing.assert_allclose(y.std(axis=0), 1, rtol=1e-5)
        np.testing.assert_allclose(y, peer.transform(x), rtol=1e-3, atol=1e-3)


@pytest.mark.heavy
@pytest.mark.parametrize("standardize", [False, True])
def test_box_cox_of_numbers_below_float32_is_that_of_float64(standardize):
    x = 1e-50 * np.random.default_rng(0).lognormal(size=(60, 1))
    transform = pp.power_transform("box-cox", standardize=standardize)
    state = transform.fit(x)
    lmbda = scipy.stats.boxcox_normmax(x[:, 0], method="mle")
    np.testing.assert_allclose(state.lmbda, lmbda, rtol=1e-4, atol=1e-6)
    expected = scipy.special.boxcox(x, np.float64(np.asarray(state.lmbda)))
    if standardize:
        expected = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(transform.transform(state, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("standardize", [True, False])
def test_float32_features_that_compiled_code_takes_for_0_are_refused(standardize):
    x = np.array([1e-42, 2e-42, 3e-42], np.float32)
    for given in (x, jnp.asarray(x)):
        with pytest.raises(ValueError, match="features that vary by less than"):
            pp.power_transform(standardize=standardize).fit(given)


def test_numbers_below_float32_are_refused_where_they_would_be_0():
    x = np.array([1e-50, 2e-50, 4e-50])
    functions = [lambda: pp.box_cox(x, 0.5), lambda: pp.box_cox_mle(x)]
    functions.append(lambda: pp.power_transform().fit(x))
    functions.append(lambda: pp.yeo_johnson_mle(x))
    for function in functions:
        with pytest.raises(ValueError, match=r"x holds 1e-50, which float32 makes 0"):
            function()


@pytest.mark.parametrize(
    "name",
    [
        "box_cox",
        "inverse_box_cox",
        "inverse_yeo_johnson",
        "yeo_johnson",
        "box_cox_llf",
        "yeo_johnson_llf",
    ],
)
def test_a_lambda_that_is_no_number_of_float32_is_refused(name):
    function, x = getattr(pp, name), np.array([1.0, 2.0, 3.0])
    for lmbda, message in (
        (np.nan, "must be finite, got nan"),
        (-np.inf, "must be finite, got -inf"),
        (1e40, r"holds 1e\+40, which float32 cannot hold"),
    ):
        for given in (lmbda, np.array(lmbda)):
            with pytest.raises(ValueError, match=f"lmbda {message}"):
                function(x, given)


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("axes", [1, 2])
def test_a_state_of_one_feature_is_of_no_other(standardize, axes):
    transform = pp.power_transform(standardize=standardize)
    one = np.arange(5.0, dtype=np.float32).reshape((5, 1)[:axes])
    state = transform.fit(one)
    for call in (transform.transform, transform.inverse_transform):
        with pytest.raises(ValueError, match=r"the state is of features .*\(5, 3\)"):
            call(state, np.ones((5, 3), np.float32))
    assert transform.transform(state, one).shape == one.shape


@pytest.mark.heavy
@pytest.mark.parametrize("method", ["yeo-johnson", "box-cox"])
def test_the_inverse_of_large_numbers_is_right_to_their_rounding(method):
    x = (1.7e9 + np.arange(100.0))[:, None]
    transform = pp.power_transform(method, standardize=True)
    state = transform.fit(x)
    y = transform.transform(state, x)
    back = np.asarray(transform.inverse_transform(state, y), np.float64)
    assert abs(back - x).max() <= 64  # half a step of float32


@pytest.mark.heavy
@pytest.mark.parametrize("standardize", [False, True])
def test_numbers_whose_powers_are_beyond_float32_are_named_as_they_are(standardize):
    # the best λ is far from 1, as they vary by little: 1.8e19 to the 15th
    x = np.array([[2**64 - 1 - 2**20 * k, k] for k in (0, 1, 3, 4, 9)], np.uint64)
    transform = pp.power_transform(standardize=standardize)
    with pytest.raises(
        ValueError, match=rf"x holds {2**64 - 1} in feature 0, whose power .* float32: sub"
    ):
        transform.fit(x)
    centred = x.copy()
    centred[:, 0] -= x[:, 0].min()
    assert np.isfinite(transform.transform(transform.fit(centred), centred)).all()
    huge = np.array([1e38, 1.1e38, 3e38, 3.1e38, 2.9e38])[:, None]
    for given in (huge, huge.astype(np.float32), jnp.asarray(huge, jnp.float32)):
        with pytest.raises(ValueError, match=r"x holds \d.* in feature 0, whose power"):
            transform.fit(given)


def test_powers_that_float32_cannot_tell_are_to_be_standardized():
    times = (1.7e9 + np.arange(100.0))[:, None]
    with pytest.raises(ValueError, match=r"the transform of x holds .*: use standardize=True"):
        pp.power_transform().fit(times)


def test_likelihoods_of_numbers_that_float32_cannot_tell_are_those_of_float64():
    x = 1.7e9 + np.arange(100.0)
    np.testing.assert_allclose(pp.box_cox_llf(x, 1.0), scipy.stats.boxcox_llf(1.0, x), rtol=1e-6)
    np.testing.assert_allclose(pp.yeo_johnson_llf(x, 1.0), scipy.stats.yeojohnson_llf(1.0, x), rtol=1e-6)
    assert np.isfinite(pp.box_cox_mle(x))


@pytest.mark.parametrize("method", ["yeo-johnson", "box-cox"])
@pytest.mark.parametrize("standardize", [False, True])
def test_whole_numbers_that_float64_cannot_tell_are_refused(method, standardize):
    transform = pp.power_transform(method, standardize=standardize)
    for base in (2**60, np.uint64(2**63)):
        x = (base + np.arange(100, dtype=np.uint64 if base > 2**62 else int))[:, None]
        with pytest.raises(ValueError, match=rf"x holds numbers from {base} to .* float64 cannot tell"):
            transform.fit(x)
    for function in (pp.yeo_johnson_mle, pp.box_cox_mle):
        with pytest.raises(ValueError, match="float64 cannot tell"):
            function(x)


def test_whole_numbers_on_a_device_are_those_of_the_host():
    x = (1_700_000_000 + np.arange(50, dtype=np.int32) ** 2)[:, None]
    transform = pp.power_transform(standardize=True)
    host, device = (transform.transform(transform.fit(some), some) for some in (x, jnp.asarray(x)))
    assert len(np.unique(host)) == 50
    np.testing.assert_array_equal(host, device)
