"""Target encoding against scikit-learn."""

import functools
import inspect
import math

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.preprocessing as sk
from helpers.properties import of_width, over
from helpers.tables import close
from sklearn.metrics import roc_auc_score

import jaxdeep as jd
from jaxdeep import preprocessing as pp
from jaxdeep.preprocessing.folds import folds

RNG = np.random.default_rng(0)

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


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("smooth", ["auto", 0.7])
def test_target_encoding_is_scikit_learns(x64, kind, smooth):
    x, targets = table()
    y = targets[kind]
    ours, theirs = pp.target_encoder(smooth, classes=KINDS[kind]), sk.TargetEncoder(smooth=smooth)
    state = ours.fit(x, y)
    x[:, 0] = [value if isinstance(value, str) else None for value in x[:, 0]]  # two categories for them
    theirs = theirs.fit(x, y)
    new = x.copy()
    new[:5, 1] = 1000  # unseen
    close(ours.transform(state, new), theirs.transform(new), rtol=1e-9, atol=1e-12)

    part = np.array(folds(jax.random.key(0), jnp.asarray(y), 4))
    encoded, again = ours.fit_transform(jax.random.key(0), x, y, cv=part)
    close(again.encodings, state.encodings, atol=1e-12)
    assert again.vocabulary == state.vocabulary
    same, _ = ours.fit_transform(jax.random.key(0), x, y, cv=4, stratify=True)
    close(same, encoded)
    for fold in range(4):
        theirs = sk.TargetEncoder(smooth=smooth).fit(x[part != fold], y[part != fold])
        close(encoded[part == fold], theirs.transform(x[part == fold]), rtol=1e-9, atol=1e-12)


@pytest.mark.heavy
def test_parts_are_equal_random_and_alike_in_their_targets():
    y = np.random.default_rng(1).integers(0, 3, 60).astype(np.float32)
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


@pytest.mark.heavy
def test_cross_fitting_hides_an_examples_own_target():
    n = 60
    x, y = np.arange(n), RNG.normal(size=n).astype(np.float32)  # every category once
    encoder = pp.target_encoder()
    close(encoder.transform(encoder.fit(x, y), x), y, rtol=1e-5)
    encoded, _ = encoder.fit_transform(jax.random.key(0), x, y)
    assert len(np.unique(encoded)) == 5  # the means of the others
    assert np.std(encoded) < 0.2 * np.std(y)


@pytest.mark.heavy
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


