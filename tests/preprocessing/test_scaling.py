"""Scalers against scikit-learn, in any batches."""

import math

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.preprocessing as sk
from helpers.tables import SKEWED, close

from jaxdeep import preprocessing as pp
from jaxdeep._compat import enable_x64
from jaxdeep.preprocessing.features import check_features, kept_shape, reduced_axes

RNG = np.random.default_rng(0)


def joined(scaler, parts):
    """The state of all parts, which are stacked."""

    def merge(state, part):
        return scaler.merge(state, part), None

    first, rest = jax.tree.map(lambda part: part[0], parts), jax.tree.map(lambda part: part[1:], parts)
    return jax.lax.scan(merge, first, rest)[0]


@pytest.mark.heavy
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


@pytest.mark.heavy
def test_a_small_variance_on_a_large_mean_is_kept_in_float32():
    x = (1e4 + RNG.normal(size=(20_000, 2))).astype(np.float32)
    scaler = pp.standard_scaler()
    state = scaler.init(x[:1])
    for batch in np.split(x, 40):
        state = scaler.update(state, batch)
    close(state.variance, x.astype(float).var(axis=0), rtol=1e-4)
    close(scaler.fit(x).variance, x.astype(float).var(axis=0), rtol=1e-5)
    close(scaler.fit(x).mean, x.astype(float).mean(axis=0), rtol=1e-7)


@pytest.mark.heavy
def test_a_constant_feature_is_known_in_float32_whatever_the_batches():
    x = np.full((999, 3), [0.1, 1e7 / 3, -1e-20], np.float32)
    scaler = pp.standard_scaler()
    state = scaler.init(x)
    for batch in (x[:1], x[1:500], x[500:]):
        state = scaler.update(state, batch)
    for s in (state, scaler.fit(x)):
        assert (s.scale == 1).all()
        assert (scaler.transform(s, x) == 0).all()


@pytest.mark.heavy
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
        close(scaler.transform(state, x[0]), y[0], rtol=1e-6)  # another shape rounds otherwise
        close(jax.vmap(scaler.transform, in_axes=(None, 0))(state, x), y, rtol=1e-6)


SCALERS = {"standard": pp.standard_scaler(), "min-max": pp.min_max_scaler()}


scalers = pytest.mark.parametrize("scaler", SCALERS.values(), ids=SCALERS)


@pytest.mark.heavy
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


@pytest.mark.heavy
@scalers
@hypothesis.given(hnp.arrays(float, (3, 4, 2), elements=st.floats(-1e3, 1e3)))
@hypothesis.example(np.pad([[[3.2262e-215]]], ((0, 2), (0, 3), (0, 1))))
def test_merging_is_associative_and_commutes(scaler, x):
    with enable_x64(True):
        a, b, c = (scaler.fit(part) for part in x)
        left = _in_one_unit(scaler.merge(scaler.merge(a, b), c))
        for other in (scaler.merge(a, scaler.merge(b, c)), scaler.merge(c, scaler.merge(b, a))):
            close(left, _in_one_unit(other), rtol=1e-9, atol=1e-9)
        for alone in (scaler.merge(scaler.init(x[0]), a), scaler.merge(a, scaler.init(x[0]))):
            close(_in_one_unit(alone), _in_one_unit(a), rtol=1e-12)


def _in_one_unit(state):
    """Moments whose squares are comparable: each may be in units of its own where numbers are tiny."""
    if not isinstance(state, pp.Moments):
        return state
    return state._replace(m2=state.m2 * state.unit**2, unit=1.0)


@pytest.mark.heavy
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


@pytest.mark.heavy
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


@pytest.mark.heavy
def test_weights_count_rows_and_padding_does_not(x64):
    x, weights = SKEWED[:50], RNG.integers(0, 3, 50)
    repeated = np.repeat(x, weights, axis=0)
    padded = np.where(weights[:, None] == 0, np.nan, x)
    for rows in (x, padded):
        scaler = pp.standard_scaler(ignore_nan=False)
        close(scaler.fit(rows, weights), scaler.fit(repeated), rtol=1e-9)
        ranges = pp.min_max_scaler(ignore_nan=False)
        close(ranges.fit(rows, weights), ranges.fit(repeated))


