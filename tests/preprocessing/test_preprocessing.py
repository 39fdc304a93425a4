"""Scalers, power transforms and target encoding, against SciPy, scikit-learn and closed forms."""

import inspect
import math

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.preprocessing as sk

import jaxdeep as jd
from jaxdeep import preprocessing as pp
from jaxdeep._compat import enable_x64
from jaxdeep.preprocessing.target import folds

RNG = np.random.default_rng(0)
SKEWED = np.stack(
    [
        np.exp(RNG.normal(size=200)),
        RNG.gamma(2, size=200),
        RNG.beta(5, 1, size=200),
        RNG.pareto(1.5, size=200) + 1,
        1e6 * np.exp(RNG.normal(size=200)),
    ],
    axis=1,
)
MLE = {"box-cox": pp.box_cox_mle, "yeo-johnson": pp.yeo_johnson_mle}
LLF = {"box-cox": pp.box_cox_llf, "yeo-johnson": pp.yeo_johnson_llf}
METHODS = pytest.mark.parametrize("method", ["box-cox", "yeo-johnson"])


def close(a, b, **tolerances):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerances), a, b)


def joined(scaler, parts):
    """The state of all parts, which are stacked."""

    def merge(state, part):
        return scaler.merge(state, part), None

    first, rest = jax.tree.map(lambda part: part[0], parts), jax.tree.map(lambda part: part[1:], parts)
    return jax.lax.scan(merge, first, rest)[0]


# ---- scalers


@pytest.mark.parametrize("flags", [{}, {"with_mean": False}, {"with_std": False}])
def test_standard_scaler_is_scikit_learns(x64, flags):
    x = np.column_stack([SKEWED, np.full(200, 0.1), RNG.normal(1e5, 1, 200)])
    x[3, 0] = x[5:9, 1] = np.nan
    ours, theirs = pp.standard_scaler(**flags), sk.StandardScaler(**flags).fit(x)
    state = ours.fit(x)
    close(ours.transform(state, x), theirs.transform(x), rtol=1e-9, atol=1e-9)
    close(ours.inverse_transform(state, x), theirs.inverse_transform(x), rtol=1e-12)
    close(state.n, np.sum(~np.isnan(x), axis=0))
    assert state.scale[-2] == 1


@pytest.mark.parametrize("clip", [False, True])
def test_min_max_scaler_is_scikit_learns(x64, clip):
    x = np.column_stack([SKEWED, np.full(200, 0.1)])
    x[3, 0] = np.nan
    ours, theirs = pp.min_max_scaler((-1, 3), clip=clip), sk.MinMaxScaler((-1, 3), clip=clip).fit(x)
    state = ours.fit(x)
    close(ours.transform(state, x), theirs.transform(x), rtol=1e-12, atol=1e-12)
    close(ours.transform(state, 2 * x), theirs.transform(2 * x), rtol=1e-12, atol=1e-12)
    close(ours.inverse_transform(state, x), theirs.inverse_transform(x), rtol=1e-12)


def test_a_small_variance_on_a_large_mean_is_kept_in_float32():
    x = (1e4 + RNG.normal(size=(20_000, 2))).astype(np.float32)
    scaler = pp.standard_scaler()
    state = scaler.init(x[:1])
    for batch in np.split(x, 40):
        state = scaler.update(state, batch)
    close(state.variance, x.astype(float).var(axis=0), rtol=1e-4)
    close(scaler.fit(x).variance, x.astype(float).var(axis=0), rtol=1e-5)
    close(scaler.fit(x).mean, x.astype(float).mean(axis=0), rtol=1e-7)


def test_a_constant_feature_is_known_in_float32_whatever_the_batches():
    x = np.full((999, 3), [0.1, 1e7 / 3, -1e-20], np.float32)
    scaler = pp.standard_scaler()
    state = scaler.init(x)
    for batch in (x[:1], x[1:500], x[500:]):
        state = scaler.update(state, batch)
    for s in (state, scaler.fit(x)):
        assert (s.scale == 1).all()
        assert (scaler.transform(s, x) == 0).all()