@pytest.mark.heavy
def test_cross_fitting_runs_compiled():
    x, y = RNG.integers(0, 7, 60), RNG.normal(size=60).astype(np.float32)
    encoder, key = pp.target_encoder(2.0, categories=9), jax.random.key(3)
    encoded, state = jax.jit(encoder.fit_transform)(key, x, y)
    close(state, encoder.fit(x, y), rtol=1e-5, atol=1e-6)
    part = np.array(folds(key, 60, 5))
    for i in range(60):
        others = part != part[i]
        same = others & (x == x[i])
        expected = (y[same].sum() + 2 * y[others].mean()) / (same.sum() + 2)
        close(encoded[i], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.heavy
def test_columns_of_classes_go_feature_by_feature():
    x, labels = RNG.integers(0, 7, (50, 2)), RNG.integers(0, 4, 50)
    encoder = pp.target_encoder(0.0, categories=7, classes=4)
    encoded = encoder.transform(encoder.fit(x, labels), x)
    assert encoded.shape == (50, 8)
    for feature in range(2):
        for label in range(4):
            share = [(labels[x[:, feature] == c] == label).mean() for c in x[:, feature]]
            close(encoded[:, 4 * feature + label], share, rtol=1e-4, atol=1e-6)


@pytest.mark.heavy
def test_equal_targets_are_the_mean_and_large_ones_keep_their_differences():
    x = np.array(["a", "b", "b", "c"])
    for smooth in ("auto", 0.0, 5.0):
        encoder = pp.target_encoder(smooth)
        close(encoder.transform(encoder.fit(x, np.full(4, 0.1)), x), np.full(4, 0.1), rtol=1e-7)
    y = (1e6 + np.array([0.0, 1, 2, 3])).astype(np.float32)
    encoder = pp.target_encoder(0.0)
    assert encoder.transform(encoder.fit(x, y), x).tolist() == [1e6, 1e6 + 1.5, 1e6 + 1.5, 1e6 + 3]


def test_what_is_missing_is_one_category():
    y = np.array([1.0, 2.0, 3.0, 6.0])
    encoder = pp.target_encoder(0.0)
    x = np.array([None, math.nan, "nan", np.float64("nan")], object)
    assert encoder.transform(encoder.fit(x, y), x).tolist() == [3, 3, 3, 3]
    y = np.array([1.0, 2.0, 3.0, 4.0])
    x = np.array([1.5, math.nan, 1.5, -math.nan])
    state = encoder.fit(x, y)
    assert encoder.transform(state, x).tolist() == [2, 3, 2, 3]
    assert encoder.transform(state, [1.5, math.nan, None, 2]).tolist() == [2, 3, 3, 2.5]
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


@functools.cache
def encoded(categories):
    encoder = pp.target_encoder(categories=categories)
    return encoder, jax.jit(lambda x, y: encoder.transform(encoder.fit(x, y), x))


@pytest.mark.few(1)
@pytest.mark.parametrize("categories", [256, 300])
@over(
    3,
    100,
    narrow=of_width(5, 255),
    y=st.lists(st.integers(-9, 9).map(float), min_size=5, max_size=5).map(np.array),
)
def test_narrow_codes_are_encoded_as_wide_ones(categories, narrow, y):
    encoder, compiled = encoded(categories)
    codes = narrow.astype(np.int32)
    expected = encoder.transform(encoder.fit(codes, y), codes)
    np.testing.assert_array_equal(encoder.transform(encoder.fit(narrow, y), narrow), expected)
    np.testing.assert_array_equal(compiled(narrow, y), compiled(codes, y))
    close(compiled(narrow, y), expected, rtol=1e-5, atol=1e-6)


def test_64_bit_codes_are_looked_at_before_they_are_cut():
    encoder = pp.target_encoder(categories=10)
    with pytest.raises(ValueError, match="from 0 to 4294967297"):
        encoder.fit(np.array([0, 2**32 + 1]), np.array([0.0, 1.0]))
    state = encoder.fit(np.array([0, 1]), np.array([0.0, 1.0]))
    unseen = encoder.transform(state, np.array([2**32 + 1, -(2**32), 5]))
    np.testing.assert_array_equal(unseen, [state.mean] * 3)


def test_large_targets_keep_their_differences():
    x, y = np.array(["a", "a", "b", "b"]), 1e9 + np.array([1.0, 1300.0, 6400.0, 12800.0])
    for smooth in (0.0, 1.0, "auto"):
        small, large = (pp.target_encoder(smooth).fit(x, targets) for targets in (y - 1e9, y))
        assert large.encodings.dtype == jnp.float32
        np.testing.assert_allclose(
            large.encodings, (small.encodings.astype(float) + 1e9).astype(np.float32), atol=64
        )
        small, large = (pp.target_encoder(smooth).fit(x, t) for t in ((y - 1e9), (y - 1e9) * 1e25))
        np.testing.assert_allclose(large.encodings / 1e25, small.encodings, rtol=1e-5)


def test_a_mask_over_categories_and_a_complex_lambda_are_refused():
    masked = np.ma.masked_greater([1, 2, 3], 2)
    for encoder in (pp.target_encoder(), pp.target_encoder(categories=4)):
        with pytest.raises(TypeError, match="x is a masked array with masked values"):
            encoder.fit(masked, np.ones(3))
    for function in (pp.box_cox, pp.yeo_johnson, pp.box_cox_llf):
        with pytest.raises(TypeError, match="lmbda must be an array of real numbers"):
            function(np.array([1.0, 2.0]), 1j)


@pytest.mark.parametrize("dtype", [np.uint64, np.int64, np.uint8, np.int8])
def test_codes_beyond_the_categories_were_never_seen_whatever_their_dtype(dtype):
    encoder = jd.preprocessing.target_encoder(categories=3, smooth=0.0)
    state = encoder.fit(np.array([0, 1, 2]), np.array([1.0, 2.0, 6.0]))
    info = np.iinfo(dtype)
    found = encoder.transform(state, np.array([info.max, info.min, 2, 3], dtype))
    of_least = 1.0 if info.min == 0 else 3.0
    np.testing.assert_allclose(found, [3.0, of_least, 6.0, 3.0])


def test_a_state_of_one_feature_is_of_no_other():
    x, y = np.array([0, 1, 1, 0]), np.array([1.0, 2.0, 3.0, 4.0])
    for encoder in (pp.target_encoder(1.0, categories=2), pp.target_encoder(1.0)):
        state = encoder.fit(x, y)
        with pytest.raises(ValueError, match=r"the state is of (one|1) feature"):
            encoder.transform(state, np.stack([x, x, x], axis=1))
        encoded = encoder.transform(state, x)
        np.testing.assert_array_equal(np.ravel(encoder.transform(state, x[:, None])), encoded)


@pytest.mark.parametrize(
    "x", [["a", np.ma.masked, "b"], [1, np.ma.masked, 2], [[1, 2], [1, np.ma.masked], [2, 2]]]
)
def test_masked_values_in_a_list_are_refused(x):
    encoder, y = pp.target_encoder(1.0), np.arange(3.0)
    with pytest.raises(TypeError, match="x is a list with masked values; fill them"):
        encoder.fit(x, y)
    state = encoder.fit(["a", "b", "b"], y)
    with pytest.raises(TypeError, match="masked values"):
        encoder.transform(state, x)
    with pytest.raises(TypeError, match="y is a list with masked values"):
        encoder.fit(["a", "b", "b"], [1.0, np.ma.masked, 2.0])


@pytest.mark.heavy
def test_flipping_a_label_never_changes_its_own_training_encoding():
    x = [RNG.integers(0, 12, 60), np.arange(60), RNG.choice(["a", "b", None], 60)]
    y, key = RNG.integers(0, 2, 60), jax.random.key(0)
    for encoder, columns in (
        (pp.target_encoder(), x),
        (pp.target_encoder(2.0), x[2:]),
        (pp.target_encoder(classes=2), x[2:]),
    ):
        for column in columns:
            before, _ = encoder.fit_transform(key, column, y)
            for row in (0, 17, 59):
                flipped = np.where(np.arange(60) == row, 1 - y, y)
                after, _ = encoder.fit_transform(key, column, flipped)
                np.testing.assert_array_equal(after[row], before[row])
                assert (np.asarray(after) != np.asarray(before)).any()


def test_random_parts_have_equal_sizes_and_each_example_is_in_each():
    several = np.array([folds(key, 23, 5) for key in jax.random.split(jax.random.key(0), 100)])
    assert all((np.sort(np.bincount(part)) == [4, 4, 5, 5, 5]).all() for part in several)
    np.testing.assert_allclose([(several == p).mean(axis=0) for p in range(5)], 0.2, atol=0.16)


def test_categories_seen_too_rarely_are_the_mean():
    x, y = np.array(["a", "b", "b", "c", "c", "c"]), np.array([100.0, 1, 3, 4, 5, 6])
    for smooth in ("auto", 0.0):
        all_of_them, common = (pp.target_encoder(smooth, min_count=n) for n in (1, 2))
        state = common.fit(x, y)
        encoded = common.transform(state, x)
        close(encoded[0], y.mean(), rtol=1e-6)
        close(encoded[1:], all_of_them.transform(all_of_them.fit(x, y), x)[1:], rtol=1e-6)


@pytest.mark.heavy
def test_many_parts_warn_and_parts_may_be_given():
    x, y, key = np.arange(30) % 3, RNG.normal(size=30), jax.random.key(0)
    encoder = pp.target_encoder(1.0)
    with pytest.warns(UserWarning, match="cv=11"):
        encoder.fit_transform(key, x, y, cv=11)
    part = np.arange(30) // 15
    encoded, _ = encoder.fit_transform(key, x, y, cv=7 * part)
    for fold in range(2):
        state = encoder.fit(x[part != fold], y[part != fold])
        close(encoded[part == fold], encoder.transform(state, x[part == fold]), rtol=1e-5, atol=1e-6)
    for wrong in (part[:-1], part * 1.0, np.zeros(30, int)):
        with pytest.raises(ValueError, match="cv must"):
            encoder.fit_transform(key, x, y, cv=wrong)


def test_names_of_columns():
    frame = {"city": ["a", "b"], "zone": [1, 2]}
    encoder, y = pp.target_encoder(1.0), np.array([0, 1])
    assert encoder.names(encoder.fit(frame, y)) == ("city", "zone")
    encoder = pp.target_encoder(1.0, classes=2)
    state = encoder.fit(np.array([[1, 2], [3, 4]]), y)
    assert encoder.names(state) == ("x0_0", "x0_1", "x1_0", "x1_1")
    assert encoder.names(state, ["a", "b"]) == ("a_0", "a_1", "b_0", "b_1")


@pytest.mark.heavy
def test_a_network_learns_nothing_from_random_labels():
    """Categories of about two rows: by their own targets a network would know the training labels."""
    n = 2000
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 1000, (2, n)), rng.integers(0, 2, (2, n))
    encoder = pp.target_encoder(categories=1000)
    crossed, state = encoder.fit_transform(jax.random.key(0), x[0], y[0].astype(float))
    naive = encoder.transform(state, x[0])

    def areas(encoded):
        """Of a network trained on the first half, the areas under its curve there and on the other."""
        model = jd.nn.serial(jd.nn.batch_norm(), jd.nn.dense(16, activation=jax.nn.relu), jd.nn.dense(1))
        result = jd.fit(
            model,
            (encoded[:, None], y[0]),
            loss=jd.losses.sigmoid_cross_entropy,
            optimizer=jd.optimizers.adam(0.01),
            epochs=20,
            batch_size=100,
            key=jax.random.key(1),
            progress=False,
        )
        later = encoder.transform(state, x[1])
        return [
            roc_auc_score(labels, result.predict(inputs[:, None]).ravel())
            for labels, inputs in ((y[0], encoded), (y[1], later))
        ]

    own, other = areas(crossed)
    assert abs(own - 0.5) < 0.05
    assert abs(other - 0.5) < 0.05
    assert areas(naive)[0] > 0.75  # what cross-fitting is for