@pytest.mark.heavy
def test_a_nan_that_counts_makes_its_feature_nan():
    x = np.array([[1.0, 1.0], [np.nan, 2.0]], np.float32)
    for scaler in (pp.standard_scaler(ignore_nan=False), pp.min_max_scaler(ignore_nan=False)):
        y = scaler.transform(scaler.fit(x), x)
        assert np.isnan(y[:, 0]).all()
        assert np.isfinite(y[:, 1]).all()


@pytest.mark.few(1)
@scalers
def test_nothing_seen_changes_nothing(scaler):
    x = np.array([[2.0], [np.nan]], np.float32)
    for state in (scaler.init(x), scaler.fit(x[1:])):
        close(scaler.transform(state, x), x)


@pytest.mark.few(4)
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


@scalers
def test_a_state_of_one_feature_is_of_no_other(scaler):
    one = np.arange(4.0, dtype=np.float32)
    several = np.ones((4, 3), np.float32)
    for state in (scaler.fit(one[:, None]), scaler.fit(one)):
        for call in (scaler.transform, scaler.inverse_transform):
            with pytest.raises(ValueError, match=r"the state is of features \((1,)?\), got .*\(4, 3\)"):
                call(state, several)
        np.testing.assert_array_equal(
            scaler.transform(state, one[:, None])[:, 0], scaler.transform(scaler.fit(one), one)
        )
    assert scaler.transform(scaler.fit(one), 2.0).shape == ()
    assert scaler.transform(scaler.fit(one[:, None]), np.ones(1)).shape == (1,)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple),
    data=st.data(),
)
def test_axes_that_are_kept_must_be_those_of_the_state(shape, data):
    """What was fitted, one example of it and more examples are taken; another kept axis is refused."""
    axes = st.sets(st.integers(-len(shape), len(shape) - 1), min_size=1, max_size=len(shape))
    axis = tuple(data.draw(axes.filter(lambda a: len({i % len(shape) for i in a}) == len(a))))
    over = reduced_axes(axis, len(shape))
    state = kept_shape(shape, over)
    check_features(state, shape, axis, "x")
    longer = tuple(n + 5 if i in over else n for i, n in enumerate(shape))
    check_features(state, longer, axis, "x")
    check_features(state, longer[len(shape) - len(state) :], axis, "x")
    kept = [i for i in range(len(shape)) if i not in over]
    if kept:
        odd = data.draw(st.sampled_from(kept))
        with pytest.raises(ValueError, match="the state is of features"):
            check_features(state, (*shape[:odd], shape[odd] + 1, *shape[odd + 1 :]), axis, "x")


# --- numbers that float32 cannot hold, or whose squares it cannot ---------------------------------

SECONDS = 1.7e9 + np.arange(100.0)[:, None]


def standardised(x):
    """In float64, whatever the size."""
    off = np.asarray(x, np.float64) - np.mean(np.asarray(x, np.float64), 0)
    largest = np.abs(off).max(0)
    return off / (largest * np.sqrt(np.mean((off / largest) ** 2, 0)))


def in_unit(x):
    x = np.asarray(x, np.float64)
    return (x - x.min(0)) / (x.max(0) - x.min(0))


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32, np.uint32])
@pytest.mark.parametrize("traced", [False, True])
def test_seconds_keep_their_differences(dtype, traced):
    x = SECONDS.astype(dtype)
    if traced:
        x = jnp.asarray(x.astype(np.int32))
    for scaler, expected in ((pp.standard_scaler(), standardised), (pp.min_max_scaler(), in_unit)):

        def both(x, scaler=scaler):
            return scaler.transform(scaler.fit(x), x)

        y = jax.jit(both)(x) if traced else both(x)
        assert y.dtype == jnp.float32
        np.testing.assert_allclose(y, expected(x), atol=1e-6)


@pytest.mark.heavy
def test_seconds_come_batch_by_batch_and_from_several_states():
    x = 1.7e9 + np.random.default_rng(0).integers(0, 1000, (60, 2)).astype(float)
    for scaler, expected in ((pp.standard_scaler(), standardised), (pp.min_max_scaler(), in_unit)):
        states = [scaler.init(x), scaler.init(x)]
        for i in range(0, 60, 7):
            states[i % 2] = scaler.update(states[i % 2], x[i : i + 7])
        state = scaler.merge(*states)
        np.testing.assert_allclose(scaler.transform(state, x), expected(x), atol=1e-6)