@pytest.mark.parametrize(
    ("axis", "shape"),
    [(0, (2, 3, 4)), ((0, 1, 2), (4,)), ((0, 2, 3), (2, 1, 1)), (None, ()), (-1, (5, 2, 3, 1))],
)
def test_axis_is_numpys_and_statistics_broadcast_against_one_example(axis, shape):
    x = RNG.normal(size=(5, 2, 3, 4)).astype(np.float32)
    kept = x.mean(axis=axis, keepdims=True), x.std(axis=axis, keepdims=True)
    scaler = pp.standard_scaler(axis=axis)
    state = scaler.fit(x)
    assert state.mean.shape == shape
    y = scaler.transform(state, x)
    close(y, (x - kept[0]) / kept[1], rtol=1e-4, atol=1e-5)
    if axis != -1:
        close(scaler.transform(state, x[0]), y[0])
        close(jax.vmap(scaler.transform, in_axes=(None, 0))(state, x), y, rtol=1e-6)


SCALERS = {"standard": pp.standard_scaler(), "min-max": pp.min_max_scaler()}
scalers = pytest.mark.parametrize("scaler", SCALERS.values(), ids=SCALERS)


@scalers
@hypothesis.given(
    hnp.arrays(float, (12, 1), elements=st.floats(-1e6, 1e6) | st.just(math.nan)),
    hnp.arrays(int, 12, elements=st.integers(0, 3)),
)
def test_batches_of_any_rows_are_all_data_at_once(scaler, x, batch):
    with enable_x64(True):
        state = scaler.init(x)
        for i in range(4):
            state = scaler.update(state, x, batch == i)
        close(state, scaler.fit(x), rtol=1e-9, atol=1e-3)
        seen = x[~np.isnan(x)]
        if isinstance(state, pp.Moments) and len(seen):
            close(state.mean, [seen.mean()], rtol=1e-9, atol=1e-9)
            close(state.variance, [seen.var()], rtol=1e-9, atol=1e-6)


@scalers
@hypothesis.given(hnp.arrays(float, (3, 4, 2), elements=st.floats(-1e3, 1e3)))
def test_merging_is_associative_and_commutes(scaler, x):
    with enable_x64(True):
        a, b, c = (scaler.fit(part) for part in x)
        left = scaler.merge(scaler.merge(a, b), c)
        close(left, scaler.merge(a, scaler.merge(b, c)), rtol=1e-9, atol=1e-9)
        close(left, scaler.merge(c, scaler.merge(b, a)), rtol=1e-9, atol=1e-9)
        close(scaler.merge(scaler.init(x[0]), a), a, rtol=1e-12)
        close(scaler.merge(a, scaler.init(x[0])), a, rtol=1e-12)


@scalers
def test_scan_vmap_and_jit_give_the_same_state(scaler):
    x = jnp.asarray(RNG.normal(size=(6, 10, 3)), jnp.float32)
    whole = scaler.fit(x.reshape(60, 3))

    def step(state, batch):
        return scaler.update(state, batch), None

    scanned, _ = jax.jit(lambda x: jax.lax.scan(step, scaler.init(x[0]), x))(x)
    close(scanned, whole, rtol=1e-5, atol=1e-6)
    parts = jax.vmap(scaler.fit)(x)
    close(joined(scaler, parts), whole, rtol=1e-5, atol=1e-6)


@scalers
def test_devices_are_joined(scaler):
    x = jnp.asarray(RNG.normal(size=(80, 3)), jnp.float32)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")
    sharded = jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))
    close(scaler.fit(sharded), scaler.fit(x), rtol=1e-5, atol=1e-6)

    def fit(x):
        parts = jax.lax.all_gather(scaler.fit(x), "data")
        return joined(scaler, parts)

    out = jax.shard_map(
        fit, mesh=mesh, in_specs=spec, out_specs=jax.sharding.PartitionSpec(), check_vma=False
    )
    close(jax.jit(out)(x), scaler.fit(x), rtol=1e-5, atol=1e-6)


def test_weights_count_rows_and_padding_does_not(x64):
    x, weights = SKEWED[:50], RNG.integers(0, 3, 50)
    repeated = np.repeat(x, weights, axis=0)
    padded = np.where(weights[:, None] == 0, np.nan, x)
    for rows in (x, padded):
        scaler = pp.standard_scaler(ignore_nan=False)
        close(scaler.fit(rows, weights), scaler.fit(repeated), rtol=1e-9)
        ranges = pp.min_max_scaler(ignore_nan=False)
        close(ranges.fit(rows, weights), ranges.fit(repeated))


def test_a_nan_that_counts_makes_its_feature_nan():
    x = np.array([[1.0, 1.0], [np.nan, 2.0]], np.float32)
    for scaler in (pp.standard_scaler(ignore_nan=False), pp.min_max_scaler(ignore_nan=False)):
        y = scaler.transform(scaler.fit(x), x)
        assert np.isnan(y[:, 0]).all()
        assert np.isfinite(y[:, 1]).all()