@pytest.mark.few(1)
@pytest.mark.parametrize("rows", [10**5, 2**20])
def test_effects_of_rare_targets_do_not_drift_with_the_rows(rows):
    codes, y = np.zeros(rows, np.int32), np.zeros(rows, np.float32)
    codes[:3], y[-1000:] = 1, 1
    state = jd.preprocessing.target_encoder(categories=2, smooth=0.0).fit(codes, y)
    np.testing.assert_allclose(state.encodings, [1000 / (rows - 3), 0], rtol=2e-7, atol=1e-7)


@pytest.mark.heavy
def test_targets_that_float32_cannot_tell_are_kept_and_not_encoded():
    x, key = np.repeat([0, 1], 50), jax.random.key(0)
    small = np.arange(100)
    for base, kind in ((1.7e9, float), (1_700_000_000, np.int32), (2**45, int)):
        y = (base + small).astype(kind)
        for encoder in (pp.target_encoder(1.0), pp.target_encoder(1.0, categories=2)):
            for targets in (y, jnp.asarray(y)) if kind is np.int32 else (y,):
                state = encoder.fit(x, targets)
                found = np.asarray(state.encodings, float) + np.asarray(state.rest, float) - base
                # two float32 have steps of an eighth at 2⁴⁵
                close(found, encoder.fit(x, small).encodings, atol=2**-3)
                with pytest.raises(
                    ValueError, match="the state is of targets whose differences float32"
                ):
                    encoder.transform(state, x)
                with pytest.raises(ValueError, match=r"y holds numbers from .* float32 cannot tell"):
                    encoder.fit_transform(key, x, targets)
    with pytest.raises(ValueError, match=f"y holds numbers from {2**60} to"):
        pp.target_encoder().fit(x, 2**60 + small)
    # what it tells is encoded, even if categories turn out to be alike
    alike = 1e6 + np.tile(np.arange(50.0), 2) * 100
    encoder = pp.target_encoder()
    assert encoder.fit(x, alike).rest is None
    encoder.fit_transform(key, x, alike)