@pytest.mark.heavy
@pytest.mark.parametrize("size", [1e20, 1e-20, 1e30, 1e-30, 1e37])
def test_features_whose_squares_leave_float32(size):
    x = (np.random.default_rng(0).normal(size=(50, 3)) * [1, size, 1] + [0, size, 5]).astype(np.float32)
    scaler = pp.standard_scaler()
    state = scaler.fit(x)
    np.testing.assert_allclose(scaler.transform(state, x), standardised(x), atol=2e-6)
    np.testing.assert_allclose(state.scale, np.std(x.astype(float), 0), rtol=1e-6)
    merged = scaler.merge(scaler.fit(x[:20]), scaler.fit(x[20:]))
    np.testing.assert_allclose(scaler.transform(merged, x), standardised(x), atol=2e-6)
    low_to_high = pp.min_max_scaler()
    np.testing.assert_allclose(low_to_high.transform(low_to_high.fit(x), x), in_unit(x), atol=2e-6)


def test_the_whole_range_of_float32():
    x = np.array([[3e38], [-3e38], [1e38]], np.float32)
    for scaler, expected in ((pp.standard_scaler(), standardised), (pp.min_max_scaler(), in_unit)):
        state = scaler.fit(x)
        y = scaler.transform(state, x)
        np.testing.assert_allclose(y, expected(x), atol=1e-6)
        np.testing.assert_allclose(scaler.inverse_transform(state, y), x, rtol=1e-5)


@pytest.mark.heavy
def test_equal_values_are_constant_at_any_size():
    for value in (1e9 + 1, 0.1, 1e-20, 1e20):
        for x in (np.full((1000, 1), value), np.full((1000, 1), value, np.float32)):
            scaler = pp.standard_scaler()
            state = scaler.merge(scaler.fit(x[:300]), scaler.fit(x[300:]))
            assert bool(state.constant.all())
            np.testing.assert_allclose(scaler.transform(state, x), 0, atol=abs(value) * 1e-7)


def test_a_sum_of_many_rows_does_not_stop_growing():
    x = np.full((2**19 + 3, 1), 0.1, np.float32)
    x[::2] = 0.3
    state = pp.standard_scaler().fit(x)
    np.testing.assert_allclose(state.mean, x.mean(dtype=float), rtol=2e-7)
    np.testing.assert_allclose(state.variance, x.var(dtype=float), rtol=1e-6)


def test_numbers_beyond_float32_and_weights_below_zero_are_refused():
    scaler = pp.standard_scaler()
    with pytest.raises(ValueError, match=r"x holds 1e\+50, which float32 cannot hold"):
        scaler.fit(np.array([[1.0], [1e50]]))
    with pytest.raises(ValueError, match="weights must be ≥ 0, got some of -1"):
        scaler.fit(np.ones((2, 1)), [1.0, -1.0])


@pytest.mark.heavy
def test_what_numpy_takes_comes_in_and_nothing_by_half():
    torch, pd = pytest.importorskip("torch"), pytest.importorskip("pandas")
    x = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    scaler = pp.standard_scaler()
    expected = scaler.transform(scaler.fit(x), x)
    others = [torch.tensor(x), pd.DataFrame(x), x.tolist(), np.ma.masked_greater(x, 9)]
    for other in others:
        np.testing.assert_allclose(scaler.transform(scaler.fit(other), other), expected, rtol=1e-5)
    for bad, message in (
        (np.ma.masked_greater(x, 0), "masked"),
        (x + 1j, "real numbers"),
        (jnp.asarray(x) + 1j, "real numbers"),
        (None, "x must be an array"),
    ):
        for transform in (scaler, pp.min_max_scaler(), pp.power_transform()):
            with pytest.raises(TypeError, match=message):
                transform.fit(bad)
            with pytest.raises(TypeError, match=message):
                transform.transform(transform.fit(x), bad)