@scalers
def test_nothing_seen_changes_nothing(scaler):
    x = np.array([[2.0], [np.nan]], np.float32)
    for state in (scaler.init(x), scaler.fit(x[1:])):
        close(scaler.transform(state, x), x)


@scalers
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "uint8"])
def test_scalers_keep_the_dtype_and_statistics_are_float32(scaler, dtype):
    x = jnp.asarray(RNG.integers(0, 255, (100, 2)), dtype)
    state = scaler.fit(x)
    y = scaler.transform(state, x)
    assert {leaf.dtype for leaf in state} == {jnp.dtype("float32")}
    assert y.dtype == (jnp.float32 if dtype == "uint8" else dtype)
    exact = scaler.transform(state, x.astype(jnp.float32))
    close(y.astype(jnp.float32), exact, rtol=float(jnp.finfo(y.dtype).eps), atol=1e-6)


def test_a_scaler_does_not_compile_again_for_other_values():
    scaler, x = pp.standard_scaler(), np.ones((7, 2), np.float32)
    traces = []

    @jax.jit
    def step(state, x):
        traces.append(1)
        return scaler.update(state, x)

    state = step(scaler.init(x), x)
    step(state, 2 * x)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pp.standard_scaler(axis="rows"), TypeError, "axis must be a whole number"),
        (
            lambda: pp.standard_scaler(axis=2).fit(np.ones((2, 3))),
            ValueError,
            "axis must name different axes",
        ),
        (lambda: pp.standard_scaler(with_mean=1), TypeError, "with_mean must be True or False"),
        (lambda: pp.standard_scaler().fit(np.array(["a"])), TypeError, "real numbers"),
        (
            lambda: pp.standard_scaler().fit(np.ones(3), np.ones(2)),
            ValueError,
            "weights must have the leading",
        ),
        (lambda: pp.min_max_scaler((1, 1)), ValueError, "a < b, got"),
        (lambda: pp.min_max_scaler(3), TypeError, "feature_range must be a pair"),
        (lambda: pp.power_transform("boxcox"), ValueError, "'box-cox', got 'boxcox'"),
        (lambda: pp.target_encoder("none"), ValueError, "smooth must be 'auto' or a number"),
        (lambda: pp.target_encoder(-1.0), ValueError, "smooth must be in"),
        (lambda: pp.target_encoder(classes=1), ValueError, "classes must be at least 2"),
        (lambda: pp.box_cox_interval(np.array([1.0, 2.0]), level=1.0), ValueError, "level must be in"),
        (lambda: pp.box_cox(np.ones(3), np.ones(2)), ValueError, "lmbda must broadcast"),
        (
            lambda: pp.box_cox(np.ones(3), 1.0, geometric_mean=-1.0),
            ValueError,
            "geometric_mean must be in",
        ),
        (lambda: pp.box_cox_llf(np.ones((3, 2)), np.ones(3)), ValueError, r"shape \(2,\) of features"),
    ],
)
def test_errors_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()


@scalers
def test_features_that_do_not_fit_are_refused(scaler):
    state = scaler.fit(np.ones((4, 3), np.float32))
    for call in (scaler.transform, scaler.inverse_transform, scaler.update):
        with pytest.raises(ValueError, match=r"the state is of features \(3,\)"):
            call(state, np.ones((4, 1), np.float32))


# ---- power transforms


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


@METHODS
def test_lambda_of_float32_data_is_that_of_float64(method):
    narrow = MLE[method](SKEWED.astype(np.float32))
    assert narrow.dtype == jnp.float32
    with enable_x64(True):
        close(narrow, MLE[method](SKEWED), atol=1e-4)


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


def test_the_search_is_vectorised_and_jitted(x64):
    lmbda = pp.box_cox_mle(SKEWED)
    close(jax.jit(pp.box_cox_mle)(SKEWED), lmbda, rtol=1e-12)
    close(jax.vmap(pp.box_cox_mle, in_axes=1)(SKEWED), lmbda, rtol=1e-12)
    close(pp.box_cox_mle(SKEWED.T, axis=1)[:, 0], lmbda, rtol=1e-12)


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
        assert np.isnan(pp.box_cox(x, lmbda)).tolist() == [True, True, False, True]
    slope = jax.grad(lambda lmbda: jnp.nansum(pp.box_cox(x, lmbda)))
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


# ---- target encoding

KINDS = {"continuous": None, "binary": None, "multiclass": 3}