@pytest.mark.heavy
def test_a_row_at_a_time_is_counted_beyond_what_float32_counts():
    scaler, n = pp.standard_scaler(), 2**24
    half = n // 2  # of 0 and of 2 each, as if they had been seen
    begun = pp.Moments(jnp.array([1.0 * n]), jnp.array([1.0]), jnp.array([1.0 * n]))

    def add(state, x):
        return scaler.update(state, x), None

    begun = scaler.update(begun, jnp.zeros((0, 1)))  # a state of earlier versions has fewer leaves
    rows = jnp.full((3000, 1, 1), 5.0)
    state, _ = jax.jit(lambda state: jax.lax.scan(add, state, rows))(begun)
    both = scaler.merge(state, state)
    exact_n = [n + 3000, 2 * (n + 3000)]
    mean = (n + 5 * 3000) / (n + 3000)
    variance = (n * (1 - mean) ** 2 + n + 3000 * (5 - mean) ** 2) / (n + 3000)
    assert half * 2 == n
    for found, count in zip((state, both), exact_n):
        assert int(found.n[0]) + int(found.n_rest[0]) == count
        total = float(found.mean[0]) + float(found.mean_rest[0])
        np.testing.assert_allclose(total, mean, rtol=1e-8)
        np.testing.assert_allclose(found.variance[0], variance, rtol=3e-7)


@pytest.mark.few(1)
@pytest.mark.parametrize("scaler", [pp.standard_scaler(), pp.min_max_scaler()])
def test_the_way_back_is_rounded_once(scaler):
    x = (1.7e9 + np.arange(100.0))[:, None]
    state = scaler.fit(x)
    back = scaler.inverse_transform(state, scaler.transform(state, x))
    np.testing.assert_array_equal(back, x.astype(np.float32))
    with enable_x64(True):
        state = scaler.fit(x)
        back = scaler.inverse_transform(state, scaler.transform(state, x))
        np.testing.assert_allclose(back, x, rtol=1e-15)


@pytest.mark.parametrize("weight", [np.nan, np.inf, 1e30, 1e38, 1e-50, 1e-30])
def test_weights_out_of_range_are_refused(weight):
    x = np.array([[1.0], [2.0], [6.0]], np.float32)
    for scaler in (pp.standard_scaler(), pp.min_max_scaler()):
        with pytest.raises(ValueError, match=r"weights must be (≥ 0|at most)"):
            scaler.fit(x, np.full(3, weight))
    beside = pp.standard_scaler().fit(x, np.array([1.0, 1.0, 1e-50]))
    np.testing.assert_allclose(beside.mean, 1.5, rtol=1e-6)


@pytest.mark.parametrize("weight", [1e14, 1e-14])
def test_the_scale_of_weights_makes_no_difference(weight):
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32) * [1e9, 1e-9]
    of = pp.standard_scaler().fit
    even, scaled = of(x.astype(np.float32)), of(x.astype(np.float32), np.full(50, weight))
    np.testing.assert_allclose(scaled.scale, even.scale, rtol=1e-5)
    np.testing.assert_allclose(scaled.mean, even.mean, rtol=1e-4)


@pytest.mark.parametrize("make", [pp.standard_scaler, pp.min_max_scaler])
def test_features_that_float32_makes_0_are_refused(make):
    scaler, x = make(), np.array([[1e-50, 1.0], [3e-50, 2.0]])
    with pytest.raises(ValueError, match=r"x holds 1e-50, which float32 makes 0 .*use larger units"):
        scaler.fit(x)
    scaler.update(scaler.init(x), x)  # a batch: the feature may be larger in others
    with pytest.raises(ValueError, match="x holds 1e-50"):
        scaler.update(scaler.init(x[:, :1]), x[:, :1])
    among_larger = np.array([[1e-50], [1.0]])
    expected = [[-1], [1]] if make is pp.standard_scaler else [[0], [1]]
    np.testing.assert_allclose(scaler.transform(scaler.fit(among_larger), among_larger), expected)
    constant = np.full((2, 1), 1e-50)
    assert np.asarray(scaler.transform(scaler.fit(constant), constant)).tolist() == [[0], [0]]
    with enable_x64(True):
        np.testing.assert_allclose(scaler.transform(scaler.fit(x), x)[:, :1], expected)


@pytest.mark.parametrize("make", [pp.standard_scaler, pp.min_max_scaler])
def test_infinite_numbers_and_none_are_not_fitted(make):
    for infinite in (np.array([1.0, np.inf, 2.0]), jnp.array([[1.0], [-jnp.inf]])):
        with pytest.raises(ValueError, match="x holds infinite numbers"):
            make().fit(infinite)
    with pytest.raises(ValueError, match=r"x is empty, got shape \(0, 3\)"):
        make().fit(np.zeros((0, 3)))
    x, weights = np.array([[1.0], [np.inf], [3.0]]), np.array([1.0, 0.0, 1.0])
    state = make().fit(x, weights)
    np.testing.assert_allclose(state[0], make().fit(x[[0, 2]])[0])


@pytest.mark.heavy
@pytest.mark.few(2)
@scalers
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("base", [1_700_000_000 * 10**9, -(2**60), 2**62, 2**53])
def test_whole_numbers_of_64_bits_keep_their_differences(scaler, base, wide):
    x = (base + np.arange(100))[:, None]
    small = np.arange(100.0)
    expected = (small - small.mean()) / small.std() if scaler is SCALERS["standard"] else small / 99
    with enable_x64(wide):
        state = scaler.fit(x)
        close(scaler.transform(state, x)[:, 0], expected, rtol=1e-5, atol=1e-6)
        merged = scaler.merge(scaler.fit(x[:30]), scaler.fit(x[30:]))
        close(scaler.transform(merged, x)[:, 0], expected, rtol=1e-5, atol=1e-6)
        state = scaler.init(x[:1])
        for batch in np.split(x, 10):
            state = scaler.update(state, batch)
        close(scaler.transform(state, x)[:, 0], expected, rtol=1e-5, atol=1e-6)
        if wide:
            close(
                scaler.transform(scaler.fit(jnp.asarray(x)), jnp.asarray(x))[:, 0], expected, atol=1e-9
            )


def test_the_whole_of_uint64_is_scaled():
    x, scaler = np.array([[0], [2**63], [2**64 - 1]], np.uint64), pp.min_max_scaler()
    assert scaler.transform(scaler.fit(x), x).tolist() == [[0], [0.5], [1]]


@scalers
def test_features_that_compiled_code_takes_for_zero_are_refused(scaler):
    for x in (jnp.array([[1e-40], [3e-40]]), np.array([[1e-40], [3e-40]], np.float32)):
        with pytest.raises(ValueError, match=r"x holds 9\.99995e-41, and features that vary by less"):
            scaler.fit(x)
    scaler.fit(jnp.array([[1e-40], [1.0]]))


@scalers
def test_states_of_other_features_are_not_merged(scaler):
    two, one = scaler.fit(np.array([[0.0, 10.0], [2.0, 12.0]])), scaler.fit(np.array([[100.0], [102.0]]))
    none = scaler.fit(np.array([1.0, 2.0]))
    for a, b in ((two, one), (one, two), (two, none), (one, none), (none, one)):
        with pytest.raises(
            ValueError, match=r"the states must be of the same features, got those of \("
        ):
            scaler.merge(a, b)


def test_whole_numbers_beside_missing_ones_are_refused_where_float64_loses_them():
    pd = pytest.importorskip("pandas")
    ids = [2**60, 2**60 + 1, 2**60 + 2]
    scaler = pp.standard_scaler()
    for x in (
        pd.DataFrame({"a": [*ids, None]}, dtype="Int64"),
        pd.DataFrame({"a": pd.array([*ids, None], dtype="Int64"), "b": 1}),
        pd.DataFrame({"a": ids, "b": 0.5}),
        [[one] for one in [*ids, math.nan]],
    ):
        with pytest.raises(
            (ValueError, TypeError), match=r"x holds numbers from 115.* float64|x must be"
        ):
            scaler.fit(x)
    whole = pd.DataFrame({"a": ids}, dtype="Int64")
    close(scaler.transform(scaler.fit(whole), whole)[:, 0], np.array([-1, 0, 1]) * 1.5**0.5, rtol=1e-6)
    few = pd.DataFrame({"a": [1, 2, 3, None]}, dtype="Int64")
    close(scaler.transform(scaler.fit(few), few)[:3, 0], np.array([-1, 0, 1]) * 1.5**0.5, rtol=1e-6)