@pytest.mark.parametrize(
    ("kind", "smooth"),
    [(kind, smooth) for kind in ("continuous", "binary") for smooth in ("auto", 2.0, 0.0)]
    + [("multiclass", "auto")],
)
def test_target_encodings_are_the_recorded_ones(x64, golden, kind, smooth):
    data = golden["target_encoder"]
    encoder = pp.target_encoder(smooth, classes=KINDS[kind])
    state = encoder.fit(data["category"], np.array(data[f"y_{kind}"]))
    found = encoder.transform(state, data["query (last is unseen)"])
    close(found, data[f"{kind} smooth={smooth}"], rtol=1e-12, atol=1e-15)


def table(n=300):
    rng = np.random.default_rng(1)
    x = np.empty((n, 3), object)
    x[:, 0] = rng.choice(np.array(["red", "green", None, math.nan], object), n)
    x[:, 1] = rng.integers(0, 100, n)  # some of them once
    x[:, 2] = rng.choice(["x", "y"], n)
    return x, {
        "continuous": rng.normal(1e3, 1, n) + (x[:, 2] == "x"),
        "binary": rng.integers(0, 2, n).astype(float),
        "multiclass": rng.integers(0, 3, n),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("smooth", ["auto", 0.7])
def test_target_encoding_is_scikit_learns(x64, kind, smooth):
    x, targets = table()
    y = targets[kind]
    ours, theirs = pp.target_encoder(smooth, classes=KINDS[kind]), sk.TargetEncoder(smooth=smooth)
    state, theirs = ours.fit(x, y), theirs.fit(x, y)
    new = x.copy()
    new[:5, 1] = 1000  # unseen
    close(ours.transform(state, new), theirs.transform(new), rtol=1e-9, atol=1e-12)

    encoded, again = ours.fit_transform(jax.random.key(0), x, y, cv=4)
    close(again.encodings, state.encodings, atol=1e-12)
    assert again.vocabulary == state.vocabulary
    part = np.array(folds(jax.random.key(0), jnp.asarray(y), 4))
    for fold in range(4):
        theirs = sk.TargetEncoder(smooth=smooth).fit(x[part != fold], y[part != fold])
        close(encoded[part == fold], theirs.transform(x[part == fold]), rtol=1e-9, atol=1e-12)


def test_parts_are_equal_random_and_alike_in_their_targets():
    y = RNG.integers(0, 3, 60).astype(np.float32)
    several = np.array([folds(key, y, 5) for key in jax.random.split(jax.random.key(0), 300)])
    for part in several[:10]:
        counts = np.array([[np.sum((part == p) & (y == c)) for c in range(3)] for p in range(5)])
        assert np.ptp(counts, axis=0).max() <= 2
        assert (counts.sum(axis=1) == 12).all()
    # each example is as likely in each part, and with each other of its class
    np.testing.assert_allclose([(several == p).mean(axis=0) for p in range(5)], 0.2, atol=0.1)
    alike = np.flatnonzero(y == 1)
    together = (several[:, alike[:1]] == several[:, alike[1:]]).mean(axis=0)
    np.testing.assert_allclose(together, (len(alike) / 5 - 1) / (len(alike) - 1), atol=0.1)


def test_cross_fitting_hides_an_examples_own_target():
    n = 60
    x, y = np.arange(n), RNG.normal(size=n).astype(np.float32)  # every category once
    encoder = pp.target_encoder()
    close(encoder.transform(encoder.fit(x, y), x), y, rtol=1e-5)
    encoded, _ = encoder.fit_transform(jax.random.key(0), x, y)
    assert len(np.unique(encoded)) == 5  # the means of the others
    assert np.std(encoded) < 0.2 * np.std(y)


def test_integers_known_beforehand_run_compiled():
    x, y = RNG.integers(0, 7, (50, 2)), RNG.normal(size=50).astype(np.float32)
    encoder, found = pp.target_encoder(categories=9), pp.target_encoder()
    state = jax.jit(encoder.fit)(x, y)
    encoded = encoder.transform(state, x)
    close(encoded, found.transform(found.fit(x, y), x), rtol=1e-4, atol=1e-6)
    close(jax.vmap(encoder.transform, (None, 0))(state, x), encoded)
    for unseen in (8, -1, 99):
        close(encoder.transform(state, np.full((50, 2), unseen)), np.full((50, 2), y.mean()), atol=1e-6)
    several = jax.vmap(lambda smooth: pp.target_encoder(smooth, categories=9).fit(x, y).encodings)
    close(several(jnp.array([0.5, 3.0]))[1], pp.target_encoder(3.0, categories=9).fit(x, y).encodings)


def test_cross_fitting_runs_compiled():
    x, y = RNG.integers(0, 7, 60), RNG.normal(size=60).astype(np.float32)
    encoder, key = pp.target_encoder(2.0, categories=9), jax.random.key(3)
    encoded, state = jax.jit(encoder.fit_transform)(key, x, y)
    close(state, encoder.fit(x, y), rtol=1e-5, atol=1e-6)
    part = np.array(folds(key, y, 5))
    for i in range(60):
        others = part != part[i]
        same = others & (x == x[i])
        expected = (y[same].sum() + 2 * y[others].mean()) / (same.sum() + 2)
        close(encoded[i], expected, rtol=1e-4, atol=1e-6)


def test_columns_of_classes_go_feature_by_feature():
    x, labels = RNG.integers(0, 7, (50, 2)), RNG.integers(0, 4, 50)
    encoder = pp.target_encoder(0.0, categories=7, classes=4)
    encoded = encoder.transform(encoder.fit(x, labels), x)
    assert encoded.shape == (50, 8)
    for feature in range(2):
        for label in range(4):
            share = [(labels[x[:, feature] == c] == label).mean() for c in x[:, feature]]
            close(encoded[:, 4 * feature + label], share, rtol=1e-4, atol=1e-6)


def test_equal_targets_are_the_mean_and_large_ones_keep_their_differences():
    x = np.array(["a", "b", "b", "c"])
    for smooth in ("auto", 0.0, 5.0):
        encoder = pp.target_encoder(smooth)
        close(encoder.transform(encoder.fit(x, np.full(4, 0.1)), x), np.full(4, 0.1), rtol=1e-7)
    y = (1e6 + np.array([0.0, 1, 2, 3])).astype(np.float32)
    encoder = pp.target_encoder(0.0)
    assert encoder.transform(encoder.fit(x, y), x).tolist() == [1e6, 1e6 + 1.5, 1e6 + 1.5, 1e6 + 3]


def test_none_and_nan_are_categories_of_their_own():
    y = np.array([1.0, 2.0, 3.0, 4.0])
    encoder = pp.target_encoder(0.0)
    x = np.array([None, math.nan, "nan", np.float64("nan")], object)
    assert encoder.transform(encoder.fit(x, y), x).tolist() == [1, 3, 3, 3]
    x = np.array([1.5, math.nan, 1.5, -math.nan])
    state = encoder.fit(x, y)
    assert encoder.transform(state, x).tolist() == [2, 3, 2, 3]
    assert encoder.transform(state, [1.5, math.nan, None]).tolist() == [2, 3, 2.5]
    same = jax.jit(lambda state: state)(state)  # the vocabulary travels along
    assert encoder.transform(same, x).tolist() == [2, 3, 2, 3]


def test_target_encoding_refuses():
    x, y = np.array([0, 1, 1]), np.array([1.0, 2.0, 3.0])
    encoder, known = pp.target_encoder(), pp.target_encoder(categories=2)
    key = jax.random.key(0)
    with pytest.raises(TypeError, match="give categories="):
        jax.jit(encoder.fit)(x, y)
    with pytest.raises(ValueError, match="one target for each of 3 examples"):
        encoder.fit(x, y[:2])
    with pytest.raises(ValueError, match="y must be finite"):
        encoder.fit(x, y * np.nan)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 2\)"):
        pp.target_encoder(classes=2).fit(x, np.array([0, 1, 2]))
    with pytest.raises(ValueError, match=r"in \[0, 2\), got some from 0 to 2"):
        known.fit(x * 2, y)
    with pytest.raises(TypeError, match="must hold integers"):
        known.fit(x * 0.5, y)
    with pytest.raises(ValueError, match="cv must be at most the number of examples, 3; got 4"):
        encoder.fit_transform(key, x, y, cv=4)
    with pytest.raises(ValueError, match="cv must be at least 2"):
        encoder.fit_transform(key, x, y, cv=1)
    with pytest.raises(TypeError, match="key must be a random key"):
        encoder.fit_transform(0, x, y)
    with pytest.raises(ValueError, match="the state is of 1 features, got 2"):
        encoder.transform(encoder.fit(x[:, None], y), np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"x must be of shape \(n,\) or"):
        encoder.fit(np.ones((3, 1, 1)), y)
    with pytest.raises(ValueError, match="no examples"):
        encoder.fit(x[:0], y[:0])


def test_every_public_function_has_an_example():
    for name, thing in vars(jd.preprocessing).items():
        if inspect.isfunction(thing) and not name.startswith("_"):
            assert ">>>" in inspect.getdoc(thing), name
